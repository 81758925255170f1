//! The commands that more than one file gives, as MI text. Pure.

use super::mi;

/// A command of GDB's console.
pub(super) fn console(command: &str) -> String {
    format!("-interpreter-exec console {}", mi::quote(command))
}

/// A command of GDB's console, in a frame of a thread.
pub(super) fn console_at(thread: u64, level: usize, command: &str) -> String {
    format!("-interpreter-exec --thread {thread} --frame {level} console {}", mi::quote(command))
}

/// The command of GDB's console that has its Python execute a script of several lines.
pub(super) fn python(script: &str) -> String {
    format!("python exec({script:?})")
}

/// Asks for a value, where no frame matters.
pub(super) fn evaluate(expression: &str) -> String {
    format!("-data-evaluate-expression {}", mi::quote(expression))
}

/// Asks for a value, in a frame of a thread.
pub(super) fn evaluate_at(thread: u64, level: usize, expression: &str) -> String {
    format!("-data-evaluate-expression --thread {thread} --frame {level} {}", mi::quote(expression))
}

/// Watches a word of the guest's memory. Writes count too: GDB does not tell of a read alone where it takes the word for changed.
pub(super) fn watch_word(address: u64) -> String {
    format!("-break-watch -a \"*(unsigned long *){address:#x}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_with_a_command_is_quoted() {
        assert_eq!(console("echo \"a\""), r#"-interpreter-exec console "echo \"a\"""#);
        let expected = r#"-interpreter-exec --thread 2 --frame 3 console "python exec(\"a\\nb\")""#;
        assert_eq!(console_at(2, 3, &python("a\nb")), expected);
        assert_eq!(evaluate("'n' == \"n\""), r#"-data-evaluate-expression "'n' == \"n\"""#);
        assert_eq!(watch_word(0x10), "-break-watch -a \"*(unsigned long *)0x10\"");
        assert_eq!(evaluate_at(1, 0, "sk"), r#"-data-evaluate-expression --thread 1 --frame 0 "sk""#);
    }
}
