//! The recipes of the catalogue, on both kernels: each passes, which says that all it expects was seen. The stories that
//! expectations cannot tell are held against the report here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::time::Duration;

use serde_json::Value;
use support::{Place, in_repository, obtain, probes_of_hits, slot};

/// How long a run may take.
const LIMIT: Duration = Duration::from_secs(180);

/// The report of a recipe, its text changed by `change`, on this kernel, and the exit code. None, said, where this machine
/// cannot get the kernel or the image.
fn run(name: &str, kernel: &str, change: impl Fn(String) -> String) -> Option<(i32, Value)> {
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
    Some((ended.code.unwrap(), ended.report()))
}

/// The reports of a recipe on both kernels, on which it passes.
#[track_caller]
fn passes(name: &str) -> Vec<Value> {
    let reports = ["6.1", "6.12"].into_iter().filter_map(|kernel| {
        let (code, report) = run(name, kernel, |text| text)?;
        assert_eq!((code, failed(&report)), (0, Vec::new()), "{name} on {kernel}: {}", report["error"]);
        Some(report)
    });
    reports.collect()
}

/// The expectations that did not hold.
fn failed(report: &Value) -> Vec<&str> {
    let all = list(&report["expectations"]).iter();
    all.filter(|one| one["passed"] == false).map(|one| one["text"].as_str().unwrap()).collect()
}

/// Without its cause a recipe fails: with `cause` in it replaced, at least one of its expectations is not seen.
#[track_caller]
fn fails_without(name: &str, cause: &str, instead: &str) {
    let without = |text: String| {
        assert!(text.contains(cause), "{cause}");
        text.replace(cause, instead)
    };
    let Some((code, report)) = run(name, "6.1", without) else { return };
    assert_eq!((code, failed(&report).is_empty()), (1, false), "{}", report["error"]);
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

/// The hit of a probe that has one.
fn hit<'a>(report: &'a Value, probe: &str) -> &'a Value {
    list(&report["hits"]).iter().find(|hit| hit["probe"] == probe).unwrap()
}

/// What a decoded object of a hit is said to be.
fn said<'a>(hit: &'a Value, expression: &str) -> &'a str {
    let object = list(&hit["decoded"]).iter().find(|object| object["expression"] == expression);
    object.unwrap_or_else(|| panic!("no {expression} in {hit}"))["summary"].as_str().unwrap()
}

/// The number of the packet that the innermost function has, or had when it was called.
fn packet(hit: &Value) -> Option<u64> {
    let is_its = |object: &&Value| ["skb", "first"].iter().any(|name| object["expression"] == *name);
    list(&hit["decoded"]).iter().find(is_its)?["packet"].as_u64()
}

fn shown(hit: &Value, name: &str) -> u64 {
    let var = list(&hit["shown"]).iter().find(|var| var["name"] == name).unwrap();
    var["value"].as_str().unwrap().split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn tcp_handshake_is_the_story_of_three_segments_and_three_sockets() {
    for report in passes("tcp-handshake") {
        let order = [
            "connect",
            "leaves",
            "comes in",
            "SYN",
            "request",
            "leaves",
            "comes in",
            "connect returns",
            "SYN+ACK",
            "client established",
            "leaves",
            "comes in",
            "ACK",
            "new socket",
            "ACK at the new socket",
            "accepted",
        ];
        assert_eq!(probes_of_hits(&report), order);
        let [syn, syn_ack, ack] = ["SYN", "SYN+ACK", "ACK"].map(|probe| hit(&report, probe));
        // Each segment is one packet from where it leaves to where it has had its effect.
        let numbers = list(&report["hits"]).iter().filter_map(packet);
        assert_eq!(numbers.collect::<Vec<_>>(), [1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 3]);
        // Each acknowledges the other's first number and the one byte that a SYN counts for.
        assert_eq!(shown(syn_ack, "ACK"), (shown(syn, "SEQ") + 1) % (1 << 32));
        assert_eq!(shown(ack, "ACK"), (shown(syn_ack, "SEQ") + 1) % (1 << 32));
        assert_eq!(shown(ack, "SEQ"), shown(syn_ack, "ACK"));
        for (hit, flags) in [(syn, "TCP SYN seq "), (syn_ack, "TCP SYN,ACK seq "), (ack, "TCP ACK seq ")] {
            assert!(said(hit, "skb").contains(flags), "{}", said(hit, "skb"));
        }
        for (probe, expression, state) in [
            ("connect", "sk", "TCP TCP_CLOSE "),
            ("connect returns", "sk", "TCP TCP_SYN_SENT 127.0.0.1:"),
            ("client established", "sk", "TCP TCP_ESTABLISHED 127.0.0.1:"),
            ("SYN", "sk", "TCP TCP_LISTEN 0.0.0.0:8080"),
            ("ACK", "req", "TCP TCP_NEW_SYN_RECV 127.0.0.1:8080 → "),
            ("new socket", "returned", "TCP TCP_SYN_RECV 127.0.0.1:8080 → "),
            ("accepted", "returned", "TCP TCP_ESTABLISHED 127.0.0.1:8080 → "),
        ] {
            let said = said(hit(&report, probe), expression);
            assert!(said.starts_with(state), "{probe}: {said}");
        }
        // What accept() gets is the socket that the ACK made.
        let returned = |probe| &hit(&report, probe)["returned"]["value"];
        assert_eq!(returned("new socket"), returned("accepted"));
    }
    fails_without("tcp-handshake", "nc 127.0.0.1 8080", "true || nc 127.0.0.1 8080");
}

#[test]
fn udp_closed_ends_with_an_error_of_the_senders_socket() {
    for report in passes("udp-closed") {
        assert_eq!(probes_of_hits(&report), ["received", "answered", "brought back", "error"]);
        assert!(said(hit(&report, "brought back"), "skb").contains("ICMP type 3 code 3"), "{report}");
    }
}

#[test]
fn tx_path_gives_each_layer_its_bytes() {
    for report in passes("tx-path") {
        assert_eq!(probes_of_hits(&report), ["socket", "TCP", "IP", "queue", "device"]);
    }
    fails_without("tx-path", "echo hello |", "echo hello, you |");
}

#[test]
fn syn_cookies_come_back_with_the_ack() {
    for report in passes("syn-cookies") {
        let [made, checked] = ["cookie made", "checked"].map(|probe| hit(&report, probe));
        assert_eq!(made["returned"]["value"], shown(checked, "cookie").to_string().as_str());
    }
    fails_without("syn-cookies", "echo 2 >", "echo 1 >");
}

#[test]
fn accept_queue_full_drops_what_comes_until_there_is_room() {
    passes("accept-queue-full");
    fails_without("accept-queue-full", "      kill -STOP $server\n", "");
}

#[test]
fn zero_window_has_the_sender_ask_by_a_timer() {
    passes("zero-window");
}

#[test]
fn time_wait_lets_a_later_syn_open_a_new_connection() {
    passes("time-wait");
    fails_without("time-wait", "for connection in 1 2;", "for connection in 1;");
}

#[test]
fn retransmit_waits_twice_as_long_each_time() {
    for report in passes("retransmit") {
        let timers = list(&report["hits"]).iter().filter(|hit| hit["probe"] == "timer");
        let waited: Vec<u64> = timers.map(|hit| shown(hit, "timeout in ms")).collect();
        assert!(waited.windows(2).all(|pair| pair[1] == 2 * pair[0]), "{waited:?}");
    }
    fails_without("retransmit", "loss 100%", "loss 0%");
}

#[test]
fn rp_filter_drops_what_it_would_answer_elsewhere() {
    passes("rp-filter");
    fails_without("rp-filter", "rp_filter: 1", "rp_filter: 2");
}

#[test]
fn bridge_path_goes_from_port_to_port() {
    passes("bridge-path");
    fails_without("bridge-path", "ping -c 1 -W 1 10.1.0.2", "ping -c 1 -W 1 10.1.0.1");
}

#[test]
fn arp_lets_the_first_packet_wait() {
    passes("arp");
    fails_without(
        "arp",
        "neigh flush dev eth0",
        "neigh replace 10.1.0.2 lladdr ff:ff:ff:ff:ff:ff dev eth0 nud permanent",
    );
}

#[test]
fn drop_reasons_are_three() {
    let Some((code, report)) = run("drop-reasons", "6.1", |text| text) else { return };
    assert_eq!((code, failed(&report)), (0, Vec::new()), "{}", report["error"]);
    // As the recipe says of newer kernels.
    let newer = |text: String| text.replace("at: kfree_skb_reason", "at: sk_skb_reason_drop");
    let Some((code, report)) = run("drop-reasons", "6.12", newer) else { return };
    assert_eq!((code, failed(&report)), (0, Vec::new()), "{}", report["error"]);
    // A frame with the right checksum is not dropped for it.
    fails_without("drop-reasons", "40 06 0000", "40 06 66e0");
}
