//! Questions to a channel's home about what it knows, and who asks them.

use super::{
    connections::AnswerTo,
    inquiring::Inquiry,
    presence::Page,
    types::{CommandId, ConnId},
};
use crate::{
    limits::Limits,
    protocol::{HistoryRequest, Position},
};

/// Who wants to know.
#[derive(Clone, Debug)]
pub(super) enum Looker {
    /// A client, by a request of this name.
    Message { conn: ConnId, event: &'static str, answer: Box<AnswerTo> },
    /// A client, by a request that documents answer.
    Inquiry(Box<Inquiry>),
    /// A client over HTTP.
    Http { conn: ConnId },
    /// The embedding application.
    Command { id: CommandId },
    /// This hub itself, for those who are sent the figures of skills.
    Feed,
}

/// A question.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) looker: Looker,
    pub(super) channel: Box<str>,
    pub(super) query: Query,
}

impl Looker {
    /// Bytes that it takes besides itself.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Inquiry(inquiry) => inquiry.weight(),
            Self::Message { .. } | Self::Http { .. } | Self::Command { .. } | Self::Feed => 0,
        }
    }
}

/// What somebody wants to know of a channel. The answer is a JSON object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Query {
    /// Its last messages.
    History(Range),
    /// Its document.
    State,
    /// The same and nothing about it; empty if there is none.
    Document,
    /// Who is in it.
    Presence(Page),
}

/// Which messages of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) side: Side,
    /// So many at most.
    pub(super) limit: u32,
    /// So many bytes at most, but one message.
    pub(super) bytes: usize,
}

/// On which side of a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The oldest ones behind it.
    After(Position),
    /// The newest ones before this number.
    Before(u64),
    /// The newest ones.
    Last,
}

impl Range {
    /// What a client asks for, as far as the limits allow.
    pub(super) fn of(request: &HistoryRequest<'_>, limits: &Limits) -> Self {
        let side = match (request.after, request.before) {
            (Some(after), _) => Side::After(after),
            (None, Some(before)) => Side::Before(before),
            (None, None) => Side::Last,
        };
        let limit = request.limit.unwrap_or(u32::MAX).min(limits.history.history_page_max);
        Self { side, limit, bytes: limits.delivery.outbox_bytes_max / 4 }
    }
}
