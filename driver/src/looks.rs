//! What an application asks about channels.

use std::fmt;

use mahavishnu_core::{
    hub::Look,
    protocol::{Epoch, Position},
    reason::Reason,
};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::Value;
use uuid::Uuid;

use crate::{Handle, mailbox::Mail};

/// A channel's document, as [`Handle::state`] tells it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct ChannelState {
    /// Which life of the channel's numbers it is; `None`: there are none.
    #[serde(deserialize_with = "epoch")]
    pub epoch: Option<Epoch>,
    /// Number of the message that the document came with; 0: there is none.
    pub offset: u64,
    /// The document.
    pub state: Option<Value>,
}

impl ChannelState {
    /// Where a subscriber goes on that has this document: `recover` of a subscription.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.epoch.map(|epoch| Position { epoch, offset: self.offset })
    }
}

/// Which messages of a channel's log are wanted: see [`Handle::history`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HistoryRange {
    /// The newest ones.
    Newest,
    /// The newest ones before this number.
    Before(u64),
    /// The oldest ones behind this.
    After(Position),
}

/// A page of a channel's log, as [`Handle::history`] tells it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct History {
    /// Which life of the channel's numbers it is; `None`: there are none.
    #[serde(deserialize_with = "epoch")]
    pub epoch: Option<Epoch>,
    /// Number of the channel's last message.
    pub offset: u64,
    /// The messages, oldest first.
    pub events: Vec<HistoryEvent>,
    /// There are further ones on the side that was asked about.
    pub more: bool,
}

/// A message as it was sent.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct HistoryEvent {
    /// Its id.
    pub id: String,
    /// The event's name.
    pub event: String,
    /// Its data.
    pub data: Value,
    /// When it was published: RFC 3339, in UTC.
    pub timestamp: String,
    /// Its number in the channel.
    pub offset: u64,
}

/// Who is in a channel, as [`Handle::presence`] tells it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Presence {
    /// How many members there are.
    pub count: u64,
    /// The members, in the order of their connections' names.
    #[serde(default)]
    pub members: Vec<PresenceMember>,
    #[serde(default)]
    complete: bool,
}

/// A member of a channel.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct PresenceMember {
    /// The connection, by the name that its welcome gave it.
    pub connection_id: String,
    /// Its user, if it has one.
    pub user_id: Option<String>,
    /// What it says of itself.
    pub info: Option<Value>,
    /// Since when it is a member: RFC 3339, in UTC.
    pub since: String,
}

/// Why a question about a channel was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LookError {
    /// The core refused it: an invalid channel, or [`Reason::NotRecovered`]: the position is of an epoch that has passed, or
    /// beyond the last message.
    Refused(Reason),
    /// The server has stopped.
    Stopped,
}

impl fmt::Display for LookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reason) => f.write_str(reason.row().text),
            Self::Stopped => f.write_str("the server has stopped"),
        }
    }
}

impl std::error::Error for LookError {}

impl Handle {
    /// A channel's document, and where it stands. Who subscribes and recovers from there misses nothing that came after it.
    ///
    /// # Errors
    ///
    /// [`LookError`].
    pub async fn state(&self, channel: &str) -> Result<ChannelState, LookError> {
        self.look(channel, Look::State).await
    }

    /// What is kept of a channel: at most `limit` messages, and so many as one answer to a client may hold.
    ///
    /// # Errors
    ///
    /// [`LookError`].
    pub async fn history(
        &self,
        channel: &str,
        range: HistoryRange,
        limit: u32,
    ) -> Result<History, LookError> {
        let (after, before) = match range {
            HistoryRange::Newest => (None, None),
            HistoryRange::Before(before) => (None, Some(before)),
            HistoryRange::After(after) => (Some(after), None),
        };
        self.look(channel, Look::History { limit, after, before }).await
    }

    /// Who is in a channel that has presence. A long list is asked for in parts, between which members may come and go.
    ///
    /// # Errors
    ///
    /// [`LookError`].
    pub async fn presence(&self, channel: &str) -> Result<Presence, LookError> {
        let (mut members, mut after) = (Vec::new(), None);
        loop {
            let look = Look::Presence { members: true, after };
            let part: Presence = self.look(channel, look).await?;
            members.extend(part.members);
            let last = members.last().map(|member: &PresenceMember| &member.connection_id);
            let last = last.and_then(|id| Uuid::try_parse(id).ok());
            if part.complete || last.is_none() || last == after {
                return Ok(Presence { members, ..part });
            }
            after = last;
        }
    }

    /// How many are in a channel that has presence.
    ///
    /// # Errors
    ///
    /// [`LookError`].
    pub async fn presence_count(&self, channel: &str) -> Result<u64, LookError> {
        let look = Look::Presence { members: false, after: None };
        Ok(self.look::<Presence>(channel, look).await?.count)
    }

    /// Asks the channel's home.
    async fn look<T: DeserializeOwned>(&self, channel: &str, look: Look) -> Result<T, LookError> {
        let (answer, outcome) = async_channel::bounded(1);
        let home = usize::from(self.placement.home(channel).0);
        let mailbox = self.mailboxes.get(home).ok_or(LookError::Stopped)?;
        if !mailbox.send(Mail::Look(channel.into(), look, answer)).await {
            return Err(LookError::Stopped);
        }
        // The answer is dropped with the shard.
        let seen = outcome.recv().await.map_err(|_| LookError::Stopped)?;
        let json = seen.map_err(LookError::Refused)?;
        // The core writes what is read here.
        serde_json::from_slice(&json).map_err(|_| LookError::Refused(Reason::Internal))
    }
}

fn epoch<'de, D: Deserializer<'de>>(json: D) -> Result<Option<Epoch>, D::Error> {
    let text = Option::<String>::deserialize(json)?;
    let read =
        |text: String| Epoch::parse(&text).ok_or_else(|| serde::de::Error::custom("not an epoch"));
    text.map(read).transpose()
}
