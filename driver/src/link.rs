//! A shard's link to Redis: the socket under it, and the turn's part in it.

use std::{
    io::{self, Write},
    sync::Arc,
    time::Instant,
};

use metrics::Recorder;

use mahavishnu_core::{
    entropy::{Entropy, Seed},
    hub::{BusCommand, BusEvent, Place},
    metrics::{LinkCounts, LinkLabels, LinkMetrics},
    time::Now,
};
use mahavishnu_links::{Action, ErrorClass, Link, LinkConfig, Outage, Sent};

use crate::{
    owner::{LINK, Owner},
    poller::Read,
    reports::Reports,
    resolve::{Question, Resolved, Resolver},
    runtime::Runtime,
    shard::Shard,
};

/// A link and what it needs of the outside.
#[derive(Debug)]
pub(crate) struct Wire {
    link: Link,
    resolver: Resolver,
    /// Number of the look-up whose answer counts.
    asked: u64,
    socket: Socket,
    /// It may have something to tell or to do since that was last asked.
    stirred: bool,
    reports: Reports,
    /// From the first time that somebody records them.
    metrics: Option<LinkMetrics>,
}

/// The socket under a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Socket {
    None,
    Connecting,
    Connected,
}

impl Wire {
    /// Begins to connect with the shard's first turn.
    pub(crate) fn new(config: Arc<LinkConfig>, resolver: Resolver, place: Place, now: Now) -> Self {
        let link = Link::new(config, place.node(), place.shard.0, seed_of(place), now);
        let reports = Reports::new(place.shard);
        Self {
            link,
            resolver,
            asked: 0,
            socket: Socket::None,
            stirred: true,
            reports,
            metrics: None,
        }
    }

    /// When it has something to do by itself.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.link.poll_timeout()
    }

    /// Whether it is to be looked at before the shard waits.
    pub(crate) fn is_stirred(&self) -> bool {
        self.stirred
    }

    /// Something for Redis.
    pub(crate) fn command(&mut self, now: Now, command: BusCommand) {
        self.link.handle_command(now, command);
        self.stirred = true;
    }

    pub(crate) fn resolved(&mut self, now: Now, number: u64, resolved: Resolved) {
        // It may have asked for something else since, or not care any more.
        if number == self.asked {
            self.asked += 1;
            self.link.handle_resolved(now, resolved);
            self.stirred = true;
        }
    }

    pub(crate) fn reload(&mut self, now: Now, config: Arc<LinkConfig>) {
        self.link.reload(now, config);
        self.stirred = true;
    }

    fn resolve(&mut self, now: Now, place: Place, host: Box<str>, port: u16) {
        self.asked += 1;
        let question = Question { host, port, shard: place.shard, number: self.asked };
        if let Some(resolved) = self.resolver.ask(question) {
            self.resolved(now, self.asked, resolved);
        }
    }

    /// Hands what the link has counted to a recorder.
    pub(crate) fn record_metrics(&mut self, recorder: &dyn Recorder, server: &Arc<str>) {
        let metrics = self.metrics.get_or_insert_with(|| {
            let labels = LinkLabels {
                causes: Outage::ALL.map(Outage::label).into(),
                classes: ErrorClass::ALL.map(ErrorClass::label).into(),
                commands: Sent::all().map(Sent::label).collect(),
            };
            LinkMetrics::new(recorder, server.clone(), &labels)
        });
        let stats = self.link.stats();
        metrics.record(&LinkCounts {
            reconnects: &stats.outages,
            errors: &stats.errors,
            commands: &stats.commands,
            sent_bytes: stats.sent_bytes,
            received_bytes: stats.received_bytes,
            live: stats.live,
            probes_lost: stats.probes_lost,
            dropped: stats.dropped,
            poison: stats.poison,
            under_way_bytes: stats.command_bytes,
        });
    }

    fn next_event(&mut self) -> Option<BusEvent> {
        let event = self.link.poll_event()?;
        self.reports.hear(&event, self.link.redis());
        Some(event)
    }

    /// The socket is of no more use.
    fn lost(&mut self, now: Now, error: &io::Error) {
        self.socket = Socket::None;
        self.link.handle_failed(now, error.kind());
        self.stirred = true;
    }
}

/// Jitter of its own for each link, from the seed of all that is random.
fn seed_of(place: Place) -> Seed {
    let mut seed = place.seed;
    let stream = STREAM.iter().chain(std::iter::repeat(&0));
    seed.0.iter_mut().zip(stream).for_each(|(byte, other)| *byte ^= other);
    let mut entropy = Entropy::new(seed);
    (0..place.shard.0).for_each(|_| drop(entropy.fork()));
    let mut own = Seed([0; 32]);
    entropy.fill(&mut own.0);
    own
}

/// Tells the seed of links from the process's.
const STREAM: &[u8] = b"links to Redis";

impl<R: Runtime> Shard<R> {
    /// Tells the hub what the link has to tell, and does what it wants.
    pub(crate) fn heed_link(&mut self) {
        while self.wire.as_ref().is_some_and(Wire::is_stirred) {
            let now = self.clock.now();
            let Some(wire) = &mut self.wire else { return };
            wire.stirred = false;
            while let Some(event) = wire.next_event() {
                self.hub.handle_bus(now, event);
            }
            self.act_for_link(now);
        }
    }

    /// Does what the link wants done. One thing may bring another about.
    fn act_for_link(&mut self, now: Now) {
        while let Some(action) = self.wire.as_mut().and_then(|wire| wire.link.poll_action()) {
            self.act(now, action);
        }
    }

    fn act(&mut self, now: Now, action: Action) {
        let Some(wire) = &mut self.wire else { return };
        match action {
            Action::Resolve { host, port } => wire.resolve(now, self.place, host, port),
            Action::Connect { address } => {
                wire.socket = Socket::Connecting;
                self.sockets.remove(LINK);
                if let Err(error) = self.sockets.connect(LINK, address, Owner::Link) {
                    wire.lost(now, &error);
                }
            }
            Action::Close => {
                wire.socket = Socket::None;
                // An answer that is under way is to nobody.
                wire.asked += 1;
                self.sockets.remove(LINK);
            }
        }
    }

    /// The link's deadlines.
    pub(crate) fn wind_link(&mut self) {
        let now = self.clock.now();
        let Some(wire) = &mut self.wire else { return };
        if wire.deadline().is_some_and(|at| at <= now.mono) {
            wire.link.handle_timeout(now);
            wire.stirred = true;
        }
        self.heed_link();
    }

    /// The link's socket has room, or has learnt whether it is connected.
    pub(crate) fn link_is_writable(&mut self) {
        let now = self.clock.now();
        let Some(wire) = &mut self.wire else { return };
        // What waits is written at the end of the turn.
        if wire.socket != Socket::Connecting {
            return;
        }
        let Some(socket) = self.sockets.get_mut(LINK) else { return };
        match socket.is_connected() {
            Ok(true) => {
                // A turn's commands are one write and must not wait (Nagle); a socket without the option still works.
                let _ = socket.stream().set_nodelay(true);
                wire.socket = Socket::Connected;
                wire.link.handle_connected(now);
                wire.stirred = true;
            }
            Ok(false) => socket.block(),
            Err(error) => {
                self.sockets.remove(LINK);
                wire.lost(now, &error);
            }
        }
        self.heed_link();
    }

    /// Redis has sent something. It is read once in a turn, as every socket is.
    pub(crate) fn read_link(&mut self) {
        if self.wire.as_ref().is_some_and(|wire| wire.socket == Socket::Connecting) {
            self.link_is_writable();
        }
        let read = self.sockets.read(LINK, &mut self.scratch);
        let now = self.clock.now();
        let Some(wire) = &mut self.wire else { return };
        match read {
            Read::Nothing => return,
            Read::Bytes(count) => {
                wire.link.handle_bytes(now, self.scratch.get_mut(..count).unwrap_or_default());
                if !wire.link.wants_read() {
                    self.sockets.pause(LINK);
                }
            }
            Read::End => wire.link.handle_eof(now),
            Read::Failed(error) => {
                self.sockets.remove(LINK);
                wire.lost(now, &error);
            }
        }
        wire.stirred = true;
        self.heed_link();
    }

    /// The server stops, and all clients are gone: what is under way to Redis is waited for, and Redis is told. Not beyond
    /// the end of the drain.
    pub(crate) async fn part_from_redis(&mut self) -> io::Result<()> {
        let now = self.clock.now();
        let Some(wire) = &mut self.wire else { return Ok(()) };
        wire.link.stop(now);
        wire.stirred = true;
        let by = self.drained_by.unwrap_or_else(Instant::now);
        loop {
            self.heed_link();
            self.flush_link();
            let Some(wire) = &self.wire else { return Ok(()) };
            if wire.link.is_over() || Instant::now() >= by {
                break;
            }
            let deadline = wire.deadline().map_or(by, |at| self.clock.real(at).min(by));
            self.wait(Some(deadline)).await;
            self.take_mail();
            self.sockets.look()?;
            // Whatever else there was is the past.
            while let Some(index) = self.sockets.next_writable() {
                if index == LINK {
                    self.link_is_writable();
                }
            }
            while let Some(index) = self.sockets.next_readable() {
                if index == LINK {
                    self.read_link();
                }
            }
            self.wind_link();
        }
        self.sockets.remove(LINK);
        if let Some(metrics) = self.wire.take().and_then(|wire| wire.metrics) {
            metrics.end();
        }
        Ok(())
    }

    /// Writes what the turn has brought for Redis, with one system call if the socket takes it.
    pub(crate) fn flush_link(&mut self) {
        let now = self.clock.now();
        let takes_in = self.hub.hub().wants_bus();
        let Some(wire) = &mut self.wire else { return };
        wire.link.set_full(now, !takes_in);
        if wire.link.wants_read() {
            self.sockets.resume(LINK);
        } else {
            self.sockets.pause(LINK);
        }
        while self.has_written_to_redis(now) {}
    }

    /// Writes once. `false`: there was nothing to write, or it was in vain.
    fn has_written_to_redis(&mut self, now: Now) -> bool {
        // First this: the link may prepare there what it sends.
        self.act_for_link(now);
        let (Some(wire), Some(socket)) = (&mut self.wire, self.sockets.get_mut(LINK)) else {
            return false;
        };
        let bytes = wire.link.transmit();
        if wire.socket != Socket::Connected || socket.is_blocked() || bytes.is_empty() {
            return false;
        }
        let error = match socket.stream().write(bytes) {
            Ok(0) => io::ErrorKind::WriteZero.into(),
            Ok(count) => {
                wire.link.transmitted(count);
                return true;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return true,
            Err(error) => error,
        };
        if error.kind() == io::ErrorKind::WouldBlock {
            socket.block();
        } else {
            self.sockets.remove(LINK);
            wire.lost(now, &error);
        }
        false
    }
}
