//! GDB/MI as GDB 13.1 really said it: every line is understood, what it says is what was read, and a line that is cut or
//! garbled never brings the parser down.
//!
//! `transcripts/*.mi` are parts of a run's gdb-mi.log: `>` is what kdbg said, `<` what GDB said.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;

use kdbg::gdb::mi::{self, Record, Values};

/// Every line that GDB said, in all transcripts.
fn all_lines() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let lines: Vec<String> = files.flat_map(|file| said(&fs::read_to_string(file).unwrap())).collect();
    assert!(lines.len() > 200, "only {} lines of transcripts", lines.len());
    lines
}

fn said(transcript: &str) -> Vec<String> {
    transcript.lines().filter_map(|line| line.strip_prefix("< ")).map(String::from).collect()
}

/// The records of one transcript.
fn records(name: &str) -> Vec<Record> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts").join(name);
    said(&fs::read_to_string(path).unwrap()).iter().map(|line| mi::parse(line).unwrap()).collect()
}

/// GDB's answer to the command with this token.
fn answer(records: &[Record], wanted: u64) -> (&str, &Values) {
    let found = records.iter().find_map(|record| match record {
        Record::Result { token, class, values } if *token == Some(wanted) => Some((class.as_str(), values)),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("no answer to command {wanted}"))
}

/// The asynchronous records of this class, in order.
fn happened<'a>(records: &'a [Record], wanted: &str) -> Vec<&'a Values> {
    let matching = |record: &'a Record| match record {
        Record::Async { class, values, .. } if class == wanted => Some(values),
        _ => None,
    };
    records.iter().filter_map(matching).collect()
}

fn functions(stack: &Values) -> Vec<&str> {
    stack.tuples("stack").into_iter().map(|frame| frame.text("func").unwrap_or("??")).collect()
}

#[test]
fn every_line_is_mi() {
    for line in all_lines() {
        assert!(mi::parse(&line).is_ok(), "{:?}: {line}", mi::parse(&line));
    }
}

#[test]
fn the_breakpoint_and_the_declaration_of_its_function() {
    let records = records("tcp-reset.mi");
    let (class, values) = answer(&records, 20);
    let breakpoint = values.tuple("bkpt").unwrap();
    assert_eq!(
        (class, breakpoint.number("number"), breakpoint.number("addr")),
        ("done", Some(1), Some(0xffff_ffff_8128_5840))
    );
    assert_eq!((breakpoint.text("func"), breakpoint.number("line")), (Some("tcp_v4_send_reset"), Some(2885)));
    let files = answer(&records, 21).1.tuple("symbols").unwrap().tuples("debug");
    let [file] = files[..] else { panic!("{files:?}") };
    assert!(file.text("filename").unwrap().ends_with("/net/ipv4/tcp_ipv4.c"));
    assert_eq!(file.tuples("symbols")[0].number("line"), Some(685));
}

#[test]
fn a_stop_with_a_reason_and_one_without() {
    let records = records("tcp-reset.mi");
    let stops = happened(&records, "stopped");
    let [connected, hit] = stops[..] else { panic!("{stops:?}") };
    assert_eq!(connected.text("reason"), None);
    assert_eq!(
        (hit.text("reason"), hit.number("bkptno"), hit.number("thread-id")),
        (Some("breakpoint-hit"), Some(1), Some(1))
    );
    let frame = hit.tuple("frame").unwrap();
    assert_eq!((frame.text("func"), frame.number("addr")), (Some("tcp_v4_send_reset"), Some(0xffff_ffff_8128_5840)));
    assert_eq!(frame.tuples("args")[0].text("value"), Some("0x0 <fixed_percpu_data>"));
}

#[test]
fn the_stack_of_each_recipe() {
    let cases = [
        ("tcp-reset.mi", ["tcp_v4_send_reset", "tcp_v4_rcv", "ip_protocol_deliver_rcu"], 54),
        ("listen-killed.mi", ["tcp_send_active_reset", "tcp_disconnect", "inet_child_forget"], 25),
    ];
    for (name, innermost, depth) in cases {
        let records = records(name);
        let stack = functions(answer(&records, 28).1);
        assert_eq!((&stack[..3], stack.len()), (&innermost[..], depth), "{name}");
        // The unwinder goes on past the entry, to addresses that are no code of the kernel.
        assert_eq!(stack[depth - 3..], ["entry_SYSCALL_64", "fixed_percpu_data", "??"], "{name}");
    }
}

#[test]
fn variables_with_types_and_with_whole_values() {
    let records = records("tcp-reset.mi");
    let typed = answer(&records, 35).1.tuples("variables");
    let whole = answer(&records, 36).1.tuples("variables");
    let names = |list: &[&Values]| list.iter().map(|var| var.text("name").unwrap().to_string()).collect::<Vec<_>>();
    assert_eq!(names(&typed), ["sk", "skb", "th", "rep", "arg", "transmit_time", "ctl_sk", "net", "txhash"]);
    assert_eq!(names(&typed), names(&whole));
    assert_eq!((typed[0].text("arg"), typed[0].text("type")), (Some("1"), Some("const struct sock *")));
    assert_eq!((typed[2].text("arg"), typed[2].text("value")), (None, Some("<optimized out>")));
    assert_eq!(typed[3].text("value"), None, "a structure's value is not in the list with types");
    assert!(whole[3].text("value").unwrap().starts_with("{th = {source = 9, dest = "));
}

#[test]
fn text_is_freed_of_its_escapes() {
    let records = records("listen-killed.mi");
    assert_eq!(answer(&records, 23), ("error", &one("msg", "No symbol \"pcpu_hot\" in current context.")));
    assert_eq!(answer(&records, 29), ("done", &one("value", "\"nc\"")));
    assert_eq!(answer(&records, 35), ("done", &one("value", "7 '\\a'")));
    let console = records.iter().find_map(|record| match record {
        Record::Stream { kind: '~', text } if text.starts_with("370") => Some(text.as_str()),
        _ => None,
    });
    assert_eq!(console, Some("370\t\treturn rcu_dereference_protected(pnet->net, true);\n"));
}

fn one(name: &str, text: &str) -> Values {
    Values(vec![(name.into(), mi::Value::Text(text.into()))])
}

/// Positions in a line: all of a short one, up to `most` of a long one.
fn positions(line: &str, most: usize) -> impl Iterator<Item = usize> {
    (0..line.len()).step_by(line.len() / most + 1)
}

#[test]
fn a_line_that_is_cut_off_is_never_taken_for_the_whole() {
    for line in all_lines() {
        let whole = mi::parse(&line).unwrap();
        for end in positions(&line, 300).filter(|end| line.is_char_boundary(*end)) {
            let cut = mi::parse(&line[..end]);
            if matches!(whole, Record::Result { .. }) {
                assert_ne!(cut.as_ref(), Ok(&whole), "cut at {end}: {line}");
            }
        }
    }
}

#[test]
fn a_garbled_byte_never_brings_the_parser_down() {
    for line in all_lines() {
        for at in positions(&line, 60) {
            for garble in *b"\"\\{}[],=^~0n\0\x80" {
                let mut bytes = line.clone().into_bytes();
                bytes[at] = garble;
                let garbled = String::from_utf8_lossy(&bytes);
                if let Err(error) = mi::parse(&garbled) {
                    assert!(error.at <= garbled.len(), "{error:?} is beyond the end of {garbled}");
                }
            }
        }
    }
}
