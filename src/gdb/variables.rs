//! Arguments and locals as GDB lists them: merged, sorted, freed of macro temporaries, and honest about what is missing.
//!
//! Pure: no GDB.

use super::answer::Answer;
use super::mi;
use crate::report::model::{Lost, Var, Why};

/// Where the kernel's half of the address space begins on x86-64.
pub(super) const KERNEL_HALF: u64 = 0xffff_8000_0000_0000;

/// A variable as GDB lists it, with its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawVariable {
    pub name: String,
    pub is_argument: bool,
    pub type_name: Option<String>,
    pub value: Option<String>,
    /// The compiler keeps it nowhere.
    pub nowhere: bool,
}

/// A variable as the debug information has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Symbol {
    pub name: String,
    pub type_name: String,
    /// What is known of one that MI does not list.
    pub unlisted: Option<Unlisted>,
}

/// A variable that is not in the guest's memory or registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unlisted {
    pub is_argument: bool,
    /// What it is wherever it is in scope; none if the compiler keeps it nowhere.
    pub value: Option<String>,
}

const OPTIMIZED_OUT: &str = "<optimized out>";

/// Puts the variables that `--all-values` lists together with their types and with those that it leaves out. Those of one name
/// follow each other in the same order in both: the innermost block's first.
pub(super) fn typed(listed: &Answer, symbols: &[Symbol]) -> Vec<RawVariable> {
    let Answer::Done(values, _) = listed else { return Vec::new() };
    let mut left: Vec<(usize, &Symbol)> =
        symbols.iter().enumerate().filter(|(_, symbol)| symbol.unlisted.is_none()).collect();
    let mut last: Option<(usize, &Symbol)> = None;
    // Each with its place among the symbols.
    let mut variables = Vec::new();
    for variable in values.tuples("variables") {
        let name = variable.text("name").unwrap_or_default();
        // It may follow itself as it was at the call.
        let plain = name.trim_end_matches("@entry");
        if name == plain || last.is_none_or(|(_, other)| other.name != plain) {
            let found = left.iter().position(|(_, other)| other.name == plain);
            last = found.map(|index| left.remove(index));
        }
        let type_name = last.map(|(_, symbol)| symbol.type_name.clone());
        let at = last.map_or(symbols.len(), |(at, _)| at);
        let is_argument = variable.text("arg") == Some("1");
        let value = variable.text("value").map(String::from);
        variables.push((at, RawVariable { name: name.into(), is_argument, type_name, value, nowhere: false }));
    }
    for (at, symbol) in symbols.iter().enumerate() {
        let Some(unlisted) = &symbol.unlisted else { continue };
        let raw = RawVariable {
            name: symbol.name.clone(),
            is_argument: unlisted.is_argument,
            type_name: Some(symbol.type_name.clone()),
            value: Some(unlisted.value.clone().unwrap_or_else(|| OPTIMIZED_OUT.into())),
            nowhere: unlisted.value.is_none(),
        };
        variables.push((at, raw));
    }
    variables.sort_by_key(|(at, _)| *at);
    variables.into_iter().map(|(_, raw)| raw).collect()
}

/// Arguments, locals, and how many macro temporaries were left out.
pub(super) fn sort(variables: &[RawVariable]) -> (Vec<Var>, Vec<Var>, u32) {
    let mut args = Vec::new();
    let mut locals = Vec::new();
    let mut hidden = 0;
    for raw in variables {
        let var = || {
            let var = var(&raw.name, raw.type_name.as_deref(), raw.value.as_deref());
            Var { lost: raw.nowhere.then_some(Lost::Nowhere), ..var }
        };
        if raw.is_argument {
            args.push(var());
        } else if is_temporary(&raw.name) {
            hidden += 1;
        } else {
            locals.push(var());
        }
    }
    (args, locals, hidden)
}

/// Whether the name is one that kernel macros give their temporaries.
pub(super) fn is_temporary(name: &str) -> bool {
    name.starts_with("__") || name.ends_with("__")
}

/// A variable from what GDB printed for it.
pub(super) fn var(name: &str, type_name: Option<&str>, value: Option<&str>) -> Var {
    let why = match value {
        Some(text) if is_lost(text) => Some(Why::OptimizedOut),
        Some(text) if text.starts_with("<error: ") || text.starts_with("Cannot access memory") => Some(Why::Unreadable),
        Some(_) => None,
        None => Some(Why::Unreadable),
    };
    Var {
        name: name.into(),
        type_name: type_name.map(String::from),
        value: value.filter(|_| why.is_none()).map(without_false_symbols),
        available: why.is_none(),
        why,
        lost: None,
    }
}

/// Whether there is nothing of a value, or of any member of a structure.
fn is_lost(value: &str) -> bool {
    let mut parts = value.split(['{', '}', ',']).map(str::trim).filter(|part| !part.is_empty()).peekable();
    parts.peek().is_some() && parts.all(|part| part == OPTIMIZED_OUT || part.ends_with(" = <optimized out>"))
}

/// A value without the symbols that GDB puts behind small addresses. Per-CPU symbols begin at address 0, so it calls NULL
/// `0x0 <fixed_percpu_data>`; no pointer below the kernel's half of the address space points to a kernel symbol.
fn without_false_symbols(value: &str) -> String {
    let mut rest = value;
    let mut cleaned = String::with_capacity(value.len());
    while let Some(at) = rest.find("0x") {
        let digits = rest[at + 2..].find(|c: char| !c.is_ascii_hexdigit()).map_or(rest.len(), |length| at + 2 + length);
        let low = u64::from_str_radix(&rest[at + 2..digits], 16).is_ok_and(|address| address < KERNEL_HALF);
        cleaned.push_str(&rest[..digits]);
        rest = &rest[digits..];
        if low && rest.starts_with(" <") && !rest.starts_with(" <error: ") {
            rest = rest.find('>').map_or(rest, |end| &rest[end + 1..]);
        }
    }
    cleaned + rest
}

/// Whether a scalar holds what `-ftrivial-auto-var-init=pattern` of a debuggable file puts into a variable that is not
/// set: bytes of 0xfe. Narrower values could be real ones.
pub(super) fn is_unset_pattern(value: &str) -> bool {
    ["-16843010", "4278124286", "-72340172838076674", "18374403900871474942", "0xfefefefefefefefe"].contains(&value)
}

/// A C string as GDB prints it (`"nc"`, escapes inside), as text.
pub(super) fn unquote(printed: &str) -> String {
    let from_quote = printed.find('"').map_or(printed, |at| &printed[at..]);
    match mi::parse(&format!("~{from_quote}")) {
        Ok(mi::Record::Stream { text, .. }) => text.trim_end_matches('\0').into(),
        _ => printed.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(line: &str) -> Answer {
        match mi::parse(line).unwrap() {
            mi::Record::Result { values, .. } => Answer::Done(values, String::new()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn values_and_types_are_put_together() {
        let listed = answer(
            r#"^done,variables=[{name="sk",arg="1",value="0x0"},{name="sk@entry",arg="1",value="0x1"},{name="rep",value="{th = {source = 1}}"},{name="__mptr",value="<optimized out>"},{name="ret",value="<optimized out>"},{name="ret",value="3"}]"#,
        );
        let symbol =
            |name: &str, type_name: &str, unlisted| Symbol { name: name.into(), type_name: type_name.into(), unlisted };
        let unlisted =
            |is_argument, value: Option<&str>| Some(Unlisted { is_argument, value: value.map(String::from) });
        let types = [
            symbol("ret", "bool", unlisted(false, Some("false"))),
            symbol("ret", "int", None),
            symbol("rep", "struct {...}", None),
            symbol("ret", "long", None),
            symbol("gone", "char", unlisted(true, None)),
            symbol("__mptr", "void *", None),
            symbol("sk", "const struct sock *", None),
        ];
        let (args, locals, hidden) = sort(&typed(&listed, &types));
        assert_eq!(hidden, 1);
        let seen = |var: &Var| (var.name.clone(), var.type_name.clone().unwrap_or_default(), var.value.clone());
        let is = |name: &str, type_name: &str, value: &str| (name.into(), type_name.into(), Some(value.into()));
        assert_eq!(seen(&args[0]), ("gone".into(), "char".into(), None));
        assert_eq!((args[0].why, args[0].lost), (Some(Why::OptimizedOut), Some(Lost::Nowhere)));
        assert_eq!(seen(&args[1]), is("sk", "const struct sock *", "0x0"));
        assert_eq!(seen(&args[2]), is("sk@entry", "const struct sock *", "0x1"));
        assert_eq!(seen(&locals[0]), is("ret", "bool", "false"));
        assert_eq!(seen(&locals[1]), ("ret".into(), "int".into(), None));
        assert_eq!((locals[1].available, locals[1].why), (false, Some(Why::OptimizedOut)));
        assert_eq!(seen(&locals[2]), is("rep", "struct {...}", "{th = {source = 1}}"));
        assert_eq!(seen(&locals[3]), is("ret", "long", "3"));
    }

    #[test]
    fn what_cannot_be_read_says_so() {
        for text in [Some("<error: Cannot access memory at address 0x0>"), None] {
            assert_eq!(var("x", None, text).why, Some(Why::Unreadable));
        }
    }

    #[test]
    fn a_structure_of_which_nothing_is_left_is_optimized_out_as_a_whole() {
        let members = "{{exit_rcu = <optimized out>, lockdep = <optimized out>}}";
        assert_eq!(var("state", None, Some(members)).why, Some(Why::OptimizedOut));
        assert_eq!(var("op", None, Some("{mode = <optimized out>, flags = 1}")).why, None);
        assert_eq!(var("md5", None, Some("{<No data fields>}")).why, None);
    }

    #[test]
    fn small_addresses_have_no_symbol_and_others_keep_theirs() {
        for (printed, reported) in [
            ("0x0 <fixed_percpu_data>", "0x0"),
            ("{next = 0x1 <fixed_percpu_data+1>, f = 0xffffffff81b5 <a+0>}", "{next = 0x1, f = 0xffffffff81b5}"),
            ("0xffffffff81a050d8 <softirq_vec+24>", "0xffffffff81a050d8 <softirq_vec+24>"),
            ("7 '\\a'", "7 '\\a'"),
            (
                "0x10 <error: Cannot access memory at address 0x10>",
                "0x10 <error: Cannot access memory at address 0x10>",
            ),
            ("0x", "0x"),
        ] {
            assert_eq!(without_false_symbols(printed), reported);
        }
    }

    #[test]
    fn printed_strings_become_text() {
        assert_eq!(unquote("\"nc\""), "nc");
        assert_eq!(unquote(r#""a\"b\303\244\000""#), "a\"bä");
        assert_eq!(unquote("0x0"), "0x0");
    }

    #[test]
    fn bytes_of_0xfe_are_a_variable_that_is_not_set() {
        let pattern = [0xfe_u8; 8];
        let four = [0xfe_u8; 4];
        for text in [
            i32::from_ne_bytes(four).to_string(),
            u32::from_ne_bytes(four).to_string(),
            i64::from_ne_bytes(pattern).to_string(),
            u64::from_ne_bytes(pattern).to_string(),
            format!("{:#x}", u64::from_ne_bytes(pattern)),
        ] {
            assert!(is_unset_pattern(&text), "{text}");
        }
        assert!(!["0", "254", "0xfe", "-2"].into_iter().any(is_unset_pattern));
    }
}
