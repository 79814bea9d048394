//! Whole hubs, driven by hand: bytes in, bytes out, on a clock that the test sets.
#![expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]

mod adopted;
mod anew;
mod answering;
mod application;
mod authenticate;
mod bus;
mod cluster;
mod credit;
mod deadlines;
mod deflate;
mod delivery;
mod eviction;
mod folding;
mod membership;
mod memory;
mod nodes;
#[cfg(feature = "jwt")]
mod orders;
mod places;
mod presence;
mod proxied;
mod publishing;
mod recovery;
mod requests;
mod resume;
mod session_buddy;
mod session_records;
mod sessions;
mod shards;
mod slow;
mod spans;
mod state;
mod statistics;
mod storing;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "jwt")]
mod tokens;
mod trace;
#[cfg(feature = "jwt")]
mod tracking;
mod visitors;
mod welcomes;

use std::{cell::RefCell, collections::BTreeMap, io, rc::Rc, time::Duration};

use serde_json::{Value, json};

use super::*;
#[cfg(feature = "jwt")]
use crate::auth::{self, TokenSpec};
use crate::{
    entropy::Seed,
    protocol::Condition,
    reason::Reason,
    time::Instant,
    trace::Recorded,
    ws::{self, Flush, Opcode},
};

#[cfg(feature = "jwt")]
pub(super) const SECRET: &[u8] = b"a secret of at least thirty-two bytes, for tests";
pub(super) const START_UNIX: Duration = Duration::from_secs(1_770_000_000);

/// One client's end of a socket: what the server wrote, and how much more it may write.
#[derive(Debug, Default)]
struct Wire {
    written: Vec<u8>,
    writes: usize,
    /// Bytes that the socket still takes; `None`: any number.
    room: Option<usize>,
    closed: bool,
    fin: bool,
}

/// A client: which hub, which connection, what came.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) shard: usize,
    pub(super) conn: ConnId,
    wire: Rc<RefCell<Wire>>,
}

/// Some hubs of one process, with their clients.
pub(super) struct Rig {
    pub(super) hubs: Vec<Recorded>,
    pub(super) now: Now,
    wires: BTreeMap<ConnId, Rc<RefCell<Wire>>>,
    /// What the hubs asked the application.
    pub(super) outputs: Vec<Output>,
    /// What each hub has sent its bus.
    pub(super) commands: Vec<(usize, BusCommand)>,
    /// A hub that gets no turn, and what the others sent it.
    pub(super) stalled: Option<usize>,
    held: Vec<(usize, ShardId, Vec<ShardMessage>)>,
}

impl Rig {
    pub(super) fn new(shards: u16, config: Config) -> Self {
        let now = Now { mono: Instant::now(), unix: START_UNIX };
        Self::seeded(shards, config, 7, now)
    }

    /// The same from another seed and another moment.
    pub(super) fn seeded(shards: u16, config: Config, seed: u64, now: Now) -> Self {
        let config = Arc::new(config);
        let hub = |shard| {
            let place = Place { shard: ShardId(shard), shards, seed: Seed::from(seed) };
            Recorded::new(Hub::new(config.clone(), place, now))
        };
        Self {
            hubs: (0..shards).map(hub).collect(),
            now,
            wires: BTreeMap::new(),
            outputs: Vec::new(),
            commands: Vec::new(),
            stalled: None,
            held: Vec::new(),
        }
    }

    pub(super) fn alone() -> Self {
        Self::alone_with(Config::default())
    }

    pub(super) fn alone_with(config: Config) -> Self {
        Self::new(1, config)
    }

    /// A socket that has sent nothing yet.
    pub(super) fn socket(&mut self, shard: usize) -> Client {
        self.socket_of(shard, Listener::Main)
    }

    pub(super) fn socket_of(&mut self, shard: usize, listener: Listener) -> Client {
        self.socket_from(shard, Peer { address: ([127, 0, 0, 1], 50_000).into(), listener })
    }

    pub(super) fn socket_from(&mut self, shard: usize, peer: Peer) -> Client {
        let conn = self.hubs[shard].handle_accept(self.now, peer).unwrap();
        let wire = Rc::new(RefCell::new(Wire::default()));
        self.wires.insert(conn, wire.clone());
        Client { shard, conn, wire }
    }

    /// A client through the handshake. Its first message is still to be taken.
    pub(super) fn connect_with(&mut self, shard: usize, headers: &str) -> Client {
        self.connect_to(shard, "/", headers)
    }

    /// The same on another path.
    pub(super) fn connect_to(&mut self, shard: usize, path: &str, headers: &str) -> Client {
        let client = self.socket(shard);
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
        );
        self.bytes(&client, head.as_bytes());
        let answer = client.take_head();
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        client
    }

    /// A client that has been welcomed.
    pub(super) fn connect(&mut self, shard: usize) -> Client {
        let client = self.connect_with(shard, "");
        assert_eq!(client.take()[0]["event"], "session.created");
        client
    }

    /// Bytes of a client, and everything that follows from them.
    pub(super) fn bytes(&mut self, client: &Client, bytes: &[u8]) {
        self.hubs[client.shard].handle_bytes(self.now, client.conn, &mut bytes.to_vec());
        self.run();
    }

    pub(super) fn send(&mut self, client: &Client, message: &Value) {
        self.bytes(client, &frame(message));
    }

    /// A request; its answer is returned, other messages are left out.
    pub(super) fn request(&mut self, client: &Client, event: &str, data: &Value) -> Value {
        self.send(client, &json!({"type": "request", "event": event, "id": "q", "data": data}));
        client
            .take()
            .into_iter()
            .find(|message| message["correlation_id"] == "q")
            .expect("an answer")
    }

    pub(super) fn subscribe(&mut self, client: &Client, channel: &str) {
        let answer = self.request(client, "subscribe", &json!({"channel": channel}));
        assert_eq!(answer["data"], json!({"status": "subscribed", "channel": channel}));
    }

    /// Broadcasts as the application does; the turn is not run.
    pub(super) fn publish(&mut self, shard: usize, channel: &str, n: u64) {
        let data = json!({"n": n}).to_string();
        let publication = Publication::new(channel, "e", data);
        self.hubs[shard].handle_command(self.now, Command::Publish { id: None, publication });
    }

    /// Time passes.
    pub(super) fn wait(&mut self, step: Duration) {
        self.now = self.now.plus(step);
        for hub in &mut self.hubs {
            hub.handle_timeout(self.now);
            // A handshake that waits for its turn is due at once.
            let next = hub.poll_timeout().filter(|next| next.reason != TimeoutReason::Handshakes);
            assert!(next.is_none_or(|next| next.at > self.now.mono), "what was due is still due");
        }
        self.run();
    }

    /// Turns, until no hub has anything to do.
    pub(super) fn run(&mut self) {
        loop {
            let mut mail = std::mem::take(&mut self.held);
            let stalled = self.stalled;
            for index in (0..self.hubs.len()).filter(|index| stalled != Some(*index)) {
                mail.extend(self.turn(index));
            }
            let (held, mail): (Vec<_>, Vec<_>) =
                mail.into_iter().partition(|(_, to, _)| stalled == Some(usize::from(to.0)));
            self.held = held;
            if mail.is_empty() {
                break;
            }
            for (from, to, batch) in mail {
                self.hubs[to.0 as usize].handle_shard(self.now, ShardId(from as u16), batch);
            }
        }
    }

    /// One turn of one hub. What it sent the others, with its own number.
    pub(super) fn turn(&mut self, index: usize) -> Vec<(usize, ShardId, Vec<ShardMessage>)> {
        let (hub, mut mail) = (&mut self.hubs[index], Vec::new());
        loop {
            while let Some(output) = hub.poll_output(self.now) {
                if let Output::Shard { to, batch } = output {
                    mail.push((index, to, batch));
                } else if let Output::Bus(command) = output {
                    self.commands.push((index, command));
                } else {
                    self.outputs.push(output);
                }
            }
            let Some(conn) = hub.poll_dirty() else { break };
            let wire = self.wires[&conn].clone();
            match hub.flush(self.now, conn, &mut Sink(wire.clone())) {
                Flush::Drained | Flush::Blocked => {}
                Flush::Fin => wire.borrow_mut().fin = true,
                Flush::Closed => wire.borrow_mut().closed = true,
            }
        }
        hub.end_turn(self.now);
        mail
    }

    /// Bytes that wait for the hub that gets no turn.
    pub(super) fn held_bytes(&self) -> usize {
        self.held.iter().flat_map(|(_, _, batch)| batch).map(ShardMessage::weight).sum()
    }

    /// A channel that is at home in `shard`.
    pub(super) fn channel_of(&self, shard: u16) -> String {
        (0..)
            .map(|n| format!("c{n}"))
            .find(|name| self.hubs[0].hub().homes.of(name) == ShardId(shard))
            .unwrap()
    }

    /// The peer hangs up.
    pub(super) fn hang_up(&mut self, client: &Client) {
        self.hubs[client.shard].handle_eof(self.now, client.conn);
        self.run();
    }

    /// The socket takes `room` bytes more, or any number.
    pub(super) fn set_room(&mut self, client: &Client, room: Option<usize>) {
        client.wire.borrow_mut().room = room;
        // As an adapter does when a blocked socket becomes writable.
        let _ =
            self.hubs[client.shard].flush(self.now, client.conn, &mut Sink(client.wire.clone()));
        self.run();
    }

    /// Everything that holds memory for clients is empty.
    pub(super) fn assert_empty(&self) {
        for hub in &self.hubs {
            assert_eq!(hub.hub().sockets(), 0);
            assert_eq!(hub.hub().channels.len(), 0);
            assert_eq!(hub.hub().errands.len(), 0);
            assert_eq!(hub.hub().questions.len(), 0);
            assert_eq!(hub.hub().census().open, 0);
        }
    }
}

impl Client {
    /// The messages that came since the last look.
    pub(super) fn take(&self) -> Vec<Value> {
        self.take_frames()
            .into_iter()
            .filter(|(opcode, _)| *opcode == 1)
            .map(|(_, payload)| serde_json::from_slice(&payload).unwrap())
            .collect()
    }

    /// `data.n` of the events that came.
    pub(super) fn take_numbers(&self) -> Vec<u64> {
        self.take().iter().filter_map(|message| message["data"]["n"].as_u64()).collect()
    }

    /// Close code and text, if a close frame came.
    pub(super) fn take_close(&self) -> Option<(u16, String)> {
        let (_, payload) = self.take_frames().into_iter().find(|(opcode, _)| *opcode == 8)?;
        let text = String::from_utf8(payload[2..].to_vec()).unwrap();
        Some((u16::from_be_bytes([payload[0], payload[1]]), text))
    }

    /// Frames that came whole: opcode and payload.
    pub(super) fn take_frames(&self) -> Vec<(u8, Vec<u8>)> {
        let mut wire = self.wire.borrow_mut();
        let mut frames = Vec::new();
        loop {
            let bytes = &wire.written;
            let Some(&short) = bytes.get(1) else { break };
            let (head, len) = match short {
                126 if bytes.len() >= 4 => (4, u16::from_be_bytes([bytes[2], bytes[3]]) as usize),
                127 if bytes.len() >= 10 => {
                    (10, u64::from_be_bytes(bytes[2..10].try_into().unwrap()) as usize)
                }
                0..=125 => (2, short as usize),
                _ => break,
            };
            if bytes.len() < head + len {
                break;
            }
            frames.push((bytes[0] & 0x0f, bytes[head..head + len].to_vec()));
            wire.written.drain(..head + len);
        }
        frames
    }

    /// An HTTP head, up to and with its empty line.
    pub(super) fn take_head(&self) -> String {
        let mut wire = self.wire.borrow_mut();
        let text = String::from_utf8_lossy(&wire.written).into_owned();
        let end = text.find("\r\n\r\n").expect("a head") + 4;
        wire.written.drain(..end);
        text[..end].to_owned()
    }

    /// Everything that came, as text.
    pub(super) fn take_text(&self) -> String {
        String::from_utf8(std::mem::take(&mut self.wire.borrow_mut().written)).unwrap()
    }

    /// Everything that came, left where it is.
    pub(super) fn peek(&self) -> Vec<u8> {
        self.wire.borrow().written.clone()
    }

    pub(super) fn writes(&self) -> usize {
        self.wire.borrow().writes
    }

    pub(super) fn is_closed(&self) -> bool {
        self.wire.borrow().closed
    }

    pub(super) fn is_ended(&self) -> bool {
        self.wire.borrow().fin || self.is_closed()
    }
}

struct Sink(Rc<RefCell<Wire>>);

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        let count = bytes.len().min(wire.room.unwrap_or(usize::MAX));
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        wire.room = wire.room.map(|room| room - count);
        wire.written.extend_from_slice(&bytes[..count]);
        wire.writes += 1;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A message as a client sends it.
pub(super) fn frame(message: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    ws::encode_frame(&mut bytes, Opcode::Text, message.to_string().as_bytes(), Some([1, 2, 3, 4]));
    bytes
}

/// A token that is good for an hour.
#[cfg(feature = "jwt")]
pub(super) fn token(user: &str, permissions: &[&str]) -> String {
    let spec = TokenSpec {
        user: Some(user),
        permissions,
        issued_at: START_UNIX,
        expires_in: Some(Duration::from_secs(3600)),
        ..TokenSpec::default()
    };
    auth::issue(SECRET, &spec).unwrap()
}

/// A configuration that demands tokens.
pub(super) fn with_auth() -> Config {
    let mut config = Config::default();
    config.auth.required = true;
    #[cfg(feature = "jwt")]
    config.auth.keys.add_secret(None, SECRET).unwrap();
    config
}

/// The configuration without the limit on messages per second.
pub(super) fn unlimited() -> Config {
    let mut config = Config::default();
    config.limits.connections.messages_per_second = None;
    config
}
