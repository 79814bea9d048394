//! The sessions that are at home at this hub: who has each, and how long those still wait that nobody has.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use uuid::Uuid;

use super::{
    Change, End, Grant, Holder, granted,
    record::Kept,
    session::{Session, State, user_of},
    shared::Shared,
};
use crate::{
    entropy::{KeyedMap, KeyedState},
    hub::{
        channels::Founders,
        env::Env,
        slab::Slab,
        store::{SessionId, StoreCommand},
        types::{ConnId, SessionPage, Whose},
        visitors::Who,
    },
    limits,
    metrics::Resumed,
    reason::Reason,
    time::{Instant, Timers},
};

/// The sessions of which this hub is the home.
#[derive(Debug)]
pub(in crate::hub) struct Sessions {
    pub(super) names: KeyedMap<SessionId, u32>,
    pub(super) slots: Slab<Session>,
    /// When those that wait have waited long enough. A session believes in the entry that its own deadline names.
    timers: Timers<u32>,
    /// How many each user has, and each address without one.
    owners: Founders,
    /// Memory that they take.
    bytes: usize,
    /// Those that a store, or the bus, does not know yet as they are.
    pub(super) changed: Vec<SessionId>,
    /// Large ones that a store is to be told of later, and when. Behind each other: the pause is the same for all.
    postponed: VecDeque<(Instant, SessionId)>,
    /// What a store is to be told first.
    commands: VecDeque<StoreCommand>,
    pub(super) shared: Shared,
    /// Connections of this hub whose sessions' homes are to be told something, each once.
    pub(in crate::hub) untold: VecDeque<ConnId>,
}

/// What comes of asking for a session.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::hub) enum Resume {
    /// There is none, not any more, or it is another user's.
    Unknown,
    /// This is it.
    Granted(Box<Grant>),
    /// It cannot be said at present.
    Refused(Reason),
    /// This connection is to let it go. Who asked is answered when it has; if another one waited for that already, then
    /// that is the one to let go.
    Contended(ConnId),
}

/// A session that somebody has ended: who is to be told.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::hub) struct Ended {
    pub(in crate::hub) session: SessionId,
    /// The name by which others know its client.
    pub(in crate::hub) public: Uuid,
    /// The connection that has it.
    pub(in crate::hub) by: Option<ConnId>,
    /// The one that waits for it.
    pub(in crate::hub) next: Option<ConnId>,
    /// The channels of which it may be a member.
    pub(in crate::hub) attended: Vec<Arc<str>>,
}

impl Sessions {
    pub(in crate::hub) fn new(keys: KeyedState, start: Instant) -> Self {
        Self {
            names: KeyedMap::with_hasher(keys),
            slots: Slab::new(),
            timers: Timers::new(start),
            owners: Founders::new(keys),
            bytes: 0,
            changed: Vec::new(),
            postponed: VecDeque::new(),
            commands: VecDeque::new(),
            shared: Shared::default(),
            untold: VecDeque::new(),
        }
    }

    pub(in crate::hub) fn len(&self) -> usize {
        self.slots.len()
    }

    /// A new session. How long it waits after the end of a connection.
    pub(in crate::hub) fn keep(
        &mut self,
        env: &mut Env,
        name: SessionId,
        holder: Holder,
        ttl: Option<Duration>,
    ) -> Result<Duration, Reason> {
        let limits = &env.config.limits.sessions;
        let session = Session::new(name, holder, granted(limits.session_window, ttl), env.now.unix);
        if self.names.contains_key(&name) || !self.is_room_for(limits, &session) {
            return Err(Reason::SessionsFull);
        }
        let ttl = session.ttl;
        let index = self.insert(env, session).ok_or(Reason::SessionsFull)?;
        self.note(env, index);
        Ok(ttl)
    }

    /// The session is to wait for another time. For how long it does.
    pub(in crate::hub) fn keep_on(
        &mut self,
        env: &Env,
        name: SessionId,
        conn: ConnId,
        ttl: Option<Duration>,
    ) -> Result<Duration, Reason> {
        let found = self.find(name).filter(|(_, session)| session.is_held_by(conn));
        let (index, session) = found.ok_or(Reason::SessionUnknown)?;
        let ttl = granted(env.config.limits.sessions.session_window, ttl);
        if std::mem::replace(&mut session.ttl, ttl) != ttl {
            self.note_in_passing(env, index);
        }
        Ok(ttl)
    }

    /// A connection has subscribed to channels, or no longer does. A session that grows beyond the memory that there is
    /// for all of them is forgotten.
    pub(in crate::hub) fn change(
        &mut self,
        env: &mut Env,
        name: SessionId,
        conn: ConnId,
        changes: Vec<Change>,
    ) {
        let Some((index, session)) = self.find(name).filter(|(_, of)| of.is_held_by(conn)) else {
            return;
        };
        let before = session.bytes;
        changes.into_iter().for_each(|change| session.change(change));
        let after = session.bytes;
        self.bytes = self.bytes + after - before;
        if after > before && self.bytes > env.config.limits.sessions.sessions_bytes_max {
            env.tally.error(Reason::SessionsFull);
            self.end_one(env, index);
        } else {
            self.note_in_passing(env, index);
        }
    }

    /// The connection that has the session is somebody else's from now on, and so is the session.
    pub(in crate::hub) fn rename(&mut self, env: &Env, name: SessionId, conn: ConnId, who: Who) {
        let Some((index, session)) = self.find(name).filter(|(_, of)| of.is_held_by(conn)) else {
            return;
        };
        let before = session.bytes;
        let owner = session.rename(who.clone());
        let after = session.bytes;
        self.bytes = self.bytes + after - before;
        owner.iter().for_each(|owner| self.owners.leave(owner));
        self.owners.add(who);
        self.note(env, index);
    }

    /// A connection has ended that had the session, or waited for it. If another one waited, what it is to be told.
    #[must_use]
    pub(in crate::hub) fn ended(
        &mut self,
        env: &mut Env,
        name: SessionId,
        conn: ConnId,
        end: End,
    ) -> Option<(ConnId, Resume)> {
        let (index, session) = self.find(name)?;
        match session.state {
            State::Contended { by, next } if next == conn => {
                session.state = State::Held(by);
                None
            }
            State::Contended { by, next } if by == conn && end == End::Waits => {
                session.state = State::Held(next);
                let grant = session.grant();
                self.note(env, index);
                env.tally.resumed(Resumed::Yes);
                Some((next, Resume::Granted(grant)))
            }
            State::Contended { by, next } if by == conn => {
                self.end_one(env, index);
                env.tally.resumed(Resumed::Unknown);
                Some((next, Resume::Unknown))
            }
            State::Held(by) if by == conn => {
                let time = session.ttl.min(env.config.limits.sessions.session_window);
                if end == End::Over || time.is_zero() {
                    self.end_one(env, index);
                } else {
                    env.tally.sessions_held -= 1;
                    env.tally.sessions_waiting += 1;
                    self.wait(env, index, time, env.now.unix);
                    self.note(env, index);
                }
                None
            }
            State::Held(_) | State::Contended { .. } | State::Waiting { .. } => None,
        }
    }

    /// The name of who has a session by this connection, and the channels of which it may be a member.
    pub(in crate::hub) fn places(
        &self,
        name: SessionId,
        conn: ConnId,
    ) -> Option<(Uuid, Vec<Arc<str>>)> {
        let session = self.slots.get(*self.names.get(&name)?)?;
        let places = || (session.public, session.attended().cloned().collect());
        session.is_held_by(conn).then(places)
    }

    /// For how long a session waits for its client yet; not at all if there is none. `None`: a connection has it.
    pub(in crate::hub) fn waits(&self, env: &Env, name: SessionId) -> Option<Duration> {
        let session = self.names.get(&name).and_then(|index| self.slots.get(*index));
        match session.map(|session| session.state) {
            None => Some(Duration::ZERO),
            Some(State::Waiting { until, .. }) => {
                Some(until.saturating_duration_since(env.now.mono))
            }
            Some(State::Held(_) | State::Contended { .. }) => None,
        }
    }

    /// A connection wants the session. Whatever stands against it, it is told the same.
    pub(in crate::hub) fn resume(
        &mut self,
        env: &mut Env,
        name: SessionId,
        conn: ConnId,
        who: &Who,
    ) -> Resume {
        let now = env.now.mono;
        let Some((index, session)) = self.find(name) else {
            env.tally.resumed(Resumed::Unknown);
            return Resume::Unknown;
        };
        if session.user.as_ref() != user_of(who) {
            env.tally.resumed(Resumed::OtherUser);
            return Resume::Unknown;
        }
        match session.state {
            // Its timer has not been looked at yet.
            State::Waiting { .. } if session.is_due(now) => {
                self.remove(env, index);
                env.tally.resumed(Resumed::Unknown);
                Resume::Unknown
            }
            State::Waiting { .. } => {
                session.state = State::Held(conn);
                let grant = session.grant();
                env.tally.sessions_waiting -= 1;
                env.tally.sessions_held += 1;
                env.tally.resumed(Resumed::Yes);
                self.note(env, index);
                Resume::Granted(grant)
            }
            State::Held(by) => {
                session.state = State::Contended { by, next: conn };
                Resume::Contended(by)
            }
            // Of those who came, the last one counts: it is the client's newest connection.
            State::Contended { by, next } => {
                session.state = State::Contended { by, next: conn };
                Resume::Contended(next)
            }
        }
    }

    /// Those that the application asks about.
    pub(in crate::hub) fn page(
        &self,
        env: &Env,
        of: &Whose,
        limit: u32,
        after: Option<Uuid>,
    ) -> SessionPage {
        let (now, limit) = (env.now.mono, limit.min(SessionPage::MAX) as usize);
        let all = self.slots.indices().filter_map(|index| self.slots.get(index));
        let (mut page, mut rest) = (SessionPage::default(), Vec::new());
        for session in all.filter(|session| session.is_of(of, now)) {
            *(if session.is_waiting() { &mut page.detached } else { &mut page.attached }) += 1;
            if after.is_none_or(|after| session.public > after) {
                rest.push(session);
            }
        }
        rest.sort_unstable_by_key(|session| session.public);
        page.complete = rest.len() <= limit;
        page.sessions = rest.into_iter().take(limit).map(|session| session.info(now)).collect();
        page
    }

    /// Those that had begun by a moment of the wall clock the application has had enough of: they are forgotten.
    pub(in crate::hub) fn end(
        &mut self,
        env: &mut Env,
        of: &Whose,
        begun_by: Duration,
    ) -> Vec<Ended> {
        let now = env.now.mono;
        let mut ended = Vec::new();
        let indices: Vec<u32> = self.slots.indices().collect();
        for index in indices {
            let meant = |session: &&Session| session.is_of(of, now) && session.begun <= begun_by;
            let Some(session) = self.slots.get(index).filter(meant) else { continue };
            let (by, next) = match session.state {
                State::Held(by) => (Some(by), None),
                State::Contended { by, next } => (Some(by), Some(next)),
                State::Waiting { .. } => (None, None),
            };
            let attended = session.attended().cloned().collect();
            ended.push(Ended { session: session.name, public: session.public, by, next, attended });
            self.end_one(env, index);
        }
        ended
    }

    /// A session of an earlier run, as the store has it. A connection that had it then ended with that run.
    pub(in crate::hub) fn restore(&mut self, env: &mut Env, name: SessionId, record: &[u8]) {
        if self.names.contains_key(&name) {
            return;
        }
        let limits = &env.config.limits.sessions;
        let restored = Kept::read(record).and_then(|kept| {
            let since = kept.since.unwrap_or(env.now.unix);
            // A clock that was set back makes nobody wait longer.
            let waited = env.now.unix.saturating_sub(since);
            let left = granted(limits.session_window, Some(kept.ttl)).checked_sub(waited)?;
            let running = kept.since.is_none();
            let state = State::Waiting { until: env.now.mono, since };
            let session = Session::restored(name, kept, state);
            let fits = !left.is_zero() && self.is_room_for(limits, &session);
            fits.then_some((session, left, since, running))
        });
        let Some((session, left, since, running)) = restored else {
            return self.commands.push_back(StoreCommand::ForgetSession { session: name });
        };
        let Some(index) = self.insert(env, session) else { return };
        self.wait(env, index, left, since);
        if running {
            // After the next restart its time goes on, and does not begin again.
            self.note(env, index);
        }
    }

    /// What a store is to be told next.
    pub(in crate::hub) fn next_command(&mut self) -> Option<StoreCommand> {
        if let Some(command) = self.commands.pop_front() {
            return Some(command);
        }
        while let Some(name) = self.changed.pop() {
            let Some((_, session)) = self.find(name) else { continue };
            (session.changed, session.stored) = (false, true);
            let record = session.record();
            return Some(StoreCommand::KeepSession { session: name, record });
        }
        None
    }

    /// Sees that a store is told of those whose pause is over.
    pub(in crate::hub) fn write_postponed(&mut self, env: &Env) {
        while let Some((at, name)) = self.postponed.front().copied()
            && at <= env.now.mono
        {
            self.postponed.pop_front();
            if let Some((index, _)) = self.find(name).filter(|(_, session)| session.postponed) {
                self.note(env, index);
            }
        }
    }

    /// When that of the next one is.
    pub(in crate::hub) fn next_write(&self) -> Option<Instant> {
        self.postponed.front().map(|(at, _)| *at)
    }

    /// When the next one has waited long enough; it may have been resumed since.
    pub(in crate::hub) fn next_deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Forgets the one that had waited long enough first, by `until`. False if none had.
    pub(in crate::hub) fn expire(&mut self, env: &mut Env, until: Instant) -> bool {
        let Some((at, index)) = self.timers.pop_due(until) else { return false };
        if let Some(session) = self.slots.get(index).filter(|session| session.is_due(at)) {
            // Of one that the bus has as it is the bus knows when it is over.
            match session.told.is_all() && !session.changed {
                true => self.remove(env, index),
                false => self.end_one(env, index),
            }
        }
        true
    }

    /// Entries of the timer heap.
    pub(in crate::hub) fn timers(&self) -> usize {
        self.timers.len()
    }

    /// Entries of sessions that were resumed stay in the heap; too many of them are cleared out.
    pub(in crate::hub) fn compact_timers(&mut self) {
        let slots = &self.slots;
        self.timers.compact(slots.len(), |at, index| {
            slots.get(index).is_some_and(|session| session.is_due(at))
        });
    }

    /// Every count equals what it counts.
    #[cfg(debug_assertions)]
    pub(in crate::hub) fn check(&self) {
        assert_eq!(self.names.len(), self.slots.len(), "names of sessions");
        let all = || self.slots.indices().filter_map(|index| self.slots.get(index));
        for session in all() {
            assert_eq!(session.bytes, session.weight(), "memory of a session");
            assert!(
                !session.changed || self.changed.contains(&session.name),
                "what a store is to be told is listed"
            );
            let later = || self.postponed.iter().any(|(_, name)| *name == session.name);
            assert!(!session.postponed || later(), "what it is to be told later, too");
        }
        let bytes: usize = all().map(|session| session.bytes).sum();
        assert_eq!(self.bytes, bytes, "memory of sessions");
        self.owners.check(all().filter_map(|session| session.owner.as_ref()));
        let waiting = all().filter(|session| session.is_waiting()).count();
        assert!(waiting <= self.timers.len(), "a timer rings for each that waits");
    }
}

/// Within the department.
impl Sessions {
    pub(super) fn find(&mut self, name: SessionId) -> Option<(u32, &mut Session)> {
        let index = *self.names.get(&name)?;
        Some((index, self.slots.get_mut(index)?))
    }

    /// Whether there is room for one more. The last tenth is for users, and addresses without one, that have few.
    pub(super) fn is_room_for(&self, limits: &limits::Sessions, session: &Session) -> bool {
        let max = limits.sessions_max;
        let few = |who| self.owners.held(who) < limits.sessions_share_max;
        self.len() < max
            && self.bytes + session.bytes <= limits.sessions_bytes_max
            && (self.len() < max - max / 10 || session.owner.as_ref().is_none_or(few))
    }

    pub(super) fn insert(&mut self, env: &mut Env, session: Session) -> Option<u32> {
        let (name, bytes, waiting) = (session.name, session.bytes, session.is_waiting());
        let owner = session.owner.clone();
        let (index, _) = self.slots.insert(session)?;
        self.names.insert(name, index);
        if env.config.bus.is_some() {
            self.shared.know(name);
        }
        self.bytes += bytes;
        owner.into_iter().for_each(|owner| self.owners.add(owner));
        *count(env, waiting) += 1;
        Some(index)
    }

    /// From now on it waits for its client, for so long.
    pub(super) fn wait(&mut self, env: &Env, index: u32, time: Duration, since: Duration) {
        let Some(session) = self.slots.get_mut(index) else { return };
        let until = env.now.mono + time;
        session.state = State::Waiting { until, since };
        self.timers.arm(until, index);
    }

    /// It is over, and is nowhere to be found any more.
    pub(super) fn end_one(&mut self, env: &mut Env, index: u32) {
        if let Some(session) = self.slots.get(index).filter(|_| env.config.bus.is_some()) {
            self.shared.end(session, env.config.limits.sessions.sessions_max);
        }
        self.remove(env, index);
    }

    pub(super) fn remove(&mut self, env: &mut Env, index: u32) {
        let Some(session) = self.slots.remove(index) else { return };
        self.names.remove(&session.name);
        self.shared.forget(session.name);
        self.bytes -= session.bytes;
        session.owner.iter().for_each(|owner| self.owners.leave(owner));
        *count(env, session.is_waiting()) -= 1;
        if session.stored {
            self.commands.push_back(StoreCommand::ForgetSession { session: session.name });
        }
    }

    /// A store, or the bus, is to be told of it as it is at the end of the turn.
    pub(super) fn note(&mut self, env: &Env, index: u32) {
        if env.keeps
            && let Some(session) = self.slots.get_mut(index).filter(|session| !session.changed)
        {
            (session.changed, session.postponed) = (true, false);
            session.written = Some(env.now.mono);
            self.changed.push(session.name);
        }
    }

    /// The same for what its client may change with every message: all of a session is written each time, so that a large
    /// one has a pause then.
    fn note_in_passing(&mut self, env: &Env, index: u32) {
        let Some(session) = self.slots.get_mut(index).filter(|_| env.keeps) else { return };
        let recent = |at: Instant| env.now.mono.saturating_duration_since(at) < WRITE_PAUSE;
        if session.changed || session.bytes <= LARGE_BYTES || !session.written.is_some_and(recent) {
            return self.note(env, index);
        }
        if !std::mem::replace(&mut session.postponed, true) {
            self.postponed.push_back((env.now.mono + WRITE_PAUSE, session.name));
        }
    }
}

/// Bytes of a session beyond which it is large.
const LARGE_BYTES: usize = 4 * 1024;

/// Between two times that a large one is written because of what its client has asked for.
const WRITE_PAUSE: Duration = Duration::from_secs(1);

fn count(env: &mut Env, waiting: bool) -> &mut i64 {
    if waiting { &mut env.tally.sessions_waiting } else { &mut env.tally.sessions_held }
}
