//! The hub: all connections, channels and queues of one core, as one state machine.
//!
//! A process has one hub per shard. Inputs are `handle_*`, outputs `poll_*` and [`Hub::flush`]; the contract is in the
//! crate's documentation. Inside, a publish goes to its channel's *home*, which gathers the frames of a turn
//! into one shared segment; at the end of the turn the segment is handed to every subscriber's outbox,
//! and each dirty connection is written once.

mod answer;
mod aside;
mod backlog;
mod channel;
mod conn;
mod credit;
mod deflate;
mod drain;
mod drive;
mod flush;
mod forwarded;
mod handshake;
mod home;
mod http;
mod idempotency;
mod inspect;
mod intake;
mod proxy;
mod publish;
mod quota;
mod request;
mod revoke;
mod room;
mod session;
mod slab;
mod subscriptions;
#[cfg(test)]
mod tests;
mod timers;
mod token;
mod transport;
mod types;
mod visitors;

use std::{collections::VecDeque, sync::Arc, time::Duration};

#[doc(hidden)]
pub use self::inspect::Holdings;
pub use self::types::{
    Audit, Command, CommandId, ConnId, DrainPlan, Listener, Output, Peer, Place, Placement,
    Publication, Published, RequestError, RequestId, ShardId, ShardMessage,
};
use self::{
    backlog::Backlog,
    channel::Channels,
    conn::{Conn, Session},
    credit::Credits,
    deflate::Codecs,
    drain::Stage,
    home::Homes,
    idempotency::Keys,
    intake::Intake,
    publish::Pending,
    quota::Bucket,
    request::Question,
    room::Room,
    slab::Slab,
    timers::Timer,
    transport::{Handshakes, Layer},
    types::{Census, Inner},
    visitors::Visitors,
};
use crate::{
    auth::Revocations,
    config::Config,
    entropy::{Entropy, KeyedState},
    metrics::{Metrics, Tally},
    protocol::{self, Timestamp},
    reason::Reason,
    time::{Instant, Now, Timers},
    trace::Recorder,
    wire, ws,
};

/// All connections, channels and queues of one core. See the [crate documentation](crate) for how to drive it.
#[derive(Debug)]
pub struct Hub {
    config: Arc<Config>,
    place: Place,
    entropy: Entropy,
    conns: Slab<Box<Conn>>,
    room: Room,
    channels: Channels,
    homes: Homes,
    keys: Keys,
    visitors: Visitors,
    questions: Slab<Question>,
    publishes: Slab<Pending>,
    /// How many of them are revocations.
    revoking: usize,
    /// Of connections, by index.
    conn_timers: Timers<u32>,
    timers: Timers<Timer>,
    /// Connections to flush, each at most once (`Conn::dirty`).
    dirty: VecDeque<u32>,
    outputs: VecDeque<Output>,
    /// Messages for other hubs, by hub; handed out once per turn.
    batches: Vec<Vec<ShardMessage>>,
    credits: Credits,
    stage: Stage,
    tally: Tally,
    metrics: Metrics,
    generation: u64,
    started: Instant,
    /// Connections whose answered requests let more of their buffered input be read.
    resume: VecDeque<ConnId>,
    /// The present turn's time and its text, formatted once.
    clock: (Duration, Timestamp),
    /// What each hub has; of this hub's own entry only the connections are current.
    census: Vec<Census>,
    /// What each hub was last told of this one's.
    census_told: Vec<Census>,
    /// The last question to the application was not answered in time.
    application_silent: bool,
    /// The turn's first rounds were handed out; further ones follow when what is dirty was flushed.
    handed_out: bool,
    /// Tokens that were revoked since start.
    revocations: Revocations,
    /// How many refusals may still be handed out for the log.
    audited: Bucket,
    /// Makes numbers of keys: see [`token::Token`].
    key_numbers: KeyedState,
    /// Both clocks, when they last were where they were expected.
    watched: Now,
    /// When outputs were last polled.
    latest: Now,
    /// Notes every call, if recording is on.
    recorder: Option<Box<Recorder>>,
    /// TLS handshakes under way.
    handshakes: Handshakes,
    /// What is decrypted, until the connection has taken it in.
    plaintext: Vec<u8>,
    /// Where messages are put together before they are copied behind their frame header.
    scratch: Vec<u8>,
    codecs: Codecs,
    backlog: Backlog,
    /// Bytes of the backlog that metrics know of.
    queued_told: i64,
    intake: Intake,
    /// Bytes of the intake that metrics know of.
    partial_told: i64,
    /// What holds for connections that have not authenticated yet.
    limits_before_auth: wire::Limits,
}

impl Hub {
    /// A hub without connections.
    #[must_use]
    pub fn new(config: Arc<Config>, place: Place, now: Now) -> Self {
        let mut shared = Entropy::new(place.seed);
        // The placement's keys are drawn first; see `Placement::new`.
        let _ = shared.hash_keys();
        let mut entropy = shared.fork();
        for _ in 0..place.shard.0 {
            entropy = shared.fork();
        }
        let metrics = Metrics::new(&config, entropy.hash_keys());
        let shards = usize::from(place.shards.max(1));
        Self {
            conns: Slab::new(),
            room: Room::default(),
            channels: Channels::new(entropy.hash_keys()),
            homes: Homes::new(entropy.hash_keys(), place),
            keys: Keys::new(entropy.hash_keys()),
            visitors: Visitors::new(entropy.hash_keys(), entropy.hash_keys()),
            questions: Slab::new(),
            publishes: Slab::new(),
            revoking: 0,
            conn_timers: Timers::new(now.mono),
            timers: Timers::new(now.mono),
            dirty: VecDeque::new(),
            outputs: VecDeque::new(),
            batches: (0..shards).map(|_| Vec::new()).collect(),
            credits: Credits::new(shards),
            stage: Stage::Running,
            tally: Tally::default(),
            metrics,
            generation: 0,
            started: now.mono,
            resume: VecDeque::new(),
            clock: (now.unix, Timestamp::from_unix(now.unix)),
            census: vec![Census::default(); shards],
            census_told: vec![Census::default(); shards],
            application_silent: false,
            handed_out: false,
            revocations: Revocations::new(),
            audited: Bucket::default(),
            key_numbers: entropy.hash_keys(),
            watched: now,
            latest: now,
            recorder: None,
            handshakes: Handshakes::new(&config.limits),
            plaintext: Vec::new(),
            scratch: Vec::new(),
            codecs: Codecs::default(),
            backlog: Backlog::default(),
            queued_told: 0,
            intake: Intake::default(),
            partial_told: 0,
            limits_before_auth: config.limits.before_auth(),
            config,
            place,
            entropy,
        }
    }

    fn accept(&mut self, now: Now, peer: Peer) -> Result<ConnId, Reason> {
        let room = matches!(self.stage, Stage::Running) && self.make_room(now);
        let transport = match self.proxy_header_of(peer) {
            Some(header) => Layer::ProxyHeader(header).into(),
            None => self.transport_of(peer.listener),
        };
        let ws = room.then(|| ws::Connection::server(now, &self.config.limits.wire));
        let placed = ws.and_then(|ws| self.conns.insert(Box::new(Conn::new(transport, ws, peer))));
        let Some((index, generation)) = placed else {
            self.tally.error(Reason::MaxSockets);
            return Err(Reason::MaxSockets);
        };
        let id = self.id(index, generation);
        self.settle(id);
        Ok(id)
    }

    fn on_eof(&mut self, now: Now, conn: ConnId) {
        let Some((found, limits)) = self.conn_mut(conn) else { return };
        if let Some(event) = found.ws.handle_eof(now, limits) {
            self.on_event(now, conn, event);
        }
        self.settle(conn);
        self.mark_dirty(conn.index);
    }

    fn obey(&mut self, now: Now, command: Command) {
        match command {
            Command::Publish { id, publication } => self.on_publish_command(now, id, publication),
            Command::Reply { id, result } => self.on_reply(now, id, result),
            Command::Decide { id, allow } => self.on_decision(now, id, allow),
            Command::Exposition { conn, text } => self.on_exposition(now, conn, text),
            Command::Disconnect { conn } => {
                let here = conn.shard == self.place.shard;
                if here && self.conn(conn).is_some_and(|found| found.session != Session::Http) {
                    self.close(now, conn, Reason::Disconnected);
                }
            }
            Command::Revoke { id, revocation } => self.on_revoke_command(now, id, &revocation),
            Command::Reload(config) => self.on_reload(now, config),
            Command::Drain(plan) => self.on_drain(now, plan),
        }
    }

    fn next_output(&mut self, now: Now) -> Option<Output> {
        self.latest = now;
        while let Some(conn) = self.resume.pop_front() {
            self.pump(now, conn, &mut []);
        }
        self.seal_all();
        if !self.handed_out {
            self.watch_clock(now);
            self.handed_out = true;
            self.hand_out(now);
        }
        // Rounds for which nobody has to be flushed are done with now, and not when a flush brings the driver back here.
        while self.channels.rounds() > 0 && self.is_nobody_dirty() {
            self.hand_out(now);
        }
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        if self.place.shards > 1 {
            self.tell_census();
            self.tell_done();
        }
        for (batch, shard) in self.batches.iter_mut().zip(0u16..) {
            if !batch.is_empty() {
                return Some(Output::Shard { to: ShardId(shard), batch: std::mem::take(batch) });
            }
        }
        None
    }

    /// Feeds the connection until it has no more events, then sees to its queue and timers.
    fn pump(&mut self, now: Now, id: ConnId, mut wire: &mut [u8]) {
        if self.conns.get_at(id.index, id.generation).is_none() {
            return;
        }
        loop {
            let Some(conn) = self.conns.get_mut(id.index) else { return };
            let limits = conn.session.limits(&self.limits_before_auth, &self.config.limits.wire);
            let Some(event) = conn.ws.receive(now, limits, &mut wire) else { break };
            self.on_event(now, id, event);
        }
        self.settle(id);
        self.make_room_to_take_in(now);
    }

    fn on_event(&mut self, now: Now, id: ConnId, event: ws::Event<'_>) {
        match event {
            ws::Event::Text(text) => self.on_message(now, id, protocol::decode_text(&text)),
            ws::Event::Binary(payload) => self.on_message(now, id, protocol::decode(&payload)),
            ws::Event::Compressed(message) => self.on_compressed(now, id, message),
            ws::Event::Upgrade(request) => self.on_upgrade(now, id, &request),
            ws::Event::Http(request) => self.on_http(now, id, *request),
            ws::Event::Pong { .. } | ws::Event::Accepted(_) => {}
            ws::Event::Closed(reason) => self.retire(now, id, reason),
        }
    }

    fn on_shard(&mut self, now: Now, from: ShardId, message: Inner) {
        match message {
            Inner::Publish { ticket, firm, publication } => {
                self.on_home_publish(now, ticket, firm, &publication)
            }
            Inner::Published { ticket, published } => self.on_published(now, ticket, published),
            Inner::Refused { ticket } => self.on_publish_refused(now, ticket),
            Inner::Join { channel, member } => self.on_join(now, from, channel, member),
            Inner::Joined { channel, member } => self.on_joined(now, &channel, member),
            Inner::Leave { channel, deflates } => self.on_leave(now, from, &channel, deflates),
            Inner::Deliver { channel, segment, deflated, first_offset } => {
                self.deliver(from, &channel, segment, deflated, first_offset)
            }
            Inner::Claim { ticket, key, digest, bytes: _ } => {
                self.on_claim(now, ticket, key, digest)
            }
            Inner::Claimed { ticket, verdict } => self.on_claimed(now, ticket, verdict),
            Inner::Revoke { ticket, revocation } => self.on_revoke(now, ticket, &revocation),
            Inner::Settle { key, answer } => self.keys.settle(&key, answer),
            Inner::Enter { who, conn } => self.on_enter(now, who, conn),
            Inner::Evict { conn, reason } => self.on_evict(now, conn, reason),
            Inner::Exit { who } => self.on_exit(&who),
            Inner::Census(census) => {
                if let Some(slot) = self.census.get_mut(usize::from(from.0)) {
                    *slot = census;
                }
            }
            Inner::Done { bytes } => self.on_done(now, from, bytes),
        }
    }

    /// To another hub, or straight on when it is this one: one shard pays nothing for the others.
    fn tell(&mut self, now: Now, to: ShardId, message: Inner) {
        if to == self.place.shard {
            self.on_shard(now, to, message);
        } else {
            self.send_shard(to, message);
        }
    }

    /// Tells the other hubs what there is here, if that changed. One that takes nothing in is told later.
    fn tell_census(&mut self) {
        let own = self.own_census();
        for shard in self.place.others() {
            let full = self.credits.is_full(shard);
            let told = self.census_told.get_mut(usize::from(shard.0));
            if let Some(told) = told.filter(|told| **told != own && !full) {
                *told = own;
                self.send_shard(shard, Inner::Census(own));
            }
        }
    }

    fn own_census(&self) -> Census {
        let counted = self.census.get(usize::from(self.place.shard.0)).copied().unwrap_or_default();
        Census {
            sockets: u32::try_from(self.conns.len()).unwrap_or(u32::MAX),
            channels: u32::try_from(self.homes.len()).unwrap_or(u32::MAX),
            ..counted
        }
    }

    /// Sockets on all hubs, as far as this one knows.
    fn sockets_everywhere(&self) -> usize {
        self.conns.len() + self.census.iter().map(|census| census.sockets as usize).sum::<usize>()
    }

    /// Channels with subscribers on all hubs, as far as this one knows.
    fn channels_everywhere(&self) -> usize {
        let others = self.census.iter().map(|census| census.channels as usize).sum::<usize>();
        self.channels.len().max(self.homes.len() + others)
    }

    fn count(&mut self, change: impl FnOnce(&mut Census)) {
        if let Some(own) = self.census.get_mut(usize::from(self.place.shard.0)) {
            change(own);
        }
    }

    fn id(&self, index: u32, generation: u32) -> ConnId {
        ConnId { index, generation, shard: self.place.shard }
    }

    fn conn(&self, id: ConnId) -> Option<&Conn> {
        self.conns.get_at(id.index, id.generation).map(AsRef::as_ref)
    }

    /// The connection with the limits that its methods want.
    fn conn_mut(&mut self, id: ConnId) -> Option<(&mut Conn, &wire::Limits)> {
        self.conns.get_at(id.index, id.generation)?;
        Some((self.conns.get_mut(id.index)?.as_mut(), &self.config.limits.wire))
    }

    /// After anything happened to a connection: it may have something to write and another deadline.
    fn settle(&mut self, id: ConnId) {
        self.measure(id);
        let Some(conn) = self.conn(id) else { return };
        let waits = !conn.ws.outbox().is_empty() || conn.transport.wants_write();
        if waits || !(conn.ws.is_open() || conn.ws.is_http()) {
            self.mark_dirty(id.index);
        }
        self.line_up(id);
        self.arm(id);
        if let Some(conn) = self.conns.get_mut(id.index) {
            conn.aside.tidy();
        }
    }

    /// Ends a connection that speaks plain HTTP, unless an answer is due: then the answer ends it.
    fn end_http(&mut self, now: Now, id: ConnId) {
        if let Some((conn, limits)) = self.conn_mut(id)
            && !conn.ws.owes_answer()
        {
            conn.ws.close(now, limits, Reason::Shutdown, ws::CloseWhen::AfterData);
            self.retire(now, id, Reason::HttpDone);
        }
        self.settle(id);
        self.mark_dirty(id.index);
    }
}
