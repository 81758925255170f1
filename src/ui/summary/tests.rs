//! What the end of a run looks like.

use super::*;
use crate::error::ErrorKind;
use crate::report::model::ExpectationResult;
use crate::report::sample::{hit, sample};

fn plain(report: &Report) -> String {
    render_as(report, "runs/tcp-reset/latest/report.md", Look { colours: false, facts: true })
}

#[test]
fn a_run_that_passed() {
    insta::assert_snapshot!(plain(&sample()));
}

#[test]
fn a_run_that_failed_with_many_hits() {
    let mut report = sample();
    report.outcome = Outcome::Failed;
    report.hits = (1..=9).map(hit).collect();
    report.hits[8].probe = "other".into();
    report.expectations[1] = ExpectationResult {
        text: "probe `rst` has 1 hit".into(),
        passed: false,
        detail: "8 hits, then the probe reached its limit of 8 and was disarmed: there may have been more".into(),
    };
    let look = Look { colours: false, facts: false };
    insta::assert_snapshot!(render_as(&report, "runs/tcp-reset/latest/report.md", look));
}

#[test]
fn a_run_that_ended_early() {
    let mut report = sample();
    report.outcome = Outcome::Error;
    report.error = Some(ErrorInfo {
        kind: ErrorKind::Guest,
        message: "the guest died\nlast line: \x1b[31mKernel panic".into(),
        hint: Some("see console.log".into()),
    });
    report.hits.clear();
    report.expectations.clear();
    report.kernel = None;
    insta::assert_snapshot!(plain(&report));
}

#[test]
fn a_run_that_was_recorded_says_how_it_is_replayed() {
    let mut report = sample();
    assert!(!plain(&report).contains("kdbg replay"));
    report.files.insert("recording".into(), "recording.kdbg".into());
    assert!(plain(&report).ends_with("  kdbg replay runs/tcp-reset/latest\n"), "{}", plain(&report));
}

#[test]
fn colours_only_add_styles() {
    let coloured = render_as(&sample(), "p", Look { colours: true, facts: true });
    assert!(coloured.contains("\x1b["));
    assert_eq!(console::strip_ansi_codes(&coloured), render_as(&sample(), "p", Look { colours: false, facts: true }));
}

#[test]
fn a_guest_cannot_steer_the_terminal() {
    let mut report = sample();
    report.hits[0].task.comm = Some("\x1b[2J".into());
    report.hits[0].frames[0].symbol = "a\x1bb".into();
    report.hits[0].shown[0].value = Some("\"\u{9b}2J\"".into());
    report.trigger[0].name = "\x07".into();
    assert!(plain(&report).chars().all(|c| c == '\n' || !c.is_control()), "{}", plain(&report));
}
