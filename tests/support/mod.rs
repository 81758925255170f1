//! What the tests that run kdbg share: a place of their own for each, kdbg under a deadline, fakes in front of PATH, and
//! the proof that nothing stays behind.
//!
//! Every process that a test starts, directly or not, has the path of the test's place in its environment: that is how
//! it is found, and how what was left behind is found.
#![allow(dead_code, reason = "each test binary uses its part of this")]

pub(crate) mod builds;
pub(crate) mod dap;
pub(crate) mod equal;
pub(crate) mod kernel;
pub(crate) mod obtain;
pub(crate) mod offline;
pub(crate) mod packets;
pub(crate) mod plain;
pub(crate) mod printed;
pub(crate) mod second_look;
pub(crate) mod terminal;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// How long a run may take in a test; one takes two seconds on a quiet machine.
const LIMIT: Duration = Duration::from_secs(90);
/// How long what kdbg started may outlive it, and how long kdbg may take to end when asked to.
pub(crate) const AFTERMATH: Duration = Duration::from_secs(5);
/// How many guests run at once.
const SLOTS: usize = 2;

/// The beginning of most recipes here: the cheapest probe that hits, and only when asked to.
const HEAD: &str = "name: test\nkernel: { version: '6.1' }\nprobes:\n  - { name: rst, at: tcp_v4_send_reset }\n";
/// A step that makes that probe hit once.
pub(crate) const HIT: &str = "{ name: hit, run: nc 127.0.0.1 9 < /dev/null, exit: 1 }";
/// A step that does not end by itself in the time of a test.
pub(crate) const LONG: &str = "{ name: long, run: sleep 1000, timeout: 10m }";

/// A recipe that probes `tcp_v4_send_reset` and runs these steps.
pub(crate) fn recipe(steps: &[&str]) -> String {
    let mut text = format!("{HEAD}trigger:\n");
    steps.iter().for_each(|step| writeln!(text, "  - {step}").unwrap());
    text
}

/// A file of the repository.
pub(crate) fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Asks again and again until there is an answer; the deadline says what was waited for.
pub(crate) fn wait_until<T>(limit: Duration, what: &str, mut answer: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = answer() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {limit:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Says that a test is skipped, and why. Past the test's own output, which nobody sees of one that passes;
/// `cargo xtask test` counts the lines.
pub(crate) fn skip(why: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout(), "\nskipped: {}", why.trim().replace('\n', " "));
}

/// The right to run a guest, until dropped. Also proves that there is a kernel to run: a test never builds one.
pub(crate) fn slot() -> File {
    static KERNEL: OnceLock<Result<(), String>> = OnceLock::new();
    if let Err(why) = KERNEL.get_or_init(kernel_is_built) {
        panic!("there is no kernel to test with: `cargo xtask test` builds it first.\n{why}");
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let open = |slot| File::create(folder.join(format!("guest-slot-{slot}"))).unwrap();
    let slots: Vec<File> = (0..SLOTS).map(open).collect();
    wait_until(Duration::from_secs(600), "other tests' guests to end", || {
        slots.iter().find(|slot| slot.try_lock().is_ok()).map(|slot| slot.try_clone().unwrap())
    })
}

/// The right to run several guests: all slots there are. Who wants that waits for its turn first, or two would each hold
/// what the other waits for.
pub(crate) fn all_slots() -> Vec<File> {
    let turn = File::create(Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest-slots")).unwrap();
    wait_until(Duration::from_secs(600), "another test to have all slots", || turn.try_lock().ok());
    std::iter::once(turn).chain((0..SLOTS).map(|_| slot())).collect()
}

fn kernel_is_built() -> Result<(), String> {
    let place = Place::new();
    place.fake("make", "echo 'a test does not build kernels'; exit 1");
    let recipe = in_repository("recipes/tcp-reset.yaml");
    let ended = place.kdbg(&["build", recipe.to_str().unwrap()]).wait();
    if ended.code == Some(0) { Ok(()) } else { Err(ended.to_string()) }
}

/// A folder of a test's own, in which kdbg runs: `out/` for the run, `bin/` in front of PATH, `private/` for sockets and
/// temporary files.
pub(crate) struct Place {
    folder: tempfile::TempDir,
    path: std::ffi::OsString,
    cache: Option<PathBuf>,
    /// What stands for kernel.org.
    pub(crate) mirror: Option<String>,
    variables: Vec<(&'static str, String)>,
}

impl Place {
    pub(crate) fn new() -> Place {
        let folder = tempfile::Builder::new().prefix("kdbg-test-").tempdir().unwrap();
        for name in ["bin", "private"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let usual = std::env::var_os("PATH").unwrap();
        let own = [folder.path().join("bin")];
        let path = std::env::join_paths(own.into_iter().chain(std::env::split_paths(&usual))).unwrap();
        Place { folder, path, cache: None, mirror: None, variables: Vec::new() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Where runs put their results.
    pub(crate) fn out(&self) -> PathBuf {
        self.path().join("out")
    }

    /// A file with this text.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Sets an environment variable of kdbg's.
    pub(crate) fn set(&mut self, name: &'static str, value: impl Into<String>) {
        self.variables.push((name, value.into()));
    }

    /// Adds this shell script as `program`.
    pub(crate) fn script(&self, program: &str, body: &str) {
        let path = self.file(&format!("bin/{program}"), &format!("#!/bin/sh\n{body}\n"));
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Makes `program` this shell script. `$real` in it is the real program, which still answers for its version.
    pub(crate) fn fake(&self, program: &str, body: &str) {
        let real = which::which(program).unwrap();
        let real = real.display();
        let body = format!("real='{real}'\n[ \"$1\" = --version ] && exec \"$real\" \"$@\"\n{body}");
        self.script(program, &body);
    }

    /// Makes PATH hold everything that it held, except `program`.
    pub(crate) fn hide(&mut self, program: &str) {
        let bin = self.path().join("bin");
        for folder in std::env::split_paths(&std::env::var_os("PATH").unwrap()) {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.file_name() != program {
                    // The first of a name wins, as on PATH.
                    let _ = std::os::unix::fs::symlink(entry.path(), bin.join(entry.file_name()));
                }
            }
        }
        self.path = bin.into();
    }

    /// One with a cache of its own, `cache/`, that is empty.
    pub(crate) fn with_empty_cache() -> Place {
        let mut place = Place::new();
        place.move_cache(place.path().join("cache"));
        place
    }

    /// One with a cache of its own that has the usual kernels: what it boots, it saves for itself.
    pub(crate) fn with_own_templates() -> Place {
        let place = Place::with_empty_cache();
        place.link_kernels();
        place
    }

    /// Links every entry by itself: what deletes or adds one here leaves the user's cache as it is.
    fn link_kernels(&self) {
        let (usual, own) = (user_cache(), self.path().join("cache"));
        for folder in ["kernels/inputs", "kernels", "sources", "objects"] {
            fs::create_dir_all(own.join(folder)).unwrap();
            for entry in fs::read_dir(usual.join(folder)).into_iter().flatten().flatten() {
                let _ = std::os::unix::fs::symlink(entry.path(), own.join(folder).join(entry.file_name()));
            }
        }
    }

    /// What is in this folder of that cache, by name.
    pub(crate) fn cached(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path().join("cache").join(folder)).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
    }

    /// Moves kdbg's cache.
    pub(crate) fn move_cache(&mut self, to: PathBuf) {
        self.cache = Some(to);
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kdbg"));
        command.args(args);
        self.surround(command)
    }

    /// Gives a command what surrounds kdbg here, so that it counts among this place's processes.
    pub(crate) fn surround(&self, mut command: Command) -> Command {
        let private = self.path().join("private");
        command.current_dir(self.path()).env("PATH", &self.path);
        command.env("XDG_RUNTIME_DIR", &private).env("TMPDIR", &private);
        // No test asks kernel.org: nobody listens there.
        command.env("KDBG_KERNEL_MIRROR", self.mirror.as_deref().unwrap_or("http://127.0.0.1:9"));
        // The host's choices are not the tests'.
        command
            .env_remove("KDBG_CC")
            .env("KDBG_CCACHE", "0")
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
        let own = self.path().join("cache");
        match &self.cache {
            Some(cache) => drop(command.env("KDBG_CACHE_DIR", cache)),
            // What a QEMU that is a script boots is not for others.
            None if self.path().join("bin/qemu-system-x86_64").is_file() => {
                self.link_kernels();
                command.env("KDBG_CACHE_DIR", own);
            }
            None => {}
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts kdbg.
    pub(crate) fn kdbg(&self, args: &[&str]) -> Running {
        Running::start(self.command(args), self.out(), Reader::Patient)
    }

    /// Starts kdbg in another folder than the place's own.
    pub(crate) fn kdbg_in(&self, folder: &Path, args: &[&str]) -> Running {
        let mut command = self.command(args);
        command.current_dir(folder);
        Running::start(command, self.out(), Reader::Patient)
    }

    /// Starts kdbg where `folder` of the cache, with what is in it, is on a disk of its own, as small as this (`64k`), which
    /// is gone afterwards. None where this user may mount nothing.
    pub(crate) fn kdbg_with_small_disk(&self, folder: &str, size: &str, args: &[&str]) -> Option<Running> {
        let folder = self.path().join("cache").join(folder);
        fs::create_dir_all(&folder).unwrap();
        let script = format!(
            "mount -t tmpfs -o size={size} tmpfs /mnt && cp -a '{folder}/.' /mnt && mount --move /mnt '{folder}'",
            folder = folder.display()
        );
        self.kdbg_unshared("--mount", &script, args)
    }

    /// Starts kdbg in a namespace of its own, which this script sets up first. None where this user may not have that.
    pub(crate) fn kdbg_unshared(&self, namespace: &str, script: &str, args: &[&str]) -> Option<Running> {
        let unshared = |program: &str, args: &[&str]| {
            let mut command = Command::new("unshare");
            let script = format!("{script} && exec \"$@\"");
            command.args(["--user", "--map-root-user", namespace, "sh", "-c", &script, "sh", program]).args(args);
            command
        };
        let tried = unshared("true", &[]).output().unwrap();
        if !tried.status.success() {
            skip(&format!("`unshare {namespace}` with `{script}`: {}", String::from_utf8_lossy(&tried.stderr)));
            return None;
        }
        let command = self.surround(unshared(env!("CARGO_BIN_EXE_kdbg"), args));
        Some(Running::start(command, self.out(), Reader::Patient))
    }

    /// Starts kdbg with this on its standard input.
    pub(crate) fn kdbg_reading(&self, args: &[&str], typed: &str) -> Running {
        let file = self.file("typed", typed);
        let mut command = self.command(args);
        command.stdin(File::open(file).unwrap());
        Running::start(command, self.out(), Reader::Patient)
    }

    /// Starts kdbg; whoever reads its standard output goes away after the first line.
    pub(crate) fn kdbg_into_head(&self, args: &[&str]) -> Running {
        Running::start(self.command(args), self.out(), Reader::GoneAfterALine)
    }

    /// Starts a run of this recipe's text into [`Place::out`], with events as JSON.
    pub(crate) fn start(&self, recipe: &str) -> Running {
        let recipe = self.file("test.yaml", recipe);
        self.start_file(&recipe)
    }

    /// Starts a run of a recipe's file, likewise.
    pub(crate) fn start_file(&self, recipe: &Path) -> Running {
        let out = self.out();
        let args = ["run", recipe.to_str().unwrap(), "--out", out.to_str().unwrap(), "--accel", "tcg", "--json"];
        self.kdbg(&args)
    }

    /// Runs this recipe's text to its end; nothing may be left behind.
    pub(crate) fn run(&self, recipe: &str) -> Ended {
        let ended = self.start(recipe).wait();
        self.assert_nothing_left();
        ended
    }

    /// All processes of this place that live.
    pub(crate) fn processes(&self) -> Vec<Process> {
        let mark = self.path().to_str().unwrap();
        let pids = fs::read_dir("/proc").unwrap().flatten();
        pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter_map(|pid| Process::read(pid, mark))
            .collect()
    }

    /// The process of this place that executes `program`, once there is one.
    pub(crate) fn process(&self, program: &str) -> Pid {
        wait_until(LIMIT, program, || {
            let found = self.processes().into_iter().find(|process| process.executes(program))?;
            Pid::from_raw(found.pid)
        })
    }

    /// Kills all processes of this place at once, as nothing but the kernel can.
    pub(crate) fn kill_all(&self) {
        for process in self.processes() {
            let _ = Pid::from_raw(process.pid).map(|pid| kill_process(pid, Signal::KILL));
        }
    }

    /// No process, no socket, no temporary file.
    #[track_caller]
    pub(crate) fn assert_nothing_left(&self) {
        let deadline = Instant::now() + AFTERMATH;
        loop {
            let files: Vec<_> = fs::read_dir(self.path().join("private")).unwrap().flatten().collect();
            let processes = self.processes();
            if files.is_empty() && processes.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "left behind after {AFTERMATH:?}: {files:?} {processes:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The cache that tests share with the user.
fn user_cache() -> PathBuf {
    kdbg::store::Cache::place().unwrap()
}

impl Drop for Place {
    /// A test that failed leaves nothing behind either.
    fn drop(&mut self) {
        self.kill_all();
    }
}

/// A process, as /proc shows it.
#[derive(Debug)]
pub(crate) struct Process {
    pid: i32,
    line: Vec<String>,
}

impl Process {
    /// The process, if `mark` is in its environment or its command line. One that is dead but not buried has neither.
    fn read(pid: i32, mark: &str) -> Option<Process> {
        let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let line = String::from_utf8_lossy(&read("cmdline")).into_owned();
        let environment = String::from_utf8_lossy(&read("environ")).into_owned();
        let marked = line.contains(mark) || environment.contains(mark);
        marked.then(|| Process { pid, line: line.split_terminator('\0').map(String::from).collect() })
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.pid).unwrap()
    }

    pub(crate) fn executes(&self, program: &str) -> bool {
        self.line.first().is_some_and(|first| Path::new(first).file_name().is_some_and(|name| name == program))
    }
}

/// How long somebody reads kdbg's standard output.
#[derive(Clone, Copy)]
enum Reader {
    Patient,
    GoneAfterALine,
}

/// kdbg, at work. Dropping it kills it.
pub(crate) struct Running {
    child: std::process::Child,
    stdout: Heard,
    stderr: Heard,
    out: PathBuf,
    started: Instant,
}

impl Running {
    fn start(mut command: Command, out: PathBuf, reader: Reader) -> Running {
        let mut child = command.spawn().unwrap();
        let stdout = Heard::listen(child.stdout.take().unwrap(), reader);
        let stderr = Heard::listen(child.stderr.take().unwrap(), Reader::Patient);
        Running { child, stdout, stderr, out, started: Instant::now() }
    }

    /// Starts kdbg, whose standard output comes out of `stdout`.
    fn watch(mut command: Command, stdout: File, out: PathBuf) -> Running {
        let mut child = command.spawn().unwrap();
        let stdout = Heard::listen(stdout, Reader::Patient);
        let stderr = Heard::listen(child.stderr.take().unwrap(), Reader::Patient);
        Running { child, stdout, stderr, out, started: Instant::now() }
    }

    /// Waits for the event `kind` in whose line `text` stands.
    pub(crate) fn wait_for_event(&self, kind: &str, text: &str) {
        let kind = format!(r#"{{"event":"{kind}","#);
        let what = format!("{kind} with {text}");
        wait_until(LIMIT, &what, || {
            let said = self.stdout.text();
            said.lines().any(|line| line.starts_with(&kind) && line.contains(text)).then_some(())
        });
    }

    /// Waits for a line of kdbg's standard output.
    pub(crate) fn wait_for_line(&self) -> String {
        wait_until(LIMIT, "a line of its standard output", || self.stdout.text().lines().next().map(String::from))
    }

    /// Waits until kdbg has said `text` on its standard error.
    pub(crate) fn wait_for_words(&self, text: &str) {
        wait_until(LIMIT, text, || {
            let is_over = self.stderr.is_over();
            let is_said = self.stderr.text().contains(text);
            assert!(is_said || !is_over, "kdbg ended without a word of `{text}`");
            is_said.then_some(())
        });
    }

    /// Waits until kdbg, or what it has become, has said `text` on its standard output.
    pub(crate) fn wait_for_said(&self, text: &str) {
        wait_until(LIMIT, text, || self.stdout.text().contains(text).then_some(()));
    }

    /// The most memory that kdbg has had until now, in KiB; 0 once it has ended.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }

    /// Whether kdbg's output has ended, as it does when kdbg ends.
    pub(crate) fn is_over(&self) -> bool {
        self.stdout.is_over() && self.stderr.is_over()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until kdbg has ended, and its output too.
    pub(crate) fn wait(self) -> Ended {
        self.wait_within(LIMIT)
    }

    pub(crate) fn wait_within(mut self, limit: Duration) -> Ended {
        let ended = wait_until(limit, "kdbg to end", || match self.child.try_wait().unwrap() {
            Some(status) if self.stdout.is_over() && self.stderr.is_over() => Some(status),
            _ => None,
        });
        Ended {
            code: ended.code(),
            stdout: self.stdout.text(),
            stderr: self.stderr.text(),
            report: fs::read_to_string(self.out.join("report.json")).ok(),
            took: self.started.elapsed(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("kdbg had said:\n{}{}", self.stdout.text(), self.stderr.text());
        }
    }
}

/// A stream of kdbg's, read as it comes.
struct Heard {
    text: Arc<Mutex<String>>,
    thread: JoinHandle<()>,
}

impl Heard {
    fn listen(stream: impl Read + Send + 'static, reader: Reader) -> Heard {
        let text = Arc::new(Mutex::new(String::new()));
        let heard = Arc::clone(&text);
        let thread = std::thread::spawn(move || {
            let lines = BufReader::new(stream).split(b'\n').map_while(std::io::Result::ok);
            let count = match reader {
                Reader::Patient => usize::MAX,
                Reader::GoneAfterALine => 1,
            };
            for line in lines.take(count) {
                let mut heard = heard.lock().unwrap();
                heard.push_str(&String::from_utf8_lossy(&line));
                heard.push('\n');
            }
        });
        Heard { text, thread }
    }

    fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }

    fn is_over(&self) -> bool {
        self.thread.is_finished()
    }
}

/// What kdbg left when it ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
    report: Option<String>,
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "kdbg ended with {:?} after {:?}; it said", self.code, self.took)?;
        let said = self.stdout.lines().chain(self.stderr.lines());
        said.map(|line| line.chars().take(4000).collect::<String>()).try_for_each(|line| writeln!(f, "  {line}"))?;
        write!(f, "and wrote {}", if self.report.is_some() { "a report" } else { "no report" })
    }
}

impl Ended {
    /// Its report.json.
    pub(crate) fn report(&self) -> Value {
        let text = self.report.as_ref().unwrap_or_else(|| panic!("{self}"));
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// It ended with this exit code.
    #[track_caller]
    pub(crate) fn assert_code(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// It ended well, and so says its report.
    #[track_caller]
    pub(crate) fn assert_passed(&self) -> Value {
        self.assert_code(0);
        let report = self.report();
        assert_eq!((&report["outcome"], &report["error"]), (&"passed".into(), &Value::Null), "{self}");
        report
    }

    /// It ended with an error, and so says its report: the kind, and a message with `texts` in it.
    #[track_caller]
    pub(crate) fn assert_error(&self, code: i32, kind: &str, texts: &[&str]) -> Value {
        self.assert_code(code);
        let report = self.report();
        let outcome = if kind == "interrupted" { "interrupted" } else { "error" };
        assert_eq!((&report["outcome"], &report["error"]["kind"]), (&outcome.into(), &kind.into()), "{self}");
        let message = report["error"]["message"].as_str().unwrap();
        texts.iter().for_each(|text| assert!(message.contains(text), "no `{text}` in `{message}`: {self}"));
        report
    }

    /// It ended with an error before there was a run directory; `texts` are in what it says.
    #[track_caller]
    pub(crate) fn assert_refused(&self, code: i32, texts: &[&str]) {
        self.assert_code(code);
        assert!(self.report.is_none(), "{self}");
        texts.iter().for_each(|text| assert!(self.stderr.contains(text), "no `{text}` in: {self}"));
    }
}

/// The probes' names of all hits, in order.
pub(crate) fn probes_of_hits(report: &Value) -> Vec<&str> {
    report["hits"].as_array().unwrap().iter().map(|hit| hit["probe"].as_str().unwrap()).collect()
}
