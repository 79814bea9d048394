//! Messages to one connection.

use std::time::Duration;

use uuid::Uuid;

use super::{Conn, Connections, Gap};
use crate::{
    config::Dialect,
    hub::{
        env::Env,
        http::Refused,
        sessions::Rejoined,
        store::SessionId,
        types::{CommandId, ConnId, Published, RequestError},
    },
    protocol::{
        self, Answer, Envelope, GapPosition, Position, PresenceChanges, ResumedSession, Welcome,
        session_buddy::Told,
    },
    reason::Reason,
};

/// How an answer that comes later is to be given.
#[derive(Clone, Debug)]
pub(in crate::hub) struct AnswerTo {
    pub(in crate::hub) correlation: Option<Box<str>>,
    pub(in crate::hub) style: Answer,
    pub(in crate::hub) asker: Asker,
}

/// Who has asked for what is answered later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) enum Asker {
    /// The client.
    Client,
    /// It is no answer of its own, but part of that to `resume_session`.
    Session,
    /// The application, by this command; whether the connection subscribes whatever its client may.
    Application { id: Option<CommandId>, granted: bool },
}

impl AnswerTo {
    pub(in crate::hub) fn new(correlation: Option<&str>, style: Answer) -> Self {
        Self { correlation: correlation.map(Into::into), style, asker: Asker::Client }
    }

    /// For a channel of a session that is being resumed.
    pub(in crate::hub) fn of_session() -> Self {
        Self { correlation: None, style: Answer::Response, asker: Asker::Session }
    }

    /// For a channel into which the application puts a connection.
    pub(in crate::hub) fn of_application(id: Option<CommandId>, granted: bool) -> Self {
        let asker = Asker::Application { id, granted };
        Self { correlation: None, style: Answer::Response, asker }
    }

    /// It is part of the answer to `resume_session`.
    pub(in crate::hub) fn resumes(&self) -> bool {
        self.asker == Asker::Session
    }

    /// The connection subscribes whatever its client may.
    pub(in crate::hub) fn is_granted(&self) -> bool {
        matches!(self.asker, Asker::Application { granted: true, .. })
    }

    /// The application's command, if it is one.
    pub(in crate::hub) fn command(&self) -> Option<Option<CommandId>> {
        match self.asker {
            Asker::Application { id, .. } => Some(id),
            Asker::Client | Asker::Session => None,
        }
    }
}

impl Connections {
    /// The first message of every active connection.
    pub(in crate::hub) fn send_welcome(&mut self, env: &mut Env, id: ConnId, name: Uuid) {
        let Some(conn) = self.get(id) else { return };
        let (authenticated, secure) = (conn.rare().token.is_some(), conn.secure);
        let service = env.config.service.clone();
        let welcome = Welcome {
            connection_id: name,
            server: service.server.as_ref().unwrap_or(&service.label),
            message: &service.greeting,
            authenticated,
            secure,
            rate_limit: env.config.limits.connections.messages_per_second.filter(|rate| *rate > 0),
            extras: &service.welcome,
        };
        let timestamp = env.timestamp();
        let stamp = env.stamp(&timestamp);
        self.send(env, id, Envelope::welcome(stamp, welcome));
    }

    pub(in crate::hub) fn answer_user(
        &mut self,
        env: &mut Env,
        id: ConnId,
        event: &str,
        status: &str,
        correlation: Option<&str>,
    ) {
        let user = self.get(id).and_then(Conn::user);
        let timestamp = env.timestamp();
        let stamp = env.stamp(&timestamp);
        let data = protocol::Data::User { status, user_id: user.as_deref() };
        let answer = Envelope {
            data,
            status: Some(status),
            ..Envelope::response(stamp, event, "{}", correlation)
        };
        self.send(env, id, answer);
    }

    pub(in crate::hub) fn answer_subscribed(
        &mut self,
        env: &mut Env,
        id: ConnId,
        channel: &str,
        answer: &AnswerTo,
        (start, members): (Option<protocol::Start<'_>>, Option<u32>),
    ) {
        let timestamp = env.timestamp();
        let stamp = env.stamp(&timestamp);
        let correlation = answer.correlation.as_deref();
        let message = match (start, members.map(u64::from)) {
            (None, None) => Envelope::subscribed(stamp, channel, correlation),
            (start, members) => Envelope::started(stamp, channel, start, members, correlation),
        };
        self.send(env, id, styled(message, answer.style));
    }

    pub(in crate::hub) fn answer_unsubscribed(
        &mut self,
        env: &mut Env,
        id: ConnId,
        channel: &str,
        correlation: Option<&str>,
        style: Answer,
    ) {
        let timestamp = env.timestamp();
        let stamp = env.stamp(&timestamp);
        self.send(env, id, styled(Envelope::unsubscribed(stamp, channel, correlation), style));
    }

    pub(in crate::hub) fn answer_pong(
        &mut self,
        env: &mut Env,
        id: ConnId,
        correlation: Option<&str>,
    ) {
        let timestamp = env.timestamp();
        let stamp = env.stamp(&timestamp);
        self.send(env, id, Envelope::pong(stamp, correlation));
    }

    pub(in crate::hub) fn answer_published(
        &mut self,
        env: &mut Env,
        id: ConnId,
        channel: &str,
        published: Published,
        correlation: Option<&str>,
    ) {
        let offset = env.config.compat.offsets.then_some(published.offset);
        let timestamp = env.timestamp();
        let stamp = env.stamp(&timestamp);
        let subscribers = u64::from(published.subscribers);
        self.send(env, id, Envelope::published(stamp, channel, subscribers, offset, correlation));
    }

    /// The same, for one that wants to know where its message stands.
    pub(in crate::hub) fn answer_published_at(
        &mut self,
        env: &mut Env,
        id: ConnId,
        channel: &str,
        published: Published,
        correlation: Option<&str>,
    ) {
        let timestamp = env.timestamp();
        let stamp = env.stamp(&timestamp);
        let (subscribers, position) = (u64::from(published.subscribers), published.position());
        let answer = Envelope::published_at(stamp, channel, subscribers, position, correlation);
        self.send(env, id, answer);
    }

    pub(in crate::hub) fn answer_request(
        &mut self,
        env: &mut Env,
        id: ConnId,
        event: &str,
        data: &str,
        correlation: Option<&str>,
    ) {
        let timestamp = env.timestamp();
        let stamp = env.stamp(&timestamp);
        self.send(env, id, Envelope::response(stamp, event, data, correlation));
    }

    pub(in crate::hub) fn answer_kept(
        &mut self,
        env: &mut Env,
        id: ConnId,
        (session, ttl): (SessionId, Duration),
        correlation: Option<&str>,
    ) {
        let session = session.to_text();
        let timestamp = env.timestamp();
        let stamp = env.stamp(&timestamp);
        self.send(env, id, Envelope::kept(stamp, &session, ttl.as_secs(), correlation));
    }

    pub(in crate::hub) fn answer_resumed(
        &mut self,
        env: &mut Env,
        id: ConnId,
        (connection_id, channels): (Uuid, &[Rejoined]),
        correlation: Option<&str>,
    ) {
        let subscriptions: Vec<_> = channels.iter().map(Rejoined::told).collect();
        let resumed = ResumedSession { connection_id, subscriptions: &subscriptions };
        let timestamp = env.timestamp();
        let stamp = env.stamp(&timestamp);
        self.send(env, id, Envelope::resumed(stamp, resumed, correlation));
    }

    pub(in crate::hub) fn send_error(
        &mut self,
        env: &mut Env,
        id: ConnId,
        reason: Reason,
        correlation: Option<&str>,
    ) {
        if reason.row().code.is_none() {
            return;
        }
        let timestamp = env.timestamp();
        let stamp = env.stamp(&timestamp);
        self.send(env, id, Envelope::error(stamp, reason, None, correlation));
    }

    /// `RATE_LIMIT_EXCEEDED` with the time after which the next message is accepted.
    pub(in crate::hub) fn refuse_rate(
        &mut self,
        env: &mut Env,
        id: ConnId,
        wait: Duration,
        correlation: Option<&str>,
    ) {
        let client = self.get(id).map(|conn| conn.ip);
        env.tally.error_of(Reason::MessageRate, client, None);
        // Rounded up: a client that waits exactly as long as it is told is accepted.
        let millis = wait.as_nanos().div_ceil(1_000_000);
        let text = format!(
            "{}. Retry after {}.{:03} seconds.",
            Reason::MessageRate.row().text,
            millis / 1000,
            millis % 1000
        );
        let timestamp = env.timestamp();
        let stamp = env.stamp(&timestamp);
        self.send(env, id, Envelope::error(stamp, Reason::MessageRate, Some(&text), correlation));
    }

    pub(in crate::hub) fn send_application_error(
        &mut self,
        env: &mut Env,
        id: ConnId,
        error: &RequestError,
        correlation: Option<&str>,
    ) {
        let timestamp = env.timestamp();
        let stamp = env.stamp(&timestamp);
        self.send(env, id, Envelope::failure(stamp, &error.code, &error.message, correlation));
    }

    /// `epoch`: for subscribers with positions.
    pub(in crate::hub) fn send_gap(
        &mut self,
        env: &mut Env,
        id: ConnId,
        channel: &str,
        gap: Gap,
        position: Option<Position>,
    ) {
        let reason = gap.cause.as_str();
        let timestamp = env.timestamp();
        let stamp = env.stamp(&timestamp);
        let lost = protocol::Gap {
            channel,
            lost: gap.lost,
            first_offset: gap.offsets.map(|(first, _)| first),
            last_offset: gap.offsets.map(|(_, last)| last),
            position: position.map(|position| GapPosition { reason, position }),
        };
        self.send(env, id, Envelope::gap(stamp, lost));
    }

    /// Whoever keeps a list of a channel's members has to ask for it anew.
    pub(in crate::hub) fn send_presence_missed(
        &mut self,
        env: &mut Env,
        id: ConnId,
        channel: &str,
    ) {
        let timestamp = env.timestamp();
        let stamp = env.stamp(&timestamp);
        let changes = PresenceChanges::default();
        self.send(env, id, Envelope::presence_changed(stamp, channel, changes));
    }

    pub(in crate::hub) fn send_expiring(
        &mut self,
        env: &mut Env,
        id: ConnId,
        expiring: protocol::Expiring,
    ) {
        let timestamp = env.timestamp();
        let stamp = env.stamp(&timestamp);
        self.send(env, id, Envelope::expiring(stamp, expiring));
    }

    pub(in crate::hub) fn send_closing(&mut self, env: &mut Env, id: ConnId, data: &str) {
        let timestamp = env.timestamp();
        let stamp = env.stamp(&timestamp);
        self.send(env, id, Envelope::closing(stamp, data));
    }

    pub(in crate::hub) fn send_withdrawn(
        &mut self,
        env: &mut Env,
        id: ConnId,
        channel: &str,
        why: &str,
    ) {
        let timestamp = env.timestamp();
        let stamp = env.stamp(&timestamp);
        self.send(env, id, Envelope::withdrawn(stamp, channel, why));
    }

    /// The same, with what exactly was wrong or missing.
    #[cold]
    pub(in crate::hub) fn refuse_because(
        &mut self,
        env: &mut Env,
        id: ConnId,
        refused: &Refused,
        correlation: Option<&str>,
    ) {
        let client = self.get(id).map(|conn| conn.ip);
        env.tally.error_of(refused.reason, client, refused.rule);
        if refused.reason.row().code.is_none() {
            return;
        }
        let timestamp = env.timestamp();
        let stamp = env.stamp(&timestamp);
        let detail = refused.detail.as_deref();
        self.send(env, id, Envelope::error(stamp, refused.reason, detail, correlation));
    }

    /// The same with another text than the reason's own, which must not repeat input.
    pub(in crate::hub) fn refuse_with(
        &mut self,
        env: &mut Env,
        id: ConnId,
        reason: Reason,
        text: &str,
        correlation: Option<&str>,
    ) {
        let client = self.get(id).map(|conn| conn.ip);
        env.tally.error_of(reason, client, None);
        let timestamp = env.timestamp();
        let stamp = env.stamp(&timestamp);
        self.send(env, id, Envelope::error(stamp, reason, Some(text), correlation));
    }

    /// An error message; the connection stays.
    pub(in crate::hub) fn refuse(
        &mut self,
        env: &mut Env,
        id: ConnId,
        reason: Reason,
        correlation: Option<&str>,
    ) {
        let client = self.get(id).map(|conn| conn.ip);
        env.tally.error_of(reason, client, None);
        self.send_error(env, id, reason, correlation);
    }

    /// Tells a connection that the application has made it a subscriber.
    pub(in crate::hub) fn send_subscribed(&mut self, env: &mut Env, id: ConnId, channel: &str) {
        let timestamp = env.timestamp();
        let stamp = env.stamp(&timestamp);
        self.send(env, id, Envelope::made_subscriber(stamp, channel));
    }

    /// Queues a message for one connection.
    fn send(&mut self, env: &mut Env, id: ConnId, mut message: Envelope<'_>) {
        if !env.config.compat.mirror_status {
            message.status = None;
        }
        env.scratch.clear();
        message.write(&mut env.scratch);
        let Some(conn) = self.edit_if(id, |conn| conn.ws.is_open()) else { return };
        if conn.dialect != Dialect::Family {
            return self.send_instead(env, id, &message);
        }
        send_scratch(env, conn);
        env.tally.sent(message.kind, 1);
        // Now, so that whoever has an answer is written to in the order of the answers.
        self.mark_dirty(id.index);
    }

    /// What a client that speaks another protocol is sent in the place of a message of the family's: mostly nothing.
    #[cold]
    fn send_instead(&mut self, env: &mut Env, id: ConnId, message: &Envelope<'_>) {
        if let Some(told) = Told::instead_of(message) {
            self.send_told(env, id, told);
        }
    }

    /// Queues a message of Session-Buddy's protocol for one connection.
    pub(in crate::hub) fn send_told(&mut self, env: &mut Env, id: ConnId, told: Told<'_>) {
        env.scratch.clear();
        told.write(&mut env.scratch);
        let Some(conn) = self.edit_if(id, |conn| conn.ws.is_open()) else { return };
        send_scratch(env, conn);
        env.tally.told(told.word(), 1);
        self.mark_dirty(id.index);
    }
}

/// Queues the text of the work space, compressed if that was agreed on.
fn send_scratch(env: &mut Env, conn: &mut Conn) {
    let deflate = &env.config.deflate;
    if conn.ws.window_bits() == 0 || !deflate.enabled {
        conn.ws.send_encoded(&env.scratch);
    } else {
        conn.ws.send_text_deflated(env.codecs.deflater(deflate), &env.scratch);
    }
}

fn styled(message: Envelope<'_>, style: Answer) -> Envelope<'_> {
    match style {
        Answer::Response => message,
        Answer::Ack => message.as_ack(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Kind, Stamp, Timestamp};

    #[test]
    fn what_a_server_sends_is_counted_under_a_kind_of_its_own() {
        let timestamp = Timestamp::from_unix(Duration::ZERO);
        let stamp = Stamp { id: Uuid::nil(), timestamp: &timestamp };
        assert_eq!(
            styled(Envelope::subscribed(stamp, "c", None), Answer::Response).kind,
            Kind::Response
        );
        assert_eq!(styled(Envelope::subscribed(stamp, "c", None), Answer::Ack).kind, Kind::Ack);
    }
}
