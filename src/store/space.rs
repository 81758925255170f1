//! Whether there is room in the cache for what is to come: said before the work begins, not when it fails.

use std::collections::HashSet;
use std::fmt::Display;
use std::path::Path;

use super::{CACHE_VARIABLE, Cache, inventory};
use crate::error::{Error, IoContext, Result};
use crate::report::text::size;

/// What a full disk makes programs say.
const FULL: &str = "No space left on device";

/// The bytes this user may still write to the file system that `path` is, or will be, on.
///
/// # Errors
/// The file system does not tell.
pub fn free(path: &Path) -> Result<u64> {
    let existing = path.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("."));
    let statistics = rustix::fs::statvfs(existing)
        .map_err(std::io::Error::from)
        .or_host(format!("see the free space at {}", existing.display()))?;
    Ok(statistics.f_bavail.saturating_mul(statistics.f_frsize))
}

impl Cache {
    /// Makes sure that there is room for `needed` more bytes, which is about what `what` takes.
    ///
    /// # Errors
    /// There is not; both figures are in the message.
    pub fn needs_room(&self, needed: u64, what: impl Display) -> Result<()> {
        match free(self.root()) {
            Ok(there) if there < needed => {
                let (needed, there, root) = (size(needed), size(there), self.root().display());
                let message = format!("{what} takes about {needed} in the cache, and {root} has room for {there}");
                Err(Error::host(message).hint(remedy()))
            }
            // A file system that does not tell is tried.
            _ => Ok(()),
        }
    }

    /// What a folder of the cache takes on the disk, in bytes.
    pub fn taken(&self, folder: &Path) -> u64 {
        inventory::disk_usage(folder, &mut HashSet::new())
    }
}

/// An error that says that the disk is full, if that is what a program has said.
pub fn full(said: &str, doing: impl Display) -> Option<Error> {
    said.contains(FULL).then(|| disk_is_full(doing))
}

/// That error.
pub fn disk_is_full(doing: impl Display) -> Error {
    Error::host(format!("the disk is full while {doing}")).hint(remedy())
}

fn remedy() -> String {
    format!(
        "free some space: `kdbg cache gc` deletes what was not used for 30 days, with `--older-than 1d` or \
         `--keep-size 2G` more; or move the cache to another disk with {CACHE_VARIABLE}"
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::cache;
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn what_does_not_fit_is_said_with_both_figures_and_what_mends_it() {
        let (_folder, cache) = cache();
        assert!(cache.needs_room(1, "a poem").is_ok());
        let error = cache.needs_room(u64::MAX, "a poem").unwrap_err();
        let there = free(cache.root()).unwrap();
        assert_eq!(error.kind, ErrorKind::Host);
        assert!(error.message.starts_with("a poem takes about 17179869184.0 GiB in the cache, and "), "{error}");
        let gibibytes = there >> 30;
        assert!(gibibytes == 0 || error.message.ends_with(" GiB"), "{error}");
        assert!(error.hint.is_some_and(|hint| hint.contains("`kdbg cache gc`") && hint.contains(CACHE_VARIABLE)));
    }

    #[test]
    fn only_a_full_disk_is_called_one() {
        assert_eq!(full("E: 404 Not Found", "fetching"), None);
        let error = full("tar: a: Cannot write: No space left on device", "fetching a poem").unwrap();
        assert_eq!(error.message, "the disk is full while fetching a poem");
    }
}
