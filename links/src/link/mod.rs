//! One hub's link to Redis.
//!
//! ```text
//! Paused → Resolving → Connecting → Greeting → Preparing → Up
//!    ↑________________ any failure _________________________|
//! ```
//!
//! With Sentinels, `Resolving` to `Greeting` are gone through twice: to ask one of them where Redis is, and to connect there.

mod answers;
mod calls;
mod control;
mod finder;
mod follows;
mod inquiry;
mod pipe;
mod prepare;
mod probes;
mod replies;
mod session;
#[cfg(test)]
mod tests;
mod timers;

use std::{collections::VecDeque, io, net::SocketAddr, sync::Arc};

use mahavishnu_core::{
    entropy::{Entropy, Seed},
    hub::{BusCommand, BusError, BusEvent, BusState, LinkEvent, NodeId},
    time::{Instant, Now},
};

pub use self::inquiry::{Asked, Inquiry, Reply};
use self::{
    calls::{Calls, What},
    control::Control,
    finder::Finder,
    follows::Follows,
    pipe::Pipe,
    prepare::Findings,
    probes::Probes,
};
use crate::{
    LinkConfig, LinkStats, RedisInfo,
    redis::{names::Names, request, request::Requests},
    stats::Outage,
    tls,
};

/// What a link wants of its driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Look a name up, and say what came of it by [`Link::handle_resolved`]. Not blocking: on a thread of its own.
    Resolve {
        /// Name, or address as text.
        host: Box<str>,
        /// Port of the addresses.
        port: u16,
    },
    /// Connect to this address, and say by [`Link::handle_connected`] or [`Link::handle_failed`] what came of it.
    Connect {
        /// Where.
        address: SocketAddr,
    },
    /// Drop the socket, or the attempt that is under way: look-up or connection. What is known of them by then is not told
    /// any more; bytes that were not written are not.
    Close,
}

/// One hub's link to Redis: commands and bytes in, events and bytes out.
#[derive(Debug)]
pub struct Link {
    config: Arc<LinkConfig>,
    shard: u16,
    entropy: Entropy,
    phase: Phase,
    /// What goes through the connection, if there is one.
    pipe: Option<Pipe>,
    finder: Finder,
    requests: Requests,
    calls: Calls,
    follows: Follows,
    control: Control,
    probes: Probes,
    /// The connection that was up last, as Redis knows it.
    previous: Option<(u64, Arc<str>)>,
    redis: Option<RedisInfo>,
    /// `SUNSUBSCRIBE`s that Redis has not confirmed.
    unsubscribing: u32,
    /// When something came from Redis, or began to be owed.
    heard: Instant,
    /// The hub is full.
    hub_full: bool,
    /// All followed channels were told since the link is up.
    reconciled: bool,
    /// Why nothing is written at present.
    full: Option<&'static str>,
    /// Why the link is away.
    cause: Option<Arc<str>>,
    /// What the hub was told last.
    told: BusState,
    next_tick: Instant,
    next_check: Instant,
    /// Replies of a shape that they should not have, since when.
    odd: (u32, Instant),
    /// When it is over at the latest.
    stopping: Option<Instant>,
    stats: LinkStats,
    actions: VecDeque<Action>,
    events: VecDeque<BusEvent>,
}

/// How far the link is.
#[derive(Debug)]
enum Phase {
    /// To try again then.
    Paused(Instant),
    /// A name is looked up, until then at most.
    Resolving(Instant),
    /// A connection is made, until then at most.
    Connecting(Instant),
    /// `HELLO` was said, and is to be answered until then.
    Greeting(Instant),
    Preparing(Box<Findings>),
    /// Redis is there and not ready: to be asked again then.
    Waiting(Box<Findings>, Instant),
    /// Since then.
    Up(Instant),
    Over,
}

impl Link {
    /// A link that begins to connect at once. `node` and `shard` name it to others: no two links at a time may have the same.
    /// The link of shard 0 tells what all nodes are told.
    #[must_use]
    pub fn new(config: Arc<LinkConfig>, node: NodeId, shard: u16, seed: Seed, now: Now) -> Self {
        let mut entropy = Entropy::new(seed);
        let names = Names::new(&config.prefix, config.db);
        let mut this = Self {
            requests: Requests::new(names, format!("{node}.{shard}")),
            follows: Follows::new(&mut entropy),
            control: Control::new(shard == 0),
            next_tick: now.mono + config.limits.probe_interval,
            config,
            shard,
            entropy,
            phase: Phase::Paused(now.mono),
            pipe: None,
            finder: Finder::default(),
            calls: Calls::default(),
            probes: Probes::default(),
            previous: None,
            redis: None,
            unsubscribing: 0,
            heard: now.mono,
            hub_full: false,
            reconciled: false,
            full: None,
            cause: None,
            told: BusState::default(),
            next_check: now.mono,
            odd: (0, now.mono),
            stopping: None,
            stats: LinkStats::default(),
            actions: VecDeque::new(),
            events: VecDeque::new(),
        };
        this.attempt(now);
        this
    }

    /// What came of [`Action::Resolve`].
    pub fn handle_resolved(&mut self, now: Now, result: Result<Vec<SocketAddr>, io::ErrorKind>) {
        if !matches!(self.phase, Phase::Resolving(_)) {
            return;
        }
        let found = result.map(|addresses| self.finder.resolved(addresses, &self.config.limits));
        match found {
            Ok(Some(action)) => self.go(now, action),
            Ok(None) => self.miss(now, Outage::Resolve, "it has no address"),
            Err(error) => self.miss(now, Outage::Resolve, &error.to_string()),
        }
        self.settle(now);
    }

    /// [`Action::Connect`] has made a connection.
    pub fn handle_connected(&mut self, now: Now) {
        if matches!(self.phase, Phase::Connecting(_)) {
            self.greet(now);
        }
        self.settle(now);
    }

    /// [`Action::Connect`] has made none, or the socket that there was has failed.
    pub fn handle_failed(&mut self, now: Now, error: io::ErrorKind) {
        match self.phase {
            Phase::Connecting(_) => self.miss(now, Outage::Connect, &error.to_string()),
            Phase::Greeting(_) | Phase::Preparing(_) | Phase::Waiting(..) | Phase::Up(_) => {
                self.miss(now, Outage::Io, &error.to_string());
            }
            Phase::Paused(_) | Phase::Resolving(_) | Phase::Over => {}
        }
        self.settle(now);
    }

    /// Bytes of the socket, which may be changed in place.
    pub fn handle_bytes(&mut self, now: Now, bytes: &mut [u8]) {
        self.stats.received_bytes += bytes.len() as u64;
        self.heard = now.mono;
        let Some(pipe) = &mut self.pipe else { return };
        let received = pipe.receive(bytes);
        self.handle_frames(now);
        if let Err(fault) = received
            && self.pipe.is_some()
        {
            self.break_off(now, fault);
        }
        self.settle(now);
    }

    /// Redis has closed the connection.
    pub fn handle_eof(&mut self, now: Now) {
        if self.pipe.is_some() {
            self.miss(now, Outage::Eof, CLOSED);
        }
        self.settle(now);
    }

    /// What the hub wants. An answer may be there at once.
    pub fn handle_command(&mut self, now: Now, command: BusCommand) {
        let up = self.is_up();
        if let BusCommand::Follow { channel, epoch, retention } = command {
            self.follows.follow(channel, epoch, retention, up);
        } else if let BusCommand::Unfollow { channel } = command {
            if self.follows.unfollow(&channel) && up {
                self.unsubscribe(now, &channel);
            }
        } else if up && self.stopping.is_none() {
            self.ask(now, command);
        } else {
            self.answer(&command, BusError::Away);
        }
        self.settle(now);
    }

    /// The hub is full, or is not any more: while it is, nothing is read, and Redis keeps what is for it.
    pub fn set_full(&mut self, now: Now, full: bool) {
        if std::mem::replace(&mut self.hub_full, full) && !full {
            self.excuse(now.mono);
        }
    }

    /// Another configuration. Where it says something else about Redis the link connects anew.
    pub fn reload(&mut self, now: Now, config: Arc<LinkConfig>) {
        let old = std::mem::replace(&mut self.config, config);
        let new = &self.config;
        let same = LinkConfig {
            connect_timeout: new.connect_timeout,
            timeout: new.timeout,
            limits: new.limits.clone(),
            ..(*old).clone()
        };
        if same == **new || matches!(self.phase, Phase::Over) {
            return;
        }
        self.requests.rename(Names::new(&new.prefix, new.db));
        self.finder.forgive();
        self.lose(now, Outage::Reload, "the configuration was changed".into());
        self.attempt(now);
        self.settle(now);
    }

    /// To be over: once everything that was asked for is answered, or [`LinkConfig::timeout`] later.
    pub fn stop(&mut self, now: Now) {
        if self.stopping.is_none() {
            self.stopping = Some(now.mono + self.config.timeout);
        }
        self.settle(now);
    }

    /// The next thing to do about the socket.
    pub fn poll_action(&mut self) -> Option<Action> {
        // All commands of a turn are encrypted together.
        if let Some(pipe) = &mut self.pipe {
            pipe.encrypt();
        }
        self.actions.pop_front()
    }

    /// The next thing to tell the hub.
    pub fn poll_event(&mut self) -> Option<BusEvent> {
        self.events.pop_front()
    }

    /// Bytes for the socket; empty if there are none. Asked for behind [`poll_action`](Self::poll_action).
    #[must_use]
    pub fn transmit(&self) -> &[u8] {
        let ready = !matches!(self.phase, Phase::Connecting(_));
        self.pipe.as_ref().filter(|_| ready).map_or(&[], Pipe::transmit)
    }

    /// The socket has taken so many of [`transmit`](Self::transmit).
    pub fn transmitted(&mut self, count: usize) {
        self.stats.sent_bytes += count as u64;
        if let Some(pipe) = &mut self.pipe {
            pipe.transmitted(count);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadline()
    }

    /// Whether bytes of the socket are to be read.
    #[must_use]
    pub fn wants_read(&self) -> bool {
        !self.hub_full
    }

    /// Whether nothing more will come of it: the driver drops it, and its socket.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// What it has counted.
    #[must_use]
    pub fn stats(&self) -> &LinkStats {
        &self.stats
    }

    /// What Redis said of itself, once it was connected to.
    #[must_use]
    pub fn redis(&self) -> Option<&RedisInfo> {
        self.redis.as_ref()
    }

    fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Up(_))
    }

    /// Asks Redis for what the hub wants, within limits.
    fn ask(&mut self, now: Now, command: BusCommand) {
        let limits = &self.config.limits;
        let weight = request::weight(&command);
        let total = self.calls.weight() + weight;
        let full = self.calls.len() >= limits.commands_max
            || total > limits.command_bytes_max && self.calls.weight() > 0;
        let long = matches!(&command, BusCommand::Control { command, .. } if command.len() > limits.control_bytes_max);
        if long || !request::is_sound(&command) {
            self.answer(&command, BusError::Failed);
        } else if full {
            self.answer(&command, BusError::Full);
        } else {
            let call = self.calls.make(What::Bus(command), weight);
            self.send(now, call);
        }
    }

    fn answer(&mut self, command: &BusCommand, error: BusError) {
        let event = answers::failed(command, error);
        if event.is_none() && error == BusError::Full {
            self.stats.dropped += 1;
        }
        self.events.extend(event);
    }

    /// At the end of each input: what follows from it.
    fn settle(&mut self, now: Now) {
        self.ask_standings(now);
        self.ask_commands(now);
        self.reconcile();
        self.tell_state(now);
        self.finish(now);
        self.stats.command_bytes = self.calls.weight();
        self.stats.followed = self.follows.len();
    }

    /// The end, once everything is answered.
    fn finish(&mut self, now: Now) {
        let Some(deadline) = self.stopping else { return };
        let waits = self.is_up() && now.mono < deadline && !self.calls.is_idle();
        let writes = self.pipe.as_ref().is_some_and(|pipe| !pipe.is_written());
        if matches!(self.phase, Phase::Over) || waits || writes && now.mono < deadline {
            return;
        }
        self.close();
        self.fall(now);
        self.phase = Phase::Over;
    }

    /// Begins to look for Redis.
    fn attempt(&mut self, now: Now) {
        match self.finder.begin(&self.config) {
            Some(action) => self.go(now, action),
            None => self.pause(now, Outage::Resolve, "no Sentinel is named".into()),
        }
    }

    /// Does what the finder says.
    fn go(&mut self, now: Now, action: Action) {
        let deadline = now.mono + self.step_timeout();
        self.phase = match action {
            Action::Resolve { .. } => Phase::Resolving(deadline),
            Action::Connect { .. } => Phase::Connecting(deadline),
            Action::Close => return,
        };
        self.actions.push_back(action);
    }

    /// How long a step on the way to Redis may take.
    fn step_timeout(&self) -> std::time::Duration {
        let limits = &self.config.limits;
        if self.finder.is_asking() { limits.sentinel_timeout } else { self.config.connect_timeout }
    }

    /// There is a connection.
    fn greet(&mut self, now: Now) {
        let host = self.finder.host();
        let tls = self.config.tls.as_ref().map(|client| tls::Session::new(client, host, now));
        let tls = match tls.transpose() {
            Ok(tls) => tls,
            Err(cause) => return self.miss(now, Outage::Tls, &cause),
        };
        self.pipe = Some(Pipe::new(&self.config.limits, tls));
        self.heard = now.mono;
        self.phase = Phase::Greeting(now.mono + self.step_timeout());
        self.say_hello(now);
    }

    /// Nothing came of this address, or of the connection: on to the next one.
    fn miss(&mut self, now: Now, outage: Outage, cause: &str) {
        let cause = self.describe(cause);
        let was_up = self.is_up();
        if let Phase::Up(since) = self.phase
            && now.mono.saturating_duration_since(since) >= self.config.limits.backoff_reset
        {
            self.finder.forgive();
        }
        self.lose(now, outage, cause.clone());
        let next =
            if was_up || self.stopping.is_some() { None } else { self.finder.next(&self.config) };
        match next {
            Some(action) => self.go(now, action),
            None => self.pause(now, outage, cause),
        }
    }

    fn describe(&self, cause: &str) -> Arc<str> {
        let secrets = self.config.secrets();
        let quotes = secrets.into_iter().flatten().any(|secret| secret.is_quoted_in(cause));
        let cause = if quotes { inquiry::QUOTES } else { cause };
        let short: String = cause.chars().take(CAUSE_CHARS_MAX).collect();
        let who = if self.finder.is_asking() { "Sentinel" } else { "Redis" };
        format!("{who} at {}: {short}", self.finder.host()).into()
    }

    /// The connection, or the attempt to make one, is over.
    fn lose(&mut self, now: Now, outage: Outage, cause: Arc<str>) {
        if let Some(count) = self.stats.outages.get_mut(outage as usize) {
            *count += 1;
        }
        self.cause = Some(cause);
        self.close();
        self.fall(now);
    }

    /// The driver drops what it has.
    fn close(&mut self) {
        if !matches!(self.phase, Phase::Paused(_) | Phase::Over) {
            self.actions.push_back(Action::Close);
        }
    }

    /// What was under way is answered, and the hub told that the bus is away.
    fn fall(&mut self, now: Now) {
        let (owed, parked) = self.calls.clear();
        for call in owed {
            if let What::Bus(command) = &call.what {
                let sent = self.pipe.as_ref().is_some_and(|pipe| pipe.may_have_sent(call.begin));
                self.answer(command, if sent { BusError::Unknown } else { BusError::Away });
            }
        }
        for call in parked {
            if let What::Bus(command) = &call.what {
                self.answer(command, BusError::Away);
            }
        }
        self.pipe = None;
        self.follows.stop();
        self.control.restart();
        self.unsubscribing = 0;
        self.full = None;
        self.reconciled = false;
        if self.is_up() {
            self.events.push_back(BusEvent::Link(LinkEvent::Down));
        }
        self.phase = Phase::Paused(now.mono);
    }

    /// To try again a little later.
    fn pause(&mut self, now: Now, outage: Outage, cause: Arc<str>) {
        let limits = &self.config.limits;
        let pause = match outage {
            Outage::Refused => limits.backoff_max,
            Outage::Resolve
            | Outage::Connect
            | Outage::Tls
            | Outage::Eof
            | Outage::Io
            | Outage::Timeout
            | Outage::Probe
            | Outage::Elsewhere
            | Outage::Broken
            | Outage::Poison
            | Outage::Reload => self.finder.pause(&mut self.entropy, limits),
        };
        self.cause = Some(cause);
        self.phase = Phase::Paused(now.mono + pause);
        if pause.is_zero() && self.stopping.is_none() {
            self.attempt(now);
        }
    }
}

/// Why there is no connection any more.
const CLOSED: &str = "it has closed the connection";
/// Of what Redis says about why not.
const CAUSE_CHARS_MAX: usize = 200;
