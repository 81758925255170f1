//! Builds that are disturbed: interrupted, killed, two at once, and by what make leaves running. The next build comes to a
//! whole kernel, whatever the last one left. The kernels are mocks ([`support::kernel`]).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;

use rustix::process::Signal;
use support::builds::{
    LIMIT, NOTICED, SOURCE, assert_nothing_filed, assert_tidy, build, built, objects, start, start_file, start_mock,
    times_made,
};
use support::kernel::Tree;
use support::{AFTERMATH, Place};

/// A place whose make leaves a process of another session behind, which holds make's output open, and goes on with
/// `step`. No signal to make's group reaches that process.
fn place_with_straggler(step: &str) -> Place {
    let place = Place::with_empty_cache();
    let gone = place.path().join("gone");
    let gone = gone.display();
    let straggler = format!("setsid sh -c \"touch '{gone}'; exec sleep 1000\" &");
    let tree = Tree::doing(format!("{straggler} until [ -e '{gone}' ]; do sleep 0.01; done; {step}"));
    tree.write(&place.path().join("cache/sources").join(SOURCE));
    place
}

#[test]
fn what_make_leaves_running_is_not_waited_for() {
    let place = place_with_straggler("true");
    let ended = start_mock(&place).wait_within(NOTICED);
    assert_eq!(built(&ended)["cached"], false);
    place.process("sleep");
}

#[test]
fn a_failure_of_make_does_not_wait_for_what_it_leaves_running() {
    let place = place_with_straggler("echo 'ld: no moon'; exit 1");
    start_mock(&place).wait_within(NOTICED).assert_refused(4, &["ld: no moon"]);
    assert_nothing_filed(&place);
    place.process("sleep");
}

/// Where a build can be when it is disturbed: it executes `sleep` there, until `place/go` exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Compile,
    /// Likewise, and whoever sleeps does not listen to TERM.
    StubbornCompile,
    File,
}

impl Stage {
    const ALL: [Stage; 3] = [Stage::Compile, Stage::StubbornCompile, Stage::File];

    /// A place where a build gets here and no further.
    fn place(self) -> Place {
        let place = Place::with_empty_cache();
        let go = place.path().join("go");
        // The last command keeps the shell, so that the sleeper is its child.
        let pause = format!("[ -e '{}' ] || {{ sleep 1000; :; }}", go.display());
        let tree = match self {
            Stage::Compile => Tree::doing(pause),
            Stage::StubbornCompile => Tree::doing(format!("trap '' TERM INT; {pause}")),
            Stage::File => {
                place.fake("gdb-add-index", &format!("{pause}; exec \"$real\" \"$@\""));
                Tree::default()
            }
        };
        tree.write(&place.path().join("cache/sources").join(SOURCE));
        place
    }
}

#[test]
fn ctrl_c_in_a_build_ends_all_of_it() {
    for stage in Stage::ALL {
        let place = stage.place();
        let running = start_mock(&place);
        place.process("sleep");
        running.signal(Signal::INT);
        running.wait_within(AFTERMATH).assert_refused(130, &["interrupted"]);
        assert_tidy(&place);
        assert_nothing_filed(&place);
    }
}

#[test]
fn ctrl_c_does_not_wait_for_what_make_leaves_running() {
    let place = place_with_straggler("exec tail -f /dev/null");
    let running = start_mock(&place);
    place.process("tail");
    running.signal(Signal::INT);
    running.wait_within(AFTERMATH).assert_refused(130, &["interrupted"]);
    place.process("sleep");
}

#[test]
fn a_killed_kdbg_takes_its_build_along_and_the_next_one_succeeds() {
    for stage in Stage::ALL {
        let place = stage.place();
        let running = start_mock(&place);
        place.process("sleep");
        running.signal(Signal::KILL);
        running.wait_within(AFTERMATH);
        place.assert_nothing_left();
        assert_nothing_filed(&place);
        // Only the next one can tidy up.
        assert_eq!(place.cached("staging").len(), usize::from(stage == Stage::File), "{stage:?}");
        place.file("go", "");
        assert_eq!(built(&build(&place))["cached"], false, "{stage:?}");
    }
}

/// A place with a whole build, and after it one of another kernel, which was killed, with all it had started, when it had
/// written half of the object anew.
fn place_with_half_an_object() -> Place {
    let place = Place::with_empty_cache();
    let go = place.file("go", "");
    let tree = Tree::doing(format!("[ -e '{}' ] || {{ echo half > '$(O)/a.o'; sleep 1000; :; }}", go.display()));
    tree.write(&place.path().join("cache/sources").join(SOURCE));
    built(&build(&place));
    fs::remove_file(&go).unwrap();
    let running = start(&place, "version: '6.1'");
    place.process("sleep");
    place.kill_all();
    running.wait_within(AFTERMATH);
    assert_eq!(fs::read_to_string(objects(&place).join("a.o")).unwrap(), "half\n");
    place.file("go", "");
    place
}

#[test]
fn an_object_that_a_killed_make_left_half_written_is_compiled_again() {
    let place = place_with_half_an_object();
    let next = start(&place, "version: '6.1'").wait_within(LIMIT);
    assert_eq!(built(&next)["cached"], false);
    assert!(next.stderr.contains("an earlier build of this source was killed"), "{next}");
    assert!(next.stderr.contains("is made again (1 file)"), "{next}");
    assert_eq!(times_made(&place), 3, "in the same folder");
    let third = start(&place, "version: '6.1', options: { BAZ: y }").wait_within(LIMIT);
    assert!(!third.stderr.contains("was killed"), "{third}");
}

#[test]
fn of_a_build_in_which_the_machine_went_down_nothing_is_taken() {
    let place = place_with_half_an_object();
    // The machine of this test cannot go down, but it can have been another one.
    fs::write(objects(&place).join("kdbg.making"), "another boot").unwrap();
    let next = start(&place, "version: '6.1'").wait_within(LIMIT);
    assert_eq!(built(&next)["cached"], false);
    assert!(next.stderr.contains("the machine went down in the middle of an earlier build"), "{next}");
    assert_eq!(times_made(&place), 1, "what was there is gone");
}

#[test]
fn of_two_builds_at_once_one_works_and_the_other_waits() {
    let place = Place::with_empty_cache();
    let go = place.path().join("go");
    let tree = Tree::doing(format!("until [ -e '{}' ]; do sleep 0.01; done", go.display()));
    tree.write(&place.path().join("cache/sources").join(SOURCE));
    let first = start_mock(&place);
    support::wait_until(LIMIT, "make vmlinux", || (times_made(&place) > 0).then_some(()));
    // The same file, which is not written again while one of them reads it.
    let [second, bored] = [(); 2].map(|()| start_file(&place, &place.path().join("test.yaml")));
    for waiting in [&second, &bored] {
        waiting.wait_for_words("another kdbg is building this kernel source; waiting for it");
    }
    bored.signal(Signal::INT);
    bored.wait_within(AFTERMATH).assert_refused(130, &["interrupted"]);
    place.file("go", "");
    let [first, second] = [first, second].map(|running| built(&running.wait_within(LIMIT)));
    assert_tidy(&place);
    assert_eq!((&first["cached"], &second["cached"]), (&false.into(), &true.into()));
    assert_eq!(first["key"], second["key"]);
    assert_eq!(times_made(&place), 1);
}
