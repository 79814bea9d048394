//! What channels keep, as far as clients can know it: which event has which number in which life of a channel, and what a
//! server may say about that.
//!
//! What is kept cannot be known exactly from outside, only bounded: of a message one knows when it was sent and when
//! somebody first saw it, so that there are times at which it must still be kept and times at which it must not be any more.

use serde_json::Value;

use super::{Attendance, Membership, Oracle};
use crate::{
    clock::{MILLI, Nanos},
    message::{self, ID_BYTES, Number},
    swarm::Keep,
};

/// One life of a channel's numbers.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) epoch: String,
    /// By offset, from 1 on.
    numbers: Vec<Option<Number>>,
    /// The highest offset that somebody was told.
    top: u64,
    /// When it was first asked for, and first told.
    asked_at: Nanos,
    told_at: Nanos,
    /// When it certainly was in force.
    pub(super) alive_at: Nanos,
    /// In which life of the process it was first asked for.
    life: usize,
}

/// What was known when something was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) at: Nanos,
    /// Of which life of the process.
    pub(super) life: usize,
    /// The channel's latest log, and where it stood.
    pub(super) log: Option<u32>,
    top: u64,
}

impl Asked {
    pub(crate) fn top(self) -> u64 {
        self.top
    }
}

/// What a subscription asks for besides its channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) asked: Asked,
    pub(crate) positions: bool,
    pub(crate) since: Option<Since>,
    pub(crate) rewind: Option<u64>,
    pub(crate) strict: bool,
    pub(crate) presence: Option<Attendance>,
}

/// Where a client left off, or says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Since {
    /// `None`: an epoch that no channel has had.
    pub(crate) log: Option<u32>,
    pub(crate) offset: u64,
    pub(crate) id: Id,
}

/// The `id` that a client says its last event had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Id {
    Absent,
    Right,
    Wrong,
}

/// A request for history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) asked: Asked,
    pub(crate) side: Side,
    pub(crate) limit: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    After { log: u32, offset: u64 },
    Before(u64),
    Last,
}

/// A gap as it was announced.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gap<'a> {
    pub(crate) lost: u64,
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// For who has positions.
    pub(crate) position: Option<(&'a str, u64)>,
}

/// What is known.
impl Oracle {
    /// What is known of a channel at the moment.
    pub(crate) fn asked(&self, channel: u64) -> Asked {
        let logs = &self.logs[channel as usize];
        let life = self.ledger.life();
        let there = |(_, log): &(usize, &Log)| self.is_there(channel, log, life);
        let log = logs.iter().enumerate().filter(there).max_by_key(|(_, log)| log.asked_at);
        Asked {
            at: self.now,
            life,
            log: log.map(|(at, _)| at as u32),
            top: log.map_or(0, |(_, log)| log.top),
        }
    }

    /// The same, for something that was asked before, when more may have been known of it than now.
    pub(crate) fn asked_at(&self, channel: u64, at: Nanos) -> Asked {
        let logs = &self.logs[channel as usize];
        let before = logs.iter().enumerate().filter(|(_, log)| log.told_at < at);
        let log = before.max_by_key(|(_, log)| log.asked_at);
        let life = self.ledger.life();
        Asked { at, life, log: log.map(|(at, _)| at as u32), top: 0 }
    }

    pub(crate) fn epoch(&self, channel: u64, log: u32) -> &str {
        &self.logs[channel as usize][log as usize].epoch
    }

    /// The `id` of an event, if somebody has seen it.
    pub(crate) fn id_of(&self, channel: u64, log: u32, offset: u64) -> Option<&[u8; ID_BYTES]> {
        let number = self.number_of(channel, log, offset)?;
        self.publications[number as usize].id.as_ref()
    }

    fn number_of(&self, channel: u64, log: u32, offset: u64) -> Option<Number> {
        let numbers = &self.logs[channel as usize][log as usize].numbers;
        *numbers.get(offset.checked_sub(1)? as usize)?
    }

    /// Whether a log may be in force in this life of the process, as far as stores are concerned.
    pub(super) fn is_there(&self, channel: u64, log: &Log, life: usize) -> bool {
        self.ledger.outlives(self.name(channel), &log.epoch, (log.life, life))
    }

    /// The log that an answer names. A channel's numbers begin anew only if there was a reason.
    pub(super) fn log_of(&mut self, channel: u64, epoch: &str, asked: Asked, who: usize) -> u32 {
        let (now, index) = (self.now, channel as usize);
        let found = self.logs[index].iter().position(|log| log.epoch == epoch);
        let at = found.unwrap_or_else(|| {
            let there = self.logs[index].iter();
            let there = there.filter(|log| self.is_there(channel, log, asked.life));
            let before = there.map(|log| log.alive_at).max();
            let long_ago = now >= asked.at + self.options.position_keep_ms * MILLI;
            if before.is_some_and(|alive| !self.may_be_over(channel, alive)) && !long_ago {
                self.fail("epoch", || {
                    format!("client {who}: channel {channel} begins anew as {epoch}, why?")
                });
            }
            self.logs[index].push(Log {
                epoch: epoch.to_owned(),
                numbers: Vec::new(),
                top: 0,
                asked_at: asked.at,
                told_at: now,
                alive_at: asked.at,
                life: asked.life,
            });
            self.logs[index].len() - 1
        });
        let first_told = self.logs[index][at].told_at;
        let is_newer =
            |log: &Log| log.epoch != epoch && log.asked_at > first_told && asked.at > log.told_at;
        let mut there =
            self.logs[index].iter().filter(|log| self.is_there(channel, log, asked.life));
        if there.any(is_newer) {
            self.fail("epoch", || format!("client {who}: {epoch} of {channel} has come back"));
        }
        let log = &mut self.logs[index][at];
        log.life = log.life.min(asked.life);
        if !self.is_there(channel, &self.logs[index][at], asked.life) {
            self.fail("epoch", || {
                format!("client {who}: {epoch} of {channel} was not in the store and is back")
            });
        }
        let log = &mut self.logs[index][at];
        log.alive_at = log.alive_at.max(asked.at);
        at as u32
    }

    /// A log's top was told.
    pub(super) fn top_of(&mut self, channel: u64, log: u32, top: u64, asked: Asked, who: usize) {
        let known = &mut self.logs[channel as usize][log as usize];
        known.top = known.top.max(top);
        if asked.log == Some(log) && top < asked.top && !self.may_number_again(channel) {
            self.fail("epoch", || {
                format!("client {who}: channel {channel} goes back from {} to {top}", asked.top)
            });
        }
    }

    /// An event has this number, for everybody and for ever.
    pub(super) fn agree(
        &mut self,
        channel: u64,
        log: u32,
        offset: u64,
        (number, id): (Number, &[u8; ID_BYTES]),
        who: usize,
    ) {
        self.stands(channel, log, offset, number, who);
        let Some(publication) = self.publications.get_mut(number as usize) else { return };
        if publication.id.get_or_insert(*id) != id {
            self.fail("agreement", || {
                format!("client {who}: {number} of {channel} has another id")
            });
        }
    }

    /// An event has this number: where only that is told, perhaps before the event's round is sealed.
    pub(super) fn stands(
        &mut self,
        channel: u64,
        log: u32,
        offset: u64,
        number: Number,
        who: usize,
    ) {
        if offset == 0 {
            return self.fail("agreement", || format!("client {who}: {number} is 0 of {channel}"));
        }
        let again = self.may_number_again(channel);
        let known = &mut self.logs[channel as usize][log as usize];
        let at = offset as usize - 1;
        if known.numbers.len() <= at {
            known.numbers.resize(at + 1, None);
        }
        known.top = known.top.max(offset);
        let there = *known.numbers[at].get_or_insert(number);
        let Some(publication) = self.publications.get_mut(number as usize) else { return };
        known.alive_at = known.alive_at.max(publication.sent_at);
        let place = *publication.place.get_or_insert((log, offset));
        let kept = publication.kept.as_ref();
        let as_kept = kept.is_none_or(|(epoch, at)| (&**epoch, *at) == (&*known.epoch, offset));
        let is_so = there == number && place == (log, offset) && as_kept;
        if !is_so && !again {
            let epoch = known.epoch.clone();
            self.fail("agreement", || {
                format!(
                    "client {who}: {number} is {offset} of {channel} in {epoch}; others have {there} there, or {number} at {place:?}, as it is kept: {as_kept}"
                )
            });
        }
    }
}

/// What may have happened.
impl Oracle {
    /// Whether a channel that certainly existed at `alive_at` may have been forgotten since.
    pub(super) fn may_be_over(&self, channel: u64, alive_at: Nanos) -> bool {
        self.generations(channel).any(Keep::is_off)
            || self.may_evict()
            || alive_at + self.options.position_keep_ms * MILLI <= self.now
    }

    /// Whether there may have been more than can be kept of all channels.
    pub(super) fn may_evict(&self) -> bool {
        let homes = self.options.channels * HOME_BYTES_MAX;
        self.weight + homes > self.options.keep_bytes
    }

    /// What the configurations so far keep of a channel.
    pub(super) fn generations(&self, channel: u64) -> impl Iterator<Item = Keep> {
        (0..=self.generation).map(move |generation| self.options.keep(channel, generation))
    }

    /// Whether a message may not be kept any more when the channel stands at `top`.
    fn may_be_gone(&self, channel: u64, log: u32, offset: u64, top: u64) -> bool {
        let sent_at = self
            .number_of(channel, log, offset)
            .map_or(0, |number| self.publications[number as usize].sent_at);
        let over = |keep: Keep| {
            keep.is_off()
                || (top + 1).saturating_sub(offset) > keep.messages
                || sent_at + keep.ms * MILLI <= self.now
        };
        self.generations(channel).any(over)
            || self.may_evict()
            || self.may_have_aged(sent_at)
            // A round is dropped as a whole.
            || self.bytes(channel, log, offset, top, true) + self.options.round_bytes
                > self.options.keep_channel_bytes
    }

    /// Whether a message cannot be kept any more, neither when this was asked nor later.
    fn must_be_gone(&self, channel: u64, log: u32, offset: u64, top: u64, asked: Asked) -> bool {
        let seen_at = self
            .number_of(channel, log, offset)
            .and_then(|number| self.publications[number as usize].seen_at);
        let restart = self.ledger.last_restart();
        let over = |keep: Keep| {
            keep.is_off()
                || (top + 1).saturating_sub(offset) > keep.messages
                // What comes back after a restart is kept for as long again.
                || seen_at.is_some_and(|seen| seen.max(restart) + keep.ms * MILLI < asked.at)
        };
        self.generations(channel).all(over)
            || self.bytes(channel, log, offset, top, false) > self.options.keep_channel_bytes
    }

    /// Bytes that a part of a log counts for: at most, or at least.
    fn bytes(&self, channel: u64, log: u32, first: u64, last: u64, most: bool) -> u64 {
        let name = self.name(channel);
        let own = if most { ENTRY_BYTES_MAX } else { 0 };
        let bytes = |offset: u64| {
            let numbered = Some(offset).filter(|_| self.offsets);
            match self.number_of(channel, log, offset) {
                Some(number) => {
                    let padding = self.publications[number as usize].padding.into();
                    message::frame_bytes(name, channel, number, padding, numbered)
                }
                None if most => {
                    let padding = self.options.padding_max;
                    message::frame_bytes(name, channel, Number::MAX, padding, numbered)
                }
                None => 0,
            }
        };
        (first.max(1)..=last).map(|offset| bytes(offset) + own).sum()
    }
}

/// What subscribers are told.
impl Oracle {
    /// A subscription that asked for something was confirmed.
    pub(crate) fn started(
        &mut self,
        member: &mut Membership,
        channel: u64,
        wish: &Wish,
        answer: &Value,
        who: usize,
    ) {
        let answered = member.answered;
        let fresh = Membership { on: true, since: self.now, answered, ..Membership::default() };
        self.check_beginning(member, who);
        if !wish.positions {
            let rewound = wish.rewind.is_some() || self.options.rewinds(channel) > 0;
            *member = Membership { rewound, ..fresh };
            if answer.get("epoch").is_some() {
                self.fail("content", || {
                    format!("client {who} did not ask for positions: {answer}")
                });
            }
            return;
        }
        let (Some(epoch), Some(top)) = (answer["epoch"].as_str(), answer["offset"].as_u64()) else {
            return self.fail("recovery", || format!("client {who} got {answer} for {wish:?}"));
        };
        let log = self.log_of(channel, epoch, wish.asked, who);
        self.top_of(channel, log, top, wish.asked, who);
        let promised = match self.check_start(channel, log, top, wish, answer) {
            Ok(promised) => promised,
            Err(what) => {
                self.fail("recovery", || {
                    format!("client {who}, channel {channel}: {what}: {answer} for {wish:?}")
                });
                0
            }
        };
        *member = Membership {
            log: Some(log),
            expected: Some(top + 1 - promised),
            promised,
            live_from: top + 1,
            ..fresh
        };
    }

    /// Whether what a subscription is told is true: how many messages it is promised.
    fn check_start(
        &self,
        channel: u64,
        log: u32,
        top: u64,
        wish: &Wish,
        answer: &Value,
    ) -> Result<u64, &'static str> {
        let offs = self.generations(channel).filter(|keep| keep.is_off()).count() as u64;
        match answer["recoverable"].as_bool() {
            Some(true) if offs <= self.generation => {}
            Some(false) if offs > 0 => {}
            _ => return Err("recoverable"),
        }
        let promised = match (wish.since, answer["recovered"].as_bool()) {
            (None, None) => None,
            (Some(since), Some(true)) => {
                let missed = answer["missed"].as_u64().ok_or("how many?")?;
                self.check_recovered(channel, log, top, since, missed, wish.asked)?;
                Some(missed)
            }
            (Some(since), Some(false)) => {
                let reason = answer["reason"].as_str().unwrap_or_default();
                if answer.get("missed").is_some() {
                    return Err("none were missed");
                }
                self.check_lost(channel, log, top, since, reason)?;
                None
            }
            _ => return Err("recovered"),
        };
        match (wish.rewind.filter(|_| promised.is_none()), answer["rewound"].as_u64()) {
            (None, None) => Ok(promised.unwrap_or(0)),
            (Some(count), Some(rewound)) => {
                let most = count.min(self.options.recover_max).min(top);
                if rewound > most {
                    return Err("more than was asked for");
                }
                if rewound < most && !self.may_be_gone(channel, log, top - rewound, top) {
                    return Err("there is more");
                }
                if rewound > 0
                    && self.must_be_gone(channel, log, top + 1 - rewound, top, wish.asked)
                {
                    return Err("so many are not kept");
                }
                Ok(rewound)
            }
            _ => Err("rewound"),
        }
    }

    fn check_recovered(
        &self,
        channel: u64,
        log: u32,
        top: u64,
        since: Since,
        missed: u64,
        asked: Asked,
    ) -> Result<(), &'static str> {
        if since.log != Some(log) {
            return Err("that is another epoch");
        }
        if since.offset + missed != top {
            return Err("a wrong number");
        }
        if missed > self.options.recover_max {
            return Err("too many");
        }
        if since.id == Id::Wrong
            && since.offset > 0
            && !self.may_be_gone(channel, log, since.offset, top)
        {
            return Err("that is another event");
        }
        if missed > 0 && self.must_be_gone(channel, log, since.offset + 1, top, asked) {
            return Err("that is not kept any more");
        }
        if self.generations(channel).all(Keep::is_off) {
            return Err("nothing is kept");
        }
        Ok(())
    }

    fn check_lost(
        &self,
        channel: u64,
        log: u32,
        top: u64,
        since: Since,
        reason: &str,
    ) -> Result<(), &'static str> {
        let here = since.log == Some(log);
        let holds = match reason {
            "off" => self.generations(channel).any(Keep::is_off),
            "epoch" => !here,
            "ahead" => here && since.offset > top,
            "diverged" => here && since.id == Id::Wrong,
            "trimmed" => here && self.may_be_gone(channel, log, since.offset + 1, top),
            "too_many" => here && top - since.offset > self.options.recover_max,
            _ => false,
        };
        if holds { Ok(()) } else { Err("that is not so") }
    }

    /// A subscription that insisted was refused for the `reason`.
    pub(crate) fn declined(&mut self, channel: u64, wish: &Wish, reason: &str, who: usize) {
        let Some(since) = wish.since.filter(|_| wish.strict) else {
            return self.fail("recovery", || format!("client {who} did not insist: {wish:?}"));
        };
        // Where the channel stands is not told: as much as was ever published may be before it.
        let most = self.published[channel as usize];
        let holds = match (reason, since.log) {
            ("off", _) => self.generations(channel).any(Keep::is_off),
            ("epoch", None) => true,
            ("epoch", Some(log)) => {
                let known = &self.logs[channel as usize][log as usize];
                self.may_be_over(channel, known.alive_at)
                    || wish.asked.log != Some(log)
                    || !self.is_there(channel, known, wish.asked.life)
            }
            ("ahead", Some(log)) => {
                wish.asked.log.is_some_and(|known| known != log)
                    || since.offset > wish.asked.top
                    || self.may_number_again(channel)
            }
            ("diverged", Some(_)) => since.id == Id::Wrong,
            ("trimmed", Some(log)) => {
                self.may_be_gone(channel, log, since.offset + 1, most.max(since.offset))
            }
            ("too_many", Some(_)) => most > since.offset + self.options.recover_max,
            _ => false,
        };
        if !holds {
            self.fail("recovery", || {
                format!("client {who}, channel {channel}: refused, {reason}, for {wish:?}")
            });
        }
    }

    /// Where a gap leaves who has positions.
    pub(super) fn check_gap(
        &mut self,
        member: &Membership,
        channel: u64,
        gap: Gap<'_>,
        who: usize,
    ) {
        let told = member.log.map(|log| (self.epoch(channel, log), gap.last));
        if told != gap.position {
            let told = told.map(|(epoch, offset)| (epoch.to_owned(), offset));
            self.fail("gap", || format!("client {who}: {gap:?}, it stands at {told:?}"));
        }
    }
}

/// Histories.
impl Oracle {
    /// A request for history was answered.
    pub(crate) fn history(&mut self, channel: u64, look: &Look, answer: &Value, who: usize) {
        if let Err(what) = self.check_history(channel, look, answer, who) {
            self.fail("history", || {
                format!("client {who}, channel {channel}: {what}: {answer} for {look:?}")
            });
        }
    }

    fn check_history(
        &mut self,
        channel: u64,
        look: &Look,
        answer: &Value,
        who: usize,
    ) -> Result<(), &'static str> {
        let events = answer["events"].as_array().ok_or("no events")?;
        let top = answer["offset"].as_u64().ok_or("no offset")?;
        let more = answer["more"].as_bool().ok_or("no more")?;
        if answer["channel"].as_str() != Some(self.name(channel)) {
            return Err("another channel");
        }
        let Some(epoch) = answer["epoch"].as_str() else {
            let is_off = self.generations(channel).any(Keep::is_off);
            return if is_off && events.is_empty() && top == 0 && !more {
                Ok(())
            } else {
                Err("no epoch")
            };
        };
        // Who only reads does not make a channel's numbers go on for longer.
        let known = self.logs[channel as usize].iter().find(|log| log.epoch == epoch);
        let alive_at = known.map(|log| log.alive_at);
        let log = self.log_of(channel, epoch, look.asked, who);
        if let Some(alive_at) = alive_at {
            self.logs[channel as usize][log as usize].alive_at = alive_at;
        }
        self.top_of(channel, log, top, look.asked, who);
        let mut offsets = Vec::new();
        for event in events {
            offsets.push(self.read_event(channel, log, event, who)?);
        }
        if offsets.windows(2).any(|pair| pair[0] + 1 != pair[1]) {
            return Err("a hole");
        }
        let limit = look.limit.unwrap_or(u64::MAX).min(self.options.page_max);
        if offsets.len() as u64 > limit {
            return Err("more than the limit");
        }
        let Some((first, last)) = offsets.first().copied().zip(offsets.last().copied()) else {
            return self.check_empty(channel, log, top, look, more);
        };
        if last > top {
            return Err("beyond the top");
        }
        if self.must_be_gone(channel, log, first, top, look.asked) {
            return Err("what is not kept any more");
        }
        match look.side {
            Side::After { log: wanted, .. } if wanted != log => Err("another epoch"),
            Side::After { offset, .. } if first <= offset => Err("what is before"),
            Side::After { offset, .. } => {
                let holds = first == offset + 1 || self.may_be_gone(channel, log, first - 1, top);
                if !holds { Err("it begins too late") } else { self.check_more(more, last < top) }
            }
            Side::Before(_) | Side::Last => {
                let end = match look.side {
                    Side::Before(end) => end.min(top + 1),
                    Side::After { .. } | Side::Last => top + 1,
                };
                if last + 1 != end {
                    return Err("it does not end where it was to end");
                }
                let holds = more || first == 1 || self.may_be_gone(channel, log, first - 1, top);
                let gone = more
                    && (first == 1 || self.must_be_gone(channel, log, first - 1, top, look.asked));
                if holds && !gone { Ok(()) } else { Err("is there more?") }
            }
        }
    }

    fn check_more(&self, more: bool, expected: bool) -> Result<(), &'static str> {
        if more == expected { Ok(()) } else { Err("is there more?") }
    }

    /// Nothing was told: nothing is kept on that side.
    fn check_empty(
        &self,
        channel: u64,
        log: u32,
        top: u64,
        look: &Look,
        more: bool,
    ) -> Result<(), &'static str> {
        let limit_is_0 = look.limit == Some(0);
        let nothing = match look.side {
            Side::After { offset, .. } => offset >= top,
            Side::Before(end) => end <= 1 || top == 0,
            Side::Last => top == 0,
        };
        let newest = match look.side {
            Side::Before(end) => end.saturating_sub(1).min(top),
            Side::After { .. } | Side::Last => top,
        };
        let holds = nothing || limit_is_0 || self.may_be_gone(channel, log, newest, top);
        if holds && (!more || limit_is_0) { Ok(()) } else { Err("is there nothing?") }
    }

    /// One event of a history.
    fn read_event(
        &mut self,
        channel: u64,
        log: u32,
        event: &Value,
        who: usize,
    ) -> Result<u64, &'static str> {
        let offset = event["offset"].as_u64().filter(|offset| *offset > 0).ok_or("no offset")?;
        let (of, number, padding) = message::read_data(&event["data"]).ok_or("other data")?;
        let id = event["id"].as_str().and_then(|id| id.as_bytes().try_into().ok());
        let id: &[u8; ID_BYTES] = id.ok_or("no id")?;
        let found = self.publications.get(number as usize).ok_or("never published")?;
        let same = of == channel
            && u64::from(found.channel) == channel
            && found.padding as usize == padding
            && event["event"] == "e";
        if !same {
            return Err("not what was published");
        }
        self.agree(channel, log, offset, (number, id), who);
        self.reached(number, who);
        Ok(offset)
    }

    /// A request for what came after a position was refused: nothing is known of that.
    pub(crate) fn history_refused(&mut self, channel: u64, look: &Look, who: usize) {
        let holds = match look.side {
            Side::After { log, offset } => {
                let known = &self.logs[channel as usize][log as usize];
                self.may_be_over(channel, known.alive_at)
                    || !self.is_there(channel, known, look.asked.life)
                    || look.asked.log != Some(log)
                    || offset > look.asked.top
                    || self.may_number_again(channel)
            }
            Side::Before(_) | Side::Last => false,
        };
        if !holds {
            self.fail("history", || format!("client {who}, channel {channel}: refused: {look:?}"));
        }
    }
}

/// Memory of a round besides its frames, at most.
pub(super) const ENTRY_BYTES_MAX: u64 = 128;

/// Memory of a channel besides its messages, at most.
const HOME_BYTES_MAX: u64 = 600;
