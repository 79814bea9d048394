//! Writing messages: nine fields in their documented order, straight into the caller's buffer.

use uuid::{Uuid, fmt::Hyphenated};

use super::{
    answers::{Gap, Welcome},
    json::write_string,
    names::Kind,
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
    /// `{status: "published", channel, subscribers, offset}`
    Published {
        /// Where to.
        channel: &'a str,
        /// How many subscribers it was given to.
        subscribers: u64,
        /// Its position in the channel; left out if the channel has none.
        offset: Option<u64>,
    },
    /// What a connection is greeted with.
    Welcome(Welcome<'a>),
    /// What was lost.
    Gap(Gap<'a>),
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
            | Self::Published { .. }
            | Self::Welcome(_)
            | Self::Gap(_) => 128,
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
            Self::Welcome(welcome) => write_welcome(out, welcome),
            Self::Gap(gap) => write_gap(out, gap),
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
    // Services differ in how they say it, so both ways are there.
    out.extend_from_slice(b",\"secure\":");
    write_bool(out, welcome.secure);
    out.extend_from_slice(if welcome.secure {
        b",\"tls_mode\":\"WSS\""
    } else {
        b",\"tls_mode\":\"WS\""
    });
    if let Some(rate) = welcome.rate_limit {
        out.extend_from_slice(b",\"rate_limit\":");
        write_number(out, rate.into());
    }
    out.push(b'}');
}

fn write_gap(out: &mut Vec<u8>, gap: &Gap<'_>) {
    out.extend_from_slice(b"{\"channel\":");
    write_string(out, gap.channel);
    out.extend_from_slice(b",\"lost\":");
    write_number(out, gap.lost);
    for (name, offset) in
        [(&b",\"first_offset\":"[..], gap.first_offset), (b",\"last_offset\":", gap.last_offset)]
    {
        out.extend_from_slice(name);
        match offset {
            Some(offset) => write_number(out, offset),
            None => out.extend_from_slice(b"null"),
        }
    }
    out.push(b'}');
}

fn write_optional(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => write_string(out, text),
        None => out.extend_from_slice(b"null"),
    }
}

fn write_bool(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

fn write_uuid(out: &mut Vec<u8>, id: Uuid) {
    let mut text = [0; Hyphenated::LENGTH];
    out.push(b'"');
    out.extend_from_slice(id.hyphenated().encode_lower(&mut text).as_bytes());
    out.push(b'"');
}

fn write_number(out: &mut Vec<u8>, number: u64) {
    let written = serde_json::to_writer(&mut *out, &number);
    debug_assert!(written.is_ok(), "writing into memory does not fail");
}

/// Bytes of a message around its data, with names of ordinary length.
const FIXED_BYTES: usize = 288;
