//! The debug information of a vmlinux, asked for places in its code.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use gimli::{AttributeValue, DebugInfoOffset, EndianSlice, LittleEndian, SectionId, UnitOffset};
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};
use symbolic_common::ByteView;

use super::function;
use super::place::Place;
use super::rows::Rows;
use super::types::Types;

pub(super) type Slice<'a> = EndianSlice<'a, LittleEndian>;
pub(super) type Dwarf<'a> = gimli::Dwarf<Slice<'a>>;
pub(super) type Entry<'a> = gimli::DebuggingInformationEntry<Slice<'a>>;

/// The debug information of a vmlinux. Remembers what it was asked.
#[derive(Debug)]
pub struct Image {
    bytes: ByteView<'static>,
    sections: BTreeMap<&'static str, Range<usize>>,
    rows: Rows,
    /// Which unit has the code from the first address to the one before the second.
    units: Vec<(u64, u64, usize)>,
    read: HashMap<usize, Read>,
    /// By name, the functions that have one address.
    functions: HashMap<String, u64>,
    places: HashMap<(u64, u64), Option<Arc<Place>>>,
}

/// What is known of a unit.
#[derive(Debug, Default)]
struct Read {
    functions: Vec<(u64, u64, UnitOffset)>,
    types: Types,
}

impl Image {
    /// Opens a vmlinux; none if its debug information is not there, or is compressed.
    pub fn open(vmlinux: &Path) -> Option<Image> {
        let bytes = ByteView::open(vmlinux).ok()?;
        let elf = object::File::parse(&*bytes).ok()?;
        let mut sections = BTreeMap::new();
        for id in SECTIONS {
            let Some(section) = elf.section_by_name(id.name()) else { continue };
            let range = section.compressed_file_range().ok()?;
            if range.format != object::CompressionFormat::None {
                return None;
            }
            let start = usize::try_from(range.offset).ok()?;
            let end = start.checked_add(usize::try_from(range.uncompressed_size).ok()?)?;
            bytes.get(start..end)?;
            sections.insert(id.name(), start..end);
        }
        let mut functions: HashMap<String, u64> = HashMap::new();
        for symbol in elf.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text) {
            let Ok(name) = symbol.name() else { continue };
            if symbol.is_global() || !functions.contains_key(name) {
                functions.insert(name.into(), symbol.address());
            }
        }
        let mut image = Image {
            bytes: bytes.clone(),
            sections,
            rows: Rows::default(),
            units: Vec::new(),
            read: HashMap::new(),
            functions,
            places: HashMap::new(),
        };
        image.rows = Rows::index(&image.frames()).ok()?;
        image.units = image.index().ok()?;
        Some(image)
    }

    fn section(&self, id: SectionId) -> Slice<'_> {
        let range = self.sections.get(id.name()).cloned().unwrap_or_default();
        EndianSlice::new(self.bytes.get(range).unwrap_or_default(), LittleEndian)
    }

    fn frames(&self) -> gimli::DebugFrame<Slice<'_>> {
        let mut section = gimli::DebugFrame::from(self.section(SectionId::DebugFrame));
        section.set_address_size(8);
        section
    }

    fn index(&self) -> gimli::Result<Vec<(u64, u64, usize)>> {
        let aranges = gimli::DebugAranges::from(self.section(SectionId::DebugAranges));
        let mut headers = aranges.headers();
        let mut units = Vec::new();
        while let Some(header) = headers.next()? {
            let mut entries = header.entries();
            while let Some(entry) = entries.next()? {
                let range = entry.range();
                units.push((range.begin, range.end, header.debug_info_offset().0));
            }
        }
        units.sort_unstable();
        Ok(units)
    }

    /// What is said of the code at `address`, in a call that returns to `returns`; none where there is no debug information,
    /// or none that is understood.
    pub fn place(&mut self, address: u64, returns: u64) -> Option<Arc<Place>> {
        if let Some(known) = self.places.get(&(address, returns)) {
            return known.clone();
        }
        let place = self.look_up(address, returns).ok().flatten().map(Arc::new);
        self.places.insert((address, returns), place.clone());
        place
    }

    fn look_up(&mut self, address: u64, returns: u64) -> gimli::Result<Option<Place>> {
        let row = self.rows.at(&self.frames(), address)?;
        let after = self.units.partition_point(|(start, ..)| *start <= address);
        let found = after.checked_sub(1).and_then(|at| self.units.get(at)).filter(|(_, end, _)| address < *end);
        let Some((.., offset)) = found.copied() else { return Ok(Some(Place::without_source(row))) };
        let mut read = self.read.remove(&offset);
        let dwarf = Dwarf::load(|id| Ok::<_, gimli::Error>(self.section(id)))?;
        let header = dwarf.debug_info.header_from_offset(DebugInfoOffset(offset))?;
        let unit = Unit { unit: dwarf.unit(header)?, dwarf: &dwarf };
        if read.is_none() {
            read = Some(Read { functions: unit.functions()?, types: Types::default() });
        }
        let mut read = read.unwrap_or_default();
        let function = read.functions.iter().find(|(start, end, _)| (*start..*end).contains(&address));
        let place = match function {
            Some((.., at)) => {
                let symbol = |name: &str| self.functions.get(name).copied();
                function::read(&unit, *at, (address, returns), &mut read.types, &symbol)?
                    .map(|place| Place { row, ..place })
            }
            None => Some(Place::without_source(row)),
        };
        self.read.insert(offset, read);
        Ok(place)
    }
}

/// The sections that are read.
const SECTIONS: [SectionId; 12] = [
    SectionId::DebugAbbrev,
    SectionId::DebugAddr,
    SectionId::DebugAranges,
    SectionId::DebugFrame,
    SectionId::DebugInfo,
    // A unit is not read without it.
    SectionId::DebugLine,
    SectionId::DebugLineStr,
    SectionId::DebugLoc,
    SectionId::DebugLocLists,
    SectionId::DebugRanges,
    SectionId::DebugRngLists,
    SectionId::DebugStr,
];

/// A compilation unit.
pub(super) struct Unit<'a> {
    pub(super) unit: gimli::Unit<Slice<'a>>,
    pub(super) dwarf: &'a Dwarf<'a>,
}

impl<'a> Unit<'a> {
    /// The entries right below one.
    pub(super) fn children(&self, of: UnitOffset) -> gimli::Result<Vec<Entry<'a>>> {
        let mut tree = self.unit.entries_tree(Some(of))?;
        let mut children = tree.root()?.children();
        let mut entries = Vec::new();
        while let Some(child) = children.next()? {
            entries.push(child.entry().clone());
        }
        Ok(entries)
    }

    /// An attribute of an entry, or of what that is a copy of.
    pub(super) fn attribute(&self, entry: &Entry<'a>, name: gimli::DwAt) -> Option<AttributeValue<Slice<'a>>> {
        let holder = self.holder(entry, name)?;
        holder.attr_value(name)
    }

    /// The entry that has an attribute: this one, or what it is a copy of.
    pub(super) fn holder(&self, entry: &Entry<'a>, name: gimli::DwAt) -> Option<Entry<'a>> {
        let mut entry = entry.clone();
        for _ in 0..COPIES {
            if entry.attr(name).is_some() {
                return Some(entry);
            }
            let origin = [gimli::DW_AT_abstract_origin, gimli::DW_AT_specification]
                .iter()
                .find_map(|origin| entry.attr_value(*origin))?;
            let AttributeValue::UnitRef(at) = origin else { return None };
            entry = self.unit.entry(at).ok()?;
        }
        None
    }

    /// A string among the attributes of an entry or of what that is a copy of; empty if there is none.
    pub(super) fn text(&self, entry: &Entry<'a>, name: gimli::DwAt) -> String {
        self.holder(entry, name).map(|holder| string(self, &holder, name)).unwrap_or_default()
    }

    /// The code of an entry.
    pub(super) fn ranges(&self, entry: &Entry<'a>) -> gimli::Result<Vec<(u64, u64)>> {
        let mut ranges = self.dwarf.die_ranges(&self.unit, entry)?;
        let mut all = Vec::new();
        while let Some(range) = ranges.next()? {
            all.push((range.begin, range.end));
        }
        Ok(all)
    }

    /// The functions that have code.
    fn functions(&self) -> gimli::Result<Vec<(u64, u64, UnitOffset)>> {
        let mut tree = self.unit.entries_tree(None)?;
        let mut children = tree.root()?.children();
        let mut functions = Vec::new();
        while let Some(child) = children.next()? {
            let entry = child.entry();
            if entry.tag() == gimli::DW_TAG_subprogram {
                functions.extend(self.ranges(entry)?.into_iter().map(|(start, end)| (start, end, entry.offset())));
            }
        }
        Ok(functions)
    }
}

/// How often what an entry is a copy of may be a copy itself.
const COPIES: usize = 4;

/// A string among an entry's own attributes; empty if there is none.
pub(super) fn string(unit: &Unit<'_>, entry: &Entry<'_>, name: gimli::DwAt) -> String {
    let value = entry.attr_value(name).and_then(|value| unit.dwarf.attr_string(&unit.unit, value).ok());
    value.map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
}

/// A number without a sign among an entry's own attributes.
pub(super) fn unsigned(entry: &Entry<'_>, name: gimli::DwAt) -> Option<u64> {
    entry.attr(name).and_then(|value| value.udata_value())
}

/// A number among an entry's own attributes.
pub(super) fn signed(entry: &Entry<'_>, name: gimli::DwAt) -> Option<i64> {
    let value = entry.attr(name)?;
    value.sdata_value().or_else(|| value.udata_value().map(u64::cast_signed))
}
