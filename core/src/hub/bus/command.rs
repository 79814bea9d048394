//! What a hub wants of its bus.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use uuid::Uuid;

use super::{
    presence::PresenceChange,
    session::SessionCall,
    take::{Take, TakenFrom},
    visit::{Alive, VisitChange},
};
use crate::protocol::{Condition, Epoch, Position};

/// Names a command until it is answered. Those of one hub grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(pub u64);

/// One life of one process among the nodes: drawn when it starts, and anew when its lease was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Who appends: one hub of one node. Its appends have growing numbers, by which the bus tells a repeated one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Writer {
    /// The process.
    pub node: NodeId,
    /// Its hub.
    pub shard: u16,
}

impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.node, self.shard)
    }
}

/// How long the bus keeps what it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// So many messages of the channel; 0: none, only its numbers.
    pub messages: u64,
    /// Messages, after the last append.
    pub time: Duration,
    /// The channel's numbers and its document, after the last append. At least `time`.
    pub position: Duration,
}

/// What a bus is to do. Commands about one channel are carried out in order.
///
/// While the bus is away ([`LinkEvent::Down`](super::LinkEvent::Down)) every command that is answered is answered with
/// [`BusError::Away`](super::BusError::Away) at once, and what was under way with
/// [`BusError::Unknown`](super::BusError::Unknown); a hub repeats what it still wants. What is followed is remembered, and
/// followed again by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BusCommand {
    /// Hear what is published to a channel from now on. Answered by [`ChannelEvent::Standing`](super::ChannelEvent::Standing), and
    /// from then on by [`ChannelEvent::Live`](super::ChannelEvent::Live) for each round. After each
    /// [`LinkEvent::Up`](super::LinkEvent::Up) it is answered again; also from time to time, so that a hub sees what it has
    /// missed. Of a channel that is followed already only `retention` is new, and it is answered again.
    Follow {
        /// The channel.
        channel: Arc<str>,
        /// The channel's epoch from now on, if the bus knows no numbers of it: one that nobody has seen. When the bus follows
        /// the channel again by itself it draws another one, because under the old one somebody who does not follow the
        /// channel could be given numbers that others have seen with other messages. So an epoch that the hub has not seen,
        /// with the number 0, says that the bus has lost everything: [`Heal`](Self::Heal) with that as
        /// [`found`](Heal::found) puts it back, epoch and all.
        epoch: Epoch,
        /// How long the bus is to remember the numbers, should it found them.
        retention: Retention,
    },
    /// Hear no more of it. Not answered; rounds may still come.
    Unfollow {
        /// The channel.
        channel: Arc<str>,
    },
    /// Number messages, keep them, and tell all who follow the channel, in one step. Answered by
    /// [`ChannelEvent::Appended`](super::ChannelEvent::Appended).
    Append(Box<Append>),
    /// Tell all who follow the channel, and keep nothing. Answered by
    /// [`ChannelEvent::Announced`](super::ChannelEvent::Announced).
    Announce {
        /// Names the answer.
        id: CallId,
        /// The channel.
        channel: Arc<str>,
        /// How many messages.
        count: u32,
        /// The messages, see [`record`](crate::record).
        records: Bytes,
    },
    /// Read what is kept of a channel. Answered by [`ChannelEvent::Page`](super::ChannelEvent::Page).
    Read {
        /// Names the answer.
        id: CallId,
        /// The channel.
        channel: Arc<str>,
        /// Entries that hold messages with higher numbers than this, the oldest first.
        after: u64,
        /// So many bytes at most, but one entry.
        bytes_max: usize,
    },
    /// Put back what the bus has lost. Answered by [`ChannelEvent::Healed`](super::ChannelEvent::Healed).
    Heal(Box<Heal>),
    /// Begin a new epoch: what was kept under the old one cannot be vouched for. All who follow are told. Answered by
    /// [`ChannelEvent::Healed`](super::ChannelEvent::Healed).
    Fork {
        /// Names the answer.
        id: CallId,
        /// The channel.
        channel: Arc<str>,
        /// Only if the bus knows it so.
        found: Option<Position>,
        /// The new one; its numbers go on from those of `found`.
        epoch: Epoch,
    },
    /// This node is there, and all others are asked for. Answered by [`NodeEvent::Beat`](super::NodeEvent::Beat),
    /// [`NodeEvent::LeaseLost`](super::NodeEvent::LeaseLost) or [`NodeEvent::BeatFailed`](super::NodeEvent::BeatFailed).
    Beat {
        /// Which life of it.
        node: NodeId,
        /// What others may know of it, a JSON object.
        info: Bytes,
        /// How long that holds.
        lease: Duration,
        /// It has no lease yet.
        first: bool,
    },
    /// This node is gone. Not answered.
    Quit {
        /// Which life of it.
        node: NodeId,
    },
    /// Tell all nodes something, and keep it so long for those that are away or not there yet. Answered by
    /// [`NodeEvent::Controlled`](super::NodeEvent::Controlled), and on every node by [`NodeEvent::Control`](super::NodeEvent::Control).
    Control {
        /// Names the answer.
        id: CallId,
        /// What.
        command: Bytes,
        /// How long.
        keep: Duration,
    },
    /// Tell all nodes something that matters now only. Nothing is kept: a node that is away at this moment never hears of it.
    /// Not answered; on every node, this one among them, [`NodeEvent::Told`](super::NodeEvent::Told). While the bus is away
    /// nothing comes of it.
    Tell {
        /// What.
        message: Bytes,
    },
    /// A user has other connections than before. Answered by [`VisitEvent::Visited`](super::VisitEvent::Visited).
    ///
    /// In Redis: a hash for each user, in the slot of the user's name as if it were a channel's (`P:{t}:u:<user>`). Its fields
    /// are [`VisitName`](super::VisitName)s as text; a value is the moment at which it was put, by Redis' clock in
    /// milliseconds, a `;` and [`Visit::info`](super::Visit::info). In one script: delete the fields of
    /// [`gone`](VisitChange::gone); with [`sweep`](VisitChange::sweep), or if the number of fields and of those of
    /// [`come`](VisitChange::come) that are new is above [`max`](VisitChange::max), delete those that do not
    /// [count](super::Alive); if it still is above `max`, put none of `come` and answer `entered: false`; otherwise put
    /// them and let the key expire after [`keep`](VisitChange::keep).
    Visit(Box<VisitChange>),
    /// Take entries out of a queue. Answered by [`BusEvent::Taken`](super::BusEvent::Taken).
    Take(Box<Take>),
    /// Which connections has a user? Answered by [`VisitEvent::Visits`](super::VisitEvent::Visits).
    Visits {
        /// Names the answer.
        id: CallId,
        /// Whose.
        user: Arc<str>,
        /// Only those that count.
        alive: Alive,
        /// So many at most, those with the lowest names.
        max: u32,
    },
    /// A channel has other members than before. All who follow the channel are told, if anything has changed, by
    /// [`Live::Presence`](super::Live::Presence). Answered by [`AttendanceEvent::Attended`](super::AttendanceEvent::Attended).
    Attend(Box<PresenceChange>),
    /// Which members has a channel? Answered by [`AttendanceEvent::Members`](super::AttendanceEvent::Members).
    Members {
        /// Names the answer.
        id: CallId,
        /// Whose.
        channel: Arc<str>,
        /// Only if there was a change since this one.
        known: Option<Position>,
        /// Only those that count.
        alive: Alive,
        /// So many bytes at most of what is to be known of them.
        bytes_max: usize,
    },
    /// Sessions are to be kept, found or ended. Answered by [`BusEvent::Session`](super::BusEvent::Session).
    Session(Box<SessionCall>),
}

/// Messages for a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// Names the answer. An append with this number or a lower one of the same writer was made before, and is not made
    /// again: it is answered as it was then.
    pub id: CallId,
    /// Who appends.
    pub writer: Writer,
    /// The channel.
    pub channel: Arc<str>,
    /// How many messages, at least one; exactly one with `condition`, `once`, `taken`, or `state` without a `basis`.
    pub count: u32,
    /// The messages, see [`record`](crate::record).
    pub records: Bytes,
    /// What the hub has: should the bus have less, or another epoch, it has lost something, and nothing is appended.
    /// `None`: the hub does not follow the channel.
    pub known: Option<Position>,
    /// It was sent before, and nobody knows what became of it: messages with higher numbers than this the hub has not all
    /// seen since. Should any of them have been put back ([`BusCommand::Heal`]), it may be among them, and nothing is
    /// appended. `None`: it is sent for the first time, or was certainly not made.
    pub again: Option<u64>,
    /// The epoch if the bus knows no numbers of the channel.
    pub epoch: Epoch,
    /// How long it is kept.
    pub retention: Retention,
    /// The channel's document from now on: a JSON object, as text. It comes with the last of the messages.
    pub state: Option<Bytes>,
    /// Only if the channel's document is this one.
    pub condition: Option<Condition>,
    /// What `state` was made of: only if the channel's document is still this one. Looked at after `condition`.
    pub basis: Option<Basis>,
    /// Only if nothing was published under this key.
    pub once: Option<Once>,
    /// Only if it is still there, and then it is not any more.
    pub taken: Option<Box<TakenFrom>>,
}

/// The document that another one is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// The channel has none.
    Nothing,
    /// The one that came with this message.
    Document(Position),
}

/// The idempotency key of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Once {
    /// The key, with the number of the message in its request.
    pub key: Box<str>,
    /// Tells one content from another.
    pub digest: u64,
    /// How long it is remembered.
    pub keep: Duration,
}

/// What a hub puts back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heal {
    /// Names the answer.
    pub id: CallId,
    /// The channel.
    pub channel: Arc<str>,
    /// Only if the bus has exactly this; `None`: nothing at all.
    pub found: Option<Position>,
    /// What it has from then on.
    pub to: Position,
    /// The id of the message of that number, if it is known; whoever follows the channel is told it.
    pub newest: Option<Uuid>,
    /// Tells this one from others: drawn, and not 0.
    pub mark: u64,
    /// Consecutive rounds, the last of which ends at `to`. The bus has what is before them, or it is gone.
    pub entries: Vec<HealEntry>,
    /// The document, and the number of the message that it came with, if the bus has none.
    pub document: Option<(u64, Bytes)>,
    /// How long it is kept.
    pub retention: Retention,
}

/// One round that is put back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealEntry {
    /// Number of the first message.
    pub first: u64,
    /// How many.
    pub count: u32,
    /// The messages.
    pub records: Bytes,
    /// The append that it was, if this hub made it: should it be repeated, it was made.
    pub made: Option<(Writer, CallId)>,
}
