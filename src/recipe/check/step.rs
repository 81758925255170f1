//! What makes no sense in a step of the trigger: a script that is none, a host that is not there, a client that does not know
//! where to.

use std::collections::BTreeMap;

use super::Checker;
use crate::recipe::network::NetworkSpec;
use crate::recipe::topology::TopologySpec;
use crate::recipe::types::{StepSpec, file_name};
use crate::spelling;

impl Checker<'_, '_> {
    pub(super) fn step(&mut self, path: &str, step: &StepSpec, network: &NetworkSpec) {
        let name = &step.name;
        match (&step.run, &step.to) {
            (None, None) => self
                .value(path, format!("step `{name}` does nothing"), "neither `run` nor `to`")
                .help("`run` is a script for the guest; `to` names a forwarded port that kdbg connects to"),
            (Some(_), Some(_)) => self
                .key(&format!("{path}.to"), format!("step `{name}` has `run` and `to`"), "it can be only one of them")
                .help("`run` is a script for the guest; `to` names a forwarded port that kdbg connects to"),
            (Some(_), None) => self.script(path, step, network.topology.as_ref()),
            (None, Some(to)) => self.client(path, step, to, network),
        }
        if step.timeout.is_zero() {
            self.value(&format!("{path}.timeout"), format!("step `{name}` gets no time"), "must be more than nothing");
        }
    }

    /// Files of the guest that come to lie beside each other.
    pub(super) fn fetched(&mut self, steps: &[StepSpec]) {
        let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
        for (index, step) in steps.iter().enumerate() {
            for (place, file) in step.fetch.iter().enumerate() {
                let at = format!("trigger[{index}].fetch[{place}]");
                let name = file_name(file);
                if !file.starts_with('/') || file.chars().any(char::is_control) || matches!(name, "" | "." | "..") {
                    let message = format!("step `{}`: `{file}` is not the path of a file in the guest", step.name);
                    self.value(&at, message, "").help("write it from the root, like `/tmp/trace.dat`");
                } else if let Some(other) = seen.insert(name, file) {
                    let message = format!("step `{}`: `{other}` comes back as `files/{name}` too", step.name);
                    self.value(&at, message, "second time").help("let one of them have another name in the guest");
                }
            }
        }
    }

    fn script(&mut self, path: &str, step: &StepSpec, topology: Option<&TopologySpec>) {
        let name = &step.name;
        if step.run.as_ref().is_some_and(|run| run.trim().is_empty()) {
            self.value(&format!("{path}.run"), format!("step `{name}` runs nothing"), "a shell script belongs here");
        }
        if !(0..=255).contains(&step.exit) {
            let message = format!("step `{name}`: no program exits with {}", step.exit);
            self.value(&format!("{path}.exit"), message, "must be 0 to 255")
                .help("a program that a signal ends gives 128 + the signal's number");
        }
        let client =
            [("send", step.send.is_some()), ("expect", step.expect.is_some()), ("then", !step.then.is_empty())];
        for (key, _) in client.iter().filter(|(_, is_there)| *is_there) {
            let message = format!("step `{name}`: `{key}` belongs to a step with `to`");
            self.key(&format!("{path}.{key}"), message, "a script does not take it");
        }
        if let Some(host) = &step.on {
            self.step_host(&format!("{path}.on"), name, host, topology);
        }
    }

    /// The host that a script runs on.
    fn step_host(&mut self, at: &str, step: &str, host: &str, topology: Option<&TopologySpec>) {
        let Some(topology) = topology else {
            self.value(at, format!("step `{step}`: there is no host `{host}`"), "the guest has no topology")
                .help("describe its hosts in `guest.network.topology`, or leave `on` out");
            return;
        };
        self.host_is_there(at, host, topology, "");
    }

    fn client(&mut self, path: &str, step: &StepSpec, to: &str, network: &NetworkSpec) {
        let name = &step.name;
        if !network.forward.contains_key(to) {
            let names = || network.forward.keys().map(String::as_str);
            let all = match network.forward.len() {
                0 => "forward one: `guest.network: { mode: user, forward: { web: 8080 } }`".to_owned(),
                _ => format!("the forwarded ports are {}", spelling::listed(names())),
            };
            let help = spelling::did_you_mean(to, names()).map_or(all.clone(), |near| format!("{near}\n{all}"));
            self.value(&format!("{path}.to"), format!("step `{name}`: there is no forwarded port `{to}`"), "")
                .help(help);
        }
        if step.on.is_some() {
            let message = format!("step `{name}` connects from outside the guest");
            self.key(&format!("{path}.on"), message, "it runs on no host of the topology");
        }
        if !(0..=1).contains(&step.exit) {
            let message = format!("step `{name}`: kdbg's client does not end with {}", step.exit);
            self.value(&format!("{path}.exit"), message, "must be 0 or 1")
                .help("0: all that was expected came; 1: the connection ended before that");
        }
        for (index, exchange) in step.exchanges().iter().enumerate() {
            let path = index.checked_sub(1).map_or(path.to_owned(), |index| format!("{path}.then[{index}]"));
            for (key, text) in [("send", &exchange.send), ("expect", &exchange.expect)] {
                if text.as_ref().is_some_and(String::is_empty) {
                    self.value(&format!("{path}.{key}"), format!("step `{name}`: `{key}` is empty"), "leave it out");
                }
            }
        }
    }
}
