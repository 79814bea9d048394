//! Credit between hubs: how much one may have under way to another, so that no queue between them grows without bound.
//!
//! A hub counts the bytes that it has sent to each other hub. The other gives them back when it is done with them: a
//! round of a channel when it has been handed to its subscribers, everything else when it has been carried out. While as
//! much is under way as may be, publishes that would add to it are refused "busy". Nobody waits, and nothing is dropped.
//!
//! With one hub all masks are empty and nothing here is ever called.

use super::{
    Hub, ShardMessage,
    types::{Inner, Published, ShardId, Ticket},
};
use crate::time::Now;

/// What is under way between this hub and the others.
#[derive(Debug)]
pub(crate) struct Credits {
    /// Bytes sent to each hub and not given back.
    under_way: Vec<usize>,
    /// Bytes that came from each hub, are done with, and were not given back.
    owed: Vec<usize>,
    /// The hubs to which as much is under way as may be: a bit for each.
    full: u64,
    /// Publishes that may not be refused any more: they are answered once there is room.
    withheld: Vec<Withheld>,
    /// Change of the bytes under way to all hubs, for the gauge.
    pub(crate) change: i64,
}

/// An answer that is held back, and with it the credit of its publisher's hub.
#[derive(Debug)]
struct Withheld {
    /// The hubs that the message went to though they were full.
    full: u64,
    ticket: Ticket,
    published: Published,
    bytes: usize,
}

impl Credits {
    pub(crate) fn new(shards: usize) -> Self {
        let zeros = vec![0; shards];
        Self { under_way: zeros.clone(), owed: zeros, full: 0, withheld: Vec::new(), change: 0 }
    }

    /// The hubs to which no more should be sent that can be refused.
    pub(crate) fn full(&self) -> u64 {
        self.full
    }

    pub(crate) fn is_full(&self, shard: ShardId) -> bool {
        self.full & bit(shard) != 0
    }

    /// So much more is under way to a hub.
    pub(crate) fn charge(&mut self, shard: ShardId, bytes: usize, max: usize) {
        let Some(sum) = self.under_way.get_mut(usize::from(shard.0)) else { return };
        *sum += bytes;
        self.change += bytes as i64;
        if *sum >= max {
            self.full |= bit(shard);
        }
    }

    /// The same for each hub of a mask.
    pub(crate) fn charge_all(&mut self, mut mask: u64, bytes: usize, max: usize) {
        while mask != 0 {
            self.charge(ShardId(mask.trailing_zeros() as u16), bytes, max);
            mask &= mask - 1;
        }
    }

    /// So much less is.
    fn refund(&mut self, shard: ShardId, bytes: usize, max: usize) {
        let Some(sum) = self.under_way.get_mut(usize::from(shard.0)) else { return };
        let bytes = bytes.min(*sum);
        *sum -= bytes;
        self.change -= bytes as i64;
        if *sum < max {
            self.full &= !bit(shard);
        }
    }

    /// Done with bytes of another hub.
    pub(crate) fn owe(&mut self, shard: ShardId, bytes: usize) {
        if let Some(sum) = self.owed.get_mut(usize::from(shard.0)) {
            *sum += bytes;
        }
    }

    /// What is given back to a hub now. If nothing else goes there, it waits until it is worth waking the hub for.
    pub(crate) fn give_back(&mut self, shard: ShardId, alone: bool, max: usize) -> Option<usize> {
        let sum = self.owed.get_mut(usize::from(shard.0))?;
        let worth = if alone { (max / GIVEN_BACK_PARTS).max(1) } else { 1 };
        (*sum >= worth).then(|| std::mem::take(sum))
    }

    /// Bytes sent to a hub and not given back, and bytes of it that are done with and not given back.
    pub(crate) fn with(&self, shard: ShardId) -> (usize, usize) {
        let of = |sums: &[usize]| sums.get(usize::from(shard.0)).copied().unwrap_or(0);
        (of(&self.under_way), of(&self.owed))
    }

    pub(crate) fn withheld(&self) -> usize {
        self.withheld.len()
    }
}

impl Hub {
    /// Puts a message for another hub into its batch, on credit.
    pub(super) fn send_shard(&mut self, to: ShardId, message: Inner) {
        if let Some(batch) = self.batches.get_mut(usize::from(to.0)) {
            self.credits.charge(
                to,
                message.weight(),
                self.config.limits.shards.shard_queue_bytes_max,
            );
            batch.push(ShardMessage(message));
        }
    }

    /// Gives credit back to the other hubs, along with other messages or when it has become much.
    pub(super) fn tell_done(&mut self) {
        let max = self.config.limits.shards.shard_queue_bytes_max;
        for (batch, shard) in self.batches.iter_mut().zip(0u16..) {
            if let Some(bytes) = self.credits.give_back(ShardId(shard), batch.is_empty(), max) {
                batch.push(ShardMessage(Inner::Done { bytes }));
            }
        }
    }

    /// Another hub is done with what it was sent, or need not be sent it.
    pub(crate) fn on_done(&mut self, now: Now, from: ShardId, bytes: usize) {
        let before = self.credits.full;
        self.credits.refund(from, bytes, self.config.limits.shards.shard_queue_bytes_max);
        if self.credits.full != before {
            self.answer_withheld(now);
        }
    }

    /// A limit may have changed.
    pub(crate) fn review_credits(&mut self, now: Now) {
        let max = self.config.limits.shards.shard_queue_bytes_max;
        for shard in self.place.others() {
            self.credits.charge(shard, 0, max);
            self.credits.refund(shard, 0, max);
        }
        self.answer_withheld(now);
    }

    /// Keeps the answer to a publish that was carried out though hubs were full.
    pub(crate) fn withhold(
        &mut self,
        full: u64,
        ticket: Ticket,
        published: Published,
        bytes: usize,
    ) {
        self.credits.withheld.push(Withheld { full, ticket, published, bytes });
    }

    fn answer_withheld(&mut self, now: Now) {
        if self.credits.withheld.is_empty() {
            return;
        }
        let full = self.credits.full;
        let mut waiting = std::mem::take(&mut self.credits.withheld);
        waiting.iter_mut().for_each(|one| one.full &= full);
        let (waiting, free) = waiting.into_iter().partition(|one| one.full != 0);
        self.credits.withheld = waiting;
        for Withheld { ticket, published, bytes, .. } in free {
            self.credits.owe(ticket.shard, bytes);
            self.tell(now, ticket.shard, Inner::Published { ticket, published });
        }
    }
}

/// A hub in a mask. There are at most 64 hubs; one beyond would never be full.
pub(crate) fn bit(shard: ShardId) -> u64 {
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
        credits.refund(OTHER, 1, 100);

        assert!(!credits.is_full(OTHER));
        assert_eq!((credits.with(OTHER), credits.change), ((99, 0), 99));
    }

    #[test]
    fn credit_waits_for_company_or_until_it_is_much() {
        let mut credits = Credits::new(2);
        credits.owe(OTHER, 24);

        assert_eq!(credits.give_back(OTHER, true, 100), None);
        assert_eq!(credits.give_back(OTHER, false, 100), Some(24));
        assert_eq!(credits.give_back(OTHER, false, 100), None);
        credits.owe(OTHER, 25);
        assert_eq!(credits.give_back(OTHER, true, 100), Some(25));
    }

    #[test]
    fn a_mask_charges_each_of_its_hubs() {
        let mut credits = Credits::new(4);

        credits.charge_all(bit(ShardId(1)) | bit(ShardId(3)), 7, 100);

        let sums = [0, 1, 2, 3].map(|shard| credits.with(ShardId(shard)).0);
        assert_eq!(sums, [0, 7, 0, 7]);
    }
}
