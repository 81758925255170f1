//! Failures of a build that are known: what make's output says, what it means, and what mends it. Pure.

/// One of them.
#[derive(Debug)]
pub(super) struct Known {
    /// A line of make's output with all of these is this failure. Compilers speak as with `LC_ALL=C`.
    marks: &'static [&'static str],
    /// What it means.
    pub(super) meaning: &'static str,
    /// What mends it.
    pub(super) remedy: &'static str,
}

const fn known(marks: &'static [&'static str], meaning: &'static str, remedy: &'static str) -> Known {
    Known { marks, meaning, remedy }
}

const INSTALL: &str = "`kdbg doctor --install` installs what a build needs";
const OLDER: &str = "build a later point release of this series, or with an older compiler: install one (on Debian and Ubuntu \
                     `apt-get install gcc-12`) and run `KDBG_CC=gcc-12 kdbg build ...`";
const NEWER: &str = "install a newer compiler and run, say, `KDBG_CC=gcc-12 kdbg build ...`";

/// The host gave out. Whatever else went wrong may be a consequence.
const HOST: [Known; 5] = [
    known(
        &["No space left on device"],
        "the disk is full",
        "free some space (`kdbg cache gc`), or move the cache with KDBG_CACHE_DIR; nothing half-made was filed",
    ),
    known(
        &["Disk quota exceeded"],
        "your quota of the disk is used up",
        "free some space, or move the cache with KDBG_CACHE_DIR",
    ),
    known(&["Killed signal terminated program"], "the host ran out of memory", MEMORY),
    known(&["Cannot allocate memory"], "the host ran out of memory", MEMORY),
    known(&["out of memory allocating"], "the host ran out of memory", MEMORY),
];

const MEMORY: &str =
    "close other programs, add memory or swap, or let fewer compilers run at once: `taskset -c 0 kdbg build ...`";

/// The tree, the compiler or a tool does not fit the others.
const MISFITS: [Known; 20] = [
    known(&["Compiler is too old."], "this kernel needs a newer compiler", NEWER),
    known(&["Sorry, this compiler is not supported"], "this kernel does not support the compiler", NEWER),
    known(&["Sorry, this compiler is unsupported"], "this kernel does not support the compiler", NEWER),
    known(&["error: Sorry, your version of GCC is too old"], "this kernel needs a newer compiler", NEWER),
    known(&["error: Sorry, your compiler is too old"], "this kernel needs a newer compiler", NEWER),
    known(
        &["unknown compiler"],
        "this kernel does not know the compiler",
        "unset KDBG_CC, or name a gcc or a clang in it",
    ),
    known(&["Assembler is too old."], "this kernel needs a newer assembler", "install a newer binutils"),
    known(&["Linker is too old."], "this kernel needs a newer linker", "install a newer binutils"),
    known(
        &["ld: unrecognized option"],
        "the linker is too old for this kernel, or too new",
        "install another binutils",
    ),
    known(
        &["cannot use keyword 'false' as enumeration constant"],
        "gcc 15 compiles as C23 what does not say otherwise, and parts of older kernels do not",
        OLDER,
    ),
    known(
        &["'bool' cannot be defined via 'typedef'"],
        "gcc 15 compiles as C23 what does not say otherwise, and parts of older kernels do not",
        OLDER,
    ),
    known(
        &["objtool: missing symbol table"],
        "binutils since 2.36 drop a symbol table that objtool of kernels before 5.11 wants",
        "build a later point release of this series, which has the fix",
    ),
    known(
        &["error: ", "[-Werror"],
        "a warning is an error here; newer compilers warn of more than the tree was written for",
        "switch it off with `WERROR: n` in `kernel.options` (since 5.15), or build with an older compiler: \
         `KDBG_CC=gcc-12 kdbg build ...`",
    ),
    known(&["fatal error: gelf.h: No such file"], "the headers of libelf are missing", INSTALL),
    known(&["fatal error: libelf.h: No such file"], "the headers of libelf are missing", INSTALL),
    known(&["please install libelf-dev"], "the headers of libelf are missing", INSTALL),
    known(
        &["fatal error: openssl/", "No such file"],
        "an option that is on signs or checks with OpenSSL, whose headers are missing",
        "install them (`libssl-dev`, `openssl-devel`), or leave out the option (MODULE_SIG, SYSTEM_TRUSTED_KEYRING)",
    ),
    known(
        &["BTF: ", "pahole", "is not available"],
        "DEBUG_INFO_BTF is on, and pahole, which makes BTF, is missing",
        "install pahole (`pahole` or `dwarves`), or take DEBUG_INFO_BTF out of the configuration",
    ),
    known(
        &["Failed to generate BTF for vmlinux"],
        "pahole, which makes BTF, is too old for this kernel or compiler",
        "install a newer pahole, or take DEBUG_INFO_BTF out of the configuration",
    ),
    known(&["/bin/sh: ", "not found"], "a program that the build runs is missing", INSTALL),
];

impl Known {
    fn is_in(&self, line: &str) -> bool {
        self.marks.iter().all(|mark| line.contains(mark))
    }
}

fn first_of(table: &'static [Known], lines: &[&str]) -> Option<(usize, &'static Known)> {
    let known = |line: &&str| table.iter().find(|known| known.is_in(line));
    lines.iter().enumerate().find_map(|(at, line)| Some((at, known(line)?)))
}

/// The known failure in these lines and where it is. `error` is where the first error of a compiler or linker is: what only comes
/// after it does not explain it, unless the host gave out.
pub(super) fn find(lines: &[&str], error: Option<usize>) -> Option<(usize, &'static Known)> {
    first_of(&HOST, lines)
        .or_else(|| first_of(&MISFITS, lines).filter(|(at, _)| error.is_none_or(|error| *at <= error)))
}
