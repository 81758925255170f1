//! A server that GDB, and whatever speaks its remote protocol, attaches to: one front for whatever can be debugged.
//!
//! What is debugged stands [`Behind`] the server: CPUs, their registers, memory, a way to run and to stop. The protocol is the
//! crate gdbstub's; a session here reads whole packets from the socket and attends to the few that gdbstub does not
//! know, or takes for the end of the world. There is one client at a time, and it is on this machine. Whatever a client does,
//! the server is there for the next one, and nothing behind it is ever killed.

mod arch;
mod behind;
pub mod description;
#[cfg(test)]
mod fake;
mod listen;
pub mod packets;
mod session;
mod target;
#[cfg(test)]
mod tests;

pub use behind::{Behind, Breakpoint, Halt, Move, Watched, Why};
pub use listen::{Address, Client, Server};
pub use session::Left;
