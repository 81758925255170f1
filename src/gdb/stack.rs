//! The stack of a hit: its frames with their variables, followed to where the kernel was entered.
//!
//! GDB cannot go on by itself in two places. The kernel serves softirqs and interrupts on a stack of their own, and the
//! debug information does not know of the switch: the word at that stack's top is the stack pointer from before
//! (arch/x86/include/asm/irq_stack.h). And below an interrupt or exception it is the `pt_regs` on the stack that say what was
//! interrupted. In both, GDB gets the registers of that moment for as long as it lists the frames from there on, and then
//! the CPU's own again. Everything is read while the guest stands still.

mod ends;
pub(super) mod known;

use std::collections::BTreeMap;

use super::answer::Answer;
use super::client::Gdb;
use super::command::console_at;
use super::mi::{Values, number};
use super::program::Program;
use super::registers::{self, Called, Registers, Scope};
use super::storage::Storage;
use super::types::{At, Types, places};
use super::variables::{self, RawVariable};
use crate::error::Result;
use crate::event::Cancel;
use crate::report::model::{Frame, Interrupted, Var, Why};
use ends::{INTERRUPT, OUTERMOST, SYSTEM_CALL, said, within_kernel};

/// How often a stack is taken up again at most: a task, a softirq, an interrupt, an exception, an NMI.
const PIECES: usize = 8;

/// A stack as far as it could be followed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Stack {
    /// Innermost first.
    pub(super) frames: Vec<Frame>,
    /// Why it ends before the kernel's entry, if it does.
    pub(super) cut: Option<String>,
    /// What the system call at its root was called with.
    pub(super) called: Option<Called>,
    /// What the innermost interrupt or exception on it has interrupted.
    pub(super) interrupted: Option<Interrupted>,
}

/// Frames that GDB unwinds from one set of registers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    /// The virtual CPU, and GDB's thread.
    pub(super) cpu: u32,
    pub(super) thread: u64,
    /// The level of its innermost frame in the whole stack.
    pub(super) base: usize,
    /// Whether a probe on a function stopped there.
    pub(super) function: bool,
    /// How many frames are wanted at most.
    pub(super) limit: usize,
}

impl Piece {
    /// Asks GDB for its frames, and one more: what the last one is inlined into.
    pub(super) fn list(self) -> String {
        format!("-stack-list-frames --thread {} 0 {}", self.thread, self.limit)
    }

    fn scope(self, frame: usize) -> Scope {
        Scope { cpu: self.cpu, thread: self.thread, frame }
    }

    /// Whether a frame stands at its function's entry, where no local can have been set: at the first instruction, or,
    /// with a probe on a function that is not optimized, behind the prologue, which stores the arguments.
    fn is_entry(self, frame: &Frame) -> bool {
        frame.level == 0 && (frame.offset == Some(0) || self.function) && !frame.inlined
    }

    /// GDB's level of a frame of this piece.
    fn local(self, frame: &Frame) -> usize {
        usize::try_from(frame.level).unwrap_or(usize::MAX).saturating_sub(self.base)
    }
}

/// Where a piece ends.
enum End {
    /// Where the kernel was entered.
    Outermost,
    /// As many frames as were wanted.
    Enough,
    /// The stack goes on with these registers; `again` where that is the same frame, on another stack.
    Continued { registers: Box<Registers>, again: bool },
    /// It cannot be told how it goes on.
    Cut(&'static str),
}

/// Reads stacks. Remembers what the compiler says of the places of variables.
#[derive(Debug)]
pub(super) struct Reader {
    /// Where the kernel keeps the tops of its interrupt stacks.
    pub(super) interrupt_stack: Option<&'static str>,
    /// Whether the kernel has files in which a variable that is not set holds a pattern.
    pub(super) patterned: bool,
    /// What the compiler says of a local, by frame place and name.
    pub(super) storage: BTreeMap<(String, String), Storage>,
    pub(super) types: Types,
}

impl Reader {
    /// The whole stack; `list` is what GDB has answered to the first piece's [`Piece::list`].
    ///
    /// # Errors
    /// GDB failed. Where it merely cannot go on, the stack says so.
    pub(super) fn read(
        &mut self,
        gdb: &mut Gdb,
        program: &Program<'_>,
        first: Piece,
        list: &Values,
        cancel: &Cancel,
    ) -> Result<Stack> {
        let mut stack = Stack::default();
        let end = self.piece(gdb, program, first, list, &mut stack, cancel)?;
        let End::Continued { registers, again } = end else {
            stack.cut = cut(&end, &stack.frames);
            return Ok(stack);
        };
        let real = registers::read(gdb, first.scope(0), cancel)?;
        let Some(real) = real else {
            stack.cut = cut(&End::Cut("the registers cannot be read"), &stack.frames);
            return Ok(stack);
        };
        let rest = self.rest(gdb, program, first, (registers, again), &mut stack, cancel);
        registers::write(gdb, first.scope(0), &real, cancel)?;
        rest.map(|()| stack)
    }

    /// Reads on, with other registers than the CPU's.
    fn rest(
        &mut self,
        gdb: &mut Gdb,
        program: &Program<'_>,
        first: Piece,
        (mut registers, mut again): (Box<Registers>, bool),
        stack: &mut Stack,
        cancel: &Cancel,
    ) -> Result<()> {
        let mut end = End::Cut("it goes on and on");
        for _ in 1..PIECES {
            registers::write(gdb, first.scope(0), &registers, cancel)?;
            if again {
                // Its variables were looked for on the wrong stack.
                let address = stack.frames.last().map(|frame| frame.address.clone());
                while stack.frames.last().map(|frame| &frame.address) == address.as_ref() && address.is_some() {
                    stack.frames.pop();
                }
            }
            let base = stack.frames.len();
            let piece = Piece { base, function: false, limit: first.limit - base, ..first };
            let list = gdb.ask(&piece.list(), cancel)?;
            end = match list.ok() {
                Ok(list) => self.piece(gdb, program, piece, &list, stack, cancel)?,
                Err(_) => End::Cut("GDB does not list what is below"),
            };
            let End::Continued { registers: next, again: same } = &end else { break };
            (registers, again) = (next.clone(), *same);
        }
        stack.cut = cut(&end, &stack.frames);
        Ok(())
    }

    /// Adds a piece's frames to the stack, and tells how it ends.
    fn piece(
        &mut self,
        gdb: &mut Gdb,
        program: &Program<'_>,
        piece: Piece,
        list: &Values,
        stack: &mut Stack,
        cancel: &Cancel,
    ) -> Result<End> {
        let listed = within_kernel(list.tuples("stack"));
        let (raw, _) = listed.split_at(listed.len().min(piece.limit));
        let frames = self.frames(gdb, program, piece, &listed, cancel)?;
        let last = frames.last().map(|frame| frame.symbol.clone());
        stack.frames.extend(frames);
        let Some(last) = last else { return Ok(End::Cut("GDB names no frame below")) };
        let scope = piece.scope(raw.len() - 1);
        if OUTERMOST.iter().any(|name| last.starts_with(name)) {
            if last == SYSTEM_CALL {
                stack.called = registers::called(gdb, scope, cancel)?;
            }
            return Ok(End::Outermost);
        }
        if last.starts_with(INTERRUPT) {
            let interrupted = match registers::interrupted(gdb, scope, cancel)? {
                // A counter, which has pushed nothing.
                Some(registers) if program.symbols.is_spare(registers.rip()) => {
                    registers::returned(gdb, registers, cancel)?
                }
                interrupted => interrupted,
            };
            let what = interrupted.as_ref().map(|registers| said(program, &last, registers));
            stack.interrupted = stack.interrupted.take().or(what);
            return Ok(match interrupted {
                Some(interrupted) if interrupted.is_user() => End::Outermost,
                Some(_) if raw.len() >= piece.limit => End::Enough,
                Some(registers) if program.symbols.containing(registers.rip()).is_some() => {
                    End::Continued { registers: Box::new(registers), again: false }
                }
                _ => End::Cut("what was interrupted cannot be read"),
            });
        }
        if raw.len() >= piece.limit {
            return Ok(End::Enough);
        }
        Ok(match registers::before_switch(gdb, scope, self.interrupt_stack, cancel)? {
            Some(registers) => End::Continued { registers: Box::new(registers), again: true },
            None => End::Cut("GDB finds no caller"),
        })
    }

    fn frames(
        &mut self,
        gdb: &mut Gdb,
        program: &Program<'_>,
        piece: Piece,
        listed: &[&Values],
        cancel: &Cancel,
    ) -> Result<Vec<Frame>> {
        // The last one may only say what the one before it is inlined into.
        let (raw, next) = listed.split_at(listed.len().min(piece.limit));
        let thread = piece.thread;
        let doubtful = doubtful(raw);
        let commands = (0..raw.len()).map(|level| {
            format!("-stack-list-variables --thread {thread} --frame {level} --no-frame-filters --all-values")
        });
        let info = doubtful.iter().map(|level| console_at(thread, *level, "info frame"));
        let commands: Vec<String> = commands.chain(info).collect();
        let mut answers = gdb.batch(&commands, cancel)?;
        let info = answers.split_off(raw.len());
        let places = places(raw);
        let at: Vec<At<'_>> = places.iter().enumerate().map(|(level, place)| At { level, place }).collect();
        self.types.learn(gdb, thread, &at, cancel)?;
        let mut frames = Vec::with_capacity(raw.len());
        for (level, values) in raw.iter().enumerate() {
            let variables = variables::typed(&answers[level], self.types.of(&places[level]));
            let inlined = match doubtful.iter().position(|doubt| *doubt == level) {
                Some(doubt) => matches!(&info[doubt], Answer::Done(_, said) if said.contains("inlined into frame")),
                None => raw[level + 1..].iter().chain(next).next().is_some_and(|next| same_address(values, next)),
            };
            frames.push(frame(program, piece.base + level, values, inlined, &variables));
        }
        self.learn_storage(gdb, piece, &frames, cancel)?;
        self.mark_unset(piece, &mut frames);
        Ok(frames)
    }

    /// Asks what the compiler says of the place of every variable that has no value, and of locals that can have none yet.
    fn learn_storage(&mut self, gdb: &mut Gdb, piece: Piece, frames: &[Frame], cancel: &Cancel) -> Result<()> {
        let unknown: Vec<(usize, (String, String))> = frames
            .iter()
            .flat_map(|frame| {
                let entry = piece.is_entry(frame);
                let locals = frame.locals.iter().filter(move |var| entry || is_unexplained(var));
                frame
                    .args
                    .iter()
                    .filter(|var| is_unexplained(var))
                    .chain(locals)
                    .map(move |var| (piece.local(frame), (place(frame), var.name.clone())))
            })
            .filter(|(_, key)| !self.storage.contains_key(key))
            .collect();
        let thread = piece.thread;
        let ask = |(level, (_, name)): &(usize, (String, String))| {
            console_at(thread, *level, &format!("info address {name}"))
        };
        let commands: Vec<String> = unknown.iter().map(ask).collect();
        for ((_, key), answer) in unknown.into_iter().zip(gdb.batch(&commands, cancel)?) {
            let storage = match answer {
                Answer::Done(_, said) => Storage::parse(&said),
                Answer::Refused(_) => Storage::default(),
            };
            self.storage.insert(key, storage);
        }
        Ok(())
    }

    /// Tells what is not set yet from what is lost, and what became of that.
    fn mark_unset(&self, piece: Piece, frames: &mut [Frame]) {
        for frame in frames {
            let (place, entry) = (place(frame), piece.is_entry(frame));
            // The return address is one past the call; the call itself is what the frame is at.
            let past = u64::from(piece.local(frame) > 0);
            let at = number(&frame.address).unwrap_or_default().saturating_sub(past);
            for var in &mut frame.locals {
                if self.patterned && var.value.as_deref().is_some_and(variables::is_unset_pattern) {
                    (var.value, var.available, var.why) = (None, false, Some(Why::NotSetYet));
                }
                let Some(storage) = self.storage.get(&(place.clone(), var.name.clone())) else { continue };
                let lost = is_unexplained(var);
                if (lost && storage.begins_after(at)) || (entry && storage.on_stack) {
                    (var.value, var.available, var.why) = (None, false, Some(Why::NotSetYet));
                }
            }
            for var in frame.args.iter_mut().chain(&mut frame.locals) {
                if is_unexplained(var) {
                    let storage = self.storage.get(&(place.clone(), var.name.clone()));
                    var.lost = storage.and_then(|storage| storage.lost(at));
                }
            }
        }
    }
}

/// Whether a variable is optimized out, and it is not known what became of it.
fn is_unexplained(var: &Var) -> bool {
    var.why == Some(Why::OptimizedOut) && var.lost.is_none()
}

/// Why and where a stack is cut.
fn cut(end: &End, frames: &[Frame]) -> Option<String> {
    let why = match end {
        End::Outermost | End::Enough => return None,
        End::Continued { .. } => "there are too many stacks",
        End::Cut(why) => why,
    };
    let at = frames.last().map_or("the innermost frame", |frame| frame.symbol.as_str());
    Some(format!("cut at {at}: {why}"))
}

fn frame(program: &Program<'_>, level: usize, values: &Values, inlined: bool, variables: &[RawVariable]) -> Frame {
    let address = values.number("addr").unwrap_or_default();
    let symbol = values.text("func").unwrap_or("??").to_string();
    let (args, locals, hidden) = variables::sort(variables);
    Frame {
        level: u32::try_from(level).unwrap_or(u32::MAX),
        address: format!("{address:#x}"),
        symbol,
        offset: program.symbols.containing(address).map(|function| address - function.start),
        file: program.file(values),
        line: values.number("line").and_then(|line| u32::try_from(line).ok()),
        inlined,
        args,
        locals,
        hidden,
    }
}

/// An inlined function shares its frame, and so its program counter, with the function it was inlined into.
fn same_address(frame: &Values, next: &Values) -> bool {
    frame.number("addr") == next.number("addr")
}

/// Frames that share address *and* name with the next: inlined into a part of itself, or a recursion? GDB is asked.
fn doubtful(raw: &[&Values]) -> Vec<usize> {
    let same = |pair: &[&Values]| same_address(pair[0], pair[1]) && pair[0].text("func") == pair[1].text("func");
    raw.windows(2).enumerate().filter(|(_, pair)| same(pair)).map(|(level, _)| level).collect()
}

/// What makes a frame's variables the same ones at another hit.
fn place(frame: &Frame) -> String {
    format!("{} {}", frame.address, frame.symbol)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_stack_says_where_and_one_that_was_long_enough_says_nothing() {
        assert_eq!(
            cut(&End::Cut("GDB finds no caller"), &[]),
            Some("cut at the innermost frame: GDB finds no caller".into())
        );
        assert_eq!((cut(&End::Enough, &[]), cut(&End::Outermost, &[])), (None, None));
    }
}
