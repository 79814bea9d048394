//! Channels as one hub sees them: which of its connections subscribe, and how a round reaches their outboxes.

mod founders;
mod hand_out;
mod slow;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, sync::Arc};

use self::{founders::Founders, slow::keep_queued};
use super::{
    connections::{AnswerTo, Conn, Connections, Subscription},
    env::Env,
    peers::Joiner,
    slab::Slab,
    types::{ConnId, Output, ShardId},
    visitors::{Who, network},
};
use crate::{
    auth::Verb,
    config::SlowPolicy,
    entropy::{KeyedMap, KeyedState},
    reason::Reason,
    ws::{Deflated, Segment},
};

/// What came of asking for a subscription.
#[derive(Debug)]
pub(super) enum Subscribe {
    /// Its home is to be asked to add the connection. The answer follows once it has.
    Ask(Arc<str>, Joiner),
    /// It was there already.
    Already(AnswerTo),
    /// It is refused.
    Refused(Reason, AnswerTo),
}

/// What came of a home's word that it has added a connection.
#[derive(Debug)]
pub(super) struct Joined {
    /// The home is to be told that it has left again.
    pub(super) leaves: bool,
    /// What the client is to be told; nothing if it has taken its wish back.
    pub(super) answer: Option<(AnswerTo, Result<(), Reason>)>,
}

/// A connection that left a channel, for the channel's home.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) channel: Arc<str>,
    /// It had agreed on permessage-deflate.
    pub(super) deflates: bool,
}

/// The channels that connections of this hub subscribe to.
#[derive(Debug)]
pub(super) struct Channels {
    names: KeyedMap<Arc<str>, u32>,
    slots: Slab<Channel>,
    founders: Founders,
    /// The latest channel's tag.
    tag: u32,
    /// Rounds that wait to be handed to their subscribers, in order.
    rounds: VecDeque<Round>,
    /// Those that are one large message each, and what follows them in their channels. They come after the others: a
    /// small message need not wait until a large one of another channel has been written to all its subscribers.
    large: VecDeque<Round>,
    /// Connections that could not take a round; empty between rounds.
    slow: Vec<u32>,
    /// Those of them that are to be closed.
    closing: VecDeque<ConnId>,
}

/// Messages of one channel, for the subscribers here.
#[derive(Debug)]
pub(super) struct Round {
    /// The channel's index.
    channel: u32,
    segment: Segment,
    /// The same, compressed.
    deflated: Option<Box<Deflated>>,
    first_offset: u64,
    /// The channel's home, and the credit that it is given back for the round; 0 if that is this hub.
    pub(super) home: ShardId,
    pub(super) credit: u32,
}

impl Round {
    /// Bytes of its frames.
    pub(super) fn bytes(&self) -> usize {
        self.segment.len()
    }

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
    founder: Who,
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
    pub(super) fn new(keys: KeyedState) -> Self {
        Self {
            names: KeyedMap::with_hasher(keys),
            slots: Slab::new(),
            founders: Founders::new(keys),
            tag: 0,
            rounds: VecDeque::new(),
            large: VecDeque::new(),
            slow: Vec::new(),
            closing: VecDeque::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Rounds that wait to be handed out.
    pub(super) fn rounds(&self) -> usize {
        self.rounds.len() + self.large.len()
    }

    /// The next one.
    pub(super) fn next_round(&mut self) -> Option<Round> {
        self.rounds.pop_front().or_else(|| self.large.pop_front())
    }

    /// Takes the rounds of one channel out, in order: its membership is about to change.
    pub(super) fn rounds_of(&mut self, index: u32) -> VecDeque<Round> {
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

    pub(super) fn find(&self, name: &str) -> Option<u32> {
        self.names.get(name).copied()
    }

    fn found(&mut self, name: &str, policy: SlowPolicy, founder: Who) -> Option<u32> {
        let name: Arc<str> = name.into();
        self.tag = if self.tag == Segment::NO_TAG - 1 { 0 } else { self.tag + 1 };
        let channel = Channel {
            name: name.clone(),
            tag: self.tag,
            policy,
            founder: founder.clone(),
            next_offset: 0,
            members: Vec::new(),
            waiting: VecDeque::new(),
        };
        let (index, _) = self.slots.insert(channel)?;
        self.names.insert(name, index);
        self.founders.add(founder);
        Some(index)
    }

    fn drop_if_unused(&mut self, index: u32) {
        let unused = self
            .slots
            .get(index)
            .is_some_and(|channel| channel.members.is_empty() && channel.waiting.is_empty());
        if unused && let Some(channel) = self.slots.remove(index) {
            self.names.remove(&channel.name);
            self.founders.leave(&channel.founder);
            // The index may stand for another channel before the turn is over. Handed to nobody, so that their homes get
            // back what they gave for them.
            let rounds = self.rounds.iter_mut().chain(&mut self.large);
            for round in rounds.filter(|round| round.channel == index) {
                round.channel = NOBODY;
            }
        }
    }

    /// What a burst made large.
    pub(super) fn give_back(&mut self) {
        for rounds in [&mut self.rounds, &mut self.large] {
            if rounds.is_empty() && rounds.capacity() > ROUNDS_KEPT_MAX {
                *rounds = VecDeque::new();
            }
        }
    }

    /// Puts a new configuration's policies in force.
    pub(super) fn set_policies(&mut self, of: impl Fn(&str) -> SlowPolicy) {
        let indices: Vec<u32> = self.slots.indices().collect();
        for index in indices {
            if let Some(channel) = self.slots.get_mut(index) {
                channel.policy = of(&channel.name);
            }
        }
    }
}

impl Channels {
    /// A connection wants to subscribe. `everywhere` says how many channels there are on all hubs.
    pub(super) fn subscribe(
        &mut self,
        env: &Env,
        connections: &mut Connections,
        id: ConnId,
        name: &str,
        answer: AnswerTo,
        everywhere: usize,
    ) -> Option<Subscribe> {
        let limits = &env.config.limits;
        let conn = connections.get(id)?;
        let deflates = conn.ws.window_bits() > 0;
        let known = self.find(name);
        if known.is_some_and(|index| {
            conn.subscriptions.iter().any(|subscription| subscription.channel == index)
        }) {
            return Some(Subscribe::Already(answer));
        }
        if conn.subscriptions.len() >= limits.channels.channels_per_connection_max {
            return Some(Subscribe::Refused(Reason::TooManyChannels, answer));
        }
        let joining_max = limits.channels.channels_per_connection_max.min(usize::from(u16::MAX));
        if usize::from(conn.rare().joining) >= joining_max {
            // Each of them is a message to another hub that is still to be answered.
            return Some(Subscribe::Refused(Reason::TooManyChannels, answer));
        }
        let index = match known {
            Some(index) => Some(index),
            None => match self.may_found(env, founder_of(conn), everywhere) {
                Ok(founder) => self.found(name, env.config.slow_readers.of(name), founder),
                Err(reason) => return Some(Subscribe::Refused(reason, answer)),
            },
        };
        let Some(channel) = index.and_then(|index| self.slots.get_mut(index)) else {
            return Some(Subscribe::Refused(Reason::ChannelsFull, answer));
        };
        channel.waiting.push_back(Waiting { conn: id, answer: Some(answer) });
        connections.edit(id)?.rare_mut().joining += 1;
        Some(Subscribe::Ask(channel.name.clone(), Joiner { conn: id, deflates }))
    }

    /// Whether there is room for one more channel, for this founder.
    fn may_found(&self, env: &Env, founder: Who, everywhere: usize) -> Result<Who, Reason> {
        let (limits, total) = (&env.config.limits.channels, self.len().max(everywhere));
        if total >= limits.channels_max {
            Err(Reason::ChannelsFull)
        } else if self.founders.may(limits, env.place.shards, total, &founder) {
            Ok(founder)
        } else {
            Err(Reason::ChannelsShare)
        }
    }

    /// Who was refused a channel for having many, for the operator; not every time.
    pub(super) fn refused_share(&mut self, env: &Env, conn: &Conn) -> Option<Output> {
        let (user, address) = (conn.user(), conn.ip);
        let tells = self.founders.tells(env.now.mono);
        let channels = self.founders.held(&founder_of(conn));
        tells.then_some(Output::ManyChannels { user, address, channels })
    }

    /// The home has added the connection: segments that come from now on are for it. Rounds from before have been handed
    /// out to the others.
    pub(super) fn joined(
        &mut self,
        env: &mut Env,
        connections: &mut Connections,
        name: &str,
        id: ConnId,
    ) -> Option<Joined> {
        connections.confirm_joining(id);
        let index = self.find(name)?;
        let waiting = &mut self.slots.get_mut(index)?.waiting;
        let at = waiting.iter().position(|waiting| waiting.conn == id)?;
        let answer = waiting.remove(at)?.answer;
        let max = env.config.limits.channels.channels_per_connection_max;
        let active = connections.get(id).filter(|conn| conn.is_active());
        let wishes = active.filter(|_| answer.is_some());
        let fresh =
            wishes.filter(|conn| conn.subscriptions.iter().all(|known| known.channel != index));
        // Many may have been asked for before the first was confirmed.
        let full = fresh.is_some_and(|conn| conn.subscriptions.len() >= max);
        // The token may have been replaced, or the policy, since this was asked for.
        let may = |conn: &Conn| conn.may(&env.config, Verb::Subscribe, name);
        let forbidden = wishes.is_some_and(|conn| !may(conn));
        let (active, wanted) = (active.is_some(), fresh.is_some() && !full && !forbidden);
        let added = wanted && self.add(env, connections, index, id);
        if !added {
            self.drop_if_unused(index);
        }
        let result = match (forbidden, full) {
            (true, _) => Err(Reason::SubscribeForbidden),
            (false, true) => Err(Reason::TooManyChannels),
            (false, false) => Ok(()),
        };
        let answer = answer.filter(|_| active).map(|answer| (answer, result));
        Some(Joined { leaves: !added, answer })
    }

    fn add(
        &mut self,
        env: &mut Env,
        connections: &mut Connections,
        index: u32,
        id: ConnId,
    ) -> bool {
        let (Some(channel), Some(conn)) = (self.slots.get_mut(index), connections.edit(id)) else {
            return false;
        };
        let member = u32::try_from(channel.members.len()).unwrap_or(u32::MAX);
        let subscription = u32::try_from(conn.subscriptions.len()).unwrap_or(u32::MAX);
        channel.members.push(Member { conn: id.index, subscription });
        conn.subscriptions.push(Subscription { channel: index, member });
        env.tally.subscriptions += 1;
        true
    }

    /// Takes back what a connection has asked for and its home has not confirmed. Answers come in the order of the
    /// requests, so these are due now.
    pub(super) fn cancel_waiting(&mut self, index: u32, id: ConnId) -> Vec<AnswerTo> {
        let waiting = self.slots.get_mut(index).map(|channel| channel.waiting.iter_mut());
        waiting
            .into_iter()
            .flatten()
            .filter(|waiting| waiting.conn == id)
            .filter_map(|waiting| waiting.answer.take())
            .collect()
    }

    /// Takes a connection out of a channel, if it is in it.
    pub(super) fn leave(
        &mut self,
        env: &mut Env,
        connections: &mut Connections,
        index: u32,
        id: ConnId,
    ) -> Option<Left> {
        let subscriptions = &connections.get(id)?.subscriptions;
        let at = subscriptions.iter().position(|subscription| subscription.channel == index)?;
        keep_queued(connections, id, self.slots.get(index)?.tag);
        self.remove_member(env, connections, id, at)
    }

    /// Takes a connection out of its last channel. Called until `None`, out of all of them.
    pub(super) fn leave_last(
        &mut self,
        env: &mut Env,
        connections: &mut Connections,
        id: ConnId,
    ) -> Option<Left> {
        let last = connections.get(id)?.subscriptions.len().checked_sub(1)?;
        self.remove_member(env, connections, id, last)
    }

    /// Removes the subscription at `at` in the connection's list. Both lists fill the hole with their last entry, whose
    /// partner is told of its new place.
    fn remove_member(
        &mut self,
        env: &mut Env,
        connections: &mut Connections,
        id: ConnId,
        at: usize,
    ) -> Option<Left> {
        let conn = connections.edit(id)?;
        let Subscription { channel: index, member } = conn.subscriptions.swap_remove(at)?;
        let deflates = conn.ws.window_bits() > 0;
        conn.forget_gap_in(index);
        if let Some(moved) = conn.subscriptions.get(at).copied()
            && let Some(other) = self.slots.get_mut(moved.channel)
            && let Some(entry) = other.members.get_mut(moved.member as usize)
        {
            entry.subscription = at as u32;
        }
        let channel = self.slots.get_mut(index)?;
        if (member as usize) < channel.members.len() {
            channel.members.swap_remove(member as usize);
        }
        if let Some(moved) = channel.members.get(member as usize).copied()
            && let Some(other) = connections.member(moved.conn)
            && let Some(entry) = other.subscriptions.get_mut(moved.subscription as usize)
        {
            entry.member = member;
        }
        let left = Left { channel: channel.name.clone(), deflates };
        env.tally.subscriptions -= 1;
        self.drop_if_unused(index);
        Some(left)
    }

    /// The channels of a connection that it may not subscribe to any more.
    pub(super) fn forbidden(&self, env: &Env, conn: &Conn) -> Vec<Arc<str>> {
        let names = conn.subscriptions.iter();
        let names = names.filter_map(|held| Some(&self.slots.get(held.channel)?.name));
        names.filter(|name| !conn.may(&env.config, Verb::Subscribe, name)).cloned().collect()
    }

    /// Channels and connections name each other, and nothing waits for a turn that is over.
    #[cfg(debug_assertions)]
    pub(super) fn check(&self, connections: &mut Connections) {
        assert!(self.slow.is_empty() && self.closing.is_empty(), "slow readers are seen to");
        assert_eq!(self.names.len(), self.slots.len(), "names of channels");
        let mut members = 0;
        for index in self.slots.indices() {
            let Some(channel) = self.slots.get(index) else { continue };
            let used = !channel.members.is_empty() || !channel.waiting.is_empty();
            assert!(used, "{} has neither members nor anybody who waits", channel.name);
            members += channel.members.len();
            for (member, at) in channel.members.iter().zip(0..) {
                let held = connections.member(member.conn);
                let held = held
                    .and_then(|conn| conn.subscriptions.get(member.subscription as usize).copied());
                let expected = Subscription { channel: index, member: at };
                assert_eq!(held, Some(expected), "a member of {}", channel.name);
            }
        }
        let all = || self.slots.indices().filter_map(|index| self.slots.get(index));
        self.founders.check(all().map(|channel| &channel.founder));
        let held = connections.ids().into_iter().filter_map(|id| connections.get(id));
        let held: usize = held.map(|conn| conn.subscriptions.len()).sum();
        assert_eq!(members, held, "subscriptions");
    }
}

/// As whose a channel counts that the connection is the first to subscribe to.
fn founder_of(conn: &Conn) -> Who {
    conn.user().map_or_else(|| Who::Address(network(conn.ip)), Who::User)
}

/// A longer queue of rounds is given back once it is empty.
const ROUNDS_KEPT_MAX: usize = 1024;

/// In place of a channel's index: it has no subscribers any more.
const NOBODY: u32 = u32::MAX;
