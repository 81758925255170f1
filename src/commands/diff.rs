//! `kdbg diff`: two runs side by side.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::cli::DiffArgs;
use crate::error::{Error, IoContext, Result};
use crate::report::diff::{compare, render};
use crate::report::model::{Report, SCHEMA};
use crate::ui;

/// Shows what differs; the exit code is 0 when nothing does, else 1.
///
/// # Errors
/// A run has no report, or not one that this kdbg reads.
pub fn diff(args: &DiffArgs) -> Result<ExitCode> {
    let difference = compare(&read(&args.first)?, &read(&args.second)?);
    let text = match args.json {
        true => serde_json::to_string(&difference).map_err(|error| Error::host(error.to_string()))? + "\n",
        false => render(&difference),
    };
    ui::print(&text).or_host("write to standard output")?;
    Ok(if difference.same { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// The report of a run: its directory, or the file itself.
fn read(run: &Path) -> Result<Report> {
    if run.join("matrix.json").is_file() {
        let several = Error::usage(format!("{} holds the runs of several kernels", run.display()));
        return Err(several.hint(format!("name one of them, like {}/6.1", run.display())));
    }
    let file: PathBuf = if run.is_dir() { run.join("report.json") } else { run.into() };
    let wrong = |why: String| {
        Error::usage(format!("{} is no report of a run: {why}", file.display()))
            .hint("name a run directory, like runs/tcp-reset/latest, or a report.json")
    };
    let text = std::fs::read_to_string(&file).map_err(|error| wrong(error.to_string()))?;
    let value: serde_json::Value = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    match value["schema"].as_u64() {
        Some(schema) if schema != u64::from(SCHEMA) => {
            Err(wrong(format!("its schema is {schema}, and this kdbg reads {SCHEMA}")))
        }
        _ => serde_json::from_value(value).map_err(|error| wrong(error.to_string())),
    }
}
