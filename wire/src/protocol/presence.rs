//! Who is in a channel: what a subscription may ask for, what a client may ask for, and what it is told.

use std::borrow::Cow;

use uuid::Uuid;

use super::{
    answers::Stamp,
    decode::{DecodeError, fits},
    envelope::{Data, Envelope, write_number, write_optional, write_uuid},
    json::write_string,
    names::{Kind, event},
    options::{flag, members},
    scan::{Scanner, Value},
    timestamp::Timestamp,
};

/// What a subscription asks for by `presence`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PresenceWish<'a> {
    /// `"watch"`: to hear who comes and goes.
    Watch,
    /// `true`, or `{"info":{…}}`: that, and to be one of them.
    Join {
        /// What it says of itself: the JSON of an object.
        info: Option<&'a str>,
    },
}

impl<'a> PresenceWish<'a> {
    /// Reads the value of `presence`. `None`: false, which asks for nothing.
    pub fn parse(text: &'a str) -> Result<Option<Self>, DecodeError> {
        fits(Self::read(text), WISH_RULE)
    }

    fn read(text: &'a str) -> Result<Option<Self>, DecodeError> {
        Ok(match text.as_bytes().first() {
            Some(b'{') => {
                let [info] = members(text, &["info"])?;
                Some(Self::Join { info: info.map(read_info).transpose()? })
            }
            Some(b'"') => {
                let word = Scanner::new(text).value()?.string();
                Some(
                    word.filter(|word| word == "watch")
                        .map(|_| Self::Watch)
                        .ok_or(DecodeError::Data)?,
                )
            }
            _ => match text {
                "true" => Some(Self::Join { info: None }),
                "false" => None,
                _ => return Err(DecodeError::Data),
            },
        })
    }
}

/// What a member says of itself, if it can be sent on: in a list it lies deeper than where it came in.
fn read_info(info: Value<'_>) -> Result<&str, DecodeError> {
    if !info.is_object() {
        return Err(DecodeError::Data);
    }
    Scanner::within(info.get(), INFO_DEPTH).value()?;
    Ok(info.get())
}

const WISH_RULE: &str =
    "presence must be true, false, the word watch or an object, whose info is an object";
const MEMBERS_RULE: &str = "members must be true or false";
const AFTER_RULE: &str = "after must be a connection_id";

/// The message, its `data`, `members`, a member.
const INFO_DEPTH: usize = 4;

/// What [`get_presence`](event::GET_PRESENCE) asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceQuery<'a> {
    /// Whose members. `None`: missing or not a string.
    pub channel: Option<Cow<'a, str>>,
    /// Whether they are to be listed, or only counted.
    pub members: bool,
    /// The list begins behind the member with this `connection_id`.
    pub after: Option<Uuid>,
}

impl<'a> PresenceQuery<'a> {
    /// Reads the request's `data`. Fails if a member has a value of another type.
    pub fn parse(data: &'a str) -> Result<Self, DecodeError> {
        let [channel, listed, after] = members(data, &["channel", "members", "after"])?;
        let id = |value: Value<'_>| {
            let id = value.string().and_then(|text| Uuid::try_parse(&text).ok());
            id.ok_or(DecodeError::Member(AFTER_RULE))
        };
        Ok(Self {
            channel: channel.and_then(Value::string),
            members: fits(listed.map(flag).transpose(), MEMBERS_RULE)?.unwrap_or(true),
            after: after.map(id).transpose()?,
        })
    }
}

/// Appends what is asked for besides the channel.
pub(super) fn write_query(out: &mut Vec<u8>, members: bool, after: Option<Uuid>) {
    if !members {
        out.extend_from_slice(b",\"members\":false");
    }
    if let Some(after) = after {
        out.extend_from_slice(b",\"after\":");
        write_uuid(out, after);
    }
}

/// One who is in a channel.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// The connection, by the name that its welcome gives it.
    pub connection_id: Uuid,
    /// Its user, or null.
    pub user_id: Option<&'a str>,
    /// What it says of itself: the JSON of an object, or null.
    pub info: Option<&'a str>,
    /// Since when.
    pub since: &'a Timestamp,
}

impl Member<'_> {
    /// Appends `{connection_id, user_id, info, since}`.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"connection_id\":");
        write_uuid(out, self.connection_id);
        out.extend_from_slice(b",\"user_id\":");
        write_optional(out, self.user_id);
        out.extend_from_slice(b",\"info\":");
        out.extend_from_slice(self.info.unwrap_or("null").as_bytes());
        out.extend_from_slice(b",\"since\":");
        write_string(out, self.since.as_str());
        out.push(b'}');
    }
}

/// One who is no longer in a channel.
#[derive(Clone, Copy, Debug)]
pub struct Departed<'a> {
    /// The connection.
    pub connection_id: Uuid,
    /// Its user, or null.
    pub user_id: Option<&'a str>,
    /// `left`, or `lost`: it may come back.
    pub reason: &'a str,
}

impl Departed<'_> {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"connection_id\":");
        write_uuid(out, self.connection_id);
        out.extend_from_slice(b",\"user_id\":");
        write_optional(out, self.user_id);
        out.extend_from_slice(b",\"reason\":");
        write_string(out, self.reason);
        out.push(b'}');
    }
}

/// How many came and went, where they are not told one by one. `None` is null: the receiver has missed events, and
/// nobody has counted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PresenceChanges {
    /// Members now.
    pub count: Option<u64>,
    /// How many came.
    pub joined: Option<u64>,
    /// How many went.
    pub left: Option<u64>,
}

impl PresenceChanges {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let members = [("count", self.count), ("joined", self.joined), ("left", self.left)];
        for (index, (name, number)) in members.into_iter().enumerate() {
            out.push(if index == 0 { b'{' } else { b',' });
            write_string(out, name);
            out.push(b':');
            match number {
                Some(number) => write_number(out, number),
                None => out.extend_from_slice(b"null"),
            }
        }
        out.push(b'}');
    }
}

impl<'a> Envelope<'a> {
    /// Somebody came into a channel, or says something else of itself than before.
    #[must_use]
    pub fn presence_joined(stamp: Stamp<'a>, channel: &'a str, member: Member<'a>) -> Self {
        Self::of_presence(stamp, channel, event::PRESENCE_JOINED, Data::Member(member))
    }

    /// Somebody is no longer in a channel.
    #[must_use]
    pub fn presence_left(stamp: Stamp<'a>, channel: &'a str, departed: Departed<'a>) -> Self {
        Self::of_presence(stamp, channel, event::PRESENCE_LEFT, Data::Departed(departed))
    }

    /// Many came or went, or the receiver has missed some: whoever keeps a list asks for it anew.
    #[must_use]
    pub fn presence_changed(stamp: Stamp<'a>, channel: &'a str, changes: PresenceChanges) -> Self {
        Self::of_presence(stamp, channel, event::PRESENCE_CHANGED, Data::PresenceChanges(changes))
    }

    fn of_presence(stamp: Stamp<'a>, channel: &'a str, event: &'a str, data: Data<'a>) -> Self {
        Self { event: Some(event), data, room: Some(channel), ..Self::blank(stamp, Kind::Event) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value as Json, json};

    use super::*;
    use crate::protocol::{NESTING_MAX, Request, decode_text};

    const ID: Uuid = Uuid::from_u128(0x0e0e_0e0e_0e0e_4e0e_8e0e_0e0e_0e0e_0e0e);

    #[test]
    fn wishes_are_true_watch_or_an_object() {
        let join = |info| Ok(Some(PresenceWish::Join { info }));
        for (text, expected) in [
            ("true", join(None)),
            ("false", Ok(None)),
            ("{}", join(None)),
            (r#"{"info":null,"more":1}"#, join(None)),
            (r#"{"info":{"name":"Ada"}}"#, join(Some(r#"{"name":"Ada"}"#))),
            (r#""watch""#, Ok(Some(PresenceWish::Watch))),
            (r#""w\u0061tch""#, Ok(Some(PresenceWish::Watch))),
            (r#""join""#, Err(DecodeError::Member(WISH_RULE))),
            (r#""\ud800""#, Err(DecodeError::Member(WISH_RULE))),
            ("1", Err(DecodeError::Member(WISH_RULE))),
            ("[]", Err(DecodeError::Member(WISH_RULE))),
            (r#"{"info":"Ada"}"#, Err(DecodeError::Member(WISH_RULE))),
            (r#"{"info":[]}"#, Err(DecodeError::Member(WISH_RULE))),
        ] {
            assert_eq!(PresenceWish::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn what_a_member_says_can_be_read_wherever_it_is_sent() {
        let nested = |levels: usize| {
            format!(r#"{{"info":{}{{}}{}}}"#, r#"{"a":"#.repeat(levels - 1), "}".repeat(levels - 1))
        };
        let (most, more) = (NESTING_MAX - INFO_DEPTH, NESTING_MAX - INFO_DEPTH + 1);
        assert!(PresenceWish::parse(&nested(most)).is_ok());
        assert_eq!(PresenceWish::parse(&nested(more)), Err(DecodeError::TooDeep));
    }

    #[test]
    fn a_query_names_a_channel() {
        let query = |channel: Option<&'static str>, members, after| {
            Ok(PresenceQuery { channel: channel.map(Cow::Borrowed), members, after })
        };
        for (data, expected) in [
            (r#"{"channel":"c"}"#, query(Some("c"), true, None)),
            (r#"{"channel":"c","members":false}"#, query(Some("c"), false, None)),
            (r#"{"channel":"c","members":null,"after":null}"#, query(Some("c"), true, None)),
            (
                r#"{"channel":"c","after":"0e0e0e0e-0e0e-4e0e-8e0e-0e0e0e0e0e0e"}"#,
                query(Some("c"), true, Some(ID)),
            ),
            (r#"{"channel":5}"#, query(None, true, None)),
            ("{}", query(None, true, None)),
            (r#"{"channel":"c","members":0}"#, Err(DecodeError::Member(MEMBERS_RULE))),
            (r#"{"channel":"c","after":"?"}"#, Err(DecodeError::Member(AFTER_RULE))),
            (r#"{"channel":"c","after":5}"#, Err(DecodeError::Member(AFTER_RULE))),
        ] {
            assert_eq!(PresenceQuery::parse(data), expected, "{data}");
        }
    }

    #[test]
    fn a_query_is_read_as_it_was_written() {
        for (members, after) in [(true, None), (false, None), (true, Some(ID))] {
            let request = Request::GetPresence { channel: "room:\"1\"", members, after };
            let text = request.to_text(Some("1"));
            let Ok(message) = decode_text(&text) else { panic!("{text}") };
            assert_eq!(message.event.as_deref(), Some("get_presence"));
            let expected = PresenceQuery { channel: Some("room:\"1\"".into()), members, after };
            assert_eq!(message.data.map(PresenceQuery::parse), Some(Ok(expected)), "{text}");
        }
    }

    #[test]
    fn events_are_of_their_channel_and_have_no_offset() {
        let since = Timestamp::from_unix(Duration::from_secs(1_739_269_800));
        let stamp = Stamp { id: Uuid::nil(), timestamp: &since };
        let joined = Member {
            connection_id: ID,
            user_id: Some("ada"),
            info: Some(r#"{"seat": 1}"#),
            since: &since,
        };
        let anonymous = Member { user_id: None, info: None, ..joined };
        let left = Departed { connection_id: ID, user_id: None, reason: "lost" };
        let changes = PresenceChanges { count: Some(7), joined: Some(20), left: Some(3) };
        let id = ID.to_string();
        for (envelope, event, data) in [
            (
                Envelope::presence_joined(stamp, "room:1", joined),
                "presence.joined",
                json!({"connection_id": id, "user_id": "ada", "info": {"seat": 1}, "since": since.as_str()}),
            ),
            (
                Envelope::presence_joined(stamp, "room:1", anonymous),
                "presence.joined",
                json!({"connection_id": id, "user_id": null, "info": null, "since": since.as_str()}),
            ),
            (
                Envelope::presence_left(stamp, "room:1", left),
                "presence.left",
                json!({"connection_id": id, "user_id": null, "reason": "lost"}),
            ),
            (
                Envelope::presence_changed(stamp, "room:1", changes),
                "presence.changed",
                json!({"count": 7, "joined": 20, "left": 3}),
            ),
            (
                Envelope::presence_changed(stamp, "room:1", PresenceChanges::default()),
                "presence.changed",
                json!({"count": null, "joined": null, "left": null}),
            ),
        ] {
            let mut out = Vec::new();
            envelope.write(&mut out);
            let message: Json = serde_json::from_slice(&out).unwrap();
            assert_eq!(message["event"], event);
            assert_eq!(message["data"], data);
            assert_eq!((&message["type"], &message["room"]), (&json!("event"), &json!("room:1")));
            assert_eq!(message.as_object().unwrap().len(), 9, "{message}");
        }
    }
}
