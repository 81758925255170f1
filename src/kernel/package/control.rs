//! What apt prints, read: control files and names.
//!
//! Pure.

use std::collections::BTreeSet;

use super::super::kconfig::Options;
use super::super::kconfig::alternative::Wanted;
use crate::builtin;

/// What kdbg reads of a package's control file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Stanza {
    pub(super) package: String,
    pub(super) version: String,
    depends: String,
}

impl Stanza {
    /// The kernel that a package without one depends on, as `linux-image-amd64` does on the newest.
    pub(super) fn depends_on_kernel(&self) -> Option<&str> {
        let names = self.depends.split([',', '|']).filter_map(|part| part.split_whitespace().next());
        names.into_iter().find(|name| name.starts_with("linux-image-"))
    }
}

/// The first stanza of a control file.
pub(super) fn stanza(text: &str) -> Option<Stanza> {
    let lines = || text.lines().take_while(|line| !line.is_empty());
    let field = |name: &str| lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::to_string);
    let depends = field("Depends").unwrap_or_default();
    Some(Stanza { package: field("Package")?, version: field("Version")?, depends })
}

/// The package with the debug information of a kernel's package. A signed kernel and its unsigned twin share one.
pub(super) fn debug_package(image: &str) -> String {
    format!("{}-dbg", image.trim_end_matches("-unsigned"))
}

/// Of these packages, the kernels whose debug information is among them too, in the order of their versions; without
/// the unsigned twins of signed ones.
pub(super) fn with_debug_packages<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let names: BTreeSet<&str> = names.map(str::trim).collect();
    let has_debug = |name: &&&str| {
        !name.ends_with("-dbg") && !name.ends_with("-unsigned") && names.contains(debug_package(name).as_str())
    };
    let mut kernels: Vec<String> = names.iter().filter(has_debug).map(ToString::to_string).collect();
    kernels.sort_by_cached_key(|name| (numbers(name), name.clone()));
    kernels
}

fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// The series of a kernel by its package's name: `6.1` of `linux-image-6.1.0-48-cloud-amd64`.
fn series(image: &str) -> Option<String> {
    let mut parts = image.strip_prefix("linux-image-")?.split(['.', '-']);
    let (major, minor) = (parts.next()?, parts.next()?);
    let is_number = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
    (is_number(major) && is_number(minor)).then(|| format!("{major}.{minor}"))
}

/// The package with the source of a kernel that is called `linux-image-… VERSION`, and its version.
pub(super) fn source_package(kernel: &str) -> Option<(String, &str)> {
    let (image, version) = kernel.split_once(' ')?;
    Some((format!("linux-source-{}", series(image)?), version))
}

/// The compiler that built a kernel, as its configuration has it.
pub(super) fn compiler(config: &Options) -> String {
    match config.value("CC_VERSION_TEXT").trim_matches('"') {
        "n" => "unknown".into(),
        text => text.into(),
    }
}

/// What `asked` has on and `config` off. How kdbg's own kernels boot and are read, which the fragment `base` says, is
/// left out: a distribution's kernel does that in its way.
pub(super) fn lacking(wanted: &Wanted, config: &Options) -> Vec<String> {
    let base = builtin::file("kconfigs/base.config").and_then(|text| Options::parse(text).ok()).unwrap_or_default();
    let is_off = |(symbol, value): &(&String, &String)| {
        let others = wanted.alternatives.get(*symbol).into_iter().flatten().map(|other| &other.symbol);
        matches!(value.as_str(), "y" | "m")
            && std::iter::once(*symbol).chain(others).all(|symbol| config.value(symbol) == "n")
            && !base.0.contains_key(*symbol)
    };
    wanted.options.0.iter().filter(is_off).map(|(symbol, _)| symbol.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::kconfig::Origin;
    use super::super::super::kconfig::alternative::Alternative;
    use super::*;

    #[test]
    fn a_package_that_leads_to_a_kernel_is_followed() {
        let of = |text: &str| stanza(text).unwrap();
        let meta = of(
            "Package: linux-image-amd64\nVersion: 6.1.172-1\nDepends: linux-image-6.1.0-48-amd64 (= 6.1.172-1)\n\nPackage: x\n",
        );
        assert_eq!((meta.package.as_str(), meta.version.as_str()), ("linux-image-amd64", "6.1.172-1"));
        assert_eq!(meta.depends_on_kernel(), Some("linux-image-6.1.0-48-amd64"));
        let kernel = of("Package: k\nVersion: 1\nDepends: kmod, initramfs-tools (>= 0.120) | linux-initramfs-tool\n");
        assert_eq!(kernel.depends_on_kernel(), None);
        assert_eq!(stanza("N: Unable to locate package x\n"), None);
    }

    #[test]
    fn only_kernels_with_debug_information_are_offered_in_the_order_of_their_versions() {
        let names = "linux-image-6.1.0-9-amd64\nlinux-image-6.1.0-9-amd64-dbg\nlinux-image-6.1.0-10-amd64\n\
                     linux-image-6.1.0-10-amd64-dbg\nlinux-image-6.1.0-10-amd64-unsigned\nlinux-image-rt\n";
        let expected = ["linux-image-6.1.0-9-amd64", "linux-image-6.1.0-10-amd64"];
        assert_eq!(with_debug_packages(names.lines()), expected);
    }

    #[test]
    fn what_a_configuration_lacks_is_named() {
        let of = |text: &str| Options::parse(text).unwrap();
        let config = of("CONFIG_VETH=m\n# CONFIG_DUMMY is not set\nCONFIG_CC_VERSION_TEXT=\"gcc-12 12.2.0\"\n");
        let asked = of("CONFIG_VETH=y\nCONFIG_DUMMY=y\nCONFIG_HSR=m\nCONFIG_FRAME_POINTER=y\nCONFIG_IPV6=n\n");
        let mut wanted = Wanted { options: asked.clone(), ..Wanted::default() };
        assert_eq!(lacking(&wanted, &config), ["DUMMY", "HSR"]);
        let origin = Origin { by: "mine".into(), place: String::new() };
        let other = Alternative { symbol: "VETH".into(), value: "y".into(), origin };
        wanted.alternatives.insert("HSR".into(), vec![other]);
        assert_eq!(lacking(&wanted, &config), ["DUMMY"]);
        assert_eq!((compiler(&config).as_str(), compiler(&asked).as_str()), ("gcc-12 12.2.0", "unknown"));
    }

    #[test]
    fn a_package_tells_its_series() {
        assert_eq!(series("linux-image-6.1.0-48-cloud-amd64").as_deref(), Some("6.1"));
        assert_eq!(series("linux-image-6.12.9+bpo-amd64").as_deref(), Some("6.12"));
        assert_eq!(series("linux-image-cloud-amd64"), None);
        let source = source_package("linux-image-6.1.0-48-cloud-amd64 6.1.172-1");
        assert_eq!(source, Some(("linux-source-6.1".into(), "6.1.172-1")));
    }
}
