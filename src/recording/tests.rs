//! Recordings that are written, read, cut off and damaged.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::chunk::{Kind, MAGIC, chunk};
use super::format::{BaseIndex, HitIndex, PAGE_SIZE, TOGETHER, pack, pack_contents};
use super::{Head, KernelOf, Pages, Recording, Stop, Writer, Written};
use crate::error::{Error, ErrorKind};
use crate::memory::paging::PAGE;

/// How many pages the memory has.
const PAGES: u32 = 64;
/// Where the tables are that map the first 2 MiB of virtual addresses to the physical ones.
const TABLES: u32 = 1;

/// A guest's memory: a file, and pages over it.
struct Memory {
    base: File,
    own: BTreeMap<u32, Vec<u8>>,
}

impl Memory {
    fn new() -> Memory {
        let base = tempfile::tempfile().unwrap();
        base.set_len(u64::from(PAGES) * PAGE_SIZE as u64).unwrap();
        for level in 0..2 {
            let table = (TABLES + level) * PAGE_SIZE as u32;
            let next = (u64::from(table) + PAGE_SIZE as u64) | 1;
            base.write_all_at(&next.to_le_bytes(), table.into()).unwrap();
        }
        // The third level has a page of 2 MiB.
        base.write_all_at(&0x81_u64.to_le_bytes(), u64::from(TABLES + 2) * PAGE_SIZE as u64).unwrap();
        base.write_all_at(b"begin", 0x8000).unwrap();
        Memory { base, own: BTreeMap::new() }
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        let page = u32::try_from(at / PAGE_SIZE).unwrap();
        let base = &self.base;
        let own = self.own.entry(page).or_insert_with(|| {
            let mut bytes = vec![0; PAGE_SIZE];
            base.read_exact_at(&mut bytes, u64::from(page) * PAGE_SIZE as u64).unwrap();
            bytes
        });
        own[at % PAGE_SIZE..at % PAGE_SIZE + bytes.len()].copy_from_slice(bytes);
    }
}

impl Pages for Memory {
    fn written(&self) -> io::Result<Vec<u32>> {
        Ok(self.own.keys().copied().collect())
    }

    fn read(&self, first: u32, into: &mut [u8]) -> io::Result<()> {
        for (page, into) in (first..).zip(into.chunks_exact_mut(PAGE_SIZE)) {
            into.copy_from_slice(&self.own[&page]);
        }
        Ok(())
    }
}

/// QEMU's names of the registers that only a core has, behind those that all of these tests know.
pub(super) const OTHERS: [&str; 28] = [
    "rax",
    "rbx",
    "rcx",
    "rdx",
    "rsi",
    "rdi",
    "rbp",
    "rsp",
    "r8",
    "r9",
    "r10",
    "r11",
    "r12",
    "r13",
    "r14",
    "r15",
    "eflags",
    "cs",
    "ss",
    "ds",
    "es",
    "fs",
    "gs",
    "fs_base",
    "gs_base",
    "k_gs_base",
    "cr0",
    "cr2",
];

pub(super) fn head() -> Head {
    let kernel = KernelOf {
        release: "6.1.0".into(),
        build_id: "00ff".into(),
        vmlinux: "/k/vmlinux".into(),
        source: Some("/s".into()),
    };
    let registers =
        ["rip", "cr3", "cr4"].iter().chain(&OTHERS).map(|name| format!("<reg name=\"{name}\" bitsize=\"64\"/>"));
    let target = format!("<target>{}</target>", registers.collect::<String>());
    Head {
        recipe: "r".into(),
        kernel,
        memory: u64::from(PAGES) * PAGE_SIZE as u64,
        cpus: 2,
        description: [("target.xml".into(), target)].into(),
    }
}

fn stop(index: u64) -> Stop {
    let registers = |cpu: u64| {
        let known = [index << 8 | cpu, u64::from(TABLES) * PAGE_SIZE as u64, 0];
        let others = (1..).take(OTHERS.len()).map(|number| number << 16);
        known.into_iter().chain(others).flat_map(u64::to_le_bytes).collect()
    };
    Stop {
        index,
        probe: "p".into(),
        cpu: u32::try_from(index % 2).unwrap(),
        registers: vec![registers(0), registers(1)],
    }
}

/// A recording of three hits; what each has added.
pub(super) fn recorded(folder: &Path) -> (PathBuf, Vec<Written>) {
    let path = folder.join(super::FILE);
    let mut memory = Memory::new();
    let mut writer = Writer::create(&path, &head(), &memory.base).unwrap();
    let mut written = Vec::new();
    written.push(writer.hit(stop(1), &memory).unwrap());
    memory.write(0x8000, b"other");
    memory.write(0x9000, b"begin");
    memory.write(0xa000, b"");
    written.push(writer.hit(stop(2), &memory).unwrap());
    memory.write(0x8000, b"begin");
    memory.write(0x9000, b"again");
    written.push(writer.hit(stop(3), &memory).unwrap());
    (path, written)
}

fn text(recording: &mut Recording, hit: usize, at: u64) -> String {
    let mut bytes = [0; 5];
    assert!(recording.read(hit, at, &mut bytes));
    String::from_utf8_lossy(&bytes).replace('\0', "")
}

#[test]
fn memory_comes_back_as_it_was_at_each_hit() {
    let folder = tempfile::tempdir().unwrap();
    let (path, written) = recorded(folder.path());
    let counts: Vec<_> = written.iter().map(|written| (written.changed, written.new)).collect();
    assert_eq!(counts, [(0, 0), (2, 1), (2, 1)], "like one that was there before, a page is not written again");
    let mut recording = Recording::open(&path).unwrap();
    assert_eq!((&recording.head, recording.hits.len(), &recording.cut), (&head(), 3, &None));
    assert_eq!(recording.hits[1], stop(2));
    let all: Vec<Vec<String>> =
        (0..3).map(|hit| [0x8000, 0x9000, 0xa000].map(|at| text(&mut recording, hit, at)).to_vec()).collect();
    assert_eq!(all, [["begin", "", ""], ["other", "begin", ""], ["begin", "again", ""]]);
    let mut across = [0; 8];
    assert!(recording.read(2, 0x8ffe, &mut across));
    assert_eq!(&across, b"\0\0again\0");
    assert!(!recording.read(0, head().memory - 4, &mut across), "behind its end");
}

/// A guest that has written to this many pages.
struct Busy(u32);

impl Pages for Busy {
    fn written(&self) -> io::Result<Vec<u32>> {
        Ok((0..self.0).collect())
    }

    fn read(&self, first: u32, into: &mut [u8]) -> io::Result<()> {
        for (page, into) in (first..).zip(into.chunks_exact_mut(PAGE_SIZE)) {
            into.fill(0);
            into[..4].copy_from_slice(&(page + 1).to_le_bytes());
        }
        Ok(())
    }
}

#[test]
fn a_hit_with_many_pages_is_written_in_parts_that_are_nothing_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(super::FILE);
    let many = 2 * TOGETHER + 100;
    let large = Head { memory: 4 * TOGETHER as u64 * PAGE, ..head() };
    let base = tempfile::tempfile().unwrap();
    base.set_len(large.memory).unwrap();
    let mut writer = Writer::create(&path, &large, &base).unwrap();
    let first = writer.hit(stop(1), &Busy(1)).unwrap();
    let written = writer.hit(stop(2), &Busy(u32::try_from(many).unwrap())).unwrap();
    assert_eq!((first.new, written.changed, written.new), (1, many - 1, many - 1));
    let mut recording = Recording::open(&path).unwrap();
    for page in [0, 1, TOGETHER, many - 1] {
        let mut number = [0; 4];
        assert!(recording.read(1, page as u64 * PAGE, &mut number));
        assert_eq!(u32::from_le_bytes(number) as usize, page + 1);
    }
    let bytes = fs::read(&path).unwrap();
    let whole = bytes.len() - written.bytes;
    for from in (whole..bytes.len() - 1).step_by(13) {
        let mut zeroed = bytes.clone();
        zeroed[from..].fill(0);
        fs::write(&path, &zeroed).unwrap();
        let recording = Recording::open(&path).unwrap_or_else(|error| panic!("{from} behind {whole}: {error}"));
        assert!(recording.hits.len() == 1 && recording.cut.is_some(), "{from}");
    }
    for missing in [1, written.bytes / 2, written.bytes - 1] {
        fs::write(&path, &bytes[..bytes.len() - missing]).unwrap();
        let recording = Recording::open(&path).unwrap();
        assert!(recording.hits.len() == 1 && recording.cut.is_some(), "{missing}");
    }
}

#[test]
fn a_recording_is_never_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = recorded(folder.path());
    assert_eq!(Writer::create(&path, &head(), &Memory::new().base).unwrap_err().kind, ErrorKind::Host);
}

#[test]
fn wherever_it_is_cut_off_the_whole_hits_before_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let (path, written) = recorded(folder.path());
    let bytes = fs::read(&path).unwrap();
    let hits: Vec<usize> =
        (1..=3).map(|last| bytes.len() - written[last..].iter().map(|hit| hit.bytes).sum::<usize>()).collect();
    for length in 0..bytes.len() {
        fs::write(&path, &bytes[..length]).unwrap();
        let whole = hits.iter().filter(|end| **end <= length).count();
        match Recording::open(&path) {
            Ok(recording) => {
                assert_eq!(recording.hits.len(), whole, "{length}");
                assert_eq!(recording.cut.is_some(), !hits.contains(&length), "{length}");
            }
            Err(error) => {
                assert_eq!((error.kind, whole), (ErrorKind::Usage, 0), "{length}: {error}");
                assert!(error.message.contains("has no hit") || error.message.contains("is no recording"), "{error}");
                assert!(error.hint.is_some());
            }
        }
    }
}

#[test]
fn a_damaged_or_foreign_file_is_refused_with_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let (path, written) = recorded(folder.path());
    let bytes = fs::read(&path).unwrap();
    let last = bytes.len() - written[2].bytes;
    for at in (0..bytes.len()).step_by(7) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x20;
        fs::write(&path, &damaged).unwrap();
        match Recording::open(&path) {
            Ok(recording) => assert!(at >= last + 28 && recording.cut.is_some(), "{at}"),
            Err(error) => {
                let words = if at < 8 { "is no recording that this kdbg reads" } else { "is damaged at byte" };
                assert!(error.message.contains(words), "{at}: {error}");
                assert_eq!((error.kind, error.hint.is_some()), (ErrorKind::Usage, true));
            }
        }
    }
    for foreign in [&b"\x7fELF\x02\x01\x01\0\0"[..], b"", b"kdbgrec1xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"] {
        fs::write(&path, foreign).unwrap();
        let error = Recording::open(&path).unwrap_err();
        assert!(error.message.contains("is no recording that this kdbg reads"), "{error}");
    }
    assert_eq!(Recording::open(&folder.path().join("none")).unwrap_err().kind, ErrorKind::Host);
}

/// What somebody else makes of what a recording says of itself.
type Change = fn(&mut Head);

/// A recording as somebody else may make it: with checksums that are right.
fn foreign(path: &Path, head: &Head, chunks: &[(Kind, Vec<u8>)]) -> Result<Recording, Error> {
    let head = chunk(Kind::Head, &serde_json::to_vec(head).unwrap());
    let chunks = chunks.iter().flat_map(|(kind, content)| chunk(*kind, content));
    fs::write(path, MAGIC.iter().copied().chain(head).chain(chunks).collect::<Vec<u8>>()).unwrap();
    Recording::open(path)
}

#[test]
fn what_no_kdbg_has_recorded_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("foreign");
    let page = [7; PAGE_SIZE];
    let base = |pages: &[u32]| (Kind::Base, pack(&BaseIndex { pages: pages.to_vec() }, &page).unwrap());
    let hit = |stop: Stop, pages: &[(u32, u32)], new: &[u8]| {
        (Kind::Hit, pack(&HitIndex { stop, pages: pages.to_vec() }, new).unwrap())
    };
    let ahead = |contents: &[u8]| (Kind::Pages, pack_contents(contents).unwrap());
    let usual = || vec![base(&[8]), hit(stop(1), &[(9, 1), (10, 2)], &page)];
    let mut whole = foreign(&path, &head(), &usual()).unwrap();
    assert!([8, 9, 10].into_iter().all(|at| text(&mut whole, 0, at * PAGE) == "\u{7}".repeat(5)));
    let mut whole = foreign(&path, &head(), &[ahead(&page), hit(stop(1), &[(8, 1), (9, 2)], &page)]).unwrap();
    assert!(whole.cut.is_none() && [8, 9].into_iter().all(|at| text(&mut whole, 0, at * PAGE) == "\u{7}".repeat(5)));
    let cut = foreign(&path, &head(), &[hit(stop(1), &[], &[]), ahead(&page)]).unwrap();
    assert!(cut.hits.len() == 1 && cut.cut.is_some(), "the hit of these pages is missing");
    let many = foreign(&path, &head(), &[ahead(&vec![7; (TOGETHER + 1) * PAGE_SIZE])]).unwrap_err();
    assert!(many.message.contains("1025 pages are packed together"), "{many}");
    let heads: [(&str, Change); 11] = [
        ("no guest has 0 bytes", |head| head.memory = 0),
        ("no guest has 4097 bytes", |head| head.memory = 4097),
        ("bytes of memory", |head| head.memory = 1 << 45),
        ("bytes of memory", |head| head.memory = !(PAGE - 1)),
        ("no guest has 0 CPUs", |head| head.cpus = 0),
        ("no guest has 65 CPUs", |head| head.cpus = 65),
        ("there is no target.xml", |head| head.description.clear()),
        ("`a\\x1b[2J` is no name", |head| head.recipe = "a\x1b[2J".into()),
        ("`a\\n` is no name", |head| head.kernel.release = "a\n".into()),
        ("is no name", |head| head.kernel.vmlinux = "/\u{202e}".into()),
        ("is no name", |head| head.kernel.source = Some("\x07".into())),
    ];
    for (why, change) in heads {
        let mut changed = head();
        change(&mut changed);
        let error = foreign(&path, &changed, &usual()).unwrap_err();
        assert!(error.kind == ErrorKind::Usage && error.message.contains(why), "{why}: {error}");
        assert!(!error.message.contains(char::is_control), "{error:?}");
    }
    let named = Stop { probe: "\x1b[2J".into(), ..stop(1) };
    let chunks = [
        vec![base(&[PAGES]), hit(stop(1), &[], &[])],
        vec![base(&[8, 9]), hit(stop(1), &[], &[])],
        vec![hit(stop(1), &[(PAGES, 0)], &[])],
        vec![hit(stop(1), &[(8, 1)], &[])],
        // Contents that are nobody's.
        vec![hit(stop(1), &[(8, 1)], &[page, page].concat())],
        vec![ahead(&page), hit(stop(1), &[], &[])],
        vec![hit(stop(1), &[], &[]), ahead(&page), hit(stop(1), &[(8, 1)], &page)],
        vec![hit(Stop { cpu: 2, ..stop(1) }, &[], &[])],
        vec![hit(named, &[], &[])],
        vec![hit(stop(1), &[(8, 0), (8, 0)], &[])],
        vec![hit(Stop { registers: vec![vec![0; 1 << 20]; 2], ..stop(1) }, &[], &[])],
    ];
    for (at, chunks) in chunks.iter().enumerate() {
        let error = foreign(&path, &head(), chunks).unwrap_err();
        assert!(error.message.contains("what was written"), "{at}: {error}");
    }
}
