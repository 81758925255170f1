//! What an image file says: the guest's user space as plain data.
//!
//! Pure. [`mod@super::resolve`] finds and reads the files; what the initramfs is made of them is the guest's room.

use serde::{Deserialize, Serialize};

/// `images/<name>.yaml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageSpec {
    /// The image's name; that of its file.
    pub name: String,
    /// What it is for, in one line.
    #[serde(default)]
    pub about: String,
    /// The script that becomes the guest's `/init`: a file beside the image's own.
    #[serde(default = "ImageSpec::default_init")]
    pub init: String,
    /// Static programs of the host that are copied in.
    #[serde(default = "ImageSpec::default_programs")]
    pub programs: Vec<String>,
}

impl ImageSpec {
    fn default_init() -> String {
        "init".into()
    }

    fn default_programs() -> Vec<String> {
        vec!["busybox".into()]
    }

    /// The first of the names in the image that is not a plain one, with the path of its key.
    pub fn odd_name(&self) -> Option<(String, &str)> {
        let named = [("name".to_owned(), self.name.as_str()), ("init".to_owned(), self.init.as_str())];
        let programs = self.programs.iter().enumerate().map(|(i, name)| (format!("programs[{i}]"), name.as_str()));
        named.into_iter().chain(programs).find(|(_, name)| !is_plain_name(name))
    }
}

/// Whether `name` can only be a file beside another: no folders, nothing hidden, nothing that looks like an option.
pub fn is_plain_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '+'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names() {
        for (name, plain) in
            [("base", true), ("a-b_c.d", true), ("", false), ("..", false), ("a/b", false), ("-x", false)]
        {
            assert_eq!(is_plain_name(name), plain, "{name}");
        }
    }
}
