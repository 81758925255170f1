//! Frames: registers, unwound one call after the other, and the values of variables in them.

use std::sync::Arc;

use super::evaluate::{Outcome, evaluate};
use super::place::{Expression, Place, Target, Variable};
use super::rows::{Rule, Start};
use crate::decode::Memory;

/// How many registers there are in the numbering of the x86-64 ABI, up to the return address.
const COUNT: usize = 17;
const RSP: u16 = 7;
const RIP: u16 = 16;

/// The general registers by their DWARF numbers (x86-64 psABI, figure 3.36): the stack pointer is 7, the program counter 16.
/// None where a value is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registers(pub [Option<u64>; COUNT]);

impl Registers {
    /// One of them.
    pub fn get(&self, register: u16) -> Option<u64> {
        self.0.get(usize::from(register)).copied().flatten()
    }

    /// The program counter.
    pub fn rip(&self) -> Option<u64> {
        self.get(RIP)
    }

    /// The stack pointer.
    pub fn rsp(&self) -> Option<u64> {
        self.get(RSP)
    }

    /// With another stack pointer.
    #[must_use]
    pub fn with_rsp(mut self, rsp: u64) -> Registers {
        self.0[usize::from(RSP)] = Some(rsp);
        self
    }
}

/// A frame: a function that has been called, and all that is inlined into it.
#[derive(Debug, Clone)]
pub struct Frame {
    /// The registers while it runs.
    pub registers: Registers,
    /// Where it is.
    pub place: Arc<Place>,
    /// Where it starts: the stack pointer before the call; none in assembler code.
    start: Option<u64>,
}

impl Frame {
    /// The frame of these registers.
    pub fn new(registers: Registers, place: Arc<Place>, memory: &mut dyn Memory) -> Frame {
        let mut frame = Frame { registers, place, start: None };
        let place = Arc::clone(&frame.place);
        frame.start = match place.row.as_ref().map(|row| &row.frame) {
            Some(Start::Register(register, offset)) => {
                registers.get(*register).map(|value| value.wrapping_add_signed(*offset))
            }
            Some(Start::Computed(code)) => frame.number(code, None, memory),
            None => None,
        };
        frame
    }

    /// The registers of the caller, from where the call returns to; none where that cannot be told.
    pub fn caller(&self, memory: &mut dyn Memory) -> Option<Registers> {
        let (row, start) = (self.place.row.as_ref()?, self.start?);
        let mut before = self.registers;
        before.0[usize::from(RSP)] = Some(start);
        before.0[usize::from(RIP)] = None;
        for (register, rule) in &row.rules {
            let value = match rule {
                Rule::Lost => None,
                Rule::Same => self.registers.get(*register),
                Rule::Saved(at) => Some(word(memory, start.wrapping_add_signed(*at))?),
                Rule::Start(at) => Some(start.wrapping_add_signed(*at)),
                Rule::Register(other) => self.registers.get(*other),
                Rule::SavedAt(code) => {
                    let at = self.number(code, Some(start), memory)?;
                    Some(word(memory, at)?)
                }
                Rule::Computed(code) => Some(self.number(code, Some(start), memory)?),
            };
            if let Some(slot) = before.0.get_mut(usize::from(*register)) {
                *slot = value;
            }
        }
        before.rip().map(|_| before)
    }

    /// What an expression of the call frame information comes to.
    fn number(&self, code: &Expression, initial: Option<u64>, memory: &mut dyn Memory) -> Option<u64> {
        let frames = Frames(std::slice::from_ref(self));
        match evaluate(code, initial, frames.at(0, 0), memory)? {
            Outcome::Address(address) => Some(address),
            Outcome::Word(value) => Some(value),
            _ => None,
        }
    }
}

/// A word of eight bytes; none if it cannot be read.
pub fn word(memory: &mut dyn Memory, address: u64) -> Option<u64> {
    Some(u64::from_le_bytes(memory.read(address, 8)?.try_into().ok()?))
}

/// What a variable holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// Its bytes, as many as its type has.
    pub bytes: Vec<u8>,
    /// Which of them the compiler keeps nowhere; empty if none.
    pub lost: Vec<bool>,
    /// Where it is, if it is in memory.
    pub address: Option<u64>,
}

/// The frames of a stack, innermost first.
#[derive(Debug, Clone, Copy)]
pub struct Frames<'a>(pub &'a [Frame]);

/// A place in a stack: a frame, and the level of a function that is inlined there.
#[derive(Debug, Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) frames: Frames<'a>,
    pub(super) frame: usize,
    pub(super) level: usize,
}

/// How often values are those of a caller's caller at most.
pub(super) const DEEP: u32 = 8;

impl<'a> Frames<'a> {
    pub(super) fn at(self, frame: usize, level: usize) -> At<'a> {
        At { frames: self, frame, level }
    }

    /// What a variable of a frame holds, where the compiler keeps it: none where that is not understood, or cannot be read.
    /// A value of which nothing is left has no bytes.
    pub fn value(self, frame: usize, level: usize, variable: &Variable, memory: &mut dyn Memory) -> Option<Value> {
        let size = variable.of.size();
        let at = self.at(frame, level);
        let outcome = match &variable.at {
            Some(code) => evaluate(code, None, at, memory)?,
            None => Outcome::Lost,
        };
        outcome.value(size, memory)
    }

    /// What an argument was when its function was entered: none where that is not known.
    pub fn passed(self, frame: usize, level: usize, variable: &Variable, memory: &mut dyn Memory) -> Option<Value> {
        let at = self.at(frame, level);
        let value = at.passed(variable.passed?, memory, 0)??;
        Outcome::Word(value).value(variable.of.size(), memory)
    }
}

impl<'a> At<'a> {
    pub(super) fn frame(&self) -> Option<&'a Frame> {
        self.frames.0.get(self.frame)
    }

    /// Where the frame's variables are counted from.
    pub(super) fn base(self, memory: &mut dyn Memory) -> Option<u64> {
        let frame = self.frame()?;
        match evaluate(frame.place.base.as_ref()?, None, self, memory)? {
            Outcome::Address(address) | Outcome::Word(address) => Some(address),
            Outcome::Register(value) => value,
            _ => None,
        }
    }

    pub(super) fn start(&self) -> Option<u64> {
        self.frame()?.start
    }

    /// What a register held when the function was entered, as the call says: `Some(None)` where it does not say. As GDB has
    /// it, that is evaluated in the frame above, which, of something inlined, is the function that it is inlined into
    /// (`push_dwarf_reg_entry_value` in gdb/dwarf2/expr.c).
    pub(super) fn passed(self, register: u16, memory: &mut dyn Memory, depth: u32) -> Option<Option<u64>> {
        let (frame, caller) = (self.frame()?, self.frames.0.get(self.frame + 1));
        let Some(caller) = caller.filter(|_| depth < DEEP) else { return Some(None) };
        let Some(call) = &caller.place.call else { return Some(None) };
        let target = match &call.target {
            Target::Address(address) => Some(*address),
            Target::Computed(code) => {
                match super::evaluate::deep(code, None, self.frames.at(self.frame + 1, 0), memory, depth + 1)? {
                    Outcome::Address(address) | Outcome::Word(address) => Some(address),
                    Outcome::Register(value) => value,
                    _ => None,
                }
            }
            Target::Unknown => None,
        };
        if target != Some(frame.place.entry) {
            return Some(None);
        }
        let Some((_, code)) = call.parameters.iter().find(|(other, _)| *other == register) else { return Some(None) };
        let above = match self.level + 1 < frame.place.levels.len() {
            true => self.frames.at(self.frame, self.level + 1),
            false => self.frames.at(self.frame + 1, 0),
        };
        match super::evaluate::deep(code, None, above, memory, depth + 1)? {
            Outcome::Address(value) | Outcome::Word(value) => Some(Some(value)),
            Outcome::Lost => Some(None),
            _ => None,
        }
    }
}
