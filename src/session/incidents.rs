//! The stacks that the guest's kernel printed, with the files and lines of its source.

use std::path::Path;

use super::arm::Armed;
use super::journal::Journal;
use crate::error::{Error, Result};
use crate::event::Cancel;
use crate::gdb::client::Gdb;
use crate::gdb::lines::{self, Lines};
use crate::gdb::program::Program;
use crate::guest::console::incident::Traced;
use crate::report::model::{Call, Incident};
use crate::report::path::place;

const SEE_CONSOLE: &str = "console.log in the run directory has the whole story";
/// How many calls the message of an error shows.
const SHORT: usize = 8;
/// What the kernel calls to print a stack stands on top of it.
const PRINTERS: [&str; 4] = ["__dump_stack", "dump_stack_lvl", "dump_stack", "show_stack"];

/// Finds the lines of all stacks. Only now, when nothing waits for it: reading the debug information takes time.
pub(super) fn decode(journal: &mut Journal<'_>, armed: &mut Armed<'_>, vmlinux: &Path, cancel: &Cancel) {
    if journal.traces().iter().all(Vec::is_empty) {
        return;
    }
    let Some(lines) = Lines::open(vmlinux) else { return };
    let (gdb, program) = (&mut armed.gdb, &armed.collector.program);
    journal.decode_incidents(|trace| {
        trace.iter().flat_map(|traced| calls(traced, (&mut *gdb, program, &lines), cancel)).collect()
    });
}

/// A call that the kernel printed, and what was inlined there.
fn calls(traced: &Traced, (gdb, program, lines): (&mut Gdb, &Program<'_>, &Lines), cancel: &Cancel) -> Vec<Call> {
    let own = Call::from(traced.clone());
    let start = program.symbols.start_of(traced.module.as_deref(), &traced.symbol, traced.size);
    let Some(start) = start else { return vec![own] };
    // A call returns to the instruction behind it, which may be of another line.
    let address = start + traced.offset - u64::from(!traced.exact && traced.offset > 0);
    let found = match traced.module {
        Some(_) => lines::of_module(gdb, address, cancel).into_iter().collect(),
        None => lines.at(address),
    };
    let mut calls: Vec<Call> = found
        .into_iter()
        .map(|line| Call {
            symbol: line.function.unwrap_or_else(|| own.symbol.clone()),
            file: line.file.and_then(|file| program.source(&file)),
            line: line.line,
            inlined: true,
            ..own.clone()
        })
        .collect();
    match calls.last_mut() {
        // By the name of its code, which may be a clone.
        Some(outer) => {
            outer.symbol.clone_from(&own.symbol);
            outer.inlined = false;
        }
        None => calls.push(own),
    }
    if !traced.certain {
        calls.drain(..calls.len() - 1);
    }
    calls
}

/// How the run ended, once all is known that the kernel said: after something fatal it did not end well. Such an error has
/// the stack, if there is one, in place of the console's last lines.
pub(super) fn verdict(ended: Result<()>, incidents: &[Incident]) -> Result<()> {
    let Some(fatal) = incidents.iter().find(|incident| incident.kind.is_fatal()) else { return ended };
    let head = format!("{}: {}", fatal.kind.said(), fatal.text);
    match ended {
        Ok(()) => Err(Error::guest(format!("{head}{}", shown(&fatal.stack))).hint(SEE_CONSOLE)),
        Err(error) if error.message.starts_with(&head) && !fatal.stack.is_empty() => {
            Err(Error { message: format!("{head}{}", shown(&fatal.stack)), ..error })
        }
        Err(error) => Err(error),
    }
}

/// The innermost calls, a line each.
fn shown(stack: &[Call]) -> String {
    let stack = stack.iter().filter(|call| call.certain && !PRINTERS.contains(&call.symbol.as_str()));
    let lines: Vec<String> = stack.map(short).collect();
    let more = lines.len().saturating_sub(SHORT);
    let more = if more > 0 { format!("\n  … {more} more") } else { String::new() };
    let shown = lines.iter().take(SHORT).map(|line| format!("\n  {line}")).collect::<String>();
    format!("{shown}{more}")
}

fn short(call: &Call) -> String {
    let inlined = if call.inlined { " (inlined)" } else { "" };
    let module = call.module.as_ref().map(|name| format!(" [{name}]")).unwrap_or_default();
    let place = place(call.file.as_deref(), call.line).unwrap_or_else(|| format!("+{:#x}", call.offset));
    format!("{}{inlined}{module}  {place}", call.symbol)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::model::IncidentKind;

    fn call(symbol: &str, certain: bool) -> Call {
        let (file, line) = (Some("net/x.c".into()), Some(7));
        Call { symbol: symbol.into(), offset: 1, module: None, file, line, inlined: false, certain }
    }

    #[test]
    fn the_error_has_the_stack_and_not_what_printed_it() {
        let (kind, text) = (IncidentKind::Panic, "Kernel panic - not syncing: x".to_owned());
        let stack = vec![call("dump_stack", true), call("left_over", false), call("panic", true), call("a", true)];
        let incident = Incident { kind, text: text.clone(), step: None, stack };
        let error = Error::guest(format!("{}: {text}; the last lines of its console:\n  x", kind.said())).hint("h");
        let incidents = [incident];
        let message = format!("the guest's kernel panicked: {text}\n  panic  net/x.c:7\n  a  net/x.c:7");
        let explained = verdict(Err(error), &incidents).unwrap_err();
        assert_eq!((&explained.message, explained.hint.as_deref()), (&message, Some("h")));
        let other = Err(Error::recipe("something else"));
        assert_eq!(verdict(other.clone(), &incidents), other);
        assert_eq!(verdict(Ok(()), &incidents).unwrap_err().message, message, "it did not end well");
        assert_eq!(verdict(Ok(()), &[]), Ok(()));
    }
}
