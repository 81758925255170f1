//! Reading the values that GDB prints: `0x0 <fixed_percpu_data>`, `7 '\a'`, `(SKB_A | SKB_B)`, `"lo"`.
//!
//! Pure text. Knows neither the kernel's types nor where a value came from.

use super::model::Var;

/// The number that the whole of `text` is: decimal, `0x…`, negative, `NULL`, `true` or `false`.
pub fn number(text: &str) -> Option<i128> {
    match text {
        "NULL" | "false" => return Some(0),
        "true" => return Some(1),
        _ => {}
    }
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let magnitude = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok()?,
        None => digits.parse::<u64>().ok()?,
    };
    Some(sign * i128::from(magnitude))
}

/// The number that a printed value begins with, if it is one: that of `0x0 <fixed_percpu_data>` is 0.
pub fn leading_number(printed: &str) -> Option<i128> {
    without_cast(printed).split_whitespace().next().and_then(number)
}

/// Whether a printed value is what a recipe expects: the same number where both are numbers, else the same text.
///
/// The text of a value is all of it, or what GDB adds to a number or an address: the symbol in `<…>`, the string or
/// character behind it, the flags without their brackets. `lo`, `"lo"` and `0xffff888003d6c000 "lo"` are one thing.
pub fn same(expected: &str, printed: &str) -> bool {
    let (expected, printed) = (expected.trim(), printed.trim());
    if let (Some(wanted), Some(found)) = (number(expected), leading_number(printed)) {
        return wanted == found;
    }
    let wanted = bare(expected);
    readings(printed).iter().any(|reading| *reading == expected || bare(reading) == wanted)
}

/// The texts that a printed value can be called by.
fn readings(printed: &str) -> Vec<&str> {
    let value = without_cast(printed);
    let mut readings = vec![printed, value];
    if let Some((first, rest)) = value.split_once(' ').filter(|(first, _)| number(first).is_some()) {
        readings.extend([first, rest.trim_start()]);
    }
    // `"lo", '\000' <repeats 13 times>`: GDB's way to print a char array that is not full.
    let strings: Vec<&str> =
        readings.iter().filter_map(|text| text.split_once("\", '\\000'")).map(|(s, _)| s).collect();
    readings.extend(strings);
    readings
}

/// `text` without the marks around it: quotes, `<…>`, `(…)`, a leading `&`, the zero bytes that pad a char array.
fn bare(text: &str) -> &str {
    let text = text.strip_prefix('&').unwrap_or(text);
    let text = [('<', '>'), ('(', ')')]
        .iter()
        .find_map(|(open, close)| text.strip_prefix(*open)?.strip_suffix(*close))
        .unwrap_or(text);
    let Some(string) = text.strip_prefix('"') else { return text };
    let mut string = string.strip_suffix('"').unwrap_or(string);
    while let Some(shorter) = string.strip_suffix("\\000") {
        string = shorter;
    }
    string
}

/// `printed` without the cast that GDB puts in front of some pointers: `(struct sock *) 0x0`.
fn without_cast(printed: &str) -> &str {
    let mut depth = 0_u32;
    for (at, c) in printed.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            let rest = printed[at + c.len_utf8()..].trim_start();
            return if at == 0 || rest.is_empty() { printed } else { rest };
        }
    }
    printed
}

/// The value of `var` as a person writes it: `NULL`, `&init_net`, `6` instead of `6 '\006'`; none when not available.
pub fn short(var: &Var) -> Option<String> {
    let printed = var.value.as_deref().filter(|_| var.available)?;
    let value = without_cast(printed);
    let type_name = var.type_name.as_deref().unwrap_or("");
    let Some((first, rest)) = value.split_once(' ').or(Some((value, ""))).filter(|(first, _)| number(first).is_some())
    else {
        return Some(value.to_owned());
    };
    let symbol = rest.strip_prefix('<').and_then(|rest| rest.strip_suffix('>'));
    let pointer = type_name.ends_with('*') || type_name.contains("(*") || symbol.is_some();
    Some(match symbol {
        _ if pointer && number(first) == Some(0) => "NULL".to_owned(),
        Some(symbol) if !symbol.contains('+') => format!("&{symbol}"),
        None if rest.starts_with('\'') && type_name != "char" => first.to_owned(),
        _ => value.to_owned(),
    })
}

/// Whether a printed value is a structure, a union or an array: readable only in full.
pub fn is_compound(printed: &str) -> bool {
    without_cast(printed).starts_with('{')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_compared_as_what_they_are() {
        let cases = [
            ("0", "0x0", true),
            ("0x0", "0x0 <fixed_percpu_data>", true),
            ("NULL", "0x0 <fixed_percpu_data>", true),
            ("NULL", "(struct sock *) 0x0", true),
            ("0x0", "0xffff888003d6c000", false),
            ("0xFFFF888003D6C000", "0xffff888003d6c000", true),
            ("7", "7 '\\a'", true),
            ("'\\a'", "7 '\\a'", true),
            ("8", "7 '\\a'", false),
            ("-1", "-1", true),
            ("1", "-1", false),
            ("10", "0xa", true),
            ("true", "true", true),
            ("1", "true", true),
            ("false", "true", false),
            ("SKB_DROP_REASON_NO_SOCKET", "SKB_DROP_REASON_NO_SOCKET", true),
            ("SKB_DROP_REASON", "SKB_DROP_REASON_NO_SOCKET", false),
            ("SKB_A | SKB_B", "(SKB_A | SKB_B)", true),
            ("(SKB_A | SKB_B)", "(SKB_A | SKB_B)", true),
            ("SKB_A", "(SKB_A | SKB_B)", false),
            ("lo", "\"lo\"", true),
            ("\"lo\"", "\"lo\"", true),
            ("lo", "\"lo\", '\\000' <repeats 13 times>", true),
            ("lo", "\"lo\\000\\000\"", true),
            ("lo", "0xffff888003d6c000 \"lo\"", true),
            ("lo", "\"lo0\"", false),
            ("&init_net", "0xffffffff82a3c500 <init_net>", true),
            ("init_net", "(struct net *) 0xffffffff82a3c500 <init_net>", true),
            ("init_net", "0xffffffff82a3c508 <init_net+8>", false),
            ("{a = 1}", "{a = 1}", true),
            ("", "0x0", false),
        ];
        for (expected, printed, wanted) in cases {
            assert_eq!(same(expected, printed), wanted, "{expected} against {printed}");
        }
    }

    #[test]
    fn short_values_read_like_source() {
        let cases = [
            ("const struct sock *", "0x0 <fixed_percpu_data>", "NULL"),
            ("struct sock *", "0x0", "NULL"),
            ("struct net *", "0xffffffff82a3c500 <init_net>", "&init_net"),
            ("struct net *", "0xffffffff82a3c508 <init_net+8>", "0xffffffff82a3c508 <init_net+8>"),
            ("void (*)(struct sock *)", "(void (*)(struct sock *)) 0xffffffff81000000 <f>", "&f"),
            ("u8", "6 '\\006'", "6"),
            ("char", "65 'A'", "65 'A'"),
            ("int", "0", "0"),
            ("bool", "false", "false"),
            ("char [16]", "\"lo\"", "\"lo\""),
        ];
        for (type_name, printed, wanted) in cases {
            let var = Var {
                name: "x".into(),
                type_name: Some(type_name.into()),
                value: Some(printed.into()),
                available: true,
                why: None,
                lost: None,
            };
            assert_eq!(short(&var).as_deref(), Some(wanted), "{type_name} {printed}");
        }
    }
}
