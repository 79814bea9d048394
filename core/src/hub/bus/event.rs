//! What a bus tells a hub, and what of it is about what.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use uuid::Uuid;

use super::{
    command::{CallId, NodeId},
    presence::{PresenceChanged, PresenceMembers, PresenceNews},
    session::SessionAnswer,
    take::Taken,
    visit::{Visited, Visits},
};
use crate::protocol::{Epoch, Position};

/// What a bus tells a hub. Each part of a hub hears what is about its own business; how the bus does is everybody's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BusEvent {
    /// The bus is there, or is not.
    Link(LinkEvent),
    /// About what is published to a channel.
    Channel(ChannelEvent),
    /// About nodes, and from them.
    Node(NodeEvent),
    /// About users' connections.
    Visit(VisitEvent),
    /// About a channel's members.
    Attendance(AttendanceEvent),
    /// What came of taking entries out of a queue.
    Taken {
        /// Which.
        id: CallId,
        /// It.
        result: Result<Taken, BusError>,
    },
    /// What became of sessions.
    Session {
        /// Which call was about them.
        id: CallId,
        /// It.
        result: Result<SessionAnswer, BusError>,
    },
}

/// The bus is there, or is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// The bus is there, for the so many-th time. Where each followed channel stands follows.
    Up {
        /// The number of this session, from 1.
        session: u64,
    },
    /// All followed channels were told after [`Up`](Self::Up).
    Reconciled,
    /// The bus is away; everything that was under way has been answered before.
    Down,
    /// How well the bus does: when that changes, and once a second.
    State(BusState),
}

/// About what is published to a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelEvent {
    /// Where a followed channel stands. What is published after this comes as [`Live`](Self::Live); some of what was before
    /// may come so, too.
    Standing {
        /// The channel.
        channel: Arc<str>,
        /// How far it is.
        standing: Standing,
        /// The id of the message of that number. `None`: there is none, or the bus does not say; it says it, if it can, after
        /// [`Up`](LinkEvent::Up), so that a hub need not read what it has.
        newest: Option<Uuid>,
    },
    /// A round of a channel.
    Live {
        /// The channel.
        channel: Arc<str>,
        /// What.
        live: Live,
    },
    /// What became of an append.
    Appended {
        /// Which.
        id: CallId,
        /// What.
        result: Result<Appended, AppendError>,
    },
    /// What became of an announcement.
    Announced {
        /// Which.
        id: CallId,
        /// How many nodes got it, if it is known.
        result: Result<u32, BusError>,
    },
    /// What is kept of a channel.
    Page {
        /// The answer to which question.
        id: CallId,
        /// It.
        result: Result<Page, BusError>,
    },
    /// What became of healing or a new epoch.
    Healed {
        /// Which.
        id: CallId,
        /// Done, or it was otherwise by then.
        result: Result<Moved, BusError>,
    },
}

/// About nodes, and from them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeEvent {
    /// All nodes that have a lease, this one among them.
    Beat {
        /// Who is there.
        nodes: Vec<Node>,
        /// Who has gone since it was last told to anybody.
        gone: Vec<NodeId>,
    },
    /// The lease was over before it was renewed: what this node had there is gone.
    LeaseLost,
    /// The lease was not renewed, or perhaps not: the bus takes no writes, is away, or went away meanwhile.
    BeatFailed,
    /// Something for all nodes, in the same order on each. The bus of a process's first hub tells all that is kept, from the
    /// beginning, before it is [`Reconciled`](LinkEvent::Reconciled) for the first time, and each of them once as long as it
    /// lives. What the buses of other hubs tell of it is ignored.
    Control {
        /// Its place in that order, as Redis names it.
        at: Box<str>,
        /// It.
        command: Bytes,
    },
    /// What became of a command to all nodes.
    Controlled {
        /// Which.
        id: CallId,
        /// How many nodes got it, if it is known.
        result: Result<u32, BusError>,
    },
    /// A node has told all others something by [`Tell`](super::BusCommand::Tell). The bus of a process's first hub tells it;
    /// what those of other hubs tell of it is ignored.
    Told {
        /// What.
        message: Bytes,
    },
}

/// About users' connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VisitEvent {
    /// What became of a change of a user's connections.
    Visited {
        /// Which.
        id: CallId,
        /// It.
        result: Result<Visited, BusError>,
    },
    /// A user's connections.
    Visits {
        /// The answer to which question.
        id: CallId,
        /// They.
        result: Result<Visits, BusError>,
    },
}

/// About a channel's members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttendanceEvent {
    /// What became of a change of a channel's members.
    Attended {
        /// Which.
        id: CallId,
        /// It.
        result: Result<PresenceChanged, BusError>,
    },
    /// A channel's members.
    Members {
        /// The answer to which question.
        id: CallId,
        /// They.
        result: Result<PresenceMembers, BusError>,
    },
}

/// How well a bus does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BusState {
    /// Nothing in between: connected, and probes come back.
    pub up: bool,
    /// Time since a probe came back as a live message was sent. `None`: none yet.
    pub probe_age: Option<Duration>,
    /// How long the last one took.
    pub probe_time: Option<Duration>,
    /// Why the bus is away, for people; never a secret.
    pub cause: Option<Arc<str>>,
    /// It takes no writes at present, and why: `OOM`, `MISCONF`, `NOREPLICAS`.
    pub full: Option<&'static str>,
}

/// Where a channel stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The epoch and the number of the last message.
    pub position: Position,
    /// Number of the message that its document came with; 0: it has none.
    pub document: u64,
    /// Tells the last [`Heal`](super::Heal) of this epoch from others; 0: there was none.
    pub mark: u64,
}

/// A round as it comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Live {
    /// Messages that have numbers.
    Round {
        /// The life of the numbers.
        epoch: Epoch,
        /// Number of the first message.
        first: u64,
        /// How many.
        count: u32,
        /// The messages. `None`: too large for this way, to be read.
        records: Option<Bytes>,
        /// The document that came with its last message.
        state: Option<Bytes>,
    },
    /// Messages of which nothing is kept.
    Announced {
        /// How many.
        count: u32,
        /// The messages.
        records: Bytes,
    },
    /// A new epoch has begun; its next message is the one after `position`.
    Forked {
        /// Where it begins.
        position: Position,
    },
    /// A node has put back what the bus had lost.
    Healed {
        /// How far the channel is since.
        position: Position,
        /// As [`Standing::mark`] has it since.
        mark: u64,
        /// The id of the message of that number. `None`: that node did not have it.
        newest: Option<Uuid>,
    },
    /// The channel's members have changed.
    Presence(PresenceNews),
    /// It is not what anybody of this version would write.
    Poison,
}

/// An append that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The epoch, and the number of the first message.
    pub first: Position,
    /// How many connections of nodes were told; 0 if `repeated`.
    pub nodes: u32,
    /// It was made before.
    pub repeated: bool,
}

/// Why an append was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendError {
    /// The bus has less than the hub, or another epoch. `None`: nothing.
    Behind(Option<Position>),
    /// It was sent before, and may be among messages that were put back since, which the hub has not seen: see
    /// [`Append::again`](super::Append::again).
    Healed,
    /// The document is another one.
    StateConflict,
    /// The document is another one than the append's [`basis`](super::Append::basis): this one, and the message that it came
    /// with. `None`: there is none.
    OtherBasis(Option<(Position, Bytes)>),
    /// Something else was published under the key.
    KeyConflict,
    /// It was taken from a queue that is another owner's by now.
    NotOwner,
    /// It was taken from a queue in which it is no more: it was published, or an operator has removed it.
    Gone,
    /// Otherwise.
    Bus(BusError),
}

/// Why something could not be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusError {
    /// The bus is away: it was not even tried.
    Away,
    /// The bus went away meanwhile: it was done, or not.
    Unknown,
    /// The bus takes nothing more in at present: it was not done.
    Full,
    /// It was refused or failed for a reason that does not pass: it was not done.
    Failed,
}

/// What is kept of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Where the channel stands. `None`: the bus knows nothing of it.
    pub standing: Option<Standing>,
    /// Rounds, in order. There may be holes between them, where something was lost or is not a round.
    pub entries: Vec<PageEntry>,
    /// There are further ones.
    pub more: bool,
    /// The document.
    pub document: Option<Bytes>,
}

/// A round that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageEntry {
    /// Number of the first message.
    pub first: u64,
    /// How many.
    pub count: u32,
    /// The messages.
    pub records: Bytes,
}

/// What became of a change under a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// Made.
    Done,
    /// Not made: the bus has this by now.
    Elsewhere(Option<Position>),
}

/// A node that has a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Which life of it.
    pub id: NodeId,
    /// What it says of itself, a JSON object.
    pub info: Bytes,
}
