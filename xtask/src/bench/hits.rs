//! `cargo xtask bench hits`: what a hit costs.
//!
//! (a) Collecting a hit of 50 frames or more, decoded objects included, against GDB's own `bt full` with default settings at
//! the same place of the same vmlinux (`xtask/bench/bt-full.sh`). (b) A whole `kdbg run` of a loop of connections, every hit
//! collected, decoded and written, against `xtask/bench/by-hand.sh` on the same vmlinux with the same loop; and where kdbg's
//! time goes. The sides are run in turns.

use std::path::Path;
use std::time::Duration;

use kdbg::error::{Error, IoContext, Result};
use kdbg::event::Cancel;
use kdbg::report::model::{Hit, Report};
use kdbg::ui;

use super::measure::{machine, median};
use super::sides::{BY_HAND, Sides, timing, vmlinux};

/// How often each side is run.
const ROUNDS: usize = 3;
/// How many hits the stacks are measured at, and how many the loop has.
const STACKS: usize = 10;
const LOOP: usize = 200;
/// How many frames a stack has at least.
const FRAMES: usize = 50;
/// Prints how long each `bt full` took.
pub(super) const BT_FULL: &str = "xtask/bench/bt-full.sh";
const TOOK: &str = "== bt full ";

/// A recipe with this kernel configuration and as many connections to a closed port.
pub(super) fn recipe(name: &str, config: &str, connections: usize) -> String {
    format!(
        "name: {name}
kernel: {{ version: '6.1', config: [{config}] }}
probes:
  - {{ name: rst, at: tcp_v4_send_reset, limit: 1000 }}
trigger:
  - name: connections to a closed port
    run: for connection in $(seq {connections}); do nc 127.0.0.1 9 < /dev/null; done
    exit: 1
    timeout: 2m
expect:
  - {{ probe: rst, hits: {connections} }}
"
    )
}

/// What a stack costs each side: the first of a run, and the median of the others; one figure a round.
#[derive(Debug, Default)]
struct Stacks {
    frames: usize,
    objects: usize,
    bt_full: [Vec<Duration>; 2],
    kdbg: [Vec<Duration>; 2],
}

/// What the loop costs; one figure a round.
#[derive(Debug, Default)]
struct Loops {
    by_hand: Vec<Duration>,
    kdbg: Vec<Duration>,
    /// Parts of a run of kdbg, in order.
    phases: [Vec<Duration>; PHASES.len()],
}

const PHASES: [&str; 6] = [
    "until the first step may start: kernel and image from the cache, GDB's symbols, fork, arming",
    "stops: collecting and decoding the hits",
    "stops: writing the hits, stepping off, letting the guest run on",
    "the guest runs, with what QEMU does at a stop by itself",
    "the rest: the program's start, expectations, report.json and report.md, the end of GDB and QEMU",
    "of one hit: the guest stands still",
];

/// Measures and prints the section.
///
/// # Errors
/// A run does not have its hits, or its stacks are too short.
pub(super) fn bench(root: &Path, cancel: &Cancel) -> Result<()> {
    let sides = Sides::new(root, "hits", cancel)?;
    let stacks = measure_stacks(&sides)?;
    let loops = measure_loops(&sides)?;
    let section = section(&stacks, &loops, &machine(&["gdb", "qemu-system-x86_64"]));
    ui::print(&section).or_host("write to standard output")
}

fn measure_stacks(sides: &Sides<'_>) -> Result<Stacks> {
    let recipe = sides.recipe("bench-stacks", &recipe("bench-stacks", "base, net", STACKS))?;
    // Builds the kernel if need be, and makes the template.
    let (first, _) = sides.kdbg(&recipe, &[], STACKS)?;
    let vmlinux = vmlinux(&first)?;
    let initramfs = sides.initramfs(STACKS)?;
    let mut stacks = Stacks::default();
    for round in 1..=ROUNDS {
        eprintln!("== stacks, round {round} of {ROUNDS}");
        let (report, _) = sides.kdbg(&recipe, &[], STACKS)?;
        stacks.frames = report.hits.iter().map(|hit| hit.frames.len()).min().unwrap_or_default();
        stacks.objects = report.hits.iter().map(|hit| hit.decoded.len()).min().unwrap_or_default();
        if stacks.frames < FRAMES {
            return Err(Error::host(format!("a stack has {} frames, not {FRAMES}", stacks.frames)));
        }
        let kdbg = report.hits.iter().map(|hit| Duration::from_micros(hit.cost.collect_us)).collect();
        let (_, printed) = sides.by_hand(BT_FULL, &vmlinux, &initramfs, STACKS)?;
        for (all, figures) in [(&mut stacks.kdbg, kdbg), (&mut stacks.bt_full, times(&printed, STACKS)?)] {
            let [first, warm] = all;
            first.extend(figures.first());
            warm.push(median(figures[1..].to_vec()));
        }
    }
    Ok(stacks)
}

/// How long each `bt full` took, of so many at least.
pub(super) fn times(printed: &str, least: usize) -> Result<Vec<Duration>> {
    let seconds = printed.lines().filter_map(|line| line.strip_prefix(TOOK));
    let times: Option<Vec<Duration>> =
        seconds.map(|seconds| Duration::try_from_secs_f64(seconds.parse().ok()?).ok()).collect();
    times.filter(|times| times.len() >= least).ok_or_else(|| Error::host("GDB printed no times"))
}

fn measure_loops(sides: &Sides<'_>) -> Result<Loops> {
    let recipe = sides.recipe("bench-loop", &recipe("bench-loop", "base, net, trace", LOOP))?;
    let (first, _) = sides.kdbg(&recipe, &[], LOOP)?;
    let vmlinux = vmlinux(&first)?;
    let initramfs = sides.initramfs(LOOP)?;
    let mut loops = Loops::default();
    for round in 1..=ROUNDS {
        eprintln!("== loop, round {round} of {ROUNDS}");
        let (report, whole) = sides.kdbg(&recipe, &[], LOOP)?;
        loops.kdbg.push(whole);
        for (all, figure) in loops.phases.iter_mut().zip(phases(&report, whole)?) {
            all.push(figure);
        }
        loops.by_hand.push(sides.by_hand(BY_HAND, &vmlinux, &initramfs, LOOP)?.0);
    }
    Ok(loops)
}

/// Where the time of a run went, as [`PHASES`] has it.
fn phases(report: &Report, whole: Duration) -> Result<[Duration; PHASES.len()]> {
    let sum = |cost: fn(&Hit) -> u64| Duration::from_micros(report.hits.iter().map(cost).sum());
    let (stops, collecting) = (sum(|hit| hit.cost.stop_us), sum(|hit| hit.cost.collect_us));
    let trigger = timing(report, "trigger_ms")?;
    let ahead = ["packages_ms", "kernel_ms", "image_ms", "ready_ms"].into_iter().map(|name| timing(report, name));
    let ahead: Duration = ahead.sum::<Result<Duration>>()?;
    let each = stops / u32::try_from(report.hits.len().max(1)).unwrap_or(u32::MAX);
    Ok([
        ahead,
        collecting,
        stops.saturating_sub(collecting),
        trigger.saturating_sub(stops),
        whole.saturating_sub(ahead + trigger),
        each,
    ])
}

fn section(stacks: &Stacks, loops: &Loops, machine: &str) -> String {
    let mut text = format!("Linux 6.1, TCG, medians of {ROUNDS} rounds in one run, {machine}.\n\n");
    text.push_str("| what | without kdbg | kdbg | ratio |\n| --- | ---: | ---: | ---: |\n");
    let mut row = |what: &str, slow: &[Duration], quick: &[Duration]| {
        let (slow, quick) = (median(slow.to_vec()).as_secs_f64(), median(quick.to_vec()).as_secs_f64());
        let seconds =
            |seconds: f64| if seconds < 1.0 { format!("{:.1} ms", seconds * 1e3) } else { format!("{seconds:.2} s") };
        text.push_str(&format!("| {what} | {} | {} | {:.2} |\n", seconds(slow), seconds(quick), quick / slow));
    };
    let (frames, objects) = (stacks.frames, stacks.objects);
    let what = format!("a hit of {frames} frames, {objects} objects decoded, against `bt full`: the first of a run");
    row(&what, &stacks.bt_full[0], &stacks.kdbg[0]);
    row("the same: any other", &stacks.bt_full[1], &stacks.kdbg[1]);
    row(&format!("a run with {LOOP} hits, base+net+trace, against `by-hand.sh`"), &loops.by_hand, &loops.kdbg);
    text.push_str(&format!("\nWhere the {LOOP} hits' run of kdbg goes:\n\n| part | time |\n| --- | ---: |\n"));
    for (part, figures) in PHASES.iter().zip(&loops.phases) {
        text.push_str(&format!("| {part} | {:.3} s |\n", median(figures.clone()).as_secs_f64()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_are_those_that_were_printed() {
        let printed = "== bt full 0.250000\n#0  f ()\n".repeat(STACKS);
        assert_eq!(times(&printed, STACKS).unwrap(), vec![Duration::from_millis(250); STACKS]);
        assert!(
            times("== bt full 0.1\n", STACKS).is_err() && times(&printed.replacen("0.25", "x", 1), STACKS).is_err()
        );
    }

    #[test]
    fn each_pair_has_its_medians_and_their_ratio() {
        let all = |millis: [u64; 3]| millis.map(Duration::from_millis).to_vec();
        let stacks = Stacks {
            frames: 52,
            objects: 9,
            bt_full: [all([400, 300, 500]), all([40, 40, 90])],
            kdbg: [all([100, 100, 100]), all([10, 20, 9])],
        };
        let loops = Loops { by_hand: all([20_000; 3]), kdbg: all([5_000; 3]), phases: Default::default() };
        let text = section(&stacks, &loops, "a machine");
        for line in [
            "| a hit of 52 frames, 9 objects decoded, against `bt full`: the first of a run | 400.0 ms | 100.0 ms | 0.25 |\n",
            "| the same: any other | 40.0 ms | 10.0 ms | 0.25 |\n",
            "| a run with 200 hits, base+net+trace, against `by-hand.sh` | 20.00 s | 5.00 s | 0.25 |\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
    }
}
