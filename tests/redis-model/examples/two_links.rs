//! Two links over one modelled Redis, on a clock that jumps from one event to the next: how a simulated world drives both.
//!
//! Both follow a channel and append to it; Redis is paused, restarted without its data, and forgets its scripts meanwhile. Both
//! hear everything in one order. `cargo test` runs it too.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use mahavishnu_core::{
    entropy::Seed,
    hub::{Append, BusCommand, BusEvent, CallId, Live, NodeId, Retention, Writer},
    protocol::{Epoch, Position},
    time::Now,
};
use mahavishnu_links::{Action, Link, LinkConfig};
use mahavishnu_redis_model::{ConnId, Disk, Redis, Version};

/// Each way, for everything.
const LATENCY: Duration = Duration::from_micros(200);
const CHANNEL: &str = "workflow:42";
const RETENTION: Retention =
    Retention { messages: 100, time: Duration::from_secs(60), position: Duration::from_secs(3600) };

/// Something that arrives.
enum Arrival {
    /// At a link, if its socket is still this one.
    Resolved(usize, u64),
    Connected(usize, u64),
    Refused(usize, u64),
    Bytes(usize, u64, Vec<u8>),
    End(usize, u64),
    /// At Redis.
    Connect(usize, u64),
    Request(ConnId, Vec<u8>),
    Closed(ConnId),
}

/// A link, its socket, and what it told.
struct Node {
    link: Link,
    writer: Writer,
    /// Which of its sockets, counted.
    socket: u64,
    connection: Option<ConnId>,
    events: Vec<BusEvent>,
    /// Messages of the channel in the order in which they came.
    heard: Vec<Bytes>,
    position: Option<Position>,
    appends: u64,
}

struct World {
    redis: Redis,
    nodes: Vec<Node>,
    now: Duration,
    start: Instant,
    /// By time, and by the order in which they were sent.
    arrivals: BTreeMap<(Duration, u64), Arrival>,
    sent: u64,
}

impl World {
    fn new(version: Version) -> Self {
        let start = Instant::now();
        let now = Now { mono: start, unix: Duration::from_secs(1_790_000_000) };
        let node = |number: u64| {
            let id = NodeId(number);
            let config = Arc::new(LinkConfig::default());
            let link = Link::new(config, id, 0, Seed::from(number), now);
            let writer = Writer { node: id, shard: 0 };
            Node {
                link,
                writer,
                socket: 0,
                connection: None,
                events: Vec::new(),
                heard: Vec::new(),
                position: None,
                appends: 0,
            }
        };
        let mut this = Self {
            redis: Redis::new(version),
            nodes: vec![node(1), node(2)],
            now: Duration::ZERO,
            start,
            arrivals: BTreeMap::new(),
            sent: 0,
        };
        for number in 0..2 {
            let epoch = Epoch::from_random(number as u64 + 7);
            let channel = CHANNEL.into();
            this.command(number, BusCommand::Follow { channel, epoch, retention: RETENTION });
        }
        this
    }

    fn moment(&self) -> Now {
        Now { mono: self.start + self.now, unix: Duration::from_secs(1_790_000_000) + self.now }
    }

    fn send(&mut self, arrival: Arrival) {
        self.sent += 1;
        self.arrivals.insert((self.now + LATENCY, self.sent), arrival);
    }

    fn command(&mut self, number: usize, command: BusCommand) {
        let now = self.moment();
        self.nodes[number].link.handle_command(now, command);
        self.turn(number);
    }

    /// Appends what nobody else says.
    fn append(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        node.appends += 1;
        let append = Append {
            id: CallId(node.appends),
            writer: node.writer,
            channel: CHANNEL.into(),
            count: 1,
            records: Bytes::from(format!("{number}-{}", node.appends)),
            known: node.position,
            epoch: Epoch::from_random(99),
            retention: RETENTION,
            state: None,
            condition: None,
            once: None,
        };
        self.command(number, BusCommand::Append(Box::new(append)));
    }

    /// What the contract of a link asks for after every input.
    fn turn(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        while let Some(event) = node.link.poll_event() {
            if let BusEvent::Standing { standing, .. } = &event {
                node.position = Some(standing.position);
            }
            if let BusEvent::Live {
                live: Live::Round { epoch, first, count, records, .. }, ..
            } = &event
            {
                node.heard.extend(records.clone());
                let offset = first + u64::from(*count) - 1;
                node.position = Some(Position { epoch: *epoch, offset });
            }
            node.events.push(event);
        }
        let mut sent = Vec::new();
        while let Some(action) = node.link.poll_action() {
            match action {
                Action::Resolve { .. } => {
                    node.socket += 1;
                    sent.push(Arrival::Resolved(number, node.socket));
                }
                Action::Connect { .. } => {
                    node.socket += 1;
                    sent.push(Arrival::Connect(number, node.socket));
                }
                Action::Close => {
                    node.socket += 1;
                    sent.extend(node.connection.take().map(Arrival::Closed));
                }
            }
        }
        if let Some(connection) = node.connection
            && !node.link.transmit().is_empty()
        {
            let bytes = node.link.transmit().to_vec();
            node.link.transmitted(bytes.len());
            sent.push(Arrival::Request(connection, bytes));
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
            if !bytes.is_empty() {
                self.send(Arrival::Bytes(number, socket, bytes));
            }
            if self.redis.has_closed(connection) {
                self.nodes[number].connection = None;
                self.send(Arrival::End(number, socket));
            }
        }
    }

    /// Everything that happens until then.
    fn run_until(&mut self, end: Duration) {
        self.collect();
        loop {
            let arrival = self.arrivals.keys().next().map(|(at, _)| *at);
            let timers = self.nodes.iter().filter_map(|node| node.link.poll_timeout());
            let timer = timers.min().map(|at| at.saturating_duration_since(self.start));
            let Some(at) = arrival.into_iter().chain(timer).min().filter(|at| *at <= end) else {
                break;
            };
            self.now = self.now.max(at);
            if arrival == Some(at) {
                let (_, arrival) = self.arrivals.pop_first().expect("it is there");
                self.arrive(arrival);
            } else {
                for number in 0..self.nodes.len() {
                    let now = self.moment();
                    if self.nodes[number].link.poll_timeout().is_some_and(|at| at <= now.mono) {
                        self.nodes[number].link.handle_timeout(now);
                        self.turn(number);
                    }
                }
            }
            self.collect();
        }
        self.now = end;
    }

    fn arrive(&mut self, arrival: Arrival) {
        let (now, moment) = (self.now, self.moment());
        match arrival {
            Arrival::Connect(number, socket) => {
                let peer = SocketAddr::from(([10, 0, 0, 1 + number as u8], 5000 + socket as u16));
                let connection = self.redis.connect(now, peer);
                if self.nodes[number].socket == socket {
                    self.nodes[number].connection = connection;
                } else if let Some(connection) = connection {
                    self.redis.closed(now, connection);
                }
                self.send(if connection.is_some() {
                    Arrival::Connected(number, socket)
                } else {
                    Arrival::Refused(number, socket)
                });
            }
            Arrival::Request(connection, bytes) => self.redis.receive(now, connection, &bytes),
            Arrival::Closed(connection) => self.redis.closed(now, connection),
            Arrival::Resolved(number, socket)
            | Arrival::Connected(number, socket)
            | Arrival::Refused(number, socket)
            | Arrival::Bytes(number, socket, _)
            | Arrival::End(number, socket)
                if self.nodes[number].socket != socket => {}
            Arrival::Resolved(number, _) => {
                let address = SocketAddr::from(([10, 0, 0, 9], 6379));
                self.nodes[number].link.handle_resolved(moment, Ok(vec![address]));
                self.turn(number);
            }
            Arrival::Connected(number, _) => {
                self.nodes[number].link.handle_connected(moment);
                self.turn(number);
            }
            Arrival::Refused(number, _) => {
                self.nodes[number].link.handle_failed(moment, io::ErrorKind::ConnectionRefused);
                self.turn(number);
            }
            Arrival::Bytes(number, _, mut bytes) => {
                self.nodes[number].link.handle_bytes(moment, &mut bytes);
                self.turn(number);
            }
            Arrival::End(number, _) => {
                self.nodes[number].link.handle_eof(moment);
                self.turn(number);
            }
        }
    }

    /// Lets so much time pass.
    fn run(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }
}

fn run(version: Version) {
    let mut world = World::new(version);
    world.run(Duration::from_secs(1));
    assert!(
        world.nodes.iter().all(|node| node.position.is_some()),
        "both are told where it stands"
    );
    for number in [0, 1, 1, 0] {
        world.append(number);
        world.run(Duration::from_millis(10));
    }
    // A pause: what was sent is executed once, late.
    world.redis.pause();
    world.append(0);
    world.run(Duration::from_secs(1));
    let now = world.now;
    world.redis.resume(now);
    world.run(Duration::from_secs(1));
    // Scripts are loaded again where they are missing.
    world.redis.flush_scripts();
    world.append(1);
    world.run(Duration::from_millis(10));
    // A restart with all data.
    world.redis.start(Disk::Kept);
    world.run(Duration::from_secs(5));
    world.append(0);
    world.run(Duration::from_secs(1));
    let told: Vec<&[u8]> = world.nodes[0].heard.iter().map(|bytes| &bytes[..]).collect();
    let wanted: [&[u8]; 7] = [b"0-1", b"1-1", b"1-2", b"0-2", b"0-3", b"1-3", b"0-4"];
    assert_eq!(told, wanted);
    assert_eq!(world.nodes[0].heard, world.nodes[1].heard);
    for node in &world.nodes {
        let ups = node.events.iter().filter(|event| matches!(event, BusEvent::Up { .. })).count();
        assert_eq!(ups, 2, "{:?}", node.events);
    }
    println!("{} {:?}: {} messages", version.name, version.number, world.nodes[0].heard.len());
}

fn main() {
    run(Version::REDIS_7_0);
    run(Version::VALKEY_9_1);
}

#[test]
fn two_links_hear_everything_in_one_order() {
    main();
}
