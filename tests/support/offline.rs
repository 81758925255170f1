//! Debuggers on what is left of a run: plain GDBs on a replay and on a core, `drgn` and `crash` on a core.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use super::Place;

/// How long a run, or a debugger, may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(180);

/// Ten hits, five on each of two CPUs: a loopback's packet is received where it is sent.
pub(crate) const TEN: &str = "name: ten
kernel: { version: '6.1' }
guest: { cpus: 2 }
record: true
probes: [{ name: rst, at: tcp_v4_send_reset, limit: 10 }]
trigger:
  - { name: hits, run: for each in 1 2 3 4 5 6 7 8 9 10; do taskset $((each % 2 + 1)) nc 127.0.0.1 9 < /dev/null; done, exit: 1, timeout: 60s }
";

/// The script for drgn.
const DRGN: &str = include_str!("../drgn/look.py");

/// Runs this recipe's text, recorded. Gives the report and the recording.
pub(crate) fn recorded(place: &Place, text: &str, more: &[&str]) -> (Value, PathBuf) {
    let recipe = place.file("test.yaml", text);
    let out = place.out();
    let line = ["run", recipe.to_str().unwrap(), "--out", out.to_str().unwrap(), "--accel", "tcg", "--json"];
    let report = place.kdbg(&[&line, more].concat()).wait_within(LIMIT).assert_passed();
    let recording = out.join("recording.kdbg");
    assert_eq!((report["files"]["recording"].as_str(), recording.is_file()), (Some("recording.kdbg"), true));
    (report, recording)
}

pub(crate) fn vmlinux(report: &Value) -> &str {
    report["kernel"]["vmlinux"].as_str().unwrap()
}

/// A program under a deadline, in a test's place.
fn bounded(place: &Place, program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.current_dir(place.path()).arg(LIMIT.as_secs().to_string()).arg(program);
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn gdb(place: &Place, vmlinux: &str, commands: &str) -> String {
    let script = place.file("commands.gdb", commands);
    let mut gdb = bounded(place, "gdb");
    gdb.args(["-nx", "-batch", "-iex", "set auto-load off", "-iex", "set debuginfod enabled off"]);
    said(&gdb.args(["-x", script.to_str().unwrap(), vmlinux]).output().unwrap())
}

/// Has a plain GDB do this with a recording: `SOCKET` in it is where kdbg serves it. Gives what it has said.
pub(crate) fn gdb_on_replay(place: &Place, run: &Path, vmlinux: &str, commands: &str) -> String {
    let replaying = place.kdbg(&["replay", run.to_str().unwrap()]);
    let line = replaying.wait_for_line();
    let target = line.split("'target remote ").nth(1).unwrap().trim_end_matches('\'');
    assert!(target.starts_with("127.0.0.1:") && line.starts_with(&format!("gdb '{vmlinux}'")), "{line}");
    let said = gdb(place, vmlinux, &commands.replace("SOCKET", target));
    replaying.signal(Signal::INT);
    replaying.wait().assert_code(130);
    said
}

/// Has a plain GDB do this with what the command that `kdbg replay` prints attaches to. Gives what both have said.
pub(crate) fn attached(place: &Place, run: &Path, commands: &str) -> String {
    let replaying = place.kdbg(&["replay", run.to_str().unwrap()]);
    let said = by_its_line(place, &replaying.wait_for_line(), commands);
    replaying.signal(Signal::INT);
    let ended = replaying.wait();
    ended.assert_code(130);
    said + &ended.stderr
}

/// Has GDB do this, started by this line as it is printed, but for where its commands come from.
pub(crate) fn by_its_line(place: &Place, line: &str, commands: &str) -> String {
    let script = place.file("commands.gdb", commands);
    let line = format!("exec {line} -nx -batch -iex 'set debuginfod enabled off' -x '{}'", script.display());
    said(&bounded(place, "sh").args(["-c", &line]).output().unwrap())
}

/// Changes what a recording says of itself, as somebody else may: a chunk has a kind (4 bytes), its content's length and checksum,
/// and the checksum of these.
pub(crate) fn change_head(recording: &Path, change: impl Fn(&mut Value)) {
    let bytes = fs::read(recording).unwrap();
    let (magic, rest) = bytes.split_at(8);
    let length = usize::try_from(u64::from_le_bytes(rest[4..12].try_into().unwrap())).unwrap();
    let mut head = serde_json::from_slice(&rest[28..28 + length]).unwrap();
    change(&mut head);
    let content = serde_json::to_vec(&head).unwrap();
    let mut prefix = rest[..4].to_vec();
    prefix.extend((content.len() as u64).to_le_bytes());
    prefix.extend(xxh3_64(&content).to_le_bytes());
    prefix.extend(xxh3_64(&prefix).to_le_bytes());
    fs::write(recording, [magic, &prefix, &content, &rest[28 + length..]].concat()).unwrap();
}

/// A core that kdbg has written.
pub(crate) struct Core {
    pub(crate) path: PathBuf,
    /// GDB's number of the CPU of the hit.
    thread: u64,
    vmlinux: String,
    /// What has an old crash show the stack.
    stack: String,
}

/// Has kdbg write a hit of a recorded run as a core.
pub(crate) fn export(place: &Place, report: &Value, hit: &Value) -> Core {
    let (out, index) = (place.out(), hit["index"].to_string());
    let ended = place.kdbg(&["export", out.to_str().unwrap(), "--hit", &index, "--vmcore"]).wait();
    ended.assert_code(0);
    assert!(!ended.stderr.contains("warning"), "{ended}");
    let path = out.join(format!("hit-{index}.vmcore"));
    let thread = hit["cpu"].as_u64().unwrap() + 1;
    let (core, vmlinux) = (path.display(), vmlinux(report));
    let select = if thread == 1 { String::new() } else { format!(" -ex 'thread {thread}'") };
    let lines =
        format!("gdb '{vmlinux}' '{core}'{select}\ndrgn -c '{core}' -s '{vmlinux}'\ncrash '{vmlinux}' '{core}'\n");
    assert_eq!(ended.stdout, lines);
    let (_, stack) = ended.stderr.split_once("crash before 9.0: ").unwrap();
    Core { path, thread, vmlinux: vmlinux.into(), stack: stack.replace('`', "").replace(", ", "\n") }
}

impl Core {
    /// Has a plain GDB do this with it, at the CPU of the hit: `target remote SOCKET` in the commands becomes this core.
    pub(crate) fn gdb(&self, place: &Place, commands: &str) -> String {
        let open = format!("core-file {}\nthread {}", self.path.display(), self.thread);
        gdb(place, &self.vmlinux, &commands.replace("target remote SOCKET", &open))
    }

    /// The stack of the CPU of the hit as drgn sees it, and the kernel's release.
    pub(crate) fn drgn(&self, place: &Place, modules: &Path) -> Value {
        let script = place.file("look.py", DRGN);
        let mut drgn = bounded(place, "python3");
        drgn.env("PYTHONPATH", modules).arg(script).arg(&self.path).arg(&self.vmlinux);
        let output = drgn.arg((self.thread - 1).to_string()).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(&output)))
    }

    /// What crash says to a command, and to that for the stack of the hit.
    pub(crate) fn crash(&self, place: &Place, command: &str) -> String {
        let is_old = crash_version().is_some_and(|version| version < 9);
        let stack = if is_old { self.stack.clone() } else { format!("bt -c {}", self.thread - 1) };
        let script = place.file("commands.crash", &format!("{command}\n{stack}\nquit\n"));
        let mut crash = bounded(place, "crash");
        crash.args(["-s", "-i"]).arg(script).arg(&self.vmlinux).arg(&self.path);
        said(&crash.env("HOME", place.path()).output().unwrap())
    }
}

/// The first number of crash's version, if there is one.
pub(crate) fn crash_version() -> Option<u32> {
    let output = Command::new(which::which("crash").ok()?).arg("--version").output().unwrap();
    let text = said(&output);
    text.lines().find_map(|line| line.strip_prefix("crash ")?.split('.').next()?.parse().ok())
}

/// Where drgn is, as `cargo xtask setup` puts it there; none where no wheel of it fits.
pub(crate) fn drgn_modules() -> Option<PathBuf> {
    let modules = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("drgn");
    let is_there = fs::exists(modules.join("requirements.txt")).unwrap();
    assert!(is_there || !has_wheel(), "there is no drgn to test with: `cargo xtask setup` installs it");
    is_there.then_some(modules)
}

/// Whether `tests/drgn/requirements.txt` has a wheel for this host.
fn has_wheel() -> bool {
    let fits = "import sys, platform\nis_known = (3, 9) <= sys.version_info[:2] <= (3, 14)\n\
                sys.exit(not is_known or platform.libc_ver()[0] != 'glibc')";
    cfg!(target_arch = "x86_64")
        && Command::new("python3").args(["-c", fits]).status().map_or(true, |status| status.success())
}
