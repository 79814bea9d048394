//! What a connection knows of its session.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use uuid::Uuid;

use super::{Change, Grant, Resumption, Terms};
use crate::{
    hub::{connections::AnswerTo, store::SessionId},
    reason::Reason,
    ws::PeerClose,
};

/// The session of a connection.
#[derive(Debug)]
pub(in crate::hub) struct Attached {
    pub(in crate::hub) session: SessionId,
    /// Its home has confirmed it: the client knows its name, or will.
    pub(in crate::hub) kept: bool,
    /// For how long it waits after the end of the connection.
    pub(in crate::hub) ttl: Duration,
    /// The name by which others know the connection, if that is another one's.
    pub(in crate::hub) public: Option<Uuid>,
    /// What is under way to resume it.
    pub(in crate::hub) resumption: Option<Box<Resumption>>,
    /// Requests to keep it that the home has not answered, in order.
    pub(in crate::hub) asked: VecDeque<AnswerTo>,
    /// Subscriptions that its home does not know of as they are. At most as many as there are, and as many again as the
    /// home still believes in.
    untold: BTreeMap<Arc<str>, Untold>,
    /// On the list of connections whose sessions' homes are to be told something.
    pub(in crate::hub) listed: bool,
}

/// What a home is to be told of a channel.
#[derive(Debug, PartialEq, Eq)]
enum Untold {
    /// It has never heard of it: if nothing comes of it, nothing need be told.
    New(Terms),
    /// It believes something else.
    Other(Option<Terms>),
}

/// What the end of a connection means for its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) enum End {
    /// It waits for its client.
    Waits,
    /// It is over too.
    Over,
}

impl Attached {
    pub(in crate::hub) fn new(session: SessionId) -> Self {
        Self {
            session,
            kept: false,
            ttl: Duration::ZERO,
            public: None,
            resumption: None,
            asked: VecDeque::new(),
            untold: BTreeMap::new(),
            listed: false,
        }
    }

    /// One that is asked for.
    pub(in crate::hub) fn resuming(session: SessionId, resumption: Resumption) -> Self {
        Self { resumption: Some(Box::new(resumption)), ..Self::new(session) }
    }

    /// It is granted. The connection has subscribed to channels of its `own` before.
    pub(in crate::hub) fn begin(&mut self, grant: Grant, own: Vec<(Arc<str>, Terms)>) {
        self.kept = true;
        self.ttl = grant.ttl;
        self.public = Some(grant.public);
        for (channel, terms) in own {
            let known = grant.channels.contains_key(&channel);
            let untold = if known { Untold::Other(Some(terms)) } else { Untold::New(terms) };
            self.untold.insert(channel, untold);
        }
        if let Some(resumption) = &mut self.resumption {
            resumption.begin(grant);
        }
    }

    /// One of its channels is subscribed to again: its home need not be told, unless the terms are others, or it was told
    /// something else meanwhile.
    pub(in crate::hub) fn rejoined(&mut self, channel: &Arc<str>, terms: &Terms, changed: bool) {
        if changed || self.untold.contains_key(channel) {
            self.untold.insert(channel.clone(), Untold::Other(Some(terms.clone())));
        }
    }

    pub(in crate::hub) fn has_changes(&self) -> bool {
        !self.untold.is_empty()
    }

    pub(in crate::hub) fn subscribed(&mut self, channel: Arc<str>, terms: Terms) {
        let untold = match self.untold.get(&channel) {
            Some(Untold::Other(_)) => Untold::Other(Some(terms)),
            Some(Untold::New(_)) | None => Untold::New(terms),
        };
        self.untold.insert(channel, untold);
    }

    pub(in crate::hub) fn unsubscribed(&mut self, channel: Arc<str>) {
        if let Some(resumption) = &mut self.resumption {
            resumption.mark_changed(&channel);
        }
        match self.untold.get(&channel) {
            Some(Untold::New(_)) => drop(self.untold.remove(&channel)),
            Some(Untold::Other(_)) | None => {
                self.untold.insert(channel, Untold::Other(None));
            }
        }
    }

    /// What its home is to be told, if anything.
    pub(in crate::hub) fn take_changes(&mut self) -> Option<Vec<Change>> {
        let untold = std::mem::take(&mut self.untold);
        let changes = untold.into_iter().map(|(channel, untold)| match untold {
            Untold::New(terms) => (channel, Some(terms)),
            Untold::Other(terms) => (channel, terms),
        });
        let changes: Vec<_> = changes.collect();
        (!changes.is_empty()).then_some(changes)
    }

    /// What becomes of it when its connection ends for `reason`.
    pub(in crate::hub) fn end(&self, reason: Reason, close: Option<&PeerClose>) -> End {
        // Somebody has decided that this client is not to go on.
        let unwanted = matches!(
            reason,
            Reason::Disconnected
                | Reason::TokenRevoked
                | Reason::KeyRemoved
                | Reason::CertificateRevoked
        );
        // What clients send that have done what they wanted; a page that is left, or loaded again, sends 1001.
        let done = matches!(close.and_then(|close| close.code), None | Some(1000));
        let over = unwanted || (reason == Reason::PeerClosed && done);
        // Of a new one that was not confirmed, its client knows nothing.
        let known = self.kept || self.resumption.is_some();
        if over || !known { End::Over } else { End::Waits }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(positions: bool) -> Terms {
        Terms { positions, presence: None }
    }

    fn attached() -> Attached {
        Attached { kept: true, ..Attached::new(SessionId(7)) }
    }

    #[test]
    fn what_came_to_nothing_is_not_told() {
        let mut attached = attached();
        attached.subscribed("a".into(), terms(false));
        attached.unsubscribed("a".into());
        assert_eq!(attached.take_changes(), None);

        attached.subscribed("a".into(), terms(false));
        assert_eq!(attached.take_changes(), Some(vec![("a".into(), Some(terms(false)))]));
        attached.unsubscribed("a".into());
        attached.subscribed("a".into(), terms(true));
        attached.subscribed("b".into(), terms(false));
        attached.unsubscribed("b".into());
        assert_eq!(attached.take_changes(), Some(vec![("a".into(), Some(terms(true)))]));
    }

    #[test]
    fn what_its_home_knows_is_taken_back() {
        let mut attached = attached();
        attached.rejoined(&"a".into(), &terms(true), true);
        attached.rejoined(&"c".into(), &terms(false), false);
        attached.unsubscribed("a".into());
        attached.unsubscribed("b".into());
        assert_eq!(attached.take_changes(), Some(vec![("a".into(), None), ("b".into(), None)]));
    }

    #[test]
    fn what_a_connection_has_already_is_added_to_what_it_resumes() {
        let mut attached = attached();
        let channels = [("a".into(), terms(false))].into();
        let grant = Grant { public: Uuid::max(), ttl: Duration::ZERO, channels };
        attached.begin(grant, vec![("a".into(), terms(true)), ("b".into(), terms(true))]);
        attached.unsubscribed("b".into());
        attached.unsubscribed("a".into());
        assert_eq!(attached.take_changes(), Some(vec![("a".into(), None)]));
        assert_eq!(attached.public, Some(Uuid::max()));
    }

    #[test]
    fn an_end_that_somebody_wanted_is_the_sessions_too() {
        let end = |reason, code: Option<Option<u16>>| {
            let close = code.map(|code| PeerClose { code, ..PeerClose::default() });
            attached().end(reason, close.as_ref())
        };
        for reason in [
            Reason::Disconnected,
            Reason::TokenRevoked,
            Reason::KeyRemoved,
            Reason::CertificateRevoked,
        ] {
            assert_eq!(end(reason, None), End::Over, "{reason:?}");
        }
        for (code, expected) in [
            (None, End::Over),
            (Some(1000), End::Over),
            (Some(1001), End::Waits),
            (Some(3000), End::Waits),
            (Some(4000), End::Waits),
        ] {
            assert_eq!(end(Reason::PeerClosed, Some(code)), expected, "{code:?}");
        }
        for reason in [
            Reason::Eof,
            Reason::Io,
            Reason::Shutdown,
            Reason::SlowReader,
            Reason::PongTimeout,
            Reason::TokenExpired,
            Reason::ResumedElsewhere,
        ] {
            assert_eq!(end(reason, None), End::Waits, "{reason:?}");
            // Whatever the peer answers to our close frame.
            assert_eq!(end(reason, Some(Some(1000))), End::Waits, "{reason:?}");
        }
        let unknown = Attached::new(SessionId(7));
        assert_eq!(unknown.end(Reason::Eof, None), End::Over, "its client knows nothing of it");
    }
}
