//! One who publishes: numbers, one after the other.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{Plan, Shared, channel};
use crate::{http, stream};

/// What a publisher knows of its numbers.
#[derive(Debug, Default)]
pub(super) struct Sent {
    pub(super) publisher: usize,
    pub(super) channel: String,
    /// Published.
    pub(super) stored: Vec<u64>,
    /// Perhaps.
    pub(super) unknown: Vec<u64>,
    /// Certainly not.
    pub(super) refused: Vec<u64>,
    /// The longest that one took, repetitions included.
    pub(super) slowest: Duration,
    /// Answers other than 200, repetitions included; 0 are connections that ended without one.
    pub(super) answers: BTreeMap<u16, usize>,
}

/// What became of one attempt.
enum Outcome {
    Stored,
    Unknown,
    Refused,
}

pub(super) fn publish(shared: &Shared, publisher: usize, plan: &Plan) -> Sent {
    let channel = channel(publisher % plan.channels);
    let mut sent = Sent { publisher, channel: channel.clone(), ..Sent::default() };
    let mut node = publisher % shared.nodes.len();
    let mut number = 0;
    while !shared.enough.load(Ordering::SeqCst) {
        number += 1;
        let body = json!({
            "channel": channel, "event": shared.event, "data": { "publisher": publisher, "n": number },
        });
        let key = plan.keys.then(|| format!("{publisher}-{number}"));
        let start = Instant::now();
        let outcome = loop {
            let status = attempt(shared.nodes[node], key.as_deref(), &body);
            let outcome = match status {
                Some(200) => Outcome::Stored,
                None | Some(429 | 503) => Outcome::Refused,
                Some(0 | 409 | 504) => Outcome::Unknown,
                Some(status) => panic!("a publish was answered with {status}"),
            };
            if let Some(status) = status.filter(|status| *status != 200) {
                *sent.answers.entry(status).or_default() += 1;
            }
            if matches!(outcome, Outcome::Stored) || !plan.keys || start.elapsed() > GIVE_UP {
                break outcome;
            }
            node = (node + 1) % shared.nodes.len();
            std::thread::sleep(Duration::from_millis(50));
        };
        sent.slowest = sent.slowest.max(start.elapsed());
        match outcome {
            Outcome::Stored => {
                shared.stored.fetch_add(1, Ordering::SeqCst);
                sent.stored.push(number);
            }
            // A later attempt may have been refused, and an earlier one may have been published.
            Outcome::Refused if !plan.keys => sent.refused.push(number),
            Outcome::Unknown | Outcome::Refused => sent.unknown.push(number),
        }
        if !matches!(outcome, Outcome::Stored) {
            node = (node + 1) % shared.nodes.len();
        }
        std::thread::sleep(plan.pause);
    }
    sent
}

/// The status of the answer: 0 if there was none, `None` if nobody was asked.
fn attempt(node: SocketAddr, key: Option<&str>, body: &Value) -> Option<u16> {
    let stream = stream::connect(None, node, None).ok()?;
    Some(ask(stream, key, body).unwrap_or(0))
}

/// The status of the answer.
fn ask(mut stream: TcpStream, key: Option<&str>, body: &Value) -> io::Result<u16> {
    let fields = key.map(|key| ("Idempotency-Key", key));
    stream.write_all(&http::post_bytes("/publish", fields.as_slice(), &body.to_string()))?;
    let mut line = [0; 12];
    stream.read_exact(&mut line)?;
    let status = std::str::from_utf8(&line[9..]).ok().and_then(|status| status.parse().ok());
    status.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// No fault lasts so long.
const GIVE_UP: Duration = Duration::from_secs(45);
