//! Captures: what crossed the interfaces of a guest is in packets.pcapng, also when the guest or kdbg did not live to its
//! end. They run on the kernel with netfilter and in the image net, which the first run that finds them missing from the
//! cache makes; that takes minutes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use pcap_file::pcap::PcapReader;
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};
use support::packets::{Packet, RST, SYN};
use support::{AFTERMATH, HIT, LONG, Place, Running, obtain, slot, wait_until};

/// How long fetching and building a kernel may take on a slow machine.
const LIMIT: Duration = Duration::from_secs(180);

/// Two hosts and a cable, captured at both ends.
const HEAD: &str = "name: captures
kernel: { version: '6.1', config: [base, net, netfilter] }
guest:
  image: net
  network:
    topology:
      hosts:
        client: { addresses: { eth0: 10.9.0.1/24 } }
        server: { addresses: { eth0: 10.9.0.2/24 } }
      links: [[client:eth0, server:eth0]]
    capture: [server:eth0, root:lo, client:eth0]
probes:
  - { name: rst, at: tcp_v4_send_reset }
trigger:
  - { name: ping, run: ping -c 1 10.9.0.2, on: client }
";
/// A segment to a port that nobody listens on.
const REFUSED: &str = "  - { name: refused, run: socat - TCP:10.9.0.2:9 < /dev/null, on: client, exit: 1 }\n";

/// Starts a run, and has a slot for it, if this machine can have the image and the kernel.
fn start(place: &Place, steps: &str) -> Option<(File, Running)> {
    let recipe = format!("{HEAD}{steps}");
    let file = place.file("test.yaml", &recipe);
    if !obtain::packages(&file) {
        return None;
    }
    obtain::kernel(&file, &[])?;
    Some((slot(), place.start(&recipe)))
}

/// What crossed an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    EchoRequest,
    EchoReply,
    Syn,
    Rst,
}

/// The kind of a packet; none for what a network says by itself.
fn kind(packet: &Packet) -> Option<Kind> {
    match (packet.ip()?, packet.tcp()) {
        ((1, icmp), _) if icmp[0] == 8 => Some(Kind::EchoRequest),
        ((1, icmp), _) if icmp[0] == 0 => Some(Kind::EchoReply),
        (_, Some((.., flags))) if flags & RST != 0 => Some(Kind::Rst),
        (_, Some((.., SYN))) => Some(Kind::Syn),
        _ => panic!("{:x?}", packet.frame),
    }
}

/// The packets of packets.pcapng in their order: where, what, and when, since 1970.
fn packets(out: &Path) -> Vec<(String, Kind, Duration)> {
    let packets = support::packets::packets(out);
    packets.into_iter().filter_map(|packet| Some((packet.interface.clone(), kind(&packet)?, packet.time))).collect()
}

/// What crossed the cable, at both of its ends, when the client has pinged the server.
const PING: [(&str, Kind); 4] = [
    ("client:eth0", Kind::EchoRequest),
    ("server:eth0", Kind::EchoRequest),
    ("server:eth0", Kind::EchoReply),
    ("client:eth0", Kind::EchoReply),
];

fn without_times(packets: &[(String, Kind, Duration)]) -> Vec<(&str, Kind)> {
    packets.iter().map(|(interface, kind, _)| (interface.as_str(), *kind)).collect()
}

/// The files of captures that are not merged.
fn spools(out: &Path) -> Vec<String> {
    let names = fs::read_dir(out).unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".pcap")).collect();
    names.sort();
    names
}

#[test]
fn what_crossed_the_interfaces_is_in_packets_pcapng_in_the_order_of_time() {
    let place = Place::new();
    let Some((_slot, running)) = start(&place, REFUSED) else { return };
    let report = running.wait_within(LIMIT).assert_passed();
    place.assert_nothing_left();
    let packets = packets(&place.out());
    let refused = [
        ("client:eth0", Kind::Syn),
        ("server:eth0", Kind::Syn),
        ("server:eth0", Kind::Rst),
        ("client:eth0", Kind::Rst),
    ];
    assert_eq!(without_times(&packets), [PING, refused].concat());
    assert!(packets.is_sorted_by_key(|(_, _, time)| *time), "{packets:?}");
    assert_eq!((spools(&place.out()), &report["files"]["packets"]), (vec![], &json!("packets.pcapng")));
    let captured = |interface: &str| {
        let found = report["captured"].as_array().unwrap().iter().find(|one| one["interface"] == interface);
        found.unwrap()["packets"].as_u64().unwrap()
    };
    // Beside those, both ends saw how the hosts asked for each other's addresses.
    assert_eq!((captured("client:eth0"), captured("root:lo")), (captured("server:eth0"), 0));
    assert!(captured("client:eth0") > 4, "{}", report["captured"]);
    assert_eq!(report["warnings"].as_array().unwrap(), &[] as &[Value]);
    // The hit is between the segment and its answer, by the clock of docs/report.md.
    let jiffies = report["hits"][0]["jiffies"].as_u64().unwrap();
    let uptime = Duration::from_millis(jiffies - ((1 << 32) - 300_000));
    let hit = Duration::from_secs(1_767_225_600) + uptime;
    let tick = Duration::from_millis(2);
    let (syn, rst) = (packets[5].2, packets[6].2);
    assert!(syn < hit + tick && hit < rst + tick, "{syn:?} {hit:?} {rst:?}");
}

/// Runs a ping and then nothing for long, until the packets are in the files of both ends.
fn captured_ping(place: &Place) -> Option<(File, Running)> {
    let (slot, running) = start(place, &format!("  - {LONG}\n"))?;
    let pings = |interface: &str| {
        let spool = File::open(place.out().join(format!("packets.{interface}.pcap"))).ok()?;
        let mut pcap = PcapReader::new(spool).ok()?;
        let mut kinds = Vec::new();
        while let Some(Ok(packet)) = pcap.next_raw_packet() {
            let (interface, frame) = (interface.to_owned(), packet.data.into_owned());
            kinds.extend(kind(&Packet { interface, time: Duration::ZERO, frame }));
        }
        (kinds == [Kind::EchoRequest, Kind::EchoReply]).then_some(())
    };
    wait_until(LIMIT, "the packets", || pings("client:eth0").and(pings("server:eth0")));
    running.wait_for_event("step_started", "long");
    Some((slot, running))
}

/// A guest with a network card and a bridge, all of it captured: a ping over the bridge, a connection from the host, a ping.
const EVERYTHING: &str = "name: everything
kernel: { version: '6.1', config: [base, net, netfilter] }
guest:
  image: net
  network:
    mode: user
    forward: { web: 8080 }
    topology:
      hosts:
        root: { bridges: { br0: [port0] }, addresses: { br0: 172.17.0.1/16 } }
        client: { addresses: { eth0: 172.17.0.2/16 } }
      links: [[client:eth0, root:port0]]
    capture: true
probes:
  - { name: rst, at: tcp_v4_send_reset }
trigger:
  - { name: ping, run: ping -c 1 172.17.0.1, on: client }
  - name: serve
    run: |
      socat TCP-LISTEN:8080 SYSTEM:'echo hello' &
      until ss -ltn | grep -q :8080; do sleep 0.05; done
  - { name: from outside, to: web, expect: hello }
  - { name: ping again, run: ping -c 1 172.17.0.1, on: client }
";

#[test]
fn the_network_card_a_bridge_and_its_port_are_captured_on_one_clock() {
    let place = Place::new();
    let file = place.file("test.yaml", EVERYTHING);
    if !obtain::packages(&file) || obtain::kernel(&file, &[]).is_none() {
        return;
    }
    let _slot = slot();
    let report = place.run(EVERYTHING).assert_passed();
    let names = report["captured"].as_array().unwrap().iter().map(|one| one["interface"].as_str().unwrap());
    assert_eq!(names.collect::<Vec<_>>(), ["root:eth0", "root:port0", "root:br0", "client:eth0"]);
    let packets = support::packets::packets(&place.out());
    assert!(packets.is_sorted_by_key(|packet| packet.time));
    // Once a ping, once what came from the host, and a ping again, wherever they were seen.
    let (mut pings, mut syns) = (Vec::new(), Vec::new());
    for (at, packet) in packets.iter().enumerate() {
        match (packet.ip(), packet.tcp()) {
            (Some((1, icmp)), _) if icmp[0] == 8 => pings.push((at, packet)),
            (_, Some((_, 8080, _, SYN))) => syns.push((at, packet)),
            _ => {}
        }
    }
    let names = |found: &[(usize, &Packet)]| found.iter().map(|(_, one)| one.interface.clone()).collect::<Vec<_>>();
    let mut first = names(&pings[..3]);
    assert_eq!((first.remove(0), names(&syns)), ("client:eth0".into(), vec!["root:eth0".into()]), "where they began");
    first.sort();
    assert_eq!((first, pings.len()), (vec!["root:br0".into(), "root:port0".into()], 6));
    assert_eq!(pings[1].1.time, pings[2].1.time, "a bridge and its port see a packet at one time");
    assert!(pings[2].0 < syns[0].0 && syns[0].0 < pings[3].0, "what was later is later in the file");
}

#[test]
fn a_guest_that_dies_has_left_its_packets() {
    let place = Place::new();
    let Some((_slot, running)) = captured_ping(&place) else { return };
    kill_process(place.process("qemu-system-x86_64"), Signal::KILL).unwrap();
    let report = running.wait().assert_error(5, "guest", &["killed by signal 9"]);
    place.assert_nothing_left();
    assert_eq!(without_times(&packets(&place.out())), PING);
    assert_eq!((spools(&place.out()), &report["files"]["packets"]), (vec![], &json!("packets.pcapng")));
}

#[test]
fn a_killed_kdbg_has_left_the_packets_of_each_interface() {
    let place = Place::new();
    let Some((_slot, running)) = captured_ping(&place) else { return };
    running.signal(Signal::KILL);
    running.wait_within(AFTERMATH);
    place.assert_nothing_left();
    assert!(!place.out().join("packets.pcapng").exists());
    assert_eq!(spools(&place.out()), ["packets.client:eth0.pcap", "packets.root:lo.pcap", "packets.server:eth0.pcap"]);
}

#[test]
fn a_capture_that_a_step_ends_is_said() {
    let place = Place::new();
    let kill = "  - { name: kill, run: kill $(cat /run/kdbg/capture-0.pid) }\n";
    let Some((_slot, running)) = start(&place, &format!("{kill}{REFUSED}")) else { return };
    let report = running.wait_within(LIMIT).assert_passed();
    assert_eq!(
        report["warnings"],
        json!(["the capture on server:eth0 ended before the trigger did: its tcpdump is gone"])
    );
    let left = packets(&place.out()).into_iter().filter(|(interface, ..)| interface == "client:eth0");
    assert_eq!(left.count(), 4);
}

#[test]
fn an_image_without_tcpdump_is_said_at_the_interface() {
    let _slot = slot();
    let place = Place::new();
    let ended = place.run(&format!(
        "name: test\nkernel: {{ version: '6.1' }}\nguest:\n  network: {{ capture: [root:lo] }}\nprobes: [{{ name: rst, at: tcp_v4_send_reset }}]\ntrigger: [{HIT}]\n"
    ));
    let texts = ["root:lo cannot be captured", "test.yaml:4:", "tcpdump: not found", "`guest.image: net` has it"];
    let report = ended.assert_error(5, "guest", &texts);
    assert_eq!(report["hits"], json!([]));
}
