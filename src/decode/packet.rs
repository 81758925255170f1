//! Packets: an `sk_buff` with what its headers say.

use std::hash::{DefaultHasher, Hash, Hasher};

use etherparse::{Icmpv4Type, LaxNetSlice, LaxSlicedPacket, TcpSlice, TransportSlice};

use super::follow::{Facts, Sight};
use super::{Decoder, Object, Said, address, conntrack, sock};
use crate::layout::Wanted;

pub(super) const WANTED: Wanted = (
    "sk_buff",
    &[
        "len",
        "data_len",
        "head",
        "data",
        "tail",
        "end",
        "mac_header",
        "network_header",
        "transport_header",
        "pkt_type",
        "cloned",
        "mark",
        "dev",
        "sk",
        "_nfct",
        "users.refs.counter",
        "cb",
    ],
);

/// What TCP keeps in the `cb` of a segment.
pub(super) const SEGMENT: Wanted = ("tcp_skb_cb", &["seq", "end_seq", "tcp_flags"]);

/// Where a header is not set.
const UNSET: u64 = 0xffff;
/// No headers are longer than this together.
const LONGEST: u64 = 512;
/// What a packet is to the machine that receives it, where it is not simply to this host (0);
/// `include/uapi/linux/if_packet.h`.
const TYPES: [&str; 7] =
    ["broadcast", "multicast", "to another host", "outgoing", "loopback", "to user space", "to the kernel"];

/// Reads an `sk_buff`.
pub(super) fn read(decoder: &mut Decoder<'_>, skb: &Object) -> Said {
    let number = |path: &str| decoder.number(skb, path);
    let (length, data_len) = (number("len").unwrap_or(0), number("data_len"));
    let (mark, cloned) = (number("mark"), number("cloned"));
    let packet_type = number("pkt_type").and_then(|value| TYPES.get(usize::try_from(value.checked_sub(1)?).ok()?));
    let (users, nfct) = (number("users.refs.counter"), number("_nfct").unwrap_or(0));
    let (head, device) = (number("head"), number("dev"));
    let device = device.and_then(|device| decoder.device_name(device));
    let headers = match buffer(decoder, skb) {
        Ok(buffer) => headers(decoder, skb, &buffer)
            .or_else(|| without_headers(decoder, skb))
            .unwrap_or_else(|| Said::new(format!("{length} bytes; no header that is set can be read"))),
        Err(why) => Said::new(format!("{length} bytes; {why}")),
    };
    let mut said = with_sight(headers, skb.address, head);
    if let Some(device) = &device {
        said.summary.push_str(&format!(" on {device}"));
    }
    let connection = conntrack::of_packet(decoder, nfct);
    said.with("bytes", Some(length))
        .with("bytes in fragments", data_len.filter(|bytes| *bytes > 0))
        .with("device", device)
        .with("packet type", packet_type)
        .with("mark", mark.filter(|mark| *mark != 0).map(|mark| format!("{mark:#x}")))
        .with("cloned", cloned.filter(|cloned| *cloned != 0).map(|_| "yes"))
        .with("users", users.filter(|users| *users != 1))
        .with("conntrack", connection)
}

/// The linear part of a packet.
struct Buffer {
    head: u64,
    /// Offsets in it.
    data: u64,
    tail: u64,
}

/// The buffer of a packet, or why it cannot be one.
fn buffer(decoder: &Decoder<'_>, skb: &Object) -> Result<Buffer, String> {
    let number = |path: &str| decoder.number(skb, path).unwrap_or(0);
    let (head, tail, end) = (number("head"), number("tail"), decoder.number(skb, "end"));
    match address::suspicious(head) {
        None => return Err("it has no buffer".into()),
        Some(Some(why)) => return Err(format!("its buffer leads nowhere: {why}")),
        Some(None) => {}
    }
    let data = number("data").wrapping_sub(head);
    if data > tail || end.is_some_and(|end| tail > end) || head.checked_add(tail).is_none() {
        let end = end.map_or(String::new(), |end| format!(", its end at {end}"));
        let data = data.cast_signed();
        return Err(format!("its offsets make no sense: data at {data}, tail at {tail}{end}"));
    }
    Ok(Buffer { head, data, tail })
}

/// With what a packet is recognised by.
fn with_sight(said: Said, skb: u64, head: Option<u64>) -> Said {
    let head = head.filter(|head| matches!(address::suspicious(*head), Some(None)));
    let end = |name: &str| said.fields.get(name).cloned();
    let ends = end("from").zip(end("to"));
    let facts = said.sight.map(|sight| sight.facts).unwrap_or_default();
    Said { sight: head.map(|buffer| Sight { skb, buffer, facts, ends }), ..said }
}

/// A segment that TCP has not written the headers of: what they are going to say is in its control block. In TCP's queues it
/// does not know its socket, so the block has to make sense: its sequence numbers are as far apart as the segment is long.
fn without_headers(decoder: &mut Decoder<'_>, skb: &Object) -> Option<Said> {
    decoder.number(skb, "transport_header").filter(|offset| *offset == UNSET)?;
    if sock::protocol(decoder, skb).is_some_and(|protocol| protocol != TCP) {
        return None;
    }
    let bytes = skb.bytes_of(decoder.layouts, "cb")?.to_vec();
    let block = Object { structure: SEGMENT.0, address: skb.address, bytes };
    let number = |path: &str| decoder.number(&block, path);
    let (seq, end, bits) = (number("seq")?, number("end_seq")?, number("tcp_flags")?);
    let length = decoder.number(skb, "len").unwrap_or(0);
    // A SYN and a FIN count as one each.
    let distance = length + (bits & 1) + (bits >> 1 & 1);
    (bits != 0 && end.wrapping_sub(seq) & 0xffff_ffff == distance).then_some(())?;
    // The first eight flags of the header, in its order.
    let names = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"].iter().enumerate();
    let names: Vec<&str> = names.filter(|(bit, _)| bits >> bit & 1 != 0).map(|(_, name)| *name).collect();
    let flags = if names.is_empty() { "segment".into() } else { names.join(",") };
    Some(
        Said::new(format!("TCP {flags} seq {seq}, {length} bytes, its headers are not written yet"))
            .with("seq", Some(seq))
            .with("flags", Some(flags))
            .fact("protocol", Some(TCP))
            .fact("seq", Some(seq))
            .fact("flags", Some(bits & LASTING)),
    )
}

/// The headers that are set, read: from the IP header if there is one; else from the link's, or the transport's alone,
/// which is all that a packet has that is about to be sent.
fn headers(decoder: &mut Decoder<'_>, skb: &Object, buffer: &Buffer) -> Option<Said> {
    let number = |path: &str| decoder.number(skb, path);
    let Buffer { head, data, tail } = *buffer;
    let [link, network, transport] = ["mac_header", "network_header", "transport_header"].map(number);
    let set = |offset: Option<u64>| offset.filter(|offset| (1..UNSET).contains(offset) && *offset < tail);
    let mut bytes = |from: u64| decoder.memory.read(head + from, (tail - from).min(LONGEST));
    if let Some(from) = set(network)
        && let Some(said) = bytes(from).and_then(|bytes| from_ip(&bytes))
    {
        return Some(said);
    }
    if let Some(said) = set(Some(data)).and_then(&mut bytes).and_then(|bytes| from_ip(&bytes)) {
        return Some(said);
    }
    if let Some(said) = set(link).and_then(&mut bytes).and_then(|bytes| from_link(&bytes)) {
        return Some(said);
    }
    let from = set(transport)?;
    let bytes = bytes(from)?;
    sock::protocol(decoder, skb).filter(|protocol| *protocol == TCP)?;
    tcp_alone(&bytes)
}

const TCP: u64 = 6;
/// FIN, SYN and RST: flags that nobody changes on a segment's way.
const LASTING: u64 = 7;
/// How much of a datagram is compared with another.
const COMPARED: usize = 64;

impl Said {
    /// With something that the packet is recognised by, if there is a value.
    #[must_use]
    fn fact(mut self, name: &'static str, value: Option<impl Into<u64>>) -> Said {
        let facts: &mut Facts = &mut self.sight.get_or_insert_default().facts;
        facts.extend(value.map(|value| (name, value.into())));
        self
    }
}

/// A number for the beginning of what a datagram carries; none if that is not all there.
fn digest(payload: &[u8], length: usize) -> Option<u64> {
    let compared = payload.get(..length.min(COMPARED)).filter(|compared| !compared.is_empty())?;
    let mut hasher = DefaultHasher::new();
    (length, compared).hash(&mut hasher);
    Some(hasher.finish())
}

/// Reads from an IPv4 or IPv6 header on.
fn from_ip(bytes: &[u8]) -> Option<Said> {
    // Not every first byte with a 4 in it is a header: its length is at least 20.
    if !matches!(bytes.first()?, 0x45..=0x4f | 0x60..=0x6f) {
        return None;
    }
    let packet = LaxSlicedPacket::from_ip(bytes).ok()?;
    network(&packet)
}

/// Reads from an Ethernet header on.
fn from_link(bytes: &[u8]) -> Option<Said> {
    network(&LaxSlicedPacket::from_ethernet(bytes).ok()?)
}

fn network(packet: &LaxSlicedPacket<'_>) -> Option<Said> {
    match packet.net.as_ref()? {
        LaxNetSlice::Ipv4(ip) => {
            let header = ip.header();
            let (from, to) = (header.source_addr().to_string(), header.destination_addr().to_string());
            let payload = usize::from(header.total_len()).saturating_sub(usize::from(header.ihl()) * 4);
            let fragment = header.is_fragmenting_payload();
            let said = transport(packet, "IPv4", (&from, &to), payload, header.protocol().0);
            Some(
                said.with("ttl", Some(header.ttl()))
                    .with("ip id", Some(header.identification()))
                    .with("fragment at", fragment.then(|| header.fragments_offset().value() * 8))
                    .fact("ip id", Some(header.identification()).filter(|id| *id != 0))
                    .fact("fragment", fragment.then(|| header.fragments_offset().value())),
            )
        }
        LaxNetSlice::Ipv6(ip) => {
            let header = ip.header();
            let from = format!("[{}]", header.source_addr());
            let to = format!("[{}]", header.destination_addr());
            let said =
                transport(packet, "IPv6", (&from, &to), usize::from(header.payload_length()), header.next_header().0);
            Some(said.with("hop limit", Some(header.hop_limit())))
        }
        LaxNetSlice::Arp(arp) => {
            let address =
                |bytes: &[u8]| super::address::ipv4(bytes).map(|address| address.to_string()).unwrap_or_default();
            let (sender, target) = (address(arp.sender_protocol_addr()), address(arp.target_protocol_addr()));
            let sender_is_at = super::address::hardware(arp.sender_hw_addr());
            let said = match arp.operation().0 {
                1 => Said::new(format!("ARP who has {target}? tell {sender}")),
                2 => Said::new(format!("ARP {sender} is at {sender_is_at}")),
                other => Said::new(format!("ARP operation {other}, {sender} to {target}")),
            };
            let digest = digest(said.summary.as_bytes(), COMPARED.min(said.summary.len()));
            Some(said.fact("arp", digest))
        }
    }
}

/// The line of a packet, with what its transport header says.
fn transport(
    packet: &LaxSlicedPacket<'_>,
    network: &str,
    (from, to): (&str, &str),
    payload: usize,
    protocol: u8,
) -> Said {
    let addresses = |said: Said, from: String, to: String| {
        said.with("from", Some(from)).with("to", Some(to)).fact("protocol", Some(protocol))
    };
    match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let (from, to) = (format!("{from}:{}", tcp.source_port()), format!("{to}:{}", tcp.destination_port()));
            let data = payload.saturating_sub(usize::from(tcp.data_offset()) * 4);
            let said = tcp_header(tcp, data);
            let summary = format!("{network} {from} → {to} {}", said.summary);
            addresses(Said { summary, ..said }, from, to)
        }
        Some(TransportSlice::Udp(udp)) => {
            let (from, to) = (format!("{from}:{}", udp.source_port()), format!("{to}:{}", udp.destination_port()));
            let data = usize::from(udp.length()).saturating_sub(8);
            let said = Said::new(format!("{network} {from} → {to} UDP, {data} bytes"));
            addresses(said.fact("payload", digest(udp.payload(), data)), from, to)
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            let what = format!("{:?}", icmp.icmp_type());
            let said =
                Said::new(format!("{network} {from} → {to} ICMP type {} code {}", icmp.type_u8(), icmp.code_u8()));
            // NAT changes the identifier of an echo, and the packet in an error.
            let echo = match icmp.icmp_type() {
                Icmpv4Type::EchoRequest(echo) | Icmpv4Type::EchoReply(echo) => Some(echo.seq),
                _ => None,
            };
            let said = said.with("icmp", Some(what)).fact("echo", echo).fact("type", Some(icmp.type_u8()));
            let data = icmp.payload().len();
            let said = said.fact("payload", echo.and_then(|_| digest(icmp.payload(), data)));
            addresses(said, from.into(), to.into())
        }
        Some(TransportSlice::Icmpv6(icmp)) => {
            let said =
                Said::new(format!("{network} {from} → {to} ICMPv6 type {} code {}", icmp.type_u8(), icmp.code_u8()));
            addresses(said.with("icmp", Some(format!("{:?}", icmp.icmp_type()))), from.into(), to.into())
        }
        _ => addresses(
            Said::new(format!("{network} {from} → {to} protocol {protocol}, {payload} bytes")),
            from.into(),
            to.into(),
        ),
    }
}

/// A TCP segment that has no IP header yet.
fn tcp_alone(bytes: &[u8]) -> Option<Said> {
    let tcp = TcpSlice::from_slice(bytes).ok()?;
    let data = tcp.payload().len();
    let said = tcp_header(&tcp, data).fact("protocol", Some(TCP));
    let summary = format!("port {} → port {} {}", tcp.source_port(), tcp.destination_port(), said.summary);
    Some(Said { summary, ..said })
}

fn tcp_header(tcp: &TcpSlice<'_>, data: usize) -> Said {
    let bits = [
        (tcp.syn(), "SYN"),
        (tcp.fin(), "FIN"),
        (tcp.rst(), "RST"),
        (tcp.psh(), "PSH"),
        (tcp.ack(), "ACK"),
        (tcp.urg(), "URG"),
        (tcp.ece(), "ECE"),
        (tcp.cwr(), "CWR"),
    ];
    let flags: Vec<&str> = bits.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
    let flags = if flags.is_empty() { "no flags".into() } else { flags.join(",") };
    let (seq, ack) = (tcp.sequence_number(), tcp.ack().then(|| tcp.acknowledgment_number()));
    let ack_text = ack.map(|ack| format!(" ack {ack}")).unwrap_or_default();
    Said::new(format!("TCP {flags} seq {seq}{ack_text} win {}, {data} bytes", tcp.window_size()))
        .with("flags", Some(flags))
        .with("seq", Some(seq))
        .with("ack", ack)
        .with("window", Some(tcp.window_size()))
        .with("payload", Some(data))
        .fact("seq", Some(seq))
        .fact("ack", ack)
        .fact("flags", Some(u64::from(tcp.fin()) | u64::from(tcp.syn()) << 1 | u64::from(tcp.rst()) << 2))
}
