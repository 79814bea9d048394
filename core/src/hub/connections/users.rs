//! Whose connections are whose: found by their user's name, however many others there are.

use std::{
    collections::BTreeSet,
    ops::Bound::{Excluded, Unbounded},
    sync::Arc,
};

use super::{Conn, Connections};
use crate::{
    entropy::{KeyedMap, KeyedState},
    hub::types::ConnId,
};

/// The places of connections that were welcomed, by their users' names.
#[derive(Debug)]
pub(super) struct Users(KeyedMap<Arc<str>, Places>);

/// Mostly one.
#[derive(Debug)]
enum Places {
    One(u32),
    Many(BTreeSet<u32>),
}

impl Places {
    fn insert(&mut self, index: u32) {
        match self {
            Self::One(first) => *self = Self::Many([*first, index].into()),
            Self::Many(many) => {
                many.insert(index);
            }
        }
    }

    fn after(&self, index: Option<u32>) -> Option<u32> {
        match (self, index) {
            (Self::One(only), None) => Some(*only),
            (Self::One(only), Some(index)) => Some(*only).filter(|only| *only > index),
            (Self::Many(many), None) => many.first().copied(),
            (Self::Many(many), Some(index)) => {
                many.range((Excluded(index), Unbounded)).next().copied()
            }
        }
    }
}

impl Users {
    pub(super) fn new(keys: KeyedState) -> Self {
        Self(KeyedMap::with_hasher(keys))
    }
}

impl Connections {
    /// A connection is its user's from now on, if it has one.
    pub(in crate::hub) fn list_user(&mut self, id: ConnId) {
        let Some(user) = self.get(id).and_then(Conn::user) else { return };
        let places = self.users.0.get_mut(&user);
        match places {
            Some(places) => places.insert(id.index),
            None => drop(self.users.0.insert(user, Places::One(id.index))),
        }
    }

    /// It is nobody's, or not that user's any more.
    pub(in crate::hub) fn unlist_user(&mut self, id: ConnId) {
        let Some(user) = self.get(id).and_then(Conn::user) else { return };
        let Some(places) = self.users.0.get_mut(&user) else { return };
        if let Places::Many(many) = places {
            many.remove(&id.index);
            if !many.is_empty() {
                return;
            }
        }
        self.users.0.remove(&user);
    }

    /// A user's connections in the order of their places: the first one, or the next one behind this place.
    pub(in crate::hub) fn next_of(&self, user: &str, after: Option<u32>) -> Option<ConnId> {
        self.users.0.get(user)?.after(after).and_then(|index| self.id_at(index))
    }

    /// All of them.
    pub(in crate::hub) fn of_user(&self, user: &str) -> Vec<ConnId> {
        let next = |id: &ConnId| self.next_of(user, Some(id.index));
        std::iter::successors(self.next_of(user, None), next).collect()
    }

    /// Everybody who was welcomed and has a user is listed under it, and nobody else is.
    #[cfg(debug_assertions)]
    pub(super) fn check_users(&self) {
        let (mut users, mut listed) = (BTreeSet::new(), 0);
        for id in self.active() {
            if let Some(user) = self.get(id).and_then(Conn::user) {
                let before = id.index.checked_sub(1);
                assert_eq!(self.next_of(&user, before), Some(id), "a user's connection");
                listed += 1;
                users.insert(user);
            }
        }
        assert_eq!(self.users.0.len(), users.len(), "users");
        let places: usize = users.iter().map(|user| self.of_user(user).len()).sum();
        assert_eq!(places, listed, "connections of users");
    }
}
