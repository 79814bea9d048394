//! One session, as its home has it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use uuid::Uuid;

use super::{Change, Grant, Holder, Terms, record::Kept};
use crate::{
    hub::{
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
    pub(super) fn new(name: SessionId, holder: Holder, ttl: Duration) -> Self {
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

fn fixed_bytes(user: Option<&str>) -> usize {
    SESSION_BYTES + user.map_or(0, str::len)
}

fn channel_bytes(name: &str, terms: &Terms) -> usize {
    CHANNEL_BYTES + name.len() + terms.presence.as_ref().map_or(0, |presence| presence.len())
}

/// About what a session takes in its tables, and each of its channels.
const SESSION_BYTES: usize = 256;
const CHANNEL_BYTES: usize = 64;
