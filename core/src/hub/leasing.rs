//! This node among the others: what its bus tells of them, and what follows from that here.

use super::{
    Hub,
    bus::{LinkEvent, Node, NodeEvent, NodeId},
    nodes::{Due, LinkCounts, NodeInfo, NodesMessage, Roll, Told},
    peers::Inner,
    types::ShardId,
};
use crate::record;

impl Hub {
    /// How this hub's bus does: the other hubs are to know.
    pub(super) fn tell_of_link(&mut self, event: &LinkEvent) {
        if let Some(link) = self.nodes.hear(&mut self.env, event) {
            self.tell_all(|| NodesMessage::Link(link.clone()));
        }
    }

    /// At the first hub: something has happened that the lease, or what all nodes are told, depends on.
    pub(super) fn lead(&mut self, happened: impl FnOnce(&mut Self)) {
        if self.is_first() {
            happened(self);
            self.keep_lease();
            self.env.tally.bus.unsent(self.nodes.unsent());
        }
    }

    pub(super) fn on_lease_up(&mut self) {
        self.nodes.on_up(&self.env);
        self.nodes.spread_unsent(&self.env, &mut self.calls);
    }

    pub(super) fn on_lease_down(&mut self) {
        self.nodes.on_down();
        self.listen();
    }

    /// What the bus tells of nodes, and what these tell: to a process's first hub.
    pub(super) fn hear_of_nodes(&mut self, event: &NodeEvent) {
        self.lead(|hub| hub.hear_as_first(event));
    }

    fn hear_as_first(&mut self, event: &NodeEvent) {
        match event {
            NodeEvent::Beat { nodes, gone } => self.on_beat(nodes, gone),
            NodeEvent::LeaseLost => {
                if self.nodes.on_lease_lost() {
                    self.begin_anew();
                }
            }
            NodeEvent::BeatFailed => {
                self.nodes.on_beat_failed();
                self.listen();
            }
            NodeEvent::Told { message } => match Told::parse(message) {
                Some(Told::Alive(node)) if node != self.nodes.node() => {
                    self.nodes.on_alive(&self.env, node);
                }
                Some(Told::CarriedOut { order, node, closed }) => {
                    let done = self.nodes.on_confirmed(order, node, closed);
                    self.answer_spread(done);
                }
                Some(Told::Claimed { to, held }) => self.pass_claimed(to, held),
                Some(Told::Given(given)) => self.on_given(given),
                Some(Told::Taken { from, taken }) => self.on_taken_elsewhere(from, taken),
                // Or a node of a later version says something that nobody here knows.
                Some(Told::Alive(_)) | None => {}
            },
            NodeEvent::Control { at: _, command } => self.on_control(command),
            NodeEvent::Controlled { id, result } => self.on_controlled(*id, *result),
        }
    }

    /// Another hub of this process tells of nodes.
    pub(super) fn on_nodes_message(&mut self, from: ShardId, message: NodesMessage) {
        match message {
            NodesMessage::Link(link) => self.nodes.learn_link(&self.env, from, *link),
            NodesMessage::Roll(roll) => self.take_roll(&roll),
            NodesMessage::Spread { ticket, order } => self.on_spread(ticket, order),
            NodesMessage::HasSpread { ticket, spread } => self.on_spread_done(ticket, spread),
            NodesMessage::Claimed(held) => self.on_session_claimed(held),
        }
    }

    /// Whether this hub speaks for its process.
    pub(super) fn is_first(&self) -> bool {
        self.env.place.shard == ShardId(0)
    }

    /// To all other hubs, if they take something in at present; it is said again before long.
    fn tell_all(&mut self, message: impl Fn() -> NodesMessage) {
        for shard in self.env.place.others() {
            if !self.peers.is_full(shard) {
                self.peers.send(&self.env, shard, Inner::Nodes(Box::new(message())));
            }
        }
    }

    /// What is due about the lease, and about those who wait for other nodes: at the first hub.
    pub(super) fn keep_lease(&mut self) {
        let late = self.nodes.take_late(&self.env);
        self.answer_spread(late);
        while let Some(due) = self.nodes.due(&self.env) {
            match due {
                Due::Lost => self.begin_anew(),
                Due::Beat { first } => {
                    let info = self.node_info();
                    self.nodes.beat(&self.env, &mut self.calls, info, first);
                }
            }
        }
    }

    fn node_info(&self) -> NodeInfo {
        let config = &self.env.config;
        let name = config.bus.as_ref().map(|bus| &*bus.node_name).unwrap_or_default();
        NodeInfo {
            name: name.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            connections: self.peers.open(),
            links: LinkCounts { up: self.nodes.links_up(), total: self.env.place.shards.max(1) },
            draining: self.drain.is_told(),
            record: record::VERSION,
        }
    }

    fn on_beat(&mut self, nodes: &[Node], gone: &[NodeId]) {
        let roll = self.nodes.on_beat(&self.env, nodes, gone);
        self.call_roll(roll);
        self.nodes.spread_unsent(&self.env, &mut self.calls);
    }

    /// The lease is lost: what this process had is gone for the others, and it goes on as another node.
    fn begin_anew(&mut self) {
        self.env.tally.bus.lease_lost += 1;
        let roll = self.nodes.begin_anew(&mut self.env, &mut self.calls);
        self.call_roll(roll);
    }

    /// Whom this node hears may have changed though the bus has not said who is there.
    fn listen(&mut self) {
        let before = self.nodes.silent();
        if self.nodes.listen(&self.env) != before {
            self.call_roll(self.nodes.roll());
        }
    }

    /// The first hub has learnt who is there: now all hubs know.
    fn call_roll(&mut self, mut roll: Roll) {
        self.take_roll(&roll);
        roll.silent = self.nodes.listen(&self.env);
        self.tell_all(|| NodesMessage::Roll(roll.clone()));
        let connections = self.nodes.connections_elsewhere() + self.peers.open();
        self.env.tally.bus.nodes(self.nodes.len(), roll.silent, connections);
    }

    fn take_roll(&mut self, roll: &Roll) {
        let news = self.nodes.take_roll(&self.env, roll);
        if news.renamed {
            self.visits.on_renamed();
        }
        self.take_roll_of_members(&news.gone);
        if self.is_first() {
            self.env.tally.bus.nodes_gone += news.gone.len() as u64;
            let done = self.nodes.on_gone(&news.gone);
            self.answer_spread(done);
        }
    }
}
