//! What a connection has only at times, or only with a token: an idle one without does without its memory.

use std::sync::Arc;

use super::{conn::Gap, intake::Taking, room::Standing, token::Token, types::RequestId};
use crate::{auth::Access, time::Instant, tls::Identity};

/// A box that is there while anything is in it.
#[derive(Debug, Default)]
pub(crate) struct Aside(Option<Box<Things>>);

/// What may be in it.
#[derive(Debug)]
pub(crate) struct Things {
    /// Questions of this connection that wait for the application.
    pub(crate) asked: Vec<RequestId>,
    /// Losses to be announced. Empty unless a channel's policy is [`Gap`](crate::config::SlowPolicy::Gap).
    pub(crate) gaps: Vec<Gap>,
    /// Who it is, once a token was accepted.
    pub(crate) token: Option<Arc<Token>>,
    /// Who it is by its certificate, if that was asked for.
    pub(crate) identity: Option<Arc<Identity>>,
    /// What the policy lets it do; meaningful only with a token.
    pub(crate) access: Option<Box<Access>>,
    /// The session's own deadline: authentication, what is due about its token, or its turn in a drain.
    pub(crate) deadline: Option<Instant>,
    /// Whether its socket may be given up for another, and when.
    pub(crate) standing: Standing,
    /// What has come only in part.
    pub(crate) taking: Taking,
    /// Where the hub lists it while its socket takes no more; [`NOT_BEHIND`](Self::NOT_BEHIND) otherwise.
    pub(crate) behind: u32,
    /// Subscriptions that their channels' homes have not confirmed, those taken back again included.
    pub(crate) joining: u16,
    /// It was told that its token is about to expire.
    pub(crate) warned: bool,
    /// The token is what the certificate says: another may replace it.
    pub(crate) certified: bool,
}

impl Things {
    /// Not listed.
    pub(crate) const NOT_BEHIND: u32 = u32::MAX;

    const NOTHING: Self = Self {
        asked: Vec::new(),
        gaps: Vec::new(),
        token: None,
        identity: None,
        access: None,
        deadline: None,
        standing: Standing::NONE,
        taking: Taking::NOTHING,
        behind: Self::NOT_BEHIND,
        joining: 0,
        warned: false,
        certified: false,
    };

    /// Whether all of it may be forgotten. `access`, `warned` and `certified` say something about a token only.
    fn is_nothing(&self) -> bool {
        self.token.is_none()
            && self.identity.is_none()
            && self.deadline.is_none()
            && self.behind == Self::NOT_BEHIND
            && self.standing.is_none()
            && self.taking.is_nothing()
            && self.joining == 0
            && self.asked.is_empty()
            && self.gaps.is_empty()
    }
}

impl Aside {
    pub(crate) fn get(&self) -> &Things {
        static NOTHING: Things = Things::NOTHING;
        self.0.as_deref().unwrap_or(&NOTHING)
    }

    /// To put something in.
    pub(crate) fn put(&mut self) -> &mut Things {
        self.0.get_or_insert_with(|| Box::new(Things::NOTHING))
    }

    /// To change or take out what is in, if anything is.
    pub(crate) fn get_mut(&mut self) -> Option<&mut Things> {
        self.0.as_deref_mut()
    }

    #[cfg(test)]
    pub(crate) fn takes_memory(&self) -> bool {
        self.0.is_some()
    }

    /// Gives the memory back if it holds nothing. To be called when something was taken out.
    pub(crate) fn tidy(&mut self) {
        if self.0.as_ref().is_some_and(|things| things.is_nothing()) {
            self.0 = None;
        }
    }
}
