//! Version numbers, read out of the first lines that tools print about themselves.
//!
//! Pure: text in, numbers out.

use std::cmp::Ordering;
use std::fmt;

use serde::{Serialize, Serializer};

/// A dotted version. Compares number by number (`1.07` equals `1.7`, `3.8` equals `3.8.0`), shows as it was written.
#[derive(Debug, Clone)]
pub struct Version {
    text: String,
    numbers: Vec<u32>,
}

impl Version {
    /// Reads a version that `text` begins with: `7.2.22`, `v1.35.0`, `13.1-3`. None when there is no number.
    pub fn parse(text: &str) -> Option<Version> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let text = text[..end].trim_matches('.');
        let numbers = text.split('.').map(|number| number.parse().ok()).collect::<Option<Vec<u32>>>()?;
        Some(Version { text: text.to_owned(), numbers })
    }

    /// Finds the version in what a tool printed.
    ///
    /// What stands in parentheses is the packager's (`(GDB; openSUSE Leap 15.5)`) and counts only when there is nothing
    /// else (`This is perl 5, version 36 (v5.36.0)`).
    pub fn find_in(output: &str) -> Option<Version> {
        let line = output.lines().find(|line| !line.trim().is_empty())?;
        dotted(&outside_parentheses(line)).or_else(|| dotted(line))
    }
}

/// The first word of `text` that is a version with at least one dot.
fn dotted(text: &str) -> Option<Version> {
    text.split([' ', '(', ')', ',', ';']).filter_map(Version::parse).find(|version| version.numbers.len() > 1)
}

fn outside_parentheses(text: &str) -> String {
    let mut depth = 0_usize;
    text.chars()
        .filter(|c| {
            match c {
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                _ => return depth == 0,
            }
            false
        })
        .collect()
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let length = self.numbers.len().max(other.numbers.len());
        let padded = |version: &Self, at: usize| version.numbers.get(at).copied().unwrap_or(0);
        (0..length)
            .map(|at| padded(self, at).cmp(&padded(other, at)))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Version {}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_tools_print() {
        let cases = [
            ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright (c) 2003", "7.2.22"),
            ("GNU gdb (Debian 13.1-3) 13.1", "13.1"),
            ("GNU gdb (GDB; openSUSE Leap 15.5) 13.2", "13.2"),
            ("GNU gdb (Fedora Linux) 14.2-3.fc40", "14.2"),
            ("gcc (Debian 12.2.0-14+deb12u1) 12.2.0", "12.2.0"),
            ("gcc (GCC) 14.1.1 20240522 (Red Hat 14.1.1-4)", "14.1.1"),
            ("GNU Make 4.3\nBuilt for x86_64-pc-linux-gnu", "4.3"),
            ("flex 2.6.4", "2.6.4"),
            ("bison (GNU Bison) 3.8.2", "3.8.2"),
            ("bc 1.07.1\nCopyright", "1.07.1"),
            ("\nThis is perl 5, version 36, subversion 0 (v5.36.0) built for x86_64", "5.36.0"),
            ("GNU ld (GNU Binutils for Debian) 2.40", "2.40"),
            ("GNU ld version 2.35.2-42.el9", "2.35.2"),
            ("BusyBox v1.35.0 (Debian 1:1.35.0-4+deb12u1+b1) multi-call binary.", "1.35.0"),
        ];
        for (output, version) in cases {
            assert_eq!(Version::find_in(output).map(|found| found.to_string()).as_deref(), Some(version), "{output}");
        }
        assert_eq!(Version::find_in("gdb-add-index: unable to access: --version"), None);
        assert_eq!(Version::find_in(""), None);
    }

    #[test]
    fn versions_compare_number_by_number() {
        let version = |text| Version::parse(text).unwrap();
        assert!(version("7.2.22") > version("7.2.3"));
        assert!(version("4.3") < version("4.10"));
        assert!(version("1.06.95") < version("1.07"));
        assert_eq!(version("3.8"), version("3.8.0"));
        assert_eq!(version("v6.1.192"), version("6.1.192-2"));
        assert!(Version::parse("kernel").is_none());
    }
}
