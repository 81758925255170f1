//! packets.pcapng: the captures of a run's interfaces, as one file in the order of time.
//!
//! Pure: streams in, a stream out.

use std::borrow::Cow;
use std::io::{Read, Write};

use pcap_file::pcap::{PcapReader, RawPcapPacket};
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::pcapng::{PcapNgBlock, PcapNgWriter};
use pcap_file::{Endianness, PcapError, TsResolution};

use super::model::Captured;

/// The file's name in the run directory.
pub const FILE: &str = "packets.pcapng";

/// `12 on client:eth0, 9 on root:outer`; none where nothing was to be captured.
pub fn said(captured: &[Captured]) -> Option<String> {
    let said: Vec<String> = captured.iter().map(|one| format!("{} on {}", one.packets, one.interface)).collect();
    (!said.is_empty()).then(|| said.join(", "))
}

/// What was captured on one interface, on its way into the file.
struct Stream<R: Read> {
    pcap: PcapReader<R>,
    next: Option<Packet>,
    /// Its place among the streams that were given.
    index: usize,
}

struct Packet {
    /// Since 1970, on the guest's clock.
    nanoseconds: u64,
    original_len: u32,
    data: Vec<u8>,
}

/// Writes what the pcap `streams` of named interfaces hold to `to`, one interface a stream; gives the number of packets
/// of each. A stream may end anywhere: a packet that is not whole is left out, and so is an interface that is not.
///
/// # Errors
/// `to` cannot be written.
pub fn merge<R: Read, W: Write>(streams: Vec<(String, R)>, to: W) -> Result<Vec<u64>, PcapError> {
    let mut counts = vec![0; streams.len()];
    let program = SectionHeaderOption::UserApplication(concat!("kdbg ", env!("CARGO_PKG_VERSION")).into());
    let header =
        SectionHeaderBlock { endianness: Endianness::Little, options: vec![program], ..SectionHeaderBlock::default() };
    let mut file = PcapNgWriter::with_section_header(to, header)?;
    let mut open = Vec::new();
    for (index, (name, pcap)) in streams.into_iter().enumerate() {
        let Ok(pcap) = PcapReader::new(pcap) else { continue };
        file.write_block(&interface(name, &pcap).into_block())?;
        let mut stream = Stream { pcap, next: None, index };
        stream.advance();
        open.push(stream);
    }
    while let Some((id, packet)) = earliest(&mut open) {
        let block = EnhancedPacketBlock {
            interface_id: u32::try_from(id).unwrap_or(u32::MAX),
            timestamp: std::time::Duration::from_nanos(packet.nanoseconds),
            original_len: packet.original_len,
            data: Cow::Owned(packet.data),
            options: Vec::new(),
        };
        file.write_block(&block.into_block())?;
        counts[open[id].index] += 1;
    }
    Ok(counts)
}

fn interface<R: Read>(name: String, pcap: &PcapReader<R>) -> InterfaceDescriptionBlock<'static> {
    let header = pcap.header();
    // Times are in units of 10^-9 s.
    let options = vec![InterfaceDescriptionOption::IfName(name.into()), InterfaceDescriptionOption::IfTsResol(9)];
    InterfaceDescriptionBlock { linktype: header.datalink, snaplen: header.snaplen, options }
}

/// The next packet in time, and the interface's number in the file. Of several at one time, the first interface's.
fn earliest<R: Read>(open: &mut [Stream<R>]) -> Option<(usize, Packet)> {
    let times = open.iter().enumerate().filter_map(|(id, stream)| Some((stream.next.as_ref()?.nanoseconds, id)));
    let (_, id) = times.min()?;
    Some((id, open.get_mut(id)?.advance()?))
}

impl<R: Read> Stream<R> {
    /// Gives the packet that was next, and reads the one after it.
    fn advance(&mut self) -> Option<Packet> {
        let resolution = self.pcap.header().ts_resolution;
        let next = self.pcap.next_raw_packet().and_then(Result::ok).map(|raw| packet(&raw, resolution));
        std::mem::replace(&mut self.next, next)
    }
}

fn packet(raw: &RawPcapPacket<'_>, resolution: TsResolution) -> Packet {
    let unit = if resolution == TsResolution::NanoSecond { 1 } else { 1000 };
    Packet {
        nanoseconds: u64::from(raw.ts_sec) * 1_000_000_000 + u64::from(raw.ts_frac) * unit,
        original_len: raw.orig_len,
        data: raw.data.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use pcap_file::DataLink;
    use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
    use pcap_file::pcapng::{Block, PcapNgReader};

    use super::*;

    /// A pcap of packets at these times, in nanoseconds; each says its place.
    fn pcap(resolution: TsResolution, link: DataLink, times: &[u64]) -> Vec<u8> {
        let header =
            PcapHeader { ts_resolution: resolution, datalink: link, snaplen: 262_144, ..PcapHeader::default() };
        let mut writer = PcapWriter::with_header(Vec::new(), header).unwrap();
        for (place, time) in times.iter().enumerate() {
            let data = vec![u8::try_from(place).unwrap(); place + 1];
            let packet = PcapPacket::new(std::time::Duration::from_nanos(*time), 100, &data);
            writer.write_packet(&packet).unwrap();
        }
        writer.into_writer()
    }

    fn nano(times: &[u64]) -> Vec<u8> {
        pcap(TsResolution::NanoSecond, DataLink::ETHERNET, times)
    }

    /// Interfaces (name, link type, snap length), and packets (interface, time, length).
    type Content = (Vec<(String, DataLink, u32)>, Vec<(u32, u64, usize)>);

    /// What the merge of these streams holds.
    fn merged(streams: &[(&str, &[u8])]) -> (Vec<u64>, Content) {
        let mut file = Vec::new();
        let streams = streams.iter().map(|(name, pcap)| ((*name).to_owned(), *pcap)).collect();
        let counts = merge(streams, &mut file).unwrap();
        let mut reader = PcapNgReader::new(&file[..]).unwrap();
        let mut content = Content::default();
        while let Some(block) = reader.next_block() {
            match block.unwrap() {
                Block::InterfaceDescription(interface) => {
                    let [InterfaceDescriptionOption::IfName(name), InterfaceDescriptionOption::IfTsResol(9)] =
                        &interface.options[..]
                    else {
                        panic!("{interface:?}")
                    };
                    content.0.push((name.to_string(), interface.linktype, interface.snaplen));
                }
                Block::EnhancedPacket(packet) => {
                    let time = u64::try_from(packet.timestamp.as_nanos()).unwrap();
                    assert_eq!(packet.original_len, 100);
                    content.1.push((packet.interface_id, time, packet.data.len()));
                }
                other => panic!("{other:?}"),
            }
        }
        (counts, content)
    }

    #[test]
    fn packets_are_in_the_order_of_time_and_know_their_interface() {
        let micro = pcap(TsResolution::MicroSecond, DataLink::RAW, &[2_000, 9_000]);
        let (counts, (interfaces, packets)) = merged(&[("a:eth0", &nano(&[1_999, 2_000, 7_001])), ("b:tun0", &micro)]);
        assert_eq!(counts, [3, 2]);
        let named = |name: &str, link| (name.to_owned(), link, 262_144);
        assert_eq!(interfaces, [named("a:eth0", DataLink::ETHERNET), named("b:tun0", DataLink::RAW)]);
        // At the same time the first interface comes first.
        assert_eq!(packets, [(0, 1_999, 1), (0, 2_000, 2), (1, 2_000, 1), (0, 7_001, 3), (1, 9_000, 2)]);
    }

    #[test]
    fn a_stream_that_is_cut_anywhere_gives_its_whole_packets() {
        let whole = nano(&[10, 20, 30]);
        let other = nano(&[15]);
        // A header of 24 bytes, then packets of 16 bytes and their data.
        let ends = [24 + 17, 24 + 17 + 18, 24 + 17 + 18 + 19];
        assert_eq!(ends[2], whole.len());
        for cut in 0..=whole.len() {
            let (counts, (interfaces, packets)) = merged(&[("cut", &whole[..cut]), ("other", &other)]);
            let left = ends.iter().filter(|end| **end <= cut).count() as u64;
            assert_eq!(counts, [left, 1], "cut at {cut}");
            assert_eq!(interfaces.len(), if cut < 24 { 1 } else { 2 });
            let id = u32::try_from(interfaces.len()).unwrap() - 1;
            assert!(packets.contains(&(id, 15, 1)), "the other one has its own number: {packets:?}");
        }
    }

    #[test]
    fn what_is_no_capture_does_no_harm() {
        let garbage = [&nano(&[10])[..], &[0xff; 40]].concat();
        let (counts, _) = merged(&[("a", &garbage), ("b", b"tcpdump: no such thing, and more words"), ("c", b"")]);
        assert_eq!(counts, [1, 0, 0]);
    }
}
