//! A difference as text for a terminal: what is the same in few words, what differs in full.

use super::{Change, Difference, HitDifference, ProbeDifference, Row, Side};
use crate::report::text::{plural, printable};

/// How many unchanged functions are named around a change.
const AROUND: usize = 1;

/// The whole difference.
pub fn render(difference: &Difference) -> String {
    let [first, second] = difference.runs.each_ref().map(side);
    let mut text = format!("  - {first}\n  + {second}\n");
    if let Some(change) = &difference.outcome {
        text.push_str(&format!("\n  {}\n", change_text(change)));
    }
    for probe in &difference.probes {
        text.push_str(&probe_text(probe));
    }
    for change in &difference.expectations {
        text.push_str(&format!("\n  expectation  {}\n", change_text(change)));
    }
    text.push_str(&format!("\n  {}\n", verdict(difference)));
    text
}

fn verdict(difference: &Difference) -> String {
    match difference.unequal.first() {
        None => "same  report.json is equal but for what it marks volatile".into(),
        Some(_) if !difference.same => "different  addresses, times and process ids aside".into(),
        Some(first) => format!("same  addresses, times and process ids aside; report.json first differs at {first}"),
    }
}

fn side(side: &Side) -> String {
    let kernel = side.release.as_deref().unwrap_or("no kernel");
    let key = side.key.as_deref().map(|key| format!("  {key}")).unwrap_or_default();
    format!("{} on {kernel}{key}", printable(&side.recipe))
}

fn probe_text(probe: &ProbeDifference) -> String {
    let count = |hits: Option<u64>| hits.map_or("not in this recipe".into(), |hits| plural(hits, "hit"));
    let hits = match probe.hits {
        [first, second] if first == second => count(first),
        [first, second] => format!("{} against {}", count(first), count(second)),
    };
    let same = if probe.is_same() { "  same" } else { "" };
    let mut text = format!("\n  probe {}  {hits}{same}\n", printable(&probe.name));
    for pair in probe.pairs.iter().filter(|pair| !pair.is_same()) {
        text.push_str(&pair_text(pair));
    }
    text
}

fn pair_text(pair: &HitDifference) -> String {
    let [first, second] = pair.indices;
    let mut text = format!("    hit {first} against hit {second}\n");
    for change in &pair.changes {
        text.push_str(&format!("      {}\n", change_text(change)));
    }
    let differs: Vec<bool> = pair.frames.iter().map(|row| !row.is_same()).collect();
    let mut hidden = 0;
    for (at, row) in pair.frames.iter().enumerate() {
        let near = (at.saturating_sub(AROUND)..=at + AROUND).any(|other| differs.get(other) == Some(&true));
        if !near {
            hidden += 1;
            continue;
        }
        text.push_str(&same_text(&mut hidden));
        text.push_str(&row_text(row));
    }
    text.push_str(&same_text(&mut hidden));
    text
}

fn same_text(hidden: &mut u64) -> String {
    match std::mem::take(hidden) {
        0 => String::new(),
        count => format!("        … {} the same\n", plural(count, "frame")),
    }
}

fn row_text(row: &Row) -> String {
    match row {
        Row::First { symbol } => format!("      - {symbol}\n"),
        Row::Second { symbol } => format!("      + {symbol}\n"),
        Row::Both { symbol, changes } => {
            let mut text = format!("        {symbol}\n");
            for change in changes {
                text.push_str(&format!("            {}\n", change_text(change)));
            }
            text
        }
    }
}

fn change_text(change: &Change) -> String {
    let what = printable(&change.what);
    match change.values.each_ref().map(|value| value.as_deref().map(printable)) {
        [Some(first), Some(second)] => format!("{what}: {first} → {second}"),
        [Some(first), None] => format!("- {what}: {first}"),
        [None, Some(second)] => format!("+ {what}: {second}"),
        [None, None] => what.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::compare;
    use super::*;
    use crate::report::sample::{sample, var};

    #[test]
    fn what_differs_is_shown_with_its_neighbours() {
        let first = sample();
        let mut second = sample();
        second.hits[0].frames[0].args.push(var("reason", "enum sk_rst_reason", "SK_RST_REASON_NO_SOCKET"));
        second.hits[0].frames.remove(4);
        let text = render(&compare(&first, &second));
        for line in [
            "        tcp_v4_send_reset\n            + argument reason: enum sk_rst_reason = SK_RST_REASON_NO_SOCKET\n        tcp_v4_rcv\n",
            "      - NF_HOOK\n        ip_local_deliver\n        … ",
            "\n  different  ",
        ] {
            assert!(text.contains(line), "{line}\nin\n{text}");
        }
        assert!(render(&compare(&first, &first)).contains("  same\n"));
    }
}
