//! Queues of the bus into which whoever may write there puts what is to be published.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;

use super::command::{CallId, NodeId};
use crate::config::IngressSource;

/// Who takes entries out of a queue: one node at a time. No two owners have the same name, and the same process has another
/// one after it was none: so what an earlier one has still under way is told from what the present one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IngressOwner {
    /// Which life of which process.
    pub node: NodeId,
    /// How often it has begun to own the queue, or tried.
    pub term: u64,
}

impl fmt::Display for IngressOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.node, self.term)
    }
}

/// Takes entries out of a queue, if it is this owner's or nobody's, and then it is this owner's from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Take {
    /// Names the answer.
    pub id: CallId,
    /// The queue.
    pub source: Arc<IngressSource>,
    /// Who takes.
    pub owner: IngressOwner,
    /// How long nobody else may after this.
    pub lease: Duration,
    /// Only entries behind this one; `None`: from the first on.
    pub after: Option<Arc<str>>,
    /// So many at most; 0: none.
    pub entries_max: u32,
    /// So many bytes at most, but one entry, and what comes in the same step of reading.
    pub bytes_max: usize,
    /// An entry with more bytes is only named.
    pub entry_bytes_max: usize,
    /// These are done with: they are there no more.
    pub done: Vec<Arc<str>>,
    /// These cannot be published, and why: they go to those that somebody may look at.
    pub unfit: Vec<(Arc<str>, &'static str)>,
    /// The queue is nobody's from now on.
    pub gives_up: bool,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is this owner's.
    Owned {
        /// Entries that are there.
        waiting: u64,
        /// How long the first of them has been, by the bus's clock.
        lag: Duration,
        /// Entries, in order.
        entries: Vec<IngressEntry>,
    },
    /// It is somebody else's, and nothing was done.
    Elsewhere {
        /// For so long, unless that one goes on.
        left: Duration,
    },
}

/// An entry of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressEntry {
    /// Its name, in the order of which they are.
    pub name: Arc<str>,
    /// Names and values. `None`: too many bytes.
    pub fields: Option<Vec<(Bytes, Bytes)>>,
}

/// The entry that a message was: it is appended if the entry is there and its queue is this owner's, and the entry is not
/// there any more from then on, in one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenFrom {
    /// The queue.
    pub source: Arc<IngressSource>,
    /// Who took it.
    pub owner: IngressOwner,
    /// Its name.
    pub entry: Arc<str>,
}
