//! What two hits are compared by, beside their stacks. Pure.

use crate::report::model::{Hit, Var};

/// Task, context, what was logged, watched, changed and shown, by name.
pub(super) fn facts(hit: &Hit) -> Vec<(String, String)> {
    let task = hit.task.comm.clone().map(|comm| ("task".to_string(), comm));
    let context = hit.context.map(|context| ("context".to_string(), context.as_str().to_string()));
    let message = hit.message.clone().map(|message| ("log".to_string(), without_addresses(&message)));
    let changed = hit.changed.iter().map(|changed| {
        let text = format!("{} to {}", without_addresses(&changed.old), without_addresses(&changed.new));
        (format!("watch {}", changed.expression), text)
    });
    let altered =
        hit.altered.iter().map(|altered| (format!("set {}", altered.what), without_addresses(&altered.after)));
    let shown = hit.shown.iter().map(|var| (format!("show {}", var.name), shown(var)));
    task.into_iter().chain(context).chain(message).chain(changed).chain(altered).chain(shown).collect()
}

/// A `show` value as far as it can be the same in two runs: an address of the kernel is only that.
fn shown(var: &Var) -> String {
    match (&var.value, var.why) {
        (Some(value), _) => without_addresses(value),
        (None, why) => why.map_or("none", |why| why.as_str()).into(),
    }
}

fn without_addresses(value: &str) -> String {
    let mut pieces = value.split("0xffff");
    let mut cleaned = pieces.next().unwrap_or_default().to_string();
    for piece in pieces {
        let rest = piece.trim_start_matches(|c: char| c.is_ascii_hexdigit());
        match piece.len() - rest.len() {
            12 => cleaned.push_str("an address"),
            digits => cleaned.push_str(&format!("0xffff{}", &piece[..digits])),
        }
        cleaned.push_str(rest);
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_a_shown_value_is_only_that() {
        assert_eq!(without_addresses("{a = 0xffff888000a020d0, b = 0xffff}"), "{a = an address, b = 0xffff}");
        assert_eq!(without_addresses("7 '\\a'"), "7 '\\a'");
    }
}
