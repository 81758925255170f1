//! `cargo xtask test`: everything that must hold, and one line at the end that says whether it does.
//!
//! A check counts as one test. What cannot be run here (a component of Rust that is not installed) is skipped, and said.

use std::path::Path;

use kdbg::error::Result;
use kdbg::event::Cancel;
use kdbg::ui;

use crate::process::{cargo, run, watch, works};
use crate::{setup, tidy};

/// How many tests came to what.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
}

/// Runs all of it. True when nothing failed.
pub(crate) fn test(root: &Path, cancel: &Cancel) -> bool {
    let mut tally = Tally::default();
    if let Err(error) = setup::setup(root, cancel).and_then(|()| checks(&mut tally, root, cancel)) {
        // Without tools and a kernel there is nothing to test with, and an interrupted test has not passed.
        ui::print_error(&error);
        tally.failed += 1;
    }
    println!("{}", tally.line());
    tally.failed == 0
}

/// The checks, the quick ones first. A failure of one is no reason not to make the others; an interruption is.
fn checks(tally: &mut Tally, root: &Path, cancel: &Cancel) -> Result<()> {
    component(tally, root, "fmt", &["fmt", "--all", "--check"]);
    cancel.check()?;
    component(tally, root, "clippy", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    cancel.check()?;
    announce("tidy");
    tally.check(tidy::tidy(root));
    announce("test");
    tally.add(tests(root));
    cancel.check()
}

fn announce(name: &str) {
    eprintln!("== {name}");
}

/// A component of Rust, which a minimal installation does not have.
fn component(tally: &mut Tally, root: &Path, name: &str, arguments: &[&str]) {
    announce(name);
    if works(cargo(root, &[name, "--version"])) {
        tally.check(run(cargo(root, arguments)).map(|()| true));
    } else {
        eprintln!("skipped: cargo {name} is not installed (rustup component add {name})");
        tally.skipped += 1;
    }
}

fn tests(root: &Path) -> Tally {
    let mut tally = Tally::default();
    let ended = watch(cargo(root, &["test", "--workspace", "--no-fail-fast"]), |line| tally.hear(line));
    tally.conclude(ended)
}

impl Tally {
    /// A check that passed, did not, or could not be made.
    fn check(&mut self, result: Result<bool>) {
        match result {
            Ok(true) => self.passed += 1,
            Ok(false) => self.failed += 1,
            Err(error) => {
                ui::print_error(&error);
                self.failed += 1;
            }
        }
    }

    fn add(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// A line of `cargo test`: `test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; ...`, or `skipped: ` of a test
    /// that finds its machine lacking, and passes.
    fn hear(&mut self, line: &str) {
        self.skipped += u64::from(line.starts_with("skipped: "));
        let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) else {
            return;
        };
        for count in counts.split("; ") {
            let Some((number, what)) = count.split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }

    /// `cargo test` has ended: what did not compile or crashed has no result line, and nothing at all is no success.
    fn conclude(mut self, ended: Result<bool>) -> Tally {
        let silent = self == Tally::default();
        match ended {
            Ok(well) if self.failed == 0 && (!well || silent) => self.failed = 1,
            Ok(_) => {}
            Err(error) => {
                ui::print_error(&error);
                self.failed += 1;
            }
        }
        self
    }

    fn line(self) -> String {
        let Tally { passed, failed, skipped } = self;
        let skipped = if skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
        format!("{passed} passed, {failed} failed{skipped}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kdbg::error::Error;

    fn heard(lines: &str) -> Tally {
        let mut tally = Tally::default();
        lines.lines().for_each(|line| tally.hear(line));
        tally
    }

    #[test]
    fn every_result_line_is_summed() {
        let tally = heard(
            "running 3 tests\ntest a ... ok\nskipped: no moon\n\
             test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\
             test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s\n",
        );
        assert_eq!(tally, Tally { passed: 14, failed: 3, skipped: 2 });
        assert_eq!(tally.conclude(Ok(false)).line(), "14 passed, 3 failed, 2 skipped");
    }

    #[test]
    fn what_says_nothing_has_failed() {
        let fine = heard("test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
        assert_eq!(fine.conclude(Ok(true)).line(), "1 passed, 0 failed");
        assert_eq!(fine.conclude(Ok(false)).line(), "1 passed, 1 failed", "one of several programs did not compile");
        assert_eq!(fine.conclude(Err(Error::host("no cargo"))).failed, 1);
        assert_eq!(Tally::default().conclude(Ok(true)).line(), "0 passed, 1 failed", "nothing ran");
    }

    #[test]
    fn a_check_is_one_test() {
        let mut tally = Tally::default();
        tally.check(Ok(true));
        tally.check(Ok(false));
        tally.check(Err(Error::host("x")));
        assert_eq!(tally, Tally { passed: 1, failed: 2, skipped: 0 });
    }
}
