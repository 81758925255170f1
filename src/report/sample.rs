//! A realistic report for tests: one run of `recipes/tcp-reset.yaml` on 6.1.192.
//!
//! Compiled for tests only.

use std::collections::BTreeMap;

use super::model::*;

/// An available value.
pub(crate) fn var(name: &str, type_name: &str, value: &str) -> Var {
    let (type_name, value) = (Some(type_name.into()), Some(value.into()));
    Var { name: name.into(), type_name, value, available: true, why: None, lost: None }
}

/// A value that could not be had.
pub(crate) fn lost(name: &str, type_name: &str, why: Why) -> Var {
    Var {
        name: name.into(),
        type_name: Some(type_name.into()),
        value: None,
        available: false,
        why: Some(why),
        lost: None,
    }
}

/// A frame without values.
pub(crate) fn frame(level: u32, symbol: &str, file: &str, line: u32) -> Frame {
    Frame {
        level,
        address: format!("{:#x}", 0xffff_ffff_8176_0000_u64 + u64::from(level) * 0x40),
        symbol: symbol.into(),
        offset: Some(u64::from(level) * 4),
        file: Some(file.into()),
        line: Some(line),
        inlined: false,
        args: vec![],
        locals: vec![],
        hidden: 0,
    }
}

/// The stack of a SYN to a closed port, over `lo`.
fn stack() -> Vec<Frame> {
    const PLACES: [(&str, &str, u32); 22] = [
        ("tcp_v4_send_reset", "net/ipv4/tcp_ipv4.c", 686),
        ("tcp_v4_rcv", "net/ipv4/tcp_ipv4.c", 2149),
        ("ip_protocol_deliver_rcu", "net/ipv4/ip_input.c", 205),
        ("ip_local_deliver_finish", "net/ipv4/ip_input.c", 233),
        ("NF_HOOK", "include/linux/netfilter.h", 302),
        ("ip_local_deliver", "net/ipv4/ip_input.c", 254),
        ("ip_rcv", "net/ipv4/ip_input.c", 569),
        ("__netif_receive_skb_one_core", "net/core/dev.c", 5531),
        ("__netif_receive_skb", "net/core/dev.c", 5645),
        ("process_backlog", "net/core/dev.c", 5973),
        ("__napi_poll", "net/core/dev.c", 6535),
        ("napi_poll", "net/core/dev.c", 6602),
        ("net_rx_action", "net/core/dev.c", 6716),
        ("handle_softirqs", "kernel/softirq.c", 571),
        ("do_softirq", "kernel/softirq.c", 471),
        ("__local_bh_enable_ip", "kernel/softirq.c", 398),
        ("ip_finish_output2", "net/ipv4/ip_output.c", 229),
        ("__tcp_transmit_skb", "net/ipv4/tcp_output.c", 1402),
        ("tcp_connect", "net/ipv4/tcp_output.c", 3946),
        ("tcp_v4_connect", "net/ipv4/tcp_ipv4.c", 322),
        ("__sys_connect", "net/socket.c", 2008),
        ("__x64_sys_connect", "net/socket.c", 2015),
    ];
    let mut frames: Vec<Frame> =
        (0..).zip(PLACES).map(|(level, (symbol, file, line))| frame(level, symbol, file, line)).collect();
    frames[4].inlined = true;
    frames[11].inlined = true;
    frames[0].args = vec![
        var("sk", "const struct sock *", "0x0 <fixed_percpu_data>"),
        var("skb", "struct sk_buff *", "0xffff8880006eee58"),
    ];
    frames[0].locals = vec![
        var(
            "arg",
            "struct ip_reply_arg",
            &format!("{{iov = {{{{iov_base = 0x0, iov_len = 0}}}}, flags = 0, {} csum = 0}}", "pad = 0, ".repeat(12)),
        ),
        lost("net", "struct net *", Why::NotSetYet),
        lost("th", "const struct tcphdr *", Why::NotSetYet),
    ];
    frames[0].hidden = 3;
    frames[1].args = vec![var("skb", "struct sk_buff *", "0xffff8880006eee58")];
    frames[1].locals = vec![
        var("drop_reason", "enum skb_drop_reason", "SKB_DROP_REASON_NO_SOCKET"),
        var("refcounted", "bool", "false"),
        var("sk", "struct sock *", "0x0 <fixed_percpu_data>"),
        lost("ret", "int", Why::NotSetYet),
        lost("dif", "int", Why::OptimizedOut),
    ];
    frames[1].hidden = 1;
    frames[2].args = vec![
        var("net", "struct net *", "0xffffffff82a3c500 <init_net>"),
        lost("skb", "struct sk_buff *", Why::OptimizedOut),
        var("protocol", "int", "6"),
    ];
    frames[4].args = vec![var("hook", "unsigned int", "1"), var("pf", "uint8_t", "2 '\\002'")];
    frames[9].locals = vec![var("flags", "u32", "(NAPI_A | NAPI_B)")];
    frames
}

/// A hit of probe `rst`.
pub(crate) fn hit(index: u64) -> Hit {
    Hit {
        index,
        probe: "rst".into(),
        cpu: 0,
        task: Task { comm: Some("nc".into()), pid: Some(61), tgid: Some(61) },
        context: Some(Context::Softirq),
        depth: Depth { softirqs: Some(1), ..Depth::default() },
        jiffies: Some(4_294_937_541),
        syscall: Some(Syscall {
            name: "connect".into(),
            args: vec![
                var("fd", "int", "3"),
                var("uservaddr", "struct sockaddr *", "127.0.0.1:9"),
                var("addrlen", "int", "16"),
            ],
            text: "connect(3, 127.0.0.1:9)".into(),
        }),
        interrupted: None,
        frames: stack(),
        cut: None,
        shown: vec![var("source port", "unsigned short", "47918")],
        decoded: vec![Decoded {
            expression: "skb".into(),
            kind: "sk_buff".into(),
            summary: "IPv4 127.0.0.1:47918 → 127.0.0.1:9  TCP SYN  64 bytes on lo".into(),
            fields: BTreeMap::from([("from".into(), "127.0.0.1:47918".into())]),
            packet: Some(1),
        }],
        returned: None,
        arguments: Vec::new(),
        message: None,
        changed: None,
        altered: Vec::new(),
        cost: Cost { stop_us: 101_000, collect_us: 17_000, stack: Some(StackReader::Gdb) },
    }
}

/// The whole report, passed.
pub(crate) fn sample() -> Report {
    let texts = [
        ("step `connect to a closed port` exits 1", "exit 1"),
        ("probe `rst` has 1 hit", "1 hit"),
        ("every hit of `rst` comes through tcp_v4_rcv ← ip_rcv ← net_rx_action", "in hit 1"),
        ("`sk` is 0x0 in every hit of `rst`", "in hit 1"),
    ];
    Report {
        schema: SCHEMA,
        recipe: RecipeInfo {
            name: "tcp-reset".into(),
            about: "Who sends the RST when nothing listens on the port?".into(),
            sha256: "9f86d081884c7d65".repeat(4),
        },
        outcome: Outcome::Passed,
        error: None,
        kernel: Some(KernelInfo {
            version: "6.1".into(),
            release: "6.1.192".into(),
            build_id: "5d1f0c2a".repeat(5),
            key: "3f9c21d07b64".into(),
            vmlinux: "/cache/kernels/3f9c21d07b64/vmlinux".into(),
            debuggable: None,
        }),
        machine: Some(MachineInfo {
            accelerator: "tcg".into(),
            qemu: "7.2.22".into(),
            cpus: 1,
            memory: "256M".into(),
            forked: true,
            forwards: vec![],
        }),
        probes: vec![ProbeResult {
            name: "rst".into(),
            at: "tcp_v4_send_reset".into(),
            locations: vec![Location {
                address: "0xffffffff81760000".into(),
                symbol: "tcp_v4_send_reset".into(),
                file: Some("net/ipv4/tcp_ipv4.c".into()),
                line: Some(686),
                inlined: false,
                cheap: true,
            }],
            kind: Some(StopKind::Cheap),
            hits: 1,
            disarmed: false,
            counted: None,
            never_armed: None,
            over_budget: false,
        }],
        hits: vec![hit(1)],
        trigger: vec![StepResult {
            name: "connect to a closed port".into(),
            exit_code: Some(1),
            stdout: String::new(),
            stderr: "nc: can't connect to remote host (127.0.0.1): Connection refused\n".into(),
            duration_ms: 140,
            timed_out: false,
        }],
        captured: vec![Captured { interface: "client:eth0".into(), packets: 12 }],
        incidents: vec![],
        expectations: texts
            .map(|(text, detail)| ExpectationResult { text: text.into(), passed: true, detail: detail.into() })
            .into(),
        timings: BTreeMap::from([("boot_ms".into(), 46), ("total_ms".into(), 940), ("trigger_ms".into(), 240)]),
        warnings: vec!["KVM refused: the guest did not boot under it; TCG was taken".into()],
        files: BTreeMap::from([("console".into(), "console.log".into()), ("gdb".into(), "gdb-mi.log".into())]),
        volatile: vec![],
    }
}
