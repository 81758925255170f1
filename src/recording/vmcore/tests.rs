//! Cores of the recording that the tests of the room have, read by `object`.

use object::read::elf::{ElfFile64, ProgramHeader};
use object::{Endianness, Object, elf};

use super::*;
use crate::recording::tests::{OTHERS, head, recorded};

const LE: Endianness = Endianness::Little;

fn opened() -> Recording {
    let folder = tempfile::tempdir().unwrap();
    Recording::open(&recorded(folder.path()).0).unwrap()
}

fn core(recording: &mut Recording, hit: usize, info: Option<&[u8]>) -> Vec<u8> {
    let core = Vmcore::of(recording, hit, info).unwrap();
    assert_eq!(core.left_out, 0);
    let file = tempfile::NamedTempFile::new().unwrap();
    core.write(recording, file.as_file()).unwrap();
    std::fs::read(file.path()).unwrap()
}

/// Virtual address, physical address and content of all segments.
fn loads(core: &[u8]) -> Vec<(u64, u64, &[u8])> {
    let file: ElfFile64<'_> = ElfFile64::parse(core).unwrap();
    let loads = file.elf_program_headers().iter().filter(|header| header.p_type(LE) == elf::PT_LOAD);
    loads.map(|load| (load.p_vaddr(LE), load.p_paddr(LE), load.data(LE, core).unwrap())).collect()
}

#[test]
fn a_core_has_the_memory_of_its_hit_by_virtual_and_by_physical_addresses() {
    let mut recording = opened();
    let all: Vec<String> = (0..3)
        .map(|hit| {
            let core = core(&mut recording, hit, None);
            let loads = loads(&core);
            // The tables map 2 MiB at 0, and there is memory for a part of it.
            assert_eq!(loads.iter().map(|(from, to, _)| (*from, *to)).collect::<Vec<_>>(), [(0, 0)]);
            let memory = loads[0].2;
            assert_eq!(memory.len() as u64, head().memory);
            String::from_utf8_lossy(&memory[0x8000..0xb000]).replace('\0', "")
        })
        .collect();
    assert_eq!(all, ["begin", "otherbegin", "beginagain"]);
}

/// Every other page is mapped, from high addresses to low ones: what one that is left out leaves behind is one more piece.
#[test]
fn as_many_runs_stay_as_there_is_room_for() {
    let memory = 64 * PAGE;
    let runs: Vec<Run> = (0..32).map(|at| Run { from: at << 20, to: 2 * (31 - at) * PAGE, size: PAGE }).collect();
    for most in [1, 2, 3, 10, 33, 63, 64, 65] {
        let (loads, rest) = fitting(&runs, memory, most);
        assert!(loads.len() + rest.len() <= most, "{most}: {loads:?} {rest:?}");
        assert_eq!(loads, runs[..loads.len()], "the first ones");
        assert_eq!(loads.len() == runs.len(), most >= 64, "{most}");
        assert!(most < 3 || !loads.is_empty(), "{most}");
        let all: u64 = loads.iter().chain(&rest).map(|run| run.size).sum();
        assert_eq!(all, memory, "{most}: all of it is in one");
    }
}

#[test]
fn memory_that_is_mapped_nowhere_is_there_by_its_physical_address() {
    let run = |from, to, size| Run { from, to, size };
    let (memory, high) = (3 << 30, 4 << 30);
    let mapped =
        [run(0xffff_8880_0000_0000, 0, 1 << 30), run(0xffff_c900_0000_0000, 0xfe00_0000, PAGE), run(7 << 40, 0, PAGE)];
    let there = in_memory(&mapped, memory);
    let legacy = 0xffff_8880_0010_0000;
    let expected =
        [run(0xffff_8880_0000_0000, 0, 0xa_0000), run(legacy, 0x10_0000, (1 << 30) - 0x10_0000), run(7 << 40, 0, PAGE)];
    assert_eq!(there, expected, "devices are no memory, nor is the screen's");
    assert_eq!(unmapped(&there, memory), [run(0, 1 << 30, 1 << 30), run(0, high, 1 << 30)]);
    assert_eq!(unmapped(&[run(5, 0x1000, PAGE), run(5, 0x3000, PAGE)], 0x5000).len(), 3);
    assert_eq!(unmapped(&in_memory(&[run(0, 0, 8 << 30)], memory), memory), []);
}

#[test]
fn every_cpu_has_a_note_and_the_kernel_one() {
    let info = b"OSRELEASE=6.1.0\n";
    let bytes = core(&mut opened(), 1, Some(info));
    let file: ElfFile64<'_> = ElfFile64::parse(&*bytes).unwrap();
    assert_eq!(file.kind(), object::ObjectKind::Core);
    let header = file.elf_program_headers().first().unwrap();
    let mut notes = header.notes(LE, &*bytes).unwrap().unwrap();
    let number = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    for cpu in 0..2_u64 {
        let note = notes.next().unwrap().unwrap();
        assert_eq!((note.name(), note.n_type(LE)), (&b"CORE"[..], elf::NT_PRSTATUS));
        let status = note.desc();
        assert_eq!((status.len(), status[32], number(status, 112 + 8 * 16)), (336, cpu as u8 + 1, 2 << 8 | cpu));
        // Each register has what the packet has for it.
        let first = number(status, 112) >> 16;
        assert_eq!(OTHERS[first as usize - 1], "r15");
    }
    for cpu in 0..2_u64 {
        let note = notes.next().unwrap().unwrap();
        let state = note.desc();
        assert_eq!((note.name(), state.len(), number(state, 8 + 8 * 16)), (&b"QEMU"[..], 440, 2 << 8 | cpu));
        assert_eq!(OTHERS[(number(state, 8) >> 16) as usize - 1], "rax");
        assert_eq!(OTHERS[(number(state, 432) >> 16) as usize - 1], "k_gs_base");
    }
    let note = notes.next().unwrap().unwrap();
    assert_eq!((note.name(), note.n_type(LE), note.desc()), (&b"VMCOREINFO"[..], elf::NoteType(0), &info[..]));
    assert!(notes.next().unwrap().is_none());
    let wanted = file.elf_header().e_phoff.get(LE);
    assert_eq!((header.p_align(LE), wanted), (0, 64));
}

#[test]
fn what_is_all_zeros_takes_no_room() {
    let mut recording = opened();
    let core = Vmcore::of(&mut recording, 2, None).unwrap();
    // The tables, and two pages that were written to.
    assert_eq!(core.bytes(), core.begin() + 5 * PAGE);
}

#[test]
fn info_is_what_the_kernel_has_written_and_else_none() {
    let mut recording = opened();
    assert_eq!(info(&mut recording, 0, InfoPlace { data: 0x8000, size: 0x9000 }), None, "the size is 0");
    assert_eq!(info(&mut recording, 1, InfoPlace { data: 0xa000, size: 0x9000 }), None, "so large it cannot be");
    assert_eq!(info(&mut recording, 1, InfoPlace { data: 1 << 40, size: 0 }), None, "not mapped");
}

#[test]
fn a_hit_that_is_not_there_is_refused_with_those_that_are() {
    let recording = opened();
    assert_eq!(recording.place_of(3), Ok(2));
    let error = recording.place_of(4).unwrap_err();
    assert_eq!(error.message, "the recording of r has no hit 4: it has hits 1 to 3");
}
