//! This node among the others: its lease, who else is there, and how well the bus does.
//!
//! A process is one node, whatever the number of its hubs. Its first hub speaks for it: it renews the lease, learns who else
//! is there, and tells the other hubs. How its own bus does each hub tells all others itself.

mod info;
mod lease;
mod links;
mod members;
mod message;
mod order;
mod spreading;
mod told;
mod visits;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

pub use self::{
    info::{LinkCounts, NodeInfo},
    order::{OrderKind, Whom},
};
pub(super) use self::{
    lease::Due,
    links::{Overall, Verdict},
    message::{NodesMessage, Roll},
    order::{Entry, Order, OrderId, USER_BYTES_MAX, WhomError},
    spreading::Spread,
    told::Told,
    visits::{Contact, Terms as VisitTerms, Tracking},
};
use self::{
    lease::Lease,
    links::{Link, Links},
    members::{Hearing, Members},
    spreading::{Done, Spreading, Terms},
};
use super::{
    bus::{BusCommand, BusError, CallId, Calls, LinkEvent, Node, NodeId, SessionHeld, Writer},
    env::Env,
    peers::Ticket,
    types::{Place, ShardId},
};
use crate::time::{Instant, Now};

/// What this hub knows of the other nodes, and of the bus as a whole.
#[derive(Debug)]
pub(super) struct Nodes {
    /// The present life of this process.
    own: NodeId,
    members: Members,
    /// Nodes that have a lease and are not heard.
    silent: u32,
    links: Links,
    /// Only the first hub's is used.
    lease: Lease,
    /// Only the first hub's is used.
    hearing: Hearing,
    /// Only the first hub's is used.
    spreading: Spreading,
}

/// What has become of nodes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct News {
    /// These have gone, with all that they had: an earlier life of this process may be among them.
    pub(super) gone: Vec<NodeId>,
    /// This process has another name: what it had under the one before is to be put anew.
    pub(super) renamed: bool,
}

impl Nodes {
    pub(super) fn new(place: Place, now: Now) -> Self {
        Self {
            own: place.node(),
            members: Members::default(),
            silent: 0,
            links: Links::new(place.shard, place.shards, now.mono),
            lease: Lease::new(now.mono),
            hearing: Hearing::default(),
            spreading: Spreading::default(),
        }
    }

    /// The present life of this process. It ends when its lease is lost.
    pub(super) fn node(&self) -> NodeId {
        self.own
    }

    /// The nodes that have a lease, as far as is known.
    pub(super) fn ids(&self) -> &Arc<[NodeId]> {
        self.members.ids()
    }

    /// What a node calls itself, as far as is known.
    pub(super) fn name_of(&self, node: NodeId) -> String {
        let name = self.members.name_of(node).filter(|name| !name.is_empty());
        name.map_or_else(|| node.to_string(), str::to_owned)
    }

    /// Connections on all other nodes, by what they said last.
    pub(super) fn connections_elsewhere(&self) -> u64 {
        self.members.connections_elsewhere(self.own)
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn silent(&self) -> u32 {
        self.silent
    }
}

/// How the bus does.
impl Nodes {
    /// How this hub's bus does, which the other hubs are to know.
    pub(super) fn hear(&mut self, env: &mut Env, event: &LinkEvent) -> Option<Box<Link>> {
        let heard = self.links.hear(event, env.now.mono)?;
        env.tally.bus.link(heard.link.is_up(), heard.link.age(env.now.mono), heard.probe);
        self.judge(env);
        Some(heard.link)
    }

    pub(super) fn links_up(&self) -> u16 {
        self.links.up()
    }

    pub(super) fn learn_link(&mut self, env: &Env, of: ShardId, link: Link) {
        self.links.learn(of, link);
        self.judge(env);
    }

    /// How the bus does as a whole.
    pub(super) fn overall(&self, env: &Env) -> Overall {
        self.links.overall(env, self.members.len() > 0 && self.silent == 0)
    }

    fn judge(&mut self, env: &Env) {
        if self.overall(env).verdict == Verdict::Passing {
            self.links.pass();
        }
    }
}

/// The lease, at the first hub.
impl Nodes {
    pub(super) fn on_up(&mut self, env: &Env) {
        self.lease.up();
        self.hearing.begin_anew(env.now.mono);
    }

    pub(super) fn on_reconciled(&mut self) {
        self.lease.inform();
    }

    pub(super) fn on_down(&mut self) {
        self.lease.down();
    }

    /// What this node says of itself has changed.
    pub(super) fn refresh(&mut self) {
        self.lease.refresh();
    }

    /// When something is due about the lease, or somebody has waited for other nodes for long enough.
    pub(super) fn next_deadline(&self, env: &Env) -> Option<Instant> {
        let lease = self.lease.next_deadline(lease_of(env)?);
        lease.into_iter().chain(self.spreading.next_deadline()).min()
    }

    pub(super) fn due(&self, env: &Env) -> Option<Due> {
        self.lease.due(env.now.mono, lease_of(env)?)
    }

    /// Renews the lease, and lets the others hear of this node.
    pub(super) fn beat(&mut self, env: &Env, calls: &mut Calls, info: NodeInfo, first: bool) {
        let Some(lease) = lease_of(env) else { return };
        let (node, info) = (self.own, info.to_json().into());
        self.lease.beat(node, env.now.mono);
        calls.send(BusCommand::Beat { node, info, lease, first });
        calls.send(tell(Told::Alive(node)));
    }

    /// The lease was renewed: these are there, and those have gone since somebody was last told.
    pub(super) fn on_beat(&mut self, env: &Env, nodes: &[Node], gone: &[NodeId]) -> Roll {
        if let Some(lease) = lease_of(env) {
            self.lease.renew(self.own, lease);
        }
        let all = members::read(nodes, env.config.limits.bus.nodes_max);
        Roll { own: self.own, all, gone: gone.to_vec(), silent: self.silent }
    }

    /// Who is there, as was known before.
    pub(super) fn roll(&self) -> Roll {
        let all = self.members.all().clone();
        Roll { own: self.own, all, gone: Vec::new(), silent: self.silent }
    }

    /// The bus could not renew the lease: it is asked again when it is time for that.
    pub(super) fn on_beat_failed(&mut self) {
        self.lease.failed();
    }

    /// The bus knows no lease of this node. Whether that is news.
    pub(super) fn on_lease_lost(&mut self) -> bool {
        self.lease.refused(self.own)
    }

    /// The lease is lost: this process lives on as another node.
    pub(super) fn begin_anew(&mut self, env: &mut Env, calls: &mut Calls) -> Roll {
        self.lease.lose();
        // The others need not wait until they find out.
        calls.send(BusCommand::Quit { node: self.own });
        Roll {
            own: NodeId(env.entropy.next_u64()),
            all: self.members.all().clone(),
            gone: vec![self.own],
            silent: self.silent,
        }
    }

    /// A node was heard.
    pub(super) fn on_alive(&mut self, env: &Env, node: NodeId) {
        self.hearing.hear(node, env.now.mono);
    }

    /// At the first hub, and then as it has told the others: who is there.
    pub(super) fn take_roll(&mut self, env: &Env, roll: &Roll) -> News {
        let renamed = std::mem::replace(&mut self.own, roll.own) != roll.own;
        let mut gone = self.members.replace(roll.all.clone());
        gone.extend(roll.gone.iter().copied());
        gone.sort_unstable();
        gone.dedup();
        gone.retain(|node| *node != self.own);
        self.silent = roll.silent;
        self.judge(env);
        News { gone, renamed }
    }

    /// At the first hub: who has not been heard of late. While the bus is away that says nothing of anybody.
    pub(super) fn listen(&mut self, env: &Env) -> u32 {
        let Some(lease) = lease_of(env) else { return 0 };
        self.hearing.expect(&self.members, self.own, env.now.mono);
        let is_up = self.lease.is_up();
        let silent = if is_up { self.hearing.silent(env.now.mono, lease) } else { 0 };
        self.silent = u32::try_from(silent).unwrap_or(u32::MAX);
        self.silent
    }

    /// This node has gone by its own will: it beats no more.
    pub(super) fn quit(&mut self, calls: &mut Calls) {
        if self.lease.end() {
            calls.send(BusCommand::Quit { node: self.own });
        }
    }
}

/// Orders, at the first hub.
impl Nodes {
    /// Tells all nodes of an order. What is done with that, if it is at once.
    pub(super) fn spread(
        &mut self,
        env: &mut Env,
        calls: &mut Calls,
        ticket: Ticket,
        order: Order,
    ) -> Option<Done> {
        let entry = Entry { id: OrderId(env.entropy.next_u64()), from: self.own, order };
        let others = || self.members.ids().iter().copied().filter(|id| *id != self.own).collect();
        let others = self.lease.is_up().then(others);
        let when = (env.now.mono, terms(env));
        self.spreading.begin(when, calls, ticket, entry, others)
    }

    /// What became of telling all nodes of an order.
    pub(super) fn on_controlled(
        &mut self,
        env: &Env,
        call: CallId,
        result: Result<u32, BusError>,
    ) -> Option<Done> {
        self.spreading.on_controlled(call, result, terms(env))
    }

    /// Tells all nodes of what they could not be told before.
    pub(super) fn spread_unsent(&mut self, env: &Env, calls: &mut Calls) {
        if self.lease.is_up() {
            self.spreading.go_on(calls, terms(env));
        }
    }

    /// Orders that the bus has not taken.
    pub(super) fn unsent(&self) -> usize {
        self.spreading.unsent()
    }

    /// A node has carried an order out.
    pub(super) fn on_confirmed(
        &mut self,
        order: OrderId,
        node: NodeId,
        closed: u32,
    ) -> Option<Done> {
        self.spreading.on_confirmed(order, node, closed)
    }

    /// Nobody waits for these nodes any more.
    pub(super) fn on_gone(&mut self, gone: &[NodeId]) -> Vec<Done> {
        self.spreading.on_gone(gone)
    }

    /// Those who have waited for other nodes for long enough.
    pub(super) fn take_late(&mut self, env: &Env) -> Vec<Done> {
        self.spreading.take_late(env.now.mono)
    }

    /// Whether others may count on it that what all nodes are told is carried out here.
    pub(super) fn is_informed(&self) -> bool {
        self.lease.is_informed()
    }

    /// Tells all nodes something that matters now only.
    pub(super) fn tell_all(&self, calls: &mut Calls, told: Told) {
        calls.send(tell(told));
    }

    /// Tells the hub that had a session that it was claimed.
    pub(super) fn tell_claimed(&self, calls: &mut Calls, to: Writer, held: SessionHeld) {
        calls.send(tell(Told::Claimed { to, held }));
    }

    /// Tells whoever waits for it that this process has carried an order out.
    pub(super) fn confirm(&self, calls: &mut Calls, order: OrderId, closed: u32) {
        calls.send(tell(Told::CarriedOut { order, node: self.own, closed }));
    }
}

/// What bounds orders.
fn terms(env: &Env) -> Terms {
    let limits = &env.config.limits;
    Terms {
        unsent_max: limits.revocations.revocations_max,
        revocation_keep: limits.revocations.revocation_keep,
        confirm_time: limits.bus.confirm_time,
    }
}

/// Something for all nodes that matters now only.
fn tell(told: Told) -> BusCommand {
    BusCommand::Tell { message: Bytes::from(told.into_json()) }
}

/// How long this node counts as there without a sign of life; `None`: it has no bus.
fn lease_of(env: &Env) -> Option<Duration> {
    env.config.bus.as_ref().map(|bus| bus.lease)
}
