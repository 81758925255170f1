//! The symbol table of a kernel: which function an address is in, and what function names there are.

use std::fs;
use std::path::Path;

use object::{Object, ObjectSymbol, SymbolKind};

use crate::error::{Error, IoContext, Result};
use crate::report::path::plain_symbol;
use crate::spelling::nearest;

/// The functions of an ELF file, by address.
#[derive(Debug, Default)]
pub struct Symbols {
    functions: Vec<Function>,
}

#[derive(Debug)]
struct Function {
    start: u64,
    size: u64,
    name: String,
}

impl Symbols {
    /// Reads the table. The stripped boot image will do: it keeps its symbols.
    ///
    /// # Errors
    /// The file cannot be read or is not ELF.
    pub fn read(path: &Path) -> Result<Symbols> {
        let data = fs::read(path).or_host(format!("read {}", path.display()))?;
        let file = object::File::parse(&*data)
            .map_err(|error| Error::kernel(format!("{} is not an ELF file: {error}", path.display())))?;
        let mut functions: Vec<Function> = file
            .symbols()
            .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.is_definition())
            .filter_map(|symbol| {
                let name = symbol.name().ok()?.to_string();
                Some(Function { start: symbol.address(), size: symbol.size(), name })
            })
            .collect();
        functions.sort_by_key(|function| function.start);
        Ok(Symbols { functions })
    }

    /// The names and the start of the function that holds `address`. Aliases share a start.
    pub fn containing(&self, address: u64) -> Option<Containing<'_>> {
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

    /// Function names that look like `wrong`, closest first.
    pub fn close_to(&self, wrong: &str) -> Vec<String> {
        let names = self.functions.iter().map(|function| plain_symbol(&function.name));
        nearest(wrong, names).into_iter().map(String::from).collect()
    }
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

    fn symbols() -> Symbols {
        let function = |start, size, name: &str| Function { start, size, name: name.into() };
        Symbols {
            functions: vec![
                function(0x100, 0x20, "tcp_v4_rcv"),
                function(0x120, 0x10, "__se_sys_connect"),
                function(0x120, 0x10, "__x64_sys_connect"),
                function(0x140, 0, "asm_entry"),
                function(0x200, 0x10, "skb_put.constprop.0"),
            ],
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
        assert!(symbols.containing(0x121).unwrap().is("__x64_sys_connect"));
        assert!(symbols.containing(0x201).unwrap().is("skb_put"));
    }

    #[test]
    fn wrong_names_get_near_ones() {
        assert_eq!(symbols().close_to("tcp_v4_recv"), ["tcp_v4_rcv"]);
        assert_eq!(symbols().close_to("skb_putt"), ["skb_put"]);
    }
}
