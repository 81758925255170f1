//! `kdbg debug`: a shell in the terminal, and debuggers that come and go while the guest runs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::time::Duration;

use serde_json::Value;
use support::{AFTERMATH, Ended, Place, slot, wait_until};

const LIMIT: Duration = Duration::from_secs(90);
const RECIPE: &str = "name: looked-at\nkernel: { version: '6.1' }\nguest: { cpus: CPUS }\n";

fn place_with(cpus: u32) -> (Place, String) {
    let place = Place::new();
    let recipe = place.file("looked-at.yaml", &RECIPE.replace("CPUS", &cpus.to_string()));
    (place, recipe.to_str().unwrap().to_string())
}

/// The address at which a debugger may come, once one may.
fn address(place: &Place) -> String {
    let held = || {
        let run = fs::read_dir(place.path().join("runs/looked-at")).ok()?.flatten().next()?.path();
        fs::read_to_string(run.join("held.json")).ok()
    };
    let held: Value = serde_json::from_str(&wait_until(LIMIT, "held.json", held)).unwrap();
    held["address"].as_str().unwrap().to_string()
}

/// What gdb, attached by kdbg, says to these commands.
fn gdb(place: &Place, commands: &str) -> Ended {
    let commands = format!("set width 0\nset height 0\n{commands}\n");
    place.kdbg_reading(&["attach"], &commands).wait_within(LIMIT)
}

#[test]
fn debuggers_come_and_go_while_a_person_works_in_the_guest() {
    let (place, recipe) = place_with(2);
    let _slot = slot();
    let mut terminal = place.kdbg_at_terminal(&["debug", &recipe, "--accel", "tcg"], 24, 200);
    address(&place);
    terminal.types("echo re''ady\r");
    terminal.shows("ready");
    // One that only looks whether the port is open keeps nobody out, and the guest runs meanwhile.
    let silent = std::net::TcpStream::connect(address(&place)).unwrap();
    terminal.types("echo st''ill\r");
    terminal.shows("still");
    let first = place.kdbg_reading(
        &["attach"],
        "set width 0\nset height 0\nset breakpoint pending off\nbreak tcp_v4_connect\ncontinue\nbacktrace 3\nprint $lx_current().comm\nlx-version\n\
         kill\n",
    );
    first.wait_for_said("Continuing.");
    terminal.types("nc 127.0.0.1 9 < /dev/null; echo it gave $?\r");
    let ended = first.wait_within(LIMIT);
    ended.assert_code(0);
    for said in ["Breakpoint 1, tcp_v4_connect", "__inet_stream_connect", "= \"nc\", '\\000'", "Linux version 6.1."] {
        assert!(ended.stdout.contains(said), "{said} in {ended}");
    }
    drop(silent);
    // It has left, and nothing of it is in the guest.
    terminal.shows("it gave 1");
    let second = gdb(&place, "info breakpoints\nlx-ps\nlx-dmesg\ndetach");
    for said in ["No breakpoints", "kthreadd", "Linux version 6.1."] {
        assert!(second.stdout.contains(said), "{said} in {second}");
    }
    // One that is there when the person leaves is let go.
    let third = place.kdbg_reading(&["attach"], "continue\n");
    third.wait_for_said("Continuing.");
    terminal.types("exit 3\r");
    terminal.wait().assert_code(3);
    third.wait_within(AFTERMATH);
    place.assert_nothing_left();
    assert_eq!(fs::read_dir(place.path().join("runs/looked-at")).unwrap().count(), 0);
}

#[test]
fn an_early_guest_waits_for_a_debugger_before_its_first_instruction() {
    let (place, recipe) = place_with(1);
    let _slot = slot();
    let mut terminal = place.kdbg_at_terminal(&["debug", &recipe, "--early", "--accel", "tcg"], 24, 200);
    address(&place);
    let ended = gdb(
        &place,
        "info registers rip\nbreak start_kernel\ncontinue\nbacktrace\nprint system_state\ndelete\nhbreak run_init_process\ncontinue\nprint system_state\ndetach",
    );
    for said in ["0xfff0", "Breakpoint 1, start_kernel", "= SYSTEM_BOOTING", "run_init_process", "= SYSTEM_RUNNING"] {
        assert!(ended.stdout.contains(said), "{said} in {ended}");
    }
    terminal.types("echo it h''as booted\r");
    terminal.shows("it has booted");
    terminal.types("\u{1d}");
    terminal.wait().assert_code(0);
    place.assert_nothing_left();
}

#[test]
fn a_guest_that_panics_is_there_to_be_looked_at_until_the_person_leaves() {
    let (place, recipe) = place_with(1);
    let _slot = slot();
    let mut terminal = place.kdbg_at_terminal(&["debug", &recipe, "--accel", "tcg"], 24, 200);
    address(&place);
    terminal.types("echo re''ady\r");
    terminal.shows("ready");
    // One that is there when it happens, and one that comes then.
    let first = place.kdbg_reading(&["attach"], "set width 0\ncontinue\nbacktrace\ncontinue\ndetach\n");
    first.wait_for_said("Continuing.");
    terminal.types("echo c > /proc/sysrq-trigger\r");
    for ended in [first.wait_within(LIMIT), gdb(&place, "continue\nbacktrace\ndetach")] {
        ended.assert_code(0);
        assert!(ended.stdout.contains("sysrq_handle_crash"), "{ended}");
        assert!(ended.stderr.contains("does not run on"), "{ended}");
    }
    terminal.shows("[kdbg] it stands still now; a debugger can look at it, Ctrl-] ends it");
    terminal.types("\u{1d}");
    let ended = terminal.wait();
    ended.assert_code(0);
    assert!(ended.stderr.contains("the guest's kernel has complained: "), "{ended}");
    let run = fs::read_dir(place.path().join("runs/looked-at")).unwrap().flatten().next().unwrap().path();
    assert!(fs::read_to_string(run.join("console.log")).unwrap().contains("sysrq_handle_crash"));
    assert!(!run.join("held.json").exists() && !run.join("attach.gdb").exists());
    place.assert_nothing_left();
}

#[test]
fn an_address_that_is_taken_is_told_before_anything_boots() {
    let (place, recipe) = place_with(1);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let ended = place.kdbg(&["debug", &recipe, "--accel", "tcg", "--listen", &port]).wait_within(LIMIT);
    ended.assert_refused(3, &["listen on 127.0.0.1", "choose another port"]);
    let left = fs::read_dir(place.path().join("runs/looked-at")).unwrap().count();
    assert!(left == 0 && !ended.stderr.contains("the run directory is"), "{left}: {ended}");
    place.kdbg(&["debug", &recipe, "--listen", "0.0.0.0:1"]).wait_within(LIMIT).assert_refused(2, &["loopback"]);
    place.assert_nothing_left();
}
