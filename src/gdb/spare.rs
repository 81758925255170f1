//! Memory of a kernel that nothing uses, as far as its symbol table tells (arch/x86/kernel/vmlinux.lds.S). Pure.

use std::ops::Range;

use object::read::elf::ElfFile64;
use object::{Object, ObjectSection, ObjectSymbol};

const PAGE: u64 = 4096;
/// Where the kernel's code ends. What is behind it is given back to the allocator in whole pages (`mark_rodata_ro`).
const END_OF_CODE: &str = "_etext";
/// Where the data that begins as zeros ends, and where that part of it begins which the kernel shares with a hypervisor and
/// frees where there is none (`mem_encrypt_free_decrypted_mem`). Up to the first of them the kernel keeps all for itself
/// (`__end_of_kernel_reserve`).
const ENDS_OF_DATA: [&str; 2] = ["__bss_stop", "__start_bss_decrypted"];

/// Memory that nothing uses; empty where there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Spare {
    /// Can be executed: from the end of the code to the end of its page.
    pub(super) code: Range<u64>,
    /// Can be written: from the end of the last object in `.bss` on. It has zeros in it.
    pub(super) data: Range<u64>,
}

impl Spare {
    /// That of a kernel.
    pub(super) fn of(file: &ElfFile64<'_>) -> Spare {
        let named = |name: &str| file.symbols().find(|symbol| symbol.name() == Ok(name));
        let code = named(END_OF_CODE).map(|end| end.address()).unwrap_or_default();
        Spare { code: code..code.next_multiple_of(PAGE), data: data(file).unwrap_or_default() }
    }
}

fn data(file: &ElfFile64<'_>) -> Option<Range<u64>> {
    let section = file.section_by_name(".bss")?.index();
    let symbols = || file.symbols().filter(|symbol| symbol.section_index() == Some(section));
    let ends = symbols().filter(|symbol| symbol.name().is_ok_and(|name| ENDS_OF_DATA.contains(&name)));
    let end = ends.map(|symbol| symbol.address()).min()?;
    let below = symbols().filter(|symbol| symbol.address() < end);
    let start = below.map(|symbol| symbol.address() + symbol.size().max(1)).max()?;
    Some(start..end)
}
