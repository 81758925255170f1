//! From an archive to a tree in the cache, whole or not at all.
//!
//! An archive (`.tar.xz`, `.tar.gz`, `.tar.zst` or `.tar`, told by its content) has one top folder, the tree. What it says
//! of itself is not believed: a path or a link that leads out of the tree is refused.

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{KernelSource, Shop, fingerprint, links, zst};
use crate::digest::hex;
use crate::error::{Error, IoContext, Result};
use crate::event::{Event, Events, Phase, Unit};
use crate::store::space;

/// An archive, and how people call it.
pub(super) struct Packed<'a> {
    path: &'a Path,
    called: String,
    /// What to do about one that is damaged.
    again: String,
}

impl<'a> Packed<'a> {
    /// One of the user's.
    pub(super) fn mine(path: &'a Path) -> Packed<'a> {
        let again = "fetch or pack it again".into();
        Packed { path, called: format!("the source archive {}", path.display()), again }
    }

    /// One that a package of the distribution has put there.
    pub(super) fn installed(path: &'a Path, package: &str) -> Packed<'a> {
        Packed { again: format!("install it again: `apt-get install --reinstall {package}`"), ..Packed::mine(path) }
    }

    /// One that kdbg has fetched from there, and deletes.
    pub(super) fn fetched(path: &'a Path, from: &str) -> Packed<'a> {
        let again = "fetch it again: run kdbg once more; if that does not help, what lies there is damaged".into();
        Packed { path, called: format!("the source archive from {from}"), again }
    }

    pub(super) fn damaged(&self, said: &str) -> Error {
        Error::kernel(format!("{} is cut short or damaged: {said}", self.called)).hint(self.again.clone())
    }

    fn hostile(&self, path: &Path) -> Error {
        Error::kernel(format!("{} holds a path that leads out of it: {}", self.called, path.display()))
            .hint("no kernel is packed like that: do not trust this archive")
    }
}

/// The first 16 digits of [`hash`].
pub(super) fn beginning_of_hash(path: &Path) -> Result<String> {
    hash(path).map(|hash| hash[..16].into())
}

/// The SHA-256 of a file, in hexadecimal.
pub(super) fn hash(path: &Path) -> Result<String> {
    let doing = || format!("read {}", path.display());
    let mut file = File::open(path).or_host(doing())?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer).or_host(doing())? {
            0 => return Ok(hex(hasher.finalize())),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// Unpacks an archive as `sources/<id>`; `id` makes that of the kernel's version. What is filed already under that id stays:
/// another kdbg may be building it.
///
/// # Errors
/// The archive is damaged or not a kernel tree, or the disk is full; nothing stays in the cache then.
pub(super) fn unpack(archive: &Packed<'_>, id: &dyn Fn(&str) -> String, shop: &Shop<'_>) -> Result<KernelSource> {
    let name = archive.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let packed = fs::metadata(archive.path).map_or(0, |metadata| metadata.len());
    shop.cache.needs_room(packed * packing(archive)?.factor(), format!("unpacking {name}"))?;
    shop.events.phase(Phase::Unpack, name, || {
        let stage = shop.cache.stage()?;
        let links = extract(archive, stage.path(), shop)?;
        let top = only_folder(archive, stage.path())?;
        let tree = stage.path().join(&top).canonicalize().or_host("look at what was unpacked")?;
        if let Some(link) = links.iter().find(|link| links::leads_out(&tree, &stage.path().join(link))) {
            return Err(archive.hostile(link));
        }
        let found = KernelSource::open(tree).map_err(|error| {
            let error_of = Error::kernel(format!("{} is not a kernel tree", archive.called));
            error.hint.map_or(error_of.clone(), |hint| error_of.hint(hint))
        })?;
        let id = id(&found.version);
        if shop.filed(&id).is_none() {
            fingerprint::note(&found.tree)?;
            stage.publish_inner(&top, &shop.cache.path("sources").join(&id))?;
        }
        let source = KernelSource::open(shop.cache.path("sources").join(&id))?;
        let summary = format!("Linux {}", source.version);
        Ok((source, summary))
    })
}

/// Unpacks all of it into `target`. Returns the links that are in it.
fn extract(archive: &Packed<'_>, target: &Path, shop: &Shop<'_>) -> Result<Vec<PathBuf>> {
    let broken = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::StorageFull => space::disk_is_full(format!("unpacking {}", archive.called)),
        _ => archive.damaged(&innermost(&error)),
    };
    let mut links = Vec::new();
    let mut reader = tar::Archive::new(decoder(archive, shop.events)?);
    for entry in reader.entries().map_err(broken)? {
        shop.cancel.check()?;
        let mut entry = entry.map_err(broken)?;
        if let Some(path) = escape(&entry) {
            return Err(archive.hostile(&path));
        }
        if !entry.unpack_in(target).map_err(broken)? {
            return Err(archive.hostile(&entry.path().unwrap_or_default()));
        }
        if entry.header().entry_type() == tar::EntryType::Symlink {
            links.extend(entry.path().map(std::borrow::Cow::into_owned));
        }
    }
    // tar stops at the end mark; what follows tells whether the file is whole.
    std::io::copy(&mut reader.into_inner(), &mut std::io::sink()).map_err(broken)?;
    Ok(links)
}

/// The path of an entry that would be outside the archive's folder, or is a link that leads there.
fn escape<R: Read>(entry: &tar::Entry<'_, R>) -> Option<PathBuf> {
    let path = entry.path().ok()?.into_owned();
    let target = match entry.header().entry_type() {
        tar::EntryType::Symlink => path.parent().unwrap_or(Path::new("")).join(entry.link_name().ok()??),
        tar::EntryType::Link => entry.link_name().ok()??.into_owned(),
        _ => PathBuf::new(),
    };
    // The top folder is one level; a link may not climb above it.
    let leaves = |path: &Path| {
        let mut depth = 0;
        path.components().any(|part| {
            depth += match part {
                Component::Normal(_) => 1,
                Component::ParentDir => -1,
                Component::CurDir => 0,
                Component::RootDir | Component::Prefix(_) => -1000,
            };
            depth < 0
        })
    };
    (leaves(&path) || leaves(&target)).then_some(path)
}

/// How an archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Xz,
    Gzip,
    Zst,
    Plain,
}

impl Packing {
    /// How much larger a kernel's tree is on the disk. Measured: 10.8 and 11.2 for Linux 6.1 and 6.12 as `.tar.xz`.
    pub(super) fn factor(self) -> u64 {
        match self {
            Packing::Xz => 11,
            Packing::Gzip | Packing::Zst => 7,
            Packing::Plain => 1,
        }
    }
}

/// How it is compressed, by its content.
fn packing(archive: &Packed<'_>) -> Result<Packing> {
    let doing = || format!("read {}", archive.path.display());
    let mut beginning = Vec::new();
    File::open(archive.path).or_host(doing())?.take(264).read_to_end(&mut beginning).or_host(doing())?;
    if beginning.starts_with(b"\xfd7zXZ\0") {
        return Ok(Packing::Xz);
    }
    if beginning.starts_with(b"\x1f\x8b") {
        return Ok(Packing::Gzip);
    }
    // A frame with data, or one of sixteen kinds without.
    let is_skippable = matches!(beginning[..], [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]);
    if beginning.starts_with(b"\x28\xb5\x2f\xfd") || is_skippable {
        return Ok(Packing::Zst);
    }
    if beginning.get(257..262) == Some(b"ustar") {
        return Ok(Packing::Plain);
    }
    if beginning.len() < 264 && archive.path.extension().is_some_and(|extension| extension == "xz" || extension == "gz")
    {
        return Err(archive.damaged("it is nearly empty"));
    }
    Err(Error::kernel(format!("{} is not an archive that kdbg unpacks", archive.called))
        .hint("name a kernel tree packed as .tar.xz, .tar.gz, .tar.zst or .tar"))
}

/// The tar stream in an archive, whatever it is compressed with.
fn decoder<'e>(archive: &Packed<'_>, events: &'e Events) -> Result<Box<dyn Read + 'e>> {
    let packing = packing(archive)?;
    let file = File::open(archive.path).or_host(format!("read {}", archive.path.display()))?;
    let total = file.metadata().map(|metadata| metadata.len()).ok();
    let counted = Counted { inner: BufReader::with_capacity(1 << 20, file), done: 0, said: 0, total, events };
    Ok(match packing {
        Packing::Xz => Box::new(liblzma::read::XzDecoder::new_multi_decoder(counted)),
        Packing::Gzip => Box::new(flate2::read::MultiGzDecoder::new(counted)),
        Packing::Zst => {
            let frames = zst::Frames::new(BufReader::new(counted));
            Box::new(frames.map_err(|error| archive.damaged(&innermost(&error)))?)
        }
        Packing::Plain => Box::new(counted),
    })
}

fn innermost(error: &std::io::Error) -> String {
    let mut deepest: &dyn std::error::Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

/// The one folder that was unpacked.
fn only_folder(archive: &Packed<'_>, path: &Path) -> Result<String> {
    let entries = fs::read_dir(path).or_host("look at what was unpacked")?.flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut folders: Vec<String> = folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    folders.sort();
    match &folders[..] {
        [] => Err(archive.damaged("it has no top folder")),
        [one] => Ok(one.clone()),
        [first, second, ..] => {
            let message = format!("{} has several top folders, such as `{first}` and `{second}`", archive.called);
            Err(Error::kernel(message).hint("pack the folder that holds the kernel's tree, and nothing beside it"))
        }
    }
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
