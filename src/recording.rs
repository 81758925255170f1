//! Recordings: all registers and the whole memory of a guest at each hit of a run, in one file, and what GDB sees when it
//! attaches to one that is long over.
//!
//! [`Writer`] appends a hit before the guest runs on: the pages that have changed since the one before. [`Recording`] is the
//! file read again, as far as it is whole, and [`Replay`] stands behind the [server](crate::server) with it: each hit is
//! a stop. [`vmcore`] writes a hit as a core.

mod chunk;
mod contents;
mod format;
mod read;
mod replay;
#[cfg(test)]
mod tests;
pub mod vmcore;
mod write;

pub use format::{Head, KernelOf, Stop};
pub use read::Recording;
pub use replay::Replay;
pub use write::{Pages, Writer, Written};

/// The file in the run directory.
pub const FILE: &str = "recording.kdbg";
