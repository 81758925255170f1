//! Runs that are packed, and replayed where nothing else of them is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use support::offline::{attached, by_its_line, change_head, recorded, vmlinux};
use support::{Place, recipe, slot};

/// A recorded run in a place with a cache of its own, and that run packed in this way. Then the run, the kernel and its
/// source are gone from where they were.
fn sent(place: &Place, more: &[&str]) -> (Value, PathBuf) {
    let (report, _) = recorded(place, &recipe(&[support::HIT]), &["--record"]);
    let out = place.out();
    let line = [&["pack", out.to_str().unwrap(), "--output", "sent.kdbgpack"], more].concat();
    let ended = place.kdbg(&line).wait();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "sent.kdbgpack\n"), "{ended}");
    fs::remove_dir_all(out).unwrap();
    fs::remove_dir_all(place.path().join("cache")).unwrap();
    assert!(!Path::new(vmlinux(&report)).exists());
    (report, place.path().join("sent.kdbgpack"))
}

fn refused(place: &Place, line: &[&str], texts: &[&str]) {
    let ended = place.kdbg(line).wait();
    assert_eq!(ended.code, Some(2), "{ended}");
    texts.iter().for_each(|text| assert!(ended.stderr.contains(text), "no `{text}` in {ended}"));
    let left = place.cached("staging");
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_pack_replays_where_nothing_else_of_the_run_is() {
    let _slot = slot();
    let place = Place::with_own_templates();
    let (report, pack) = sent(&place, &[]);
    let hit = &report["hits"][0];
    let said = attached(&place, &pack, "bt\nframe function tcp_v4_send_reset\ninfo source\nlist 1,3\nmonitor hits\n");
    assert!(said.contains("hit 1 of 1: probe rst") || said.contains("* hit 1  probe rst"), "{said}");
    for frame in hit["frames"].as_array().unwrap() {
        assert!(said.contains(frame["symbol"].as_str().unwrap()), "{}: {said}", frame["symbol"]);
    }
    // Its source comes out of the pack.
    let place_of = said.lines().find_map(|line| line.strip_prefix("Located in ")).unwrap_or_else(|| panic!("{said}"));
    assert!(place_of.contains("/cache/staging/") && place_of.contains("/source/"), "{place_of}");
    assert!(said.contains("SPDX-License-Identifier"), "{said}");
    assert!(place.cached("staging").is_empty());
    place.assert_nothing_left();
}

#[test]
fn a_pack_is_an_archive_whose_folder_is_a_run() {
    let _slot = slot();
    let place = Place::with_own_templates();
    let (report, pack) = sent(&place, &[]);
    let mut tar = Command::new("tar");
    let unpacked = tar.arg("xf").arg(&pack).current_dir(place.path()).status();
    if !unpacked.is_ok_and(|status| status.success()) {
        return support::skip("this tar does not read zstd");
    }
    let run = place.path().join(format!("test-{}", place.out().file_name().unwrap().to_str().unwrap()));
    let read = |name: &str| fs::read_to_string(run.join(name)).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&read("report.json")).unwrap(), report);
    assert_eq!(read("recipe.yaml"), recipe(&[support::HIT]));
    assert!(read("report.md").contains("tcp_v4_send_reset") && read("kdbg.lock.yaml").contains("build_id"));
    // vmlinux and the source are found beside the recording.
    let said = attached(&place, &run, "bt\nframe function tcp_v4_send_reset\ninfo source\n");
    assert!(said.contains("tcp_v4_send_reset"), "{said}");
    assert!(said.contains(&format!("Located in {}/source/", run.display())), "{said}");
    refused(&place, &["export", pack.to_str().unwrap(), "--hit", "1", "--vmcore"], &["is a pack", "tar xf"]);
    let ended = place.kdbg(&["export", run.to_str().unwrap(), "--hit", "1", "--vmcore"]).wait();
    ended.assert_code(0);
    assert!(run.join("hit-1.vmcore").is_file() && !ended.stderr.contains("warning"), "{ended}");
    place.assert_nothing_left();
}

/// Unpacks it with `tar`; none, which is said, if that does not read zstd.
fn untarred(place: &Place, pack: &Path, to: &str) -> Option<PathBuf> {
    let into = place.path().join(to);
    fs::create_dir(&into).unwrap();
    let unpacked = Command::new("tar").arg("xf").arg(pack).current_dir(&into).status();
    if !unpacked.is_ok_and(|status| status.success()) {
        support::skip("this tar does not read zstd");
        return None;
    }
    let mut folders = fs::read_dir(&into).unwrap().map(|entry| entry.unwrap().path());
    Some(folders.next().unwrap()).filter(|_| folders.next().is_none())
}

#[test]
fn a_pack_of_what_was_a_pack_has_no_more_than_that_and_its_source() {
    let _slot = slot();
    let mut place = Place::with_own_templates();
    let (_, pack) = sent(&place, &[]);
    let Some(run) = untarred(&place, &pack, "first") else { return };
    // A kdbg that was killed while it wrote a core, or a pack, has left this.
    fs::write(run.join(".tmpAbCdEf"), "half").unwrap();
    let line = ["pack", run.to_str().unwrap(), "--thin", "--output", "again.kdbgpack"];
    let ended = place.kdbg(&line).wait();
    assert!(ended.code == Some(0) && !ended.stderr.contains("warning"), "{ended}");
    let again = place.path().join("again.kdbgpack");
    let Some(thin) = untarred(&place, &again, "second") else { return };
    for name in ["vmlinux", "vmlinux-gdb.py", "scripts", ".tmpAbCdEf"] {
        assert_eq!((name, run.join(name).exists(), thin.join(name).exists()), (name, true, false));
    }
    let list = |run: &Path| -> Value { serde_json::from_slice(&fs::read(run.join("pack.json")).unwrap()).unwrap() };
    assert!(list(&run)["tree"].is_string() && list(&run)["tree"] == list(&thin)["tree"], "{}", list(&thin)["tree"]);
    let files = list(&thin)["files"].as_object().unwrap().clone();
    assert!(!files.contains_key("pack.json") && files.keys().any(|path| path.starts_with("source/")), "{files:?}");
    place.move_cache(kdbg::store::Cache::place().unwrap());
    for run in [&again, &thin] {
        let said = attached(&place, run, "bt\nframe function tcp_v4_send_reset\ninfo source\nlist 1,3\n");
        let located =
            said.lines().find_map(|line| line.strip_prefix("Located in ")).unwrap_or_else(|| panic!("{said}"));
        assert!(located.contains("/source/") && said.contains("SPDX-License"), "{said}");
    }
    place.assert_nothing_left();
}

/// Whoever has sent it says where vmlinux was, and means what lies in the folder in which it is replayed.
#[test]
fn nothing_of_a_foreign_pack_is_run() {
    let _slot = slot();
    let place = Place::with_own_templates();
    let (_, pack) = sent(&place, &[]);
    let Some(run) = untarred(&place, &pack, "first") else { return };
    let evil = place.path().join("evil");
    let script = format!("open({:?}, 'w')\n", evil.display().to_string());
    fs::write(run.join("vmlinux-gdb.py"), &script).unwrap();
    // Of a kernel that is nowhere, the name stands in the line all the same.
    let (recording, apart) = (run.join("recording.kdbg"), place.path().join("apart/recording.kdbg"));
    fs::create_dir(apart.parent().unwrap()).unwrap();
    for vmlinux in ["--eval-command=!{touch,evil}", "-x=evil", "vmlinux"] {
        let _ = fs::remove_file(&apart);
        fs::copy(&recording, &apart).unwrap();
        change_head(&apart, |head| {
            head["kernel"]["vmlinux"] = vmlinux.into();
            head["kernel"]["build_id"] = "00ff".into();
        });
        let replaying = place.kdbg(&["replay", apart.to_str().unwrap()]);
        let line = replaying.wait_for_line();
        assert!(line.starts_with("gdb -iex 'set auto-load off' 'vmlinux' -ex "), "{vmlinux}: {line}");
        replaying.signal(rustix::process::Signal::INT);
        replaying.wait().assert_code(130);
    }
    for vmlinux in ["vmlinux", "./vmlinux", run.join("vmlinux").to_str().unwrap()] {
        change_head(&run.join("recording.kdbg"), |head| head["kernel"]["vmlinux"] = vmlinux.into());
        let replaying = place.kdbg_in(&run, &["replay", "."]);
        let line = replaying.wait_for_line();
        assert!(line.starts_with("gdb -iex 'set auto-load off' '/"), "{vmlinux}: {line}");
        // As if its user had allowed everything.
        let careless = line.replacen("gdb ", "gdb -iex 'add-auto-load-safe-path /' ", 1);
        let said = by_its_line(&place, &careless, "bt\n");
        assert!(said.contains("tcp_v4_send_reset") && !evil.exists(), "{vmlinux}: {said}");
        // It is run where nothing says that it should not be.
        by_its_line(&place, &careless.replace("-iex 'set auto-load off' ", ""), "detach\n");
        assert!(evil.exists(), "{vmlinux}: nothing was tried");
        fs::remove_file(&evil).unwrap();
        let launch = fs::read_to_string(run.join(".vscode/launch.json")).unwrap();
        assert!(!launch.contains("vmlinux-gdb.py") && launch.matches("-iex").count() == 3, "{launch}");
        replaying.signal(rustix::process::Signal::INT);
        replaying.wait().assert_code(130);
    }
    place.assert_nothing_left();
}

#[test]
fn a_thin_pack_finds_its_kernel_or_says_which_one_it_wants() {
    let _slot = slot();
    let mut place = Place::with_own_templates();
    let (report, pack) = sent(&place, &["--thin"]);
    let id = report["kernel"]["build_id"].as_str().unwrap();
    assert!(pack.metadata().unwrap().len() < 16 << 20, "{:?}", pack.metadata());
    let replaying = place.kdbg(&["replay", pack.to_str().unwrap()]);
    replaying.wait_for_words(&format!("there is no vmlinux with the build-id {id}"));
    replaying.signal(rustix::process::Signal::INT);
    replaying.wait().assert_code(130);
    // The kernel that the tests boot is this one.
    place.move_cache(kdbg::store::Cache::place().unwrap());
    let said = attached(&place, &pack, "bt\n");
    assert!(said.contains("tcp_v4_send_reset") && !said.contains("warning: there is no vmlinux"), "{said}");
    place.assert_nothing_left();
}

#[test]
fn what_is_no_pack_and_what_cannot_be_packed_is_said() {
    let _slot = slot();
    let place = Place::with_own_templates();
    let (_, pack) = sent(&place, &["--thin"]);
    let (bytes, name) = (fs::read(&pack).unwrap(), pack.to_str().unwrap());
    if let Some(running) = place.kdbg_with_small_disk("staging", "1m", &["replay", name]) {
        let ended = running.wait();
        assert!(ended.code == Some(3) && ended.stderr.contains(" unpacks to "), "{ended}");
    }
    fs::write(&pack, &bytes[..bytes.len() / 2]).unwrap();
    refused(&place, &["replay", name], &["is refused: it is cut off", "kdbg pack RUN"]);
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2] ^= 1;
    fs::write(&pack, damaged).unwrap();
    refused(&place, &["replay", name], &["is refused: ", "damaged"]);
    fs::write(&pack, "name: tcp-reset\n").unwrap();
    refused(&place, &["replay", name], &["is no recording that this kdbg reads"]);
    fs::remove_file(&pack).unwrap();
    refused(&place, &["replay", name], &["is neither a run directory nor a recording", ".kdbgpack"]);
    let empty = place.path().join("empty");
    fs::create_dir(&empty).unwrap();
    refused(&place, &["pack", empty.to_str().unwrap()], &["has no recording", "--record"]);
    refused(&place, &["export", empty.to_str().unwrap(), "--hit", "1", "--vmcore"], &["has no recording", "--record"]);
}
