//! Sessions at home here, as the bus keeps them for all nodes. The bus decides who has one: each claim takes it from whoever
//! had it before, and by an earlier claim nobody changes anything any more. What this hub has is what it told the bus, or is
//! about to.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use uuid::Uuid;

use super::{
    Resume, Sessions,
    record::Kept,
    session::{Session, State, Told, user_of},
};
use crate::{
    hub::{
        bus::{
            BusCommand, BusError, CallId, Calls, SessionAnswer, SessionCall, SessionClaimed,
            SessionHeld, SessionKey, SessionRenewed, SessionWish, Writer,
        },
        env::Env,
        store::SessionId,
        types::{ConnId, Whose},
        visitors::Who,
    },
    metrics::Resumed,
    reason::Reason,
    time::Instant,
};

/// What is under way between sessions and the bus.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// The bus is there.
    up: bool,
    /// The bus takes nothing in.
    full: bool,
    keys: BTreeMap<SessionKey, SessionId>,
    /// What it has not answered.
    calls: BTreeMap<CallId, Call>,
    /// Those of connections that want a session.
    claims: BTreeMap<ConnId, CallId>,
    /// Sessions that it has not kept because it took nothing in.
    refused: Vec<SessionId>,
    /// When it is told that a session is still there, the first one in front.
    renewals: VecDeque<(Instant, SessionId)>,
    /// Sessions that are over, and for how long that is to be known.
    over: VecDeque<(SessionHeld, Duration)>,
    /// Whose sessions were ended that had begun by a moment of the wall clock, and until when that matters: one of those may
    /// be with a node that nobody could tell.
    ended: VecDeque<(Instant, Whose, Duration)>,
}

#[derive(Debug)]
enum Call {
    Keep { session: SessionId, claim: u64 },
    Claim(Box<Claim>),
    Renew(Vec<(SessionId, u64)>),
    End(SessionHeld, Duration),
}

/// Somebody wants a session.
#[derive(Debug)]
struct Claim {
    session: SessionId,
    conn: ConnId,
    who: Who,
    /// The connection is gone meanwhile.
    gone: bool,
    /// The bus has been told before what is known here.
    again: bool,
}

/// What follows elsewhere from what the bus has answered.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::hub) enum Outcome {
    /// The session is kept, or is not, as its connection has asked for.
    Kept(SessionId, ConnId, Result<Duration, Reason>),
    /// What a connection is told that wants the session.
    Resumed(SessionId, ConnId, Resume),
    /// Somebody else has the session.
    Taken(Taken),
    /// The hub that had a session before is to hear that it was claimed.
    Tell(Writer, SessionHeld),
}

/// A session that somebody has on another node.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::hub) struct Taken {
    pub(in crate::hub) session: SessionId,
    /// The name by which others know its client.
    pub(in crate::hub) public: Uuid,
    /// The connections that have it, or wait for it, here.
    pub(in crate::hub) conns: Vec<ConnId>,
    /// The channels of which it may be a member.
    pub(in crate::hub) attended: Vec<Arc<str>>,
}

impl Shared {
    pub(super) fn know(&mut self, session: SessionId) {
        self.keys.insert(SessionKey::of(session), session);
    }

    pub(super) fn forget(&mut self, session: SessionId) {
        self.keys.remove(&SessionKey::of(session));
    }

    /// A session is over: the bus is told, if it may know of it. Of more than `max` the bus forgets the oldest by itself.
    pub(super) fn end(&mut self, session: &Session, max: usize) {
        if session.told.any || session.told.under_way.is_some() {
            self.over.push_back((session.held(), session.ttl.max(OVER_KNOWN_MIN)));
            self.bound_over(max);
        }
    }

    fn bound_over(&mut self, max: usize) {
        while self.over.len() > max {
            self.over.pop_front();
        }
    }

    fn send(&mut self, calls: &mut Calls, holder: Writer, what: SessionWish, call: Call) -> CallId {
        let id = calls.name();
        self.calls.insert(id, call);
        calls.send(BusCommand::Session(Box::new(SessionCall { id, holder, what })));
        id
    }

    /// Whether sessions of this client that had begun by then were ended.
    fn has_ended(&self, now: Instant, kept: &Kept, begun: Duration) -> bool {
        self.ended.iter().any(|(until, whose, at)| {
            let meant = match whose {
                Whose::Everybody => true,
                Whose::User(user) => kept.user.as_ref().is_some_and(|own| **own == **user),
                Whose::Client(id) => kept.public == *id,
            };
            *until > now && meant && begun <= *at
        })
    }
}

/// What hubs ask of the bus.
impl Sessions {
    /// Whether the bus is there and takes something in.
    pub(in crate::hub) fn is_bus_willing(&self) -> bool {
        self.shared.up && !self.shared.full
    }

    /// The connection that has a session is answered when the bus has it as it is now.
    pub(in crate::hub) fn answer_later(&mut self, env: &Env, name: SessionId) {
        if let Some((index, session)) = self.find(name) {
            session.told.asked_next += 1;
            self.note(env, index);
        }
    }

    /// A connection wants a session, which is a matter of the bus. What it is told, if that is known at once.
    pub(in crate::hub) fn claim(
        &mut self,
        env: &Env,
        calls: &mut Calls,
        session: SessionId,
        (conn, who): (ConnId, Who),
    ) -> Option<Resume> {
        if !self.is_bus_willing() {
            return Some(Resume::Refused(Reason::BusAway));
        }
        let known = self.names.contains_key(&session);
        if !known && self.len() >= env.config.limits.sessions.sessions_max {
            return Some(Resume::Refused(Reason::SessionsFull));
        }
        let claim = Claim { session, conn, who, gone: false, again: false };
        self.send_claim(env, calls, claim);
        None
    }

    fn send_claim(&mut self, env: &Env, calls: &mut Calls, claim: Claim) {
        let (key, conn) = (SessionKey::of(claim.session), claim.conn);
        let what = SessionWish::Claim { key, user: user_of(&claim.who).cloned(), grace: GRACE };
        let id = self.shared.send(calls, holder(env), what, Call::Claim(Box::new(claim)));
        self.shared.claims.insert(conn, id);
    }

    /// A connection has ended that may wait for a session.
    pub(in crate::hub) fn stop_waiting(&mut self, conn: ConnId) {
        let call = self.shared.claims.remove(&conn);
        let call = call.and_then(|id| self.shared.calls.get_mut(&id));
        if let Some(Call::Claim(claim)) = call {
            claim.gone = true;
        }
    }

    /// Tells the bus what it does not know yet, and what it would forget.
    pub(in crate::hub) fn tell_bus(&mut self, env: &Env, calls: &mut Calls) {
        if !self.is_bus_willing() {
            return;
        }
        for name in std::mem::take(&mut self.changed) {
            if let Some((index, session)) = self.find(name).filter(|(_, of)| of.changed) {
                session.changed = false;
                self.keep_in_bus(env, calls, index);
            }
        }
        while let Some((held, keep)) = self.shared.over.pop_front() {
            let what = SessionWish::End(held, keep);
            self.shared.send(calls, holder(env), what, Call::End(held, keep));
        }
        self.renew(env, calls);
    }

    fn keep_in_bus(&mut self, env: &Env, calls: &mut Calls, index: u32) {
        let Some(session) = self.slots.get_mut(index) else { return };
        if session.told.under_way.is_some() {
            session.told.again = true;
            return;
        }
        let what = SessionWish::Keep(Box::new(session.state_at(env.now.mono, GRACE)));
        let call = Call::Keep { session: session.name, claim: session.claim };
        let id = self.shared.send(calls, holder(env), what, call);
        let told = &mut session.told;
        (told.under_way, told.again) = (Some(id), false);
        told.asked += std::mem::take(&mut told.asked_next);
    }

    fn renew(&mut self, env: &Env, calls: &mut Calls) {
        // A little early, so that many are one command.
        let by = env.now.mono + RENEWED_TOGETHER;
        if self.shared.renewals.front().is_none_or(|(at, _)| *at > env.now.mono) {
            return;
        }
        let (mut wish, mut call) = (Vec::new(), Vec::new());
        while let Some((_, name)) = self.shared.renewals.pop_front_if(|(at, _)| *at <= by) {
            let Some((_, session)) = self.find(name).filter(|(_, of)| of.told.renewed) else {
                continue;
            };
            session.told.renewed = false;
            // What is under way says as much.
            if session.told.under_way.is_none() {
                wish.push((session.held(), session.life(env.now.mono, GRACE)));
                call.push((name, session.claim));
            }
            if wish.len() == RENEWED_MAX {
                let (wish, call) = (std::mem::take(&mut wish), std::mem::take(&mut call));
                self.shared.send(calls, holder(env), SessionWish::Renew(wish), Call::Renew(call));
            }
        }
        if !wish.is_empty() {
            self.shared.send(calls, holder(env), SessionWish::Renew(wish), Call::Renew(call));
        }
    }

    /// The bus knows of a session: from time to time it is told that it is still there.
    fn renew_later(&mut self, index: u32, at: Instant) {
        let Some(session) = self.slots.get_mut(index).filter(|session| !session.told.renewed)
        else {
            return;
        };
        session.told.renewed = true;
        self.shared.renewals.push_back((at, session.name));
        if self.shared.renewals.len() > 2 * self.slots.len() + RENEWALS_KEPT {
            let (names, slots) = (&self.names, &self.slots);
            let session = |name: &SessionId| slots.get(*names.get(name)?);
            self.shared
                .renewals
                .retain(|(_, name)| session(name).is_some_and(|of: &Session| of.told.renewed));
        }
    }

    /// When the bus is told that the next one is still there.
    pub(in crate::hub) fn next_renewal(&self) -> Option<Instant> {
        let Shared { up, full, renewals, .. } = &self.shared;
        renewals.front().filter(|_| *up && !*full).map(|(at, _)| *at)
    }

    /// Whether the bus has all sessions as they are after the end of their connections, or is not there to be told.
    pub(in crate::hub) fn is_all_told(&self) -> bool {
        let Shared { up, full, calls, over, .. } = &self.shared;
        let held = || self.slots.indices().filter_map(|index| self.slots.get(index));
        let held = || held().any(|session| !session.is_waiting());
        !*up || *full || self.changed.is_empty() && calls.is_empty() && over.is_empty() && !held()
    }

    /// Whose sessions have ended that had begun by `at`: whatever node still has one of them, nobody resumes it here.
    pub(in crate::hub) fn remember_end(&mut self, env: &Env, of: &Whose, at: Duration) {
        let window = env.config.limits.sessions.session_window;
        let until = env.now.mono + window + GRACE;
        let ended = &mut self.shared.ended;
        ended.retain(|(until, ..)| *until > env.now.mono);
        ended.push_back((until, of.clone(), at));
        while ended.len() > env.config.limits.revocations.revocations_max {
            ended.pop_front();
        }
    }

    /// By what the bus calls it, a session was claimed elsewhere.
    pub(in crate::hub) fn on_claimed_elsewhere(
        &mut self,
        env: &mut Env,
        held: SessionHeld,
    ) -> Option<Taken> {
        let name = self.shared.keys.get(&held.key).copied()?;
        let (index, _) = self.find(name).filter(|(_, session)| session.claim < held.claim)?;
        self.lose(env, index)
    }

    fn lose(&mut self, env: &mut Env, index: u32) -> Option<Taken> {
        let session = self.slots.get(index)?;
        let taken = Taken {
            session: session.name,
            public: session.public,
            conns: session.conns(),
            attended: session.attended().cloned().collect(),
        };
        self.remove(env, index);
        Some(taken)
    }
}

/// What the bus tells.
impl Sessions {
    pub(in crate::hub) fn on_bus_up(&mut self, env: &Env) {
        self.shared.up = true;
        self.shared.full = false;
        // It may have lost all of them.
        self.shared.renewals.clear();
        let indices: Vec<_> = self.slots.indices().collect();
        for index in indices {
            if let Some(session) = self.slots.get_mut(index).filter(|session| session.told.any) {
                session.told.renewed = false;
                self.renew_later(index, env.now.mono);
            }
        }
        self.try_again(env);
    }

    /// The bus is away; what was under way was answered before.
    pub(in crate::hub) fn on_bus_down(&mut self, env: &mut Env) -> Vec<Outcome> {
        self.shared.up = false;
        let mut outcomes = Vec::new();
        let asking: Vec<_> = self.changed.clone();
        for name in asking {
            let Some((index, session)) = self.find(name).filter(|(_, of)| of.told.asked_next > 0)
            else {
                continue;
            };
            let asked = std::mem::take(&mut session.told.asked_next);
            let kept = |conn| Outcome::Kept(name, conn, Err(Reason::BusAway));
            let holder = session.conns().first().copied();
            outcomes.extend((0..asked).filter_map(|_| holder.map(kept)));
            if !session.told.any && session.claim == 1 {
                self.end_one(env, index);
            }
        }
        outcomes
    }

    /// Whether it takes something in.
    pub(in crate::hub) fn on_bus_full(&mut self, env: &Env, full: bool) {
        if !full && std::mem::replace(&mut self.shared.full, false) {
            self.try_again(env);
        }
    }

    fn try_again(&mut self, env: &Env) {
        for name in std::mem::take(&mut self.shared.refused) {
            if let Some((index, _)) = self.find(name) {
                self.note(env, index);
            }
        }
    }

    /// It has answered.
    pub(in crate::hub) fn on_bus_answer(
        &mut self,
        env: &mut Env,
        calls: &mut Calls,
        id: CallId,
        result: Result<&SessionAnswer, BusError>,
    ) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        if result == Err(BusError::Full) {
            self.shared.full = true;
        }
        let call = self.shared.calls.remove(&id);
        if let Some(Call::Claim(claim)) = &call {
            self.shared.claims.remove(&claim.conn);
        }
        match (call, result) {
            (Some(Call::Keep { session, claim }), result) => {
                let kept = match result {
                    Ok(answer) => Ok(*answer == SessionAnswer::Done(true)),
                    Err(error) => Err(error),
                };
                self.on_kept(env, (id, session, claim), kept, &mut outcomes);
            }
            (Some(Call::Claim(claim)), Ok(SessionAnswer::Claimed(Some(claimed)))) => {
                self.on_claimed(env, *claim, claimed, &mut outcomes);
            }
            (Some(Call::Claim(claim)), result) => {
                self.on_not_claimed(env, calls, *claim, result, &mut outcomes);
            }
            (Some(Call::Renew(sessions)), Ok(SessionAnswer::Renewed(found))) => {
                for ((name, claim), renewed) in sessions.into_iter().zip(found) {
                    outcomes.extend(self.on_renewed(env, name, claim, *renewed));
                }
            }
            (Some(Call::Renew(sessions)), _) => {
                // The next time that the bus is there, or takes something in.
                for (name, _) in sessions {
                    if let Some((index, _)) = self.find(name) {
                        self.renew_later(index, env.now.mono + RENEWED_AFTER);
                    }
                }
            }
            (Some(Call::End(held, keep)), result) => {
                let again =
                    matches!(result, Err(BusError::Away | BusError::Unknown | BusError::Full));
                if again {
                    self.shared.over.push_back((held, keep));
                    self.shared.bound_over(env.config.limits.sessions.sessions_max);
                }
            }
            (None, _) => {}
        }
        outcomes
    }

    fn on_kept(
        &mut self,
        env: &mut Env,
        (id, name, claim): (CallId, SessionId, u64),
        kept: Result<bool, BusError>,
        outcomes: &mut Vec<Outcome>,
    ) {
        let Some((index, session)) =
            self.find(name).filter(|(_, of)| of.told.under_way == Some(id))
        else {
            return;
        };
        session.told.under_way = None;
        let again = std::mem::take(&mut session.told.again);
        let mut asked = std::mem::take(&mut session.told.asked);
        if kept.is_err() {
            asked += std::mem::take(&mut session.told.asked_next);
        }
        let holder = session.conns().first().copied();
        let mut answer = |result| {
            let kept = |_| holder.map(|conn| Outcome::Kept(name, conn, result));
            outcomes.extend((0..asked).filter_map(kept));
        };
        match kept {
            Ok(true) => {
                session.told.any = true;
                answer(Ok(session.ttl));
                self.renew_later(index, env.now.mono + RENEWED_AFTER);
                if again {
                    self.note(env, index);
                }
            }
            // By a claim that was this hub's own.
            Ok(false) if claim < session.claim => self.note(env, index),
            Ok(false) => {
                answer(Err(Reason::SessionUnknown));
                outcomes.extend(self.lose(env, index).map(Outcome::Taken));
            }
            Err(error) => {
                answer(Err(Reason::BusAway));
                // Nobody knows of one that was not kept the first time.
                let unknown = !session.told.any && asked > 0 && session.claim == 1;
                session.told.any |= error == BusError::Unknown;
                match error {
                    _ if unknown => self.end_one(env, index),
                    BusError::Full => self.shared.refused.push(name),
                    BusError::Away | BusError::Unknown => self.note(env, index),
                    // What does not pass is not tried in every turn.
                    BusError::Failed => self.renew_later(index, env.now.mono + RENEWED_AFTER),
                }
            }
        }
    }

    fn on_claimed(
        &mut self,
        env: &mut Env,
        claim: Claim,
        claimed: &SessionClaimed,
        outcomes: &mut Vec<Outcome>,
    ) {
        let Claim { session: name, conn, who, gone, .. } = claim;
        let held = SessionHeld { key: SessionKey::of(name), claim: claimed.claim };
        let own = holder(env);
        if let Some(before) = claimed.before.filter(|before| before.node != own.node) {
            outcomes.push(Outcome::Tell(before, held));
        }
        let kept = Kept::read(&claimed.record);
        let is_over = |kept: &Kept| self.shared.has_ended(env.now.mono, kept, claimed.begun);
        let over = kept.as_ref().is_none_or(is_over);
        // Of one that was last told by this hub, this hub knows best.
        let stale = |session: &Session| session.claim + 1 < claimed.claim;
        if let Some((index, _)) = self.find(name).filter(|(_, session)| over || stale(session)) {
            outcomes.extend(self.lose(env, index).map(Outcome::Taken));
        }
        let Some(kept) = kept.filter(|_| !over) else {
            self.shared.over.push_back((held, OVER_KNOWN_MIN));
            env.tally.resumed(Resumed::Unknown);
            return outcomes.push(Outcome::Resumed(name, conn, Resume::Unknown));
        };
        if let Some((index, session)) = self.find(name) {
            session.claim = claimed.claim;
            let (ttl, waits) = (session.ttl, session.is_waiting());
            if waits {
                // The bus knows that its time is not over.
                self.wait(env, index, ttl, env.now.unix);
            }
        } else if let Err(reason) = self.take_over(env, (name, &who), kept, claimed) {
            return outcomes.push(Outcome::Resumed(name, conn, Resume::Refused(reason)));
        }
        if gone {
            if let Some((index, _)) = self.find(name) {
                self.note(env, index);
            }
            return;
        }
        let resume = self.resume(env, name, conn, &who);
        outcomes.push(Outcome::Resumed(name, conn, resume));
    }

    /// Another hub had the session: from now on it waits here.
    fn take_over(
        &mut self,
        env: &mut Env,
        (name, who): (SessionId, &Who),
        kept: Kept,
        claimed: &SessionClaimed,
    ) -> Result<(), Reason> {
        let ttl = kept.ttl;
        let state = State::Waiting { until: env.now.mono, since: env.now.unix };
        let mut session = Session::restored(name, kept, state);
        session.owner = Some(who.clone());
        (session.stored, session.begun, session.claim) = (false, claimed.begun, claimed.claim);
        session.told = Told { any: true, ..Told::default() };
        let fits = self.is_room_for(&env.config.limits.sessions, &session);
        if !fits {
            // It waits for a node that has room.
            return Err(Reason::SessionsFull);
        }
        let index = self.insert(env, session).ok_or(Reason::SessionsFull)?;
        self.wait(env, index, ttl, env.now.unix);
        self.renew_later(index, env.now.mono + RENEWED_AFTER);
        Ok(())
    }

    fn on_not_claimed(
        &mut self,
        env: &mut Env,
        calls: &mut Calls,
        claim: Claim,
        result: Result<&SessionAnswer, BusError>,
        outcomes: &mut Vec<Outcome>,
    ) {
        let Claim { session: name, conn, gone, again, .. } = claim;
        if gone {
            return;
        }
        if matches!(result, Err(BusError::Away | BusError::Unknown | BusError::Full)) {
            let refused = Resume::Refused(Reason::BusAway);
            return outcomes.push(Outcome::Resumed(name, conn, refused));
        }
        let user = user_of(&claim.who).cloned();
        let known = self.find(name).filter(|(_, session)| session.user == user);
        if let Some((index, _)) = known.filter(|_| !again) {
            // The bus may have lost it, or not have heard of it yet.
            self.keep_in_bus(env, calls, index);
            return self.send_claim(env, calls, Claim { again: true, ..claim });
        }
        // Whatever stands against it, the client is told the same.
        let others = matches!(result, Ok(SessionAnswer::OtherUser));
        env.tally.resumed(if others { Resumed::OtherUser } else { Resumed::Unknown });
        outcomes.push(Outcome::Resumed(name, conn, Resume::Unknown));
    }

    fn on_renewed(
        &mut self,
        env: &mut Env,
        name: SessionId,
        claim: u64,
        renewed: SessionRenewed,
    ) -> Option<Outcome> {
        let (index, session) = self.find(name).filter(|(_, session)| session.claim == claim)?;
        match renewed {
            SessionRenewed::Done if session.is_waiting() => {}
            SessionRenewed::Done => self.renew_later(index, env.now.mono + RENEWED_AFTER),
            SessionRenewed::Unknown => self.note(env, index),
            SessionRenewed::Lost => return self.lose(env, index).map(Outcome::Taken),
        }
        None
    }
}

/// This hub, by a name that it has as long as its process lives.
fn holder(env: &Env) -> Writer {
    Writer { node: env.place.node(), shard: env.place.shard.0 }
}

/// So long a session is kept besides the time for which it waits for its client, while a connection has it. When its node
/// is killed it waits at least for that time, and at most for so much longer.
const GRACE: Duration = Duration::from_secs(120);

/// After so long the bus is told that a session is still there.
const RENEWED_AFTER: Duration = Duration::from_secs(60);

/// Sessions that are due within this time are renewed together.
const RENEWED_TOGETHER: Duration = Duration::from_secs(5);

/// So many sessions one command renews.
const RENEWED_MAX: usize = 256;

/// So few renewals are not looked through for those that are over.
const RENEWALS_KEPT: usize = 64;

/// For so long at least it is known of a session that it is over.
const OVER_KNOWN_MIN: Duration = Duration::from_secs(60);
