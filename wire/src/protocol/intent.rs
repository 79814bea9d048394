//! What a message asks for, in all the ways in which clients ask for it.

use std::{borrow::Cow, fmt};

use super::{
    decode::Incoming,
    json::EMPTY_OBJECT,
    names::{Kind, event},
    scan::Value,
};

/// What to do about a message.
#[derive(Clone, PartialEq, Eq)]
pub enum Intent<'a> {
    /// Authenticate. `None`: the token is missing or not a string.
    Auth {
        /// The token.
        token: Option<Cow<'a, str>>,
    },
    /// Replace the connection's token. `None`: it is missing or not a string.
    RefreshToken {
        /// The token.
        token: Option<Cow<'a, str>>,
    },
    /// Send a channel's events from now on.
    Subscribe {
        /// `None`: missing or not a string.
        channel: Option<Cow<'a, str>>,
        /// How to confirm.
        answer: Answer,
    },
    /// Send a channel's events no more.
    Unsubscribe {
        /// `None`: missing or not a string.
        channel: Option<Cow<'a, str>>,
        /// How to confirm.
        answer: Answer,
    },
    /// Send an event to a channel.
    Publish {
        /// `None`: missing or not a string.
        channel: Option<Cow<'a, str>>,
        /// `None`: missing or not a string.
        event: Option<Cow<'a, str>>,
        /// The JSON of an object, `{}` if it is missing. `None`: something else.
        data: Option<&'a str>,
    },
    /// A request for the application.
    Request {
        /// Empty if there was none; no application answers to that.
        event: Cow<'a, str>,
        /// The JSON of an object, `{}` if it is missing.
        data: &'a str,
    },
    /// Answer with a pong.
    Ping,
    /// Nothing: count it, send nothing.
    Ignored,
}

/// How a subscription is confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// By a `response`, for those who asked by `request`, `subscribe` or `unsubscribe`.
    Response,
    /// By an `ack`, for those who asked by `event`: their client waits for nothing and drops acks unseen.
    Ack,
}

impl<'a> Incoming<'a> {
    /// What this message asks for.
    #[must_use]
    pub fn intent(&self) -> Intent<'a> {
        match (self.kind, self.event.as_deref()) {
            (Kind::Request, Some(event::SUBSCRIBE)) | (Kind::Subscribe, _) => {
                Intent::Subscribe { channel: self.wanted_channel(), answer: Answer::Response }
            }
            (Kind::Request, Some(event::UNSUBSCRIBE)) | (Kind::Unsubscribe, _) => {
                Intent::Unsubscribe { channel: self.wanted_channel(), answer: Answer::Response }
            }
            (Kind::Event, Some(event::SUBSCRIBE)) => {
                Intent::Subscribe { channel: self.wanted_channel(), answer: Answer::Ack }
            }
            (Kind::Event, Some(event::UNSUBSCRIBE)) => {
                Intent::Unsubscribe { channel: self.wanted_channel(), answer: Answer::Ack }
            }
            (Kind::Request, Some(event::AUTH)) => Intent::Auth { token: self.token() },
            (Kind::Request, Some(event::REFRESH_TOKEN)) => {
                Intent::RefreshToken { token: self.token() }
            }
            (Kind::Request, Some(event::PUBLISH)) => self.publish(),
            (Kind::Request, _) => Intent::Request {
                event: self.event.clone().unwrap_or_default(),
                data: self.data.unwrap_or(EMPTY_OBJECT),
            },
            (Kind::Ping, _) => Intent::Ping,
            (Kind::Event | Kind::Response | Kind::Error | Kind::Ack | Kind::Pong, _) => {
                Intent::Ignored
            }
        }
    }

    /// The channel that a subscription is about, wherever this client puts it. The first of the places that is not
    /// null counts, even if it holds no string.
    fn wanted_channel(&self) -> Option<Cow<'a, str>> {
        let of = &self.members;
        let places = [of.channel, of.room, of.component_id, of.page_id];
        let prefixed = |prefix: &str, id: Value<'a>| {
            id.string().map(|id| Cow::Owned(format!("{prefix}:{id}")))
        };
        match places.map(|place| place.filter(|value| !value.is_null())) {
            [Some(name), ..] | [None, Some(name), ..] => name.string(),
            [None, None, Some(id), _] => prefixed("component", id),
            [None, None, None, Some(id)] => prefixed("page", id),
            [None, None, None, None] => self.channel.clone().or_else(|| self.room.clone()),
        }
    }

    fn token(&self) -> Option<Cow<'a, str>> {
        self.members.token.and_then(Value::string)
    }

    fn publish(&self) -> Intent<'a> {
        let of = &self.members;
        let data = of.data.map_or(Some(EMPTY_OBJECT), |data| data.is_object().then(|| data.get()));
        Intent::Publish {
            channel: of.channel.or(of.room).and_then(Value::string),
            event: of.event.and_then(Value::string),
            data,
        }
    }
}

/// The name only: what it holds may be a token or private, and is not for logs.
impl fmt::Debug for Intent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auth { .. } => "Auth { .. }",
            Self::RefreshToken { .. } => "RefreshToken { .. }",
            Self::Subscribe { .. } => "Subscribe { .. }",
            Self::Unsubscribe { .. } => "Unsubscribe { .. }",
            Self::Publish { .. } => "Publish { .. }",
            Self::Request { .. } => "Request { .. }",
            Self::Ping => "Ping",
            Self::Ignored => "Ignored",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::decode_text;

    #[test]
    fn subscriptions_name_their_channel_in_many_ways() {
        let cases = [
            (r#"{"channel":"a"}"#, Some("a")),
            (r#"{"room":"a"}"#, Some("a")),
            (r#"{"channel":"a","room":"b","component_id":"c"}"#, Some("a")),
            (r#"{"channel":null,"room":"b"}"#, Some("b")),
            (r#"{"component_id":"c"}"#, Some("component:c")),
            (r#"{"page_id":"p"}"#, Some("page:p")),
            (r#"{"channel":"\u0061\"\n"}"#, Some("a\"\n")),
            (r#"{"channel":""}"#, Some("")),
            (r#"{"channel":5,"room":"b"}"#, None),
            (r#"{"channel":["a"]}"#, None),
            (r#"{"channel":"\udc00"}"#, None),
            (r#"{"component_id":5}"#, None),
            ("{}", None),
        ];
        for (data, channel) in cases {
            for (event, wanted) in [("subscribe", true), ("unsubscribe", false)] {
                let text = format!(r#"{{"type":"request","event":"{event}","data":{data}}}"#);
                assert_eq!(
                    intent(&text),
                    subscription(wanted, channel, Answer::Response),
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn a_channel_beside_data_is_the_last_resort() {
        for field in ["room", "channel"] {
            let beside = format!(r#"{{"type":"subscribe","{field}":"a"}}"#);
            assert_eq!(intent(&beside), subscription(true, Some("a"), Answer::Response));
            let both = format!(r#"{{"type":"subscribe","{field}":"a","data":{{"channel":"b"}}}}"#);
            assert_eq!(intent(&both), subscription(true, Some("b"), Answer::Response));
        }
    }

    #[test]
    fn tokens_are_strings() {
        for (data, token) in [
            (r#","data":{"token":"t"}"#, Some("t")),
            (r#","data":{"token":null}"#, None),
            (r#","data":{"token":5}"#, None),
            (r#","data":{}"#, None),
            ("", None),
        ] {
            let token = || token.map(Cow::Borrowed);
            let auth = format!(r#"{{"type":"request","event":"auth"{data}}}"#);
            assert_eq!(intent(&auth), Intent::Auth { token: token() });
            let refresh = format!(r#"{{"type":"request","event":"refresh_token"{data}}}"#);
            assert_eq!(intent(&refresh), Intent::RefreshToken { token: token() });
        }
    }

    #[test]
    fn publishing_needs_strings_and_an_object() {
        let publish =
            |data: &str| format!(r#"{{"type":"request","event":"publish","data":{data}}}"#);
        let expect = |channel: Option<&'static str>,
                      event: Option<&'static str>,
                      data: Option<&'static str>| {
            Intent::Publish {
                channel: channel.map(Cow::Borrowed),
                event: event.map(Cow::Borrowed),
                data,
            }
        };
        for (data, expected) in [
            (
                r#"{"channel":"c","event":"e","data":{"a": 1}}"#,
                expect(Some("c"), Some("e"), Some(r#"{"a": 1}"#)),
            ),
            (r#"{"room":"c","event":"e"}"#, expect(Some("c"), Some("e"), Some("{}"))),
            (r#"{"channel":"c","event":"e","data":null}"#, expect(Some("c"), Some("e"), None)),
            (r#"{"channel":"c","event":"e","data":[]}"#, expect(Some("c"), Some("e"), None)),
            (r#"{"channel":5,"event":6}"#, expect(None, None, Some("{}"))),
            ("{}", expect(None, None, Some("{}"))),
        ] {
            assert_eq!(intent(&publish(data)), expected, "{data}");
        }
    }

    #[test]
    fn other_requests_are_for_the_application() {
        let request = |event, data| Intent::Request { event: Cow::Borrowed(event), data };
        let text = r#"{"type":"request","event":"get_pool_status","data":{"pool_id":"7"}}"#;
        assert_eq!(intent(text), request("get_pool_status", r#"{"pool_id":"7"}"#));
        assert_eq!(
            intent(r#"{"type":"request","event":"get_anomalies"}"#),
            request("get_anomalies", "{}")
        );
        assert_eq!(intent(r#"{"type":"request"}"#), request("", "{}"));
        assert_eq!(intent(r#"{"type":"request","event":"ping"}"#), request("ping", "{}"));
    }

    #[test]
    fn what_needs_no_answer_gets_none() {
        for text in [
            r#"{"type":"event","event":"pool.scaled","data":{}}"#,
            r#"{"type":"event"}"#,
            r#"{"type":"event","event":"publish","data":{"channel":"a"}}"#,
            r#"{"type":"event","event":"auth","data":{"token":"t"}}"#,
            r#"{"type":"response","event":"subscribe"}"#,
            r#"{"type":"error"}"#,
            r#"{"type":"ack"}"#,
            r#"{"type":"pong"}"#,
        ] {
            assert_eq!(intent(text), Intent::Ignored, "{text}");
        }
    }

    fn intent(text: &str) -> Intent<'_> {
        decode_text(text).unwrap().intent()
    }

    fn subscription<'a>(wanted: bool, channel: Option<&'a str>, answer: Answer) -> Intent<'a> {
        let channel = channel.map(Cow::Borrowed);
        if wanted {
            Intent::Subscribe { channel, answer }
        } else {
            Intent::Unsubscribe { channel, answer }
        }
    }
}
