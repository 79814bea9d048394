//! Folding: an event changes the document of its channel, by the rules of the service's profile, and some events go to channels
//! of the server's own besides. Where the channel is at home it is done in the step that publishes the message: alone, together
//! with what the store keeps, or by an append to the bus that holds only if the document is still the one that it was folded
//! from. What a publisher says of a document itself counts more.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use mahavishnu_profiles::Happened;
use uuid::Uuid;

use super::{
    Hub,
    append::{Kind, Known, Pending},
    bus::Basis,
    homes::Broadcast,
    storing::Waiting,
    types::{Publication, Published},
};
use crate::{
    config::Config,
    protocol::{Position, Stamp, session_buddy::Skills},
    reason::Reason,
};

/// What it takes to fold.
struct Folding<'a> {
    config: &'a Config,
    state_bytes_max: usize,
}

impl Folding<'_> {
    fn fold(
        &self,
        before: Option<&str>,
        broadcast: Broadcast<'_>,
        (id, unix_ms): (Uuid, u64),
    ) -> Option<Bytes> {
        let id = id.to_string();
        let Broadcast { channel, event, data } = broadcast;
        if self.config.folds_skills(channel) {
            return self.fold_skills(before, broadcast, unix_ms);
        }
        let happened = Happened { channel, event, data, id: &id, unix_ms };
        let profile = self.config.profile.as_deref()?;
        profile.fold(before, &happened, self.state_bytes_max).map(Bytes::from)
    }

    /// The figures of skills, whatever the service is: they are for those who speak Session-Buddy's protocol.
    fn fold_skills(
        &self,
        before: Option<&str>,
        broadcast: Broadcast<'_>,
        unix_ms: u64,
    ) -> Option<Bytes> {
        let mut skills = before.and_then(Skills::read).unwrap_or_default();
        let published = Duration::from_millis(unix_ms);
        let changed = skills.fold(broadcast.event, broadcast.data, published);
        let document = changed.then(|| skills.to_json_within(self.state_bytes_max))?;
        (document.len() <= self.state_bytes_max).then(|| document.into())
    }

    fn fold_waiting(&self, before: Option<&str>, waiting: &Waiting) -> Option<Bytes> {
        let told = (waiting.id, waiting.unix_micros / 1000);
        self.fold(before, Broadcast::of(&waiting.publication), told)
    }
}

impl Hub {
    /// Whether a message of a channel that is at home here, with nothing besides, is published as it is: it is not kept first,
    /// and nothing follows from it.
    #[inline]
    pub(super) fn is_plain(&self, channel: &str) -> bool {
        !self.env.minds || self.is_let_be(channel)
    }

    #[cold]
    fn is_let_be(&self, channel: &str) -> bool {
        !self.is_stored(channel, false) && !self.folds(channel)
    }

    /// Whether the document of this channel, or another one, may follow from its messages.
    #[cold]
    pub(super) fn folds(&self, channel: &str) -> bool {
        let config = &self.env.config;
        let profile = config.profile.as_ref();
        profile.is_some_and(|profile| profile.folds(channel)) || config.folds_skills(channel)
    }

    /// The same for a message that may carry a document.
    #[cold]
    pub(super) fn is_folded(&self, publication: &Publication) -> bool {
        let options = publication.options.as_ref();
        options.is_none_or(|options| options.state.is_none()) && self.folds(&publication.channel)
    }

    fn folding(&self) -> Option<Folding<'_>> {
        let config = &*self.env.config;
        Some(Folding { config, state_bytes_max: config.limits.history.state_bytes_max })
    }

    /// Adds what goes to channels of the server's own besides. How many.
    #[cold]
    pub(super) fn add_copies(&self, publications: &mut Vec<Publication>) -> usize {
        let Some(profile) = self.env.config.profile.as_deref() else { return 0 };
        let own = publications.len();
        let mut copies = Vec::new();
        for Publication { channel, event, data, .. } in publications.iter() {
            let to = profile.copies(channel, event);
            copies.extend(to.map(|to| Publication::new(to, event.clone(), data.clone())));
        }
        publications.append(&mut copies);
        publications.len() - own
    }
}

/// Alone.
impl Hub {
    /// Broadcasts a message and changes the document of its channel, which is at home here and kept nowhere else.
    #[cold]
    pub(super) fn broadcast_folded(&mut self, publication: &Publication) -> Published {
        let broadcast = Broadcast::of(publication);
        let timestamp = self.env.timestamp();
        let Stamp { id, timestamp } = self.env.stamp(&timestamp);
        let before = self.homes.document_of(&publication.channel);
        let before = before.as_deref().and_then(|before| std::str::from_utf8(before).ok());
        let unix_ms = u64::try_from(self.env.now.unix.as_millis()).unwrap_or(u64::MAX);
        let state = self.folding().and_then(|it| it.fold(before, broadcast, (id, unix_ms)));
        let mut options = publication.options.as_deref().cloned().unwrap_or_default();
        options.state = state;
        let stamp = Some(Stamp { id, timestamp });
        let done = self.homes.broadcast_with(&mut self.env, broadcast, &options, stamp);
        self.on_broadcast(done)
    }
}

/// With a store.
impl Hub {
    /// The document that a message carries from now on, if any follows from it: it is about to be stored, and `before` is what
    /// the message before it leaves.
    #[cold]
    pub(super) fn fold_waiting(&mut self, waiting: &mut Waiting, before: Option<&[u8]>) {
        if !self.is_folded(&waiting.publication) {
            return;
        }
        let before = before.and_then(|before| std::str::from_utf8(before).ok());
        let state = self.folding().and_then(|it| it.fold_waiting(before, waiting));
        if let Some(state) = state {
            let weight = waiting.weight();
            waiting.publication.options.get_or_insert_default().state = Some(state);
            self.storing.grow(waiting.weight() - weight);
        }
    }
}

/// With a bus.
impl Hub {
    /// The document that follows from the next messages of a channel, and from which one.
    #[cold]
    pub(super) fn fold_next(
        &self,
        channel: &str,
        round: &[Pending],
    ) -> (Option<Bytes>, Option<Basis>) {
        let known = self.known_document(channel);
        let (state, basis) = self.fold_from(&known, round);
        (state, Some(basis))
    }

    fn fold_from(&self, known: &Known, round: &[Pending]) -> (Option<Bytes>, Basis) {
        let mut state: Option<Bytes> = None;
        for pending in round {
            let made = state.as_deref().and_then(|made| std::str::from_utf8(made).ok());
            let before = made.or_else(|| known.json());
            let folding = self.folding();
            if let Some(after) = folding.and_then(|it| it.fold_waiting(before, &pending.waiting)) {
                state = Some(after);
            }
        }
        (state, known.basis())
    }

    /// The document of a channel, as it was last heard here. Where nothing was heard, the bus tells what there is.
    fn known_document(&self, channel: &str) -> Known {
        let told = self.appending.known(channel);
        let place = self.following.find(channel).filter(|place| self.following.is_live(*place));
        let followed = place.and_then(|place| self.following.get(place));
        let heard = followed.filter(|followed| !followed.doubted).map(|followed| followed.home);
        let heard = heard.and_then(|home| {
            let epoch = self.homes.anchor(home)?.position.epoch;
            let document = self.homes.document(home);
            Some(Known(document.map(|(offset, json)| (Position { epoch, offset }, json))))
        });
        match (told, heard) {
            (Some(told), Some(heard)) if is_later(told, &heard) => told.clone(),
            (_, Some(heard)) => heard,
            (Some(told), None) => told.clone(),
            (None, None) => Known(None),
        }
    }

    /// What was sent was folded from another document than the one that there is.
    #[cold]
    pub(super) fn on_other_basis(
        &mut self,
        channel: &Arc<str>,
        document: Option<(Position, Bytes)>,
    ) {
        let known = Known(document);
        self.appending.learn(channel, known.clone());
        let Some(under_way) = self.appending.under_way(channel) else { return };
        let Kind::Append(round) = &under_way.kind else { return };
        if under_way.round.is_empty() {
            // It was given up meanwhile.
            return self.appending.retry(&self.env, channel, false);
        }
        if round.refolds >= REFOLDS_MAX {
            return self.fail_append(channel, Reason::Busy);
        }
        let (state, basis) = self.fold_from(&known, &under_way.round);
        self.appending.refold(channel, state, basis);
    }
}

/// Whether what the bus has told of a document is later than what was heard.
fn is_later(told: &Known, heard: &Known) -> bool {
    match (&told.0, &heard.0) {
        (Some((told, _)), Some((heard, _))) => {
            told.epoch == heard.epoch && told.offset > heard.offset
        }
        (Some(_), None) => true,
        (None, _) => false,
    }
}

/// So often a message is folded anew because others were faster; then its publisher is told to try again. Each time some other
/// node's has succeeded.
const REFOLDS_MAX: u32 = 64;
