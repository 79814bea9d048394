//! Channels' documents: which publications carried one, under which condition, and where they came to stand.
//!
//! A document is known from outside by the answer to its publish or by a read. From then on no read may tell an older one, and
//! of a publish with a condition one knows that between the document it saw and itself there was no other.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Fate, Oracle, logs::Asked};
use crate::{
    clock::{MILLI, Nanos},
    message::Number,
};

/// What a publish carries besides its message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Carried {
    /// Padding of a document.
    pub(crate) state: Option<u64>,
    pub(crate) condition: Option<Condition>,
}

/// The document that a publish wants to build upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    /// Number of the message that it came with; 0: none.
    pub(crate) offset: u64,
    /// Its log, if the publisher insists on it.
    pub(crate) log: Option<u32>,
}

/// Such a publish.
#[derive(Debug)]
struct Publish {
    channel: u64,
    carried: Carried,
    asked: Asked,
    /// When it was known to be accepted.
    known_at: Option<Nanos>,
    /// When it was known to be refused. Until then its document may have stood in another's way.
    refused_at: Option<Nanos>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Documents {
    publishes: BTreeMap<Number, Publish>,
    /// Those that were accepted: by channel, log and offset.
    accepted: BTreeMap<(u64, u32, u64), Number>,
}

/// The JSON of a document.
pub(crate) fn document(number: Number, padding: u64) -> String {
    format!(r#"{{"n":{number},"x":"{}"}}"#, "a".repeat(padding as usize))
}

/// What is published.
impl Oracle {
    /// A publish is about to carry this.
    pub(crate) fn carries(&mut self, channel: u64, number: Number, carried: Carried) {
        let asked = self.asked(channel);
        self.weight += carried.state.map_or(0, |padding| padding + DOCUMENT_BYTES_MAX);
        self.documents
            .publishes
            .insert(number, Publish { channel, carried, asked, known_at: None, refused_at: None });
    }

    /// Such a publish was refused.
    pub(super) fn refused(&mut self, number: Number) {
        if let Some(publish) = self.documents.publishes.get_mut(&number) {
            publish.refused_at = Some(self.now);
        }
    }

    /// What a publish carries, if it carries anything.
    pub(crate) fn carried(&self, number: Number) -> Option<Carried> {
        self.documents.publishes.get(&number).map(|publish| publish.carried)
    }

    /// Whether a publish carries more than a document may have.
    pub(crate) fn is_too_big(&self, number: Number) -> bool {
        let state = self.carried(number).and_then(|carried| carried.state);
        state.is_some_and(|padding| {
            document(number, padding).len() as u64 > self.options.state_bytes
        })
    }

    /// Such a publish was answered: it stands where `answer` says. Where that is.
    pub(crate) fn set(&mut self, number: Number, answer: &Value, who: usize) -> Option<(u32, u64)> {
        let publish = self.documents.publishes.get(&number)?;
        let (channel, carried, asked) = (publish.channel, publish.carried, publish.asked);
        if self.is_too_big(number) {
            self.fail("documents", || format!("client {who}: {number} is too large and was taken"));
        }
        let place = answer["epoch"].as_str().zip(answer["offset"].as_u64());
        let Some((epoch, offset)) = place else {
            // Where nothing is kept and nobody listens, messages have no numbers; with a document they have.
            let nowhere = answer["epoch"].is_null() && answer["offset"] == 0;
            if carried.state.is_some() || !nowhere {
                self.fail("documents", || format!("client {who}, {number}: where? {answer}"));
            }
            return None;
        };
        let log = self.log_of(channel, epoch, asked, who);
        self.top_of(channel, log, offset, asked, who);
        self.accepted(channel, log, offset, number, who);
        Some((log, offset))
    }

    /// A publish that carried something has this place.
    fn accepted(&mut self, channel: u64, log: u32, offset: u64, number: Number, who: usize) {
        self.stands(channel, log, offset, number, who);
        let now = self.now;
        let Some(publish) = self.documents.publishes.get_mut(&number) else { return };
        publish.known_at.get_or_insert(now);
        if self.documents.accepted.insert((channel, log, offset), number).is_some() {
            return;
        }
        if self.publications[number as usize].fate == Fate::Refused {
            return self.fail("documents", || format!("{number} was refused and is at {offset}"));
        }
        if let Err((at, what)) = self.check_around(channel, log, offset) {
            self.fail("documents", || {
                format!("client {who}, channel {channel}: the publish at {at} {what}; now known: {number} at {offset}")
            });
        }
    }

    /// Whether the conditions of an accepted publish, and of those behind it up to the next document, may have held.
    fn check_around(&self, channel: u64, log: u32, offset: u64) -> Result<(), (u64, &'static str)> {
        let all = &self.documents.accepted;
        let of = |number: &Number| self.carried(*number).unwrap_or_default();
        let mut before = all.range((channel, log, 0)..(channel, log, offset)).rev();
        let before = before.find(|(_, number)| of(number).state.is_some());
        let mut document = before.map_or(0, |((_, _, at), _)| *at);
        for ((_, _, at), number) in all.range((channel, log, offset)..=(channel, log, u64::MAX)) {
            let carried = of(number);
            if let Some(condition) = carried.condition {
                self.check_condition(log, document, condition).map_err(|what| (*at, what))?;
            }
            if carried.state.is_some() {
                if *at > offset {
                    break;
                }
                document = offset;
            }
        }
        Ok(())
    }

    /// Whether a condition may have held when `before` was the last document that is known before it.
    fn check_condition(
        &self,
        log: u32,
        before: u64,
        condition: Condition,
    ) -> Result<(), &'static str> {
        if condition.log.is_some_and(|wanted| wanted != log) {
            return Err("was meant for another epoch");
        }
        match condition.offset {
            // There may have been one that was forgotten.
            0 if before == 0 || self.may_evict() => Ok(()),
            0 => Err("was to be the first"),
            wanted if wanted >= before => Ok(()),
            _ => Err("has overwritten another"),
        }
    }

    /// A publish was refused because of its condition: this cannot be if that certainly held all the time.
    pub(crate) fn conflict(&mut self, number: Number, who: usize) {
        let Some(publish) = self.documents.publishes.get(&number) else {
            return self.fail("documents", || format!("client {who}: {number} has no condition"));
        };
        let (channel, asked) = (publish.channel, publish.asked);
        let Some(condition) = publish.carried.condition else {
            return self.fail("documents", || format!("client {who}: {number} has no condition"));
        };
        if self.may_evict() || !self.certainly_holds(channel, number, condition, asked) {
            return;
        }
        self.fail("documents", || {
            format!("client {who}, channel {channel}: {number} was refused, {condition:?} held")
        });
    }

    fn certainly_holds(
        &self,
        channel: u64,
        number: Number,
        condition: Condition,
        asked: Asked,
    ) -> bool {
        let mut others = self.others(channel, number, asked.at);
        let Some(log) = condition.log.or(asked.log) else {
            return condition.offset == 0 && others.next().is_none();
        };
        let known = &self.logs[channel as usize][log as usize];
        if self.may_be_over(channel, known.alive_at) || !self.is_there(channel, known, asked.life) {
            return false;
        }
        let is_it = |other: Number| {
            let publish = &self.documents.publishes[&other];
            let place = self.publications[other as usize].place;
            let known = publish.known_at.is_some_and(|known| known < asked.at);
            match place {
                Some((of, at)) if of == log && known => Some(at),
                _ => None,
            }
        };
        let mut last = 0;
        for other in others {
            match is_it(other) {
                Some(at) => last = last.max(at),
                None => return false,
            }
        }
        last == condition.offset
    }

    /// The other publishes to a channel that carry a document and were not refused before `at`.
    fn others(&self, channel: u64, number: Number, at: Nanos) -> impl Iterator<Item = Number> {
        let all = self.documents.publishes.iter();
        all.filter(move |(other, publish)| {
            publish.channel == channel
                && publish.carried.state.is_some()
                && **other != number
                && publish.refused_at.is_none_or(|refused| refused >= at)
        })
        .map(|(other, _)| *other)
    }

    /// A publish was refused as malformed: only one with too large a document may be.
    pub(crate) fn malformed(&mut self, number: Number, who: usize) {
        if !self.is_too_big(number) {
            self.fail("documents", || format!("client {who}: {number} is not too large"));
        }
    }
}

/// What is read.
impl Oracle {
    /// Somebody was told a channel's document. Which one it is, if there is one.
    pub(crate) fn state(
        &mut self,
        channel: u64,
        asked: Asked,
        answer: &Value,
        who: usize,
    ) -> Option<(u32, u64)> {
        match self.check_state(channel, asked, answer, who) {
            Ok(found) => found,
            Err(what) => {
                self.fail("documents", || {
                    format!("client {who}, channel {channel}: {what}: {answer}")
                });
                None
            }
        }
    }

    fn check_state(
        &mut self,
        channel: u64,
        asked: Asked,
        answer: &Value,
        who: usize,
    ) -> Result<Option<(u32, u64)>, &'static str> {
        if answer["channel"].as_str() != Some(self.name(channel)) {
            return Err("another channel");
        }
        let (offset, state) = (answer["offset"].as_u64().ok_or("no offset")?, &answer["state"]);
        let Some(epoch) = answer["epoch"].as_str() else {
            let gone = self.newest(channel, None, asked).is_none_or(|sent_at| {
                self.may_evict() || sent_at + self.options.position_keep_ms * MILLI <= self.now
            });
            let nothing = offset == 0 && state.is_null() && gone;
            return if nothing { Ok(None) } else { Err("there was one") };
        };
        // Who only reads does not make a channel's numbers go on for longer.
        let known = self.logs[channel as usize].iter().find(|log| log.epoch == epoch);
        let alive_at = known.map(|log| log.alive_at);
        let log = self.log_of(channel, epoch, asked, who);
        if let Some(alive_at) = alive_at {
            self.logs[channel as usize][log as usize].alive_at = alive_at;
        }
        if state.is_null() {
            let gone = self.newest(channel, Some((log, 0)), asked).is_none() || self.may_evict();
            return if offset == 0 && gone { Ok(Some((log, 0))) } else { Err("there is one") };
        }
        let number = state["n"].as_u64().and_then(|number| Number::try_from(number).ok());
        let number = number.ok_or("never published")?;
        let publish = self.documents.publishes.get(&number).ok_or("it came with no document")?;
        let padding = state["x"].as_str().map(|text| text.len() as u64);
        if publish.channel != channel || publish.carried.state != padding {
            return Err("not what was published");
        }
        self.accepted(channel, log, offset, number, who);
        self.check_stored(number, "read");
        if self.newest(channel, Some((log, offset)), asked).is_some() {
            return Err("there is a newer one");
        }
        Ok(Some((log, offset)))
    }

    /// When the newest document was sent that is known to have been there when `asked`, behind that position.
    fn newest(&self, channel: u64, behind: Option<(u32, u64)>, asked: Asked) -> Option<Nanos> {
        let range = match behind {
            Some((log, offset)) => (channel, log, offset + 1)..=(channel, log, u64::MAX),
            None => (channel, 0, 0)..=(channel, u32::MAX, u64::MAX),
        };
        let there = self.documents.accepted.range(range).filter(|(_, number)| {
            let publish = &self.documents.publishes[number];
            publish.carried.state.is_some()
                && publish.known_at.is_some_and(|known| known < asked.at)
        });
        // What was not in the store when the process ended is gone with it.
        let logs = &self.logs[channel as usize];
        let there = there
            .filter(|((_, log, _), _)| self.is_there(channel, &logs[*log as usize], asked.life));
        there.map(|(_, number)| self.publications[*number as usize].sent_at).max()
    }
}

/// Memory of a document besides its padding, at most.
const DOCUMENT_BYTES_MAX: u64 = 256;
