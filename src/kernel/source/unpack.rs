//! From an archive to a tree in the cache, whole or not at all.
//!
//! What the archive says of itself is not believed: a path or a link that leads out of the tree is refused.

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{KernelSource, Shop, zst};
use crate::digest::hex;
use crate::error::{Error, IoContext, Result};
use crate::event::{Event, Events, Phase, Unit};
use crate::store::space;

pub(super) fn damaged(archive: &Path, said: &str) -> Error {
    let name = archive.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Error::kernel(format!("the source archive {} is cut short or damaged: {said}", archive.display())).hint(format!(
        "fetch it again: delete it and run kdbg once more (an installed one: `apt-get install --reinstall {}`)",
        name.trim_end_matches(".tar.xz")
    ))
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

/// Unpacks an archive (`.tar.xz`, `.tar.gz`, `.tar.zst` or `.tar`, by its content) with one top folder as `sources/<id>`; `id` makes
/// that of the kernel's version.
///
/// # Errors
/// The archive is damaged or not a kernel tree, or the disk is full; nothing stays in the cache then.
pub(super) fn unpack(archive: &Path, id: &dyn Fn(&str) -> String, shop: &Shop<'_>) -> Result<KernelSource> {
    let name = archive.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let packed = fs::metadata(archive).map_or(0, |metadata| metadata.len());
    shop.cache.needs_room(packed * packing(archive)?.factor(), format!("unpacking {name}"))?;
    shop.events.phase(Phase::Unpack, name, || {
        let stage = shop.cache.stage()?;
        extract(archive, stage.path(), shop)?;
        let top = only_folder(stage.path()).ok_or_else(|| damaged(archive, "it has no top folder"))?;
        let found = KernelSource::open(stage.path().join(&top))?;
        let place = shop.cache.path("sources").join(id(&found.version));
        stage.publish_inner(&top, &place)?;
        let source = KernelSource::open(place)?;
        let summary = format!("Linux {}", source.version);
        Ok((source, summary))
    })
}

fn extract(archive: &Path, target: &Path, shop: &Shop<'_>) -> Result<()> {
    let broken = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::StorageFull => space::disk_is_full(format!("unpacking {}", archive.display())),
        _ => damaged(archive, &innermost(&error)),
    };
    let mut reader = tar::Archive::new(decoder(archive, shop.events)?);
    for entry in reader.entries().map_err(broken)? {
        shop.cancel.check()?;
        let mut entry = entry.map_err(broken)?;
        if let Some(path) = escape(&entry) {
            return Err(hostile(archive, &path));
        }
        if !entry.unpack_in(target).map_err(broken)? {
            return Err(hostile(archive, &entry.path().unwrap_or_default()));
        }
    }
    // tar stops at the end mark; what follows tells whether the file is whole.
    std::io::copy(&mut reader.into_inner(), &mut std::io::sink()).map(drop).map_err(broken)
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

fn hostile(archive: &Path, path: &Path) -> Error {
    let message = format!("the source archive {} holds a path that leads out of it", archive.display());
    Error::kernel(format!("{message}: {}", path.display()))
        .hint("no kernel is packed like that: do not trust this archive")
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
fn packing(archive: &Path) -> Result<Packing> {
    let doing = || format!("read {}", archive.display());
    let mut beginning = Vec::new();
    File::open(archive).or_host(doing())?.take(264).read_to_end(&mut beginning).or_host(doing())?;
    if beginning.starts_with(b"\xfd7zXZ\0") {
        return Ok(Packing::Xz);
    }
    if beginning.starts_with(b"\x1f\x8b") {
        return Ok(Packing::Gzip);
    }
    if beginning.starts_with(b"\x28\xb5\x2f\xfd") {
        return Ok(Packing::Zst);
    }
    if beginning.get(257..262) == Some(b"ustar") {
        return Ok(Packing::Plain);
    }
    if beginning.len() < 264 && archive.extension().is_some_and(|extension| extension == "xz" || extension == "gz") {
        return Err(damaged(archive, "it is nearly empty"));
    }
    Err(Error::kernel(format!("{} is not an archive that kdbg unpacks", archive.display()))
        .hint("name a kernel tree packed as .tar.xz, .tar.gz, .tar.zst or .tar"))
}

/// The tar stream in an archive, whatever it is compressed with.
fn decoder<'e>(archive: &Path, events: &'e Events) -> Result<Box<dyn Read + 'e>> {
    let packing = packing(archive)?;
    let file = File::open(archive).or_host(format!("read {}", archive.display()))?;
    let total = file.metadata().map(|metadata| metadata.len()).ok();
    let counted = Counted { inner: BufReader::with_capacity(1 << 20, file), done: 0, said: 0, total, events };
    Ok(match packing {
        Packing::Xz => Box::new(liblzma::read::XzDecoder::new_multi_decoder(counted)),
        Packing::Gzip => Box::new(flate2::read::MultiGzDecoder::new(counted)),
        Packing::Zst => {
            let frames = zst::Frames::new(BufReader::new(counted));
            Box::new(frames.map_err(|error| damaged(archive, &innermost(&error)))?)
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
