//! The contents of pages, unpacked when they are wanted.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read};
use std::ops::Range;

use super::format::{PAGE_SIZE, count};

/// How many packs, of 4 MiB at most, are kept unpacked: the base of a guest that has just booted, and some hits.
const KEPT: usize = 32;

/// The contents of pages by their number; 0 is a page of zeros.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Where packs are in the file, by the number of their first content.
    packs: BTreeMap<u32, Range<usize>>,
    /// The number that comes next.
    next: u32,
    /// Packs that were unpacked, the latest last.
    unpacked: VecDeque<(u32, Vec<u8>)>,
}

impl Contents {
    pub(super) fn new() -> Contents {
        Contents { next: 1, ..Contents::default() }
    }

    /// Takes in contents that are packed at a place of the file. Gives their numbers.
    pub(super) fn add(&mut self, file: &[u8], place: Range<usize>) -> io::Result<Range<u32>> {
        let pages = count(file.get(place.clone()).unwrap_or_default())?;
        let end = u32::try_from(pages).ok().and_then(|pages| self.next.checked_add(pages));
        let numbers = self.next..end.ok_or_else(|| io::Error::other("it has more pages than there can be"))?;
        if !numbers.is_empty() {
            self.packs.insert(numbers.start, place);
        }
        self.next = numbers.end;
        Ok(numbers)
    }

    /// Whether there is a content with this number.
    pub(super) fn has(&self, number: u32) -> bool {
        number < self.next
    }

    /// Copies a part of a content, from an offset on.
    pub(super) fn read(&mut self, file: &[u8], number: u32, from: usize, into: &mut [u8]) -> io::Result<()> {
        let Some((first, place)) = self.packs.range(..=number).next_back().filter(|_| number > 0) else {
            into.fill(0);
            return Ok(());
        };
        let first = *first;
        let kept = match self.unpacked.iter().position(|(pack, _)| *pack == first) {
            Some(kept) => kept,
            None => {
                let packed = file.get(place.clone()).unwrap_or_default();
                let pages = unpacked(packed)?;
                if self.unpacked.len() == KEPT {
                    self.unpacked.pop_front();
                }
                self.unpacked.push_back((first, pages));
                self.unpacked.len() - 1
            }
        };
        let at = (number - first) as usize * PAGE_SIZE + from;
        let bytes = self.unpacked.get(kept).and_then(|(_, pages)| pages.get(at..at + into.len()));
        into.copy_from_slice(bytes.ok_or_else(|| io::Error::other("a page is missing"))?);
        Ok(())
    }
}

/// The pages that these packed ones say they are: what somebody has packed may be longer than it says.
fn unpacked(packed: &[u8]) -> io::Result<Vec<u8>> {
    let size = (count(packed)? * PAGE_SIZE) as u64;
    let mut pages = Vec::new();
    zstd::stream::Decoder::new(packed)?.take(size + 1).read_to_end(&mut pages)?;
    match pages.len() as u64 == size {
        true => Ok(pages),
        false => Err(io::Error::other("its pages are more, or fewer, than it says")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_longer_than_it_says_is_refused() {
        let page = zstd::bulk::compress(&[7; PAGE_SIZE], 1).unwrap();
        assert_eq!(unpacked(&page).unwrap(), [7; PAGE_SIZE]);
        // The first frame says its size, and others come behind it.
        let longer = [page.as_slice(), &page].concat();
        assert_eq!(count(&longer).unwrap(), 1);
        assert!(unpacked(&longer).is_err());
    }
}
