//! What differs between two runs of one recipe, as JSON pointers into `report.json`. Pure.
//!
//! Times of the host, ports and paths of it are known by their place. Of the values that the kernel's variables have, those
//! are marked that hold an address of memory which the guest allocates, or a time, as far as number and name tell.

use serde_json::Value;

use super::model::{Hit, Report, Var};

/// Where the kernel's half of the addresses begins, and where its own image does.
const ALLOCATED: std::ops::Range<u64> = 0xffff_8000_0000_0000..0xffff_ffff_8000_0000;
/// A number so near to the hit's jiffies, in ticks, is a time.
const NEAR: u64 = 600_000;
/// What is in the name of a time, and of what the kernel makes of the time.
const TIMES: [&str; 3] = ["time", "stamp", "jiffies"];
/// Whole words of such names.
const TIME_WORDS: [&str; 7] = ["expires", "ns", "seq", "isn", "tsval", "tsecr", "rtt"];

/// What of a decoded object the kernel makes of the time.
const DECODED: [&str; 9] = ["seq", "ack", "snd_una", "snd_nxt", "rcv_nxt", "srtt", "ip id", "pid", "tgid"];

/// Names of arguments that are processes' numbers.
const NUMBERED: [&str; 4] = ["pid", "tgid", "upid", "which"];

/// The places whose values differ from run to run, in the order of the report.
pub fn pointers(report: &Report) -> Vec<String> {
    let mut places = Vec::new();
    if report.kernel.is_some() {
        places.push("/kernel/vmlinux".into());
    }
    let forwards = report.machine.iter().flat_map(|machine| &machine.forwards);
    places.extend(forwards.enumerate().map(|(index, _)| format!("/machine/forwards/{index}/host")));
    // What calls a function in the background does so for as long as the host lets the guest run.
    let counted = report.probes.iter().enumerate().filter(|(_, probe)| probe.counted.is_some());
    places.extend(counted.map(|(index, _)| format!("/probes/{index}/counted")));
    for (index, hit) in report.hits.iter().enumerate() {
        of_hit(hit, &format!("/hits/{index}"), &mut places);
    }
    places.extend((0..report.trigger.len()).map(|index| format!("/trigger/{index}/duration_ms")));
    places.extend((0..report.captured.len()).map(|index| format!("/captured/{index}/packets")));
    places.extend(["/timings".into(), "/volatile".into()]);
    places
}

fn of_hit(hit: &Hit, at: &str, places: &mut Vec<String>) {
    of_roots(hit, at, places);
    let mut of_vars = |vars: &[Var], at: String| {
        let marked = vars.iter().enumerate().filter(|(_, var)| is_volatile(var, hit.jiffies));
        places.extend(marked.map(|(index, _)| format!("{at}/{index}/value")));
    };
    for (level, frame) in hit.frames.iter().enumerate() {
        of_vars(&frame.args, format!("{at}/frames/{level}/args"));
        of_vars(&frame.locals, format!("{at}/frames/{level}/locals"));
    }
    of_vars(&hit.shown, format!("{at}/shown"));
    of_vars(&hit.arguments, format!("{at}/arguments"));
    if let Some(changed) = &hit.changed {
        let values = [("old", &changed.old), ("new", &changed.new)];
        let marked = values.into_iter().filter(|(_, value)| says_a_place_or_time(value, hit.jiffies));
        places.extend(marked.map(|(name, _)| format!("{at}/changed/{name}")));
    }
    for (index, altered) in hit.altered.iter().enumerate() {
        let values = [("before", altered.before.as_ref()), ("after", Some(&altered.after))];
        let is_volatile = |value: &String| says_a_place_or_time(value, hit.jiffies);
        let marked = values.into_iter().filter(|(_, value)| value.is_some_and(is_volatile));
        places.extend(marked.map(|(name, _)| format!("{at}/altered/{index}/{name}")));
    }
    if hit.message.as_ref().is_some_and(|message| says_a_place_or_time(message, hit.jiffies)) {
        places.push(format!("{at}/message"));
    }
    if hit.returned.as_ref().is_some_and(|var| is_volatile(var, hit.jiffies)) {
        places.push(format!("{at}/returned/value"));
    }
    for (index, object) in hit.decoded.iter().enumerate() {
        let at = format!("{at}/decoded/{index}");
        // A segment's line has its numbers in it, and a task's its own.
        if ["seq", "pid"].iter().any(|name| object.fields.contains_key(*name)) || has_chosen_port(&object.summary) {
            places.push(format!("{at}/summary"));
        }
        let marked = |(name, value): &(&String, &String)| DECODED.contains(&name.as_str()) || has_chosen_port(value);
        places.extend(object.fields.iter().filter(marked).map(|(name, _)| format!("{at}/fields/{name}")));
    }
    // When the kernel starts a worker, which takes the next number, depends on the host's time.
    places.extend(["task/pid", "task/tgid", "jiffies", "cost"].map(|name| format!("{at}/{name}")));
}

/// Of the system call and the interrupt that a stack began with.
fn of_roots(hit: &Hit, at: &str, places: &mut Vec<String>) {
    if let Some(call) = &hit.syscall {
        let chosen = |var: &Var| var.value.as_deref().is_some_and(has_chosen_port);
        let marked = |var: &Var| NUMBERED.contains(&var.name.as_str()) || chosen(var);
        let args = call.args.iter().enumerate().filter(|(_, var)| marked(var));
        places.extend(args.map(|(index, _)| format!("{at}/syscall/args/{index}/value")));
        places.extend(call.args.iter().any(marked).then(|| format!("{at}/syscall/text")));
    }
    places.extend(hit.interrupted.as_ref().map(|_| format!("{at}/interrupted")));
}

fn is_volatile(var: &Var, jiffies: Option<u64>) -> bool {
    let Some(value) = &var.value else { return false };
    is_time(&var.name) || says_a_place_or_time(value, jiffies)
}

/// Whether a word of a text is an address of allocated memory, a time or the name of one. Of a structure's value, every
/// member's name and number is a word.
fn says_a_place_or_time(text: &str, jiffies: Option<u64>) -> bool {
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty());
    words.any(|word| match number(word) {
        Some(number) => ALLOCATED.contains(&number) || jiffies.is_some_and(|now| is_near(number, now)),
        None => is_time(word),
    })
}

/// Whether an address has a port that the kernel chose (`net.ipv4.ip_local_port_range`, as it is by default), by the time
/// among other things.
fn has_chosen_port(text: &str) -> bool {
    let after_colon = text.split(':').skip(1);
    let ports = after_colon.map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default());
    ports.filter_map(|port| port.parse::<u16>().ok()).any(|port| (32768..61000).contains(&port))
}

fn number(word: &str) -> Option<u64> {
    match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    }
}

/// Whether a number is of the time at which these were the jiffies, all of them or their lower half.
fn is_near(number: u64, jiffies: u64) -> bool {
    let lower = jiffies & u64::from(u32::MAX);
    [jiffies, lower].into_iter().any(|now| now > 2 * NEAR && number.abs_diff(now) < NEAR)
}

fn is_time(name: &str) -> bool {
    TIMES.iter().any(|part| name.contains(part)) || name.split('_').any(|word| TIME_WORDS.contains(&word))
}

/// Where two reports differ, beyond what either of them marks: pointers in the order of their keys.
pub fn differing(first: &Report, second: &Report) -> serde_json::Result<Vec<String>> {
    let mut values = [serde_json::to_value(first)?, serde_json::to_value(second)?];
    let places: Vec<String> = [first, second].into_iter().flat_map(pointers).collect();
    values.iter_mut().for_each(|value| places.iter().for_each(|place| remove(value, place)));
    let mut found = Vec::new();
    let [first, second] = &values;
    compare([Some(first), Some(second)], String::new(), &mut found);
    Ok(found)
}

/// Removes what is at this place, which is always a key.
fn remove(value: &mut Value, place: &str) {
    if let Some((parent, key)) = place.rsplit_once('/')
        && let Some(object) = value.pointer_mut(parent).and_then(Value::as_object_mut)
    {
        object.remove(key);
    }
}

fn compare(values: [Option<&Value>; 2], at: String, found: &mut Vec<String>) {
    match values {
        [Some(Value::Object(first)), Some(Value::Object(second))] => {
            let new = second.keys().filter(|key| !first.contains_key(*key));
            for key in first.keys().chain(new) {
                let escaped = key.replace('~', "~0").replace('/', "~1");
                compare([first.get(key), second.get(key)], format!("{at}/{escaped}"), found);
            }
        }
        [Some(Value::Array(first)), Some(Value::Array(second))] => {
            for index in 0..first.len().max(second.len()) {
                compare([first.get(index), second.get(index)], format!("{at}/{index}"), found);
            }
        }
        [first, second] if first == second => {}
        _ => found.push(at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{sample, var};

    #[test]
    fn addresses_of_allocated_memory_and_times_are_volatile_and_other_values_are_not() {
        let now = Some(4_294_668_568);
        for (name, value, volatile) in [
            ("skb", "0xffff888000a0c0d0", true),
            ("net", "0xffffffff82a3c500 <init_net>", false),
            ("msg", "0x7fffffffe0d8", false),
            ("len", "40", false),
            ("end", "4294668570", true),
            ("end", "0xfffffbf8", true),
            ("time_limit", "3", true),
            ("rcv_isn", "0x1", true),
            ("nsegs", "1", false),
            ("opts", "{options = 11, mss = 65495, tsval = 7}", true),
            ("list", "{next = 0xffffc90000003e28, prev = 0x0}", true),
            ("opts", "{options = 11, ws = 5 '\\005', mss = 65495}", false),
        ] {
            assert_eq!(is_volatile(&var(name, "", value), now), volatile, "{name} = {value}");
        }
        assert!(!is_volatile(&var("x", "", "40"), Some(41)), "early jiffies are like other numbers");
    }

    #[test]
    fn reports_that_differ_in_volatile_places_only_do_not_differ() {
        let first = sample();
        let mut second = first.clone();
        second.timings.clear();
        second.hits[0].jiffies = Some(1);
        second.trigger[0].duration_ms += 1;
        assert_eq!(differing(&first, &second).unwrap(), [""; 0]);
        second.hits[0].frames[0].line = None;
        second.warnings.push("x".into());
        let places = ["/hits/0/frames/0/line", &format!("/warnings/{}", first.warnings.len())];
        assert_eq!(differing(&first, &second).unwrap(), places);
    }

    #[test]
    fn every_pointer_is_that_of_a_value() {
        let json = serde_json::to_value(sample()).unwrap();
        let places = pointers(&sample());
        assert!(places.len() > 5);
        places.iter().for_each(|place| assert!(json.pointer(place).is_some(), "{place}"));
    }
}
