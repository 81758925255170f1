//! Drives make: configure, check, compile; and explains a compile that failed.
//!
//! One object folder per source and architecture is reused, so that make itself rebuilds only what a changed option
//! touches. Its lock is held by the caller.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use super::kconfig::{self, Lost, Options};
use super::kconfig_tree::{Reason, Tree};
use super::key::ARCH;
use super::source::KernelSource;
use crate::error::{Error, IoContext, Result};
use crate::event::{Cancel, Event, Events, Phase, Unit};
use crate::process::{Tool, describe};

/// Longest a build may take: a slow laptop needs an hour for a big configuration.
const DEADLINE: Duration = Duration::from_secs(4 * 3600);

/// A source and the folder it is built in.
#[derive(Debug)]
pub struct Workshop<'a> {
    /// The source.
    pub source: &'a KernelSource,
    /// Kbuild's `O=`.
    pub objects: PathBuf,
    /// Where progress goes.
    pub events: &'a Events,
    /// Whether to stop.
    pub cancel: &'a Cancel,
}

impl Workshop<'_> {
    /// make, in the object folder, with everything that could differ between two machines pinned.
    fn make(&self, targets: &[&str]) -> Tool {
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        let mut output = std::ffi::OsString::from("O=");
        output.push(&self.objects);
        Tool::new("make")
            .arg("-C")
            .arg(&self.source.tree)
            .arg(output)
            .args([format!("ARCH={ARCH}"), format!("-j{jobs}"), "LOCALVERSION=".into()])
            .args(targets.iter().copied())
            .env("LC_ALL", "C")
            .env("KBUILD_BUILD_TIMESTAMP", "1970-01-01 00:00:00 UTC")
            .env("KBUILD_BUILD_USER", "kdbg")
            .env("KBUILD_BUILD_HOST", "kdbg")
            .env("KBUILD_BUILD_VERSION", "1")
            .without_env("MAKEFLAGS")
            .deadline(DEADLINE)
    }

    /// Writes the `.config` for `asked`, on top of nothing, and checks that every request survived.
    ///
    /// # Errors
    /// A request was lost; the message names each with its reason.
    pub fn configure(&self, asked: &Options) -> Result<Options> {
        fs::create_dir_all(&self.objects).or_host(format!("make {}", self.objects.display()))?;
        let fragment = self.objects.join("kdbg.fragment");
        write_if_changed(&fragment, &asked.to_fragment())?;
        let all = self.make(&["allnoconfig"]).env("KCONFIG_ALLCONFIG", fragment.as_os_str());
        for tool in [all, self.make(&["olddefconfig"])] {
            let output = tool.output(self.cancel)?;
            if !output.status.success() {
                return Err(failed_to_configure(&output.text));
            }
        }
        let text = fs::read_to_string(self.objects.join(".config")).or_host("read the finished .config")?;
        let config = Options::parse(&text)
            .map_err(|bad| Error::kernel(format!(".config line {} is not understood: {}", bad.line, bad.text)))?;
        let lost = kconfig::lost(asked, &config);
        if lost.is_empty() { Ok(config) } else { Err(self.explain(&lost, &config)) }
    }

    fn explain(&self, lost: &[Lost], config: &Options) -> Error {
        let tree = Tree::read(&|path| fs::read_to_string(self.source.tree.join(path)).ok());
        let mut message = format!("{} of the options asked for did not survive olddefconfig:", lost.len());
        for Lost { symbol, asked, got } in lost {
            let why = match tree.explain(symbol, config) {
                Reason::Unknown(near) if near.is_empty() => format!("Linux {} has no such symbol", self.source.version),
                Reason::Unknown(near) => {
                    format!("Linux {} has no such symbol; close by: {}", self.source.version, near.join(", "))
                }
                Reason::Unmet(unmet) => format!("it needs {}", unmet.join(" and ")),
                Reason::Forced if asked == "n" => "something else that is on selects it".into(),
                Reason::Forced => "its dependencies are met, so another option overrides it".into(),
            };
            message.push_str(&format!("\n  {symbol}: asked {asked}, got {got}: {why}"));
        }
        Error::kernel(message).hint("add what is needed to `kernel.options` of the recipe, or take the option out")
    }

    /// Compiles vmlinux and returns its path. `log` receives everything that make says.
    ///
    /// # Errors
    /// A file does not compile: the first compiler error is the message.
    pub fn compile(&self, log: &Path) -> Result<PathBuf> {
        self.prepare(log)?;
        let total = self.count_objects();
        let mut done = 0;
        let mut tick = |line: &str| {
            if is_object(line) {
                done += 1;
                self.events.send(Event::PhaseProgress { phase: Phase::Build, done, total, unit: Unit::Objects });
            }
        };
        let output = self.make(&["vmlinux"]).run(self.cancel, &mut tick)?;
        fs::write(log, &output.text).or_host(format!("write {}", log.display()))?;
        if output.status.success() {
            return Ok(self.objects.join("vmlinux"));
        }
        Err(failed_to_compile(&output.text, &describe(output.status), log))
    }

    /// Builds the tools and headers that everything else needs, so that the rest can be counted.
    fn prepare(&self, log: &Path) -> Result<()> {
        let output = self.make(&["prepare"]).output(self.cancel)?;
        if output.status.success() {
            return Ok(());
        }
        fs::write(log, &output.text).or_host(format!("write {}", log.display()))?;
        Err(failed_to_compile(&output.text, &describe(output.status), log))
    }

    /// How many objects make would build now. `make -n` ends in an error (it cannot link what it did not build) after
    /// it has listed them all.
    fn count_objects(&self) -> Option<u64> {
        let mut count = 0;
        let dry = self.make(&["-n", "vmlinux"]).deadline(Duration::from_secs(120));
        dry.run(self.cancel, |line| count += u64::from(is_dry_object(line))).ok()?;
        (count > 0).then_some(count)
    }

    /// `uname -r` of what was configured.
    pub fn release(&self) -> Result<String> {
        let path = self.objects.join("include/config/kernel.release");
        Ok(fs::read_to_string(path).or_host("read the kernel's release")?.trim().into())
    }
}

fn write_if_changed(path: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    fs::write(path, text).or_host(format!("write {}", path.display()))
}

/// A line of make's output that says an object was begun: `  CC      net/ipv4/tcp.o`.
fn is_object(line: &str) -> bool {
    ["  CC ", "  AS ", "  AR "].iter().any(|kind| line.starts_with(kind))
}

/// The same in the output of `make -n`, where the line is what the shell would echo.
fn is_dry_object(line: &str) -> bool {
    ["echo '  CC ", "echo '  AS ", "echo '  AR "].iter().any(|kind| line.contains(kind))
}

fn failed_to_configure(text: &str) -> Error {
    let said = text.lines().find(|line| line.contains("***") || line.contains("rror")).unwrap_or("make gave no reason");
    let error = Error::kernel(format!("Kconfig could not be run: {}", said.trim()));
    if said.contains("not clean") {
        return error.hint("the cached source was written to: delete it from the cache and run again");
    }
    error.hint("`kdbg doctor` shows what the kernel's build needs (flex, bison, gcc, make)")
}

/// The first error that a compiler, linker or make reported, with a few lines of what follows it.
fn failed_to_compile(text: &str, status: &str, log: &Path) -> Error {
    let lines: Vec<&str> = text.lines().collect();
    let compiler = |line: &&str| line.contains(" error: ") || line.contains(" fatal error: ");
    let linker = |line: &&str| line.contains("undefined reference") || line.starts_with("ld:");
    let make = |line: &&str| line.contains("***") || line.contains("No space left on device");
    let first = [&compiler as &dyn Fn(&&str) -> bool, &linker, &make]
        .into_iter()
        .find_map(|is_error| lines.iter().position(is_error));
    let shown = match first {
        Some(at) => lines[at..].iter().take(6).copied().collect::<Vec<_>>().join("\n  "),
        None => lines.last().copied().unwrap_or("make said nothing").into(),
    };
    let error = Error::kernel(format!("the kernel does not compile ({status}); the first error:\n  {shown}"));
    if text.contains("No space left on device") {
        return error.hint("the disk is full: free about 4 GiB, or move the cache with KDBG_CACHE_DIR");
    }
    error.hint(format!("the whole output of make is in {}", log.display()))
}

/// The compiler, as it enters the key: the first line of `gcc --version`. Asked once.
///
/// # Errors
/// There is no gcc.
pub fn compiler(cancel: &Cancel) -> Result<String> {
    static COMPILER: OnceLock<String> = OnceLock::new();
    if let Some(known) = COMPILER.get() {
        return Ok(known.clone());
    }
    let output = Tool::new("gcc").arg("--version").output(cancel)?;
    let first = output.text.lines().next().unwrap_or_default().to_string();
    if !output.status.success() {
        return Err(Error::host("gcc does not run").hint("`kdbg doctor --install` installs what a build needs"));
    }
    Ok(COMPILER.get_or_init(|| first).clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_compiler_error_is_shown_not_the_last_line_of_make() {
        let text = "  CC      a.o\na.c:3:1: error: unknown type name 'foo'\n    3 | foo x;\n      | ^~~\nmake[2]: *** [a.o] Error 1\nmake: *** [__sub-make] Error 2\n";
        let error = failed_to_compile(text, "exit code 2", Path::new("build.log"));
        assert!(error.message.contains("first error:\n  a.c:3:1: error: unknown type name 'foo'"), "{error}");
        assert!(error.hint.unwrap().contains("build.log"));
    }

    #[test]
    fn a_full_disk_is_named() {
        let error =
            failed_to_compile("x.s: fatal error: write: No space left on device\n", "exit code 2", Path::new("l"));
        assert!(error.hint.unwrap().contains("disk is full"));
    }

    #[test]
    fn objects_are_recognised_in_real_and_dry_output() {
        assert!(is_object("  CC      net/ipv4/tcp.o") && is_object("  AR      net/built-in.a"));
        assert!(!is_object("  HOSTCC  scripts/x") && !is_object("  LD      vmlinux.o"));
        assert!(is_dry_object("set -e;  echo '  CC      net/x.o';    trap 'rm'"));
        assert!(!is_dry_object("set -e;  echo '  HOSTCC  scripts/x'"));
    }
}
