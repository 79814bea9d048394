//! Channels on a bus: what it tells of them, and what becomes of that.

use super::{Hub, bus::BusEvent};

impl Hub {
    /// Something the bus tells.
    pub(super) fn on_bus(&mut self, event: BusEvent) {
        self.hear_of_nodes(&event);
    }
}
