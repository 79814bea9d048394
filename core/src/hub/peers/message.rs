//! What hubs of one process tell each other.

use std::sync::Arc;

use uuid::Uuid;

use crate::{
    hub::{
        answering::Given,
        bus::Once,
        channels::Missing,
        errands::{Kept, Verdict},
        homes::{Form, Lost, Shape, Start, Wish},
        looks::{Look, Looker},
        nodes::{Contact, NodesMessage, Order},
        presence::{Attendance, Attended, Departure, Why},
        sessions::SessionMessage,
        types::{ConnId, Publication, Published, RequestId, ShardId},
        visitors::Who,
    },
    protocol::TraceParent,
    reason::Reason,
    ws::Segment,
};

/// One message. The driver carries these; it cannot make or read them.
#[derive(Debug)]
pub struct ShardMessage(pub(in crate::hub) Inner);

impl ShardMessage {
    /// Bytes that the message counts for under
    /// [`Shards::shard_queue_bytes_max`](crate::limits::Shards::shard_queue_bytes_max): its own, and what it refers to.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.0.weight()
    }

    /// Whether nothing of its kind is sent to a hub to which as much is under way as may be.
    #[doc(hidden)]
    #[must_use]
    pub fn can_be_refused(&self) -> bool {
        matches!(
            self.0,
            Inner::Publish { .. }
                | Inner::PublishOnce(_)
                | Inner::Deliver { .. }
                | Inner::Claim { .. }
                | Inner::Look(_)
        )
    }
}

/// Names one message of an errand that waits for another hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) struct Ticket {
    pub(in crate::hub) shard: ShardId,
    pub(in crate::hub) index: u32,
    pub(in crate::hub) generation: u32,
    /// Which message of it.
    pub(in crate::hub) item: u32,
}

/// A connection that subscribes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) struct Joiner {
    pub(in crate::hub) conn: ConnId,
    /// It agreed on permessage-deflate.
    pub(in crate::hub) deflates: bool,
    /// In which form it takes the channel.
    pub(in crate::hub) form: Form,
    /// It is told which trace an event belongs to.
    pub(in crate::hub) traced: bool,
}

/// The messages between hubs.
#[derive(Debug)]
pub(in crate::hub) enum Inner {
    /// To a channel's home: broadcast this. `firm`: it is one of several messages that reach somebody all or none; the
    /// others may be out already, so it cannot be refused.
    /// `held`: bytes of further messages that wait at the origin until this one is published.
    Publish { ticket: Ticket, firm: bool, held: u32, publication: Publication },
    /// From the home to the origin: done.
    Published { ticket: Ticket, published: Published },
    /// From the home to the origin: not done, because a hub with subscribers takes nothing in at present, or the channel's
    /// document is another one than it should be.
    Refused { ticket: Ticket, reason: Reason },
    /// To the home: a connection subscribes, with what it asks for besides.
    Join {
        channel: Arc<str>,
        member: Joiner,
        wish: Option<Box<Wish>>,
        presence: Option<Box<Attendance>>,
    },
    /// From the home: from now on the channel's segments concern this connection, which starts there. Or not, because
    /// what it insists on cannot be had.
    Joined {
        channel: Arc<str>,
        member: Joiner,
        start: Result<Option<Box<Start>>, Lost>,
        presence: Option<Result<Box<Attended>, Reason>>,
    },
    /// To the home: a connection left.
    Leave { channel: Arc<str>, form: Form, deflates: bool, presence: Option<Departure> },
    /// To the home: what becomes of the member of this name if it waits for another connection. None comes, or it takes longer.
    Absent { channel: Arc<str>, id: Uuid, why: Why },
    /// From the home to every hub with somebody who watches: who came and went.
    Presence { channel: Arc<str>, segment: Segment },
    /// From the home to every hub with subscribers: a round of the channel, in the forms in which they take it.
    Deliver { channel: Arc<str>, plain: Shape, positioned: Option<Box<Shape>>, first_offset: u64 },
    /// From the home to every hub with subscribers: messages of the channel that none of them gets.
    Missing { channel: Arc<str>, missing: Box<Missing> },
    /// To a channel's home, as [`Publish`](Self::Publish): broadcast this, unless it was published under its key by whichever
    /// node.
    PublishOnce(Box<PublishOnce>),
    /// To the home: what is known of a channel?
    Look(Box<Look>),
    /// From the home: this, a JSON object.
    Seen { looker: Looker, result: Result<Box<str>, Reason> },
    /// A back-end's answer, to the hub that has asked.
    Given(Box<Given>),
    /// What became of it, to the hub that it came to.
    GivenTold { request: RequestId, taken: bool },
    /// To the home of an idempotency key: may this request, of so many bytes, be carried out?
    Claim { ticket: Ticket, key: Box<str>, digest: u64, bytes: u32 },
    /// From the home of the key.
    Claimed { ticket: Ticket, verdict: Verdict },
    /// To the home of the key: this is what was answered to the request of that digest. `None`: it was not carried out
    /// after all.
    Resolve { key: Box<str>, digest: u64, answer: Option<Kept> },
    /// To the home of a session, or from there to the hub of a connection.
    Session(Box<SessionMessage>),
    /// Of nodes: how the bus does, and who is there.
    Nodes(Box<NodesMessage>),
    /// To the home of an address or a user: one more connection.
    Enter { who: Who, conn: ConnId, contact: Option<Box<Contact>> },
    /// From that home: this connection is one too many.
    Evict { conn: ConnId, reason: Reason },
    /// To that home: one connection less.
    Exit { who: Who, conn: ConnId },
    /// To all: where is this user connected?
    Survey { ticket: Ticket, user: Arc<str> },
    /// To the hub that was asked: there, and so often.
    Surveyed { ticket: Ticket, found: Vec<Contact>, total: u32 },
    /// To all: carry this out.
    Order { ticket: Ticket, order: Box<Order> },
    /// To the hub that was asked: done, and so many connections ended.
    CarriedOut { ticket: Ticket, closed: u32 },
    /// To all: what this hub has, and had.
    Census(Census),
    /// To the sender of so many bytes: done with them. `firm` of them were publishes that could not be refused.
    Done { bytes: usize, firm: usize },
}

/// A message that is published once.
#[derive(Debug)]
pub(in crate::hub) struct PublishOnce {
    pub(in crate::hub) ticket: Ticket,
    pub(in crate::hub) firm: bool,
    pub(in crate::hub) held: u32,
    pub(in crate::hub) publication: Publication,
    pub(in crate::hub) once: Box<Once>,
}

/// What a hub has, and had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::hub) struct Census {
    /// WebSocket connections.
    pub(in crate::hub) open: u32,
    /// Sockets of any kind.
    pub(in crate::hub) sockets: u32,
    /// Channels that are at home there.
    pub(in crate::hub) channels: u32,
    /// WebSocket connections ever.
    pub(in crate::hub) total: u64,
}

impl Inner {
    /// Bytes that the message takes until its receiver is done with it. What hubs know of each other's credit comes by
    /// [`Inner::Done`], which needs none itself: it answers other messages.
    pub(in crate::hub) fn weight(&self) -> usize {
        let own = match self {
            Self::Done { .. } => return 0,
            Self::Publish { publication, held, .. } => {
                return publish_weight(publication) + *held as usize;
            }
            Self::PublishOnce(publish) => {
                return publish_weight(&publish.publication) + publish.held as usize;
            }
            Self::Missing { channel, .. } => channel.len() + size_of::<Missing>(),
            Self::Join { channel, presence, .. } => {
                let presence = presence.as_ref().map_or(0, |presence| presence.weight());
                channel.len() + size_of::<Wish>() + presence
            }
            Self::Presence { channel, segment } => channel.len() + segment.len(),
            // What is missed is in the log as well, and shared by all who missed it.
            Self::Joined { channel, .. } => channel.len() + size_of::<Start>(),
            Self::Look(look) => size_of::<Look>() + look.channel.len() + look.looker.weight(),
            Self::Seen { looker, result } => {
                result.as_ref().map_or(0, |json| json.len()) + looker.weight()
            }
            Self::Given(given) => {
                size_of::<Given>() + given.reply.as_ref().map_or(0, |data| data.len())
            }
            Self::Leave { channel, .. } | Self::Absent { channel, .. } => channel.len(),
            Self::Deliver { channel, plain, positioned, .. } => {
                return round_weight(channel, plain, positioned.as_deref());
            }
            Self::Claim { key, bytes, .. } => key.len() + *bytes as usize,
            Self::Resolve { key, answer, .. } => {
                key.len() + answer.as_ref().map_or(0, Kept::weight)
            }
            Self::Session(message) => message.weight(),
            Self::Nodes(message) => message.weight(),
            Self::Order { order, .. } => order.weight(),
            Self::Enter { who: Who::User(user), contact, .. } => {
                user.len() + contact.as_ref().map_or(0, |_| size_of::<Contact>())
            }
            Self::Exit { who: Who::User(user), .. } | Self::Survey { user, .. } => user.len(),
            Self::Surveyed { found, .. } => found.len() * size_of::<Contact>(),
            Self::Published { .. }
            | Self::GivenTold { .. }
            | Self::CarriedOut { .. }
            | Self::Refused { .. }
            | Self::Claimed { .. }
            | Self::Enter { .. }
            | Self::Evict { .. }
            | Self::Exit { .. }
            | Self::Census(_) => 0,
        };
        size_of::<ShardMessage>() + own
    }

    /// Whether its receiver is done with it when it has been carried out, as with most. A round has yet to be handed to
    /// its subscribers then, and a publish that may not be refused may have to wait.
    pub(in crate::hub) fn is_done_at_once(&self) -> bool {
        !self.is_firm() && !matches!(self, Self::Deliver { .. })
    }

    /// Whether it is a publish that may not be refused.
    pub(in crate::hub) fn is_firm(&self) -> bool {
        let once = matches!(self, Self::PublishOnce(publish) if publish.firm);
        once || matches!(self, Self::Publish { firm: true, .. })
    }
}

/// The weight of a publish for a channel's home: see [`Inner::weight`].
pub(in crate::hub) fn publish_weight(publication: &Publication) -> usize {
    size_of::<ShardMessage>() + publication.weight()
}

/// The weight of a round of a channel: see [`Inner::weight`].
pub(in crate::hub) fn round_weight(
    channel: &str,
    plain: &Shape,
    positioned: Option<&Shape>,
) -> usize {
    let deflated = |shape: &Shape| shape.deflated.as_ref().map_or(0, |form| form.segment.len());
    let traces = |shape: &Shape| shape.traces.as_ref().map_or(0, |of| of.len() * TRACE_BYTES);
    let bytes = |shape: &Shape| shape.segment.len() + deflated(shape) + traces(shape);
    size_of::<ShardMessage>() + channel.len() + bytes(plain) + positioned.map_or(0, bytes)
}

const TRACE_BYTES: usize = size_of::<(u32, TraceParent)>();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_message_stays_small() {
        assert!(size_of::<ShardMessage>() <= 96, "{}", size_of::<ShardMessage>());
    }
}
