//! ccache, where the host has it: make finds it under the compiler's name. So every command line is what it is without
//! it, and no object and no kernel is another one. The user's own ccache is taken, with its cache and its limits.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, IoContext, Result};
use crate::event::Cancel;
use crate::process::Tool;

/// The environment variable that switches it off, as `0`.
pub(super) const VARIABLE: &str = "KDBG_CCACHE";

/// Settings that would change what is compiled, whatever the user's are: another compiler, other paths in the debug
/// information, objects that are one file with those in ccache's cache (Kbuild changes objects where they are), a compiler
/// that is taken for another, options, headers or times that do not count, a program of the user's before the compiler.
const PINNED: [(&str, &str); 11] = [
    ("CCACHE_COMPILER", ""),
    ("CCACHE_PATH", ""),
    ("CCACHE_BASEDIR", ""),
    ("CCACHE_HASHDIR", "1"),
    ("CCACHE_NOHARDLINK", "1"),
    ("CCACHE_COMPILERCHECK", "mtime"),
    ("CCACHE_IGNOREOPTIONS", ""),
    ("CCACHE_IGNOREHEADERS", ""),
    ("CCACHE_SLOPPINESS", ""),
    ("CCACHE_PREFIX", ""),
    ("CCACHE_PREFIX_CPP", ""),
];

/// What would turn two of them around.
const FOREIGN: [&str; 2] = ["CCACHE_NOHASHDIR", "CCACHE_HARDLINK"];

/// ccache, ready for one object folder.
#[derive(Debug)]
pub(super) struct Ccache {
    /// The folder that holds it under the compiler's name.
    folder: PathBuf,
    /// What it says of each compilation.
    log: PathBuf,
}

impl Ccache {
    /// ccache before `compiler`; none where there is no ccache, it is switched off, or the compiler is named by a path,
    /// which leads past it.
    ///
    /// # Errors
    /// It does not work, or the object folder cannot be written.
    pub(super) fn find(objects: &Path, compiler: &str, cancel: &Cancel) -> Result<Option<Ccache>> {
        let ours = objects.join("kdbg");
        let ccache = Ccache { folder: ours.join("ccache"), log: ours.join("ccache.log") };
        // Whatever an earlier build had.
        let _ = fs::remove_dir_all(&ccache.folder);
        let _ = fs::remove_file(&ccache.log);
        let Some(program) = which::which("ccache").ok().filter(|_| !is_off() && !compiler.contains('/')) else {
            return Ok(None);
        };
        fs::create_dir_all(&ccache.folder).or_host(format!("make {}", ccache.folder.display()))?;
        let link = ccache.folder.join(compiler);
        std::os::unix::fs::symlink(program, &link).or_host(format!("make {}", link.display()))?;
        ccache.prove(&ours, compiler, cancel)?;
        Ok(Some(ccache))
    }

    /// Compiles nothing with it: where it cannot write its cache, it fails every time.
    fn prove(&self, folder: &Path, compiler: &str, cancel: &Cancel) -> Result<()> {
        let source = folder.join("nothing.c");
        fs::write(&source, "").or_host(format!("write {}", source.display()))?;
        let tool = Tool::new(self.folder.join(compiler)).args(["-c", "-o", "nothing.o", "nothing.c"]).directory(folder);
        let said = self.before(tool).output(cancel)?;
        // That one does not count.
        let _ = fs::remove_file(&self.log);
        said.status.success().then_some(()).ok_or_else(|| Error::host(said.tail(1)))
    }

    /// `make`, so that it finds ccache before the compiler.
    pub(super) fn before(&self, make: Tool) -> Tool {
        let usual = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(std::iter::once(self.folder.clone()).chain(std::env::split_paths(&usual)));
        // A path with a colon in it is no part of PATH.
        let make = make.env("PATH", path.unwrap_or(usual)).env("CCACHE_STATSLOG", OsString::from(&self.log));
        let make = PINNED.iter().fold(make, |make, (name, value)| make.env(*name, *value));
        FOREIGN.iter().fold(make, |make, name| make.without_env(*name))
    }

    /// What it did, like `ccache had 12 of 15 objects`.
    pub(super) fn summary(&self) -> String {
        summary(&fs::read_to_string(&self.log).unwrap_or_default())
    }
}

/// Whether the user has switched it off.
pub(super) fn is_off() -> bool {
    std::env::var_os(VARIABLE).is_some_and(|value| value == "0")
}

/// A log has a few words for each compilation, each on a line. ccache before 4.5 writes none.
fn summary(log: &str) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    log.lines().for_each(|word| *counts.entry(word).or_default() += 1);
    let count = |word: &str| counts.get(word).copied().unwrap_or_default();
    let had = count("direct_cache_hit") + count("preprocessed_cache_hit");
    match had + count("cache_miss") {
        0 => "with ccache".into(),
        all => format!("ccache had {had} of {all} compilations"),
    }
}

#[cfg(test)]
mod tests {
    use super::summary;

    #[test]
    fn hits_of_both_kinds_are_counted_and_the_steps_on_the_way_are_not() {
        let log = "# a.c\ncache_miss\ndirect_cache_miss\npreprocessed_cache_miss\nlocal_storage_write\n# a.c\n\
                   direct_cache_hit\nlocal_storage_hit\n# b.c\ndirect_cache_miss\npreprocessed_cache_hit\n";
        assert_eq!(summary(log), "ccache had 2 of 3 compilations");
        assert_eq!(summary(""), "with ccache");
    }
}
