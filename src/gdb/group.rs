//! A pattern of function names becomes a breakpoint for each function.

use super::breakpoints::{self, Breakpoint, Unresolved};
use super::client::Gdb;
use super::program::Program;
use crate::event::Cancel;
use crate::recipe::ProbePoint;

/// A pattern may stand for so many functions: more are a mistake, and GDB takes its time for each.
pub const MOST: usize = 64;

/// Sets a breakpoint at every function whose name matches `pattern`, in the kernel and the modules that are loaded. A clone
/// belongs to its function; a name that GDB has no code for, or only code that is gone by now, is left out.
///
/// # Errors
/// No function matches, or too many; or as [`breakpoints::set`].
pub fn set(
    gdb: &mut Gdb,
    pattern: &str,
    when: Option<&str>,
    program: &Program<'_>,
    cancel: &Cancel,
) -> Result<Vec<Breakpoint>, Unresolved> {
    let names = program.symbols.matching(pattern);
    if names.len() > MOST {
        return Err(Unresolved::TooMany(names));
    }
    let mut breakpoints = Vec::new();
    for name in names {
        match breakpoints::set(gdb, &ProbePoint::Function(name), when, program, cancel) {
            Ok(breakpoint) => breakpoints.push(breakpoint),
            Err(Unresolved::NoSuchPlace { .. } | Unresolved::Freed) => {}
            Err(other) => return Err(other),
        }
    }
    if breakpoints.is_empty() {
        return Err(Unresolved::NoSuchPlace { near: Vec::new(), next_line: None });
    }
    Ok(breakpoints)
}
