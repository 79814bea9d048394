//! Streams without manners: any bytes in, every byte out.

use std::{
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use mahavishnu_framing::{Decoded, decode, encode};
use serde_json::Value;

use crate::{
    http::{self, Response},
    stream::{self, Socket, is_timeout},
    wait::DEADLINE,
};

/// A stream.
#[derive(Debug)]
pub struct Raw<S = TcpStream> {
    stream: S,
    buffer: Vec<u8>,
}

/// A frame from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// First byte: FIN, reserved bits, opcode.
    pub first: u8,
    /// Payload.
    pub payload: Vec<u8>,
}

/// Opcodes (RFC 6455 §5.2) with FIN.
pub mod op {
    /// Continues a message.
    pub const CONTINUATION: u8 = 0x80;
    /// Text.
    pub const TEXT: u8 = 0x81;
    /// Binary.
    pub const BINARY: u8 = 0x82;
    /// Close.
    pub const CLOSE: u8 = 0x88;
    /// Ping.
    pub const PING: u8 = 0x89;
    /// Pong.
    pub const PONG: u8 = 0x8A;
    /// The bit that says that a message is compressed (RFC 7692 §6).
    pub const RSV1: u8 = 0x40;
    /// Takes FIN away.
    pub const MORE: u8 = 0x7F;
}

/// A handshake that is in order.
pub const HANDSHAKE: &str = "GET / HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// The `Sec-WebSocket-Accept` for it (RFC 6455 §1.3 has this very pair).
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

impl Raw {
    /// Connects.
    #[must_use]
    pub fn connect(address: SocketAddr) -> Self {
        Self::new(stream::connect(None, address, None).unwrap_or_else(|e| panic!("{address}: {e}")))
    }

    /// Connects from an address of this machine, such as 127.0.0.2.
    #[must_use]
    pub fn connect_from(source: &str, address: SocketAddr) -> Self {
        let from = source.parse().expect("an address");
        let stream = stream::connect(Some(from), address, None);
        Self::new(stream.unwrap_or_else(|error| panic!("{address} from {source}: {error}")))
    }

    /// The same, through the handshake and past the welcome.
    #[must_use]
    pub fn hello_from(source: &str, address: SocketAddr) -> Self {
        Self::hello(Self::connect_from(source, address).stream)
    }
}

impl<S: Socket> Raw<S> {
    /// Speaks bytes over `stream`.
    #[must_use]
    pub fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// Carries out the opening handshake; the welcome, if there is one, is not read.
    #[must_use]
    pub fn upgrade(stream: S) -> Self {
        let mut this = Self::new(stream);
        this.write(HANDSHAKE.as_bytes());
        let head = this.read_head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        this
    }

    /// [`upgrade`](Self::upgrade), and reads the welcome.
    #[must_use]
    pub fn hello(stream: S) -> Self {
        let mut this = Self::upgrade(stream);
        let welcome = this.frame().expect("a welcome");
        assert_eq!(welcome.first, op::TEXT, "{welcome:?}");
        this
    }

    /// The first frame behind the answer to a handshake; `None` if the stream ends before it.
    pub fn frame_after_head(&mut self) -> Option<Frame> {
        let head = self.try_read_head()?;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        self.frame()
    }

    /// Sends bytes. The server may have closed already: that shows when reading.
    pub fn write(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Sends bytes one at a time.
    pub fn dribble(&mut self, bytes: &[u8]) {
        bytes.chunks(1).for_each(|byte| self.write(byte));
    }

    /// Sends `bytes` again and again until the server takes no more. Returns how many it took.
    pub fn write_until_stuck(&mut self, bytes: &[u8]) -> usize {
        self.stream.set_write_patience(Duration::from_millis(300));
        let mut written = 0;
        // From where the last one stopped, so that frames stay whole.
        while let Ok(count) = self.stream.write(&bytes[written % bytes.len()..]) {
            written += count;
            assert!(written < 256 << 20, "a server without end");
        }
        self.stream.set_write_patience(DEADLINE);
        written
    }

    /// Sends a frame as a client must: masked.
    pub fn send(&mut self, first: u8, payload: &[u8]) {
        self.write(&masked(first, payload));
    }

    /// Sends a message.
    pub fn send_json(&mut self, message: &Value) {
        self.send(op::TEXT, message.to_string().as_bytes());
    }

    /// Subscribes and waits for the confirmation.
    pub fn subscribe(&mut self, channel: &str) {
        self.send_json(&serde_json::json!({ "type": "subscribe", "data": { "channel": channel } }));
        let answer = self.frame().expect("an answer").json();
        assert_eq!(answer["data"]["status"], "subscribed", "{answer}");
    }

    /// The next frame; `None` at the end of the stream.
    pub fn frame(&mut self) -> Option<Frame> {
        self.fill_to(1)?;
        // Whether an extension gives this bit a meaning is for the test to judge.
        let first = self.buffer[0];
        self.buffer[0] &= !op::RSV1;
        loop {
            match decode(&self.buffer, FRAME_BYTES_MAX).expect("a header") {
                Decoded::Need(bytes) => self.fill_to(bytes)?,
                Decoded::Frame(frame) => {
                    frame.check_of_server().expect("what a server may send");
                    let (payload, wire_bytes) = (frame.payload.to_vec(), frame.wire_bytes);
                    self.buffer.drain(..wire_bytes);
                    return Some(Frame { first, payload });
                }
            }
        }
    }

    /// The next text message.
    pub fn json(&mut self) -> Value {
        let frame = self.frame().expect("a message");
        assert_eq!(frame.first, op::TEXT, "{frame:?}");
        frame.json()
    }

    /// Reads past other frames to the close frame; `None` if the stream ends without one. Nothing is answered.
    pub fn close_frame(&mut self) -> Option<(u16, String)> {
        loop {
            let frame = self.frame()?;
            if frame.first == op::CLOSE {
                return Some(frame.close());
            }
        }
    }

    /// The answer's head.
    pub fn read_head(&mut self) -> String {
        self.try_read_head().unwrap_or_else(|| {
            panic!("no whole head: {:?}", String::from_utf8_lossy(&self.buffer));
        })
    }

    /// The answer to a request that was not HEAD.
    pub fn response(&mut self) -> Response {
        self.try_response().expect("a whole answer")
    }

    /// [`response`](Self::response); `None` if the stream ends first.
    pub fn try_response(&mut self) -> Option<Response> {
        let mut response = http::parse_head(&self.try_read_head()?);
        response.body = match response.header("content-length") {
            _ if response.status < 200 => Vec::new(),
            Some(length) => {
                let length = length.parse().expect("a number");
                self.fill_to(length)?;
                self.buffer.drain(..length).collect()
            }
            None => self.read_to_end(),
        };
        Some(response)
    }

    /// The answer to a HEAD request.
    pub fn response_head(&mut self) -> Response {
        http::parse_head(&self.read_head())
    }

    /// So many bytes. Panics if the stream ends before them.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        self.fill_to(count).unwrap_or_else(|| panic!("no {count} bytes: {:?}", self.buffer));
        self.buffer.drain(..count).collect()
    }

    fn try_read_head(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = self.buffer.drain(..at + 4).collect();
                return Some(String::from_utf8(head).expect("heads are ASCII"));
            }
            self.fill_to(self.buffer.len() + 1)?;
        }
    }

    /// Panics unless the server closes now, without a further byte.
    pub fn expect_end(&mut self) {
        let rest = self.read_to_end();
        assert!(rest.is_empty(), "expected the end, got {:?}", String::from_utf8_lossy(&rest));
    }

    /// Sends a request and reads its answer.
    pub fn exchange(&mut self, request: &[u8]) -> Response {
        self.write(request);
        self.response()
    }

    /// `GET path`.
    pub fn get(&mut self, path: &str) -> Response {
        self.exchange(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes())
    }

    /// Everything up to the end of the stream.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.buffer)
    }

    /// What comes until nothing has come for `patience`, or the stream ends; whether it has ended.
    pub fn read_for(&mut self, patience: Duration) -> (Vec<u8>, bool) {
        self.stream.set_patience(patience);
        let mut chunk = [0; 16 * 1024];
        let ended = loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => break true,
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
                Err(error) => break !is_timeout(&error),
            }
        };
        self.stream.set_patience(DEADLINE);
        (std::mem::take(&mut self.buffer), ended)
    }

    /// Whether nothing comes, and nothing ends, for as long as this.
    pub fn is_quiet_for(&mut self, time: Duration) -> bool {
        let had = std::mem::take(&mut self.buffer);
        let (came, ended) = self.read_for(time);
        let quiet = had.is_empty() && came.is_empty() && !ended;
        self.buffer = [had, came].concat();
        quiet
    }

    /// The stream, for what only a stream can do.
    pub fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Ends our half of the stream.
    pub fn finish(&mut self) {
        self.stream.finish();
    }

    /// Ends it with a reset.
    pub fn reset(self) {
        self.stream.reset();
    }

    fn fill_to(&mut self, length: usize) -> Option<()> {
        while self.buffer.len() < length {
            if !self.fill() {
                return None;
            }
        }
        Some(())
    }

    /// False at the end of the stream, by whatever way. Panics if nothing comes in time.
    fn fill(&mut self) -> bool {
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(count) => {
                self.buffer.extend_from_slice(&chunk[..count]);
                count > 0
            }
            Err(error) if is_timeout(&error) => {
                panic!("nothing came in time; so far {:?}", String::from_utf8_lossy(&self.buffer))
            }
            Err(_) => false,
        }
    }
}

impl Frame {
    /// Code and reason of a close frame; 1005 without a code.
    #[must_use]
    pub fn close(&self) -> (u16, String) {
        match self.payload.split_at_checked(2) {
            Some((code, reason)) => (
                u16::from_be_bytes([code[0], code[1]]),
                String::from_utf8(reason.to_vec()).expect("UTF-8"),
            ),
            None => (1005, String::new()),
        }
    }

    /// Payload as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).expect("JSON")
    }
}

/// A frame with its shortest length and a mask.
#[must_use]
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    encoded(first, Some([0x37, 0xFA, 0x21, 0x3D]), payload)
}

/// A frame without a mask, as only a server may send it.
#[must_use]
pub fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    encoded(first, None, payload)
}

fn encoded(first: u8, key: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 14);
    encode(&mut frame, first, key, payload);
    frame
}

/// Longer than any message of a test.
const FRAME_BYTES_MAX: usize = 1 << 30;
