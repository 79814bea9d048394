//! Sockets without manners: any bytes in, every byte out.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use crate::{
    client::{self, is_timeout},
    server::Server,
    wait::DEADLINE,
};

/// A socket.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
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
    pub fn connect(address: SocketAddr) -> Self {
        Self::connect_with(address, None)
    }

    /// Connects with a receive buffer of this size.
    pub fn connect_with(address: SocketAddr, receive_buffer: Option<usize>) -> Self {
        let stream = client::connect(address, receive_buffer)
            .unwrap_or_else(|error| panic!("{address}: {error}"));
        Self { stream, buffer: Vec::new() }
    }

    /// Connects from an address of this machine, such as 127.0.0.2.
    pub fn connect_from(source: &str, address: SocketAddr) -> Self {
        let source = source.parse().expect("an address");
        let stream = client::connect_from(Some(source), address, None)
            .unwrap_or_else(|error| panic!("{address} from {source}: {error}"));
        Self { stream, buffer: Vec::new() }
    }

    /// Connects and upgrades; the welcome, if there is one, is not read.
    pub fn upgrade(server: &Server) -> Self {
        Self::upgrade_with(server, None)
    }

    /// [`upgrade`](Self::upgrade) with a receive buffer of this size.
    pub fn upgrade_with(server: &Server, receive_buffer: Option<usize>) -> Self {
        let mut this = Self::connect_with(server.address(), receive_buffer);
        this.write(HANDSHAKE.as_bytes());
        let head = this.read_head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        this
    }

    /// [`upgrade`](Self::upgrade), and reads the welcome.
    pub fn hello(server: &Server) -> Self {
        let mut this = Self::upgrade(server);
        let welcome = this.frame().expect("a welcome");
        assert_eq!(welcome.first, op::TEXT, "{welcome:?}");
        this
    }

    /// Sends bytes. The server may have closed already: that shows when reading.
    pub fn write(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Sends `bytes` again and again until nothing was taken for `patience`, or `enough` bytes were. Returns how many.
    pub fn write_for(
        &mut self,
        patience: std::time::Duration,
        bytes: &[u8],
        enough: usize,
    ) -> usize {
        self.stream.set_write_timeout(Some(patience)).expect("not zero");
        let mut written = 0;
        while written < enough {
            // From where the last one stopped, so that frames stay whole.
            match self.stream.write(&bytes[written % bytes.len()..]) {
                Ok(count) => written += count,
                Err(_) => break,
            }
        }
        self.stream.set_write_timeout(Some(DEADLINE)).expect("not zero");
        written
    }

    /// Sends a frame as a client must: masked.
    pub fn send(&mut self, first: u8, payload: &[u8]) {
        self.write(&masked(first, payload));
    }

    /// The next frame; `None` at the end of the stream.
    pub fn frame(&mut self) -> Option<Frame> {
        self.fill_to(2)?;
        assert_eq!(self.buffer[1] & 0x80, 0, "a server must not mask (RFC 6455 §5.1)");
        let (start, length) = match self.buffer[1] & 0x7F {
            126 => {
                self.fill_to(4)?;
                (4, usize::from(u16::from_be_bytes([self.buffer[2], self.buffer[3]])))
            }
            127 => {
                self.fill_to(10)?;
                let length =
                    u64::from_be_bytes(self.buffer[2..10].try_into().expect("eight bytes"));
                (10, usize::try_from(length).expect("a length that fits"))
            }
            short => (2, usize::from(short)),
        };
        self.fill_to(start + length)?;
        let frame: Vec<u8> = self.buffer.drain(..start + length).collect();
        Some(Frame { first: frame[0], payload: frame[start..].to_vec() })
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
        loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = self.buffer.drain(..at + 4).collect();
                return String::from_utf8(head).expect("heads are ASCII");
            }
            assert!(
                self.fill(),
                "the stream ended within the head: {:?}",
                String::from_utf8_lossy(&self.buffer)
            );
        }
    }

    /// Everything up to the end of the stream.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.buffer)
    }

    /// Whether nothing comes, and nothing ends, for as long as this.
    pub fn is_quiet_for(&mut self, time: std::time::Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).expect("not zero");
        let quiet = self.buffer.is_empty()
            && self.stream.peek(&mut [0]).is_err_and(|error| is_timeout(&error));
        self.stream.set_read_timeout(Some(DEADLINE)).expect("not zero");
        quiet
    }

    /// Ends our half of the stream.
    pub fn finish(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    /// Ends it with a TCP reset.
    pub fn reset(self) {
        let socket = socket2::SockRef::from(&self.stream);
        socket.set_linger(Some(std::time::Duration::ZERO)).expect("a socket can linger");
    }

    fn fill_to(&mut self, length: usize) -> Option<()> {
        while self.buffer.len() < length {
            if !self.fill() {
                return None;
            }
        }
        Some(())
    }

    /// `false` at the end of the stream, by whatever way. Panics if nothing comes in time.
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
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.payload).expect("JSON")
    }
}

/// A frame with its shortest length and a mask.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
    let mut frame = header(first, payload.len(), true);
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// A frame without a mask, as only a server may send it.
pub fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first, payload.len(), false);
    frame.extend_from_slice(payload);
    frame
}

fn header(first: u8, length: usize, masked: bool) -> Vec<u8> {
    let mask = if masked { 0x80 } else { 0 };
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short < 126 => vec![first, mask | short],
        (_, Ok(medium)) => [&[first, mask | 126][..], &medium.to_be_bytes()].concat(),
        _ => [&[first, mask | 127][..], &(length as u64).to_be_bytes()].concat(),
    }
}
