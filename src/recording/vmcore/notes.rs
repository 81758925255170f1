//! The notes of a core: what the CPUs had in their registers, and what the kernel says of itself.

use crate::error::{Error, Result};
use crate::recording::Recording;

/// `NT_PRSTATUS`, and the name under which a note of the kernel's has no type.
const PRSTATUS: u32 = 1;
const UNTYPED: u32 = 0;

/// How long `struct elf_prstatus` is on x86-64, and where the process and the registers are in it (the kernel's
/// include/uapi/linux/elfcore.h).
const LENGTH: usize = 336;
const PROCESS: usize = 32;
const REGISTERS: usize = 112;

/// `struct user_regs_struct` (arch/x86/include/asm/user_64.h), by QEMU's names. `orig_rax` is of a system call, which QEMU
/// does not know of.
const ORDER: [&str; 27] = [
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi", ORIGINAL,
    "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs",
];
const ORIGINAL: &str = "orig_rax";

/// QEMU's `QEMUCPUState` (target/i386/arch_dump.c): its version, how long it is, and what is in it behind that.
const STATE_VERSION: u32 = 1;
const STATE_LENGTH: u32 = 440;
const GENERAL: [&str; 18] = [
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
    "rip", "eflags",
];
/// Segments: a selector, four bytes each of limit, flags and nothing, and a base.
const SEGMENTS: [(&str, Option<&str>); 6] =
    [("cs", None), ("ds", None), ("es", None), ("fs", Some("fs_base")), ("gs", Some("gs_base")), ("ss", None)];
/// The local descriptor table, the task register, and the global and interrupt descriptor tables, as segments.
const TABLES: usize = 4;
const SEGMENT: usize = 24;
/// CR0 to CR4, and the base that the CPU exchanges for that of GS.
const CONTROL: [Option<&str>; 6] = [Some("cr0"), None, Some("cr2"), Some("cr3"), Some("cr4"), Some("k_gs_base")];

/// The notes of a hit: one for each CPU in order, as `crash` wants them, and VMCOREINFO. Where there is that, `crash` also
/// takes the registers of what runs on a CPU, if there is QEMU's note too; without it, it would look in QEMU's note for
/// where the kernel's interrupt table is, and that is not in there.
pub(super) fn of(recording: &Recording, hit: usize, info: Option<&[u8]>) -> Result<Vec<u8>> {
    let mut notes = Vec::new();
    for cpu in 0..recording.head.cpus {
        notes.extend(note("CORE", PRSTATUS, &status(recording, hit, cpu)?));
    }
    let Some(info) = info else { return Ok(notes) };
    for cpu in 0..recording.head.cpus {
        notes.extend(note("QEMU", UNTYPED, &state(recording, hit, cpu)?));
    }
    notes.extend(note("VMCOREINFO", UNTYPED, info));
    Ok(notes)
}

/// What QEMU would say of a CPU. What its GDB stub does not tell is 0: limits and flags of segments, and the tables.
fn state(recording: &Recording, hit: usize, cpu: u32) -> Result<Vec<u8>> {
    let register = |name: &str| recording.register(hit, cpu, name).ok_or_else(|| missing(name));
    let mut state = [STATE_VERSION.to_le_bytes(), STATE_LENGTH.to_le_bytes()].concat();
    for name in GENERAL {
        state.extend(register(name)?.to_le_bytes());
    }
    for (selector, base) in SEGMENTS {
        state.extend(register(selector)?.to_le_bytes());
        state.extend([0; 8]);
        state.extend(base.map_or(Ok(0), register)?.to_le_bytes());
    }
    state.extend([0; TABLES * SEGMENT]);
    for name in CONTROL {
        state.extend(name.map_or(Ok(0), register)?.to_le_bytes());
    }
    Ok(state)
}

fn status(recording: &Recording, hit: usize, cpu: u32) -> Result<[u8; LENGTH]> {
    let mut status = [0; LENGTH];
    // QEMU's number of a CPU, by which drgn finds it and GDB calls it a thread.
    status[PROCESS..PROCESS + 4].copy_from_slice(&(cpu + 1).to_le_bytes());
    for (place, name) in status[REGISTERS..].chunks_exact_mut(8).zip(ORDER) {
        let value = match name {
            ORIGINAL => 0,
            name => recording.register(hit, cpu, name).ok_or_else(|| missing(name))?,
        };
        place.copy_from_slice(&value.to_le_bytes());
    }
    Ok(status)
}

/// A register that QEMU did not tell of.
pub(super) fn missing(name: &str) -> Error {
    Error::usage(format!("the recording does not have the register {name} of each CPU"))
        .hint("record it with a QEMU whose GDB stub tells of it: `kdbg run RECIPE --record`")
}

/// A note (System V ABI, "Note Section"): lengths, type, name and content, each of the last two filled up to four bytes.
fn note(name: &str, kind: u32, content: &[u8]) -> Vec<u8> {
    let name = [name.as_bytes(), b"\0"].concat();
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
    let mut note = [length(&name), length(content), kind.to_le_bytes()].concat();
    for part in [&name[..], content] {
        note.extend(part);
        note.resize(note.len().next_multiple_of(4), 0);
    }
    note
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qemus_state_is_as_long_as_it_says() {
        let registers = 2 * 4 + 8 * GENERAL.len() + SEGMENT * (SEGMENTS.len() + TABLES) + 8 * CONTROL.len();
        assert_eq!(registers, STATE_LENGTH as usize);
    }

    #[test]
    fn a_note_says_how_long_its_parts_are_and_fills_them_up() {
        let bytes = note("CORE", 1, b"abcde");
        assert_eq!(bytes, b"\x05\0\0\0\x05\0\0\0\x01\0\0\0CORE\0\0\0\0abcde\0\0\0");
    }
}
