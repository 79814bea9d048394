//! What the application has to do with who subscribes: it puts connections into channels and takes them out, and hears of
//! all who come and go.

use std::sync::Arc;

use super::{
    Hub,
    application::{Handled, Leave},
    attending::Wishes,
    channels::Joined,
    connections::AnswerTo,
    output::Output,
    presence::Why,
    types::{CommandId, ConnId},
};
use crate::{auth::Verb, protocol, reason::Reason};

impl Hub {
    /// The application wants a connection to be a subscriber.
    pub(super) fn on_subscribe_command(
        &mut self,
        id: Option<CommandId>,
        conn: ConnId,
        channel: &str,
        granted: bool,
    ) {
        if let Err(reason) = self.check_channel(channel) {
            return self.answer_command(id, Err(reason));
        }
        if !self.is_here(conn) {
            return self.answer_command(id, Ok(Handled::Gone));
        }
        let config = &self.env.config;
        let found = self.connections.get(conn);
        let may = || found.is_some_and(|found| found.may(config, Verb::Subscribe, channel));
        if !granted && !may() {
            return self.answer_command(id, Err(Reason::SubscribeForbidden));
        }
        let answer = AnswerTo::of_application(id, granted);
        self.subscribe(conn, channel, answer, Wishes::default());
    }

    /// The application wants a connection to be no subscriber.
    pub(super) fn on_unsubscribe_command(
        &mut self,
        id: Option<CommandId>,
        conn: ConnId,
        channel: &str,
    ) {
        if let Err(reason) = self.check_channel(channel) {
            return self.answer_command(id, Err(reason));
        }
        if !self.is_here(conn) {
            return self.answer_command(id, Ok(Handled::Gone));
        }
        let index = self.channels.find(channel);
        // One of a session whose client was not told yet.
        let held = index.is_some_and(|index| self.channels.is_held(index, conn));
        self.drop_from_resumption(conn, channel);
        let was = self.take_out(conn, channel, Why::Left, Leave::Application);
        if was && !held {
            self.connections.send_withdrawn(&mut self.env, conn, channel, "application");
            self.env.tally.withdrawn += 1;
        }
        self.answer_changed(id, conn, was);
    }

    fn check_channel(&self, channel: &str) -> Result<(), Reason> {
        let max = self.env.config.limits.channels.channel_bytes_max;
        if protocol::channel_is_valid(channel, max) { Ok(()) } else { Err(Reason::InvalidChannel) }
    }

    /// The home has added a connection for the application, or it was there already.
    pub(super) fn answer_joining(
        &mut self,
        command: Option<CommandId>,
        conn: ConnId,
        channel: &str,
        added: bool,
    ) {
        if added {
            self.connections.send_subscribed(&mut self.env, conn, channel);
        }
        self.answer_changed(command, conn, added);
    }

    /// Whether a connection has come or gone is known.
    pub(super) fn answer_changed(
        &mut self,
        command: Option<CommandId>,
        conn: ConnId,
        changed: bool,
    ) {
        let handled = match self.connections.is_active(conn) {
            true => Handled::Changed(changed),
            false => Handled::Gone,
        };
        self.answer_command(command, Ok(handled));
    }
}

/// Only if the application wants to hear of it.
impl Hub {
    /// What came of a subscription, of a connection that was in the channel `before` or was not.
    #[cold]
    pub(super) fn tell_joined(&mut self, conn: ConnId, name: &str, before: bool, joined: &Joined) {
        let channel: Arc<str> = name.into();
        if joined.added && !before {
            self.outputs.push_back(Output::Subscribed { conn, channel });
        } else if before && !joined.added {
            let refused = joined.answer.as_ref().and_then(|(_, result)| result.err());
            let leave = refused.map_or(Leave::Client, Leave::Refused);
            self.outputs.push_back(Output::Unsubscribed { conn, channel, leave });
        }
    }

    /// A connection ends: it leaves all of its channels.
    #[cold]
    pub(super) fn tell_of_last(&mut self, conn: ConnId, reason: Reason) {
        let Some(found) = self.connections.get(conn) else { return };
        for channel in self.channels.names_of(found) {
            let leave = Leave::Ended(reason);
            self.outputs.push_back(Output::Unsubscribed { conn, channel, leave });
        }
    }
}
