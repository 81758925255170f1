//! A recording in the making: each hit is in the file before the guest runs on.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::SeekFrom;
use xxhash_rust::xxh3::xxh3_128;

use super::chunk::{Kind, MAGIC, chunk};
use super::format::{BaseIndex, Head, HitIndex, PAGE_SIZE, Stop, TOGETHER, pack, pack_contents};
use crate::error::{IoContext, Result};
use crate::memory::Ram;

/// How many pages are read at once.
const RUN: usize = 256;

/// The memory of a guest that stands still, in pages of the file that it was forked from.
pub trait Pages {
    /// The pages that may be other than in that file, in order.
    ///
    /// # Errors
    /// The guest is gone.
    fn written(&self) -> io::Result<Vec<u32>>;

    /// Reads pages that lie behind each other.
    ///
    /// # Errors
    /// The guest is gone.
    fn read(&self, first: u32, into: &mut [u8]) -> io::Result<()>;
}

impl Pages for Ram {
    fn written(&self) -> io::Result<Vec<u32>> {
        self.own_pages()
    }

    fn read(&self, first: u32, into: &mut [u8]) -> io::Result<()> {
        self.read_pages(first, into)
    }
}

/// What a hit has added to the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// How many pages are other than at the hit before.
    pub changed: usize,
    /// How many of these are like no page before.
    pub new: usize,
    /// In bytes.
    pub bytes: usize,
}

/// A recording that is written.
#[derive(Debug)]
pub struct Writer {
    file: File,
    /// The number of every content that is in the file, by its hash.
    numbers: HashMap<u128, u32>,
    next: u32,
    /// The hash of what each page had last.
    pages: Vec<u128>,
}

impl Writer {
    /// Begins the file, with the memory that the guest was forked from.
    ///
    /// # Errors
    /// It is there already or cannot be written; that memory cannot be read.
    pub fn create(path: &Path, head: &Head, base: &File) -> Result<Writer> {
        let doing = || format!("write {}", path.display());
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(path).or_host(doing())?;
        let zeros = xxh3_128(&[0; PAGE_SIZE]);
        let count = usize::try_from(head.memory / PAGE_SIZE as u64).unwrap_or_default();
        let mut writer = Writer { file, numbers: HashMap::from([(zeros, 0)]), next: 1, pages: vec![zeros; count] };
        writer.begin(head, base).or_host(doing())?;
        Ok(writer)
    }

    fn begin(&mut self, head: &Head, base: &File) -> io::Result<()> {
        self.file.write_all(MAGIC)?;
        self.file.write_all(&chunk(Kind::Head, &serde_json::to_vec(head)?))?;
        let mut part = Part::default();
        let mut bytes = vec![0; RUN * PAGE_SIZE];
        for extent in extents(base, head.memory)? {
            let mut at = extent.start;
            while at < extent.end {
                let length = usize::try_from(extent.end - at).unwrap_or(usize::MAX).min(bytes.len());
                base.read_exact_at(&mut bytes[..length], at)?;
                for (page, content) in (at / PAGE_SIZE as u64..).zip(bytes[..length].chunks_exact(PAGE_SIZE)) {
                    let page = u32::try_from(page).map_err(io::Error::other)?;
                    self.take_base(page, content, &mut part)?;
                }
                at += length as u64;
            }
        }
        self.write_base(&mut part)?;
        self.file.sync_data()
    }

    /// Two pages of the base that are alike are both written: their numbers are the order in which they come.
    fn take_base(&mut self, page: u32, content: &[u8], part: &mut Part) -> io::Result<()> {
        let hash = xxh3_128(content);
        if self.numbers.get(&hash) == Some(&0) {
            return Ok(());
        }
        self.numbers.insert(hash, self.next);
        *self.last(page)? = hash;
        self.next += 1;
        part.pages.push(page);
        part.contents.extend(content);
        if part.pages.len() == TOGETHER { self.write_base(part) } else { Ok(()) }
    }

    /// The hash of what a page had last.
    fn last(&mut self, page: u32) -> io::Result<&mut u128> {
        self.pages.get_mut(page as usize).ok_or_else(|| io::Error::other("there is a page behind the memory's end"))
    }

    fn write_base(&mut self, part: &mut Part) -> io::Result<()> {
        let Part { pages, contents } = std::mem::take(part);
        if pages.is_empty() {
            return Ok(());
        }
        self.file.write_all(&chunk(Kind::Base, &pack(&BaseIndex { pages }, &contents)?))
    }

    /// Appends a hit, and has it on disk.
    ///
    /// # Errors
    /// The guest is gone, or the disk full. The file is whole up to the hit before.
    pub fn hit(&mut self, stop: Stop, memory: &dyn Pages) -> io::Result<Written> {
        let mut index = HitIndex { stop, pages: Vec::new() };
        let (mut contents, mut written) = (Vec::new(), Written { changed: 0, new: 0, bytes: 0 });
        let mut bytes = vec![0; RUN * PAGE_SIZE];
        for run in runs(&memory.written()?) {
            let bytes = &mut bytes[..run.len() * PAGE_SIZE];
            memory.read(run.start, bytes)?;
            for (page, content) in run.zip(bytes.chunks_exact(PAGE_SIZE)) {
                let hash = xxh3_128(content);
                if std::mem::replace(self.last(page)?, hash) == hash {
                    continue;
                }
                let number = *self.numbers.entry(hash).or_insert(self.next);
                if number == self.next {
                    self.next += 1;
                    if contents.len() == TOGETHER * PAGE_SIZE {
                        written.bytes += self.append(Kind::Pages, &pack_contents(&contents)?)?;
                        contents.clear();
                    }
                    contents.extend(content);
                    written.new += 1;
                }
                index.pages.push((page, number));
            }
        }
        written.changed = index.pages.len();
        written.bytes += self.append(Kind::Hit, &pack(&index, &contents)?)?;
        Ok(written)
    }

    /// Appends a chunk, and has it on disk. Gives how many bytes that are.
    fn append(&mut self, kind: Kind, content: &[u8]) -> io::Result<usize> {
        let chunk = chunk(kind, content);
        self.file.write_all(&chunk)?;
        // Of several only the last one may be lost.
        self.file.sync_data()?;
        Ok(chunk.len())
    }
}

/// A part of the base in the making.
#[derive(Default)]
struct Part {
    pages: Vec<u32>,
    contents: Vec<u8>,
}

/// Pages that lie behind each other, in runs that can be read at once.
fn runs(pages: &[u32]) -> Vec<Range<u32>> {
    let mut runs: Vec<Range<u32>> = Vec::new();
    for page in pages {
        match runs.last_mut() {
            Some(run) if run.end == *page && run.len() < RUN => run.end += 1,
            _ => runs.push(*page..page + 1),
        }
    }
    runs
}

/// Where a sparse file has something, in whole pages.
fn extents(file: &File, size: u64) -> io::Result<Vec<Range<u64>>> {
    let mut extents = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            // There is nothing more.
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(start))?;
        let page = PAGE_SIZE as u64;
        let extent = start / page * page..end.next_multiple_of(page).min(size);
        at = extent.end;
        extents.push(extent);
    }
    Ok(extents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_read_in_runs() {
        assert_eq!(runs(&[]), []);
        assert_eq!(runs(&[1, 2, 3, 7, 9, 10]), [1..4, 7..8, 9..11]);
        let many: Vec<u32> = (0..300).collect();
        assert_eq!(runs(&many), [0..256, 256..300]);
    }

    #[test]
    fn holes_are_left_out() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        assert_eq!(extents(&file, 1 << 20).unwrap(), []);
        file.write_all_at(&[7; 16], 0x8010).unwrap();
        let found = extents(&file, 1 << 20).unwrap();
        assert_eq!(found.len(), 1);
        assert!(found[0].start <= 0x8000 && found[0].end >= 0x9000 && found[0].end.is_multiple_of(4096));
    }
}
