//! Where users are connected, as the bus keeps it for all nodes. Each user's home keeps it up to date.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    entropy::{KeyedMap, KeyedState},
    hub::{
        bus::{
            Alive, BusCommand, BusError, CallId, Calls, NodeId, Visit, VisitChange, VisitName,
            Visited,
        },
        slab::Slab,
        types::ConnId,
    },
    time::Instant,
};

/// A connection as operators are told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) struct Contact {
    /// The `connection_id` that its client was welcomed with.
    pub(in crate::hub) name: Uuid,
    pub(in crate::hub) address: SocketAddr,
    /// When it said whose it is, by the wall clock.
    pub(in crate::hub) since: Duration,
}

/// What the bus keeps of a connection besides its name.
#[derive(Serialize, Deserialize)]
struct Written {
    address: SocketAddr,
    since: u64,
}

impl Contact {
    fn to_json(self) -> Bytes {
        let written = Written { address: self.address, since: self.since.as_secs() };
        // Writing plain data into memory cannot fail.
        serde_json::to_vec(&written).unwrap_or_default().into()
    }

    /// Reads what another node wrote.
    pub(in crate::hub) fn parse(visit: &Visit) -> Option<Self> {
        let Written { address, since } = serde_json::from_slice(&visit.info).ok()?;
        let since = Duration::from_secs(since);
        Some(Self { name: visit.name.connection, address, since })
    }
}

/// The users that are at home here, with their connections to this process.
#[derive(Debug)]
pub(in crate::hub) struct Tracking {
    names: KeyedMap<Arc<str>, u32>,
    users: Slab<User>,
    /// The bus is there.
    up: bool,
    /// Users of whom the bus is to be told something.
    ready: VecDeque<u32>,
    /// Of these the bus could take nothing; it is tried again when it takes something.
    refused: Vec<u32>,
    /// What is not answered yet, and about whom.
    calls: BTreeMap<CallId, u32>,
    /// When the bus is told of a user's connections anew, that which is due first in front: a user by place and generation.
    renewals: VecDeque<(Instant, u32, u32)>,
    /// Operators who wait for an answer of the bus, and whom they ask about.
    asked: BTreeMap<CallId, (ConnId, Arc<str>)>,
}

#[derive(Debug)]
struct User {
    name: Arc<str>,
    conns: Vec<Tracked>,
    /// Connections that the bus may have and that are there no more.
    gone: Vec<VisitName>,
    /// What the bus was told and has not answered.
    under_way: Option<UnderWay>,
    /// In the line of those that are ready.
    queued: bool,
    /// Among the renewals.
    renewed: bool,
    /// What others have left behind is to be taken away.
    sweep: bool,
}

#[derive(Debug)]
struct Tracked {
    conn: ConnId,
    contact: Contact,
    /// Under which name of this process the bus has it, or may have it.
    put: Option<NodeId>,
    /// The bus has it as it is, for long enough.
    fresh: bool,
    /// It is one of those that the user may have.
    admitted: bool,
}

#[derive(Debug)]
struct UnderWay {
    node: NodeId,
    come: Vec<ConnId>,
    /// So many of the first of those that are gone.
    gone: usize,
}

/// What the bus is told with each change.
#[derive(Clone, Debug)]
pub(in crate::hub) struct Terms {
    pub(in crate::hub) own: NodeId,
    /// So many connections a user may have.
    pub(in crate::hub) max: Option<u32>,
    pub(in crate::hub) alive: Alive,
}

impl Tracked {
    fn is_due(&self) -> bool {
        self.put.is_none() || !self.fresh
    }

    /// From now on the bus may have it under that name.
    fn name_of(&self, node: NodeId) -> VisitName {
        VisitName { node, connection: self.contact.name }
    }
}

impl User {
    fn is_over(&self) -> bool {
        self.conns.is_empty() && self.gone.is_empty() && self.under_way.is_none()
    }

    fn has_news(&self) -> bool {
        !self.gone.is_empty() || self.sweep || self.conns.iter().any(Tracked::is_due)
    }

    /// What the bus is to be told next. Connections that the limit is about come one by one: so each has its own answer.
    fn change(&mut self, id: CallId, terms: &Terms) -> VisitChange {
        let due = || self.conns.iter().filter(|one| one.is_due());
        let free = |one: &&Tracked| one.admitted || terms.max.is_none();
        let mut come: Vec<_> = due().filter(free).take(BATCH).collect();
        let limited = come.is_empty();
        if limited {
            come = due().take(1).collect();
        }
        let gone: Vec<_> = self.gone.iter().copied().take(BATCH).collect();
        let under_way = UnderWay {
            node: terms.own,
            come: come.iter().map(|one| one.conn).collect(),
            gone: gone.len(),
        };
        let visit =
            |one: &Tracked| Visit { name: one.name_of(terms.own), info: one.contact.to_json() };
        let come: Vec<_> = come.into_iter().map(visit).collect();
        self.under_way = Some(under_way);
        VisitChange {
            id,
            user: self.name.clone(),
            gone,
            max: terms.max.filter(|_| limited && !come.is_empty()),
            come,
            sweep: std::mem::take(&mut self.sweep),
            alive: terms.alive.clone(),
            keep: KEPT,
        }
    }
}

impl Tracking {
    pub(in crate::hub) fn new(keys: KeyedState) -> Self {
        Self {
            names: KeyedMap::with_hasher(keys),
            users: Slab::new(),
            up: false,
            ready: VecDeque::new(),
            refused: Vec::new(),
            calls: BTreeMap::new(),
            renewals: VecDeque::new(),
            asked: BTreeMap::new(),
        }
    }

    /// Whether the bus is there.
    pub(in crate::hub) fn is_up(&self) -> bool {
        self.up
    }

    /// The bus was asked by this call, for an operator over this connection.
    pub(in crate::hub) fn ask(&mut self, call: CallId, conn: ConnId, user: Arc<str>) {
        self.asked.insert(call, (conn, user));
    }

    /// It has answered: who wanted that.
    pub(in crate::hub) fn answered(&mut self, call: CallId) -> Option<(ConnId, Arc<str>)> {
        self.asked.remove(&call)
    }

    /// Users that are known.
    pub(in crate::hub) fn len(&self) -> usize {
        self.users.len()
    }

    /// A user has one more connection.
    pub(in crate::hub) fn come(&mut self, name: Arc<str>, conn: ConnId, contact: Contact) {
        let Some(index) = self.index_of(name) else { return };
        if let Some(user) = self.users.get_mut(index) {
            let tracked = Tracked { conn, contact, put: None, fresh: false, admitted: false };
            user.conns.push(tracked);
        }
        self.queue(index);
    }

    fn index_of(&mut self, name: Arc<str>) -> Option<u32> {
        if let Some(index) = self.names.get(&name) {
            return Some(*index);
        }
        let (index, _) = self.users.insert(User {
            name: name.clone(),
            conns: Vec::new(),
            gone: Vec::new(),
            under_way: None,
            queued: false,
            renewed: false,
            sweep: false,
        })?;
        self.names.insert(name, index);
        Some(index)
    }

    /// A connection is not the user's any more.
    pub(in crate::hub) fn go(&mut self, name: &str, conn: ConnId) {
        let Some(index) = self.names.get(name).copied() else { return };
        let Some(user) = self.users.get_mut(index) else { return };
        let Some(place) = user.conns.iter().position(|one| one.conn == conn) else { return };
        let one = user.conns.swap_remove(place);
        let is_coming = |under_way: &UnderWay| under_way.come.contains(&conn);
        let coming = user.under_way.as_ref().filter(|under_way| is_coming(under_way));
        let node = one.put.or_else(|| coming.map(|under_way| under_way.node));
        user.gone.extend(node.map(|node| one.name_of(node)));
        self.queue(index);
    }

    /// Has the bus told of a user, if there is something to tell, or forgets it.
    fn queue(&mut self, index: u32) {
        let Some(user) = self.users.get_mut(index) else { return };
        if user.is_over() {
            if user.queued {
                self.ready.retain(|queued| *queued != index);
            }
            self.names.remove(&user.name);
            self.users.remove(index);
        } else if self.up && !user.queued && user.under_way.is_none() && user.has_news() {
            user.queued = true;
            self.ready.push_back(index);
        }
    }
}

/// The bus.
impl Tracking {
    pub(in crate::hub) fn on_up(&mut self) {
        self.up = true;
        self.queue_all();
    }

    /// The bus is away; what was under way was answered before.
    pub(in crate::hub) fn on_down(&mut self) {
        self.up = false;
        for index in std::mem::take(&mut self.ready) {
            if let Some(user) = self.users.get_mut(index) {
                user.queued = false;
            }
        }
    }

    /// The bus takes something in.
    pub(in crate::hub) fn retry(&mut self) {
        for index in std::mem::take(&mut self.refused) {
            self.queue(index);
        }
    }

    /// This process has lost its lease and has another name: the bus is told of all connections anew.
    pub(in crate::hub) fn on_renamed(&mut self) {
        let indices: Vec<_> = self.users.indices().collect();
        for index in indices {
            let Some(user) = self.users.get_mut(index) else { continue };
            for one in &mut user.conns {
                user.gone.extend(one.put.take().map(|node| one.name_of(node)));
            }
        }
        self.queue_all();
    }

    fn queue_all(&mut self) {
        let indices: Vec<_> = self.users.indices().collect();
        indices.into_iter().for_each(|index| self.queue(index));
    }

    /// Whether the bus is to be told something.
    pub(in crate::hub) fn is_ready(&self) -> bool {
        self.up && !self.ready.is_empty()
    }

    /// Tells the bus what has changed.
    pub(in crate::hub) fn tell(&mut self, calls: &mut Calls, terms: &Terms) {
        while let Some(index) = self.ready.pop_front() {
            let Some(user) = self.users.get_mut(index).filter(|user| user.queued) else { continue };
            user.queued = false;
            if user.under_way.is_none() && user.has_news() {
                let id = calls.name();
                let change = user.change(id, terms);
                self.calls.insert(id, index);
                calls.send(BusCommand::Visit(Box::new(change)));
            }
        }
    }

    /// The bus has answered. A connection that is one too many for its user, if there is one.
    pub(in crate::hub) fn on_visited(
        &mut self,
        (now, own): (Instant, NodeId),
        id: CallId,
        result: Result<Visited, BusError>,
    ) -> Option<ConnId> {
        let index = self.calls.remove(&id)?;
        let user = self.users.get_mut(index)?;
        let UnderWay { node, come, gone } = user.under_way.take()?;
        let mut refused = None;
        match result {
            Ok(visited) => {
                user.gone.drain(..gone.min(user.gone.len()));
                if visited.entered {
                    user.put(&come, node, own);
                } else {
                    user.conns.retain(|one| !come.contains(&one.conn));
                    refused = come.first().copied();
                }
                self.renew_later(now, index);
                self.queue(index);
            }
            // It may have been done: who is gone by then is taken away again.
            Err(BusError::Unknown) => {
                for one in user.conns.iter_mut().filter(|one| come.contains(&one.conn)) {
                    one.put = one.put.or(Some(node));
                    one.fresh = false;
                }
            }
            Err(BusError::Full) => self.refused.push(index),
            // The next time that the bus is there, or that it is told anew.
            Err(BusError::Away | BusError::Failed) => self.renew_later(now, index),
        }
        refused
    }

    fn renew_later(&mut self, now: Instant, index: u32) {
        let Some(generation) = self.users.generation(index) else { return };
        let Some(user) = self.users.get_mut(index).filter(|user| !user.renewed) else { return };
        user.renewed = true;
        self.renewals.push_back((now + RENEWED_AFTER, index, generation));
        if self.renewals.len() > 2 * self.users.len() + RENEWALS_KEPT {
            // Of users who come and go those who are gone would pile up.
            let users = &self.users;
            self.renewals
                .retain(|(_, index, generation)| users.get_at(*index, *generation).is_some());
        }
    }

    pub(in crate::hub) fn next_deadline(&self) -> Option<Instant> {
        self.renewals.front().map(|(at, ..)| *at)
    }

    /// Users of whom the bus was told long ago: it would forget them.
    pub(in crate::hub) fn renew(&mut self, now: Instant) {
        while let Some((_, index, generation)) = self.renewals.pop_front_if(|(at, ..)| *at <= now) {
            let Some(user) = self.users.get_at_mut(index, generation) else { continue };
            user.renewed = false;
            user.sweep = true;
            user.conns.iter_mut().for_each(|one| one.fresh = false);
            self.renew_later(now, index);
            self.queue(index);
        }
    }

    /// Every user is found by its name, and nobody is forgotten.
    #[cfg(debug_assertions)]
    pub(in crate::hub) fn check(&self) {
        assert_eq!(self.names.len(), self.users.len(), "users by name");
        for index in self.users.indices() {
            let Some(user) = self.users.get(index) else { continue };
            assert_eq!(self.names.get(&user.name), Some(&index));
            assert!(!user.is_over(), "a user of whom nothing is left");
            assert_eq!(user.queued, self.ready.contains(&index), "in the line");
        }
    }
}

impl User {
    /// The bus has these.
    fn put(&mut self, come: &[ConnId], node: NodeId, own: NodeId) {
        for one in self.conns.iter_mut().filter(|one| come.contains(&one.conn)) {
            one.admitted = true;
            if node == own {
                (one.put, one.fresh) = (Some(node), true);
            } else {
                // By now this process has another name.
                self.gone.push(VisitName { node, connection: one.contact.name });
            }
        }
    }
}

/// So many connections of a user the bus is told of at once.
const BATCH: usize = 256;

/// So long the bus keeps a user's connections after it was last told of them.
const KEPT: Duration = Duration::from_secs(86_400);

/// So few renewals are not looked through for those that are over.
const RENEWALS_KEPT: usize = 64;

/// After so long it is told of them anew.
const RENEWED_AFTER: Duration = Duration::from_secs(3_600);

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
mod tests {
    use super::*;
    use crate::hub::testing::{conn, keys};

    const OWN: NodeId = NodeId(1);

    struct Bench {
        visits: Tracking,
        calls: Calls,
        now: Instant,
        max: Option<u32>,
        own: NodeId,
    }

    fn contact(number: u32) -> Contact {
        let address = ([192, 0, 2, 1], 50_000).into();
        let since = Duration::from_secs(1_770_000_000);
        Contact { name: Uuid::from_u128(number.into()), address, since }
    }

    impl Bench {
        fn new(max: Option<u32>) -> Self {
            let mut visits = Tracking::new(keys());
            visits.on_up();
            Self { visits, calls: Calls::default(), now: Instant::now(), max, own: OWN }
        }

        fn come(&mut self, number: u32) {
            self.visits.come("ada".into(), conn(number), contact(number));
        }

        /// What the bus is told next: who has gone, who has come, under which limit.
        fn told(&mut self) -> Vec<VisitChange> {
            let alive = Alive { nodes: Arc::new([]), grace: Duration::ZERO };
            let terms = Terms { own: self.own, max: self.max, alive };
            if self.visits.is_ready() {
                self.visits.tell(&mut self.calls, &terms);
            }
            self.visits.check();
            let commands = std::iter::from_fn(|| self.calls.next());
            let change = |command| {
                let BusCommand::Visit(change) = command else { panic!("{command:?}") };
                *change
            };
            commands.map(change).collect()
        }

        fn answer(&mut self, id: CallId, result: Result<bool, BusError>) -> Option<ConnId> {
            let result = result.map(|entered| Visited { entered, connections: 1 });
            let refused = self.visits.on_visited((self.now, self.own), id, result);
            self.visits.check();
            refused
        }
    }

    /// The connections of a change, by their numbers.
    fn numbers(change: &VisitChange) -> (Vec<u128>, Vec<u128>) {
        let number = |name: &VisitName| name.connection.as_u128();
        let come = change.come.iter().map(|visit| number(&visit.name)).collect();
        (change.gone.iter().map(number).collect(), come)
    }

    #[test]
    fn what_has_changed_is_told_once_and_one_change_at_a_time() {
        let mut bench = Bench::new(None);
        bench.come(1);
        bench.come(2);
        let first = bench.told().remove(0);
        assert_eq!(numbers(&first), (vec![], vec![1, 2]));
        assert_eq!(first.come[0].info, r#"{"address":"192.0.2.1:50000","since":1770000000}"#);
        assert_eq!(Contact::parse(&first.come[0]), Some(contact(1)));
        bench.come(3);
        bench.visits.go("ada", conn(1));
        assert!(bench.told().is_empty(), "the first is not answered yet");

        assert_eq!(bench.answer(first.id, Ok(true)), None);
        let second = bench.told().remove(0);
        assert_eq!(numbers(&second), (vec![1], vec![3]));
        bench.answer(second.id, Ok(true));
        assert!(bench.told().is_empty());

        bench.visits.go("ada", conn(2));
        bench.visits.go("ada", conn(3));
        let last = bench.told().remove(0);
        bench.answer(last.id, Ok(true));
        assert_eq!(bench.visits.len(), 0, "nobody is left");
        assert_eq!(bench.answer(last.id, Ok(true)), None, "nobody asks any more");
    }

    #[test]
    fn under_a_limit_they_come_one_by_one_and_who_is_one_too_many_is_told() {
        let mut bench = Bench::new(Some(1));
        bench.come(1);
        bench.come(2);
        let first = bench.told().remove(0);
        assert_eq!((numbers(&first).1, first.max), (vec![1], Some(1)));
        assert_eq!(bench.answer(first.id, Ok(true)), None);
        let second = bench.told().remove(0);
        assert_eq!((numbers(&second).1, second.max), (vec![2], Some(1)));
        assert_eq!(bench.answer(second.id, Ok(false)), Some(conn(2)));
        bench.visits.go("ada", conn(2));
        assert!(bench.told().is_empty(), "the bus never had it");
        assert_eq!(bench.visits.len(), 1);
    }

    #[test]
    fn who_comes_and_goes_while_the_bus_is_away_is_never_told() {
        let mut bench = Bench::new(None);
        bench.come(1);
        let first = bench.told().remove(0);
        bench.answer(first.id, Ok(true));
        bench.visits.on_down();
        bench.come(2);
        bench.come(3);
        bench.visits.go("ada", conn(1));
        bench.visits.go("ada", conn(2));
        assert!(bench.told().is_empty());
        bench.visits.on_up();
        assert_eq!(numbers(&bench.told()[0]), (vec![1], vec![3]));
    }

    #[test]
    fn what_may_have_been_done_is_done_again_and_undone() {
        let mut bench = Bench::new(None);
        bench.come(1);
        bench.come(2);
        let first = bench.told().remove(0);
        bench.answer(first.id, Err(BusError::Unknown));
        bench.visits.on_down();
        bench.visits.go("ada", conn(1));
        bench.visits.on_up();
        assert_eq!(numbers(&bench.told()[0]), (vec![1], vec![2]));
    }

    #[test]
    fn what_a_full_bus_refuses_it_is_told_when_it_takes_something() {
        let mut bench = Bench::new(None);
        bench.come(1);
        let first = bench.told().remove(0);
        bench.answer(first.id, Err(BusError::Full));
        assert!(bench.told().is_empty());
        bench.visits.retry();
        assert_eq!(numbers(&bench.told()[0]), (vec![], vec![1]));
    }

    #[test]
    fn under_another_name_all_are_told_anew_whatever_the_limit() {
        let mut bench = Bench::new(Some(2));
        for number in [1, 2] {
            bench.come(number);
            let change = bench.told().remove(0);
            bench.answer(change.id, Ok(true));
        }
        bench.come(3);
        let late = bench.told().remove(0);
        bench.own = NodeId(2);
        bench.visits.on_renamed();
        assert_eq!(bench.answer(late.id, Ok(true)), None);

        let anew = bench.told().remove(0);
        assert_eq!((numbers(&anew), anew.max), ((vec![1, 2, 3], vec![1, 2, 3]), None));
        assert!(anew.gone.iter().all(|name| name.node == OWN));
        assert!(anew.come.iter().all(|visit| visit.name.node == NodeId(2)));
    }

    #[test]
    fn the_bus_is_told_anew_each_hour_and_renewals_do_not_pile_up() {
        let mut bench = Bench::new(None);
        bench.come(1);
        let first = bench.told().remove(0);
        bench.answer(first.id, Ok(true));
        let due = bench.visits.next_deadline().unwrap();
        assert_eq!(due, bench.now + RENEWED_AFTER);
        bench.visits.renew(due);
        let again = bench.told().remove(0);
        assert_eq!((numbers(&again), again.sweep), ((vec![], vec![1]), true));
        bench.answer(again.id, Ok(true));

        for number in 0..1000 {
            bench.visits.come(format!("u{number}").into(), conn(7), contact(7));
            let change = bench.told().remove(0);
            bench.answer(change.id, Ok(true));
            bench.visits.go(&format!("u{number}"), conn(7));
            let change = bench.told().remove(0);
            bench.answer(change.id, Ok(true));
        }
        assert!(
            bench.visits.renewals.len() <= 2 + RENEWALS_KEPT,
            "{}",
            bench.visits.renewals.len()
        );
        assert_eq!(bench.visits.len(), 1);
    }
}
