//! How the members of a room talk to each server.

use std::str::FromStr;

use mahavishnu_bench_peers::Result;
use serde_json::{Value, json};

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Objects of the application's own, as on axum and wse.
    Plain,
    /// Socket.IO 5 over Engine.IO 4, over WebSocket from the beginning.
    Socketio,
    /// The requests and events of this library.
    Mahavishnu,
    /// The same where no application stands between: members subscribe and publish by themselves.
    Channels,
}

impl FromStr for Dialect {
    type Err = String;

    fn from_str(word: &str) -> std::result::Result<Self, String> {
        match word {
            "plain" => Ok(Self::Plain),
            "socketio" => Ok(Self::Socketio),
            "mahavishnu" => Ok(Self::Mahavishnu),
            "channels" => Ok(Self::Channels),
            other => Err(format!("no dialect {other}: plain, socketio, mahavishnu or channels")),
        }
    }
}

/// One step on the way into a room.
pub struct Step {
    /// What has to come first; nothing if empty.
    pub after: String,
    /// What is sent then; nothing if empty.
    pub send: String,
}

impl Dialect {
    /// Path and query of the handshake.
    pub fn target(self, name: &str) -> String {
        match self {
            Self::Plain | Self::Channels => "/".into(),
            Self::Socketio => "/socket.io/?EIO=4&transport=websocket".into(),
            Self::Mahavishnu => format!("/?name={name}"),
        }
    }

    /// The way into a room; at its end the member has heard that it has come.
    pub fn entrance(self, room: &str, name: &str) -> Vec<Step> {
        let step = |after: &str, send: String| Step { after: after.into(), send };
        let wish = json!({ "room": room, "name": name });
        match self {
            Self::Plain => vec![
                step("", json!({ "join": wish }).to_string()),
                step(&format!("{{\"joined\":\"{name}\"}}"), String::new()),
            ],
            Self::Socketio => vec![
                step("0{", "40".into()),
                step("40{", format!("42{}", json!(["join", wish]))),
                step(&format!("42[\"joined\",\"{name}\"]"), String::new()),
            ],
            Self::Mahavishnu => vec![
                step("session.created", request("join", &json!({ "room": room }))),
                step(&format!("\"name\":\"{name}\""), String::new()),
            ],
            Self::Channels => vec![
                step("session.created", request("subscribe", &json!({ "channel": room }))),
                step("\"subscribed\"", String::new()),
            ],
        }
    }

    /// Says something.
    pub fn say(self, room: &str, name: &str, text: &str) -> String {
        match self {
            Self::Plain => json!({ "say": text }).to_string(),
            Self::Socketio => format!("42{}", json!(["say", text])),
            Self::Mahavishnu => request("say", &json!({ "text": text })),
            Self::Channels => {
                let said = json!({ "name": name, "text": text });
                request("publish", &json!({ "channel": room, "event": "said", "data": said }))
            }
        }
    }

    /// Asks who is there; `None` where nobody can.
    pub fn who(self) -> Option<String> {
        Some(match self {
            Self::Channels => return None,
            Self::Plain => json!({ "who": {} }).to_string(),
            Self::Socketio => "42[\"who\"]".into(),
            Self::Mahavishnu => request("who", &json!({})),
        })
    }

    /// How many are there, if that is what a message says.
    pub fn members(self, message: &str) -> Option<usize> {
        let names = match self {
            Self::Channels => return None,
            Self::Plain => parse(message)?.get("members")?.clone(),
            Self::Socketio => parse(message.strip_prefix("42[\"members\",")?.strip_suffix(']')?)?,
            Self::Mahavishnu => parse(message)?.get("data")?.get("members")?.clone(),
        };
        let mut names: Vec<_> = names.as_array()?.iter().filter_map(Value::as_str).collect();
        names.sort_unstable();
        names.dedup();
        Some(names.len())
    }

    /// What has to be answered at once: Engine.IO's ping.
    pub fn answer(self, message: &[u8]) -> Option<&'static str> {
        (self == Self::Socketio && message == b"2").then_some("3")
    }
}

fn parse(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}

fn request(event: &str, data: &Value) -> String {
    json!({ "type": "request", "event": event, "id": "1", "data": data }).to_string()
}

/// Asks the server `direct` for texts to everybody.
pub fn go(how: &str, first: u64, texts: u64, bytes: usize) -> String {
    let text = text(0, bytes);
    let filler = text.get(DIGITS + 2..).unwrap_or_default();
    request("go", &json!({ "how": how, "first": first, "rounds": texts, "filler": filler }))
}

/// Where the number of a text begins: no server writes this into anything else.
const MARK: &[u8] = b"\"#";
const DIGITS: usize = 12;

/// A text of `bytes` bytes, with its number at the front.
pub fn text(number: u64, bytes: usize) -> String {
    let mut text = format!("#{number:0DIGITS$} ");
    let lorem = "the quick brown fox jumps over the lazy dog and then does it again ";
    text.extend(lorem.chars().cycle().take(bytes.saturating_sub(text.len())));
    text
}

/// The number of the text in a message, if there is one.
pub fn number(message: &[u8]) -> Result<Option<u64>> {
    let Some(at) = memchr::memmem::find(message, MARK) else { return Ok(None) };
    let from = at + MARK.len();
    let digits = message.get(from..from + DIGITS).ok_or("a text that was cut")?;
    Ok(Some(std::str::from_utf8(digits)?.parse()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_its_length_and_its_number() {
        let text = text(42, 100);
        assert_eq!(text.len(), 100);
        let message = json!({ "said": { "name": "m1", "text": text } }).to_string();
        assert_eq!(number(message.as_bytes()).ok(), Some(Some(42)));
        assert_eq!(number(b"{\"joined\":\"m1\"}").ok(), Some(None));
        assert!(number(b"{\"text\":\"#12\"}").is_err());
    }

    #[test]
    fn who_is_there_is_counted_in_every_dialect() {
        assert_eq!(Dialect::Plain.members(r#"{"members":["a","b"]}"#), Some(2));
        assert_eq!(Dialect::Socketio.members(r#"42["members",["a","b","b"]]"#), Some(2));
        assert_eq!(Dialect::Mahavishnu.members(r#"{"data":{"members":["a"]}}"#), Some(1));
        assert_eq!(Dialect::Plain.members(r#"{"joined":"a"}"#), None);
    }
}
