//! Runs that are recorded, and plain GDBs that attach to the recordings.
//!
//! What a plain GDB prints at each hit of a recording is what kdbg has reported of the live one: stacks, arguments, locals, of
//! the same recipe and compared in the same way as in `tests/plain_gdb.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;
use support::offline::{LIMIT, TEN, attached, gdb_on_replay, recorded, vmlinux};
use support::plain::{Comparison, RECIPE, STOPS, VALUES, script};
use support::printed::looks;
use support::{Place, obtain, recipe, slot};

/// The most that a hit may add to a recording, in bytes.
const MOST: u64 = 3 << 20;

/// A loop over this many hits: at the last one it is told to stay.
fn hits(count: usize) -> String {
    format!(
        "for each in range({count}):\n    print('== stop')\n    look()\n    print('== on')\n    gdb.execute('continue')\nend\n"
    )
}

fn all_values_come_back(recipe: &str, kernel: &str, more: &[&str]) {
    let place = Place::new();
    let file = place.file("test.yaml", recipe);
    if obtain::kernel(&file, &["--kernel", kernel]).is_none() {
        return;
    }
    let _slot = slot();
    let (report, _) = recorded(&place, recipe, &[&["--kernel", kernel, "--record"], more].concat());
    let count = report["hits"].as_array().unwrap().len();
    let said = gdb_on_replay(&place, &place.out(), vmlinux(&report), &script(&hits(count)));
    let all = Comparison::of(&report, &looks(&said));
    assert!(all.differences.is_empty(), "{} of {all:#?}", all.differences.len());
    assert!(all.stops >= STOPS && all.values >= VALUES, "{all:?}");
    println!("{kernel}: {all:?}");
    place.assert_nothing_left();
}

#[test]
fn all_values_of_6_1_come_back() {
    all_values_come_back(RECIPE, "6.1", &["--breakpoints"]);
}

#[test]
fn all_values_of_6_12_come_back() {
    all_values_come_back(RECIPE, "6.12", &["--breakpoints"]);
}

/// There the CPU stands elsewhere than at the function, and its registers are set for as long as it stands still.
#[test]
fn all_values_of_cheap_stops_come_back() {
    all_values_come_back(RECIPE, "6.1", &[]);
}

#[test]
fn all_values_of_two_cpus_come_back() {
    let recipe = RECIPE.replace("probes:\n", "guest: { cpus: 2 }\nprobes:\n");
    all_values_come_back(&recipe, "6.1", &[]);
}

#[test]
fn the_kernels_own_scripts_read_a_recording() {
    let _slot = slot();
    let place = Place::new();
    let (report, _) = recorded(&place, &recipe(&[support::HIT]), &["--record"]);
    let kernel = Path::new(vmlinux(&report)).parent().unwrap();
    let scripts = kernel.join("scripts/gdb");
    let replaying = place.kdbg(&["replay", place.out().to_str().unwrap()]);
    replaying.wait_for_line();
    // As every kernel that is used, so that `kdbg cache gc` leaves it.
    let lock = format!("{} ", replaying.id());
    let inode = format!(":{} ", std::os::unix::fs::MetadataExt::ino(&kernel.metadata().unwrap()));
    let locks = fs::read_to_string("/proc/locks").unwrap();
    assert!(
        locks.lines().any(|line| line.contains("FLOCK") && line.contains(&lock) && line.contains(&inode)),
        "{locks}"
    );
    replaying.signal(Signal::INT);
    replaying.wait().assert_code(130);
    let said =
        attached(&place, &place.out(), "lx-version\nlx-ps\nlx-dmesg\np $lx_current().comm\nlx-mounts\ninfo source\n");
    assert!(!said.contains("auto-loading has been declined"), "{said}");
    let compiled =
        fs::read_dir(scripts.join("linux")).unwrap().flatten().find(|entry| entry.file_name() == "__pycache__");
    assert!(compiled.is_none(), "{compiled:?}");
    let task = format!("$1 = {}, ", report["hits"][0]["task"]["comm"]);
    let release = report["kernel"]["release"].as_str().unwrap();
    for words in
        [&format!("Linux version {release}"), "swapper/0", "Run /init as init process", &task, " /proc proc rw"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[test]
fn a_debugger_walks_the_hits_of_two_cpus_forwards_and_backwards() {
    let _slot = slot();
    let place = Place::new();
    let (report, recording) = recorded(&place, TEN, &[]);
    let hits = report["hits"].as_array().unwrap();
    assert_eq!((hits.len(), &report["warnings"]), (10, &serde_json::json!([])));
    let size = recording.metadata().unwrap().len();
    assert!(size < 10 * MOST, "{size}");
    // GDB's number of a CPU, which the kernel's own scripts take for the CPU's.
    let again = "\nprintf \"= %lu %d\\n\", jiffies_64, $_thread\n";
    let commands = format!(
        "target remote SOCKET{again}info threads\nreverse-continue{again}{}continue{again}{}{}detach\n",
        format!("continue{again}").repeat(9),
        format!("reverse-continue{again}").repeat(9),
        "set var jiffies_64 = 7\np jiffies_64\nmonitor info version\n"
    );
    let said = gdb_on_replay(&place, &place.out(), vmlinux(&report), &commands);
    let seen: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("= ")).collect();
    let told = |hit: &Value| format!("{} {}", hit["jiffies"], hit["cpu"].as_u64().unwrap() + 1);
    let there: Vec<String> = hits.iter().map(told).collect();
    // It stays at the first one, and at the last.
    let mut expected = vec![there[0].clone()];
    expected.extend(there.iter().cloned());
    expected.push(there[9].clone());
    expected.extend(there[..9].iter().rev().cloned());
    assert_eq!(seen, expected, "{said}");
    for words in [
        "(CPU#1)",
        "No more reverse-execution history",
        "hit 10 is the last of this recording",
        "$1 = 7",
        "a recording of kdbg",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    place.assert_nothing_left();
}

#[test]
fn recordings_that_are_cut_off_or_damaged_say_so() {
    let _slot = slot();
    let place = Place::new();
    let (report, recording) =
        recorded(&place, &recipe(&[support::HIT, support::HIT.replace("hit", "more").as_str()]), &["--record"]);
    let bytes = fs::read(&recording).unwrap();
    fs::write(&recording, &bytes[..bytes.len() - 1]).unwrap();
    let said = gdb_on_replay(&place, &recording, vmlinux(&report), "target remote SOCKET\ncontinue\nbt 1\n");
    assert!(said.contains("hit 1 is the last of this recording") && said.contains("tcp_v4_send_reset"), "{said}");
    let socket = place.path().join("gdb.socket");
    let replaying = place.kdbg(&["replay", recording.to_str().unwrap(), "--socket", socket.to_str().unwrap()]);
    assert!(replaying.wait_for_line().ends_with(&format!("-ex 'target remote {}'", socket.display())));
    replaying.wait_for_words("ends in the middle of a hit");
    replaying.signal(Signal::TERM);
    replaying.wait().assert_code(130);
    assert!(!socket.exists());
    let refused = |texts: &[&str]| {
        let ended = place.kdbg(&["replay", recording.to_str().unwrap()]).wait();
        assert_eq!(ended.code, Some(2), "{ended}");
        texts.iter().for_each(|text| assert!(ended.stderr.contains(text), "{text}: {ended}"));
    };
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2] ^= 1;
    fs::write(&recording, damaged).unwrap();
    refused(&["is damaged at byte", "kdbg run RECIPE --record"]);
    fs::write(&recording, "name: tcp-reset\n").unwrap();
    refused(&["is no recording that this kdbg reads"]);
    fs::remove_file(&recording).unwrap();
    refused(&["is neither a run directory nor a recording"]);
    place.assert_nothing_left();
}

#[test]
fn what_cannot_be_recorded_is_said_and_runs_all_the_same() {
    let _slot = slot();
    let place = Place::new();
    let out = place.out();
    let recipe = place.file("test.yaml", &recipe(&[support::HIT]));
    let line = [
        "run",
        recipe.to_str().unwrap(),
        "--accel",
        "tcg",
        "--cold",
        "--record",
        "--json",
        "--out",
        out.to_str().unwrap(),
    ];
    let report = place.kdbg(&line).wait_within(LIMIT).assert_passed();
    assert!(
        report["warnings"].to_string().contains("nothing is recorded: this guest was booted"),
        "{}",
        report["warnings"]
    );
    assert!(!out.join("recording.kdbg").exists());
    let ended = place.kdbg(&["replay", out.to_str().unwrap()]).wait();
    assert!(ended.code == Some(2) && ended.stderr.contains("has no recording"), "{ended}");
}
