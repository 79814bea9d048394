//! A store that answers when the script says so, and what it was given to keep.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use mahavishnu_core::{
    hub::{AppendId, StoreCommand},
    protocol::Epoch,
    record,
};

/// What hubs want kept, and what is.
#[derive(Debug, Default)]
pub(super) struct Store {
    /// Appends that are not answered, in order, with their hub.
    waiting: VecDeque<(usize, StoreCommand)>,
    /// Epoch and last number of each channel.
    tops: BTreeMap<Arc<str>, (Epoch, u64)>,
    kept: Kept,
}

/// Offsets of all messages that were ever kept, by their own number.
pub(super) type Kept = BTreeMap<u64, u64>;

impl Store {
    pub(super) fn kept(&self) -> &Kept {
        &self.kept
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// A hub wants something done.
    pub(super) fn take(&mut self, shard: usize, command: StoreCommand) {
        if let StoreCommand::Append { channel, .. } = &command {
            let another = |(_, waits): &(usize, StoreCommand)| match waits {
                StoreCommand::Append { channel: of, .. } => of == channel,
                StoreCommand::Trim { .. }
                | StoreCommand::Forget { .. }
                | StoreCommand::KeepSession { .. }
                | StoreCommand::ForgetSession { .. } => false,
            };
            assert!(!self.waiting.iter().any(another), "two rounds of one channel are under way");
        }
        self.waiting.push_back((shard, command));
    }

    /// Carries out the next append, with what came before it, or fails to. Who is to be told of which.
    pub(super) fn answer(&mut self, keeps: bool) -> Option<(usize, AppendId)> {
        loop {
            match self.waiting.pop_front()? {
                (shard, StoreCommand::Append { id, channel, round, epoch, .. }) => {
                    if keeps {
                        let known = self.tops.get(&channel).filter(|(of, _)| *of == epoch);
                        let top = known.map_or(0, |(_, top)| *top);
                        assert_eq!(round.first, top + 1, "numbers have no holes");
                        let messages = record::decode(&round.records).expect("a record");
                        for (message, offset) in messages.zip(round.first..) {
                            let message = message.expect("a message");
                            let data: serde_json::Value =
                                serde_json::from_str(message.data).expect("JSON");
                            let number = data["n"].as_u64().expect("a number");
                            assert_eq!(self.kept.insert(number, offset), None, "kept twice");
                        }
                        self.tops.insert(channel, (epoch, round.last()));
                    }
                    return Some((shard, id));
                }
                (_, StoreCommand::Forget { channel }) => drop(self.tops.remove(&channel)),
                (
                    _,
                    StoreCommand::Trim { .. }
                    | StoreCommand::KeepSession { .. }
                    | StoreCommand::ForgetSession { .. },
                ) => {}
            }
        }
    }
}
