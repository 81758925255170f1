//! A disk that is too small, or full in the middle: both figures are said before the work begins, what is full while it
//! goes on is named, nothing half-made is in the cache, and with room it goes on. The kernels are mocks
//! ([`support::kernel`]) but where a guest boots, the disks small ones in memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use sha2::{Digest, Sha256};
use support::builds::{LIMIT, SOURCE, assert_nothing_filed, built};
use support::kernel::Tree;
use support::{Ended, HIT, Place, recipe, slot};

/// Builds this kernel where that folder of the cache is a disk as small as that; none where no disk can be mounted.
fn build_on(place: &Place, kernel: &str, folder: &str, size: &str) -> Option<Ended> {
    place.file("test.yaml", &format!("name: test\nkernel: {{ config: [], {kernel} }}\n"));
    let running = place.kdbg_with_small_disk(folder, size, &["build", "test.yaml", "--json"])?;
    let ended = running.wait_within(LIMIT);
    place.assert_nothing_left();
    Some(ended)
}

/// Builds it again, with room.
#[track_caller]
fn assert_builds_with_room(place: &Place) {
    let ended = place.kdbg(&["build", "test.yaml", "--json"]).wait_within(LIMIT);
    assert_eq!(built(&ended)["cached"], false);
    assert_eq!(place.cached("staging"), [""; 0]);
}

/// An archive of a mock, which does not compress, as `mine.tar.xz` beside the recipe; or one that unpacks to far more than
/// any kernel of its size.
fn archive(place: &Place, is_bomb: bool) -> Vec<u8> {
    let tree = place.path().join("linux");
    Tree::default().write(&tree);
    if is_bomb {
        fs::write(tree.join("zeros"), vec![0; 4 << 20]).unwrap();
    }
    let archive = if is_bomb { support::kernel::pack(&tree, "linux") } else { Tree::default().pack("linux") };
    fs::write(place.path().join("mine.tar.xz"), &archive).unwrap();
    archive
}

#[test]
fn what_will_not_fit_is_said_with_both_figures_before_it_is_begun() {
    let hint = "help: free some space: `kdbg cache gc`";
    let place = Place::with_empty_cache();
    archive(&place, false);
    let Some(ended) = build_on(&place, "source: { archive: mine.tar.xz }", "", "1m") else { return };
    ended.assert_refused(3, &["unpacking mine.tar.xz takes about 2 MiB in the cache, and ", " has room for 9", hint]);

    let place = Place::with_empty_cache();
    let tree = place.path().join("linux");
    Tree::default().write(&tree);
    let Some(ended) = build_on(&place, "source: { tree: linux }", "", "100m") else { return };
    let texts = ["building Linux 6.1.999 takes about 6", " MiB in the cache, and ", " has room for 99 MiB", hint];
    ended.assert_refused(3, &texts);
    assert_builds_with_room(&place);
}

#[test]
fn a_disk_that_is_full_while_a_source_is_unpacked_is_named() {
    let place = Place::with_empty_cache();
    archive(&place, true);
    let Some(ended) = build_on(&place, "source: { archive: mine.tar.xz }", "staging", "200k") else { return };
    ended.assert_refused(3, &["the disk is full while unpacking", "mine.tar.xz", "`kdbg cache gc`"]);
    assert_eq!(place.cached("sources"), [""; 0]);
    assert_builds_with_room(&place);
}

#[test]
fn a_disk_that_is_full_in_mid_build_leaves_no_kernel() {
    let place = Place::with_empty_cache();
    let room = place.path().join("room");
    let fill = format!("[ -e '{}' ] || head -c 2M /dev/zero > '$(O)/fill'", room.display());
    Tree::doing(fill).write(&place.path().join("cache/sources").join(SOURCE));
    let folder = format!("objects/{SOURCE}-x86_64");
    let Some(ended) = build_on(&place, "version: '6.1'", &folder, "100k") else { return };
    ended.assert_refused(4, &["No space left on device", "the disk is full", "`kdbg cache gc`"]);
    assert_nothing_filed(&place);
    place.file("room", "");
    assert_builds_with_room(&place);
}

#[test]
fn a_disk_that_is_full_while_a_kernel_is_filed_leaves_no_kernel() {
    let place = Place::with_empty_cache();
    Tree::default().write(&place.path().join("cache/sources").join(SOURCE));
    let Some(ended) = build_on(&place, "version: '6.1'", "staging", "16k") else { return };
    ended.assert_refused(3, &["help: free some space: `kdbg cache gc`"]);
    assert_nothing_filed(&place);
    assert_builds_with_room(&place);
}

/// Answers every request with `file`, whose length it says only if asked to.
fn serve(file: Vec<u8>, says_length: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/mine.tar.xz", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let length = if says_length { format!("Content-Length: {}\r\n", file.len()) } else { String::new() };
            let _ = write!(stream, "HTTP/1.1 200 OK\r\n{length}Connection: close\r\n\r\n");
            let _ = stream.write_all(&file);
        }
    });
    address
}

#[test]
fn a_disk_that_is_full_while_a_source_is_fetched_is_named() {
    for says_length in [true, false] {
        let place = Place::with_empty_cache();
        let file = archive(&place, false);
        let sha256: String = Sha256::digest(&file).iter().map(|byte| format!("{byte:02x}")).collect();
        let address = serve(file, says_length);
        let kernel = format!("source: {{ url: '{address}', sha256: {sha256} }}");
        // Where the server says how much it is, all of the cache is too small; else only what is fetched does not fit.
        let (folder, size) = if says_length { ("", "1m") } else { ("downloads", "64k") };
        let Some(ended) = build_on(&place, &kernel, folder, size) else { return };
        let texts: &[&str] = match says_length {
            true => &["fetching and unpacking http://", " takes about 2 MiB in the cache, and "],
            false => &["No space left on device", "archive-", ".part", "help: free some space"],
        };
        ended.assert_refused(3, texts);
        assert_eq!(place.cached("sources"), [""; 0]);
        assert_builds_with_room(&place);
    }
}

#[test]
fn an_image_for_which_there_is_no_room_is_not_begun() {
    let _slot = slot();
    let place = Place::with_own_templates();
    fs::create_dir(place.path().join("images")).unwrap();
    place.file("images/large.yaml", "name: large\ninclude: [base]\nfiles: { /large: large }\n");
    fs::write(place.path().join("images/large"), vec![0; 20 << 20]).unwrap();
    place.file("test.yaml", &recipe(&[HIT]).replacen("probes:", "guest: { image: large }\nprobes:", 1));
    let Some(running) = place.kdbg_with_small_disk("", "10m", &["run", "test.yaml", "--out", "out"]) else { return };
    let words = ["the image `large` takes about 2", " MiB in the cache, and ", " has room for 9"];
    let report = running.wait_within(LIMIT).assert_error(3, "host", &words);
    assert!(report["error"]["hint"].as_str().unwrap().contains("`kdbg cache gc`"), "{report}");
}

/// Runs a guest where all of the cache is a disk as small as that: it boots, is no template, and the report says why.
#[track_caller]
fn assert_boots_unsaved(place: &Place, size: &str, why: &[&str]) {
    let guest = "guest: { memory: 128M }\nprobes:";
    place.file("test.yaml", &recipe(&[HIT]).replacen("probes:", guest, 1));
    let args = ["run", "test.yaml", "--out", "out", "--accel", "tcg"];
    let Some(running) = place.kdbg_with_small_disk("", size, &args) else { return };
    let report = running.wait_within(LIMIT).assert_passed();
    place.assert_nothing_left();
    assert_eq!(report["machine"]["forked"], false);
    let [warning] = &report["warnings"].as_array().unwrap()[..] else { panic!("{}", report["warnings"]) };
    let why = [&["the guest was not saved for later runs: ", "`kdbg cache gc`"], why].concat();
    why.iter().for_each(|text| assert!(warning.as_str().unwrap().contains(text), "no `{text}` in {warning}"));
}

#[test]
fn a_guest_for_which_there_is_no_room_boots_and_is_not_saved() {
    let _slot = slot();
    let place = Place::with_own_templates();
    let why = ["saving a guest that has 128M of memory takes about 136 MiB in the cache, and ", " has room for 9"];
    assert_boots_unsaved(&place, "100m", &why);
}

#[test]
fn a_guest_whose_memory_fills_the_disk_gives_way_to_one_that_boots() {
    let _slot = slot();
    let fill = "head -c 200M /dev/zero > \"$KDBG_CACHE_DIR/fill\" 2> /dev/null";
    // Before QEMU puts the kernel into it, and when the kernel has begun to speak.
    let at_once = format!("{fill}; exec \"$real\" \"$@\"");
    let later = format!(
        "console=\"$KDBG_CACHE_DIR/console\"; mkfifo \"$console\"
        {{ IFS= read -r line; {fill}; printf '%s\\n' \"$line\"; exec cat; }} < \"$console\" &
        exec \"$real\" \"$@\" > \"$console\""
    );
    for when in [at_once, later] {
        let place = Place::with_own_templates();
        let script = format!("case \"$*\" in *share=on*) {when};; esac\nexec \"$real\" \"$@\"");
        place.fake("qemu-system-x86_64", &script);
        assert_boots_unsaved(&place, "150m", &[" takes about 136 MiB in the cache, and ", " has room for "]);
    }
}
