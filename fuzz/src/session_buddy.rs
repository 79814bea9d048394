//! Session-Buddy's protocol: messages against a model over [`serde_json::Value`], figures of skills, and a hub that speaks it
//! with two clients.
//!
//! An input is lines of text, as a script: a line is a message, of one client and the other in turns. One that begins with `=`
//! is a document that is published, an empty one a second that passes. If the first line is `auth`, clients have to
//! authenticate, and none of them can.

use std::{sync::Arc, time::Duration};

use mahavishnu_core::{
    config::{Config, Dialect, Dialects},
    entropy::Seed,
    hub::{Command, ConnId, Hub, Listener, Peer, Place, Publication, PublicationOptions},
    protocol::session_buddy::{
        ANOMALIES_MAX, ANOMALY, Asked, CHANNEL, METRICS, NAME_BYTES_MAX, Skills, TOP_SKILLS_MAX,
    },
    time::Now,
};
use serde_json::{Value, json};

use crate::{
    envelope::{Read, read},
    trace::{START_UNIX, start},
};

/// Input: lines.
pub fn run(input: &[u8]) {
    let lines: Vec<&[u8]> = input.split(|byte| *byte == b'\n').take(LINES_MAX).collect();
    let (authenticates, lines) = match lines.split_first() {
        Some((first, rest)) if *first == b"auth" => (true, rest),
        _ => (false, &lines[..]),
    };
    let mut world = World::new(authenticates);
    for (place, line) in lines.iter().enumerate() {
        decode(line);
        figures(line);
        match line.split_first() {
            None => world.second(),
            Some((b'=', document)) => world.publish(document),
            Some(_) if authenticates => world.refuse(place % 2, line),
            Some(_) => world.message(place % 2, line),
        }
    }
}

/// A message as the model reads it.
#[derive(Debug, PartialEq)]
enum Meant {
    Subscribe(Option<String>),
    Unsubscribe,
    Ping,
    Token(Option<String>),
    Nothing,
}

/// What a message means; `None`: the model does not know.
fn meant(line: &[u8]) -> Option<Option<Meant>> {
    let value = match read(line) {
        Read::Value(value) => value,
        Read::NotJson => return Some(None),
        Read::Stricter => return None,
    };
    let Value::Object(object) = value else { return Some(None) };
    let string = |name: &str| object.get(name).and_then(Value::as_str);
    Some(match (object.get("type"), string("type")) {
        (_, Some("subscribe")) => match object.get("skill").or_else(|| object.get("skill_name")) {
            None | Some(Value::Null) => Some(Meant::Subscribe(None)),
            Some(Value::String(skill)) if skill.len() <= NAME_BYTES_MAX => {
                Some(Meant::Subscribe(Some(skill.clone())))
            }
            Some(_) => None,
        },
        (_, Some("unsubscribe")) => Some(Meant::Unsubscribe),
        (_, Some("ping")) => Some(Meant::Ping),
        (None, _) if object.contains_key("token") => {
            let token = string("token").filter(|token| !token.is_empty());
            Some(Meant::Token(token.map(str::to_owned)))
        }
        _ => Some(Meant::Nothing),
    })
}

fn decode(line: &[u8]) {
    let asked = Asked::decode(line);
    let first = Asked::first(line);
    let Some(expected) = meant(line) else { return };
    let text = |text: Option<std::borrow::Cow<'_, str>>| text.map(std::borrow::Cow::into_owned);
    if let Ok(Asked::Token(token)) = &asked {
        assert_eq!(first.as_ref(), Ok(token), "a token is the first message's");
    }
    let asked = asked.ok().map(|asked| match asked {
        Asked::Subscribe { skill } => Meant::Subscribe(text(skill)),
        Asked::Unsubscribe => Meant::Unsubscribe,
        Asked::Ping => Meant::Ping,
        Asked::Token(token) => Meant::Token(text(token)),
        Asked::Other => Meant::Nothing,
    });
    assert_eq!(asked, expected, "{}", line.escape_ascii());
}

/// Whatever is published: a document that was made of it reads back, and what changes nothing has said so.
fn figures(line: &[u8]) {
    let Ok(text) = std::str::from_utf8(line) else { return };
    let mut skills = Skills::read(text.trim_start_matches('=')).unwrap_or_default();
    for event in [METRICS, ANOMALY] {
        let before = skills.clone();
        if !skills.fold(event, text, START_UNIX) {
            assert_eq!(skills, before, "{event} {text}");
        }
    }
    let json = skills.to_json();
    let value: Value = serde_json::from_str(&json).expect("a document is JSON");
    assert!(value["anomalies"].as_array().is_some_and(|all| all.len() <= ANOMALIES_MAX));
    assert_eq!(Skills::read(&json), Some(skills), "{json}");
}

/// A hub with two clients.
struct World {
    hub: Hub,
    now: Now,
    clients: Vec<Client>,
    authenticates: bool,
    document: Skills,
}

struct Client {
    conn: ConnId,
    skill: Option<String>,
    written: Vec<u8>,
    closed: bool,
}

impl World {
    fn new(authenticates: bool) -> Self {
        let mut config = Config {
            dialects: Dialects { default: Dialect::SessionBuddy, paths: Vec::new() },
            ..Config::default()
        };
        config.auth.required = authenticates;
        config.limits.connections.messages_per_second = None;
        config.limits.wire.ping_interval = None;
        config.limits.wire.connection_timeout = None;
        config.limits.auth.auth_timeout = Duration::from_secs(3600);
        let now = start();
        let hub = Hub::new(Arc::new(config), Place::alone(Seed::from(1)), now);
        let mut world =
            Self { hub, now, clients: Vec::new(), authenticates, document: Skills::default() };
        for _ in 0..2 {
            world.connect(authenticates);
        }
        world
    }

    fn connect(&mut self, authenticates: bool) {
        let address = "192.0.2.1:1".parse().expect("an address");
        let peer = Peer { address, listener: Listener::Main };
        let conn = self.hub.handle_accept(self.now, peer).expect("room");
        let client = Client { conn, skill: None, written: Vec::new(), closed: false };
        self.clients.push(client);
        self.hub.handle_bytes(self.now, conn, &mut HANDSHAKE.to_vec());
        self.run();
        let client = self.clients.last_mut().expect("the client");
        let end = client.written.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        client.written.drain(..end.expect("an answer") + 4);
        if !authenticates {
            let greeting = client.take();
            assert_eq!(greeting.len(), 1);
            assert_eq!(greeting[0]["type"], "connected");
        }
    }

    fn message(&mut self, place: usize, line: &[u8]) {
        self.send(place, line);
        let client = &mut self.clients[place];
        let answers = client.take();
        assert!(!client.closed, "silence is no close");
        let Some(meant) = meant(line) else { return self.forget(place) };
        let expected = match meant {
            Some(Meant::Subscribe(skill)) => {
                client.skill = skill.clone().filter(|skill| !skill.is_empty());
                vec![json!({ "type": "subscription_confirmed", "skill": skill })]
            }
            Some(Meant::Unsubscribe) => {
                client.skill = None;
                Vec::new()
            }
            Some(Meant::Ping) => vec![json!({ "type": "pong" })],
            Some(Meant::Token(_) | Meant::Nothing) | None => Vec::new(),
        };
        let answers: Vec<Value> = answers.into_iter().map(without_time).collect();
        assert_eq!(answers, expected, "{}", line.escape_ascii());
    }

    /// The model does not know what a client is told of from now on.
    fn forget(&mut self, place: usize) {
        self.send(place, br#"{"type":"unsubscribe"}"#);
        let client = &mut self.clients[place];
        assert!(client.take().is_empty());
        client.skill = None;
    }

    /// A message of a client that has not authenticated.
    fn refuse(&mut self, place: usize, line: &[u8]) {
        let before = self.clients[place].closed;
        self.send(place, line);
        let client = &mut self.clients[place];
        assert!(client.take().is_empty());
        assert!(client.closed || before);
    }

    fn send(&mut self, place: usize, line: &[u8]) {
        let mut frame = Vec::new();
        let opcode = mahavishnu_core::ws::Opcode::Binary;
        mahavishnu_core::ws::encode_frame(&mut frame, opcode, line, Some([7, 1, 2, 3]));
        self.hub.handle_bytes(self.now, self.clients[place].conn, &mut frame);
        self.run();
    }

    fn publish(&mut self, document: &[u8]) {
        let text =
            std::str::from_utf8(document).ok().filter(|text| text.len() <= DOCUMENT_BYTES_MAX);
        let object = text.filter(|text| {
            serde_json::from_str::<Value>(text).is_ok_and(|value| value.is_object())
        });
        let Some(text) = object else { return };
        let state = Some(document.to_vec().into());
        let options = PublicationOptions { state, ..PublicationOptions::default() };
        let publication = Publication {
            options: Some(Box::new(options)),
            ..Publication::new(CHANNEL, "skill.snapshot", "{}")
        };
        self.hub.handle_command(self.now, Command::Publish { id: None, publication });
        self.run();
        self.document = Skills::read(text).expect("an object");
    }

    fn second(&mut self) {
        self.now = self.now.plus(Duration::from_secs(1));
        self.hub.handle_timeout(self.now);
        self.run();
        let top: Vec<String> =
            self.document.top().iter().map(|skill| skill.name().to_owned()).collect();
        for client in &mut self.clients {
            let updates = client.take();
            // Who has not authenticated is told nothing.
            if client.closed || self.authenticates {
                assert!(updates.is_empty());
                continue;
            }
            let expected: Vec<&String> = match &client.skill {
                None => top.iter().collect(),
                Some(skill) => top.iter().filter(|name| *name == skill).collect(),
            };
            if client.skill.is_some() && expected.is_empty() {
                assert!(updates.is_empty(), "{updates:?}");
                continue;
            }
            let [update] = &updates[..] else { panic!("{updates:?}") };
            assert_eq!(update["type"], "metrics_update");
            let told = update["data"]["top_skills"].as_array().expect("a list");
            assert!(told.len() <= TOP_SKILLS_MAX);
            let told: Vec<&str> =
                told.iter().filter_map(|skill| skill["skill_name"].as_str()).collect();
            assert_eq!(told, expected);
            let anomalies = update["data"]["anomalies"].as_array().expect("a list").len();
            assert!(anomalies == 0 || client.skill.is_none() && anomalies <= ANOMALIES_MAX);
        }
    }

    fn run(&mut self) {
        loop {
            while self.hub.poll_output(self.now).is_some() {}
            let Some(conn) = self.hub.poll_dirty() else { break };
            let client = self.clients.iter_mut().find(|client| client.conn == conn);
            let _ = self.hub.flush(self.now, conn, &mut client.expect("a client").written);
        }
        self.hub.end_turn(self.now);
    }
}

impl Client {
    /// The messages that came. A close frame has to say why.
    fn take(&mut self) -> Vec<Value> {
        let mut messages = Vec::new();
        let mut bytes = &std::mem::take(&mut self.written)[..];
        while let [first, short, rest @ ..] = bytes {
            let (len, rest) = match (*short, rest) {
                (126, [high, low, rest @ ..]) => {
                    (usize::from(*high) << 8 | usize::from(*low), rest)
                }
                (short, rest) => (usize::from(short), rest),
            };
            let (payload, rest) = rest.split_at(len);
            match first & 0x0f {
                1 => messages.push(serde_json::from_slice(payload).expect("a message is JSON")),
                8 => {
                    assert_eq!(payload, b"\x0f\xa1Authentication failed");
                    self.closed = true;
                }
                opcode => panic!("a frame with opcode {opcode}"),
            }
            bytes = rest;
        }
        messages
    }
}

fn without_time(mut message: Value) -> Value {
    if let Some(object) = message.as_object_mut() {
        object.remove("timestamp");
    }
    message
}

const HANDSHAKE: &[u8] =
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Longer ones are refused: the default of `state_bytes_max`.
const DOCUMENT_BYTES_MAX: usize = 64 * 1024;

/// Longer scripts are read as far as this.
const LINES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn talks_that_are_cut_and_damaged_are_answered_as_the_model_says() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/session_buddy");
        for entry in fs::read_dir(corpus).expect("a corpus") {
            let talk = fs::read(entry.expect("an entry").path()).expect("a file");
            for at in 0..talk.len() {
                run(&talk[..at]);
                for value in *b"\"\\{}\n0\xff" {
                    let mut damaged = talk.clone();
                    damaged[at] = value;
                    run(&damaged);
                }
            }
        }
    }
}
