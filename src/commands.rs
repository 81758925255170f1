//! The verbs of the command line, one file each; each reads like a description of its verb.
//!
//! They may use every room below and print results to standard output. Progress goes through [`crate::event`].

pub mod recipe;
