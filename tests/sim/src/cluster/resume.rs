//! Clients that keep a session, lose their connection, and go on at whatever node they come to.

use serde_json::Value;

use super::{
    client::{Client, Pending},
    options::ClusterOptions,
    oracle::Oracle,
};
use crate::{
    clock::{Nanos, SECOND},
    random::Random,
    swarm::channel_name,
};

/// What such a client knows, beyond the end of its connections.
#[derive(Debug)]
pub(super) struct Keeping {
    is_on: bool,
    /// The session that it has or had.
    session: Option<String>,
    /// This connection has it.
    has: bool,
    /// Channels that must be in it, if nothing goes wrong.
    sure: Vec<u64>,
    random: Random,
}

impl Keeping {
    pub(super) fn new(index: usize, options: &ClusterOptions) -> Self {
        let mut random = Random::new(options.seed, 300 + index as u64);
        let is_on = random.chance(options.sessions_pm);
        Self { is_on, session: None, has: false, sure: Vec::new(), random }
    }

    /// Whether another connection of its own may have its session.
    pub(super) fn may_be_taken(&self) -> bool {
        self.session.is_some()
    }

    /// Whether it is about to say what is to become of its session, and waits with everything else.
    pub(super) fn is_settled(&self) -> bool {
        !self.is_on || self.has
    }
}

impl Client {
    /// Its connection is gone: what is in its session, which was kept before.
    pub(super) fn leave_behind(&mut self, now: Nanos) {
        let keeping = &mut self.keeping;
        if !std::mem::take(&mut keeping.has) {
            return;
        }
        let old = |since: Option<Nanos>| since.is_some_and(|since| since + SECOND < now);
        let leaves = |channel: u64| {
            let leaves = |it: &Pending| matches!(it, Pending::Unsubscribe(of) if *of == channel);
            self.pending.values().any(leaves)
        };
        let sure = self.members.iter();
        let sure = sure.filter(|(channel, member)| old(member.since) && !leaves(**channel));
        keeping.sure = sure.map(|(channel, _)| *channel).collect();
    }

    /// What is to be done about its session. True: nothing else is to be done now.
    pub(super) fn tend_session(&mut self) -> bool {
        if self.keeping.is_settled() {
            return false;
        }
        if self.pending.values().any(|it| matches!(it, Pending::Resume)) {
            return true;
        }
        if self.pending.values().any(|it| matches!(it, Pending::Keep)) {
            return false;
        }
        let Some(session) = self.keeping.session.clone() else {
            if self.keeping.random.chance(300) {
                self.ask(Pending::Keep, |id| {
                    format!(
                        r#"{{"type":"request","event":"keep_session","id":"{id}","data":{{"ttl":{TTL}}}}}"#
                    )
                    .into_bytes()
                });
            }
            return false;
        };
        let position = |(channel, at): (&u64, &super::oracle::Position)| {
            let (name, epoch, offset) = (channel_name(*channel), &at.epoch, at.offset);
            format!(r#""{name}":{{"epoch":"{epoch}","offset":{offset}}}"#)
        };
        let positions: Vec<_> = self.left_off.iter().map(position).collect();
        let positions = positions.join(",");
        self.ask(Pending::Resume, |id| {
            format!(
                r#"{{"type":"request","event":"resume_session","id":"{id}","data":{{"session":"{session}","positions":{{{positions}}}}}}}"#
            )
            .into_bytes()
        });
        true
    }

    /// A session is kept.
    pub(super) fn on_kept(&mut self, data: &Value, oracle: &mut Oracle) {
        let who = self.index;
        let session = data["session"].as_str().filter(|_| data["ttl"] == TTL);
        if session.is_none() {
            oracle.fail("sessions", || format!("client {who} keeps {data}"));
        }
        self.keeping.session = session.map(str::to_owned);
        self.keeping.has = true;
    }

    /// A session was resumed.
    pub(super) fn on_resumed(&mut self, data: &Value, oracle: &mut Oracle) {
        let who = self.index;
        oracle.resumed[0] += 1;
        self.keeping.has = true;
        self.attending.named(&data["connection_id"]);
        let mut missing = std::mem::take(&mut self.keeping.sure);
        for entry in data["subscriptions"].as_array().into_iter().flatten() {
            let name = entry["channel"].as_str().unwrap_or_default();
            let channel = name.rsplit(':').next().and_then(|number| number.parse().ok());
            let Some(channel) = channel else {
                return oracle.fail("sessions", || format!("client {who} resumed {data}"));
            };
            missing.retain(|sure| *sure != channel);
            // It subscribes again by itself.
            if entry.get("error").is_none() {
                let since = self.left_off.get(&channel).cloned();
                let since = since.filter(|_| entry.get("epoch").is_some());
                let member = self.members.entry(channel).or_default();
                oracle.started(member, since.as_ref(), entry, who);
                self.attending.doubt(channel);
            }
        }
        if oracle.is_calm && !missing.is_empty() {
            oracle.fail("sessions", || format!("client {who} had {missing:?}, resumed {data}"));
        }
    }

    pub(super) fn on_not_resumed(&mut self, message: &Value, oracle: &mut Oracle) {
        let who = self.index;
        match message["error_code"].as_str().unwrap_or_default() {
            "SESSION_UNKNOWN" if oracle.loses_data => {
                oracle.resumed[1] += 1;
                self.keeping.session = None;
            }
            // It tries again.
            "RATE_LIMIT_EXCEEDED" | "SERVER_ERROR" => {}
            _ => oracle.fail("sessions", || format!("client {who}: not resumed: {message}")),
        }
    }
}

/// For so many seconds a session waits: longer than anybody is away.
const TTL: u64 = 60;
