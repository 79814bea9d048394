//! Clients: they subscribe, publish, come and go, and keep all rules.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    attend::{Attending, Wish},
    options::ClusterOptions,
    oracle::{Member, Oracle, Position},
    queue::Audit,
    resume::Keeping,
};
use crate::{
    clock::Nanos,
    frame, http,
    message::{self, Number},
    random::Random,
    swarm::channel_name,
};

#[derive(Debug)]
pub(super) enum Pending {
    Subscribe(u64, Option<Position>, Option<Wish>),
    Unsubscribe(u64),
    Publish(Number),
    /// Of the members of a channel.
    List(u64),
    /// To attend a channel that it has from its session.
    Attend(u64, Wish),
    Keep,
    Resume,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Away,
    Head,
    Greeting,
    Open,
}

#[derive(Debug)]
pub(super) struct Client {
    pub(super) index: usize,
    pub(super) random: Random,
    pub(super) positions: bool,
    wanted: Vec<u64>,
    phase: Phase,
    /// Which of its connections.
    pub(super) session: u64,
    /// Node and hub of it.
    pub(super) at: (usize, usize),
    pub(super) members: BTreeMap<u64, Member>,
    pub(super) left_off: BTreeMap<u64, Position>,
    pub(super) pending: BTreeMap<u64, Pending>,
    correlation: u64,
    partial: Vec<u8>,
    pub(super) out: Vec<u8>,
    pub(super) healing: bool,
    /// Its session was taken: this connection is over.
    is_sent_away: bool,
    pub(super) attending: Attending,
    pub(super) keeping: Keeping,
    /// It does nothing but listen to all channels, and what it has heard.
    pub(super) audit: Option<Box<Audit>>,
}

impl Client {
    /// One that listens to everything with positions, and leaves by no will of its own.
    pub(super) fn listener(index: usize, options: &ClusterOptions) -> Self {
        let quiet =
            ClusterOptions { positions_pm: 1_000, attend_pm: 0, sessions_pm: 0, ..options.clone() };
        let wanted = (0..options.channels).collect();
        Self { wanted, audit: Some(Box::default()), ..Self::new(index, &quiet) }
    }

    pub(super) fn new(index: usize, options: &ClusterOptions) -> Self {
        let mut random = Random::new(options.seed, 100 + index as u64);
        let positions = random.chance(options.positions_pm);
        let wanted = (0..options.channels).filter(|_| random.chance(700)).collect();
        Self {
            index,
            random,
            positions,
            wanted,
            phase: Phase::Away,
            session: 0,
            at: (0, 0),
            members: BTreeMap::new(),
            left_off: BTreeMap::new(),
            pending: BTreeMap::new(),
            correlation: 0,
            partial: Vec::new(),
            out: Vec::new(),
            healing: false,
            is_sent_away: false,
            attending: Attending::new(index, options),
            keeping: Keeping::new(index, options),
            audit: None,
        }
    }

    pub(super) fn is_away(&self) -> bool {
        self.phase == Phase::Away
    }

    /// Whether it is subscribed to all that it wants, and nothing is open.
    pub(super) fn is_settled(&self) -> bool {
        let on = |channel| self.members.get(channel).is_some_and(|member| member.on);
        self.phase == Phase::Open
            && self.pending.is_empty()
            && self.keeping.is_settled()
            && self.wanted.iter().all(on)
    }

    /// What it has not got.
    pub(super) fn lacks(&self) -> String {
        let has = |(channel, it): (&u64, &Member)| {
            (*channel, it.on, it.position.as_ref().map(|at| at.offset), it.last)
        };
        let on: Vec<_> = self.members.iter().map(has).collect();
        let Self { index, at, phase, wanted, pending, .. } = self;
        format!("client {index} at {at:?}, {phase:?}, wants {wanted:?}, has {on:?}, {pending:?}")
    }

    pub(super) fn connect(&mut self, at: (usize, usize)) {
        self.session += 1;
        self.at = at;
        self.phase = Phase::Head;
        self.out = http::handshake(None);
    }

    /// Its connection is gone.
    pub(super) fn lost(&mut self, now: Nanos) {
        self.leave_behind(now);
        for (channel, member) in std::mem::take(&mut self.members) {
            self.left_off.extend(member.position.map(|position| (channel, position)));
        }
        self.phase = Phase::Away;
        self.session += 1;
        self.pending.clear();
        self.attending.forget();
        self.partial.clear();
        self.out.clear();
    }

    /// It is time to do something. Whether it leaves.
    pub(super) fn wake(&mut self, options: &ClusterOptions, oracle: &mut Oracle) -> bool {
        if std::mem::take(&mut self.is_sent_away) {
            return true;
        }
        if self.phase != Phase::Open {
            return false;
        }
        if self.tend_session() {
            return !self.healing && self.random.chance(options.reset_pm);
        }
        for channel in self.wanted.clone() {
            let asked = self
                .pending
                .values()
                .any(|it| matches!(it, Pending::Subscribe(of, ..) if *of == channel));
            let on = self.members.get(&channel).is_some_and(|member| member.on);
            if !asked && !on {
                self.subscribe(channel, oracle);
            } else if on && !self.healing && self.attending.leaves() {
                self.unsubscribe(channel);
            }
        }
        if self.audit.is_some() {
            return false;
        }
        self.attend_again(oracle);
        self.ask_for_list();
        if !self.healing && self.random.chance(options.publish_pm) {
            self.publish(options, oracle);
        }
        !self.healing && self.random.chance(options.reset_pm)
    }

    fn subscribe(&mut self, channel: u64, oracle: &mut Oracle) {
        let name = channel_name(channel);
        let since = self.left_off.get(&channel).filter(|_| self.positions).cloned();
        let more = match &since {
            Some(Position { epoch, offset, id }) => {
                let id = id.as_ref().map(|id| format!(r#","id":"{id}""#)).unwrap_or_default();
                format!(r#","recover":{{"epoch":"{epoch}","offset":{offset}{id}}}"#)
            }
            None if self.positions => r#","positions":true"#.to_owned(),
            None => String::new(),
        };
        let wish = self.attending.wish(channel, oracle);
        let presence = wish.map(Wish::to_text).unwrap_or_default();
        let ask = |id: u64| {
            format!(
                r#"{{"type":"request","event":"subscribe","id":"{id}","data":{{"channel":"{name}"{more}{presence}}}}}"#
            )
        };
        self.ask(Pending::Subscribe(channel, since, wish), |id| ask(id).into_bytes());
    }

    fn unsubscribe(&mut self, channel: u64) {
        let asked = |it: &Pending| matches!(it, Pending::Unsubscribe(of) if *of == channel);
        if self.pending.values().any(asked) {
            return;
        }
        let name = channel_name(channel);
        self.ask(Pending::Unsubscribe(channel), |id| {
            format!(
                r#"{{"type":"request","event":"unsubscribe","id":"{id}","data":{{"channel":"{name}"}}}}"#
            )
            .into_bytes()
        });
    }

    fn publish(&mut self, options: &ClusterOptions, oracle: &mut Oracle) {
        let channel = self.random.below(options.channels);
        for _ in 0..self.random.range(1, options.burst_max) {
            let padding = self.random.below(options.padding_max + 1) as usize;
            let number = oracle.publish(channel, padding);
            let mut data = Vec::new();
            message::write_data(&mut data, channel, number, padding);
            let name = channel_name(channel);
            self.ask(Pending::Publish(number), |id| message::publish(&name, &data, id));
        }
    }

    pub(super) fn ask(&mut self, pending: Pending, text: impl Fn(u64) -> Vec<u8>) {
        self.correlation += 1;
        self.pending.insert(self.correlation, pending);
        let mask = (self.random.next() as u32).to_be_bytes();
        frame::write(&mut self.out, 1, &text(self.correlation), mask);
    }

    /// Bytes of the server.
    pub(super) fn receive(&mut self, bytes: &[u8], oracle: &mut Oracle) {
        let mut all = std::mem::take(&mut self.partial);
        all.extend_from_slice(bytes);
        let mut used = 0;
        loop {
            let rest = &all[used..];
            match self.phase {
                Phase::Away => return,
                Phase::Head => {
                    let Some(answer) = http::read(rest) else { break };
                    used += answer.len;
                    let status = answer.status;
                    if status != 101 {
                        oracle.fail("answers", || format!("client {}: {status}", self.index));
                    }
                    self.phase = Phase::Greeting;
                }
                Phase::Greeting | Phase::Open => match frame::read(rest) {
                    Ok(Some((opcode, payload, len))) => {
                        let payload = payload.to_vec();
                        used += len;
                        self.on_frame(opcode, &payload, oracle);
                    }
                    Ok(None) => break,
                    Err(what) => {
                        oracle.fail("framing", || format!("client {} got {what}", self.index));
                        return;
                    }
                },
            }
        }
        self.partial = all.split_off(used);
    }

    fn on_frame(&mut self, opcode: u8, payload: &[u8], oracle: &mut Oracle) {
        let who = self.index;
        match opcode {
            1 => match message::read_delivery(payload) {
                Some(event) => {
                    let member = self.members.entry(event.channel).or_default();
                    oracle.delivered(member, &event, who);
                    if let Some(audit) = &mut self.audit {
                        audit.numbers.insert(event.number);
                    }
                }
                None => self.on_message(payload, oracle),
            },
            8 => {
                let text = String::from_utf8_lossy(payload).into_owned();
                // A connection from before has asked for the session, too, and was heard later.
                if text.ends_with("Resumed elsewhere") && self.keeping.may_be_taken() {
                    self.is_sent_away = true;
                    return;
                }
                // So much comes while a session's channels are read one after the other that there is no room for it.
                if text.ends_with("Reading too slowly") && self.keeping.may_be_taken() {
                    self.is_sent_away = true;
                    return;
                }
                oracle.fail("blame", || format!("client {who} was closed: {text}"));
            }
            9 => {
                let mask = (self.random.next() as u32).to_be_bytes();
                frame::write(&mut self.out, 10, payload, mask);
            }
            _ => {}
        }
    }

    fn on_message(&mut self, text: &[u8], oracle: &mut Oracle) {
        let who = self.index;
        let Ok(message) = serde_json::from_slice::<Value>(text) else {
            return oracle.fail("content", || format!("client {who} got no JSON"));
        };
        if message["event"] == "session.created" {
            self.phase = Phase::Open;
            self.attending.named(&message["data"]["connection_id"]);
            return;
        }
        if message["event"] == "channel.gap" {
            let name = message["data"]["channel"].as_str().unwrap_or_default();
            let channel = name.rsplit(':').next().and_then(|number| number.parse().ok());
            if let (Some(audit), Some(channel)) = (&mut self.audit, channel) {
                audit.misses(channel);
            }
            let member = self.members.entry(channel.unwrap_or(u64::MAX)).or_default();
            return oracle.missing(member, &message["data"], who);
        }
        if let Some(event) = message["event"].as_str().filter(|it| it.starts_with("presence.")) {
            return self.on_presence(event, &message, oracle);
        }
        let id = message["correlation_id"].as_str().and_then(|id| id.parse::<u64>().ok());
        let Some(pending) = id.and_then(|id| self.pending.remove(&id)) else {
            return oracle.fail("answers", || format!("client {who} got {message}"));
        };
        let data = &message["data"];
        let refused = message["type"] == "error";
        let why = message["error_message"].as_str().unwrap_or_default();
        match pending {
            Pending::Subscribe(channel, since, wish) if !refused => {
                let member = self.members.entry(channel).or_default();
                oracle.started(member, since.as_ref(), data, who);
                if let Some(audit) = &mut self.audit {
                    audit.starts(channel, data["recovered"] == true);
                }
                if let Some(wish) = wish {
                    self.attending.begin(channel, wish);
                }
            }
            Pending::Unsubscribe(channel) if !refused => {
                let member = self.members.remove(&channel);
                let position = member.and_then(|member| member.position);
                self.left_off.extend(position.map(|position| (channel, position)));
                self.attending.end(channel);
            }
            Pending::List(channel) if !refused => self.on_list(channel, data, oracle),
            Pending::Attend(channel, wish) if !refused => {
                // It begins anew at what is told.
                let member = self.members.entry(channel).or_default();
                oracle.started(member, None, data, who);
                self.attending.begin(channel, wish);
            }
            Pending::Keep if !refused => self.on_kept(data, oracle),
            Pending::Resume if !refused => self.on_resumed(data, oracle),
            Pending::Resume => self.on_not_resumed(&message, oracle),
            Pending::Unsubscribe(_) | Pending::List(_) | Pending::Attend(..) | Pending::Keep => {}
            // It asks again.
            Pending::Subscribe(..) => {}
            Pending::Publish(number) if !refused => {
                let place = data["epoch"].as_str().zip(data["offset"].as_u64());
                oracle.published(number, place);
            }
            Pending::Publish(_) if why.contains("not known") => oracle.unsure(),
            Pending::Publish(number) => oracle.refused(number),
        }
    }
}
