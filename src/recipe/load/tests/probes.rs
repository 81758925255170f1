//! Probes that make no sense.

use super::gallery;

#[test]
fn logs_that_make_no_sense() {
    let said = gallery(&[
        ("limit: 8", "log: |\n      two\n      lines"),
        ("limit: 8", "log: \"\""),
        ("limit: 8", "log: length {skb->len"),
        ("limit: 8", "log: length }"),
        ("limit: 8", "log: \"length {skb_len(skb)}\""),
        ("limit: 8", "log: gave {$returned}"),
        ("limit: 8", "log: \"{skb->len}\""),
    ]);
    insta::assert_snapshot!(said);
}

#[test]
fn probes_that_are_never_armed() {
    let probe = "  - name: rst\n    at: tcp_v4_send_reset\n";
    let with = |keys: &str| format!("  - {{ name: first, at: f, {keys} }}\n{probe}    after: first\n");
    let circle = with("after: rst");
    let itself = with("after: first");
    let cases = [
        ("limit: 8", "after: frist"),
        ("limit: 8", "after: rst"),
        (probe, circle.as_str()),
        (probe, itself.as_str()),
        ("limit: 8", "during: [conect]"),
        ("limit: 8", "during: connect"),
        ("at: tcp_v4_send_reset", "at: \"*_send_reset\""),
    ];
    insta::assert_snapshot!(gallery(&cases));
}

#[test]
fn what_cannot_be_watched_or_changed() {
    let said = gallery(&[
        ("at: tcp_v4_send_reset", "at: \"watch:\""),
        ("at: tcp_v4_send_reset", "at: \"watch: sk->sk_err = 5\""),
        ("limit: 8", "set: { sk->sk_err++: 5 }"),
        ("limit: 8", "set: { sk->sk_err: x = 5 }"),
        ("limit: 8", "force_return: kfree(skb)"),
        ("at: tcp_v4_send_reset", "at: tcp_v4_rcv:+3\n    force_return: 0"),
        ("limit: 8", "log: \"{$new}\""),
    ]);
    insta::assert_snapshot!(said);
}
