//! What hubs of one process tell each other of nodes.

use std::sync::Arc;

use super::{links::Link, members::Member, order::Order, spreading::Spread};
use crate::hub::{
    bus::{NodeId, SessionHeld},
    peers::Ticket,
};

/// One message.
#[derive(Debug)]
pub(in crate::hub) enum NodesMessage {
    /// To all: how this hub's bus does.
    Link(Box<Link>),
    /// From the first hub: who is there.
    Roll(Roll),
    /// To the first hub: tell all nodes.
    Spread { ticket: Ticket, order: Order },
    /// From the first hub to the one that was asked: so far that has come.
    HasSpread { ticket: Ticket, spread: Spread },
    /// From the first hub to a session's home: another node has claimed it.
    Claimed(SessionHeld),
}

/// Who is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::hub) struct Roll {
    /// The present life of this process.
    pub(in crate::hub) own: NodeId,
    /// All nodes that have a lease, by their names.
    pub(in crate::hub) all: Arc<[Member]>,
    /// These have gone, whether or not anybody knew them.
    pub(in crate::hub) gone: Vec<NodeId>,
    /// So many have a lease and are not heard.
    pub(in crate::hub) silent: u32,
}

impl NodesMessage {
    /// Bytes that it takes besides itself. Those of the nodes are shared by all hubs.
    pub(in crate::hub) fn weight(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Link(_) => size_of::<Link>(),
                Self::Roll(roll) => roll.gone.len() * size_of::<NodeId>(),
                Self::Spread { order, .. } => order.weight(),
                Self::HasSpread { .. } | Self::Claimed(_) => 0,
            }
    }
}
