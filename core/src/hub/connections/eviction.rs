//! Eviction: at `sockets_max` the socket goes that is least likely to be missed.
//!
//! Whoever opens sockets and says nothing must not keep others out until a deadline. An honest client has sent its
//! request within a round trip of being accepted, so the socket that has been at it for longest is the one to give up.

use super::{conn::Conn, slab::Slab};
use crate::ws;

/// Sockets that may be given up, in the order in which their queues are turned to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Queue {
    /// Everything is said; only the other side's end is awaited.
    Over,
    /// No complete request has come: no byte, a header of the PROXY protocol, a TLS handshake, a part of a request.
    Begun,
    /// A request was answered, and no further one has begun.
    Idle,
}

impl Queue {
    fn of(conn: &ws::Connection) -> Option<Self> {
        if conn.is_open() || conn.owes_answer() {
            None
        } else if conn.is_idle_http() {
            Some(Self::Idle)
        } else if conn.reason().is_some() {
            Some(Self::Over)
        } else {
            Some(Self::Begun)
        }
    }
}

/// A connection's place: its queue and its neighbours there, or no queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Links {
    queue: Option<Queue>,
    /// It was given up, and the driver has not been told yet.
    leaving: bool,
    before: u32,
    after: u32,
}

impl Links {
    /// In no queue, and not leaving.
    pub(super) const NONE: Self =
        Self { queue: None, leaving: false, before: NOBODY, after: NOBODY };

    pub(super) fn is_none(self) -> bool {
        self.queue.is_none() && !self.leaving
    }
}

/// The three queues, linked through the connections: to step in or out costs the same however long one is.
#[derive(Debug, Default)]
pub(super) struct Eviction {
    over: Ends,
    begun: Ends,
    idle: Ends,
    /// Connections that were given up and still hold their sockets.
    leaving: usize,
}

#[derive(Clone, Copy, Debug)]
struct Ends {
    first: u32,
    last: u32,
}

impl Default for Ends {
    fn default() -> Self {
        Self { first: NOBODY, last: NOBODY }
    }
}

/// What has to be done so that one more socket may be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) enum Admission {
    /// Nothing.
    Room,
    /// The connection with this index is given up.
    Evict(u32),
    /// It cannot be.
    Full,
}

impl Eviction {
    /// Whether one more socket may be held besides `sockets`, of which `max` may be.
    pub(super) fn admit(&self, slots: &Slab<Box<Conn>>, sockets: usize, max: usize) -> Admission {
        if sockets - self.leaving < max {
            return Admission::Room;
        }
        // Those that leave go with the turn's flushes. A driver that takes in any number before it flushes gets no more.
        if self.leaving >= LEAVING_MAX {
            return Admission::Full;
        }
        self.next_to_leave(slots).map_or(Admission::Full, Admission::Evict)
    }

    fn next_to_leave(&self, slots: &Slab<Box<Conn>>) -> Option<u32> {
        // What was said last has reached the socket, or the socket took no more of it, or there was nothing to say: all
        // clients may have hung up in the very turn in which the next one comes.
        let is_told = |index: &u32| {
            slots.get(*index).is_some_and(|conn| {
                !conn.dirty || (conn.ws.outbox().is_empty() && !conn.transport.wants_write())
            })
        };
        let first = |ends: &Ends| Some(ends.first).filter(|index| *index != NOBODY);
        first(&self.over)
            .filter(is_told)
            .or_else(|| first(&self.begun))
            .or_else(|| first(&self.idle).filter(is_told))
    }

    /// The connection is given up: its socket goes with the turn's flushes.
    pub(super) fn leave(&mut self, slots: &mut Slab<Box<Conn>>, index: u32) {
        self.step_out(slots, index);
        if let Some(conn) = slots.get_mut(index) {
            let first = !std::mem::replace(&mut conn.extras.put().links.leaving, true);
            self.leaving += usize::from(first);
        }
    }

    /// After anything happened to a connection: it may belong into another queue now.
    pub(super) fn line_up(&mut self, slots: &mut Slab<Box<Conn>>, index: u32) {
        let Some(conn) = slots.get(index) else { return };
        let queue = Queue::of(&conn.ws);
        let links = conn.extras.get().links;
        if queue != links.queue && !links.leaving {
            self.step_out(slots, index);
            if let Some(queue) = queue {
                self.step_in(slots, index, queue);
            }
        }
    }

    /// A connection is gone, and its socket with it.
    pub(super) fn forget(&mut self, slots: &mut Slab<Box<Conn>>, index: u32) {
        self.step_out(slots, index);
        let leaving = slots.get(index).is_some_and(|conn| conn.extras.get().links.leaving);
        self.leaving -= usize::from(leaving);
    }

    fn ends(&mut self, queue: Queue) -> &mut Ends {
        match queue {
            Queue::Over => &mut self.over,
            Queue::Begun => &mut self.begun,
            Queue::Idle => &mut self.idle,
        }
    }

    fn step_in(&mut self, slots: &mut Slab<Box<Conn>>, index: u32, queue: Queue) {
        let ends = self.ends(queue);
        let before = std::mem::replace(&mut ends.last, index);
        if before == NOBODY {
            ends.first = index;
        } else if let Some(conn) = slots.get_mut(before) {
            conn.extras.put().links.after = index;
        }
        if let Some(conn) = slots.get_mut(index) {
            let links = &mut conn.extras.put().links;
            links.queue = Some(queue);
            (links.before, links.after) = (before, NOBODY);
        }
    }

    /// Leaves its queue. Lined up again, it is the last of those that may be given up.
    pub(super) fn step_out(&mut self, slots: &mut Slab<Box<Conn>>, index: u32) {
        let Some(rare) = slots.get_mut(index).and_then(|conn| conn.extras.get_mut()) else {
            return;
        };
        let Some(queue) = rare.links.queue.take() else { return };
        let Links { before, after, .. } = rare.links;
        match slots.get_mut(before) {
            Some(conn) => conn.extras.put().links.after = after,
            None => self.ends(queue).first = after,
        }
        match slots.get_mut(after) {
            Some(conn) => conn.extras.put().links.before = before,
            None => self.ends(queue).last = before,
        }
    }

    /// What is counted equals what there is, and every link is answered.
    #[cfg(debug_assertions)]
    pub(super) fn check(&self, slots: &Slab<Box<Conn>>) {
        let links = |index| slots.get(index).map(|conn| conn.extras.get().links);
        let all = slots.indices().filter_map(|index| Some((index, links(index)?)));
        let (mut queued, mut leaving) = (0usize, 0);
        for (index, link) in all {
            leaving += usize::from(link.leaving);
            queued += usize::from(link.queue.is_some());
            if link.queue.is_some() && link.after != NOBODY {
                assert_eq!(links(link.after).map(|after| after.before), Some(index), "neighbours");
            }
        }
        assert_eq!(self.leaving, leaving, "connections that leave");
        let mut walked = 0;
        for ends in [self.over, self.begun, self.idle] {
            let (mut at, mut last) = (ends.first, NOBODY);
            while at != NOBODY && walked <= queued {
                walked += 1;
                last = at;
                at = links(at).map_or(NOBODY, |links| links.after);
            }
            assert_eq!(last, ends.last, "a queue's last");
        }
        assert_eq!(walked, queued, "connections in queues");
    }
}

/// No connection has this index: the slab ends before it.
const NOBODY: u32 = u32::MAX;

/// Sockets above `sockets_max` that are held until the turn's flushes.
const LEAVING_MAX: usize = 1024;
