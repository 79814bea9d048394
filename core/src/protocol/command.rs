//! What a message asks for, in all the ways in which clients ask for it.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::{
    decode::Incoming,
    json::{EMPTY_OBJECT, Members, is_null, is_object, text},
    names::{Kind, event},
};

/// What to do about a message.
#[derive(Clone, Debug)]
pub enum Command<'a> {
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
    pub fn command(&self) -> Command<'a> {
        match (self.kind, self.event.as_deref()) {
            (Kind::Request, Some(event::SUBSCRIBE)) | (Kind::Subscribe, _) => {
                Command::Subscribe { channel: self.wanted_channel(), answer: Answer::Response }
            }
            (Kind::Request, Some(event::UNSUBSCRIBE)) | (Kind::Unsubscribe, _) => {
                Command::Unsubscribe { channel: self.wanted_channel(), answer: Answer::Response }
            }
            (Kind::Event, Some(event::SUBSCRIBE)) => {
                Command::Subscribe { channel: self.wanted_channel(), answer: Answer::Ack }
            }
            (Kind::Event, Some(event::UNSUBSCRIBE)) => {
                Command::Unsubscribe { channel: self.wanted_channel(), answer: Answer::Ack }
            }
            (Kind::Request, Some(event::AUTH)) => Command::Auth { token: self.token() },
            (Kind::Request, Some(event::REFRESH_TOKEN)) => {
                Command::RefreshToken { token: self.token() }
            }
            (Kind::Request, Some(event::PUBLISH)) => self.publish(),
            (Kind::Request, _) => Command::Request {
                event: self.event.clone().unwrap_or_default(),
                data: self.data.map_or(EMPTY_OBJECT, RawValue::get),
            },
            (Kind::Ping, _) => Command::Ping,
            (Kind::Event | Kind::Response | Kind::Error | Kind::Ack | Kind::Pong, _) => {
                Command::Ignored
            }
        }
    }

    /// The channel that a subscription is about, wherever this client puts it. The first of the places that is not
    /// null counts, even if it holds no string.
    fn wanted_channel(&self) -> Option<Cow<'a, str>> {
        let places = self.members(&["channel", "room", "component_id", "page_id"]);
        match places.map(|place| place.filter(|value| !is_null(value))) {
            [Some(name), ..] | [None, Some(name), ..] => text(name),
            [None, None, Some(id), _] => text(id).map(|id| Cow::Owned(format!("component:{id}"))),
            [None, None, None, Some(id)] => text(id).map(|id| Cow::Owned(format!("page:{id}"))),
            [None, None, None, None] => self.channel.clone().or_else(|| self.room.clone()),
        }
    }

    fn token(&self) -> Option<Cow<'a, str>> {
        let [token] = self.members(&["token"]);
        token.and_then(text)
    }

    fn publish(&self) -> Command<'a> {
        let [channel, room, event, data] = self.members(&["channel", "room", "event", "data"]);
        Command::Publish {
            channel: channel.or(room).and_then(text),
            event: event.and_then(text),
            data: data.map_or(Some(EMPTY_OBJECT), |data| is_object(data).then(|| data.get())),
        }
    }

    fn members<const N: usize>(&self, names: &[&str; N]) -> [Option<&'a RawValue>; N] {
        let read = self.data.and_then(|data| Members::read(data.get(), names).ok());
        read.map_or([None; N], |Members(members)| members)
    }
}
