//! One stop of a probe: where, in which task and context, its stack, and what was recognised there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Altered, Changed, Var};

/// In which context the CPU was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Context {
    /// A task's own code: system call, fault, exit or kernel thread.
    Process,
    /// Serving a softirq.
    Softirq,
    /// In an interrupt handler.
    Hardirq,
    /// In a non-maskable interrupt.
    Nmi,
}

impl Context {
    /// The word used in the report.
    pub fn as_str(self) -> &'static str {
        match self {
            Context::Process => "process",
            Context::Softirq => "softirq",
            Context::Hardirq => "hardirq",
            Context::Nmi => "nmi",
        }
    }
}

/// One stop that belongs to a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hit {
    /// Counts from 1, over all probes.
    pub index: u64,
    /// The probe's name.
    pub probe: String,
    /// The virtual CPU that stopped, from 0.
    pub cpu: u32,
    /// The current task on that CPU.
    pub task: Task,
    /// The context that the CPU was in; none when it could not be read.
    pub context: Option<Context>,
    /// What keeps that CPU from doing something else.
    #[serde(default)]
    pub depth: Depth,
    /// The kernel's `jiffies`; none when it could not be read. Volatile.
    pub jiffies: Option<u64>,
    /// The system call that the stack began with; none where it did not begin with one, or is not whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syscall: Option<Syscall>,
    /// What the innermost interrupt or exception on the stack has interrupted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interrupted: Option<Interrupted>,
    /// The stack, innermost frame first.
    pub frames: Vec<Frame>,
    /// Where and why the stack could not be followed to the kernel's entry; none when it was, or when the probe wanted no
    /// more frames.
    #[serde(default)]
    pub cut: Option<String>,
    /// The recipe's `show` expressions.
    pub shown: Vec<Var>,
    /// Kernel objects that were recognised.
    pub decoded: Vec<Decoded>,
    /// The returned value, for probes on a return.
    pub returned: Option<Var>,
    /// For probes on a return: the arguments as they were when the function was entered.
    #[serde(default)]
    pub arguments: Vec<Var>,
    /// What the probe logged, for probes with `log`: such a hit has no stack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What has changed, for probes that watch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<Changed>,
    /// What kdbg changed in the guest, because the recipe wanted it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub altered: Vec<Altered>,
    /// What the hit cost. Volatile.
    pub cost: Cost,
}

/// How deep a CPU is in code that must not be interrupted by something else; none where the kernel does not count it, or it could
/// not be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Depth {
    /// How often preemption is off, spin locks that are held included (`CONFIG_PREEMPT_COUNT`).
    pub preempt: Option<u64>,
    /// How often softirqs are off (`local_bh_disable`).
    pub softirqs: Option<u64>,
    /// How many RCU read sections the task is in (`CONFIG_PREEMPT_RCU`).
    pub rcu: Option<u64>,
    /// How many locks the task holds (`CONFIG_LOCKDEP`).
    pub locks: Option<u64>,
}

/// A system call on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Syscall {
    /// `connect`.
    pub name: String,
    /// Its arguments, as the program gave them. Where neither names nor types are known, by their numbers.
    pub args: Vec<Var>,
    /// As a person would write it: `connect(3, 127.0.0.1:9)`.
    pub text: String,
}

/// What an interrupt or exception has interrupted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interrupted {
    /// The kernel's entry that it came by, like `asm_sysvec_apic_timer_interrupt`.
    pub entry: String,
    /// Whether it was a program, and not the kernel.
    pub user: bool,
    /// Where, in hexadecimal with `0x`.
    pub address: String,
    /// The kernel's function there.
    pub symbol: Option<String>,
}

/// The current task of a hit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// `task_struct.comm`; none when it could not be read.
    pub comm: Option<String>,
    /// The thread's id (`task_struct.pid`).
    pub pid: Option<i64>,
    /// The process's id (`task_struct.tgid`).
    pub tgid: Option<i64>,
}

/// One frame of a stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// 0 is the innermost.
    pub level: u32,
    /// The program counter in this frame, in hexadecimal with `0x`.
    pub address: String,
    /// The function, inlined ones included.
    pub symbol: String,
    /// `address` minus the start of the function whose code it is (for an inlined frame: the function that it was inlined into).
    pub offset: Option<u64>,
    /// Source file, relative to the kernel tree.
    pub file: Option<String>,
    /// Line in it.
    pub line: Option<u32>,
    /// Whether the function was inlined into the next frame.
    pub inlined: bool,
    /// The arguments.
    pub args: Vec<Var>,
    /// The locals, macro temporaries left out.
    pub locals: Vec<Var>,
    /// How many macro temporaries were left out of `locals`.
    pub hidden: u32,
}

/// A kernel object that was recognised behind a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decoded {
    /// The expression that led to it.
    pub expression: String,
    /// What it is, like `sk_buff`.
    pub kind: String,
    /// One line for people.
    pub summary: String,
    /// Its fields by name.
    pub fields: BTreeMap<String, String>,
    /// Of a packet, its number in this run: what carries the same one is the same packet, as far as that can be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packet: Option<u64>,
}

/// What a hit cost: times in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// How long the guest stood still, from GDB's report of the stop to its word that the guest runs again.
    pub stop_us: u64,
    /// How much of that was spent on collecting.
    pub collect_us: u64,
    /// Who has read the stack; none where the hit has none.
    #[serde(default)]
    pub stack: Option<StackReader>,
}

/// Who has read a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StackReader {
    /// GDB.
    Gdb,
    /// kdbg, from registers, memory and debug information: on a path through the kernel on which it has had the same values
    /// as GDB before.
    Kdbg,
}
