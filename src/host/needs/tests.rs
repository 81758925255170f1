//! What is asked for by whom, and that every need can be met.

use super::*;

fn ids(needs: &[Need]) -> Vec<&str> {
    needs.iter().map(|need| need.id.as_ref()).collect()
}

#[test]
fn every_need_but_a_source_has_a_package_everywhere() {
    for need in needs_for(&Purpose::ALL, &["6.1"]) {
        if matches!(need.find, Find::Source { .. }) {
            continue;
        }
        for manager in Manager::ALL {
            assert!(need.packages.of(manager).is_some(), "{} has no package for {manager}", need.id);
        }
    }
}

#[test]
fn every_minimum_is_written_as_a_version() {
    let with_minimum = ["gcc", "make", "ld", "flex", "bison", "bc", "gdb", "qemu-system-x86_64"];
    for need in needs_for(&Purpose::ALL, &["6.1"]) {
        assert_eq!(need.minimum.is_some(), with_minimum.contains(&need.id.as_ref()), "{}", need.id);
    }
}

#[test]
fn build_asks_for_no_guest() {
    let needs = needs_for(&Purpose::BUILD, &["6.1.192"]);
    let ids = ids(&needs);
    assert!(ids.contains(&"gcc") && ids.contains(&"gdb"), "{ids:?}");
    for other in ["qemu-system-x86_64", "busybox", "git", "patch", "linux-source-6.1"] {
        assert!(!ids.contains(&other), "{other}: {ids:?}");
    }
}

#[test]
fn an_image_without_busybox_needs_none() {
    let image = |programs: &[&str]| {
        let needs = needs_with_image(&[Purpose::Image], &["6.1"], programs);
        needs.iter().map(|need| (need.id.to_string(), need.packages.of(Manager::Apt).is_some())).collect::<Vec<_>>()
    };
    assert_eq!(image(&["busybox", "nft"]), [("busybox".into(), true)]);
    assert_eq!(image(&["nft"]), []);
}

#[test]
fn each_need_appears_once_and_each_series_too() {
    let needs = needs_for(&Purpose::ALL, &["6.12", "6.1.192", "6.1"]);
    let mut unique = ids(&needs);
    assert_eq!(unique[..2], ["linux-source-6.1", "linux-source-6.12"]);
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), needs.len());
}

#[test]
fn a_newer_kernel_wants_a_newer_make() {
    let make = |kernel: &str| {
        let needs = needs_for(&Purpose::BUILD, &[kernel]);
        let minimum = needs.into_iter().find(|need| need.id == "make").unwrap().minimum.unwrap();
        minimum.version.to_string()
    };
    assert_eq!((make("6.1").as_str(), make("6.12").as_str()), ("3.82", "4.0"));
}
