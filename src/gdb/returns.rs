//! Where functions return, and with what. A probe on a return stops at the function's entry first, where the arguments are in
//! place and GDB knows where it will return to. The return that belongs to a call is the one with the caller's stack pointer.
//!
//! Where stops at breakpoints are dear ([hooks](super::hooks)), what is watched is the word of the stack that has the address
//! to return to: the return reads it, and the guest stops behind that.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::answer::Answer;
use super::client::{Gdb, Stop};
use super::command;
use super::mi::number;
use super::variables;
use crate::error::{Error, Result};
use crate::event::Cancel;
use crate::report::model::Var;

/// What a returned value is called.
pub const RETURNED: &str = "returned";

/// A call whose return is waited for.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The probe, by its place in the recipe.
    pub probe: usize,
    /// The arguments, as they were at the function's entry.
    pub arguments: Vec<Var>,
    /// Where it returns to.
    site: u64,
    /// The stack pointer then.
    stack: u64,
    /// GDB's number of the watchpoint on the address to return to; none where a breakpoint waits.
    watchpoint: Option<u64>,
}

/// The calls that have not returned, and GDB's breakpoints where they will.
#[derive(Debug, Default)]
pub struct Returns {
    calls: Vec<Call>,
    breakpoints: BTreeMap<u64, u64>,
    /// Of each probe's function: the type of what it returns, and how many bytes that has.
    types: BTreeMap<usize, (String, u64)>,
}

impl Returns {
    /// Notes a call: GDB stands at the entry of the function of `probe`. `dear` if stops at breakpoints are.
    ///
    /// # Errors
    /// GDB failed, or the stack cannot be read.
    pub fn entered(
        &mut self,
        gdb: &mut Gdb,
        probe: usize,
        arguments: Vec<Var>,
        dear: bool,
        stop: &Stop,
        cancel: &Cancel,
    ) -> Result<()> {
        let (site, stack) =
            caller(gdb, stop, cancel)?.ok_or_else(|| Error::debugger("GDB cannot tell where a function returns to"))?;
        if let Entry::Vacant(place) = self.types.entry(probe) {
            place.insert(type_of(gdb, probe, stop, cancel)?);
        }
        let watchpoint = if dear { watch(gdb, stack - WORD, cancel)? } else { None };
        if watchpoint.is_none() {
            self.wait_at(gdb, site, cancel)?;
        }
        self.calls.push(Call { probe, arguments, site, stack, watchpoint });
        Ok(())
    }

    /// Whether GDB stands at a breakpoint for a return.
    pub fn is_at(&self, stop: &Stop) -> bool {
        address(stop).is_some_and(|address| self.breakpoints.contains_key(&address))
    }

    /// Whether the stop is at a word of the stack that is watched for a return. Others than the return may have read it.
    pub fn is_watched(&self, stop: &Stop) -> bool {
        stop.own.is_some() && self.calls.iter().any(|call| call.watchpoint == stop.own)
    }

    /// The calls that have returned to where GDB stands. Where no others will, it stops no more.
    ///
    /// # Errors
    /// GDB failed.
    pub fn returned(&mut self, gdb: &mut Gdb, stop: &Stop, cancel: &Cancel) -> Result<Vec<Call>> {
        let is_site = |at: &u64| self.calls.iter().any(|call| call.site == *at);
        let Some(site) = address(stop).filter(|at| is_site(at) || self.is_watched(stop)) else { return Ok(Vec::new()) };
        let Some(stack) = ask(gdb, stop, "(unsigned long)$rsp", cancel)?.value().and_then(number) else {
            return Ok(Vec::new());
        };
        let (returned, waiting) = std::mem::take(&mut self.calls)
            .into_iter()
            .partition(|call: &Call| call.site == site && call.stack == stack);
        self.calls = waiting;
        self.wait_no_more(gdb, &returned, cancel)?;
        self.watch_no_more(gdb, stop, cancel)?;
        Ok(returned)
    }

    /// The word that is watched for a call was touched by something else than its return: a breakpoint waits for it from now on. The
    /// stack may have been given to another task, and QEMU 7.2 aborts where an interrupt pushes to what is watched.
    fn watch_no_more(&mut self, gdb: &mut Gdb, stop: &Stop, cancel: &Cancel) -> Result<()> {
        let touched = self.calls.iter_mut().find(|call| call.watchpoint.is_some() && call.watchpoint == stop.own);
        let Some(call) = touched else { return Ok(()) };
        let (site, watchpoint) = (call.site, call.watchpoint.take());
        if let Some(number) = watchpoint {
            gdb.must(&format!("-break-delete {number}"), cancel)?;
        }
        self.wait_at(gdb, site, cancel)
    }

    /// Has GDB stop where a call returns to.
    fn wait_at(&mut self, gdb: &mut Gdb, site: u64, cancel: &Cancel) -> Result<()> {
        if let Entry::Vacant(place) = self.breakpoints.entry(site) {
            let values = gdb.must(&format!("-break-insert *{site:#x}"), cancel)?;
            let breakpoint = values.tuple("bkpt").and_then(|values| values.number("number"));
            place.insert(breakpoint.ok_or_else(|| Error::debugger("GDB gave a breakpoint no number"))?);
        }
        Ok(())
    }

    /// Deletes what has waited for these calls, and waits for no other.
    fn wait_no_more(&mut self, gdb: &mut Gdb, calls: &[Call], cancel: &Cancel) -> Result<()> {
        for call in calls {
            let is_awaited = || self.calls.iter().any(|other| other.site == call.site && other.watchpoint.is_none());
            let number = match call.watchpoint {
                None if is_awaited() => None,
                None => self.breakpoints.remove(&call.site),
                watchpoint => watchpoint,
            };
            if let Some(number) = number {
                gdb.must(&format!("-break-delete {number}"), cancel)?;
            }
        }
        Ok(())
    }

    /// What the function of `probe` has returned.
    ///
    /// # Errors
    /// GDB failed.
    pub fn value(&self, gdb: &mut Gdb, probe: usize, stop: &Stop, cancel: &Cancel) -> Result<Option<Var>> {
        let Some((type_name, size)) = self.types.get(&probe) else { return Ok(None) };
        // What is above a small value in the register is anything.
        let plain = match size {
            0 => return Ok(None),
            1 => "unsigned char",
            2 => "unsigned short",
            3..=4 => "unsigned int",
            _ => "unsigned long",
        };
        let expression = format!("(__typeof__({}))({plain})$rax", variable(probe));
        let answer = match ask(gdb, stop, &expression, cancel)? {
            Answer::Refused(_) => ask(gdb, stop, &format!("({plain})$rax"), cancel)?,
            answer => answer,
        };
        Ok(Some(variables::var(RETURNED, Some(type_name), answer.value())))
    }

    /// Forgets the calls of a probe that is disarmed.
    ///
    /// # Errors
    /// GDB failed.
    pub fn forget(&mut self, gdb: &mut Gdb, probe: usize, cancel: &Cancel) -> Result<()> {
        let (forgotten, waiting) = std::mem::take(&mut self.calls).into_iter().partition(|call| call.probe == probe);
        self.calls = waiting;
        self.wait_no_more(gdb, &forgotten, cancel)
    }

    /// How many calls of a probe have not returned.
    pub fn waiting(&self, probe: usize) -> usize {
        self.calls.iter().filter(|call| call.probe == probe).count()
    }
}

/// How long an address on the stack is.
const WORD: u64 = 8;

/// Watches an address to return to; none where GDB will not.
fn watch(gdb: &mut Gdb, slot: u64, cancel: &Cancel) -> Result<Option<u64>> {
    let answer = gdb.ask(&command::watch_word(slot), cancel)?;
    Ok(answer.ok().ok().and_then(|values| values.tuple("hw-awpt")?.number("number")))
}

fn address(stop: &Stop) -> Option<u64> {
    stop.address.as_deref().and_then(number)
}

fn ask(gdb: &mut Gdb, stop: &Stop, expression: &str, cancel: &Cancel) -> Result<Answer> {
    gdb.ask(&evaluate(stop, 0, expression), cancel)
}

fn evaluate(stop: &Stop, level: usize, expression: &str) -> String {
    command::evaluate_at(stop.thread.unwrap_or(1), level, expression)
}

/// So many functions are inlined into one at most, as far as this looks.
const INLINED: usize = 12;

/// Program counter and stack pointer of the function that has called the one that GDB stands in: those of the first frame
/// that is not inlined into the innermost.
fn caller(gdb: &mut Gdb, stop: &Stop, cancel: &Cancel) -> Result<Option<(u64, u64)>> {
    let registers = ["(unsigned long)$pc", "(unsigned long)$sp"];
    let commands: Vec<String> =
        (0..INLINED).flat_map(|level| registers.map(|register| evaluate(stop, level, register))).collect();
    let answers = gdb.batch(&commands, cancel)?;
    let mut frames = answers.chunks(2).map_while(|pair| Some((number(pair[0].value()?)?, number(pair[1].value()?)?)));
    let own = frames.next();
    Ok(frames.find(|(_, stack)| own.is_some_and(|(_, own)| *stack != own)))
}

/// GDB's variable that has the type of what a probe's function returns.
fn variable(probe: usize) -> String {
    format!("$kdbg_return_{probe}")
}

/// The type of what the function returns at whose entry GDB stands, and its size; 0 where it returns nothing that fits
/// into a register.
fn type_of(gdb: &mut Gdb, probe: usize, stop: &Stop, cancel: &Cancel) -> Result<(String, u64)> {
    let script = format!(
        "
frame = gdb.newest_frame()
while frame.type() == gdb.INLINE_FRAME:
    frame = frame.older()
returned = frame.function().type.target()
code = returned.strip_typedefs().code
fits = code not in (gdb.TYPE_CODE_VOID, gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_UNION)
if fits:
    gdb.set_convenience_variable('{}', gdb.Value(0).cast(returned))
print(returned.sizeof if fits else 0, returned, sep='\\t')
",
        variable(probe).trim_start_matches('$')
    );
    let call = command::console_at(stop.thread.unwrap_or(1), 0, &command::python(&script));
    let answer = gdb.ask(&call, cancel)?;
    let told = match &answer {
        Answer::Done(_, said) => said.trim().split_once('\t'),
        Answer::Refused(_) => None,
    };
    let told = told.and_then(|(size, name)| Some((name.to_string(), size.parse().ok()?)));
    // A GDB without Python: the whole register.
    Ok(told.unwrap_or_else(|| ("unsigned long".into(), 8)))
}
