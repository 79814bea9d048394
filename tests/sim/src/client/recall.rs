//! Clients that know where they are: they ask for positions, come back and recover what they missed, and read history.

use serde_json::Value;

use super::{Client, Pending, Wishes, attend::TOO_MANY_MEMBERS};
use crate::{
    oracle::{Gap, Id, Look, Oracle, Side, Since, Wish},
    swarm::{Options, channel_name},
};

/// What such a client remembers, beyond the end of its connections.
#[derive(Debug)]
pub(crate) struct Memory {
    /// By channel: the log in which it was, and the offset of the last message that it has.
    left_off: Vec<Option<(u32, u64)>>,
    /// Gaps that it wants to fill: channel, log, and the number before the first message lost.
    holes: Vec<(u64, u32, u64)>,
}

impl Memory {
    pub(super) fn new(options: &Options) -> Self {
        Self { left_off: vec![None; options.channels as usize], holes: Vec::new() }
    }
}

/// Subscribing.
impl Client {
    /// Asks for a channel in one of the ways of this client.
    pub(super) fn subscribe(
        &mut self,
        options: &Options,
        channel: u64,
        oracle: &mut Oracle,
        wishes: &mut Wishes,
    ) {
        let open = self.pending.values().any(|of| of.membership() == Some(channel));
        if self.attending.is_on() && open {
            // Nothing changes by that, whatever comes of what it has asked for.
            return self.subscribe_plainly(channel, wishes);
        }
        let wish = if self.positions { self.wish(options, channel, oracle) } else { None };
        match (wish, self.attendance(options, channel)) {
            (None, None) => self.subscribe_plainly(channel, wishes),
            (wish, presence) => {
                let plain = Wish { asked: oracle.asked(channel), ..Wish::default() };
                let wish = Wish { presence, ..wish.unwrap_or(plain) };
                self.subscribe_with(options, channel, wish, oracle, wishes);
            }
        }
    }

    fn subscribe_with(
        &mut self,
        options: &Options,
        channel: u64,
        wish: Wish,
        oracle: &mut Oracle,
        wishes: &mut Wishes,
    ) {
        let name = channel_name(channel);
        let mut data = format!(r#""channel":"{name}""#);
        if let Some(Since { log, offset, id }) = wish.since {
            let epoch = log.map_or(NO_EPOCH, |log| oracle.epoch(channel, log));
            data += &format!(r#","recover":{{"epoch":"{epoch}","offset":{offset}"#);
            let known = log.and_then(|log| oracle.id_of(channel, log, offset));
            match (id, known) {
                (Id::Right, Some(known)) => {
                    data += &format!(r#","id":"{}""#, String::from_utf8_lossy(known));
                }
                (Id::Wrong, _) => data += &format!(r#","id":"{NO_ID}""#),
                (Id::Right, None) | (Id::Absent, _) => {}
            }
            data.push('}');
        } else if wish.positions {
            data += r#","positions":true"#;
        }
        if let Some(count) = wish.rewind {
            data += &format!(r#","rewind":{count}"#);
        }
        if wish.strict {
            data += r#","strict":true"#;
        }
        if let Some(by) = wish.presence {
            data += &format!(r#","presence":{}"#, by.to_text(options.info_bytes));
            self.asks_to_attend(channel, by, oracle);
        }
        self.ask(
            Pending::Start(channel, wish),
            |id| {
                format!(r#"{{"type":"request","event":"subscribe","id":"{id}","data":{{{data}}}}}"#)
                    .into_bytes()
            },
            wishes,
        );
    }

    /// What it asks for besides the channel; `None`: nothing.
    fn wish(&mut self, options: &Options, channel: u64, oracle: &Oracle) -> Option<Wish> {
        let roll = self.recall.below(1000);
        let member = &self.members[channel as usize];
        let here = member.position().filter(|_| member.on);
        let left_off = here.or(self.memory.left_off[channel as usize]);
        let asked = oracle.asked(channel);
        let plain = Wish { asked, positions: true, ..Wish::default() };
        let rewind = self.recall.chance(100).then(|| self.recall.range(1, 30));
        let strict = !self.healing && self.recall.chance(100);
        let Some((log, offset)) = left_off else {
            return match roll {
                0..100 if options.rewinds(channel) == 0 => None,
                100..200 => Some(Wish { positions: false, rewind: Some(roll - 99), ..plain }),
                200..500 => Some(Wish { rewind: Some(self.recall.range(0, 200)), ..plain }),
                500..550 => {
                    let since = Some(Since { log: None, offset: roll % 3, id: Id::Absent });
                    Some(Wish { since, strict, rewind, ..plain })
                }
                _ => Some(plain),
            };
        };
        let id = match self.recall.below(20) {
            0..10 => Id::Absent,
            10 if !self.healing => Id::Wrong,
            _ => Id::Right,
        };
        let since = Since { log: Some(log), offset, id };
        let since = match roll {
            0..50 => Since { offset: self.recall.below(offset + 1), ..since },
            50..80 => {
                Since { offset: offset + self.recall.range(1, 1_000), id: Id::Absent, ..since }
            }
            80..100 => Since { log: None, id: Id::Absent, ..since },
            _ => since,
        };
        let since = Some(since).filter(|_| !(100..120).contains(&roll));
        Some(Wish { since, rewind, strict: strict && since.is_some(), ..plain })
    }

    /// A subscription that asked for something was confirmed.
    pub(super) fn on_started(
        &mut self,
        channel: u64,
        wish: &Wish,
        correlation: u64,
        data: &Value,
        oracle: &mut Oracle,
    ) {
        // Who leaves takes back what the server has not carried out yet, and is told so in the least words.
        let (left, answered) = self.left[channel as usize];
        let taken_back = match (wish.positions, wish.presence) {
            (true, _) => data.get("epoch").is_none(),
            (_, Some(_)) => data.get("presence").is_none(),
            (false, None) => correlation < answered,
        };
        if correlation < left && taken_back {
            return;
        }
        let member = &mut self.members[channel as usize];
        member.answered = member.answered.max(correlation);
        oracle.started(member, channel, wish, data, self.index);
        self.remember(channel);
        self.on_attended(channel, wish.presence, data, oracle);
    }

    /// Where it left off in a channel.
    pub(super) fn left_off(&self, channel: u64) -> Option<(u32, u64)> {
        self.memory.left_off[channel as usize]
    }

    /// A subscription that asked for something was refused.
    pub(super) fn on_not_started(
        &mut self,
        channel: u64,
        wish: &Wish,
        correlation: u64,
        message: &Value,
        oracle: &mut Oracle,
    ) {
        let who = self.index;
        if let Some(by) = wish.presence {
            self.on_not_attended(channel, (by, wish.asked.at), message, oracle);
        }
        if message["error_message"] == TOO_MANY_MEMBERS {
            // Whichever was asked for last: what its home was asked for is answered in the order in which it was done.
            return self.leaves(channel, correlation, oracle);
        }
        if message["error_code"] != "NOT_RECOVERED" {
            // Whether it still is a subscriber, if it was one, it does not know.
            self.doubt(channel);
            return;
        }
        let text = message["error_message"].as_str().unwrap_or_default();
        let reason = text.rsplit(": ").next().unwrap_or_default();
        oracle.declined(channel, wish, reason, who);
        let member = &mut self.members[channel as usize];
        oracle.check_beginning(member, who);
        member.on = false;
        self.memory.left_off[channel as usize] = None;
        self.attending.set(channel, None);
    }

    /// Keeps in mind where it is in a channel.
    pub(super) fn remember(&mut self, channel: u64) {
        let member = &self.members[channel as usize];
        if let Some(position) = member.position().filter(|_| member.on) {
            self.memory.left_off[channel as usize] = Some(position);
        }
    }

    pub(super) fn on_gap(&mut self, data: &Value, oracle: &mut Oracle) {
        let channel =
            data["channel"].as_str().and_then(|name| name.split(':').nth(1)?.parse().ok());
        let numbers = ["lost", "first_offset", "last_offset"].map(|field| data[field].as_u64());
        let member = channel.and_then(|channel: usize| self.members.get_mut(channel));
        let position = data["epoch"].as_str().zip(data["offset"].as_u64());
        match (channel, member, numbers) {
            (Some(channel), Some(member), [Some(lost), Some(first), Some(last)])
                if position.is_none() || data["reason"] == "slow" =>
            {
                let gap = Gap { lost, first, last, position };
                oracle.gap(member, channel as u64, gap, self.index);
                if let Some(log) = member.log.filter(|_| self.memory.holes.len() < HOLES_MAX) {
                    self.memory.holes.push((channel as u64, log, first - 1));
                }
            }
            _ => oracle.fail("content", || format!("client {} got a gap {data}", self.index)),
        }
    }
}

/// Reading.
impl Client {
    /// Reads what it missed, or anything.
    pub(super) fn look(&mut self, options: &Options, oracle: &Oracle, wishes: &mut Wishes) {
        if self.pending.values().any(|pending| matches!(pending, Pending::Look(..))) {
            return;
        }
        let limit = self.recall.chance(500).then(|| self.recall.below(60));
        if let Some((channel, log, offset)) = self.memory.holes.pop() {
            return self.ask_history(channel, Side::After { log, offset }, None, oracle, wishes);
        }
        if !self.recall.chance(options.look_pm) {
            return;
        }
        let channel = self.recall.below(options.channels);
        let top = oracle.asked(channel).top();
        let side = match (self.recall.below(4), self.memory.left_off[channel as usize]) {
            (0, _) => Side::Before(self.recall.below(top + 3)),
            (1..3, Some((log, offset))) => {
                Side::After { log, offset: self.recall.below(offset + 2) }
            }
            (_, _) => Side::Last,
        };
        self.ask_history(channel, side, limit, oracle, wishes);
    }

    fn ask_history(
        &mut self,
        channel: u64,
        side: Side,
        limit: Option<u64>,
        oracle: &Oracle,
        wishes: &mut Wishes,
    ) {
        let name = channel_name(channel);
        let mut data = format!(r#""channel":"{name}""#);
        match side {
            Side::After { log, offset } => {
                let epoch = oracle.epoch(channel, log);
                data += &format!(r#","after":{{"epoch":"{epoch}","offset":{offset}}}"#);
            }
            Side::Before(offset) => data += &format!(r#","before":{offset}"#),
            Side::Last => {}
        }
        if let Some(limit) = limit {
            data += &format!(r#","limit":{limit}"#);
        }
        let look = Look { asked: oracle.asked(channel), side, limit };
        self.ask(
            Pending::Look(channel, look),
            |id| {
                format!(
                    r#"{{"type":"request","event":"get_history","id":"{id}","data":{{{data}}}}}"#
                )
                .into_bytes()
            },
            wishes,
        );
    }

    pub(super) fn on_history(
        &self,
        options: &Options,
        channel: u64,
        look: &Look,
        data: &Value,
        oracle: &mut Oracle,
    ) {
        let who = self.index;
        if !self.may_subscribe(options, channel) {
            oracle.fail("permission", || format!("client {who} may not read {channel}"));
        }
        oracle.history(channel, look, data, who);
    }

    pub(super) fn on_no_history(
        &self,
        options: &Options,
        channel: u64,
        look: &Look,
        code: &str,
        oracle: &mut Oracle,
    ) {
        let who = self.index;
        match code {
            "NOT_RECOVERED" => oracle.history_refused(channel, look, who),
            "FORBIDDEN" if options.ask_subscribe == 0 && self.may_subscribe(options, channel) => {
                oracle.fail("permission", || format!("client {who} may read {channel}"));
            }
            _ => {}
        }
    }
}

/// No channel of any world has this one.
const NO_EPOCH: &str = "0000000000";
const NO_ID: &str = "00000000-0000-0000-0000-000000000000";

/// Gaps that a client wants to fill at once.
const HOLES_MAX: usize = 4;
