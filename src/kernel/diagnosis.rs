//! What make's output says about a failure. Pure: text in, an error out.

use crate::error::Error;

/// Kconfig could not be run.
pub(super) fn failed_to_configure(text: &str) -> Error {
    let said = text.lines().find(|line| line.contains("***") || line.contains("rror")).unwrap_or("make gave no reason");
    let error = Error::kernel(format!("Kconfig could not be run: {}", said.trim()));
    if said.contains("not clean") {
        return error.hint("the cached source was written to: delete it from the cache and run again");
    }
    error.hint("`kdbg doctor` shows what the kernel's build needs (flex, bison, gcc, make)")
}

/// The first error that a compiler, linker or make reported, with a few lines of what follows it.
pub(super) fn failed_to_compile(text: &str, status: &str, see_log: &str) -> Error {
    let lines: Vec<&str> = text.lines().collect();
    let compiler = |line: &&str| line.contains(" error: ") || line.contains(" fatal error: ");
    let linker = |line: &&str| line.contains("undefined reference") || line.starts_with("ld:");
    let make = |line: &&str| line.contains("***") || line.contains("No space left on device");
    let first = [&compiler as &dyn Fn(&&str) -> bool, &linker, &make]
        .into_iter()
        .find_map(|is_error| lines.iter().position(is_error));
    let shown = match first {
        Some(at) => lines[at..].iter().take(6).copied().collect::<Vec<_>>().join("\n  "),
        None => lines.last().copied().unwrap_or("make said nothing").into(),
    };
    let error = Error::kernel(format!("the kernel does not compile ({status}); the first error:\n  {shown}"));
    if text.contains("No space left on device") {
        return error.hint("the disk is full: free about 4 GiB, or move the cache with KDBG_CACHE_DIR");
    }
    error.hint(see_log)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_compiler_error_is_shown_not_the_last_line_of_make() {
        let text = "  CC      a.o\na.c:3:1: error: unknown type name 'foo'\n    3 | foo x;\n      | ^~~\nmake[2]: *** [a.o] Error 1\nmake: *** [__sub-make] Error 2\n";
        let error = failed_to_compile(text, "exit code 2", "see build.log");
        assert!(error.message.contains("first error:\n  a.c:3:1: error: unknown type name 'foo'"), "{error}");
        assert!(error.hint.unwrap().contains("build.log"));
    }

    #[test]
    fn a_full_disk_is_named() {
        let error =
            failed_to_compile("x.s: fatal error: write: No space left on device\n", "exit code 2", "see build.log");
        assert!(error.hint.unwrap().contains("disk is full"));
    }
}
