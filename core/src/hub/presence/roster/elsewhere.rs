//! The members that a channel has on other nodes, and what these are told of those here.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use uuid::Uuid;

use super::{
    Member, Roster,
    bond::{self, Phase, Read, UnderWay},
    bytes,
};
use crate::{
    hub::{
        bus::{
            Alive, BusError, CallId, NodeId, PresenceAbsence, PresenceChange, PresenceChanged,
            PresenceEnd, PresenceEntry, PresenceMember, PresenceMembers, PresenceMove,
            PresenceNews,
        },
        env::Env,
        presence::Why,
    },
    protocol::Epoch,
    time::Instant,
};

/// What this process is among the nodes.
#[derive(Clone, Copy, Debug)]
pub(in crate::hub::presence) struct Own<'a> {
    pub(in crate::hub::presence) node: NodeId,
    /// Nodes that are gone, earlier lives of this process among them: what comes of them is late.
    pub(in crate::hub::presence) past: &'a VecDeque<NodeId>,
    /// So many bytes the channel's members may take here.
    pub(in crate::hub::presence) room: usize,
}

/// What the bus tells.
impl Roster {
    /// A member is another node's.
    fn set_there(&mut self, env: &mut Env, own: &Own<'_>, member: PresenceMember) {
        let PresenceMember { id, node, info } = member;
        let Some(Read { card, since, held }) = bond::read(&info) else {
            env.tally.bus_poison += 1;
            return;
        };
        let Some(known) = self.members.get_mut(&id) else {
            if self.bytes + bytes(&card) > own.room {
                self.bond.over = true;
                return;
            }
            self.bytes += bytes(&card);
            self.count_there(None, Some(node));
            self.tell_joined(env, id, &card, since);
            let member = Member {
                here: None,
                there: Some(node),
                held_there: held,
                card,
                other: None,
                since,
            };
            self.members.insert(id, member);
            return;
        };
        known.held_there = held;
        let before = known.there.replace(node);
        if known.here.as_ref().is_some_and(|here| here.held.is_some()) {
            // It was held for that.
            known.here = None;
            self.held -= 1;
            self.here -= 1;
            self.bond.due.remove(&id);
            self.bond.refused.remove(&id);
        }
        let is_here = known.here.is_some();
        known.other = (known.card != card).then(|| Box::new(card));
        self.count_there(before, Some(node));
        if !is_here {
            self.become_other(env, id);
        }
    }

    /// A member is another node's alone: what it says of itself there counts.
    pub(super) fn become_other(&mut self, env: &mut Env, id: Uuid) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let Some(card) = member.other.take() else { return };
        let since = member.since;
        self.tell_joined(env, id, &card, since);
        if let Some(member) = self.members.get_mut(&id) {
            self.bytes = self.bytes + bytes(&card) - bytes(&member.card);
            member.card = *card;
        }
    }

    /// A member is no other node's any more. If it is not here either, it is gone.
    pub(super) fn remove_there(&mut self, env: &mut Env, id: Uuid, why: Why) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let Some(node) = member.there.take() else { return };
        (member.held_there, member.other) = (None, None);
        let is_here = member.here.is_some();
        self.count_there(Some(node), None);
        if !is_here && let Some(member) = self.members.remove(&id) {
            self.bytes -= bytes(&member.card);
            self.tell_left(env, id, &member.card, why);
        }
    }

    fn count_there(&mut self, before: Option<NodeId>, after: Option<NodeId>) {
        if let Some(before) = before
            && let Some(count) = self.there.get_mut(&before)
        {
            *count -= 1;
            if *count == 0 {
                self.there.remove(&before);
            }
        }
        if let Some(after) = after {
            *self.there.entry(after).or_default() += 1;
        }
    }

    /// Which other nodes have members in the channel.
    pub(in crate::hub::presence) fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.there.keys().copied()
    }

    /// A node is gone, and its members with it, but for those that it held: for the time of their sessions they stay, for
    /// another node to take them over. `clean`: this node takes those that go out of the bus.
    pub(in crate::hub::presence) fn purge(&mut self, env: &mut Env, node: NodeId, clean: bool) {
        if !self.there.contains_key(&node) {
            return;
        }
        let now = env.now.unix;
        let goes = |member: &Member| {
            member.there == Some(node) && member.held_there.is_none_or(|until| until <= now)
        };
        let going = self.members.iter().filter(|(_, member)| goes(member));
        let ids: Vec<Uuid> = going.map(|(id, _)| *id).collect();
        for id in ids {
            if clean {
                let absence = PresenceAbsence { member: id, node, why: PresenceEnd::Node };
                self.bond.gone.entry(id).or_insert(absence);
            }
            self.remove_there(env, id, Why::Node);
        }
    }

    /// Nobody is interested in the channel any more: what becomes of the members is not heard.
    pub(in crate::hub::presence) fn unfollow(&mut self, env: &mut Env) {
        self.bond.followed = false;
        self.bond.phase = Phase::Unknown;
        self.bond.known = None;
        (self.bond.cut, self.bond.over, self.bond.doubt) = (false, false, None);
        let there = self.members.iter().filter(|(_, member)| member.there.is_some());
        let ids: Vec<Uuid> = there.map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.remove_there(env, id, Why::Node));
    }

    /// Members as the bus has them; `lasting`: those that it does not name although they are known may only not have been put
    /// again, until then.
    pub(in crate::hub::presence) fn take_members(
        &mut self,
        env: &mut Env,
        own: &Own<'_>,
        page: PresenceMembers,
        lasting: Instant,
    ) {
        self.bond.phase = Phase::Known;
        let lost = self
            .bond
            .known
            .is_some_and(|known| page.position.is_none_or(|now| now.epoch != known.epoch));
        self.bond.known = page.position;
        let Some(members) = page.members else { return };
        self.bond.cut = page.refused || page.more;
        if !page.refused {
            self.bond.retry();
        }
        if lost && self.bond.doubt.is_none() && !self.there.is_empty() {
            self.bond.doubt = Some(lasting);
        }
        // The other nodes are to hear of it.
        self.bond.renew |= page.stale || lost && page.position.is_none();
        self.bond.over = false;
        let last = members.last().map(|member| member.id).filter(|_| page.more);
        let mut named = BTreeSet::new();
        for member in members {
            named.insert(member.id);
            self.take_listed(env, own, member);
        }
        if self.bond.doubt.is_none() {
            let listed = |id: &Uuid| last.is_none_or(|last| *id <= last) && !named.contains(id);
            let there = self.members.iter().filter(|(_, member)| member.there.is_some());
            let missing: Vec<Uuid> = there.map(|(id, _)| *id).filter(|id| listed(id)).collect();
            missing.into_iter().for_each(|id| self.remove_there(env, id, Why::Lost));
        }
        // What this node has is to be there, too.
        let here = self.members.iter().filter(|(_, member)| member.here.is_some());
        let unnamed = here.map(|(id, _)| *id).filter(|id| {
            let beyond = last.is_some_and(|last| *id > last);
            !beyond && !named.contains(id) && !self.bond.refused.contains(id)
        });
        let unnamed: Vec<Uuid> = unnamed.filter(|id| !self.bond.is_coming(*id)).collect();
        unnamed.into_iter().for_each(|id| self.bond.put(id));
    }

    /// One of those that the bus names.
    fn take_listed(&mut self, env: &mut Env, own: &Own<'_>, member: PresenceMember) {
        let PresenceMember { id, node, ref info } = member;
        let now = env.now.unix;
        let is_held =
            || bond::read(info).and_then(|read| read.held).is_some_and(|until| until > now);
        if node != own.node && (!own.past.contains(&node) || is_held()) {
            return self.set_there(env, own, member);
        }
        let is_here = self.members.get(&id).is_some_and(|member| member.here.is_some());
        if is_here && node == own.node {
            // Whoever it was before, it is this node's.
            self.remove_there(env, id, Why::Left);
            let says = bond::read(info).map(|read| (read.card, read.held.is_some()));
            let member = self.members.get(&id);
            let is_so = member.is_some_and(|member| {
                let held = member.here.is_some_and(|here| here.put_held);
                says.is_some_and(|(card, is_held)| card == member.card && is_held == held)
            });
            if !is_so && !self.bond.is_coming(id) {
                // It has become what it was before.
                self.bond.put(id);
            }
        } else if is_here && !self.bond.is_coming(id) {
            // Under an earlier name of this process, or of a node from which it came.
            self.bond.put(id);
        } else if !is_here && !self.bond.is_going(id) {
            // It was left behind.
            let why = if node == own.node { PresenceEnd::Lost } else { PresenceEnd::Node };
            self.bond.gone.insert(id, PresenceAbsence { member: id, node, why });
        }
    }

    /// A change as it comes. False: something is missing before it, or it is too large for this way.
    pub(in crate::hub::presence) fn take_news(
        &mut self,
        env: &mut Env,
        own: &Own<'_>,
        news: PresenceNews,
    ) -> bool {
        let position = news.position;
        let follows = match self.bond.known {
            Some(known) if known == position => return true,
            Some(known) => known.epoch == position.epoch && known.offset == news.before,
            None => news.before == 0,
        };
        let Some(moves) = news.moves.filter(|_| follows) else { return false };
        self.bond.known = Some(position);
        self.bond.cut = news.refused;
        for one in moves {
            match one {
                PresenceMove::Joined(member) => self.take_listed(env, own, member),
                PresenceMove::Left { member, why } => {
                    self.remove_there(env, member, Why::from(why));
                    let is_here = self.members.get(&member).is_some_and(|one| one.here.is_some());
                    if is_here && !self.bond.is_coming(member) {
                        // Somebody thought that this node is gone.
                        self.bond.put(member);
                    }
                    self.bond.retry();
                }
            }
        }
        true
    }
}

/// What the bus is told.
impl Roster {
    /// All members of this node are to be put: it has another name.
    pub(in crate::hub::presence) fn put_all(&mut self) {
        let here = self.members.iter().filter(|(_, member)| member.here.is_some());
        self.bond.due.extend(here.map(|(id, _)| *id));
        self.bond.refused.clear();
    }

    /// Whether any member is on this node.
    pub(in crate::hub::presence) fn has_own(&self) -> bool {
        self.here > 0
    }

    /// What the bus is to be told next, if there is something.
    pub(in crate::hub::presence) fn change(
        &mut self,
        env: &mut Env,
        id: CallId,
        node: NodeId,
        alive: &Alive,
    ) -> Option<PresenceChange> {
        let bond = &mut self.bond;
        bond.queued = false;
        let renew = std::mem::take(&mut bond.renew);
        if bond.under_way.is_some() || bond.due.is_empty() && bond.gone.is_empty() && !renew {
            return None;
        }
        let mut gone = Vec::new();
        while gone.len() < BATCH
            && let Some((_, absence)) = bond.gone.pop_first()
        {
            gone.push(absence);
        }
        let (mut come, mut bytes) = (Vec::new(), 0);
        while come.len() < BATCH && bytes < BATCH_BYTES {
            let Some(id) = bond.due.pop_first() else { break };
            let Some(member) = self.members.get_mut(&id) else { continue };
            let Some(here) = &mut member.here else { continue };
            let hold = here.held.map(|until| until.saturating_duration_since(env.now.mono));
            (here.put, here.put_held) = (Some(node), hold.is_some());
            let until = hold.map(|hold| env.now.unix + hold);
            let info = bond::write(&member.card, member.since, until);
            bytes += info.len();
            come.push(PresenceEntry { id, info, hold: hold.unwrap_or_default() });
        }
        let names = come.iter().map(|entry| entry.id).collect();
        bond.under_way = Some(UnderWay { id, come: names, gone: gone.clone() });
        Some(PresenceChange {
            id,
            channel: self.name.clone(),
            node,
            gone,
            come,
            max: env.config.limits.presence.presence_members_max,
            sweep: renew,
            alive: alive.clone(),
            epoch: Epoch::from_random(env.entropy.next_u64()),
            keep: KEPT,
        })
    }

    /// The bus has answered.
    pub(in crate::hub::presence) fn on_changed(
        &mut self,
        id: CallId,
        result: Result<PresenceChanged, BusError>,
    ) {
        let under_way = self.bond.under_way.take_if(|under_way| under_way.id == id);
        let Some(UnderWay { come, gone, .. }) = under_way else { return };
        match result {
            Ok(changed) => {
                let here = |id: &Uuid| self.members.get(id).is_some_and(|one| one.here.is_some());
                let refused: Vec<_> = changed.refused.into_iter().filter(here).collect();
                self.bond.refused.extend(refused);
            }
            // It may have been done: that it is done again changes nothing.
            Err(_) => {
                for id in come {
                    if self.members.get(&id).is_some_and(|member| member.here.is_some()) {
                        self.bond.due.insert(id);
                    }
                }
                for absence in gone {
                    self.bond.gone.entry(absence.member).or_insert(absence);
                }
            }
        }
    }
}

impl From<PresenceEnd> for Why {
    fn from(end: PresenceEnd) -> Self {
        match end {
            PresenceEnd::Left => Self::Left,
            PresenceEnd::Lost => Self::Lost,
            PresenceEnd::Node => Self::Node,
        }
    }
}

impl From<Why> for PresenceEnd {
    fn from(why: Why) -> Self {
        match why {
            Why::Left => Self::Left,
            Why::Lost | Why::Held(_) => Self::Lost,
            Why::Node => Self::Node,
        }
    }
}

/// So many members the bus is told of at once, who have come and who have gone.
const BATCH: usize = 256;
/// From so many bytes of what they say on, no more of them.
const BATCH_BYTES: usize = 64 * 1024;
/// So long the bus keeps a channel's members after it was last told of them.
pub(in crate::hub::presence) const KEPT: Duration = Duration::from_secs(600);
