//! Modules as they come and go in the guest: GDB is given the symbols of each at the addresses where the kernel put it.
//!
//! Two breakpoints of kdbg's own tell: one where a module is in memory and has not run yet, one where it is about to go.
//! They are no probes, and stops at them are no hits.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::answer::Answer;
use super::client::{Gdb, Stop};
use super::command;
use super::mi::number;
use super::symbols::Symbols;
use super::variables::{KERNEL_HALF, unquote};
use crate::error::Result;
use crate::event::Cancel;

/// Both get the module as their first argument. Until the first of them runs it, no code of the module has run.
const LOADED: &str = "do_init_module";
const UNLOADING: &str = "free_module";
/// More sections or modules than this are no list but a pointer gone astray.
const MANY: u64 = 512;
/// Where the kernel keeps the sections of module `M`: how many (6.13 and before) or how many to try, then name and address
/// of section `N`.
const LAYOUTS: [(&str, &str, &str); 2] = [
    ("M->sect_attrs->nsections", "M->sect_attrs->attrs[N].battr.attr.name", "M->sect_attrs->attrs[N].address"),
    ("M->sect_attrs ? 64 : 0", "M->sect_attrs->attrs[N].attr.name", "M->sect_attrs->attrs[N].private"),
];

/// What happened to a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was loaded; its code has not run yet.
    Loaded,
    /// It is about to be unloaded.
    Unloading,
}

/// A module that was loaded.
#[derive(Debug, Clone)]
pub struct Found {
    name: String,
    sections: BTreeMap<String, u64>,
}

/// The modules of a guest.
#[derive(Debug, Default)]
pub struct Watch {
    /// The debug information of those that may be loaded, by name.
    files: BTreeMap<String, PathBuf>,
    /// kdbg's own breakpoints: GDB's number, address, what a stop there means.
    own: Vec<(u64, u64, Change)>,
    /// Those that GDB has symbols of.
    loaded: BTreeMap<String, Found>,
    /// Those that were loaded and whose places the kernel does not tell: it keeps them with `KALLSYMS` and `SYSFS` only.
    pub unplaced: BTreeSet<String>,
}

impl Watch {
    /// Sets the breakpoints, if there are modules to be watched.
    ///
    /// # Errors
    /// GDB failed.
    pub fn set(gdb: &mut Gdb, files: BTreeMap<String, PathBuf>, cancel: &Cancel) -> Result<Watch> {
        let mut watch = Watch { files, ..Watch::default() };
        if watch.files.is_empty() {
            return Ok(watch);
        }
        for (function, change) in [(LOADED, Change::Loaded), (UNLOADING, Change::Unloading)] {
            // By address: the first instruction, where the argument is in its register whatever the compiler did.
            let Answer::Done(values, _) = gdb.ask(&format!("-break-insert *{function}"), cancel)? else { continue };
            let breakpoint = values.tuple("bkpt");
            let placed = breakpoint.and_then(|values| values.number("number").zip(values.number("addr")));
            watch.own.extend(placed.map(|(number, address)| (number, address, change)));
        }
        Ok(watch)
    }

    /// What a stop means for a module, if anything.
    pub fn change_at(&self, stop: &Stop) -> Option<Change> {
        let address = stop.address.as_deref().and_then(number);
        self.own.iter().find(|(_, at, _)| Some(*at) == address).map(|(.., change)| *change)
    }

    /// The module that a stop is about, if it has debug information.
    ///
    /// # Errors
    /// GDB failed.
    pub fn module_at(&mut self, gdb: &mut Gdb, stop: &Stop, cancel: &Cancel) -> Result<Option<Found>> {
        let thread = stop.thread.unwrap_or(1);
        let answer = gdb.ask(&command::evaluate_at(thread, 0, "(unsigned long)$rdi"), cancel)?;
        match answer.value().and_then(number) {
            Some(address) => self.look(gdb, address, cancel),
            None => Ok(None),
        }
    }

    /// The modules that are loaded now, as far as they have debug information.
    ///
    /// # Errors
    /// GDB failed.
    pub fn loaded_now(&mut self, gdb: &mut Gdb, cancel: &Cancel) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        if self.own.is_empty() {
            return Ok(found);
        }
        let offset = "(unsigned long)&((struct module *)0)->list";
        let [Some(head), Some(offset), Some(mut at)] =
            evaluate(gdb, ["(unsigned long)&modules", offset, "(unsigned long)modules.next"], cancel)?
        else {
            return Ok(found);
        };
        for _ in 0..MANY {
            if at == head || at < KERNEL_HALF {
                break;
            }
            found.extend(self.look(gdb, at - offset, cancel)?.map(Found::without_init));
            let next = format!("(unsigned long)((struct list_head *){at})->next");
            let [next] = evaluate(gdb, [next.as_str()], cancel)?;
            at = next.unwrap_or(head);
        }
        Ok(found)
    }

    /// Reads a `struct module`.
    fn look(&mut self, gdb: &mut Gdb, address: u64, cancel: &Cancel) -> Result<Option<Found>> {
        let module = format!("((struct module *){address})");
        let name = gdb.ask(&command::evaluate(&format!("{module}->name")), cancel)?;
        let Some(name) = name.value().map(unquote).filter(|name| self.files.contains_key(name)) else {
            return Ok(None);
        };
        for (count, section, place) in LAYOUTS {
            let of = |text: &str, n: u64| text.replace('M', &module).replace('N', &n.to_string());
            let [Some(count)] = evaluate(gdb, [of(count, 0).as_str()], cancel)? else { continue };
            let commands: Vec<String> = (0..count.min(MANY))
                .flat_map(|n| {
                    [command::evaluate(&of(section, n)), command::evaluate(&format!("(unsigned long){}", of(place, n)))]
                })
                .collect();
            let answers = gdb.batch(&commands, cancel)?;
            let sections =
                answers.chunks(2).filter_map(|pair| Some((unquote(pair[0].value()?), number(pair[1].value()?)?)));
            let sections: BTreeMap<String, u64> = sections.filter(|(name, _)| is_plain(name)).collect();
            if !sections.is_empty() {
                return Ok(Some(Found { name, sections }));
            }
        }
        self.unplaced.insert(name);
        Ok(None)
    }

    /// Gives GDB and `symbols` the symbols of a module that was loaded.
    ///
    /// # Errors
    /// GDB failed, or the module's file cannot be read.
    pub fn add(&mut self, gdb: &mut Gdb, found: &Found, symbols: &mut Symbols, cancel: &Cancel) -> Result<()> {
        self.remove(gdb, found, symbols, cancel)?;
        let Some(file) = self.files.get(&found.name) else { return Ok(()) };
        symbols.add_module(&found.name, file, &found.sections)?;
        let places: String = found.sections.iter().map(|(name, address)| format!(" -s {name} {address:#x}")).collect();
        console(gdb, &format!("add-symbol-file {}{places}", quoted(file)), cancel)?;
        self.loaded.insert(found.name.clone(), found.clone());
        Ok(())
    }

    /// Takes the symbols of a module away again.
    ///
    /// # Errors
    /// GDB failed.
    pub fn remove(&mut self, gdb: &mut Gdb, found: &Found, symbols: &mut Symbols, cancel: &Cancel) -> Result<()> {
        symbols.remove_module(&found.name);
        match (self.loaded.remove(&found.name), self.files.get(&found.name)) {
            (Some(_), Some(file)) => console(gdb, &format!("remove-symbol-file {}", quoted(file)), cancel),
            _ => Ok(()),
        }
    }

    /// Another module comes or goes. Those that are there have run their init functions by now, and the kernel may have
    /// given the memory of these to the other one.
    ///
    /// # Errors
    /// GDB failed.
    pub fn forget_init(&mut self, gdb: &mut Gdb, symbols: &mut Symbols, cancel: &Cancel) -> Result<()> {
        for module in self.loaded.values().filter(|module| module.has_init()).cloned().collect::<Vec<_>>() {
            self.add(gdb, &module.without_init(), symbols, cancel)?;
        }
        Ok(())
    }
}

impl Found {
    fn has_init(&self) -> bool {
        self.sections.keys().any(|name| is_init(name))
    }

    /// Without what the kernel frees once the module's init function has run.
    fn without_init(mut self) -> Found {
        self.sections.retain(|name, _| !is_init(name));
        self
    }
}

fn is_init(section: &str) -> bool {
    section.starts_with(".init")
}

/// A path as GDB's commands take it.
fn quoted(file: &Path) -> String {
    format!("\"{}\"", file.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\""))
}

fn console(gdb: &mut Gdb, command: &str, cancel: &Cancel) -> Result<()> {
    gdb.must(&command::console(command), cancel).map(drop)
}

fn evaluate<const N: usize>(gdb: &mut Gdb, expressions: [&str; N], cancel: &Cancel) -> Result<[Option<u64>; N]> {
    let answers = gdb.batch(&expressions.map(command::evaluate), cancel)?;
    Ok(std::array::from_fn(|n| answers.get(n).and_then(|answer| number(answer.value()?))))
}

/// What the kernel's memory calls a section is put into a command.
fn is_plain(section: &str) -> bool {
    section.starts_with(['.', '_']) && section.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_frees_is_left_out() {
        let places = [(".init.text", 1), (".text", 2), (".init.data", 3), (".exit.text", 4)];
        let sections = places.map(|(name, address)| (name.to_string(), address)).into();
        let found = Found { name: "veth".into(), sections };
        assert!(found.has_init());
        let kept: Vec<String> = found.without_init().sections.into_keys().collect();
        assert_eq!(kept, [".exit.text", ".text"]);
    }

    #[test]
    fn nothing_but_names_and_paths_gets_into_a_command() {
        assert!([".text", ".data..read_mostly", "__ksymtab_gpl"].into_iter().all(is_plain));
        assert!(!["", "text", ".a b", ".a\n", ".a\"", "-s"].into_iter().any(is_plain));
        assert_eq!(quoted(Path::new("/a b/\"x\\")), r#""/a b/\"x\\""#);
    }
}
