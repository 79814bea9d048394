//! Making a trace's calls again.

use std::{
    fmt,
    io::{self, IoSlice, Write},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    Call, Conn, Digest, MAGIC, Record, Taken, config_digest, flush_number, nanos, output_digest,
};
use crate::{
    config::Config,
    entropy::Seed,
    hub::{
        Command, CommandId, ConnId, DrainPlan, Hub, Listener, Peer, Place, Publication,
        RequestError, RequestId, ShardId,
    },
    time::Now,
};

/// What a replay that agreed has run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Calls made.
    pub calls: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Bytes of clients.
    pub received_bytes: u64,
    /// Bytes to clients, all equal to the recorded ones.
    pub sent_bytes: u64,
    /// Time between the first and the last call.
    pub duration: Duration,
}

/// Why a replay stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// Not a trace, or one of another version.
    NotATrace,
    /// The trace breaks off in the middle of a record, after so many calls.
    Broken {
        /// Calls made until then.
        calls: u64,
    },
    /// It was recorded under another configuration.
    Configuration {
        /// Calls made until then.
        calls: u64,
    },
    /// The hub did something else than it did when it was recorded.
    Differs {
        /// Which call it was.
        calls: u64,
        /// What the call was.
        call: String,
        /// What came out now.
        got: String,
    },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotATrace => f.write_str("not a trace, or one of another version"),
            Self::Broken { calls } => write!(f, "the trace breaks off after call {calls}"),
            Self::Configuration { calls } => {
                write!(f, "recorded under another configuration (after call {calls})")
            }
            Self::Differs { calls, call, got } => {
                write!(f, "call {calls} came out differently: {call}; now {got}")
            }
        }
    }
}

impl std::error::Error for Mismatch {}

/// Runs `trace` on a new hub under `config` and demands that the same comes out. `start` is any instant: the trace's
/// times are counted from it.
///
/// # Errors
///
/// The first thing that differs.
pub fn replay(trace: &[u8], config: Arc<Config>, start: Instant) -> Result<Report, Mismatch> {
    let rest = trace.strip_prefix(MAGIC).ok_or(Mismatch::NotATrace)?;
    let (first, mut rest) = next(rest).ok_or(Mismatch::NotATrace)?;
    let Call::New { seed, config: digest } = first.call else { return Err(Mismatch::NotATrace) };
    if digest != config_digest(&config) {
        return Err(Mismatch::Configuration { calls: 0 });
    }
    let mut replay = Replay::new(first.unix, seed, config, start);
    while !rest.is_empty() {
        let (record, after) = next(rest).ok_or(Mismatch::Broken { calls: replay.report.calls })?;
        replay.step(&record)?;
        rest = after;
    }
    Ok(replay.report)
}

fn next(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    postcard::take_from_bytes(bytes).ok()
}

struct Replay {
    hub: Hub,
    config: Arc<Config>,
    start: Instant,
    report: Report,
    scratch: Vec<u8>,
}

impl Replay {
    fn new(unix: u128, seed: [u8; 32], config: Arc<Config>, start: Instant) -> Self {
        let now = Now { mono: start, unix: duration(unix) };
        let hub = Hub::new(config.clone(), Place::alone(Seed(seed)), now);
        Self {
            hub,
            config,
            start,
            report: Report { calls: 1, ..Report::default() },
            scratch: Vec::new(),
        }
    }

    fn step(&mut self, record: &Record<'_>) -> Result<(), Mismatch> {
        let mono = Duration::from_nanos(record.mono);
        let now = Now { mono: self.start + mono, unix: duration(record.unix) };
        self.report.calls += 1;
        self.report.duration = mono;
        match &record.call {
            Call::New { .. } => return Err(Mismatch::NotATrace),
            Call::Accept { address, metrics, conn } => {
                let listener = if *metrics { Listener::Metrics } else { Listener::Main };
                let accepted =
                    self.hub.handle_accept(now, Peer { address: *address, listener }).ok();
                self.report.connections += u64::from(accepted.is_some());
                self.expect(record, *conn, accepted.map(|id| (id.index, id.generation)))?;
            }
            Call::Bytes { conn, bytes } => {
                self.report.received_bytes += bytes.len() as u64;
                self.scratch.clear();
                self.scratch.extend_from_slice(bytes);
                self.hub.handle_bytes(now, id(*conn), &mut self.scratch);
            }
            Call::Eof { conn } => self.hub.handle_eof(now, id(*conn)),
            Call::IoError { conn } => {
                self.hub.handle_io_error(now, id(*conn), io::ErrorKind::Other)
            }
            Call::Timeout => self.hub.handle_timeout(now),
            Call::Output(expected) => {
                let got = self.hub.poll_output(now);
                self.expect(record, *expected, got.as_ref().map(output_digest))?;
            }
            Call::Dirty(expected) => {
                let got = self.hub.poll_dirty().map(|id| (id.index, id.generation));
                self.expect(record, *expected, got)?;
            }
            Call::Flush { conn, writes, digest, result } => {
                let mut sink =
                    Script { writes: writes.iter(), digest: Digest::new(), sent: 0, ended: false };
                let flush = flush_number(self.hub.flush(now, id(*conn), &mut sink));
                let got = (flush, sink.digest.finish(), sink.writes.len(), sink.ended);
                self.report.sent_bytes += sink.sent;
                self.expect(record, (*result, *digest, 0, false), got)?;
            }
            Call::EndTurn { next } => {
                self.hub.end_turn(now);
                let got = self.hub.poll_timeout();
                let got = got.map(|at| nanos(Now { mono: at, ..now }, self.start).0);
                self.expect(record, *next, got)?;
            }
            Call::Reload { config } if *config != config_digest(&self.config) => {
                return Err(Mismatch::Configuration { calls: self.report.calls });
            }
            Call::Publish { .. }
            | Call::Reply { .. }
            | Call::Decide { .. }
            | Call::Exposition { .. }
            | Call::Disconnect { .. }
            | Call::Reload { .. }
            | Call::Drain { .. } => {
                if let Some(command) = self.command(&record.call) {
                    self.hub.handle_command(now, command);
                }
            }
        }
        Ok(())
    }

    fn command(&self, call: &Call<'_>) -> Option<Command> {
        let question = |(index, generation): Conn| RequestId { index, generation };
        Some(match call {
            Call::Publish { id, channel, event, data } => Command::Publish {
                id: id.map(CommandId),
                publication: Publication {
                    channel: (*channel).into(),
                    event: (*event).into(),
                    data: Bytes::copy_from_slice(data),
                },
            },
            Call::Reply { question: asked, result } => Command::Reply {
                id: question(*asked),
                result: match result {
                    Ok(data) => Ok(Bytes::copy_from_slice(data)),
                    Err((code, message)) => {
                        Err(RequestError { code: (*code).into(), message: (*message).into() })
                    }
                },
            },
            Call::Decide { question: asked, allow } => {
                Command::Decide { id: question(*asked), allow: *allow }
            }
            Call::Exposition { conn, text } => {
                Command::Exposition { conn: id(*conn), text: Bytes::copy_from_slice(text) }
            }
            Call::Disconnect { conn } => Command::Disconnect { conn: id(*conn) },
            Call::Reload { .. } => Command::Reload(self.config.clone()),
            Call::Drain { window, deadline } => {
                Command::Drain(DrainPlan { window: *window, deadline: *deadline })
            }
            Call::New { .. }
            | Call::Accept { .. }
            | Call::Bytes { .. }
            | Call::Eof { .. }
            | Call::IoError { .. }
            | Call::Timeout
            | Call::Output(_)
            | Call::Dirty(_)
            | Call::Flush { .. }
            | Call::EndTurn { .. } => return None,
        })
    }

    fn expect<T: PartialEq + fmt::Debug>(
        &self,
        record: &Record<'_>,
        expected: T,
        got: T,
    ) -> Result<(), Mismatch> {
        if expected == got {
            return Ok(());
        }
        let call = if let Call::Flush { conn, .. } = &record.call {
            format!("flush of {conn:?} with {expected:?}")
        } else {
            format!("{:?}", record.call)
        };
        Err(Mismatch::Differs { calls: self.report.calls, call, got: format!("{got:?}") })
    }
}

/// A sink that takes exactly what the recorded one took.
struct Script<'r> {
    writes: std::slice::Iter<'r, Taken>,
    digest: Digest,
    sent: u64,
    /// More was written than was recorded.
    ended: bool,
}

impl Script<'_> {
    fn take(&mut self) -> io::Result<usize> {
        match self.writes.next() {
            Some(taken) => taken.to_result(),
            None => {
                self.ended = true;
                Err(io::ErrorKind::WouldBlock.into())
            }
        }
    }
}

impl Write for Script<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.take()?.min(bytes.len());
        self.digest.add(bytes.get(..count).unwrap_or(bytes));
        self.sent += count as u64;
        Ok(count)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let whole: usize = slices.iter().map(|slice| slice.len()).sum();
        let count = self.take()?.min(whole);
        let mut left = count;
        for slice in slices {
            let taken = left.min(slice.len());
            self.digest.add(slice.get(..taken).unwrap_or(slice));
            left -= taken;
        }
        self.sent += count as u64;
        Ok(count)
    }

    /// A record of it is there only if it came to something.
    fn flush(&mut self) -> io::Result<()> {
        self.writes.next().map_or(Ok(()), |taken| taken.to_result().map(drop))
    }
}

fn id((index, generation): Conn) -> ConnId {
    ConnId { index, generation, shard: ShardId(0) }
}

fn duration(nanos: u128) -> Duration {
    let seconds = u64::try_from(nanos / 1_000_000_000).unwrap_or(u64::MAX);
    Duration::new(seconds, (nanos % 1_000_000_000) as u32)
}
