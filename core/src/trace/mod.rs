//! Record and replay: everything that went into a hub, so that the same comes out again elsewhere.
//!
//! A hub's behaviour is a function of its inputs, so a record of the inputs is a record of everything. A [`Recorded`] hub
//! notes each call with its time and, of what came out, a digest: [`replay()`] makes the same calls on a new hub and
//! demands the same digests. A production incident can so be run again on a laptop, under a debugger, against a newer
//! version of the core.
//!
//! Each hub of a process records for itself; a [`Writer`] puts their records into one file. What hubs tell each other is
//! not written down: replaying runs all of them, and a batch that one received is the one that the other has just sent.
//!
//! A trace holds what clients sent, tokens and payloads included: treat it like the traffic itself. It does not hold the
//! configuration, whose keys are secrets: replaying needs the same configuration, which a digest checks.

mod application;
mod file;
mod lane;
mod record;
mod recorded;
mod replay;
mod stored;

pub use file::{Input, Kind, Trace, Writer};
pub use recorded::Recorded;
pub use replay::{Mismatch, Report, replay};

use std::{borrow::Cow, fmt, hash::Hasher, io, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::HeaderName;
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;
use uuid::Uuid;

use self::{
    application::{Listed, To, Words},
    stored::Stored,
};
use crate::{
    auth::{Claims, Grants, Pattern},
    config::{Config, Hooks},
    hub::{
        Authentication, Denial, Listener, Look, Output, PublicationOptions, Refusal, RefusedBy,
        Whose,
    },
    protocol::{Condition, Epoch, Position},
    time::{Instant, Now},
    ws::Flush,
};

/// One call on a hub and what it came to.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record<'a> {
    /// Nanoseconds since the hub was made.
    mono: u64,
    /// Nanoseconds since the Unix epoch.
    unix: u128,
    #[serde(borrow)]
    call: Call<'a>,
}

/// A connection, as its two numbers.
type Conn = (u32, u32);

/// A connection, perhaps of another hub: its two numbers and its hub's.
type Placed = (u32, u32, u16);

/// A [`Listener`]. The first two are as the `false` and the `true` that earlier versions have written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Port {
    Main,
    Metrics,
    Adopted,
}

impl From<Listener> for Port {
    fn from(listener: Listener) -> Self {
        match listener {
            Listener::Main => Self::Main,
            Listener::Metrics => Self::Metrics,
            Listener::Adopted => Self::Adopted,
        }
    }
}

impl From<Port> for Listener {
    fn from(port: Port) -> Self {
        match port {
            Port::Main => Self::Main,
            Port::Metrics => Self::Metrics,
            Port::Adopted => Self::Adopted,
        }
    }
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Call<'a> {
    New {
        seed: [u8; 32],
        shard: u16,
        shards: u16,
        config: u64,
        #[serde(borrow)]
        hooks: Wanted<'a>,
    },
    Accept {
        address: SocketAddr,
        port: Port,
        conn: Option<Conn>,
    },
    Bytes {
        conn: Conn,
        #[serde(borrow)]
        bytes: &'a [u8],
    },
    Eof {
        conn: Conn,
    },
    IoError {
        conn: Conn,
    },
    /// The next batch that this hub sent.
    Shard {
        from: u16,
    },
    Publish {
        id: Option<u64>,
        #[serde(borrow)]
        channel: &'a str,
        event: &'a str,
        data: &'a [u8],
    },
    Reply {
        question: Conn,
        #[serde(borrow)]
        result: Result<&'a [u8], (&'a str, &'a str)>,
    },
    Decide {
        question: Conn,
        allow: bool,
    },
    Exposition {
        conn: Conn,
        #[serde(borrow)]
        text: &'a [u8],
    },
    Disconnect {
        conn: Conn,
    },
    /// The revocation as its JSON, its times in whole seconds as everywhere.
    Revoke {
        id: Option<u64>,
        #[serde(borrow)]
        json: Cow<'a, str>,
    },
    Reload {
        config: u64,
        #[serde(borrow)]
        hooks: Wanted<'a>,
    },
    Drain {
        notice: Duration,
        window: Duration,
        deadline: Duration,
    },
    Timeout,
    /// With the digest of what was polled.
    Output(Option<u64>),
    Dirty(Option<Conn>),
    Flush {
        conn: Conn,
        writes: Vec<Taken>,
        digest: u64,
        result: u8,
    },
    EndTurn {
        next: Option<u64>,
    },
    /// By the handler's number, and the question or connection that waits for it.
    Failed {
        handler: u8,
        of: Conn,
    },
    Backlog(u8),
    Look {
        id: u64,
        #[serde(borrow)]
        channel: &'a str,
        asked: Asked<'a>,
    },
    /// What the store has told.
    Stored(#[serde(borrow)] Stored<'a>),
    PublishWith {
        id: Option<u64>,
        #[serde(borrow)]
        channel: &'a str,
        event: &'a str,
        data: &'a [u8],
        options: Carried<'a>,
    },
    Sessions {
        id: u64,
        #[serde(borrow)]
        of: Named<'a>,
        limit: u32,
        after: Option<[u8; 16]>,
    },
    EndSessions {
        id: Option<u64>,
        #[serde(borrow)]
        of: Named<'a>,
    },
    Statistics(#[serde(borrow)] &'a [u8]),
    Authenticated {
        question: Conn,
        #[serde(borrow)]
        outcome: Judged<'a>,
    },
    Send {
        id: Option<u64>,
        #[serde(borrow)]
        to: To<'a>,
        event: &'a str,
        data: &'a str,
    },
    SendEverywhere {
        id: Option<u64>,
        #[serde(borrow)]
        user: &'a str,
        event: &'a str,
        data: &'a str,
    },
    Subscribe {
        id: Option<u64>,
        conn: Placed,
        #[serde(borrow)]
        channel: &'a str,
        granted: bool,
    },
    Unsubscribe {
        id: Option<u64>,
        conn: Placed,
        #[serde(borrow)]
        channel: &'a str,
    },
    Dismiss {
        id: Option<u64>,
        #[serde(borrow)]
        whom: To<'a>,
        how: Words<'a>,
    },
    List {
        id: u64,
        #[serde(borrow)]
        of: Listed<'a>,
        limit: u32,
        after: Option<u32>,
    },
}

/// What the application says of somebody.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Judged<'a> {
    Pass,
    Access {
        #[serde(borrow)]
        user: Option<Cow<'a, str>>,
        permissions: Vec<Cow<'a, str>>,
        expires: Option<Duration>,
        issued_at: Option<Duration>,
        id: Option<Cow<'a, str>>,
        /// Patterns, for subscribing and publishing.
        subscribe: Vec<String>,
        publish: Vec<String>,
    },
    /// By the numbers of its variants.
    Refuse {
        denial: u8,
        by: u8,
    },
}

impl<'a> Judged<'a> {
    fn of(outcome: &'a Authentication) -> Self {
        match outcome {
            Authentication::Pass => Self::Pass,
            Authentication::Access { claims, data: _ } => {
                let Claims { user, permissions, expires, issued_at, id, grants } = &**claims;
                let written =
                    |patterns: &[Pattern]| patterns.iter().map(Pattern::to_string).collect();
                Self::Access {
                    user: user.as_deref().map(Cow::Borrowed),
                    permissions: permissions.iter().map(|name| Cow::Borrowed(&**name)).collect(),
                    expires: *expires,
                    issued_at: *issued_at,
                    id: id.as_deref().map(Cow::Borrowed),
                    subscribe: written(&grants.subscribe),
                    publish: written(&grants.publish),
                }
            }
            Authentication::Refuse(Refusal { denial, by }) => {
                let denial = match denial {
                    Denial::Unauthorized => 0,
                    Denial::Forbidden => 1,
                    Denial::Later => 2,
                };
                Self::Refuse { denial, by: u8::from(*by == RefusedBy::Close) }
            }
        }
    }

    fn to_authentication(&self) -> Option<Authentication> {
        Some(match self {
            Self::Pass => Authentication::Pass,
            Self::Access { user, permissions, expires, issued_at, id, subscribe, publish } => {
                let read = |patterns: &[String]| {
                    patterns.iter().map(|text| Pattern::parse(text).ok()).collect::<Option<_>>()
                };
                let grants = Grants { subscribe: read(subscribe)?, publish: read(publish)? };
                let claims = Claims {
                    user: user.as_deref().map(Into::into),
                    permissions: permissions.iter().map(|name| (&**name).into()).collect(),
                    expires: *expires,
                    issued_at: *issued_at,
                    id: id.as_deref().map(Into::into),
                    grants,
                };
                Authentication::Access { claims: Box::new(claims), data: None }
            }
            Self::Refuse { denial, by } => {
                let denial = match denial {
                    0 => Denial::Unauthorized,
                    1 => Denial::Forbidden,
                    2 => Denial::Later,
                    _ => return None,
                };
                let by = if *by == 0 { RefusedBy::Status } else { RefusedBy::Close };
                Authentication::Refuse(Refusal { denial, by })
            }
        })
    }
}

/// Which sessions the application means.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Named<'a> {
    Everybody,
    User(#[serde(borrow)] &'a str),
    Client([u8; 16]),
}

impl<'a> Named<'a> {
    fn of(whose: &'a Whose) -> Self {
        match whose {
            Whose::Everybody => Self::Everybody,
            Whose::User(user) => Self::User(user),
            Whose::Client(id) => Self::Client(id.into_bytes()),
        }
    }

    fn to_whose(&self) -> Whose {
        match self {
            Self::Everybody => Whose::Everybody,
            Self::User(user) => Whose::User((*user).into()),
            Self::Client(id) => Whose::Client(Uuid::from_bytes(*id)),
        }
    }
}

/// What the application wants to know of a channel.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Asked<'a> {
    History {
        limit: u32,
        /// Epoch and offset.
        #[serde(borrow)]
        after: Option<(Cow<'a, str>, u64)>,
        before: Option<u64>,
    },
    State,
    Presence {
        members: bool,
        after: Option<[u8; 16]>,
    },
}

impl Asked<'_> {
    fn of(look: &Look) -> Asked<'static> {
        match *look {
            Look::History { limit, after, before } => {
                let after = after.map(|at| (at.epoch.to_string().into(), at.offset));
                Asked::History { limit, after, before }
            }
            Look::State => Asked::State,
            Look::Presence { members, after } => {
                Asked::Presence { members, after: after.map(Uuid::into_bytes) }
            }
        }
    }

    fn to_look(&self) -> Option<Look> {
        Some(match self {
            Self::History { limit, after, before } => {
                let after = match after {
                    Some((epoch, offset)) => {
                        Some(Position { epoch: Epoch::parse(epoch)?, offset: *offset })
                    }
                    None => None,
                };
                Look::History { limit: *limit, after, before: *before }
            }
            Self::State => Look::State,
            Self::Presence { members, after } => {
                Look::Presence { members: *members, after: after.map(Uuid::from_bytes) }
            }
        })
    }
}

/// What a command's message carries besides.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Carried<'a> {
    #[serde(borrow)]
    key: Option<&'a str>,
    positions: bool,
    state: Option<&'a [u8]>,
    condition: Option<(u64, Option<&'a str>)>,
}

impl<'a> Carried<'a> {
    fn of(options: &'a PublicationOptions) -> Self {
        let condition = |condition: &'a Condition| {
            (condition.offset, condition.epoch.as_ref().map(Epoch::as_str))
        };
        Self {
            key: options.idempotency_key.as_deref(),
            positions: options.positions,
            state: options.state.as_deref(),
            condition: options.condition.as_ref().map(condition),
        }
    }

    fn to_options(&self) -> PublicationOptions {
        let condition = |(offset, epoch): (u64, Option<&str>)| Condition {
            offset,
            epoch: epoch.and_then(Epoch::parse),
        };
        PublicationOptions {
            idempotency_key: self.key.map(Into::into),
            positions: self.positions,
            state: self.state.map(Bytes::copy_from_slice),
            condition: self.condition.map(condition),
            ..PublicationOptions::default()
        }
    }
}

/// What the application is asked and told. An adapter works it out from its handlers, which a replay has not.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Wanted<'a> {
    #[serde(borrow)]
    requests: Vec<&'a str>,
    authorize_subscribe: bool,
    authorize_publish: bool,
    /// Of what it is told: a bit for each kind. Earlier versions wrote the first one only, as a boolean.
    told: u8,
    /// Header fields that are told.
    #[serde(borrow)]
    headers: Vec<&'a str>,
}

/// In [`Wanted::told`].
const LIFECYCLE: u8 = 1;

/// In [`Wanted::told`].
const SUBSCRIPTIONS: u8 = 2;

/// Whether it says whose something is.
const AUTHENTICATE: u8 = 4;

/// Whether connections are introduced to it.
const INTRODUCE: u8 = 8;

impl<'a> Wanted<'a> {
    fn of(hooks: &'a Hooks) -> Self {
        Self {
            requests: hooks.requests.iter().map(AsRef::as_ref).collect(),
            authorize_subscribe: hooks.authorize_subscribe,
            authorize_publish: hooks.authorize_publish,
            told: (u8::from(hooks.lifecycle) * LIFECYCLE)
                | (u8::from(hooks.subscriptions) * SUBSCRIPTIONS)
                | (u8::from(hooks.authenticate) * AUTHENTICATE)
                | (u8::from(hooks.introduce) * INTRODUCE),
            headers: hooks.keep_headers.iter().map(HeaderName::as_str).collect(),
        }
    }

    fn to_hooks(&self) -> Hooks {
        Hooks {
            requests: self.requests.iter().copied().map(Into::into).collect(),
            authorize_subscribe: self.authorize_subscribe,
            authorize_publish: self.authorize_publish,
            lifecycle: self.told & LIFECYCLE != 0,
            subscriptions: self.told & SUBSCRIPTIONS != 0,
            authenticate: self.told & AUTHENTICATE != 0,
            introduce: self.told & INTRODUCE != 0,
            keep_headers: self.headers.iter().filter_map(|name| name.parse().ok()).collect(),
        }
    }
}

/// What a sink said to one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Taken {
    Bytes(u32),
    WouldBlock,
    Interrupted,
    Failed,
}

impl Taken {
    fn of(result: &io::Result<usize>) -> Self {
        match result {
            Ok(count) => Self::Bytes(u32::try_from(*count).unwrap_or(u32::MAX)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Self::WouldBlock,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Self::Interrupted,
            Err(_) => Self::Failed,
        }
    }

    fn to_result(self) -> io::Result<usize> {
        match self {
            Self::Bytes(count) => Ok(count as usize),
            Self::WouldBlock => Err(io::ErrorKind::WouldBlock.into()),
            Self::Interrupted => Err(io::ErrorKind::Interrupted.into()),
            Self::Failed => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

/// A running number over bytes. Not against forgery: it tells two runs apart.
#[derive(Clone)]
struct Digest(SipHasher13);

impl Default for Digest {
    fn default() -> Self {
        Self(SipHasher13::new())
    }
}

impl Digest {
    fn add(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    fn finish(&self) -> u64 {
        self.0.finish()
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.finish())
    }
}

impl fmt::Write for Digest {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.add(text.as_bytes());
        Ok(())
    }
}

fn digest_of(value: &dyn fmt::Debug) -> u64 {
    let mut digest = Digest::default();
    // Writing into a digest cannot fail.
    let _ = fmt::write(&mut digest, format_args!("{value:?}"));
    digest.finish()
}

/// A number for a configuration, without its secrets, as their debug output hides them, and without its hooks, which a
/// trace holds itself.
fn config_digest(config: &Config) -> u64 {
    digest_of(&Config { hooks: Hooks::default(), ..config.clone() })
}

fn output_digest(output: &Output) -> u64 {
    digest_of(output)
}

fn flush_number(flush: Flush) -> u8 {
    match flush {
        Flush::Drained => 0,
        Flush::Blocked => 1,
        Flush::Fin => 2,
        Flush::Closed => 3,
    }
}

fn nanos(now: Now, start: Instant) -> (u64, u128) {
    let mono = now.mono.saturating_duration_since(start).as_nanos();
    (u64::try_from(mono).unwrap_or(u64::MAX), now.unix.as_nanos())
}
