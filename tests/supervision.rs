//! Guests that go wrong by themselves, and steps that do what steps should not: each is recognised at once, said, and ends
//! the run only where it has to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::Value;
use support::{Ended, HIT, Place, all_slots, probes_of_hits, recipe, slot};

/// A run of a hit, this step, and a hit.
fn run(step: &str) -> Ended {
    let _slot = slot();
    let place = Place::new();
    let ended = place.run(&recipe(&[HIT, step, &HIT.replace("name: hit", "name: again")]));
    assert_eq!(probes_of_hits(&ended.report())[0], "rst", "{ended}");
    ended
}

/// A step that may take long and does not.
fn step(script: &str) -> String {
    format!("{{ name: act, timeout: 10m, run: \"{script}\" }}")
}

/// The step that runs after the one that is tested was run too.
fn assert_went_on(ended: &Ended) -> Value {
    let report = ended.report();
    assert_eq!(report["error"], Value::Null, "{ended}");
    assert_eq!(probes_of_hits(&report), ["rst", "rst"], "{ended}");
    report
}

#[test]
fn what_the_kernel_says_before_it_is_of_no_use_ends_the_run_at_once() {
    let fatal = [
        ("BUG: kernel NULL pointer dereference, address: 0000000000000000", "oops", "an oops"),
        ("watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [sh:60]", "soft_lockup", "a soft lockup"),
        ("INFO: task sh:60 blocked for more than 122 seconds.", "hung_task", "hangs"),
    ];
    for (line, kind, words) in fatal {
        // As the kernel itself, without the `user` that the first words would get.
        let ended = run(&step(&format!("echo '<2>{line}' > /dev/kmsg; sleep 1000")));
        let report = ended.assert_error(5, "guest", &[words, line]);
        let incident = &report["incidents"][0];
        assert_eq!((&incident["kind"], &incident["text"]), (&kind.into(), &line.into()), "{ended}");
        assert_eq!(incident["step"], "act");
        assert!(report["trigger"][1]["duration_ms"].as_u64().unwrap() < 60_000, "{ended}");
    }
}

#[test]
fn what_the_kernel_says_with_its_last_breath_counts_too() {
    let _slot = slot();
    let oops = step("echo '<2>kernel BUG at net/core/dev.c:1!' > /dev/kmsg");
    let report =
        Place::new().run(&recipe(&[HIT, &oops])).assert_error(5, "guest", &["kernel BUG at net/core/dev.c:1!"]);
    assert_eq!((&report["trigger"][1]["exit_code"], report["incidents"].as_array().unwrap().len()), (&0.into(), 1));
}

#[test]
fn the_stack_of_a_panic_is_told_with_files_and_lines() {
    let ended = run(&step("echo c > /proc/sysrq-trigger"));
    let place = "sysrq_handle_crash  drivers/tty/sysrq.c:";
    let report =
        ended.assert_error(5, "guest", &["panicked", "sysrq triggered crash\n  panic  kernel/panic.c:", place]);
    let stack = report["incidents"][0]["stack"].as_array().unwrap();
    let called = |symbol: &str| stack.iter().find(|call| call["symbol"] == symbol && call["certain"] == true);
    assert_eq!(called("write_sysrq_trigger").unwrap()["file"], "drivers/tty/sysrq.c", "{ended}");
    assert_eq!(called("vfs_write").unwrap()["file"], "fs/read_write.c", "{ended}");
}

#[test]
fn the_stack_of_a_panic_before_the_first_step_is_told_too() {
    let crash = "#!/bin/busybox sh\n/bin/busybox mount -t proc proc /proc 2>/dev/null\necho c > /proc/sysrq-trigger\n";
    // In the boot that would be saved, and in the script that sets up the topology.
    for image in ["init: crash.sh", "files: { /bin/sh: crash.sh }"] {
        let _slot = slot();
        let place = Place::with_own_templates();
        fs::create_dir(place.path().join("images")).unwrap();
        place.file("images/crash.yaml", &format!("name: crash\ninclude: [base]\n{image}\n"));
        let file = place.file("images/crash.sh", crash);
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
        let guest = "probes:\n";
        let ended = place.run(&recipe(&[HIT]).replace(
            guest,
            &format!("guest: {{ image: crash, network: {{ topology: {{ hosts: {{ other: {{}} }} }} }} }}\n{guest}"),
        ));
        let report = ended.assert_error(5, "guest", &["panicked", "\n  sysrq_handle_crash  ", "drivers/tty/sysrq.c:"]);
        let incident = &report["incidents"][0];
        assert_eq!((&incident["kind"], &incident["step"]), (&"panic".into(), &Value::Null), "{ended}");
        let stack = incident["stack"].as_array().unwrap();
        // A cache of its own has the sources by another path than the kernel was built by.
        let is_called =
            |file: &str| stack.iter().any(|call| call["file"].as_str().is_some_and(|it| it.ends_with(file)));
        assert!(is_called("fs/read_write.c"), "{ended}");
        assert_eq!(report["trigger"], Value::Array(Vec::new()));
    }
}

#[test]
fn a_warning_of_the_kernel_is_told_and_the_run_goes_on() {
    let line = "WARNING: CPU: 0 PID: 1 at net/core/dev.c:1 x+0x1/0x2";
    let ended = run(&step(&format!("echo '<4>{line}' > /dev/kmsg")));
    let report = assert_went_on(&ended);
    assert_eq!(report["incidents"][0]["kind"], "warning");
    assert!(report["warnings"].to_string().contains(line), "{ended}");
}

#[test]
fn a_process_that_eats_all_memory_is_named_and_ends_the_run() {
    let eat = "for i in 1 2 3; do dd if=/dev/zero of=/dev/null bs=100M & done; \
               until dmesg | grep -q 'Out of memory'; do sleep 0.1; done; killall dd";
    let ended = run(&step(eat));
    let report =
        ended.assert_error(5, "guest", &["the guest ran out of memory: Out of memory: Killed process", "(dd)"]);
    let incident = &report["incidents"][0];
    assert_eq!(incident["kind"], "out_of_memory", "{ended}");
    let mut stack = incident["stack"].as_array().unwrap().iter();
    assert!(stack.any(|call| call["symbol"] == "out_of_memory" && call["file"] == "mm/oom_kill.c"), "{incident}");
}

#[test]
fn a_step_that_ends_the_guest_ends_the_run_and_is_no_crash() {
    for (script, words) in [
        ("halt -f", "it was halted"),
        ("poweroff; sleep 1000", "it was halted"),
        ("reboot -f", "it restarted"),
        ("reboot; sleep 1000", "it restarted"),
    ] {
        let report = run(&step(script)).assert_error(5, "guest", &["the guest ended itself", words]);
        assert!(report["error"]["hint"].as_str().unwrap().contains("reboot"), "{report}");
        assert_eq!(report["incidents"], Value::Array(Vec::new()));
    }
}

#[test]
fn a_guest_that_falls_silent_is_noticed_before_the_timeout_of_the_step() {
    let freeze = step("kill -STOP $(ps | awk '/[i]nit agent/ { print $1 }'); sleep 1000");
    let report = run(&freeze).assert_error(5, "guest", &["the guest hangs", "`act`", "has not said a word for"]);
    assert_eq!(report["trigger"][1]["timed_out"], false);
    let incident = &report["incidents"][0];
    assert_eq!((&incident["kind"], &incident["step"]), (&"silent".into(), &"act".into()));
    // Only the agent has stopped: the CPU has nothing to do.
    let stack = incident["stack"].as_array().unwrap();
    let idle = stack.iter().find(|call| call["symbol"] == "do_idle").unwrap();
    assert_eq!((&idle["file"], &idle["line"].is_u64()), (&"kernel/sched/idle.c".into(), &true), "{incident}");
    assert!(report["error"]["message"].as_str().unwrap().contains("do_idle  kernel/sched/idle.c:"), "{report}");
}

#[test]
fn a_step_that_only_sleeps_is_no_silent_guest() {
    let report = run("{ name: sleep, timeout: 1m, run: sleep 25 }").assert_passed();
    assert_eq!(probes_of_hits(&report), ["rst", "rst"]);
}

#[test]
fn a_hundred_megabytes_are_read_and_not_kept() {
    let ended = run(&step("head -c 100000000 /dev/zero | tr '\\\\0' x"));
    let report = assert_went_on(&ended);
    let kept = 1 << 20;
    assert!(report["trigger"][1]["stdout"].as_str().unwrap().starts_with(&"x".repeat(kept)), "{ended}");
    let dropped = (100_000_000 - kept).to_string();
    assert!(report["warnings"].to_string().contains(&dropped), "{}", report["warnings"]);
}

#[test]
fn binary_output_is_text_in_the_report() {
    let ended = run(&step("printf '\\\\0\\\\377\\\\036kdbg end x\\\\036\\\\033[2Jend'"));
    let report = assert_went_on(&ended);
    let stdout = report["trigger"][1]["stdout"].as_str().unwrap();
    assert!(stdout.starts_with("\0\u{fffd}") && stdout.ends_with("\u{1b}[2Jend"), "{stdout:?}");
}

#[test]
fn what_a_step_leaves_running_does_not_hold_it_up() {
    let ended = run(&step("(sleep 1000; echo late) & setsid sleep 1000 & echo early"));
    let report = assert_went_on(&ended);
    assert_eq!((&report["trigger"][1]["exit_code"], &report["trigger"][1]["stdout"]), (&0.into(), &"early\n".into()));
}

#[test]
fn four_runs_of_two_recipes_at_once_are_reported_apart() {
    let _slots = all_slots();
    let place = Place::with_own_templates();
    let other = recipe(&[HIT, HIT.replace("name: hit", "name: again").as_str()]).replace("name: test", "name: other");
    let files = [place.file("one.yaml", &recipe(&[HIT])), place.file("two.yaml", &other)];
    let running: Vec<_> = (0..4)
        .map(|index| {
            let (file, out) = (files[index % 2].to_str().unwrap(), format!("out{index}"));
            place.kdbg(&["run", file, "--out", &out, "--accel", "tcg"])
        })
        .collect();
    let ended: Vec<Ended> = running.into_iter().map(|run| run.wait_within(Duration::from_secs(180))).collect();
    for (index, ended) in ended.iter().enumerate() {
        ended.assert_code(0);
        let report = std::fs::read(place.path().join(format!("out{index}/report.json"))).unwrap();
        let report: Value = serde_json::from_slice(&report).unwrap();
        assert_eq!(report["recipe"]["name"], ["test", "other"][index % 2]);
        assert_eq!(probes_of_hits(&report).len(), index % 2 + 1);
    }
    // One guest was booted for all of them.
    assert_eq!(place.cached("templates").len(), 1);
    place.assert_nothing_left();
}

#[test]
fn files_that_steps_name_are_brought_back_and_those_that_are_not_there_are_told() {
    let make = "head -c 3000000 /dev/urandom >'/tmp/a b.bin'; sha256sum <'/tmp/a b.bin'";
    let text = recipe(&[&format!("{{ name: make, run: \"{make}\", fetch: [/tmp/a b.bin, /tmp/none, /proc] }}"), HIT]);
    let _slot = slot();
    let place = Place::new();
    let report = place.run(&text).assert_passed();
    let bytes = fs::read(place.out().join("files/a b.bin")).unwrap();
    let printed = report["trigger"][0]["stdout"].as_str().unwrap();
    assert_eq!(printed.split(' ').next().unwrap(), kdbg::digest::sha256(&bytes));
    assert_eq!(report["files"]["files/a b.bin"], "files/a b.bin");
    let warnings = report["warnings"].to_string();
    for why in ["/tmp/none of step `make` was not brought back: there is no such file", "/proc of step `make` was not"]
    {
        assert!(warnings.contains(why), "{warnings}");
    }
    assert_eq!(fs::read_dir(place.out().join("files")).unwrap().count(), 1);
}

#[test]
fn what_runs_on_in_the_background_is_not_in_a_file_that_is_brought_back() {
    // All values of a byte, the one that begins a mark among them, in 4 MiB.
    let noisy = r#"  - name: noisy
    fetch: [/tmp/all, /tmp/none, /tmp/256]
    run: |
      for i in $(seq 0 255); do printf "\\$(printf %03o $i)"; done >/tmp/256
      for i in $(seq 64); do cat /tmp/256; done >/tmp/16k; for i in $(seq 256); do cat /tmp/16k; done >/tmp/all
      (while :; do echo shout; echo shout >&2; done) &
"#;
    let _slot = slot();
    let place = Place::new();
    let ended = place.run(&(recipe(&[]) + noisy));
    let report = ended.assert_passed();
    let all: Vec<u8> = (0..=255).collect();
    assert!(fs::read(place.out().join("files/256")).unwrap() == all, "{ended}");
    assert!(fs::read(place.out().join("files/all")).unwrap() == all.repeat(16384), "{ended}");
    let why = "/tmp/none of step `noisy` was not brought back: there is no such file";
    assert!(report["warnings"].to_string().contains(why), "{ended}");
}

#[test]
fn a_guest_that_dies_while_a_file_is_brought_back_ends_the_run_and_leaves_no_half_of_it() {
    let dies = "truncate -s 256M /tmp/big; (sleep 0.3; echo c > /proc/sysrq-trigger) &";
    let _slot = slot();
    let place = Place::new();
    let ended = place.run(&recipe(&[HIT, &format!("{{ name: dies, run: \"{dies}\", fetch: [/tmp/big] }}")]));
    let report = ended.assert_error(5, "guest", &["panicked", "sysrq_handle_crash"]);
    assert_eq!(probes_of_hits(&report), ["rst"]);
    assert!(report["warnings"].to_string().contains("/tmp/big of step `dies` was not brought back"), "{ended}");
    assert_eq!(fs::read_dir(place.out().join("files")).unwrap().count(), 0);
}

#[test]
fn an_agent_that_is_gone_is_waited_for_once_however_many_files_there_are() {
    let kill = "kill -9 $(ps | grep 'init agent' | grep -v grep | awk '{print $1}')";
    let _slot = slot();
    let place = Place::new();
    let ended =
        place.run(&recipe(&[HIT, &format!("{{ name: kill, run: \"{kill}\", fetch: [/etc/passwd, /init, /bin] }}")]));
    let report = ended.assert_passed();
    assert_eq!(probes_of_hits(&report), ["rst"]);
    let warnings: Vec<&str> = report["warnings"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let files = [
        "/etc/passwd of step `kill` was not brought back: it did not arrive within 1m",
        "/init, /bin were not brought back either: the guest's agent does not answer any more",
    ];
    assert!(warnings.ends_with(&files), "{ended}");
}

#[test]
fn a_gdb_that_does_not_leave_costs_the_files_and_nothing_else() {
    let _slot = slot();
    let place = Place::new();
    // Of a pause it says nothing.
    place.fake("gdb", "\"$real\" \"$@\" | grep --line-buffered -v signal-name=");
    let ended = place.run(&recipe(&["{ name: hit, run: nc 127.0.0.1 9 < /dev/null, exit: 1, fetch: [/init] }"]));
    let report = ended.assert_passed();
    assert_eq!(probes_of_hits(&report), ["rst"]);
    let warnings = report["warnings"].to_string();
    assert!(warnings.contains("were not brought back: GDB did not hear of the guest's pause within 10s"), "{warnings}");
}

#[test]
fn a_step_without_the_time_to_start_is_killed_all_the_same() {
    let _slot = slot();
    let ended = Place::new().run(&recipe(&["{ name: short, run: sleep 1000, timeout: 1ms }"]));
    ended.assert_code(1);
    assert_eq!(ended.report()["trigger"][0]["timed_out"], true, "{ended}");
}

#[test]
fn what_a_shell_complains_of_is_the_same_in_every_run() {
    let said = || {
        let _slot = slot();
        let ended = Place::new().run(&recipe(&["{ name: wrong, run: no-such-program, exit: 127 }"]));
        ended.assert_passed()["trigger"][0]["stderr"].clone()
    };
    assert_eq!(said(), said());
}
