//! What is kept.

mod stream;

use std::collections::{BTreeMap, VecDeque};

pub(crate) use self::stream::{Fields, Stream, StreamId, Trim};

/// A value.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    String(Vec<u8>),
    Hash(BTreeMap<Vec<u8>, Vec<u8>>),
    List(VecDeque<Vec<u8>>),
    Stream(Stream),
    /// Scores by member.
    SortedSet(BTreeMap<Vec<u8>, f64>),
}

impl Value {
    /// Its name, as TYPE says it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::String(_) => "string",
            Self::Hash(_) => "hash",
            Self::List(_) => "list",
            Self::Stream(_) => "stream",
            Self::SortedSet(_) => "zset",
        }
    }
}

/// A key's value, and until when it lives.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) value: Value,
    /// In milliseconds by this Redis' clock.
    pub(crate) expires: Option<u64>,
}

/// What `SELECT` chooses.
pub(crate) type Database = BTreeMap<Vec<u8>, Entry>;

/// Everything that a server keeps, at one moment: what a restart finds, or a replica begins with.
#[derive(Clone, Debug)]
pub struct Data {
    pub(crate) databases: Vec<Database>,
}

/// Databases of a server.
pub(crate) const DATABASES: usize = 16;

impl Default for Data {
    fn default() -> Self {
        Self { databases: vec![Database::new(); DATABASES] }
    }
}
