//! `cargo xtask bench run`: a guest that goes on from a template against one that boots, and a whole `kdbg run` with three
//! hits against what a person does without kdbg (`xtask/bench/by-hand.sh`).
//!
//! By hand the same vmlinux boots on the same machine with busybox and the same three connections, and a GDB script prints
//! `bt full` at every stop. kdbg's time is the whole command: its report is written. The four are run in turns.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use kdbg::error::{Error, IoContext, Result};
use kdbg::event::{Cancel, Events};
use kdbg::guest::image::{self, Contents, modules::Modules};
use kdbg::process::Tool;
use kdbg::recipe;
use kdbg::report::model::{Outcome, Report};
use kdbg::store::Cache;
use kdbg::ui;

use super::measure::{machine, median};
use crate::process::{cargo, run};

/// How often each is run.
const ROUNDS: usize = 5;
/// How many hits each has.
const HITS: usize = 3;
/// What a person does.
const BY_HAND: &str = "xtask/bench/by-hand.sh";
/// The init of the guest that it boots.
const INIT: &str = "xtask/bench/by-hand.init";
/// What the kernel is told besides what the script tells it; the same as kdbg.
const COMMAND_LINE: &str = "no_timer_check norandmaps rdinit=/init";
/// Longest that one run may take.
const DEADLINE: Duration = Duration::from_secs(300);

const RECIPE: &str = "name: bench-run
kernel: { version: '6.1', config: [base, net] }
probes:
  - { name: rst, at: tcp_v4_send_reset }
trigger:
  - name: three connections to a closed port
    run: for connection in 1 2 3; do nc 127.0.0.1 9 < /dev/null; done
    exit: 1
expect:
  - { probe: rst, hits: 3 }
";

/// What is compared, in seconds; one figure a round.
#[derive(Debug, Default)]
struct Figures {
    /// From QEMU's start until the agent answers: of a guest that boots, and of a fork.
    boot: Vec<Duration>,
    fork: Vec<Duration>,
    /// From QEMU's start until the first step may start, likewise.
    boot_ready: Vec<Duration>,
    fork_ready: Vec<Duration>,
    /// The whole run by hand, and of kdbg with a template.
    by_hand: Vec<Duration>,
    kdbg: Vec<Duration>,
}

struct Bench<'a> {
    root: &'a Path,
    kdbg: PathBuf,
    folder: PathBuf,
    recipe: PathBuf,
    cancel: &'a Cancel,
}

/// Measures and prints the section.
///
/// # Errors
/// A run does not have its three hits.
pub(super) fn bench(root: &Path, cancel: &Cancel) -> Result<()> {
    run(cargo(root, &["build", "--release", "--package", "kdbg"]))?;
    let kdbg = root.join("target/release/kdbg");
    kdbg::process::set_supervisor(kdbg.clone());
    let folder = root.join("target/bench-run");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).or_host(format!("make {}", folder.display()))?;
    let recipe = folder.join("bench-run.yaml");
    fs::write(&recipe, RECIPE).or_host("write the recipe")?;
    let bench = Bench { root, kdbg, folder, recipe, cancel };
    let figures = bench.measure()?;
    let _ = fs::remove_dir_all(&bench.folder);
    let section = section(&figures, &machine(&["gdb", "qemu-system-x86_64"]));
    ui::print(&section).or_host("write to standard output")
}

impl Bench<'_> {
    fn measure(&self) -> Result<Figures> {
        // Builds the kernel if need be, and makes the template.
        let (first, _) = self.kdbg(&[])?;
        let vmlinux = first.kernel.map(|kernel| PathBuf::from(kernel.vmlinux));
        let vmlinux = vmlinux.ok_or_else(|| Error::host("the report names no kernel"))?;
        let initramfs = self.initramfs()?;
        let mut figures = Figures::default();
        for round in 1..=ROUNDS {
            eprintln!("== round {round} of {ROUNDS}");
            let (cold, _) = self.kdbg(&["--cold"])?;
            figures.boot.push(timing(&cold, "boot_ms")?);
            figures.boot_ready.push(timing(&cold, "ready_ms")?);
            let (warm, whole) = self.kdbg(&[])?;
            if !warm.machine.as_ref().is_some_and(|machine| machine.forked) {
                return Err(Error::host("the guest was not forked"));
            }
            figures.fork.push(timing(&warm, "boot_ms")?);
            figures.fork_ready.push(timing(&warm, "ready_ms")?);
            figures.kdbg.push(whole);
            figures.by_hand.push(self.by_hand(&vmlinux, &initramfs)?);
        }
        Ok(figures)
    }

    /// A run of kdbg: its report, and how long all of it took.
    fn kdbg(&self, more: &[&str]) -> Result<(Report, Duration)> {
        self.cancel.check()?;
        let out = self.folder.join("run");
        let _ = fs::remove_dir_all(&out);
        let mut command = Command::new(&self.kdbg);
        command.arg("run").arg(&self.recipe).args(["--accel", "tcg", "--out"]).arg(&out).args(more);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let start = std::time::Instant::now();
        run(command)?;
        let whole = start.elapsed();
        let text = fs::read_to_string(out.join("report.json")).or_host("read the report")?;
        let report: Report =
            serde_json::from_str(&text).map_err(|error| Error::host(format!("report.json: {error}")))?;
        match report.outcome {
            Outcome::Passed if report.hits.len() == HITS => Ok((report, whole)),
            _ => Err(Error::host(format!("the run has not its {HITS} hits"))),
        }
    }

    /// What a person boots: busybox, and an init that is the trigger.
    fn initramfs(&self) -> Result<PathBuf> {
        let images = self.folder.join("images");
        fs::create_dir_all(&images).or_host(format!("make {}", images.display()))?;
        let image = "name: by-hand\nabout: the guest of by-hand.sh\ninit: by-hand.init\nprograms: [busybox]\n";
        fs::write(images.join("by-hand.yaml"), image).or_host("write the image")?;
        fs::copy(self.root.join(INIT), images.join("by-hand.init")).or_host("copy the image's init")?;
        let recipe = self.folder.join("by-hand.yaml");
        let text = "name: by-hand\nkernel: { version: '6.1' }\nguest: { image: by-hand }\n";
        fs::write(&recipe, text).or_host("write the recipe")?;
        let resolved = recipe::resolve(&recipe::load(&recipe)?)?;
        let contents = Contents { image: &resolved.image, packages: None, modules: &Modules::default() };
        let cache = Cache::at(self.folder.join("cache"))?;
        image::build(&contents, &cache, &Events::none(), self.cancel)
    }

    fn by_hand(&self, vmlinux: &Path, initramfs: &Path) -> Result<Duration> {
        let output = self.folder.join("by-hand.txt");
        let tool = Tool::new(self.root.join(BY_HAND)).arg(vmlinux).arg(initramfs).arg(COMMAND_LINE).arg(&output);
        let start = std::time::Instant::now();
        let ended = tool.arg("tcp_v4_send_reset").deadline(DEADLINE).output(self.cancel)?;
        let whole = start.elapsed();
        let printed = fs::read_to_string(&output).or_host("read what GDB printed")?;
        let stacks =
            printed.lines().filter(|line| line.starts_with("#0 ") && line.contains("tcp_v4_send_reset")).count();
        match (ended.status.success(), stacks) {
            // More: QEMU 7.2 may answer the step off a breakpoint without a step, and GDB then stops there once more.
            (true, HITS..) => Ok(whole),
            _ => Err(Error::host(format!("{BY_HAND} printed {stacks} stacks, not {HITS}:\n{}", ended.tail(5)))),
        }
    }
}

/// What a report says of its times.
fn timing(report: &Report, name: &str) -> Result<Duration> {
    let timing = report.timings.get(name).copied().map(Duration::from_millis);
    timing.ok_or_else(|| Error::host(format!("the report has no {name}")))
}

/// The medians as a table, each pair with its ratio.
fn section(figures: &Figures, machine: &str) -> String {
    let pairs = [
        ("a guest, until its agent answers", "boots", &figures.boot, "goes on from a template", &figures.fork),
        (
            "the same, until the first step may start",
            "boots",
            &figures.boot_ready,
            "goes on from a template",
            &figures.fork_ready,
        ),
        ("a whole run with three hits", "by hand", &figures.by_hand, "`kdbg run`", &figures.kdbg),
    ];
    let mut text = format!("Linux 6.1, base+net, TCG, medians of {ROUNDS} in one run, {machine}.\n\n");
    text.push_str("| what | | | ratio |\n| --- | --- | --- | ---: |\n");
    for (what, one, slow, other, quick) in pairs {
        let (slow, quick) = (median(slow.clone()).as_secs_f64(), median(quick.clone()).as_secs_f64());
        text.push_str(&format!("| {what} | {one}: {slow:.2} s | {other}: {quick:.2} s | {:.2} |\n", quick / slow));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pair_has_its_medians_and_their_ratio() {
        let all = |millis: [u64; 3]| millis.map(Duration::from_millis).to_vec();
        let figures = Figures {
            boot: all([900, 1000, 1100]),
            fork: all([70, 50, 90]),
            boot_ready: all([1000, 1000, 1000]),
            fork_ready: all([300, 300, 300]),
            by_hand: all([2000, 2100, 9000]),
            kdbg: all([700, 1050, 600]),
        };
        let text = section(&figures, "a machine");
        for line in [
            "medians of 5 in one run, a machine.\n",
            "| a guest, until its agent answers | boots: 1.00 s | goes on from a template: 0.07 s | 0.07 |\n",
            "| a whole run with three hits | by hand: 2.10 s | `kdbg run`: 0.70 s | 0.33 |\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
    }
}
