//! The files of an initramfs, and the newc archive that they become.
//!
//! Pure. The same files give the same bytes: no times, no owners, everything in the order of its path, inodes counted.
//!
//! The guest's `/bin`, `/sbin`, `/lib` and `/lib64` are links to the folders of that name in `/usr`, as on most
//! distributions now: wherever a file comes from, it has one path.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use cpio::newc;
use sha2::{Digest, Sha256};

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const DATA: u32 = 0o100_644;
const LINK: u32 = 0o120_777;
const CONSOLE: u32 = 0o020_600;
/// Folders that are links to the ones of that name in `usr`.
const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];
/// Folders that are always there.
const FOLDERS: [&str; 14] = [
    "dev",
    "etc",
    "proc",
    "root",
    "run",
    "sys",
    "tmp",
    "usr",
    "usr/bin",
    "usr/lib",
    "usr/lib64",
    "usr/sbin",
    "var",
    "var/log",
];

/// What has a path in the guest, apart from folders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    /// A file.
    File {
        /// What is in it.
        data: Vec<u8>,
        /// Whether it is a program.
        executable: bool,
    },
    /// A symbolic link to this path.
    Link(String),
}

impl Node {
    /// A file that is no program.
    pub(super) fn data(text: impl Into<Vec<u8>>) -> Node {
        Node::File { data: text.into(), executable: false }
    }

    /// A program or a library.
    pub(super) fn program(data: impl Into<Vec<u8>>) -> Node {
        Node::File { data: data.into(), executable: true }
    }
}

/// Files and links by their path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tree(BTreeMap<String, Node>);

/// The one path of what is called `path` anywhere: from the root on without the `/`, and below `usr`.
pub(super) fn place(path: &str) -> String {
    let path = path.trim_start_matches('/');
    match path.split('/').next() {
        Some(first) if MERGED.contains(&first) => format!("usr/{path}"),
        _ => path.to_owned(),
    }
}

impl Tree {
    /// Puts something at `path`, in place of what may be there.
    pub(super) fn put(&mut self, path: &str, node: Node) {
        self.0.insert(place(path), node);
    }

    /// Puts something at `path`, unless something is there.
    pub(super) fn put_absent(&mut self, path: &str, node: Node) {
        self.0.entry(place(path)).or_insert(node);
    }

    /// Whether something is at `path`.
    pub(super) fn has(&self, path: &str) -> bool {
        self.0.contains_key(&place(path))
    }

    /// The file at `path`; none for a link.
    pub(super) fn file(&self, path: &str) -> Option<&[u8]> {
        match self.0.get(&place(path))? {
            Node::File { data, .. } => Some(data),
            Node::Link(_) => None,
        }
    }

    /// About how many bytes the archive has.
    pub(super) fn size(&self) -> u64 {
        /// A header, and the padding of name and content.
        const HEADER: usize = 116;
        let bytes = |(path, node): (&String, &Node)| match node {
            Node::File { data, .. } => HEADER + path.len() + data.len(),
            Node::Link(to) => HEADER + path.len() + to.len(),
        };
        self.0.iter().map(bytes).sum::<usize>() as u64
    }

    /// Adds all of it to a hash.
    pub(super) fn hash(&self, hasher: &mut Sha256) {
        for (path, node) in &self.0 {
            let (kind, data) = match node {
                Node::File { data, executable } => (if *executable { "program" } else { "data" }, data.as_slice()),
                Node::Link(to) => ("link", to.as_bytes()),
            };
            hasher.update(format!("{kind} {} {path}\n", data.len()));
            hasher.update(data);
        }
    }

    /// Writes the archive.
    ///
    /// # Errors
    /// `out` cannot be written, or a file has more than 4 GiB.
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let mut archive = Archive { out, inode: 0 };
        for folder in MERGED {
            archive.entry(folder, LINK, None, format!("usr/{folder}").as_bytes())?;
        }
        let mut folders = BTreeSet::from(FOLDERS);
        for path in self.0.keys() {
            folders.extend(path.match_indices('/').map(|(at, _)| &path[..at]));
        }
        // In this order each folder comes before what is in it.
        for folder in folders {
            archive.entry(folder, DIRECTORY, None, &[])?;
        }
        // The kernel opens it for /init before devtmpfs is mounted.
        archive.entry("dev/console", CONSOLE, Some((5, 1)), &[])?;
        for (path, node) in &self.0 {
            match node {
                Node::File { data, executable: true } => archive.entry(path, PROGRAM, None, data)?,
                Node::File { data, executable: false } => archive.entry(path, DATA, None, data)?,
                Node::Link(to) => archive.entry(path, LINK, None, to.as_bytes())?,
            }
        }
        newc::trailer(out).map(drop)
    }
}

struct Archive<'w, W: Write> {
    out: &'w mut W,
    inode: u32,
}

impl<W: Write> Archive<'_, W> {
    fn entry(&mut self, name: &str, mode: u32, device: Option<(u32, u32)>, data: &[u8]) -> io::Result<()> {
        self.inode += 1;
        let links = if mode == DIRECTORY { 2 } else { 1 };
        let mut builder = newc::Builder::new(name).ino(self.inode).mode(mode).nlink(links);
        if let Some((major, minor)) = device {
            builder = builder.rdev_major(major).rdev_minor(minor);
        }
        let size = u32::try_from(data.len()).map_err(io::Error::other)?;
        let mut writer = builder.write(&mut *self.out, size);
        writer.write_all(data)?;
        writer.finish().map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(tree: &Tree) -> Vec<u8> {
        let mut bytes = Vec::new();
        tree.write(&mut bytes).unwrap();
        bytes
    }

    /// Name, mode, time and data of each entry.
    fn entries(archive: Vec<u8>) -> Vec<(String, u32, u32, Vec<u8>)> {
        let mut rest: Box<dyn io::Read> = Box::new(io::Cursor::new(archive));
        let mut entries = Vec::new();
        loop {
            let mut reader = newc::Reader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                return entries;
            }
            let (name, mode, time) = (reader.entry().name().to_string(), reader.entry().mode(), reader.entry().mtime());
            let mut data = Vec::new();
            io::Read::read_to_end(&mut reader, &mut data).unwrap();
            entries.push((name, mode, time, data));
            rest = reader.finish().unwrap();
        }
    }

    #[test]
    fn an_archive_reads_back_and_is_the_same_whatever_the_order() {
        let files = [("bin/busybox", Node::program([1, 2, 3])), ("/sbin/ip", Node::Link("../bin/ip".into()))];
        let (mut tree, mut other) = (Tree::default(), Tree::default());
        files.iter().for_each(|(path, node)| tree.put(path, node.clone()));
        files.iter().rev().for_each(|(path, node)| other.put(path, node.clone()));
        assert_eq!(archive(&tree), archive(&other));
        let entries = entries(archive(&tree));
        let at = |name: &str| entries.iter().position(|entry| entry.0 == name).unwrap();
        assert_eq!(entries[at("usr/bin/busybox")], ("usr/bin/busybox".into(), PROGRAM, 0, vec![1, 2, 3]));
        assert_eq!(entries[at("usr/sbin/ip")], ("usr/sbin/ip".into(), LINK, 0, b"../bin/ip".to_vec()));
        assert_eq!(entries[at("sbin")], ("sbin".into(), LINK, 0, b"usr/sbin".to_vec()));
        assert_eq!(entries[at("dev/console")].1, CONSOLE);
        assert!(at("usr") < at("usr/bin") && at("usr/bin") < at("usr/bin/busybox"));
    }

    #[test]
    fn every_difference_is_in_the_hash() {
        let hash = |files: &[(&str, Node)]| {
            let (mut tree, mut hasher) = (Tree::default(), Sha256::new());
            files.iter().for_each(|(path, node)| tree.put(path, node.clone()));
            tree.hash(&mut hasher);
            hasher.finalize()
        };
        let hashes = [
            hash(&[("a", Node::data("x"))]),
            hash(&[("b", Node::data("x"))]),
            hash(&[("a", Node::data("y"))]),
            hash(&[("a", Node::program("x"))]),
            hash(&[("a", Node::Link("x".into()))]),
            hash(&[]),
        ];
        assert_eq!(hashes.iter().collect::<BTreeSet<_>>().len(), hashes.len());
        assert_eq!(hash(&[("/bin/a", Node::data("x"))]), hash(&[("usr/bin/a", Node::data("x"))]));
    }
}
