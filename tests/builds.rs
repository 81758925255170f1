//! Builds that go well or wrong, and the cache after that: nothing half-made is ever filed, and what was filed is found
//! again. The kernels are mocks ([`support::kernel`]): no guest runs here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use support::Place;
use support::builds::{LIMIT, assert_nothing_filed, assert_tidy, build, built, objects, place_with, start, times_made};
use support::kernel::Tree;

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
fn where_a_version_does_not_know_an_option_its_alternative_is_asked_for() {
    let place = place_with(&Tree::default());
    fs::create_dir(place.path().join("kconfigs")).unwrap();
    let text = "name: test\nkernel: { version: '6.1', config: [mine] }\n";
    let recipe = place.file("test.yaml", text);
    let build = |fragment: &str, more: &[&str]| {
        place.file("kconfigs/mine.config", fragment);
        let ended = place.kdbg(&[&["build", recipe.to_str().unwrap(), "--json"], more].concat()).wait_within(LIMIT);
        assert_tidy(&place);
        ended
    };
    let renamed = "CONFIG_NEW_BAR=y\n# or: CONFIG_OLD_BAR=y\n# or: CONFIG_BAR=y\n";
    let ended = build(renamed, &["--explain"]);
    ended.assert_code(0);
    let explained: Value = serde_json::from_str(&ended.stdout).unwrap();
    let bar = &explained["asked"][0];
    assert_eq!((&bar["symbol"], &bar["instead_of"]), (&"BAR".into(), &"NEW_BAR".into()));
    assert!(bar["place"].as_str().unwrap().ends_with("mine.config:3"), "{bar}");
    build(renamed, &[]).assert_code(0);
    assert_eq!(times_made(&place), 1);
    build(renamed, &[]).assert_code(0);
    assert_eq!(times_made(&place), 1, "in the cache");
    // Another alternative is another request: the kernel in the cache is not taken for it.
    let other = build("CONFIG_NEW_BAR=y\n# or: CONFIG_FOO=y\n", &[]);
    other.assert_refused(4, &["FOO: asked y, got n: it needs BAR", "mine.config:2"]);
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

#[test]
fn a_path_that_the_tree_does_not_have_leaves_no_folder_to_build_in() {
    let place = place_with(&Tree::default());
    let ended = start(&place, "version: '6.1', debuggable: [moon/]").wait_within(LIMIT);
    assert_tidy(&place);
    ended.assert_refused(2, &["Linux 6.1.999 has no `moon/`", "test.yaml:2:"]);
    assert_eq!(place.cached("objects"), [""; 0]);
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

// ccache

/// A place whose ccache notes in `used` as what it was called, and has nothing cached.
fn place_with_ccache() -> Place {
    let mut place = place_with(&Tree::default());
    let used = place.path().join("used");
    let body =
        format!("name=${{0##*/}}; echo \"$name\" >> '{}'; PATH=${{PATH#*:}} exec \"$name\" \"$@\"", used.display());
    place.script("ccache", &body);
    place.set("KDBG_CCACHE", "");
    place
}

fn used(place: &Place) -> Vec<String> {
    let used = fs::read_to_string(place.path().join("used")).unwrap_or_default();
    used.lines().map(String::from).collect()
}

#[test]
fn ccache_stands_before_the_compiler_and_no_kernel_is_another_one() {
    let mut place = place_with_ccache();
    let ended = build(&place);
    let with = built(&ended);
    assert_eq!(used(&place), ["gcc"; 3], "tried, compiled, linked");
    assert!(ended.stderr.contains("; with ccache"), "{ended}");
    place.set("KDBG_CCACHE", "0");
    let without = built(&build(&place));
    assert_eq!((&without["cached"], &without["key"]), (&true.into(), &with["key"]));
    let object = || fs::metadata(objects(&place).join("a.o")).unwrap().modified().unwrap();
    let before = object();
    let other = start(&place, "version: '6.1'").wait_within(LIMIT);
    assert_eq!(built(&other)["cached"], false);
    assert!(!other.stderr.contains("ccache"), "{other}");
    assert_eq!(object(), before, "the command line is the same, so the object is still good");
    assert_eq!(used(&place).len(), 3);
}

#[test]
fn ccache_goes_with_another_compiler_and_with_the_wrapper_of_debuggable_files() {
    let mut place = place_with_ccache();
    built(&start(&place, "version: '6.1', debuggable: [a.c]").wait_within(LIMIT));
    assert_eq!(used(&place), ["gcc"; 3], "tried, compiled, linked");
    place.script("moon-gcc", "exec gcc \"$@\"");
    place.set("KDBG_CC", "moon-gcc");
    built(&start(&place, "version: '6.1', debuggable: [a.c], options: { BAR: y }").wait_within(LIMIT));
    assert_eq!(used(&place)[3..], ["moon-gcc", "moon-gcc"], "tried, linked: the wrapper's command line is the same");
    let path = place.path().join("bin/moon-gcc").display().to_string();
    place.set("KDBG_CC", path);
    built(&build(&place));
    assert_eq!(used(&place).len(), 5, "a path leads past it");
}

#[test]
fn a_ccache_that_does_not_work_is_said_and_not_used() {
    let place = place_with_ccache();
    place.script("ccache", "echo 'ccache: error: no moon'; exit 1");
    let ended = build(&place);
    assert_eq!(built(&ended)["cached"], false);
    assert!(ended.stderr.contains("built without ccache, which does not work: ccache: error: no moon"), "{ended}");
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
        let again = built(&build(&place));
        assert_eq!((&again["key"], &again["cached"]), (&whole["key"], &true.into()), "{text:?}");
        assert_eq!(fs::read_to_string(&memory).unwrap(), whole["key"].as_str().unwrap());
    }
    assert_eq!(times_made(&place), 1, "the kernel itself was there all the time");
    fs::write(&memory, "").unwrap();
    cut(Path::new(whole["vmlinux"].as_str().unwrap()));
    let ended = build(&place);
    assert!(ended.stderr.contains("the kernel in the cache is damaged ("), "{ended}");
    assert_eq!(built(&ended)["cached"], false);
}
