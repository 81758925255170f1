//! A recording's file, read again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::chunk::{Found, Kind, MAGIC, next};
use super::contents::Contents;
use super::format::{BaseIndex, Head, HitIndex, PAGE_SIZE, Stop, is_printable, unpack};
use crate::error::{Error, IoContext, Result};
use crate::memory::offset;
use crate::memory::paging::Tables;
use crate::report::text::printable;
use crate::server::description::Layout;

/// What mends a recording that cannot be read.
const AGAIN: &str = "record it again: `kdbg run RECIPE --record`";

/// More than the registers of a CPU take, in bytes.
const LONGEST_REGISTERS: usize = 64 << 10;

/// A recording.
#[derive(Debug)]
pub struct Recording {
    /// What is recorded.
    pub head: Head,
    /// The hits, in order; at least one.
    pub hits: Vec<Stop>,
    /// That the file ends in a hit that was not written whole, or damaged: where, and what is missing.
    pub cut: Option<String>,
    /// Where registers are in those of a CPU.
    pub(super) layout: Layout,
    bytes: Vec<u8>,
    contents: Contents,
    /// The content of a page from a hit on, by the hit's place in `hits`. What the guest began with is that of the first.
    pages: BTreeMap<u32, Vec<(usize, u32)>>,
}

impl Recording {
    /// Reads a file, up to its last whole hit.
    ///
    /// # Errors
    /// It is no recording, damaged before its last hit, or has none.
    pub fn open(path: &Path) -> Result<Recording> {
        let bytes = std::fs::read(path).or_host(format!("read {}", path.display()))?;
        Parse { path: path.into(), at: 0, ahead: 0 }.parse(bytes)
    }

    /// Reads physical memory as it was at a hit, by the hit's place in `hits`; false where there is none.
    pub fn read(&mut self, hit: usize, address: u64, mut into: &mut [u8]) -> bool {
        let Some(mut at) = offset(address, into.len() as u64, self.head.memory) else { return false };
        while !into.is_empty() {
            let from = usize::try_from(at % PAGE_SIZE as u64).unwrap_or_default();
            let (here, rest) = into.split_at_mut(into.len().min(PAGE_SIZE - from));
            let Ok(page) = u32::try_from(at / PAGE_SIZE as u64) else { return false };
            let number = self.content(hit, page);
            if self.contents.read(&self.bytes, number, from, here).is_err() {
                return false;
            }
            at += here.len() as u64;
            into = rest;
        }
        true
    }

    /// The pages of the memory's file that are not all zeros at a hit, in order.
    pub(super) fn filled(&self, hit: usize) -> impl Iterator<Item = u32> {
        self.pages.keys().copied().filter(move |page| self.content(hit, *page) != 0)
    }

    /// Copies a page of the memory's file, as it was at a hit.
    ///
    /// # Errors
    /// The file is damaged there.
    pub(super) fn page(&mut self, hit: usize, page: u32, into: &mut [u8; PAGE_SIZE]) -> std::io::Result<()> {
        self.contents.read(&self.bytes, self.content(hit, page), 0, into)
    }

    /// What a CPU reads at a hit, through its page tables; none where something is not mapped.
    pub(super) fn seen(&mut self, hit: usize, cpu: u32, address: u64, size: u64) -> Option<Vec<u8>> {
        self.tables(hit, cpu)?.read(address, size, &mut |address, into| self.read(hit, address, into))
    }

    /// The page tables of a CPU at a hit.
    pub(super) fn tables(&self, hit: usize, cpu: u32) -> Option<Tables> {
        Some(Tables::of(self.register(hit, cpu, "cr3")?, self.register(hit, cpu, "cr4")?))
    }

    /// A register of a CPU at a hit, by QEMU's name.
    pub fn register(&self, hit: usize, cpu: u32, name: &str) -> Option<u64> {
        self.layout.value(self.hits.get(hit)?.registers.get(cpu as usize)?, name)
    }

    fn content(&self, hit: usize, page: u32) -> u32 {
        let changes = self.pages.get(&page).map(Vec::as_slice).unwrap_or_default();
        let until = changes.partition_point(|(since, _)| *since <= hit);
        until.checked_sub(1).map_or(0, |last| changes[last].1)
    }
}

/// A file that is read.
struct Parse {
    path: PathBuf,
    at: usize,
    /// How many contents there are of a hit that is still to come.
    ahead: usize,
}

impl Parse {
    fn parse(mut self, bytes: Vec<u8>) -> Result<Recording> {
        if !bytes.starts_with(MAGIC) {
            let why = if bytes.starts_with(&MAGIC[..7]) {
                "another version of kdbg has written it"
            } else {
                "it does not begin as one"
            };
            let hint = if bytes.starts_with(&MAGIC[..7]) {
                AGAIN
            } else {
                "name a run directory that has a recording.kdbg, or that file"
            };
            return Err(
                Error::usage(format!("{} is no recording that this kdbg reads: {why}", self.path.display())).hint(hint)
            );
        }
        self.at = MAGIC.len();
        let head: Head = match next(&bytes[self.at..]) {
            Found::Whole(Kind::Head, content, length) => {
                let head: Head = serde_json::from_slice(content).map_err(|error| self.damaged(&error.to_string()))?;
                if let Some(why) = head.wrong() {
                    return Err(self.damaged(&why));
                }
                self.at += length;
                head
            }
            Found::Cut | Found::End => return Err(self.empty()),
            Found::Damaged(why) => return Err(self.damaged(why)),
            Found::Whole(..) => return Err(self.damaged("it does not say what is recorded")),
        };
        let mut recording = Recording {
            layout: Layout::of(&head.description),
            head,
            hits: Vec::new(),
            cut: None,
            bytes: Vec::new(),
            contents: Contents::new(),
            pages: BTreeMap::new(),
        };
        loop {
            match next(&bytes[self.at..]) {
                Found::End if self.ahead == 0 => break,
                Found::End | Found::Cut => {
                    let (hits, end) = (recording.hits.len(), bytes.len());
                    recording.cut = Some(format!(
                        "{} ends in the middle of a hit, behind byte {} of {end}: the {hits} before it are whole",
                        self.path.display(),
                        self.at
                    ));
                    break;
                }
                Found::Damaged(why) => return Err(self.damaged(why)),
                Found::Whole(kind, content, length) => {
                    let taken = self.take(kind, content, length, &bytes, &mut recording);
                    taken.map_err(|error| self.damaged(&error.to_string()))?;
                    self.at += length;
                }
            }
        }
        if recording.hits.is_empty() {
            return Err(self.empty());
        }
        recording.bytes = bytes;
        Ok(recording)
    }

    fn take(
        &mut self,
        kind: Kind,
        content: &[u8],
        length: usize,
        bytes: &[u8],
        into: &mut Recording,
    ) -> std::io::Result<()> {
        let end = self.at + length;
        let mut add = |packed: &[u8]| into.contents.add(bytes, end - packed.len()..end);
        let memory = into.head.pages();
        let wrong = |why: &str| Err(std::io::Error::other(why.to_string()));
        match kind {
            Kind::Head => return wrong("it begins twice"),
            Kind::Base => {
                let (BaseIndex { pages }, packed) = unpack(content)?;
                let numbers = add(packed)?;
                let are_there = pages.iter().all(|page| u64::from(*page) < memory);
                if pages.len() != numbers.len() || !are_there || !into.hits.is_empty() {
                    return wrong("what the guest began with is not what was written");
                }
                for (page, number) in pages.into_iter().zip(numbers) {
                    into.pages.entry(page).or_default().push((0, number));
                }
            }
            Kind::Pages => self.ahead += add(content)?.len(),
            Kind::Hit => {
                let (HitIndex { stop, pages }, packed) = unpack(content)?;
                let new = add(packed)?;
                let cpus = into.head.cpus;
                let fits = stop.cpu < cpus && stop.registers.len() == cpus as usize && is_printable(&stop.probe);
                let fits = fits && stop.registers.iter().all(|registers| registers.len() <= LONGEST_REGISTERS);
                let are_there =
                    pages.iter().all(|(page, number)| u64::from(*page) < memory && into.contents.has(*number));
                // Each page once: what somebody packs may be many times as long as it was.
                let are_there = are_there && pages.is_sorted_by(|(one, _), (other, _)| one < other);
                // Each new content is that of a page.
                if !fits || !are_there || std::mem::take(&mut self.ahead) + new.len() > pages.len() {
                    return wrong("a hit is not what was written");
                }
                let hit = into.hits.len();
                for (page, number) in pages {
                    into.pages.entry(page).or_default().push((hit, number));
                }
                into.hits.push(stop);
            }
        }
        Ok(())
    }

    fn damaged(&self, why: &str) -> Error {
        let why = printable(why);
        Error::usage(format!("{} is damaged at byte {}: {why}", self.path.display(), self.at)).hint(AGAIN)
    }

    fn empty(&self) -> Error {
        Error::usage(format!("{} has no hit: the run ended, or was cut off, before the first one", self.path.display()))
            .hint(AGAIN)
    }
}
