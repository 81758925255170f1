//! The two sides that benchmarks of runs compare: `kdbg run`, and what a person does without kdbg, on the same vmlinux.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kdbg::error::{Error, IoContext, Result};
use kdbg::event::{Cancel, Events};
use kdbg::guest::image::{self, Contents, modules::Modules};
use kdbg::process::Tool;
use kdbg::recipe;
use kdbg::report::model::{Outcome, Report};
use kdbg::store::Cache;

use crate::process::{cargo, run};

/// What a person does.
pub(super) const BY_HAND: &str = "xtask/bench/by-hand.sh";
/// The init of the guest that a person boots, and how often it connects.
const INIT: &str = "xtask/bench/by-hand.init";
const CONNECTIONS: &str = "1 2 3";
/// What the kernel is told besides what the script tells it; the same as kdbg.
const COMMAND_LINE: &str = "no_timer_check norandmaps rdinit=/init";
/// Longest that one run may take.
const DEADLINE: Duration = Duration::from_secs(300);

/// Both sides, and the folder that they work in, which is gone with them.
pub(super) struct Sides<'a> {
    root: &'a Path,
    kdbg: PathBuf,
    pub(super) folder: PathBuf,
    cancel: &'a Cancel,
}

impl<'a> Sides<'a> {
    /// Builds kdbg; `name` is the benchmark's.
    ///
    /// # Errors
    /// It does not compile, or there is no place for the folder.
    pub(super) fn new(root: &'a Path, name: &str, cancel: &'a Cancel) -> Result<Sides<'a>> {
        run(cargo(root, &["build", "--release", "--package", "kdbg"]))?;
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        let kdbg = target.join("release/kdbg");
        kdbg::process::set_supervisor(kdbg.clone());
        let folder = target.join(format!("bench-{name}"));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).or_host(format!("make {}", folder.display()))?;
        Ok(Sides { root, kdbg, folder, cancel })
    }

    /// A recipe of this text, in the folder.
    ///
    /// # Errors
    /// The disk is full.
    pub(super) fn recipe(&self, name: &str, text: &str) -> Result<PathBuf> {
        let recipe = self.folder.join(format!("{name}.yaml"));
        fs::write(&recipe, text).or_host("write the recipe")?;
        Ok(recipe)
    }

    /// kdbg.
    pub(super) fn command(&self) -> &Path {
        &self.kdbg
    }

    /// The recording of the last run, if it was recorded.
    pub(super) fn recording(&self) -> PathBuf {
        self.folder.join("run/recording.kdbg")
    }

    /// A run of kdbg: its report, and how long all of it took.
    ///
    /// # Errors
    /// It does not pass, or has not as many hits.
    pub(super) fn kdbg(&self, recipe: &Path, more: &[&str], hits: usize) -> Result<(Report, Duration)> {
        self.cancel.check()?;
        let out = self.folder.join("run");
        let _ = fs::remove_dir_all(&out);
        let mut command = Command::new(&self.kdbg);
        command.arg("run").arg(recipe).args(["--accel", "tcg", "--out"]).arg(&out).args(more);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let start = Instant::now();
        run(command)?;
        let whole = start.elapsed();
        let text = fs::read_to_string(out.join("report.json")).or_host("read the report")?;
        let report: Report =
            serde_json::from_str(&text).map_err(|error| Error::host(format!("report.json: {error}")))?;
        match report.outcome {
            Outcome::Passed if report.hits.len() == hits => Ok((report, whole)),
            _ => Err(Error::host(format!("the run has not its {hits} hits"))),
        }
    }

    /// What a person boots: busybox, and an init that is the trigger.
    ///
    /// # Errors
    /// There is no busybox.
    pub(super) fn initramfs(&self, connections: usize) -> Result<PathBuf> {
        let images = self.folder.join("images");
        fs::create_dir_all(&images).or_host(format!("make {}", images.display()))?;
        let image = "name: by-hand\nabout: the guest of by-hand.sh\ninit: by-hand.init\nprograms: [busybox]\n";
        fs::write(images.join("by-hand.yaml"), image).or_host("write the image")?;
        let init = fs::read_to_string(self.root.join(INIT)).or_host("read the image's init")?;
        let init = init.replace(CONNECTIONS, &format!("$(seq {connections})"));
        fs::write(images.join("by-hand.init"), init).or_host("write the image's init")?;
        let recipe =
            self.recipe("by-hand", "name: by-hand\nkernel: { version: '6.1' }\nguest: { image: by-hand }\n")?;
        let resolved = recipe::resolve(&recipe::load(&recipe)?)?;
        let contents = Contents { image: &resolved.image, packages: None, modules: &Modules::default() };
        let cache = Cache::at(self.folder.join("cache"))?;
        image::build(&contents, &cache, &Events::none(), self.cancel)
    }

    /// A script like [`BY_HAND`], at `tcp_v4_send_reset`: how long all of it took, and what GDB printed.
    ///
    /// # Errors
    /// GDB did not print as many stacks.
    pub(super) fn by_hand(
        &self,
        script: &str,
        vmlinux: &Path,
        initramfs: &Path,
        hits: usize,
    ) -> Result<(Duration, String)> {
        let output = self.folder.join("by-hand.txt");
        let tool = Tool::new(self.root.join(script)).arg(vmlinux).arg(initramfs).arg(COMMAND_LINE).arg(&output);
        let start = Instant::now();
        let ended = tool.arg("tcp_v4_send_reset").deadline(DEADLINE).output(self.cancel)?;
        let whole = start.elapsed();
        let printed = fs::read_to_string(&output).or_host("read what GDB printed")?;
        let stacks =
            printed.lines().filter(|line| line.starts_with("#0 ") && line.contains("tcp_v4_send_reset")).count();
        // More: QEMU 7.2 may answer the step off a breakpoint without a step, and GDB then stops there once more.
        match ended.status.success() && stacks >= hits {
            true => Ok((whole, printed)),
            false => Err(Error::host(format!("{script} printed {stacks} stacks, not {hits}:\n{}", ended.tail(5)))),
        }
    }
}

impl Drop for Sides<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The kernel that a run was of.
///
/// # Errors
/// The report names none.
pub(super) fn vmlinux(report: &Report) -> Result<PathBuf> {
    let vmlinux = report.kernel.as_ref().map(|kernel| PathBuf::from(&kernel.vmlinux));
    vmlinux.ok_or_else(|| Error::host("the report names no kernel"))
}

/// What a report says of its times.
///
/// # Errors
/// It does not say.
pub(super) fn timing(report: &Report, name: &str) -> Result<Duration> {
    let timing = report.timings.get(name).copied().map(Duration::from_millis);
    timing.ok_or_else(|| Error::host(format!("the report has no {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guests_init_has_the_words_that_are_replaced() {
        let init = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(INIT);
        assert_eq!(fs::read_to_string(init).unwrap().matches(CONNECTIONS).count(), 1);
    }
}
