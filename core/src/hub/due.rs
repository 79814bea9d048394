//! When a hub wants to be woken, and what for.

use crate::time::Instant;

/// When [`Hub::handle_timeout`](super::Hub::handle_timeout) is due, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout {
    /// When.
    pub at: Instant,
    /// What for. An entry that was replaced may still come up, so that nothing comes of it.
    pub reason: TimeoutReason,
}

/// What a hub wakes for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeoutReason {
    /// TLS handshakes that a turn had no time for: [`tls_handshakes_per_turn`](crate::limits::Tls::tls_handshakes_per_turn).
    Handshakes,
    /// Requests that a client had sent ahead can be looked at, now that it has read answers. Due at once.
    Requests,
    /// A connection's protocol: a head that does not come, a ping, a pong, the close handshake, the end of the socket.
    Protocol,
    /// A connection's session: authentication, its token, its turn in a drain.
    Session,
    /// A question that the application has not answered.
    Question,
    /// What is kept of channels: something has become too old.
    History,
    /// A session whose client has not come back.
    Resume,
    /// The bus: a lease, or what is due about channels there.
    Bus,
    /// Numbers about the server, for who wants to see them.
    Statistics,
    /// Figures of skills, for those who speak Session-Buddy's protocol.
    Feed,
    /// The end of a drain.
    Drain,
}
