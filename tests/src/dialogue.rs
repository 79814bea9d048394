//! Dialogues on paper: what clients say, and byte for byte what a server answers.
//!
//! A file holds both. Lines that begin with a client's name and a verb are what is done; those behind them, indented, are
//! what comes of it:
//!
//! ```text
//! set AUTH_ENABLED=true                      a setting of the server, before anything else
//! alone                                      with one shard only: what is said depends on it
//! a open / [Origin: http://x]                a handshake; fields in brackets
//! a send {"type":"ping"}                     a text message
//! a close 1000                               a close frame
//! http POST /publish [Idempotency-Key: k] {} a request on a connection of its own
//! signal TERM                                to the server
//!   a < {"id":"<id 1>", …}                   a message that came
//!   a < close 1008 Authentication failed     a close frame that came
//!   a < end                                  the end of its stream
//!   = HTTP/1.1 101 Switching Protocols       a line of the answer's head or of its body
//! ```
//!
//! In what is sent, `<token USER PERMISSION,…>` is a token and `<x N>` so many letters. In what comes, identifiers are
//! numbered as they first appear, so that the same one is the same again; times, the server's name and `Sec-WebSocket-Accept`
//! have a word in their place. Nothing else is masked.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::Path,
};

use rustix::process::Signal;
use serde_json::json;

use crate::{
    Raw, Server,
    http::parse_head,
    json,
    raw::{HANDSHAKE, op},
    token,
};

/// What is done, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    /// The line, as it stands in the file; comments and blank lines too.
    line: String,
    came: Vec<String>,
}

/// A dialogue.
#[derive(Clone, Debug)]
pub struct Dialogue {
    settings: Vec<(String, String)>,
    /// Whether it says the same with one shard only.
    pub alone: bool,
    steps: Vec<Step>,
}

impl Dialogue {
    /// Reads a file. Panics if it is none.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
        let mut this = Self { settings: Vec::new(), alone: false, steps: Vec::new() };
        for line in text.lines() {
            if let Some(came) = line.strip_prefix(CAME) {
                let step = this.steps.last_mut().expect("something is done first");
                step.came.push(came.to_owned());
                continue;
            }
            if let Some((name, value)) =
                line.strip_prefix("set ").and_then(|pair| pair.split_once('='))
            {
                this.settings.push((name.to_owned(), value.to_owned()));
            }
            this.alone |= line == "alone";
            this.steps.push(Step { line: line.to_owned(), came: Vec::new() });
        }
        this
    }

    /// Has it with a server of these further settings, and demands that the same comes.
    ///
    /// # Panics
    /// If anything else comes, less or more.
    pub fn replay(&self, settings: &[(&str, &str)]) {
        let mut stage = Stage::new(self, settings);
        for step in &self.steps {
            stage.act(&step.line);
            for recorded in &step.came {
                let expected = today(recorded);
                let came = stage.next(expected.split(' ').next().unwrap_or_default());
                assert_eq!(without_rule(&came), expected, "after: {}", step.line);
            }
        }
        let rest = stage.rest();
        assert!(rest.is_empty(), "there came besides: {rest:#?}");
    }

    /// Has it with a server, and writes down what comes.
    #[must_use]
    pub fn record(&self) -> String {
        let mut stage = Stage::new(self, &[("SHARDS", "1")]);
        let mut text = String::new();
        for step in &self.steps {
            stage.act(&step.line);
            writeln!(text, "{}", step.line).expect("to a string");
            for came in stage.rest() {
                writeln!(text, "{CAME}{came}").expect("to a string");
            }
        }
        text
    }
}

/// A server and the clients that talk to it.
#[derive(Debug)]
struct Stage {
    server: Server,
    clients: BTreeMap<String, Option<Raw>>,
    /// Those who have sent a close frame: the end comes next.
    closed: BTreeSet<String>,
    /// Those who have got one: the end comes when they have sent theirs.
    told: BTreeSet<String>,
    /// What has come already: of heads, and of HTTP.
    ready: Vec<String>,
    mask: Mask,
}

impl Stage {
    fn new(dialogue: &Dialogue, settings: &[(&str, &str)]) -> Self {
        let own = dialogue.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let settings: Vec<_> = own.chain(settings.iter().copied()).collect();
        let with_auth = settings.contains(&("AUTH_ENABLED", "true"));
        let start = if with_auth { Server::with_auth } else { Server::with };
        let server = start(&settings);
        let mask = Mask::new(server.name());
        Self {
            server,
            clients: BTreeMap::new(),
            closed: BTreeSet::new(),
            told: BTreeSet::new(),
            ready: Vec::new(),
            mask,
        }
    }

    /// Does what a line says.
    fn act(&mut self, line: &str) {
        let (who, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (verb, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        match (who, verb) {
            ("" | "#" | "set" | "alone", _) => {}
            ("http", method) => self.http(method, rest),
            ("signal", "TERM") => self.server.signal(Signal::TERM),
            (who, "open") => self.open(who, rest),
            (who, "send") => {
                let text = expand(rest);
                self.client(who).send(op::TEXT, text.as_bytes());
            }
            (who, "close") => {
                let code: u16 = rest.parse().expect("a code");
                self.client(who).send(op::CLOSE, &code.to_be_bytes());
                self.closed.insert(who.to_owned());
            }
            _ => panic!("not a line of a dialogue: {line}"),
        }
    }

    fn open(&mut self, who: &str, line: &str) {
        let (path, fields, _) = request(line);
        let head = HANDSHAKE.replacen("GET / ", &format!("GET {path} "), 1).replacen(
            "\r\n\r\n",
            &format!("\r\n{}\r\n", lines(&fields)),
            1,
        );
        let (raw, status) = self.exchange(&head);
        self.clients.insert(who.to_owned(), (status == 101).then_some(raw));
    }

    fn http(&mut self, method: &str, line: &str) {
        let (path, fields, body) = request(line);
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{}", lines(&fields));
        if method == "POST" {
            let length = body.len();
            write!(head, "Content-Type: application/json\r\nContent-Length: {length}\r\n")
                .expect("to a string");
        }
        self.exchange(&format!("{head}\r\n{body}"));
    }

    /// A request on a connection of its own, which is returned with the answer's status.
    fn exchange(&mut self, request: &str) -> (Raw, u16) {
        let mut raw = self.server.raw();
        raw.write(request.as_bytes());
        let head = raw.read_head();
        let answer = parse_head(&head);
        for line in head.lines().filter(|line| !line.is_empty()) {
            let accept = line.to_ascii_lowercase().starts_with("sec-websocket-accept:");
            let line = if accept { "sec-websocket-accept: <accept>" } else { line };
            self.ready.push(format!("= {line}"));
        }
        if let Some(length) = answer.header("content-length") {
            let body = raw.bytes(length.parse().expect("a number"));
            let body = String::from_utf8(body).expect("text");
            self.ready.extend(body.lines().map(|line| format!("= {line}")));
        }
        (raw, answer.status)
    }

    fn client(&mut self, who: &str) -> &mut Raw {
        let client = self.clients.get_mut(who).and_then(Option::as_mut);
        client.unwrap_or_else(|| panic!("{who} is not connected"))
    }

    /// What comes next to a client, or of an answer.
    fn next(&mut self, who: &str) -> String {
        let line = if self.ready.is_empty() {
            let (line, is_over) = hear(self.client(who));
            if is_over {
                self.clients.insert(who.to_owned(), None);
            }
            format!("{who} < {line}")
        } else {
            self.ready.remove(0)
        };
        self.mask.text(&line)
    }

    /// All that has come, client by client.
    fn rest(&mut self) -> Vec<String> {
        let mut heard = BTreeMap::<String, Vec<String>>::new();
        loop {
            let mut came = false;
            for (who, client) in &mut self.clients {
                let Some(open) = client else { continue };
                let closed = self.closed.contains(who);
                if self.told.contains(who) && !closed {
                    continue;
                }
                let lines = hear_all(open, closed);
                came |= !lines.is_empty();
                match lines.last().map(String::as_str) {
                    Some("end") => *client = None,
                    Some(last) if last.starts_with("close ") => {
                        self.told.insert(who.clone());
                    }
                    _ => {}
                }
                heard.entry(who.clone()).or_default().extend(lines);
            }
            // What one says may come to another after that one was asked.
            if !came {
                break;
            }
        }
        let ready = std::mem::take(&mut self.ready);
        let heard = heard
            .into_iter()
            .flat_map(|(who, lines)| lines.into_iter().map(move |line| format!("{who} < {line}")));
        let lines: Vec<_> = ready.into_iter().chain(heard).collect();
        lines.iter().map(|line| self.mask.text(line)).collect()
    }
}

/// All that has come on a connection: up to its end, if the client has closed, else up to a close frame.
fn hear_all(client: &mut Raw, closed: bool) -> Vec<String> {
    // A server that has closed does not read it, and one that is stopping may answer it or not.
    client.send_json(&json!({ "type": "ping", "id": SYNC, "correlation_id": SYNC }));
    let mut lines = Vec::new();
    loop {
        let (line, is_over) = hear(client);
        if line.contains(SYNC) {
            return lines;
        }
        let is_close = line.starts_with("close ");
        lines.push(line);
        if is_over || (is_close && !closed) {
            return lines;
        }
    }
}

/// What has changed on purpose since dialogues were written down: a channel's numbers begin at 1 and not at 0.
fn today(recorded: &str) -> String {
    let mut text = recorded.to_owned();
    for name in ["\"first_offset\":", "\"last_offset\":"] {
        if let Some((before, rest)) = text.split_once(name) {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let number: u64 = rest[..digits].parse().expect("a number");
            text = format!("{before}{name}{}{}", number + 1, &rest[digits..]);
        }
    }
    text
}

/// A text for people that says more than it did: which rule a message breaks. Clients go by the code before it, which is
/// compared as all the rest.
fn without_rule(came: &str) -> String {
    const TEXT: &str = "\"error_message\":\"Message could not be decoded";
    let cut = came.split_once(TEXT).and_then(|(before, rest)| {
        let (rule, behind) = rest.split_once('"')?;
        rule.starts_with(": ").then(|| format!("{before}{TEXT}\"{behind}"))
    });
    cut.unwrap_or_else(|| came.to_owned())
}

/// What comes next on a connection, and whether it was the last.
fn hear(client: &mut Raw) -> (String, bool) {
    let Some(frame) = client.frame() else { return ("end".to_owned(), true) };
    match frame.first {
        op::TEXT => (String::from_utf8(frame.payload).expect("text is UTF-8"), false),
        op::CLOSE => {
            let (code, reason) = frame.close();
            (format!("close {code} {reason}").trim_end().to_owned(), false)
        }
        first => (format!("frame {first:02x} {:?}", frame.payload), false),
    }
}

/// Path, fields and body of a request's line.
fn request(line: &str) -> (&str, Vec<String>, String) {
    let (path, mut rest) = line.split_once(' ').unwrap_or((line, ""));
    let mut fields = Vec::new();
    // A body may be an array.
    while let Some((field, behind)) = rest
        .strip_prefix('[')
        .filter(|field| !field.starts_with('{'))
        .and_then(|field| field.split_once(']'))
    {
        fields.push(expand(field));
        rest = behind.trim_start();
    }
    (path, fields, expand(rest))
}

fn lines(fields: &[String]) -> String {
    fields.iter().map(|field| format!("{field}\r\n")).collect()
}

/// What stands for tokens and long texts in what is sent.
fn expand(text: &str) -> String {
    let Some((before, rest)) = text.split_once('<') else { return text.to_owned() };
    let (inside, after) = rest.split_once('>').expect("a bracket ends");
    let words: Vec<_> = inside.split(' ').collect();
    let made = match words[..] {
        ["token", user, permissions] => {
            token::of(user, &permissions.split(',').collect::<Vec<_>>())
        }
        ["x", count] => "x".repeat(count.parse().expect("a number")),
        _ => panic!("<{inside}> stands for nothing"),
    };
    format!("{before}{made}{}", expand(after))
}

/// Takes out what is different each time.
#[derive(Debug, Default)]
pub struct Mask {
    server: String,
    ids: Vec<String>,
}

impl Mask {
    /// For what a server of this name says.
    #[must_use]
    pub fn new(server: &str) -> Self {
        Self { server: format!("\"server\":\"{server}\""), ids: Vec::new() }
    }

    /// `text` with its identifiers numbered, and its times and the server's name masked.
    pub fn text(&mut self, text: &str) -> String {
        let mut masked = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let head = |length: usize| rest.get(..length).unwrap_or_default();
            let (word, length) = if json::is_uuid4(head(36)) {
                (format!("<id {}>", self.number(head(36))), 36)
            } else if json::is_utc_micros(head(32)) {
                ("<time>".to_owned(), 32)
            } else if json::is_zulu(head(20)) {
                ("<time>".to_owned(), 20)
            } else if is_local(head(26)) {
                ("<local time>".to_owned(), 26)
            } else if !self.server.is_empty() && rest.starts_with(&self.server) {
                ("\"server\":\"<server>\"".to_owned(), self.server.len())
            } else if let Some(digits) = rest.strip_prefix(UPTIME) {
                let count = digits.bytes().take_while(u8::is_ascii_digit).count();
                (format!("{UPTIME}<seconds>"), UPTIME.len() + count)
            } else {
                (first.to_string(), first.len_utf8())
            };
            masked.push_str(&word);
            rest = &rest[length..];
        }
        masked
    }

    fn number(&mut self, id: &str) -> usize {
        let known = self.ids.iter().position(|known| known == id);
        known.unwrap_or_else(|| {
            self.ids.push(id.to_owned());
            self.ids.len() - 1
        }) + 1
    }
}

/// Python's `datetime.now().isoformat()`.
fn is_local(text: &str) -> bool {
    json::is_utc_micros(&format!("{text}+00:00"))
}

const CAME: &str = "  ";
const SYNC: &str = "is-that-all";
const UPTIME: &str = "\"uptime_seconds\":";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_keeps_its_number() {
        let mut mask = Mask::new("s");
        let (one, two) =
            ("0b1f1c3e-0000-4000-8000-00000000000f", "0b1f1c3e-0000-4000-8000-00000000000e");
        assert_eq!(mask.text(&format!("{one} {two} {one}")), "<id 1> <id 2> <id 1>");
        assert_eq!(mask.text(two), "<id 2>");
    }

    #[test]
    fn only_what_differs_is_masked() {
        let mut mask = Mask::new("s");
        let text = r#"{"server":"s","t":"2026-02-11T10:30:00.000001+00:00","x":"2026-02-11","uptime_seconds":12}"#;
        let masked =
            r#"{"server":"<server>","t":"<time>","x":"2026-02-11","uptime_seconds":<seconds>}"#;
        assert_eq!(mask.text(text), masked);
    }
}
