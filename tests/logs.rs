//! Probes that log: a line for each hit, none lost, and a memory that does not grow with them as stacks would.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Duration;

use serde_json::Value;
use support::{HIT, Place, probes_of_hits, recipe, slot, wait_until};

fn with_probe(probe: &str, steps: &[&str]) -> String {
    recipe(steps).replace("name: rst, at: tcp_v4_send_reset", probe)
}

fn messages(report: &Value) -> Vec<&str> {
    report["hits"].as_array().unwrap().iter().map(|hit| hit["message"].as_str().unwrap()).collect()
}

#[test]
fn a_hit_of_a_probe_that_logs_is_a_line_without_a_stack() {
    let probes = "name: rst, at: tcp_v4_send_reset, log: '{$function}: {skb->len} bytes on {skb->dev->name}, {{{sk}}}, {sk->sk_err}', show: { len: skb->len } }
  - { name: out, at: 'return: tcp_v4_connect', log: 'gave {$returned} for {addr_len}'";
    let _slot = slot();
    let place = Place::new();
    let report = place.run(&with_probe(probes, &[HIT])).assert_passed();
    assert_eq!(probes_of_hits(&report), ["rst", "out"]);
    let first = "tcp_v4_send_reset: 40 bytes on lo, {0x0}, <Cannot access memory at address ";
    let said = messages(&report);
    assert!(said[0].starts_with(first) && said[0].ends_with('>'), "{said:?}");
    assert_eq!(said[1], "gave 0 for 16");
    let hit = &report["hits"][0];
    assert_eq!((&hit["frames"], &hit["decoded"]), (&Value::Array(vec![]), &Value::Array(vec![])));
    assert_eq!((&hit["task"]["comm"], &hit["context"]), (&"nc".into(), &"softirq".into()));
    assert_eq!(hit["shown"][0]["value"], "40");
    let warnings = report["warnings"].to_string();
    assert!(
        warnings.contains("probe `rst`: `log`: `sk->sk_err` cannot be evaluated: Cannot access memory"),
        "{warnings}"
    );
    let page = std::fs::read_to_string(place.out().join("report.md")).unwrap();
    let line = page.lines().find(|line| line.contains("  out  cpu 0  nc[")).expect("the line is on the page");
    assert!(line.ends_with("process  gave 0 for 16"), "{line}");
    assert!(!page.contains("## Hits"), "nothing but lines");
}

#[test]
fn of_ten_thousand_hits_none_is_lost_and_memory_stays_small() {
    // Reading a byte after the other moves the position in the file on by one: a number for each hit.
    let probes = "name: open, at: vfs_read, when: file->f_inode->i_size == 10000, during: [read], limit: 1, stack: 2 }
  - { name: position, at: 'watch: file->f_pos', after: open, log: '{$new}', limit: 20000, budget: 1h";
    let steps = [
        "{ name: write, run: head -c 10000 /dev/zero > /tmp/ten }",
        "{ name: read, run: dd if=/tmp/ten of=/dev/null bs=1, timeout: 2m }",
    ];
    let _slot = slot();
    let place = Place::new();
    let running = place.start(&with_probe(probes, &steps));
    let mut peak = 0;
    wait_until(Duration::from_secs(480), "ten thousand hits", || {
        peak = peak.max(running.peak_memory());
        running.is_over().then_some(())
    });
    let report = running.wait().assert_passed();
    let hits = report["hits"].as_array().unwrap()[1..].iter();
    let seen: Vec<u64> = hits.map(|hit| hit["message"].as_str().unwrap().parse().unwrap()).collect();
    assert!(seen.iter().copied().eq(1..=10_000), "{} hits, the last {:?}", seen.len(), seen.last());
    assert!((1000..150 << 10).contains(&peak), "{peak} KiB");
    println!("kdbg had {} MiB at most", peak >> 10);
    let page = std::fs::read_to_string(place.out().join("report.md")).unwrap();
    assert!(page.contains("9000 lines more: all are in report.json."), "the page is bounded");
    place.assert_nothing_left();
}
