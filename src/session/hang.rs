//! Where the CPUs of a guest stand that does not answer any more. Its kernel may not say so itself: it has no detector, or its
//! time hardly passes, as in a loop that pauses where the clock counts instructions.

use super::Order;
use super::arm::Armed;
use super::journal::Journal;
use crate::error::Result;
use crate::gdb::target;
use crate::guest::Guest;
use crate::report::model::{Call, Frame};

/// What runs on a CPU that has nothing to do.
pub(super) const IDLE: &str = "do_idle";

/// Halts the guest for good, and notes the stack of every CPU as an incident. Those that do something in the kernel come first.
/// Gives what the first one is told to be; `text` where GDB could not look.
pub(super) fn look(
    order: &Order<'_>,
    guest: &mut Guest,
    armed: &mut Armed<'_>,
    journal: &mut Journal<'_>,
    text: String,
) -> String {
    // What keeps GDB from looking is not what the run is about.
    let mut stacks = stacks(order, guest, armed).unwrap_or_default();
    stacks.sort_by_key(|(_, frames)| (frames.iter().any(|frame| frame.symbol == IDLE), frames.is_empty()));
    let several = stacks.len() > 1;
    let mut told = stacks.into_iter().map(|(cpu, frames)| {
        let text = match frames.as_slice() {
            [] => format!("{text}; CPU {cpu} is in no function that GDB knows, as when it runs a program"),
            _ if several => format!("{text}; CPU {cpu} stands here"),
            _ => text.clone(),
        };
        journal.note_hang(text.clone(), frames.into_iter().map(call).collect());
        text
    });
    let first = told.next();
    told.for_each(drop);
    first.unwrap_or(text)
}

fn stacks(order: &Order<'_>, guest: &mut Guest, armed: &mut Armed<'_>) -> Result<Vec<(u32, Vec<Frame>)>> {
    target::halt(&mut armed.gdb, || guest.pause(), order.cancel)?;
    let mut stacks = Vec::new();
    for cpu in 0..order.loaded.recipe.guest.cpus {
        stacks.push((cpu, armed.collector.stack(&mut armed.gdb, cpu, order.cancel)?));
    }
    Ok(stacks)
}

fn call(frame: Frame) -> Call {
    let Frame { symbol, offset, file, line, inlined, .. } = frame;
    Call { symbol, offset: offset.unwrap_or(0), module: None, file, line, inlined, certain: true }
}
