//! GDB/MI, version 3: one line of GDB's output to a [`Record`].
//!
//! Pure: no pipe, no state between lines. The grammar is that of the GDB manual, "GDB/MI Output Syntax"; by hand because
//! no kept crate parses all of it.

/// One line of GDB's output.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// `^done,...`: the answer to the command with this token.
    Result {
        /// The command's token.
        token: Option<u64>,
        /// `done`, `running`, `connected`, `error` or `exit`.
        class: String,
        /// What follows.
        values: Values,
    },
    /// `*stopped,...`, `=breakpoint-modified,...`, `+download,...`: something happened.
    Async {
        /// `*`, `=` or `+`.
        kind: char,
        /// Like `stopped`.
        class: String,
        /// What follows.
        values: Values,
    },
    /// `~"..."` console, `@"..."` target, `&"..."` log.
    Stream {
        /// `~`, `@` or `&`.
        kind: char,
        /// The text, unescaped.
        text: String,
    },
    /// `(gdb)`.
    Prompt,
}

/// Named values, in GDB's order; names may repeat.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Values(pub Vec<(String, Value)>);

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `"text"`, unescaped.
    Text(String),
    /// `{name=value,...}`, and `[name=value,...]`.
    Tuple(Values),
    /// `[value,...]`.
    List(Vec<Value>),
}

impl Values {
    /// The first value called `name`.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// The text called `name`.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number called `name`, decimal or `0x`.
    pub fn number(&self, name: &str) -> Option<u64> {
        number(self.text(name)?)
    }

    /// The tuple called `name`.
    pub fn tuple(&self, name: &str) -> Option<&Values> {
        match self.get(name)? {
            Value::Tuple(values) => Some(values),
            _ => None,
        }
    }

    /// The tuples of the list called `name`, whether GDB named each (`[frame={},frame={}]`) or not (`[{},{}]`).
    pub fn tuples(&self, name: &str) -> Vec<&Values> {
        match self.get(name) {
            Some(Value::List(items)) => items.iter().filter_map(Value::as_tuple).collect(),
            Some(Value::Tuple(values)) => values.0.iter().filter_map(|(_, value)| value.as_tuple()).collect(),
            _ => Vec::new(),
        }
    }
}

impl Value {
    fn as_tuple(&self) -> Option<&Values> {
        match self {
            Value::Tuple(values) => Some(values),
            _ => None,
        }
    }
}

/// A number as GDB writes it: decimal or `0x`, perhaps followed by a symbol (`0xffff... <jiffies_64>`).
pub fn number(text: &str) -> Option<u64> {
    let word = text.split_whitespace().next()?;
    match word.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => word.parse().ok(),
    }
}

/// Text as a C string literal, as MI wants its arguments.
pub fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A line that is not MI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotMi {
    /// Byte in the line at which it stopped to be.
    pub at: usize,
    /// What was wanted there.
    pub wanted: &'static str,
}

/// Reads one line, without its newline.
///
/// # Errors
/// The line is not GDB/MI.
pub fn parse(line: &str) -> Result<Record, NotMi> {
    let line = line.trim_end_matches(['\r', '\n']);
    if line.trim_end() == "(gdb)" {
        return Ok(Record::Prompt);
    }
    let mut reader = Reader { text: line, at: 0 };
    let token = reader.token();
    let kind = reader.next("a record")?;
    let record = match kind {
        '^' => {
            let (class, values) = reader.class_and_values()?;
            Record::Result { token, class, values }
        }
        '*' | '=' | '+' => {
            let (class, values) = reader.class_and_values()?;
            Record::Async { kind, class, values }
        }
        '~' | '@' | '&' => Record::Stream { kind, text: reader.string()? },
        _ => return Err(NotMi { at: 0, wanted: "one of ^ * = + ~ @ &" }),
    };
    if reader.rest().is_empty() { Ok(record) } else { reader.fail("the end of the line") }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

/// Values nest; GDB's nest less than this, and a hostile line must not exhaust the stack.
const DEEPEST: u32 = 64;

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn fail<T>(&self, wanted: &'static str) -> Result<T, NotMi> {
        Err(NotMi { at: self.at, wanted })
    }

    fn next(&mut self, wanted: &'static str) -> Result<char, NotMi> {
        match self.rest().chars().next() {
            Some(c) => {
                self.at += c.len_utf8();
                Ok(c)
            }
            None => self.fail(wanted),
        }
    }

    fn eat(&mut self, c: char) -> bool {
        let eaten = self.rest().starts_with(c);
        if eaten {
            self.at += c.len_utf8();
        }
        eaten
    }

    fn word(&mut self, is_part: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let length = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    fn token(&mut self) -> Option<u64> {
        self.word(|c| c.is_ascii_digit()).parse().ok()
    }

    fn class_and_values(&mut self) -> Result<(String, Values), NotMi> {
        let class = self.word(|c| c.is_ascii_alphanumeric() || c == '-').to_string();
        if class.is_empty() {
            return self.fail("a class");
        }
        let mut values = Values::default();
        while self.eat(',') {
            values.0.push(self.named(0)?);
        }
        Ok((class, values))
    }

    fn named(&mut self, depth: u32) -> Result<(String, Value), NotMi> {
        let name = self.word(|c| !matches!(c, '=' | ',' | '{' | '}' | '[' | ']' | '"')).to_string();
        if name.is_empty() || !self.eat('=') {
            return self.fail("name=");
        }
        Ok((name, self.value(depth)?))
    }

    fn value(&mut self, depth: u32) -> Result<Value, NotMi> {
        if depth > DEEPEST {
            return self.fail("fewer nested values");
        }
        match self.rest().chars().next() {
            Some('"') => Ok(Value::Text(self.string()?)),
            Some('{') => {
                self.at += 1;
                Ok(Value::Tuple(self.named_until('}', depth)?))
            }
            Some('[') => {
                self.at += 1;
                self.list(depth)
            }
            _ => self.fail("a value"),
        }
    }

    fn list(&mut self, depth: u32) -> Result<Value, NotMi> {
        if self.eat(']') {
            return Ok(Value::List(Vec::new()));
        }
        if !self.rest().starts_with(['"', '{', '[']) {
            return Ok(Value::Tuple(self.named_until(']', depth)?));
        }
        let mut items = vec![self.value(depth + 1)?];
        while self.eat(',') {
            items.push(self.value(depth + 1)?);
        }
        if self.eat(']') { Ok(Value::List(items)) } else { self.fail("]") }
    }

    fn named_until(&mut self, end: char, depth: u32) -> Result<Values, NotMi> {
        let mut values = Values::default();
        if self.eat(end) {
            return Ok(values);
        }
        loop {
            // mi2 puts a script's commands and a disabled location bare into a tuple; tolerate a value without a name.
            if self.rest().starts_with(['{', '"']) {
                values.0.push((String::new(), self.value(depth + 1)?));
            } else {
                values.0.push(self.named(depth + 1)?);
            }
            if self.eat(end) {
                return Ok(values);
            }
            if !self.eat(',') {
                return self.fail("a comma or the end of the values");
            }
        }
    }

    /// A C string. GDB writes bytes outside ASCII as octal escapes, so it is put together as bytes.
    fn string(&mut self) -> Result<String, NotMi> {
        if !self.eat('"') {
            return self.fail("a string");
        }
        let mut bytes = Vec::new();
        loop {
            match self.next("the end of the string")? {
                '"' => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
                '\\' => self.escape(&mut bytes)?,
                c => bytes.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }

    fn escape(&mut self, bytes: &mut Vec<u8>) -> Result<(), NotMi> {
        let c = self.next("an escape")?;
        bytes.push(match c {
            'n' => b'\n',
            't' => b'\t',
            'r' => b'\r',
            'e' => 0x1b,
            'a' => 0x07,
            'b' => 0x08,
            'f' => 0x0c,
            'v' => 0x0b,
            '0'..='7' => {
                self.at -= 1;
                let rest = self.rest();
                let digits =
                    rest.len().min(3).min(rest.find(|c: char| !('0'..='7').contains(&c)).unwrap_or(rest.len()));
                self.at += digits;
                u8::from_str_radix(&rest[..digits], 8).unwrap_or(b'?')
            }
            c => {
                bytes.extend(c.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(line: &str) -> Values {
        match parse(line).unwrap() {
            Record::Result { values, .. } => values,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn results_have_a_token_a_class_and_values() {
        assert_eq!(
            parse("12^done,value=\"0x1ac00 <current_task>\"").unwrap(),
            Record::Result {
                token: Some(12),
                class: "done".into(),
                values: Values(vec![("value".into(), Value::Text("0x1ac00 <current_task>".into()))]),
            }
        );
        assert_eq!(
            result("^error,msg=\"No symbol \\\"x\\\" in current context.\"").text("msg"),
            Some("No symbol \"x\" in current context.")
        );
    }

    #[test]
    fn lists_of_tuples_read_the_same_named_or_not() {
        let named = result("^done,stack=[frame={level=\"0\",addr=\"0xff\"},frame={level=\"1\",addr=\"0xfe\"}]");
        let bare = result("^done,stack=[{level=\"0\",addr=\"0xff\"},{level=\"1\",addr=\"0xfe\"}]");
        for values in [named, bare] {
            let addresses: Vec<_> = values.tuples("stack").iter().map(|frame| frame.number("addr")).collect();
            assert_eq!(addresses, [Some(0xff), Some(0xfe)]);
        }
        assert!(result("^done,locals=[]").tuples("locals").is_empty());
    }

    #[test]
    fn strings_are_bytes_behind_escapes() {
        assert_eq!(
            parse(r#"~"a\tb\n\"q\\ \303\244 \033[m""#).unwrap(),
            Record::Stream { kind: '~', text: "a\tb\n\"q\\ ä \x1b[m".into() }
        );
    }

    #[test]
    fn a_stop_may_come_without_a_reason() {
        assert!(matches!(
            parse("*stopped,frame={addr=\"0xffffffff81b5\"},thread-id=\"1\",stopped-threads=\"all\"").unwrap(),
            Record::Async { kind: '*', class, .. } if class == "stopped"
        ));
    }

    #[test]
    fn what_is_not_mi_says_where() {
        for (line, at) in
            [("hello", 0), ("^done,x", 7), ("^done,x=", 8), ("~\"open", 6), ("^done,x=\"a\"y", 11), ("", 0), ("^", 1)]
        {
            assert_eq!(parse(line).unwrap_err().at, at, "{line}");
        }
        assert!(parse(&format!("^done,x={}", "[".repeat(100_000))).is_err());
    }

    #[test]
    fn quoting_and_reading_are_inverse() {
        let text = "a \"b\" \\ c\n\td";
        assert_eq!(parse(&format!("~{}", quote(text))).unwrap(), Record::Stream { kind: '~', text: text.into() });
    }

    #[test]
    fn numbers_are_decimal_or_hexadecimal_perhaps_with_a_symbol() {
        assert_eq!(
            [number("7"), number("0x1f <x+1>"), number("<optimized out>"), number("")],
            [Some(7), Some(0x1f), None, None]
        );
    }
}
