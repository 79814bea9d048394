//! Sessions on several nodes: what the homes of sessions and the bus tell each other, and what follows from that for the
//! connections here.

use std::time::Duration;

use super::{
    Hub,
    bus::{BusError, CallId, SessionAnswer, SessionHeld, Writer},
    errands::Asker,
    nodes::{NodesMessage, Order, Whom},
    output::Output,
    peers::Inner,
    sessions::{About, Outcome, Taken},
    store::SessionId,
    types::{CommandId, ConnId, Published, ShardId, Whose},
    visitors::Who,
};
use crate::reason::Reason;

/// Towards the bus.
impl Hub {
    /// Whether sessions are those of all nodes.
    pub(super) fn shares_sessions(&self) -> bool {
        self.env.config.bus.is_some()
    }

    /// Why nothing can be promised about a session at present, if so.
    pub(super) fn may_keep(&self) -> Result<(), Reason> {
        let promises = !self.shares_sessions() || self.sessions.is_bus_willing();
        if promises { Ok(()) } else { Err(Reason::BusAway) }
    }

    /// A session is kept, or is not. What is kept by the bus is said when the bus has it.
    pub(super) fn answer_kept(
        &mut self,
        session: SessionId,
        conn: ConnId,
        kept: Result<Duration, Reason>,
    ) {
        if kept.is_ok() && self.shares_sessions() {
            self.sessions.answer_later(&self.env, session);
        } else {
            self.tell_host(session, conn, About::Kept(kept));
        }
    }

    /// A connection wants a session, whatever node has it.
    pub(super) fn claim_session(&mut self, session: SessionId, conn: ConnId, who: Who) {
        let (env, calls) = (&self.env, &mut self.calls);
        if let Some(resume) = self.sessions.claim(env, calls, session, (conn, who)) {
            self.tell_resumed(session, conn, resume);
        }
    }

    /// Tells the bus how sessions have changed in this turn.
    pub(super) fn share_sessions(&mut self) {
        self.sessions.tell_bus(&self.env, &mut self.calls);
    }
}

/// From the bus.
impl Hub {
    /// What became of sessions.
    pub(super) fn hear_of_session(&mut self, id: CallId, result: &Result<SessionAnswer, BusError>) {
        let (env, calls) = (&mut self.env, &mut self.calls);
        let result = result.as_ref().map_err(|error| *error);
        let outcomes = self.sessions.on_bus_answer(env, calls, id, result);
        self.on_session_outcomes(outcomes);
    }

    pub(super) fn on_session_outcomes(&mut self, outcomes: Vec<Outcome>) {
        for outcome in outcomes {
            match outcome {
                Outcome::Kept(session, conn, result) => {
                    self.tell_host(session, conn, About::Kept(result));
                }
                Outcome::Resumed(session, conn, resume) => {
                    self.tell_resumed(session, conn, resume);
                }
                Outcome::Taken(taken) => self.on_session_taken(taken),
                Outcome::Tell(to, held) => self.nodes.tell_claimed(&mut self.calls, to, held),
            }
        }
    }

    /// At the first hub: another node has claimed a session that a hub of this process had.
    pub(super) fn pass_claimed(&mut self, to: Writer, held: SessionHeld) {
        let place = self.env.place;
        if to.node == place.node() && to.shard < place.shards {
            let claimed = NodesMessage::Claimed(held);
            self.tell(ShardId(to.shard), Inner::Nodes(Box::new(claimed)));
        }
    }

    /// At the session's home here.
    pub(super) fn on_session_claimed(&mut self, held: SessionHeld) {
        if let Some(taken) = self.sessions.on_claimed_elsewhere(&mut self.env, held) {
            self.on_session_taken(taken);
        }
    }

    /// A session is another node's from now on: who has it here is to go. Its places in channels stay as long as those of a
    /// session that waits, so that nobody is told that its client has left while it is on another node.
    fn on_session_taken(&mut self, taken: Taken) {
        let Taken { session, conns, .. } = taken;
        for conn in conns {
            self.tell_host(session, conn, About::LetGo);
        }
    }
}

/// Ending them on all nodes.
impl Hub {
    /// The application ends sessions. The first hub has it done by all hubs of all nodes.
    pub(super) fn end_sessions_everywhere(&mut self, id: Option<CommandId>, of: &Whose) {
        let whom = match of {
            Whose::Everybody => None,
            Whose::User(user) => Some(Whom::User((&**user).into())),
            Whose::Client(id) => Some(Whom::Connection(*id)),
        };
        if let Some(of) = whom.clone().filter(|_| self.is_first()) {
            let begun_by = self.env.now.unix;
            return self.give(Asker::Command(id), None, Order::EndSessions { of, begun_by });
        }
        let here = whom.is_none();
        let subscribers = if here { self.end_sessions(of, Duration::MAX) } else { 0 };
        if let Some(id) = id {
            let result = Ok(Published { subscribers, ..Published::default() });
            self.outputs.push_back(Output::Done { id, result });
        }
    }

    /// All hubs of all nodes end sessions that had begun by a moment. How many were here.
    pub(super) fn obey_end_sessions(&mut self, of: &Whom, begun_by: Duration) -> u32 {
        let of = match of {
            Whom::User(user) => Whose::User((&**user).into()),
            Whom::Connection(id) => Whose::Client(*id),
        };
        self.sessions.remember_end(&self.env, &of, begun_by);
        self.end_sessions(&of, begun_by)
    }
}
