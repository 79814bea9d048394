//! Clients that keep a session: they lose their connection, come back and go on where they were, or too late.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Client, Kind, Pending, Phase, Wishes};
use crate::{
    clock::MILLI,
    oracle::{Estate, Id, Oracle, Since, Wish},
    random::Random,
    swarm::{Options, channel_name},
};

/// What such a client knows, beyond the end of its connections.
#[derive(Debug)]
pub(crate) struct Keeping {
    is_on: bool,
    /// The session that it has, had, or wants.
    pub(crate) session: Option<usize>,
    /// This connection has it.
    has: bool,
    /// Channels that it has from its session without knowing how.
    doubtful: Vec<u64>,
    /// It stays away until then.
    away_until: u64,
    random: Random,
}

impl Keeping {
    pub(super) fn new(options: &Options, index: usize) -> Self {
        let mut random = Random::new(options.seed, 4_000_000 + index as u64);
        Self {
            is_on: random.chance(options.sessions_pm),
            session: None,
            has: false,
            doubtful: Vec::new(),
            away_until: 0,
            random,
        }
    }

    /// Whether it does not want to come back yet.
    pub(crate) fn is_away(&self, now: u64) -> bool {
        now < self.away_until
    }
}

impl Client {
    /// Whose it is.
    pub(crate) fn user(&self, options: &Options) -> Option<&'static str> {
        (options.auth == 1).then_some(USERS[self.index % USERS.len()])
    }

    /// What is to be done about its session. True: nothing else is to be done now.
    pub(super) fn tend_session(
        &mut self,
        options: &Options,
        oracle: &mut Oracle,
        wishes: &mut Wishes,
    ) -> bool {
        if !self.keeping.is_on {
            return false;
        }
        if self.pending.values().any(|pending| matches!(pending, Pending::Resume(..))) {
            return true;
        }
        for channel in std::mem::take(&mut self.keeping.doubtful) {
            self.unsubscribe(channel, wishes);
        }
        let keeps = self.pending.values().any(|pending| matches!(pending, Pending::Keep(..)));
        let fresh = !self.keeping.has && !keeps && !self.members.iter().any(|member| member.on);
        let idle = fresh && !self.pending.values().any(|pending| pending.membership().is_some());
        if let Some(session) = self.keeping.session.filter(|_| idle) {
            self.resume(options, session, oracle, wishes);
            return true;
        }
        if self.healing {
            return false;
        }
        let roll = self.keeping.random.below(1000);
        // Who has a session is not let have another one, whoever's it is.
        if roll < options.thief_pm * if self.keeping.has { 1 } else { 10 } {
            let user = self.user(options);
            let pick = self.keeping.random.next();
            let same = pick.is_multiple_of(3);
            match oracle.session_of(same, user, pick >> 8) {
                Some(session) if same && idle && self.keeping.session.is_none() => {
                    self.keeping.session = Some(session);
                    self.resume(options, session, oracle, wishes);
                    return true;
                }
                // A connection that has a session asks for none that is somebody else's either.
                other => {
                    let id = other.filter(|_| !same).map(|session| oracle.session_id(session));
                    let id = id.unwrap_or(NO_SESSION).to_owned();
                    self.send_resume(Pending::Thief, &id, "", wishes);
                    return true;
                }
            }
        }
        let again = self.keeping.has && self.keeping.random.chance(20);
        let first = !self.keeping.has && !keeps && self.keeping.random.chance(300);
        if first || again {
            self.keep(options, oracle, wishes);
        }
        false
    }

    fn keep(&mut self, options: &Options, oracle: &mut Oracle, wishes: &mut Wishes) {
        let ttl = self.keeping.random.chance(500).then(|| self.keeping.random.range(1, 3));
        if let Some(session) = self.keeping.session.filter(|_| self.keeping.has) {
            oracle.asks_to_keep_on(session, ttl);
        } else if options.session_ms > 0 {
            oracle.asks_to_keep(self.link.unwrap_or_default(), &self.attending.name);
        }
        let data = ttl.map(|ttl| format!(r#""ttl":{ttl}"#)).unwrap_or_default();
        self.ask(
            Pending::Keep(ttl),
            |id| {
                format!(
                    r#"{{"type":"request","event":"keep_session","id":"{id}","data":{{{data}}}}}"#
                )
                .into_bytes()
            },
            wishes,
        );
    }

    fn resume(
        &mut self,
        options: &Options,
        session: usize,
        oracle: &mut Oracle,
        wishes: &mut Wishes,
    ) {
        let id = oracle.session_id(session).to_owned();
        oracle.claims(session, self.link.unwrap_or_default());
        let position = |(channel, (log, offset)): (&u64, &(u32, u64))| {
            let (name, epoch) = (channel_name(*channel), oracle.epoch(*channel, *log));
            format!(r#""{name}":{{"epoch":"{epoch}","offset":{offset}}}"#)
        };
        let positions: Vec<String> = self.all_left_off(options).iter().map(position).collect();
        let more = format!(r#","positions":{{{}}}"#, positions.join(","));
        let asked = oracle.now;
        self.send_resume(Pending::Resume(session, asked), &id, &more, wishes);
    }

    /// Where it says that it left off: in no more channels than a connection may have.
    fn all_left_off(&self, options: &Options) -> BTreeMap<u64, (u32, u64)> {
        let channels = (0..options.channels).filter(|_| self.positions);
        let positions = channels.filter_map(|channel| Some((channel, self.left_off(channel)?)));
        positions.take(options.channels_per_connection as usize).collect()
    }

    fn send_resume(&mut self, pending: Pending, id: &str, more: &str, wishes: &mut Wishes) {
        self.ask(
            pending,
            |correlation| {
                format!(
                    r#"{{"type":"request","event":"resume_session","id":"{correlation}","data":{{"session":"{id}"{more}}}}}"#
                )
                .into_bytes()
            },
            wishes,
        );
    }

    pub(super) fn on_kept(
        &mut self,
        options: &Options,
        ttl: Option<u64>,
        data: &Value,
        oracle: &mut Oracle,
    ) {
        let (who, user) = (self.index, self.user(options));
        let link = self.link.unwrap_or_default();
        if self.keeping.has {
            let known = self.keeping.session.map(|session| oracle.session_id(session));
            if known != data["session"].as_str() {
                oracle.fail("sessions", || format!("client {who} has another session: {data}"));
            }
        }
        let session = oracle.kept((link, &self.attending.name), user, ttl, data, who);
        (self.keeping.session, self.keeping.has) = (session, session.is_some());
    }

    pub(super) fn on_not_kept(&self, options: &Options, message: &Value, oracle: &mut Oracle) {
        let who = self.index;
        let code = message["error_code"].as_str().unwrap_or_default();
        let full = message["error_message"] == "Too many sessions on this server";
        match code {
            "UNKNOWN_REQUEST" if options.session_ms == 0 => {}
            "RATE_LIMIT_EXCEEDED" if full => oracle.sessions_full(who),
            "RATE_LIMIT_EXCEEDED" | "SERVER_ERROR" => {}
            "AUTH_FAILED" if self.brief => {}
            // It wants one that is not its own.
            "CONFLICT" | "SESSION_UNKNOWN" if !self.keeping.has && options.thief_pm > 0 => {}
            _ => oracle.fail("sessions", || format!("client {who}: not kept: {message}")),
        }
    }

    /// A session was resumed.
    pub(super) fn on_resumed(
        &mut self,
        options: &Options,
        (session, asked): (usize, u64),
        data: &Value,
        oracle: &mut Oracle,
    ) {
        let (who, user) = (self.index, self.user(options));
        let link = self.link.unwrap_or_default();
        let name = data["connection_id"].as_str().unwrap_or_default().to_owned();
        let estate = oracle.session_granted((session, link), user, asked, &name, who);
        self.attending.name = name;
        self.keeping.has = true;
        let positions = self.all_left_off(options);
        let empty = Vec::new();
        let told = data["subscriptions"].as_array().unwrap_or(&empty);
        let mut channels = Vec::new();
        for entry in told {
            let name = entry["channel"].as_str().unwrap_or_default();
            let channel = (0..options.channels).find(|channel| oracle.name(*channel) == name);
            let Some(channel) = channel.filter(|channel| !channels.contains(channel)) else {
                return oracle.fail("sessions", || format!("client {who} resumed {data}"));
            };
            channels.push(channel);
            let position = positions.get(&channel).copied();
            self.on_resumed_channel(options, (channel, position), asked, entry, oracle);
            let had = estate.as_ref().and_then(|estate| estate.attended(channel));
            if self.members[channel as usize].on {
                match had {
                    Some(by) => self.attending.set(channel, by),
                    None => {
                        self.attending.doubt(channel);
                        self.keeping.doubtful.push(channel);
                    }
                }
            }
        }
        let Some(Estate { sure, perhaps, doubtful: _ }) = estate else { return };
        let lost = sure.keys().find(|channel| !channels.contains(channel));
        let more = channels.iter().find(|of| !sure.contains_key(of) && !perhaps.contains(of));
        if lost.is_some() || more.is_some() {
            oracle.fail("sessions", || {
                format!("client {who} had {sure:?}, perhaps {perhaps:?}, and resumed {data}")
            });
        }
    }

    fn on_resumed_channel(
        &mut self,
        options: &Options,
        (channel, position): (u64, Option<(u32, u64)>),
        asked_at: u64,
        entry: &Value,
        oracle: &mut Oracle,
    ) {
        let who = self.index;
        let allowed = self.may_subscribe(options, channel);
        if let Some(code) = entry["error"].as_str() {
            if code == "FORBIDDEN" && allowed && options.ask_subscribe == 0 {
                oracle.fail("permission", || format!("client {who} may see {channel}"));
            }
            // What may stand against a subscription; the time to recover is over for nobody, who does not insist.
            if !matches!(code, "FORBIDDEN" | "SERVER_ERROR" | "RATE_LIMIT_EXCEEDED" | "AUTH_FAILED")
            {
                oracle.fail("sessions", || format!("client {who}, {channel}: {entry}"));
            }
            return;
        }
        if !allowed {
            oracle.fail("permission", || format!("client {who} may not see {channel}"));
        }
        let asked = oracle.asked_at(channel, asked_at);
        let member = &mut self.members[channel as usize];
        match (position, entry.get("epoch").is_some()) {
            (None, false) if entry["recovered"] == false => oracle.rejoined(member),
            (position, true) => {
                let since =
                    position.map(|(log, offset)| Since { log: Some(log), offset, id: Id::Absent });
                let wish = Wish { asked, positions: true, since, ..Wish::default() };
                let mut told = entry.clone();
                if since.is_none()
                    && entry["recovered"] == false
                    && let Some(told) = told.as_object_mut()
                {
                    // It says so to who gave no position too.
                    told.remove("recovered");
                }
                oracle.started(member, channel, &wish, &told, who);
            }
            _ => oracle.fail("sessions", || {
                format!("client {who}, {channel}, from {position:?}: {entry}")
            }),
        }
        self.remember(channel);
    }

    pub(super) fn on_not_resumed(&mut self, session: usize, message: &Value, oracle: &mut Oracle) {
        let (who, link) = (self.index, self.link.unwrap_or_default());
        match message["error_code"].as_str().unwrap_or_default() {
            "SESSION_UNKNOWN" => {
                oracle.session_denied(session, link, who);
                self.keeping.session = None;
            }
            // It tries again.
            "RATE_LIMIT_EXCEEDED" | "SERVER_ERROR" => oracle.claim_failed(session, link),
            // It has asked for another one meanwhile.
            "CONFLICT" => oracle.claim_failed(session, link),
            "AUTH_FAILED" if self.brief => oracle.claim_failed(session, link),
            _ => oracle.fail("sessions", || format!("client {who}: not resumed: {message}")),
        }
    }

    /// What is not its own was refused, as it must be.
    pub(super) fn on_not_stolen(&self, options: &Options, message: &Value, oracle: &mut Oracle) {
        let who = self.index;
        match message["error_code"].as_str().unwrap_or_default() {
            "SESSION_UNKNOWN" | "RATE_LIMIT_EXCEEDED" | "SERVER_ERROR" | "CONFLICT" => {}
            "UNKNOWN_REQUEST" if options.session_ms == 0 => {}
            "AUTH_FAILED" if self.brief => {}
            _ => oracle.fail("sessions", || format!("client {who}: not stolen: {message}")),
        }
    }

    /// Its connection is gone, and what it has of a session stays behind.
    pub(super) fn leave_behind(&mut self, oracle: &mut Oracle) {
        let link = self.link.unwrap_or_default();
        for pending in self.pending.values() {
            if let Pending::Resume(session, _) = pending {
                oracle.shake(*session);
            }
        }
        self.keeping.doubtful.clear();
        if !std::mem::take(&mut self.keeping.has) {
            return;
        }
        let Some(session) = self.keeping.session else { return };
        let mut estate = Estate::default();
        for channel in 0..self.members.len() as u64 {
            let open = self.pending.values().any(|of| of.membership() == Some(channel));
            let is_on = self.members[channel as usize].on;
            if open || self.unsure.contains(&channel) {
                estate.perhaps.insert(channel);
            } else if is_on {
                estate.sure.insert(channel, self.attending.by(channel));
                if self.attending.is_doubtful(channel) {
                    estate.doubtful.insert(channel);
                }
            }
        }
        oracle.bequeath(session, link, estate);
        if self.close_text_is_elsewhere {
            // It is somebody else's now.
            self.keeping.session = None;
        }
        let most = oracle.longest_ttl(session) / MILLI;
        let roll = self.keeping.random.below(10);
        if !self.healing && roll < 4 && most < 10_000 {
            let time = self.keeping.random.below(most * 3 / 2 + 1);
            self.keeping.away_until = oracle.now + time * MILLI;
        }
    }

    /// The connection breaks, in one of many ways.
    pub(super) fn break_perhaps(
        &mut self,
        options: &Options,
        oracle: &mut Oracle,
        wishes: &mut Wishes,
    ) {
        if !self.keeping.has || self.phase != Phase::Open || self.kind == Kind::Hostile {
            return;
        }
        if !self.keeping.random.chance(options.break_pm) || wishes.fin || wishes.reset {
            return;
        }
        match self.keeping.random.below(6) {
            0 | 1 => (wishes.reset, self.eager) = (true, true),
            2 => wishes.reset = true,
            3 => {
                wishes.fin = true;
                self.said_all = true;
            }
            _ => {
                let code = self.keeping.random.pick(&[1000, 1001, 3000, 4999]);
                self.say_goodbye(code, oracle, wishes);
            }
        }
    }

    /// Closes of its own accord.
    pub(super) fn say_goodbye(&mut self, code: u16, oracle: &mut Oracle, wishes: &mut Wishes) {
        self.phase = Phase::Closing;
        oracle.said_close(self.link.unwrap_or_default(), code);
        self.send_frame(8, &code.to_be_bytes(), wishes);
    }
}

/// Whose clients are.
pub(crate) const USERS: [&str; 2] = ["someone", "another"];

/// None has this name.
const NO_SESSION: &str = "00000000000000000000000000000000";
