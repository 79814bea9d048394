//! What a home does not keep any more and its bus does: read for those who ask for it, once for all of them.

use std::time::Duration;

use super::{
    Hub,
    bus::Page,
    follow::{Parked, Part, Place, Round},
    homes::{Anchor, Known},
    looks::{Query, Range, Side},
};

impl Hub {
    /// Reads further back for somebody, who waits for it. Given back if that is not needed, or of no use.
    pub(super) fn reach_back(&mut self, place: Place, parked: Parked) -> Option<Parked> {
        self.seal_channel(parked.channel());
        let Some((from, until)) = self.reaches(place, &parked) else { return Some(parked) };
        self.following.park(&self.env, place, parked).err().or_else(|| {
            self.following.reach(place, from, until);
            self.following.wish_to_read(place, None);
            None
        })
    }

    /// From which number on somebody wants what the home of a channel has dropped for lack of room, and up to which.
    pub(super) fn reaches(&self, place: Place, parked: &Parked) -> Option<(u64, u64)> {
        let followed = self.following.get(place)?;
        let until = self.homes.dropped_below(followed.home)?;
        let Anchor { position, .. } = self.homes.anchor(followed.home)?;
        let (next, floor) = (position.offset + 1, followed.floor.max(1));
        let most = u64::from(self.env.config.limits.history.recover_messages_max);
        let newest = |count: u64, end: u64| end.saturating_sub(count).max(floor);
        let wanted = match parked {
            Parked::Join { wish, .. } => {
                let wish = wish.as_deref()?;
                match (&wish.since, wish.rewind) {
                    (Some(since), _) => {
                        (since.epoch == Some(position.epoch)).then_some(since.offset + 1)?
                    }
                    (None, Some(count)) => newest(most.min(count.into()), next),
                    (None, None) => return None,
                }
            }
            Parked::Look { look, .. } => match look.query {
                Query::History(Range { side, limit, .. }) => match side {
                    Side::After(after) if after.epoch != position.epoch => return None,
                    Side::After(after) => (after.offset + 1).max(floor),
                    // With one more it is known whether there are more.
                    Side::Before(before) => newest(u64::from(limit) + 1, before.min(next)),
                    Side::Last => newest(u64::from(limit) + 1, next),
                },
                Query::State | Query::Document | Query::Presence(_) => return None,
            },
        };
        let within = wanted >= floor && wanted < until && next - wanted <= most + 1;
        within.then_some((wanted, until))
    }

    /// A page has come that may hold some of it.
    pub(super) fn collect_reach(
        &mut self,
        place: Place,
        (page, rounds): (&Page, &[Round<'_>]),
        goes_on: Option<u64>,
    ) {
        let Some(followed) = self.following.get_mut(place) else { return };
        let Some(reach) = &followed.reach else { return };
        let (until, name) = (reach.until, followed.name.clone());
        if goes_on.is_none() {
            // Pages are read from `from` on, so that nothing is kept of what is not on the first one.
            let standing = page.standing.map_or(0, |standing| standing.position.offset);
            let oldest = rounds.first().map_or(standing + 1, |round| round.first);
            if oldest > reach.from {
                followed.floor = followed.floor.max(oldest);
            }
        }
        let (keep, now) = (self.env.config.history.of(&name), self.env.now.unix);
        let mut parts = Vec::new();
        for round in rounds.iter().filter(|round| round.first < until) {
            let messages = round.messages.as_deref().unwrap_or_default();
            let count = usize::try_from(until - round.first).unwrap_or(usize::MAX);
            let messages = messages.get(..count.min(messages.len())).unwrap_or_default();
            let unix = messages.last().map(|message| Duration::from_micros(message.unix_micros));
            match unix.filter(|unix| *unix + keep.time > now) {
                Some(unix) => {
                    let encoded = self.homes.encoded(&self.env, &name, messages, round.first);
                    let part = |(segment, first)| Part { segment, first, unix };
                    parts.extend(encoded.into_iter().map(part));
                }
                // Nobody can read over what is too old, or is none.
                None => {
                    parts.clear();
                    if let Some(followed) = self.following.get_mut(place) {
                        followed.floor = followed.floor.max(round.last + 1);
                    }
                }
            }
        }
        self.following.collect(&self.env, place, parts);
    }

    /// Everything was read: those who wait are answered out of it, and then it is dropped again. Who wants still more has to
    /// wait on.
    pub(super) fn answer_waiting(&mut self, place: Place) {
        let Some(followed) = self.following.get(place) else { return };
        let (name, home) = (followed.name.clone(), followed.home);
        self.seal_channel(&name);
        let reach = self.following.take_reach(place);
        let done = reach.as_ref().map(|reach| reach.from);
        if let Some(reach) = reach {
            self.homes.extend(&self.env, home, reach.parts);
        }
        let mut further = Vec::new();
        while let Some(parked) = self.following.next_parked(place) {
            let wanted = self.reaches(place, &parked).map(|(from, _)| from);
            if wanted.is_some_and(|from| done.is_none_or(|done| from < done)) {
                further.push(parked);
            } else {
                self.answer_parked(parked, Known::All);
            }
        }
        if done.is_some() {
            self.homes.drop_extension(&mut self.env, home);
        }
        for parked in further {
            self.on_interest(parked);
        }
    }
}
