//! Changes to the guest that a recipe asks for: a value is set, or a function returns without having run.

use super::answer::Answer;
use super::client::{Gdb, Stop};
use super::command;
use super::mi::number;
use super::program::Program;
use crate::error::Result;
use crate::event::Cancel;
use crate::report::model::Altered;
use crate::report::path::plain_symbol;

/// Assigns `value` to `what` in the innermost frame. GDB's reason, where that cannot be.
///
/// # Errors
/// GDB failed.
pub fn set(
    gdb: &mut Gdb,
    what: &str,
    value: &str,
    stop: &Stop,
    cancel: &Cancel,
) -> Result<std::result::Result<Altered, String>> {
    let before = match ask(gdb, stop, what, cancel)? {
        Ok(before) => before,
        Err(why) => return Ok(Err(why)),
    };
    if let Err(why) = ask(gdb, stop, &format!("({what}) = ({value})"), cancel)? {
        return Ok(Err(why));
    }
    let after = ask(gdb, stop, what, cancel)?;
    Ok(after.map(|after| Altered { what: what.into(), before: Some(before), after }))
}

/// Has the function at whose first instruction the guest stands return `value`. The guest stands behind the call then.
///
/// # Errors
/// GDB failed.
pub fn force_return(
    gdb: &mut Gdb,
    value: &str,
    program: &Program<'_>,
    stop: &Stop,
    cancel: &Cancel,
) -> Result<std::result::Result<Altered, String>> {
    let here = stop.address.as_deref().and_then(number).and_then(|address| program.symbols.containing(address));
    let Some(function) = here.map(|holder| plain_symbol(holder.name()).to_string()) else {
        return Ok(Err("the guest does not stand in a function".into()));
    };
    let returned = match ask(gdb, stop, &format!("(unsigned long)({value})"), cancel)? {
        Ok(returned) => returned,
        Err(why) => return Ok(Err(why)),
    };
    // At a function's first instruction its return address is on top of the stack.
    let site = ask(gdb, stop, "*(unsigned long *)$rsp", cancel)?.ok().as_deref().and_then(number);
    let Some(site) = site.filter(|site| program.symbols.containing(*site).is_some()) else {
        return Ok(Err("there is no return address on top of the stack".into()));
    };
    for register in [format!("$rax = {returned}"), "$rsp = $rsp + 8".into(), format!("$rip = {site:#x}")] {
        if let Err(why) = ask(gdb, stop, &register, cancel)? {
            return Ok(Err(why));
        }
    }
    Ok(Ok(Altered { what: format!("return of {function}"), before: None, after: value.into() }))
}

/// The value of an expression in the innermost frame, or why it has none.
fn ask(gdb: &mut Gdb, stop: &Stop, expression: &str, cancel: &Cancel) -> Result<std::result::Result<String, String>> {
    let answer = gdb.ask(&command::evaluate_at(stop.thread.unwrap_or(1), 0, expression), cancel)?;
    Ok(match answer {
        Answer::Done(values, _) => match values.text("value").unwrap_or_default() {
            "<optimized out>" => Err("it is optimized out here".into()),
            value => Ok(value.to_string()),
        },
        Answer::Refused(why) => Err(why),
    })
}
