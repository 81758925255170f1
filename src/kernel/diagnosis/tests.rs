//! What builds really said, and what is said about it.

use super::*;

fn compile(text: &str) -> Error {
    failed_to_compile(text, "exit code 2", "see build.log")
}

#[test]
fn the_first_compiler_error_is_shown_not_the_last_line_of_make() {
    let text = "  CC      a.o\na.c:3:1: error: unknown type name 'foo'\n    3 | foo x;\n      | ^~~\nmake[2]: *** [a.o] Error 1\nmake: *** [__sub-make] Error 2\n";
    let error = compile(text);
    let expected = "(exit code 2) at a.o; the first error:\n  a.c:3:1: error: unknown type name 'foo'";
    assert!(error.message.contains(expected), "{error}");
    assert_eq!(error.hint.as_deref(), Some("see build.log"));
}

/// Output of make; a line that must be shown; words of the meaning; words of the remedy.
type Case = (&'static str, &'static str, &'static str, &'static str);

const COMPILED: [Case; 12] = [
    ("x.s: fatal error: write: No space left on device\n", "No space left", "disk is full", "KDBG_CACHE_DIR"),
    (
        "a.c:1:1: error: x\ngcc: fatal error: Killed signal terminated program cc1\ncompilation terminated.\n\
         make[3]: *** [scripts/Makefile.build:250: fs/ext4/super.o] Error 1\n",
        "at fs/ext4/super.o; the first error:\n  gcc: fatal error: Killed signal",
        "out of memory",
        "swap",
    ),
    (
        "In file included from ./include/uapi/linux/posix_types.h:5,\n                 from arch/x86/realmode/rm/wakemain.c:2:\n\
         ./include/linux/stddef.h:11:9: error: cannot use keyword 'false' as enumeration constant\n\
         \x20  11 |         false   = 0,\n      |         ^~~~~\n\
         make[5]: *** [scripts/Makefile.build:250: arch/x86/realmode/rm/wakemain.o] Error 1\n",
        "at arch/x86/realmode/rm/wakemain.o; the first error:\n  ./include/linux/stddef.h:11:9",
        "C23",
        "KDBG_CC=gcc-12 kdbg build",
    ),
    (
        "./include/linux/types.h:30:33: error: 'bool' cannot be defined via 'typedef'\n",
        "types.h:30:33",
        "C23",
        "KDBG_CC=gcc-12 kdbg build",
    ),
    (
        "fs/btrfs/print-tree.c:26:49: error: initializer-string for array of 'char' truncates NUL terminator but destination \
         lacks 'nonstring' attribute (17 chars into 16 available) [-Werror=unterminated-string-initialization]\n",
        "print-tree.c:26:49",
        "newer compilers warn",
        "WERROR: n",
    ),
    (
        "/src/tools/objtool/include/objtool/elf.h:10:10: fatal error: gelf.h: No such file or directory\n   10 | #include <gelf.h>\n",
        "elf.h:10:10",
        "headers of libelf",
        "doctor --install",
    ),
    (
        "Makefile:993: *** \"Cannot generate ORC metadata for CONFIG_UNWINDER_ORC=y, please install libelf-dev, libelf-devel \
         or elfutils-libelf-devel\".  Stop.\n",
        "CONFIG_UNWINDER_ORC",
        "headers of libelf",
        "doctor --install",
    ),
    (
        "scripts/sign-file.c:25:10: fatal error: openssl/opensslv.h: No such file or directory\n",
        "sign-file.c",
        "OpenSSL",
        "libssl-dev",
    ),
    (
        "  GEN     modules.builtin\nBTF: .tmp_vmlinux.btf: pahole (pahole) is not available\n\
         Failed to generate BTF for vmlinux\nTry to disable CONFIG_DEBUG_INFO_BTF\nmake: *** [Makefile:1218: vmlinux] Error 1\n",
        "at vmlinux; the first error:\n  BTF: .tmp_vmlinux.btf",
        "is missing",
        "dwarves",
    ),
    (
        "/bin/sh: 1: bc: not found\nmake[1]: *** [Kbuild:24: include/generated/timeconst.h] Error 127\n",
        "first error:\n  /bin/sh: 1: bc: not found",
        "is missing",
        "doctor --install",
    ),
    ("ld: unrecognized option '-z'\nld: use the --help option for usage information\n", "'-z'", "linker", "binutils"),
    (
        "arch/x86/entry/thunk_64.o: warning: objtool: missing symbol table\n",
        "thunk_64.o",
        "objtool of kernels before",
        "later point release",
    ),
];

#[test]
fn a_known_failure_to_compile_is_explained() {
    for (text, shown, meaning, remedy) in COMPILED {
        let error = compile(text);
        assert!(error.message.contains(shown) && error.message.contains(meaning), "{text}: {error}");
        assert!(error.hint.as_deref().is_some_and(|hint| hint.contains(remedy)), "{text}: {error:?}");
    }
}

const CONFIGURED: [Case; 3] = [
    (
        "***\n*** Compiler is too old.\n***   Your GCC version:    4.8.5\n***   Minimum GCC version: 5.1.0\n***\n\
         scripts/Kconfig.include:44: Sorry, this compiler is not supported.\n",
        "Minimum GCC version: 5.1.0",
        "newer compiler",
        "KDBG_CC=",
    ),
    (
        "scripts/Kconfig.include:44: Sorry, this compiler is not supported.\n",
        "Kconfig.include:44",
        "support",
        "KDBG_CC=",
    ),
    (
        "  LEX     scripts/kconfig/lexer.lex.c\n/bin/sh: 1: flex: not found\n\
         make[2]: *** [scripts/Makefile.host:9: scripts/kconfig/lexer.lex.c] Error 127\n",
        "flex: not found",
        "is missing",
        "doctor --install",
    ),
];

#[test]
fn a_known_failure_to_configure_is_explained() {
    for (text, shown, meaning, remedy) in CONFIGURED {
        let error = failed_to_configure(text);
        assert!(error.message.contains(shown) && error.message.contains(meaning), "{text}: {error}");
        assert!(error.hint.as_deref().is_some_and(|hint| hint.contains(remedy)), "{text}: {error:?}");
    }
}

#[test]
fn what_comes_after_an_error_does_not_explain_it() {
    let text =
        "a.c:3:1: error: unknown type name 'foo'\nb.c:1:1: error: unused variable 'x' [-Werror=unused-variable]\n";
    let error = compile(text);
    assert!(!error.message.contains("newer compilers"), "{error}");
}
