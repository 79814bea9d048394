//! Finding Redis: names, addresses, Sentinels, and the pauses between attempts.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use mahavishnu_core::entropy::Entropy;

use super::Action;
use crate::{LinkConfig, LinkLimits, Servers};

/// Where a link looks for Redis next.
#[derive(Debug, Default)]
pub(super) struct Finder {
    /// Who is asked or connected to.
    host: Box<str>,
    /// Where that is; the next one first.
    addresses: VecDeque<SocketAddr>,
    /// Sentinels still to be asked in this attempt, by their place.
    sentinels: VecDeque<usize>,
    /// Which Sentinel is asked at present.
    asked: Option<usize>,
    /// Which one knew last.
    knew: usize,
    /// Attempts in a row that failed.
    failures: u32,
}

impl Finder {
    /// A new attempt.
    pub(super) fn begin(&mut self, config: &LinkConfig) -> Option<Action> {
        self.addresses.clear();
        self.asked = None;
        match &config.servers {
            Servers::Single { host, port } => Some(self.resolve(host, *port)),
            Servers::Sentinel { addresses, .. } => {
                let first = if self.knew < addresses.len() { self.knew } else { 0 };
                let others = (0..addresses.len()).filter(|place| *place != first);
                self.sentinels = std::iter::once(first).chain(others).collect();
                self.next_sentinel(config)
            }
        }
    }

    /// The host has these addresses.
    pub(super) fn resolved(
        &mut self,
        addresses: Vec<SocketAddr>,
        limits: &LinkLimits,
    ) -> Option<Action> {
        self.addresses = addresses.into_iter().take(limits.addresses_max).collect();
        self.next_address()
    }

    /// The Sentinel says where the primary is.
    pub(super) fn told(&mut self, host: &str, port: u16) -> Action {
        if let Some(asked) = self.asked.take() {
            self.knew = asked;
        }
        self.sentinels.clear();
        self.resolve(host, port)
    }

    /// Nothing came of this: where else it may be.
    pub(super) fn next(&mut self, config: &LinkConfig) -> Option<Action> {
        self.next_address().or_else(|| self.next_sentinel(config))
    }

    /// Whether a Sentinel is asked.
    pub(super) fn is_asking(&self) -> bool {
        self.asked.is_some()
    }

    /// Who is asked or connected to.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// How long to wait for the next attempt: not at all the first time, then for a random time below a bound that grows by a
    /// quarter each time. So the bound is about half of the time that has been waited already: a Redis that was away for a
    /// second is found again within half a second more, and not by all links at one moment.
    pub(super) fn pause(&mut self, entropy: &mut Entropy, limits: &LinkLimits) -> Duration {
        let failures = self.failures;
        self.failures = failures.saturating_add(1);
        if failures == 0 {
            return Duration::ZERO;
        }
        let grown = (0..failures.min(BACKOFF_STEPS)).fold(BACKOFF_MIN, |bound, _| bound * 5 / 4);
        let bound = grown.min(limits.backoff_max);
        Duration::from_nanos(entropy.below(u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// It went well for long.
    pub(super) fn forgive(&mut self) {
        self.failures = 0;
    }

    fn next_address(&mut self) -> Option<Action> {
        self.addresses.pop_front().map(|address| Action::Connect { address })
    }

    fn next_sentinel(&mut self, config: &LinkConfig) -> Option<Action> {
        self.asked = None;
        let Servers::Sentinel { addresses, .. } = &config.servers else { return None };
        let place = self.sentinels.pop_front()?;
        let (host, port) = addresses.get(place)?;
        self.asked = Some(place);
        Some(self.resolve(host, *port))
    }

    /// An address as text need not be looked up.
    fn resolve(&mut self, host: &str, port: u16) -> Action {
        self.addresses.clear();
        self.host = host.into();
        match host.parse() {
            Ok(ip) => Action::Connect { address: SocketAddr::new(ip, port) },
            Err(_) => Action::Resolve { host: host.into(), port },
        }
    }
}

/// The first pause is below five quarters of this.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// So often the bound grows, to two minutes, if the limit is not less.
const BACKOFF_STEPS: u32 = 32;

#[cfg(test)]
mod tests {
    use mahavishnu_core::entropy::Seed;

    use super::*;

    /// When each of many links finds a Redis again that was away for so long, after it is back; the first one first.
    fn found_after(outage: Duration) -> Vec<Duration> {
        let limits = LinkLimits::default();
        let links = (0..2_000).map(|link| {
            let (mut finder, mut entropy) = (Finder::default(), Entropy::new(Seed::from(link)));
            let mut at = Duration::ZERO;
            while at < outage {
                at += finder.pause(&mut entropy, &limits);
            }
            at.saturating_sub(outage)
        });
        let mut found: Vec<_> = links.collect();
        found.sort_unstable();
        found
    }

    fn share_of(found: &[Duration], within: Duration) -> usize {
        found.iter().filter(|after| **after <= within).count() * 100 / found.len()
    }

    #[test]
    fn a_short_outage_is_followed_by_a_short_wait() {
        for (outage, half, nearly_all) in [(200, 80, 250), (1_000, 200, 650), (4_000, 700, 2_300)] {
            let found = found_after(Duration::from_millis(outage));
            let share = |within| share_of(&found, Duration::from_millis(within));
            let shares = (share(half), share(nearly_all));
            assert!(shares.0 >= 50 && shares.1 >= 97, "{outage} ms: {shares:?} %");
        }
        let found = found_after(Duration::from_secs(60));
        let bound = LinkLimits::default().backoff_max;
        assert!(found.iter().all(|after| *after < bound));
    }

    #[test]
    fn many_links_do_not_come_at_one_moment() {
        for (outage, moment) in [(1_000, 25), (4_000, 100), (60_000, 250)] {
            let found = found_after(Duration::from_millis(outage));
            let moment = Duration::from_millis(moment);
            let most = (0..40).map(|step| {
                let from = moment * step / 2;
                found.iter().filter(|after| (from..from + moment).contains(*after)).count()
            });
            let most = most.max().unwrap_or_default() * 100 / found.len();
            assert!(most <= 16, "{outage} ms: {most} % within {moment:?}");
        }
    }
}
