//! What is known of a connection besides its number: for the application, which is told it once.

use std::{any::Any, collections::BTreeMap, fmt, net::SocketAddr, sync::Arc};

use http::{HeaderMap, Request};
use uuid::Uuid;

use super::{
    Hub,
    connections::{Conn, Phase},
    types::ConnId,
};
use crate::{auth::Claims, config::Config, reason::Reason, tls::Identity};

/// What the application is told of a connection, if [`Hooks::introduce`](crate::config::Hooks::introduce) is set.
#[derive(Clone)]
pub struct Introduction {
    /// The name by which its client knows it: `connection_id` of its welcome. Over HTTP no client is told it.
    pub id: Uuid,
    /// Its address, as far as trusted proxies name it; [`NO_ADDRESS`](super::NO_ADDRESS) if it has none.
    pub peer: SocketAddr,
    /// Who it is by its certificate, if clients must have one.
    pub identity: Option<Arc<Identity>>,
    /// What its token, its certificate or the application says of it. `None`: nobody has said anything.
    pub claims: Option<Claims>,
    /// Whether it came through TLS of this server.
    pub secure: bool,
    /// The path that its handshake, or its request over HTTP, asked for, without the query.
    pub path: Box<str>,
    /// Of its header fields those that [`Hooks::keep_headers`](crate::config::Hooks::keep_headers) names.
    pub headers: HeaderMap,
    /// What the application itself has said of it: see [`Authentication::Access`](super::Authentication::Access).
    pub data: Option<Data>,
}

impl Introduction {
    /// Of somebody of whom nothing is known.
    #[must_use]
    pub fn nobody() -> Self {
        Self {
            id: Uuid::nil(),
            peer: SocketAddr::from(([0, 0, 0, 0], 0)),
            identity: None,
            claims: None,
            secure: false,
            path: Box::default(),
            headers: HeaderMap::new(),
            data: None,
        }
    }
}

impl fmt::Debug for Introduction {
    /// Neither values of header fields, which may be secrets, nor what is the application's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, peer, identity, claims, secure, path, headers, data: _ } = self;
        f.debug_struct("Introduction")
            .field("id", id)
            .field("peer", peer)
            .field("identity", &identity.as_ref().map(|identity| &identity.subject))
            .field("claims", claims)
            .field("secure", secure)
            .field("path", path)
            .field("headers", &headers.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// Something of the application's, which the core passes on and never looks at. It is no part of a trace.
#[derive(Clone)]
pub struct Data(pub Arc<dyn Any + Send + Sync>);

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Data(..)")
    }
}

/// What is kept of a handshake until its connection is introduced, or of a request over HTTP until it is answered.
#[derive(Clone, Debug, Default)]
pub(super) struct AtHand {
    path: Box<str>,
    headers: HeaderMap,
    pub(super) data: Option<Data>,
    /// What the application says of who has sent the request.
    pub(super) vouched: Option<Box<Claims>>,
}

impl AtHand {
    /// What is wanted of a request, unless that is more than may be kept.
    fn of<T>(config: &Config, request: &Request<T>) -> Result<Self, Reason> {
        let path: Box<str> = request.uri().path().into();
        let mut headers = HeaderMap::new();
        let mut bytes = path.len();
        for name in &config.hooks.keep_headers {
            for value in request.headers().get_all(name) {
                bytes += name.as_str().len() + value.len();
                headers.append(name.clone(), value.clone());
            }
        }
        // To leave something out would let the application take it for not said.
        if bytes > config.limits.requests.kept_request_bytes_max {
            return Err(Reason::HeadTooLarge);
        }
        Ok(Self { path, headers, ..Self::default() })
    }
}

/// What is kept of handshakes and requests that are under way. Connections have none of it while they are open.
pub(super) type AtHands = BTreeMap<ConnId, AtHand>;

impl Hub {
    /// Keeps what the application is to be told of a handshake or a request. Refused if that is too much.
    pub(super) fn keep_at_hand<T>(
        &mut self,
        id: ConnId,
        request: &Request<T>,
    ) -> Result<(), Reason> {
        if self.env.config.hooks.introduce {
            let at_hand = AtHand::of(&self.env.config, request)?;
            self.at_hand.insert(id, at_hand);
        }
        Ok(())
    }

    /// A request was answered, or its connection is gone.
    #[inline]
    pub(super) fn forget_at_hand(&mut self, id: ConnId) {
        if !self.at_hand.is_empty() {
            self.at_hand.remove(&id);
        }
    }

    /// What the application has said of who sends the request that is being answered.
    pub(super) fn vouched_at_hand(&self, id: ConnId) -> Option<&Claims> {
        self.at_hand.get(&id)?.vouched.as_deref()
    }

    /// A connection is welcomed: what the application is told of it, if it wants to know.
    pub(super) fn introduce(&mut self, id: ConnId) -> Option<Box<Introduction>> {
        if !self.env.config.hooks.introduce {
            return None;
        }
        let name = self.env.public_name(id);
        let at_hand = self.at_hand.remove(&id).unwrap_or_default();
        Some(introduction(name, self.connections.get(id)?, at_hand))
    }

    /// The same of who asks for something over HTTP, and is no connection that the application has heard of.
    pub(super) fn introduce_caller(&self, id: ConnId) -> Option<Box<Introduction>> {
        let conn = self.connections.get(id).filter(|conn| conn.phase == Phase::Http)?;
        if !self.env.config.hooks.introduce {
            return None;
        }
        let at_hand = self.at_hand.get(&id).cloned().unwrap_or_default();
        Some(introduction(self.env.public_name(id), conn, at_hand))
    }
}

fn introduction(id: Uuid, conn: &Conn, at_hand: AtHand) -> Box<Introduction> {
    let AtHand { path, headers, data, vouched } = at_hand;
    let token = conn.rare().token.as_ref().map(|token| token.claims.clone());
    Box::new(Introduction {
        id,
        peer: conn.peer(),
        identity: conn.identity(),
        claims: token.or_else(|| vouched.map(|claims| *claims)),
        secure: conn.secure,
        path,
        headers,
        data,
    })
}
