//! `guest.network`: how the guest is connected, and what is inside it.
//!
//! Pure data, one to one with the YAML.

use core::net::Ipv4Addr;
use std::collections::BTreeMap;
use std::fmt;

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Deserializer, Serialize};

use super::capture::CaptureSpec;
use super::topology::TopologySpec;

/// The interface of the guest's network card, in the first namespace.
pub const NIC: &str = "eth0";

/// The guest's address on QEMU's user network, which is the one that forwarded ports lead to.
pub const NIC_ADDRESS: IpNet = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 2, 15), 24));

/// The network beside `lo`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkSpec {
    /// How the guest is connected.
    #[serde(default)]
    pub mode: NetworkMode,
    /// TCP ports of the guest that a port of the host's loopback leads to, by name.
    #[serde(default)]
    pub forward: BTreeMap<String, Forward>,
    /// Hosts and links inside the guest.
    #[serde(default)]
    pub topology: Option<TopologySpec>,
    /// Whose packets are captured.
    #[serde(default)]
    pub capture: CaptureSpec,
}

/// How the guest is connected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// No network card: `lo`, a topology and what the trigger sets up (veth, bridge, dummy).
    #[default]
    None,
    /// A network card, [`NIC`], on a network that QEMU makes up for this guest alone. Nothing outside is reached from it.
    User,
}

/// A TCP port of the guest that can be reached from the host. Written `8080`, or `{ guest: 8080, host: 18080 }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Forward {
    /// The guest's port.
    pub guest: Port,
    /// The port of the host's loopback; none: the system chooses a free one.
    pub host: Option<Port>,
}

/// A TCP port: 1 to 65535.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Port(u16);

impl Port {
    /// Its number.
    pub fn number(self) -> u16 {
        self.0
    }

    fn new<E: serde::de::Error>(number: impl fmt::Display) -> Result<Port, E> {
        let number = number.to_string();
        let port = number.parse().ok().filter(|port| *port != 0).map(Port);
        port.ok_or_else(|| E::custom(format!("`{number}` is not a port: it must be 1 to 65535")))
    }
}

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Port::new(i64::deserialize(deserializer)?)
    }
}

impl<'de> Deserialize<'de> for Forward {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Keys {
            guest: Port,
            #[serde(default)]
            host: Option<Port>,
        }
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Forward;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port of the guest like `8080`, or `{ guest: 8080, host: 18080 }`")
            }
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Forward, E> {
                Ok(Forward { guest: Port::new(number)?, host: None })
            }
            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Forward, E> {
                Ok(Forward { guest: Port::new(number)?, host: None })
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Forward, A::Error> {
                let Keys { guest, host } = Keys::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(Forward { guest, host })
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
