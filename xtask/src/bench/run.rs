//! `cargo xtask bench run`: a guest that goes on from a template against one that boots, and a whole `kdbg run` with three
//! hits against what a person does without kdbg (`xtask/bench/by-hand.sh`).
//!
//! By hand the same vmlinux boots on the same machine with busybox and the same three connections, and a GDB script prints
//! `bt full` at every stop. kdbg's time is the whole command: its report is written. The four are run in turns.

use std::path::Path;
use std::time::Duration;

use kdbg::error::{Error, IoContext, Result};
use kdbg::event::Cancel;
use kdbg::ui;

use super::measure::{machine, median};
use super::sides::{BY_HAND, Sides, timing, vmlinux};

/// How often each is run.
const ROUNDS: usize = 5;
/// How many hits each has.
const HITS: usize = 3;
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

/// Measures and prints the section.
///
/// # Errors
/// A run does not have its three hits.
pub(super) fn bench(root: &Path, cancel: &Cancel) -> Result<()> {
    let sides = Sides::new(root, "run", cancel)?;
    let figures = measure(&sides)?;
    let section = section(&figures, &machine(&["gdb", "qemu-system-x86_64"]));
    ui::print(&section).or_host("write to standard output")
}

fn measure(sides: &Sides<'_>) -> Result<Figures> {
    let recipe = sides.recipe("bench-run", RECIPE)?;
    // Builds the kernel if need be, and makes the template.
    let (first, _) = sides.kdbg(&recipe, &[], HITS)?;
    let vmlinux = vmlinux(&first)?;
    let initramfs = sides.initramfs(HITS)?;
    let mut figures = Figures::default();
    for round in 1..=ROUNDS {
        eprintln!("== round {round} of {ROUNDS}");
        let (cold, _) = sides.kdbg(&recipe, &["--cold"], HITS)?;
        figures.boot.push(timing(&cold, "boot_ms")?);
        figures.boot_ready.push(timing(&cold, "ready_ms")?);
        let (warm, whole) = sides.kdbg(&recipe, &[], HITS)?;
        if !warm.machine.as_ref().is_some_and(|machine| machine.forked) {
            return Err(Error::host("the guest was not forked"));
        }
        figures.fork.push(timing(&warm, "boot_ms")?);
        figures.fork_ready.push(timing(&warm, "ready_ms")?);
        figures.kdbg.push(whole);
        figures.by_hand.push(sides.by_hand(BY_HAND, &vmlinux, &initramfs, HITS)?.0);
    }
    Ok(figures)
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
