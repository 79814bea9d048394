//! The world: hubs, sockets, clients and an application, and one event after the other.

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use bytes::Bytes;
use mahavishnu_core::{
    auth::{TokenSpec, issue},
    entropy::Seed,
    hub::{
        Command, ConnId, Hub, Listener, Output, Peer, Place, Placement, Publication, ShardId,
        ShardMessage,
    },
    ws::Flush,
};

use crate::{
    app::Application,
    client::{Client, Kind, Phase, Tokens, Wishes},
    clock::{Agenda, Clock, MICRO, MILLI, Nanos, SECOND, START_UNIX},
    invariants,
    net::{Link, Pipe, Sink},
    oracle::{APPLICATION, Oracle},
    random::{Digest, Random},
    recorder::Counts,
    sabotage::Sabotage,
    story::Story,
    swarm::{Options, Rights, SECRET, channel_names},
};

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A client acts.
    Wake(usize),
    /// A client's socket reaches a hub.
    Accept(usize),
    ToHub(usize, usize),
    ToClient(usize, usize),
    FinToHub(usize),
    FinToClient(usize),
    /// The client's end is gone for good.
    ResetToHub(usize),
    Writable(usize),
    Turn(usize),
    Timer(usize),
    Mail {
        from: usize,
        to: usize,
    },
    Answer(u64),
    Jump,
    Reload,
    Look,
}

/// One hub and what its driver keeps.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) hub: Hub,
    /// Links by the hub's connection index.
    pub(crate) links: Vec<usize>,
    turn_planned: bool,
    timer_at: Option<Nanos>,
    /// Links that the hub did not want to read.
    unread: Vec<usize>,
    /// Batches on their way to the other hubs, by hub.
    mail: Vec<VecDeque<Vec<ShardMessage>>>,
    mail_at: Vec<Nanos>,
    pub(crate) drained: bool,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) options: Options,
    pub(crate) clock: Clock,
    pub(crate) agenda: Agenda<Event>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) links: Vec<Link>,
    pub(crate) clients: Vec<Client>,
    pub(crate) app: Application,
    pub(crate) oracle: Oracle,
    pub(crate) digest: Digest,
    pub(crate) story: Story,
    pub(crate) counts: Arc<Counts>,
    pub(crate) tally: invariants::Tally,
    pub(crate) steps: u64,
    pub(crate) healing: bool,
    pub(crate) draining: bool,
    /// Nobody connects any more.
    pub(crate) closing_time: bool,
    pub(crate) generation: u64,
    random: Random,
    sabotage: Sabotage,
    wishes: Wishes,
}

impl World {
    pub(crate) fn new(
        options: &Options,
        sabotage: Sabotage,
        counts: Arc<Counts>,
        verbose: bool,
    ) -> Self {
        let clock = Clock::new();
        let config = Arc::new(options.config(0));
        let shards = options.shards.max(1);
        let node = |shard: u64| {
            let place = Place {
                shard: ShardId(shard as u16),
                shards: shards as u16,
                seed: Seed::from(options.seed),
            };
            Node {
                hub: Hub::new(config.clone(), place, clock.now()),
                links: Vec::new(),
                turn_planned: false,
                timer_at: None,
                unread: Vec::new(),
                mail: (0..shards).map(|_| VecDeque::new()).collect(),
                mail_at: vec![0; shards as usize],
                drained: false,
            }
        };
        let mut this = Self {
            clock,
            agenda: Agenda::new(),
            nodes: (0..shards).map(node).collect(),
            links: Vec::new(),
            clients: people(options),
            app: Application::new(options),
            oracle: Oracle::new(options),
            digest: Digest::new(),
            story: Story::new(verbose),
            counts,
            tally: invariants::Tally::default(),
            steps: 0,
            healing: false,
            draining: false,
            closing_time: false,
            generation: 0,
            random: Random::new(options.seed, 1),
            sabotage,
            wishes: Wishes::default(),
            options: options.clone(),
        };
        this.plan_fate();
        this
    }

    /// Plans what does not follow from anything: first steps and faults.
    fn plan_fate(&mut self) {
        let duration = self.options.duration_ms * MILLI;
        for client in 0..self.clients.len() {
            let at = self.random.below(duration / 4 + 1);
            self.agenda.plan(at, Event::Wake(client));
        }
        for _ in 0..self.options.wall_jumps {
            self.agenda.plan(self.random.below(duration), Event::Jump);
        }
        for _ in 0..self.options.reloads {
            self.agenda.plan(self.random.below(duration), Event::Reload);
        }
        self.agenda.plan(SECOND, Event::Look);
    }

    /// Lets everything happen until `until`, or until something is wrong.
    pub(crate) fn run(&mut self, until: Nanos, steps_max: u64) {
        let last = self.steps.saturating_add(steps_max);
        while self.steps < last && self.oracle.violation.is_none() {
            let Some((at, event)) = self.agenda.pop(until) else { break };
            self.clock.nanos = at;
            self.oracle.now = at;
            self.steps += 1;
            self.digest.number(at);
            self.story.tell(at, &event);
            self.happen(event);
        }
        if self.steps < last && self.oracle.violation.is_none() {
            self.clock.nanos = self.clock.nanos.max(until);
            self.oracle.now = self.clock.nanos;
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Wake(client) => self.wake(client),
            Event::Accept(link) => self.accept(link),
            Event::ToHub(link, count) => {
                self.links[link].up.arrive(count);
                self.feed(link);
            }
            Event::ToClient(link, count) => {
                self.links[link].down.arrive(count);
                self.client_reads(link);
            }
            Event::FinToHub(link) => {
                self.links[link].up.fin_arrived = true;
                self.feed(link);
            }
            Event::FinToClient(link) => {
                self.links[link].down.fin_arrived = true;
                self.client_reads(link);
            }
            Event::ResetToHub(link) => self.reset_hub_side(link),
            Event::Writable(link) => self.writable(link),
            Event::Turn(hub) => self.turn(hub),
            Event::Timer(hub) => self.timer(hub),
            Event::Mail { from, to } => self.mail(from, to),
            Event::Answer(ticket) => self.answer(ticket),
            Event::Jump => {
                let seconds = self.random.range(0, 2 * 86_400) as i64 - 86_400;
                self.clock.jump(seconds);
            }
            Event::Reload => {
                self.generation += 1;
                let config = Arc::new(self.options.config(self.generation));
                for hub in 0..self.nodes.len() {
                    self.command(hub, Command::Reload(config.clone()));
                }
            }
            Event::Look => {
                invariants::look_around(self);
                self.agenda.plan(self.clock.nanos + SECOND, Event::Look);
            }
        }
    }

    pub(crate) fn command(&mut self, hub: usize, command: Command) {
        self.digest.number(hub as u64);
        self.nodes[hub].hub.handle_command(self.clock.now(), command);
        self.plan_turn(hub);
    }

    /// The application broadcasts, at the channel's home: there it is never too busy.
    pub(crate) fn publish(&mut self, channel: u64) -> u32 {
        let place = Place {
            shard: ShardId(0),
            shards: self.nodes.len() as u16,
            seed: Seed::from(self.options.seed),
        };
        let home = Placement::new(place).home(self.oracle.name(channel));
        let number = self.oracle.publish(channel, 0, APPLICATION as usize);
        let mut data = Vec::new();
        crate::message::write_data(&mut data, channel, number, 0);
        let name = channel_names(self.options.channels)[channel as usize].as_str().into();
        let publication = Publication { channel: name, event: "e".into(), data: Bytes::from(data) };
        self.command(usize::from(home.0), Command::Publish { id: None, publication });
        number
    }

    fn jitter(&mut self, mean_us: u64) -> Nanos {
        self.random.below(2 * mean_us * MICRO + 1)
    }
}

/// Clients.
impl World {
    fn wake(&mut self, client: usize) {
        let think = self.options.think_ms * MILLI;
        // Once it is healed the world is quiet.
        let think = if self.healing { think.clamp(100 * MILLI, 500 * MILLI) } else { think };
        let next = self.clients[client].random.below(2 * think + 1) + MICRO;
        self.agenda.plan(self.clock.nanos + next, Event::Wake(client));
        let who = &mut self.clients[client];
        let Some(link) = who.link else {
            let gone = self.healing && !who.is_good();
            if !gone && !self.closing_time {
                self.connect(client);
            }
            return;
        };
        let was_paused = who.paused;
        who.wake(&self.options, &mut self.oracle, &mut self.wishes);
        let resumed = was_paused && !who.paused;
        self.grant(link);
        if resumed && self.clients[client].link == Some(link) {
            self.client_reads(link);
        }
    }

    fn connect(&mut self, client: usize) {
        let mean = self.options.latency_us;
        let latency = MICRO + self.jitter(mean);
        let hub = self.random.below(self.nodes.len() as u64) as usize;
        let chunk = self.random.range(1, self.options.chunk_max) as usize;
        let room = self.options.room as usize;
        self.links.push(Link {
            client,
            hub,
            conn: None,
            up: Pipe::new(room),
            down: Pipe::new(room),
            eof_told: false,
            blocked: false,
            unread: false,
            broken: false,
            client_gone: false,
            heard: self.clock.nanos,
            latency,
            chunk: chunk.max(self.options.chunk_max as usize / 2),
            backlog: Vec::new(),
        });
        let link = self.links.len() - 1;
        self.agenda.plan(self.clock.nanos + latency, Event::Accept(link));
        let who = &mut self.clients[client];
        who.link = Some(link);
        who.paused = false;
        who.deaf = false;
        who.on_connected(&self.options, &mut self.wishes);
        self.grant(link);
    }

    /// Does `wishes` at once.
    pub(crate) fn grant_now(&mut self, link: usize, wishes: Wishes) {
        self.wishes = wishes;
        self.grant(link);
    }

    /// Does what the client wants done with its socket.
    fn grant(&mut self, link: usize) {
        let mut wishes = std::mem::take(&mut self.wishes);
        let end = &mut self.links[link];
        if !end.client_gone && !end.up.fin {
            end.backlog.extend_from_slice(&wishes.bytes);
            self.push_up(link);
            if wishes.fin {
                self.links[link].up.fin = true;
                self.send_fin(link);
            }
        }
        if wishes.reset {
            self.drop_client_side(link);
        }
        wishes.bytes.clear();
        (wishes.fin, wishes.reset) = (false, false);
        self.wishes = wishes;
    }

    /// Sends what the pipe takes of what the client has to say.
    fn push_up(&mut self, link: usize) {
        let now = self.clock.nanos;
        let end = &mut self.links[link];
        if end.backlog.is_empty() {
            return;
        }
        let count = end.up.write(&end.backlog);
        end.backlog.drain(..count);
        let mut left = count;
        while left > 0 {
            let part = left.min(end.chunk.max(self.options.chunk_max as usize / 4));
            let at = end.up.arrival(now, end.latency);
            self.agenda.plan(at, Event::ToHub(link, part));
            left -= part;
        }
    }

    /// The end of the client's bytes follows them, once all are under way.
    fn send_fin(&mut self, link: usize) {
        let now = self.clock.nanos;
        let end = &mut self.links[link];
        if end.up.fin && end.backlog.is_empty() {
            let at = end.up.arrival(now, end.latency);
            self.agenda.plan(at, Event::FinToHub(link));
        }
    }

    /// The client's end disappears; the hub hears of it later.
    pub(crate) fn drop_client_side(&mut self, link: usize) {
        let end = &mut self.links[link];
        if end.client_gone {
            return;
        }
        end.client_gone = true;
        end.down.free_memory();
        end.backlog = Vec::new();
        let (client, at) = (end.client, end.up.arrival(self.clock.nanos, end.latency));
        self.agenda.plan(at, Event::ResetToHub(link));
        if self.clients[client].link == Some(link) {
            self.clients[client].on_gone(&mut self.oracle);
        }
    }

    /// The client takes what has come, unless it does not want to.
    pub(crate) fn client_reads(&mut self, link: usize) {
        let end = &mut self.links[link];
        let client = &mut self.clients[end.client];
        if end.client_gone || client.link != Some(link) || client.paused || client.deaf {
            return;
        }
        let bytes = end.down.readable(usize::MAX);
        let count = bytes.len();
        if count > 0 {
            let bytes: &[u8] = match self.sabotage.strike(client.index, bytes) {
                None => bytes,
                Some(altered) => altered,
            };
            client.receive(&self.options, bytes, &mut self.oracle, &mut self.wishes);
            self.tally.client_bytes += count as u64;
            end.down.consume(count);
            if end.blocked {
                self.agenda.plan(self.clock.nanos + end.latency, Event::Writable(link));
            }
        }
        if end.down.at_end() {
            // Everything was read, and nothing more will come: hang up.
            self.wishes.fin = true;
            self.grant(link);
            let end = &mut self.links[link];
            end.client_gone = true;
            let client = end.client;
            self.clients[client].on_gone(&mut self.oracle);
        } else {
            self.grant(link);
        }
    }
}

/// The hubs' side.
impl World {
    fn accept(&mut self, link: usize) {
        let end = &mut self.links[link];
        let client = &self.clients[end.client];
        let address = if client.local { [127, 0, 0, 1] } else { [192, 0, 2, 1] };
        let peer = Peer { address: (address, 50_000).into(), listener: Listener::Main };
        let hub = end.hub;
        end.heard = self.clock.nanos;
        let node = &mut self.nodes[hub];
        match node.hub.handle_accept(self.clock.now(), peer) {
            Ok(conn) => {
                end.conn = Some(conn);
                if node.links.len() <= conn.index() {
                    node.links.resize(conn.index() + 1, usize::MAX);
                }
                node.links[conn.index()] = link;
                self.plan_turn(hub);
                self.feed(link);
            }
            Err(_) => {
                end.down.fin = true;
                self.agenda.plan(self.clock.nanos + end.latency, Event::FinToClient(link));
            }
        }
    }

    /// The driver reads, as long as the hub wants it to.
    fn feed(&mut self, link: usize) {
        let end = &mut self.links[link];
        let Some(conn) = end.conn else { return };
        let now = self.clock.now();
        let node = &mut self.nodes[end.hub];
        let mut took = false;
        while end.up.has_arrived() && node.hub.wants_read(conn) {
            let bytes = end.up.readable(end.chunk);
            let count = bytes.len();
            self.digest.number(link as u64);
            self.digest.bytes(bytes);
            node.hub.handle_bytes(now, conn, bytes);
            end.up.consume(count);
            end.heard = self.clock.nanos;
            self.tally.hub_bytes += count as u64;
            took = true;
        }
        if end.up.at_end() && !end.eof_told {
            end.eof_told = true;
            self.digest.number(!(link as u64));
            node.hub.handle_eof(now, conn);
            took = true;
        } else if end.up.has_arrived() && !end.unread {
            end.unread = true;
            node.unread.push(link);
        }
        if took {
            let hub = end.hub;
            self.push_up(link);
            if self.links[link].up.fin && !self.links[link].up.fin_arrived {
                self.send_fin(link);
            }
            self.plan_turn(hub);
        }
    }

    fn reset_hub_side(&mut self, link: usize) {
        let end = &mut self.links[link];
        let Some(conn) = end.conn else { return };
        // Sometimes a write notices first.
        if end.blocked || self.random.chance(500) {
            end.conn = None;
            self.nodes[end.hub].hub.handle_io_error(
                self.clock.now(),
                conn,
                io::ErrorKind::ConnectionReset,
            );
            let hub = end.hub;
            self.plan_turn(hub);
        } else {
            end.broken = true;
            self.agenda.plan(self.clock.nanos + SECOND, Event::ResetToHub(link));
        }
    }

    fn writable(&mut self, link: usize) {
        let end = &mut self.links[link];
        let Some(conn) = end.conn else { return };
        if std::mem::take(&mut end.blocked) {
            let hub = end.hub;
            self.flush(hub, conn);
            self.plan_turn(hub);
        }
    }

    fn plan_turn(&mut self, hub: usize) {
        if !self.nodes[hub].turn_planned {
            self.nodes[hub].turn_planned = true;
            let delay = self.random.below(self.options.turn_us * MICRO + 1);
            self.agenda.plan(self.clock.nanos + delay, Event::Turn(hub));
        }
    }

    fn timer(&mut self, hub: usize) {
        let node = &mut self.nodes[hub];
        if node.timer_at.is_none_or(|at| at > self.clock.nanos) {
            return;
        }
        node.timer_at = None;
        node.hub.handle_timeout(self.clock.now());
        invariants::timers_advance(&node.hub, &self.clock, &mut self.oracle);
        self.plan_turn(hub);
    }

    fn mail(&mut self, from: usize, to: usize) {
        if let Some(batch) = self.nodes[from].mail[to].pop_front() {
            self.digest.number(batch.len() as u64);
            self.nodes[to].hub.handle_shard(self.clock.now(), ShardId(from as u16), batch);
            self.plan_turn(to);
        }
    }

    fn answer(&mut self, ticket: u64) {
        if let Some((hub, command)) = self.app.take(ticket) {
            self.command(hub, command);
        }
    }

    /// One turn, as the contract has it.
    fn turn(&mut self, hub: usize) {
        self.nodes[hub].turn_planned = false;
        loop {
            while let Some(output) = self.nodes[hub].hub.poll_output(self.clock.now()) {
                self.obey(hub, output);
            }
            let Some(conn) = self.nodes[hub].hub.poll_dirty() else { break };
            self.flush(hub, conn);
        }
        let node = &mut self.nodes[hub];
        node.hub.end_turn(self.clock.now());
        if let Some(at) = node.hub.poll_timeout() {
            let at = self.clock.nanos_of(at).max(self.clock.nanos);
            if node.timer_at.is_none_or(|planned| at < planned) {
                node.timer_at = Some(at);
                self.agenda.plan(at, Event::Timer(hub));
            }
        }
        for link in std::mem::take(&mut self.nodes[hub].unread) {
            self.links[link].unread = false;
            self.feed(link);
        }
        invariants::after_turn(self, hub);
    }

    fn flush(&mut self, hub: usize, conn: ConnId) {
        let link = self.nodes[hub].links[conn.index()];
        let end = &mut self.links[link];
        if end.conn != Some(conn) {
            return self.oracle.fail("contract", || format!("{conn:?} is dirty and gone"));
        }
        let node = &mut self.nodes[hub];
        invariants::outbox(&node.hub, conn, &self.options, end, &mut self.oracle);
        let mut sink = Sink {
            pipe: &mut end.down,
            digest: &mut self.digest,
            written: 0,
            chunk: end.chunk,
            broken: end.broken,
        };
        // What is written to a client that is gone is lost, but the hub cannot know yet.
        let flush = if end.client_gone && !end.broken {
            let mut nowhere = Nowhere(0);
            let flush = node.hub.flush(self.clock.now(), conn, &mut nowhere);
            self.tally.written += nowhere.0;
            flush
        } else {
            let flush = node.hub.flush(self.clock.now(), conn, &mut sink);
            let written = sink.written;
            self.tally.written += written as u64;
            if written > 0 {
                let at = end.down.arrival(self.clock.nanos, end.latency);
                self.agenda.plan(at, Event::ToClient(link, written));
            }
            flush
        };
        self.digest.number(flush as u64);
        match flush {
            Flush::Drained => end.blocked = false,
            Flush::Blocked => end.blocked = true,
            Flush::Fin | Flush::Closed => {
                if !end.down.fin {
                    end.down.fin = true;
                    let at = end.down.arrival(self.clock.nanos, end.latency);
                    self.agenda.plan(at, Event::FinToClient(link));
                }
                if flush == Flush::Closed {
                    end.conn = None;
                    end.up.free_memory();
                }
            }
        }
    }

    /// Does what a hub asks its driver to do.
    fn obey(&mut self, hub: usize, output: Output) {
        let now = self.clock.nanos;
        match output {
            Output::Request { id, event, data, .. } => {
                self.digest.bytes(event.as_bytes());
                self.digest.bytes(&data);
                if let Some((delay, ticket)) = self.app.on_request(&self.options, hub, id) {
                    self.agenda.plan(now + delay, Event::Answer(ticket));
                }
            }
            Output::Authorize { id, channel, .. } => {
                self.digest.bytes(channel.as_bytes());
                if let Some((delay, ticket)) = self.app.on_authorize(&self.options, hub, id) {
                    self.agenda.plan(now + delay, Event::Answer(ticket));
                }
            }
            Output::Connected { conn, .. } => {
                self.digest.number(conn.index() as u64);
                self.tally.connected += 1;
            }
            Output::Disconnected { conn, reason } => {
                self.digest.number(conn.index() as u64);
                self.digest.number(reason as u64);
                self.tally.disconnected += 1;
                self.story.ended(now, hub, conn, reason);
            }
            Output::Metrics { conn } => {
                let text = Bytes::from_static(b"# nothing\n");
                self.command(hub, Command::Exposition { conn, text });
            }
            Output::Done { .. } => {}
            Output::Shard { to, batch } => {
                let to = usize::from(to.0);
                self.digest.number(batch.len() as u64);
                let delay = self.random.below(self.options.link_us * MICRO + 1);
                let node = &mut self.nodes[hub];
                node.mail[to].push_back(batch);
                node.mail_at[to] = node.mail_at[to].max(now + delay);
                self.agenda.plan(node.mail_at[to], Event::Mail { from: hub, to });
            }
            Output::Drained => {
                if std::mem::replace(&mut self.nodes[hub].drained, true) {
                    self.oracle.fail("drain", || format!("hub {hub} drained twice"));
                }
            }
        }
    }
}

/// Where bytes go that nobody will read.
#[derive(Debug)]
struct Nowhere(u64);

impl io::Write for Nowhere {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn people(options: &Options) -> Vec<Client> {
    let kinds = [
        (Kind::Subscriber, options.subscribers),
        (Kind::Publisher, options.publishers),
        (Kind::Poster, options.posters),
        (Kind::Sluggard, options.sluggards),
        (Kind::Hostile, options.hostile),
        (Kind::Storming, options.storming),
    ];
    let tokens = Arc::new(tokens());
    let everyone = kinds.iter().flat_map(|(kind, count)| (0..*count).map(|_| *kind));
    everyone
        .enumerate()
        .map(|(index, kind)| Client::new(index, kind, options, tokens.clone()))
        .collect()
}

/// Good tokens are good and bad ones bad, whatever the wall clock does within a year.
fn tokens() -> Tokens {
    let year = Duration::from_secs(366 * 86_400);
    let token = |rights: Rights, secret: &[u8], issued_at: Duration, years: u32| {
        let spec = TokenSpec {
            user: Some("someone"),
            permissions: rights.permissions(),
            issued_at,
            expires_in: Some(year * years),
            ..TokenSpec::default()
        };
        issue(secret, &spec).expect("a token")
    };
    let long_ago = START_UNIX - year * 4;
    let of = |rights: Rights| {
        [
            token(rights, SECRET, START_UNIX - year * 2, 4),
            token(rights, SECRET, long_ago, 2),
            token(rights, b"another secret, also of more than 32 bytes", START_UNIX - year * 2, 4),
        ]
    };
    Tokens { by_rights: Rights::ALL.map(of).to_vec() }
}

impl Node {
    /// Whether it has something to report.
    pub(crate) fn has_turn(&self) -> bool {
        self.turn_planned
    }
}

impl World {
    /// Whether a client has a welcomed connection.
    pub(crate) fn is_open(&self, client: usize) -> bool {
        self.clients[client].phase == Phase::Open
    }
}
