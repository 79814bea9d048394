//! Channels as one hub sees them: which of its connections subscribe, and how a round reaches their outboxes.

use std::{collections::VecDeque, sync::Arc};

use super::{
    Hub,
    answer::AnswerTo,
    conn::{Conn, Gap, Session},
    slab::Slab,
    subscriptions::Subscription,
    types::{ConnId, Inner, Joiner, ShardId, round_weight},
};
use crate::{
    auth::Verb,
    config::SlowPolicy,
    entropy::{KeyedMap, KeyedState},
    protocol::Kind,
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
        if conn.subscriptions.len() >= self.config.limits.channels_per_connection_max {
            self.refuse(now, id, Reason::TooManyChannels, answer.correlation.as_deref());
            return;
        }
        let joining_max = self.config.limits.channels_per_connection_max.min(usize::from(u16::MAX));
        if usize::from(conn.aside.get().joining) >= joining_max {
            // Each of them is a message to another hub that is still to be answered.
            self.refuse(now, id, Reason::TooManyChannels, answer.correlation.as_deref());
            return;
        }
        let full = known.is_none() && self.channels_everywhere() >= self.config.limits.channels_max;
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
        let max = self.config.limits.channels_per_connection_max;
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

    /// A round of a channel has come for the subscribers here.
    pub(crate) fn deliver(
        &mut self,
        home: ShardId,
        name: &str,
        mut segment: Segment,
        mut deflated: Option<Box<Deflated>>,
        first_offset: u64,
    ) {
        let weight = match home == self.place.shard {
            true => 0,
            false => round_weight(name, &segment, deflated.as_deref()),
        };
        let found = self.channels.find(name);
        let found = found.and_then(|index| Some((index, self.channels.slots.get(index)?.tag)));
        let Some((channel, tag)) = found else {
            self.credits.owe(home, weight);
            return;
        };
        // This hub's own handle, where other hubs have the frames as well: when the last outbox *here* has let go must not
        // depend on how far other threads are.
        for form in
            [&mut segment].into_iter().chain(deflated.as_mut().map(|form| &mut form.segment))
        {
            form.set_tag(tag);
            self.backlog.note(form);
        }
        let credit = u32::try_from(weight).unwrap_or(u32::MAX);
        let round = Round { channel, segment, deflated, first_offset, home, credit };
        let large = round.segment.len() > self.config.limits.round_bytes_max
            || self.channels.large.iter().any(|before| before.channel == channel);
        let rounds = if large { &mut self.channels.large } else { &mut self.channels.rounds };
        rounds.push_back(round);
    }

    /// Hands out as much as every outbox that keeps up takes between two flushes. The rest waits for the next flush, so
    /// that a publisher who sends a lot at once does not make slow readers of those who are not.
    pub(crate) fn hand_out(&mut self, now: Now) {
        let budget = self.config.limits.outbox_bytes_max / 4;
        let (alone, waiting) = (self.channels.rounds() == 1, self.dirty.len());
        let mut handed = 0;
        while handed < budget
            && let Some(round) = self.channels.next_round()
        {
            handed += round.segment.len();
            self.hand_out_round(now, &round);
        }
        let added = self.dirty.len().saturating_sub(waiting);
        if alone && added <= FEW {
            self.dirty.rotate_right(added);
        }
    }

    /// Hands out everything: somebody who is owed it is about to be closed.
    pub(crate) fn hand_out_all(&mut self, now: Now) {
        while let Some(round) = self.channels.next_round() {
            self.hand_out_round(now, &round);
        }
    }

    /// Hands out the rounds of one channel: its membership is about to change.
    fn hand_out_channel(&mut self, now: Now, index: u32) {
        // Taken out first: handing out may close connections, and that may take away rounds of other channels.
        for round in self.channels.rounds_of(index) {
            self.hand_out_round(now, &round);
        }
    }

    fn hand_out_round(&mut self, now: Now, round: &Round) {
        if let Some(channel) = self.channels.slots.get_mut(round.channel) {
            channel.next_offset = round.first_offset + u64::from(round.segment.messages());
        }
        if round.credit > 0 {
            self.credits.owe(round.home, round.credit as usize);
        }
        match round.deflated {
            None => self.hand_out_as(now, round, |_| &round.segment),
            Some(_) => self.hand_out_as(now, round, |conn| round.of(conn)),
        }
    }

    /// Compiled twice: without a compressed form, nobody is asked which one they take.
    fn hand_out_as<'r>(&mut self, now: Now, round: &'r Round, form: impl Fn(&Conn) -> &'r Segment) {
        let Some(channel) = self.channels.slots.get(round.channel) else { return };
        let policy = channel.policy;
        let max = self.config.limits.outbox_bytes_max;
        let mut taken = 0u64;
        for member in &channel.members {
            let Some(conn) = self.conns.get_mut(member.conn) else { continue };
            let segment = form(conn);
            let full = conn.ws.outbox().bytes() + segment.len() > max;
            if full || conn.lossy || (conn.blocked && policy == SlowPolicy::Latest) {
                self.channels.slow.push(member.conn);
                continue;
            }
            conn.ws.outbox_mut().push(segment);
            taken += 1;
            if !conn.dirty {
                conn.dirty = true;
                self.dirty.push_back(member.conn);
            }
        }
        self.tally.sent(Kind::Event, taken * u64::from(round.segment.messages()));
        if !self.channels.slow.is_empty() {
            self.deliver_slowly(now, policy, round);
        }
    }

    /// The round for those who have no room, or have lost something already.
    fn deliver_slowly(&mut self, now: Now, policy: SlowPolicy, round: &Round) {
        let mut slow = std::mem::take(&mut self.channels.slow);
        for index in slow.drain(..) {
            let Some(generation) = self.conns.generation(index) else { continue };
            let id = self.id(index, generation);
            if policy == SlowPolicy::Latest && self.conflate(id, round) {
                continue;
            }
            let max = self.config.limits.outbox_bytes_max;
            let Some(conn) = self.conns.get_mut(index) else { continue };
            let segment = round.of(conn);
            let behind = conn.aside.get().gaps.iter().any(|gap| gap.channel == round.channel);
            if !behind && conn.ws.outbox().bytes() + segment.len() <= max {
                conn.ws.outbox_mut().push(segment);
                self.tally.sent(Kind::Event, u64::from(segment.messages()));
                self.mark_dirty(index);
            } else if policy == SlowPolicy::Disconnect {
                self.tally.dropped(Reason::SlowReader, u64::from(segment.messages()));
                self.close(now, id, Reason::SlowReader);
            } else {
                self.tally.dropped(Reason::SlowReader, u64::from(segment.messages()));
                note_gap(conn, round);
                // With nothing to write no flush would come to tell it.
                if conn.ws.outbox().is_empty() {
                    self.mark_dirty(index);
                }
            }
        }
        self.channels.slow = slow;
    }

    /// Keeps only the newest message of the channel waiting. False if nothing of the channel waits and there is no room.
    fn conflate(&mut self, id: ConnId, round: &Round) -> bool {
        let max = self.config.limits.outbox_bytes_max;
        let Some(conn) = self.conns.get_mut(id.index) else { return true };
        let segment = round.of(conn);
        let is_lost = |gap: &Gap| gap.channel == round.channel;
        if conn.lossy && conn.aside.get().gaps.iter().any(is_lost) {
            return false;
        }
        let newest = segment.len().saturating_sub(segment.last() as usize);
        let outbox = conn.ws.outbox();
        if outbox.bytes() + newest > max + outbox.replaceable(segment.tag()) {
            return false;
        }
        let Some(replaced) = conn.ws.outbox_mut().replace(segment) else { return false };
        self.tally.dropped(
            Reason::SlowReader,
            u64::from(replaced + segment.messages().saturating_sub(1)),
        );
        self.tally.sent(Kind::Event, 1);
        self.mark_dirty(id.index);
        true
    }

    /// Channels of which a connection may have something queued, with their policies.
    pub(crate) fn queued_channels(&self, conn: &Conn) -> Vec<(u32, SlowPolicy)> {
        let policy = |subscription: &Subscription| {
            let channel = self.channels.slots.get(subscription.channel)?;
            let queued = conn.ws.outbox().replaceable(channel.tag) > 0;
            queued.then_some((subscription.channel, channel.policy))
        };
        conn.subscriptions.iter().filter_map(policy).collect()
    }

    /// Drops what a connection has queued of a channel, or all but the newest message where that is its policy. Returns
    /// the messages dropped.
    pub(crate) fn drop_queued(&mut self, id: ConnId, index: u32, policy: SlowPolicy) -> u32 {
        let Some(channel) = self.channels.slots.get(index) else { return 0 };
        let (tag, next_offset) = (channel.tag, channel.next_offset);
        let Some(conn) = self.conns.get_mut(id.index) else { return 0 };
        if policy == SlowPolicy::Latest {
            return conn.ws.outbox_mut().drop_older(tag);
        }
        let dropped = conn.ws.outbox_mut().drop_tag(tag);
        let lost = u64::from(dropped);
        if dropped == 0 {
            return 0;
        }
        conn.lossy = true;
        let gaps = &mut conn.aside.put().gaps;
        match gaps.iter_mut().find(|gap| gap.channel == index) {
            // What is queued came before what was lost already.
            Some(gap) => {
                gap.lost += lost;
                gap.first_offset = gap.first_offset.saturating_sub(lost);
            }
            None => gaps.push(Gap {
                channel: index,
                lost,
                first_offset: next_offset.saturating_sub(lost),
                last_offset: next_offset.saturating_sub(1),
            }),
        }
        dropped
    }

    /// Tells a connection what it lost, as soon as half of its outbox is free.
    pub(crate) fn announce_gaps(&mut self, now: Now, id: ConnId) {
        let max = self.config.limits.outbox_bytes_max;
        let Some(conn) = self.conns.get_mut(id.index) else { return };
        if conn.ws.outbox().bytes() > max / 2 || !conn.ws.is_open() {
            return;
        }
        let gaps = conn.aside.get_mut().map(|aside| std::mem::take(&mut aside.gaps));
        conn.aside.tidy();
        conn.lossy = false;
        for gap in gaps.into_iter().flatten() {
            let channel = self.channels.slots.get(gap.channel);
            let Some((name, tag)) = channel.map(|channel| (channel.name.clone(), channel.tag))
            else {
                continue;
            };
            self.keep_queued(id, tag);
            self.send_gap(now, id, &name, gap);
        }
        self.mark_dirty(id.index);
    }
}

/// So few subscribers are written to before the publisher, whose answer would cost them the time of a system call. Many
/// would keep the publisher waiting.
const FEW: usize = 8;

/// A longer queue of rounds is given back once it is empty.
const ROUNDS_KEPT_MAX: usize = 1024;

/// Adds a lost round to what the connection will be told.
fn note_gap(conn: &mut Conn, round: &Round) {
    let Round { channel, segment, first_offset, .. } = round;
    let lost = u64::from(segment.messages());
    let last_offset = first_offset + lost.saturating_sub(1);
    conn.lossy = true;
    let gaps = &mut conn.aside.put().gaps;
    match gaps.iter_mut().find(|gap| gap.channel == *channel) {
        Some(gap) => {
            gap.lost += lost;
            gap.last_offset = last_offset;
        }
        None => {
            gaps.push(Gap { channel: *channel, lost, first_offset: *first_offset, last_offset })
        }
    }
}

/// In place of a channel's index: it has no subscribers any more.
const NOBODY: u32 = u32::MAX;
