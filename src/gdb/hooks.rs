//! Stops that cost little under TCG.
//!
//! Before QEMU 10.2 a stop at a breakpoint throws all translated code away, which takes some 80 ms to make again; a stop at a
//! watchpoint does not (`gdb_vm_state_change` in QEMU's gdbstub). So where a kernel was built for ftrace, the stop at a
//! function's entry is made one at a watchpoint. The function begins with five bytes that do nothing until somebody traces it
//! (arch/x86/kernel/ftrace.c). A hook makes them a call of a stub, which reads a word that is watched, and changes no register
//! and no flag. The stub takes the place of `__fentry__`, which nothing calls once the kernel has booted, and the word that it
//! reads is its own beginning, so nothing of the guest's data is touched.
//!
//! At the stop the CPU stands in the stub. It is [given](Hooks::enter) the registers of the function's entry for as long as
//! the guest stands still, and [goes on](Hooks::leave) behind the call.
//!
//! The guest's own tracer wants those five bytes as it left them ([`entry`]): the hooks are [given up](Hooks::give_up) before it
//! gets to work.

use std::collections::{BTreeMap, BTreeSet};

use super::answer::Answer;
use super::client::{Gdb, Stop};
use super::command;
use super::entry::{self, CALL_LENGTH, Tracer};
use super::memory;
use super::mi::number;
use super::symbols::Symbols;
use crate::error::{Error, Result};
use crate::event::Cancel;

/// What is called at the beginning of every function, until the kernel has made that nothing.
const STUB: &str = "__fentry__";
/// `pushq STUB`, `jmp` to the next instruction, `lea 8(%rsp), %rsp`, `ret`.
const PUSH: [u8; 3] = [0xff, 0x34, 0x25];
const POP_AND_RETURN: [u8; 8] = [0xeb, 0x00, 0x48, 0x8d, 0x64, 0x24, 0x08, 0xc3];
/// Where in the stub a CPU stands at a stop: behind the first instruction. Behind the second, where a stop of this CPU came
/// together with another's and was not told: QEMU 7.2 then takes the next one for told until the translated block has
/// ended, which the jump is there for (`cpu_check_watchpoint`).
const STANDS: [u64; 2] = [7, 9];
/// How long the stub is.
const LENGTH: u64 = 15;

/// The hooks of a guest.
#[derive(Debug, Default)]
pub struct Hooks {
    /// Where the stub is, or can be; none where it cannot be.
    stub: Option<u64>,
    /// GDB's number of the watchpoint, once there is a hook.
    watchpoint: Option<u64>,
    /// By the address of the function.
    sites: BTreeMap<u64, Site>,
}

#[derive(Debug)]
struct Site {
    /// Where the call is.
    call: u64,
    /// The breakpoints, by GDB's number, whose place the hook takes.
    instead_of: BTreeSet<u64>,
}

/// What a stop is to the hooks.
#[derive(Debug)]
pub enum Entry {
    /// None of theirs.
    None,
    /// The entry of a function with a hook.
    Hooked(Entered),
    /// That of a function whose hook was taken out while this CPU was on its way through the stub, from where it goes on behind
    /// the call.
    Unhooked {
        /// The instruction behind the call.
        back_to: u64,
    },
}

/// A CPU that stands in the stub, with the registers of a function's entry.
#[derive(Debug)]
pub struct Entered {
    /// The stop as a breakpoint would have made it.
    pub stop: Stop,
    function: u64,
    back_to: u64,
}

impl Hooks {
    /// Whether this kernel has room for them.
    pub fn are_there(&self) -> bool {
        self.stub.is_some()
    }

    /// Finds out whether a kernel has what it takes, this tracer among it.
    pub fn of(symbols: &Symbols, tracer: &Tracer) -> Hooks {
        let stub = symbols.room(STUB).filter(|(_, room)| tracer.is_idle() && *room >= LENGTH);
        Hooks { stub: stub.map(|(start, _)| start), ..Hooks::default() }
    }

    /// Hooks the function that begins at this address, in place of a breakpoint. False where that cannot be. The guest
    /// stands still.
    ///
    /// # Errors
    /// GDB failed.
    pub fn hook(
        &mut self,
        gdb: &mut Gdb,
        tracer: &mut Tracer,
        function: u64,
        breakpoint: u64,
        cancel: &Cancel,
    ) -> Result<bool> {
        let Some(stub) = self.stub else { return Ok(false) };
        if let Some(site) = self.sites.get_mut(&function) {
            site.instead_of.insert(breakpoint);
            return Ok(true);
        }
        let Some(call) = entry::find(gdb, function, cancel)? else { return Ok(false) };
        let Some(code) = entry::call_of(call, stub) else { return Ok(false) };
        if self.watchpoint.is_none() {
            self.watchpoint = match tracer.is_watched(gdb, cancel)? {
                true => place(gdb, stub, cancel)?,
                false => None,
            };
            if self.watchpoint.is_none() {
                self.stub = None;
                return Ok(false);
            }
        }
        memory::write(gdb, call, &code, cancel)?;
        self.sites.insert(function, Site { call, instead_of: BTreeSet::from([breakpoint]) });
        Ok(true)
    }

    /// Takes out what stands in place of a breakpoint.
    ///
    /// # Errors
    /// GDB failed.
    pub fn unhook(&mut self, gdb: &mut Gdb, breakpoint: u64, cancel: &Cancel) -> Result<()> {
        let mut idle = Vec::new();
        for (function, site) in &mut self.sites {
            if site.instead_of.remove(&breakpoint) && site.instead_of.is_empty() {
                idle.push(*function);
            }
        }
        let Some(stub) = self.stub else { return Ok(()) };
        for site in idle.iter().filter_map(|function| self.sites.remove(function)) {
            entry::clear(gdb, site.call, stub, cancel)?;
        }
        Ok(())
    }

    /// Takes all hooks out for good. What they stood in place of is the caller's to bring back.
    ///
    /// # Errors
    /// GDB failed.
    pub fn give_up(&mut self, gdb: &mut Gdb, cancel: &Cancel) -> Result<()> {
        if let Some(stub) = self.stub {
            for site in std::mem::take(&mut self.sites).into_values() {
                entry::clear(gdb, site.call, stub, cancel)?;
            }
        }
        if let Some(watchpoint) = self.watchpoint.take() {
            gdb.must(&format!("-break-delete {watchpoint}"), cancel)?;
        }
        self.stub = None;
        Ok(())
    }

    /// Whether there are hooks, or were.
    pub fn are_in_use(&self) -> bool {
        self.watchpoint.is_some()
    }

    /// Whether the stop is one of the hooks' watchpoint.
    pub fn is_theirs(&self, stop: &Stop) -> bool {
        self.watchpoint.is_some() && stop.own == self.watchpoint
    }

    /// If the stop is in the stub: gives the CPU the registers of the function's entry.
    ///
    /// # Errors
    /// GDB failed.
    pub fn enter(&self, gdb: &mut Gdb, stop: &Stop, cancel: &Cancel) -> Result<Entry> {
        if address(stop).and_then(|at| self.watchpoint_at(at)).is_none() {
            return Ok(Entry::None);
        }
        let thread = stop.thread.unwrap_or(1);
        let words = ["(unsigned long)$rsp", "((unsigned long *)$rsp)[1]"];
        let [stack, back_to] = evaluate(gdb, thread, words, cancel)?;
        let (Some(stack), Some(back_to)) = (stack, back_to) else {
            return Err(Error::debugger("GDB cannot read the stack at a stop"));
        };
        let is_from = |site: &Site| site.call + CALL_LENGTH == back_to;
        let function = self.sites.iter().find(|(_, site)| is_from(site)).map(|(function, _)| *function);
        // What the stub has pushed, and the address to return to.
        let next = function.unwrap_or(back_to);
        set(gdb, thread, &format!("$rsp = {:#x}, $rip = {next:#x}", stack + 16), cancel)?;
        let Some(function) = function else { return Ok(Entry::Unhooked { back_to }) };
        let address = Some(format!("{function:#x}"));
        Ok(Entry::Hooked(Entered { stop: Stop { address, hooked: true, ..stop.clone() }, function, back_to }))
    }

    /// Has the CPU go on behind the call, unless it was sent elsewhere meanwhile.
    ///
    /// # Errors
    /// GDB failed.
    pub fn leave(&self, gdb: &mut Gdb, entered: &Entered, cancel: &Cancel) -> Result<()> {
        let Entered { stop, function, back_to } = entered;
        let next = format!("$rip = (unsigned long)$rip == {function:#x} ? {back_to:#x} : (unsigned long)$rip");
        set(gdb, stop.thread.unwrap_or(1), &next, cancel)
    }

    /// The watchpoint, if a CPU with this program counter stands in the stub. One that GDB has told of has gone
    /// [on](Hooks::leave).
    pub fn watchpoint_at(&self, at: u64) -> Option<u64> {
        let offset = at.checked_sub(self.stub?)?;
        self.watchpoint.filter(|_| STANDS.contains(&offset))
    }
}

fn address(stop: &Stop) -> Option<u64> {
    stop.address.as_deref().and_then(number)
}

/// The stub at this address; none where the address is none that an instruction can have in four bytes.
fn code_of(stub: u64) -> Option<Vec<u8>> {
    let word = i32::try_from(stub.cast_signed()).ok()?;
    Some([&PUSH[..], &word.to_le_bytes(), &POP_AND_RETURN].concat())
}

/// Puts the stub in place and watches it. Gives GDB's number of the watchpoint; none where GDB will not.
fn place(gdb: &mut Gdb, stub: u64, cancel: &Cancel) -> Result<Option<u64>> {
    let Some(code) = code_of(stub) else { return Ok(None) };
    memory::write(gdb, stub, &code, cancel)?;
    match gdb.ask(&command::watch_word(stub), cancel)? {
        Answer::Done(values, _) => Ok(values.tuple("hw-awpt").and_then(|values| values.number("number"))),
        Answer::Refused(_) => Ok(None),
    }
}

fn set(gdb: &mut Gdb, thread: u64, registers: &str, cancel: &Cancel) -> Result<()> {
    match gdb.ask(&command::evaluate_at(thread, 0, registers), cancel)? {
        Answer::Done(..) => Ok(()),
        Answer::Refused(why) => Err(Error::debugger(format!("GDB cannot set a CPU's registers at a stop: {why}"))),
    }
}

fn evaluate<const N: usize>(
    gdb: &mut Gdb,
    thread: u64,
    expressions: [&str; N],
    cancel: &Cancel,
) -> Result<[Option<u64>; N]> {
    let commands = expressions.map(|expression| command::evaluate_at(thread, 0, expression));
    let answers = gdb.batch(&commands, cancel)?;
    Ok(std::array::from_fn(|n| answers.get(n).and_then(|answer| number(answer.value()?))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stub_reads_its_own_beginning() {
        let stub = 0xffff_ffff_8106_1c70;
        let code = code_of(stub).unwrap();
        assert_eq!(code, [0xff, 0x34, 0x25, 0x70, 0x1c, 0x06, 0x81, 0xeb, 0x00, 0x48, 0x8d, 0x64, 0x24, 0x08, 0xc3]);
        assert_eq!(code.len() as u64, LENGTH);
        assert_eq!(code_of(0xffff_8880_0000_0000), None);
    }
}
