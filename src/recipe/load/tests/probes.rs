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
