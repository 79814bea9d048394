//! Connections: opened in groups, upgraded, authenticated and subscribed before anything is measured.

use std::{
    collections::VecDeque,
    io,
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::{
    Error, Result,
    frame::{self, Frame, FrameReader, OP_BINARY, OP_CLOSE, OP_PING, OP_PONG, OP_TEXT},
    handshake::{self, Target},
    message::{self, Answer},
    socket,
    transport::Transport,
};

/// One WebSocket connection of the generator.
#[derive(Debug)]
pub struct Client {
    transport: Transport,
    reader: FrameReader,
    /// Messages read while connecting that nobody has asked for yet.
    inbox: VecDeque<Vec<u8>>,
    /// When delayed ACKs were last asked for.
    acks_delayed_ns: u64,
}

impl Client {
    /// Reads what is there, once, into `scratch`. Returns how much that was: zero if nothing was there.
    ///
    /// # Errors
    /// The connection ended.
    #[inline]
    pub fn read(&mut self, scratch: &mut [u8]) -> Result<usize> {
        match self.transport.read(scratch) {
            Ok(0) => Err("the server ended the connection".into()),
            Ok(bytes) => Ok(bytes),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the bytes of a read and hands each message that they complete to `on_message`, with its length on the
    /// wire. Pings are answered.
    ///
    /// # Errors
    /// The server closed, the stream is malformed, or `on_message` failed.
    #[inline]
    pub fn parse(
        &mut self,
        chunk: &[u8],
        mut on_message: impl FnMut(&[u8], usize) -> Result<()>,
    ) -> Result<()> {
        let Self { transport, reader, .. } = self;
        reader.feed(chunk, |frame| match frame {
            Frame { fin: true, opcode: OP_TEXT | OP_BINARY, mask: None, payload, wire_bytes } => {
                on_message(payload, wire_bytes)
            }
            other => control(transport, other),
        })
    }

    /// Asks for delayed ACKs again if the last time was long ago. To be called after a read.
    ///
    /// # Errors
    /// As `setsockopt`.
    #[inline]
    pub fn keep_acks_delayed(&mut self, now_ns: u64) -> Result<()> {
        if now_ns.saturating_sub(self.acks_delayed_ns) > socket::ACK_REARM_NS {
            socket::delay_acks(self.transport.tcp())?;
            self.acks_delayed_ns = now_ns;
        }
        Ok(())
    }

    /// Writes as much of `bytes` as the socket takes and returns how much that was.
    ///
    /// # Errors
    /// The connection ended.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.transport.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            other => other,
        }
    }

    /// The socket, to be watched.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        self.transport.tcp()
    }

    /// Announces the end, as RFC 6455 §5.5.1 wants it.
    ///
    /// # Errors
    /// The connection ended before.
    pub fn send_close(&mut self) -> Result<()> {
        send(&mut self.transport, OP_CLOSE, &1000_u16.to_be_bytes())
    }

    /// Waits until the server has ended the connection.
    ///
    /// # Errors
    /// It does not.
    pub fn await_end(&mut self, scratch: &mut [u8]) -> Result<()> {
        let deadline = Instant::now() + SETUP_TIMEOUT;
        while Instant::now() < deadline {
            match self.transport.read(scratch) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => return Ok(()),
                Ok(_) => {}
            }
        }
        Err("the server did not end the connection after the closing handshake".into())
    }

    /// Sends a request. Its answer is read like everything else.
    ///
    /// # Errors
    /// The connection ended, or its socket takes nothing.
    pub fn request(&mut self, text: &str) -> Result<()> {
        self.send_text(text)
    }

    /// Sends a request and waits for its answer, over anything unasked that comes before it.
    ///
    /// # Errors
    /// The connection ended, or the answer does not come, or is an error.
    pub fn ask(&mut self, text: &str, scratch: &mut [u8]) -> Result<Vec<u8>> {
        self.send_text(text)?;
        self.await_answer(scratch)
    }

    fn send_text(&mut self, text: &str) -> Result<()> {
        send(&mut self.transport, OP_TEXT, text.as_bytes())
    }

    /// Waits for the answer to a request, over anything unasked that comes before it.
    ///
    /// # Errors
    /// The connection ended, or the answer does not come, or is an error.
    pub fn await_answer(&mut self, scratch: &mut [u8]) -> Result<Vec<u8>> {
        let deadline = Instant::now() + SETUP_TIMEOUT;
        loop {
            while let Some(message) = self.inbox.pop_front() {
                match Answer::of(&message) {
                    Answer::Done => return Ok(message),
                    Answer::Refused(text) => return Err(text.into()),
                    Answer::Unrelated => {}
                }
            }
            if Instant::now() > deadline {
                return Err("no answer from the server".into());
            }
            let bytes = self.read(scratch)?;
            let mut inbox = std::mem::take(&mut self.inbox);
            let parsed = self.parse(scratch.get(..bytes).unwrap_or_default(), |payload, _| {
                inbox.push_back(payload.to_vec());
                Ok(())
            });
            self.inbox = inbox;
            parsed?;
        }
    }
}

/// How connections of one kind are opened.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The server and path.
    pub target: Target,
    /// A token, and where it is shown.
    pub token: Option<Token>,
    /// Channel to subscribe to once connected.
    pub channel: Option<String>,
    /// Payload limit of the connection's reader, in bytes.
    pub payload_bytes_max: usize,
}

/// A bearer token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// Shown by the connection's first message.
    Message(String),
    /// Shown in the upgrade request.
    Header(String),
}

impl Setup {
    /// Opens `count` connections, up to `at_once` of them at a time.
    ///
    /// # Errors
    /// Any of them failed; which, and how.
    pub fn open(&self, count: usize, at_once: usize) -> Result<Vec<Client>> {
        let mut clients = Vec::with_capacity(count);
        while clients.len() < count {
            let opened = clients.len();
            let group = self.open_group(at_once.clamp(1, count - opened));
            clients
                .extend(group.map_err(|error| format!("connections from {opened} on: {error}"))?);
        }
        Ok(clients)
    }

    /// Opens connections in step: each step is sent on all of them before its answer is awaited on any.
    ///
    /// # Errors
    /// Any of them failed.
    pub fn open_group(&self, count: usize) -> Result<Vec<Client>> {
        let mut scratch = vec![0; SETUP_READ_BYTES];
        let header_token = match &self.token {
            Some(Token::Header(token)) => Some(token.as_str()),
            Some(Token::Message(_)) | None => None,
        };
        let request = self.target.request(header_token);
        let mut transports = Vec::with_capacity(count);
        for _ in 0..count {
            let mut transport = Transport::connect(&self.target)?;
            write_all(&mut transport, &request)?;
            transports.push(transport);
        }
        let upgraded =
            transports.into_iter().map(|transport| self.finish_upgrade(transport, &mut scratch));
        let mut clients = upgraded.collect::<Result<Vec<Client>>>()?;
        if let Some(Token::Message(token)) = &self.token {
            request_on_all(&mut clients, &message::auth_request(token), &mut scratch)?;
        }
        if let Some(channel) = &self.channel {
            request_on_all(&mut clients, &message::subscribe_request(channel), &mut scratch)?;
        }
        Ok(clients)
    }

    /// Polls without sleeping, so that the server is not charged for wake-ups.
    fn finish_upgrade(&self, mut transport: Transport, scratch: &mut [u8]) -> Result<Client> {
        let deadline = Instant::now() + SETUP_TIMEOUT;
        let mut head = Vec::new();
        let head_bytes = loop {
            match transport.read(scratch) {
                Ok(0) => return Err("the server ended the connection during the upgrade".into()),
                Ok(bytes) => head.extend_from_slice(scratch.get(..bytes).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if Instant::now() > deadline {
                        return Err("no answer to the upgrade".into());
                    }
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            if let Some(head_bytes) = handshake::check_response(&head)? {
                break head_bytes;
            }
        };
        let mut reader = FrameReader::new(self.payload_bytes_max);
        let mut inbox = VecDeque::new();
        reader.feed(head.get(head_bytes..).unwrap_or_default(), |frame| match frame.opcode {
            OP_TEXT | OP_BINARY => {
                inbox.push_back(frame.payload.to_vec());
                Ok::<(), Error>(())
            }
            _ => control(&mut transport, frame),
        })?;
        Ok(Client { transport, reader, inbox, acks_delayed_ns: 0 })
    }
}

fn request_on_all(clients: &mut [Client], request: &str, scratch: &mut [u8]) -> Result<()> {
    for client in &mut *clients {
        client.send_text(request)?;
    }
    clients.iter_mut().try_for_each(|client| client.await_answer(scratch).map(drop))
}

/// Handles a frame that is no whole message.
#[cold]
fn control(transport: &mut Transport, frame: Frame<'_>) -> Result<()> {
    match frame {
        Frame { mask: Some(_), .. } => Err("the server masked a frame".into()),
        Frame { opcode: OP_PING, payload, .. } => send(transport, OP_PONG, payload),
        Frame { opcode: OP_PONG, .. } => Ok(()),
        Frame { opcode: OP_CLOSE, payload, .. } => {
            let (code, reason) = payload.split_at_checked(2).unwrap_or_default();
            let code = code.try_into().map_or(1005, u16::from_be_bytes);
            Err(format!("the server closed: {code} {}", String::from_utf8_lossy(reason)).into())
        }
        Frame { opcode, fin, .. } => {
            Err(format!("unexpected frame: opcode {opcode}, fin {fin}").into())
        }
    }
}

/// A small frame on a socket whose buffer has room: a generator's control messages are few.
fn send(transport: &mut Transport, opcode: u8, payload: &[u8]) -> Result<()> {
    let mut wire = Vec::new();
    frame::encode_client(&mut wire, opcode, [0x2f, 0x6d, 0x91, 0x04], payload);
    write_all(transport, &wire)
}

fn write_all(transport: &mut Transport, bytes: &[u8]) -> Result<()> {
    if transport.write(bytes)? == bytes.len() {
        return Ok(());
    }
    Err("the socket takes nothing any more".into())
}

/// Messages on the generator's connections are at most this long unless a run needs longer ones.
pub const PAYLOAD_BYTES_MAX: usize = 16 << 20;
/// Connections that are opened at a time: enough to keep the server busy, few enough for any accept queue.
pub const OPEN_AT_ONCE: usize = 64;
const SETUP_TIMEOUT: Duration = Duration::from_secs(10);
const SETUP_READ_BYTES: usize = 64 << 10;
