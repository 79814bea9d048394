//! Who is here: connections by address and by user. Each address and each user is counted at one hub of the process, its
//! home, so that the limits hold over all shards.

mod rates;

use std::{net::IpAddr, sync::Arc};

use self::rates::{Addresses, is_exempt};
pub(super) use self::rates::{Allowance, Bucket, network};
use super::env::Env;
use crate::{
    entropy::{KeyedMap, KeyedState},
    limits::Limits,
    reason::Reason,
};

/// Whom a limit is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Who {
    /// An IPv4 address, or an IPv6 network of 64 bits.
    Address(IpAddr),
    User(Arc<str>),
    Everyone,
}

/// As what a connection was counted, in one byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Entered(u8);

impl Who {
    /// The bit of [`Entered`] that says that a connection was counted as this.
    pub(super) fn bit(&self) -> u8 {
        match self {
            Self::Address(_) => Entered::ADDRESS,
            Self::User(_) => Entered::USER,
            Self::Everyone => Entered::EVERYONE,
        }
    }
}

impl Entered {
    pub(super) const ADDRESS: u8 = 1;
    pub(super) const USER: u8 = 2;
    pub(super) const EVERYONE: u8 = 4;

    pub(super) fn add(&mut self, what: u8) {
        self.0 |= what;
    }

    /// Whether it was counted as that; from now on it is not.
    pub(super) fn take(&mut self, what: u8) -> bool {
        let was = self.0 & what != 0;
        self.0 &= !what;
        was
    }
}

/// The addresses and users that are at home here.
#[derive(Debug)]
pub(super) struct Visitors {
    rates: Addresses,
    /// TLS handshakes that this hub has carried out: these are not counted at an address's home, whose answer would come
    /// after the work was done.
    handshakes: Addresses,
    /// Open connections. No entry is zero, so there are at most as many as connections, or twice that.
    open: KeyedMap<Who, u32>,
}

impl Visitors {
    pub(super) fn new(rates: KeyedState, open: KeyedState) -> Self {
        Self {
            rates: Addresses::new(rates),
            handshakes: Addresses::new(rates),
            open: KeyedMap::with_hasher(open),
        }
    }

    /// Whether this address may have one more TLS handshake.
    pub(super) fn may_handshake(&mut self, env: &Env, address: IpAddr) -> bool {
        let limits = &env.config.limits;
        self.handshakes.admit(env.now.mono, address, limits.tls_handshakes_per_minute(), limits)
    }

    /// As what a connection from this address is counted; `None` if no limit asks for it.
    pub(super) fn counted_address(limits: &Limits, address: IpAddr) -> Option<Who> {
        let address = network(address);
        let limited = limits.connections.connects_per_minute.is_some()
            || limits.connections.connections_per_address_max.is_some();
        let exempt = is_exempt(address, limits);
        (limited && !exempt).then_some(Who::Address(address))
    }

    /// Counts one more connection, and says why it may not stay, if so. It is counted even then, until it has gone.
    pub(super) fn enter(&mut self, env: &Env, who: Who) -> Option<Reason> {
        let limits = &env.config.limits;
        let too_fast = match who {
            Who::Address(address) => !self.rates.admit(
                env.now.mono,
                address,
                limits.connections.connects_per_minute,
                limits,
            ),
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
        *open += 1;
        if too_fast {
            return Some(Reason::ConnectRate);
        }
        max.is_some_and(|max| *open > max).then_some(reason)
    }

    /// One less.
    pub(super) fn leave(&mut self, who: &Who) {
        if let Some(open) = self.open.get_mut(who) {
            *open -= 1;
            if *open == 0 {
                self.open.remove(who);
            }
        }
    }

    /// Addresses and users with connections.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Config,
        hub::testing::{env, keys},
    };

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn one_more_than_the_limit_is_counted_until_it_has_gone() {
        let mut config = Config::default();
        config.limits.connections.connections_per_user_max = Some(1);
        let env = env(config);
        let mut visitors = Visitors::new(keys(), keys());
        let ada = || Who::User("ada".into());

        assert_eq!(visitors.enter(&env, ada()), None);
        assert_eq!(visitors.enter(&env, ada()), Some(Reason::UserConnections));
        visitors.leave(&ada());
        assert_eq!(visitors.enter(&env, ada()), Some(Reason::UserConnections));
        visitors.leave(&ada());
        visitors.leave(&ada());

        assert_eq!((visitors.enter(&env, ada()), visitors.len()), (None, 1));
    }

    #[test]
    fn an_address_is_counted_where_a_limit_asks_for_it() {
        let mut limits = Config::default().limits;
        limits.connections.connects_per_minute = None;
        limits.connections.connections_per_address_max = None;
        assert_eq!(Visitors::counted_address(&limits, HOME), None);

        limits.connections.connections_per_address_max = Some(3);
        assert_eq!(Visitors::counted_address(&limits, HOME), Some(Who::Address(HOME)));
        let me = IpAddr::from([127, 0, 0, 1]);
        assert_eq!(Visitors::counted_address(&limits, me), None, "this machine is exempt");
    }

    #[test]
    fn a_connection_remembers_as_what_it_was_counted() {
        let mut entered = Entered::default();
        entered.add(Who::Everyone.bit());
        entered.add(Who::Address(HOME).bit());
        assert!(entered.take(Entered::ADDRESS) && !entered.take(Entered::ADDRESS));
        assert!(!entered.take(Entered::USER) && entered.take(Entered::EVERYONE));
    }
}
