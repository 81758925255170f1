//! A revision of a git repository, exported as a tree of the cache. Neither the repository nor its work tree is written
//! to, and no history is kept.

use std::path::Path;
use std::time::Duration;

use super::unpack::{self, Packed};
use super::{KernelSource, Shop, Supplier};
use crate::error::{Error, Result};
use crate::event::Phase;
use crate::process::Tool;
use crate::store::space;

/// Longest a fetch may take; one revision of a kernel is about 250 MB.
const FETCH: Duration = Duration::from_secs(3600);

/// A repository and a revision in it.
pub(super) struct Repository {
    /// A URL, or a path on this host.
    pub(super) address: String,
    pub(super) revision: String,
}

impl Supplier for Repository {
    fn at_hand(&self, shop: &Shop<'_>) -> Option<KernelSource> {
        let known = self.is_local() || is_commit(&self.revision);
        let commit = if known { self.commit(shop).ok()? } else { return None };
        shop.filed(&id(&commit))
    }

    fn supply(&self, shop: &Shop<'_>) -> Result<KernelSource> {
        let commit = self.commit(shop)?;
        let _lock = shop.lock()?;
        match shop.filed(&id(&commit)) {
            Some(source) => Ok(source),
            None => self.export(&commit, shop),
        }
    }
}

fn id(commit: &str) -> String {
    format!("git-{}", &commit[..16])
}

fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
}

/// The commit of a revision in a list by `git ls-remote`. git lists all refs that end in that name; which one is meant is
/// decided in the order of its own `rev-parse`. The line with `^{}` has the commit of an annotated tag.
fn listed<'t>(list: &'t str, revision: &str) -> Option<&'t str> {
    let refs = ["", "refs/", "refs/tags/", "refs/heads/"].map(|folder| format!("{folder}{revision}"));
    let commit = |name: &str| {
        let mut lines = list.lines().filter_map(|line| line.split_once('\t'));
        lines.find(|(commit, listed)| *listed == name && is_commit(commit)).map(|(commit, _)| commit)
    };
    refs.iter().find_map(|name| commit(&format!("{name}^{{}}")).or_else(|| commit(name)))
}

/// git, which asks nobody anything and speaks only to servers.
fn git() -> Tool {
    Tool::new("git").env("GIT_TERMINAL_PROMPT", "0").env("GIT_ALLOW_PROTOCOL", "https:ssh:git").env("LC_ALL", "C")
}

impl Repository {
    fn is_local(&self) -> bool {
        Path::new(&self.address).is_absolute()
    }

    /// The commit that the revision names now.
    fn commit(&self, shop: &Shop<'_>) -> Result<String> {
        let said = if self.is_local() {
            let peeled = format!("{}^{{commit}}", self.revision);
            let ask = git().args(["-C", &self.address, "rev-parse", "--verify", "--end-of-options", &peeled]);
            ask.output(shop.cancel)?
        } else if is_commit(&self.revision) {
            return Ok(self.revision.clone());
        } else {
            let peeled = format!("{}^{{}}", self.revision);
            git().args(["ls-remote", "--", &self.address, &self.revision, &peeled]).output(shop.cancel)?
        };
        if !said.status.success() {
            return Err(self.failed("does not tell what that is", &said.tail(2)));
        }
        let commit = if self.is_local() {
            said.text.lines().map(str::trim).rfind(|line| is_commit(line))
        } else {
            listed(&said.text, &self.revision)
        };
        commit.map(str::to_owned).ok_or_else(|| self.failed("knows of no such revision", ""))
    }

    fn failed(&self, what: &str, said: &str) -> Error {
        if let Some(full) = space::full(said, format!("exporting {}, revision {}", self.address, self.revision)) {
            return full;
        }
        let colon = if said.is_empty() { "" } else { ": " };
        Error::kernel(format!("{}, revision {}: git {what}{colon}{said}", self.address, self.revision))
            .hint(format!("`git ls-remote {}` shows the branches and tags that there are", self.address))
    }

    fn export(&self, commit: &str, shop: &Shop<'_>) -> Result<KernelSource> {
        let stage = shop.cache.stage()?;
        let repository = if self.is_local() {
            Path::new(&self.address).to_path_buf()
        } else {
            let clone = stage.path().join("clone");
            self.fetch(commit, &clone, shop)?;
            clone
        };
        let tar = stage.path().join("linux.tar");
        let export = git().arg("-C").arg(&repository).args(["archive", "--format=tar", "--prefix=linux/", "-o"]);
        let said = export.arg(&tar).arg(commit).deadline(FETCH).output(shop.cancel)?;
        if !said.status.success() {
            return Err(self.failed("does not export it", &said.tail(2)));
        }
        let from = format!("{}, revision {}", self.address, self.revision);
        unpack::unpack(&Packed::fetched(&tar, &from), &|_| id(commit), shop)
    }

    /// This one commit, into a new repository.
    fn fetch(&self, commit: &str, clone: &Path, shop: &Shop<'_>) -> Result<()> {
        shop.events.phase(Phase::Fetch, format!("{} at {commit}", self.address), || {
            let init = git().args(["init", "--quiet", "--bare"]).arg(clone);
            let fetch = git().arg("-C").arg(clone).args(["fetch", "--quiet", "--depth=1", "--no-tags", "--"]);
            for tool in [init, fetch.args([&self.address, commit]).deadline(FETCH)] {
                let said = tool.output(shop.cancel)?;
                if !said.status.success() {
                    return Err(self.failed("does not fetch it", &said.tail(2)));
                }
            }
            Ok(((), commit.to_string()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::listed;

    #[test]
    fn a_revision_is_the_ref_of_exactly_that_name() {
        let commit = |digit: &str| digit.repeat(40);
        let list = |refs: &[(&str, &str)]| -> String {
            refs.iter().map(|(digit, name)| format!("{}\t{name}\n", commit(digit))).collect()
        };
        let branches = [("1", "refs/heads/main"), ("2", "refs/heads/wip/main"), ("3", "refs/remotes/x/main")];
        let tags = [("1", "refs/heads/v1"), ("2", "refs/tags/old/v1"), ("3", "refs/tags/v1"), ("4", "refs/tags/v1^{}")];
        for (refs, revision, expected) in [
            (&branches[..], "main", Some("1")),
            (&branches[..], "heads/wip/main", Some("2")),
            (&branches[..], "refs/heads/wip/main", Some("2")),
            (&branches[1..], "main", None),
            (&tags[..], "v1", Some("4")),
            (&tags[..3], "v1", Some("3")),
            (&tags[..2], "v1", Some("1")),
            (&[("5", "HEAD"), ("6", "refs/remotes/x/HEAD")][..], "HEAD", Some("5")),
        ] {
            assert_eq!(listed(&list(refs), revision).map(String::from), expected.map(commit), "{revision} in {refs:?}");
        }
    }
}
