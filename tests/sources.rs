//! Every kind of source that a recipe or `--kernel` can name, with mocks of kernels ([`support::kernel`]): what is built,
//! what is found again, and that nobody writes to what is the user's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use support::kernel::{Tree, pack};
use support::{Ended, Place};

/// How long a mock may take to build on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// Builds what stands below `kernel`, with these further arguments.
fn build(place: &Place, kernel: &str, args: &[&str]) -> Ended {
    let recipe = place.file("test.yaml", &format!("name: test\nkernel: {{ config: [], {kernel} }}\n"));
    let line = [&["build", recipe.to_str().unwrap(), "--json"], args].concat();
    let ended = place.kdbg(&line).wait_within(LIMIT);
    place.assert_nothing_left();
    assert_eq!(place.cached("staging"), [""; 0]);
    ended
}

/// What a build that succeeded says.
#[track_caller]
fn built(ended: &Ended) -> Value {
    ended.assert_code(0);
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended}"))
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
        ("tree: poem", "poem is not a kernel tree"),
        ("archive: poem.tar.xz", "is not a kernel tree"),
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
