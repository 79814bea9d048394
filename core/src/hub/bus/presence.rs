//! Who is in channels with presence, on all nodes.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use uuid::Uuid;

use super::{
    command::{CallId, NodeId},
    visit::Alive,
};
use crate::protocol::{Epoch, Position};

/// A change of a channel's members, in one step: first those that have gone, then those that have come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceChange {
    /// Names the answer.
    pub id: CallId,
    /// Whose members.
    pub channel: Arc<str>,
    /// Whose they are that have come.
    pub node: NodeId,
    /// These are there no more, unless another node has taken them over.
    pub gone: Vec<PresenceAbsence>,
    /// These are there. One that is there already is put anew, as this node's.
    pub come: Vec<PresenceEntry>,
    /// So many members the channel has at most: those of `come` that are new and beyond that are refused. Those that no
    /// longer count are taken away before.
    pub max: u32,
    /// Those that no longer count are taken away in any case.
    pub sweep: bool,
    /// Of which nodes members count.
    pub alive: Alive,
    /// The life of the numbers of changes, if the bus knows nothing of the channel's members.
    pub epoch: Epoch,
    /// So long the members are kept after the last change.
    pub keep: Duration,
}

/// A member that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceEntry {
    /// Its name.
    pub id: Uuid,
    /// What is to be known of it, a JSON object.
    pub info: Bytes,
    /// So long it counts although its node should be gone.
    pub hold: Duration,
}

/// A member that has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PresenceAbsence {
    /// Its name.
    pub member: Uuid,
    /// Only if it is this node's.
    pub node: NodeId,
    /// Why.
    pub why: PresenceEnd,
}

/// Why a member has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PresenceEnd {
    /// It left, or may not stay.
    Left,
    /// Its connection was lost.
    Lost,
    /// Its node is gone.
    Node,
}

/// What became of a change of a channel's members. Those that have gone were taken away in any case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceChanged {
    /// The number of the last change, this one or an earlier one if nothing has changed by it.
    pub position: Position,
    /// Members of the channel.
    pub members: u32,
    /// Of those that have come these were not put: there are too many.
    pub refused: Vec<Uuid>,
}

/// A member of a channel, as the bus keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceMember {
    /// Its name.
    pub id: Uuid,
    /// Whose it is.
    pub node: NodeId,
    /// What is to be known of it, a JSON object.
    pub info: Bytes,
}

/// A channel's members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceMembers {
    /// The number of the last change. `None`: the bus knows nothing of the channel's members.
    pub position: Option<Position>,
    /// Members were refused since there was room for more.
    pub refused: bool,
    /// Some are kept that no longer count, and are not listed.
    pub stale: bool,
    /// They, by their names. `None`: nothing has changed since what was known.
    pub members: Option<Vec<PresenceMember>>,
    /// There are further ones behind the last that is listed.
    pub more: bool,
}

/// A change of a channel's members as it comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceNews {
    /// The number of the change before; 0: there was none.
    pub before: u64,
    /// The number of the change, which is higher, and never that of another one.
    pub position: Position,
    /// Members were refused since there was room for more.
    pub refused: bool,
    /// What has changed, in order. `None`: too much for this way, to be read.
    pub moves: Option<Vec<PresenceMove>>,
}

/// What has become of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PresenceMove {
    /// It is there, or says something else of itself, or is another node's.
    Joined(PresenceMember),
    /// It is there no more.
    Left {
        /// Its name.
        member: Uuid,
        /// Why.
        why: PresenceEnd,
    },
}
