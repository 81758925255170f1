//! The libraries that programs need, found without running anything: as the dynamic linker would find them, in the
//! host's folders or in unpacked packages.

use std::fs;
use std::path::{Path, PathBuf};

use super::elf::{Linkage, linkage};
use super::tree::{Node, Tree, place};

/// Where every dynamic linker looks; those of the distributions differ in which of these they know.
const USUAL: [&str; 6] =
    ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"];
/// How many symbolic links lead to a library at most.
const LINKS: usize = 16;

/// Where libraries come from.
#[derive(Debug)]
pub(super) enum Shelf {
    /// The host, with the folders that its linker knows beside the usual ones.
    Host { others: Vec<String> },
    /// Unpacked packages, which lie in these folders as they would lie in the root.
    Packages { trees: Vec<PathBuf> },
}

/// A library that is not to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lacking {
    /// Its name.
    pub(super) library: String,
    /// The path in the guest of what needs it.
    pub(super) needed_by: String,
}

impl Shelf {
    /// The host's.
    pub(super) fn host() -> Shelf {
        Shelf::Host { others: configured(Path::new("/etc/ld.so.conf"), 0) }
    }

    /// What is at `path`, which begins with `/`.
    pub(super) fn read(&self, path: &str) -> Option<Vec<u8>> {
        match self {
            Shelf::Host { .. } => fs::read(path).ok(),
            Shelf::Packages { trees } => read_in(trees, path, LINKS),
        }
    }

    /// The folders in which a library without a path is looked for.
    pub(super) fn folders(&self) -> impl Iterator<Item = &str> {
        let others = match self {
            Shelf::Host { others } => others.as_slice(),
            Shelf::Packages { .. } => &[],
        };
        others.iter().map(String::as_str).chain(USUAL)
    }

    /// The paths of the host's library called `name`, or of the libraries in the folder of that name.
    pub(super) fn libraries(&self, name: &str) -> Vec<String> {
        let path = self.folders().map(|folder| format!("{folder}/{name}")).find(|path| Path::new(path).exists());
        let Some(path) = path else { return Vec::new() };
        if Path::new(&path).is_file() {
            return vec![path];
        }
        let files = matching(&Path::new(&path).join("*.so"));
        files.iter().filter_map(|file| file.to_str().map(str::to_owned)).collect()
    }

    /// Adds what those of `programs` need, which are paths in `tree`, and what that needs; tells what is not to be found.
    pub(super) fn complete(&self, tree: &mut Tree, programs: Vec<String>) -> Vec<Lacking> {
        let (mut left, mut lacking) = (programs, Vec::new());
        while let Some(path) = left.pop() {
            let Some(linkage) = tree.file(&path).and_then(linkage) else { continue };
            let interpreter = linkage.interpreter.iter().map(|path| (path.clone(), vec![path.clone()]));
            let needed = linkage.needed.iter().map(|name| (name.clone(), self.candidates(name, &path, &linkage)));
            for (library, candidates) in interpreter.chain(needed).collect::<Vec<_>>() {
                let is_there = candidates.iter().any(|path| tree.has(path)) || is_interpreter(&library, tree);
                if is_there {
                    continue;
                }
                match candidates.iter().find_map(|path| Some((path, self.read_library(path)?))) {
                    Some((found, data)) => {
                        let found = self.in_guest(found);
                        tree.put(&found, Node::program(data));
                        left.push(place(&found));
                    }
                    None => lacking.push(Lacking { library, needed_by: format!("/{path}") }),
                }
            }
        }
        lacking
    }

    /// Where a library that `needed_by` needs may be, the likeliest first.
    fn candidates(&self, name: &str, needed_by: &str, linkage: &Linkage) -> Vec<String> {
        if name.starts_with('/') {
            return vec![name.into()];
        }
        let origin = needed_by.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("/{folder}"));
        let own = linkage.folders.iter().map(|folder| folder.replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin));
        let own: Vec<String> = own.map(|folder| plain(&folder)).collect();
        let folders = own.iter().map(String::as_str).chain(self.folders());
        folders.map(|folder| format!("{folder}/{name}")).collect()
    }

    /// A library for the right kind of machine.
    fn read_library(&self, path: &str) -> Option<Vec<u8>> {
        self.read(path).filter(|data| linkage(data).is_some())
    }

    /// Where a library goes: the guest's linker has no list of further folders.
    fn in_guest(&self, path: &str) -> String {
        let Shelf::Host { others } = self else { return path.into() };
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        if !others.iter().any(|other| other == folder) || USUAL.contains(&folder) {
            return path.into();
        }
        let home = USUAL.iter().find(|folder| Path::new(folder).join("libc.so.6").exists()).unwrap_or(&"/usr/lib");
        format!("{home}/{name}")
    }
}

/// Whether a library is the dynamic linker, which is in memory before anything needs it by name.
fn is_interpreter(name: &str, tree: &Tree) -> bool {
    name.starts_with("ld-linux") && tree.has(&format!("/lib64/{name}"))
}

/// A path without `.` and `..`.
fn plain(path: &str) -> String {
    let mut steps: Vec<&str> = Vec::new();
    for step in path.split('/').filter(|step| !matches!(*step, "" | ".")) {
        if step == ".." {
            steps.pop();
        } else {
            steps.push(step);
        }
    }
    format!("/{}", steps.join("/"))
}

/// Reads a file that may be in any of `trees`, by any of its paths, and over links from one tree into another. Each step of
/// the path is looked at: where a link leads is in the trees, and what the host has there is not read.
fn read_in(trees: &[PathBuf], path: &str, links: usize) -> Option<Vec<u8>> {
    let usual = place(&plain(path));
    for (tree, path) in trees.iter().flat_map(|tree| [(tree, usual.as_str()), (tree, usual.trim_start_matches("usr/"))])
    {
        match led_on(tree, path) {
            // `/lib` leads to `/usr/lib`, which is the same place here.
            Some(to) if place(&plain(&to)) == usual => {}
            Some(to) => return read_in(trees, &to, links.checked_sub(1)?),
            None if tree.join(path).is_file() => return fs::read(tree.join(path)).ok(),
            None => {}
        }
    }
    None
}

/// Where `path` leads by the first link on it, if there is one.
fn led_on(tree: &Path, path: &str) -> Option<String> {
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    let (end, to) = ends.filter_map(|end| Some((end, fs::read_link(tree.join(&path[..end])).ok()?))).next()?;
    let (to, rest) = (to.to_str()?, &path[end..]);
    let folder = path[..end].rsplit_once('/').map_or("", |(folder, _)| folder);
    Some(if to.starts_with('/') { format!("{to}{rest}") } else { format!("/{folder}/{to}{rest}") })
}

/// The folders in a configuration of the host's linker, and in those that it includes.
fn configured(file: &Path, depth: usize) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let mut folders = Vec::new();
    for line in text.lines().map(str::trim) {
        match line.strip_prefix("include").map(str::trim) {
            Some(pattern) if depth < 4 => {
                let included = matching(&file.parent().unwrap_or(Path::new("/")).join(pattern));
                folders.extend(included.iter().flat_map(|file| configured(file, depth + 1)));
            }
            None if line.starts_with('/') => folders.push(line.trim_end_matches('/').to_owned()),
            _ => {}
        }
    }
    folders
}

/// The files that a pattern with one `*` in its last part names, in order.
fn matching(pattern: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(name)) = (pattern.parent(), pattern.file_name().and_then(|name| name.to_str())) else {
        return Vec::new();
    };
    let Some((start, end)) = name.split_once('*') else { return vec![pattern.into()] };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut files: Vec<_> =
        names.filter(|name| name.starts_with(start) && name.ends_with(end)).map(|name| folder.join(name)).collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This test, as a program of a tree.
    fn tree() -> (Tree, Vec<String>) {
        let mut tree = Tree::default();
        tree.put("/usr/bin/test", Node::program(fs::read(std::env::current_exe().unwrap()).unwrap()));
        (tree, vec!["usr/bin/test".into()])
    }

    #[test]
    fn a_program_of_the_host_gets_its_linker_and_all_its_libraries() {
        let (mut tree, programs) = tree();
        assert_eq!(Shelf::host().complete(&mut tree, programs.clone()), []);
        assert!(tree.has("/lib64/ld-linux-x86-64.so.2"));
        let complete = tree.clone();
        assert_eq!(Shelf::host().complete(&mut tree, programs), []);
        assert_eq!(tree, complete);
    }

    #[test]
    fn what_no_package_has_is_named_with_what_needs_it() {
        let (mut tree, programs) = tree();
        let lacking = Shelf::Packages { trees: Vec::new() }.complete(&mut tree, programs);
        let expected = Lacking { library: "libc.so.6".into(), needed_by: "/usr/bin/test".into() };
        assert!(lacking.contains(&expected), "{lacking:?}");
    }

    #[test]
    fn a_link_is_followed_from_one_package_into_another_by_every_path() {
        let folder = tempfile::tempdir().unwrap();
        let trees = ["a", "b"].map(|name| folder.path().join(name)).to_vec();
        for file in ["a/lib/x/liba.so.1.2", "b/usr/lib/x/libb.so.3"] {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        for (to, from) in
            [("liba.so.1.2", "a/lib/x/liba.so.1"), ("/lib/x/libb.so.3", "a/lib/x/libb.so"), ("r", "a/lib/x/r")]
        {
            std::os::unix::fs::symlink(to, folder.path().join(from)).unwrap();
        }
        let read = |path: &str| read_in(&trees, path, LINKS).map(|data| String::from_utf8(data).unwrap());
        assert_eq!(read("/lib/x/liba.so.1").as_deref(), Some("a/lib/x/liba.so.1.2"));
        assert_eq!(read("/usr/lib/y/../x/liba.so.1"), read("/lib/x/liba.so.1"));
        assert_eq!(read("/usr/lib/x/libb.so").as_deref(), Some("b/usr/lib/x/libb.so.3"));
        assert_eq!((read("/lib/x/libc.so"), read("/lib/x/r")), (None, None));
    }

    #[test]
    fn a_link_to_a_folder_leads_to_none_of_the_host() {
        let (host, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(host.path().join("liba.so"), "the host's").unwrap();
        let own = folder.path().join(host.path().strip_prefix("/").unwrap());
        let trees = [folder.path().to_path_buf()];
        fs::create_dir_all(folder.path().join("usr/lib")).unwrap();
        for (from, to) in [("usr/lib/x", host.path()), ("lib", Path::new("usr/lib"))] {
            std::os::unix::fs::symlink(to, folder.path().join(from)).unwrap();
        }
        let read = || read_in(&trees, "/lib/x/liba.so", LINKS).map(|data| String::from_utf8(data).unwrap());
        assert_eq!(read(), None);
        fs::create_dir_all(&own).unwrap();
        fs::write(own.join("liba.so"), "the package's").unwrap();
        assert_eq!(read().as_deref(), Some("the package's"));
    }

    #[test]
    fn a_programs_own_folders_come_first() {
        let linkage = Linkage { folders: vec!["$ORIGIN/../lib/own".into()], ..Linkage::default() };
        let candidates = Shelf::Packages { trees: Vec::new() }.candidates("liba.so", "usr/bin/a", &linkage);
        assert_eq!(candidates[..2], ["/usr/lib/own/liba.so", "/lib/x86_64-linux-gnu/liba.so"]);
    }

    #[test]
    fn the_linkers_configuration_is_read_with_what_it_includes() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("conf.d")).unwrap();
        for (name, text) in [
            ("ld.so.conf", "# folders\ninclude conf.d/*.conf\n/opt/lib/\n"),
            ("conf.d/b.conf", "/b\n"),
            ("conf.d/a.conf", "/a\n"),
            ("conf.d/c", "/c\n"),
        ] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        assert_eq!(configured(&folder.path().join("ld.so.conf"), 0), ["/a", "/b", "/opt/lib"]);
    }
}
