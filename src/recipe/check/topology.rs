//! What makes no sense below `guest.network.topology`: names that are none, ends that hang in the air, addresses that
//! overlap.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::Checker;
use crate::recipe::network::{NIC, NIC_ADDRESS};
use crate::recipe::topology::{Endpoint, HostSpec, ROOT, TopologySpec};
use crate::spelling;

const PATH: &str = "guest.network.topology";

/// As the kernel takes it, and no shell makes anything else of it.
fn is_interface(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=15).contains(&name.len()) && name.chars().all(plain) && !name.starts_with(['-', '.'])
}

/// With a letter, because `ip` takes a number for a process whose namespace is meant: 1 is how the guest's own is named.
fn is_host(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let has_letter = name.chars().any(|c| c.is_ascii_lowercase());
    (1..=32).contains(&name.len()) && name.chars().all(plain) && !name.starts_with('-') && has_letter
}

/// `net.ipv4.ip_forward`; only what belongs to a network namespace.
fn is_sysctl(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    name.starts_with("net.") && name.chars().all(plain) && !name.contains("..")
}

impl Checker<'_, '_> {
    /// `nic`: the guest has a network card beside what the topology gives it.
    pub(super) fn topology(&mut self, topology: &TopologySpec, nic: bool) {
        for name in topology.hosts.keys().filter(|name| !is_host(name)) {
            self.key(&format!("{PATH}.hosts.{name}"), format!("`{name}` cannot name a host"), "")
                .help("a name has up to 32 lower-case letters, digits and `-`, and at least one letter");
        }
        self.links(topology, nic);
        for (name, host) in &topology.hosts {
            let path = format!("{PATH}.hosts.{name}");
            let nic = nic && name == ROOT;
            self.bridges(&path, name, host, topology);
            if nic && host.bridges.contains_key(NIC) {
                self.taken_by_nic(&format!("{path}.bridges.{NIC}"));
            }
            self.known_interfaces(&path, name, host, topology.interfaces(name).chain(nic.then_some(NIC)));
            self.routes(&path, name, host);
            self.parameters(&path, host);
        }
        self.overlaps(topology, nic);
    }

    fn taken_by_nic(&mut self, at: &str) {
        self.key(at, format!("`{ROOT}` has two interfaces named `{NIC}`"), "the guest's network card is the other one")
            .help("`guest.network.mode: user` gives the guest a network card: name this one otherwise");
    }

    fn links(&mut self, topology: &TopologySpec, nic: bool) {
        let mut seen = BTreeSet::new();
        for (index, link) in topology.links.iter().enumerate() {
            for (side, end) in link.iter().enumerate() {
                let at = format!("{PATH}.links[{index}][{side}]");
                self.end(&at, end, topology);
                if !seen.insert(end) {
                    self.value(&at, format!("`{end}` is the end of two links"), "second time");
                }
                if nic && end.host == ROOT && end.interface == NIC {
                    self.taken_by_nic(&at);
                }
            }
        }
    }

    fn end(&mut self, at: &str, end: &Endpoint, topology: &TopologySpec) {
        let Endpoint { host, interface } = end;
        self.host_is_there(at, host, topology, "this end hangs in the air");
        if !is_interface(interface) {
            self.value(at, format!("`{interface}` cannot name an interface"), "")
                .help("up to 15 letters, digits, `-`, `_` and `.`");
        }
    }

    pub(super) fn host_is_there(&mut self, at: &str, host: &str, topology: &TopologySpec, label: &str) -> bool {
        let is_there = topology.names().any(|name| name == host);
        if !is_there {
            let all = format!("the hosts are {}", spelling::listed(topology.names()));
            let help =
                spelling::did_you_mean(host, topology.names()).map_or(all.clone(), |near| format!("{near}\n{all}"));
            self.value(at, format!("there is no host `{host}`"), label).help(help);
        }
        is_there
    }

    fn bridges(&mut self, path: &str, name: &str, host: &HostSpec, topology: &TopologySpec) {
        let ends: BTreeSet<&str> =
            topology.links.iter().flatten().filter(|end| end.host == name).map(|end| end.interface.as_str()).collect();
        let mut seen = BTreeSet::new();
        for (bridge, ports) in &host.bridges {
            let at = format!("{path}.bridges.{bridge}");
            if !is_interface(bridge) {
                self.key(&at, format!("`{bridge}` cannot name an interface"), "")
                    .help("up to 15 letters, digits, `-`, `_` and `.`");
            }
            if ends.contains(bridge.as_str()) {
                self.key(&at, format!("`{name}` has two interfaces named `{bridge}`"), "a link gives it the other one");
            }
            for (index, port) in ports.iter().enumerate() {
                let at = format!("{at}[{index}]");
                if !ends.contains(port.as_str()) {
                    self.no_interface(&at, name, port, ends.iter().copied());
                } else if !seen.insert(port) {
                    self.value(&at, format!("`{port}` is a port of two bridges"), "second time");
                }
            }
        }
    }

    /// Whatever names an interface must name one that the host has.
    fn known_interfaces<'n>(&mut self, path: &str, name: &str, host: &HostSpec, there: impl Iterator<Item = &'n str>) {
        let there: Vec<&str> = there.chain(["lo"]).collect();
        for interface in host.addresses.keys().filter(|interface| !there.contains(&interface.as_str())) {
            self.no_interface(&format!("{path}.addresses.{interface}"), name, interface, there.iter().copied());
        }
        for (index, masquerade) in host.masquerade.iter().enumerate() {
            let at = format!("{path}.masquerade[{index}]");
            let named = [("out", &masquerade.out), ("not_out", &masquerade.not_out)];
            for (key, interface) in named.iter().filter_map(|(key, name)| Some((key, name.as_ref()?))) {
                if !there.contains(&interface.as_str()) {
                    self.no_interface(&format!("{at}.{key}"), name, interface, there.iter().copied());
                }
            }
            if masquerade.out.is_some() && masquerade.not_out.is_some() {
                self.value(&at, "a masquerade has `out` or `not_out`, not both", "");
            }
        }
    }

    pub(super) fn no_interface<'n>(
        &mut self,
        at: &str,
        host: &str,
        name: &str,
        there: impl Iterator<Item = &'n str> + Clone,
    ) {
        let help = match there.clone().next() {
            None => format!("no link ends at `{host}`"),
            Some(_) => format!("its interfaces are {}", spelling::listed(there)),
        };
        self.value(at, format!("`{host}` has no interface `{name}`"), "").help(help);
    }

    /// A gateway must be on a network that the host has an address in.
    fn routes(&mut self, path: &str, name: &str, host: &HostSpec) {
        let own = || host.addresses.values().flat_map(|addresses| &addresses.0);
        for (destination, gateway) in &host.routes {
            if !own().any(|address| address.contains(gateway)) {
                let at = format!("{path}.routes.{destination}");
                self.value(&at, format!("`{name}` cannot reach the gateway {gateway}"), "on none of its networks")
                    .help(format!("give an interface of `{name}` an address in the gateway's network"));
            }
        }
    }

    fn parameters(&mut self, path: &str, host: &HostSpec) {
        for (name, value) in &host.sysctls {
            let at = format!("{path}.sysctls.{name}");
            if !is_sysctl(name) {
                self.key(&at, format!("`{name}` is no kernel parameter of a network namespace"), "")
                    .help("write it as sysctl has it, like `net.ipv4.ip_forward`");
            }
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ' ');
            if value.0.is_empty() || !value.0.chars().all(plain) {
                self.value(&at, format!("`{}` cannot be the value of a kernel parameter", value.0), "");
            }
        }
    }

    /// Each address once, and on one host no two interfaces in the same network.
    fn overlaps(&mut self, topology: &TopologySpec, nic: bool) {
        let nic = nic.then_some((NIC, NIC_ADDRESS));
        let mut owners: BTreeMap<IpAddr, String> = BTreeMap::new();
        owners.extend(nic.map(|(interface, address)| (address.addr(), format!("{ROOT}:{interface}"))));
        for (name, host) in &topology.hosts {
            let mut networks: Vec<(&str, IpNet)> = nic.into_iter().filter(|_| name == ROOT).collect();
            for (interface, addresses) in &host.addresses {
                let at = format!("{PATH}.hosts.{name}.addresses.{interface}");
                for address in &addresses.0 {
                    let here = format!("{name}:{interface}");
                    if let Some(owner) = owners.get(&address.addr()) {
                        self.value(&at, format!("{} is the address of {owner} too", address.addr()), "second time");
                    } else if let Some((other, network)) = networks.iter().find(|(other, network)| {
                        *other != interface
                            && (network.contains(&address.network()) || address.contains(&network.network()))
                    }) {
                        let message = format!("{address} overlaps with {network} of `{other}`");
                        self.value(&at, message, format!("`{name}` would not know which way to send")).help(
                            "give the two interfaces different networks, or make one of them the port of a bridge",
                        );
                    }
                    owners.entry(address.addr()).or_insert(here);
                    networks.push((interface, *address));
                }
            }
        }
    }
}
