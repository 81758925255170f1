//! Faults, made on purpose: every one ends in its documented exit code, a message that says what happened, a report with
//! what was collected until then, and nothing left behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::time::Duration;

use rustix::process::{Signal, kill_process};
use support::{AFTERMATH, Ended, HIT, LONG, Place, probes_of_hits, recipe, slot};

// QEMU

#[test]
fn a_qemu_that_ends_at_once_is_quoted() {
    let place = Place::new();
    place.fake("qemu-system-x86_64", "echo 'qemu: could not open the moon' >&2; exit 1");
    place.run(&recipe(&[HIT])).assert_error(
        5,
        "guest",
        &["QEMU did not start (exit code 1)", "could not open the moon"],
    );
}

#[test]
fn a_qemu_that_never_connects_is_given_up() {
    let place = Place::new();
    place.fake("qemu-system-x86_64", "exec sleep 1000");
    let report = place.run(&recipe(&[HIT])).assert_error(5, "guest", &["QEMU did not connect QMP within 15s"]);
    assert!(report["error"]["hint"].as_str().unwrap().contains("qemu.log"), "{report}");
    assert_eq!(report["machine"], serde_json::Value::Null);
}

#[test]
fn a_qemu_that_does_not_speak_qmp_is_not_believed() {
    let _slot = slot();
    let place = Place::new();
    // The real one, with its monitor for people where QMP should be.
    let body = r#"for arg; do
        shift
        [ "$arg" = chardev=qmp,mode=control ] && arg=chardev=qmp,mode=readline
        set -- "$@" "$arg"
    done
    exec "$real" "$@""#;
    place.fake("qemu-system-x86_64", body);
    place.run(&recipe(&[HIT])).assert_error(5, "guest", &["QMP"]);
}

#[test]
fn a_qemu_killed_in_mid_run_is_an_error_of_the_guest() {
    killed_in_mid_run("qemu-system-x86_64").assert_error(5, "guest", &["QEMU killed by signal 9"]);
}

// GDB

#[test]
fn a_gdb_that_ends_at_once_is_quoted() {
    let _slot = slot();
    let place = Place::new();
    place.fake("gdb", "echo 'out of moons'; exit 3");
    let texts = ["GDB ended before its time (exit code 3)", "out of moons"];
    place.run(&recipe(&[HIT])).assert_error(6, "debugger", &texts);
}

#[test]
fn a_gdb_that_does_not_speak_mi_is_not_believed() {
    let _slot = slot();
    let place = Place::new();
    place.fake("gdb", "while :; do echo 'I am not GDB'; done");
    let report = place.run(&recipe(&[HIT])).assert_error(6, "debugger", &["does not speak MI", "I am not GDB"]);
    assert!(report["error"]["hint"].as_str().unwrap().contains("PATH"), "{report}");
}

#[test]
fn a_slow_gdb_is_waited_for() {
    let _slot = slot();
    let place = Place::new();
    place.fake("gdb", "sleep 3; exec \"$real\" \"$@\"");
    let report = place.run(&recipe(&[HIT])).assert_passed();
    assert_eq!(probes_of_hits(&report), ["rst"]);
    assert!(report["timings"]["symbols_ms"].as_u64().unwrap() >= 3000, "{}", report["timings"]);
}

#[test]
fn a_gdb_killed_in_mid_run_is_an_error_of_the_debugger() {
    killed_in_mid_run("gdb").assert_error(6, "debugger", &["GDB ended before its time (killed by signal 9)"]);
}

/// A run of which `program` is killed after a hit; the hit must be kept.
fn killed_in_mid_run(program: &str) -> Ended {
    let _slot = slot();
    let place = Place::new();
    let running = place.start(&recipe(&[HIT, LONG]));
    running.wait_for_event("step_started", "long");
    kill_process(place.process(program), Signal::KILL).unwrap();
    let ended = running.wait_within(AFTERMATH);
    place.assert_nothing_left();
    let report = ended.report();
    assert_eq!(probes_of_hits(&report), ["rst"], "{ended}");
    assert_eq!(report["trigger"][0]["exit_code"], 1, "{ended}");
    ended
}

// The host

#[test]
fn a_missing_tool_is_named_with_the_command_that_brings_it() {
    let mut place = Place::new();
    place.hide("gdb");
    place.run(&recipe(&[HIT])).assert_refused(3, &["gdb (stops the kernel and reads it): missing", "install", " gdb"]);
}

#[test]
fn a_run_directory_that_cannot_be_made_is_refused_with_a_hint() {
    let place = Place::new();
    let recipe = place.file("test.yaml", &recipe(&[HIT]));
    let file = place.file("file", "");
    let out = file.join("out");
    let ended = place.kdbg(&["run", recipe.to_str().unwrap(), "--out", out.to_str().unwrap()]).wait();
    ended.assert_refused(3, &[out.to_str().unwrap(), "help: ", "--out DIR"]);
    place.assert_nothing_left();
}

#[test]
fn a_run_directory_with_something_in_it_is_not_touched() {
    let place = Place::new();
    fs::create_dir(place.out()).unwrap();
    let mine = place.file("out/mine", "precious");
    place.run(&recipe(&[HIT])).assert_refused(3, &["is not empty", "nothing was changed"]);
    assert_eq!(fs::read_to_string(mine).unwrap(), "precious");
    assert_eq!(fs::read_dir(place.out()).unwrap().count(), 1);
}

#[test]
fn a_cache_that_cannot_be_made_is_refused_with_a_hint() {
    let mut place = Place::new();
    let file = place.file("file", "");
    place.move_cache(file.join("cache"));
    place.run(&recipe(&[HIT])).assert_refused(3, &["cache", "help: ", "KDBG_CACHE_DIR"]);
}

// The guest

#[test]
fn a_panic_of_the_guest_is_told_and_the_hits_before_it_are_kept() {
    let _slot = slot();
    let place = Place::new();
    let panic = "{ name: panic, run: echo c > /proc/sysrq-trigger }";
    let ended = place.run(&recipe(&[HIT, panic, HIT.replace("name: hit", "name: never").as_str()]));
    let report = ended.assert_error(5, "guest", &["panicked", "sysrq triggered crash"]);
    assert_eq!(probes_of_hits(&report), ["rst"]);
    let steps: Vec<&str> = report["trigger"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(steps, ["hit", "panic"]);
    let console = fs::read_to_string(place.out().join("console.log")).unwrap();
    assert!(console.contains("Kernel panic"), "{console}");
}

#[test]
fn a_step_that_never_ends_is_killed_and_later_steps_are_not_run() {
    let _slot = slot();
    let place = Place::new();
    let endless = "{ name: endless, run: echo begun; sleep 1000, timeout: 1s }";
    let ended = place.run(&recipe(&[endless, HIT]));
    ended.assert_code(1);
    let report = ended.report();
    assert_eq!(report["outcome"], "failed", "{ended}");
    let steps = report["trigger"].as_array().unwrap();
    assert_eq!(steps.len(), 1, "{ended}");
    let step = &steps[0];
    assert_eq!(
        (&step["timed_out"], &step["exit_code"], &step["stdout"]),
        (&true.into(), &().into(), &"begun\n".into())
    );
    let warnings = report["warnings"].to_string();
    assert!(warnings.contains("`endless`") && warnings.contains("1 later steps were not run"), "{warnings}");
    assert!(probes_of_hits(&report).is_empty());
}

#[test]
fn a_guest_whose_agent_does_not_answer_hangs() {
    let _slot = slot();
    let place = Place::new();
    let freeze =
        r#"{ name: freeze, run: "kill -STOP $(ps | awk '/[i]nit agent/ { print $1 }'); sleep 1000", timeout: 5s }"#;
    let report = place.run(&recipe(&[HIT, freeze])).assert_error(5, "guest", &["the guest hangs", "`freeze`", "5s"]);
    assert_eq!(probes_of_hits(&report), ["rst"]);
    assert_eq!(report["trigger"][1]["timed_out"], true);
}

// The recipe

#[test]
fn a_wrong_exit_code_fails_the_run() {
    let _slot = slot();
    let place = Place::new();
    let ended = place.run(&recipe(&["{ name: three, run: echo oops >&2; exit 3 }", HIT]));
    ended.assert_code(1);
    let report = ended.report();
    assert_eq!((&report["outcome"], &report["error"]), (&"failed".into(), &().into()), "{ended}");
    assert_eq!((&report["trigger"][0]["exit_code"], &report["trigger"][0]["stderr"]), (&3.into(), &"oops\n".into()));
    let expectation = &report["expectations"][0];
    let wanted = (&false.into(), &"exit 3; it said: oops".into());
    assert_eq!((&expectation["passed"], &expectation["detail"]), wanted, "{ended}");
}

#[test]
fn an_expectation_that_does_not_hold_fails_the_run_and_says_what_was_seen() {
    let _slot = slot();
    let place = Place::new();
    let expect = "expect:\n  - { probe: rst, hits: 2, through: [tcp_v4_rcv, udp_rcv], where: { sk: 1 } }\n";
    let ended = place.run(&(recipe(&[HIT]) + expect));
    ended.assert_code(1);
    let report = ended.report();
    assert_eq!((&report["outcome"], &report["error"]), (&"failed".into(), &().into()), "{ended}");
    let seen: Vec<(bool, &str)> = report["expectations"].as_array().unwrap().iter().map(expectation).collect();
    let details = ["exit 1", "1 hit", "udp_rcv", "0x0"];
    assert_eq!(seen.len(), details.len(), "{ended}");
    for (index, ((passed, detail), wanted)) in seen.into_iter().zip(details).enumerate() {
        assert_eq!(passed, index == 0, "{ended}");
        assert!(detail.contains(wanted), "no `{wanted}` in `{detail}`");
    }
}

fn expectation(value: &serde_json::Value) -> (bool, &str) {
    (value["passed"].as_bool().unwrap(), value["detail"].as_str().unwrap())
}

/// Recipes whose probe only GDB can judge: what is changed in the recipe, and what the message says.
#[test]
fn a_probe_that_gdb_refuses_is_shown_at_its_line() {
    let cases: [(&str, &[&str]); 4] = [
        (
            "at: tcp_v4_send_reset, when: skb->nosuch > 0",
            &["GDB cannot use this condition", "There is no member named nosuch.", "test.yaml:4:"],
        ),
        (
            "at: tcp_v4_send_rest",
            &["no function `tcp_v4_send_rest`", "close by: ", "tcp_v4_send_reset", "test.yaml:4:"],
        ),
        ("at: net/ipv4/tcp_ipv4.c:999999", &["no code at line 999999 of net/ipv4/tcp_ipv4.c", "test.yaml:4:"]),
        (
            "at: tcp_v4_send_reset, when: skb->len skb",
            &["GDB cannot use this condition", "syntax error", "test.yaml:4:"],
        ),
    ];
    for (probe, texts) in cases {
        let _slot = slot();
        let place = Place::new();
        place.run(&recipe(&[HIT]).replace("at: tcp_v4_send_reset", probe)).assert_error(2, "recipe", texts);
    }
}

/// A condition that GDB takes and cannot evaluate once it stops.
#[test]
fn a_condition_that_reads_through_a_null_pointer_does_not_hold() {
    let _slot = slot();
    let place = Place::new();
    let probe = "at: tcp_v4_send_reset, when: sk->__sk_common.skc_num == 1";
    let report = place.run(&recipe(&[HIT]).replace("at: tcp_v4_send_reset", probe)).assert_passed();
    assert!(probes_of_hits(&report).is_empty());
    let warnings = report["warnings"].to_string();
    assert!(
        warnings.contains("cannot be evaluated") && warnings.contains("Cannot access memory at address 0xe"),
        "{warnings}"
    );
}

/// Kernel options that no configuration can hold, and the reason that is given. No kernel is compiled for them.
#[test]
fn an_option_that_does_not_survive_is_an_error_with_its_reason() {
    let cases: [(&str, &[&str]); 2] = [
        ("NETFILTR: y", &["NETFILTR: asked y, got n", "no such symbol", "close by: ", "NETFILTER"]),
        ("KPROBES: y", &["KPROBES: asked y, got n", "it needs MODULES"]),
    ];
    for (option, texts) in cases {
        let place = Place::new();
        let kernel = format!("kernel: {{ version: '6.1', options: {{ {option} }} }}");
        let text = recipe(&[HIT]).replace("kernel: { version: '6.1' }", &kernel);
        let report = place.run(&text).assert_error(4, "kernel", texts);
        assert!(report["error"]["hint"].as_str().unwrap().contains("kernel.options"), "{report}");
    }
}

// The user

#[test]
fn ctrl_c_while_the_guest_boots_ends_the_run() {
    let _slot = slot();
    let place = Place::new();
    let running = place.start(&recipe(&[HIT]));
    running.wait_for_event("phase_started", "boot");
    place.process("qemu-system-x86_64");
    running.signal(Signal::INT);
    let report = running.wait_within(AFTERMATH).assert_error(130, "interrupted", &[]);
    place.assert_nothing_left();
    assert!(report["trigger"].as_array().unwrap().is_empty());
}

#[test]
fn ctrl_c_and_sigterm_in_a_step_keep_what_was_collected() {
    for signal in [Signal::INT, Signal::TERM] {
        let _slot = slot();
        let place = Place::new();
        let running = place.start(&recipe(&[HIT, LONG]));
        running.wait_for_event("step_started", "long");
        running.signal(signal);
        let report = running.wait_within(AFTERMATH).assert_error(130, "interrupted", &[]);
        place.assert_nothing_left();
        assert_eq!(probes_of_hits(&report), ["rst"]);
        assert_eq!(report["trigger"][0]["exit_code"], 1);
    }
}

#[test]
fn a_killed_kdbg_leaves_its_hits_and_nothing_else() {
    let _slot = slot();
    let place = Place::new();
    let running = place.start(&recipe(&[HIT, LONG]));
    running.wait_for_event("step_started", "long");
    running.signal(Signal::KILL);
    running.wait_within(Duration::from_secs(1));
    place.assert_nothing_left();
    let hits = fs::read_to_string(place.out().join("hits.jsonl")).unwrap();
    let hits: Vec<serde_json::Value> = hits.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(hits.len(), 1);
    assert_eq!((&hits[0]["probe"], &hits[0]["frames"][0]["symbol"]), (&"rst".into(), &"tcp_v4_send_reset".into()));
}

/// A kdbg that is killed while it starts QEMU: what stands between them finds it gone, and deletes the sockets for it.
#[test]
fn a_supervisor_that_starts_too_late_still_cleans_up() {
    let place = Place::new();
    let sockets = place.path().join("sockets");
    fs::create_dir(&sockets).unwrap();
    let line = ["supervise", "--parent", "1", "--scrub", sockets.to_str().unwrap(), "--", "touch", "started"];
    place.kdbg(&line).wait().assert_refused(127, &["the parent is gone"]);
    assert!(!sockets.exists() && !place.path().join("started").exists());
}

/// `kdbg run … | head -1`, with events and with the summary.
#[test]
fn a_reader_that_goes_away_does_not_change_the_run() {
    for format in [&["--json"][..], &[]] {
        let _slot = slot();
        let place = Place::new();
        let recipe = place.file("test.yaml", &recipe(&[HIT]));
        let out = place.out();
        let args = ["run", recipe.to_str().unwrap(), "--out", out.to_str().unwrap(), "--accel", "tcg"];
        let ended = place.kdbg_into_head(&[&args, format].concat()).wait();
        place.assert_nothing_left();
        ended.assert_passed();
        assert!(!ended.stderr.contains("panicked"), "{ended}");
    }
}
