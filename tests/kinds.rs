//! Kinds of probes beyond one function: groups, clones, code that is gone, probes that wait for others or for a step.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use serde_json::Value;
use support::{HIT, Place, in_repository, probes_of_hits, recipe, slot};

fn with_probes(probes: &[&str], steps: &[&str]) -> String {
    let list: String = probes.iter().map(|probe| format!("  - {{ {probe} }}\n")).collect();
    recipe(steps).replace("  - { name: rst, at: tcp_v4_send_reset }\n", &list)
}

fn innermost(report: &Value) -> Vec<&str> {
    let hits = report["hits"].as_array().unwrap().iter();
    hits.map(|hit| hit["frames"][0]["symbol"].as_str().unwrap()).collect()
}

#[test]
fn a_pattern_stops_in_every_function_that_it_stands_for() {
    let _slot = slot();
    let probes = ["name: send, at: 'tcp_v4_send_*', stack: 2, show: { length: skb->len }"];
    let report = Place::new().run(&with_probes(&probes, &[HIT])).assert_passed();
    assert_eq!(innermost(&report), ["tcp_v4_send_check", "tcp_v4_send_reset"]);
    let places = report["probes"][0]["locations"].as_array().unwrap();
    let mut functions: Vec<&str> = places.iter().map(|place| place["symbol"].as_str().unwrap()).collect();
    functions.sort_unstable();
    functions.dedup();
    assert_eq!(functions, ["tcp_v4_send_ack", "tcp_v4_send_check", "tcp_v4_send_reset", "tcp_v4_send_synack"]);
    assert_eq!(report["hits"][0]["frames"][0]["offset"], 0);
}

#[test]
fn patterns_that_stand_for_too_much_or_nothing_are_refused_at_their_line() {
    let _slot = slot();
    for (at, texts) in [
        ("tcp_*", &["`rst`: tcp_* stands for ", " functions, and may for 64", "among them tcp_", "test.yaml:4:"][..]),
        ("tcp_v5_*", &["no function of this kernel matches `tcp_v5_*`", "test.yaml:4:"][..]),
    ] {
        let probe = format!("name: rst, at: '{at}'");
        Place::new().run(&with_probes(&[&probe], &[HIT])).assert_error(2, "recipe", texts);
    }
}

#[test]
fn a_function_of_which_only_a_clone_is_there_stops_in_that() {
    let _slot = slot();
    let probes = [
        "name: plain, at: ip_rcv_finish_core, stack: 2, limit: 1",
        "name: clone, at: ip_rcv_finish_core.constprop.0, stack: 2, limit: 1",
    ];
    let report = Place::new().run(&with_probes(&probes, &[HIT])).assert_passed();
    let place = |probe: usize| &report["probes"][probe]["locations"];
    assert_eq!(place(0)[0]["address"], place(1)[0]["address"]);
    assert_eq!(
        (place(0).as_array().unwrap().len(), place(1).as_array().unwrap().len()),
        (1, 1),
        "its cold part is no place"
    );
    assert_eq!(probes_of_hits(&report), ["plain", "clone"]);
    assert_eq!(innermost(&report), ["ip_rcv_finish_core", "ip_rcv_finish_core"]);
}

#[test]
fn code_that_the_kernel_has_freed_is_no_place_to_stop() {
    let _slot = slot();
    for at in ["start_kernel", "'return: tcp_v4_init'", "'start_kernel:+40'"] {
        let probe = format!("name: odd, at: {at}");
        let texts = ["is gone when the probe is armed", "init code, which the kernel frees", "test.yaml:4:"];
        Place::new().run(&with_probes(&[&probe], &[HIT])).assert_error(2, "recipe", &texts);
    }
}

#[test]
fn a_probe_waits_for_another_and_for_its_steps() {
    let steps = ["one", "two", "three"].map(|name| HIT.replace("name: hit", &format!("name: {name}")));
    let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
    let probes = [
        "name: connect, at: tcp_v4_connect, during: [two], stack: 2",
        "name: rst, at: tcp_v4_send_reset, after: connect, stack: 2",
        "name: datagram, at: udp_sendmsg, stack: 2",
        "name: never, at: tcp_v4_send_reset, after: datagram",
        "name: same, at: tcp_v4_send_reset, during: [one, three], stack: 2",
    ];
    let text = with_probes(&probes, &steps) + "expect:\n  - { probe: never, hits: 0 }\n  - { probe: rst, hits: 2 }\n";
    let _slot = slot();
    let report = Place::new().run(&text).assert_passed();
    assert_eq!(probes_of_hits(&report), ["same", "connect", "rst", "rst", "same"]);
    let never = &report["probes"][3];
    assert_eq!(never["never_armed"], "`datagram` had no hit");
    assert_eq!(never["locations"].as_array().unwrap().len(), 1);
    assert!(report["probes"][1].get("never_armed").is_none());
    let detail = report["expectations"][3]["detail"].as_str().unwrap();
    assert_eq!(detail, "no hits; it was never armed: `datagram` had no hit");
    assert!(report["warnings"].to_string().contains("probe `never` was never armed: `datagram` had no hit"));
}

/// What the watched values were in each hit.
fn changes(report: &Value) -> Vec<(u64, u64)> {
    let hits = report["hits"].as_array().unwrap().iter().filter(|hit| hit.get("changed").is_some());
    let leading = |value: &Value| value.as_str().unwrap().split(' ').next().unwrap().parse().unwrap();
    hits.map(|hit| (leading(&hit["changed"]["old"]), leading(&hit["changed"]["new"]))).collect()
}

#[test]
fn a_watched_member_is_followed_from_the_hit_in_whose_frame_it_was_found() {
    let probes = [
        "name: connect, at: tcp_v4_connect, stack: 3, limit: 1",
        "name: state, at: 'watch: sk->__sk_common.skc_state', after: connect, stack: 6, limit: 2",
    ];
    let text = with_probes(&probes, &[HIT]) + "expect:\n  - { probe: state, hits: 2 }\n";
    let _slot = slot();
    let report = Place::new().run(&text).assert_passed();
    // TCP_CLOSE, TCP_SYN_SENT, and TCP_CLOSE again when the RST is there.
    assert_eq!(changes(&report), [(7, 2), (2, 7)]);
    assert_eq!(probes_of_hits(&report), ["connect", "state", "state"]);
    let hit = &report["hits"][1];
    assert_eq!(hit["changed"]["expression"], "sk->__sk_common.skc_state");
    let functions = hit["frames"].as_array().unwrap().iter().map(|frame| frame["symbol"].as_str().unwrap());
    assert!(functions.clone().any(|function| function == "tcp_v4_connect"), "{:?}", functions.collect::<Vec<_>>());
    let place = &report["probes"][1]["locations"][0];
    assert!(place["address"].as_str().unwrap().starts_with("0xffff8880"), "{place}");
    assert_eq!(report["probes"][1]["disarmed"], true);
}

#[test]
fn a_watched_global_is_watched_from_the_start_and_logged_with_what_it_was() {
    let probes =
        ["name: ticks, at: 'watch: jiffies', log: '{$function}: {$old} to {$new}', when: 'jiffies % 2 == 0', limit: 3"];
    let _slot = slot();
    let report = Place::new().run(&with_probes(&probes, &["{ name: wait, run: sleep 1 }"])).assert_passed();
    let said: Vec<&str> =
        report["hits"].as_array().unwrap().iter().map(|hit| hit["message"].as_str().unwrap()).collect();
    assert_eq!(said.len(), 3, "{said:?}");
    for line in said {
        let (function, values) = line.split_once(": ").unwrap();
        let (old, new) = values.split_once(" to ").unwrap();
        let (old, new): (u64, u64) = (old.parse().unwrap(), new.parse().unwrap());
        assert!(!function.is_empty() && old < new && new % 2 == 0, "{line}");
    }
}

#[test]
fn what_cannot_be_watched_is_refused_with_the_reason_and_never_stepped_for() {
    let _slot = slot();
    for (watched, why) in [
        ("nosuch + 1", "No symbol \\\"nosuch\\\" in current context"),
        ("init_net", " bytes, and at most 8 can be watched"),
        ("jiffies + 1", "it has no address: "),
        ("*(unsigned long *)0xffff900000000000", "Cannot access memory at address 0xffff900000000000"),
        ("$rax", "it has no address: "),
        ("*(unsigned long *)0", "its address is 0x0, which is not in the kernel's memory"),
        ("*(unsigned long *)0x400000", "its address is 0x400000, which is not in the kernel's memory"),
    ] {
        let probe = format!("name: odd, at: 'watch: {watched}'");
        let report = Place::new().run(&with_probes(&[&probe], &[HIT])).report();
        let message = report["error"]["message"].to_string();
        assert!(
            message.contains("probe `odd`: this cannot be watched") && message.contains(why),
            "{watched}: {message}"
        );
        assert!(message.contains("test.yaml:4:"), "{message}");
    }
}

#[test]
fn a_null_pointer_is_not_watched_and_the_next_hit_tried() {
    // The SYN to a closed port has no socket: `sk` is NULL there, as at every hit of this probe.
    let probes = ["name: rst, at: tcp_v4_send_reset, stack: 2", "name: error, at: 'watch: sk->sk_err', after: rst"];
    let list: String = probes.iter().map(|probe| format!("  - {{ {probe} }}\n")).collect();
    let text = recipe(&[HIT, &HIT.replace("name: hit", "name: again")])
        .replace("  - { name: rst, at: tcp_v4_send_reset }\n", &list)
        + "expect:\n  - { probe: error, hits: 0 }\n";
    let _slot = slot();
    let report = Place::new().run(&text).assert_passed();
    let why = report["probes"][1]["never_armed"].as_str().unwrap();
    assert!(why.starts_with("it could not be watched at a hit of `rst`: its address is 0x"), "{why}");
    assert!(report["expectations"].to_string().contains("no hits; it was never armed: it could not be watched"));
}

#[test]
fn a_function_is_made_to_return_and_its_caller_believes_it() {
    let probes = [
        "name: deny, at: tcp_v4_connect, force_return: '-13', stack: 3",
        "name: seen, at: tcp_v4_connect, stack: 3",
        "name: out, at: 'return: tcp_v4_connect', stack: 3",
        "name: rst, at: tcp_v4_send_reset",
    ];
    let steps = ["{ name: hit, run: nc 127.0.0.1 9 < /dev/null, exit: 1 }"];
    let text = with_probes(&probes, &steps)
        + "expect:\n  - { probe: out, hits: 1, where: { returned: '-13' } }\n  - { probe: rst, hits: 0 }\n";
    let _slot = slot();
    let place = Place::new();
    let report = place.run(&text).assert_passed();
    assert_eq!(probes_of_hits(&report), ["seen", "deny", "out"], "who changes the guest comes last");
    let said = report["trigger"][0]["stderr"].as_str().unwrap();
    assert!(said.contains("Permission denied"), "{said}");
    let altered = &report["hits"][1]["altered"][0];
    assert_eq!((&altered["what"], &altered["after"]), (&"return of tcp_v4_connect".into(), &"-13".into()));
    assert!(report["hits"][0].get("altered").is_none());
    assert!(report["warnings"].to_string().contains("probe `deny` changes the guest"), "{}", report["warnings"]);
    let page = std::fs::read_to_string(place.out().join("report.md")).unwrap();
    let red = "<span style=\"color:red\">**⚠ The guest was changed by `deny` (1 hit): what came after that is a what-if.**</span>";
    assert!(page.contains(red) && page.contains("⚠ kdbg changed `return of tcp_v4_connect` forced to -13"), "{page}");
}

#[test]
fn a_variable_is_changed_and_the_kernel_goes_on_with_it() {
    // A SYN with another destination port is answered for that one.
    let probes = [
        "name: change, at: tcp_v4_rcv, limit: 1, stack: 2, set: { skb->mark: '41 + 1', 'skb->priority': skb->len }",
        "name: rst, at: tcp_v4_send_reset, stack: 1, show: { mark: skb->mark, priority: skb->priority }",
    ];
    let _slot = slot();
    let report = Place::new().run(&with_probes(&probes, &[HIT])).assert_passed();
    assert_eq!(probes_of_hits(&report), ["change", "rst"]);
    let altered = report["hits"][0]["altered"].as_array().unwrap();
    let of = |index: usize| ["what", "before", "after"].map(|key| altered[index][key].as_str().unwrap().to_string());
    assert_eq!(of(0), ["skb->mark", "0", "42"]);
    assert_eq!(of(1), ["skb->priority", "0", "40"]);
    let shown = report["hits"][1]["shown"].as_array().unwrap();
    assert_eq!((&shown[0]["value"], &shown[1]["value"]), (&"42".into(), &"40".into()));
}

#[test]
fn what_cannot_be_changed_ends_the_run_at_its_line() {
    let _slot = slot();
    for (probe, texts) in [
        ("at: tcp_v4_send_reset, set: { sk->sk_err: 5 }", ["could not set `sk->sk_err`", "Cannot access memory"]),
        ("at: tcp_v4_send_reset, set: { skb->len + 1: 5 }", ["could not set `skb->len + 1`", "not an lvalue"]),
        ("at: tcp_v4_send_reset, force_return: nosuch", ["have its function return", "No symbol"]),
        ("at: NF_HOOK, force_return: 1", ["cannot be made to return", "it is inlined into "]),
    ] {
        let probe = format!("name: odd, {probe}");
        let ended = Place::new().run(&with_probes(&[&probe], &[HIT]));
        ended.assert_error(2, "recipe", &[texts[0], texts[1], "test.yaml:4:"]);
    }
}

#[test]
fn a_probe_that_costs_more_than_its_budget_is_disarmed_and_that_is_said() {
    let probes = [
        "name: false, at: vfs_read, when: count == 12345, budget: 200ms",
        "name: line, at: 'vfs_read:+6', when: count == 12345, budget: 200ms",
        "name: dear, at: tcp_v4_send_reset, budget: 1ms",
    ];
    let steps = [
        "{ name: read, run: dd if=/dev/zero of=/dev/null bs=1 count=1000, timeout: 2m }",
        HIT,
        &HIT.replace("hit", "again"),
    ];
    let text = with_probes(&probes, &steps) + "expect:\n  - { probe: dear, hits: 1 }\n";
    let _slot = slot();
    let report = Place::new().run(&text).assert_passed();
    assert_eq!(probes_of_hits(&report), ["dear"]);
    for probe in report["probes"].as_array().unwrap() {
        assert_eq!((&probe["disarmed"], &probe["over_budget"]), (&true.into(), &true.into()), "{probe}");
        assert_eq!(probe["counted"], Value::Null);
    }
    let warnings = report["warnings"].to_string();
    for text in [
        "probe `false` was disarmed after no hits at ",
        "probe `line` was disarmed after no hits at ",
        "`budget` of 200ms",
        "`budget` of 1ms; what came after that was not counted: that takes a kernel which can trace its functions",
    ] {
        assert!(warnings.contains(text), "{text}: {warnings}");
    }
    let detail = report["expectations"][3]["detail"].as_str().unwrap();
    assert_eq!(detail, "1 hit, then the probe had spent its budget of 1ms and was disarmed: there may have been more");
}

#[test]
fn socket_states_follows_a_socket_to_its_end() {
    let _slot = slot();
    let place = Place::new();
    let report = place.start_file(&in_repository("recipes/socket-states.yaml")).wait().assert_passed();
    assert_eq!(changes(&report), [(7, 2), (2, 1), (1, 8), (8, 9), (9, 7)]);
    let states: Vec<&str> =
        report["hits"].as_array().unwrap()[1..].iter().map(|hit| hit["shown"][0]["value"].as_str().unwrap()).collect();
    assert_eq!(states, ["TCP_SYN_SENT", "TCP_ESTABLISHED", "TCP_CLOSE_WAIT", "TCP_LAST_ACK", "TCP_CLOSE"]);
    let page = std::fs::read_to_string(place.out().join("report.md")).unwrap();
    assert!(page.contains("`sk->__sk_common.skc_state` changed from `7` to `2`."), "{page}");
}

#[test]
fn with_two_cpus_a_watch_sleeps_outside_its_step_and_a_register_can_be_set_behind_a_call() {
    let steps = ["one", "two", "three"].map(|name| HIT.replace("name: hit", &format!("name: {name}")));
    let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
    let probes = [
        "name: connect, at: tcp_v4_connect, stack: 2, log: '{$function}'",
        "name: ticks, at: 'watch: jiffies', during: [two], stack: 2",
        "name: out, at: 'return: tcp_v4_connect', during: [two], set: { $rax: '-13' }, stack: 2",
    ];
    let text = with_probes(&probes, &steps).replace("probes:\n", "guest: { cpus: 2 }\nprobes:\n");
    let _slot = slot();
    let report = Place::new().run(&text).assert_passed();
    let probes = probes_of_hits(&report);
    let connects: Vec<usize> = (0..probes.len()).filter(|at| probes[*at] == "connect").collect();
    let ticks: Vec<usize> = (0..probes.len()).filter(|at| probes[*at] == "ticks").collect();
    assert_eq!(connects.len(), 3, "{probes:?}");
    assert!(!ticks.is_empty() && ticks.iter().all(|at| connects[0] < *at && *at < connects[2]), "{probes:?}");
    assert_eq!(probes.iter().filter(|probe| **probe == "out").count(), 1, "{probes:?}");
    let said = |step: usize| report["trigger"][step]["stderr"].as_str().unwrap();
    assert!(said(1).contains("Permission denied") && said(2).contains("refused"), "{} {}", said(1), said(2));
}
