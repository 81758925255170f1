//! Sources that lie on this host: an archive, or a tree that is built as it is.

use std::path::{Path, PathBuf};

use super::unpack::{self, Packed};
use super::{KernelSource, Shop, Supplier, fingerprint, git, is_bare_repository};
use crate::digest::sha256;
use crate::error::{Error, IoContext, Result};
use crate::kernel::key::ARCH;

/// What `--kernel PATH` names.
pub(super) fn on_this_host(path: &Path, revision: Option<&str>) -> Result<Box<dyn Supplier>> {
    let path = path.canonicalize().or_host(format!("find {}", path.display()))?;
    if path.is_file() {
        return Ok(Box::new(Archive { path }));
    }
    match revision.or(is_bare_repository(&path).then_some("HEAD")) {
        Some(revision) => {
            let address = path.to_string_lossy().into_owned();
            Ok(Box::new(git::Repository { address, revision: revision.into() }))
        }
        None => Ok(Box::new(Tree { path })),
    }
}

/// An archive on this host.
pub(super) struct Archive {
    pub(super) path: PathBuf,
}

impl Archive {
    fn id(&self) -> Result<String> {
        Ok(format!("archive-{}", unpack::beginning_of_hash(&self.path)?))
    }
}

impl Supplier for Archive {
    fn at_hand(&self, shop: &Shop<'_>) -> Option<KernelSource> {
        shop.filed(&self.id().ok()?)
    }

    fn supply(&self, shop: &Shop<'_>) -> Result<KernelSource> {
        let id = self.id()?;
        let _lock = shop.lock()?;
        match shop.filed(&id) {
            Some(source) => Ok(source),
            None => unpack::unpack(&Packed::mine(&self.path), &|_| id.clone(), shop),
        }
    }
}

/// A tree on this host, which stays as it is: objects go to the cache.
pub(super) struct Tree {
    pub(super) path: PathBuf,
}

impl Supplier for Tree {
    fn at_hand(&self, shop: &Shop<'_>) -> Option<KernelSource> {
        self.supply(shop).ok()
    }

    fn supply(&self, _: &Shop<'_>) -> Result<KernelSource> {
        let source = KernelSource::open(self.path.clone())?;
        refuse_built(&self.path)?;
        let place = sha256(self.path.as_os_str().as_encoded_bytes());
        let workplace = format!("tree-{}", &place[..12]);
        Ok(KernelSource {
            id: format!("{workplace}-{}", fingerprint::of(&self.path, Path::new(""))?),
            workplace,
            ..source
        })
    }
}

/// Kbuild does not build elsewhere what was built in place before.
fn refuse_built(tree: &Path) -> Result<()> {
    let traces = [".config".to_string(), "include/config".into(), format!("arch/{}/include/generated", kbuild_arch())];
    match traces.iter().find(|trace| tree.join(trace).exists()) {
        None => Ok(()),
        Some(trace) => {
            let message = format!("the kernel tree {} was built in place: it has {trace}", tree.display());
            Err(Error::kernel(message).hint(format!(
                "clean it (this deletes its .config and objects): make -C {0} mrproper; or leave it alone and name a revision: --kernel {0}@HEAD",
                tree.display()
            )))
        }
    }
}

fn kbuild_arch() -> &'static str {
    if ARCH == "x86_64" { "x86" } else { ARCH }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_tree_that_changes_is_another_source_in_the_same_workplace() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        fs::write(path.join("Makefile"), "VERSION = 9\nPATCHLEVEL = 9\nSUBLEVEL = 1\n").unwrap();
        fs::write(path.join("Kconfig"), "").unwrap();
        let cache = crate::store::Cache::at(folder.path().join("cache")).unwrap();
        let (events, cancel) = (crate::event::Events::none(), crate::event::Cancel::default());
        let shop = Shop { cache: &cache, events: &events, cancel: &cancel };
        fs::create_dir_all(path.join("net")).unwrap();
        fs::write(path.join("net/x.c"), "a").unwrap();
        let look = || Tree { path: path.clone() }.supply(&shop);
        let first = look().unwrap();
        assert_eq!(look().unwrap(), first);
        fs::create_dir(path.join(".git")).unwrap();
        fs::write(path.join(".git/index"), "x").unwrap();
        assert_eq!(look().unwrap(), first, "git's own files are no part of the source");
        fs::write(path.join("net/x.c"), "ab").unwrap();
        let second = look().unwrap();
        assert!(second.id != first.id && second.workplace == first.workplace);
        fs::write(path.join(".config"), "").unwrap();
        let error = look().unwrap_err();
        assert!(error.message.contains("built in place: it has .config"), "{error}");
        assert!(error.hint.unwrap().contains("mrproper"));
    }
}
