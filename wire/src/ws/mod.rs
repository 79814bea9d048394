//! One socket's protocol: HTTP/1.x requests, the WebSocket handshake, frames and messages (RFC 6455), both roles.
//!
//! A [`Connection`] knows nothing of channels or of other connections. Bytes go in by [`Connection::receive`], which
//! gives [`Event`]s; commands put answers into the [`Outbox`]; [`Connection::flush`] writes it. After every input and
//! command, flush, and arm one timer at [`Connection::poll_timeout`].
//!
//! ```text
//! server:  Head → (Body →) Exchange → Open → Closing → Ended      client:  Shake → Open → Closing → Ended
//!            ↑───── respond ──────┘                                any state may end at once
//! ```
//!
//! In detail: while an `Exchange` waits for its answer nothing is parsed. `Closing` is our own close frame waiting for
//! the peer's. `Ended` delivers what is queued, then ends our side of the stream and reads on until the peer ends its
//! own: dropping the socket earlier could make the kernel reset the connection and destroy what the peer has not read.

mod chunked;
mod close;
mod connection;
mod deflate;
mod encode;
mod event;
mod flush;
mod frame;
mod head;
mod http1;
mod keepalive;
mod mask;
mod negotiate;
mod outbox;
mod queue;
mod read_buffer;
mod receive;
mod segment;
mod send;
mod state;
mod utf8;

#[cfg(test)]
mod tests;

pub use close::{CloseWhen, PeerClose, may_be_sent};
pub use connection::Connection;
pub use deflate::Deflate;
#[cfg(feature = "deflate")]
pub use deflate::{Deflated, Deflater, Inflater, Work};
pub use encode::{
    FRAME_HEADER_MAX, Opcode, encode_fragment, encode_frame, encode_text, encode_text_parts,
    frame_len,
};
pub use event::{Compressed, Event, Payload, Text};
pub use flush::Flush;
pub use http1::{refusal, refusal_body};
pub use negotiate::{Accept, ClientRequest};
pub use outbox::Outbox;
pub use read_buffer::ReadBuffer;
pub use segment::{Frame, Segment, Watch};
