//! kdbg: kernel debugging sessions as code.
pub mod builtin;
pub mod cli;
pub mod commands;
pub mod error;
pub mod event;
pub mod gdb;
pub mod guest;
pub mod host;
pub mod kernel;
pub mod process;
pub mod recipe;
pub mod report;
pub mod session;
pub mod spelling;
pub mod store;
pub mod ui;
