//! Source lines out of a kernel tree, for [`super::markdown`].
//!
//! Reads files below one folder and nothing else: a path that leaves the tree, by `..` or by a symbolic link, has no
//! lines. Never writes.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use super::markdown::Sources;

/// The largest source file that is read; the kernel's generated headers can be larger and are not worth it.
const MAX_FILE: u64 = 4 << 20;

/// How many files are kept in memory; a stack rarely touches more.
const MAX_CACHED: usize = 64;

/// A file's lines, or none when it cannot be had.
type Lines = Option<Rc<[String]>>;

/// The sources of one kernel, each file read once.
#[derive(Debug)]
pub struct KernelTree {
    root: PathBuf,
    cache: RefCell<HashMap<String, Lines>>,
}

impl KernelTree {
    /// The tree at `root`. It need not exist: a tree that is gone simply has no lines.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        KernelTree { root: root.into(), cache: RefCell::default() }
    }

    fn lines(&self, file: &str) -> Lines {
        if let Some(known) = self.cache.borrow().get(file) {
            return known.clone();
        }
        let lines = self.read(file);
        let mut cache = self.cache.borrow_mut();
        if cache.len() >= MAX_CACHED {
            cache.clear();
        }
        cache.insert(file.to_owned(), lines.clone());
        lines
    }

    fn read(&self, file: &str) -> Lines {
        let text = read_bounded(&self.path(file)?).ok()?;
        Some(text.lines().map(str::to_owned).collect())
    }

    /// Where `file` is, if that is inside the tree.
    pub fn path(&self, file: &str) -> Option<PathBuf> {
        let inside = Path::new(file).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        let path = self.root.join(file).canonicalize().ok()?;
        (inside && path.starts_with(self.root.canonicalize().ok()?) && path.is_file()).then_some(path)
    }
}

impl Sources for KernelTree {
    fn excerpt(&self, file: &str, line: u32, around: u32) -> Option<Vec<(u32, String)>> {
        let lines = self.lines(file)?;
        let first = line.saturating_sub(around).max(1);
        let excerpt: Vec<(u32, String)> =
            (first..=line.saturating_add(around)).zip(lines.iter().skip(first as usize - 1).cloned()).collect();
        excerpt.iter().any(|(number, _)| *number == line).then_some(excerpt)
    }
}

fn read_bounded(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> (tempfile::TempDir, KernelTree) {
        let outer = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(outer.path().join("linux/net")).unwrap();
        std::fs::write(outer.path().join("linux/net/a.c"), "one\ntwo\nthree\nfour\nfive\n").unwrap();
        std::fs::write(outer.path().join("secret"), "secret\n").unwrap();
        std::os::unix::fs::symlink("../secret", outer.path().join("linux/link")).unwrap();
        let tree = KernelTree::new(outer.path().join("linux"));
        (outer, tree)
    }

    #[test]
    fn an_excerpt_is_the_lines_around() {
        let (_outer, tree) = tree();
        let lines = |line, around| {
            tree.excerpt("net/a.c", line, around).map(|lines| lines.into_iter().map(|(n, _)| n).collect::<Vec<_>>())
        };
        assert_eq!(lines(3, 1), Some(vec![2, 3, 4]));
        assert_eq!(lines(1, 2), Some(vec![1, 2, 3]));
        assert_eq!(lines(5, 2), Some(vec![3, 4, 5]));
        assert_eq!(lines(6, 2), None, "beyond the end");
        assert_eq!(lines(0, 1), None, "lines count from 1");
        assert_eq!(tree.excerpt("./net/a.c", 2, 0), Some(vec![(2, "two".into())]));
    }

    #[test]
    fn nothing_outside_the_tree_is_read() {
        let (outer, tree) = tree();
        let absolute = outer.path().join("secret");
        for file in ["../secret", "net/../../secret", "link", "net", "missing.c", absolute.to_str().unwrap()] {
            assert_eq!(tree.excerpt(file, 1, 1), None, "{file}");
        }
    }
}
