//! A pack in the making.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};

use super::{About, FORMAT, Hashing, Listed, MANIFEST, Manifest};
use crate::error::{Error, IoContext, Result};

/// How hard zstd tries: a third less than at level 1 for a vmlinux, in a few seconds.
const LEVEL: i32 = 6;

/// What becomes an entry.
#[derive(Debug, Clone)]
pub enum Content {
    /// A file as it is.
    File(PathBuf),
    /// A text.
    Text(String),
}

impl Content {
    fn open(&self) -> Result<Box<dyn Read + '_>> {
        Ok(match self {
            Content::File(path) => {
                Box::new(BufReader::new(File::open(path).or_host(format!("open {}", path.display()))?))
            }
            Content::Text(text) => Box::new(text.as_bytes()),
        })
    }

    fn listed(&self) -> io::Result<Listed> {
        let mut reader = Hashing::new(self.open().map_err(|error| io::Error::other(error.message))?);
        io::copy(&mut reader, &mut io::sink())?;
        Ok(reader.listed())
    }

    fn name(&self) -> String {
        match self {
            Content::File(path) => path.display().to_string(),
            Content::Text(_) => "a text".into(),
        }
    }
}

/// Writes a pack: `files` by their paths in it, in a folder of this name. Those whose paths are too long for `tar` are left out;
/// the paths are returned.
///
/// # Errors
/// A file cannot be read or changes meanwhile; the pack cannot be written.
pub fn write(about: &About, folder: &str, files: &BTreeMap<String, Content>, pack: &File) -> Result<Vec<String>> {
    let mut left_out = Vec::new();
    let mut listed = BTreeMap::new();
    for (path, content) in files {
        match header(folder, path, 0) {
            Ok(_) => {
                let what = content.listed().or_host(format!("read {}", content.name()))?;
                listed.insert(path.clone(), what);
            }
            Err(_) => left_out.push(path.clone()),
        }
    }
    let manifest = Manifest { pack: FORMAT, about: about.clone(), files: listed };
    let json = serde_json::to_string_pretty(&manifest).map_err(|error| Error::host(error.to_string()))? + "\n";
    let doing = "write the pack";
    let mut packed = zstd::stream::Encoder::new(pack, LEVEL).or_host(doing)?;
    packed.include_checksum(true).or_host(doing)?;
    let mut archive = Builder::new(packed);
    let own = header(folder, MANIFEST, json.len() as u64).or_host(doing)?;
    archive.append(&own, json.as_bytes()).or_host(doing)?;
    for (path, what) in &manifest.files {
        let Some(content) = files.get(path) else { continue };
        let header = header(folder, path, what.size).or_host(doing)?;
        let mut reader = Hashing::new(content.open()?.take(what.size));
        archive.append(&header, &mut reader).or_host(doing)?;
        if reader.listed() != *what {
            let changed = Error::usage(format!("{} has changed while it was packed", content.name()));
            return Err(changed.hint("wait until the run is over, and pack it then"));
        }
    }
    let packed = archive.into_inner().or_host(doing)?;
    packed.finish().and_then(|mut file| file.flush()).or_host(doing)?;
    Ok(left_out)
}

/// The same whoever packs, and when.
fn header(folder: &str, path: &str, size: u64) -> io::Result<Header> {
    let mut header = Header::new_ustar();
    header.set_path(Path::new(folder).join(path))?;
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o600);
    header.set_size(size);
    header.set_mtime(0);
    header.set_cksum();
    Ok(header)
}
