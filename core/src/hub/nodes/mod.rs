//! This node among the others: its lease, who else is there, and how well the bus does.
//!
//! A process is one node, whatever the number of its hubs. Its first hub speaks for it: it renews the lease, learns who else
//! is there, and tells the other hubs. How its own bus does each hub tells all others itself.

mod info;
mod lease;
mod links;
mod members;
mod message;
mod told;

use std::time::Duration;

use bytes::Bytes;

pub(super) use self::{
    info::{LinkCounts, NodeInfo},
    lease::Due,
    links::{Overall, Verdict},
    message::{NodesMessage, Roll},
    told::Told,
};
use self::{
    lease::Lease,
    links::{Link, Links},
    members::{Hearing, Members},
};
use super::{
    bus::{BusCommand, BusEvent, Calls, Node, NodeId},
    env::Env,
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
        }
    }

    /// The present life of this process. It ends when its lease is lost.
    pub(super) fn node(&self) -> NodeId {
        self.own
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
    /// This hub's bus has told something. What the other hubs are to know of it.
    pub(super) fn hear(&mut self, env: &mut Env, event: &BusEvent) -> Option<Box<Link>> {
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
    pub(super) fn on_up(&mut self) {
        self.lease.up();
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

    /// When something is due about the lease.
    pub(super) fn next_deadline(&self, env: &Env) -> Option<Instant> {
        self.lease.next_deadline(lease_of(env)?)
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

    /// At the first hub, and then as it has told the others: who is there. Those that have gone, with all that they had: an
    /// earlier life of this process may be among them.
    pub(super) fn take_roll(&mut self, env: &Env, roll: &Roll) -> Vec<NodeId> {
        self.own = roll.own;
        let mut gone = self.members.replace(roll.all.clone());
        gone.extend(roll.gone.iter().copied());
        gone.sort_unstable();
        gone.dedup();
        gone.retain(|node| *node != self.own);
        self.silent = roll.silent;
        self.judge(env);
        gone
    }

    /// At the first hub: who has not been heard of late.
    pub(super) fn listen(&mut self, env: &Env) -> u32 {
        let Some(lease) = lease_of(env) else { return 0 };
        self.hearing.expect(&self.members, self.own, env.now.mono);
        let silent = self.hearing.silent(env.now.mono, lease);
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

/// Something for all nodes that matters now only.
fn tell(told: Told) -> BusCommand {
    BusCommand::Tell { message: Bytes::from(told.to_json()) }
}

/// How long this node counts as there without a sign of life; `None`: it has no bus.
fn lease_of(env: &Env) -> Option<Duration> {
    env.config.bus.as_ref().map(|bus| bus.lease)
}
