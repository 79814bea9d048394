//! Echo: every connection keeps a number of messages under way and checks each that comes back.

use std::{collections::VecDeque, time::Duration};

use crate::{
    Result,
    check::Violations,
    client::{Client, OPEN_AT_ONCE, PAYLOAD_BYTES_MAX, Setup},
    fanout::Until,
    handshake::Target,
    message::Template,
    process::Process,
    socket::{Clock, Poller, ReadBuffer, nanos},
    stats::{FanoutReport, Latency, ServerUse, ratio},
};

/// One run.
#[derive(Clone, Debug)]
pub struct Echo {
    /// An endpoint that sends every message back.
    pub target: Target,
    /// Connections.
    pub connections: u32,
    /// Messages under way per connection.
    pub depth: usize,
    /// Bytes of a message's payload.
    pub payload_bytes: usize,
    /// When to stop; messages are counted over all connections.
    pub until: Until,
    /// Without any echo for this long, the run fails.
    pub stall: Duration,
    /// The server's process, for its CPU time and memory.
    pub server: Option<Process>,
    /// Goes into the report: which server this is.
    pub label: String,
    /// Goes into the report: what is measured.
    pub case: String,
}

impl Echo {
    /// Connects, runs, and reports. `deliveries` are messages that came back.
    ///
    /// # Errors
    /// The run could not be done, or an echo was not what is expected next on its connection.
    pub fn run(&self) -> Result<FanoutReport> {
        let mut exchange = Exchange::connect(self)?;
        exchange.run()?;
        Ok(exchange.report())
    }
}

struct Connection {
    client: Client,
    sent: u64,
    echoed: u64,
    /// When the messages under way were handed to the socket, oldest first.
    sent_ns: VecDeque<u64>,
    out: Vec<u8>,
    /// Bytes of `out` that the socket has taken.
    taken: usize,
}

#[derive(Clone, Copy, Default)]
struct Snapshot {
    at_ns: u64,
    echoes: u64,
    idle_ns: u64,
    cpu: Option<Duration>,
}

struct Exchange<'a> {
    run: &'a Echo,
    clock: Clock,
    poller: Poller,
    connections: Vec<Connection>,
    template: Template,
    latency: Latency,
    scratch: ReadBuffer,
    /// Connections whose socket did not take everything; tried again in every round.
    blocked: Vec<usize>,
    echoes: u64,
    sending: bool,
    idle_ns: u64,
    begin: Snapshot,
    end: Snapshot,
}

impl<'a> Exchange<'a> {
    fn connect(run: &'a Echo) -> Result<Self> {
        let poller = Poller::new(EVENTS_MAX)?;
        let setup = Setup {
            target: run.target.clone(),
            token: None,
            channel: None,
            payload_bytes_max: PAYLOAD_BYTES_MAX,
        };
        let clients = setup.open(run.connections as usize, OPEN_AT_ONCE)?;
        for (token, client) in clients.iter().enumerate() {
            poller.add(client.stream(), token)?;
        }
        let connection = |client| Connection {
            client,
            sent: 0,
            echoed: 0,
            sent_ns: VecDeque::with_capacity(run.depth),
            out: Vec::new(),
            taken: 0,
        };
        Ok(Self {
            run,
            clock: Clock::start(),
            poller,
            connections: clients.into_iter().map(connection).collect(),
            template: Template::bare(run.payload_bytes)?,
            latency: Latency::new(),
            scratch: ReadBuffer::new(READ_BYTES),
            blocked: Vec::new(),
            echoes: 0,
            sending: true,
            idle_ns: 0,
            begin: Snapshot::default(),
            end: Snapshot::default(),
        })
    }

    fn run(&mut self) -> Result<()> {
        let (warm_up_ns, end_ns) = match self.run.until {
            Until::Elapsed { warm_up, measured } => (nanos(warm_up), nanos(warm_up + measured)),
            Until::Messages(_) => (0, u64::MAX),
        };
        let mut ready = Vec::with_capacity(EVENTS_MAX);
        let (mut measuring, mut progress_ns, mut before_ns) = (false, 0, 0);
        for index in 0..self.connections.len() {
            self.send(index, self.run.depth)?;
        }
        loop {
            let now_ns = self.clock.now_ns();
            if ready.is_empty() {
                self.idle_ns += now_ns - before_ns;
            } else {
                progress_ns = now_ns;
            }
            before_ns = now_ns;
            if !measuring && now_ns >= warm_up_ns {
                measuring = true;
                self.latency = Latency::new();
                self.begin = self.snapshot(now_ns)?;
            }
            let enough = matches!(self.run.until, Until::Messages(count) if self.echoes >= count);
            if self.sending && (enough || now_ns >= end_ns) {
                self.sending = false;
                self.end = self.snapshot(now_ns)?;
            }
            if !self.sending
                && self.connections.iter().all(|connection| connection.sent_ns.is_empty())
            {
                return Ok(());
            }
            if now_ns - progress_ns > nanos(self.run.stall) {
                return Err("the server stopped echoing: messages were lost".into());
            }
            for index in std::mem::take(&mut self.blocked) {
                self.flush(index)?;
            }
            self.poller.wait(Duration::ZERO, &mut ready)?;
            for &index in &ready {
                self.read(index).map_err(|error| format!("connection {index}: {error}"))?;
            }
        }
    }

    /// Takes what came and sends as many messages as came back, in one write.
    fn read(&mut self, index: usize) -> Result<()> {
        let number = self.connections.len() as u64;
        let Some(connection) = self.connections.get_mut(index) else { return Ok(()) };
        let bytes = connection.client.read(self.scratch.space())?;
        let now_ns = self.clock.now_ns();
        let (template, latency) = (&mut self.template, &mut self.latency);
        let Connection { client, echoed, sent_ns, .. } = connection;
        let echoed_before = *echoed;
        client.parse(self.scratch.filled(bytes), |payload, _| {
            let sent_ns = sent_ns.pop_front().ok_or("an echo of nothing")?;
            template.stamp(*echoed * number + index as u64, 0);
            if payload != template.data() {
                return Err(format!(
                    "echo {echoed} is not what was sent: lost, repeated, reordered or changed"
                )
                .into());
            }
            latency.record(now_ns - sent_ns, 1);
            *echoed += 1;
            Ok(())
        })?;
        client.keep_acks_delayed(now_ns)?;
        let came = *echoed - echoed_before;
        self.echoes += came;
        if self.sending && came > 0 {
            self.send(index, came as usize)?;
        }
        Ok(())
    }

    fn send(&mut self, index: usize, messages: usize) -> Result<()> {
        let number = self.connections.len() as u64;
        let now_ns = self.clock.now_ns();
        let Some(connection) = self.connections.get_mut(index) else { return Ok(()) };
        let was_blocked = !connection.out.is_empty();
        for _ in 0..messages {
            self.template.stamp(connection.sent * number + index as u64, 0);
            self.template.append_frame(&mut connection.out);
            connection.sent_ns.push_back(now_ns);
            connection.sent += 1;
        }
        if was_blocked { Ok(()) } else { self.flush(index) }
    }

    fn flush(&mut self, index: usize) -> Result<()> {
        let Some(connection) = self.connections.get_mut(index) else { return Ok(()) };
        connection.taken +=
            connection.client.write(connection.out.get(connection.taken..).unwrap_or_default())?;
        if connection.taken == connection.out.len() {
            connection.out.clear();
            connection.taken = 0;
        } else {
            self.blocked.push(index);
        }
        Ok(())
    }

    fn snapshot(&self, now_ns: u64) -> Result<Snapshot> {
        let cpu = self.run.server.map(Process::cpu_time).transpose()?;
        Ok(Snapshot { at_ns: now_ns, echoes: self.echoes, idle_ns: self.idle_ns, cpu })
    }

    fn report(&self) -> FanoutReport {
        let (begin, end) = (self.begin, self.end);
        let seconds = end.at_ns.saturating_sub(begin.at_ns) as f64 / 1e9;
        let echoes = end.echoes - begin.echoes;
        let per_second = ratio(echoes as f64, seconds);
        let frame_bytes =
            self.run.payload_bytes + crate::frame::header_bytes(self.run.payload_bytes);
        let cpu =
            end.cpu.zip(begin.cpu).map(|(end, begin)| end.saturating_sub(begin).as_secs_f64());
        FanoutReport {
            channels: 1,
            redis: None,
            mode: "echo".to_owned(),
            label: self.run.label.clone(),
            case: self.run.case.clone(),
            round: 0,
            subscribers: self.run.connections,
            payload_bytes: self.run.payload_bytes,
            window: self.run.depth,
            target_publishes_per_second: None,
            seconds,
            publishes: echoes,
            deliveries: echoes,
            publishes_per_second: per_second,
            deliveries_per_second: per_second,
            latency: self.latency.summary(),
            frame_bytes_min: frame_bytes,
            frame_bytes_max: frame_bytes,
            deliveries_per_read: 0.0,
            answers: 0,
            unrelated: 0,
            generator_idle: ratio(end.idle_ns.saturating_sub(begin.idle_ns) as f64 / 1e9, seconds),
            server: cpu.map(|cpu_seconds| ServerUse {
                cpu_seconds,
                cpu_us_per_delivery: ratio(cpu_seconds * 1e6, echoes as f64),
                rss_bytes: self
                    .run
                    .server
                    .and_then(|server| server.resident_bytes().ok())
                    .unwrap_or_default(),
            }),
            violations: Violations::default(),
        }
    }
}

const EVENTS_MAX: usize = 256;
const READ_BYTES: usize = 256 << 10;
