//! `kernel.debuggable`: parts of the tree that are compiled so that a debugger can read them, by a compiler wrapper with
//! a ladder of flags: `-O0`, `-Og`, as the kernel asks. An object takes the first rung at which it compiles.
//!
//! `-O0` keeps every variable in memory. Two headers, found before the kernel's own, replace the only `asm`s in the way.

mod flags;
mod forgive;
mod rungs;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::digest::sha256;
use crate::error::{IoContext, Result};
use crate::event::Cancel;
use crate::report::debuggable::Debuggable;
pub(super) use forgive::forgive;

/// The files of the wrapper, in `kdbg/` of the object folder.
const FILES: [(&str, &str); 3] = [
    ("cc", include_str!("debuggable/cc")),
    ("mark.h", include_str!("debuggable/mark.h")),
    ("include/asm/cpufeature.h", include_str!("debuggable/cpufeature.h")),
];

/// The kernel's own header of warnings, and where the wrapper finds it with [`AS_CONSTANT`] instead of [`AS_VARIABLE`].
const BUG: [&str; 2] = ["arch/x86/include/asm/bug.h", "include/asm/bug.h"];
/// At `-O0` a variable is no constant for an asm,
const AS_VARIABLE: [&str; 2] = ["__auto_type __flags = ", ";"];
/// and an enumerator is.
const AS_CONSTANT: [&str; 2] = ["enum { __flags = ", " };"];

/// The header of warnings as `-O0` needs it; none where the tree's own does.
fn warnings(tree: &Path) -> Option<String> {
    let text = fs::read_to_string(tree.join(BUG[0])).ok()?;
    let (before, rest) = text.split_once(AS_VARIABLE[0])?;
    let (flags, after) = rest.split_once(AS_VARIABLE[1])?;
    let [begin, end] = AS_CONSTANT;
    Some(format!("{before}{begin}{flags}{end}{after}"))
}

/// The object files below which of a recipe's paths: `net/` as it is, `net/socket.c` as `net/socket.o`.
fn object_prefix(path: &str) -> String {
    path.strip_suffix(".c").map_or_else(|| path.into(), |stem| format!("{stem}.o"))
}

/// What distinguishes builds with these paths, ladder included; empty without any.
pub(super) fn suffix(paths: &[String]) -> String {
    if paths.is_empty() {
        return String::new();
    }
    let derived = [&BUG[..], &AS_VARIABLE, &AS_CONSTANT, &flags::ALL].concat();
    let ladder = FILES.map(|(_, text)| text).concat() + &derived.join("\n");
    format!("-debuggable-{}", &sha256(format!("{}\n{ladder}", paths.join("\n")))[..12])
}

/// Writes the wrapper for `paths` of `tree` into the object folder.
///
/// # Errors
/// It cannot be written, or `compiler` does not run.
pub(super) fn install(objects: &Path, tree: &Path, paths: &[String], compiler: &str, cancel: &Cancel) -> Result<()> {
    let folder = objects.join("kdbg");
    fs::create_dir_all(folder.join("include/asm")).or_host(format!("make {}", folder.display()))?;
    let list: String = paths.iter().map(|path| object_prefix(path) + "\n").collect();
    let flags = flags::lines(compiler, cancel)?;
    let warnings = warnings(tree);
    if warnings.is_none() {
        let _ = fs::remove_file(folder.join(BUG[1]));
    }
    let derived = warnings.iter().map(|text| (BUG[1], text.as_str()));
    let files = FILES.iter().copied().chain([("paths", list.as_str()), ("flags", &flags)]).chain(derived);
    for (name, text) in files {
        let path = folder.join(name);
        if fs::read_to_string(&path).is_ok_and(|old| old == text) {
            continue;
        }
        fs::write(&path, text).or_host(format!("write {}", path.display()))?;
    }
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(wrapper(objects), executable).or_host("make the compiler wrapper executable")
}

/// The compiler of an object folder that has the wrapper.
pub(super) fn wrapper(objects: &Path) -> PathBuf {
    objects.join("kdbg/cc")
}

/// What became of `paths` in a vmlinux and modules that were built in this object folder.
pub(super) fn outcome(objects: &Path, paths: &[String], vmlinux: &Path, modules: &[String]) -> Debuggable {
    let mut found = rungs::Rungs::new();
    rungs::read(vmlinux, &mut found);
    modules.iter().for_each(|module| rungs::read(&objects.join(module), &mut found));
    let flags = fs::read_to_string(objects.join("kdbg/flags")).unwrap_or_default();
    rungs::sum_up(&found, paths, flags::mark_unset(&flags))
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

    /// An object folder with the wrapper in it; none, said, without gcc.
    struct Bench {
        folder: tempfile::TempDir,
        compiler: String,
    }

    impl Bench {
        /// One for these paths. The compiler is gcc, but for what this script does before.
        fn new(paths: &[&str], before: &str) -> Option<Bench> {
            let Ok(gcc) = which::which("gcc") else {
                eprintln!("skipped: there is no gcc");
                return None;
            };
            let folder = tempfile::tempdir().unwrap();
            let compiler = folder.path().join("compiler");
            fs::write(&compiler, format!("#!/bin/sh\n{before}\nexec '{}' \"$@\"\n", gcc.display())).unwrap();
            fs::set_permissions(&compiler, fs::Permissions::from_mode(0o755)).unwrap();
            fs::create_dir(folder.path().join("net")).unwrap();
            let compiler = compiler.to_str().unwrap().to_owned();
            let bench = Bench { folder, compiler };
            install(bench.path(), bench.path(), &Bench::paths(paths), &bench.compiler, &Cancel::default()).unwrap();
            Some(bench)
        }

        fn paths(paths: &[&str]) -> Vec<String> {
            paths.iter().map(|path| path.to_string()).collect()
        }

        fn path(&self) -> &Path {
            self.folder.path()
        }

        /// Compiles `source` to this object by the wrapper: whether it went well, and what its mark says.
        fn compile(&self, source: &str, object: &str) -> (bool, Option<String>) {
            fs::write(self.path().join("a.c"), source).unwrap();
            let mut gcc = Command::new(wrapper(self.path()));
            gcc.args(["-O2", "-mcmodel=kernel", "-fno-pic", "-c", "-o", object, "a.c"]);
            let output = gcc.env("KDBG_CC", &self.compiler).current_dir(self.path()).output().unwrap();
            assert!(!self.path().join("net/a.o.errors").exists());
            let mut found = rungs::Rungs::new();
            rungs::read(&self.path().join(object), &mut found);
            (output.status.success(), found.remove(object))
        }
    }

    #[test]
    fn a_file_takes_the_first_rung_at_which_it_compiles() {
        let constant = "static inline __attribute__((always_inline)) void f(int i) { asm(\"# %0\" :: \"i\"(i)); }\nvoid g(void) { f(1); }\n";
        let plain = "#ifndef __OPTIMIZE__\n#error x\n#endif\nint f(void) { return 1; }\n";
        let large = "int g(char *);\nint f(void) { char a[3000]; return g(a); }\n";
        for (source, paths, expected) in [
            ("int f(int a) { return a; }\n", &["net/"][..], (true, Some("-O0"))),
            ("int f(int a) { return a; }\n", &["net/a.c"], (true, Some("-O0"))),
            (constant, &["net/"], (true, Some("-Og"))),
            (plain, &["net/"], (true, Some("plain"))),
            (large, &["net/"], (true, Some("plain"))),
            ("int f(int a) { return b; }\n", &["net/"], (false, None)),
            ("int f(int a) { return a; }\n", &["fs/", "net/b.c"], (true, None)),
        ] {
            let Some(bench) = Bench::new(paths, "") else { return };
            let (well, rung) = bench.compile(source, "net/a.o");
            assert_eq!((well, rung.as_deref()), expected, "{source} {paths:?}");
        }
    }

    #[test]
    fn a_compiler_that_lacks_a_flag_does_without() {
        let source = "int f(int a) { return a; }\n";
        let reject = |flag: &str| {
            format!("for word do case $word in {flag}) echo \"unrecognized option $word\" >&2; exit 1 ;; esac; done")
        };
        for (lacking, marks_unset) in [("-ftrivial-auto-var-init=*", false), ("-Werror=frame-larger-than=*", true)] {
            let Some(bench) = Bench::new(&["net/"], &reject(lacking)) else { return };
            assert_eq!(bench.compile(source, "net/a.o"), (true, Some("-O0".into())), "{lacking}");
            let outcome = outcome(bench.path(), &Bench::paths(&["net/"]), &bench.path().join("net/a.o"), &[]);
            assert_eq!((outcome.o0, outcome.marks_unset), (1, marks_unset), "{lacking}");
        }
        let Some(bench) = Bench::new(&["net/"], &reject("-O[0g]")) else { return };
        assert_eq!(bench.compile(source, "net/a.o"), (true, Some("plain".into())));
    }

    #[test]
    fn a_host_that_gives_out_is_no_reason_for_another_rung() {
        let source = "int f(int a) { return a; }\n";
        for (giving_out, rung) in [
            ("echo 'gcc: fatal error: Killed signal terminated program cc1' >&2; exit 1", None),
            ("echo 'cc1: error: closing a.s: No space left on device' >&2; exit 1", None),
            ("echo 'cc1: out of memory allocating 9 bytes' >&2; exit 1", None),
            ("kill -KILL $$", None),
            ("exit 1", None),
            ("echo 'a.c:1: error: x' >&2; exit 1", Some("-Og")),
        ] {
            let before = format!("case \" $* \" in *' -O0 '*) {giving_out} ;; esac");
            let Some(bench) = Bench::new(&["net/"], &before) else { return };
            let (well, found) = bench.compile(source, "net/a.o");
            assert_eq!((well, found.as_deref()), (rung.is_some(), rung), "{giving_out}");
        }
    }

    #[test]
    fn the_flags_of_a_warning_become_a_constant() {
        let tree = tempfile::tempdir().unwrap();
        assert_eq!(warnings(tree.path()), None);
        let path = tree.path().join(BUG[0]);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        for (own, derived) in [
            ("a; __auto_type __flags = X|(y);\t\\\nb;", Some("a; enum { __flags = X|(y) };\t\\\nb;")),
            ("_BUG_FLAGS(X|(y));", None),
        ] {
            fs::write(&path, own).unwrap();
            assert_eq!(warnings(tree.path()).as_deref(), derived);
        }
    }

    #[test]
    fn what_a_link_misses_is_forgiven_where_nothing_was_optimized() {
        let source = "int gone(void);\nint f(void) { return gone(); }\n";
        let words = "ERROR: modpost: \"gone\" [net/a.ko] undefined!\n";
        let Some(bench) = Bench::new(&["net/a.c"], "") else { return };
        let paths = Bench::paths(&["net/a.c"]);
        for object in ["net/a.o", "net/b.o"] {
            assert!(bench.compile(source, object).0);
        }
        let forgiven = |text: &str| forgive(bench.path(), &paths, text, &Cancel::default()).unwrap();
        assert!(!forgiven("ld: undefined reference to `other'\n"));
        assert!(forgiven(words));
        assert!(!forgiven(words), "there is nothing left to forgive");
    }
}
