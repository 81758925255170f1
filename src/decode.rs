//! What the kernel's objects say: a socket, a packet, a connection, read like someone who knows the kernel.
//!
//! Pure: memory comes through [`Memory`], the places of members from [`Layouts`]. A guest that runs, a recording and a test
//! are all the same to it. Everything that is read is bounded, and a pointer that leads nowhere is said to.

mod address;
mod conntrack;
mod device;
mod errno;
mod follow;
mod object;
mod packet;
mod sock;
pub mod syscall;
mod task;

use std::collections::BTreeMap;

use crate::layout::{Layouts, Wanted};
pub use follow::{Facts, Follower, Sight};
pub use object::Object;

/// Where an object's bytes come from.
pub trait Memory {
    /// `size` bytes at a virtual address of the kernel; none if they cannot be read.
    fn read(&mut self, address: u64, size: u64) -> Option<Vec<u8>>;
}

/// What an object says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// One line.
    pub summary: String,
    /// By name.
    pub fields: BTreeMap<String, String>,
    /// Of a packet, what it is recognised by.
    pub sight: Option<Sight>,
}

impl Said {
    /// With one line and nothing else.
    pub fn new(summary: impl Into<String>) -> Said {
        Said { summary: summary.into(), ..Said::default() }
    }

    /// With a field, if there is a value.
    #[must_use]
    fn with(mut self, name: &str, value: Option<impl ToString>) -> Said {
        if let Some(value) = value {
            self.fields.insert(name.into(), value.to_string());
        }
        self
    }
}

/// Reads objects of one kernel.
pub struct Decoder<'a> {
    /// Where its members are.
    pub layouts: &'a Layouts,
    /// Its memory.
    pub memory: &'a mut dyn Memory,
    /// The function at an address.
    pub function: &'a dyn Fn(u64) -> Option<String>,
}

/// How an object of one kind is read.
type Read = fn(&mut Decoder<'_>, &Object) -> Said;

/// A structure that is read, and how. What C knows under several names (`tcp_sock` begins with an `inet_sock`, which begins
/// with a `sock`) is one kind.
struct Kind {
    /// What it is called in reports.
    name: &'static str,
    /// The structures that a pointer to one may be declared as, the first the one that is read.
    structures: &'static [&'static str],
    read: Read,
}

const KINDS: &[Kind] = &[
    Kind { name: "sk_buff", structures: &["sk_buff"], read: packet::read },
    Kind {
        name: "sock",
        structures: &["sock", "inet_sock", "inet_connection_sock", "tcp_sock", "udp_sock", "raw_sock", "request_sock"],
        read: sock::read,
    },
    Kind { name: "nf_conn", structures: &["nf_conn"], read: conntrack::read },
    Kind { name: "net_device", structures: &["net_device"], read: device::device },
    Kind { name: "net", structures: &["net"], read: device::namespace },
    Kind { name: "dst_entry", structures: &["dst_entry", "rtable"], read: device::route },
    Kind { name: "task_struct", structures: &["task_struct"], read: task::read },
];

/// The source files whose units declare what is read, completely.
pub const UNITS: [&str; 5] = [
    "net/ipv4/tcp_ipv4.c",
    "net/netfilter/nf_conntrack_core.c",
    "net/netfilter/nf_conntrack_proto_tcp.c",
    "net/core/dev.c",
    "net/ipv4/route.c",
];

/// The members that are read.
pub const WANTED: &[Wanted] = &[
    packet::WANTED,
    packet::SEGMENT,
    sock::WANTED,
    sock::CONNECTION,
    sock::TCP,
    conntrack::WANTED,
    device::DEVICE,
    device::NAMESPACE,
    device::ROUTE,
    device::ROUTE4,
    task::WANTED,
];

/// The enumerations, by their name or one of their enumerators.
pub const ENUMS: [&str; 5] =
    ["TCP_ESTABLISHED", "tcp_conntrack", "ip_conntrack_status", "net_device_flags", "RTN_UNICAST"];

/// From here on an address is an error number.
const FIRST_ERROR: u64 = u64::MAX - 4094;

/// What kind of object a variable of this C type points to, if it is one that is read; and the structure.
pub fn kind_of(type_name: &str) -> Option<&'static str> {
    let plain = type_name.replace("const ", "").replace("volatile ", "");
    let structure = plain.strip_prefix("struct ")?.strip_suffix(" *")?.trim();
    KINDS.iter().find(|kind| kind.structures.contains(&structure)).map(|kind| kind.name)
}

/// The error that an address stands for (`ERR_PTR`).
pub fn error_of(address: u64) -> Option<String> {
    (address >= FIRST_ERROR).then(|| errno::name(address.wrapping_neg()))
}

impl Decoder<'_> {
    /// Reads the object of this [kind](kind_of) at an address. None where there is none to be read: at a small address, or
    /// in a kernel without the structure.
    pub fn decode(&mut self, kind: &str, address: u64) -> Option<Said> {
        let kind = KINDS.iter().find(|known| known.name == kind)?;
        if let Some(error) = error_of(address) {
            return Some(Said::new(format!("no {} but an error: {error}", kind.name)));
        }
        if let Some(why) = address::suspicious(address)? {
            return Some(Said::new(format!("leads nowhere: {why}")));
        }
        let structure = kind.structures.first()?;
        self.layouts.size(structure)?;
        match self.object(structure, address) {
            Some(object) => Some((kind.read)(self, &object)),
            None => Some(Said::new(format!("leads nowhere: there is no memory at {address:#x}"))),
        }
    }

    /// An object with all its bytes.
    fn object(&mut self, structure: &'static str, address: u64) -> Option<Object> {
        let bytes = self.memory.read(address, self.layouts.size(structure)?)?;
        Some(Object { structure, address, bytes })
    }

    /// A number in an object.
    fn number(&self, object: &Object, path: &str) -> Option<u64> {
        object.number(self.layouts, path)
    }

    /// An enumerator in an object, by name; one that has none by number.
    fn named(&self, enumeration: &str, value: u64) -> String {
        let name = self.layouts.enumerator(enumeration, i64::try_from(value).unwrap_or(-1));
        name.map_or_else(|| value.to_string(), String::from)
    }

    /// A word of flags, by the names of the bits. An enumeration may also have the bits' numbers (`IPS_SEEN_REPLY_BIT`).
    fn flags(&self, enumeration: &str, word: u64) -> String {
        let mut left = word;
        let mut names = Vec::new();
        for (value, name) in self.layouts.enumerators(enumeration) {
            let Ok(bit) = u64::try_from(value) else { continue };
            if bit.is_power_of_two() && left & bit != 0 && !name.ends_with("_BIT") {
                names.push(name.to_string());
                left &= !bit;
            }
        }
        if left != 0 || names.is_empty() {
            names.push(format!("{left:#x}"));
        }
        names.join("|")
    }

    /// A string of at most 64 bytes in an object.
    fn text(&self, object: &Object, path: &str) -> Option<String> {
        let bytes = object.bytes_of(self.layouts, path)?;
        let end = bytes.iter().take(64).position(|byte| *byte == 0).unwrap_or(bytes.len().min(64));
        Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }

    /// The name of the device at an address.
    fn device_name(&mut self, address: u64) -> Option<String> {
        address::suspicious(address)?.is_none().then_some(())?;
        let field = self.layouts.field("net_device", "name")?;
        let bytes = self.memory.read(address.checked_add(field.offset)?, field.size)?;
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }
}

#[cfg(test)]
mod tests;
