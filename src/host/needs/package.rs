//! What getting a distribution's kernel takes.
//!
//! Pure, as [`super`].

use super::{Need, Packages, Purpose};

/// What getting a distribution's kernel takes. No other package manager has these.
pub(super) fn needs() -> Vec<Need> {
    let of_debian = |name: &'static str, why: &'static str, package: &'static str| Need {
        packages: Packages { apt: Some(package.into()), ..Packages::default() },
        ..Need::program(name, Purpose::Package, why)
    };
    vec![
        of_debian(
            "apt-get",
            "downloads a kernel's packages: of distributions, only Debian's kernels are supported so far",
            "apt",
        ),
        of_debian("apt-cache", "finds a kernel's packages", "apt"),
        of_debian("dpkg-deb", "unpacks a kernel's packages", "dpkg"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::needs::needs_for;

    #[test]
    fn a_package_asks_for_no_compiler() {
        let needs = needs_for(&[Purpose::Package], &[] as &[&str]);
        let ids: Vec<&str> = needs.iter().map(|need| need.id.as_ref()).collect();
        assert_eq!(ids, ["strip", "objcopy", "gdb", "gdb-add-index", "apt-get", "apt-cache", "dpkg-deb"]);
    }
}
