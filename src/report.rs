//! The room of the report: what a run found, and how that reads.
//!
//! | file | holds | touches |
//! | --- | --- | --- |
//! | [`model`] | `report.json` as types; every other format is rendered from it | nothing |
//! | [`debuggable`] | which files of the kernel were compiled for debugging | nothing |
//! | [`diff`] | two reports → which paths, signatures, values and expectations differ | nothing |
//! | [`expect`] | recipe + what was seen → which expectations held | nothing |
//! | [`value`] | reading the values that GDB prints: numbers, names, text | nothing |
//! | [`text`] | words for people: escaping, shortening, plurals, durations | nothing |
//! | [`path`] | a stack as a path: which hits came the same way, and how to say it in a line | nothing |
//! | [`markdown`] | a report as a page, `report.md` | nothing: it asks [`markdown::Sources`] for source lines |
//! | [`matrix`] | several reports of one recipe → `matrix.json`, `matrix.md` | nothing |
//! | [`packets`] | captures of several interfaces → packets.pcapng | nothing |
//! | [`volatile`] | which places of `report.json` differ from run to run | nothing |
//! | [`sources`] | those source lines, out of a kernel tree | the kernel tree, read only |
//!
//! Nothing in this room knows a screen ([`crate::ui`]), a debugger or a guest. The fields of `report.json` are
//! described in docs/report.md.

pub mod debuggable;
pub mod diff;
pub mod expect;
pub mod markdown;
pub mod matrix;
pub mod model;
pub mod packets;
pub mod path;
pub mod sources;
pub mod text;
pub mod value;
pub mod volatile;

#[cfg(test)]
pub(crate) mod sample;
