//! Watchpoints: a probe on an expression stops where its value is written to.
//!
//! The processor watches, or QEMU in its place. GDB would also step through the kernel and look at the value after every
//! instruction, which brings the guest to a stand: such a watchpoint is never left set.

use super::answer::Answer;
use super::breakpoints::{Breakpoint, Unresolved};
use super::client::{Gdb, Stop};
use super::command;
use super::condition::{self, NO_NAME};
use super::mi::number;
use super::variables::KERNEL_HALF;
use crate::error::{Error, Result};
use crate::event::Cancel;
use crate::report::model::Location;

/// The widest value that a processor watches at one place, in bytes.
const WIDEST: u64 = 8;

/// Whether an expression can be watched, as far as that can be said without a guest. `function` is the one in which it will be
/// evaluated, if that is known; `later` whether it will be in one at all.
///
/// # Errors
/// It makes no sense, has no address, or is too wide.
pub fn check(
    gdb: &mut Gdb,
    expression: &str,
    function: Option<&str>,
    later: bool,
    cancel: &Cancel,
) -> std::result::Result<(), Unresolved> {
    let qualified = match function {
        Some(function) => condition::with_names_of(gdb, function, expression, cancel)?.0,
        None => expression.to_string(),
    };
    let sizes = [format!("sizeof({qualified})"), format!("sizeof(&({qualified}))")];
    let answers = gdb.batch(&sizes.map(|size| command::evaluate(&size)), cancel)?;
    let [size, address] = answers.as_slice() else {
        return Err(Error::debugger("GDB gave too few answers").into());
    };
    match (size, address) {
        // It may be the name of something that only another place has.
        (Answer::Refused(why), _) if later && why.starts_with(NO_NAME) => Ok(()),
        (Answer::Refused(why), _) => Err(Unresolved::BadWatch(why.clone())),
        (_, Answer::Refused(why)) => Err(Unresolved::BadWatch(format!("it has no address: {why}"))),
        _ => match size.value().and_then(number) {
            Some(1..=WIDEST) => Ok(()),
            Some(size) => {
                Err(Unresolved::BadWatch(format!("it has {size} bytes, and at most {WIDEST} can be watched")))
            }
            None => Err(Unresolved::BadWatch("its size is not known".into())),
        },
    }
}

/// Sets a watchpoint on what `expression` is now, in the innermost frame at `stop` if it is about that. The guest stands
/// still. What is watched is a place in memory, whatever becomes of the frame. The reason, where that cannot be.
///
/// # Errors
/// GDB failed.
pub fn set(
    gdb: &mut Gdb,
    expression: &str,
    stop: Option<&Stop>,
    cancel: &Cancel,
) -> Result<std::result::Result<Breakpoint, String>> {
    let thread = stop.map(|stop| stop.thread.unwrap_or(1));
    let evaluate = |expression: &str| match thread {
        Some(thread) => command::evaluate_at(thread, 0, expression),
        None => command::evaluate(expression),
    };
    let asked = [evaluate(&format!("(unsigned long)&({expression})")), evaluate(expression), command::evaluate(LAST)];
    let answers = gdb.batch(&asked, cancel)?;
    let refused = |answer: &Answer| match answer {
        Answer::Refused(why) => Some(why.clone()),
        Answer::Done(..) => None,
    };
    if let Some(why) = refused(&answers[0]) {
        return Ok(Err(why));
    }
    let Some(address) = answers[0].value().and_then(number) else { return Ok(Err("it has no address".into())) };
    // Below are NULL, what it points to, and programs, of which each has its own there.
    if address < KERNEL_HALF {
        return Ok(Err(format!("its address is {address:#x}, which is not in the kernel's memory")));
    }
    if let Some(why) = refused(&answers[1]) {
        return Ok(Err(why));
    }
    let last = answers[2].value().and_then(number);
    let watch = format!("watch -location {expression}");
    let command = thread.map_or_else(|| command::console(&watch), |thread| command::console_at(thread, 0, &watch));
    match gdb.ask(&command, cancel)? {
        Answer::Done(_, said) => match made(&said) {
            Some((number, true)) => Ok(Ok(breakpoint(number, address, expression))),
            Some((number, false)) => {
                gdb.must(&format!("-break-delete {number}"), cancel)?;
                Ok(Err("GDB could only watch it by stepping through the kernel".into()))
            }
            None => Ok(Err(format!("GDB says `{}`", said.trim()))),
        },
        Answer::Refused(why) => {
            // GDB keeps one that it could not insert.
            let now = gdb.ask(&command::evaluate(LAST), cancel)?.value().and_then(number);
            if let Some(number) = now.filter(|_| now != last) {
                gdb.must(&format!("-break-delete {number}"), cancel)?;
            }
            Ok(Err(why))
        }
    }
}

/// GDB's variable that has the number of the newest breakpoint.
const LAST: &str = "$bpnum";

/// The number of the watchpoint that GDB has made, and whether the processor watches.
fn made(said: &str) -> Option<(u64, bool)> {
    said.lines().find_map(|line| {
        let (kind, rest) = line.split_once("atchpoint ")?;
        let number = rest.split_once(':')?.0.parse().ok()?;
        Some((number, kind.starts_with("Hardware ")))
    })
}

fn breakpoint(number: u64, address: u64, expression: &str) -> Breakpoint {
    let location = Location {
        address: format!("{address:#x}"),
        symbol: expression.into(),
        file: None,
        line: None,
        inlined: false,
        cheap: false,
    };
    Breakpoint { number, locations: vec![location], numbers: vec![1], entry: None, without_return: 0, freed: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gdb::client::tests::fake;

    #[test]
    fn what_the_processor_watches_is_told_from_what_gdb_would_step_for() {
        assert_eq!(made("Hardware watchpoint 8: -location jiffies\n"), Some((8, true)));
        assert_eq!(made("Watchpoint 3: -location x\n"), Some((3, false)));
        assert_eq!(made("warning: what?\n"), None);
    }

    #[test]
    fn a_watchpoint_that_gdb_would_step_for_is_taken_out_again() {
        let (folder, mut gdb) = fake(
            "while read -r command; do\n\
             case $command in\n\
             *watch*) echo '~\"Watchpoint 4: -location x\"'; echo \"${command%%-*}^done\";;\n\
             *) echo \"${command%%-*}^done,value=\\\"0xffffffff82000000\\\"\";;\n\
             esac\ndone",
        );
        let made = set(&mut gdb, "x", None, &Cancel::default()).unwrap();
        assert_eq!(made.unwrap_err(), "GDB could only watch it by stepping through the kernel");
        let log = std::fs::read_to_string(folder.path().join("gdb-mi.log")).unwrap();
        assert!(log.contains("> 5-break-delete 4"), "{log}");
    }
}
