//! Room for new sockets: at `sockets_max` the one goes that is least likely to be missed.
//!
//! Whoever opens sockets and says nothing must not keep others out until a deadline. An honest client has sent its
//! request within a round trip of being accepted, so the socket that has been at it for longest is the one to give up.

use super::{Hub, conn::Conn, slab::Slab, types::ConnId};
use crate::{reason::Reason, time::Now, ws};

/// Sockets that may be given up, in the order in which their lines are turned to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queue {
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

/// Where a connection stands: its line and its neighbours there, or no line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    queue: Option<Queue>,
    /// It was given up, and the driver has not been told yet.
    leaving: bool,
    before: u32,
    behind: u32,
}

impl Standing {
    /// In no queue, and not leaving.
    pub(crate) const NONE: Self =
        Self { queue: None, leaving: false, before: NOBODY, behind: NOBODY };

    pub(crate) fn is_none(self) -> bool {
        self.queue.is_none() && !self.leaving
    }
}

/// The three lines, linked through the connections: to step in or out costs the same however long a line is.
#[derive(Debug, Default)]
pub(crate) struct Room {
    over: Line,
    begun: Line,
    idle: Line,
    /// Connections that were given up and still hold their sockets.
    leaving: usize,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    first: u32,
    last: u32,
}

impl Default for Line {
    fn default() -> Self {
        Self { first: NOBODY, last: NOBODY }
    }
}

impl Room {
    fn line(&mut self, queue: Queue) -> &mut Line {
        match queue {
            Queue::Over => &mut self.over,
            Queue::Begun => &mut self.begun,
            Queue::Idle => &mut self.idle,
        }
    }

    fn step_in(&mut self, conns: &mut Slab<Box<Conn>>, index: u32, queue: Queue) {
        let line = self.line(queue);
        let before = std::mem::replace(&mut line.last, index);
        if before == NOBODY {
            line.first = index;
        } else if let Some(conn) = conns.get_mut(before) {
            conn.aside.put().standing.behind = index;
        }
        if let Some(conn) = conns.get_mut(index) {
            let standing = &mut conn.aside.put().standing;
            standing.queue = Some(queue);
            (standing.before, standing.behind) = (before, NOBODY);
        }
    }

    fn step_out(&mut self, conns: &mut Slab<Box<Conn>>, index: u32) {
        let Some(aside) = conns.get_mut(index).and_then(|conn| conn.aside.get_mut()) else {
            return;
        };
        let Some(queue) = aside.standing.queue.take() else { return };
        let Standing { before, behind, .. } = aside.standing;
        match conns.get_mut(before) {
            Some(conn) => conn.aside.put().standing.behind = behind,
            None => self.line(queue).first = behind,
        }
        match conns.get_mut(behind) {
            Some(conn) => conn.aside.put().standing.before = before,
            None => self.line(queue).last = before,
        }
    }

    /// A connection is gone, and its socket with it.
    pub(crate) fn forget(&mut self, conns: &mut Slab<Box<Conn>>, index: u32) {
        self.step_out(conns, index);
        let leaving = conns.get(index).is_some_and(|conn| conn.aside.get().standing.leaving);
        self.leaving -= usize::from(leaving);
    }
}

impl Hub {
    /// Whether one more socket may be held, after somebody else's was given up if need be.
    pub(crate) fn make_room(&mut self, now: Now) -> bool {
        let max = self.config.limits.connections.sockets_max;
        if self.sockets_everywhere() - self.room.leaving < max {
            return true;
        }
        // Those that leave go with the turn's flushes. A driver that takes in any number before it flushes gets no more.
        if self.room.leaving >= LEAVING_MAX {
            return false;
        }
        let Some(index) = self.next_to_leave() else { return false };
        let Some(generation) = self.conns.generation(index) else { return false };
        self.abandon(now, self.id(index, generation), Reason::MadeRoom);
        true
    }

    fn next_to_leave(&self) -> Option<u32> {
        // What was said last has reached the socket, or the socket took no more of it.
        let is_told = |index: &u32| self.conns.get(*index).is_some_and(|conn| !conn.dirty);
        let first = |line: &Line| Some(line.first).filter(|index| *index != NOBODY);
        let room = &self.room;
        first(&room.over)
            .filter(is_told)
            .or_else(|| first(&room.begun))
            .or_else(|| first(&room.idle).filter(is_told))
    }

    /// Gives a connection up without a word: its socket goes with the turn's flushes.
    pub(crate) fn abandon(&mut self, now: Now, id: ConnId, reason: Reason) {
        self.room.step_out(&mut self.conns, id.index);
        self.stop_shaking(id);
        let Some((conn, _)) = self.conn_mut(id) else { return };
        conn.ws.give_up(now, reason);
        let first = !std::mem::replace(&mut conn.aside.put().standing.leaving, true);
        self.room.leaving += usize::from(first);
        self.retire(now, id, reason);
        self.mark_dirty(id.index);
    }

    /// After anything happened to a connection: it may stand in another line now.
    pub(crate) fn line_up(&mut self, id: ConnId) {
        let Some(conn) = self.conn(id) else { return };
        let queue = Queue::of(&conn.ws);
        let standing = conn.aside.get().standing;
        if queue != standing.queue && !standing.leaving {
            self.room.step_out(&mut self.conns, id.index);
            if let Some(queue) = queue {
                self.room.step_in(&mut self.conns, id.index, queue);
            }
        }
    }

    /// A request of it is answered: it is the last again of those that may be given up.
    pub(crate) fn stand_behind(&mut self, id: ConnId) {
        if self.conn(id).is_some() {
            self.room.step_out(&mut self.conns, id.index);
        }
    }
}

/// No connection has this index: the slab ends before it.
const NOBODY: u32 = u32::MAX;

/// Sockets above `sockets_max` that are held until the turn's flushes.
const LEAVING_MAX: usize = 1024;
