//! Documentation: what it links to and which of the repository's files it names is there.

use super::{Finding, Tree};

/// Folders whose files are checked where a page names them in `code` or in a fence.
const FOLDERS: &[&str] = &["src/", "xtask/", "docs/", "tests/", "recipes/", "kconfigs/", "images/", ".ci/", ".cargo/"];

/// Files that pages have a reader make.
const EXAMPLES: &[&str] =
    &["recipes/mine.yaml", "recipes/icmp-unreachable.yaml", "recipes/kconfigs/lossy.config", "kconfigs/lossy.config"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let pages = tree.files().filter(|(path, _)| {
        let in_docs = path.strip_prefix("docs/").is_some_and(|name| name.ends_with(".md"));
        in_docs || matches!(*path, "README.md" | "CHANGELOG.md")
    });
    pages.flat_map(|(page, text)| check_page(tree, page, text)).collect()
}

fn check_page(tree: &Tree, page: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut in_fence = false;
    for (index, line) in text.lines().enumerate() {
        let mut missing = |what: String| findings.push(Finding::new(page, index + 1, what));
        if is_fence(line) {
            in_fence = !in_fence;
            continue;
        }
        let (prose, code) = if in_fence { (String::new(), line.to_string()) } else { split(line) };
        for target in targets(&prose) {
            if let Some(what) = broken(tree, page, &target) {
                missing(what);
            }
        }
        for path in code.split_whitespace().filter_map(repository_path).filter(|path| !tree.has(path)) {
            missing(format!("names {path}, which is not there: mend the path, or add it to EXAMPLES in {}", file!()));
        }
    }
    findings
}

fn is_fence(line: &str) -> bool {
    line.trim_start_matches([' ', '>']).starts_with("```")
}

/// A line's prose, with blanks for its code spans, and the text of those.
fn split(line: &str) -> (String, String) {
    let mut prose = String::new();
    let mut code = String::new();
    for (index, part) in line.split('`').enumerate() {
        if index % 2 == 0 {
            prose.push_str(part);
        } else {
            code.push_str(part);
            code.push(' ');
        }
    }
    (prose, code)
}

/// Where the links of a line go.
fn targets(prose: &str) -> Vec<String> {
    let ends = prose.match_indices("](").filter_map(|(at, _)| {
        let target = &prose[at + 2..];
        Some(target[..target.find(')')?].trim().to_string())
    });
    ends.collect()
}

/// What is wrong with a link on `page`, if it is a relative one.
fn broken(tree: &Tree, page: &str, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
    let path = if file.is_empty() { page.to_string() } else { join(page, file) };
    if !tree.has(&path) {
        return Some(format!("links to {path}, which is not there: mend the link"));
    }
    let anchor = anchor?;
    let text = tree.0.get(&path)?;
    let there = headings(text).any(|heading| slug(heading) == anchor);
    (!there).then(|| format!("links to #{anchor}, which no heading of {path} gives: mend the link"))
}

/// `target` as seen from the folder of `page`.
fn join(page: &str, target: &str) -> String {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn headings(text: &str) -> impl Iterator<Item = &str> {
    let mut in_fence = false;
    text.lines().filter_map(move |line| {
        in_fence ^= is_fence(line);
        line.strip_prefix('#').filter(|_| !in_fence).map(|rest| rest.trim_start_matches('#').trim())
    })
}

/// The anchor that GitHub gives a heading.
fn slug(heading: &str) -> String {
    let kept = heading.chars().filter(|character| character.is_alphanumeric() || " -_".contains(*character));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// The file that a word of code names, if it is one of the repository's: `src/gdb/mi.rs:12` is `src/gdb/mi.rs`.
fn repository_path(word: &str) -> Option<&str> {
    let word =
        word.split(':').next()?.trim_start_matches(['"', '\'', '(']).trim_end_matches(['"', '\'', ')', ',', ';', '.']);
    let plain = |character: char| character.is_ascii_alphanumeric() || "/._-".contains(character);
    let ours = FOLDERS.iter().any(|folder| word.starts_with(folder)) && word.chars().all(plain);
    let placeholder = word.split(['/', '.']).any(|part| part.len() > 1 && part.chars().all(|c| c.is_ascii_uppercase()));
    (ours && !placeholder && !EXAMPLES.contains(&word)).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(page: &str, text: &str) -> Vec<String> {
        let files =
            [("docs/there.md", "# A heading: `at`\n"), ("recipes/a.yaml", ""), ("LICENSE-MIT", ""), (page, text)];
        check(&Tree::of(&files)).iter().map(Finding::short).collect()
    }

    #[test]
    fn links_resolve_from_their_page() {
        assert!(found("docs/a.md", "[x](there.md) [y](../LICENSE-MIT) [z](./there.md#a-heading-at)").is_empty());
        assert!(found("README.md", "[x](docs/there.md), [docs](docs), [w](https://example.org/none)").is_empty());
        let lost = found("README.md", "\n[x](there.md)");
        assert_eq!(lost, ["README.md:2: links to there.md, which is not there: mend the link"]);
    }

    #[test]
    fn anchors_are_headings() {
        assert!(found("docs/a.md", "# Top\n[x](#top)").is_empty());
        assert_eq!(found("docs/a.md", "# Top\n[x](#bottom)").len(), 1);
        assert_eq!(found("docs/a.md", "[x](there.md#nowhere)").len(), 1);
    }

    #[test]
    fn files_named_in_code_are_there() {
        assert!(found("README.md", "`recipes/a.yaml` and `kdbg run recipes/a.yaml`, `recipes/`, `net/x.c`").is_empty());
        assert_eq!(found("README.md", "`recipes/b.yaml`").len(), 1);
        assert_eq!(found("README.md", "`.ci/none`").len(), 1);
        assert_eq!(found("README.md", "```\nkdbg run recipes/b.yaml\n```\n").len(), 1);
        assert!(found("README.md", "`kconfigs/NAME.config` `images/*.yaml` `recipes/mine.yaml`").is_empty());
    }

    #[test]
    fn code_is_no_link_and_other_files_are_no_pages() {
        assert!(found("docs/a.md", "`a[0](none.md)`\n```\n[x](none.md)\n```\n").is_empty());
        assert!(found("notes/a.md", "[x](none.md)").is_empty());
    }
}
