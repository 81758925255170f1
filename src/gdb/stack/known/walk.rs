//! The frames of a stack, from the registers of a CPU down to the kernel's entry: as GDB follows it, with the kernel's switches
//! of stacks (see [`super::super`]).

use super::places::{Key, Places};
use crate::decode::Memory;
use crate::gdb::cpu::Cpu;
use crate::gdb::program::Program;
use crate::gdb::registers::{Called, Pushed, is_other_stack};
use crate::gdb::stack::ends::{self, INTERRUPT, OUTERMOST, SYSTEM_CALL};
use crate::report::model::Interrupted;
use crate::unwind::{Frame, Registers, word};

/// What makes a path through the kernel the same one at another hit.
pub(super) type Chain = Vec<Key>;

/// The frames of a stack.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) chain: Chain,
    /// Innermost first. One that nothing has called through a call is the first of its registers.
    pub(super) frames: Vec<Frame>,
    /// Of each, whether it is.
    pub(super) firsts: Vec<bool>,
    pub(super) called: Option<Called>,
    pub(super) interrupted: Option<Interrupted>,
}

/// Follows a stack.
pub(super) struct Walker<'a> {
    pub(super) places: &'a Places,
    pub(super) program: &'a Program<'a>,
    /// Where the top of the interrupt stack is kept.
    pub(super) top: Option<u64>,
    pub(super) limit: usize,
}

/// How many frames are followed at most.
const DEEP: usize = 256;

impl Walker<'_> {
    /// The frames; none if one of them is at a place that was not looked up.
    pub(super) fn walk(&self, cpu: &Cpu, memory: &mut dyn Memory) -> Option<Walk> {
        let mut walk =
            Walk { chain: Vec::new(), frames: Vec::new(), firsts: Vec::new(), called: None, interrupted: None };
        let (mut registers, mut first, mut levels) = (cpu.dwarf(), true, 0);
        while walk.frames.len() < DEEP && levels < self.limit {
            let pc = registers.rip()?;
            let switched = self.switched(&registers, memory);
            if let Some(before) = switched {
                (registers, first) = (registers.with_rsp(before), true);
            }
            let key = (if first { pc } else { pc.checked_sub(1)? }, pc);
            let place = self.places.get(key)?;
            levels += place.levels.len().max(1);
            let frame = Frame::new(registers, place, memory);
            walk.chain.push(key);
            walk.firsts.push(first);
            walk.frames.push(frame);
            let name = self.places.entry(pc);
            let stack = registers.rsp()?;
            if OUTERMOST.iter().any(|entry| name.starts_with(entry)) {
                if name.starts_with(SYSTEM_CALL) {
                    walk.called = Pushed::read(stack, memory).and_then(|pushed| pushed.called());
                }
                break;
            }
            let next = if name.starts_with(INTERRUPT) {
                let pushed = Pushed::read(stack, memory)?.interrupted()?;
                let what = ends::said(self.program, name, &pushed);
                walk.interrupted = walk.interrupted.take().or(Some(what));
                if pushed.is_user() { None } else { Some(pushed.dwarf()) }
            } else {
                walk.frames.last().and_then(|frame| frame.caller(memory))
            };
            first = name.starts_with(INTERRUPT);
            match next {
                Some(next) => registers = next,
                None => break,
            }
        }
        Some(walk)
    }

    /// The stack pointer from before the interrupt stack was gone on, if it stands at its top.
    fn switched(&self, registers: &Registers, memory: &mut dyn Memory) -> Option<u64> {
        let top = word(memory, self.top?)?;
        if registers.rsp() != Some(top) {
            return None;
        }
        word(memory, top).filter(|before| is_other_stack(top, *before))
    }
}
