//! The figures of skills, sent once a second to every client that speaks Session-Buddy's protocol.
//!
//! They are the document of one channel, for which this hub asks the channel's home like anybody else: so it is the same on all
//! hubs and nodes. A message is encoded once for all connections of this hub that are sent the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{
    Hub,
    connections::Connections,
    env::Env,
    looks::{Look, Looker, Query},
    types::{ConnId, ShardId},
};
#[cfg(debug_assertions)]
use crate::config::Dialect;
use crate::{
    protocol::session_buddy::{CHANNEL, Skills, Word},
    reason::Reason,
    time::Instant,
    ws::{self, Segment},
};

/// Who is sent what, and when.
#[derive(Debug, Default)]
pub(super) struct Feed {
    /// When the next message is due. `None`: nobody is there.
    next: Option<Instant>,
    /// The channel's home was asked and has not answered.
    asked: bool,
    /// By connection, of which skill it is told; `None`: of all.
    turned_to: BTreeMap<ConnId, Option<Arc<str>>>,
    /// The same by skill.
    listeners: BTreeSet<(Option<Arc<str>>, ConnId)>,
    /// The last document and what it says, so that one that has not changed is not read again.
    known: Option<(Box<str>, Skills)>,
}

impl Feed {
    /// One more, who is told of all skills. The first message comes within a second.
    pub(super) fn join(&mut self, now: Instant, id: ConnId) {
        self.turned_to.insert(id, None);
        self.listeners.insert((None, id));
        self.next.get_or_insert(now + INTERVAL);
    }

    /// One less, if it was there.
    #[inline]
    pub(super) fn leave(&mut self, id: ConnId) {
        if !self.turned_to.is_empty() {
            self.leave_if_there(id);
        }
    }

    #[cold]
    fn leave_if_there(&mut self, id: ConnId) {
        if let Some(skill) = self.turned_to.remove(&id) {
            self.listeners.remove(&(skill, id));
        }
        if self.turned_to.is_empty() {
            (self.next, self.known) = (None, None);
        }
    }

    /// From now on one is told of this skill, or of all.
    pub(super) fn turn_to(
        &mut self,
        connections: &mut Connections,
        id: ConnId,
        skill: Option<&str>,
    ) {
        let Some(turned_to) = self.turned_to.get_mut(&id) else { return };
        let skill: Option<Arc<str>> = skill.map(Into::into);
        let before = std::mem::replace(turned_to, skill.clone());
        self.listeners.remove(&(before, id));
        self.listeners.insert((skill, id));
        // What comes must not take the place of something before the confirmation.
        if let Some(conn) = connections.edit(id) {
            conn.ws.outbox_mut().keep(TAG);
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.next
    }

    /// Tells everybody, if the home has answered. If it could not, nobody is told anything this time.
    fn tell(&mut self, env: &mut Env, connections: &mut Connections, result: Result<&str, Reason>) {
        self.asked = false;
        let Ok(json) = result else { return };
        // Nothing was published: the lists are empty, as in the original.
        let json = if json.is_empty() { "{}" } else { json };
        if self.known.as_ref().is_none_or(|(known, _)| **known != *json) {
            self.known = Some((json.into(), Skills::read(json).unwrap_or_default()));
        }
        let Some((_, skills)) = &self.known else { return };
        let (timestamp, unix) = (env.timestamp(), env.now.unix);
        if self.has_listeners(None) {
            env.scratch.clear();
            skills.write_update(&timestamp, unix, &mut env.scratch);
            self.give(env, connections, None);
        }
        for skill in skills.top() {
            let name: Option<Arc<str>> = Some(skill.name().into());
            if self.has_listeners(name.clone()) {
                env.scratch.clear();
                skill.write_update(&timestamp, &mut env.scratch);
                self.give(env, connections, name);
            }
        }
    }

    fn has_listeners(&self, skill: Option<Arc<str>>) -> bool {
        self.of(skill).next().is_some()
    }

    /// Those who are told of this.
    fn of(&self, skill: Option<Arc<str>>) -> impl Iterator<Item = ConnId> {
        let first = (skill.clone(), FIRST);
        let all = self.listeners.range(first..);
        all.take_while(move |(listed, _)| *listed == skill).map(|(_, id)| *id)
    }

    /// Gives the message of the work space to all who are told of this. Who has not taken the one before gets this one in its
    /// place.
    fn give(&self, env: &mut Env, connections: &mut Connections, skill: Option<Arc<str>>) {
        let mut frame = Vec::with_capacity(ws::frame_len(env.scratch.len(), false));
        ws::encode_text(&mut frame, &env.scratch);
        let segment = Segment::new(frame, 1, TAG, 0);
        connections.note_segment(&segment);
        let max = env.config.limits.delivery.outbox_bytes_max;
        let (mut sent, mut dropped) = (0, 0);
        for id in self.of(skill) {
            match connections.give_newest(id, &segment, max) {
                Some(replaced) => {
                    sent += 1;
                    dropped += u64::from(replaced);
                }
                None => dropped += 1,
            }
        }
        env.tally.told(Word::MetricsUpdate, sent);
        env.tally.dropped(Reason::SlowReader, dropped);
    }

    /// Whoever is listed is a connection that was welcomed, and listed twice.
    #[cfg(debug_assertions)]
    pub(super) fn check(&self, connections: &Connections) {
        assert_eq!(self.turned_to.len(), self.listeners.len(), "who is told of skills");
        for (id, skill) in &self.turned_to {
            assert!(self.listeners.contains(&(skill.clone(), *id)), "who is told of a skill");
            let conn = connections.get(*id);
            let sound =
                conn.is_some_and(|conn| conn.is_active() && conn.dialect == Dialect::SessionBuddy);
            assert!(sound, "who is told of skills is there");
        }
        assert_eq!(self.next.is_some(), !self.turned_to.is_empty(), "a second passes for somebody");
    }
}

impl Hub {
    /// Asks the channel's home, if it is time to. One that takes its time is not asked again meanwhile.
    #[inline]
    pub(super) fn ask_for_feed(&mut self) {
        let now = self.env.now.mono;
        if let Some(at) = self.feed.next.filter(|at| *at <= now) {
            self.ask_for_due_feed(at);
        }
    }

    #[cold]
    fn ask_for_due_feed(&mut self, at: Instant) {
        // A second after it was due, so that there is one message each second. After a pause those of the pause do not come.
        let (now, next) = (self.env.now.mono, at + INTERVAL);
        self.feed.next = Some(if next > now { next } else { now + INTERVAL });
        if !std::mem::replace(&mut self.feed.asked, true) {
            let (looker, query) = (Looker::Feed, Query::Document);
            self.carry_out_look(Box::new(Look { looker, channel: CHANNEL.into(), query }));
        }
    }

    /// The home has answered.
    pub(super) fn tell_feed(&mut self, result: Result<Box<str>, Reason>) {
        self.feed.tell(
            &mut self.env,
            &mut self.connections,
            result.as_deref().map_err(|reason| *reason),
        );
    }
}

/// Before all others in an order.
const FIRST: ConnId = ConnId { index: 0, generation: 0, shard: ShardId(0) };
/// As often as the original.
const INTERVAL: Duration = Duration::from_secs(1);
/// By which a message is known that a later one may take the place of. Connections of this protocol have no other segments.
const TAG: u32 = 0;
