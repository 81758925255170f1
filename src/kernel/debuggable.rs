//! `kernel.debuggable`: parts of the tree that are compiled so that a debugger can read them, by a compiler wrapper with
//! a ladder of flags: `-O0`, `-Og`, as the kernel asks. An object takes the first rung at which it compiles.
//!
//! `-O0` keeps every variable in memory. Two headers, found before the kernel's own, replace the only `asm`s in the way.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::digest::sha256;
use crate::error::{IoContext, Result};
use crate::event::Cancel;
use crate::process::Tool;

/// The files of the wrapper, in `kdbg/` of the object folder.
const FILES: [(&str, &str); 3] = [
    ("cc", include_str!("debuggable/cc")),
    ("include/asm/bug.h", include_str!("debuggable/bug.h")),
    ("include/asm/cpufeature.h", include_str!("debuggable/cpufeature.h")),
];

/// The object files below which of a recipe's paths: `net/` as it is, `net/socket.c` as `net/socket.o`.
fn object_prefix(path: &str) -> String {
    path.strip_suffix(".c").map_or_else(|| path.into(), |stem| format!("{stem}.o"))
}

/// What distinguishes builds with these paths, ladder included; empty without any.
pub(super) fn suffix(paths: &[String]) -> String {
    if paths.is_empty() {
        return String::new();
    }
    let ladder = FILES.map(|(_, text)| text).concat();
    format!("-debuggable-{}", &sha256(format!("{}\n{ladder}", paths.join("\n")))[..12])
}

/// Writes the wrapper for `paths` into the object folder, and returns its path.
///
/// # Errors
/// It cannot be written.
pub(super) fn install(objects: &Path, paths: &[String]) -> Result<PathBuf> {
    let folder = objects.join("kdbg");
    fs::create_dir_all(folder.join("include/asm")).or_host(format!("make {}", folder.display()))?;
    let list: String = paths.iter().map(|path| object_prefix(path) + "\n").collect();
    let files = FILES.iter().copied().chain([("paths", list.as_str())]);
    for (name, text) in files {
        let path = folder.join(name);
        if fs::read_to_string(&path).is_ok_and(|old| old == text) {
            continue;
        }
        fs::write(&path, text).or_host(format!("write {}", path.display()))?;
    }
    let wrapper = folder.join("cc");
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).or_host("make the compiler wrapper executable")?;
    Ok(wrapper)
}

/// The objects that the wrapper compiled, with their rungs.
fn rungs(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            rungs(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rung")
            && let Ok(rung) = fs::read_to_string(&path)
        {
            found.push((path.with_extension(""), rung.trim().into()));
        }
    }
}

/// How many objects got which rung, like `141 files at -O0`.
pub(super) fn summary(objects: &Path) -> String {
    let mut found = Vec::new();
    rungs(objects, &mut found);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    found.into_iter().for_each(|(_, rung)| *counts.entry(rung).or_default() += 1);
    let parts: Vec<String> = ["-O0", "-Og", "plain"]
        .iter()
        .filter_map(|rung| counts.get(*rung).map(|count| format!("{count} {rung}")))
        .collect();
    if parts.is_empty() { "no file".into() } else { parts.join(", ") }
}

/// The symbols that a failed link misses.
fn undefined(text: &str) -> BTreeSet<&str> {
    text.lines().filter_map(|line| line.split_once("undefined reference to `")?.1.split('\'').next()).collect()
}

/// Lets what the wrapper compiled do without the symbols that the link in `text` missed, and says whether that may help.
///
/// Without optimization a call stays in a branch that the plain compiler proves dead, to a function that this
/// configuration does not build. A weak reference resolves to 0 there, and is never followed.
///
/// # Errors
/// objcopy failed.
pub(super) fn forgive(objects: &Path, text: &str, cancel: &Cancel) -> Result<bool> {
    let symbols = undefined(text);
    let mut found = Vec::new();
    rungs(objects, &mut found);
    found.retain(|(object, rung)| rung != "plain" && object.is_file());
    if symbols.is_empty() || found.is_empty() {
        return Ok(false);
    }
    for (object, _) in found {
        if !symbols.is_disjoint(&missing(&object).iter().map(String::as_str).collect()) {
            let flags = symbols.iter().map(|symbol| format!("--weaken-symbol={symbol}"));
            let output = Tool::new("objcopy").args(flags).arg(&object).output(cancel)?;
            if !output.status.success() {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// The symbols that an object file leaves to others.
fn missing(object: &Path) -> Vec<String> {
    use object::{Object, ObjectSymbol};
    let Ok(data) = fs::read(object) else { return Vec::new() };
    let Ok(file) = object::File::parse(&*data) else { return Vec::new() };
    let undefined = file.symbols().filter(|symbol| symbol.is_undefined());
    undefined.filter_map(|symbol| symbol.name().ok().map(String::from)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn every_list_of_paths_is_a_build_of_its_own() {
        let of = |paths: &[&str]| suffix(&paths.iter().map(|path| path.to_string()).collect::<Vec<_>>());
        assert_eq!(of(&[]), "");
        assert_ne!(of(&["net/"]), of(&["net/ipv4/"]));
        assert_eq!(of(&["net/"]), of(&["net/"]));
    }

    #[test]
    fn what_a_link_misses_is_read_from_its_words() {
        let text = "ld: a.o: in function `f':\na.c:3: undefined reference to `one'\nld: b.c:4: undefined reference to `two'\nmake: x\n";
        assert_eq!(undefined(text).into_iter().collect::<Vec<_>>(), ["one", "two"]);
    }

    /// Compiles `source` as `net/a.o` by the wrapper with these flags: the rung, and what the wrapper's exit says.
    fn rung(source: &str, paths: &[&str]) -> Option<(bool, Option<String>)> {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<String> = paths.iter().map(|path| path.to_string()).collect();
        let wrapper = install(folder.path(), &paths).unwrap();
        fs::create_dir(folder.path().join("net")).unwrap();
        fs::write(folder.path().join("a.c"), source).unwrap();
        let mut gcc = Command::new(wrapper);
        gcc.args(["-O2", "-mcmodel=kernel", "-fno-pic", "-c", "-o", "net/a.o", "a.c"]).current_dir(folder.path());
        let well = gcc.output().ok()?.status.success();
        let rung = fs::read_to_string(folder.path().join("net/a.o.rung")).ok();
        assert!(!folder.path().join("net/a.o.errors").exists());
        Some((well, rung.map(|rung| rung.trim().into())))
    }

    #[test]
    fn a_file_takes_the_first_rung_at_which_it_compiles() {
        if Command::new("gcc").arg("--version").output().is_err() {
            eprintln!("skipped: there is no gcc");
            return;
        }
        let constant = "static inline __attribute__((always_inline)) void f(int i) { asm(\"# %0\" :: \"i\"(i)); }\nvoid g(void) { f(1); }\n";
        let plain = "#ifndef __OPTIMIZE__\n#error x\n#endif\nint f(void) { return 1; }\n";
        for (source, paths, expected) in [
            ("int f(int a) { return a; }\n", &["net/"][..], (true, Some("-O0"))),
            ("int f(int a) { return a; }\n", &["net/a.c"], (true, Some("-O0"))),
            (constant, &["net/"], (true, Some("-Og"))),
            (plain, &["net/"], (true, Some("plain"))),
            ("int f(int a) { return b; }\n", &["net/"], (false, Some("plain"))),
            ("int f(int a) { return a; }\n", &["fs/", "net/b.c"], (true, None)),
        ] {
            let (well, rung) = rung(source, paths).unwrap();
            assert_eq!((well, rung.as_deref()), expected, "{source} {paths:?}");
        }
    }
}
