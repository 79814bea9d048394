//! What the application sends to connections, and not to a channel.

use super::{
    Hub,
    application::{DirectMessage, Handled, Recipient, Sent},
    connections::Conn,
    output::Output,
    types::{CommandId, ConnId},
};
use crate::{
    config::{Dialect, SlowPolicy},
    protocol::{Envelope, Kind},
    reason::Reason,
    ws::{self, Segment},
};

impl Hub {
    /// The application sends.
    pub(super) fn on_send_command(
        &mut self,
        id: Option<CommandId>,
        to: &Recipient,
        message: &DirectMessage,
    ) {
        let result = self.check_direct(message).map(|()| self.send_direct(to, message));
        self.answer_command(id, result);
    }

    /// A command about connections is done.
    pub(super) fn answer_command(
        &mut self,
        id: Option<CommandId>,
        result: Result<Handled, Reason>,
    ) {
        if let Err(reason) = &result {
            self.env.tally.error(*reason);
        }
        self.outputs.extend(id.map(|id| Output::Handled { id, result }));
    }

    pub(super) fn check_direct(&self, message: &DirectMessage) -> Result<(), Reason> {
        let limits = &self.env.config.limits;
        let (event, data) = (message.event(), message.data());
        if event.is_empty() || event.len() > limits.channels.event_bytes_max {
            Err(Reason::BadPublish)
        } else if data.len() > limits.wire.message_bytes_max {
            Err(Reason::MessageTooBig)
        } else if !data.starts_with('{') {
            Err(Reason::BadPublish)
        } else {
            Ok(())
        }
    }

    fn send_direct(&mut self, to: &Recipient, message: &DirectMessage) -> Handled {
        match to {
            Recipient::Connection(conn) => {
                if !self.is_here(*conn) {
                    return Handled::Gone;
                }
                let (segment, mut sent) = (self.encode_direct(message), Sent::default());
                if !self.give_direct(*conn, &segment, &mut sent) {
                    self.close(*conn, Reason::SlowReader);
                }
                Handled::Sent(sent)
            }
            Recipient::User(user) => Handled::Sent(self.send_to_user(user, message)),
        }
    }

    pub(super) fn send_to_user(&mut self, user: &str, message: &DirectMessage) -> Sent {
        let (mut sent, mut slow) = (Sent::default(), Vec::new());
        let Some(first) = self.connections.next_of(user, None) else { return sent };
        let segment = self.encode_direct(message);
        let mut next = Some(first);
        while let Some(conn) = next {
            if !self.give_direct(conn, &segment, &mut sent) {
                slow.push(conn);
            }
            next = self.connections.next_of(user, Some(conn.index));
        }
        // Only now, for it changes what is the user's.
        for conn in slow {
            self.close(conn, Reason::SlowReader);
        }
        sent
    }

    /// Whether it is a connection of this hub that was welcomed and has not ended.
    pub(super) fn is_here(&self, conn: ConnId) -> bool {
        conn.shard == self.env.place.shard && self.connections.is_active(conn)
    }

    /// The message's frame, in memory that all who get it share.
    fn encode_direct(&mut self, message: &DirectMessage) -> Segment {
        let env = &mut self.env;
        let timestamp = env.timestamp();
        let stamp = env.stamp(&timestamp);
        env.scratch.clear();
        Envelope::direct(stamp, message.event(), message.data()).write(&mut env.scratch);
        let mut frame = Vec::with_capacity(ws::frame_len(env.scratch.len(), false));
        ws::encode_text(&mut frame, &env.scratch);
        let segment = Segment::new(frame, 1, Segment::NO_TAG, 0);
        self.connections.note_segment(&segment);
        segment
    }

    /// Gives a connection the message. False if it has no room and is to be closed for it.
    fn give_direct(&mut self, conn: ConnId, segment: &Segment, sent: &mut Sent) -> bool {
        let speaks = |found: &Conn| found.dialect == Dialect::Family;
        if !self.connections.get(conn).is_some_and(speaks) {
            // Its protocol has no such message.
            return true;
        }
        let env = &mut self.env;
        let max = env.config.limits.delivery.outbox_bytes_max;
        if self.connections.give_aside(conn, segment, max) {
            env.tally.sent(Kind::Event, 1);
            sent.reached += 1;
            return true;
        }
        env.tally.dropped(Reason::SlowReader, 1);
        sent.slow += 1;
        env.config.slow_readers.default != SlowPolicy::Disconnect
    }
}
