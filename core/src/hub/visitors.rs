//! Who is here: connections by address and by user. Each address and each user is counted at one hub of the process, its
//! home, so that the limits hold over all shards.

use std::{net::IpAddr, sync::Arc};

use super::{
    Hub,
    quota::{Addresses, network},
    types::{ConnId, Inner, ShardId},
};
use crate::{
    entropy::{KeyedMap, KeyedState},
    limits::Limits,
    reason::Reason,
    time::Now,
};

/// Whom a limit is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Who {
    /// An IPv4 address, or an IPv6 network of 64 bits.
    Address(IpAddr),
    User(Arc<str>),
    Everyone,
}

/// As what a connection was counted, in one byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entered(u8);

impl Entered {
    const ADDRESS: u8 = 1;
    const USER: u8 = 2;
    const EVERYONE: u8 = 4;

    fn add(&mut self, what: u8) {
        self.0 |= what;
    }

    /// Whether it was counted as that; from now on it is not.
    fn take(&mut self, what: u8) -> bool {
        let was = self.0 & what != 0;
        self.0 &= !what;
        was
    }
}

/// The addresses and users that are at home here.
#[derive(Debug)]
pub(crate) struct Visitors {
    rates: Addresses,
    /// TLS handshakes that this hub has carried out: these are not counted at an address's home, whose answer would come
    /// after the work was done.
    handshakes: Addresses,
    /// Open connections. No entry is zero, so there are at most as many as connections, or twice that.
    open: KeyedMap<Who, u32>,
}

impl Visitors {
    pub(crate) fn new(rates: KeyedState, open: KeyedState) -> Self {
        Self {
            rates: Addresses::new(rates),
            handshakes: Addresses::new(rates),
            open: KeyedMap::with_hasher(open),
        }
    }

    /// Whether this address may have one more TLS handshake.
    pub(crate) fn may_shake(&mut self, now: Now, address: IpAddr, limits: &Limits) -> bool {
        self.handshakes.admit(now.mono, address, limits.tls_handshakes_per_minute(), limits)
    }

    /// Counts one more connection, and says why it may not stay, if so. It is counted even then, until it has gone.
    fn enter(&mut self, now: Now, who: Who, limits: &Limits) -> Option<Reason> {
        let too_fast = match who {
            Who::Address(address) => {
                !self.rates.admit(now.mono, address, limits.connections.connects_per_minute, limits)
            }
            Who::User(_) | Who::Everyone => false,
        };
        let all = u32::try_from(limits.connections.connections_max).unwrap_or(u32::MAX);
        let (max, reason) = match who {
            Who::Address(_) => {
                (limits.connections.connections_per_address_max, Reason::AddressConnections)
            }
            Who::User(_) => (limits.connections.connections_per_user_max, Reason::UserConnections),
            Who::Everyone => (Some(all), Reason::MaxConnections),
        };
        let open = self.open.entry(who).or_default();
        *open = open.saturating_add(1);
        if too_fast {
            return Some(Reason::ConnectRate);
        }
        max.is_some_and(|max| *open > max).then_some(reason)
    }

    fn leave(&mut self, who: &Who) {
        if let Some(open) = self.open.get_mut(who) {
            *open = open.saturating_sub(1);
            if *open == 0 {
                self.open.remove(who);
            }
        }
    }

    /// Addresses and users with connections.
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }
}

impl Hub {
    /// Counts a connection where all of them are counted. What hubs tell each other of their connections is a turn old, so
    /// that two could admit the last one at the same time; the home of everyone knows.
    pub(crate) fn enter_everyone(&mut self, now: Now, id: ConnId) -> Option<Reason> {
        if self.place.shards < 2 {
            return None;
        }
        self.conns.get_mut(id.index)?.entered.add(Entered::EVERYONE);
        self.enter(now, id, Who::Everyone)
    }

    /// Counts a connection under its address. A reason if it may not stay; from another hub that comes later, by
    /// [`Inner::Evict`].
    pub(crate) fn enter_address(&mut self, now: Now, id: ConnId) -> Option<Reason> {
        let limits = &self.config.limits;
        let address = network(self.conn(id)?.ip);
        let limited = limits.connections.connects_per_minute.is_some()
            || limits.connections.connections_per_address_max.is_some();
        if !limited || (address.is_loopback() && !limits.connections.connects_limit_loopback) {
            return None;
        }
        self.conns.get_mut(id.index)?.entered.add(Entered::ADDRESS);
        self.enter(now, id, Who::Address(address))
    }

    /// Counts a connection under its user, if it has one.
    pub(crate) fn enter_user(&mut self, now: Now, id: ConnId) -> Option<Reason> {
        self.config.limits.connections.connections_per_user_max?;
        let conn = self.conns.get_mut(id.index)?;
        let user = conn.user()?;
        conn.entered.add(Entered::USER);
        self.enter(now, id, Who::User(user))
    }

    fn enter(&mut self, now: Now, conn: ConnId, who: Who) -> Option<Reason> {
        let home = self.home_of(&who);
        if home == self.place.shard {
            return self.visitors.enter(now, who, &self.config.limits);
        }
        if self.credits.is_full(home) {
            // Connections that come and go would otherwise be told to a hub that does not listen, without end.
            let entered = self.conns.get_mut(conn.index).map(|conn| &mut conn.entered)?;
            entered.take(match who {
                Who::Address(_) => Entered::ADDRESS,
                Who::User(_) => Entered::USER,
                Who::Everyone => Entered::EVERYONE,
            });
            return Some(Reason::Busy);
        }
        self.tell(now, home, Inner::Enter { who, conn });
        None
    }

    /// A connection of another hub came.
    pub(crate) fn on_enter(&mut self, now: Now, who: Who, conn: ConnId) {
        if let Some(reason) = self.visitors.enter(now, who, &self.config.limits) {
            self.tell(now, conn.shard, Inner::Evict { conn, reason });
        }
    }

    /// Another hub says that a connection of this one may not stay.
    pub(crate) fn on_evict(&mut self, now: Now, conn: ConnId, reason: Reason) {
        if self.conn(conn).is_some() {
            self.close(now, conn, reason);
        }
    }

    /// A connection has ended.
    pub(crate) fn leave(&mut self, now: Now, id: ConnId) {
        let Some((conn, _)) = self.conn_mut(id) else { return };
        let counted = conn.entered.take(Entered::ADDRESS);
        let address = counted.then(|| Who::Address(network(conn.ip)));
        let everyone = conn.entered.take(Entered::EVERYONE).then_some(Who::Everyone);
        self.exit(now, everyone);
        self.exit(now, address);
        self.leave_as_user(now, id);
    }

    /// A connection has ended, or has another user from now on.
    pub(crate) fn leave_as_user(&mut self, now: Now, id: ConnId) {
        let Some((conn, _)) = self.conn_mut(id) else { return };
        let counted = conn.entered.take(Entered::USER);
        let user = conn.user().filter(|_| counted).map(Who::User);
        self.exit(now, user);
    }

    fn exit(&mut self, now: Now, who: Option<Who>) {
        let Some(who) = who else { return };
        self.tell(now, self.home_of(&who), Inner::Exit { who });
    }

    pub(crate) fn on_exit(&mut self, who: &Who) {
        self.visitors.leave(who);
    }

    fn home_of(&self, who: &Who) -> ShardId {
        self.homes.placement().home_of(who)
    }
}
