//! What clients of several processes may be told.
//!
//! - One number of one epoch of a channel is one event, for everybody (`agreement`). Where Redis has lost what it had
//!   acknowledged two processes may have made the same number before they could know of each other: then that epoch is
//!   contested, and must be over in the end.
//! - Who has positions gets number after number, or is told what it does not get (`loss`).
//! - No event comes twice on a connection, unless it was told that the numbers begin anew (`duplicate`).
//! - What was published with success has its number, so that by the rules above everybody gets it (`answered`).
//! - What was refused reaches nobody (`refused`).
//!
//! Of what back-ends write into queues see `queue`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{attend::Asked, options::ClusterOptions};
use crate::{
    clock::Nanos,
    message::{Delivery, ID_BYTES, Number},
    oracle::Violation,
};

/// What a publisher was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing, or that nobody knows.
    Unknown,
    Published,
    Refused,
}

#[derive(Debug)]
struct Publication {
    channel: u64,
    padding: usize,
    fate: Fate,
    reached: u64,
    id: Option<[u8; ID_BYTES]>,
    /// It was written into a queue: if Redis forgets that it was published it is published again.
    queued: bool,
}

/// Where somebody is in a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) epoch: String,
    pub(super) offset: u64,
    pub(super) id: Option<String>,
}

/// One connection's subscription.
#[derive(Debug, Default)]
pub(super) struct Member {
    /// It is confirmed.
    pub(super) on: bool,
    /// Since when.
    pub(super) since: Option<Nanos>,
    /// Only of who asked for positions.
    pub(super) position: Option<Position>,
    /// Events since the numbers were told to begin anew.
    seen: BTreeSet<Number>,
    /// What it got last.
    pub(super) last: Option<Number>,
    /// Something was announced to be missing since.
    pub(super) gap: bool,
}

impl Member {
    /// It has got this since the numbers were told to begin anew.
    pub(super) fn has(&self, number: Number) -> bool {
        self.seen.contains(&number)
    }
}

#[derive(Debug)]
pub(super) struct Oracle {
    pub(super) loses_data: bool,
    /// Nothing goes wrong.
    pub(super) is_calm: bool,
    /// Sessions that were resumed, and those that were lost with the data.
    pub(super) resumed: [u64; 2],
    publications: Vec<Publication>,
    /// By channel, epoch and offset.
    places: BTreeMap<(u64, String, u64), Number>,
    /// By publication: where it is.
    at: BTreeMap<Number, (String, u64)>,
    /// Epochs in which a number is two events, and the highest such number.
    contested: BTreeMap<(u64, String), u64>,
    /// By channel: up to where its messages were taken away from Redis, whatever it still says of their number.
    evicted: BTreeMap<u64, u64>,
    keep_messages: u64,
    pub(super) deliveries: u64,
    pub(super) answers: [u64; 3],
    pub(super) gaps: [u64; 2],
    pub(super) recoveries: [u64; 2],
    /// Entries of queues that are to be published, and those that cannot be.
    pub(super) queued: [u64; 2],
    pub(super) asked: Asked,
    pub(super) violation: Option<Violation>,
    pub(super) now: Nanos,
}

impl Oracle {
    pub(super) fn new(options: &ClusterOptions) -> Self {
        Self {
            loses_data: options.loses_data(),
            is_calm: options.faults.iter().all(|count| *count == 0),
            resumed: [0; 2],
            publications: Vec::new(),
            places: BTreeMap::new(),
            at: BTreeMap::new(),
            contested: BTreeMap::new(),
            evicted: BTreeMap::new(),
            keep_messages: options.keep_messages,
            deliveries: 0,
            answers: [0; 3],
            gaps: [0; 2],
            recoveries: [0; 2],
            queued: [0; 2],
            asked: Asked::default(),
            violation: None,
            now: 0,
        }
    }

    pub(super) fn fail(&mut self, invariant: &'static str, detail: impl FnOnce() -> String) {
        if self.violation.is_none() {
            self.violation = Some(Violation { invariant, detail: detail(), at_nanos: self.now });
        }
    }

    /// Somebody is about to publish.
    pub(super) fn publish(&mut self, channel: u64, padding: usize) -> Number {
        let fate = Fate::Unknown;
        let publication =
            Publication { channel, padding, fate, reached: 0, id: None, queued: false };
        self.publications.push(publication);
        (self.publications.len() - 1) as Number
    }

    /// Somebody is about to write into a queue.
    pub(super) fn publish_queued(&mut self, channel: u64, padding: usize) -> Number {
        let number = self.publish(channel, padding);
        self.publications[number as usize].queued = true;
        number
    }

    /// It cannot be published.
    pub(super) fn withhold(&mut self, number: Number) {
        self.publications[number as usize].fate = Fate::Refused;
    }

    /// To how many it has come.
    pub(super) fn reached(&self, number: Number) -> u64 {
        self.publications[number as usize].reached
    }

    /// Where it is, if somebody with positions has got it.
    pub(super) fn place(&self, number: Number) -> Option<(String, u64)> {
        self.at.get(&number).cloned()
    }

    /// Whether it may be there twice.
    fn may_come_again(&self, number: Number) -> bool {
        self.loses_data && self.publications[number as usize].queued
    }

    pub(super) fn fate(&self, number: Number) -> Fate {
        self.publications[number as usize].fate
    }

    /// It was published, and if this is known, there.
    pub(super) fn published(&mut self, number: Number, place: Option<(&str, u64)>) {
        self.answers[0] += 1;
        self.publications[number as usize].fate = Fate::Published;
        let channel = self.publications[number as usize].channel;
        // Of what Redis has lost before anybody heard it nobody knows.
        if let Some((epoch, offset)) = place.filter(|_| !self.loses_data) {
            self.agree(channel, epoch, offset, number, "its publisher");
        }
    }

    /// It was refused.
    pub(super) fn refused(&mut self, number: Number) {
        self.answers[1] += 1;
        let publication = &mut self.publications[number as usize];
        publication.fate = Fate::Refused;
        let reached = publication.reached;
        if reached > 0 {
            self.fail("refused", || format!("{number} was refused and reached {reached}"));
        }
    }

    /// Nobody knows what became of it.
    pub(super) fn unsure(&mut self) {
        self.answers[2] += 1;
    }

    fn agree(&mut self, channel: u64, epoch: &str, offset: u64, number: Number, who: &str) {
        let place = (channel, epoch.to_owned(), offset);
        let there = *self.places.entry(place).or_insert(number);
        let (known_epoch, known) =
            self.at.entry(number).or_insert_with(|| (epoch.to_owned(), offset)).clone();
        let twice = known_epoch == epoch && known != offset && !self.may_come_again(number);
        if there == number && !twice {
            return;
        }
        if self.loses_data {
            let highest = self.contested.entry((channel, epoch.to_owned())).or_default();
            *highest = offset.max(*highest);
            return;
        }
        self.fail("agreement", || {
            format!("{who}: {number} is {offset} of channel {channel} in {epoch}: there is {there}, and it is {known} of {known_epoch}")
        });
    }

    /// A subscription was confirmed. `since`: where it wanted to go on.
    pub(super) fn started(
        &mut self,
        member: &mut Member,
        since: Option<&Position>,
        answer: &Value,
        who: usize,
    ) {
        *member = Member { on: true, since: Some(self.now), ..Member::default() };
        let (Some(epoch), Some(top)) = (answer["epoch"].as_str(), answer["offset"].as_u64()) else {
            return;
        };
        let mut offset = top;
        if let Some(since) = since {
            match (answer["recovered"].as_bool(), answer["missed"].as_u64()) {
                (Some(true), Some(missed)) => {
                    self.recoveries[0] += 1;
                    offset = since.offset;
                    if since.epoch != epoch || since.offset + missed != top {
                        self.fail("recovery", || format!("client {who}: {answer} for {since:?}"));
                    }
                }
                (Some(false), None) => self.recoveries[1] += 1,
                _ => self.fail("recovery", || format!("client {who}: {answer} for {since:?}")),
            }
        }
        member.position = Some(Position { epoch: epoch.to_owned(), offset, id: None });
    }

    /// An event came.
    pub(super) fn delivered(&mut self, member: &mut Member, event: &Delivery<'_>, who: usize) {
        self.deliveries += 1;
        let (number, channel) = (event.number, event.channel);
        let id = *event.id;
        let Some(found) = self.publications.get_mut(number as usize) else {
            return self.fail("content", || format!("client {who} got {event:?}"));
        };
        found.reached += 1;
        let same = found.channel == channel && found.padding == event.padding;
        let again = self.loses_data && found.queued;
        let same = same && (*found.id.get_or_insert(id) == id || again);
        let fate = found.fate;
        if !same {
            return self.fail("content", || format!("client {who} got {event:?}"));
        }
        if fate == Fate::Refused {
            self.fail("refused", || format!("client {who} got {number}, which was refused"));
        }
        if !member.on {
            self.fail("membership", || format!("client {who} got {number} unasked"));
        }
        if !member.seen.insert(number) && !again {
            self.fail("duplicate", || format!("client {who} got {number} twice"));
        }
        match (&mut member.position, event.offset) {
            (Some(position), Some(offset)) => {
                let (epoch, due) = (position.epoch.clone(), position.offset + 1);
                *position = Position {
                    offset,
                    id: Some(String::from_utf8_lossy(&id).into_owned()),
                    ..position.clone()
                };
                if offset != due {
                    self.fail("loss", || {
                        format!("client {who} got {offset} of channel {channel} in {epoch}, {due} was due")
                    });
                }
                self.agree(channel, &epoch, offset, number, &format!("client {who}"));
            }
            (None, None) => self.follows(member, number, who),
            (position, offset) => {
                let position = position.clone();
                self.fail("content", || {
                    format!("client {who} at {position:?} got number {offset:?}")
                });
            }
        }
        member.last = Some(number);
        member.gap = false;
    }

    /// Who has no positions gets the same in the same order, as far as others know the places.
    fn follows(&mut self, member: &Member, number: Number, who: usize) {
        let places = member.last.and_then(|last| self.at.get(&last)).zip(self.at.get(&number));
        let Some(((before, last), (epoch, offset))) = places else { return };
        let in_order = if member.gap { offset > last } else { *offset == last + 1 };
        if before == epoch && !in_order && !self.loses_data {
            let (last, offset) = (*last, *offset);
            self.fail("order", || format!("client {who} got {offset} behind {last}"));
        }
    }

    /// It was told that something is missing.
    pub(super) fn missing(&mut self, member: &mut Member, gap: &Value, who: usize) {
        member.gap = true;
        let (epoch, offset) = (gap["epoch"].as_str(), gap["offset"].as_u64());
        match gap["lost"].as_u64() {
            None => {
                self.gaps[1] += 1;
                member.seen.clear();
                member.last = None;
                if let Some(position) = &mut member.position {
                    let (Some(epoch), Some(offset)) = (epoch, offset) else {
                        return self.fail("gap", || format!("client {who} got {gap}"));
                    };
                    *position = Position { epoch: epoch.to_owned(), offset, id: None };
                }
            }
            Some(lost) => {
                self.gaps[0] += 1;
                let range = gap["first_offset"].as_u64().zip(gap["last_offset"].as_u64());
                let Some((first, last)) = range.filter(|(first, last)| first + lost == last + 1)
                else {
                    return self.fail("gap", || format!("client {who} got {gap}"));
                };
                if let Some(position) = &mut member.position {
                    let right = position.offset + 1 == first
                        && epoch == Some(&position.epoch)
                        && offset == Some(last);
                    let before = std::mem::replace(
                        position,
                        Position { offset: last, id: None, ..position.clone() },
                    );
                    if !right {
                        self.fail("gap", || format!("client {who} at {before:?} got {gap}"));
                    }
                }
            }
        }
    }

    /// Redis has lost a key. If it is a channel's log, its messages are not kept any more.
    pub(super) fn evict(&mut self, key: &[u8]) {
        let key = String::from_utf8_lossy(key);
        let Some((_, name)) = key.split_once(":l:") else { return };
        let Some(channel) = name.rsplit(':').next().and_then(|it| it.parse().ok()) else { return };
        let offsets = self.places.keys().filter(|(of, ..)| *of == channel);
        let highest = offsets.map(|(.., offset)| *offset).max().unwrap_or_default();
        self.evicted.insert(channel, highest);
    }

    /// In the end nobody is where two have different events.
    pub(super) fn check_end(&mut self, channel: u64, member: &Member, who: usize) {
        let Some(position) = &member.position else { return };
        // Of what Redis does not keep any more nobody can tell whether it was the same.
        let evicted = self.evicted.get(&channel).copied().unwrap_or_default();
        let is_kept =
            |offset: &u64| position.offset < offset + self.keep_messages && *offset > evicted;
        if self.contested.get(&(channel, position.epoch.clone())).is_some_and(is_kept) {
            self.fail("agreement", || {
                format!(
                    "client {who} is in an epoch of channel {channel} that is two: {position:?}"
                )
            });
        }
    }
}
