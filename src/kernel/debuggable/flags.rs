//! The flags of the ladder that not every compiler has.

use crate::error::Result;
use crate::event::Cancel;
use crate::process::Tool;

/// What is not set yet holds bytes of 0xfe, which src/gdb/variables.rs knows. gcc has it from 12 on.
const UNSET: &str = "-ftrivial-auto-var-init=pattern";
/// A frame of more than 2 KiB is too much for the kernel's stack.
const LIMIT: &str = "-Werror=frame-larger-than=2048";

/// All of them, in the order of the wrapper's `flags`.
pub(super) const ALL: [&str; 2] = [UNSET, LIMIT];

/// The lines of the wrapper's `flags`: each flag that `compiler` has, an empty line for one that it lacks.
///
/// # Errors
/// The compiler does not run.
pub(super) fn lines(compiler: &str, cancel: &Cancel) -> Result<String> {
    let mut lines = String::new();
    for flag in ALL {
        let empty = ["-Werror", flag, "-fsyntax-only", "-x", "c", "/dev/null"];
        if Tool::new(compiler).args(empty).output(cancel)?.status.success() {
            lines.push_str(flag);
        }
        lines.push('\n');
    }
    Ok(lines)
}

/// Whether locals that are not set yet are marked, by these lines.
pub(super) fn mark_unset(lines: &str) -> bool {
    lines.contains(UNSET)
}
