//! The WebSocket handshake (RFC 6455 §4.2): whether a request may be accepted, and with which token.

use std::{borrow::Cow, net::IpAddr};

use http::{HeaderMap, Request, header};

use super::{
    connections::Conn,
    env::Env,
    forwarded,
    tokens::{self, Tokens},
};
use crate::{
    auth::Claims,
    config::{Config, Dialect},
    origin::is_loopback,
    reason::Reason,
    ws,
};

/// A handshake that may be accepted, as far as the request goes.
pub(super) struct Accepted<'r> {
    /// What came with it and verified.
    pub(super) token: Option<tokens::Token>,
    subprotocol: Option<Cow<'r, str>>,
    deflate: Option<ws::Deflate>,
    /// It comes from this machine, past no proxy and from no foreign web page.
    pub(super) local: bool,
    /// Whose it is, if a trusted proxy says so.
    pub(super) client: Option<IpAddr>,
    /// What is spoken on its path.
    pub(super) dialect: Dialect,
}

impl Accepted<'_> {
    /// What the answer agrees on.
    pub(super) fn answer(&self) -> ws::Accept<'_> {
        ws::Accept { subprotocol: self.subprotocol.as_deref(), deflate: self.deflate }
    }
}

/// What has been said of whose a handshake is.
pub(super) enum Word {
    /// Nobody was asked.
    Unasked,
    /// The application has nothing to say.
    None,
    /// The application says this.
    Vouched(Claims),
}

/// Whether a handshake may be accepted: origin, token, extensions.
pub(super) fn judge<'r>(
    env: &Env,
    tokens: &Tokens,
    conn: &Conn,
    request: &'r Request<()>,
    word: Word,
) -> Result<Accepted<'r>, Reason> {
    let (config, headers) = (&env.config, request.headers());
    check_target(config, headers)?;
    let Token { value, subprotocol } = Token::of(request, config);
    let token = match (word, value.filter(|_| !config.auth.keys.is_empty())) {
        (Word::Vouched(claims), _) if tokens.is_withdrawn(env, &claims) => {
            return Err(Reason::Unauthorized);
        }
        (Word::Vouched(claims), _) => Some(tokens::Token::of_application(env.now, claims)),
        (Word::Unasked | Word::None, Some(value)) => {
            Some(tokens.verify(env, &value).map_err(|_| Reason::AuthFailed)?)
        }
        (Word::Unasked | Word::None, None) => None,
    };
    let deflate = match config.deflate.enabled {
        false => None,
        true => ws::Deflate::choose(headers)?,
    };
    let (local, client) = whence(config, conn, headers);
    let dialect = config.dialects.of(request.uri().path());
    Ok(Accepted { token, subprotocol, deflate, local, client, dialect })
}

/// Whether a handshake is for a name of this server, and from a page that may connect.
pub(super) fn check_target(config: &Config, headers: &HeaderMap) -> Result<(), Reason> {
    if !is_host_allowed(config, headers) {
        return Err(Reason::HostForbidden);
    }
    if !is_origin_allowed(config, headers) {
        return Err(Reason::OriginForbidden);
    }
    Ok(())
}

/// Whether a handshake comes from this machine, past nobody, and whose it is if a trusted proxy says so.
fn whence(config: &Config, conn: &Conn, headers: &HeaderMap) -> (bool, Option<IpAddr>) {
    let local = conn.is_loopback() && is_direct(headers);
    (local, forwarded::client_address(conn.ip, headers, &config.trusted_proxies))
}

/// Notes where a handshake comes from.
pub(super) fn locate(config: &Config, conn: &mut Conn, headers: &HeaderMap) {
    let (local, client) = whence(config, conn, headers);
    place(conn, local, client);
}

/// Notes where a connection comes from.
pub(super) fn place(conn: &mut Conn, local: bool, client: Option<IpAddr>) {
    conn.local = local;
    if let Some(client) = client {
        // Which port the client has is only known to the proxy.
        (conn.ip, conn.port) = (client, 0);
    }
}

/// The subprotocol that an answer to a handshake agrees on.
pub(super) fn subprotocol<'r>(config: &Config, request: &'r Request<()>) -> Option<Cow<'r, str>> {
    Token::of(request, config).subprotocol
}

/// What the client's certificate says and permits, as if a token had said it; `None` if no grant names it.
pub(super) fn certified(env: &Env, conn: &Conn) -> Option<Claims> {
    let identity = conn.rare().identity.as_ref()?;
    let permissions = identity.permissions(&env.config.auth.certificates)?;
    Some(Claims { user: Some(identity.user()), permissions, ..Claims::default() })
}

/// Whether a request that is no handshake was one when it was sent: proxies drop `Upgrade` and `Connection` unless they
/// are told to pass them on, and the rest stays. An upgrade to something else, such as curl's `h2c`, is none.
pub(super) fn is_attempted(headers: &HeaderMap) -> bool {
    let upgrades = headers.get_all(header::UPGRADE).iter().filter_map(|value| value.to_str().ok());
    let mut protocols = upgrades.flat_map(|value| value.split(','));
    protocols.any(|protocol| protocol.trim().eq_ignore_ascii_case("websocket"))
        || [header::SEC_WEBSOCKET_KEY, header::SEC_WEBSOCKET_VERSION]
            .iter()
            .any(|name| headers.contains_key(name))
}

/// A token that came with the handshake, and the subprotocol to agree on.
struct Token<'r> {
    value: Option<Cow<'r, str>>,
    subprotocol: Option<Cow<'r, str>>,
}

impl<'r> Token<'r> {
    fn of(request: &'r Request<()>, config: &Config) -> Self {
        let mut this =
            Self { value: bearer(request.headers()).map(Cow::Borrowed), subprotocol: None };
        if config.auth.subprotocol {
            this.take_subprotocol(request.headers());
        }
        if let (None, Some(name)) = (&this.value, &config.auth.query_parameter) {
            this.value =
                query_value(request.uri().query().unwrap_or_default(), name).map(Cow::Borrowed);
        }
        this
    }

    /// `bearer, <token>` agrees on `bearer`; `bearer.<token>` on the first other protocol offered, or on itself:
    /// browsers fail a connection whose offer is not taken up (RFC 6455 §4.1).
    fn take_subprotocol(&mut self, headers: &'r HeaderMap) {
        let offered: Vec<&str> = headers
            .get_all(header::SEC_WEBSOCKET_PROTOCOL)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .collect();
        let pair = offered.iter().position(|protocol| *protocol == "bearer");
        if let Some(token) = pair.and_then(|at| offered.get(at + 1)) {
            self.value.get_or_insert(Cow::Borrowed(token));
            self.subprotocol = Some(Cow::Borrowed("bearer"));
        } else if let Some((at, token)) = offered
            .iter()
            .enumerate()
            .find_map(|(at, offer)| offer.strip_prefix("bearer.").map(|token| (at, token)))
        {
            self.value.get_or_insert(Cow::Borrowed(token));
            let other =
                offered.iter().enumerate().find(|(other, _)| *other != at).map(|(_, offer)| *offer);
            self.subprotocol = other.or_else(|| offered.get(at).copied()).map(Cow::Borrowed);
        }
    }
}

/// The token of an `Authorization: Bearer` header (RFC 6750 §2.1).
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Whether the web page that a request comes from, if a browser sent it, may do so. No browser names two (RFC 6454 §7.3).
pub(super) fn is_origin_allowed(config: &Config, headers: &HeaderMap) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let origin = origins.next().map(header::HeaderValue::as_bytes);
    origins.next().is_none() && config.origins.allow(origin)
}

/// Whether a request is for a name of this server. There is one at most: a head with two is malformed.
pub(super) fn is_host_allowed(config: &Config, headers: &HeaderMap) -> bool {
    config.hosts.allow(headers.get(header::HOST).map(header::HeaderValue::as_bytes))
}

fn query_value<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query
        .split('&')
        .find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name))
        .map(|(_, value)| value)
}

/// Whether no proxy of HTTP that says so has passed a request on, and if a browser sends it, it comes from a page of this
/// machine. Who may publish without a token hangs on this and on [`Conn::is_loopback`](Conn::is_loopback).
pub(super) fn is_direct(headers: &HeaderMap) -> bool {
    let foreign = headers.get_all(header::ORIGIN).iter().any(|page| !is_loopback(page.as_bytes()));
    !is_proxied(headers) && !foreign
}

/// Whether a proxy of HTTP that says so has passed a request on.
pub(super) fn is_proxied(headers: &HeaderMap) -> bool {
    let is_of_proxy = |name: &str| {
        OF_PROXIES.contains(&name) || BEGIN_OF_PROXIES.iter().any(|begin| name.starts_with(begin))
    };
    headers.keys().any(|name| is_of_proxy(name.as_str()))
}

/// What proxies and networks in front of a server add to a request.
const OF_PROXIES: [&str; 20] = [
    "forwarded",
    "via",
    "forwarded-for",
    "x-forwarded",
    "x-real-ip",
    "x-client-ip",
    "client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "fastly-client-ip",
    "x-original-host",
    "x-original-url",
    "x-original-forwarded-for",
    "x-proxyuser-ip",
    "x-remote-addr",
    "x-remote-ip",
    "x-scheme",
    "cdn-loop",
    "x-appengine-user-ip",
    "proxy-connection",
];
const BEGIN_OF_PROXIES: [&str; 6] =
    ["x-forwarded-", "cf-", "x-envoy-", "x-azure-", "x-amzn-", "x-arr-"];

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn only_what_came_past_nobody_is_direct() {
        assert!(is_direct(&headers(&[])));
        assert!(is_direct(&headers(&[
            ("user-agent", "curl"),
            ("x-request-id", "1"),
            ("x-forward", "")
        ])));
        assert!(is_direct(&headers(&[("origin", "http://localhost:3000")])));
        assert!(is_direct(&headers(&[("origin", "http://[::1]:3000")])));
        assert!(!is_direct(&headers(&[("x-forwarded-for", "192.0.2.1")])));
        assert!(!is_direct(&headers(&[("origin", "https://example.com")])));
        assert!(!is_direct(&headers(&[("origin", "http://localhost.example.com")])));
        assert!(!is_direct(&headers(&[("origin", "null")])));
    }

    #[test]
    fn each_header_of_a_proxy_alone_takes_being_local_away() {
        for name in [
            "Forwarded",
            "Via",
            "X-Forwarded-For",
            "X-Forwarded-Host",
            "X-Forwarded-Proto",
            "X-Forwarded-Port",
            "X-Forwarded-Server",
            "X-Real-IP",
            "X-Client-IP",
            "X-Cluster-Client-IP",
            "True-Client-IP",
            "CF-Connecting-IP",
            "CF-Connecting-IPv6",
            "CF-Ray",
            "Fastly-Client-IP",
            "X-Envoy-External-Address",
            "X-Azure-ClientIP",
            "X-Amzn-Trace-Id",
            "CDN-Loop",
            "X-Original-Forwarded-For",
        ] {
            assert!(!is_direct(&headers(&[(name, "")])), "{name}");
        }
    }

    #[test]
    fn of_two_origins_none_counts() {
        let page = ("origin", "http://localhost:3000");
        let mut two = headers(&[page]);
        two.append("origin", "http://localhost:3000".parse().unwrap());
        assert!(is_origin_allowed(&Config::default(), &headers(&[page])));
        assert!(!is_origin_allowed(&Config::default(), &two));
        let mut foreign = headers(&[page]);
        foreign.append("origin", "https://example.com".parse().unwrap());
        assert!(!is_direct(&foreign));
    }

    #[test]
    fn a_bearer_token_is_found_in_any_case_of_the_scheme() {
        assert_eq!(bearer(&headers(&[("authorization", "bearer abc")])), Some("abc"));
        assert_eq!(bearer(&headers(&[("authorization", "Bearer abc")])), Some("abc"));
        assert_eq!(bearer(&headers(&[("authorization", "Basic abc")])), None);
    }

    #[test]
    fn a_subprotocol_may_carry_the_token() {
        for (offer, token, agreed) in [
            ("bearer, abc", "abc", "bearer"),
            ("bearer.abc", "abc", "bearer.abc"),
            ("mahavishnu, bearer.abc", "abc", "mahavishnu"),
        ] {
            let offered: &'static str = offer;
            let map = headers(&[("sec-websocket-protocol", offered)]);
            let mut found = Token { value: None, subprotocol: None };
            found.take_subprotocol(&map);
            assert_eq!(
                (found.value.as_deref(), found.subprotocol.as_deref()),
                (Some(token), Some(agreed))
            );
        }
    }

    #[test]
    fn a_query_parameter_is_found_by_its_whole_name() {
        assert_eq!(query_value("a=1&token=abc&b=2", "token"), Some("abc"));
        assert_eq!(query_value("mytoken=abc", "token"), None);
    }
}
