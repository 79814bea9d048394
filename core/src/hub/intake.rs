//! What has come only in part, over all connections of a hub: heads, bodies and messages that wait for their end.
//!
//! Anybody may begin a message and not end it. If all of them together hold too much, the one that began first goes: an
//! honest one is over soon, and thousands that were begun and left must not keep everybody out.

use std::collections::VecDeque;

use super::{Hub, conn::Session, types::ConnId};
use crate::{reason::Reason, time::Now, ws};

/// The account of a hub.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    bytes: usize,
    /// Connections in the order in which they began; those that are through are among them.
    begun: VecDeque<(ConnId, u32)>,
    /// How many of them are not through.
    open: usize,
    /// The latest beginning's number.
    number: u32,
}

/// A connection's part in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taking {
    bytes: u32,
    /// Which beginning it was.
    number: u32,
}

impl Taking {
    pub(crate) const NOTHING: Self = Self { bytes: 0, number: 0 };

    pub(crate) fn is_nothing(self) -> bool {
        self.bytes == 0
    }
}

impl Intake {
    /// Memory that is held for what has come in part.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn update(&mut self, id: ConnId, taking: &mut Taking, bytes: usize) {
        let after = u32::try_from(bytes).unwrap_or(u32::MAX);
        let before = std::mem::replace(&mut taking.bytes, after);
        self.bytes = (self.bytes + after as usize).saturating_sub(before as usize);
        if before == 0 {
            self.open += 1;
            self.number = self.number.wrapping_add(1);
            taking.number = self.number;
            self.begun.push_back((id, self.number));
        } else if after == 0 {
            self.open -= 1;
        }
    }

    /// A connection is gone.
    pub(crate) fn forget(&mut self, taking: Taking) {
        self.bytes = self.bytes.saturating_sub(taking.bytes as usize);
        self.open -= usize::from(taking.bytes > 0);
    }
}

impl Hub {
    /// Notices how much a connection holds of what is not complete.
    pub(crate) fn measure(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.index) else { return };
        let bytes = conn.ws.partial_bytes() + conn.transport.held_bytes();
        if bytes != conn.aside.get().taking.bytes as usize {
            self.intake.update(id, &mut conn.aside.put().taking, bytes);
        }
    }

    /// If what is not complete takes more than `partial_bytes_max`, those that began first are ended.
    pub(crate) fn make_room_to_take_in(&mut self, now: Now) {
        let max = self.config.limits.connections.partial_bytes_max;
        while self.intake.bytes > max
            && let Some((oldest, number)) = self.intake.begun.pop_front()
        {
            if self.is_taking(oldest, number) {
                self.give_up_taking(now, oldest);
            }
        }
        if self.intake.begun.len() > 2 * self.intake.open + KEPT {
            let begun = std::mem::take(&mut self.intake.begun);
            let rest = begun.into_iter().filter(|(id, number)| self.is_taking(*id, *number));
            self.intake.begun = rest.collect();
        }
    }

    fn is_taking(&self, id: ConnId, number: u32) -> bool {
        let taking = self.conn(id).map(|conn| conn.aside.get().taking);
        taking.is_some_and(|taking| !taking.is_nothing() && taking.number == number)
    }

    fn give_up_taking(&mut self, now: Now, id: ConnId) {
        let reason = Reason::InputFull;
        match self.conn(id).map(|conn| conn.session) {
            Some(Session::Active | Session::Unauthenticated { .. }) => self.close(now, id, reason),
            Some(Session::Http) => {
                let Some((conn, limits)) = self.conn_mut(id) else { return };
                if conn.transport.held_bytes() > 0 {
                    // No answer can be made before the handshake.
                    self.cut(now, id, Reason::TlsHandshakesMax);
                    self.stop_shaking(id);
                } else {
                    conn.ws.close(now, limits, reason, ws::CloseWhen::AtOnce);
                    self.tally.error(reason);
                    self.tally.answered(reason.row().status.unwrap_or_default());
                    self.retire(now, id, Reason::HttpDone);
                }
            }
            Some(Session::Gone) | None => {}
        }
        self.settle(id);
        self.mark_dirty(id.index);
    }
}

impl Hub {
    /// What a burst made large and the next turn will not need.
    pub(crate) fn give_back(&mut self) {
        if self.scratch.capacity() > SCRATCH_KEPT_MAX {
            self.scratch = Vec::new();
        }
        if self.outputs.is_empty() && self.outputs.capacity() > OUTPUTS_KEPT_MAX {
            self.outputs = VecDeque::new();
        }
        if self.intake.begun.is_empty() && self.intake.begun.capacity() > OUTPUTS_KEPT_MAX {
            self.intake.begun = VecDeque::new();
        }
        self.channels.give_back();
    }
}

/// A larger buffer is given back at the end of a turn.
const SCRATCH_KEPT_MAX: usize = 128 * 1024;

/// Longer queues are given back once they are empty.
const OUTPUTS_KEPT_MAX: usize = 1024;

/// Beginnings that may be over before the list is cleared out.
const KEPT: usize = 64;
