//! Two reports side by side: which call paths, signatures, values and expectations differ. Pure.
//!
//! Addresses, times, counters and process ids are never compared. Lines are, but only between runs of one kernel:
//! between two kernels they always move.

mod facts;
mod text;

use serde::Serialize;
use similar::{Algorithm, DiffOp, capture_diff_slices};

use super::model::{Frame, Hit, Report, Var};
use super::path::{place, plain_symbol};
use super::volatile;
use facts::facts;

pub use text::render;

/// How many places are named at which two reports are not equal.
const PLACES: usize = 16;

/// What differs between two runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The runs that were compared.
    pub runs: [Side; 2],
    /// How the runs ended, if that differs: the outcome, and the kind of the error.
    pub outcome: Option<Change>,
    /// Every probe of either run, in the order of the first, then of the second.
    pub probes: Vec<ProbeDifference>,
    /// Expectations that held in one run and not in the other, or that only one has.
    pub expectations: Vec<Change>,
    /// Whether nothing of these differs.
    pub same: bool,
    /// The first places at which the two `report.json` differ, beyond what either of them marks volatile: JSON pointers.
    /// None: the reports are equal.
    pub unequal: Vec<String>,
}

/// Which run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Side {
    /// The recipe's name.
    pub recipe: String,
    /// `uname -r` of the kernel, if there was one.
    pub release: Option<String>,
    /// The kernel's cache key.
    pub key: Option<String>,
}

/// A thing that is one way in the first run and another in the second; none where it is not there at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What.
    pub what: String,
    /// In the first and in the second run.
    pub values: [Option<String>; 2],
}

/// One probe in both runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProbeDifference {
    /// Its name.
    pub name: String,
    /// Its hits in the first and in the second run; none where the recipe has no such probe.
    pub hits: [Option<u64>; 2],
    /// The hits that both have, first with first, second with second.
    pub pairs: Vec<HitDifference>,
}

/// A hit of the first run and the one of the second that has the same number among the probe's hits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HitDifference {
    /// Their indices in the two reports.
    pub indices: [u64; 2],
    /// Task, context, `show` values.
    pub changes: Vec<Change>,
    /// The two stacks, aligned, innermost first.
    pub frames: Vec<Row>,
}

/// A row of two aligned stacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "row", rename_all = "lowercase")]
pub enum Row {
    /// The function is in both stacks at this place.
    Both {
        /// The function.
        symbol: String,
        /// Arguments and locals that one has and the other has not, or with another type; and its file and line.
        changes: Vec<Change>,
    },
    /// Only the first run comes through this function.
    First {
        /// The function.
        symbol: String,
    },
    /// Only the second run comes through this function.
    Second {
        /// The function.
        symbol: String,
    },
}

impl Row {
    fn is_same(&self) -> bool {
        matches!(self, Row::Both { changes, .. } if changes.is_empty())
    }
}

impl HitDifference {
    /// Whether the two hits do not differ.
    pub fn is_same(&self) -> bool {
        self.changes.is_empty() && self.frames.iter().all(Row::is_same)
    }
}

impl ProbeDifference {
    /// Whether the probe saw the same in both runs.
    pub fn is_same(&self) -> bool {
        self.hits[0] == self.hits[1] && self.pairs.iter().all(HitDifference::is_same)
    }
}

/// Compares two reports.
pub fn compare(first: &Report, second: &Report) -> Difference {
    let one_kernel = matches!((&first.kernel, &second.kernel), (Some(a), Some(b)) if a.key == b.key);
    let names = first.probes.iter().chain(&second.probes).map(|probe| probe.name.as_str());
    let mut probes: Vec<ProbeDifference> = Vec::new();
    for name in names {
        if probes.iter().all(|known| known.name != name) {
            probes.push(compare_probe(name, [first, second], one_kernel));
        }
    }
    let expectations = changes(
        first.expectations.iter().map(|expectation| (expectation.text.clone(), held(expectation.passed))),
        second.expectations.iter().map(|expectation| (expectation.text.clone(), held(expectation.passed))),
    );
    let ends = [first, second].map(|report| Some(end(report)));
    let outcome = (ends[0] != ends[1]).then(|| Change { what: "outcome".into(), values: ends });
    let same = outcome.is_none() && expectations.is_empty() && probes.iter().all(ProbeDifference::is_same);
    let unequal = unequal(first, second);
    Difference { runs: [side(first), side(second)], outcome, probes, expectations, same, unequal }
}

fn unequal(first: &Report, second: &Report) -> Vec<String> {
    // A report can always be written as JSON; what cannot has a place too.
    let mut places = volatile::differing(first, second).unwrap_or_else(|_| vec![String::new()]);
    places.truncate(PLACES);
    places
}

/// `passed`, or `error in the guest: its message`.
fn end(report: &Report) -> String {
    let word = report.outcome.as_str();
    report.error.as_ref().map_or(word.into(), |error| {
        let message = error.message.lines().next().unwrap_or_default();
        format!("{word} ({:?}: {message})", error.kind).to_lowercase()
    })
}

fn held(passed: bool) -> String {
    if passed { "passed" } else { "failed" }.into()
}

fn side(report: &Report) -> Side {
    Side {
        recipe: report.recipe.name.clone(),
        release: report.kernel.as_ref().map(|kernel| kernel.release.clone()),
        key: report.kernel.as_ref().map(|kernel| kernel.key.clone()),
    }
}

fn compare_probe(name: &str, reports: [&Report; 2], one_kernel: bool) -> ProbeDifference {
    let hits = reports.map(|report| report.probes.iter().find(|probe| probe.name == name).map(|probe| probe.hits));
    let of_probe =
        |report: &'_ Report| -> Vec<Hit> { report.hits.iter().filter(|hit| hit.probe == name).cloned().collect() };
    let [first, second] = reports.map(of_probe);
    let pairs = first.iter().zip(&second).map(|(first, second)| compare_hit(first, second, one_kernel)).collect();
    ProbeDifference { name: name.into(), hits, pairs }
}

fn compare_hit(first: &Hit, second: &Hit, one_kernel: bool) -> HitDifference {
    HitDifference {
        indices: [first.index, second.index],
        changes: changes(facts(first).into_iter(), facts(second).into_iter()),
        frames: align(&first.frames, &second.frames, one_kernel),
    }
}

fn align(first: &[Frame], second: &[Frame], one_kernel: bool) -> Vec<Row> {
    let names = |frames: &[Frame]| -> Vec<String> {
        frames.iter().map(|frame| plain_symbol(&frame.symbol).to_string()).collect()
    };
    let (names_first, names_second) = (names(first), names(second));
    let only_first = |range: std::ops::Range<usize>| {
        names_first[range].iter().map(|symbol| Row::First { symbol: symbol.clone() }).collect::<Vec<_>>()
    };
    let only_second = |range: std::ops::Range<usize>| {
        names_second[range].iter().map(|symbol| Row::Second { symbol: symbol.clone() }).collect::<Vec<_>>()
    };
    let mut rows = Vec::new();
    for op in capture_diff_slices(Algorithm::Patience, &names_first, &names_second) {
        match op {
            DiffOp::Equal { old_index, new_index, len } => {
                rows.extend((0..len).map(|step| both(&first[old_index + step], &second[new_index + step], one_kernel)));
            }
            DiffOp::Delete { old_index, old_len, .. } => rows.extend(only_first(old_index..old_index + old_len)),
            DiffOp::Insert { new_index, new_len, .. } => rows.extend(only_second(new_index..new_index + new_len)),
            DiffOp::Replace { old_index, old_len, new_index, new_len } => {
                rows.extend(only_first(old_index..old_index + old_len));
                rows.extend(only_second(new_index..new_index + new_len));
            }
        }
    }
    rows
}

fn both(first: &Frame, second: &Frame, one_kernel: bool) -> Row {
    let where_it_is = |frame: &Frame| {
        let line = frame.line.filter(|_| one_kernel);
        place(frame.file.as_deref(), line).map(|place| ("at".to_string(), place))
    };
    let variables = |frame: &Frame| {
        let named = |kind: &'static str| {
            move |var: &Var| {
                let name = var.name.trim_end_matches("@entry");
                (format!("{kind} {name}"), var.type_name.clone().unwrap_or_default())
            }
        };
        let args = frame.args.iter().map(named("argument"));
        let locals = frame.locals.iter().map(named("local"));
        where_it_is(frame).into_iter().chain(args).chain(locals).collect::<Vec<_>>()
    };
    let mut changes = changes(variables(first).into_iter(), variables(second).into_iter());
    for change in &mut changes {
        // What only one kernel passes says more with its value.
        match &mut change.values {
            [Some(of_first), None] => add_value(of_first, &change.what, first),
            [None, Some(of_second)] => add_value(of_second, &change.what, second),
            _ => {}
        }
    }
    Row::Both { symbol: plain_symbol(&first.symbol).into(), changes }
}

fn add_value(type_name: &mut String, what: &str, frame: &Frame) {
    let argument = what.strip_prefix("argument ");
    let var = argument.and_then(|name| frame.args.iter().find(|var| var.name.trim_end_matches("@entry") == name));
    if let Some(value) = var.and_then(|var| var.value.as_deref()).filter(|value| !value.contains("0xffff")) {
        type_name.push_str(&format!(" = {value}"));
    }
}

/// What two lists of named values do not share. Names that repeat are compared in their order.
fn changes(
    first: impl Iterator<Item = (String, String)>,
    second: impl Iterator<Item = (String, String)>,
) -> Vec<Change> {
    let mut rest: Vec<(String, String)> = second.collect();
    let mut changes = Vec::new();
    for (what, value) in first {
        match rest.iter().position(|(name, _)| *name == what) {
            None => changes.push(Change { what, values: [Some(value), None] }),
            Some(at) => {
                let (_, other) = rest.remove(at);
                if other != value {
                    changes.push(Change { what, values: [Some(value), Some(other)] });
                }
            }
        }
    }
    changes.extend(rest.into_iter().map(|(what, value)| Change { what, values: [None, Some(value)] }));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{frame, sample, var};

    fn rows(difference: &Difference) -> Vec<String> {
        let row = |row: &Row| match row {
            Row::Both { symbol, changes } if changes.is_empty() => format!("  {symbol}"),
            Row::Both { symbol, changes } => format!("~ {symbol} ({} changes)", changes.len()),
            Row::First { symbol } => format!("- {symbol}"),
            Row::Second { symbol } => format!("+ {symbol}"),
        };
        difference.probes[0].pairs[0].frames.iter().map(row).filter(|row| !row.starts_with("  ")).collect()
    }

    #[test]
    fn a_report_does_not_differ_from_itself_nor_from_its_twin_at_other_addresses_and_times() {
        let first = sample();
        let mut second = sample();
        for hit in &mut second.hits {
            hit.jiffies = Some(1);
            hit.task.pid = Some(4711);
            hit.cost.stop_us = 1;
            for frame in &mut hit.frames {
                frame.address = "0xffffffff81000000".into();
            }
        }
        second.timings.clear();
        assert!(compare(&first, &first).same);
        assert!(compare(&first, &second).same);
    }

    #[test]
    fn paths_are_aligned_and_what_only_one_comes_through_is_marked() {
        let first = sample();
        let mut second = sample();
        second.hits[0].frames.remove(4);
        second.hits[0].frames.insert(2, frame(2, "tcp_new_function.isra.0", "net/ipv4/tcp_ipv4.c", 1));
        assert_eq!(rows(&compare(&first, &second)), ["+ tcp_new_function", "- NF_HOOK"]);
    }

    #[test]
    fn a_new_argument_and_a_new_type_are_changes_of_the_frame() {
        let first = sample();
        let mut second = sample();
        second.hits[0].frames[0].args.push(var("reason", "enum sk_rst_reason", "SK_RST_REASON_NO_SOCKET"));
        let difference = compare(&first, &second);
        let Row::Both { changes, .. } = &difference.probes[0].pairs[0].frames[0] else { panic!() };
        let expected = Change {
            what: "argument reason".into(),
            values: [None, Some("enum sk_rst_reason = SK_RST_REASON_NO_SOCKET".into())],
        };
        assert_eq!(changes, &[expected]);
        assert!(!difference.same);
    }

    #[test]
    fn lines_matter_within_one_kernel_only() {
        let first = sample();
        let mut second = sample();
        second.hits[0].frames[1].line = Some(1);
        assert_eq!(rows(&compare(&first, &second)), ["~ tcp_v4_rcv (1 changes)"]);
        if let Some(kernel) = &mut second.kernel {
            kernel.key = "another".into();
        }
        assert!(compare(&first, &second).same);
    }

    #[test]
    fn hits_that_only_one_run_has_and_expectations_that_turned_are_differences() {
        let first = sample();
        let mut second = sample();
        second.probes[0].hits += 1;
        second.expectations[0].passed = false;
        let difference = compare(&first, &second);
        assert!(!difference.same);
        assert_eq!(difference.expectations.len(), 1);
        assert_eq!(difference.expectations[0].values, [Some("passed".into()), Some("failed".into())]);
    }

    #[test]
    fn runs_that_ended_differently_differ() {
        let first = sample();
        let mut second = sample();
        second.outcome = super::super::model::Outcome::Interrupted;
        let difference = compare(&first, &second);
        assert_eq!(difference.outcome.unwrap().values, [Some("passed".into()), Some("interrupted".into())]);
        assert!(!difference.same);
    }
}
