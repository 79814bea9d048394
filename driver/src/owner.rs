//! What the sockets of a shard belong to, and where each has its place in the poller's table.

use mahavishnu_core::hub::ConnId;

/// What a socket belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A connection of the hub.
    Conn(ConnId),
    /// The link to Redis.
    Link,
}

/// The place of the link's socket.
pub(crate) const LINK: usize = 0;

/// The place of a connection's socket.
pub(crate) fn place(conn: ConnId) -> usize {
    conn.index() + 1
}
