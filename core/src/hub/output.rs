//! What comes out of a hub besides bytes.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;

#[cfg(doc)]
use super::types::Command;
use super::{
    application::{Handled, Leave},
    bus::BusCommand,
    introduction::Introduction,
    nodes::{OrderKind, Whom},
    peers::ShardMessage,
    store::StoreCommand,
    types::{CommandId, ConnId, Published, RequestId, SessionPage, ShardId},
};
use crate::{
    auth::{Claims, Revocation, Verb},
    reason::Reason,
    tls::Identity,
};

/// A revocation of tokens, an end of connections, or an attempt at one: who wanted what. For a log that can be read later.
/// There is neither a token nor a key in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// What was wanted.
    pub kind: OrderKind,
    /// Where the request came from; `None`: the embedding application.
    pub peer: Option<SocketAddr>,
    /// Whose token it carried, if that verified and names somebody.
    pub user: Option<Arc<str>>,
    /// Which tokens were meant; `None` if it was refused before that was looked at.
    pub revocation: Option<Revocation>,
    /// Whose connections were meant; `None` likewise.
    pub whom: Option<Whom>,
}

/// What a hub asks its driver to do.
#[derive(Debug)]
pub enum Output {
    /// A client's request that the application answers with [`Command::Reply`].
    Request {
        /// Names the answer.
        id: RequestId,
        /// Who asks.
        conn: ConnId,
        /// The user, if there is one.
        user: Option<Arc<str>>,
        /// The request's event, for example `get_pool_status`.
        event: Box<str>,
        /// The request's `data`, a JSON object as text.
        data: Bytes,
    },
    /// Something that the policy allows and that the application wants to decide on, by [`Command::Decide`].
    Authorize {
        /// Names the answer.
        id: RequestId,
        /// Who wants it.
        conn: ConnId,
        /// The user, if there is one.
        user: Option<Arc<str>>,
        /// Subscribe or publish.
        verb: Verb,
        /// Where.
        channel: Box<str>,
        /// Who it is by its certificate, if clients must have one.
        identity: Option<Arc<Identity>>,
        /// What is known of who asks over HTTP, and so is no connection that was [`Output::Connected`]: if the application
        /// wants to know.
        introduction: Option<Box<Introduction>>,
    },
    /// Whose is this handshake, or this request over HTTP? [`Command::Authenticated`] answers. Until then nothing more of
    /// the connection is read.
    Authenticate {
        /// Names the answer.
        id: RequestId,
        /// The connection. It is none that the application has heard of.
        conn: ConnId,
        /// Its address.
        peer: SocketAddr,
        /// Who it is by its certificate, if clients must have one.
        identity: Option<Arc<Identity>>,
        /// Whether it came through TLS of this server.
        secure: bool,
        /// Method, target and header fields, as they came.
        request: Arc<http::Request<()>>,
        /// Whether it is a handshake.
        upgrade: bool,
        /// Bytes of its body, which wait with the hub.
        body_bytes: usize,
    },
    /// A connection got through handshake and authentication.
    Connected {
        /// The connection.
        conn: ConnId,
        /// Its address.
        peer: SocketAddr,
        /// The user, if there is one.
        user: Option<Arc<str>>,
        /// Who it is by its certificate, if clients must have one.
        identity: Option<Arc<Identity>>,
        /// What else is known of it, if the application wants to know.
        introduction: Option<Box<Introduction>>,
    },
    /// Another token is in force on a connection that was [`Output::Connected`], only if the application wants to know.
    Refreshed {
        /// The connection.
        conn: ConnId,
        /// What the token says.
        claims: Box<Claims>,
    },
    /// A connection that was [`Output::Connected`] ended.
    Disconnected {
        /// The connection.
        conn: ConnId,
        /// Why.
        reason: Reason,
    },
    /// A connection has become a subscriber of a channel, in whatever way. Only if
    /// [`Hooks::subscriptions`](crate::config::Hooks::subscriptions) says so, like the next.
    Subscribed {
        /// The connection.
        conn: ConnId,
        /// The channel.
        channel: Arc<str>,
    },
    /// It is none any more. Of each connection and channel these two come in turns, the last one before
    /// [`Output::Disconnected`].
    Unsubscribed {
        /// The connection.
        conn: ConnId,
        /// The channel.
        channel: Arc<str>,
        /// Why.
        leave: Leave,
    },
    /// Someone asks for the metrics; [`Command::Exposition`] answers.
    Metrics {
        /// The connection to answer.
        conn: ConnId,
    },
    /// Somebody wants to see how the server does; [`Command::Statistics`] answers. Asked once a second at most, by the home of
    /// [`STATISTICS`](crate::config::STATISTICS), and not again before it is answered.
    Statistics,
    /// A [`Command::Sessions`] is answered.
    Sessions {
        /// The command.
        id: CommandId,
        /// The sessions.
        page: SessionPage,
    },
    /// A [`Command::Send`], [`Command::Subscribe`], [`Command::Unsubscribe`] or [`Command::List`] is answered.
    Handled {
        /// The command.
        id: CommandId,
        /// What became of it.
        result: Result<Handled, Reason>,
    },
    /// A [`Command::Publish`], [`Command::Revoke`], [`Command::EndSessions`] [`Command::SendEverywhere`] or
    /// [`Command::Dismiss`] with an id is done.
    Done {
        /// The command.
        id: CommandId,
        /// What became of it.
        result: Result<Published, Reason>,
    },
    /// A [`Command::Look`] is answered.
    Looked {
        /// The command.
        id: CommandId,
        /// A JSON object, as text.
        result: Result<Bytes, Reason>,
    },
    /// The wall clock was set, has drifted by more than a second, or the machine has slept. What tokens say about time was
    /// judged anew; no revocation was forgotten. The first hub of a server tells.
    ClockSet {
        /// How far it is from where it was expected.
        by: Duration,
        /// Whether it is ahead.
        forward: bool,
    },
    /// Something to be written down for whoever asks later who did what.
    Audit {
        /// Who wanted what.
        audit: Box<Audit>,
        /// What became of it; [`Published::subscribers`] are the connections that ended.
        result: Result<Published, Reason>,
    },
    /// A user, or an address, was refused a channel for having many: for the operator, at most once a minute.
    ManyChannels {
        /// Whose token it was; `None`: nobody's, the address counts.
        user: Option<Arc<str>>,
        /// Where the connection comes from.
        address: IpAddr,
        /// Channels of this hub that they were the first to subscribe to.
        channels: u32,
    },
    /// Messages for another hub of this process, in order.
    Shard {
        /// Which hub.
        to: ShardId,
        /// The messages.
        batch: Vec<ShardMessage>,
    },
    /// Something to be kept over restarts, only if [`Config::store`](crate::config::Config::store) says that there is a
    /// store.
    Store(StoreCommand),
    /// Something for the bus, only if [`Config::bus`](crate::config::Config::bus) says that there is one.
    Bus(BusCommand),
    /// A drain is complete: no connection is left.
    Drained,
}
