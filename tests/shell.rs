//! `kdbg shell`, with a pipe or a terminal for a person.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::path::Path;
use std::time::Duration;

use support::{Place, recipe, slot};

const LIMIT: Duration = Duration::from_secs(90);

#[test]
fn what_is_typed_runs_at_a_terminal_of_the_guest_and_its_exit_code_is_kdbgs() {
    let _slot = slot();
    let place = Place::new();
    let file = place.file("test.yaml", &recipe(&[]).replace("trigger:\n", ""));
    let args = ["shell", file.to_str().unwrap(), "--accel", "tcg"];
    let ended = place.kdbg_reading(&args, "tty; echo $((6 * 7))\nexit 5\n").wait_within(LIMIT);
    place.assert_nothing_left();
    ended.assert_code(5);
    assert!(ended.stdout.contains("/dev/hvc0\r\n42\r\n"), "{ended}");
}

#[test]
fn the_escape_and_the_end_of_input_leave_the_guest() {
    for typed in ["\u{1d}", ""] {
        let _slot = slot();
        let place = Place::new();
        let file = place.file("test.yaml", &recipe(&[]).replace("trigger:\n", ""));
        let ended = place.kdbg_reading(&["shell", file.to_str().unwrap(), "--accel", "tcg"], typed).wait_within(LIMIT);
        place.assert_nothing_left();
        ended.assert_code(0);
    }
}

#[test]
fn at_a_terminal_the_guest_has_its_size_and_its_keys_until_the_escape() {
    let _slot = slot();
    let place = Place::new();
    let file = place.file("test.yaml", &recipe(&[]).replace("trigger:\n", ""));
    let mut terminal = place.kdbg_at_terminal(&["shell", file.to_str().unwrap(), "--accel", "tcg"], 33, 101);
    // What is typed is shown too, so what is waited for is never in it.
    terminal.types("stty size\r");
    terminal.shows("33 101");
    assert!(terminal.is_raw());
    terminal.types("until stty size | grep '44 122'; do sleep 0.1; done\r");
    terminal.becomes(44, 122);
    terminal.shows("44 122");
    // A program of its own says it: until there is one, the keys are the shell's.
    terminal.types("sh -c \"echo sl''eep; exec sleep 1000\"\r");
    terminal.shows("sleep");
    terminal.types("\u{3}");
    terminal.types("echo it ended with $?\r");
    terminal.shows("it ended with 130");
    terminal.types("sh -c \"echo aw''ay; exec sleep 1000\"\r");
    terminal.shows("away");
    terminal.types("\u{1d}");
    let ended = terminal.wait();
    place.assert_nothing_left();
    ended.assert_code(0);
}

#[test]
fn a_guest_that_ends_is_told_and_its_logs_are_left() {
    for (typed, how) in [("reboot -f", "it restarted"), ("halt -f", "it was halted"), ("poweroff", "it was halted")] {
        let _slot = slot();
        let place = Place::new();
        let file = place.file("test.yaml", &recipe(&[]).replace("trigger:\n", ""));
        let args = ["shell", file.to_str().unwrap(), "--accel", "tcg"];
        let ended = place.kdbg_reading(&args, &format!("{typed}\nsleep 1000\n")).wait_within(LIMIT);
        ended.assert_code(5);
        assert!(ended.stderr.contains(&format!("the guest ended itself: {how}")), "{ended}");
        let (_, rest) = ended.stderr.split_once("the run directory is ").unwrap();
        let folder = Path::new(rest.split_once(", ").unwrap().0);
        assert!(fs::read_to_string(folder.join("console.log")).unwrap().contains("reboot: "), "{ended}");
        fs::remove_dir_all(folder).unwrap();
        place.assert_nothing_left();
    }
}
