//! What the kernel complains about, recognised line by line as its console scrolls by.
//!
//! Pure. The texts are those of 6.1 and 6.12; `tests` has consoles that were recorded there.

use crate::report::model::{Call, IncidentKind as Kind};

/// Calls of one stack that are kept; the kernel itself prints fewer.
const CALLS: usize = 256;

/// The last words on memory that ran out.
const KILLED: [&str; 2] = ["Out of memory: Killed process", "Memory cgroup out of memory: Killed process"];

/// Beginnings of lines, and what they mean. The first that fits counts, so exceptions stand before their rule.
const BEGINNINGS: &[(&str, Kind)] = &[
    ("Kernel panic - not syncing", Kind::Panic),
    ("BUG: kernel NULL pointer dereference", Kind::Oops),
    ("BUG: unable to handle", Kind::Oops),
    ("BUG: stack guard page", Kind::Oops),
    ("BUG: IRQ stack guard page", Kind::Oops),
    ("kernel BUG at ", Kind::Oops),
    ("Oops: ", Kind::Oops),
    ("general protection fault", Kind::Oops),
    ("traps: PANIC: double fault", Kind::Oops),
    ("watchdog: BUG: soft lockup", Kind::SoftLockup),
    (KILLED[0], Kind::OutOfMemory),
    (KILLED[1], Kind::OutOfMemory),
    ("WARNING: ", Kind::Warning),
    ("BUG: ", Kind::Warning),
    ("UBSAN: ", Kind::Warning),
];

/// A complaint and the stack below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What it is.
    pub kind: Kind,
    /// The line that says so, without its time.
    pub text: String,
    /// The stack, innermost call first.
    pub trace: Vec<Traced>,
    /// Whether the kernel has said all of it.
    pub is_whole: bool,
    /// The stack that is being printed is that of RCU's own thread, which suffers and is not the cause.
    is_sufferer: bool,
}

/// A call as the kernel prints it: `tcp_v4_rcv+0x1a/0x50 [module]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traced {
    /// The function.
    pub symbol: String,
    /// Bytes from its start.
    pub offset: u64,
    /// Its size in bytes: of several functions with this name it tells which.
    pub size: u64,
    /// The module that has it.
    pub module: Option<String>,
    /// Not marked with `?`.
    pub certain: bool,
    /// Whether the address is that of an instruction that did not end, not one that a call returns to.
    pub exact: bool,
}

/// How the guest ended itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It stands still for good.
    Halted,
    /// It was switched off.
    PoweredOff,
    /// It restarts, which ends it: kdbg's guests do not come back.
    Restarted,
}

/// All that was seen so far.
#[derive(Debug, Default)]
pub struct Watcher {
    seen: Vec<Seen>,
    ending: Option<Ending>,
}

impl Watcher {
    /// Takes in the next line.
    pub fn line(&mut self, line: &str) {
        let text = plain(line);
        self.ending = self.ending.or(ending(text));
        let open = self.seen.last_mut().filter(|seen| !seen.is_whole);
        match (kind(text), open) {
            // The header of an oops has two lines, and only together they say all; the first says what it is.
            (Some(Kind::Oops), Some(open)) if open.kind == Kind::Oops && open.trace.is_empty() => {}
            // First the stack of who asked for memory, at the end who was killed for it.
            (Some(Kind::OutOfMemory), Some(open)) if open.kind == Kind::OutOfMemory && is_kill(text) => {
                open.text = text.trim_end().into();
                open.is_whole = true;
            }
            (Some(kind), open) => {
                if let Some(open) = open {
                    open.is_whole = true;
                }
                let (text, is_whole) = (text.trim_end().into(), is_kill(text));
                self.seen.push(Seen { kind, text, trace: Vec::new(), is_whole, is_sufferer: false });
            }
            (None, Some(open)) => open.line(text),
            (None, None) => {}
        }
    }

    /// What was seen, in the order of time.
    pub fn seen(&self) -> &[Seen] {
        &self.seen
    }

    /// The first complaint after which the run cannot go on.
    pub fn fatal(&self) -> Option<&Seen> {
        self.seen.iter().find(|seen| seen.kind.is_fatal())
    }

    /// Whether it has panicked, whatever it complained about before.
    pub fn has_panicked(&self) -> bool {
        self.seen.iter().any(|seen| seen.kind == Kind::Panic)
    }

    /// How the guest ended itself, if it did.
    pub fn ending(&self) -> Option<Ending> {
        self.ending
    }
}

impl Seen {
    fn line(&mut self, text: &str) {
        if text.starts_with("rcu: ") {
            self.is_sufferer = text.contains("grace-period kthread stack dump");
        }
        if let Some(call) = Traced::parse(text)
            && !self.is_sufferer
            && self.trace.len() < CALLS
        {
            self.trace.push(call);
        }
        self.is_whole = match self.kind {
            Kind::Oops | Kind::Warning if text.starts_with("---[ end trace") => true,
            Kind::Panic => text.starts_with("Kernel Offset:") || text.starts_with("---[ end Kernel panic"),
            Kind::Oops | Kind::OutOfMemory => false,
            // Only `WARN` has an end mark.
            Kind::Warning => text.trim() == "</TASK>" && !self.text.starts_with("WARNING: CPU: "),
            _ => text.trim() == "</TASK>" && !self.is_sufferer,
        };
    }
}

impl Traced {
    fn parse(text: &str) -> Option<Traced> {
        let (text, exact) = match text.strip_prefix("RIP: 0010:") {
            Some(rest) => (rest, true),
            // Calls are indented, and nothing else of this shape is.
            None => (text.strip_prefix(' ')?, false),
        };
        let text = text.trim();
        let (text, certain) = text.strip_prefix("? ").map_or((text, true), |rest| (rest, false));
        let (place, module) = match text.split_once(' ') {
            Some((place, rest)) => (place, Some(rest.strip_prefix('[')?.split([' ', ']']).next()?.to_owned())),
            None => (text, None),
        };
        let (symbol, numbers) = place.rsplit_once("+0x")?;
        let (offset, size) = numbers.split_once("/0x")?;
        let number = |digits| u64::from_str_radix(digits, 16).ok();
        Some(Traced { symbol: symbol.into(), offset: number(offset)?, size: number(size)?, module, certain, exact })
    }
}

impl From<Traced> for Call {
    fn from(traced: Traced) -> Call {
        let Traced { symbol, offset, module, certain, .. } = traced;
        Call { symbol, offset, module, file: None, line: None, inlined: false, certain }
    }
}

fn kind(text: &str) -> Option<Kind> {
    if let Some((_, kind)) = BEGINNINGS.iter().find(|(beginning, _)| text.starts_with(beginning)) {
        return Some(*kind);
    }
    // `divide error: 0000 [#1] PREEMPT SMP`: whatever trap it was, it is counted like this.
    let counted = text.split_once(" [#").is_some_and(|(before, after)| {
        after.starts_with(|c: char| c.is_ascii_digit())
            && before.ends_with(|c: char| c.is_ascii_hexdigit())
            && before.contains(": ")
    });
    let hung = text.starts_with("INFO: task ") && text.contains(" blocked for more than ");
    let stalled = text.starts_with("rcu: INFO: ") && text.contains("detected stall");
    let hard = text.contains("Watchdog detected hard LOCKUP");
    let out_of_memory = text.contains(" invoked oom-killer: gfp_mask=");
    match () {
        () if counted => Some(Kind::Oops),
        () if hung => Some(Kind::HungTask),
        () if stalled => Some(Kind::RcuStall),
        () if hard => Some(Kind::HardLockup),
        () if out_of_memory => Some(Kind::OutOfMemory),
        () => None,
    }
}

/// Says which process was killed because memory ran out.
fn is_kill(text: &str) -> bool {
    KILLED.iter().any(|beginning| text.starts_with(beginning))
}

fn ending(text: &str) -> Option<Ending> {
    match text.trim_end() {
        "reboot: System halted" => Some(Ending::Halted),
        "reboot: Power down" => Some(Ending::PoweredOff),
        // 6.12 says it of a guest without ACPI, which all of kdbg's are.
        text if text.starts_with("reboot: Power off not available") => Some(Ending::Halted),
        text if text.starts_with("reboot: Restarting system") => Some(Ending::Restarted),
        _ => None,
    }
}

/// A console line without `[    0.123456] `, and without `[   T12] `, which some kernels put behind it.
pub(super) fn plain(line: &str) -> &str {
    let after = |line: &str, inside: fn(&str) -> bool| {
        let (mark, text) = line.strip_prefix('[')?.split_once("] ")?;
        inside(mark.trim()).then_some(text.len())
    };
    let cut = |line: &'_ str, kept: Option<usize>| kept.map_or(0, |kept| line.len() - kept);
    let line = &line[cut(line, after(line, |mark| mark.starts_with(|c: char| c.is_ascii_digit())))..];
    &line[cut(line, after(line, |mark| mark.starts_with(['T', 'C']) && mark[1..].parse::<u32>().is_ok()))..]
}

#[cfg(test)]
mod tests;
