//! What plain GDB prints at a stop, and its comparison with what a report says of the same stop.

use std::fmt::{Debug, Write as _};
use std::path::Path;

use serde_json::Value;

use super::printed::{Look, Printed, without_low_symbols};

/// Stops on all kinds of stacks: system calls, softirqs below them, timer interrupts, faults; in inlined functions, and where
/// functions return.
pub(crate) const RECIPE: &str = "name: plain-gdb
kernel: { version: '6.1' }
probes:
  - { name: connect, at: tcp_v4_connect, show: { addr_len: addr_len, sk->__sk_common.skc_state: sk->__sk_common.skc_state } }
  - { name: connected, at: 'return: tcp_v4_connect' }
  - { name: sent, at: __ip_queue_xmit, limit: 8, show: { skb->len: skb->len, '*fl': '*fl' } }
  - { name: device, at: dev_hard_start_xmit, limit: 10 }
  - { name: received, at: ip_rcv, limit: 8, show: { '*skb': '*skb' } }
  - { name: inlined, at: NF_HOOK, limit: 1 }
  - { name: inlined too, at: dst_output, limit: 1 }
  - { name: segment, at: tcp_v4_rcv, limit: 10 }
  - { name: request, at: tcp_conn_request }
  - { name: child, at: tcp_v4_syn_recv_sock }
  - { name: made, at: 'return: tcp_v4_syn_recv_sock' }
  - { name: state, at: tcp_rcv_state_process, limit: 4 }
  - { name: readable, at: sock_def_readable, limit: 2 }
  - { name: reset, at: tcp_v4_send_reset }
  - { name: unreachable, at: __icmp_send }
  - { name: timer, at: hrtimer_interrupt, limit: 2 }
  - { name: fault, at: handle_mm_fault, limit: 2 }
  - { name: fork, at: copy_process, limit: 1 }
  - { name: opened, at: do_sys_openat2, limit: 1 }
  - { name: ended, at: do_exit, limit: 1 }
trigger:
  - { name: a closed port, run: for each in 1 2 3 4 5; do nc 127.0.0.1 9 < /dev/null; done, exit: 1, timeout: 60s }
  - name: a line to a server
    timeout: 60s
    run: |
      nc -l -p 8080 > /tmp/line &
      until netstat -ltn | grep -q :8080; do sleep 0.05; done
      echo hello | nc 127.0.0.1 8080
  - { name: a closed UDP port, run: nslookup kernel.org 127.0.0.1, exit: 1, timeout: 60s }
";

/// How many stops and values of a kernel are compared at least, and how many of the stacks kdbg reads without GDB: those on a
/// path on which there were two before.
pub(crate) const STOPS: usize = 20;
pub(crate) const WITHOUT_GDB: usize = 10;
pub(crate) const VALUES: usize = 3000;

/// What the plain GDB does when it has connected to `SOCKET`, and what it does to come to the next stop. Python is only the loop.
pub(crate) fn script(on: &str) -> String {
    let mut text = String::new();
    for setting in [
        "print elements 64",
        "print repeats 16",
        "print max-depth 4",
        "print null-stop on",
        "print frame-arguments all",
        "print entry-values if-needed",
        "print sevenbit-strings on",
        "charset ASCII",
        "width 0",
    ] {
        writeln!(text, "set {setting}").unwrap();
    }
    text.push_str("target remote SOCKET\n");
    for at in recipe_values("at: ").filter(|at| !at.starts_with('\'')) {
        writeln!(text, "break {at}").unwrap();
    }
    text.push_str(LABELS);
    text.push_str("def look():\n    labels()\n    for what in 'args', 'locals':\n        print('== ' + what)\n");
    text.push_str("        gdb.execute('frame apply all -s info ' + what)\n");
    let shown = RECIPE.lines().filter_map(|line| line.split_once("show: { ")).flat_map(|(_, list)| {
        let list = list.trim_end_matches(" }").split(", ");
        list.map(|entry| entry.split_once(": ").unwrap().0.trim_matches('\''))
    });
    for expression in shown.chain(["jiffies_64", "(int)$rax", "(void *)$rax"]) {
        writeln!(text, "    try: print('= {expression}\\t' + gdb.execute('output {expression}', to_string=True))")
            .unwrap();
        text.push_str("    except gdb.error: pass\n");
    }
    text.push_str(on);
    text
}

/// Labels without an address are among what GDB prints as locals; they have a type of GDB's own.
const LABELS: &str = "python
def labels():
    frame = gdb.newest_frame()
    while frame is not None:
        try:
            block = frame.block()
        except RuntimeError:
            block = None
        while block is not None:
            for symbol in block:
                if symbol.type is not None and symbol.type.name == '__CORE_ADDR':
                    print('== label ' + symbol.name)
            block = None if block.function else block.superblock
        frame = frame.older()
";

/// GDB steps off a breakpoint before it goes on, but the guest runs when kdbg lets it: so none is where it stands.
pub(crate) const LOOP: &str = "
def leave():
    here = int(gdb.parse_and_eval('(unsigned long)$pc'))
    for each in gdb.breakpoints():
        each.enabled = all(location.address != here for location in each.locations)
    gdb.execute('continue')
try:
    while True:
        print('== stop')
        look()
        print('== on')
        leave()
except gdb.error as error:
    print('== end: %s' % error)
end
";

/// What stands behind this key in the probes of the recipe.
fn recipe_values(key: &str) -> impl Iterator<Item = &'static str> {
    let rests = RECIPE.lines().filter_map(move |line| Some(line.split_once(key)?.1));
    rests.map(|rest| rest.split([',', '}']).next().unwrap().trim())
}

/// What was compared, and where the two differ.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    pub(crate) stops: usize,
    /// Stacks that kdbg has read itself.
    pub(crate) without_gdb: usize,
    pub(crate) frames: usize,
    pub(crate) values: usize,
    not_set_yet: usize,
    /// Frames that only kdbg has.
    beyond: usize,
    pub(crate) differences: Vec<String>,
}

impl Comparison {
    pub(crate) fn of(report: &Value, looks: &[Look]) -> Comparison {
        let mut all = Comparison::default();
        // No two probes of the recipe share a place, and where a function is entered whose return is waited for there is one.
        let hits = list(&report["hits"]);
        all.same("hits", &hits.len(), &looks.len());
        hits.iter().zip(looks).for_each(|(hit, look)| all.hit(hit, look));
        all
    }

    fn hit(&mut self, hit: &Value, look: &Look) {
        self.stops += 1;
        self.without_gdb += usize::from(hit["cost"]["stack"] == "kdbg");
        let of = format!("hit {} ({})", hit["index"], hit["probe"].as_str().unwrap());
        let jiffies = look.value("jiffies_64").and_then(|value| value.parse().ok());
        self.same(&format!("{of} jiffies"), &hit["jiffies"].as_u64(), &jiffies);
        let frames = list(&hit["frames"]);
        let known = look.known();
        self.beyond += frames.len().saturating_sub(known.len());
        for (frame, printed) in frames.iter().zip(known) {
            let of = format!("{of} #{} {}", frame["level"], frame["symbol"].as_str().unwrap());
            self.frame(&of, frame, printed, &look.labels);
        }
        for var in list(&hit["shown"]) {
            let name = var["name"].as_str().unwrap();
            self.value(&format!("{of} shows {name}"), var, look.value(name).unwrap_or("<nothing>"));
        }
        let returned = &hit["returned"];
        if let Some(type_name) = returned["type"].as_str() {
            let register = if type_name.ends_with('*') { "(void *)$rax" } else { "(int)$rax" };
            let printed = look.value(register).unwrap();
            self.value(&format!("{of} returns"), returned, printed.trim_start_matches("(void *) "));
        }
    }

    fn frame(&mut self, of: &str, frame: &Value, printed: &Printed, labels: &[String]) {
        self.frames += 1;
        self.same(of, &frame["symbol"].as_str(), &Some(&printed.function));
        if let Some(address) = &printed.address {
            self.same(of, &frame["address"].as_str().map(number), &Some(number(address)));
        }
        // At its first instruction it is the function's declaration.
        if frame["offset"] != 0 {
            let place = frame["line"].as_u64().map(|line| format!("{}:{line}", frame["file"].as_str().unwrap()));
            let same = match (&place, &printed.place) {
                (Some(place), Some(printed)) => Path::new(printed).ends_with(place),
                (place, printed) => place == printed,
            };
            if !same {
                self.differences.push(format!("{of}: is at {place:?}, plain GDB says {:?}", printed.place));
            }
        }
        self.variables(&format!("{of} argument"), list(&frame["args"]), &printed.args, &[]);
        let (hidden, locals): (Vec<_>, Vec<_>) =
            printed.locals.iter().cloned().partition(|(name, _)| name.starts_with("__") || name.ends_with("__"));
        let kept = hidden.iter().filter(|(_, value)| value != "<optimized out>").count() as u64;
        if !(kept..=hidden.len() as u64).contains(&frame["hidden"].as_u64().unwrap()) {
            self.differences.push(format!("{of}: {} hidden, plain GDB has {hidden:?}", frame["hidden"]));
        }
        self.variables(&format!("{of} local"), list(&frame["locals"]), &locals, labels);
    }

    fn variables(&mut self, of: &str, vars: &[Value], printed: &[(String, String)], labels: &[String]) {
        let mut left = vars.iter().peekable();
        for (name, value) in printed {
            let lost = value == "<optimized out>";
            let ours = left.peek().copied();
            if ours.is_some_and(|var| var["name"] == name.as_str() && (!lost || var["available"] == false)) {
                self.value(&format!("{of} {name}"), left.next().unwrap(), value);
            } else if !lost || !labels.contains(name) {
                let ours = ours.map(|var| var["name"].to_string());
                self.differences.push(format!("{of}: {ours:?}, plain GDB has {name} = {value}"));
            }
        }
        left.for_each(|var| self.differences.push(format!("{of} {} is kdbg's only", var["name"])));
    }

    fn value(&mut self, of: &str, var: &Value, printed: &str) {
        let printed = without_low_symbols(printed);
        match (var["why"].as_str(), var["value"].as_str()) {
            (Some("not set yet"), _) => {
                self.not_set_yet += 1;
                return;
            }
            (Some("optimized out"), _) => self.same(of, &"<optimized out>", &printed.as_str()),
            (Some(_), _) if printed.starts_with("<error: ") => {}
            (_, value) => self.same(of, &value, &Some(&printed)),
        }
        self.values += 1;
    }

    fn same<T: PartialEq + Debug>(&mut self, of: &str, ours: &T, theirs: &T) {
        if ours != theirs {
            self.differences.push(format!("{of}: {ours:?}, plain GDB says {theirs:?}"));
        }
    }
}

fn number(text: &str) -> u64 {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}
