//! Who is there, and in which channels: for the application, in parts.

use super::{
    Hub,
    application::{ChannelInfo, ConnectionInfo, Handled, Roll, RollPage},
    types::{CommandId, ConnId},
};
use crate::{protocol, reason::Reason};

impl Hub {
    /// The application wants something listed, at most `limit` of it behind the place `after`.
    pub(super) fn on_list_command(
        &mut self,
        id: CommandId,
        of: &Roll,
        limit: u32,
        after: Option<u32>,
    ) {
        let limit = limit.min(RollPage::MAX) as usize;
        let page = match of {
            Roll::Connections => Ok(self.list_connections(self.connections.active(), limit, after)),
            Roll::User(user) => {
                Ok(self.list_connections(self.connections.of_user(user), limit, after))
            }
            Roll::Subscribers(channel) => self.list_subscribers(channel, limit, after),
            Roll::Channels => Ok(self.list_channels(limit, after)),
        };
        self.answer_command(Some(id), page.map(|page| Handled::Listed(Box::new(page))));
    }

    fn list_subscribers(
        &self,
        channel: &str,
        limit: usize,
        after: Option<u32>,
    ) -> Result<RollPage, Reason> {
        let max = self.env.config.limits.channels.channel_bytes_max;
        if !protocol::channel_is_valid(channel, max) {
            return Err(Reason::InvalidChannel);
        }
        let places = self.channels.find(channel).map(|index| self.channels.subscribers(index));
        let ids = places.unwrap_or_default().into_iter();
        let ids = ids.filter_map(|index| self.connections.id_at(index)).collect();
        Ok(self.list_connections(ids, limit, after))
    }

    /// `ids` are in the order of their places.
    fn list_connections(&self, ids: Vec<ConnId>, limit: usize, after: Option<u32>) -> RollPage {
        let total = ids.len() as u64;
        let mut rest = ids.into_iter().filter(|id| after.is_none_or(|after| id.index > after));
        let listed: Vec<ConnId> = rest.by_ref().take(limit).collect();
        let last = listed.last().map(|id| id.index);
        let next = if rest.next().is_some() { last } else { None };
        let connections = listed.into_iter().filter_map(|id| self.connection_info(id)).collect();
        RollPage { total, connections, next, ..RollPage::default() }
    }

    fn connection_info(&self, id: ConnId) -> Option<ConnectionInfo> {
        let conn = self.connections.get(id)?;
        Some(ConnectionInfo {
            conn: id,
            connection_id: self.public_name(id),
            user: conn.user(),
            peer: conn.peer(),
            secure: conn.secure,
            channels: u32::try_from(conn.subscriptions.len()).unwrap_or(u32::MAX),
            queued_bytes: conn.ws.outbox().bytes(),
        })
    }

    fn list_channels(&self, limit: usize, after: Option<u32>) -> RollPage {
        let (mut page, mut last) = (RollPage::default(), None);
        for (index, channel, subscribers) in self.homes.heard() {
            page.total += 1;
            if after.is_some_and(|after| index <= after) {
                continue;
            }
            if page.channels.len() < limit {
                last = Some(index);
                page.channels.push(ChannelInfo { channel: channel.clone(), subscribers });
            } else {
                page.next = last;
            }
        }
        page
    }
}
