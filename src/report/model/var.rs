//! A value in a report, or why there is none.

use serde::{Deserialize, Serialize};

/// A named value, or why it could not be had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Var {
    /// Name of the argument or local, or of the `show` entry.
    pub name: String,
    /// C type; none where the debugger does not tell.
    #[serde(rename = "type")]
    pub type_name: Option<String>,
    /// The value as GDB prints it; none when not available.
    pub value: Option<String>,
    /// Whether there is a value.
    pub available: bool,
    /// Why there is none.
    pub why: Option<Why>,
    /// What the compiler says of one that is optimized out, where it says something.
    #[serde(default)]
    pub lost: Option<Lost>,
}

/// Why a value could not be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// The compiler kept no trace of it at this place.
    #[serde(rename = "optimized out")]
    OptimizedOut,
    /// The program counter lies before every range in which the compiler says where it is.
    #[serde(rename = "not set yet")]
    NotSetYet,
    /// The expression or the memory could not be read.
    #[serde(rename = "unreadable")]
    Unreadable,
}

impl Why {
    /// The words used in the report.
    pub fn as_str(self) -> &'static str {
        match self {
            Why::OptimizedOut => "optimized out",
            Why::NotSetYet => "not set yet",
            Why::Unreadable => "unreadable",
        }
    }
}

/// What became of a variable that is optimized out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lost {
    /// It has no place anywhere in this copy of its function: what uses it was computed otherwise, or is gone.
    Nowhere,
    /// It has a place at other addresses of its function: here its register holds something else.
    Elsewhere,
    /// Its place here is a register that the functions called from here may change, or its value at the function's
    /// entry, which the caller does not tell.
    Clobbered,
}
