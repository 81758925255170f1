//! The one error of the crate: what failed, which exit code that means, and what mends it.
//!
//! Pure: holds text only. Located recipe errors ([`crate::recipe::diagnostic`]) are rendered into `message`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What kind of thing failed. Each kind has one documented exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ErrorKind {
    /// The command line is wrong.
    Usage,
    /// A recipe (or a file it names) is wrong.
    Recipe,
    /// The host lacks a tool, a package, space or a permission.
    Host,
    /// The kernel's source, configuration or build failed.
    Kernel,
    /// The guest did not boot, died, hung or could not be talked to.
    Guest,
    /// GDB did not start, died, hung or refused.
    Debugger,
    /// The user (or a supervisor) asked kdbg to stop.
    Interrupted,
}

impl ErrorKind {
    /// The exit code of a kdbg that ends with this error (design: exit codes are part of the interface).
    pub fn exit_code(self) -> u8 {
        match self {
            ErrorKind::Usage | ErrorKind::Recipe => 2,
            ErrorKind::Host => 3,
            ErrorKind::Kernel => 4,
            ErrorKind::Guest => 5,
            ErrorKind::Debugger => 6,
            ErrorKind::Interrupted => 130,
        }
    }
}

/// A failure that a person has to read: one message, and a hint that mends it where one is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// What failed; decides the exit code.
    pub kind: ErrorKind,
    /// What happened, where and why; lower-case fragment, may have several lines.
    pub message: String,
    /// The command or edit that mends it.
    pub hint: Option<String>,
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` that says `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into(), hint: None }
    }

    /// The wrong use of the command line.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message)
    }

    /// A wrong recipe.
    pub fn recipe(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Recipe, message)
    }

    /// Something the host lacks or refuses.
    pub fn host(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Host, message)
    }

    /// A failure of the kernel's source, configuration or build.
    pub fn kernel(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Kernel, message)
    }

    /// A failure of the guest.
    pub fn guest(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Guest, message)
    }

    /// A failure of GDB.
    pub fn debugger(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Debugger, message)
    }

    /// kdbg was asked to stop.
    pub fn interrupted() -> Self {
        Self::new(ErrorKind::Interrupted, "interrupted")
    }

    /// Adds the command or edit that mends it. A hint that is already there, nearer to the cause, stays.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// Puts what was being done in front of the message.
    #[must_use]
    pub fn context(mut self, doing: impl fmt::Display) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// Turns an I/O error into an [`Error`] of the host, naming what was being done to which file.
pub trait IoContext<T> {
    /// `doing` reads as "cannot <doing>", for example `read recipes/x.yaml`.
    fn or_host(self, doing: impl fmt::Display) -> Result<T>;
}

impl<T> IoContext<T> for std::io::Result<T> {
    fn or_host(self, doing: impl fmt::Display) -> Result<T> {
        self.map_err(|error| {
            let hint = match error.kind() {
                std::io::ErrorKind::StorageFull => Some(
                    "free some space: `kdbg cache gc` does in the cache; `--out DIR` puts a run elsewhere, TMPDIR what is temporary; `kdbg doctor` shows how much is left",
                ),
                std::io::ErrorKind::PermissionDenied => Some("check who owns that folder and whether it is writable"),
                std::io::ErrorKind::ReadOnlyFilesystem => {
                    Some("set KDBG_CACHE_DIR (cache) or --out (runs) to a folder that can be written")
                }
                _ => None,
            };
            let plain = Error::host(format!("cannot {doing}: {error}"));
            match hint {
                Some(hint) => plain.hint(hint),
                None => plain,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_the_documented_ones() {
        let codes = [
            (ErrorKind::Usage, 2),
            (ErrorKind::Recipe, 2),
            (ErrorKind::Host, 3),
            (ErrorKind::Kernel, 4),
            (ErrorKind::Guest, 5),
            (ErrorKind::Debugger, 6),
            (ErrorKind::Interrupted, 130),
        ];
        for (kind, code) in codes {
            assert_eq!(kind.exit_code(), code, "{kind:?}");
        }
    }

    #[test]
    fn a_full_disk_is_not_always_the_caches() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let error = Err::<(), _>(full).or_host("make a folder for logs").unwrap_err();
        let hint = error.hint.unwrap();
        for way in ["`kdbg cache gc`", "`--out DIR`", "TMPDIR"] {
            assert!(hint.contains(way), "{way}: {hint}");
        }
    }

    #[test]
    fn the_hint_nearest_to_the_cause_stays() {
        let error = Error::guest("a").hint("near").hint("far").context("while b");
        assert_eq!((error.message.as_str(), error.hint.as_deref()), ("while b: a", Some("near")));
    }
}
