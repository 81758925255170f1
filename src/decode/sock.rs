//! Sockets: `sock` and all that begins with one.

use super::address::{ipv4, ipv6};
use super::{Decoder, Object, Said};
use crate::layout::Wanted;

pub(super) const WANTED: Wanted = (
    "sock",
    &[
        "__sk_common.skc_family",
        "__sk_common.skc_state",
        "__sk_common.skc_daddr",
        "__sk_common.skc_rcv_saddr",
        "__sk_common.skc_v6_daddr",
        "__sk_common.skc_v6_rcv_saddr",
        "__sk_common.skc_dport",
        "__sk_common.skc_num",
        "sk_protocol",
        "sk_type",
        "sk_err",
        "sk_shutdown",
        "sk_ack_backlog",
        "sk_max_ack_backlog",
        "sk_receive_queue.qlen",
        "sk_rcvbuf",
        "sk_sndbuf",
        "sk_wmem_queued",
        "sk_backlog.rmem_alloc.counter",
    ],
);

pub(super) const CONNECTION: Wanted = ("inet_connection_sock", &["icsk_retransmits", "icsk_rto"]);

pub(super) const TCP: Wanted = (
    "tcp_sock",
    &[
        "rcv_nxt",
        "copied_seq",
        "rcv_wnd",
        "snd_nxt",
        "snd_una",
        "write_seq",
        "snd_wnd",
        "snd_cwnd",
        "mss_cache",
        "packets_out",
        "retrans_out",
        "srtt_us",
    ],
);

const STATES: &str = "TCP_ESTABLISHED";
const PROTOCOL_TCP: u64 = 6;
/// Families and a type of sockets: parts of the interface to programs (include/linux/socket.h, include/linux/net.h).
const INET: u64 = 2;
const INET6: u64 = 10;
const RAW: u64 = 3;
const TCP_LISTEN: &str = "TCP_LISTEN";
/// Of sockets in these states only the first part is there (`sk_fullsock` in include/net/sock.h).
const SHORT: [&str; 2] = ["TCP_TIME_WAIT", "TCP_NEW_SYN_RECV"];

/// Reads a socket.
pub(super) fn read(decoder: &mut Decoder<'_>, sock: &Object) -> Said {
    let number = |path: &str| decoder.number(sock, path);
    let family = number("__sk_common.skc_family");
    let state = number("__sk_common.skc_state").map(|state| decoder.named(STATES, state)).unwrap_or_default();
    let (local, remote) = (address(decoder, sock, family, false), address(decoder, sock, family, true));
    let full = !SHORT.contains(&state.as_str());
    let protocol = number("sk_protocol").filter(|_| full);
    let raw = full && number("sk_type") == Some(RAW) && matches!(family, Some(INET | INET6));
    let name = if raw { raw_name(family, protocol) } else { protocol_name(family, protocol, full) };
    let [local, remote] = [local, remote].map(|end| if raw { end.as_deref().and_then(host_alone) } else { end });
    let summary = match (&local, &remote) {
        _ if raw => {
            let local = local.as_deref().map(|local| format!(" {local}")).unwrap_or_default();
            let remote = remote.as_deref().map(|remote| format!(" → {remote}")).unwrap_or_default();
            format!("{name}{local}{remote}")
        }
        (Some(local), Some(_)) if state == TCP_LISTEN => format!("{name} {state} {local}"),
        (Some(local), Some(remote)) if protocol == Some(PROTOCOL_TCP) || !full => {
            format!("{name} {state} {local} → {remote}")
        }
        (Some(local), Some(remote)) => format!("{name} {local} → {remote}"),
        _ => name.clone(),
    };
    let said = Said::new(summary).with("protocol", Some(&name)).with("local", local).with("remote", remote);
    // The kernel's own sockets that send resets are raw, for TCP, and have nothing of a connection.
    let is_tcp = protocol == Some(PROTOCOL_TCP) && !raw;
    let said = said.with("state", Some(&state).filter(|_| is_tcp || !full));
    if !full {
        return said;
    }
    let error = number("sk_err").filter(|error| *error != 0).map(super::errno::name);
    let said = said
        .with("error", error)
        .with("receive queue", number("sk_receive_queue.qlen").map(|count| format!("{count} packets")))
        .with("received", number("sk_backlog.rmem_alloc.counter").zip(number("sk_rcvbuf")).map(of))
        .with("to be sent", number("sk_wmem_queued").zip(number("sk_sndbuf")).map(of));
    if !is_tcp {
        return said;
    }
    if state == TCP_LISTEN {
        let backlog = number("sk_ack_backlog").zip(number("sk_max_ack_backlog"));
        return said.with("accept queue", backlog.map(|(waiting, most)| format!("{waiting} of {most}")));
    }
    tcp(decoder, sock.address, said)
}

fn of((used, size): (u64, u64)) -> String {
    format!("{used} of {size} bytes")
}

/// What a connection adds.
fn tcp(decoder: &mut Decoder<'_>, address: u64, mut said: Said) -> Said {
    if let Some(connection) = decoder.object("inet_connection_sock", address) {
        let number = |path: &str| decoder.number(&connection, path);
        said = said
            .with("retransmits", number("icsk_retransmits"))
            .with("rto", number("icsk_rto").map(|ticks| format!("{ticks} jiffies")));
    }
    if let Some(tcp) = decoder.object("tcp_sock", address) {
        let number = |path: &str| decoder.number(&tcp, path);
        for (name, path) in [
            ("snd_una", "snd_una"),
            ("snd_nxt", "snd_nxt"),
            ("snd_wnd", "snd_wnd"),
            ("cwnd", "snd_cwnd"),
            ("mss", "mss_cache"),
            ("rcv_nxt", "rcv_nxt"),
            ("rcv_wnd", "rcv_wnd"),
            ("not read yet", "copied_seq"),
            ("in flight", "packets_out"),
            ("retransmitted", "retrans_out"),
        ] {
            let value = match path {
                "copied_seq" => {
                    number("rcv_nxt").zip(number(path)).map(|(next, read)| next.wrapping_sub(read) & 0xffff_ffff)
                }
                _ => number(path),
            };
            said = said.with(name, value);
        }
        // In eighths of a microsecond.
        said = said.with("srtt", number("srtt_us").map(|eighths| format!("{} us", eighths / 8)));
    }
    said
}

/// Address and port of one end.
fn address(decoder: &Decoder<'_>, sock: &Object, family: Option<u64>, remote: bool) -> Option<String> {
    let (four, six) = match remote {
        true => ("__sk_common.skc_daddr", "__sk_common.skc_v6_daddr"),
        false => ("__sk_common.skc_rcv_saddr", "__sk_common.skc_v6_rcv_saddr"),
    };
    let bytes = |path: &str| sock.bytes_of(decoder.layouts, path);
    let host = match family? {
        INET => ipv4(bytes(four)?)?.to_string(),
        INET6 => format!("[{}]", ipv6(bytes(six)?)?),
        _ => return None,
    };
    let port = match remote {
        true => u16::try_from(decoder.number(sock, "__sk_common.skc_dport")?).ok()?.swap_bytes(),
        false => u16::try_from(decoder.number(sock, "__sk_common.skc_num")?).ok()?,
    };
    Some(format!("{host}:{port}"))
}

/// The protocol of the socket that a packet belongs to, if that can be told.
pub(super) fn protocol(decoder: &mut Decoder<'_>, skb: &Object) -> Option<u64> {
    let address = decoder.number(skb, "sk")?;
    super::address::suspicious(address)?.is_none().then_some(())?;
    let sock = decoder.object("sock", address)?;
    let state = decoder.named(STATES, decoder.number(&sock, "__sk_common.skc_state")?);
    decoder.number(&sock, "sk_protocol").filter(|_| !SHORT.contains(&state.as_str()))
}

/// The address without the port of an end, of which a raw socket has none; none where it is any address.
fn host_alone(end: &str) -> Option<String> {
    let host = end.rsplit_once(':')?.0;
    (!matches!(host, "0.0.0.0" | "[::]")).then(|| host.into())
}

/// What people call a raw socket. One for IPPROTO_RAW (include/uapi/linux/in.h) writes the IP header, and so the protocol, itself.
fn raw_name(family: Option<u64>, protocol: Option<u64>) -> String {
    match protocol {
        Some(255) => "raw socket that writes its own IP headers".into(),
        _ => format!("raw socket for {}", protocol_name(family, protocol, true)),
    }
}

/// What people call a protocol of a family.
fn protocol_name(family: Option<u64>, protocol: Option<u64>, full: bool) -> String {
    // include/linux/socket.h: parts of the interface to programs, which do not change.
    let family_name = match family {
        Some(1) => "unix",
        Some(INET | INET6) => "",
        Some(16) => "netlink",
        Some(17) => "packet",
        _ => return family.map_or_else(|| "socket".into(), |family| format!("socket of family {family}")),
    };
    match (family_name, protocol) {
        ("", Some(1)) => "ICMP".into(),
        ("", Some(6)) => "TCP".into(),
        ("", Some(17)) => "UDP".into(),
        ("", Some(58)) => "ICMPv6".into(),
        ("", Some(other)) => format!("IP protocol {other}"),
        ("", None) => if full { "IP" } else { "TCP" }.into(),
        (name, _) => format!("{name} socket"),
    }
}
