//! Hits of probes that log: a line of text, who was stopped, and no stack. One round trip.

use std::time::Instant;

use super::super::answer::Answer;
use super::super::client::{Gdb, Stop};
use super::super::mi::number;
use super::super::variables::{self, unquote};
use super::facts::Facts;
use super::{Collector, Probed, evaluate, micros, shown};
use crate::decode::Memory;
use crate::error::Result;
use crate::event::Cancel;
use crate::recipe::message::{Message, Piece};
use crate::report::model::{Cost, Hit, Var};
use crate::report::text::shorten;
use crate::report::value;

/// The longest value in a line, in characters.
const LONGEST: usize = 400;

impl Collector<'_> {
    /// The hit `index` of a probe that logs `message`, at which GDB stands.
    ///
    /// # Errors
    /// GDB failed. A value that cannot be read is said in its place.
    pub fn log(
        &mut self,
        gdb: &mut Gdb,
        probed: Probed<'_>,
        message: &Message,
        index: u64,
        stop: &Stop,
        cancel: &Cancel,
    ) -> Result<Hit> {
        let start = Instant::now();
        let spec = probed.spec;
        let thread = stop.thread.unwrap_or(1);
        let cpu = u32::try_from(thread.saturating_sub(1)).unwrap_or(0);
        let asked_facts = self.facts_to_ask(cpu, thread);
        let registers = self.direct.command(thread);
        let arguments = probed.call.map_or(&[][..], |call| call.arguments);
        let argument = |name: &str| arguments.iter().find(|var| var.name == name);
        let asked: Vec<&str> = message.expressions().filter(|expression| argument(expression).is_none()).collect();
        let wanted = asked.iter().copied().chain(spec.show.values().map(String::as_str));
        let wanted = wanted.map(|expression| evaluate(thread, expression));
        let commands: Vec<String> = registers.iter().chain(&asked_facts).cloned().chain(wanted).collect();
        let mut answers = gdb.batch(&commands, cancel)?.into_iter();
        let registers = registers.and_then(|_| answers.next()?.ok().ok()).and_then(|values| self.direct.cpu(&values));
        let facts: Vec<Answer> = answers.by_ref().take(asked_facts.len()).collect();
        let values: Vec<(&str, Answer)> = asked.iter().copied().zip(answers.by_ref()).collect();
        let show: Vec<(&String, Answer)> = spec.show.keys().zip(answers).collect();
        values.iter().for_each(|(expression, answer)| self.complain(&spec.name, "log", expression, answer));
        show.iter().for_each(|(name, answer)| self.complain(&spec.name, "show", name, answer));
        let mut seen = registers.map(|registers| self.direct.seen_by(&registers, gdb, cancel)).transpose()?.flatten();
        let memory = seen.as_mut().map(|seen| (seen as &mut dyn Memory, &self.layouts));
        let Facts { task, context, depth, jiffies } = self.places.facts(memory, (cpu, thread), facts, gdb, cancel)?;
        let mut values = values.iter().map(|(_, answer)| said(answer));
        let returned = probed.call.and_then(|call| call.value);
        let text = message.pieces.iter().map(|piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Function => self.function_at(stop),
            Piece::Old => probed.changed.map_or_else(String::new, |changed| of_text(&changed.old)),
            Piece::New => probed.changed.map_or_else(String::new, |changed| of_text(&changed.new)),
            Piece::Returned => returned.map_or_else(|| "<nothing>".into(), of_var),
            Piece::Value(expression) => match argument(expression) {
                Some(var) => of_var(var),
                None => values.next().unwrap_or_default(),
            },
        });
        Ok(Hit {
            index,
            probe: spec.name.clone(),
            cpu,
            task,
            context,
            depth,
            jiffies,
            syscall: None,
            interrupted: None,
            frames: Vec::new(),
            cut: None,
            message: Some(text.collect()),
            changed: probed.changed.cloned(),
            altered: Vec::new(),
            shown: show.into_iter().map(|(name, answer)| shown(name, answer)).collect(),
            decoded: Vec::new(),
            returned: returned.cloned(),
            arguments: Vec::new(),
            cost: Cost { stop_us: 0, collect_us: micros(start), stack: None },
        })
    }

    /// The function whose code GDB stands in.
    fn function_at(&self, stop: &Stop) -> String {
        let holder = stop.address.as_deref().and_then(number).and_then(|at| self.program.symbols.containing(at));
        holder.map_or_else(|| "??".into(), |holder| holder.name().to_string())
    }
}

/// A value in a line of text, or why there is none.
fn said(answer: &Answer) -> String {
    match answer {
        Answer::Refused(why) => format!("<{}>", why.trim_end_matches('.')),
        Answer::Done(values, _) => of_text(values.text("value").unwrap_or_default()),
    }
}

fn of_text(value: &str) -> String {
    of_var(&variables::var("", None, Some(value)))
}

/// As a person writes it: text without quotes and the address it is at, a number without the character that it is.
fn of_var(var: &Var) -> String {
    let Some(text) = value::short(var) else {
        return format!("<{}>", var.why.map_or("not available", |why| why.as_str()));
    };
    let is_text = text.split_once('"').is_some_and(|(before, _)| before.is_empty() || number(before.trim()).is_some());
    shorten(&if is_text { unquote(&text) } else { text }, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_said_as_a_person_would() {
        let of = of_text;
        let cases = [
            ("60", "60"),
            ("6 '\\006'", "6"),
            ("\"lo\"", "lo"),
            ("0xffff888003d6c000 \"eth0\"", "eth0"),
            ("0xffffffff82a3c500 <init_net>", "&init_net"),
            ("TCP_LISTEN", "TCP_LISTEN"),
            ("{next = 0x0, name = \"x\"}", "{next = 0x0, name = \"x\"}"),
            ("<optimized out>", "<optimized out>"),
        ];
        for (value, wanted) in cases {
            assert_eq!(of(value), wanted, "{value}");
        }
        let refused = Answer::Refused("Cannot access memory at address 0x12".into());
        assert_eq!(said(&refused), "<Cannot access memory at address 0x12>");
        assert_eq!(of(&"1".repeat(1000)).chars().count(), LONGEST);
    }
}
