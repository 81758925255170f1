//! What the chunks of a recording hold. Pure.
//!
//! A hit, and a part of the base, is an index (JSON) and the contents of pages that were not there before, each packed with zstd.
//! Contents have numbers, in the order in which they come; number 0 is a page of zeros.

use std::collections::BTreeMap;
use std::io;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::memory::paging::PAGE;
use crate::recipe::types::MOST_CPUS;
use crate::report::text::printable;
use crate::server::description;

/// A page's bytes.
pub(super) const PAGE_SIZE: usize = PAGE as usize;
/// How hard zstd tries: what it saves above that is not worth the time at a stop.
const LEVEL: i32 = 1;

/// The longest index that is believed, in bytes: that of a hit which has changed all pages of a large memory.
const LONGEST: usize = 1 << 28;

/// What is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The recipe's name.
    pub recipe: String,
    /// The kernel.
    pub kernel: KernelOf,
    /// The guest's memory, in bytes.
    pub memory: u64,
    /// How many CPUs it has.
    pub cpus: u32,
    /// QEMU's description of its registers: target.xml, and the files that it includes.
    pub description: BTreeMap<String, String>,
}

/// The most memory, in bytes: pages have numbers of 32 bits.
const MOST_MEMORY: u64 = PAGE << 32;

impl Head {
    /// Why this is no guest that kdbg has recorded; a recording may be somebody else's.
    pub(super) fn wrong(&self) -> Option<String> {
        let KernelOf { release, build_id, vmlinux, source } = &self.kernel;
        let texts = [&self.recipe, release, build_id, vmlinux].into_iter().chain(source);
        if let Some(text) = texts.into_iter().find(|text| !is_printable(text)) {
            return Some(format!("`{}` is no name", printable(text)));
        }
        if !self.memory.is_multiple_of(PAGE) || !(1..=MOST_MEMORY).contains(&self.memory) {
            return Some(format!("no guest has {} bytes of memory", self.memory));
        }
        if !(1..=MOST_CPUS).contains(&self.cpus) {
            return Some(format!("no guest has {} CPUs", self.cpus));
        }
        let without = !self.description.contains_key(description::TARGET);
        without.then(|| format!("it does not describe the registers: there is no {}", description::TARGET))
    }

    /// How many pages the memory has.
    pub(super) fn pages(&self) -> u64 {
        self.memory / PAGE
    }
}

/// Whether a text can be shown on a terminal as it is.
pub(super) fn is_printable(text: &str) -> bool {
    printable(text) == text
}

/// The kernel of a recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelOf {
    /// Its release.
    pub release: String,
    /// The GNU build-id of vmlinux, in hexadecimal.
    pub build_id: String,
    /// Where vmlinux was.
    pub vmlinux: String,
    /// Where its source was, if it was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// A hit, as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// The hit's number in the report.
    pub index: u64,
    /// The probe's name.
    pub probe: String,
    /// The CPU that stood at the probe.
    pub cpu: u32,
    /// All registers of every CPU, as QEMU answers to the packet `g`.
    #[serde(with = "hexadecimal")]
    pub registers: Vec<Vec<u8>>,
}

/// How many pages' contents are packed together at most: who reads one of them unpacks all.
pub(super) const TOGETHER: usize = 1024;

/// The index of a hit.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct HitIndex {
    pub(super) stop: Stop,
    /// The pages that have another content than at the hit before, and which.
    pub(super) pages: Vec<(u32, u32)>,
}

/// The index of a part of the base: the pages whose contents follow.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct BaseIndex {
    pub(super) pages: Vec<u32>,
}

mod hexadecimal {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[Vec<u8>], serializer: S) -> Result<S::Ok, S::Error> {
        bytes.iter().map(crate::digest::hex).collect::<Vec<_>>().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Vec<u8>>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let bytes = texts
            .iter()
            .map(|text| crate::digest::unhex(text).ok_or_else(|| D::Error::custom("no hexadecimal digits")));
        bytes.collect()
    }
}

/// The content of a chunk with an index and contents of pages.
pub(super) fn pack(index: &impl Serialize, contents: &[u8]) -> io::Result<Vec<u8>> {
    let index = zstd::bulk::compress(&serde_json::to_vec(index)?, LEVEL)?;
    let length = u32::try_from(index.len()).map_err(io::Error::other)?;
    Ok([&length.to_le_bytes()[..], &index, &pack_contents(contents)?].concat())
}

/// Contents of pages, packed.
pub(super) fn pack_contents(contents: &[u8]) -> io::Result<Vec<u8>> {
    zstd::bulk::compress(contents, LEVEL)
}

/// The index of a chunk, and its packed contents.
pub(super) fn unpack<T: DeserializeOwned>(content: &[u8]) -> io::Result<(T, &[u8])> {
    let wrong = || io::Error::other("its index is cut off");
    let (length, rest) = content.split_first_chunk().ok_or_else(wrong)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(io::Error::other)?;
    let (index, contents) = rest.split_at_checked(length).ok_or_else(wrong)?;
    Ok((serde_json::from_slice(&zstd::bulk::decompress(index, LONGEST)?)?, contents))
}

/// How many pages' contents these packed ones are.
pub(super) fn count(contents: &[u8]) -> io::Result<usize> {
    let size = zstd::stream::decompressed_size(contents).ok_or_else(|| io::Error::other("it does not say its size"))?;
    let size = usize::try_from(size).map_err(io::Error::other)?;
    match size / PAGE_SIZE {
        _ if !size.is_multiple_of(PAGE_SIZE) => Err(io::Error::other("it has no whole pages")),
        ..=TOGETHER => Ok(size / PAGE_SIZE),
        pages => Err(io::Error::other(format!("{pages} pages are packed together, and {TOGETHER} may be"))),
    }
}
