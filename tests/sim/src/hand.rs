//! A world without clients of its own: whoever holds it connects, writes, reads, and lets time pass.
//!
//! Hubs, drivers, sockets and clocks are those of every other world. A read that finds nothing lets the world go on until
//! something has come or the reader's patience is over, so a blocking client can be run on it; nothing waits for real.

use std::{io, sync::Arc, time::Duration};

use mahavishnu_core::{
    config::Config,
    entropy::Seed,
    hub::{
        Command, CommandId, ConnId, Disconnect, DrainPlan, Handled, Leave, Listener, Place,
        Placement, Publication, Published, Recipient, SessionInfo, SessionPage, ShardId, Whose,
    },
    reason::Reason,
};

use crate::{
    app::Handlers,
    client::{Client, Kind, Tokens},
    clock::{MICRO, MILLI, Nanos, SECOND},
    net::{Link, Pipe},
    recorder::Counts,
    sabotage::{Sabotage, Wrong},
    swarm::Options,
    world::{Event, World},
};

/// What a world led by hand begins with.
#[derive(Debug)]
pub struct Setup {
    /// The hubs' configuration; which questions go to the application follows from its hooks.
    pub config: Config,
    /// Where everything random comes from.
    pub seed: u64,
    /// Hubs.
    pub shards: u16,
    /// The application.
    pub handlers: Handlers,
}

/// A world led by hand.
#[derive(Debug)]
pub struct Hand {
    world: World,
    counts: Arc<Counts>,
    commands: u64,
    /// Events so far, and those of the present instant.
    steps: (u64, u64),
}

/// A client's end of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line(usize);

/// What the hubs told the application.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(crate) connected: Vec<ConnId>,
    pub(crate) ended: Vec<(ConnId, Reason)>,
    pub(crate) done: Vec<(CommandId, Result<Published, Reason>)>,
    pub(crate) pages: Vec<(CommandId, SessionPage)>,
    pub(crate) handled: Vec<(CommandId, Result<Handled, Reason>)>,
    pub(crate) heard: Vec<Heard>,
}

/// A connection that came to a channel, or left it for this reason.
pub type Heard = (ConnId, Box<str>, Option<Leave>);

impl Notes {
    pub(crate) fn hear(&mut self, conn: ConnId, channel: &str, leave: Option<Leave>) {
        self.heard.push((conn, channel.into(), leave));
    }
}

impl Hand {
    /// A world in which nothing has happened.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let options = options(&setup);
        let counts = Arc::new(Counts::default());
        let Setup { mut config, handlers, .. } = setup;
        config.hooks.lifecycle = true;
        config.hooks.subscriptions = true;
        let sabotage = Sabotage::new(Wrong::Nothing);
        let mut world = World::with_config(&options, config, sabotage, counts.clone(), false);
        world.app.handlers = Some(handlers);
        world.notes = Some(Notes::default());
        Self { world, counts, commands: 0, steps: (0, 0) }
    }

    /// A socket to the hub that has the fewest. The server's side holds `room` bytes that the client has not read.
    /// At a Unix socket it has no address. `None` once the server drains: nobody listens any more.
    pub fn connect(&mut self, listener: Listener, has_address: bool, room: usize) -> Option<Line> {
        let world = &mut self.world;
        if world.draining || world.nodes.iter().any(|node| node.hub.is_draining()) {
            return None;
        }
        let waiting = |hub: usize| {
            world.links.iter().filter(|link| link.hub == hub && !is_over(link)).count()
        };
        let hub = (0..world.nodes.len()).min_by_key(|hub| waiting(*hub))?;
        let mut client = Client::new(
            world.clients.len(),
            Kind::Subscriber,
            &world.options,
            Arc::new(Tokens {
                by_rights: vec![Default::default(); 4],
                brief: vec![String::new(); 4],
            }),
        );
        client.local = true;
        // What comes stays in the pipe until the hand takes it.
        client.deaf = true;
        let line = Line(world.links.len());
        client.link = Some(line.0);
        world.links.push(Link {
            client: client.index,
            hub,
            listener,
            has_address,
            conn: None,
            up: Pipe::new(ROOM),
            down: Pipe::new(room),
            eof_told: false,
            blocked: false,
            unread: false,
            broken: false,
            client_gone: false,
            heard: world.clock.nanos,
            latency: MICRO,
            // A narrow socket takes little at a time.
            chunk: room.clamp(1, CHUNK),
            backlog: Vec::new(),
        });
        world.clients.push(client);
        world.agenda.plan(world.clock.nanos + MICRO, Event::Accept(line.0));
        Some(line)
    }

    /// Writes what the socket takes; waits for room, at most `patience` of virtual time.
    pub fn write(&mut self, line: Line, bytes: &[u8], patience: Duration) -> io::Result<usize> {
        let deadline = self.world.clock.nanos + nanos(patience);
        loop {
            let link = &mut self.world.links[line.0];
            if link.up.fin || is_over(link) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            if link.backlog.is_empty() && link.up.free() > 0 {
                let count = bytes.len().min(link.up.free());
                link.backlog.extend_from_slice(&bytes[..count]);
                self.act(|world| world.push_up(line.0));
                return Ok(count);
            }
            if !self.step(deadline) {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }

    /// Reads what has come; waits for something, at most `patience` of virtual time. 0 is the end.
    pub fn read(&mut self, line: Line, buffer: &mut [u8], patience: Duration) -> io::Result<usize> {
        let deadline = self.world.clock.nanos + nanos(patience);
        loop {
            let now = self.world.clock.nanos;
            let link = &mut self.world.links[line.0];
            if link.down.has_arrived() {
                let bytes = link.down.readable(buffer.len());
                let count = bytes.len();
                buffer[..count].copy_from_slice(bytes);
                link.down.consume(count);
                if link.blocked {
                    let at = now + link.latency;
                    self.world.agenda.plan(at, Event::Writable(line.0));
                }
                return Ok(count);
            }
            if link.down.at_end() {
                return Ok(0);
            }
            if !self.step(deadline) {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }

    /// Ends the client's half, behind what it wrote.
    pub fn finish(&mut self, line: Line) {
        let link = &mut self.world.links[line.0];
        if !link.up.fin && !is_over(link) {
            link.up.fin = true;
            self.act(|world| world.send_fin(line.0));
        }
    }

    /// The client's end is gone for good: the server hears of it when it next does something, or a little later.
    pub fn reset(&mut self, line: Line) {
        self.act(|world| world.drop_client_side(line.0));
    }

    /// The client closes its socket, as an operating system does it: with a reset if something was not read.
    pub fn hang_up(&mut self, line: Line) {
        if self.world.links[line.0].client_gone {
            return;
        }
        if self.world.links[line.0].down.has_arrived() {
            return self.reset(line);
        }
        self.finish(line);
        self.world.links[line.0].client_gone = true;
    }

    /// Broadcasts as the application does, and waits for the outcome.
    pub fn broadcast(&mut self, publication: Publication) -> Result<Published, Reason> {
        let id = self.command_id();
        let place = Place {
            shard: ShardId(0),
            shards: self.world.nodes.len() as u16,
            seed: Seed::from(self.world.options.seed),
        };
        let home = usize::from(Placement::new(place).home(&publication.channel).0);
        let command = Command::Publish { id: Some(id), publication };
        self.act(|world| world.command(home, command));
        self.noted(|notes| take(&mut notes.done, id))
    }

    /// The first sessions that each hub tells of, as the application asks.
    pub fn sessions(&mut self, of: &Whose) -> Vec<SessionInfo> {
        let mut found = Vec::new();
        for hub in 0..self.world.nodes.len() {
            let id = self.command_id();
            let (of, limit) = (of.clone(), SessionPage::MAX);
            self.act(|world| world.command(hub, Command::Sessions { id, of, limit, after: None }));
            found.extend(self.noted(|notes| take(&mut notes.pages, id)).sessions);
        }
        found
    }

    /// Ends sessions, and says how many.
    pub fn end_sessions(&mut self, of: &Whose) -> u64 {
        let mut ended = 0;
        for hub in 0..self.world.nodes.len() {
            let id = self.command_id();
            let command = Command::EndSessions { id: Some(id), of: of.clone() };
            self.act(|world| world.command(hub, command));
            let done = self.noted(|notes| take(&mut notes.done, id));
            ended += u64::from(done.expect("sessions are ended").subscribers);
        }
        ended
    }

    /// A command about connections for one hub, under the id that it is given, and what comes of it.
    pub fn ask(
        &mut self,
        hub: usize,
        command: impl FnOnce(CommandId) -> Command,
    ) -> Result<Handled, Reason> {
        let id = self.command_id();
        let command = command(id);
        self.act(|world| world.command(hub, command));
        self.noted(|notes| take(&mut notes.handled, id))
    }

    /// Hubs.
    #[must_use]
    pub fn hubs(&self) -> usize {
        self.world.nodes.len()
    }

    /// Ends connections in the application's words, and says how many.
    pub fn dismiss(&mut self, whom: Recipient, how: Disconnect) -> Result<u32, Reason> {
        let id = self.command_id();
        let hub = match &whom {
            Recipient::Connection(conn) => usize::from(conn.shard().0),
            Recipient::User(_) => 0,
        };
        let command = Command::Dismiss { id: Some(id), whom, how: Box::new(how) };
        self.act(|world| world.command(hub, command));
        self.noted(|notes| take(&mut notes.done, id)).map(|done| done.subscribers)
    }

    /// What the application has heard of subscriptions so far, in order.
    #[must_use]
    pub fn heard(&self) -> Vec<Heard> {
        self.world.notes.iter().flat_map(|notes| notes.heard.clone()).collect()
    }

    fn command_id(&mut self) -> CommandId {
        self.commands += 1;
        CommandId(self.commands)
    }

    /// Goes on until something is noted.
    fn noted<T>(&mut self, mut find: impl FnMut(&mut Notes) -> Option<T>) -> T {
        let deadline = self.world.clock.nanos + SECOND;
        loop {
            if let Some(found) = find(self.world.notes.as_mut().expect("notes are taken")) {
                return found;
            }
            assert!(self.step(deadline), "a command has no outcome");
        }
    }

    /// Begins to stop, by a plan.
    pub fn drain(&mut self, plan: DrainPlan) {
        self.world.draining |= plan.notice.is_zero();
        self.command_all(|| Command::Drain(plan));
    }

    /// Whether every hub has said that it is drained.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.world.nodes.iter().all(|node| node.drained)
    }

    /// Ends one connection.
    pub fn disconnect(&mut self, conn: ConnId) {
        let hub = usize::from(conn.shard().0);
        self.act(|world| world.command(hub, Command::Disconnect { conn }));
    }

    /// Puts a new configuration in force; the questions to the application stay what they were.
    pub fn reload(&mut self, config: &Config) {
        let hooks = self.world.nodes[0].hub.config().hooks.clone();
        let config = Arc::new(Config { hooks, ..config.clone() });
        set_limits(&mut self.world.options, &config);
        self.command_all(|| Command::Reload(config.clone()));
    }

    /// Lets time pass.
    pub fn pass(&mut self, time: Duration) {
        let deadline = self.world.clock.nanos + nanos(time);
        while self.step(deadline) {}
    }

    /// Wall-clock time of the world, since the Unix epoch.
    #[must_use]
    pub fn unix(&self) -> Duration {
        self.world.clock.now().unix
    }

    /// Events so far.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps.0
    }

    /// Sockets that the hubs hold.
    #[must_use]
    pub fn sockets(&self) -> usize {
        self.world.nodes.iter().map(|node| node.hub.sockets()).sum()
    }

    /// Connections that were let in so far, in order.
    #[must_use]
    pub fn connected(&self) -> Vec<ConnId> {
        self.world.notes.iter().flat_map(|notes| notes.connected.clone()).collect()
    }

    /// Those of them that ended, and why, in order.
    #[must_use]
    pub fn ended(&self) -> Vec<(ConnId, Reason)> {
        self.world.notes.iter().flat_map(|notes| notes.ended.clone()).collect()
    }

    /// The sum of a family's counters whose labels contain all of `labels`, each as `name=value`.
    #[must_use]
    pub fn counter(&self, family: &str, labels: &[&str]) -> u64 {
        self.counts.counter(family, labels)
    }

    /// The value of a family's gauge, or of the series that have these labels.
    #[must_use]
    pub fn gauge(&self, family: &str, labels: &[&str]) -> f64 {
        self.counts.gauge(family, labels)
    }

    fn command_all(&mut self, command: impl Fn() -> Command) {
        for hub in 0..self.world.nodes.len() {
            self.act(|world| world.command(hub, command()));
        }
    }

    /// The next event by `deadline`; false if there is none, and it is `deadline` now.
    ///
    /// Panics if the world breaks an invariant or spins: if very much happens without time passing.
    fn step(&mut self, deadline: Nanos) -> bool {
        let Some((at, event)) = self.world.agenda.pop(deadline) else {
            self.world.clock.nanos = self.world.clock.nanos.max(deadline);
            self.world.oracle.now = self.world.clock.nanos;
            return false;
        };
        let here = if at > self.world.clock.nanos { 0 } else { self.steps.1 };
        self.steps = (self.steps.0 + 1, here + 1);
        assert!(self.steps.1 < SPIN_STEPS, "the world spins: {event:?} at {} ms", at / MILLI);
        self.world.clock.nanos = at;
        self.world.oracle.now = at;
        self.act(|world| world.happen(event));
        true
    }

    fn act(&mut self, act: impl FnOnce(&mut World)) {
        let world = &mut self.world;
        act(world);
        assert!(world.oracle.violation.is_none(), "{:?}", world.oracle.violation);
    }
}

/// The server has dropped its end.
fn is_over(link: &Link) -> bool {
    link.conn.is_none() && link.down.fin
}

fn options(setup: &Setup) -> Options {
    let mut options = Options {
        shards: u64::from(setup.shards.max(1)),
        channels: 1,
        channels_per_connection: 1,
        chunk_max: CHUNK as u64,
        steps_max: u64::MAX,
        ..Options::zero(setup.seed)
    };
    set_limits(&mut options, &setup.config);
    options
}

/// What the invariants have to know of the configuration.
fn set_limits(options: &mut Options, config: &Config) {
    let limits = &config.limits;
    let millis = |time: Duration| time.as_millis() as u64 + 1;
    let patience = [
        limits.wire.head_timeout,
        limits.auth.auth_timeout,
        limits.wire.close_timeout,
        limits.wire.http_idle_timeout / 3,
    ];
    options.patience_ms = patience.into_iter().map(millis).max().unwrap_or_default();
    options.ping_ms = limits.wire.ping_interval.map_or(0, millis);
    options.pong_ms = millis(limits.wire.pong_timeout);
    options.idle_ms = limits.wire.connection_timeout.map_or(0, millis);
    options.request_ms = millis(limits.requests.request_timeout);
    // Its application may answer at length.
    let kilobytes = limits.wire.message_bytes_max as u64 / 1_000;
    options.in_flight = u64::from(limits.requests.requests_in_flight_max) * kilobytes.max(1);
    options.watermark_bytes = limits.wire.outbox_read_watermark as u64;
    // What waits from before a limit became tighter may stay.
    options.outbox_bytes = options.outbox_bytes.max(limits.delivery.outbox_bytes_max as u64);
    options.ask_publish = u64::from(config.hooks.authorize_publish);
}

fn nanos(time: Duration) -> Nanos {
    Nanos::try_from(time.as_nanos()).unwrap_or(Nanos::MAX)
}

/// Bytes under way from a client.
const ROOM: usize = 256 * 1024;
/// Bytes per read and write of a hub.
const CHUNK: usize = 64 * 1024;
/// Events without time passing: far more than thousands of messages take.
const SPIN_STEPS: u64 = 1_000_000;

/// What is noted under this id.
fn take<T>(noted: &mut Vec<(CommandId, T)>, id: CommandId) -> Option<T> {
    let at = noted.iter().position(|(noted, _)| *noted == id)?;
    Some(noted.swap_remove(at).1)
}
