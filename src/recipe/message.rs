//! What `log` may say: a line of text with expressions in braces, `{skb->len} bytes for {sk}`.
//!
//! Pure. The expressions are those of [`super::expression`], which only read.

use std::str::FromStr;

use super::diagnostic::Objection;
use super::expression;

/// The longest text of a `log`, in characters.
const LONGEST: usize = 1000;

/// A line of text with places for values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its pieces, in order.
    pub pieces: Vec<Piece>,
}

/// A piece of a [`Message`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// As it is.
    Text(String),
    /// The value of this expression.
    Value(String),
    /// The function that the probe has stopped in: `{$function}`.
    Function,
    /// What the function has returned, of a probe on a return: `{$returned}`.
    Returned,
    /// What the value was, of a probe that watches: `{$old}`.
    Old,
    /// What it is now: `{$new}`.
    New,
}

impl Message {
    /// The expressions, in order.
    pub fn expressions(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Value(expression) => Some(expression.as_str()),
            Piece::Text(_) | Piece::Function | Piece::Returned | Piece::Old | Piece::New => None,
        })
    }
}

impl FromStr for Message {
    type Err = Objection;

    fn from_str(text: &str) -> Result<Self, Objection> {
        let chars: Vec<char> = text.trim_end().chars().collect();
        let wrong = |message: &str, label: &str, at: std::ops::Range<usize>| Objection {
            message: message.to_owned(),
            label: label.to_owned(),
            at,
            help: "write text with expressions in braces, like `{skb->len} bytes`; a brace itself is `{{` or `}}`"
                .into(),
        };
        if chars.is_empty() {
            return Err(wrong("there is nothing to log", "", 0..0));
        }
        if let Some(at) = chars.iter().position(|c| c.is_control()) {
            return Err(wrong("a log is one line", "a line break or another control character", at..at + 1));
        }
        if chars.len() > LONGEST {
            return Err(wrong("this is too much to log", "at most 1000 characters", LONGEST..chars.len()));
        }
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut at = 0;
        while let Some(&c) = chars.get(at) {
            let doubled = chars.get(at + 1) == Some(&c);
            match c {
                '{' | '}' if doubled => {
                    plain.push(c);
                    at += 2;
                }
                '}' => return Err(wrong("`}` has no partner", "nothing is open here", at..at + 1)),
                '{' => {
                    let end = closing(&chars, at).ok_or_else(|| wrong("`{` has no partner", "", at..at + 1))?;
                    if !plain.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut plain)));
                    }
                    pieces.push(value(&chars[at + 1..end], at + 1)?);
                    at = end + 1;
                }
                c => {
                    plain.push(c);
                    at += 1;
                }
            }
        }
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Message { pieces })
    }
}

/// Where the brace closes that opens at `open`.
fn closing(chars: &[char], open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, c) in chars.iter().enumerate().skip(open) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

/// What stands between two braces, from the character `start` of the whole on.
fn value(chars: &[char], start: usize) -> Result<Piece, Objection> {
    let text: String = chars.iter().collect();
    match text.trim() {
        "$function" => return Ok(Piece::Function),
        "$returned" => return Ok(Piece::Returned),
        "$old" => return Ok(Piece::Old),
        "$new" => return Ok(Piece::New),
        _ => {}
    }
    let moved = |range: std::ops::Range<usize>| range.start + start..range.end + start;
    expression::check(&text).map_err(|objection| Objection { at: moved(objection.at.clone()), ..objection })?;
    Ok(Piece::Value(text.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str) -> Vec<Piece> {
        text.parse::<Message>().unwrap().pieces
    }

    fn plain(text: &str) -> Piece {
        Piece::Text(text.into())
    }

    #[test]
    fn text_and_expressions_take_turns() {
        let value = |text: &str| Piece::Value(text.into());
        assert_eq!(
            pieces("state {sk->state}, {a ? 1 : 2}!"),
            [plain("state "), value("sk->state"), plain(", "), value("a ? 1 : 2"), plain("!")]
        );
        assert_eq!(pieces("{{x}} {{{x}}}"), [plain("{x} {"), value("x"), plain("}")]);
        assert_eq!(pieces("{ {int} &jiffies }"), [value("{int} &jiffies")]);
        assert_eq!(pieces("{$function} gave {$returned}\n"), [Piece::Function, plain(" gave "), Piece::Returned]);
        assert_eq!(pieces("{$old}{$new}"), [Piece::Old, Piece::New]);
        assert_eq!("{a} {$function} {b}".parse::<Message>().unwrap().expressions().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn what_is_no_message_is_pointed_at() {
        let cases = [
            ("", "there is nothing to log", 0..0),
            ("a\nb", "a log is one line", 1..2),
            ("a } b", "`}` has no partner", 2..3),
            ("a {b", "`{` has no partner", 2..3),
            ("a {}", "the expression is empty", 3..3),
            ("a {f(b)}", "the expression calls `f`", 3..4),
            ("a {b = c}", "the expression writes to the guest", 5..6),
        ];
        for (text, message, at) in cases {
            let objection = text.parse::<Message>().unwrap_err();
            assert_eq!((objection.message.as_str(), objection.at), (message, at), "{text}");
        }
    }
}
