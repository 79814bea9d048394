//! One session, as its home has it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use uuid::Uuid;

use super::{Change, Grant, Holder, Terms, record::Kept};
use crate::{
    hub::{
        bus::{CallId, SessionHeld, SessionKey, SessionState},
        store::SessionId,
        types::{ConnId, SessionInfo, Whose},
        visitors::Who,
    },
    time::Instant,
};

#[derive(Debug)]
pub(super) struct Session {
    pub(super) name: SessionId,
    /// Whoever has it is known to others by this.
    pub(super) public: Uuid,
    pub(super) user: Option<Arc<str>>,
    /// Whom it counts for; nobody if it came from a store and has no user.
    pub(super) owner: Option<Who>,
    /// How long it waits after the end of a connection.
    pub(super) ttl: Duration,
    channels: BTreeMap<Arc<str>, Terms>,
    pub(super) state: State,
    /// On the list of those that a store is to be told of.
    pub(super) changed: bool,
    /// A store is told of it later.
    pub(super) postponed: bool,
    /// When a store was last told of it.
    pub(super) written: Option<Instant>,
    /// A store may know of it.
    pub(super) stored: bool,
    /// Memory that it takes.
    pub(super) bytes: usize,
    /// When it began, by the wall clock in milliseconds.
    pub(super) begun: Duration,
    /// By which of all claims to it this hub has it, where there is a bus.
    pub(super) claim: u64,
    pub(super) told: Told,
}

/// How far the bus knows of a session.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// It may know of it.
    pub(super) any: bool,
    /// It was told, and has not answered.
    pub(super) under_way: Option<CallId>,
    /// By then something else has to be told.
    pub(super) again: bool,
    /// So many requests of its client are answered with what is under way, and so many with what is told next.
    pub(super) asked: u32,
    pub(super) asked_next: u32,
    /// It is in the line of those that are renewed.
    pub(super) renewed: bool,
}

impl Told {
    /// Whether the bus has it as it is.
    pub(super) fn is_all(&self) -> bool {
        self.any && self.under_way.is_none() && !self.again
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum State {
    /// A connection has it.
    Held(ConnId),
    /// A connection has it that was told to let it go; another one waits for that.
    Contended { by: ConnId, next: ConnId },
    /// It waits for its client.
    Waiting {
        until: Instant,
        /// Since when, by the wall clock: for a store.
        since: Duration,
    },
}

impl Session {
    pub(super) fn new(name: SessionId, holder: Holder, ttl: Duration, unix: Duration) -> Self {
        let Holder { conn, who, public } = holder;
        let user = user_of(&who).cloned();
        let bytes = fixed_bytes(user.as_deref());
        Self {
            name,
            public,
            user,
            owner: Some(who),
            ttl,
            channels: BTreeMap::new(),
            state: State::Held(conn),
            changed: false,
            postponed: false,
            written: None,
            stored: false,
            bytes,
            begun: whole_millis(unix),
            claim: 1,
            told: Told::default(),
        }
    }

    /// As a store had it.
    pub(super) fn restored(name: SessionId, kept: Kept, state: State) -> Self {
        let Kept { public, user, ttl, since: _, channels } = kept;
        let owner = user.clone().map(Who::User);
        let mut this = Self {
            name,
            public,
            user,
            owner,
            ttl,
            channels,
            state,
            changed: false,
            postponed: false,
            written: None,
            stored: true,
            bytes: 0,
            begun: Duration::ZERO,
            claim: 1,
            told: Told::default(),
        };
        this.bytes = this.weight();
        this
    }

    /// It is somebody else's from now on. Whom it counted for.
    pub(super) fn rename(&mut self, who: Who) -> Option<Who> {
        let before = fixed_bytes(self.user.as_deref());
        self.user = user_of(&who).cloned();
        self.bytes = self.bytes + fixed_bytes(self.user.as_deref()) - before;
        self.owner.replace(who)
    }

    pub(super) fn change(&mut self, (channel, terms): Change) {
        let before = match terms {
            Some(terms) => {
                self.bytes += channel_bytes(&channel, &terms);
                self.channels.insert(channel.clone(), terms)
            }
            None => self.channels.remove(&channel),
        };
        self.bytes -= before.map_or(0, |terms| channel_bytes(&channel, &terms));
    }

    /// What it takes, counted anew.
    pub(super) fn weight(&self) -> usize {
        let channels = self.channels.iter().map(|(name, terms)| channel_bytes(name, terms));
        fixed_bytes(self.user.as_deref()) + channels.sum::<usize>()
    }

    /// Whether it is one of those that are meant and has not waited long enough yet.
    pub(super) fn is_of(&self, whose: &Whose, now: Instant) -> bool {
        let meant = match whose {
            Whose::Everybody => true,
            Whose::User(user) => self.user.as_ref().is_some_and(|own| **own == **user),
            Whose::Client(id) => self.public == *id,
        };
        meant && !self.is_due(now)
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting { .. })
    }

    /// Whether it has waited long enough at `at`.
    pub(super) fn is_due(&self, at: Instant) -> bool {
        matches!(self.state, State::Waiting { until, .. } if until <= at)
    }

    /// Whether `conn` is the connection that has it.
    pub(super) fn is_held_by(&self, conn: ConnId) -> bool {
        match self.state {
            State::Held(by) | State::Contended { by, .. } => by == conn,
            State::Waiting { .. } => false,
        }
    }

    /// What an application is told of it.
    pub(super) fn info(&self, now: Instant) -> SessionInfo {
        let waits = match self.state {
            State::Waiting { until, .. } => Some(until.saturating_duration_since(now)),
            State::Held(_) | State::Contended { .. } => None,
        };
        SessionInfo {
            connection_id: self.public,
            user: self.user.clone(),
            channels: u32::try_from(self.channels.len()).unwrap_or(u32::MAX),
            ttl: self.ttl,
            waits,
        }
    }

    /// The channels of which its client is a member, or watches them.
    pub(super) fn attended(&self) -> impl Iterator<Item = &Arc<str>> {
        let attended = self.channels.iter().filter(|(_, terms)| terms.presence.is_some());
        attended.map(|(channel, _)| channel)
    }

    /// What the next connection gets.
    pub(super) fn grant(&self) -> Box<Grant> {
        let (public, ttl) = (self.public, self.ttl);
        Box::new(Grant { public, ttl, channels: self.channels.clone() })
    }

    /// By what the bus knows it.
    pub(super) fn held(&self) -> SessionHeld {
        SessionHeld { key: SessionKey::of(self.name), claim: self.claim }
    }

    /// For how long the bus is to keep it from now on.
    pub(super) fn life(&self, now: Instant, grace: Duration) -> Duration {
        match self.state {
            State::Waiting { until, .. } => until.saturating_duration_since(now),
            State::Held(_) | State::Contended { .. } => self.ttl + grace,
        }
    }

    /// As the bus is to have it.
    pub(super) fn state_at(&self, now: Instant, grace: Duration) -> SessionState {
        SessionState {
            held: self.held(),
            user: self.user.clone(),
            begun: self.begun,
            ttl: self.ttl,
            life: self.life(now, grace),
            attached: !self.is_waiting(),
            record: self.record(),
        }
    }

    /// The connections that have it or wait for it.
    pub(super) fn conns(&self) -> Vec<ConnId> {
        match self.state {
            State::Held(by) => vec![by],
            State::Contended { by, next } => vec![by, next],
            State::Waiting { .. } => Vec::new(),
        }
    }

    /// As a store is to have it.
    pub(super) fn record(&self) -> Bytes {
        let since = match self.state {
            State::Waiting { since, .. } => Some(since),
            State::Held(_) | State::Contended { .. } => None,
        };
        Kept::write((self.public, self.user.as_deref()), self.ttl, since, &self.channels)
    }
}

/// Whose session it may be. Connections without a user are all one here: what tells them apart is who knows the name.
pub(super) fn user_of(who: &Who) -> Option<&Arc<str>> {
    match who {
        Who::User(user) => Some(user),
        Who::Address(_) | Who::Everyone => None,
    }
}

/// Moments are told and compared in milliseconds.
pub(super) fn whole_millis(unix: Duration) -> Duration {
    Duration::from_millis(u64::try_from(unix.as_millis()).unwrap_or(u64::MAX))
}

fn fixed_bytes(user: Option<&str>) -> usize {
    SESSION_BYTES + user.map_or(0, str::len)
}

fn channel_bytes(name: &str, terms: &Terms) -> usize {
    CHANNEL_BYTES + name.len() + terms.presence.as_ref().map_or(0, |presence| presence.len())
}

/// About what a session takes in its tables, and each of its channels.
const SESSION_BYTES: usize = 256;
const CHANNEL_BYTES: usize = 64;
