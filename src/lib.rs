//! kdbg: kernel debugging sessions as code.
pub mod builtin;
pub mod commands;
pub mod error;
pub mod event;
pub mod recipe;
pub mod report;
