//! A source with patches applied: a source of its own in the cache, made from a copy. The one it is made from is only
//! read.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::{KernelSource, Shop, Supplier, fingerprint, take};
use crate::digest::sha256;
use crate::error::{Error, IoContext, Result};
use crate::event::Phase;
use crate::process::Tool;
use crate::recipe::{Loaded, Patch};
use crate::store::space;

/// Another source, and what is changed in it.
pub(super) struct Patched<'a> {
    pub(super) base: Box<dyn Supplier>,
    pub(super) patches: &'a [Patch],
    pub(super) recipe: &'a Loaded,
}

impl Supplier for Patched<'_> {
    fn at_hand(&self, shop: &Shop<'_>) -> Option<KernelSource> {
        shop.filed(&self.id(&self.base.at_hand(shop)?))
    }

    fn supply(&self, shop: &Shop<'_>) -> Result<KernelSource> {
        let base = take(&*self.base, shop)?;
        let id = self.id(&base);
        let _lock = shop.lock()?;
        match shop.filed(&id) {
            Some(source) => Ok(source),
            None => self.make(&base, &id, shop),
        }
    }
}

impl Patched<'_> {
    /// Names the base and every word of the patches, in their order.
    fn id(&self, base: &KernelSource) -> String {
        let hashes: String = self.patches.iter().map(|patch| sha256(&patch.text)).collect();
        format!("patched-{}-{}", base.id, &sha256(hashes)[..12])
    }

    fn make(&self, base: &KernelSource, id: &str, shop: &Shop<'_>) -> Result<KernelSource> {
        let names = self.patches.iter().map(|patch| patch.name.as_str()).collect::<Vec<_>>().join(", ");
        shop.events.phase(Phase::Unpack, format!("a copy of {} for {names}", base.id), || {
            let stage = shop.cache.stage()?;
            let tree = stage.path().join("linux");
            // No hard links: what writes to the copy must not reach the original.
            let copy = Tool::new("cp").args(["-a", "--reflink=auto", "--"]).arg(&base.tree).arg(&tree);
            let said = copy.deadline(Duration::from_secs(1800)).output(shop.cancel)?;
            if !said.status.success() {
                let full = space::full(&said.text, format!("copying {}, to patch it", base.tree.display()));
                let other = || Error::host(format!("cannot copy {}: {}", base.tree.display(), said.tail(1)));
                return Err(full.unwrap_or_else(other));
            }
            for (index, patch) in self.patches.iter().enumerate() {
                let file = stage.path().join("patch");
                fs::write(&file, &patch.text).or_host("write a patch into the cache")?;
                self.apply(index, &file, &tree, base, shop)?;
            }
            fingerprint::note(&tree)?;
            let place = shop.cache.path("sources").join(id);
            stage.publish_inner("linux", &place)?;
            Ok((KernelSource::open(place)?, format!("Linux {} with {names}", base.version)))
        })
    }

    fn apply(&self, index: usize, file: &Path, tree: &Path, base: &KernelSource, shop: &Shop<'_>) -> Result<()> {
        // As unified diffs, whatever they look like: patch would hand an ed script to ed. No fuzz: what does not fit exactly
        // may land in the wrong place.
        let patch = Tool::new("patch").args(["-p1", "-u", "--batch", "--forward", "--fuzz=0", "-r", "-"]);
        let patch = patch.arg("--no-backup-if-mismatch").arg("-i").arg(file).env("LC_ALL", "C").directory(tree);
        let said = patch.output(shop.cancel)?;
        if said.status.success() {
            return Ok(());
        }
        let name = &self.patches[index].name;
        let message = format!("the patch `{name}` does not apply to Linux {}", base.version);
        let helps = [format!("make it fit this kernel, or take it out; the tree is {}", base.tree.display())];
        Err(self.recipe.diagnose(&format!("kernel.patches[{index}]"), message, objection(&said.text), &helps))
    }
}

/// File and hunk of the first thing that patch complains about.
fn objection(text: &str) -> String {
    let mut file = "";
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("patching file ").or_else(|| line.strip_prefix("checking file ")) {
            file = name;
        } else if let Some((hunk, rest)) = line.split_once(" FAILED at ") {
            return format!("{file}: {} fails at line {}", hunk.to_lowercase(), rest.trim_end_matches('.'));
        } else if line.contains("can't find file") {
            let named = text.lines().find_map(|line| line.strip_prefix("|+++ ")).unwrap_or("what it names");
            let named = named.split_whitespace().next().unwrap_or(named);
            return format!("{}: no such file", named.strip_prefix("b/").unwrap_or(named));
        } else if line.contains("Reversed (or previously applied)") {
            return format!("{file}: it is applied already");
        } else if line.contains("Only garbage") {
            return "this is not a unified diff".into();
        } else if line.contains("malformed patch") {
            return line.trim_start_matches("patch: **** ").into();
        }
    }
    text.lines().last().unwrap_or("patch says nothing").into()
}

#[cfg(test)]
mod tests {
    use super::objection;

    #[test]
    fn what_patch_says_is_told_by_file_and_hunk() {
        for (said, told) in [
            (
                "patching file net/x.c\nHunk #2 FAILED at 31.\n1 out of 2 hunks FAILED\n",
                "net/x.c: hunk #2 fails at line 31",
            ),
            ("can't find file to patch at input line 3\n|--- a/moon.c\n|+++ b/moon.c\n", "moon.c: no such file"),
            ("patch: **** Only garbage was found in the patch input.\n", "this is not a unified diff"),
            ("patch: **** malformed patch at line 9: x\n", "malformed patch at line 9: x"),
        ] {
            assert_eq!(objection(said), told);
        }
    }
}
