//! Messages to one connection.

use std::time::Duration;

use uuid::Uuid;

use super::{
    Hub,
    conn::Gap,
    token::Withdrawn,
    types::{ConnId, Published, RequestError},
};
use crate::{
    protocol::{self, Answer, Envelope, Stamp, Timestamp, Welcome},
    reason::Reason,
    time::Now,
};

/// How an answer that comes later is to be given.
#[derive(Clone, Debug)]
pub(crate) struct AnswerTo {
    pub(crate) correlation: Option<Box<str>>,
    pub(crate) style: Answer,
}

impl AnswerTo {
    pub(crate) fn new(correlation: Option<&str>, style: Answer) -> Self {
        Self { correlation: correlation.map(Into::into), style }
    }
}

impl Hub {
    /// The first message of every active connection.
    pub(crate) fn send_welcome(&mut self, now: Now, id: ConnId, uuid: Uuid) {
        let Some(conn) = self.conn(id) else { return };
        let (authenticated, secure) = (conn.aside.get().token.is_some(), conn.secure);
        let service = self.config.service.clone();
        let welcome = Welcome {
            connection_id: uuid,
            server: &service.label,
            message: &service.greeting,
            authenticated,
            secure,
            rate_limit: self.config.limits.connections.messages_per_second.filter(|rate| *rate > 0),
        };
        let timestamp = self.timestamp(now);
        let stamp = self.stamp(&timestamp);
        self.send(now, id, Envelope::welcome(stamp, welcome));
    }

    pub(crate) fn answer_user(
        &mut self,
        now: Now,
        id: ConnId,
        event: &str,
        status: &str,
        correlation: Option<&str>,
    ) {
        let user = self.conn(id).and_then(super::conn::Conn::user);
        let timestamp = self.timestamp(now);
        let stamp = self.stamp(&timestamp);
        let data = protocol::Data::User { status, user_id: user.as_deref() };
        let answer = Envelope {
            data,
            status: Some(status),
            ..Envelope::response(stamp, event, "{}", correlation)
        };
        self.send(now, id, answer);
    }

    pub(crate) fn answer_subscribed(
        &mut self,
        now: Now,
        id: ConnId,
        channel: &str,
        answer: &AnswerTo,
    ) {
        let timestamp = self.timestamp(now);
        let stamp = self.stamp(&timestamp);
        let message = Envelope::subscribed(stamp, channel, answer.correlation.as_deref());
        self.send(now, id, styled(message, answer.style));
        self.settle(id);
    }

    pub(crate) fn answer_unsubscribed(
        &mut self,
        now: Now,
        id: ConnId,
        channel: &str,
        correlation: Option<&str>,
        style: Answer,
    ) {
        let timestamp = self.timestamp(now);
        let stamp = self.stamp(&timestamp);
        self.send(now, id, styled(Envelope::unsubscribed(stamp, channel, correlation), style));
    }

    pub(crate) fn answer_pong(&mut self, now: Now, id: ConnId, correlation: Option<&str>) {
        let timestamp = self.timestamp(now);
        let stamp = self.stamp(&timestamp);
        self.send(now, id, Envelope::pong(stamp, correlation));
    }

    pub(crate) fn answer_published(
        &mut self,
        now: Now,
        id: ConnId,
        channel: &str,
        published: Published,
        correlation: Option<&str>,
    ) {
        let offset = self.config.compat.offsets.then_some(published.offset);
        let timestamp = self.timestamp(now);
        let stamp = self.stamp(&timestamp);
        let subscribers = u64::from(published.subscribers);
        self.send(now, id, Envelope::published(stamp, channel, subscribers, offset, correlation));
    }

    pub(crate) fn answer_request(
        &mut self,
        now: Now,
        id: ConnId,
        event: &str,
        data: &str,
        correlation: Option<&str>,
    ) {
        let timestamp = self.timestamp(now);
        let stamp = self.stamp(&timestamp);
        self.send(now, id, Envelope::response(stamp, event, data, correlation));
    }

    pub(crate) fn send_error(
        &mut self,
        now: Now,
        id: ConnId,
        reason: Reason,
        correlation: Option<&str>,
    ) {
        if reason.row().code.is_none() {
            return;
        }
        let timestamp = self.timestamp(now);
        let stamp = self.stamp(&timestamp);
        self.send(now, id, Envelope::error(stamp, reason, None, correlation));
    }

    /// `RATE_LIMIT_EXCEEDED` with the time after which the next message is accepted.
    pub(crate) fn refuse_rate(
        &mut self,
        now: Now,
        id: ConnId,
        wait: Duration,
        correlation: Option<&str>,
    ) {
        self.tally.error(Reason::MessageRate);
        // Rounded up: a client that waits exactly as long as it is told is accepted.
        let millis = wait.as_nanos().div_ceil(1_000_000);
        let text = format!(
            "{}. Retry after {}.{:03} seconds.",
            Reason::MessageRate.row().text,
            millis / 1000,
            millis % 1000
        );
        let timestamp = self.timestamp(now);
        let stamp = self.stamp(&timestamp);
        self.send(now, id, Envelope::error(stamp, Reason::MessageRate, Some(&text), correlation));
    }

    pub(crate) fn send_application_error(
        &mut self,
        now: Now,
        id: ConnId,
        error: &RequestError,
        correlation: Option<&str>,
    ) {
        let timestamp = self.timestamp(now);
        let stamp = self.stamp(&timestamp);
        self.send(now, id, Envelope::failure(stamp, &error.code, &error.message, correlation));
    }

    pub(crate) fn send_gap(&mut self, now: Now, id: ConnId, channel: &str, gap: Gap) {
        let timestamp = self.timestamp(now);
        let stamp = self.stamp(&timestamp);
        let lost = protocol::Gap {
            channel,
            lost: gap.lost,
            first_offset: Some(gap.first_offset),
            last_offset: Some(gap.last_offset),
        };
        self.send(now, id, Envelope::gap(stamp, lost));
    }

    pub(crate) fn send_expiring(&mut self, now: Now, id: ConnId, expiring: protocol::Expiring) {
        let timestamp = self.timestamp(now);
        let stamp = self.stamp(&timestamp);
        self.send(now, id, Envelope::expiring(stamp, expiring));
    }

    pub(crate) fn send_withdrawn(&mut self, now: Now, id: ConnId, channel: &str, why: Withdrawn) {
        let timestamp = self.timestamp(now);
        let stamp = self.stamp(&timestamp);
        self.send(now, id, Envelope::withdrawn(stamp, channel, why.as_str()));
    }

    /// Queues a message for one connection.
    fn send(&mut self, _now: Now, id: ConnId, mut message: Envelope<'_>) {
        if !self.config.compat.mirror_status {
            message.status = None;
        }
        self.scratch.clear();
        message.write(&mut self.scratch);
        let Some(conn) = self.conns.get_mut(id.index) else { return };
        if !conn.ws.is_open() {
            return;
        }
        if conn.ws.window_bits() == 0 || !self.config.deflate.enabled {
            conn.ws.send_text(&self.scratch);
        } else {
            self.send_scratch_deflated(id);
        }
        self.tally.sent(message.kind, 1);
        self.mark_dirty(id.index);
    }

    /// An id and the turn's timestamp for one message.
    pub(crate) fn stamp<'t>(&mut self, timestamp: &'t Timestamp) -> Stamp<'t> {
        Stamp { id: self.entropy.uuid(), timestamp }
    }

    /// The present turn's timestamp, formatted once.
    pub(crate) fn timestamp(&mut self, now: Now) -> Timestamp {
        if self.clock.0 != now.unix {
            self.clock = (now.unix, Timestamp::from_unix(now.unix));
        }
        self.clock.1
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
    use crate::protocol::Kind;

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
