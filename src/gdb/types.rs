//! What the debug information says of arguments and locals, by the place of their frame; asked for once.
//!
//! That is their types, and the variables that MI does not list: constants, whose values are the debug information's own, and
//! those that the compiler keeps nowhere.
//!
//! MI names them with `--simple-values`. For every structure's name that it prints, GDB 13 then looks whether that is a
//! typedef to be replaced, which reads the debug information of another file each time, ten milliseconds
//! (`print_name_maybe_canonical` in gdb/c-typeprint.c). Its Python prints types without that.

use std::collections::BTreeMap;

use super::answer::Answer;
use super::client::Gdb;
use super::command::{console, console_at, python};
use super::mi::Values;
use super::variables::{Symbol, Unlisted, is_temporary};
use crate::error::Result;
use crate::event::Cancel;

/// Variables in GDB's order: the innermost block's first.
pub(super) type Typed = Vec<Symbol>;

/// A frame of GDB's, and what makes its variables the same ones at another hit.
#[derive(Debug, Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) level: usize,
    pub(super) place: &'a str,
}

/// What was learned so far.
#[derive(Debug, Default)]
pub(super) struct Types {
    known: BTreeMap<String, Typed>,
    /// Whether GDB has the function of [`SCRIPT`]; none until it was asked.
    scripted: Option<bool>,
}

/// Prints level, name and type of all variables of the frames at these levels, and whether MI lists them: if not, whether they
/// are arguments, and a constant's value.
const SCRIPT: &str = "
def kdbg_types(*levels):
    frame, level = gdb.newest_frame(), 0
    while frame is not None and level <= max(levels):
        if level in levels:
            try:
                block = frame.block()
            except RuntimeError:
                block = None
            while block is not None:
                for symbol in block:
                    lost = symbol.addr_class == gdb.SYMBOL_LOC_OPTIMIZED_OUT
                    fixed = symbol.addr_class in (gdb.SYMBOL_LOC_CONST, gdb.SYMBOL_LOC_CONST_BYTES)
                    if not (symbol.is_argument or symbol.is_variable or lost or fixed):
                        continue
                    # Functions that are inlined here, and labels.
                    if symbol.type is None or symbol.type.code == gdb.TYPE_CODE_FUNC or symbol.type.name == '__CORE_ADDR':
                        continue
                    kind = 'lost' if lost else 'fixed' if fixed else 'listed'
                    value = symbol.value().format_string() if fixed else ''
                    print(level, symbol.name, symbol.type, kind, int(symbol.is_argument), value, sep='\\t')
                block = None if block.function else block.superblock
        frame, level = frame.older(), level + 1
";

impl Types {
    /// Learns the types of all frames whose place is new.
    ///
    /// # Errors
    /// GDB failed.
    pub(super) fn learn(&mut self, gdb: &mut Gdb, thread: u64, frames: &[At<'_>], cancel: &Cancel) -> Result<()> {
        let new: Vec<At<'_>> = frames.iter().filter(|at| !self.known.contains_key(at.place)).copied().collect();
        if new.is_empty() {
            return Ok(());
        }
        if self.scripted.is_none() {
            let answer = gdb.ask(&console(&python(SCRIPT)), cancel)?;
            self.scripted = Some(matches!(answer, Answer::Done(..)));
        }
        if self.scripted == Some(true) {
            let levels: Vec<String> = new.iter().map(|at| at.level.to_string()).collect();
            let call = console_at(thread, 0, &format!("python kdbg_types({})", levels.join(",")));
            if let Answer::Done(_, said) = gdb.ask(&call, cancel)? {
                let mut printed = by_level(&said);
                for at in new {
                    self.known.insert(at.place.into(), printed.remove(&at.level).unwrap_or_default());
                }
                return Ok(());
            }
            self.scripted = Some(false);
        }
        let ask = |at: &At<'_>| {
            let level = at.level;
            format!("-stack-list-variables --thread {thread} --frame {level} --no-frame-filters --simple-values")
        };
        let commands: Vec<String> = new.iter().map(ask).collect();
        for (at, answer) in new.iter().zip(gdb.batch(&commands, cancel)?) {
            self.known.insert(at.place.into(), listed(&answer));
        }
        Ok(())
    }

    /// The variables of a frame at this place.
    pub(super) fn of(&self, place: &str) -> &[Symbol] {
        self.known.get(place).map_or(&[], Vec::as_slice)
    }
}

/// What makes the variables of these frames the same ones at another hit. A frame that was inlined into a part of its own function has address and name of the
/// next, and other variables.
pub(super) fn places(raw: &[&Values]) -> Vec<String> {
    let mut places: Vec<String> = Vec::with_capacity(raw.len());
    let mut same = 0;
    for (index, values) in raw.iter().enumerate() {
        let is_as_before =
            |before: &&Values| before.text("addr") == values.text("addr") && before.text("func") == values.text("func");
        same = if index.checked_sub(1).and_then(|before| raw.get(before)).is_some_and(is_as_before) {
            same + 1
        } else {
            0
        };
        let (address, function) = (values.text("addr").unwrap_or_default(), values.text("func").unwrap_or_default());
        places.push(format!("{address} {function} {same}"));
    }
    places
}

/// What [`SCRIPT`] has printed.
fn by_level(said: &str) -> BTreeMap<usize, Typed> {
    let mut levels: BTreeMap<usize, Typed> = BTreeMap::new();
    for line in said.lines() {
        let fields: Vec<&str> = line.splitn(6, '\t').collect();
        let [level, name, type_name, kind, argument, value] = fields[..] else { continue };
        let is_argument = argument == "1";
        let unlisted = match kind {
            "lost" => Some(Unlisted { is_argument, value: None }),
            "fixed" => Some(Unlisted { is_argument, value: Some(value.into()) }),
            _ => None,
        };
        // Nothing is hidden of a temporary that is nowhere.
        let is_nothing = kind == "lost" && !is_argument && is_temporary(name);
        if let Ok(level) = level.parse()
            && !is_nothing
        {
            let symbol = Symbol { name: name.into(), type_name: type_name.into(), unlisted };
            levels.entry(level).or_default().push(symbol);
        }
    }
    levels
}

/// What `--simple-values` lists.
fn listed(answer: &Answer) -> Typed {
    let Answer::Done(values, _) = answer else { return Vec::new() };
    let variables = values.tuples("variables").into_iter();
    let typed = variables.filter_map(|variable| Some((variable.text("name")?, variable.text("type")?)));
    // One that is listed once more as it was at the call (`sk@entry`) is the same variable.
    let symbol =
        |(name, type_name): (&str, &str)| Symbol { name: name.into(), type_name: type_name.into(), unlisted: None };
    typed.filter(|(name, _)| !name.contains('@')).map(symbol).collect()
}

#[cfg(test)]
mod tests {
    use super::super::mi;
    use super::*;

    #[test]
    fn both_ways_give_the_same_types() {
        let said = "0\tsk\tconst struct sock *\tlisted\t1\t\n0\trep\tstruct {...}\tlisted\t0\t\n3\tret\tint\tfixed\t0\t0\n\
                    3\tokfn\tint (*)(int)\tlost\t1\t\n3\t__ret\tint\tlost\t0\t\nnonsense\n";
        let printed = by_level(said);
        let line = r#"^done,variables=[{name="sk",arg="1",type="const struct sock *",value="0x0"},{name="sk@entry",arg="1",type="const struct sock *",value="0x0"},{name="rep",type="struct {...}"}]"#;
        let mi::Record::Result { values, .. } = mi::parse(line).unwrap() else { panic!("no result") };
        assert_eq!(listed(&Answer::Done(values, String::new())), printed[&0]);
        let unlisted =
            |is_argument, value: Option<&str>| Some(Unlisted { is_argument, value: value.map(String::from) });
        let symbol =
            |name: &str, type_name: &str, unlisted| Symbol { name: name.into(), type_name: type_name.into(), unlisted };
        assert_eq!(
            printed[&3],
            [symbol("ret", "int", unlisted(false, Some("0"))), symbol("okfn", "int (*)(int)", unlisted(true, None))]
        );
    }
}
