//! A look inside for tests that drive whole hubs: what is held, never what it says.

use super::{
    Hub,
    types::{ConnId, ShardId},
};

/// How much of everything a hub holds.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Sockets of any kind.
    pub sockets: usize,
    /// WebSocket connections that count.
    pub open: u32,
    /// Channels with subscribers here, or with subscriptions that wait.
    pub channels: usize,
    /// Channels that are at home here.
    pub homes: usize,
    /// Questions to the application.
    pub questions: usize,
    /// Publishes that wait for other hubs.
    pub publishes: usize,
    /// Addresses and users that are counted here.
    pub visitors: usize,
    /// Publishes that were carried out and are not answered yet, because a hub takes nothing in.
    pub withheld: usize,
    /// Entries of the timer heap.
    pub timers: usize,
}

impl Hub {
    /// What is held.
    #[doc(hidden)]
    #[must_use]
    pub fn holdings(&self) -> Holdings {
        Holdings {
            sockets: self.conns.len(),
            open: self.own_census().open,
            channels: self.channels.len(),
            homes: self.homes.len(),
            questions: self.questions.len(),
            publishes: self.publishes.len(),
            visitors: self.visitors.len(),
            withheld: self.credits.withheld(),
            timers: self.armed_timers(),
        }
    }

    /// Bytes in a connection's outbox: all, and those that its peer asked for.
    #[doc(hidden)]
    #[must_use]
    pub fn queued(&self, conn: ConnId) -> Option<(usize, usize)> {
        self.conn(conn).map(|found| (found.ws.outbox().bytes(), found.ws.outbox().own_bytes()))
    }

    /// Bytes sent to another hub and not given back, and bytes of it that are done with and not given back.
    #[doc(hidden)]
    #[must_use]
    pub fn credit(&self, with: ShardId) -> (usize, usize) {
        self.credits.with(with)
    }

    /// Subscriptions of a connection.
    #[doc(hidden)]
    #[must_use]
    pub fn subscriptions(&self, conn: ConnId) -> usize {
        self.conn(conn).map_or(0, |found| found.subscriptions.len())
    }
}
