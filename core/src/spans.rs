//! Spans: what was done for whom and how long it took, as values for whoever exports them.
//!
//! A hub collects them while [`Config::tracing`](crate::config::Config::tracing) says so, and
//! [`Hub::take_spans`](crate::hub::Hub::take_spans) gives them out after each turn. Without it a publish costs a comparison
//! more, and nothing is drawn, allocated or copied. Ids are drawn from the hub's seed by a stream of their own, so that all
//! else is the same with spans and without.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use crate::{protocol::TraceParent, reason::Reason};

/// Which spans there are, and what they say.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tracing {
    /// Which traces are kept. Default: those that whoever began them keeps, and all that begin here.
    pub sampler: Sampler,
    /// Whether spans name users. Default false.
    pub users: bool,
}

/// Which traces are kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// Of those that it decides on this part is kept, from 0 to 1, by the trace's id: every node decides alike. Default 1.
    pub ratio: f64,
    /// Whether it is left to whoever began a trace, if somebody else did. Default true.
    pub parent_based: bool,
}

impl Default for Sampler {
    fn default() -> Self {
        Self { ratio: 1.0, parent_based: true }
    }
}

impl Sampler {
    /// Whether a trace is kept.
    #[must_use]
    pub fn keeps(&self, trace: [u8; 16], parent: Option<TraceParent>) -> bool {
        if let Some(parent) = parent.filter(|_| self.parent_based) {
            return parent.sampled;
        }
        // As the specification's TraceIdRatioBased has it: 63 bits of the id against the part.
        let low = u128::from_be_bytes(trace) as u64 >> 1;
        // The largest ids are rounded up to the bound.
        self.ratio >= 1.0 || (low as f64) < self.ratio * (1_u64 << 63) as f64
    }
}

/// Something that was done.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// What.
    pub operation: Operation,
    /// Its trace and its own id.
    pub context: TraceParent,
    /// The span that it is a part of.
    pub parent: Option<[u8; 8]>,
    /// When it began, since the Unix epoch.
    pub start: Duration,
    /// When it was over: at the end of the turn, so that what the turn wrote to sockets is part of it.
    pub end: Duration,
    /// Why it came to nothing, if so.
    pub outcome: Result<(), Reason>,
    /// Whose request it was, as far as a trusted proxy or the socket says.
    pub client: Option<SocketAddr>,
    /// The user, if there is one and [`Tracing::users`] is on.
    pub user: Option<Arc<str>>,
}

/// What a span is about.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// A WebSocket handshake was answered.
    Handshake {
        /// Over TLS.
        secure: bool,
        /// With 101, if only to be closed at once. Otherwise the outcome has the status.
        accepted: bool,
    },
    /// A token was judged: with the handshake, by the `auth` message, which begins with the handshake, or by a later one.
    Auth,
    /// Messages were published, or refused.
    Publish {
        /// How they came.
        via: Entrance,
        /// The channel of the first one; empty if the request was refused before it was known.
        channel: Box<str>,
        /// How many there are.
        messages: u32,
        /// Bytes of their data.
        bytes: usize,
        /// Subscribers of this node that they were handed to.
        subscribers: u64,
    },
    /// A message was sent to the bus with others of its channel, and numbered and kept there.
    Append {
        /// The channel.
        channel: Arc<str>,
        /// How many were sent together.
        messages: u32,
    },
}

/// How a publish came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entrance {
    /// By a WebSocket message.
    Message,
    /// By `POST /publish`.
    Http,
    /// From the embedding application.
    Application,
    /// Out of a queue of the bus.
    Queue,
}

/// What a turn brought.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spans {
    /// The spans that have ended, in that order.
    pub ended: Vec<Span>,
    /// So many more have ended and are lost, because a turn keeps no more than [`Spans::PER_TURN_MAX`].
    pub dropped: u64,
}

impl Spans {
    /// Spans of one turn. What is beyond is counted.
    pub const PER_TURN_MAX: usize = 4_096;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(low: u64) -> [u8; 16] {
        (1 << 64 | u128::from(low)).to_be_bytes()
    }

    fn parent(sampled: bool) -> Option<TraceParent> {
        Some(TraceParent { trace: id(1), span: [1; 8], sampled })
    }

    #[test]
    fn who_began_a_trace_decides_unless_the_sampler_does_not_ask() {
        let asks = Sampler { ratio: 0.0, parent_based: true };
        assert!(asks.keeps(id(1), parent(true)) && !asks.keeps(id(1), parent(false)));
        assert!(!asks.keeps(id(1), None));
        let all = Sampler { ratio: 1.0, parent_based: false };
        assert!(all.keeps(id(u64::MAX), parent(false)) && all.keeps(id(u64::MAX), None));
        let none = Sampler { ratio: 0.0, parent_based: false };
        assert!(!none.keeps(id(0), parent(true)));
    }

    #[test]
    fn a_ratio_keeps_that_part_of_all_ids() {
        let quarter = Sampler { ratio: 0.25, parent_based: true };
        let ids = (0..1000).map(|n: u64| id(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let kept = ids.filter(|id| quarter.keeps(*id, None)).count();
        assert!((230..270).contains(&kept), "{kept} of 1000");
    }
}
