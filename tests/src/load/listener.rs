//! One who subscribes, and again whenever its connection ends.

use std::{
    hash::{BuildHasher, RandomState},
    net::{SocketAddr, TcpStream},
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tungstenite::{Error, Message, WebSocket};

use super::Shared;
use crate::stream;

/// What a listener has had, in order.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) channel: String,
    /// Whether it asked for positions.
    pub(super) positions: bool,
    pub(super) events: Vec<Got>,
    /// What it was told that it does not get.
    pub(super) told: Vec<Told>,
    /// Times that it had to connect again.
    pub(super) reconnects: usize,
    /// When it connected.
    pub(super) connected: Vec<Instant>,
    /// Events of somebody else.
    pub(super) foreign: usize,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Got {
    /// On which of its connections.
    pub(super) connection: usize,
    pub(super) publisher: usize,
    pub(super) n: u64,
    pub(super) id: String,
    /// With positions.
    pub(super) position: Option<(String, u64)>,
    /// When it came.
    pub(super) at: Instant,
}

/// It was told that something is missing: so many events, if that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) lost: Option<u64>,
    pub(super) why: String,
}

/// Why a connection is left.
enum End {
    /// There is nothing more to listen for.
    Over,
    /// It ended, or is of no use.
    Lost,
}

struct Listener<'s> {
    shared: &'s Shared,
    heard: Heard,
    /// The last event: epoch, number, id.
    last: Option<(String, u64, Option<String>)>,
}

pub(super) fn listen(shared: &Shared, entry: usize, channel: &str, positions: bool) -> Heard {
    let heard = Heard { channel: channel.to_owned(), positions, ..Heard::default() };
    let mut this = Listener { shared, heard, last: None };
    let mut entry = entry;
    while !shared.over.load(Ordering::SeqCst) {
        match this.connect(shared.entries[entry]) {
            Some(End::Over) => break,
            Some(End::Lost) => this.heard.reconnects += 1,
            None => {}
        }
        entry = (entry + 1) % shared.entries.len();
        std::thread::sleep(jitter(shared.back_off));
    }
    this.heard
}

impl Listener<'_> {
    /// Listens at one node for as long as that goes; `None` if it did not begin.
    fn connect(&mut self, node: SocketAddr) -> Option<End> {
        let stream = stream::connect(None, node, None).ok()?;
        let (mut socket, _) = tungstenite::client(format!("ws://{node}/"), stream).ok()?;
        socket.get_mut().set_read_timeout(Some(POLL)).expect("not zero");
        self.heard.connected.push(Instant::now());
        self.shared.connects.fetch_add(1, Ordering::SeqCst);
        loop {
            match self.subscribe(&mut socket) {
                Ok(true) => break,
                Ok(false) => std::thread::sleep(Duration::from_millis(100)),
                Err(end) => return Some(end),
            }
        }
        self.shared.listening.fetch_add(1, Ordering::SeqCst);
        let end = loop {
            match self.next(&mut socket) {
                Ok(message) => self.take(&message),
                Err(end) => break end,
            }
        };
        self.shared.listening.fetch_sub(1, Ordering::SeqCst);
        Some(end)
    }

    /// Whether it is subscribed. If not, it is to be tried again.
    fn subscribe(&mut self, socket: &mut WebSocket<TcpStream>) -> Result<bool, End> {
        let mut data = json!({ "channel": self.heard.channel });
        if self.heard.positions {
            data["positions"] = json!(true);
        }
        if let Some((epoch, offset, id)) = &self.last {
            data["recover"] = json!({ "epoch": epoch, "offset": offset });
            if let Some(id) = id {
                data["recover"]["id"] = json!(id);
            }
            // Either everything that was missed, or to be told so.
            data["strict"] = json!(true);
        }
        let request = json!({ "type": "request", "id": "s", "event": "subscribe", "data": data });
        socket.send(Message::text(request.to_string())).map_err(|_| End::Lost)?;
        let asked = Instant::now();
        let answer = loop {
            let message = self.next(socket)?;
            if message["correlation_id"] == "s" {
                break message;
            }
            if asked.elapsed() > Duration::from_secs(30) {
                return Err(End::Lost);
            }
        };
        let data = &answer["data"];
        if answer["type"] != "error" {
            if self.last.is_none() && self.heard.positions {
                let epoch = data["epoch"].as_str().expect("a position").to_owned();
                self.last = Some((epoch, data["offset"].as_u64().expect("a position"), None));
            }
            return Ok(true);
        }
        let reason = data["reason"].as_str().unwrap_or_default();
        if answer["error_code"] == "NOT_RECOVERED" && reason != "unavailable" {
            self.heard.told.push(Told { lost: None, why: format!("not recovered: {reason}") });
            self.last = None;
        }
        Ok(false)
    }

    fn take(&mut self, message: &Value) {
        let data = &message["data"];
        if message["event"] == "channel.gap" {
            let why = data["reason"].as_str().unwrap_or("gap").to_owned();
            self.heard.told.push(Told { lost: data["lost"].as_u64(), why });
            if let (Some(epoch), Some(offset)) = (data["epoch"].as_str(), data["offset"].as_u64()) {
                self.last = Some((epoch.to_owned(), offset, None));
            }
        }
        if message["event"] != self.shared.event {
            self.heard.foreign += usize::from(data["publisher"].is_u64());
            return;
        }
        let id = message["id"].as_str().expect("events have ids").to_owned();
        let position = message["offset"].as_u64().and_then(|offset| {
            let (epoch, last, last_id) = self.last.as_mut()?;
            (*last, *last_id) = (offset, Some(id.clone()));
            Some((epoch.clone(), offset))
        });
        if self.heard.positions {
            assert!(position.is_some(), "no position: {message}");
            self.shared.heard.fetch_add(1, Ordering::SeqCst);
        }
        self.heard.events.push(Got {
            connection: self.heard.reconnects,
            publisher: data["publisher"].as_u64().and_then(|it| it.try_into().ok()).expect("ours"),
            n: data["n"].as_u64().expect("ours"),
            id,
            position,
            at: Instant::now(),
        });
    }

    /// What comes next.
    fn next(&self, socket: &mut WebSocket<TcpStream>) -> Result<Value, End> {
        loop {
            match socket.read() {
                Ok(Message::Text(text)) => return Ok(serde_json::from_str(&text).expect("JSON")),
                Ok(Message::Close(_)) => return Err(End::Lost),
                Ok(_) => {}
                Err(Error::Io(error)) if stream::is_timeout(&error) => {
                    if self.shared.over.load(Ordering::SeqCst) {
                        return Err(End::Over);
                    }
                }
                Err(_) => return Err(End::Lost),
            }
        }
    }
}

/// A random time, evenly up to this.
fn jitter(time: Duration) -> Duration {
    let drawn = RandomState::new().hash_one(Instant::now());
    time.mul_f64((drawn >> 11) as f64 / (1_u64 << 53) as f64)
}

/// How often it is looked whether it is over.
const POLL: Duration = Duration::from_millis(500);
