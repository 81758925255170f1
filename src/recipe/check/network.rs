//! What makes no sense below `guest.network`: ports that cannot be forwarded. [`super::topology`] is a file of its own.

use std::collections::BTreeMap;

use super::Checker;
use crate::recipe::network::{NetworkMode, NetworkSpec, Port};

const PATH: &str = "guest.network.forward";

/// Only root may listen below this port.
const UNPRIVILEGED: u16 = 1024;

impl Checker<'_, '_> {
    pub(super) fn network(&mut self, network: &NetworkSpec) {
        if network.mode != NetworkMode::User && !network.forward.is_empty() {
            self.key(PATH, "there is no network card that ports could lead to", "the mode is `none`")
                .help("write `network: { mode: user, forward: … }`");
        }
        let mut owners: BTreeMap<Port, &str> = BTreeMap::new();
        for (name, forward) in &network.forward {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if !(1..=32).contains(&name.len()) || !name.chars().all(plain) {
                self.key(&format!("{PATH}.{name}"), format!("`{name}` cannot name a forwarded port"), "")
                    .help("a name has up to 32 lower-case letters, digits and `-`");
            }
            let Some(host) = forward.host else { continue };
            let at = format!("{PATH}.{name}.host");
            let number = host.number();
            if number < UNPRIVILEGED {
                self.value(&at, format!("port {number} of the host is a privileged one"), "only root may listen there")
                    .help(format!("take one from {UNPRIVILEGED} on, or leave `host` out: a free port is chosen then"));
            }
            if let Some(owner) = owners.insert(host, name) {
                self.value(&at, format!("port {number} of the host leads to `{owner}` too"), "second time")
                    .help("leave `host` out: a free port is chosen then");
            }
        }
        if let Some(topology) = &network.topology {
            self.topology(topology, network.mode == NetworkMode::User);
        }
    }
}
