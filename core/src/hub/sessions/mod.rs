//! Sessions that outlive their connection.
//!
//! A session is at home at one hub, by its name: `home` has all that are. Who holds it is a connection of any hub, which
//! tells the home of each subscription as it comes and goes (`attached`), and at its end that it is gone. From then on the
//! session waits for its client, so long as its time lasts. Whoever resumes it asks the home, which first has the connection
//! that still holds it closed: so there is never more than one, and what the home then hands out is complete.

mod attached;
mod home;
mod message;
mod record;
mod resumption;
mod session;
mod shared;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use uuid::Uuid;

pub(super) use self::{
    attached::{Attached, End},
    home::{Ended, Resume, Sessions},
    message::{About, Grant, SessionMessage},
    resumption::{Next, Rejoined, Resumption, Verdict},
    shared::{Outcome, Taken},
};
use super::{types::ConnId, visitors::Who};

/// What a client asked for when it subscribed, besides the channel: it gets the same when its session is resumed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Terms {
    /// To be told positions.
    pub(super) positions: bool,
    /// `presence`, as it came.
    pub(super) presence: Option<Arc<str>>,
}

/// A channel that was subscribed to, or is no longer.
pub(super) type Change = (Arc<str>, Option<Terms>);

/// Whose a session is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) conn: ConnId,
    /// Whom it counts for. If that is a user, it is theirs alone.
    pub(super) who: Who,
    /// The name by which others know the connection, and from then on whoever has the session.
    pub(super) public: Uuid,
}

/// How long a session waits that asks for so much, if it may wait for `window`.
fn granted(window: Duration, ttl: Option<Duration>) -> Duration {
    ttl.unwrap_or(window).min(window).min(WINDOW_MAX)
}

/// No session waits longer than ten years: moments beyond the end of the clock cannot be said.
const WINDOW_MAX: Duration = Duration::from_secs(10 * 365 * 86_400);
