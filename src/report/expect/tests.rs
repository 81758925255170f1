//! Expectations that hold and, above all, expectations that do not.

use super::*;
use crate::recipe::kernel::KernelSpec;
use crate::recipe::types::ExpectedValue;
use crate::report::model::Why;
use crate::report::sample::{hit, lost, sample};

/// A recipe with one probe `rst`, one step and `expect`.
fn recipe(expect: ExpectSpec) -> Recipe {
    let config = vec!["base".into()];
    Recipe {
        name: "tcp-reset".into(),
        about: String::new(),
        kernel: KernelSpec { version: vec!["6.1".into()], config, ..KernelSpec::default() },
        guest: Default::default(),
        probes: vec![serde_yaml::from_str("{ name: rst, at: tcp_v4_send_reset, limit: 8 }").unwrap()],
        trigger: vec![StepSpec {
            name: "connect".into(),
            on: None,
            run: Some(String::new()),
            to: None,
            send: None,
            expect: None,
            then: Vec::new(),
            fetch: Vec::new(),
            exit: 1,
            timeout: std::time::Duration::from_secs(10),
        }],
        record: false,
        expect: vec![expect],
    }
}

fn expect(hits: &str, through: &[&str], values: &[(&str, &str)]) -> ExpectSpec {
    ExpectSpec {
        probe: "rst".into(),
        hits: hits.parse().unwrap(),
        through: through.iter().map(|name| (*name).into()).collect(),
        values: values.iter().map(|(name, value)| ((*name).into(), ExpectedValue((*value).into()))).collect(),
    }
}

/// The results for the `expect` entry alone, as `✓ text: detail`.
fn results(expect: ExpectSpec, probes: &[ProbeResult], hits: &[Hit]) -> Vec<String> {
    let all = evaluate(&recipe(expect), probes, hits, &[]);
    all.iter().skip(1).map(line).collect()
}

fn line(result: &ExpectationResult) -> String {
    format!("{} {}: {}", if result.passed { '✓' } else { '✗' }, result.text, result.detail)
}

#[test]
fn a_step_must_end_as_the_recipe_says() {
    let step = |exit_code, timed_out, stderr: &str| StepResult {
        name: "connect".into(),
        exit_code,
        stdout: String::new(),
        stderr: stderr.into(),
        duration_ms: 5,
        timed_out,
    };
    let cases = [
        (Some(step(Some(1), false, "refused")), "✓ step `connect` exits 1: exit 1"),
        (Some(step(Some(0), false, "")), "✗ step `connect` exits 1: exit 0"),
        (
            Some(step(Some(127), false, "a\nnc: \x1b not found\n\n")),
            "✗ step `connect` exits 1: exit 127; it said: nc: \\x1b not found",
        ),
        (Some(step(None, true, "")), "✗ step `connect` exits 1: timed out after 10s"),
        (Some(step(Some(1), true, "")), "✗ step `connect` exits 1: timed out after 10s"),
        (Some(step(None, false, "")), "✗ step `connect` exits 1: did not end by itself"),
        (None, "✗ step `connect` exits 1: not run"),
    ];
    for (seen, wanted) in cases {
        let seen: Vec<_> = seen.into_iter().collect();
        assert_eq!(line(&evaluate(&recipe(expect("0", &[], &[])), &[], &[], &seen)[0]), wanted);
    }
}

#[test]
fn hits_are_counted() {
    let probes = sample().probes;
    let cases = [
        ("1", 1, "✓ probe `rst` has 1 hit: 1 hit"),
        ("1", 2, "✗ probe `rst` has 1 hit: 2 hits"),
        ("1", 0, "✗ probe `rst` has 1 hit: no hits"),
        ("0", 0, "✓ probe `rst` has no hits: no hits"),
        (">= 2", 1, "✗ probe `rst` has at least 2 hits: 1 hit"),
        ("<= 3", 2, "✓ probe `rst` has at most 3 hits: 2 hits"),
        (">= 0", 0, "✓ probe `rst` has at least 0 hits: no hits"),
    ];
    for (bound, count, wanted) in cases {
        let mut hits: Vec<Hit> = (1..=count).map(hit).collect();
        let mut foreign = hit(99);
        foreign.probe = "other".into();
        hits.push(foreign);
        assert_eq!(results(expect(bound, &[], &[]), &probes, &hits), [wanted]);
    }
}

#[test]
fn the_number_of_hits_is_explained() {
    let mut probe = sample().probes.remove(0);
    probe.disarmed = true;
    let limit = "✗ probe `rst` has 1 hit: 2 hits, then the probe reached its limit of 8 and was disarmed: there may have been more";
    assert_eq!(results(expect("1", &[], &[]), &[probe.clone()], &[hit(1), hit(2)]), [limit]);
    let counted = [0, 4_312].map(|counted| {
        let probe = ProbeResult { counted: Some(counted), ..probe.clone() };
        results(expect("1", &[], &[]), &[probe], &[hit(1)]).remove(0)
    });
    assert_eq!(counted, ["0", "4,312"].map(|counted| {
        format!("✓ probe `rst` has 1 hit: 1 hit, then the probe reached its limit of 8 and was disarmed (+ {counted} counted)")
    }));
    probe.locations.clear();
    let nowhere = "✗ probe `rst` has 1 hit: no hits: `tcp_v4_send_reset` resolved to no location";
    assert_eq!(results(expect("1", &[], &[]), &[probe], &[]), [nowhere]);
    assert_eq!(results(expect("1", &[], &[]), &[], &[]), ["✗ probe `rst` has 1 hit: no hits: the probe was never set"]);
}

#[test]
fn callers_are_looked_for_outwards_with_gaps() {
    let cases: [(&[&str], Result<(), &str>); 9] = [
        (&["tcp_v4_rcv"], Ok(())),
        (&["tcp_v4_rcv", "ip_rcv", "__x64_sys_connect"], Ok(())),
        (&["NF_HOOK"], Ok(())),
        (&["handle_softirqs.isra.0"], Ok(())),
        (&["ip_rcv", "no_such"], Err("hit 1: no `no_such` after `ip_rcv` (frame 6)")),
        (&["no_such"], Err("hit 1: no `no_such` after `tcp_v4_send_reset` (frame 0)")),
        (
            &["ip_rcv", "tcp_v4_rcv"],
            Err("hit 1: no `tcp_v4_rcv` after `ip_rcv` (frame 6); it is nearer, frame 1: callers go outwards"),
        ),
        (
            &["tcp_v4_send_reset"],
            Err(
                "hit 1: no `tcp_v4_send_reset` after `tcp_v4_send_reset` (frame 0); it is nearer, frame 0: callers go outwards",
            ),
        ),
        (
            &["tcp_v4_rcv", "tcp_v4_rcv"],
            Err("hit 1: no `tcp_v4_rcv` after `tcp_v4_rcv` (frame 1); it is nearer, frame 1: callers go outwards"),
        ),
    ];
    for (through, wanted) in cases {
        let text = format!("every hit of `rst` comes through {}", through.join(" ← "));
        let wanted = match wanted {
            Ok(()) => format!("✓ {text}: in hit 1"),
            Err(detail) => format!("✗ {text}: {detail}"),
        };
        assert_eq!(results(expect("1", through, &[]), &[], &[hit(1)])[1], wanted);
    }
}

#[test]
fn gcc_clones_count_and_a_cut_stack_is_said() {
    let mut clone = hit(1);
    clone.frames[1].symbol = "tcp_v4_rcv.constprop.1.cold".into();
    assert!(results(expect("1", &["tcp_v4_rcv"], &[]), &[], &[clone])[1].starts_with('✓'));

    let mut cut = recipe(expect("1", &["do_exit"], &[]));
    cut.probes[0].stack = 22;
    let seen = evaluate(&cut, &[], &[hit(1)], &[]);
    assert!(seen[2].detail.ends_with("(frame 0); the stack was cut at 22 frames, see `stack`"), "{}", seen[2].detail);

    let mut unreadable = hit(1);
    unreadable.frames.clear();
    let seen = results(expect("1", &["a"], &[]), &[], &[unreadable]);
    assert!(seen[1].ends_with("hit 1: no `a`: the stack could not be read"), "{}", seen[1]);
}

#[test]
fn values_are_found_and_compared() {
    let cases = [
        ("sk", "0x0", "✓", "in hit 1"),
        ("sk", "NULL", "✓", "in hit 1"),
        ("skb", "0x0", "✗", "hit 1: `skb` is 0xffff8880006eee58"),
        ("source port", "47918", "✓", "in hit 1"),
        ("source port", "47919", "✗", "hit 1: `source port` is 47918"),
        ("th", "0", "✗", "hit 1: `th` is not set yet"),
        (
            "drop_reason",
            "0",
            "✗",
            "hit 1: there is no `drop_reason` here; there is `source port`, `sk`, `skb`, `arg`, `net` and `th`",
        ),
    ];
    for (name, value, mark, detail) in cases {
        let wanted = format!("{mark} `{name}` is {value} in every hit of `rst`: {detail}");
        assert_eq!(results(expect("1", &[], &[(name, value)]), &[], &[hit(1)])[1], wanted);
    }
}

#[test]
fn shown_values_come_before_arguments_and_locals() {
    let mut shadowed = hit(1);
    shadowed.shown.push(lost("sk", "struct sock *", Why::Unreadable));
    let seen = results(expect("1", &[], &[("sk", "0x0")]), &[], &[shadowed]);
    assert_eq!(seen[1], "✗ `sk` is 0x0 in every hit of `rst`: hit 1: `sk` is unreadable");
}

#[test]
fn every_hit_means_every_hit() {
    let mut wrong = hit(2);
    wrong.frames[0].args[0].value = Some("0xffff888003d6c000".into());
    let wrong_too = Hit { index: 3, ..wrong.clone() };
    let spec = || expect(">= 1", &[], &[("sk", "0x0")]);
    let ending = |hits: &[Hit]| results(spec(), &[], hits)[1].split_once(": ").unwrap().1.to_owned();
    assert_eq!(ending(&[hit(1), hit(2)]), "in all 2 hits");
    assert_eq!(ending(&[hit(1), wrong.clone()]), "hit 2: `sk` is 0xffff888003d6c000");
    assert_eq!(ending(&[hit(1), wrong, wrong_too]), "hit 2: `sk` is 0xffff888003d6c000 (and in 1 more of 3)");
}

#[test]
fn without_hits_nothing_holds_unless_none_are_allowed() {
    let aspects = |bound: &str| results(expect(bound, &["a"], &[("sk", "0x0")]), &[], &[]);
    for line in &aspects(">= 1")[1..] {
        assert!(line.starts_with('✗') && line.ends_with("no hits to look at"), "{line}");
    }
    for bound in ["0", "<= 2", ">= 0"] {
        for line in &aspects(bound)[1..] {
            assert!(line.starts_with('✓') && line.ends_with("no hits, as expected"), "{bound}: {line}");
        }
    }
}
