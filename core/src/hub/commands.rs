//! What the application or the operator wants: which department does it.

use super::{Hub, connections::Phase, http as answers, output::Output, types::Command};
use crate::reason::Reason;

impl Hub {
    pub(super) fn on_command(&mut self, command: Command) {
        match command {
            Command::Publish { id, publication } => self.on_publish_command(id, publication),
            Command::Reply { id, result } => self.on_reply(id, result),
            Command::Decide { id, allow } => self.on_decision(id, allow),
            Command::Authenticated { id, outcome } => self.on_authenticated(id, outcome),
            Command::Exposition { conn: _, text } => {
                for conn in self.scrapes.take() {
                    self.respond(conn, answers::exposition(text.clone()));
                }
            }
            Command::Statistics(data) => self.tell_statistics(&data),
            Command::Failed(handler) => self.on_failed(handler),
            Command::Backlog(backlog) => self.questions.set_backlog(backlog),
            Command::Look { id, channel, look } => self.on_look_command(id, channel, look),
            Command::Sessions { id, of, limit, after } => {
                let page = self.sessions.page(&self.env, &of, limit, after);
                self.outputs.push_back(Output::Sessions { id, page });
            }
            Command::EndSessions { id, of } => self.on_end_sessions(id, &of),
            Command::Disconnect { conn } => {
                let here = conn.shard == self.env.place.shard;
                let found = self.connections.get(conn);
                if here && found.is_some_and(|found| found.phase != Phase::Http) {
                    self.close(conn, Reason::Disconnected);
                }
            }
            Command::Revoke { id, revocation } => self.on_revoke_command(id, revocation),
            Command::Reload(config) => self.on_reload(config),
            Command::Drain(plan) => self.on_drain(plan),
            Command::Send { id, to, message } => self.on_send_command(id, &to, &message),
            Command::SendEverywhere { id, user, message } => {
                self.on_send_everywhere(id, user, message);
            }
            Command::Subscribe { id, conn, channel, granted } => {
                self.on_subscribe_command(id, conn, &channel, granted);
            }
            Command::Unsubscribe { id, conn, channel } => {
                self.on_unsubscribe_command(id, conn, &channel);
            }
            Command::Dismiss { id, whom, how } => self.on_dismiss_command(id, whom, how),
            Command::List { id, of, limit, after } => self.on_list_command(id, &of, limit, after),
        }
    }
}
