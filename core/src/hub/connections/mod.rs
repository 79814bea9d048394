//! Connections: what each of this hub's sockets is, what it waits for, and what all of them hold together.
//!
//! A connection is edited through one door, [`Connections::edit`], which asks for its generation and puts it on the list
//! of those to [settle](Connections::settle). Each input settles that list once, so nobody has to remember what follows
//! from a change: another deadline, something to write, another place among those that may be evicted.

mod backlog;
mod conn;
mod deadlines;
mod end;
mod eviction;
mod extras;
mod flush;
mod partial;
mod proxy;
mod send;
mod subscriptions;
#[cfg(test)]
mod tests;
mod transport;
mod users;

use std::collections::VecDeque;

use bytes::Bytes;
use http::Response;

use self::{
    backlog::Backlog,
    eviction::Eviction,
    partial::PartialInput,
    transport::{Handshakes, Layer},
    users::Users,
};
pub(super) use self::{
    conn::{Conn, Phase, may_publish_anonymously},
    eviction::Admission,
    extras::{Cause, Gap},
    flush::Written,
    proxy::AfterHeader,
    send::{AnswerTo, Asker},
    subscriptions::{List, MemberAt, Subscription},
    transport::{HANDSHAKE, Path},
};
use super::{
    env::Env,
    sessions::Attached,
    slab,
    slab::Slab,
    types::{ConnId, Listener, Peer, RequestId, ShardId},
};
use crate::{
    config::Config,
    entropy::KeyedState,
    time::{Now, Timers},
    wire,
    ws::{self, Compressed, Event, Inflater, Segment},
};

/// The connections of a hub.
#[derive(Debug)]
pub(super) struct Connections {
    shard: ShardId,
    slots: Slab<Box<Conn>>,
    /// Those that were edited and are to be settled, each at most once (`Conn::touched`).
    touched: Vec<u32>,
    /// Those to flush, each at most once (`Conn::dirty`).
    dirty: VecDeque<u32>,
    /// Those whose answered requests, or answers that were read, let more of their buffered input be read.
    resume: VecDeque<ConnId>,
    timers: Timers<u32>,
    users: Users,
    eviction: Eviction,
    handshakes: Handshakes,
    partial: PartialInput,
    backlog: Backlog,
    /// What is decrypted, until the connection has taken it in.
    plaintext: Vec<u8>,
    /// What holds for connections that have not authenticated yet.
    limits_before_auth: wire::Limits,
}

impl Connections {
    pub(super) fn new(config: &Config, shard: ShardId, now: Now, names: KeyedState) -> Self {
        Self {
            shard,
            slots: Slab::new(),
            touched: Vec::new(),
            dirty: VecDeque::new(),
            resume: VecDeque::new(),
            timers: Timers::new(now.mono),
            users: Users::new(names),
            eviction: Eviction::default(),
            handshakes: Handshakes::new(&config.limits),
            partial: PartialInput::default(),
            backlog: Backlog::default(),
            plaintext: Vec::new(),
            limits_before_auth: config.limits.before_auth(),
        }
    }

    /// A new configuration is in force.
    pub(super) fn reload(&mut self, config: &Config) {
        self.limits_before_auth = config.limits.before_auth();
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Ids of all, in the order of their places.
    pub(super) fn ids(&self) -> Vec<ConnId> {
        self.slots.indices().filter_map(|index| self.id_at(index)).collect()
    }

    /// Connections that were welcomed.
    pub(super) fn active(&self) -> Vec<ConnId> {
        self.ids().into_iter().filter(|id| self.is_active(*id)).collect()
    }

    /// The id of the connection that has this place.
    pub(super) fn id_at(&self, index: u32) -> Option<ConnId> {
        let generation = self.slots.generation(index)?;
        Some(ConnId { index, generation, shard: self.shard })
    }

    pub(super) fn get(&self, id: ConnId) -> Option<&Conn> {
        self.slots.get_at(id.index, id.generation).map(AsRef::as_ref)
    }

    pub(super) fn is_active(&self, id: ConnId) -> bool {
        self.get(id).is_some_and(Conn::is_active)
    }

    /// The door: a connection that is still there, to be changed, and to be settled at the end of the input.
    pub(super) fn edit(&mut self, id: ConnId) -> Option<&mut Conn> {
        let conn = self.slots.get_at_mut(id.index, id.generation)?;
        if !conn.touched {
            conn.touched = true;
            self.touched.push(id.index);
        }
        Some(conn)
    }

    /// The door for what concerns a connection only in some state: one that is in another is left alone.
    pub(super) fn edit_if(
        &mut self,
        id: ConnId,
        wanted: impl FnOnce(&Conn) -> bool,
    ) -> Option<&mut Conn> {
        if self.get(id).is_some_and(wanted) { self.edit(id) } else { None }
    }

    /// A home has confirmed one of its subscriptions, which may have been taken back since.
    pub(super) fn confirm_joining(&mut self, id: ConnId) {
        if let Some(conn) = self.slots.get_at_mut(id.index, id.generation)
            && let Some(rare) = conn.extras.get_mut()
        {
            rare.joining -= 1;
            conn.extras.tidy();
        }
    }

    /// What it has of its session. Nothing that is to be settled follows from a change.
    pub(super) fn session_mut(&mut self, id: ConnId) -> Option<&mut Attached> {
        let conn = self.slots.get_at_mut(id.index, id.generation)?;
        conn.extras.get_mut()?.session.as_deref_mut()
    }

    /// It has no session any more. What it had of it.
    pub(super) fn take_session(&mut self, id: ConnId) -> Option<Box<Attached>> {
        let conn = self.slots.get_at_mut(id.index, id.generation)?;
        let taken = conn.extras.get_mut()?.session.take();
        conn.extras.tidy();
        taken
    }

    /// A question of it is answered or taken back.
    pub(super) fn forget_question(&mut self, id: ConnId, request: RequestId) {
        if let Some(conn) = self.slots.get_at_mut(id.index, id.generation)
            && let Some(rare) = conn.extras.get_mut()
        {
            rare.asked.retain(|asked| *asked != request);
            conn.extras.tidy();
        }
    }

    /// Takes a new socket in; `None` if there is no place.
    pub(super) fn insert(&mut self, env: &Env, peer: Peer) -> Option<ConnId> {
        let transport = match Self::proxy_header_of(&env.config, peer) {
            Some(header) => Layer::ProxyHeader(header).into(),
            None => Self::transport_of(&env.config, peer.listener),
        };
        let ws = ws::Connection::server(env.now);
        let (index, generation) = self.slots.insert(Box::new(Conn::new(transport, ws, peer)))?;
        let id = ConnId { index, generation, shard: self.shard };
        self.edit(id);
        Some(id)
    }

    /// Whether one more socket may be held, if `sockets` are held everywhere.
    pub(super) fn admit(&self, sockets: usize, max: usize) -> Admission {
        self.eviction.admit(&self.slots, sockets, max)
    }

    /// The next thing that a connection makes of what came in.
    pub(super) fn receive<'w>(
        &mut self,
        env: &Env,
        id: ConnId,
        wire: &mut &'w mut [u8],
    ) -> Option<Event<'w>> {
        let conn = self.slots.get_at_mut(id.index, id.generation)?;
        let limits = conn.phase.limits(&self.limits_before_auth, &env.config.limits.wire);
        conn.ws.receive(env.now, limits, wire)
    }

    /// The message that a compressed one is.
    pub(super) fn inflate<'i>(
        &mut self,
        env: &Env,
        id: ConnId,
        inflater: &'i mut Inflater,
        message: Compressed<'_>,
    ) -> Option<Event<'i>> {
        let conn = self.slots.get_at_mut(id.index, id.generation)?;
        let limits = conn.phase.limits(&self.limits_before_auth, &env.config.limits.wire);
        conn.ws.inflate(env.now, limits, inflater, message)
    }

    /// The peer will send no more.
    pub(super) fn end_of_input(&mut self, env: &Env, id: ConnId) -> Option<Event<'static>> {
        let conn = self.edit(id)?;
        conn.ws.handle_eof(env.now, &env.config.limits.wire)
    }

    /// Answers a request over HTTP, and goes on with what the client had sent ahead. Nothing if none is open.
    pub(super) fn respond(&mut self, env: &mut Env, id: ConnId, response: Response<Bytes>) {
        let Some(conn) = self.edit_if(id, |conn| conn.ws.is_http()) else { return };
        let status = response.status().as_u16();
        conn.ws.respond(env.now, response);
        if conn.listener != Listener::Metrics {
            env.tally.answered(status);
        }
        let more = conn.ws.has_buffered_input();
        self.eviction.step_out(&mut self.slots, id.index);
        self.mark_dirty(id.index);
        if more {
            self.resume.push_back(id);
        }
    }

    /// A handshake was answered later than it came: goes on with what its client had sent ahead, if that is anything.
    pub(super) fn go_on(&mut self, id: ConnId) {
        if self.get(id).is_some_and(|conn| conn.ws.is_open() && conn.ws.has_buffered_input()) {
            self.resume.push_back(id);
        }
    }

    /// Whether a connection may go on with what its client had sent ahead.
    pub(super) fn is_anyone_to_resume(&self) -> bool {
        !self.resume.is_empty()
    }

    /// The next connection that may go on with what its client had sent ahead.
    pub(super) fn next_to_resume(&mut self) -> Option<ConnId> {
        self.resume.pop_front()
    }

    /// After anything happened to connections: each may have something to write, another deadline, more or less that has
    /// come in part, and another place among those that may be evicted.
    pub(super) fn settle(&mut self, env: &Env) {
        if self.touched.is_empty() {
            return;
        }
        let mut touched = std::mem::take(&mut self.touched);
        for index in touched.drain(..) {
            self.settle_one(env, index);
        }
        self.touched = touched;
    }

    fn settle_one(&mut self, env: &Env, index: u32) {
        let Some(id) = self.id_at(index) else { return };
        let Some(conn) = self.slots.get_mut(index) else { return };
        conn.touched = false;
        let partial = conn.ws.partial_bytes() + conn.transport.held_bytes();
        if partial != conn.extras.get().partial.bytes() {
            self.partial.update(id, &mut conn.extras.put().partial, partial);
        }
        let waits = !conn.ws.outbox().is_empty() || conn.transport.wants_write();
        if waits || !(conn.ws.is_open() || conn.ws.is_http()) {
            conn.line_up_to_flush(&mut self.dirty, index);
        }
        self.eviction.line_up(&mut self.slots, index);
        self.arm(env, index);
        if let Some(conn) = self.slots.get_mut(index) {
            conn.extras.tidy();
        }
    }
}

/// What the hand-out of rounds does to connections. It asks for places instead of ids: whoever is a member is there.
impl Connections {
    /// Gives a round to a member that keeps up. False if it has no room, has lost something, or is behind with a channel
    /// of which only the newest message counts.
    #[inline]
    pub(super) fn give<'r>(
        &mut self,
        index: u32,
        form: impl FnOnce(&Conn) -> &'r Segment,
        outbox_bytes_max: usize,
        only_newest: bool,
    ) -> Option<bool> {
        let conn = self.slots.get_mut(index)?;
        let segment = form(conn);
        let full = conn.ws.outbox().bytes() + segment.len() > outbox_bytes_max;
        if full || conn.is_lossy() || (conn.blocked && only_newest) {
            return Some(false);
        }
        conn.ws.outbox_mut().push(segment);
        conn.line_up_to_flush(&mut self.dirty, index);
        Some(true)
    }

    /// Gives a connection something that is no round. False if it has no room.
    pub(super) fn give_aside(&mut self, id: ConnId, segment: &Segment, bytes_max: usize) -> bool {
        let Some(conn) = self.slots.get_at_mut(id.index, id.generation) else { return true };
        if conn.ws.outbox().bytes() + segment.len() > bytes_max {
            return false;
        }
        conn.ws.outbox_mut().push(segment);
        conn.line_up_to_flush(&mut self.dirty, id.index);
        true
    }

    /// Gives a connection a message that makes older ones with its tag pointless. Those that wait with no byte written it takes
    /// the place of: how many. `None` if it has no room.
    pub(super) fn give_newest(
        &mut self,
        id: ConnId,
        segment: &Segment,
        bytes_max: usize,
    ) -> Option<u32> {
        let conn = self.slots.get_at_mut(id.index, id.generation)?;
        let outbox = conn.ws.outbox_mut();
        let replaceable = outbox.replaceable(segment.tag());
        if outbox.bytes() + segment.len() > bytes_max + replaceable {
            return None;
        }
        let replaced = outbox.replace(segment);
        if replaced.is_none() {
            outbox.push(segment);
        }
        conn.line_up_to_flush(&mut self.dirty, id.index);
        Some(replaced.unwrap_or_default())
    }

    /// A member that does not keep up.
    pub(super) fn member(&mut self, index: u32) -> Option<&mut Conn> {
        self.slots.get_mut(index).map(AsMut::as_mut)
    }

    /// Notes a segment that is being handed out.
    pub(super) fn note_segment(&mut self, segment: &Segment) {
        self.backlog.note(segment);
    }
}

/// What all of them hold.
impl Connections {
    /// Everybody who keeps up is served. Whether outboxes hold more than `max` together.
    pub(super) fn take_stock(&mut self, max: usize) -> bool {
        self.backlog.take_stock(max)
    }

    /// Bytes that wait in outboxes, as of the last stock-taking.
    pub(super) fn queued_bytes(&self) -> usize {
        self.backlog.bytes()
    }

    /// Bytes that have come only in part.
    #[cfg(test)]
    pub(super) fn partial_bytes(&self) -> usize {
        self.partial.bytes()
    }

    /// The connections whose sockets take no more, those first that hold the most.
    pub(super) fn heaviest(&self) -> Vec<ConnId> {
        let indices = self.backlog.heaviest(&self.slots);
        indices.into_iter().filter_map(|index| self.id_at(index)).collect()
    }

    /// Messages were dropped for a connection: what it still holds is measured anew.
    pub(super) fn measure_queued(&mut self, id: ConnId) {
        self.backlog.measure(&mut self.slots, id.index);
    }

    /// Looks again at every segment that somebody held.
    pub(super) fn sweep(&mut self) {
        self.backlog.sweep();
    }

    /// If what is not complete takes more than `max`, the connection that began first.
    pub(super) fn partial_over(&mut self, max: usize) -> Option<ConnId> {
        self.partial.over(&self.slots, max)
    }

    /// Whether a part of a TLS handshake is kept for it.
    pub(super) fn holds_ciphertext(&self, id: ConnId) -> bool {
        self.get(id).is_some_and(|conn| conn.transport.held_bytes() > 0)
    }

    /// Whether the driver should read from it.
    pub(super) fn wants_read(&self, id: ConnId, limits: &wire::Limits) -> bool {
        self.get(id).is_some_and(|conn| conn.transport.wants_read() && conn.ws.wants_read(limits))
    }

    /// Counts what changed since the last turn.
    pub(super) fn end_turn(&mut self, env: &mut Env) {
        env.tally.queued_bytes += self.backlog.change();
        env.tally.partial_bytes += self.partial.change();
        self.handshakes.end_turn(&env.config.limits);
        self.compact_timers(env);
        self.partial.give_back();
    }

    /// Every count equals what it counts.
    #[cfg(debug_assertions)]
    pub(super) fn check(&self, env: &Env) {
        assert!(self.touched.is_empty(), "what was edited is settled");
        let dirty: std::collections::BTreeSet<_> = self.dirty.iter().copied().collect();
        for index in self.slots.indices() {
            let Some(conn) = self.slots.get(index) else { continue };
            assert!(!conn.dirty || dirty.contains(&index), "what is to be flushed is listed");
            let behind = !conn.rare().gaps().is_empty() || conn.rare().catching > 0;
            assert_eq!(conn.is_lossy(), behind, "losses, and what is still to come");
            let due = self.next_deadline_of(env, conn);
            let armed = due.is_none_or(|due| conn.armed.is_some_and(|armed| armed <= due));
            assert!(armed, "a timer rings no later than the deadline: {conn:?}");
        }
        self.check_users();
        self.eviction.check(&self.slots);
        self.handshakes.check(&self.slots);
        self.partial.check(&self.slots);
        self.backlog.check(&self.slots);
    }
}
