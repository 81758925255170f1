//! A stop of the guest, as GDB tells it. Pure.

use std::time::Instant;

use super::mi::{Value, Values};

/// The target stopped.
#[derive(Debug, Clone, PartialEq)]
pub struct Stop {
    /// `breakpoint-hit` and the like; GDB may give none.
    pub reason: Option<String>,
    /// Whether QEMU has stopped the machine for good: it was shut down, or reset by its kernel.
    pub over: bool,
    /// Which breakpoint or watchpoint.
    pub breakpoint: Option<u64>,
    /// Which watchpoint on reads and writes: one of kdbg's own.
    pub own: Option<u64>,
    /// Whether a [hook](super::hooks) made it, in place of a breakpoint.
    pub hooked: bool,
    /// The program counter.
    pub address: Option<String>,
    /// GDB's number of the thread, that is of the virtual CPU, from 1.
    pub thread: Option<u64>,
    /// What has changed, for watchpoints.
    pub written: Vec<Written>,
    /// When kdbg read it.
    pub at: Instant,
}

/// A watchpoint that has seen a value change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// GDB's number of the watchpoint.
    pub number: u64,
    /// The value before.
    pub old: String,
    /// The value now.
    pub new: String,
}

/// The signal of QEMU's stub for the state `shutdown` (`gdb_vm_state_change`).
const OVER: &str = "SIGQUIT";

impl Stop {
    /// From the values of `*stopped`.
    pub(super) fn read(values: &Values, at: Instant) -> Stop {
        let written = written(values);
        let number = written.first().map(|written| written.number);
        Stop {
            reason: values.text("reason").map(String::from),
            over: values.text("signal-name") == Some(OVER),
            breakpoint: values.number("bkptno").or(number),
            own: values.tuple("hw-awpt").and_then(|watchpoint| watchpoint.number("number")),
            hooked: false,
            address: values.tuple("frame").and_then(|frame| frame.text("addr")).map(String::from),
            thread: values.number("thread-id"),
            written,
            at,
        }
    }
}

/// `wpt={number="3",exp="x"},value={old="1",new="2"}`, for each that has triggered.
fn written(values: &Values) -> Vec<Written> {
    let of = |wanted: &'static str| {
        values.0.iter().filter_map(move |(name, value)| match value {
            Value::Tuple(values) if name == wanted => Some(values),
            _ => None,
        })
    };
    let pair = |(point, value): (&Values, &Values)| {
        let text = |name| value.text(name).unwrap_or_default().to_string();
        Some(Written { number: point.number("number")?, old: text("old"), new: text("new") })
    };
    of("wpt").zip(of("value")).filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gdb::mi::{Record, parse};

    fn stop(line: &str) -> Stop {
        match parse(line).unwrap() {
            Record::Async { values, .. } => Stop::read(&values, Instant::now()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_watchpoint_tells_what_it_has_seen() {
        let stopped = stop(
            "*stopped,reason=\"watchpoint-trigger\",wpt={number=\"3\",exp=\"-location x\"},value={old=\"7 '\\\\a'\",new=\"1\"},\
             reason=\"watchpoint-trigger\",wpt={number=\"5\",exp=\"y\"},value={old=\"0\",new=\"4\"},\
             frame={addr=\"0xffffffff81000004\",func=\"f\",args=[]},thread-id=\"2\",stopped-threads=\"all\"",
        );
        let written = |number, old: &str, new: &str| Written { number, old: old.into(), new: new.into() };
        assert_eq!(stopped.written, [written(3, "7 '\\a'", "1"), written(5, "0", "4")]);
        assert_eq!((stopped.breakpoint, stopped.thread), (Some(3), Some(2)));
        let plain = stop("*stopped,reason=\"breakpoint-hit\",bkptno=\"1\",frame={addr=\"0x10\"},thread-id=\"1\"");
        assert_eq!((plain.breakpoint, plain.address.as_deref(), plain.written.len()), (Some(1), Some("0x10"), 0));
        let over = |name| stop(&format!("*stopped,reason=\"signal-received\",signal-name=\"{name}\"")).over;
        assert!(over("SIGQUIT") && !over("SIGINT") && !plain.over);
    }
}
