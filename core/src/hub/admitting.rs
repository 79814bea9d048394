//! Whether a new connection may stay: what counts it, and against which limits.

use super::{
    Hub,
    types::{Backlog, ConnId},
    visitors::{Visitors, Who},
};
use crate::reason::Reason;

impl Hub {
    /// Why a new connection may not stay, if so.
    pub(super) fn admission(&mut self, id: ConnId) -> Option<Reason> {
        if let Some(reason) = self.lacks_room() {
            return Some(reason);
        }
        // What hubs tell each other of their connections is a turn old, so that two could admit the last one at the same
        // time; the home of everyone knows.
        let everyone = (self.env.place.shards > 1).then_some(Who::Everyone);
        let refusal = everyone.and_then(|who| self.enter(id, who));
        refusal.or_else(|| {
            let address = self.connections.get(id)?.ip;
            let who = Visitors::counted_address(&self.env.config.limits, address)?;
            self.enter(id, who)
        })
    }

    /// Why nobody may come in at present, if so.
    pub(super) fn lacks_room(&self) -> Option<Reason> {
        let max = self.env.config.limits.connections.connections_max as u64;
        if self.drain.has_begun() {
            return Some(Reason::Shutdown);
        }
        if self.questions.backlog() == Backlog::All {
            return Some(Reason::Busy);
        }
        (self.peers.open() >= max || self.is_cluster_full()).then_some(Reason::MaxConnections)
    }

    /// Whether all nodes together have as many connections as they may.
    pub(super) fn is_cluster_full(&self) -> bool {
        let max = self.env.config.limits.connections.connections_cluster_max;
        let all = || self.peers.open().saturating_add(self.nodes.connections_elsewhere());
        max.is_some_and(|max| all() >= max)
    }

    /// Counts a connection under its user, if it has one and somebody wants to know.
    pub(super) fn enter_user(&mut self, id: ConnId) -> Option<Reason> {
        let limited = self.env.config.limits.connections.connections_per_user_max.is_some();
        if !limited && !self.tracks() {
            return None;
        }
        let user = self.connections.get(id)?.user()?;
        self.enter(id, Who::User(user))
    }
}
