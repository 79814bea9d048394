//! What waits for sockets that take no more, over all connections of a hub.
//!
//! A round is one segment, however many outboxes hold it, so adding outboxes up would count it many times. The hub
//! remembers the turn's segments instead and looks, once all who keep up are served, which of them somebody still holds:
//! that costs a little for each round and nothing for each member. What a connection shares with nobody is counted
//! where it is noticed that its socket takes no more.

use super::{conn::Conn, extras::Rare, slab::Slab};
use crate::ws::{Segment, Watch};

/// The account of a hub.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// Segments that were handed out since stock was last taken.
    fresh: Vec<Watch>,
    /// Segments that somebody still held then.
    held: Vec<Watch>,
    /// Bytes of those.
    shared_bytes: usize,
    /// What connections hold that they share with nobody.
    private_bytes: usize,
    /// Connections whose sockets take no more.
    list: Vec<Blocked>,
    /// Work for a look at all of `held` that was saved up.
    credit: usize,
    /// Bytes that metrics know of.
    told: usize,
}

#[derive(Clone, Copy, Debug)]
struct Blocked {
    conn: u32,
    /// What it is counted with in `private_bytes`.
    private_bytes: u32,
}

impl Backlog {
    /// What all outboxes hold together, as of the last stock-taking.
    pub(super) fn bytes(&self) -> usize {
        self.shared_bytes + self.private_bytes
    }

    /// How much it has changed since this was last asked.
    pub(super) fn change(&mut self) -> i64 {
        let bytes = self.bytes();
        let before = std::mem::replace(&mut self.told, bytes);
        bytes as i64 - before as i64
    }

    /// Notes a segment that is being handed out.
    pub(super) fn note(&mut self, segment: &Segment) {
        self.fresh.push(segment.watch());
    }

    /// Everybody who keeps up is served: what of the turn's segments is still held? Whether it is more than `max`.
    pub(super) fn take_stock(&mut self, max: usize) -> bool {
        if self.list.is_empty() {
            self.fresh.clear();
            self.held.clear();
            self.shared_bytes = 0;
        } else {
            self.credit += self.fresh.len() + SWEPT_PER_TURN;
            for hold in self.fresh.drain(..).filter(Watch::is_held) {
                self.shared_bytes += hold.len();
                self.held.push(hold);
            }
            if self.credit >= self.held.len() {
                self.sweep();
            }
        }
        for list in [&mut self.fresh, &mut self.held] {
            if list.capacity() > KEPT && list.len() <= list.capacity() / 4 {
                list.shrink_to(KEPT);
            }
        }
        if self.bytes() > max {
            self.sweep();
        }
        self.bytes() > max
    }

    /// Looks at every segment.
    pub(super) fn sweep(&mut self) {
        self.held.retain(Watch::is_held);
        self.shared_bytes = self.held.iter().map(Watch::len).sum();
        self.credit = 0;
    }

    /// The connections on the list, whatever they speak and however far they are from their end, those first that hold
    /// the most.
    pub(super) fn heaviest(&self, slots: &Slab<Box<Conn>>) -> Vec<u32> {
        let weight = |blocked: &Blocked| {
            let conn = slots.get(blocked.conn)?;
            Some((conn.ws.outbox().bytes(), blocked.conn))
        };
        let mut heaviest: Vec<_> = self.list.iter().filter_map(weight).collect();
        // The index only makes it the same on every run.
        heaviest.sort_unstable_by_key(|(bytes, index)| (std::cmp::Reverse(*bytes), *index));
        heaviest.into_iter().map(|(_, index)| index).collect()
    }

    /// Notices what a connection holds, after its socket took no more or took something again.
    pub(super) fn measure(&mut self, slots: &mut Slab<Box<Conn>>, index: u32) {
        let Some(conn) = slots.get_mut(index) else { return };
        let waits = conn.blocked && !conn.ws.outbox().is_empty();
        let private = match waits {
            true => conn.ws.outbox().private_bytes() + conn.transport.buffered_bytes(),
            false => 0,
        };
        if waits {
            if !std::mem::replace(&mut conn.listed, true) {
                conn.extras.put().backlog =
                    u32::try_from(self.list.len()).unwrap_or(Rare::UNLISTED);
                self.list.push(Blocked { conn: index, private_bytes: 0 });
            }
            self.replace(conn.extras.get().backlog, u32::try_from(private).unwrap_or(u32::MAX));
        } else if std::mem::replace(&mut conn.listed, false) {
            let at = std::mem::replace(&mut conn.extras.put().backlog, Rare::UNLISTED);
            conn.extras.tidy();
            self.forget(slots, at);
        }
    }

    /// Takes a place off the list, with what was counted there; the list's last entry moves there.
    pub(super) fn forget(&mut self, slots: &mut Slab<Box<Conn>>, at: u32) {
        self.replace(at, 0);
        if (at as usize) < self.list.len() {
            self.list.swap_remove(at as usize);
        }
        if let Some(moved) = self.list.get(at as usize)
            && let Some(conn) = slots.get_mut(moved.conn)
        {
            conn.extras.put().backlog = at;
        }
    }

    /// The share of the connection listed at `at` changes.
    fn replace(&mut self, at: u32, after: u32) {
        let Some(blocked) = self.list.get_mut(at as usize) else { return };
        let before = std::mem::replace(&mut blocked.private_bytes, after);
        self.private_bytes = self.private_bytes + after as usize - before as usize;
    }

    /// What is counted equals what there is.
    #[cfg(debug_assertions)]
    pub(super) fn check(&self, slots: &Slab<Box<Conn>>) {
        let private: usize = self.list.iter().map(|blocked| blocked.private_bytes as usize).sum();
        assert_eq!(self.private_bytes, private, "bytes that are shared with nobody");
        for (blocked, at) in self.list.iter().zip(0..) {
            let conn = slots.get(blocked.conn).map(|conn| (conn.listed, conn.extras.get().backlog));
            assert_eq!(conn, Some((true, at)), "a connection of the backlog's list");
        }
        let listed = slots.indices().filter_map(|index| slots.get(index)).filter(|c| c.listed);
        assert_eq!(listed.count(), self.list.len(), "connections on the backlog's list");
    }
}

/// Segments looked at again per turn, besides as many as are new.
const SWEPT_PER_TURN: usize = 64;

/// Entries of a list whose memory is kept.
const KEPT: usize = 256;
