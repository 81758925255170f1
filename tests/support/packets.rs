//! What a run has captured.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
use pcap_file::pcapng::{Block, PcapNgReader};

/// A packet of packets.pcapng.
pub(crate) struct Packet {
    /// Like `client:eth0`.
    pub(crate) interface: String,
    /// Since 1970, on the guest's clock.
    pub(crate) time: Duration,
    /// From the Ethernet header on.
    pub(crate) frame: Vec<u8>,
}

/// Flags of TCP.
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const ACK: u8 = 0x10;

impl Packet {
    /// The protocol that IPv4 carries, and what of it there is.
    pub(crate) fn ip(&self) -> Option<(u8, &[u8])> {
        let ip = self.frame.get(12..)?.strip_prefix(&[0x08, 0x00])?;
        Some((ip[9], &ip[usize::from(ip[0] & 15) * 4..]))
    }

    /// Source and destination port, sequence number and flags of a TCP segment.
    pub(crate) fn tcp(&self) -> Option<(u16, u16, u32, u8)> {
        let (6, tcp) = self.ip()? else { return None };
        let port = |at: usize| u16::from_be_bytes(tcp[at..at + 2].try_into().unwrap());
        Some((port(0), port(2), u32::from_be_bytes(tcp[4..8].try_into().unwrap()), tcp[13]))
    }
}

/// The packets of a run, in their order.
pub(crate) fn packets(out: &Path) -> Vec<Packet> {
    let mut reader = PcapNgReader::new(File::open(out.join("packets.pcapng")).unwrap()).unwrap();
    let (mut names, mut packets) = (Vec::new(), Vec::new());
    while let Some(block) = reader.next_block() {
        match block.unwrap() {
            Block::InterfaceDescription(interface) => {
                let name = interface.options.iter().find_map(|option| match option {
                    InterfaceDescriptionOption::IfName(name) => Some(name.to_string()),
                    _ => None,
                });
                names.push(name.unwrap());
            }
            Block::EnhancedPacket(packet) => packets.push(Packet {
                interface: names[packet.interface_id as usize].clone(),
                time: packet.timestamp,
                frame: packet.data.into_owned(),
            }),
            other => panic!("{other:?}"),
        }
    }
    packets
}
