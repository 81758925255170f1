//! kdbg: kernel debugging sessions as code.
pub mod error;
pub mod event;
pub mod recipe;
pub mod report;
pub mod process;
pub mod store;
pub mod kernel; pub mod names;
