//! What a hub and a store tell each other, so that a restart loses nothing: logs of channels, sessions, documents. The store
//! itself is outside; a hub without one keeps the same things in memory only.
//!
//! A driver that has a store carries out each [`Output::Store`](super::Output::Store) in order and tells what became of it by
//! [`Hub::handle_store`](super::Hub::handle_store). Before the first client it tells what the store holds, each channel and
//! session to the hub at which it is at home ([`Placement`](super::Placement)).

use std::sync::Arc;

use bytes::Bytes;

use crate::protocol::Epoch;

/// Names an append until the store has answered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AppendId(pub u64);

/// A session's name: 128 random bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u128);

impl SessionId {
    /// Reads what [`to_text`](Self::to_text) wrote; anything else is no session.
    pub(in crate::hub) fn parse(text: &str) -> Option<Self> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let sound = text.len() == Self::DIGITS && text.bytes().all(is_digit);
        sound.then(|| u128::from_str_radix(text, 16).ok().map(Self)).flatten()
    }

    /// As its client is told it.
    pub(in crate::hub) fn to_text(self) -> String {
        format!("{:032x}", self.0)
    }

    const DIGITS: usize = 32;
}

impl std::fmt::Debug for SessionId {
    /// Whoever knows it may resume the session.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionId(..)")
    }
}

/// What a store is to do. All of one turn may be one transaction; none may overtake another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreCommand {
    /// Keep a round of a channel, and its document if one came with it. Answered by [`StoreEvent::Appended`]: until then
    /// nobody is told of the messages. There is at most one under way for each channel.
    Append {
        /// Names the answer.
        id: AppendId,
        /// The channel.
        channel: Arc<str>,
        /// The messages.
        round: StoredRound,
        /// Which life of the channel's numbers. Rounds of another one are dropped.
        epoch: Epoch,
        /// Messages below this number are no longer kept: rounds that hold no others may be dropped.
        oldest: u64,
        /// The channel's document from now on; `None`: it stays as it is.
        state: Option<StoredState>,
    },
    /// Messages of a channel below a number are no longer kept: rounds that hold no others may be dropped. Not answered.
    Trim {
        /// The channel.
        channel: Arc<str>,
        /// The number of the oldest that is.
        oldest: u64,
    },
    /// Forget a channel: its log, its numbers and its document. Not answered.
    Forget {
        /// The channel.
        channel: Arc<str>,
    },
    /// Keep a session as it is now, in the place of what was known of it. Not answered.
    KeepSession {
        /// Its name.
        session: SessionId,
        /// What the hub will want to know again.
        record: Bytes,
    },
    /// Forget a session. Not answered.
    ForgetSession {
        /// Its name.
        session: SessionId,
    },
}

/// A round as it is stored: consecutive messages of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRound {
    /// Number of the first message.
    pub first: u64,
    /// How many there are, at least one.
    pub count: u32,
    /// The messages, see [`record`](crate::record).
    pub records: Bytes,
}

impl StoredRound {
    /// Number of the last message.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.first + u64::from(self.count.max(1)) - 1
    }
}

/// A channel's document as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredState {
    /// Number of the message that it came with.
    pub offset: u64,
    /// A JSON object, as text.
    pub document: Bytes,
}

/// What a store tells a hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreEvent {
    /// A [`StoreCommand::Append`] is kept, or is not: then the hub counts it as never published.
    Appended {
        /// Which.
        id: AppendId,
        /// Whether it is kept.
        kept: bool,
    },
    /// Before the first client: a channel of an earlier run.
    Channel(StoredChannel),
    /// Before the first client: a session of an earlier run.
    Session {
        /// Its name.
        session: SessionId,
        /// What was kept of it.
        record: Bytes,
    },
}

/// A channel of an earlier run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredChannel {
    /// The channel.
    pub channel: Arc<str>,
    /// The life of its numbers that goes on.
    pub epoch: Epoch,
    /// Number of its last message.
    pub top: u64,
    /// Its rounds, in order, without holes between them.
    pub rounds: Vec<StoredRound>,
    /// Its document.
    pub state: Option<StoredState>,
}
