//! Tokens on live connections: warning, refresh, expiry, revocation.
//!
//! What a token says about time is wall-clock time, so it is judged by [`Now::unix`]. Timers run on the other clock; when
//! one comes up, the wall clock decides. A wall clock that was set is noticed within a turn, and every deadline is worked
//! out anew: a token that has expired by the new time ends its connection, one that lives longer keeps it.

use std::{num::NonZeroU64, sync::Arc, time::Duration};

use super::{
    application::Leave,
    clock::{Leap, WallClock},
    connections::Conn,
    env::Env,
    types::ShardId,
    visitors::Bucket,
};
use crate::{
    auth::{Access, Claims, Denied, Moment, Revocation, Revocations},
    config::Config,
    entropy::KeyedState,
    limits::Limits,
    protocol,
    reason::Reason,
    time::Now,
};

/// A token that was accepted.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) claims: Claims,
    /// When it was, by the wall clock: nanoseconds since the Unix epoch.
    accepted: u64,
    /// When the first of this user's on this connection was, in seconds since the Unix epoch.
    since_seconds: u64,
    source: Source,
}

/// Who says what a token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// It was signed with this key, as a number that means nothing outside this hub.
    Key(NonZeroU64),
    /// It stands for a certificate.
    Certificate,
    /// It stands for what the application has said.
    Application,
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
pub(super) enum Withdrawn {
    /// Another token is in force.
    Token,
    /// Another configuration is.
    Policy,
}

impl Withdrawn {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Policy => "policy",
        }
    }

    /// As the application is told.
    pub(super) fn leave(self) -> Leave {
        match self {
            Self::Token => Leave::Token,
            Self::Policy => Leave::Policy,
        }
    }
}

impl Token {
    /// What a client's certificate says and permits, as if a token had said it.
    pub(super) fn of_certificate(now: Now, claims: Claims) -> Self {
        Self::new(now, claims, Source::Certificate)
    }

    /// What the application says of a client, likewise.
    pub(super) fn of_application(now: Now, claims: Claims) -> Self {
        Self::new(now, claims, Source::Application)
    }

    fn new(now: Now, claims: Claims, source: Source) -> Self {
        let accepted = u64::try_from(now.unix.as_nanos()).unwrap_or(u64::MAX);
        Self { claims, accepted, since_seconds: now.unix.as_secs(), source }
    }

    /// When its connection said for the first time whose it is, by the wall clock.
    pub(super) fn since(&self) -> Duration {
        Duration::from_secs(self.since_seconds)
    }

    /// `None`: it never expires.
    fn schedule(&self, leeway: Duration, limits: &Limits) -> Option<Schedule> {
        let expire = self.claims.expires?.saturating_add(leeway);
        // Of a short token half is left alone, or a client that refreshes when it is warned would do nothing else.
        let lead = limits
            .auth
            .token_warning
            .min(expire.saturating_sub(Duration::from_nanos(self.accepted)) / 2);
        let warn = (!lead.is_zero()).then(|| expire.saturating_sub(lead));
        Some(Schedule { warn, expire, close: expire.saturating_add(limits.auth.token_grace) })
    }
}

/// Which tokens are accepted, besides what the configuration says.
#[derive(Debug)]
pub(super) struct Tokens {
    /// Those that were revoked since start.
    revocations: Revocations,
    /// Makes numbers of keys: see [`Source::Key`].
    key_numbers: KeyedState,
    /// How many refused revocations may still be handed out for the log.
    refusals: Bucket,
    clock: WallClock,
}

impl Tokens {
    pub(super) fn new(key_numbers: KeyedState, now: Now) -> Self {
        Self {
            revocations: Revocations::new(),
            key_numbers,
            refusals: Bucket::default(),
            clock: WallClock::new(now),
        }
    }

    /// Signature, claims, revocations.
    pub(super) fn verify(&self, env: &Env, token: &str) -> Result<Token, Denied> {
        let (auth, unix) = (&env.config.auth, env.now.unix);
        let (claims, key) = auth.keys.verify_by(token, unix, &auth.rules)?;
        if self.is_withdrawn(env, &claims) {
            return Err(Denied::Revoked);
        }
        Ok(Token::new(env.now, claims, Source::Key(key.number(&self.key_numbers))))
    }

    /// Whether somebody has revoked a token that says this.
    pub(super) fn is_withdrawn(&self, env: &Env, claims: &Claims) -> bool {
        let now = self.moment(env);
        self.revocations.has(now, claims) || env.config.auth.revoked.has(now, claims)
    }

    /// The moment that revocations go by: as long as a token is still accepted, so long does its revocation count.
    fn moment(&self, env: &Env) -> Moment {
        let Moment { wall, steady } = self.clock.moment(env.now);
        Moment { wall: wall.saturating_sub(env.config.auth.rules.leeway), steady }
    }

    /// Revocations that are remembered.
    pub(super) fn revoked(&self) -> usize {
        self.revocations.len()
    }

    /// From now on no such token is accepted.
    pub(super) fn revoke(&mut self, env: &mut Env, revocation: &Revocation) {
        let before = self.revocations.len() as i64;
        let keep = env.config.limits.revocations.revocation_keep;
        self.revocations.add(self.moment(env), revocation, keep);
        if env.place.shard == ShardId(0) {
            // All hubs hold the same: one of them counts.
            env.tally.revocations += self.revocations.len() as i64 - before;
        }
    }

    /// Whether one more refused revocation is written down: not every attempt of many is, for a log can be flooded, too.
    pub(super) fn is_refusal_noted(&mut self, env: &Env) -> bool {
        let rate = env.config.limits.revocations.audit_refusals_per_minute.max(1);
        self.refusals.take(env.now.mono, MINUTE / rate, rate).is_ok()
    }

    /// Whether the wall clock was set, or has drifted: what was planned by it is to be planned anew.
    #[inline]
    pub(super) fn has_clock_leapt(&mut self, now: Now) -> Option<Leap> {
        self.clock.look(now)
    }

    /// The numbers of the configuration's keys.
    pub(super) fn key_numbers(&self, config: &Config) -> Vec<NonZeroU64> {
        config.auth.keys.numbers(&self.key_numbers)
    }

    /// Works out what a connection may do under a new configuration, whose keys have these `numbers`. Why it may not even
    /// stay, if so.
    pub(super) fn review(
        &self,
        env: &Env,
        conn: &mut Conn,
        numbers: &[NonZeroU64],
    ) -> Option<Reason> {
        let auth = &env.config.auth;
        let rare = conn.rare_if_any()?;
        // What a certificate permits is said by the configuration.
        if rare.certified
            && let Some((identity, token)) = rare.identity.as_ref().zip(rare.token.as_ref())
        {
            let permissions = identity.permissions(&auth.certificates).unwrap_or_default();
            let claims = Claims { permissions, ..token.claims.clone() };
            let fresh = Token::of_certificate(env.now, claims);
            rare.token = Some(Arc::new(Token { since_seconds: token.since_seconds, ..fresh }));
        }
        let token = rare.token.clone()?;
        rare.access = Some(Box::new(env.config.policy.access(&token.claims.permissions)));
        let removed = |key: NonZeroU64| auth.end_removed_keys && !numbers.contains(&key);
        if self.is_withdrawn(env, &token.claims) {
            Some(Reason::TokenRevoked)
        } else if matches!(token.source, Source::Key(key) if removed(key)) {
            Some(Reason::KeyRemoved)
        } else {
            None
        }
    }
}

/// Puts a token in force, in the place of the one before.
pub(super) fn put(env: &Env, conn: &mut Conn, mut token: Token) {
    let access: Access = env.config.policy.access(&token.claims.permissions);
    let rare = conn.rare_mut();
    let before = rare.token.as_ref().filter(|before| before.claims.user == token.claims.user);
    token.since_seconds = before.map_or(token.since_seconds, |before| before.since_seconds);
    rare.certified = token.source == Source::Certificate;
    rare.token = Some(Arc::new(token));
    rare.access = Some(Box::new(access));
    rare.warned = false;
}

/// Whether the connection's token has expired and only awaits its refresh.
pub(super) fn is_stale(env: &Env, conn: &Conn) -> bool {
    schedule(env, conn).is_some_and(|schedule| schedule.expire <= env.now.unix)
}

/// Sets the deadline of an active connection to what is due next about its token.
pub(super) fn plan(env: &Env, conn: &mut Conn) {
    if !conn.is_active() {
        return;
    }
    let warned = conn.rare().warned;
    let due = schedule(env, conn).map(|schedule| match schedule.warn.filter(|_| !warned) {
        Some(warn) => warn,
        None => schedule.close,
    });
    if let Some(rare) = conn.rare_if_any() {
        rare.deadline = due.map(|due| env.now.mono + due.saturating_sub(env.now.unix));
    }
}

/// What is due about a connection's token.
#[derive(Clone, Copy, Debug)]
pub(super) enum Due {
    /// It has expired, and its grace is over.
    Close,
    /// The client is to be told that it expires.
    Warn(protocol::Expiring),
    /// Nothing yet.
    Nothing,
}

/// Something may be due about a connection's token: the wall clock decides what. `None`: it never expires.
pub(super) fn due(env: &Env, conn: &mut Conn) -> Option<Due> {
    let (schedule, now) = (schedule(env, conn)?, env.now.unix);
    if schedule.close <= now {
        return Some(Due::Close);
    }
    let rare = conn.rare_if_any()?;
    if rare.warned || schedule.warn.is_none_or(|warn| warn > now) {
        return Some(Due::Nothing);
    }
    rare.warned = true;
    Some(Due::Warn(protocol::Expiring {
        expires_at: schedule.expire.as_secs(),
        expires_in: schedule.expire.saturating_sub(now).as_secs(),
        grace: env.config.limits.auth.token_grace.as_secs(),
    }))
}

fn schedule(env: &Env, conn: &Conn) -> Option<Schedule> {
    let token = conn.rare().token.as_ref()?;
    token.schedule(env.config.auth.rules.leeway, &env.config.limits)
}

const MINUTE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::testing::{active, connections, env, keys, wait};

    const NOON: Duration = Duration::from_secs(1_770_000_000);

    /// A token that lives for so many seconds.
    fn token(env: &Env, lives: u64) -> Token {
        let expires = Some(NOON + Duration::from_secs(lives));
        Token::of_certificate(env.now, Claims { expires, ..Claims::default() })
    }

    #[test]
    fn a_client_is_warned_once_and_closed_after_the_grace() {
        let mut env = env(Config::default());
        let mut connections = connections(&env);
        let id = active(&mut env, &mut connections);
        let token = token(&env, 1000);
        let limits = env.config.limits.auth.clone();
        let leeway = env.config.auth.rules.leeway;
        let conn = connections.edit(id).unwrap();
        put(&env, conn, token);
        plan(&env, conn);
        assert!(matches!(due(&env, conn), Some(Due::Nothing)) && !is_stale(&env, conn));

        wait(&mut env, Duration::from_secs(1000) + leeway - limits.token_warning);
        assert!(
            matches!(due(&env, conn), Some(Due::Warn(warning)) if warning.expires_in == limits.token_warning.as_secs())
        );
        assert!(matches!(due(&env, conn), Some(Due::Nothing)), "once");
        wait(&mut env, limits.token_warning);
        assert!(is_stale(&env, conn) && matches!(due(&env, conn), Some(Due::Nothing)));
        wait(&mut env, limits.token_grace);
        assert!(matches!(due(&env, conn), Some(Due::Close)));
    }

    #[test]
    fn a_revoked_token_ends_its_connection_at_the_next_review() {
        let mut env = env(Config::default());
        let mut connections = connections(&env);
        let id = active(&mut env, &mut connections);
        let mut tokens = Tokens::new(keys(), env.now);
        let conn = connections.edit(id).unwrap();
        let claims = Claims { id: Some("t1".into()), ..Claims::default() };
        put(&env, conn, Token::of_certificate(env.now, claims));
        assert_eq!(tokens.review(&env, conn, &[]), None);

        tokens.revoke(&mut env, &Revocation::parse(r#"{"jti":"t1"}"#).unwrap());

        assert_eq!(tokens.review(&env, conn, &[]), Some(Reason::TokenRevoked));
        assert_eq!((tokens.revoked(), env.tally.revocations), (1, 1));
    }

    #[test]
    fn a_flood_of_refusals_is_not_all_written_down() {
        let env = env(Config::default());
        let mut tokens = Tokens::new(keys(), env.now);
        let noted = (0..1000).filter(|_| tokens.is_refusal_noted(&env)).count();
        assert_eq!(noted, env.config.limits.revocations.audit_refusals_per_minute as usize);
    }
}
