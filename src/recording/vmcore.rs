//! A hit as a core of the kernel (ELF, `ET_CORE`), as `kdump` and QEMU's `dump-guest-memory -p` write them: `crash`, `drgn`
//! and GDB open it.
//!
//! The three want different things of it. GDB translates no addresses: for each run of virtual addresses that the CPU of
//! the hit sees there is a segment, its programs' included. `crash` and `drgn` walk the page tables: each segment says
//! where it is in physical memory, and all of the memory is in one. The memory itself is in the file once, as it is in
//! QEMU's, and all segments point into that. Where it is all zeros, the file has holes.
//!
//! What is known of the CPUs is in the notes ([`notes`]).

mod notes;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use object::elf;
use object::write::elf::{FileHeader, ProgramHeader, Writer};

use super::Recording;
use super::format::PAGE_SIZE;
use crate::error::{Error, Result};
use crate::memory::paging::{PAGE, Run};
use crate::memory::{offset, ranges};

/// How many segments there can be without a table of sections, which `crash` and old tools do not read; one has the notes.
const MOST_LOADS: usize = elf::PN_XNUM as usize - 2;
/// The longest VMCOREINFO that is believed, in bytes; the kernel has a page for it.
const LONGEST_INFO: u64 = 1 << 16;

/// Where the kernel has its VMCOREINFO: the addresses of two variables, one with a pointer to the text, one with its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InfoPlace {
    /// `vmcoreinfo_data`.
    pub data: u64,
    /// `vmcoreinfo_size`.
    pub size: u64,
}

/// A core, before it is written.
#[derive(Debug)]
pub struct Vmcore {
    hit: usize,
    notes: Vec<u8>,
    loads: Vec<Run>,
    memory: u64,
    pages: u64,
    /// How many runs of addresses have no segment, because there were too many.
    pub left_out: usize,
}

impl Vmcore {
    /// That of a hit, by its place in the recording, with this VMCOREINFO.
    ///
    /// # Errors
    /// The recording does not have the registers that it takes.
    pub fn of(recording: &mut Recording, hit: usize, info: Option<&[u8]>) -> Result<Vmcore> {
        let notes = notes::of(recording, hit, info)?;
        let cpu = recording.hits.get(hit).map_or(0, |hit| hit.cpu);
        let tables = recording.tables(hit, cpu).ok_or_else(|| notes::missing("cr3"))?;
        let memory = recording.head.memory;
        let mapped = tables.runs(&mut |address, into| recording.read(hit, address, into));
        let all = in_memory(&mapped, memory);
        let (mut loads, rest) = fitting(&all, memory, MOST_LOADS);
        let left_out = all.len() - loads.len();
        // Nobody finds these by a virtual address.
        loads.extend(rest.into_iter().map(|run| Run { from: tables.nowhere() + run.to, ..run }));
        let pages = recording.filled(hit).count() as u64;
        Ok(Vmcore { hit, notes, loads, memory, pages, left_out })
    }

    /// How much of the disk it takes, in bytes: the rest of it are holes.
    pub fn bytes(&self) -> u64 {
        self.begin() + self.pages * PAGE
    }

    /// Where in the file the memory begins.
    fn begin(&self) -> u64 {
        let header = size_of::<elf::FileHeader64<object::Endianness>>() as u64;
        let program = size_of::<elf::ProgramHeader64<object::Endianness>>() as u64;
        (header + program * (self.loads.len() as u64 + 1) + self.notes.len() as u64).next_multiple_of(PAGE)
    }

    /// Writes it into an empty file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, recording: &mut Recording, file: &File) -> io::Result<()> {
        file.set_len(self.begin() + self.memory)?;
        file.write_all_at(&self.headers().map_err(io::Error::other)?, 0)?;
        let filled: Vec<u32> = recording.filled(self.hit).collect();
        let mut content = [0; PAGE_SIZE];
        for page in filled {
            recording.page(self.hit, page, &mut content)?;
            file.write_all_at(&content, self.begin() + u64::from(page) * PAGE)?;
        }
        Ok(())
    }

    /// All that is before the memory.
    fn headers(&self) -> object::write::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(object::Endianness::Little, true, &mut bytes);
        writer.reserve_file_header();
        writer.reserve_program_headers(u32::try_from(self.loads.len() + 1).unwrap_or(u32::MAX));
        let notes = writer.reserve(self.notes.len() as u64, 4);
        writer.write_file_header(&FileHeader {
            os_abi: elf::ELFOSABI_NONE,
            abi_version: 0,
            e_type: elf::ET_CORE,
            e_machine: elf::EM_X86_64,
            e_entry: 0,
            e_flags: elf::FileFlags(0),
        })?;
        writer.write_align_program_headers();
        // The first one; and none has an alignment: `crash` tells by that what kind of core this is.
        let size = self.notes.len() as u64;
        writer.write_program_header(&ProgramHeader {
            p_type: elf::PT_NOTE,
            p_flags: elf::ProgramFlags(0),
            p_offset: notes,
            p_vaddr: 0,
            p_paddr: 0,
            p_filesz: size,
            p_memsz: size,
            p_align: 0,
        });
        for load in &self.loads {
            let within = offset(load.to, load.size, self.memory).unwrap_or_default();
            writer.write_program_header(&ProgramHeader {
                p_type: elf::PT_LOAD,
                p_flags: elf::PF_R | elf::PF_W | elf::PF_X,
                p_offset: self.begin() + within,
                p_vaddr: load.from,
                p_paddr: load.to,
                p_filesz: load.size,
                p_memsz: load.size,
                p_align: 0,
            });
        }
        writer.write(&self.notes);
        drop(writer);
        Ok(bytes)
    }
}

/// The parts of these runs that are mapped to memory, in the same order: devices have none.
fn in_memory(mapped: &[Run], memory: u64) -> Vec<Run> {
    let ranges = ranges(memory);
    let parts = mapped.iter().flat_map(|run| {
        ranges.iter().filter_map(|range| {
            let (start, end) = (run.to.max(range.start), (run.to + run.size).min(range.end));
            (start < end).then(|| Run { from: run.from + (start - run.to), to: start, size: end - start })
        })
    });
    parts.collect()
}

/// As many of these runs, from the first one on, as fit with the memory that is in none of them; and that. The kernel's are
/// the first ones.
fn fitting(runs: &[Run], memory: u64, most: usize) -> (Vec<Run>, Vec<Run>) {
    let mut count = runs.len();
    loop {
        let rest = unmapped(&runs[..count], memory);
        let excess = (count + rest.len()).saturating_sub(most);
        if excess == 0 || count == 0 {
            return (runs[..count].to_vec(), rest);
        }
        // A run that is left out spares two segments where it was between two pieces of the rest, and none where it makes
        // a new one: one at a time it would take forever.
        count = count.saturating_sub(excess.div_ceil(2).max(count / 32));
    }
}

/// The memory that none of these runs is mapped to, as runs from 0 on.
fn unmapped(mapped: &[Run], memory: u64) -> Vec<Run> {
    let mut mapped: Vec<_> = mapped.iter().map(|run| (run.to, run.to + run.size)).collect();
    mapped.sort_unstable();
    let mut rest = Vec::new();
    for range in ranges(memory) {
        let mut at = range.start;
        let mut gap = |from: u64, to: u64| {
            if from < to {
                rest.push(Run { from: 0, to: from, size: to - from });
            }
        };
        for (start, end) in mapped.iter().filter(|(start, end)| *start < range.end && *end > range.start) {
            gap(at, *start);
            at = at.max(*end);
        }
        gap(at, range.end);
    }
    rest
}

/// The kernel's VMCOREINFO at a hit, by its place in the recording; none where it is not what it should be.
pub fn info(recording: &mut Recording, hit: usize, place: InfoPlace) -> Option<Vec<u8>> {
    let cpu = recording.hits.get(hit)?.cpu;
    let mut word = |address| {
        let bytes = recording.seen(hit, cpu, address, 8)?;
        bytes.try_into().ok().map(u64::from_le_bytes)
    };
    let (data, size) = (word(place.data)?, word(place.size)?);
    let text = recording.seen(hit, cpu, data, Some(size).filter(|size| (1..=LONGEST_INFO).contains(size))?)?;
    text.starts_with(b"OSRELEASE=").then_some(text)
}

impl Recording {
    /// The place in `hits` of a hit, by its number in the report.
    ///
    /// # Errors
    /// There is none of this number.
    pub fn place_of(&self, index: u64) -> Result<usize> {
        self.hits.iter().position(|hit| hit.index == index).ok_or_else(|| {
            let (first, last) = (self.hits.first(), self.hits.last());
            let [first, last] = [first, last].map(|hit| hit.map_or(0, |hit| hit.index));
            let there = if first == last { format!("only hit {first}") } else { format!("hits {first} to {last}") };
            Error::usage(format!("the recording of {} has no hit {index}: it has {there}", self.head.recipe))
                .hint("report.md tells the hits by their numbers")
        })
    }
}

#[cfg(test)]
mod tests;
