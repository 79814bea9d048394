//! What a connection has only at times, or only with a token: an idle one without does without its memory.

use std::sync::Arc;

use super::{eviction::Links, partial::Partial};
use crate::{
    auth::Access,
    hub::{sessions::Attached, tokens::Token, types::RequestId},
    time::Instant,
    tls::Identity,
};

/// A box that is there while anything is in it.
#[derive(Debug, Default)]
pub(super) struct Extras(Option<Box<Rare>>);

/// What may be in it.
#[derive(Debug)]
pub(in crate::hub) struct Rare {
    /// Questions of this connection that wait for the application.
    pub(in crate::hub) asked: Vec<RequestId>,
    /// Losses to be announced. Empty unless a channel's policy is [`Gap`](crate::config::SlowPolicy::Gap).
    gaps: Vec<Gap>,
    /// Who it is, once a token was accepted.
    pub(in crate::hub) token: Option<Arc<Token>>,
    /// Who it is by its certificate, if that was asked for.
    pub(in crate::hub) identity: Option<Arc<Identity>>,
    /// What the policy lets it do; meaningful only with a token.
    pub(in crate::hub) access: Option<Box<Access>>,
    /// The hub's own deadline for it: authentication, what is due about its token, or its turn in a drain.
    pub(in crate::hub) deadline: Option<Instant>,
    /// Its place among those whose socket may be given up for another.
    pub(super) links: Links,
    /// What has come only in part.
    pub(super) partial: Partial,
    /// Where the backlog lists it; [`UNLISTED`](Self::UNLISTED) otherwise.
    pub(super) backlog: u32,
    /// Subscriptions that their channels' homes have not confirmed, those taken back again included.
    pub(in crate::hub) joining: u16,
    /// Channels in which it is still being sent what it missed.
    pub(in crate::hub) catching: u16,
    /// The session that it keeps, or is about to resume.
    pub(in crate::hub) session: Option<Box<Attached>>,
    /// It was told that its token is about to expire.
    pub(in crate::hub) warned: bool,
    /// The token is what the certificate says: another may replace it.
    pub(in crate::hub) certified: bool,
}

/// Messages of one channel that one subscriber does not get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) struct Gap {
    pub(in crate::hub) channel: u32,
    /// How many; `None`: nobody knows.
    pub(in crate::hub) lost: Option<u64>,
    /// The numbers of the first and the last, if they have any.
    pub(in crate::hub) offsets: Option<(u64, u64)>,
    pub(in crate::hub) cause: Cause,
}

/// Why messages did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) enum Cause {
    /// The subscriber did not take them.
    Slow,
    /// They were no longer kept when they were asked for.
    Trimmed,
    /// The bus has lost them, or two of it have gone on apart.
    Failover,
    /// The channel's numbers have begun anew.
    Epoch,
    /// They are nothing that a subscriber could be sent.
    Poison,
}

impl Cause {
    /// The word that clients are told.
    pub(in crate::hub) fn as_str(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::Trimmed => "trimmed",
            Self::Failover => "failover",
            Self::Epoch => "epoch",
            Self::Poison => "poison",
        }
    }
}

impl Gap {
    /// So many more are lost behind it, with these numbers.
    pub(in crate::hub) fn extend(&mut self, lost: Option<u64>, offsets: Option<(u64, u64)>) {
        self.lost = self.lost.zip(lost).map(|(before, more)| before + more);
        let ends = self.offsets.zip(offsets);
        self.offsets = ends.map(|((first, _), (_, last))| (first, last));
    }
}

impl Rare {
    /// Not on the backlog's list.
    pub(super) const UNLISTED: u32 = u32::MAX;

    const NOTHING: Self = Self {
        asked: Vec::new(),
        gaps: Vec::new(),
        token: None,
        identity: None,
        access: None,
        deadline: None,
        links: Links::NONE,
        partial: Partial::NOTHING,
        backlog: Self::UNLISTED,
        joining: 0,
        catching: 0,
        session: None,
        warned: false,
        certified: false,
    };

    pub(in crate::hub) fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// For [`Conn`](super::Conn), which keeps whether there are any.
    pub(super) fn gaps_mut(&mut self) -> &mut Vec<Gap> {
        &mut self.gaps
    }

    /// Whether all of it may be forgotten. `access`, `warned` and `certified` say something about a token only.
    fn is_nothing(&self) -> bool {
        self.token.is_none()
            && self.identity.is_none()
            && self.deadline.is_none()
            && self.backlog == Self::UNLISTED
            && self.links.is_none()
            && self.partial.is_nothing()
            && self.joining == 0
            && self.catching == 0
            && self.session.is_none()
            && self.asked.is_empty()
            && self.gaps.is_empty()
    }
}

impl Extras {
    pub(super) fn get(&self) -> &Rare {
        static NOTHING: Rare = Rare::NOTHING;
        self.0.as_deref().unwrap_or(&NOTHING)
    }

    /// To put something in.
    pub(super) fn put(&mut self) -> &mut Rare {
        self.0.get_or_insert_with(|| Box::new(Rare::NOTHING))
    }

    /// To change or take out what is in, if anything is.
    pub(super) fn get_mut(&mut self) -> Option<&mut Rare> {
        self.0.as_deref_mut()
    }

    #[cfg(test)]
    pub(super) fn takes_memory(&self) -> bool {
        self.0.is_some()
    }

    /// Gives the memory back if it holds nothing. Called whenever a connection is settled.
    pub(super) fn tidy(&mut self) {
        if self.0.as_ref().is_some_and(|rare| rare.is_nothing()) {
            self.0 = None;
        }
    }
}
