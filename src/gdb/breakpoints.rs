//! Probes become breakpoints: GDB is prepared, told the symbols, and asked to resolve every probe before anything runs.

use std::path::Path;

use super::answer::Answer;
use super::client::{Asked, Gdb};
use super::command;
use super::condition;
use super::mi::{self, Values};
use super::program::{Place, Program};
use super::symbols::Symbols;
use crate::error::{Error, Result};
use crate::event::Cancel;
use crate::recipe::point::ProbePoint;
use crate::report::model::Location;
use crate::report::path::plain_symbol;

/// Settings under which values are read quickly, whole but bounded, and the same on every terminal.
const SETTINGS: &[&str] = &[
    "confirm off",
    "pagination off",
    "width 0",
    "height 0",
    "mi-async on",
    // Nothing is inserted and removed at every stop; memory is read in large pieces and kept until the guest runs on.
    "breakpoint always-inserted on",
    "dcache line-size 2048",
    "dcache size 4096",
    // The half of the programs is not part of the cached memory, and read all the same.
    "mem inaccessible-by-default off",
    // Structures whole, but an sk_buff's neighbours not.
    "print elements 64",
    "print repeats 16",
    "print max-depth 4",
    "print null-stop on",
    "print entry-values if-needed",
    "print frame-arguments all",
    "print symbol on",
    "print sevenbit-strings on",
    // Other bytes are numbers, wherever kdbg runs.
    "charset ASCII",
    "backtrace past-main on",
];

/// The kernel's half of the address space may be cached between two resumes: nothing in it changes by being read.
const CACHED_MEMORY: &str = "mem 0xffff800000000000 0xffffffffffffffff rw cache";

/// Has a fresh GDB prepare itself and read `vmlinux`; it has when its answer to the last command is
/// [there](Gdb::answers).
///
/// # Errors
/// GDB has died.
pub fn begin_to_load(gdb: &mut Gdb, vmlinux: &Path) -> Result<Asked> {
    // A setting that this GDB does not know makes it slower or wordier, not wrong.
    let settings = SETTINGS.iter().map(|setting| format!("-gdb-set {setting}"));
    let memory = command::console(CACHED_MEMORY);
    let file = format!("-file-exec-and-symbols {}", mi::quote(&vmlinux.to_string_lossy()));
    gdb.begin(settings.chain([memory, file]).collect())
}

/// Waits until GDB has read the file.
///
/// # Errors
/// GDB refuses the file, or dies.
pub fn end_to_load(gdb: &mut Gdb, loading: &Asked, cancel: &Cancel) -> Result<()> {
    match gdb.answers(loading, cancel)?.pop() {
        Some(Answer::Refused(why)) => Err(Error::debugger(format!("GDB cannot read the symbols: {why}"))),
        _ => Ok(()),
    }
}

/// Both.
///
/// # Errors
/// As both.
pub fn load(gdb: &mut Gdb, vmlinux: &Path, cancel: &Cancel) -> Result<()> {
    let loading = begin_to_load(gdb, vmlinux)?;
    end_to_load(gdb, &loading, cancel)
}

/// A probe as GDB knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breakpoint {
    /// GDB's number.
    pub number: u64,
    /// Where it stops.
    pub locations: Vec<Location>,
    /// GDB's number of each of them, from 1.
    pub numbers: Vec<usize>,
    /// Where the probed function is declared, for its entry: at a function's first address GDB names the last line
    /// that has code there, which may be one of an inlined function in another file.
    pub entry: Option<Place>,
    /// Of a probe on a return: how many copies of the function are inlined, and so have none.
    pub without_return: usize,
    /// How many places are in code that the kernel has freed when it has booted, and are left out.
    pub freed: usize,
}

/// Why a probe is no breakpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unresolved {
    /// There is no such place.
    NoSuchPlace {
        /// The closest names.
        near: Vec<String>,
        /// The next line of the file that has code.
        next_line: Option<u32>,
    },
    /// This function is inlined wherever it is called, and so returns nowhere.
    NoReturn(String),
    /// The kernel has freed this code when it has booted.
    Freed,
    /// The pattern stands for these functions, which are too many.
    TooMany(Vec<String>),
    /// The condition does not parse; what GDB says.
    BadCondition(String),
    /// The function cannot be made to return from here, and why.
    NoForcedReturn(String),
    /// This cannot be watched, and why.
    BadWatch(String),
    /// GDB failed.
    Failed(Error),
}

impl From<Error> for Unresolved {
    fn from(error: Error) -> Self {
        Unresolved::Failed(error)
    }
}

/// Sets a breakpoint for a probe at `point`, for which the condition `when` makes sense. GDB is not left with the condition: of a
/// stop at which it finds one false nobody hears.
///
/// # Errors
/// The probe does not resolve, or GDB failed.
pub fn set(
    gdb: &mut Gdb,
    point: &ProbePoint,
    when: Option<&str>,
    program: &Program<'_>,
    cancel: &Cancel,
) -> std::result::Result<Breakpoint, Unresolved> {
    let place = match point {
        ProbePoint::FunctionLine { function, offset } => {
            return set_in_function(gdb, function, *offset, when, program, cancel);
        }
        ProbePoint::Function(name) | ProbePoint::Return(name) => format!("--qualified --function {name}"),
        // As a whole: `group::set` takes it apart.
        ProbePoint::Pattern(_) => return Err(no_such_place(Vec::new(), None)),
        // It is no place: `watch::set`.
        ProbePoint::Watch(_) => return Err(no_such_place(Vec::new(), None)),
        ProbePoint::FileLine { file, line } => format!("--source {file} --line {line}"),
        ProbePoint::Address(address) => format!("*{address:#x}"),
    };
    let values = match gdb.ask(&format!("-break-insert {place}"), cancel)? {
        Answer::Done(values, _) => values,
        Answer::Refused(_) => return Err(no_such_place(close_to(point, &program.symbols), None)),
    };
    let Some(breakpoint) = values.tuple("bkpt") else {
        return Err(Error::debugger("GDB set a breakpoint but did not say which").into());
    };
    let number = breakpoint.number("number").ok_or_else(|| Error::debugger("GDB gave a breakpoint no number"))?;
    let several = breakpoint.tuples("locations");
    let locations = if several.is_empty() { vec![breakpoint] } else { several };
    let found = locations.into_iter().map(|values| location(values, point, program));
    let mut locations: Vec<(usize, Location)> = (1..).zip(found).collect();
    if let Err(unresolved) = check_place(point, locations.iter().map(|(_, location)| location), program) {
        // It may be a place of a module that is not loaded yet.
        delete(gdb, number, cancel)?;
        return Err(unresolved);
    }
    let all = locations.len();
    leave_out(gdb, number, &mut locations, |location| program.is_freed(&location.address), cancel)?;
    let freed = all - locations.len();
    let mut without_return = 0;
    if matches!(point, ProbePoint::Return(_)) {
        leave_out(gdb, number, &mut locations, |location| location.inlined, cancel)?;
        without_return = all - freed - locations.len();
    }
    let (numbers, mut locations): (Vec<usize>, Vec<Location>) = locations.into_iter().unzip();
    let inlined = locations.iter().any(|location| location.inlined);
    match when {
        // GDB evaluates a condition in the frame that the function was inlined into, where its variables are not. And a
        // function can begin with code of one that is inlined into it: GDB takes the names there for that one's.
        Some(when) if inlined || point.function().is_some() => {
            condition::try_out(gdb, number, when, cancel)?;
            if let (Some(name), [_]) = (point.function(), &locations[..]) {
                condition::check_names(gdb, plain_symbol(name), when, cancel)?;
            }
        }
        Some(when) => condition::check(gdb, number, when, cancel)?,
        None => {}
    }
    let entry = match point.function() {
        Some(name) => declaration(gdb, name, program, cancel)?,
        None => None,
    };
    if let Some(place) = &entry {
        for location in locations.iter_mut().filter(|location| program.is_entry(&location.address)) {
            (location.file, location.line) = (Some(place.file.clone()), Some(place.line));
        }
    }
    Ok(Breakpoint { number, locations, numbers, entry, without_return, freed })
}

/// Sets one at a line of a function, counted from the one that has its name.
fn set_in_function(
    gdb: &mut Gdb,
    function: &str,
    offset: u32,
    when: Option<&str>,
    program: &Program<'_>,
    cancel: &Cancel,
) -> std::result::Result<Breakpoint, Unresolved> {
    let Some(Place { file, line }) = declaration(gdb, function, program, cancel)? else {
        return Err(no_such_place(program.symbols.close_to(function), None));
    };
    let line = line.saturating_add(offset);
    let breakpoint = set(gdb, &ProbePoint::FileLine { file, line }, when, program, cancel)?;
    // A line below the function's end may be another one's.
    let is_its = |location: &Location| location.inlined || plain_symbol(&location.symbol) == plain_symbol(function);
    if breakpoint.locations.iter().any(is_its) {
        return Ok(breakpoint);
    }
    delete(gdb, breakpoint.number, cancel)?;
    Err(no_such_place(Vec::new(), None))
}

/// Has GDB not stop at some of the numbered locations of a breakpoint.
fn leave_out(
    gdb: &mut Gdb,
    number: u64,
    locations: &mut Vec<(usize, Location)>,
    unfit: impl Fn(&Location) -> bool,
    cancel: &Cancel,
) -> Result<()> {
    for (index, _) in locations.iter().filter(|(_, location)| unfit(location)) {
        gdb.must(&format!("-break-disable {number}.{index}"), cancel)?;
    }
    locations.retain(|(_, location)| !unfit(location));
    Ok(())
}

fn no_such_place(near: Vec<String>, next_line: Option<u32>) -> Unresolved {
    Unresolved::NoSuchPlace { near, next_line }
}

/// GDB takes any address, and slides from a line without code to the next one with some: neither silently.
fn check_place<'l>(
    point: &ProbePoint,
    mut locations: impl Iterator<Item = &'l Location> + Clone,
    program: &Program<'_>,
) -> std::result::Result<(), Unresolved> {
    if locations.clone().next().is_some() && locations.clone().all(|location| program.is_freed(&location.address)) {
        return Err(Unresolved::Freed);
    }
    match point {
        ProbePoint::Address(address) if program.symbols.containing(*address).is_none() => {
            Err(no_such_place(Vec::new(), None))
        }
        ProbePoint::Return(name)
            if locations.all(|location| location.inlined || program.is_freed(&location.address)) =>
        {
            Err(Unresolved::NoReturn(name.clone()))
        }
        ProbePoint::FileLine { line, .. } if locations.clone().all(|location| location.line != Some(*line)) => {
            Err(no_such_place(Vec::new(), locations.next().and_then(|location| location.line)))
        }
        _ => Ok(()),
    }
}

/// Where a function is declared, if that is one place.
fn declaration(gdb: &mut Gdb, name: &str, program: &Program<'_>, cancel: &Cancel) -> Result<Option<Place>> {
    // What GDB's Python knows at once, its command searches all symbols for: a tenth of a second.
    let name_only = plain_symbol(name);
    let python = format!(
        "python f = [f for f in [gdb.lookup_global_symbol('{name_only}')] if f] or gdb.lookup_static_symbols('{name_only}'); \
         print(*([f[0].line, f[0].symtab.filename] if len(f) == 1 else []))"
    );
    if let Answer::Done(_, said) = gdb.ask(&command::console(&python), cancel)?
        && let Some((line, file)) = said.trim().split_once(' ')
        && let Ok(line) = line.parse()
    {
        return Ok(program.relative(Some(file), Some(file)).map(|file| Place { file, line }));
    }
    let command = format!("-symbol-info-functions --name ^{}$", plain_symbol(name));
    let Answer::Done(values, _) = gdb.ask(&command, cancel)? else { return Ok(None) };
    let files = values.tuple("symbols").map(|symbols| symbols.tuples("debug")).unwrap_or_default();
    let [file] = files[..] else { return Ok(None) };
    let name = program.relative(file.text("fullname"), file.text("filename"));
    let line = file.tuples("symbols").first().and_then(|symbol| symbol.number("line"));
    Ok(name.zip(line.and_then(|line| u32::try_from(line).ok())).map(|(file, line)| Place { file, line }))
}

fn close_to(point: &ProbePoint, symbols: &Symbols) -> Vec<String> {
    point.function().map_or(Vec::new(), |name| symbols.close_to(name))
}

fn location(values: &Values, point: &ProbePoint, program: &Program<'_>) -> Location {
    let address = values.number("addr").unwrap_or_default();
    let holder = program.symbols.containing(address);
    let function = values.text("func");
    let inlined = match (point, function, &holder) {
        (ProbePoint::Function(name) | ProbePoint::Return(name), _, Some(holder)) => !holder.is(name),
        (ProbePoint::FileLine { .. }, Some(function), Some(holder)) => !holder.is(function),
        _ => false,
    };
    let symbol = match (&holder, function) {
        (Some(holder), Some(function)) if holder.is(function) => function,
        (Some(holder), _) => holder.name(),
        (None, function) => function.unwrap_or("??"),
    };
    Location {
        address: format!("{address:#x}"),
        symbol: symbol.into(),
        file: program.file(values),
        line: values.number("line").and_then(|line| u32::try_from(line).ok()),
        inlined,
        cheap: false,
    }
}

/// Takes a breakpoint out.
///
/// # Errors
/// GDB cannot.
pub fn delete(gdb: &mut Gdb, breakpoint: u64, cancel: &Cancel) -> Result<()> {
    gdb.must(&format!("-break-delete {breakpoint}"), cancel).map(drop)
}

/// Has GDB stop no more where a [hook](super::hooks) does.
///
/// # Errors
/// GDB cannot.
pub fn disable_hooked(gdb: &mut Gdb, breakpoint: &Breakpoint, cancel: &Cancel) -> Result<()> {
    switch_hooked(gdb, "disable", breakpoint, cancel)
}

/// Has GDB stop there again.
///
/// # Errors
/// GDB cannot.
pub fn enable_hooked(gdb: &mut Gdb, breakpoint: &Breakpoint, cancel: &Cancel) -> Result<()> {
    switch_hooked(gdb, "enable", breakpoint, cancel)
}

fn switch_hooked(gdb: &mut Gdb, to: &str, breakpoint: &Breakpoint, cancel: &Cancel) -> Result<()> {
    let Breakpoint { number, numbers, locations, .. } = breakpoint;
    let hooked = numbers.iter().zip(locations).filter(|(_, location)| location.cheap);
    let places: Vec<String> = hooked.map(|(index, _)| format!("{number}.{index}")).collect();
    match places.is_empty() {
        true => Ok(()),
        false => gdb.must(&format!("-break-{to} {}", places.join(" ")), cancel).map(drop),
    }
}
