//! Some hubs with their clients, driven by a script.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    hash::{DefaultHasher, Hasher},
    io,
    sync::{Arc, LazyLock},
    time::Duration,
};

use bytes::Bytes;
use mahavishnu_core::{
    auth::{self, Claims, TokenSpec},
    config::{AnonymousPublish, Config, SlowPolicy, SlowReaders},
    entropy::Seed,
    hub::{
        Authentication, Command, CommandId, ConnId, Denial, DrainPlan, Handler, Hub, Listener,
        Output, Peer, Place, Publication, Refusal, RefusedBy, RequestError, RequestId, ShardId,
        ShardMessage, StoreEvent,
    },
    limits::{self, Limits},
    time::Now,
    wire,
    ws::Flush,
};
use mahavishnu_framing::{OP_CLOSE, OP_PING, OP_PONG};
use mahavishnu_sim::turn;
use serde_json::{Value, json};

use super::{
    application::Direct,
    client::{self, Client, Rules},
    ops::{Answer, Control, Ending, Http, Op, Setup, Slow, Time, Token, What},
    store::Store,
    wishes::{self, Positions},
};
use crate::trace::{START_UNIX, start};

/// The hubs of one process, their sockets, and what is under way between them.
pub(super) struct Rig {
    hubs: Vec<Hub>,
    pub(super) now: Now,
    setup: Setup,
    /// `None` once a reload has changed the policy.
    slow: Option<Slow>,
    /// Whether some configuration let clients in without a token.
    ever_open: bool,
    clients: BTreeMap<ConnId, Client>,
    /// Every connection that ever was, in order: scripts name them by position, gone or not.
    all: Vec<ConnId>,
    /// Batches under way, by sender and receiver.
    mail: BTreeMap<(u16, u16), VecDeque<Vec<ShardMessage>>>,
    questions: Vec<(usize, RequestId, ConnId)>,
    /// Those of them, and of those before, that ask whose something is.
    whose: BTreeSet<(usize, RequestId)>,
    /// The channel of each broadcast, by its number.
    published: Vec<String>,
    /// Commands that wait for [`Output::Done`].
    commands: Vec<bool>,
    /// Sessions that clients were told of, and where channels stood.
    sessions: Vec<String>,
    positions: Positions,
    store: Store,
    /// Connections that the application was told of.
    told: BTreeMap<ConnId, bool>,
    /// Who subscribes to what, as it was told.
    heard: BTreeSet<(ConnId, Arc<str>)>,
    /// What it has sent to connections.
    pub(super) direct: Direct,
    requests: u32,
    reloads: u32,
    drains: bool,
    digest: DefaultHasher,
}

impl Rig {
    pub(super) fn new(setup: &Setup) -> Self {
        let now = start();
        let config = Arc::new(config(setup));
        let shards = u16::from(setup.shards % 3) + 1;
        let hub = |shard| {
            let place = Place { shard: ShardId(shard), shards, seed: Seed::from(7) };
            Hub::new(config.clone(), place, now)
        };
        Self {
            hubs: (0..shards).map(hub).collect(),
            now,
            setup: *setup,
            slow: Some(setup.slow),
            ever_open: !setup.auth || setup.asks_whose(),
            clients: BTreeMap::new(),
            all: Vec::new(),
            mail: BTreeMap::new(),
            questions: Vec::new(),
            whose: BTreeSet::new(),
            sessions: Vec::new(),
            positions: BTreeMap::new(),
            store: Store::default(),
            published: Vec::new(),
            commands: Vec::new(),
            told: BTreeMap::new(),
            heard: BTreeSet::new(),
            direct: Direct::default(),
            requests: 0,
            reloads: 0,
            drains: false,
            digest: DefaultHasher::new(),
        }
    }

    pub(super) fn digest(&self) -> u64 {
        self.digest.finish()
    }

    pub(super) fn apply(&mut self, op: &Op) {
        match op {
            Op::Accept { shard, metrics } => self.accept(*shard, *metrics),
            Op::Upgrade { conn, token } => self.upgrade(*conn, *token),
            Op::Say { conn, what, cut } => self.say(*conn, *what, *cut),
            Op::Http { conn, what } => self.http(*conn, *what),
            Op::Bytes { conn, bytes } => {
                let Some(id) = self.pick(*conn) else { return };
                self.clients.entry(id).and_modify(|client| {
                    client.wild = true;
                    client.admitted = true;
                });
                self.bytes(id, bytes);
            }
            Op::Frame { conn, control } => {
                let Some(id) = self.pick(*conn) else { return };
                let frame = match control {
                    Control::Ping => client::framed(OP_PING, b"ping"),
                    Control::Pong => client::framed(OP_PONG, &1u32.to_be_bytes()),
                    Control::Close => client::framed(OP_CLOSE, &1000u16.to_be_bytes()),
                };
                self.bytes(id, &frame);
            }
            Op::Eof { conn } => {
                let Some(id) = self.pick(*conn) else { return };
                let now = self.now;
                self.hub(id).handle_eof(now, id);
            }
            Op::IoError { conn } => {
                let Some(id) = self.pick(*conn) else { return };
                let now = self.now;
                self.hub(id).handle_io_error(now, id, io::ErrorKind::ConnectionReset);
                self.clients.remove(&id);
            }
            Op::Room { conn, bytes } => {
                let Some(id) = self.pick(*conn) else { return };
                if let Some(client) = self.clients.get_mut(&id) {
                    client.room = bytes.map(usize::from);
                    self.flush(id);
                }
            }
            Op::Wait { time } => self.wait(*time),
            Op::Turn => (0..self.hubs.len()).for_each(|shard| self.turn(shard)),
            Op::TurnOf { shard } => self.turn(usize::from(*shard) % self.hubs.len()),
            Op::Carry { from, to } => {
                let count = self.hubs.len() as u16;
                if u16::from(*from) % count == u16::from(*to) % count {
                    return self.answer_stored(*to % 4 != 0);
                }
                self.carry((u16::from(*from) % count, u16::from(*to) % count));
            }
            Op::Publish { shard, channel, wide, .. } if *channel >= 192 => {
                self.act(*shard, *channel - 192, *wide);
            }
            Op::Publish { shard, channel, wide, ask } => {
                let publication = self.publication(*channel, *wide);
                let id = ask.then(|| {
                    self.commands.push(true);
                    CommandId(self.commands.len() as u64 - 1)
                });
                self.command(*shard, Command::Publish { id, publication });
            }
            Op::Answer { which, how } => self.answer(*which, *how),
            Op::Disconnect { conn } => {
                let Some(id) = self.pick(*conn) else { return };
                if *conn >= 192 {
                    return self.dismiss(id, *conn - 192);
                }
                let now = self.now;
                self.hub(id).handle_command(now, Command::Disconnect { conn: id });
            }
            Op::Reload { setup } => self.reload(setup),
            Op::Drain { seconds } => self.drain(*seconds),
        }
        self.check();
    }

    fn accept(&mut self, shard: u8, metrics: bool) {
        let shard = usize::from(shard) % self.hubs.len();
        let listener = if metrics { Listener::Metrics } else { Listener::Main };
        let peer = Peer { address: ([127, 0, 0, 1], 50_000).into(), listener };
        if let Ok(id) = self.hubs[shard].handle_accept(self.now, peer) {
            assert!(!self.all.contains(&id), "an id is never given twice");
            self.all.push(id);
            self.clients.insert(id, Client::new());
        }
    }

    fn upgrade(&mut self, conn: u8, token: Option<Token>) {
        let Some(id) = self.pick(conn) else { return };
        let mut head = String::from(
            "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n",
        );
        if let Some(token) = token {
            head += &format!("Authorization: Bearer {}\r\n", token_text(token));
        }
        head += "\r\n";
        self.admit(id, token);
        self.bytes(id, head.as_bytes());
    }

    fn admit(&mut self, id: ConnId, token: Option<Token>) {
        if matches!(token, Some(Token::Admin | Token::Reader))
            && let Some(client) = self.clients.get_mut(&id)
        {
            client.admitted = true;
        }
    }

    fn say(&mut self, conn: u8, what: What, cut: u8) {
        let Some(id) = self.pick(conn) else { return };
        let correlation = format!("q{}", self.requests);
        self.requests += 1;
        if let What::Auth(Some(token)) | What::Refresh(token) = what {
            self.admit(id, Some(token));
        }
        let message = self.message(what, &correlation);
        if let Some(client) = self.clients.get_mut(&id) {
            client.asked.insert(correlation);
        }
        let frame = client::text(message.to_string().as_bytes());
        let (first, second) = frame.split_at(usize::from(cut) % frame.len());
        self.bytes(id, first);
        self.bytes(id, second);
    }

    fn message(&mut self, what: What, id: &str) -> Value {
        let request = |event: &str, data: Value| json!({ "type": "request", "id": id, "event": event, "data": data });
        match what {
            What::Auth(token) => request("auth", json!({ "token": token.map(token_text) })),
            What::Refresh(token) => request("refresh_token", json!({ "token": token_text(token) })),
            What::Subscribe(channel) => {
                let name = channel_name(channel);
                request("subscribe", wishes::subscription(channel, name, &self.positions))
            }
            What::SubscribeByEvent(channel) => {
                let name = channel_name(channel);
                if let Some(data) = wishes::history(channel, name, &self.positions) {
                    return request("get_history", data);
                }
                json!({ "type": "event", "id": id, "event": "subscribe", "data": { "channel": channel_name(channel) } })
            }
            What::Unsubscribe(channel) => {
                request("unsubscribe", json!({ "channel": channel_name(channel) }))
            }
            What::Publish { channel, wide } => {
                let publication = self.publication(channel, wide);
                request("publish", carrying(message(&publication)))
            }
            What::Ask => request("get_status", json!({ "n": 1 })),
            What::AskUnknown => request("get_nothing", json!({})),
            What::Ping => json!({ "type": "ping", "id": id }),
            What::Nonsense => json!({ "type": "nonsense", "id": id }),
            What::Keep { seconds } => {
                request("keep_session", json!({ "ttl": u64::from(seconds % 32) + 1 }))
            }
            What::Resume { which, behind } => {
                let at = usize::from(which) % self.sessions.len().max(1);
                let session = self.sessions.get(at).map_or("none", String::as_str);
                let position = |(channel, (epoch, offset)): (&String, &(String, u64))| {
                    let offset = offset.saturating_sub(u64::from(behind.unwrap_or_default()));
                    (channel.clone(), json!({ "epoch": epoch, "offset": offset }))
                };
                let mut positions: serde_json::Map<_, _> =
                    self.positions.iter().map(position).collect();
                if behind.is_none() {
                    // Epochs that nobody gave.
                    positions = CHANNELS
                        .map(|name| (name.into(), json!({ "epoch": "?", "offset": 0 })))
                        .into_iter()
                        .collect();
                }
                request("resume_session", json!({ "session": session, "positions": positions }))
            }
        }
    }

    fn http(&mut self, conn: u8, what: Http) {
        let Some(id) = self.pick(conn) else { return };
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        let request = match what {
            Http::Health => get("/health"),
            Http::Ready => get("/ready"),
            Http::Unknown => get("/unknown"),
            Http::Publish { channel, second: None, key: None } if channel >= 128 => {
                let name = channel_name(channel);
                let path = wishes::get_history(channel, name, &self.positions);
                let token = token_text(Token::Admin);
                format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n")
            }
            Http::Half => "GET / HTTP/1.1\r\nHos".to_owned(),
            Http::Publish { channel, second, key } => {
                let channels = std::iter::once(channel).chain(second);
                let messages: Vec<Value> =
                    channels.map(|channel| message(&self.publication(channel, false))).collect();
                let messages: Vec<Value> = match <[Value; 1]>::try_from(messages) {
                    Ok([alone]) => vec![carrying(alone)],
                    Err(several) => several,
                };
                let key = key.map(|key| format!("k{}", key % 3));
                let body = json!({ "messages": messages, "idempotency_key": key }).to_string();
                format!(
                    "POST /publish HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
                     Authorization: Bearer {}\r\nContent-Length: {}\r\n\r\n{body}",
                    token_text(Token::Admin),
                    body.len()
                )
            }
        };
        if let Some(client) = self.clients.get_mut(&id) {
            // On an open connection these bytes are frames of some kind.
            client.wild = true;
        }
        self.bytes(id, request.as_bytes());
    }

    fn bytes(&mut self, id: ConnId, bytes: &[u8]) {
        // A driver leaves bytes in the socket while they are not wanted; a dead id is tried all the same.
        if self.clients.contains_key(&id) && !self.hub(id).wants_read(id) {
            return;
        }
        let now = self.now;
        self.hub(id).handle_bytes(now, id, &mut bytes.to_vec());
    }

    fn publication(&mut self, channel: u8, wide: bool) -> Publication {
        let (channel, n) = (channel_name(channel), self.published.len());
        let pad = if wide { "x".repeat(700) } else { String::new() };
        self.published.push(channel.to_owned());
        let data = Bytes::from(json!({ "n": n, "pad": pad }).to_string());
        Publication::new(channel, "e", data)
    }

    fn command(&mut self, shard: u8, command: Command) {
        let shard = usize::from(shard) % self.hubs.len();
        self.hubs[shard].handle_command(self.now, command);
    }

    fn answer(&mut self, which: u8, how: Answer) {
        if self.questions.is_empty() {
            return;
        }
        let at = usize::from(which) % self.questions.len();
        // Sometimes the question stays on the list, and is answered again.
        let (shard, id, _) = self.questions[at];
        if which < 200 {
            self.questions.remove(at);
        }
        let whose = self.whose.contains(&(shard, id));
        let authenticated = |outcome| Command::Authenticated { id, outcome };
        let refusal = |by| Authentication::Refuse(Refusal { denial: Denial::Forbidden, by });
        let command = match how {
            // The wrong answer, once in a while.
            _ if whose && which % 8 == 7 => Command::Decide { id, allow: true },
            Answer::Data if whose => {
                let claims = Claims { user: Some("vouched".into()), ..Claims::default() };
                authenticated(Authentication::Access { claims: Box::new(claims), data: None })
            }
            Answer::NotAnObject if whose => Command::Failed(Handler::Authenticate(id)),
            Answer::Error if whose => authenticated(refusal(RefusedBy::Close)),
            Answer::Allow if whose => authenticated(Authentication::Pass),
            Answer::Deny if whose => authenticated(refusal(RefusedBy::Status)),
            Answer::Data => Command::Reply { id, result: Ok(Bytes::from_static(b"{\"a\":1}")) },
            Answer::NotAnObject => Command::Reply { id, result: Ok(Bytes::from_static(b"[1]")) },
            Answer::Error => {
                let error =
                    RequestError { code: "NOT_FOUND".into(), message: "no \"such\"".into() };
                Command::Reply { id, result: Err(error) }
            }
            Answer::Allow => Command::Decide { id, allow: true },
            Answer::Deny => Command::Decide { id, allow: false },
        };
        self.hubs[shard].handle_command(self.now, command);
    }

    fn reload(&mut self, setup: &Setup) {
        // It is by far the most expensive operation, and many in a row show nothing new.
        self.reloads += 1;
        if self.reloads > RELOADS_MAX {
            return;
        }
        self.ever_open |= !setup.auth || setup.asks_whose();
        if setup.slow != self.setup.slow {
            self.slow = None;
        }
        self.setup.small_outbox &= setup.small_outbox;
        // Whether there is a store is settled once and for all.
        let store = self.setup.has_store();
        let config = Arc::new(Config { store, ..config(setup) });
        for hub in &mut self.hubs {
            hub.handle_command(self.now, Command::Reload(config.clone()));
        }
    }

    fn drain(&mut self, seconds: u8) {
        self.drains = true;
        let window = Duration::from_secs(u64::from(seconds % 8));
        let plan = DrainPlan {
            window,
            deadline: window + Duration::from_secs(20),
            ..DrainPlan::default()
        };
        for hub in &mut self.hubs {
            hub.handle_command(self.now, Command::Drain(plan));
        }
    }

    fn wait(&mut self, time: Time) {
        let step = match time {
            Time::Millis(millis) => Duration::from_millis(millis.into()),
            Time::Seconds(seconds) => Duration::from_secs(seconds.into()),
            Time::Deadline => {
                let at = self.hubs.iter().filter_map(Hub::poll_timeout).map(|next| next.at).min();
                at.map_or(Duration::ZERO, |at| at.saturating_duration_since(self.now.mono))
            }
        };
        self.now = self.now.plus(step);
        self.time_out();
    }

    fn time_out(&mut self) {
        for hub in &mut self.hubs {
            hub.handle_timeout(self.now);
            let next = hub.poll_timeout();
            assert!(next.is_none_or(|next| next.at > self.now.mono), "what was due is still due");
        }
    }

    /// One hub's turn.
    fn turn(&mut self, shard: usize) {
        turn(
            self,
            self.now,
            |rig| &mut rig.hubs[shard],
            |rig, output| rig.on_output(shard, output),
            |rig, id| rig.flush(id),
        );
    }

    fn on_output(&mut self, shard: usize, output: Output) {
        match output {
            Output::Request { id, conn, .. } | Output::Authorize { id, conn, .. } => {
                assert!(self.all.contains(&conn), "a question of nobody");
                assert!(!self.questions.iter().any(|(at, known, _)| (*at, *known) == (shard, id)));
                self.questions.push((shard, id, conn));
            }
            Output::Authenticate { id, conn, .. } => {
                assert!(self.all.contains(&conn), "a question of nobody");
                assert!(!self.told.contains_key(&conn), "a question about who is in");
                self.questions.push((shard, id, conn));
                self.whose.insert((shard, id));
            }
            Output::Refreshed { conn, .. } => {
                assert_eq!(self.told.get(&conn), Some(&true), "another token of nobody");
            }
            Output::Connected { conn, .. } => {
                assert!(self.told.insert(conn, true).is_none(), "connected twice");
            }
            Output::Disconnected { conn, .. } => {
                assert_eq!(
                    self.told.insert(conn, false),
                    Some(true),
                    "disconnected twice, or never connected"
                );
            }
            Output::Metrics { conn } => {
                let text = Bytes::from_static(b"# nothing\n");
                self.hubs[shard].handle_command(self.now, Command::Exposition { conn, text });
            }
            Output::Statistics => unreachable!("no configuration here has statistics"),
            Output::Done { id, .. } => {
                let waits = self.commands.get_mut(id.0 as usize).expect("a command of ours");
                assert!(std::mem::replace(waits, false), "done twice");
            }
            Output::Audit { .. } | Output::ClockSet { .. } | Output::ManyChannels { .. } => {}
            Output::Shard { to, batch } => {
                assert!(!batch.is_empty() && usize::from(to.0) != shard);
                self.mail.entry((shard as u16, to.0)).or_default().push_back(batch);
            }
            Output::Looked { .. } | Output::Sessions { .. } => {}
            Output::Handled { id, result } => self.on_handled(shard, id, &result),
            Output::Subscribed { conn, channel } => {
                assert!(self.heard.insert((conn, channel)), "in a channel twice");
            }
            Output::Unsubscribed { conn, channel, .. } => {
                assert!(self.heard.remove(&(conn, channel)), "out of a channel, and never in it");
            }
            Output::Store(command) => self.store.take(shard, command),
            Output::Bus(_) => unreachable!("no configuration here has a bus"),
            Output::Drained => {
                // Those that were left at the deadline are gone without a word of their own.
                assert_eq!(self.hubs[shard].sockets(), 0);
                self.clients.retain(|id, _| usize::from(id.shard().0) != shard);
            }
        }
    }

    fn carry(&mut self, way: (u16, u16)) {
        let Some(batch) = self.mail.get_mut(&way).and_then(VecDeque::pop_front) else { return };
        self.hubs[usize::from(way.1)].handle_shard(self.now, ShardId(way.0), batch);
    }

    /// The store answers the append that has waited longest.
    fn answer_stored(&mut self, kept: bool) {
        if let Some((shard, id)) = self.store.answer(kept) {
            self.hubs[shard].handle_store(self.now, StoreEvent::Appended { id, kept });
        }
    }

    fn flush(&mut self, id: ConnId) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let hub = &mut self.hubs[usize::from(id.shard().0)];
        let before = client.written;
        let flush = hub.flush(self.now, id, client);
        self.digest.write_usize(client.written - before);
        if !client.ended {
            let auth = !self.ever_open;
            let kept = self.setup.has_store().then(|| self.store.kept());
            client.read(&Rules { auth, slow: self.slow, published: &self.published, kept });
            self.sessions.append(&mut client.sessions);
            self.positions.append(&mut client.positions);
        }
        if flush == Flush::Closed {
            self.clients.remove(&id);
        }
    }

    /// What holds after every step.
    fn check(&self) {
        for (at, hub) in self.hubs.iter().enumerate() {
            let here = |id: &&ConnId| usize::from(id.shard().0) == at;
            if hub.sockets() == 0 && self.drains {
                // The deadline has come; the driver is told in the hub's next turn.
                continue;
            }
            assert_eq!(hub.sockets(), self.clients.keys().filter(here).count());
            for id in self.clients.keys().filter(here) {
                let (bytes, own) = hub.queued(*id).expect("every socket has its connection");
                let max = if self.setup.small_outbox { SMALL_OUTBOX_MAX } else { OUTBOX_MAX };
                let shared = bytes.saturating_sub(own);
                assert!(shared <= max, "{bytes} bytes wait, {own} of them answers");
                assert!(own <= WATERMARK + ANSWERS_MAX, "{own} bytes of answers wait");
            }
        }
    }

    /// Brings everything to rest: nothing may be left.
    pub(super) fn finish(&mut self, ending: Ending) {
        match ending {
            Ending::HangUp => {
                for id in self.clients.keys().copied().collect::<Vec<_>>() {
                    self.clients.entry(id).and_modify(|client| client.room = None);
                    let now = self.now;
                    self.hub(id).handle_eof(now, id);
                }
            }
            Ending::Silence => self.clients.values_mut().for_each(|client| client.room = Some(0)),
            Ending::Listen => self.clients.values_mut().for_each(|client| client.room = None),
            Ending::Drain { seconds } => self.drain(seconds),
        }
        let end = self.now.plus(DEADLINES);
        for _ in 0..ROUNDS_MAX {
            self.come_to_rest();
            self.check();
            let Some(at) = self.hubs.iter().filter_map(Hub::poll_timeout).map(|next| next.at).min()
            else {
                break;
            };
            if at > end.mono {
                break;
            }
            self.now = self.now.plus(at.saturating_duration_since(self.now.mono));
            self.time_out();
        }
        assert!(self.clients.is_empty(), "left after {DEADLINES:?}: {:?}", self.clients.keys());
        for hub in &self.hubs {
            let held = hub.holdings();
            assert_eq!(
                (
                    held.sockets,
                    held.open,
                    held.channels,
                    held.homes,
                    held.questions,
                    held.publishes,
                    held.sessions
                ),
                (0, 0, 0, 0, 0, 0, 0),
                "{held:?}"
            );
            assert_eq!(hub.connections(), 0);
        }
        assert!(
            self.told.values().all(|connected| !connected),
            "the application was not told of an end"
        );
        assert!(self.heard.is_empty(), "the application was not told of all that have left");
        assert!(self.direct.is_answered(), "a command about a connection was not answered");
        assert!(self.commands.iter().all(|waits| !waits), "a command was not done");
    }

    /// Turns and messages until nothing is under way.
    fn come_to_rest(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let ids: Vec<ConnId> = self.clients.keys().copied().collect();
            ids.into_iter().for_each(|id| self.flush(id));
            (0..self.hubs.len()).for_each(|shard| self.turn(shard));
            let ways: Vec<_> = self
                .mail
                .iter()
                .filter(|(_, batches)| !batches.is_empty())
                .map(|(way, _)| *way)
                .collect();
            if ways.is_empty() && self.store.is_idle() {
                return;
            }
            self.answer_stored(true);
            ways.into_iter().for_each(|way| self.carry(way));
        }
        panic!("the hubs do not come to rest");
    }

    pub(super) fn pick(&self, which: u8) -> Option<ConnId> {
        let count = self.all.len();
        (count > 0).then(|| self.all[usize::from(which) % count])
    }

    pub(super) fn hub(&mut self, id: ConnId) -> &mut Hub {
        &mut self.hubs[usize::from(id.shard().0)]
    }
}

fn config(setup: &Setup) -> Config {
    let slow = match setup.slow {
        Slow::Disconnect => SlowPolicy::Disconnect,
        Slow::Gap => SlowPolicy::Gap,
        Slow::Latest => SlowPolicy::Latest,
    };
    let mut config = Config {
        limits: limits(setup),
        anonymous_publish: AnonymousPublish::Anywhere,
        slow_readers: SlowReaders { default: slow, rules: Vec::new() },
        ..Config::default()
    };
    config.limits.sessions.session_window = Duration::from_secs(20);
    config.auth.required = setup.auth;
    config.auth.keys.add_secret(None, SECRET).expect("a strong secret");
    config.compat.offsets = true;
    config.hooks.requests.insert("get_status".into());
    config.hooks.authorize_subscribe = setup.ask_subscribe;
    config.hooks.authorize_publish = setup.ask_publish;
    config.hooks.lifecycle = true;
    config.hooks.subscriptions = true;
    config.hooks.authenticate = setup.asks_whose();
    config.hooks.introduce = setup.asks_whose();
    config.store = setup.has_store();
    config
}

fn limits(setup: &Setup) -> Limits {
    Limits {
        wire: wire::Limits {
            message_bytes_max: 4096,
            outbox_read_watermark: WATERMARK,
            ..wire::Limits::default()
        },
        connections: limits::Connections {
            connections_max: 6,
            sockets_max: 8,
            messages_per_second: None,
            ..limits::Connections::default()
        },
        auth: limits::Auth { pings_before_auth_max: 2, ..limits::Auth::default() },
        channels: limits::Channels {
            channels_per_connection_max: 3,
            channels_max: 4,
            ..limits::Channels::default()
        },
        delivery: limits::Delivery {
            outbox_bytes_max: if setup.small_outbox { SMALL_OUTBOX_MAX } else { OUTBOX_MAX },
            round_bytes_max: if setup.small_round { 512 } else { 64 * 1024 },
            ..limits::Delivery::default()
        },
        requests: limits::Requests { requests_in_flight_max: 2, ..limits::Requests::default() },
        publishing: limits::Publishing {
            publishes_in_flight_max: 3,
            idempotency_keys_max: 2,
            ..limits::Publishing::default()
        },
        ..Limits::default()
    }
}

fn message(publication: &Publication) -> Value {
    let data: Value = serde_json::from_slice(&publication.data).expect("our data");
    json!({ "channel": publication.channel, "event": "e", "data": data })
}

/// The same, with something besides the message now and then: by its number, so that scripts stay as they are.
fn carrying(mut message: Value) -> Value {
    let n = message["data"]["n"].as_u64().unwrap_or_default();
    if n % 4 == 1 {
        message["state"] = json!({ "n": n });
    }
    if n % 8 == 5 {
        message["if_offset"] = json!(n / 8 % 3);
    }
    if n % 8 == 3 {
        message["idempotency_key"] = json!(format!("k{}", n % 3));
    }
    message
}

pub(super) fn channel_name(which: u8) -> &'static str {
    CHANNELS[usize::from(which) % CHANNELS.len()]
}

fn token_text(token: Token) -> &'static str {
    match token {
        Token::Admin => &TOKENS.0,
        Token::Reader => &TOKENS.1,
        Token::Wrong => "e30.e30.e30",
    }
}

/// Signed once: an administrator's token and a reader's.
static TOKENS: LazyLock<(String, String)> = LazyLock::new(|| {
    let token = |user, permissions| {
        let spec = TokenSpec {
            user: Some(user),
            permissions,
            issued_at: START_UNIX,
            ..TokenSpec::default()
        };
        auth::issue(SECRET, &spec).expect("a token")
    };
    (token("ada", &["admin"]), token("rob", &["workflow:read"]))
});

const SECRET: &[u8] = b"a secret of at least thirty-two bytes, for tests";
pub(super) const CHANNELS: [&str; 5] = ["workflow:1", "workflow:2", "pool:1", "global", "a"];
const OUTBOX_MAX: usize = 1024 * 1024;
const SMALL_OUTBOX_MAX: usize = 2048;
const WATERMARK: usize = 4096;
/// Answers to one read: a script's longest input is far below what makes more than this.
const ANSWERS_MAX: usize = 16 * 1024;
/// Head, idle, ping, pong, request, close and linger deadlines, one after the other, and then some.
const DEADLINES: Duration = Duration::from_secs(600);
const ROUNDS_MAX: usize = 1000;
const RELOADS_MAX: u32 = 2;
