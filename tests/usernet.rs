//! Guests with a network card: what they reach, and what reaches them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::net::TcpListener;

use support::{HIT, Place, slot};

/// A recipe with a network card and a probe that only [`HIT`] makes hit.
fn recipe(network: &str, steps: &[&str]) -> String {
    let mut text = format!(
        "name: test\nkernel: {{ version: '6.1' }}\nguest:\n  network: {network}\nprobes:\n  \
         - {{ name: rst, at: tcp_v4_send_reset }}\ntrigger:\n"
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
    let report = place.run(&recipe("{ mode: user }", &steps)).assert_passed();
    let seen = report["trigger"][0]["stdout"].as_str().unwrap();
    assert!(seen.contains("10.0.2.15/24") && !seen.contains("default"), "{seen}");
    assert!(seen.contains("1 packets received"), "the card is on a network: {seen}");
    assert_eq!(report["probes"][0]["hits"], 1, "nothing sent a RST to the guest's connection: {report}");
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "the guest reached the host");
}
