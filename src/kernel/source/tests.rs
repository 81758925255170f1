//! Sources on this host: found, unpacked and found again; damaged and hostile archives leave nothing.

use std::fs::{self, File};
use std::path::Path;

use super::unpack::Packed;
use super::*;
use crate::error::ErrorKind;

#[test]
fn a_makefile_tells_its_version() {
    let text = "# SPDX\nVERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 192\nEXTRAVERSION =\n";
    assert_eq!(makefile_version(text).as_deref(), Some("6.1.192"));
    assert_eq!(makefile_version("all:\n"), None);
}

/// A tree that is packed.
fn pack<W: std::io::Write>(into: W) -> W {
    let mut tar = tar::Builder::new(into);
    let noise: String =
        (0..200_000u32).map(|n| char::from(b'a' + (n.wrapping_mul(2_654_435_761) >> 27) as u8 % 26)).collect();
    let makefile = "VERSION = 9\nPATCHLEVEL = 9\nSUBLEVEL = 1\n";
    for (name, text) in [("Makefile", makefile), ("Kconfig", ""), ("net/x.c", noise.as_str())] {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append_data(&mut header, format!("linux-source-9.9/{name}"), text.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

fn archive(folder: &Path) -> PathBuf {
    let path = folder.join("linux-source-9.9.tar.xz");
    pack(liblzma::write::XzEncoder::new(File::create(&path).unwrap(), 1)).finish().unwrap();
    path
}

/// A folder with an empty cache, for what a test does in it.
fn in_cache<T>(test: impl FnOnce(&Path, &Shop<'_>) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::at(folder.path().join("cache")).unwrap();
    let (events, cancel) = (Events::none(), Cancel::default());
    test(folder.path(), &Shop { cache: &cache, events: &events, cancel: &cancel })
}

fn version(version: &str) -> distribution::Version {
    distribution::Version { version: version.into() }
}

/// Nothing was kept, not even by half.
#[track_caller]
fn assert_empty(shop: &Shop<'_>) {
    for folder in ["sources", "staging"] {
        assert_eq!(fs::read_dir(shop.cache.path(folder)).unwrap().count(), 0, "{folder}");
    }
}

#[test]
fn an_installed_package_is_unpacked_and_found_again() {
    in_cache(|folder, shop| {
        let hash = unpack::beginning_of_hash(&archive(folder)).unwrap();
        let source = version("9.9").supply_from(folder, shop).unwrap();
        assert_eq!(source.version, "9.9.1");
        assert_eq!(source.id, format!("linux-source-9.9_9.9.1-{}", &hash[..8]));
        assert_eq!(version("9.9").at_hand(shop), Some(source));
        assert_eq!(version("9.8").at_hand(shop), None);
    });
}

#[test]
fn a_source_that_is_filed_stays_where_another_release_is_asked_for() {
    use std::os::unix::fs::MetadataExt;
    in_cache(|folder, shop| {
        let packed = archive(folder);
        let first = version("9.9").supply_from(folder, shop).unwrap();
        let inode = || fs::metadata(&first.tree).unwrap().ino();
        let before = inode();
        // Neither unpacked again (it is no archive any more) nor replaced.
        let cancelled = Cancel::default();
        cancelled.flag().store(true, std::sync::atomic::Ordering::Relaxed);
        let ended = version("9.9.2").supply_from(folder, &Shop { cancel: &cancelled, ..*shop }).unwrap_err();
        assert_eq!(ended.kind, ErrorKind::Interrupted);
        let id = |_: &str| first.id.clone();
        assert_eq!(unpack::unpack(&Packed::mine(&packed), &id, shop).unwrap(), first);
        assert_eq!(inode(), before);
        assert_eq!(fs::read_dir(shop.cache.path("staging")).unwrap().count(), 0);
    });
}

#[test]
fn an_archive_of_several_folders_is_refused() {
    in_cache(|folder, shop| {
        let path = folder.join("linux.tar");
        let mut tar = tar::Builder::new(File::create(&path).unwrap());
        for name in ["b/Makefile", "a/Makefile"] {
            let mut header = tar::Header::new_gnu();
            header.set_size(0);
            header.set_mode(0o644);
            header.set_cksum();
            tar.append_data(&mut header, name, std::io::empty()).unwrap();
        }
        tar.finish().unwrap();
        let error = local::Archive { path }.supply(shop).unwrap_err();
        assert!(error.message.contains("linux.tar has several top folders, such as `a` and `b`"), "{error}");
        assert_empty(shop);
    });
}

#[test]
fn another_archive_is_another_source() {
    in_cache(|folder, shop| {
        let path = archive(folder);
        let supply = || local::Archive { path: path.clone() }.supply(shop).unwrap().id;
        let first = supply();
        assert_eq!(supply(), first);
        // The same files, packed twice into one stream: only the archive's bytes differ.
        let padding = liblzma::encode_all(&[0; 512][..], 1).unwrap();
        fs::write(&path, [fs::read(&path).unwrap(), padding].concat()).unwrap();
        assert_ne!(supply(), first);
        assert_eq!(version("9.9").at_hand(shop), None, "what somebody packed is no release");
    });
}

/// Compressed by Zstandard, as two frames.
fn zst(data: &[u8]) -> Vec<u8> {
    let (first, second) = data.split_at(data.len() / 2);
    let frame = |part| ruzstd::encoding::compress_to_vec(part, ruzstd::encoding::CompressionLevel::Fastest);
    [frame(first), frame(second)].concat()
}

#[test]
fn an_archive_of_several_frames_is_whole_or_refused() {
    in_cache(|folder, shop| {
        let path = folder.join("linux.tar.zst");
        let whole = zst(&pack(Vec::new()));
        let middle = whole.len() / 2;
        let mut flipped = whole.clone();
        flipped[middle / 2] ^= 1;
        let cuts = [10, middle, whole.len() - 8].map(|length| whole[..length].to_vec());
        for bytes in cuts.into_iter().chain([flipped]) {
            fs::write(&path, bytes).unwrap();
            let error = local::Archive { path: path.clone() }.supply(shop).unwrap_err();
            assert!(error.message.contains("cut short or damaged"), "{error}");
            assert_empty(shop);
        }
    });
}

#[test]
fn archives_are_told_by_their_content() {
    in_cache(|folder, shop| {
        let path = folder.join("linux");
        let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        // As pzstd begins: a frame without data.
        let skipped = [&b"\x50\x2a\x4d\x18\x04\0\0\0data"[..], &zst(&pack(Vec::new()))].concat();
        for bytes in [pack(gzip).finish().unwrap(), zst(&pack(Vec::new())), skipped, pack(Vec::new())] {
            fs::write(&path, bytes).unwrap();
            let source = local::Archive { path: path.clone() }.supply(shop).unwrap();
            assert_eq!(source.version, "9.9.1");
        }
        fs::write(&path, "a poem\n".repeat(100)).unwrap();
        let error = local::Archive { path }.supply(shop).unwrap_err();
        assert!(error.message.contains("is not an archive that kdbg unpacks"), "{error}");
    });
}

#[test]
fn an_archive_cut_short_says_so_and_leaves_nothing() {
    in_cache(|folder, shop| {
        let archive = archive(folder);
        let whole = fs::read(&archive).unwrap();
        for length in [whole.len() / 2, whole.len() - 8, 10] {
            fs::write(&archive, &whole[..length]).unwrap();
            let error = unpack::unpack(&Packed::mine(&archive), &|_| "x".into(), shop).unwrap_err();
            assert!(error.message.contains("cut short or damaged"), "{length}: {error}");
            assert_eq!(error.kind, ErrorKind::Kernel);
            assert_empty(shop);
        }
    });
}

/// An entry of an archive: its path, and where it links to.
fn entry(path: &str, link: Option<(tar::EntryType, &str)>) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    // As a hostile program writes it; the crate's own setters refuse such paths.
    header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
    if let Some((kind, target)) = link {
        header.set_entry_type(kind);
        header.as_gnu_mut().unwrap().linkname[..target.len()].copy_from_slice(target.as_bytes());
    }
    header.set_size(0);
    header.set_mode(0o644);
    header.set_cksum();
    let mut tar = tar::Builder::new(Vec::new());
    tar.append(&header, std::io::empty()).unwrap();
    tar.into_inner().unwrap()
}

#[test]
fn an_archive_that_reaches_outside_is_refused_and_leaves_nothing() {
    use tar::EntryType::{Link, Symlink};
    in_cache(|folder, shop| {
        let path = folder.join("linux.tar");
        for (name, link) in [
            ("top/../../moon", None),
            ("/moon", None),
            ("top/moon", Some((Symlink, "/etc"))),
            ("top/moon", Some((Symlink, "../../etc"))),
            ("top/moon", Some((Symlink, "../sun"))),
            ("top/moon", Some((Link, "../etc/passwd"))),
        ] {
            fs::write(&path, entry(name, link)).unwrap();
            let error = unpack::unpack(&Packed::mine(&path), &|_| "x".into(), shop).unwrap_err();
            assert!(error.message.contains("leads out of it: "), "{name} {link:?}: {error}");
            assert_empty(shop);
        }
        fs::write(&path, entry("top/moon", Some((Symlink, "./sun")))).unwrap();
        let error = unpack::unpack(&Packed::mine(&path), &|_| "x".into(), shop).unwrap_err();
        assert!(error.message.contains("is not a kernel tree"), "a link within is fine: {error}");
    });
}
