//! Rates: messages per connection, new connections per address.

use std::{collections::VecDeque, net::IpAddr, time::Duration};

use crate::{
    entropy::{KeyedMap, KeyedState},
    limits::Limits,
    time::{Instant, Tick},
};

/// A token bucket in one number: when it will be full again (the generic cell rate algorithm).
///
/// Equivalent to a bucket of `burst` tokens, full at start, that gains one token each `interval`.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::hub) struct Bucket {
    /// `None`: full.
    full_at: Option<Instant>,
}

impl Bucket {
    /// Takes one token, or says how long until there is one.
    pub(in crate::hub) fn take(
        &mut self,
        now: Instant,
        interval: Duration,
        burst: u32,
    ) -> Result<(), Duration> {
        let full_at = self.full_at.map_or(now, |at| at.max(now));
        let room = interval * burst.saturating_sub(1);
        let debt = full_at.duration_since(now);
        if debt > room {
            return Err(debt - room);
        }
        self.full_at = Some(full_at + interval);
        Ok(())
    }

    /// Whether the bucket is full, so that forgetting it changes nothing.
    fn is_full(&self, now: Instant) -> bool {
        self.full_at.is_none_or(|at| at <= now)
    }
}

/// A connection's bucket of messages.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::hub) struct Allowance {
    full_at: Option<Tick>,
}

impl Allowance {
    /// Takes one message's token under `limits`; `start` is the hub's.
    pub(in crate::hub) fn take(
        &mut self,
        start: Instant,
        now: Instant,
        limits: &Limits,
    ) -> Result<(), Duration> {
        let Some(rate) = limits.connections.messages_per_second.filter(|rate| *rate > 0) else {
            return Ok(());
        };
        let mut bucket = Bucket { full_at: self.full_at.map(|at| at.instant(start)) };
        let taken =
            bucket.take(now, Duration::from_secs(1) / rate, limits.connections.messages_burst);
        self.full_at = bucket.full_at.map(|at| Tick::new(start, at));
        taken
    }
}

/// Connections or handshakes by address: how many a minute.
#[derive(Debug)]
pub(in crate::hub) struct Addresses {
    buckets: KeyedMap<IpAddr, Bucket>,
    /// Addresses in the order in which they were first seen: who is forgotten first.
    order: VecDeque<IpAddr>,
}

impl Addresses {
    pub(in crate::hub) fn new(keys: KeyedState) -> Self {
        Self { buckets: KeyedMap::with_hasher(keys), order: VecDeque::new() }
    }

    /// Whether one more from `address` is within `rate` a minute.
    pub(in crate::hub) fn admit(
        &mut self,
        now: Instant,
        address: IpAddr,
        rate: Option<u32>,
        limits: &Limits,
    ) -> bool {
        let Some(rate) = rate.filter(|rate| *rate > 0) else { return true };
        let address = network(address);
        if is_exempt(address, limits) {
            return true;
        }
        if !self.buckets.contains_key(&address) {
            self.forget(now, limits.connections.addresses_max);
            self.order.push_back(address);
        }
        let bucket = self.buckets.entry(address).or_default();
        bucket.take(now, Duration::from_secs(60) / rate, rate).is_ok()
    }

    /// Makes room: drops the oldest addresses whose buckets are full again, and one more if it has to.
    fn forget(&mut self, now: Instant, max: usize) {
        for _ in 0..2 {
            let full = self
                .order
                .front()
                .and_then(|oldest| self.buckets.get(oldest))
                .is_some_and(|b| b.is_full(now));
            if !full && self.order.len() < max {
                break;
            }
            if let Some(oldest) = self.order.pop_front() {
                self.buckets.remove(&oldest);
            }
        }
    }
}

/// Whether no limit by address is about it: this machine's unless they shall be, and whoever has none.
pub(in crate::hub) fn is_exempt(address: IpAddr, limits: &Limits) -> bool {
    let loopback = address.is_loopback() && !limits.connections.connects_limit_loopback;
    loopback || address.is_unspecified()
}

/// What counts as one address: an IPv4 address, or an IPv6 network of 64 bits, which one host usually has to itself.
pub(in crate::hub) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(std::net::Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4_or_loopback @ (IpAddr::V4(_) | IpAddr::V6(_)) => v4_or_loopback,
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
mod tests {
    use super::*;
    use crate::entropy::{Entropy, Seed};

    #[test]
    fn a_bucket_gives_its_burst_then_its_rate() {
        let now = Instant::now();
        let (interval, mut bucket) = (Duration::from_millis(10), Bucket::default());
        let burst = (0..200).filter(|_| bucket.take(now, interval, 150).is_ok()).count();
        let wait = bucket.take(now, interval, 150).unwrap_err();
        assert_eq!(burst, 150);
        assert_eq!(wait, interval);
        assert!(bucket.take(now + wait, interval, 150).is_ok());
        assert!(bucket.take(now + wait, interval, 150).is_err());
        assert_eq!(
            (0..200)
                .filter(|_| bucket.take(now + Duration::from_secs(9), interval, 150).is_ok())
                .count(),
            150
        );
    }

    const RATE: Option<u32> = Some(3);

    fn addresses() -> (Addresses, Instant, Limits) {
        let keys = Entropy::new(Seed::from(1)).hash_keys();
        (Addresses::new(keys), Instant::now(), Limits::default())
    }

    #[test]
    fn an_address_has_its_rate_and_others_theirs() {
        let (mut addresses, now, limits) = addresses();
        let (a, b) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        assert_eq!((0..9).filter(|_| addresses.admit(now, a, RATE, &limits)).count(), 3);
        assert!(addresses.admit(now, b, RATE, &limits));
        assert!(addresses.admit(now + Duration::from_secs(20), a, RATE, &limits));
    }

    #[test]
    fn loopback_is_exempt_unless_told_otherwise() {
        let (mut addresses, now, mut limits) = addresses();
        let me = IpAddr::from([127, 0, 0, 1]);
        assert_eq!((0..9).filter(|_| addresses.admit(now, me, RATE, &limits)).count(), 9);
        limits.connections.connects_limit_loopback = true;
        assert_eq!((0..9).filter(|_| addresses.admit(now, me, RATE, &limits)).count(), 3);
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let (mut addresses, now, limits) = addresses();
        let in_net = |n: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, n]);
        assert_eq!((0..9).filter(|n| addresses.admit(now, in_net(*n), RATE, &limits)).count(), 3);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut addresses, now, mut limits) = addresses();
        limits.connections.addresses_max = 10;
        for n in 0..=255 {
            addresses.admit(now, IpAddr::from([192, 0, 2, n]), RATE, &limits);
        }
        assert!(addresses.buckets.len() <= 10 && addresses.order.len() == addresses.buckets.len());
    }
}
