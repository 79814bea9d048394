//! When something is due about a connection.

#[cfg(debug_assertions)]
use super::Conn;
use super::Connections;
use crate::{
    hub::{env::Env, types::ConnId},
    time::{Instant, Tick},
    ws::Event,
};

/// A connection whose deadline has come.
#[derive(Debug)]
pub(in crate::hub) struct Due {
    pub(in crate::hub) id: ConnId,
    /// What its protocol makes of it.
    pub(in crate::hub) event: Option<Event<'static>>,
    /// The hub's own deadline for it has come.
    pub(in crate::hub) own: bool,
    /// Its protocol's has: it may have something to write.
    pub(in crate::hub) protocol: bool,
}

impl Connections {
    /// When the next deadline comes; it may turn out to have been replaced.
    pub(in crate::hub) fn next_deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Whether the next deadline is that of a protocol (RFC 6455 and HTTP) or the hub's own.
    pub(in crate::hub) fn is_next_deadline_own(&self, env: &Env) -> bool {
        let next = self.timers.peek().and_then(|(at, index)| Some((at, self.slots.get(index)?)));
        let own = next.and_then(|(at, conn)| Some((at, conn.rare().deadline?)));
        // Entries are kept in whole nanoseconds since the start, as `arm` keeps them.
        own.is_some_and(|(at, own)| Tick::new(env.started, own) <= Tick::new(env.started, at))
    }

    /// Entries of the timer heap.
    pub(in crate::hub) fn timers(&self) -> usize {
        self.timers.len()
    }

    /// The next connection of which something is due by `until`.
    pub(in crate::hub) fn take_due(&mut self, env: &Env, until: Instant) -> Option<Due> {
        while let Some((at, index)) = self.timers.pop_due(until) {
            let armed = Some(Tick::new(env.started, at));
            let Some(id) = self.id_at(index) else { continue };
            if self.slots.get(index).is_none_or(|conn| conn.armed != armed) {
                continue;
            }
            let Some(conn) = self.edit(id) else { continue };
            conn.armed = None;
            let (now, limits) = (env.now, &env.config.limits.wire);
            let own = conn.rare_if_any().is_some_and(|rare| {
                rare.deadline.take_if(|deadline| *deadline <= now.mono).is_some()
            });
            let due = conn.ws.poll_timeout(limits).is_some_and(|deadline| deadline <= now.mono);
            let event = if due { conn.ws.handle_timeout(now, limits) } else { None };
            return Some(Due { id, event, own, protocol: due });
        }
        None
    }

    /// Sets the timer of a connection, if its next deadline is nearer than the one that is believed in.
    pub(super) fn arm(&mut self, env: &Env, index: u32) {
        let Some(conn) = self.slots.get_mut(index) else { return };
        let own = conn.extras.get().deadline;
        let protocol = conn.ws.poll_timeout(&env.config.limits.wire);
        let Some(at) = own.into_iter().chain(protocol).min() else { return };
        let tick = Tick::new(env.started, at);
        if conn.armed.is_none_or(|armed| tick < armed) {
            conn.armed = Some(tick);
            self.timers.arm(at, index);
        }
    }

    #[cfg(debug_assertions)]
    pub(super) fn next_deadline_of(&self, env: &Env, conn: &Conn) -> Option<Tick> {
        let protocol = conn.ws.poll_timeout(&env.config.limits.wire);
        let at = conn.extras.get().deadline.into_iter().chain(protocol).min();
        at.map(|at| Tick::new(env.started, at))
    }

    /// Entries that were armed again or whose connection is gone stay in the heap; too many of them are cleared out.
    pub(in crate::hub) fn compact_timers(&mut self, env: &Env) {
        let (slots, start) = (&self.slots, env.started);
        self.timers.compact(slots.len(), |at, index| {
            slots.get(index).is_some_and(|conn| conn.armed == Some(Tick::new(start, at)))
        });
    }
}
