//! Back-ends that write into the queues of Redis what is to be published, and what must have come of it.
//!
//! - What Redis has taken into a queue is published once, in the order in which it was written, for each channel (`queue`).
//! - What cannot be published lies where unfit entries are put aside, once and with its reason, and nothing else does.
//! - What Redis has refused, and what cannot be published, reaches nobody (`refused`).
//! - In the end nothing is left in a queue.
//!
//! Where Redis has lost what it had confirmed, an entry may be gone with it, or be there again.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt::Write as _,
    net::SocketAddr,
};

use mahavishnu_core::config::{IngressKind, IngressSource};
use mahavishnu_redis_model::ConnId;

use super::{
    fault::PASSWORD,
    world::{Event, World},
};
use crate::{
    clock::{MILLI, SECOND},
    message::{self, Number},
    random::Random,
    swarm::channel_name,
};

/// All back-ends, and all that they have written.
#[derive(Debug, Default)]
pub(super) struct Queues {
    back_ends: Vec<BackEnd>,
    entries: Vec<Entry>,
    /// How often answers of Redis were looked at.
    looks: u64,
}

/// One that writes, which waits for Redis' answer before it goes on.
#[derive(Debug)]
struct BackEnd {
    random: Random,
    connection: Option<(usize, ConnId)>,
    /// What Redis has not answered. `None`: the password.
    waiting: VecDeque<Option<usize>>,
    partial: Vec<u8>,
    /// What it does not know to be written, and may write again.
    again: VecDeque<usize>,
    /// What it wrote last under a key of its own, by queue and channel.
    keyed: BTreeMap<(IngressKind, u64), usize>,
    answers: u64,
}

/// When an entry was first taken in: among all looks, by which back-end, among its answers. What different ones have
/// written between two looks has no order.
type Moment = (u64, usize, u64);

#[derive(Debug)]
struct Entry {
    number: Number,
    channel: u64,
    padding: usize,
    kind: IngressKind,
    /// Under which it is published once, however often it is written.
    key: Option<String>,
    /// Why it cannot be published.
    unfit: Option<Unfit>,
    /// How often it was taken in for certain.
    written: u64,
    /// It may have been taken in once more.
    unsure: bool,
    first: Option<Moment>,
}

/// Why an entry cannot be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unfit {
    NoObject,
    NoChannel,
    NoEvent,
    LongKey,
    TooLong,
    /// Its key belongs to another one, which was written before.
    OthersKey,
}

impl Unfit {
    const ALL: [Self; 4] = [Self::NoObject, Self::NoChannel, Self::NoEvent, Self::LongKey];

    fn reason(self, kind: IngressKind) -> &'static str {
        match (self, kind) {
            (Self::NoChannel, IngressKind::Stream) => "invalid_channel",
            (Self::TooLong, _) => "message_too_big",
            (Self::OthersKey, _) => "key_reused",
            _ => "bad_publish",
        }
    }
}

/// The queues that all processes take from.
pub(super) fn sources() -> [IngressSource; 2] {
    let source = |kind, name: &str| IngressSource { kind, name: name.into() };
    [source(IngressKind::Stream, STREAM), source(IngressKind::List, LIST)]
}

impl Queues {
    pub(super) fn new(seed: u64, queue_pm: u64) -> Self {
        let count = if queue_pm > 0 { BACK_ENDS } else { 0 };
        let back_end = |index| BackEnd {
            random: Random::new(seed, 60 + index),
            connection: None,
            waiting: VecDeque::new(),
            partial: Vec::new(),
            again: VecDeque::new(),
            keyed: BTreeMap::new(),
            answers: 0,
        };
        Self { back_ends: (0..count).map(back_end).collect(), ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.back_ends.len()
    }
}

/// Writing.
impl World {
    /// It is time for a back-end to do something.
    pub(super) fn wake_back_end(&mut self, index: usize) {
        let think = self.options.think_ms * MILLI;
        let next = self.queues.back_ends[index].random.below(2 * think + 1) + MILLI;
        self.agenda.plan(self.clock.nanos + next, Event::BackEnd(index));
        let back_end = &self.queues.back_ends[index];
        if !back_end.waiting.is_empty() || self.healing && back_end.again.is_empty() {
            return;
        }
        let entries = self.choose(index);
        if entries.is_empty() {
            return;
        }
        let Some((server, connection)) = self.reach_redis(index) else {
            self.queues.back_ends[index].again.extend(entries);
            return;
        };
        let mut bytes = Vec::new();
        for entry in &entries {
            command(&mut bytes, &self.queues.entries[*entry].words());
        }
        self.digest.bytes(&bytes);
        let now = self.time();
        self.queues.back_ends[index].waiting.extend(entries.iter().copied().map(Some));
        self.redis.server(server).receive(now, connection, &bytes);
        self.collect();
        let back_end = &mut self.queues.back_ends[index];
        // It may be that it does not hear the answer.
        if back_end.waiting.is_empty() && back_end.random.chance(UNHEARD_PM) {
            let is_known = back_end.again.clone();
            let keyed = |entry: &usize| self.queues.entries[*entry].key.is_some();
            let unknown = entries.into_iter().filter(|entry| !is_known.contains(entry));
            back_end.again.extend(unknown.filter(keyed));
            back_end.connection = None;
            self.redis.server(server).closed(now, connection);
        }
    }

    /// What a back-end writes now: what it does not know to be written comes first.
    fn choose(&mut self, index: usize) -> Vec<usize> {
        let again = std::mem::take(&mut self.queues.back_ends[index].again);
        let room = ENTRIES_MAX.saturating_sub(self.queues.entries.len() as u64);
        let whole = self.clients.last().is_some_and(|client| client.is_settled());
        let random = &mut self.queues.back_ends[index].random;
        // Nothing is written before somebody listens who will know of all.
        if self.healing || !again.is_empty() || !whole || !random.chance(self.options.queue_pm) {
            return again.into();
        }
        let count = random.range(1, self.options.burst_max).min(room);
        (0..count).map(|_| self.invent(index)).collect()
    }

    fn invent(&mut self, index: usize) -> usize {
        let loses_data = self.oracle.loses_data;
        let back_end = &mut self.queues.back_ends[index];
        let random = &mut back_end.random;
        let channel = random.below(self.options.channels);
        let padding = random.below(self.options.padding_max.min(PADDING_MAX) + 1) as usize;
        let kind = random.pick(&[IngressKind::Stream, IngressKind::List]);
        let mut unfit = random.chance(UNFIT_PM).then(|| random.pick(&Unfit::ALL));
        if unfit.is_some() && random.chance(LONG_PM) {
            unfit = Some(Unfit::TooLong);
        }
        let mut key = None;
        if unfit.is_none() && random.chance(KEYED_PM) {
            let at = self.queues.entries.len();
            key = Some(format!("key-{index}-{at}"));
            // The key of one that was certainly written before, behind which this one is in the same queue.
            let before = back_end.keyed.get(&(kind, channel)).map(|at| &self.queues.entries[*at]);
            let before = before.filter(|of| of.written > 0 && !loses_data);
            if let Some(before) = before.filter(|_| random.chance(REUSED_PM)) {
                unfit = Some(Unfit::OthersKey);
                key.clone_from(&before.key);
            } else {
                back_end.keyed.insert((kind, channel), at);
            }
        }
        let number = self.oracle.publish_queued(channel, padding);
        if unfit.is_some() {
            self.oracle.withhold(number);
        }
        self.queues.entries.push(Entry {
            number,
            channel,
            padding,
            kind,
            key,
            unfit,
            written: 0,
            unsure: false,
            first: None,
        });
        self.queues.entries.len() - 1
    }

    /// A back-end's connection to the primary, made anew if there is none.
    fn reach_redis(&mut self, index: usize) -> Option<(usize, ConnId)> {
        let back_end = &self.queues.back_ends[index];
        if back_end.connection.is_some() {
            return back_end.connection;
        }
        let (now, primary) = (self.time(), self.redis.primary());
        let peer = SocketAddr::from(([10, 0, 1, 1 + index as u8], 4_000));
        let connection = self.redis.server(primary).connect(now, peer)?;
        let back_end = &mut self.queues.back_ends[index];
        back_end.connection = Some((primary, connection));
        back_end.waiting.push_back(None);
        back_end.partial.clear();
        let mut bytes = Vec::new();
        command(&mut bytes, &["AUTH", PASSWORD]);
        self.redis.server(primary).receive(now, connection, &bytes);
        back_end.connection
    }

    /// What Redis has answered to back-ends.
    pub(super) fn collect_queues(&mut self) {
        self.queues.looks += 1;
        for index in 0..self.queues.back_ends.len() {
            let back_end = &mut self.queues.back_ends[index];
            let Some((server, connection)) = back_end.connection else { continue };
            let redis = self.redis.server(server);
            back_end.partial.extend(redis.take(connection));
            let closed = redis.has_closed(connection);
            while let Some(taken_in) = next_answer(&mut back_end.partial) {
                back_end.answers += 1;
                let moment = (self.queues.looks, index, back_end.answers);
                let Some(Some(at)) = back_end.waiting.pop_front() else { continue };
                let entry = &mut self.queues.entries[at];
                if taken_in {
                    entry.written += 1;
                    entry.first.get_or_insert(moment);
                } else {
                    back_end.again.push_back(at);
                }
            }
            if closed {
                back_end.connection = None;
                for at in std::mem::take(&mut back_end.waiting).into_iter().flatten() {
                    let entry = &mut self.queues.entries[at];
                    entry.unsure = true;
                    if entry.key.is_some() {
                        back_end.again.push_back(at);
                    }
                }
            }
        }
    }
}

/// In the end.
impl World {
    /// Everything is taken out of the queues.
    pub(super) fn empty_queues(&mut self) {
        if self.queues.back_ends.is_empty() {
            return;
        }
        let mut left = Vec::new();
        for _ in 0..EMPTY_SECONDS {
            self.run_until(self.clock.nanos + SECOND);
            left = [STREAM, TAKEN, LIST].map(|name| self.length(name)).into();
            let written = self.queues.back_ends.iter().all(|it| it.again.is_empty());
            if self.oracle.violation.is_some() || written && left == [0; 3] {
                return;
            }
        }
        self.oracle.fail("queue", || format!("entries are left: {left:?}"));
    }

    fn length(&mut self, name: &str) -> usize {
        let kind = if name == LIST { "LLEN" } else { "XLEN" };
        let text = self.ask_redis(&[kind, name]);
        text.trim_start_matches(':').trim_end().parse().unwrap_or(usize::MAX)
    }

    fn ask_redis(&mut self, words: &[&str]) -> String {
        let (now, primary) = (self.time(), self.redis.primary());
        let peer = SocketAddr::from(([10, 0, 1, 200], 4_000));
        let redis = self.redis.server(primary);
        let Some(connection) = redis.connect(now, peer) else { return String::new() };
        let mut bytes = Vec::new();
        command(&mut bytes, &["AUTH", PASSWORD]);
        command(&mut bytes, words);
        redis.receive(now, connection, &bytes);
        let answer = redis.take(connection);
        redis.closed(now, connection);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        answer.strip_prefix("+OK\r\n").map(str::to_owned).unwrap_or(answer)
    }

    /// What has become of all entries.
    pub(super) fn compare_queues(&mut self) {
        if self.queues.back_ends.is_empty() || self.oracle.violation.is_some() {
            return;
        }
        let mut dead = BTreeMap::new();
        for name in [STREAM_DEAD, LIST_DEAD] {
            read_dead(&self.ask_redis(&["XRANGE", name, "-", "+"]), &mut dead);
        }
        let heard = self.clients.last().and_then(|client| client.audit.as_deref());
        let Some(heard) = heard.cloned() else { return };
        let mut last: BTreeMap<(IngressKind, u64), Vec<(Moment, Number)>> = BTreeMap::new();
        for at in 0..self.queues.entries.len() {
            let Entry { number, channel, kind, unfit, written, unsure, first, .. } =
                self.queues.entries[at];
            let there = dead.get(&number).map_or(&[][..], Vec::as_slice);
            let due = unfit.map(|unfit| unfit.reason(kind));
            let right = there.iter().all(|reason| Some(reason.as_str()) == due);
            let count = there.len() as u64;
            let most = if self.oracle.loses_data { u64::MAX } else { written + u64::from(unsure) };
            let least = if self.oracle.loses_data || unfit.is_none() { 0 } else { written };
            if !right || !(least..=most).contains(&count) {
                let entry = &self.queues.entries[at];
                return self.oracle.fail("queue", || format!("put aside as {there:?}: {entry:?}"));
            }
            self.oracle.queued[usize::from(unfit.is_some())] += written.min(1);
            if unfit.is_some() || self.oracle.loses_data {
                continue;
            }
            let whole = heard.whole.get(&channel).is_some_and(|whole| *whole);
            if written > 0 && whole && !heard.numbers.contains(&number) {
                let entry = &self.queues.entries[at];
                return self.oracle.fail("queue", || format!("never published: {entry:?}"));
            }
            if written == 0 && !unsure && self.oracle.reached(number) > 0 {
                let entry = &self.queues.entries[at];
                return self.oracle.fail("queue", || format!("never written: {entry:?}"));
            }
            if let Some(moment) = first.filter(|_| !unsure) {
                last.entry((kind, channel)).or_default().push((moment, number));
            }
        }
        for moments in last.values_mut() {
            moments.sort_unstable();
            self.compare_order(moments);
        }
    }

    /// What was written one after the other has numbers one after the other.
    fn compare_order(&mut self, moments: &[(Moment, Number)]) {
        for pair in moments.windows(2) {
            let [(before, first), (after, second)] = pair else { continue };
            if before.0 == after.0 && before.1 != after.1 {
                continue;
            }
            let places = self.oracle.place(*first).zip(self.oracle.place(*second));
            if let Some((one, other)) = places.filter(|(one, other)| one.0 == other.0)
                && one.1 >= other.1
            {
                let text = format!("{first} was written before {second}: {one:?}, {other:?}");
                self.oracle.fail("queue", || text);
            }
        }
    }
}

impl Entry {
    /// The command that writes it. Whatever becomes of it, it is found again by its mark.
    fn words(&self) -> Vec<String> {
        let Self { number, channel, padding, kind, key, unfit, .. } = self;
        let mark = format!("#{number}#");
        let mut data = Vec::new();
        let long = if *unfit == Some(Unfit::TooLong) { TOO_LONG } else { *padding };
        message::write_data(&mut data, *channel, *number, long);
        let mut data = String::from_utf8(data).unwrap_or_default();
        let mut fields = vec![("mark", mark)];
        match unfit {
            Some(Unfit::NoObject) => data = "7".into(),
            Some(Unfit::LongKey) => fields.push(("id", "k".repeat(300))),
            _ => fields.extend(key.clone().map(|key| ("id", key))),
        }
        if *unfit != Some(Unfit::NoChannel) {
            fields.push(("channel", channel_name(*channel)));
        }
        if *unfit != Some(Unfit::NoEvent) {
            fields.push(("event", "e".into()));
        }
        match kind {
            IngressKind::Stream => {
                let mut words: Vec<String> = vec!["XADD".into(), STREAM.into(), "*".into()];
                fields.push(("data", data));
                words.extend(fields.into_iter().flat_map(|(name, value)| [name.to_owned(), value]));
                words
            }
            IngressKind::List => {
                let mut json = String::from("{");
                for (name, value) in fields {
                    let _ = write!(json, r#""{name}":"{value}","#);
                }
                let _ = write!(json, r#""data":{data}}}"#);
                vec!["LPUSH".into(), LIST.into(), json]
            }
        }
    }
}

/// Somebody who listens to everything from the beginning.
#[derive(Clone, Debug, Default)]
pub(super) struct Audit {
    /// By channel: all that was published to it since has come.
    pub(super) whole: BTreeMap<u64, bool>,
    pub(super) numbers: BTreeSet<Number>,
}

impl Audit {
    /// Something of a channel did not come.
    pub(super) fn misses(&mut self, channel: u64) {
        self.whole.insert(channel, false);
    }

    /// A subscription was confirmed, which goes on where the one before has ended.
    pub(super) fn starts(&mut self, channel: u64, goes_on: bool) {
        self.whole.entry(channel).and_modify(|whole| *whole &= goes_on).or_insert(true);
    }
}

fn command(out: &mut Vec<u8>, words: &[impl AsRef<str>]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        let word = word.as_ref();
        out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
}

/// Takes an answer away: whether it is none of an error.
fn next_answer(bytes: &mut Vec<u8>) -> Option<bool> {
    let end = bytes.windows(2).position(|it| it == b"\r\n")? + 2;
    let mut len = end;
    if bytes[0] == b'$' {
        let count: usize = std::str::from_utf8(&bytes[1..end - 2]).ok()?.parse().ok()?;
        len = end + count + 2;
    }
    if bytes.len() < len {
        return None;
    }
    let error = bytes[0] == b'-';
    bytes.drain(..len);
    Some(!error)
}

/// Reads entries that were put aside: the reason of each by what is marked in it.
fn read_dead(answer: &str, dead: &mut BTreeMap<Number, Vec<String>>) {
    for part in answer.split("\r\nreason\r\n").skip(1) {
        let reason = part.split("\r\n").nth(1).unwrap_or_default();
        let mark = part.split('#').nth(1).and_then(|number| number.parse().ok());
        dead.entry(mark.unwrap_or(Number::MAX)).or_default().push(reason.to_owned());
    }
}

const STREAM: &str = "mahavishnu:ingress";
const STREAM_DEAD: &str = "mahavishnu:ingress:dead";
const LIST: &str = "mahavishnu:queue";
const LIST_DEAD: &str = "mahavishnu:queue:dead";
/// Where the list's elements have names.
const TAKEN: &str = "mahavishnu:queue:taken";

const BACK_ENDS: u64 = 2;
/// Entries of one world.
const ENTRIES_MAX: u64 = 300;
const PADDING_MAX: u64 = 1_000;
/// More than a message may have, and an entry.
const TOO_LONG: usize = 1_200_000;
const UNFIT_PM: u64 = 60;
/// Of those that are unfit.
const LONG_PM: u64 = 50;
const KEYED_PM: u64 = 400;
/// Of those with a key.
const REUSED_PM: u64 = 100;
const UNHEARD_PM: u64 = 50;
const EMPTY_SECONDS: u64 = 600;
