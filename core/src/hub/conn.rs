//! One connection as the hub sees it: the socket's protocol and the session above it.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use uuid::Uuid;

use super::{
    intake::Taking,
    quota::Bucket,
    rare::Rare,
    room::Standing,
    token::Token,
    transport::Transport,
    types::{Listener, Peer, RequestId},
    visitors::Entered,
};
use crate::{auth::Access, limits::Limits, tls::Identity, ws};

/// A connection. Boxed in the slab, so that its size is paid only while it exists.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) transport: Transport,
    pub(crate) ws: ws::Connection,
    pub(crate) session: Session,
    /// Name in the welcome. Nil until the connection is active.
    pub(crate) uuid: Uuid,
    /// The client, or the last proxy that is not trusted to name it.
    pub(crate) ip: IpAddr,
    pub(crate) port: u16,
    pub(crate) listener: Listener,
    pub(crate) entered: Entered,
    /// A header of the PROXY protocol came first: whoever it is, it is not this machine's own.
    pub(crate) proxied: bool,
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
    pub(crate) asked: Rare<RequestId>,
    /// Who it is, once a token was accepted.
    pub(crate) token: Option<Arc<Token>>,
    /// It was told that its token is about to expire.
    pub(crate) warned: bool,
    /// Who it is by its certificate, if that was asked for.
    pub(crate) identity: Option<Arc<Identity>>,
    /// The token is what the certificate says: another may replace it.
    pub(crate) certified: bool,
    /// What the policy lets it do; meaningful only with a token.
    pub(crate) access: Option<Box<Access>>,
    pub(crate) bucket: Bucket,
    pub(crate) subscriptions: Vec<Subscription>,
    /// Losses to be announced. Empty unless a channel's policy is [`Gap`](crate::config::SlowPolicy::Gap).
    pub(crate) gaps: Rare<Gap>,
    /// The session's own deadline: authentication, what is due about its token, or its turn in a drain.
    pub(crate) deadline: Option<Instant>,
    /// Whether its socket may be given up for another, and when.
    pub(crate) standing: Standing,
    /// The timer entry that is believed in.
    pub(crate) armed: Option<Instant>,
    /// Where the hub lists it while its socket takes no more; [`NOT_BEHIND`](Self::NOT_BEHIND) otherwise.
    pub(crate) behind: u32,
    /// What it is counted with in the hub's backlog.
    pub(crate) private_bytes: u32,
    /// What has come only in part.
    pub(crate) taking: Taking,
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

impl Session {
    /// The limits that hold for what the peer sends at this point.
    pub(crate) fn limits<'l>(self, before_auth: &'l Limits, otherwise: &'l Limits) -> &'l Limits {
        match self {
            Self::Unauthenticated { .. } => before_auth,
            Self::Http | Self::Active | Self::Gone => otherwise,
        }
    }
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
    /// Not listed.
    pub(crate) const NOT_BEHIND: u32 = u32::MAX;

    pub(crate) fn new(transport: Transport, ws: ws::Connection, peer: Peer) -> Self {
        Self {
            transport,
            ws,
            session: Session::Http,
            uuid: Uuid::nil(),
            ip: peer.address.ip(),
            port: peer.address.port(),
            listener: peer.listener,
            entered: Entered::default(),
            proxied: false,
            joining: 0,
            local: false,
            secure: false,
            identity: None,
            certified: false,
            dirty: false,
            blocked: false,
            lossy: false,
            asked: Rare::new(),
            token: None,
            warned: false,
            access: None,
            bucket: Bucket::default(),
            subscriptions: Vec::new(),
            gaps: Rare::new(),
            deadline: None,
            standing: Standing::default(),
            armed: None,
            behind: Self::NOT_BEHIND,
            private_bytes: 0,
            taking: Taking::default(),
        }
    }

    pub(crate) fn peer(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port)
    }

    /// Whether its address, as far as it is known, is one of this machine, and nobody stands between.
    pub(crate) fn is_loopback(&self) -> bool {
        !self.proxied && self.ip.to_canonical().is_loopback()
    }

    pub(crate) fn user(&self) -> Option<Arc<str>> {
        self.token.as_ref().and_then(|token| token.claims.user.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
    fn only_this_machine_itself_is_loopback() {
        let now = crate::time::Now { mono: Instant::now(), unix: std::time::Duration::ZERO };
        let conn = |address: &str, proxied| {
            let peer = Peer { address: address.parse().unwrap(), listener: Listener::Main };
            let ws = ws::Connection::server(now, &Limits::default());
            let transport = Transport::Plain { instead_of_tls: false };
            Conn { proxied, ..Conn::new(transport, ws, peer) }
        };
        assert!(conn("127.0.0.1:1", false).is_loopback());
        assert!(conn("[::ffff:127.0.0.1]:1", false).is_loopback());
        assert!(!conn("192.0.2.1:1", false).is_loopback());
        assert!(!conn("127.0.0.1:1", true).is_loopback());
    }

    /// The documented budget: below 512 bytes for an idle connection, its slot in the slab included.
    #[test]
    fn an_idle_connection_keeps_its_budget() {
        assert!(size_of::<Conn>() + 16 < 512, "{}", size_of::<Conn>());
    }
}
