//! Packets of GDB's remote protocol: from bytes and to bytes. Pure.
//!
//! What is no packet, or one whose checksum is wrong, is skipped: a client that talks nonsense harms nobody.

/// The longest packet that is taken, in bytes; GDB is told, and keeps to it.
pub(super) const LONGEST: usize = 16 << 10;
/// Where RIP is in the packet `g`: behind sixteen registers of eight bytes.
const RIP: usize = 16 * 8;

/// Something that a client sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// A packet's content.
    Packet(Vec<u8>),
    /// A packet that did not come through.
    Broken,
    /// It wants what runs to stop.
    Interrupt,
}

/// A packet on its way in.
#[derive(Debug, Default)]
pub struct Reader {
    state: State,
    body: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy)]
enum State {
    #[default]
    Outside,
    Body,
    /// The first digit of the checksum comes.
    Sum,
    /// The second one does.
    Rest(u8),
}

impl Reader {
    /// Takes in a byte. Gives what it completes.
    pub fn push(&mut self, byte: u8) -> Option<Sent> {
        match self.state {
            State::Outside => {
                match byte {
                    b'$' => self.begin(),
                    3 => return Some(Sent::Interrupt),
                    _ => {}
                }
                None
            }
            State::Body => {
                match byte {
                    // The one before was cut off.
                    b'$' => self.begin(),
                    b'#' => self.state = State::Sum,
                    _ if self.body.len() == LONGEST => {
                        self.state = State::Outside;
                        return Some(Sent::Broken);
                    }
                    _ => self.body.push(byte),
                }
                None
            }
            State::Sum => {
                self.state = State::Rest(byte);
                None
            }
            State::Rest(first) => {
                self.state = State::Outside;
                let body = std::mem::take(&mut self.body);
                let told = digit(first).zip(digit(byte)).map(|(high, low)| high << 4 | low);
                Some(if told == Some(sum(&body)) { Sent::Packet(body) } else { Sent::Broken })
            }
        }
    }

    fn begin(&mut self) {
        self.body.clear();
        self.state = State::Body;
    }
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn sum(body: &[u8]) -> u8 {
    body.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// A packet with this content, which has no bytes that would have to be escaped.
pub fn packet(body: &str) -> Vec<u8> {
    frame(body.as_bytes())
}

/// A packet whose content is escaped already.
pub(super) fn frame(body: &[u8]) -> Vec<u8> {
    [b"$", body, format!("#{:02x}", sum(body)).as_bytes()].concat()
}

/// The packet that has the client print a text while what it debugs runs.
pub(super) fn console(text: &str) -> Vec<u8> {
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    packet(&format!("O{hex}"))
}

/// The program counter, of all registers.
pub fn program_counter(registers: &[u8]) -> Option<u64> {
    let bytes = registers.get(RIP..RIP + 8)?;
    bytes.try_into().ok().map(u64::from_le_bytes)
}

/// How many bytes a packet wants to read of memory, if it does.
pub(super) fn read_length(body: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(body.strip_prefix(b"m")?).ok()?;
    let (_, length) = text.split_once(',')?;
    // One that is no number is too long.
    Some(u64::from_str_radix(length, 16).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Vec<Sent> {
        let mut reader = Reader::default();
        bytes.iter().filter_map(|byte| reader.push(*byte)).collect()
    }

    #[test]
    fn packets_are_found_between_what_is_none() {
        let packet = |body: &str| Sent::Packet(body.into());
        assert_eq!(read(b"+$g#67"), [packet("g")]);
        assert_eq!(read(b"\x03+-xyz$g#67$?#3F"), [Sent::Interrupt, packet("g"), packet("?")]);
        assert_eq!(read(b"$g#68$g#zz$g#67"), [Sent::Broken, Sent::Broken, packet("g")]);
        assert_eq!(read(b"$m0,4$g#67"), [packet("g")], "cut off by the next one");
        assert_eq!(read(b"$#00"), [packet("")]);
        let mut long = vec![b'$'];
        long.extend([b'a'; LONGEST + 1]);
        long.extend(b"#00$g#67");
        assert_eq!(read(&long), [Sent::Broken, packet("g")]);
    }

    #[test]
    fn packets_are_written_with_their_sum() {
        assert_eq!(packet("OK"), b"$OK#9a");
        assert_eq!(console("a\n"), b"$O610a#47");
    }

    #[test]
    fn the_program_counter_comes_after_the_general_registers() {
        let mut registers = vec![0; 608];
        registers[128..136].copy_from_slice(&0xffff_ffff_8100_0000_u64.to_le_bytes());
        assert_eq!(program_counter(&registers), Some(0xffff_ffff_8100_0000));
        assert_eq!(program_counter(&registers[..130]), None);
    }

    #[test]
    fn how_much_is_read_is_known_beforehand() {
        assert_eq!(read_length(b"mffffffff81000000,40"), Some(64));
        assert_eq!(read_length(b"m0,x"), Some(u64::MAX));
        assert_eq!(read_length(b"g"), None);
    }
}
