//! Devices, network namespaces and routes.

use super::address::{hardware, ipv4};
use super::{Decoder, Object, Said};
use crate::layout::Wanted;

pub(super) const DEVICE: Wanted =
    ("net_device", &["name", "ifindex", "flags", "mtu", "dev_addr", "addr_len", "nd_net.net"]);
pub(super) const NAMESPACE: Wanted = ("net", &["ns.inum"]);
pub(super) const ROUTE: Wanted = ("dst_entry", &["dev", "input", "output", "error"]);
pub(super) const ROUTE4: Wanted = ("rtable", &["rt_type", "rt_gw4"]);

/// The enumeration of the types of routes has no name; this is one of them.
const ROUTE_TYPES: &str = "RTN_UNICAST";
/// Longest hardware address that is shown; Ethernet's has 6 bytes.
const LONGEST: u64 = 8;

/// Reads a `net_device`.
pub(super) fn device(decoder: &mut Decoder<'_>, device: &Object) -> Said {
    let number = |path: &str| decoder.number(device, path);
    let name = decoder.text(device, "name").unwrap_or_default();
    let flags = number("flags").map(|flags| decoder.flags("net_device_flags", flags));
    let (index, mtu) = (number("ifindex"), number("mtu"));
    let (at, length) = (number("dev_addr"), number("addr_len").filter(|length| (1..=LONGEST).contains(length)));
    let address = at.zip(length).and_then(|(at, length)| decoder.memory.read(at, length));
    let namespace = decoder.number(device, "nd_net.net").and_then(|net| decoder.decode("net", net));
    let number_text = index.map(|index| format!(", number {index}")).unwrap_or_default();
    Said::new(format!("{name}{number_text}, {}", flags.as_deref().unwrap_or("no flags")))
        .with("name", Some(name))
        .with("number", index)
        .with("flags", flags)
        .with("mtu", mtu)
        .with("address", address.map(|bytes| hardware(&bytes)))
        .with("namespace", namespace.map(|said| said.summary))
}

/// Reads a `net`: named as `readlink /proc/PID/ns/net` does.
pub(super) fn namespace(decoder: &mut Decoder<'_>, net: &Object) -> Said {
    let number = decoder.number(net, "ns.inum");
    let name = number.map_or_else(|| "a network namespace".into(), |number| format!("net:[{number}]"));
    Said::new(name).with("inum", number)
}

/// Reads a `dst_entry`.
pub(super) fn route(decoder: &mut Decoder<'_>, route: &Object) -> Said {
    let number = |path: &str| decoder.number(route, path);
    let function = |path: &str| number(path).filter(|at| *at != 0).and_then(|at| (decoder.function)(at));
    let (input, output) = (function("input"), function("output"));
    let error = number("error").filter(|error| *error != 0).map(|error| super::errno::name(error.wrapping_neg()));
    let device = number("dev");
    let device = device.and_then(|device| decoder.device_name(device));
    let rtable = decoder.object("rtable", route.address);
    let gateway = rtable.as_ref().and_then(|route| ipv4(route.bytes_of(decoder.layouts, "rt_gw4")?));
    let gateway = gateway.filter(|gateway| !gateway.is_unspecified());
    // What a dst_entry is in cannot be told from outside. As an rtable's, this is a small number.
    let of_type = rtable.and_then(|route| decoder.number(&route, "rt_type"));
    let of_type = of_type.and_then(|value| decoder.layouts.enumerator(ROUTE_TYPES, i64::try_from(value).ok()?));
    let of_type = of_type.filter(|name| *name != "RTN_UNSPEC").map(String::from);
    let mut parts: Vec<String> = of_type.iter().cloned().collect();
    parts.extend(device.iter().map(|device| format!("by {device}")));
    parts.extend(gateway.map(|gateway| format!("via {gateway}")));
    parts.extend(input.iter().map(|function| format!("in: {function}")));
    parts.extend(output.iter().map(|function| format!("out: {function}")));
    parts.extend(error.iter().map(|error| format!("error {error}")));
    Said::new(parts.join(", "))
        .with("device", device)
        .with("gateway", gateway)
        .with("type", of_type)
        .with("input", input)
        .with("output", output)
        .with("error", error)
}
