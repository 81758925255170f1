//! `kdbg run` over several kernels: one run each, one matrix over them.

use super::run::{Bench, exit_code};
use crate::error::{Error, IoContext, Result};
use crate::recipe::Loaded;
use crate::report::matrix::Matrix;
use crate::report::model::{Outcome, Report};
use crate::store::RunDir;
use crate::ui;

/// The version that was asked for, the report's place in the run directory, the report.
type Reports = Vec<(String, String, Report)>;

/// Runs the recipes one after the other, each in a directory of its own, and writes `matrix.json` and `matrix.md`.
/// An interrupt ends the row; a run that ends early does not. Also gives the highest of the runs' exit codes.
///
/// # Errors
/// A report cannot be written.
pub(super) fn run(bench: &Bench<'_>, recipes: &[Loaded], run_dir: &RunDir) -> Result<(Matrix, u8)> {
    let mut reports = Reports::new();
    for loaded in recipes {
        let version = version(loaded);
        bench.announce(&version);
        let (report, _) = bench.run(loaded, &run_dir.below(&version)?)?;
        let interrupted = report.outcome == Outcome::Interrupted;
        reports.push((version.clone(), format!("{version}/report.json"), report));
        if interrupted {
            break;
        }
    }
    let not_run: Vec<String> = recipes[reports.len()..].iter().map(version).collect();
    let matrix = Matrix::of(&reports, &not_run);
    let json = serde_json::to_string_pretty(&matrix).map_err(|error| Error::host(error.to_string()))?;
    run_dir.write("matrix.json", &(json + "\n"))?;
    run_dir.write("matrix.md", &matrix.markdown())?;
    run_dir.mark_latest()?;
    Ok((matrix, reports.iter().map(|(_, _, report)| exit_code(report)).max().unwrap_or_default()))
}

fn version(loaded: &Loaded) -> String {
    loaded.recipe.kernel.version.join("+")
}

/// Shows the matrix: its text and where it is, or as the last line of JSON.
///
/// # Errors
/// Standard output cannot be written.
pub(super) fn show(mode: ui::Mode, matrix: &Matrix, run_dir: &RunDir) -> Result<()> {
    let path = run_dir.shown().join("matrix.md");
    let text = match mode {
        ui::Mode::Json => {
            let line = serde_json::json!({ "event": "finished", "matrix": matrix, "path": path });
            format!("{line}\n")
        }
        ui::Mode::Bars | ui::Mode::Plain => format!("{}\n  matrix   {}\n", matrix.text(), path.display()),
    };
    ui::print(&text).or_host("write to standard output")
}
