//! What `when`, `show` and the like may say: C expressions that only read.
//!
//! Pure. GDB evaluates them in the stopped frame, and GDB's idea of an expression is wide: a call runs a function in
//! the guest, `$_shell(…)` runs a program on the host, `=` writes to the guest's memory. All of that is refused here,
//! by its tokens; whether the rest makes sense is for GDB to say, which knows the types.

use std::ops::Range;

use super::diagnostic::Objection;

/// Words that may stand before `(` without being called.
const OPERATORS: [&str; 8] =
    ["sizeof", "alignof", "_Alignof", "__alignof__", "typeof", "__typeof__", "__typeof", "decltype"];

/// Words that begin the name of a type.
const TYPE_WORDS: [&str; 17] = [
    "struct", "union", "enum", "const", "volatile", "unsigned", "signed", "void", "char", "short", "int", "long",
    "float", "double", "bool", "_Bool", "__int128",
];

/// Types of the kernel that one name stands for. By name, because no spelling tells a type from a function:
/// `jiffies_to_clock_t` is a function.
#[rustfmt::skip]
const KERNEL_TYPES: [&str; 93] = [
    "u8", "u16", "u32", "u64", "s8", "s16", "s32", "s64", "__u8", "__u16", "__u32", "__u64", "__s8", "__s16", "__s32",
    "__s64", "__be16", "__be32", "__be64", "__le16", "__le32", "__le64", "__sum16", "__wsum", "__poll_t", "uint",
    "ulong", "ushort", "unchar", "u_char", "u_short", "u_int", "u_long", "uint8_t", "uint16_t", "uint32_t", "uint64_t",
    "int8_t", "int16_t", "int32_t", "int64_t", "u_int8_t", "u_int16_t", "u_int32_t", "u_int64_t", "size_t", "ssize_t",
    "ptrdiff_t", "uintptr_t", "intptr_t", "off_t", "loff_t", "pid_t", "uid_t", "gid_t", "kuid_t", "kgid_t", "mode_t",
    "umode_t", "fmode_t", "dev_t", "ino_t", "nlink_t", "clock_t", "time64_t", "ktime_t", "cycles_t", "clockid_t",
    "timer_t", "gfp_t", "slab_flags_t", "sector_t", "blkcnt_t", "pgoff_t", "dma_addr_t", "phys_addr_t",
    "resource_size_t", "vm_fault_t", "pte_t", "pmd_t", "pgd_t", "atomic_t", "atomic64_t", "atomic_long_t", "refcount_t",
    "spinlock_t", "socklen_t", "sa_family_t", "__kernel_sa_family_t", "sk_buff_data_t", "netdev_features_t",
    "netdev_tx_t", "possible_net_t",
];

/// Signs of several characters, the longest first, so that `<<=` is not read as `<` and `<=`.
const SIGNS: [&str; 23] = [
    "<<=", ">>=", "==", "!=", "<=", ">=", "->", "&&", "||", "<<", ">>", "::", "++", "--", "+=", "-=", "*=", "/=", "%=",
    "&=", "|=", "^=", "=",
];

/// Signs that write.
const WRITES: [&str; 13] = ["=", "++", "--", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "<<=", ">>="];

/// One token and the characters it covers.
struct Token {
    text: String,
    at: Range<usize>,
}

impl Token {
    fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '$'))
    }
}

/// Checks that an expression only reads: no calls, no assignments, no strings, one line, balanced parentheses.
pub fn check(text: &str) -> Result<(), Objection> {
    if text.trim().is_empty() {
        return Err(objection("the expression is empty", "", 0..0, "write a C expression, like `skb->len`"));
    }
    let tokens = tokens(text)?;
    let mut open: Vec<usize> = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|before| tokens.get(before));
        match token.text.as_str() {
            sign if WRITES.contains(&sign) => return Err(write(token)),
            "(" => {
                if let Some(callee) =
                    before.filter(|before| before.is_word() && !OPERATORS.contains(&before.text.as_str()))
                {
                    return Err(call(callee));
                }
                // GDB calls numbers too: it takes them for addresses.
                if before
                    .is_some_and(|before| before.text.starts_with(|c: char| matches!(c, ']' | '}' | '\'' | '0'..='9')))
                {
                    return Err(call(token));
                }
                open.push(index);
            }
            "[" | "{" => open.push(index),
            ")" | "]" | "}" => {
                let opened = open.pop().filter(|&opened| pairs(&tokens[opened].text, &token.text));
                let opened = opened.ok_or_else(|| unbalanced(token))?;
                let called = tokens.get(index + 1).is_some_and(|next| next.text == "(");
                if token.text == ")" && called && !is_cast(&tokens, opened, index) {
                    return Err(call(&Token { text: "(…)".into(), at: tokens[opened].at.start..token.at.end }));
                }
            }
            _ => {}
        }
    }
    open.pop().map_or(Ok(()), |opened| Err(unbalanced(&tokens[opened])))
}

/// The names in an expression that may be arguments, locals or symbols, once each: no members, tags, types or registers.
pub fn names(text: &str) -> Vec<String> {
    let mut names: Vec<String> = free(&tokens(text).unwrap_or_default()).map(|token| token.text.clone()).collect();
    names.sort();
    names.dedup();
    names
}

/// The expression with `scope::` in front of these of its [`names`].
pub fn within(scope: &str, text: &str, names: &[String]) -> String {
    let tokens = tokens(text).unwrap_or_default();
    let mut starts: Vec<usize> =
        free(&tokens).filter(|token| names.contains(&token.text)).map(|token| token.at.start).collect();
    starts.sort_unstable();
    let mut qualified = String::new();
    for (at, character) in text.chars().enumerate() {
        if starts.binary_search(&at).is_ok() {
            qualified += &format!("{scope}::");
        }
        qualified.push(character);
    }
    qualified
}

fn free(tokens: &[Token]) -> impl Iterator<Item = &Token> {
    let before = |index: usize| index.checked_sub(1).map_or("", |before| tokens[before].text.as_str());
    let is_free = move |(index, token): &(usize, &Token)| {
        let text = token.text.as_str();
        let is_type = TYPE_WORDS.contains(&text) || KERNEL_TYPES.contains(&text) || OPERATORS.contains(&text);
        let belongs = matches!(before(*index), "." | "->" | "struct" | "union" | "enum");
        token.is_word() && !text.starts_with('$') && !is_type && !belongs
    };
    tokens.iter().enumerate().filter(is_free).map(|(_, token)| token)
}

/// Whether the parentheses from token `open` to token `close`, with another `(` behind them, are a cast.
fn is_cast(tokens: &[Token], open: usize, close: usize) -> bool {
    let before = open.checked_sub(1).map(|before| tokens[before].text.as_str());
    let inner: Vec<&str> = tokens[open + 1..close].iter().map(|token| token.text.as_str()).collect();
    if before.is_some_and(|before| OPERATORS.contains(&before)) {
        return false;
    }
    match inner.as_slice() {
        [first, .., "*"] => first.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_'),
        [name] if KERNEL_TYPES.contains(name) => true,
        [first, rest @ ..] => TYPE_WORDS.contains(first) && rest.iter().all(|word| super::point::is_identifier(word)),
        [] => false,
    }
}

/// Cuts an expression into words, numbers, characters and signs.
fn tokens(text: &str) -> Result<Vec<Token>, Objection> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut start = 0;
    while let Some(&first) = chars.get(start) {
        let rest = &chars[start..];
        let run = |of: fn(char) -> bool| rest.iter().take_while(|c| of(**c)).count();
        let len = match first {
            ' ' => {
                start += 1;
                continue;
            }
            c if c.is_ascii_alphabetic() || matches!(c, '_' | '$') => {
                run(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '$'))
            }
            c if c.is_ascii_digit() => run(|c| c.is_ascii_alphanumeric() || c == '.'),
            '\'' => match rest {
                ['\'', '\\', escaped, '\'', ..] if escaped.is_ascii_graphic() => 4,
                ['\'', c, '\'', ..] if (c.is_ascii_graphic() || *c == ' ') && *c != '\\' && *c != '\'' => 3,
                _ => return Err(foreign(first, start, "single quotes hold one character, like `'a'`")),
            },
            '"' => {
                let why = "GDB would have to allocate a string in the guest; compare characters, like `comm[0] == 'n'`";
                return Err(foreign(first, start, why));
            }
            '\n' | '\r' => return Err(foreign(first, start, "write the expression on one line")),
            '(' | ')' | '[' | ']' | '{' | '}' | '.' | ',' | '?' | ':' | '@' | '+' | '-' | '*' | '/' | '%' | '&'
            | '|' | '^' | '~' | '!' | '<' | '>' | '=' => {
                let starts = |sign: &&str| sign.chars().zip(rest).filter(|(a, b)| a == *b).count() == sign.len();
                SIGNS.iter().find(|sign| starts(sign)).map_or(1, |sign| sign.len())
            }
            _ => return Err(foreign(first, start, "this character has no place in a C expression")),
        };
        tokens.push(Token { text: rest[..len].iter().collect(), at: start..start + len });
        start += len;
    }
    Ok(tokens)
}

fn pairs(open: &str, close: &str) -> bool {
    matches!((open, close), ("(", ")") | ("[", "]") | ("{", "}"))
}

fn objection(message: impl Into<String>, label: &str, at: Range<usize>, help: impl Into<String>) -> Objection {
    Objection { message: message.into(), label: label.to_owned(), at, help: help.into() }
}

fn foreign(character: char, at: usize, why: &str) -> Objection {
    objection(format!("{} cannot be in an expression", named(character)), "", at..at + 1, why)
}

fn named(character: char) -> String {
    match character {
        '\n' | '\r' => "a line break".to_owned(),
        '\t' => "a tab".to_owned(),
        control if control.is_control() => format!("`{}`", control.escape_debug()),
        other => format!("`{other}`"),
    }
}

fn write(sign: &Token) -> Objection {
    let help = if sign.text == "=" {
        "to compare, write `==`"
    } else {
        "an expression only reads; `set` of a probe is what changes the guest"
    };
    objection("the expression writes to the guest", &format!("`{}` changes a value", sign.text), sign.at.clone(), help)
}

fn call(callee: &Token) -> Objection {
    let (label, help) = if callee.text.starts_with('$') {
        ("a function of GDB, not data", "GDB's own functions can reach the host; a recipe only reads the guest's data")
    } else {
        (
            "GDB would call this in the guest",
            "a call would run code in the stopped kernel and change what is being watched;\n\
             read the fields themselves, as in `((struct tcphdr *)(skb->head + skb->transport_header))->source`",
        )
    };
    objection(format!("the expression calls `{}`", callee.text), label, callee.at.clone(), help)
}

fn unbalanced(token: &Token) -> Objection {
    let message = format!("`{}` has no partner", token.text);
    objection(message, "", token.at.clone(), "every bracket that opens has to close")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_that_read_are_fine() {
        let fine = [
            "skb->len > 0",
            "sk ? sk->__sk_common.skc_state : 0",
            "((struct tcphdr *)(skb->head + skb->transport_header))->source",
            "(struct sock *)(sk)",
            "(unsigned long)(sk)",
            "(u16)(x) + (size_t)(y) + (const struct net *)(z)",
            "(pid_t)(a) + (gfp_t)(b) + (netdev_features_t)(c) + (__be16)(d) + (any_t)e",
            "sizeof(struct sock) + sizeof (*sk)",
            "a == b && a != b && a <= b && a >= b || !(a) | ~(b)",
            "a << 2 >> 1",
            "*argv@2",
            "sk@entry",
            "$rdi & 0xff",
            "-(x) * (y)",
            "current->comm[0] == 'n' && x == '\\0'",
            "{int} &jiffies",
            "tcp_v4_rcv::once",
        ];
        for text in fine {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn everything_that_acts_is_refused() {
        let calls = |name: &str| format!("the expression calls `{name}`");
        let writes = "the expression writes to the guest".to_owned();
        let foreign = |what: &str| format!("{what} cannot be in an expression");
        let alone = |what: &str| format!("`{what}` has no partner");
        let cases = [
            ("panic(\"x\")", foreign("`\"`")),
            ("kfree(skb)", calls("kfree")),
            ("kfree (skb)", calls("kfree")),
            ("sk->sk_destruct(sk)", calls("sk_destruct")),
            ("(kfree)(skb)", calls("(…)")),
            ("(*sk->sk_destruct)(sk)", calls("(…)")),
            ("((kfree))(skb)", calls("(…)")),
            ("(&*kfree)(skb)", calls("(…)")),
            ("(1 ? kfree : kfree)(skb)", calls("(…)")),
            ("table[3](skb)", calls("(")),
            ("'kfree'(skb)", foreign("`'`")),
            ("'k'(skb)", calls("(")),
            ("(void (*)(void *))(kfree)(skb)", calls("void")),
            ("(typeof(kfree) *)(kfree)(skb)", calls("(…)")),
            ("$_shell(\"id\")", foreign("`\"`")),
            ("(jiffies_to_clock_t)(x)", calls("(…)")),
            ("(nsec_to_clock_t)(1)", calls("(…)")),
            ("($foo_t)(x)", calls("(…)")),
            ("($foo)(x)", calls("(…)")),
            ("$foo_t(x)", calls("$foo_t")),
            ("$_shell (1)", calls("$_shell")),
            ("$_gdb_setting(x)", calls("$_gdb_setting")),
            ("a = 1", writes.clone()),
            ("a=1", writes.clone()),
            ("a += 1", writes.clone()),
            ("a <<= 1", writes.clone()),
            ("a++", writes.clone()),
            ("--a", writes.clone()),
            ("a === b", writes.clone()),
            ("a\nshell id", foreign("a line break")),
            ("a; b", foreign("`;`")),
            ("a `id`", foreign("```")),
            ("0xffffffff81000000(1)", calls("(")),
            ("a # b", foreign("`#`")),
            ("a \\ b", foreign("`\\`")),
            ("(a", alone("(")),
            ("a)", alone(")")),
            ("(a]", alone("]")),
            ("  ", "the expression is empty".to_owned()),
        ];
        for (text, expected) in cases {
            assert_eq!(check(text).map_err(|objection| objection.message), Err(expected), "{text}");
        }
    }

    #[test]
    fn names_are_told_from_members_tags_types_and_registers() {
        let text = "sk && ((struct sock *)sk)->sk.state[i] > (u16)skb->len + sizeof(enum sk) + $rdi";
        assert_eq!(names(text), ["i", "sk", "skb"]);
        let only = ["sk".to_string(), "i".to_string()];
        let qualified = "f::sk && ((struct sock *)f::sk)->sk.state[f::i] > (u16)skb->len + sizeof(enum sk) + $rdi";
        assert_eq!(within("f", text, &only), qualified);
    }

    #[test]
    fn the_offence_is_pointed_at() {
        let at = |text| check(text).unwrap_err().at;
        assert_eq!((at("x + kfree(y)"), at("é"), at("ab = c"), at("1 + (f)(x)")), (4..9, 0..1, 3..4, 4..7));
    }
}
