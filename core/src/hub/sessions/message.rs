//! What the hub of a connection and the home of its session tell each other.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use uuid::Uuid;

use super::{Change, End, Terms};
use crate::{
    hub::{store::SessionId, types::ConnId, visitors::Who},
    reason::Reason,
};

/// One message about a session.
#[derive(Debug)]
pub(in crate::hub) struct SessionMessage {
    pub(in crate::hub) session: SessionId,
    /// The connection that it is about: one that holds the session, or wants to.
    pub(in crate::hub) conn: ConnId,
    pub(in crate::hub) what: About,
}

/// What it says.
#[derive(Debug)]
pub(in crate::hub) enum About {
    /// To the home: a new session, to wait for so long if the client says how long.
    Keep { who: Who, public: Uuid, ttl: Option<Duration> },
    /// To the home: the session is to wait for another time.
    KeepOn { ttl: Option<Duration> },
    /// From the home: so long the session waits, or why it is not kept.
    Kept(Result<Duration, Reason>),
    /// To the home: what the connection has subscribed to, and what no longer.
    Changed(Vec<Change>),
    /// To the home: the connection is somebody else's from now on.
    Renamed(Who),
    /// To the home: the connection is gone, or has the session no more.
    Ended {
        end: End,
        /// It did not want the session, or has taken up all of it.
        took_up: bool,
    },
    /// To the home: the connection wants the session.
    Resume(Who),
    /// From the home: the connection has the session, or why not.
    Resumed(Result<Box<Grant>, Reason>),
    /// From the home: another connection has the session; this one is to be closed.
    LetGo,
    /// From the home: somebody has ended the session, and with it this connection.
    Over,
}

/// What a connection gets that resumes a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::hub) struct Grant {
    /// The name by which others know it.
    pub(in crate::hub) public: Uuid,
    /// For how long it waits after the end of a connection.
    pub(in crate::hub) ttl: Duration,
    pub(in crate::hub) channels: BTreeMap<Arc<str>, Terms>,
}

impl SessionMessage {
    /// Bytes that it takes besides the message between hubs that it comes in.
    pub(in crate::hub) fn weight(&self) -> usize {
        let channel = |name: &Arc<str>, terms: Option<&Terms>| {
            let presence = terms.and_then(|terms| terms.presence.as_ref());
            size_of::<Change>() + name.len() + presence.map_or(0, |presence| presence.len())
        };
        let own = match &self.what {
            About::Keep { who, .. } | About::Renamed(who) | About::Resume(who) => match who {
                Who::User(user) => user.len(),
                Who::Address(_) | Who::Everyone => 0,
            },
            About::Changed(changes) => {
                changes.iter().map(|(name, terms)| channel(name, terms.as_ref())).sum()
            }
            About::Resumed(Ok(grant)) => {
                grant.channels.iter().map(|(name, terms)| channel(name, Some(terms))).sum()
            }
            About::KeepOn { .. }
            | About::Kept(_)
            | About::Ended { .. }
            | About::Resumed(Err(_))
            | About::LetGo
            | About::Over => 0,
        };
        size_of::<Self>() + own
    }
}
