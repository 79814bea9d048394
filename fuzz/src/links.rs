//! Links to Redis: whatever comes from it and from a hub, in whatever pieces and whenever.
//!
//! The first byte says how long the pieces are; the rest is a script. No panic; at most one socket; `Up` and `Down` in turns,
//! with what is told of channels between them; each command that is answered is answered once, and nothing is left over when
//! the link is over.

use std::{collections::BTreeMap, io::ErrorKind, sync::Arc, time::Duration};

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use mahavishnu_core::{
    entropy::Seed,
    hub::{
        Append, AttendanceEvent, BusCommand, BusEvent, CallId, ChannelEvent, Heal, HealEntry,
        LinkEvent, NodeEvent, NodeId, Retention, VisitEvent, Writer,
    },
    protocol::{Epoch, Position},
    time::{Instant, Now},
};
use mahavishnu_links::{Action, Link, LinkConfig};
use uuid::Uuid;

/// Input: see above.
pub fn run(input: &[u8]) {
    let Some((pieces, rest)) = input.split_first() else { return };
    let Ok(script) = Vec::<Input>::arbitrary(&mut Unstructured::new(rest)) else { return };
    let mut rig = Rig::new(usize::from(*pieces).max(1));
    for input in script.iter().take(INPUTS_MAX) {
        rig.take(input);
        rig.drain();
    }
    rig.end();
}

#[derive(Debug, Arbitrary)]
enum Input {
    Connected,
    Failed,
    Eof,
    Resolved(bool),
    /// Bytes as they are.
    Bytes(Vec<u8>),
    /// Something that Redis could say.
    Say(Vec<Word>),
    /// What it says to everything that is done first, so that the link is up.
    Prepare,
    /// A message to a channel.
    Message(u8, Vec<u8>),
    Transmitted(u16),
    Wait(u16),
    Command(Want, u8),
    Full(bool),
    Stop,
}

#[derive(Debug, Arbitrary)]
enum Word {
    Text(Vec<u8>),
    Number(i64),
    Simple(u8),
    Error(u8),
    Array(u8),
    Push(u8),
    Map(u8),
    Null,
    Epoch,
    Made,
}

#[derive(Debug, Arbitrary)]
enum Want {
    Follow,
    Unfollow,
    Append(u32),
    Announce(u32),
    Read(u64),
    Heal(u64, u32, u64),
    Fork(Option<u64>),
    Beat(bool),
    Quit,
    Control,
    Tell,
}

struct Rig {
    link: Link,
    now: Now,
    pieces: usize,
    socket: bool,
    up: bool,
    last_call: u64,
    /// How often each command was answered that is to be.
    calls: BTreeMap<CallId, u32>,
}

impl Rig {
    fn new(pieces: usize) -> Self {
        let now = Now { mono: Instant::now(), unix: Duration::from_secs(1_770_000_000) };
        let mut config = LinkConfig::default();
        config.limits.commands_max = 20;
        config.limits.reply_bytes_max = 10_000;
        let link = Link::new(Arc::new(config), NodeId(1), 0, Seed::from(1), now);
        Self { link, now, pieces, socket: false, up: false, last_call: 0, calls: BTreeMap::new() }
    }

    fn take(&mut self, input: &Input) {
        let now = self.now;
        match input {
            Input::Connected => self.link.handle_connected(now),
            Input::Failed => self.link.handle_failed(now, ErrorKind::ConnectionReset),
            Input::Eof => self.link.handle_eof(now),
            Input::Resolved(found) => {
                let result = if *found { Ok(Vec::new()) } else { Err(ErrorKind::NotFound) };
                self.link.handle_resolved(now, result);
            }
            Input::Bytes(bytes) => self.say(bytes),
            Input::Say(words) => {
                let bytes: Vec<_> = words.iter().flat_map(Word::bytes).collect();
                self.say(&bytes);
            }
            Input::Prepare => {
                self.link.handle_connected(now);
                self.say(HELLO);
                let first: [&[u8]; 4] =
                    [b"+OK\r\n", b"+OK\r\n", b"*1\r\n+master\r\n", b"$1\r\n1\r\n"];
                self.say(&first.concat());
                self.say(&b"$40\r\n0123456789012345678901234567890123456789\r\n".repeat(15));
                self.say(&b"%0\r\n".repeat(5));
            }
            Input::Message(channel, message) => {
                let name = mahavishnu_links::redis::names::Names::new("mahavishnu", 0)
                    .live(&name(*channel));
                let mut bytes = format!(
                    ">3\r\n$8\r\nsmessage\r\n${}\r\n{name}\r\n${}\r\n",
                    name.len(),
                    message.len()
                )
                .into_bytes();
                bytes.extend_from_slice(message);
                bytes.extend_from_slice(b"\r\n");
                self.say(&bytes);
            }
            Input::Transmitted(count) => {
                let count = usize::from(*count).min(self.link.transmit().len());
                self.link.transmitted(count);
            }
            Input::Wait(millis) => self.wait(Duration::from_millis(u64::from(*millis))),
            Input::Command(want, channel) => self.command(want, *channel),
            Input::Full(full) => self.link.set_full(now, *full),
            Input::Stop => self.link.stop(now),
        }
    }

    fn say(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(self.pieces) {
            self.link.handle_bytes(self.now, &mut piece.to_vec());
        }
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now.mono + time;
        while let Some(at) = self.link.poll_timeout().filter(|at| *at <= end) {
            let step = at.saturating_duration_since(self.now.mono);
            self.now = self.now.plus(step);
            self.link.handle_timeout(self.now);
            self.drain();
        }
        let step = end.saturating_duration_since(self.now.mono);
        self.now = self.now.plus(step);
    }

    fn command(&mut self, want: &Want, channel: u8) {
        self.last_call += 1;
        let (id, channel) = (CallId(self.last_call), Arc::from(name(channel)));
        let epoch = Epoch::from_random(1);
        let at = |offset: u64| Position { epoch, offset };
        let retention = Retention {
            messages: 9,
            time: Duration::from_secs(9),
            position: Duration::from_secs(9),
        };
        let records = Bytes::from_static(b"records");
        let writer = Writer { node: NodeId(1), shard: 0 };
        let command = match want {
            Want::Follow => BusCommand::Follow { channel, epoch, retention },
            Want::Unfollow => BusCommand::Unfollow { channel },
            Want::Append(count) => BusCommand::Append(Box::new(Append {
                id,
                writer,
                channel,
                count: *count,
                records,
                known: None,
                again: None,
                epoch,
                retention,
                state: None,
                condition: None,
                basis: None,
                once: None,
                taken: None,
            })),
            Want::Announce(count) => BusCommand::Announce { id, channel, count: *count, records },
            Want::Read(after) => BusCommand::Read { id, channel, after: *after, bytes_max: 100 },
            Want::Heal(first, count, to) => {
                let entry =
                    HealEntry { first: *first, count: *count, records, made: Some((writer, id)) };
                let (entries, to) = (vec![entry], at(*to));
                BusCommand::Heal(Box::new(Heal {
                    id,
                    channel,
                    found: None,
                    to,
                    newest: Some(Uuid::from_u128(u128::from(*first))),
                    mark: *first,
                    entries,
                    document: None,
                    retention,
                }))
            }
            Want::Fork(found) => BusCommand::Fork { id, channel, found: found.map(at), epoch },
            Want::Beat(first) => {
                let (info, lease) = (Bytes::from_static(b"{}"), Duration::from_secs(9));
                BusCommand::Beat { node: NodeId(1), info, lease, first: *first }
            }
            Want::Quit => BusCommand::Quit { node: NodeId(1) },
            Want::Control => {
                BusCommand::Control { id, command: records, keep: Duration::from_secs(9) }
            }
            Want::Tell => BusCommand::Tell { message: records },
        };
        let answered = !matches!(
            want,
            Want::Follow | Want::Unfollow | Want::Beat(_) | Want::Quit | Want::Tell
        );
        if answered {
            self.calls.insert(id, 0);
        }
        self.link.handle_command(self.now, command);
    }

    fn drain(&mut self) {
        while let Some(event) = self.link.poll_event() {
            self.hear(&event);
        }
        while let Some(action) = self.link.poll_action() {
            let is_there = !matches!(action, Action::Close);
            assert_ne!(self.socket, is_there, "{action:?}");
            self.socket = is_there;
        }
    }

    fn hear(&mut self, event: &BusEvent) {
        match event {
            BusEvent::Link(LinkEvent::Up { .. }) => assert!(!std::mem::replace(&mut self.up, true)),
            BusEvent::Link(LinkEvent::Down) => assert!(std::mem::replace(&mut self.up, false)),
            // While it is away each beat has failed at once.
            BusEvent::Link(LinkEvent::State(_)) | BusEvent::Node(NodeEvent::BeatFailed) => {}
            BusEvent::Link(LinkEvent::Reconciled)
            | BusEvent::Channel(ChannelEvent::Standing { .. } | ChannelEvent::Live { .. })
            | BusEvent::Node(
                NodeEvent::Beat { .. }
                | NodeEvent::LeaseLost
                | NodeEvent::Control { .. }
                | NodeEvent::Told { .. },
            ) => assert!(self.up, "{event:?}"),
            BusEvent::Channel(
                ChannelEvent::Appended { id, .. }
                | ChannelEvent::Announced { id, .. }
                | ChannelEvent::Page { id, .. }
                | ChannelEvent::Healed { id, .. },
            )
            | BusEvent::Node(NodeEvent::Controlled { id, .. })
            | BusEvent::Visit(VisitEvent::Visited { id, .. } | VisitEvent::Visits { id, .. })
            | BusEvent::Attendance(
                AttendanceEvent::Attended { id, .. } | AttendanceEvent::Members { id, .. },
            )
            | BusEvent::Taken { id, .. }
            | BusEvent::Session { id, .. } => {
                *self.calls.get_mut(id).expect("a command that is answered") += 1;
            }
        }
    }

    fn end(&mut self) {
        self.link.stop(self.now);
        self.drain();
        self.wait(Duration::from_secs(20));
        self.drain();
        assert!(self.link.is_over() && !self.up && !self.socket);
        assert_eq!(self.link.stats().command_bytes, 0);
        assert!(self.calls.values().all(|times| *times == 1), "{:?}", self.calls);
    }
}

impl Word {
    fn bytes(&self) -> Vec<u8> {
        let text = match self {
            Self::Text(text) => {
                return [format!("${}\r\n", text.len()).as_bytes(), text, b"\r\n"].concat();
            }
            Self::Number(number) => format!(":{number}\r\n"),
            Self::Simple(which) => format!("+{}\r\n", pick(&["OK", "master", "PONG"], *which)),
            Self::Error(which) => format!("-{} x\r\n", pick(&ERRORS, *which)),
            Self::Array(count) => format!("*{}\r\n", count % 16),
            Self::Push(count) => format!(">{}\r\n", count % 16),
            Self::Map(count) => format!("%{}\r\n", count % 16),
            Self::Null => "_\r\n".into(),
            Self::Epoch => "$10\r\n0123456789\r\n".into(),
            Self::Made => "*4\r\n$2\r\nok\r\n$10\r\n0123456789\r\n:1\r\n:1\r\n".into(),
        };
        text.into_bytes()
    }
}

fn pick(words: &[&'static str], which: u8) -> &'static str {
    words[usize::from(which) % words.len()]
}

fn name(channel: u8) -> String {
    format!("c{}", channel % 4)
}

const ERRORS: [&str; 8] =
    ["NOSCRIPT", "BUSY", "READONLY", "OOM", "NOPERM", "WRONGTYPE", "ERR", "LOADING"];
const HELLO: &[u8] = b"%4\r\n+server\r\n+redis\r\n+version\r\n+7.0.15\r\n+mode\r\n+standalone\r\n+role\r\n+master\r\n";
/// Longer scripts find nothing that shorter ones do not.
const INPUTS_MAX: usize = 200;
