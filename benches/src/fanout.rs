//! Fan-out: one publisher, many subscribers of its channel, every copy checked.
//!
//! The loop is one thread that never sleeps: it publishes what the pace allows, polls with a zero timeout, and reads
//! each ready socket once into one buffer that all sockets share.

use std::{collections::VecDeque, time::Duration};

use crate::{
    Result,
    check::Ledger,
    client::{Client, OPEN_AT_ONCE, PAYLOAD_BYTES_MAX, Setup, Token},
    frame,
    handshake::Target,
    message::{Answer, Template},
    process::Process,
    socket::{Clock, Poller, ReadBuffer, nanos},
    stats::{FanoutReport, ServerUse, ratio},
};

/// One run.
#[derive(Clone, Debug)]
pub struct Fanout {
    /// The server.
    pub target: Target,
    /// How it is spoken to.
    pub wire: Wire,
    /// Connections that get every message. The publisher is one more.
    pub subscribers: u32,
    /// When to publish.
    pub pace: Pace,
    /// Messages under way at most. A closed loop is always at this bound.
    pub window: usize,
    /// When to stop.
    pub until: Until,
    /// Without progress for this long while something is due, the run is given up and what is due counts as lost.
    pub stall: Duration,
    /// The server's process, for its CPU time and memory.
    pub server: Option<Process>,
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
        /// Where to publish.
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
        let template = match &self.wire {
            Wire::Json { channel, data_bytes, .. } => Template::publish(channel, *data_bytes)?,
            Wire::Raw { frame_bytes } => Template::bare(
                frame::payload_bytes_for(*frame_bytes)
                    .ok_or_else(|| format!("no frame has {frame_bytes} bytes"))?,
            )?,
        };
        let mut generator = Generator::connect(self, template)?;
        generator.run()?;
        Ok(generator.report())
    }

    fn setup(&self, role: Role) -> Setup {
        let (target, token, channel) = match (&self.wire, role) {
            (Wire::Json { channel, token, .. }, Role::Subscriber) => {
                (self.target.clone(), token.clone(), Some(channel.clone()))
            }
            (Wire::Json { token, .. }, Role::Publisher) => {
                (self.target.clone(), token.clone(), None)
            }
            (Wire::Raw { .. }, Role::Subscriber) => (self.target.at("/sub"), None, None),
            (Wire::Raw { .. }, Role::Publisher) => (self.target.at("/pub"), None, None),
        };
        Setup { target, token, channel, payload_bytes_max: PAYLOAD_BYTES_MAX }
    }
}

#[derive(Clone, Copy)]
enum Role {
    Publisher,
    Subscriber,
}

/// A subscriber's connection and the next message it must get.
struct Subscriber {
    client: Client,
    next: u64,
}

/// The publisher's connection and what its socket has not taken yet.
struct Publisher {
    client: Client,
    template: Template,
    out: VecDeque<u8>,
    batch: Vec<u8>,
    answers: u64,
    answers_expected: bool,
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
    ledger: Ledger,
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
    fn connect(run: &'a Fanout, template: Template) -> Result<Self> {
        let poller = Poller::new(EVENTS_MAX)?;
        let clients = run.setup(Role::Subscriber).open(run.subscribers as usize, OPEN_AT_ONCE)?;
        let mut publishers = run.setup(Role::Publisher).open(1, 1)?;
        let client = publishers.pop().ok_or("no publisher")?;
        for (token, client) in clients.iter().chain([&client]).enumerate() {
            poller.add(client.stream(), token)?;
        }
        let ledger = Ledger::new(run.subscribers, run.window, template.data());
        let answers_expected = matches!(run.wire, Wire::Json { .. });
        Ok(Self {
            run,
            clock: Clock::start(),
            poller,
            publisher: Publisher {
                client,
                template,
                out: VecDeque::new(),
                batch: Vec::new(),
                answers: 0,
                answers_expected,
            },
            subscribers: clients.into_iter().map(|client| Subscriber { client, next: 0 }).collect(),
            ledger,
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
        let answered =
            !self.publisher.answers_expected || self.publisher.answers == self.ledger.published();
        let pending = self.ledger.in_flight() > 0 || !answered;
        match (self.phase, self.run.until) {
            (Phase::Rest, _) => return Ok(now_ns - self.progress_ns > REST_NS),
            (_, _) if stalled && pending => self.give_up(now_ns)?,
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
                if self.ledger.published() >= count && !pending =>
            {
                self.end_measuring(now_ns)?;
                self.phase = Phase::Drain;
            }
            (Phase::Drain, _) if !pending => {
                self.phase = Phase::Rest;
                self.progress_ns = now_ns;
            }
            (Phase::WarmUp | Phase::Measure | Phase::Drain, _) => {}
        }
        Ok(false)
    }

    fn begin_measuring(&mut self, now_ns: u64) -> Result<()> {
        self.ledger.reset_latency();
        self.begin = self.snapshot(now_ns)?;
        self.phase = Phase::Measure;
        Ok(())
    }

    fn end_measuring(&mut self, now_ns: u64) -> Result<()> {
        self.end = self.snapshot(now_ns)?;
        self.rss_bytes = self.run.server.map_or(Ok(0), Process::resident_bytes)?;
        Ok(())
    }

    /// The server has fallen silent with something due.
    fn give_up(&mut self, now_ns: u64) -> Result<()> {
        if self.phase != Phase::Drain {
            self.end_measuring(now_ns)?;
        }
        if self.publisher.answers_expected && self.ledger.in_flight() == 0 {
            let Publisher { answers, .. } = self.publisher;
            return Err(
                format!("{answers} answers to {} publishes", self.ledger.published()).into()
            );
        }
        self.ledger.abandon();
        self.publisher.answers_expected = false;
        self.phase = Phase::Rest;
        self.progress_ns = now_ns;
        Ok(())
    }

    fn snapshot(&self, now_ns: u64) -> Result<Snapshot> {
        Ok(Snapshot {
            at_ns: now_ns,
            publishes: self.ledger.published(),
            deliveries: self.ledger.deliveries(),
            reads: self.reads,
            idle_ns: self.idle_ns,
            cpu: self.run.server.map(Process::cpu_time).transpose()?,
        })
    }

    /// Publishes what the pace and the window allow, all in one write.
    fn publish(&mut self, now_ns: u64) {
        let count_max = match self.run.until {
            Until::Messages(count) => count,
            Until::Elapsed { .. } => u64::MAX,
        };
        let unix_ns = self.clock.unix_ns(now_ns);
        while self.ledger.in_flight() < self.run.window as u64
            && self.ledger.published() < count_max
        {
            let since_ns = match self.run.pace {
                Pace::Closed => now_ns,
                Pace::PerSecond(rate) => {
                    let due_ns =
                        self.started_ns + (self.ledger.published() as f64 / rate * 1e9) as u64;
                    if due_ns > now_ns {
                        break;
                    }
                    due_ns
                }
            };
            let Publisher { template, batch, .. } = &mut self.publisher;
            template.stamp(self.ledger.published(), unix_ns);
            template.append_frame(batch);
            self.ledger.publish(template.data(), since_ns);
        }
    }

    #[inline]
    fn read(&mut self, token: usize) -> Result<()> {
        let Some(Subscriber { client, next }) = self.subscribers.get_mut(token) else {
            return self.publisher.read(self.scratch.space(), self.clock.now_ns());
        };
        // Tokens below the number of subscribers, which is a u32.
        let subscriber = token as u32;
        let in_subscriber = |error| format!("subscriber {subscriber}: {error}");
        let bytes = client.read(self.scratch.space()).map_err(in_subscriber)?;
        let now_ns = self.clock.now_ns();
        let ledger = &mut self.ledger;
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
        let (frame_bytes_min, frame_bytes_max) = self.ledger.frame_bytes();
        FanoutReport {
            mode: if self.run.pace == Pace::Closed { "fanout" } else { "rate" }.to_owned(),
            label: self.run.label.clone(),
            case: self.run.case.clone(),
            round: 0,
            subscribers: self.run.subscribers,
            payload_bytes: self.publisher.template.data().len(),
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
            latency: self.ledger.latency().summary(),
            frame_bytes_min,
            frame_bytes_max,
            deliveries_per_read: ratio(deliveries as f64, (end.reads - begin.reads) as f64),
            answers: self.publisher.answers,
            unrelated: self.ledger.unrelated(),
            generator_idle: ratio((end.idle_ns - begin.idle_ns) as f64 / 1e9, seconds),
            server: cpu.map(|cpu_seconds| ServerUse {
                cpu_seconds,
                cpu_us_per_delivery: ratio(cpu_seconds * 1e6, deliveries as f64),
                rss_bytes: self.rss_bytes,
            }),
            violations: self.ledger.violations().clone(),
        }
    }
}

impl Publisher {
    /// Hands the socket what it takes of the new batch and of earlier ones.
    fn flush(&mut self) -> Result<()> {
        if !self.out.is_empty() {
            self.out.extend(self.batch.drain(..));
            let taken = self.client.write(self.out.as_slices().0)?;
            self.out.drain(..taken);
        } else if !self.batch.is_empty() {
            let taken = self.client.write(&self.batch)?;
            self.out.extend(self.batch.drain(..).skip(taken));
        }
        Ok(())
    }

    fn read(&mut self, scratch: &mut [u8], now_ns: u64) -> Result<()> {
        let answers = &mut self.answers;
        let on_message = |payload: &[u8], _| match Answer::of(payload) {
            Answer::Done => {
                *answers += 1;
                Ok(())
            }
            Answer::Refused(text) => {
                Err(format!("a publish was answered with an error: {text}").into())
            }
            Answer::Unrelated => Ok(()),
        };
        let in_publisher = |error| format!("publisher: {error}");
        let bytes = self.client.read(scratch).map_err(in_publisher)?;
        self.client
            .parse(scratch.get(..bytes).unwrap_or_default(), on_message)
            .map_err(in_publisher)?;
        self.client.keep_acks_delayed(now_ns)
    }
}

/// Sockets looked at between two looks at the publisher.
const EVENTS_MAX: usize = 256;
/// The one read buffer. Larger than a socket's backlog at any window of interest, yet small enough for the L2 cache.
const READ_BYTES: usize = 256 << 10;
/// Quiet time at the end in which a late repetition would show.
const REST_NS: u64 = 50_000_000;
