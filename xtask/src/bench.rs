//! `cargo xtask bench WHAT`: kdbg and the way without it, or two ways with it, side by side in one run.
//!
//! A benchmark is a program of its own, never a test: a shared machine's clock proves nothing by itself. What it prints
//! on standard output is a section of docs/performance.md.

mod hits;
mod kernel;
mod locals;
mod measure;
mod replay;
mod run;
mod sides;

use std::path::Path;

use kdbg::error::{Error, Result};
use kdbg::event::Cancel;

/// What can be measured.
pub(crate) const BENCHES: &str = "hits, kernel, locals, replay, run";

/// Runs the benchmark called `what`.
///
/// # Errors
/// There is none of that name, or something that it runs fails: a figure is never printed of half a run.
pub(crate) fn bench(what: &str, root: &Path, cancel: &Cancel) -> Result<()> {
    match what {
        "hits" => hits::bench(root, cancel),
        "kernel" => kernel::bench(root, cancel),
        "locals" => locals::bench(root, cancel),
        "replay" => replay::bench(root, cancel),
        "run" => run::bench(root, cancel),
        _ => Err(Error::usage(format!("there is no benchmark `{what}`")).hint(format!("there is: {BENCHES}"))),
    }
}
