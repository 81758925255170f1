//! The compiler that kernels are built with: gcc, or the one that `KDBG_CC` names. It is the host's choice: a recipe has
//! no say in what runs there. The programs that the build itself runs are compiled by gcc all the same.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::OnceLock;

use crate::error::{Error, IoContext, Result};
use crate::event::Cancel;
use crate::process::Tool;

/// The environment variable that names a compiler: a gcc or a clang, as a name on PATH or a path.
pub(super) const VARIABLE: &str = "KDBG_CC";

/// The compiler where it names none.
pub(super) const USUAL: &str = "gcc";

/// What `KDBG_CC` names, as make's `CC`; a path is absolute.
///
/// # Errors
/// It is not the name of one program, or make or a shell would take it apart.
pub(super) fn chosen() -> Result<Option<String>> {
    std::env::var_os(VARIABLE).filter(|name| !name.is_empty()).map(|name| one_program(&name)).transpose()
}

fn one_program(name: &OsStr) -> Result<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._+-".contains(c);
    let name = name.to_string_lossy().into_owned();
    if name.starts_with('-') || !name.chars().all(is_plain) {
        let hint = format!(
            "{VARIABLE} is one program without flags, like gcc-12 or /opt/gcc/bin/gcc; its name has only letters, digits and ./_+-"
        );
        return Err(Error::host(format!("{VARIABLE}=`{name}` is not the name of a compiler")).hint(hint));
    }
    if !name.contains('/') {
        return Ok(name);
    }
    let path = std::path::absolute(Path::new(&name)).or_host(format!("find {name}"))?;
    Ok(path.to_string_lossy().into_owned())
}

/// The compiler, as it enters the key: the first line of its `--version`. Asked once.
///
/// # Errors
/// It is not there, or it is no compiler.
pub(super) fn version(cancel: &Cancel) -> Result<String> {
    static VERSION: OnceLock<String> = OnceLock::new();
    if let Some(known) = VERSION.get() {
        return Ok(known.clone());
    }
    let version = match chosen()? {
        Some(program) => version_of_chosen(&program, cancel)?,
        None => first_line_of(USUAL, cancel)?.ok_or_else(|| {
            Error::host("gcc does not run").hint("`kdbg doctor --install` installs what a build needs")
        })?,
    };
    Ok(VERSION.get_or_init(|| version).clone())
}

fn version_of_chosen(program: &str, cancel: &Cancel) -> Result<String> {
    let missing = format!(
        "install it (Debian's packages are called as their programs: `apt-get install gcc-12`), name another one in \
         {VARIABLE}, or unset it to build with gcc"
    );
    if which::which(program).is_err() {
        return Err(Error::host(format!("{VARIABLE}={program}: there is no such program")).hint(missing));
    }
    let version = if is_compiler(program, cancel)? { first_line_of(program, cancel)? } else { None };
    version.ok_or_else(|| Error::host(format!("{VARIABLE}={program} is neither a gcc nor a clang")).hint(missing))
}

/// The first line of what it says to `--version`.
fn first_line_of(program: &str, cancel: &Cancel) -> Result<Option<String>> {
    let output = Tool::new(program).arg("--version").output(cancel)?;
    let first = output.text.lines().next().map(str::to_owned);
    Ok(first.filter(|_| output.status.success()))
}

/// Whether it preprocesses C as gcc and clang do.
fn is_compiler(program: &str, cancel: &Cancel) -> Result<bool> {
    let output = Tool::new(program).args(["-E", "-dM", "-x", "c", "/dev/null"]).output(cancel)?;
    Ok(output.status.success() && output.text.contains("#define __GNUC__ "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiler_is_one_program() {
        for (name, well) in [
            ("gcc-12", true),
            ("clang++", true),
            ("/opt/x86_64-linux/bin/gcc", true),
            ("gcc -O0", false),
            ("$(CC)", false),
            ("-c", false),
            ("gcc;ls", false),
        ] {
            assert_eq!(one_program(OsStr::new(name)).is_ok(), well, "{name}");
        }
    }

    #[test]
    fn a_path_is_made_absolute_since_make_runs_elsewhere() {
        assert!(Path::new(&one_program(OsStr::new("./bin/gcc")).unwrap()).is_absolute());
    }

    #[test]
    fn what_is_no_compiler_is_refused() {
        for program in ["true", "kdbg-no-such-compiler"] {
            let error = version_of_chosen(program, &Cancel::default()).unwrap_err();
            assert!(error.message.contains(program) && error.hint.is_some_and(|hint| hint.contains("unset it")));
        }
    }
}
