//! What an ELF program or library asks the dynamic linker for. Pure.

use object::Endianness;
use object::elf::{DT_NEEDED, DT_RPATH, DT_RUNPATH, EM_X86_64};
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};

/// What a program or library needs beside itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Linkage {
    /// The dynamic linker; none for a library, and for what is static.
    pub(super) interpreter: Option<String>,
    /// Libraries by name.
    pub(super) needed: Vec<String>,
    /// Folders that are searched before the usual ones, as they are written: `$ORIGIN` may be in them.
    pub(super) folders: Vec<String>,
}

/// Reads a program or library for x86-64; none if it is something else.
pub(super) fn linkage(data: &[u8]) -> Option<Linkage> {
    let elf = ElfFile64::<Endianness>::parse(data).ok()?;
    let endian = elf.endian();
    if elf.elf_header().e_machine(endian) != EM_X86_64 {
        return None;
    }
    let interpreter = elf.elf_program_headers().iter().find_map(|header| header.interpreter(endian, data).ok()?);
    let dynamic = elf.elf_dynamic_table().ok()?;
    let strings = |tag| {
        let entries = dynamic.iter().filter(move |entry| entry.tag == tag);
        entries.filter_map(|entry| dynamic.string(entry).ok().map(text)).collect::<Vec<_>>()
    };
    // The old RPATH counts only where there is no RUNPATH.
    let folders = [strings(DT_RUNPATH), strings(DT_RPATH)].into_iter().find(|paths| !paths.is_empty());
    let folders = folders.unwrap_or_default().join(":");
    let folders = folders.split(':').filter(|folder| !folder.is_empty()).map(str::to_owned).collect();
    Some(Linkage { interpreter: interpreter.map(text), needed: strings(DT_NEEDED), folders })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_tells_its_linker_and_libraries() {
        let this = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let linkage = linkage(&this).unwrap();
        assert!(linkage.interpreter.unwrap().contains("/ld-linux"));
        assert!(linkage.needed.contains(&"libc.so.6".to_owned()), "{:?}", linkage.needed);
    }

    #[test]
    fn what_is_no_program_needs_nothing() {
        assert_eq!(linkage(b"#!/bin/sh\n"), None);
        assert_eq!(linkage(b"\x7fELF"), None);
    }
}
