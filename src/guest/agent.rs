//! The protocol between kdbg and `images/init`: lines on the control port, bytes and end marks on the output ports.
//!
//! Pure: parses and formats; [`super`] owns the sockets. The agent is a shell script, so the protocol is one that a
//! shell can speak.

use crate::recipe::topology::ROOT;

/// Something the agent said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// It waits for scripts.
    Ready,
    /// The step with this id ended, with this code.
    Exit(String, i32),
    /// A line that is none of the protocol's.
    Unknown(String),
}

impl Said {
    /// Reads one line of the control port.
    pub fn parse(line: &str) -> Said {
        let mut words = line.split_whitespace();
        match (words.next(), words.next(), words.next().map(str::parse::<i32>), words.next()) {
            (Some("ready"), None, None, None) => Said::Ready,
            (Some("exit"), Some(id), Some(Ok(code)), None) => Said::Exit(id.into(), code),
            _ => Said::Unknown(line.into()),
        }
    }
}

/// What makes the agent say that it is ready, again.
pub fn ping() -> Vec<u8> {
    b"ping\n".to_vec()
}

/// What makes the agent run `script` as step `id`, in the network namespace `host` if one is named.
pub fn run(id: &str, script: &str, host: Option<&str>) -> Vec<u8> {
    // The first namespace has no name in the guest.
    let host = host.filter(|host| *host != ROOT).unwrap_or_default();
    format!("run {id} {} {host}\n{script}", script.len()).into_bytes()
}

/// What makes the agent kill step `id` with everything in its session.
pub fn kill(id: &str) -> Vec<u8> {
    format!("kill {id}\n").into_bytes()
}

const MARK: u8 = 0x1e;
const END: &str = "kdbg end ";

/// Splits the bytes of an output port into output and end marks, however they are cut into reads.
#[derive(Debug, Default)]
pub struct Demux {
    held: Vec<u8>,
}

/// A piece of an output port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Output of whatever runs.
    Bytes(Vec<u8>),
    /// Step `id` will write no more.
    End(String),
}

/// An end mark is short; what looks like one and is longer is output.
const LONGEST_MARK: usize = 96;

impl Demux {
    /// Takes what was read, gives what is known for sure.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Piece> {
        self.held.extend_from_slice(bytes);
        let mut pieces = Vec::new();
        let mut plain = Vec::new();
        let mut rest = std::mem::take(&mut self.held);
        while let Some(at) = rest.iter().position(|byte| *byte == MARK) {
            let tail = rest.split_off(at);
            plain.extend(rest);
            match tail[1..].iter().take(LONGEST_MARK).position(|byte| *byte == MARK) {
                Some(length) => match id_of(&tail[1..=length]) {
                    Some(id) => {
                        push_bytes(&mut pieces, &mut plain);
                        pieces.push(Piece::End(id));
                        rest = tail[length + 2..].to_vec();
                    }
                    // The second separator may begin a real mark.
                    None => {
                        plain.extend(&tail[..=length]);
                        rest = tail[length + 1..].to_vec();
                    }
                },
                None if tail.len() <= LONGEST_MARK && could_be_mark(&tail[1..]) => {
                    self.held = tail;
                    rest = Vec::new();
                }
                None => {
                    plain.push(tail[0]);
                    rest = tail[1..].to_vec();
                }
            }
        }
        plain.extend(rest);
        push_bytes(&mut pieces, &mut plain);
        pieces
    }
}

/// The id in what stands between two separators, if that is an end mark and not output that begins like one: a word or
/// number, `-`, and eight hexadecimal digits.
fn id_of(mark: &[u8]) -> Option<String> {
    let id = std::str::from_utf8(mark).ok()?.strip_prefix(END)?;
    let (name, nonce) = id.split_once('-')?;
    let is_id = !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && nonce.len() == 8
        && nonce.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then(|| id.to_owned())
}

fn could_be_mark(tail: &[u8]) -> bool {
    let length = tail.len().min(END.len());
    tail[..length] == END.as_bytes()[..length]
}

fn push_bytes(pieces: &mut Vec<Piece>, plain: &mut Vec<u8>) {
    if !plain.is_empty() {
        pieces.push(Piece::Bytes(std::mem::take(plain)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_lines_are_read() {
        for (line, said) in [
            ("ready", Said::Ready),
            ("exit 2-ab 137", Said::Exit("2-ab".into(), 137)),
            ("exit 2-ab", Said::Unknown("exit 2-ab".into())),
            ("exit 2-ab x", Said::Unknown("exit 2-ab x".into())),
            ("", Said::Unknown(String::new())),
        ] {
            assert_eq!(Said::parse(line), said);
        }
    }

    /// Feeds `bytes` in chunks of every size and joins the output again.
    fn every_cut(bytes: &[u8], expected: &[Piece]) {
        for size in 1..=bytes.len() {
            let mut demux = Demux::default();
            let mut joined: Vec<Piece> = Vec::new();
            for piece in bytes.chunks(size).flat_map(|chunk| demux.feed(chunk)) {
                match (joined.last_mut(), piece) {
                    (Some(Piece::Bytes(last)), Piece::Bytes(more)) => last.extend(more),
                    (_, piece) => joined.push(piece),
                }
            }
            assert_eq!(joined, expected, "in chunks of {size}");
        }
    }

    #[test]
    fn output_and_marks_are_told_apart_however_they_are_cut() {
        let bytes = |text: &str| Piece::Bytes(text.into());
        let end = |id: &str| Piece::End(id.into());
        every_cut(b"hello\n\x1ekdbg end 1-0000000a\x1e", &[bytes("hello\n"), end("1-0000000a")]);
        every_cut(
            b"\x1ekdbg end 1-0000000a\x1eon\x1ekdbg end setup-0000000b\x1e",
            &[end("1-0000000a"), bytes("on"), end("setup-0000000b")],
        );
        every_cut(b"a\x1eb\x1ec", &[bytes("a\x1eb\x1ec")]);
        every_cut(b"x\x1e\x1ekdbg end 1-0000000a\x1e", &[bytes("x\x1e"), end("1-0000000a")]);
    }

    #[test]
    fn output_that_begins_like_a_mark_is_output_and_hides_none() {
        let mark = b"\x1ekdbg end 12-0123abcd\x1e";
        // Only the whole id is a mark's.
        let beginnings: Vec<&[u8]> = (0..mark.len() - 1).map(|length| &mark[..length]).collect();
        let others: [&[u8]; 3] =
            [b"\x1ekdbg end \x1e", b"\x1ekdbg end 12-0123abcx\x1e", b"\x1ekdbg end 1 2-0123abcd\x1e"];
        for printed in
            beginnings.iter().chain(&others).flat_map(|one| beginnings.iter().map(move |two| [*one, two].concat()))
        {
            let mut expected = vec![Piece::Bytes(printed.clone()), Piece::End("12-0123abcd".into())];
            expected.retain(|piece| *piece != Piece::Bytes(Vec::new()));
            every_cut(&[&printed, &mark[..]].concat(), &expected);
        }
    }
}
