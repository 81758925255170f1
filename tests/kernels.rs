//! Runs on other kernels than the one that `cargo xtask setup` builds: another version, a distribution's, one that is
//! partly debuggable and has a module, one with netfilter for the image `net`, and one that traces and watches itself. Each is
//! built or fetched by the first run that finds it missing from the cache, which takes minutes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use object::{Object, ObjectSymbol, SymbolKind};
use serde_json::Value;
use support::{Ended, HIT, Place, in_repository, obtain, probes_of_hits, slot};

/// How long a run may take.
const LIMIT: Duration = Duration::from_secs(600);

/// Runs a recipe on the kernel that these arguments choose; none, said, where this machine cannot get it.
fn run(recipe: &Path, kernel: &[&str]) -> Option<Value> {
    obtain::kernel(recipe, kernel)?;
    let place = Place::new();
    let recipe = recipe.to_str().unwrap();
    let _slot = slot();
    let out = place.out();
    let line = [&["run", recipe, "--json", "--accel", "tcg", "--out", out.to_str().unwrap()], kernel].concat();
    let ended = place.kdbg(&line).wait_within(LIMIT);
    place.assert_nothing_left();
    Some(ended.assert_passed())
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

#[test]
fn the_matrix_of_6_1_and_6_12_says_that_who_sends_a_reset_gives_a_reason() {
    for (name, function) in [("tcp-reset", "tcp_v4_send_reset"), ("listen-killed", "tcp_send_active_reset")] {
        let file = in_repository(&format!("recipes/{name}.yaml"));
        let kernels = ["6.1", "6.12"];
        if kernels.iter().any(|version| obtain::kernel(&file, &["--kernel", version]).is_none()) {
            return;
        }
        let place = Place::new();
        let _slot = slot();
        let (recipe, out) = (file.to_str().unwrap(), place.out());
        let line = ["run", recipe, "--accel", "tcg", "--json", "--out", out.to_str().unwrap()];
        let [first, second] = kernels;
        let ended = place.kdbg(&[&line[..], &["--kernel", first, "--kernel", second]].concat()).wait_within(LIMIT);
        place.assert_nothing_left();
        ended.assert_code(0);
        let matrix: Value = serde_json::from_str(&fs::read_to_string(out.join("matrix.json")).unwrap()).unwrap();
        for (run, version) in list(&matrix["runs"]).iter().zip(kernels) {
            assert!(run["release"].as_str().unwrap().starts_with(&format!("{version}.")), "{run}");
        }
        let probes = list(&matrix["differences"][0]["probes"]).iter();
        let frames: Vec<&Value> = probes
            .flat_map(|probe| list(&probe["pairs"]))
            .flat_map(|pair| list(&pair["frames"]))
            .filter(|row| row["symbol"] == function)
            .collect();
        let reason = |change: &&Value| {
            let value = change["values"][1].as_str().unwrap_or_default();
            change["what"].as_str().unwrap().contains("reason")
                && change["values"][0].is_null()
                && value.starts_with("enum sk_rst_reason")
                && value.contains("SK_RST_REASON_")
        };
        let gained = frames.iter().flat_map(|row| list(&row["changes"])).find(reason);
        assert!(gained.is_some(), "{name}: {function}: {frames:?}");
        let page = fs::read_to_string(out.join("matrix.md")).unwrap();
        assert!(page.contains("+ argument reason: enum sk_rst_reason = SK_RST_REASON_"), "{page}");
    }
}

#[test]
fn the_recipes_hold_on_a_distributions_kernel() {
    for name in ["tcp-reset", "listen-killed"] {
        let kernel = ["--kernel", "linux-image-cloud-amd64"];
        let Some(report) = run(&in_repository(&format!("recipes/{name}.yaml")), &kernel) else { return };
        assert!(report["kernel"]["release"].as_str().unwrap().ends_with("-cloud-amd64"), "{}", report["kernel"]);
        // That kernel has no frame pointers, and its debug information ends where the softirq's stack does.
        let hit = &report["hits"][0];
        let path: Vec<&str> = list(&hit["frames"]).iter().map(|frame| frame["symbol"].as_str().unwrap()).collect();
        assert_eq!((path.last(), &hit["cut"]), (Some(&"entry_SYSCALL_64"), &Value::Null), "{path:?}");
        assert!(path.contains(&if name == "tcp-reset" { "tcp_connect" } else { "do_exit" }), "{path:?}");
    }
}

/// Stops in connection tracking, which is a module of Debian's kernels: its hooks are on once it is loaded like this.
fn conntrack(modules: &str, steps: &str) -> String {
    format!(
        "name: conntrack
kernel: {{ package: linux-image-cloud-amd64, modules: {modules} }}
probes:
  - {{ name: resize, at: nf_conntrack_hash_resize }}
  - {{ name: seen, at: nf_conntrack_in, limit: 3, show: {{ length: skb->len }} }}
trigger:
{steps}
  - {{ name: load it with its hooks, run: modprobe nf_conntrack enable_hooks=1 }}
  - {{ name: connect to a closed port, run: nc 127.0.0.1 9 < /dev/null, exit: 1 }}
  - name: warn as the kernel would
    run: |
      printf '%s\\n' 'WARNING: CPU: 0 PID: 1 at x' 'Call Trace:' ' <TASK>' ' nf_conntrack_in+0x5/0x600 [nf_conntrack]' \\
        ' ? tcp_connect+0x5/0xc00' ' </TASK>' '---[ end trace 0 ]---' |
        while IFS= read -r line; do echo \"<4>$line\" > /dev/kmsg; done
"
    )
}

#[test]
fn a_probe_in_a_distributions_module_stops_whether_it_was_armed_before_the_module_was_loaded_or_after() {
    let later = conntrack("{ available: [nf_conntrack] }", "");
    let resize = "  - { name: resize, run: echo 1024 > /sys/module/nf_conntrack/parameters/hashsize }";
    let at_boot = conntrack("[nf_conntrack]", &format!("{resize}\n  - {{ name: unload, run: rmmod nf_conntrack }}"));
    for (recipe, probes) in [(later, &["seen"; 3][..]), (at_boot, &["resize", "seen", "seen", "seen"])] {
        let place = Place::new();
        let Some(report) = run(&place.file("conntrack.yaml", &recipe), &[]) else { return };
        assert_eq!(probes_of_hits(&report), probes);
        for hit in list(&report["hits"]) {
            let innermost = &hit["frames"][0];
            let file = innermost["file"].as_str().unwrap();
            assert_eq!((file, &innermost["offset"]), ("net/netfilter/nf_conntrack_core.c", &0.into()), "{hit}");
        }
        // A stack that the kernel printed has files and lines too, in the module and outside.
        let stack = list(&report["incidents"][0]["stack"]).iter().map(|call| (&call["symbol"], &call["file"]));
        let [first, second] = stack.collect::<Vec<_>>().try_into().unwrap();
        assert_eq!(first, (&"nf_conntrack_in".into(), &"net/netfilter/nf_conntrack_core.c".into()));
        assert_eq!(second, (&"tcp_connect".into(), &"net/ipv4/tcp_output.c".into()));
        // The SYN on its way out: the stack goes on from the module into the kernel, and the argument is that packet.
        let first = list(&report["hits"]).iter().find(|hit| hit["probe"] == "seen").unwrap();
        assert!(list(&first["frames"]).iter().any(|frame| frame["symbol"] == "tcp_connect"), "{first}");
        assert_eq!(first["shown"][0]["value"], "60");
    }
}

#[test]
fn the_network_tools_work_on_a_kernel_with_netfilter() {
    let recipe = in_repository("tests/tools.yaml");
    if obtain::packages(&recipe) {
        run(&recipe, &[]);
    }
}

/// A kernel that is partly debuggable and has a module.
const DEBUGGABLE: &str = "name: debuggable
kernel:
  version: '6.1'
  options: { MODULES: y, DUMMY: m }
  debuggable: [net/]
  modules: { available: [dummy] }
";

/// Stops in vmlinux, and in a module that the trigger loads.
const STOPS: &str = "probes:
  - { name: rst, at: tcp_v4_send_reset }
  - { name: setup, at: dummy_setup }
trigger:
  - { name: connect to a closed port, run: nc 127.0.0.1 9 < /dev/null, exit: 1 }
  - { name: load the module, run: modprobe dummy }
expect:
  - { probe: rst, hits: 1, through: [tcp_v4_rcv, ip_rcv, net_rx_action], where: { sk: \"NULL\" } }
  - { probe: setup, hits: 1, through: [dummy_init_module, do_init_module] }
";

#[test]
fn the_tracing_tools_see_the_resets_that_a_probe_sees() {
    let (recipe, place) = (in_repository("tests/trace.yaml"), Place::new());
    if !obtain::packages(&recipe) {
        return;
    }
    obtain::kernel(&recipe, &[]).expect("a kernel of the version that all tests have");
    let (recipe, out) = (recipe.to_str().unwrap(), place.out());
    let _slot = slot();
    // Booted: a saved guest of this size is not worth its place in the cache.
    let line = ["run", recipe, "--cold", "--accel", "tcg", "--out", out.to_str().unwrap()];
    place.kdbg(&line).wait_within(LIMIT).assert_passed();
}

/// A run of tests/trace.yaml's kernel, which LKDTM makes hang after a hit.
fn hang(cpus: u32, crash: &str, sysctl: &str) -> Ended {
    let recipe = fs::read_to_string(in_repository("tests/trace.yaml")).unwrap();
    let kernel = recipe.lines().find(|line| line.starts_with("kernel:")).unwrap();
    let place = Place::new();
    let file = place.file("kernel.yaml", &format!("name: test\n{kernel}\n"));
    obtain::kernel(&file, &[]).expect("a kernel of the version that all tests have");
    let _slot = slot();
    place.run(&format!(
        "name: test\n{kernel}\nguest: {{ cpus: {cpus} }}\nprobes:\n  - {{ name: rst, at: tcp_v4_send_reset }}\ntrigger:\n  \
         - {HIT}\n  - {{ name: hang, timeout: 5m, \
         run: 'sysctl -w kernel.{sysctl}; echo {crash} > /sys/kernel/debug/provoke-crash/DIRECT' }}\n"
    ))
}

/// The incident that ended the run, and the place of this function in its stack.
#[track_caller]
fn assert_incident(ended: &Ended, kind: &str, says: [&str; 2], function: &str) {
    let report = ended.assert_error(5, "guest", &[says[0], says[1], function]);
    assert_eq!(probes_of_hits(&report), ["rst"]);
    let incident = &report["incidents"][0];
    assert_eq!((&incident["kind"], &incident["step"]), (&kind.into(), &"hang".into()), "{ended}");
    let call = list(&incident["stack"]).iter().find(|call| call["symbol"] == function).unwrap();
    assert_eq!((&call["file"], &call["certain"]), (&"drivers/misc/lkdtm/bugs.c".into(), &true.into()), "{ended}");
    assert!(call["line"].is_u64(), "{ended}");
}

#[test]
fn a_task_that_hangs_ends_the_run_with_its_stack() {
    let ended = hang(1, "HUNG_TASK", "hung_task_timeout_secs=1");
    assert_incident(
        &ended,
        "hung_task",
        ["a task of the guest hangs", "blocked for more than 1 seconds"],
        "lkdtm_HUNG_TASK",
    );
}

#[test]
fn a_cpu_that_is_stuck_ends_the_run_with_its_stack() {
    // Two CPUs: the clock of one counts instructions, and QEMU executes few of a loop that pauses.
    let ended = hang(2, "SOFTLOCKUP", "watchdog_thresh=1");
    assert_incident(&ended, "soft_lockup", ["a CPU of the guest is stuck", "soft lockup - CPU#"], "lkdtm_SOFTLOCKUP");
}

#[test]
fn nearly_every_value_is_readable_in_a_debuggable_kernel_and_its_module_is_followed() {
    let place = Place::new();
    let Some(report) = run(&place.file("debuggable.yaml", &format!("{DEBUGGABLE}{STOPS}")), &[]) else { return };
    let [rst, setup] = list(&report["hits"]) else { panic!("{}", report["hits"]) };
    for kind in ["args", "locals"] {
        let values: Vec<&Value> = list(&rst["frames"]).iter().flat_map(|frame| list(&frame[kind])).collect();
        let count = |wanted: &dyn Fn(&Value) -> bool| values.iter().filter(|value| wanted(value)).count();
        let (readable, unset) =
            (count(&|value| value["available"] == true), count(&|value| value["why"] == "not set yet"));
        // Plain -O2 has about two thirds; the bound is what the project promises.
        assert!(
            readable * 100 >= (values.len() - unset) * 85,
            "{kind}: {readable} of {} ({unset} unset)",
            values.len()
        );
    }
    let frame = &setup["frames"][0];
    assert_eq!((&frame["symbol"], &frame["file"]), (&"dummy_setup".into(), &"drivers/net/dummy.c".into()));
    let place = &report["probes"][1]["locations"][0];
    assert_eq!((&place["symbol"], &place["inlined"]), (&"dummy_setup".into(), &false.into()));
    let counts = &report["kernel"]["debuggable"];
    assert!(counts["o0"].as_u64().unwrap() > 100, "{counts}");
    assert_eq!((&counts["unused"], &counts["marks_unset"]), (&serde_json::json!([]), &true.into()));
}

/// Functions of net/ that the trigger passes through, with two, three and five arguments, all pointers or 32 bits wide.
const PASSED: [&str; 3] = ["tcp_v4_send_reset", "ip_protocol_deliver_rcu", "__tcp_transmit_skb"];
/// Where a caller puts the first arguments (System V ABI, AMD64).
const REGISTERS: [&str; 6] = ["rdi", "rsi", "rdx", "rcx", "r8", "r9"];

#[test]
fn the_arguments_at_o0_are_what_the_caller_passed() {
    let place = Place::new();
    let Some(built) = obtain::kernel(&place.file("kernel.yaml", DEBUGGABLE), &[]) else { return };
    let starts = addresses(Path::new(built["vmlinux"].as_str().unwrap()));
    let shown: Vec<String> = REGISTERS.iter().map(|name| format!("{name}: (unsigned long)${name}")).collect();
    let shown = shown.join(", ");
    let mut recipe = format!("{DEBUGGABLE}probes:\n");
    for name in PASSED {
        recipe.push_str(&format!("  - {{ name: {name}, at: {name}, limit: 1 }}\n"));
        let entry = format!("name: enter {name}, at: '*{:#x}', limit: 1, show: {{ {shown} }}", starts[name]);
        recipe.push_str(&format!("  - {{ {entry} }}\n"));
    }
    recipe.push_str(&format!("trigger:\n  - {HIT}\n"));
    let Some(report) = run(&place.file("debuggable.yaml", &recipe), &[]) else { return };
    let hit = |probe: &str| list(&report["hits"]).iter().find(|hit| hit["probe"] == probe).unwrap();
    for name in PASSED {
        let args = list(&hit(name)["frames"][0]["args"]);
        let shown = list(&hit(&format!("enter {name}"))["shown"]);
        assert!(args.len() >= 2 && args.len() <= REGISTERS.len(), "{name}: {args:?}");
        for (arg, register) in args.iter().zip(REGISTERS) {
            let register = shown.iter().find(|var| var["name"] == register).unwrap();
            let mask = if arg["type"].as_str().unwrap().ends_with('*') { u64::MAX } else { u32::MAX.into() };
            assert_eq!(number(arg) & mask, number(register) & mask, "{name}: {arg} in {register}");
        }
    }
}

/// The functions of an ELF file.
fn addresses(path: &Path) -> BTreeMap<String, u64> {
    let data = fs::read(path).unwrap();
    let file = object::File::parse(&*data).unwrap();
    let functions = file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text);
    functions.map(|symbol| (symbol.name().unwrap().to_owned(), symbol.address())).collect()
}

/// The number that a variable's value begins with.
#[track_caller]
fn number(var: &Value) -> u64 {
    let text = var["value"].as_str().unwrap_or_else(|| panic!("no value: {var}"));
    let first = text.split(' ').next().unwrap();
    match first.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).unwrap(),
        None => first.parse::<i64>().map_or_else(|_| first.parse().unwrap(), i64::cast_unsigned),
    }
}
