//! Where the compiler keeps a variable, as GDB's `info address` tells.

use crate::report::model::Lost;

/// A variable's places.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Storage {
    /// The code ranges in which it has a place; empty when it has one everywhere or nowhere.
    ranges: Vec<(u64, u64)>,
    /// It has a place in the stack frame, which holds whatever was there before until the variable is set.
    pub(super) on_stack: bool,
    /// It has no place at all.
    nowhere: bool,
}

/// What GDB's words for a place in the stack frame have in them.
const STACK_WORDS: [&str; 4] = ["DW_OP_fbreg", "[$rbp]", "[$rsp]", "frame base"];

impl Storage {
    /// Reads GDB's words, such as `Range 0x10-0x1c: a variable in $rdi` or `DW_OP_fbreg -60`.
    pub(super) fn parse(said: &str) -> Storage {
        let ranges: Vec<_> = said
            .split("Range 0x")
            .skip(1)
            .filter_map(|rest| {
                let (start, rest) = rest.split_once("-0x")?;
                let end = rest.split(|c: char| !c.is_ascii_hexdigit()).next()?;
                Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
            })
            .collect();
        let on_stack = ranges.is_empty() && STACK_WORDS.iter().any(|word| said.contains(word));
        Storage { ranges, on_stack, nowhere: said.contains(" is optimized out") }
    }

    /// Whether there are ranges, and `address` lies before all of them.
    pub(super) fn begins_after(&self, address: u64) -> bool {
        !self.ranges.is_empty() && self.ranges.iter().all(|(start, _)| address < *start)
    }

    /// Whether it has a value at `address`; none if it has nowhere one.
    pub(super) fn holds(&self, address: u64) -> Option<bool> {
        let here = self.ranges.iter().any(|(start, end)| (*start..*end).contains(&address));
        (!self.nowhere).then_some(self.ranges.is_empty() || here)
    }

    /// What became of a variable that has no value at `address`; none where GDB's words do not tell.
    pub(super) fn lost(&self, address: u64) -> Option<Lost> {
        if self.nowhere {
            return Some(Lost::Nowhere);
        }
        let here = self.ranges.iter().any(|(start, end)| (*start..*end).contains(&address));
        let told = !self.ranges.is_empty();
        told.then_some(if here { Lost::Clobbered } else { Lost::Elsewhere })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_tell_not_set_yet_from_gone() {
        let said = "Symbol \"ret\" is multi-location:\n  Base address 0xff05  Range 0xff05-0xff14: the constant 0\n  Range 0xff20-0xff30: a variable in $rax\n.\n";
        let storage = Storage::parse(said);
        assert_eq!([0xff04, 0xff05, 0xff18].map(|at| storage.begins_after(at)), [true, false, false]);
        let lost = [0xff13, 0xff14, 0xff20, 0xff30].map(|at| storage.lost(at));
        assert_eq!(lost, [Lost::Clobbered, Lost::Elsewhere, Lost::Clobbered, Lost::Elsewhere].map(Some));
        let gone = Storage::parse("Symbol \"dif\" is optimized out.\n");
        assert_eq!((gone.begins_after(0), gone.lost(0)), (false, Some(Lost::Nowhere)));
        assert_eq!(Storage::default().lost(0), None);
    }

    #[test]
    fn a_local_in_the_stack_frame_is_told_from_a_static_one() {
        let stack = "Symbol \"arg\" is a complex DWARF expression:\n     0: DW_OP_breg6 -96 [$rbp]\n.\n";
        let fixed = "Symbol \"count\" is static storage at address 0xffffffff81a06980.\n";
        assert_eq!([stack, fixed].map(|said| Storage::parse(said).on_stack), [true, false]);
    }
}
