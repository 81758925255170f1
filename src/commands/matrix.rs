//! `kdbg run` over several kernels: one run each, one matrix over them.

use std::path::Path;

use super::run::Bench;
use crate::error::{Error, IoContext, Result};
use crate::recipe::Loaded;
use crate::report::matrix::Matrix;
use crate::report::model::{Outcome, Report};
use crate::store::RunDir;
use crate::ui;

/// The version that was asked for, the report's place in the run directory, the report.
pub(super) type Reports = Vec<(String, String, Report)>;

/// Runs the recipes one after the other, each in a directory of its own, and writes `matrix.json` and `matrix.md`.
/// An interrupt ends the row; a run that ends early does not.
///
/// # Errors
/// A report cannot be written.
pub(super) fn run(bench: &Bench<'_>, recipes: &[Loaded], run_dir: &RunDir) -> Result<Reports> {
    let mut reports = Reports::new();
    for loaded in recipes {
        let version = loaded.recipe.kernel.version.join("+");
        let (report, _) = bench.run(loaded, &run_dir.below(&version)?)?;
        let interrupted = report.outcome == Outcome::Interrupted;
        reports.push((version.clone(), format!("{version}/report.json"), report));
        if interrupted {
            break;
        }
    }
    let matrix = Matrix::of(&reports);
    let json = serde_json::to_string_pretty(&matrix).map_err(|error| Error::host(error.to_string()))?;
    run_dir.write("matrix.json", &(json + "\n"))?;
    run_dir.write("matrix.md", &matrix.markdown())?;
    run_dir.mark_latest()?;
    Ok(reports)
}

/// Shows the matrix: its text and where it is, or as the last line of JSON.
///
/// # Errors
/// Standard output cannot be written.
pub(super) fn show(mode: ui::Mode, reports: &Reports, run_dir: &RunDir) -> Result<()> {
    let matrix = Matrix::of(reports);
    let place = run_dir.shown();
    let text = match mode {
        ui::Mode::Json => {
            let path = place.join("matrix.md");
            let line = serde_json::json!({ "event": "finished", "matrix": matrix, "path": path });
            format!("{line}\n")
        }
        ui::Mode::Bars | ui::Mode::Plain => format!("{}\n  matrix   {}\n", matrix.text(), shown(&place)),
    };
    ui::print(&text).or_host("write to standard output")
}

fn shown(place: &Path) -> String {
    place.join("matrix.md").display().to_string()
}
