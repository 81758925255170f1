//! Conditions of breakpoints, tried out before anything runs.

use super::answer::Answer;
use super::breakpoints::Unresolved;
use super::client::Gdb;
use super::command;
use crate::error::Error;
use crate::event::Cancel;
use crate::recipe::expression;

/// How GDB begins when there is no such name where it looks.
pub(super) const NO_NAME: &str = "No symbol \"";

/// Whether a condition makes sense at every location of a breakpoint: GDB says so when it is given the condition, and is made
/// to forget it again.
pub(super) fn check(gdb: &mut Gdb, number: u64, condition: &str, cancel: &Cancel) -> Result<(), Unresolved> {
    match gdb.ask(&command(number, condition), cancel)? {
        Answer::Refused(why) => Err(Unresolved::BadCondition(why)),
        Answer::Done(_, said) if said.contains("failed to validate condition") => {
            Err(Unresolved::BadCondition("its variables are not there at every location of the probe".into()))
        }
        Answer::Done(..) => Ok(gdb.must(&command(number, ""), cancel).map(drop)?),
    }
}

/// Has GDB parse a condition, and forget it. A name that it does not find is no objection: GDB looks for it in one
/// function, and the stop may be in another, which was inlined there. It is none either if the condition makes sense at
/// some locations only. GDB refuses what makes sense at none, and says what is wrong at one of them.
pub(super) fn try_out(gdb: &mut Gdb, number: u64, condition: &str, cancel: &Cancel) -> Result<(), Unresolved> {
    match gdb.ask(&command(number, condition), cancel)? {
        Answer::Refused(why) if why.starts_with(NO_NAME) => Ok(()),
        Answer::Refused(why) => Err(Unresolved::BadCondition(why)),
        // Locations where it makes no sense are disabled until the condition goes.
        Answer::Done(..) => Ok(gdb.must(&command(number, ""), cancel).map(drop)?),
    }
}

/// Whether a condition makes sense with the names of `function`, whatever is inlined at its beginning.
pub(super) fn check_names(gdb: &mut Gdb, function: &str, condition: &str, cancel: &Cancel) -> Result<(), Unresolved> {
    // A condition with scopes of its own is looked at where the probe stops.
    if condition.contains("::") {
        return Ok(());
    }
    let (qualified, has_own) = with_names_of(gdb, function, condition, cancel)?;
    match gdb.ask(&size(&qualified), cancel)? {
        Answer::Refused(why) if has_own && !why.starts_with(NO_NAME) => Err(Unresolved::BadCondition(why)),
        _ => Ok(()),
    }
}

/// An expression with the names that `function` has as its arguments and locals, and whether it has any of them.
pub(super) fn with_names_of(
    gdb: &mut Gdb,
    function: &str,
    text: &str,
    cancel: &Cancel,
) -> Result<(String, bool), Error> {
    let names = expression::names(text);
    let commands: Vec<String> = names.iter().map(|name| size(&format!("{function}::{name}"))).collect();
    let answers = gdb.batch(&commands, cancel)?;
    let own: Vec<String> =
        names.into_iter().zip(answers).filter(|(_, answer)| answer.value().is_some()).map(|(name, _)| name).collect();
    Ok((expression::within(function, text, &own), !own.is_empty()))
}

/// Nothing is evaluated by that: there is no guest yet.
fn size(expression: &str) -> String {
    command::evaluate(&format!("sizeof({expression})"))
}

fn command(number: u64, condition: &str) -> String {
    format!("-break-condition {number} {condition}").trim_end().into()
}
