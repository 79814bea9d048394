//! The world: processes, clients, Redis, and one event after the other.

use bytes::Bytes;
use mahavishnu_core::{
    hub::{Command, CommandId, Placement, Publication, Published},
    reason::Reason,
};
use mahavishnu_redis_model::{Data, Disk, Group, Version};
use std::{collections::BTreeMap, time::Duration};

use super::{
    ClusterReport,
    client::Client,
    fault::Fault,
    folds::Looked,
    options::ClusterOptions,
    oracle::{Fate, Oracle},
    process::Process,
    queue::Queues,
    redis::{Arrival, Request},
};
use crate::{
    clock::{Agenda, Clock, MICRO, MILLI, Nanos, SECOND},
    message::{self, Number},
    random::{Digest, Random},
    story::Story,
    swarm::channel_name,
};

/// What happens. Numbers are a process, which of those in its place, and a hub; or a client and which of its connections.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Wake(usize),
    BackEnd(usize),
    ToHub(usize, u64, Vec<u8>),
    ResetToHub((usize, usize), u64, usize, u64),
    ToClient(usize, u64, Vec<u8>),
    Turn(usize, u64, usize),
    Timer(usize, u64, usize),
    Mail(usize, u64, usize, usize),
    ToLink(usize, u64, usize, u64, Arrival),
    ToRedis(Request),
    Replicate,
    /// Redis' data are put aside, to be found again later.
    Remember,
    Strike(Fault),
    Undo(Fault),
    /// A process begins.
    Begin(usize, u64),
    /// A process may go on.
    Thaw(usize),
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) options: ClusterOptions,
    pub(super) clock: Clock,
    pub(super) agenda: Agenda<Event>,
    pub(super) nodes: Vec<Process>,
    pub(super) clients: Vec<Client>,
    pub(super) queues: Queues,
    pub(super) redis: Group,
    pub(super) oracle: Oracle,
    pub(super) digest: Digest,
    pub(super) story: Story,
    pub(super) random: Random,
    pub(super) faulting: Random,
    pub(super) healing: bool,
    /// What Redis finds when it starts again.
    pub(super) disk: Option<Disk>,
    pub(super) older: Option<Data>,
    pub(super) failed_over: bool,
    pub(super) slow_until: Nanos,
    pub(super) replicated_at: Option<Nanos>,
    /// Connections to Redis that were made.
    pub(super) connections: u64,
    pub(super) sessions: u64,
    /// What hubs have answered to who asked whether they are ready.
    pub(super) readiness: BTreeMap<u64, Vec<u8>>,
    /// What the application was told of channels.
    pub(super) looked: Looked,
    pub(super) struck: [u64; Fault::ALL.len()],
    steps: u64,
}

impl World {
    pub(super) fn new(options: &ClusterOptions, verbose: bool) -> Self {
        let version = match options.version {
            0 => Version::REDIS_7_0,
            1 => Version::REDIS_8_2,
            _ => Version::VALKEY_9_1,
        };
        let lag = Duration::from_millis(options.lag_ms);
        let count = options.clients as usize;
        let mut clients: Vec<_> = (0..count).map(|at| Client::new(at, options)).collect();
        if options.queue_pm > 0 {
            clients.push(Client::listener(count, options));
        }
        let mut this = Self {
            options: options.clone(),
            clock: Clock::new(),
            agenda: Agenda::new(),
            nodes: Vec::new(),
            clients,
            queues: Queues::new(options.seed, options.queue_pm),
            redis: Group::new(version, 1, lag),
            oracle: Oracle::new(options),
            digest: Digest::new(),
            story: Story::new(verbose),
            random: Random::new(options.seed, 23),
            faulting: Random::new(options.seed, 22),
            healing: false,
            disk: None,
            older: None,
            failed_over: false,
            slow_until: 0,
            replicated_at: None,
            connections: 0,
            sessions: 0,
            readiness: BTreeMap::new(),
            looked: Looked::new(),
            struck: [0; Fault::ALL.len()],
            steps: 0,
        };
        this.lock_servers();
        if options.pushes == 1 {
            let other = options.version != 0;
            this.each_server(|server| server.set_pushes_first(other));
        }
        for node in 0..options.nodes as usize {
            let process = Process::new(&this, node, 0);
            this.nodes.push(process);
        }
        this.plan_fate();
        this
    }

    fn plan_fate(&mut self) {
        for node in 0..self.nodes.len() {
            (0..self.nodes[node].hubs.len()).for_each(|shard| self.plan_turn(node, shard));
        }
        for client in 0..self.clients.len() {
            let at = self.random.below(SECOND);
            self.agenda.plan(at, Event::Wake(client));
        }
        for back_end in 0..self.queues.len() {
            self.agenda.plan(SECOND, Event::BackEnd(back_end));
        }
        let duration = self.options.duration();
        for (fault, count) in Fault::ALL.into_iter().zip(self.options.faults) {
            for _ in 0..count {
                self.agenda.plan(self.faulting.below(duration), Event::Strike(fault));
            }
        }
        self.agenda.plan(self.faulting.below(duration), Event::Remember);
    }

    pub(super) fn live(&mut self) {
        self.run_until(self.options.duration());
        self.heal();
        self.converge();
        self.empty_queues();
        self.wait_until_ready();
        self.probe();
        self.compare_members();
        self.compare_queues();
        self.compare_documents();
        for client in 0..self.clients.len() {
            for (channel, member) in &self.clients[client].members {
                self.oracle.check_end(*channel, member, client);
            }
        }
    }

    pub(super) fn run_until(&mut self, until: Nanos) {
        while self.oracle.violation.is_none() {
            let Some((at, event)) = self.agenda.pop(until) else { break };
            self.clock.nanos = at;
            self.oracle.now = at;
            self.steps += 1;
            self.digest.number(at);
            self.happen(event);
            if self.steps > STEPS_MAX {
                self.oracle.fail("end", || format!("there is no end after {STEPS_MAX} events"));
            }
        }
        self.clock.nanos = self.clock.nanos.max(until);
        self.oracle.now = self.clock.nanos;
    }

    fn happen(&mut self, event: Event) {
        if let Some(node) = self.frozen(&event) {
            return self.nodes[node].held.push(event);
        }
        match event {
            Event::Wake(client) => self.wake(client),
            Event::BackEnd(index) => self.wake_back_end(index),
            Event::ToHub(client, session, bytes) => {
                let found = &self.clients[client];
                if found.session == session && !self.nodes[found.at.0].dead {
                    self.arrive_at_hub(client, session, bytes);
                }
            }
            Event::ResetToHub(at, life, client, session) => {
                if self.is_there(at.0, life) {
                    self.reset(at, client, session);
                }
            }
            Event::ToClient(client, session, bytes) => {
                if self.clients[client].session == session {
                    self.clients[client].receive(&bytes, &mut self.oracle);
                    self.send_up(client);
                }
            }
            Event::Turn(node, life, shard) if self.is_there(node, life) => self.turn(node, shard),
            Event::Timer(node, life, shard) if self.is_there(node, life) => self.timer(node, shard),
            Event::Mail(node, life, from, to) if self.is_there(node, life) => {
                self.mail(node, from, to);
            }
            Event::ToLink(node, life, shard, socket, arrival) if self.is_there(node, life) => {
                self.arrive_at_link((node, shard), socket, arrival);
            }
            Event::Turn(..) | Event::Timer(..) | Event::Mail(..) | Event::ToLink(..) => {}
            Event::ToRedis(request) => self.arrive_at_redis(request),
            Event::Replicate => {
                self.replicated_at = None;
                self.collect();
            }
            Event::Remember => {
                let primary = self.redis.primary();
                self.older = Some(self.redis.server(primary).data());
            }
            Event::Strike(fault) => {
                self.strike(fault);
                self.collect();
            }
            Event::Undo(fault) => {
                self.undo(fault);
                self.collect();
            }
            Event::Begin(node, life) => self.begin(node, life),
            Event::Thaw(node) => self.thaw(node),
        }
    }

    /// What is for a process that stands still waits, and keeps its order.
    fn frozen(&self, event: &Event) -> Option<usize> {
        let node = match event {
            Event::ToHub(client, session, _) if self.clients[*client].session == *session => {
                self.clients[*client].at.0
            }
            Event::ResetToHub((node, _), ..)
            | Event::Turn(node, ..)
            | Event::Timer(node, ..)
            | Event::Mail(node, ..)
            | Event::ToLink(node, ..) => *node,
            _ => return None,
        };
        (self.nodes[node].frozen_until > self.clock.nanos).then_some(node)
    }

    /// If it stands still no longer, it gets what it was kept from.
    pub(super) fn thaw(&mut self, node: usize) {
        let process = &mut self.nodes[node];
        if process.frozen_until <= self.clock.nanos {
            for event in std::mem::take(&mut process.held) {
                self.happen(event);
            }
        }
    }

    /// No more faults.
    fn heal(&mut self) {
        self.healing = true;
        self.story.say(self.clock.nanos, "HEAL");
        self.end_faults();
        self.collect();
        self.clients.iter_mut().for_each(|client| client.healing = true);
    }

    fn converge(&mut self) {
        for _ in 0..CONVERGENCE_SECONDS {
            self.run_until(self.clock.nanos + SECOND);
            if self.oracle.violation.is_some() || self.clients.iter().all(Client::is_settled) {
                return;
            }
        }
        let lacking = self.clients.iter().filter(|client| !client.is_settled());
        let lacking: Vec<String> = lacking.map(Client::lacks).take(3).collect();
        self.oracle.fail("convergence", || lacking.join("; "));
    }

    /// Every hub says that it is ready, and means it: a link that is away for less than the grace is passed over.
    fn wait_until_ready(&mut self) {
        self.run_until(self.clock.nanos + GRACE_SECONDS * SECOND);
        for _ in 0..READY_SECONDS {
            if self.oracle.violation.is_some() {
                return;
            }
            self.readiness.clear();
            let shards = self.options.shards as usize;
            let hubs: Vec<_> = (0..self.nodes.len())
                .flat_map(|node| (0..shards).map(move |hub| (node, hub)))
                .collect();
            hubs.iter().for_each(|(node, shard)| self.ask_ready(*node, *shard));
            self.run_until(self.clock.nanos + SECOND);
            let ready = self.readiness.values().filter(|it| it.starts_with(b"HTTP/1.1 200"));
            if ready.count() == hubs.len() {
                return;
            }
        }
        let answers = self.readiness.values().map(|bytes| String::from_utf8_lossy(bytes));
        let answers: Vec<_> = answers.collect();
        self.oracle.fail("convergence", || format!("not all are ready: {answers:?}"));
    }

    /// What every process publishes to every channel reaches everybody on all of them. By the first of it two that are in two
    /// epochs may find that out: then it is told as missing, and the next one comes. One that is refused, because a slow link has
    /// not brought yet what came before, is published again, as anybody would.
    fn probe(&mut self) {
        for node in 0..self.nodes.len() {
            for channel in 0..self.options.channels {
                let (mut missing, mut refused) = (0, 0);
                loop {
                    let number = self.publish(node, channel);
                    for _ in 0..PROBE_SECONDS {
                        self.run_until(self.clock.nanos + SECOND / 4);
                        let over =
                            self.oracle.violation.is_some() || self.has_come(channel, number);
                        if over || self.oracle.fate(number) == Fate::Refused {
                            break;
                        }
                    }
                    if self.has_come(channel, number) || self.oracle.violation.is_some() {
                        break;
                    }
                    match self.oracle.fate(number) {
                        Fate::Refused => refused += 1,
                        _ if self.is_told_missing(channel, number) => missing += 1,
                        _ => missing = PROBES_MISSING,
                    }
                    if missing == PROBES_MISSING || refused == PROBES_REFUSED {
                        self.does_not_come(node, channel, number);
                        break;
                    }
                }
            }
        }
    }

    /// Whether it was published, and everybody to whom it has not come was told of a gap since the last event.
    fn is_told_missing(&self, channel: u64, number: Number) -> bool {
        let mut members = self.clients.iter().filter_map(|client| client.members.get(&channel));
        self.oracle.fate(number) == Fate::Published
            && members.all(|member| !member.on || member.has(number) || member.gap)
    }

    fn does_not_come(&mut self, node: usize, channel: u64, number: Number) {
        let fate = self.oracle.fate(number);
        let missing = self
            .clients
            .iter()
            .filter(|client| client.members.get(&channel).is_some_and(|it| !it.has(number)));
        let missing: Vec<String> = missing.map(Client::lacks).take(3).collect();
        self.oracle.fail("convergence", || {
            format!("{number} of channel {channel}, published at node {node} ({fate:?}), does not come: {missing:?}")
        });
    }

    fn has_come(&self, channel: u64, number: Number) -> bool {
        let mut members = self.clients.iter().filter_map(|client| client.members.get(&channel));
        self.oracle.fate(number) == Fate::Published
            && members.all(|member| !member.on || member.has(number))
    }

    /// The application of a process publishes.
    fn publish(&mut self, node: usize, channel: u64) -> Number {
        let name = channel_name(channel);
        let place = self.nodes[node].hubs[0].hub.place();
        let home = Placement::new(place).home(&name);
        let number = self.oracle.publish(channel, 0);
        let mut data = Vec::new();
        message::write_data(&mut data, channel, number, 0);
        let publication = Publication::new(name, "e", Bytes::from(data));
        let id = Some(CommandId(u64::from(number)));
        self.command(node, usize::from(home.0), Command::Publish { id, publication });
        number
    }

    pub(super) fn on_done(&mut self, number: u64, result: Result<Published, Reason>) {
        let number = number as Number;
        match result {
            Ok(published) => {
                let place =
                    published.epoch.as_ref().map(|epoch| (epoch.as_str(), published.offset));
                self.oracle.published(number, place);
            }
            Err(Reason::BusUnknown) => self.oracle.unsure(),
            Err(_) => self.oracle.refused(number),
        }
    }

    fn wake(&mut self, client: usize) {
        let think = self.options.think_ms * MILLI;
        let next = self.clients[client].random.below(2 * think + 1) + MILLI;
        self.agenda.plan(self.clock.nanos + next, Event::Wake(client));
        if self.clients[client].is_away() {
            let node = self.clients[client].random.below(self.nodes.len() as u64) as usize;
            let shard = self.clients[client].random.below(self.options.shards) as usize;
            if !self.nodes[node].dead {
                self.clients[client].connect((node, shard));
                self.send_up(client);
            }
            return;
        }
        let leaves = self.clients[client].wake(&self.options, &mut self.oracle);
        self.send_up(client);
        if leaves {
            let (at, session) = (self.clients[client].at, self.clients[client].session);
            let life = self.nodes[at.0].life;
            self.clients[client].lost(self.clock.nanos);
            let arrives = self.clock.nanos + self.options.latency_us * MICRO;
            self.agenda.plan(arrives, Event::ResetToHub(at, life, client, session));
        }
    }

    fn send_up(&mut self, client: usize) {
        let bytes = std::mem::take(&mut self.clients[client].out);
        if !bytes.is_empty() {
            let at = self.clock.nanos + self.options.latency_us * MICRO;
            let session = self.clients[client].session;
            self.agenda.plan(at, Event::ToHub(client, session, bytes));
        }
    }

    pub(super) fn send_to_client(&mut self, client: usize, session: u64, bytes: Vec<u8>) {
        let at = self.clock.nanos + self.options.latency_us * MICRO;
        self.agenda.plan(at, Event::ToClient(client, session, bytes));
    }

    pub(super) fn report(self) -> ClusterReport {
        let names = Fault::ALL.iter().map(|fault| fault.name());
        ClusterReport {
            violation: self.oracle.violation,
            digest: self.digest.value(),
            deliveries: self.oracle.deliveries,
            answers: self.oracle.answers,
            gaps: self.oracle.gaps,
            recoveries: self.oracle.recoveries,
            queued: self.oracle.queued,
            resumed: self.oracle.resumed,
            faults: names.zip(self.struck).collect(),
            sessions: self.sessions,
            steps: self.steps,
            nanos: self.clock.nanos,
            story: self.story.text,
        }
    }
}

/// A lease, the longest pause of a link, and a probe that was lost.
const CONVERGENCE_SECONDS: u64 = 120;
const GRACE_SECONDS: u64 = 20;
const READY_SECONDS: u64 = 60;
/// Quarters of them.
const PROBE_SECONDS: u64 = 120;
/// So often a probe may be told as missing, and be refused.
const PROBES_MISSING: u32 = 3;
const PROBES_REFUSED: u32 = 30;
/// Events of one world.
const STEPS_MAX: u64 = 2_000_000;
