//! A client of a world: this end of a pair of sockets, and the protocol's other half.

use std::{collections::VecDeque, io::Read, net::Shutdown, os::unix::net::UnixStream};

use mahavishnu_driver::http::HeaderMap;
use mahavishnu_wire::{
    Limits,
    entropy::Entropy,
    reason::Reason,
    time::{Instant, Now},
    ws::{ClientRequest, CloseWhen, Connection, Event, Flush},
};
use serde_json::Value;

/// Bytes read at a time.
const READ_BYTES: usize = 64 * 1024;

/// How a connection ended for a client.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// The server has closed it, with this code and text.
    Closed(u16, String),
    /// The handshake was refused with this status.
    Refused(u16),
    /// Without a word: the socket ended, or the client ended it.
    Dropped,
}

#[derive(Debug)]
pub(crate) struct Peer {
    ws: Connection,
    /// `None` when it is over.
    stream: Option<UnixStream>,
    limits: Limits,
    /// What came, JSON as values and all else as strings, and was not taken yet.
    pub(crate) inbox: VecDeque<Value>,
    pub(crate) end: Option<End>,
    pub(crate) accepted: bool,
    /// It leaves what comes in the socket.
    pub(crate) stalled: bool,
}

impl Peer {
    pub(crate) fn new(
        now: Now,
        stream: UnixStream,
        path: &str,
        headers: HeaderMap,
        entropy: Entropy,
    ) -> Self {
        // What a client does by itself would be between the test and the server.
        let limits = Limits { ping_interval: None, connection_timeout: None, ..Limits::default() };
        let request = ClientRequest {
            host: "localhost".into(),
            path: path.into(),
            headers,
            subprotocols: Vec::new(),
            deflate: false,
        };
        Self {
            ws: Connection::client(now, request, entropy),
            stream: Some(stream),
            limits,
            inbox: VecDeque::new(),
            end: None,
            accepted: false,
            stalled: false,
        }
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.ws.send_text(text);
    }

    pub(crate) fn close(&mut self, now: Now) {
        self.ws.close(now, Reason::Shutdown, CloseWhen::AfterData);
    }

    /// The socket goes, without a word.
    pub(crate) fn drop_socket(&mut self) {
        self.stream = None;
        self.end.get_or_insert(End::Dropped);
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.stream.as_ref().and_then(|_| self.ws.poll_timeout(&self.limits))
    }

    /// Writes what there is to say and reads what has come. Whether anything went either way.
    pub(crate) fn pump(&mut self, now: Now) -> bool {
        if self.ws.poll_timeout(&self.limits).is_some_and(|due| due <= now.mono) {
            let event = self.ws.handle_timeout(now, &self.limits);
            event.into_iter().for_each(|event| take(&mut self.inbox, &mut self.accepted, &event));
        }
        let mut moved = self.flush(now);
        if !self.stalled {
            while self.read(now) {
                moved = true;
            }
            moved |= self.flush(now);
        }
        moved
    }

    fn flush(&mut self, now: Now) -> bool {
        let Some(stream) = &mut self.stream else { return false };
        let waiting = self.ws.outbox().bytes();
        let flush = self.ws.flush(now, stream);
        let left = self.ws.outbox().bytes();
        match flush {
            Flush::Drained | Flush::Blocked => {}
            // One that is gone already is shut down as well.
            Flush::Fin => drop(stream.shutdown(Shutdown::Write)),
            Flush::Closed => {
                self.stream = None;
                self.ended();
                return true;
            }
        }
        left < waiting
    }

    fn read(&mut self, now: Now) -> bool {
        let Some(stream) = &mut self.stream else { return false };
        let mut buffer = vec![0; READ_BYTES];
        let Self { ws, limits, inbox, accepted, .. } = self;
        match stream.read(&mut buffer) {
            Ok(count) if count > 0 => {
                let mut wire = buffer.get_mut(..count).unwrap_or_default();
                while let Some(event) = ws.receive(now, limits, &mut wire) {
                    take(inbox, accepted, &event);
                }
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => false,
            // An end, however it comes.
            Ok(_) | Err(_) => {
                let _ = ws.handle_eof(now, limits);
                let _ = self.flush(now);
                self.stream = None;
                self.ended();
                true
            }
        }
    }

    fn ended(&mut self) {
        let refused = self.ws.refused_with().map(|answer| End::Refused(answer.status().as_u16()));
        let closed = self.ws.peer_close();
        let closed =
            closed.map(|close| End::Closed(close.code.unwrap_or(NO_CODE), close.text.to_string()));
        self.end.get_or_insert_with(|| refused.or(closed).unwrap_or(End::Dropped));
    }
}

fn take(inbox: &mut VecDeque<Value>, accepted: &mut bool, event: &Event<'_>) {
    match event {
        Event::Text(text) => {
            let value = serde_json::from_str(text).unwrap_or_else(|_| Value::from(&**text));
            inbox.push_back(value);
        }
        Event::Accepted(_) => *accepted = true,
        // A server of this kind sends no binary message, and a client gets no request.
        Event::Binary(_)
        | Event::Compressed(_)
        | Event::Upgrade(_)
        | Event::Http(_)
        | Event::Pong { .. }
        | Event::Closed(_) => {}
    }
}

/// A close frame without a code (RFC 6455 §7.1.5).
const NO_CODE: u16 = 1005;
