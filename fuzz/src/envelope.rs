//! Messages in and out, against a model that reads them into [`serde_json::Value`].
//!
//! What the model accepts is accepted with the same fields and asks for the same; what it refuses is refused. The model
//! is stricter in two things that the core never has to understand: numbers beyond an `f64`, and strings with lone
//! surrogates in members that nobody asks for. What the core writes about a message reads back.

use mahavishnu_core::{
    protocol::{
        Answer, CorrelationRule, DecodeError, Envelope, Incoming, Intent, Kind, Stamp, Timestamp,
        decode, decode_text,
    },
    reason::Reason,
};
use serde_json::{Value, json};

use crate::{
    publish::{message_options, options},
    trace::START_UNIX,
};

/// Input: a message.
pub fn run(input: &[u8]) {
    let decoded = decode(input);
    if let Ok(text) = std::str::from_utf8(input) {
        assert_eq!(decode_text(text).err(), decoded.as_ref().err().copied());
    } else {
        assert_eq!(decoded.err(), Some(DecodeError::Utf8));
        return;
    }
    match (read(input), decoded) {
        (Read::Value(value), Ok(incoming)) => {
            assert_eq!(violations(&value), [], "accepted {value}");
            check_fields(&value, &incoming);
            check_command(&value, &incoming);
            check_answers(&value, &incoming);
        }
        (Read::Value(value), Err(error)) => {
            assert!(violations(&value).contains(&error), "{error:?} of {value}");
        }
        (Read::NotJson, Ok(_)) => panic!("accepted what is not JSON"),
        // The command must not panic either.
        (Read::Stricter, Ok(incoming)) => drop(incoming.intent()),
        (Read::NotJson | Read::Stricter, Err(_)) => {}
    }
}

/// What the model makes of a text.
pub(crate) enum Read {
    Value(Value),
    NotJson,
    /// The model refuses what need not be refused.
    Stricter,
}

pub(crate) fn read(text: &[u8]) -> Read {
    match serde_json::from_slice::<Value>(text) {
        Ok(value) => Read::Value(value),
        Err(error) => {
            let error = error.to_string();
            let stricter = ["number out of range", "surrogate", "unicode code point", "hex escape"];
            if stricter.iter().any(|word| error.contains(word)) {
                Read::Stricter
            } else {
                Read::NotJson
            }
        }
    }
}

/// Every rule that a message breaks.
fn violations(value: &Value) -> Vec<DecodeError> {
    let Value::Object(object) = value else { return vec![DecodeError::NotAnObject] };
    let mut broken = Vec::new();
    match object.get("type") {
        None => broken.push(DecodeError::MissingType),
        Some(word) if kind(word).is_none() => broken.push(DecodeError::UnknownType),
        Some(_) => {}
    }
    for (name, error, nullable) in [
        ("id", DecodeError::Id, false),
        ("timestamp", DecodeError::Timestamp, false),
        ("correlation_id", DecodeError::CorrelationId, true),
        ("event", DecodeError::Event, true),
        ("room", DecodeError::Room, true),
        ("error_code", DecodeError::ErrorCode, true),
        ("error_message", DecodeError::ErrorMessage, true),
    ] {
        let fits = object.get(name).is_none_or(|v| v.is_string() || nullable && v.is_null());
        broken.extend((!fits).then_some(error));
    }
    if object.get("data").is_some_and(|data| !data.is_object()) {
        broken.push(DecodeError::Data);
    }
    broken
}

fn kind(word: &Value) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| word.as_str() == Some(kind.as_str()))
}

fn check_fields(value: &Value, incoming: &Incoming<'_>) {
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    assert_eq!(Some(incoming.kind), kind(&value["type"]));
    assert_eq!(incoming.id.as_deref(), text("id"));
    assert_eq!(incoming.correlation_id.as_deref(), text("correlation_id"));
    assert_eq!(incoming.event.as_deref(), text("event"));
    assert_eq!(incoming.room.as_deref(), text("room"));
    assert_eq!(incoming.channel.as_deref(), text("channel"));
    let data = incoming.data.map(|data| parse(data.as_bytes()));
    assert_eq!(data.as_ref(), value.get("data"));
    assert_eq!(incoming.full_dump, value.get("error_code").is_some());
    let tolerant = match incoming.full_dump {
        true => text("id").or_else(|| text("correlation_id")),
        false => text("correlation_id").or_else(|| text("id")),
    };
    assert_eq!(incoming.correlation(CorrelationRule::Tolerant), tolerant);
    assert_eq!(incoming.correlation(CorrelationRule::CorrelationId), text("correlation_id"));
    assert_eq!(incoming.correlation(CorrelationRule::Id), text("id"));
}

fn check_command(value: &Value, incoming: &Incoming<'_>) {
    let member = |name: &str| value.get("data").and_then(|data| data.get(name));
    let (kind, event) = (value["type"].as_str().unwrap_or_default(), value["event"].as_str());
    let wanted = || wanted_channel(value);
    match (incoming.intent(), kind, event) {
        (Intent::Subscribe { channel, answer }, "request", Some("subscribe"))
        | (Intent::Unsubscribe { channel, answer }, "request", Some("unsubscribe"))
        | (Intent::Subscribe { channel, answer }, "subscribe", _)
        | (Intent::Unsubscribe { channel, answer }, "unsubscribe", _) => {
            assert_eq!((channel.map(String::from), answer), (wanted(), Answer::Response));
        }
        (Intent::Subscribe { channel, answer }, "event", Some("subscribe"))
        | (Intent::Unsubscribe { channel, answer }, "event", Some("unsubscribe")) => {
            assert_eq!((channel.map(String::from), answer), (wanted(), Answer::Ack));
        }
        (Intent::Auth { token }, "request", Some("auth"))
        | (Intent::RefreshToken { token }, "request", Some("refresh_token")) => {
            assert_eq!(token.as_deref(), member("token").and_then(Value::as_str));
        }
        (Intent::Publish { channel, event, data }, "request", Some("publish")) => {
            check_options(member, incoming);
            let place = member("channel").or_else(|| member("room"));
            assert_eq!(channel.as_deref(), place.and_then(Value::as_str));
            assert_eq!(event.as_deref(), member("event").and_then(Value::as_str));
            let expected = match member("data") {
                None => Some(json!({})),
                Some(data) => data.is_object().then(|| data.clone()),
            };
            assert_eq!(data.map(|data| parse(data.as_bytes())), expected);
        }
        (Intent::Request { event: asked, data }, "request", event) => {
            let reserved = ["subscribe", "unsubscribe", "auth", "refresh_token", "publish"];
            assert!(event.is_none_or(|event| !reserved.contains(&event)));
            assert_eq!(*asked, *event.unwrap_or_default());
            let expected = value.get("data").cloned().unwrap_or_else(|| json!({}));
            assert_eq!(parse(data.as_bytes()), expected);
        }
        (Intent::Ping, "ping", _) => {}
        (Intent::Ignored, "response" | "error" | "ack" | "pong", _) => {}
        (Intent::Ignored, "event", event) => {
            assert!(!matches!(event, Some("subscribe" | "unsubscribe")));
        }
        (command, kind, event) => panic!("{command:?} for {kind} {event:?}"),
    }
}

/// What a publish carries besides its message, or that a member does not fit.
fn check_options<'v>(member: impl Fn(&str) -> Option<&'v Value>, incoming: &Incoming<'_>) {
    let fits_key = |key: &Value| key.as_str().is_some_and(|key| (1..=256).contains(&key.len()));
    let key = member("idempotency_key").filter(|key| !key.is_null());
    let message = message_options(0, |name| member(name).filter(|value| !value.is_null()));
    let expected = message.ok().filter(|_| key.is_none_or(fits_key));
    let read = incoming.publish_options().ok();
    assert_eq!(read.as_ref().map(|read| options(&read.message)), expected);
    if let Some(read) = read {
        assert_eq!(read.idempotency_key.as_deref(), key.and_then(Value::as_str));
    }
}

/// The first place that is not null counts: channel, room, component and page in `data`, then beside it.
fn wanted_channel(value: &Value) -> Option<String> {
    let places =
        [("channel", ""), ("room", ""), ("component_id", "component:"), ("page_id", "page:")];
    let data = value.get("data");
    for (name, prefix) in places {
        match data.and_then(|data| data.get(name)) {
            None | Some(Value::Null) => {}
            Some(place) => return place.as_str().map(|name| format!("{prefix}{name}")),
        }
    }
    ["channel", "room"].iter().find_map(|name| value.get(*name)?.as_str().map(str::to_owned))
}

/// Messages made of this one's strings read back.
fn check_answers(value: &Value, incoming: &Incoming<'_>) {
    let timestamp = Timestamp::from_unix(START_UNIX);
    let stamp = || Stamp { id: uuid::Uuid::nil(), timestamp: &timestamp };
    let word = incoming.event.as_deref().or(incoming.id.as_deref()).unwrap_or_default();
    let room = incoming.room.as_deref().unwrap_or(word);
    let correlation = incoming.correlation(CorrelationRule::Tolerant);
    let data = incoming.data.unwrap_or("{}");
    let expected = value.get("data").cloned().unwrap_or_else(|| json!({}));

    let sent = read_back(&Envelope::broadcast(stamp(), room, word, data, Some(7)));
    assert_eq!((&sent["room"], &sent["event"]), (&json!(room), &json!(word)));
    assert_eq!((&sent["data"], &sent["offset"]), (&expected, &json!(7)));

    let sent = read_back(&Envelope::response(stamp(), word, data, correlation));
    assert_eq!((&sent["correlation_id"], &sent["data"]), (&json!(correlation), &expected));

    let sent = read_back(&Envelope::subscribed(stamp(), room, correlation).as_ack());
    assert_eq!(sent["data"], json!({ "status": "subscribed", "channel": room }));

    let sent = read_back(&Envelope::failure(stamp(), word, room, correlation));
    assert_eq!((&sent["error_code"], &sent["error_message"]), (&json!(word), &json!(room)));

    let sent = read_back(&Envelope::error(stamp(), Reason::Decode, None, correlation));
    assert_eq!(sent["error_code"], "DECODE_ERROR");
}

fn read_back(envelope: &Envelope<'_>) -> Value {
    let mut out = Vec::new();
    envelope.write(&mut out);
    // `data` may nest as deep as a message may, and is one level deeper here.
    match (serde_json::from_slice(&out), decode(&out)) {
        (Ok(value), Ok(incoming)) => {
            assert!(incoming.full_dump);
            assert_eq!(incoming.kind, envelope.kind);
            value
        }
        (value, incoming) => panic!("{value:?} and {incoming:?}"),
    }
}

fn parse(json: &[u8]) -> Value {
    serde_json::from_slice(json).expect("a part of JSON is JSON")
}
