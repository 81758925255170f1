//! Addresses: which ones can be the kernel's, and how those of the network are written.

use core::net::{Ipv4Addr, Ipv6Addr};

/// Where the kernel's half of the address space begins on x86-64.
const KERNEL_HALF: u64 = 0xffff_8000_0000_0000;
/// Addresses below this are NULL with a member's offset.
const SMALL: u64 = 4096;

/// Why an address cannot be one of the kernel's. None where it is NULL or next to it, which is no news.
pub(super) fn suspicious(address: u64) -> Option<Option<String>> {
    // include/linux/poison.h
    let poison = match address {
        0xdead_0000_0000_0100..=0xdead_0000_0000_01ff => Some("an entry that was taken off a list (LIST_POISON)"),
        0x6b6b_6b6b_6b6b_0000..=0x6b6b_6b6b_6b6b_ffff => Some("memory that was freed (POISON_FREE)"),
        0x5a5a_5a5a_5a5a_0000..=0x5a5a_5a5a_5a5a_ffff => Some("memory that was never set (POISON_INUSE)"),
        0xfefe_fefe_fefe_0000..=0xfefe_fefe_fefe_ffff => Some("a variable that is not set yet"),
        _ => None,
    };
    match (address, poison) {
        (0..SMALL, _) => None,
        (super::FIRST_ERROR.., _) => {
            Some(Some(format!("it is an error, {}", super::errno::name(address.wrapping_neg()))))
        }
        (_, Some(what)) => Some(Some(format!("{address:#x} is the pattern of {what}"))),
        (KERNEL_HALF.., None) => Some(None),
        (_, None) => Some(Some(format!("{address:#x} is no address of the kernel"))),
    }
}

/// An IPv4 address, as it is in memory.
pub(super) fn ipv4(bytes: &[u8]) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(..4)?).ok()?))
}

/// An IPv6 address, likewise.
pub(super) fn ipv6(bytes: &[u8]) -> Option<Ipv6Addr> {
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.get(..16)?).ok()?))
}

/// A hardware address.
pub(super) fn hardware(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_no_news_poison_is_named_and_user_space_is_told() {
        assert_eq!(suspicious(0), None);
        assert_eq!(suspicious(0x18), None);
        assert_eq!(suspicious(0xffff_8880_0000_1000), Some(None));
        assert!(suspicious(0xdead_0000_0000_0122).unwrap().unwrap().contains("LIST_POISON"));
        assert!(suspicious(0x6b6b_6b6b_6b6b_6b6b).unwrap().unwrap().contains("freed"));
        assert!(suspicious((-12_i64).cast_unsigned()).unwrap().unwrap().contains("ENOMEM"));
        assert!(suspicious(0x7fff_1234_5678).unwrap().unwrap().contains("no address of the kernel"));
    }

    #[test]
    fn addresses_are_written_as_people_do() {
        assert_eq!(ipv4(&[127, 0, 0, 1]).unwrap().to_string(), "127.0.0.1");
        assert_eq!(ipv4(&[127]), None);
        assert_eq!(ipv6(&[0; 16]).unwrap().to_string(), "::");
        assert_eq!(hardware(&[2, 0, 0x5e, 0xff]), "02:00:5e:ff");
    }
}
