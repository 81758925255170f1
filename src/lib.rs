//! kdbg: kernel debugging sessions as code.
pub mod commands;
pub mod error;
pub mod event;
pub mod host;
pub mod recipe;
pub mod report;
