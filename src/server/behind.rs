//! The seam: what a server needs of what is debugged.

use std::time::Duration;

use crate::error::Result;

/// What is debugged: a machine with x86-64 CPUs, numbered from 0.
///
/// An error is the end of the session with the client. What a client cannot have is refused instead, and it goes on.
pub trait Behind {
    /// How many CPUs there are; at least one.
    fn cpus(&self) -> u32;

    /// A file of the target's description (GDB's manual, "Target Descriptions"): `target.xml`, or one that it includes. It says
    /// what is in [`Behind::registers`].
    fn description(&self, annex: &str) -> Option<&str>;

    /// Where it stands and why: the last stop.
    fn halted(&self) -> Halt;

    /// All registers of a CPU, as in the answer to the packet `g`.
    ///
    /// # Errors
    /// They cannot be read any more.
    fn registers(&mut self, cpu: u32) -> Result<Vec<u8>>;

    /// Writes all registers of a CPU; false if that is refused.
    ///
    /// # Errors
    /// As [`Behind::registers`].
    fn set_registers(&mut self, cpu: u32, bytes: &[u8]) -> Result<bool>;

    /// Reads memory as a CPU sees it, or physical memory (without a CPU). Gives how many bytes could be read, from the first
    /// on.
    ///
    /// # Errors
    /// As [`Behind::registers`].
    fn read(&mut self, cpu: Option<u32>, address: u64, into: &mut [u8]) -> Result<usize>;

    /// Writes memory, all of it or nothing; false if that is refused.
    ///
    /// # Errors
    /// As [`Behind::registers`].
    fn write(&mut self, cpu: Option<u32>, address: u64, bytes: &[u8]) -> Result<bool>;

    /// Whether it can run backwards.
    fn goes_back(&self) -> bool;

    /// Sets a breakpoint; false if it cannot.
    ///
    /// # Errors
    /// As [`Behind::registers`].
    fn set(&mut self, breakpoint: Breakpoint) -> Result<bool>;

    /// Takes a breakpoint out; false if there is none.
    ///
    /// # Errors
    /// As [`Behind::registers`].
    fn clear(&mut self, breakpoint: Breakpoint) -> Result<bool>;

    /// Begins to run. The client hears nothing until [`Behind::wait`] tells of a stop.
    ///
    /// # Errors
    /// As [`Behind::registers`].
    fn resume(&mut self, how: Move) -> Result<()>;

    /// The client asks which CPUs there are. GDB does that when it tells its user of a stop, and not at those that are its own
    /// business, as the ends of most steps.
    fn threads_listed(&mut self) {}

    /// Waits for a stop, for no longer than this.
    ///
    /// # Errors
    /// As [`Behind::registers`].
    fn wait(&mut self, patience: Duration) -> Result<Option<Halt>>;

    /// The client wants it to stop; [`Behind::wait`] will tell.
    ///
    /// # Errors
    /// As [`Behind::registers`].
    fn interrupt(&mut self) -> Result<()>;

    /// Answers a command of the client's `monitor`; none if there is no such command.
    fn monitor(&mut self, command: &str) -> Option<String>;

    /// What a client is told of a CPU, like `CPU#0`.
    fn about_cpu(&self, cpu: u32) -> String {
        format!("CPU#{cpu}")
    }

    /// The client is gone, whichever way: its breakpoints are of no use to anybody.
    ///
    /// # Errors
    /// As [`Behind::registers`].
    fn left(&mut self) -> Result<()>;
}

/// A way to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// Until something stops it.
    Continue,
    /// One instruction of this CPU.
    Step(u32),
    /// Backwards until something stops it.
    ReverseContinue,
    /// One instruction of this CPU backwards.
    ReverseStep(u32),
}

/// A stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Halt {
    /// The CPU that it is about.
    pub cpu: u32,
    /// Why.
    pub why: Why,
    /// What the person at the client is told of it, if there is something to be told.
    pub note: Option<String>,
}

/// Why it stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// A step is done, or there is nothing more to say.
    Trap,
    /// The client, or the end of what can be run, interrupted it.
    Interrupted,
    /// It stands at a breakpoint in code, of the client's.
    Breakpoint,
    /// It stands at a breakpoint in a register of the CPU, of the client's.
    HardwareBreakpoint,
    /// A watched value was accessed, at this address.
    Watchpoint(Watched, u64),
    /// It went backwards, and there is nothing before this.
    Beginning,
    /// It is gone.
    Gone,
}

/// Which accesses a watchpoint is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watched {
    /// Writes.
    Write,
    /// Reads.
    Read,
    /// Both.
    Access,
}

/// A place to stop at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breakpoint {
    /// A breakpoint in code.
    Software(u64),
    /// A breakpoint in a register of the CPUs.
    Hardware(u64),
    /// A watchpoint on so many bytes.
    Watch(Watched, u64, u64),
}
