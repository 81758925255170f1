//! The story of a segment that goes around NAT, and its cures: `recipes/nat-invalid-*.yaml` in guests with three hosts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::time::Duration;

use serde_json::Value;
use support::packets::{ACK, Packet, RST, SYN, packets};
use support::{Place, in_repository, obtain, slot};

/// How long a run may take.
const LIMIT: Duration = Duration::from_secs(180);

/// Runs a recipe of the repository, changed by `change`, on this kernel; gives the exit code, the report, and what it
/// has captured. None, said, where this machine cannot get the kernel or the image.
#[track_caller]
fn run(name: &str, kernel: &str, change: impl Fn(String) -> String) -> Option<(i32, Value, Vec<Packet>)> {
    let place = Place::new();
    let text = fs::read_to_string(in_repository(&format!("recipes/{name}.yaml"))).unwrap();
    let recipe = place.file("test.yaml", &change(text));
    if !obtain::packages(&recipe) {
        return None;
    }
    obtain::kernel(&recipe, &["--kernel", kernel])?;
    let _slot = slot();
    let args = ["run", "test.yaml", "--kernel", kernel, "--accel", "tcg", "--out", "out", "--json"];
    let ended = place.kdbg(&args).wait_within(LIMIT);
    place.assert_nothing_left();
    let report = ended.report();
    let captured = report["files"].get("packets").map(|_| packets(&place.out()));
    Some((ended.code.unwrap(), report, captured.unwrap_or_default()))
}

fn unchanged(text: String) -> String {
    text
}

/// One that is there, without it.
fn without(part: &'static str) -> impl Fn(String) -> String {
    move |text| {
        assert!(text.contains(part), "{part}");
        text.replacen(part, "", 1)
    }
}

/// The expectations that did not hold.
fn failed(report: &Value) -> Vec<&str> {
    let all = report["expectations"].as_array().unwrap().iter();
    all.filter(|one| one["passed"] == false).map(|one| one["text"].as_str().unwrap()).collect()
}

/// What crossed an interface but for the connection itself: resets, and segments by how far they are from the server's first
/// sequence number.
fn odd_segments(captured: &[Packet], interface: &str) -> Vec<String> {
    let segments = || captured.iter().filter(|packet| packet.interface == interface).filter_map(Packet::tcp);
    let (_, _, first, _) = segments().find(|(source, .., flags)| (*source, *flags) == (9000, SYN | ACK)).unwrap();
    let odd = segments().filter_map(|(source, _, sequence, flags)| {
        let away = sequence.wrapping_sub(first).cast_signed();
        let is_odd = source == 9000 && away.abs() > 1_000_000;
        if flags & RST != 0 { Some("reset".into()) } else { is_odd.then(|| away.to_string()) }
    });
    odd.collect()
}

#[test]
fn a_segment_above_the_window_goes_around_nat_and_the_router_resets_the_connection() {
    for kernel in ["6.1", "6.12"] {
        let Some((code, report, captured)) = run("nat-invalid-rst", kernel, unchanged) else { continue };
        assert_eq!((code, failed(&report)), (0, Vec::new()), "{kernel}");
        let hits = report["hits"].as_array().unwrap();
        let probes: Vec<&str> = hits.iter().map(|hit| hit["probe"].as_str().unwrap()).collect();
        assert_eq!(probes, ["verdict", "rst", "verdict", "rst"], "{kernel}");
        let decoded = hits[0]["decoded"].as_array().unwrap();
        let ct = decoded.iter().find(|object| object["kind"] == "nf_conn").unwrap();
        let says = ct["summary"].as_str().unwrap();
        assert!(says.starts_with("TCP TCP_CONNTRACK_ESTABLISHED 172.17.0.2:"), "{kernel}: {says}");
        assert!(says.contains(" → 10.9.0.2:9000, answers 10.9.0.2:9000 → 10.9.0.1:"), "{kernel}: {says}");
        let logged = report["trigger"].as_array().unwrap().iter().find(|step| step["name"] == "what the router logged");
        assert_eq!(logged.unwrap()["stdout"].as_str().unwrap().matches("INVALID IN=outer").count(), 2);
        let below = ["-1000000000", "-2000000000"];
        let above = ["1000000000", "reset", "2000000000", "reset"];
        for outside in ["root:outer", "server:eth0"] {
            assert_eq!(odd_segments(&captured, outside), [&below[..], &above].concat(), "{kernel} {outside}");
        }
        for inside in ["root:port0", "client:eth0"] {
            assert_eq!(odd_segments(&captured, inside), below, "{kernel} {inside}");
        }
    }
}

/// The recipe passes, and without its cure it fails because there are resets.
#[track_caller]
fn assert_cured(name: &str, cure: &'static str) {
    let Some((code, report, _)) = run(name, "6.1", unchanged) else { return };
    assert_eq!((code, failed(&report)), (0, Vec::new()));
    let Some((code, report, _)) = run(name, "6.1", without(cure)) else { return };
    assert_eq!((code, failed(&report).contains(&"probe `rst` has no hits")), (1, true), "{:?}", failed(&report));
}

#[test]
fn a_liberal_conntrack_cures_it_and_without_the_cure_the_recipe_fails() {
    assert_cured("nat-invalid-liberal", ", net.netfilter.nf_conntrack_tcp_be_liberal: 1");
}

#[test]
fn dropping_what_is_invalid_cures_it_and_without_the_cure_the_recipe_fails() {
    assert_cured("nat-invalid-drop", "      iptables -A INPUT -m conntrack --ctstate INVALID -j DROP\n");
}

#[test]
fn a_packet_has_one_number_before_and_behind_nat_and_its_answer_another() {
    let probes = "probes:\n  - { name: forwarded, at: ip_forward, stack: 1 }\n  \
                  - { name: out, at: ip_finish_output2, stack: 1 }\ntrigger:\n  \
                  - { name: ping, on: client, run: ping -c 1 10.9.0.2 }\n";
    let change = |text: String| {
        let head = text.split_once("probes:").unwrap().0;
        let capture = head.lines().find(|line| line.trim_start().starts_with("capture:")).unwrap();
        head.replace(capture, "") + probes
    };
    let Some((code, report, _)) = run("nat-invalid-rst", "6.1", change) else { return };
    assert_eq!(code, 0);
    let mut seen = Vec::new();
    for hit in report["hits"].as_array().unwrap() {
        let decoded = hit["decoded"].as_array().unwrap();
        let packet = decoded.iter().find(|object| object["kind"] == "sk_buff").unwrap();
        let field = |name: &str| packet["fields"][name].as_str().unwrap_or_default().to_string();
        seen.push((packet["packet"].as_u64().unwrap(), field("from"), field("to")));
    }
    let ends: Vec<(u64, &str, &str)> = seen.iter().map(|(number, from, to)| (*number, &**from, &**to)).collect();
    let (client, router, server) = ("172.17.0.2", "10.9.0.1", "10.9.0.2");
    let there = [(1, client, server), (1, client, server), (1, router, server)];
    let back = [(2, server, router), (2, server, client), (2, server, client)];
    assert_eq!(ends, [there, back].concat());
}

#[test]
fn a_piece_of_the_topology_that_cannot_be_set_up_is_named_at_its_line() {
    let wrong = |text: String| text.replace("net.ipv4.ip_forward: 1", "net.ipv4.ip_forwards: 1");
    let Some((code, report, _)) = run("nat-invalid-rst", "6.1", wrong) else { return };
    assert_eq!(code, 5);
    let message = report["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("net.ipv4.ip_forwards on root cannot be set up"), "{message}");
    assert!(message.contains("net.ipv4.ip_forwards: 1"), "{message}");
}
