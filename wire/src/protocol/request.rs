//! The client's half of writing: what it asks for, straight into the caller's buffer.

use std::fmt;

use uuid::Uuid;

use super::{
    json::write_string,
    names::{Kind, event},
    options::SubscribeOptions,
    position::Position,
    presence::write_query,
    publish_options::MessageOptions,
    sessions::write_positions,
};

/// What a client asks for, on its way out. What the server makes of it is a [`Intent`](super::Intent).
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// Authenticate: the first message of a connection whose handshake carried no token. Answered by a response.
    Auth {
        /// The token.
        token: &'a str,
    },
    /// Replace the connection's token by a newer one. Answered by a response.
    RefreshToken {
        /// The token.
        token: &'a str,
    },
    /// Send a channel's events from now on. Answered by a response.
    Subscribe {
        /// Its name.
        channel: &'a str,
    },
    /// Send a channel's events from now on, and what else is asked for. Answered by a response; servers that know none of it
    /// answer as to [`Subscribe`](Self::Subscribe).
    SubscribeWith {
        /// Its name.
        channel: &'a str,
        /// What else.
        options: &'a SubscribeOptions<'a>,
    },
    /// Send a channel's events no more. Answered by a response.
    Unsubscribe {
        /// Its name.
        channel: &'a str,
    },
    /// Send an event to a channel. Answered by a response that says how many subscribers it was given to.
    Publish {
        /// The channel's name.
        channel: &'a str,
        /// The event's name.
        event: &'a str,
        /// The JSON text of an object, taken as it is.
        data: &'a str,
    },
    /// Keep what this connection subscribes to. Answered by a response that names the session.
    KeepSession {
        /// Seconds that the session is to wait for its client after the end of a connection; `None`: as long as the server
        /// lets it.
        ttl: Option<u64>,
    },
    /// Go on with what another connection subscribed to. Answered by a response that lists the subscriptions; then what
    /// was missed.
    ResumeSession {
        /// The session's name.
        session: &'a str,
        /// Where the client left off, by channel.
        positions: &'a [(&'a str, Position)],
    },
    /// As `Publish`, with something besides the message.
    PublishWith {
        /// The channel's name.
        channel: &'a str,
        /// The event's name.
        event: &'a str,
        /// The JSON text of an object, taken as it is.
        data: &'a str,
        /// The same request under the same key is carried out once. 1 to 256 bytes.
        idempotency_key: Option<&'a str>,
        /// What goes with the message.
        options: MessageOptions<'a>,
    },
    /// Tell a channel's document. Answered by a response.
    GetState {
        /// The channel's name.
        channel: &'a str,
    },
    /// Tell who is in a channel. Answered by a response.
    GetPresence {
        /// The channel's name.
        channel: &'a str,
        /// Whether they are to be listed, or only counted.
        members: bool,
        /// The list begins behind the member with this `connection_id`: the last one of an answer that was not complete.
        after: Option<Uuid>,
    },
    /// A request for the application. Answered as the application likes, or by an error.
    Application {
        /// The request's name.
        event: &'a str,
        /// The JSON text of an object, taken as it is.
        data: &'a str,
    },
    /// A sign of life. Answered by a pong.
    Ping,
}

impl Request<'_> {
    /// Appends the message. `id` comes back as `correlation_id` of the answer; `None` leaves it out.
    pub fn write(&self, id: Option<&str>, out: &mut Vec<u8>) {
        let kind = if *self == Self::Ping { Kind::Ping } else { Kind::Request };
        out.extend_from_slice(b"{\"type\":");
        write_string(out, kind.as_str());
        if let Some(event) = self.event() {
            out.extend_from_slice(b",\"event\":");
            write_string(out, event);
        }
        if let Some(id) = id {
            out.extend_from_slice(b",\"id\":");
            write_string(out, id);
        }
        self.write_data(out);
        out.push(b'}');
    }

    /// The message as text; otherwise as [`write`](Self::write).
    #[must_use]
    pub fn to_text(&self, id: Option<&str>) -> String {
        let mut out = Vec::new();
        self.write(id, &mut out);
        String::from_utf8(out).unwrap_or_default()
    }

    fn event(&self) -> Option<&str> {
        Some(match self {
            Self::Auth { .. } => event::AUTH,
            Self::RefreshToken { .. } => event::REFRESH_TOKEN,
            Self::Subscribe { .. } | Self::SubscribeWith { .. } => event::SUBSCRIBE,
            Self::Unsubscribe { .. } => event::UNSUBSCRIBE,
            Self::KeepSession { .. } => event::KEEP_SESSION,
            Self::ResumeSession { .. } => event::RESUME_SESSION,
            Self::Publish { .. } | Self::PublishWith { .. } => event::PUBLISH,
            Self::GetState { .. } => event::GET_STATE,
            Self::GetPresence { .. } => event::GET_PRESENCE,
            Self::Application { event, .. } => event,
            Self::Ping => return None,
        })
    }

    fn write_data(&self, out: &mut Vec<u8>) {
        let member = |out: &mut Vec<u8>, name: &[u8], value: &str| {
            out.extend_from_slice(name);
            write_string(out, value);
        };
        match self {
            Self::Auth { token } | Self::RefreshToken { token } => {
                member(out, b",\"data\":{\"token\":", token);
            }
            Self::Subscribe { channel }
            | Self::Unsubscribe { channel }
            | Self::GetState { channel } => {
                member(out, b",\"data\":{\"channel\":", channel);
            }
            Self::GetPresence { channel, members, after } => {
                member(out, b",\"data\":{\"channel\":", channel);
                write_query(out, *members, *after);
            }
            Self::SubscribeWith { channel, options } => {
                member(out, b",\"data\":{\"channel\":", channel);
                options.write(out);
            }
            Self::Publish { channel, event, data }
            | Self::PublishWith { channel, event, data, .. } => {
                member(out, b",\"data\":{\"channel\":", channel);
                member(out, b",\"event\":", event);
                out.extend_from_slice(b",\"data\":");
                out.extend_from_slice(data.as_bytes());
            }
            Self::KeepSession { ttl } => {
                out.extend_from_slice(b",\"data\":{");
                if let Some(ttl) = ttl {
                    out.extend_from_slice(b"\"ttl\":");
                    out.extend_from_slice(itoa::Buffer::new().format(*ttl).as_bytes());
                }
            }
            Self::ResumeSession { session, positions } => {
                member(out, b",\"data\":{\"session\":", session);
                out.extend_from_slice(b",\"positions\":");
                write_positions(out, positions);
            }
            Self::Application { data, .. } => {
                out.extend_from_slice(b",\"data\":");
                out.extend_from_slice(data.as_bytes());
                return;
            }
            Self::Ping => return,
        }
        if let Self::PublishWith { idempotency_key, options, .. } = self {
            if let Some(key) = idempotency_key {
                member(out, b",\"idempotency_key\":", key);
            }
            options.write(out);
        }
        out.push(b'}');
    }
}

/// The name only: what it holds may be a token or private, and is not for logs.
impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auth { .. } => "Auth { .. }",
            Self::RefreshToken { .. } => "RefreshToken { .. }",
            Self::Subscribe { .. } => "Subscribe { .. }",
            Self::SubscribeWith { .. } => "SubscribeWith { .. }",
            Self::Unsubscribe { .. } => "Unsubscribe { .. }",
            Self::Publish { .. } => "Publish { .. }",
            Self::KeepSession { .. } => "KeepSession { .. }",
            Self::ResumeSession { .. } => "ResumeSession { .. }",
            Self::PublishWith { .. } => "PublishWith { .. }",
            Self::GetState { .. } => "GetState { .. }",
            Self::GetPresence { .. } => "GetPresence { .. }",
            Self::Application { .. } => "Application { .. }",
            Self::Ping => "Ping",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::*;

    use super::*;
    use crate::protocol::{
        Answer, Condition, CorrelationRule, Epoch, Intent, PublishOptions, decode_text,
    };

    #[test]
    fn members_come_in_the_order_of_the_documents() {
        let subscribe = Request::Subscribe { channel: "pool:7" };
        assert_eq!(
            subscribe.to_text(Some("1")),
            r#"{"type":"request","event":"subscribe","id":"1","data":{"channel":"pool:7"}}"#
        );
        assert_eq!(
            subscribe.to_text(None),
            r#"{"type":"request","event":"subscribe","data":{"channel":"pool:7"}}"#
        );
        let publish = Request::Publish { channel: "c", event: "e", data: r#"{"n": 1.10}"# };
        assert_eq!(
            publish.to_text(Some("2")),
            r#"{"type":"request","event":"publish","id":"2","data":{"channel":"c","event":"e","data":{"n": 1.10}}}"#
        );
        let keep = |ttl| Request::KeepSession { ttl }.to_text(None);
        assert_eq!(
            keep(Some(60)),
            r#"{"type":"request","event":"keep_session","data":{"ttl":60}}"#
        );
        assert_eq!(keep(None), r#"{"type":"request","event":"keep_session","data":{}}"#);
        let position = Position { epoch: Epoch::from_random(0), offset: 5 };
        let positions = &[("a", position), ("b", position)];
        assert_eq!(
            Request::ResumeSession { session: "s", positions }.to_text(None),
            concat!(
                r#"{"type":"request","event":"resume_session","data":{"session":"s","positions":"#,
                r#"{"a":{"epoch":"0000000000","offset":5},"b":{"epoch":"0000000000","offset":5}}}}"#
            )
        );
        let condition = Some(Condition { offset: 7, epoch: Epoch::parse("0123456789") });
        let options = MessageOptions {
            positions: true,
            state: Some(r#"{"n":2}"#),
            condition,
            traceparent: None,
        };
        let with = Request::PublishWith {
            channel: "c",
            event: "e",
            data: "{}",
            idempotency_key: Some("k"),
            options,
        };
        assert_eq!(
            with.to_text(None),
            r#"{"type":"request","event":"publish","data":{"channel":"c","event":"e","data":{},"idempotency_key":"k","positions":true,"state":{"n":2},"if_offset":7,"if_epoch":"0123456789"}}"#
        );
        let read =
            decode_text(&with.to_text(None)).map(|read| format!("{:?}", read.publish_options()));
        let expected: Result<_, crate::protocol::DecodeError> =
            Ok(PublishOptions { idempotency_key: Some("k".into()), message: options });
        assert_eq!(read, Ok(format!("{expected:?}")));
        assert_eq!(Request::Ping.to_text(Some("3")), r#"{"type":"ping","id":"3"}"#);
        assert_eq!(Request::Ping.to_text(None), r#"{"type":"ping"}"#);
    }

    #[test]
    fn debug_shows_no_content() {
        assert_eq!(format!("{:?}", Request::Auth { token: "hush" }), "Auth { .. }");
    }

    proptest! {
        #[test]
        fn a_server_reads_what_a_client_asks_for(which in 0_usize..9, a: String, b: String, id: Option<String>) {
            let data = r#"{"x":[1, {}]}"#;
            let (one, two) = (|| Some(Cow::Borrowed(a.as_str())), || Some(Cow::Borrowed(b.as_str())));
            let (request, intent) = match which {
                0 => (Request::Auth { token: &a }, Intent::Auth { token: one() }),
                1 => (Request::RefreshToken { token: &a }, Intent::RefreshToken { token: one() }),
                2 => (
                    Request::Subscribe { channel: &a },
                    Intent::Subscribe { channel: one(), answer: Answer::Response },
                ),
                3 => (
                    Request::Unsubscribe { channel: &a },
                    Intent::Unsubscribe { channel: one(), answer: Answer::Response },
                ),
                4 => (
                    Request::Publish { channel: &a, event: &b, data },
                    Intent::Publish { channel: one(), event: two(), data: Some(data) },
                ),
                5 => (
                    Request::Application { event: "get_pool_status", data },
                    Intent::Request { event: Cow::Borrowed("get_pool_status"), data },
                ),
                6 => (
                    Request::KeepSession { ttl: Some(60) },
                    Intent::Request { event: Cow::Borrowed("keep_session"), data: r#"{"ttl":60}"# },
                ),
                7 => (
                    Request::ResumeSession { session: "s", positions: &[] },
                    Intent::Request {
                        event: Cow::Borrowed("resume_session"),
                        data: r#"{"session":"s","positions":{}}"#,
                    },
                ),
                _ => (Request::Ping, Intent::Ping),
            };

            let text = request.to_text(id.as_deref());

            let read = decode_text(&text).unwrap();
            prop_assert_eq!(read.intent(), intent);
            prop_assert_eq!(read.correlation(CorrelationRule::Tolerant), id.as_deref());
        }
    }
}
