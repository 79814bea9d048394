//! Links and one modelled Redis on a clock that jumps from one event to the next: how a simulated world drives both.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use mahavishnu_core::{
    entropy::Seed,
    hub::{BusCommand, BusEvent, NodeId},
    time::Now,
};
use mahavishnu_links::{Action, Link, LinkConfig};
use mahavishnu_redis_model::{ConnId, Redis, Version};

/// Unix time when the world begins.
const UNIX: Duration = Duration::from_secs(1_790_000_000);

/// Something that arrives: at a link, if its socket is still the one of this number, or at Redis.
enum Arrival {
    Resolved(usize, u64),
    Connected(usize, u64),
    Refused(usize, u64),
    Bytes(usize, u64, Vec<u8>),
    End(usize, u64),
    Connect(usize, u64),
    Request(usize, ConnId, Vec<u8>),
    Closed(usize, ConnId),
}

impl Arrival {
    /// The node that it comes from or goes to.
    fn node(&self) -> usize {
        match self {
            Self::Resolved(number, _)
            | Self::Connected(number, _)
            | Self::Refused(number, _)
            | Self::Bytes(number, ..)
            | Self::End(number, _)
            | Self::Connect(number, _)
            | Self::Request(number, ..)
            | Self::Closed(number, _) => *number,
        }
    }
}

/// A link and its socket.
pub(crate) struct Node {
    /// The link.
    pub(crate) link: Link,
    /// What it told and nobody has looked at yet.
    pub(crate) events: Vec<BusEvent>,
    /// Nothing arrives from it or at it. What is sent meanwhile arrives later, as TCP has it.
    held: Option<Vec<Arrival>>,
    /// Which of its sockets, counted.
    socket: u64,
    connection: Option<ConnId>,
}

/// Links and a Redis.
pub(crate) struct World {
    /// The Redis. What is done to it by hand is noticed at the next event.
    pub(crate) redis: Redis,
    /// The links.
    pub(crate) nodes: Vec<Node>,
    /// Since the beginning.
    pub(crate) now: Duration,
    /// Each way, for everything.
    pub(crate) latency: Duration,
    /// Bytes arrive in pieces of this size at most.
    pub(crate) piece: usize,
    start: Instant,
    /// Nothing overtakes what was sent before it.
    last: Duration,
    /// By time, and by the order in which they were sent.
    arrivals: BTreeMap<(Duration, u64), Arrival>,
    sent: u64,
}

impl World {
    /// So many links that have yet to connect.
    pub(crate) fn new(version: Version, nodes: usize, seed: u64) -> Self {
        let start = Instant::now();
        let now = Now { mono: start, unix: UNIX };
        let node = |number: usize| {
            let number = number as u64;
            let config = Arc::new(LinkConfig::default());
            let seed = Seed::from(seed * 100 + number);
            let link = Link::new(config, NodeId(number + 1), 0, seed, now);
            Node { link, events: Vec::new(), held: None, socket: 0, connection: None }
        };
        let mut this = Self {
            redis: Redis::new(version),
            nodes: (0..nodes).map(node).collect(),
            now: Duration::ZERO,
            latency: Duration::from_micros(200),
            piece: usize::MAX,
            start,
            last: Duration::ZERO,
            arrivals: BTreeMap::new(),
            sent: 0,
        };
        for number in 0..nodes {
            this.turn(number);
        }
        this
    }

    fn moment(&self) -> Now {
        Now { mono: self.start + self.now, unix: UNIX + self.now }
    }

    fn send(&mut self, arrival: Arrival) {
        self.sent += 1;
        self.last = self.last.max(self.now + self.latency);
        self.arrivals.insert((self.last, self.sent), arrival);
    }

    /// A node and Redis hear nothing more of each other, and nobody is told.
    pub(crate) fn cut_off(&mut self, number: usize) {
        self.nodes[number].held.get_or_insert_default();
    }

    /// A node's socket fails. Redis hears of that later, and what it has sent is lost.
    pub(crate) fn break_socket(&mut self, number: usize) {
        let now = self.moment();
        let node = &mut self.nodes[number];
        let Some(connection) = node.connection.take() else { return };
        node.socket += 1;
        node.link.handle_failed(now, io::ErrorKind::ConnectionReset);
        self.send(Arrival::Closed(number, connection));
        self.turn(number);
    }

    /// They hear of each other again, beginning with what was sent meanwhile.
    pub(crate) fn mend(&mut self, number: usize) {
        for arrival in self.nodes[number].held.take().unwrap_or_default() {
            self.sent += 1;
            self.arrivals.insert((self.now, self.sent), arrival);
        }
    }

    /// A hub commands its link.
    pub(crate) fn command(&mut self, number: usize, command: BusCommand) {
        let now = self.moment();
        self.nodes[number].link.handle_command(now, command);
        self.turn(number);
    }

    /// Everything that happens in so much time.
    pub(crate) fn run(&mut self, time: Duration) {
        let (end, mut standstill) = (self.now + time, 0);
        self.collect();
        while let Some(at) = self.next().filter(|at| *at <= end) {
            standstill = if at > self.now { 0 } else { standstill + 1 };
            assert!(standstill < 100_000, "time stands still at {at:?}");
            self.now = self.now.max(at);
            match self.arrivals.first_entry().filter(|entry| entry.key().0 == at) {
                Some(entry) => {
                    let arrival = entry.remove();
                    self.arrive(arrival);
                }
                None => self.time_out(),
            }
            self.collect();
        }
        self.now = end;
        self.redis.pass(end);
    }

    fn next(&self) -> Option<Duration> {
        let timers = self.nodes.iter().filter_map(|node| node.link.poll_timeout());
        let timers = timers.map(|at| at.saturating_duration_since(self.start));
        timers.chain(self.arrivals.keys().map(|(at, _)| *at)).min()
    }

    fn time_out(&mut self) {
        let now = self.moment();
        for number in 0..self.nodes.len() {
            if self.nodes[number].link.poll_timeout().is_some_and(|at| at <= now.mono) {
                self.nodes[number].link.handle_timeout(now);
                self.turn(number);
            }
        }
    }

    /// What the contract of a link asks for after every input.
    fn turn(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        while let Some(event) = node.link.poll_event() {
            node.events.push(event);
        }
        let mut sent = Vec::new();
        while let Some(action) = node.link.poll_action() {
            node.socket += 1;
            match action {
                Action::Resolve { .. } => sent.push(Arrival::Resolved(number, node.socket)),
                Action::Connect { .. } => sent.push(Arrival::Connect(number, node.socket)),
                Action::Close => {
                    sent.extend(node.connection.take().map(|it| Arrival::Closed(number, it)))
                }
            }
        }
        if let Some(connection) = node.connection {
            let bytes = node.link.transmit().to_vec();
            node.link.transmitted(bytes.len());
            let pieces = bytes.chunks(self.piece);
            sent.extend(pieces.map(|piece| Arrival::Request(number, connection, piece.to_vec())));
        }
        for arrival in sent {
            self.send(arrival);
        }
    }

    /// Sends on what Redis has written.
    fn collect(&mut self) {
        for number in 0..self.nodes.len() {
            let Node { connection, socket, .. } = self.nodes[number];
            let Some(connection) = connection else { continue };
            let bytes = self.redis.take(connection);
            for piece in bytes.chunks(self.piece) {
                self.send(Arrival::Bytes(number, socket, piece.to_vec()));
            }
            if self.redis.has_closed(connection) {
                self.nodes[number].connection = None;
                self.send(Arrival::End(number, socket));
            }
        }
    }

    fn arrive(&mut self, arrival: Arrival) {
        if let Some(held) = &mut self.nodes[arrival.node()].held {
            held.push(arrival);
            return;
        }
        match arrival {
            Arrival::Connect(number, socket) => self.connect(number, socket),
            Arrival::Request(_, connection, bytes) => {
                self.redis.receive(self.now, connection, &bytes);
            }
            Arrival::Closed(_, connection) => self.redis.closed(self.now, connection),
            Arrival::Resolved(number, socket)
            | Arrival::Connected(number, socket)
            | Arrival::Refused(number, socket)
            | Arrival::Bytes(number, socket, _)
            | Arrival::End(number, socket) => {
                let node = &self.nodes[number];
                if node.socket == socket {
                    self.tell(number, arrival);
                    self.turn(number);
                }
            }
        }
    }

    fn connect(&mut self, number: usize, socket: u64) {
        let (host, port) = (number as u8 + 1, 5000 + (socket % 50_000) as u16);
        let connection = self.redis.connect(self.now, SocketAddr::from(([10, 0, 0, host], port)));
        match connection {
            Some(connection) if self.nodes[number].socket != socket => {
                self.redis.closed(self.now, connection);
            }
            Some(connection) => {
                self.nodes[number].connection = Some(connection);
                self.send(Arrival::Connected(number, socket));
            }
            None => self.send(Arrival::Refused(number, socket)),
        }
    }

    fn tell(&mut self, number: usize, arrival: Arrival) {
        let now = self.moment();
        let link = &mut self.nodes[number].link;
        match arrival {
            Arrival::Resolved(..) => {
                link.handle_resolved(now, Ok(vec![SocketAddr::from(([10, 0, 0, 9], 6379))]));
            }
            Arrival::Connected(..) => link.handle_connected(now),
            Arrival::Refused(..) => link.handle_failed(now, io::ErrorKind::ConnectionRefused),
            Arrival::Bytes(_, _, mut bytes) => link.handle_bytes(now, &mut bytes),
            Arrival::End(..) => link.handle_eof(now),
            Arrival::Connect(..) | Arrival::Request(..) | Arrival::Closed(..) => {}
        }
    }
}
