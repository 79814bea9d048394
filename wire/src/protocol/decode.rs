//! Reading messages: exact about the fields that exist, indifferent to those that do not.

use std::{borrow::Cow, fmt};

use super::{
    names::Kind,
    scan::{Fault, Scanner, Value},
};

/// A message as it came in: slices of it, so it lives no longer than the read buffer.
#[derive(Clone)]
#[non_exhaustive]
pub struct Incoming<'a> {
    /// `type`.
    pub kind: Kind,
    /// `id`: the client's name for this message.
    pub id: Option<Cow<'a, str>>,
    /// `correlation_id`.
    pub correlation_id: Option<Cow<'a, str>>,
    /// `event`.
    pub event: Option<Cow<'a, str>>,
    /// `data`: the JSON text of an object, as it came in.
    pub data: Option<&'a str>,
    /// `room`.
    pub room: Option<Cow<'a, str>>,
    /// A `channel` beside the documented fields, if it is a string.
    pub channel: Option<Cow<'a, str>>,
    /// Whether the key `error_code` was there, whatever its value. Only a client that writes out all nine fields, as
    /// the Python client does, sends it.
    pub full_dump: bool,
    pub(super) members: DataMembers<'a>,
}

/// The members of `data` that the server itself may need, found in the same pass. Of duplicates the last one counts.
#[derive(Clone, Copy, Default)]
pub(super) struct DataMembers<'a> {
    pub(super) channel: Option<Value<'a>>,
    pub(super) room: Option<Value<'a>>,
    pub(super) event: Option<Value<'a>>,
    pub(super) data: Option<Value<'a>>,
    pub(super) token: Option<Value<'a>>,
    pub(super) component_id: Option<Value<'a>>,
    pub(super) page_id: Option<Value<'a>>,
    /// There are members besides these.
    pub(super) more: bool,
}

/// Which field of a request its answer carries as `correlation_id`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CorrelationRule {
    /// What makes every known client work: the one field that is there; of both, `id` for a full dump (the Python
    /// client waits for its `id`, whatever it put into `correlation_id`), otherwise `correlation_id`.
    #[default]
    Tolerant,
    /// `correlation_id` only, as the original server does.
    CorrelationId,
    /// `id` only.
    Id,
}

/// Why a message is not one. Says nothing of what was in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DecodeError {
    /// Not UTF-8 (RFC 8259 §8.1).
    Utf8,
    /// Not JSON (RFC 8259 §2), or more than one value.
    Syntax,
    /// JSON, but not an object.
    NotAnObject,
    /// Nested deeper than [`NESTING_MAX`](super::NESTING_MAX).
    TooDeep,
    /// No `type`.
    MissingType,
    /// A `type` that is none of [`Kind`].
    UnknownType,
    /// `id` is not a string.
    Id,
    /// `correlation_id` is neither a string nor null.
    CorrelationId,
    /// `event` is neither a string nor null.
    Event,
    /// `data` is not an object.
    Data,
    /// A member of `data` has a value that its request does not take: the rule that it breaks.
    Member(&'static str),
    /// `timestamp` is not a string.
    Timestamp,
    /// `room` is neither a string nor null.
    Room,
    /// `error_code` is neither a string nor null.
    ErrorCode,
    /// `error_message` is neither a string nor null.
    ErrorMessage,
}

/// Reads one message from a text or binary frame.
pub fn decode(message: &[u8]) -> Result<Incoming<'_>, DecodeError> {
    std::str::from_utf8(message).map_err(|_| DecodeError::Utf8).and_then(decode_text)
}

/// Reads one message that is known to be UTF-8, as every text frame is.
pub fn decode_text(message: &str) -> Result<Incoming<'_>, DecodeError> {
    let mut scanner = Scanner::new(message);
    if scanner.peek() != Some(b'{') {
        scanner.value()?;
        scanner.end()?;
        return Err(DecodeError::NotAnObject);
    }
    let mut fields = [None; FIELDS.len()];
    let mut members = DataMembers::default();
    let readable = scanner.object(FIELDS, |scanner, index| {
        let value = match (index, scanner.peek()) {
            (DATA, Some(b'{')) => read_data(scanner, &mut members)?,
            _ => scanner.value()?,
        };
        if let Some(field) = fields.get_mut(index) {
            *field = Some(value);
        }
        Ok(())
    })?;
    scanner.end()?;
    if !readable {
        return Err(DecodeError::Syntax);
    }
    from_fields(fields, members)
}

fn from_fields<'a>(
    fields: [Option<Value<'a>>; FIELDS.len()],
    members: DataMembers<'a>,
) -> Result<Incoming<'a>, DecodeError> {
    let [
        kind,
        id,
        correlation_id,
        event,
        data,
        timestamp,
        room,
        error_code,
        error_message,
        channel,
    ] = fields;
    let kind = self::kind(kind)?;
    string(timestamp, DecodeError::Timestamp)?;
    string_or_null(error_code, DecodeError::ErrorCode)?;
    string_or_null(error_message, DecodeError::ErrorMessage)?;
    if data.is_some_and(|data| !data.is_object()) {
        return Err(DecodeError::Data);
    }
    Ok(Incoming {
        kind,
        id: string(id, DecodeError::Id)?,
        correlation_id: string_or_null(correlation_id, DecodeError::CorrelationId)?,
        event: string_or_null(event, DecodeError::Event)?,
        data: data.map(Value::get),
        room: string_or_null(room, DecodeError::Room)?,
        channel: channel.and_then(Value::string),
        full_dump: error_code.is_some(),
        members,
    })
}

/// The object `data`, and its members that have a meaning here.
fn read_data<'a>(
    scanner: &mut Scanner<'a>,
    members: &mut DataMembers<'a>,
) -> Result<Value<'a>, Fault> {
    let (start, others) = (scanner.here(), scanner.others());
    let mut found = [None; DATA_MEMBERS.len()];
    let readable = scanner.object(DATA_MEMBERS, |scanner, index| {
        let value = scanner.value()?;
        if let Some(member) = found.get_mut(index) {
            *member = Some(value);
        }
        Ok(())
    })?;
    // With a name that is not Unicode, `data` may be passed on, but nothing in it is understood.
    *members = DataMembers::default();
    if readable {
        let [channel, event, data, room, token, component_id, page_id] = found;
        let more = scanner.others() != others;
        *members = DataMembers { channel, room, event, data, token, component_id, page_id, more };
    }
    Ok(scanner.since(start, false))
}

impl Incoming<'_> {
    /// The `correlation_id` of the answer.
    #[must_use]
    pub fn correlation(&self, rule: CorrelationRule) -> Option<&str> {
        let (id, correlation_id) = (self.id.as_deref(), self.correlation_id.as_deref());
        match rule {
            CorrelationRule::Id => id,
            CorrelationRule::CorrelationId => correlation_id,
            CorrelationRule::Tolerant if self.full_dump => id.or(correlation_id),
            CorrelationRule::Tolerant => correlation_id.or(id),
        }
    }
}

/// The type only: the rest may be a token or private, and is not for logs.
impl fmt::Debug for Incoming<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Utf8 => "not UTF-8",
            Self::Syntax => "not a JSON value",
            Self::NotAnObject => "not a JSON object",
            Self::TooDeep => "nested too deep",
            Self::MissingType => "type is missing",
            Self::UnknownType => {
                "type must be request, response, event, ack, error, subscribe, unsubscribe, ping or pong"
            }
            Self::Id => "id must be a string",
            Self::CorrelationId => "correlation_id must be a string or null",
            Self::Event => "event must be a string or null",
            Self::Data => "data must be an object",
            Self::Member(rule) => rule,
            Self::Timestamp => "timestamp must be a string",
            Self::Room => "room must be a string or null",
            Self::ErrorCode => "error_code must be a string or null",
            Self::ErrorMessage => "error_message must be a string or null",
        })
    }
}

impl std::error::Error for DecodeError {}

impl From<Fault> for DecodeError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Syntax => Self::Syntax,
            Fault::TooDeep => Self::TooDeep,
        }
    }
}

/// Says which member of `data` it was that does not fit, and what does.
pub(super) fn fits<T>(read: Result<T, DecodeError>, rule: &'static str) -> Result<T, DecodeError> {
    read.map_err(|error| if error == DecodeError::Data { DecodeError::Member(rule) } else { error })
}

/// The word of `type`.
pub(super) fn kind(value: Option<Value<'_>>) -> Result<Kind, DecodeError> {
    let word = value.ok_or(DecodeError::MissingType)?.string().ok_or(DecodeError::UnknownType)?;
    Kind::parse(&word).ok_or(DecodeError::UnknownType)
}

fn string(
    value: Option<Value<'_>>,
    error: DecodeError,
) -> Result<Option<Cow<'_, str>>, DecodeError> {
    value.map(|value| value.string().ok_or(error)).transpose()
}

pub(super) fn string_or_null(
    value: Option<Value<'_>>,
    error: DecodeError,
) -> Result<Option<Cow<'_, str>>, DecodeError> {
    string(value.filter(|value| !value.is_null()), error)
}

/// The nine documented fields, the most frequent first, and one that clients use beside them.
const FIELDS: &[&str; 10] = &[
    "type",
    "id",
    "correlation_id",
    "event",
    "data",
    "timestamp",
    "room",
    "error_code",
    "error_message",
    "channel",
];

/// Where `data` stands among them.
const DATA: usize = 4;

/// Members of `data` with a meaning, the most frequent first.
const DATA_MEMBERS: &[&str; 7] =
    &["channel", "event", "data", "room", "token", "component_id", "page_id"];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::protocol::{Intent, NESTING_MAX};

    #[test]
    fn all_nine_fields_are_read() {
        let message = decode(
            br#"{"id":"1","correlation_id":"2","type":"request","event":"e","data":{"a": [1]},
                "timestamp":"whenever","room":"r","error_code":null,"error_message":null}"#,
        )
        .unwrap();
        assert_eq!(message.kind, Kind::Request);
        assert_eq!(message.id.as_deref(), Some("1"));
        assert_eq!(message.correlation_id.as_deref(), Some("2"));
        assert_eq!(message.event.as_deref(), Some("e"));
        assert_eq!(message.data.unwrap(), r#"{"a": [1]}"#);
        assert_eq!(message.room.as_deref(), Some("r"));
        assert!(message.full_dump);
    }

    #[test]
    fn only_type_is_required() {
        let message = decode(br#"{"type":"ping"}"#).unwrap();
        assert_eq!(message.kind, Kind::Ping);
        assert!(
            message.id.is_none() && message.correlation_id.is_none() && message.event.is_none()
        );
        assert!(message.data.is_none() && message.room.is_none() && !message.full_dump);
    }

    #[test]
    fn fields_have_their_types() {
        let refused = [
            (r#""id":null"#, DecodeError::Id),
            (r#""id":5"#, DecodeError::Id),
            (r#""id":["1"]"#, DecodeError::Id),
            (r#""correlation_id":5"#, DecodeError::CorrelationId),
            (r#""event":{}"#, DecodeError::Event),
            (r#""data":null"#, DecodeError::Data),
            (r#""data":[]"#, DecodeError::Data),
            (r#""data":"{}""#, DecodeError::Data),
            (r#""timestamp":1700000000.5"#, DecodeError::Timestamp),
            (r#""timestamp":null"#, DecodeError::Timestamp),
            (r#""room":true"#, DecodeError::Room),
            (r#""error_code":1"#, DecodeError::ErrorCode),
            (r#""error_message":1"#, DecodeError::ErrorMessage),
        ];
        for (field, error) in refused {
            let text = format!(r#"{{"type":"request",{field}}}"#);
            assert_eq!(decode_text(&text).unwrap_err(), error, "{text}");
        }
        let nulls = r#"{"type":"event","correlation_id":null,"event":null,"room":null,"error_message":null}"#;
        assert!(decode_text(nulls).is_ok());
        assert!(decode_text(r#"{"type":"event","timestamp":"","id":""}"#).is_ok());
    }

    #[test]
    fn the_type_is_one_of_nine_lower_case_words() {
        for kind in Kind::ALL {
            assert_eq!(
                decode_text(&format!(r#"{{"type":"{}"}}"#, kind.as_str())).unwrap().kind,
                kind
            );
        }
        for word in [r#""test""#, r#""PING""#, r#""""#, "null", "5", r#"["ping"]"#] {
            assert_eq!(
                decode_text(&format!(r#"{{"type":{word}}}"#)).unwrap_err(),
                DecodeError::UnknownType
            );
        }
        assert_eq!(decode(b"{}").unwrap_err(), DecodeError::MissingType);
    }

    #[test]
    fn what_is_not_one_json_object_is_refused() {
        let cases: &[(&[u8], DecodeError)] = &[
            (b"", DecodeError::Syntax),
            (b"   ", DecodeError::Syntax),
            (b"ping", DecodeError::Syntax),
            (b"{\"type\":\"ping\"", DecodeError::Syntax),
            (b"{\"type\":\"ping\"} {}", DecodeError::Syntax),
            (b"{\"type\":\"ping\"},", DecodeError::Syntax),
            (b"\xef\xbb\xbf{\"type\":\"ping\"}", DecodeError::Syntax),
            (b"{'type':'ping'}", DecodeError::Syntax),
            (b"{\"type\":\"ping\",}", DecodeError::Syntax),
            (b"{\"type\":\"ping\",\"x\":NaN}", DecodeError::Syntax),
            (b"{\"type\":\"ping\",\"x\":\"\n\"}", DecodeError::Syntax),
            (b"[]", DecodeError::NotAnObject),
            (b"null", DecodeError::NotAnObject),
            (b"\"ping\"", DecodeError::NotAnObject),
            (b"5", DecodeError::NotAnObject),
            (b"{\"type\":\"ping\",\"x\":\"\xff\"}", DecodeError::Utf8),
        ];
        for (text, error) in cases {
            assert_eq!(decode(text).unwrap_err(), *error, "{}", String::from_utf8_lossy(text));
        }
        assert!(decode(b" \r\n\t{\"type\" : \"ping\"}\n\n").is_ok(), "white space is fine");
    }

    #[test]
    fn of_duplicates_the_last_one_counts() {
        let message =
            decode_text(r#"{"id":null,"type":"x","type":"ping","id":"1","id":"2"}"#).unwrap();
        assert_eq!((message.kind, message.id.as_deref()), (Kind::Ping, Some("2")));
        assert_eq!(
            decode_text(r#"{"type":"ping","id":"1","id":null}"#).unwrap_err(),
            DecodeError::Id
        );
    }

    #[test]
    fn unknown_fields_may_be_anything() {
        let text =
            r#"{"a":1e400,"type":"ping","b":[{"id":5}],"channel":5,"status":null,"":{"":""}}"#;
        let message = decode_text(text).unwrap();
        assert!(message.channel.is_none() && message.id.is_none());
    }

    #[test]
    fn keys_and_values_may_be_escaped() {
        let message =
            decode_text(r#"{"\u0074ype":"p\u0069ng","id":"a\"\u00fc\n\ud83d\ude00"}"#).unwrap();
        assert_eq!((message.kind, message.id.as_deref()), (Kind::Ping, Some("a\"ü\n😀")));
        assert_eq!(decode_text(r#"{"type":"ping","id":"\ud800"}"#).unwrap_err(), DecodeError::Id);
    }

    #[test]
    fn names_that_are_not_unicode_are_refused_or_make_data_opaque() {
        assert_eq!(decode_text(r#"{"type":"ping","\ud800":1}"#).unwrap_err(), DecodeError::Syntax);
        let publish =
            |data: &str| format!(r#"{{"type":"request","event":"publish","data":{data}}}"#);
        let opaque = publish(r#"{"channel":"c","event":"e","\ud800":1,"data":[]}"#);
        let nothing = Intent::Publish { channel: None, event: None, data: Some("{}") };
        assert_eq!(decode_text(&opaque).unwrap().intent(), nothing);
        let deeper = publish(r#"{"channel":"c","event":"e","data":{"\ud800":1}}"#);
        let intent = decode_text(&deeper).unwrap().intent();
        assert!(matches!(intent, Intent::Publish { channel: Some(_), data: Some(_), .. }));
    }

    #[test]
    fn of_several_data_the_last_one_counts_with_all_its_members() {
        let text = r#"{"type":"request","data":{"channel":"a","event":"x"},"event":"publish","data":{"channel":"b"}}"#;
        let expected =
            Intent::Publish { channel: Some(Cow::Borrowed("b")), event: None, data: Some("{}") };
        assert_eq!(decode_text(text).unwrap().intent(), expected);
    }

    #[test]
    fn plain_text_is_borrowed() {
        let message = decode_text(r#"{"type":"request","id":"1","event":"pool.scaled"}"#).unwrap();
        assert!(matches!(
            (message.id, message.event),
            (Some(Cow::Borrowed(_)), Some(Cow::Borrowed(_)))
        ));
    }

    #[test]
    fn nesting_is_bounded_where_other_readers_bound_it() {
        let nested = |depth: usize| {
            format!(
                r#"{{"type":"event","data":{{"x":{}{}}}}}"#,
                "[".repeat(depth - 2),
                "]".repeat(depth - 2)
            )
        };
        assert!(decode_text(&nested(NESTING_MAX)).is_ok());
        assert!(serde_json::from_str::<Value>(&nested(NESTING_MAX)).is_ok());
        assert_eq!(decode_text(&nested(NESTING_MAX + 1)).unwrap_err(), DecodeError::TooDeep);
        assert!(serde_json::from_str::<Value>(&nested(NESTING_MAX + 1)).is_err());
        assert_eq!(
            decode_text(&nested(300_000)).unwrap_err(),
            DecodeError::TooDeep,
            "without a deep stack"
        );
    }

    #[test]
    fn brackets_beside_each_other_or_in_text_are_not_nesting() {
        let wide = format!(r#"{{"type":"event","data":{{"x":[{}]}}}}"#, vec!["[]"; 500].join(","));
        assert!(decode_text(&wide).is_ok());
        let text = format!(r#"{{"type":"event","data":{{"x":"\"{}\\"}}}}"#, "[{".repeat(500));
        assert!(decode_text(&text).is_ok());
    }

    #[test]
    fn debug_shows_no_content() {
        let message =
            decode_text(r#"{"type":"request","event":"auth","data":{"token":"hush"}}"#).unwrap();
        assert_eq!(format!("{message:?}"), "Incoming { kind: Request, .. }");
        assert!(!format!("{:?}", message.intent()).contains("hush"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(message) = decode(&bytes) {
                let _ = message.intent();
            }
        }

        #[test]
        fn accepts_what_the_field_rules_accept(fields in fields(), edit in prop::option::of((0.0..1.0, "[{}\\[\\],:\" x1\\\\]?"))) {
            let mut text = object(&fields);
            if let Some((at, with)) = edit {
                let at = (at * text.len() as f64) as usize;
                if text.is_char_boundary(at) && text.is_char_boundary(at + 1) {
                    text.replace_range(at..=at, &with);
                }
            }
            let decoded = decode_text(&text);
            prop_assert_eq!(decoded.is_ok(), model(&text).is_some(), "{}", text);
            if let (Ok(message), Some(value)) = (decoded, model(&text)) {
                prop_assert_eq!(message.kind.as_str(), value["type"].as_str().unwrap());
                prop_assert_eq!(message.id.as_deref(), value["id"].as_str());
                prop_assert_eq!(message.correlation_id.as_deref(), value["correlation_id"].as_str());
                prop_assert_eq!(message.event.as_deref(), value["event"].as_str());
                prop_assert_eq!(message.room.as_deref(), value["room"].as_str());
                prop_assert_eq!(message.channel.as_deref(), value["channel"].as_str());
                let data: Option<Value> = message.data.map(|data| serde_json::from_str(data).unwrap());
                prop_assert_eq!(data.as_ref(), value.get("data"));
                prop_assert_eq!(message.full_dump, value.get("error_code").is_some());
                let _ = message.intent();
            }
        }
    }

    /// The field rules again, over a tree.
    fn model(text: &str) -> Option<Value> {
        let value: Value = serde_json::from_str(text).ok()?;
        let fields = value.as_object()?;
        let absent_or = |name: &str, fits: fn(&Value) -> bool| fields.get(name).is_none_or(fits);
        let fits = fields.get("type").and_then(Value::as_str).and_then(Kind::parse).is_some()
            && ["id", "timestamp"].iter().all(|name| absent_or(name, Value::is_string))
            && ["correlation_id", "event", "room", "error_code", "error_message"]
                .iter()
                .all(|name| absent_or(name, |value| value.is_string() || value.is_null()))
            && absent_or("data", Value::is_object);
        fits.then_some(value)
    }

    fn fields() -> impl Strategy<Value = Vec<(String, Value)>> {
        let name = prop_oneof![
            9 => prop::sample::select(FIELDS.to_vec()).prop_map(str::to_owned),
            1 => "[a-z\"\\\\ü]{0,4}",
        ];
        let value = prop_oneof![
            6 => "[a-z\"\\\\ü\n]{0,6}".prop_map(Value::from),
            1 => Just(Value::Null),
            1 => any::<i32>().prop_map(Value::from),
            1 => any::<bool>().prop_map(Value::from),
            3 => Just(json!({ "channel": "a", "x": [{}, "]"] })),
            1 => Just(json!([])),
        ];
        let kind = prop::sample::select(Kind::ALL.to_vec());
        (kind, prop::collection::vec((name, value), 0..8)).prop_map(|(kind, mut fields)| {
            fields.insert(fields.len() / 2, ("type".to_owned(), json!(kind.as_str())));
            // A field meets its own type more often than not.
            for (name, value) in &mut fields {
                if name == "data" && !value.is_null() && !value.is_boolean() {
                    *value = json!({ "channel": value.take() });
                }
            }
            fields
        })
    }

    fn object(fields: &[(String, Value)]) -> String {
        let members: Vec<String> =
            fields.iter().map(|(name, value)| format!("{}:{value}", json!(name))).collect();
        format!("{{{}}}", members.join(","))
    }
}
