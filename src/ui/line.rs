//! The wording of lines that bars, plain output and the summary share.
//!
//! Pure: no terminal, no clock. Everything foreign is escaped here.

use std::time::Duration;

use super::style::Styles;
use crate::event::{Phase, Unit, millis};
use crate::report::model::{Context, Frame, Hit};
use crate::report::path::place;
use crate::report::text::{duration, printable, shorten};

/// How wide the labels at the left are.
pub const LABEL: usize = 8;

/// How much of a logged line is shown.
const MESSAGE: usize = 160;

/// `  kernel   6.1.192 base+net`: a labelled line.
pub fn labelled(styles: &Styles, label: &str, text: &str) -> String {
    format!("  {} {}", styles.quiet.apply_to(format!("{label:<LABEL$}")), printable(text))
}

/// The label of a phase.
pub fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Install => "install",
        Phase::Fetch => "fetch",
        Phase::Unpack => "unpack",
        Phase::Configure => "config",
        Phase::Build => "build",
        Phase::File => "file",
        Phase::Image => "image",
        Phase::Boot => "boot",
        Phase::Arm => "arm",
        Phase::Trigger => "trigger",
        Phase::Report => "report",
    }
}

/// A warning.
pub fn warning(styles: &Styles, text: &str) -> String {
    format!("  {} {}", styles.warn.apply_to(format!("{:<LABEL$}", "warning")), printable(text))
}

/// A step of the trigger that ended.
pub fn step(styles: &Styles, name: &str, exit_code: Option<i32>, as_expected: bool, duration_ms: u64) -> String {
    let end = exit_code.map_or_else(|| "did not end by itself".to_owned(), |code| format!("exit {code}"));
    let verdict = match as_expected {
        true => format!("{end} as expected"),
        false => styles.bad.apply_to(format!("{end}, not as expected")).to_string(),
    };
    format!("{}  {verdict}  {}", labelled(styles, "trigger", name), duration(duration_ms))
}

/// `hit 1  rst  cpu 0  nc[61]  softirq`: who was stopped.
pub fn hit_head(styles: &Styles, hit: &Hit) -> String {
    format!(
        "  {}  {}  cpu {}  {}  {}",
        styles.strong.apply_to(format!("hit {}", hit.index)),
        printable(&hit.probe),
        hit.cpu,
        task(hit),
        hit.context.map_or("context ?", Context::as_str)
    )
}

/// A hit in one line, with its place.
pub fn hit(styles: &Styles, hit: &Hit) -> String {
    let head = hit_head(styles, hit);
    let head = format!("{head}{}", changed(styles, hit));
    if let Some(message) = &hit.message {
        return format!("{head}  {}", printable(&shorten(message, MESSAGE)));
    }
    let packet = hit.decoded.iter().find_map(|object| object.packet);
    let packet = packet.map_or(String::new(), |number| format!("  packet {number}"));
    match hit.frames.first() {
        Some(frame) => {
            let at = frame_place(frame);
            let symbol = styles.strong.apply_to(printable(&frame.symbol));
            format!("{head}  {symbol} {}{packet}", styles.quiet.apply_to(at))
        }
        None => format!("{head}  stack not readable"),
    }
}

/// What was written to, and in red what kdbg itself has changed.
pub fn changed(styles: &Styles, hit: &Hit) -> String {
    let written = hit.changed.as_ref().map(|changed| {
        let [old, new] = changed.values();
        printable(&shorten(&format!("  {}: {old} → {new}", changed.expression), MESSAGE))
    });
    let altered = hit.altered.iter().map(|altered| {
        let text = printable(&shorten(&format!("changed {altered}"), MESSAGE));
        format!("  {}", styles.bad.apply_to(text))
    });
    written.into_iter().chain(altered).collect()
}

/// Where a frame is: `net/ipv4/tcp_ipv4.c:686`, or its address.
pub fn frame_place(frame: &Frame) -> String {
    printable(&place(frame.file.as_deref(), frame.line).unwrap_or_else(|| frame.address.clone()))
}

/// `nc[61]`.
fn task(hit: &Hit) -> String {
    let comm = hit.task.comm.as_deref().map_or_else(|| "?".to_owned(), printable);
    hit.task.pid.map_or_else(|| format!("{comm}[?]"), |pid| format!("{comm}[{pid}]"))
}

/// `CC 412/1130 objects, 2m10s left`: how far a phase is after `elapsed`.
pub fn progress(done: u64, total: Option<u64>, unit: Unit, elapsed: Duration) -> String {
    let amount = match (unit, total) {
        (Unit::Bytes, Some(total)) => format!("{} of {}", bytes(done), bytes(total)),
        (Unit::Bytes, None) => bytes(done),
        (Unit::Objects, Some(total)) => format!("CC {done}/{total} objects"),
        (Unit::Objects, None) => format!("CC {done} objects"),
    };
    match total.and_then(|total| time_left(done, total, elapsed)) {
        Some(left) => format!("{amount}, {} left", duration(millis(left) / 1000 * 1000)),
        None => amount,
    }
}

/// How long the rest takes at the pace so far; nothing in the first seconds, when that would be a guess.
fn time_left(done: u64, total: u64, elapsed: Duration) -> Option<Duration> {
    const SETTLED: Duration = Duration::from_secs(3);
    let left = total.checked_sub(done).filter(|left| *left > 0)?;
    if done == 0 || elapsed < SETTLED {
        return None;
    }
    let millis = u128::from(millis(elapsed)) * u128::from(left) / u128::from(done);
    let left = Duration::from_millis(u64::try_from(millis).ok()?);
    (left >= Duration::from_secs(1)).then_some(left)
}

/// `138 MB`.
fn bytes(count: u64) -> String {
    const STEPS: [(u64, &str); 3] = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match STEPS.iter().find(|(size, _)| count >= *size) {
        Some((size, unit)) if count < size * 10 => format!("{}.{} {unit}", count / size, count % size * 10 / size),
        Some((size, unit)) => format!("{} {unit}", count / size),
        None => format!("{count} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    fn plain() -> Styles {
        Styles::new(false)
    }

    #[test]
    fn a_hit_is_one_line() {
        let mut one = sample::hit(1);
        let wanted = "  hit 1  rst  cpu 0  nc[61]  softirq  tcp_v4_send_reset net/ipv4/tcp_ipv4.c:686  packet 1";
        assert_eq!(hit(&plain(), &one), wanted);
        one.task.comm = Some("\x1b]0;owned\x07\n".into());
        one.task.pid = None;
        one.context = None;
        one.frames.clear();
        let wanted = "  hit 1  rst  cpu 0  \\x1b]0;owned\\x07\\n[?]  context ?  stack not readable";
        assert_eq!(hit(&plain(), &one), wanted);
    }

    #[test]
    fn progress_says_how_far_and_how_long() {
        let cases = [
            (412, Some(1130), Unit::Objects, 75, "CC 412/1130 objects, 2m10s left"),
            (412, Some(1130), Unit::Objects, 1, "CC 412/1130 objects"),
            (1130, Some(1130), Unit::Objects, 75, "CC 1130/1130 objects"),
            (1200, Some(1130), Unit::Objects, 75, "CC 1200/1130 objects"),
            (7, None, Unit::Objects, 75, "CC 7 objects"),
            (0, Some(9), Unit::Objects, 75, "CC 0/9 objects"),
            (69_000_000, Some(138_000_000), Unit::Bytes, 10, "69 MB of 138 MB, 10.0 s left"),
            (1_500, None, Unit::Bytes, 10, "1.5 kB"),
        ];
        for (done, total, unit, seconds, wanted) in cases {
            assert_eq!(progress(done, total, unit, Duration::from_secs(seconds)), wanted);
        }
    }

    #[test]
    fn colours_only_when_asked_for() {
        assert!(warning(&Styles::new(true), "x").contains('\x1b'));
        assert_eq!(warning(&plain(), "x\n"), "  warning  x\\n");
        assert_eq!(step(&plain(), "a", Some(0), true, 100), "  trigger  a  exit 0 as expected  0.1 s");
        assert_eq!(
            step(&plain(), "a", None, false, 100),
            "  trigger  a  did not end by itself, not as expected  0.1 s"
        );
    }
}
