//! One hub of a trace, making its calls again.

use std::{
    fmt,
    io::{self, IoSlice, Write},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use uuid::Uuid;

use super::{
    Call, Conn, Digest, Mismatch, Record, Report, Taken,
    application::conn_of,
    file::{Records, conn_id},
    flush_number, nanos, output_digest,
    replay::{Configs, Mail},
};
use crate::{
    auth::Revocation,
    config::Config,
    hub::{
        Backlog, Command, CommandId, DirectMessage, DrainPlan, Handler, Hub, Output, Peer, Place,
        Publication, RequestError, RequestId, ShardId,
    },
    time::{Instant, Now},
};

/// A hub and what it has still to do.
pub(super) struct Lane<'t> {
    place: Place,
    hub: Hub,
    configs: Configs,
    start: Instant,
    records: Records<'t>,
    next: Option<Result<Record<'t>, ()>>,
    /// The latest time of a call: no hub is told of anything at a time before.
    last: u64,
    pub(super) report: Report,
    scratch: Vec<u8>,
}

impl<'t> Lane<'t> {
    pub(super) fn new(
        place: Place,
        config: Arc<Config>,
        configs: Configs,
        (start, unix): (Instant, u128),
        mut records: Records<'t>,
    ) -> Self {
        let now = Now { mono: start, unix: duration(unix) };
        let next = records.next();
        Self {
            hub: Hub::new(config, place, now),
            place,
            configs,
            start,
            records,
            next,
            last: 0,
            report: Report { calls: 1, ..Report::default() },
            scratch: Vec::new(),
        }
    }

    pub(super) fn shards(&self) -> u16 {
        self.place.shards
    }

    /// When the next call was made; `None` at the end, and as long as another hub must send something first.
    pub(super) fn next_at(&self, mail: &Mail) -> Option<u64> {
        match self.next.as_ref()? {
            Ok(Record { call: Call::Shard { from }, .. }) if !mail.has(*from, self.place.shard) => {
                None
            }
            Ok(record) => Some(record.mono),
            Err(()) => Some(0),
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.next.is_none()
    }

    /// Makes the next call.
    pub(super) fn step(&mut self, mail: &mut Mail) -> Result<(), Mismatch> {
        let (shard, calls) = (self.place.shard, self.report.calls);
        let Some(record) = self.next.take() else { return Ok(()) };
        let record = record.map_err(|()| Mismatch::Damaged { shard, calls })?;
        self.next = self.records.next();
        // What is polled and flushed has the time at which its turn began; in between, a socket may have failed.
        let polled = matches!(record.call, Call::Output(_) | Call::Dirty(_) | Call::Flush { .. });
        if record.mono < self.last && !polled {
            return Err(Mismatch::Damaged { shard, calls });
        }
        self.last = self.last.max(record.mono);
        self.call(&record, mail)
    }

    fn call(&mut self, record: &Record<'_>, mail: &mut Mail) -> Result<(), Mismatch> {
        let mono = Duration::from_nanos(record.mono);
        let now = Now { mono: self.start + mono, unix: duration(record.unix) };
        self.report.calls += 1;
        self.report.duration = mono;
        match &record.call {
            Call::New { .. } => return Err(Mismatch::NotATrace),
            Call::Accept { address, port, conn } => {
                let peer = Peer { address: *address, listener: (*port).into() };
                let accepted = self.hub.handle_accept(now, peer).ok();
                self.report.connections += u64::from(accepted.is_some());
                self.expect(record, *conn, accepted.map(|id| (id.index, id.generation)))?;
            }
            Call::Shard { from } => {
                let from = ShardId(*from);
                // `next_at` has seen that it is there.
                let batch = mail.take(from, self.place.shard).unwrap_or_default();
                self.hub.handle_shard(now, from, batch);
            }
            Call::Bytes { conn, bytes } => {
                self.report.received_bytes += bytes.len() as u64;
                self.scratch.clear();
                self.scratch.extend_from_slice(bytes);
                self.hub.handle_bytes(now, conn_id(self.place.shard, *conn), &mut self.scratch);
            }
            Call::Eof { conn } => self.hub.handle_eof(now, conn_id(self.place.shard, *conn)),
            Call::IoError { conn } => self.hub.handle_io_error(
                now,
                conn_id(self.place.shard, *conn),
                io::ErrorKind::Other,
            ),
            Call::Timeout => self.hub.handle_timeout(now),
            Call::Output(expected) => {
                let got = self.hub.poll_output(now);
                self.expect(record, *expected, got.as_ref().map(output_digest))?;
                if let Some(Output::Shard { to, batch }) = got {
                    mail.send(self.place.shard, to, batch);
                }
            }
            Call::Dirty(expected) => {
                let got = self.hub.poll_dirty().map(|id| (id.index, id.generation));
                self.expect(record, *expected, got)?;
            }
            Call::Flush { conn, writes, digest, result } => {
                let mut sink = Script {
                    writes: writes.iter(),
                    digest: Digest::default(),
                    sent: 0,
                    ended: false,
                };
                let flush =
                    flush_number(self.hub.flush(now, conn_id(self.place.shard, *conn), &mut sink));
                let got = (flush, sink.digest.finish(), sink.writes.len(), sink.ended);
                self.report.sent_bytes += sink.sent;
                self.expect(record, (*result, *digest, 0, false), got)?;
            }
            Call::EndTurn { next } => {
                self.hub.end_turn(now);
                let got = self.hub.poll_timeout();
                let got = got.map(|next| nanos(Now { mono: next.at, ..now }, self.start).0);
                self.expect(record, *next, got)?;
            }
            Call::Reload { config, hooks } => {
                let config = self.configs.find(*config, hooks);
                let config = config.ok_or(Mismatch::Configuration { calls: self.report.calls })?;
                self.hub.handle_command(now, Command::Reload(config));
            }
            Call::Stored(stored) => {
                if let Some(event) = stored.to_event() {
                    self.hub.handle_store(now, event);
                }
            }
            Call::Publish { .. }
            | Call::PublishWith { .. }
            | Call::Revoke { .. }
            | Call::Look { .. }
            | Call::Sessions { .. }
            | Call::EndSessions { .. }
            | Call::Reply { .. }
            | Call::Decide { .. }
            | Call::Authenticated { .. }
            | Call::Exposition { .. }
            | Call::Statistics(_)
            | Call::Failed { .. }
            | Call::Backlog(_)
            | Call::Disconnect { .. }
            | Call::Drain { .. }
            | Call::Send { .. }
            | Call::SendEverywhere { .. }
            | Call::Subscribe { .. }
            | Call::Unsubscribe { .. }
            | Call::Dismiss { .. }
            | Call::List { .. } => {
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
                publication: Publication::new(*channel, *event, Bytes::copy_from_slice(data)),
            },
            Call::PublishWith { id, channel, event, data, options } => {
                let data = Bytes::copy_from_slice(data);
                let options = Some(Box::new(options.to_options()));
                let publication =
                    Publication { options, ..Publication::new(*channel, *event, data) };
                Command::Publish { id: id.map(CommandId), publication }
            }
            Call::Revoke { id, json } => {
                Command::Revoke { id: id.map(CommandId), revocation: Revocation::replay(json)? }
            }
            Call::Look { id, channel, asked } => Command::Look {
                id: CommandId(*id),
                channel: (*channel).into(),
                look: asked.to_look()?,
            },
            Call::Sessions { id, of, limit, after } => Command::Sessions {
                id: CommandId(*id),
                of: of.to_whose(),
                limit: *limit,
                after: after.map(Uuid::from_bytes),
            },
            Call::EndSessions { id, of } => {
                Command::EndSessions { id: id.map(CommandId), of: of.to_whose() }
            }
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
            Call::Authenticated { question: asked, outcome } => {
                let outcome = outcome.to_authentication()?;
                Command::Authenticated { id: question(*asked), outcome }
            }
            Call::Exposition { conn, text } => Command::Exposition {
                conn: conn_id(self.place.shard, *conn),
                text: Bytes::copy_from_slice(text),
            },
            Call::Statistics(data) => Command::Statistics(Bytes::copy_from_slice(data)),
            Call::Failed { handler, of } => Command::Failed(match handler {
                0 => Handler::Request(question(*of)),
                1 => Handler::Subscribe(question(*of)),
                2 => Handler::Publish(question(*of)),
                3 => Handler::Connect,
                4 => Handler::Disconnect,
                5 => Handler::Metrics(conn_id(self.place.shard, *of)),
                6 => Handler::Record,
                7 => Handler::Statistics,
                8 => Handler::Subscribed,
                9 => Handler::Unsubscribed,
                10 => Handler::Authenticate(question(*of)),
                _ => return None,
            }),
            Call::Backlog(backlog) => Command::Backlog(match backlog {
                0 => Backlog::None,
                1 => Backlog::Questions,
                2 => Backlog::All,
                _ => return None,
            }),
            Call::Disconnect { conn } => {
                Command::Disconnect { conn: conn_id(self.place.shard, *conn) }
            }
            Call::Drain { notice, window, deadline } => {
                Command::Drain(DrainPlan { notice: *notice, window: *window, deadline: *deadline })
            }
            Call::Send { id, to, event, data } => Command::Send {
                id: id.map(CommandId),
                to: to.to_recipient(),
                message: DirectMessage::new(event, data),
            },
            Call::SendEverywhere { id, user, event, data } => Command::SendEverywhere {
                id: id.map(CommandId),
                user: (*user).into(),
                message: DirectMessage::new(event, data),
            },
            Call::Subscribe { id, conn, channel, granted } => Command::Subscribe {
                id: id.map(CommandId),
                conn: conn_of(*conn),
                channel: (*channel).into(),
                granted: *granted,
            },
            Call::Unsubscribe { id, conn, channel } => Command::Unsubscribe {
                id: id.map(CommandId),
                conn: conn_of(*conn),
                channel: (*channel).into(),
            },
            Call::Dismiss { id, whom, how } => Command::Dismiss {
                id: id.map(CommandId),
                whom: whom.to_recipient(),
                how: Box::new(how.to_disconnect()),
            },
            Call::List { id, of, limit, after } => {
                Command::List { id: CommandId(*id), of: of.to_roll(), limit: *limit, after: *after }
            }
            Call::New { .. }
            | Call::Reload { .. }
            | Call::Shard { .. }
            | Call::Accept { .. }
            | Call::Bytes { .. }
            | Call::Eof { .. }
            | Call::IoError { .. }
            | Call::Stored(_)
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
        let (shard, calls) = (self.place.shard, self.report.calls);
        Err(Mismatch::Differs { shard, calls, call, got: format!("{got:?}") })
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

fn duration(nanos: u128) -> Duration {
    let seconds = u64::try_from(nanos / 1_000_000_000).unwrap_or(u64::MAX);
    Duration::new(seconds, (nanos % 1_000_000_000) as u32)
}
