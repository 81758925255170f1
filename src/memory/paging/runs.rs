//! All that the tables map, in runs: for who has to say in advance where everything is. Pure.

use std::collections::BTreeSet;

use super::{ADDRESS, LARGE, LARGEST, PAGE, PRESENT, Physical, Tables};

/// How many entries a table has, and its root in each half of the addresses.
const ENTRIES: u64 = 512;
const HALF: u64 = ENTRIES / 2;

/// Virtual addresses that lie behind each other, as the physical ones do that they are mapped to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The first virtual address.
    pub from: u64,
    /// What it is mapped to.
    pub to: u64,
    /// In bytes.
    pub size: u64,
}

impl Tables {
    /// All that is mapped: the kernel's half first, each half in the order of its addresses.
    ///
    /// A table that is reached in several ways is followed in the first one only. Who has such tables maps one page to
    /// many addresses (the kernel's espfix area has 65,536 of them, KASAN's shadow of what is not there has millions),
    /// and nothing is at the others that is not at the first.
    pub fn runs(self, physical: &mut Physical<'_>) -> Vec<Run> {
        let mut walk = Walk { physical, seen: BTreeSet::new(), runs: Vec::new() };
        for entries in [HALF..ENTRIES, 0..HALF] {
            walk.table(self.root, self.levels, entries, 0, self.highest());
            walk.seen.remove(&self.root);
        }
        walk.runs
    }

    /// The highest bit of an address that the tables translate.
    fn highest(self) -> u64 {
        1 << (11 + 9 * self.levels)
    }

    /// The lowest address that no tables of so many levels can map: nothing is there, whatever the guest does.
    pub fn nowhere(self) -> u64 {
        self.highest()
    }
}

struct Walk<'a, 'b> {
    physical: &'a mut Physical<'b>,
    seen: BTreeSet<u64>,
    runs: Vec<Run>,
}

impl Walk<'_, '_> {
    /// Takes in what some entries of a table map, which begins at the address `base`.
    fn table(&mut self, at: u64, level: u32, entries: std::ops::Range<u64>, base: u64, highest: u64) {
        let mut table = [0; PAGE as usize];
        if !self.seen.insert(at) || !(self.physical)(at, &mut table) {
            return;
        }
        let shift = 12 + 9 * (level - 1);
        let values = table.as_chunks().0.iter().map(|entry| u64::from_le_bytes(*entry));
        let (first, count) = (entries.start, entries.end - entries.start);
        for (index, entry) in (0..).zip(values).skip(first as usize).take(count as usize) {
            if entry & PRESENT == 0 {
                continue;
            }
            let address = base | index << shift;
            if level == 1 || (level <= LARGEST && entry & LARGE != 0) {
                let size = 1 << shift;
                // The bits above the highest one are all like it.
                let from = if address & highest == 0 { address } else { address | !(highest - 1) };
                self.take(Run { from, to: entry & ADDRESS & !(size - 1), size });
            } else {
                self.table(entry & ADDRESS, level - 1, 0..ENTRIES, address, highest);
            }
        }
    }

    fn take(&mut self, run: Run) {
        match self.runs.last_mut() {
            Some(last) if last.from.wrapping_add(last.size) == run.from && last.to + last.size == run.to => {
                last.size += run.size;
            }
            _ => self.runs.push(run),
        }
    }
}
