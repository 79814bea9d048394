//! What is between nodes is started anew: how long until what is published reaches all nodes again, what that costs, and
//! that nothing was lost.
//!
//! Every channel has one subscriber at each node. One message is published to each channel; Redis is started anew; one is
//! published at once to some channels that are spread over all, which are what is timed; and when it is quiet again one to
//! each. All subscribers must get all of them once and in order.

use std::{
    fmt,
    process::Command,
    time::{Duration, Instant},
};

use memchr::memmem;
use serde::{Deserialize, Serialize};

use crate::{
    Result,
    check::Violations,
    client::{Client, OPEN_AT_ONCE, PAYLOAD_BYTES_MAX, Setup, Token},
    handshake::Target,
    message::{self, Answer, Template},
    process::{self, Process},
    redis::{Redis, RedisCounts},
    socket::Poller,
    stats::ratio,
};

/// One run.
#[derive(Clone, Debug)]
pub struct Restart {
    /// The nodes. What is published is published at the first.
    pub targets: Vec<Target>,
    /// Shown on every connection.
    pub token: Option<Token>,
    /// The beginning of the channels' names.
    pub channel: String,
    /// Channels, each followed by all nodes.
    pub channels: usize,
    /// Of these, how many are published to at once when Redis is back.
    pub sample: usize,
    /// Bytes of a message's data.
    pub data_bytes: usize,
    /// Starts Redis anew, and ends when it answers again.
    pub command: String,
    /// The nodes' processes, for their CPU time.
    pub servers: Vec<Process>,
    /// It.
    pub redis: Redis,
    /// Between the sample and looking at what Redis did: nodes may still be at it.
    pub settle: Duration,
    /// So long nothing may come that is due.
    pub stall: Duration,
    /// Goes into the report: which server this is.
    pub label: String,
    /// Goes into the report: what is measured.
    pub case: String,
}

impl Restart {
    /// Runs, and reports. Violations are in the report.
    ///
    /// # Errors
    /// The run could not be done: no connection, a refusal, a closed connection, a command that fails.
    pub fn run(&self) -> Result<RestartReport> {
        let mut watch = Watch::open(self)?;
        let all: Vec<usize> = (0..self.channels).collect();
        let sample = self.sample.clamp(1, self.channels.max(1));
        let sample: Vec<usize> = (0..sample).map(|place| place * self.channels / sample).collect();
        watch.publish(self, &all, BEFORE)?;

        let (began, cpu) = (Instant::now(), process::cpu_time(&self.servers)?);
        self.restart()?;
        let away = began.elapsed();
        let back = Instant::now();
        let arrivals = watch.publish(self, &sample, AT_ONCE)?;
        let after = |at: Option<&Instant>| {
            at.map_or(0.0, |at| at.saturating_duration_since(back).as_secs_f64())
        };
        let (first, last) = (after(arrivals.iter().min()), after(arrivals.iter().max()));
        watch.rest(self.settle)?;
        let redis = self.redis.counts()?;
        let cpu = process::cpu_time(&self.servers)?.zip(cpu);

        watch.publish(self, &all, AFTER)?;
        watch.rest(Duration::from_millis(100))?;
        Ok(RestartReport {
            mode: "restart".to_owned(),
            label: self.label.clone(),
            case: self.case.clone(),
            round: 0,
            nodes: self.targets.len(),
            channels: self.channels,
            sample: sample.len(),
            away_seconds: away.as_secs_f64(),
            first_seconds: first,
            back_seconds: last,
            cpu_seconds: cpu.map(|(end, begin)| end.saturating_sub(begin).as_secs_f64()),
            redis,
            violations: watch.violations,
        })
    }

    fn restart(&self) -> Result<()> {
        let status = Command::new("sh").args(["-c", &self.command]).status()?;
        if status.success() { Ok(()) } else { Err(format!("{}: {status}", self.command).into()) }
    }

    fn name(&self, channel: usize) -> String {
        format!("{}-{channel}", self.channel)
    }

    fn setup(&self, target: &Target) -> Setup {
        Setup {
            target: target.clone(),
            token: self.token.clone(),
            channel: None,
            payload_bytes_max: PAYLOAD_BYTES_MAX,
        }
    }
}

/// All connections, and what has come.
struct Watch {
    poller: Poller,
    publisher: Client,
    clients: Vec<(usize, Client)>,
    /// By node and channel: which messages have come, a bit for each.
    seen: Vec<Vec<u8>>,
    /// Which messages of a channel were published.
    published: Vec<u8>,
    answers: usize,
    violations: Violations,
    scratch: Vec<u8>,
}

impl Watch {
    fn open(run: &Restart) -> Result<Self> {
        let mut scratch = vec![0; READ_BYTES];
        let mut clients = Vec::new();
        for (node, target) in run.targets.iter().enumerate() {
            let opened = run
                .setup(target)
                .open(run.channels.div_ceil(CHANNELS_EACH).max(1), OPEN_AT_ONCE)?;
            clients.extend(opened.into_iter().map(|client| (node, client)));
        }
        let each = clients.len() / run.targets.len().max(1);
        for turn in 0..CHANNELS_EACH {
            let wanted = |place: usize| Some((place % each) * CHANNELS_EACH + turn);
            let wanted = |place| wanted(place).filter(|channel| *channel < run.channels);
            for (place, (_, client)) in clients.iter_mut().enumerate() {
                if let Some(channel) = wanted(place) {
                    client.request(&message::subscribe_request(&run.name(channel)))?;
                }
            }
            for (place, (_, client)) in clients.iter_mut().enumerate() {
                if wanted(place).is_some() {
                    client.await_answer(&mut scratch)?;
                }
            }
        }
        let first = run.targets.first().ok_or("no server")?;
        let publisher = run.setup(first).open(1, 1)?.pop().ok_or("no publisher")?;
        let poller = Poller::new(1024)?;
        for (token, (_, client)) in clients.iter().enumerate() {
            poller.add(client.stream(), token)?;
        }
        poller.add(publisher.stream(), clients.len())?;
        Ok(Self {
            poller,
            publisher,
            clients,
            seen: vec![vec![0; run.channels]; run.targets.len()],
            published: vec![0; run.channels],
            answers: 0,
            violations: Violations::default(),
            scratch,
        })
    }

    /// Publishes one message to each of these channels, and waits until all have come or nothing more comes. When each came
    /// to the last of the nodes.
    fn publish(&mut self, run: &Restart, channels: &[usize], message: u8) -> Result<Vec<Instant>> {
        let mut wire = Vec::new();
        let mut arrivals = Vec::with_capacity(channels.len());
        let (mut sent, mut progress) = (0, Instant::now());
        let expected = channels.len() * run.targets.len();
        self.answers = 0;
        while arrivals.len() < expected || self.answers < channels.len() {
            while sent < channels.len() && sent < self.answers + UNDER_WAY && wire.is_empty() {
                let Some(channel) = channels.get(sent) else { break };
                let mut template = Template::publish(&run.name(*channel), run.data_bytes)?;
                template.stamp(u64::from(message), 0);
                template.append_frame(&mut wire);
                if let Some(published) = self.published.get_mut(*channel) {
                    *published |= 1 << message;
                }
                sent += 1;
                let taken = self.publisher.write(&wire)?;
                wire.drain(..taken);
            }
            if !wire.is_empty() {
                let taken = self.publisher.write(&wire)?;
                wire.drain(..taken);
            }
            let before = (arrivals.len(), self.answers);
            self.turn(Duration::from_millis(1), message, &mut arrivals, &run.channel)?;
            if before != (arrivals.len(), self.answers) {
                progress = Instant::now();
            } else if progress.elapsed() > run.stall {
                self.give_up(channels, message);
                break;
            }
        }
        Ok(arrivals)
    }

    /// Reads what comes though nothing is due, for some time.
    fn rest(&mut self, time: Duration) -> Result<()> {
        let (end, mut arrivals) = (Instant::now() + time, Vec::new());
        while Instant::now() < end {
            self.turn(Duration::from_millis(10), NONE, &mut arrivals, "")?;
        }
        Ok(())
    }

    fn turn(
        &mut self,
        wait: Duration,
        message: u8,
        arrivals: &mut Vec<Instant>,
        prefix: &str,
    ) -> Result<()> {
        let mut ready = Vec::new();
        self.poller.wait(wait, &mut ready)?;
        let now = Instant::now();
        for token in ready {
            let Some((node, client)) = self.clients.get_mut(token) else {
                self.hear()?;
                continue;
            };
            let bytes = client.read(&mut self.scratch)?;
            let (seen, published) = (self.seen.get_mut(*node), &self.published);
            let Some(seen) = seen else { continue };
            let violations = &mut self.violations;
            client.parse(self.scratch.get(..bytes).unwrap_or_default(), |payload, _| {
                let Some((channel, came)) = copy(payload, prefix) else {
                    return not_a_copy(payload);
                };
                let of = seen.get_mut(channel).zip(published.get(channel));
                let Some((seen, published)) = of.filter(|_| came <= AFTER) else {
                    violations.invented += 1;
                    return Ok(());
                };
                judge(violations, (*node, channel), came, seen, *published);
                if came == message {
                    arrivals.push(now);
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Answers to what is published.
    fn hear(&mut self) -> Result<()> {
        let bytes = self.publisher.read(&mut self.scratch)?;
        let answers = &mut self.answers;
        self.publisher.parse(self.scratch.get(..bytes).unwrap_or_default(), |payload, _| {
            match Answer::of(payload) {
                Answer::Done => *answers += 1,
                Answer::Refused(text) => {
                    return Err(format!("a publish was answered with an error: {text}").into());
                }
                Answer::Unrelated => {}
            }
            Ok(())
        })
    }

    /// What has not come will not come.
    fn give_up(&mut self, channels: &[usize], message: u8) {
        for (node, seen) in self.seen.iter().enumerate() {
            for channel in channels {
                if seen.get(*channel).is_some_and(|seen| seen & 1 << message == 0) {
                    self.violations.lost += 1;
                    let text =
                        format!("message {message} of channel {channel} did not reach node {node}");
                    self.violations.note(text);
                }
            }
        }
    }
}

/// Whether this message may come now.
fn judge(
    violations: &mut Violations,
    (node, channel): (usize, usize),
    came: u8,
    seen: &mut u8,
    published: u8,
) {
    let bit = 1 << came;
    let what = if published & bit == 0 {
        violations.invented += 1;
        "was never published"
    } else if *seen & bit != 0 {
        violations.duplicated += 1;
        "came again"
    } else if *seen > bit {
        violations.reordered += 1;
        "came after a later one"
    } else {
        *seen |= bit;
        return;
    };
    *seen |= bit;
    violations.note(format!("node {node}: message {came} of channel {channel} {what}"));
}

/// Channel and number of a message that was published.
fn copy(payload: &[u8], prefix: &str) -> Option<(usize, u8)> {
    let (_, number) = message::locate(payload)?;
    // It stands behind the data.
    let at = memmem::rfind(payload, ROOM)? + ROOM.len();
    let name = payload.get(at..)?.split(|byte| *byte == b'"').next()?;
    let name = std::str::from_utf8(name).ok()?;
    let channel = match prefix {
        "" => name.rsplit_once('-')?.1,
        prefix => name.strip_prefix(prefix)?.strip_prefix('-')?,
    };
    Some((channel.parse().ok()?, u8::try_from(number).ok()?))
}

/// Anything else that a subscriber is sent: a gap would be what a message was lost in, or a channel's numbers.
fn not_a_copy(payload: &[u8]) -> Result<()> {
    match Answer::of(payload) {
        Answer::Refused(text) => Err(text.into()),
        Answer::Done | Answer::Unrelated => Ok(()),
    }
}

/// What it took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RestartReport {
    /// `restart`.
    pub mode: String,
    /// Which server this was, in the caller's words.
    pub label: String,
    /// What was measured, in the caller's words.
    pub case: String,
    /// Which of several rounds this was.
    #[serde(default)]
    pub round: u32,
    /// Nodes.
    pub nodes: usize,
    /// Channels that each of them follows.
    pub channels: usize,
    /// Of these, how many were published to when Redis was back.
    pub sample: usize,
    /// How long Redis was away.
    pub away_seconds: f64,
    /// From then to the first message that reached a subscriber.
    pub first_seconds: f64,
    /// From then to the last message that reached its last subscriber.
    pub back_seconds: f64,
    /// The nodes' CPU time from the end of the old Redis on until all was quiet.
    pub cpu_seconds: Option<f64>,
    /// What the new Redis has done by then.
    pub redis: RedisCounts,
    /// All of the run.
    pub violations: Violations,
}

impl fmt::Display for RestartReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { label, nodes, channels, away_seconds, first_seconds, back_seconds, .. } = self;
        let label = if label.is_empty() { "server" } else { label };
        writeln!(
            f,
            "restart {label}: {channels} channels at each of {nodes} nodes, Redis away for {away_seconds:.2} s"
        )?;
        writeln!(f, "  delivered again after {first_seconds:.3} s, all after {back_seconds:.3} s")?;
        if let Some(cpu) = self.cpu_seconds {
            let each = ratio(cpu * 1e6, (channels * nodes) as f64);
            writeln!(f, "  nodes {cpu:.2} s CPU, {each:.1} µs a channel")?;
        }
        writeln!(f, "  Redis {}", self.redis)?;
        let Violations { lost, duplicated, reordered, invented, examples, .. } = &self.violations;
        write!(
            f,
            "  {lost} lost, {duplicated} duplicated, {reordered} reordered, {invented} invented"
        )?;
        for example in examples {
            write!(f, "\n    {example}")?;
        }
        Ok(())
    }
}

/// Which message of a channel: before Redis was started anew, at once when it was back, and when all was quiet.
const BEFORE: u8 = 0;
const AT_ONCE: u8 = 1;
const AFTER: u8 = 2;
/// Nothing is waited for.
const NONE: u8 = u8::MAX;
/// Channels of one connection.
const CHANNELS_EACH: usize = 100;
/// Publishes that are not answered yet.
const UNDER_WAY: usize = 256;
const ROOM: &[u8] = b"\"room\":\"";
const READ_BYTES: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_copy_says_of_which_channel_and_which_it_is() {
        let mut template = Template::publish("c", 100).unwrap();
        template.stamp(2, 0);
        let data = String::from_utf8_lossy(template.data()).into_owned();
        let payload = json!({"data": 1, "room": "bench:r-17", "offset": 3}).to_string();
        let payload = payload.replace("\"data\":1", &format!("\"data\":{data}"));

        assert_eq!(copy(payload.as_bytes(), "bench:r"), Some((17, 2)));
        assert_eq!(copy(payload.as_bytes(), ""), Some((17, 2)));
        assert_eq!(copy(payload.as_bytes(), "other"), None);
        assert_eq!(copy(b"{\"room\":\"bench:r-17\"}", "bench:r"), None);
    }

    #[test]
    fn what_comes_twice_late_or_from_nowhere_is_noticed() {
        let (mut violations, mut seen) = (Violations::default(), 0);
        let published = 1 << BEFORE | 1 << AFTER;
        judge(&mut violations, (0, 0), AFTER, &mut seen, published);
        assert!(violations.is_empty());
        judge(&mut violations, (0, 0), BEFORE, &mut seen, published);
        judge(&mut violations, (0, 0), AFTER, &mut seen, published);
        judge(&mut violations, (0, 0), AT_ONCE, &mut seen, published);
        let Violations { duplicated, reordered, invented, .. } = violations;
        assert_eq!((duplicated, reordered, invented), (1, 1, 1));
    }
}
