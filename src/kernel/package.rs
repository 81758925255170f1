//! Kernels of a distribution: a `linux-image-…` package and its debug information, filed as if they had been built.
//!
//! Only Debian's packages: apt finds and downloads `linux-image-X` and `linux-image-X-dbg` of one version, dpkg-deb unpacks
//! them, and the entry gets Debian's vmlinux (which QEMU boots by its PVH entry), its configuration and its modules. A
//! package that was filed before is answered without asking apt, even where there is a newer one by now.

mod apt;
mod banner;
mod control;
mod unpacked;

use std::path::PathBuf;

use super::entry::{self, Entry, Made, MadeModules, Missing};
use super::{KernelBuild, Request, key, source};
use crate::error::{Error, IoContext, Result};
use crate::event::{Cancel, Events, Phase};
use crate::spelling;
use crate::store::Cache;
use apt::{Pair, Unfound};
use unpacked::Unpacked;

/// How much larger than its packages a kernel is while it is filed: the packages, what is in them, and vmlinux twice more
/// without its relocations. Measured: 9.4 for Debian's cloud kernel, of which half stays.
const WHILE_FILED: u64 = 10;

/// How many packages an error lists at most.
const LISTED: usize = 12;

/// The kernel of the package `name`: filed, or fetched and filed.
///
/// # Errors
/// There is no such package or no debug information of it, a download fails, or it holds no kernel that kdbg can boot.
pub(super) fn obtain(
    request: &Request,
    name: &str,
    cache: &Cache,
    events: &Events,
    cancel: &Cancel,
) -> Result<KernelBuild> {
    let build = match filed(request, name, cache) {
        Ok(build) => build,
        Err(missing) => {
            if let Missing::Damaged(what) = missing {
                events.warn(format!("the kernel in the cache is damaged ({what}); it is fetched again"));
            }
            fetch(request, name, cache, events, cancel)?
        }
    };
    if let (None, Some((source, version))) = (&build.source_tree, control::source_package(&build.source_id)) {
        let release: String = version.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
        // One of the same release that came another way would only be found again.
        let advice = match source::has(&release, cache, cancel) {
            true => String::new(),
            false => {
                format!(". Where apt offers that version, `kdbg build RECIPE --explain --kernel {release}` brings it")
            }
        };
        events.fact("sources", format!("reports show no source lines: the cache has no {source} {version}{advice}"));
    }
    // A recipe for this package asks nothing of it; one for another kernel, with --kernel, may.
    if request.recipe.recipe.kernel.package.is_empty() {
        let lacking = control::lacking(&request.wanted, &unpacked::read_config(&build.config)?);
        if !lacking.is_empty() {
            let lacking = lacking.join(", ");
            events.warn(format!("{name} has options off that the recipe turns on: {lacking}"));
        }
        if !request.debuggable.is_empty() {
            events.warn(format!("{name} is compiled as its distribution does: `debuggable` changes nothing"));
        }
    }
    Ok(build)
}

/// The kernel of the package `name`, if it was filed before.
pub(super) fn filed(request: &Request, name: &str, cache: &Cache) -> Result<KernelBuild, Missing> {
    let key = entry::remembered(cache, &key::of_package_request(name)).ok_or(Missing::Absent)?;
    open(request, &key, cache)
}

fn open(request: &Request, key: &str, cache: &Cache) -> Result<KernelBuild, Missing> {
    let folder = entry::folder(cache, key);
    let entry = Entry::open(&folder, cache)?;
    let source_tree = source_tree(&entry.source_id, cache);
    KernelBuild::of_entry(entry, &folder, key, request, source_tree)
}

/// The tree of the source package of the same version, where the cache has it.
fn source_tree(package: &str, cache: &Cache) -> Option<PathBuf> {
    let (source, version) = control::source_package(package)?;
    let tree = cache.path(format!("sources/{source}_{version}"));
    tree.join("Makefile").is_file().then_some(tree)
}

fn fetch(request: &Request, name: &str, cache: &Cache, events: &Events, cancel: &Cancel) -> Result<KernelBuild> {
    let _lock = cache.lock("packages", cancel, || {
        events.warn("another kdbg is fetching a kernel's packages; waiting for it");
    })?;
    // What the other one fetched may be just what is wanted.
    if let Ok(build) = filed(request, name, cache) {
        return Ok(build);
    }
    let pair = apt::find(name, cancel).map_err(|unfound| explain(request, name, unfound, cancel))?;
    let key = key::of_package(&pair.image.package, &pair.version, [&pair.image.file.hash, &pair.debug.file.hash]);
    let mut build = match open(request, &key, cache) {
        Ok(build) => build,
        Err(_) => {
            file(&pair, &key, cache, events, cancel)?;
            let unreadable = |_| Error::kernel("the cache entry just written cannot be read");
            open(request, &key, cache).map_err(unreadable)?
        }
    };
    entry::remember(cache, &key::of_package_request(name), &key)?;
    build.cached = false;
    Ok(build)
}

/// Downloads, unpacks and files both packages.
fn file(pair: &Pair, key: &str, cache: &Cache, events: &Events, cancel: &Cancel) -> Result<()> {
    let stage = cache.stage()?;
    let (packages, tree) = (stage.path().join("packages"), stage.path().join("tree"));
    for folder in [&packages, &tree] {
        std::fs::create_dir(folder).or_host(format!("make {}", folder.display()))?;
    }
    let name = format!("{} {}", pair.image.package, pair.version);
    let size = pair.image.file.size + pair.debug.file.size;
    cache.needs_room(size.saturating_mul(WHILE_FILED), format!("fetching and filing {name}"))?;
    events.phase(Phase::Fetch, format!("{name} and its debug information"), || {
        apt::download(pair, &packages, events, cancel)?;
        Ok(((), format!("{name} ({} MB)", size / 1_000_000)))
    })?;
    let unpacked = events.phase(Phase::Unpack, &name, || {
        let unpacked = Unpacked::unpack(&packages, &tree, events, cancel)?;
        let summary = format!("Linux {}", unpacked.release);
        Ok((unpacked, summary))
    })?;
    events.phase(Phase::File, "index for GDB, strip for boot", || {
        let made = Made {
            vmlinux: &unpacked.vmlinux_without_relocations(cancel)?,
            config: &unpacked.config_file(),
            source_id: &name,
            release: unpacked.release.clone(),
            compiler: &control::compiler(&unpacked.config()?),
            debuggable: None,
            modules: MadeModules::Packed(unpacked.modules()),
            asked: None,
            scripts: Vec::new(),
        };
        entry::file(&made, key, cache, cancel)?;
        Ok(((), key.to_string()))
    })
}

/// An error that points at the package's name and says what there is.
fn explain(request: &Request, name: &str, unfound: Unfound, cancel: &Cancel) -> Error {
    let (message, label) = match unfound {
        Unfound::Failed(error) => return error,
        Unfound::NoPackage => (format!("apt knows no package `{name}`"), String::new()),
        Unfound::NoDebug { wanted } => {
            (format!("apt has no debug information of `{name}`"), format!("the package `{wanted}` is not there"))
        }
    };
    let kernels = apt::kernels(cancel).unwrap_or_default();
    let names = || kernels.iter().map(String::as_str);
    let mut helps: Vec<String> = spelling::did_you_mean(name, names()).into_iter().collect();
    match kernels.len() {
        0 => helps.push("run `apt-get update`: apt lists no kernel with debug information now".into()),
        all => {
            let newest = names().skip(all.saturating_sub(LISTED));
            let newest = format!("kernels with debug information: {}", spelling::listed(newest));
            helps.push(if all > LISTED { format!("{newest}, and {} older ones", all - LISTED) } else { newest });
        }
    }
    request.diagnose(message, label, &helps)
}
