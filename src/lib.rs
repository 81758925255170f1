//! kdbg: kernel debugging sessions as code.
pub mod error;
pub mod event;
pub mod guest;
pub mod kernel;
pub mod names;
pub mod process;
pub mod recipe;
pub mod report;
pub mod store;
