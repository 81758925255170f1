//! kdbg: kernel debugging sessions as code. A recipe says which kernel to build, which guest to boot, where to stop,
//! what to do in the guest and what must be seen; a run of it is a report.
//!
//! This page is the map of the crate: it names the room for every kind of line. `docs/architecture.md` adds the story of
//! a run, and why the rooms are cut as they are.
//!
//! # The way of a run
//!
//! ```text
//! recipe ─► kernel (built once, cached) ─► guest (QEMU) ─┐
//!                                          gdb (MI) ─────┴─► session: arm, trigger, collect, close ─► report
//! ```
//!
//! [`commands::run`] is the whole of it from the outside, [`session::run`] from the inside; both read as a list of what
//! happens.
//!
//! # Rooms, by floor
//!
//! Imports point down only. `cargo xtask tidy` checks it, and the table that it checks is in `xtask/src/tidy/floors.rs`.
//!
//! | room | what it holds |
//! | --- | --- |
//! | [`commands`] | one verb a file; each reads like a description of the verb. Signals |
//! | [`cli`] | the command line as types: a new flag begins here |
//! | [`ui`] | events → live lines, plain lines or JSON lines; the summary of a run; errors on the screen |
//! | [`session`] | the story of a run: choice of accelerator, boot, arming, the trigger, the journal of hits |
//! | [`kernel`] | sources, Kconfig, the build, the cache entry of a kernel |
//! | [`guest`] | QEMU: its command line, the initramfs, QMP, the console, the agent's protocol, whether KVM works |
//! | [`gdb`] | GDB: the MI grammar, the child, breakpoints, what a hit shows, symbols |
//! | [`package`] | Debian's packages, downloaded and unpacked without installing them |
//! | [`host`] | what this machine has and lacks, and how that is installed |
//! | [`recording`] | all registers and the whole memory at each hit, in one file; what a debugger sees of it |
//! | [`pack`] | a run in one file, written and read |
//! | [`store`] | the cache with its locks and staging; the directory of a run |
//! | [`process`] | every child: supervised, in a group of its own, ended for sure |
//! | [`server`] | what GDB attaches to: one client, and a seam behind which something can be debugged |
//! | [`event`] | what screens may learn, as one enum; the flag that asks every wait to end |
//! | [`decode`] | what sockets, packets, connections and other objects of the kernel say |
//! | [`memory`] | the memory of a guest that stands still, read in QEMU's process |
//! | [`report`] | `report.json` as types, expectations, `report.md` |
//! | [`layout`] | where the members of a kernel's structures are |
//! | [`vscode`] | VS Code's `launch.json`: configurations beside what is the user's |
//! | [`recipe`] | YAML → a checked recipe, or errors that point at a line; what a probe and an expression may say |
//! | [`builtin`] | the fragments and images that are compiled in |
//! | [`spelling`] | the nearest names to a wrong one |
//! | [`digest`] | hashes as text |
//! | [`error`] | the one error type, its kinds and exit codes, its hint |
//!
//! # Where does it go?
//!
//! - A key of the recipe: [`recipe::types`], its check in `recipe::check`, docs/recipe.md.
//! - A value in the report: [`report::model`], where it is collected ([`gdb::collect`] or `session::journal`), where it
//!   is shown ([`report::markdown`], [`ui::summary`]), docs/report.md.
//! - An object of the kernel that should be read: its members and its reader in [`decode`].
//! - Something QEMU is asked for: [`guest::machine`]. Something the guest's user space does: `images/init` and
//!   [`guest::agent`].
//! - Something GDB is asked for: [`gdb::breakpoints`] before the run, [`gdb::collect`] at a hit.
//! - A tool that has to be on the host: [`host::needs`].
//! - Progress that a person should see: an [`event::Event`], then every screen in [`ui`].
//! - A verb: [`cli`], a file in [`commands`].
//!
//! # Conventions
//!
//! A file begins with what it holds and what it must not touch. *Pure* means: no file, no process, no socket; such a
//! file can be tested with text alone. Every wait has a deadline and looks at [`event::Cancel`]. An error is an
//! [`error::Error`]: what failed, where and why, and a hint with the command or edit that mends it.

pub mod builtin;
pub mod cli;
pub mod commands;
pub mod decode;
pub mod digest;
pub mod error;
pub mod event;
pub mod gdb;
pub mod guest;
pub mod host;
pub mod kernel;
pub mod layout;
pub mod memory;
pub mod pack;
pub mod package;
pub mod process;
pub mod recipe;
pub mod recording;
pub mod report;
pub mod server;
pub mod session;
pub mod spelling;
pub mod store;
pub mod ui;
pub mod unwind;
pub mod vscode;
