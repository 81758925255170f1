//! A version, wherever it may be: the newest in the cache, an installed source package, one that the distribution offers.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{KernelSource, Shop, Supplier, file_name, unpack};
use crate::error::{Error, Result};
use crate::event::Phase;
use crate::kernel::apt::Apt;
use crate::process::Tool;

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
        let package = self.package();
        let archive = installed.join(format!("{package}.tar.xz"));
        let source = if archive.is_file() {
            let hash = unpack::beginning_of_hash(&archive)?;
            unpack::unpack(&archive, &|version| format!("{package}_{version}-{}", &hash[..8]), shop)?
        } else {
            let apt = self.offered(shop)?;
            let stage = shop.cache.stage()?;
            let (archive, id) = download(&package, &apt, stage.path(), shop)?;
            unpack::unpack(&archive, &|_| id.clone(), shop)?
        };
        if is_of_version(&source.version, &self.version) {
            return Ok(source);
        }
        Err(Error::kernel(format!("the package {package} holds Linux {}, not {}", source.version, self.version))
            .hint(format!("write `version: \"{}\"` to take what there is", series(&self.version))))
    }

    /// The apt that offers the package: the host's, else one that knows the backports.
    fn offered(&self, shop: &Shop<'_>) -> Result<Apt> {
        let package = self.package();
        let Some(host) = Apt::host() else {
            return Err(self.unknown("this host has no apt", &[], shop));
        };
        if host.candidate(&package, shop.cancel)?.is_some() {
            return Ok(host);
        }
        let mut names = host.names("^linux-source-[0-9]", shop.cancel)?;
        let why = match Apt::with_backports(shop.cache, shop.events, shop.cancel) {
            Ok(Some(apt)) if apt.candidate(&package, shop.cancel)?.is_some() => return Ok(apt),
            Ok(Some(apt)) => {
                names.extend(apt.names("^linux-source-[0-9]", shop.cancel)?);
                "neither the host's apt nor the distribution's backports have it".to_string()
            }
            Ok(None) => "the host's apt does not have it".into(),
            Err(error) if error.kind == crate::error::ErrorKind::Interrupted => return Err(error),
            Err(error) => {
                format!("the host's apt does not have it, and the backports cannot be asked: {}", error.message)
            }
        };
        Err(self.unknown(&why, &names, shop))
    }

    /// There is no such version; says which there are.
    fn unknown(&self, why: &str, packages: &[String], shop: &Shop<'_>) -> Error {
        let offered = packages.iter().filter_map(|name| name.strip_prefix("linux-source-")).map(str::to_owned);
        let mut known: Vec<String> =
            offered.chain(self.released(shop).into_iter().map(|source| source.version)).collect();
        known.sort_by_key(|version| number_parts(version));
        known.dedup();
        let error = Error::kernel(format!("there is no source of Linux {} to be had: {why}", self.version));
        let other = "or name an archive, a tree or a git repository: `kernel.source` in the recipe, or --kernel PATH";
        match known.is_empty() {
            true => error.hint(format!("run `apt-get update`, {other}")),
            false => error.hint(format!("there is {}; {other}", known.join(", "))),
        }
    }
}

/// Fetches `package` into `folder` and takes the archive out of it. Returns the archive and the id of the source.
fn download(package: &str, apt: &Apt, folder: &Path, shop: &Shop<'_>) -> Result<(PathBuf, String)> {
    shop.events.phase(Phase::Fetch, format!("{package} by apt-get download"), || {
        let deb = apt.download(package, folder, shop.events, shop.cancel)?;
        let id = file_name(&deb).trim_end_matches(".deb").replace("_all", "");
        let extract = Tool::new("dpkg-deb").arg("-x").arg(&deb).arg(folder).deadline(Duration::from_secs(600));
        let output = extract.output(shop.cancel)?;
        if !output.status.success() {
            return Err(unpack::damaged(&deb, &output.tail(2)));
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
