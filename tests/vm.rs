//! Recipes run for real: a kernel under QEMU, GDB on its stub, and the report held against what the kernel is known to do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;
use support::{HIT, Place, all_slots, in_repository, probes_of_hits, recipe, slot};

// The recipes that come with kdbg

#[test]
fn tcp_reset_shows_the_way_of_the_packet() {
    let report = run_file("tcp-reset");
    let hit = &list(&report["hits"])[0];
    assert_eq!(hit["frames"][0]["symbol"], "tcp_v4_send_reset");
    let way = [
        "tcp_v4_rcv",
        "ip_protocol_deliver_rcu",
        "ip_local_deliver_finish",
        "ip_rcv",
        "process_backlog",
        "net_rx_action",
    ];
    assert_passes(hit, &way);
    assert_eq!((&hit["context"], &hit["cpu"]), (&"softirq".into(), &0.into()));
    let decoded = |kind: &str| list(&hit["decoded"]).iter().find(|object| object["kind"] == kind).unwrap();
    let packet = decoded("sk_buff");
    assert_eq!((&packet["expression"], &packet["fields"]["to"]), (&"skb".into(), &"127.0.0.1:9".into()));
    assert!(packet["summary"].as_str().unwrap().contains(" → 127.0.0.1:9 TCP SYN seq "), "{packet}");
    assert!(packet["summary"].as_str().unwrap().ends_with(" on lo"), "{packet}");
    let client = decoded("sock")["summary"].as_str().unwrap();
    assert!(client.starts_with("TCP TCP_SYN_SENT 127.0.0.1:") && client.ends_with(" → 127.0.0.1:9"), "{client}");
    // On a busy host the guest's softirqs run late, and the kernel leaves them to ksoftirqd.
    match hit["task"]["comm"].as_str().unwrap() {
        "ksoftirqd/0" => assert_whole(hit, "ret_from_fork"),
        comm => {
            assert_eq!(comm, "nc");
            assert_passes(hit, &["net_rx_action", "__sys_connect"]);
            assert_eq!(hit["syscall"]["text"], "connect(3, 127.0.0.1:9)", "{}", hit["syscall"]);
            let names: Vec<&Value> = list(&hit["syscall"]["args"]).iter().map(|arg| &arg["name"]).collect();
            assert_eq!(names, ["fd", "uservaddr", "addrlen"]);
            assert_whole(hit, "entry_SYSCALL_64");
        }
    }
    assert_eq!(hit["task"]["pid"], hit["task"]["tgid"]);
    let sk = &hit["frames"][0]["args"][0];
    assert_eq!(
        (&sk["name"], &sk["type"], &sk["available"]),
        (&"sk".into(), &"const struct sock *".into(), &true.into())
    );
    assert!(sk["value"].as_str().unwrap().starts_with("0x0"), "{sk}");
    assert_eq!((&hit["shown"][0]["name"], &hit["shown"][0]["value"]), (&"destination port".into(), &"9".into()));
    let place = &report["probes"][0]["locations"][0];
    assert_eq!((&place["symbol"], &place["file"]), (&"tcp_v4_send_reset".into(), &"net/ipv4/tcp_ipv4.c".into()));
}

#[test]
fn listen_killed_shows_the_way_of_the_dying_task() {
    let report = run_file("listen-killed");
    let hit = &list(&report["hits"])[0];
    assert_eq!(hit["frames"][0]["symbol"], "tcp_send_active_reset");
    let way = ["inet_child_forget", "inet_csk_listen_stop", "__tcp_close", "sock_close", "__fput", "do_exit"];
    assert_passes(hit, &way);
    assert_whole(hit, "entry_SYSCALL_64");
    assert_eq!((&hit["context"], &hit["task"]["comm"]), (&"process".into(), &"nc".into()));
}

/// Runs a recipe of the repository; checks what every report has, and that what was hidden was counted.
fn run_file(name: &str) -> Value {
    let _slot = slot();
    let place = Place::new();
    let ended = place.start_file(&in_repository(&format!("recipes/{name}.yaml"))).wait();
    place.assert_nothing_left();
    let report = ended.assert_passed();
    assert_shape(&report);
    let log = fs::read_to_string(place.out().join("gdb-mi.log")).unwrap();
    let shown = |frame: &Value| list(&frame["args"]).len() + list(&frame["locals"]).len();
    let accounted: Vec<u64> = frames(&report["hits"][0])
        .iter()
        .map(|frame| shown(frame) as u64 + frame["hidden"].as_u64().unwrap())
        .collect();
    // Of constants, and of what is kept nowhere, MI does not tell: tests/plain_gdb.rs has those.
    let told = told_variables(&log);
    assert!(
        accounted.len() == told.len() && accounted >= told,
        "told is not shown, or counted: {accounted:?} {told:?}"
    );
    for frame in frames(&report["hits"][0]) {
        for var in list(&frame["args"]).iter().chain(list(&frame["locals"])) {
            assert!(var["type"].is_string(), "{} of {} has no type", var["name"], frame["symbol"]);
        }
    }
    let files = report["files"].as_object().unwrap();
    assert!(!files.is_empty());
    for file in files.values() {
        assert!(place.out().join(file.as_str().unwrap()).is_file(), "{file} is named and not there");
    }
    report
}

/// How many variables GDB told of in each frame, in a run of one hit. What it refuses, it tells nothing of.
fn told_variables(log: &str) -> Vec<u64> {
    let asked = log.lines().filter(|line| line.contains("-stack-list-variables") && line.contains("--all-values"));
    let tokens = asked.map(|line| line.trim_start_matches("> ").split_once('-').unwrap().0);
    let answer = |token: &str| log.lines().find_map(|line| line.strip_prefix(&format!("< {token}^done,variables=[")));
    // A quote inside a value is escaped: this is the beginning of a variable and nothing else.
    tokens.map(|token| answer(token).map_or(0, |told| told.matches("{name=\"").count() as u64)).collect()
}

/// Exactly the keys that the design and docs/report.md promise.
fn assert_shape(report: &Value) {
    assert_eq!(report["schema"], 1);
    let hit = &report["hits"][0];
    let frame = &hit["frames"][0];
    let shapes = [
        (
            report,
            "schema recipe outcome error kernel machine probes hits trigger captured incidents expectations timings warnings files volatile",
        ),
        (&report["recipe"], "name about sha256"),
        (&report["kernel"], "version release build_id key vmlinux debuggable"),
        (&report["machine"], "accelerator qemu cpus memory forked"),
        (&report["probes"][0], "name at locations kind hits disarmed counted"),
        (&report["probes"][0]["locations"][0], "address symbol file line inlined cheap"),
        (hit, "index probe cpu task context depth jiffies frames cut shown decoded returned arguments cost"),
        (&hit["task"], "comm pid tgid"),
        (&hit["depth"], "preempt softirqs rcu locks"),
        (&hit["cost"], "stop_us collect_us stack"),
        (frame, "level address symbol offset file line inlined args locals hidden"),
        (&frame["args"][0], "name type value available why lost"),
        (&hit["shown"][0], "name type value available why lost"),
        (&report["trigger"][0], "name exit_code stdout stderr duration_ms timed_out"),
        (&report["expectations"][0], "text passed detail"),
    ];
    for (value, keys) in shapes {
        // Only some stacks begin with a system call, or go through an interrupt.
        let found = value.as_object().unwrap().keys().map(String::as_str);
        let found = found.filter(|key| !["syscall", "interrupted"].contains(key)).collect::<Vec<_>>().join(" ");
        assert_eq!(found, keys);
    }
    let machine = &report["machine"];
    assert_eq!((&machine["accelerator"], &machine["forked"]), (&"tcg".into(), &true.into()));
    let timings = report["timings"].as_object().unwrap();
    assert!(!timings.is_empty() && timings.keys().all(|name| name.ends_with("_ms")), "{timings:?}");
}

/// A hit whose stack was read to its end: every frame is code of the kernel, at a line of its source.
fn assert_whole(hit: &Value, outermost: &str) {
    for (level, frame) in frames(hit).iter().enumerate() {
        assert_eq!(frame["level"], level);
        assert!(frame["address"].as_str().unwrap().starts_with("0xffffffff8"), "{frame}");
        assert!(frame["file"].as_str().is_some_and(|file| !file.starts_with('/')), "{frame}");
        assert!(frame["line"].as_u64().is_some_and(|line| line > 0), "{frame}");
        for var in list(&frame["args"]).iter().chain(list(&frame["locals"])) {
            let whole = match var["available"].as_bool().unwrap() {
                true => var["value"].is_string() && var["why"].is_null(),
                false => var["value"].is_null() && var["why"].is_string(),
            };
            assert!(whole, "{var}");
        }
    }
    assert_eq!(symbols(hit).last(), Some(&outermost), "the outermost frame");
}

/// The stack runs through these functions, in this order.
fn assert_passes(hit: &Value, way: &[&str]) {
    let stack = symbols(hit);
    let mut rest = stack.iter();
    for function in way {
        assert!(rest.any(|symbol| symbol == function), "no {function}, or not in order, in {stack:?}");
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn frames(hit: &Value) -> &[Value] {
    list(&hit["frames"])
}

fn symbols(hit: &Value) -> Vec<&str> {
    frames(hit).iter().map(|frame| frame["symbol"].as_str().unwrap()).collect()
}

// The recipe that the documentation has its readers write

#[test]
fn the_recipe_of_the_documentation_passes() {
    let _slot = slot();
    let page = fs::read_to_string(in_repository("docs/recipe.md")).unwrap();
    let ended = Place::new().run(&recipe_of(&page));
    let report = ended.assert_passed();
    assert_passes(&report["hits"][0], &["__icmp_send", "__udp4_lib_rcv"]);
    assert_eq!(
        (&report["hits"][0]["shown"][0]["name"], report["hits"][0]["task"]["comm"].as_str()),
        (&"length".into(), Some("nslookup"))
    );
}

/// The YAML blocks of the section in which a reader writes a recipe, one after the other.
fn recipe_of(page: &str) -> String {
    let section = page.split("\n## ").find(|section| section.starts_with("Write your own")).unwrap();
    section.split("```yaml\n").skip(1).map(|block| block.split("```").next().unwrap()).collect()
}

// Kernels

#[test]
fn a_kernel_that_is_built_is_found_without_make() {
    drop(slot());
    let place = Place::new();
    place.fake("make", "echo 'make was run'; exit 1");
    let recipe = in_repository("recipes/listen-killed.yaml");
    let ended = place.kdbg(&["build", recipe.to_str().unwrap(), "--json"]).wait();
    place.assert_nothing_left();
    ended.assert_code(0);
    let built: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(built["cached"], true);
    for file in ["vmlinux", "boot_image"] {
        assert!(fs::metadata(built[file].as_str().unwrap()).unwrap().len() > 1 << 20, "{built}");
    }
    assert!(built["release"].as_str().unwrap().starts_with("6.1."), "{built}");
    for (key, length) in [("build_id", 40), ("key", 20)] {
        let text = built[key].as_str().unwrap();
        assert!(text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit()), "{key}: {text}");
    }
    assert!(built["duration_ms"].is_u64(), "{built}");
}

// Runs

#[test]
fn two_runs_at_once_both_pass_and_see_the_same() {
    let _slots = all_slots();
    let places = [Place::new(), Place::new()];
    // A stop in process context: where a softirq runs depends on how busy the host is.
    let file = in_repository("recipes/listen-killed.yaml");
    let running = places.each_ref().map(|place| place.start_file(&file));
    let reports = running.map(|running| running.wait().assert_passed());
    places.iter().for_each(Place::assert_nothing_left);
    let out = places.each_ref().map(|place| place.out().to_str().unwrap().to_string());
    places[0].kdbg(&["diff", &out[0], &out[1]]).wait().assert_code(0);
    let [first, second] = reports.each_ref().map(|report| seen(&report["hits"][0]));
    for (level, pair) in first.iter().zip(&second).enumerate() {
        assert_eq!(pair.0, pair.1, "frame {level}");
    }
    assert_eq!(first.len(), second.len());
}

#[test]
fn a_recipe_over_two_kernels_makes_a_report_each_and_a_matrix() {
    let _slot = slot();
    let place = Place::new();
    let file = in_repository("recipes/listen-killed.yaml");
    let recipe = file.to_str().unwrap();
    let built = place.kdbg(&["build", recipe, "--json"]).wait();
    let built: Value = serde_json::from_str(&built.stdout).unwrap();
    let release = built["release"].as_str().unwrap().to_string();
    // Two names of one kernel: nothing may differ, and nothing has to be built.
    let out = place.out();
    let kernels = ["--kernel", "6.1", "--kernel", &release];
    let run = ["run", recipe, "--accel", "tcg", "--json", "--out", out.to_str().unwrap()];
    let ended = place.kdbg(&[&run[..], &kernels[..]].concat()).wait();
    ended.assert_code(0);
    let matrix: Value = serde_json::from_str(&fs::read_to_string(out.join("matrix.json")).unwrap()).unwrap();
    assert_eq!(list(&matrix["differences"])[0]["same"], true, "{matrix}");
    let runs = list(&matrix["runs"]);
    assert_eq!(runs.iter().map(|run| run["version"].as_str().unwrap()).collect::<Vec<_>>(), ["6.1", &release]);
    for run in runs {
        assert_eq!(
            (&run["outcome"], &run["hits"], &run["release"]),
            (&"passed".into(), &1.into(), &release.clone().into())
        );
        let report = fs::read_to_string(out.join(run["report"].as_str().unwrap())).unwrap();
        assert_shape(&serde_json::from_str(&report).unwrap());
    }
    assert!(fs::read_to_string(out.join("matrix.md")).unwrap().contains("over 2 kernels"));
    place.assert_nothing_left();
}

/// What of a hit is the same in every run: symbols, files, lines and the names of arguments.
fn seen(hit: &Value) -> Vec<(String, Vec<String>)> {
    let place = |frame: &Value| format!("{} {}:{}", frame["symbol"], frame["file"], frame["line"]);
    let names = |frame: &Value| list(&frame["args"]).iter().map(|var| var["name"].to_string()).collect();
    frames(hit).iter().map(|frame| (place(frame), names(frame))).collect()
}

#[test]
fn latest_points_to_the_newest_run() {
    let _slot = slot();
    let place = Place::new();
    let recipe = place.file("test.yaml", "name: quiet\nkernel: { version: '6.1' }\n");
    let runs = place.path().join("runs/quiet");
    let mut before = BTreeSet::new();
    for count in 1..=2 {
        place.kdbg(&["run", recipe.to_str().unwrap(), "--accel", "tcg"]).wait().assert_code(0);
        let newest = fs::canonicalize(runs.join("latest")).unwrap();
        assert!(newest.join("report.json").is_file());
        before.insert(newest);
        assert_eq!(before.len(), count, "`latest` did not move");
        assert_eq!(fs::read_dir(&runs).unwrap().count(), count + 1, "{count} runs and `latest`");
    }
    place.assert_nothing_left();
}

// Probes

#[test]
fn probes_at_one_place_keep_their_own_conditions_and_limits() {
    let _slot = slot();
    let line = line_of("net/ipv4/tcp_ipv4.c", "net = sk ? sock_net(sk)");
    let text = format!(
        "name: test
kernel: {{ version: '6.1' }}
probes:
  - {{ name: limited, at: tcp_v4_send_reset, limit: 2 }}
  - {{ name: never, at: tcp_v4_send_reset, when: sk != 0 }}
  - {{ name: always, at: tcp_v4_send_reset, when: sk == 0 }}
  - {{ name: line, at: 'net/ipv4/tcp_ipv4.c:{line}', stack: 3 }}
trigger:
  - {{ name: three, run: for i in 1 2 3; do nc 127.0.0.1 9 < /dev/null; done, exit: 1 }}
expect:
  - {{ probe: limited, hits: 2 }}
  - {{ probe: never, hits: 0 }}
  - {{ probe: always, hits: 3 }}
  - {{ probe: line, hits: 3 }}
"
    );
    let report = Place::new().run(&text).assert_passed();
    // Once `limited` is disarmed, the others go on.
    let order = ["limited", "always", "line", "limited", "always", "line", "always", "line"];
    assert_eq!(probes_of_hits(&report), order);
    let disarmed: Vec<bool> =
        list(&report["probes"]).iter().map(|probe| probe["disarmed"].as_bool().unwrap()).collect();
    assert_eq!(disarmed, [true, false, false, false]);
    let hits = list(&report["hits"]);
    assert!(
        hits.iter().enumerate().all(|(at, hit)| hit["index"] == at + 1),
        "hits are counted from 1, over all probes"
    );
    assert_eq!(hits[0]["jiffies"], hits[1]["jiffies"], "two probes, one stop");
    let at_line = &hits[2];
    assert_eq!(frames(at_line).len(), 3, "`stack: 3`");
    assert_eq!((&at_line["frames"][0]["line"], symbols(at_line)[0]), (&line.into(), "tcp_v4_send_reset"));
}

/// The number of the only line of the kernel's source file that holds `text`.
fn line_of(file: &str, text: &str) -> usize {
    let place = Place::new();
    let recipe = in_repository("recipes/tcp-reset.yaml");
    let ended = place.kdbg(&["build", recipe.to_str().unwrap(), "--json"]).wait();
    let built: Value = serde_json::from_str(&ended.stdout).unwrap();
    let source = fs::read_to_string(std::path::Path::new(built["source_tree"].as_str().unwrap()).join(file)).unwrap();
    let found: Vec<usize> =
        (1..).zip(source.lines()).filter(|(_, line)| line.contains(text)).map(|(at, _)| at).collect();
    assert_eq!(found.len(), 1, "`{text}` is at lines {found:?} of {file}");
    found[0]
}

#[test]
fn a_probe_on_an_inlined_function_stops_in_all_its_copies() {
    let _slot = slot();
    let text = recipe(&[HIT]).replace("at: tcp_v4_send_reset", "at: NF_HOOK, limit: 6");
    let report = Place::new().run(&text).assert_passed();
    let places = list(&report["probes"][0]["locations"]);
    let holders: BTreeSet<&str> = places.iter().map(|place| place["symbol"].as_str().unwrap()).collect();
    assert!(holders.is_superset(&BTreeSet::from(["ip_rcv", "ip_local_deliver"])), "{holders:?}");
    assert!(places.iter().all(|place| place["inlined"] == true), "{places:?}");
    let hits = list(&report["hits"]);
    let callers: BTreeSet<&str> = hits.iter().map(|hit| symbols(hit)[1]).collect();
    assert!(callers.is_superset(&BTreeSet::from(["ip_rcv", "ip_local_deliver"])), "{callers:?}");
    for hit in hits {
        let innermost = &hit["frames"][0];
        assert_eq!((&innermost["symbol"], &innermost["inlined"]), (&"NF_HOOK".into(), &true.into()));
    }
}

/// A reader of an empty pipe waits inside `wait_event_interruptible_exclusive`, whose temporaries are named here as
/// include/linux/wait.h names them: one `__ret` in the macro, and `__ret`, `__int` and `__wq_entry` in the macro in it.
#[test]
fn temporaries_of_macros_are_counted_and_not_shown() {
    let _slot = slot();
    let step = "{ name: read a pipe, run: (sleep 0.3; echo) | cat }";
    let text = recipe(&[step]).replace("at: tcp_v4_send_reset", "at: prepare_to_wait_event, limit: 8");
    let report = Place::new().run(&text).assert_passed();
    let all_frames = || list(&report["hits"]).iter().flat_map(frames);
    let reader = all_frames().find(|frame| frame["symbol"] == "pipe_read").unwrap();
    let locals: Vec<&str> = list(&reader["locals"]).iter().map(|var| var["name"].as_str().unwrap()).collect();
    assert_eq!(reader["hidden"], 4, "{locals:?}");
    for temporary in ["__ret", "__int", "__wq_entry"] {
        assert!(!locals.contains(&temporary), "{locals:?}");
    }
    for real in ["head", "tail", "was_full", "ret"] {
        assert!(locals.contains(&real), "no {real} in {locals:?}");
    }
}

#[test]
fn a_hit_says_on_which_cpu_it_was() {
    let _slot = slot();
    // Each packet is received on the CPU that sent it.
    let on = |cpu: u32| format!("taskset -c {cpu} nc 127.0.0.1 9 < /dev/null");
    let step = format!("{{ name: hits, run: {}; {}; {}, exit: 1 }}", on(1), on(0), on(1));
    let text = recipe(&[&step]).replace("probes:", "guest: { cpus: 2 }\nprobes:");
    let report = Place::new().run(&text).assert_passed();
    assert_eq!(report["machine"]["cpus"], 2);
    let cpus: Vec<u64> = list(&report["hits"]).iter().map(|hit| hit["cpu"].as_u64().unwrap()).collect();
    assert_eq!(cpus, [1, 0, 1]);
    for hit in list(&report["hits"]) {
        // The kernel may leave the packet to its thread for softirqs: that is the CPU's own too.
        let task = hit["task"]["comm"].as_str().unwrap();
        assert!(task == "nc" || task == format!("ksoftirqd/{}", hit["cpu"]), "{task}");
        assert_eq!(hit["context"], "softirq");
        assert_passes(hit, &["tcp_v4_rcv", "net_rx_action"]);
    }
}

/// The packets of a hit, by their numbers, the innermost one's first.
fn packets_of(hit: &Value) -> Vec<u64> {
    list(&hit["decoded"]).iter().filter_map(|object| object["packet"].as_u64()).collect()
}

#[test]
fn one_packet_has_one_number_from_the_call_that_sends_it_to_the_one_that_receives_it() {
    let _slot = slot();
    let place = Place::new();
    // Two connections: the kernel gives the second one's packets the buffers of the first.
    let recipe = "name: test\nkernel: { version: '6.1' }\nprobes:\n  - { name: connect, at: tcp_connect, stack: 1 }\n  \
                  - { name: sent, at: __tcp_transmit_skb, stack: 1 }\n  - { name: out, at: ip_output, stack: 1 }\n  \
                  - { name: in, at: ip_rcv, stack: 1 }\n  - { name: rst, at: tcp_v4_send_reset, stack: 1 }\ntrigger:\n  \
                  - { name: twice, run: 'nc 127.0.0.1 9 < /dev/null; nc 127.0.0.1 9 < /dev/null', exit: 1 }\n";
    place.file("test.yaml", recipe);
    let report = place.start_file(&place.path().join("test.yaml")).wait().assert_passed();
    place.assert_nothing_left();
    let seen: Vec<(&str, Vec<u64>)> =
        list(&report["hits"]).iter().map(|hit| (hit["probe"].as_str().unwrap(), packets_of(hit))).collect();
    let numbers = |probe: &str| -> Vec<u64> {
        seen.iter().filter(|(name, _)| *name == probe).flat_map(|(_, packets)| packets.clone()).collect()
    };
    let syns = [1, 3];
    assert_eq!(numbers("sent"), syns, "{seen:?}");
    assert_eq!(numbers("rst"), syns, "{seen:?}");
    let all = [1, 2, 3, 4];
    assert_eq!((numbers("out"), numbers("in")), (all.into(), all.into()), "{seen:?}");
    // Before its headers are written, what they are going to say is known.
    let sent = list(&report["hits"]).iter().find(|hit| hit["probe"] == "sent").unwrap();
    let segment = list(&sent["decoded"]).iter().find(|object| object["kind"] == "sk_buff").unwrap();
    assert!(segment["summary"].as_str().unwrap().starts_with("TCP SYN seq "), "{segment}");
}

#[test]
fn a_run_says_before_the_guest_is_there_what_can_be_read_at_a_probe() {
    let _slot = slot();
    let ended = Place::new().run(&recipe(&[HIT]));
    ended.assert_passed();
    let told = ended.stdout.lines().find(|line| line.contains("\"label\":\"probe\"")).unwrap();
    assert!(told.contains("rst at tcp_v4_send_reset") && told.contains("reads sk, skb"), "{told}");
}
