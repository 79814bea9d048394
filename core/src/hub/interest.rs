//! Who is interested in a channel on a bus: as long as anybody is, it is followed, and who comes waits until it is known here.

use std::sync::Arc;

use super::{
    Hub,
    bus::BusCommand,
    follow::{Parked, Phase, Place},
    homes::{Anchor, Known, Wish},
};

impl Hub {
    /// Somebody subscribes to a channel that is at home here, or asks about it.
    #[cold]
    pub(super) fn on_interest(&mut self, parked: Parked) {
        let Some(place) = self.follow(&Arc::from(parked.channel())) else {
            return self.answer_parked(parked, Known::Nothing);
        };
        self.following.set_idle(&self.env, place, false);
        self.prepare_presence(&parked);
        let known = self.known(place);
        if parked.is_about_members_only() {
            // Of the channel's messages nothing need be known.
            return self.answer_parked(parked, known);
        }
        let parked = match known {
            Known::All => match self.reach_back(place, parked) {
                Some(parked) => parked,
                None => return self.read_ready(),
            },
            Known::SoFar | Known::Nothing => parked,
        };
        if known == Known::All || (known == Known::SoFar && self.is_enough(place, &parked)) {
            return self.answer_parked(parked, known);
        }
        if let Err(parked) = self.following.park(&self.env, place, parked) {
            self.answer_parked(parked, known);
        }
        self.read_ready();
    }

    /// Follows a channel from now on, if it does not yet.
    pub(super) fn follow(&mut self, channel: &Arc<str>) -> Option<Place> {
        if let Some(place) = self.following.find(channel) {
            return Some(place);
        }
        let home = self.homes.attach(&mut self.env, channel)?;
        let place = self.following.add(&mut self.env, channel.clone(), home)?;
        let anchor = self.homes.anchor(home)?;
        let retention = self.retention(channel, (0, 0));
        let (channel, epoch) = (channel.clone(), anchor.position.epoch);
        self.calls.send(BusCommand::Follow { channel, epoch, retention });
        if self.following.is_up() {
            self.following.wish_to_read(place, None);
        }
        Some(place)
    }

    /// How much is known here of a channel.
    pub(super) fn known_of(&self, channel: &str) -> Known {
        self.following.find(channel).map_or(Known::Nothing, |place| self.known(place))
    }

    /// How much is known here of a followed channel.
    fn known(&self, place: Place) -> Known {
        let Some(followed) = self.following.get(place) else { return Known::Nothing };
        let agreed = self.homes.anchor(followed.home).is_some_and(|anchor| anchor.agreed);
        match (followed.phase == Phase::Live, agreed) {
            (true, _) => Known::All,
            (false, true) => Known::SoFar,
            (false, false) => Known::Nothing,
        }
    }

    /// Whether a channel of which not all is known while the bus is away is known well enough: what is published meanwhile
    /// comes, or is told of.
    fn is_enough(&self, place: Place, parked: &Parked) -> bool {
        let Parked::Join { wish, .. } = parked else { return false };
        if self.following.is_up() {
            return false;
        }
        let anchor = self.following.get(place).and_then(|one| self.homes.anchor(one.home));
        let since = wish.as_deref().and_then(|wish: &Wish| wish.since.as_ref());
        anchor.is_some_and(|Anchor { position, .. }| {
            since.is_none_or(|since| {
                since.epoch == Some(position.epoch) && since.offset <= position.offset
            })
        })
    }

    /// Answers somebody who has waited for a channel's messages, or need not. Its members may have to be waited for, too.
    pub(super) fn answer_parked(&mut self, parked: Parked, known: Known) {
        if let Some(parked) = self.wait_for_members(parked) {
            self.answer_now(parked, known);
        }
    }

    /// Answers somebody who has waited long enough.
    pub(super) fn answer_now(&mut self, parked: Parked, known: Known) {
        let channel: Arc<str> = parked.channel().into();
        self.seal_channel(&channel);
        match parked {
            Parked::Join { from, channel, member, wish, presence } => {
                self.on_join(from, channel, member, (wish.as_deref(), known), presence);
            }
            Parked::Look { from, look } => self.answer_look(from, *look, known),
        }
        self.review_interest(&channel);
    }

    /// Somebody has left a channel, or was answered.
    pub(super) fn review_interest(&mut self, channel: &str) {
        if let Some(place) = self.following.find(channel) {
            let idle = self.homes.subscribers(channel) == 0 && !self.following.is_awaited(place);
            self.following.set_idle(&self.env, place, idle);
        }
    }

    /// Nobody has been interested in a channel for long.
    fn unfollow(&mut self, place: Place) {
        if let Some(followed) = self.following.remove(&mut self.env, place) {
            let channel = followed.name;
            self.homes.detach(&self.env, followed.home);
            self.appending.wake(&channel);
            self.presence.unfollow(&mut self.env, &channel);
            self.calls.send(BusCommand::Unfollow { channel });
        }
    }

    /// What is due about the bus, of a hub that has one.
    #[cold]
    pub(super) fn on_bus_time(&mut self) {
        let now = self.env.now.mono;
        self.keep_lease();
        self.visits.renew(now);
        while let Some((place, parked)) = self.following.next_overdue(now) {
            let known = self.known(place);
            self.answer_parked(parked, known);
        }
        self.presence.on_bus_time(now);
        self.answer_ready();
        self.following.wake(now);
        while let Some(place) = self.following.next_idle(&self.env) {
            self.unfollow(place);
        }
        self.appending.wake_rested(now);
        for (waiting, reason) in self.appending.overdue(&self.env) {
            self.answer_stored(waiting, Err(reason));
        }
        self.ingest();
        self.read_ready();
    }
}
