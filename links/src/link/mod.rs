//! One hub's link to Redis.

use std::{collections::VecDeque, io, net::SocketAddr, sync::Arc};

use mahavishnu_core::{
    entropy::{Entropy, Seed},
    hub::{AppendError, BusCommand, BusError, BusEvent, NodeId},
    time::{Instant, Now},
};

use crate::{LinkConfig, LinkStats, RedisInfo};

/// What a link wants of its driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Look a name up, and say what came of it by [`Link::handle_resolved`]. Not blocking: on a thread of its own.
    Resolve {
        /// Name, or address as text.
        host: Box<str>,
        /// Port of the addresses.
        port: u16,
    },
    /// Connect to this address, and say by [`Link::handle_connected`] or [`Link::handle_failed`] what came of it.
    Connect {
        /// Where.
        address: SocketAddr,
    },
    /// Drop the socket, or the attempt that is under way: look-up or connection. What is known of them by then is not told
    /// any more; bytes that were not written are not.
    Close,
}

/// One hub's link to Redis: commands and bytes in, events and bytes out.
#[derive(Debug)]
pub struct Link {
    config: Arc<LinkConfig>,
    _node: NodeId,
    _shard: u16,
    _entropy: Entropy,
    stats: LinkStats,
    actions: VecDeque<Action>,
    events: VecDeque<BusEvent>,
    full: bool,
    over: bool,
}

impl Link {
    /// A link that begins to connect at once. `node` and `shard` name it to others: no two links at a time may have the same.
    #[must_use]
    pub fn new(config: Arc<LinkConfig>, node: NodeId, shard: u16, seed: Seed, _now: Now) -> Self {
        Self {
            config,
            _node: node,
            _shard: shard,
            _entropy: Entropy::new(seed),
            stats: LinkStats::default(),
            actions: VecDeque::new(),
            events: VecDeque::new(),
            full: false,
            over: false,
        }
    }

    /// What came of [`Action::Resolve`].
    pub fn handle_resolved(&mut self, _now: Now, _result: Result<Vec<SocketAddr>, io::ErrorKind>) {}

    /// [`Action::Connect`] has made a connection.
    pub fn handle_connected(&mut self, _now: Now) {}

    /// [`Action::Connect`] has made none, or the socket that there was has failed.
    pub fn handle_failed(&mut self, _now: Now, _error: io::ErrorKind) {}

    /// Bytes of the socket, which may be changed in place.
    pub fn handle_bytes(&mut self, _now: Now, _bytes: &mut [u8]) {}

    /// Redis has closed the connection.
    pub fn handle_eof(&mut self, _now: Now) {}

    /// A deadline has come. Nothing happens before [`poll_timeout`](Self::poll_timeout).
    pub fn handle_timeout(&mut self, _now: Now) {}

    /// What the hub wants. An answer may be there at once.
    pub fn handle_command(&mut self, _now: Now, command: BusCommand) {
        self.answer_away(command);
    }

    /// The hub is full, or is not any more: while it is, nothing is read, and Redis keeps what is for it.
    pub fn set_full(&mut self, _now: Now, full: bool) {
        self.full = full;
    }

    /// Another configuration. Where it says something else about Redis the link connects anew.
    pub fn reload(&mut self, _now: Now, config: Arc<LinkConfig>) {
        self.config = config;
    }

    /// To be over: once everything that was asked for is answered, or [`LinkConfig::timeout`] later.
    pub fn stop(&mut self, _now: Now) {
        self.over = true;
    }

    /// The next thing to do about the socket.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The next thing to tell the hub.
    pub fn poll_event(&mut self) -> Option<BusEvent> {
        self.events.pop_front()
    }

    /// Bytes for the socket; empty if there are none.
    #[must_use]
    pub fn transmit(&self) -> &[u8] {
        &[]
    }

    /// The socket has taken so many of [`transmit`](Self::transmit).
    pub fn transmitted(&mut self, _count: usize) {}

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Whether bytes of the socket are to be read.
    #[must_use]
    pub fn wants_read(&self) -> bool {
        !self.full
    }

    /// Whether nothing more will come of it: the driver drops it, and its socket.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// What it has counted.
    #[must_use]
    pub fn stats(&self) -> &LinkStats {
        &self.stats
    }

    /// What Redis said of itself, once it was connected to.
    #[must_use]
    pub fn redis(&self) -> Option<&RedisInfo> {
        None
    }

    fn answer_away(&mut self, command: BusCommand) {
        let away = BusError::Away;
        let event = match command {
            BusCommand::Follow { .. }
            | BusCommand::Unfollow { .. }
            | BusCommand::Quit { .. }
            | BusCommand::Tell { .. }
            | BusCommand::Beat { .. } => return,
            BusCommand::Append(append) => {
                BusEvent::Appended { id: append.id, result: Err(AppendError::Bus(away)) }
            }
            BusCommand::Announce { id, .. } | BusCommand::Control { id, .. } => {
                BusEvent::Announced { id, result: Err(away) }
            }
            BusCommand::Visit(change) => BusEvent::Visited { id: change.id, result: Err(away) },
            BusCommand::Visits { id, .. } => BusEvent::Visits { id, result: Err(away) },
            BusCommand::Read { id, .. } => BusEvent::Page { id, result: Err(away) },
            BusCommand::Heal(heal) => BusEvent::Healed { id: heal.id, result: Err(away) },
            BusCommand::Fork { id, .. } => BusEvent::Healed { id, result: Err(away) },
        };
        self.events.push_back(event);
    }
}
