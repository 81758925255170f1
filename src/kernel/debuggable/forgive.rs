//! Calls that only an unoptimized object has.
//!
//! Without optimization a call stays in a branch that the plain compiler proves dead, to a function that this
//! configuration does not build. A weak reference resolves to 0 there, and is never followed. It does in vmlinux and in
//! a module alike: modpost and the kernel's loader let a weak symbol be.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use object::{Object, ObjectSymbol};

use super::rungs::{self, Rungs};
use crate::error::Result;
use crate::event::Cancel;
use crate::process::Tool;

/// Lets what the wrapper compiled below `objects` do without the symbols that the link in `text` missed, and says whether
/// that may help. Each time it does, fewer references are left that are not weak.
///
/// # Errors
/// objcopy could not be run.
pub(in crate::kernel) fn forgive(objects: &Path, paths: &[String], text: &str, cancel: &Cancel) -> Result<bool> {
    let symbols = undefined(text);
    if symbols.is_empty() {
        return Ok(false);
    }
    let mut helped = false;
    for object in unoptimized(objects, paths) {
        if symbols.is_disjoint(&missing(&object).iter().map(String::as_str).collect()) {
            continue;
        }
        let flags = symbols.iter().map(|symbol| format!("--weaken-symbol={symbol}"));
        let output = Tool::new("objcopy").args(flags).arg(&object).output(cancel)?;
        if !output.status.success() {
            return Ok(false);
        }
        helped = true;
    }
    Ok(helped)
}

/// The symbols that a failed link misses, of vmlinux (by ld) or of a module (by modpost).
fn undefined(text: &str) -> BTreeSet<&str> {
    text.lines().filter_map(|line| missed_by_ld(line).or_else(|| missed_by_modpost(line))).collect()
}

fn missed_by_ld(line: &str) -> Option<&str> {
    line.split_once("undefined reference to `")?.1.split('\'').next()
}

fn missed_by_modpost(line: &str) -> Option<&str> {
    line.strip_suffix(" undefined!")?.split('"').nth(1)
}

/// The objects of these paths that were not compiled as the kernel asks. What a module is linked to is none of them:
/// make would link it again.
fn unoptimized(objects: &Path, paths: &[String]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let prefixes: Vec<String> = paths.iter().map(|path| super::object_prefix(path)).collect();
    prefixes.iter().for_each(|prefix| find(&objects.join(prefix), &mut found));
    found.retain(|path| {
        let mut rungs = Rungs::new();
        rungs::read(path, &mut rungs);
        let name = path.strip_prefix(objects).unwrap_or(path).to_string_lossy();
        rungs.get(&*name).is_some_and(|rung| rung != "plain")
    });
    found
}

/// The object files below a folder; or the one that is named.
fn find(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_symlink())).for_each(|entry| {
            find(&entry.path(), found);
        });
    } else if path.extension().is_some_and(|extension| extension == "o") {
        found.push(path.into());
    }
}

/// The symbols that an object file insists on, and leaves to others.
fn missing(object: &Path) -> Vec<String> {
    let Ok(data) = fs::read(object) else { return Vec::new() };
    let Ok(file) = object::File::parse(&*data) else { return Vec::new() };
    let undefined = file.symbols().filter(|symbol| symbol.is_undefined() && !symbol.is_weak());
    undefined.filter_map(|symbol| symbol.name().ok().map(String::from)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_link_misses_is_read_from_its_words() {
        let text = "ld: a.o: in function `f':\na.c:3: undefined reference to `one'\nld: b.c:4: undefined reference to `two'\nmake: x\n\
                    ERROR: modpost: \"three\" [net/a.ko] undefined!\nERROR: \"four\" [net/b.ko] undefined!\n";
        assert_eq!(undefined(text).into_iter().collect::<Vec<_>>(), ["four", "one", "three", "two"]);
    }
}
