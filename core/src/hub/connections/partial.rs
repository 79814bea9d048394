//! What has come only in part, over all connections of a hub: heads, bodies and messages that wait for their end.
//!
//! Anybody may begin a message and not end it. If all of them together hold too much, the one that began first goes: an
//! honest one is over soon, and thousands that were begun and left must not keep everybody out.

use std::collections::VecDeque;

use super::{conn::Conn, slab::Slab};
use crate::hub::types::ConnId;

/// The account of a hub.
#[derive(Debug, Default)]
pub(super) struct PartialInput {
    bytes: usize,
    /// Connections in the order in which they began; those that are through are among them.
    begun: VecDeque<(ConnId, u32)>,
    /// How many of them are not through.
    open: usize,
    /// The latest beginning's number.
    number: u32,
    /// Bytes that metrics know of.
    told: usize,
}

/// A connection's part in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Partial {
    bytes: u32,
    /// Which beginning it was.
    number: u32,
}

impl Partial {
    pub(super) const NOTHING: Self = Self { bytes: 0, number: 0 };

    pub(super) fn is_nothing(self) -> bool {
        self.bytes == 0
    }

    pub(super) fn bytes(self) -> usize {
        self.bytes as usize
    }
}

impl PartialInput {
    /// Memory that is held for what has come in part.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How much it has changed since this was last asked.
    pub(super) fn change(&mut self) -> i64 {
        let before = std::mem::replace(&mut self.told, self.bytes);
        self.bytes as i64 - before as i64
    }

    /// A connection holds `bytes` now.
    pub(super) fn update(&mut self, id: ConnId, partial: &mut Partial, bytes: usize) {
        let after = u32::try_from(bytes).unwrap_or(u32::MAX);
        let before = std::mem::replace(&mut partial.bytes, after);
        self.bytes = self.bytes + after as usize - before as usize;
        if before == 0 {
            self.open += 1;
            self.number = self.number.wrapping_add(1);
            partial.number = self.number;
            self.begun.push_back((id, self.number));
        } else if after == 0 {
            self.open -= 1;
        }
    }

    /// A connection is gone.
    pub(super) fn forget(&mut self, partial: Partial) {
        self.bytes -= partial.bytes();
        self.open -= usize::from(!partial.is_nothing());
    }

    /// If there is more than `max`, the connection that began first and is not through.
    #[inline]
    pub(super) fn over(&mut self, slots: &Slab<Box<Conn>>, max: usize) -> Option<ConnId> {
        let tidy = self.begun.len() <= 2 * self.open + KEPT;
        if self.bytes <= max && tidy { None } else { self.next_over(slots, max) }
    }

    fn next_over(&mut self, slots: &Slab<Box<Conn>>, max: usize) -> Option<ConnId> {
        while self.bytes > max
            && let Some((oldest, number)) = self.begun.pop_front()
        {
            if is_begun(slots, oldest, number) {
                return Some(oldest);
            }
        }
        if self.begun.len() > 2 * self.open + KEPT {
            let begun = std::mem::take(&mut self.begun).into_iter();
            self.begun = begun.filter(|(id, number)| is_begun(slots, *id, *number)).collect();
        }
        None
    }

    /// Gives back what a burst made large.
    pub(super) fn give_back(&mut self) {
        if self.begun.is_empty() && self.begun.capacity() > BEGUN_KEPT_MAX {
            self.begun = VecDeque::new();
        }
    }

    /// What is counted equals what there is.
    #[cfg(debug_assertions)]
    pub(super) fn check(&self, slots: &Slab<Box<Conn>>) {
        let partial = |index| slots.get(index).map(|conn| conn.extras.get().partial);
        let held = slots.indices().filter_map(partial).filter(|partial| !partial.is_nothing());
        let (bytes, open) = held.fold((0, 0), |(b, n), partial| (b + partial.bytes(), n + 1));
        assert_eq!((self.bytes, self.open), (bytes, open), "partial input");
    }
}

fn is_begun(slots: &Slab<Box<Conn>>, id: ConnId, number: u32) -> bool {
    let partial = slots.get_at(id.index, id.generation).map(|conn| conn.extras.get().partial);
    partial.is_some_and(|partial| !partial.is_nothing() && partial.number == number)
}

/// Beginnings that may be over before the list is cleared out.
const KEPT: usize = 64;

/// A longer list is given back once it is empty.
const BEGUN_KEPT_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::types::ShardId;

    fn id(index: u32) -> ConnId {
        ConnId { index, generation: 0, shard: ShardId(0) }
    }

    #[test]
    fn bytes_are_counted_until_a_message_is_whole() {
        let (mut all, mut one, mut other) =
            (PartialInput::default(), Partial::NOTHING, Partial::NOTHING);

        all.update(id(0), &mut one, 100);
        all.update(id(1), &mut other, 50);
        all.update(id(0), &mut one, 0);

        assert_eq!((all.bytes(), all.change(), all.change()), (50, 50, 0));
        all.forget(other);
        assert_eq!((all.bytes(), all.open), (0, 0));
    }

    #[test]
    fn who_is_gone_is_not_given_up() {
        let (mut all, mut one) = (PartialInput::default(), Partial::NOTHING);
        all.update(id(7), &mut one, 100);

        assert_eq!(all.over(&Slab::new(), 10), None);
        assert!(all.begun.is_empty());
    }
}
