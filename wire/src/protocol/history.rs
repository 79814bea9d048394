//! `get_history`: what a channel's log is asked for, and how its messages are told.

use std::borrow::Cow;

use super::{
    decode::{DecodeError, fits},
    json::write_string,
    message::Message,
    options::{members, number},
    position::{Epoch, Position},
    scan::Value,
};

/// What a client wants to read of a channel's log: the oldest messages behind `after`, the newest before `before`, or the
/// newest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryRequest<'a> {
    /// `channel`. `None`: missing or not a string.
    pub channel: Option<Cow<'a, str>>,
    /// `limit`: so many messages at most.
    pub limit: Option<u32>,
    /// `after`.
    pub after: Option<Position>,
    /// `before`: the number of the first message that is not wanted.
    pub before: Option<u64>,
}

impl<'a> HistoryRequest<'a> {
    /// Reads the `data` of a request.
    ///
    /// # Errors
    /// There is a channel, and a member is of another type, an epoch is not one, or there are both `after` and `before`.
    pub fn read(data: &'a str) -> Result<Self, DecodeError> {
        let [channel, limit, after, before] =
            members(data, &["channel", "limit", "after", "before"])?;
        let channel = channel.and_then(Value::string);
        if channel.is_none() {
            // It is another request of this name: what its members mean nobody knows.
            return Ok(Self { channel, limit: None, after: None, before: None });
        }
        if after.is_some() && before.is_some() {
            return Err(DecodeError::Member("after and before exclude each other"));
        }
        let limit = fits(limit.map(number).transpose(), "limit must be a whole number")?;
        Ok(Self {
            channel,
            limit: limit.map(|limit| u32::try_from(limit).unwrap_or(u32::MAX)),
            after: fits(after.map(read_position).transpose(), AFTER_RULE)?,
            before: fits(before.map(number).transpose(), "before must be a whole number")?,
        })
    }
}

const AFTER_RULE: &str =
    "after must have an epoch, a string that the server gave, and an offset, a whole number";

/// `{epoch, offset}`.
pub(super) fn read_position(value: Value<'_>) -> Result<Position, DecodeError> {
    let [epoch, offset] = members(value.get(), &["epoch", "offset"])?;
    let epoch = epoch.and_then(Value::string).and_then(|epoch| Epoch::parse(&epoch));
    let (Some(epoch), Some(offset)) = (epoch, offset) else { return Err(DecodeError::Data) };
    Ok(Position { epoch, offset: number(offset)? })
}

/// Appends what `get_history` tells of a message that the server had sent as `text`. False, and nothing appended, if that
/// is not a message of a channel.
pub fn write_history_event(out: &mut Vec<u8>, text: &str, offset: u64) -> bool {
    let Ok(message) = Message::read(text) else { return false };
    let (Some(id), Some(event), Some(timestamp)) = (message.id, message.event, message.timestamp)
    else {
        return false;
    };
    out.extend_from_slice(b"{\"id\":");
    write_string(out, &id);
    out.extend_from_slice(b",\"event\":");
    write_string(out, &event);
    out.extend_from_slice(b",\"data\":");
    out.extend_from_slice(message.data.unwrap_or("{}").as_bytes());
    out.extend_from_slice(b",\"timestamp\":");
    write_string(out, &timestamp);
    out.extend_from_slice(b",\"offset\":");
    out.extend_from_slice(itoa::Buffer::new().format(offset).as_bytes());
    out.push(b'}');
    true
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::protocol::{Envelope, Stamp, Timestamp};

    #[test]
    fn a_request_says_which_messages() {
        let epoch = Epoch::from_random(3);
        let request = HistoryRequest {
            channel: Some("c".into()),
            limit: Some(5),
            after: Some(Position { epoch, offset: 7 }),
            before: None,
        };
        let data =
            format!(r#"{{"channel":"c","limit":5,"after":{{"epoch":"{epoch}","offset":7}}}}"#);
        assert_eq!(HistoryRequest::read(&data), Ok(request.clone()));
        let before = HistoryRequest { after: None, before: Some(9), limit: None, ..request };
        assert_eq!(HistoryRequest::read(r#"{"channel":"c","before":9}"#), Ok(before));
        let nothing = HistoryRequest { channel: None, limit: None, after: None, before: None };
        assert_eq!(HistoryRequest::read(r#"{"channel":5,"limit":null}"#), Ok(nothing));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for data in [
            r#""limit":-1"#,
            r#""limit":"5""#,
            r#""after":5"#,
            r#""after":{"epoch":"?","offset":5}"#,
            r#""after":{"epoch":"0123456789"}"#,
            r#""before":{}"#,
            r#""after":{"epoch":"0123456789","offset":5},"before":5"#,
        ] {
            let data = format!(r#"{{"channel":"c",{data}}}"#);
            let refused = HistoryRequest::read(&data).unwrap_err();
            let name = data.split('"').nth(5).unwrap_or_default();
            assert!(
                matches!(refused, DecodeError::Member(rule) if rule.starts_with(name)),
                "{data}"
            );
        }
        assert_eq!(HistoryRequest::read("[]"), Err(DecodeError::Data));
    }

    #[test]
    fn without_a_channel_it_is_another_request() {
        for data in ["{}", r#"{"session_id":"s","limit":"all","after":"yesterday"}"#] {
            assert_eq!(HistoryRequest::read(data).unwrap().channel, None, "{data}");
        }
    }

    #[test]
    fn a_message_is_told_as_it_was_sent() {
        let timestamp = Timestamp::from_unix(Duration::from_secs(1_770_000_000));
        let stamp = Stamp { id: uuid::Uuid::from_u128(5), timestamp: &timestamp };
        let (mut text, mut out) = (Vec::new(), Vec::new());
        Envelope::broadcast(stamp, "c", "a\"b", r#"{"n": 1.10}"#, Some(3)).write(&mut text);
        assert!(write_history_event(&mut out, std::str::from_utf8(&text).unwrap(), 3));
        assert_eq!(
            String::from_utf8(out).unwrap(),
            concat!(
                r#"{"id":"00000000-0000-0000-0000-000000000005","event":"a\"b","data":{"n": 1.10},"#,
                r#""timestamp":"2026-02-02T02:40:00.000000+00:00","offset":3}"#
            )
        );
        let mut nothing = Vec::new();
        assert!(!write_history_event(&mut nothing, r#"{"type":"pong"}"#, 3) && nothing.is_empty());
    }
}
