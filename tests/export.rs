//! Hits as cores: what plain GDB, `drgn` and `crash` see in them is what kdbg has reported, and what plain GDBs see of the live
//! guest and of its replay.
//!
//! GDB: every value of every frame, compared as in `tests/plain_gdb.rs`, and its own words at the live stop, in the replay and
//! in the core are the same. drgn: function, address, file and line of every frame, inlined ones too, and every argument
//! and local that is a number. `crash`: the functions of the stack that are not inlined, and the kernel's log.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use support::offline::{Core, TEN, crash_version, drgn_modules, export, gdb_on_replay, recorded, vmlinux};
use support::plain::{Comparison, LOOP, RECIPE, script};
use support::printed::{Look, looks};
use support::{Place, obtain, recipe, second_look, skip, slot};

/// Probes whose first hits become cores: system calls, softirqs below them, an interrupt, a fault; in an inlined function, and
/// where a function returns.
const PROBES: [&str; 8] = ["connect", "connected", "received", "inlined", "reset", "child", "timer", "fault"];
/// What GDB does in a core: one look.
const ONCE: &str = "print('== stop')\nlook()\nprint('== on')\nend\n";
/// What GDB does in a replay: a look at each hit.
const EACH: &str = "while True:\n    print('== stop')\n    look()\n    print('== on')\n    said = gdb.execute('continue', to_string=True)\n    if 'is the last of this recording' in said: break\nend\n";

/// The first hits of [`PROBES`].
fn chosen(report: &Value) -> Vec<&Value> {
    let hits = report["hits"].as_array().unwrap();
    let first = |probe: &&str| hits.iter().find(|hit| hit["probe"] == *probe);
    let chosen: Vec<&Value> = PROBES.iter().filter_map(first).collect();
    for context in ["process", "softirq", "hardirq"] {
        assert!(chosen.iter().any(|hit| hit["context"] == context), "no hit in a {context}");
    }
    chosen
}

fn compare_on(kernel: &str) {
    let place = Place::new();
    let file = place.file("test.yaml", RECIPE);
    let Some(built) = obtain::kernel(&file, &["--kernel", kernel]) else { return };
    let _slot = slot();
    let plain = second_look::attend(&place, Path::new(built["vmlinux"].as_str().unwrap()), &script(LOOP));
    let more = ["--kernel", kernel, "--breakpoints", "--record"];
    let (report, _) = recorded(&place, RECIPE, &more);
    let live = looks(&plain.join().unwrap().0);
    let replayed = looks(&gdb_on_replay(&place, &place.out(), vmlinux(&report), &script(EACH)));
    let all = report["hits"].as_array().unwrap();
    assert_eq!((live.len(), replayed.len()), (all.len(), all.len()));
    let mut total = Total::new(kernel);
    for hit in chosen(&report) {
        let core = export(&place, &report, hit);
        let at = all.iter().position(|other| other == hit).unwrap();
        compare(&place, &core, hit, &report, &[&live[at], &replayed[at]], &mut total);
    }
    println!("{kernel}: {total:?}");
    assert!(total.hits >= 5 && total.frames >= 50 && total.values >= 500, "{total:?}");
    assert!(total.drgn.is_none() || total.drgn_values >= 200 && total.drgn_frames >= 50, "{total:?}");
    assert!(!total.crash || total.crash_frames >= 20, "{total:?}");
    place.assert_nothing_left();
}

fn compare(place: &Place, core: &Core, hit: &Value, report: &Value, others: &[&Look], total: &mut Total) {
    in_gdb(place, core, hit, others, total);
    in_drgn(place, core, hit, report, total);
    in_crash(place, core, hit, report, total);
    std::fs::remove_file(&core.path).unwrap();
}

/// What was compared.
#[derive(Debug, Default)]
struct Total {
    hits: usize,
    frames: usize,
    values: usize,
    drgn_frames: usize,
    drgn_values: usize,
    crash_frames: usize,
    /// Where drgn is.
    drgn: Option<PathBuf>,
    crash: bool,
}

impl Total {
    /// Nothing yet; what is not there to compare with is said.
    fn new(kernel: &str) -> Total {
        let (drgn, version) = (drgn_modules(), crash_version());
        if drgn.is_none() {
            skip("drgn is not installed (`cargo xtask setup`): what it sees in cores is not compared");
        }
        // What `ps` needs has changed in 6.2, and 8.0.2, of 2022, frees what is not its own.
        let crash = match version {
            None => {
                skip("crash is not installed: what it sees in cores is not compared");
                false
            }
            Some(version) if version < 9 && kernel != "6.1" => {
                skip(&format!("crash {version} is older than Linux {kernel}: what it sees in cores is not compared"));
                false
            }
            Some(_) => true,
        };
        Total { drgn, crash, ..Total::default() }
    }
}

fn in_gdb(place: &Place, core: &Core, hit: &Value, others: &[&Look], total: &mut Total) {
    let said = core.gdb(place, &script(ONCE));
    let mut seen = looks(&said);
    assert_eq!(seen.len(), 1, "{said}");
    let look = &mut seen[0];
    // Where a function begins with code that was inlined into it, GDB begins there when it opens something.
    let first = &hit["frames"][0]["symbol"];
    let begin = look.frames.iter().position(|frame| *first == *frame.function);
    look.frames.drain(..begin.unwrap_or_else(|| panic!("{first} is not in {look:#?}")));
    let all = Comparison::of(&json!({ "hits": [hit] }), std::slice::from_ref(look));
    assert!(all.differences.is_empty(), "{:#?}", all.differences);
    for other in others {
        assert_eq!(format!("{:#?}", other.known()), format!("{:#?}", look.known()), "hit {}", hit["index"]);
        assert_eq!(other.values, look.values);
    }
    total.hits += all.stops;
    total.frames += all.frames;
    total.values += all.values;
}

/// Every frame of the report is one of drgn's, in the same order, with the same values.
fn in_drgn(place: &Place, core: &Core, hit: &Value, report: &Value, total: &mut Total) {
    let Some(modules) = &total.drgn else { return };
    let seen = core.drgn(place, modules);
    assert_eq!(seen["release"], report["kernel"]["release"]);
    let (ours, theirs) = (list(&hit["frames"]), list(&seen["frames"]));
    // Where a function begins with code that was inlined into it, drgn shows that too.
    let begin = theirs.iter().position(|frame| frame["function"] == ours[0]["symbol"]);
    let theirs = &theirs[begin.unwrap_or_else(|| panic!("{} is not in {theirs:#?}", ours[0]["symbol"]))..];
    let mut interrupted = false;
    for (frame, other) in ours.iter().zip(theirs) {
        let of = format!("hit {} #{} {}: {other:#}", hit["index"], frame["level"], frame["symbol"]);
        assert_eq!((&frame["symbol"], &frame["inlined"]), (&other["function"], &other["inlined"]), "{of}");
        if frame["inlined"] == false {
            assert_eq!(Some(number(&frame["address"])), other["pc"].as_u64(), "{of}");
        }
        // At its first instruction it is the function's declaration.
        if frame["offset"] != 0 && !interrupted {
            let (file, line) = (other["place"][0].as_str().unwrap(), &other["place"][1]);
            assert!(Path::new(file).ends_with(frame["file"].as_str().unwrap()) && *line == frame["line"], "{of}");
        }
        let lost = interrupted && frame["file"].as_str().is_some_and(|file| file.ends_with(".S"));
        // Where an interrupt came, which may be in the middle of a statement, drgn takes rows of the line table that begin
        // none, and GDB does not.
        interrupted =
            frame["symbol"].as_str().unwrap().starts_with("asm_") || (interrupted && frame["inlined"] == true);
        total.drgn_values += values(frame, &other["values"], &of);
        total.drgn_frames += 1;
        // Of an assembler's function in which an interrupt came there is no CFI: drgn goes by the frame pointer, which is its
        // caller's still, and loses the caller.
        if lost {
            return;
        }
    }
    assert!(ours.len() <= theirs.len(), "{} frames, drgn has {}: {hit:#}", ours.len(), theirs.len());
}

/// Compares what both know as a number, or as true or false. Gives how many that were.
fn values(frame: &Value, theirs: &Value, of: &str) -> usize {
    let all = list(&frame["args"]).iter().chain(list(&frame["locals"]));
    let alone = |name: &Value| all.clone().filter(|other| other["name"] == *name).count() == 1;
    let known = all.clone().filter(|var| var["available"] == true && alone(&var["name"]));
    let mut count = 0;
    for var in known {
        let ours = var["value"].as_str().unwrap();
        let theirs = &theirs[var["name"].as_str().unwrap()];
        let same = match (leading_number(ours), theirs["number"].as_number(), theirs["truth"].as_bool()) {
            (Some(ours), Some(theirs), _) => ours.to_string() == theirs.to_string(),
            // Of one that was not set, GDB shows what is there.
            (Some(ours), _, Some(theirs)) => (ours != 0) == theirs,
            (None, _, Some(theirs)) => ours == theirs.to_string(),
            _ => continue,
        };
        assert!(same, "{}: {ours}, {theirs} in {of}", var["name"]);
        count += 1;
    }
    count
}

/// The number that GDB's text of a value begins with.
fn leading_number(text: &str) -> Option<i128> {
    let word = text.split(' ').next()?;
    match word.strip_prefix("0x") {
        Some(digits) => i128::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    }
}

/// The functions that have called that of the hit are crash's, in the same order, and the kernel's log is there. Where the kernel
/// goes to another stack, `crash` guesses, and loses some.
fn in_crash(place: &Place, core: &Core, hit: &Value, report: &Value, total: &mut Total) {
    if !total.crash {
        return;
    }
    let said = core.crash(place, "log");
    let release = report["kernel"]["release"].as_str().unwrap();
    assert!(said.contains(&format!("Linux version {release}")), "{said}");
    let functions: Vec<&str> = said.lines().filter_map(in_crashs_stack).collect();
    let callers = list(&hit["frames"]).iter().skip_while(|frame| frame["inlined"] == true).skip(1);
    let mut left = functions.iter();
    let names = callers.filter(|frame| frame["inlined"] == false).map(|frame| frame["symbol"].as_str().unwrap());
    for name in names.take_while(|name| *name != "__do_softirq" && !name.starts_with("asm_")) {
        assert!(left.any(|function| function.starts_with(name)), "hit {}: {name} is not in {said}", hit["index"]);
        total.crash_frames += 1;
    }
}

/// The function in a line like ` #1 [ffff888000a13c80] __tcp_transmit_skb at ffffffff812624f9`.
fn in_crashs_stack(line: &str) -> Option<&str> {
    let (_, rest) = line.trim_start().strip_prefix('#')?.split_once("] ")?;
    rest.split(' ').next()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn number(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}

#[test]
fn stacks_of_6_1_are_the_same_live_replayed_and_in_cores() {
    compare_on("6.1");
}

#[test]
fn stacks_of_6_12_are_the_same_live_replayed_and_in_cores() {
    compare_on("6.12");
}

/// GDB begins with the first CPU, and drgn and crash know CPUs by their numbers.
#[test]
fn stacks_of_two_cpus_are_the_same_in_cores() {
    let _slot = slot();
    let place = Place::new();
    let (report, _) = recorded(&place, TEN, &[]);
    let hits = list(&report["hits"]);
    let mut total = Total::new("6.1");
    for cpu in 0..2 {
        let hit = hits.iter().find(|hit| hit["cpu"] == cpu).unwrap_or_else(|| panic!("no hit on CPU {cpu}"));
        compare(&place, &export(&place, &report, hit), hit, &report, &[], &mut total);
    }
    println!("two CPUs: {total:?}");
    assert!(total.hits == 2 && total.frames >= 20 && total.values >= 50, "{total:?}");
    place.assert_nothing_left();
}

#[test]
fn what_cannot_be_exported_is_said() {
    let _slot = slot();
    let place = Place::new();
    let (_, recording) = recorded(&place, &recipe(&[support::HIT]), &["--record"]);
    let (out, file) = (place.out(), recording.to_str().unwrap());
    let refused = |line: &[&str], code: i32, texts: &[&str]| {
        let ended = place.kdbg(&[&["export"], line].concat()).wait();
        assert_eq!(ended.code, Some(code), "{ended}");
        texts.iter().for_each(|text| assert!(ended.stderr.contains(text), "no `{text}` in {ended}"));
    };
    let run = out.to_str().unwrap();
    refused(&[run, "--hit", "1"], 2, &["--vmcore"]);
    refused(&[run, "--hit", "2", "--vmcore"], 2, &["has no hit 2: it has only hit 1"]);
    refused(&[run, "--hit", "0", "--vmcore"], 2, &["has no hit 0"]);
    refused(&["nowhere", "--hit", "1", "--vmcore"], 2, &["is neither a run directory nor a recording"]);
    let nowhere = out.join("no/folder/core");
    refused(
        &[run, "--hit", "1", "--vmcore", "--output", nowhere.to_str().unwrap()],
        3,
        &["cannot write", "--output FILE"],
    );
    // On a disk that has not the room for it.
    let small = ["export", run, "--hit", "1", "--vmcore", "--output", "cache/small/core"];
    if let Some(running) = place.kdbg_with_small_disk("small", "1m", &small) {
        let ended = running.wait();
        let texts = ["the core takes ", ", and cache/small has room for ", "--output FILE"];
        assert_eq!(ended.code, Some(3), "{ended}");
        texts.iter().for_each(|text| assert!(ended.stderr.contains(text), "no `{text}` in {ended}"));
    }
    // Of the file itself, and elsewhere.
    let elsewhere = place.path().join("elsewhere");
    let line = ["export", file, "--hit", "1", "--vmcore", "--output", elsewhere.to_str().unwrap()];
    place.kdbg(&line).wait().assert_code(0);
    assert!(elsewhere.is_file() && !out.join("hit-1.vmcore").exists());
    let taken = elsewhere.metadata().unwrap();
    assert!(std::os::unix::fs::MetadataExt::blocks(&taken) * 512 < taken.len() / 2, "it has holes");
    let bytes = std::fs::read(&recording).unwrap();
    std::fs::write(&recording, &bytes[..bytes.len() / 2]).unwrap();
    refused(&[run, "--hit", "1", "--vmcore"], 2, &["has no hit", "kdbg run RECIPE --record"]);
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2] ^= 1;
    std::fs::write(&recording, damaged).unwrap();
    refused(&[run, "--hit", "1", "--vmcore"], 2, &["is damaged at byte"]);
    place.assert_nothing_left();
}

#[test]
fn a_kernel_without_its_notes_makes_a_core_for_gdb_and_says_what_is_missing() {
    let _slot = slot();
    let place = Place::with_own_templates();
    let (report, _) = recorded(&place, &recipe(&[support::HIT]), &["--record"]);
    std::fs::remove_dir_all(place.path().join("cache")).unwrap();
    let out = place.out();
    let ended = place.kdbg(&["export", out.to_str().unwrap(), "--hit", "1", "--vmcore"]).wait();
    ended.assert_code(0);
    let id = report["kernel"]["build_id"].as_str().unwrap();
    for words in ["has no VMCOREINFO, without which drgn does not open it", id] {
        assert!(ended.stderr.contains(words), "no `{words}` in {ended}");
    }
    assert!(out.join("hit-1.vmcore").is_file());
    place.assert_nothing_left();
}
