//! Which connections users have, on all nodes.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use uuid::Uuid;

use super::command::{CallId, NodeId};

/// One connection among those of all nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VisitName {
    /// Where it is.
    pub node: NodeId,
    /// The `connection_id` that its client was welcomed with.
    pub connection: Uuid,
}

impl fmt::Display for VisitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.node, self.connection)
    }
}

/// A user's connection, as the bus keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visit {
    /// Which.
    pub name: VisitName,
    /// What is to be known of it, a JSON object.
    pub info: Bytes,
}

/// A change of a user's connections, in one step: first those that have gone, then those that have come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VisitChange {
    /// Names the answer.
    pub id: CallId,
    /// Whose.
    pub user: Arc<str>,
    /// These are there no more.
    pub gone: Vec<VisitName>,
    /// These are there. One that is there already is put anew: it counts once.
    pub come: Vec<Visit>,
    /// `come` only if the user then has so many at most; `None`: whatever there are. Those that no longer count are taken
    /// away before it is refused.
    pub max: Option<u32>,
    /// Those that no longer count are taken away in any case.
    pub sweep: bool,
    /// Of which nodes connections count.
    pub alive: Alive,
    /// So long the user's connections are kept after the last change.
    pub keep: Duration,
}

/// Of which nodes connections count: of those that are there, and of those that have put them so lately that not everybody
/// need have heard of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alive {
    /// Nodes that have a lease, as far as is known.
    pub nodes: Arc<[NodeId]>,
    /// How long those of other nodes count after they were put, by the bus's clock.
    pub grace: Duration,
}

/// What became of a change of a user's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visited {
    /// Those that have come were put, or there were none. Those that have gone were taken away in any case.
    pub entered: bool,
    /// How many the user has now. Of nodes that are gone there may be some among them.
    pub connections: u32,
}

/// A user's connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visits {
    /// How many count.
    pub connections: u32,
    /// They, as many as were asked for at most.
    pub visits: Vec<Visit>,
}
