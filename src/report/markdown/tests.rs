//! What the page looks like, and what must never come through to it.

use super::*;
use crate::error::ErrorKind;
use crate::report::model::{ErrorInfo, Outcome};
use crate::report::sample::{hit, sample, var};

/// Sources that know two files.
struct Fake;

impl Sources for Fake {
    fn excerpt(&self, file: &str, line: u32, around: u32) -> Option<Vec<(u32, String)>> {
        let known = ["net/ipv4/tcp_ipv4.c", "net/core/dev.c"].contains(&file);
        known.then(|| (line - around..=line + around).map(|n| (n, format!("\tline({n}); /* {file} */"))).collect())
    }
}

/// The part of `page` between two headings.
fn between<'a>(page: &'a str, from: &str, to: &str) -> &'a str {
    page.split_once(from).unwrap().1.split_once(to).unwrap().0
}

#[test]
fn the_page_of_a_run_that_passed() {
    insta::assert_snapshot!(render(&sample(), &Fake));
}

#[test]
fn a_run_that_ended_early_says_why_at_the_top() {
    let mut report = sample();
    report.outcome = Outcome::Error;
    report.error = Some(ErrorInfo {
        kind: ErrorKind::Guest,
        message: "the guest died: <panic>\nKernel panic - not syncing".into(),
        hint: Some("see `console.log`".into()),
    });
    (report.hits, report.expectations, report.kernel) = (vec![], vec![], None);
    let page = render(&report, &NoSources);
    let top = page.split("## Probes").next().unwrap();
    insta::assert_snapshot!(top);
    assert!(page.contains("No probe was hit."));
}

#[test]
fn a_hundred_hits_stay_readable() {
    let mut report = sample();
    report.hits = (1..=100).map(hit).collect();
    let page = render(&report, &Fake);
    assert_eq!(page.matches("#### 0. `tcp_v4_send_reset`").count(), 1, "source excerpts once");
    assert_eq!(page.matches("Same path as hit 1; its values").count(), 99);
    assert!(page.contains("| 100 | 1–100 | `rst` | `nc` | tcp_v4_send_reset ← tcp_v4_rcv ← "), "one row a path");
    assert!(page.contains("was hit 100 times, always by the same path, while `nc` ran."));
    assert!(page.len() < 100 * 4_000, "{} bytes", page.len());
}

#[test]
fn another_path_gets_its_own_sources() {
    let mut report = sample();
    report.hits = vec![hit(1), hit(2), hit(3)];
    report.hits[1].frames.remove(2);
    let page = render(&report, &Fake);
    assert_eq!(page.matches("#### 0. `tcp_v4_send_reset`").count(), 2);
    assert!(page.contains("by 2 different paths"));
    assert!(between(&page, "### Hit 3", "## Trigger").contains("Same path as hit 1"));
}

#[test]
fn deep_frames_are_folded() {
    let page = render(&sample(), &Fake);
    let (open, folded) = page.split_once("<summary>Frames 8 to 21:").unwrap();
    assert!(open.contains("#### 7. ") && !open.contains("#### 8. ") && folded.contains("#### 9. "));
    assert_eq!(page.matches("<details>").count(), page.matches("</details>").count());
}

#[test]
fn long_values_are_short_in_tables_and_whole_below() {
    let page = render(&sample(), &Fake);
    let whole = sample().hits[0].frames[0].locals[0].value.clone().unwrap();
    assert_eq!(page.matches(&whole).count(), 1);
    assert!(page.lines().filter(|line| line.starts_with('|')).all(|line| line.chars().count() < 400));
    assert!(page.contains("1 long value in full: <code>arg</code>"));
}

#[test]
fn foreign_text_stays_text() {
    let mut report = sample();
    report.recipe.about = "# <b>a|b</b>\n\n- x".into();
    report.hits[0].task.comm = Some("`|<x>\x1b[2J".into());
    report.hits[0].shown = vec![var("a|b", "char *", "0x1 \"|`<script>\n\"")];
    report.trigger[0].stdout = "```\n# not a heading\n\x1b[31m\n````".into();
    report.warnings = vec!["<img src=x>\n## no".into()];
    report.files.insert("x".into(), "a](http://evil)".into());
    let page = render(&report, &Fake);
    assert!(page.chars().all(|c| c == '\n' || !c.is_control()));
    assert!(page.contains("`````text\n```\n# not a heading\n\\x1b[31m\n````\n`````"), "the fence is longer");
    assert!(page.contains("**\\# \\<b\\>a\\|b\\</b\\>"));
    assert!(page.contains("- \\<img src=x\\> \\#\\# no"), "one line, no tag");
    assert!(page.contains("- x: `a](http://evil)`"), "no link");
    for line in page.lines().filter(|line| line.starts_with("| a\\|b ")) {
        assert_eq!(line.replace("\\|", "").matches('|').count(), 4, "{line}");
    }
}
