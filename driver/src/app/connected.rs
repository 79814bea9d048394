//! What every handler is told of the connection that it is about.

use std::{
    any::Any,
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use http::{HeaderMap, header::AsHeaderName};
use mahavishnu_core::{
    auth::Claims,
    hub::{ConnId, Data, Introduction},
    tls::Identity,
};
use uuid::Uuid;

use super::{BoxFuture, guard::guard};
use crate::handle::Handle;

/// A connection, as every handler is told of it: who it is, whence it came, and what the application has put there.
///
/// It is a snapshot but for [`data`](Self::data): a later call has the user and the claims of the token that is in force
/// then. Cheap to clone, and good for nothing but looking and [`handle`](Self::handle) once the connection is gone.
#[derive(Clone)]
pub struct Connected(Arc<Inner>);

struct Inner {
    conn: ConnId,
    upgraded: bool,
    user: Option<Arc<str>>,
    introduction: Introduction,
    /// One for all snapshots of a connection.
    slot: Arc<Mutex<Option<Kept>>>,
    shared: Arc<Shared>,
}

/// What all connections of a shard have in common.
pub(crate) struct Shared {
    pub(crate) handle: Handle,
    /// Runs a task where handlers run.
    pub(crate) spawn: Box<dyn Fn(BoxFuture<()>) + Send + Sync>,
}

impl Connected {
    pub(super) fn new(
        conn: ConnId,
        upgraded: bool,
        user: Option<Arc<str>>,
        mut introduction: Introduction,
        shared: &Arc<Shared>,
    ) -> Self {
        let given = introduction.data.take().and_then(|Data(data)| data.downcast::<Kept>().ok());
        let given = given.map(|kept| Kept::clone(&kept));
        let slot = Arc::new(Mutex::new(given));
        Self(Arc::new(Inner { conn, upgraded, user, introduction, slot, shared: shared.clone() }))
    }

    /// The same connection under another token.
    pub(super) fn refreshed(&self, claims: Claims) -> Self {
        let Inner { conn, upgraded, introduction, slot, shared, .. } = &*self.0;
        let (user, claims) = (claims.user.clone(), Some(claims));
        let introduction = Introduction { claims, ..introduction.clone() };
        Self(Arc::new(Inner {
            conn: *conn,
            upgraded: *upgraded,
            user,
            introduction,
            slot: slot.clone(),
            shared: shared.clone(),
        }))
    }

    /// Names the connection to [`Handle`].
    #[must_use]
    pub fn conn(&self) -> ConnId {
        self.0.conn
    }

    /// The name by which the client knows the connection, and others in channels with presence: `connection_id` of its
    /// welcome. Who resumes a session is known to others by the name of the session's first connection.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.0.introduction.id
    }

    /// The user, if the connection has one.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.0.user.as_deref()
    }

    /// What its token says, or its certificate, or [`authenticate`](crate::Builder::authenticate) has said: permissions,
    /// channels, expiry. `None`: nothing.
    #[must_use]
    pub fn claims(&self) -> Option<&Claims> {
        self.0.introduction.claims.as_ref()
    }

    /// Whether its claims have this permission, letter by letter. What a permission opens is the policy's to say.
    #[must_use]
    pub fn has_permission(&self, permission: &str) -> bool {
        let mut all = self.claims().into_iter().flat_map(|claims| &claims.permissions);
        all.any(|known| **known == *permission)
    }

    /// Its address: of the client if a trusted proxy names it, with port 0 then. `None` if it has none, as at a Unix socket.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        peer(self.0.introduction.peer)
    }

    /// Who it is by its certificate, if clients must have one.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.0.introduction.identity.as_deref()
    }

    /// The path of its handshake, without the query; of a request over HTTP the request's.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.0.introduction.path
    }

    /// The header fields of its handshake that [`keep_headers`](crate::Builder::keep_headers) names.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.0.introduction.headers
    }

    /// The first value of one of those, if it is text.
    #[must_use]
    pub fn header(&self, name: impl AsHeaderName) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    /// Whether it came through TLS of this server.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.0.introduction.secure
    }

    /// Whether it is a WebSocket connection. Otherwise somebody publishes or reads over HTTP: it is gone with the answer, and
    /// neither [`on_connect`](crate::Builder::on_connect) nor [`on_disconnect`](crate::Builder::on_disconnect) hears of it.
    #[must_use]
    pub fn is_websocket(&self) -> bool {
        self.0.upgraded
    }

    /// Reaches the server: broadcasting from within a handler is `connected.handle().broadcast(…).await`. No shard waits for
    /// a handler, so a handler may wait for a shard.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.0.shared.handle
    }

    /// What the application has put there by [`Access::keep`](crate::Access::keep) or [`set_data`](Self::set_data), if it is
    /// a `T`.
    #[must_use]
    pub fn data<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        let kept = self.0.slot.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        kept.value()?.downcast().ok()
    }

    /// Puts something of the application's there, in the place of what was there. It is dropped where handlers run, when the
    /// connection is gone and no handler holds it any more.
    pub fn set_data<T: Any + Send + Sync>(&self, data: T) {
        let kept = Kept::new(Arc::new(data), &self.0.shared);
        let before = self.0.slot.lock().unwrap_or_else(PoisonError::into_inner).replace(kept);
        drop(before);
    }
}

impl fmt::Debug for Connected {
    /// Nothing that the client has sent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connected")
            .field("conn", &self.conn())
            .field("id", &self.id())
            .field("peer", &self.peer())
            .finish_non_exhaustive()
    }
}

/// An address, unless it is the one of who has none.
pub(super) fn peer(address: SocketAddr) -> Option<SocketAddr> {
    Some(address).filter(|address| !address.ip().is_unspecified())
}

/// Something of the application's. What happens when it is dropped is the application's too, so it is dropped where handlers
/// run, whoever holds it last.
#[derive(Clone)]
pub(super) struct Kept(Arc<DroppedElsewhere>);

struct DroppedElsewhere {
    value: Option<Arc<dyn Any + Send + Sync>>,
    shared: Arc<Shared>,
}

impl Kept {
    pub(super) fn new(value: Arc<dyn Any + Send + Sync>, shared: &Arc<Shared>) -> Self {
        Self(Arc::new(DroppedElsewhere { value: Some(value), shared: shared.clone() }))
    }

    fn value(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        self.0.value.clone()
    }

    /// As the core passes it on.
    pub(super) fn into_data(self) -> Data {
        Data(Arc::new(self))
    }
}

impl Drop for DroppedElsewhere {
    fn drop(&mut self) {
        let last = Last(self.value.take());
        (self.shared.spawn)(Box::pin(async move { drop(last) }));
    }
}

/// Dropped with a guard, also by a runtime that is over and drops the task at once.
struct Last(Option<Arc<dyn Any + Send + Sync>>);

impl Drop for Last {
    fn drop(&mut self) {
        if guard(|| drop(self.0.take())).is_err() {
            tracing::error!(
                "what the application keeps with a connection panicked when it was dropped"
            );
        }
    }
}
