//! The types of arguments and locals, by the place of their frame; asked for once.
//!
//! MI names them with `--simple-values`. For every structure's name that it prints, GDB 13 then looks whether that is a
//! typedef to be replaced, which reads the debug information of another file each time, ten milliseconds
//! (`print_name_maybe_canonical` in gdb/c-typeprint.c). Its Python prints types without that.

use std::collections::BTreeMap;

use super::answer::Answer;
use super::client::Gdb;
use super::command::{console, console_at, python};
use super::mi::Values;
use crate::error::Result;
use crate::event::Cancel;

/// Names and types in GDB's order: the innermost block's first.
pub(super) type Typed = Vec<(String, String)>;

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

/// Prints level, name and type of all variables of the frames at these levels.
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
                    kept = symbol.addr_class != gdb.SYMBOL_LOC_OPTIMIZED_OUT
                    if kept and (symbol.is_argument or symbol.is_variable):
                        print(level, symbol.name, symbol.type, sep='\\t')
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

    /// The types of a frame at this place.
    pub(super) fn of(&self, place: &str) -> &[(String, String)] {
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
        let mut fields = line.splitn(3, '\t');
        if let (Some(level), Some(name), Some(type_name)) = (fields.next(), fields.next(), fields.next())
            && let Ok(level) = level.parse()
        {
            levels.entry(level).or_default().push((name.into(), type_name.into()));
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
    typed.filter(|(name, _)| !name.contains('@')).map(|(name, type_name)| (name.into(), type_name.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::super::mi;
    use super::*;

    #[test]
    fn both_ways_give_the_same_types() {
        let said = "0\tsk\tconst struct sock *\n0\trep\tstruct {...}\n3\tskb\tstruct sk_buff *\nnonsense\n";
        let printed = by_level(said);
        let line = r#"^done,variables=[{name="sk",arg="1",type="const struct sock *",value="0x0"},{name="sk@entry",arg="1",type="const struct sock *",value="0x0"},{name="rep",type="struct {...}"}]"#;
        let mi::Record::Result { values, .. } = mi::parse(line).unwrap() else { panic!("no result") };
        assert_eq!(listed(&Answer::Done(values, String::new())), printed[&0]);
        assert_eq!(printed[&3], [("skb".to_string(), "struct sk_buff *".to_string())]);
    }
}
