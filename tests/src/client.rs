//! A client of the message protocol over a blocking socket: tungstenite speaks WebSocket, so the server's framing is
//! judged by an independent peer.

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, SocketAddr, TcpStream},
    sync::atomic::{AtomicU64, Ordering},
};

use serde_json::{Value, json};
use tungstenite::{
    Error, HandshakeError, Message, WebSocket,
    client::IntoClientRequest,
    handshake::client::Response,
    http::{HeaderName, HeaderValue},
};

use crate::{server::Server, wait::DEADLINE};

/// A connected client.
#[derive(Debug)]
pub struct Client {
    socket: WebSocket<TcpStream>,
    /// Messages that came while another one was waited for.
    kept: VecDeque<Heard>,
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

/// How to connect.
#[derive(Clone, Debug)]
pub struct Connect<'a> {
    /// Path and query. `/` if empty.
    pub path: &'a str,
    /// Further header fields.
    pub headers: &'a [(&'a str, &'a str)],
    /// Size of the socket's receive buffer.
    pub receive_buffer: Option<usize>,
}

impl Default for Connect<'_> {
    fn default() -> Self {
        Self { path: "/", headers: &[], receive_buffer: None }
    }
}

impl Client {
    /// Connects, whatever comes first.
    pub fn connect(server: &Server) -> Self {
        Self::open(server.address(), &Connect::default())
            .unwrap_or_else(|refused| panic!("refused: {refused:?}"))
    }

    /// Connects to a server without authentication and reads its welcome.
    pub fn hello(server: &Server) -> Self {
        let mut this = Self::connect(server);
        this.expect_welcome();
        this
    }

    /// Connects and authenticates.
    pub fn login(server: &Server, token: &str) -> Self {
        let mut this = Self::connect(server);
        let answer = this.request("auth", json!({ "token": token }));
        assert_eq!(answer["data"]["status"], "authenticated", "{answer}");
        this.expect_welcome();
        this
    }

    /// Connects in a particular way. An answer other than 101 is an error.
    pub fn open(address: SocketAddr, how: &Connect<'_>) -> Result<Self, Box<Response>> {
        let stream = connect(address, how.receive_buffer)
            .unwrap_or_else(|error| panic!("{address}: {error}"));
        let mut request =
            format!("ws://{address}{}", how.path).into_client_request().expect("a URL");
        for (name, value) in how.headers {
            let name: HeaderName = name.parse().expect("a field's name");
            request
                .headers_mut()
                .append(name, HeaderValue::from_str(value).expect("a field's value"));
        }
        match tungstenite::client(request, stream) {
            Ok((socket, response)) => Ok(Self { socket, kept: VecDeque::new(), response }),
            Err(HandshakeError::Failure(Error::Http(response))) => Err(response),
            Err(error) => panic!("no handshake: {error}"),
        }
    }

    /// Sends a message.
    pub fn send(&mut self, message: &Value) {
        self.send_text(&message.to_string());
    }

    /// Sends a text frame.
    pub fn send_text(&mut self, text: &str) {
        self.socket
            .send(Message::text(text))
            .unwrap_or_else(|error| panic!("cannot send: {error}"));
    }

    /// Sends any frame; whether it can be sent is up to the caller.
    pub fn try_send(&mut self, message: Message) -> Result<(), Error> {
        self.socket.send(message)
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

    /// Sends a request and returns its answer; what else comes is kept for [`message`](Self::message).
    pub fn request(&mut self, event: &str, data: Value) -> Value {
        let id = fresh_id();
        self.send(&json!({ "type": "request", "id": id, "event": event, "data": data }));
        self.answer_to(&id)
    }

    /// The answer to the message with this id; what else comes is kept.
    pub fn answer_to(&mut self, id: &str) -> Value {
        let is_answer = |heard: &Heard| matches!(heard, Heard::Message(message) if message["correlation_id"] == id);
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
        assert_eq!(
            answer["data"],
            json!({ "status": "subscribed", "channel": channel }),
            "{answer}"
        );
    }

    /// Unsubscribes and waits for the confirmation.
    pub fn unsubscribe(&mut self, channel: &str) {
        let answer = self.request("unsubscribe", json!({ "channel": channel }));
        assert_eq!(
            answer["data"],
            json!({ "status": "unsubscribed", "channel": channel }),
            "{answer}"
        );
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
        let id = fresh_id();
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

    /// Panics unless the server closes now, with this code. Returns the reason.
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
            match self.hear() {
                Heard::Message(_) => {}
                Heard::Close(given, reason) => {
                    assert_eq!(given, code, "{reason}");
                    return reason;
                }
                Heard::End => panic!("expected close {code}, got the end of the stream"),
            }
        }
    }

    /// Closes with 1000 and waits for the server's answer.
    pub fn close(mut self) {
        self.socket.close(None).expect("it is open");
        loop {
            match self.read() {
                Heard::Message(_) => {}
                Heard::Close(..) | Heard::End => return,
            }
        }
    }

    /// The socket, for what only a socket can do.
    pub fn stream(&self) -> &TcpStream {
        self.socket.get_ref()
    }

    fn read(&mut self) -> Heard {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => return Heard::Message(parse(&text)),
                Ok(Message::Binary(bytes)) => panic!("a binary frame: {bytes:?}"),
                Ok(Message::Close(frame)) => {
                    // The answer to a close is queued by reading it and sent by flushing.
                    let _ = self.socket.flush();
                    return frame.map_or(Heard::Close(1005, String::new()), |frame| {
                        Heard::Close(frame.code.into(), frame.reason.to_string())
                    });
                }
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                Err(Error::Io(error)) if is_timeout(&error) => {
                    panic!("nothing came within {DEADLINE:?}")
                }
                Err(Error::Io(_) | Error::ConnectionClosed | Error::AlreadyClosed) => {
                    return Heard::End;
                }
                Err(Error::Protocol(
                    tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
                )) => return Heard::End,
                Err(error) => panic!("the server broke the protocol: {error}"),
            }
        }
    }
}

/// Publishes a message on a channel by a `POST`, as a server without authentication lets loopback do, and returns how
/// many subscribers it reached.
pub fn post(server: &Server, channel: &str, event: &str, data: &Value) -> u64 {
    let body = json!({ "channel": channel, "event": event, "data": data });
    let answer = crate::http::post(server.address(), "/publish", &[], &body.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["subscribers"].as_u64().expect("a number")
}

/// An id that no other message of this process has.
pub fn fresh_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("m{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A blocking socket with deadlines.
pub fn connect(address: SocketAddr, receive_buffer: Option<usize>) -> io::Result<TcpStream> {
    connect_from(None, address, receive_buffer)
}

/// The same, from an address of this machine.
pub fn connect_from(
    source: Option<IpAddr>,
    address: SocketAddr,
    receive_buffer: Option<usize>,
) -> io::Result<TcpStream> {
    let socket =
        socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.connect_timeout(&address.into(), DEADLINE)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text:?}"))
}

pub(crate) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
