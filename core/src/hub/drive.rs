//! The hub as its driver sees it: inputs, outputs, the end of a turn, and the record of all of them.

use std::{io, sync::Arc};

use super::{
    Hub,
    types::{Command, ConnId, Output, Peer, ShardId, ShardMessage},
};
use crate::{
    config::Config,
    reason::Reason,
    time::{Instant, Now},
    trace::Recorder,
    ws,
};

/// Inputs.
impl Hub {
    /// A socket was accepted. The refusal is counted; the driver just drops the socket.
    pub fn handle_accept(&mut self, now: Now, peer: Peer) -> Result<ConnId, Reason> {
        let accepted = self.accept(now, peer);
        self.note(|recorder| recorder.accept(now, peer, accepted.ok()));
        accepted
    }

    /// Bytes came in. They are unmasked in place; nothing of `wire` is referred to afterwards.
    pub fn handle_bytes(&mut self, now: Now, conn: ConnId, wire: &mut [u8]) {
        self.note(|recorder| recorder.bytes(now, conn, wire));
        self.tally.received_bytes += wire.len() as u64;
        let Some(header) = self.take_proxy_header(now, conn, wire) else { return };
        let wire = wire.get_mut(header..).unwrap_or_default();
        if self.is_plain(now, conn, wire) {
            self.pump(now, conn, wire);
        } else {
            self.decrypt(now, conn, wire);
        }
    }

    /// The peer will send no more.
    pub fn handle_eof(&mut self, now: Now, conn: ConnId) {
        self.note(|recorder| recorder.eof(now, conn));
        self.on_eof(now, conn);
    }

    /// The socket failed; the driver drops it.
    pub fn handle_io_error(&mut self, now: Now, conn: ConnId, _kind: io::ErrorKind) {
        self.note(|recorder| recorder.io_error(now, conn));
        if self.conns.get_at(conn.index, conn.generation).is_some() {
            self.retire(now, conn, Reason::Io);
            self.remove(conn);
        }
    }

    /// Messages of another hub, in the order in which it sent them.
    pub fn handle_shard(&mut self, now: Now, from: ShardId, batch: Vec<ShardMessage>) {
        self.note(|recorder| recorder.shard(now, from));
        for ShardMessage(message) in batch {
            if message.is_done_at_once() {
                self.credits.owe(from, message.weight());
            }
            self.on_shard(now, from, message);
        }
    }

    /// Something the application or the operator wants.
    pub fn handle_command(&mut self, now: Now, command: Command) {
        self.note(|recorder| recorder.command(now, &command));
        self.obey(now, command);
    }

    /// Some deadline has come; see [`poll_timeout`](Self::poll_timeout).
    pub fn handle_timeout(&mut self, now: Now) {
        self.note(|recorder| recorder.timeout(now));
        self.on_timeout(now);
    }
}

/// Outputs.
impl Hub {
    /// Whether this turn writes to so many that a driver should ask the operating system for further input before it runs
    /// the turn: a message that comes just behind the round costs each of them a write of its own, and asking costs as much
    /// as one.
    #[must_use]
    pub fn gathers(&self) -> bool {
        self.homes.gathers()
    }

    /// The next thing for the driver to do. Call until `None` before [`poll_dirty`](Self::poll_dirty): the first call of
    /// a turn hands the turn's broadcasts to their subscribers.
    #[must_use]
    pub fn poll_output(&mut self, now: Now) -> Option<Output> {
        let output = self.next_output(now);
        self.note(|recorder| recorder.output(now, output.as_ref()));
        output
    }

    /// The next connection to [`flush`](Self::flush).
    #[must_use]
    pub fn poll_dirty(&mut self) -> Option<ConnId> {
        let conn = self.next_dirty();
        self.note(|recorder| recorder.dirty(conn));
        conn
    }

    /// Writes what the socket takes. Errors of the sink end the connection and are answered with
    /// [`ws::Flush::Closed`].
    pub fn flush(&mut self, now: Now, conn: ConnId, sink: &mut dyn io::Write) -> ws::Flush {
        self.write(now, conn, sink)
    }

    /// The turn is over: counts are handed to the `metrics` facade. `now` is best read after the turn's writes.
    pub fn end_turn(&mut self, now: Now) {
        self.tally_deflate();
        let partial = self.intake.bytes() as i64;
        self.tally.partial_bytes += partial - std::mem::replace(&mut self.partial_told, partial);
        self.tally.under_way += std::mem::take(&mut self.credits.change);
        self.metrics.publish(now.mono, &mut self.tally);
        self.compact_timers();
        self.give_back();
        self.handshakes.end_turn(&self.config.limits);
        let next = self.poll_timeout();
        self.note(|recorder| recorder.end_turn(now, next));
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.handshakes.is_anyone_waiting() {
            Some(self.latest.mono)
        } else {
            self.conn_timers.next().into_iter().chain(self.timers.next()).min()
        }
    }

    /// Whether the driver should read from this connection. False while its own unread answers pile up.
    #[must_use]
    pub fn wants_read(&self, conn: ConnId) -> bool {
        self.conns.get_at(conn.index, conn.generation).is_some_and(|found| {
            found.transport.wants_read() && found.ws.wants_read(&self.config.limits.wire)
        })
    }

    /// Whether [`flush`](Self::flush) answers [`ws::Flush::Closed`] whatever the socket takes. A driver that leaves a socket
    /// alone until it is writable asks when the connection is dirty: the client may never read again.
    #[must_use]
    pub fn is_given_up(&self, conn: ConnId) -> bool {
        self.conns.get_at(conn.index, conn.generation).is_none_or(|found| found.ws.is_given_up())
    }

    /// Sockets of any kind that this hub holds.
    #[must_use]
    pub fn sockets(&self) -> usize {
        self.conns.len()
    }

    /// WebSocket connections through handshake and authentication, over all hubs as far as this one knows.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.census.iter().map(|census| u64::from(census.open)).sum()
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }
}

/// The record, for [`trace::replay`](crate::trace::replay()).
impl Hub {
    /// Begins to record; call it on every hub of the process before any input. False, and no record, once there are
    /// connections, and under a configuration with TLS, whose randomness no seed can bring back.
    pub fn start_recording(&mut self, now: Now) -> bool {
        let fresh = self.conns.len() == 0 && self.config.tls.is_none();
        if fresh {
            self.recorder = Some(Box::new(Recorder::new(now, self.place, &self.config)));
        }
        fresh
    }

    /// The record's next bytes, for [`trace::Writer::add`](crate::trace::Writer::add); empty if recording is off. Best
    /// taken once per turn.
    #[must_use]
    pub fn take_recording(&mut self) -> Vec<u8> {
        self.recorder.as_mut().map(|recorder| recorder.take()).unwrap_or_default()
    }

    pub(super) fn note(&mut self, note: impl FnOnce(&mut Recorder)) {
        if let Some(recorder) = &mut self.recorder {
            note(recorder);
        }
    }
}
