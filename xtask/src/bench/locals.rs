//! `cargo xtask bench locals`: how many arguments and locals of a stack can be read, of a kernel as distributions compile
//! it and of one that is `debuggable`, and what becomes of the others.
//!
//! The stack is that of the hit of `recipes/tcp-reset.yaml`: the way from a system call through the softirq on its stack.
//! Variables that are not set yet are left out. The kernels come from the user's cache, or are built into it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kdbg::error::{Error, IoContext, Result};
use kdbg::event::Cancel;
use kdbg::report::model::{Frame, Hit, Lost, Outcome, Report, Var, Why};
use kdbg::ui;

use super::measure::machine;
use crate::process::{cargo, run};

/// The kernels that are compared.
const VERSIONS: [&str; 2] = ["6.1", "6.12"];
/// The recipe whose hit is looked at.
const RECIPE: &str = "recipes/tcp-reset.yaml";
/// Its line behind which the other kernel is asked for.
const CONFIG: &str = "  config: [base, net]\n";
/// What is compiled for debugging in the other kernel.
const DEBUGGABLE: &str = "  debuggable: [net/]\n";

/// Measures and prints the section.
///
/// # Errors
/// A run does not pass: it would be another stack.
pub(super) fn bench(root: &Path, cancel: &Cancel) -> Result<()> {
    run(cargo(root, &["build", "--release", "--package", "kdbg"]))?;
    let kdbg = root.join("target/release/kdbg");
    let folder = root.join("target/bench-locals");
    fs::create_dir_all(&folder).or_host(format!("make {}", folder.display()))?;
    let recipes = recipes(&root.join(RECIPE), &folder)?;
    let mut reports = Vec::new();
    for version in VERSIONS {
        for recipe in &recipes {
            cancel.check()?;
            reports.push(report(&kdbg, recipe, version, &folder.join("run"))?);
        }
    }
    let _ = fs::remove_dir_all(&folder);
    let section = section(&reports, &machine(&["gcc", "gdb", "qemu-system-x86_64"]));
    ui::print(&section).or_host("write to standard output")
}

/// The recipe as it is, and with `debuggable`.
fn recipes(path: &Path, folder: &Path) -> Result<[PathBuf; 2]> {
    let text = fs::read_to_string(path).or_host(format!("read {}", path.display()))?;
    let debuggable = text.replacen(CONFIG, &format!("{CONFIG}{DEBUGGABLE}"), 1);
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).or_host(format!("write {}", path.display()))?;
        Ok(path)
    };
    Ok([write("plain.yaml", &text)?, write("debuggable.yaml", &debuggable)?])
}

/// The report of a run that passes.
fn report(kdbg: &Path, recipe: &Path, version: &str, out: &Path) -> Result<Report> {
    eprintln!("== Linux {version}, {}", recipe.file_stem().unwrap_or_default().to_string_lossy());
    let _ = fs::remove_dir_all(out);
    let mut command = Command::new(kdbg);
    command.arg("run").arg(recipe).args(["--kernel", version, "--out"]).arg(out).stdout(Stdio::null());
    run(command)?;
    let text = fs::read_to_string(out.join("report.json")).or_host("read the report")?;
    let report: Report = serde_json::from_str(&text).map_err(|error| Error::host(format!("report.json: {error}")))?;
    match report.outcome {
        Outcome::Passed if !report.hits.is_empty() => Ok(report),
        _ => Err(Error::host(format!("the run on Linux {version} has no hit to look at"))),
    }
}

/// What a hit shows of one kind of variable.
#[derive(Debug, Default, PartialEq)]
struct Count {
    readable: usize,
    all: usize,
}

impl Count {
    /// Those of a hit that are set.
    fn of(hit: &Hit, kind: fn(&Frame) -> &[Var]) -> Count {
        let set = hit.frames.iter().flat_map(kind).filter(|var| var.why != Some(Why::NotSetYet));
        set.fold(Count::default(), |count, var| Count {
            readable: count.readable + usize::from(var.available),
            all: count.all + 1,
        })
    }

    fn text(&self) -> String {
        let share = self.readable as f64 / self.all.max(1) as f64 * 100.0;
        format!("{} of {}, {share:.0} %", self.readable, self.all)
    }
}

/// Every variable of a hit that should be readable and is not, with its frame.
fn losses(hit: &Hit) -> impl Iterator<Item = (&Frame, &Var)> {
    hit.frames.iter().flat_map(|frame| {
        let vars = frame.args.iter().chain(&frame.locals);
        vars.filter(|var| !var.available && var.why != Some(Why::NotSetYet)).map(move |var| (frame, var))
    })
}

/// The class of a loss, in words.
fn reason(var: &Var) -> &'static str {
    match (var.why, var.lost) {
        (Some(Why::OptimizedOut), Some(Lost::Elsewhere)) => "its register was used for something else",
        (Some(Why::OptimizedOut), Some(Lost::Clobbered)) => "a callee may have changed its register",
        (Some(Why::OptimizedOut), Some(Lost::Nowhere)) => "kept nowhere",
        (Some(Why::OptimizedOut), None) => "optimized out, and no more is known",
        _ => "unreadable",
    }
}

/// How the kernel was compiled.
fn flags(report: &Report) -> String {
    let debuggable = report.kernel.as_ref().and_then(|kernel| kernel.debuggable.as_ref());
    debuggable.map_or("`-O2`".into(), |outcome| format!("`debuggable: [net/]`: {}", outcome.summary()))
}

fn release(report: &Report) -> &str {
    report.kernel.as_ref().map_or("?", |kernel| kernel.release.as_str())
}

/// The shares as a table, the reasons of what is lost as another, and each loss of the kernels that are debuggable.
fn section(reports: &[Report], machine: &str) -> String {
    let hits: Vec<(&Report, &Hit)> = reports.iter().filter_map(|report| Some((report, report.hits.first()?))).collect();
    let mut text = format!("One run each, {machine}.\n\n");
    text.push_str("| kernel | compiled | frames | arguments | locals |\n| --- | --- | ---: | --- | --- |\n");
    for (report, hit) in &hits {
        let (args, locals) = (Count::of(hit, |frame| &frame.args), Count::of(hit, |frame| &frame.locals));
        let (release, flags, frames) = (release(report), flags(report), hit.frames.len());
        text.push_str(&format!("| {release} | {flags} | {frames} | {} | {} |\n", args.text(), locals.text()));
    }
    text.push_str("\n| kernel | compiled | why it cannot be read | how many |\n| --- | --- | --- | ---: |\n");
    for (report, hit) in &hits {
        let mut classes: BTreeMap<&str, usize> = BTreeMap::new();
        losses(hit).for_each(|(_, var)| *classes.entry(reason(var)).or_default() += 1);
        for (reason, count) in classes {
            text.push_str(&format!("| {} | {} | {reason} | {count} |\n", release(report), flags(report)));
        }
    }
    for (report, hit) in hits.iter().filter(|(report, _)| flags(report) != "`-O2`") {
        text.push_str(&format!("\nStill lost on {} with `debuggable`:\n\n", release(report)));
        for (frame, var) in losses(hit) {
            let file = frame.file.as_deref().unwrap_or("?");
            text.push_str(&format!("- `{}` of `{}` ({file}): {}\n", var.name, frame.symbol, reason(var)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn var(why: Option<&str>, lost: Option<&str>) -> serde_json::Value {
        serde_json::json!({ "name": "x", "type": null, "value": null, "available": why.is_none(), "why": why, "lost": lost })
    }

    fn hit(args: &[serde_json::Value]) -> Hit {
        let frame = serde_json::json!({
            "level": 0, "address": "0x1", "symbol": "f", "offset": 0, "file": "net/f.c", "line": 1, "inlined": false,
            "args": args, "locals": [], "hidden": 0
        });
        serde_json::from_value(serde_json::json!({
            "index": 1, "probe": "p", "cpu": 0, "task": { "comm": null, "pid": null, "tgid": null }, "context": null,
            "jiffies": null, "frames": [frame], "shown": [], "decoded": [], "returned": null,
            "cost": { "stop_us": 0, "collect_us": 0, "stack": "gdb" }
        }))
        .unwrap()
    }

    #[test]
    fn what_is_not_set_yet_is_left_out_of_the_share() {
        let hit = hit(&[
            var(None, None),
            var(None, None),
            var(Some("not set yet"), None),
            var(Some("optimized out"), Some("clobbered")),
            var(Some("unreadable"), None),
        ]);
        assert_eq!(Count::of(&hit, |frame| &frame.args).text(), "2 of 4, 50 %");
        assert_eq!(Count::of(&hit, |frame| &frame.locals).text(), "0 of 0, 0 %");
        let reasons: Vec<&str> = losses(&hit).map(|(_, var)| reason(var)).collect();
        assert_eq!(reasons, ["a callee may have changed its register", "unreadable"]);
    }

    #[test]
    fn the_recipe_has_the_line_that_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(RECIPE);
        let [plain, debuggable] =
            recipes(&recipe, folder.path()).unwrap().map(|path| fs::read_to_string(path).unwrap());
        assert!(!plain.contains("debuggable") && debuggable.contains(DEBUGGABLE));
    }
}
