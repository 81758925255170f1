//! What can be read at a place, told before anything runs: the variables there, and whether the compiler has a value of each.

use serde::Serialize;

use super::answer::Answer;
use super::client::Gdb;
use super::command::{console, python};
use super::storage::Storage;
use super::variables::is_temporary;
use crate::error::Result;
use crate::event::Cancel;

/// A variable at a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Foreseen {
    /// Its name.
    pub name: String,
    /// Whether it is an argument; none where this GDB cannot tell.
    pub argument: Option<bool>,
    /// Whether it will have a value.
    pub state: State,
}

/// Whether a variable has a value at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It can be read.
    Readable,
    /// The code that sets it comes later.
    NotSetYet,
    /// The compiler keeps it nowhere, or not here.
    OptimizedOut,
}

/// Prints an address at which all variables of the named function around another are in scope, then which are arguments: where a
/// function begins, GDB may see no more than what is inlined there.
const SCRIPT: &str = "
def kdbg_scope(at, name):
    def of(pc):
        block = gdb.block_for_pc(pc)
        while block is not None and block.function is None:
            block = block.superblock
        return block
    def key(block):
        return block and (block.start, block.end, block.function.name)
    outer = of(at)
    while name and outer is not None and (outer.function is None or outer.function.name != name):
        outer = outer.superblock
    pc = at
    while pc < outer.end and key(of(pc)) != key(outer):
        pc += 1
    print(pc if pc < outer.end else at)
    for symbol in outer:
        if symbol.is_argument:
            print(symbol.name)
";

/// The variables at `address`, those of the function of this name where one was asked for. Where a function is entered, no local
/// on the stack is set yet.
///
/// # Errors
/// GDB failed.
pub fn foresee(
    gdb: &mut Gdb,
    address: u64,
    function: Option<&str>,
    is_entry: bool,
    cancel: &Cancel,
) -> Result<Vec<Foreseen>> {
    let call = format!("python kdbg_scope({address}, '{}')", function.unwrap_or_default());
    let told = gdb.batch(&[console(&python(SCRIPT)), console(&call)], cancel)?;
    let told = match told.last() {
        Some(Answer::Done(_, said)) => Some(said),
        _ => None,
    };
    let place: Option<u64> = told.and_then(|said| said.lines().next()?.parse().ok());
    // Of a copy that is inlined, the debug information may not have the place itself: what is there shows at the stop.
    let Some(place) = place.or(function.is_none().then_some(address)) else { return Ok(Vec::new()) };
    let is_argument = |name: &str| told.map(|said| said.lines().skip(1).any(|line| line == name));
    let Answer::Done(_, said) = gdb.ask(&console(&format!("info scope *{place:#x}")), cancel)? else {
        return Ok(Vec::new());
    };
    let named = symbols(&said).into_iter().filter(|(name, _)| !is_temporary(name));
    Ok(named
        .map(|(name, storage)| {
            let argument = is_argument(&name);
            let state = match storage.holds(address) {
                Some(_) if is_entry && argument == Some(false) && storage.on_stack => State::NotSetYet,
                Some(true) => State::Readable,
                _ if storage.begins_after(address) => State::NotSetYet,
                _ => State::OptimizedOut,
            };
            Foreseen { name, argument, state }
        })
        .collect())
}

/// What `info scope` prints, cut into symbols. Functions that are inlined there are listed too, and are none.
fn symbols(said: &str) -> Vec<(String, Storage)> {
    let mut found: Vec<(String, Storage)> = Vec::new();
    for part in format!("\n{said}").split("\nSymbol ").skip(1) {
        let Some((name, rest)) = part.split_once(' ') else { continue };
        let seen = found.iter().any(|(other, _)| other == name);
        // Functions that are inlined there, and labels.
        let is_none = ["is a function at", "is a typedef", "is a label at"].iter().any(|what| rest.starts_with(what));
        if !seen && !is_none {
            found.push((name.into(), Storage::parse(&format!(" {rest}"))));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_are_told_from_the_functions_inlined_there() {
        let said = "Scope for *0x10:\nSymbol f is a function at address 0x10, length 1.\nSymbol skb is multi-location:\n  \
                    Range 0x10-0x20: a variable in $rsi\n, length 8.\nSymbol th is multi-location:\n  Range 0x18-0x20: a variable in \
                    $rax\n, length 8.\nSymbol gone is optimized out.\nSymbol sk is a variable in $rdi, length 8.\n";
        let holds: Vec<(String, Option<bool>)> =
            symbols(said).into_iter().map(|(name, storage)| (name, storage.holds(0x10))).collect();
        let expected = [("skb", Some(true)), ("th", Some(false)), ("gone", None), ("sk", Some(true))];
        assert_eq!(holds, expected.map(|(name, holds)| (name.to_string(), holds)));
    }
}
