//! Consoles of real kernels, and lines that look like theirs.

use super::*;

/// Consoles that were recorded: kernels of kdbg's, and Debian's, which has detectors for what hangs.
const RECORDED: [(&str, &str); 3] = [
    ("6.1", include_str!("6.1.txt")),
    ("6.12", include_str!("6.12.txt")),
    ("6.1-debian", include_str!("6.1-debian.txt")),
];

fn watch(text: &str) -> Watcher {
    let mut watcher = Watcher::default();
    text.lines().for_each(|line| watcher.line(line));
    watcher
}

/// A line for each complaint: what it is, what was said, and the calls that the kernel is sure of.
fn told(seen: &Seen) -> String {
    let certain = seen.trace.iter().filter(|call| call.certain);
    let calls: Vec<String> = certain.map(|call| format!("{}+{:#x}", call.symbol, call.offset)).collect();
    let open = if seen.is_whole { "" } else { " (open)" };
    format!("{:?}{open}: {}\n    {}", seen.kind, seen.text, calls.join(" < "))
}

#[test]
fn complaints_of_real_kernels() {
    for (name, console) in RECORDED {
        let watcher = watch(console);
        let mut text: Vec<String> = watcher.seen().iter().map(told).collect();
        text.extend(watcher.ending().map(|ending| format!("{ending:?}")));
        insta::assert_snapshot!(name, text.join("\n"));
    }
}

#[test]
fn what_is_no_complaint_of_the_kernel() {
    for line in [
        "traps: sh[60] general protection fault ip:47b7a0 sp:7ffe error:0 in busybox[401000+18e000]",
        "sh[60]: segfault at 0 ip 0000000000000000 sp 00007ffe error 14 in busybox[400000+1000]",
        "traps: a[61] trap invalid opcode ip:401000 sp:7ffe error:0",
        "Memory: 221000K/261624K available",
        "kdbg: Kernel panic - not syncing",
        "audit: WARNING: x",
        "task [#1] of x",
    ] {
        assert_eq!(watch(line).seen(), [], "{line}");
    }
}

#[test]
fn what_else_a_kernel_says() {
    for (line, kind) in [
        ("[    1.0] divide error: 0000 [#1] PREEMPT SMP", Kind::Oops),
        ("[    1.0][   T12] Oops: stack segment: 0000 [#2] SMP", Kind::Oops),
        ("[    1.0] NMI watchdog: Watchdog detected hard LOCKUP on cpu 1", Kind::HardLockup),
        ("[    1.0] watchdog: CPU1: Watchdog detected hard LOCKUP on cpu 1", Kind::HardLockup),
        ("[    1.0] rcu: INFO: rcu_sched self-detected stall on CPU", Kind::RcuStall),
        ("[    1.0] Memory cgroup out of memory: Killed process 12 (x) total-vm:1kB", Kind::OutOfMemory),
        ("[    1.0] BUG: sleeping function called from invalid context at mm/slab.h:1", Kind::Warning),
        ("[    1.0] BUG: KASAN: slab-use-after-free in x+0x1/0x2", Kind::Warning),
    ] {
        assert_eq!(watch(line).seen().first().map(|seen| seen.kind), Some(kind), "{line}");
    }
}

#[test]
fn calls_are_read_with_their_module_and_certainty() {
    let call = |text| Traced::parse(text);
    let of = |symbol: &str, module: Option<&str>, certain, exact| {
        let (symbol, module) = (symbol.into(), module.map(String::from));
        Some(Traced { symbol, offset: 0x1a, size: 0x50, module, certain, exact })
    };
    assert_eq!(call(" tcp_v4_rcv+0x1a/0x50"), of("tcp_v4_rcv", None, true, false));
    assert_eq!(call(" ? x.isra.0+0x1a/0x50 [veth]"), of("x.isra.0", Some("veth"), false, false));
    assert_eq!(call(" x+0x1a/0x50 [veth 0123abcd]"), of("x", Some("veth"), true, false));
    assert_eq!(call("RIP: 0010:x+0x1a/0x50"), of("x", None, true, true));
    for text in ["RIP: 0033:0x47b7a0", " <TASK>", " x+0x1a", "x+0x1a/0x50", "RIP: 0010:0x0"] {
        assert_eq!(call(text), None, "{text}");
    }
}
