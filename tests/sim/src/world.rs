//! The world: hubs, sockets, clients and an application, and one event after the other.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use mahavishnu_core::{
    auth::{Revocation, TokenSpec, issue},
    config::Config,
    entropy::Seed,
    hub::{Command, CommandId, Hub, Listener, Place, Placement, Publication, Published, ShardId},
    reason::Reason,
};

use crate::{
    acts::Acts,
    app::Application,
    client::{Client, Kind, Phase, Tokens, USERS, Wishes},
    clock::{Agenda, Clock, MICRO, MILLI, Nanos, SECOND, START_UNIX},
    driver::Node,
    hand::Notes,
    invariants,
    message::Number,
    net::{Link, Pipe},
    oracle::{APPLICATION, Fate, Oracle},
    random::{Digest, Random},
    recorder::Counts,
    sabotage::Sabotage,
    store::Store,
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
    /// A command that waited until its hub woke up.
    Command(usize),
    Stall,
    Jump,
    Revoke,
    Reload,
    Look,
    /// The application does something by itself.
    Act,
    /// The process is to end.
    Restart,
    /// The store begins a group of this life of the process, and then has written it or not.
    Write(u64),
    Commit(u64),
    /// A hub hears of its part of a group.
    Kept {
        hub: usize,
        life: u64,
    },
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
    pub(crate) acts: Acts,
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
    /// How often the process has ended.
    pub(crate) life: u64,
    pub(crate) store: Store,
    pub(crate) random: Random,
    /// Chance of what restarts do.
    pub(crate) restarting: Random,
    /// What a world led by hand is asked for.
    pub(crate) notes: Option<Notes>,
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
        Self::with_config(options, options.config(0), sabotage, counts, verbose)
    }

    /// A world whose hubs have a configuration of their own.
    pub(crate) fn with_config(
        options: &Options,
        config: Config,
        sabotage: Sabotage,
        counts: Arc<Counts>,
        verbose: bool,
    ) -> Self {
        let clock = Clock::new();
        let config = Arc::new(config);
        let shards = options.shards.max(1);
        let node = |shard: u64| {
            let place = Place {
                shard: ShardId(shard as u16),
                shards: shards as u16,
                seed: Seed::from(options.seed),
            };
            Node::new(Hub::new(config.clone(), place, clock.now()), shards as usize)
        };
        let mut this = Self {
            clock,
            agenda: Agenda::new(),
            nodes: (0..shards).map(node).collect(),
            links: Vec::new(),
            clients: people(options),
            app: Application::new(options),
            acts: Acts::new(options),
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
            life: 0,
            store: Store::new(options.seed, shards as usize),
            random: Random::new(options.seed, 1),
            restarting: Random::new(options.seed, 9),
            notes: None,
            sabotage,
            wishes: Wishes::default(),
            options: options.clone(),
        };
        if verbose {
            this.clients.iter_mut().for_each(|client| client.diary = Some(Vec::new()));
        }
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
        if self.options.revoked == 1 {
            self.agenda.plan(self.random.below(duration), Event::Revoke);
        }
        for _ in 0..self.options.stalls {
            self.agenda.plan(self.random.below(duration), Event::Stall);
        }
        for _ in 0..self.options.restarts {
            self.agenda.plan(self.restarting.below(duration), Event::Restart);
        }
        let mut acting = Random::new(self.options.seed, 12);
        for _ in 0..self.options.app_acts {
            self.agenda.plan(acting.below(duration), Event::Act);
        }
        self.agenda.plan(SECOND, Event::Look);
    }

    /// Lets everything happen until `until`, or until something is wrong.
    pub(crate) fn run(&mut self, until: Nanos, steps_max: u64) {
        let last = self.steps.saturating_add(steps_max).min(STEPS_MAX);
        while self.steps < last && self.oracle.violation.is_none() {
            let Some((at, event)) = self.agenda.pop(until) else { break };
            self.clock.nanos = at;
            self.oracle.now = at;
            self.oracle.wall = self.clock.now().unix;
            self.steps += 1;
            self.digest.number(at);
            self.story.tell(at, &event);
            self.happen(event);
            for client in &mut self.clients {
                let Some(diary) = &mut client.diary else { break };
                diary.drain(..).for_each(|line| self.story.say(at, &line));
            }
        }
        if self.steps >= STEPS_MAX {
            self.oracle.fail("end", || format!("there is no end after {STEPS_MAX} events"));
        }
        if self.steps < last && self.oracle.violation.is_none() {
            self.clock.nanos = self.clock.nanos.max(until);
            self.oracle.now = self.clock.nanos;
        }
    }

    pub(crate) fn happen(&mut self, event: Event) {
        // What concerns a stalled hub waits where it is: in its sockets, its mailbox, its timer.
        if let Some(until) = self.hub_of(event).and_then(|hub| self.stalled(hub)) {
            self.agenda.plan(until, event);
            return;
        }
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
            Event::Command(hub) => {
                if let Some(command) = self.nodes[hub].commands.pop_front() {
                    self.obey_command(hub, command);
                }
            }
            Event::Stall => {
                let hub = self.random.below(self.nodes.len() as u64) as usize;
                let time = self.random.below(self.options.stall_ms * MILLI) + 1;
                // One stall after the other: what waits would get out of order if an end could move.
                if self.stalled(hub).is_none() {
                    self.nodes[hub].stalled_until = self.clock.nanos + time;
                }
            }
            Event::Jump => {
                let seconds = self.random.range(0, 2 * 86_400) as i64 - 86_400;
                self.clock.jump(seconds);
                self.oracle.jumped_at = self.clock.nanos;
            }
            Event::Revoke => {
                self.oracle.revoked_at = Some(self.clock.nanos);
                let hub = self.random.below(self.nodes.len() as u64) as usize;
                let revocation = Revocation::parse(r#"{"jti":"brief"}"#).expect("a revocation");
                self.command(hub, Command::Revoke { id: None, revocation });
            }
            Event::Reload => {
                self.generation += 1;
                self.oracle.generation = self.generation;
                let config = Arc::new(self.options.config(self.generation));
                for hub in 0..self.nodes.len() {
                    self.command(hub, Command::Reload(config.clone()));
                }
            }
            Event::Look => {
                invariants::look_around(self);
                self.agenda.plan(self.clock.nanos + SECOND, Event::Look);
            }
            Event::Act => self.app_acts(),
            Event::Restart => self.plan_restart(),
            Event::Write(life) => self.write(life),
            Event::Commit(life) => self.commit(life),
            Event::Kept { hub, life } => self.kept(hub, life),
        }
    }

    /// The hub that has to do something about an event.
    fn hub_of(&self, event: Event) -> Option<usize> {
        match event {
            Event::Accept(link)
            | Event::ToHub(link, _)
            | Event::FinToHub(link)
            | Event::ResetToHub(link)
            | Event::Writable(link) => Some(self.links[link].hub),
            Event::Turn(hub) | Event::Timer(hub) | Event::Command(hub) => Some(hub),
            Event::Mail { to, .. } => Some(to),
            Event::Kept { hub, .. } => Some(hub),
            Event::Answer(ticket) => self.app.hub_of(ticket),
            Event::Wake(_)
            | Event::ToClient(..)
            | Event::FinToClient(_)
            | Event::Stall
            | Event::Jump
            | Event::Revoke
            | Event::Reload
            | Event::Look
            | Event::Act
            | Event::Restart
            | Event::Write(_)
            | Event::Commit(_) => None,
        }
    }

    /// Until when a hub gets nothing to do.
    fn stalled(&self, hub: usize) -> Option<Nanos> {
        let until = self.nodes[hub].stalled_until;
        (until > self.clock.nanos).then_some(until)
    }

    /// Tells a hub something, behind what it was told before.
    pub(crate) fn command(&mut self, hub: usize, command: Command) {
        let stalled = self.stalled(hub);
        if stalled.is_none() && self.nodes[hub].commands.is_empty() {
            return self.obey_command(hub, command);
        }
        self.nodes[hub].commands.push_back(command);
        self.agenda.plan(stalled.unwrap_or(self.clock.nanos), Event::Command(hub));
    }

    fn obey_command(&mut self, hub: usize, command: Command) {
        self.digest.number(hub as u64);
        self.nodes[hub].hub.handle_command(self.clock.now(), command);
        self.plan_turn(hub);
    }

    /// The application was told what became of a broadcast.
    pub(crate) fn on_done(&mut self, number: Number, result: Result<Published, Reason>) {
        let fate = match result {
            Ok(published) => Fate::Published(published.subscribers),
            Err(reason) => {
                self.oracle.busy += u64::from(reason == Reason::Busy);
                Fate::Refused
            }
        };
        self.oracle.answered(number, fate);
    }

    /// The application broadcasts, at the channel's home.
    pub(crate) fn publish(&mut self, channel: u64) -> u32 {
        let home = Placement::new(self.place(0)).home(self.oracle.name(channel));
        let number = self.oracle.publish(channel, 0, APPLICATION as usize);
        let mut data = Vec::new();
        crate::message::write_data(&mut data, channel, number, 0);
        let name = channel_names(self.options.channels)[channel as usize].clone();
        let publication = Publication::new(name, "e", Bytes::from(data));
        let id = Some(CommandId(u64::from(number)));
        self.command(usize::from(home.0), Command::Publish { id, publication });
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
            let away = !self.healing && who.keeping.is_away(self.clock.nanos);
            if !gone && !away && !self.closing_time {
                self.connect(client);
            }
            return;
        };
        let was_paused = who.paused;
        who.wake(&self.options, &mut self.oracle, &mut self.wishes);
        let resumed = was_paused && !who.paused;
        self.grant(link);
        if std::mem::take(&mut self.clients[client].eager) && self.clients[client].link.is_none() {
            return self.connect(client);
        }
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
            listener: Listener::Main,
            has_address: true,
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
    pub(crate) fn push_up(&mut self, link: usize) {
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
    pub(crate) fn send_fin(&mut self, link: usize) {
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

fn people(options: &Options) -> Vec<Client> {
    let kinds = [
        (Kind::Subscriber, options.subscribers),
        (Kind::Publisher, options.publishers),
        (Kind::Poster, options.posters),
        (Kind::Sluggard, options.sluggards),
        (Kind::Hostile, options.hostile),
        (Kind::Storming, options.storming),
    ];
    let tokens = USERS.map(|user| Arc::new(tokens_of(options, user)));
    let everyone = kinds.iter().flat_map(|(kind, count)| (0..*count).map(|_| *kind));
    everyone
        .enumerate()
        .map(|(index, kind)| Client::new(index, kind, options, tokens[index % USERS.len()].clone()))
        .collect()
}

/// Good tokens are good and bad ones bad, whatever the wall clock does within a year.
pub(crate) fn tokens_of(options: &Options, user: &str) -> Tokens {
    let year = Duration::from_secs(366 * 86_400);
    let token = |rights: Rights, secret: &[u8], issued_at: Duration, years: u32| {
        let spec = TokenSpec {
            user: Some(user),
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
    let brief = |rights: Rights| {
        let spec = TokenSpec {
            user: Some(user),
            permissions: rights.permissions(),
            issued_at: START_UNIX,
            expires_in: Some(options.brief_end() - START_UNIX),
            id: Some("brief"),
            ..TokenSpec::default()
        };
        issue(SECRET, &spec).expect("a token")
    };
    Tokens { by_rights: Rights::ALL.map(of).to_vec(), brief: Rights::ALL.map(brief).to_vec() }
}

/// Events of one world. The largest have a tenth of that: a world that has more is spinning.
const STEPS_MAX: u64 = 50_000_000;

impl World {
    /// Whether a client has a welcomed connection.
    pub(crate) fn is_open(&self, client: usize) -> bool {
        self.clients[client].phase == Phase::Open
    }
}
