//! What a file holds.

use bytes::Bytes;
use mahavishnu_core::hub::{SessionId, StoreEvent, StoredChannel};

/// What was kept by an earlier run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Channels with their rounds, those first that were published to longest ago.
    pub channels: Vec<StoredChannel>,
    /// Sessions by their names.
    pub sessions: Vec<(SessionId, Bytes)>,
    /// The newest of it may have been lost with the machine's memory, so all channels have new epochs. See the
    /// [crate's documentation](crate).
    pub renumbered: bool,
}

impl Contents {
    /// As the hubs are told of it.
    #[must_use]
    pub fn into_events(self) -> Vec<StoreEvent> {
        let sessions = self.sessions.into_iter();
        let sessions = sessions.map(|(session, record)| StoreEvent::Session { session, record });
        self.channels.into_iter().map(StoreEvent::Channel).chain(sessions).collect()
    }

    /// Bytes of messages.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let rounds = self.channels.iter().flat_map(|channel| &channel.rounds);
        rounds.map(|round| round.records.len()).sum()
    }
}
