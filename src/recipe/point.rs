//! Where a probe stops: what `at` may say.
//!
//! Pure. A [`ProbePoint`] is the only thing that reaches GDB's breakpoint commands, so what is not a name, a file
//! and line or an address is refused here.

use std::fmt;
use std::str::FromStr;

use super::diagnostic::Objection;
use super::expression;

/// A place to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbePoint {
    /// The first instruction of a function, before its prologue; suffixes of the compiler (`.isra.0`) are part of the name.
    Function(String),
    /// The first instruction of every function whose name matches: `*` stands for any characters, `?` for one.
    Pattern(String),
    /// Where a function returns.
    Return(String),
    /// A line of a function.
    FunctionLine {
        /// The function.
        function: String,
        /// How many lines below the one that has its name.
        offset: u32,
    },
    /// A line of the kernel's source.
    FileLine {
        /// The file, relative to the kernel's source tree.
        file: String,
        /// The line, from 1.
        line: u32,
    },
    /// An instruction.
    Address(u64),
    /// What writes to an expression.
    Watch(String),
}

const FORMS: &str = "this version of kdbg knows `function`, a pattern of functions like `tcp_v4_*`, `function:+line`, `return:function`, \
     `file:line`, `*address` and `watch: expression`";

impl ProbePoint {
    /// The function at whose first instruction it stops.
    pub fn function(&self) -> Option<&str> {
        match self {
            ProbePoint::Function(name) | ProbePoint::Return(name) => Some(name),
            ProbePoint::Pattern(_)
            | ProbePoint::FunctionLine { .. }
            | ProbePoint::FileLine { .. }
            | ProbePoint::Address(_)
            | ProbePoint::Watch(_) => None,
        }
    }
}

impl FromStr for ProbePoint {
    type Err = Objection;

    fn from_str(text: &str) -> Result<Self, Objection> {
        let wrong = |message: String, label: &str| Objection {
            message,
            label: label.to_owned(),
            at: 0..text.chars().count(),
            help: FORMS.to_owned(),
        };
        if let Some(watched) = text.strip_prefix("watch:") {
            let start = text.chars().count() - watched.chars().count();
            return match expression::check(watched) {
                Ok(()) => Ok(ProbePoint::Watch(watched.trim().to_owned())),
                Err(Objection { at, .. }) if at.is_empty() => Err(wrong("there is nothing to watch".into(), "")),
                Err(objection) => {
                    let at = objection.at.start + start..objection.at.end + start;
                    Err(Objection { at, ..objection })
                }
            };
        }
        if let Some(name) = text.strip_prefix("return:").map(str::trim_start) {
            return match is_function(name) {
                true => Ok(ProbePoint::Return(name.to_owned())),
                false => Err(wrong(format!("`{name}` does not return"), "not the name of a C function")),
            };
        }
        if let Some(address) = text.strip_prefix('*') {
            let digits = address.strip_prefix("0x").filter(|digits| digits.chars().all(|c| c.is_ascii_hexdigit()));
            return digits
                .and_then(|digits| u64::from_str_radix(digits, 16).ok())
                .map(ProbePoint::Address)
                .ok_or_else(|| wrong(format!("`{text}` is not an address"), "write it like `*0xffffffff81000000`"));
        }
        if let Some((place, line)) = text.rsplit_once(':') {
            if let Some(digits) = line.strip_prefix('+') {
                let offset = digits.parse().ok().filter(|_| digits.chars().all(|c| c.is_ascii_digit()));
                return match (is_function(place), offset) {
                    (true, Some(offset)) => Ok(ProbePoint::FunctionLine { function: place.to_owned(), offset }),
                    (false, _) => Err(wrong(format!("`{place}` has no lines"), "not the name of a C function")),
                    (_, None) => {
                        Err(wrong(format!("`{text}` is not a line of a function"), "no number after the `:+`"))
                    }
                };
            }
            let line = line.parse().ok().filter(|line| *line > 0 && !text.ends_with(|c: char| !c.is_ascii_digit()));
            let line =
                line.ok_or_else(|| wrong(format!("`{text}` is not a file and a line"), "no line after the `:`"))?;
            if !is_source_path(place) {
                let label = "a path relative to the kernel's source, of letters, digits and `_ - + . /`";
                return Err(wrong(format!("`{place}` cannot be a source file of the kernel"), label));
            }
            return Ok(ProbePoint::FileLine { file: place.to_owned(), line });
        }
        if text.contains(['*', '?']) {
            // With its first letter: what matches anything would stop everywhere.
            let name = text.replace(['*', '?'], "");
            return match is_identifier(&name) && !text.starts_with(['*', '?']) {
                true => Ok(ProbePoint::Pattern(text.to_owned())),
                false => Err(wrong(
                    format!("`{text}` is not a pattern of functions"),
                    "a pattern is a name that begins with a letter or `_`, with `*` or `?` in it",
                )),
            };
        }
        if is_function(text) {
            Ok(ProbePoint::Function(text.to_owned()))
        } else {
            Err(wrong(format!("`{text}` is not a place to stop"), "not the name of a C function"))
        }
    }
}

impl fmt::Display for ProbePoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProbePoint::Function(name) | ProbePoint::Pattern(name) => f.write_str(name),
            ProbePoint::Return(name) => write!(f, "return:{name}"),
            ProbePoint::FunctionLine { function, offset } => write!(f, "{function}:+{offset}"),
            ProbePoint::FileLine { file, line } => write!(f, "{file}:{line}"),
            ProbePoint::Address(address) => write!(f, "*{address:#x}"),
            ProbePoint::Watch(expression) => write!(f, "watch:{expression}"),
        }
    }
}

/// Whether `text` is a C identifier.
pub fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// A C identifier, with the suffixes that GCC puts on clones: `.isra.0`, `.part.1`, `.cold`.
fn is_function(text: &str) -> bool {
    let mut parts = text.split('.');
    parts.next().is_some_and(is_identifier)
        && parts.all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
}

/// A relative path without `..`, spaces, quotes or anything else that GDB's line specifications give a meaning to.
fn is_source_path(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+' | '.');
    text.split('/')
        .all(|part| !matches!(part, "" | "." | "..") && !part.starts_with(['-', '+']) && part.chars().all(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_that_exist_read_back_as_they_were_written() {
        let forms = [
            "tcp_v4_rcv",
            "__icmp_send",
            "f.isra.0",
            "f.cold",
            "tcp_v4_*",
            "t*_?cv",
            "return:tcp_v4_rcv",
            "tcp_v4_rcv:+3",
            "net/ipv4/tcp_ipv4.c:686",
            "a.c:1",
            "*0xffffffff81000000",
            "watch:sk->__sk_common.skc_state",
        ];
        for form in forms {
            assert_eq!(form.parse::<ProbePoint>().unwrap().to_string(), form);
        }
    }

    #[test]
    fn what_gdb_could_take_for_more_than_a_place_is_refused() {
        let cases = [
            ("return:", "`` does not return"),
            ("return: f if 1", "`f if 1` does not return"),
            ("?cp", "`?cp` is not a pattern of functions"),
            ("tcp_* if 1", "`tcp_* if 1` is not a pattern of functions"),
            ("watch: ", "there is nothing to watch"),
            ("watch: jiffies = 1", "the expression writes to the guest"),
            ("watch: f(1)", "the expression calls `f`"),
            ("tcp_v4_rcv:+", "`tcp_v4_rcv:+` is not a line of a function"),
            ("tcp_v4_rcv:+-3", "`tcp_v4_rcv:+-3` is not a line of a function"),
            ("a.c d:+3", "`a.c d` has no lines"),
            ("", "`` is not a place to stop"),
            ("tcp_v4_rcv if 1", "`tcp_v4_rcv if 1` is not a place to stop"),
            ("f thread 1", "`f thread 1` is not a place to stop"),
            ("-qualified f", "`-qualified f` is not a place to stop"),
            ("f;shell id", "`f;shell id` is not a place to stop"),
            ("f\nshell id", "`f\nshell id` is not a place to stop"),
            ("f.", "`f.` is not a place to stop"),
            ("7f", "`7f` is not a place to stop"),
            ("größe", "`größe` is not a place to stop"),
            ("*", "`*` is not an address"),
            ("*0x", "`*0x` is not an address"),
            ("*0x+1", "`*0x+1` is not an address"),
            ("*jiffies", "`*jiffies` is not an address"),
            ("*0x11111111111111111", "`*0x11111111111111111` is not an address"),
            ("a.c:0", "`a.c:0` is not a file and a line"),
            ("a.c:", "`a.c:` is not a file and a line"),
            ("a.c:1 if x", "`a.c:1 if x` is not a file and a line"),
            ("/etc/passwd:1", "`/etc/passwd` cannot be a source file of the kernel"),
            ("../a.c:1", "`../a.c` cannot be a source file of the kernel"),
            ("a b.c:1", "`a b.c` cannot be a source file of the kernel"),
            ("'a.c':1", "`'a.c'` cannot be a source file of the kernel"),
            ("-f:1", "`-f` cannot be a source file of the kernel"),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<ProbePoint>().unwrap_err().message, expected, "{text}");
        }
    }
}
