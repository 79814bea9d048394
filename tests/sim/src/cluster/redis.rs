//! Links and the modelled Redis: byte pipes with latency and bounds, which are cut, go dark or get stuck.

use std::{collections::VecDeque, io, net::SocketAddr, time::Duration};

use mahavishnu_core::hub::{BusEvent, LinkEvent, NodeEvent};
use mahavishnu_links::{Action, Link, LinkConfig, Secret};
use mahavishnu_redis_model::ConnId;

use super::{
    fault::{PASSWORD, SERVERS},
    world::{Event, World},
};
use crate::clock::{MICRO, MILLI, Nanos};

/// A link and its socket.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) link: Link,
    /// Which of its sockets and look-ups, counted: what belongs to another one is nobody's.
    socket: u64,
    connection: Option<(usize, ConnId)>,
    /// When what is sent now arrives at the earliest: nothing overtakes anything.
    pub(super) up_at: Nanos,
    down_at: Nanos,
    /// Bytes under way from Redis.
    under_way: usize,
    /// Bytes that have come and are not read.
    unread: VecDeque<u8>,
    /// Nothing comes through this connection any more, and nobody says so.
    dark: bool,
    pub(super) sessions: u64,
}

/// Something for a link.
#[derive(Clone, Debug)]
pub(super) enum Arrival {
    Resolved,
    Connected,
    Refused,
    Bytes(Vec<u8>),
    End,
}

/// Something for Redis.
#[derive(Clone, Debug)]
pub(super) enum Request {
    Connect(usize, usize, u64, u64),
    Bytes(usize, ConnId, Vec<u8>),
    Closed(usize, ConnId),
}

impl Wire {
    pub(super) fn new(link: Link) -> Self {
        Self {
            link,
            socket: 0,
            connection: None,
            up_at: 0,
            down_at: 0,
            under_way: 0,
            unread: VecDeque::new(),
            dark: false,
            sessions: 0,
        }
    }

    /// The socket that there was is no more.
    fn drop_socket(&mut self) -> Option<(usize, ConnId)> {
        self.socket += 1;
        self.under_way = 0;
        self.unread.clear();
        self.connection.take().filter(|_| !std::mem::take(&mut self.dark))
    }
}

impl World {
    pub(super) fn link_config(&self, node: usize) -> LinkConfig {
        LinkConfig {
            password: Some(Secret::new(PASSWORD)),
            node_name: format!("node-{node}").into(),
            ..LinkConfig::default()
        }
    }

    /// Since the world began, as Redis has it.
    pub(super) fn time(&self) -> Duration {
        Duration::from_nanos(self.clock.nanos)
    }

    fn link_delay(&mut self) -> Nanos {
        let slow = if self.clock.nanos < self.slow_until { 900 * MILLI } else { 0 };
        self.random.below(self.options.link_us * MICRO + slow + 1) + MICRO
    }

    /// Tells the hub what the link has to tell, and does what it wants. Whether there was anything.
    pub(super) fn heed_link(&mut self, node: usize, shard: usize) -> bool {
        let mut heeded = false;
        let now = self.clock.now();
        let hub = &mut self.nodes[node].hubs[shard];
        while let Some(event) = hub.wire.link.poll_event() {
            heeded = true;
            if let BusEvent::Link(LinkEvent::Up { .. }) = event {
                hub.wire.sessions += 1;
                self.sessions += 1;
            }
            if self.story.is_wanted()
                && !matches!(
                    event,
                    BusEvent::Link(LinkEvent::State(_)) | BusEvent::Node(NodeEvent::Beat { .. })
                )
            {
                self.story.say(self.clock.nanos, &format!("node {node}.{shard} hears {event:?}"));
            }
            hub.hub.handle_bus(now, event);
        }
        while let Some(action) = self.nodes[node].hubs[shard].wire.link.poll_action() {
            heeded = true;
            self.act(node, shard, action);
        }
        heeded
    }

    fn act(&mut self, node: usize, shard: usize, action: Action) {
        let delay = self.link_delay();
        let at = self.clock.nanos + delay;
        let life = self.nodes[node].life;
        match action {
            Action::Resolve { .. } => {
                let wire = &mut self.nodes[node].hubs[shard].wire;
                wire.socket += 1;
                let socket = wire.socket;
                self.agenda.plan(at, Event::ToLink(node, life, shard, socket, Arrival::Resolved));
            }
            Action::Connect { .. } => {
                let wire = &mut self.nodes[node].hubs[shard].wire;
                let old = wire.drop_socket();
                let (socket, up_at) = (wire.socket, wire.up_at);
                // A new connection overtakes what an old one has sent.
                wire.up_at = at;
                self.close(old, up_at);
                if at >= self.nodes[node].dark_until {
                    let request = Request::Connect(node, shard, life, socket);
                    self.agenda.plan(at, Event::ToRedis(request));
                }
            }
            Action::Close => {
                let wire = &mut self.nodes[node].hubs[shard].wire;
                let (old, up_at) = (wire.drop_socket(), wire.up_at);
                self.close(old, up_at);
            }
        }
    }

    /// Redis hears of the end of a connection behind what was sent.
    fn close(&mut self, connection: Option<(usize, ConnId)>, up_at: Nanos) {
        if let Some((server, connection)) = connection {
            let at = up_at.max(self.clock.nanos + self.link_delay());
            self.agenda.plan(at, Event::ToRedis(Request::Closed(server, connection)));
        }
    }

    /// The link's deadlines.
    pub(super) fn wind_link(&mut self, node: usize, shard: usize) {
        let now = self.clock.now();
        let link = &mut self.nodes[node].hubs[shard].wire.link;
        if link.poll_timeout().is_some_and(|at| at <= now.mono) {
            link.handle_timeout(now);
            if link.poll_timeout().is_some_and(|at| at <= now.mono) {
                self.oracle.fail("timer", || format!("link {shard} of node {node}: due again"));
            }
        }
    }

    /// Writes what the turn has brought for Redis, and reads on if the hub takes it in again.
    pub(super) fn flush_link(&mut self, node: usize, shard: usize) {
        let now = self.clock.now();
        let delay = self.link_delay();
        let hub = &mut self.nodes[node].hubs[shard];
        hub.wire.link.set_full(now, !hub.hub.wants_bus());
        if let Some((server, connection)) = hub.wire.connection
            && !hub.wire.link.transmit().is_empty()
        {
            let bytes = hub.wire.link.transmit().to_vec();
            hub.wire.link.transmitted(bytes.len());
            self.digest.bytes(&bytes);
            hub.wire.up_at = hub.wire.up_at.max(self.clock.nanos + delay);
            if !hub.wire.dark {
                let request = Request::Bytes(server, connection, bytes);
                self.agenda.plan(hub.wire.up_at, Event::ToRedis(request));
            }
        }
        self.read_link(node, shard);
    }

    /// Gives the link what has come, in pieces.
    fn read_link(&mut self, node: usize, shard: usize) {
        let now = self.clock.now();
        let chunk = self.options.chunk as usize;
        let wire = &mut self.nodes[node].hubs[shard].wire;
        if wire.unread.is_empty() || !wire.link.wants_read() {
            return;
        }
        let count = wire.unread.len().min(chunk);
        let mut bytes: Vec<u8> = wire.unread.drain(..count).collect();
        wire.under_way -= count;
        wire.link.handle_bytes(now, &mut bytes);
        self.plan_turn(node, shard);
        self.collect();
    }

    /// Something comes to a link.
    pub(super) fn arrive_at_link(
        &mut self,
        (node, shard): (usize, usize),
        socket: u64,
        arrival: Arrival,
    ) {
        let now = self.clock.now();
        let wire = &mut self.nodes[node].hubs[shard].wire;
        if wire.socket != socket {
            return;
        }
        match arrival {
            Arrival::Resolved => {
                let addresses = vec![SocketAddr::from(([10, 0, 0, 9], 6379))];
                wire.link.handle_resolved(now, Ok(addresses));
            }
            Arrival::Connected => wire.link.handle_connected(now),
            Arrival::Refused => wire.link.handle_failed(now, io::ErrorKind::ConnectionRefused),
            Arrival::Bytes(bytes) => {
                self.digest.bytes(&bytes);
                wire.unread.extend(bytes);
                self.read_link(node, shard);
            }
            Arrival::End => {
                wire.drop_socket();
                wire.link.handle_eof(now);
            }
        }
        self.plan_turn(node, shard);
    }

    /// Something comes to Redis.
    pub(super) fn arrive_at_redis(&mut self, request: Request) {
        let now = self.time();
        match request {
            Request::Connect(node, shard, life, socket) => {
                self.connections += 1;
                let port = 1_024 + (self.connections % 60_000) as u16;
                let peer = SocketAddr::from(([10, 0, 0, 1 + node as u8], port));
                let primary = self.redis.primary();
                let connection = self.redis.server(primary).connect(now, peer);
                let there =
                    self.is_there(node, life) && self.nodes[node].hubs[shard].wire.socket == socket;
                match connection {
                    Some(connection) if there => {
                        self.nodes[node].hubs[shard].wire.connection = Some((primary, connection));
                    }
                    Some(connection) => self.redis.server(primary).closed(now, connection),
                    None => {}
                }
                let arrival =
                    if connection.is_some() { Arrival::Connected } else { Arrival::Refused };
                if there {
                    self.send_down(node, shard, arrival);
                }
            }
            Request::Bytes(server, connection, bytes) => {
                self.redis.server(server).receive(now, connection, &bytes);
            }
            Request::Closed(server, connection) => {
                self.redis.server(server).closed(now, connection);
            }
        }
        self.collect();
    }

    fn send_down(&mut self, node: usize, shard: usize, arrival: Arrival) {
        let delay = self.link_delay();
        let life = self.nodes[node].life;
        let wire = &mut self.nodes[node].hubs[shard].wire;
        if let Arrival::Bytes(bytes) = &arrival {
            wire.under_way += bytes.len();
        }
        wire.down_at = wire.down_at.max(self.clock.nanos + delay);
        let event = Event::ToLink(node, life, shard, wire.socket, arrival);
        self.agenda.plan(wire.down_at, event);
    }

    /// Sends on what Redis has written, as far as there is room, and has replicas told.
    pub(super) fn collect(&mut self) {
        let now = self.time();
        for node in 0..self.nodes.len() {
            for shard in 0..self.nodes[node].hubs.len() {
                let wire = &mut self.nodes[node].hubs[shard].wire;
                let Some((server, connection)) = wire.connection else { continue };
                if wire.dark {
                    continue;
                }
                let room = (self.options.room as usize).saturating_sub(wire.under_way);
                let redis = self.redis.server(server);
                let bytes = if room > 0 { redis.take_some(connection, room) } else { Vec::new() };
                let closed = redis.has_closed(connection);
                if !bytes.is_empty() {
                    self.send_down(node, shard, Arrival::Bytes(bytes));
                }
                if closed {
                    self.nodes[node].hubs[shard].wire.connection = None;
                    self.send_down(node, shard, Arrival::End);
                }
            }
        }
        self.collect_queues();
        self.redis.pass(now);
        if let Some(due) = self.redis.due() {
            let at = due.as_nanos() as Nanos;
            if self.replicated_at != Some(at) {
                self.replicated_at = Some(at);
                self.agenda.plan(at.max(self.clock.nanos), Event::Replicate);
            }
        }
    }

    /// A connection is cut: both ends hear of it.
    pub(super) fn cut_link(&mut self, node: usize, shard: usize) {
        let now = self.clock.now();
        let wire = &mut self.nodes[node].hubs[shard].wire;
        let had = wire.connection.is_some();
        let (old, up_at) = (wire.drop_socket(), wire.up_at);
        self.close(old, up_at);
        if had {
            let link = &mut self.nodes[node].hubs[shard].wire.link;
            link.handle_failed(now, io::ErrorKind::ConnectionReset);
            self.plan_turn(node, shard);
        }
    }

    /// Nothing goes through the connections of a process any more, and no others can be made for a while.
    pub(super) fn darken(&mut self, node: usize, until: Nanos) {
        let process = &mut self.nodes[node];
        process.dark_until = process.dark_until.max(until);
        process.hubs.iter_mut().for_each(|hub| hub.wire.dark = hub.wire.connection.is_some());
    }

    /// Servers begin with a password.
    pub(super) fn lock_servers(&mut self) {
        (0..SERVERS).for_each(|it| self.redis.server(it).set_password(Some(PASSWORD)));
    }
}
