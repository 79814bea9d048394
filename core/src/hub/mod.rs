//! The hub: all connections, channels and queues of one core, as one state machine.
//!
//! A process has one hub per shard. Inputs are `handle_*`, outputs `poll_*` and [`Hub::flush`]; the contract is in the
//! crate's documentation. Inside, the hub is a router between departments. Each owns its state; its methods take the
//! environment (`env`) and what they need, and return what follows from it elsewhere; the hub's own methods carry that
//! on, in `clients` (what a client does), `http_requests` (what it asks over HTTP), `looking` (what it asks about
//! channels), `publishing` (what is published), `attending` (who is in channels) and `traffic` (what else goes through
//! channels and between hubs). A publish goes to its channel's *home*, which gathers the frames of a turn into one shared
//! segment; at the end of the turn the segment is handed to every subscriber's outbox, and each dirty connection is written
//! once.

mod admitting;
mod answering;
mod append;
mod appending;
mod application;
mod attending;
mod authenticating;
mod bus;
mod channels;
mod clients;
mod clock;
mod codecs;
mod commands;
mod connections;
mod drain;
mod drive;
mod due;
mod env;
mod errands;
mod feed;
mod folding;
mod follow;
mod following;
mod forwarded;
mod handshake;
mod homes;
mod http;
mod http_requests;
mod ingress;
mod inquiring;
mod interest;
mod introduction;
mod joining;
mod keeping;
mod leasing;
mod listening;
mod listing;
mod looking;
mod looks;
mod mending;
mod nodes;
mod ordering;
mod output;
mod peers;
mod presence;
mod publishing;
mod questions;
mod raw;
mod reaching;
mod reads;
mod resuming;
mod roaming;
mod sending;
mod session_buddy;
mod sessions;
mod sharing;
mod slab;
mod spans;
mod statistics;
mod store;
mod storing;
mod taking;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tokens;
mod tracking;
mod traffic;
mod types;
mod visitors;

use std::{collections::VecDeque, sync::Arc};

use self::{
    append::Appending,
    bus::Calls,
    channels::Channels,
    connections::Connections,
    drain::Drain,
    env::Env,
    errands::{Errands, Keys},
    feed::Feed,
    follow::Following,
    homes::Homes,
    ingress::Ingress,
    introduction::AtHands,
    nodes::{Nodes, Tracking},
    peers::{Census, Peers},
    presence::{Presence, Watchers},
    questions::Questions,
    sessions::Sessions,
    statistics::Statistics,
    storing::Storing,
    tokens::Tokens,
    visitors::Visitors,
};
pub use self::{
    application::{
        ChannelInfo, ConnectionInfo, DirectMessage, Disconnect, Handled, Leave, Recipient,
        RetryAdvice, Roll, RollPage, Sent,
    },
    authenticating::{Authentication, Denial, Refusal, RefusedBy},
    bus::{
        Alive, Append, AppendError, Appended, AttendanceEvent, Basis, BusCommand, BusError,
        BusEvent, BusState, CallId, ChannelEvent, Heal, HealEntry, IngressEntry, IngressOwner,
        LinkEvent, Live, Moved, Node, NodeEvent, NodeId, Once, Page as BusPage, PageEntry,
        PresenceAbsence, PresenceChange, PresenceChanged, PresenceEnd, PresenceEntry,
        PresenceMember, PresenceMembers, PresenceMove, PresenceNews, Retention, SessionAnswer,
        SessionCall, SessionClaimed, SessionHeld, SessionKey, SessionRenewed, SessionState,
        SessionWish, Standing, Take, Taken, TakenFrom, Visit, VisitChange, VisitEvent, VisitName,
        Visited, Visits, Writer,
    },
    due::{Timeout, TimeoutReason},
    introduction::{Data, Introduction},
    nodes::{LinkCounts, NodeInfo, OrderKind, Whom},
    output::{Audit, Output},
    peers::ShardMessage,
    store::{
        AppendId, SessionId, StoreCommand, StoreEvent, StoredChannel, StoredRound, StoredState,
    },
    types::{
        Backlog, Command, CommandId, ConnId, DrainPlan, Handler, Listener, Look, NO_ADDRESS, Peer,
        Place, Placement, Publication, PublicationOptions, Published, RequestError, RequestId,
        SessionInfo, SessionPage, ShardId, Whose,
    },
};
use crate::{config::Config, entropy::Entropy, metrics::Tally, time::Now};

/// All connections, channels and queues of one core. See the [crate documentation](crate) for how to drive it.
#[derive(Debug)]
pub struct Hub {
    env: Env,
    connections: Connections,
    channels: Channels,
    homes: Homes,
    /// Members of channels that are at home here.
    presence: Presence,
    watchers: Watchers,
    /// Idempotency keys that are at home here.
    keys: Keys,
    errands: Errands,
    /// What waits for the store.
    storing: Storing,
    /// What goes to the bus.
    calls: Calls,
    /// Channels that are followed on the bus.
    following: Following,
    /// What waits for the bus.
    appending: Appending,
    /// What is taken from queues of the bus, at the first hub.
    ingress: Ingress,
    nodes: Nodes,
    /// Where users are connected that are at home here.
    visits: Tracking,
    peers: Peers,
    questions: Questions,
    at_hand: AtHands,
    visitors: Visitors,
    /// Sessions that are at home here.
    sessions: Sessions,
    tokens: Tokens,
    drain: Drain,
    scrapes: http::Scrapes,
    statistics: Statistics,
    /// Who is sent the figures of skills.
    feed: Feed,
    outputs: VecDeque<Output>,
    turn: Turn,
}

/// How far the present turn has come.
#[derive(Debug, Default)]
struct Turn {
    /// The first rounds were handed out; further ones follow when what is dirty was flushed.
    handed_out: bool,
    /// Inputs since the outputs were last drained.
    inputs: u32,
    /// Inputs since all counts were last checked, and whether that is done at all.
    #[cfg(debug_assertions)]
    unchecked: usize,
    #[cfg(debug_assertions)]
    trusted: bool,
}

/// How much of everything a hub holds.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Sockets of any kind.
    pub sockets: usize,
    /// WebSocket connections that count.
    pub open: u32,
    /// Channels with subscribers here, or with subscriptions that wait.
    pub channels: usize,
    /// Channels that are at home here.
    pub homes: usize,
    /// Channels that are followed on the bus.
    pub followed: usize,
    /// Channels at home here that somebody is in or watches, and connections here that watch one.
    pub presence: usize,
    /// Questions to the application.
    pub questions: usize,
    /// Errands: what waits for other hubs.
    pub publishes: usize,
    /// Addresses and users that are counted here.
    pub visitors: usize,
    /// Sessions that are at home here.
    pub sessions: usize,
    /// Publishes that were carried out and are not answered yet, because a hub takes nothing in.
    pub withheld: usize,
    /// Entries of the timer heaps.
    pub timers: usize,
}

impl Hub {
    /// Inputs that may come before the outputs are drained: more than that says that a driver does not drain, and fails a
    /// debug assertion.
    pub const TURN_INPUTS_MAX: u32 = 1 << 20;

    /// A hub without connections.
    #[must_use]
    pub fn new(config: Arc<Config>, place: Place, now: Now) -> Self {
        let mut shared = Entropy::new(place.seed);
        // The placement's keys are drawn first; see `Placement::new`.
        let _ = shared.hash_keys();
        let mut entropy = shared.fork();
        for _ in 0..place.shard.0 {
            entropy = shared.fork();
        }
        let mut env = Env::new(config, place, entropy, now);
        let mut stream = place.stream();
        // The first that it gives is the node's name.
        let _ = stream.next_u64();
        let mut keys = || env.entropy.hash_keys();
        let names = keys();
        Self {
            channels: Channels::new(names),
            homes: Homes::new(keys(), place),
            keys: Keys::new(keys()),
            visitors: Visitors::new(keys(), keys()),
            sessions: Sessions::new(keys(), now.mono),
            tokens: Tokens::new(keys(), now),
            presence: Presence::new(keys(), now.mono),
            watchers: Watchers::default(),
            connections: Connections::new(&env.config, place.shard, now, names),
            errands: Errands::default(),
            storing: Storing::new(keys()),
            following: Following::new(stream.hash_keys()),
            appending: Appending::new(stream.hash_keys(), place),
            ingress: Ingress::new(&env.config, place, now.mono),
            calls: Calls::default(),
            nodes: Nodes::new(place, now),
            visits: Tracking::new(names),
            peers: Peers::new(place),
            questions: Questions::new(now.mono),
            at_hand: AtHands::new(),
            drain: Drain::default(),
            scrapes: http::Scrapes::default(),
            statistics: Statistics::default(),
            feed: Feed::default(),
            outputs: VecDeque::new(),
            turn: Turn::default(),
            env,
        }
    }

    /// Sockets of any kind that this hub holds.
    #[must_use]
    pub fn sockets(&self) -> usize {
        self.connections.len()
    }

    /// WebSocket connections through handshake and authentication, over all hubs as far as this one knows.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.peers.open()
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> &Arc<Config> {
        &self.env.config
    }

    /// Where the hub stands among those of its process.
    #[must_use]
    pub fn place(&self) -> Place {
        self.env.place
    }

    /// What was counted since this was last recorded: for [`Metrics::record`](crate::metrics::Metrics::record).
    pub fn tally(&mut self) -> &mut Tally {
        &mut self.env.tally
    }

    fn census(&self) -> Census {
        self.peers.own(self.connections.len(), self.homes.len())
    }
}

/// A look inside for tests that drive whole hubs: what is held, never what it says.
impl Hub {
    /// What is held.
    #[doc(hidden)]
    #[must_use]
    pub fn holdings(&self) -> Holdings {
        Holdings {
            sockets: self.connections.len(),
            open: self.census().open,
            channels: self.channels.len(),
            homes: self.homes.len(),
            followed: self.following.len(),
            presence: self.presence.len() + self.watchers.len(),
            questions: self.questions.len(),
            publishes: self.errands.len(),
            visitors: self.visitors.len() + self.visits.len(),
            sessions: self.sessions.len(),
            withheld: self.peers.withheld(),
            timers: self.connections.timers() + self.questions.timers() + self.sessions.timers(),
        }
    }

    /// Bytes in a connection's outbox: all, and those that its peer asked for.
    #[doc(hidden)]
    #[must_use]
    pub fn queued(&self, conn: ConnId) -> Option<(usize, usize)> {
        let outbox = self.connections.get(conn)?.ws.outbox();
        Some((outbox.bytes(), outbox.own_bytes()))
    }

    /// Bytes sent to another hub and not given back, and bytes of it that are done with and not given back.
    #[doc(hidden)]
    #[must_use]
    pub fn credit(&self, with: ShardId) -> (usize, usize) {
        self.peers.credit(with)
    }

    /// Subscriptions of a connection.
    #[doc(hidden)]
    #[must_use]
    pub fn subscriptions(&self, conn: ConnId) -> usize {
        self.connections.get(conn).map_or(0, |found| found.subscriptions.len())
    }

    /// Counts are not checked from now on, for whoever counts instructions.
    #[doc(hidden)]
    pub fn trust(&mut self) {
        #[cfg(debug_assertions)]
        {
            self.turn.trusted = true;
        }
    }

    /// Every count equals what it counts. That takes a look at everything, so with much of it not each turn is checked.
    #[cfg(debug_assertions)]
    fn check(&mut self) {
        let Turn { unchecked, trusted, .. } = self.turn;
        let much = self.connections.len() + self.channels.len() + self.homes.len();
        if trusted || much > CHECKED_ALWAYS && unchecked < much {
            return;
        }
        self.turn.unchecked = 0;
        self.connections.check(&self.env);
        self.channels.check(&mut self.connections);
        self.homes.check(self.env.place.shard);
        self.presence.check(self.env.place.shard);
        let (channels, connections) = (&self.channels, &self.connections);
        self.watchers.check(|channel, conn| channels.has(connections, channel, conn));
        self.errands.check();
        self.storing.check();
        self.following.check();
        self.appending.check();
        self.ingress.check();
        self.keys.check();
        self.visits.check();
        self.questions.check(&self.connections);
        assert!(self.at_hand.keys().all(|id| self.connections.get(*id).is_some()), "at hand");
        self.sessions.check();
        self.feed.check(&self.connections);
        let phases = self.connections.ids().into_iter().filter_map(|id| self.connections.get(id));
        let open = phases.filter(|conn| conn.phase.is_open()).count();
        self.peers.check(&self.env, open);
    }
}

/// Connections and channels of which every turn of a debug build is checked.
#[cfg(debug_assertions)]
const CHECKED_ALWAYS: usize = 64;
