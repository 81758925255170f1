//! The hits in the order of time, a line each: what happened, to which packet and which socket.

use super::escape::{code, text};
use super::page::Page;
use crate::report::model::{Decoded, Hit, Report};
use crate::report::text::{plural, shorten};

/// How many hits the table has.
const ROWS: usize = 60;
/// The longest text in a cell.
const CELL: usize = 100;

/// Writes the table.
pub(super) fn write(page: &mut Page, report: &Report, hits: &[&Hit]) {
    let row = |hit: &&Hit| {
        [
            hit.index.to_string(),
            code(&hit.probe),
            what(report, hit),
            first(hit, "sk_buff").map(packet).unwrap_or_default(),
            first(hit, "sock").map(|socket| cell(&socket.summary)).unwrap_or_default(),
            shown(hit),
        ]
    };
    let rows: Vec<_> = hits.iter().take(ROWS).map(row).collect();
    page.table(["hit", "probe", "what", "packet", "socket", "shown"], &rows);
    if hits.len() > ROWS {
        page.paragraph(&format!("And {} more.", plural((hits.len() - ROWS) as u64, "hit")));
    }
}

/// What happened at a hit: the function that was entered, or has returned, or what has changed.
pub(super) fn what(report: &Report, hit: &Hit) -> String {
    let frame = |at: usize| hit.frames.get(at).map(|frame| code(&frame.symbol));
    if let Some(changed) = &hit.changed {
        let [old, new] = changed.values();
        return format!("{}: {} → {}", code(&changed.expression), code(old), code(new));
    }
    let probe = report.probes.iter().find(|probe| probe.name == hit.probe);
    let function = probe.and_then(|probe| probe.at.strip_prefix("return:")).map(|function| code(function.trim()));
    match (function, frame(0)) {
        (Some(function), Some(caller)) => {
            let value = hit.returned.as_ref().map(|returned| returned.value.as_deref().unwrap_or("?"));
            let value = value.map_or(String::new(), |value| format!(" {}", code(&shorten(value, CELL))));
            format!("{function} returned{value} to {caller}")
        }
        (_, Some(function)) => function,
        (_, None) => "stack not readable".into(),
    }
}

fn first<'a>(hit: &'a Hit, kind: &str) -> Option<&'a Decoded> {
    hit.decoded.iter().find(|object| object.kind == kind)
}

fn packet(object: &Decoded) -> String {
    let number = object.packet.map_or(String::new(), |number| format!("**{number}** "));
    format!("{number}{}", cell(&object.summary))
}

fn shown(hit: &Hit) -> String {
    let values = hit.shown.iter().filter_map(|var| Some((&var.name, var.value.as_ref()?)));
    let values: Vec<String> = values.map(|(name, value)| format!("{name} = {value}")).collect();
    cell(&values.join(", "))
}

fn cell(any: &str) -> String {
    text(&shorten(any, CELL))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::model::Changed;
    use crate::report::sample;

    #[test]
    fn a_hit_says_what_happened_there() {
        let mut report = sample::sample();
        let mut hit = report.hits[0].clone();
        let function = hit.frames[0].symbol.clone();
        assert_eq!(what(&report, &hit), format!("`{function}`"));
        report.probes[0].at = "return: tcp_v4_connect".into();
        hit.returned = Some(sample::var("returned", "int", "0"));
        assert_eq!(what(&report, &hit), format!("`tcp_v4_connect` returned `0` to `{function}`"));
        hit.changed = Some(Changed { expression: "x".into(), old: "1".into(), new: "2".into() });
        assert_eq!(what(&report, &hit), "`x`: `1` → `2`");
    }
}
