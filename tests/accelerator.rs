//! What is known of KVM, and how: QEMUs that refuse it, and that take it and run under TCG, since no machine can be counted
//! on to have it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;

use support::{HIT, Place, recipe, skip, slot};

/// What `kdbg doctor` says of it where a guest has booted under KVM.
const PROVED: &str = "KVM: a guest has booted under it";

/// A place whose QEMU takes `-accel kvm` unless there is a file `broken`, and notes under which accelerators it was started
/// in `accelerators`. None where /dev/kvm does not open: then it is not asked.
fn place() -> Option<Place> {
    if let Err(why) = kdbg::guest::accelerator::device_opens() {
        skip(&why);
        return None;
    }
    let place = Place::with_own_templates();
    let folder = place.path().display().to_string();
    let body = format!(
        "for arg do
            shift
            case $arg in
            kvm)
                echo kvm >> '{folder}/accelerators'
                if [ -e '{folder}/broken' ]; then echo 'qemu: no such register' >&2; exit 1; fi
                arg=tcg;;
            tcg) echo tcg >> '{folder}/accelerators';;
            esac
            set -- \"$@\" \"$arg\"
        done
        exec \"$real\" \"$@\""
    );
    place.fake("qemu-system-x86_64", &body);
    Some(place)
}

/// Runs with the accelerator that kdbg chooses; gives what the report warns of.
#[track_caller]
fn run(place: &Place) -> String {
    let _ = fs::remove_dir_all(place.out());
    place.file("test.yaml", &recipe(&[HIT]));
    let ended = place.kdbg(&["run", "test.yaml", "--out", "out"]).wait();
    place.assert_nothing_left();
    ended.assert_passed()["warnings"].to_string()
}

/// What `kdbg doctor` says of the accelerator.
fn doctor(place: &Place) -> String {
    let said = place.kdbg(&["doctor"]).wait();
    place.assert_nothing_left();
    let mut lines = said.stdout.lines().filter_map(|line| line.trim().strip_prefix("accelerator "));
    lines.next().unwrap_or_else(|| panic!("{said}")).trim().into()
}

/// Under which accelerators QEMU was started since this was asked last.
fn started(place: &Place) -> String {
    let file = place.path().join("accelerators");
    let said = fs::read_to_string(&file).unwrap_or_default();
    let _ = fs::remove_file(file);
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn verdicts(place: &Place) -> usize {
    place.cached("").iter().filter(|name| name.starts_with("kvm-")).count()
}

#[test]
fn a_boot_under_kvm_proves_it_once_for_each_qemu() {
    let _slot = slot();
    let Some(place) = place() else { return };
    // Booted, and forked.
    let instead = "QEMU runs under tcg instead";
    assert!(run(&place).contains(instead));
    assert_eq!((started(&place).as_str(), verdicts(&place)), ("kvm kvm", 1));
    assert_eq!(doctor(&place), PROVED);
    assert!(run(&place).contains(instead));
    assert_eq!(started(&place), "kvm", "the run's; doctor knew");
    // Another QEMU is another question. It refuses.
    let file = place.path().join("bin/qemu-system-x86_64");
    let script = fs::read_to_string(&file).unwrap();
    fs::write(&file, script + "\n# another one\n").unwrap();
    place.file("broken", "");
    assert!(run(&place).contains("KVM refused: QEMU did not start (exit code 1): qemu: no such register"));
    assert_eq!(verdicts(&place), 2);
}

#[test]
fn a_refusal_is_remembered_until_doctor_finds_it_mended() {
    let _slot = slot();
    let Some(place) = place() else { return };
    place.file("broken", "");
    let why = "QEMU did not start (exit code 1): qemu: no such register";
    assert!(run(&place).contains(&format!("KVM refused: {why}")));
    assert!(started(&place).starts_with("kvm"));
    assert!(run(&place).contains(&format!("KVM refused: {why}")), "said in every report");
    assert!(!started(&place).contains("kvm"), "not tried again");
    assert_eq!(doctor(&place), format!("TCG: KVM is refused, a guest does not boot under it: {why}"));
    fs::remove_file(place.path().join("broken")).unwrap();
    assert_eq!(doctor(&place), PROVED);
    assert!(!run(&place).contains("refused"));
}

#[test]
fn a_host_that_fails_says_nothing_about_kvm() {
    let _slot = slot();
    let Some(mut place) = place() else { return };
    for folder in ["XDG_RUNTIME_DIR", "TMPDIR"] {
        place.set(folder, "/nowhere");
    }
    place.file("test.yaml", &recipe(&[HIT]));
    let ended = place.kdbg(&["run", "test.yaml", "--out", "out"]).wait();
    let report = ended.assert_error(3, "host", &["make a folder for sockets"]);
    assert!(report["warnings"].as_array().unwrap().is_empty(), "{ended}");
    assert_eq!((started(&place).as_str(), verdicts(&place)), ("", 0));
}
