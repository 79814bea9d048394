//! One connection as the hub sees it: the socket's protocol and the session above it.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::{
    aside::Aside,
    quota::Allowance,
    subscriptions::Subscriptions,
    transport::Transport,
    types::{Listener, Peer},
    visitors::Entered,
};
use crate::{time::Tick, wire, ws};

/// A connection. Boxed in the slab, so that its size is paid only while it exists. An idle one takes no more than this:
/// whatever is there only at times is [`aside`](Self::aside).
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) transport: Transport,
    pub(crate) ws: ws::Connection,
    pub(crate) session: Session,
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
    /// On the hub's list of connections to flush.
    pub(crate) dirty: bool,
    /// Its socket took no more when it was last written to.
    pub(crate) blocked: bool,
    /// Subscribed to something whose messages it lost and was not told of yet: there are gaps aside.
    pub(crate) lossy: bool,
    /// On the hub's list of those whose sockets take no more.
    pub(crate) behind: bool,
    pub(crate) allowance: Allowance,
    pub(crate) subscriptions: Subscriptions,
    /// The timer entry that is believed in.
    pub(crate) armed: Option<Tick>,
    pub(crate) aside: Aside,
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
    pub(crate) fn limits<'l>(
        self,
        before_auth: &'l wire::Limits,
        otherwise: &'l wire::Limits,
    ) -> &'l wire::Limits {
        match self {
            Self::Unauthenticated { .. } => before_auth,
            Self::Http | Self::Active | Self::Gone => otherwise,
        }
    }
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
            ip: peer.address.ip(),
            port: peer.address.port(),
            listener: peer.listener,
            entered: Entered::default(),
            proxied: false,
            local: false,
            secure: false,
            dirty: false,
            blocked: false,
            lossy: false,
            behind: false,
            allowance: Allowance::default(),
            subscriptions: Subscriptions::default(),
            armed: None,
            aside: Aside::default(),
        }
    }

    pub(crate) fn peer(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port)
    }

    /// Whether its address, as far as it is known, is one of this machine, and nobody stands between.
    pub(crate) fn is_loopback(&self) -> bool {
        !self.proxied && self.ip.to_canonical().is_loopback()
    }

    /// Whether it lost messages of the channel and was not told of them yet.
    pub(crate) fn has_gap_in(&self, channel: u32) -> bool {
        self.lossy && self.aside.get().gaps.iter().any(|gap| gap.channel == channel)
    }

    pub(crate) fn user(&self) -> Option<Arc<str>> {
        self.aside.get().token.as_ref().and_then(|token| token.claims.user.clone())
    }
}

#[cfg(test)]
mod tests {
    use crate::time::Instant;

    use super::*;

    #[test]
    fn it_takes_little_besides_its_protocol() {
        assert_eq!(size_of::<Conn>() - size_of::<ws::Connection>(), 80);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
    fn only_this_machine_itself_is_loopback() {
        let now = crate::time::Now { mono: Instant::now(), unix: std::time::Duration::ZERO };
        let conn = |address: &str, proxied| {
            let peer = Peer { address: address.parse().unwrap(), listener: Listener::Main };
            let ws = ws::Connection::server(now, &wire::Limits::default());
            Conn { proxied, ..Conn::new(Transport::default(), ws, peer) }
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
