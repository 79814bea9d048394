//! What goes to the bus, in order, and the names of what is answered.

use std::collections::VecDeque;

use super::command::{BusCommand, CallId};

/// Commands of this hub that its driver has not taken yet.
#[derive(Debug, Default)]
pub(in crate::hub) struct Calls {
    last_id: u64,
    commands: VecDeque<BusCommand>,
}

impl Calls {
    /// A name for a command that is answered.
    pub(in crate::hub) fn name(&mut self) -> CallId {
        self.last_id += 1;
        CallId(self.last_id)
    }

    pub(in crate::hub) fn send(&mut self, command: BusCommand) {
        self.commands.push_back(command);
    }

    pub(in crate::hub) fn next(&mut self) -> Option<BusCommand> {
        self.commands.pop_front()
    }
}
