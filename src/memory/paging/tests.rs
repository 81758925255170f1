//! The walk, over tables made by hand.

use std::collections::BTreeMap;

use super::*;

/// Physical memory, by pages; what is not there cannot be read.
#[derive(Default)]
struct Machine(BTreeMap<u64, Vec<u8>>);

impl Machine {
    fn page(&mut self, at: u64) -> &mut Vec<u8> {
        self.0.entry(at).or_insert_with(|| vec![0; PAGE as usize])
    }

    fn set(&mut self, table: u64, index: usize, entry: u64) {
        self.page(table)[8 * index..8 * index + 8].copy_from_slice(&entry.to_le_bytes());
    }

    fn read(&self, address: u64, into: &mut [u8]) -> bool {
        let page = self.0.get(&(address & !(PAGE - 1)));
        let from = (address % PAGE) as usize;
        let bytes = page.and_then(|page| page.get(from..from + into.len()));
        bytes.map(|bytes| into.copy_from_slice(bytes)).is_some()
    }

    fn translate(&self, tables: Tables, address: u64) -> Option<u64> {
        tables.translate(address, &mut |address, into| self.read(address, into))
    }

    fn bytes(&self, tables: Tables, address: u64, size: u64) -> Option<Vec<u8>> {
        tables.read(address, size, &mut |address, into| self.read(address, into))
    }
}

const WRITABLE: u64 = 2;
const NO_EXECUTE: u64 = 1 << 63;

/// Tables with a page of each size in the kernel's half, and the last page of all; the PCID and other bits are set.
fn machine() -> (Machine, Tables) {
    let mut machine = Machine::default();
    let flags = PRESENT | WRITABLE;
    // 0xffff_8880_0000_0000: entry 273 of the root.
    machine.set(0x1000, 273, 0x2000 | flags);
    machine.set(0x2000, 0, 0x3000 | flags | NO_EXECUTE);
    // A page of 1 GiB at the second entry, whose bit 12 is no part of the address.
    machine.set(0x2000, 1, 0x8000_0000 | LARGE | flags | 1 << 12);
    machine.set(0x3000, 0, 0x4000 | flags);
    machine.set(0x3000, 1, 0x20_0000 | LARGE | flags | NO_EXECUTE);
    machine.set(0x4000, 5, 0x5000 | flags | NO_EXECUTE);
    machine.set(0x4000, 6, 0x9000 | flags);
    // The lowest bit is not set: whatever the rest is, nothing is mapped (PROT_NONE, swapped out).
    machine.set(0x4000, 7, 0xa000 | WRITABLE);
    machine.set(0x1000, 511, 0x6000 | flags);
    machine.set(0x6000, 511, 0x7000 | flags);
    machine.set(0x7000, 511, 0x8000 | flags);
    machine.set(0x8000, 511, 0xb000 | flags);
    (machine, Tables::of(0x8000_0000_0000_1000 | 0xfff, 0x6f0))
}

#[test]
fn pages_of_all_sizes_are_found_and_others_are_not() {
    let (machine, tables) = machine();
    let at = |offset: u64| machine.translate(tables, 0xffff_8880_0000_0000 + offset);
    assert_eq!(at(0x5123), Some(0x5123));
    assert_eq!(at(0x6fff), Some(0x9fff));
    assert_eq!(at(0x20_0000), Some(0x20_0000), "2 MiB, its first byte");
    assert_eq!(at(0x3f_fff8), Some(0x3f_fff8), "2 MiB, its last word");
    assert_eq!(at(0x4765_4321), Some(0x8765_4321), "1 GiB");
    assert_eq!(at(0x7000), None, "not present");
    assert_eq!(at(0), None, "no entry in the last table");
    assert_eq!(at(0x40_0000), None, "no entry in the second");
    assert_eq!(at(0x8000_0000), None, "no entry in the third");
    assert_eq!(machine.translate(tables, 0x40_0000), None, "no entry in the root");
    assert_eq!(machine.translate(Tables::of(0xc000, 0), 0x40_0000), None, "no table");
}

#[test]
fn an_address_that_the_tables_do_not_have_is_none() {
    let (mut machine, tables) = machine();
    assert_eq!(machine.translate(tables, 0x0000_8880_0000_5123), None, "the upper bits are not those of bit 47");
    assert_eq!(machine.translate(tables, 0x0000_0880_0000_5123), None);
    // Of a program: the same way, through the lower half of the root.
    machine.set(0x1000, 17, 0x2000 | PRESENT);
    assert_eq!(machine.translate(tables, 0x0000_0880_0000_5123), Some(0x5123));
}

#[test]
fn five_levels_have_one_table_more() {
    let (mut machine, _) = machine();
    machine.set(0xd000, 511, 0x1000 | PRESENT);
    // 0xff11_0000_0000_0000 >> 48 & 0x1ff.
    machine.set(0xd000, 0x111, 0x1000 | PRESENT);
    let five = Tables::of(0xd000, LA57 | 0x6f0);
    assert_eq!(machine.translate(five, 0xffff_8880_0000_5123), Some(0x5123), "the last 256 TiB");
    assert_eq!(machine.translate(five, 0xff11_8880_0000_5123), Some(0x5123), "canonical with five levels only");
    assert_eq!(machine.translate(five, 0xfe11_8880_0000_5123), None);
    assert_eq!(machine.translate(Tables::of(0x1000, 0), 0xff11_8880_0000_5123), None);
}

#[test]
fn what_crosses_pages_is_read_from_each_and_all_of_it_or_nothing() {
    let (mut machine, tables) = machine();
    machine.page(0x5000).fill(5);
    machine.page(0x9000).fill(9);
    let read = |address, size| machine.bytes(tables, address, size);
    assert_eq!(read(0xffff_8880_0000_5ffe, 4), Some(vec![5, 5, 9, 9]));
    assert_eq!(read(0xffff_8880_0000_5000, 0), Some(vec![]));
    assert_eq!(read(0xffff_8880_0000_5fff, 1), Some(vec![5]));
    assert_eq!(read(0xffff_8880_0000_6fff, 2), None, "the next page is not there");
    assert_eq!(read(0xffff_8880_0000_4fff, 2), None, "the first one is not");
    assert_eq!(read(0xffff_8880_0020_0000, 8), None, "mapped to where no memory is");
    assert_eq!(read(0xffff_8880_0000_5000, u64::MAX), None);
}

#[test]
fn the_last_byte_of_all_is_read_and_there_is_none_behind_it() {
    let (mut machine, tables) = machine();
    machine.page(0xb000).fill(11);
    assert_eq!(machine.bytes(tables, 0xffff_ffff_ffff_fffc, 4), Some(vec![11; 4]));
    assert_eq!(machine.bytes(tables, 0xffff_ffff_ffff_fffc, 5), None);
    assert_eq!(machine.bytes(tables, u64::MAX, 1), Some(vec![11]));
}

#[test]
fn all_that_is_mapped_comes_in_runs_the_kernels_half_first() {
    let (mut machine, tables) = machine();
    let flags = PRESENT | WRITABLE;
    // A program's pages: two that lie behind each other in both ways, and one that does not.
    machine.set(0x1000, 0, 0xc000 | flags);
    machine.set(0xc000, 0, 0xd000 | flags);
    machine.set(0xd000, 2, 0xe000 | flags);
    for (index, page) in [(1, 0x30_0000), (2, 0x30_1000), (3, 0x50_0000)] {
        machine.set(0xe000, index, page | flags | NO_EXECUTE);
    }
    // The table of the kernel's first pages a second time, and a table that is its own entry.
    machine.set(0x3000, 9, 0x4000 | flags);
    machine.set(0x1000, 300, 0x1000 | flags);
    let run = |from, to, size| Run { from, to, size };
    let user = 0x40_0000;
    let expected = [
        run(0xffff_8880_0000_5000, 0x5000, PAGE),
        run(0xffff_8880_0000_6000, 0x9000, PAGE),
        run(0xffff_8880_0020_0000, 0x20_0000, 0x20_0000),
        run(0xffff_8880_4000_0000, 0x8000_0000, 0x4000_0000),
        run(0xffff_ffff_ffff_f000, 0xb000, PAGE),
        run(user + 0x1000, 0x30_0000, 2 * PAGE),
        run(user + 0x3000, 0x50_0000, PAGE),
    ];
    let runs = tables.runs(&mut |address, into| machine.read(address, into));
    assert_eq!(runs, expected, "{runs:x?}");
    // The walk by address says the same.
    for Run { from, to, size } in runs {
        assert_eq!(machine.translate(tables, from), Some(to));
        assert_eq!(machine.translate(tables, from + (size - 1)), Some(to + size - 1));
    }
    assert_eq!(machine.translate(tables, tables.nowhere()), None);
}
