//! What the kernel says of a process's pages (Documentation/admin-guide/mm/pagemap.rst). Pure.

/// The size of an entry, in bytes.
pub(super) const ENTRY: u64 = 8;

/// It is in memory.
const PRESENT: u64 = 1 << 63;
/// It is swapped out; pages of files are not.
const SWAPPED: u64 = 1 << 62;
/// It is a file's, or shared.
const FILE: u64 = 1 << 61;

/// Which pages of a private mapping of a file are the process's own, from their entries: those that it has written to.
pub(super) fn own(entries: &[u8]) -> Vec<u32> {
    let entries = entries.as_chunks().0.iter().map(|entry| u64::from_ne_bytes(*entry));
    let is_own = |entry: u64| (entry & (PRESENT | SWAPPED)) != 0 && entry & FILE == 0;
    (0..).zip(entries).filter(|(_, entry)| is_own(*entry)).map(|(page, _)| page).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_was_written_to_is_in_memory_or_swapped_and_no_files() {
        let entries = [0, PRESENT | FILE, PRESENT, SWAPPED, PRESENT | 1 << 55 | 7, FILE];
        let bytes: Vec<u8> = entries.iter().flat_map(|entry: &u64| entry.to_ne_bytes()).collect();
        assert_eq!(own(&bytes), [2, 3, 4]);
    }
}
