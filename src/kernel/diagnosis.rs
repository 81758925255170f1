//! What make's output says about a failure. Pure: text in, an error out.

mod known;

use crate::error::Error;

/// How much of the output is shown, from the first error on.
const SHOWN: usize = 6;

/// Kconfig could not be run.
pub(super) fn failed_to_configure(text: &str) -> Error {
    let lines: Vec<&str> = text.lines().collect();
    if let Some((at, known)) = known::find(&lines, None) {
        let shown = excerpt(&lines, at);
        return Error::kernel(format!("Kconfig could not be run: {}:\n  {shown}", known.meaning)).hint(known.remedy);
    }
    let said = text.lines().find(|line| line.contains("***") || line.contains("rror")).unwrap_or("make gave no reason");
    let error = Error::kernel(format!("Kconfig could not be run: {}", said.trim()));
    if said.contains("not clean") {
        return error.hint("the cached source was written to: delete it from the cache and run again");
    }
    error.hint("`kdbg doctor` shows what the kernel's build needs (flex, bison, gcc, make)")
}

/// The first error that a compiler, linker or make reported, with a few lines of what follows it; what it means, if it
/// is one of the known ones.
pub(super) fn failed_to_compile(text: &str, status: &str, see_log: &str) -> Error {
    let lines: Vec<&str> = text.lines().collect();
    let compiler = |line: &&str| line.contains(" error: ") || line.contains(" fatal error: ");
    let linker = |line: &&str| line.contains("undefined reference") || line.starts_with("ld:");
    let make = |line: &&str| line.contains("***");
    let first = |is_error: &dyn Fn(&&str) -> bool| lines.iter().position(is_error);
    let known = known::find(&lines, first(&|line| compiler(line) || linker(line)));
    let at = known
        .map(|(at, _)| at)
        .or_else(|| [&compiler as &dyn Fn(&&str) -> bool, &linker, &make].into_iter().find_map(first));
    let shown = match at {
        Some(at) => excerpt(&lines, at),
        None => lines.last().copied().unwrap_or("make said nothing").into(),
    };
    let object =
        failed_object(&lines[at.unwrap_or_default()..]).map(|object| format!(" at {object}")).unwrap_or_default();
    let message = format!("the kernel does not compile ({status}){object}; the first error:\n  {shown}");
    match known {
        Some((_, known)) => {
            Error::kernel(format!("{message}\n{}", known.meaning)).hint(format!("{}; {see_log}", known.remedy))
        }
        None => Error::kernel(message).hint(see_log),
    }
}

fn excerpt(lines: &[&str], at: usize) -> String {
    lines[at..].iter().take(SHOWN).copied().collect::<Vec<_>>().join("\n  ")
}

/// What make says it could not make: `net/a.o` of `make[3]: *** [scripts/Makefile.build:250: net/a.o] Error 1`.
fn failed_object<'a>(lines: &[&'a str]) -> Option<&'a str> {
    let target = |line: &&'a str| line.split_once("*** [")?.1.rsplit_once("] Error ").map(|(target, _)| target);
    lines.iter().find_map(target).map(|target| target.rsplit(": ").next().unwrap_or(target))
}

#[cfg(test)]
mod tests;
