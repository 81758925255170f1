//! `cargo xtask tidy`: the repository checks its own rules. Each file of this room is one rule or a few that belong
//! together; each looks at a [`Tree`], so that a test can give it a small one that breaks the rule.

mod floors;
mod layout;
mod links;
mod places;
mod rust;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use kdbg::error::{Error, IoContext, Result};

/// The text files of the repository: path relative to its root → text.
#[derive(Debug, Default)]
struct Tree(BTreeMap<String, String>);

/// A rule that is broken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    file: String,
    /// From 1.
    line: usize,
    /// What is wrong, and how to mend it.
    what: String,
}

/// Checks the repository in `root`; prints what it finds. True when that is nothing.
///
/// # Errors
/// The files cannot be listed.
pub(crate) fn tidy(root: &Path) -> Result<bool> {
    let tree = Tree::read(root)?;
    let findings = check(&tree, root);
    for Finding { file, line, what } in &findings {
        println!("{file}:{line}: {what}");
    }
    match findings.len() {
        0 => println!("tidy: {} files, nothing found", tree.0.len()),
        1 => println!("tidy: 1 finding"),
        count => println!("tidy: {count} findings"),
    }
    Ok(findings.is_empty())
}

fn check(tree: &Tree, root: &Path) -> Vec<Finding> {
    let mut findings = floors::check(tree);
    findings.extend(layout::check(tree));
    findings.extend(places::check(tree, root));
    findings.extend(links::check(tree));
    findings.sort();
    findings
}

impl Tree {
    /// Every file that git knows or would take in, unless it is binary or gone.
    fn read(root: &Path) -> Result<Tree> {
        // A checkout may belong to someone else, as in a CI's container; listing it runs nothing of it.
        let listing = Command::new("git")
            .args(["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(root)
            .output()
            .or_host("run `git ls-files`")?;
        if !listing.status.success() {
            let said = String::from_utf8_lossy(&listing.stderr).trim().to_string();
            return Err(Error::host(format!("git cannot list the repository's files: {said}")));
        }
        let names = listing.stdout.split(|byte| *byte == 0).map(|name| String::from_utf8_lossy(name).into_owned());
        Ok(Tree(
            names
                .filter(|name| !name.is_empty())
                .filter_map(|name| std::fs::read_to_string(root.join(&name)).ok().map(|text| (name, text)))
                .collect(),
        ))
    }

    /// The Rust files of kdbg itself.
    fn sources(&self) -> impl Iterator<Item = (&str, &str)> {
        self.rust().filter(|(path, _)| path.starts_with("src/"))
    }

    /// The Rust files of kdbg and of this program.
    fn rust(&self) -> impl Iterator<Item = (&str, &str)> {
        let ours = |path: &str| path.starts_with("src/") || path.starts_with("xtask/src/");
        self.files().filter(move |(path, _)| ours(path) && path.ends_with(".rs"))
    }

    fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Whether `path` is a file or a folder.
    fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        let below = format!("{path}/");
        self.0.contains_key(path)
            || self.0.range(below.clone()..).next().is_some_and(|(key, _)| key.starts_with(&below))
    }

    #[cfg(test)]
    fn of(files: &[(&str, &str)]) -> Tree {
        Tree(files.iter().map(|(path, text)| ((*path).into(), (*text).into())).collect())
    }
}

impl Finding {
    fn new(file: &str, line: usize, what: impl Into<String>) -> Finding {
        Finding { file: file.into(), line, what: what.into() }
    }

    /// `line: what`, for tests.
    #[cfg(test)]
    fn short(&self) -> String {
        format!("{}:{}: {}", self.file, self.line, self.what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_takes_in_new_files_and_leaves_ignored_and_binary_ones() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
        assert!(Tree::read(folder.path()).is_err(), "no repository yet");
        assert!(Command::new("git").args(["init", "-q"]).current_dir(folder.path()).status().unwrap().success());
        write(".gitignore", b"/ignored\n");
        write("ignored", b"x");
        write("new.txt", b"text\n");
        write("binary", b"\xff\xfe\x00");
        let tree = Tree::read(folder.path()).unwrap();
        assert_eq!(tree.0.keys().collect::<Vec<_>>(), [".gitignore", "new.txt"]);
    }

    #[test]
    fn a_folder_is_there_when_a_file_is_below_it() {
        let tree = Tree::of(&[("docs/a.md", ""), ("docs-old/b.md", "")]);
        assert!(tree.has("docs") && tree.has("docs/") && tree.has("docs/a.md"));
        assert!(!tree.has("doc") && !tree.has("docs/a") && !tree.has("docs/b.md"));
    }
}
