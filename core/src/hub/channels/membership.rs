//! Who subscribes: asking a channel's home, its answer, and leaving.

use std::sync::Arc;

use super::{CatchUp, Channels, Joined, Left, Member, Subscribe, Waiting, slow::keep_queued};
use crate::{
    auth::Verb,
    hub::{
        connections::{AnswerTo, Conn, Connections, List, MemberAt, Subscription},
        env::Env,
        homes::{Form, Start},
        output::Output,
        peers::Joiner,
        types::ConnId,
        visitors::Who,
    },
    reason::Reason,
};

impl Channels {
    /// A connection wants to subscribe. `everywhere` says how many channels there are on all hubs.
    pub(in crate::hub) fn subscribe(
        &mut self,
        env: &Env,
        connections: &mut Connections,
        id: ConnId,
        name: &str,
        (answer, (form, traced), anew): (AnswerTo, (Form, bool), bool),
        everywhere: usize,
    ) -> Option<Subscribe> {
        let limits = &env.config.limits;
        let conn = connections.get(id)?;
        let deflates = conn.ws.window_bits() > 0;
        let known = self.find(name);
        let is_known = |subscription: &Subscription| Some(subscription.channel) == known;
        let held = conn.subscriptions.iter().filter(|subscription| is_known(subscription)).count();
        if held > 0 && !anew {
            return Some(Subscribe::Already(answer));
        }
        if conn.subscriptions.len() - held >= limits.channels.channels_per_connection_max {
            return Some(Subscribe::Refused(Reason::TooManyChannels, answer));
        }
        let joining_max = limits.channels.channels_per_connection_max.min(usize::from(u16::MAX));
        if usize::from(conn.rare().joining) >= joining_max {
            // Each of them is a message to another hub that is still to be answered.
            return Some(Subscribe::Refused(Reason::TooManyChannels, answer));
        }
        let index = match known {
            Some(index) => Some(index),
            None => match self.may_found(env, conn.who(), everywhere) {
                Ok(founder) => self.found(name, env.config.slow_readers.of(name), founder),
                Err(reason) => return Some(Subscribe::Refused(reason, answer)),
            },
        };
        let Some(channel) = index.and_then(|index| self.slots.get_mut(index)) else {
            return Some(Subscribe::Refused(Reason::ChannelsFull, answer));
        };
        channel.waiting.push_back(Waiting { conn: id, answer: Some(answer), anew });
        connections.edit(id)?.rare_mut().joining += 1;
        Some(Subscribe::Ask(channel.name.clone(), Joiner { conn: id, deflates, form, traced }))
    }

    /// Whether a connection is a member of a channel.
    pub(in crate::hub) fn has(&self, connections: &Connections, index: u32, id: ConnId) -> bool {
        let held = |conn: &Conn| conn.subscriptions.iter().any(|held| held.channel == index);
        connections.get(id).is_some_and(held)
    }

    /// Whether the home's word on a connection is about a subscription that takes the place of another.
    pub(in crate::hub) fn begins_anew(&self, index: u32, id: ConnId) -> bool {
        let mut waiting = self.slots.get(index).into_iter().flat_map(|channel| &channel.waiting);
        let asked = waiting.find(|waiting| waiting.conn == id);
        asked.is_some_and(|waiting| waiting.anew && waiting.answer.is_some())
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
    pub(in crate::hub) fn refused_share(&mut self, env: &Env, conn: &Conn) -> Option<Output> {
        let (user, address) = (conn.user(), conn.ip);
        let tells = self.founders.tells(env.now.mono);
        let channels = self.founders.held(&conn.who());
        tells.then_some(Output::ManyChannels { user, address, channels })
    }

    /// The home has added the connection: segments that come from now on are for it, and what it missed before. Rounds from
    /// before have been handed out to the others. `Err`: the home has not, for that reason.
    pub(in crate::hub) fn joined(
        &mut self,
        env: &mut Env,
        connections: &mut Connections,
        name: &str,
        member: Joiner,
        start: Result<Option<&mut Start>, Reason>,
    ) -> Option<Joined> {
        let id = member.conn;
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
        let granted = answer.as_ref().is_some_and(AnswerTo::is_granted);
        let forbidden = wishes.is_some_and(|conn| !granted && !may(conn));
        let (active, wanted) = (active.is_some(), fresh.is_some() && !full && !forbidden);
        let (declined, mut start) = match start {
            Ok(start) => (None, start),
            Err(reason) => (Some(reason), None),
        };
        let held = answer.as_ref().is_some_and(AnswerTo::resumes);
        let added = wanted && declined.is_none() && {
            let pages = start.as_mut().map(|start| std::mem::take(&mut start.pages));
            let pages = self.adopt(connections, index, pages.unwrap_or_default());
            self.add(env, connections, index, id, (CatchUp::new(member.form, pages), held))
        };
        if added
            && member.traced
            && let Some(channel) = self.slots.get_mut(index)
        {
            channel.traced.get_or_insert_default().insert(id.index);
        }
        if let (Some(start), Some(channel)) = (&start, self.slots.get_mut(index)) {
            channel.epoch = Some(start.position.epoch);
            channel.next_offset = channel.next_offset.max(start.position.offset + 1);
        }
        let catching = added && connections.get(id).is_some_and(Conn::is_catching);
        if !added {
            self.drop_if_unused(index);
        }
        let result = match (forbidden, full, declined) {
            (true, ..) => Err(Reason::SubscribeForbidden),
            (false, true, _) => Err(Reason::TooManyChannels),
            (false, false, Some(reason)) => Err(reason),
            (false, false, None) => Ok(()),
        };
        // The application is told in any case.
        let answer = answer.filter(|answer| active || answer.command().is_some());
        let answer = answer.map(|answer| (answer, result));
        let leaves = !added && declined.is_none();
        Some(Joined { added, leaves, answer, catching, held })
    }

    /// Makes a connection a member: at once, or when it has been sent what it missed, or when it is no longer held.
    fn add(
        &mut self,
        env: &mut Env,
        connections: &mut Connections,
        index: u32,
        id: ConnId,
        (mut catch_up, held): (CatchUp, bool),
    ) -> bool {
        let (Some(channel), Some(conn)) = (self.slots.get_mut(index), connections.edit(id)) else {
            return false;
        };
        let form = catch_up.form;
        let waits = held || !catch_up.is_done();
        let list = if waits { List::Catching } else { List::Members(form) };
        let member = MemberAt::new(list, channel.list(list));
        let subscription = u32::try_from(conn.subscriptions.len()).unwrap_or(u32::MAX);
        let entry = Member { conn: id.index, subscription };
        if waits {
            catch_up.member = entry;
            channel.catching.push(catch_up);
            conn.begin_catching();
        } else if let Some(members) = channel.members.get_mut(form.index()) {
            members.push(entry);
        }
        conn.subscriptions.push(Subscription { channel: index, member });
        env.tally.subscriptions += 1;
        true
    }

    /// Takes back what a connection has asked for and its home has not confirmed. Answers come in the order of the
    /// requests, so these are due now.
    pub(in crate::hub) fn cancel_waiting(&mut self, index: u32, id: ConnId) -> Vec<AnswerTo> {
        let waiting = self.slots.get_mut(index).map(|channel| channel.waiting.iter_mut());
        waiting
            .into_iter()
            .flatten()
            .filter(|waiting| waiting.conn == id)
            .filter_map(|waiting| waiting.answer.take())
            .collect()
    }

    /// Takes a connection out of a channel, if it is in it.
    pub(in crate::hub) fn leave(
        &mut self,
        env: &mut Env,
        connections: &mut Connections,
        index: u32,
        id: ConnId,
    ) -> Option<Left> {
        let subscriptions = &connections.get(id)?.subscriptions;
        let at = subscriptions.iter().position(|subscription| subscription.channel == index)?;
        self.send_rest(env, connections, id, at);
        keep_queued(connections, id, self.slots.get(index)?.tag);
        self.remove_member(env, connections, id, at)
    }

    /// Takes a connection out of its last channel. Called until `None`, out of all of them.
    pub(in crate::hub) fn leave_last(
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
        if member.list() == List::Catching {
            conn.end_catching();
        }
        conn.forget_gap_in(index);
        if !self.granted.is_empty() {
            self.granted.remove(&(index, id.index));
        }
        if let Some(moved) = conn.subscriptions.get(at).copied()
            && let Some(other) = self.slots.get_mut(moved.channel)
            && let Some(entry) = other.entry(moved.member)
        {
            entry.subscription = at as u32;
        }
        let form = self.take_out(connections, index, member)?.0;
        let channel = self.slots.get_mut(index)?;
        if let Some(traced) = &mut channel.traced {
            traced.remove(&id.index);
            if traced.is_empty() {
                channel.traced = None;
            }
        }
        let channel = channel.name.clone();
        let left = Left { channel, index, form, deflates };
        env.tally.subscriptions -= 1;
        self.drop_if_unused(index);
        Some(left)
    }

    /// Takes a member out of its list of a channel; the connection of the one that takes its place is told.
    pub(super) fn take_out(
        &mut self,
        connections: &mut Connections,
        index: u32,
        at: MemberAt,
    ) -> Option<(Form, Option<CatchUp>)> {
        let channel = self.slots.get_mut(index)?;
        let taken = channel.take(at)?;
        if let Some(moved) = channel.entry(at).copied()
            && let Some(other) = connections.member(moved.conn)
            && let Some(entry) = other.subscriptions.get_mut(moved.subscription as usize)
        {
            entry.member = at;
        }
        Some(taken)
    }

    /// A connection stays in a channel whatever its client may, if it is in it.
    pub(in crate::hub) fn grant(&mut self, connections: &Connections, name: &str, id: ConnId) {
        if let Some(index) = self.find(name).filter(|index| self.has(connections, *index, id)) {
            self.granted.insert((index, id.index));
        }
    }

    /// Whether it is in it by such a grant.
    pub(in crate::hub) fn is_granted(&self, index: u32, id: ConnId) -> bool {
        self.granted.contains(&(index, id.index))
    }

    /// Whether it is held back until its client is told.
    pub(in crate::hub) fn is_held(&self, index: u32, id: ConnId) -> bool {
        let channel = self.slots.get(index);
        let mut catching = channel.into_iter().flat_map(|channel| &channel.catching);
        catching.any(|one| one.member.conn == id.index && one.held)
    }

    /// The places of a channel's subscribers, ascending.
    pub(in crate::hub) fn subscribers(&self, index: u32) -> Vec<u32> {
        let Some(channel) = self.slots.get(index) else { return Vec::new() };
        let members = channel.members.iter().flatten();
        let catching = channel.catching.iter().map(|catching| &catching.member);
        let mut places: Vec<u32> = members.chain(catching).map(|member| member.conn).collect();
        places.sort_unstable();
        places
    }

    /// The names of a connection's channels.
    pub(in crate::hub) fn names_of(&self, conn: &Conn) -> Vec<Arc<str>> {
        let names = conn.subscriptions.iter();
        names.filter_map(|held| self.name(held.channel)).collect()
    }

    /// The channels of a connection, and whether it asked for positions in each.
    pub(in crate::hub) fn terms(&self, conn: &Conn) -> Vec<(u32, Arc<str>, bool)> {
        let terms = |held: &Subscription| {
            let channel = self.slots.get(held.channel)?;
            let form = match held.member.list() {
                List::Members(form) => form,
                List::Catching => channel.catching.get(held.member.index())?.form,
            };
            Some((held.channel, channel.name.clone(), form == Form::Positioned))
        };
        conn.subscriptions.iter().filter_map(terms).collect()
    }

    /// The channels of a connection that it may not subscribe to any more.
    pub(in crate::hub) fn forbidden(&self, env: &Env, id: ConnId, conn: &Conn) -> Vec<Arc<str>> {
        let names = conn.subscriptions.iter();
        let names = names.filter(|held| !self.is_granted(held.channel, id));
        let names = names.filter_map(|held| Some(&self.slots.get(held.channel)?.name));
        names.filter(|name| !conn.may(&env.config, Verb::Subscribe, name)).cloned().collect()
    }

    /// Channels and connections name each other, and nothing waits for a turn that is over.
    #[cfg(debug_assertions)]
    pub(in crate::hub) fn check(&self, connections: &mut Connections) {
        assert!(self.slow.is_empty() && self.closing.is_empty(), "slow readers are seen to");
        assert_eq!(self.names.len(), self.slots.len(), "names of channels");
        let (mut members, mut catching_up) = (0, 0);
        for index in self.slots.indices() {
            let Some(channel) = self.slots.get(index) else { continue };
            assert!(!channel.is_unused(), "{} has nobody", channel.name);
            let catching = channel.catching.iter().map(|catching| catching.member);
            let lists = Form::ALL.map(List::Members).into_iter().chain([List::Catching]);
            let [plain, positioned] = &channel.members;
            for (list, of) in lists.zip([plain.clone(), positioned.clone(), catching.collect()]) {
                members += of.len();
                for (member, at) in of.iter().zip(0..) {
                    let held = connections.member(member.conn);
                    let held = held.and_then(|conn| {
                        conn.subscriptions.get(member.subscription as usize).copied()
                    });
                    let member = MemberAt::new(list, at);
                    let expected = Subscription { channel: index, member };
                    assert_eq!(held, Some(expected), "a member of {}", channel.name);
                }
            }
            let told = channel.traced.iter().flat_map(|told| told.iter());
            let is_held = |conn: &Conn| conn.subscriptions.iter().any(|held| held.channel == index);
            for conn in told {
                let member = connections.member(*conn).is_some_and(|conn| is_held(conn));
                assert!(member, "who is told of traces in {}", channel.name);
            }
            catching_up += channel.catching.len();
            assert!(channel.catching.iter().all(|one| !one.is_done() || one.held), "who is done");
        }
        let all = || self.slots.indices().filter_map(|index| self.slots.get(index));
        self.founders.check(all().map(|channel| &channel.founder));
        let held = connections.ids().into_iter().filter_map(|id| connections.get(id));
        let held: usize = held.map(|conn| conn.subscriptions.len()).sum();
        assert_eq!(members, held, "subscriptions");
        let ids = connections.ids().into_iter().filter_map(|id| connections.get(id));
        let counted = ids.map(|conn| usize::from(conn.rare().catching)).sum::<usize>();
        assert_eq!(catching_up, counted, "those who catch up");
        for (channel, place) in &self.granted {
            let member = connections.member(*place);
            let is_held =
                |conn: &Conn| conn.subscriptions.iter().any(|held| held.channel == *channel);
            assert!(member.is_some_and(|conn| is_held(conn)), "who is in a channel by grant");
        }
    }
}
