//! What GDB says to a command. Pure.

use super::mi::Values;

/// What GDB said to a command.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// It was carried out; text that it printed on the console meanwhile.
    Done(Values, String),
    /// It was refused, and why.
    Refused(String),
}

impl Answer {
    /// The values of a command that was carried out.
    pub fn ok(self) -> std::result::Result<Values, String> {
        match self {
            Answer::Done(values, _) => Ok(values),
            Answer::Refused(why) => Err(why),
        }
    }

    /// The value of a `-data-evaluate-expression`.
    pub fn value(&self) -> Option<&str> {
        match self {
            Answer::Done(values, _) => values.text("value"),
            Answer::Refused(_) => None,
        }
    }
}
