//! Arguments and locals as GDB lists them: merged, sorted, freed of macro temporaries, and honest about what is missing.
//!
//! Pure: no GDB.

use super::answer::Answer;
use super::mi;
use crate::report::model::{Var, Why};

/// Where the kernel's half of the address space begins on x86-64.
pub(super) const KERNEL_HALF: u64 = 0xffff_8000_0000_0000;

/// A variable as two MI lists give it: one has the type, the other the value of structures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawVariable {
    pub name: String,
    pub is_argument: bool,
    pub type_name: Option<String>,
    pub value: Option<String>,
}

/// Puts `--simple-values` (types, values of scalars) and `--all-values` (all values, no types) together.
pub(super) fn merge(typed: &Answer, whole: &Answer) -> Vec<RawVariable> {
    let list = |answer: &Answer| match answer {
        Answer::Done(values, _) => values.tuples("variables").into_iter().cloned().collect(),
        Answer::Refused(_) => Vec::new(),
    };
    let (typed, whole) = (list(typed), list(whole));
    typed
        .iter()
        .enumerate()
        .map(|(index, variable)| {
            let name = variable.text("name").unwrap_or_default();
            let same = whole.get(index).filter(|other| other.text("name") == Some(name));
            let value = same.and_then(|other| other.text("value")).or_else(|| variable.text("value"));
            RawVariable {
                name: name.into(),
                is_argument: variable.text("arg") == Some("1"),
                type_name: variable.text("type").map(String::from),
                value: value.map(String::from),
            }
        })
        .collect()
}

/// Arguments, locals, and how many macro temporaries were left out.
pub(super) fn sort(variables: &[RawVariable]) -> (Vec<Var>, Vec<Var>, u32) {
    let mut args = Vec::new();
    let mut locals = Vec::new();
    let mut hidden = 0;
    for raw in variables {
        let var = || var(&raw.name, raw.type_name.as_deref(), raw.value.as_deref());
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
fn is_temporary(name: &str) -> bool {
    name.starts_with("__") || name.ends_with("__")
}

/// A variable from what GDB printed for it.
pub(super) fn var(name: &str, type_name: Option<&str>, value: Option<&str>) -> Var {
    let why = match value {
        Some("<optimized out>") => Some(Why::OptimizedOut),
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
        if low && rest.starts_with(" <") {
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
    fn types_and_whole_values_are_put_together() {
        let typed = answer(
            r#"^done,variables=[{name="sk",arg="1",type="const struct sock *",value="0x0"},{name="rep",type="struct {...}"},{name="__mptr",type="void *",value="<optimized out>"},{name="ret",type="int",value="<optimized out>"}]"#,
        );
        let whole = answer(
            r#"^done,variables=[{name="sk",arg="1",value="0x0"},{name="rep",value="{th = {source = 1}}"},{name="__mptr",value="<optimized out>"},{name="ret",value="<optimized out>"}]"#,
        );
        let (args, locals, hidden) = sort(&merge(&typed, &whole));
        assert_eq!(hidden, 1);
        assert_eq!(
            (args[0].name.as_str(), args[0].type_name.as_deref(), args[0].value.as_deref()),
            ("sk", Some("const struct sock *"), Some("0x0"))
        );
        assert_eq!(locals[0].value.as_deref(), Some("{th = {source = 1}}"));
        assert_eq!((locals[1].available, locals[1].why, &locals[1].value), (false, Some(Why::OptimizedOut), &None));
    }

    #[test]
    fn what_cannot_be_read_says_so() {
        for text in [Some("<error: Cannot access memory at address 0x0>"), None] {
            assert_eq!(var("x", None, text).why, Some(Why::Unreadable));
        }
    }

    #[test]
    fn small_addresses_have_no_symbol_and_others_keep_theirs() {
        for (printed, reported) in [
            ("0x0 <fixed_percpu_data>", "0x0"),
            ("{next = 0x1 <fixed_percpu_data+1>, f = 0xffffffff81b5 <a+0>}", "{next = 0x1, f = 0xffffffff81b5}"),
            ("0xffffffff81a050d8 <softirq_vec+24>", "0xffffffff81a050d8 <softirq_vec+24>"),
            ("7 '\\a'", "7 '\\a'"),
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
