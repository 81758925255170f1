//! What a command costs, and what the machine is that it was measured on.

use std::path::Path;
use std::time::{Duration, Instant};

use kdbg::error::{Error, IoContext, Result};

/// What something took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cost {
    /// On the clock.
    pub(super) wall: Duration,
    /// On all processors together, in user space and in the kernel, of all children that have ended.
    pub(super) cpu: Duration,
}

impl Cost {
    /// What `work` takes.
    ///
    /// # Errors
    /// Those of `work`, or this system does not tell.
    pub(super) fn of<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Cost)> {
        let (start, before) = (Instant::now(), children_cpu()?);
        let result = work()?;
        Ok((result, Cost { wall: start.elapsed(), cpu: children_cpu()?.saturating_sub(before) }))
    }
}

/// Processor time of the children that were waited for.
fn children_cpu() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").or_host("read /proc/self/stat")?;
    let ticks = children_ticks(&stat).ok_or_else(|| Error::host("/proc/self/stat is not as proc(5) has it"))?;
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// The fields `cutime` and `cstime` of proc(5), added.
fn children_ticks(stat: &str) -> Option<u64> {
    // The second field is the program's name in parentheses, which may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(13);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// The middle of several figures.
pub(super) fn median(mut figures: Vec<Duration>) -> Duration {
    figures.sort();
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}

/// One line about this machine and the tools that were measured.
pub(super) fn machine(tools: &[&str]) -> String {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("an unknown processor", |(_, model)| model.trim());
    let versions: Vec<String> = tools.iter().filter_map(|tool| version(Path::new(tool))).collect();
    let day = jiff::Zoned::now().strftime("%Y-%m-%d");
    format!("{cpus} CPUs ({model}); {}; {day}", versions.join(", "))
}

/// The first line that a tool prints of its version.
fn version(tool: &Path) -> Option<String> {
    let output = std::process::Command::new(tool).arg("--version").output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).lines().next()?.trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_childrens_time_is_read_behind_the_name() {
        let stat = "77 (a ) b) S 1 77 77 0 -1 4194560 1 2 0 0 5 6 700 80 20 0 1 0 100 1000 1 0";
        assert_eq!(children_ticks(stat), Some(780));
        assert_eq!(children_ticks("77 (a) S 1"), None);
    }

    #[test]
    fn what_a_child_computes_is_counted() {
        let spin = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        let work = || std::process::Command::new("sh").args(["-c", spin]).status().or_host("run sh");
        let (status, cost) = Cost::of(work).unwrap();
        assert!(status.success() && cost.cpu > Duration::ZERO && cost.wall > Duration::ZERO, "{cost:?}");
    }

    #[test]
    fn the_median_is_in_the_middle() {
        let seconds = |figures: &[u64]| figures.iter().map(|figure| Duration::from_secs(*figure)).collect();
        assert_eq!(median(seconds(&[9, 1, 5])), Duration::from_secs(5));
        assert_eq!(median(seconds(&[])), Duration::ZERO);
    }
}
