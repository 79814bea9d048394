//! Writing messages: nine fields in their documented order, straight into the caller's buffer.

use uuid::{Uuid, fmt::Hyphenated};

use super::{
    answers::{Expiring, Gap, GapPosition, Start, Welcome, WelcomeExtra},
    json::write_string,
    names::Kind,
    position::Position,
    presence::{Departed, Member, PresenceChanges},
    sessions::ResumedSession,
    timestamp::Timestamp,
};

/// A message on its way out. Built by the constructors beside this type, or field by field.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// `id`: this message's own.
    pub id: Uuid,
    /// `correlation_id`: what it answers.
    pub correlation_id: Option<&'a str>,
    /// `type`.
    pub kind: Kind,
    /// `event`.
    pub event: Option<&'a str>,
    /// `data`.
    pub data: Data<'a>,
    /// `timestamp`: the same for all messages of one turn.
    pub timestamp: &'a Timestamp,
    /// `room`: the channel of a broadcast.
    pub room: Option<&'a str>,
    /// `error_code` and `error_message`.
    pub error: Option<(&'a str, &'a str)>,
    /// A tenth field `status` after the nine, absent if `None`: documented clients look for it there.
    pub status: Option<&'a str>,
    /// A last field `offset`, absent if `None`: the position of a broadcast in its channel.
    pub offset: Option<u64>,
}

/// The object that a message carries.
#[derive(Clone, Copy, Debug)]
pub enum Data<'a> {
    /// `{}`
    Empty,
    /// The JSON text of an object, taken as it is.
    Raw(&'a str),
    /// `{status, user_id}`
    User {
        /// What happened.
        status: &'a str,
        /// The user, or null.
        user_id: Option<&'a str>,
    },
    /// `{status, channel}`
    Channel {
        /// What happened.
        status: &'a str,
        /// To which channel.
        channel: &'a str,
    },
    /// `{status: "subscribed", channel, epoch, offset, recoverable, …, presence}`
    Started {
        /// To which channel.
        channel: &'a str,
        /// Where it stands, for who asked for that.
        start: Option<Start<'a>>,
        /// How many members it has, for who asked for presence.
        members: Option<u64>,
    },
    /// `{status: "published", channel, subscribers, offset}`
    Published {
        /// Where to.
        channel: &'a str,
        /// How many subscribers it was given to.
        subscribers: u64,
        /// Its position in the channel; left out if the channel has none.
        offset: Option<u64>,
    },
    /// `{status: "published", channel, subscribers, epoch, offset}`
    PublishedAt {
        /// Where to.
        channel: &'a str,
        /// How many subscribers it was given to.
        subscribers: u64,
        /// Where in the channel it stands; null and 0 if nobody subscribes and nothing is kept.
        position: Option<Position>,
    },
    /// What a connection is greeted with.
    Welcome(Welcome<'a>),
    /// What was lost.
    Gap(Gap<'a>),
    /// `{session, ttl}`
    Session {
        /// The session's name.
        session: &'a str,
        /// Seconds that it waits for its client.
        ttl: u64,
    },
    /// A session that goes on.
    Resumed(ResumedSession<'a>),
    /// `{expires_at, expires_in, grace}`
    Expiring(Expiring),
    /// `{channel, reason}`
    Withdrawn {
        /// What it is no longer subscribed to.
        channel: &'a str,
        /// Because of what.
        why: &'a str,
    },
    /// Who came into a channel.
    Member(Member<'a>),
    /// Who is no longer in a channel.
    Departed(Departed<'a>),
    /// How many came and went.
    PresenceChanges(PresenceChanges),
}

impl Envelope<'_> {
    /// Appends the message.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.reserve(FIXED_BYTES + self.data.size_hint());
        out.extend_from_slice(b"{\"id\":");
        write_uuid(out, self.id);
        out.extend_from_slice(b",\"correlation_id\":");
        write_optional(out, self.correlation_id);
        out.extend_from_slice(b",\"type\":\"");
        out.extend_from_slice(self.kind.as_str().as_bytes());
        out.extend_from_slice(b"\",\"event\":");
        write_optional(out, self.event);
        out.extend_from_slice(b",\"data\":");
        self.data.write(out);
        out.extend_from_slice(b",\"timestamp\":\"");
        out.extend_from_slice(self.timestamp.as_bytes());
        out.extend_from_slice(b"\",\"room\":");
        write_optional(out, self.room);
        out.extend_from_slice(b",\"error_code\":");
        write_optional(out, self.error.map(|(code, _)| code));
        out.extend_from_slice(b",\"error_message\":");
        write_optional(out, self.error.map(|(_, message)| message));
        if let Some(status) = self.status {
            out.extend_from_slice(b",\"status\":");
            write_string(out, status);
        }
        if let Some(offset) = self.offset {
            out.extend_from_slice(b",\"offset\":");
            write_number(out, offset);
        }
        out.push(b'}');
    }
}

impl Data<'_> {
    fn size_hint(&self) -> usize {
        match self {
            Self::Empty => 2,
            Self::Raw(text) => text.len(),
            Self::User { .. }
            | Self::Channel { .. }
            | Self::Started { .. }
            | Self::Published { .. }
            | Self::PublishedAt { .. }
            | Self::Welcome(_)
            | Self::Gap(_)
            | Self::Session { .. }
            | Self::Expiring(_)
            | Self::Departed(_)
            | Self::PresenceChanges(_)
            | Self::Withdrawn { .. } => 128,
            Self::Resumed(resumed) => resumed.size_hint(),
            Self::Member(member) => 128 + member.info.map_or(0, str::len),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Empty => out.extend_from_slice(b"{}"),
            Self::Raw(text) => out.extend_from_slice(text.as_bytes()),
            Self::User { status, user_id } => {
                out.extend_from_slice(b"{\"status\":");
                write_string(out, status);
                out.extend_from_slice(b",\"user_id\":");
                write_optional(out, *user_id);
                out.push(b'}');
            }
            Self::Channel { status, channel } => {
                out.extend_from_slice(b"{\"status\":");
                write_string(out, status);
                out.extend_from_slice(b",\"channel\":");
                write_string(out, channel);
                out.push(b'}');
            }
            Self::Started { channel, start, members } => {
                out.extend_from_slice(b"{\"status\":\"subscribed\",\"channel\":");
                write_string(out, channel);
                if let Some(start) = start {
                    write_start(out, start);
                }
                if let Some(members) = members {
                    out.extend_from_slice(b",\"presence\":{\"count\":");
                    write_number(out, *members);
                    out.push(b'}');
                }
                out.push(b'}');
            }
            Self::Published { channel, subscribers, offset } => {
                out.extend_from_slice(b"{\"status\":\"published\",\"channel\":");
                write_string(out, channel);
                out.extend_from_slice(b",\"subscribers\":");
                write_number(out, *subscribers);
                if let Some(offset) = offset {
                    out.extend_from_slice(b",\"offset\":");
                    write_number(out, *offset);
                }
                out.push(b'}');
            }
            Self::PublishedAt { channel, subscribers, position } => {
                out.extend_from_slice(b"{\"status\":\"published\",\"channel\":");
                write_string(out, channel);
                out.extend_from_slice(b",\"subscribers\":");
                write_number(out, *subscribers);
                out.extend_from_slice(b",\"epoch\":");
                write_optional(out, position.as_ref().map(|position| position.epoch.as_str()));
                out.extend_from_slice(b",\"offset\":");
                write_number(out, position.map_or(0, |position| position.offset));
                out.push(b'}');
            }
            Self::Welcome(welcome) => write_welcome(out, welcome),
            Self::Gap(gap) => write_gap(out, gap),
            Self::Session { session, ttl } => {
                out.extend_from_slice(b"{\"session\":");
                write_string(out, session);
                out.extend_from_slice(b",\"ttl\":");
                write_number(out, *ttl);
                out.push(b'}');
            }
            Self::Resumed(resumed) => resumed.write(out),
            Self::Expiring(Expiring { expires_at, expires_in, grace }) => {
                out.extend_from_slice(b"{\"expires_at\":");
                write_number(out, *expires_at);
                out.extend_from_slice(b",\"expires_in\":");
                write_number(out, *expires_in);
                out.extend_from_slice(b",\"grace\":");
                write_number(out, *grace);
                out.push(b'}');
            }
            Self::Withdrawn { channel, why } => {
                out.extend_from_slice(b"{\"channel\":");
                write_string(out, channel);
                out.extend_from_slice(b",\"reason\":");
                write_string(out, why);
                out.push(b'}');
            }
            Self::Member(member) => member.write(out),
            Self::Departed(departed) => departed.write(out),
            Self::PresenceChanges(changes) => changes.write(out),
        }
    }
}

fn write_welcome(out: &mut Vec<u8>, welcome: &Welcome<'_>) {
    out.extend_from_slice(b"{\"connection_id\":");
    write_uuid(out, welcome.connection_id);
    out.extend_from_slice(b",\"server\":");
    write_string(out, welcome.server);
    out.extend_from_slice(b",\"message\":");
    write_string(out, welcome.message);
    out.extend_from_slice(b",\"authenticated\":");
    write_bool(out, welcome.authenticated);
    for extra in welcome.extras {
        write_welcome_extra(out, welcome, *extra);
    }
    out.push(b'}');
}

fn write_welcome_extra(out: &mut Vec<u8>, welcome: &Welcome<'_>, extra: WelcomeExtra) {
    match extra {
        WelcomeExtra::Secure => {
            out.extend_from_slice(b",\"secure\":");
            write_bool(out, welcome.secure);
        }
        WelcomeExtra::TlsMode => out.extend_from_slice(if welcome.secure {
            b",\"tls_mode\":\"WSS\""
        } else {
            b",\"tls_mode\":\"WS\""
        }),
        WelcomeExtra::RateLimit => {
            if let Some(rate) = welcome.rate_limit {
                out.extend_from_slice(b",\"rate_limit\":");
                write_number(out, rate.into());
            }
        }
    }
}

fn write_gap(out: &mut Vec<u8>, gap: &Gap<'_>) {
    out.extend_from_slice(b"{\"channel\":");
    write_string(out, gap.channel);
    for (name, number) in [
        (&b",\"lost\":"[..], gap.lost),
        (b",\"first_offset\":", gap.first_offset),
        (b",\"last_offset\":", gap.last_offset),
    ] {
        out.extend_from_slice(name);
        match number {
            Some(number) => write_number(out, number),
            None => out.extend_from_slice(b"null"),
        }
    }
    if let Some(GapPosition { reason, position }) = gap.position {
        out.extend_from_slice(b",\"reason\":");
        write_string(out, reason);
        write_position(out, position);
    }
    out.push(b'}');
}

fn write_start(out: &mut Vec<u8>, start: &Start<'_>) {
    write_position(out, start.position);
    out.extend_from_slice(b",\"recoverable\":");
    write_bool(out, start.recoverable);
    if let Some(outcome) = start.recovered {
        write_recovered(out, outcome);
    }
    if let Some(events) = start.rewound {
        out.extend_from_slice(b",\"rewound\":");
        write_number(out, events);
    }
}

pub(super) fn write_recovered(out: &mut Vec<u8>, outcome: Result<u64, &str>) {
    match outcome {
        Ok(missed) => {
            out.extend_from_slice(b",\"recovered\":true,\"missed\":");
            write_number(out, missed);
        }
        Err(reason) => {
            out.extend_from_slice(b",\"recovered\":false,\"reason\":");
            write_string(out, reason);
        }
    }
}

pub(super) fn write_position(out: &mut Vec<u8>, position: Position) {
    out.extend_from_slice(b",\"epoch\":");
    write_string(out, position.epoch.as_str());
    out.extend_from_slice(b",\"offset\":");
    write_number(out, position.offset);
}

pub(super) fn write_optional(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => write_string(out, text),
        None => out.extend_from_slice(b"null"),
    }
}

pub(super) fn write_bool(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

pub(super) fn write_uuid(out: &mut Vec<u8>, id: Uuid) {
    let mut text = [0; Hyphenated::LENGTH];
    out.push(b'"');
    out.extend_from_slice(id.hyphenated().encode_lower(&mut text).as_bytes());
    out.push(b'"');
}

pub(super) fn write_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Bytes of a message around its data, with names of ordinary length.
const FIXED_BYTES: usize = 288;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::protocol::{Epoch, Stamp, decode};

    #[test]
    fn nine_fields_in_order_without_spaces() {
        let timestamp = timestamp();
        let envelope = Envelope::broadcast(
            stamp(&timestamp),
            "pool:7",
            "pool.scaled",
            r#"{"worker_count": 3}"#,
            None,
        );
        assert_eq!(
            text(&envelope),
            concat!(
                r#"{"id":"0e0e0e0e-0e0e-0e0e-0e0e-0e0e0e0e0e0e","correlation_id":null,"type":"event","#,
                r#""event":"pool.scaled","data":{"worker_count": 3},"timestamp":"2025-02-11T10:30:00.000000+00:00","#,
                r#""room":"pool:7","error_code":null,"error_message":null}"#
            )
        );
    }

    #[test]
    fn extra_fields_come_last() {
        let timestamp = timestamp();
        let base = Envelope::broadcast(stamp(&timestamp), "c", "e", "{}", Some(u64::MAX));
        assert!(text(&base).ends_with(r#""error_message":null,"offset":18446744073709551615}"#));
        let both = Envelope { status: Some("ok"), ..base };
        assert!(
            text(&both)
                .ends_with(r#""error_message":null,"status":"ok","offset":18446744073709551615}"#)
        );
    }

    #[test]
    fn writing_appends() {
        let timestamp = timestamp();
        let mut out = b"before".to_vec();
        Envelope::pong(stamp(&timestamp), None).write(&mut out);
        assert!(out.starts_with(b"before{\"id\":"));
    }

    proptest! {
        #[test]
        fn every_field_reads_back(
            correlation in prop::option::of(any::<String>()), event in prop::option::of(any::<String>()),
            room in prop::option::of(any::<String>()), error in prop::option::of((any::<String>(), any::<String>())),
            status in prop::option::of(any::<String>()), offset: Option<u64>, kind in 0_usize..9, id: [u8; 16],
            data in 0_usize..10, number: u64,
        ) {
            let timestamp = timestamp();
            let id = Uuid::from_bytes(id);
            let word = event.as_deref().unwrap_or("x");
            let (data, expected) = data_of(data, word, number, offset, id);
            let envelope = Envelope {
                id,
                correlation_id: correlation.as_deref(),
                kind: Kind::ALL[kind],
                event: event.as_deref(),
                data,
                timestamp: &timestamp,
                room: room.as_deref(),
                error: error.as_ref().map(|(code, message)| (code.as_str(), message.as_str())),
                status: status.as_deref(),
                offset,
            };

            let text = text(&envelope);

            let mut all = json!({
                "id": id.to_string(), "correlation_id": correlation, "type": Kind::ALL[kind].as_str(), "event": event,
                "data": expected, "timestamp": timestamp.as_str(), "room": room,
                "error_code": error.as_ref().map(|(code, _)| code),
                "error_message": error.as_ref().map(|(_, message)| message),
            });
            if let Some(status) = &status {
                all["status"] = json!(status);
            }
            if let Some(offset) = offset {
                all["offset"] = json!(offset);
            }
            prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), all);
            let decoded = decode(text.as_bytes()).unwrap();
            prop_assert_eq!(decoded.correlation_id.as_deref(), correlation.as_deref());
            prop_assert!(decoded.full_dump);
        }
    }

    fn data_of<'a>(
        which: usize,
        word: &'a str,
        number: u64,
        offset: Option<u64>,
        id: Uuid,
    ) -> (Data<'a>, Value) {
        match which {
            0 => (Data::Empty, json!({})),
            1 => (Data::Raw(r#"{"a":[1, {}]}"#), json!({ "a": [1, {}] })),
            2 => (
                Data::User { status: word, user_id: Some(word) },
                json!({ "status": word, "user_id": word }),
            ),
            3 => (
                Data::Channel { status: "subscribed", channel: word },
                json!({ "status": "subscribed", "channel": word }),
            ),
            4 => {
                let mut data =
                    json!({ "status": "published", "channel": word, "subscribers": number });
                if let Some(offset) = offset {
                    data["offset"] = json!(offset);
                }
                (Data::Published { channel: word, subscribers: number, offset }, data)
            }
            5 => {
                let position = Position { epoch: Epoch::from_random(number), offset: number };
                let position = offset.map(|_| GapPosition { reason: word, position });
                let gap = Gap {
                    channel: word,
                    lost: offset.map(|_| number),
                    first_offset: offset,
                    last_offset: None,
                    position,
                };
                let mut data = json!({ "channel": word, "lost": gap.lost, "first_offset": offset, "last_offset": null });
                if let Some(GapPosition { reason, position }) = position {
                    data["reason"] = json!(reason);
                    data["epoch"] = json!(position.epoch.as_str());
                    data["offset"] = json!(position.offset);
                }
                (Data::Gap(gap), data)
            }
            6 => {
                let expiring = Expiring { expires_at: number, expires_in: 7, grace: 0 };
                let data = json!({ "expires_at": number, "expires_in": 7, "grace": 0 });
                (Data::Expiring(expiring), data)
            }
            8 => {
                let position = Position { epoch: Epoch::from_random(number), offset: number };
                let mut data = json!({
                    "status": "subscribed", "channel": word, "epoch": position.epoch.as_str(), "offset": number,
                    "recoverable": number.is_multiple_of(2),
                });
                let recovered = offset.map(|n| if n % 2 == 0 { Ok(n) } else { Err(word) });
                match recovered {
                    Some(Ok(missed)) => {
                        (data["recovered"], data["missed"]) = (json!(true), json!(missed))
                    }
                    Some(Err(reason)) => {
                        (data["recovered"], data["reason"]) = (json!(false), json!(reason))
                    }
                    None => data["rewound"] = json!(number),
                }
                let rewound = offset.is_none().then_some(number);
                let recoverable = number.is_multiple_of(2);
                let start = Start { position, recoverable, recovered, rewound };
                let start = Some(start);
                let members = number.is_multiple_of(3).then_some(number);
                if let Some(members) = members {
                    data["presence"] = json!({ "count": members });
                }
                (Data::Started { channel: word, start, members }, data)
            }
            7 => (
                Data::Withdrawn { channel: word, why: "token" },
                json!({ "channel": word, "reason": "token" }),
            ),
            _ => {
                let welcome = Welcome {
                    connection_id: id,
                    server: word,
                    message: word,
                    authenticated: number.is_multiple_of(2),
                    secure: number.is_multiple_of(3),
                    rate_limit: offset.map(|offset| offset as u32),
                    extras: if number.is_multiple_of(5) { &[] } else { WelcomeExtra::ALL },
                };
                let mut data = json!({
                    "connection_id": id.to_string(), "server": word, "message": word,
                    "authenticated": welcome.authenticated,
                });
                if !welcome.extras.is_empty() {
                    data["secure"] = json!(welcome.secure);
                    data["tls_mode"] = json!(if welcome.secure { "WSS" } else { "WS" });
                }
                if let Some(rate) = welcome.rate_limit.filter(|_| !welcome.extras.is_empty()) {
                    data["rate_limit"] = json!(rate);
                }
                (Data::Welcome(welcome), data)
            }
        }
    }

    fn text(envelope: &Envelope<'_>) -> String {
        let mut out = Vec::new();
        envelope.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn timestamp() -> Timestamp {
        Timestamp::from_unix(Duration::from_secs(1_739_269_800))
    }

    fn stamp(timestamp: &Timestamp) -> Stamp<'_> {
        Stamp { id: Uuid::from_bytes([14; 16]), timestamp }
    }
}
