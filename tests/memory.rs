//! What is read of the guest in QEMU's process is what GDB reads: decoded objects and arguments of system calls against
//! expressions that GDB has evaluated at the same stops, in a guest whose memory can be had and in one whose memory cannot.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::time::Duration;

use serde_json::Value;
use support::{Place, slot};

const LIMIT: Duration = Duration::from_secs(180);

/// On two CPUs, so that the registers of the right one are asked for.
const RECIPE: &str = "name: memory
kernel: { version: '6.1' }
guest: { cpus: 2 }
probes:
  - name: segment
    at: tcp_rcv_state_process
    limit: 8
    show:
      bytes: skb->len
      snd_nxt: ((struct tcp_sock *)sk)->snd_nxt
      rcv_nxt: ((struct tcp_sock *)sk)->rcv_nxt
      cwnd: ((struct tcp_sock *)sk)->snd_cwnd
      rto: ((struct inet_connection_sock *)sk)->icsk_rto
      port: sk->__sk_common.skc_num
      buffer: sk->sk_sndbuf
      jiffies: jiffies_64
  - { name: open, at: do_filp_open, limit: 8, show: { name: pathname->name } }
trigger:
  - name: a line to a server
    run: |
      nc -l -p 8080 > /tmp/line &
      until netstat -ltn | grep -q :8080; do sleep 0.05; done
      echo hello | nc 127.0.0.1 8080
";

/// Runs the recipe and compares. Gives how many objects and strings were compared, and how often GDB was asked for memory.
fn compared(more: &[&str]) -> ([usize; 2], usize) {
    let place = Place::new();
    let recipe = place.file("memory.yaml", RECIPE);
    let out = place.out();
    let line = ["run", recipe.to_str().unwrap(), "--json", "--accel", "tcg", "--out", out.to_str().unwrap()];
    let report = place.kdbg(&[&line, more].concat()).wait_within(LIMIT).assert_passed();
    place.assert_nothing_left();
    let mut compared = [0, 0];
    for hit in report["hits"].as_array().unwrap() {
        match hit["probe"].as_str() {
            Some("segment") => compared[0] += objects(hit),
            _ => compared[1] += strings(hit),
        }
    }
    let log = fs::read_to_string(out.join("gdb-mi.log")).unwrap();
    let asked = log.lines().filter(|line| line.starts_with("> ") && line.contains("-data-read-memory"));
    // Without the registers that a system call has left on the stack, which are read in a frame.
    (compared, asked.filter(|line| !line.contains("--frame")).count())
}

fn shown<'a>(hit: &'a Value, name: &str) -> &'a str {
    let entry = hit["shown"].as_array().unwrap().iter().find(|entry| entry["name"] == name);
    entry.unwrap_or_else(|| panic!("no {name} in {hit}"))["value"].as_str().unwrap()
}

/// Compares the socket and the packet of a hit.
fn objects(hit: &Value) -> usize {
    let object = |name: &str| {
        let found = hit["decoded"].as_array().unwrap().iter().find(|object| object["expression"] == name);
        &found.unwrap_or_else(|| panic!("no {name} in {hit}"))["fields"]
    };
    let (sk, skb) = (object("sk"), object("skb"));
    assert_eq!(hit["jiffies"].to_string(), shown(hit, "jiffies"));
    assert_eq!(skb["bytes"], shown(hit, "bytes"));
    if sk["state"] == "TCP_LISTEN" {
        return 1;
    }
    for name in ["snd_nxt", "rcv_nxt", "cwnd"] {
        assert_eq!(sk[name], shown(hit, name), "{name}");
    }
    assert_eq!(sk["rto"], format!("{} jiffies", shown(hit, "rto")));
    let ends = |field: &str, end: String| assert!(sk[field].as_str().unwrap().ends_with(&end), "{} {end}", sk[field]);
    ends("local", format!(":{}", shown(hit, "port")));
    ends("to be sent", format!(" of {} bytes", shown(hit, "buffer")));
    2
}

/// Compares the name of the file that a program opens, which is in its own memory, with the kernel's copy.
fn strings(hit: &Value) -> usize {
    let (_, string) = shown(hit, "name").split_once(' ').unwrap();
    let Some(text) = hit["syscall"]["text"].as_str().filter(|text| text.starts_with("open")) else { return 0 };
    assert!(text.contains(string), "{string} in {text}");
    1
}

#[test]
fn a_forks_memory_is_read_without_gdb_and_says_what_gdb_says() {
    let _slot = slot();
    let ([objects, strings], asked) = compared(&[]);
    assert!(objects >= 8 && strings >= 2, "{objects} {strings}");
    assert_eq!(asked, 1, "once, to compare");
}

#[test]
fn memory_that_is_in_no_file_is_read_through_gdb() {
    let _slot = slot();
    let ([objects, strings], asked) = compared(&["--cold"]);
    assert!(objects >= 8 && strings >= 2, "{objects} {strings}");
    assert!(asked > objects + strings, "{asked}");
}
