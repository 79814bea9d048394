//! Channels as one hub sees them: which of its connections subscribe, and how a round reaches their outboxes.

mod catch_up;
mod founders;
mod hand_out;
mod membership;
mod missing;
mod slow;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use self::catch_up::CatchUp;
pub(super) use self::{founders::Founders, missing::Missing};
use super::{
    connections::{AnswerTo, Conn, List, MemberAt},
    homes::{Form, Page, Shape},
    peers::Joiner,
    slab::Slab,
    types::{ConnId, ShardId},
    visitors::Who,
};
use crate::{
    config::SlowPolicy,
    entropy::{KeyedMap, KeyedState},
    protocol::Epoch,
    reason::Reason,
    ws::Segment,
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
    /// The connection is a member from now on.
    pub(super) added: bool,
    /// The home is to be told that it has left again.
    pub(super) leaves: bool,
    /// What the client is to be told; nothing if it has taken its wish back.
    pub(super) answer: Option<(AnswerTo, Result<(), Reason>)>,
    /// Messages from before come first: [`Channels::go_on`] once it is answered.
    pub(super) catching: bool,
    /// It is not answered by itself: whoever does that lets it go on.
    pub(super) held: bool,
}

/// A connection that left a channel, for the channel's home.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) channel: Arc<str>,
    /// The channel's index, which may stand for another soon.
    pub(super) index: u32,
    /// In which form it took the channel.
    pub(super) form: Form,
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
    /// Connections that could not take a round, and the form in which they would; empty between rounds.
    slow: Vec<(u32, Form)>,
    /// Those of them that are to be closed.
    closing: VecDeque<ConnId>,
    /// Channels that were sent messages from before in this turn.
    paged: Vec<u32>,
    /// Channels and places of connections that are in them whatever their clients may.
    granted: BTreeSet<(u32, u32)>,
}

/// Messages of one channel, for the subscribers here.
#[derive(Debug)]
pub(super) struct Round {
    /// The channel's index.
    channel: u32,
    plain: Shape,
    /// The same for those who asked for positions, if anybody did.
    positioned: Option<Box<Shape>>,
    /// That with the traces of its messages, if there are any and somebody here is to be told.
    traced: Option<Segment>,
    first_offset: u64,
    /// The channel's home, and the credit that it is given back for the round; 0 if that is this hub.
    pub(super) home: ShardId,
    pub(super) credit: u32,
}

impl Round {
    /// Bytes of its frames.
    pub(super) fn bytes(&self) -> usize {
        self.plain.segment.len()
    }

    fn messages(&self) -> u32 {
        self.plain.segment.messages()
    }

    /// In one form.
    fn shape(&self, form: Form) -> &Shape {
        match (form, &self.positioned) {
            (Form::Positioned, Some(positioned)) => positioned,
            (Form::Plain, _) | (Form::Positioned, None) => &self.plain,
        }
    }

    /// As `conn` takes it.
    fn of(&self, form: Form, conn: &Conn) -> &Segment {
        self.shape(form).of(conn)
    }
}

impl Shape {
    /// Compressed, if `conn` can take that.
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
    /// Which life of the channel's numbers, once somebody here has asked.
    epoch: Option<Epoch>,
    /// By form.
    members: [Vec<Member>; 2],
    /// Those who are told which trace an event belongs to, by their connections' indices. Few channels have any.
    #[expect(clippy::box_collection, reason = "a pointer in each channel and not three words")]
    traced: Option<Box<BTreeSet<u32>>>,
    /// Those who are still being sent what they missed.
    catching: Vec<CatchUp>,
    /// What those of this turn missed.
    pages: Vec<Page>,
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
    /// The client has said what it wants: a subscription that it has by then is over.
    anew: bool,
}

impl Channel {
    fn is_unused(&self) -> bool {
        self.members.iter().all(Vec::is_empty)
            && self.catching.is_empty()
            && self.waiting.is_empty()
    }

    fn list(&self, list: List) -> usize {
        match list {
            List::Members(form) => self.members.get(form.index()).map_or(0, Vec::len),
            List::Catching => self.catching.len(),
        }
    }

    fn entry(&mut self, at: MemberAt) -> Option<&mut Member> {
        match at.list() {
            List::Members(form) => self.members.get_mut(form.index())?.get_mut(at.index()),
            List::Catching => Some(&mut self.catching.get_mut(at.index())?.member),
        }
    }

    /// Takes a member out of its list, whose last one takes the place. The form in which it took the channel, and what it
    /// has not been sent yet.
    fn take(&mut self, at: MemberAt) -> Option<(Form, Option<CatchUp>)> {
        match at.list() {
            List::Members(form) => {
                let members = self.members.get_mut(form.index())?;
                if at.index() >= members.len() {
                    return None;
                }
                members.swap_remove(at.index());
                Some((form, None))
            }
            List::Catching if at.index() < self.catching.len() => {
                let taken = self.catching.swap_remove(at.index());
                Some((taken.form, Some(taken)))
            }
            List::Catching => None,
        }
    }
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
            paged: Vec::new(),
            granted: BTreeSet::new(),
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

    pub(super) fn name(&self, index: u32) -> Option<Arc<str>> {
        Some(self.slots.get(index)?.name.clone())
    }

    /// What happens to subscribers that read too slowly.
    pub(super) fn policy(&self, index: u32) -> SlowPolicy {
        self.slots.get(index).map_or(SlowPolicy::Disconnect, |channel| channel.policy)
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
            epoch: None,
            members: [Vec::new(), Vec::new()],
            traced: None,
            catching: Vec::new(),
            pages: Vec::new(),
            waiting: VecDeque::new(),
        };
        let (index, _) = self.slots.insert(channel)?;
        self.names.insert(name, index);
        self.founders.add(founder);
        Some(index)
    }

    fn drop_if_unused(&mut self, index: u32) {
        let unused = self.slots.get(index).is_some_and(Channel::is_unused);
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

    /// All that came in was seen to: what those of this turn missed is held by who has yet to be sent it, and by nobody else.
    #[inline]
    pub(super) fn forget_pages(&mut self) {
        if self.paged.is_empty() {
            return;
        }
        for index in self.paged.drain(..) {
            if let Some(channel) = self.slots.get_mut(index) {
                channel.pages = Vec::new();
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

/// A longer queue of rounds is given back once it is empty.
const ROUNDS_KEPT_MAX: usize = 1024;

/// In place of a channel's index: it has no subscribers any more.
const NOBODY: u32 = u32::MAX;
