//! A guest that is held at a hit: debuggers come, do as they like, and leave or are killed; the run goes on and ends well.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use support::{AFTERMATH, Ended, Place, Running, probes_of_hits, slot, wait_until};

const LIMIT: Duration = Duration::from_secs(60);
const RECIPE: &str = "name: held
kernel: { version: '6.1' }
guest: { cpus: CPUS }
probes:
  - { name: syn, at: tcp_v4_connect, limit: 1 }
  - { name: rst, at: tcp_v4_send_reset }
trigger:
  - { name: three, run: for each in 1 2 3; do nc 127.0.0.1 9 < /dev/null; done, exit: 1, timeout: 5s }
expect:
  - { probe: rst, hits: 3 }
";

/// Starts the run, and waits until the guest is held; where the server is then.
fn start(place: &Place, cpus: u32, hold: &str) -> (Running, String) {
    start_recipe(place, &RECIPE.replace("CPUS", &cpus.to_string()), hold)
}

fn start_recipe(place: &Place, recipe: &str, hold: &str) -> (Running, String) {
    let recipe = place.file("held.yaml", recipe);
    let out = place.out();
    let (recipe, out) = (recipe.to_str().unwrap(), out.to_str().unwrap());
    let running = place.kdbg(&["run", recipe, "--hold", hold, "--accel", "tcg", "--out", out, "--json"]);
    let held = wait_until(LIMIT, "held.json", || fs::read_to_string(place.out().join("held.json")).ok());
    let held: Value = serde_json::from_str(&held).unwrap();
    (running, held["address"].as_str().unwrap().to_string())
}

/// What gdb says to these commands, attached by kdbg.
fn gdb(place: &Place, commands: &str) -> Ended {
    let out = place.out();
    let commands = format!("set width 0\nset height 0\n{commands}\n");
    place.kdbg_reading(&["attach", out.to_str().unwrap()], &commands).wait_within(LIMIT)
}

fn numbers(report: &Value, hit: usize) -> Vec<u64> {
    let frames = report["hits"][hit]["frames"].as_array().unwrap();
    let address = |frame: &Value| u64::from_str_radix(&frame["address"].as_str().unwrap()[2..], 16).unwrap();
    frames.iter().map(address).collect()
}

#[test]
fn gdb_finds_the_guest_as_the_hit_has_it_runs_it_and_the_run_goes_on() {
    let place = Place::new();
    let _slot = slot();
    fs::create_dir(place.path().join(".vscode")).unwrap();
    let theirs = "{ // mine\n  \"configurations\": [ { \"name\": \"mine\" } ] }";
    fs::write(place.path().join(".vscode/launch.json"), theirs).unwrap();
    let (running, _) = start(&place, 1, "3");
    let launch = fs::read_to_string(place.path().join(".vscode/launch.json")).unwrap();
    assert!(launch.contains("// mine") && launch.contains("\"mine\"") && launch.contains("cppdbg"), "{launch}");
    let ended = gdb(
        &place,
        "python for frame in range(20): print('== %x %s' % (gdb.selected_frame().pc(), gdb.selected_frame().name())); gdb.selected_frame().older().select()
frame 0
break tcp_v4_rcv
continue
print skb->len
delete
stepi
kill",
    );
    ended.assert_code(0);
    let report = running.wait_within(LIMIT).assert_passed();
    place.assert_nothing_left();
    assert!(ended.stdout.contains("Breakpoint 1, tcp_v4_rcv"), "{ended}");
    // Hit 3 is the second of `rst`: hit 1 is that of `syn`. A gdb that attaches shows what is inlined at a function's first
    // instruction, and one that was stopped there by a breakpoint does not: so addresses are compared, each once.
    let marked = ended.stdout.lines().filter_map(|line| line.split_once("== ")?.1.split(' ').next());
    let mut seen: Vec<u64> = marked.map(|at| u64::from_str_radix(at, 16).unwrap()).collect();
    assert_eq!(seen.len(), 20, "{ended}");
    let mut known = numbers(&report, 2);
    seen.dedup();
    known.dedup();
    assert_eq!(seen, known[..seen.len()], "{ended}");
    assert!(seen.len() > 8, "{ended}");
    assert_eq!(probes_of_hits(&report), ["syn", "rst", "rst", "rst"]);
    assert!(!place.out().join("held.json").exists());
}

#[test]
fn a_debugger_that_is_killed_or_talks_nonsense_leaves_the_guest_for_the_next_one() {
    let place = Place::new();
    let _slot = slot();
    let (running, address) = start(&place, 2, "rst");
    let mut nonsense = TcpStream::connect(&address).unwrap();
    nonsense.write_all(b"GET / HTTP/1.1\r\n\r\n$zz#00$m").unwrap();
    // While it is there, another one is turned away.
    let mut second = TcpStream::connect(&address).unwrap();
    second.write_all(b"+$qSupported#37").unwrap();
    let mut told = String::new();
    second.set_read_timeout(Some(LIMIT)).unwrap();
    second.read_to_string(&mut told).unwrap();
    assert!(told.contains("one at a time"), "{told}");
    drop(nonsense);
    let out = place.out();
    let first = place.kdbg_reading(&["attach", out.to_str().unwrap()], "break tcp_v4_rcv\ncontinue\nshell sleep 100\n");
    first.wait_for_said("Breakpoint 1, ");
    first.signal(Signal::KILL);
    let ended = gdb(&place, "thread apply all bt 1\ninfo breakpoints\ndetach");
    assert!(ended.stdout.contains("tcp_v4_rcv") && ended.stdout.contains("No breakpoints"), "{ended}");
    running.wait_within(LIMIT).assert_passed();
    place.kill_all();
}

#[test]
fn a_held_guest_ends_with_kdbg_and_kdbg_with_the_guest() {
    let _slot = slot();
    let place = Place::new();
    let (running, _) = start(&place, 1, "rst");
    running.signal(Signal::INT);
    let report = running.wait_within(AFTERMATH).assert_error(130, "interrupted", &[]);
    assert_eq!(probes_of_hits(&report), ["syn", "rst"]);
    place.assert_nothing_left();
    let place = Place::new();
    let (running, _) = start(&place, 1, "rst");
    rustix::process::kill_process(place.process("qemu-system-x86_64"), Signal::KILL).unwrap();
    let report = running.wait_within(LIMIT).assert_error(5, "guest", &[]);
    assert_eq!(probes_of_hits(&report), ["syn", "rst"]);
    place.assert_nothing_left();
}

#[test]
fn what_cannot_be_held_is_refused_before_anything_starts() {
    let place = Place::new();
    let recipe = place.file("held.yaml", &RECIPE.replace("CPUS", "1"));
    let run = |hold: &str| place.kdbg(&["run", recipe.to_str().unwrap(), "--hold", hold]).wait_within(LIMIT);
    run("rts").assert_refused(2, &["no probe of that name", "syn, rst"]);
    run("0").assert_refused(2, &["count from 1"]);
    place.kdbg(&["attach"]).wait_within(LIMIT).assert_refused(2, &["holds a guest", "--hold HIT"]);
}

#[test]
fn a_run_that_fails_is_held_where_it_does() {
    let _slot = slot();
    // An expectation that is not met: the guest goes on.
    let place = Place::new();
    let recipe = RECIPE.replace("CPUS", "1").replace("hits: 3", "hits: 4");
    let (running, _) = start_recipe(&place, &recipe, "fail");
    let ended = gdb(&place, "print $lx_current().comm\ndetach");
    assert!(ended.stdout.contains("$1 = "), "{ended}");
    let ended = running.wait_within(LIMIT);
    ended.assert_code(1);
    assert_eq!(probes_of_hits(&ended.report()), ["syn", "rst", "rst", "rst"]);
    place.assert_nothing_left();
    // A panic: the machine is kept as it is.
    let place = Place::new();
    let step = "  - { name: crash, run: echo c > /proc/sysrq-trigger }\n";
    let recipe = RECIPE.replace("CPUS", "2").replace("expect:\n", &format!("{step}expect:\n"));
    let (running, _) = start_recipe(&place, &recipe, "fail");
    let ended = gdb(&place, "backtrace\ncontinue\nbacktrace\ndetach");
    assert_eq!(ended.stdout.matches(" panic (").count(), 2, "{ended}");
    assert!(ended.stdout.contains("sysrq_handle_crash") && ended.stderr.contains("does not run on"), "{ended}");
    let report = running.wait_within(LIMIT).assert_error(5, "guest", &["panic", "sysrq_handle_crash"]);
    assert_eq!(report["incidents"][0]["kind"], "panic");
    place.assert_nothing_left();
    // A run that passes is not held.
    let place = Place::new();
    let recipe = place.file("held.yaml", &RECIPE.replace("CPUS", "1"));
    let args = ["run", recipe.to_str().unwrap(), "--hold", "fail", "--accel", "tcg", "--json"];
    let out = place.out();
    place.kdbg(&[&args[..], &["--out", out.to_str().unwrap()]].concat()).wait_within(LIMIT).assert_passed();
}
