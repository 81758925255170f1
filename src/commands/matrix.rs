//! `kdbg run` over several kernels: one run each, one matrix over them.

use super::run::{Bench, exit_code};
use crate::error::{Error, IoContext, Result};
use crate::recipe::Loaded;
use crate::report::matrix::Matrix;
use crate::report::model::{Outcome, Report};
use crate::store::RunDir;
use crate::ui;

/// What the kernel is called, the report's place in the run directory, the report.
type Reports = Vec<(String, String, Report)>;

/// Runs the recipes one after the other, each in a directory of its own, and writes `matrix.json` and `matrix.md`.
/// An interrupt ends the row; a run that ends early does not. Also gives the highest of the runs' exit codes.
///
/// # Errors
/// A report cannot be written.
pub(super) fn run(bench: &Bench<'_>, recipes: &[Loaded], run_dir: &RunDir) -> Result<(Matrix, u8)> {
    let mut reports = Reports::new();
    let names: Vec<String> = recipes.iter().map(name).collect();
    for (index, (loaded, name)) in recipes.iter().zip(&names).enumerate() {
        bench.announce(name);
        let folder = folder(&names[..=index]);
        let (report, _) = bench.run(loaded, &run_dir.below(&folder)?)?;
        let interrupted = report.outcome == Outcome::Interrupted;
        reports.push((name.clone(), format!("{folder}/report.json"), report));
        if interrupted {
            break;
        }
    }
    let matrix = Matrix::of(&reports, &names[reports.len()..]);
    let json = serde_json::to_string_pretty(&matrix).map_err(|error| Error::host(error.to_string()))?;
    run_dir.write("matrix.json", &(json + "\n"))?;
    run_dir.write("matrix.md", &matrix.markdown())?;
    run_dir.mark_latest()?;
    Ok((matrix, reports.iter().map(|(_, _, report)| exit_code(report)).max().unwrap_or_default()))
}

/// What the recipe's kernel is called.
fn name(loaded: &Loaded) -> String {
    loaded.recipe.kernel.choice().map(|choice| choice.to_string()).unwrap_or_default()
}

/// The folder for the last of these kernels: its name as one a folder can have, unlike those before it.
fn folder(names: &[String]) -> String {
    let plain = |name: &String| {
        let last = name.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let kept = |c: char| if c.is_ascii_alphanumeric() || "._-+@~^".contains(c) { c } else { '-' };
        format!("{}{}", if last.starts_with('.') { "kernel" } else { "" }, last.chars().map(kept).collect::<String>())
    };
    let Some((name, before)) = names.split_last() else { return String::new() };
    let folder = plain(name);
    match before.iter().filter(|other| plain(other) == folder).count() {
        0 => folder,
        others => format!("{folder}-{}", others + 1),
    }
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

#[cfg(test)]
mod tests {
    use super::folder;

    #[test]
    fn each_kernel_has_a_folder_of_its_own() {
        let names =
            ["6.1", "linux-image-6.1-amd64", "../linux@v6.1", "a/linux@v6.1", "..", "../a b/"].map(String::from);
        let folders: Vec<_> = (1..=names.len()).map(|count| folder(&names[..count])).collect();
        let expected = ["6.1", "linux-image-6.1-amd64", "linux@v6.1", "linux@v6.1-2", "kernel..", "a-b"];
        assert_eq!(folders, expected);
    }
}
