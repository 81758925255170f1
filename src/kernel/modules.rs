//! The loadable modules of a kernel: where their files and their debug information are, and what each needs first.
//!
//! A cache entry with modules has `modules/`, shaped as `/lib/modules/<release>` (the `.ko` files as they go into a guest,
//! and `modules.builtin`), `debug/`, shaped alike (the same modules with DWARF: `X.ko`, or `X.ko.debug` as Debian calls
//! it), and `modules.json`, so that not every file has to be read again at every run. [`Modules::scan`] reads the two
//! folders, [`Modules::save`] writes the index, [`Modules::filed`] reads it.

mod index;
mod info;

use std::fs;
use std::path::{Path, PathBuf};

use object::{Object, ObjectSection};

use crate::error::{Error, IoContext, Result};
pub use index::{Index, Missing, Module, canonical};

/// The suffixes that a module's file can have.
const SUFFIXES: [&str; 3] = [".ko", ".ko.xz", ".ko.zst"];

/// The modules of a kernel; there may be none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Modules {
    /// What there is and what each needs.
    pub index: Index,
    /// The cache entry; empty where there is none.
    entry: PathBuf,
}

impl Modules {
    /// Reads `modules/` and `debug/` below `entry`. Neither has to be there.
    ///
    /// # Errors
    /// A folder or file cannot be read, or a module is no ELF file.
    pub fn scan(entry: &Path) -> Result<Modules> {
        let folder = entry.join("modules");
        let mut index = Index::default();
        if folder.is_dir() {
            let mut paths = Vec::new();
            find(&folder, Path::new(""), &mut paths)?;
            for path in paths {
                let debug = debug_file(&entry.join("debug"), &path);
                index.add(read(&folder, &path, debug.as_deref())?);
            }
            if let Ok(text) = fs::read_to_string(folder.join("modules.builtin")) {
                index.builtin.extend(text.lines().map(canonical));
            }
        }
        Ok(Modules { index, entry: entry.into() })
    }

    /// Writes `modules.json` into the entry.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self) -> Result<()> {
        let text = serde_json::to_string(&self.index).map_err(|error| Error::kernel(error.to_string()))?;
        fs::write(self.entry.join("modules.json"), text).or_host("write the index of the kernel's modules")
    }

    /// The modules of a cache entry, from its `modules.json`. An entry without that file has none.
    pub fn filed(entry: &Path) -> Option<Modules> {
        let index = match fs::read_to_string(entry.join("modules.json")) {
            Ok(text) => serde_json::from_str(&text).ok()?,
            Err(_) => Index::default(),
        };
        Some(Modules { index, entry: entry.into() })
    }

    /// The module's file, as it goes into a guest; it may be compressed.
    pub fn file(&self, module: &Module) -> PathBuf {
        self.entry.join("modules").join(&module.path)
    }

    /// The module's file with DWARF and symbols, if there is one.
    pub fn debug_file(&self, module: &Module) -> Option<PathBuf> {
        module.debug.as_ref().map(|debug| self.entry.join("debug").join(debug))
    }
}

/// All modules below a folder, in the order of their names.
fn find(root: &Path, below: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let folder = root.join(below);
    let cannot = || format!("read {}", folder.display());
    let mut entries = fs::read_dir(&folder).or_host(cannot())?.collect::<std::io::Result<Vec<_>>>().or_host(cannot())?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = below.join(entry.file_name());
        let kind = entry.file_type().or_host(cannot())?;
        let name = path.to_string_lossy();
        if kind.is_dir() {
            find(root, &path, found)?;
        } else if kind.is_file() && SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) {
            found.push(path);
        }
    }
    Ok(())
}

/// The file below `folder` that has the debug information of the module at `path`.
fn debug_file(folder: &Path, path: &Path) -> Option<PathBuf> {
    let plain = path.with_file_name(format!("{}.ko", stem(path)));
    [plain.clone(), plain.with_extension("ko.debug")].into_iter().find(|path| folder.join(path).is_file())
}

/// A module's file name without its suffix.
fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split_once(".ko").map_or(name.as_ref(), |(stem, _)| stem).into()
}

fn read(folder: &Path, path: &Path, debug: Option<&Path>) -> Result<Module> {
    let file = folder.join(path);
    let data = contents(&file)?;
    let wrong = |why: String| Error::kernel(format!("{} is not a kernel module: {why}", file.display()));
    let object = object::File::parse(&*data).map_err(|error| wrong(error.to_string()))?;
    let section = object.section_by_name(".modinfo").ok_or_else(|| wrong("it has no .modinfo".into()))?;
    let text = section.data().map_err(|error| wrong(error.to_string()))?;
    let shown = |path: &Path| path.to_string_lossy().into_owned();
    Ok(info::module(text, shown(path), debug.map(shown)))
}

/// A module's ELF file, decompressed if it has to be.
///
/// # Errors
/// It cannot be read, or is damaged.
pub fn contents(file: &Path) -> Result<Vec<u8>> {
    use std::io::Read;
    let data = fs::read(file).or_host(format!("read {}", file.display()))?;
    let name = file.to_string_lossy();
    let mut plain = Vec::new();
    let decompressed = if name.ends_with(".xz") {
        liblzma::read::XzDecoder::new(&*data).read_to_end(&mut plain)
    } else if name.ends_with(".zst") {
        ruzstd::decoding::StreamingDecoder::new(&*data)
            .map_err(std::io::Error::other)
            .and_then(|mut decoder| decoder.read_to_end(&mut plain))
    } else {
        return Ok(data);
    };
    decompressed.or_host(format!("decompress {}", file.display()))?;
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn compressed_modules_are_read_as_plain_ones() {
        let folder = tempfile::tempdir().unwrap();
        let elf = b"\x7fELF and more".repeat(100);
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(&elf).unwrap();
        let zst = ruzstd::encoding::compress_to_vec(&*elf, ruzstd::encoding::CompressionLevel::Fastest);
        for (name, bytes) in [("a.ko", elf.clone()), ("a.ko.xz", xz.finish().unwrap()), ("a.ko.zst", zst)] {
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            assert_eq!(contents(&path).unwrap(), elf, "{name}");
        }
        fs::write(folder.path().join("b.ko.xz"), "no xz").unwrap();
        assert!(contents(&folder.path().join("b.ko.xz")).unwrap_err().message.contains("b.ko.xz"));
    }

    #[test]
    fn debug_files_have_either_name() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.ko", "b.ko.debug"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let found = |path: &str| debug_file(folder.path(), Path::new(path));
        assert_eq!(found("a.ko.xz"), Some("a.ko".into()));
        assert_eq!(found("b.ko"), Some("b.ko.debug".into()));
        assert_eq!(found("c.ko"), None);
    }

    #[test]
    fn an_entry_without_modules_has_none() {
        let folder = tempfile::tempdir().unwrap();
        let scanned = Modules::scan(folder.path()).unwrap();
        assert_eq!(Modules::filed(folder.path()), Some(scanned.clone()));
        scanned.save().unwrap();
        assert_eq!(Modules::filed(folder.path()), Some(scanned));
        fs::write(folder.path().join("modules.json"), "{").unwrap();
        assert_eq!(Modules::filed(folder.path()), None, "damaged");
    }
}
