//! `cargo xtask bench replay`: what recording adds to a hit, how large it is, and how quick a replay answers.
//!
//! (a) Runs of the same loop of connections with and without `--record`, in turns, with stops at breakpoints and with cheap ones.
//! (b) GDB's own `bt full`, with default settings, at the hits of a recording that `kdbg replay` serves, against the same at the
//! same place of a live guest behind QEMU's stub (`xtask/bench/bt-full.sh`).

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kdbg::error::{Error, IoContext, Result};
use kdbg::event::Cancel;
use kdbg::process::Tool;
use kdbg::report::model::Report;
use kdbg::ui;

use super::hits::{BT_FULL, recipe, times};
use super::measure::{machine, median};
use super::sides::{Sides, timing, vmlinux};

/// How often each side is run.
const ROUNDS: usize = 5;
/// How many hits a run has.
const HITS: usize = 20;
/// Times `bt full` in a replay.
const SCRIPT: &str = "xtask/bench/replay.py";
/// Longest that a replay may take until it listens, and that GDB may take there.
const DEADLINE: Duration = Duration::from_secs(60);

/// What a hit of a run takes, without a recording and with one; one figure a round.
#[derive(Debug, Default)]
struct Hit {
    plain: Vec<Duration>,
    recorded: Vec<Duration>,
    /// The size of the recording, in bytes.
    size: u64,
}

/// What `bt full` takes: at the first hit, and the median of the others; one figure a round.
#[derive(Debug, Default)]
struct Stacks {
    live: [Vec<Duration>; 2],
    replay: [Vec<Duration>; 2],
}

/// Measures and prints the section.
///
/// # Errors
/// A run does not have its hits, or GDB does not print its stacks.
pub(super) fn bench(root: &Path, cancel: &Cancel) -> Result<()> {
    let sides = Sides::new(root, "replay", cancel)?;
    let show = |text: String| ui::print(&text).or_host("write to standard output");
    show(head(&machine(&["gdb", "qemu-system-x86_64"])))?;
    show(stacks(&measure_stacks(&sides, root, cancel)?))?;
    for (name, config) in [("bench-dear", "base, net"), ("bench-cheap", "base, net, trace")] {
        show(hit(config, &measure_hit(&sides, name, config)?))?;
    }
    Ok(())
}

fn measure_hit(sides: &Sides<'_>, name: &str, config: &str) -> Result<Hit> {
    let recipe = sides.recipe(name, &recipe(name, config, HITS))?;
    // Builds the kernel if need be, and makes the template.
    sides.kdbg(&recipe, &[], HITS)?;
    let mut hit = Hit::default();
    for round in 1..=ROUNDS {
        eprintln!("== {name}, round {round} of {ROUNDS}");
        hit.plain.push(time_of_hit(&sides.kdbg(&recipe, &[], HITS)?.0)?);
        hit.recorded.push(time_of_hit(&sides.kdbg(&recipe, &["--record"], HITS)?.0)?);
        hit.size = fs::metadata(sides.recording()).or_host("look at the recording")?.len();
    }
    Ok(hit)
}

/// What a hit takes with all that belongs to it: from the first step's start to the last one's end, by the number of hits.
fn time_of_hit(report: &Report) -> Result<Duration> {
    Ok(timing(report, "trigger_ms")? / u32::try_from(report.hits.len().max(1)).unwrap_or(u32::MAX))
}

fn measure_stacks(sides: &Sides<'_>, root: &Path, cancel: &Cancel) -> Result<Stacks> {
    let recipe = sides.recipe("bench-stacks", &recipe("bench-stacks", "base, net", HITS))?;
    let initramfs = sides.initramfs(HITS)?;
    let mut stacks = Stacks::default();
    for round in 1..=ROUNDS {
        eprintln!("== bt full, round {round} of {ROUNDS}");
        let (report, _) = sides.kdbg(&recipe, &["--record"], HITS)?;
        let vmlinux = vmlinux(&report)?;
        let (_, live) = sides.by_hand(BT_FULL, &vmlinux, &initramfs, HITS)?;
        let replay = replay(sides, &root.join(SCRIPT), &vmlinux, cancel)?;
        for (all, printed) in [(&mut stacks.live, live), (&mut stacks.replay, replay)] {
            let figures = times(&printed, HITS)?;
            let [first, warm] = all;
            first.extend(figures.first());
            warm.push(median(figures[1..].to_vec()));
        }
    }
    Ok(stacks)
}

/// What GDB prints of the recording of the last run.
fn replay(sides: &Sides<'_>, script: &Path, vmlinux: &Path, cancel: &Cancel) -> Result<String> {
    let socket = sides.folder.join("replay");
    let _served = Served::start(sides, &socket)?;
    let gdb = Tool::new("gdb").args(["-nx", "-q", "-batch", "-iex", "set auto-load no", "-ex"]);
    let gdb = gdb.arg(format!("target remote {}", socket.display())).arg("-ex").arg(format!("set $hits = {HITS}"));
    let output = gdb.arg("-x").arg(script).arg(vmlinux).deadline(DEADLINE).output(cancel)?;
    match output.text.matches("tcp_v4_send_reset").count() >= HITS {
        true => Ok(output.text),
        false => Err(Error::host(format!("GDB did not see {HITS} hits in the replay:\n{}", output.tail(5)))),
    }
}

/// `kdbg replay`, until it is dropped.
struct Served(Child);

impl Served {
    /// In a folder of its own, where launch.json is no matter.
    fn start(sides: &Sides<'_>, socket: &Path) -> Result<Served> {
        let mut command = Command::new(sides.command());
        command.current_dir(&sides.folder).arg("replay").arg(sides.recording()).arg("--socket").arg(socket);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().or_host("start kdbg replay")?;
        let served = Served(child);
        let start = Instant::now();
        while !socket.exists() {
            if start.elapsed() > DEADLINE {
                return Err(Error::host("kdbg replay does not listen"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(served)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw) {
            // It deletes its socket then.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        }
        let _ = self.0.wait();
    }
}

fn head(machine: &str) -> String {
    format!("Linux 6.1, TCG, medians of {ROUNDS} rounds in one run, {HITS} hits each, {machine}.\n\n")
}

fn row(what: &str, before: &[Duration], after: &[Duration]) -> String {
    let (before, after) = (median(before.to_vec()).as_secs_f64(), median(after.to_vec()).as_secs_f64());
    format!("| {what} | {:.1} ms | {:.1} ms | {:.2} |\n", before * 1e3, after * 1e3, after / before)
}

fn stacks(stacks: &Stacks) -> String {
    let head = "| `bt full` | live, QEMU's stub | `kdbg replay` | ratio |\n| --- | ---: | ---: | ---: |\n";
    let [first, other] = [("at the first hit", 0), ("at any other", 1)]
        .map(|(what, which)| row(what, &stacks.live[which], &stacks.replay[which]));
    format!("{head}{first}{other}\n")
}

fn hit(config: &str, hit: &Hit) -> String {
    let head = format!(
        "| {config}: a hit, of the step's whole time | not recorded | recorded | ratio |\n| --- | ---: | ---: | ---: |\n"
    );
    let row = row("stops as kdbg makes them there", &hit.plain, &hit.recorded);
    let (whole, each) = (hit.size as f64 / 1e6, hit.size as f64 / 1e6 / HITS as f64);
    format!("{head}{row}\nThe recording: {whole:.1} MB, {each:.2} MB a hit with the template's share.\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pair_has_its_medians_and_their_ratio() {
        let all = |millis: [u64; 3]| millis.map(Duration::from_millis).to_vec();
        let seen = Stacks { live: [all([50; 3]), all([4; 3])], replay: [all([25; 3]), all([2, 2, 9])] };
        let text = stacks(&seen);
        for line in ["| at the first hit | 50.0 ms | 25.0 ms | 0.50 |\n", "| at any other | 4.0 ms | 2.0 ms | 0.50 |\n"]
        {
            assert!(text.contains(line), "{line}{text}");
        }
        let of = Hit { plain: all([100; 3]), recorded: all([90, 110, 120]), size: 4_000_000 };
        let text = hit("base, net", &of);
        for line in [" | 100.0 ms | 110.0 ms | 1.10 |\n", "The recording: 4.0 MB, 0.20 MB a hit"] {
            assert!(text.contains(line), "{line}{text}");
        }
    }
}
