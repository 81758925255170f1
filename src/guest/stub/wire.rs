//! What goes over the wire to the stub and comes back, as text. Pure.

use crate::server::{Breakpoint, Halt, Watched, Why};

/// A breakpoint as the packets `Z` and `z` have it: its type, address and size.
pub(super) fn place(breakpoint: Breakpoint) -> (u8, u64, u64) {
    match breakpoint {
        Breakpoint::Software(address) => (0, address, 1),
        Breakpoint::Hardware(address) => (1, address, 1),
        Breakpoint::Watch(Watched::Write, address, size) => (2, address, size),
        Breakpoint::Watch(Watched::Read, address, size) => (3, address, size),
        Breakpoint::Watch(Watched::Access, address, size) => (4, address, size),
    }
}

/// What a stop reply says; none if it is something else. `cpu` is meant where it names none.
pub(super) fn halt(answer: &[u8], cpu: u32) -> Option<Halt> {
    let text = std::str::from_utf8(answer).ok()?;
    let simple = |why| Some(Halt { cpu, why, note: None });
    if text.starts_with('W') || text.starts_with('X') {
        return simple(Why::Gone);
    }
    let rest = text.strip_prefix(['T', 'S'])?;
    let signal = u8::from_str_radix(rest.get(..2)?, 16).ok()?;
    let mut halt = Halt { cpu, why: if signal == 2 { Why::Interrupted } else { Why::Trap }, note: None };
    for pair in rest[2..].split(';') {
        let (name, value) = pair.split_once(':').unwrap_or((pair, ""));
        let address = || u64::from_str_radix(value, 16).ok();
        match name {
            "thread" => {
                let thread = u32::from_str_radix(value.rsplit('.').next()?, 16).ok()?;
                halt.cpu = thread.checked_sub(1)?;
            }
            "swbreak" => halt.why = Why::Breakpoint,
            "hwbreak" => halt.why = Why::HardwareBreakpoint,
            "watch" => halt.why = Why::Watchpoint(Watched::Write, address()?),
            "rwatch" => halt.why = Why::Watchpoint(Watched::Read, address()?),
            "awatch" => halt.why = Why::Watchpoint(Watched::Access, address()?),
            _ => {}
        }
    }
    Some(halt)
}

/// Whether a stop reply says that the machine has shut down: it stops with SIGQUIT then (`gdb_vm_state_change`).
pub(super) fn is_over(answer: &[u8]) -> bool {
    answer.starts_with(b"T03") || answer.starts_with(b"S03")
}

/// Bytes in which `}` announces one that could not be sent as it is.
pub(super) fn unescaped(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len());
    let mut bytes = bytes.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'}' => text.extend(bytes.next().map(|byte| byte ^ 0x20)),
            byte => text.push(*byte),
        }
    }
    text
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes of hexadecimal digits; none of an error, or of anything else.
pub(super) fn unhex(digits: &[u8]) -> Option<Vec<u8>> {
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_says_which_cpu_and_why() {
        assert!(is_over(b"T03thread:01;") && !is_over(b"T05thread:03;"));
        let of = |text: &str| halt(text.as_bytes(), 0).map(|halt| (halt.cpu, halt.why));
        assert_eq!(of("T05thread:02;"), Some((1, Why::Trap)));
        assert_eq!(of("T05thread:p01.02;swbreak:;"), Some((1, Why::Breakpoint)));
        assert_eq!(of("T02thread:01;"), Some((0, Why::Interrupted)));
        assert_eq!(
            of("T05awatch:ffff888000001000;thread:1;"),
            Some((0, Why::Watchpoint(Watched::Access, 0xffff_8880_0000_1000)))
        );
        assert_eq!(of("W00"), Some((0, Why::Gone)));
        for nonsense in ["", "OK", "T", "T0", "T05thread:0;", "O41"] {
            assert_eq!(of(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn what_is_no_hexadecimal_is_an_error() {
        assert_eq!(unhex(b"00ff"), Some(vec![0, 255]));
        assert_eq!((unhex(b"E14"), unhex(b"E1xx")), (None, None));
        assert_eq!(unescaped(b"a}\x03b"), b"a#b");
    }
}
