//! Packets: an `sk_buff` with what its headers say.

use etherparse::{LaxNetSlice, LaxSlicedPacket, TcpSlice, TransportSlice};

use super::{Decoder, Object, Said, conntrack};
use crate::layout::Wanted;

pub(super) const WANTED: Wanted = (
    "sk_buff",
    &[
        "len",
        "data_len",
        "head",
        "data",
        "tail",
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
    ],
);

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
    let device = number("dev").and_then(|device| decoder.device_name(device));
    let headers = headers(decoder, skb);
    let mut said = match &headers {
        Some(headers) => Said::new(headers.summary.clone()),
        None => Said::new(format!("{length} bytes; no header that is set can be read")),
    };
    if let Some(device) = &device {
        said.summary.push_str(&format!(" on {device}"));
    }
    if let Some(headers) = headers {
        said.fields.extend(headers.fields);
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

/// The headers that are set, read: from the IP header if there is one; else from the link's, or the transport's alone,
/// which is all that a packet has that is about to be sent.
fn headers(decoder: &mut Decoder<'_>, skb: &Object) -> Option<Said> {
    let number = |path: &str| decoder.number(skb, path);
    let (head, tail) = (number("head")?, number("tail")?);
    let data = number("data")?.checked_sub(head)?;
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
    super::sock::protocol(decoder, skb).filter(|protocol| *protocol == TCP)?;
    tcp_alone(&bytes)
}

const TCP: u64 = 6;

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
                    .with("fragment at", fragment.then(|| header.fragments_offset().value() * 8)),
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
            Some(match arp.operation().0 {
                1 => Said::new(format!("ARP who has {target}? tell {sender}")),
                2 => Said::new(format!("ARP {sender} is at {sender_is_at}")),
                other => Said::new(format!("ARP operation {other}, {sender} to {target}")),
            })
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
    let addresses = |said: Said, from: String, to: String| said.with("from", Some(from)).with("to", Some(to));
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
            addresses(Said::new(format!("{network} {from} → {to} UDP, {data} bytes")), from, to)
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            let what = format!("{:?}", icmp.icmp_type());
            let said =
                Said::new(format!("{network} {from} → {to} ICMP type {} code {}", icmp.type_u8(), icmp.code_u8()));
            addresses(said.with("icmp", Some(what)), from.into(), to.into())
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
    let said = tcp_header(&tcp, data);
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
}
