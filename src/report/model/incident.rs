//! What the guest's kernel complained about, in the report.

use serde::{Deserialize, Serialize};

/// One complaint of the guest's kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// What it is.
    pub kind: IncidentKind,
    /// The line of the console that says so, without its time.
    pub text: String,
    /// The step of the trigger that ran, or had run last; none before the first.
    pub step: Option<String>,
    /// The stack that the kernel printed, innermost call first; where kdbg noticed it, that of the CPU.
    pub stack: Vec<Call>,
}

/// What kind of complaint it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncidentKind {
    /// The kernel gave up.
    Panic,
    /// A fault in the kernel's own code, a `BUG()` included.
    Oops,
    /// A task waits uninterruptibly, and has for too long.
    HungTask,
    /// A CPU has not scheduled for too long.
    SoftLockup,
    /// A CPU has not even served interrupts for too long.
    HardLockup,
    /// A CPU or a task keeps RCU waiting.
    RcuStall,
    /// It did not answer any more; kdbg noticed that.
    Silent,
    /// Memory ran out, and a process was killed for it.
    OutOfMemory,
    /// A `WARN()`, or a check of the kernel's that failed.
    Warning,
}

impl IncidentKind {
    /// Whether what happens after it says nothing any more: the run ends.
    pub fn is_fatal(self) -> bool {
        self != IncidentKind::Warning
    }

    /// The sentence's beginning, up to what the kernel said.
    pub fn said(self) -> &'static str {
        match self {
            IncidentKind::Panic => "the guest's kernel panicked",
            IncidentKind::Oops => "the guest's kernel failed (an oops)",
            IncidentKind::HungTask => "a task of the guest hangs",
            IncidentKind::SoftLockup => "a CPU of the guest is stuck (a soft lockup)",
            IncidentKind::HardLockup => "a CPU of the guest is stuck (a hard lockup)",
            IncidentKind::RcuStall => "the guest is stuck (an RCU stall)",
            IncidentKind::Silent => "the guest hangs",
            IncidentKind::OutOfMemory => "the guest ran out of memory",
            IncidentKind::Warning => "the guest's kernel warned",
        }
    }
}

/// One call of a stack that the kernel printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// The function, inlined ones included.
    pub symbol: String,
    /// Bytes from the start of the function whose code it is.
    pub offset: u64,
    /// The module that has it; none for the kernel's own.
    pub module: Option<String>,
    /// Source file, relative to the kernel tree.
    pub file: Option<String>,
    /// Line in it.
    pub line: Option<u32>,
    /// Whether the function was inlined into the next call.
    pub inlined: bool,
    /// Whether the kernel is sure of it. What it marks with `?` was found on the stack, and may be left over.
    pub certain: bool,
}
