//! Channels as one hub sees them: which of its connections subscribe, and how a round reaches their outboxes.

mod hand_out;
mod slow;

use std::{collections::VecDeque, sync::Arc};

use super::{
    Hub,
    answer::AnswerTo,
    conn::{Conn, Gap, Session},
    slab::Slab,
    subscriptions::Subscription,
    types::{ConnId, Inner, Joiner, ShardId},
};
use crate::{
    auth::Verb,
    config::SlowPolicy,
    entropy::{KeyedMap, KeyedState},
    reason::Reason,
    time::Now,
    ws::{Deflated, Segment},
};

/// The channels that connections of this hub subscribe to.
#[derive(Debug)]
pub(crate) struct Channels {
    names: KeyedMap<Arc<str>, u32>,
    slots: Slab<Channel>,
    /// The latest channel's tag.
    tag: u32,
    /// Rounds that wait to be handed to their subscribers, in order.
    rounds: VecDeque<Round>,
    /// Those that are one large message each, and what follows them in their channels. They come after the others: a
    /// small message need not wait until a large one of another channel has been written to all its subscribers.
    large: VecDeque<Round>,
    /// Connections that could not take a round; empty between rounds.
    slow: Vec<u32>,
}

/// Messages of one channel, for the subscribers here.
#[derive(Debug)]
struct Round {
    /// The channel's index.
    channel: u32,
    segment: Segment,
    /// The same, compressed.
    deflated: Option<Box<Deflated>>,
    first_offset: u64,
    /// The channel's home, and the credit that it is given back for the round; 0 if that is this hub.
    home: ShardId,
    credit: u32,
}

impl Round {
    /// The form in which `conn` takes it.
    fn of(&self, conn: &Conn) -> &Segment {
        match &self.deflated {
            Some(deflated) if conn.ws.window_bits() >= deflated.window_bits => &deflated.segment,
            _ => &self.segment,
        }
    }
}

#[derive(Debug)]
struct Channel {
    name: Arc<str>,
    /// Marks its segments in outboxes. An index would not do: it is given to the next channel while segments of the one
    /// before may still wait, and the newest message of the one would then replace those of the other.
    tag: u32,
    policy: SlowPolicy,
    /// The number behind the last message that was handed out.
    next_offset: u64,
    members: Vec<Member>,
    /// Subscriptions that the home has not confirmed, in the order in which they were asked for.
    waiting: VecDeque<Waiting>,
}

/// One subscriber of a channel.
#[derive(Clone, Copy, Debug)]
struct Member {
    conn: u32,
    /// Where the connection lists this channel.
    subscription: u32,
}

#[derive(Debug)]
struct Waiting {
    conn: ConnId,
    /// `None`: unsubscribed, and answered, before the home had confirmed.
    answer: Option<AnswerTo>,
}

impl Channels {
    pub(crate) fn new(keys: KeyedState) -> Self {
        Self {
            names: KeyedMap::with_hasher(keys),
            slots: Slab::new(),
            tag: 0,
            rounds: VecDeque::new(),
            large: VecDeque::new(),
            slow: Vec::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Rounds that wait to be handed out.
    pub(crate) fn rounds(&self) -> usize {
        self.rounds.len() + self.large.len()
    }

    fn next_round(&mut self) -> Option<Round> {
        self.rounds.pop_front().or_else(|| self.large.pop_front())
    }

    /// Takes the rounds of one channel out, in order.
    fn rounds_of(&mut self, index: u32) -> VecDeque<Round> {
        let mut taken = VecDeque::new();
        for rounds in [&mut self.rounds, &mut self.large] {
            if rounds.iter().any(|round| round.channel == index) {
                let (mine, others): (VecDeque<Round>, VecDeque<Round>) =
                    std::mem::take(rounds).into_iter().partition(|round| round.channel == index);
                *rounds = others;
                taken.extend(mine);
            }
        }
        taken
    }

    pub(crate) fn name(&self, index: u32) -> Option<&Arc<str>> {
        self.slots.get(index).map(|channel| &channel.name)
    }

    fn find(&self, name: &str) -> Option<u32> {
        self.names.get(name).copied()
    }

    fn found(&mut self, name: &str, policy: SlowPolicy) -> Option<u32> {
        if let Some(index) = self.find(name) {
            return Some(index);
        }
        let name: Arc<str> = name.into();
        self.tag = if self.tag == Segment::NO_TAG - 1 { 0 } else { self.tag + 1 };
        let channel = Channel {
            name: name.clone(),
            tag: self.tag,
            policy,
            next_offset: 0,
            members: Vec::new(),
            waiting: VecDeque::new(),
        };
        let (index, _) = self.slots.insert(channel)?;
        self.names.insert(name, index);
        Some(index)
    }

    fn drop_if_unused(&mut self, index: u32) {
        let unused = self
            .slots
            .get(index)
            .is_some_and(|channel| channel.members.is_empty() && channel.waiting.is_empty());
        if unused && let Some(channel) = self.slots.remove(index) {
            self.names.remove(&channel.name);
            // The index may stand for another channel before the turn is over. Handed to nobody, so that their homes get
            // back what they gave for them.
            let rounds = self.rounds.iter_mut().chain(&mut self.large);
            for round in rounds.filter(|round| round.channel == index) {
                round.channel = NOBODY;
            }
        }
    }

    /// What a burst made large.
    pub(crate) fn give_back(&mut self) {
        for rounds in [&mut self.rounds, &mut self.large] {
            if rounds.is_empty() && rounds.capacity() > ROUNDS_KEPT_MAX {
                *rounds = VecDeque::new();
            }
        }
    }

    /// Puts a new configuration's policies in force.
    pub(crate) fn set_policies(&mut self, of: impl Fn(&str) -> SlowPolicy) {
        let indices: Vec<u32> = self.slots.indices().collect();
        for index in indices {
            if let Some(channel) = self.slots.get_mut(index) {
                channel.policy = of(&channel.name);
            }
        }
    }
}

impl Hub {
    /// Asks the channel's home to add a connection. The answer follows once it is confirmed.
    pub(crate) fn subscribe(&mut self, now: Now, id: ConnId, name: &str, answer: AnswerTo) {
        let Some(conn) = self.conn(id) else { return };
        let deflates = conn.ws.window_bits() > 0;
        let known = self.channels.find(name);
        if known.is_some_and(|index| {
            conn.subscriptions.iter().any(|subscription| subscription.channel == index)
        }) {
            self.answer_subscribed(now, id, name, &answer);
            return;
        }
        if conn.subscriptions.len() >= self.config.limits.channels.channels_per_connection_max {
            self.refuse(now, id, Reason::TooManyChannels, answer.correlation.as_deref());
            return;
        }
        let joining_max =
            self.config.limits.channels.channels_per_connection_max.min(usize::from(u16::MAX));
        if usize::from(conn.aside.get().joining) >= joining_max {
            // Each of them is a message to another hub that is still to be answered.
            self.refuse(now, id, Reason::TooManyChannels, answer.correlation.as_deref());
            return;
        }
        let full = known.is_none()
            && self.channels_everywhere() >= self.config.limits.channels.channels_max;
        let index =
            if full { None } else { self.channels.found(name, self.config.slow_readers.of(name)) };
        let Some(channel) = index.and_then(|index| self.channels.slots.get_mut(index)) else {
            self.refuse(now, id, Reason::ChannelsFull, answer.correlation.as_deref());
            return;
        };
        let name = channel.name.clone();
        channel.waiting.push_back(Waiting { conn: id, answer: Some(answer) });
        if let Some((conn, _)) = self.conn_mut(id) {
            let joining = &mut conn.aside.put().joining;
            *joining = joining.saturating_add(1);
        }
        let member = Joiner { conn: id, deflates };
        self.tell(now, self.homes.of(&name), Inner::Join { channel: name, member });
    }

    /// The home has added the connection: segments that come from now on are for it.
    pub(crate) fn on_joined(&mut self, now: Now, name: &str, member: Joiner) {
        let Joiner { conn: id, deflates } = member;
        if let Some((conn, _)) = self.conn_mut(id)
            && let Some(aside) = conn.aside.get_mut()
        {
            aside.joining = aside.joining.saturating_sub(1);
            conn.aside.tidy();
        }
        let index = self.channels.find(name);
        if let Some(index) = index {
            // Rounds from before are for the others. This may close slow readers, even all: what is still waiting keeps
            // the channel.
            self.hand_out_channel(now, index);
        }
        let channel = index.and_then(|index| self.channels.slots.get_mut(index));
        let waiting = channel.and_then(|channel| {
            let at = channel.waiting.iter().position(|waiting| waiting.conn == id)?;
            channel.waiting.remove(at)
        });
        let (Some(index), Some(waiting)) = (index, waiting) else { return };
        let max = self.config.limits.channels.channels_per_connection_max;
        let active = self
            .conn(id)
            .filter(|conn| conn.session == Session::Active && waiting.answer.is_some());
        let fresh =
            active.filter(|conn| conn.subscriptions.iter().all(|known| known.channel != index));
        let full = fresh.is_some_and(|conn| conn.subscriptions.len() >= max);
        // The token may have been replaced, or the policy, since this was asked for.
        let forbidden = active.is_some() && !self.allows(id, Verb::Subscribe, name);
        let wanted = fresh.is_some() && !full && !forbidden;
        if !wanted || !self.add_member(index, id) {
            self.channels.drop_if_unused(index);
            let leave = Inner::Leave { channel: name.into(), deflates };
            self.tell(now, self.homes.of(name), leave);
        }
        let Some(answer) = waiting.answer else { return };
        if forbidden {
            self.refuse(now, id, Reason::SubscribeForbidden, answer.correlation.as_deref());
            self.settle(id);
        } else if full {
            // Many may have been asked for before the first was confirmed.
            self.refuse(now, id, Reason::TooManyChannels, answer.correlation.as_deref());
            self.settle(id);
        } else if self.conn(id).is_some_and(|conn| conn.session == Session::Active) {
            self.answer_subscribed(now, id, name, &answer);
        }
    }

    fn add_member(&mut self, index: u32, id: ConnId) -> bool {
        let (Some(channel), Some(conn)) =
            (self.channels.slots.get_mut(index), self.conns.get_mut(id.index))
        else {
            return false;
        };
        let member = u32::try_from(channel.members.len()).unwrap_or(u32::MAX);
        let subscription = u32::try_from(conn.subscriptions.len()).unwrap_or(u32::MAX);
        channel.members.push(Member { conn: id.index, subscription });
        conn.subscriptions.push(Subscription { channel: index, member });
        self.tally.subscriptions += 1;
        true
    }

    /// Takes a connection out of a channel; it is not an error if it is not in it.
    pub(crate) fn unsubscribe(&mut self, now: Now, id: ConnId, name: &str) {
        self.cancel_subscribe(id, name);
        let Some(index) = self.channels.find(name) else { return };
        // What was published before this moment is still delivered.
        self.seal_channel(name);
        self.hand_out_channel(now, index);
        let waiting = self.channels.slots.get_mut(index).map(|channel| channel.waiting.iter_mut());
        let cancelled: Vec<_> = waiting
            .into_iter()
            .flatten()
            .filter(|waiting| waiting.conn == id)
            .filter_map(|waiting| waiting.answer.take())
            .collect();
        for answer in cancelled {
            // Answers come in the order of the requests.
            self.answer_subscribed(now, id, name, &answer);
        }
        let at = self.conn(id).and_then(|conn| {
            conn.subscriptions.iter().position(|subscription| subscription.channel == index)
        });
        if let Some(at) = at {
            if let Some(channel) = self.channels.slots.get(index) {
                self.keep_queued(id, channel.tag);
            }
            self.remove_member(now, id, at);
        }
    }

    /// What a connection is told next must not be overtaken by newer messages that take the place of queued ones.
    fn keep_queued(&mut self, id: ConnId, tag: u32) {
        if let Some(conn) = self.conns.get_mut(id.index) {
            conn.ws.outbox_mut().keep(tag);
        }
    }

    /// Takes a connection out of all its channels.
    pub(crate) fn unsubscribe_all(&mut self, now: Now, id: ConnId) {
        while let Some(last) =
            self.conn(id).and_then(|conn| conn.subscriptions.len().checked_sub(1))
        {
            self.remove_member(now, id, last);
        }
    }

    /// Removes the subscription at `at` in the connection's list. Both lists fill the hole with their last entry, whose
    /// partner is told of its new place.
    fn remove_member(&mut self, now: Now, id: ConnId, at: usize) {
        let Some(conn) = self.conns.get_mut(id.index) else { return };
        let Some(removed) = conn.subscriptions.swap_remove(at) else { return };
        let Subscription { channel: index, member } = removed;
        let deflates = conn.ws.window_bits() > 0;
        if let Some(aside) = conn.aside.get_mut() {
            aside.gaps.retain(|gap| gap.channel != index);
            conn.lossy = !aside.gaps.is_empty();
            conn.aside.tidy();
        }
        if let Some(moved) = conn.subscriptions.get(at).copied()
            && let Some(other) = self.channels.slots.get_mut(moved.channel)
            && let Some(entry) = other.members.get_mut(moved.member as usize)
        {
            entry.subscription = at as u32;
        }
        let Some(channel) = self.channels.slots.get_mut(index) else { return };
        if (member as usize) < channel.members.len() {
            channel.members.swap_remove(member as usize);
        }
        if let Some(moved) = channel.members.get(member as usize).copied()
            && let Some(other) = self.conns.get_mut(moved.conn)
            && let Some(entry) = other.subscriptions.get_mut(moved.subscription as usize)
        {
            entry.member = member;
        }
        let name = channel.name.clone();
        self.tally.subscriptions -= 1;
        self.channels.drop_if_unused(index);
        self.tell(now, self.homes.of(&name), Inner::Leave { channel: name, deflates });
    }
}

/// A longer queue of rounds is given back once it is empty.
const ROUNDS_KEPT_MAX: usize = 1024;

/// In place of a channel's index: it has no subscribers any more.
const NOBODY: u32 = u32::MAX;
