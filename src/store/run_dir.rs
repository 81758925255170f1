//! The directory of one run.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::Lock;
use crate::error::{Error, IoContext, Result};

/// The directory of one run: `runs/<recipe>/<time>`, readable by its owner alone.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    /// Keeps others out of a place that kdbg did not choose.
    _claim: Option<Lock>,
    /// Whether kdbg chose the place, and keeps a `latest` there.
    ours: bool,
}

impl RunDir {
    /// Makes the directory: `out` itself if given (it must be empty or absent), else a new one below `runs/<recipe>/`.
    ///
    /// # Errors
    /// It cannot be made; `out` has something in it, or another kdbg has just begun to write there.
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
        Ok(RunDir { path, _claim: None, ours: false })
    }

    fn create_at(path: &Path) -> Result<RunDir> {
        fs::create_dir_all(path).or_host(format!("make the run directory {}", path.display()))?;
        let claim = claim(path)?;
        let mut entries = fs::read_dir(path).or_host(format!("read {}", path.display()))?;
        if entries.next().is_some() {
            return Err(taken(path, "is not empty"));
        }
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).or_host("close the run directory to others")?;
        let run = RunDir { path: path.into(), _claim: Some(claim), ours: false };
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
                Ok(()) => return Ok(RunDir { path, _claim: None, ours: true }),
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
        self.write_with(name, |file| file.write_all(text.as_bytes()))
    }

    /// Has `write` write a file in it whole or not at all.
    ///
    /// # Errors
    /// As [`RunDir::write`].
    pub fn write_with<T>(&self, name: &str, write: impl FnOnce(&mut File) -> std::io::Result<T>) -> Result<T> {
        let path = self.file(name);
        let doing = || format!("write {}", path.display());
        let mut file = tempfile::NamedTempFile::new_in(&self.path).or_host(doing())?;
        let written = write(file.as_file_mut()).or_host(doing())?;
        file.persist(&path).map_err(|error| error.error).or_host(doing())?;
        Ok(written)
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

/// Locks a directory (flock, on itself) against every other kdbg that would write there.
fn claim(path: &Path) -> Result<Lock> {
    let directory = File::open(path).or_host(format!("open {}", path.display()))?;
    match directory.try_lock() {
        Err(TryLockError::WouldBlock) => Err(taken(path, "is that of another kdbg, which writes there now")),
        // Where there are no locks, that it is empty has to do.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(Lock { _file: directory }),
    }
}

fn taken(path: &Path, why: &str) -> Error {
    let message = format!("the run directory {} {why}", path.display());
    Error::host(message).hint("name a new folder with --out DIR; nothing was changed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_out_directory_with_something_in_it_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("mine"), "x").unwrap();
        assert!(RunDir::create("r", Some(folder.path())).is_err());
        assert_eq!(fs::read_to_string(folder.path().join("mine")).unwrap(), "x");
    }

    #[test]
    fn an_out_directory_is_one_runs_as_long_as_that_lasts() {
        let folder = tempfile::tempdir().unwrap();
        let first = RunDir::create("r", Some(folder.path())).unwrap();
        let error = RunDir::create("r", Some(folder.path())).unwrap_err();
        assert!(error.message.ends_with("is that of another kdbg, which writes there now"), "{error}");
        drop(first);
        RunDir::create("r", Some(folder.path())).unwrap();
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
