//! The end of a connection: what it takes part in ends at once, its socket in its own time.

use super::{Connections, Phase};
use crate::{
    hub::{
        application::Disconnect,
        env::Env,
        session_buddy,
        types::ConnId,
        visitors::{Entered, Who, network},
    },
    reason::{Counted, Reason},
    ws::CloseWhen,
};

/// What follows from the end of a connection outside its department.
#[derive(Debug)]
pub(in crate::hub) struct Ended {
    /// It was a WebSocket connection that counts.
    pub(in crate::hub) open: bool,
    /// It had been welcomed.
    pub(in crate::hub) active: bool,
    /// As whom it was counted.
    pub(in crate::hub) left: [Option<Who>; 3],
}

impl Connections {
    /// Begins the close handshake of a WebSocket connection (RFC 6455 §7.1.2). [`retire`](Self::retire) has to follow.
    pub(in crate::hub) fn close(&mut self, env: &Env, id: ConnId, reason: Reason, when: CloseWhen) {
        if let Some(conn) = self.edit(id) {
            match session_buddy::farewell(conn.dialect, reason) {
                None => conn.ws.close(env.now, reason, when),
                Some((code, text)) => conn.ws.close_as(env.now, reason, code, text, when),
            }
            self.mark_dirty(id.index);
        }
    }

    /// The same with a code and a text of the application's.
    pub(in crate::hub) fn close_as(&mut self, env: &Env, id: ConnId, how: &Disconnect) {
        let when = if how.at_once { CloseWhen::AtOnce } else { CloseWhen::AfterData };
        if let Some(conn) = self.edit(id) {
            conn.ws.close_with(env.now, how.code, &how.text, when);
            self.mark_dirty(id.index);
        }
    }

    /// Gives a connection up without a word: its socket goes with the turn's flushes. [`retire`](Self::retire) has to
    /// follow.
    pub(in crate::hub) fn abandon(&mut self, env: &Env, id: ConnId, reason: Reason) {
        self.stop_handshake(id);
        let Some(conn) = self.edit(id) else { return };
        conn.ws.give_up(env.now, reason);
        self.eviction.leave(&mut self.slots, id.index);
        self.mark_dirty(id.index);
    }

    /// The connection takes no further part: no deadline of the hub's, no gaps to be told of, no count. `None` if that was
    /// so before.
    pub(in crate::hub) fn retire(
        &mut self,
        env: &mut Env,
        id: ConnId,
        reason: Reason,
    ) -> Option<Ended> {
        if self.is_active(id) {
            self.unlist_user(id);
        }
        let conn = self.edit_if(id, |conn| conn.phase != Phase::Gone)?;
        let was = std::mem::replace(&mut conn.phase, Phase::Gone);
        if let Some(rare) = conn.rare_if_any() {
            rare.deadline = None;
        }
        conn.take_gaps();
        let row = reason.row();
        let ip = conn.ip;
        match was {
            Phase::Gone => {}
            Phase::Http => match row.status {
                // Accepted, only to be told why it may not stay.
                _ if row.close.is_some() => env.tally.closed(reason),
                Some(status) => env.tally.answered(status),
                None => {}
            },
            Phase::Unauthenticated { .. } | Phase::Active => env.tally.closed(reason),
        }
        if matches!(row.counted, Counted::Connection(_)) {
            env.tally.error_of(reason, Some(ip), None);
        }
        let active = was == Phase::Active;
        env.tally.active -= i64::from(active);
        let everyone = conn.entered.take(Entered::EVERYONE).then_some(Who::Everyone);
        let address = conn.entered.take(Entered::ADDRESS).then(|| Who::Address(network(conn.ip)));
        let user = conn.exit_as_user();
        Some(Ended { open: was.is_open(), active, left: [everyone, address, user] })
    }

    /// The socket is gone. What was still queued did not reach the peer. False if it was gone before.
    pub(in crate::hub) fn remove(&mut self, env: &mut Env, id: ConnId) -> bool {
        if self.get(id).is_none() {
            return false;
        }
        self.eviction.forget(&mut self.slots, id.index);
        let Some(conn) = self.slots.remove(id.index) else { return false };
        self.handshakes.forget(&conn.transport);
        self.partial.forget(conn.extras.get().partial);
        self.backlog.forget(&mut self.slots, conn.extras.get().backlog);
        let lost = conn.ws.messages_dropped() + conn.ws.outbox().messages();
        env.tally.undelivered(conn.ws.reason().unwrap_or(Reason::Io), u64::from(lost));
        true
    }
}
