//! A stack as a path: which hits came the same way, and how to say it in a line.
//!
//! Pure: works on frames, renders no format.

use super::model::{Frame, Hit};
use super::text::{list, plural};

/// A function's name without what gcc adds to its clones: `.isra.0`, `.constprop.1`, `.part.0`, `.cold`.
///
/// No C identifier has a dot, so the name ends at the first one.
pub fn plain_symbol(symbol: &str) -> &str {
    symbol.split_once('.').map_or(symbol, |(plain, _)| plain)
}

/// For every hit the first hit (its place in `hits`) that came through the same functions; for a new path, itself.
pub fn first_of_path(hits: &[&Hit]) -> Vec<usize> {
    let mut first = std::collections::HashMap::new();
    hits.iter()
        .enumerate()
        .map(|(at, hit)| {
            let symbols: Vec<&str> = hit.frames.iter().map(|frame| frame.symbol.as_str()).collect();
            *first.entry(symbols).or_insert(at)
        })
        .collect()
}

/// Which probes have changed the guest at how many hits, if any did: `deny (2 hits)`.
pub fn altering(hits: &[Hit]) -> Option<String> {
    let mut counts: Vec<(&str, u64)> = Vec::new();
    for hit in hits.iter().filter(|hit| !hit.altered.is_empty()) {
        match counts.iter_mut().find(|(probe, _)| *probe == hit.probe) {
            Some((_, count)) => *count += 1,
            None => counts.push((&hit.probe, 1)),
        }
    }
    let said: Vec<String> =
        counts.iter().map(|(probe, count)| format!("`{probe}` ({})", plural(*count, "hit"))).collect();
    (!said.is_empty()).then(|| list(&said))
}

/// The system call that the stack began with, if it did: `connect`.
pub fn system_call(frames: &[Frame]) -> Option<&str> {
    const ENTRIES: [&str; 4] = ["__x64_sys_", "__ia32_sys_", "__arm64_sys_", "__do_sys_"];
    frames
        .iter()
        .rev()
        .find_map(|frame| ENTRIES.iter().find_map(|entry| plain_symbol(&frame.symbol).strip_prefix(entry)))
}

/// The functions of `frames` in one line, innermost first: `a ← b ← … ← z`, with `…` for those beyond `limit`.
///
/// Inlined functions and repetitions are left out: a line has room for the landmarks only. Control characters are the
/// caller's business.
pub fn in_a_line(frames: &[Frame], limit: usize) -> String {
    let mut names: Vec<&str> =
        frames.iter().filter(|frame| !frame.inlined).map(|frame| frame.symbol.as_str()).collect();
    names.dedup();
    if names.len() > limit && limit >= 2 {
        names.splice(limit - 1..names.len() - 1, ["…"]);
    }
    names.join(" ← ")
}

/// `net/ipv4/tcp_ipv4.c:686`, as much of it as is known.
pub fn place(file: Option<&str>, line: Option<u32>) -> Option<String> {
    let file = file?;
    Some(line.map_or_else(|| file.to_owned(), |line| format!("{file}:{line}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{frame, sample};

    #[test]
    fn clones_are_their_function() {
        let cases = [("a", "a"), ("a.isra.0", "a"), ("a.constprop.1.cold", "a"), ("a.part.0", "a")];
        for (symbol, plain) in cases {
            assert_eq!(plain_symbol(symbol), plain);
        }
    }

    #[test]
    fn hits_are_grouped_by_their_functions() {
        let hit = sample().hits.remove(0);
        let mut other = hit.clone();
        other.frames.truncate(3);
        assert_eq!(first_of_path(&[&hit, &other, &hit, &other]), [0, 1, 0, 1]);
    }

    #[test]
    fn a_line_keeps_its_ends() {
        let frames: Vec<_> = ["a", "b", "b", "c", "d", "__x64_sys_connect"].map(|name| frame(0, name, "x.c", 1)).into();
        assert_eq!(in_a_line(&frames, 4), "a ← b ← c ← … ← __x64_sys_connect");
        assert_eq!(in_a_line(&frames, 5), "a ← b ← c ← d ← __x64_sys_connect");
        assert_eq!(system_call(&frames), Some("connect"));
    }
}
