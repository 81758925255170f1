//! Conditions, places and `show` at the edges: never a wrong hit, and never a word less than the user needs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use serde_json::Value;
use support::{HIT, Place, probes_of_hits, recipe, slot};

/// A recipe whose probes are these flow mappings, and that makes one hit of `tcp_v4_send_reset`.
fn with_probes(probes: &[&str]) -> String {
    let list: String = probes.iter().map(|probe| format!("  - {{ {probe} }}\n")).collect();
    recipe(&[HIT]).replace("  - { name: rst, at: tcp_v4_send_reset }\n", &list)
}

fn run(probes: &[&str]) -> Value {
    let _slot = slot();
    Place::new().run(&with_probes(probes)).assert_passed()
}

#[test]
fn a_false_condition_makes_no_hit_whatever_its_type() {
    let report = run(&[
        "name: always, at: tcp_v4_send_reset",
        "name: boolean, at: tcp_v4_send_reset, when: (_Bool)0",
        "name: enumerator, at: tcp_v4_send_reset, when: (enum skb_drop_reason)0",
        "name: pointer, at: tcp_v4_send_reset, when: sk",
        "name: true, at: tcp_v4_send_reset, when: skb",
    ]);
    assert_eq!(probes_of_hits(&report), ["always", "true"]);
}

#[test]
fn a_condition_on_an_inlined_function_sees_its_variables() {
    let report = run(&[
        "name: ours, at: NF_HOOK, when: hook == 1 && skb != 0, limit: 1",
        "name: never, at: NF_HOOK, when: hook == 77",
    ]);
    assert_eq!(probes_of_hits(&report), ["ours"]);
    let innermost = &report["hits"][0]["frames"][0];
    assert_eq!((&innermost["symbol"], &innermost["inlined"]), (&"NF_HOOK".into(), &true.into()));
    let hook = innermost["args"].as_array().unwrap().iter().find(|var| var["name"] == "hook").unwrap();
    assert_eq!(hook["value"], "1");
    let warnings = report["warnings"].to_string();
    assert!(warnings.contains("probe `never`: its condition cannot be evaluated at 0xffffffff8"), "{warnings}");
}

#[test]
fn a_probe_on_a_return_has_the_value_and_the_arguments_and_a_probe_on_the_entry_keeps_its_own() {
    let steps = [HIT, "{ name: nowhere, run: nc 10.9.9.9 9 < /dev/null, exit: 1 }"];
    let list = "  - { name: entry, at: tcp_v4_connect, stack: 4 }
  - { name: out, at: 'return: tcp_v4_connect', stack: 4 }
  - { name: inlined, at: 'return: ip_route_output_key_hash', stack: 4, limit: 1 }
";
    let text = recipe(&steps).replace("  - { name: rst, at: tcp_v4_send_reset }\n", list);
    let text = format!("{text}expect:\n  - {{ probe: out, hits: 2, where: {{ addr_len: '16' }} }}\n");
    let _slot = slot();
    let report = Place::new().run(&text).assert_passed();
    assert_eq!(probes_of_hits(&report), ["entry", "inlined", "out", "entry", "out"]);
    let hits = report["hits"].as_array().unwrap();
    for (hit, value) in [(&hits[2], "0"), (&hits[4], "-101")] {
        let returned = &hit["returned"];
        assert_eq!(
            (&returned["name"], &returned["type"], &returned["value"]),
            (&"returned".into(), &"int".into(), &value.into())
        );
        assert_eq!(hit["frames"][0]["symbol"], "__inet_stream_connect", "the frames are the caller's");
        assert_eq!(hit["arguments"][0]["name"], "sk");
    }
    let decoded = |hit: &Value, expression: &str| {
        let objects = hit["decoded"].as_array().unwrap();
        let summary = |object: &Value| object["summary"].as_str().unwrap().to_string();
        objects.iter().find(|object| object["expression"] == expression).map(summary)
    };
    assert!(decoded(&hits[2], "sk").unwrap().starts_with("TCP TCP_SYN_SENT 127.0.0.1:"));
    assert_eq!(decoded(&hits[4], "returned").as_deref(), Some("-ENETUNREACH"));
    assert_eq!((&hits[0]["returned"], &hits[0]["arguments"]), (&Value::Null, &Value::Array(Vec::new())));
    assert!(report["warnings"].to_string().contains("probe `inlined`: its function is inlined at "), "{report}");
}

#[test]
fn what_can_be_read_where_a_probe_will_stop_is_told_before_anything_boots_and_comes_true() {
    let probes = [
        "name: entry, at: tcp_v4_send_reset",
        "name: line, at: 'net/ipv4/ip_input.c:205'",
        "name: inlined, at: NF_HOOK, limit: 1",
        // It has labels, a constant that is there from the start, and locals that are nowhere.
        "name: receive, at: tcp_v4_rcv, limit: 1",
    ];
    let _slot = slot();
    let place = Place::new();
    place.file("recipe.yaml", &with_probes(&probes));
    let told = place.kdbg(&["symbols", "recipe.yaml", "--json"]).wait();
    told.assert_code(0);
    let told: Value = serde_json::from_str(&told.stdout).unwrap();
    let report = place.run(&with_probes(&probes)).assert_passed();
    let names = |vars: &Value, wanted: &dyn Fn(&Value) -> bool| -> Vec<String> {
        let vars = vars.as_array().unwrap().iter().filter(|var| wanted(var));
        let mut names: Vec<String> = vars.map(|var| var["name"].as_str().unwrap().to_string()).collect();
        names.sort();
        names
    };
    for (index, name) in [(0, "entry"), (1, "line"), (3, "receive")] {
        let place = &told["probes"][index]["places"][0];
        let hit = report["hits"].as_array().unwrap().iter().find(|hit| hit["probe"] == name).unwrap();
        let frame = &hit["frames"][0];
        assert_eq!((&place["address"], &place["symbol"]), (&frame["address"], &frame["symbol"]), "{name}");
        let foreseen = names(&place["variables"], &|var| var["state"] == "readable");
        let seen: Vec<String> = [&frame["args"], &frame["locals"]]
            .iter()
            .flat_map(|vars| names(vars, &|var| var["available"] == true))
            .collect();
        assert!(!seen.is_empty());
        for variable in &seen {
            assert!(foreseen.contains(variable), "{name}: {variable} was read and not foreseen: {place}");
        }
        if name != "line" {
            assert!(
                foreseen.iter().all(|variable| seen.contains(variable)),
                "{name}: {foreseen:?}, and read was {seen:?}"
            );
        }
        let arguments = names(&place["variables"], &|var| var["argument"] == true);
        assert_eq!(arguments, names(&frame["args"], &|_| true), "{name}");
    }
    assert!(told["probes"][2]["places"].as_array().unwrap().iter().all(|place| place["inlined"] == true));
    let text = place.kdbg(&["symbols", "recipe.yaml"]).wait().stdout;
    let shown = "  entry  at tcp_v4_send_reset  1 location\n";
    assert!(text.contains(shown) && text.contains("\n      arguments     sk, skb\n"), "{text}");
    place.file("recipe.yaml", &with_probes(&["name: odd, at: tcp_v4_send_rest"]));
    let refused = place.kdbg(&["symbols", "recipe.yaml"]).wait();
    refused.assert_code(2);
    assert!(refused.stderr.contains("close by: tcp_v4_send_reset"), "{refused}");
}

#[test]
fn a_function_that_is_inlined_everywhere_has_no_return() {
    let _slot = slot();
    let run = Place::new().run(&with_probes(&["name: odd, at: 'return: NF_HOOK'"]));
    run.assert_error(2, "recipe", &["`NF_HOOK` is inlined wherever it is called", "it has no return"]);
}

#[test]
fn a_line_of_a_function_is_counted_from_its_name_and_the_first_passes_can_be_skipped() {
    let steps = ["{ name: three, run: for i in 1 2 3; do nc 127.0.0.1 9 < /dev/null; done, exit: 1 }"];
    let list = "  - { name: line, at: 'tcp_v4_send_reset:+15', stack: 2 }
  - { name: third, at: tcp_v4_send_reset, skip: 2, stack: 2 }
  - { name: out, at: 'return: tcp_v4_connect', skip: 1, stack: 2 }
";
    let text = recipe(&steps).replace("  - { name: rst, at: tcp_v4_send_reset }\n", list);
    let _slot = slot();
    let report = Place::new().run(&text).assert_passed();
    let probes = probes_of_hits(&report);
    assert_eq!(probes, ["line", "line", "out", "third", "line", "out"], "{report}");
    let location = &report["probes"][0]["locations"][0];
    assert_eq!((&location["symbol"], &location["line"]), (&"tcp_v4_send_reset".into(), &700.into()));
}

#[test]
fn a_place_without_code_is_refused_at_its_line() {
    for (at, texts) in [
        ("'*0x1234'", &["no code at 0x1234"][..]),
        ("'tcp_v4_send_reset:+5000'", &["no code of its own 5000 lines below the name of `tcp_v4_send_reset`"][..]),
        ("'tcp_v4_send_rest:+5'", &["no function `tcp_v4_send_rest`", "close by: tcp_v4_send_reset"][..]),
        ("'net/ipv4/tcp_ipv4.c:1'", &["no code at line 1 of net/ipv4/tcp_ipv4.c", "the next line with code is "][..]),
    ] {
        let _slot = slot();
        Place::new().run(&with_probes(&[&format!("name: odd, at: {at}")])).assert_error(2, "recipe", texts);
    }
}

#[test]
fn a_show_entry_that_cannot_be_evaluated_is_told_once_with_the_reason() {
    let two = "{ name: two, run: nc 127.0.0.1 9 < /dev/null; nc 127.0.0.1 9 < /dev/null, exit: 1 }";
    let text = recipe(&[two])
        .replace("at: tcp_v4_send_reset", "at: tcp_v4_send_reset, show: { odd: skb->nosuch, len: skb->len }");
    let _slot = slot();
    let report = Place::new().run(&text).assert_passed();
    assert_eq!(probes_of_hits(&report), ["rst", "rst"]);
    let warnings = report["warnings"].as_array().unwrap().iter().filter_map(Value::as_str);
    let told: Vec<&str> = warnings.filter(|text| text.contains("`odd`")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("There is no member named nosuch"), "{told:?}");
    let shown = |name: &str| {
        let list = report["hits"][1]["shown"].as_array().unwrap();
        list.iter().find(|var| var["name"] == name).unwrap()["why"].clone()
    };
    assert_eq!((shown("odd"), shown("len")), ("unreadable".into(), Value::Null));
}

#[test]
fn too_much_output_is_cut_where_it_was_written_and_warned_of() {
    let flood = "{ name: flood, run: yes | head -c 1500000 >&2; echo done }";
    let _slot = slot();
    let report = Place::new().run(&recipe(&[flood])).assert_passed();
    let step = &report["trigger"][0];
    assert_eq!(step["stdout"], "done\n");
    assert!(step["stderr"].as_str().unwrap().ends_with("[kdbg: 451424 more bytes were not kept]\n"));
    let warnings = report["warnings"].to_string();
    assert!(warnings.contains("step `flood` wrote too much: 451424 bytes"), "{warnings}");
}

#[test]
fn the_stack_of_an_interrupt_goes_on_in_what_it_interrupted() {
    let text = recipe(&["{ name: be busy, run: 'i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done' }"])
        .replace("name: rst, at: tcp_v4_send_reset", "name: tick, at: update_process_times, stack: 99, limit: 4");
    let _slot = slot();
    let report = Place::new().run(&text).assert_passed();
    assert_eq!(probes_of_hits(&report), ["tick"; 4]);
    // Rarely the timer interrupts assembler code that has no frame; then the stack is cut there, and that is said.
    let cut = |hit: &&Value| !hit["cut"].is_null();
    let said =
        report["warnings"].as_array().unwrap().iter().all(|text| text.as_str().unwrap().contains("is cut at asm_"));
    assert!(said && report["hits"].as_array().unwrap().iter().filter(cut).count() < 4, "{}", report["warnings"]);
    for hit in report["hits"].as_array().unwrap() {
        let frames = hit["frames"].as_array().unwrap();
        let symbols: Vec<&str> = frames.iter().map(|frame| frame["symbol"].as_str().unwrap()).collect();
        let entry = symbols.iter().position(|symbol| symbol.starts_with("asm_")).expect("an interrupt's entry");
        // A program was interrupted, or the kernel: then the whole way down to where that began.
        let whole = entry + 1 == symbols.len()
            || ["entry_", "ret_from_fork", "start_kernel", "asm_"]
                .iter()
                .any(|end| symbols.last().is_some_and(|symbol| symbol.starts_with(end)));
        assert!(whole, "{symbols:?}");
        let levels = frames.iter().map(|frame| frame["level"].as_u64().unwrap());
        assert!(levels.eq(0..symbols.len() as u64), "{symbols:?}");
    }
}

#[test]
fn a_condition_that_makes_no_sense_is_refused_at_its_line_and_nothing_is_run() {
    for at in ["tcp_v4_send_reset", "tcp_v4_rcv"] {
        let _slot = slot();
        let ended = Place::new().run(&with_probes(&[&format!("name: odd, at: {at}, when: skb->nosuch > 0")]));
        let report = ended.assert_error(2, "recipe", &["There is no member named nosuch", "test.yaml:4:", "when"]);
        assert_eq!(report["trigger"], Value::Array(vec![]), "{at}");
    }
}

#[test]
fn a_condition_may_make_sense_in_some_of_the_functions_of_a_name_only() {
    // In the other of the two, of /proc/PID, the argument is called `filp`.
    let text = recipe(&["{ name: read, run: cat /proc/uptime }"])
        .replace("name: rst, at: tcp_v4_send_reset", "name: open, at: proc_single_open, when: file != 0, limit: 1");
    let _slot = slot();
    let report = Place::new().run(&text).assert_passed();
    assert_eq!(report["probes"][0]["locations"].as_array().unwrap().len(), 2);
    assert_eq!(probes_of_hits(&report), ["open"]);
}

#[test]
fn the_last_frame_of_a_stack_that_is_limited_is_inlined_all_the_same() {
    let _slot = slot();
    let probes = "probes:\n  - { name: one, at: NF_HOOK, stack: 1, limit: 3 }\n  - { name: two, at: NF_HOOK, stack: 2, limit: 3 }\n";
    let text = format!("name: test\nkernel: {{ version: '6.1' }}\n{probes}trigger:\n  - {HIT}\n");
    let report = Place::new().run(&text).assert_passed();
    let hits = report["hits"].as_array().unwrap();
    let frames = |probe: &str| -> Vec<(u64, bool)> {
        let of_probe = hits.iter().filter(|hit| hit["probe"] == probe);
        of_probe
            .map(|hit| (hit["frames"].as_array().unwrap().len() as u64, hit["frames"][0]["inlined"] == true))
            .collect()
    };
    assert_eq!(frames("one"), vec![(1, true); 3]);
    assert_eq!(frames("two"), vec![(2, true); 3]);
}
