//! Names for builds: hashes over everything that decides what comes out. Pure.

use sha2::{Digest, Sha256};

use super::kconfig::Options;
use super::kconfig::alternative::Wanted;
use crate::digest::hex;

/// The architecture, as Kbuild calls it.
pub(super) const ARCH: &str = "x86_64";

/// Changes when kdbg itself starts to build or file kernels differently.
const FORMAT: &str = "kdbg kernel 4";

/// The key of a build: source, finished configuration, compiler, architecture.
pub(super) fn of_build(source: &str, config: &Options, compiler: &str) -> String {
    hash(&["build", source, &config.to_fragment(), compiler])
}

/// The name of a request, before anything is configured.
pub(super) fn of_inputs(source: &str, wanted: &Wanted, compiler: &str) -> String {
    hash(&["inputs", source, &wanted.to_text(), compiler])
}

/// The key of a distribution's kernel: its package, version and the hashes of the package and of its debug information.
pub(super) fn of_package(package: &str, version: &str, hashes: [&str; 2]) -> String {
    hash(&["package", package, version, hashes[0], hashes[1]])
}

/// The name of a request for a package, before apt is asked which one that is.
pub(super) fn of_package_request(package: &str) -> String {
    hash(&["package inputs", package])
}

fn hash(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in [FORMAT, ARCH].iter().chain(parts) {
        hasher.update(part.len().to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hex(&hasher.finalize()[..10])
}

#[cfg(test)]
mod tests {
    use super::super::kconfig::Origin;
    use super::super::kconfig::alternative::Alternative;
    use super::*;

    #[test]
    fn every_part_changes_the_key() {
        let a = Options::parse("CONFIG_A=y\n").unwrap();
        let b = Options::parse("CONFIG_A=n\n").unwrap();
        let wanted = Wanted { options: a.clone(), ..Wanted::default() };
        let origin = Origin { by: "mine".into(), place: "mine.config:2".into() };
        let other = Alternative { symbol: "B".into(), value: "y".into(), origin };
        let otherwise = Wanted { alternatives: [("A".into(), vec![other])].into(), ..wanted.clone() };
        let keys = [
            of_build("s", &a, "c"),
            of_build("t", &a, "c"),
            of_build("s", &b, "c"),
            of_build("s", &a, "d"),
            of_inputs("s", &wanted, "c"),
            of_inputs("s", &otherwise, "c"),
            of_package("s", "1", ["c", "d"]),
            of_package("s", "1", ["c", "e"]),
            of_package_request("s"),
        ];
        let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
        assert_eq!(keys[0], of_build("s", &a, "c"));
        assert_eq!(keys[0].len(), 20);
    }
}
