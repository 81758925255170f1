//! `cargo xtask bench kernel`: kdbg's build of base+net against a tiny configuration with a plain fragment on top, which
//! is what a person writes who wants to debug TCP; then a build after one switched option, and one from the cache.
//!
//! Both sides compile the same source with the same compiler and as many jobs, without ccache, to a vmlinux. kdbg's time
//! is all that `kdbg build` does: configure, check, count, compile, index, strip, file.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use kdbg::error::{Error, IoContext, Result};
use kdbg::event::Cancel;
use kdbg::process::Tool;
use kdbg::store::CACHE_VARIABLE;
use kdbg::ui;

use super::measure::{Cost, machine, median};
use crate::process::{cargo, run};

/// The kernel that is built.
const VERSION: &str = "6.1";
/// The fragment of the other side, merged into tinyconfig.
const PLAIN: &str = "xtask/bench/plain.config";
/// The option that is switched for the second build: one that a few files of TCP ask for.
const SWITCHED: &str = "SYN_COOKIES";
/// How often the cached build is asked for.
const CACHED_RUNS: usize = 9;
/// Longest that one step may take.
const DEADLINE: Duration = Duration::from_secs(3600);

/// The two sides, and where they build.
struct Bench<'a> {
    kdbg: PathBuf,
    folder: PathBuf,
    source: PathBuf,
    cancel: &'a Cancel,
}

/// Measures and prints the section.
///
/// # Errors
/// A build fails.
pub(super) fn bench(root: &Path, cancel: &Cancel) -> Result<()> {
    run(cargo(root, &["build", "--release", "--package", "kdbg"]))?;
    let kdbg = root.join("target/release/kdbg");
    kdbg::process::set_supervisor(kdbg.clone());
    let folder = root.join("target/bench-kernel");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).or_host(format!("make {}", folder.display()))?;
    let source = source(&kdbg, &folder)?;
    let bench = Bench { kdbg, folder, source, cancel };
    bench.share_source()?;
    read_all(&bench.source)?;
    let section = bench.measure(&root.join(PLAIN))?;
    let _ = fs::remove_dir_all(&bench.folder);
    ui::print(&section).or_host("write to standard output")
}

/// The recipe whose kernel is built, with these options on top of base+net.
fn recipe(folder: &Path, name: &str, options: &str) -> Result<PathBuf> {
    let path = folder.join(format!("{name}.yaml"));
    let text =
        format!("name: {name}\nkernel:\n  version: \"{VERSION}\"\n  config: [base, net]\n  options: {options}\n");
    fs::write(&path, text).or_host(format!("write {}", path.display()))?;
    Ok(path)
}

/// The tree that both sides compile, fetched by a build in the user's cache if it is not there yet.
fn source(kdbg: &Path, folder: &Path) -> Result<PathBuf> {
    let recipe = recipe(folder, "cold", "{}")?;
    let mut build = Command::new(kdbg);
    build.args(["build", "--json"]).arg(recipe).stderr(std::process::Stdio::inherit());
    let output = build.output().or_host("run kdbg build")?;
    let built: serde_json::Value =
        serde_json::from_slice(&output.stdout).map_err(|_| Error::host("`kdbg build --json` did not build"))?;
    let tree = built["source_tree"].as_str().map(PathBuf::from);
    tree.ok_or_else(|| Error::host("`kdbg build --json` names no source tree"))
}

impl Bench<'_> {
    fn measure(&self, fragment: &Path) -> Result<String> {
        let cold = recipe(&self.folder, "cold", "{}")?;
        let switched = recipe(&self.folder, "switched", &format!("{{ {SWITCHED}: n }}"))?;
        let rows = [
            ("by hand: tinyconfig and a plain fragment, cold", self.step("by hand", || self.by_hand(fragment))?),
            ("`kdbg build`, base+net, cold", self.step("cold", || self.build(&cold))?),
            ("`kdbg build`, one option switched", self.step("one option switched", || self.build(&switched))?),
        ];
        let cached = self.step("cached", || self.cached(&cold))?;
        Ok(section(&rows, cached, &machine(&["gcc", "make"])))
    }

    /// Says what comes, does it and says what it took.
    fn step<T>(&self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.cancel.check()?;
        eprintln!("== {name}");
        work()
    }

    /// The cache of this run: empty but for the source, which is the user's.
    fn share_source(&self) -> Result<()> {
        let sources = self.cache().join("sources");
        fs::create_dir_all(&sources).or_host(format!("make {}", sources.display()))?;
        let name = self.source.file_name().unwrap_or_default();
        std::os::unix::fs::symlink(&self.source, sources.join(name)).or_host("share the kernel's source")
    }

    fn cache(&self) -> PathBuf {
        self.folder.join("cache")
    }

    fn build(&self, recipe: &Path) -> Result<Cost> {
        let tool = Tool::new(&self.kdbg).arg("build").arg(recipe).env(CACHE_VARIABLE, self.cache());
        self.cost(&[tool.env("KDBG_CCACHE", "0")])
    }

    /// The middle one of several builds that find everything.
    fn cached(&self, recipe: &Path) -> Result<Duration> {
        let costs = (0..CACHED_RUNS).map(|_| self.build(recipe)).collect::<Result<Vec<_>>>()?;
        Ok(median(costs.iter().map(|cost| cost.wall).collect()))
    }

    /// What a person does without kdbg.
    fn by_hand(&self, fragment: &Path) -> Result<Cost> {
        let objects = self.folder.join("plain");
        fs::create_dir_all(&objects).or_host(format!("make {}", objects.display()))?;
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        let mut output = OsString::from("O=");
        output.push(&objects);
        let make = |targets: &[&str]| {
            let make = Tool::new("make").arg("-C").arg(&self.source).arg(&output).arg(format!("-j{jobs}"));
            make.args(targets.iter().copied())
        };
        let merge = Tool::new(self.source.join("scripts/kconfig/merge_config.sh"))
            .args(["-m", "-O"])
            .arg(&objects)
            .arg(objects.join(".config"))
            .arg(fragment)
            .directory(&self.source);
        self.cost(&[make(&["tinyconfig"]), merge, make(&["olddefconfig"]), make(&["vmlinux"])])
    }

    /// What these cost, one after the other.
    fn cost(&self, tools: &[Tool]) -> Result<Cost> {
        let work = || {
            tools.iter().try_for_each(|tool| {
                let output = tool.clone().deadline(DEADLINE).output(self.cancel)?;
                let failed = || Error::kernel(format!("`{}` failed:\n{}", tool.line(), output.tail(5)));
                output.status.success().then_some(()).ok_or_else(failed)
            })
        };
        let ((), cost) = Cost::of(work)?;
        eprintln!("   {:.1} s ({:.1} s of processor time)", cost.wall.as_secs_f64(), cost.cpu.as_secs_f64());
        Ok(cost)
    }
}

/// Reads a folder whole, so that the side that comes first does not pay for the disk.
fn read_all(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).or_host(format!("read {}", folder.display()))? {
        let entry = entry.or_host(format!("read {}", folder.display()))?;
        let kind = entry.file_type().or_host(format!("look at {}", entry.path().display()))?;
        if kind.is_dir() {
            read_all(&entry.path())?;
        } else if kind.is_file() {
            fs::read(entry.path()).or_host(format!("read {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// The figures as a table; the first row is what the others are compared with, the second what the third is.
fn section(rows: &[(&str, Cost); 3], cached: Duration, machine: &str) -> String {
    let [(_, by_hand), (_, cold), _] = rows;
    let ratio = |cost: Duration, other: Duration| format!("{:.2}", cost.as_secs_f64() / other.as_secs_f64());
    let mut text = format!("Linux {VERSION}, one run, {machine}.\n\n");
    text.push_str("| build | time | processor time | to by hand | to a cold one of kdbg |\n");
    text.push_str("| --- | ---: | ---: | ---: | ---: |\n");
    for (index, (what, cost)) in rows.iter().enumerate() {
        let to_hand = if index == 0 { "1".into() } else { ratio(cost.wall, by_hand.wall) };
        let to_cold = if index == 2 { ratio(cost.wall, cold.wall) } else { String::new() };
        let (wall, cpu) = (cost.wall.as_secs_f64(), cost.cpu.as_secs_f64());
        text.push_str(&format!("| {what} | {wall:.1} s | {cpu:.1} s | {to_hand} | {to_cold} |\n"));
    }
    let cached = cached.as_secs_f64() * 1000.0;
    text + &format!("| `kdbg build`, cached, median of {CACHED_RUNS} | {cached:.0} ms | | | |\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_to_the_row_that_the_column_names() {
        let cost = |seconds| Cost { wall: Duration::from_secs(seconds), cpu: Duration::from_secs(2 * seconds) };
        let rows = [("hand", cost(100)), ("cold", cost(60)), ("switched", cost(15))];
        let text = section(&rows, Duration::from_millis(31), "a machine");
        for line in [
            "Linux 6.1, one run, a machine.\n",
            "| hand | 100.0 s | 200.0 s | 1 |  |\n",
            "| cold | 60.0 s | 120.0 s | 0.60 |  |\n",
            "| switched | 15.0 s | 30.0 s | 0.15 | 0.25 |\n",
            "| `kdbg build`, cached, median of 9 | 31 ms | | | |\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
    }
}
