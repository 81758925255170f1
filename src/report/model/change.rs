//! What changed at a hit: a value that was watched, and what kdbg itself changed because the recipe wanted it.

use serde::{Deserialize, Serialize};

/// A watched value that was written to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// What is watched, as the recipe has it.
    pub expression: String,
    /// The value before.
    pub old: String,
    /// The value now.
    pub new: String,
}

impl Changed {
    /// The value before and now, a small number without the character that it is, too.
    pub fn values(&self) -> [&str; 2] {
        [&self.old, &self.new].map(|value| value.split_once(" '").map_or(value.as_str(), |(number, _)| number))
    }
}

/// Something that the recipe had kdbg change in the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Altered {
    /// The expression that was assigned to, or `return of FUNCTION`.
    pub what: String,
    /// The value before; none for a forced return.
    pub before: Option<String>,
    /// The value that is there now.
    pub after: String,
}

impl std::fmt::Display for Altered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.before {
            Some(before) => write!(f, "`{}` from {before} to {}", self.what, self.after),
            None => write!(f, "`{}` forced to {}", self.what, self.after),
        }
    }
}
