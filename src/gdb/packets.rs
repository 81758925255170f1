//! What QEMU's stub says behind GDB's back: packets that GDB passes on (`maint packet`), for whoever wants everything as it is.

use std::collections::BTreeMap;

use super::answer::Answer;
use super::client::Gdb;
use crate::digest::unhex;
use crate::error::{Error, Result};
use crate::event::Cancel;
use crate::server::description::includes;

/// How much of a file of the target's description is asked for at once, in bytes.
const PART: usize = 0x7f0;
/// The longest file of it that is believed.
const LONGEST: usize = 1 << 20;

/// The target's description: target.xml, and the files that it includes.
///
/// # Errors
/// GDB failed, or the stub has none.
pub fn description(gdb: &mut Gdb, cancel: &Cancel) -> Result<BTreeMap<String, String>> {
    let target = file(gdb, "target.xml", cancel)?;
    let mut files = BTreeMap::new();
    for name in includes(&target) {
        files.insert(name.to_string(), file(gdb, name, cancel)?);
    }
    files.insert("target.xml".into(), target);
    Ok(files)
}

fn file(gdb: &mut Gdb, name: &str, cancel: &Cancel) -> Result<String> {
    let mut text = String::new();
    while text.len() < LONGEST {
        let packet = format!("qXfer:features:read:{name}:{:x},{PART:x}", text.len());
        let answer = gdb.ask(&format!("maint packet {packet}"), cancel)?;
        let part = received(&answer).map(unescape);
        match part.as_deref().and_then(|part| part.split_at_checked(1)) {
            Some(("m", part)) if !part.is_empty() => text.push_str(part),
            Some(("l", part)) => return Ok(text + part),
            _ => break,
        }
    }
    Err(Error::debugger(format!("QEMU's stub does not say what registers there are: no {name}")))
}

/// All registers of every CPU, as the stub answers to the packet `g`, while the guest stands at a stop of the CPU `stopped`.
///
/// # Errors
/// GDB failed, or the stub does not say.
pub fn registers(gdb: &mut Gdb, cpus: u32, stopped: u32, cancel: &Cancel) -> Result<Vec<Vec<u8>>> {
    const ALL: &str = "maint packet g";
    let mut commands = Vec::new();
    if cpus > 1 {
        // GDB remembers which CPU it has told the stub last, so in the end the stub has to be told that one.
        commands.push("maint flush register-cache".into());
        commands.push(format!("-data-list-register-values --thread {} --frame 0 x 0", stopped + 1));
        for cpu in 1..=cpus {
            commands.extend([format!("maint packet Hgp1.{cpu}"), ALL.into()]);
        }
        commands.push(format!("maint packet Hgp1.{}", stopped + 1));
    } else {
        commands.push(ALL.into());
    }
    let answers = gdb.batch(&commands, cancel)?;
    let all = commands.iter().zip(&answers).filter(|(command, _)| *command == ALL);
    let registers: Option<Vec<Vec<u8>>> = all.map(|(_, answer)| received(answer).and_then(unhex)).collect();
    registers
        .filter(|registers| registers.iter().all(|registers| !registers.is_empty()))
        .ok_or_else(|| Error::debugger("QEMU's stub does not say what is in the registers"))
}

/// What the stub has answered, as GDB prints it.
fn received(answer: &Answer) -> Option<&str> {
    let Answer::Done(_, said) = answer else { return None };
    let (_, rest) = said.split_once("received: \"")?;
    rest.trim_end().strip_suffix('"')
}

/// A text in which GDB has written some characters as `\x0a`.
fn unescape(text: &str) -> String {
    let mut parts = text.split("\\x");
    let mut whole = parts.next().unwrap_or_default().to_string();
    for part in parts {
        match part.split_at_checked(2).map(|(digits, rest)| (u8::from_str_radix(digits, 16), rest)) {
            Some((Ok(byte), rest)) => {
                whole.push(char::from(byte));
                whole.push_str(rest);
            }
            _ => whole.push_str(part),
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gdb::mi::Values;

    #[test]
    fn what_was_received_is_between_quotes_that_are_not_escaped() {
        let said = "maint packet x\nsending: x\nreceived: \"l<a b=\"c\"/>\\x0a\\x09<d/>\"\n";
        let answer = Answer::Done(Values::default(), said.into());
        assert_eq!(received(&answer).map(unescape).as_deref(), Some("l<a b=\"c\"/>\n\t<d/>"));
        assert_eq!(received(&Answer::Refused("no".into())), None);
        assert_eq!(received(&Answer::Done(Values::default(), "sending: g\n".into())), None);
    }
}
