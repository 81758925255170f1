//! A mark that stands in an object folder while make runs there, and what becomes of a folder where it still stands.
//!
//! make takes a file for whole if it is newer than what it is made of, and Kbuild, if its command line is still that in
//! `.NAME.cmd`. That is written after the file: half an object that was to replace an older one would pass, by the older
//! one's command line. After a crash of the machine even the order of writing says nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::error::{IoContext, Result};

/// The mark. It holds the boot in which make ran.
const MARK: &str = "kdbg.making";
/// Where Kconfig keeps the times at which options changed: what is lost here is not compiled again.
const TIMES: &str = "include/config";

/// What a make that did not end by itself has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::kernel) enum Left {
    /// Nothing, or nothing that make could take for whole.
    Nothing,
    /// That many files that may be halves. They are gone now.
    Halves(usize),
    /// The machine went down with it. The folder is empty now.
    Crash,
}

/// Sets the mark, or sets its time anew.
///
/// # Errors
/// It cannot be written.
pub(super) fn mark(objects: &Path) -> Result<()> {
    let path = objects.join(MARK);
    fs::write(&path, boot()).or_host(format!("write {}", path.display()))
}

/// Takes the mark away. One too many costs time, no more.
pub(super) fn unmark(objects: &Path) {
    let _ = fs::remove_file(objects.join(MARK));
}

/// Brings all that was made to the disk, where no crash of the machine takes it away.
///
/// # Errors
/// As [`mark`].
pub(super) fn settle(objects: &Path) -> Result<()> {
    mark(objects)?;
    let _ = fs::File::open(objects).map(rustix::fs::syncfs);
    unmark(objects);
    Ok(())
}

/// Deletes what may be half-written, if the mark stands.
///
/// # Errors
/// Something cannot be deleted.
pub(in crate::kernel) fn repair(objects: &Path) -> Result<Left> {
    let mark = objects.join(MARK);
    let Ok(since) = fs::metadata(&mark).and_then(|mark| mark.modified()) else { return Ok(Left::Nothing) };
    let booted = fs::read_to_string(&mark).unwrap_or_default();
    // An empty one was not on the disk yet when the machine went down.
    let left = if booted.is_empty() || booted != boot() {
        clear(objects)?;
        Left::Crash
    } else {
        let halves = halves(objects, since);
        for half in &halves {
            fs::remove_file(half).or_host(format!("delete {}", half.display()))?;
        }
        if halves.is_empty() { Left::Nothing } else { Left::Halves(halves.len()) }
    };
    let _ = fs::remove_file(mark);
    Ok(left)
}

/// What tells one boot of this machine from another.
fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().into()
}

/// Empties a folder, which stays: it is locked.
fn clear(folder: &Path) -> Result<()> {
    let doing = || format!("empty {}", folder.display());
    for entry in fs::read_dir(folder).or_host(doing())? {
        let entry = entry.or_host(doing())?;
        match entry.file_type().or_host(doing())?.is_dir() {
            true => fs::remove_dir_all(entry.path()),
            false => fs::remove_file(entry.path()),
        }
        .or_host(doing())?;
    }
    Ok(())
}

/// The files written since then that nothing proves to be whole.
fn halves(objects: &Path, since: SystemTime) -> Vec<PathBuf> {
    // At the top there are files of kdbg's and Kconfig's too; what make makes there has a command line.
    let mut found = halves_in(objects, since, true);
    let mut folders = folders_in(objects);
    // kdbg's own files.
    folders.retain(|folder| *folder != objects.join("kdbg"));
    while let Some(folder) = folders.pop() {
        if folder != objects.join(TIMES) {
            found.extend(halves_in(&folder, since, false));
            folders.extend(folders_in(&folder));
        }
    }
    found
}

fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

fn halves_in(folder: &Path, since: SystemTime, only_with_command: bool) -> Vec<PathBuf> {
    let written = |path: &Path| {
        let metadata = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file)?;
        metadata.modified().ok()
    };
    let is_half = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // What the compiler wrapper notes of an object goes by the object.
        if name.ends_with(".cmd") || name.ends_with(".rung") {
            return false;
        }
        let Some(time) = written(path).filter(|time| *time >= since) else { return false };
        match written(&folder.join(format!(".{name}.cmd"))) {
            // Its dependencies, which are deleted as soon as they are in the command line's file.
            Some(command) => command < time || folder.join(format!(".{name}.d")).exists(),
            None => !only_with_command,
        }
    };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(is_half).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// An object folder with a mark, and these files, each so many seconds after the mark.
    fn folder(files: &[(&str, i64)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let marked = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        mark(folder.path()).unwrap();
        for (name, after) in files.iter().chain([&(MARK, 0)]) {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let file = fs::File::options().create(true).append(true).open(path).unwrap();
            let (offset, is_before) = (Duration::from_secs(after.unsigned_abs()), *after < 0);
            file.set_modified(if is_before { marked - offset } else { marked + offset }).unwrap();
        }
        folder
    }

    #[test]
    fn what_an_older_command_line_vouches_for_goes_and_what_is_whole_stays() {
        let files = [
            ("net/old.o", -9, true),
            ("net/.old.o.cmd", -8, true),
            ("net/whole.o", 3, true),
            ("net/.whole.o.cmd", 3, true),
            ("net/half.o", 4, false),
            ("net/.half.o.cmd", -8, true),
            ("net/fresh.o", 4, false),
            ("net/half_a_command.o", 4, false),
            ("net/.half_a_command.o.cmd", 4, true),
            ("net/.half_a_command.o.d", 4, false),
            ("net/whole.o.rung", 3, true),
            ("lib/crc32table.h", 2, false),
            ("include/config/NET", 2, true),
            ("kdbg/cc", 2, true),
            (".config", 1, true),
            ("vmlinux", 5, false),
            (".vmlinux.cmd", -1, true),
        ];
        let folder = folder(&files.map(|(name, after, _)| (name, after)));
        assert_eq!(repair(folder.path()).unwrap(), Left::Halves(6));
        for (name, _, stays) in files {
            assert_eq!(folder.path().join(name).exists(), stays, "{name}");
        }
        assert_eq!(repair(folder.path()).unwrap(), Left::Nothing, "the mark is gone");
    }

    #[test]
    fn a_make_that_ended_leaves_nothing_to_repair() {
        let folder = folder(&[("net/half.o", 4)]);
        unmark(folder.path());
        assert_eq!(repair(folder.path()).unwrap(), Left::Nothing);
        assert!(folder.path().join("net/half.o").exists());
    }

    #[test]
    fn of_a_build_in_which_the_machine_went_down_nothing_is_kept() {
        for boot in ["another boot", ""] {
            let folder = folder(&[("net/whole.o", -2), ("net/.whole.o.cmd", -1)]);
            fs::write(folder.path().join(MARK), boot).unwrap();
            assert_eq!(repair(folder.path()).unwrap(), Left::Crash);
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }
}
