//! Faults at random moments of a run with many hits: whoever is killed or goes mad, nothing is left behind and no hit that was
//! announced is lost.
//!
//! `cargo test` plays a round of each fault. `KDBG_FAULT_ROUNDS=100 cargo test --test rounds -- --nocapture` plays a hundred and
//! counts them; `KDBG_FAULT_SEED` takes another seed. A failed round says its seed and number, which say all that was random.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kdbg::report::model::Report;
use rustix::process::{Signal, kill_process};
use serde_json::Value;
use support::{Ended, HIT, Place, Running, recipe, slot};

/// How many rounds `cargo test` plays.
const FEW: u64 = FAULTS.len() as u64;
/// How many are played at once.
const AT_ONCE: usize = 2;
/// How long a round may take: the timeout of its step, and a busy host.
const LIMIT: Duration = Duration::from_secs(150);
/// After so many rounds the saved guest is thrown away, so that faults also hit one that boots or is being saved.
const BOOT_EVERY: u64 = 8;

/// Who is done harm, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Kdbg(Signal),
    Program(&'static str),
    Guest(&'static str),
}

/// The rounds take one after the other.
const FAULTS: [Fault; 10] = [
    // The ones that take long first.
    Fault::Guest("b() { b | b & }; b"),
    Fault::Guest("for i in 1 2 3 4; do dd if=/dev/zero of=/dev/null bs=80M & done; wait"),
    Fault::Kdbg(Signal::KILL),
    Fault::Guest("echo c > /proc/sysrq-trigger"),
    Fault::Program("qemu-system-x86_64"),
    Fault::Guest("halt -f"),
    Fault::Program("gdb"),
    Fault::Kdbg(Signal::INT),
    Fault::Kdbg(Signal::TERM),
    Fault::Guest("reboot -f"),
];

/// Numbers without an order, the same for the same seed (splitmix64).
fn scramble(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn number(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).map_or(usual, |text| text.parse().unwrap())
}

#[test]
fn whatever_dies_at_whatever_moment_nothing_is_left_and_no_announced_hit_is_lost() {
    let (seed, rounds) = (number("KDBG_FAULT_SEED", 1), number("KDBG_FAULT_ROUNDS", FEW));
    let common = Place::with_own_templates();
    let (next, counts) = (AtomicU64::new(0), Mutex::new(BTreeMap::<String, u64>::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let round = next.fetch_add(1, Ordering::Relaxed);
                    if round >= rounds {
                        return;
                    }
                    let started = Instant::now();
                    let (hits, end) = play(&common, seed, round);
                    eprintln!("round {round} of seed {seed}: {:?}, {:.1?}", fault(round), started.elapsed());
                    let mut counts = counts.lock().unwrap();
                    *counts.entry(format!("{:?} -> {end}", fault(round))).or_default() += 1;
                    *counts.entry("hits announced".into()).or_default() += hits;
                }
            });
        }
    });
    for (what, count) in counts.into_inner().unwrap() {
        eprintln!("{count:5}  {what}");
    }
    // The cache is as good as new: a run forks or boots, and sweeps what the killed ones left in the making.
    let place = place(&common);
    let report = place.run(&recipe(&[HIT])).assert_passed();
    assert_eq!(report["machine"]["forked"], true, "{report}");
    assert_eq!(common.cached("staging"), Vec::<String>::new());
    assert_eq!(common.cached("templates").len(), 1);
}

fn fault(round: u64) -> Fault {
    FAULTS[usize::try_from(round).unwrap() % FAULTS.len()]
}

/// A place that shares the cache of the others.
fn place(common: &Place) -> Place {
    let mut place = Place::new();
    place.move_cache(common.path().join("cache"));
    place
}

/// Plays a round; gives how many hits were announced, and how the run ended.
fn play(common: &Place, seed: u64, round: u64) -> (u64, String) {
    let _slot = slot();
    let place = place(common);
    if round % BOOT_EVERY == BOOT_EVERY - 1 {
        let _ = fs::remove_dir_all(common.path().join("cache/templates"));
    }
    let (fault, random) = (fault(round), scramble(seed.wrapping_mul(1 << 20).wrapping_add(round)));
    let moment = Duration::from_millis(random % 4000);
    let running = place.start(&text(fault, random));
    match fault {
        Fault::Kdbg(signal) => {
            std::thread::sleep(moment);
            running.signal(signal);
        }
        Fault::Program(name) => {
            std::thread::sleep(moment);
            kill(&place, &running, name);
        }
        Fault::Guest(_) => {}
    }
    let ended = running.wait_within(LIMIT);
    place.assert_nothing_left();
    assert_no_lock_is_held(common);
    let announced = announced(&ended);
    let end = judge(&place, fault, &ended, &announced)
        .unwrap_or_else(|why| panic!("round {round} of seed {seed}, {fault:?} at {moment:?}: {why}\n{ended}"));
    (announced.len() as u64, end)
}

/// A step that hits again and again, and goes on for long; what harms the guest begins at a random moment of it.
fn text(fault: Fault, random: u64) -> String {
    let harm = match fault {
        Fault::Guest(script) => format!("(sleep {}.{:03}; {script}) &", random % 2, random / 2 % 1000),
        Fault::Kdbg(_) | Fault::Program(_) => String::new(),
    };
    let many = "for i in 1 2 3 4 5 6 7 8; do nc 127.0.0.1 9 < /dev/null; done; sleep 1000";
    // What ends the guest ends the step, however long a busy host takes; nothing else does.
    let timeout = if ends_the_guest(fault).is_some() { "2m" } else { "8s" };
    recipe(&[HIT, &format!("{{ name: harm, timeout: {timeout}, run: '{harm} {many}' }}")])
}

/// What the error says of a guest that this fault ends.
fn ends_the_guest(fault: Fault) -> Option<&'static str> {
    match fault {
        Fault::Guest("echo c > /proc/sysrq-trigger") => Some("panicked"),
        Fault::Guest("halt -f") => Some("it was halted"),
        Fault::Guest("reboot -f") => Some("it restarted"),
        _ => None,
    }
}

/// Kills this program of the run, as soon as it is there.
fn kill(place: &Place, running: &Running, name: &str) {
    support::wait_until(LIMIT, name, || {
        let found = place.processes().into_iter().find(|process| process.executes(name));
        match found {
            Some(process) => {
                let _ = kill_process(process.pid(), Signal::KILL);
                Some(())
            }
            None => running.is_over().then_some(()),
        }
    });
}

/// All locks of the cache can be had, if not at once: the round beside this one takes some too.
fn assert_no_lock_is_held(common: &Place) {
    let locks = fs::read_dir(common.path().join("cache/locks")).into_iter().flatten().flatten();
    for lock in locks.filter(|lock| lock.path().is_file()) {
        let file = File::open(lock.path()).unwrap();
        support::wait_until(LIMIT, "a lock to be free", || file.try_lock().is_ok().then_some(()));
    }
}

/// The hits that were announced with `--json`.
fn announced(ended: &Ended) -> Vec<Value> {
    let lines = ended.stdout.lines().filter(|line| line.starts_with(r#"{"event":"hit_collected","#));
    // A killed kdbg may have stopped in the middle of a line.
    lines.filter_map(|line| serde_json::from_str::<Value>(line).ok()).map(|event| event["hit"].clone()).collect()
}

/// Whether everything is there that must be; how the run ended.
fn judge(place: &Place, fault: Fault, ended: &Ended, announced: &[Value]) -> Result<String, String> {
    let report: Option<Value> = match fs::read(place.out().join("report.json")) {
        Ok(bytes) => {
            serde_json::from_slice::<Report>(&bytes).map_err(|error| format!("report.json: {error}"))?;
            Some(serde_json::from_slice(&bytes).map_err(|error| format!("report.json: {error}"))?)
        }
        Err(_) => None,
    };
    if report.is_some() && place.out().join("hits.jsonl").exists() {
        return Err("the journal is still there beside the report".into());
    }
    let kept = match &report {
        Some(report) => report["hits"].as_array().unwrap().clone(),
        None => journal(&place.out())?,
    };
    let same = |hit: &Value| kept.iter().any(|kept| kept["index"] == hit["index"] && kept["frames"] == hit["frames"]);
    if let Some(lost) = announced.iter().find(|hit| !same(hit)) {
        return Err(format!("hit {} was announced and is not kept; kept are {}", lost["index"], kept.len()));
    }
    let Some(report) = report else {
        let killed = fault == Fault::Kdbg(Signal::KILL) && ended.code.is_none();
        // It was stopped before there was a run.
        let early = !place.out().exists();
        return if killed || early { Ok("no report".into()) } else { Err("there is no report".into()) };
    };
    let (kind, message) = (report["error"]["kind"].as_str(), report["error"]["message"].as_str().unwrap_or_default());
    let wanted = match fault {
        Fault::Program("qemu-system-x86_64") => Some(("guest", "QEMU")),
        Fault::Program(_) => Some(("debugger", "GDB")),
        Fault::Kdbg(_) => Some(("interrupted", "")),
        Fault::Guest(_) => ends_the_guest(fault).map(|words| ("guest", words)),
    };
    // A guest that dies before it is the run's is replaced.
    let was_replaced =
        fault == Fault::Program("qemu-system-x86_64") && report["warnings"].to_string().contains("saved");
    match wanted {
        _ if was_replaced && kind.is_none() => Ok("replaced".into()),
        Some((wanted, words)) if kind != Some(wanted) || !message.contains(words) => {
            Err(format!("the error should be of kind {wanted} and say `{words}`, but is {kind:?}: {message}"))
        }
        _ => Ok(format!("{}{}", report["outcome"].as_str().unwrap(), first_words(message))),
    }
}

fn first_words(message: &str) -> String {
    let mut text = String::new();
    if let Some(line) = message.split([';', ':']).next().filter(|line| !line.is_empty()) {
        write!(text, ": {line}").unwrap();
    }
    text
}

/// The hits of a run that has no report.
fn journal(out: &Path) -> Result<Vec<Value>, String> {
    let text = fs::read_to_string(out.join("hits.jsonl")).unwrap_or_default();
    // The last line may be half written; its hit was not announced then.
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole.map(|line| serde_json::from_str(line).map_err(|error| format!("hits.jsonl: {error}"))).collect()
}
