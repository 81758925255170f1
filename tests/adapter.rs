//! A debug adapter attaches to a held guest and to a replay, told by the `launch.json` that kdbg has written.
//!
//! The adapter is Eclipse's CDT GDB, of the version in `tests/adapter/package.json`: the one of the three extensions' that npm has.
//! It is as VS Code runs it, and `support::dap` is in VS Code's place. Versions of it before 1.10 do not know `run`, and let go on
//! what they have attached to when `configurationDone` comes; so what is seen at the first stop is asked before that. It has no
//! requests for going backwards: its console has (`>reverse-continue`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use support::dap::Adapter;
use support::{Place, Running, probes_of_hits, slot, wait_until};

const LIMIT: Duration = Duration::from_secs(180);
const RECIPE: &str = "name: adapter
kernel: { version: '6.1' }
probes:
  - { name: syn, at: tcp_v4_connect, limit: 1 }
  - { name: rst, at: tcp_v4_send_reset }
trigger:
  - { name: three, run: for each in 1 2 3; do nc 127.0.0.1 9 < /dev/null; done, exit: 1, timeout: 60s }
expect:
  - { probe: rst, hits: 3 }
";

/// A probe on a line, for the recipe.
const LINE: &str = "probes:\n  - { name: line, at: \"tcp_v4_send_reset:+15\" }\n";

/// Starts a run of this recipe with these further arguments.
fn run(place: &Place, recipe: &str, more: &[&str]) -> Running {
    let recipe = place.file("test.yaml", recipe);
    let out = place.out();
    let line = ["run", recipe.to_str().unwrap(), "--accel", "tcg", "--out", out.to_str().unwrap(), "--json"];
    place.kdbg(&[&line, more].concat())
}

/// The arguments of this configuration, as VS Code makes them of `launch.json`.
fn configured(place: &Place, name: &str) -> Value {
    let text = fs::read_to_string(place.path().join(".vscode/launch.json")).unwrap();
    let text = text.replace("${workspaceFolder}", place.path().to_str().unwrap());
    let launch: Value = serde_json::from_str(&text).unwrap();
    let mut all = launch["configurations"].as_array().unwrap().iter();
    let found = all.find(|configuration| configuration["name"] == name).cloned().expect(&text);
    assert_eq!((&found["type"], &found["request"]), (&"gdbtarget".into(), &"attach".into()));
    found
}

/// An adapter that has attached. It waits to be configured; the thread is the one that it stands in.
fn attached(place: &Place, name: &str) -> (Adapter, Value) {
    let mut adapter = Adapter::start(place);
    adapter.request("attach", configured(place, name));
    adapter.event("initialized");
    let threads = adapter.request("threads", json!({}));
    let thread = threads["threads"][0]["id"].clone();
    (adapter, thread)
}

/// Frames as function and line, without the inlined functions that GDB shows in front of a function where it has attached at its
/// first instruction.
fn seen(frames: &[Value], innermost: &Value) -> Vec<(String, u64)> {
    let named = |frame: &Value| frame["name"].as_str().unwrap().to_string();
    let all = frames.iter().map(|frame| (named(frame), frame["line"].as_u64().unwrap()));
    all.skip_while(|(name, _)| name != innermost.as_str().unwrap()).collect()
}

/// A hit's frames, likewise.
fn reported(hit: &Value) -> Vec<(String, u64)> {
    let frames = hit["frames"].as_array().unwrap().iter();
    let known =
        frames.map(|frame| (frame["symbol"].as_str().unwrap().to_string(), frame["line"].as_u64().unwrap_or(0)));
    known.collect()
}

/// The stack is that of the hit. GDB's line of a function's entry may be one in another file, so the innermost one is not compared.
#[track_caller]
fn assert_is(frames: &[Value], hit: &Value) {
    let known = reported(hit);
    let seen = seen(frames, &hit["frames"][0]["symbol"]);
    let count = known.len().min(seen.len());
    assert!(count > 8, "{frames:#?}");
    assert_eq!(seen[0].0, known[0].0);
    assert_eq!(seen[1..count], known[1..count]);
}

/// The arguments of a frame have the values of the hit's. GDB names the symbol that an address is of, `0x0 <fixed_percpu_data>`.
#[track_caller]
fn assert_has(variables: &[(String, String)], hit: &Value) {
    let args = hit["frames"][0]["args"].as_array().unwrap();
    assert!(!args.is_empty(), "{hit:#}");
    for arg in args.iter().filter(|arg| arg["available"] == true) {
        let (name, value) = (arg["name"].as_str().unwrap(), arg["value"].as_str().unwrap());
        let found = variables.iter().find(|(known, _)| known == name).and_then(|(_, value)| value.split(" <").next());
        assert_eq!(found, Some(value), "{name} of {variables:?}");
    }
}

/// The frame of this function.
fn frame<'f>(frames: &'f [Value], function: &str) -> &'f Value {
    frames.iter().find(|frame| frame["name"] == function).expect(function)
}

/// A file of the kernel, as VS Code would name it: where the tree is, the outermost frame of the hit shows.
fn source(frames: &[Value], hit: &Value, file: &str) -> Value {
    let known = hit["frames"].as_array().unwrap().last().unwrap()["file"].as_str().unwrap();
    let paths = frames.iter().filter_map(|frame| frame["source"]["path"].as_str());
    let tree = paths.filter_map(|path| path.strip_suffix(known)).next().expect("a frame with source");
    json!({ "name": file.rsplit('/').next(), "path": format!("{tree}{file}") })
}

#[test]
fn an_adapter_looks_at_a_held_guest_runs_and_steps_it_and_leaves_it_to_the_run() {
    let place = Place::new();
    let _slot = slot();
    let running = run(&place, RECIPE, &["--hold", "rst"]);
    wait_until(LIMIT, "held.json", || place.out().join("held.json").is_file().then_some(()));
    let (mut adapter, thread) = attached(&place, "kdbg: the guest (CDT GDB)");
    let held = adapter.frames(&thread);
    let variables = adapter.variables(frame(&held, "tcp_v4_send_reset"));
    // A line of a caller, which the next packet comes through, and a function behind it.
    let caller = frame(&held, "ip_protocol_deliver_rcu");
    let line = json!({ "source": caller["source"], "breakpoints": [{ "line": caller["line"] }] });
    let set = adapter.request("setBreakpoints", line);
    assert_eq!((&set["breakpoints"][0]["verified"], &set["breakpoints"][0]["line"]), (&true.into(), &caller["line"]));
    adapter.request("setFunctionBreakpoints", json!({ "breakpoints": [{ "name": "tcp_v4_rcv" }] }));
    adapter.request("configurationDone", json!({}));
    let (why, thread) = adapter.stopped();
    let frames = adapter.frames(&thread);
    assert_eq!(
        (why.as_str(), &frames[0]["name"], &frames[0]["line"]),
        ("breakpoint", &caller["name"], &caller["line"])
    );
    adapter.request("continue", json!({ "threadId": thread }));
    let (why, thread) = adapter.stopped();
    let frames = adapter.frames(&thread);
    assert_eq!((why.as_str(), &frames[0]["name"]), ("function breakpoint", &"tcp_v4_rcv".into()));
    let skb = adapter.variables(&frames[0]).into_iter().find(|(name, _)| name == "skb").expect("skb").1;
    assert!(skb.starts_with("0xffff"), "{skb}");
    adapter.request("next", json!({ "threadId": thread }));
    let (why, thread) = adapter.stopped();
    let stepped = adapter.frames(&thread);
    assert_eq!((why.as_str(), &stepped[0]["name"]), ("step", &frames[0]["name"]));
    assert!(stepped[0]["line"] != frames[0]["line"], "{:#}", stepped[0]);
    adapter.request("disconnect", json!({}));
    let report = running.wait_within(LIMIT).assert_passed();
    assert_eq!(probes_of_hits(&report), ["syn", "rst", "rst", "rst"]);
    let hit = &report["hits"][1];
    assert_is(&held, hit);
    assert_has(&variables, hit);
    drop(adapter);
    place.assert_nothing_left();
}

#[test]
fn an_adapter_that_runs_leaves_too() {
    let place = Place::new();
    let _slot = slot();
    let running = run(&place, RECIPE, &["--hold", "2"]);
    wait_until(LIMIT, "held.json", || place.out().join("held.json").is_file().then_some(()));
    let (mut adapter, _) = attached(&place, "kdbg: the guest (CDT GDB)");
    adapter.request("configurationDone", json!({}));
    adapter.request("disconnect", json!({}));
    let report = running.wait_within(LIMIT).report();
    // How far the guest has come meanwhile is left to chance.
    assert_eq!((&report["error"], &probes_of_hits(&report)[..2]), (&Value::Null, &["syn", "rst"][..]));
    drop(adapter);
    place.assert_nothing_left();
}

#[test]
fn an_adapter_walks_a_replay_forwards_and_backwards() {
    let place = Place::new();
    let _slot = slot();
    let recipe = RECIPE.replace("probes:\n", LINE);
    let report = run(&place, &recipe, &["--record"]).wait_within(LIMIT).assert_passed();
    let hits = report["hits"].as_array().unwrap();
    let probes = probes_of_hits(&report);
    assert_eq!(probes, ["syn", "rst", "line", "rst", "line", "rst", "line"]);
    let out = place.out();
    let replaying = place.kdbg(&["replay", out.to_str().unwrap()]);
    replaying.wait_for_line();
    let (mut adapter, thread) = attached(&place, "kdbg: the replay (CDT GDB)");
    let frames = adapter.frames(&thread);
    assert_is(&frames, &hits[0]);
    let line = &hits[2]["frames"][0];
    let file = source(&frames, &hits[0], line["file"].as_str().unwrap());
    let set = adapter.request("setBreakpoints", json!({ "source": file, "breakpoints": [{ "line": line["line"] }] }));
    assert_eq!((&set["breakpoints"][0]["verified"], &set["breakpoints"][0]["line"]), (&true.into(), &line["line"]));
    // One is where it stands.
    let functions = json!([{ "name": "tcp_v4_connect" }, { "name": "tcp_v4_send_reset" }]);
    adapter.request("setFunctionBreakpoints", json!({ "breakpoints": functions }));
    adapter.request("configurationDone", json!({}));
    let stopped_at = |adapter: &mut Adapter, hit: usize| {
        let (why, thread) = adapter.stopped();
        assert_eq!(why, if probes[hit] == "line" { "breakpoint" } else { "function breakpoint" }, "{hit}");
        let frames = adapter.frames(&thread);
        assert_is(&frames, &hits[hit]);
        assert_has(&adapter.variables(frame(&frames, "tcp_v4_send_reset")), &hits[hit]);
        (frames[0].clone(), thread)
    };
    for hit in 1..6 {
        let (_, thread) = stopped_at(&mut adapter, hit);
        adapter.request("continue", json!({ "threadId": thread }));
    }
    let (frame, _) = stopped_at(&mut adapter, 6);
    adapter.console(&frame, "reverse-continue");
    let (frame, _) = stopped_at(&mut adapter, 5);
    adapter.console(&frame, "reverse-continue");
    let (_, thread) = stopped_at(&mut adapter, 4);
    // Between hits there is nothing: a step goes to the next one.
    adapter.request("next", json!({ "threadId": thread }));
    stopped_at(&mut adapter, 5);
    adapter.request("disconnect", json!({}));
    drop(adapter);
    // The recording is there for the next one.
    let (mut adapter, thread) = attached(&place, "kdbg: the replay (CDT GDB)");
    assert_is(&adapter.frames(&thread), &hits[0]);
    adapter.request("disconnect", json!({}));
    drop(adapter);
    replaying.signal(Signal::INT);
    replaying.wait().assert_code(130);
    place.assert_nothing_left();
}
