//! What an image file says: the guest's user space as plain data.
//!
//! Pure. [`mod@super::resolve`] finds and reads the files; what the initramfs is made of them is the guest's room.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::types::SysctlValue;

/// `images/<name>.yaml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageSpec {
    /// The image's name; that of its file.
    pub name: String,
    /// What it is for, in one line.
    #[serde(default)]
    pub about: String,
    /// Other images: all that is in them is in this one too.
    #[serde(default)]
    pub include: Vec<String>,
    /// The script that becomes the guest's `/init`: a file beside the image's own.
    #[serde(default)]
    pub init: Option<String>,
    /// Programs of the host, with the libraries that they need.
    #[serde(default)]
    pub programs: Vec<String>,
    /// Libraries of the host that its programs load by name, or folders of such libraries.
    #[serde(default)]
    pub libraries: Vec<String>,
    /// Debian packages, with the libraries that they need. They are not installed on the host.
    #[serde(default)]
    pub packages: Vec<String>,
    /// Files beside the image's own, by their path in the guest.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// Symbolic links in the guest: their path, and where they lead.
    #[serde(default)]
    pub links: BTreeMap<String, String>,
    /// Users beside root.
    #[serde(default)]
    pub users: Vec<String>,
    /// What is written below `/proc/sys` at boot.
    #[serde(default)]
    pub sysctls: BTreeMap<String, SysctlValue>,
}

/// Whether `name` can only be a file beside another: no folders, nothing hidden, nothing that looks like an option.
pub fn is_plain_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '+'))
}

/// Whether `name` can be a Debian package, or one of a certain version: `nftables`, `nftables=1.0.6-2`.
pub(super) fn is_package(name: &str) -> bool {
    let (name, version) = name.split_once('=').unwrap_or((name, "1"));
    let is_lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    // A `-` at the end asks apt to take the package away.
    name.starts_with(is_lower)
        && !name.ends_with('-')
        && name.chars().all(|c| is_lower(c) || matches!(c, '+' | '-' | '.'))
        && version.starts_with(|c: char| c.is_ascii_digit())
        && version.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | ':' | '~'))
}

/// Whether `path` is a file's path in the guest: from the root on, and written in one way only.
pub(super) fn is_guest_path(path: &str) -> bool {
    let is_step = |step: &str| {
        !matches!(step, "" | "." | "..")
            && step.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '\\' | '\'' | '"'))
    };
    path.strip_prefix('/').is_some_and(|path| path.split('/').all(is_step))
}

/// Whether `name` can be a user.
pub(super) fn is_user(name: &str) -> bool {
    name != "root"
        && name.len() < 32
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-'))
}

/// Whether `key` names something below `/proc/sys`, with dots or slashes between its parts.
pub(super) fn is_sysctl(key: &str) -> bool {
    let is_part = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
    };
    key.split('/').all(is_part) && key.split('.').all(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(check: fn(&str) -> bool, cases: &[(&str, bool)]) {
        for (name, expected) in cases {
            assert_eq!(check(name), *expected, "{name}");
        }
    }

    #[test]
    fn names_that_are_taken() {
        holds(
            is_plain_name,
            &[("base", true), ("a-b_c.d", true), ("", false), ("..", false), ("a/b", false), ("-x", false)],
        );
        holds(
            is_package,
            &[
                ("libstdc++6", true),
                ("nftables=1.0.6-2+deb12u2", true),
                ("conntrack=1:1.4.7-1+b2", true),
                ("dash-", false),
                ("-o", false),
                ("./a.deb", false),
                ("a=", false),
                ("a=1 b", false),
                ("", false),
            ],
        );
        holds(
            is_guest_path,
            &[("/etc/a", true), ("etc/a", false), ("/", false), ("/a/../b", false), ("/a//b", false), ("/a b", false)],
        );
        holds(
            is_user,
            &[("tcpdump", true), ("_a-1", true), ("Root", false), ("root", false), ("a:b", false), ("", false)],
        );
        holds(
            is_sysctl,
            &[
                ("net.ipv4.ip_forward", true),
                ("net/ipv4/conf/eth0.1/rp_filter", true),
                ("../x", false),
                ("net..x", false),
                ("", false),
            ],
        );
    }
}
