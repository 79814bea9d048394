//! Noting what goes into a hub.

use std::{
    io::{self, IoSlice, Write},
    time::Instant,
};

use super::{Call, Conn, Digest, MAGIC, Record, Taken, flush_number, nanos, output_digest};
use crate::{
    config::Config,
    entropy::Seed,
    hub::{Command, ConnId, Output, Peer, RequestId},
    time::Now,
    ws::Flush,
};

/// Notes a hub's calls. Lives in the hub; whoever drives it takes the bytes and keeps them somewhere.
#[derive(Debug)]
pub(crate) struct Recorder {
    start: Instant,
    last: Now,
    bytes: Vec<u8>,
}

impl Recorder {
    pub(crate) fn new(now: Now, seed: Seed, config: &Config) -> Self {
        let mut this = Self { start: now.mono, last: now, bytes: MAGIC.to_vec() };
        this.note(now, Call::New { seed: seed.0, config: super::config_digest(config) });
        this
    }

    /// What was noted since the last time.
    pub(crate) fn take(&mut self) -> Vec<u8> {
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

    pub(crate) fn accept(&mut self, now: Now, peer: Peer, conn: Option<ConnId>) {
        let metrics = super::listener_is_metrics(peer.listener);
        self.note(now, Call::Accept { address: peer.address, metrics, conn: conn.map(pair) });
    }

    pub(crate) fn bytes(&mut self, now: Now, conn: ConnId, bytes: &[u8]) {
        self.note(now, Call::Bytes { conn: pair(conn), bytes });
    }

    pub(crate) fn eof(&mut self, now: Now, conn: ConnId) {
        self.note(now, Call::Eof { conn: pair(conn) });
    }

    pub(crate) fn io_error(&mut self, now: Now, conn: ConnId) {
        self.note(now, Call::IoError { conn: pair(conn) });
    }

    pub(crate) fn command(&mut self, now: Now, command: &Command) {
        let question = |id: &RequestId| (id.index, id.generation);
        let call = match command {
            Command::Publish { id, publication } => Call::Publish {
                id: id.map(|id| id.0),
                channel: &publication.channel,
                event: &publication.event,
                data: &publication.data,
            },
            Command::Reply { id, result } => Call::Reply {
                question: question(id),
                result: result
                    .as_ref()
                    .map(|data| &**data)
                    .map_err(|error| (&*error.code, &*error.message)),
            },
            Command::Decide { id, allow } => Call::Decide { question: question(id), allow: *allow },
            Command::Exposition { conn, text } => Call::Exposition { conn: pair(*conn), text },
            Command::Disconnect { conn } => Call::Disconnect { conn: pair(*conn) },
            Command::Reload(config) => Call::Reload { config: super::config_digest(config) },
            Command::Drain(plan) => Call::Drain { window: plan.window, deadline: plan.deadline },
        };
        self.note(now, call);
    }

    pub(crate) fn timeout(&mut self, now: Now) {
        self.note(now, Call::Timeout);
    }

    pub(crate) fn output(&mut self, now: Now, output: Option<&Output>) {
        self.note(now, Call::Output(output.map(output_digest)));
    }

    /// Takes no time of its own: the last call's stands.
    pub(crate) fn dirty(&mut self, conn: Option<ConnId>) {
        self.note(self.last, Call::Dirty(conn.map(pair)));
    }

    pub(crate) fn flush(&mut self, now: Now, conn: ConnId, tap: Tap<'_>, result: Flush) {
        let digest = tap.digest.finish();
        let call = Call::Flush {
            conn: pair(conn),
            writes: tap.writes,
            digest,
            result: flush_number(result),
        };
        self.note(now, call);
    }

    pub(crate) fn end_turn(&mut self, now: Now, next: Option<Instant>) {
        let next = next.map(|next| nanos(Now { mono: next, ..now }, self.start).0);
        self.note(now, Call::EndTurn { next });
    }
}

/// A sink that notes what goes through it.
pub(crate) struct Tap<'s> {
    sink: &'s mut dyn Write,
    writes: Vec<Taken>,
    digest: Digest,
}

impl<'s> Tap<'s> {
    pub(crate) fn new(sink: &'s mut dyn Write) -> Self {
        Self { sink, writes: Vec::new(), digest: Digest::new() }
    }
}

impl Write for Tap<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.sink.write(bytes);
        self.writes.push(Taken::of(&result));
        if let Ok(count) = result {
            self.digest.add(bytes.get(..count).unwrap_or(bytes));
        }
        result
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let result = self.sink.write_vectored(slices);
        self.writes.push(Taken::of(&result));
        let mut left = *result.as_ref().unwrap_or(&0);
        for slice in slices {
            let count = left.min(slice.len());
            self.digest.add(slice.get(..count).unwrap_or(slice));
            left -= count;
        }
        result
    }

    /// Noted only if it came to something: most sinks have nothing to flush.
    fn flush(&mut self) -> io::Result<()> {
        let result = self.sink.flush();
        if result.is_err() {
            self.writes.push(Taken::of(&result.as_ref().map(|()| 0).map_err(|e| e.kind().into())));
        }
        result
    }
}

fn pair(conn: ConnId) -> Conn {
    (conn.index, conn.generation)
}
