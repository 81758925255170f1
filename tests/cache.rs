//! `kdbg cache`, beside builds of mocks ([`support::kernel`]): what is listed, what goes, and that nothing goes which a
//! living kdbg uses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use serde_json::Value;
use support::kernel::Tree;
use support::{AFTERMATH, Place, Running};

const LIMIT: Duration = Duration::from_secs(30);
const SOURCE: &str = "linux-source-6.1_0-test";

/// A place whose cache holds the mock, which is built as soon as there is a file `go`.
fn place() -> Place {
    let place = Place::with_empty_cache();
    let go = place.path().join("go");
    let tree = Tree::doing(format!("until [ -e '{}' ]; do sleep 0.01; done", go.display()));
    tree.write(&in_cache(&place, &format!("sources/{SOURCE}")));
    place
}

fn in_cache(place: &Place, path: &str) -> PathBuf {
    place.path().join("cache").join(path)
}

fn start_build(place: &Place) -> Running {
    write_recipe(place);
    place.kdbg(&["build", "test.yaml", "--json"])
}

fn write_recipe(place: &Place) {
    place.file("test.yaml", "name: test\nkernel: { config: [], version: '6.1', options: { BAR: y } }\n");
}

/// Builds the mock to the end.
#[track_caller]
fn build(place: &Place) -> Value {
    place.file("go", "");
    let ended = start_build(place).wait_within(LIMIT);
    ended.assert_code(0);
    serde_json::from_str(&ended.stdout).unwrap()
}

/// What this says about the cache.
#[track_caller]
fn cache(place: &Place, args: &[&str]) -> Value {
    let ended = place.kdbg(&[&["cache"], args, &["--json"]].concat()).wait_within(LIMIT);
    ended.assert_code(0);
    serde_json::from_str(&ended.stdout).unwrap()
}

/// The entries of a list, like `kernels 3f9c21d07b64`; the list says why, where it does.
fn entries(list: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let entry = |entry: &Value| format!("{} {} {}", text(&entry["kind"]), text(&entry["name"]), text(&entry["reason"]));
    list.as_array().unwrap().iter().map(|value| entry(value).trim().to_string()).collect()
}

/// Makes an entry as if it had been used so many days ago.
fn age(path: &Path, days: u32) {
    let then = SystemTime::now() - Duration::from_secs(24 * 3600) * days;
    File::open(path).unwrap().set_modified(then).unwrap();
}

#[test]
fn what_was_built_is_listed_and_looking_is_no_use() {
    let place = place();
    assert_eq!(entries(&cache(&place, &["list"])["entries"]), [format!("sources {SOURCE}")]);
    let key = build(&place)["key"].as_str().unwrap().to_string();
    let kernel = in_cache(&place, &format!("kernels/{key}"));
    age(&kernel, 3);
    // Has to be read again, which is not remembered.
    fs::remove_file(kernel.join("seen.json")).unwrap();
    age(&kernel, 3);
    let before = fs::metadata(&kernel).unwrap().modified().unwrap();
    let list = cache(&place, &["list"]);
    let expected = [format!("sources {SOURCE}"), format!("objects {SOURCE}-x86_64"), format!("kernels {key}")];
    assert_eq!(entries(&list["entries"]), expected);
    assert!(list["entries"].as_array().unwrap().iter().all(|entry| entry["damage"].is_null()), "{list}");
    assert_eq!(fs::metadata(&kernel).unwrap().modified().unwrap(), before);
    assert_eq!(list["entries"][2]["about"], format!("{SOURCE}, no fragments, BAR=y"));

    let table = place.kdbg(&["cache", "list"]).wait_within(LIMIT);
    assert!(table.stdout.contains(&format!("6.1.999  {key}")) && table.stdout.contains("3 days ago"), "{table}");
    fs::remove_file(kernel.join("config")).unwrap();
    let table = place.kdbg(&["cache", "list"]).wait_within(LIMIT);
    assert!(table.stdout.contains("damaged: config is missing"), "{table}");
    assert_eq!(entries(&cache(&place, &["gc"])["freed"]), [format!("kernels {key} damaged")]);
    place.assert_nothing_left();
}

#[test]
fn a_cache_that_is_not_there_is_empty_and_stays_so() {
    let place = Place::with_empty_cache();
    assert_eq!(cache(&place, &["list"])["bytes"], 0);
    assert_eq!(cache(&place, &["gc", "--all"])["freed_bytes"], 0);
    assert!(!place.path().join("cache").exists());
}

#[test]
fn what_was_not_used_for_long_goes_and_a_use_is_remembered() {
    let place = place();
    let key = build(&place)["key"].as_str().unwrap().to_string();
    let [source, objects, kernel] =
        [format!("sources/{SOURCE}"), format!("objects/{SOURCE}-x86_64"), format!("kernels/{key}")]
            .map(|path| in_cache(&place, &path));
    for path in [&source, &objects, &kernel] {
        age(path, 31);
    }
    // A kernel that is found is used, and so is its source; the objects are not.
    assert_eq!(build(&place)["cached"], true);
    let objects_alone = [format!("objects {SOURCE}-x86_64 unused")];
    assert_eq!(entries(&cache(&place, &["gc", "--dry-run"])["freed"]), objects_alone);
    assert!(objects.exists());
    assert_eq!(entries(&cache(&place, &["gc", "--older-than", "32d"])["freed"]), [""; 0]);
    let freed = cache(&place, &["gc"]);
    assert_eq!(entries(&freed["freed"]), objects_alone);
    assert!(freed["freed_bytes"].as_u64().unwrap() > 0 && !objects.exists() && source.exists() && kernel.exists());
    assert_eq!(build(&place)["cached"], true);

    assert_eq!(entries(&cache(&place, &["gc", "--all"])["freed"]).len(), 2);
    for folder in ["sources", "kernels/inputs", "staging"] {
        assert_eq!(place.cached(folder), [""; 0], "{folder}");
    }
    assert_eq!(cache(&place, &["list"])["bytes"], 0);
}

#[test]
fn the_least_recently_used_go_to_fit_a_size() {
    let place = place();
    let key = build(&place)["key"].as_str().unwrap().to_string();
    age(&in_cache(&place, &format!("kernels/{key}")), 2);
    let all = cache(&place, &["list"])["bytes"].as_u64().unwrap();
    let freed = cache(&place, &["gc", "--keep-size", &(all - 1).to_string()]);
    assert_eq!(entries(&freed["freed"]), [format!("kernels {key} size")]);
    assert_eq!(freed["left_bytes"], cache(&place, &["list"])["bytes"]);
}

#[test]
fn what_a_build_works_with_stays_and_goes_when_the_build_is_gone() {
    for end in [None, Some(Signal::KILL)] {
        let place = place();
        let running = start_build(&place);
        let made = in_cache(&place, &format!("objects/{SOURCE}-x86_64/made"));
        support::wait_until(LIMIT, "make vmlinux", || made.exists().then_some(()));
        let swept = cache(&place, &["gc", "--all"]);
        assert_eq!(entries(&swept["freed"]), [""; 0]);
        let in_use = [format!("sources {SOURCE} all"), format!("objects {SOURCE}-x86_64 all")];
        assert_eq!(entries(&swept["in_use"]), in_use);
        match end {
            Some(signal) => {
                running.signal(signal);
                running.wait_within(AFTERMATH);
            }
            None => {
                place.file("go", "");
                running.wait_within(LIMIT).assert_code(0);
            }
        }
        place.assert_nothing_left();
        let swept = cache(&place, &["gc", "--all"]);
        assert_eq!(swept["in_use"], Value::Array(Vec::new()));
        assert_eq!(cache(&place, &["list"])["bytes"], 0);
    }
}

#[test]
fn builds_and_sweeps_at_once_disturb_each_other_in_nothing() {
    let place = place();
    // The source is the user's own, so that a build is possible whatever a sweep takes.
    Tree::default().write(&place.path().join("tree"));
    write_recipe(&place);
    for _ in 0..3 {
        let args = ["build", "test.yaml", "--kernel", "tree"];
        let builds = [(); 2].map(|()| place.kdbg(&args));
        let sweeps = [(); 3].map(|()| place.kdbg(&["cache", "gc", "--all"]));
        for sweep in sweeps {
            sweep.wait_within(LIMIT).assert_code(0);
        }
        for build in builds {
            build.wait_within(LIMIT).assert_code(0);
        }
    }
    place.assert_nothing_left();
    assert_eq!(place.cached("staging"), [""; 0]);
}
