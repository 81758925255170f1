//! The nearest valid spelling: which of the names that exist was probably meant.
//!
//! Pure. Serves keys, probes, fragments and kernel symbols alike.

/// How many names are offered at most.
const OFFERED: usize = 3;

/// The names closest to `word`, nearest first, at most three. None when nothing is close.
pub fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let lower = word.to_lowercase();
    let far = 1 + word.chars().count() / 3;
    let mut close: Vec<(usize, &str)> = names
        .into_iter()
        .filter(|name| name.len().abs_diff(word.len()) <= far)
        .map(|name| (strsim::damerau_levenshtein(&lower, &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= far && *distance < word.chars().count().max(2))
        .collect();
    close.sort_unstable();
    close.dedup();
    close.into_iter().map(|(_, name)| name).take(OFFERED).collect()
}

/// `` `a`, `b`, `c` ``: names in a sentence.
pub fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// The first line of a help: `` did you mean `x`? `` where something is close.
pub fn did_you_mean<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    match nearest(word, names).as_slice() {
        [] => None,
        close => {
            Some(format!("did you mean {}?", close.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(" or ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_what_is_close_and_nothing_else() {
        let names = ["tcp_v4_send_reset", "tcp_v4_send_ack", "udp_rcv", "at"];
        let cases: [(&str, &[&str]); 5] = [
            ("tcp_v4_send_rst", &["tcp_v4_send_reset", "tcp_v4_send_ack"]),
            ("udp_rvc", &["udp_rcv"]),
            ("att", &["at"]),
            ("icmp_send", &[]),
            ("", &[]),
        ];
        for (word, expected) in cases {
            assert_eq!(nearest(word, names), expected, "{word}");
        }
    }
}
