//! `guest.network`: how the guest is connected, and what is inside it.
//!
//! Pure data, one to one with the YAML.

use core::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

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
