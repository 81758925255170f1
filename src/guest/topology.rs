//! A network as the commands that set it up in the guest, piece by piece, so that a piece that fails can be named.
//!
//! Pure. The names and numbers in the commands have passed the recipe's check: no shell makes anything else of them.

use core::net::IpAddr;
use std::fmt::Write;

use crate::recipe::network::{NIC, NIC_ADDRESS};
use crate::recipe::topology::{HostSpec, Masquerade, ROOT, TopologySpec};

/// One thing that is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Its place in the recipe, like `guest.network.topology.links[0]`.
    pub path: String,
    /// What it is, for people.
    pub what: String,
    /// What the kernel must be able to do for it.
    pub needs: &'static [Need],
    /// Shell commands, one a line; all must succeed.
    commands: Vec<String>,
}

/// An option of Kconfig, and the module that it becomes where it is `m`; some are never one.
pub type Need = (&'static str, Option<&'static str>);

/// What the script writes to standard error before the number of the piece that failed.
const FAILED: &str = "kdbg: failed piece ";
const PATH: &str = "guest.network.topology";

/// What gives the network card its address.
pub fn nic() -> Piece {
    let commands = vec![format!("ip address add {NIC_ADDRESS} dev {NIC}"), format!("ip link set {NIC} up")];
    let path = "guest.network.mode".into();
    Piece {
        path,
        what: format!("the network card {NIC}"),
        needs: &[("INET", None), ("VIRTIO_NET", Some("virtio_net"))],
        commands,
    }
}

/// Everything that sets up `topology`, in an order in which it can be.
pub fn pieces(topology: &TopologySpec) -> Vec<Piece> {
    let hosts = || topology.hosts.iter().map(|(name, host)| (name.as_str(), host));
    let mut pieces: Vec<Piece> = topology.names().filter(|name| *name != ROOT).map(host).collect();
    pieces.extend((0..topology.links.len()).map(|index| link(topology, index)));
    pieces.extend(hosts().flat_map(|(name, host)| bridges(name, host)));
    pieces.extend(hosts().flat_map(|(name, host)| sysctls(name, host)));
    pieces.extend(hosts().flat_map(|(name, host)| addresses(name, host)));
    pieces.extend(topology.names().map(|name| up(topology, name)));
    pieces.extend(hosts().flat_map(|(name, host)| routes(name, host)));
    pieces.extend(hosts().flat_map(|(name, host)| masquerades(name, host)));
    pieces
}

/// The script that sets up all of it, or ends with 1 and says which piece failed.
pub fn script(pieces: &[Piece]) -> String {
    let mut script = failing();
    for (index, piece) in pieces.iter().enumerate() {
        for command in &piece.commands {
            let _ = writeln!(script, "{command} || failed {index}");
        }
    }
    script
}

/// The function of a script that ends it and says the number of what failed.
pub(super) fn failing() -> String {
    format!("failed() {{ echo '{FAILED}'\"$1\" >&2; exit 1; }}\n")
}

/// The number of the piece that failed, and what its command said, from what the script wrote to standard error.
pub fn failure(stderr: &str) -> Option<(usize, &str)> {
    let (said, number) = stderr.trim_end().rsplit_once(FAILED)?;
    Some((number.parse().ok()?, said.trim()))
}

fn piece(path: &str, what: String, needs: &'static [Need], commands: Vec<String>) -> Piece {
    Piece { path: format!("{PATH}.{path}"), what, needs, commands }
}

/// `ip`, on this host.
fn ip(host: &str) -> String {
    if host == ROOT { "ip".into() } else { format!("ip -n {host}") }
}

/// What runs a program on this host.
pub(super) fn exec(host: &str) -> String {
    if host == ROOT { String::new() } else { format!("ip netns exec {host} ") }
}

fn host(name: &str) -> Piece {
    let commands = vec![format!("ip netns add {name}"), format!("ip -n {name} link set lo up")];
    piece(&format!("hosts.{name}"), format!("host {name}"), &[("NET_NS", None), ("FILE_LOCKING", None)], commands)
}

fn link(topology: &TopologySpec, index: usize) -> Piece {
    let [one, other] = &topology.links[index];
    let place = |host: &str| if host == ROOT { "1".into() } else { host.to_owned() };
    // From the one host: of the name that an interface is to have there, none may be where the command is given.
    let command = format!(
        "{} link add name {} type veth peer name {} netns {}",
        ip(&one.host),
        one.interface,
        other.interface,
        place(&other.host)
    );
    piece(&format!("links[{index}]"), format!("link {one} – {other}"), &[("VETH", Some("veth"))], vec![command])
}

fn bridges(name: &str, host: &HostSpec) -> Vec<Piece> {
    let ip = ip(name);
    let bridge = |(bridge, ports): (&String, &Vec<String>)| {
        let mut commands = vec![format!("{ip} link add name {bridge} type bridge forward_delay 0")];
        commands.extend(ports.iter().map(|port| format!("{ip} link set dev {port} master {bridge}")));
        piece(
            &format!("hosts.{name}.bridges.{bridge}"),
            format!("bridge {name}:{bridge}"),
            &[("BRIDGE", Some("bridge"))],
            commands,
        )
    };
    host.bridges.iter().map(bridge).collect()
}

fn sysctls(name: &str, host: &HostSpec) -> Vec<Piece> {
    let sysctl = |(parameter, value): (&String, &crate::recipe::topology::SysctlValue)| {
        let command = format!("{}sysctl -qw '{parameter}={}'", exec(name), value.0);
        piece(&format!("hosts.{name}.sysctls.{parameter}"), format!("{parameter} on {name}"), &[], vec![command])
    };
    host.sysctls.iter().map(sysctl).collect()
}

fn addresses(name: &str, host: &HostSpec) -> Vec<Piece> {
    let ip = ip(name);
    let addresses = |(interface, addresses): (&String, &crate::recipe::topology::Addresses)| {
        let add = |address: &ipnet::IpNet| {
            // An address that is still being looked for cannot be used.
            let at_once = if address.addr().is_ipv6() { " nodad" } else { "" };
            format!("{ip} address add {address} dev {interface}{at_once}")
        };
        let commands = addresses.0.iter().map(add).collect();
        piece(&format!("hosts.{name}.addresses.{interface}"), format!("addresses of {name}:{interface}"), &[], commands)
    };
    host.addresses.iter().map(addresses).collect()
}

/// All interfaces of a host are up once they have their addresses.
fn up(topology: &TopologySpec, name: &str) -> Piece {
    let ip = ip(name);
    let commands = topology.interfaces(name).map(|interface| format!("{ip} link set dev {interface} up")).collect();
    piece(&format!("hosts.{name}"), format!("interfaces of {name}"), &[], commands)
}

fn routes(name: &str, host: &HostSpec) -> Vec<Piece> {
    let route = |(destination, gateway): (&crate::recipe::topology::Destination, &IpAddr)| {
        let family = if gateway.is_ipv6() { " -6" } else { "" };
        let command = format!("{}{family} route add {destination} via {gateway}", ip(name));
        piece(
            &format!("hosts.{name}.routes.{destination}"),
            format!("route to {destination} on {name}"),
            &[],
            vec![command],
        )
    };
    host.routes.iter().map(route).collect()
}

fn masquerades(name: &str, host: &HostSpec) -> Vec<Piece> {
    let nft = format!("{}nft", exec(name));
    let masquerade = |(index, masquerade): (usize, &Masquerade)| {
        let family = if masquerade.from.addr().is_ipv6() { "ip6" } else { "ip" };
        let leaving = match (&masquerade.out, &masquerade.not_out) {
            (Some(out), _) => format!("oifname \"{out}\" "),
            (_, Some(not)) => format!("oifname != \"{not}\" "),
            _ => String::new(),
        };
        let commands = vec![
            format!("{nft} 'add table {family} kdbg'"),
            format!("{nft} 'add chain {family} kdbg postrouting {{ type nat hook postrouting priority 100; }}'"),
            format!(
                "{nft} 'add rule {family} kdbg postrouting {family} saddr {} {leaving}masquerade'",
                masquerade.from
            ),
        ];
        let what = format!("masquerade of {} on {name}", masquerade.from);
        let needs = &[
            ("NF_TABLES_IPV4", Some("nf_tables")),
            ("NFT_NAT", Some("nft_chain_nat")),
            ("NFT_MASQ", Some("nft_masq")),
        ];
        piece(&format!("hosts.{name}.masquerade[{index}]"), what, needs, commands)
    };
    host.masquerade.iter().enumerate().map(masquerade).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAT: &str = "
hosts:
  root:
    bridges: { br0: [port0] }
    addresses: { br0: 172.17.0.1/16, outer: [10.9.0.1/24, 'fd00::1/64'] }
    sysctls: { net.ipv4.ip_forward: 1 }
    masquerade: [{ from: 172.17.0.0/16, not_out: br0 }]
  client:
    addresses: { eth0: 172.17.0.2/16 }
    routes: { default: 172.17.0.1 }
  server: {}
links:
  - [client:eth0, root:port0]
  - [server:eth0, root:outer]
";

    #[test]
    fn a_topology_is_set_up_from_the_hosts_to_the_rules() {
        let pieces = pieces(&serde_yaml::from_str(NAT).unwrap());
        insta::assert_snapshot!(script(&pieces));
        assert_eq!(pieces[2].what, "link client:eth0 – root:port0");
        assert_eq!(pieces[2].path, "guest.network.topology.links[0]");
    }

    #[test]
    fn a_name_is_not_taken_for_a_word_of_the_command() {
        // `a` is short for `address` to ip, and `ip` a protocol to nft.
        let names = "{ hosts: { root: { masquerade: [{ from: 10.0.0.0/8, out: ip }] } }, links: [[root:a, root:ip]] }";
        let script = script(&pieces(&serde_yaml::from_str(names).unwrap()));
        for command in ["ip link add name a type veth peer name ip ", "ip link set dev a up ", " oifname \"ip\" "] {
            assert!(script.contains(command), "{command}\n{script}");
        }
    }

    #[test]
    fn the_piece_that_failed_is_found_behind_what_its_command_said() {
        assert_eq!(failure("RTNETLINK answers: no\nkdbg: failed piece 7\n"), Some((7, "RTNETLINK answers: no")));
        assert_eq!(failure("sh: syntax error\n"), None);
    }
}
