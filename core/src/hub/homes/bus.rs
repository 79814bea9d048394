//! Channels whose numbers are given by a bus: what is kept here is what has come from there.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use uuid::Uuid;

use super::{
    Broadcast, Broadcasted, Homes,
    documents::Document,
    forms::{Form, Traces},
    home::{Home, Sealed, Shape},
    lines::Line,
    stored::encode,
};
use crate::{
    hub::{
        bus::{self, HealEntry},
        env::Env,
        follow::Part,
    },
    protocol::{Message, Position, Stamp, Timestamp, TraceParent},
    record,
    ws::Segment,
};

/// Where a channel stands at its home.
#[derive(Clone, Copy, Debug)]
pub(in crate::hub) struct Anchor {
    /// Behind its last message.
    pub(in crate::hub) position: Position,
    /// The numbers are those of the bus.
    pub(in crate::hub) agreed: bool,
    /// What the bus had last been put back by when that was so.
    pub(in crate::hub) mark: u64,
    /// Number of the message that its document came with; 0: it has none.
    pub(in crate::hub) document: u64,
    /// Subscribers on all hubs.
    pub(in crate::hub) subscribers: u32,
}

impl Anchor {
    /// Whether subscribers were told a position of which the bus knows, too.
    pub(in crate::hub) fn is_told(&self, standing: Option<bus::Standing>) -> bool {
        let same = standing.is_some_and(|bus| bus.position.epoch == self.position.epoch);
        same && self.subscribers > 0
    }
}

impl Homes {
    /// The channel is followed on the bus from now on, and so not forgotten. Its index.
    pub(in crate::hub) fn attach(&mut self, env: &mut Env, channel: &Arc<str>) -> Option<u32> {
        let index = match self.names.get(channel) {
            Some(&index) => index,
            None => self.found(env, channel)?,
        };
        self.slots.get_mut(index)?.followed = true;
        Some(index)
    }

    /// It is not followed any more. What is kept of it stays as long as it would otherwise.
    pub(in crate::hub) fn detach(&mut self, env: &Env, index: u32) {
        if let Some(home) = self.slots.get_mut(index) {
            home.followed = false;
            // What it has may not be all that there is by the time that somebody asks.
            if home.is_quiet() {
                self.let_be(env, index);
            }
        }
    }

    pub(in crate::hub) fn anchor(&self, index: u32) -> Option<Anchor> {
        let home = self.slots.get(index)?;
        Some(Anchor {
            position: home.log.position(),
            agreed: home.agreed,
            mark: home.mark,
            document: home.document.as_ref().map_or(0, |document| document.offset()),
            subscribers: home.subscribers(),
        })
    }

    /// Where a channel stood on the bus when that was last known.
    pub(in crate::hub) fn last_known(&self, channel: &str) -> Option<Position> {
        let home = self.names.get(channel).and_then(|index| self.slots.get(*index));
        home.filter(|home| home.agreed).map(|home| home.log.position())
    }

    /// The other hubs with subscribers, a bit for each, and whether there are some here.
    pub(in crate::hub) fn hubs(&self, env: &Env, index: u32) -> (u64, bool) {
        let home = self.slots.get(index);
        home.map_or((0, false), |home| (home.remote, home.is_here(env)))
    }

    /// Subscribers of a channel, on all hubs.
    pub(in crate::hub) fn subscribers(&self, channel: &str) -> u32 {
        let home = self.names.get(channel).and_then(|index| self.slots.get(*index));
        home.map_or(0, Home::subscribers)
    }

    /// The id of a message, if it is kept. Its round is sealed.
    pub(in crate::hub) fn id_of(&self, index: u32, number: u64) -> Option<Uuid> {
        let id = self.slots.get(index)?.log.id_of(number)?;
        Uuid::try_parse_ascii(id).ok()
    }

    /// Messages that are kept of a channel, and their bytes.
    pub(in crate::hub) fn kept_of(&self, channel: &str) -> (u64, usize) {
        let log = self.names.get(channel).and_then(|index| self.slots.get(*index));
        let log = log.map(|home| &home.log);
        log.map_or((0, 0), |log| ((log.top + 1).saturating_sub(log.oldest()), log.bytes()))
    }

    /// The next message has come from the bus.
    pub(in crate::hub) fn take(
        &mut self,
        env: &mut Env,
        (index, channel): (u32, &str),
        message: &record::Message<'_>,
    ) -> Broadcasted {
        let timestamp = Timestamp::from_unix(Duration::from_micros(message.unix_micros));
        let stamp = Stamp { id: message.id, timestamp: &timestamp };
        let broadcast = Broadcast { channel, event: message.event, data: message.data };
        let done = self.add(env, index, broadcast, Some(stamp));
        if let Some(parent) = message.traceparent.and_then(TraceParent::parse)
            && let Some(home) = self.slots.get_mut(index)
        {
            home.note_trace(parent);
        }
        done
    }

    /// The next messages have come from the bus, from before anybody subscribed.
    pub(in crate::hub) fn load(
        &mut self,
        env: &mut Env,
        (index, channel): (u32, &str),
        messages: &[record::Message<'_>],
    ) {
        let Some(home) = self.slots.get_mut(index) else { return };
        let first = home.log.top + 1;
        let last = home.log.top + messages.len() as u64;
        let newest = messages.last().map_or(0, |message| message.unix_micros);
        if Duration::from_micros(newest) + home.keep.time <= env.now.unix {
            let epoch = home.log.epoch;
            return self.restart(env, index, Position { epoch, offset: last });
        }
        let (bounds, numbered) = (home.bounds(env), env.config.compat.offsets);
        let max = env.config.limits.delivery.round_bytes_max;
        let before = home.log.bytes();
        home.log.top = last;
        for (segment, first) in encode(channel, messages, (first, numbered), max) {
            home.log.push(segment, first, numbered, bounds);
        }
        self.kept_bytes = self.kept_bytes + home.log.bytes() - before;
        if !home.log.is_empty() {
            self.lines.step(&mut self.slots, index, Some(Line::Kept));
        }
        self.review(env, index);
        self.make_room(env);
    }

    /// Messages as subscribers get them, the first of which has this number.
    pub(in crate::hub) fn encoded(
        &self,
        env: &Env,
        channel: &str,
        messages: &[record::Message<'_>],
        first: u64,
    ) -> Vec<(Segment, u64)> {
        let max = env.config.limits.delivery.round_bytes_max;
        encode(channel, messages, (first, env.config.compat.offsets), max)
    }

    /// The number of the first message that is kept, if what came before it was dropped for lack of room.
    pub(in crate::hub) fn dropped_below(&self, index: u32) -> Option<u64> {
        self.slots.get(index)?.log.dropped_below()
    }

    /// What was dropped is here again, until [`drop_extension`](Self::drop_extension).
    pub(in crate::hub) fn extend(&mut self, env: &Env, index: u32, parts: Vec<Part>) {
        let Some(home) = self.slots.get_mut(index) else { return };
        let (bounds, before) = (home.bounds(env), home.log.bytes());
        let age = |part: &Part| env.now.unix.saturating_sub(part.unix);
        let rounds = parts.into_iter().map(|part| {
            let age = age(&part);
            (part.segment, part.first, age)
        });
        home.log.extend(rounds.collect(), env.config.compat.offsets, bounds);
        home.extension = home.log.bytes() - before;
        home.pages = None;
        self.kept_bytes += home.extension;
        self.review(env, index);
    }

    /// The room for it is given back.
    pub(in crate::hub) fn drop_extension(&mut self, env: &mut Env, index: u32) {
        if let Some(home) = self.slots.get_mut(index) {
            home.extension = 0;
            home.pages = None;
        }
        self.trim(env, index);
        self.make_room(env);
    }

    /// The channel goes on behind another message, perhaps in another life of its numbers. Its round is sealed.
    pub(in crate::hub) fn restart(&mut self, env: &Env, index: u32, position: Position) {
        let Some(home) = self.slots.get_mut(index) else { return };
        self.kept_bytes -= home.log.bytes();
        home.log.restart(position);
        home.pages = None;
        self.review(env, index);
    }

    /// The channel's numbers are those of the bus from now on, or are not known to be.
    pub(in crate::hub) fn agree(&mut self, index: u32, agreed: bool) {
        if let Some(home) = self.slots.get_mut(index) {
            home.agreed = agreed;
            home.told |= agreed;
        }
    }

    /// What is here is also what the bus was last put back by.
    pub(in crate::hub) fn mark(&mut self, index: u32, mark: u64) {
        if let Some(home) = self.slots.get_mut(index) {
            home.mark = mark;
        }
    }

    /// The document that the bus has, and the number of the message that it came with; 0: none.
    pub(in crate::hub) fn put_document(
        &mut self,
        env: &mut Env,
        (index, channel): (u32, &str),
        (offset, json): (u64, Option<&Bytes>),
    ) {
        match json.filter(|_| offset > 0) {
            Some(json) => self.set_document(env, channel, Document::new(offset, json.clone())),
            None if offset == 0 => {
                self.drop_document(index);
                self.review(env, index);
            }
            None => {}
        }
    }

    pub(in crate::hub) fn document(&self, index: u32) -> Option<(u64, Bytes)> {
        let document = self.slots.get(index)?.document.as_ref()?;
        Some((document.offset(), document.json().clone()))
    }

    /// What is kept behind a number, as a bus keeps it. The round is sealed.
    pub(in crate::hub) fn records(&self, index: u32, after: u64) -> Vec<HealEntry> {
        let Some(home) = self.slots.get(index) else { return Vec::new() };
        let from = (after + 1).max(home.log.oldest());
        let mut entries = Vec::new();
        for entry in home.log.from(from) {
            let (mut records, mut count) = (Vec::new(), 0);
            let frames = entry.segment.frames().zip(entry.first..);
            for (frame, _) in frames.filter(|(_, number)| *number >= from) {
                if push_record(&mut records, frame.payload()).is_none() {
                    // It is a message of ours, so this does not happen; and what is missing is missing to its end.
                    return Vec::new();
                }
                count += 1;
            }
            let first = entry.first.max(from);
            entries.push(HealEntry { first, count, records: records.into(), made: None });
        }
        entries
    }

    /// Messages without numbers, of which nothing is kept.
    pub(in crate::hub) fn announce(
        &self,
        env: &mut Env,
        channel: &str,
        messages: &[record::Message<'_>],
    ) -> Option<Sealed> {
        let home = self.names.get(channel).and_then(|index| self.slots.get(*index))?;
        if home.subscribers() == 0 || messages.is_empty() {
            return None;
        }
        let (name, [plain, positioned]) = (home.name.clone(), home.deflating());
        let (remote, here) = (home.remote, home.is_here(env));
        let (segment, _) = encode(channel, messages, (1, false), usize::MAX).pop()?;
        let mut shape = |deflates: bool| {
            let deflated = match deflates {
                true => env.codecs.deflate_round(&env.config.deflate, &name, &segment),
                false => None,
            };
            Shape { segment: segment.clone(), deflated, traces: None }
        };
        let plain = shape(plain);
        let mut positioned = home.takes(Form::Positioned).then(|| Box::new(shape(positioned)));
        let parents = messages.iter().zip(0..).filter_map(|(message, place)| {
            Some((place, TraceParent::parse(message.traceparent?)?))
        });
        let traces: Traces = parents.collect();
        if let Some(positioned) = positioned.as_mut().filter(|_| !traces.is_empty()) {
            positioned.traces = Some(Arc::new(traces));
        }
        Some(Sealed { channel: name.clone(), plain, positioned, first_offset: 0, remote, here })
    }
}

/// Adds a message as subscribers get it to a record.
fn push_record(records: &mut Vec<u8>, payload: &[u8]) -> Option<()> {
    let message = Message::read(std::str::from_utf8(payload).ok()?).ok()?;
    let unix = Timestamp::parse(&message.timestamp?)?;
    record::push(
        records,
        record::Message {
            id: Uuid::try_parse(&message.id?).ok()?,
            unix_micros: u64::try_from(unix.as_micros()).ok()?,
            event: &message.event?,
            data: message.data?,
            traceparent: None,
        },
    );
    Some(())
}
