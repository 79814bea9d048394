//! Channels on a bus: what it tells of them, and what becomes of that. Each method carries on between departments what one
//! of them has found out.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;

use super::{
    Hub,
    bus::{BusCommand, BusError, CallId, ChannelEvent, Live, Page, Standing},
    channels::Missing,
    connections::Cause,
    follow::{Followed, Phase, Place, Round, Verdict, has_begun_anew, judge, last, messages},
    homes::Anchor,
    peers::Inner,
    types::ShardId,
};
use crate::{
    metrics::{Epochs, Holes},
    protocol::Position,
    record,
};

/// Events.
impl Hub {
    /// What the bus tells of channels.
    pub(super) fn hear_of_channel(&mut self, event: ChannelEvent) {
        match event {
            ChannelEvent::Standing { channel, standing, newest } => {
                self.presence.on_standing(&channel);
                self.answer_ready();
                self.on_standing(&channel, &standing, newest);
            }
            ChannelEvent::Live { channel, live } => self.on_live(&channel, live),
            ChannelEvent::Page { id, result } => self.on_page(id, result),
            ChannelEvent::Healed { id, result } => self.on_healed(id, result),
            ChannelEvent::Appended { id, result } => self.on_bus_appended(id, result),
            ChannelEvent::Announced { id, result } => self.on_bus_announced(id, result),
        }
    }

    /// Where a channel stands: for the first time, after the bus was away, or from time to time.
    fn on_standing(&mut self, channel: &str, standing: &Standing, newest: Option<Uuid>) {
        let Some(place) = self.following.find(channel) else { return };
        let Some(followed) = self.following.get(place) else { return };
        let Some(anchor) = self.homes.anchor(followed.home) else { return };
        let id = newest.and_then(|_| self.id_here(followed, anchor.position.offset));
        let Some(followed) = self.following.get_mut(place) else { return };
        let compared = newest.is_some() && newest == id;
        let sure = compared || offset_is_sure(followed, &anchor);
        let same = anchor.agreed
            && anchor.position == standing.position
            && (compared || anchor.mark == standing.mark)
            && anchor.document == standing.document;
        if same && compared {
            self.homes.mark(followed.home, standing.mark);
        }
        match followed.phase {
            Phase::Adrift if same && sure => self.become_live(place),
            Phase::Live if same => {}
            Phase::Adrift | Phase::Live => {
                followed.holed |= followed.phase == Phase::Live;
                followed.lowest = Some(standing.position.offset);
                let emptied = anchor.agreed && has_begun_anew(standing.position, anchor.position);
                self.following.wish_to_read(place, None);
                if emptied {
                    self.following.note_emptied(place, *standing);
                }
            }
            // What is asked for already will tell more.
            Phase::Queued | Phase::Reading(_) | Phase::Mending(..) | Phase::Resting => {}
        }
    }

    /// A round as it comes.
    pub(super) fn on_live(&mut self, channel: &str, live: Live) {
        if let Live::Presence(news) = live {
            return self.presence.on_news(&mut self.env, channel, news);
        }
        let Some(place) = self.following.find(channel) else { return };
        match live {
            // Nothing of these is kept: they are for who is there now.
            Live::Announced { count, records } => {
                return self.deliver_announced(channel, &records, count);
            }
            Live::Poison => self.env.tally.bus_poison += 1,
            Live::Round { .. } | Live::Forked { .. } | Live::Healed { .. } => {}
            Live::Presence(_) => return,
        }
        match self.following.get(place).map(|followed| followed.phase) {
            Some(Phase::Live) => self.apply(place, live),
            Some(Phase::Reading(_) | Phase::Mending(..)) => {
                self.following.hold(&self.env, place, live);
            }
            // It is part of what will be read.
            Some(Phase::Adrift | Phase::Queued | Phase::Resting) | None => {}
        }
    }

    /// The same, of a channel of which everything from before is here.
    fn apply(&mut self, place: Place, live: Live) {
        let Some(followed) = self.following.get(place) else { return };
        let Some(anchor) = self.homes.anchor(followed.home) else { return };
        let Position { epoch, offset: top } = anchor.position;
        match live {
            Live::Round { epoch: of, first, count, records: Some(records), state }
                if of == epoch && first == top + 1 =>
            {
                match messages(&records, count).zip(last(first, count)) {
                    Some((messages, last)) => {
                        self.deliver_next(place, &messages);
                        if let Some(document) = state {
                            let of = (last, Some(&document));
                            self.put_document(place, of);
                        }
                    }
                    None => {
                        self.env.tally.bus_poison += 1;
                        self.find_hole(place);
                    }
                }
            }
            Live::Round { epoch: of, first, .. } if of == epoch && first == top + 1 => {
                // It is too large to come by itself.
                self.following.wish_to_read(place, None);
            }
            Live::Round { epoch: of, first, count, records, .. } if of == epoch => {
                let is_old = last(first, count).is_some_and(|last| last <= top);
                if !is_old || !self.is_known(place, (first, count), records.as_deref()) {
                    self.find_hole(place);
                }
            }
            Live::Forked { position } if position.epoch == epoch => {}
            Live::Forked { position } if position.offset == top => {
                self.adopt(place, position, Epochs::Forked);
            }
            Live::Healed { position, mark, newest }
                if position.epoch == epoch && position.offset <= top =>
            {
                self.compare_healed(place, position.offset, mark, newest);
            }
            Live::Round { .. } | Live::Forked { .. } | Live::Healed { .. } | Live::Poison => {
                self.find_hole(place);
            }
            Live::Announced { .. } | Live::Presence(_) => {}
        }
    }

    /// Whether a round of old numbers is the one that is here. If it is another one, the bus has lost something without
    /// anybody's having been away, and who had not heard of that has gone on.
    fn is_known(&self, place: Place, (first, count): (u64, u32), records: Option<&[u8]>) -> bool {
        let Some(followed) = self.following.get(place) else { return true };
        let Some(records) = records else { return followed.own == first };
        let Ok(mut messages) = record::decode(records) else { return false };
        let Some(Ok(message)) = messages.next() else { return false };
        if let Some(id) = self.homes.id_of(followed.home, first) {
            return id == message.id;
        }
        // What has come in this turn is not among what is kept yet.
        let newest = last(first, count).and_then(|last| followed.known_id(last));
        let of_last = messages.last().map_or(Some(message.id), |last| Some(last.ok()?.id));
        newest.is_none_or(|id| of_last == Some(id))
    }

    /// The id of a channel's message, as far as it is known here.
    pub(super) fn id_here(&self, followed: &Followed, number: u64) -> Option<Uuid> {
        followed.known_id(number).or_else(|| self.homes.id_of(followed.home, number))
    }

    /// A node has put back what the bus had lost, up to a number that is here, too.
    fn compare_healed(&mut self, place: Place, number: u64, mark: u64, newest: Option<Uuid>) {
        let Some(followed) = self.following.get(place) else { return };
        let home = followed.home;
        let Some(anchor) = self.homes.anchor(home) else { return };
        let here = self.id_here(followed, number);
        let same = newest.zip(here).map(|(newest, here)| newest == here);
        if same == Some(true) {
            self.homes.mark(home, mark);
            if number == anchor.position.offset {
                return;
            }
        } else if same.is_none() && mark == anchor.mark {
            return;
        }
        let Some(followed) = self.following.get_mut(place) else { return };
        followed.diverged |= same == Some(false);
        followed.holed |= same == Some(false);
        followed.lowest = Some(number);
        self.following.wish_to_read(place, None);
    }

    /// Something is missing.
    pub(super) fn find_hole(&mut self, place: Place) {
        if let Some(followed) = self.following.get_mut(place) {
            followed.holed = true;
        }
        self.following.wish_to_read(place, None);
    }

    /// Messages of which nothing is kept, for the subscribers of this node.
    pub(super) fn deliver_announced(&mut self, channel: &str, records: &[u8], count: u32) {
        match messages(records, count) {
            Some(messages) => self.deliver_unnumbered(channel, &messages),
            None => self.env.tally.bus_poison += 1,
        }
    }

    pub(super) fn deliver_unnumbered(&mut self, channel: &str, messages: &[record::Message<'_>]) {
        self.seal_channel(channel);
        if let Some(sealed) = self.homes.announce(&mut self.env, channel, messages) {
            self.note_heard(channel, messages.len());
            self.peers.charge_all(&self.env, sealed.remote, sealed.plain.segment.len());
            self.send_out(sealed);
        }
    }

    /// The next messages of a channel.
    fn deliver_next(&mut self, place: Place, messages: &[record::Message<'_>]) {
        let Some(followed) = self.following.get_mut(place) else { return };
        let (name, home) = (followed.name.clone(), followed.home);
        let Some(anchor) = self.homes.anchor(home) else { return };
        let Some(newest) = messages.last() else { return };
        let from = Position { offset: anchor.position.offset + 1, ..anchor.position };
        followed.newest = Some((anchor.position.offset + messages.len() as u64, newest.id));
        self.note_heard(&name, messages.len());
        for message in messages {
            let done = self.homes.take(&mut self.env, (home, &name), message);
            self.on_broadcast(done);
        }
        self.conclude_known(&name, from, messages);
    }

    /// These messages have numbers from `first` on. What of them was sent from here was appended, and that is an answer if
    /// nobody knew what became of it.
    fn conclude_known(
        &mut self,
        channel: &Arc<str>,
        first: Position,
        messages: &[record::Message<'_>],
    ) {
        let Some(id) = self.appending.first_id(channel) else { return };
        if let Some(index) = messages.iter().position(|message| message.id == id) {
            let first = Position { offset: first.offset + index as u64, ..first };
            match self.appending.is_unsure(channel) {
                true => self.conclude(channel, first),
                false => self.appending.hear(channel, first),
            }
        }
    }

    fn note_heard(&mut self, channel: &str, messages: usize) {
        let label = self.env.tally.label(&self.env.config, channel);
        self.env.tally.heard(self.env.now.mono, label, messages);
    }

    fn put_document(&mut self, place: Place, document: (u64, Option<&bytes::Bytes>)) {
        let Some(followed) = self.following.get_mut(place) else { return };
        followed.doubted = false;
        let (name, home) = (followed.name.clone(), followed.home);
        self.homes.put_document(&mut self.env, (home, &name), document);
    }
}

/// Reading what the bus keeps.
impl Hub {
    /// Asks for as many pages as may be asked for.
    pub(super) fn read_ready(&mut self) {
        while let Some(place) = self.following.next_to_read(&self.env) {
            let emptied = self.following.take_emptied(place);
            if emptied.is_some_and(|standing| self.on_emptied(place, standing)) {
                continue;
            }
            let Some(followed) = self.following.get(place) else { continue };
            let Some(anchor) = self.homes.anchor(followed.home) else { continue };
            let after = read_after(followed, &anchor);
            let id = self.calls.name();
            let channel = followed.name.clone();
            let bytes_max = self.env.config.limits.bus.bus_page_bytes_max;
            self.following.reading(place, id);
            self.calls.send(BusCommand::Read { id, channel, after, bytes_max });
        }
    }

    fn on_page(&mut self, id: CallId, result: Result<Page, BusError>) {
        let Some(place) = self.following.read(id) else { return };
        let page = match result {
            Ok(page) => page,
            Err(error) => return self.put_off(place, error),
        };
        let Some(followed) = self.following.get(place) else { return };
        let (name, home, goes_on) = (followed.name.clone(), followed.home, followed.goes_on);
        self.seal_channel(&name);
        let Some(anchor) = self.homes.anchor(home) else { return };
        let Some(followed) = self.following.get(place) else { return };
        let known = |number| self.id_here(followed, number);
        let judged = judge(&anchor, &page, known, |epoch| followed.past(epoch));
        let same = page.standing.filter(|at| at.position.epoch == anchor.position.epoch);
        let mut verdict = judged.verdict;
        if let Some(standing) = same.filter(|standing| standing.mark != anchor.mark) {
            match self.vouches(place, &anchor, standing, &judged.rounds) {
                Some(true) => self.homes.mark(home, standing.mark),
                Some(false) => verdict = Verdict::Diverged,
                None => return,
            }
        }
        let Some(followed) = self.following.get(place) else { return };
        if followed.diverged && same.is_some() && anchor.agreed {
            verdict = Verdict::Diverged;
        }
        match verdict {
            Verdict::Fresh if page.standing.is_none() => self.restore(place, None),
            Verdict::Fresh if anchor.is_told(page.standing) && goes_on.is_none() => {
                // Who subscribed meanwhile was told a position that holds.
                self.homes.agree(home, true);
                self.homes.mark(home, page.standing.map_or(0, |standing| standing.mark));
                self.catch_up(place, &page, &judged.rounds);
            }
            Verdict::Fresh => self.load(place, &page, &judged.rounds, goes_on),
            Verdict::Follows => self.catch_up(place, &page, &judged.rounds),
            // What its first messages are is told by another page.
            Verdict::Other if read_after(followed, &anchor) > 0 => self.read_anew(place),
            Verdict::Other => {
                let Some(standing) = page.standing else { return };
                let before = judged.rounds.first().map(|round| round.first - 1);
                let offset = before.unwrap_or(standing.position.offset);
                let position = Position { offset, ..standing.position };
                self.adopt(place, position, Epochs::Founded);
                self.homes.mark(home, standing.mark);
                self.catch_up(place, &page, &judged.rounds);
            }
            Verdict::Lost => self.on_lost(place, &page, &judged.rounds),
            Verdict::Diverged => {
                if let Some(followed) = self.following.get_mut(place) {
                    followed.diverged = same.is_some();
                }
                self.fork(place, page.standing.map(|standing| standing.position));
            }
        }
    }

    /// Whether what is here and what the bus has are one history, although the bus was put back since that was last known:
    /// a message that both have says so. If they have none in common, they may be two. `None`: that takes another page.
    fn vouches(
        &mut self,
        place: Place,
        anchor: &Anchor,
        standing: Standing,
        rounds: &[Round<'_>],
    ) -> Option<bool> {
        let followed = self.following.get(place)?;
        if !anchor.agreed {
            // What was read before that may be of the other one.
            if followed.goes_on.is_some() {
                self.following.wish_to_read(place, None);
                return None;
            }
            return Some(true);
        }
        let number = anchor.position.offset.min(standing.position.offset);
        let here = self.id_here(followed, number);
        let there = rounds.iter().find(|round| (round.first..=round.last).contains(&number));
        let is_asked = followed.goes_on.is_none() && read_after(followed, anchor) < number;
        match there {
            _ if number == 0 => Some(true),
            Some(round) => Some(here.is_some() && round.id_of(number) == here),
            None if is_asked => Some(false),
            None => {
                let followed = self.following.get_mut(place)?;
                followed.lowest = Some(number);
                self.following.wish_to_read(place, None);
                None
            }
        }
    }

    /// The channel is to be read from its beginning.
    fn read_anew(&mut self, place: Place) {
        if let Some(followed) = self.following.get_mut(place) {
            followed.lowest = Some(0);
        }
        self.following.wish_to_read(place, None);
    }

    /// The bus did not do it.
    pub(super) fn put_off(&mut self, place: Place, error: BusError) {
        match error {
            // Where the channel stands is told when it is there again.
            BusError::Away | BusError::Unknown => self.following.set_phase(place, Phase::Adrift),
            BusError::Full | BusError::Failed => self.following.rest(&self.env, place),
        }
    }

    /// The first that is known of a channel. Nobody here was told a position of it; who subscribes already has been told that.
    fn load(&mut self, place: Place, page: &Page, rounds: &[Round<'_>], goes_on: Option<u64>) {
        let Some(standing) = page.standing else { return };
        let Some(followed) = self.following.get(place) else { return };
        let (name, home) = (followed.name.clone(), followed.home);
        let Some(anchor) = self.homes.anchor(home) else { return };
        let bus = standing.position;
        let mut at = anchor.position;
        if goes_on.is_none() || at.epoch != bus.epoch {
            let before = rounds.first().map(|round| round.first - 1);
            at = Position { offset: before.unwrap_or(bus.offset), ..bus };
            self.renumber(place, at);
            self.homes.mark(home, standing.mark);
        }
        let begun = at.offset;
        for round in rounds.iter().filter(|round| round.last > begun) {
            if round.first > at.offset + 1 {
                // Nobody can read over what is missing, or is none.
                self.appending.miss(&name, at.offset);
                at.offset = round.first - 1;
                self.homes.restart(&self.env, home, at);
            }
            let messages = round.beyond(at.offset);
            at.offset = round.last;
            match messages {
                Some(messages) => {
                    self.homes.load(&mut self.env, (home, &name), messages);
                    let first = at.offset + 1 - messages.len() as u64;
                    self.conclude_known(&name, Position { offset: first, ..at }, messages);
                }
                None => {
                    self.appending.miss(&name, round.first - 1);
                    self.homes.restart(&self.env, home, at);
                }
            }
        }
        if let Some(followed) = self.following.get_mut(place) {
            let newest = rounds.last().and_then(|round| round.messages.as_ref()?.last());
            followed.newest = newest.map(|message| (at.offset, message.id));
        }
        let more = next(page, rounds, goes_on);
        if more.is_none() && at.offset < bus.offset {
            self.appending.miss(&name, at.offset);
            at.offset = bus.offset;
            self.homes.restart(&self.env, home, at);
        }
        if anchor.subscribers > 0 && at != anchor.position {
            let known = at.epoch == anchor.position.epoch;
            let offsets = known.then_some((anchor.position.offset + 1, at.offset));
            let cause = if known { Cause::Trimmed } else { Cause::Epoch };
            self.tell_missing(&name, home, Missing { offsets, cause, position: at });
        }
        if more.is_some() {
            return self.following.wish_to_read(place, more);
        }
        self.put_document(place, (standing.document, page.document.as_ref()));
        self.homes.agree(home, true);
        self.verify(place, rounds);
        self.become_live(place);
    }

    /// What has come since the last message that is here. What there is none of any more is told.
    fn catch_up(&mut self, place: Place, page: &Page, rounds: &[Round<'_>]) {
        let Some(standing) = page.standing else { return };
        let Some(followed) = self.following.get(place) else { return };
        let (home, goes_on) = (followed.home, followed.goes_on);
        self.collect_reach(place, (page, rounds), goes_on);
        let mut seen = goes_on.is_some();
        let top = |this: &Self| this.homes.anchor(home).map_or(0, |at| at.position.offset);
        for round in rounds {
            let at = top(self);
            if round.last > at {
                if round.first > at + 1 {
                    // What is missing in the middle was not dropped for its age.
                    let cause = if seen { Cause::Failover } else { Cause::Trimmed };
                    self.miss(place, round.first - 1, cause);
                }
                match round.beyond(top(self)) {
                    Some(messages) => self.deliver_next(place, messages),
                    None => {
                        self.env.tally.bus_poison += 1;
                        self.miss(place, round.last, Cause::Poison);
                    }
                }
            }
            seen = true;
        }
        if let Some(after) = next(page, rounds, goes_on) {
            return self.following.wish_to_read(place, Some(after));
        }
        if top(self) < standing.position.offset {
            self.miss(place, standing.position.offset, Cause::Trimmed);
        }
        self.put_document(place, (standing.document, page.document.as_ref()));
        self.verify(place, rounds);
        if let Some(followed) = self.following.get_mut(place)
            && std::mem::take(&mut followed.holed)
        {
            self.env.tally.bus_hole(Holes::Filled);
        }
        self.become_live(place);
    }

    /// All messages up to a number that are not here will not come.
    fn miss(&mut self, place: Place, to: u64, cause: Cause) {
        let Some(followed) = self.following.get_mut(place) else { return };
        followed.holed = false;
        let (name, home) = (followed.name.clone(), followed.home);
        self.seal_channel(&name);
        let Some(anchor) = self.homes.anchor(home) else { return };
        let position = Position { offset: to, ..anchor.position };
        let offsets = Some((anchor.position.offset + 1, to));
        self.appending.miss(&name, anchor.position.offset);
        self.homes.restart(&self.env, home, position);
        self.env.tally.bus_hole(Holes::Announced);
        self.tell_missing(&name, home, Missing { offsets, cause, position });
    }

    /// Another life of the channel's numbers has begun, behind `position`: nobody knows what was lost by that.
    pub(super) fn adopt(&mut self, place: Place, position: Position, why: Epochs) {
        let Some(followed) = self.following.get_mut(place) else { return };
        (followed.holed, followed.doubted) = (false, true);
        let (name, home) = (followed.name.clone(), followed.home);
        self.seal_channel(&name);
        self.renumber(place, position);
        self.homes.agree(home, true);
        self.env.tally.bus_epoch(why);
        let cause = match why {
            Epochs::Founded => Cause::Epoch,
            Epochs::Forked => Cause::Failover,
        };
        self.tell_missing(&name, home, Missing { offsets: None, cause, position });
    }

    /// The channel's numbers are of another life from now on; so they are should the bus lose them.
    fn renumber(&mut self, place: Place, position: Position) {
        let Some(followed) = self.following.get_mut(place) else { return };
        let (channel, home) = (followed.name.clone(), followed.home);
        let Some(before) = self.homes.anchor(home) else { return };
        let other = before.position.epoch != position.epoch;
        if position.offset > 0 {
            // What is before that nobody here has seen.
            self.appending.miss(&channel, 0);
        }
        followed.begin(Some(before.position).filter(|_| other && before.agreed));
        self.following.take_reach(place);
        self.homes.restart(&self.env, home, position);
        self.homes.mark(home, 0);
        if other {
            let retention = self.retention(&channel, (0, 0));
            self.calls.send(BusCommand::Follow { channel, epoch: position.epoch, retention });
        }
    }

    /// The ids of messages here are those of the bus. Of one that is not new it stays so: what has not come to a replica in
    /// this time does not come any more.
    fn verify(&mut self, place: Place, rounds: &[Round<'_>]) {
        let Some(followed) = self.following.get_mut(place) else { return };
        let Some(anchor) = self.homes.anchor(followed.home) else { return };
        let newest = rounds.last().and_then(|round| round.messages.as_ref()?.last());
        let old = newest.map(|message| Duration::from_micros(message.unix_micros));
        let old = old.map_or(rounds.is_empty(), |at| at + REPLICATED_AFTER <= self.env.now.unix);
        followed.verified = Some(anchor.position).filter(|_| old);
    }

    /// Everything is here that the bus has, but for what came meanwhile.
    pub(super) fn become_live(&mut self, place: Place) {
        self.following.set_phase(place, Phase::Live);
        let Some(followed) = self.following.get_mut(place) else { return };
        followed.lowest = None;
        let name = followed.name.clone();
        while let Some(live) = self.following.next_held(place) {
            self.apply(place, live);
        }
        if self.following.is_live(place) && self.following.has_spilled(place) {
            self.find_hole(place);
        }
        if self.following.is_live(place) {
            self.answer_waiting(place);
            self.review_interest(&name);
            self.appending.wake(&name);
        }
    }

    /// Tells all subscribers of this node what they will not get.
    fn tell_missing(&mut self, channel: &Arc<str>, home: u32, missing: Missing) {
        let (mut remote, here) = self.homes.hubs(&self.env, home);
        while remote != 0 {
            let shard = ShardId(remote.trailing_zeros() as u16);
            remote &= remote - 1;
            let missing = Box::new(missing);
            self.tell(shard, Inner::Missing { channel: channel.clone(), missing });
        }
        if here {
            self.on_missing(channel, &missing);
        }
    }

    /// Messages of a channel with subscribers here will not come.
    pub(super) fn on_missing(&mut self, channel: &str, missing: &Missing) {
        let Some(index) = self.channels.find(channel) else { return };
        // What came before goes out before.
        self.hand_out_channel(index);
        if let Some(index) = self.channels.find(channel) {
            self.channels.announce(&mut self.env, &mut self.connections, index, missing);
        }
    }
}

/// Where the next page begins, if there is one.
pub(super) fn next(page: &Page, rounds: &[Round<'_>], goes_on: Option<u64>) -> Option<u64> {
    let last = rounds.last().filter(|_| page.more)?.last;
    Some(last).filter(|last| goes_on.is_none_or(|before| *last > before))
}

/// The number behind which the next page of a channel begins. The last message that is here is read again, to be compared.
fn read_after(followed: &Followed, anchor: &Anchor) -> u64 {
    match (followed.goes_on, anchor.agreed) {
        (Some(after), _) => after,
        (None, true) => {
            let top = anchor.position.offset;
            let reach = followed.reach.as_ref().map(|reach| reach.from);
            let lowest = followed.lowest.into_iter().chain(reach).min();
            lowest.map_or(top, |lowest| lowest.min(top)).saturating_sub(1)
        }
        (None, false) => 0,
    }
}

/// Whether the last message here need not be compared with the bus' any more.
fn offset_is_sure(followed: &Followed, anchor: &Anchor) -> bool {
    anchor.position.offset == 0 || followed.verified == Some(anchor.position)
}

/// A message that is older than this has come to every replica that ever takes the place of its primary, or never does.
const REPLICATED_AFTER: Duration = Duration::from_secs(60);
