//! Where things are kept: the cache that all runs share, and the directory of one run.
//!
//! Cache entries are built in `staging/`, beside their place, and renamed into it under a lock, so that no half-written
//! entry is ever seen. What a killed kdbg left in `staging/` is swept by the next one: a folder there is locked as long as
//! its kdbg lives. Locks are the kernel's (flock), so that they hold between containers that share a cache, where a
//! process id says nothing.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use etcetera::BaseStrategy;

use crate::error::{Error, IoContext, Result};
use crate::event::Cancel;

/// The lock between making a folder in `staging/` and sweeping.
const SWEEP: &str = "staging";

/// The environment variable that moves the cache.
pub const CACHE_VARIABLE: &str = "KDBG_CACHE_DIR";

/// The cache: kernel sources, object folders, built kernels, images.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
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
            error.hint(format!("set {CACHE_VARIABLE} to a folder with 6 GiB of space that you can write"))
        };
        for folder in ["sources", "objects", "kernels", "images", "locks", "staging"] {
            let path = root.join(folder);
            fs::create_dir_all(&path).or_host(format!("make the cache folder {}", path.display())).map_err(hint)?;
        }
        tempfile::tempfile_in(root.join("staging"))
            .or_host(format!("write into the cache {}", root.display()))
            .map_err(hint)?;
        Ok(Cache { root })
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
        Ok(Staging { folder, _lock: Lock { _file: lock } })
    }

    /// Deletes what killed processes left in `staging/`: the folders that nobody holds a lock on.
    fn sweep(&self) {
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

/// A lock that is held until dropped; the kernel drops it with the process.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// A cache entry in the making.
#[derive(Debug)]
pub struct Staging {
    folder: tempfile::TempDir,
    /// On the folder itself, so that no sweep takes it.
    _lock: Lock,
}

impl Staging {
    /// Where to build it.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Moves it to `place`, replacing what may be there.
    ///
    /// # Errors
    /// The move failed; the entry is gone then, `place` untouched or empty.
    pub fn publish(self, place: &Path) -> Result<()> {
        move_into_place(self.folder.path(), place)?;
        let _ = self.folder.keep();
        Ok(())
    }

    /// Moves the folder `name` in it to `place`; the rest is deleted.
    ///
    /// # Errors
    /// As [`Staging::publish`].
    pub fn publish_inner(self, name: &str, place: &Path) -> Result<()> {
        move_into_place(&self.folder.path().join(name), place)
    }
}

fn move_into_place(from: &Path, place: &Path) -> Result<()> {
    if place.exists() {
        fs::remove_dir_all(place).or_host(format!("replace {}", place.display()))?;
    }
    fs::rename(from, place).or_host(format!("move a finished entry to {}", place.display()))
}

/// The directory of one run: `runs/<recipe>/<time>`, readable by its owner alone.
#[derive(Debug, Clone)]
pub struct RunDir {
    path: PathBuf,
    /// Whether kdbg chose the place, and keeps a `latest` there.
    ours: bool,
}

impl RunDir {
    /// Makes the directory: `out` itself if given (it must be empty or absent), else a new one below `runs/<recipe>/`.
    ///
    /// # Errors
    /// It cannot be made, or `out` has something in it.
    pub fn create(recipe: &str, out: Option<&Path>) -> Result<RunDir> {
        let hint = |error: Error| error.hint("choose a folder that can be written with --out DIR");
        match out {
            Some(path) => Self::create_at(path).map_err(hint),
            None => Self::create_below(&Path::new("runs").join(recipe)).map_err(hint),
        }
    }

    /// The directory of a run that is one of several: a new one in this one.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn below(&self, name: &str) -> Result<RunDir> {
        let path = self.path.join(name);
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.or_host(format!("make the run directory {}", path.display()))?;
        Ok(RunDir { path, ours: false })
    }

    fn create_at(path: &Path) -> Result<RunDir> {
        fs::create_dir_all(path).or_host(format!("make the run directory {}", path.display()))?;
        let mut entries = fs::read_dir(path).or_host(format!("read {}", path.display()))?;
        if entries.next().is_some() {
            let message = format!("the run directory {} is not empty", path.display());
            return Err(Error::host(message).hint("name a new folder with --out DIR; nothing was changed"));
        }
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).or_host("close the run directory to others")?;
        let run = RunDir { path: path.into(), ours: false };
        run.prove_writable()?;
        Ok(run)
    }

    fn create_below(parent: &Path) -> Result<RunDir> {
        fs::create_dir_all(parent).or_host(format!("make {}", parent.display()))?;
        let time = jiff::Zoned::now().strftime("%Y%m%d-%H%M%S").to_string();
        for attempt in 1..100 {
            let name = if attempt == 1 { time.clone() } else { format!("{time}-{attempt}") };
            let path = parent.join(name);
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(RunDir { path, ours: true }),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).or_host(format!("make the run directory {}", path.display())),
            }
        }
        Err(Error::host(format!("too many runs in one second below {}", parent.display())))
    }

    fn prove_writable(&self) -> Result<()> {
        tempfile::tempfile_in(&self.path)
            .map(drop)
            .or_host(format!("write into the run directory {}", self.path.display()))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path to show to people: through `latest`, where that will point here.
    pub fn shown(&self) -> PathBuf {
        match self.path.parent() {
            Some(parent) if self.ours => parent.join("latest"),
            _ => self.path.clone(),
        }
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file in it whole or not at all.
    ///
    /// # Errors
    /// It cannot be written; what was there before stays.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.file(name);
        let doing = || format!("write {}", path.display());
        let mut file = tempfile::NamedTempFile::new_in(&self.path).or_host(doing())?;
        file.write_all(text.as_bytes()).or_host(doing())?;
        file.persist(&path).map_err(|error| error.error).or_host(doing())?;
        Ok(())
    }

    /// Points `latest`, beside it, at this run. An `--out` directory gets no such link.
    ///
    /// # Errors
    /// The link cannot be made.
    pub fn mark_latest(&self) -> Result<()> {
        let (true, Some(parent), Some(name)) = (self.ours, self.path.parent(), self.path.file_name()) else {
            return Ok(());
        };
        let fresh = parent.join(format!(".latest-{}", std::process::id()));
        let _ = fs::remove_file(&fresh);
        std::os::unix::fs::symlink(name, &fresh).or_host("make the link `latest`")?;
        fs::rename(&fresh, parent.join("latest")).or_host("make the link `latest`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> (tempfile::TempDir, Cache) {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().into()).unwrap();
        (folder, cache)
    }

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

    #[test]
    fn an_out_directory_with_something_in_it_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("mine"), "x").unwrap();
        assert!(RunDir::create("r", Some(folder.path())).is_err());
        assert_eq!(fs::read_to_string(folder.path().join("mine")).unwrap(), "x");
    }

    #[test]
    fn latest_follows_the_newest_run() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let run = RunDir::create_below(folder.path()).unwrap();
            run.mark_latest().unwrap();
            assert_eq!(fs::canonicalize(folder.path().join("latest")).unwrap(), fs::canonicalize(run.path()).unwrap());
        }
    }
}
