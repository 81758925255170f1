//! Where names and files of a kernel are looked up.

use std::path::Path;

use super::mi::{self, Values};
use super::symbols::Symbols;

/// A line of a source file, relative to the kernel tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: String,
    /// The line.
    pub line: u32,
}

/// Where names and files of a kernel are looked up.
#[derive(Debug)]
pub struct Program<'a> {
    /// Its functions.
    pub symbols: Symbols,
    /// The source tree, cut from file names; none where kdbg did not build the kernel.
    pub tree: Option<&'a Path>,
    /// The object folder, likewise.
    pub objects: Option<&'a Path>,
}

impl Program<'_> {
    /// A file name as GDB gives it, relative to the tree.
    pub fn file(&self, values: &Values) -> Option<String> {
        self.relative(values.text("fullname"), values.text("file"))
    }

    /// A path relative to the tree, or to the object folder for what the build made. Distributions compile with names
    /// that are relative to the tree, in a folder that is no more: there the name counts, not the full path.
    pub(super) fn relative(&self, full: Option<&str>, name: Option<&str>) -> Option<String> {
        let below = |path: &str, folder: Option<&Path>| {
            path.strip_prefix(folder?.to_string_lossy().as_ref()).map(|rest| rest.trim_start_matches('/').to_string())
        };
        let known = full.and_then(|full| below(full, self.tree).or_else(|| below(full, self.objects)));
        let relative = || name.filter(|name| !name.starts_with('/')).or(full).or(name).map(str::to_string);
        known.or_else(relative).map(|path| path.trim_start_matches("./").to_string())
    }

    /// A path from the debug information, with the folder that the compiler ran in before it, relative to the tree.
    pub fn source(&self, path: &str) -> Option<String> {
        // Debian's objects are in a folder of its tree: `debian/build/build_amd64_none_cloud-amd64`.
        let debian = path.split_once("debian/build/").and_then(|(_, rest)| rest.split_once('/'));
        self.relative(Some(debian.map_or(path, |(_, rest)| rest)), None)
    }

    /// Whether the kernel has freed the code at `address` when it has booted.
    pub fn is_freed(&self, address: &str) -> bool {
        mi::number(address).is_some_and(|address| self.symbols.is_freed(address))
    }

    /// `address` as a number, if it is the first of a function.
    pub fn entry(&self, address: &str) -> Option<u64> {
        let address = mi::number(address)?;
        self.symbols.containing(address).filter(|holder| holder.start == address).map(|_| address)
    }

    /// Whether `address` is the first of a function.
    pub fn is_entry(&self, address: &str) -> bool {
        self.entry(address).is_some()
    }
}
