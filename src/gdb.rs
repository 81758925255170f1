//! GDB: driven over MI, from the grammar ([`mi`]) over the child ([`client`]) to what a hit shows ([`collect`]).
//!
//! Invariant: nothing of a recipe reaches GDB but as the argument of an MI command, after [`crate::recipe`] has checked
//! that it is data.

pub mod alter;
pub mod answer;
pub mod breakpoints;
pub mod client;
pub mod collect;
mod command;
mod condition;
pub mod counters;
mod cpu;
pub mod entry;
pub mod group;
pub mod hooks;
pub mod lines;
mod memory;
pub mod mi;
pub mod modules;
mod objects;
pub mod packets;
pub mod program;
pub mod read_ahead;
mod registers;
pub mod returns;
pub mod scope;
mod spare;
mod stack;
pub mod stop;
mod storage;
pub mod symbols;
mod syscall;
pub mod target;
mod types;
mod variables;
pub mod watch;
