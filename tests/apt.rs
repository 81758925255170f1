//! Kernel sources that apt brings, from an apt that is a fake: fetched once, unpacked and built, or refused with nothing
//! kept. The kernels are mocks ([`support::kernel`]).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;

use rustix::process::Signal;
use support::builds::{LIMIT, assert_tidy, built, place_with, start};
use support::kernel::{Tree, pack, package};
use support::{AFTERMATH, Ended, Place};

/// A source package that no host has: kdbg has to ask apt for it.
const PACKAGE: &str = "linux-source-5.999";
/// Where the archive is in it.
const PATH: &str = "usr/src/linux-source-5.999.tar.xz";

/// The tree that it should hold.
fn tree_of_package() -> Tree {
    Tree { version: "5.999.7", ..Tree::default() }
}

/// Builds the kernel of [`PACKAGE`], of which the cache knows nothing. apt knows of it; `download` is a shell's way to
/// bring it.
fn build_with_apt(place: &Place, download: &str) -> Ended {
    fake_apt(place, "  Candidate: 5.999.7-1", download);
    let ended = start(place, "version: '5.999'").wait_within(LIMIT);
    assert_tidy(place);
    ended
}

/// Makes apt say this of [`PACKAGE`], and bring it that way. It knows no mirror.
fn fake_apt(place: &Place, line: &str, download: &str) {
    let names = "echo 'linux-source-5.998 - source'; echo 'linux-source-6.997 - source'";
    let policy = format!("printf '{PACKAGE}:\n  Installed: (none)\n{line}\n'");
    place.fake("apt-cache", &format!("case $1 in search) {names};; *) {policy};; esac"));
    let others = "indextargets*) exit 0;; *--print-uris*) exit 100;; *download*) ;; *) exit 99;;";
    place.fake("apt-get", &format!("case \"$*\" in {others} esac\n{download}"));
}

/// As [`build_with_apt`], with a package that has this archive at this path.
fn build_from(place: &Place, path: &str, archive: &[u8]) -> Ended {
    let deb = package(place.path(), PACKAGE, path, archive);
    build_with_apt(place, &format!("cp '{}' .", deb.display()))
}

#[test]
fn a_source_is_fetched_once_unpacked_and_built() {
    let place = Place::with_empty_cache();
    let first = built(&build_from(&place, PATH, &tree_of_package().pack(PACKAGE)));
    assert_eq!((&first["cached"], &first["release"]), (&false.into(), &"5.999.7".into()));
    assert_eq!(place.cached("sources"), [format!("{PACKAGE}_1")]);
    let second = built(&build_with_apt(&place, "echo 'apt was asked'; exit 1"));
    assert_eq!((&second["cached"], &second["key"]), (&true.into(), &first["key"]));
}

#[test]
fn a_source_cut_short_is_refused_and_not_kept() {
    let whole = tree_of_package().pack(PACKAGE);
    for length in [0, 10, whole.len() / 2, whole.len() - 8] {
        let place = Place::with_empty_cache();
        let ended = build_from(&place, PATH, &whole[..length]);
        ended.assert_refused(4, &["cut short or damaged", "help: fetch it again"]);
        assert_eq!(place.cached("sources"), [""; 0], "{length} bytes");
    }
}

/// Packages that are whole and do not hold what they should.
#[test]
fn a_package_that_holds_no_source_is_refused_and_nothing_is_kept() {
    let poem = tempfile::tempdir().unwrap();
    fs::write(poem.path().join("README"), "a poem").unwrap();
    let cases = [
        (PATH, pack(poem.path(), "."), "it has no top folder"),
        (PATH, pack(poem.path(), PACKAGE), "is not a kernel tree"),
        ("usr/share/doc/README", Vec::new(), "holds no usr/src/linux-source-5.999.tar.xz"),
    ];
    for (path, archive, text) in cases {
        let place = Place::with_empty_cache();
        build_from(&place, path, &archive).assert_refused(4, &[text]);
        assert_eq!(place.cached("sources"), [""; 0]);
    }
}

#[test]
fn a_download_that_fails_is_quoted() {
    let cases: [(&str, &[&str]); 3] = [
        (
            "echo 'E: Unable to locate package moon' >&2; exit 100",
            &["apt-get cannot download linux-source-5.999", "E: Unable to locate package moon", "`apt-get update`"],
        ),
        ("exit 0", &["apt-get left no .deb"]),
        ("echo 'not a package' > linux-source-5.999_1_all.deb", &["cut short or damaged"]),
    ];
    for (download, texts) in cases {
        let place = Place::with_empty_cache();
        build_with_apt(&place, download).assert_refused(4, texts);
        assert_eq!(place.cached("sources"), [""; 0]);
    }
}

#[test]
fn a_version_that_nobody_has_is_refused_with_those_that_there_are() {
    for line in ["  Candidate: (none)", ""] {
        let place = place_with(&Tree::default());
        fake_apt(&place, line, "echo 'apt was asked'; exit 1");
        let ended = start(&place, "version: '5.999'").wait_within(LIMIT);
        assert_tidy(&place);
        let texts = ["there is no source of Linux 5.999", "help: there is 5.998, 6.1.999, 6.997", "--kernel PATH"];
        ended.assert_refused(4, &texts);
    }
}

#[test]
fn ctrl_c_in_a_download_ends_it_and_keeps_nothing() {
    let place = Place::with_empty_cache();
    fake_apt(&place, "  Candidate: 5.999.7-1", "echo half > linux-source-5.999_1_all.deb; sleep 1000; :");
    let running = start(&place, "version: '5.999'");
    place.process("sleep");
    running.signal(Signal::INT);
    running.wait_within(AFTERMATH).assert_refused(130, &["interrupted"]);
    assert_tidy(&place);
    assert_eq!(place.cached("sources"), [""; 0]);
}

/// apt follows the distribution, which may be ahead of the recipe.
#[test]
fn a_source_of_another_version_than_asked_is_named() {
    let place = Place::with_empty_cache();
    fake_apt(&place, "  Candidate: 5.999.7-1", "echo 'apt was asked'; exit 1");
    let ended = start(&place, "version: '5.999.6'").wait_within(LIMIT);
    assert_tidy(&place);
    ended.assert_refused(4, &["no source of Linux 5.999.6", "the host's apt offers 5.999.7-1 of that series"]);
}
