//! Stops that cost little under TCG: they show what breakpoints show, none is lost, and they get out of the way of the guest's
//! own tracer; and probes that are disarmed are counted on. On the kernel of tests/trace.yaml, which can trace its functions, and on a distribution's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use support::equal::assert_equal;
use support::{Place, in_repository, obtain, probes_of_hits, slot};

const LIMIT: Duration = Duration::from_secs(300);
/// Entries and returns, with conditions and without, of global functions and of one that only its file knows; and what has to be a
/// breakpoint.
const PROBES: &str = "probes:
  - { name: rst, at: tcp_v4_send_reset }
  - { name: receive, at: tcp_v4_rcv, show: { port: 'skb->len' } }
  - { name: received, at: 'return: tcp_v4_rcv' }
  - { name: connect, at: tcp_v4_connect }
  - { name: connected, at: 'return: tcp_v4_connect' }
  - { name: again, at: tcp_v4_rcv, when: skb->len > 40, skip: 1 }
  - { name: never, at: tcp_v4_rcv, when: skb->len > 4000 }
  - { name: static, at: __tcp_transmit_skb, limit: 2 }
  - { name: inlined, at: tcp_transmit_skb, limit: 1 }
  - { name: line, at: 'tcp_v4_send_reset:+21', limit: 1 }
";
const STEP: &str = "trigger:
  - { name: two, run: 'nc 127.0.0.1 9 < /dev/null; nc 127.0.0.1 9 < /dev/null', exit: 1 }
";

fn traceable() -> String {
    let recipe = fs::read_to_string(in_repository("tests/trace.yaml")).unwrap();
    recipe.lines().find(|line| line.starts_with("kernel:")).unwrap().to_string()
}

fn run(place: &Place, recipe: &Path, more: &[&str]) -> Value {
    let out = place.out();
    let _ = fs::remove_dir_all(&out);
    let line = ["run", recipe.to_str().unwrap(), "--json", "--accel", "tcg", "--out", out.to_str().unwrap()];
    let ended = place.kdbg(&[&line, more].concat()).wait_within(LIMIT);
    place.assert_nothing_left();
    ended.assert_passed()
}

/// Takes the kinds out of a report, and gives those of the probes.
fn take_kinds(report: &mut Value) -> Vec<String> {
    let mut kinds = Vec::new();
    for probe in report["probes"].as_array_mut().unwrap() {
        kinds.push(probe.as_object_mut().unwrap().remove("kind").unwrap().as_str().unwrap().to_string());
        for location in probe["locations"].as_array_mut().unwrap() {
            location.as_object_mut().unwrap().remove("cheap").unwrap();
        }
    }
    kinds
}

/// Runs both ways, and compares everything.
fn both_ways(kernel: &str) {
    let place = Place::new();
    let recipe = place.file("both.yaml", &format!("name: test\n{kernel}\n{PROBES}{STEP}"));
    if obtain::kernel(&recipe, &[]).is_none() {
        return;
    }
    let _slot = slot();
    let mut cheap = run(&place, &recipe, &[]);
    let mut plain = run(&place, &recipe, &["--breakpoints"]);
    let kinds = take_kinds(&mut cheap);
    assert_eq!(kinds[..8], ["cheap"; 8], "{kinds:?}");
    assert_eq!(kinds[8..], ["breakpoint"; 2]);
    assert_eq!(take_kinds(&mut plain), ["breakpoint"; 10]);
    let probes = probes_of_hits(&cheap);
    assert_eq!(probes.iter().filter(|name| **name == "received").count(), 4, "{probes:?}");
    assert!(!probes.contains(&"never"));
    assert_equal(&cheap, &plain);
}

#[test]
fn a_cheap_stop_shows_what_a_breakpoint_shows() {
    both_ways(&traceable());
}

#[test]
fn a_cheap_stop_in_a_distributions_kernel_shows_what_a_breakpoint_shows() {
    both_ways("kernel: { package: linux-image-cloud-amd64 }");
}

#[test]
fn the_guests_own_tracer_finds_functions_as_it_knows_them() {
    let place = Place::new();
    let kernel = traceable();
    let trace = "cd /sys/kernel/tracing; echo tcp_v4_send_reset > set_ftrace_filter; echo function > current_tracer; \
                 nc 127.0.0.1 9 < /dev/null; grep -c tcp_v4_send_reset trace; echo nop > current_tracer; \
                 echo > set_ftrace_filter; nc 127.0.0.1 9 < /dev/null";
    let recipe = place.file(
        "trace.yaml",
        &format!(
            "name: test\n{kernel}\nprobes:\n  - {{ name: rst, at: tcp_v4_send_reset }}\ntrigger:\n  \
             - {{ name: before, run: nc 127.0.0.1 9 < /dev/null, exit: 1 }}\n  \
             - {{ name: traced, run: '{trace}', exit: 1 }}\n"
        ),
    );
    obtain::kernel(&recipe, &[]).expect("a kernel of the version that all tests have");
    let _slot = slot();
    let report = run(&place, &recipe, &[]);
    assert_eq!(probes_of_hits(&report), ["rst"; 3]);
    assert_eq!(report["probes"][0]["kind"], "breakpoint", "of the last hit");
    let seen = report["trigger"][1]["stdout"].as_str().unwrap();
    assert!(seen.lines().any(|line| line.parse::<u32>().is_ok_and(|lines| lines > 0)), "the tracer saw it too: {seen}");
    assert_eq!(report["incidents"], Value::Array(Vec::new()), "a tracer that finds other code than it left says so");
    let warnings = report["warnings"].to_string();
    assert!(warnings.contains("the guest began to trace functions itself"), "{warnings}");
}

/// How many connections that are refused a step makes.
const CONNECTIONS: usize = 40;

/// A step that makes them on as many CPUs at once, and then says how many resets the guest has sent.
fn load(name: &str, cpus: usize) -> String {
    let each = format!("for n in $(seq {}); do nc 127.0.0.1 9 < /dev/null; done", CONNECTIONS / cpus);
    let run = vec![format!("({each})"); cpus].join(" & ");
    format!("  - {{ name: {name}, run: '{run} & wait; grep ^Tcp: /proc/net/snmp', timeout: 1m }}\n")
}

/// How many resets the guest has sent by the end of a step.
fn resets(report: &Value, step: usize) -> usize {
    let counts: Vec<&str> = report["trigger"][step]["stdout"].as_str().unwrap().lines().collect();
    let [names, values] = [counts[counts.len() - 2], counts[counts.len() - 1]].map(|line| line.split(' '));
    names.zip(values).find(|(name, _)| *name == "OutRsts").unwrap().1.parse().unwrap()
}

fn probe<'a>(report: &'a Value, name: &str) -> &'a Value {
    report["probes"].as_array().unwrap().iter().find(|probe| probe["name"] == name).unwrap()
}

/// What was collected and counted of a probe.
fn entries(report: &Value, name: &str) -> [usize; 2] {
    let probe = probe(report, name);
    [&probe["hits"], &probe["counted"]].map(|number| usize::try_from(number.as_u64().unwrap()).unwrap())
}

#[test]
fn two_cpus_that_reach_the_same_function_lose_no_hit() {
    let place = Place::new();
    let kernel = traceable();
    let recipe = place.file(
        "cpus.yaml",
        &format!(
            "name: test\n{kernel}\nguest: {{ cpus: 2 }}\nprobes:\n  - {{ name: rst, at: tcp_v4_send_reset, stack: 3 }}\n  \
             - {{ name: out, at: 'return: tcp_v4_connect', stack: 3 }}\ntrigger:\n{}",
            load("load", 2)
        ),
    );
    obtain::kernel(&recipe, &[]).expect("a kernel of the version that all tests have");
    let _slot = slot();
    let report = run(&place, &recipe, &[]);
    let probes = probes_of_hits(&report);
    for name in ["rst", "out"] {
        assert_eq!(probes.iter().filter(|probe| **probe == name).count(), CONNECTIONS, "{name}: {report:#}");
        assert_eq!(probe(&report, name)["kind"], "cheap");
    }
    let mut cpus: Vec<&Value> = report["hits"].as_array().unwrap().iter().map(|hit| &hit["cpu"]).collect();
    cpus.sort_by_key(|cpu| cpu.as_u64());
    cpus.dedup();
    assert_eq!(cpus, [&Value::from(0), &Value::from(1)], "both have hits");
    assert_eq!(resets(&report, 0), CONNECTIONS, "the guest has counted as many");
}

/// Runs a load twice with probes that are disarmed early: what was collected and what was counted make what there was.
fn count_on(cpus: usize, more: &[&str]) {
    const CONDITION: &str = ": the guest had stood still for it longer than its `budget` of 1ms; what came after that was not counted: a \
                             counter does not look at the probe's `when`";
    let place = Place::new();
    let recipe = place.file(
        "count.yaml",
        &format!(
            "name: test\n{}\nguest: {{ cpus: {cpus} }}\nprobes:\n  - {{ name: rst, at: tcp_v4_send_reset, stack: 2, limit: 5 }}\n  \
             - {{ name: dear, at: tcp_v4_connect, budget: 1ms }}\n  \
             - {{ name: checks, at: 'tcp_v4_send_che*', log: '{{$function}}', limit: 3 }}\n  \
             - {{ name: condition, at: tcp_v4_rcv, when: skb->len == 3, budget: 1ms }}\n  \
             - {{ name: shared, at: tcp_connect, log: one, limit: 1 }}\n  - {{ name: sharing, at: tcp_connect, log: all }}\n\
             trigger:\n{}{}",
            traceable(),
            load("first", cpus),
            load("second", cpus),
        ),
    );
    obtain::kernel(&recipe, &[]).expect("a kernel of the version that all tests have");
    let _slot = slot();
    let report = run(&place, &recipe, more);
    let all = 2 * CONNECTIONS;
    assert_eq!([resets(&report, 0), resets(&report, 1)], [CONNECTIONS, all], "the guest is unharmed");
    assert_eq!(report["incidents"], Value::Array(Vec::new()));
    for (name, hits) in [("rst", 5), ("dear", 1), ("checks", 3)] {
        let [collected, counted] = entries(&report, name);
        assert_eq!(collected + counted, all, "{name} {more:?}");
        // Another CPU may have reached it while the last of these was collected.
        assert!((hits..hits + cpus).contains(&collected), "{name} {more:?}: {collected}");
    }
    for name in ["condition", "shared", "sharing"] {
        assert_eq!(probe(&report, name)["counted"], Value::Null, "{name}");
    }
    let warnings = report["warnings"].to_string();
    for disarmed in ["probe `dear` was disarmed after ", "probe `condition` was disarmed after no hits at "] {
        assert!(warnings.contains(disarmed), "{warnings}");
    }
    assert!(warnings.contains("from then on entries were only counted") && warnings.contains(CONDITION), "{warnings}");
    let page = fs::read_to_string(place.out().join("report.md")).unwrap();
    assert!(page.contains(&format!("5, then disarmed (+ {} counted)", all - 5)), "{page}");
}

#[test]
fn what_a_disarmed_probe_does_not_see_is_counted() {
    count_on(1, &[]);
    count_on(1, &["--breakpoints"]);
}

#[test]
fn two_cpus_that_reach_a_function_are_counted_together() {
    count_on(2, &[]);
    count_on(2, &["--breakpoints"]);
}

#[test]
fn what_was_counted_until_the_guest_traces_functions_itself_is_kept() {
    let place = Place::new();
    let trace = "cd /sys/kernel/tracing; echo tcp_v4_send_reset > set_ftrace_filter; echo function > current_tracer; \
                 nc 127.0.0.1 9 < /dev/null; grep -c tcp_v4_send_reset trace; echo nop > current_tracer";
    let recipe = place.file(
        "trace.yaml",
        &format!(
            "name: test\n{}\nprobes:\n  - {{ name: rst, at: tcp_v4_send_reset, limit: 2 }}\ntrigger:\n{}  \
             - {{ name: traced, run: '{trace}' }}\n",
            traceable(),
            load("before", 1),
        ),
    );
    obtain::kernel(&recipe, &[]).expect("a kernel of the version that all tests have");
    let _slot = slot();
    let report = run(&place, &recipe, &[]);
    assert_eq!(entries(&report, "rst"), [2, CONNECTIONS - 2]);
    assert!(report["trigger"][1]["stdout"].as_str().unwrap().lines().any(|line| line != "0"), "the tracer saw it");
    assert_eq!(report["incidents"], Value::Array(Vec::new()), "a tracer that finds other code than it left says so");
    let warnings = report["warnings"].to_string();
    assert!(warnings.contains("what probes that had been disarmed would have seen was not counted"), "{warnings}");
}

#[test]
fn many_stops_that_are_dear_say_what_would_make_them_cheap() {
    const MANY: &str = "name: test
kernel: { version: '6.1' }
probes: [{ name: rst, at: tcp_v4_send_reset, log: reset }]
trigger:
  - name: connections
    run: for each in $(seq HITS); do nc 127.0.0.1 9 < /dev/null; done
    exit: 1
    timeout: 2m
";
    let place = Place::new();
    let many = place.file("many.yaml", &MANY.replace("HITS", "100"));
    if obtain::kernel(&many, &[]).is_none() {
        return;
    }
    let _slot = slot();
    let warnings = |recipe: &Path, more: &[&str]| run(&place, recipe, more)["warnings"].to_string();
    assert!(warnings(&many, &[]).contains("add the fragment `trace` to `kernel.config`"));
    // Whoever wants breakpoints knows.
    let few = place.file("few.yaml", &MANY.replace("HITS", "5"));
    for (recipe, more) in [(&few, &[][..]), (&few, &["--breakpoints"][..])] {
        assert_eq!(warnings(recipe, more), "[]");
    }
}

#[test]
fn a_module_that_comes_and_goes_takes_its_cheap_stops_with_it() {
    const MODULE: &str = "name: test
kernel: { package: linux-image-cloud-amd64, modules: [dummy, tcp_diag] }
probes:
  - { name: init, at: dummy_init_module }
  - { name: setup, at: dummy_setup }
  - { name: exit, at: dummy_cleanup_module }
trigger:
  - name: come and go
    run: for each in 1 2 3; do modprobe dummy numdummies=1; rmmod dummy; modprobe tcp_diag; done
    timeout: 1m
";
    let place = Place::new();
    let recipe = place.file("module.yaml", MODULE);
    if obtain::kernel(&recipe, &[]).is_none() {
        return;
    }
    let _slot = slot();
    for more in [&[][..], &["--breakpoints"]] {
        let report = run(&place, &recipe, more);
        let hits = probes_of_hits(&report);
        // The module is loaded at boot too: what is left of its first life is its end.
        for (probe, count) in [("init", 2), ("setup", 2), ("exit", 3)] {
            let seen = hits.iter().filter(|name| **name == probe).count();
            assert!(seen >= count, "{probe}: {hits:?}");
        }
    }
}
