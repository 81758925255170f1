//! Words for people: escaping, shortening, plurals, durations.
//!
//! Pure text in, text out. Knows no format: Markdown has its own escaping in [`super::markdown`].

use std::fmt::Write as _;

/// `text` on one line that cannot steer a terminal: control characters, newlines included, become visible escapes.
///
/// Everything that a guest can choose (task names, outputs, strings in memory) goes through here or through
/// [`printable_block`] before a person sees it.
pub fn printable(text: &str) -> String {
    escape(text, |_| false)
}

/// Like [`printable`], for text of several lines: newlines and tabs stay, and a carriage return before a newline goes.
pub fn printable_block(text: &str) -> String {
    escape(&text.replace("\r\n", "\n"), |c| matches!(c, '\n' | '\t'))
}

fn escape(text: &str, keep: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if keep(c) => out.push(c),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_ascii_control() => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c if c.is_control() || reorders(c) => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// Whether `c` is invisible and changes the order or the breaking of the text around it.
fn reorders(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// `text` in at most `limit` characters; what is cut shows as `…`.
pub fn shorten(text: &str, limit: usize) -> String {
    if text.chars().nth(limit).is_none() {
        return text.to_owned();
    }
    let mut out: String = text.chars().take(limit.saturating_sub(1)).collect();
    out.truncate(out.trim_end().len());
    out.push('…');
    out
}

/// `1 hit`, `3 hits`, `no hits`.
pub fn plural(count: u64, noun: &str) -> String {
    match count {
        0 => format!("no {noun}s"),
        1 => format!("1 {noun}"),
        n => format!("{n} {noun}s"),
    }
}

/// A number with its thousands apart, as in `4,312`.
pub fn thousands(number: u64) -> String {
    match number {
        0..1000 => number.to_string(),
        _ => format!("{},{:03}", thousands(number / 1000), number % 1000),
    }
}

/// What was counted without becoming hits, behind what was collected: ` (+ 4,312 counted)`.
pub fn counted(number: Option<u64>) -> String {
    number.map_or(String::new(), |number| format!(" (+ {} counted)", thousands(number)))
}

/// A time of `ms` milliseconds as a person says it: `46 ms`, `0.9 s`, `5m46s`, `1h02m`.
pub fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match ms {
        0..100 => format!("{ms} ms"),
        100..60_000 => format!("{}.{} s", seconds, ms % 1000 / 100),
        60_000..3_600_000 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

/// `ms` milliseconds in seconds with one decimal, for a list in which the unit is clear: `0.2`.
pub fn seconds(ms: u64) -> String {
    format!("{}.{}", ms / 1000, ms % 1000 / 100)
}

/// `a`, `a and b`, `a, b and c`.
pub fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [firsts @ .., last] => format!("{} and {last}", firsts.join(", ")),
    }
}

/// Bytes in the largest binary unit of which there is one.
#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
pub fn size(bytes: u64) -> String {
    match bytes {
        0x4000_0000.. => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
        0x10_0000.. => format!("{} MiB", bytes >> 20),
        _ => format!("{} KiB", bytes.div_ceil(1 << 10)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_said_in_their_largest_unit() {
        let sizes = [0, 1, 1 << 20, (3 << 30) / 2].map(size);
        assert_eq!(sizes, ["0 KiB", "1 KiB", "1 MiB", "1.5 GiB"]);
    }

    #[test]
    fn large_numbers_are_read_at_a_glance() {
        assert_eq!([7, 999, 4_312, 1_000_042].map(thousands), ["7", "999", "4,312", "1,000,042"]);
        assert_eq!([None, Some(0)].map(counted), ["", " (+ 0 counted)"]);
    }

    #[test]
    fn nothing_that_steers_a_terminal_comes_through() {
        let cases = [
            ("nc", "nc"),
            ("\x1b[2Jnc\x07", "\\x1b[2Jnc\\x07"),
            ("a\nb\tc\r", "a\\nb\\tc\\r"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("abc\u{202e}fed", "abc\\u{202e}fed"),
            ("größer → ✓", "größer → ✓"),
        ];
        for (text, wanted) in cases {
            assert_eq!(printable(text), wanted, "{text:?}");
        }
        assert_eq!(printable_block("a\r\n\tb\x1b[0m\rc"), "a\n\tb\\x1b[0m\\rc");
    }

    #[test]
    fn shortening_counts_characters() {
        assert_eq!(shorten("abc", 3), "abc");
        assert_eq!(shorten("abcd", 3), "ab…");
        assert_eq!(shorten("äöüß", 3), "äö…");
        assert_eq!(shorten("ab cd", 4), "ab…");
    }

    #[test]
    fn durations_grow_their_unit() {
        let cases = [(46, "46 ms"), (940, "0.9 s"), (59_999, "59.9 s"), (346_000, "5m46s"), (3_720_000, "1h02m")];
        for (ms, wanted) in cases {
            assert_eq!(duration(ms), wanted);
        }
        assert_eq!(seconds(1_250), "1.2");
    }

    #[test]
    fn counts_and_lists_read_well() {
        assert_eq!([plural(0, "hit"), plural(1, "hit"), plural(2, "hit")].join("; "), "no hits; 1 hit; 2 hits");
        assert_eq!(list(&["a".into(), "b".into(), "c".into()]), "a, b and c");
    }
}
