//! Connections as conntrack sees them: `nf_conn`, and the word of a packet that points to one.

use super::address::{ipv4, ipv6};
use super::{Decoder, Object, Said};
use crate::layout::Wanted;

pub(super) const WANTED: Wanted = (
    "nf_conn",
    &[
        "tuplehash[0].tuple.src.u3.all",
        "tuplehash[0].tuple.src.u.all",
        "tuplehash[0].tuple.src.l3num",
        "tuplehash[0].tuple.dst.u3.all",
        "tuplehash[0].tuple.dst.u.all",
        "tuplehash[0].tuple.dst.protonum",
        "tuplehash[1].tuple.src.u3.all",
        "tuplehash[1].tuple.src.u.all",
        "tuplehash[1].tuple.src.l3num",
        "tuplehash[1].tuple.dst.u3.all",
        "tuplehash[1].tuple.dst.u.all",
        "tuplehash[1].tuple.dst.protonum",
        "status",
        "mark",
        "proto.tcp.state",
    ],
);

/// What conntrack thinks of a packet is in the lowest bits of its pointer (include/linux/skbuff.h).
const INFO: u64 = 7;
/// `enum ip_conntrack_info` (include/uapi/linux/netfilter/nf_conntrack_common.h), which is part of the interface to programs.
const INFOS: [&str; 8] = [
    "established",
    "related",
    "new",
    "established, reply",
    "related, reply",
    "no connection",
    "no connection",
    "untracked",
];

/// Reads an `nf_conn`.
pub(super) fn read(decoder: &mut Decoder<'_>, connection: &Object) -> Said {
    let number = |path: &str| decoder.number(connection, path);
    let protocol = number("tuplehash[0].tuple.dst.protonum");
    let [original, reply] = [0, 1].map(|direction| tuple(decoder, connection, direction));
    let is_tcp = protocol == Some(6);
    let state = number("proto.tcp.state").filter(|_| is_tcp).map(|state| decoder.named("tcp_conntrack", state));
    let name = match protocol {
        Some(1) => "ICMP".into(),
        Some(6) => "TCP".into(),
        Some(17) => "UDP".into(),
        Some(other) => format!("protocol {other}"),
        None => "connection".into(),
    };
    let state_text = state.as_deref().map(|state| format!(" {state}")).unwrap_or_default();
    let way = |tuple: &Option<(String, String)>| tuple.as_ref().map(|(from, to)| format!("{from} → {to}"));
    // Without NAT the answers come from where the question went.
    let translated =
        original.as_ref().zip(reply.as_ref()).is_some_and(|(there, back)| there.0 != back.1 || there.1 != back.0);
    let nat = match (translated, way(&reply)) {
        (true, Some(reply)) => format!(", answers {reply}"),
        _ => String::new(),
    };
    Said::new(format!("{name}{state_text} {}{nat}", way(&original).unwrap_or_default()))
        .with("original", way(&original))
        .with("reply", way(&reply))
        .with("translated", translated.then_some("yes"))
        .with("state", state)
        .with("status", number("status").map(|status| decoder.flags("ip_conntrack_status", status)))
        .with("mark", number("mark").filter(|mark| *mark != 0).map(|mark| format!("{mark:#x}")))
}

/// Both ends of one direction.
fn tuple(decoder: &Decoder<'_>, connection: &Object, direction: u8) -> Option<(String, String)> {
    let end = |side: &str| {
        let path = |member: &str| format!("tuplehash[{direction}].tuple.{member}");
        let bytes = connection.bytes_of(decoder.layouts, &path(&format!("{side}.u3.all")))?;
        let address = match decoder.number(connection, &path("src.l3num"))? {
            10 => format!("[{}]", ipv6(bytes)?),
            _ => ipv4(bytes)?.to_string(),
        };
        let port = u16::try_from(decoder.number(connection, &path(&format!("{side}.u.all")))?).ok()?.swap_bytes();
        Some(format!("{address}:{port}"))
    };
    Some((end("src")?, end("dst")?))
}

/// What the `_nfct` of a packet says.
pub(super) fn of_packet(decoder: &mut Decoder<'_>, nfct: u64) -> Option<String> {
    if nfct == 0 {
        return None;
    }
    let info = INFOS[usize::try_from(nfct & INFO).unwrap_or(0)];
    let said = decoder.decode("nf_conn", nfct & !INFO);
    Some(said.map_or_else(|| info.to_string(), |said| format!("{info}: {}", said.summary)))
}
