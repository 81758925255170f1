//! The nearest names to a wrong one. Pure.

/// Up to `count` of `known` that look like `wrong`, the closest first; empty when nothing does.
pub fn nearest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>, count: usize) -> Vec<String> {
    let mut scored: Vec<(f64, &str)> = known
        .map(|name| (strsim::jaro_winkler(wrong, name), name))
        .filter(|(score, name)| *score > 0.86 || strsim::damerau_levenshtein(wrong, name) <= 2)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored.dedup_by(|a, b| a.1 == b.1);
    scored.into_iter().take(count).map(|(_, name)| name.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_come_closest_first_and_far_ones_not_at_all() {
        let known = ["tcp_v4_send_ack", "tcp_v4_send_reset", "ip_rcv", "tcp_v4_send_synack"];
        let found = nearest("tcp_v4_send_rst", known.into_iter(), 3);
        assert_eq!(found[0], "tcp_v4_send_reset");
        assert!(!found.contains(&"ip_rcv".to_string()));
        assert!(nearest("zzz", known.into_iter(), 3).is_empty());
    }
}
