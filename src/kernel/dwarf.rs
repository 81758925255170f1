//! [`Layouts`] from DWARF: finds units by their source files, and in them structures, members and enumerations.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use gimli::{AttributeValue, EndianSlice, LittleEndian, UnitOffset};
use object::{Object, ObjectSection};

use crate::error::{Error, IoContext, Result};
use crate::layout::{Field, Kind, Layouts, Wanted};

/// Reads the debug information in `file`: the structures and enumerations as the units whose source files end in one of
/// `units` have them, the first that has one. An enumeration is named by its name or, having none, by one of its enumerators.
///
/// # Errors
/// The file cannot be read, or is not ELF with DWARF.
pub(super) fn read(file: &Path, units: &[&str], wanted: &[Wanted], enums: &[&str]) -> Result<Layouts> {
    with_dwarf(file, |dwarf| of(dwarf, units, wanted, enums))
}

fn with_dwarf<T>(file: &Path, read: impl FnOnce(&Dwarf<'_>) -> gimli::Result<T>) -> Result<T> {
    let data = fs::read(file).or_host(format!("read {}", file.display()))?;
    let wrong = |why: String| Error::kernel(format!("{}: its debug information cannot be read: {why}", file.display()));
    let elf = object::File::parse(&*data).map_err(|error| wrong(error.to_string()))?;
    let section = |id: gimli::SectionId| -> Result<_, gimli::Error> {
        let bytes = elf.section_by_name(id.name()).and_then(|section| section.uncompressed_data().ok());
        Ok(bytes.unwrap_or_default())
    };
    let sections = gimli::DwarfSections::load(section).map_err(|error| wrong(error.to_string()))?;
    let dwarf = sections.borrow(|bytes| EndianSlice::new(bytes, LittleEndian));
    read(&dwarf).map_err(|error| wrong(error.to_string()))
}

/// What the debug information in `file` calls the folder of the kernel's source: where `init/main.c` is.
///
/// # Errors
/// As [`read`].
pub fn tree(file: &Path) -> Result<Option<String>> {
    with_dwarf(file, |dwarf| {
        let mut headers = dwarf.units();
        while let Some(header) = headers.next()? {
            let unit = dwarf.unit(header)?;
            let text =
                |part: Option<Slice<'_>>| part.map(|part| part.to_string_lossy().into_owned()).unwrap_or_default();
            let path = Path::new(&text(unit.comp_dir)).join(text(unit.name));
            if let Some(tree) = path.to_str().and_then(|path| path.strip_suffix("/init/main.c")) {
                return Ok(Some(tree.to_string()).filter(|tree| tree.starts_with('/')));
            }
        }
        Ok(None)
    })
}

fn of(dwarf: &Dwarf<'_>, units: &[&str], wanted: &[Wanted], enums: &[&str]) -> gimli::Result<Layouts> {
    let mut found: BTreeMap<usize, Unit<'_>> = BTreeMap::new();
    let mut headers = dwarf.units();
    while let Some(header) = headers.next()? {
        let unit = dwarf.unit(header)?;
        let name = unit.name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let rank = units.iter().position(|wanted| ends_with_path(&name, wanted));
        if let Some(rank) = rank
            && !found.contains_key(&rank)
        {
            found.insert(rank, Unit::index(dwarf, unit, enums)?);
        }
    }
    let mut layouts = Layouts::default();
    for unit in found.values() {
        for (structure, paths) in
            wanted.iter().filter(|(name, _)| !layouts.sizes.contains_key(*name)).collect::<Vec<_>>()
        {
            let Some(at) = unit.structures.get(*structure) else { continue };
            layouts.sizes.insert((*structure).into(), unit.size(&unit.unit.entry(*at)?)?);
            for path in *paths {
                if let Some(field) = unit.member(*at, path)? {
                    layouts.fields.insert(format!("{structure}.{path}"), field);
                }
            }
        }
        for name in enums.iter().filter(|name| !layouts.enums.contains_key(**name)).collect::<Vec<_>>() {
            if let Some(values) = unit.enums.get(*name) {
                layouts.enums.insert((*name).into(), values.clone());
            }
        }
    }
    Ok(layouts)
}

/// Whether a path ends in whole components of another.
fn ends_with_path(path: &str, end: &str) -> bool {
    path.strip_suffix(end).is_some_and(|before| before.is_empty() || before.ends_with('/'))
}

type Slice<'a> = EndianSlice<'a, LittleEndian>;
type Dwarf<'a> = gimli::Dwarf<Slice<'a>>;

/// A compilation unit with what is declared at its top.
struct Unit<'a> {
    unit: gimli::Unit<Slice<'a>>,
    structures: BTreeMap<String, UnitOffset>,
    enums: BTreeMap<String, Vec<(i64, String)>>,
    dwarf: &'a Dwarf<'a>,
}

impl<'a> Unit<'a> {
    /// Takes in what is declared at the top of a unit; of enumerations, those that `wanted` names.
    fn index(dwarf: &'a Dwarf<'a>, unit: gimli::Unit<Slice<'a>>, wanted: &[&str]) -> gimli::Result<Unit<'a>> {
        let mut indexed = Unit { unit, structures: BTreeMap::new(), enums: BTreeMap::new(), dwarf };
        for entry in indexed.children(None)? {
            match entry.tag() {
                gimli::DW_TAG_structure_type | gimli::DW_TAG_union_type
                    if entry.attr_value(gimli::DW_AT_declaration).is_none() =>
                {
                    if let Some(name) = indexed.name(&entry) {
                        indexed.structures.entry(name).or_insert(entry.offset());
                    }
                }
                gimli::DW_TAG_enumeration_type => {
                    let values = indexed.values(entry.offset())?;
                    let names = indexed.name(&entry).into_iter().chain(values.iter().map(|(_, name)| name.clone()));
                    for name in names.filter(|name| wanted.contains(&name.as_str())).collect::<Vec<_>>() {
                        indexed.enums.insert(name, values.clone());
                    }
                }
                _ => {}
            }
        }
        Ok(indexed)
    }

    /// The entries right below one, or below the unit itself.
    fn children(&self, of: Option<UnitOffset>) -> gimli::Result<Vec<Entry<'a>>> {
        let mut tree = self.unit.entries_tree(of)?;
        let mut children = tree.root()?.children();
        let mut entries = Vec::new();
        while let Some(child) = children.next()? {
            entries.push(child.entry().clone());
        }
        Ok(entries)
    }

    fn name(&self, entry: &Entry<'a>) -> Option<String> {
        let name = self.dwarf.attr_string(&self.unit, entry.attr_value(gimli::DW_AT_name)?).ok()?;
        Some(name.to_string_lossy().into_owned())
    }

    fn values(&self, enumeration: UnitOffset) -> gimli::Result<Vec<(i64, String)>> {
        let enumerators = self.children(Some(enumeration))?;
        let value = |entry: &Entry<'a>| {
            let value = entry.attr(gimli::DW_AT_const_value)?;
            value.sdata_value().or_else(|| value.udata_value().map(u64::cast_signed))
        };
        Ok(enumerators.iter().filter_map(|entry| Some((value(entry)?, self.name(entry)?))).collect())
    }

    /// What an entry is of, without the names and qualifiers that it goes by.
    fn type_of(&self, entry: &Entry<'a>) -> gimli::Result<Option<Entry<'a>>> {
        let mut entry = entry.clone();
        loop {
            let Some(AttributeValue::UnitRef(at)) = entry.attr_value(gimli::DW_AT_type) else { return Ok(None) };
            entry = self.unit.entry(at)?;
            match entry.tag() {
                gimli::DW_TAG_typedef
                | gimli::DW_TAG_const_type
                | gimli::DW_TAG_volatile_type
                | gimli::DW_TAG_atomic_type => {}
                _ => return Ok(Some(entry)),
            }
        }
    }

    fn size(&self, entry: &Entry<'a>) -> gimli::Result<u64> {
        if let Some(size) = entry.attr(gimli::DW_AT_byte_size).and_then(|size| size.udata_value()) {
            return Ok(size);
        }
        match (entry.tag(), self.type_of(entry)?) {
            (gimli::DW_TAG_array_type, Some(element)) => {
                let mut size = self.size(&element)?;
                for range in self.children(Some(entry.offset()))? {
                    let bound = |name| range.attr(name).and_then(|bound| bound.udata_value());
                    let last = bound(gimli::DW_AT_upper_bound).map(|last| last.wrapping_add(1));
                    size *= bound(gimli::DW_AT_count).or(last).unwrap_or(0);
                }
                Ok(size)
            }
            _ => Ok(0),
        }
    }

    /// The member at the end of `path` in a structure or union.
    fn member(&self, structure: UnitOffset, path: &str) -> gimli::Result<Option<Field>> {
        let (part, rest) = path.split_once('.').map_or((path, None), |(part, rest)| (part, Some(rest)));
        let (name, index) = match part.strip_suffix(']').and_then(|part| part.split_once('[')) {
            Some((name, index)) => (name, index.parse::<u64>().ok()),
            None => (part, None),
        };
        for entry in self.children(Some(structure))?.iter().filter(|entry| entry.tag() == gimli::DW_TAG_member) {
            let Some(mut of) = self.type_of(entry)? else { continue };
            let mut offset = entry.attr(gimli::DW_AT_data_member_location).and_then(|at| at.udata_value()).unwrap_or(0);
            let below = match self.name(entry) {
                None => self.member_of(&of, path)?,
                Some(other) if other == name => {
                    if let Some(index) = index {
                        let Some(element) = self.type_of(&of)? else { return Ok(None) };
                        offset += index * self.size(&element)?;
                        of = element;
                    }
                    match rest {
                        Some(rest) => self.member_of(&of, rest)?,
                        None => Some(self.leaf(entry, &of)?),
                    }
                }
                Some(_) => None,
            };
            if let Some(field) = below {
                return Ok(Some(Field { offset: field.offset + offset, ..field }));
            }
        }
        Ok(None)
    }

    fn member_of(&self, of: &Entry<'a>, path: &str) -> gimli::Result<Option<Field>> {
        match of.tag() {
            gimli::DW_TAG_structure_type | gimli::DW_TAG_union_type => self.member(of.offset(), path),
            _ => Ok(None),
        }
    }

    /// A member at offset 0 of what it is in, or, for bit fields, where its bits are.
    fn leaf(&self, member: &Entry<'a>, of: &Entry<'a>) -> gimli::Result<Field> {
        let size = self.size(of)?;
        let bit = |name| member.attr(name).and_then(|bits| bits.udata_value());
        let bits = bit(gimli::DW_AT_bit_size);
        let first = bit(gimli::DW_AT_data_bit_offset).unwrap_or(0);
        let offset = if bits.is_some() && size > 0 { first / 8 / size * size } else { 0 };
        let kind = match of.tag() {
            gimli::DW_TAG_pointer_type => Kind::Pointer,
            gimli::DW_TAG_enumeration_type => {
                let first = || Some(self.values(of.offset()).ok()?.into_iter().next()?.1);
                Kind::Enum(self.name(of).or_else(first).unwrap_or_default())
            }
            gimli::DW_TAG_base_type => match of.attr_value(gimli::DW_AT_encoding) {
                Some(AttributeValue::Encoding(gimli::DW_ATE_signed | gimli::DW_ATE_signed_char)) => Kind::Signed,
                _ => Kind::Unsigned,
            },
            _ => Kind::Bytes,
        };
        Ok(Field { offset, size, bits: bits.map(|count| (first - offset * 8, count)), kind })
    }
}

type Entry<'a> = gimli::DebuggingInformationEntry<Slice<'a>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_end_in_whole_components() {
        assert!(ends_with_path("/k/net/ipv4/tcp_ipv4.c", "net/ipv4/tcp_ipv4.c") && ends_with_path("a.c", "a.c"));
        assert!(!ends_with_path("/k/subnet/ipv4/tcp_ipv4.c", "net/ipv4/tcp_ipv4.c"));
    }

    #[test]
    fn members_are_where_the_compiler_put_them() {
        let Ok(gcc) = which::which("gcc") else {
            eprintln!("skipped: there is no gcc");
            return;
        };
        let folder = tempfile::tempdir().unwrap();
        let (source, object) = (folder.path().join("sample.c"), folder.path().join("sample.so"));
        let text = "
            enum color { RED = 1, BLUE = 4 };
            enum { FIRST, SECOND };
            typedef const int number;
            struct inner { char pad; number value; };
            struct declared;
            struct sample {
                unsigned long word;
                union { struct { short low, high; }; int both; };
                struct inner list[3];
                unsigned int flag : 3, bits : 5;
                enum color color;
                struct declared *next;
                char name[16];
            } sample;
            int other[SECOND];
            int *which(void) { static __typeof__(FIRST) kind; return other + kind; }
        ";
        fs::write(&source, text).unwrap();
        let mut compile = std::process::Command::new(gcc);
        let status =
            compile.args(["-g", "-fPIC", "-shared", "-nostdlib", "-o"]).arg(&object).arg(&source).status().unwrap();
        assert!(status.success());
        let paths =
            &["word", "high", "both", "list[2].value", "bits", "color", "next", "name", "nothing", "word.x", "list[1]"];
        let layouts = read(&object, &["sample.c"], &[("sample", paths), ("declared", &["x"])], &["color"]).unwrap();
        let field = |path: &str| layouts.field("sample", path).map(|field| (field.offset, field.size, field.bits));
        let expected = [
            ("word", Some((0, 8, None))),
            ("high", Some((10, 2, None))),
            ("both", Some((8, 4, None))),
            ("list[2].value", Some((32, 4, None))),
            ("list[1]", Some((20, 8, None))),
            ("bits", Some((36, 4, Some((3, 5))))),
            ("color", Some((40, 4, None))),
            ("next", Some((48, 8, None))),
            ("name", Some((56, 16, None))),
            ("nothing", None),
            ("word.x", None),
        ];
        assert_eq!(expected.map(|(path, _)| (path, field(path))), expected);
        let kind = |path: &str| layouts.field("sample", path).map(|field| field.kind.clone());
        assert_eq!(
            ["word", "list[2].value", "color", "next", "name"].map(kind),
            [Kind::Unsigned, Kind::Signed, Kind::Enum("color".into()), Kind::Pointer, Kind::Bytes].map(Some)
        );
        assert_eq!((layouts.size("sample"), layouts.size("declared")), (Some(72), None));
        assert_eq!((layouts.enumerator("color", 4), layouts.enumerator("color", 3)), (Some("BLUE"), None));
        assert!(read(&source, &["sample.c"], &[], &[]).is_err());
    }
}
