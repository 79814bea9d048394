//! The Mahavishnu core: a WebSocket broadcast server as a pure state machine.
//!
//! The core has no clock, no randomness of the operating system, no sockets, threads or runtime, and it does not log.
//! Time, a seed and bytes come in; bytes and effects go out. Whatever drives it, an adapter over tokio or smol or a
//! simulator, gets the same behaviour, and the same inputs always give the same outputs.
//!
//! # The contract
//!
//! A [`hub::Hub`] is one core's whole server. Its driver works in turns:
//!
//! 1. Feed **any number** of inputs, up to [`TURN_INPUTS_MAX`](hub::Hub::TURN_INPUTS_MAX): `handle_accept`, `handle_bytes`,
//!    `handle_eof`, `handle_io_error`, `handle_shard`, `handle_command`, `handle_timeout`. [`time::Now::mono`] never
//!    decreases from call to call.
//! 2. Call [`poll_output`](hub::Hub::poll_output) until it returns `None` and do what each output says.
//! 3. Call [`poll_dirty`](hub::Hub::poll_dirty) until it returns `None` and [`flush`](hub::Hub::flush) each connection
//!    once. The answer says what to do with the socket: [`ws::Flush::Blocked`]: flush again when it is
//!    writable, or when it comes up here and [`is_given_up`](hub::Hub::is_given_up);
//!    [`ws::Flush::Fin`]: shut down its write side and go on reading; [`ws::Flush::Closed`]: drop it, its
//!    [`ConnId`](hub::ConnId) is void. If flushing led to outputs, go back to 2.
//!    [`Output::Drained`](hub::Output::Drained) is the last output: sockets that are still there at the drain's deadline
//!    are given up without a flush, and the driver drops them all.
//! 4. Call [`end_turn`](hub::Hub::end_turn), then arm one timer for [`poll_timeout`](hub::Hub::poll_timeout), at which
//!    `handle_timeout` is due; it says what for. Whoever wants metrics gives [`tally`](hub::Hub::tally) to
//!    [`Metrics::record`](metrics::Metrics::record).
//!
//! Inputs about a connection that is gone are ignored, so the driver need not cancel what is under way. While
//! [`wants_read`](hub::Hub::wants_read) is false the driver leaves the connection's bytes in the socket. Nothing here
//! blocks, and no input from the network can make it panic.
//!
//! Taking many inputs before one drain is what makes fan-out fast: all messages that a turn brings for a channel are
//! encoded into one segment that its subscribers share, and each subscriber is written to once.
//!
//! # A run loop
//!
//! One connection over any blocking stream, in full:
//!
//! ```
//! use std::{io::{self, Read, Write}, net::SocketAddr, sync::Arc, time::Duration};
//! use mahavishnu_core::{
//!     config::Config, entropy::Seed, hub::{Hub, Listener, Peer, Place}, time::{Instant, Now}, ws::Flush,
//! };
//!
//! fn serve(stream: &mut (impl Read + Write), peer: SocketAddr, clock: impl Fn() -> Now) -> io::Result<()> {
//!     let mut hub = Hub::new(Arc::new(Config::default()), Place::alone(Seed::from(1)), clock());
//!     let peer = Peer { address: peer, listener: Listener::Main };
//!     let Ok(conn) = hub.handle_accept(clock(), peer) else { return Ok(()) };
//!     let mut scratch = vec![0; 64 * 1024];
//!     loop {
//!         match stream.read(&mut scratch) {
//!             Ok(0) => hub.handle_eof(clock(), conn),
//!             Ok(n) => hub.handle_bytes(clock(), conn, &mut scratch[..n]),
//!             Err(error) => hub.handle_io_error(clock(), conn, error.kind()),
//!         }
//!         hub.handle_timeout(clock());
//!         loop {
//!             while let Some(output) = hub.poll_output(clock()) {
//!                 drop(output); // Here is nobody to answer requests or to carry messages to other shards.
//!             }
//!             let Some(conn) = hub.poll_dirty() else { break };
//!             match hub.flush(clock(), conn, stream) {
//!                 Flush::Drained | Flush::Blocked | Flush::Fin => {}
//!                 Flush::Closed => return Ok(()),
//!             }
//!         }
//!         hub.end_turn(clock());
//!         if hub.sockets() == 0 {
//!             return Ok(());
//!         }
//!     }
//! }
//!
//! // A client that asks for the server's health and hangs up.
//! struct Client { request: io::Cursor<&'static [u8]>, answer: Vec<u8> }
//! # impl Read for Client { fn read(&mut self, to: &mut [u8]) -> io::Result<usize> { self.request.read(to) } }
//! # impl Write for Client {
//! #     fn write(&mut self, from: &[u8]) -> io::Result<usize> { self.answer.write(from) }
//! #     fn flush(&mut self) -> io::Result<()> { Ok(()) }
//! # }
//! let mut client = Client {
//!     request: io::Cursor::new(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
//!     answer: Vec::new(),
//! };
//! let start = Instant::now();
//! let clock = || Now { mono: start, unix: Duration::from_secs(1_770_000_000) };
//! serve(&mut client, "127.0.0.1:50000".parse().unwrap(), clock).unwrap();
//! assert!(client.answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
//! ```
//!
//! # Parts
//!
//! - [`hub`]: connections, channels, fan-out, requests, drain.
//! - [`auth`]: tokens and permissions.
//! - [`tls`]: between the socket's bytes and the connection's.
//! - [`limits`], [`config`], [`metrics`]: what bounds, steers and counts.
//! - [`spans`]: what was done for whom and how long it took, for tracing.
//! - [`trace`]: record what goes in, replay it elsewhere.
//! - [`wire`], a crate of its own for clients as well, of which these are re-exported here: [`ws`], one socket's protocol,
//!   HTTP/1.x and RFC 6455, either role; [`protocol`], the messages that clients and servers exchange; [`reason`], every
//!   refusal and every end, in one table; [`time`] and [`entropy`], time and randomness as inputs.
//!
//! # Features
//!
//! Both are on by default and compile a cryptographic library in C. They add to the interface and change nothing else:
//! without them a hub is the same, and nobody can give it a key or a certificate.
//!
//! - `jwt`: verifying and making tokens, see [`auth`].
//! - `tls`: serving TLS, see [`tls`].

#![forbid(unsafe_code)]

pub mod auth;
pub mod config;
mod dialect;
mod hosts;
pub mod hub;
pub mod limits;
pub mod metrics;
mod origin;
pub mod record;
pub mod spans;
pub mod tls;
pub mod trace;

pub use http;
pub use ipnet;
pub use mahavishnu_wire as wire;
pub use mahavishnu_wire::{entropy, protocol, reason, time, ws};
