//! Fan-out: one publisher, many subscribers of its channel, every copy checked.
//!
//! The loop is one thread that never sleeps: it publishes what the pace allows, polls with a zero timeout, and reads
//! each ready socket once into one buffer that all sockets share.

mod publisher;

use std::time::Duration;

use self::publisher::Publisher;
use crate::{
    Result,
    check::{Ledger, Violations},
    client::{Client, OPEN_AT_ONCE, PAYLOAD_BYTES_MAX, Setup, Token},
    frame,
    handshake::Target,
    message::Template,
    process::{self, Process},
    redis::{Redis, RedisCounts},
    socket::{Clock, Poller, ReadBuffer, nanos},
    stats::{FanoutReport, Latency, ServerUse, ratio},
};

/// One run.
#[derive(Clone, Debug)]
pub struct Fanout {
    /// The server, or its nodes: subscribers of a channel are spread over them in turn, and what is published is published
    /// at the first.
    pub targets: Vec<Target>,
    /// How it is spoken to.
    pub wire: Wire,
    /// Channels, each with subscribers and messages of its own; raw servers have but one.
    pub channels: u32,
    /// Connections that get every message of a channel. The publisher is one more for all of them.
    pub subscribers: u32,
    /// When to publish. A rate is that of all channels, which take turns.
    pub pace: Pace,
    /// Messages of a channel under way at most. A closed loop is always at this bound.
    pub window: usize,
    /// When to stop.
    pub until: Until,
    /// Without progress for this long while something is due, the run is given up and what is due counts as lost.
    pub stall: Duration,
    /// The server's processes, for their CPU time and memory.
    pub servers: Vec<Process>,
    /// What is between nodes, for what it does.
    pub redis: Option<Redis>,
    /// Goes into the report: which server this is.
    pub label: String,
    /// Goes into the report: what is measured.
    pub case: String,
}

/// The messages on the wire.
#[derive(Clone, Debug)]
pub enum Wire {
    /// The product's JSON protocol.
    Json {
        /// Where to publish; of several channels, the beginning of their names.
        channel: String,
        /// Bytes of the data object.
        data_bytes: usize,
        /// Shown on every connection.
        token: Option<Token>,
    },
    /// Bare binary frames for `rawloop`.
    Raw {
        /// Length of a subscriber's frame, header included: to be set to what the product sends.
        frame_bytes: usize,
    },
}

/// When the publisher may send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As soon as fewer than the window's messages are under way.
    Closed,
    /// At fixed intervals, whatever the server does.
    PerSecond(f64),
}

/// When the measured interval ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// After a warm-up that is not measured and then this long.
    Elapsed {
        /// Not measured.
        warm_up: Duration,
        /// Measured.
        measured: Duration,
    },
    /// After this many publishes have reached everyone; all is measured.
    Messages(u64),
}

impl Fanout {
    /// Connects everyone, runs, and reports. Violations are in the report.
    ///
    /// # Errors
    /// The run could not be done: no connection, a refusal, an error answer, a closed connection.
    pub fn run(&self) -> Result<FanoutReport> {
        let mut generator = Generator::connect(self)?;
        generator.run()?;
        Ok(generator.report())
    }

    /// The message of a channel.
    fn template(&self, topic: u32) -> Result<Template> {
        match &self.wire {
            Wire::Json { data_bytes, .. } => Template::publish(&self.channel(topic), *data_bytes),
            Wire::Raw { frame_bytes } => Template::bare(
                frame::payload_bytes_for(*frame_bytes)
                    .ok_or_else(|| format!("no frame has {frame_bytes} bytes"))?,
            ),
        }
    }

    fn channel(&self, topic: u32) -> String {
        match &self.wire {
            Wire::Json { channel, .. } if self.channels > 1 => format!("{channel}-{topic}"),
            Wire::Json { channel, .. } => channel.clone(),
            Wire::Raw { .. } => String::new(),
        }
    }

    /// Opens the subscribers of a channel, spread over all nodes.
    fn subscribe(&self, topic: u32) -> Result<Vec<Client>> {
        let (nodes, all) = (self.targets.len().max(1), self.subscribers as usize);
        let mut clients = Vec::with_capacity(all);
        for (place, target) in self.targets.iter().enumerate() {
            // The first nodes take what cannot be divided; of many channels with few subscribers each begins elsewhere.
            let turn = (place + topic as usize) % nodes;
            let share = all / nodes + usize::from(turn < all % nodes);
            let setup = self.setup(target, Role::Subscriber(topic));
            clients.extend(setup.open(share, OPEN_AT_ONCE)?);
        }
        Ok(clients)
    }

    fn setup(&self, target: &Target, role: Role) -> Setup {
        let (token, raw) = match &self.wire {
            Wire::Json { token, .. } => (token.clone(), false),
            Wire::Raw { .. } => (None, true),
        };
        let (target, channel) = match role {
            Role::Subscriber(_) if raw => (target.at("/sub"), None),
            Role::Publisher if raw => (target.at("/pub"), None),
            Role::Subscriber(topic) => (target.clone(), Some(self.channel(topic))),
            Role::Publisher => (target.clone(), None),
        };
        Setup { target, token, channel, payload_bytes_max: PAYLOAD_BYTES_MAX }
    }
}

#[derive(Clone, Copy)]
enum Role {
    Publisher,
    /// Of this channel.
    Subscriber(u32),
}

/// A subscriber's connection and the next message it must get.
struct Subscriber {
    client: Client,
    topic: u32,
    next: u64,
}

/// A channel: its message, and what became of those that were published.
struct Topic {
    template: Template,
    ledger: Ledger,
}

/// What had been counted at one instant.
#[derive(Clone, Copy, Default)]
struct Snapshot {
    at_ns: u64,
    publishes: u64,
    deliveries: u64,
    reads: u64,
    idle_ns: u64,
    cpu: Option<Duration>,
    redis: Option<RedisCounts>,
}

/// Phases of a run, in order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    WarmUp,
    Measure,
    /// Nothing more is published; what is under way must arrive.
    Drain,
    /// Nothing more may arrive: a late repetition would show here.
    Rest,
}

struct Generator<'a> {
    run: &'a Fanout,
    clock: Clock,
    poller: Poller,
    publisher: Publisher,
    subscribers: Vec<Subscriber>,
    topics: Vec<Topic>,
    /// Messages of all channels.
    published: u64,
    scratch: ReadBuffer,
    phase: Phase,
    started_ns: u64,
    progress_ns: u64,
    reads: u64,
    idle_ns: u64,
    begin: Snapshot,
    end: Snapshot,
    rss_bytes: u64,
}

impl<'a> Generator<'a> {
    fn connect(run: &'a Fanout) -> Result<Self> {
        let poller = Poller::new(EVENTS_MAX)?;
        let (mut topics, mut subscribers) = (Vec::new(), Vec::new());
        for topic in 0..run.channels {
            let template = run.template(topic)?;
            let ledger = Ledger::new(run.subscribers, run.window, template.data());
            topics.push(Topic { template, ledger });
            let clients = run.subscribe(topic)?;
            subscribers.extend(clients.into_iter().map(|client| Subscriber {
                client,
                topic,
                next: 0,
            }));
        }
        let first = run.targets.first().ok_or("no server")?;
        let mut publishers = run.setup(first, Role::Publisher).open(1, 1)?;
        let publisher = publishers.pop().ok_or("no publisher")?;
        let clients = subscribers.iter().map(|subscriber| &subscriber.client);
        for (token, client) in clients.chain([&publisher]).enumerate() {
            poller.add(client.stream(), token)?;
        }
        Ok(Self {
            run,
            clock: Clock::start(),
            poller,
            publisher: Publisher::new(publisher, matches!(run.wire, Wire::Json { .. })),
            subscribers,
            topics,
            published: 0,
            scratch: ReadBuffer::new(READ_BYTES),
            phase: Phase::WarmUp,
            started_ns: 0,
            progress_ns: 0,
            reads: 0,
            idle_ns: 0,
            begin: Snapshot::default(),
            end: Snapshot::default(),
            rss_bytes: 0,
        })
    }

    fn run(&mut self) -> Result<()> {
        let mut ready = Vec::with_capacity(EVENTS_MAX);
        self.started_ns = self.clock.now_ns();
        self.progress_ns = self.started_ns;
        if matches!(self.run.until, Until::Messages(_)) {
            self.begin_measuring(self.started_ns)?;
        }
        let mut before_ns = self.started_ns;
        loop {
            let now_ns = self.clock.now_ns();
            if ready.is_empty() {
                self.idle_ns += now_ns - before_ns;
            }
            before_ns = now_ns;
            if self.turn(now_ns)? {
                return Ok(());
            }
            if matches!(self.phase, Phase::WarmUp | Phase::Measure) {
                self.publish(now_ns);
            }
            self.publisher.flush()?;
            self.poller.wait(Duration::ZERO, &mut ready)?;
            for &token in &ready {
                self.read(token)?;
            }
            if !ready.is_empty() {
                self.progress_ns = now_ns;
            }
        }
    }

    /// Moves on to the next phase when it is time. True: the run is over.
    fn turn(&mut self, now_ns: u64) -> Result<bool> {
        let elapsed_ns = now_ns - self.started_ns;
        let stalled = now_ns - self.progress_ns > nanos(self.run.stall);
        match (self.phase, self.run.until) {
            (Phase::Rest, _) => return Ok(now_ns - self.progress_ns > REST_NS),
            (_, _) if stalled && self.is_pending() => self.give_up(now_ns)?,
            (Phase::WarmUp, Until::Elapsed { warm_up, .. }) if elapsed_ns >= nanos(warm_up) => {
                self.begin_measuring(now_ns)?;
            }
            (Phase::Measure, Until::Elapsed { measured, .. })
                if now_ns - self.begin.at_ns >= nanos(measured) =>
            {
                self.end_measuring(now_ns)?;
                self.phase = Phase::Drain;
            }
            (Phase::Measure, Until::Messages(count))
                if self.published >= count && !self.is_pending() =>
            {
                self.end_measuring(now_ns)?;
                self.phase = Phase::Drain;
            }
            (Phase::Drain, _) if !self.is_pending() => {
                self.phase = Phase::Rest;
                self.progress_ns = now_ns;
            }
            (Phase::WarmUp | Phase::Measure | Phase::Drain, _) => {}
        }
        Ok(false)
    }

    /// Something is due: copies, or answers to the publisher.
    fn is_pending(&self) -> bool {
        self.is_under_way() || self.publisher.answered().is_some_and(|all| all < self.published)
    }

    fn is_under_way(&self) -> bool {
        self.topics.iter().any(|topic| topic.ledger.in_flight() > 0)
    }

    fn begin_measuring(&mut self, now_ns: u64) -> Result<()> {
        for topic in &mut self.topics {
            topic.ledger.reset_latency();
        }
        self.begin = self.snapshot(now_ns)?;
        self.phase = Phase::Measure;
        Ok(())
    }

    fn end_measuring(&mut self, now_ns: u64) -> Result<()> {
        self.end = self.snapshot(now_ns)?;
        self.rss_bytes = process::resident_bytes(&self.run.servers)?;
        Ok(())
    }

    /// The server has fallen silent with something due.
    fn give_up(&mut self, now_ns: u64) -> Result<()> {
        if self.phase != Phase::Drain {
            self.end_measuring(now_ns)?;
        }
        if let Some(answers) = self.publisher.answered()
            && !self.is_under_way()
        {
            return Err(format!("{answers} answers to {} publishes", self.published).into());
        }
        for topic in &mut self.topics {
            topic.ledger.abandon();
        }
        self.publisher.expect_no_answers();
        self.phase = Phase::Rest;
        self.progress_ns = now_ns;
        Ok(())
    }

    fn snapshot(&self, now_ns: u64) -> Result<Snapshot> {
        Ok(Snapshot {
            at_ns: now_ns,
            publishes: self.published,
            deliveries: self.topics.iter().map(|topic| topic.ledger.deliveries()).sum(),
            reads: self.reads,
            idle_ns: self.idle_ns,
            cpu: process::cpu_time(&self.run.servers)?,
            redis: self.run.redis.as_ref().map(Redis::counts).transpose()?,
        })
    }

    /// Publishes what the pace and the window allow, all in one write.
    fn publish(&mut self, now_ns: u64) {
        match self.run.pace {
            Pace::Closed => {
                for topic in 0..self.topics.len() {
                    while self.publish_one(topic, now_ns, now_ns) {}
                }
            }
            Pace::PerSecond(rate) => loop {
                let due_ns = self.started_ns + (self.published as f64 / rate * 1e9) as u64;
                let topic = self.published as usize % self.topics.len().max(1);
                if due_ns > now_ns || !self.publish_one(topic, now_ns, due_ns) {
                    break;
                }
            },
        }
    }

    /// The next message of a channel; latency counts from `since_ns`. False: no more may be under way.
    fn publish_one(&mut self, topic: usize, now_ns: u64, since_ns: u64) -> bool {
        let all = match self.run.until {
            Until::Messages(count) => self.published >= count,
            Until::Elapsed { .. } => false,
        };
        let Some(Topic { template, ledger }) = self.topics.get_mut(topic) else { return false };
        if all || ledger.in_flight() >= self.run.window as u64 {
            return false;
        }
        template.stamp(ledger.published(), self.clock.unix_ns(now_ns));
        self.publisher.publish(template);
        ledger.publish(template.data(), since_ns);
        self.published += 1;
        true
    }

    #[inline]
    fn read(&mut self, token: usize) -> Result<()> {
        let Some(Subscriber { client, topic, next }) = self.subscribers.get_mut(token) else {
            return self.publisher.read(self.scratch.space(), self.clock.now_ns());
        };
        // Tokens below the number of subscribers, which is a u32.
        let subscriber = token as u32;
        let in_subscriber = |error| format!("subscriber {subscriber}: {error}");
        let bytes = client.read(self.scratch.space()).map_err(in_subscriber)?;
        let now_ns = self.clock.now_ns();
        let ledger = self.topics.get_mut(*topic as usize).map(|topic| &mut topic.ledger);
        let Some(ledger) = ledger else { return Err("no channel".into()) };
        ledger.begin_read(now_ns);
        client
            .parse(self.scratch.filled(bytes), |payload, wire_bytes| {
                Ok(ledger.deliver(subscriber, next, payload, wire_bytes)?)
            })
            .map_err(in_subscriber)?;
        client.keep_acks_delayed(now_ns)?;
        ledger.end_read();
        self.reads += 1;
        Ok(())
    }

    fn report(&self) -> FanoutReport {
        let (begin, end) = (self.begin, self.end);
        let seconds = (end.at_ns - begin.at_ns) as f64 / 1e9;
        let publishes = end.publishes - begin.publishes;
        let deliveries = end.deliveries - begin.deliveries;
        let cpu =
            end.cpu.zip(begin.cpu).map(|(end, begin)| end.saturating_sub(begin).as_secs_f64());
        let ledgers = || self.topics.iter().map(|topic| &topic.ledger);
        let (mut latency, mut violations) = (Latency::new(), Violations::default());
        for ledger in ledgers() {
            latency.add(ledger.latency());
            violations.add(ledger.violations());
        }
        let frames = ledgers().map(Ledger::frame_bytes).filter(|(_, longest)| *longest > 0);
        let (frame_bytes_min, frame_bytes_max) =
            frames.reduce(|all, one| (all.0.min(one.0), all.1.max(one.1))).unwrap_or_default();
        FanoutReport {
            mode: if self.run.pace == Pace::Closed { "fanout" } else { "rate" }.to_owned(),
            label: self.run.label.clone(),
            case: self.run.case.clone(),
            round: 0,
            channels: self.run.channels,
            subscribers: self.run.subscribers,
            payload_bytes: self.topics.first().map_or(0, |topic| topic.template.data().len()),
            window: self.run.window,
            target_publishes_per_second: match self.run.pace {
                Pace::Closed => None,
                Pace::PerSecond(rate) => Some(rate),
            },
            seconds,
            publishes,
            deliveries,
            publishes_per_second: ratio(publishes as f64, seconds),
            deliveries_per_second: ratio(deliveries as f64, seconds),
            latency: latency.summary(),
            frame_bytes_min,
            frame_bytes_max,
            deliveries_per_read: ratio(deliveries as f64, (end.reads - begin.reads) as f64),
            answers: self.publisher.answers(),
            unrelated: ledgers().map(Ledger::unrelated).sum(),
            generator_idle: ratio((end.idle_ns - begin.idle_ns) as f64 / 1e9, seconds),
            server: cpu.map(|cpu_seconds| ServerUse {
                cpu_seconds,
                cpu_us_per_delivery: ratio(cpu_seconds * 1e6, deliveries as f64),
                rss_bytes: self.rss_bytes,
            }),
            redis: end.redis.zip(begin.redis).map(|(end, begin)| end - begin),
            violations,
        }
    }
}

/// Sockets looked at between two looks at the publisher.
const EVENTS_MAX: usize = 256;
/// The one read buffer. Larger than a socket's backlog at any window of interest, yet small enough for the L2 cache.
const READ_BYTES: usize = 256 << 10;
/// Quiet time at the end in which a late repetition would show.
const REST_NS: u64 = 50_000_000;
