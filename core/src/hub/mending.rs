//! Putting a bus right: what it has lost and is still here is put back, and where two histories have come apart a new epoch
//! begins.

use std::time::Duration;

use super::{
    Hub,
    bus::{BusCommand, BusError, CallId, Heal, Moved, Page, Retention, Standing},
    follow::{Mend, Place, Round, has_begun_anew},
    following::next,
};
use crate::{
    metrics::{Epochs, Heals},
    protocol::{Epoch, Position},
};

impl Hub {
    /// The bus has less than is here, or is back in an epoch that was over.
    pub(super) fn on_lost(&mut self, place: Place, page: &Page, rounds: &[Round<'_>]) {
        let Some(followed) = self.following.get_mut(place) else { return };
        let Some(anchor) = self.homes.anchor(followed.home) else { return };
        if let Some(after) = next(page, rounds, followed.goes_on) {
            return self.following.wish_to_read(place, Some(after));
        }
        let found = page.standing.map(|standing| standing.position);
        let same = found.filter(|found| found.epoch == anchor.position.epoch);
        let offset = same.map_or(0, |found| found.offset);
        // Its last message is to be compared with the one of that number here.
        let asked = followed.lowest.is_some_and(|lowest| lowest <= offset);
        let there = rounds.iter().any(|round| (round.first..=round.last).contains(&offset));
        if offset > 0 && !asked && !there {
            followed.lowest = Some(offset);
            return self.following.wish_to_read(place, None);
        }
        let Some(followed) = self.following.get(place) else { return };
        let here = self.id_here(followed, offset);
        if offset > 0 && (!there || here.is_none()) {
            // Somebody else may have put back less than is here and gone on: nobody can tell.
            return self.fork(place, found);
        }
        self.put_right(place, page.standing);
    }

    /// The bus has begun anew with nothing, and may have stood so since: there is nothing to be read. Whether that was all.
    pub(super) fn on_emptied(&mut self, place: Place, standing: Standing) -> bool {
        let Some(followed) = self.following.get(place) else { return false };
        let (name, home) = (followed.name.clone(), followed.home);
        self.seal_channel(&name);
        let anchor = self.homes.anchor(home);
        let holds = anchor.is_some_and(|anchor| {
            anchor.agreed && has_begun_anew(standing.position, anchor.position)
        });
        if holds {
            self.put_right(place, Some(standing));
        }
        holds
    }

    fn put_right(&mut self, place: Place, found: Option<Standing>) {
        match self.env.config.bus.as_ref().is_some_and(|bus| bus.heal) {
            true => self.restore(place, found),
            false => self.fork(place, found.map(|found| found.position)),
        }
    }

    /// Puts back what is here and not there.
    pub(super) fn restore(&mut self, place: Place, found: Option<Standing>) {
        let Some(followed) = self.following.get(place) else { return };
        let (channel, home) = (followed.name.clone(), followed.home);
        let Some(anchor) = self.homes.anchor(home) else { return };
        let id = self.calls.name();
        let same = found.filter(|found| found.position.epoch == anchor.position.epoch);
        let document = self.homes.document(home);
        // One that came with a message which the bus has is the bus's own; a later one was lost with its message.
        let lost = |(at, _): &(u64, _)| same.is_none_or(|found| found.document < *at);
        let document = document.filter(lost);
        let newest = self.id_here(followed, anchor.position.offset);
        let mark = (self.env.entropy.next_u64() % MARK_MAX).max(1);
        let heal = Heal {
            id,
            found: found.map(|found| found.position),
            to: anchor.position,
            newest,
            mark,
            entries: self.homes.records(home, same.map_or(0, |found| found.position.offset)),
            document,
            retention: self.retention(&channel, self.homes.kept_of(&channel)),
            channel,
        };
        self.following.mending(place, id, Mend::Heal { all: same.is_none(), mark });
        self.calls.send(BusCommand::Heal(Box::new(heal)));
    }

    /// The bus has something else than is here: neither can be taken back.
    pub(super) fn fork(&mut self, place: Place, found: Option<Position>) {
        let Some(followed) = self.following.get(place) else { return };
        let channel = followed.name.clone();
        let epoch = Epoch::from_random(self.env.entropy.next_u64());
        let id = self.calls.name();
        let position = Position { epoch, offset: found.map_or(0, |found| found.offset) };
        self.following.mending(place, id, Mend::Fork { position });
        self.calls.send(BusCommand::Fork { id, channel, found, epoch });
    }

    pub(super) fn on_healed(&mut self, id: CallId, result: Result<Moved, BusError>) {
        let Some((place, mend)) = self.following.mended(id) else { return };
        match (result, mend) {
            (Ok(Moved::Done), Mend::Heal { all, mark }) => {
                let Some(home) = self.following.get(place).map(|followed| followed.home) else {
                    return;
                };
                self.env.tally.bus_healed(if all { Heals::All } else { Heals::Tail });
                self.homes.agree(home, true);
                self.homes.mark(home, mark);
                self.become_live(place);
            }
            (Ok(Moved::Done), Mend::Fork { position }) => {
                self.env.tally.bus_forks += 1;
                self.adopt(place, position, Epochs::Forked);
                self.become_live(place);
            }
            (Ok(Moved::Elsewhere(_)), _) => {
                if let Some(followed) = self.following.get_mut(place) {
                    followed.lowest = None;
                }
                self.following.wish_to_read(place, None);
            }
            (Err(error), _) => self.put_off(place, error),
        }
    }

    /// How long the bus is to keep what is published to a channel, of which so many messages take so many bytes.
    pub(super) fn retention(&self, channel: &str, (count, bytes): (u64, usize)) -> Retention {
        let (keep, limits) = (self.env.config.history.of(channel), &self.env.config.limits.history);
        let time = if keep.is_off() { Duration::ZERO } else { keep.time };
        // A bus counts messages: of large ones it is to keep fewer.
        let mean = (bytes as u64).checked_div(count).unwrap_or_default().max(1);
        let fit = (limits.history_channel_bytes_max as u64 / mean).max(1);
        let messages = if keep.is_off() { 0 } else { u64::from(keep.messages).min(fit) };
        Retention { messages, time, position: limits.position_keep.max(time) }
    }
}

/// A bus need not compute with 64 bits.
const MARK_MAX: u64 = 100_000_000_000_000;
