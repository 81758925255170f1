//! Files: how long they are, what they begin with, what they are called.

use super::{Finding, Tree};

/// A file that has grown past this is more than one thing.
const LONGEST: usize = 400;

/// Files that have another limit, and why.
const LIMITS: &[(&str, usize, &str)] = &[
    ("src/main.rs", 39, "it parses, runs and prints the error; everything else is a verb's"),
    ("xtask/src/main.rs", 59, "it chooses the verb; everything else is a verb's"),
];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, text) in tree.rust() {
        let (limit, why) = LIMITS
            .iter()
            .find(|(name, ..)| *name == file)
            .map_or((LONGEST, "is it still one thing?"), |(_, limit, why)| (*limit, *why));
        let lines = text.lines().count();
        if lines > limit {
            let what = format!("{lines} lines, {limit} are allowed ({why}): move a part into a file of its own");
            findings.push(Finding::new(file, limit + 1, what));
        }
        if !text.starts_with("//!") {
            let what = "no module docs: begin with `//!`, what it holds and what it must not touch";
            findings.push(Finding::new(file, 1, what));
        }
        if file.ends_with("/mod.rs") {
            let what = format!("call it {}.rs, beside its folder", file.trim_end_matches("/mod.rs"));
            findings.push(Finding::new(file, 1, what));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(file: &str, text: &str) -> Vec<String> {
        check(&Tree::of(&[(file, text)])).iter().map(Finding::short).collect()
    }

    #[test]
    fn long_files_are_found() {
        let lines = |count: usize| "//! x\n".repeat(count);
        assert!(found("src/a.rs", &lines(400)).is_empty());
        assert!(found("src/a.rs", &lines(401))[0].starts_with("src/a.rs:401: 401 lines, 400 are allowed"));
        assert_eq!(found("xtask/src/tidy/a.rs", &lines(401)).len(), 1);
        assert!(found("src/main.rs", &lines(39)).is_empty());
        assert_eq!(found("src/main.rs", &lines(40)).len(), 1);
        assert!(found("docs/long.md", &lines(401)).is_empty(), "only Rust");
    }

    #[test]
    fn files_begin_with_their_docs_and_none_is_mod_rs() {
        assert!(found("src/a.rs", "use b;\n//! late\n")[0].contains("no module docs"));
        assert!(found("src/a/mod.rs", "//! x\n")[0].ends_with("call it src/a.rs, beside its folder"));
    }
}
