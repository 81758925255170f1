//! Whether an entry still is what was filed: a seal over all its files.
//!
//! `seal.json` in the entry names every file with a hash of its [`content`]. To read a hundred megabytes at every use would cost more
//! than the use, so `seen.json` keeps under which stamp (size, times, inode) each file was last found to be right, and a
//! file is read again only if its stamp is another one. A write that keeps all of it, the time of change included, is
//! beyond a program that does not set the clock; what the disk itself loses silently is not noticed.

mod content;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, IoContext, Result};

const SEAL: &str = "seal.json";
const SEEN: &str = "seen.json";

/// Hashes by the path in the entry.
type Seal = BTreeMap<String, String>;
/// Stamps, likewise.
type Seen = BTreeMap<String, Stamp>;

/// What changes when a file is written to or replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    size: u64,
    modified_ns: i128,
    changed_ns: i128,
    inode: u64,
}

impl Stamp {
    fn of(path: &Path) -> std::io::Result<Stamp> {
        let metadata = fs::symlink_metadata(path)?;
        if !metadata.is_file() {
            return Err(std::io::ErrorKind::NotFound.into());
        }
        let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Ok(Stamp {
            size: metadata.size(),
            modified_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
        })
    }
}

/// Seals everything that is in `folder` now.
///
/// # Errors
/// A file cannot be read, or the seal not written.
pub fn seal(folder: &Path) -> Result<()> {
    let doing = || format!("seal {}", folder.display());
    let (mut seal, mut seen) = (Seal::new(), Seen::new());
    for name in files(folder).or_host(doing())? {
        let path = folder.join(&name);
        seen.insert(name.clone(), Stamp::of(&path).or_host(doing())?);
        seal.insert(name, File::open(&path).and_then(|file| content::hash(&file)).or_host(doing())?);
    }
    write(folder, SEAL, &seal)?;
    write(folder, SEEN, &seen)
}

/// Breaks the seal: the entry counts as damaged from now on.
///
/// # Errors
/// The folder cannot be written.
pub fn remove(folder: &Path) -> Result<()> {
    fs::remove_file(folder.join(SEAL)).or_host(format!("break the seal of {}", folder.display()))
}

/// What is wrong with a sealed entry, for people; none when it is whole. An entry that is not there has no seal either.
pub fn damage(folder: &Path) -> Option<String> {
    match compare(folder) {
        Err(damage) => Some(damage),
        Ok(fresh) => {
            // A cache that cannot be written only means to read again next time.
            let _ = fresh.map(|fresh| write(folder, SEEN, &fresh));
            None
        }
    }
}

/// As [`damage`], for those who only look: nothing is remembered, so that it is no use of the entry.
pub fn damage_seen(folder: &Path) -> Option<String> {
    compare(folder).err()
}

/// Compares all files with the seal; what is wrong is the error. Gives the stamps, if they are not those remembered.
fn compare(folder: &Path) -> Result<Option<Seen>, String> {
    let seal = read::<Seal>(folder, SEAL).ok_or("its seal cannot be read")?;
    let seen: Seen = read(folder, SEEN).unwrap_or_default();
    let mut fresh = Seen::new();
    for (name, sealed) in &seal {
        let path = folder.join(name);
        let stamp = Stamp::of(&path).map_err(|_| format!("{name} is missing"))?;
        if seen.get(name) != Some(&stamp) {
            match File::open(&path).and_then(|file| content::matches(&file, sealed)) {
                Ok(true) => {}
                Ok(false) => return Err(format!("{name} is not what was filed")),
                Err(error) => return Err(format!("{name} cannot be read: {error}")),
            }
        }
        fresh.insert(name.clone(), stamp);
    }
    Ok((fresh != seen).then_some(fresh))
}

fn read<T: serde::de::DeserializeOwned>(folder: &Path, name: &str) -> Option<T> {
    serde_json::from_slice(&fs::read(folder.join(name)).ok()?).ok()
}

/// Writes it whole or not at all: another kdbg may read it now.
fn write(folder: &Path, name: &str, value: &impl Serialize) -> Result<()> {
    let doing = || format!("write {name} in {}", folder.display());
    // As readable as the rest of the entry: the cache may be another user's.
    let mut named = tempfile::Builder::new();
    let mut file = named.permissions(fs::Permissions::from_mode(0o644)).tempfile_in(folder).or_host(doing())?;
    serde_json::to_writer_pretty(&mut file, value).map_err(|error| Error::host(error.to_string()).context(doing()))?;
    file.persist(folder.join(name)).map_err(|error| error.error).or_host(doing())?;
    Ok(())
}

/// The regular files in `folder` and below, but for the seal's own, as paths in it.
fn files(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(below) = folders.pop() {
        for entry in fs::read_dir(folder.join(&below))? {
            let entry = entry?;
            let name = format!("{below}{}", entry.file_name().to_string_lossy());
            match entry.file_type()? {
                kind if kind.is_dir() => folders.push(name + "/"),
                kind if kind.is_file() && name != SEAL && name != SEEN => found.push(name),
                _ => {}
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn sealed() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("modules")).unwrap();
        for (name, text) in [("vmlinux", "debug information"), ("config", ""), ("modules/a.ko", "module")] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        seal(folder.path()).unwrap();
        assert_eq!(damage(folder.path()), None);
        folder
    }

    /// Puts bytes into a file and its time of modification back.
    fn flip(path: &Path, text: &str) {
        let before = fs::metadata(path).unwrap().modified().unwrap();
        fs::write(path, text).unwrap();
        File::options().write(true).open(path).unwrap().set_modified(before).unwrap();
    }

    #[test]
    fn a_file_of_the_same_size_and_time_with_other_bytes_is_found() {
        for (name, text) in [("vmlinux", "debug informatiom"), ("modules/a.ko", "nodule")] {
            let folder = sealed();
            flip(&folder.path().join(name), text);
            assert_eq!(damage(folder.path()), Some(format!("{name} is not what was filed")));
        }
    }

    #[test]
    fn what_is_missing_or_unreadable_is_found() {
        let folder = sealed();
        fs::remove_file(folder.path().join("modules/a.ko")).unwrap();
        assert_eq!(damage(folder.path()).unwrap(), "modules/a.ko is missing");
        let folder = sealed();
        fs::write(folder.path().join(SEAL), "{").unwrap();
        assert_eq!(damage(folder.path()).unwrap(), "its seal cannot be read");
    }

    #[test]
    fn what_was_only_touched_or_copied_is_read_once_and_whole() {
        let folder = sealed();
        let file = folder.path().join("vmlinux");
        let stamps = || fs::read_to_string(folder.path().join(SEEN)).unwrap();
        let before = stamps();
        let later = SystemTime::now() + Duration::from_secs(5);
        File::options().write(true).open(&file).unwrap().set_modified(later).unwrap();
        assert_eq!(damage(folder.path()), None);
        assert_ne!(stamps(), before, "seen anew");
        fs::write(folder.path().join(SEEN), "{").unwrap();
        assert_eq!(damage(folder.path()), None, "a memory that is lost costs reading");
    }

    #[test]
    fn a_file_that_was_seen_is_not_read_again() {
        let folder = sealed();
        let mut seal: Seal = read(folder.path(), SEAL).unwrap();
        seal.insert("vmlinux".into(), "another".into());
        write(folder.path(), SEAL, &seal).unwrap();
        assert_eq!(damage(folder.path()), None);
        fs::remove_file(folder.path().join(SEEN)).unwrap();
        assert_eq!(damage(folder.path()).unwrap(), "vmlinux is not what was filed");
    }
}
