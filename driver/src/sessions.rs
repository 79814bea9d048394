//! What an application asks about sessions that outlive their connection, and how it ends them.

use std::{fmt, time::Duration};

use mahavishnu_core::{
    hub::{self, SessionPage, Whose},
    reason::Reason,
};
use uuid::Uuid;

use crate::{
    Handle,
    mailbox::{Mail, Mailbox},
};

/// How many sessions there are, as [`Handle::sessions`] tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionCounts {
    /// Those that have a connection.
    pub attached: u64,
    /// Those that wait for their client.
    pub detached: u64,
}

/// A session. Its own name, by which it is resumed, is a secret between the server and the client and not told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Session {
    /// The name by which others know the client, as in [`PresenceMember`](crate::PresenceMember): it stays the same however
    /// often the session is resumed.
    pub connection_id: String,
    /// Its user, if it has one.
    pub user_id: Option<String>,
    /// How many channels it is subscribed to.
    pub channels: u32,
    /// How long it waits for its client after the end of a connection.
    pub ttl: Duration,
    /// So long it still waits. `None`: it has a connection.
    pub waits: Option<Duration>,
}

/// The server has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the server has stopped")
    }
}

impl std::error::Error for Stopped {}

impl Handle {
    /// How many sessions there are; of several nodes on this one.
    ///
    /// # Errors
    ///
    /// [`Stopped`].
    pub async fn sessions(&self) -> Result<SessionCounts, Stopped> {
        let mut counts = SessionCounts::default();
        for mailbox in self.mailboxes.iter() {
            let page = page(mailbox, Whose::Everybody, 0, None).await?;
            counts.attached += page.attached;
            counts.detached += page.detached;
        }
        Ok(counts)
    }

    /// The sessions of a user: `sub` or `user_id` of the token with which they were kept. A long list is asked for in parts,
    /// between which sessions may come and go.
    ///
    /// # Errors
    ///
    /// [`Stopped`].
    pub async fn sessions_of(&self, user: &str) -> Result<Vec<Session>, Stopped> {
        self.list(&Whose::User(user.into())).await
    }

    /// The session of the client that others know by this name.
    ///
    /// # Errors
    ///
    /// [`Stopped`].
    pub async fn session(&self, connection_id: &str) -> Result<Option<Session>, Stopped> {
        let Ok(id) = Uuid::try_parse(connection_id) else { return Ok(None) };
        Ok(self.list(&Whose::Client(id)).await?.pop())
    }

    /// Ends all sessions of a user, and says how many: nobody can resume them any more, the store forgets them, and their
    /// clients leave the channels of which they are members. Those that have a connection are closed with 1008 "Disconnected
    /// by the server", a moment later if they are on another shard. Their tokens stay good:
    /// [`revoke`](Self::revoke) is for these, and leaves sessions that wait to their time.
    ///
    /// Of several nodes it is so on all of them, on those that cannot be told now when they are back. Those are counted that
    /// were ended on nodes that have said so in time.
    ///
    /// # Errors
    ///
    /// [`Stopped`].
    pub async fn end_sessions_of(&self, user: &str) -> Result<u64, Stopped> {
        self.end(&Whose::User(user.into())).await
    }

    /// Ends one session, see [`end_sessions_of`](Self::end_sessions_of), by the name by which others know its client.
    /// Whether there was one.
    ///
    /// # Errors
    ///
    /// [`Stopped`].
    pub async fn end_session(&self, connection_id: &str) -> Result<bool, Stopped> {
        let Ok(id) = Uuid::try_parse(connection_id) else { return Ok(false) };
        Ok(self.end(&Whose::Client(id)).await? > 0)
    }

    async fn list(&self, of: &Whose) -> Result<Vec<Session>, Stopped> {
        let mut found = Vec::new();
        for mailbox in self.mailboxes.iter() {
            let mut after = None;
            loop {
                let page = page(mailbox, of.clone(), SessionPage::MAX, after).await?;
                after = page.sessions.last().map(|session| session.connection_id);
                found.extend(page.sessions.into_iter().map(Session::from));
                if page.complete || after.is_none() {
                    break;
                }
            }
        }
        Ok(found)
    }

    async fn end(&self, of: &Whose) -> Result<u64, Stopped> {
        let mut ended = 0;
        for mailbox in self.mailboxes.iter() {
            let (answer, outcome) = async_channel::bounded(1);
            if !mailbox.send(Mail::EndSessions(of.clone(), answer)).await {
                return Err(Stopped);
            }
            // The answer is dropped with the shard.
            let result: Result<_, Reason> = outcome.recv().await.map_err(|_| Stopped)?;
            ended += result.map_or(0, |done| u64::from(done.subscribers));
        }
        Ok(ended)
    }
}

/// What the sessions are of which one shard is the home.
async fn page(
    mailbox: &Mailbox,
    of: Whose,
    limit: u32,
    after: Option<Uuid>,
) -> Result<SessionPage, Stopped> {
    let (answer, outcome) = async_channel::bounded(1);
    if !mailbox.send(Mail::Sessions { of, limit, after, answer }).await {
        return Err(Stopped);
    }
    // The answer is dropped with the shard.
    outcome.recv().await.map_err(|_| Stopped)
}

impl From<hub::SessionInfo> for Session {
    fn from(info: hub::SessionInfo) -> Self {
        let hub::SessionInfo { connection_id, user, channels, ttl, waits } = info;
        Self {
            connection_id: connection_id.to_string(),
            user_id: user.map(|user| user.to_string()),
            channels,
            ttl,
            waits,
        }
    }
}
