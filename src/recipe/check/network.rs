//! What makes no sense below `guest.network`.

use super::Checker;
use crate::recipe::network::{NetworkMode, NetworkSpec};

impl Checker<'_, '_> {
    pub(super) fn network(&mut self, network: &NetworkSpec) {
        if let Some(topology) = &network.topology {
            self.topology(topology, network.mode == NetworkMode::User);
        }
    }
}
