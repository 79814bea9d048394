//! What waits for sockets that take no more, over all connections of a hub, and what happens when it is too much.
//!
//! A round is one segment, however many outboxes hold it, so adding outboxes up would count it many times. The hub
//! remembers the turn's segments instead and looks, once all who keep up are served, which of them somebody still holds:
//! that costs a little for each round and nothing for each member. What a connection shares with nobody is counted
//! where it is noticed that its socket takes no more.

use super::{Hub, aside::Things, conn::Session, types::ConnId};
use crate::{
    config::SlowPolicy,
    reason::Reason,
    time::Now,
    ws::{Segment, Watch},
};

/// The account of a hub.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    /// Segments that were handed out since stock was last taken.
    fresh: Vec<Watch>,
    /// Segments that somebody still held then.
    held: Vec<Watch>,
    /// Bytes of those.
    shared_bytes: usize,
    /// What connections hold that they share with nobody.
    private_bytes: usize,
    /// Connections whose sockets take no more.
    behind: Vec<Behind>,
    /// Work for a look at all of `held` that was saved up.
    credit: usize,
}

#[derive(Clone, Copy, Debug)]
struct Behind {
    conn: u32,
    /// What it is counted with in `private_bytes`.
    private_bytes: u32,
}

impl Backlog {
    /// What all outboxes hold together, as of the last stock-taking.
    pub(crate) fn bytes(&self) -> usize {
        self.shared_bytes + self.private_bytes
    }

    /// Notes a segment that is being handed out.
    pub(crate) fn note(&mut self, segment: &Segment) {
        self.fresh.push(segment.watch());
    }

    /// Everybody who keeps up is served: what of the turn's segments is still held?
    fn take_stock(&mut self) {
        if self.behind.is_empty() {
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
    }

    /// Looks at every segment.
    fn sweep(&mut self) {
        self.held.retain(Watch::is_held);
        self.shared_bytes = self.held.iter().map(Watch::len).sum();
        self.credit = 0;
    }

    /// The share of the connection listed at `at` changes.
    fn replace(&mut self, at: u32, after: u32) {
        let Some(behind) = self.behind.get_mut(at as usize) else { return };
        let before = std::mem::replace(&mut behind.private_bytes, after);
        self.private_bytes = (self.private_bytes + after as usize).saturating_sub(before as usize);
    }
}

impl Hub {
    /// Notices what a connection holds, after its socket took no more or took something again.
    pub(crate) fn weigh(&mut self, index: u32) {
        let Some(conn) = self.conns.get_mut(index) else { return };
        let waits = conn.blocked && !conn.ws.outbox().is_empty();
        let private = if waits {
            conn.ws.outbox().private_bytes() + conn.transport.buffered_bytes()
        } else {
            0
        };
        let after = u32::try_from(private).unwrap_or(u32::MAX);
        if waits {
            if !std::mem::replace(&mut conn.behind, true) {
                let at = u32::try_from(self.backlog.behind.len()).unwrap_or(Things::NOT_BEHIND);
                conn.aside.put().behind = at;
                self.backlog.behind.push(Behind { conn: index, private_bytes: 0 });
            }
            self.backlog.replace(conn.aside.get().behind, after);
        } else if std::mem::replace(&mut conn.behind, false) {
            let at = std::mem::replace(&mut conn.aside.put().behind, Things::NOT_BEHIND);
            conn.aside.tidy();
            self.unweigh(at);
        }
    }

    /// Takes a place off the list, with what was counted there; the list's last entry moves there.
    pub(crate) fn unweigh(&mut self, at: u32) {
        self.backlog.replace(at, 0);
        if (at as usize) < self.backlog.behind.len() {
            self.backlog.behind.swap_remove(at as usize);
        }
        if let Some(moved) = self.backlog.behind.get(at as usize)
            && let Some(conn) = self.conns.get_mut(moved.conn)
        {
            conn.aside.put().behind = at;
        }
    }

    /// Once per round of flushes: if outboxes hold more than `queued_bytes_max`, those that hold the most are treated as
    /// slow readers until an eighth is free again.
    pub(crate) fn relieve(&mut self, now: Now) {
        self.backlog.take_stock();
        let max = self.config.limits.delivery.queued_bytes_max;
        if self.backlog.bytes() > max {
            self.backlog.sweep();
        }
        if self.backlog.bytes() > max {
            self.lighten_until(now, max - max / 8);
        }
        let (bytes, told) = (self.backlog.bytes() as i64, &mut self.queued_told);
        self.tally.queued_bytes += bytes - std::mem::replace(told, bytes);
    }

    fn lighten_until(&mut self, now: Now, target: usize) {
        let weight = |behind: &Behind| {
            let conn = self.conns.get(behind.conn)?;
            let open = matches!(conn.session, Session::Active | Session::Unauthenticated { .. });
            open.then(|| (conn.ws.outbox().bytes(), behind.conn))
        };
        let mut heaviest: Vec<_> = self.backlog.behind.iter().filter_map(weight).collect();
        // The index only makes it the same on every run.
        heaviest.sort_unstable_by_key(|(bytes, index)| (std::cmp::Reverse(*bytes), *index));
        // What two hold is free when both are done: looking after each would cost the square.
        let (mut rest, mut step) = (heaviest.as_slice(), 1);
        while self.backlog.bytes() > target
            && let Some((now_due, later)) =
                rest.split_at_checked(step.min(rest.len())).filter(|(due, _)| !due.is_empty())
        {
            for (_, index) in now_due {
                if let Some(generation) = self.conns.generation(*index) {
                    let id = self.id(*index, generation);
                    self.lighten(now, id);
                    self.weigh(*index);
                }
            }
            self.backlog.sweep();
            rest = later;
            step *= 2;
        }
    }

    /// Does to one connection what its channels' policies say about slow readers. With nothing to drop it is closed.
    fn lighten(&mut self, now: Now, id: ConnId) {
        let Some(conn) = self.conn(id) else { return };
        let queued = self.queued_channels(conn);
        let strict = queued.iter().any(|(_, policy)| *policy == SlowPolicy::Disconnect);
        let mut dropped = 0;
        if !strict {
            for (channel, policy) in queued {
                dropped += self.drop_queued(id, channel, policy);
            }
        }
        if dropped == 0 {
            self.close(now, id, Reason::OutboxesFull);
            return;
        }
        self.tally.dropped(Reason::OutboxesFull, u64::from(dropped));
        if self.conn(id).is_some_and(|conn| conn.ws.outbox().is_empty()) {
            // With nothing to write no flush would come to tell of the gap.
            self.mark_dirty(id.index);
        }
    }
}

/// Segments looked at again per turn, besides as many as are new.
const SWEPT_PER_TURN: usize = 64;

/// Entries of a list whose memory is kept.
const KEPT: usize = 256;
