//! A guest that is held at a hit: debuggers come, do as they like, and leave or are killed; the run goes on and ends well.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use kdbg::server::packets::packet;
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

/// The addresses and functions of a hit's frames.
fn frames(report: &Value, hit: usize) -> Vec<(u64, &str)> {
    let frames = report["hits"][hit]["frames"].as_array().unwrap();
    let address = |frame: &Value| u64::from_str_radix(&frame["address"].as_str().unwrap()[2..], 16).unwrap();
    frames.iter().map(|frame| (address(frame), frame["symbol"].as_str().unwrap())).collect()
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
    for part in ["// mine", "\"mine\"", "cppdbg", "gdbtarget", "(Native Debug)"] {
        assert!(launch.contains(part), "{part}: {launch}");
    }
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
    // Hit 3 is the second of `rst`: hit 1 is that of `syn`.
    let marked = ended.stdout.lines().filter_map(|line| line.split_once("== ")?.1.split_once(' '));
    let seen: Vec<(u64, &str)> = marked.map(|(at, name)| (u64::from_str_radix(at, 16).unwrap(), name)).collect();
    assert_eq!(seen.len(), 20, "{ended}");
    assert_eq!(seen, frames(&report, 2)[..20], "{ended}");
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

/// What a client has sent when it vanishes: packets, and the beginning of one. The last one leaves the guest running.
const VANISHED: &[(&[&str], &str)] = &[
    (&[], ""),
    (&[], "$"),
    (&["qSupported:multiprocess+"], "$m0,"),
    (&["g"], "$G00"),
    (&["m0,4"], "$m0,4#f"),
    (&["Z0,ffffffff81000000,1"], "$Mffffffff81000000,4:00"),
    (&["?", "vCont;s:1"], ""),
    (&["?", "vCont;c"], "$?"),
];

/// Bytes that look random, and are the same every time (xorshift).
fn random(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..count).map(|_| next()).collect()
}

/// The last hit is held, so that nothing is missed where a client that is gone has left the guest running for a moment.
#[test]
fn clients_that_vanish_in_a_packet_or_send_random_bytes_leave_the_guest_as_good_as_it_was() {
    let place = Place::new();
    let _slot = slot();
    let (running, address) = start(&place, 1, "4");
    let port = address.rsplit(':').next().unwrap().parse::<u16>().unwrap();
    let listening = format!("{}:{port:04X} 00000000:0000 0A", "0100007F");
    let all = fs::read_to_string("/proc/net/tcp").unwrap() + &fs::read_to_string("/proc/net/tcp6").unwrap_or_default();
    let at_port = all.lines().filter(|line| line.contains(&format!(":{port:04X} ")) && line.contains(" 0A "));
    let at_port: Vec<&str> = at_port.collect();
    assert!(at_port.len() == 1 && at_port[0].contains(&listening), "not on the loopback alone: {at_port:?}");
    for (packets, begun) in VANISHED {
        let mut client = TcpStream::connect(&address).unwrap();
        packets.iter().for_each(|body| client.write_all(&packet(body)).unwrap());
        client.write_all(begun.as_bytes()).unwrap();
        // All of it gets there; what the server says to it is of no interest.
        client.shutdown(Shutdown::Write).unwrap();
        let _ = client.read_to_end(&mut Vec::new());
    }
    // Whole packets that QEMU does not answer to, or takes for something else.
    for body in ["G00".to_owned(), format!("G{}", "0".repeat(5000)), "bc".into(), "R00".into(), "vRun;".into()] {
        let mut client = TcpStream::connect(&address).unwrap();
        client.set_read_timeout(Some(LIMIT)).unwrap();
        for body in [body.as_str(), "?"] {
            client.write_all(&packet(body)).unwrap();
        }
        client.shutdown(Shutdown::Write).unwrap();
        let mut said = String::new();
        client.read_to_string(&mut said).unwrap();
        assert!(!said.contains("$OK") && said.contains("$T05"), "{body:.9}: {said}");
    }
    for seed in 1..=50 {
        // It may be thrown out before it has said everything.
        let _ = TcpStream::connect(&address).unwrap().write_all(&random(seed, 4096));
    }
    let ended = gdb(&place, "info threads\nprint jiffies_64\nx/4xb $pc\nstepi\ninfo breakpoints\ndetach");
    ended.assert_code(0);
    for words in ["(CPU#0)", "$1 = ", "No breakpoints"] {
        assert!(ended.stdout.contains(words), "{words}: {ended}");
    }
    let report = running.wait_within(LIMIT).assert_passed();
    assert_eq!(probes_of_hits(&report), ["syn", "rst", "rst", "rst"]);
    place.assert_nothing_left();
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
fn a_held_guest_whose_kdbg_was_killed_is_not_attached_to() {
    let _slot = slot();
    let place = Place::new();
    let recipe = place.file("held.yaml", &RECIPE.replace("CPUS", "1"));
    let (out, socket) = (place.out(), "s.sock");
    let args = ["run", recipe.to_str().unwrap(), "--hold", "rst", "--socket", socket, "--out", out.to_str().unwrap()];
    let running = place.kdbg(&args);
    wait_until(LIMIT, "held.json", || out.join("held.json").is_file().then_some(()));
    let said = gdb(&place, "backtrace 1\nshell true\ndisconnect");
    assert!(said.stdout.contains("tcp_v4_send_reset"), "{said}");
    running.signal(Signal::KILL);
    running.wait_within(AFTERMATH);
    gdb(&place, "backtrace").assert_refused(2, &["is gone, and its guest too"]);
    place.kill_all();
    // What it has left is in nobody's way, and a hit that there is not is none to be held at.
    assert!(place.path().join(socket).exists());
    fs::remove_dir_all(&out).unwrap();
    let args = ["run", recipe.to_str().unwrap(), "--hold", "9", "--socket", socket, "--out", out.to_str().unwrap()];
    let report = place.kdbg(&args).wait_within(LIMIT).assert_passed();
    assert!(report["warnings"].to_string().contains("was not held: there was no hit 9"), "{}", report["warnings"]);
}

#[test]
fn what_cannot_be_held_is_refused_before_anything_starts() {
    let place = Place::new();
    let recipe = place.file("held.yaml", &RECIPE.replace("CPUS", "1"));
    let run = |hold: &str| place.kdbg(&["run", recipe.to_str().unwrap(), "--hold", hold]).wait_within(LIMIT);
    run("rts").assert_refused(2, &["no probe of that name", "syn, rst"]);
    run("0").assert_refused(2, &["count from 1"]);
    let args = ["run", recipe.to_str().unwrap(), "--socket", "s"];
    place.kdbg(&args).wait_within(LIMIT).assert_refused(2, &["--hold HIT"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let args = ["run", recipe.to_str().unwrap(), "--hold", "rst", "--listen", &port];
    place.kdbg(&args).wait_within(LIMIT).assert_refused(3, &["listen on 127.0.0.1", "choose another port"]);
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
