//! The session above a WebSocket connection: authentication, messages, end.

use std::{borrow::Cow, sync::Arc};

use super::{
    Hub,
    answer::AnswerTo,
    conn::Session,
    types::{ConnId, Output},
};
use crate::{
    auth::{Access, Verb},
    config::{AnonymousPublish, Config},
    protocol::{self, Answer, Command, DecodeError, Incoming},
    reason::{Counted, Reason},
    time::Now,
    ws,
};

/// What came of reading a message.
type Decoded<'a> = Result<Incoming<'a>, DecodeError>;

impl Hub {
    /// From here on the connection counts, gets answers and can subscribe.
    pub(crate) fn activate(&mut self, now: Now, id: ConnId) {
        if let Some(reason) = self.enter_user(now, id) {
            self.close(now, id, reason);
            return;
        }
        let uuid = self.entropy.uuid();
        let lifecycle = self.config.hooks.lifecycle;
        let Some((conn, _)) = self.conn_mut(id) else { return };
        conn.session = Session::Active;
        let (peer, user) = (conn.peer(), conn.user());
        let (secure, identity) = (conn.secure, conn.aside.get().identity.clone());
        if secure {
            self.tally.secure_connections += 1;
        } else {
            self.tally.connections += 1;
        }
        self.tally.active += 1;
        self.count(|census| census.total += 1);
        self.send_welcome(now, id, uuid);
        if lifecycle {
            self.outputs.push_back(Output::Connected { conn: id, peer, user, identity });
        }
        self.plan_token(now, id);
    }

    /// A complete text or binary message, read.
    pub(crate) fn on_message(&mut self, now: Now, id: ConnId, decoded: Decoded<'_>) {
        match self.conn(id).map(|conn| conn.session) {
            Some(Session::Active) => self.on_active_message(now, id, &decoded),
            Some(Session::Unauthenticated { pings }) => {
                self.on_first_message(now, id, pings, &decoded)
            }
            Some(Session::Http | Session::Gone) | None => {}
        }
    }

    /// Before authentication: the auth message, a few pings, nothing else.
    fn on_first_message(&mut self, now: Now, id: ConnId, pings: u8, decoded: &Decoded<'_>) {
        let Ok(incoming) = decoded else {
            self.close(now, id, Reason::AuthError);
            return;
        };
        self.tally.received(now.mono, incoming.kind);
        let correlation = incoming.correlation(self.config.compat.correlation);
        match incoming.command() {
            Command::Auth { token: None } => {
                self.refuse_and_close(now, id, Reason::AuthMissing, correlation)
            }
            Command::Auth { token: Some(token) } => match self.verify(now, &token) {
                Ok(token) => {
                    self.set_token(now, id, token);
                    self.answer_user(now, id, protocol::event::AUTH, "authenticated", correlation);
                    self.activate(now, id);
                }
                Err(_) => self.refuse_and_close(now, id, Reason::AuthFailed, correlation),
            },
            Command::Ping if pings < self.config.limits.auth.pings_before_auth_max => {
                if let Some((conn, _)) = self.conn_mut(id) {
                    conn.session = Session::Unauthenticated { pings: pings + 1 };
                }
                self.answer_pong(now, id, correlation);
            }
            Command::Ping
            | Command::RefreshToken { .. }
            | Command::Subscribe { .. }
            | Command::Unsubscribe { .. }
            | Command::Publish { .. }
            | Command::Request { .. }
            | Command::Ignored => self.refuse_and_close(now, id, Reason::AuthRequired, None),
        }
    }

    fn on_active_message(&mut self, now: Now, id: ConnId, decoded: &Decoded<'_>) {
        let limits = &self.config.limits;
        let Some(conn) = self.conns.get_mut(id.index) else { return };
        let token = conn.allowance.take(self.started, now.mono, limits);
        let Ok(incoming) = decoded else {
            let reason = if token.is_ok() { Reason::Decode } else { Reason::MessageRate };
            self.refuse(now, id, reason, None);
            return;
        };
        self.tally.received(now.mono, incoming.kind);
        if let Err(wait) = token {
            let correlation = incoming.correlation(self.config.compat.correlation);
            self.refuse_rate(now, id, wait, correlation);
            return;
        }
        self.on_command(now, id, incoming);
    }

    fn on_command(&mut self, now: Now, id: ConnId, incoming: &Incoming<'_>) {
        let correlation = incoming.correlation(self.config.compat.correlation);
        match incoming.command() {
            Command::Subscribe { .. } | Command::Publish { .. } | Command::Request { .. }
                if self.is_stale(now, id) =>
            {
                self.refuse(now, id, Reason::TokenStale, correlation);
            }
            Command::Subscribe { channel, answer } => {
                self.on_subscribe(now, id, channel, AnswerTo::new(correlation, answer));
            }
            Command::Unsubscribe { channel, answer } => {
                self.on_unsubscribe(now, id, channel, correlation, answer)
            }
            Command::Publish { channel, event, data } => {
                self.on_publish_message(
                    now,
                    id,
                    correlation,
                    channel.as_deref(),
                    event.as_deref(),
                    data,
                );
            }
            Command::Auth { token } => {
                let how = (protocol::event::AUTH, "authenticated");
                self.on_late_token(now, id, how, token, correlation);
            }
            Command::RefreshToken { token } => {
                let how = (protocol::event::REFRESH_TOKEN, "refreshed");
                self.on_late_token(now, id, how, token, correlation);
            }
            Command::Ping => self.answer_pong(now, id, correlation),
            Command::Request { event, data } => self.on_request(now, id, &event, data, correlation),
            Command::Ignored => {}
        }
    }

    fn on_subscribe(
        &mut self,
        now: Now,
        id: ConnId,
        channel: Option<Cow<'_, str>>,
        answer: AnswerTo,
    ) {
        let max = self.config.limits.channels.channel_bytes_max;
        let Some(channel) = channel.filter(|channel| protocol::channel_is_valid(channel, max))
        else {
            self.refuse(now, id, Reason::InvalidChannel, answer.correlation.as_deref());
            return;
        };
        if !self.allows(id, Verb::Subscribe, &channel) {
            self.refuse(now, id, Reason::SubscribeForbidden, answer.correlation.as_deref());
        } else if self.config.hooks.authorize_subscribe {
            self.ask_subscribe(now, id, &channel, answer);
        } else {
            self.subscribe(now, id, &channel, answer);
        }
    }

    fn on_unsubscribe(
        &mut self,
        now: Now,
        id: ConnId,
        channel: Option<Cow<'_, str>>,
        correlation: Option<&str>,
        answer: Answer,
    ) {
        let max = self.config.limits.channels.channel_bytes_max;
        let Some(channel) = channel.filter(|channel| protocol::channel_is_valid(channel, max))
        else {
            self.refuse(now, id, Reason::InvalidChannel, correlation);
            return;
        };
        self.unsubscribe(now, id, &channel);
        self.answer_unsubscribed(now, id, &channel, correlation, answer);
    }

    /// What the policy says. Without a user every channel is open to subscribers; publishing then asks where the
    /// connection comes from.
    pub(crate) fn allows(&self, id: ConnId, verb: Verb, channel: &str) -> bool {
        let Some(conn) = self.conn(id) else { return false };
        let policy = &self.config.policy;
        match (&conn.aside.get().token, verb) {
            (Some(token), _) => {
                let access = conn.aside.get().access.as_deref().unwrap_or(&Access::NONE);
                policy.decide_with(access, &token.claims.grants, verb, channel).allowed
            }
            (None, Verb::Subscribe) => !self.config.auth.required,
            (None, Verb::Publish) => {
                !self.config.auth.required && self.may_publish_anonymously(conn.local)
            }
        }
    }

    pub(crate) fn may_publish_anonymously(&self, local: bool) -> bool {
        match self.config.anonymous_publish {
            AnonymousPublish::Anywhere => true,
            AnonymousPublish::Loopback => local,
        }
    }

    /// The session's own deadline has come: authentication is overdue, something is due about the token, or it is this
    /// connection's turn in a drain.
    pub(crate) fn on_session_deadline(&mut self, now: Now, id: ConnId) {
        match self.conn(id).map(|conn| conn.session) {
            Some(Session::Unauthenticated { .. }) if !self.is_draining() => {
                self.refuse_and_close(now, id, Reason::AuthTimeout, None);
            }
            Some(Session::Active) if !self.is_draining() => self.on_token_deadline(now, id),
            Some(Session::Unauthenticated { .. } | Session::Active) => {
                self.close(now, id, Reason::Shutdown)
            }
            Some(Session::Http | Session::Gone) | None => {}
        }
    }

    /// Ends a WebSocket connection for `reason`: membership and counts at once, the close handshake in its own time.
    pub(crate) fn close(&mut self, now: Now, id: ConnId, reason: Reason) {
        // To these, what is queued is part of the problem, or no longer meant for them.
        let at_once = matches!(
            reason,
            Reason::SlowReader
                | Reason::OutboxesFull
                | Reason::Disconnected
                | Reason::TokenRevoked
                | Reason::KeyRemoved
                | Reason::CertificateRevoked
        );
        // What an expired token has not been handed yet, it is not owed: it may be younger than its end.
        if !at_once && reason != Reason::TokenExpired {
            // What was published before this moment still goes out before the close frame.
            self.seal_all();
            self.hand_out_all(now);
        }
        let when = if at_once { ws::CloseWhen::AtOnce } else { ws::CloseWhen::AfterData };
        let Some((conn, limits)) = self.conn_mut(id) else { return };
        conn.ws.close(now, limits, reason, when);
        self.retire(now, id, reason);
        self.settle(id);
    }

    fn refuse_and_close(
        &mut self,
        now: Now,
        id: ConnId,
        reason: Reason,
        correlation: Option<&str>,
    ) {
        self.send_error(now, id, reason, correlation);
        self.close(now, id, reason);
    }

    /// An error message; the connection stays.
    pub(crate) fn refuse(
        &mut self,
        now: Now,
        id: ConnId,
        reason: Reason,
        correlation: Option<&str>,
    ) {
        self.tally.error(reason);
        self.send_error(now, id, reason, correlation);
    }

    /// The connection takes no further part: no membership, no questions, no count. Idempotent.
    pub(crate) fn retire(&mut self, now: Now, id: ConnId, reason: Reason) {
        let Some((conn, _)) = self.conn_mut(id) else { return };
        let was = std::mem::replace(&mut conn.session, Session::Gone);
        if let Some(aside) = conn.aside.get_mut() {
            aside.deadline = None;
            aside.gaps = Vec::new();
        }
        conn.lossy = false;
        match was {
            Session::Gone => return,
            Session::Http => {
                let row = reason.row();
                match row.status {
                    // Accepted, only to be told why it may not stay.
                    _ if row.close.is_some() => self.tally.closed(reason),
                    Some(status) => self.tally.answered(status),
                    None => {}
                }
            }
            Session::Unauthenticated { .. } | Session::Active => {
                self.count(|census| census.open = census.open.saturating_sub(1));
                self.tally.closed(reason);
            }
        }
        if matches!(reason.row().counted, Counted::Connection(_)) {
            self.tally.error(reason);
        }
        if was == Session::Active {
            self.tally.active -= 1;
            if self.config.hooks.lifecycle {
                self.outputs.push_back(Output::Disconnected { conn: id, reason });
            }
        }
        self.unsubscribe_all(now, id);
        self.leave(now, id);
    }

    /// The socket is gone. What was still queued did not reach the peer.
    pub(crate) fn remove(&mut self, id: ConnId) {
        if self.conn(id).is_none() {
            return;
        }
        self.room.forget(&mut self.conns, id.index);
        if let Some(conn) = self.conns.remove(id.index) {
            self.handshakes.forget(&conn.transport);
            self.intake.forget(conn.aside.get().taking);
            self.unweigh(conn.aside.get().behind);
            let lost = conn.ws.messages_dropped() + conn.ws.outbox().messages();
            self.tally.undelivered(conn.ws.reason().unwrap_or(Reason::Io), u64::from(lost));
        }
        self.check_drained();
    }

    /// A new configuration: what each user may do is worked out anew, limits hold from now on.
    pub(crate) fn on_reload(&mut self, now: Now, config: Arc<Config>) {
        self.generation += 1;
        // What was counted so far belongs under the old labels.
        self.reset_deflate();
        self.metrics.publish(now.mono, &mut self.tally);
        let keys = self.entropy.hash_keys();
        self.metrics = crate::metrics::Metrics::new(&config, keys);
        self.metrics.generation(self.generation);
        self.channels.set_policies(|name| config.slow_readers.of(name));
        if config.tls.is_some() {
            // See `start_recording`.
            self.recorder = None;
        }
        let end_removed_keys = config.auth.end_removed_keys;
        self.limits_before_auth = config.limits.before_auth();
        self.config = config;
        self.review_credits(now);
        self.apply_to_live(now, end_removed_keys);
    }
}
