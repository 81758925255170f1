//! Kinds of probes beyond one function: groups, clones, code that is gone, probes that wait for others or for a step.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use serde_json::Value;
use support::{HIT, Place, probes_of_hits, recipe, slot};

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
