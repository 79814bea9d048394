//! Frames after a handshake, in either role.
//!
//! However the bytes are cut, the same messages come out of them. tungstenite reads the same bytes: what both deliver is
//! equal, message by message, and where one fails and the other does not, the difference is one of those listed at
//! `is_stricter`.

use std::io::{self, Cursor, Read, Write};

use mahavishnu_core::{
    entropy::{Entropy, Seed},
    reason::Reason,
    wire::Limits,
    ws::{ClientRequest, Connection},
};
use tungstenite::{
    Error, Message, WebSocket,
    error::ProtocolError,
    handshake::derive_accept_key,
    protocol::{Role, WebSocketConfig},
};

use crate::trace::{Cuts, Ending, Habits, Trace, start};

/// Input: a byte that chooses the cuts, a byte of flags, then frames.
pub fn run(input: &[u8]) {
    let Some((&[seed, flags], stream)) = input.split_first_chunk::<2>() else { return };
    let whole = trace(stream, Cuts::Whole, flags);
    let mut others = vec![Cuts::Seeded(seed)];
    if stream.len() <= 2048 {
        others.push(Cuts::Single);
    }
    for cuts in others {
        let other = trace(stream, cuts, flags);
        assert_eq!(whole.events, other.events, "{cuts:?}");
        assert_eq!(whole.end, other.end, "{cuts:?}");
        if flags & NO_ECHO != 0 {
            // Echoes that are dropped in favour of a close frame were written already if they came in a chunk before.
            assert_eq!(whole.written, other.written, "{cuts:?}");
        }
    }
    compare(&whole, stream, flags);
}

fn trace(stream: &[u8], cuts: Cuts, flags: u8) -> Trace {
    let limits = limits(flags);
    let habits = Habits { late: false, refuse: false, close: false, echo: flags & NO_ECHO == 0 };
    let mut trace = match role(flags) {
        Role::Server => {
            let mut trace = Trace::new(Connection::server(start()), limits, habits);
            trace.feed(HANDSHAKE, Cuts::Whole);
            trace
        }
        Role::Client => {
            let request = ClientRequest {
                host: "a".to_owned(),
                path: "/".to_owned(),
                headers: http::HeaderMap::new(),
                subprotocols: Vec::new(),
                deflate: false,
            };
            let entropy = Entropy::new(Seed::from(1));
            let connection = Connection::client(start(), request, entropy);
            let mut trace = Trace::new(connection, limits, habits);
            trace.feed(b"", Cuts::Whole);
            let answer = answer(&trace.written);
            trace.feed(&answer, Cuts::Whole);
            trace
        }
    };
    assert!(trace.connection.is_open(), "the handshake is done");
    trace.events.clear();
    trace.written.clear();
    trace.feed(stream, cuts);
    trace.finish(if flags & SILENCE != 0 { Ending::Silence } else { Ending::Eof });
    trace
}

/// A server's positive answer to the handshake in `head`.
fn answer(head: &[u8]) -> Vec<u8> {
    let head = std::str::from_utf8(head).expect("a head is text");
    let (_, rest) = head.split_once("Sec-WebSocket-Key: ").expect("a handshake has a key");
    let (key, _) = rest.split_once("\r\n").expect("a line ends");
    let proof = derive_accept_key(key.as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {proof}\r\n\r\n"
    )
    .into_bytes()
}

fn limits(flags: u8) -> Limits {
    let limits = Limits::default();
    if flags & SMALL == 0 {
        return limits;
    }
    Limits { message_bytes_max: 200, fragments_max: 4, control_frames_per_second_max: 4, ..limits }
}

fn role(flags: u8) -> Role {
    if flags & CLIENT != 0 { Role::Client } else { Role::Server }
}

/// How tungstenite sees a stream end.
#[derive(Debug)]
enum Theirs {
    Open,
    Closed,
    Failed(Error),
}

fn compare(ours: &Trace, stream: &[u8], flags: u8) {
    let is_message = |event: &&String| event.starts_with("text ") || event.starts_with("binary ");
    let messages: Vec<&String> = ours.events.iter().filter(is_message).collect();
    let (expected, theirs) = oracle(stream, flags);
    let common = messages.len().min(expected.len());
    assert!(messages[..common].iter().copied().eq(&expected[..common]), "messages differ");
    let end = ours.end.expect("an end");
    let waited = match flags & SILENCE {
        0 => end == Reason::Eof,
        _ => matches!(end, Reason::PongTimeout | Reason::IdleTimeout),
    };
    match theirs {
        Theirs::Open if waited => assert_eq!(messages.len(), expected.len()),
        Theirs::Closed if end == Reason::PeerClosed => assert_eq!(messages.len(), expected.len()),
        Theirs::Open | Theirs::Closed => {
            assert!(messages.len() <= expected.len(), "{end:?}");
            let early = matches!(theirs, Theirs::Open) && ends_within_a_frame(stream);
            assert!(early || is_stricter(end), "{end:?} where tungstenite says {theirs:?}");
        }
        Theirs::Failed(error) => {
            assert!(
                messages.len() <= expected.len(),
                "{error} was noticed later than by tungstenite"
            );
            assert!(!waited && end != Reason::PeerClosed, "accepted in spite of {error}");
            if flags & CLIENT == 0
                && let Some(code) = code_for(&error, end)
            {
                assert_eq!(close_code(&ours.written), Some(code), "{error}");
            }
        }
    }
}

/// Where we fail and tungstenite does not. Apart from these we fail earlier in a frame: on its header, or on the first
/// byte that is not UTF-8, where tungstenite waits for the whole frame.
fn is_stricter(reason: Reason) -> bool {
    matches!(
        reason,
        // RFC 6455 §5.2: the shortest form.
        Reason::BadLength
        // RFC 6455 §7.4: tungstenite takes the frame and answers 1002.
        | Reason::BadClose
        // Limits that tungstenite does not have.
        | Reason::TooManyFragments
        | Reason::ControlFlood
    )
}

/// RFC 6455 §7.4.1, where both found the same fault.
fn code_for(error: &Error, end: Reason) -> Option<u16> {
    match (error, end) {
        (Error::Utf8(_), Reason::BadUtf8) => Some(1007),
        (Error::Capacity(_), Reason::MessageTooBig) => Some(1009),
        (Error::Protocol(ProtocolError::UnmaskedFrameFromClient), Reason::Unmasked)
        | (Error::Protocol(ProtocolError::NonZeroReservedBits), Reason::ReservedBits)
        | (Error::Protocol(ProtocolError::FragmentedControlFrame), Reason::FragmentedControl)
        | (Error::Protocol(ProtocolError::ControlFrameTooBig), Reason::LongControl) => Some(1002),
        _ => None,
    }
}

/// The code of the last frame, if that is an unmasked close frame.
fn close_code(mut written: &[u8]) -> Option<u16> {
    loop {
        let (header, length) = match *written {
            [_, 127, a, b, c, d, e, f, g, h, ..] => {
                (10, u64::from_be_bytes([a, b, c, d, e, f, g, h]))
            }
            [_, 126, a, b, ..] => (4, u64::from(u16::from_be_bytes([a, b]))),
            [_, short, ..] => (2, u64::from(short)),
            _ => return None,
        };
        let length = usize::try_from(length).ok()?;
        let payload = written.get(header..)?.get(..length)?;
        if written[0] == 0x88 {
            return payload.first_chunk::<2>().map(|code| u16::from_be_bytes(*code));
        }
        written = &written[header + length..];
    }
}

fn oracle(stream: &[u8], flags: u8) -> (Vec<String>, Theirs) {
    let max = Some(limits(flags).message_bytes_max);
    let config = WebSocketConfig::default()
        .read_buffer_size(4096)
        .max_message_size(max)
        // Control frames are bounded by their own rule.
        .max_frame_size(max);
    let pipe = Pipe(Cursor::new(stream));
    let mut socket = WebSocket::from_raw_socket(pipe, role(flags), Some(config));
    let mut messages = Vec::new();
    loop {
        match socket.read() {
            Ok(Message::Text(text)) => messages.push(format!("text {text}")),
            Ok(Message::Binary(data)) => messages.push(format!("binary {:?}", &*data)),
            Ok(Message::Close(_)) => return (messages, Theirs::Closed),
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => {
                return (messages, Theirs::Open);
            }
            Err(error) => return (messages, Theirs::Failed(error)),
        }
    }
}

/// Whether the stream breaks off inside a frame.
fn ends_within_a_frame(mut stream: &[u8]) -> bool {
    while let [_, second, rest @ ..] = stream {
        let (extended, short) = match second & 0x7F {
            126 => (2, 0),
            127 => (8, 0),
            short => (0, u64::from(short)),
        };
        let Some((length, rest)) = rest.split_at_checked(extended) else { return true };
        let length = length.iter().fold(short, |length, byte| length << 8 | u64::from(*byte));
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        let size = usize::try_from(length).unwrap_or(usize::MAX).saturating_add(mask);
        let Some((_, rest)) = rest.split_at_checked(size) else { return true };
        stream = rest;
    }
    !stream.is_empty()
}

/// Gives a stream and takes anything.
struct Pipe<'s>(Cursor<&'s [u8]>);

impl Read for Pipe<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Pipe<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const HANDSHAKE: &[u8] =
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

const SMALL: u8 = 1;
const CLIENT: u8 = 2;
const NO_ECHO: u8 = 4;
const SILENCE: u8 = 16;
