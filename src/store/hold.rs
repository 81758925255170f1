//! Entries in use: each is under a shared lock (flock, on the entry itself) as long as its kdbg lives, so that no
//! `kdbg cache gc` takes it. Its time of modification is that of its last use.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::PoisonError;
use std::time::SystemTime;

use super::{Cache, Lock};
use crate::error::{IoContext, Result};

impl Cache {
    /// Keeps an entry as long as this cache, or a clone of it, is there. False if the entry is not, or not any more.
    pub fn hold(&self, entry: &Path) -> bool {
        let file = match File::open(entry) {
            Ok(file) => file,
            // What is there and cannot be opened is not for us to judge.
            Err(error) => return error.kind() != ErrorKind::NotFound,
        };
        // Waits for no longer than it takes to delete an entry. Where there are no locks there is no gc either.
        let _ = file.lock_shared();
        let is_there = is_same(&file, entry);
        if is_there {
            self.keep_held(entry, file);
        }
        is_there
    }

    /// Makes the folder of an entry that is worked in where it stands, and holds it.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn hold_folder(&self, entry: &Path) -> Result<()> {
        loop {
            fs::create_dir_all(entry).or_host(format!("make {}", entry.display()))?;
            if self.hold(entry) {
                return Ok(());
            }
        }
    }

    /// Holds an entry no longer.
    pub(super) fn let_go(&self, entry: &Path) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(entry);
    }

    /// Holds an entry by a lock that is taken, and marks it as used now.
    pub(super) fn keep_held(&self, entry: &Path, file: File) {
        // A cache that is read-only remembers no use.
        let _ = file.set_modified(SystemTime::now());
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.insert(entry.into(), Lock { _file: file });
    }
}

/// Whether `path` still leads to what was opened.
pub(super) fn is_same(file: &File, path: &Path) -> bool {
    let opened = file.metadata().map(|metadata| (metadata.dev(), metadata.ino()));
    let there = fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
    matches!((opened, there), (Ok(opened), Ok(there)) if opened == there)
}
