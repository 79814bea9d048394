//! The hub as its driver sees it: inputs, outputs, rounds, the end of a turn.

use std::io;

use bytes::Bytes;

use super::{
    Hub,
    bus::{BusCommand, BusEvent},
    channels::Round,
    connections::{AfterHeader, HANDSHAKE, Path, Phase, Written},
    due::{Timeout, TimeoutReason},
    homes::Sealed,
    output::Output,
    peers::{Inner, ShardMessage, round_weight},
    store::StoreEvent,
    types::{Command, ConnId, Peer, ShardId},
};
use crate::{
    reason::Reason,
    time::{Instant, Now},
    ws,
};

/// Inputs.
impl Hub {
    /// A socket was accepted. The refusal is counted; the driver just drops the socket.
    pub fn handle_accept(&mut self, now: Now, peer: Peer) -> Result<ConnId, Reason> {
        self.begin(now);
        let accepted = self.accept(peer);
        self.settle();
        accepted
    }

    /// Bytes came in. They are unmasked in place; nothing of `wire` is referred to afterwards.
    pub fn handle_bytes(&mut self, now: Now, conn: ConnId, wire: &mut [u8]) {
        self.begin(now);
        self.env.tally.received_bytes += wire.len() as u64;
        self.take_in(conn, self.connections.path(conn), wire);
        self.settle();
    }

    /// The peer will send no more.
    pub fn handle_eof(&mut self, now: Now, conn: ConnId) {
        self.begin(now);
        self.on_eof(conn);
        self.settle();
    }

    /// The socket failed; the driver drops it.
    pub fn handle_io_error(&mut self, now: Now, conn: ConnId, _kind: io::ErrorKind) {
        self.begin(now);
        self.retire(conn, Reason::Io);
        self.remove(conn);
        self.settle();
    }

    /// Messages of another hub, in the order in which it sent them.
    pub fn handle_shard(&mut self, now: Now, from: ShardId, batch: Vec<ShardMessage>) {
        self.begin(now);
        for ShardMessage(message) in batch {
            if message.is_done_at_once() {
                self.peers.owe(from, message.weight());
            }
            self.on_shard(from, message);
        }
        self.settle();
    }

    /// Something the application or the operator wants.
    pub fn handle_command(&mut self, now: Now, command: Command) {
        self.begin(now);
        self.on_command(command);
        self.settle();
    }

    /// Something that the store has to tell: see [`StoreEvent`].
    pub fn handle_store(&mut self, now: Now, event: StoreEvent) {
        self.begin(now);
        self.on_store(event);
        self.settle();
    }

    /// Something that the bus has to tell: see [`BusEvent`].
    pub fn handle_bus(&mut self, now: Now, event: BusEvent) {
        self.begin(now);
        self.on_bus(event);
        self.settle();
    }

    /// Some deadline has come; see [`poll_timeout`](Self::poll_timeout).
    pub fn handle_timeout(&mut self, now: Now) {
        self.begin(now);
        self.watch_clock();
        self.homes.sweep(&self.env);
        self.presence.expire(&mut self.env);
        self.sessions.write_postponed(&self.env);
        self.ask_for_statistics();
        self.ask_for_feed();
        if self.env.config.bus.is_some() {
            self.on_bus_time();
            self.share_sessions();
        }
        self.go_on_with_handshakes();
        self.settle();
        self.go_on_with_requests();
        if !self.is_anything_due() {
            return;
        }
        // Handling a deadline may bring another that is due as well, but only so often. Should one come back for ever, the
        // driver gets its turn all the same, and sees that `poll_timeout` does not advance.
        let timers =
            self.connections.timers() + self.questions.timers() + self.sessions.timers() + 1;
        for _ in 0..timers.saturating_mul(TIMEOUTS_PER_TIMER) {
            if !self.is_anything_due() || !self.on_deadline() {
                break;
            }
            self.settle();
            // An answer that did not come in time is an answer too.
            self.go_on_with_requests();
        }
    }

    /// Requests that were sent ahead and wait for nothing any more.
    #[inline]
    fn go_on_with_requests(&mut self) {
        if self.connections.is_anyone_to_resume() {
            self.resume_requests();
        }
    }

    #[cold]
    fn resume_requests(&mut self) {
        while let Some(conn) = self.connections.next_to_resume() {
            self.pump(conn, &mut []);
            // The driver may have stopped reading; a flush tells it to go on.
            self.connections.mark_dirty(conn.index);
            self.settle();
        }
    }

    fn is_anything_due(&self) -> bool {
        let now = self.env.now.mono;
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        due(self.connections.next_deadline())
            || due(self.questions.next_deadline())
            || due(self.sessions.next_deadline())
            || due(self.drain.deadline())
    }

    fn begin(&mut self, now: Now) {
        debug_assert!(now.mono >= self.env.now.mono, "time has gone backwards");
        self.env.now = now;
        self.turn.inputs += 1;
        #[cfg(debug_assertions)]
        {
            self.turn.unchecked += 1;
        }
        debug_assert!(self.turn.inputs <= Self::TURN_INPUTS_MAX, "outputs are never drained");
    }

    /// Takes bytes in by their `path`. A layer that has done its work makes way for the next, so this ends.
    fn take_in(&mut self, id: ConnId, path: Path, wire: &mut [u8]) {
        match path {
            Path::Plain => self.pump(id, wire),
            Path::Tls if self.connections.postpones(id, wire) => {}
            Path::Tls => self.on_ciphertext(id, wire),
            Path::ProxyHeader => match self.connections.take_proxy_header(&self.env, id, wire) {
                AfterHeader::From(start) => {
                    let rest = wire.get_mut(start..).unwrap_or_default();
                    self.take_in(id, self.connections.path(id), rest);
                }
                AfterHeader::Nothing => {}
                AfterHeader::Malformed => self.retire(id, Reason::BadProxyHeader),
            },
            Path::Undecided => match wire.first() {
                Some(first) => {
                    self.decide(id, *first == HANDSHAKE);
                    self.take_in(id, self.connections.path(id), wire);
                }
                None => self.pump(id, wire),
            },
        }
    }

    /// After an input: what it touched is settled, and what has come in part is bounded.
    pub(super) fn settle(&mut self) {
        self.connections.settle(&self.env);
        while let Some(id) =
            self.connections.partial_over(self.env.config.limits.connections.partial_bytes_max)
        {
            self.give_up_partial(id);
            self.connections.settle(&self.env);
        }
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
        self.env.now = now;
        self.turn.inputs = 0;
        self.go_on_with_requests();
        self.seal_all();
        if self.env.keeps {
            match self.env.config.bus {
                Some(_) => {
                    self.ingest();
                    self.append_ready();
                }
                None => self.store_ready(),
            }
        }
        let begins = !self.turn.handed_out;
        if begins {
            self.watch_clock();
            self.turn.handed_out = true;
            self.hand_out();
            self.tell_sessions();
        }
        // Rounds for which nobody has to be flushed are done with now, and not when a flush brings the driver back here.
        while self.channels.rounds() > 0 && self.connections.is_nobody_dirty() {
            self.hand_out();
        }
        // At once what the inputs have brought, and together what the flushes of a whole round have.
        if (self.presence.has_news() || self.watchers.has_unwritten())
            && (begins || self.connections.is_nobody_dirty())
        {
            self.tell_presence();
        }
        // Answers for those who have gone bring the driver back here by nothing.
        while self.presence.is_asked()
            && self.outputs.is_empty()
            && self.connections.is_nobody_dirty()
        {
            self.tell_presence();
        }
        if self.drain.has_begun() && self.env.config.bus.is_some() {
            self.check_drained();
        }
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        if self.env.config.has_store()
            && let Some(output) = self.next_store_command()
        {
            return Some(output);
        }
        if self.env.config.bus.is_some()
            && let Some(command) = self.next_bus_command()
        {
            return Some(Output::Bus(command));
        }
        if self.env.place.shards > 1 {
            let (sockets, channels) = (self.connections.len(), self.homes.len());
            self.peers.tell_census(&self.env, sockets, channels);
            self.peers.give_back(&self.env);
        }
        self.peers.next_batch().map(|(to, batch)| Output::Shard { to, batch })
    }

    /// The next connection to [`flush`](Self::flush).
    #[must_use]
    pub fn poll_dirty(&mut self) -> Option<ConnId> {
        loop {
            if let Some(conn) = self.connections.pop_dirty() {
                return Some(conn);
            }
            if self.channels.rounds() == 0 {
                self.relieve();
                if self.connections.dirty() == 0 {
                    self.turn.handed_out = false;
                    return None;
                }
            }
            self.hand_out();
        }
    }

    /// Writes what the socket takes. Errors of the sink end the connection and are answered with
    /// [`ws::Flush::Closed`].
    pub fn flush(&mut self, now: Now, conn: ConnId, sink: &mut dyn io::Write) -> ws::Flush {
        self.env.now = now;
        let Some(written) = self.connections.write(&mut self.env, conn, sink) else {
            return ws::Flush::Closed;
        };
        self.flushed(conn, written)
    }

    /// As [`flush`](Self::flush), for drivers whose buffers are the kernel's until it has written them (io_uring): puts what waits
    /// into `pieces`, at least one and then until they are `bytes_max` or more, and [`ws::Flush::Blocked`] says that there is more.
    /// A broadcast is one buffer that all its subscribers' pieces share. What is taken counts as written; the driver writes all
    /// of it before it asks again, and shuts the socket down or drops it only then. With TLS the records are made for it.
    pub fn flush_owned(
        &mut self,
        now: Now,
        conn: ConnId,
        bytes_max: usize,
        pieces: &mut Vec<Bytes>,
    ) -> ws::Flush {
        self.env.now = now;
        let written = self.connections.write_owned(&mut self.env, conn, bytes_max, pieces);
        written.map_or(ws::Flush::Closed, |written| self.flushed(conn, written))
    }

    /// What follows from writing to a connection.
    #[inline]
    fn flushed(&mut self, conn: ConnId, written: Written) -> ws::Flush {
        if written.flush == ws::Flush::Closed {
            self.retire(conn, written.reason);
            self.remove(conn);
            self.settle();
        } else if written.is_noteworthy() || self.watchers.has_missed() {
            if written.lossy {
                self.channels.go_on(&mut self.env, &mut self.connections, conn);
                self.channels.announce_gaps(&mut self.env, &mut self.connections, conn);
            }
            self.tell_missed(conn);
            self.connections.after_write(&self.env, conn, written);
            self.settle();
        }
        written.flush
    }

    /// The turn is over: its counts may be [recorded](crate::metrics::Metrics::record).
    pub fn end_turn(&mut self, now: Now) {
        self.env.now = now;
        self.env.end_spans();
        self.env.tally_codecs();
        self.peers.end_turn(&mut self.env);
        self.connections.end_turn(&mut self.env);
        let ttl = self.env.config.limits.publishing.idempotency_ttl;
        self.homes.end_turn(&mut self.env);
        self.env.tally.idempotency_bytes += self.keys.end_turn(self.env.now.mono, ttl);
        self.questions.compact_timers();
        self.sessions.compact_timers();
        self.presence.compact_timers();
        self.env.tally.bus.queued(self.appending.bytes());
        self.env.tally.end_turn();
        self.env.give_back();
        self.channels.give_back();
        if self.outputs.is_empty() && self.outputs.capacity() > OUTPUTS_KEPT_MAX {
            self.outputs.shrink_to(0);
        }
        #[cfg(debug_assertions)]
        self.check();
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next, and what for.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timeout> {
        if self.connections.is_handshake_waiting() {
            return Some(Timeout { at: self.env.now.mono, reason: TimeoutReason::Handshakes });
        }
        if self.connections.is_anyone_to_resume() {
            return Some(Timeout { at: self.env.now.mono, reason: TimeoutReason::Requests });
        }
        let connection = || match self.connections.is_next_deadline_own(&self.env) {
            true => TimeoutReason::Session,
            false => TimeoutReason::Protocol,
        };
        let timeout = |at: Instant, reason| Timeout { at, reason };
        let connection = self.connections.next_deadline().map(|at| timeout(at, connection()));
        let question =
            self.questions.next_deadline().map(|at| timeout(at, TimeoutReason::Question));
        let drain = self.drain.deadline().map(|at| timeout(at, TimeoutReason::Drain));
        let others = [self.presence.next_deadline(), self.sessions.next_write()];
        let others = others.into_iter().flatten();
        let session = self.sessions.next_deadline().into_iter().chain(others).min();
        let session = session.map(|at| timeout(at, TimeoutReason::Resume));
        let history = self.homes.next_deadline(&self.env);
        let history = history.map(|at| timeout(at, TimeoutReason::History));
        let bus = if self.env.config.bus.is_some() { self.next_bus_time() } else { None };
        let bus = bus.map(|at| timeout(at, TimeoutReason::Bus));
        let statistics = self.statistics.next_deadline();
        let statistics = statistics.map(|at| timeout(at, TimeoutReason::Statistics));
        let feed = self.feed.next_deadline().map(|at| timeout(at, TimeoutReason::Feed));
        [connection, question, session, drain, history, bus, statistics, feed]
            .into_iter()
            .flatten()
            .min_by_key(|timeout| timeout.at)
    }

    /// Whether the driver should read from this connection. False while its own unread answers pile up.
    #[must_use]
    pub fn wants_read(&self, conn: ConnId) -> bool {
        self.connections.wants_read(conn, &self.env.config.limits.wire)
    }

    #[cold]
    fn next_bus_command(&mut self) -> Option<BusCommand> {
        self.tell_visits();
        self.tell_members();
        self.share_sessions();
        self.calls.next()
    }

    #[cold]
    fn next_bus_time(&self) -> Option<Instant> {
        let deadlines = [
            self.nodes.next_deadline(&self.env),
            self.following.next_deadline(),
            self.appending.next_deadline(),
            self.ingress.next_deadline(),
            self.visits.next_deadline(),
            self.presence.next_bus_deadline(),
            self.sessions.next_renewal(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Whether the driver should take anything in from the bus. False while a hub with subscribers does not keep up: what the
    /// bus brings cannot be refused, so it has to wait outside.
    #[must_use]
    pub fn wants_bus(&self) -> bool {
        self.peers.full() == 0
    }

    /// Whether it stops, so that new connections are refused and the driver need not listen any more.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.drain.has_begun()
    }

    /// Whether [`flush`](Self::flush) answers [`ws::Flush::Closed`] whatever the socket takes. A driver that leaves a socket
    /// alone until it is writable asks when the connection is dirty: the client may never read again.
    #[must_use]
    pub fn is_given_up(&self, conn: ConnId) -> bool {
        self.connections.get(conn).is_none_or(|found| found.ws.is_given_up())
    }
}

/// Rounds: what a turn hands out.
impl Hub {
    /// Hands a channel's round to every hub with subscribers.
    pub(super) fn send_out(&mut self, sealed: Sealed) {
        let mut remote = sealed.remote;
        if remote != 0 {
            // The frames were charged one by one.
            let Sealed { channel, plain, positioned, .. } = &sealed;
            let weight = round_weight(channel, plain, positioned.as_deref());
            let rest = weight - plain.segment.len();
            self.peers.charge_all(&self.env, remote, rest);
        }
        while remote != 0 {
            let shard = ShardId(remote.trailing_zeros() as u16);
            remote &= remote - 1;
            let message = Inner::Deliver {
                channel: sealed.channel.clone(),
                plain: sealed.plain.clone(),
                positioned: sealed.positioned.clone(),
                first_offset: sealed.first_offset,
            };
            self.peers.send_charged(shard, message);
        }
        if sealed.here {
            self.deliver(self.env.place.shard, sealed);
        }
    }

    /// A round of a channel has come for the subscribers here.
    pub(super) fn deliver(&mut self, home: ShardId, sealed: Sealed) {
        let unused = self.channels.deliver(&self.env, &mut self.connections, home, sealed);
        if let Some(bytes) = unused {
            self.peers.owe(home, bytes);
        }
    }

    /// Seals what the turn's publishes gathered.
    pub(super) fn seal_all(&mut self) {
        while let Some(sealed) = self.homes.seal_next(&mut self.env) {
            if let Some(sealed) = sealed {
                self.send_out(sealed);
            }
        }
    }

    /// Seals the channel's round if it is at home here: membership is about to change.
    pub(super) fn seal_channel(&mut self, name: &str) {
        if let Some(sealed) = self.homes.seal_channel(&mut self.env, name) {
            self.send_out(sealed);
        }
    }

    /// Hands out as much as every outbox that keeps up takes between two flushes. The rest waits for the next flush, so
    /// that a publisher who sends a lot at once does not make slow readers of those who are not.
    fn hand_out(&mut self) {
        let budget = self.env.config.limits.delivery.outbox_bytes_max / 4;
        let (alone, waiting) = (self.channels.rounds() == 1, self.connections.dirty());
        let mut handed = 0;
        while handed < budget
            && let Some(round) = self.channels.next_round()
        {
            handed += round.bytes();
            self.hand_out_round(&round);
        }
        self.settle();
        let added = self.connections.dirty() - waiting;
        if alone && added <= FEW {
            self.connections.put_first(added);
        }
    }

    /// Hands out everything: somebody who is owed it is about to be closed.
    pub(super) fn hand_out_all(&mut self) {
        while let Some(round) = self.channels.next_round() {
            self.hand_out_round(&round);
        }
    }

    /// Hands out the rounds of one channel: its membership is about to change.
    pub(super) fn hand_out_channel(&mut self, index: u32) {
        // Taken out first: handing out may close connections, and that may take away rounds of other channels.
        for round in self.channels.rounds_of(index) {
            self.hand_out_round(&round);
        }
    }

    fn hand_out_round(&mut self, round: &Round) {
        if round.credit > 0 {
            self.peers.owe(round.home, round.credit as usize);
        }
        self.channels.hand_out(&mut self.env, &mut self.connections, round);
        while let Some(id) = self.channels.next_slow() {
            self.close(id, Reason::SlowReader);
        }
    }

    /// Once per round of flushes: if outboxes hold more than `queued_bytes_max`, those that hold the most are treated as
    /// slow readers until an eighth is free again.
    fn relieve(&mut self) {
        self.channels.forget_pages();
        let max = self.env.config.limits.delivery.queued_bytes_max;
        if !self.connections.take_stock(max) {
            return;
        }
        let heaviest = self.connections.heaviest();
        // What two hold is free when both are done: looking after each would cost the square.
        let (mut rest, mut step) = (heaviest.as_slice(), 1);
        while self.connections.queued_bytes() > max - max / 8
            && let Some((due, later)) =
                rest.split_at_checked(step.min(rest.len())).filter(|(due, _)| !due.is_empty())
        {
            for id in due {
                self.relieve_of(*id);
                self.connections.measure_queued(*id);
            }
            self.connections.sweep();
            if self.connections.queued_bytes() > max - max / 8 {
                for id in due {
                    self.let_go(*id);
                }
                self.connections.sweep();
            }
            rest = later;
            step *= 2;
        }
        self.settle();
    }

    /// Does to one connection what is due when outboxes hold too much: what its channels' policies say, and with nothing to
    /// drop it is closed. Answers over HTTP that nobody reads go with their connection.
    fn relieve_of(&mut self, id: ConnId) {
        let reason = Reason::OutboxesFull;
        match self.connections.get(id).map(|conn| conn.phase) {
            Some(Phase::Active | Phase::Unauthenticated { .. }) => {
                let dropped = self.channels.relieve(&mut self.env, &mut self.connections, id);
                if dropped == 0 {
                    self.close(id, reason);
                }
            }
            Some(Phase::Http) => {
                self.env.tally.error(reason);
                self.retire(id, Reason::HttpDone);
                self.let_go(id);
            }
            Some(Phase::Gone) => self.let_go(id),
            None => {}
        }
    }

    /// Drops what one that was closed still holds, and its socket: the rest of a frame that is partly written would have
    /// to wait for a socket that takes no more. A close frame alone may wait.
    fn let_go(&mut self, id: ConnId) {
        let holds = |phase, bytes| phase == Phase::Gone && bytes > 0;
        if self.connections.get(id).is_some_and(|conn| holds(conn.phase, conn.ws.outbox().bytes()))
        {
            self.connections.abandon(&self.env, id, Reason::OutboxesFull);
            self.connections.measure_queued(id);
        }
    }
}

/// So few subscribers are written to before the publisher, whose answer would cost them the time of a system call. Many
/// would keep the publisher waiting.
const FEW: usize = 8;

/// Deadlines of one connection that can follow each other at one instant, if their limits are zero: ping, pong, close,
/// linger. Twice that is more than enough.
const TIMEOUTS_PER_TIMER: usize = 8;

/// A longer queue of outputs is given back once it is empty.
const OUTPUTS_KEPT_MAX: usize = 1024;
