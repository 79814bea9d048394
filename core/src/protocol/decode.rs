//! Reading messages: exact about the fields that exist, indifferent to those that do not.

use std::{borrow::Cow, fmt};

use serde_json::{error::Category, value::RawValue};

use super::{
    json::{Members, is_null, is_object, is_too_deep, text},
    names::Kind,
};

/// A message as it came in: slices of it, so it lives no longer than the read buffer.
#[derive(Clone, Debug)]
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
    /// `data`, always an object.
    pub data: Option<&'a RawValue>,
    /// `room`.
    pub room: Option<Cow<'a, str>>,
    /// A `channel` beside the documented fields, if it is a string.
    pub channel: Option<Cow<'a, str>>,
    /// Whether the key `error_code` was there, whatever its value. Only a client that writes out all nine fields, as
    /// the Python client does, sends it.
    pub full_dump: bool,
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
    let Members(
        [
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
        ],
    ) = Members::read(message, FIELDS).map_err(|error| match error.classify() {
        Category::Data => DecodeError::NotAnObject,
        Category::Syntax | Category::Eof | Category::Io => DecodeError::Syntax,
    })?;
    if is_too_deep(message) {
        return Err(DecodeError::TooDeep);
    }
    let word = text(kind.ok_or(DecodeError::MissingType)?).ok_or(DecodeError::UnknownType)?;
    let kind = Kind::parse(&word).ok_or(DecodeError::UnknownType)?;
    string(timestamp, DecodeError::Timestamp)?;
    string_or_null(error_code, DecodeError::ErrorCode)?;
    string_or_null(error_message, DecodeError::ErrorMessage)?;
    if data.is_some_and(|data| !is_object(data)) {
        return Err(DecodeError::Data);
    }
    Ok(Incoming {
        kind,
        id: string(id, DecodeError::Id)?,
        correlation_id: string_or_null(correlation_id, DecodeError::CorrelationId)?,
        event: string_or_null(event, DecodeError::Event)?,
        data,
        room: string_or_null(room, DecodeError::Room)?,
        channel: channel.and_then(text),
        full_dump: error_code.is_some(),
    })
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

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Utf8 => "not UTF-8",
            Self::Syntax => "not a JSON value",
            Self::NotAnObject => "not a JSON object",
            Self::TooDeep => "nested too deep",
            Self::MissingType => "no type",
            Self::UnknownType => "unknown type",
            Self::Id => "id must be a string",
            Self::CorrelationId => "correlation_id must be a string or null",
            Self::Event => "event must be a string or null",
            Self::Data => "data must be an object",
            Self::Timestamp => "timestamp must be a string",
            Self::Room => "room must be a string or null",
            Self::ErrorCode => "error_code must be a string or null",
            Self::ErrorMessage => "error_message must be a string or null",
        })
    }
}

impl std::error::Error for DecodeError {}

fn string(
    value: Option<&RawValue>,
    error: DecodeError,
) -> Result<Option<Cow<'_, str>>, DecodeError> {
    value.map(|value| text(value).ok_or(error)).transpose()
}

fn string_or_null(
    value: Option<&RawValue>,
    error: DecodeError,
) -> Result<Option<Cow<'_, str>>, DecodeError> {
    string(value.filter(|value| !is_null(value)), error)
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
