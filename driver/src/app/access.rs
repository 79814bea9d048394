//! Whose is it? What the application is asked of a handshake, and what it may say.

use std::{
    any::Any,
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, Method, Request, header::AsHeaderName};
use mahavishnu_core::{
    auth::{Claims, Grants, Pattern},
    hub::{Authentication, ConnId, Denial, Refusal as Refused, RefusedBy},
    tls::Identity,
};
use tracing::error;

use super::connected::{self, Kept, Shared};
use crate::handle::Handle;

/// A handshake, or a request over HTTP that a permission decides on: what [`authenticate`](crate::Builder::authenticate)
/// is asked about. All header fields are there, secrets included: it is gone when it was answered.
#[derive(Clone)]
pub struct Handshake {
    pub(super) conn: ConnId,
    pub(super) request: Arc<Request<()>>,
    pub(super) peer: SocketAddr,
    pub(super) identity: Option<Arc<Identity>>,
    pub(super) secure: bool,
    pub(super) upgrade: bool,
    pub(super) shared: Arc<Shared>,
}

impl Handshake {
    /// Names the connection that it comes by. It is not there yet: nothing can be sent to it.
    #[must_use]
    pub fn conn(&self) -> ConnId {
        self.conn
    }

    /// Whether it is a WebSocket handshake. Otherwise it is `POST /publish`, `/revoke` or `/disconnect`, or `GET /history`,
    /// `/state` or `/connections`: [`method`](Self::method) and [`path`](Self::path) say which.
    #[must_use]
    pub fn is_websocket(&self) -> bool {
        self.upgrade
    }

    /// Its head: method, target, header fields.
    #[must_use]
    pub fn request(&self) -> &Request<()> {
        &self.request
    }

    /// The method: GET of a handshake.
    #[must_use]
    pub fn method(&self) -> &Method {
        self.request.method()
    }

    /// The path, without the query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.request.uri().path()
    }

    /// The query, as it came: `a=1&b=2`.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.request.uri().query()
    }

    /// The header fields.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.request.headers()
    }

    /// The first value of a header field, if it is text.
    #[must_use]
    pub fn header(&self, name: impl AsHeaderName) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    /// The value of a cookie (RFC 6265 §4.2), as it came. Of several with this name the first: browsers send first the one
    /// of the longest path. A name is told letter by letter.
    #[must_use]
    pub fn cookie(&self, name: &str) -> Option<&str> {
        let fields = self.headers().get_all(http::header::COOKIE).iter();
        let mut pairs = fields
            .filter_map(|field| field.to_str().ok())
            .flat_map(|field| field.split(';'))
            .filter_map(|pair| pair.split_once('='));
        pairs.find(|(known, _)| known.trim() == name).map(|(_, value)| {
            let value = value.trim();
            value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)
        })
    }

    /// The token of an `Authorization: Bearer` header (RFC 6750 §2.1), whatever it is.
    #[must_use]
    pub fn bearer(&self) -> Option<&str> {
        let (scheme, token) = self.header(http::header::AUTHORIZATION)?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    }

    /// Its address: of the client if a trusted proxy names it, with port 0 then. `None` if it has none, as at a Unix socket.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        connected::peer(self.peer)
    }

    /// Who it is by its certificate, if clients must have one.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_deref()
    }

    /// Whether it came through TLS of this server.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Reaches the server.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.shared.handle
    }
}

impl fmt::Debug for Handshake {
    /// Nothing that the client has sent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake")
            .field("conn", &self.conn)
            .field("peer", &self.peer())
            .field("is_websocket", &self.upgrade)
            .finish_non_exhaustive()
    }
}

/// Whose a handshake is and what they may do, or nothing: see [`pass`](Self::pass).
///
/// What it opens is judged as if a token had said it: permissions by the policy
/// ([`Config::policy`](mahavishnu_core::config::Config::policy)), and beside them the channels that it names.
///
/// ```
/// use std::time::Duration;
/// use mahavishnu_driver::Access;
///
/// struct Session { tenant: String }
///
/// let access = Access::of("ada")
///     .permissions(["workflow:read"])
///     .subscribe(["chat:*", "user:ada"])
///     .publish(["chat:*"])
///     .expires_in(Duration::from_secs(3600))
///     .keep(Session { tenant: "acme".into() });
/// # drop(access);
/// ```
#[must_use = "it is what a handler returns"]
pub struct Access {
    said: Option<Box<Claims>>,
    data: Option<Arc<dyn Any + Send + Sync>>,
}

/// What [`authenticate`](crate::Builder::authenticate) returns.
pub type AuthenticateResult = Result<Access, Refusal>;

impl Access {
    /// A user: limits by user, the key of revocations, `user` of presence.
    pub fn of(user: impl Into<Arc<str>>) -> Self {
        let claims = Claims { user: Some(user.into()), ..Claims::default() };
        Self { said: Some(Box::new(claims)), data: None }
    }

    /// Somebody who has no name. Counts by address where users count by name.
    pub fn anonymous() -> Self {
        Self { said: Some(Box::default()), data: None }
    }

    /// Nothing is said here: what the configuration says of tokens and certificates decides, as if this handler were not
    /// there. So it stands beside them.
    pub fn pass() -> Self {
        Self { said: None, data: None }
    }

    /// Adds permissions. Without effect on [`pass`](Self::pass), as all that follows.
    pub fn permissions<P: Into<Box<str>>>(self, permissions: impl IntoIterator<Item = P>) -> Self {
        let permissions = permissions.into_iter().map(Into::into);
        self.saying(|claims| claims.permissions.extend(permissions))
    }

    /// Adds channels to receive events of: names, and beginnings of names followed by `*`. What is neither opens nothing, and
    /// the log says so.
    pub fn subscribe<'p>(self, channels: impl IntoIterator<Item = &'p str>) -> Self {
        self.saying(|claims| claims.grants.subscribe.extend(patterns(channels)))
    }

    /// Adds channels to publish to, likewise.
    pub fn publish<'p>(self, channels: impl IntoIterator<Item = &'p str>) -> Self {
        self.saying(|claims| claims.grants.publish.extend(patterns(channels)))
    }

    /// Adds channels of both kinds.
    pub fn grants(self, grants: Grants) -> Self {
        self.saying(|claims| {
            claims.grants.subscribe.extend(grants.subscribe);
            claims.grants.publish.extend(grants.publish);
        })
    }

    /// Until when it holds. The client is warned before, may refresh it by a token of the same user if the server takes
    /// tokens, and is closed with 1008 some time after it: as with a token. Default: for ever.
    pub fn expires_at(self, at: SystemTime) -> Self {
        let at = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.saying(|claims| claims.expires = Some(at))
    }

    /// For how long it holds, from now on.
    pub fn expires_in(self, time: Duration) -> Self {
        match SystemTime::now().checked_add(time) {
            Some(at) => self.expires_at(at),
            None => self,
        }
    }

    /// Something of the application's own that every handler finds again: [`Connected::data`](crate::Connected::data).
    pub fn keep<T: Any + Send + Sync>(mut self, data: T) -> Self {
        if self.said.is_some() {
            self.data = Some(Arc::new(data));
        }
        self
    }

    fn saying(mut self, say: impl FnOnce(&mut Claims)) -> Self {
        if let Some(claims) = &mut self.said {
            say(claims);
        }
        self
    }

    pub(super) fn into_authentication(self, shared: &Arc<Shared>) -> Authentication {
        let Self { said, data } = self;
        let data = data.map(|data| Kept::new(data, shared).into_data());
        said.map_or(Authentication::Pass, |claims| Authentication::Access { claims, data })
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let data = self.data.is_some();
        f.debug_struct("Access").field("said", &self.said).field("data", &data).finish()
    }
}

fn patterns<'p>(channels: impl IntoIterator<Item = &'p str>) -> impl Iterator<Item = Pattern> {
    channels.into_iter().filter_map(|text| {
        let pattern = Pattern::parse(text);
        if let Err(error) = &pattern {
            error!(pattern = text, %error, "the application's access names no channels by this");
        }
        pattern.ok()
    })
}

/// Why somebody is not let in. What it says to a client is in the table of reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "it is what a handler returns"]
pub struct Refusal(Refused);

impl Refusal {
    /// Nobody knows who it is: a handshake is answered with 401. [`Reason::Unauthorized`](
    /// mahavishnu_core::reason::Reason::Unauthorized).
    pub const fn unauthorized() -> Self {
        Self::by_status(Denial::Unauthorized)
    }

    /// It is known who it is, and that they may not: 403. [`Reason::AccessDenied`](
    /// mahavishnu_core::reason::Reason::AccessDenied).
    pub const fn forbidden() -> Self {
        Self::by_status(Denial::Forbidden)
    }

    /// It cannot be found out at present: a handshake is accepted and closed with 1013, so that its client comes back; a
    /// request over HTTP gets 503. [`Reason::Undecided`](mahavishnu_core::reason::Reason::Undecided).
    pub const fn later() -> Self {
        Self::by_status(Denial::Later)
    }

    /// Instead of an HTTP status a handshake gets an error message and a close frame with 1008. By default it gets the status:
    /// that costs least, and clients that reconnect by themselves give up, as they should. Scripts in browsers, however, see
    /// nothing of a status, not even that there was one, and many try for ever: where these are the clients, close.
    pub const fn closing(mut self) -> Self {
        self.0.by = RefusedBy::Close;
        self
    }

    const fn by_status(denial: Denial) -> Self {
        Self(Refused { denial, by: RefusedBy::Status })
    }

    pub(super) fn into_authentication(self) -> Authentication {
        Authentication::Refuse(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_pattern_opens_nothing() {
        let access = Access::of("ada").subscribe(["chat:*", "a*b"]).publish([""]);
        let claims = access.said.unwrap();
        let opened: Vec<_> = claims.grants.subscribe.iter().map(Pattern::to_string).collect();
        assert_eq!((opened, claims.grants.publish.len()), (vec!["chat:*".to_owned()], 0));
    }

    #[test]
    fn nothing_can_be_added_to_nothing() {
        let access = Access::pass().permissions(["admin"]).subscribe(["*"]).keep(5);
        assert!(access.said.is_none() && access.data.is_none());
    }
}
