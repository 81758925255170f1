//! Packs that are written, read, cut off, damaged and made by somebody else.

use std::fs;
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};

use super::*;
use crate::error::{Error, ErrorKind};

fn about() -> About {
    About {
        kdbg: "0.1.0".into(),
        recipe: "r".into(),
        release: "6.1.0".into(),
        build_id: "00ff".into(),
        tree: Some("/t".into()),
    }
}

/// A pack of three files.
fn packed(folder: &Path) -> PathBuf {
    let file = folder.join("report");
    fs::write(&file, "x".repeat(100_000)).unwrap();
    let text = |text: &str| Content::Text(text.into());
    let files = [
        ("report.json".to_string(), Content::File(file)),
        ("source/net/core/a.c".into(), text("int a;\n")),
        ("empty".into(), text("")),
        ("y".repeat(300), text("its name is too long")),
    ];
    let pack = folder.join("r.kdbgpack");
    let left_out = write(&about(), "r-1", &files.into(), &fs::File::create(&pack).unwrap()).unwrap();
    assert_eq!(left_out, ["y".repeat(300)]);
    pack
}

fn unpacked(pack: &Path) -> Result<(About, tempfile::TempDir), Error> {
    let into = tempfile::tempdir().unwrap();
    let about = unpack(pack, into.path())?;
    Ok((about, into))
}

/// The files that [`packed`] has packed.
fn all(into: &Path) -> Vec<String> {
    ["report.json", "source/net/core/a.c", "empty"].map(|name| fs::read_to_string(into.join(name)).unwrap()).into()
}

#[test]
fn what_was_packed_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let pack = packed(folder.path());
    assert!(is_pack(&pack) && !is_pack(&folder.path().join("report")) && !is_pack(folder.path()));
    let (found, into) = unpacked(&pack).unwrap();
    assert_eq!(found, about());
    assert_eq!(all(into.path()), ["x".repeat(100_000).as_str(), "int a;\n", ""]);
    assert_eq!(super::about(into.path()), None, "its list is not unpacked");
    let again = packed(folder.path());
    assert_eq!(fs::read(pack).unwrap(), fs::read(again).unwrap(), "the same of the same files");
}

#[test]
fn wherever_it_is_cut_off_or_damaged_it_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let pack = packed(folder.path());
    let bytes = fs::read(&pack).unwrap();
    for length in 0..bytes.len() {
        fs::write(&pack, &bytes[..length]).unwrap();
        let error = unpacked(&pack).unwrap_err();
        assert_eq!((error.kind, error.hint.is_some()), (ErrorKind::Usage, true), "{length}: {error}");
        assert!(error.message.contains("is refused: it is "), "{length}: {error}");
    }
    fs::write(&pack, &bytes).unwrap();
    let whole = all(unpacked(&pack).unwrap().1.path());
    let mut refused = 0;
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        fs::write(&pack, &damaged).unwrap();
        match unpacked(&pack) {
            Err(error) => {
                assert_eq!(error.kind, ErrorKind::Usage, "{at}: {error}");
                refused += 1;
            }
            // There are bits in zstd's frames that nothing depends on.
            Ok((found, into)) => assert_eq!((found, all(into.path())), (about(), whole.clone()), "{at}"),
        }
    }
    assert!(refused > bytes.len() * 9 / 10, "{refused} of {}", bytes.len());
}

/// An entry as somebody else may make it: its path is written as it is.
fn entry(kind: EntryType, path: &str, content: &str) -> (Header, String) {
    let mut header = Header::new_ustar();
    header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o777);
    header.set_cksum();
    (header, content.into())
}

fn foreign(folder: &Path, entries: &[(Header, String)]) -> PathBuf {
    let pack = folder.join("foreign.kdbgpack");
    let mut archive = Builder::new(zstd::stream::Encoder::new(fs::File::create(&pack).unwrap(), 1).unwrap());
    entries.iter().for_each(|(header, content)| archive.append(header, content.as_bytes()).unwrap());
    archive.into_inner().unwrap().finish().unwrap();
    pack
}

fn list(pack: u32, files: &[(&str, &str)]) -> (Header, String) {
    let listed = |content: &str| Listed { size: content.len() as u64, sha256: crate::digest::sha256(content) };
    let files = files.iter().map(|(path, content)| (path.to_string(), listed(content))).collect();
    let manifest = Manifest { pack, about: about(), files };
    entry(EntryType::Regular, "p/pack.json", &serde_json::to_string(&manifest).unwrap())
}

#[test]
fn what_no_pack_has_is_refused_and_nothing_is_outside() {
    let folder = tempfile::tempdir().unwrap();
    let file = |path: &str| entry(EntryType::Regular, path, "evil");
    let all = ["../evil", "a", "/evil", "a/../../evil", "./a"].map(|path| (path, "evil"));
    let listed = || list(FORMAT, &all);
    let cases = [
        ("does not stay in its folder", vec![listed(), file("p/../evil")]),
        ("does not stay in its folder", vec![listed(), file("../evil")]),
        ("does not stay in its folder", vec![listed(), file("/evil")]),
        ("does not stay in its folder", vec![listed(), file("/p/a")]),
        ("does not stay in its folder", vec![listed(), file("q/a")]),
        ("does not stay in its folder", vec![listed(), file("p")]),
        ("is no plain file", vec![listed(), entry(EntryType::Symlink, "p/a", "")]),
        ("is no plain file", vec![listed(), entry(EntryType::Link, "p/a", "")]),
        ("is no plain file", vec![listed(), entry(EntryType::Directory, "p/a/", "")]),
        ("is no plain file", vec![listed(), entry(EntryType::GNULongName, "p/a", "evil")]),
        ("is no plain file", vec![listed(), entry(EntryType::XHeader, "p/a", "evil")]),
        ("a\\x1b[2J has a name that does not show", vec![listed(), file("p/a\x1b[2J")]),
        ("is not in its list", vec![listed(), file("p/b")]),
        ("or there twice", vec![list(FORMAT, &[("a", "evil")]), file("p/a"), file("p/a")]),
        ("is not as long as its list says", vec![list(FORMAT, &[("a", "other")]), file("p/a")]),
        ("is damaged", vec![list(FORMAT, &[("a", "good")]), file("p/a")]),
        ("a is missing", vec![list(FORMAT, &[("a", "evil")])]),
        ("is of format 2", vec![list(2, &[])]),
        ("does not say its format", vec![entry(EntryType::Regular, "p/pack.json", "{}")]),
        ("is not understood", vec![entry(EntryType::Regular, "p/pack.json", "evil")]),
        ("is not understood", vec![entry(EntryType::Regular, "p/pack.json", "{\"pack\":1}")]),
        ("does not begin with pack.json", vec![file("p/a"), listed()]),
        ("does not begin with pack.json", vec![entry(EntryType::Regular, "pack.json", "{}")]),
        ("is empty", vec![]),
    ];
    for (why, entries) in cases {
        let pack = foreign(folder.path(), &entries);
        let error = unpacked(&pack).unwrap_err();
        assert!(error.message.contains(why), "{why}: {error}");
    }
    assert!(!std::env::temp_dir().join("evil").exists());
}

#[test]
fn what_there_is_no_room_for_is_said_before_it_is_unpacked() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = |size: u64| {
        let files = BTreeMap::from([("a".to_string(), Listed { size, sha256: String::new() })]);
        let text = serde_json::to_string(&Manifest { pack: FORMAT, about: about(), files }).unwrap();
        foreign(folder.path(), &[entry(EntryType::Regular, "p/pack.json", &text)])
    };
    let error = unpacked(&manifest(1 << 60)).unwrap_err();
    assert!(error.kind == ErrorKind::Host && error.message.contains("unpacks to 1073741824.0 GiB"), "{error}");
}
