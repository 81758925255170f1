//! Some packages with all that they depend on, unpacked in the cache: what an image takes its files from.
//!
//! A set that is filed is not looked for again, even where newer packages have come since.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Apt;
use super::download::Download;
use crate::digest::sha256;
use crate::error::{Error, IoContext, Result};
use crate::event::{Cancel, Events, Phase};
use crate::process::Tool;
use crate::spelling;
use crate::store::{Cache, Lock, seal, space};

/// What is known of a set, in its folder.
const FACTS: &str = "set.json";
/// Part of every key: another way of unpacking is another set.
const LAYOUT: &str = "kdbg packages 1";
/// How much more than their size packages take while they are fetched and unpacked.
const TIMES: u64 = 5;
/// Folders that no guest has a use for.
const UNREAD: [&str; 10] = [
    "usr/share/doc",
    "usr/share/man",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/lintian",
    "usr/share/bash-completion",
    "usr/share/zsh",
    "usr/share/bug",
    "lib/systemd",
    "usr/lib/systemd",
];

/// Packages, unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    folder: PathBuf,
    /// All of them, by name.
    pub packages: Vec<Package>,
}

/// A package of a set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The SHA-256 of the `.deb`.
    pub sha256: String,
    /// Asked for, and not only needed by those that are: of the others only the libraries are kept.
    pub asked: bool,
}

/// Why there is no set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfound {
    /// This host has no apt.
    NoApt,
    /// apt knows no such package, or not in that version.
    Unknown {
        /// As it was asked for.
        name: String,
        /// What there is instead, for people.
        helps: Vec<String>,
    },
    /// Something failed.
    Failed(Error),
}

impl From<Error> for Unfound {
    fn from(error: Error) -> Self {
        Unfound::Failed(error)
    }
}

impl Set {
    /// The packages called `names` (or `NAME=VERSION`) with all that they need: filed, or fetched and filed.
    ///
    /// # Errors
    /// See [`Unfound`].
    pub fn obtain(names: &[&str], cache: &Cache, events: &Events, cancel: &Cancel) -> Result<Set, Unfound> {
        let folder = place(names, cache);
        if let Some(set) = Set::open(&folder, cache) {
            return Ok(set);
        }
        let host = Apt::host().ok_or(Unfound::NoApt)?;
        let _lock = cache.lock("packages", cancel, || {
            events.warn("another kdbg is fetching packages; waiting for it");
        })?;
        if let Some(set) = Set::open(&folder, cache) {
            return Ok(set);
        }
        let (apt, files, _lists) = resolve(host, names, cache, events, cancel)?;
        let size = files.iter().map(|file| file.size).sum();
        cache.needs_room(TIMES * size, "unpacking the image's packages")?;
        let (stage, work) = (cache.stage()?, cache.stage()?);
        let debs = events.phase(Phase::Fetch, format!("packages: {}", names.join(", ")), || {
            let debs = apt.download_closure(names, size, work.path(), events, cancel)?;
            Ok((debs, format!("{} packages ({} MB)", files.len(), size / 1_000_000)))
        })?;
        events.phase(Phase::Unpack, format!("{} packages", files.len()), || {
            let packages = unpack(&files, names, &debs, stage.path(), cancel)?;
            let facts = serde_json::to_vec_pretty(&packages).map_err(|error| Error::host(error.to_string()))?;
            fs::write(stage.path().join(FACTS), facts).or_host(format!("write {FACTS}"))?;
            seal::seal(stage.path())?;
            stage.publish(&folder)?;
            Ok(((), "unpacked".into()))
        })?;
        Ok(Set::open(&folder, cache).ok_or_else(|| Error::host("the packages just unpacked cannot be read"))?)
    }

    /// The set of these packages, if it was filed before.
    pub fn filed(names: &[&str], cache: &Cache) -> Option<Set> {
        Set::open(&place(names, cache), cache)
    }

    /// The set in `folder` of the cache, if it is whole; kdbg holds it then.
    fn open(folder: &Path, cache: &Cache) -> Option<Set> {
        (cache.hold(folder) && seal::damage(folder).is_none()).then_some(())?;
        Set::look(folder)
    }

    /// Reads what is known of the set in `folder`, without using it.
    pub fn look(folder: &Path) -> Option<Set> {
        let packages = serde_json::from_slice(&fs::read(folder.join(FACTS)).ok()?).ok()?;
        Some(Set { folder: folder.into(), packages })
    }

    /// Where a package's files are.
    pub fn tree(&self, package: &Package) -> PathBuf {
        self.folder.join(&package.name)
    }
}

/// Where the set of these packages is, in whatever order they are named.
fn place(names: &[&str], cache: &Cache) -> PathBuf {
    let names: BTreeSet<&str> = names.iter().copied().collect();
    let names = names.into_iter().collect::<Vec<_>>().join("\n");
    cache.path("packages").join(&sha256(format!("{LAYOUT}\n{names}"))[..12])
}

/// What apt would download, and which apt: the host's, or one of kdbg's own where the host's has no lists, or old ones; the
/// lock keeps the lists of that one until the download has ended.
fn resolve(
    host: Apt,
    names: &[&str],
    cache: &Cache,
    events: &Events,
    cancel: &Cancel,
) -> Result<(Apt, Vec<Download>, Option<Lock>), Unfound> {
    let said = match host.closure(names, cancel)? {
        Ok(files) => return Ok((host, files, None)),
        Err(said) => said,
    };
    let lock = cache.lock("sources", cancel, || events.warn("another kdbg is fetching; waiting for it"))?;
    if let Ok(Some(apt)) = Apt::with_backports(cache, events, cancel) {
        match apt.closure(names, cancel)? {
            Ok(files) => return Ok((apt, files, Some(lock))),
            Err(said) => return Err(explain(&apt, names, &said, cancel)?),
        }
    }
    Err(explain(&host, names, &said, cancel)?)
}

/// Which name apt does not know; where it knows them all, what it said.
fn explain(apt: &Apt, names: &[&str], said: &str, cancel: &Cancel) -> Result<Unfound> {
    for name in names {
        let (package, version) = name.split_once('=').map_or((*name, None), |(name, version)| (name, Some(version)));
        let candidate = apt.candidate(package, cancel)?;
        let help = match (&candidate, version) {
            (Some(candidate), Some(version)) if said.contains(version) => {
                Some(format!("apt has {package}={candidate}"))
            }
            (Some(_), _) => continue,
            (None, _) => {
                let start: String = package.chars().take(3).collect();
                spelling::did_you_mean(package, apt.beginning(&start, cancel)?.iter().map(String::as_str))
            }
        };
        let update = (candidate.is_none()).then(|| "`apt-get update` tells apt what there is".to_owned());
        return Ok(Unfound::Unknown { name: (*name).into(), helps: help.into_iter().chain(update).collect() });
    }
    Ok(Unfound::Failed(Error::host(format!("apt cannot tell what {} need: {said}", names.join(", ")))))
}

/// Unpacks each of `files`, which lie in `debs`, into a folder of its own.
fn unpack(files: &[Download], names: &[&str], debs: &Path, folder: &Path, cancel: &Cancel) -> Result<Vec<Package>> {
    let asked = |package: &str| names.iter().any(|name| name.split('=').next() == Some(package));
    let mut packages = Vec::new();
    for file in files {
        let deb = debs.join(&file.name);
        let name = file.package().to_owned();
        let tree = folder.join(&name);
        let data = fs::read(&deb).or_host(format!("read the package {}", file.name))?;
        let package = Package { version: file.version(), sha256: sha256(data), asked: asked(&name), name };
        let said =
            Tool::new("dpkg-deb").arg("-x").arg(&deb).arg(&tree).deadline(Duration::from_secs(300)).output(cancel)?;
        if !said.status.success() {
            if let Some(full) = space::full(&said.text, format!("unpacking {}", file.name)) {
                return Err(full);
            }
            return Err(Error::host(format!("the package {} cannot be unpacked: {}", file.name, said.tail(2))));
        }
        prune(&tree, !package.asked).or_host(format!("unpack {}", file.name))?;
        packages.push(package);
    }
    packages.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(packages)
}

/// Deletes what no guest has a use for; of a package that is only needed by others, all but its libraries.
fn prune(tree: &Path, only_libraries: bool) -> std::io::Result<()> {
    let mut folders = vec![tree.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let (path, name) = (entry.path(), entry.file_name());
            let below = path.strip_prefix(tree).unwrap_or(&path);
            match entry.file_type()? {
                kind if kind.is_dir() && UNREAD.iter().any(|unread| below == Path::new(unread)) => {
                    fs::remove_dir_all(&path)?;
                }
                kind if kind.is_dir() => folders.push(path),
                _ if only_libraries && !is_library(&name.to_string_lossy()) => fs::remove_file(&path)?,
                _ => {}
            }
        }
    }
    Ok(())
}

/// `libx.so`, `libx.so.1`, `libx-1.2.so`.
fn is_library(name: &str) -> bool {
    name.ends_with(".so") || name.contains(".so.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_guest_reads_goes_and_of_dependencies_all_but_libraries() {
        let folder = tempfile::tempdir().unwrap();
        let files = ["usr/lib/x/liba.so.1", "usr/bin/a", "etc/a.conf", "usr/share/doc/a/copyright", "usr/share/a/data"];
        let left = |only_libraries| {
            for file in files {
                let path = folder.path().join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, "").unwrap();
            }
            prune(folder.path(), only_libraries).unwrap();
            files.into_iter().filter(|file| folder.path().join(file).exists()).collect::<Vec<_>>()
        };
        assert_eq!(left(false), ["usr/lib/x/liba.so.1", "usr/bin/a", "etc/a.conf", "usr/share/a/data"]);
        assert_eq!(left(true), ["usr/lib/x/liba.so.1"]);
    }

    #[test]
    fn another_set_has_another_place() {
        let cache = Cache::unproved("/cache".into());
        assert_eq!(place(&["a", "b"], &cache), place(&["b", "a"], &cache));
        assert_ne!(place(&["a", "b"], &cache), place(&["ab"], &cache));
    }
}
