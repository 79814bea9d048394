//! One connection as the hub sees it: the socket's protocol and the session above it.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use uuid::Uuid;

use super::{
    quota::Bucket,
    token::Token,
    transport::Transport,
    types::{Listener, Peer, RequestId},
    visitors::Entered,
};
use crate::{auth::Access, tls::Identity, ws};

/// A connection. Boxed in the slab, so that its size is paid only while it exists.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) transport: Transport,
    pub(crate) ws: ws::Connection,
    pub(crate) session: Session,
    /// Name in the welcome. Nil until the connection is active.
    pub(crate) uuid: Uuid,
    /// The client, or the last proxy that is not trusted to name it.
    pub(crate) peer: SocketAddr,
    pub(crate) listener: Listener,
    pub(crate) entered: Entered,
    /// Whether it comes from this machine, past no proxy and from no foreign web page.
    pub(crate) local: bool,
    /// Through a TLS handshake.
    pub(crate) secure: bool,
    /// Subscriptions that their channels' homes have not confirmed, those taken back again included.
    pub(crate) joining: u16,
    /// On the hub's list of connections to flush.
    pub(crate) dirty: bool,
    /// Its socket took no more when it was last written to.
    pub(crate) blocked: bool,
    /// Subscribed to something whose messages it lost and was not told of yet.
    pub(crate) lossy: bool,
    /// Questions of this connection that wait for the application.
    pub(crate) asked: Vec<RequestId>,
    /// Who it is, once a token was accepted.
    pub(crate) token: Option<Arc<Token>>,
    /// It was told that its token is about to expire.
    pub(crate) warned: bool,
    /// Who it is by its certificate, if that was asked for.
    pub(crate) identity: Option<Arc<Identity>>,
    /// The token is what the certificate says: another may replace it.
    pub(crate) certified: bool,
    /// What the policy lets it do; meaningful only with a token.
    pub(crate) access: Access,
    pub(crate) bucket: Bucket,
    pub(crate) subscriptions: Vec<Subscription>,
    /// Losses to be announced. Empty unless a channel's policy is [`Gap`](crate::config::SlowPolicy::Gap).
    pub(crate) gaps: Vec<Gap>,
    /// The session's own deadline: authentication, what is due about its token, or its turn in a drain.
    pub(crate) deadline: Option<Instant>,
    /// The timer entry that is believed in.
    pub(crate) armed: Option<Instant>,
}

/// How far a connection has come above the socket's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Session {
    /// Still HTTP.
    Http,
    /// WebSocket, waiting for the auth message.
    Unauthenticated {
        /// Pings answered so far.
        pings: u8,
    },
    /// Welcomed.
    Active,
    /// Over; only its last bytes may still be on their way.
    Gone,
}

/// Membership of one channel, as the connection knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subscription {
    /// The channel's index in this hub.
    pub(crate) channel: u32,
    /// Where the channel lists this connection.
    pub(crate) member: u32,
}

/// Messages of one channel that were dropped for one subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) channel: u32,
    pub(crate) lost: u64,
    pub(crate) first_offset: u64,
    pub(crate) last_offset: u64,
}

impl Conn {
    pub(crate) fn new(transport: Transport, ws: ws::Connection, peer: Peer) -> Self {
        Self {
            transport,
            ws,
            session: Session::Http,
            uuid: Uuid::nil(),
            peer: peer.address,
            listener: peer.listener,
            entered: Entered::default(),
            joining: 0,
            local: false,
            secure: false,
            identity: None,
            certified: false,
            dirty: false,
            blocked: false,
            lossy: false,
            asked: Vec::new(),
            token: None,
            warned: false,
            access: Access::NONE,
            bucket: Bucket::default(),
            subscriptions: Vec::new(),
            gaps: Vec::new(),
            deadline: None,
            armed: None,
        }
    }

    pub(crate) fn user(&self) -> Option<Arc<str>> {
        self.token.as_ref().and_then(|token| token.claims.user.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The documented budget: below 512 bytes for an idle connection, its slot in the slab included.
    #[test]
    fn an_idle_connection_keeps_its_budget() {
        assert!(size_of::<Conn>() + 16 < 512, "{}", size_of::<Conn>());
    }
}
