//! The guest's memory, read in QEMU's process while the guest stands still: some microseconds, where asking GDB takes a round
//! trip to QEMU's stub.
//!
//! [`Ram`] is the physical memory, [`Stopped`] what a CPU sees of it at one stop. Who has none of it asks GDB; what both
//! say is the same.

mod maps;
mod pagemap;
pub mod paging;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::decode::Memory;
use paging::{PAGE, Tables};

/// A q35's memory: all of it below this, or the first 2 GiB, and the rest from 4 GiB on (`pc_q35_init` in QEMU's
/// hw/i386/pc_q35.c).
const ALL_LOW: u64 = 0xb000_0000;
const LOW: u64 = 0x8000_0000;
const HIGH: u64 = 4 << 30;
/// What is no memory, or not that of the same address: the screen's, ROMs, and the BIOS's copy of them.
const LEGACY: Range<u64> = 0xa_0000..0x10_0000;

/// The physical memory of a running guest.
#[derive(Debug)]
pub struct Ram {
    /// QEMU's address space.
    process: File,
    /// What is said of its pages (/proc/PID/pagemap).
    pagemap: File,
    /// Where the guest's memory begins in it.
    base: u64,
    /// In bytes.
    size: u64,
}

impl Ram {
    /// That of the QEMU that is this process: `size` bytes, of which `backend` is the file. None where the process may not
    /// be looked into, or has not mapped the file in one piece.
    ///
    /// Who reads another process's memory must be allowed to trace it (`PTRACE_MODE_ATTACH`, ptrace(2)). Under the usual
    /// setting of Yama, 1, a process may do that to its descendants of any depth: QEMU is one, with the supervisor
    /// between. A QEMU that has more rights than kdbg (a setuid one, one with file capabilities) may not be looked into.
    pub fn open(process: i32, backend: &Path, size: u64) -> Option<Ram> {
        let maps = std::fs::read(format!("/proc/{process}/maps")).ok()?;
        // It is named there without links; when it is deleted, it cannot be looked up any more.
        let backend = std::fs::canonicalize(backend).unwrap_or_else(|_| backend.into());
        let span = maps::find(&maps, &backend, size)?;
        let pagemap = File::open(format!("/proc/{process}/pagemap")).ok()?;
        let process = File::open(format!("/proc/{process}/mem")).ok()?;
        Some(Ram { process, pagemap, base: span.address, size })
    }

    /// The pages that the process has a copy of its own of, where it has mapped the file privately: all others are the
    /// file's. By their number in the file, in order.
    ///
    /// # Errors
    /// The process is gone.
    pub fn own_pages(&self) -> io::Result<Vec<u32>> {
        let mut entries = vec![0; usize::try_from(self.size / PAGE * pagemap::ENTRY).map_err(io::Error::other)?];
        self.pagemap.read_exact_at(&mut entries, self.base / PAGE * pagemap::ENTRY)?;
        Ok(pagemap::own(&entries))
    }

    /// Reads so many pages of the file, as the process has them.
    ///
    /// # Errors
    /// The process is gone.
    pub fn read_pages(&self, first: u32, into: &mut [u8]) -> io::Result<()> {
        self.process.read_exact_at(into, self.base + u64::from(first) * PAGE)
    }

    /// Reads all of these bytes; false where not all are in memory, or QEMU is gone.
    pub fn read_physical(&self, address: u64, into: &mut [u8]) -> bool {
        let offset = offset(address, into.len() as u64, self.size);
        offset.is_some_and(|offset| self.process.read_exact_at(into, self.base + offset).is_ok())
    }
}

/// Where in the file of a memory of this size so many bytes at a physical address are.
pub fn offset(address: u64, count: u64, size: u64) -> Option<u64> {
    let low = if size >= ALL_LOW { LOW } else { size };
    let end = address.checked_add(count)?;
    if address < LEGACY.end && end > LEGACY.start {
        return None;
    }
    match address.checked_sub(HIGH) {
        None => (end <= low).then_some(address),
        Some(above) => (end - HIGH <= size - low).then_some(low + above),
    }
}

/// The physical addresses at which a memory of this size is, in order; each range is in one piece in its file.
pub fn ranges(size: u64) -> Vec<Range<u64>> {
    let low = if size >= ALL_LOW { LOW } else { size };
    let ranges = [0..low.min(LEGACY.start), LEGACY.end..low, HIGH..HIGH + (size - low)];
    ranges.into_iter().filter(|range| !range.is_empty()).collect()
}

/// The memory as a CPU sees it at one stop, a program's included. What was read once is not read again: it must not outlive
/// the stop, nor a change that kdbg itself makes.
///
/// Under KVM the kernel's code has breakpoints in it, which GDB would hide.
#[derive(Debug)]
pub struct Stopped<'a> {
    ram: &'a Ram,
    tables: Tables,
    /// By physical address.
    pages: BTreeMap<u64, Box<[u8; PAGE as usize]>>,
}

/// How many pages are kept.
const KEPT: usize = 256;

impl<'a> Stopped<'a> {
    /// What the CPU with these control registers sees.
    pub fn new(ram: &'a Ram, cr3: u64, cr4: u64) -> Self {
        Stopped { ram, tables: Tables::of(cr3, cr4), pages: BTreeMap::new() }
    }

    /// Bytes of one page.
    fn physical(&mut self, address: u64, into: &mut [u8]) -> bool {
        let start = address & !(PAGE - 1);
        if !self.pages.contains_key(&start) {
            let mut page = Box::new([0; PAGE as usize]);
            if !self.ram.read_physical(start, &mut page[..]) {
                return false;
            }
            if self.pages.len() == KEPT {
                self.pages.clear();
            }
            self.pages.insert(start, page);
        }
        let from = usize::try_from(address - start).unwrap_or(usize::MAX);
        let page = self.pages.get(&start).and_then(|page| page.get(from..)?.get(..into.len()));
        page.map(|bytes| into.copy_from_slice(bytes)).is_some()
    }
}

impl Memory for Stopped<'_> {
    fn read(&mut self, address: u64, size: u64) -> Option<Vec<u8>> {
        let tables = self.tables;
        tables.read(address, size, &mut |address, into| self.physical(address, into))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom, Write};

    use super::*;

    #[test]
    fn memory_above_the_hole_begins_at_4_gib() {
        let (small, large) = (256 << 20, 3 << 30);
        assert_eq!(offset(0x1000, 8, small), Some(0x1000));
        assert_eq!(offset(small - 8, 8, small), Some(small - 8));
        assert_eq!(offset(small - 8, 9, small), None);
        assert_eq!(offset(HIGH, 1, small), None);
        assert_eq!(offset(LOW, 8, large), None, "the hole");
        assert_eq!(offset(LOW - 4, 8, large), None, "partly");
        assert_eq!(offset(HIGH, 8, large), Some(LOW));
        assert_eq!(offset(HIGH + (1 << 30) - 8, 8, large), Some(large - 8));
        assert_eq!(offset(HIGH + (1 << 30) - 8, 9, large), None);
        assert_eq!(offset(u64::MAX, 8, large), None);
        // All of it is below the hole.
        assert_eq!(offset(LOW, 8, ALL_LOW - 4096), Some(LOW));
        assert_eq!(offset(0xb_8000, 8, small), None, "the screen");
        assert_eq!(offset(0x9_fff8, 8, small), Some(0x9_fff8));
        assert_eq!(offset(0x9_fff9, 8, small), None);
        assert_eq!(offset(0x10_0000, 8, small), Some(0x10_0000));
    }

    #[test]
    fn ranges_are_what_has_an_offset() {
        for size in [0x8_0000, 256 << 20, ALL_LOW - 4096, 3 << 30] {
            let ranges = ranges(size);
            let there: u64 = ranges.iter().map(|range| range.end - range.start).sum();
            assert_eq!(there, if size < LEGACY.end { size } else { size - (LEGACY.end - LEGACY.start) }, "{size:x}");
            for range in ranges {
                assert!(offset(range.start, range.end - range.start, size).is_some(), "{range:x?} of {size:x}");
                assert_eq!(offset(range.end, 1, size), None, "{range:x?} of {size:x}");
            }
        }
    }

    #[test]
    fn a_process_without_the_file_has_no_memory_to_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(Ram::open(me, file.path(), 4096).is_none());
        assert!(Ram::open(i32::MAX, file.path(), 4096).is_none());
    }

    #[test]
    fn a_cpu_sees_memory_through_its_tables_as_it_was_when_it_was_read_first() {
        let mut process = tempfile::tempfile().unwrap();
        let base = 64;
        let write = |at: u64, bytes: &[u8]| process.write_all_at(bytes, base + at).unwrap();
        // 0x0000_0000_0000_0000 is a page of 2 MiB at 0.
        write(0, &[7; 8]);
        write(0x1000, &0x2001_u64.to_le_bytes());
        write(0x2000, &0x3001_u64.to_le_bytes());
        write(0x3000, &0x81_u64.to_le_bytes());
        write(0x3fff, &[0]);
        let pagemap = tempfile::tempfile().unwrap();
        let ram = Ram { process: process.try_clone().unwrap(), pagemap, base, size: 0x4000 };
        let mut stopped = Stopped::new(&ram, 0x1000, 0);
        assert_eq!(stopped.read(0, 8), Some(vec![7; 8]));
        assert_eq!(stopped.read(0x3ffe, 2), Some(vec![0; 2]));
        assert_eq!(stopped.read(0x3ffe, 3), None, "mapped, but there is no memory");
        process.seek(SeekFrom::Start(base)).unwrap();
        process.write_all(&[8; 8]).unwrap();
        assert_eq!(stopped.read(0, 8), Some(vec![7; 8]));
        assert_eq!(Stopped::new(&ram, 0x1000, 0).read(0, 8), Some(vec![8; 8]));
    }
}
