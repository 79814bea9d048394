//! Tokens on live connections: warning, refresh, expiry, revocation; and subscriptions that are taken back.
//!
//! What a token says about time is wall-clock time, so it is judged by [`Now::unix`]. Timers run on the other clock; when
//! one comes up, the wall clock decides. A wall clock that was set is noticed within a turn, and every deadline is worked
//! out anew: a token that has expired by the new time ends its connection, one that lives longer keeps it.

use std::{borrow::Cow, sync::Arc, time::Duration};

use super::{Hub, conn::Session, types::ConnId};
use crate::{
    auth::{Claims, Denied, Verb},
    limits::Limits,
    protocol,
    reason::Reason,
    time::Now,
};

/// A token that was accepted.
#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) claims: Claims,
    /// When it was, by the wall clock.
    accepted: Duration,
    /// The key that it was signed with, as a number that means nothing outside this hub. `None`: it stands for a
    /// certificate.
    key: Option<u64>,
}

/// When something is due about a token, by the wall clock.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    warn: Option<Duration>,
    expire: Duration,
    close: Duration,
}

/// Why a subscription was taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Withdrawn {
    /// Another token is in force.
    Token,
    /// Another configuration is.
    Policy,
}

impl Withdrawn {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Policy => "policy",
        }
    }
}

impl Token {
    /// What a client's certificate says and permits, as if a token had said it.
    pub(crate) fn of_certificate(now: Now, claims: Claims) -> Self {
        Self { claims, accepted: now.unix, key: None }
    }

    /// `None`: it never expires.
    fn schedule(&self, leeway: Duration, limits: &Limits) -> Option<Schedule> {
        let expire = self.claims.expires?.saturating_add(leeway);
        // Of a short token half is left alone, or a client that refreshes when it is warned would do nothing else.
        let lead = limits.auth.token_warning.min(expire.saturating_sub(self.accepted) / 2);
        let warn = (!lead.is_zero()).then(|| expire.saturating_sub(lead));
        Some(Schedule { warn, expire, close: expire.saturating_add(limits.auth.token_grace) })
    }
}

impl Hub {
    /// Signature, claims, revocations.
    pub(crate) fn verify(&self, now: Now, token: &str) -> Result<Token, Denied> {
        let auth = &self.config.auth;
        let (claims, key) = auth.keys.verify_by(token, now.unix, &auth.rules)?;
        if self.is_revoked(now, &claims) {
            return Err(Denied::Revoked);
        }
        Ok(Token { claims, accepted: now.unix, key: Some(key.number(&self.key_numbers)) })
    }

    fn is_revoked(&self, now: Now, claims: &Claims) -> bool {
        self.revocations.has(now.unix, claims) || self.config.auth.revoked.has(now.unix, claims)
    }

    /// Puts a token in force, in the place of the one before.
    pub(crate) fn set_token(&mut self, now: Now, id: ConnId, token: Token) {
        let access = self.config.policy.access(&token.claims.permissions);
        let renamed = self.conn(id).is_some_and(|conn| conn.user() != token.claims.user);
        if renamed {
            self.leave_as_user(now, id);
        }
        let Some((conn, _)) = self.conn_mut(id) else { return };
        let aside = conn.aside.put();
        aside.certified = token.key.is_none();
        aside.token = Some(Arc::new(token));
        aside.access = Some(Box::new(access));
        aside.warned = false;
        let active = conn.session == Session::Active;
        if renamed
            && active
            && let Some(reason) = self.enter_user(now, id)
        {
            self.close(now, id, reason);
            return;
        }
        self.plan_token(now, id);
    }

    /// A token on a connection that is already active: the connection stays, whatever comes of it. A connection that
    /// has a user keeps to that user.
    pub(crate) fn on_late_token(
        &mut self,
        now: Now,
        id: ConnId,
        (event, status): (&str, &str),
        token: Option<Cow<'_, str>>,
        correlation: Option<&str>,
    ) {
        if self.config.auth.keys.is_empty() {
            self.refuse(now, id, Reason::AuthOff, correlation);
            return;
        }
        let Some(token) = token else {
            self.refuse(now, id, Reason::AuthMissing, correlation);
            return;
        };
        let Ok(token) = self.verify(now, &token) else {
            self.refuse(now, id, Reason::AuthFailed, correlation);
            return;
        };
        // Who has shown a certificate may still say by a token who it is.
        let known = self.conn(id).map(|conn| conn.aside.get()).filter(|aside| !aside.certified);
        let known = known.and_then(|aside| aside.token.as_ref());
        if known.is_some_and(|known| known.claims.user != token.claims.user) {
            self.refuse(now, id, Reason::OtherUser, correlation);
            return;
        }
        self.set_token(now, id, token);
        self.tally.refreshed += 1;
        self.answer_user(now, id, event, status, correlation);
        self.withdraw(now, id, Withdrawn::Token);
    }

    /// Whether the connection's token has expired and only awaits its refresh.
    pub(crate) fn is_stale(&self, now: Now, id: ConnId) -> bool {
        self.schedule(id).is_some_and(|schedule| schedule.expire <= now.unix)
    }

    fn schedule(&self, id: ConnId) -> Option<Schedule> {
        let token = self.conn(id)?.aside.get().token.as_ref()?;
        token.schedule(self.config.auth.rules.leeway, &self.config.limits)
    }

    /// Sets the deadline of an active connection to what is due next about its token.
    pub(crate) fn plan_token(&mut self, now: Now, id: ConnId) {
        if self.is_draining() {
            return; // The drain's own deadlines end it sooner or later.
        }
        let schedule = self.schedule(id);
        let Some((conn, _)) = self.conn_mut(id) else { return };
        if conn.session != Session::Active {
            return;
        }
        let warned = conn.aside.get().warned;
        let due = schedule.map(|schedule| match schedule.warn.filter(|_| !warned) {
            Some(warn) => warn,
            None => schedule.close,
        });
        if let Some(aside) = conn.aside.get_mut() {
            aside.deadline = due.map(|due| now.mono + due.saturating_sub(now.unix));
        }
        self.arm(id);
    }

    /// Something may be due about a connection's token: the wall clock decides what.
    pub(crate) fn on_token_deadline(&mut self, now: Now, id: ConnId) {
        let Some(schedule) = self.schedule(id) else { return };
        if schedule.close <= now.unix {
            self.close(now, id, Reason::TokenExpired);
            return;
        }
        let warned = self.conn(id).is_some_and(|conn| conn.aside.get().warned);
        if schedule.warn.is_some_and(|warn| warn <= now.unix && !warned) {
            if let Some((conn, _)) = self.conn_mut(id) {
                conn.aside.put().warned = true;
            }
            self.tally.warned += 1;
            let left = schedule.expire.saturating_sub(now.unix);
            let grace = self.config.limits.auth.token_grace;
            self.send_expiring(
                now,
                id,
                protocol::Expiring {
                    expires_at: schedule.expire.as_secs(),
                    expires_in: left.as_secs(),
                    grace: grace.as_secs(),
                },
            );
        }
        self.plan_token(now, id);
    }

    /// Notices a wall clock that was set, and one that has drifted: what was planned by it is planned anew.
    pub(crate) fn watch_clock(&mut self, now: Now) {
        let passed = now.mono.saturating_duration_since(self.watched.mono);
        let expected = self.watched.unix.saturating_add(passed);
        if expected.abs_diff(now.unix) <= CLOCK_DRIFT_MAX {
            return;
        }
        self.watched = now;
        for id in self.active() {
            self.on_token_deadline(now, id);
            self.settle(id);
        }
    }

    /// Takes back the subscriptions that the connection may no longer have, and tells it which.
    pub(crate) fn withdraw(&mut self, now: Now, id: ConnId, why: Withdrawn) {
        let Some(conn) = self.conn(id).filter(|conn| conn.session == Session::Active) else {
            return;
        };
        let names = conn.subscriptions.iter().filter_map(|held| self.channels.name(held.channel));
        let lost: Vec<Arc<str>> =
            names.filter(|name| !self.allows(id, Verb::Subscribe, name)).cloned().collect();
        for name in lost {
            self.unsubscribe(now, id, &name);
            self.send_withdrawn(now, id, &name, why);
            self.tally.withdrawn += 1;
        }
        self.settle(id);
    }

    /// What a new configuration means for connections that are there: some end, some lose subscriptions.
    pub(crate) fn apply_to_live(&mut self, now: Now, keys: bool) {
        self.end_revoked_certificates(now);
        let numbers = self.config.auth.keys.numbers(&self.key_numbers);
        for id in self.active() {
            let aside = self.conns.get_mut(id.index).and_then(|conn| conn.aside.get_mut());
            let token = aside.and_then(|aside| {
                // What a certificate permits is said by the configuration.
                if aside.certified
                    && let Some((identity, token)) =
                        aside.identity.as_ref().zip(aside.token.as_ref())
                {
                    let permissions = identity.permissions(&self.config.auth.certificates);
                    let permissions = permissions.unwrap_or_default();
                    let claims = Claims { permissions, ..token.claims.clone() };
                    aside.token = Some(Arc::new(Token::of_certificate(now, claims)));
                }
                let token = aside.token.clone()?;
                let access = self.config.policy.access(&token.claims.permissions);
                aside.access = Some(Box::new(access));
                Some(token)
            });
            let gone = |key: &u64| keys && !numbers.contains(key);
            let removed = |token: &Token| token.key.as_ref().is_some_and(gone);
            match token {
                Some(token) if self.is_revoked(now, &token.claims) => {
                    self.end_token(now, id, Reason::TokenRevoked);
                }
                Some(token) if removed(&token) => self.end_token(now, id, Reason::KeyRemoved),
                Some(_) | None => {
                    self.withdraw(now, id, Withdrawn::Policy);
                    self.plan_token(now, id);
                }
            }
        }
    }

    /// Ends the connections whose certificate is on a list now, those that speak HTTP among them.
    fn end_revoked_certificates(&mut self, now: Now) {
        let indices: Vec<u32> = self.conns.indices().collect();
        for index in indices {
            let Some(generation) = self.conns.generation(index) else { continue };
            let id = self.id(index, generation);
            if self.is_by_revoked_certificate(id) {
                self.end_token(now, id, Reason::CertificateRevoked);
                self.mark_dirty(index);
            }
        }
    }

    /// Ends the connections whose tokens `is_meant` names, and says how many there were.
    pub(crate) fn end_tokens(&mut self, now: Now, is_meant: impl Fn(&Claims) -> bool) -> u32 {
        let mut ended = 0;
        for id in self.active() {
            let token = self.conn(id).and_then(|conn| conn.aside.get().token.clone());
            if token.is_some_and(|token| is_meant(&token.claims)) {
                self.end_token(now, id, Reason::TokenRevoked);
                ended += 1;
            }
        }
        ended
    }

    /// Ends a connection whose token is no longer good, and what it has asked for and not got yet.
    fn end_token(&mut self, now: Now, id: ConnId, reason: Reason) {
        self.forget_questions(id);
        self.close(now, id, reason);
    }

    /// Connections that were welcomed.
    fn active(&self) -> Vec<ConnId> {
        let found = self.conns.indices().filter_map(|index| {
            let id = self.id(index, self.conns.generation(index)?);
            self.conn(id).filter(|conn| conn.session == Session::Active).map(|_| id)
        });
        found.collect()
    }
}

/// How far the wall clock may be from where it was expected before deadlines are worked out anew.
const CLOCK_DRIFT_MAX: Duration = Duration::from_secs(1);
