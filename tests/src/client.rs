//! A client of the message protocol: tungstenite speaks WebSocket over a blocking stream.

use std::{borrow::Borrow, collections::VecDeque, net::TcpStream};

use serde_json::{Value, json};
use tungstenite::{
    Error, HandshakeError, Message, WebSocket,
    client::IntoClientRequest,
    error::ProtocolError,
    handshake::client::Response,
    http::{HeaderName, HeaderValue},
};

use crate::stream::{Socket, is_timeout};

/// A connected client.
#[derive(Debug)]
pub struct Client<S = TcpStream> {
    socket: WebSocket<S>,
    /// Messages that came while another one was waited for.
    kept: VecDeque<Heard>,
    /// Requests made so far: the next one's id.
    asked: u64,
    /// What the server said in the handshake.
    pub response: Response,
}

/// What came.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// A text message: one JSON value.
    Message(Value),
    /// A close frame; without a code 1005.
    Close(u16, String),
    /// The end of the stream without a close frame.
    End,
}

impl<S: Socket> Client<S> {
    /// Carries out the opening handshake. An answer other than 101 is an error.
    pub fn open(stream: S, path: &str, headers: &[(&str, &str)]) -> Result<Self, Box<Response>> {
        Self::open_at(stream, &format!("ws://test{path}"), headers)
    }

    /// The same, by a whole URL.
    pub fn open_at(stream: S, url: &str, headers: &[(&str, &str)]) -> Result<Self, Box<Response>> {
        let mut request = url.into_client_request().expect("a URL");
        for (name, value) in headers {
            let name: HeaderName = name.parse().expect("a field's name");
            let value = HeaderValue::from_str(value).expect("a field's value");
            request.headers_mut().append(name, value);
        }
        match tungstenite::client(request, stream) {
            Ok((socket, response)) => {
                Ok(Self { socket, kept: VecDeque::new(), asked: 0, response })
            }
            Err(HandshakeError::Failure(Error::Http(response))) => Err(response),
            Err(error) => panic!("no handshake: {error}"),
        }
    }

    /// Sends a message.
    pub fn send(&mut self, message: &Value) {
        self.send_frame(Message::text(message.to_string()));
    }

    /// Sends a text frame.
    pub fn send_text(&mut self, text: &str) {
        self.send_frame(Message::text(text));
    }

    /// Sends any frame; whether it can be sent is up to the caller.
    pub fn try_send(&mut self, message: Message) -> Result<(), Error> {
        self.socket.send(message)
    }

    /// Sends any frame.
    pub fn send_frame(&mut self, message: Message) {
        self.try_send(message).unwrap_or_else(|error| panic!("cannot send: {error}"));
    }

    /// What comes next.
    pub fn hear(&mut self) -> Heard {
        self.kept.pop_front().unwrap_or_else(|| self.read())
    }

    /// The next message. Panics if the connection ends instead.
    pub fn message(&mut self) -> Value {
        match self.hear() {
            Heard::Message(message) => message,
            other => panic!("expected a message, got {other:?}"),
        }
    }

    /// `data.n` of the next `count` messages.
    pub fn numbers(&mut self, count: usize) -> Vec<u64> {
        (0..count).map(|_| self.message()["data"]["n"].as_u64().expect("a number")).collect()
    }

    /// Sends a request without waiting for its answer. Returns its id.
    pub fn ask(&mut self, event: &str, data: impl Borrow<Value>) -> String {
        let id = self.fresh_id();
        let data = data.borrow();
        self.send(&json!({ "type": "request", "id": id, "event": event, "data": data }));
        id
    }

    /// Sends a request and returns its answer; what else comes is kept.
    pub fn request(&mut self, event: &str, data: impl Borrow<Value>) -> Value {
        let id = self.ask(event, data);
        self.answer_to(&id)
    }

    /// The answer to the message with this id; what else comes is kept.
    pub fn answer_to(&mut self, id: &str) -> Value {
        let is_answer =
            |heard: &Heard| matches!(heard, Heard::Message(m) if m["correlation_id"] == id);
        if let Some(at) = self.kept.iter().position(is_answer)
            && let Some(Heard::Message(message)) = self.kept.remove(at)
        {
            return message;
        }
        loop {
            match self.read() {
                Heard::Message(message) if message["correlation_id"] == id => return message,
                Heard::Message(message) => self.kept.push_back(Heard::Message(message)),
                other => panic!("expected the answer to {id}, got {other:?} after {:?}", self.kept),
            }
        }
    }

    /// Subscribes and waits for the confirmation.
    pub fn subscribe(&mut self, channel: &str) {
        let answer = self.request("subscribe", json!({ "channel": channel }));
        let expected = json!({ "status": "subscribed", "channel": channel });
        assert_eq!(answer["data"], expected, "{answer}");
    }

    /// Unsubscribes and waits for the confirmation.
    pub fn unsubscribe(&mut self, channel: &str) {
        let answer = self.request("unsubscribe", json!({ "channel": channel }));
        let expected = json!({ "status": "unsubscribed", "channel": channel });
        assert_eq!(answer["data"], expected, "{answer}");
    }

    /// Publishes and returns how many subscribers it reached.
    pub fn publish(&mut self, channel: &str, event: &str, data: Value) -> u64 {
        let answer =
            self.request("publish", json!({ "channel": channel, "event": event, "data": data }));
        assert_eq!(answer["data"]["status"], "published", "{answer}");
        answer["data"]["subscribers"].as_u64().expect("a number")
    }

    /// Everything that came before the server answers a ping sent now: what has not come by then was not sent.
    pub fn drain(&mut self) -> Vec<Value> {
        let id = self.fresh_id();
        self.send(&json!({ "type": "ping", "id": id }));
        let pong = self.answer_to(&id);
        assert_eq!(pong["type"], "pong", "{pong}");
        let message = |heard| match heard {
            Heard::Message(message) => message,
            other => panic!("expected messages only, got {other:?}"),
        };
        self.kept.drain(..).map(message).collect()
    }

    /// Panics if anything came.
    pub fn expect_silence(&mut self) {
        let heard = self.drain();
        assert!(heard.is_empty(), "expected nothing, got {heard:?}");
    }

    /// Reads the welcome and returns it.
    pub fn expect_welcome(&mut self) -> Value {
        let welcome = self.message();
        assert_eq!(welcome["event"], "session.created", "{welcome}");
        welcome
    }

    /// Panics unless the next message is an error with this code, which is returned.
    pub fn expect_error(&mut self, code: &str) -> Value {
        let message = self.message();
        assert_eq!(
            (&message["type"], &message["error_code"]),
            (&json!("error"), &json!(code)),
            "{message}"
        );
        message
    }

    /// Panics unless the server closes next, with this code. Returns the reason.
    pub fn expect_close(&mut self, code: u16) -> String {
        match self.hear() {
            Heard::Close(given, reason) => {
                assert_eq!(given, code, "{reason}");
                reason
            }
            other => panic!("expected close {code}, got {other:?}"),
        }
    }

    /// Reads past messages until the server closes. Panics unless it is with this code. Returns the reason.
    pub fn wait_close(&mut self, code: u16) -> String {
        loop {
            let heard = self.hear();
            if !matches!(heard, Heard::Message(_)) {
                self.kept.push_front(heard);
                return self.expect_close(code);
            }
        }
    }

    /// Closes with 1000 and waits for the end.
    pub fn close(mut self) {
        self.socket.close(None).expect("it is open");
        while self.read() != Heard::End {}
    }

    /// The stream, for what only a stream can do.
    pub fn stream(&mut self) -> &mut S {
        self.socket.get_mut()
    }

    fn fresh_id(&mut self) -> String {
        self.asked += 1;
        format!("q{}", self.asked)
    }

    fn read(&mut self) -> Heard {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => {
                    let message = serde_json::from_str(&text);
                    return Heard::Message(message.unwrap_or_else(|e| panic!("{e} in {text}")));
                }
                Ok(Message::Binary(bytes)) => panic!("a binary frame: {bytes:?}"),
                Ok(Message::Close(frame)) => {
                    // The answer to a close is queued by reading it and sent by flushing.
                    let _ = self.socket.flush();
                    return frame.map_or(Heard::Close(1005, String::new()), |frame| {
                        Heard::Close(frame.code.into(), frame.reason.to_string())
                    });
                }
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                Err(Error::Io(error)) if is_timeout(&error) => panic!("nothing came in time"),
                Err(
                    Error::Io(_)
                    | Error::ConnectionClosed
                    | Error::AlreadyClosed
                    | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake),
                ) => return Heard::End,
                Err(error) => panic!("the server broke the protocol: {error}"),
            }
        }
    }
}
