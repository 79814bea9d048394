//! Sessions that outlive their connection, between the connections of this hub and the homes of their sessions. Each method
//! carries on between departments what one of them has found out.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;

use super::{
    Hub,
    attending::{MEANWHILE, Wishes},
    connections::{AnswerTo, Conn},
    homes::Since,
    http::Refused,
    output::Output,
    peers::Inner,
    presence::Why,
    sessions::{
        About, Attached, End, Ended, Grant, Holder, Next, Rejoined, Resume, Resumption,
        SessionMessage, Terms, Verdict,
    },
    store::SessionId,
    types::{CommandId, ConnId, Published, Whose},
    visitors::Who,
};
use crate::{
    auth::Verb,
    metrics::Resumed,
    protocol::{Answer, KeepSession, ResumeSession, Start},
    reason::Reason,
};

/// What clients ask for.
impl Hub {
    /// The request `keep_session`.
    pub(super) fn on_keep_session(&mut self, id: ConnId, data: &str, correlation: Option<&str>) {
        if self.env.config.limits.sessions.session_window.is_zero() {
            return self.refuse(id, Reason::UnknownRequest, correlation);
        }
        let KeepSession { ttl } = match KeepSession::parse(data) {
            Ok(request) => request,
            Err(error) => {
                return self.refuse_because(id, &Refused::undecoded(error), correlation);
            }
        };
        let Some(conn) = self.connections.get(id) else { return };
        let known = conn.rare().session.as_deref();
        let requests_max = usize::from(self.env.config.limits.requests.requests_in_flight_max);
        let refused = match known {
            Some(attached) if attached.resumption.is_some() => Some(Reason::SessionHeld),
            Some(attached) if attached.asked.len() >= requests_max => {
                Some(Reason::RequestsInFlight)
            }
            Some(_) | None => None,
        };
        let known = known.map(|attached| attached.session);
        let session = known.unwrap_or_else(|| self.env.session());
        let refused = refused.or_else(|| self.is_home_full(session).then_some(Reason::Busy));
        if let Some(reason) = refused {
            return self.refuse(id, reason, correlation);
        }
        let ttl = ttl.map(Duration::from_secs);
        let (about, channels) = if known.is_some() {
            (About::KeepOn { ttl }, Vec::new())
        } else {
            let public = self.env.public_name(id);
            (About::Keep { who: conn.who(), public, ttl }, self.terms(id))
        };
        let Some(conn) = self.connections.edit(id) else { return };
        let rare = conn.rare_mut();
        let attached = rare.session.get_or_insert_with(|| Box::new(Attached::new(session)));
        attached.asked.push_back(AnswerTo::new(correlation, Answer::Response));
        for (channel, terms) in channels {
            attached.subscribed(channel, terms);
        }
        self.tell_home(session, id, about);
        // A bus keeps all of it before the client is told.
        self.tell_changes(session, id);
    }

    /// The request `resume_session`.
    pub(super) fn on_resume_session(&mut self, id: ConnId, data: &str, correlation: Option<&str>) {
        let limits = &self.env.config.limits;
        if limits.sessions.session_window.is_zero() {
            return self.refuse(id, Reason::UnknownRequest, correlation);
        }
        let positions_max = limits.channels.channels_per_connection_max;
        let request = match ResumeSession::parse(data, positions_max) {
            Ok(request) => request,
            Err(error) => {
                return self.refuse_because(id, &Refused::undecoded(error), correlation);
            }
        };
        let Some(conn) = self.connections.get(id) else { return };
        if conn.rare().session.is_some() {
            return self.refuse(id, Reason::SessionHeld, correlation);
        }
        let Some(session) = SessionId::parse(&request.session) else {
            // As one that nobody has.
            self.env.tally.resumed(Resumed::Unknown);
            return self.refuse(id, Reason::SessionUnknown, correlation);
        };
        if self.is_home_full(session) {
            return self.refuse(id, Reason::Busy, correlation);
        }
        let who = conn.who();
        let positions = request.positions.into_iter();
        let positions = positions.map(|(name, since)| (name.into(), Since::of(&since))).collect();
        let answer = AnswerTo::new(correlation, Answer::Response);
        let resumption = Resumption::new(answer, positions);
        let Some(conn) = self.connections.edit(id) else { return };
        conn.rare_mut().session = Some(Box::new(Attached::resuming(session, resumption)));
        self.tell_home(session, id, About::Resume(who));
    }
}

/// Between the hubs of connections and the homes of their sessions.
impl Hub {
    fn is_home_full(&self, session: SessionId) -> bool {
        self.peers.is_full(self.homes.placement().home_of(session))
    }

    fn tell_home(&mut self, session: SessionId, conn: ConnId, what: About) {
        let home = self.homes.placement().home_of(session);
        self.tell(home, Inner::Session(Box::new(SessionMessage { session, conn, what })));
    }

    pub(super) fn tell_host(&mut self, session: SessionId, conn: ConnId, what: About) {
        self.tell(conn.shard, Inner::Session(Box::new(SessionMessage { session, conn, what })));
    }

    pub(super) fn on_session_message(&mut self, message: SessionMessage) {
        let SessionMessage { session, conn, what } = message;
        match what {
            About::Keep { who, public, ttl } => {
                let holder = Holder { conn, who, public };
                let kept = match self.may_keep() {
                    Ok(()) => self.sessions.keep(&mut self.env, session, holder, ttl),
                    Err(reason) => Err(reason),
                };
                self.answer_kept(session, conn, kept);
            }
            About::KeepOn { ttl } => {
                let kept = match self.may_keep() {
                    Ok(()) => self.sessions.keep_on(&self.env, session, conn, ttl),
                    Err(reason) => Err(reason),
                };
                self.answer_kept(session, conn, kept);
            }
            About::Changed(changes) => {
                self.sessions.change(&mut self.env, session, conn, changes);
            }
            About::Renamed(who) => self.sessions.rename(&self.env, session, conn, who),
            About::Ended { end, took_up } => self.on_session_ended(session, conn, (end, took_up)),
            About::Resume(who) => self.on_resume(session, conn, who),
            About::Kept(result) => self.on_kept(session, conn, result),
            About::Resumed(grant) => self.on_resumed(session, conn, grant),
            About::LetGo => {
                if self.attached(session, conn).is_some() {
                    self.close(conn, Reason::ResumedElsewhere);
                }
            }
            About::Over => {
                if self.attached(session, conn).is_some() {
                    self.close(conn, Reason::Disconnected);
                }
            }
        }
    }

    fn on_resume(&mut self, session: SessionId, conn: ConnId, who: Who) {
        if self.shares_sessions() {
            return self.claim_session(session, conn, who);
        }
        let resume = self.sessions.resume(&mut self.env, session, conn, &who);
        self.tell_resumed(session, conn, resume);
    }

    /// A connection has ended that had a session, or wanted it. If it did not take up all, some of the session's places may
    /// wait since an earlier one had it.
    fn on_session_ended(&mut self, session: SessionId, conn: ConnId, (end, took_up): (End, bool)) {
        if !took_up {
            self.sessions.stop_waiting(conn);
        }
        let places = if took_up { None } else { self.sessions.places(session, conn) };
        if let Some((next, resume)) = self.sessions.ended(&mut self.env, session, conn, end) {
            self.tell_resumed(session, next, resume);
        }
        let Some(time) = self.sessions.waits(&self.env, session) else { return };
        let why = match end {
            End::Over => Why::Left,
            End::Waits if time.is_zero() => Why::Lost,
            End::Waits => Why::Held(time + MEANWHILE),
        };
        if let Some((id, channels)) = places {
            channels.into_iter().for_each(|channel| self.settle_place(channel, id, why));
        }
    }

    /// Tells a channel's home what becomes of a session's place there that waits for a connection, if it does.
    fn settle_place(&mut self, channel: Arc<str>, id: Uuid, why: Why) {
        let home = self.homes.of(&channel);
        self.tell(home, Inner::Absent { channel, id, why });
    }

    /// The application ends sessions that are at home here.
    pub(super) fn on_end_sessions(&mut self, id: Option<CommandId>, of: &Whose) {
        if self.shares_sessions() {
            return self.end_sessions_everywhere(id, of);
        }
        let count = self.end_sessions(of, Duration::MAX);
        if let Some(id) = id {
            let published = Published { subscribers: count, ..Published::default() };
            self.outputs.push_back(Output::Done { id, result: Ok(published) });
        }
    }

    /// The same of those that had begun by a moment of the wall clock. How many there were.
    pub(super) fn end_sessions(&mut self, of: &Whose, begun_by: Duration) -> u32 {
        let ended = self.sessions.end(&mut self.env, of, begun_by);
        let count = u32::try_from(ended.len()).unwrap_or(u32::MAX);
        for Ended { session, public, by, next, attended } in ended {
            for channel in attended {
                self.settle_place(channel, public, Why::Left);
            }
            if let Some(by) = by {
                self.tell_host(session, by, About::Over);
            }
            if let Some(next) = next {
                self.env.tally.resumed(Resumed::Unknown);
                self.tell_host(session, next, About::Resumed(Err(Reason::SessionUnknown)));
            }
        }
        count
    }

    pub(super) fn tell_resumed(&mut self, session: SessionId, conn: ConnId, resume: Resume) {
        match resume {
            Resume::Unknown => {
                self.tell_host(session, conn, About::Resumed(Err(Reason::SessionUnknown)));
            }
            Resume::Refused(reason) => {
                self.tell_host(session, conn, About::Resumed(Err(reason)));
            }
            Resume::Granted(grant) => self.tell_host(session, conn, About::Resumed(Ok(grant))),
            Resume::Contended(by) => self.tell_host(session, by, About::LetGo),
        }
    }

    /// What a connection has of this session.
    fn attached(&mut self, session: SessionId, conn: ConnId) -> Option<&mut Attached> {
        self.connections.session_mut(conn).filter(|attached| attached.session == session)
    }

    /// The home keeps a session, or does not.
    fn on_kept(&mut self, session: SessionId, conn: ConnId, result: Result<Duration, Reason>) {
        let Some(attached) = self.attached(session, conn) else { return };
        let Some(answer) = attached.asked.pop_front() else { return };
        attached.kept |= result.is_ok();
        attached.ttl = result.unwrap_or(attached.ttl);
        let correlation = answer.correlation.as_deref();
        match result {
            Ok(ttl) => {
                let (env, connections) = (&mut self.env, &mut self.connections);
                connections.answer_kept(env, conn, (session, ttl), correlation);
            }
            // It is kept as it was, and told the bus as it is when that is possible.
            Err(reason @ Reason::BusAway) if attached.kept => {
                self.refuse(conn, reason, correlation);
            }
            Err(reason) => {
                // None is left at the home: what else was asked about it is answered alike.
                self.refuse(conn, reason, correlation);
                let attached = self.connections.take_session(conn);
                for answer in attached.into_iter().flat_map(|attached| attached.asked) {
                    self.refuse(conn, reason, answer.correlation.as_deref());
                }
            }
        }
    }

    /// A home has granted a session, or there is none for this connection.
    fn on_resumed(&mut self, session: SessionId, conn: ConnId, grant: Result<Box<Grant>, Reason>) {
        let grant = match grant {
            Ok(grant) => grant,
            Err(_) if self.attached(session, conn).is_none() => return,
            Err(reason) => {
                let attached = self.connections.take_session(conn);
                if let Some(resumption) = attached.and_then(|attached| attached.resumption) {
                    let (answer, ..) = resumption.finish();
                    self.refuse(conn, reason, answer.correlation.as_deref());
                }
                return;
            }
        };
        // What the connection has subscribed to by itself belongs to the session from now on.
        let own = self.terms(conn);
        let Some(attached) = self.attached(session, conn) else { return };
        attached.begin(*grant, own);
        self.list_untold(conn);
        self.go_on_resuming(conn);
    }

    /// The homes of sessions are told what has changed. One that takes nothing in is told later, all at once.
    pub(super) fn tell_sessions(&mut self) {
        for _ in 0..self.sessions.untold.len() {
            let Some(conn) = self.sessions.untold.pop_front() else { break };
            let Some(attached) = self.connections.session_mut(conn) else { continue };
            let session = attached.session;
            if self.is_home_full(session) {
                self.sessions.untold.push_back(conn);
                continue;
            }
            if let Some(attached) = self.attached(session, conn) {
                attached.listed = false;
            }
            self.tell_changes(session, conn);
        }
    }

    fn tell_changes(&mut self, session: SessionId, conn: ConnId) {
        let changes = self.attached(session, conn).and_then(Attached::take_changes);
        if let Some(changes) = changes {
            self.tell_home(session, conn, About::Changed(changes));
        }
    }

    /// Puts a connection on the list of those whose session's home is to be told something.
    fn list_untold(&mut self, id: ConnId) {
        let Some(attached) = self.connections.session_mut(id) else { return };
        if attached.has_changes() && !std::mem::replace(&mut attached.listed, true) {
            self.sessions.untold.push_back(id);
        }
    }
}

/// What connections do that have a session.
impl Hub {
    /// The channels of a connection, and what it asked for with each.
    fn terms(&self, id: ConnId) -> Vec<(Arc<str>, Terms)> {
        let terms = self.connections.get(id).map(|conn| self.channels.terms(conn));
        // A session has what its client may have.
        let lasting = |index: u32| !self.channels.is_granted(index, id);
        let terms = terms.unwrap_or_default().into_iter().filter(|(index, ..)| lasting(*index));
        let all = terms.map(|(index, name, positions)| {
            let presence = self.presence_terms(index, id);
            (name, Terms { positions, presence })
        });
        all.collect()
    }

    /// A connection has left a channel, which its session is told.
    pub(super) fn note_unsubscribed(&mut self, id: ConnId, channel: &Arc<str>) {
        if let Some(attached) = self.connections.session_mut(id) {
            attached.unsubscribed(channel.clone());
            self.list_untold(id);
        }
    }

    /// A connection has become a subscriber, which its session is told.
    pub(super) fn note_subscribed(&mut self, id: ConnId, channel: &str, positions: bool) {
        if self.connections.get(id).is_none_or(|conn| conn.rare().session.is_none()) {
            return;
        }
        let index = self.channels.find(channel);
        let presence = index.and_then(|index| self.presence_terms(index, id));
        if let Some(attached) = self.connections.session_mut(id) {
            attached.subscribed(channel.into(), Terms { positions, presence });
            self.list_untold(id);
        }
    }

    /// A connection is somebody else's from now on.
    pub(super) fn rename_session(&mut self, id: ConnId) {
        let Some(conn) = self.connections.get(id) else { return };
        let session = conn.rare().session.as_deref().map(|attached| attached.session);
        if let Some(session) = session {
            let who = conn.who();
            self.tell_home(session, id, About::Renamed(who));
        }
    }

    /// What becomes of the session of a connection that has ended for `reason`.
    pub(super) fn session_end(&self, id: ConnId, reason: Reason) -> Option<End> {
        let conn = self.connections.get(id)?;
        let attached = conn.rare().session.as_deref()?;
        Some(attached.end(reason, conn.ws.peer_close()))
    }

    /// A connection that had a session has left its channels.
    pub(super) fn end_session(&mut self, id: ConnId, end: End) {
        let Some(session) = self.connections.session_mut(id).map(|attached| attached.session)
        else {
            return;
        };
        self.tell_changes(session, id);
        let attached = self.connections.take_session(id);
        let took_up = attached.is_none_or(|attached| attached.resumption.is_none());
        self.tell_home(session, id, About::Ended { end, took_up });
    }

    /// What is under way to resume a connection's session.
    fn resumption(&mut self, id: ConnId) -> Option<&mut Resumption> {
        self.connections.session_mut(id)?.resumption.as_deref_mut()
    }
}

/// Taking up a session's subscriptions.
impl Hub {
    /// Does what is to be done next to resume a session, as far as it can be done now.
    pub(super) fn go_on_resuming(&mut self, id: ConnId) {
        let Some(resumption) = self.resumption(id) else { return };
        // What a step brings about at once is looked at in the next one, however many there are.
        if std::mem::replace(&mut resumption.busy, true) {
            return;
        }
        while let Some(next) = self.next_of_resumption(id) {
            match next {
                Next::Wait => break,
                Next::Judge(channel) => self.judge_again(id, &channel),
                Next::Join(channel, start) => {
                    let terms = self.resumption(id).and_then(|of| of.presence_of(&channel));
                    let presence = self.presence_again(&channel, terms.as_deref());
                    let wishes = Wishes { start, presence };
                    self.subscribe(id, &channel, AnswerTo::of_session(), wishes);
                }
                Next::Answer => return self.finish_resuming(id),
            }
        }
        if let Some(resumption) = self.resumption(id) {
            resumption.busy = false;
        }
    }

    fn next_of_resumption(&mut self, id: ConnId) -> Option<Next> {
        let asks = self.env.config.hooks.authorize_subscribe;
        let max = usize::from(self.env.config.limits.requests.requests_in_flight_max);
        let asked = self.connections.get(id)?.rare().asked.len();
        let may_judge = !asks || asked < max || asked == 0;
        Some(self.resumption(id)?.next(may_judge))
    }

    /// Whether a connection may have a channel again that its session had.
    fn judge_again(&mut self, id: ConnId, channel: &str) {
        let config = &self.env.config;
        let may = |conn: &Conn| conn.may(config, Verb::Subscribe, channel);
        let verdict = match config.hooks.authorize_subscribe {
            _ if !self.connections.get(id).is_some_and(may) => {
                Verdict::Refused(Reason::SubscribeForbidden)
            }
            true => Verdict::Asked,
            false => Verdict::Allowed,
        };
        if let Some(resumption) = self.resumption(id) {
            resumption.judge(channel, verdict);
        }
        if verdict == Verdict::Asked {
            self.ask_to_subscribe(id, channel, AnswerTo::of_session(), Wishes::default());
        }
    }

    /// The application has decided on a channel of a session, or will not.
    pub(super) fn on_judged(&mut self, id: ConnId, channel: &str, verdict: Result<(), Reason>) {
        if let Some(resumption) = self.resumption(id) {
            resumption.decided(channel, verdict);
        }
        self.go_on_resuming(id);
    }

    /// A channel of a session has its connection again, or has not.
    pub(super) fn on_rejoined(
        &mut self,
        id: ConnId,
        channel: &str,
        result: Result<Option<Start<'static>>, Reason>,
    ) {
        if let Some(resumption) = self.resumption(id) {
            resumption.settle(channel, result);
        }
        self.go_on_resuming(id);
    }

    /// The client does not want a channel any more that it is about to get again.
    pub(super) fn drop_from_resumption(&mut self, id: ConnId, channel: &str) {
        let max = self.env.config.limits.channels.channels_per_connection_max;
        if let Some(resumption) = self.resumption(id) {
            resumption.drop_channel(channel, max);
        }
    }

    /// All channels have answered: tells the client, and lets what was held back follow.
    fn finish_resuming(&mut self, id: ConnId) {
        let Some(attached) = self.connections.session_mut(id) else { return };
        let Some(resumption) = attached.resumption.take() else { return };
        for name in resumption.dropped() {
            attached.unsubscribed(name.clone());
        }
        let given_up: Vec<_> = resumption.given_up().cloned().collect();
        let (answer, channels) = resumption.finish();
        let public = self.public_name(id);
        given_up.into_iter().for_each(|name| self.settle_place(name, public, Why::Left));
        for Rejoined { name, terms, changed, result } in &channels {
            // Who was refused may have it all the same: it had subscribed before.
            let index = self.channels.find(name);
            let has = |index| self.channels.has(&self.connections, index, id);
            let rejoined = result.is_ok() || index.is_some_and(has);
            // Perhaps it is not what the session had: it may have attended by itself before.
            let presence = index.and_then(|index| self.presence_terms(index, id));
            if terms.presence.is_some() && presence.is_none() {
                self.settle_place(name.clone(), public, Why::Lost);
            }
            let terms = Terms { presence, ..terms.clone() };
            let Some(attached) = self.connections.session_mut(id) else { return };
            match rejoined {
                true => attached.rejoined(name, &terms, *changed),
                false => attached.unsubscribed(name.clone()),
            }
        }
        let refused = channels.iter().filter_map(|channel| channel.result.err());
        refused.for_each(|reason| self.env.tally.error(reason));
        let (env, connections) = (&mut self.env, &mut self.connections);
        let correlation = answer.correlation.as_deref();
        connections.answer_resumed(env, id, (public, &channels), correlation);
        self.list_untold(id);
        self.watchers.let_go(id);
        self.channels.let_go(&self.connections, id, None);
        self.channels.go_on(&mut self.env, &mut self.connections, id);
    }
}
