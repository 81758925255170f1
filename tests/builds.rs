//! Builds that go wrong, or are disturbed, and the cache after that: nothing half-made is ever filed, and what was filed
//! is found again. The kernels are mocks ([`support::kernel`]): no guest runs here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use support::kernel::{Tree, pack, package};
use support::{AFTERMATH, Ended, Place, Running};

/// How long a mock may take to build on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);
/// How long a build may take to notice that make has ended.
const NOTICED: Duration = Duration::from_secs(10);
/// The mock's name in the cache.
const SOURCE: &str = "linux-source-6.1_0-test";

/// A place whose cache holds this source and no kernel.
fn place_with(tree: &Tree) -> Place {
    let place = Place::with_empty_cache();
    tree.write(&place.path().join("cache/sources").join(SOURCE));
    place
}

/// Starts a build of what needs this below `kernel`.
fn start(place: &Place, kernel: &str) -> Running {
    let recipe = place.file("test.yaml", &format!("name: test\nkernel: {{ config: [], {kernel} }}\n"));
    start_file(place, &recipe)
}

fn start_file(place: &Place, recipe: &Path) -> Running {
    place.kdbg(&["build", recipe.to_str().unwrap(), "--json"])
}

/// Starts a build of the mock.
fn start_mock(place: &Place) -> Running {
    start(place, "version: '6.1', options: { BAR: y }")
}

/// Builds the mock to the end.
fn build(place: &Place) -> Ended {
    let ended = start_mock(place).wait_within(LIMIT);
    assert_tidy(place);
    ended
}

/// What a build that succeeded says.
#[track_caller]
fn built(ended: &Ended) -> Value {
    ended.assert_code(0);
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended}"))
}

/// No process, no temporary file, nothing half-made.
#[track_caller]
fn assert_tidy(place: &Place) {
    place.assert_nothing_left();
    assert_eq!(place.cached("staging"), [""; 0]);
}

/// No kernel and no memory of one.
#[track_caller]
fn assert_nothing_filed(place: &Place) {
    assert_eq!(place.cached("kernels"), [""; 0]);
}

/// How often make was asked for the mock's vmlinux.
fn times_made(place: &Place) -> usize {
    let made = place.path().join("cache/objects").join(format!("{SOURCE}-x86_64/made"));
    fs::read_to_string(made).unwrap_or_default().lines().count()
}

// Builds

#[test]
fn a_kernel_is_built_once_and_found_after_that() {
    let place = place_with(&Tree::default());
    let first = built(&build(&place));
    assert_eq!((&first["cached"], &first["release"]), (&false.into(), &"6.1.999".into()));
    for (file, has, has_not) in [("vmlinux", ".gdb_index", "nothing"), ("boot_image", ".text", ".debug_")] {
        let sections = readelf("-SW", &first[file]);
        assert!(sections.contains(has) && !sections.contains(has_not), "{file}: {sections}");
        let note = readelf("-n", &first[file]);
        assert!(note.contains(first["build_id"].as_str().unwrap()), "{file}: {note}");
    }
    let config = fs::read_to_string(first["config"].as_str().unwrap()).unwrap();
    assert_eq!(config, "CONFIG_BAR=y\n");
    place.fake("make", "echo 'make was run'; exit 1");
    let second = built(&build(&place));
    assert_eq!((&second["cached"], &second["key"]), (&true.into(), &first["key"]));
    assert_eq!(place.cached("kernels").len(), 2, "the kernel, and `inputs`");
    assert_eq!(times_made(&place), 1);
}

fn readelf(what: &str, file: &Value) -> String {
    let output = Command::new("readelf").args([what, file.as_str().unwrap()]).output().unwrap();
    assert!(output.status.success(), "{file}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_file_that_does_not_compile_is_shown_with_its_first_error() {
    let place = place_with(&Tree { source: "int fine;\nfoo first;\nbar second;\n", ..Tree::default() });
    let ended = build(&place);
    ended.assert_refused(4, &["does not compile", "the first error:\n  a.c:2:1: error: unknown type name 'foo'"]);
    assert_nothing_filed(&place);
    let log = ended.stderr.split_whitespace().find(|word| word.ends_with("build.log")).unwrap();
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("unknown type name 'bar'") && log.contains("make: *** "), "{log}");
}

/// Steps of make that fail before anything is compiled, and what is said of them.
#[test]
fn a_make_that_fails_is_quoted() {
    let cases: [(&str, &[&str]); 3] = [
        ("echo 'ld: undefined reference to moon'; exit 1", &["exit code 2", "undefined reference to moon"]),
        (
            "echo 'cp: moon: No space left on device'; exit 1",
            &["No space left", "the disk is full", "help: free some space"],
        ),
        ("kill -KILL 0", &["does not compile (killed by signal 9)"]),
    ];
    for (step, texts) in cases {
        let place = place_with(&Tree::doing(step));
        build(&place).assert_refused(4, texts);
        assert_nothing_filed(&place);
    }
}

#[test]
fn what_a_configuration_comes_to_is_explained_without_compiling_it() {
    let place = place_with(&Tree::default());
    let explain = |options: &str| {
        let text = format!("name: test\nkernel:\n  version: '6.1'\n  config: []\n  options: {options}\n");
        let recipe = place.file("test.yaml", &text);
        let ended = place.kdbg(&["build", recipe.to_str().unwrap(), "--explain", "--json"]).wait_within(LIMIT);
        assert_tidy(&place);
        let explained: Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended}"));
        (ended, explained)
    };
    let (ended, explained) = explain("{ BAR: y, FOO: y }");
    ended.assert_code(0);
    assert_eq!((&explained["version"], &explained["dropped"]), (&"6.1.999".into(), &serde_json::json!([])));
    let bar = &explained["asked"][0];
    assert_eq!((&bar["symbol"], &bar["by"]), (&"BAR".into(), &"kernel.options".into()));
    assert!(bar["place"].as_str().unwrap().ends_with("test.yaml:5"), "{bar}");
    let (ended, explained) = explain("{ BAZ: y, FOO: y }");
    ended.assert_code(4);
    assert!(ended.stderr.contains("FOO: asked y, got n: it needs BAR"), "{ended}");
    assert_eq!(explained["dropped"][0]["why"], "it needs BAR (BAR is n)");
    assert_nothing_filed(&place);
    assert_eq!(place.cached("objects"), [""; 0]);
}

#[test]
fn an_option_that_is_lost_is_named_with_its_reason_and_nothing_is_compiled() {
    let place = place_with(&Tree::default());
    let ended = start(&place, "version: '6.1', options: { FOO: y }").wait_within(LIMIT);
    assert_tidy(&place);
    ended.assert_refused(4, &["FOO: asked y, got n: it needs BAR", "test.yaml:2\n", "help: ", "kernel.options"]);
    assert_nothing_filed(&place);
    assert_eq!(times_made(&place), 0);
}

/// A place whose make leaves a process of another session behind, which holds make's output open, and goes on with
/// `step`. No signal to make's group reaches that process.
fn place_with_straggler(step: &str) -> Place {
    let place = Place::with_empty_cache();
    let gone = place.path().join("gone");
    let gone = gone.display();
    let straggler = format!("setsid sh -c \"touch '{gone}'; exec sleep 1000\" &");
    let tree = Tree::doing(format!("{straggler} until [ -e '{gone}' ]; do sleep 0.01; done; {step}"));
    tree.write(&place.path().join("cache/sources").join(SOURCE));
    place
}

#[test]
fn what_make_leaves_running_is_not_waited_for() {
    let place = place_with_straggler("true");
    let ended = start_mock(&place).wait_within(NOTICED);
    assert_eq!(built(&ended)["cached"], false);
    place.process("sleep");
}

#[test]
fn a_failure_of_make_does_not_wait_for_what_it_leaves_running() {
    let place = place_with_straggler("echo 'ld: no moon'; exit 1");
    start_mock(&place).wait_within(NOTICED).assert_refused(4, &["ld: no moon"]);
    assert_nothing_filed(&place);
    place.process("sleep");
}

// Compilers

#[test]
fn the_host_chooses_the_compiler_which_is_part_of_the_key() {
    let mut place = place_with(&Tree::default());
    let usual = built(&build(&place));
    place.script("moon-gcc", &format!("echo used >> '{}'; exec gcc \"$@\"", place.path().join("used").display()));
    place.set("KDBG_CC", "moon-gcc");
    let same = built(&build(&place));
    assert_eq!((&same["cached"], &same["key"]), (&true.into(), &usual["key"]), "it says that it is the same version");
    place.script(
        "moon-gcc",
        &format!(
            "[ \"$1\" = --version ] && exec echo 'moon-gcc 1'; echo used >> '{}'; exec gcc \"$@\"",
            place.path().join("used").display()
        ),
    );
    fs::remove_file(place.path().join("used")).unwrap();
    let other = built(&build(&place));
    assert_eq!((&other["cached"], &other["compiler"]), (&false.into(), &"moon-gcc 1".into()));
    assert_ne!(other["key"], usual["key"]);
    let used = fs::read_to_string(place.path().join("used")).unwrap();
    assert_eq!(used.lines().count(), 3, "asked what it is, compiled, linked");
}

#[test]
fn a_compiler_that_is_none_is_refused() {
    for (name, text) in [
        ("no-such-gcc", "KDBG_CC=no-such-gcc: there is no such program"),
        ("true", "KDBG_CC=true is neither a gcc nor a clang"),
        ("gcc -m32", "KDBG_CC=`gcc -m32` is not the name of a compiler"),
    ] {
        let mut place = place_with(&Tree::default());
        place.set("KDBG_CC", name);
        build(&place).assert_refused(3, &[text, "help: "]);
        assert_eq!(times_made(&place), 0);
    }
}

// Interrupted builds

/// Where a build can be when it is disturbed: it executes `sleep` there, until `place/go` exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Compile,
    /// Likewise, and whoever sleeps does not listen to TERM.
    StubbornCompile,
    File,
}

impl Stage {
    const ALL: [Stage; 3] = [Stage::Compile, Stage::StubbornCompile, Stage::File];

    /// A place where a build gets here and no further.
    fn place(self) -> Place {
        let place = Place::with_empty_cache();
        let go = place.path().join("go");
        // The last command keeps the shell, so that the sleeper is its child.
        let pause = format!("[ -e '{}' ] || {{ sleep 1000; :; }}", go.display());
        let tree = match self {
            Stage::Compile => Tree::doing(pause),
            Stage::StubbornCompile => Tree::doing(format!("trap '' TERM INT; {pause}")),
            Stage::File => {
                place.fake("gdb-add-index", &format!("{pause}; exec \"$real\" \"$@\""));
                Tree::default()
            }
        };
        tree.write(&place.path().join("cache/sources").join(SOURCE));
        place
    }
}

#[test]
fn ctrl_c_in_a_build_ends_all_of_it() {
    for stage in Stage::ALL {
        let place = stage.place();
        let running = start_mock(&place);
        place.process("sleep");
        running.signal(Signal::INT);
        running.wait_within(AFTERMATH).assert_refused(130, &["interrupted"]);
        assert_tidy(&place);
        assert_nothing_filed(&place);
    }
}

#[test]
fn ctrl_c_does_not_wait_for_what_make_leaves_running() {
    let place = place_with_straggler("exec tail -f /dev/null");
    let running = start_mock(&place);
    place.process("tail");
    running.signal(Signal::INT);
    running.wait_within(AFTERMATH).assert_refused(130, &["interrupted"]);
    place.process("sleep");
}

#[test]
fn a_killed_kdbg_takes_its_build_along_and_the_next_one_succeeds() {
    for stage in Stage::ALL {
        let place = stage.place();
        let running = start_mock(&place);
        place.process("sleep");
        running.signal(Signal::KILL);
        running.wait_within(AFTERMATH);
        place.assert_nothing_left();
        assert_nothing_filed(&place);
        // Only the next one can tidy up.
        assert_eq!(place.cached("staging").len(), usize::from(stage == Stage::File), "{stage:?}");
        place.file("go", "");
        assert_eq!(built(&build(&place))["cached"], false, "{stage:?}");
    }
}

// Two at once

#[test]
fn of_two_builds_at_once_one_works_and_the_other_waits() {
    let place = Place::with_empty_cache();
    let go = place.path().join("go");
    let tree = Tree::doing(format!("until [ -e '{}' ]; do sleep 0.01; done", go.display()));
    tree.write(&place.path().join("cache/sources").join(SOURCE));
    let first = start_mock(&place);
    support::wait_until(LIMIT, "make vmlinux", || (times_made(&place) > 0).then_some(()));
    // The same file, which is not written again while one of them reads it.
    let [second, bored] = [(); 2].map(|()| start_file(&place, &place.path().join("test.yaml")));
    for waiting in [&second, &bored] {
        waiting.wait_for_words("another kdbg is building this kernel source; waiting for it");
    }
    bored.signal(Signal::INT);
    bored.wait_within(AFTERMATH).assert_refused(130, &["interrupted"]);
    place.file("go", "");
    let [first, second] = [first, second].map(|running| built(&running.wait_within(LIMIT)));
    assert_tidy(&place);
    assert_eq!((&first["cached"], &second["cached"]), (&false.into(), &true.into()));
    assert_eq!(first["key"], second["key"]);
    assert_eq!(times_made(&place), 1);
}

// The cache

/// Makes a file shorter by a byte.
fn cut(file: &Path) {
    let file = fs::OpenOptions::new().write(true).open(file).unwrap();
    file.set_len(file.metadata().unwrap().len() - 1).unwrap();
}

/// Changes a byte and keeps size and time.
fn flip(file: &Path) {
    let modified = file.metadata().unwrap().modified().unwrap();
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).unwrap();
    fs::File::options().write(true).open(file).unwrap().set_modified(modified).unwrap();
}

fn remove(file: &Path) {
    fs::remove_file(file).unwrap();
}

fn garble(file: &Path) {
    fs::write(file, "{").unwrap();
}

#[test]
fn a_kernel_that_is_damaged_in_the_cache_is_built_again() {
    type Damage = fn(&Path);
    let cases: [(&str, Damage); 13] = [
        ("vmlinux", flip),
        ("boot.elf", flip),
        ("config", flip),
        ("kernel.json", flip),
        ("seal.json", garble),
        ("vmlinux", cut),
        ("vmlinux", remove),
        ("boot.elf", cut),
        ("boot.elf", remove),
        ("kernel.json", cut),
        ("kernel.json", garble),
        ("kernel.json", remove),
        ("config", remove),
    ];
    let place = place_with(&Tree::default());
    let whole = built(&build(&place));
    let folder = Path::new(whole["vmlinux"].as_str().unwrap()).parent().unwrap();
    let sizes = || {
        ["vmlinux", "boot.elf", "config", "kernel.json"]
            .map(|name| fs::metadata(folder.join(name)).ok().map(|file| file.len()))
    };
    let sizes_before = sizes();
    for (count, (file, damage)) in (1..).zip(cases) {
        damage(&folder.join(file));
        let ended = build(&place);
        assert!(ended.stderr.contains("the kernel in the cache is damaged ("), "case {count}: {file}: {ended}");
        let again = built(&ended);
        assert_eq!((&again["cached"], &again["key"]), (&false.into(), &whole["key"]), "case {count}: {file}");
        assert_eq!(sizes(), sizes_before, "case {count}: {file}");
        assert_eq!(times_made(&place), 1 + count, "case {count}: {file}");
    }
}

#[test]
fn a_memory_of_a_kernel_that_is_gone_is_not_believed() {
    let place = place_with(&Tree::default());
    let whole = built(&build(&place));
    let inputs = place.path().join("cache/kernels/inputs");
    let memory = inputs.join(&place.cached("kernels/inputs")[0]);
    for text in ["", "00000000000000000000", "\u{1F319}\n\n"] {
        fs::write(&memory, text).unwrap();
        assert_eq!(built(&build(&place))["key"], whole["key"], "{text:?}");
        assert_eq!(fs::read_to_string(&memory).unwrap(), whole["key"].as_str().unwrap());
    }
    assert_eq!(times_made(&place), 1, "the kernel itself was there all the time");
}

// Sources

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
