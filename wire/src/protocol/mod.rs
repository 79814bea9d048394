//! The message protocol: one JSON object per WebSocket message, nine fields, tolerant reading, exact writing.
//!
//! Each side has its half: a client writes a [`Request`], which a server reads by [`decode()`] as a [`Intent`]; the
//! server writes an [`Envelope`], which the client reads as a [`Message`]. Reading is borrowed: it makes one pass over a
//! message and keeps slices of it; `data` stays the bytes that came in. Writing goes straight into a buffer of the
//! caller's.
//!
//! ```
//! use std::time::Duration;
//! use mahavishnu_wire::protocol::{Intent, CorrelationRule, Envelope, Message, Request, Stamp, Timestamp, decode};
//!
//! // The client asks.
//! let mut request = Vec::new();
//! Request::Subscribe { channel: "pool:7" }.write(Some("1"), &mut request);
//! assert_eq!(request, br#"{"type":"request","event":"subscribe","id":"1","data":{"channel":"pool:7"}}"#);
//!
//! // The server answers.
//! let message = decode(&request)?;
//! let Intent::Subscribe { channel: Some(channel), .. } = message.intent() else { panic!() };
//! let now = Timestamp::from_unix(Duration::from_secs(1_770_000_000));
//! let stamp = Stamp { id: uuid::Uuid::nil(), timestamp: &now };
//! let mut out = Vec::new();
//! Envelope::subscribed(stamp, &channel, message.correlation(CorrelationRule::Tolerant)).write(&mut out);
//! assert!(out.starts_with(br#"{"id":"00000000-0000-0000-0000-000000000000","correlation_id":"1","type":"response","#));
//!
//! // The client finds out which request that was.
//! let answer = Message::read(std::str::from_utf8(&out)?)?;
//! assert_eq!((answer.correlation_id.as_deref(), answer.status.as_deref()), (Some("1"), Some("subscribed")));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod answers;
mod decode;
mod envelope;
mod history;
mod intent;
mod json;
mod message;
mod names;
mod options;
mod position;
mod presence;
pub mod publish;
mod publish_options;
mod request;
mod scan;
pub mod session_buddy;
mod sessions;
mod status;
mod timestamp;
mod traceparent;

pub use answers::{Expiring, Gap, GapPosition, Stamp, Start, Welcome, WelcomeExtra};
pub use decode::{CorrelationRule, DecodeError, Incoming, decode, decode_text};
pub use envelope::{Data, Envelope};
pub use history::{HistoryRequest, write_history_event};
pub use intent::{Answer, Intent};
pub use json::{NESTING_MAX, write_string};
pub use message::Message;
pub use names::{Kind, channel_is_valid, error_code, event};
pub use options::{Recover, SubscribeOptions};
pub use position::{Epoch, Position};
pub use presence::{Departed, Member, PresenceChanges, PresenceQuery, PresenceWish};
pub use publish_options::{Condition, MessageOptions, PublishOptions, state_channel};
pub use request::Request;
pub use sessions::{KeepSession, ResumeSession, ResumedChannel, ResumedSession};
pub use status::StatusRequest;
pub use timestamp::Timestamp;
pub use traceparent::TraceParent;

#[cfg(test)]
mod traps;
