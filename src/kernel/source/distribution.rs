//! A version, wherever it may be: the newest in the cache, an installed source package, one that the distribution offers,
//! a release of kernel.org.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::download::{Download, MIRROR_VARIABLE, Releases};
use super::unpack::{self, Packed};
use super::{KernelSource, Shop, Supplier, file_name};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Phase;
use crate::package::Apt;
use crate::process::Tool;
use crate::store::space;

/// Where Debian's `linux-source-*` packages put their archive when they are installed.
const INSTALLED: &str = "/usr/src";

/// How the ids of unchanged sources of a version begin; what is patched or the user's own has other names.
const RELEASED: &str = "linux-";

/// `6.1` or `6.1.192`.
pub(super) struct Version {
    pub(super) version: String,
}

impl Supplier for Version {
    fn at_hand(&self, shop: &Shop<'_>) -> Option<KernelSource> {
        let mut found = self.released(shop);
        found.retain(|source| is_of_version(&source.version, &self.version));
        found.sort_by_key(|source| (number_parts(&source.version), source.id.clone()));
        found.pop()
    }

    fn supply(&self, shop: &Shop<'_>) -> Result<KernelSource> {
        self.supply_from(Path::new(INSTALLED), shop)
    }
}

impl Version {
    /// All released sources in the cache.
    fn released(&self, shop: &Shop<'_>) -> Vec<KernelSource> {
        let entries = fs::read_dir(shop.cache.path("sources")).into_iter().flatten().flatten();
        let names = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(RELEASED));
        names.filter_map(|entry| KernelSource::open(entry.path()).ok()).collect()
    }

    fn package(&self) -> String {
        format!("linux-source-{}", series(&self.version))
    }

    /// As [`Supplier::supply`], with installed packages in this folder.
    pub(super) fn supply_from(&self, installed: &Path, shop: &Shop<'_>) -> Result<KernelSource> {
        let _lock = shop.lock()?;
        if let Some(source) = self.at_hand(shop) {
            return Ok(source);
        }
        let mut search = Search::default();
        if let Some(source) = self.installed(installed, shop)? {
            return Ok(source);
        }
        if let Some(apt) = self.offered(&mut search, shop)? {
            let package = self.package();
            let stage = shop.cache.stage()?;
            let (archive, id) = download(&package, &apt, stage.path(), shop)?;
            let source =
                unpack::unpack(&Packed::fetched(&archive, &format!("the package {package}")), &|_| id.clone(), shop)?;
            if self.is_meant(&source.version) {
                return Ok(source);
            }
            search.miss(format!("the package {package} holds Linux {}", source.version), [source.version]);
        }
        match self.released_upstream(&mut search, shop)? {
            Some(archive) => archive.fetch(shop),
            None => Err(search.in_vain(&self.version, self.released(shop))),
        }
    }

    fn is_meant(&self, full: &str) -> bool {
        is_of_version(full, &self.version)
    }

    /// The tree of the distribution's package that is installed, if that is the release that is meant.
    fn installed(&self, folder: &Path, shop: &Shop<'_>) -> Result<Option<KernelSource>> {
        let package = self.package();
        let archive = folder.join(format!("{package}.tar.xz"));
        if !archive.is_file() {
            return Ok(None);
        }
        let hash = unpack::beginning_of_hash(&archive)?;
        let id = |version: &str| format!("{package}_{version}-{}", &hash[..8]);
        // Which release it is only the tree in it tells; it may have been unpacked when another release was asked for.
        let unpacked = self.released(shop).into_iter().find(|source| source.id == id(&source.version));
        let source = match unpacked {
            Some(source) => source,
            None => unpack::unpack(&Packed::installed(&archive, &package), &id, shop)?,
        };
        Ok(Some(source).filter(|source| self.is_meant(&source.version)))
    }

    /// The apt that offers the release: the host's, else one that knows the backports.
    fn offered(&self, search: &mut Search, shop: &Shop<'_>) -> Result<Option<Apt>> {
        let package = self.package();
        let Some(host) = Apt::host() else {
            search.miss("this host has no apt", []);
            return Ok(None);
        };
        // A Debian version begins with that of the kernel: 6.1.172-1.
        let meant = |version: &str| self.is_meant(version.split(['-', '~', '+']).next().unwrap_or(version));
        let why = match host.candidate(&package, shop.cancel)? {
            Some(version) if meant(&version) => return Ok(Some(host)),
            Some(version) => format!("the host's apt offers {version} of that series"),
            None => "the host's apt does not have it".into(),
        };
        search.miss(why, host.names(SOURCES, shop.cancel)?.iter().map(|name| series_in(name)));
        match Apt::with_backports(shop.cache, shop.events, shop.cancel) {
            Ok(None) => Ok(None),
            Ok(Some(apt)) if apt.candidate(&package, shop.cancel)?.is_some_and(|version| meant(&version)) => {
                Ok(Some(apt))
            }
            Ok(Some(apt)) => {
                let names = apt.names(SOURCES, shop.cancel)?;
                search.miss("its backports do not have it", names.iter().map(|name| series_in(name)));
                Ok(None)
            }
            Err(error) => search.survive(error),
        }
    }

    /// The newest release that is meant, on kernel.org or its mirror.
    fn released_upstream(&self, search: &mut Search, shop: &Shop<'_>) -> Result<Option<Download>> {
        let releases = match Releases::like(&self.version, shop) {
            Ok(releases) => releases,
            Err(error) => return search.survive(error),
        };
        // Linux 6.1 itself is called 6.1 there and 6.1.0 in its Makefile.
        let newest =
            releases.versions().filter(|version| self.is_meant(version)).max_by_key(|version| number_parts(version));
        let zero = || self.version.strip_suffix(".0").filter(|version| version.contains('.'));
        if let Some(archive) = newest.or_else(zero).and_then(|version| releases.archive(version)) {
            return Ok(Some(archive));
        }
        let mut all: Vec<&str> = releases.versions().collect();
        all.sort_by_key(|version| number_parts(version));
        let of_series: Vec<&str> =
            all.iter().copied().filter(|version| is_of_version(version, &series(&self.version))).collect();
        // Of a series that there is, its releases; else the newest of each.
        let near = if of_series.is_empty() { newest_of_each(&all) } else { of_series };
        search.miss("kernel.org does not have it", near.into_iter().rev().take(12).map(str::to_owned));
        Ok(None)
    }
}

/// The names of Debian's source packages, for `apt-cache search`.
const SOURCES: &str = "^linux-source-[0-9]";

fn series_in(package: &str) -> String {
    package.trim_start_matches("linux-source-").into()
}

/// Of sorted versions, the last of each series.
fn newest_of_each<'v>(sorted: &[&'v str]) -> Vec<&'v str> {
    let last =
        |(index, version): &(usize, &&str)| sorted.get(index + 1).is_none_or(|next| series(next) != series(version));
    sorted.iter().enumerate().filter(last).map(|(_, version)| *version).collect()
}

/// Where was looked so far, and what there is instead.
#[derive(Default)]
struct Search {
    misses: Vec<String>,
    known: Vec<String>,
}

impl Search {
    fn miss(&mut self, why: impl Into<String>, known: impl IntoIterator<Item = String>) {
        self.misses.push(why.into());
        self.known.extend(known);
    }

    /// A place that cannot be asked is one of several, unless kdbg was interrupted there.
    fn survive<T>(&mut self, error: Error) -> Result<Option<T>> {
        if error.kind == ErrorKind::Interrupted {
            return Err(error);
        }
        self.miss(error.message, []);
        Ok(None)
    }

    fn in_vain(self, version: &str, cached: Vec<KernelSource>) -> Error {
        let mut known = self.known;
        known.extend(cached.into_iter().map(|source| source.version));
        known.sort_by_key(|version| number_parts(version));
        known.dedup();
        let other = "or name an archive, a tree or a git repository: `kernel.source` in the recipe, or --kernel PATH";
        let there = match known.is_empty() {
            true => format!("check the network; {MIRROR_VARIABLE} names another server than kernel.org; {other}"),
            false => format!("there is {}; {other}", known.join(", ")),
        };
        let misses = self.misses.join("\n  ");
        Error::kernel(format!("there is no source of Linux {version} to be had:\n  {misses}")).hint(there)
    }
}

/// Fetches `package` into `folder` and takes the archive out of it. Returns the archive and the id of the source.
fn download(package: &str, apt: &Apt, folder: &Path, shop: &Shop<'_>) -> Result<(PathBuf, String)> {
    let size = apt.size(package, shop.cancel)?;
    // The package, the archive in it, and the tree.
    let needed = size.unwrap_or_default() * (2 + unpack::Packing::Xz.factor());
    shop.cache.needs_room(needed, format!("fetching and unpacking {package}"))?;
    shop.events.phase(Phase::Fetch, format!("{package} by apt-get download"), || {
        let deb = apt.download(package, size, folder, shop.events, shop.cancel)?;
        let id = file_name(&deb).trim_end_matches(".deb").replace("_all", "");
        let extract = Tool::new("dpkg-deb").arg("-x").arg(&deb).arg(folder).deadline(Duration::from_secs(600));
        let output = extract.output(shop.cancel)?;
        if !output.status.success() {
            let full = space::full(&output.text, format!("unpacking {}", deb.display()));
            return Err(full.unwrap_or_else(|| {
                Packed::fetched(&deb, &format!("apt-get download {package}")).damaged(&output.tail(2))
            }));
        }
        let archive = folder.join("usr/src").join(format!("{package}.tar.xz"));
        let size = fs::metadata(&archive).map_err(|_| no_archive(package))?.len();
        Ok(((archive, id.clone()), format!("{id} ({} MB)", size / 1_000_000)))
    })
}

fn no_archive(package: &str) -> Error {
    Error::kernel(format!("the package {package} holds no usr/src/{package}.tar.xz: it is not a kernel source"))
        .hint("`apt-cache policy` of the package tells where it comes from")
}

/// Whether `full` (6.1.192) is what `asked` (6.1 or 6.1.192) means.
fn is_of_version(full: &str, asked: &str) -> bool {
    full == asked || full.strip_prefix(asked).is_some_and(|rest| rest.starts_with('.'))
}

/// `6.1` of `6.1.192`.
fn series(version: &str) -> String {
    version.split('.').take(2).collect::<Vec<_>>().join(".")
}

fn number_parts(version: &str) -> Vec<u32> {
    version.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_match_by_whole_parts() {
        for (full, asked, expected) in [
            ("6.1.192", "6.1", true),
            ("6.1.192", "6.1.192", true),
            ("6.12.3", "6.1", false),
            ("6.1.19", "6.1.1", false),
        ] {
            assert_eq!(is_of_version(full, asked), expected, "{full} {asked}");
        }
    }
}
