//! A simulated client: what it knows, and what it makes of the bytes that come.

mod attend;
mod behaviour;
mod document;
mod granted;
mod recall;
mod resume;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::Value;

pub(crate) use self::resume::USERS;
use self::{attend::Attending, document::Papers, recall::Memory, resume::Keeping};
use crate::{
    clock::Nanos,
    frame,
    http::{self, Asked},
    message::{self, Number},
    oracle::{Asked as Known, Fate, Look, Membership, Oracle, Wish},
    random::Random,
    swarm::{Options, Rights},
};

/// How a client behaves. Only the hostile ones break rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Subscriber,
    Publisher,
    Poster,
    Sluggard,
    Hostile,
    Storming,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No socket.
    Away,
    /// The socket is there, the handshake's answer is not.
    Head,
    /// WebSocket, not welcomed yet.
    Greeting,
    /// Welcomed.
    Open,
    /// A close frame went or came.
    Closing,
    /// An HTTP connection.
    Http,
}

/// A request that is not answered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pending {
    Subscribe(u64),
    /// A subscription that asks for more than the channel.
    Start(u64, Wish),
    Unsubscribe(u64),
    /// History.
    Look(u64, Look),
    /// A document.
    State(u64, Known),
    /// Who is in a channel: asked when, whether it is the beginning of the list, and whether only how many.
    List(u64, Nanos, bool, bool),
    /// A session, for so long.
    Keep(Option<u64>),
    /// A session that it had, asked for when.
    Resume(usize, Nanos),
    /// One that it may not have.
    Thief,
    Publish(u64, Number),
    Ping,
    Ask,
    Auth,
    /// A token that must not be taken.
    BadAuth,
    /// A token that may have expired, or be revoked.
    BriefAuth,
}

impl Pending {
    /// The channel of which a client has not been told whether it subscribes to it.
    pub(crate) fn membership(self) -> Option<u64> {
        match self {
            Self::Subscribe(channel) | Self::Start(channel, _) | Self::Unsubscribe(channel) => {
                Some(channel)
            }
            Self::Look(..)
            | Self::State(..)
            | Self::List(..)
            | Self::Keep(_)
            | Self::Resume(..)
            | Self::Thief
            | Self::Publish(..)
            | Self::Ping
            | Self::Ask
            | Self::Auth
            | Self::BadAuth
            | Self::BriefAuth => None,
        }
    }
}

/// What a client wants done with its socket.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    pub(crate) bytes: Vec<u8>,
    /// End our side, behind the bytes.
    pub(crate) fin: bool,
    /// Drop the socket, whatever is on its way.
    pub(crate) reset: bool,
}

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) index: usize,
    pub(crate) kind: Kind,
    pub(crate) rights: Rights,
    pub(crate) random: Random,
    pub(crate) phase: Phase,
    pub(crate) link: Option<usize>,
    /// Loopback clients may publish where there are no tokens.
    pub(crate) local: bool,
    pub(crate) tokens: Arc<Tokens>,
    /// The token of this connection was a bad one.
    pub(crate) bad_token: bool,
    /// The token in force is the one that expires.
    pub(crate) brief: bool,
    /// Whether this connection showed a good token.
    pub(crate) showed_token: bool,
    pub(crate) members: Vec<Membership>,
    pub(crate) wanted: Vec<bool>,
    pub(crate) pending: BTreeMap<u64, Pending>,
    pub(crate) correlation: u64,
    /// By channel: the latest request to leave it, and the latest that was answered.
    left: Vec<(u64, u64)>,
    /// Asks for positions.
    pub(crate) positions: bool,
    memory: Memory,
    papers: Papers,
    pub(crate) attending: Attending,
    pub(crate) keeping: Keeping,
    /// It was told that another connection has its session.
    close_text_is_elsewhere: bool,
    /// Chance of what it does about that.
    recall: Random,
    /// Channels of which a subscription may be over without the client's having been told.
    unsure: BTreeSet<u64>,
    /// Channels into which the application has put it, with the last number that came.
    pub(crate) granted: BTreeMap<String, u64>,
    /// Comes back at once when its connection is gone.
    pub(crate) eager: bool,
    /// Does not read at present.
    pub(crate) paused: bool,
    /// Reads nothing, ever, but lets bytes come.
    pub(crate) deaf: bool,
    pub(crate) attack: u64,
    pub(crate) asked: Option<Asked>,
    /// Publishes under an idempotency key that may be sent again.
    pub(crate) remembered: Vec<Asked>,
    pub(crate) close_code: Option<u16>,
    /// The latest message of the first channel when the close frame came, if it subscribed to it.
    pub(crate) last_at_close: Option<Number>,
    pub(crate) pongs: u64,
    pub(crate) healing: bool,
    /// Its side of the socket is at its end.
    pub(crate) said_all: bool,
    partial: Vec<u8>,
    /// What it says and hears, if somebody wants to know.
    pub(crate) diary: Option<Vec<String>>,
}

/// Ready-made tokens by rights, as `(good, expired, forged)`.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    pub(crate) by_rights: Vec<[String; 3]>,
    /// Those that expire in the middle.
    pub(crate) brief: Vec<String>,
}

impl Client {
    pub(crate) fn new(index: usize, kind: Kind, options: &Options, tokens: Arc<Tokens>) -> Self {
        let mut random = Random::new(options.seed, 1000 + index as u64);
        let rights = match kind {
            Kind::Publisher | Kind::Poster if random.chance(900) => Rights::Root,
            _ => random.pick(&Rights::ALL),
        };
        let local = random.chance(900);
        let channels = options.channels as usize;
        let mut recall = Random::new(options.seed, 1_000_000 + index as u64);
        let mut this = Self {
            index,
            kind,
            rights,
            phase: Phase::Away,
            link: None,
            local,
            tokens,
            bad_token: false,
            brief: false,
            showed_token: false,
            members: vec![Membership::default(); channels],
            wanted: vec![false; channels],
            pending: BTreeMap::new(),
            correlation: 0,
            left: vec![(0, 0); channels],
            positions: recall.chance(options.positions_pm),
            memory: Memory::new(options),
            papers: Papers::new(options, index),
            attending: Attending::new(options, index),
            keeping: Keeping::new(options, index),
            close_text_is_elsewhere: false,
            recall,
            unsure: BTreeSet::new(),
            granted: BTreeMap::new(),
            eager: false,
            paused: false,
            deaf: false,
            attack: 0,
            asked: None,
            remembered: Vec::new(),
            close_code: None,
            last_at_close: None,
            pongs: 0,
            healing: false,
            said_all: false,
            partial: Vec::new(),
            diary: None,
            random,
        };
        let most = if kind == Kind::Publisher { 1 } else { channels.min(5) as u64 };
        let wishes = most.min(options.channels_per_connection);
        for _ in 0..this.random.range(1, wishes) {
            let channel = this.random.below(options.channels);
            this.wanted[channel as usize] = this.may_subscribe(options, channel);
        }
        this
    }

    /// Whether its subscriptions must be complete once the world is healed.
    pub(crate) fn is_good(&self) -> bool {
        matches!(self.kind, Kind::Subscriber | Kind::Publisher | Kind::Sluggard)
    }

    /// Whether it waits for a document.
    pub(crate) fn is_reading(&self) -> bool {
        self.pending.values().any(|pending| matches!(pending, Pending::State(..)))
    }

    pub(crate) fn may_subscribe(&self, options: &Options, channel: u64) -> bool {
        options.auth == 0 || self.rights.may_subscribe(channel)
    }

    pub(crate) fn may_publish(&self, options: &Options, channel: u64) -> bool {
        if options.auth == 0 { self.local } else { self.rights.may_publish(channel) }
    }

    /// Bytes of the server; all are taken.
    pub(crate) fn receive(
        &mut self,
        options: &Options,
        bytes: &[u8],
        oracle: &mut Oracle,
        wishes: &mut Wishes,
    ) {
        if self.kind == Kind::Hostile {
            return;
        }
        if self.partial.is_empty() {
            let used = self.parse(options, bytes, oracle, wishes);
            self.partial.extend_from_slice(&bytes[used..]);
        } else {
            let mut partial = std::mem::take(&mut self.partial);
            partial.extend_from_slice(bytes);
            let used = self.parse(options, &partial, oracle, wishes);
            partial.drain(..used);
            self.partial = partial;
        }
    }

    fn parse(
        &mut self,
        options: &Options,
        bytes: &[u8],
        oracle: &mut Oracle,
        wishes: &mut Wishes,
    ) -> usize {
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            match self.phase {
                Phase::Away => return bytes.len(),
                Phase::Head | Phase::Http => {
                    let step = self.read_http(options, rest, oracle, wishes);
                    if step == 0 {
                        return used;
                    }
                    used += step;
                }
                Phase::Greeting | Phase::Open | Phase::Closing => match frame::read(rest) {
                    Ok(Some((opcode, payload, len))) => {
                        used += len;
                        self.on_frame(options, opcode, payload, oracle, wishes);
                    }
                    Ok(None) => return used,
                    Err(what) => {
                        oracle.fail("framing", || format!("client {} got {what}", self.index));
                        return bytes.len();
                    }
                },
            }
        }
    }

    fn read_http(
        &mut self,
        options: &Options,
        bytes: &[u8],
        oracle: &mut Oracle,
        wishes: &mut Wishes,
    ) -> usize {
        let Some(answer) = http::read(bytes) else { return 0 };
        if self.phase == Phase::Http {
            http::on_answer(self, options, &answer, oracle);
        } else if answer.status == 101 {
            // An application that cannot say whose it is has the handshake accepted, to be closed with 1013.
            if self.bad_token && self.showed_token && options.ask_whose == 0 {
                oracle.fail("auth", || format!("client {}: a bad token was let in", self.index));
            }
            self.phase = Phase::Greeting;
            self.greet(options, wishes);
        } else {
            let refusable = self.bad_token || self.brief;
            if !(refusable && answer.status == 401 || answer.status == 408) {
                let status = answer.status;
                oracle.fail("answers", || format!("client {}: handshake: {status}", self.index));
            }
            wishes.fin = true;
        }
        answer.len
    }

    fn on_frame(
        &mut self,
        options: &Options,
        opcode: u8,
        payload: &[u8],
        oracle: &mut Oracle,
        wishes: &mut Wishes,
    ) {
        self.note("hears", payload);
        match opcode {
            1 if self.phase == Phase::Closing && self.close_code.is_some() => {
                oracle.fail("framing", || format!("client {}: data after close", self.index));
            }
            1 => match message::read_delivery(payload) {
                Some(event) => {
                    if self.brief {
                        oracle.check_rights(event.number, self.index);
                    }
                    oracle.delivered(&mut self.members, event, self.index);
                }
                None => self.on_message(options, payload, oracle),
            },
            8 => {
                let code = payload.get(..2).map(|code| u16::from_be_bytes([code[0], code[1]]));
                if self.close_code.is_some() {
                    oracle.fail("framing", || format!("client {}: a second close", self.index));
                }
                let code = code.unwrap_or(1005);
                self.close_code = Some(code);
                let first = self.members.first().filter(|member| member.on);
                self.last_at_close = first.and_then(|member| member.last);
                if payload.ends_with(b"Server shutting down") && !oracle.draining {
                    oracle.fail("drain", || format!("client {} was sent away", self.index));
                }
                if payload.ends_with(b"Resumed elsewhere") {
                    self.close_text_is_elsewhere = true;
                    let link = self.link.unwrap_or_default();
                    oracle.resumed_elsewhere(self.keeping.session, link, self.index);
                }
                if matches!(code, 1002 | 1003 | 1007 | 1009) {
                    oracle.fail("blame", || format!("client {} did nothing: {code}", self.index));
                }
                if self.phase != Phase::Closing {
                    self.send_frame(8, &payload[..payload.len().min(2)], wishes);
                }
                self.phase = Phase::Closing;
            }
            9 if self.phase != Phase::Closing => self.send_frame(10, payload, wishes),
            _ => {}
        }
    }

    /// A message that is not a publication.
    fn on_message(&mut self, options: &Options, text: &[u8], oracle: &mut Oracle) {
        let who = self.index;
        let Ok(message) = serde_json::from_slice::<Value>(text) else {
            return oracle.fail("content", || format!("client {who} got no JSON"));
        };
        let correlation = message["correlation_id"].as_str().and_then(|text| text.parse().ok());
        let pending = correlation.and_then(|correlation| self.pending.remove(&correlation));
        let correlation = correlation.unwrap_or(0);
        match message["type"].as_str().unwrap_or_default() {
            "event" if message["event"] == "session.created" => {
                self.on_welcome(options, &message["data"], oracle);
            }
            "event" if message["event"] == "session.token_expiring" => {
                if !self.brief {
                    oracle.fail("rights", || format!("client {who}: its token expires not"));
                }
            }
            "event" if self.on_applications(&message, oracle) => {}
            "event" if message["event"] == "channel.gap" => self.on_gap(&message["data"], oracle),
            "event"
                if let Some(event) = message["event"].as_str()
                    && event.starts_with("presence.") =>
            {
                self.on_presence(event, &message, oracle);
            }
            "response" | "ack" | "pong" => match pending {
                Some(pending) => self.on_answer(options, pending, correlation, &message, oracle),
                None => {
                    oracle.fail("answers", || format!("client {who}: no such request: {message}"))
                }
            },
            "error" => self.on_error(options, (pending, correlation), &message, oracle),
            _ => oracle.fail("content", || format!("client {who} got {message}")),
        }
    }

    fn on_welcome(&mut self, options: &Options, data: &Value, oracle: &mut Oracle) {
        let who = self.index;
        if self.phase == Phase::Closing {
            return;
        }
        if self.phase != Phase::Greeting {
            return oracle.fail("answers", || format!("client {who} was welcomed twice"));
        }
        if options.auth == 1 && (self.bad_token || !self.showed_token) {
            return oracle
                .fail("auth", || format!("client {who} was welcomed without a good token"));
        }
        self.phase = Phase::Open;
        let name = data["connection_id"].as_str().unwrap_or_default().to_owned();
        oracle.named(&name, self.link.unwrap_or_default(), self.user(options), who);
        self.attending.name = name;
    }

    fn on_answer(
        &mut self,
        options: &Options,
        pending: Pending,
        correlation: u64,
        message: &Value,
        oracle: &mut Oracle,
    ) {
        let who = self.index;
        match pending {
            Pending::Subscribe(channel) | Pending::Unsubscribe(channel) => {
                let on = matches!(pending, Pending::Subscribe(_));
                if on && !self.may_subscribe(options, channel) {
                    oracle.fail("permission", || format!("client {who} may not see {channel}"));
                }
                if !on {
                    let left = &mut self.left[channel as usize];
                    left.1 = left.1.max(correlation);
                }
                let member = &mut self.members[channel as usize];
                // Answers may come out of order; the request that was made last counts, but who has lost a subscription by an
                // answer is a subscriber again by one that was asked for before.
                let again = on && !member.on && correlation > self.left[channel as usize].1;
                if correlation > member.answered || again {
                    member.answered = member.answered.max(correlation);
                    if on {
                        oracle.joined(member, channel);
                    } else {
                        self.leaves(channel, correlation, oracle);
                    }
                }
            }
            Pending::Start(channel, wish) => {
                if !self.may_subscribe(options, channel) {
                    oracle.fail("permission", || format!("client {who} may not see {channel}"));
                }
                self.on_started(channel, &wish, correlation, &message["data"], oracle);
            }
            Pending::Look(channel, look) => {
                self.on_history(options, channel, &look, &message["data"], oracle);
            }
            Pending::List(channel, asked_at, first, is_count) => {
                let list = (channel, asked_at, first, is_count);
                self.on_list(options, list, &message["data"], oracle);
            }
            Pending::Keep(ttl) => self.on_kept(options, ttl, &message["data"], oracle),
            Pending::Resume(session, asked_at) => {
                self.on_resumed(options, (session, asked_at), &message["data"], oracle);
            }
            Pending::Thief => {
                oracle.fail("sessions", || format!("client {who} has stolen: {message}"));
            }
            Pending::State(channel, asked) => {
                if !self.may_subscribe(options, channel) {
                    oracle.fail("permission", || format!("client {who} may not read {channel}"));
                }
                let place = oracle.state(channel, asked, &message["data"], who);
                self.saw_document(channel, place);
            }
            Pending::Publish(channel, number) => {
                if !self.may_publish(options, channel) {
                    oracle.fail("permission", || {
                        format!("client {who} may not publish to {channel}")
                    });
                }
                let subscribers = message["data"]["subscribers"].as_u64().unwrap_or(u64::MAX);
                oracle.answered(number, Fate::Published(subscribers as u32));
                if let Some(carried) = oracle.carried(number) {
                    let place = oracle.set(number, &message["data"], who);
                    if carried.state.is_some() {
                        self.saw_document(channel, place);
                    }
                }
            }
            Pending::Ping => self.pongs += 1,
            // From here on a good token is in force.
            Pending::Auth => self.brief = false,
            Pending::Ask | Pending::BriefAuth => {}
            Pending::BadAuth => {
                oracle.fail("auth", || format!("client {who}: a bad token was taken"));
            }
        }
    }

    /// It is no subscriber any more, by the answer to this request.
    fn leaves(&mut self, channel: u64, correlation: u64, oracle: &mut Oracle) {
        let member = &mut self.members[channel as usize];
        member.answered = member.answered.max(correlation);
        oracle.check_beginning(member, self.index);
        self.remember(channel);
        self.members[channel as usize].on = false;
        self.attending.set(channel, None);
    }

    fn on_error(
        &mut self,
        options: &Options,
        (pending, correlation): (Option<Pending>, u64),
        message: &Value,
        oracle: &mut Oracle,
    ) {
        let who = self.index;
        let code = message["error_code"].as_str().unwrap_or_default();
        let forbidden = code == "FORBIDDEN";
        match pending {
            Some(Pending::Publish(channel, number)) => {
                if forbidden && options.ask_publish == 0 && self.may_publish(options, channel) {
                    oracle.fail("permission", || format!("client {who} may publish to {channel}"));
                }
                oracle.busy += u64::from(message["error_message"] == "Server busy");
                oracle.answered(number, Fate::Refused);
                match code {
                    "CONFLICT" => oracle.conflict(number, who),
                    "DECODE_ERROR" => oracle.malformed(number, who),
                    _ => {}
                }
            }
            Some(Pending::Keep(_)) => self.on_not_kept(options, message, oracle),
            Some(Pending::Resume(session, _)) => self.on_not_resumed(session, message, oracle),
            Some(Pending::Thief) => self.on_not_stolen(options, message, oracle),
            Some(Pending::Start(channel, wish))
                if forbidden && wish.presence.is_some() && !options.has_presence(channel) => {}
            Some(Pending::Subscribe(channel) | Pending::Start(channel, _)) => {
                if forbidden && options.ask_subscribe == 0 && self.may_subscribe(options, channel) {
                    oracle.fail("permission", || format!("client {who} may see {channel}"));
                }
                if let Some(Pending::Start(_, wish)) = pending {
                    self.on_not_started(channel, &wish, correlation, message, oracle);
                }
            }
            // What it was to settle is as it was.
            Some(Pending::Unsubscribe(channel)) => {
                self.doubt(channel);
            }
            Some(Pending::State(channel, _)) if forbidden => {
                if options.ask_subscribe == 0 && self.may_subscribe(options, channel) {
                    oracle.fail("permission", || format!("client {who} may read {channel}"));
                }
            }
            Some(Pending::Look(channel, look)) => {
                self.on_no_history(options, channel, &look, code, oracle);
            }
            Some(Pending::Auth) if options.rate == 0 => {
                oracle
                    .fail("auth", || format!("client {who}: a good token was refused: {message}"));
            }
            Some(_) => {}
            // Before authentication errors precede the close and have no correlation.
            None if code == "AUTH_REQUIRED" && self.phase != Phase::Open => {}
            None => oracle.fail("answers", || format!("client {who}: no such request: {message}")),
        }
    }

    /// The socket is gone. What was asked stays unanswered.
    pub(crate) fn on_gone(&mut self, oracle: &mut Oracle) {
        self.leave_behind(oracle);
        self.attending.forget();
        self.close_text_is_elsewhere = false;
        for channel in 0..self.members.len() {
            self.remember(channel as u64);
            let member = &mut self.members[channel];
            if member.on {
                oracle.check_beginning(member, self.index);
            }
            *member = Membership::default();
        }
        self.left.fill((0, 0));
        self.unsure.clear();
        self.granted.clear();
        self.pending.clear();
        self.partial = Vec::new();
        self.asked = None;
        self.link = None;
        self.phase = Phase::Away;
    }

    fn note(&mut self, verb: &str, payload: &[u8]) {
        if let Some(diary) = &mut self.diary {
            let text = String::from_utf8_lossy(&payload[..payload.len().min(600)]);
            diary.push(format!("client {} {verb} {text}", self.index));
        }
    }

    pub(crate) fn send_frame(&mut self, opcode: u8, payload: &[u8], wishes: &mut Wishes) {
        self.note("says", payload);
        let mask = (self.random.next() as u32).to_be_bytes();
        if opcode == 1 && payload.len() > 20 && self.random.chance(20) {
            let pieces = self.random.range(2, 5) as usize;
            frame::write_fragments(&mut wishes.bytes, payload, pieces, &mut self.random);
        } else {
            frame::write(&mut wishes.bytes, opcode, payload, mask);
        }
    }

    /// Sends a request that will be answered, and remembers it.
    pub(crate) fn ask(
        &mut self,
        pending: Pending,
        text: impl FnOnce(u64) -> Vec<u8>,
        wishes: &mut Wishes,
    ) {
        self.correlation += 1;
        self.pending.insert(self.correlation, pending);
        let text = text(self.correlation);
        self.send_frame(1, &text, wishes);
    }
}
