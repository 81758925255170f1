//! kdbg: kernel debugging sessions as code.
pub mod error;
pub mod event;
pub mod recipe;
pub mod report;
pub mod ui;
