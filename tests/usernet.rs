//! Guests with a network card: what they reach, what reaches them, and kdbg's client.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::net::TcpListener;

use serde_json::Value;
use support::{HIT, Place, all_slots, in_repository, probes_of_hits, slot};

/// A step that leaves a server in the guest that listens when the step is over, says what `input` writes to its one client
/// and notes what that says.
fn server(input: &str) -> String {
    let listens = "until netstat -ltn | grep -q :8080; do sleep 0.05; done";
    format!("{{ name: serve, run: '{input} | nc -l -p 8080 > /tmp/got & {listens}' }}")
}

/// A recipe with a network card and a probe on `tcp_v4_send_reset`.
fn recipe(network: &str, steps: &[&str]) -> String {
    recipe_at("tcp_v4_send_reset", network, steps)
}

fn recipe_at(probe: &str, network: &str, steps: &[&str]) -> String {
    let mut text = format!(
        "name: test\nkernel: {{ version: '6.1' }}\nguest:\n  network: {network}\nprobes:\n  \
         - {{ name: probe, at: {probe} }}\ntrigger:\n"
    );
    steps.iter().for_each(|step| writeln!(text, "  - {step}").unwrap());
    text
}

#[test]
fn the_network_card_has_its_address_and_leads_nowhere() {
    let _slot = slot();
    let place = Place::new();
    // Where QEMU's user network would have the host's loopback, if it were open.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let reach = format!("{{ name: reach, run: 'nc -w 3 10.0.2.2 {port} < /dev/null', exit: 1 }}");
    let steps = ["{ name: look, run: 'ip -4 -o address show eth0; ip route; ping -c 1 -W 5 10.0.2.2' }", &reach, HIT];
    let report = place.run(&recipe("{ mode: user, forward: { web: 80 } }", &steps)).assert_passed();
    let seen = report["trigger"][0]["stdout"].as_str().unwrap();
    assert!(seen.contains("10.0.2.15/24") && !seen.contains("default"), "{seen}");
    assert!(seen.contains("1 packets received"), "the card is on a network: {seen}");
    assert_eq!(report["probes"][0]["hits"], 1, "the one that was made; no connection was answered: {report}");
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "the guest reached the host");
}

#[test]
fn the_client_talks_with_a_server_in_the_guest_while_it_stops() {
    let _slot = slot();
    let talk = "{ name: talk, to: web, expect: '220 ', then: [{ send: \"one\\n\" }, { send: \"two\\n\" }] }";
    let steps = [&server("echo 220 ready"), talk, "{ name: got, run: cat /tmp/got }"];
    let text = recipe_at("tcp_v4_syn_recv_sock", "{ mode: user, forward: { web: 8080, other: 9090 } }", &steps);
    let report = Place::new().run(&text).assert_passed();
    let hit = &report["hits"][0];
    let stack: Vec<&str> =
        hit["frames"].as_array().unwrap().iter().filter_map(|frame| frame["symbol"].as_str()).collect();
    assert!(stack.contains(&"virtnet_poll"), "it came over the network card: {stack:?}");
    assert_eq!(report["machine"]["forked"], true);
    let forwards: Vec<_> = report["machine"]["forwards"].as_array().unwrap().iter().map(name_and_ports).collect();
    assert_eq!((forwards[0].0, forwards[0].1), ("other", 9090));
    assert_eq!((forwards[1].0, forwards[1].1), ("web", 8080));
    assert!(forwards[0].2 != forwards[1].2 && forwards.iter().all(|forward| forward.2 >= 1024), "{forwards:?}");
    let talk = &report["trigger"][1];
    assert_eq!(
        (&talk["exit_code"], &talk["stdout"], &talk["timed_out"]),
        (&0.into(), &"220 ready\n".into(), &false.into())
    );
    assert_eq!(report["trigger"][2]["stdout"], "one\ntwo\n");
}

#[test]
fn syn_from_outside_shows_the_way_of_the_syn() {
    let _slot = slot();
    let report = Place::new().start_file(&in_repository("recipes/syn-from-outside.yaml")).wait().assert_passed();
    assert_eq!(probes_of_hits(&report), ["syn", "established"]);
}

#[test]
fn rx_path_shows_the_way_of_a_line() {
    let _slot = slot();
    let report = Place::new().start_file(&in_repository("recipes/rx-path.yaml")).wait().assert_passed();
    assert!(probes_of_hits(&report).starts_with(&["readable"]), "{report}");
    assert_eq!(report["trigger"][1]["stdout"], "hello\n");
}

fn name_and_ports(forward: &Value) -> (&str, u64, u64) {
    (forward["name"].as_str().unwrap(), forward["guest"].as_u64().unwrap(), forward["host"].as_u64().unwrap())
}

#[test]
fn a_port_that_nobody_listens_at_answers_with_a_reset() {
    let _slot = slot();
    let steps = ["{ name: knock, to: web, expect: hello, exit: 1 }", "{ name: send, to: web, send: hello }"];
    let report = Place::new().run(&recipe("{ mode: user, forward: { web: 81 } }", &steps)).assert_passed();
    assert_eq!(report["probes"][0]["hits"], 2, "{report}");
    let said = report["trigger"][0]["stderr"].as_str().unwrap();
    assert!(said.starts_with("kdbg: the connection ") && said.ends_with(" before \"hello\" came\n"), "{said}");
}

#[test]
fn a_server_that_says_nothing_is_not_waited_for_longer_than_the_steps_timeout() {
    let _slot = slot();
    let wait = "{ name: wait, to: web, expect: hello, timeout: 1s }";
    let ended =
        Place::new().run(&recipe("{ mode: user, forward: { web: 8080 } }", &[&server("sleep 1000"), wait, HIT]));
    ended.assert_code(1);
    let report = ended.report();
    assert_eq!((&report["trigger"][1]["timed_out"], &report["trigger"][1]["exit_code"]), (&true.into(), &Value::Null));
    assert_eq!(report["trigger"].as_array().unwrap().len(), 2);
}

#[test]
fn a_port_of_the_host_that_is_taken_is_named() {
    let _slot = slot();
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let ended =
        place.run(&recipe(&format!("{{ mode: user, forward: {{ web: {{ guest: 80, host: {port} }} }} }}"), &[HIT]));
    let message = format!("port {port} of this host cannot be opened for `web`");
    ended.assert_error(3, "host", &[&message, "test.yaml:4:"]);
}

#[test]
fn forks_of_one_guest_have_their_own_ports() {
    let _slots = all_slots();
    let places = [Place::new(), Place::new()];
    let connect = "{ name: connect, to: web, expect: '220 ', send: \"hello\\n\" }";
    let text = recipe("{ mode: user, forward: { web: 8080 } }", &[&server("echo 220 ready"), connect, HIT]);
    let running = places.each_ref().map(|place| place.start(&text));
    let reports = running.map(|running| running.wait().assert_passed());
    places.iter().for_each(Place::assert_nothing_left);
    let ports = reports.each_ref().map(|report| name_and_ports(&report["machine"]["forwards"][0]).2);
    assert_ne!(ports[0], ports[1]);
}

#[test]
fn a_step_that_cannot_connect_is_in_the_report_with_the_reason() {
    let _slot = slot();
    let place = Place::new();
    let steps = [HIT, "{ name: call, to: web }", "{ name: never, run: 'true' }"];
    let file = place.file("test.yaml", &recipe("{ mode: user, forward: { web: 8080 } }", &steps));
    // A host whose loopback is down, and where QEMU can listen on it all the same.
    let host = "echo 1 > /proc/sys/net/ipv4/ip_nonlocal_bind";
    let args = ["run", file.to_str().unwrap(), "--out", "out", "--accel", "tcg"];
    let Some(running) = place.kdbg_unshared("--net", host, &args) else { return };
    let why = "QEMU does not accept connections to its port ";
    let report = running.wait().assert_error(5, "guest", &[why]);
    place.assert_nothing_left();
    let steps = report["trigger"].as_array().unwrap();
    assert_eq!((steps.len(), &steps[1]["name"], &steps[1]["exit_code"]), (2, &"call".into(), &Value::Null));
    assert!(steps[1]["stderr"].as_str().unwrap().starts_with(&format!("kdbg: {why}")), "{report}");
    assert_eq!(probes_of_hits(&report).len(), 1);
}
