//! The general registers of a frame: read, put in place of the CPU's, and those of the moment before a stack was left.

use super::client::Gdb;
use super::command::evaluate_at;
use super::memory;
use super::mi::number;
use super::variables::KERNEL_HALF;
use crate::decode::Memory;
use crate::digest::unhex;
use crate::error::{Error, Result};
use crate::event::Cancel;
use crate::unwind;

/// GDB's name of a register, and its place in `struct pt_regs`, in words (arch/x86/include/asm/ptrace.h).
const REGISTERS: [(&str, usize); 17] = [
    ("rax", 10),
    ("rbx", 5),
    ("rcx", 11),
    ("rdx", 12),
    ("rsi", 13),
    ("rdi", 14),
    ("rbp", 4),
    ("r8", 9),
    ("r9", 8),
    ("r10", 7),
    ("r11", 6),
    ("r12", 3),
    ("r13", 2),
    ("r14", 1),
    ("r15", 0),
    ("rsp", 19),
    ("rip", 16),
];
/// Likewise the code segment's.
const CODE: usize = 17;
/// The number of each in the debug information (x86-64 psABI, figure 3.36).
const DWARF: [usize; REGISTERS.len()] = [0, 3, 2, 1, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15, 7, 16];
pub(super) const RSP: usize = 15;
const RIP: usize = 16;
/// The code segments of the kernel, and of 64 and 32 bit programs (arch/x86/include/asm/segment.h).
const KERNEL_CODE: u64 = 0x10;
const USER_CODE: [u64; 2] = [0x33, 0x23];
/// The kernel's interrupt stacks are as large as this.
const STACK_SIZE: u64 = 0x4000;

/// GDB's names of the general registers, in the order that they are kept in.
pub(super) fn names() -> [&'static str; REGISTERS.len()] {
    REGISTERS.map(|(name, _)| name)
}

/// A frame of a virtual CPU.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope {
    pub(super) cpu: u32,
    /// GDB's thread.
    pub(super) thread: u64,
    pub(super) frame: usize,
}

/// Values of the general registers. A frame that is not the innermost does not have all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Registers {
    values: [Option<u64>; REGISTERS.len()],
    user: bool,
}

impl Registers {
    /// The program counter; 0 if it is not known.
    pub(super) fn rip(&self) -> u64 {
        self.values[RIP].unwrap_or_default()
    }

    /// Whether they are those of a program, not of the kernel.
    pub(super) fn is_user(&self) -> bool {
        self.user
    }

    /// The same, by their numbers in the debug information.
    pub(super) fn dwarf(&self) -> unwind::Registers {
        dwarf(&self.values)
    }
}

/// Values in the order of [`names`], by their numbers in the debug information.
pub(super) fn dwarf(values: &[Option<u64>; REGISTERS.len()]) -> unwind::Registers {
    let mut numbered = [None; REGISTERS.len()];
    for (number, value) in DWARF.iter().zip(values) {
        numbered[*number] = *value;
    }
    unwind::Registers(numbered)
}

/// The registers that the kernel's entry has pushed on the stack, `struct pt_regs`, as words.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pushed([u64; PUSHED]);

/// How many words they are, up to the stack pointer.
const PUSHED: usize = 20;

impl Pushed {
    /// Those at `address`.
    pub(super) fn read(address: u64, memory: &mut dyn Memory) -> Option<Pushed> {
        let bytes = memory.read(address, 8 * PUSHED as u64)?;
        let mut words = [0; PUSHED];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().ok()?);
        }
        Some(Pushed(words))
    }

    fn is_user(&self) -> bool {
        USER_CODE.contains(&(self.0[CODE] & 0xffff))
    }

    /// What an interrupt or exception has interrupted; none if this cannot be that.
    pub(super) fn interrupted(&self) -> Option<Registers> {
        let values = REGISTERS.map(|(_, place)| Some(self.0[place]));
        let user = self.is_user();
        let plausible = user || (self.0[CODE] & 0xffff == KERNEL_CODE && values[RSP].is_some_and(is_stack));
        plausible.then_some(Registers { values, user })
    }

    /// What a program called the kernel with; none if this cannot be that.
    pub(super) fn called(&self) -> Option<Called> {
        self.is_user().then(|| Called { arguments: ARGUMENTS.map(|at| self.0[at]) })
    }
}

/// The registers of a frame, as far as they can be had; none without stack pointer and program counter.
///
/// # Errors
/// GDB failed.
pub(super) fn read(gdb: &mut Gdb, scope: Scope, cancel: &Cancel) -> Result<Option<Registers>> {
    let expressions = REGISTERS.map(|(name, _)| format!("(unsigned long)${name}"));
    let values = evaluate(gdb, scope, expressions, cancel)?;
    Ok(Some(Registers { values, user: false }).filter(|read| read.values[RSP].is_some() && read.values[RIP].is_some()))
}

/// Puts registers in place of the CPU's, for GDB to unwind from there. Whoever does so puts the CPU's own back before the
/// guest runs.
///
/// # Errors
/// GDB failed, or cannot write one: the guest may not run on then.
pub(super) fn write(gdb: &mut Gdb, scope: Scope, registers: &Registers, cancel: &Cancel) -> Result<()> {
    let known = REGISTERS.iter().zip(registers.values).filter_map(|((name, _), value)| Some((name, value?)));
    let writes: Vec<String> = known.map(|(name, value)| format!("${name} = {value:#x}")).collect();
    let answer = gdb.ask(&command(Scope { frame: 0, ..scope }, &writes.join(", ")), cancel)?;
    match answer.value() {
        Some(_) => Ok(()),
        None => Err(Error::debugger("GDB could not write the CPU's registers, to follow the stack and put them back")),
    }
}

/// The registers that an interrupt or exception has left on the stack, at whose entry the frame is; none if what is there
/// cannot be that.
///
/// # Errors
/// GDB failed.
pub(super) fn interrupted(gdb: &mut Gdb, scope: Scope, cancel: &Cancel) -> Result<Option<Registers>> {
    // Not as the structure: looking for that from assembler code takes GDB half a second.
    let word = |word: usize| format!("((unsigned long *)$rsp)[{word}]");
    let [code] = evaluate(gdb, scope, [format!("{} & 0xffff", word(CODE))], cancel)?;
    let values = evaluate(gdb, scope, REGISTERS.map(|(_, place)| word(place)), cancel)?;
    let user = code.is_some_and(|code| USER_CODE.contains(&code));
    let plausible = user || (code == Some(KERNEL_CODE) && values[RSP].is_some_and(is_stack));
    Ok(Some(Registers { values, user }).filter(|_| plausible && values.iter().all(Option::is_some)))
}

/// Those that a function has left its caller which has nothing on the stack but the address to return to; none if that cannot
/// be read.
///
/// # Errors
/// GDB failed.
pub(super) fn returned(gdb: &mut Gdb, mut registers: Registers, cancel: &Cancel) -> Result<Option<Registers>> {
    let Some(stack) = registers.values[RSP] else { return Ok(None) };
    let Some(word) = memory::read(gdb, stack, 8, cancel)? else { return Ok(None) };
    (registers.values[RSP], registers.values[RIP]) = (Some(stack + 8), word.try_into().ok().map(u64::from_le_bytes));
    Ok(Some(registers))
}

/// Where the arguments of a system call are: `rdi`, `rsi`, `rdx`, `r10`, `r8`, `r9` (arch/x86/entry/entry_64.S).
const ARGUMENTS: [usize; 6] = [14, 13, 12, 7, 9, 8];

/// What a program called the kernel with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Called {
    /// The registers of the arguments, in the order of a system call.
    pub(super) arguments: [u64; 6],
}

/// The registers that a system call has left on the stack, at whose entry the frame is; none if what is there cannot be that.
///
/// # Errors
/// GDB failed.
pub(super) fn called(gdb: &mut Gdb, scope: Scope, cancel: &Cancel) -> Result<Option<Called>> {
    let Scope { thread, frame, .. } = scope;
    let command = format!("-data-read-memory-bytes --thread {thread} --frame {frame} $rsp {}", 8 * (CODE + 1));
    let Ok(answer) = gdb.ask(&command, cancel)?.ok() else { return Ok(None) };
    let memory = answer.tuples("memory");
    let contents = memory.first().and_then(|memory| memory.text("contents"));
    let Some(bytes) = contents.and_then(unhex) else { return Ok(None) };
    let word = |at: usize| Some(u64::from_le_bytes(bytes.get(8 * at..8 * at + 8)?.try_into().ok()?));
    let user = word(CODE).is_some_and(|code| USER_CODE.contains(&code));
    Ok(Some(Called { arguments: ARGUMENTS.map(|at| word(at).unwrap_or_default()) }).filter(|_| user))
}

/// The registers of the frame as they were before it went on the interrupt stack, whose top this CPU has in the per-CPU
/// variable `top`; none if the frame does not stand at that top.
///
/// # Errors
/// GDB failed.
pub(super) fn before_switch(
    gdb: &mut Gdb,
    scope: Scope,
    top: Option<&str>,
    cancel: &Cancel,
) -> Result<Option<Registers>> {
    let Some(top) = top else { return Ok(None) };
    let Some(mut registers) = read(gdb, scope, cancel)? else { return Ok(None) };
    let top = format!("*(unsigned long *)((unsigned long)&{top} + __per_cpu_offset[{}])", scope.cpu);
    let [top, before] = evaluate(gdb, scope, [top.clone(), format!("*(unsigned long *){top}")], cancel)?;
    let (Some(top), Some(before)) = (top, before) else { return Ok(None) };
    let switched = registers.values[RSP] == Some(top) && is_other_stack(top, before);
    registers.values[RSP] = Some(before);
    Ok(switched.then_some(registers))
}

/// Whether `before` can be a stack pointer from before the interrupt stack with this top was gone on.
pub(super) fn is_other_stack(top: u64, before: u64) -> bool {
    is_stack(before) && !(top.saturating_sub(STACK_SIZE)..=top).contains(&before)
}

fn is_stack(address: u64) -> bool {
    address >= KERNEL_HALF && address.is_multiple_of(8)
}

fn command(scope: Scope, expression: &str) -> String {
    evaluate_at(scope.thread, scope.frame, expression)
}

fn evaluate<const N: usize>(
    gdb: &mut Gdb,
    scope: Scope,
    expressions: [String; N],
    cancel: &Cancel,
) -> Result<[Option<u64>; N]> {
    let answers = gdb.batch(&expressions.map(|expression| command(scope, &expression)), cancel)?;
    Ok(std::array::from_fn(|n| answers.get(n).and_then(|answer| number(answer.value()?))))
}
