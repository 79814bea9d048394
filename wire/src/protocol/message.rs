//! The client's half of reading: what the server says.

use std::{borrow::Cow, fmt};

use super::{
    decode::{self, DecodeError},
    names::Kind,
    scan::{Scanner, Value},
};

/// A message of the server: slices of it, so it lives no longer than the read buffer.
///
/// Reading is more tolerant than the server's, because services differ in what they add: members that are not among
/// these are stepped over, `data` may be any value, and an `id`, `timestamp`, `status` or `offset` that is not what it
/// should be counts as missing.
#[derive(Clone)]
#[non_exhaustive]
pub struct Message<'a> {
    /// `type`.
    pub kind: Kind,
    /// `id`: the message's own.
    pub id: Option<Cow<'a, str>>,
    /// `correlation_id`: the `id` of the request that this answers.
    pub correlation_id: Option<Cow<'a, str>>,
    /// `event`.
    pub event: Option<Cow<'a, str>>,
    /// `data`: its JSON text as it came, an object if the server is Mahavishnu. `None`: missing or null.
    pub data: Option<&'a str>,
    /// `timestamp`: when the server wrote it, in RFC 3339.
    pub timestamp: Option<Cow<'a, str>>,
    /// `room`: the channel of an event.
    pub room: Option<Cow<'a, str>>,
    /// `error_code`: one of [`error_code`](super::error_code), or the application's.
    pub error_code: Option<Cow<'a, str>>,
    /// `error_message`: for people.
    pub error_message: Option<Cow<'a, str>>,
    /// `status` beside the nine fields, where documented clients look for it.
    pub status: Option<Cow<'a, str>>,
    /// `offset`: an event's number in its channel, if the server counts.
    pub offset: Option<u64>,
}

impl<'a> Message<'a> {
    /// Reads one message.
    ///
    /// # Errors
    /// It is no JSON object, nests deeper than [`NESTING_MAX`](super::NESTING_MAX), has no `type` or an unknown one, or
    /// `correlation_id`, `event`, `room`, `error_code` or `error_message` is neither a string nor null.
    pub fn read(text: &'a str) -> Result<Self, DecodeError> {
        let mut scanner = Scanner::new(text);
        if scanner.peek() != Some(b'{') {
            scanner.value()?;
            scanner.end()?;
            return Err(DecodeError::NotAnObject);
        }
        let mut fields = [None; FIELDS.len()];
        let readable = scanner.object(FIELDS, |scanner, index| {
            let value = scanner.value()?;
            if let Some(field) = fields.get_mut(index) {
                *field = Some(value);
            }
            Ok(())
        })?;
        scanner.end()?;
        if readable { Self::from_fields(fields) } else { Err(DecodeError::Syntax) }
    }

    fn from_fields(fields: [Option<Value<'a>>; FIELDS.len()]) -> Result<Self, DecodeError> {
        let [
            kind,
            event,
            room,
            data,
            correlation_id,
            id,
            timestamp,
            error_code,
            error_message,
            status,
            offset,
        ] = fields;
        Ok(Self {
            kind: decode::kind(kind)?,
            id: id.and_then(Value::string),
            correlation_id: decode::string_or_null(correlation_id, DecodeError::CorrelationId)?,
            event: decode::string_or_null(event, DecodeError::Event)?,
            data: data.filter(|data| !data.is_null()).map(Value::get),
            timestamp: timestamp.and_then(Value::string),
            room: decode::string_or_null(room, DecodeError::Room)?,
            error_code: decode::string_or_null(error_code, DecodeError::ErrorCode)?,
            error_message: decode::string_or_null(error_message, DecodeError::ErrorMessage)?,
            status: status.and_then(Value::string),
            offset: offset.and_then(|offset| offset.get().parse().ok()),
        })
    }
}

/// The type only: the rest may be private, and is not for logs.
impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// The fields that have a meaning, the most frequent first.
const FIELDS: &[&str; 11] = &[
    "type",
    "event",
    "room",
    "data",
    "correlation_id",
    "id",
    "timestamp",
    "error_code",
    "error_message",
    "status",
    "offset",
];

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::protocol::{Data, Envelope, Timestamp};

    #[test]
    fn what_is_odd_about_a_member_that_is_only_read_is_passed_over() {
        let text =
            r#"{"id":5,"timestamp":1.5,"status":[],"offset":-1,"data":[1],"type":"event","x":{}}"#;
        let message = Message::read(text).unwrap();
        assert_eq!((message.kind, message.data), (Kind::Event, Some("[1]")));
        assert_eq!((message.id, message.timestamp, message.status), (None, None, None));
        assert_eq!((message.offset, message.event), (None, None));
        assert_eq!(Message::read(r#"{"type":"event","data":null}"#).unwrap().data, None);
    }

    #[test]
    fn what_is_no_message_says_why() {
        for (text, error) in [
            ("", DecodeError::Syntax),
            ("{", DecodeError::Syntax),
            ("[]", DecodeError::NotAnObject),
            ("{}", DecodeError::MissingType),
            (r#"{"type":5}"#, DecodeError::UnknownType),
            (r#"{"type":"welcome"}"#, DecodeError::UnknownType),
            (r#"{"type":"event","event":5}"#, DecodeError::Event),
            (r#"{"type":"event","room":5}"#, DecodeError::Room),
            (r#"{"type":"error","correlation_id":5}"#, DecodeError::CorrelationId),
            (r#"{"type":"error","error_code":5}"#, DecodeError::ErrorCode),
            (r#"{"type":"error","error_message":5}"#, DecodeError::ErrorMessage),
            (r#"{"type":"event","\ud800":5}"#, DecodeError::Syntax),
        ] {
            assert_eq!(Message::read(text).unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn debug_shows_no_content() {
        let message = Message::read(r#"{"type":"event","data":{"secret":"hush"}}"#).unwrap();
        assert_eq!(format!("{message:?}"), "Message { kind: Event, .. }");
    }

    proptest! {
        #[test]
        fn a_client_reads_what_a_server_writes(
            correlation_id: Option<String>, event: Option<String>, room: Option<String>,
            error: Option<(String, String)>, status: Option<String>, offset: Option<u64>, kind in 0_usize..9, id: [u8; 16],
        ) {
            let timestamp = Timestamp::from_unix(Duration::from_secs(1_739_269_800));
            let envelope = Envelope {
                id: Uuid::from_bytes(id),
                correlation_id: correlation_id.as_deref(),
                kind: Kind::ALL[kind],
                event: event.as_deref(),
                data: Data::Raw(r#"{"n": 1.10}"#),
                timestamp: &timestamp,
                room: room.as_deref(),
                error: error.as_ref().map(|(code, message)| (code.as_str(), message.as_str())),
                status: status.as_deref(),
                offset,
            };
            let mut out = Vec::new();
            envelope.write(&mut out);

            let message = Message::read(std::str::from_utf8(&out).unwrap()).unwrap();

            prop_assert_eq!(message.kind, Kind::ALL[kind]);
            prop_assert_eq!(message.id.as_deref(), Some(&*envelope.id.to_string()));
            prop_assert_eq!(message.correlation_id.as_deref(), envelope.correlation_id);
            prop_assert_eq!(message.event.as_deref(), envelope.event);
            prop_assert_eq!(message.data, Some(r#"{"n": 1.10}"#));
            prop_assert_eq!(message.timestamp.as_deref(), Some(timestamp.as_str()));
            prop_assert_eq!(message.room.as_deref(), envelope.room);
            prop_assert_eq!(message.error_code.as_deref().zip(message.error_message.as_deref()), envelope.error);
            prop_assert_eq!(message.status.as_deref(), envelope.status);
            prop_assert_eq!(message.offset, offset);
        }

        #[test]
        fn arbitrary_text_does_not_panic(text in "[{}\\[\\]:,\"a-e0 ]{0,60}") {
            let _ = Message::read(&text);
        }
    }
}
