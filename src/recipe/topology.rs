//! `guest.network.topology`: hosts (network namespaces of the guest), the links between them, and what each host has.
//!
//! Pure data, one to one with the YAML. [`crate::guest::topology`] knows the commands that set it up.

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The guest's first network namespace, which is always there.
pub const ROOT: &str = "root";

/// A network inside the guest.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TopologySpec {
    /// The hosts by name. [`ROOT`] is the guest itself; every other one is a network namespace of its own.
    pub hosts: BTreeMap<String, HostSpec>,
    /// Cables: two ends each, a pair of veth interfaces.
    pub links: Vec<[Endpoint; 2]>,
}

/// What a host has.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HostSpec {
    /// Bridges by name, and the interfaces that are their ports.
    pub bridges: BTreeMap<String, Vec<String>>,
    /// Addresses by interface, like `10.9.0.1/24`.
    pub addresses: BTreeMap<String, Addresses>,
    /// Gateways by destination, which is a network or `default`.
    pub routes: BTreeMap<Destination, IpAddr>,
    /// Kernel parameters, like `net.ipv4.ip_forward: 1`.
    pub sysctls: BTreeMap<String, SysctlValue>,
    /// Whose sources are replaced by the address of the interface that a packet leaves through.
    pub masquerade: Vec<Masquerade>,
}

/// An interface of a host, like the end of a link: `HOST:INTERFACE`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// The host's name.
    pub host: String,
    /// The interface.
    pub interface: String,
}

/// The addresses of an interface: one, or a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Addresses(pub Vec<IpNet>);

/// Where a route leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Destination {
    /// Everything that no other route takes.
    Default,
    /// A network.
    Network(IpNet),
}

/// The value of a kernel parameter, as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct SysctlValue(pub String);

/// Packets that are masqueraded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Masquerade {
    /// Those with a source in this network.
    pub from: IpNet,
    /// Those that leave through this interface.
    #[serde(default)]
    pub out: Option<String>,
    /// Those that leave through any other interface than this.
    #[serde(default)]
    pub not_out: Option<String>,
}

impl TopologySpec {
    /// The interfaces that a host has: ends of links, and bridges.
    pub fn interfaces<'t>(&'t self, host: &'t str) -> impl Iterator<Item = &'t str> {
        let ends = self.links.iter().flatten().filter(move |end| end.host == host).map(|end| end.interface.as_str());
        ends.chain(self.hosts.get(host).into_iter().flat_map(|host| host.bridges.keys().map(String::as_str)))
    }

    /// The names of all hosts, [`ROOT`] among them.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let others = self.hosts.keys().map(String::as_str).filter(|name| *name != ROOT);
        std::iter::once(ROOT).chain(others)
    }
}

impl FromStr for Endpoint {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some((host, interface)) => Ok(Endpoint { host: host.trim().into(), interface: interface.trim().into() }),
            None => Err(format!("`{text}` is no interface of a host: write it as `HOST:INTERFACE`, like `root:veth0`")),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.interface)
    }
}

impl FromStr for Destination {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "default" {
            return Ok(Destination::Default);
        }
        let network =
            text.parse().map_err(|_| format!("`{text}` is no destination: `default`, or like `10.0.0.0/8`"))?;
        Ok(Destination::Network(network))
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Destination::Default => f.write_str("default"),
            Destination::Network(network) => network.fmt(f),
        }
    }
}

/// Through their text.
macro_rules! as_text {
    ($type:ty) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}
as_text!(Endpoint);
as_text!(Destination);

impl<'de> Deserialize<'de> for Addresses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        fn address<E: serde::de::Error>(text: &str) -> Result<IpNet, E> {
            text.parse().map_err(|_| E::custom(format!("`{text}` is not an address: write it as `10.9.0.1/24`")))
        }
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Addresses;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address like `10.9.0.1/24`, or a list of them")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Addresses, E> {
                Ok(Addresses(vec![address(text)?]))
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Addresses, A::Error> {
                let mut addresses = Vec::new();
                while let Some(text) = list.next_element::<String>()? {
                    addresses.push(address(&text)?);
                }
                Ok(Addresses(addresses))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl<'de> Deserialize<'de> for SysctlValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = SysctlValue;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number or text")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<SysctlValue, E> {
                Ok(SysctlValue(text.into()))
            }
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<SysctlValue, E> {
                Ok(SysctlValue(number.to_string()))
            }
            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<SysctlValue, E> {
                Ok(SysctlValue(number.to_string()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
