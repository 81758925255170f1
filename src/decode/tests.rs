//! Objects that were put into a memory of the test's own, read.

use std::collections::BTreeMap;

use etherparse::PacketBuilder;
use serde_json::{Value, json};

use super::*;

mod packets;

/// Memory that has what was put there, and nothing else.
#[derive(Default)]
struct Pieces(BTreeMap<u64, Vec<u8>>);

impl Memory for Pieces {
    fn read(&mut self, address: u64, size: u64) -> Option<Vec<u8>> {
        let (start, bytes) = self.0.range(..=address).next_back()?;
        let from = usize::try_from(address - start).ok()?;
        Some(bytes.get(from..from + usize::try_from(size).ok()?)?.to_vec())
    }
}

/// A kernel's layouts, in which every member follows the one before, and a guest's memory.
struct Guest {
    layouts: Layouts,
    offsets: BTreeMap<String, u64>,
    memory: Pieces,
}

impl Guest {
    fn new(structures: &[(&str, &[(&str, u64)])], enums: &Value) -> Guest {
        let (mut sizes, mut fields, mut offsets) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (structure, members) in structures {
            let mut offset = 0;
            for (member, size) in *members {
                let kind = if *size > 8 { "bytes" } else { "unsigned" };
                fields.insert(format!("{structure}.{member}"), json!({ "offset": offset, "size": size, "kind": kind }));
                offsets.insert(format!("{structure}.{member}"), offset);
                offset += size;
            }
            sizes.insert(structure.to_string(), offset);
        }
        let layouts = json!({ "sizes": sizes, "fields": fields, "enums": enums });
        Guest { layouts: serde_json::from_value(layouts).unwrap(), offsets, memory: Pieces::default() }
    }

    /// Puts an object there, with these members set.
    fn put(&mut self, structure: &str, address: u64, members: &[(&str, &[u8])]) {
        let mut bytes = vec![0; usize::try_from(self.layouts.size(structure).unwrap()).unwrap()];
        for (member, value) in members {
            let at = usize::try_from(self.offsets[&format!("{structure}.{member}")]).unwrap();
            bytes[at..at + value.len()].copy_from_slice(value);
        }
        self.memory.0.insert(address, bytes);
    }

    /// Puts a packet into a buffer, with 16 bytes before it.
    fn put_packet(&mut self, packet: &[u8], members: &[(&str, &[u8])]) {
        let tail = u32::try_from(16 + packet.len()).unwrap();
        let length = u32::try_from(packet.len()).unwrap();
        self.memory.0.insert(HEAD, [&[0; 16], packet].concat());
        let fixed: [(&str, &[u8]); 5] = [
            ("head", &HEAD.to_le_bytes()),
            ("data", &(HEAD + 16).to_le_bytes()),
            ("tail", &tail.to_le_bytes()),
            ("end", &tail.to_le_bytes()),
            ("len", &length.to_le_bytes()),
        ];
        self.put("sk_buff", AT, &[&fixed[..], members].concat());
    }

    fn decode(&mut self, kind: &str, address: u64) -> Option<Said> {
        let function = |address| (address == 0xffff_ffff_8100_0000).then(|| "ip_output".to_string());
        Decoder { layouts: &self.layouts, memory: &mut self.memory, function: &function }.decode(kind, address)
    }
}

const SKB: &[(&str, u64)] = &[
    ("len", 4),
    ("head", 8),
    ("data", 8),
    ("tail", 4),
    ("end", 4),
    ("mac_header", 2),
    ("network_header", 2),
    ("transport_header", 2),
    ("pkt_type", 1),
    ("dev", 8),
    ("sk", 8),
    ("_nfct", 8),
    ("cb", 48),
];
const SOCK: &[(&str, u64)] = &[
    ("__sk_common.skc_family", 2),
    ("__sk_common.skc_state", 1),
    ("__sk_common.skc_daddr", 4),
    ("__sk_common.skc_rcv_saddr", 4),
    ("__sk_common.skc_v6_daddr", 16),
    ("__sk_common.skc_v6_rcv_saddr", 16),
    ("__sk_common.skc_dport", 2),
    ("__sk_common.skc_num", 2),
    ("sk_protocol", 2),
    ("sk_type", 2),
    ("sk_err", 4),
    ("sk_ack_backlog", 4),
    ("sk_max_ack_backlog", 4),
];
const CONNECTION: &[(&str, u64)] = &[
    ("tuplehash[0].tuple.src.u3.all", 16),
    ("tuplehash[0].tuple.src.u.all", 2),
    ("tuplehash[0].tuple.src.l3num", 2),
    ("tuplehash[0].tuple.dst.u3.all", 16),
    ("tuplehash[0].tuple.dst.u.all", 2),
    ("tuplehash[0].tuple.dst.protonum", 1),
    ("tuplehash[1].tuple.src.u3.all", 16),
    ("tuplehash[1].tuple.src.u.all", 2),
    ("tuplehash[1].tuple.src.l3num", 2),
    ("tuplehash[1].tuple.dst.u3.all", 16),
    ("tuplehash[1].tuple.dst.u.all", 2),
    ("status", 8),
];
const HEAD: u64 = 0xffff_8880_0010_0000;
const AT: u64 = 0xffff_8880_0020_0000;
const OTHER: u64 = 0xffff_8880_0030_0000;

fn guest() -> Guest {
    let enums = json!({
        "TCP_ESTABLISHED": [[1, "TCP_ESTABLISHED"], [6, "TCP_TIME_WAIT"], [10, "TCP_LISTEN"], [12, "TCP_NEW_SYN_RECV"]],
        "RTN_UNICAST": [[0, "RTN_UNSPEC"], [1, "RTN_UNICAST"], [2, "RTN_LOCAL"]],
        "ip_conntrack_status":
            [[0, "IPS_EXPECTED_BIT"], [1, "IPS_EXPECTED"], [1, "IPS_SEEN_REPLY_BIT"], [2, "IPS_SEEN_REPLY"]],
    });
    let structures = [
        ("sk_buff", SKB),
        ("sock", SOCK),
        ("net_device", &[("name", 16), ("ifindex", 4), ("flags", 4)][..]),
        ("nf_conn", CONNECTION),
        ("dst_entry", &[("output", 8), ("error", 2)]),
        ("rtable", &[("dst", 10), ("rt_type", 2)]),
        ("tcp_skb_cb", &[("seq", 4), ("end_seq", 4), ("tcp_flags", 1)]),
    ];
    Guest::new(&structures, &enums)
}

fn syn() -> Vec<u8> {
    let mut packet = Vec::new();
    let builder = PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).tcp(40000, 80, 1000, 512).syn();
    builder.write(&mut packet, &[]).unwrap();
    packet
}

#[test]
fn a_socket_says_its_ends_and_its_state() {
    let mut guest = guest();
    let members: [(&str, &[u8]); 7] = [
        ("__sk_common.skc_family", &[2, 0]),
        ("__sk_common.skc_state", &[1]),
        ("__sk_common.skc_daddr", &[10, 0, 0, 2]),
        ("__sk_common.skc_rcv_saddr", &[10, 0, 0, 1]),
        ("__sk_common.skc_dport", &80_u16.to_be_bytes()),
        ("__sk_common.skc_num", &40000_u16.to_le_bytes()),
        ("sk_protocol", &[6, 0]),
    ];
    guest.put("sock", AT, &members);
    let said = guest.decode("sock", AT).unwrap();
    assert_eq!(said.summary, "TCP TCP_ESTABLISHED 10.0.0.1:40000 → 10.0.0.2:80");
    let listening: [(&str, &[u8]); 6] = [
        ("__sk_common.skc_family", &[10, 0]),
        ("__sk_common.skc_state", &[10]),
        ("__sk_common.skc_num", &80_u16.to_le_bytes()),
        ("sk_protocol", &[6, 0]),
        ("sk_ack_backlog", &[2]),
        ("sk_max_ack_backlog", &[5]),
    ];
    guest.put("sock", AT, &listening);
    let said = guest.decode("sock", AT).unwrap();
    assert_eq!(said.summary, "TCP TCP_LISTEN [::]:80");
    assert_eq!(said.fields["accept queue"], "2 of 5");
    // What is behind the first part of a socket that waits is not its own.
    let waiting: [(&str, &[u8]); 3] =
        [("__sk_common.skc_family", &[2, 0]), ("__sk_common.skc_state", &[6]), ("sk_err", &[0xaa; 4])];
    guest.put("sock", AT, &waiting);
    let said = guest.decode("sock", AT).unwrap();
    assert_eq!(said.summary, "TCP TCP_TIME_WAIT 0.0.0.0:0 → 0.0.0.0:0");
    assert_eq!(said.fields.get("error"), None);
}

#[test]
fn a_translated_connection_says_where_its_answers_come_from_and_a_packet_what_conntrack_thinks() {
    let mut guest = guest();
    let (port, http) = (40000_u16.to_be_bytes(), 80_u16.to_be_bytes());
    let members: [(&str, &[u8]); 12] = [
        ("tuplehash[0].tuple.src.u3.all", &[172, 17, 0, 2]),
        ("tuplehash[0].tuple.src.u.all", &port),
        ("tuplehash[0].tuple.src.l3num", &[2]),
        ("tuplehash[0].tuple.dst.u3.all", &[10, 9, 0, 2]),
        ("tuplehash[0].tuple.dst.u.all", &http),
        ("tuplehash[0].tuple.dst.protonum", &[17]),
        ("tuplehash[1].tuple.src.u3.all", &[10, 9, 0, 2]),
        ("tuplehash[1].tuple.src.u.all", &http),
        ("tuplehash[1].tuple.src.l3num", &[2]),
        ("tuplehash[1].tuple.dst.u3.all", &[10, 9, 0, 1]),
        ("tuplehash[1].tuple.dst.u.all", &port),
        ("status", &[3]),
    ];
    guest.put("nf_conn", OTHER, &members);
    let said = guest.decode("nf_conn", OTHER).unwrap();
    assert_eq!(said.summary, "UDP 172.17.0.2:40000 → 10.9.0.2:80, answers 10.9.0.2:80 → 10.9.0.1:40000");
    assert_eq!(
        (said.fields["status"].as_str(), said.fields["translated"].as_str()),
        ("IPS_EXPECTED|IPS_SEEN_REPLY", "yes")
    );
    for (nfct, says) in [(OTHER + 3, "established, reply: UDP 172.17.0.2"), (7, "untracked")] {
        guest.put_packet(&[], &[("_nfct", &nfct.to_le_bytes())]);
        let said = guest.decode("sk_buff", AT).unwrap();
        assert!(said.fields["conntrack"].starts_with(says), "{said:?}");
    }
}

#[test]
fn a_route_names_its_functions() {
    let mut guest = guest();
    guest.put("dst_entry", AT, &[("output", &0xffff_ffff_8100_0000_u64.to_le_bytes())]);
    assert_eq!(guest.decode("dst_entry", AT).unwrap().summary, "out: ip_output");
    guest.put("rtable", AT, &[("dst", &0xffff_ffff_8100_0000_u64.to_le_bytes()), ("rt_type", &[2])]);
    assert_eq!(guest.decode("dst_entry", AT).unwrap().summary, "RTN_LOCAL, out: ip_output");
}

#[test]
fn a_raw_socket_has_no_ports_and_the_kernels_own_that_sends_resets_is_no_connection() {
    let mut guest = guest();
    let mut says = |protocol: u8, remote: [u8; 4]| {
        let members: [(&str, &[u8]); 5] = [
            ("__sk_common.skc_family", &[2, 0]),
            ("__sk_common.skc_num", &[protocol, 0]),
            ("__sk_common.skc_daddr", &remote),
            ("sk_protocol", &[protocol, 0]),
            ("sk_type", &[3, 0]),
        ];
        guest.put("sock", AT, &members);
        let said = guest.decode("sock", AT).unwrap();
        assert_eq!((said.fields.get("state"), said.fields.get("local")), (None, None));
        said.summary
    };
    assert_eq!(says(255, [0; 4]), "raw socket that writes its own IP headers");
    assert_eq!(says(1, [10, 0, 0, 2]), "raw socket for ICMP → 10.0.0.2");
    assert_eq!(says(6, [0; 4]), "raw socket for TCP");
}

#[test]
fn a_pointer_that_leads_nowhere_says_so_and_null_says_nothing() {
    let mut guest = guest();
    assert_eq!(guest.decode("sock", 0), None);
    assert_eq!(guest.decode("no such kind", AT), None);
    let mut says = |address| guest.decode("sock", address).unwrap().summary;
    assert_eq!(says(AT), format!("leads nowhere: there is no memory at {AT:#x}"));
    assert!(says(0x6b6b_6b6b_6b6b_6b6b).contains("memory that was freed"));
    assert_eq!(says((-111_i64).cast_unsigned()), "no sock but an error: -ECONNREFUSED");
    // A structure that this kernel does not have is not decoded.
    assert_eq!(guest.decode("task_struct", AT), None);
}

#[test]
fn pointers_are_known_by_their_type() {
    assert_eq!(kind_of("const struct tcp_sock *"), Some("sock"));
    assert_eq!(kind_of("struct sk_buff *"), Some("sk_buff"));
    for other in ["struct sk_buff **", "struct sk_buff", "struct sk_buff_head *", "int", "sk_buff *"] {
        assert_eq!(kind_of(other), None, "{other}");
    }
}
