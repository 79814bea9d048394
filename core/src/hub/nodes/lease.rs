//! A node's lease: what tells the others that it is there. Kept by a process's first hub.

use std::time::Duration;

use crate::{hub::bus::NodeId, time::Instant};

/// The lease of this process, as its first hub knows it.
#[derive(Debug)]
pub(in crate::hub) struct Lease {
    /// The bus is there.
    up: bool,
    /// The bus has once told everything that all nodes are to know: before, nobody is to count on this node.
    informed: bool,
    /// Until then at least the node is there for the others. `None`: it has no lease.
    until: Option<Instant>,
    /// A beat that is not answered yet: whose it is, and when it was sent.
    under_way: Option<(NodeId, Instant)>,
    /// When the last beat was sent, or the hub was made.
    sent: Instant,
    /// What it said is no longer so.
    stale: bool,
    /// The node is gone for the others, by its own will.
    over: bool,
}

/// What is due about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) enum Due {
    /// It is over, or must be taken to be: what the node has under its present name is gone for the others.
    Lost,
    /// A sign of life.
    Beat {
        /// There is no lease yet.
        first: bool,
    },
}

impl Lease {
    pub(in crate::hub) fn new(now: Instant) -> Self {
        Self {
            up: false,
            informed: false,
            until: None,
            under_way: None,
            sent: now,
            stale: false,
            over: false,
        }
    }

    pub(in crate::hub) fn up(&mut self) {
        self.up = true;
        self.stale = true;
    }

    /// Whoever is asked from now on has heard everything.
    pub(in crate::hub) fn inform(&mut self) {
        self.informed = true;
    }

    pub(in crate::hub) fn is_informed(&self) -> bool {
        self.informed
    }

    /// Whether the bus is there.
    pub(in crate::hub) fn is_up(&self) -> bool {
        self.up
    }

    pub(in crate::hub) fn down(&mut self) {
        self.up = false;
        self.under_way = None;
    }

    /// What the last beat said is no longer so.
    pub(in crate::hub) fn refresh(&mut self) {
        self.stale = true;
    }

    /// A beat was answered. Whether it was one of this life of the node.
    pub(in crate::hub) fn renew(&mut self, own: NodeId, lease: Duration) -> bool {
        let answered = self.under_way.take().filter(|(node, _)| *node == own);
        if let Some((_, sent)) = answered {
            self.until = Some(sent + lease);
        }
        answered.is_some()
    }

    /// Begins anew, under another name.
    pub(in crate::hub) fn lose(&mut self) {
        self.until = None;
        self.stale = true;
    }

    /// The bus says that there is no lease. Whether that is news: it may speak of an earlier life.
    pub(in crate::hub) fn refused(&mut self, own: NodeId) -> bool {
        self.under_way.take().is_some_and(|(node, _)| node == own)
    }

    /// The bus could not say.
    pub(in crate::hub) fn failed(&mut self) {
        self.under_way = None;
    }

    /// No further beats. Whether there was a lease to give up.
    pub(in crate::hub) fn end(&mut self) -> bool {
        let over = std::mem::replace(&mut self.over, true);
        !over && self.up && (self.until.take().is_some() || self.under_way.take().is_some())
    }

    /// When something is due.
    pub(in crate::hub) fn next_deadline(&self, lease: Duration) -> Option<Instant> {
        self.until.into_iter().chain(self.next_beat(lease)).min()
    }

    pub(in crate::hub) fn due(&self, now: Instant, lease: Duration) -> Option<Due> {
        if self.until.is_some_and(|until| until <= now) {
            Some(Due::Lost)
        } else if self.next_beat(lease).is_some_and(|at| at <= now) {
            Some(Due::Beat { first: self.until.is_none() })
        } else {
            None
        }
    }

    fn next_beat(&self, lease: Duration) -> Option<Instant> {
        if !self.up || !self.informed || self.over || self.under_way.is_some() {
            return None;
        }
        Some(if self.stale { self.sent } else { self.sent + lease / BEATS_PER_LEASE })
    }

    /// A beat goes out.
    pub(in crate::hub) fn beat(&mut self, own: NodeId, now: Instant) {
        self.under_way = Some((own, now));
        self.sent = now;
        self.stale = false;
    }
}

/// So often a lease is renewed before it is over.
const BEATS_PER_LEASE: u32 = 5;

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(10);
    const SECOND: Duration = Duration::from_secs(1);
    const OWN: NodeId = NodeId(1);

    /// One that was renewed at the moment that comes with it.
    fn held() -> (Lease, Instant) {
        let start = Instant::now();
        let mut lease = Lease::new(start);
        lease.up();
        assert_eq!(lease.due(start, LEASE), None, "nobody is to count on who has not heard all");
        lease.inform();
        assert_eq!(lease.due(start, LEASE), Some(Due::Beat { first: true }));
        lease.beat(OWN, start);
        assert_eq!(lease.due(start + SECOND, LEASE), None, "one at a time");
        assert!(lease.renew(OWN, LEASE));
        (lease, start)
    }

    #[test]
    fn it_is_renewed_at_a_fifth_and_earlier_if_something_has_changed() {
        let (mut lease, start) = held();
        assert_eq!(lease.next_deadline(LEASE), Some(start + 2 * SECOND));
        assert_eq!(lease.due(start + 2 * SECOND, LEASE), Some(Due::Beat { first: false }));
        lease.refresh();
        assert_eq!(lease.due(start, LEASE), Some(Due::Beat { first: false }));
    }

    #[test]
    fn it_is_lost_a_lease_after_the_last_answered_beat_was_sent() {
        let (mut lease, start) = held();
        lease.beat(OWN, start + 2 * SECOND);
        lease.down();
        assert_eq!(lease.due(start + 9 * SECOND, LEASE), None);
        assert_eq!(lease.due(start + LEASE, LEASE), Some(Due::Lost));
        lease.lose();
        assert_eq!(lease.next_deadline(LEASE), None, "nothing can be done while the bus is away");
        lease.up();
        assert_eq!(lease.due(start + LEASE, LEASE), Some(Due::Beat { first: true }));
    }

    #[test]
    fn an_answer_to_an_earlier_life_renews_nothing() {
        let (mut lease, start) = held();
        lease.beat(OWN, start + 2 * SECOND);
        lease.lose();
        assert!(!lease.renew(NodeId(2), LEASE));
        assert_eq!(lease.due(start + LEASE, LEASE), Some(Due::Beat { first: true }));
        lease.beat(OWN, start + LEASE);
        assert!(!lease.refused(NodeId(2)));
    }

    #[test]
    fn a_beat_that_failed_is_followed_by_another_one() {
        let (mut lease, start) = held();
        lease.beat(OWN, start + 2 * SECOND);
        lease.failed();
        assert_eq!(lease.due(start + 3 * SECOND, LEASE), None, "not at once");
        assert_eq!(lease.due(start + 4 * SECOND, LEASE), Some(Due::Beat { first: false }));
    }

    #[test]
    fn who_goes_says_so_once_and_gives_no_further_sign() {
        let (mut lease, start) = held();
        assert!(lease.end() && !lease.end());
        lease.refresh();
        assert_eq!((lease.due(start + LEASE, LEASE), lease.next_deadline(LEASE)), (None, None));
        assert!(!Lease::new(start).end(), "without a lease there is none to give up");
    }
}
