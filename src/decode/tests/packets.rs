//! Packets, and what they are recognised by.

use super::*;

#[test]
fn a_packet_is_read_from_its_ip_header() {
    let mut guest = guest();
    guest.put("net_device", OTHER, &[("name", b"eth0")]);
    let members: [(&str, &[u8]); 3] =
        [("network_header", &16_u16.to_le_bytes()), ("dev", &OTHER.to_le_bytes()), ("pkt_type", &[3])];
    guest.put_packet(&syn(), &members);
    let said = guest.decode("sk_buff", AT).unwrap();
    assert_eq!(said.summary, "IPv4 10.0.0.1:40000 → 10.0.0.2:80 TCP SYN seq 1000 win 512, 0 bytes on eth0");
    let field = |name: &str| said.fields.get(name).map(String::as_str);
    assert_eq!([field("flags"), field("seq"), field("ttl")], [Some("SYN"), Some("1000"), Some("64")]);
    assert_eq!([field("packet type"), field("ack")], [Some("to another host"), None]);
}

#[test]
fn a_segment_without_an_ip_header_is_read_where_its_socket_speaks_tcp() {
    let mut guest = guest();
    let segment = syn().split_off(20);
    let members: [(&str, &[u8]); 2] = [("transport_header", &16_u16.to_le_bytes()), ("sk", &OTHER.to_le_bytes())];
    guest.put_packet(&segment, &members);
    guest.put("sock", OTHER, &[("sk_protocol", &[17, 0])]);
    assert!(guest.decode("sk_buff", AT).unwrap().summary.starts_with("20 bytes; no header"));
    guest.put("sock", OTHER, &[("sk_protocol", &[6, 0])]);
    let said = guest.decode("sk_buff", AT).unwrap();
    assert_eq!(said.summary, "port 40000 → port 80 TCP SYN seq 1000 win 512, 0 bytes");
}

#[test]
fn a_segment_that_has_no_headers_yet_says_what_they_will_say() {
    let mut guest = guest();
    let mut says = |block: &[u8], protocol: Option<u8>| {
        let unset = [("network_header", &[0, 0][..]), ("transport_header", &[0xff; 2]), ("mac_header", &[0xff; 2])];
        let sock = protocol.map_or(0, |_| OTHER).to_le_bytes();
        guest.put("sock", OTHER, &[("sk_protocol", &[protocol.unwrap_or(0), 0])]);
        guest.put_packet(&[], &[&unset[..], &[("sk", &sock[..]), ("cb", block)]].concat());
        guest.decode("sk_buff", AT).unwrap()
    };
    let syn_block = [0xe8, 3, 0, 0, 0xe9, 3, 0, 0, 2];
    let nothing = "0 bytes; no header that is set can be read";
    assert_eq!(says(&syn_block, Some(17)).summary, nothing);
    assert_eq!(says(&[0; 9], None).summary, nothing, "no flags");
    assert_eq!(says(&[0xe8, 3, 0, 0, 0xea, 3, 0, 0, 2], None).summary, nothing, "a number too many");
    let said = says(&syn_block, None);
    assert_eq!(said.summary, "TCP SYN seq 1000, 0 bytes, its headers are not written yet");
    assert_eq!(says(&syn_block, Some(6)).summary, said.summary);
    let before = said.sight.unwrap();
    // And is the same packet when they are written.
    guest.put_packet(&syn(), &[("network_header", &16_u16.to_le_bytes())]);
    let after = guest.decode("sk_buff", AT).unwrap().sight.unwrap();
    let mut follower = Follower::default();
    assert_eq!([before, after].map(|sight| follower.numbers(&[sight])), [[1], [1]]);
}

#[test]
fn nat_leaves_a_packet_what_it_is_recognised_by_and_another_one_has_something_else() {
    let sight = |packet: &[u8]| {
        let mut guest = guest();
        guest.put_packet(packet, &[("network_header", &16_u16.to_le_bytes())]);
        guest.decode("sk_buff", AT).unwrap().sight.unwrap()
    };
    let built = |from: [u8; 4], ttl: u8, port: u16, text: &[u8]| {
        let mut packet = Vec::new();
        PacketBuilder::ipv4(from, [10, 0, 0, 2], ttl).udp(port, 53).write(&mut packet, text).unwrap();
        packet
    };
    let ping = |id: u16, seq: u16| {
        let mut packet = Vec::new();
        let builder = PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).icmpv4_echo_request(id, seq);
        builder.write(&mut packet, b"ping").unwrap();
        packet
    };
    let mut later = syn();
    later[24..28].copy_from_slice(&1001_u32.to_be_bytes());
    let same = [
        (syn(), syn()),
        (built([10, 0, 0, 1], 64, 4000, b"question"), built([192, 168, 0, 1], 63, 1024, b"question")),
        (ping(1, 1), ping(7, 1)),
    ];
    let other = [
        (syn(), later),
        (built([10, 0, 0, 1], 64, 4000, b"question"), built([10, 0, 0, 1], 64, 4000, b"another!")),
        (ping(1, 1), ping(1, 2)),
        (syn(), built([10, 0, 0, 1], 64, 40000, b"")),
    ];
    let numbers = |(first, second): (Vec<u8>, Vec<u8>)| {
        let mut follower = Follower::default();
        [first, second].map(|packet| follower.numbers(&[sight(&packet)])[0])
    };
    assert_eq!(same.map(numbers), [[1, 1]; 3]);
    assert_eq!(other.map(numbers), [[1, 2]; 4]);
}

#[test]
fn a_packet_whose_buffer_cannot_be_one_says_what_is_wrong() {
    let mut guest = guest();
    let (null, small, huge) = (0_u64.to_le_bytes(), 15_u32.to_le_bytes(), u32::MAX.to_le_bytes());
    let (poison, last) = (0x6b6b_6b6b_6b6b_6b6b_u64.to_le_bytes(), (u64::MAX - 8192).to_le_bytes());
    type Members<'a> = &'a [(&'a str, &'a [u8])];
    let cases: [(Members<'_>, &str); 5] = [
        (&[("head", &null)], "40 bytes; it has no buffer"),
        (
            &[("head", &poison)],
            "40 bytes; its buffer leads nowhere: 0x6b6b6b6b6b6b6b6b is the pattern of memory that was freed",
        ),
        (&[("tail", &small)], "40 bytes; its offsets make no sense: data at 16, tail at 15, its end at 56"),
        (&[("tail", &huge), ("end", &huge), ("head", &last), ("data", &last)], "40 bytes; its offsets make no sense"),
        (&[("data", &HEAD.wrapping_sub(5).to_le_bytes())], "40 bytes; its offsets make no sense: data at -5, tail"),
    ];
    for (members, says) in cases {
        guest.put_packet(&syn(), members);
        let said = guest.decode("sk_buff", AT).unwrap();
        assert!(said.summary.starts_with(says), "{}", said.summary);
    }
    // Wherever its pointers lead.
    for address in [1, 0xdead_0000_0000_0122, 0x7fff_0000_0000, AT + 1, u64::MAX, u64::MAX - 5000] {
        let address = address.to_le_bytes();
        guest.put_packet(&syn(), &["dev", "sk", "_nfct"].map(|member| (member, &address[..])));
        assert!(guest.decode("sk_buff", AT).unwrap().summary.starts_with("IPv4 10.0.0.1:40000 → 10.0.0.2:80 TCP SYN"));
    }
}

#[test]
fn garbage_in_a_buffer_is_no_packet_and_no_panic() {
    let mut guest = guest();
    let mut random = 12345_u32;
    for round in 0..2000_u32 {
        let mut next = || {
            random = random.wrapping_mul(1_103_515_245).wrapping_add(12345);
            (random >> 16).to_le_bytes()[0]
        };
        let mut bytes: Vec<u8> = (0..round % 90).map(|_| next()).collect();
        // Half of them begin like a header.
        if let (Some(first), 0) = (bytes.first_mut(), round % 2) {
            *first = 0x45;
        }
        let members: [(&str, &[u8]); 3] = [
            ("network_header", &16_u16.to_le_bytes()),
            ("mac_header", &8_u16.to_le_bytes()),
            ("transport_header", &36_u16.to_le_bytes()),
        ];
        guest.put_packet(&bytes, &members);
        assert!(!guest.decode("sk_buff", AT).unwrap().summary.is_empty());
    }
}
