//! The messages that the server sends, each by its name.

use uuid::Uuid;

use super::{
    envelope::{Data, Envelope},
    names::{Kind, error_code, event},
    position::Position,
    timestamp::Timestamp,
};
use crate::reason::Reason;

/// What every message has: an id of its own and the time.
#[derive(Clone, Copy, Debug)]
pub struct Stamp<'a> {
    /// `id`.
    pub id: Uuid,
    /// `timestamp`.
    pub timestamp: &'a Timestamp,
}

/// What a new connection is told.
#[derive(Clone, Copy, Debug)]
pub struct Welcome<'a> {
    /// The connection's public name.
    pub connection_id: Uuid,
    /// The server's name, as in metric labels.
    pub server: &'a str,
    /// A greeting for people.
    pub message: &'a str,
    /// Whether the connection has a user.
    pub authenticated: bool,
    /// Whether it is encrypted.
    pub secure: bool,
    /// Messages per second that are accepted. `None`: no limit, and the field is left out.
    pub rate_limit: Option<u32>,
    /// What follows `authenticated`, in this order.
    pub extras: &'a [WelcomeExtra],
}

/// A field at the end of a welcome. Services differ in which they have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WelcomeExtra {
    /// `secure`: whether the connection is encrypted.
    Secure,
    /// `tls_mode`: the same as `WS` or `WSS`.
    TlsMode,
    /// `rate_limit`: messages per second that are accepted.
    RateLimit,
}

impl WelcomeExtra {
    /// All of them, as a server has them that is none of the known services in particular.
    pub const ALL: &'static [Self] = &[Self::Secure, Self::TlsMode, Self::RateLimit];

    /// The extra with this name, as the field is called. `None`: there is none.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|extra| extra.as_str() == name).copied()
    }

    /// The name of the field.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Secure => "secure",
            Self::TlsMode => "tls_mode",
            Self::RateLimit => "rate_limit",
        }
    }
}

/// Events that a subscriber did not get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap<'a> {
    /// Where.
    pub channel: &'a str,
    /// How many. `None`: nobody knows.
    pub lost: Option<u64>,
    /// The first one lost, if the channel counts.
    pub first_offset: Option<u64>,
    /// The last one lost, if the channel counts.
    pub last_offset: Option<u64>,
    /// For subscribers with positions.
    pub position: Option<GapPosition<'a>>,
}

/// What a subscriber with positions is told of a gap besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GapPosition<'a> {
    /// Why the events did not come: `slow`, `trimmed`, `failover`, `epoch`, `poison`.
    pub reason: &'a str,
    /// Where the subscriber stands behind the gap: what comes next comes after this.
    pub position: Position,
}

/// What a subscriber who asked for it is told of where its channel stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start<'a> {
    /// Where the channel stands: what comes live comes after this.
    pub position: Position,
    /// Whether the channel keeps what is published, so that a later `recover` has a chance.
    pub recoverable: bool,
    /// What came of `recover`, if that was asked for: so many events follow, or why none do.
    pub recovered: Option<Result<u64, &'a str>>,
    /// How many of the last events follow, if they were asked for by `rewind`.
    pub rewound: Option<u64>,
}

/// A token that is about to expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiring {
    /// When, in seconds since the Unix epoch.
    pub expires_at: u64,
    /// Seconds until then.
    pub expires_in: u64,
    /// Seconds after that until the connection is closed.
    pub grace: u64,
}

impl<'a> Envelope<'a> {
    /// The first message of a connection without authentication, the second of one with.
    #[must_use]
    pub fn welcome(stamp: Stamp<'a>, welcome: Welcome<'a>) -> Self {
        Self {
            event: Some(event::SESSION_CREATED),
            data: Data::Welcome(welcome),
            ..Self::blank(stamp, Kind::Event)
        }
    }

    /// Answers `auth`.
    #[must_use]
    pub fn authenticated(
        stamp: Stamp<'a>,
        user_id: Option<&'a str>,
        correlation_id: Option<&'a str>,
    ) -> Self {
        let data = Data::User { status: "authenticated", user_id };
        Self {
            status: Some("authenticated"),
            data,
            ..Self::answer(stamp, event::AUTH, correlation_id)
        }
    }

    /// Answers `refresh_token`.
    #[must_use]
    pub fn refreshed(
        stamp: Stamp<'a>,
        user_id: Option<&'a str>,
        correlation_id: Option<&'a str>,
    ) -> Self {
        let data = Data::User { status: "refreshed", user_id };
        Self {
            status: Some("refreshed"),
            data,
            ..Self::answer(stamp, event::REFRESH_TOKEN, correlation_id)
        }
    }

    /// Confirms a subscription by a response.
    #[must_use]
    pub fn subscribed(stamp: Stamp<'a>, channel: &'a str, correlation_id: Option<&'a str>) -> Self {
        let data = Data::Channel { status: "subscribed", channel };
        Self {
            status: Some("subscribed"),
            data,
            ..Self::answer(stamp, event::SUBSCRIBE, correlation_id)
        }
    }

    /// Confirms a subscription by a response to who asked where the channel stands, or for presence.
    #[must_use]
    pub fn started(
        stamp: Stamp<'a>,
        channel: &'a str,
        start: Option<Start<'a>>,
        members: Option<u64>,
        correlation_id: Option<&'a str>,
    ) -> Self {
        let data = Data::Started { channel, start, members };
        Self { data, ..Self::subscribed(stamp, channel, correlation_id) }
    }

    /// Confirms the end of a subscription by a response.
    #[must_use]
    pub fn unsubscribed(
        stamp: Stamp<'a>,
        channel: &'a str,
        correlation_id: Option<&'a str>,
    ) -> Self {
        let data = Data::Channel { status: "unsubscribed", channel };
        Self {
            status: Some("unsubscribed"),
            data,
            ..Self::answer(stamp, event::UNSUBSCRIBE, correlation_id)
        }
    }

    /// The same message as an `ack`: for [`Answer::Ack`](super::Answer::Ack).
    #[must_use]
    pub fn as_ack(self) -> Self {
        Self { kind: Kind::Ack, ..self }
    }

    /// Answers a ping.
    #[must_use]
    pub fn pong(stamp: Stamp<'a>, correlation_id: Option<&'a str>) -> Self {
        Self { correlation_id, ..Self::blank(stamp, Kind::Pong) }
    }

    /// Answers `publish`.
    #[must_use]
    pub fn published(
        stamp: Stamp<'a>,
        channel: &'a str,
        subscribers: u64,
        offset: Option<u64>,
        correlation_id: Option<&'a str>,
    ) -> Self {
        let data = Data::Published { channel, subscribers, offset };
        Self {
            status: Some("published"),
            data,
            ..Self::answer(stamp, event::PUBLISH, correlation_id)
        }
    }

    /// Answers `publish`, for those who want to know where in the channel the message stands.
    #[must_use]
    pub fn published_at(
        stamp: Stamp<'a>,
        channel: &'a str,
        subscribers: u64,
        position: Option<Position>,
        correlation_id: Option<&'a str>,
    ) -> Self {
        let data = Data::PublishedAt { channel, subscribers, position };
        Self {
            status: Some("published"),
            data,
            ..Self::answer(stamp, event::PUBLISH, correlation_id)
        }
    }

    /// Answers a request with what the application said: the JSON text of an object.
    #[must_use]
    pub fn response(
        stamp: Stamp<'a>,
        event: &'a str,
        data: &'a str,
        correlation_id: Option<&'a str>,
    ) -> Self {
        Self { data: Data::Raw(data), ..Self::answer(stamp, event, correlation_id) }
    }

    /// Refuses. `text` replaces the reason's own, for the few that have a number in them; it must not repeat input.
    #[must_use]
    pub fn error(
        stamp: Stamp<'a>,
        reason: Reason,
        text: Option<&'a str>,
        correlation_id: Option<&'a str>,
    ) -> Self {
        let row = reason.row();
        Self::failure(
            stamp,
            row.code.unwrap_or(error_code::SERVER_ERROR),
            text.unwrap_or(row.text),
            correlation_id,
        )
    }

    /// Refuses with a code and text of the application's.
    #[must_use]
    pub fn failure(
        stamp: Stamp<'a>,
        code: &'a str,
        text: &'a str,
        correlation_id: Option<&'a str>,
    ) -> Self {
        Self { correlation_id, error: Some((code, text)), ..Self::blank(stamp, Kind::Error) }
    }

    /// An event of a channel. `data` is the JSON text of an object.
    #[must_use]
    pub fn broadcast(
        stamp: Stamp<'a>,
        channel: &'a str,
        event: &'a str,
        data: &'a str,
        offset: Option<u64>,
    ) -> Self {
        let data = Data::Raw(data);
        Self {
            event: Some(event),
            data,
            room: Some(channel),
            offset,
            ..Self::blank(stamp, Kind::Event)
        }
    }

    /// An event for connections, and not for a channel. `data` is the JSON text of an object.
    #[must_use]
    pub fn direct(stamp: Stamp<'a>, event: &'a str, data: &'a str) -> Self {
        Self { event: Some(event), data: Data::Raw(data), ..Self::blank(stamp, Kind::Event) }
    }

    /// Tells a connection that it subscribes to a channel without having asked for it.
    #[must_use]
    pub fn made_subscriber(stamp: Stamp<'a>, channel: &'a str) -> Self {
        let event = Some(event::CHANNEL_SUBSCRIBED);
        let data = Data::Channel { status: "subscribed", channel };
        Self { event, data, room: Some(channel), ..Self::blank(stamp, Kind::Event) }
    }

    /// Tells a connection to refresh its token.
    #[must_use]
    pub fn expiring(stamp: Stamp<'a>, expiring: Expiring) -> Self {
        let event = Some(event::SESSION_TOKEN_EXPIRING);
        Self { event, data: Data::Expiring(expiring), ..Self::blank(stamp, Kind::Event) }
    }

    /// Tells a connection that it is about to be closed. `data` is `{reason, return_after, deadline}` when the server stops,
    /// `{reason, retry, return_after}` when the application ends it.
    #[must_use]
    pub fn closing(stamp: Stamp<'a>, data: &'a str) -> Self {
        let event = Some(event::SESSION_CLOSING);
        Self { event, data: Data::Raw(data), ..Self::blank(stamp, Kind::Event) }
    }

    /// Tells a subscriber that it no longer is one. `why` is `token`, `policy` or `application`.
    #[must_use]
    pub fn withdrawn(stamp: Stamp<'a>, channel: &'a str, why: &'a str) -> Self {
        let event = Some(event::CHANNEL_WITHDRAWN);
        let data = Data::Withdrawn { channel, why };
        Self { event, data, room: Some(channel), ..Self::blank(stamp, Kind::Event) }
    }

    /// Tells a subscriber that it lost events.
    #[must_use]
    pub fn gap(stamp: Stamp<'a>, gap: Gap<'a>) -> Self {
        let (event, room) = (Some(event::CHANNEL_GAP), Some(gap.channel));
        Self { event, data: Data::Gap(gap), room, ..Self::blank(stamp, Kind::Event) }
    }

    fn answer(stamp: Stamp<'a>, event: &'a str, correlation_id: Option<&'a str>) -> Self {
        Self { correlation_id, event: Some(event), ..Self::blank(stamp, Kind::Response) }
    }

    pub(super) fn blank(stamp: Stamp<'a>, kind: Kind) -> Self {
        Self {
            id: stamp.id,
            correlation_id: None,
            kind,
            event: None,
            data: Data::Empty,
            timestamp: stamp.timestamp,
            room: None,
            error: None,
            status: None,
            offset: None,
        }
    }
}
