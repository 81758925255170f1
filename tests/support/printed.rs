//! What `tests/plain_gdb.rs` has a plain GDB print at a stop, read back. Pure.

/// A stop as plain GDB has printed it.
#[derive(Debug, Default)]
pub(crate) struct Look {
    pub(crate) frames: Vec<Printed>,
    /// Expressions and their values.
    pub(crate) values: Vec<(String, String)>,
    pub(crate) labels: Vec<String>,
}

/// A frame as plain GDB has printed it.
#[derive(Debug)]
pub(crate) struct Printed {
    pub(crate) address: Option<String>,
    pub(crate) function: String,
    /// `file:line`.
    pub(crate) place: Option<String>,
    pub(crate) args: Vec<(String, String)>,
    pub(crate) locals: Vec<(String, String)>,
}

pub(crate) fn looks(printed: &str) -> Vec<Look> {
    printed.split("== stop\n").skip(1).map(look).filter(|look| !look.frames.is_empty()).collect()
}

fn look(text: &str) -> Look {
    let mut look = Look::default();
    let (mut locals, mut level) = (false, 0);
    for line in text.split("== on\n").next().unwrap().lines() {
        if let Some((number, frame)) = line.strip_prefix('#').and_then(|rest| rest.split_once(' ')) {
            level = number.parse().unwrap();
            if !locals {
                look.frames.push(frame_line(frame.trim_start()));
            }
        } else if let Some(label) = line.strip_prefix("== label ") {
            look.labels.push(label.into());
        } else if line.starts_with("== ") {
            level = usize::MAX;
            locals = line == "== locals";
        } else if let Some((name, value)) = line.strip_prefix("= ").and_then(|rest| rest.split_once('\t')) {
            look.values.push((name.into(), value.into()));
        } else if let Some((name, value)) = line.split_once(" = ")
            && let Some(frame) = look.frames.get_mut::<usize>(level)
        {
            match locals {
                true => frame.locals.push((name.into(), value.into())),
                // The frame's line has what of an argument is known at its entry only.
                false => frame.args.iter_mut().filter(|(arg, _)| arg == name).for_each(|arg| arg.1 = value.into()),
            }
        }
    }
    look
}

/// `0xffffffff81000000 in f (a=1, b=0x0) at net/f.c:7`, without the address where that begins a line.
fn frame_line(text: &str) -> Printed {
    let (address, rest) = match text.split_once(" in ").filter(|(address, _)| address.starts_with("0x")) {
        Some((address, rest)) => (Some(address.into()), rest),
        None => (None, text),
    };
    let (function, rest) = rest.split_once(" (").unwrap_or_else(|| panic!("no frame: {text}"));
    let mut args: Vec<String> = vec![String::new()];
    let (mut depth, mut quote, mut escaped, mut end) = (0, None, false, rest.len());
    for (at, letter) in rest.char_indices() {
        let quoted = quote.is_some();
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '\'' | '"' if !quoted => quote = Some(letter),
            letter if Some(letter) == quote => quote = None,
            '{' | '(' if !quoted => depth += 1,
            ')' if !quoted && depth == 0 => {
                end = at;
                break;
            }
            '}' | ')' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                // Of a long array without repetitions, the comma is within braces; so this is between two arguments.
                args.push(String::new());
                continue;
            }
            _ => {}
        }
        args.last_mut().unwrap().push(letter);
    }
    let pair = |arg: &String| arg.trim_start().split_once('=').map(|(name, value)| (name.into(), value.into()));
    let place = rest[end..].split_once(" at ").map(|(_, place)| place.to_string());
    Printed {
        address,
        function: function.into(),
        place,
        args: args.iter().filter_map(pair).collect(),
        locals: Vec::new(),
    }
}

/// Without the names of symbols behind numbers that are no addresses of the kernel.
pub(crate) fn without_low_symbols(value: &str) -> String {
    let mut words: Vec<&str> = Vec::new();
    for word in value.split_inclusive(' ') {
        let low = |number: &&str| {
            let digits = number.trim_end().rsplit_once("0x").map(|(_, digits)| digits);
            digits.is_some_and(|digits| {
                u64::from_str_radix(digits, 16).is_ok_and(|number| number < 0xffff_8000_0000_0000)
            })
        };
        if word.starts_with('<') && words.last().is_some_and(low) && !word.starts_with("<repeats") {
            let rest = word.split_once('>').map_or("", |(_, rest)| rest);
            let number = words.pop().unwrap();
            words.push(number.trim_end());
            words.push(rest);
        } else {
            words.push(word);
        }
    }
    words.concat()
}

impl Look {
    /// The frames without those below an interrupt's entry, which GDB makes up of whatever is on the stack.
    pub(crate) fn known(&self) -> &[Printed] {
        let entry = self.frames.iter().position(|frame| frame.function.starts_with("asm_"));
        &self.frames[..entry.map_or(self.frames.len(), |entry| entry + 1)]
    }

    /// What an expression is there.
    pub(crate) fn value(&self, expression: &str) -> Option<&str> {
        self.values.iter().find(|(name, _)| name == expression).map(|(_, value)| value.as_str())
    }
}
