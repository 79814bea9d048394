//! Noting what goes into a hub.

use std::io::{self, IoSlice, Write};

use uuid::Uuid;

use super::{
    Asked, Call, Carried, Conn, Digest, Judged, Listed, Named, Record, Stored, Taken, To, Wanted,
    Words, application::placed, flush_number, nanos, output_digest,
};
use crate::{
    config::Config,
    hub::{
        Backlog, Command, ConnId, DrainPlan, Handler, Output, Peer, Place, Publication, RequestId,
        ShardId, StoreEvent, Timeout,
    },
    time::{Instant, Now},
    ws::Flush,
};

/// Notes a hub's calls. Whoever drives it takes the bytes and keeps them somewhere.
#[derive(Debug)]
pub(super) struct Recorder {
    shard: ShardId,
    start: Instant,
    last: Now,
    bytes: Vec<u8>,
}

impl Recorder {
    pub(super) fn new(now: Now, place: Place, config: &Config) -> Self {
        let shard = place.shard;
        let mut this = Self { shard, start: now.mono, last: now, bytes: Vec::new() };
        let (seed, shards) = (place.seed.0, place.shards.max(1));
        let (config, hooks) = (super::config_digest(config), Wanted::of(&config.hooks));
        this.note(now, Call::New { seed, shard: shard.0, shards, config, hooks });
        this
    }

    /// What was noted since the last time: whole records.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    fn note(&mut self, now: Now, call: Call<'_>) {
        self.last = now;
        let (mono, unix) = nanos(now, self.start);
        // Encoding plain data into memory cannot fail.
        if let Ok(bytes) =
            postcard::to_extend(&Record { mono, unix, call }, std::mem::take(&mut self.bytes))
        {
            self.bytes = bytes;
        }
    }

    pub(super) fn accept(&mut self, now: Now, peer: Peer, conn: Option<ConnId>) {
        let port = peer.listener.into();
        self.note(now, Call::Accept { address: peer.address, port, conn: conn.map(pair) });
    }

    pub(super) fn bytes(&mut self, now: Now, conn: ConnId, bytes: &[u8]) {
        self.note(now, Call::Bytes { conn: pair(conn), bytes });
    }

    pub(super) fn eof(&mut self, now: Now, conn: ConnId) {
        self.note(now, Call::Eof { conn: pair(conn) });
    }

    pub(super) fn io_error(&mut self, now: Now, conn: ConnId) {
        self.note(now, Call::IoError { conn: pair(conn) });
    }

    pub(super) fn shard(&mut self, now: Now, from: ShardId) {
        self.note(now, Call::Shard { from: from.0 });
    }

    pub(super) fn command(&mut self, now: Now, command: &Command) {
        let question = |id: &RequestId| (id.index, id.generation);
        let call = match command {
            Command::Publish { id, publication } => {
                let id = id.map(|id| id.0);
                let Publication { channel, event, data, options } = publication;
                match options.as_deref().map(Carried::of) {
                    None => Call::Publish { id, channel, event, data },
                    Some(options) => Call::PublishWith { id, channel, event, data, options },
                }
            }
            Command::Reply { id, result } => Call::Reply {
                question: question(id),
                result: result
                    .as_ref()
                    .map(|data| &**data)
                    .map_err(|error| (&*error.code, &*error.message)),
            },
            Command::Decide { id, allow } => Call::Decide { question: question(id), allow: *allow },
            Command::Authenticated { id, outcome } => {
                Call::Authenticated { question: question(id), outcome: Judged::of(outcome) }
            }
            Command::Exposition { conn, text } => Call::Exposition { conn: pair(*conn), text },
            Command::Statistics(data) => Call::Statistics(data),
            Command::Failed(handler) => {
                let of = match handler {
                    Handler::Request(id)
                    | Handler::Subscribe(id)
                    | Handler::Publish(id)
                    | Handler::Authenticate(id) => question(id),
                    Handler::Metrics(conn) => pair(*conn),
                    Handler::Connect
                    | Handler::Disconnect
                    | Handler::Record
                    | Handler::Statistics
                    | Handler::Subscribed
                    | Handler::Unsubscribed => (0, 0),
                };
                Call::Failed { handler: u8::try_from(handler.index()).unwrap_or(u8::MAX), of }
            }
            Command::Backlog(Backlog::None) => Call::Backlog(0),
            Command::Backlog(Backlog::Questions) => Call::Backlog(1),
            Command::Backlog(Backlog::All) => Call::Backlog(2),
            // A record names connections of its own hub only; of others the command says nothing to it.
            Command::Disconnect { conn } if conn.shard != self.shard => return,
            Command::Disconnect { conn } => Call::Disconnect { conn: pair(*conn) },
            Command::Revoke { id, revocation } => {
                Call::Revoke { id: id.map(|id| id.0), json: revocation.to_json().into() }
            }
            Command::Look { id, channel, look } => {
                Call::Look { id: id.0, channel, asked: Asked::of(look) }
            }
            Command::Sessions { id, of, limit, after } => Call::Sessions {
                id: id.0,
                of: Named::of(of),
                limit: *limit,
                after: after.map(Uuid::into_bytes),
            },
            Command::EndSessions { id, of } => {
                Call::EndSessions { id: id.map(|id| id.0), of: Named::of(of) }
            }
            Command::Reload(config) => Call::Reload {
                config: super::config_digest(config),
                hooks: Wanted::of(&config.hooks),
            },
            Command::Drain(DrainPlan { notice, window, deadline }) => {
                Call::Drain { notice: *notice, window: *window, deadline: *deadline }
            }
            Command::Send { id, to, message } => Call::Send {
                id: id.map(|id| id.0),
                to: To::of(to),
                event: message.event(),
                data: message.data(),
            },
            Command::SendEverywhere { id, user, message } => Call::SendEverywhere {
                id: id.map(|id| id.0),
                user,
                event: message.event(),
                data: message.data(),
            },
            Command::Subscribe { id, conn, channel, granted } => Call::Subscribe {
                id: id.map(|id| id.0),
                conn: placed(*conn),
                channel,
                granted: *granted,
            },
            Command::Unsubscribe { id, conn, channel } => {
                Call::Unsubscribe { id: id.map(|id| id.0), conn: placed(*conn), channel }
            }
            Command::Dismiss { id, whom, how } => {
                Call::Dismiss { id: id.map(|id| id.0), whom: To::of(whom), how: Words::of(how) }
            }
            Command::List { id, of, limit, after } => {
                Call::List { id: id.0, of: Listed::of(of), limit: *limit, after: *after }
            }
        };
        self.note(now, call);
    }

    pub(super) fn stored(&mut self, now: Now, event: &StoreEvent) {
        self.note(now, Call::Stored(Stored::of(event)));
    }

    pub(super) fn timeout(&mut self, now: Now) {
        self.note(now, Call::Timeout);
    }

    pub(super) fn output(&mut self, now: Now, output: Option<&Output>) {
        self.note(now, Call::Output(output.map(output_digest)));
    }

    /// Takes no time of its own: the last call's stands.
    pub(super) fn dirty(&mut self, conn: Option<ConnId>) {
        self.note(self.last, Call::Dirty(conn.map(pair)));
    }

    pub(super) fn flush(&mut self, now: Now, conn: ConnId, script: Script, result: Flush) {
        let Script { writes, digest } = script;
        let (digest, result) = (digest.finish(), flush_number(result));
        self.note(now, Call::Flush { conn: pair(conn), writes, digest, result });
    }

    pub(super) fn end_turn(&mut self, now: Now, next: Option<Timeout>) {
        let next = next.map(|next| nanos(Now { mono: next.at, ..now }, self.start).0);
        self.note(now, Call::EndTurn { next });
    }
}

/// A sink that notes what goes through it.
pub(super) struct Tap<'s> {
    sink: &'s mut dyn Write,
    script: Script,
}

/// What a sink said to each write, and a digest of what it took.
#[derive(Default)]
pub(super) struct Script {
    writes: Vec<Taken>,
    digest: Digest,
}

impl<'s> Tap<'s> {
    pub(super) fn new(sink: &'s mut dyn Write) -> Self {
        Self { sink, script: Script::default() }
    }

    pub(super) fn into_script(self) -> Script {
        self.script
    }

    fn took(&mut self, result: &io::Result<usize>, slices: &[IoSlice<'_>]) {
        self.script.writes.push(Taken::of(result));
        let mut left = *result.as_ref().unwrap_or(&0);
        for slice in slices {
            let count = left.min(slice.len());
            self.script.digest.add(slice.get(..count).unwrap_or(slice));
            left -= count;
        }
    }
}

impl Write for Tap<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.sink.write(bytes);
        self.took(&result, &[IoSlice::new(bytes)]);
        result
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let result = self.sink.write_vectored(slices);
        self.took(&result, slices);
        result
    }

    /// Noted only if it came to something: most sinks have nothing to flush.
    fn flush(&mut self) -> io::Result<()> {
        let result = self.sink.flush();
        if let Err(error) = &result {
            self.took(&Err(error.kind().into()), &[]);
        }
        result
    }
}

fn pair(conn: ConnId) -> Conn {
    (conn.index, conn.generation)
}
