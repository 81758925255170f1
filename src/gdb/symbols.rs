//! The symbol table of a kernel: which function an address is in, and what function names there are.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::ops::Range;
use std::path::Path;

use object::read::elf::{ElfFile64, ElfSection64};
use object::{Endianness, Object, ObjectSection, ObjectSymbol, SectionFlags, SymbolKind};
use wildmatch::WildMatch;

use super::spare::Spare;
use crate::error::{Error, IoContext, Result};
use crate::report::path::plain_symbol;
use crate::spelling::nearest;

/// The functions of a kernel and of the modules that are loaded into it, by address.
#[derive(Debug, Default)]
pub struct Symbols {
    kernel: Table,
    modules: BTreeMap<String, Table>,
}

#[derive(Debug, Default)]
struct Table {
    functions: Vec<Function>,
    /// What the kernel frees at the end of its boot, its init code among it.
    freed: Range<u64>,
    /// What of its memory nothing uses.
    spare: Spare,
    /// Where its code ends: assembler code has no size, and would reach to the end of the address space.
    end: u64,
}

#[derive(Debug)]
struct Function {
    start: u64,
    size: u64,
    name: String,
}

impl Symbols {
    /// Reads a kernel's table. The stripped boot image will do: it keeps its symbols.
    ///
    /// # Errors
    /// The file cannot be read or is not ELF.
    pub fn read(path: &Path) -> Result<Symbols> {
        let kernel = Table::read(path, |section| Some(section.address()))?;
        Ok(Symbols { kernel, modules: BTreeMap::new() })
    }

    /// Takes in a module that was loaded, with its sections at these addresses.
    ///
    /// # Errors
    /// As [`Symbols::read`].
    pub fn add_module(&mut self, name: &str, path: &Path, sections: &BTreeMap<String, u64>) -> Result<()> {
        let table = Table::read(path, |section| sections.get(section.name().ok()?).copied())?;
        self.modules.insert(name.into(), table);
        Ok(())
    }

    /// Forgets a module that was unloaded.
    pub fn remove_module(&mut self, name: &str) {
        self.modules.remove(name);
    }

    /// The names and the start of the function that holds `address`. Aliases share a start.
    pub fn containing(&self, address: u64) -> Option<Containing<'_>> {
        self.kernel.containing(address).or_else(|| self.modules.values().find_map(|module| module.containing(address)))
    }

    /// Where the function of this name begins, in a module or in the kernel itself; of several, the one whose size is
    /// nearest to `size`, which may have the padding behind it counted in.
    pub fn start_of(&self, module: Option<&str>, name: &str, size: u64) -> Option<u64> {
        let table = match module {
            Some(module) => self.modules.get(module)?,
            None => &self.kernel,
        };
        let named = table.functions.iter().filter(|function| function.name == name);
        named.min_by_key(|function| function.size.abs_diff(size)).map(|function| function.start)
    }

    /// Whether the kernel has freed the code at `address` once it has booted.
    pub fn is_freed(&self, address: u64) -> bool {
        self.kernel.freed.contains(&address)
    }

    /// The names of the functions that match a pattern, without the suffixes of clones, each function once: neither what is
    /// freed after boot nor a second name of the same code.
    pub fn matching(&self, pattern: &str) -> Vec<String> {
        let tables = std::iter::once(&self.kernel).chain(self.modules.values());
        let mut seen = HashSet::new();
        let mut names = BTreeSet::new();
        for function in tables.flat_map(|table| &table.functions) {
            let name = plain_symbol(&function.name);
            if is_match(pattern, name) && !self.is_freed(function.start) && seen.insert(function.start) {
                names.insert(name.to_string());
            }
        }
        names.into_iter().collect()
    }

    /// Where the kernel's function of this name begins, and how many bytes there are until the next one.
    pub fn room(&self, name: &str) -> Option<(u64, u64)> {
        let start = self.start_of(None, name, 0)?;
        let next = self.kernel.functions.iter().map(|function| function.start).find(|next| *next > start)?;
        Some((start, next - start))
    }

    /// Where the function of the kernel itself that holds `address` begins; none where that is a module's.
    pub fn start_in_kernel(&self, address: u64) -> Option<u64> {
        self.kernel.containing(address).map(|function| function.start)
    }

    /// Whether `address` is where the kernel has no code, and somebody else may have put some.
    pub(super) fn is_spare(&self, address: u64) -> bool {
        self.kernel.spare.code.contains(&address)
    }

    /// What of the kernel's memory nothing uses.
    pub(super) fn spare(&self) -> &Spare {
        &self.kernel.spare
    }

    /// Function names that look like `wrong`, closest first.
    pub fn close_to(&self, wrong: &str) -> Vec<String> {
        let there = self.kernel.functions.iter().filter(|function| !self.is_freed(function.start));
        let names = there.map(|function| plain_symbol(&function.name));
        nearest(wrong, names).into_iter().map(String::from).collect()
    }
}

impl Table {
    /// Reads a file whose sections are at the addresses that `placed` gives; functions of a section without one are left
    /// out.
    fn read(path: &Path, placed: impl Fn(&ElfSection64<'_, '_>) -> Option<u64>) -> Result<Table> {
        let data = fs::read(path).or_host(format!("read {}", path.display()))?;
        let wrong = |error: object::Error| Error::kernel(format!("{} is not an ELF file: {error}", path.display()));
        let file: ElfFile64<'_> = ElfFile64::parse(&*data).map_err(wrong)?;
        let mut table = Table::default();
        let mut shifts = HashMap::new();
        for section in file.sections() {
            if let (true, Some(address)) = (is_code(&section), placed(&section)) {
                shifts.insert(section.index(), address.wrapping_sub(section.address()));
                table.end = table.end.max(address + section.size());
            }
        }
        for symbol in file.symbols() {
            match symbol.name() {
                Ok("__init_begin") => table.freed.start = symbol.address(),
                Ok("__init_end") => table.freed.end = symbol.address(),
                _ => {}
            }
            let section = symbol.section_index().and_then(|index| shifts.get(&index));
            let (Some(shift), Ok(name)) = (section, symbol.name()) else { continue };
            if symbol.kind() == SymbolKind::Text && symbol.is_definition() {
                let start = symbol.address().wrapping_add(*shift);
                table.functions.push(Function { start, size: symbol.size(), name: name.into() });
            }
        }
        table.functions.sort_by_key(|function| function.start);
        table.spare = Spare::of(&file);
        Ok(table)
    }

    fn containing(&self, address: u64) -> Option<Containing<'_>> {
        if address >= self.end {
            return None;
        }
        let after = self.functions.partition_point(|function| function.start <= address);
        let nearest = self.functions.get(after.checked_sub(1)?)?;
        let start = nearest.start;
        let from = self.functions.partition_point(|function| function.start < start);
        let aliases = &self.functions[from..after];
        aliases
            .iter()
            .any(|function| function.size == 0 || address < start + function.size)
            .then_some(Containing { start, aliases })
    }
}

/// Whether a name matches a pattern, in which `*` stands for any characters and `?` for one. The padding in front of a
/// function, which has a name too, is none.
pub fn is_match(pattern: &str, name: &str) -> bool {
    !name.starts_with("__pfx_") && WildMatch::new(pattern).matches(name)
}

/// By its flags: a file of debug information alone has no bytes for its code.
fn is_code(section: &ElfSection64<'_, '_>) -> bool {
    matches!(section.flags(), SectionFlags::Elf { sh_flags, .. } if (sh_flags & object::elf::SHF_EXECINSTR).0 != 0)
}

/// The names of the functions in an ELF file; none if it cannot be read.
pub fn functions(path: &Path) -> Vec<String> {
    let Ok(data) = fs::read(path) else { return Vec::new() };
    let Ok(file) = ElfFile64::<'_, Endianness>::parse(&*data) else { return Vec::new() };
    let functions = file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.is_definition());
    functions.filter_map(|symbol| symbol.name().ok().map(|name| plain_symbol(name).to_string())).collect()
}

/// The function that holds an address.
#[derive(Debug)]
pub struct Containing<'a> {
    /// Its first address.
    pub start: u64,
    aliases: &'a [Function],
}

impl Containing<'_> {
    /// Whether one of its names is `function`, a clone's suffix aside.
    pub fn is(&self, function: &str) -> bool {
        self.aliases.iter().any(|alias| plain_symbol(&alias.name) == function || alias.name == function)
    }

    /// Its name; the longest-lived of several is the first.
    pub fn name(&self) -> &str {
        self.aliases.first().map_or("", |alias| alias.name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With a function that is freed after boot, at 0x150.
    fn symbols() -> Symbols {
        let function = |start, size, name: &str| Function { start, size, name: name.into() };
        let functions = vec![
            function(0x100, 0x20, "tcp_v4_rcv"),
            function(0x120, 0x10, "__se_sys_connect"),
            function(0x120, 0x10, "__x64_sys_connect"),
            function(0x140, 0, "asm_entry"),
            function(0x180, 0x10, "tcp_v4_init"),
            function(0x200, 0x10, "skb_put.constprop.0"),
            function(0x210, 0, "asm_exit"),
        ];
        let module = Table { functions: vec![function(0x300, 0x10, "veth_xmit")], end: 0x400, ..Table::default() };
        Symbols {
            kernel: Table { functions, freed: 0x180..0x200, end: 0x220, ..Table::default() },
            modules: BTreeMap::from([("veth".into(), module)]),
        }
    }

    #[test]
    fn an_address_is_in_the_function_around_it() {
        let symbols = symbols();
        let start = |address| symbols.containing(address).map(|found| found.start);
        assert_eq!(
            [start(0x11f), start(0x120), start(0x135), start(0x150), start(0xff)],
            [Some(0x100), Some(0x120), None, Some(0x140), None]
        );
        assert_eq!([start(0x21f), start(0x220), start(0x30f), start(0x310)], [Some(0x210), None, Some(0x300), None]);
        assert_eq!([None, Some("veth")].map(|module| symbols.start_of(module, "veth_xmit", 0x30)), [None, Some(0x300)]);
        assert_eq!([symbols.room("tcp_v4_rcv"), symbols.room("asm_entry")], [Some((0x100, 0x20)), Some((0x140, 0x40))]);
        assert!(symbols.containing(0x121).unwrap().is("__x64_sys_connect"));
        assert!(symbols.containing(0x201).unwrap().is("skb_put"));
    }

    #[test]
    fn a_pattern_matches_every_function_once_and_no_clone_apart() {
        let symbols = symbols();
        assert_eq!(symbols.matching("tcp_v4_*"), ["tcp_v4_rcv"], "tcp_v4_init is freed");
        assert_eq!(symbols.matching("sk*put"), ["skb_put"]);
        assert_eq!(symbols.matching("__*_sys_connect"), ["__se_sys_connect"], "one of the two names");
        assert_eq!(symbols.matching("v?th_*"), ["veth_xmit"]);
        assert_eq!((symbols.is_freed(0x18f), symbols.is_freed(0x200)), (true, false));
    }

    #[test]
    fn wrong_names_get_near_ones() {
        assert_eq!(symbols().close_to("tcp_v4_recv"), ["tcp_v4_rcv"]);
        assert_eq!(symbols().close_to("skb_putt"), ["skb_put"]);
    }
}
