//! The conversation of a subscriber: authenticate, subscribe, listen. Knows nothing of sockets.

use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use mahavishnu_core::protocol::{
    Epoch, Kind, Message, Recover, Request, SubscribeOptions, error_code, event,
};
use serde::Deserialize;

use crate::{
    exit::{Exit, Failure},
    reach,
};

/// What one subscriber says and hears, over all its connections.
#[derive(Debug)]
pub(crate) struct Dialogue {
    token: Option<String>,
    channels: Vec<Channel>,
    /// So many of the last events of each channel are to come first.
    rewind: Option<u32>,
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
    /// Which life of its numbers, if the server numbers its events.
    epoch: Option<Epoch>,
    /// What came last, if that is known.
    last: Option<Last>,
}

/// Where to go on after a break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Last {
    pub(crate) offset: u64,
    /// Of the event itself, so that another one under its number is not taken for it.
    pub(crate) id: Option<String>,
}

/// What the answer to a subscription says about the time before. Servers that do not number events say nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Standing {
    epoch: Option<String>,
    offset: Option<u64>,
    recovered: Option<bool>,
    missed: Option<u64>,
    /// So many of the last events come now.
    rewound: Option<u64>,
    reason: Option<String>,
}

/// What a gap consists of, as far as the server knows.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Gap {
    lost: Option<u64>,
    reason: Option<String>,
    epoch: Option<String>,
    /// Behind the gap.
    offset: Option<u64>,
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
    Subscribed(String, Recovery),
    /// One channel of several was refused: the line to show.
    Refused(String),
    AllRefused(Failure),
    Nothing,
}

/// What became of the events since the last connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Recovery {
    /// Nothing was asked for, or the server does not know.
    None,
    /// So many come now.
    Recovered(u64),
    /// Why not.
    Not(String),
}

/// An event of a channel.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) channel: String,
    pub(crate) name: String,
    /// JSON, as it came.
    pub(crate) data: String,
    pub(crate) id: Option<String>,
    pub(crate) timestamp: Option<String>,
    pub(crate) epoch: Option<Epoch>,
    pub(crate) offset: Option<u64>,
    /// Of how many events before it nothing has come, and why if the server says so. `Some(None)`: nobody knows how many.
    pub(crate) gap: Option<(Option<u64>, Option<String>)>,
}

impl Dialogue {
    pub(crate) fn new(token: Option<String>, channels: Vec<String>, rewind: Option<u32>) -> Self {
        let channel = |name| Channel { name, refused: None, epoch: None, last: None };
        Self {
            token,
            channels: channels.into_iter().map(channel).collect(),
            rewind,
            phase: Phase::Shut,
            queue: VecDeque::new(),
            asked: BTreeSet::new(),
            paused_until: None,
            last_error: None,
        }
    }

    /// What is known of a channel from elsewhere: the first subscription goes on from there.
    pub(crate) fn go_on(&mut self, name: &str, epoch: Epoch, last: &Last) {
        for channel in self.channels.iter_mut().filter(|channel| channel.name == name) {
            (channel.epoch, channel.last) = (Some(epoch), Some(last.clone()));
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
                    let options = channel.options(self.rewind);
                    let request =
                        Request::SubscribeWith { channel: &channel.name, options: &options };
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
                (Some(channel), Some(name)) => {
                    let mut event = Event {
                        channel: channel.into_owned(),
                        name: name.into_owned(),
                        data: message.data.unwrap_or("{}").to_owned(),
                        id: message.id.map(|id| id.into_owned()),
                        timestamp: message.timestamp.map(|time| time.into_owned()),
                        offset: message.offset,
                        ..Event::default()
                    };
                    let known = self.channels.iter_mut().find(|known| known.name == event.channel);
                    if let Some(channel) = known {
                        channel.take(&mut event);
                    }
                    Heard::Event(event)
                }
                // The welcome and the like.
                _ => Heard::Nothing,
            },
            Kind::Response if message.event.as_deref() == Some(event::AUTH) => {
                self.authenticated();
                Heard::Nothing
            }
            Kind::Response => self.subscribed(message.correlation_id.as_deref(), message.data),
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

    fn subscribed(&mut self, correlation_id: Option<&str>, data: Option<&str>) -> Heard {
        let Some(index) = self.take_asked(correlation_id) else { return Heard::Nothing };
        let Some(channel) = self.channels.get_mut(index) else { return Heard::Nothing };
        let standing = data.and_then(|data| serde_json::from_str(data).ok()).unwrap_or_default();
        let recovery = channel.stand(standing);
        Heard::Subscribed(channel.name.clone(), recovery)
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
        let mut failure =
            Failure::new(exit, format!("not subscribed to {:?}: {error}", channel.name));
        if code == error_code::FORBIDDEN {
            failure.lines.push(reach::forbidden_hint(&channel.name, "subscribe"));
        }
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

impl Channel {
    /// What to ask for: what has come since, or else what there is before.
    fn options(&self, rewind: Option<u32>) -> SubscribeOptions<'_> {
        let recover = self.epoch.zip(self.last.as_ref()).map(|(epoch, last)| Recover {
            epoch: Some(epoch),
            offset: last.offset,
            id: last.id.as_deref().map(Into::into),
        });
        SubscribeOptions {
            positions: true,
            rewind: if recover.is_none() { rewind } else { None },
            recover,
            ..SubscribeOptions::default()
        }
    }

    /// The subscription is confirmed.
    fn stand(&mut self, standing: Standing) -> Recovery {
        let recovery = match (standing.recovered, standing.reason) {
            (Some(true), _) => Recovery::Recovered(standing.missed.unwrap_or_default()),
            (Some(false), reason) => Recovery::Not(reason.unwrap_or_else(|| "unknown".into())),
            (None, _) => Recovery::None,
        };
        self.epoch = standing.epoch.as_deref().and_then(Epoch::parse);
        if !matches!(recovery, Recovery::Recovered(_)) {
            let offset = standing.offset.filter(|_| self.epoch.is_some());
            let rewound = standing.rewound.unwrap_or_default();
            // What comes first is older than the position.
            self.last =
                offset.map(|offset| Last { offset: offset.saturating_sub(rewound), id: None });
        }
        recovery
    }

    /// An event has come: it is the last one from now on, and tells of those that are missing before it.
    fn take(&mut self, event: &mut Event) {
        if event.name == event::CHANNEL_GAP {
            let gap: Gap = serde_json::from_str(&event.data).unwrap_or_default();
            self.epoch = gap.epoch.as_deref().and_then(Epoch::parse).or(self.epoch);
            // Without a number nobody can tell whether what comes next is the next.
            self.last = gap.offset.map(|offset| Last { offset, id: None });
            event.gap = Some((gap.lost, gap.reason));
        }
        event.epoch = self.epoch;
        let (Some(_), Some(offset)) = (self.epoch, event.offset) else { return };
        let expected = self.last.as_ref().map(|last| last.offset.saturating_add(1));
        if let Some(missing) = expected.and_then(|expected| offset.checked_sub(expected))
            && missing > 0
        {
            event.gap = Some((Some(missing), None));
        }
        self.last = Some(Last { offset, id: event.id.clone() });
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
        let channels = channels.iter().map(|name| (*name).to_owned()).collect();
        let mut dialogue = Dialogue::new(token.map(str::to_owned), channels, None);
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

    fn subscribed(channel: &str, recovery: Recovery) -> Heard {
        Heard::Subscribed(channel.into(), recovery)
    }

    /// An answer that says where the channel stands.
    fn standing(more: &Value) -> String {
        let mut data = json!({ "status": "subscribed", "epoch": EPOCH, "offset": 7 });
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "type": "response", "event": "subscribe", "correlation_id": "subscribe-0", "data": data })
            .to_string()
    }

    fn event(offset: Option<u64>) -> String {
        let id = format!("id-{}", offset.unwrap_or_default());
        json!({ "id": id, "type": "event", "event": "e", "room": "a", "data": {}, "offset": offset })
            .to_string()
    }

    /// What is missing before this event.
    fn gap(dialogue: &mut Dialogue, text: &str) -> Option<(Option<u64>, Option<String>)> {
        let heard = dialogue.receive(text, Instant::now());
        let Heard::Event(event) = heard else { panic!("{heard:?}") };
        event.gap
    }

    /// What is asked for after the connection was lost.
    fn asked_again(dialogue: &mut Dialogue) -> Value {
        dialogue.reset();
        dialogue.opened();
        sent(dialogue, Instant::now())[0]["data"].take()
    }

    const EPOCH: &str = "kq3v7m2xwd";

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
            json!({ "type": "request", "event": "subscribe", "id": "subscribe-1", "data": { "channel": "b", "positions": true } })
        );
        assert_eq!(sent(&mut dialogue, now).len(), 0);
        assert_eq!(dialogue.receive(&answer("subscribe-1"), now), subscribed("b", Recovery::None));
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
        let expected = Event {
            channel: "a".into(),
            name: "e".into(),
            data: r#"{"n":1.10}"#.into(),
            ..Event::default()
        };
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
        let told = "not subscribed to \"a\": FORBIDDEN: No.\n`mahavishnu explain --channel a` says which permission it takes";
        assert_eq!(heard, Heard::Refused(told.into()));
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

    #[test]
    fn after_a_break_it_goes_on_behind_the_last_event() {
        let now = Instant::now();
        let mut dialogue = dialogue(None, &["a"]);
        assert_eq!(
            sent(&mut dialogue, now)[0]["data"],
            json!({ "channel": "a", "positions": true })
        );
        dialogue.receive(&standing(&json!({})), now);
        let recover = |offset: u64| json!({ "epoch": EPOCH, "offset": offset });
        let asked = asked_again(&mut dialogue);
        assert_eq!(asked, json!({ "channel": "a", "recover": recover(7) }), "nothing came");

        let answer = standing(&json!({ "recovered": true, "missed": 2, "offset": 9 }));
        let heard = dialogue.receive(&answer, now);
        assert_eq!(heard, subscribed("a", Recovery::Recovered(2)));
        assert_eq!(gap(&mut dialogue, &event(Some(8))), None);
        let asked = asked_again(&mut dialogue);
        let recover = json!({ "epoch": EPOCH, "offset": 8, "id": "id-8" });
        assert_eq!(asked["recover"], recover, "broken in the middle of what was missed");

        let lost = standing(&json!({ "recovered": false, "reason": "trimmed", "offset": 20 }));
        let heard = dialogue.receive(&lost, now);
        assert_eq!(heard, subscribed("a", Recovery::Not("trimmed".into())));
        assert_eq!(asked_again(&mut dialogue)["recover"], json!({ "epoch": EPOCH, "offset": 20 }));
    }

    #[test]
    fn a_server_that_numbers_nothing_is_never_asked_to_recover() {
        let now = Instant::now();
        let mut dialogue = dialogue(None, &["a"]);
        for _ in 0..2 {
            sent(&mut dialogue, now);
            let heard = dialogue.receive(&answer("subscribe-0"), now);
            assert_eq!(heard, subscribed("a", Recovery::None));
            assert_eq!(gap(&mut dialogue, &event(None)), None);
            // Numbers without an epoch, as there were once, mean nothing either.
            assert_eq!(gap(&mut dialogue, &event(Some(5))), None);
            assert_eq!(gap(&mut dialogue, &event(Some(9))), None);
            let asked = asked_again(&mut dialogue);
            assert_eq!(asked, json!({ "channel": "a", "positions": true }));
        }
    }

    #[test]
    fn what_is_missing_is_noticed_and_told_once() {
        let now = Instant::now();
        let mut dialogue = dialogue(None, &["a"]);
        sent(&mut dialogue, now);
        dialogue.receive(&standing(&json!({})), now);
        assert_eq!(gap(&mut dialogue, &event(Some(8))), None);
        let told = json!({
            "type": "event", "event": "channel.gap", "room": "a",
            "data": {
                "channel": "a", "lost": 3, "first_offset": 9, "last_offset": 11,
                "reason": "slow", "epoch": EPOCH, "offset": 11
            }
        });
        assert_eq!(gap(&mut dialogue, &told.to_string()), Some((Some(3), Some("slow".into()))));
        assert_eq!(gap(&mut dialogue, &event(Some(12))), None, "told already");
        assert_eq!(gap(&mut dialogue, &event(Some(15))), Some((Some(2), None)));
        let unknown = json!({
            "type": "event", "event": "channel.gap", "room": "a",
            "data": { "lost": null, "first_offset": null, "last_offset": null, "reason": "epoch", "epoch": "bbbbbbbbbb" }
        });
        assert_eq!(gap(&mut dialogue, &unknown.to_string()), Some((None, Some("epoch".into()))));
        assert_eq!(gap(&mut dialogue, &event(Some(2))), None, "another life of the channel");
        assert_eq!(asked_again(&mut dialogue)["recover"]["epoch"], json!("bbbbbbbbbb"));
    }

    #[test]
    fn a_rewind_is_asked_for_once_and_its_rest_is_recovered() {
        let now = Instant::now();
        let mut dialogue = Dialogue::new(None, vec!["a".into()], Some(5));
        let asked = asked_again(&mut dialogue);
        assert_eq!(asked, json!({ "channel": "a", "positions": true, "rewind": 5 }));
        dialogue.receive(&standing(&json!({ "rewound": 4 })), now);
        let recover = json!({ "epoch": EPOCH, "offset": 3 });
        assert_eq!(asked_again(&mut dialogue), json!({ "channel": "a", "recover": recover }));
        dialogue.receive(&standing(&json!({ "recovered": true, "missed": 4 })), now);
        assert_eq!(gap(&mut dialogue, &event(Some(4))), None, "one of the last ones");
        assert_eq!(asked_again(&mut dialogue)["recover"]["offset"], json!(4));
    }

    #[test]
    fn what_is_known_from_elsewhere_is_gone_on_from() {
        let mut dialogue = dialogue(None, &["a", "b"]);
        let last = Last { offset: 3, id: Some("x".into()) };
        dialogue.go_on("b", Epoch::parse(EPOCH).unwrap(), &last);
        let requests = sent(&mut dialogue, Instant::now());
        assert_eq!(requests[0]["data"], json!({ "channel": "a", "positions": true }));
        let recover = json!({ "epoch": EPOCH, "offset": 3, "id": "x" });
        assert_eq!(requests[1]["data"], json!({ "channel": "b", "recover": recover }));
    }
}
