//! What replicas are told.

use std::time::Duration;

use crate::{command, data::Data, server::Redis, store::Effect};

/// What one command has changed on a primary: replicas get all of it or nothing.
#[derive(Clone, Debug)]
pub struct Written(Vec<Effect>);

impl Redis {
    /// What was changed and published since this was last asked, for replicas.
    pub fn take_written(&mut self) -> Vec<Written> {
        std::mem::take(&mut self.written).into_iter().map(Written).collect()
    }

    /// It is a replica from now on, or a primary, with the data that it has. Connections stay.
    pub fn set_replica(&mut self, replica: bool) {
        self.store.replica = replica;
    }

    /// It has these data from now on, and no others, as a replica after a full synchronisation.
    pub fn set_data(&mut self, data: Data) {
        self.store.data = data;
    }

    /// It takes no writes but those of its primary.
    pub fn is_replica(&self) -> bool {
        self.store.replica
    }

    /// A replica is told by its primary. Those who listen to the replica hear what was published.
    pub fn apply(&mut self, now: Duration, written: &Written) {
        self.store.clock.set(now);
        self.store.applying = true;
        for Effect { database, words } in &written.0 {
            let command = command::find(&words[0]).expect("what a primary executed");
            // A replica that was written to on its own may refuse, as Redis' does.
            let _ = command.run(&mut self.store, *database, words);
        }
        self.store.applying = false;
        let messages = std::mem::take(&mut self.store.messages);
        self.deliver(&messages, |_| true);
    }
}
