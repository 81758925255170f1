//! What tells whether a tree is still what it was: names, sizes and times of its files. Contents are not read: make, too,
//! goes by the time.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::file_name;
use crate::digest::hex;
use crate::error::{Error, IoContext, Result};

/// Where a tree of the cache has its fingerprint. Trees that were unpacked by an earlier kdbg have none.
const NOTE: &str = ".kdbg-fingerprint";

/// A hash over the names (below `base`), sizes and times of change of all files but git's own.
pub(super) fn of(tree: &Path, base: &Path) -> Result<String> {
    let mut hasher = Sha256::new();
    let mut folders = vec![tree.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let doing = || format!("read {}", folder.display());
        let mut entries =
            fs::read_dir(&folder).or_host(doing())?.collect::<std::io::Result<Vec<_>>>().or_host(doing())?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let (path, metadata) = (entry.path(), entry.metadata().or_host(doing())?);
            if metadata.is_dir() {
                if file_name(&path) != ".git" {
                    folders.push(path);
                }
                continue;
            }
            let name = path.strip_prefix(base).unwrap_or(&path);
            if name == Path::new(NOTE) {
                continue;
            }
            hasher.update(name.as_os_str().as_encoded_bytes());
            for number in [metadata.size().cast_signed(), metadata.mtime(), metadata.mtime_nsec()] {
                hasher.update(number.to_le_bytes());
            }
        }
    }
    Ok(hex(&hasher.finalize()[..8]))
}

/// Notes the fingerprint in a tree that is about to be put into the cache.
///
/// # Errors
/// It cannot be read or written.
pub(super) fn note(tree: &Path) -> Result<()> {
    fs::write(tree.join(NOTE), of(tree, tree)?).or_host(format!("write into {}", tree.display()))
}

/// Whether a tree of the cache is what it was when it was put there, as far as that was noted.
///
/// # Errors
/// It is not, or cannot be read.
pub(super) fn check(tree: &Path) -> Result<()> {
    let Ok(noted) = fs::read_to_string(tree.join(NOTE)) else { return Ok(()) };
    if of(tree, tree)? == noted {
        return Ok(());
    }
    let tree = tree.display();
    Err(Error::kernel(format!("the kernel source {tree} is damaged: files of it were changed, added or removed"))
        .hint(format!("delete it, and kdbg makes it again: rm -r '{tree}'")))
}
