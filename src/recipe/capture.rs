//! `guest.network.capture`: the interfaces of the guest whose packets go into packets.pcapng.
//!
//! Pure data. [`crate::guest::capture`] knows how it is done in the guest.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::network::{NIC, NetworkMode, NetworkSpec};
use super::topology::{Endpoint, ROOT, TopologySpec};

/// What is captured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum CaptureSpec {
    /// Nothing.
    #[default]
    Nothing,
    /// Every interface that kdbg knows of, `lo` left out.
    Everything,
    /// These interfaces.
    These(Vec<Endpoint>),
}

impl NetworkSpec {
    /// The interfaces that are there when the trigger begins, `lo` left out.
    pub fn interfaces(&self) -> Vec<Endpoint> {
        let nic = (self.mode == NetworkMode::User).then(|| Endpoint { host: ROOT.into(), interface: NIC.into() });
        let inside = self.topology.iter().flat_map(|topology| topology.names().flat_map(|host| of(topology, host)));
        nic.into_iter().chain(inside).collect()
    }

    /// The interfaces that are captured, in the order of packets.pcapng.
    pub fn captured(&self) -> Vec<Endpoint> {
        match &self.capture {
            CaptureSpec::Nothing => Vec::new(),
            CaptureSpec::Everything => self.interfaces(),
            CaptureSpec::These(interfaces) => interfaces.clone(),
        }
    }
}

fn of<'t>(topology: &'t TopologySpec, host: &'t str) -> impl Iterator<Item = Endpoint> {
    topology.interfaces(host).map(|interface| Endpoint { host: host.into(), interface: interface.into() })
}

impl<'de> Deserialize<'de> for CaptureSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = CaptureSpec;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`true`, or a list of interfaces like `client:eth0`")
            }
            fn visit_bool<E: serde::de::Error>(self, everything: bool) -> Result<CaptureSpec, E> {
                Ok(if everything { CaptureSpec::Everything } else { CaptureSpec::Nothing })
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<CaptureSpec, A::Error> {
                let mut interfaces = Vec::new();
                while let Some(interface) = list.next_element()? {
                    interfaces.push(interface);
                }
                Ok(CaptureSpec::These(interfaces))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for CaptureSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            CaptureSpec::Nothing => serializer.serialize_bool(false),
            CaptureSpec::Everything => serializer.serialize_bool(true),
            CaptureSpec::These(interfaces) => interfaces.serialize(serializer),
        }
    }
}
