//! What makes no sense in `guest.network.capture`: interfaces that are not there, one that is named twice, too many.

use std::collections::BTreeSet;

use super::Checker;
use crate::recipe::capture::CaptureSpec;
use crate::recipe::network::NetworkSpec;
use crate::recipe::topology::Endpoint;

const PATH: &str = "guest.network.capture";
/// Each takes a port of the guest, and a virtio-serial device has some 30.
const MOST: usize = 24;

impl Checker<'_, '_> {
    pub(super) fn capture(&mut self, network: &NetworkSpec) {
        let interfaces = network.interfaces();
        match &network.capture {
            CaptureSpec::Everything if interfaces.is_empty() => {
                self.value(PATH, "there is nothing to capture", "the guest has no interface but `lo`")
                    .help("describe a `topology`, or name the one there is: `capture: [root:lo]`");
            }
            CaptureSpec::These(list) => self.captured(list, &interfaces, network),
            CaptureSpec::Everything | CaptureSpec::Nothing => {}
        }
        let count = network.captured().len();
        if count > MOST {
            self.value(PATH, format!("{count} interfaces cannot be captured at once"), format!("{MOST} can"))
                .help("name those that matter");
        }
    }

    fn captured(&mut self, list: &[Endpoint], there: &[Endpoint], network: &NetworkSpec) {
        let topology = network.topology.clone().unwrap_or_default();
        let mut seen = BTreeSet::new();
        for (index, interface) in list.iter().enumerate() {
            let at = format!("{PATH}[{index}]");
            let Endpoint { host, interface: name } = interface;
            if !self.host_is_there(&at, host, &topology, "") {
                continue;
            }
            let of_host = there.iter().filter(|other| other.host == *host).map(|other| other.interface.as_str());
            let of_host = of_host.chain(["lo"]);
            if !of_host.clone().any(|other| other == name) {
                self.no_interface(&at, host, name, of_host);
            } else if !seen.insert(interface) {
                self.value(&at, format!("`{interface}` is captured twice"), "second time");
            }
        }
    }
}
