//! The conversation of a subscriber: authenticate, subscribe, listen. Knows nothing of sockets.

use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use mahavishnu_core::protocol::{Kind, Message, Request, error_code, event};

use crate::exit::{Exit, Failure};

/// What one subscriber says and hears, over all its connections.
#[derive(Debug)]
pub(crate) struct Dialogue {
    token: Option<String>,
    channels: Vec<Channel>,
    phase: Phase,
    /// Channels, by index, that are yet to be asked for on this connection.
    queue: VecDeque<usize>,
    /// Asked for, not answered.
    asked: BTreeSet<usize>,
    /// The server wants a pause until then.
    paused_until: Option<Instant>,
    /// What the server said last before it closed.
    last_error: Option<String>,
}

#[derive(Debug)]
struct Channel {
    name: String,
    /// Why it is not asked for again.
    refused: Option<Failure>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No handshake yet.
    Shut,
    /// The token is to be presented.
    Greeting,
    /// The token is being looked at.
    Authenticating,
    Subscribing,
}

/// What a message came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Event(Event),
    Subscribed(String),
    /// One channel of several was refused: the line to show.
    Refused(String),
    AllRefused(Failure),
    Nothing,
}

/// An event of a channel.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) channel: String,
    pub(crate) name: String,
    /// JSON, as it came.
    pub(crate) data: String,
}

impl Dialogue {
    pub(crate) fn new(token: Option<String>, channels: Vec<String>) -> Self {
        Self {
            token,
            channels: channels.into_iter().map(|name| Channel { name, refused: None }).collect(),
            phase: Phase::Shut,
            queue: VecDeque::new(),
            asked: BTreeSet::new(),
            paused_until: None,
            last_error: None,
        }
    }

    /// A new connection: everything has to be said again.
    pub(crate) fn reset(&mut self) {
        let wanted =
            self.channels.iter().enumerate().filter(|(_, channel)| channel.refused.is_none());
        self.queue = wanted.map(|(index, _)| index).collect();
        self.asked.clear();
        self.phase = Phase::Shut;
        self.paused_until = None;
        self.last_error = None;
    }

    /// The handshake is done.
    pub(crate) fn opened(&mut self) {
        self.phase = if self.token.is_some() { Phase::Greeting } else { Phase::Subscribing };
    }

    /// Messages that are due. A server answers a limited number at once, so requests go out in small groups.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<String> {
        match (self.phase, &self.token) {
            (Phase::Greeting, Some(token)) => {
                self.phase = Phase::Authenticating;
                vec![Request::Auth { token }.to_text(Some(AUTH_ID))]
            }
            (Phase::Subscribing, _) if self.paused_until.is_none_or(|until| until <= now) => {
                self.paused_until = None;
                let mut messages = Vec::new();
                while self.asked.len() < ASKED_MAX
                    && let Some(index) = self.queue.pop_front()
                {
                    let Some(channel) = self.channels.get(index) else { continue };
                    self.asked.insert(index);
                    let request = Request::Subscribe { channel: &channel.name };
                    messages.push(request.to_text(Some(&format!("{SUBSCRIBE_ID}{index}"))));
                }
                messages
            }
            _ => Vec::new(),
        }
    }

    /// Takes a message of the server.
    pub(crate) fn receive(&mut self, text: &str, now: Instant) -> Heard {
        // Other servers may say more than we understand: that is no reason to go.
        let Ok(message) = Message::read(text) else { return Heard::Nothing };
        match message.kind {
            Kind::Event => match (message.room, message.event) {
                (Some(channel), Some(name)) => Heard::Event(Event {
                    channel: channel.into_owned(),
                    name: name.into_owned(),
                    data: message.data.unwrap_or("{}").to_owned(),
                }),
                // The welcome and the like.
                _ => Heard::Nothing,
            },
            Kind::Response if message.event.as_deref() == Some(event::AUTH) => {
                self.authenticated();
                Heard::Nothing
            }
            Kind::Response => self.subscribed(message.correlation_id.as_deref()),
            Kind::Error => self.refused(&message, now),
            Kind::Request
            | Kind::Ack
            | Kind::Subscribe
            | Kind::Unsubscribe
            | Kind::Ping
            | Kind::Pong => Heard::Nothing,
        }
    }

    /// When [`take_due`](Self::take_due) has something again although nothing came.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        self.paused_until
    }

    /// What the server complained of last, for the case that it closes then.
    pub(crate) fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    fn authenticated(&mut self) {
        if self.phase == Phase::Authenticating {
            self.phase = Phase::Subscribing;
        }
    }

    fn subscribed(&mut self, correlation_id: Option<&str>) -> Heard {
        let channel = self.take_asked(correlation_id).and_then(|index| self.channels.get(index));
        channel.map_or(Heard::Nothing, |channel| Heard::Subscribed(channel.name.clone()))
    }

    fn refused(&mut self, message: &Message<'_>, now: Instant) -> Heard {
        let code = message.error_code.as_deref().unwrap_or_default();
        let error = format!("{code}: {}", message.error_message.as_deref().unwrap_or_default());
        self.last_error = Some(error.clone());
        let Some(index) = self.take_asked(message.correlation_id.as_deref()) else {
            // A refused token: the server closes next. One that needs no tokens says so and goes on, and so do we.
            self.authenticated();
            return Heard::Nothing;
        };
        if code == error_code::RATE_LIMIT_EXCEEDED {
            self.queue.push_front(index);
            self.paused_until = Some(now + RATE_PAUSE);
            return Heard::Nothing;
        }
        let exit = if code == error_code::FORBIDDEN { Exit::Permission } else { Exit::General };
        let Some(channel) = self.channels.get_mut(index) else { return Heard::Nothing };
        let failure = Failure::new(exit, format!("not subscribed to {:?}: {error}", channel.name));
        let line = failure.to_string();
        channel.refused = Some(failure.clone());
        if self.channels.iter().all(|channel| channel.refused.is_some()) {
            return Heard::AllRefused(failure);
        }
        Heard::Refused(line)
    }

    /// The channel whose request this answers.
    fn take_asked(&mut self, correlation_id: Option<&str>) -> Option<usize> {
        let index = correlation_id?.strip_prefix(SUBSCRIBE_ID)?.parse().ok()?;
        self.asked.remove(&index).then_some(index)
    }
}

const AUTH_ID: &str = "auth";
const SUBSCRIBE_ID: &str = "subscribe-";
/// Unanswered subscriptions at once: well under the burst that servers allow.
const ASKED_MAX: usize = 32;
const RATE_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn dialogue(token: Option<&str>, channels: &[&str]) -> Dialogue {
        let mut dialogue = Dialogue::new(
            token.map(str::to_owned),
            channels.iter().map(|name| (*name).to_owned()).collect(),
        );
        dialogue.reset();
        dialogue.opened();
        dialogue
    }

    fn sent(dialogue: &mut Dialogue, now: Instant) -> Vec<Value> {
        dialogue.take_due(now).iter().map(|text| serde_json::from_str(text).unwrap()).collect()
    }

    fn answer(id: &str) -> String {
        json!({ "type": "response", "event": "subscribe", "correlation_id": id, "data": { "status": "subscribed" } }).to_string()
    }

    fn error(code: &str, id: Option<&str>) -> String {
        json!({ "type": "error", "correlation_id": id, "error_code": code, "error_message": "No." })
            .to_string()
    }

    #[test]
    fn without_a_token_it_subscribes_at_once() {
        let now = Instant::now();
        let mut dialogue = dialogue(None, &["a", "b"]);
        let requests = sent(&mut dialogue, now);
        assert_eq!(requests.len(), 2);
        assert_eq!(
            requests[1],
            json!({ "type": "request", "event": "subscribe", "id": "subscribe-1", "data": { "channel": "b" } })
        );
        assert_eq!(sent(&mut dialogue, now).len(), 0);
        assert_eq!(dialogue.receive(&answer("subscribe-1"), now), Heard::Subscribed("b".into()));
        assert_eq!(
            dialogue.receive(&answer("subscribe-1"), now),
            Heard::Nothing,
            "answered already"
        );
    }

    #[test]
    fn a_token_comes_first_and_subscriptions_wait_for_its_answer() {
        let now = Instant::now();
        let mut dialogue = dialogue(Some("T"), &["a"]);
        assert_eq!(sent(&mut dialogue, now)[0]["data"], json!({ "token": "T" }));
        assert_eq!(sent(&mut dialogue, now).len(), 0);
        dialogue.receive(
            r#"{"type":"response","event":"auth","data":{"status":"authenticated"}}"#,
            now,
        );
        assert_eq!(sent(&mut dialogue, now)[0]["event"], json!("subscribe"));
    }

    #[test]
    fn a_server_without_authentication_is_subscribed_to_all_the_same() {
        let now = Instant::now();
        let mut dialogue = dialogue(Some("T"), &["a"]);
        sent(&mut dialogue, now);
        dialogue.receive(&error("UNKNOWN_REQUEST", None), now);
        assert_eq!(dialogue.last_error(), Some("UNKNOWN_REQUEST: No."));
        assert_eq!(sent(&mut dialogue, now).len(), 1);
    }

    #[test]
    fn events_keep_their_data_as_it_came_and_the_welcome_is_none() {
        let now = Instant::now();
        let mut dialogue = dialogue(None, &["a"]);
        let event = r#"{"type":"event","event":"e","room":"a","data":{"n":1.10}}"#;
        let expected =
            Event { channel: "a".into(), name: "e".into(), data: r#"{"n":1.10}"#.into() };
        assert_eq!(dialogue.receive(event, now), Heard::Event(expected));
        assert_eq!(
            dialogue.receive(
                r#"{"type":"event","event":"session.created","room":null,"data":{}}"#,
                now
            ),
            Heard::Nothing
        );
        for odd in ["", "[]", "{}", r#"{"type":5}"#, r#"{"type":"event","event":"e","room":5}"#] {
            assert_eq!(dialogue.receive(odd, now), Heard::Nothing, "{odd}");
        }
    }

    #[test]
    fn refused_channels_are_not_asked_for_again() {
        let now = Instant::now();
        let mut dialogue = dialogue(None, &["a", "b"]);
        sent(&mut dialogue, now);
        let heard = dialogue.receive(&error("FORBIDDEN", Some("subscribe-0")), now);
        assert_eq!(heard, Heard::Refused("not subscribed to \"a\": FORBIDDEN: No.".into()));
        dialogue.reset();
        dialogue.opened();
        assert_eq!(sent(&mut dialogue, now).len(), 1);
        let heard = dialogue.receive(&error("FORBIDDEN", Some("subscribe-1")), now);
        assert!(matches!(heard, Heard::AllRefused(failure) if failure.exit == Exit::Permission));
    }

    #[test]
    fn many_channels_are_asked_for_in_groups_and_after_a_pause_if_that_was_too_much() {
        let now = Instant::now();
        let names: Vec<String> = (0..40).map(|n| n.to_string()).collect();
        let mut dialogue = dialogue(None, &names.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(sent(&mut dialogue, now).len(), ASKED_MAX);
        dialogue.receive(&answer("subscribe-0"), now);
        assert_eq!(sent(&mut dialogue, now).len(), 1);
        dialogue.receive(&error("RATE_LIMIT_EXCEEDED", Some("subscribe-1")), now);
        assert_eq!(sent(&mut dialogue, now).len(), 0);
        let later = dialogue.wake_at().unwrap();
        assert_eq!(sent(&mut dialogue, later)[0]["id"], json!("subscribe-1"));
    }
}
