//! Archives on a server: one that a recipe names, and kernel.org's releases.

use std::fs;

use super::http::Client;
use super::unpack::{self, Packed};
use super::{KernelSource, Shop, Supplier, file_name};
use crate::error::{IoContext, Result};
use crate::event::Phase;

/// The variable that names another server with kernel.org's folders.
pub(super) const MIRROR_VARIABLE: &str = "KDBG_KERNEL_MIRROR";
/// Where the folders `v5.x`, `v6.x` and so on are.
const MIRROR: &str = "https://cdn.kernel.org/pub/linux/kernel";

/// An archive with a known hash.
pub(super) struct Download {
    pub(super) url: String,
    pub(super) sha256: String,
    /// What the tree will be called.
    pub(super) id: String,
}

impl Supplier for Download {
    fn at_hand(&self, shop: &Shop<'_>) -> Option<KernelSource> {
        shop.filed(&self.id)
    }

    fn supply(&self, shop: &Shop<'_>) -> Result<KernelSource> {
        let _lock = shop.lock()?;
        match shop.filed(&self.id) {
            Some(source) => Ok(source),
            None => self.fetch(shop),
        }
    }
}

impl Download {
    /// One that a recipe names.
    pub(super) fn named(url: &str, sha256: &str) -> Download {
        // As a local archive with these bytes would be called.
        Download { url: url.into(), sha256: sha256.into(), id: format!("archive-{}", &sha256[..16.min(sha256.len())]) }
    }

    /// Fetches and unpacks it; the caller holds the lock.
    pub(super) fn fetch(&self, shop: &Shop<'_>) -> Result<KernelSource> {
        let folder = shop.cache.path("downloads");
        fs::create_dir_all(&folder).or_host(format!("make {}", folder.display()))?;
        // The same name in every run, so that the next one goes on where this one was cut.
        let partial = folder.join(format!("{}.part", self.id));
        let there = fs::File::options().create(true).append(true).open(&partial);
        there.or_host(format!("write {}", partial.display()))?;
        shop.cache.hold(&partial);
        shop.events.phase(Phase::Fetch, self.url.clone(), || {
            Client::new(shop).fetch(&self.url, &self.sha256, &partial)?;
            let size = fs::metadata(&partial).map_or(0, |metadata| metadata.len());
            Ok(((), format!("{} ({} MB), checksum verified", file_name(self.url.as_ref()), size / 1_000_000)))
        })?;
        let source = unpack::unpack(&Packed::fetched(&partial, &self.url), &|_| self.id.clone(), shop);
        // Its hash is right, so it will not get any better.
        let _ = fs::remove_file(&partial);
        source
    }
}

/// kernel.org's releases of one major version, with their hashes.
pub(super) struct Releases {
    folder: String,
    /// Version and hash.
    archives: Vec<(String, String)>,
}

impl Releases {
    /// Those that the mirror has of the major version of `version`.
    ///
    /// # Errors
    /// The mirror cannot be reached.
    pub(super) fn like(version: &str, shop: &Shop<'_>) -> Result<Releases> {
        let mirror = std::env::var(MIRROR_VARIABLE).ok().filter(|address| !address.is_empty());
        let mirror = mirror.as_deref().unwrap_or(MIRROR).trim_end_matches('/').to_string();
        let folder = format!("{mirror}/v{}.x", version.split('.').next().unwrap_or_default());
        let sums = Client::new(shop).text(&format!("{folder}/sha256sums.asc"))?.unwrap_or_default();
        Ok(Releases { folder, archives: archives(&sums) })
    }

    /// All versions.
    pub(super) fn versions(&self) -> impl Iterator<Item = &str> {
        self.archives.iter().map(|(version, _)| version.as_str())
    }

    /// The archive of one of [`Releases::versions`].
    pub(super) fn archive(&self, version: &str) -> Option<Download> {
        let (_, sha256) = self.archives.iter().find(|(known, _)| known == version)?;
        let name = format!("linux-{version}");
        // Another server may call something else so.
        let id = format!("{name}-{}", &sha256[..8]);
        Some(Download { url: format!("{}/{name}.tar.xz", self.folder), sha256: sha256.clone(), id })
    }
}

/// Versions and hashes out of kernel.org's list of hashes: `HASH  linux-6.1.192.tar.xz` a line.
fn archives(sums: &str) -> Vec<(String, String)> {
    let read = |line: &str| {
        let (hash, name) = line.split_once(char::is_whitespace)?;
        let version = name.trim().strip_prefix("linux-")?.strip_suffix(".tar.xz")?;
        let plain = version.chars().all(|c| c.is_ascii_digit() || c == '.');
        let is_hash = hash.len() == 64 && hash.chars().all(|c| c.is_ascii_hexdigit());
        (plain && is_hash).then(|| (version.to_string(), hash.to_ascii_lowercase()))
    };
    sums.lines().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::archives;

    #[test]
    fn releases_are_read_from_the_list_of_hashes() {
        let hash = "0".repeat(64);
        let names =
            ["linux-6.1.192.tar.xz", "linux-6.1.tar.gz", "patch-6.1.xz", "linux-6.2-rc1.tar.xz", "linux-6.2.tar.xz"];
        let sums: String = names.iter().map(|name| format!("{hash}  {name}\n")).collect();
        let text = format!("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{sums}-----BEGIN PGP SIGNATURE-----\n");
        let found: Vec<String> = archives(&text).into_iter().map(|(version, _)| version).collect();
        assert_eq!(found, ["6.1.192", "6.2"]);
    }
}
