//! Nothing in the repository names the machine it was written on, or where that machine gets its packages from.

use std::path::Path;

use super::{Finding, Tree};

/// Folders of one machine: a path that begins with one means nothing elsewhere.
const FOLDERS: &[&str] = &[concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/Us", "ers/")];

/// Hosts of package registries. Written in two halves, so that this file may hold them.
const HOSTS: &[(&str, &str)] = &[
    ("crates", ".io"),
    ("deb", ".debian.org"),
    ("security", ".debian.org"),
    ("snapshot", ".debian.org"),
    ("archive", ".ubuntu.com"),
    ("security", ".ubuntu.com"),
    ("pypi", ".org"),
    ("files", ".pythonhosted.org"),
    ("registry", ".npmjs.org"),
    ("proxy", ".golang.org"),
];

/// Written by cargo, which names its registry.
const EXEMPT: &str = "Cargo.lock";

pub(super) fn check(tree: &Tree, root: &Path) -> Vec<Finding> {
    let checkout = root.canonicalize().unwrap_or_else(|_| root.into()).to_string_lossy().into_owned();
    let mut findings = Vec::new();
    for (file, text) in tree.files().filter(|(file, _)| *file != EXEMPT) {
        for (index, line) in text.lines().enumerate() {
            findings.extend(wrong_with(line, &checkout).map(|what| Finding::new(file, index + 1, what)));
        }
    }
    findings
}

fn wrong_with(line: &str, checkout: &str) -> Option<String> {
    if line.contains(checkout) {
        return Some("names this checkout: write the path relative to the repository".into());
    }
    if let Some(folder) = FOLDERS.iter().find(|folder| begins_a_path(line, folder)) {
        return Some(format!("a path of one machine, below {folder}: write a relative path, `~` or a variable"));
    }
    let host = HOSTS.iter().map(|(name, domain)| format!("{name}{domain}")).find(|host| names_host(line, host))?;
    Some(format!("names the registry host {host}: which one is used is the machine's business"))
}

/// Whether `folder` stands in `line` as the beginning of a path to something.
fn begins_a_path(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + folder.len()..].chars().next();
        let continues = |character: char| character.is_alphanumeric() || "_-./~}>".contains(character);
        !before.is_some_and(continues) && after.is_some_and(|character| character.is_alphanumeric() || character == '_')
    })
}

fn names_host(line: &str, host: &str) -> bool {
    line.match_indices(host).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + host.len()..].chars().next();
        let continues = |character: char| character.is_alphanumeric() || character == '-';
        !before.is_some_and(continues) && !after.is_some_and(continues)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: &str) -> bool {
        let tree = Tree::of(&[("a.md", &format!("fine\n{line}\n")), (EXEMPT, line)]);
        let findings = check(&tree, Path::new("/no/such/checkout"));
        assert!(findings.iter().all(|finding| finding.file == "a.md" && finding.line == 2), "{findings:?}");
        !findings.is_empty()
    }

    #[test]
    fn paths_of_a_machine_are_found() {
        for folder in FOLDERS {
            assert!(found(&format!("see {folder}someone/x")), "{folder}");
            assert!(found(&format!("\"{folder}x\"")), "{folder}");
            assert!(!found(&format!("see {folder}<user>/x")), "{folder}");
            assert!(!found(&format!("docs{folder}x")), "{folder} in a relative path");
        }
        assert!(found("cd /no/such/checkout/src"));
        assert!(!found("mkdir -p /tmp /usr/src /proc/1 ~/.cache"));
    }

    #[test]
    fn registry_hosts_are_found() {
        for (name, domain) in HOSTS {
            assert!(found(&format!("URL: http://{name}{domain}/x")), "{name}{domain}");
        }
        assert!(found(&format!("index.{}{}", HOSTS[0].0, HOSTS[0].1)));
        assert!(!found(&format!("my{}{}", HOSTS[0].0, HOSTS[0].1)));
        assert!(!found("crates and packages"));
    }
}
