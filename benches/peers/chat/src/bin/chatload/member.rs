//! One member's connection: its way into a room, and what it reads and writes there.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, TcpStream},
    time::Duration,
};

use mahavishnu_bench_peers::Result;
use mahavishnu_framing::{
    Frame, FrameError, FrameReader, OP_CLOSE, OP_PING, OP_PONG, OP_TEXT, encode_client,
};
use mio::{Interest, Registry, Token};

use crate::dialect::Dialect;

/// Longest message that is taken, in bytes.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Any will do: what counts is that the server has to unmask.
const KEY: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
/// How long a server may take to let somebody in.
const PATIENCE: Duration = Duration::from_secs(10);

/// Somebody in a room.
pub struct Member {
    stream: mio::net::TcpStream,
    reader: FrameReader,
    dialect: Dialect,
    answers: Vec<u8>,
}

impl Member {
    /// Comes into a room, and is there when this returns.
    pub fn join(dialect: Dialect, port: u16, room: &str, name: &str) -> Result<Self> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut reader = FrameReader::new(MESSAGE_BYTES_MAX);
        let mut rest = upgrade(&mut stream, &dialect.target(name))?;
        let mut steps = dialect.entrance(room, name).into_iter();
        let mut step = steps.next();
        while let Some(now) = &step {
            let mut there = now.after.is_empty();
            if !there {
                reader.feed(&rest, |frame| {
                    // A server may say several things at once, but waits for each step.
                    there |= memchr::memmem::find(frame.payload, now.after.as_bytes()).is_some();
                    refuse_end(frame)
                })?;
                rest.clear();
            }
            if !there {
                rest = read(&mut stream)?;
                continue;
            }
            if !now.send.is_empty() {
                stream.write_all(&framed(OP_TEXT, now.send.as_bytes()))?;
            }
            step = steps.next();
        }
        stream.set_nonblocking(true)?;
        let stream = mio::net::TcpStream::from_std(stream);
        Ok(Self { stream, reader, dialect, answers: Vec::new() })
    }

    pub fn register(&mut self, registry: &Registry, place: usize) -> Result<()> {
        Ok(registry.register(&mut self.stream, Token(place), Interest::READABLE)?)
    }

    /// Sends a text. Nothing is queued here: a server that does not read one short message is broken.
    pub fn send(&mut self, text: &str) -> Result<()> {
        self.write(&framed(OP_TEXT, text.as_bytes()))
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Hands over all messages that have come, answers what has to be answered, and says how many bytes it took.
    pub fn hear(
        &mut self,
        buffer: &mut [u8],
        mut each: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<u64> {
        let mut bytes = 0;
        loop {
            let count = match self.stream.read(buffer) {
                Ok(0) => return Err("the server has closed a connection".into()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            bytes += count as u64;
            let (dialect, answers) = (self.dialect, &mut self.answers);
            self.reader.feed(buffer.get(..count).unwrap_or_default(), |frame| {
                frame.check_of_server().map_err(Error::from)?;
                match frame.opcode {
                    OP_PING => encode_client(answers, OP_PONG, KEY, frame.payload),
                    OP_CLOSE => return Err(Error::from("the server has closed a connection")),
                    _ => match dialect.answer(frame.payload) {
                        Some(answer) => encode_client(answers, OP_TEXT, KEY, answer.as_bytes()),
                        None => each(frame.payload).map_err(Error)?,
                    },
                }
                Ok::<_, Error>(())
            })?;
            // Its buffer was not filled: there is nothing more.
            if count < buffer.len() {
                break;
            }
        }
        if !self.answers.is_empty() {
            let answers = std::mem::take(&mut self.answers);
            self.write(&answers)?;
        }
        Ok(bytes)
    }
}

/// An error that the frame reader's own can become.
#[derive(Debug)]
struct Error(Box<dyn std::error::Error + Send + Sync>);

impl From<FrameError> for Error {
    fn from(error: FrameError) -> Self {
        Self(error.into())
    }
}

impl From<&'static str> for Error {
    fn from(error: &'static str) -> Self {
        Self(error.into())
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Error {}

fn refuse_end(frame: Frame<'_>) -> std::result::Result<(), Error> {
    match frame.opcode {
        OP_CLOSE => Err(format!("refused: {}", String::from_utf8_lossy(frame.payload)).into()),
        _ => Ok(()),
    }
}

impl From<String> for Error {
    fn from(error: String) -> Self {
        Self(error.into())
    }
}

fn framed(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 14);
    encode_client(&mut frame, opcode, KEY, payload);
    frame
}

fn read(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let mut chunk = vec![0; 16 * 1024];
    let count = stream.read(&mut chunk)?;
    if count == 0 {
        return Err("the server has closed a connection".into());
    }
    chunk.truncate(count);
    Ok(chunk)
}

/// The handshake; what has come behind it already.
fn upgrade(stream: &mut TcpStream, target: &str) -> Result<Vec<u8>> {
    let host = stream.peer_addr()?;
    write!(
        stream,
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )?;
    let mut head = Vec::new();
    loop {
        head.extend(read(stream)?);
        if let Some(end) = memchr::memmem::find(&head, b"\r\n\r\n") {
            if !head.starts_with(b"HTTP/1.1 101 ") {
                return Err(String::from_utf8_lossy(&head).into_owned().into());
            }
            return Ok(head.split_off(end + 4));
        }
    }
}
