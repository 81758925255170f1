//! What is in the cache, how large it is and when it was last used.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;

use super::Cache;

/// What an entry of the cache is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A kernel's source tree.
    Sources,
    /// The folder that a source is built in.
    Objects,
    /// A kernel that is filed, with its modules.
    Kernels,
    /// An initramfs.
    Images,
    /// Packages of the distribution, unpacked for images.
    Packages,
    /// A guest that was booted and saved.
    Templates,
    /// Package lists of kdbg's own, and archives that are not whole yet.
    Downloads,
    /// What is in the making, or was left by a kdbg that was killed.
    Unfinished,
}

impl Kind {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Kind; 8] = [
        Kind::Sources,
        Kind::Objects,
        Kind::Kernels,
        Kind::Images,
        Kind::Packages,
        Kind::Templates,
        Kind::Downloads,
        Kind::Unfinished,
    ];

    /// What people and the cache call them.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Sources => "sources",
            Kind::Objects => "objects",
            Kind::Kernels => "kernels",
            Kind::Images => "images",
            Kind::Packages => "packages",
            Kind::Templates => "templates",
            Kind::Downloads => "downloads",
            Kind::Unfinished => "unfinished",
        }
    }
}

/// An entry of the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What it is.
    pub kind: Kind,
    /// Its name in its folder.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// What it takes on the disk, in bytes.
    pub bytes: u64,
    /// When a kdbg last used it.
    pub used: SystemTime,
}

impl Cache {
    /// Everything that can be deleted from the cache and made again, by kind and name. What goes away meanwhile is left
    /// out.
    pub fn inventory(&self) -> Vec<Item> {
        let mut counted = HashSet::new();
        let mut items: Vec<Item> = Kind::ALL
            .into_iter()
            .flat_map(|kind| self.places(kind).into_iter().map(move |path| (kind, path)))
            .filter_map(|(kind, path)| {
                let used = fs::symlink_metadata(&path).ok()?.modified().ok()?;
                let name = path.file_name()?.to_string_lossy().into_owned();
                Some(Item { kind, name, bytes: disk_usage(&path, &mut counted), path, used })
            })
            .collect();
        items.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        items
    }

    fn places(&self, kind: Kind) -> Vec<PathBuf> {
        let folder = if kind == Kind::Unfinished { "staging" } else { kind.name() };
        let apt = (kind == Kind::Downloads).then(|| self.path("apt"));
        let entries = fs::read_dir(self.path(folder)).into_iter().flatten().flatten();
        // `kernels/inputs` is a memory, not a kernel.
        let entries = entries.map(|entry| entry.path()).filter(|path| !path.ends_with("kernels/inputs"));
        entries.chain(apt).collect()
    }
}

/// What `path` and all below it take on the disk. What has several names is counted where it is met first.
pub(super) fn disk_usage(path: &Path, counted: &mut HashSet<(u64, u64)>) -> u64 {
    let (mut bytes, mut left) = (0, vec![path.to_path_buf()]);
    while let Some(path) = left.pop() {
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if metadata.is_dir() {
            left.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
        if metadata.is_dir() || metadata.nlink() < 2 || counted.insert((metadata.dev(), metadata.ino())) {
            bytes += metadata.blocks() * 512;
        }
    }
    bytes
}
