//! The five bytes at a function's entry that do nothing until somebody traces it (arch/x86/kernel/ftrace.c), in kernels that were
//! built for ftrace: found, made a call, and given back before the guest's own tracer gets to work.
//!
//! The tracer compares these bytes before it changes them, so whoever has changed them watches for it ([`Tracer`]).

use super::answer::Answer;
use super::client::{Gdb, Stop};
use super::memory;
use super::mi::number;
use super::symbols::Symbols;
use crate::error::Result;
use crate::event::Cancel;

/// What is called whenever a function is to be traced, or no more.
const TRACER: &str = "ftrace_modify_all_code";
/// The no-operation that a function begins with, behind the mark of an indirect branch's target if it has one.
const NOTHING: [u8; 5] = [0x0f, 0x1f, 0x44, 0x00, 0x00];
const TARGET: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];
/// `call`, with a distance of four bytes.
const CALL: u8 = 0xe8;

/// How long a call is.
pub(super) const CALL_LENGTH: u64 = NOTHING.len() as u64;
/// How many bytes of a function may be in the way of a call at its entry.
pub const REACH: u64 = (TARGET.len() + NOTHING.len()) as u64;

/// Where a function has its five bytes that do nothing; none if it has none, or they are in use.
///
/// # Errors
/// GDB failed.
pub(super) fn find(gdb: &mut Gdb, function: u64, cancel: &Cancel) -> Result<Option<u64>> {
    let Some(code) = memory::read(gdb, function, REACH, cancel)? else { return Ok(None) };
    let skipped = if code.starts_with(&TARGET) { TARGET.len() } else { 0 };
    Ok(code[skipped..].starts_with(&NOTHING).then_some(function + skipped as u64))
}

/// The call at `from` of what is at `to`; none where that is too far away.
pub(super) fn call_of(from: u64, to: u64) -> Option<Vec<u8>> {
    let distance = distance(from + CALL_LENGTH, to)?;
    Some([&[CALL][..], &distance.to_le_bytes()].concat())
}

/// How far it is from the instruction at `from`, which is the next one, to `to`; none where four bytes cannot say.
pub(super) fn distance(from: u64, to: u64) -> Option<i32> {
    i32::try_from(to.wrapping_sub(from).cast_signed()).ok()
}

/// Has a call do nothing again, if it is still there: the kernel frees a module's init function when it has run, and with it
/// the call, and what is there then is somebody else's.
///
/// # Errors
/// GDB failed.
pub(super) fn clear(gdb: &mut Gdb, call: u64, of: u64, cancel: &Cancel) -> Result<()> {
    let there = memory::read(gdb, call, CALL_LENGTH, cancel)?;
    match there.is_some() && there == call_of(call, of) {
        true => memory::write(gdb, call, &NOTHING, cancel),
        false => Ok(()),
    }
}

/// Who changes the entries of functions in the guest.
#[derive(Debug, Default)]
pub struct Tracer {
    /// Whether the kernel has one, and it has not begun.
    is_idle: bool,
    /// GDB's number of the breakpoint at it, and where that is, once it is watched for.
    breakpoint: Option<(u64, u64)>,
}

impl Tracer {
    /// That of a kernel, if it has one.
    pub fn of(symbols: &Symbols) -> Tracer {
        Tracer { is_idle: symbols.start_of(None, TRACER, 0).is_some(), breakpoint: None }
    }

    /// Whether there is one, and it has not begun.
    pub fn is_idle(&self) -> bool {
        self.is_idle
    }

    /// Has the guest stop before it begins. False where the entries of functions are better left alone: the kernel has no
    /// tracer, or it has begun.
    ///
    /// # Errors
    /// GDB failed.
    pub(super) fn is_watched(&mut self, gdb: &mut Gdb, cancel: &Cancel) -> Result<bool> {
        if !self.is_idle || self.breakpoint.is_some() {
            return Ok(self.is_idle);
        }
        if let Answer::Done(values, _) = gdb.ask(&format!("-break-insert *{TRACER}"), cancel)? {
            let values = values.tuple("bkpt");
            self.breakpoint = values.and_then(|values| values.number("number").zip(values.number("addr")));
        }
        Ok(self.breakpoint.is_some())
    }

    /// Whether the guest is about to change what it finds at the entries of functions.
    pub fn is_at(&self, stop: &Stop) -> bool {
        let at = stop.address.as_deref().and_then(number);
        self.breakpoint.is_some_and(|(_, address)| at == Some(address))
    }

    /// Lets it have them, for good.
    ///
    /// # Errors
    /// GDB failed.
    pub fn begins(&mut self, gdb: &mut Gdb, cancel: &Cancel) -> Result<()> {
        self.is_idle = false;
        match self.breakpoint.take() {
            Some((number, _)) => gdb.must(&format!("-break-delete {number}"), cancel).map(drop),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_reaches_two_gigabytes() {
        let to = 0xffff_ffff_8106_1c70;
        assert_eq!(call_of(0xffff_ffff_8106_1d00, to), Some(vec![0xe8, 0x6b, 0xff, 0xff, 0xff]));
        assert_eq!(call_of(0xffff_8880_0000_0000, to), None);
    }
}
