//! Proves that Redis takes writes and that live messages come.

use std::{collections::VecDeque, time::Duration};

use mahavishnu_core::{entropy::Entropy, time::Instant};

/// Probes of one connection.
#[derive(Debug, Default)]
pub(super) struct Probes {
    under_way: VecDeque<Probe>,
    /// When the last one that came back was sent.
    last: Option<Instant>,
    /// How long it took.
    time: Option<Duration>,
    /// One came back on this connection.
    returned: bool,
}

#[derive(Debug)]
struct Probe {
    token: u64,
    sent: Instant,
    /// Since when it could have come back.
    since: Instant,
    /// Redis has taken it.
    taken: bool,
}

impl Probes {
    /// A connection is new: what came back on another one counts no more, but for its age.
    pub(super) fn restart(&mut self) {
        self.under_way.clear();
        self.returned = false;
    }

    /// The token of the next one, unless too many are under way.
    pub(super) fn begin(&mut self, now: Instant, entropy: &mut Entropy) -> Option<u64> {
        if self.under_way.len() >= UNDER_WAY_MAX {
            return None;
        }
        let token = entropy.next_u64();
        self.under_way.push_back(Probe { token, sent: now, since: now, taken: false });
        Some(token)
    }

    /// Redis has answered: the message is on its way.
    pub(super) fn taken(&mut self, now: Instant, token: u64) {
        if let Some(probe) = self.under_way.iter_mut().find(|probe| probe.token == token) {
            (probe.taken, probe.since) = (true, now);
        }
    }

    /// Redis has not taken it.
    pub(super) fn refused(&mut self, token: u64) {
        self.under_way.retain(|probe| probe.token != token);
    }

    /// A message has come.
    pub(super) fn returned(&mut self, now: Instant, token: u64) {
        let Some(place) = self.under_way.iter().position(|probe| probe.token == token) else {
            return;
        };
        // Those before will not come any more.
        if let Some(probe) = self.under_way.drain(..=place).next_back() {
            self.returned = true;
            self.last = Some(probe.sent);
            self.time = Some(now.saturating_duration_since(probe.sent));
        }
    }

    /// How many of them should have come back by now.
    pub(super) fn lost(&self, now: Instant, timeout: Duration) -> usize {
        let late =
            |probe: &&Probe| probe.taken && now.saturating_duration_since(probe.since) >= timeout;
        self.under_way.iter().filter(late).count()
    }

    /// Nothing could come meanwhile.
    pub(super) fn excuse(&mut self, now: Instant) {
        self.under_way.iter_mut().for_each(|probe| probe.since = now);
    }

    pub(super) fn has_returned(&self) -> bool {
        self.returned
    }

    pub(super) fn age(&self, now: Instant) -> Option<Duration> {
        self.last.map(|last| now.saturating_duration_since(last))
    }

    pub(super) fn time(&self) -> Option<Duration> {
        self.time
    }
}

/// Probes under way: one a second until they would be lost.
const UNDER_WAY_MAX: usize = 16;
