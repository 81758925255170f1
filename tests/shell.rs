//! `kdbg shell`, with a pipe for a person.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

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
    for typed in ["sleep 1000\n\u{1d}", ""] {
        let _slot = slot();
        let place = Place::new();
        let file = place.file("test.yaml", &recipe(&[]).replace("trigger:\n", ""));
        let ended = place.kdbg_reading(&["shell", file.to_str().unwrap(), "--accel", "tcg"], typed).wait_within(LIMIT);
        place.assert_nothing_left();
        ended.assert_code(0);
    }
}

#[test]
fn a_guest_that_dies_is_told() {
    let _slot = slot();
    let place = Place::new();
    let file = place.file("test.yaml", &recipe(&[]).replace("trigger:\n", ""));
    let args = ["shell", file.to_str().unwrap(), "--accel", "tcg"];
    let ended = place.kdbg_reading(&args, "reboot -f\nsleep 1000\n").wait_within(LIMIT);
    place.assert_nothing_left();
    ended.assert_code(5);
}
