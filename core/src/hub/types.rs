//! What goes into a hub besides bytes, and the names of what is in it.

use std::{
    hash::{BuildHasher, Hash, Hasher},
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use siphasher::sip::SipHasher13;
use uuid::Uuid;

#[cfg(doc)]
use super::output::Output;
use super::{
    application::{DirectMessage, Disconnect, Recipient, Roll},
    authenticating::Authentication,
    bus::{NodeId, TakenFrom},
    store::SessionId,
};
#[cfg(doc)]
use crate::reason::Reason;
use crate::{
    auth::Revocation,
    config::Config,
    entropy::{Entropy, KeyedState, Seed},
    protocol::{Condition, Epoch, MessageOptions, Position, TraceParent},
};

/// One connection of one hub. The generation makes an id unique over the hub's life: an input about a connection that
/// is gone is ignored, even after its place was taken again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
    pub(crate) shard: ShardId,
}

impl ConnId {
    /// The hub that holds it.
    #[must_use]
    pub fn shard(self) -> ShardId {
        self.shard
    }

    /// A small number that is free again after the connection is gone: an index for the driver's table of sockets.
    #[must_use]
    pub fn index(self) -> usize {
        self.index as usize
    }
}

/// One of the hubs of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

/// Where a hub stands among the hubs of its process.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// This hub.
    pub shard: ShardId,
    /// How many there are. At most 64.
    pub shards: u16,
    /// The process's seed, the same for all its hubs: they agree by it on each channel's home.
    pub seed: Seed,
}

impl Place {
    /// The only hub of its process.
    #[must_use]
    pub fn alone(seed: Seed) -> Self {
        Self { shard: ShardId(0), shards: 1, seed }
    }

    /// This life of the process among the nodes of a server: of all its hubs the same, and of no other process.
    #[must_use]
    pub fn node(self) -> NodeId {
        NodeId(self.stream().next_u64())
    }

    /// Randomness for what has to do with other nodes: what the hubs draw from the seed is the same with them and without.
    pub(in crate::hub) fn stream(self) -> Entropy {
        let mut seed = self.seed;
        seed.0.iter_mut().zip(NODE_STREAM).for_each(|(byte, other)| *byte ^= other);
        Entropy::new(seed)
    }

    /// The other hubs of its process.
    pub(in crate::hub) fn others(self) -> impl Iterator<Item = ShardId> {
        (0..self.shards).map(ShardId).filter(move |shard| *shard != self.shard)
    }
}

/// Tells the seed of [`Place::stream`] from the process's.
const NODE_STREAM: &[u8; 32] = b"the name of a node among others.";

/// Where channels are at home, for drivers that hand a publish to the right hub at once.
#[derive(Clone, Copy, Debug)]
pub struct Placement {
    keys: KeyedState,
    shards: u16,
}

impl Placement {
    /// The placement that all hubs of a process with this place's seed agree on.
    #[must_use]
    pub fn new(place: Place) -> Self {
        Self { keys: Entropy::new(place.seed).hash_keys(), shards: place.shards.max(1) }
    }

    /// The hub at which `name`, a channel or an idempotency key, is at home.
    #[must_use]
    pub fn home(&self, name: &str) -> ShardId {
        if self.shards == 1 {
            return ShardId(0);
        }
        self.home_of(name)
    }

    /// The hub at which a session is at home.
    #[must_use]
    pub fn session_home(&self, session: SessionId) -> ShardId {
        if self.shards == 1 { ShardId(0) } else { self.home_of(session) }
    }

    /// The hub at which anything else is at home.
    pub(in crate::hub) fn home_of(&self, thing: impl Hash) -> ShardId {
        let hash = u128::from(self.keys.hash_one(thing));
        // Multiply-shift maps the hash evenly onto the shards.
        ShardId(((hash * u128::from(self.shards)) >> 64) as u16)
    }

    /// A number that tells one content from another; equal on all hubs of a process, or of all nodes.
    pub(in crate::hub) fn digest(&self, content: &[Publication], nodes: bool) -> u64 {
        if nodes {
            return digest_everywhere(content);
        }
        let mut digest = self.keys.build_hasher();
        content.len().hash(&mut digest);
        content.iter().for_each(|publication| publication.content().hash(&mut digest));
        digest.finish()
    }
}

/// A number that is the same wherever and by whichever version of the program it is computed.
fn digest_everywhere(content: &[Publication]) -> u64 {
    let mut digest = SipHasher13::new();
    let mut part = |bytes: &[u8]| {
        digest.write(&(bytes.len() as u64).to_le_bytes());
        digest.write(bytes);
    };
    for Publication { channel, event, data, options } in content {
        [channel.as_bytes(), event.as_bytes(), data].into_iter().for_each(&mut part);
        let options = options.as_deref();
        let told = options.is_some_and(|options| options.positions);
        let state = options.and_then(|options| options.state.as_deref());
        let condition = options.and_then(|options| options.condition);
        part(&[u8::from(told), u8::from(state.is_some()), u8::from(condition.is_some())]);
        part(state.unwrap_or_default());
        let epoch = condition.and_then(|condition| condition.epoch);
        part(epoch.as_ref().map_or(&[][..], |epoch| epoch.as_str().as_bytes()));
        part(&condition.map_or(0, |condition| condition.offset).to_le_bytes());
    }
    digest.finish()
}

/// Which of the server's ports a connection came in by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Listener {
    /// WebSocket, `/health`, `/ready`, `POST /publish`.
    #[default]
    Main,
    /// The exposition of metrics, at any path; no WebSocket.
    Metrics,
    /// None: another program part has read the handshake and hands the connection over. Whatever lay between, TLS or a header
    /// of the PROXY protocol, was that one's business. Only WebSocket; anything else is answered with 426.
    Adopted,
}

/// Who connected, and by which port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The other end of the socket, or [`NO_ADDRESS`].
    pub address: SocketAddr,
    /// The port.
    pub listener: Listener,
}

/// The address of who has none: a client at a Unix socket, or one that whoever handed it over does not name. No limit by
/// address holds for it alone; those that are about a share (of channels, of idempotency keys) take all without address and
/// user for one. It is not of this machine, so it may not publish without a token. It is a trusted proxy if
/// [`trusted_proxies`](crate::config::Config::trusted_proxies) has `::/128`.
pub const NO_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);

impl Peer {
    /// Who has connected by `listener`, from `address` if it has one.
    #[must_use]
    pub fn new(address: Option<SocketAddr>, listener: Listener) -> Self {
        Self { address: address.unwrap_or(NO_ADDRESS), listener }
    }
}

/// Names a question to the application, until it is answered or its time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// Names a command whose completion the driver waits for. Chosen by the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommandId(pub u64);

/// One broadcast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The channel, for example `workflow:42`.
    pub channel: Box<str>,
    /// The event's name, for example `workflow.started`.
    pub event: Box<str>,
    /// A JSON object, as text. It is sent as it stands.
    pub data: Bytes,
    /// What it carries besides, if anything.
    pub options: Option<Box<PublicationOptions>>,
}

/// What a broadcast carries besides its message. Most carry nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublicationOptions {
    /// The same command under the same key is carried out once. Only for commands: what clients send has one key for
    /// all its messages.
    pub idempotency_key: Option<Box<str>>,
    /// Whether the client that sends it is told where in the channel it stands.
    pub positions: bool,
    /// The channel's document from now on: a JSON object, as text.
    pub state: Option<Bytes>,
    /// Only if the channel's document is this one.
    pub condition: Option<Condition>,
    /// The span that it is a part of, for subscribers who want to know. It is no part of what makes a message the same as
    /// another one.
    pub traceparent: Option<TraceParent>,
    /// Which entry of a queue it was. Hubs say so to each other; who publishes has nothing to say here.
    #[doc(hidden)]
    pub taken: Option<Box<TakenFrom>>,
}

impl PublicationOptions {
    /// What came with a message; nothing if it is nothing.
    pub(in crate::hub) fn of(message: MessageOptions<'_>) -> Option<Box<Self>> {
        let MessageOptions { positions, state, condition, traceparent } = message;
        let state = state.map(|state| Bytes::copy_from_slice(state.as_bytes()));
        let options = Self { positions, state, condition, traceparent, ..Self::default() };
        (!message.is_empty()).then(|| Box::new(options))
    }
}

impl Published {
    /// Where the message stands; `None` if nobody subscribes to the channel and nothing is kept of it.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.epoch.map(|epoch| Position { epoch, offset: self.offset })
    }
}

impl Publication {
    /// A message and nothing besides.
    pub fn new(
        channel: impl Into<Box<str>>,
        event: impl Into<Box<str>>,
        data: impl Into<Bytes>,
    ) -> Self {
        Self { channel: channel.into(), event: event.into(), data: data.into(), options: None }
    }

    /// Bytes that it takes.
    pub(in crate::hub) fn weight(&self) -> usize {
        let options = self.options.as_ref().map_or(0, |options| {
            size_of::<PublicationOptions>() + options.state.as_ref().map_or(0, Bytes::len)
        });
        self.channel.len() + self.event.len() + self.data.len() + options
    }

    /// Whether the answer says where it stands.
    pub(in crate::hub) fn is_told(&self) -> bool {
        self.options.as_ref().is_some_and(|options| options.positions)
    }

    /// Whether it is published only if the channel's document is a certain one.
    pub(in crate::hub) fn is_conditional(&self) -> bool {
        self.options.as_ref().is_some_and(|options| options.condition.is_some())
    }

    /// What makes it the same as another one.
    pub(in crate::hub) fn content(&self) -> impl Hash {
        let options = self.options.as_ref().filter(|options| {
            options.positions || options.state.is_some() || options.condition.is_some()
        });
        let options = options.map(|options| (options.positions, &options.state, options.condition));
        (&self.channel, &self.event, &self.data, options)
    }
}

/// What became of a broadcast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Subscribers that it was handed to.
    pub subscribers: u32,
    /// Its number in the channel, from 1; 0 if nobody subscribes to the channel and nothing is kept of it.
    pub offset: u64,
    /// Which life of the channel's numbers that is, unless there is none.
    pub epoch: Option<Epoch>,
}

/// How a server stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainPlan {
    /// For so long `/ready` says no, and this node's lease that it goes, while everything else stays as it is: load balancers
    /// learn it before clients do. Default zero. A further drain without it ends it.
    pub notice: Duration,
    /// After that closes are spread evenly over this time. Default zero: all at once.
    pub window: Duration,
    /// Connections that are left so long after the notice are dropped. Default 10 s.
    pub deadline: Duration,
}

impl Default for DrainPlan {
    fn default() -> Self {
        let deadline = Duration::from_secs(10);
        Self { notice: Duration::ZERO, window: Duration::ZERO, deadline }
    }
}

/// What the application or the operator wants of a hub.
#[derive(Clone, Debug)]
pub enum Command {
    /// Broadcast. With an id, [`Output::Done`] tells what became of it.
    Publish {
        /// Names the answer.
        id: Option<CommandId>,
        /// What to broadcast.
        publication: Publication,
    },
    /// The answer to [`Output::Request`]: a JSON object as text, or an error of the message protocol.
    Reply {
        /// The question.
        id: RequestId,
        /// The answer's `data`, or why there is none.
        result: Result<Bytes, RequestError>,
    },
    /// The answer to [`Output::Authorize`].
    Decide {
        /// The question.
        id: RequestId,
        /// Whether it may happen.
        allow: bool,
    },
    /// The answer to [`Output::Authenticate`].
    Authenticated {
        /// The question.
        id: RequestId,
        /// What becomes of the handshake or request.
        outcome: Authentication,
    },
    /// The answer to [`Output::Metrics`].
    Exposition {
        /// The connection that asked.
        conn: ConnId,
        /// The exposition in Prometheus' text format.
        text: Bytes,
    },
    /// The answer to [`Output::Statistics`]: a JSON object as text. What is none is told to nobody.
    Statistics(Bytes),
    /// A handler of the application has failed: what waits for it is answered with [`Reason::RequestFailed`].
    Failed(Handler),
    /// What the application has no room for, from now on.
    Backlog(Backlog),
    /// What is known of a channel? [`Output::Looked`] answers.
    Look {
        /// Names the answer.
        id: CommandId,
        /// The channel.
        channel: Box<str>,
        /// What is wanted.
        look: Look,
    },
    /// Which sessions are there? Each hub answers for those that are at home there, by [`Output::Sessions`]: ask all.
    Sessions {
        /// Names the answer.
        id: CommandId,
        /// Which ones are counted.
        of: Whose,
        /// So many are listed at most, and no more than [`SessionPage::MAX`].
        limit: u32,
        /// The list begins behind the one with this `connection_id`.
        after: Option<Uuid>,
    },
    /// End sessions that are at home at this hub: the store forgets them, those who have one are closed with 1008, and who
    /// waits as a member of a channel has left it. With an id, [`Output::Done`] says how many, in
    /// [`Published::subscribers`].
    EndSessions {
        /// Names the answer.
        id: Option<CommandId>,
        /// Which ones.
        of: Whose,
    },
    /// End one connection with close code 1008.
    Disconnect {
        /// Which.
        conn: ConnId,
    },
    /// Revoke tokens on all hubs; one of them is told. With an id, [`Output::Done`] says when all have done it, with the
    /// number of connections that ended in [`Published::subscribers`].
    Revoke {
        /// Names the answer.
        id: Option<CommandId>,
        /// Which tokens.
        revocation: Revocation,
    },
    /// Put a new configuration in force. Live connections stay, but for those whose token it revokes; subscriptions that
    /// it forbids are taken back.
    Reload(Arc<Config>),
    /// Close every connection with 1001 and take no new ones.
    Drain(DrainPlan),
    /// Send an event to connections of this hub. With an id, [`Output::Handled`] says how many it has reached: ask all
    /// hubs for those of a user.
    Send {
        /// Names the answer.
        id: Option<CommandId>,
        /// To whom.
        to: Recipient,
        /// The event.
        message: DirectMessage,
    },
    /// Send an event to all connections of a user, on all hubs of all nodes; one hub is told. With an id, [`Output::Done`]
    /// says how many it has reached, in [`Published::subscribers`].
    SendEverywhere {
        /// Names the answer.
        id: Option<CommandId>,
        /// To whom.
        user: Arc<str>,
        /// The event.
        message: DirectMessage,
    },
    /// Make a connection a subscriber, as if its client had asked for it and for nothing besides; nobody else is asked. It
    /// is told by the event `channel.subscribed`, unless it was one. With an id, [`Output::Handled`] answers.
    Subscribe {
        /// Names the answer.
        id: Option<CommandId>,
        /// The connection.
        conn: ConnId,
        /// The channel.
        channel: Box<str>,
        /// Whatever its client may: neither its token nor the policy has a say, now or later. A session that is resumed
        /// does not bring it back.
        granted: bool,
    },
    /// Take a connection out of a channel. It is told by the event `channel.withdrawn`, if it was in it. A subscription that
    /// the application has yet to decide on is not affected. With an id, [`Output::Handled`] answers.
    Unsubscribe {
        /// Names the answer.
        id: Option<CommandId>,
        /// The connection.
        conn: ConnId,
        /// The channel.
        channel: Box<str>,
    },
    /// End connections in the application's own words: one of this hub, or those of a user on all hubs of all nodes; one hub
    /// is told. Their tokens stay good. With an id, [`Output::Done`] says how many, in [`Published::subscribers`].
    Dismiss {
        /// Names the answer.
        id: Option<CommandId>,
        /// Whom.
        whom: Recipient,
        /// How.
        how: Box<Disconnect>,
    },
    /// List connections or channels of this hub. [`Output::Handled`] answers.
    List {
        /// Names the answer.
        id: CommandId,
        /// Which ones.
        of: Roll,
        /// So many at most, and no more than [`RollPage::MAX`](super::RollPage::MAX).
        limit: u32,
        /// The list begins behind this place: [`RollPage::next`](super::RollPage::next) of the part before.
        after: Option<u32>,
    },
}

/// Which sessions the application means. A session's own name is a secret: whoever knows it may resume it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// All.
    Everybody,
    /// A user's.
    User(Box<str>),
    /// The one of the client that others know by this name: `connection_id` of presence.
    Client(Uuid),
}

/// A session, without its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// The name by which others know its client; it stays the same however often the session is resumed.
    pub connection_id: Uuid,
    /// The user, if there is one.
    pub user: Option<Arc<str>>,
    /// How many channels it is subscribed to.
    pub channels: u32,
    /// How long it waits for its client after the end of a connection.
    pub ttl: Duration,
    /// So long it still waits. `None`: it has a connection.
    pub waits: Option<Duration>,
}

/// The sessions of one hub that somebody asked about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionPage {
    /// How many have a connection.
    pub attached: u64,
    /// How many wait for their client.
    pub detached: u64,
    /// Some of them, by their `connection_id`.
    pub sessions: Vec<SessionInfo>,
    /// There are no further ones behind them.
    pub complete: bool,
}

impl SessionPage {
    /// Sessions in one answer.
    pub const MAX: u32 = 1_000;
}

/// What the application wants to know of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Its last messages, as `get_history` tells them.
    History {
        /// So many at most.
        limit: u32,
        /// The oldest ones behind this.
        after: Option<Position>,
        /// Otherwise the newest ones before this number; `None`: the newest.
        before: Option<u64>,
    },
    /// Its document, as `get_state` tells it.
    State,
    /// Who is in it, as `get_presence` tells it.
    Presence {
        /// Whether they are to be listed, or only counted.
        members: bool,
        /// The list begins behind the member with this `connection_id`.
        after: Option<Uuid>,
    },
}

/// A call of one of the application's handlers, by which handler it is and what waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handler {
    /// The answer to [`Output::Request`].
    Request(RequestId),
    /// The decision on a subscription, see [`Output::Authorize`].
    Subscribe(RequestId),
    /// The decision on a publish, see [`Output::Authorize`].
    Publish(RequestId),
    /// Hears of [`Output::Connected`].
    Connect,
    /// Hears of [`Output::Disconnected`].
    Disconnect,
    /// Hears of [`Output::Subscribed`].
    Subscribed,
    /// Hears of [`Output::Unsubscribed`].
    Unsubscribed,
    /// The answer to [`Output::Metrics`].
    Metrics(ConnId),
    /// Takes what was recorded.
    Record,
    /// The answer to [`Output::Statistics`].
    Statistics,
    /// Says whose a handshake is, see [`Output::Authenticate`].
    Authenticate(RequestId),
}

impl Handler {
    /// Every handler's name, as it is counted.
    pub const NAMES: &[&str] = &[
        "on_request",
        "authorize_subscribe",
        "authorize_publish",
        "on_connect",
        "on_disconnect",
        "metrics",
        "record",
        "statistics",
        "on_subscribe",
        "on_unsubscribe",
        "authenticate",
    ];

    /// The name's place in the list.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Request(_) => 0,
            Self::Subscribe(_) => 1,
            Self::Publish(_) => 2,
            Self::Connect => 3,
            Self::Disconnect => 4,
            Self::Metrics(_) => 5,
            Self::Record => 6,
            Self::Statistics => 7,
            Self::Subscribed => 8,
            Self::Unsubscribed => 9,
            Self::Authenticate(_) => 10,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.get(self.index()).copied().unwrap_or_default()
    }
}

/// What the application has no room for, because its handlers are not done with what they were given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backlog {
    /// It takes everything.
    #[default]
    None,
    /// It is asked nothing: requests, decisions and scrapes are answered with [`Reason::Busy`].
    Questions,
    /// Nor does it hear of newcomers: they are closed with [`Reason::Busy`].
    All,
}

/// Why the application does not answer a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestError {
    /// `error_code` of the answer, for example `NOT_FOUND`.
    pub code: Box<str>,
    /// `error_message` of the answer: sent to the client as it stands.
    pub message: Box<str>,
}
