//! Every value that kdbg reports is the one that plain GDB prints at the same stop.
//!
//! At each stop of a run, when kdbg is done with it and the guest is about to run on, a second GDB that knows nothing of kdbg
//! looks at the same guest ([`support::second_look`]): `info args` and `info locals` in every frame of its backtrace, with
//! breakpoints set by `break` on the same functions. Compared are function, address, file and line of every frame, and name,
//! order and value of every argument and local, of those too that are optimized out; `show` entries, returned values and the
//! jiffies as well. It is also proof that kdbg leaves the CPU's registers as they were.
//!
//! The plain GDB gets these settings only:
//! - `print elements`, `repeats`, `max-depth` and `null-stop` as kdbg has them, which bound what is printed of a value;
//! - `print frame-arguments all` and `entry-values if-needed`: what is known of an argument at its entry only (`skb@entry`)
//!   stands in a frame's line, which is short by default;
//! - `print sevenbit-strings on`, `charset ASCII` and `width 0`: bytes and lines as they are, whatever the terminal and its locale.
//!
//! What is not compared: a value that kdbg calls *not set yet*, for which GDB prints whatever is in the variable's place; types;
//! decoded objects; frames beyond the kernel's entry, which GDB makes up, and those where plain GDB has ended and kdbg goes
//! on below an interrupt. The line of a function's entry: kdbg gives that of its declaration, GDB one of the code there. Of
//! macros' temporaries, which kdbg leaves out, only how many have a value. kdbg takes the names of per-CPU symbols from small
//! numbers (`0x0 <fixed_percpu_data>`), so that is done to GDB's text here. GDB takes labels without code for locals; kdbg does not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::Path;
use std::time::Duration;

use support::plain::{Comparison, LOOP, RECIPE, STOPS, VALUES, WITHOUT_GDB, script};
use support::printed::looks;
use support::{Place, obtain, second_look, slot};

/// How long a run may take.
const LIMIT: Duration = Duration::from_secs(180);

fn compare_on(kernel: &str) {
    let place = Place::new();
    let recipe = place.file("test.yaml", RECIPE);
    let Some(built) = obtain::kernel(&recipe, &["--kernel", kernel]) else { return };
    let _slot = slot();
    let plain = second_look::attend(&place, Path::new(built["vmlinux"].as_str().unwrap()), &script(LOOP));
    let ended = place
        .kdbg(&["run", "test.yaml", "--kernel", kernel, "--accel", "tcg", "--breakpoints", "--out", "out", "--json"])
        .wait_within(LIMIT);
    let mut report = ended.assert_passed();
    let (printed, seen) = plain.join().unwrap();
    let looks = looks(&printed);
    assert_eq!(looks.len(), seen, "{}", printed.lines().last().unwrap_or_default());
    let all = Comparison::of(&report, &looks);
    assert!(all.differences.is_empty(), "{} of {all:#?}", all.differences.len());
    assert!(all.stops >= STOPS && all.values >= VALUES && all.without_gdb >= WITHOUT_GDB, "{all:?}");
    println!("{kernel}: {all:?}");
    // One wrong value is noticed.
    let hit = report["hits"].as_array_mut().unwrap().first_mut().unwrap();
    let args = hit["frames"][0]["args"].as_array_mut().unwrap();
    let value = args.iter_mut().find(|var| var["available"] == true).unwrap();
    value["value"] = format!("{}0", value["value"].as_str().unwrap()).into();
    assert_eq!(Comparison::of(&report, &looks).differences.len(), 1);
    place.assert_nothing_left();
}

#[test]
fn all_values_of_6_1_are_those_of_plain_gdb() {
    compare_on("6.1");
}

#[test]
fn all_values_of_6_12_are_those_of_plain_gdb() {
    compare_on("6.12");
}
