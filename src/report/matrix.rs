//! One recipe over several kernels: each run's outcome, and what each does differently from the first. Pure.

use serde::Serialize;

use super::diff::{Difference, compare, render};
use super::markdown::escape::{fence, sentence, text};
use super::model::{Outcome, Report, SCHEMA};
use super::text::{plural, printable};

/// `matrix.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Matrix {
    /// Always that of `report.json`.
    pub schema: u32,
    /// The recipe's name.
    pub recipe: String,
    /// Every run, in the order of the recipe's kernels.
    pub runs: Vec<Run>,
    /// Kernels that were asked for and not run, because the user stopped before.
    pub not_run: Vec<String>,
    /// What each later run does differently from the first, in the same order.
    pub differences: Vec<Difference>,
}

/// One kernel's run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Run {
    /// What the page calls it, as it calls no other: its release, or the version that was asked for with the release.
    pub name: String,
    /// The version that was asked for.
    pub version: String,
    /// `uname -r`, if the run got as far as a kernel.
    pub release: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// Hits over all probes.
    pub hits: u64,
    /// Every expectation, and whether it held.
    pub expectations: Vec<(String, bool)>,
    /// Why it ended early, if it did.
    pub error: Option<String>,
    /// Its report, relative to `matrix.json`.
    pub report: String,
}

impl Matrix {
    /// Puts reports together; each comes with the version it was asked for and its place relative to the matrix.
    pub fn of(reports: &[(String, String, Report)], not_run: &[String]) -> Matrix {
        let release = |report: &Report| report.kernel.as_ref().map(|kernel| kernel.release.clone());
        let run = |(version, place, report): &(String, String, Report)| Run {
            name: match release(report) {
                None => version.clone(),
                Some(own) if reports.iter().filter(|(.., other)| release(other).as_ref() == Some(&own)).count() > 1 => {
                    format!("{version} ({own})")
                }
                Some(own) => own,
            },
            version: version.clone(),
            release: release(report),
            outcome: report.outcome,
            hits: report.hits.len() as u64,
            expectations: report.expectations.iter().map(|held| (held.text.clone(), held.passed)).collect(),
            error: report.error.as_ref().map(|error| error.message.clone()),
            report: place.clone(),
        };
        let differences = match reports {
            [(_, _, first), rest @ ..] => rest.iter().map(|(_, _, other)| compare(first, other)).collect(),
            [] => Vec::new(),
        };
        let recipe = reports.first().map(|(_, _, report)| report.recipe.name.clone()).unwrap_or_default();
        Matrix {
            schema: SCHEMA,
            recipe,
            runs: reports.iter().map(run).collect(),
            not_run: not_run.to_vec(),
            differences,
        }
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for run in &self.runs {
            text.push_str(&format!(
                "  {:<10} {:<12} {}  {}\n",
                run.name,
                word(run.outcome),
                run.held(),
                plural(run.hits, "hit")
            ));
            if let Some(error) = &run.error {
                text.push_str(&format!("             {}\n", printable(error.lines().next().unwrap_or_default())));
            }
        }
        for version in &self.not_run {
            text.push_str(&format!("  {version:<10} not run\n"));
        }
        for difference in &self.differences {
            text.push('\n');
            text.push_str(&render(difference));
        }
        text
    }

    /// `matrix.md`.
    pub fn markdown(&self) -> String {
        let mut page = format!("# {} over {}\n\n", text(&self.recipe), plural(self.runs.len() as u64, "kernel"));
        page.push_str("| kernel | outcome | expectations | hits | report |\n| --- | --- | --- | --- | --- |\n");
        for run in &self.runs {
            let link = run.report.replace("report.json", "report.md");
            let (name, word, held, hits) = (&run.name, word(run.outcome), run.held(), run.hits);
            page.push_str(&format!("| {name} | {word} | {held} | {hits} | [{link}]({link}) |\n"));
        }
        for version in &self.not_run {
            page.push_str(&format!("| {version} | not run | | | |\n"));
        }
        for run in &self.runs {
            if let Some(error) = &run.error {
                let first = error.lines().next().unwrap_or_default();
                page.push_str(&format!("\n{} ended early: {}\n", run.name, sentence(first)));
            }
        }
        page.push_str("\n## Expectations\n\n");
        page.push_str(&self.expectations());
        let first = self.runs.first().map_or("", |run| run.name.as_str());
        for (second, difference) in self.runs.iter().skip(1).zip(&self.differences) {
            page.push_str(&format!("\n## {first} against {}\n", second.name));
            let shown = render(difference);
            let fence = fence(&shown);
            page.push_str(&format!("\n{fence}text\n{shown}{fence}\n"));
        }
        page
    }

    /// A row for each expectation of any run, a column for each run.
    fn expectations(&self) -> String {
        let mut texts: Vec<&str> = Vec::new();
        for (text, _) in self.runs.iter().flat_map(|run| &run.expectations) {
            if !texts.contains(&text.as_str()) {
                texts.push(text);
            }
        }
        let heads: String = self.runs.iter().map(|run| format!(" {} |", run.name)).collect();
        let mut table = format!("| expected |{heads}\n| --- |{}\n", " --- |".repeat(self.runs.len()));
        for text in texts {
            let marks: String = self.runs.iter().map(|run| format!(" {} |", run.mark(text))).collect();
            table.push_str(&format!("| {} |{marks}\n", sentence(text)));
        }
        table
    }
}

impl Run {
    fn held(&self) -> String {
        let held = self.expectations.iter().filter(|(_, passed)| *passed).count();
        format!("{held} of {}", plural(self.expectations.len() as u64, "expectation"))
    }

    fn mark(&self, text: &str) -> &'static str {
        match self.expectations.iter().find(|(known, _)| known == text) {
            Some((_, true)) => "✓",
            Some((_, false)) => "✗",
            None => "–",
        }
    }
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "passed",
        Outcome::Failed => "failed",
        Outcome::Error => "ended early",
        Outcome::Interrupted => "interrupted",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{sample, var};

    fn matrix() -> Matrix {
        let first = sample();
        let mut second = sample();
        if let Some(kernel) = &mut second.kernel {
            (kernel.release, kernel.key) = ("6.12.117".into(), "other".into());
        }
        second.hits[0].frames[0].args.push(var("reason", "enum sk_rst_reason", "SK_RST_REASON_NO_SOCKET"));
        second.expectations[0].passed = false;
        Matrix::of(
            &[("6.1".into(), "6.1/report.json".into(), first), ("6.12".into(), "6.12/report.json".into(), second)],
            &["6.13".into()],
        )
    }

    #[test]
    fn the_page_has_a_column_for_each_kernel_and_what_differs() {
        let page = matrix().markdown();
        for part in [
            "over 2 kernels",
            "| 6.13 | not run |",
            "| [6.12/report.md](6.12/report.md) |",
            " | ✓ | ✗ |\n",
            "against 6.12.117",
            "+ argument reason: enum sk_rst_reason = SK_RST_REASON_NO_SOCKET",
        ] {
            assert!(page.contains(part), "{part}\nin\n{page}");
        }
    }

    #[test]
    fn kernels_of_one_release_are_told_apart_by_what_was_asked_for() {
        let run = |version: &str| (version.to_string(), format!("{version}/report.json"), sample());
        let matrix = Matrix::of(&[run("../a"), run("../b")], &[]);
        let release = matrix.runs[0].release.clone().unwrap();
        let names: Vec<&str> = matrix.runs.iter().map(|run| run.name.as_str()).collect();
        assert_eq!(names, [format!("../a ({release})"), format!("../b ({release})")]);
        assert!(matrix.markdown().contains(&format!("## {} against {}\n", names[0], names[1])));
    }

    #[test]
    fn the_json_names_what_it_is_made_of() {
        let json = serde_json::to_value(matrix()).unwrap();
        let keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["schema", "recipe", "runs", "not_run", "differences"]);
        assert_eq!(json["runs"][1]["release"], "6.12.117");
        assert_eq!(json["differences"][0]["same"], false);
    }
}
