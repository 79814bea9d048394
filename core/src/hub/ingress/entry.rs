//! What an entry of a queue says.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;

use crate::{
    config::{Config, IngressKind, Publishing},
    hub::{
        questions::is_object,
        types::{Publication, PublicationOptions},
    },
    protocol::{self, publish},
    reason::Reason,
};

/// A message as it was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) publication: Publication,
    /// Its `id`, under which it is published once however often it is written.
    pub(super) key: Option<Box<str>>,
}

/// Reads an entry. `None` as its fields: it is too long to be looked at.
pub(super) fn read(
    config: &Config,
    kind: IngressKind,
    fields: Option<&[(Bytes, Bytes)]>,
) -> Result<Found, Reason> {
    if config.publishing == Publishing::ApplicationOnly {
        return Err(Reason::PublishingOff);
    }
    let fields = fields.ok_or(Reason::MessageTooBig)?;
    let found = match kind {
        IngressKind::Stream => of_fields(fields)?,
        IngressKind::List => of_json(value(fields, "v")?.unwrap_or_default())?,
    };
    check(config, found)
}

fn value<'a>(fields: &'a [(Bytes, Bytes)], name: &str) -> Result<Option<&'a str>, Reason> {
    let found = fields.iter().find(|(field, _)| **field == *name.as_bytes());
    let text = found.map(|(_, value)| std::str::from_utf8(value));
    text.transpose().map_err(|_| Reason::BadPublish)
}

fn of_fields(fields: &[(Bytes, Bytes)]) -> Result<Found, Reason> {
    let channel = value(fields, "channel")?.ok_or(Reason::InvalidChannel)?;
    let event = value(fields, "event")?.ok_or(Reason::BadPublish)?;
    let data = value(fields, "data")?.unwrap_or("{}").trim();
    if !is_object(data) {
        return Err(Reason::BadPublish);
    }
    let publication = Publication::new(channel, event, Bytes::copy_from_slice(data.as_bytes()));
    let key = value(fields, "id")?.map(Into::into);
    Ok(Found { publication: with_state(publication, value(fields, "state")?), key })
}

/// The name that a queue has for what a request has as its `idempotency_key`.
#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
}

fn of_json(text: &str) -> Result<Found, Reason> {
    let body = publish::parse(text.as_bytes(), 1).map_err(|_| Reason::BadPublish)?;
    let [message] = body.messages.as_slice() else { return Err(Reason::BadPublish) };
    // Nobody would be told that it was not published.
    if message.options.condition.is_some() || !text.trim_start().starts_with('{') {
        return Err(Reason::BadPublish);
    }
    let Named { id } = serde_json::from_str(text).map_err(|_| Reason::BadPublish)?;
    let data = Bytes::copy_from_slice(message.data.as_bytes());
    let publication = Publication::new(&*message.channel, &*message.event, data);
    let key = id.or(body.idempotency_key).map(|key| key.into_owned().into());
    Ok(Found { publication: with_state(publication, message.options.state), key })
}

fn with_state(publication: Publication, state: Option<&str>) -> Publication {
    let options = state.map(|state| {
        let state = Some(Bytes::copy_from_slice(state.as_bytes()));
        Box::new(PublicationOptions { state, ..PublicationOptions::default() })
    });
    Publication { options, ..publication }
}

/// What holds for whatever is published.
fn check(config: &Config, found: Found) -> Result<Found, Reason> {
    let limits = &config.limits;
    let Publication { channel, event, data, options } = &found.publication;
    let state = options.as_ref().and_then(|options| options.state.as_deref()).unwrap_or(b"{}");
    let key = found.key.as_ref().map(|key| key.len());
    if !protocol::channel_is_valid(channel, limits.channels.channel_bytes_max) {
        Err(Reason::InvalidChannel)
    } else if event.is_empty() || event.len() > limits.channels.event_bytes_max {
        Err(Reason::BadPublish)
    } else if data.len() > limits.wire.message_bytes_max {
        Err(Reason::MessageTooBig)
    } else if state.len() > limits.history.state_bytes_max {
        Err(Reason::StateTooBig)
    } else if key.is_some_and(|len| !(1..=publish::KEY_BYTES_MAX).contains(&len))
        || !std::str::from_utf8(state).is_ok_and(is_object)
    {
        Err(Reason::BadPublish)
    } else {
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> Vec<(Bytes, Bytes)> {
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        pairs.iter().map(|(name, value)| (bytes(name), bytes(value))).collect()
    }

    fn stream(pairs: &[(&str, &str)]) -> Result<Found, Reason> {
        read(&Config::default(), IngressKind::Stream, Some(&fields(pairs)))
    }

    fn list(json: &str) -> Result<Found, Reason> {
        read(&Config::default(), IngressKind::List, Some(&fields(&[("v", json)])))
    }

    #[test]
    fn a_stream_and_a_list_say_the_same() {
        let mut pairs = vec![("channel", "workflow:42"), ("event", "e"), ("data", r#"{"n":1}"#)];
        let plain = Publication::new("workflow:42", "e", r#"{"n":1}"#);
        let expected = Found { publication: plain, key: None };
        assert_eq!(stream(&pairs).as_ref(), Ok(&expected));
        let json = r#"{"channel":"workflow:42","event":"e","data":{"n":1}"#;
        assert_eq!(list(&format!("{json}}}")).as_ref(), Ok(&expected));

        pairs.extend([("id", "job-7"), ("state", r#"{"s":2}"#), ("later", "versions")]);
        let of_stream = stream(&pairs).unwrap();
        assert_eq!(of_stream.key.as_deref(), Some("job-7"));
        let options = of_stream.publication.options.as_ref().unwrap();
        assert_eq!(options.state.as_deref(), Some(&br#"{"s":2}"#[..]));
        let of_list = list(&format!(r#"{json},"id":"job-7","state":{{"s":2}}}}"#)).unwrap();
        assert_eq!(of_list, of_stream);
    }

    #[test]
    fn where_only_the_application_publishes_nothing_is_taken_out_of_a_queue() {
        let config = Config { publishing: Publishing::ApplicationOnly, ..Config::default() };
        let entry = fields(&[("channel", "c"), ("event", "e")]);
        let refused = read(&config, IngressKind::Stream, Some(&entry));
        assert_eq!(refused, Err(Reason::PublishingOff));
    }

    #[test]
    fn what_cannot_be_published_has_a_cause() {
        let with = |name, value: Option<&str>| {
            let mut pairs = vec![("channel", "c"), ("event", "e"), ("data", "{}"), ("id", "i")];
            pairs.retain(|(other, _)| *other != name);
            let value = value.map(|value| (name, value));
            pairs.extend(value);
            stream(&pairs).map(|_| ())
        };
        assert_eq!(with("data", None), Ok(()), "it is {{}}");
        let long = "x".repeat(300);
        for (name, value, reason) in [
            ("channel", None, Reason::InvalidChannel),
            ("channel", Some(""), Reason::InvalidChannel),
            ("channel", Some(&*"x".repeat(2000)), Reason::InvalidChannel),
            ("event", None, Reason::BadPublish),
            ("event", Some(""), Reason::BadPublish),
            ("event", Some(&*"x".repeat(2000)), Reason::BadPublish),
            ("data", Some("[1]"), Reason::BadPublish),
            ("data", Some("{"), Reason::BadPublish),
            ("data", Some("{} {}"), Reason::BadPublish),
            ("id", Some(""), Reason::BadPublish),
            ("id", Some(&*long), Reason::BadPublish),
            ("state", Some("1"), Reason::BadPublish),
        ] {
            assert_eq!(with(name, value), Err(reason), "{name} {value:?}");
        }
        let bytes = (Bytes::from_static(b"channel"), Bytes::from_static(b"\xff"));
        let config = Config::default();
        let read = |fields: Option<&[_]>| read(&config, IngressKind::Stream, fields);
        assert_eq!(read(Some(&[bytes])), Err(Reason::BadPublish));
        assert_eq!(read(None), Err(Reason::MessageTooBig));
        for json in [
            "",
            "1",
            "{",
            r#"[{"channel":"c","event":"e"}]"#,
            r#"{"messages":[]}"#,
            r#"{"channel":"c","event":"e","id":7}"#,
            r#"{"channel":"c","event":"e","if_offset":7}"#,
        ] {
            assert_eq!(list(json), Err(Reason::BadPublish), "{json}");
        }
    }
}
