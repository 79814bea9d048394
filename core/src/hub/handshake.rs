//! The WebSocket handshake as the hub sees it: who may stay, and with which token.

use std::{borrow::Cow, net::IpAddr};

use http::{HeaderMap, Request, header};

use super::{
    Hub,
    conn::Session,
    forwarded, token,
    types::{ConnId, Listener},
};
use crate::{auth::Claims, config::Config, reason::Reason, time::Now, ws};

impl Hub {
    /// A WebSocket handshake. Over a limit it is accepted and closed with 1013: clients of this protocol give up for
    /// good when a handshake is answered with an HTTP error, but come back after a close.
    pub(crate) fn on_upgrade(&mut self, now: Now, id: ConnId, request: &Request<()>) {
        let Some(conn) = self.conn(id) else { return };
        let address = conn.ip;
        let local = conn.is_loopback() && is_direct(request.headers());
        if conn.listener == Listener::Metrics {
            self.answer_reason(now, id, Reason::NotFound);
            return;
        }
        if self.is_restricted(id) {
            self.refuse_plain(now, id);
            return;
        }
        if !self.config.origins.allow(origin(request.headers())) {
            self.refuse_http(now, id, Reason::OriginForbidden);
            return;
        }
        let token = Token::of(request, &self.config);
        let accepted = match (&token.value, self.config.auth.keys.is_empty()) {
            (Some(value), false) => match self.verify(now, value) {
                Ok(token) => Some(token),
                Err(_) => {
                    self.refuse_http(now, id, Reason::AuthFailed);
                    return;
                }
            },
            _ => None,
        };
        let deflate = match self.config.deflate.enabled {
            false => None,
            true => match ws::Deflate::choose(request.headers()) {
                Ok(deflate) => deflate,
                Err(reason) => {
                    self.refuse_http(now, id, reason);
                    return;
                }
            },
        };
        let client =
            forwarded::client_address(address, request.headers(), &self.config.trusted_proxies);
        let Some((conn, _)) = self.conn_mut(id) else { return };
        conn.local = local;
        if let Some(client) = client {
            // Which port the client has is only known to the proxy.
            (conn.ip, conn.port) = (client, 0);
        }
        let refusal = self.admission(now, id);
        let Some((conn, _)) = self.conn_mut(id) else { return };
        let subprotocol = token.subprotocol.as_deref();
        conn.ws.accept(now, &ws::Accept { subprotocol, deflate });
        if let Some(reason) = refusal {
            self.close(now, id, reason);
            return;
        }
        self.count(|census| census.open += 1);
        let auth_timeout = self.config.limits.auth.auth_timeout;
        let Some((conn, _)) = self.conn_mut(id) else { return };
        conn.session = Session::Unauthenticated { pings: 0 };
        if let Some(accepted) = accepted {
            self.set_token(now, id, accepted);
            self.activate(now, id);
        } else if let Some(claims) = self.certified(id) {
            self.set_token(now, id, token::Token::of_certificate(now, claims));
            self.activate(now, id);
        } else if self.config.auth.required {
            let Some((conn, _)) = self.conn_mut(id) else { return };
            conn.aside.put().deadline = Some(now.mono + auth_timeout);
        } else {
            self.activate(now, id);
        }
    }

    /// What the client's certificate says and permits, as if a token had said it; `None` if no grant names it.
    pub(crate) fn certified(&self, id: ConnId) -> Option<Claims> {
        let identity = self.conn(id)?.aside.get().identity.as_ref()?;
        let permissions = identity.permissions(&self.config.auth.certificates)?;
        Some(Claims { user: Some(identity.user()), permissions, ..Claims::default() })
    }

    /// Why a new connection may not stay, if so.
    fn admission(&mut self, now: Now, id: ConnId) -> Option<Reason> {
        let open = self.connections();
        if self.is_draining() {
            Some(Reason::Shutdown)
        } else if open >= self.config.limits.connections.connections_max as u64 {
            Some(Reason::MaxConnections)
        } else {
            self.enter_everyone(now, id).or_else(|| self.enter_address(now, id))
        }
    }
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
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The web page that a request comes from, if a browser sent it.
pub(crate) fn origin(headers: &HeaderMap) -> Option<&[u8]> {
    headers.get(header::ORIGIN).map(header::HeaderValue::as_bytes)
}

fn query_value<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query
        .split('&')
        .find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name))
        .map(|(_, value)| value)
}

/// Whether no proxy of HTTP has passed a request on, and if a browser sends it, it comes from a page of this machine. Who
/// may publish without a token hangs on this and on [`Conn::is_loopback`](super::conn::Conn::is_loopback).
pub(crate) fn is_direct(headers: &HeaderMap) -> bool {
    let proxied = ["forwarded", "x-forwarded-for", "x-real-ip", "via"]
        .iter()
        .any(|name| headers.contains_key(*name));
    let foreign_page =
        headers.get(header::ORIGIN).is_some_and(|origin| !is_loopback_origin(origin.as_bytes()));
    !proxied && !foreign_page
}

fn is_loopback_origin(origin: &[u8]) -> bool {
    let Some((_, authority)) =
        std::str::from_utf8(origin).ok().and_then(|origin| origin.split_once("://"))
    else {
        return false;
    };
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn only_what_came_past_nobody_is_direct() {
        assert!(is_direct(&headers(&[])));
        assert!(is_direct(&headers(&[("origin", "http://localhost:3000")])));
        assert!(is_direct(&headers(&[("origin", "http://[::1]:3000")])));
        assert!(!is_direct(&headers(&[("x-forwarded-for", "192.0.2.1")])));
        assert!(!is_direct(&headers(&[("origin", "https://example.com")])));
        assert!(!is_direct(&headers(&[("origin", "http://localhost.example.com")])));
        assert!(!is_direct(&headers(&[("origin", "null")])));
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
