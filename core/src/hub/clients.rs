//! What a client does, from its socket to its end: the handshake, authentication, messages, deadlines; what it asks over
//! HTTP is in `http_requests`. Each method carries on between departments what one of them has found out.

use std::borrow::Cow;

use http::Request;

use super::{
    Hub,
    application::Leave,
    attending::Wishes,
    clock::Leap,
    connections::{Admission, AnswerTo, Conn, Phase},
    drain::Step,
    forwarded::is_trusted,
    handshake::{self, Accepted, Word},
    http::Refused,
    output::Output,
    presence::Why,
    publishing::Message,
    raw::{Decoded, Raw},
    session_buddy,
    tokens::{self, Token, Withdrawn},
    types::{ConnId, DrainPlan, Listener, Peer, ShardId},
};
use crate::{
    auth::Claims,
    config::Dialect,
    protocol::{self, Answer, Incoming, Intent},
    reason::Reason,
    tls::Progress,
    ws::{CloseWhen, Compressed, Event},
};

/// From the socket.
impl Hub {
    pub(super) fn accept(&mut self, peer: Peer) -> Result<ConnId, Reason> {
        let sockets = self.connections.len() + self.peers.sockets();
        let max = self.env.config.limits.connections.sockets_max;
        let admission = match self.drain.has_begun() {
            true => Admission::Full,
            false => self.connections.admit(sockets, max),
        };
        if let Admission::Evict(index) = admission
            && let Some(id) = self.connections.id_at(index)
        {
            self.abandon(id, Reason::MadeRoom);
        }
        let accepted = match admission {
            Admission::Full => None,
            Admission::Room | Admission::Evict(_) => self.connections.insert(&self.env, peer),
        };
        accepted.ok_or_else(|| {
            self.env.tally.error(Reason::MaxSockets);
            Reason::MaxSockets
        })
    }

    /// Decides by the first byte of a connection whether TLS lies between it and its socket.
    pub(super) fn decide(&mut self, id: ConnId, handshake: bool) {
        let begins = handshake && self.env.config.tls.is_some();
        let too_fast = begins && !self.may_handshake(id);
        if begins && !too_fast {
            while let Some(oldest) = self.connections.handshake_over(&self.env.config.limits) {
                self.cut(oldest, Reason::TlsHandshakesMax);
                self.connections.stop_handshake(oldest);
            }
        }
        match self.connections.decide(&self.env, id, handshake, too_fast) {
            // There is nothing to be told, and nothing to wait for.
            Some(reason @ Reason::TlsHandshakeRate) => self.abandon(id, reason),
            Some(reason) => self.cut(id, reason),
            None => {}
        }
    }

    /// Whether a handshake is worth its cost, by the address that it is asked from. Behind a proxy that will name the
    /// client only in the request, nothing is known yet.
    fn may_handshake(&mut self, id: ConnId) -> bool {
        let Some(address) = self.connections.get(id).map(|conn| conn.ip) else { return false };
        is_trusted(address, &self.env.config.trusted_proxies)
            || self.visitors.may_handshake(&self.env, address)
    }

    /// Handshakes that waited for a turn that has time for them.
    pub(super) fn go_on_with_handshakes(&mut self) {
        while let Some(id) = self.connections.next_handshake() {
            self.on_ciphertext(id, &[]);
            // The driver may have stopped reading; a flush tells it to go on.
            self.connections.mark_dirty(id.index);
        }
    }

    pub(super) fn on_ciphertext(&mut self, id: ConnId, wire: &[u8]) {
        let mut plain = self.connections.take_plaintext();
        let handshaking = self.connections.is_handshaking(id);
        let progress = self.connections.decrypt(&mut self.env, id, wire, &mut plain);
        if handshaking && self.connections.is_by_revoked_certificate(&self.env.config, id) {
            // The handshake began before the list came.
            plain.clear();
            self.cut(id, Reason::CertificateRevoked);
        }
        if !plain.is_empty() {
            self.pump(id, &mut plain);
        }
        self.connections.put_plaintext(plain);
        match progress {
            Progress::More => {}
            Progress::Ended => self.on_eof(id),
            Progress::Failed => {
                let established = self.connections.get(id).is_some_and(|conn| conn.secure);
                let reason = if established { Reason::TlsRecord } else { Reason::TlsHandshake };
                self.cut(id, reason);
            }
        }
    }

    /// Feeds the connection until it has no more events.
    pub(super) fn pump(&mut self, id: ConnId, mut wire: &mut [u8]) {
        if self.connections.edit(id).is_none() {
            return;
        }
        while let Some(event) = self.connections.receive(&self.env, id, &mut wire) {
            self.on_event(id, event);
        }
    }

    pub(super) fn on_eof(&mut self, id: ConnId) {
        if let Some(event) = self.connections.end_of_input(&self.env, id) {
            self.on_event(id, event);
        }
        self.connections.mark_dirty(id.index);
    }

    fn on_event(&mut self, id: ConnId, event: Event<'_>) {
        match event {
            Event::Text(text) => self.on_message(id, Raw::Text(&text)),
            Event::Binary(payload) => self.on_message(id, Raw::Binary(&payload)),
            Event::Compressed(message) => self.on_compressed(id, message),
            Event::Upgrade(request) => self.on_upgrade(id, *request),
            Event::Http(request) => self.on_http(id, &request),
            Event::Pong { .. } | Event::Accepted(_) => {}
            Event::Closed(reason) => self.retire(id, reason),
        }
    }

    fn on_compressed(&mut self, id: ConnId, message: Compressed<'_>) {
        let (env, conn) = (&self.env, self.connections.get(id));
        // One that is over the limit is not worth the work of inflating it.
        let wait = conn.filter(|conn| conn.is_active()).and_then(|conn| {
            let mut copy = conn.allowance;
            copy.take(env.started, env.now.mono, &env.config.limits).err()
        });
        if let Some(wait) = wait {
            self.connections.refuse_rate(&mut self.env, id, wait, None);
            return;
        }
        let mut inflater = self.env.codecs.take_inflater();
        match self.connections.inflate(&self.env, id, &mut inflater, message) {
            Some(Event::Text(text)) => self.on_message(id, Raw::Text(&text)),
            Some(Event::Binary(payload)) => self.on_message(id, Raw::Binary(&payload)),
            _ => {}
        }
        self.env.codecs.put_inflater(inflater);
    }
}

/// Handshake and authentication.
impl Hub {
    /// A WebSocket handshake. Over a limit it is accepted and closed with 1013: clients of this protocol give up for
    /// good when a handshake is answered with an HTTP error, but come back after a close.
    fn on_upgrade(&mut self, id: ConnId, request: Request<()>) {
        let Some(conn) = self.connections.get(id) else { return };
        if conn.listener == Listener::Metrics {
            return self.answer_reason(id, Reason::NotFound);
        }
        if self.connections.is_restricted(id) {
            return self.refuse_http(id, &Reason::TlsRequired.into());
        }
        if let Err(reason) = self.keep_at_hand(id, &request) {
            return self.refuse_http(id, &reason.into());
        }
        match self.env.config.hooks.authenticate {
            false => self.shake_hands(id, &request, Word::Unasked),
            true => self.ask_whose_handshake(id, request),
        }
    }

    /// Accepts a handshake, or does not, by what the application says of it or by what the configuration says.
    pub(super) fn shake_hands(&mut self, id: ConnId, request: &Request<()>, word: Word) {
        let Some(conn) = self.connections.get(id) else { return };
        let is_admitted = !matches!(word, Word::Unasked);
        let outcome = match handshake::judge(&self.env, &self.tokens, conn, request, word) {
            Ok(accepted) => self.on_accepted(id, accepted, is_admitted),
            Err(reason) => {
                self.refuse_http(id, &reason.into());
                Err(reason)
            }
        };
        if self.env.spans.is_some() {
            self.trace_handshake(id, request.headers(), outcome);
        }
    }

    /// Why it may not stay, if so. Who had to wait `is_admitted` since it came.
    fn on_accepted(
        &mut self,
        id: ConnId,
        accepted: Accepted<'_>,
        is_admitted: bool,
    ) -> Result<(), Reason> {
        let refusal = if is_admitted {
            None
        } else {
            let Some(conn) = self.connections.edit(id) else { return Ok(()) };
            handshake::place(conn, accepted.local, accepted.client);
            self.admission(id)
        };
        let Some(conn) = self.connections.edit(id) else { return Ok(()) };
        conn.dialect = accepted.dialect;
        conn.ws.accept(self.env.now, &accepted.answer());
        if let Some(reason) = refusal {
            self.close(id, reason);
            return Err(reason);
        }
        conn.phase = Phase::Unauthenticated { pings: 0 };
        let certified = handshake::certified(&self.env, conn);
        if accepted.token.is_none() && certified.is_none() && self.env.config.auth.required {
            let auth_timeout = self.env.config.limits.auth.auth_timeout;
            let auth_timeout = session_buddy::auth_timeout(accepted.dialect, auth_timeout);
            conn.rare_mut().deadline = Some(self.env.now.mono + auth_timeout);
            self.peers.opened();
            return Ok(());
        }
        self.peers.opened();
        let of_certificate = |claims: Claims| Token::of_certificate(self.env.now, claims);
        if let Some(token) = accepted.token.or_else(|| certified.map(of_certificate)) {
            self.set_token(id, token);
        }
        self.activate(id)
    }

    /// From here on the connection counts, gets answers and can subscribe; or why it may not.
    pub(super) fn activate(&mut self, id: ConnId) -> Result<(), Reason> {
        if let Some(reason) = self.enter_user(id) {
            self.close(id, reason);
            return Err(reason);
        }
        let name = self.env.public_name(id);
        let Some(conn) = self.connections.edit(id) else { return Ok(()) };
        conn.phase = Phase::Active;
        let (peer, user, identity) = (conn.peer(), conn.user(), conn.identity());
        if conn.secure {
            self.env.tally.secure_connections += 1;
        } else {
            self.env.tally.connections += 1;
        }
        self.env.tally.active += 1;
        self.connections.list_user(id);
        self.peers.welcomed();
        self.connections.send_welcome(&mut self.env, id, name);
        self.join_feed(id);
        if self.env.config.hooks.lifecycle {
            let introduction = self.introduce(id);
            let output = Output::Connected { conn: id, peer, user, identity, introduction };
            self.outputs.push_back(output);
        }
        self.plan_token(id);
        Ok(())
    }

    /// Puts a token in force, in the place of the one before.
    pub(super) fn set_token(&mut self, id: ConnId, token: Token) {
        let Some(conn) = self.connections.edit(id) else { return };
        let renamed = conn.user() != token.claims.user;
        let left = if renamed { conn.exit_as_user() } else { None };
        let active = conn.is_active();
        if active && self.env.config.hooks.introduce {
            let claims = Box::new(token.claims.clone());
            self.outputs.push_back(Output::Refreshed { conn: id, claims });
        }
        if renamed && active {
            self.connections.unlist_user(id);
        }
        let Some(conn) = self.connections.edit(id) else { return };
        tokens::put(&self.env, conn, token);
        if renamed && active {
            self.connections.list_user(id);
        }
        self.exit(id, left);
        if renamed {
            self.rename_session(id);
        }
        if renamed
            && active
            && let Some(reason) = self.enter_user(id)
        {
            return self.close(id, reason);
        }
        self.plan_token(id);
    }

    /// Sets the deadline of an active connection to what is due next about its token.
    fn plan_token(&mut self, id: ConnId) {
        // The drain's own deadlines end it sooner or later.
        if !self.drain.has_begun()
            && let Some(conn) = self.connections.edit(id)
        {
            tokens::plan(&self.env, conn);
        }
    }

    /// A token on a connection that is already active: the connection stays, whatever comes of it. A connection that
    /// has a user keeps to that user.
    pub(super) fn on_late_token(
        &mut self,
        id: ConnId,
        (event, status): (&str, &str),
        token: Option<Cow<'_, str>>,
        correlation: Option<&str>,
    ) {
        let token = match token {
            _ if self.env.config.auth.keys.is_empty() => Err(Reason::AuthOff),
            None => Err(Reason::AuthMissing),
            Some(token) => self.tokens.verify(&self.env, &token).map_err(|_| Reason::AuthFailed),
        };
        // Who has shown a certificate may still say by a token who it is.
        let known = self.connections.get(id).map(Conn::rare).filter(|rare| !rare.certified);
        let known = known.and_then(|rare| rare.token.as_ref());
        let token = token.and_then(|token| {
            let other = known.is_some_and(|known| known.claims.user != token.claims.user);
            if other { Err(Reason::OtherUser) } else { Ok(token) }
        });
        if self.env.spans.is_some() {
            let outcome = token.as_ref().map(|_| ()).map_err(|reason| *reason);
            self.trace_auth(id, None, outcome);
        }
        match token {
            Err(reason) => self.connections.refuse(&mut self.env, id, reason, correlation),
            Ok(token) => {
                self.set_token(id, token);
                self.env.tally.refreshed += 1;
                self.connections.answer_user(&mut self.env, id, event, status, correlation);
                self.withdraw(id, Withdrawn::Token);
            }
        }
    }

    /// Notices a wall clock that was set, and one that has drifted: what was planned by it is planned anew.
    #[inline]
    pub(super) fn watch_clock(&mut self) {
        if let Some(leap) = self.tokens.has_clock_leapt(self.env.now) {
            self.on_clock_leapt(leap);
        }
    }

    #[cold]
    fn on_clock_leapt(&mut self, leap: Leap) {
        // All hubs see the same: one of them tells.
        if self.env.place.shard == ShardId(0) {
            let (by, forward) = match leap {
                Leap::Forward(by) => (by, true),
                Leap::Back(by) => (by, false),
            };
            self.outputs.push_back(Output::ClockSet { by, forward });
        }
        for id in self.connections.active() {
            self.on_token_deadline(id);
        }
        self.settle();
    }

    /// Something may be due about a connection's token: the wall clock decides what.
    fn on_token_deadline(&mut self, id: ConnId) {
        let due = self.connections.edit(id).and_then(|conn| tokens::due(&self.env, conn));
        match due {
            None => return,
            Some(tokens::Due::Close) => return self.close(id, Reason::TokenExpired),
            Some(tokens::Due::Warn(expiring)) => {
                self.env.tally.warned += 1;
                self.connections.send_expiring(&mut self.env, id, expiring);
            }
            Some(tokens::Due::Nothing) => {}
        }
        self.plan_token(id);
    }

    /// What a new configuration means for connections that are there: some end, some lose subscriptions.
    pub(super) fn review_connections(&mut self) {
        for id in self.connections.ids() {
            if self.connections.is_by_revoked_certificate(&self.env.config, id) {
                self.end_token(id, Reason::CertificateRevoked);
                self.connections.mark_dirty(id.index);
            }
        }
        let numbers = self.tokens.key_numbers(&self.env.config);
        for id in self.connections.active() {
            let Some(conn) = self.connections.edit(id) else { continue };
            if let Some(reason) = self.tokens.review(&self.env, conn, &numbers) {
                self.end_token(id, reason);
            } else {
                self.withdraw(id, Withdrawn::Policy);
                self.plan_token(id);
            }
        }
    }

    /// Ends the connections whose tokens `is_meant` names, and says how many there were.
    pub(super) fn end_tokens(&mut self, is_meant: impl Fn(&Claims) -> bool) -> u32 {
        let mut ended = 0;
        for id in self.connections.active() {
            let token = self.connections.get(id).and_then(|conn| conn.rare().token.as_ref());
            if token.is_some_and(|token| is_meant(&token.claims)) {
                self.end_token(id, Reason::TokenRevoked);
                ended += 1;
            }
        }
        ended
    }

    /// Ends a connection whose token is no longer good, and what it has asked for and not got yet.
    fn end_token(&mut self, id: ConnId, reason: Reason) {
        self.questions.forget(&mut self.connections, id);
        self.close(id, reason);
    }
}

/// Messages.
impl Hub {
    /// A complete text or binary message.
    #[inline]
    fn on_message(&mut self, id: ConnId, message: Raw<'_>) {
        match self.connections.get(id).map(|conn| (conn.dialect, conn.phase)) {
            Some((Dialect::Family, Phase::Active)) => self.on_active_message(id, &message.decode()),
            Some((Dialect::Family, Phase::Unauthenticated { pings })) => {
                self.on_first_message(id, pings, &message.decode());
            }
            Some((Dialect::SessionBuddy, phase)) => self.on_asked(id, phase, message.bytes()),
            Some((Dialect::Family, Phase::Http | Phase::Gone)) | None => {}
        }
    }

    /// Before authentication: the auth message, a few pings, nothing else.
    fn on_first_message(&mut self, id: ConnId, pings: u8, decoded: &Decoded<'_>) {
        let Ok(incoming) = decoded else { return self.close(id, Reason::AuthError) };
        self.env.tally.received(self.env.now.mono, incoming.kind);
        let correlation = incoming.correlation(self.env.config.compat.correlation);
        match incoming.intent() {
            Intent::Auth { token: None } => {
                self.refuse_and_close(id, Reason::AuthMissing, correlation)
            }
            Intent::Auth { token: Some(token) } => match self.tokens.verify(&self.env, &token) {
                Ok(token) => {
                    self.set_token(id, token);
                    let event = protocol::event::AUTH;
                    let env = &mut self.env;
                    self.connections.answer_user(env, id, event, "authenticated", correlation);
                    let outcome = self.activate(id);
                    if self.env.spans.is_some() {
                        self.trace_first_auth(id, outcome);
                    }
                }
                Err(_) => self.refuse_and_close(id, Reason::AuthFailed, correlation),
            },
            Intent::Ping if pings < self.env.config.limits.auth.pings_before_auth_max => {
                if let Some(conn) = self.connections.edit(id) {
                    conn.phase = Phase::Unauthenticated { pings: pings + 1 };
                }
                self.connections.answer_pong(&mut self.env, id, correlation);
            }
            Intent::Ping
            | Intent::RefreshToken { .. }
            | Intent::Subscribe { .. }
            | Intent::Unsubscribe { .. }
            | Intent::Publish { .. }
            | Intent::Request { .. }
            | Intent::Ignored => self.refuse_and_close(id, Reason::AuthRequired, None),
        }
    }

    fn on_active_message(&mut self, id: ConnId, decoded: &Decoded<'_>) {
        let env = &mut self.env;
        let Some(conn) = self.connections.edit(id) else { return };
        let taken = conn.allowance.take(env.started, env.now.mono, &env.config.limits);
        let incoming = match decoded {
            Ok(incoming) => incoming,
            Err(error) => {
                let refused = match taken {
                    Ok(()) => Refused::undecoded(*error),
                    Err(_) => Reason::MessageRate.into(),
                };
                return self.connections.refuse_because(env, id, &refused, None);
            }
        };
        env.tally.received(env.now.mono, incoming.kind);
        let correlation = incoming.correlation(env.config.compat.correlation);
        match taken {
            Ok(()) => self.on_intent(id, incoming, correlation),
            Err(wait) => self.connections.refuse_rate(env, id, wait, correlation),
        }
    }

    fn on_intent(&mut self, id: ConnId, incoming: &Incoming<'_>, correlation: Option<&str>) {
        match incoming.intent() {
            Intent::Subscribe { .. } | Intent::Publish { .. } | Intent::Request { .. }
                if self
                    .connections
                    .get(id)
                    .is_some_and(|conn| tokens::is_stale(&self.env, conn)) =>
            {
                self.connections.refuse(&mut self.env, id, Reason::TokenStale, correlation);
            }
            Intent::Subscribe { channel, answer } => match Wishes::read(incoming) {
                Ok(wishes) => {
                    let answer = AnswerTo::new(correlation, answer);
                    self.on_subscribe(id, channel, answer, wishes);
                }
                Err(error) => self.refuse_because(id, &Refused::undecoded(error), correlation),
            },
            Intent::Unsubscribe { channel, answer } => {
                self.on_unsubscribe(id, channel, correlation, answer)
            }
            Intent::Publish { channel, event, data } => {
                let (channel, event) = (channel.as_deref(), event.as_deref());
                let message = Message { channel, event, data };
                match incoming.has_options() {
                    false => self.on_publish(id, correlation, message),
                    true => self.on_publish_with(id, incoming, correlation, message),
                }
            }
            Intent::Auth { token } => {
                let how = (protocol::event::AUTH, "authenticated");
                self.on_late_token(id, how, token, correlation);
            }
            Intent::RefreshToken { token } => {
                let how = (protocol::event::REFRESH_TOKEN, "refreshed");
                self.on_late_token(id, how, token, correlation);
            }
            Intent::Ping => self.connections.answer_pong(&mut self.env, id, correlation),
            Intent::Request { event, data } => self.on_request(id, &event, data, correlation),
            Intent::Ignored => {}
        }
    }

    fn on_unsubscribe(
        &mut self,
        id: ConnId,
        channel: Option<Cow<'_, str>>,
        correlation: Option<&str>,
        answer: Answer,
    ) {
        let max = self.env.config.limits.channels.channel_bytes_max;
        let Some(channel) = channel.filter(|channel| protocol::channel_is_valid(channel, max))
        else {
            let reason = Reason::InvalidChannel;
            return self.connections.refuse(&mut self.env, id, reason, correlation);
        };
        self.drop_from_resumption(id, &channel);
        self.unsubscribe(id, &channel, Why::Left, Leave::Client);
        let env = &mut self.env;
        self.connections.answer_unsubscribed(env, id, &channel, correlation, answer);
    }
}

/// Deadlines and ends.
impl Hub {
    /// Carries out what is due first. False if nothing is.
    pub(super) fn on_deadline(&mut self) -> bool {
        let now = self.env.now.mono;
        let (question, drain) = (self.questions.next_deadline(), self.drain.deadline());
        let session = self.sessions.next_deadline();
        // In the order of time, connections first.
        let others = [question, session, drain].into_iter().flatten().min();
        let until = others.map_or(now, |other| other.min(now));
        if let Some(due) = self.connections.take_due(&self.env, until) {
            if let Some(event) = due.event {
                self.on_event(due.id, event);
            }
            if due.own {
                self.on_session_deadline(due.id);
            }
            if due.protocol {
                self.connections.mark_dirty(due.id.index);
            }
            return true;
        }
        if session.is_some_and(|at| at <= now && others == Some(at)) {
            return self.sessions.expire(&mut self.env, now);
        }
        if drain.is_some_and(|at| at <= now && question.is_none_or(|question| at < question)) {
            self.on_drain_deadline();
            return true;
        }
        if let Some(late) = self.questions.take_due(&mut self.connections, now) {
            self.fail_question(late.conn, late.about, Reason::GatewayTimeout);
            self.go_on_resuming(late.conn);
        }
        // Also if it had been answered, so that there was nothing to do.
        question.is_some_and(|at| at <= now)
    }

    /// Authentication is overdue, something is due about the token, or it is this connection's turn in a drain.
    fn on_session_deadline(&mut self, id: ConnId) {
        match self.connections.get(id).map(|conn| conn.phase) {
            Some(Phase::Unauthenticated { .. }) if !self.drain.has_begun() => {
                self.refuse_and_close(id, Reason::AuthTimeout, None);
            }
            Some(Phase::Active) if !self.drain.has_begun() => self.on_token_deadline(id),
            Some(Phase::Unauthenticated { .. } | Phase::Active) => self.close(id, Reason::Shutdown),
            Some(Phase::Http | Phase::Gone) | None => {}
        }
    }

    pub(super) fn on_drain(&mut self, plan: DrainPlan) {
        // Whoever is next to take from queues need not wait until a lease is over.
        self.ingress.end(self.env.now.mono);
        if let Some(plan) = self.drain.notice(self.env.now.mono, plan) {
            return self.begin_drain(plan);
        }
        self.tell_nodes();
    }

    fn begin_drain(&mut self, plan: DrainPlan) {
        self.tell_closing(plan);
        for step in self.drain.begin(&self.env, &mut self.connections, plan) {
            match step {
                Step::Close(id) => self.close(id, Reason::Shutdown),
                Step::EndHttp(id) => self.end_http(id),
            }
        }
        self.tell_nodes();
        self.check_drained();
    }

    /// The other nodes need not wait for the next beat.
    fn tell_nodes(&mut self) {
        self.nodes.refresh();
        self.keep_lease();
    }

    /// Tells each client when to come back, if that is wanted.
    fn tell_closing(&mut self, plan: DrainPlan) {
        let within = u64::try_from(self.env.config.drain_return.as_millis()).unwrap_or(u64::MAX);
        if within == 0 {
            return;
        }
        for id in self.connections.active() {
            let after = self.env.entropy.below(within.saturating_add(1));
            let (seconds, tenths) = (after / 1000, after % 1000 / 100);
            let deadline = plan.deadline.as_secs();
            let data = format!(
                "{{\"reason\":\"restart\",\"return_after\":{seconds}.{tenths},\"deadline\":{deadline}}}"
            );
            self.connections.send_closing(&mut self.env, id, &data);
        }
    }

    fn on_drain_deadline(&mut self) {
        if let Some(plan) = self.drain.noticed() {
            return self.begin_drain(plan);
        }
        for id in self.connections.ids() {
            self.retire(id, Reason::CloseTimeout);
            self.remove(id);
        }
        self.check_drained();
    }

    /// Says so once the last connection is gone.
    pub(super) fn check_drained(&mut self) {
        if self.owes_the_bus() && self.drain.may_wait(self.env.now.mono) {
            return;
        }
        if self.drain.complete(&self.connections) {
            self.nodes.quit(&mut self.calls);
            self.outputs.push_back(Output::Drained);
        }
    }

    /// Whether something is still to be done before this process is gone for the other nodes: what was published, who has gone
    /// or a session is on its way, or the other hubs have connections, for which the first one holds the lease.
    fn owes_the_bus(&self) -> bool {
        let others = || self.is_first() && self.peers.sockets() > 0;
        self.env.config.bus.is_some()
            && (!self.appending.is_empty()
                || self.ingress.owes()
                || self.presence.owes_the_bus()
                || !self.sessions.is_all_told()
                || others())
    }

    /// Ends a WebSocket connection for `reason`: membership and counts at once, the close handshake in its own time.
    pub(super) fn close(&mut self, id: ConnId, reason: Reason) {
        if let Some(request) = self.take_handshake(id) {
            self.turn_away(id, &request, reason);
            return self.connections.go_on(id);
        }
        // To these, what is queued is part of the problem, or no longer meant for them.
        let at_once = matches!(
            reason,
            Reason::SlowReader
                | Reason::OutboxesFull
                | Reason::Disconnected
                | Reason::TokenRevoked
                | Reason::KeyRemoved
                | Reason::CertificateRevoked
                | Reason::ResumedElsewhere
        );
        // What an expired token has not been handed yet, it is not owed: it may be younger than its end.
        if !at_once && reason != Reason::TokenExpired {
            self.send_all_queued(id);
        }
        let when = if at_once { CloseWhen::AtOnce } else { CloseWhen::AfterData };
        self.connections.close(&self.env, id, reason, when);
        self.retire(id, reason);
    }

    /// What was published before this moment still goes out before the close frame.
    pub(super) fn send_all_queued(&mut self, id: ConnId) {
        self.seal_all();
        self.hand_out_all();
        self.channels.send_all(&mut self.env, &mut self.connections, id);
    }

    fn refuse_and_close(&mut self, id: ConnId, reason: Reason, correlation: Option<&str>) {
        self.connections.send_error(&mut self.env, id, reason, correlation);
        self.close(id, reason);
    }

    /// Ends a connection whose bytes are of no use: nothing that it waits for is answered.
    fn cut(&mut self, id: ConnId, reason: Reason) {
        self.connections.close(&self.env, id, reason, CloseWhen::AtOnce);
        self.retire(id, reason);
    }

    /// Gives a connection up without a word: its socket goes with the turn's flushes.
    fn abandon(&mut self, id: ConnId, reason: Reason) {
        self.connections.abandon(&self.env, id, reason);
        self.retire(id, reason);
    }

    /// Too much has come in part, and this connection's part began first.
    pub(super) fn give_up_partial(&mut self, id: ConnId) {
        let reason = Reason::InputFull;
        match self.connections.get(id).map(|conn| conn.phase) {
            Some(Phase::Active | Phase::Unauthenticated { .. }) => self.close(id, reason),
            Some(Phase::Http) if self.connections.holds_ciphertext(id) => {
                // No answer can be made before the handshake.
                self.cut(id, Reason::TlsHandshakesMax);
                self.connections.stop_handshake(id);
            }
            Some(Phase::Http) => {
                self.connections.close(&self.env, id, reason, CloseWhen::AtOnce);
                self.env.tally.error(reason);
                self.env.tally.answered(reason.row().status.unwrap_or_default());
                self.retire(id, Reason::HttpDone);
            }
            Some(Phase::Gone) | None => {}
        }
        self.connections.mark_dirty(id.index);
    }

    /// The connection takes no further part: no membership, no count. Idempotent.
    pub(super) fn retire(&mut self, id: ConnId, reason: Reason) {
        if self.env.spans.is_some() {
            self.trace_first_auth(id, Err(reason));
        }
        let Some(ended) = self.connections.retire(&mut self.env, id, reason) else { return };
        self.feed.leave(id);
        if ended.open {
            self.peers.closed();
        }
        if self.env.config.hooks.subscriptions {
            self.tell_of_last(id, reason);
        }
        if ended.active && self.env.config.hooks.lifecycle {
            self.outputs.push_back(Output::Disconnected { conn: id, reason });
        }
        let session = self.session_end(id, reason);
        let why = self.departure(id, reason, session);
        while let Some(left) = self.channels.leave_last(&mut self.env, &mut self.connections, id) {
            self.leave(id, left, why);
        }
        if let Some(end) = session {
            self.end_session(id, end);
        }
        for who in ended.left {
            self.exit(id, who);
        }
    }

    /// The socket is gone.
    pub(super) fn remove(&mut self, id: ConnId) {
        self.forget_at_hand(id);
        if self.connections.remove(&mut self.env, id) {
            self.check_drained();
        }
    }
}
