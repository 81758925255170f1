//! The chunks that a recording's file is made of: each says how long it is, and has checksums. Pure.

use xxhash_rust::xxh3::xxh3_64;

/// What every recording begins with; another format begins with something else.
pub(super) const MAGIC: &[u8; 8] = b"kdbgrec2";
/// How long what precedes a chunk's content is: kind, length, the content's checksum, and the checksum of these.
const PREFIX: usize = 28;

/// What is in a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// What is recorded.
    Head,
    /// Pages that the guest began with.
    Base,
    /// Contents of pages of the hit that comes next, where they are many.
    Pages,
    /// A hit.
    Hit,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::Head, Kind::Base, Kind::Pages, Kind::Hit];

    fn bytes(self) -> &'static [u8; 4] {
        match self {
            Kind::Head => b"head",
            Kind::Base => b"base",
            Kind::Pages => b"page",
            Kind::Hit => b"hit ",
        }
    }
}

/// A chunk with this content.
pub(super) fn chunk(kind: Kind, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(PREFIX + content.len());
    bytes.extend(kind.bytes());
    bytes.extend((content.len() as u64).to_le_bytes());
    bytes.extend(xxh3_64(content).to_le_bytes());
    bytes.extend(xxh3_64(&bytes).to_le_bytes());
    bytes.extend(content);
    bytes
}

/// What is at a place of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// A chunk, its content, and how long it is in all.
    Whole(Kind, &'a [u8], usize),
    /// The file ends here.
    End,
    /// The file ends in a chunk, which was not written whole.
    Cut,
    /// Something that nobody wrote: what.
    Damaged(&'static str),
}

/// What a file has next, from its remaining bytes.
pub(super) fn next(bytes: &[u8]) -> Found<'_> {
    if bytes.is_empty() {
        return Found::End;
    }
    let Some((prefix, rest)) = bytes.split_at_checked(PREFIX) else { return Found::Cut };
    let number = |from: usize| prefix[from..from + 8].try_into().map(u64::from_le_bytes).unwrap_or_default();
    // A host that went down may have the file's new length on disk, and zeros where the last chunk was to be.
    let ends_within = |length: usize| bytes[length.min(bytes.len()) - 1..].iter().all(|byte| *byte == 0);
    if xxh3_64(&prefix[..PREFIX - 8]) != number(20) {
        if ends_within(PREFIX) {
            return Found::Cut;
        }
        return Found::Damaged("the head of a chunk is not what was written");
    }
    let Some(kind) = Kind::ALL.into_iter().find(|kind| prefix.starts_with(kind.bytes())) else {
        return Found::Damaged("a chunk of a kind that this kdbg does not know");
    };
    let Some(content) = usize::try_from(number(4)).ok().and_then(|length| rest.get(..length)) else {
        return Found::Cut;
    };
    match xxh3_64(content) == number(12) {
        true => Found::Whole(kind, content, PREFIX + content.len()),
        // The last one may have been under way when the host went down.
        false if rest.len() == content.len() && matches!(kind, Kind::Pages | Kind::Hit) => Found::Cut,
        false if ends_within(PREFIX + content.len()) => Found::Cut,
        false => Found::Damaged("the content of a chunk is not what was written"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_come_back_whole_cut_or_damaged() {
        let (head, hit) = (chunk(Kind::Head, b"{}"), chunk(Kind::Hit, b"abc"));
        let both = [head.as_slice(), &hit].concat();
        assert_eq!(next(&both), Found::Whole(Kind::Head, b"{}", head.len()));
        assert_eq!(next(&both[head.len()..]), Found::Whole(Kind::Hit, b"abc", hit.len()));
        assert_eq!(next(&[]), Found::End);
        assert_eq!(next(&[0; 4096]), Found::Cut);
        assert!(matches!(next(&[&[0; 4096], hit.as_slice()].concat()), Found::Damaged(_)));
        for length in 1..hit.len() {
            assert_eq!(next(&hit[..length]), Found::Cut, "{length}");
        }
        for at in 0..both.len() {
            let mut damaged = both.clone();
            damaged[at] ^= 0x10;
            let found = if at < head.len() { next(&damaged) } else { next(&damaged[head.len()..]) };
            let is_last = at >= both.len() - 3;
            assert!(
                matches!(found, Found::Damaged(_)) != is_last && (found == Found::Cut) == is_last,
                "{at}: {found:?}"
            );
        }
    }
}
