//! What a store told a hub, as a trace has it.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    hub::{AppendId, SessionId, StoreEvent, StoredChannel, StoredRound, StoredState},
    protocol::Epoch,
};

/// A [`StoreEvent`].
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Stored<'a> {
    Appended {
        id: u64,
        kept: bool,
    },
    Channel {
        #[serde(borrow)]
        channel: &'a str,
        #[serde(borrow)]
        epoch: Cow<'a, str>,
        top: u64,
        /// First number, count and records of each.
        #[serde(borrow)]
        rounds: Vec<(u64, u32, &'a [u8])>,
        #[serde(borrow)]
        state: Option<(u64, &'a [u8])>,
    },
    Session {
        session: u128,
        #[serde(borrow)]
        record: &'a [u8],
    },
}

impl<'a> Stored<'a> {
    pub(super) fn of(event: &'a StoreEvent) -> Self {
        match event {
            StoreEvent::Appended { id, kept } => Self::Appended { id: id.0, kept: *kept },
            StoreEvent::Channel(stored) => {
                let StoredChannel { channel, epoch, top, rounds, state } = stored;
                let round = |round: &'a StoredRound| (round.first, round.count, &*round.records);
                Self::Channel {
                    channel,
                    epoch: epoch.as_str().into(),
                    top: *top,
                    rounds: rounds.iter().map(round).collect(),
                    state: state.as_ref().map(|state| (state.offset, &*state.document)),
                }
            }
            StoreEvent::Session { session, record } => Self::Session { session: session.0, record },
        }
    }

    /// `None`: no hub was ever told this.
    pub(super) fn to_event(&self) -> Option<StoreEvent> {
        Some(match self {
            Self::Appended { id, kept } => StoreEvent::Appended { id: AppendId(*id), kept: *kept },
            Self::Channel { channel, epoch, top, rounds, state } => {
                let round = |&(first, count, records): &(u64, u32, &[u8])| StoredRound {
                    first,
                    count,
                    records: Bytes::copy_from_slice(records),
                };
                StoreEvent::Channel(StoredChannel {
                    channel: (*channel).into(),
                    epoch: Epoch::parse(epoch)?,
                    top: *top,
                    rounds: rounds.iter().map(round).collect(),
                    state: state.map(|(offset, document)| StoredState {
                        offset,
                        document: Bytes::copy_from_slice(document),
                    }),
                })
            }
            Self::Session { session, record } => StoreEvent::Session {
                session: SessionId(*session),
                record: Bytes::copy_from_slice(record),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_store_told_reads_back() {
        let round = |first| StoredRound { first, count: 2, records: vec![1, 2].into() };
        for event in [
            StoreEvent::Appended { id: AppendId(7), kept: true },
            StoreEvent::Session { session: SessionId(1 << 100), record: vec![3].into() },
            StoreEvent::Channel(StoredChannel {
                channel: "c".into(),
                epoch: Epoch::from_random(5),
                top: 4,
                rounds: vec![round(1), round(3)],
                state: Some(StoredState { offset: 3, document: "{}".into() }),
            }),
        ] {
            let bytes = postcard::to_allocvec(&Stored::of(&event)).unwrap();
            let read: Stored<'_> = postcard::from_bytes(&bytes).unwrap();
            assert_eq!(read.to_event(), Some(event));
        }
    }
}
