//! Saved guests: that runs go on from one, that all of them give the same report, and that one which is of no use does no
//! harm.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use serde_json::Value;
use support::equal::assert_equal;
use support::{AFTERMATH, HIT, LONG, Place, Running, all_slots, in_repository, recipe, slot};

const LIMIT: Duration = Duration::from_secs(90);

/// Starts a run into the folder `out`.
fn start(place: &Place, out: &str, more: &[&str]) -> Running {
    start_file(place, &place.file("test.yaml", &recipe(&[HIT])), out, more)
}

/// The same with another recipe.
fn start_file(place: &Place, file: &Path, out: &str, more: &[&str]) -> Running {
    let args = ["run", file.to_str().unwrap(), "--out", out, "--accel", "tcg"];
    place.kdbg(&[&args, more].concat())
}

/// Runs into the folder `out`, and gives the report.
#[track_caller]
fn run(place: &Place, out: &str, more: &[&str]) -> Value {
    start(place, out, more).wait_within(LIMIT).assert_code(0);
    place.assert_nothing_left();
    report(place, out)
}

fn report(place: &Place, out: &str) -> Value {
    serde_json::from_slice(&fs::read(place.path().join(out).join("report.json")).unwrap()).unwrap()
}

/// Whether the guest was a fork, and whether a template was made for it.
fn ways(report: &Value) -> (bool, bool) {
    (report["machine"]["forked"] == true, report["timings"].get("template_ms").is_some())
}

/// The one template's file `name`.
fn in_template(place: &Place, name: &str) -> PathBuf {
    let [key] = &place.cached("templates")[..] else { panic!("{:?}", place.cached("templates")) };
    place.path().join("cache/templates").join(key).join(name)
}

#[test]
fn the_first_boot_is_saved_and_every_run_forks_it_to_the_same_report() {
    let _slot = slot();
    let place = Place::with_own_templates();
    let first = run(&place, "0", &[]);
    assert_eq!(ways(&first), (true, true));
    let second = run(&place, "1", &[]);
    assert_eq!(ways(&second), (true, false));
    assert_eq!(second["warnings"], Value::Array(Vec::new()));
    assert_equal(&first, &second);
    let console = fs::read_to_string(place.path().join("1/console.log")).unwrap();
    assert!(console.contains("Linux version 6.1"), "the boot is in every console.log");
}

#[test]
fn ten_runs_of_tcp_reset_are_equal_but_for_what_is_volatile() {
    let _slot = slot();
    let place = Place::new();
    let reports: Vec<Value> = (0..10)
        .map(|out| {
            let out = out.to_string();
            start_file(&place, &in_repository("recipes/tcp-reset.yaml"), &out, &[]).wait_within(LIMIT).assert_code(0);
            report(&place, &out)
        })
        .collect();
    for (out, other) in reports.iter().enumerate().skip(1) {
        assert_equal(&reports[0], other);
        let diff = place.kdbg(&["diff", "0", &out.to_string()]).wait_within(LIMIT);
        diff.assert_code(0);
        assert!(diff.stdout.contains("report.json is equal but for what it marks volatile"), "{diff}");
    }
}

#[test]
fn a_cold_run_boots_and_saves_nothing() {
    let _slot = slot();
    let place = Place::with_own_templates();
    assert_eq!(ways(&run(&place, "out", &["--cold"])), (false, false));
    assert_eq!(place.cached("templates"), [""; 0]);
}

/// A run whose fork fails, since QEMU does `how` when it is to take a state.
#[track_caller]
fn not_forked(how: &str, why: &str) {
    let _slot = slot();
    let place = Place::with_own_templates();
    place.fake("qemu-system-x86_64", &format!("case \"$*\" in *-incoming*)\n{how};;\nesac\nexec \"$real\" \"$@\""));
    let report = run(&place, "out", &[]);
    assert_eq!(ways(&report), (false, true));
    let warning = report["warnings"][0].as_str().unwrap();
    assert!(warning.contains("thrown away") && warning.contains(why), "{warning}");
    assert_eq!(place.cached("templates"), [""; 0]);
}

#[test]
fn a_state_that_qemu_does_not_take_is_thrown_away_and_the_guest_boots() {
    not_forked("echo 'no state for me' >&2; exit 1", "QEMU did not start (exit code 1): no state for me");
}

#[test]
fn a_state_that_makes_no_sense_is_thrown_away_and_the_guest_boots() {
    let _slot = slot();
    let place = Place::with_own_templates();
    run(&place, "0", &[]);
    let state = fs::OpenOptions::new().write(true).open(in_template(&place, "state")).unwrap();
    state.write_all_at(&[0xff; 1000], 0).unwrap();
    // Filed like this, so that it is QEMU that finds out.
    kdbg::store::seal::seal(&in_template(&place, "")).unwrap();
    let report = run(&place, "1", &[]);
    assert_eq!(ways(&report), (false, false));
    assert!(report["warnings"][0].as_str().unwrap().contains("thrown away"), "{}", report["warnings"]);
    assert_eq!(place.cached("templates"), [""; 0]);
    assert_eq!(ways(&run(&place, "2", &[])), (true, true));
}

#[test]
fn a_fork_that_dies_at_once_is_thrown_away_and_the_guest_boots() {
    let no_memory = "for arg do
        shift
        case $arg in memory-backend-file*) arg=${arg%mem-path=*}mem-path=$PWD/empty;; esac
        set -- \"$@\" \"$arg\"
    done";
    not_forked(no_memory, "the guest ended before its time");
}

#[test]
fn a_guest_that_cannot_be_saved_gives_way_to_one_that_boots() {
    let _slot = slot();
    let place = Place::with_own_templates();
    let device = "case \"$*\" in *share=on*) set -- \"$@\" -device nvme,serial=1;; esac";
    place.fake("qemu-system-x86_64", &format!("{device}\nexec \"$real\" \"$@\""));
    let report = run(&place, "out", &[]);
    assert_eq!(ways(&report), (false, false));
    let warning = report["warnings"][0].as_str().unwrap();
    assert!(warning.contains("not saved for later runs: QEMU refused `migrate`: "), "{warning}");
    assert_eq!((place.cached("templates"), place.cached("staging")), (vec![], vec![]));
}

#[test]
fn a_qemu_that_crashes_under_every_guest_is_an_error_all_the_same() {
    let _slot = slot();
    let place = Place::with_own_templates();
    let starts = place.path().join("starts");
    let crash = format!("echo >> '{}'; exec timeout -s KILL 0.3 \"$real\" \"$@\"", starts.display());
    place.fake("qemu-system-x86_64", &crash);
    let report = place.run(&recipe(&[HIT])).assert_error(5, "guest", &["killed by signal 9"]);
    // On a busy host it dies before it has connected to anything, which is said.
    let warnings = report["warnings"].as_array().unwrap();
    assert!(warnings.iter().all(|warning| warning.as_str().unwrap().contains("was not saved")), "{warnings:?}");
    assert_eq!(fs::read_to_string(starts).unwrap().lines().count(), 2, "the one to be saved, and one without");
    assert_eq!((place.cached("templates"), place.cached("staging")), (vec![], vec![]));
}

#[test]
fn what_the_host_lacks_is_said_and_costs_no_template() {
    let _slot = slot();
    let place = Place::with_own_templates();
    run(&place, "0", &[]);
    // Who deletes a template holds it like this; a run that wants it waits.
    let template = fs::File::open(in_template(&place, "")).unwrap();
    template.lock().unwrap();
    let running = start(&place, "1", &["--json"]);
    running.wait_for_event("phase_started", r#""boot""#);
    fs::create_dir(place.path().join("1/console.log")).unwrap();
    template.unlock().unwrap();
    running.wait_within(LIMIT).assert_code(3);
    let error = &report(&place, "1")["error"];
    assert!(error["message"].as_str().unwrap().contains("console.log: Is a directory"), "{error}");
    assert_eq!(ways(&run(&place, "2", &[])), (true, false));
}

#[test]
fn a_damaged_template_is_made_anew() {
    let _slot = slot();
    let place = Place::with_own_templates();
    run(&place, "0", &[]);
    for (out, name) in [("1", "memory"), ("2", "state"), ("3", "seal.json")] {
        let file = fs::OpenOptions::new().write(true).open(in_template(&place, name)).unwrap();
        file.write_all_at(b"damage", 99).unwrap();
        let report = run(&place, out, &[]);
        assert_eq!(ways(&report), (true, true), "{name}");
        assert_eq!(report["warnings"], Value::Array(Vec::new()));
    }
    assert_eq!(ways(&run(&place, "4", &[])), (true, false));
}

/// What `kdbg cache` says, as JSON.
#[track_caller]
fn cache(place: &Place, args: &[&str]) -> Value {
    let ended = place.kdbg(&[&["cache"], args, &["--json"]].concat()).wait_within(LIMIT);
    ended.assert_code(0);
    serde_json::from_str(&ended.stdout).unwrap()
}

/// The one template in a list of entries.
fn template(entries: &Value) -> Option<&Value> {
    let templates: Vec<_> = entries.as_array().unwrap().iter().filter(|entry| entry["kind"] == "templates").collect();
    assert!(templates.len() < 2, "{entries}");
    templates.first().copied()
}

#[test]
fn a_template_is_listed_and_goes_when_it_is_old_and_no_run_has_it() {
    let _slot = slot();
    let place = Place::with_own_templates();
    let running = place.start(&recipe(&[LONG]));
    running.wait_for_event("step_started", "long");
    let folder = in_template(&place, "");
    let listed = cache(&place, &["list"]);
    let listed = template(&listed["entries"]).unwrap();
    let about = listed["about"].as_str().unwrap();
    assert!(about.starts_with("Linux 6.1.") && about.ends_with(", image base, 256M, 1 CPU, tcg"), "{listed}");
    assert!(listed["damage"].is_null() && listed["bytes"].as_u64().unwrap() > 10 << 20, "{listed}");
    let swept = cache(&place, &["gc", "--all"]);
    assert!(template(&swept["in_use"]).is_some() && template(&swept["freed"]).is_none(), "{swept}");
    running.signal(Signal::INT);
    running.wait_within(LIMIT).assert_code(130);
    assert_eq!(ways(&run(&place, "again", &[])), (true, false), "it is whole");
    // A use is remembered.
    assert!(template(&cache(&place, &["gc"])["freed"]).is_none());
    let long_ago = SystemTime::now() - Duration::from_secs(31 * 24 * 3600);
    fs::File::open(&folder).unwrap().set_modified(long_ago).unwrap();
    let freed = cache(&place, &["gc"]);
    assert_eq!(template(&freed["freed"]).unwrap()["reason"], "unused", "{freed}");
    assert!(!folder.exists());
}

#[test]
fn of_two_runs_at_once_one_boots_and_both_fork() {
    let _slots = all_slots();
    let place = Place::with_own_templates();
    let runs = ["0", "1"].map(|out| start(&place, out, &[]));
    for run in runs {
        run.wait_within(LIMIT).assert_code(0);
    }
    place.assert_nothing_left();
    let mut made = ["0", "1"].map(|out| ways(&report(&place, out)));
    made.sort_unstable();
    assert_eq!(made, [(true, false), (true, true)]);
}

#[test]
fn four_runs_at_once_of_two_recipes_are_all_right_and_apart() {
    let _slots = all_slots();
    let place = Place::with_own_templates();
    let file = |hits: usize| {
        let steps: Vec<String> = (0..hits).map(|step| HIT.replace("name: hit", &format!("name: hit{step}"))).collect();
        let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
        place.file(&format!("{hits}.yaml"), &recipe(&steps))
    };
    let (once, twice) = (file(1), file(2));
    let runs = [("a", &once, 1), ("b", &twice, 2), ("c", &once, 1), ("d", &twice, 2)];
    let running =
        runs.map(|(out, file, _)| place.kdbg(&["run", file.to_str().unwrap(), "--out", out, "--accel", "tcg"]));
    for run in running {
        run.wait_within(LIMIT).assert_code(0);
    }
    place.assert_nothing_left();
    let reports = runs.map(|(out, ..)| report(&place, out));
    for (report, (out, _, hits)) in reports.iter().zip(runs) {
        assert_eq!((report["hits"].as_array().unwrap().len(), ways(report).0), (hits, true), "{out}");
    }
    assert_equal(&reports[0], &reports[2]);
    assert_equal(&reports[1], &reports[3]);
    assert_eq!((place.cached("templates").len(), place.cached("staging")), (1, vec![]));
}

#[test]
fn a_kdbg_killed_while_its_guest_boots_leaves_no_template() {
    let _slot = slot();
    let place = Place::with_own_templates();
    let running = start(&place, "0", &[]);
    place.process("qemu-system-x86_64");
    running.signal(Signal::KILL);
    running.wait_within(AFTERMATH);
    place.assert_nothing_left();
    assert_eq!(place.cached("templates"), [""; 0]);
    assert_eq!(ways(&run(&place, "1", &[])), (true, true));
    assert_eq!(place.cached("staging"), [""; 0]);
}
