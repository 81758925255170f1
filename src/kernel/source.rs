//! Kernel sources: found in the cache, or fetched from the distribution's source package and unpacked there.
//!
//! `sources/<package>_<version>/` holds an unpacked tree, published whole; an archive that lay on the host adds the
//! beginning of its hash, `linux-source-6.1_6.1.192-1f2e3d4c`: what is in a tree decides what it is called. No root is needed: `apt-get download` fetches
//! into a folder of the cache, and apt checks the archive's hash.

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::digest::hex;
use crate::error::{Error, IoContext, Result};
use crate::event::{Cancel, Event, Events, Phase, Unit};
use crate::process::Tool;
use crate::store::Cache;

/// An unpacked kernel tree that nobody writes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelSource {
    /// Names it in keys and folders: package and package version, or package, kernel version and the archive's hash.
    pub id: String,
    /// The tree.
    pub tree: PathBuf,
    /// `VERSION.PATCHLEVEL.SUBLEVEL` of its Makefile.
    pub version: String,
}

/// Where Debian's `linux-source-*` packages put their archive when they are installed.
const INSTALLED: &str = "/usr/src";

/// The newest tree in the cache that is of `version`; nothing is fetched.
pub fn cached(version: &str, cache: &Cache) -> Option<KernelSource> {
    let entries = fs::read_dir(cache.path("sources")).ok()?;
    let mut found: Vec<KernelSource> = entries
        .flatten()
        .filter_map(|entry| KernelSource::open(entry.path()).ok())
        .filter(|source| is_of_version(&source.version, version))
        .collect();
    found.sort_by_key(|source| (number_parts(&source.version), source.id.clone()));
    found.pop()
}

/// The tree of `version`: cached, else from an installed source package, else from one that apt downloads.
///
/// # Errors
/// There is no such version, the download failed, or the archive is damaged.
pub fn obtain(version: &str, cache: &Cache, events: &Events, cancel: &Cancel) -> Result<KernelSource> {
    obtain_from(Path::new(INSTALLED), version, cache, events, cancel)
}

fn obtain_from(folder: &Path, version: &str, cache: &Cache, events: &Events, cancel: &Cancel) -> Result<KernelSource> {
    let _lock = cache.lock("sources", cancel, || {
        events.warn("another kdbg is fetching a kernel source; waiting for it");
    })?;
    if let Some(source) = cached(version, cache) {
        return Ok(source);
    }
    let series = series(version);
    let package = format!("linux-source-{series}");
    let installed = folder.join(format!("{package}.tar.xz"));
    let source = if installed.is_file() {
        let hash = beginning_of_hash(&installed)?;
        unpack(&installed, &|version| format!("{package}_{version}-{hash}"), cache, events, cancel)?
    } else {
        let stage = cache.stage()?;
        let (archive, id) = download(&package, stage.path(), events, cancel)?;
        unpack(&archive, &|_| id.clone(), cache, events, cancel)?
    };
    if is_of_version(&source.version, version) {
        return Ok(source);
    }
    Err(Error::kernel(format!("the package {package} holds Linux {}, not {version}", source.version))
        .hint(format!("write `version: \"{series}\"` to take what there is")))
}

/// Fetches `package` into `folder` and takes the archive out of it. Returns the archive and the id of the source.
fn download(package: &str, folder: &Path, events: &Events, cancel: &Cancel) -> Result<(PathBuf, String)> {
    let detail = format!("{package} by apt-get download");
    events.phase(Phase::Fetch, detail, || {
        let fetch =
            Tool::new("apt-get").args(["download", package]).directory(folder).deadline(Duration::from_secs(1800));
        let output = fetch.output(cancel)?;
        if !output.status.success() {
            return Err(no_such_package(package, &output.tail(3)));
        }
        let deb = only_file(folder, "deb")?;
        let id = deb.file_stem().map(|stem| stem.to_string_lossy().replace("_all", "")).unwrap_or_default();
        let extract = Tool::new("dpkg-deb").arg("-x").arg(&deb).arg(folder).deadline(Duration::from_secs(600));
        let output = extract.output(cancel)?;
        if !output.status.success() {
            return Err(damaged(&deb, &output.tail(2)));
        }
        let archive = folder.join("usr/src").join(format!("{package}.tar.xz"));
        let size = fs::metadata(&archive).map_err(|_| no_archive(package))?.len();
        Ok(((archive, id.clone()), format!("{id} ({} MB)", size / 1_000_000)))
    })
}

fn no_such_package(package: &str, said: &str) -> Error {
    Error::kernel(format!("apt-get cannot download {package}: {said}")).hint(
        "run `apt-get update`, then `apt-cache search linux-source` to see which versions there are; \
         a distribution without apt is not supported yet",
    )
}

fn no_archive(package: &str) -> Error {
    Error::kernel(format!("the package {package} holds no usr/src/{package}.tar.xz: it is not a kernel source"))
        .hint("`apt-cache policy` of the package tells where it comes from")
}

fn damaged(archive: &Path, said: &str) -> Error {
    let name = archive.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Error::kernel(format!("the source archive {} is cut short or damaged: {said}", archive.display())).hint(format!(
        "fetch it again: delete it and run kdbg once more (an installed one: `apt-get install --reinstall {}`)",
        name.trim_end_matches(".tar.xz")
    ))
}

fn only_file(folder: &Path, extension: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).or_host(format!("read {}", folder.display()))?;
    entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|found| found == extension))
        .ok_or_else(|| Error::kernel(format!("apt-get left no .{extension} in {}", folder.display())))
}

/// The first 8 digits of the SHA-256 of a file.
fn beginning_of_hash(path: &Path) -> Result<String> {
    let doing = || format!("read {}", path.display());
    let mut file = File::open(path).or_host(doing())?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer).or_host(doing())? {
            0 => return Ok(hex(&hasher.finalize()[..4])),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// Unpacks a `.tar.xz` with one top folder as `sources/<id>`; `id` makes that of the kernel's version.
///
/// # Errors
/// The archive is damaged or not a kernel tree, or the disk is full; nothing stays in the cache then.
pub fn unpack(
    archive: &Path,
    id: &dyn Fn(&str) -> String,
    cache: &Cache,
    events: &Events,
    cancel: &Cancel,
) -> Result<KernelSource> {
    let name = archive.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    events.phase(Phase::Unpack, name, || {
        let stage = cache.stage()?;
        extract(archive, stage.path(), events, cancel)?;
        let top = only_folder(stage.path()).ok_or_else(|| damaged(archive, "it has no top folder"))?;
        let found = KernelSource::open(stage.path().join(&top))?;
        let place = cache.path("sources").join(id(&found.version));
        stage.publish_inner(&top, &place)?;
        let source = KernelSource::open(place)?;
        let summary = format!("Linux {}", source.version);
        Ok((source, summary))
    })
}

fn extract(archive: &Path, target: &Path, events: &Events, cancel: &Cancel) -> Result<()> {
    let file = File::open(archive).or_host(format!("open {}", archive.display()))?;
    let total = file.metadata().map(|metadata| metadata.len()).ok();
    let counted = Counted { inner: BufReader::with_capacity(1 << 20, file), done: 0, said: 0, total, events };
    let mut archive_reader = tar::Archive::new(liblzma::read::XzDecoder::new_multi_decoder(counted));
    let broken = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::StorageFull => {
            Error::host(format!("the disk is full while unpacking {}", archive.display())).hint(
                "a kernel source and its build take about 4 GiB; free some, or move the cache with KDBG_CACHE_DIR",
            )
        }
        _ => damaged(archive, &innermost(&error)),
    };
    for entry in archive_reader.entries().map_err(broken)? {
        cancel.check()?;
        entry.and_then(|mut entry| entry.unpack_in(target)).map_err(broken)?;
    }
    // tar stops at the end mark; what follows tells whether the file is whole.
    std::io::copy(&mut archive_reader.into_inner(), &mut std::io::sink()).map(drop).map_err(broken)
}

fn innermost(error: &std::io::Error) -> String {
    let mut deepest: &dyn std::error::Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

fn only_folder(path: &Path) -> Option<String> {
    let mut folders = fs::read_dir(path).ok()?.flatten().filter(|entry| entry.path().is_dir());
    folders.next().map(|entry| entry.file_name().to_string_lossy().into_owned())
}

/// A reader that reports how far it is, every MiB.
struct Counted<'a> {
    inner: BufReader<File>,
    done: u64,
    said: u64,
    total: Option<u64>,
    events: &'a Events,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.done += count as u64;
        if self.done - self.said >= 1 << 20 {
            self.said = self.done;
            let (done, total) = (self.done, self.total);
            self.events.send(Event::PhaseProgress { phase: Phase::Unpack, done, total, unit: Unit::Bytes });
        }
        Ok(count)
    }
}

impl KernelSource {
    /// The tree in `path`, if it is one.
    fn open(path: PathBuf) -> Result<KernelSource> {
        // A Makefile that is not there has no version either.
        let makefile = fs::read_to_string(path.join("Makefile")).unwrap_or_default();
        let version = makefile_version(&makefile).filter(|_| path.join("Kconfig").is_file()).ok_or_else(|| {
            Error::kernel(format!("{} is not a kernel tree", path.display()))
                .hint("a kernel tree has a Kconfig file, and a Makefile that begins with its version")
        })?;
        let id = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(KernelSource { id, tree: path, version })
    }
}

/// `6.1.192` from the first lines of a kernel's Makefile.
fn makefile_version(makefile: &str) -> Option<String> {
    let value = |name: &str| {
        makefile.lines().take(12).find_map(|line| {
            let (key, value) = line.split_once('=')?;
            (key.trim() == name).then(|| value.trim().to_string())
        })
    };
    Some(format!("{}.{}.{}", value("VERSION")?, value("PATCHLEVEL")?, value("SUBLEVEL")?))
}

/// Whether `full` (6.1.192) is what `asked` (6.1 or 6.1.192) means.
fn is_of_version(full: &str, asked: &str) -> bool {
    full == asked || full.strip_prefix(asked).is_some_and(|rest| rest.starts_with('.'))
}

/// `6.1` of `6.1.192`.
fn series(version: &str) -> String {
    version.split('.').take(2).collect::<Vec<_>>().join(".")
}

fn number_parts(version: &str) -> Vec<u32> {
    version.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_match_by_whole_parts() {
        for (full, asked, expected) in [
            ("6.1.192", "6.1", true),
            ("6.1.192", "6.1.192", true),
            ("6.12.3", "6.1", false),
            ("6.1.19", "6.1.1", false),
        ] {
            assert_eq!(is_of_version(full, asked), expected, "{full} {asked}");
        }
    }

    #[test]
    fn a_makefile_tells_its_version() {
        let text = "# SPDX\nVERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 192\nEXTRAVERSION =\n";
        assert_eq!(makefile_version(text).as_deref(), Some("6.1.192"));
        assert_eq!(makefile_version("all:\n"), None);
    }

    fn archive(folder: &Path) -> PathBuf {
        let path = folder.join("linux-source-9.9.tar.xz");
        let mut tar = tar::Builder::new(liblzma::write::XzEncoder::new(File::create(&path).unwrap(), 1));
        let noise: String =
            (0..200_000u32).map(|n| char::from(b'a' + (n.wrapping_mul(2_654_435_761) >> 27) as u8 % 26)).collect();
        for (name, text) in
            [("Makefile", "VERSION = 9\nPATCHLEVEL = 9\nSUBLEVEL = 1\n"), ("Kconfig", ""), ("net/x.c", noise.as_str())]
        {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            tar.append_data(&mut header, format!("linux-source-9.9/{name}"), text.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap();
        path
    }

    fn installed(folder: &Path, cache: &Cache) -> KernelSource {
        obtain_from(folder, "9.9", cache, &Events::none(), &Cancel::default()).unwrap()
    }

    fn cache(folder: &Path) -> Cache {
        Cache::at(folder.join("cache")).unwrap()
    }

    #[test]
    fn an_archive_is_unpacked_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path());
        let archive = archive(folder.path());
        let source = installed(folder.path(), &cache);
        assert_eq!(source.version, "9.9.1");
        assert_eq!(source.id, format!("linux-source-9.9_9.9.1-{}", beginning_of_hash(&archive).unwrap()));
        assert_eq!(cached("9.9", &cache), Some(source));
        assert_eq!(cached("9.8", &cache), None);
    }

    #[test]
    fn another_archive_is_another_source() {
        let folder = tempfile::tempdir().unwrap();
        let id_of = |name: &str| installed(folder.path(), &Cache::at(folder.path().join(name)).unwrap()).id;
        let whole = fs::read(archive(folder.path())).unwrap();
        let first = id_of("a");
        assert_eq!(id_of("b"), first);
        // The same files, packed twice into one stream: only the archive's bytes differ.
        let path = folder.path().join("linux-source-9.9.tar.xz");
        let padding = liblzma::encode_all(&[0; 512][..], 1).unwrap();
        fs::write(path, [whole, padding].concat()).unwrap();
        assert_ne!(id_of("c"), first);
    }

    #[test]
    fn an_archive_cut_short_says_so_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path());
        let archive = archive(folder.path());
        let whole = fs::read(&archive).unwrap();
        for length in [whole.len() / 2, whole.len() - 8, 10] {
            fs::write(&archive, &whole[..length]).unwrap();
            let error = unpack(&archive, &|_| "x".into(), &cache, &Events::none(), &Cancel::default()).unwrap_err();
            assert!(error.message.contains("cut short or damaged"), "{length}: {error}");
            assert_eq!(error.kind, crate::error::ErrorKind::Kernel);
            assert!(cached("9.9", &cache).is_none());
            assert_eq!(fs::read_dir(cache.path("staging")).unwrap().count(), 0);
        }
    }
}
