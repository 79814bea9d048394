//! Orders on their way to the other nodes, at a process's first hub: which of them have been told, and who has confirmed.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use super::order::{Entry, Order, OrderId, OrderKind};
use crate::{
    hub::{
        bus::{BusCommand, BusError, CallId, Calls, NodeId},
        peers::Ticket,
    },
    reason::Reason,
    time::Instant,
};

/// Orders on their way.
#[derive(Debug, Default)]
pub(in crate::hub) struct Spreading {
    /// Those whose askers wait.
    waiting: BTreeMap<OrderId, Waiting>,
    /// When they have waited for long enough, the first one first.
    deadlines: VecDeque<(Instant, OrderId)>,
    /// Those that the bus has not answered yet.
    calls: BTreeMap<CallId, Entry>,
    /// Those that the bus has not taken, the oldest first.
    unsent: VecDeque<Entry>,
}

/// Somebody waits until all nodes have carried an order out.
#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    /// These have not confirmed it yet.
    open: BTreeSet<NodeId>,
    spread: Spread,
}

/// How far an order has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::hub) struct Spread {
    /// It is where every node will hear of it.
    pub(in crate::hub) told: bool,
    /// If not, it will be as soon as the bus is back.
    pub(in crate::hub) kept: bool,
    /// Nodes that were there, this one among them.
    pub(in crate::hub) nodes: u32,
    /// Of these, so many have carried it out.
    pub(in crate::hub) confirmed: u32,
    /// Connections that ended on the others.
    pub(in crate::hub) closed: u32,
}

impl Spread {
    /// Whether all nodes hear of it, and otherwise what is said instead.
    pub(in crate::hub) fn result(self, kind: OrderKind) -> Result<(), Reason> {
        match (self, kind) {
            (Self { told: true, .. }, _) => Ok(()),
            (_, OrderKind::Disconnect) => Err(Reason::DisconnectedHere),
            // As many as could be reached are counted.
            (_, OrderKind::Send) => Ok(()),
            (Self { kept: true, .. }, OrderKind::Revoke) => Err(Reason::RevokedHere),
            // Which is what is promised: at once here, elsewhere as soon as that is possible.
            (Self { kept: true, .. }, OrderKind::EndSessions) => Ok(()),
            (Self { kept: false, .. }, OrderKind::Revoke | OrderKind::EndSessions) => {
                Err(Reason::NodesUntold)
            }
        }
    }
}

/// What somebody waited for.
pub(in crate::hub) type Done = (Ticket, Spread);

/// What bounds orders.
#[derive(Clone, Copy, Debug)]
pub(in crate::hub) struct Terms {
    /// So many wait for a bus that is away.
    pub(in crate::hub) unsent_max: usize,
    /// So long a revocation is kept.
    pub(in crate::hub) revocation_keep: Duration,
    /// So long whoever gave one waits.
    pub(in crate::hub) confirm_time: Duration,
}

impl Spreading {
    /// Tells all nodes of an order. `others` are there; `None`: the bus is away. What is done with that, if it is at once.
    pub(in crate::hub) fn begin(
        &mut self,
        (now, terms): (Instant, Terms),
        calls: &mut Calls,
        ticket: Ticket,
        entry: Entry,
        others: Option<BTreeSet<NodeId>>,
    ) -> Option<Done> {
        let Some(open) = others else {
            let kept = self.keep(entry, terms);
            return Some((ticket, Spread { kept, nodes: 1, confirmed: 1, ..Spread::default() }));
        };
        let nodes = u32::try_from(open.len() + 1).unwrap_or(u32::MAX);
        let spread = Spread { nodes, confirmed: 1, ..Spread::default() };
        self.waiting.insert(entry.id, Waiting { ticket, open, spread });
        self.deadlines.push_back((now + terms.confirm_time, entry.id));
        self.send(calls, entry, terms);
        None
    }

    fn send(&mut self, calls: &mut Calls, entry: Entry, terms: Terms) {
        let keep = match entry.order {
            Order::Revoke(_) | Order::EndSessions { .. } => terms.revocation_keep,
            Order::Disconnect(..) | Order::Send { .. } => DISCONNECT_KEEP,
        };
        let (id, command) = (calls.name(), entry.to_json().into());
        calls.send(BusCommand::Control { id, command, keep });
        self.calls.insert(id, entry);
    }

    /// Keeps an order until the bus is back, if that makes sense then. Whether it is kept.
    fn keep(&mut self, entry: Entry, terms: Terms) -> bool {
        if matches!(entry.order, Order::Disconnect(..) | Order::Send { .. }) {
            return false;
        }
        // What is asked for again while nobody can be told is told once.
        if self.unsent.iter().rev().take(AGAIN_AMONG).any(|known| known.order == entry.order) {
            return true;
        }
        let room = self.unsent.len() < terms.unsent_max;
        if room {
            self.unsent.push_back(entry);
        }
        room
    }

    /// What became of telling all nodes. What somebody has waited for, if it is done.
    pub(in crate::hub) fn on_controlled(
        &mut self,
        call: CallId,
        result: Result<u32, BusError>,
        terms: Terms,
    ) -> Option<Done> {
        let entry = self.calls.remove(&call)?;
        let id = entry.id;
        if result.is_ok() {
            self.waiting.get_mut(&id)?.spread.told = true;
            return self.take_done(id);
        }
        let kept = self.keep(entry, terms);
        let (ticket, spread) = self.take(id)?;
        Some((ticket, Spread { kept, ..spread }))
    }

    /// Tells all nodes what they could not be told before: not too much at once.
    pub(in crate::hub) fn go_on(&mut self, calls: &mut Calls, terms: Terms) {
        while self.calls.len() < CALLS_MAX
            && let Some(entry) = self.unsent.pop_front()
        {
            self.send(calls, entry, terms);
        }
    }

    /// A node has carried an order out, by which so many connections have ended there.
    pub(in crate::hub) fn on_confirmed(
        &mut self,
        id: OrderId,
        node: NodeId,
        closed: u32,
    ) -> Option<Done> {
        let waiting = self.waiting.get_mut(&id)?;
        if waiting.open.remove(&node) {
            waiting.spread.confirmed += 1;
            waiting.spread.closed = waiting.spread.closed.saturating_add(closed);
        }
        self.take_done(id)
    }

    /// Nodes have gone, and their connections with them: nobody waits for them any more.
    pub(in crate::hub) fn on_gone(&mut self, gone: &[NodeId]) -> Vec<Done> {
        let ids: Vec<_> = self.waiting.keys().copied().collect();
        let mut done = Vec::new();
        for id in ids {
            let Some(waiting) = self.waiting.get_mut(&id) else { continue };
            for node in gone {
                waiting.spread.nodes -= u32::from(waiting.open.remove(node));
            }
            done.extend(self.take_done(id));
        }
        done
    }

    fn take_done(&mut self, id: OrderId) -> Option<Done> {
        let waiting = self.waiting.get(&id)?;
        if !waiting.spread.told || !waiting.open.is_empty() {
            return None;
        }
        self.take(id)
    }

    fn take(&mut self, id: OrderId) -> Option<Done> {
        let waiting = self.waiting.remove(&id)?;
        // So the first deadline is always somebody's.
        let is_over = |(_, id): &mut (Instant, OrderId)| !self.waiting.contains_key(id);
        while self.deadlines.pop_front_if(is_over).is_some() {}
        Some((waiting.ticket, waiting.spread))
    }

    /// When somebody has waited for long enough.
    pub(in crate::hub) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.front().map(|(at, _)| *at)
    }

    /// Those who have waited for long enough. What was not told by then will be.
    pub(in crate::hub) fn take_late(&mut self, now: Instant) -> Vec<Done> {
        let mut late = Vec::new();
        while let Some((at, id)) = self.deadlines.front().copied()
            && at <= now
            && let Some((ticket, spread)) = self.take(id)
        {
            late.push((ticket, Spread { kept: !spread.told, ..spread }));
        }
        late
    }

    /// Orders that the bus has not taken.
    pub(in crate::hub) fn unsent(&self) -> usize {
        self.unsent.len()
    }
}

/// So long the end of connections is kept for nodes that are away: who comes back later than that has other ones.
const DISCONNECT_KEEP: Duration = Duration::from_secs(60);

/// So many orders are told at once when the bus is back.
const CALLS_MAX: usize = 256;

/// The same order is looked for among so many of the last ones.
const AGAIN_AMONG: usize = 256;

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
mod tests {
    use super::super::order::Whom;
    use super::*;
    use crate::{auth::Revocation, hub::types::ShardId};

    const TERMS: Terms = Terms {
        unsent_max: 2,
        revocation_keep: Duration::from_secs(1000),
        confirm_time: Duration::from_secs(2),
    };
    const TICKET: Ticket = Ticket { shard: ShardId(1), index: 5, generation: 0, item: 0 };
    const OTHER: NodeId = NodeId(7);

    fn revoke(id: u64, token: &str) -> Entry {
        let json = format!(r#"{{"jti":"{token}"}}"#);
        let order = Order::Revoke(Revocation::parse(&json).unwrap());
        Entry { id: OrderId(id), from: NodeId(1), order }
    }

    fn disconnect(id: u64) -> Entry {
        let order = Order::Disconnect(Whom::User("ada".into()), None);
        Entry { id: OrderId(id), from: NodeId(1), order }
    }

    /// What was sent: the name of the call, and how long it is kept.
    fn sent(calls: &mut Calls) -> Vec<(CallId, Duration)> {
        let commands = std::iter::from_fn(|| calls.next());
        let control = |command| {
            let BusCommand::Control { id, keep, .. } = command else { panic!("{command:?}") };
            (id, keep)
        };
        commands.map(control).collect()
    }

    /// One on its way to one other node, since that moment.
    fn on_its_way(entry: Entry) -> (Spreading, Calls, CallId, Instant) {
        let (mut spreading, mut calls, now) =
            (Spreading::default(), Calls::default(), Instant::now());
        let others = Some(BTreeSet::from([OTHER]));
        let done = spreading.begin((now, TERMS), &mut calls, TICKET, entry, others);
        assert_eq!(done, None);
        let call = sent(&mut calls)[0].0;
        (spreading, calls, call, now)
    }

    #[test]
    fn it_is_done_when_the_bus_has_it_and_the_last_node_has_confirmed() {
        let (mut spreading, _, call, _) = on_its_way(revoke(1, "t1"));
        assert_eq!(spreading.on_confirmed(OrderId(1), NodeId(9), 5), None, "nobody's");
        assert_eq!(spreading.on_confirmed(OrderId(1), OTHER, 3), None, "it may overtake");
        let (ticket, spread) = spreading.on_controlled(call, Ok(2), TERMS).unwrap();
        let expected = Spread { told: true, nodes: 2, confirmed: 2, closed: 3, kept: false };
        assert_eq!((ticket, spread), (TICKET, expected));
        assert_eq!(spreading.next_deadline(), None);
        assert_eq!(spreading.on_controlled(call, Ok(2), TERMS), None, "once");
    }

    #[test]
    fn who_has_gone_is_not_waited_for() {
        let (mut spreading, _, call, _) = on_its_way(revoke(1, "t1"));
        spreading.on_controlled(call, Ok(1), TERMS);
        let done = spreading.on_gone(&[OTHER, NodeId(9)]);
        let expected = Spread { told: true, nodes: 1, confirmed: 1, ..Spread::default() };
        assert_eq!(done, [(TICKET, expected)]);
    }

    #[test]
    fn who_does_not_confirm_is_waited_for_a_while() {
        let (mut spreading, _, call, start) = on_its_way(revoke(1, "t1"));
        spreading.on_controlled(call, Ok(1), TERMS);
        let until = start + TERMS.confirm_time;
        assert_eq!(spreading.next_deadline(), Some(until));
        let late = spreading.take_late(until);
        let expected = Spread { told: true, nodes: 2, confirmed: 1, ..Spread::default() };
        assert_eq!(late, [(TICKET, expected)]);
        assert!(spreading.take_late(until).is_empty() && spreading.next_deadline().is_none());
    }

    #[test]
    fn what_the_bus_does_not_take_waits_and_is_told_once_more() {
        for error in [BusError::Away, BusError::Unknown, BusError::Full, BusError::Failed] {
            let (mut spreading, mut calls, call, _) = on_its_way(revoke(1, "t1"));
            let (_, spread) = spreading.on_controlled(call, Err(error), TERMS).unwrap();
            assert!(!spread.told && spread.kept);
            spreading.go_on(&mut calls, TERMS);
            assert_eq!(sent(&mut calls).len(), 1);
            assert_eq!(spreading.unsent(), 0);
        }
    }

    #[test]
    fn so_many_wait_for_a_bus_that_is_away_and_the_same_one_once() {
        let (mut spreading, mut calls, now) =
            (Spreading::default(), Calls::default(), Instant::now());
        let mut begin = |entry| {
            let done = spreading.begin((now, TERMS), &mut calls, TICKET, entry, None);
            let (_, spread) = done.expect("it is done at once");
            assert!(!spread.told);
            spread.kept
        };
        let kept = [("t1", true), ("t2", true), ("t1", true), ("t3", false)];
        for (number, (token, is_kept)) in (0..).zip(kept) {
            assert_eq!(begin(revoke(number, token)), is_kept, "{number}");
        }
        assert!(!begin(disconnect(9)), "the end of connections makes sense now only");
        assert_eq!(spreading.unsent(), 2);
        spreading.go_on(&mut calls, TERMS);
        assert_eq!(sent(&mut calls).len(), 2);
    }

    #[test]
    fn the_end_of_connections_is_kept_for_a_minute() {
        let (mut spreading, mut calls, now) =
            (Spreading::default(), Calls::default(), Instant::now());
        for entry in [revoke(1, "t1"), disconnect(2)] {
            let nobody = Some(BTreeSet::new());
            spreading.begin((now, TERMS), &mut calls, TICKET, entry, nobody);
        }
        let keeps: Vec<_> = sent(&mut calls).into_iter().map(|(_, keep)| keep).collect();
        assert_eq!(keeps, [TERMS.revocation_keep, Duration::from_secs(60)]);
    }
}
