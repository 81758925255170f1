//! Where things are kept: the cache that all runs share, and the directory of one run.
//!
//! Cache entries are built in `staging/`, beside their place, and renamed into it under a lock, so that no half-written
//! entry is ever seen. What a killed kdbg left in `staging/` is swept by the next one: a folder there is locked as long as
//! its kdbg lives. Locks are the kernel's (flock), so that they hold between containers that share a cache, where a
//! process id says nothing.

pub mod gc;
mod hold;
mod inventory;
mod run_dir;
pub mod seal;
pub mod space;
mod staging;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use etcetera::BaseStrategy;

use crate::error::{Error, IoContext, Result};
use crate::event::Cancel;
pub use inventory::{Item, Kind};
pub use run_dir::RunDir;
pub use staging::Staging;

/// The environment variable that moves the cache.
pub const CACHE_VARIABLE: &str = "KDBG_CACHE_DIR";

/// The cache: kernel sources, object folders, built kernels, images, templates.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
    /// What this kdbg uses, each entry under a shared lock.
    held: Arc<Mutex<BTreeMap<PathBuf, Lock>>>,
}

impl Cache {
    /// Where the cache is: `$KDBG_CACHE_DIR`, else `kdbg` in the user's cache folder (XDG).
    ///
    /// # Errors
    /// There is no home folder.
    pub fn place() -> Result<PathBuf> {
        if let Some(path) = std::env::var_os(CACHE_VARIABLE).filter(|path| !path.is_empty()) {
            return std::path::absolute(PathBuf::from(path)).or_host("find the cache folder");
        }
        let folders = etcetera::base_strategy::choose_base_strategy().map_err(|error| {
            Error::host(format!("cannot find the user's cache folder: {error}"))
                .hint(format!("set {CACHE_VARIABLE} to a folder"))
        })?;
        Ok(folders.cache_dir().join("kdbg"))
    }

    /// Opens the cache, making it if need be, and proves that it can be written.
    ///
    /// # Errors
    /// The folder cannot be made or written.
    pub fn open() -> Result<Cache> {
        let cache = Self::at(Self::place()?)?;
        cache.sweep();
        Ok(cache)
    }

    /// Opens the cache in `root`.
    ///
    /// # Errors
    /// As [`Cache::open`].
    pub fn at(root: PathBuf) -> Result<Cache> {
        let hint = |error: Error| {
            error.hint(format!("set {CACHE_VARIABLE} to a folder with 3 GiB of space that you can write"))
        };
        let cache = Self::unproved(root);
        for folder in ["sources", "objects", "kernels", "images", "packages", "templates", "locks", "staging"] {
            let path = cache.path(folder);
            fs::create_dir_all(&path).or_host(format!("make the cache folder {}", path.display())).map_err(hint)?;
        }
        tempfile::tempfile_in(cache.path("staging"))
            .or_host(format!("write into the cache {}", cache.root.display()))
            .map_err(hint)?;
        Ok(cache)
    }

    /// The cache in `root`, to look at: nothing is made in it, and it may be read-only or not there.
    pub fn unproved(root: PathBuf) -> Cache {
        Cache { root, held: Arc::default() }
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A folder or file in the cache.
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// Takes the lock called `name`, waiting for another kdbg to let go of it; `on_wait` is called once if it has to.
    ///
    /// The one wait without a deadline: the other kdbg may build for an hour, and its own waits have deadlines. A kdbg
    /// that dies lets go, and an interrupt ends the wait.
    ///
    /// # Errors
    /// The lock file cannot be opened, or kdbg was interrupted while waiting.
    pub fn lock(&self, name: &str, cancel: &Cancel, on_wait: impl FnOnce()) -> Result<Lock> {
        let (path, file) = self.lock_file(name)?;
        let mut on_wait = Some(on_wait);
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Lock { _file: file }),
                Err(TryLockError::WouldBlock) => {
                    if let Some(on_wait) = on_wait.take() {
                        on_wait();
                    }
                    cancel.check()?;
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(TryLockError::Error(error)) => return Err(error).or_host(format!("lock {}", path.display())),
            }
        }
    }

    fn lock_file(&self, name: &str) -> Result<(PathBuf, File)> {
        let path = self.path("locks").join(format!("{name}.lock"));
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(false).write(true).open(&path);
        let file = file.or_host(format!("open the lock {}", path.display()))?;
        Ok((path, file))
    }
}

/// A lock that is held until dropped; the kernel drops it with the process.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn cache() -> (tempfile::TempDir, Cache) {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().into()).unwrap();
        (folder, cache)
    }

    #[test]
    fn a_lock_makes_the_second_wait_and_an_interrupt_ends_the_wait() {
        let (_folder, cache) = cache();
        let held = cache.lock("a", &Cancel::default(), || {}).unwrap();
        let cancel = Cancel::default();
        cancel.flag().store(true, std::sync::atomic::Ordering::Relaxed);
        let mut waited = false;
        let error = cache.lock("a", &cancel, || waited = true).unwrap_err();
        assert!(waited);
        assert_eq!(error.kind, crate::error::ErrorKind::Interrupted);
        drop(held);
        cache.lock("a", &Cancel::default(), || {}).unwrap();
    }
}
