//! What waits for the bus: messages that nobody is told of before it has numbered them. Of each channel one append is under
//! way at most; what is published meanwhile is the next one.

mod queue;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use uuid::Uuid;

use self::queue::Queue;
pub(super) use self::queue::{Kind, Known, Pending, Round, UnderWay};
use super::{
    bus::{Basis, CallId, Writer},
    env::Env,
    storing::Waiting,
    types::{Place, Published},
};
use crate::{
    entropy::{KeyedMap, KeyedState},
    protocol::Position,
    reason::Reason,
    time::Instant,
};

/// The messages of a hub that wait.
#[derive(Debug)]
pub(super) struct Appending {
    /// Who appends.
    pub(super) writer: Writer,
    queues: KeyedMap<Arc<str>, Queue>,
    /// Channels whose next append may be possible now.
    ready: VecDeque<Arc<str>>,
    /// Channels that wait for the bus to be there.
    adrift: BTreeSet<Arc<str>>,
    /// Channels whose append is tried again at a time, in order.
    resting: VecDeque<(Instant, Arc<str>)>,
    /// Whose answer it will be.
    calls: BTreeMap<CallId, Arc<str>>,
    /// Channels by when the first of their messages has waited long enough.
    order: BTreeMap<(Instant, u64), Arc<str>>,
    last: u64,
    /// Bytes of all messages, twice while they are under way.
    bytes: usize,
    /// What is decided without the bus, to be answered in the same turn.
    outcomes: VecDeque<Outcome>,
}

/// A message that is not sent to the bus, or not any more.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It is answered so.
    Answered(Waiting, Result<Published, Reason>),
    /// Subscribers of this node get it.
    Local(Waiting),
}

impl Appending {
    pub(super) fn new(keys: KeyedState, place: Place) -> Self {
        Self {
            writer: Writer { node: place.node(), shard: place.shard.0 },
            queues: KeyedMap::with_hasher(keys),
            ready: VecDeque::new(),
            adrift: BTreeSet::new(),
            resting: VecDeque::new(),
            calls: BTreeMap::new(),
            order: BTreeMap::new(),
            last: 0,
            bytes: 0,
            outcomes: VecDeque::new(),
        }
    }

    /// Whether as much waits as may.
    pub(super) fn is_full(&self, env: &Env) -> bool {
        self.bytes >= env.config.limits.bus.bus_queue_bytes_max
    }

    /// Whether half of that waits.
    pub(super) fn is_half_full(&self, env: &Env) -> bool {
        self.bytes * 2 >= env.config.limits.bus.bus_queue_bytes_max
    }

    /// Bytes that wait for the bus or are under way to it.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty() && self.outcomes.is_empty()
    }

    /// Something that is decided at once.
    pub(super) fn decide(&mut self, outcome: Outcome) {
        self.outcomes.push_back(outcome);
    }

    pub(super) fn next_outcome(&mut self) -> Option<Outcome> {
        self.outcomes.pop_front()
    }

    pub(super) fn add(&mut self, env: &Env, pending: Pending) {
        self.bytes += pending.weight();
        if let Some(queue) = self.queues.get_mut(&*pending.waiting.publication.channel) {
            return queue.next.push_back(pending);
        }
        let channel: Arc<str> = (&*pending.waiting.publication.channel).into();
        let due = self.due(env, pending.since);
        self.order.insert(due, channel.clone());
        self.queues.insert(channel.clone(), Queue::new(pending, due));
        self.ready.push_back(channel);
    }

    fn due(&mut self, env: &Env, since: Instant) -> (Instant, u64) {
        self.last += 1;
        (since + queue_time(env), self.last)
    }

    /// The next channel of which something may be sent.
    pub(super) fn next_ready(&mut self) -> Option<Arc<str>> {
        loop {
            let channel = self.ready.pop_front()?;
            if self.queues.get(&channel).is_some_and(|queue| queue.is_ready()) {
                return Some(channel);
            }
        }
    }

    /// What was sent, or almost, and is to be sent again.
    pub(super) fn under_way(&self, channel: &str) -> Option<&UnderWay> {
        self.queues.get(channel)?.under_way.as_ref()
    }

    /// Takes the next messages of a channel, as many as make a round.
    pub(super) fn take(&mut self, channel: &str, round_bytes_max: usize) -> Vec<Pending> {
        self.queues.get_mut(channel).map(|queue| queue.take(round_bytes_max)).unwrap_or_default()
    }

    /// These are sent.
    pub(super) fn begin(&mut self, channel: &Arc<str>, under_way: UnderWay) {
        self.bytes += under_way.own_bytes();
        if let Some(queue) = self.queues.get_mut(channel) {
            self.calls.insert(under_way.id, channel.clone());
            queue.send(Some(under_way));
        }
    }

    /// The same are sent again.
    pub(super) fn resend(&mut self, channel: &Arc<str>) {
        if let Some(queue) = self.queues.get_mut(channel)
            && let Some(under_way) = &queue.under_way
        {
            self.calls.insert(under_way.id, channel.clone());
            queue.send(None);
        }
    }

    /// Nothing can be sent of a channel now. `cold`: it is tried again as soon as the bus is there.
    pub(super) fn wait(&mut self, channel: &Arc<str>, cold: bool) {
        if let Some(queue) = self.queues.get_mut(channel) {
            queue.wait();
            if cold {
                self.adrift.insert(channel.clone());
            }
        }
    }

    /// Something may be possible that was not before.
    pub(super) fn wake(&mut self, channel: &str) {
        if let Some((name, queue)) = self.queues.get_key_value(channel)
            && queue.is_waiting()
        {
            let name = name.clone();
            if let Some(queue) = self.queues.get_mut(channel) {
                queue.wake();
            }
            self.ready.push_back(name);
        }
    }

    /// The bus is away: what rests until something is tried again waits for that.
    pub(super) fn on_down(&mut self) {
        for (_, channel) in std::mem::take(&mut self.resting) {
            if self.queues.get(&channel).is_some_and(Queue::is_waiting) {
                self.adrift.insert(channel);
            }
        }
    }

    /// The bus is there.
    pub(super) fn on_up(&mut self) {
        for channel in std::mem::take(&mut self.adrift) {
            self.wake(&channel);
        }
    }
}

/// Answers.
impl Appending {
    /// The bus has answered. Whose append it was.
    pub(super) fn answered(&mut self, id: CallId) -> Option<Arc<str>> {
        self.calls.remove(&id)
    }

    /// What is under way has come to an end.
    pub(super) fn done(&mut self, env: &Env, channel: &Arc<str>) -> Option<UnderWay> {
        let under_way = self.queues.get_mut(channel)?.under_way.take()?;
        self.bytes -= under_way.weight();
        self.go_on(env, channel);
        Some(under_way)
    }

    /// What is under way has come to nothing, or nobody knows (`tried`): it is tried again in a while, or as soon as something
    /// has changed. Unless it was given up.
    pub(super) fn retry(&mut self, env: &Env, channel: &Arc<str>, tried: bool) {
        let Some(queue) = self.queues.get_mut(channel) else { return };
        let Some(under_way) = &mut queue.under_way else { return };
        under_way.tried |= tried;
        if under_way.round.is_empty() {
            self.done(env, channel);
            return;
        }
        queue.wait();
        self.resting.push_back((env.now.mono + RESTED_AFTER, channel.clone()));
    }

    /// The document that the next message of a channel is folded from, as far as the bus has told it.
    pub(super) fn known(&self, channel: &str) -> Option<&Known> {
        self.queues.get(channel)?.known.as_deref()
    }

    /// The bus has told a channel's document, or was given it.
    pub(super) fn learn(&mut self, channel: &str, known: Known) {
        if let Some(queue) = self.queues.get_mut(channel) {
            self.bytes += known.weight();
            let before = queue.known.replace(Box::new(known));
            self.bytes -= before.map_or(0, |before| before.weight());
        }
    }

    /// What is under way was folded from another document, and is to be sent again at once. It is certain that it was not made.
    pub(super) fn refold(&mut self, channel: &Arc<str>, state: Option<Bytes>, basis: Basis) {
        let Some(queue) = self.queues.get_mut(channel) else { return };
        let Some(under_way) = &mut queue.under_way else { return };
        let before = under_way.own_bytes();
        if let Kind::Append(round) = &mut under_way.kind {
            (round.state, round.basis) = (state, Some(basis));
            round.refolds += 1;
        }
        self.bytes = self.bytes - before + under_way.own_bytes();
        queue.wake();
        self.ready.push_back(channel.clone());
    }

    /// Whether what is under way was sent before, and nobody knows what became of it. Once its first message has come, it was
    /// appended.
    pub(super) fn is_unsure(&self, channel: &str) -> bool {
        self.queues.get(channel).is_some_and(Queue::is_unsure)
    }

    /// The id of the first message of what is under way.
    pub(super) fn first_id(&self, channel: &str) -> Option<Uuid> {
        self.under_way(channel).map(|under_way| under_way.first_id)
    }

    /// The first message of what is under way was heard before the bus has answered: should no answer come, it was appended
    /// there.
    pub(super) fn hear(&mut self, channel: &str, first: Position) {
        if let Some(under_way) = self.under_way_mut(channel) {
            under_way.heard = Some(first);
        }
    }

    /// Where what is under way was heard.
    pub(super) fn heard(&self, channel: &str) -> Option<Position> {
        self.under_way(channel)?.heard
    }

    /// Not all messages with numbers above this come to be heard here: what is under way may be among them.
    pub(super) fn miss(&mut self, channel: &str, above: u64) {
        if let Some(under_way) = self.under_way_mut(channel) {
            under_way.missed = Some(under_way.missed.map_or(above, |before| before.min(above)));
        }
    }

    fn under_way_mut(&mut self, channel: &str) -> Option<&mut UnderWay> {
        self.queues.get_mut(channel)?.under_way.as_mut()
    }

    /// Nothing of the channel is under way: the next append may go, or nothing waits.
    fn go_on(&mut self, env: &Env, channel: &Arc<str>) {
        let Some(queue) = self.queues.get_mut(channel) else { return };
        let before = queue.due;
        self.order.remove(&before);
        match queue.oldest() {
            Some(since) => {
                queue.wake();
                let due = self.due(env, since);
                if let Some(queue) = self.queues.get_mut(channel) {
                    queue.due = due;
                }
                self.order.insert(due, channel.clone());
                self.ready.push_back(channel.clone());
            }
            None => self.forget(channel),
        }
    }
}

impl Appending {
    fn forget(&mut self, channel: &str) {
        let queue = self.queues.remove(channel);
        let known = queue.and_then(|queue| queue.known);
        self.bytes -= known.map_or(0, |known| known.weight());
        self.adrift.remove(channel);
    }
}

/// Time.
impl Appending {
    /// When something is next to be done by itself.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let due = self.order.first_key_value().map(|((at, _), _)| *at);
        due.into_iter().chain(self.resting.front().map(|(at, _)| *at)).min()
    }

    /// Channels that have rested may go on.
    pub(super) fn wake_rested(&mut self, now: Instant) {
        while let Some((at, _)) = self.resting.front()
            && *at <= now
            && let Some((_, channel)) = self.resting.pop_front()
        {
            self.wake(&channel);
        }
    }

    /// Messages that have waited long enough, and what is to be said of them.
    pub(super) fn overdue(&mut self, env: &Env) -> Vec<(Waiting, Reason)> {
        let mut overdue = Vec::new();
        while let Some(entry) = self.order.first_entry()
            && entry.key().0 <= env.now.mono
        {
            let channel = entry.remove();
            let Some(queue) = self.queues.get_mut(&channel) else { continue };
            let (freed, expired) = queue.expire(env.now.mono, queue_time(env));
            self.bytes -= freed;
            overdue.extend(expired);
            let since = queue.oldest();
            if since.is_none() && !queue.is_sent() {
                self.forget(&channel);
                continue;
            }
            // Of one that was given up the answer is waited for: nothing overtakes it.
            let since = since.unwrap_or(env.now.mono + RESTED_AFTER);
            let due = self.due(env, since);
            if let Some(queue) = self.queues.get_mut(&channel) {
                queue.due = due;
            }
            self.order.insert(due, channel);
        }
        overdue
    }

    /// Every count equals what it counts.
    #[cfg(debug_assertions)]
    pub(super) fn check(&self) {
        assert_eq!(self.queues.len(), self.order.len(), "channels with messages that wait");
        let mut bytes = 0;
        for (due, channel) in &self.order {
            let queue = self.queues.get(channel);
            let queue = queue.unwrap_or_else(|| unreachable!("{channel} has nothing that waits"));
            assert_eq!(queue.due, *due, "when {channel} is due");
            bytes += queue.weight();
            let called = self.calls.values().any(|called| called == channel);
            assert_eq!(queue.is_sent(), called, "whether {channel} is under way");
            let ready = self.ready.contains(channel);
            assert!(!queue.is_ready() || ready, "{channel} could go on");
        }
        assert_eq!(self.bytes, bytes, "bytes that wait for the bus");
    }
}

fn queue_time(env: &Env) -> Duration {
    env.config.bus.as_ref().map_or(Duration::ZERO, |bus| bus.queue_time)
}

/// What the bus did not take is tried again after this.
const RESTED_AFTER: Duration = Duration::from_millis(500);
