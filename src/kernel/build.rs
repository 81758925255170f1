//! Drives make: configure, check, compile; and explains a compile that failed.
//!
//! One object folder per source and architecture is reused, so that make itself rebuilds only what a changed option
//! touches. Its lock is held by the caller. All that make says goes into one log as it comes.

mod ccache;
mod scripts;
pub(super) mod unfinished;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use super::compiler;
use super::debuggable;
use super::diagnosis::{failed_to_compile, failed_to_configure};
use super::kconfig::Options;
use super::key::ARCH;
use super::source::KernelSource;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::event::{Cancel, Event, Events, Phase, Unit};
use crate::process::{Tool, ToolOutput, describe};
use crate::report::debuggable::Debuggable;
use ccache::Ccache;

/// Longest a build may take: a slow laptop needs an hour for a big configuration.
const DEADLINE: Duration = Duration::from_secs(4 * 3600);

/// What make's environment says, whoever builds.
const PINNED: [(&str, &str); 6] = [
    ("LC_ALL", "C"),
    // Nobody writes to a source.
    ("PYTHONDONTWRITEBYTECODE", "1"),
    ("KBUILD_BUILD_TIMESTAMP", "1970-01-01 00:00:00 UTC"),
    ("KBUILD_BUILD_USER", "kdbg"),
    ("KBUILD_BUILD_HOST", "kdbg"),
    ("KBUILD_BUILD_VERSION", "1"),
];

/// The variables of the user's environment that make gets, with all of ccache's and kdbg's. Kbuild, its scripts and the
/// compiler would take too many others for their own (`KCFLAGS`, `CONFIG_…`, `CPATH`, `sub_make_done`) to name them.
#[rustfmt::skip]
const KEPT: [&str; 14] = [
    "PATH", "LD_LIBRARY_PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "TMPDIR", "TMP", "TEMP",
    "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "KCONFIG_ALLCONFIG",
];

/// Whether a variable of the user's environment is kept from make. [`PINNED`] ones are set, `KCONFIG_ALLCONFIG` too
/// where it is read.
fn is_foreign(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return true };
    let is_pinned = PINNED.iter().any(|(pinned, _)| *pinned == name);
    let is_ours = name.starts_with("CCACHE_") || name.starts_with("KDBG_");
    !is_pinned && !is_ours && !KEPT.contains(&name)
}

/// What make has made.
#[derive(Debug)]
pub struct Compiled {
    /// vmlinux, as linked.
    pub vmlinux: PathBuf,
    /// What ccache did, for people; none where it was not there.
    pub ccache: Option<String>,
}

/// A source and the folder it is built in.
#[derive(Debug)]
pub struct Workshop<'a> {
    /// The source.
    pub source: &'a KernelSource,
    /// Kbuild's `O=`.
    pub objects: PathBuf,
    /// What of the tree is compiled for debugging.
    pub debuggable: &'a [String],
    /// What make says goes to the end of this file.
    pub log: PathBuf,
    /// Where progress goes.
    pub events: &'a Events,
    /// Whether to stop.
    pub cancel: &'a Cancel,
}

impl Workshop<'_> {
    /// make, in the object folder, with everything that could differ between two machines pinned.
    fn make(&self, targets: &[&str]) -> Tool {
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        let mut output = OsString::from("O=");
        output.push(&self.objects);
        let make = PINNED.iter().fold(Tool::new("make"), |make, (name, value)| make.env(*name, *value));
        let foreign = std::env::vars_os().map(|(name, _)| name).filter(|name| is_foreign(name));
        // The wrapper runs what KDBG_CC names, by a path that is right where make runs.
        let chosen = compiler::chosen().ok().flatten();
        let make = chosen.iter().fold(make, |make, program| make.env(compiler::VARIABLE, program));
        let wrapper = debuggable::wrapper(&self.objects).display().to_string();
        let compiler = if self.debuggable.is_empty() { chosen } else { Some(wrapper) };
        // The user's PATH may lead to it.
        let make = if ccache::is_off() { make.env("CCACHE_DISABLE", "1") } else { make };
        foreign
            .fold(make, Tool::without_env)
            .arg("-C")
            .arg(&self.source.tree)
            .arg(output)
            .args([format!("ARCH={ARCH}"), format!("-j{jobs}"), "LOCALVERSION=".into()])
            .args(compiler.map(|program| format!("CC={program}")))
            .args(targets.iter().copied())
            .deadline(DEADLINE)
    }

    /// Runs make: each line goes to the log, then to `each_line`. The folder is marked until make has ended by itself.
    ///
    /// # Errors
    /// It could not be started or took too long, which is the kernel's failure; or kdbg was interrupted.
    fn drive(&self, make: &Tool, mut each_line: impl FnMut(&str)) -> Result<ToolOutput> {
        let open = fs::OpenOptions::new().create(true).append(true).open(&self.log);
        let mut log = open.or_host(format!("write {}", self.log.display()))?;
        let mut unlogged = None;
        unfinished::mark(&self.objects)?;
        let output = make.run(self.cancel, |line| {
            unlogged = writeln!(log, "{line}").err().or(unlogged.take());
            each_line(line);
        });
        if output.as_ref().is_ok_and(|output| was_not_killed(output.status)) {
            unfinished::unmark(&self.objects);
        }
        if let Some(error) = unlogged {
            self.events.warn(format!("{} is not whole: {error}", self.log.display()));
        }
        output.map_err(|error| match error.kind {
            ErrorKind::Interrupted => error,
            _ => Error { kind: ErrorKind::Kernel, ..error }.hint(self.see_log()),
        })
    }

    fn see_log(&self) -> String {
        format!("the whole output of make is in {}", self.log.display())
    }

    /// Writes the `.config` for `asked`, on top of nothing. Whether every request survived is the caller's to check.
    ///
    /// # Errors
    /// Kconfig could not be run.
    pub fn configure(&self, asked: &Options) -> Result<Options> {
        fs::create_dir_all(&self.objects).or_host(format!("make {}", self.objects.display()))?;
        if !self.debuggable.is_empty() {
            let compiler = compiler::chosen()?.unwrap_or_else(|| compiler::USUAL.into());
            debuggable::install(&self.objects, &self.source.tree, self.debuggable, &compiler, self.cancel)?;
        }
        let fragment = self.objects.join("kdbg.fragment");
        write_if_changed(&fragment, &asked.to_fragment())?;
        fs::write(&self.log, "").or_host(format!("write {}", self.log.display()))?;
        let all = self.make(&["allnoconfig"]).env("KCONFIG_ALLCONFIG", fragment.as_os_str());
        for tool in [all, self.make(&["olddefconfig"])] {
            let output = self.drive(&tool, |_| {})?;
            if !output.status.success() {
                return Err(failed_to_configure(&output.text));
            }
        }
        let text = fs::read_to_string(self.objects.join(".config")).or_host("read the finished .config")?;
        let config = Options::parse(&text)
            .map_err(|bad| Error::kernel(format!(".config line {} is not understood: {}", bad.line, bad.text)))?;
        Ok(config)
    }

    /// Compiles vmlinux, and the modules if `config` has any.
    ///
    /// # Errors
    /// A file does not compile: the first compiler error is the message.
    pub fn compile(&self, config: &Options) -> Result<Compiled> {
        let targets: &[&str] = if config.has_modules() { &["vmlinux", "modules"] } else { &["vmlinux"] };
        let ccache = self.ccache()?;
        let make = |targets: &[&str]| match &ccache {
            Some(ccache) => ccache.before(self.make(targets)),
            None => self.make(targets),
        };
        self.prepare(&make(&["prepare"]))?;
        let total = self.count_objects(targets);
        let mut done = 0;
        let mut tick = |line: &str| {
            if is_object(line) {
                done += 1;
                self.events.send(Event::PhaseProgress { phase: Phase::Build, done, total, unit: Unit::Objects });
            }
        };
        let mut output = self.drive(&make(targets), &mut tick)?;
        // The link of vmlinux first, then what modpost finds in the modules, a few symbols at a time.
        while !output.status.success()
            && debuggable::forgive(&self.objects, self.debuggable, &output.text, self.cancel)?
        {
            output = self.drive(&make(targets), &mut tick)?;
        }
        if output.status.success() {
            unfinished::settle(&self.objects)?;
            let ccache = ccache.as_ref().map(Ccache::summary);
            return Ok(Compiled { vmlinux: self.objects.join("vmlinux"), ccache });
        }
        Err(failed_to_compile(&output.text, &describe(output.status), &self.see_log()))
    }

    /// ccache, where there is one. One that does not work is no reason not to build.
    fn ccache(&self) -> Result<Option<Ccache>> {
        let compiler = compiler::chosen()?;
        let compiler = compiler.as_deref().unwrap_or(compiler::USUAL);
        Ccache::find(&self.objects, compiler, self.cancel).or_else(|error| match error.kind {
            ErrorKind::Interrupted => Err(error),
            _ => {
                self.events.warn(format!("built without ccache, which does not work: {error}"));
                Ok(None)
            }
        })
    }

    /// What became of what is to be debuggable, in a vmlinux and the modules that this workshop has made; none where
    /// nothing is.
    ///
    /// # Errors
    /// As [`Workshop::modules`].
    pub fn debuggable(&self, vmlinux: &Path, config: &Options) -> Result<Option<Debuggable>> {
        if self.debuggable.is_empty() {
            return Ok(None);
        }
        Ok(Some(debuggable::outcome(&self.objects, self.debuggable, vmlinux, &self.modules(config)?)))
    }

    /// Builds the tools and headers that everything else needs, so that the rest can be counted.
    fn prepare(&self, make: &Tool) -> Result<()> {
        let output = self.drive(make, |_| {})?;
        if output.status.success() {
            return Ok(());
        }
        Err(failed_to_compile(&output.text, &describe(output.status), &self.see_log()))
    }

    /// How many objects make would build now. `make -n` ends in an error (it cannot link what it did not build) after
    /// it has listed them all.
    fn count_objects(&self, targets: &[&str]) -> Option<u64> {
        let mut count = 0;
        let dry = self.make(&[&["-n"], targets].concat()).deadline(Duration::from_secs(120));
        dry.run(self.cancel, |line| count += u64::from(is_dry_object(line))).ok()?;
        (count > 0).then_some(count)
    }

    /// The modules that [`Workshop::compile`] made, as paths below the object folder.
    ///
    /// # Errors
    /// make left no list of them.
    pub fn modules(&self, config: &Options) -> Result<Vec<String>> {
        if !config.has_modules() {
            return Ok(Vec::new());
        }
        let list = fs::read_to_string(self.objects.join("modules.order")).or_host("read the list of modules")?;
        // From 6.4 on it names the objects that the modules are linked from.
        let module = |line: &str| format!("{}.ko", line.trim().trim_end_matches(".ko").trim_end_matches(".o"));
        Ok(list.lines().filter(|line| !line.trim().is_empty()).map(module).collect())
    }

    /// `uname -r` of what was configured.
    pub fn release(&self) -> Result<String> {
        let path = self.objects.join("include/config/kernel.release");
        Ok(fs::read_to_string(path).or_host("read the kernel's release")?.trim().into())
    }
}

/// Whether that is an exit code of make's own. The supervisor passes a signal on as 128 and its number.
fn was_not_killed(status: ExitStatus) -> bool {
    status.code().is_some_and(|code| code < 128)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree whose Makefile says, when asked for `vmlinux`, what this test wants; and what compiling it comes to.
    fn compile(rule: &str, cancel: &Cancel) -> (Result<Compiled>, String) {
        compile_in(tempfile::tempdir().unwrap().path(), rule, cancel)
    }

    fn compile_in(folder: &Path, rule: &str, cancel: &Cancel) -> (Result<Compiled>, String) {
        let makefile = format!("prepare:\n\t@echo preparing\nvmlinux:\n\t{rule}\n");
        fs::write(folder.join("Makefile"), makefile).unwrap();
        let source =
            KernelSource { id: "x".into(), workplace: "x".into(), tree: folder.into(), version: "9.9.1".into() };
        let log = folder.join("build.log");
        let (objects, events) = (folder.join("objects"), Events::none());
        fs::create_dir(&objects).unwrap();
        let workshop =
            Workshop { source: &source, objects, debuggable: &[], log: log.clone(), events: &events, cancel };
        let result = workshop.compile(&Options::default());
        (result, fs::read_to_string(log).unwrap_or_default())
    }

    #[test]
    fn the_log_has_all_that_make_said() {
        let (result, log) = compile("@echo one; echo 'a.c:1:1: error: x' >&2; exit 1", &Cancel::default());
        let error = result.unwrap_err();
        assert!(error.message.contains("a.c:1:1: error: x"), "{error}");
        assert!(error.hint.unwrap().contains("build.log"));
        assert!(log.contains("preparing\n") && log.contains("one\na.c:1:1: error: x\n"), "{log}");
    }

    #[test]
    fn an_interrupted_build_keeps_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("build.log");
        let cancel = Cancel::default();
        let flag = cancel.flag();
        let later = std::thread::spawn(move || {
            while !fs::read_to_string(&log).is_ok_and(|log| log.contains("begun\n")) {
                std::thread::sleep(Duration::from_millis(5));
            }
            flag.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        let (result, log) = compile_in(folder.path(), "@echo begun; sleep 60", &cancel);
        later.join().unwrap();
        assert_eq!(result.unwrap_err().kind, ErrorKind::Interrupted);
        assert!(log.contains("begun\n"), "{log}");
    }

    #[test]
    fn a_make_that_takes_too_long_is_the_kernels_failure() {
        let folder = tempfile::tempdir().unwrap();
        let source =
            KernelSource { id: "x".into(), workplace: "x".into(), tree: folder.path().into(), version: "9.9.1".into() };
        let (events, cancel) = (Events::none(), Cancel::default());
        let log = folder.path().join("build.log");
        let workshop = Workshop {
            source: &source,
            objects: folder.path().into(),
            debuggable: &[],
            log: log.clone(),
            events: &events,
            cancel: &cancel,
        };
        let slow = Tool::new("sh").args(["-c", "echo begun; sleep 60"]).deadline(Duration::from_millis(300));
        let error = workshop.drive(&slow, |_| {}).unwrap_err();
        assert_eq!((error.kind, error.kind.exit_code()), (ErrorKind::Kernel, 4), "{error}");
        assert!(error.hint.unwrap().contains("build.log"));
        assert_eq!(fs::read_to_string(log).unwrap(), "begun\n");
    }

    #[test]
    fn the_users_environment_does_not_get_to_make() {
        for name in
            ["KCFLAGS", "LLVM", "CC", "ARCH", "MAKEFLAGS", "KBUILD_OUTPUT", "KCONFIG_CONFIG", "CONFIG_FOO", "CPATH"]
        {
            assert!(is_foreign(OsStr::new(name)), "{name}");
        }
        for name in
            ["PATH", "HOME", "TMPDIR", "LC_ALL", "KBUILD_BUILD_USER", "KCONFIG_ALLCONFIG", "CCACHE_DIR", "KDBG_CC"]
        {
            assert!(!is_foreign(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn objects_are_recognised_in_real_and_dry_output() {
        assert!(is_object("  CC      net/ipv4/tcp.o") && is_object("  AR      net/built-in.a"));
        assert!(!is_object("  HOSTCC  scripts/x") && !is_object("  LD      vmlinux.o"));
        assert!(is_dry_object("set -e;  echo '  CC      net/x.o';    trap 'rm'"));
        assert!(!is_dry_object("set -e;  echo '  HOSTCC  scripts/x'"));
    }
}
