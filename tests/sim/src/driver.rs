//! The driver of each hub, as the core's contract has it: inputs, turns, flushes, outputs, one timer.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
};

use bytes::Bytes;
use mahavishnu_core::{
    hub::{Command, ConnId, Hub, Output, Peer, ShardId, ShardMessage},
    metrics::Metrics,
    reason::Reason,
    time::Instant,
    ws::Flush,
};

use crate::{
    clock::{MICRO, Nanos, SECOND},
    invariants,
    message::Number,
    net::Sink,
    recorder::Counts,
    turn::turn,
    world::{Event, World},
};

/// One hub and what its driver keeps.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) hub: Hub,
    metrics: Metrics,
    /// Links by the hub's connection index.
    pub(crate) links: Vec<usize>,
    /// Links of connections that the application was not told the end of: their index may be another's by then.
    conns: BTreeMap<ConnId, usize>,
    turn_planned: bool,
    /// When the first of the things happened that its next turn is about.
    busy_since: Nanos,
    timer_at: Option<Nanos>,
    /// Links that the hub did not want to read.
    unread: Vec<usize>,
    /// Batches on their way to the other hubs, by hub.
    mail: Vec<VecDeque<Vec<ShardMessage>>>,
    mail_at: Vec<Nanos>,
    /// Bytes of them that credit has to bound.
    pub(crate) mail_bytes: Vec<usize>,
    /// It gets no turn, and nothing at all, until then.
    pub(crate) stalled_until: Nanos,
    /// What the application wants of it while it is stalled.
    pub(crate) commands: VecDeque<Command>,
    pub(crate) drained: bool,
}

impl Node {
    /// A hub among `shards`.
    pub(crate) fn new(hub: Hub, shards: usize) -> Self {
        Self {
            hub,
            metrics: Metrics::new(),
            links: Vec::new(),
            conns: BTreeMap::new(),
            turn_planned: false,
            busy_since: 0,
            timer_at: None,
            unread: Vec::new(),
            mail: (0..shards).map(|_| VecDeque::new()).collect(),
            mail_at: vec![0; shards],
            mail_bytes: vec![0; shards],
            stalled_until: 0,
            commands: VecDeque::new(),
            drained: false,
        }
    }

    /// Tells what it has counted.
    pub(crate) fn report(&mut self, counts: &Counts, now: Instant) {
        self.metrics.record(counts, now, self.hub.tally());
    }

    /// Whether it has something to report.
    pub(crate) fn has_turn(&self) -> bool {
        self.turn_planned
    }
}

/// The hubs' side.
impl World {
    pub(crate) fn accept(&mut self, link: usize) {
        let end = &mut self.links[link];
        if end.down.fin {
            return; // It was for a process that has ended.
        }
        let client = &self.clients[end.client];
        let address = if client.local { [127, 0, 0, 1] } else { [192, 0, 2, 1] };
        let address = end.has_address.then(|| (address, 50_000).into());
        let peer = Peer::new(address, end.listener);
        let hub = end.hub;
        end.heard = self.clock.nanos;
        let node = &mut self.nodes[hub];
        match node.hub.handle_accept(self.clock.now(), peer) {
            Ok(conn) => {
                end.conn = Some(conn);
                if node.links.len() <= conn.index() {
                    node.links.resize(conn.index() + 1, usize::MAX);
                }
                node.links[conn.index()] = link;
                node.conns.insert(conn, link);
                self.plan_turn(hub);
                self.feed(link);
            }
            Err(_) => {
                end.down.fin = true;
                self.agenda.plan(self.clock.nanos + end.latency, Event::FinToClient(link));
                // The refusal is counted.
                self.plan_turn(hub);
            }
        }
    }

    /// The driver reads, as long as the hub wants it to.
    pub(crate) fn feed(&mut self, link: usize) {
        let end = &mut self.links[link];
        let Some(conn) = end.conn else { return };
        let now = self.clock.now();
        let node = &mut self.nodes[end.hub];
        let mut took = false;
        while end.up.has_arrived() && node.hub.wants_read(conn) {
            let bytes = end.up.readable(end.chunk);
            let count = bytes.len();
            self.digest.number(link as u64);
            self.digest.bytes(bytes);
            node.hub.handle_bytes(now, conn, bytes);
            end.up.consume(count);
            end.heard = self.clock.nanos;
            self.tally.hub_bytes += count as u64;
            took = true;
        }
        if end.up.at_end() && !end.eof_told {
            end.eof_told = true;
            self.digest.number(!(link as u64));
            node.hub.handle_eof(now, conn);
            took = true;
        } else if end.up.has_arrived() && !end.unread {
            end.unread = true;
            node.unread.push(link);
        }
        if took {
            let hub = end.hub;
            self.push_up(link);
            if self.links[link].up.fin && !self.links[link].up.fin_arrived {
                self.send_fin(link);
            }
            self.plan_turn(hub);
        }
    }

    pub(crate) fn reset_hub_side(&mut self, link: usize) {
        let end = &mut self.links[link];
        let Some(conn) = end.conn else { return };
        // Sometimes a write notices first.
        if end.blocked || self.random.chance(500) {
            end.conn = None;
            self.nodes[end.hub].hub.handle_io_error(
                self.clock.now(),
                conn,
                io::ErrorKind::ConnectionReset,
            );
            let hub = end.hub;
            self.plan_turn(hub);
        } else {
            end.broken = true;
            self.agenda.plan(self.clock.nanos + SECOND, Event::ResetToHub(link));
        }
    }

    pub(crate) fn writable(&mut self, link: usize) {
        let end = &mut self.links[link];
        let Some(conn) = end.conn else { return };
        if std::mem::take(&mut end.blocked) {
            let hub = end.hub;
            self.flush(hub, conn);
            self.plan_turn(hub);
        }
    }

    pub(crate) fn plan_turn(&mut self, hub: usize) {
        if !self.nodes[hub].turn_planned {
            self.nodes[hub].turn_planned = true;
            self.nodes[hub].busy_since = self.clock.nanos;
            let delay = self.random.below(self.options.turn_us * MICRO + 1);
            self.agenda.plan(self.clock.nanos + delay, Event::Turn(hub));
        }
    }

    pub(crate) fn timer(&mut self, hub: usize) {
        let node = &mut self.nodes[hub];
        if node.timer_at.is_none_or(|at| at > self.clock.nanos) {
            return;
        }
        node.timer_at = None;
        node.hub.handle_timeout(self.clock.now());
        invariants::timers_advance(&node.hub, &self.clock, &mut self.oracle);
        self.plan_turn(hub);
    }

    pub(crate) fn mail(&mut self, from: usize, to: usize) {
        if let Some(batch) = self.nodes[from].mail[to].pop_front() {
            self.digest.number(batch.len() as u64);
            self.nodes[from].mail_bytes[to] -= payload(&batch);
            self.nodes[to].hub.handle_shard(self.clock.now(), ShardId(from as u16), batch);
            self.plan_turn(to);
        }
    }

    pub(crate) fn answer(&mut self, ticket: u64) {
        if let Some((hub, command)) = self.app.take(ticket) {
            self.command(hub, command);
        }
    }

    /// One turn, and then its timer and what it did not want to read before.
    pub(crate) fn turn(&mut self, hub: usize) {
        self.nodes[hub].turn_planned = false;
        turn(
            self,
            self.clock.now(),
            |world| &mut world.nodes[hub].hub,
            |world, output| world.carry_out(hub, output),
            |world, conn| world.flush(hub, conn),
        );
        let node = &mut self.nodes[hub];
        node.report(&self.counts, self.clock.now().mono);
        if let Some(next) = node.hub.poll_timeout() {
            let at = self.clock.nanos_of(next.at).max(self.clock.nanos);
            if node.timer_at.is_none_or(|planned| at < planned) {
                node.timer_at = Some(at);
                self.agenda.plan(at, Event::Timer(hub));
            }
        }
        for link in std::mem::take(&mut self.nodes[hub].unread) {
            self.links[link].unread = false;
            self.feed(link);
        }
        invariants::after_turn(self, hub);
    }

    fn flush(&mut self, hub: usize, conn: ConnId) {
        let link = self.nodes[hub].links[conn.index()];
        let end = &mut self.links[link];
        if end.conn != Some(conn) {
            return self.oracle.fail("contract", || format!("{conn:?} is dirty and gone"));
        }
        let node = &mut self.nodes[hub];
        invariants::outbox(&node.hub, conn, &self.options, end, &mut self.oracle);
        let mut sink = Sink {
            pipe: &mut end.down,
            digest: &mut self.digest,
            written: 0,
            chunk: end.chunk,
            broken: end.broken,
        };
        // What is written to a client that is gone is lost, but the hub cannot know yet.
        let flush = if end.client_gone && !end.broken {
            let mut nowhere = Nowhere(0);
            let flush = node.hub.flush(self.clock.now(), conn, &mut nowhere);
            self.tally.written += nowhere.0;
            flush
        } else {
            let flush = node.hub.flush(self.clock.now(), conn, &mut sink);
            let written = sink.written;
            self.tally.written += written as u64;
            if written > 0 {
                let at = end.down.arrival(self.clock.nanos, end.latency);
                self.agenda.plan(at, Event::ToClient(link, written));
            }
            flush
        };
        self.digest.number(flush as u64);
        match flush {
            Flush::Drained => end.blocked = false,
            Flush::Blocked => end.blocked = true,
            Flush::Fin | Flush::Closed => {
                if !end.down.fin {
                    end.down.fin = true;
                    let at = end.down.arrival(self.clock.nanos, end.latency);
                    self.agenda.plan(at, Event::FinToClient(link));
                }
                if flush == Flush::Closed {
                    end.conn = None;
                    end.up.free_memory();
                }
            }
        }
    }

    /// A hub that is drained is over, and its driver with all sockets that are left.
    fn drop_sockets(&mut self, hub: usize) {
        let now = self.clock.nanos;
        for (index, end) in self.links.iter_mut().enumerate() {
            if end.hub != hub || end.conn.take().is_none() {
                continue;
            }
            end.up.free_memory();
            if !end.down.fin {
                end.down.fin = true;
                let at = end.down.arrival(now, end.latency);
                self.agenda.plan(at, Event::FinToClient(index));
            }
        }
    }

    /// Does what a hub asks its driver to do.
    fn carry_out(&mut self, hub: usize, output: Output) {
        let now = self.clock.nanos;
        match output {
            Output::Request { id, event, data, .. } => {
                self.digest.bytes(event.as_bytes());
                self.digest.bytes(&data);
                let planned = self.app.on_request(&self.options, hub, id, &event, &data);
                if let Some((delay, ticket)) = planned {
                    self.agenda.plan(now + delay, Event::Answer(ticket));
                }
            }
            Output::Authorize { id, verb, channel, .. } => {
                self.digest.bytes(channel.as_bytes());
                let planned = self.app.on_authorize(&self.options, hub, id, verb, &channel);
                if let Some((delay, ticket)) = planned {
                    self.agenda.plan(now + delay, Event::Answer(ticket));
                }
            }
            Output::Authenticate { id, request, body_bytes, .. } => {
                self.digest.bytes(request.uri().path().as_bytes());
                self.digest.number(body_bytes as u64);
                let planned = self.app.on_authenticate(&self.options, hub, id, &request);
                if let Some((delay, ticket)) = planned {
                    self.agenda.plan(now + delay, Event::Answer(ticket));
                }
            }
            Output::Refreshed { claims, .. } => {
                self.digest.bytes(claims.user.as_deref().unwrap_or_default().as_bytes());
            }
            Output::Connected { conn, .. } => {
                self.digest.number(conn.index() as u64);
                self.tally.connected += 1;
                self.app_connected(conn);
                self.notes.iter_mut().for_each(|notes| notes.connected.push(conn));
            }
            Output::Disconnected { conn, reason } => {
                self.digest.number(conn.index() as u64);
                self.digest.number(reason as u64);
                self.tally.disconnected += 1;
                self.app_disconnected(conn);
                let unwanted = matches!(
                    reason,
                    Reason::Disconnected
                        | Reason::TokenRevoked
                        | Reason::KeyRemoved
                        | Reason::CertificateRevoked
                );
                if let Some(link) = self.nodes[hub].conns.remove(&conn) {
                    let peer_closed = reason == Reason::PeerClosed;
                    let since = self.nodes[hub].busy_since;
                    self.oracle.connection_ended((link, since), peer_closed, unwanted);
                }
                self.story.ended(now, hub, conn, reason);
                self.notes.iter_mut().for_each(|notes| notes.ended.push((conn, reason)));
            }
            Output::Metrics { conn } => {
                let text = Bytes::from_static(b"# nothing\n");
                self.command(hub, Command::Exposition { conn, text });
            }
            Output::Statistics => unreachable!("no world has pages to look at it"),
            Output::Done { id, result } => match &mut self.notes {
                Some(notes) => notes.done.push((id, result)),
                None => self.on_done(id.0 as Number, result),
            },
            Output::ManyChannels { channels, .. } => self.digest.number(u64::from(channels)),
            Output::Audit { result, .. } => {
                self.digest.number(result.map_or_else(|reason| reason as u64, |_| 0));
            }
            Output::ClockSet { by, forward } => {
                self.digest.number(by.as_secs() * 2 + u64::from(forward));
            }
            Output::Shard { to, batch } => {
                let to = usize::from(to.0);
                self.digest.number(batch.len() as u64);
                let delay = self.random.below(self.options.link_us * MICRO + 1);
                let node = &mut self.nodes[hub];
                node.mail_bytes[to] += payload(&batch);
                node.mail[to].push_back(batch);
                node.mail_at[to] = node.mail_at[to].max(now + delay);
                self.agenda.plan(node.mail_at[to], Event::Mail { from: hub, to });
                invariants::queue(self, hub, to);
            }
            Output::Looked { result, .. } => self.digest.number(u64::from(result.is_ok())),
            Output::Sessions { id, page } => {
                self.digest.number(page.attached + page.detached);
                self.notes.iter_mut().for_each(|notes| notes.pages.push((id, page.clone())));
            }
            Output::Subscribed { conn, channel } => {
                self.digest.bytes(channel.as_bytes());
                self.oracle.heard_in(conn, &channel);
                self.notes.iter_mut().for_each(|notes| notes.hear(conn, &channel, None));
            }
            Output::Unsubscribed { conn, channel, leave } => {
                self.digest.bytes(channel.as_bytes());
                self.oracle.heard_out(conn, &channel);
                self.notes.iter_mut().for_each(|notes| notes.hear(conn, &channel, Some(leave)));
            }
            Output::Handled { id, result } => match &mut self.notes {
                Some(notes) => notes.handled.push((id, result)),
                None => self.app_handled(id, &result),
            },
            Output::Store(command) => self.store(hub, command),
            Output::Bus(_) => unreachable!("no world has a bus"),
            Output::Drained => {
                if std::mem::replace(&mut self.nodes[hub].drained, true) {
                    self.oracle.fail("drain", || format!("hub {hub} drained twice"));
                }
                self.drop_sockets(hub);
            }
        }
    }
}

/// Bytes of the messages that are refused when there is no credit for them.
fn payload(batch: &[ShardMessage]) -> usize {
    batch.iter().filter(|message| message.can_be_refused()).map(ShardMessage::weight).sum()
}

/// Where bytes go that nobody will read.
#[derive(Debug)]
struct Nowhere(u64);

impl io::Write for Nowhere {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
