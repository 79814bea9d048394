//! Clients that speak Session-Buddy's protocol: what becomes of their messages. It has no errors, so what is refused is counted
//! as it is for everybody else, and answered by silence; that, and what else differs in what they are sent, is decided in
//! `connections/send.rs`. Who is sent what once a second is in `feed`.

use std::{borrow::Cow, time::Duration};

use super::{Hub, connections::Phase, http::Refused, types::ConnId};
use crate::{
    config::Dialect,
    protocol::{
        self, DecodeError, Kind,
        session_buddy::{Asked, Told},
    },
    reason::Reason,
};

/// By what its client tells that a connection could not authenticate. `None`: as it says in the table of reasons.
pub(super) fn farewell(dialect: Dialect, reason: Reason) -> Option<(u16, &'static str)> {
    let unauthenticated = matches!(
        reason,
        Reason::AuthMissing | Reason::AuthFailed | Reason::AuthError | Reason::AuthTimeout
    );
    (dialect == Dialect::SessionBuddy && unauthenticated).then_some(UNAUTHENTICATED)
}

/// How long a connection may take to authenticate: no longer than its protocol allows.
pub(super) fn auth_timeout(dialect: Dialect, auth_timeout: Duration) -> Duration {
    match dialect {
        Dialect::Family => auth_timeout,
        Dialect::SessionBuddy => auth_timeout.min(AUTH_TIMEOUT),
    }
}

impl Hub {
    /// A complete message of such a client.
    #[cold]
    pub(super) fn on_asked(&mut self, id: ConnId, phase: Phase, message: &[u8]) {
        match phase {
            Phase::Active => self.on_active_asked(id, Asked::decode(message)),
            Phase::Unauthenticated { .. } => self.on_first_asked(id, Asked::first(message)),
            Phase::Http | Phase::Gone => {}
        }
    }

    /// Before authentication: a token, and nothing else.
    fn on_first_asked(&mut self, id: ConnId, token: Result<Option<Cow<'_, str>>, DecodeError>) {
        if token.is_ok() {
            self.env.tally.received(self.env.now.mono, Kind::Request);
        }
        let verified = match token {
            Err(_) => Err(Reason::AuthError),
            Ok(None) => Err(Reason::AuthMissing),
            Ok(Some(token)) => {
                self.tokens.verify(&self.env, &token).map_err(|_| Reason::AuthFailed)
            }
        };
        match verified {
            Err(reason) => self.close(id, reason),
            Ok(token) => {
                self.set_token(id, token);
                let outcome = self.activate(id);
                if self.env.spans.is_some() {
                    self.trace_first_auth(id, outcome);
                }
            }
        }
    }

    fn on_active_asked(&mut self, id: ConnId, asked: Result<Asked<'_>, DecodeError>) {
        let env = &mut self.env;
        let Some(conn) = self.connections.edit(id) else { return };
        let taken = conn.allowance.take(env.started, env.now.mono, &env.config.limits);
        let asked = match (asked, taken) {
            (Ok(asked), _) => asked,
            (Err(error), Ok(())) => {
                let refused = Refused::undecoded(error);
                return self.connections.refuse_because(env, id, &refused, None);
            }
            (Err(_), Err(wait)) => return self.connections.refuse_rate(env, id, wait, None),
        };
        let kind = match &asked {
            Asked::Subscribe { .. } => Some(Kind::Subscribe),
            Asked::Unsubscribe => Some(Kind::Unsubscribe),
            Asked::Ping => Some(Kind::Ping),
            Asked::Token(_) => Some(Kind::Request),
            Asked::Other => None,
        };
        if let Some(kind) = kind {
            env.tally.received(env.now.mono, kind);
        }
        if let Err(wait) = taken {
            return self.connections.refuse_rate(env, id, wait, None);
        }
        match asked {
            Asked::Subscribe { skill } => self.on_subscribe_to_skill(id, skill.as_deref()),
            Asked::Unsubscribe => self.feed.turn_to(&mut self.connections, id, None),
            Asked::Ping => self.connections.send_told(&mut self.env, id, Told::Pong),
            // A new token in time lets the connection stay.
            Asked::Token(token) => {
                let how = (protocol::event::AUTH, "authenticated");
                self.on_late_token(id, how, token, None);
            }
            Asked::Other => self.connections.refuse(env, id, Reason::UnknownRequest, None),
        }
    }

    fn on_subscribe_to_skill(&mut self, id: ConnId, skill: Option<&str>) {
        self.feed.turn_to(&mut self.connections, id, skill.filter(|skill| !skill.is_empty()));
        let timestamp = self.env.timestamp();
        let confirmed = Told::SubscriptionConfirmed { skill, timestamp: &timestamp };
        self.connections.send_told(&mut self.env, id, confirmed);
    }

    /// A connection is welcomed: if its protocol is this one, it is sent the figures of all skills from now on.
    pub(super) fn join_feed(&mut self, id: ConnId) {
        if self.connections.get(id).is_some_and(|conn| conn.dialect == Dialect::SessionBuddy) {
            self.feed.join(self.env.now.mono, id);
        }
    }
}

/// The close code of the original, and its text.
const UNAUTHENTICATED: (u16, &str) = (4001, "Authentication failed");
/// As long as the original waits for a token.
const AUTH_TIMEOUT: Duration = Duration::from_secs(5);
