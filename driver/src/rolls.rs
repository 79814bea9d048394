//! Who is there and in which channels, as an application asks.

use std::sync::Arc;

use mahavishnu_core::hub::{ChannelInfo, ConnectionInfo, Handled, Roll, RollPage};

use crate::{Handle, LookError, direct::ask, mailbox::About};

/// A part of a list, as [`Handle::connections`] and its like tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listed<T> {
    /// Connections or channels, in the order of their places. What is there all the while is listed once, what comes or goes
    /// while the parts are asked for at most once.
    pub items: Vec<T>,
    /// How many there are, listed or not.
    pub total: u64,
    /// Where the next part begins; `None`: this was the last one.
    pub next: Option<Cursor>,
}

/// A place in a list: from [`Listed::next`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    shard: usize,
    after: Option<u32>,
}

impl Handle {
    /// The connections that were welcomed and have not ended, on all shards of this server: at most `limit` of them, and
    /// never more than 1,000, behind `after`; with none, only their number.
    ///
    /// ```no_run
    /// # async fn example(handle: mahavishnu_driver::Handle) -> Result<(), mahavishnu_driver::LookError> {
    /// let mut after = None;
    /// loop {
    ///     let part = handle.connections(100, after).await?;
    ///     for one in &part.items {
    ///         println!("{} {:?} {}", one.connection_id, one.user, one.peer);
    ///     }
    ///     after = part.next;
    ///     if after.is_none() {
    ///         break;
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`LookError::Stopped`].
    pub async fn connections(
        &self,
        limit: u32,
        after: Option<Cursor>,
    ) -> Result<Listed<ConnectionInfo>, LookError> {
        self.part(&Roll::Connections, limit, after, |page| page.connections).await
    }

    /// Those of a user: `sub` or `user_id` of their tokens.
    ///
    /// # Errors
    ///
    /// [`LookError::Stopped`].
    pub async fn connections_of(
        &self,
        user: &str,
        limit: u32,
        after: Option<Cursor>,
    ) -> Result<Listed<ConnectionInfo>, LookError> {
        let user: Arc<str> = user.into();
        self.part(&Roll::User(user), limit, after, |page| page.connections).await
    }

    /// Those that subscribe to a channel.
    ///
    /// # Errors
    ///
    /// [`LookError`]; refused for [`InvalidChannel`](mahavishnu_core::reason::Reason::InvalidChannel).
    pub async fn subscribers(
        &self,
        channel: &str,
        limit: u32,
        after: Option<Cursor>,
    ) -> Result<Listed<ConnectionInfo>, LookError> {
        self.part(&Roll::Subscribers(channel.into()), limit, after, |page| page.connections).await
    }

    /// The channels that somebody subscribes to at this server, and how many do.
    ///
    /// # Errors
    ///
    /// [`LookError::Stopped`].
    pub async fn channels(
        &self,
        limit: u32,
        after: Option<Cursor>,
    ) -> Result<Listed<ChannelInfo>, LookError> {
        self.part(&Roll::Channels, limit, after, |page| page.channels).await
    }

    /// One shard after the other, as far as the limit goes; the others only count.
    async fn part<T>(
        &self,
        of: &Roll,
        limit: u32,
        after: Option<Cursor>,
        items_of: fn(RollPage) -> Vec<T>,
    ) -> Result<Listed<T>, LookError> {
        let limit = limit.min(RollPage::MAX) as usize;
        let from = after.map_or(0, |cursor| cursor.shard);
        let mut listed = Listed { items: Vec::new(), total: 0, next: None };
        for (shard, mailbox) in self.mailboxes.iter().enumerate() {
            let begun = after.filter(|cursor| cursor.shard == shard);
            let room =
                if shard < from || listed.next.is_some() { 0 } else { limit - listed.items.len() };
            let after = begun.and_then(|cursor| cursor.after);
            let about = About::List { of: of.clone(), limit: room as u32, after };
            let handled = ask(mailbox, about).await.ok_or(LookError::Stopped)?;
            let Handled::Listed(page) = handled.map_err(LookError::Refused)? else { continue };
            listed.total += page.total;
            if shard < from || listed.next.is_some() {
                continue;
            }
            if page.next.is_some() {
                listed.next = Some(Cursor { shard, after: page.next });
            } else if room == 0 && page.total > 0 {
                listed.next = Some(Cursor { shard, after });
            }
            listed.items.extend(items_of(*page));
        }
        // Who wants none is told how many there are, and is done.
        listed.next = listed.next.filter(|_| limit > 0);
        Ok(listed)
    }
}
