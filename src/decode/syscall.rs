//! The arguments of a system call, as a person would write them.
//!
//! Pure. What they point to is the program's memory, which may not be there at the moment: then the address stands alone.

use super::Memory;
use super::address::{ipv4, ipv6};

/// The longest text that is shown of a string or a buffer, in bytes.
const LONGEST: u64 = 64;
const PAGE: u64 = 4096;
/// The calls that are given an address of a socket; others are to write one.
const GIVEN_ADDRESS: [&str; 3] = ["connect", "bind", "sendto"];

/// An argument: its name, its type as C writes it, and what its register held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    /// The parameter's name.
    pub name: String,
    /// Its type.
    pub type_name: String,
    /// All of the register.
    pub register: u64,
}

/// The values of a call's arguments as text, in order; and the call in one line, in which the length of an address that is
/// shown is left out.
pub fn say(memory: &mut dyn Memory, call: &str, arguments: &[Argument]) -> (Vec<String>, String) {
    let (mut values, mut line) = (Vec::new(), Vec::new());
    let mut is_length = false;
    for (at, argument) in arguments.iter().enumerate() {
        let next = arguments.get(at + 1);
        let address = (argument.type_name == "struct sockaddr *" && GIVEN_ADDRESS.contains(&call))
            .then(|| socket_address(memory, argument.register, next.map_or(0, |length| length.register)))
            .flatten();
        let shows_address = address.is_some();
        let value = address.unwrap_or_else(|| plain(memory, argument, next));
        if !is_length {
            line.push(value.clone());
        }
        is_length = shows_address;
        values.push(value);
    }
    (values, format!("{call}({})", line.join(", ")))
}

fn plain(memory: &mut dyn Memory, argument: &Argument, next: Option<&Argument>) -> String {
    let (register, type_name) = (argument.register, argument.type_name.as_str());
    if type_name.ends_with('*') {
        let text = type_name.starts_with("const char").then(|| text(memory, register, next)).flatten();
        return text.unwrap_or_else(|| if register == 0 { "NULL".into() } else { format!("{register:#x}") });
    }
    let half = u32::try_from(register & 0xffff_ffff).unwrap_or(0);
    match type_name {
        "int" | "pid_t" | "clockid_t" | "key_t" | "s32" => half.cast_signed().to_string(),
        "unsigned int" | "umode_t" | "uid_t" | "gid_t" | "u32" => half.to_string(),
        "long" | "loff_t" | "off_t" => register.cast_signed().to_string(),
        "size_t" => register.to_string(),
        _ if register < 0x1_0000 => register.to_string(),
        _ => format!("{register:#x}"),
    }
}

/// As much of a string, or of a buffer whose length comes next, as there is room for and as is in one page.
fn text(memory: &mut dyn Memory, address: u64, next: Option<&Argument>) -> Option<String> {
    let length = next.filter(|next| next.type_name == "size_t").map(|next| next.register);
    let there = PAGE - address % PAGE;
    let wanted = length.unwrap_or(u64::MAX).min(LONGEST).min(there);
    let bytes = memory.read(address, wanted)?;
    let end = bytes.iter().position(|byte| *byte == 0).filter(|_| length.is_none()).unwrap_or(bytes.len());
    let is_whole = length.map_or(end < bytes.len(), |length| length == wanted);
    let more = if is_whole { "" } else { "…" };
    Some(format!("{:?}{more}", String::from_utf8_lossy(&bytes[..end])))
}

/// An address of a socket (`struct sockaddr` and what begins like it; include/uapi/linux/in.h, in6.h, un.h: parts of the
/// interface to programs).
fn socket_address(memory: &mut dyn Memory, address: u64, length: u64) -> Option<String> {
    const UNIX: u16 = 1;
    const INET: u16 = 2;
    const INET6: u16 = 10;
    let bytes = memory.read(address, length.clamp(2, 110))?;
    let port = || Some(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?));
    let family = u16::from_le_bytes(bytes.get(..2)?.try_into().ok()?);
    match family {
        UNIX => {
            let path = bytes.get(2..)?;
            let end = path.iter().skip(1).position(|byte| *byte == 0).map_or(path.len(), |end| end + 1);
            Some(format!("unix {:?}", String::from_utf8_lossy(&path[..end])))
        }
        INET => Some(format!("{}:{}", ipv4(bytes.get(4..)?)?, port()?)),
        INET6 => Some(format!("[{}]:{}", ipv6(bytes.get(8..)?)?, port()?)),
        other => Some(format!("an address of family {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One page of memory.
    struct Page(u64, Vec<u8>);

    impl Memory for Page {
        fn read(&mut self, address: u64, size: u64) -> Option<Vec<u8>> {
            let from = usize::try_from(address.checked_sub(self.0)?).ok()?;
            Some(self.1.get(from..from.checked_add(usize::try_from(size).ok()?)?)?.to_vec())
        }
    }

    fn arguments(list: &[(&str, u64)]) -> Vec<Argument> {
        let one = |(type_name, register): &(&str, u64)| Argument {
            name: "x".into(),
            type_name: (*type_name).into(),
            register: *register,
        };
        list.iter().map(one).collect()
    }

    fn line(bytes: &[u8], call: &str, list: &[(&str, u64)]) -> String {
        let mut page = bytes.to_vec();
        page.resize(4096, 0);
        say(&mut Page(0x40_0000, page), call, &arguments(list)).1
    }

    #[test]
    fn an_address_is_shown_where_one_is_given_and_its_length_is_not() {
        let address = ("struct sockaddr *", 0x40_0000);
        let inet = [2, 0, 0, 9, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(line(&inet, "connect", &[("int", 3), address, ("int", 16)]), "connect(3, 127.0.0.1:9)");
        assert_eq!(line(&inet, "accept", &[("int", 3), address, ("int *", 0)]), "accept(3, 0x400000, NULL)");
        let unix = *b"\x01\x00/run/x\0";
        assert_eq!(line(&unix, "bind", &[("int", 3), address, ("int", 9)]), "bind(3, unix \"/run/x\")");
        let six = [&[10, 0, 0, 80, 0, 0, 0, 0][..], &[0; 15], &[1]].concat();
        assert_eq!(line(&six, "connect", &[("int", 3), address, ("int", 28)]), "connect(3, [::1]:80)");
        assert_eq!(
            line(&[40, 0], "connect", &[("int", 3), address, ("int", 16)]),
            "connect(3, an address of family 40)"
        );
        // Shorter than it should be, or not there.
        assert_eq!(line(&inet, "bind", &[("int", 3), address, ("int", 3)]), "bind(3, 0x400000, 3)");
        let nowhere = ("struct sockaddr *", 0x50_0000);
        assert_eq!(line(&inet, "bind", &[("int", 3), nowhere, ("int", 16)]), "bind(3, 0x500000, 16)");
    }

    #[test]
    fn strings_and_buffers_are_bounded_and_numbers_are_as_wide_as_their_types() {
        let path = ("const char *", 0x40_0000);
        assert_eq!(line(b"/etc/x", "unlink", &[path]), "unlink(\"/etc/x\")");
        assert_eq!(line(b"a\nbc", "write", &[("unsigned int", 1), path, ("size_t", 3)]), "write(1, \"a\\nb\", 3)");
        let long = line(&[b'x'; 100], "unlink", &[path]);
        assert_eq!(long, format!("unlink(\"{}\"…)", "x".repeat(64)));
        assert_eq!(line(b"", "unlink", &[("const char *", 0x40_0fff)]), "unlink(\"\")", "the last byte of a page");
        assert_eq!(line(b"", "unlink", &[("const char *", 16)]), "unlink(0x10)");
        let numbers = [("int", 0xffff_ffff), ("pid_t", 61), ("unsigned long", 1 << 40), ("unsigned long", 7)];
        assert_eq!(line(b"", "f", &numbers), "f(-1, 61, 0x10000000000, 7)");
    }
}
