//! A pack that somebody has sent.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use tar::{Archive, Entry, EntryType};

use super::{About, FORMAT, Hashing, LONGEST, MANIFEST, MOST, Manifest};
use crate::error::{Error, IoContext, Result};
use crate::report::text::{printable, size};
use crate::store::space;

/// What everything that is compressed with zstd begins with (RFC 8878, 3.1.1).
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// How much there may be behind the last entry, in bytes: `tar` fills up to records of 10 KiB.
const TAIL: u64 = 1 << 20;

/// Whether a file begins as a pack does.
pub fn is_pack(path: &Path) -> bool {
    let mut magic = [0; 4];
    File::open(path).is_ok_and(|mut file| file.read_exact(&mut magic).is_ok()) && magic == MAGIC
}

/// What the folder says of itself that somebody has made of a pack; none where it is another folder, or says nothing that
/// is understood.
pub fn about(folder: &Path) -> Option<About> {
    let mut text = Vec::new();
    File::open(folder.join(MANIFEST)).ok()?.take(LONGEST).read_to_end(&mut text).ok()?;
    serde_json::from_slice::<Manifest>(&text)
        .ok()
        .filter(|manifest| manifest.pack == FORMAT)
        .map(|manifest| manifest.about)
}

/// Unpacks into an empty folder. Gives what is packed.
///
/// # Errors
/// It is no pack, damaged, or cut off; an entry is none that a pack may have; there is no room.
pub fn unpack(pack: &Path, into: &Path) -> Result<About> {
    let doing = format!("read {}", pack.display());
    let file = File::open(pack).or_host(&doing)?;
    Unpacking { pack, into }.all(BufReader::new(file)).map_err(|failure| match failure {
        Failure::Refused(why) => Error::usage(format!("{} is refused: {}", pack.display(), printable(&why)))
            .hint("have it sent again: `kdbg pack RUN` makes one"),
        Failure::Told(error) => error,
    })
}

/// Why it did not come to a folder.
enum Failure {
    /// For what it is.
    Refused(String),
    /// For something else.
    Told(Error),
}

fn refused<T>(why: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Refused(why.into()))
}

struct Unpacking<'a> {
    pack: &'a Path,
    into: &'a Path,
}

type Unpacked<'a, R> = zstd::stream::Decoder<'a, R>;

impl Unpacking<'_> {
    fn all(&self, file: BufReader<File>) -> Result<About, Failure> {
        if !is_pack(self.pack) {
            return refused("it is not compressed with zstd, so it is no pack");
        }
        let unpacked: Unpacked<'_, _> = zstd::stream::Decoder::with_buffer(file)?;
        let mut archive = Archive::new(unpacked);
        // Raw: an entry that says the name of the next one, however long, is none that a pack has.
        let mut entries = archive.entries()?.raw(true);
        let first = entries.next().ok_or_else(|| Failure::Refused("it is empty".into()))?;
        let (folder, manifest) = manifest(first?)?;
        self.fits(&manifest)?;
        let mut left: BTreeSet<&String> = manifest.files.keys().collect();
        for entry in entries {
            let mut entry = entry?;
            let path = path_of(&entry, Some(&folder))?;
            let name = path.to_string_lossy();
            let Some(listed) = manifest.files.get(&*name).filter(|_| left.remove(&name.to_string())) else {
                return refused(format!("{name} is not in its list, or there twice"));
            };
            if entry.size() != listed.size {
                return refused(format!("{name} is not as long as its list says"));
            }
            let mut reader = Hashing::new(&mut entry);
            self.file(&path, &mut reader)?;
            if reader.listed() != *listed {
                return refused(format!("{name} is damaged: its content is not what was packed"));
            }
        }
        if let Some(missing) = left.first() {
            return refused(format!("{missing} is missing: it is cut off"));
        }
        // The checksum is at the end.
        let tail = io::copy(&mut archive.into_inner().take(TAIL), &mut io::sink())?;
        if tail == TAIL { refused("there is more in it than its list says") } else { Ok(manifest.about) }
    }

    /// Whether there is room for what the list says that there is.
    fn fits(&self, manifest: &Manifest) -> Result<(), Failure> {
        if manifest.files.len() > MOST {
            return refused(format!("its list has {} files", manifest.files.len()));
        }
        let needed = manifest.files.values().try_fold(0_u64, |sum, file| sum.checked_add(file.size));
        let there = space::free(self.into).map_err(Failure::Told)?;
        if needed.is_some_and(|needed| needed <= there) {
            return Ok(());
        }
        let needed = needed.map_or("more than there can be".into(), size);
        let message = format!("{} unpacks to {needed}, and there is room for {}", self.pack.display(), size(there));
        Err(Failure::Told(Error::host(message).hint("free some space: `kdbg cache gc` does in the cache")))
    }

    fn file(&self, path: &Path, content: &mut impl Read) -> Result<(), Failure> {
        let place = self.into.join(path);
        let doing = || format!("unpack {}", path.display());
        let told = |result: io::Result<()>| result.or_host(doing()).map_err(Failure::Told);
        told(place.parent().map_or(Ok(()), fs::create_dir_all))?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&place);
        let mut file = file.or_host(doing()).map_err(Failure::Told)?;
        let mut buffer = vec![0; 1 << 16];
        loop {
            match content.read(&mut buffer)? {
                0 => return Ok(()),
                count => told(io::Write::write_all(&mut file, &buffer[..count]))?,
            }
        }
    }
}

/// What is not compressed as it was, or ends too early.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Failure::Refused("it is cut off".into()),
            _ => Failure::Refused(format!("it is damaged, or no pack: {error}")),
        }
    }
}

/// The list, and the folder that everything is in.
fn manifest<R: Read>(mut entry: Entry<'_, R>) -> Result<(PathBuf, Manifest), Failure> {
    let path = path_of(&entry, None)?;
    let folder = match (path.parent(), path.file_name()) {
        (Some(folder), Some(name)) if name == MANIFEST && folder.components().count() == 1 => folder.to_path_buf(),
        _ => return refused(format!("it does not begin with {MANIFEST}, so it is no pack of kdbg's")),
    };
    if entry.size() > LONGEST {
        return refused(format!("its {MANIFEST} has {} bytes", entry.size()));
    }
    let mut text = Vec::new();
    entry.read_to_end(&mut text)?;
    let wrong = |error: serde_json::Error| Failure::Refused(format!("its {MANIFEST} is not understood: {error}"));
    let json: serde_json::Value = serde_json::from_slice(&text).map_err(wrong)?;
    match json.get("pack").and_then(serde_json::Value::as_u64) {
        Some(format) if format == u64::from(FORMAT) => {}
        Some(format) => return refused(format!("it is of format {format}, and this kdbg reads format {FORMAT}")),
        None => return refused(format!("its {MANIFEST} does not say its format")),
    }
    Ok((folder, serde_json::from_value(json).map_err(wrong)?))
}

/// Where an entry belongs, below the folder if that is known: it is a plain file, and inside.
fn path_of<R: Read>(entry: &Entry<'_, R>, folder: Option<&Path>) -> Result<PathBuf, Failure> {
    let path = entry.path()?.into_owned();
    if entry.header().entry_type() != EntryType::Regular {
        return refused(format!("{} is no plain file", path.display()));
    }
    if path.to_str().is_none_or(|path| printable(path) != path) {
        return refused(format!("{} has a name that does not show on a terminal", path.display()));
    }
    if !path.components().all(|part| matches!(part, Component::Normal(_))) {
        return refused(format!("{} does not stay in its folder", path.display()));
    }
    match folder {
        None => Ok(path),
        Some(folder) => match path.strip_prefix(folder) {
            Ok(inside) if inside != Path::new("") => Ok(inside.to_path_buf()),
            _ => refused(format!("{} does not stay in its folder", path.display())),
        },
    }
}
