//! Every kind of source that a recipe or `--kernel` can name, with mocks of kernels ([`support::kernel`]): what is built,
//! what is found again, and that nobody writes to what is the user's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use support::builds::{LIMIT, built};
use support::kernel::{Tree, pack};
use support::{Ended, Place};

/// Builds what stands below `kernel`, with these further arguments.
fn build(place: &Place, kernel: &str, args: &[&str]) -> Ended {
    let recipe = place.file("test.yaml", &format!("name: test\nkernel: {{ config: [], {kernel} }}\n"));
    let line = [&["build", recipe.to_str().unwrap(), "--json"], args].concat();
    let ended = place.kdbg(&line).wait_within(LIMIT);
    place.assert_nothing_left();
    assert_eq!(place.cached("staging"), [""; 0]);
    ended
}

#[track_caller]
fn git(folder: &Path, args: &[&str]) -> String {
    let who = ["-c", "user.name=a", "-c", "user.email=a@localhost", "-c", "init.defaultBranch=main"];
    let said = Command::new("git").arg("-C").arg(folder).args(who).args(args).output().unwrap();
    assert!(said.status.success(), "{args:?}: {}", String::from_utf8_lossy(&said.stderr));
    String::from_utf8(said.stdout).unwrap().trim().into()
}

#[test]
fn an_archive_beside_the_recipe_or_on_the_command_line_is_unpacked_once() {
    let place = Place::with_empty_cache();
    fs::write(place.path().join("mine.tar.xz"), Tree::default().pack("linux")).unwrap();
    let first = built(&build(&place, "source: { archive: mine.tar.xz }", &[]));
    assert_eq!((&first["cached"], &first["release"]), (&false.into(), &"6.1.999".into()));
    let again = built(&build(&place, "version: '6.1'", &["--kernel", "./mine.tar.xz"]));
    assert_eq!((&again["cached"], &again["key"]), (&true.into(), &first["key"]));
    assert_eq!(place.cached("sources").len(), 1);
}

#[test]
fn a_source_in_the_cache_that_was_changed_is_not_built() {
    let place = Place::with_empty_cache();
    fs::write(place.path().join("mine.tar.xz"), Tree::default().pack("linux")).unwrap();
    let mine = |more: &str| build(&place, &format!("source: {{ archive: mine.tar.xz }}{more}"), &[]);
    let first = built(&mine(""));
    let tree = Path::new(first["source_tree"].as_str().unwrap());
    built(&mine(", options: { BAR: y }"));
    fs::write(tree.join("a.c"), "").unwrap();
    assert_eq!(built(&mine(""))["cached"], true, "what was built of it is not concerned");
    mine(", options: { BAZ: y }").assert_refused(4, &["is damaged: files of it were changed", "rm -r '"]);
    fs::remove_dir_all(tree).unwrap();
    built(&mine(", options: { BAR: y }"));
}

#[test]
fn an_archive_of_every_kind_is_taken() {
    let place = Place::with_empty_cache();
    let tar = liblzma::decode_all(&Tree::default().pack("linux")[..]).unwrap();
    let zst = ruzstd::encoding::compress_to_vec(&tar[..], ruzstd::encoding::CompressionLevel::Fastest);
    for (name, bytes) in [("mine.tar.zst", &zst), ("mine.tar", &tar)] {
        fs::write(place.path().join(name), bytes).unwrap();
        let built = built(&build(&place, &format!("source: {{ archive: {name} }}"), &[]));
        assert_eq!(built["release"], "6.1.999", "{name}");
    }
}

#[test]
fn a_version_is_one_whatever_lies_in_the_current_folder() {
    let place = Place::with_empty_cache();
    Tree::default().write(&place.path().join("cache/sources/linux-source-6.1_0-test"));
    fs::create_dir(place.path().join("6.1")).unwrap();
    let by_version = built(&build(&place, "version: '6.1'", &["--kernel", "6.1"]));
    assert!(by_version["source_tree"].as_str().unwrap().ends_with("linux-source-6.1_0-test"), "{by_version}");
    build(&place, "version: '6.1'", &["--kernel", "./6.1"]).assert_refused(4, &["6.1 is not a kernel tree"]);
}

#[test]
fn a_tree_is_built_where_it_is_and_only_what_changed_is_built_again() {
    let place = Place::with_empty_cache();
    let tree = place.path().join("src/linux");
    Tree::default().write(&tree);
    let names = || fs::read_dir(&tree).unwrap().flatten().map(|entry| entry.file_name()).collect::<Vec<_>>();
    let before = names();
    let first = built(&build(&place, "source: { tree: src/linux }", &[]));
    assert_eq!(first["source_tree"], tree.canonicalize().unwrap().to_str().unwrap());
    assert_eq!(names(), before, "nothing is written into it");
    let same = built(&build(&place, "version: '6.1'", &["--kernel", "src/linux"]));
    assert_eq!((&same["cached"], &same["key"]), (&true.into(), &first["key"]));
    fs::write(tree.join("a.c"), "int answer = 43, other;\nvoid _start(void) { for (;;); }\n").unwrap();
    let changed = built(&build(&place, "source: { tree: src/linux }", &[]));
    assert_eq!(changed["cached"], false);
    assert_ne!(changed["key"], first["key"]);
    assert_eq!(place.cached("objects").len(), 1, "in the folder that it was built in before");
    fs::write(tree.join(".config"), "").unwrap();
    let refused = build(&place, "source: { tree: src/linux }", &[]);
    refused.assert_refused(4, &["was built in place: it has .config", "help: clean it", "mrproper"]);
}

#[test]
fn what_is_no_kernel_is_refused_and_nothing_is_kept() {
    let place = Place::with_empty_cache();
    fs::create_dir(place.path().join("poem")).unwrap();
    fs::write(place.path().join("poem/README"), "a poem").unwrap();
    fs::write(place.path().join("poem.tar.xz"), pack(&place.path().join("poem"), "poem")).unwrap();
    fs::write(place.path().join("text.tar.xz"), "a poem\n".repeat(100)).unwrap();
    for (source, text) in [
        ("tree: poem", "poem is not a kernel tree\n --> "),
        ("archive: poem.tar.xz", "poem.tar.xz is not a kernel tree"),
        ("archive: text.tar.xz", "is not an archive that kdbg unpacks"),
    ] {
        build(&place, &format!("source: {{ {source} }}"), &[]).assert_refused(4, &[text, "help: "]);
    }
    build(&place, "source: { tree: moon }", &[]).assert_refused(2, &["moon cannot be taken", "test.yaml:2:"]);
    std::os::unix::fs::symlink("/etc", place.path().join("link")).unwrap();
    build(&place, "source: { tree: link }", &[]).assert_refused(2, &["leads out of the recipe's folder"]);
    assert_eq!(place.cached("sources"), [""; 0]);
}

#[test]
fn a_revision_of_a_repository_is_exported_by_its_commit() {
    let place = Place::with_empty_cache();
    let repository = place.path().join("linux");
    Tree::default().write(&repository);
    git(&repository, &["init", "--quiet"]);
    git(&repository, &["add", "."]);
    git(&repository, &["commit", "--quiet", "-m", "one"]);
    git(&repository, &["tag", "-a", "-m", "one", "v1"]);
    let commit = git(&repository, &["rev-parse", "HEAD"]);
    fs::write(repository.join("a.c"), "this does not compile").unwrap();
    let at = |revision: &str| build(&place, "version: '6.1'", &["--kernel", &format!("linux@{revision}")]);
    let first = built(&at("v1"));
    assert_eq!(place.cached("sources"), [format!("git-{}", &commit[..16])], "as committed, not as it lies there");
    let same = built(&at(&commit));
    assert_eq!((&same["cached"], &same["key"]), (&true.into(), &first["key"]));
    at("moon").assert_refused(4, &["revision moon", "help: `git ls-remote"]);
}

/// A patch of the mock's program.
const PATCH: &str =
    "--- a/a.c\n+++ b/a.c\n@@ -1,2 +1,3 @@\n int answer = 42;\n+int patched;\n void _start(void) { for (;;); }\n";

#[test]
fn a_patched_source_is_another_one_and_the_first_stays_as_it_was() {
    let place = Place::with_empty_cache();
    let source = place.path().join("cache/sources/linux-source-6.1_0-test");
    Tree::default().write(&source);
    fs::create_dir(place.path().join("patches")).unwrap();
    place.file("patches/mine.patch", PATCH);
    let plain = built(&build(&place, "version: '6.1'", &[]));
    let pristine = fs::read_to_string(source.join("a.c")).unwrap();
    let patched = || built(&build(&place, "version: '6.1', patches: [mine.patch]", &[]));
    let first = patched();
    assert_ne!(first["key"], plain["key"]);
    assert_eq!(fs::read_to_string(source.join("a.c")).unwrap(), pristine);
    let tree = Path::new(first["source_tree"].as_str().unwrap()).join("a.c");
    assert!(fs::read_to_string(tree).unwrap().contains("int patched;"));
    assert_eq!(patched()["cached"], true);
    assert_eq!(built(&build(&place, "version: '6.1'", &[]))["key"], plain["key"], "a patched one is not taken for 6.1");
    place.file("patches/mine.patch", &PATCH.replace("patched", "other"));
    assert_eq!(patched()["cached"], false);
}

#[test]
fn a_patch_that_does_not_apply_is_named_with_file_and_hunk() {
    let place = Place::with_empty_cache();
    Tree::default().write(&place.path().join("cache/sources/linux-source-6.1_0-test"));
    fs::create_dir(place.path().join("patches")).unwrap();
    for (patch, text) in [
        (PATCH.replace("answer = 42", "answer = 41"), "a.c: hunk #1 fails at line 1"),
        (PATCH.replace("a.c", "moon.c"), "moon.c: no such file"),
        ("a poem\n".into(), "this is not a unified diff"),
        (PATCH.replace("b/a.c", "b/../../../a.c").replace("a/a.c", "a/../../../a.c"), "a.c"),
    ] {
        place.file("patches/mine.patch", &patch);
        let refused = build(&place, "version: '6.1', patches: [mine.patch]", &[]);
        refused.assert_refused(2, &["the patch `mine.patch` does not apply", "test.yaml:2:", text]);
        assert_eq!(place.cached("sources").len(), 1);
    }
    let missing = build(&place, "version: '6.1', patches: [your.patch]", &[]);
    missing.assert_refused(2, &["there is no patch `your.patch`", "`mine.patch`"]);
}

/// A server on loopback that has these files, and tells 404 of all others; it lives as long as the test. Its address.
fn serve(files: Vec<(&'static str, Vec<u8>)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let request = lines.next().unwrap_or_default();
            lines.find(|line| line.is_empty());
            let path = request.split(' ').nth(1).unwrap_or_default();
            let file = files.iter().find(|(name, _)| path == *name);
            let (status, body) = file.map_or(("404 Not Found", &[][..]), |(_, body)| ("200 OK", body));
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
        }
    });
    address
}

/// A kernel.org with one release, whose list of hashes has this one for it.
fn mirror(sha256: &str, archive: Vec<u8>) -> String {
    let sums = format!("{sha256}  linux-5.999.7.tar.xz\n{sha256}  linux-5.998.1.tar.xz\n");
    serve(vec![("/v5.x/sha256sums.asc", sums.into_bytes()), ("/v5.x/linux-5.999.7.tar.xz", archive)])
}

/// A place whose apt knows nothing, with this kernel.org.
fn place_with_mirror(mirror: String) -> Place {
    let mut place = Place::with_empty_cache();
    place.fake("apt-cache", "[ \"$1\" = search ] || echo '  Candidate: (none)'");
    place.fake("apt-get", "[ \"$1\" = indextargets ]");
    place.mirror = Some(mirror);
    place
}

fn release() -> (String, Vec<u8>) {
    let archive = Tree { version: "5.999.7", ..Tree::default() }.pack("linux-5.999.7");
    (kdbg::digest::sha256(&archive), archive)
}

#[test]
fn a_version_that_no_distribution_has_is_downloaded_once() {
    let (sha256, archive) = release();
    let mut place = place_with_mirror(mirror(&sha256, archive));
    let first = built(&build(&place, "version: '5.999'", &[]));
    assert_eq!((&first["cached"], &first["release"]), (&false.into(), &"5.999.7".into()));
    let id = format!("linux-5.999.7-{}", &sha256[..8]);
    assert_eq!((place.cached("sources"), place.cached("downloads")), (vec![id], Vec::new()));
    place.mirror = None;
    let again = built(&build(&place, "version: '5.999.7'", &[]));
    assert_eq!((&again["cached"], &again["key"]), (&true.into(), &first["key"]));
    let texts = ["there is no source of Linux 5.997", "cannot fetch", "help: there is 5.999.7"];
    build(&place, "version: '5.997'", &[]).assert_refused(4, &texts);
}

#[test]
fn a_release_that_kernel_org_does_not_have_is_refused_with_those_that_it_has() {
    let (sha256, archive) = release();
    let place = place_with_mirror(mirror(&sha256, archive));
    for (version, there) in [("5.999.6", "there is 5.999.7;"), ("5.997", "there is 5.998.1, 5.999.7;")] {
        let refused = build(&place, &format!("version: '{version}'"), &[]);
        let texts = [&format!("no source of Linux {version}"), "kernel.org does not have it", there, "test.yaml:2:"];
        refused.assert_refused(4, &texts);
    }
    assert_eq!(place.cached("sources"), [""; 0]);
}

#[test]
fn a_download_with_the_wrong_checksum_is_refused_and_nothing_is_kept() {
    let (_, archive) = release();
    let place = place_with_mirror(mirror(&"0".repeat(64), archive));
    build(&place, "version: '5.999'", &[]).assert_refused(4, &["has the wrong checksum", "nothing of it is kept"]);
    assert_eq!((place.cached("sources"), place.cached("downloads")), (Vec::new(), Vec::new()));
}

#[test]
fn an_archive_that_the_recipe_names_by_its_address_is_downloaded_once() {
    let (sha256, archive) = release();
    let address = serve(vec![("/mine.tar.xz", archive)]);
    let place = Place::with_empty_cache();
    let source = |name: &str, sha256: &str| format!("source: {{ url: '{address}/{name}', sha256: '{sha256}' }}");
    let first = built(&build(&place, &source("mine.tar.xz", &sha256), &[]));
    assert_eq!(first["release"], "5.999.7");
    let again = built(&build(&place, &source("mine.tar.xz", &sha256), &[]));
    assert_eq!((&again["cached"], &again["key"]), (&true.into(), &first["key"]));
    build(&place, &source("your.tar.xz", &"1".repeat(64)), &[]).assert_refused(4, &["the server has no such file"]);
    build(&place, &source("mine.tar.xz", &"1".repeat(64)), &[])
        .assert_refused(4, &["has the wrong checksum", "test.yaml:2:"]);
}
