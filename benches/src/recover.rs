//! Clients that come back all at once for what they missed: how long it takes, and what it costs the server.

use std::{
    fmt,
    time::{Duration, Instant},
};

use memchr::memmem;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    Result,
    client::{Client, Setup},
    handshake::Target,
    message::Template,
    process::{self, Process},
    redis::{Redis, RedisCounts},
    socket::{self, Poller},
    stats::ratio,
};

/// So many clients, each of which missed so many events.
#[derive(Clone, Debug)]
pub struct Recover {
    /// How each connection is opened.
    pub setup: Setup,
    /// The node where it is published, if that is another one.
    pub published_at: Option<Target>,
    /// The channel.
    pub channel: String,
    /// How many clients.
    pub connections: usize,
    /// Handshakes under way at a time.
    pub at_once: usize,
    /// Events that each of them missed.
    pub missed: u64,
    /// Bytes of an event's data.
    pub data_bytes: usize,
    /// The server's processes, for their CPU time.
    pub servers: Vec<Process>,
    /// What is between nodes, for what it does.
    pub redis: Option<Redis>,
    /// Goes into the report: which server this is.
    pub label: String,
    /// Goes into the report: what is measured.
    pub case: String,
}

impl Recover {
    /// Publishes what is missed, opens all connections, lets all of them ask in one go, and reads until each has everything.
    ///
    /// # Errors
    /// A connection failed, or a client did not get exactly what it missed.
    pub fn run(&self) -> Result<RecoverReport> {
        let mut scratch = vec![0; READ_BYTES];
        let mut setup = self.setup.clone();
        if let Some(target) = &self.published_at {
            setup.target = target.clone();
        }
        let mut publisher = setup.open(1, 1)?.pop().ok_or("no connection")?;
        let from = self.position(&mut publisher, &mut scratch)?;
        self.publish(&mut publisher, &mut scratch)?;

        let cpu_before = self.cpu()?;
        let started = Instant::now();
        let mut clients = self.setup.open(self.connections, self.at_once)?;
        let opened = started.elapsed();
        let (cpu_opened, redis_opened) = (self.cpu()?, self.redis_counts()?);
        let asked = Instant::now();
        let request = json!({"type": "request", "event": "subscribe", "id": "recover",
            "data": {"channel": self.channel, "recover": from, "strict": true}});
        let request = request.to_string();
        for client in &mut clients {
            client.request(&request)?;
        }
        let first = from.get("offset").and_then(Value::as_u64).unwrap_or_default() + 1;
        self.read_all(&mut clients, first, &mut scratch)?;
        let recovered = asked.elapsed();
        let (cpu, redis) = (self.cpu()?, self.redis_counts()?);
        for client in &clients {
            socket::reset_on_close(client.stream())?;
        }
        let used = |end: Option<Duration>, begin: Option<Duration>| {
            end.zip(begin).map(|(end, begin)| end.saturating_sub(begin).as_secs_f64())
        };
        Ok(RecoverReport {
            mode: "recover".to_owned(),
            label: self.label.clone(),
            case: self.case.clone(),
            round: 0,
            connections: self.connections,
            missed: self.missed,
            open_seconds: opened.as_secs_f64(),
            recover_seconds: recovered.as_secs_f64(),
            cpu_seconds_to_open: used(cpu_opened, cpu_before),
            cpu_seconds_to_recover: used(cpu, cpu_opened),
            redis: redis.zip(redis_opened).map(|(end, begin)| end - begin),
        })
    }

    fn cpu(&self) -> Result<Option<Duration>> {
        Ok(process::cpu_time(&self.servers)?)
    }

    fn redis_counts(&self) -> Result<Option<RedisCounts>> {
        self.redis.as_ref().map(Redis::counts).transpose()
    }

    /// Where the channel stands.
    fn position(&self, client: &mut Client, scratch: &mut [u8]) -> Result<Value> {
        let data = json!({"channel": self.channel, "limit": 0});
        let request = json!({"type": "request", "event": "get_history", "id": "q", "data": data});
        let answer = client.ask(&request.to_string(), scratch)?;
        let data = serde_json::from_slice::<Value>(&answer)?;
        let data = data.get("data").ok_or("no data in the answer")?;
        let [epoch, offset] = ["epoch", "offset"].map(|name| data.get(name).cloned());
        Ok(json!({"epoch": epoch, "offset": offset}))
    }

    fn publish(&self, client: &mut Client, scratch: &mut [u8]) -> Result<()> {
        let mut template = Template::publish(&self.channel, self.data_bytes)?;
        for sequence in 0..self.missed {
            template.stamp(sequence, 0);
            client.ask(&template.text(), scratch)?;
        }
        Ok(())
    }

    /// Reads until each client has all that it missed: the answer first, then each event once and in order.
    fn read_all(&self, clients: &mut [Client], first: u64, scratch: &mut [u8]) -> Result<()> {
        let mut poller = Poller::new(1024)?;
        for (token, client) in clients.iter().enumerate() {
            poller.add(client.stream(), token)?;
        }
        let mut next: Vec<Option<u64>> = vec![None; clients.len()];
        let (mut ready, mut left) = (Vec::new(), clients.len());
        let mut progress = Instant::now();
        while left > 0 {
            poller.wait(Duration::from_millis(100), &mut ready)?;
            if progress.elapsed() > STALL {
                return Err(format!("{left} clients are still waiting").into());
            }
            for &token in &ready {
                let (Some(client), Some(next)) = (clients.get_mut(token), next.get_mut(token))
                else {
                    continue;
                };
                progress = Instant::now();
                let bytes = client.read(scratch)?;
                let (missed, end) = (self.missed, first + self.missed);
                client.parse(scratch.get(..bytes).unwrap_or_default(), |payload, _| {
                    *next = Some(match *next {
                        None if is_answer(payload, missed) => first,
                        None if memmem::find(payload, b"session.created").is_some() => {
                            return Ok(());
                        }
                        Some(due) if offset(payload) == Some(due) => due + 1,
                        _ => {
                            let text = String::from_utf8_lossy(payload);
                            return Err(format!("client {token} at {next:?} got {text}").into());
                        }
                    });
                    if *next == Some(end) {
                        left -= 1;
                    }
                    Ok(())
                })?;
            }
        }
        Ok(())
    }
}

/// Whether it says that so many events follow.
fn is_answer(payload: &[u8], missed: u64) -> bool {
    let recovered = format!("\"recovered\":true,\"missed\":{missed}}}");
    memmem::find(payload, recovered.as_bytes()).is_some()
}

/// The number at the end of an event.
fn offset(payload: &[u8]) -> Option<u64> {
    let at = memmem::rfind(payload, b",\"offset\":")? + b",\"offset\":".len();
    let digits = payload.get(at..)?.strip_suffix(b"}")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// What it cost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RecoverReport {
    /// `recover`.
    pub mode: String,
    /// Which server this was, in the caller's words.
    pub label: String,
    /// What was measured, in the caller's words.
    #[serde(default)]
    pub case: String,
    /// Which of several interleaved rounds this was.
    #[serde(default)]
    pub round: u32,
    /// Clients.
    pub connections: usize,
    /// Events that each of them missed.
    pub missed: u64,
    /// From the first connect to the last welcome.
    pub open_seconds: f64,
    /// From the first wish to recover to the last client's last event.
    pub recover_seconds: f64,
    /// The server's CPU time while they were opened.
    pub cpu_seconds_to_open: Option<f64>,
    /// The server's CPU time while they recovered.
    pub cpu_seconds_to_recover: Option<f64>,
    /// What Redis did meanwhile, if it was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisCounts>,
}

impl fmt::Display for RecoverReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { label, connections, missed, open_seconds, recover_seconds, .. } = self;
        let label = if label.is_empty() { "server" } else { label };
        write!(
            f,
            "recover {label}: {connections} clients, {missed} events each: opened in {open_seconds:.2} s, \
             recovered in {recover_seconds:.2} s"
        )?;
        if let (Some(open), Some(recover)) = (self.cpu_seconds_to_open, self.cpu_seconds_to_recover)
        {
            let each = ratio(recover * 1e6, *connections as f64);
            write!(f, "\n  server CPU {open:.2} s and {recover:.2} s, {each:.1} µs a recovery")?;
        }
        if let Some(redis) = self.redis {
            write!(f, "\n  Redis {redis}")?;
        }
        Ok(())
    }
}

const READ_BYTES: usize = 256 << 10;
/// So long nothing may come.
const STALL: Duration = Duration::from_secs(10);
