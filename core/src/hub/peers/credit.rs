//! Credit between hubs: how much one may have under way to another, so that no queue between them grows without bound.
//!
//! A hub counts the bytes that it has sent to each other hub. The other gives them back when it is done with them: a
//! round of a channel when it has been handed to its subscribers, everything else when it has been carried out. While as
//! much is under way as may be, publishes that would add to it are refused "busy". Nobody waits, and nothing is dropped.
//!
//! With one hub all masks are empty and nothing here is ever called.

use super::message::Ticket;
use crate::hub::types::{Published, ShardId};

/// What is under way between this hub and the others.
#[derive(Debug)]
pub(super) struct Credits {
    /// Bytes sent to each hub and not given back.
    under_way: Vec<usize>,
    /// Those of them that are publishes which may not be refused. They come back when their hub has answered them, which
    /// it may withhold; everything else comes back for certain.
    firm: Vec<usize>,
    /// Bytes that came from each hub, are done with, and were not given back.
    owed: Vec<usize>,
    owed_firm: Vec<usize>,
    /// The hubs to which as much is under way as may be: a bit for each.
    full: u64,
    /// Publishes that may not be refused any more: they are answered once there is room.
    withheld: Vec<Withheld>,
    /// Change of the bytes under way to all hubs, for the gauge.
    pub(super) change: i64,
}

/// An answer that is held back, and with it the credit of its publisher's hub.
#[derive(Debug)]
pub(in crate::hub) struct Withheld {
    /// The hubs that the message went to though they were full.
    full: u64,
    pub(in crate::hub) ticket: Ticket,
    pub(in crate::hub) published: Published,
    pub(super) bytes: usize,
}

impl Credits {
    pub(super) fn new(shards: usize) -> Self {
        let zeros = vec![0; shards];
        let [under_way, firm, owed, owed_firm] = std::array::from_fn(|_| zeros.clone());
        Self { under_way, firm, owed, owed_firm, full: 0, withheld: Vec::new(), change: 0 }
    }

    /// The hubs to which no more should be sent that can be refused.
    pub(super) fn full(&self) -> u64 {
        self.full
    }

    pub(super) fn is_full(&self, shard: ShardId) -> bool {
        self.full & bit(shard) != 0
    }

    /// The hubs to which as much is under way as may be, besides what they may withhold. Whoever withheld an answer
    /// because of that would wait for one that is withheld because of his.
    pub(super) fn clogged(&self, max: usize) -> u64 {
        let sums = self.under_way.iter().zip(&self.firm).zip(0u16..);
        let clogged = sums.filter(|((sum, firm), _)| {
            let certain = **sum - **firm;
            certain > 0 && certain >= max
        });
        clogged.fold(0, |mask, (_, shard)| mask | bit(ShardId(shard)))
    }

    /// So many of the bytes that are under way to a hub are a publish that may not be refused.
    pub(super) fn note_firm(&mut self, shard: ShardId, bytes: usize) {
        if let Some(sum) = self.firm.get_mut(usize::from(shard.0)) {
            *sum += bytes;
        }
    }

    /// So much more is under way to a hub.
    pub(super) fn charge(&mut self, shard: ShardId, bytes: usize, max: usize) {
        let Some(sum) = self.under_way.get_mut(usize::from(shard.0)) else { return };
        *sum += bytes;
        self.change += bytes as i64;
        if *sum >= max {
            self.full |= bit(shard);
        }
    }

    /// The same for each hub of a mask.
    pub(super) fn charge_all(&mut self, mut mask: u64, bytes: usize, max: usize) {
        while mask != 0 {
            self.charge(ShardId(mask.trailing_zeros() as u16), bytes, max);
            mask &= mask - 1;
        }
    }

    /// So much less is; `firm` of it were publishes that could not be refused.
    pub(super) fn refund(&mut self, shard: ShardId, (bytes, firm): (usize, usize), max: usize) {
        if let Some(sum) = self.firm.get_mut(usize::from(shard.0)) {
            *sum -= firm;
        }
        let Some(sum) = self.under_way.get_mut(usize::from(shard.0)) else { return };
        *sum -= bytes;
        self.change -= bytes as i64;
        if *sum < max {
            self.full &= !bit(shard);
        }
    }

    /// Done with bytes of another hub.
    pub(super) fn owe(&mut self, shard: ShardId, bytes: usize) {
        if let Some(sum) = self.owed.get_mut(usize::from(shard.0)) {
            *sum += bytes;
        }
    }

    /// Done with a publish that could not be refused.
    pub(super) fn owe_firm(&mut self, shard: ShardId, bytes: usize) {
        self.owe(shard, bytes);
        if let Some(sum) = self.owed_firm.get_mut(usize::from(shard.0)) {
            *sum += bytes;
        }
    }

    /// What is given back to a hub now, and how much of it is for publishes that could not be refused. If nothing else goes
    /// there, it waits until it is worth waking the hub for.
    pub(super) fn give_back(
        &mut self,
        shard: ShardId,
        alone: bool,
        max: usize,
    ) -> Option<(usize, usize)> {
        let sum = self.owed.get_mut(usize::from(shard.0))?;
        let worth = if alone { (max / GIVEN_BACK_PARTS).max(1) } else { 1 };
        if *sum < worth {
            return None;
        }
        let firm = self.owed_firm.get_mut(usize::from(shard.0)).map(std::mem::take);
        Some((std::mem::take(sum), firm.unwrap_or_default()))
    }

    /// Bytes sent to a hub and not given back, and bytes of it that are done with and not given back.
    pub(super) fn with(&self, shard: ShardId) -> (usize, usize) {
        let of = |sums: &[usize]| sums.get(usize::from(shard.0)).copied().unwrap_or(0);
        (of(&self.under_way), of(&self.owed))
    }

    pub(super) fn withheld(&self) -> usize {
        self.withheld.len()
    }

    /// Keeps the answer to a publish that was carried out though hubs were full.
    pub(super) fn withhold(
        &mut self,
        full: u64,
        ticket: Ticket,
        published: Published,
        bytes: usize,
    ) {
        self.withheld.push(Withheld { full, ticket, published, bytes });
    }

    /// Takes out the answers for which there is room now.
    pub(super) fn take_released(&mut self, max: usize) -> Vec<Withheld> {
        if self.withheld.is_empty() {
            return Vec::new();
        }
        let clogged = self.clogged(max);
        self.withheld.iter_mut().for_each(|one| one.full &= clogged);
        let (waiting, free) =
            std::mem::take(&mut self.withheld).into_iter().partition(|one| one.full != 0);
        self.withheld = waiting;
        free
    }

    /// What is counted as full is.
    #[cfg(debug_assertions)]
    pub(super) fn check(&self, max: usize) {
        for (sum, shard) in self.under_way.iter().zip(0u16..) {
            assert_eq!(self.is_full(ShardId(shard)), *sum > 0 && *sum >= max, "a hub that is full");
            let firm = self.firm.get(usize::from(shard)).copied().unwrap_or_default();
            assert!(firm <= *sum, "what may be withheld is under way");
        }
    }
}

/// A hub in a mask. There are at most 64 hubs; one beyond would never be full.
pub(in crate::hub) fn bit(shard: ShardId) -> u64 {
    1u64.checked_shl(u32::from(shard.0)).unwrap_or(0)
}

/// Without other messages to go along with, credit is given back when it has become this part of the limit: waking a hub
/// for each message that it has sent would cost more than the message.
const GIVEN_BACK_PARTS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const OTHER: ShardId = ShardId(1);

    #[test]
    fn a_hub_is_full_from_the_limit_on_until_below_it() {
        let mut credits = Credits::new(2);

        credits.charge(OTHER, 99, 100);
        assert!(!credits.is_full(OTHER));
        credits.charge(OTHER, 1, 100);
        assert!(credits.is_full(OTHER));
        credits.refund(OTHER, (1, 0), 100);

        assert!(!credits.is_full(OTHER));
        assert_eq!((credits.with(OTHER), credits.change), ((99, 0), 99));
    }

    #[test]
    fn credit_waits_for_company_or_until_it_is_much() {
        let mut credits = Credits::new(2);
        credits.owe(OTHER, 24);

        assert_eq!(credits.give_back(OTHER, true, 100), None);
        assert_eq!(credits.give_back(OTHER, false, 100), Some((24, 0)));
        assert_eq!(credits.give_back(OTHER, false, 100), None);
        credits.owe(OTHER, 25);
        assert_eq!(credits.give_back(OTHER, true, 100), Some((25, 0)));
    }

    #[test]
    fn a_mask_charges_each_of_its_hubs() {
        let mut credits = Credits::new(4);

        credits.charge_all(bit(ShardId(1)) | bit(ShardId(3)), 7, 100);

        let sums = [0, 1, 2, 3].map(|shard| credits.with(ShardId(shard)).0);
        assert_eq!(sums, [0, 7, 0, 7]);
    }
}
