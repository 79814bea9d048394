//! What lies in Redis, and what goes through it.
//!
//! # Keys
//!
//! `P` is the prefix, `t` the [tag](names::TAGS) of the channel.
//!
//! | Key | Type | Holds |
//! |---|---|---|
//! | `P:{t}:m:<channel>` | hash | meta: `e` the epoch, `s` the number of the last message, `h` the highest number that was put back, `g` the number of that healing; for each writer, `<node>.<shard>`, `<number of its last append>:<first message>` |
//! | `P:{t}:l:<channel>` | stream | log: an entry a round, its id the number of its last message, its one field the number of its messages, the value their records |
//! | `P:{t}:d:<channel>` | hash | document: `o` the number of the message that it came with, `v` the JSON |
//! | `P:{t}:i:<key>` | string | an idempotency key: `<digest>:<epoch>:<first>` |
//! | `P:{t}:u:<user>` | hash | a user's connections: `<node>.<connection>`, `<since when, in milliseconds of Redis' clock>;<JSON>` |
//! | `P:{t}:s:<key>` | hash | a session, by what is derived from its name: `f` the number of the last claim, `h` by which hub `<node>.<shard>` ('': it has ended), `a` whether a connection has it, `u` its user, `w` how long it waits and `b` when it began, in milliseconds, `r` its subscriptions |
//! | `P:{t}:p:<channel>` | hash | who is in a channel: `<connection>`, `<node>;<when it was put, in milliseconds of Redis' clock, and so much later if it is held>;<JSON>`; beside them `e` and `s`, the epoch and the number of the last change, which is its moment, and `x` while members are refused |
//! | `P:{n}:leases` | sorted set | nodes, by when their leases are over, in milliseconds of Redis' clock |
//! | `P:{n}:nodes` | hash | what each node says of itself |
//! | `P:{n}:control` | stream | what all nodes were told: a field, until when it is kept in milliseconds of Redis' clock; its value, the command |
//! | `P:{n}:owner:<queue>` | string | who takes entries out of a queue: `<node>.<term>`, for as long as its lease is |
//! | `P:{n}:probe:<node>.<shard>` | string | the last probe of a link |
//! | `P:layout` | hash | `version` of all this, `by` whom and `at` which second it was begun |
//!
//! Numbers are below 10¹⁴: Lua prints larger ones otherwise. A writer that has not appended to a channel since 256 others
//! did is forgotten: should it repeat its last append, that is made again. A step that breaks off within, which scripts may,
//! leaves at most an entry of the log beyond the number that counts; nobody is told of it, readers pass it over, and the
//! next append takes its place.
//!
//! Queues, into which others write what is to be published, have the names that the configuration gives them. A stream
//! `Q` holds its entries until they are published; `Q:dead`, a stream too, the last 1,000 that could not be, with the fields
//! `reason` and `entry` before their own. Elements of a list `Q` are moved into the stream `Q:taken`, in the field `v`, as long
//! as that has fewer than 256.
//!
//! # Live messages
//!
//! Sharded pub/sub, on `P:<db>:{t}:c:<channel>`:
//!
//! | Message | Means |
//! |---|---|
//! | `A<epoch>:<first>:<count>:<records>` | a round |
//! | `D<epoch>:<first>:<count>:<bytes>:<document><records>` | a round with the document of so many bytes that came with it |
//! | `N<epoch>:<first>:<count>:` | a round with more than 256 KiB of records and document: it is to be read |
//! | `X<count>:<records>` | a round of which nothing is kept |
//! | `E<epoch>:<offset>` | a new epoch, whose next number is the one behind `offset` |
//! | `M<epoch>:<number of the change before>:<number>:<1 while members are refused, else 0>:<moves>` | the channel's members have changed: `+<connection><node><bytes>:<JSON>`, or `-<connection>` and `l` (left), `o` (lost) or `n` (node) for each; `!` for more than 256 KiB of that: they are to be read |
//!
//! On `P:<db>:{n}:control`, `C<id before>:<id>:<command>` and `T<message>`; on `P:<db>:{n}:link:<node>.<shard>`, a probe's `P<token>`.
//!
//! # Scripts
//!
//! Every change is one [script](scripts): compare, write, tell, in this order. Scripts write first what can be refused.
//!
//! # Rights
//!
//! What a user of Redis needs (ACL), with the prefix `mahavishnu`. Without those to name, kill or describe a client, and to
//! read the configuration, a link does too.
//!
//! ```text
//! ~mahavishnu:* &mahavishnu:* -@all
//! +hello +auth +ping +select +role +evalsha +script|load +time +spublish +ssubscribe +sunsubscribe
//! +client|setname +client|info +client|kill +client|no-evict +config|get
//! +hmget +hget +hset +hsetnx +hdel +hgetall +hlen +hexists +get +set +del +pexpire +pttl
//! +llen +lrange +ltrim +xadd +xdel +xlen +xrange +xrevrange +zadd +zscore +zrem +zrangebyscore
//! ```

use std::time::Duration;

pub mod names;
pub mod scripts;

pub(crate) mod live;
pub(crate) mod replies;
pub(crate) mod request;

/// The version of what lies in Redis.
pub const LAYOUT: &str = "1";

/// The first version of Redis with sharded pub/sub and with flags of scripts: 7.
pub const VERSION_MIN: u32 = 7;

/// Fields of the hash `P:layout` that begin it, at this time since the Unix epoch. They are written where there are none.
#[must_use]
pub fn founding(unix: Duration) -> [(&'static str, String); 3] {
    let by = concat!("mahavishnu ", env!("CARGO_PKG_VERSION"));
    [("version", LAYOUT.into()), ("by", by.into()), ("at", unix.as_secs().to_string())]
}

/// Numbers of messages are not higher.
pub(crate) const NUMBER_MAX: u64 = 99_999_999_999_999;
