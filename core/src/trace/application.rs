//! What the application says to connections and asks about them, as a trace has it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Placed;
use crate::hub::{ConnId, Disconnect, Recipient, RetryAdvice, Roll, ShardId};

/// A [`Recipient`].
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum To<'a> {
    Connection(Placed),
    User(#[serde(borrow)] &'a str),
}

impl<'a> To<'a> {
    pub(super) fn of(to: &'a Recipient) -> Self {
        match to {
            Recipient::Connection(conn) => Self::Connection(placed(*conn)),
            Recipient::User(user) => Self::User(user),
        }
    }

    pub(super) fn to_recipient(&self) -> Recipient {
        match self {
            Self::Connection(conn) => Recipient::Connection(conn_of(*conn)),
            Self::User(user) => Recipient::User((*user).into()),
        }
    }
}

/// A [`Disconnect`].
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Words<'a> {
    code: u16,
    #[serde(borrow)]
    text: &'a str,
    /// `None` within: never.
    retry: Option<Option<Duration>>,
    at_once: bool,
}

impl<'a> Words<'a> {
    pub(super) fn of(how: &'a Disconnect) -> Self {
        let Disconnect { code, text, retry, at_once } = how;
        let retry = retry.map(|retry| match retry {
            RetryAdvice::Never => None,
            RetryAdvice::After(time) => Some(time),
        });
        Self { code: *code, text, retry, at_once: *at_once }
    }

    pub(super) fn to_disconnect(&self) -> Disconnect {
        let retry = self.retry.map(|after| after.map_or(RetryAdvice::Never, RetryAdvice::After));
        Disconnect { code: self.code, text: self.text.into(), retry, at_once: self.at_once }
    }
}

/// A [`Roll`].
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Listed<'a> {
    Connections,
    User(#[serde(borrow)] &'a str),
    Subscribers(#[serde(borrow)] &'a str),
    Channels,
}

impl<'a> Listed<'a> {
    pub(super) fn of(roll: &'a Roll) -> Self {
        match roll {
            Roll::Connections => Self::Connections,
            Roll::User(user) => Self::User(user),
            Roll::Subscribers(channel) => Self::Subscribers(channel),
            Roll::Channels => Self::Channels,
        }
    }

    pub(super) fn to_roll(&self) -> Roll {
        match self {
            Self::Connections => Roll::Connections,
            Self::User(user) => Roll::User((*user).into()),
            Self::Subscribers(channel) => Roll::Subscribers((*channel).into()),
            Self::Channels => Roll::Channels,
        }
    }
}

pub(super) fn placed(conn: ConnId) -> Placed {
    (conn.index, conn.generation, conn.shard.0)
}

pub(super) fn conn_of((index, generation, shard): Placed) -> ConnId {
    ConnId { index, generation, shard: ShardId(shard) }
}
