//! From virtual addresses to physical ones, over the tables of x86-64 (Intel SDM volume 3A, 4.5 "4-level paging and 5-level
//! paging"), the way the CPU goes. Pure: whoever calls it reads the physical memory.
//!
//! What an entry permits does not matter to one who only looks. So this walk comes to what QEMU's own does for its GDB stub
//! (`x86_cpu_get_phys_page_attrs_debug` in target/i386/helper.c).

mod runs;

pub use runs::Run;

/// The smallest page, in bytes.
pub const PAGE: u64 = 4096;

/// The bits of an address in a control register or an entry: without PCID, flags, and those above that mean something else.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// What an entry says of itself.
const PRESENT: u64 = 1 << 0;
const LARGE: u64 = 1 << 7;
/// In CR4: there are five levels.
const LA57: u64 = 1 << 12;
/// The highest level at which a page can be large: 2 MiB at the second, 1 GiB at the third.
const LARGEST: u32 = 3;
/// How much is read at once at most, in bytes.
const MOST: u64 = 1 << 20;

/// Reads physical memory: all of the bytes at an address, or false.
pub type Physical<'a> = dyn FnMut(u64, &mut [u8]) -> bool + 'a;

/// The tables of an address space, by where they begin and how many levels they have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tables {
    root: u64,
    levels: u32,
}

impl Tables {
    /// Those of a CPU in 64-bit mode, from its registers CR3 and CR4.
    pub fn of(cr3: u64, cr4: u64) -> Tables {
        Tables { root: cr3 & ADDRESS, levels: if cr4 & LA57 == 0 { 4 } else { 5 } }
    }

    /// The physical address of a virtual one; none where nothing is mapped, or the tables cannot be read.
    pub fn translate(self, address: u64, physical: &mut Physical<'_>) -> Option<u64> {
        let mut table = self.root;
        self.is_canonical(address).then_some(())?;
        for level in (1..=self.levels).rev() {
            // Each level has nine bits of the address, above the twelve within a page.
            let shift = 12 + 9 * (level - 1);
            let mut entry = [0; 8];
            physical(table + 8 * (address >> shift & 0x1ff), &mut entry).then_some(())?;
            let entry = u64::from_le_bytes(entry);
            if entry & PRESENT == 0 {
                return None;
            }
            if level == 1 || (level <= LARGEST && entry & LARGE != 0) {
                let within = (1 << shift) - 1;
                return Some(entry & ADDRESS & !within | address & within);
            }
            table = entry & ADDRESS;
        }
        None
    }

    /// So many bytes at a virtual address; none if one of them cannot be read.
    pub fn read(self, address: u64, size: u64, physical: &mut Physical<'_>) -> Option<Vec<u8>> {
        if size > MOST || (size > 0 && address.checked_add(size - 1).is_none()) {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(size).ok()?];
        let mut at = address;
        let mut left = bytes.as_mut_slice();
        while !left.is_empty() {
            let in_page = usize::try_from(PAGE - at % PAGE).ok()?.min(left.len());
            let (here, rest) = left.split_at_mut(in_page);
            let from = self.translate(at, physical)?;
            physical(from, here).then_some(())?;
            at = at.wrapping_add(in_page as u64);
            left = rest;
        }
        Some(bytes)
    }

    /// Whether the bits above those that the tables translate are all like the highest of these.
    fn is_canonical(self, address: u64) -> bool {
        let above = 64 - (12 + 9 * self.levels);
        (address << above).cast_signed() >> above == address.cast_signed()
    }
}

#[cfg(test)]
mod tests;
