//! A server's data while commands work on them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::{
    clock::Clock,
    connection::ConnId,
    data::{Data, Database, Entry, Stream, Value},
    number::Style,
    reply::Reply,
    request::Words,
    window::Windows,
};

/// Data, and what commands need to know beside them.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) data: Data,
    pub(crate) clock: Clock,
    /// Who listens to which sharded channel.
    pub(crate) listeners: BTreeMap<Vec<u8>, BTreeSet<ConnId>>,
    /// What the command that runs has published, in order.
    pub(crate) messages: Vec<Message>,
    /// What the command that runs has changed, as replicas are told.
    pub(crate) effects: Vec<Effect>,
    /// How the command that runs is told to replicas, if otherwise than it came.
    pub(crate) rewritten: Option<Words>,
    /// How it writes numbers.
    pub(crate) numbers: Style,
    /// What is refused at present.
    pub(crate) windows: Windows,
    /// Commands that users may not give.
    pub(crate) forbidden: Vec<String>,
    /// It takes no writes but those of its primary.
    pub(crate) replica: bool,
    /// What runs comes from the primary.
    pub(crate) applying: bool,
}

/// Something published.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) channel: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

/// A command as replicas are told.
#[derive(Clone, Debug)]
pub(crate) struct Effect {
    pub(crate) database: usize,
    pub(crate) words: Words,
}

/// An answer, or an error without its minus sign.
pub(crate) type Answer = Result<Reply, String>;

pub(crate) const WRONGTYPE: &str =
    "WRONGTYPE Operation against a key holding the wrong kind of value";

/// A hash.
pub(crate) type Hash = BTreeMap<Vec<u8>, Vec<u8>>;
/// A list, its head first.
pub(crate) type List = VecDeque<Vec<u8>>;
/// A sorted set: scores by member.
pub(crate) type SortedSet = BTreeMap<Vec<u8>, f64>;

/// A type of values.
pub(crate) trait Kind: Default {
    fn of_mut(value: &mut Value) -> Option<&mut Self>;
    fn into_value(self) -> Value;
}

macro_rules! kind {
    ($type:ty, $variant:ident) => {
        impl Kind for $type {
            fn of_mut(value: &mut Value) -> Option<&mut Self> {
                if let Value::$variant(it) = value { Some(it) } else { None }
            }

            fn into_value(self) -> Value {
                Value::$variant(self)
            }
        }
    };
}

kind!(Vec<u8>, String);
kind!(Hash, Hash);
kind!(List, List);
kind!(Stream, Stream);
kind!(SortedSet, SortedSet);

impl Store {
    pub(crate) fn new(numbers: Style) -> Self {
        Self {
            data: Data::default(),
            clock: Clock::new(),
            listeners: BTreeMap::new(),
            messages: Vec::new(),
            effects: Vec::new(),
            rewritten: None,
            numbers,
            windows: Windows::default(),
            forbidden: Vec::new(),
            replica: false,
            applying: false,
        }
    }

    pub(crate) fn database(&mut self, database: usize) -> &mut Database {
        &mut self.data.databases[database]
    }

    /// The key is there and alive. One that is over goes now, unless this is a replica, which waits to be told.
    pub(crate) fn has(&mut self, database: usize, key: &[u8]) -> bool {
        let (now, applying) = (self.clock.unix_ms(), self.applying);
        let Some(entry) = self.database(database).get(key) else { return false };
        if applying || entry.expires.is_none_or(|at| now <= at) {
            return true;
        }
        if !self.replica {
            self.database(database).remove(key);
            let words = vec![b"DEL".to_vec(), key.to_vec()];
            self.effects.push(Effect { database, words });
        }
        false
    }

    /// The key's entry.
    pub(crate) fn entry(&mut self, database: usize, key: &[u8]) -> Option<&mut Entry> {
        if self.has(database, key) { self.database(database).get_mut(key) } else { None }
    }

    /// The key's value, which has to be of this type.
    pub(crate) fn get<K: Kind>(
        &mut self,
        database: usize,
        key: &[u8],
    ) -> Result<Option<&mut K>, String> {
        match self.entry(database, key) {
            None => Ok(None),
            Some(entry) => K::of_mut(&mut entry.value).map(Some).ok_or_else(|| WRONGTYPE.into()),
        }
    }

    /// The same, and an empty one if there is none.
    pub(crate) fn get_or_new<K: Kind>(
        &mut self,
        database: usize,
        key: &[u8],
    ) -> Result<&mut K, String> {
        if !self.has(database, key) {
            let entry = Entry { value: K::default().into_value(), expires: None };
            self.database(database).insert(key.to_vec(), entry);
        }
        Ok(self.get(database, key)?.expect("it is there"))
    }

    /// Takes the key away if its hash, list or sorted set has become empty: these do not stay.
    pub(crate) fn drop_empty(&mut self, database: usize, key: &[u8]) {
        let empty = match self.database(database).get(key).map(|entry| &entry.value) {
            Some(Value::Hash(hash)) => hash.is_empty(),
            Some(Value::List(list)) => list.is_empty(),
            Some(Value::SortedSet(set)) => set.is_empty(),
            Some(Value::String(_) | Value::Stream(_)) | None => false,
        };
        if empty {
            self.database(database).remove(key);
        }
    }

    /// It is gone, and it had been there.
    pub(crate) fn remove(&mut self, database: usize, key: &[u8]) -> bool {
        self.has(database, key) && self.database(database).remove(key).is_some()
    }

    /// Publishes, and says how many connections hear it.
    pub(crate) fn publish(&mut self, channel: &[u8], body: &[u8]) -> usize {
        self.messages.push(Message { channel: channel.to_vec(), body: body.to_vec() });
        self.listeners.get(channel).map_or(0, BTreeSet::len)
    }
}
