//! What goes over the wire between Mahavishnu's clients and servers, for both of them, as pure state machines.
//!
//! Bytes, the time and a seed come in; events and bytes go out. There is no socket, thread, runtime, clock or log in here
//! and no cryptography, so it can be driven by any of them: by `mahavishnu-core`, which makes a server of it, by a client
//! over a blocking socket, by a test on a clock of its own. Nothing is compiled that is not Rust.
//!
//! - [`ws`]: one socket's protocol, HTTP/1.x, the WebSocket handshake, frames and messages (RFC 6455), either role.
//! - [`protocol`]: the JSON messages that clients and servers exchange, both halves, and the body of `POST /publish`.
//! - [`reason`]: every refusal and every end, with its close code, HTTP status, error code and advice, in one table.
//! - [`time`], [`entropy`]: time and randomness as inputs.
//! - [`Limits`]: what bounds one connection.
//!
//! # A server
//!
//! Whoever has the socket gives what it reads to [`ws::Connection::receive`], looks at each event, and writes what
//! [`ws::Connection::flush`] has for it. Events borrow the bytes that were read, never the connection, so it can be told
//! what to answer while a message is being looked at.
//!
//! ```
//! use std::{io::Write, time::Duration};
//! use mahavishnu_wire::{
//!     Limits,
//!     entropy::{Entropy, Seed},
//!     protocol::{Intent, CorrelationRule, Envelope, Stamp, Timestamp, decode_text},
//!     time::{Instant, Now},
//!     ws::{Accept, Connection, Event},
//! };
//!
//! /// Takes in what the socket gave, and answers pings of the message protocol.
//! fn read(now: Now, server: &mut Connection, ids: &mut Entropy, mut wire: &mut [u8], socket: &mut impl Write) {
//!     let limits = Limits::default();
//!     while let Some(event) = server.receive(now, &limits, &mut wire) {
//!         match event {
//!             Event::Upgrade(_) => server.accept(now, &Accept::default()),
//!             Event::Text(text) => {
//!                 let Ok(message) = decode_text(&text) else { continue };
//!                 if message.intent() == Intent::Ping {
//!                     let timestamp = Timestamp::from_unix(now.unix);
//!                     let stamp = Stamp { id: ids.uuid(), timestamp: &timestamp };
//!                     let mut pong = Vec::new();
//!                     Envelope::pong(stamp, message.correlation(CorrelationRule::Tolerant)).write(&mut pong);
//!                     server.send_encoded(&pong);
//!                 }
//!             }
//!             other => println!("{other:?}"),
//!         }
//!     }
//!     let _ = server.flush(now, socket); // Says what to do with the socket.
//! }
//!
//! let now = Now { mono: Instant::now(), unix: Duration::from_secs(1_770_000_000) };
//! let mut server = Connection::server(now);
//! let mut ids = Entropy::new(Seed::from(7));
//!
//! let mut handshake = b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
//!     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".to_vec();
//! let mut socket = Vec::new();
//! read(now, &mut server, &mut ids, &mut handshake, &mut socket);
//! assert!(socket.starts_with(b"HTTP/1.1 101 "));
//!
//! // `{"type":"ping"}` in a frame whose mask is zero.
//! let mut ping = [&[0x81, 0x80 | 15, 0, 0, 0, 0][..], br#"{"type":"ping"}"#].concat();
//! socket.clear();
//! read(now, &mut server, &mut ids, &mut ping, &mut socket);
//! assert!(String::from_utf8_lossy(&socket).contains(r#""type":"pong""#));
//! // One timer is all that it needs beside the socket.
//! assert!(server.poll_timeout(&Limits::default()).is_some());
//! ```
//!
//! # A client
//!
//! The same from the other side. Its masks are drawn from the seed that it is given (RFC 6455 §5.3), which outside of tests
//! comes from the operating system. `examples/watch.rs` is such a client whole, over a `TcpStream`, with TLS by rustls or
//! without.
//!
//! ```
//! use std::time::Duration;
//! use mahavishnu_wire::{
//!     Limits,
//!     entropy::{Entropy, Seed},
//!     protocol::{Kind, Message, Request},
//!     time::{Instant, Now},
//!     ws::{ClientRequest, Connection, Event},
//! };
//! # use mahavishnu_wire::ws::Accept;
//!
//! let (now, limits) = (Now { mono: Instant::now(), unix: Duration::ZERO }, Limits::default());
//! let request = ClientRequest {
//!     host: "localhost:8686".to_owned(),
//!     path: "/".to_owned(),
//!     headers: http::HeaderMap::new(), // Here belongs the `Authorization`, if there is one.
//!     subprotocols: Vec::new(),
//!     deflate: false,
//! };
//! let mut client = Connection::client(now, request, Entropy::new(Seed::from(7)));
//! let mut socket = Vec::new();
//! let _ = client.flush(now, &mut socket);
//! assert!(socket.starts_with(b"GET / HTTP/1.1\r\n"));
//!
//! # let mut server = Connection::server(now);
//! # let mut at_server = socket.clone();
//! # assert!(matches!(server.receive(now, &limits, &mut &mut at_server[..]), Some(Event::Upgrade(_))));
//! # server.accept(now, &Accept::default());
//! # let event = r#"{"id":"1","type":"event","event":"pool.scaled","room":"pool:7","data":{"worker_count":3}}"#;
//! # server.send_text(event);
//! # let mut answer = Vec::new();
//! # let _ = server.flush(now, &mut answer);
//! // What the server answers, and an event right behind.
//! let mut wire = &mut answer[..];
//! while let Some(event) = client.receive(now, &limits, &mut wire) {
//!     match event {
//!         Event::Accepted(_) => {
//!             client.send_text(&Request::Subscribe { channel: "pool:7" }.to_text(Some("1")));
//!         }
//!         Event::Text(text) => {
//!             let message = Message::read(&text)?;
//!             assert_eq!((message.kind, message.room.as_deref()), (Kind::Event, Some("pool:7")));
//!             assert_eq!(message.data, Some(r#"{"worker_count":3}"#));
//!         }
//!         other => panic!("{other:?}"),
//!     }
//! }
//! # let _ = client.flush(now, &mut socket);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//!
//! - `deflate` (on by default): compressing and decompressing messages (permessage-deflate, RFC 7692). Without it the
//!   extension can still be negotiated, and a message that comes compressed is handed out as it is.

#![forbid(unsafe_code)]

pub mod entropy;
mod limits;
pub mod protocol;
pub mod reason;
pub mod time;
pub mod ws;

pub use limits::Limits;
