//! Kernel sources: from what a recipe or `--kernel` names to a tree that nobody writes to.
//!
//! A [`Supplier`] is one way to a source; there is one a file below. What is fetched or unpacked becomes
//! `sources/<id>/` in the cache. The id names what is in the tree: package and package version, a hash of the archive, a
//! commit. Where a folder of the user's is built as it is, the id is a hash over the names, sizes and times of its files.

mod distribution;
mod download;
mod fingerprint;
mod git;
mod http;
mod links;
mod local;
mod patched;
mod unpack;
mod zst;

use std::fs;
use std::path::{Path, PathBuf};

use super::Request;
use crate::error::{Error, Result};
use crate::event::{Cancel, Events};
use crate::recipe::{KernelChoice, Source};
use crate::store::{Cache, Lock};

/// A kernel tree that kdbg does not write to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelSource {
    /// Names what is in it; enters the key of a kernel.
    pub id: String,
    /// Names the folder that it is built in: the id, or for a user's own tree a name that stays when the tree changes.
    pub workplace: String,
    /// The tree.
    pub tree: PathBuf,
    /// `VERSION.PATCHLEVEL.SUBLEVEL` of its Makefile.
    pub version: String,
}

/// What every supplier works with.
#[derive(Clone, Copy)]
struct Shop<'a> {
    cache: &'a Cache,
    events: &'a Events,
    cancel: &'a Cancel,
}

impl Shop<'_> {
    /// The right to put something into `sources/`.
    fn lock(&self) -> Result<Lock> {
        self.cache.lock("sources", self.cancel, || {
            self.events.warn("another kdbg is fetching a kernel source; waiting for it");
        })
    }

    /// The tree with that id, if it is in the cache.
    fn filed(&self, id: &str) -> Option<KernelSource> {
        KernelSource::open(self.cache.path("sources").join(id)).ok()
    }
}

/// One way to a source.
trait Supplier {
    /// The tree, if it is there already: nothing is fetched or unpacked.
    fn at_hand(&self, shop: &Shop<'_>) -> Option<KernelSource>;

    /// The tree, whatever that takes.
    fn supply(&self, shop: &Shop<'_>) -> Result<KernelSource>;
}

/// The source that a request is about, if it is there already.
pub fn cached(request: &Request, cache: &Cache, cancel: &Cancel) -> Option<KernelSource> {
    let shop = Shop { cache, events: &Events::none(), cancel };
    supplier(request).ok()?.at_hand(&shop).filter(|source| source.hold(cache))
}

/// Whether the cache has some source of a version.
pub(super) fn has(version: &str, cache: &Cache, cancel: &Cancel) -> bool {
    let shop = Shop { cache, events: &Events::none(), cancel };
    distribution::Version { version: version.into() }.at_hand(&shop).is_some()
}

/// The source that a request is about: there already, or fetched, unpacked and patched.
///
/// # Errors
/// There is no such source, it cannot be fetched, is damaged or no kernel, or a patch does not apply.
pub fn obtain(request: &Request, cache: &Cache, events: &Events, cancel: &Cancel) -> Result<KernelSource> {
    let shop = Shop { cache, events, cancel };
    take(&*supplier(request)?, &shop).map_err(|error| request.place(error))
}

/// A supplier's tree, which this kdbg holds from now on.
fn take(supplier: &dyn Supplier, shop: &Shop<'_>) -> Result<KernelSource> {
    loop {
        let source = match supplier.at_hand(shop) {
            Some(source) => source,
            None => supplier.supply(shop)?,
        };
        if source.hold(shop.cache) {
            return Ok(source);
        }
        // It was deleted from the cache in this moment.
        shop.cancel.check()?;
    }
}

fn supplier(request: &Request) -> Result<Box<dyn Supplier + '_>> {
    let plain: Box<dyn Supplier> = match &request.choice {
        KernelChoice::Version(version) => Box::new(distribution::Version { version: version.clone() }),
        KernelChoice::Source(Source::Archive(path)) => Box::new(local::Archive { path: path.clone() }),
        KernelChoice::Source(Source::Tree(path)) => Box::new(local::Tree { path: path.clone() }),
        KernelChoice::Source(Source::Git { repository, revision }) => {
            Box::new(git::Repository { address: repository.clone(), revision: revision.clone() })
        }
        KernelChoice::Source(Source::Url { url, sha256 }) => Box::new(download::Download::named(url, sha256)),
        KernelChoice::Path { path, revision } => local::on_this_host(path, revision.as_deref())?,
        KernelChoice::Package(package) => {
            let label = "it is built already and has no source to build";
            return Err(request.diagnose(format!("the package {package} cannot be built"), label, &[]));
        }
    };
    if request.patches.is_empty() {
        return Ok(plain);
    }
    Ok(Box::new(patched::Patched { base: plain, patches: &request.patches, recipe: &request.recipe }))
}

/// Whether a folder is a git repository without a work tree: it has no Makefile, but a HEAD.
pub fn is_bare_repository(path: &Path) -> bool {
    path.join("HEAD").is_file() && path.join("objects").is_dir()
}

impl KernelSource {
    /// The tree in `path`, if it is one.
    ///
    /// # Errors
    /// It is none.
    pub fn open(path: PathBuf) -> Result<KernelSource> {
        // A Makefile that is not there has no version either.
        let makefile = fs::read_to_string(path.join("Makefile")).unwrap_or_default();
        let version = makefile_version(&makefile).filter(|_| path.join("Kconfig").is_file()).ok_or_else(|| {
            Error::kernel(format!("{} is not a kernel tree", path.display()))
                .hint("a kernel tree has a Kconfig file, and a Makefile that begins with its version")
        })?;
        let id = file_name(&path);
        Ok(KernelSource { workplace: id.clone(), id, tree: path, version })
    }

    /// Whether it is what it was when it was put into the cache. For what is about to build it: it reads every folder.
    ///
    /// # Errors
    /// It is not.
    pub(super) fn check(&self, cache: &Cache) -> Result<()> {
        if self.tree.starts_with(cache.path("sources")) { fingerprint::check(&self.tree) } else { Ok(()) }
    }

    /// Keeps it in the cache as long as this kdbg lives; false if it is gone. A user's own tree needs no keeping.
    fn hold(&self, cache: &Cache) -> bool {
        !self.tree.starts_with(cache.path("sources")) || cache.hold(&self.tree)
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// `6.1.192` from the first lines of a kernel's Makefile.
fn makefile_version(makefile: &str) -> Option<String> {
    let value = |name: &str| {
        makefile.lines().take(12).find_map(|line| {
            let (key, value) = line.split_once('=')?;
            (key.trim() == name).then(|| value.trim().to_string())
        })
    };
    Some(format!("{}.{}.{}", value("VERSION")?, value("PATCHLEVEL")?, value("SUBLEVEL")?))
}

#[cfg(test)]
mod tests;
