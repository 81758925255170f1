//! The verbs of the command line, one a file; each reads like a description of its verb.

pub mod doctor;
