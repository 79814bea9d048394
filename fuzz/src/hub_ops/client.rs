//! A client's end of a socket: what may be written to it, and what it must never see.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use mahavishnu_framing::{Decoded, OP_CLOSE, OP_PING, OP_PONG, OP_TEXT, decode, encode_client};
use serde_json::Value;

use super::{ops::Slow, store::Kept};

/// What comes out of a socket, checked as it comes.
#[derive(Debug)]
pub(super) struct Client {
    /// Bytes that may still be written; `None`: any number.
    pub(super) room: Option<usize>,
    /// Not yet parsed.
    unread: Vec<u8>,
    pub(super) written: usize,
    pub(super) stage: Stage,
    /// A token was sent that lets it in.
    pub(super) admitted: bool,
    /// Requests that were sent and not answered, by their id.
    pub(super) asked: BTreeSet<String>,
    /// Subscriptions as the wire tells of them.
    channels: BTreeMap<String, Seen>,
    /// Sessions that it was told of, until somebody takes them.
    pub(super) sessions: Vec<String>,
    /// Where channels stood, as far as it was told: epoch and offset.
    pub(super) positions: BTreeMap<String, (String, u64)>,
    /// Whether bytes were sent that a client that behaves would not send: then less can be expected.
    pub(super) wild: bool,
    pub(super) ended: bool,
    /// The number of the last message that was for it alone.
    direct: u64,
}

/// Where the conversation is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Stage {
    Http,
    Open,
    /// A close frame came.
    Closed,
}

/// What came of a channel.
#[derive(Debug, Default)]
struct Seen {
    subscribed: bool,
    /// The number that the next broadcast must have, once one has come.
    next: Option<u64>,
    /// The latest request to leave that was confirmed.
    left_by: Option<u32>,
}

impl Client {
    pub(super) fn new() -> Self {
        Self {
            room: None,
            unread: Vec::new(),
            written: 0,
            stage: Stage::Http,
            admitted: false,
            asked: BTreeSet::new(),
            channels: BTreeMap::new(),
            sessions: Vec::new(),
            positions: BTreeMap::new(),
            wild: false,
            ended: false,
            direct: 0,
        }
    }

    /// Looks at everything that came. `published` knows every broadcast by its number: which channel it was for.
    pub(super) fn read(&mut self, rules: &Rules<'_>) {
        loop {
            let taken = match self.stage {
                Stage::Http => self.read_head(),
                Stage::Open => self.read_frame(rules),
                Stage::Closed => {
                    assert!(self.unread.is_empty(), "nothing follows a close frame");
                    return;
                }
            };
            let Some(taken) = taken else { return };
            self.unread.drain(..taken);
        }
    }

    /// An HTTP answer with its body.
    fn read_head(&mut self) -> Option<usize> {
        let prefix = self.unread.len().min(9);
        assert_eq!(self.unread[..prefix], b"HTTP/1.1 "[..prefix], "an answer begins as one");
        let end = self.unread.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let head = std::str::from_utf8(&self.unread[..end]).expect("our heads are ASCII");
        if head.starts_with("HTTP/1.1 101 ") {
            self.stage = Stage::Open;
            return Some(end);
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |length| length.parse().expect("a length is a number"));
        (self.unread.len() >= end + length).then_some(end + length)
    }

    fn read_frame(&mut self, rules: &Rules<'_>) -> Option<usize> {
        let unread = std::mem::take(&mut self.unread);
        let taken = match decode(&unread, 1 << 30).expect("a header that can be followed") {
            Decoded::Need(_) => None,
            Decoded::Frame(frame) => {
                frame.check_of_server().expect("what a server may send");
                match frame.opcode {
                    OP_TEXT if frame.fin => self.on_message(frame.payload, rules),
                    OP_CLOSE => self.stage = Stage::Closed,
                    OP_PING | OP_PONG => {}
                    _ => panic!("an unexpected frame: {frame:?}"),
                }
                Some(frame.wire_bytes)
            }
        };
        self.unread = unread;
        taken
    }

    fn on_message(&mut self, payload: &[u8], rules: &Rules<'_>) {
        let message: Value = serde_json::from_slice(payload).expect("messages are JSON");
        let kind = message["type"].as_str().expect("messages have a type");
        if rules.auth && !self.admitted {
            assert!(matches!(kind, "error" | "pong"), "before authentication: {message}");
        }
        if let Some(id) = message["correlation_id"].as_str()
            && kind != "ack"
            && !self.wild
        {
            assert!(self.asked.remove(id), "answers what was not asked, or twice: {message}");
        }
        match (kind, message["event"].as_str()) {
            ("event", Some("channel.gap")) => self.on_gap(&message),
            ("event", Some("session.created" | "session.token_expiring")) => {}
            ("event", Some("channel.withdrawn")) => self.on_withdrawn(&message),
            ("event", Some("channel.subscribed")) => {
                let channel = message["data"]["channel"].as_str().expect("a channel");
                let seen = self.channels.entry(channel.to_owned()).or_default();
                if !seen.subscribed {
                    *seen = Seen { subscribed: true, next: None, left_by: seen.left_by };
                }
            }
            ("event", Some("session.closing")) => {
                assert_eq!(message["data"]["reason"], "disconnect", "{message}");
            }
            ("event", Some("direct")) => {
                let number = message["data"]["n"].as_u64().expect("a number");
                assert!(message["room"].is_null(), "it is of no channel: {message}");
                assert!(number > self.direct, "{number} behind {}", self.direct);
                self.direct = number;
            }
            ("event", _) => self.on_broadcast(&message, rules),
            ("response", Some("keep_session")) => {
                let session = message["data"]["session"].as_str().expect("a name");
                self.sessions.push(session.to_owned());
            }
            ("response", Some("resume_session")) => self.on_resumed(&message),
            ("response" | "ack", Some("subscribe")) => self.on_membership(&message, true),
            ("response" | "ack", Some("unsubscribe")) => self.on_membership(&message, false),
            ("response", Some("get_history")) => self.on_history(&message, rules),
            _ => {}
        }
    }

    fn on_membership(&mut self, message: &Value, subscribed: bool) {
        let channel = message["data"]["channel"].as_str().expect("a channel");
        let number =
            message["correlation_id"].as_str().and_then(|id| id.strip_prefix('q')?.parse().ok());
        let seen = self.channels.entry(channel.to_owned()).or_default();
        if !subscribed {
            seen.left_by = seen.left_by.max(number);
        } else if number.is_some() && number < seen.left_by {
            // The home's confirmation was overtaken: the client has asked to leave since.
            return;
        }
        if subscribed && let Some(epoch) = message["data"]["epoch"].as_str() {
            return self.on_started(channel, epoch, &message["data"]);
        }
        // A confirmation may be repeated; only a new subscription begins to count anew.
        if seen.subscribed != subscribed {
            *seen = Seen { subscribed, next: None, left_by: seen.left_by };
        }
    }

    /// From here on it comes from where the answer says.
    fn on_started(&mut self, channel: &str, epoch: &str, data: &Value) {
        let offset = data["offset"].as_u64().expect("a number");
        let first =
            data["missed"].as_u64().or_else(|| data["rewound"].as_u64()).unwrap_or_default();
        assert_eq!(data["recovered"] == true, data["missed"].is_u64(), "{data}");
        assert!(first <= offset, "more than there was: {data}");
        let seen = self.channels.entry(channel.to_owned()).or_default();
        let left_by = seen.left_by;
        *seen = Seen { subscribed: true, next: Some(offset + 1 - first), left_by };
        self.positions.insert(channel.to_owned(), (epoch.to_owned(), offset));
    }

    /// Events of one channel, one after the other, none of them beyond its last.
    fn on_history(&mut self, message: &Value, rules: &Rules<'_>) {
        let data = &message["data"];
        let top = data["offset"].as_u64().expect("a number");
        let mut next = None;
        for event in data["events"].as_array().expect("a list") {
            let number = event["data"]["n"].as_u64().expect("a number");
            let offset = event["offset"].as_u64().expect("a number");
            let known = usize::try_from(number).ok().and_then(|number| rules.published.get(number));
            assert_eq!(known.map(String::as_str), data["channel"].as_str(), "{message}");
            assert!(next.is_none_or(|next| next == offset) && offset <= top, "{message}");
            rules.check_kept(number, offset);
            next = Some(offset + 1);
        }
        if let (Some(channel), Some(epoch)) = (data["channel"].as_str(), data["epoch"].as_str()) {
            self.positions.insert(channel.to_owned(), (epoch.to_owned(), top));
        }
    }

    /// From here on all of the session's channels come, from where the answer says.
    fn on_resumed(&mut self, message: &Value) {
        let list = message["data"]["subscriptions"].as_array().expect("a list");
        for entry in list.iter().filter(|entry| entry["error"].is_null()) {
            let channel = entry["channel"].as_str().expect("a channel");
            let seen = self.channels.entry(channel.to_owned()).or_default();
            let left_by = seen.left_by;
            if let Some(epoch) = entry["epoch"].as_str() {
                let offset = entry["offset"].as_u64().expect("a number");
                let missed = entry["missed"].as_u64().unwrap_or_default();
                assert_eq!(entry["recovered"] == true, entry["missed"].is_u64(), "{message}");
                *seen = Seen { subscribed: true, next: Some(offset + 1 - missed), left_by };
                self.positions.insert(channel.to_owned(), (epoch.to_owned(), offset));
            } else if !seen.subscribed {
                *seen = Seen { subscribed: true, next: None, left_by };
            }
        }
    }

    /// The channel is no longer for this client, for all that it did not ask.
    fn on_withdrawn(&mut self, message: &Value) {
        let channel = message["data"]["channel"].as_str().expect("a channel");
        let seen = self.channels.get_mut(channel).filter(|seen| seen.subscribed);
        let Some(seen) = seen else { panic!("not subscribed: {message}") };
        *seen = Seen { subscribed: false, next: None, left_by: seen.left_by };
    }

    fn on_broadcast(&mut self, message: &Value, rules: &Rules<'_>) {
        let room = message["room"].as_str().expect("a broadcast has a room");
        let number = message["data"]["n"].as_u64().expect("a broadcast has a number");
        let known = usize::try_from(number).ok().and_then(|number| rules.published.get(number));
        assert_eq!(known.map(String::as_str), Some(room), "in the wrong room: {message}");
        let seen = self.channels.get_mut(room).filter(|seen| seen.subscribed);
        let Some(seen) = seen else { panic!("not subscribed: {message}") };
        let offset = message["offset"].as_u64().expect("offsets are switched on");
        rules.check_kept(number, offset);
        match seen.next {
            Some(next) if rules.slow == Some(Slow::Latest) || rules.slow.is_none() => {
                assert!(offset >= next, "{offset} after {next}: {message}");
            }
            Some(next) => assert_eq!(offset, next, "{message}"),
            None => {}
        }
        seen.next = Some(offset + 1);
    }

    fn on_gap(&mut self, message: &Value) {
        let data = &message["data"];
        let channel = data["channel"].as_str().expect("a channel");
        let seen = self.channels.get_mut(channel).filter(|seen| seen.subscribed);
        let Some(seen) = seen else { panic!("not subscribed: {message}") };
        let number = |name: &str| data[name].as_u64().expect("a number");
        let (first, last) = (number("first_offset"), number("last_offset"));
        assert!(seen.next.is_none_or(|next| next == first), "{:?}: {message}", seen.next);
        assert_eq!(number("lost"), last + 1 - first, "{message}");
        seen.next = Some(last + 1);
    }
}

impl io::Write for Client {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert!(!self.ended, "nothing is written to a socket that is gone");
        let take = bytes.len().min(self.room.unwrap_or(usize::MAX));
        if take == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.room = self.room.map(|room| room - take);
        self.unread.extend_from_slice(&bytes[..take]);
        self.written += take;
        Ok(take)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a client is checked against.
#[derive(Debug)]
pub(super) struct Rules<'r> {
    pub(super) auth: bool,
    /// `None`: the policy has changed during the script.
    pub(super) slow: Option<Slow>,
    /// The channel of each broadcast, by its number.
    pub(super) published: &'r [String],
    /// Under which number the store has each, if there is one.
    pub(super) kept: Option<&'r Kept>,
}

impl Rules<'_> {
    /// Somebody is told of a message.
    fn check_kept(&self, number: u64, offset: u64) {
        if let Some(kept) = self.kept {
            assert_eq!(kept.get(&number), Some(&offset), "message {number} as it is kept");
        }
    }
}

/// A masked text frame.
pub(super) fn text(payload: &[u8]) -> Vec<u8> {
    framed(OP_TEXT, payload)
}

pub(super) fn framed(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_client(&mut frame, opcode, [1, 2, 3, 4], payload);
    frame
}
