//! Where the members of one kernel's structures are, and what its enumerators are called, as far as somebody wants them.
//!
//! Pure: who has the debug information fills it in. Knows no version of the kernel: a member that a kernel does not have is
//! not found.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a member holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A number without a sign, or a truth value.
    Unsigned,
    /// A number with a sign.
    Signed,
    /// An address.
    Pointer,
    /// One of the enumerators of the enumeration of this name; of one without a name, any number.
    Enum(String),
    /// A structure, union or array, as it is in memory.
    Bytes,
}

/// A member of a structure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Its first byte.
    pub offset: u64,
    /// How many bytes.
    pub size: u64,
    /// Of a bit field, the first bit after `offset` and how many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits: Option<(u64, u64)>,
    /// What it holds.
    pub kind: Kind,
}

/// Members that are wanted of a structure: their paths (`__sk_common.skc_state`, `tuplehash[0].tuple`). Members of
/// anonymous structures and unions are those of the structure around them.
pub type Wanted = (&'static str, &'static [&'static str]);

/// What one kernel has of the wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layouts {
    /// How large each structure is.
    pub sizes: BTreeMap<String, u64>,
    /// The members, by `structure.path`.
    pub fields: BTreeMap<String, Field>,
    /// The enumerators of each enumeration, in the order of their declaration.
    pub enums: BTreeMap<String, Vec<(i64, String)>>,
}

impl Layouts {
    /// How large a structure is.
    pub fn size(&self, structure: &str) -> Option<u64> {
        self.sizes.get(structure).copied()
    }

    /// A member of a structure.
    pub fn field(&self, structure: &str, path: &str) -> Option<&Field> {
        self.fields.get(&format!("{structure}.{path}"))
    }

    /// What an enumeration calls this value.
    pub fn enumerator(&self, name: &str, value: i64) -> Option<&str> {
        self.enumerators(name).find(|(other, _)| *other == value).map(|(_, name)| name)
    }

    /// The enumerators of an enumeration, in the order of their declaration.
    pub fn enumerators(&self, name: &str) -> impl Iterator<Item = (i64, &str)> {
        self.enums.get(name).into_iter().flatten().map(|(value, name)| (*value, name.as_str()))
    }
}
