//! Entries in the making: built in `staging/`, locked while their kdbg lives, renamed into place, swept when abandoned.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{Cache, Lock};
use crate::error::{IoContext, Result};

/// The lock between making a folder in `staging/` and sweeping.
pub(super) const SWEEP: &str = "staging";

impl Cache {
    /// A new folder in `staging/`, deleted when dropped unless it was [published](Staging::publish).
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn stage(&self) -> Result<Staging> {
        // No sweep between making the folder and locking it; a sweep holds this only while it looks.
        let (_, sweeping) = self.lock_file(SWEEP)?;
        sweeping.lock_shared().or_host("lock the cache's staging folder")?;
        let folder = tempfile::Builder::new()
            .prefix("entry-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir_in(self.path("staging"))
            .or_host("make a folder in the cache")?;
        let lock = File::open(folder.path()).or_host("open a folder in the cache")?;
        lock.try_lock().map_err(std::io::Error::from).or_host("lock a folder in the cache")?;
        Ok(Staging { folder, lock, cache: self.clone() })
    }

    /// Deletes what killed processes left in `staging/`: the folders that nobody holds a lock on.
    pub(super) fn sweep(&self) {
        for (path, _lock) in self.abandoned() {
            let _ = fs::remove_dir_all(path);
        }
    }

    /// The folders in `staging/` that nobody works on, locked now; none while another kdbg makes one or looks.
    fn abandoned(&self) -> Vec<(PathBuf, Lock)> {
        let Ok((_, sweeping)) = self.lock_file(SWEEP) else { return Vec::new() };
        let entries = match sweeping.try_lock() {
            Ok(()) => fs::read_dir(self.path("staging")),
            Err(_) => return Vec::new(),
        };
        let folders = entries.into_iter().flatten().flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
        folders
            .filter_map(|path| {
                let file = File::open(&path).ok()?;
                file.try_lock().ok()?;
                Some((path, Lock { _file: file }))
            })
            .collect()
    }
}

/// A cache entry in the making.
#[derive(Debug)]
pub struct Staging {
    folder: tempfile::TempDir,
    /// Locked: the folder itself, so that no sweep takes it.
    lock: File,
    cache: Cache,
}

impl Staging {
    /// Where to build it.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Moves it to `place`, replacing what may be there. This kdbg [holds](Cache::hold) it from then on.
    ///
    /// # Errors
    /// The move failed; the entry is gone then, `place` untouched or empty.
    pub fn publish(self, place: &Path) -> Result<()> {
        // In between it is not locked.
        let (_, sweeping) = self.cache.lock_file(SWEEP)?;
        sweeping.lock_shared().or_host("lock the cache's staging folder")?;
        self.lock.lock_shared().or_host("lock a finished entry")?;
        move_into_place(self.folder.path(), place)?;
        let lock = self.lock.try_clone().or_host("lock a finished entry")?;
        self.cache.keep_held(place, lock);
        let _ = self.folder.keep();
        Ok(())
    }

    /// Moves the folder or file `name` in it to `place`; the rest is deleted.
    ///
    /// # Errors
    /// As [`Staging::publish`].
    pub fn publish_inner(self, name: &str, place: &Path) -> Result<()> {
        let from = self.folder.path().join(name);
        let lock = File::open(&from).or_host("open a finished entry")?;
        lock.lock_shared().or_host("lock a finished entry")?;
        move_into_place(&from, place)?;
        self.cache.keep_held(place, lock);
        Ok(())
    }
}

/// Moves a finished entry to `place`. What is there stays whole until then, and is deleted after that.
fn move_into_place(from: &Path, place: &Path) -> Result<()> {
    let doing = || format!("move a finished entry to {}", place.display());
    if from.is_file() || fs::symlink_metadata(place).is_err() {
        return fs::rename(from, place).or_host(doing());
    }
    let exchanged = renameat_with(CWD, from, CWD, place, RenameFlags::EXCHANGE);
    if exchanged.is_ok() {
        // `from` is what was replaced now.
        return fs::remove_dir_all(from).or_host(format!("delete what was replaced at {}", place.display()));
    }
    // A file system that cannot exchange: for a moment there is nothing.
    fs::remove_dir_all(place).or_host(format!("replace {}", place.display()))?;
    fs::rename(from, place).or_host(doing())
}

#[cfg(test)]
mod tests {
    use super::super::tests::cache;
    use super::*;

    #[test]
    fn a_published_entry_is_whole_and_an_unpublished_one_is_gone() {
        let (_folder, cache) = cache();
        let entry = cache.stage().unwrap();
        fs::write(entry.path().join("vmlinux"), "x").unwrap();
        entry.publish(&cache.path("kernels/k")).unwrap();
        assert_eq!(fs::read_to_string(cache.path("kernels/k/vmlinux")).unwrap(), "x");
        drop(cache.stage().unwrap());
        assert_eq!(fs::read_dir(cache.path("staging")).unwrap().count(), 0);
    }

    #[test]
    fn what_nobody_holds_is_swept_whatever_its_name() {
        let (_folder, cache) = cache();
        // The second name is that of a living process, as seen from here.
        let left = ["4194305-x".into(), format!("{}-x", std::process::id()), "entry-x".into()];
        let left = left.map(|name: String| cache.path("staging").join(name));
        left.iter().for_each(|path| fs::create_dir(path).unwrap());
        let own = cache.stage().unwrap();
        // What another container's kdbg works on: a process id that means nothing here, and a lock.
        let foreign = cache.path("staging/4194306-x");
        fs::create_dir(&foreign).unwrap();
        let held = File::open(&foreign).unwrap();
        held.try_lock().unwrap();
        cache.sweep();
        assert!(left.iter().all(|path| !path.exists()));
        assert!(own.path().exists() && foreign.exists());
        drop(held);
        cache.sweep();
        assert!(!foreign.exists() && own.path().exists());
    }
}
