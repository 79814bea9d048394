//! What the application does to connections. It has no words of its own in a script: numbers that said the same as smaller
//! ones stand for it, so that scripts from before stay what they are, but for those.

use std::{collections::BTreeSet, time::Duration};

use mahavishnu_core::{
    hub::{
        Command, CommandId, ConnId, DirectMessage, Disconnect, Handled, Recipient, Roll, RollPage,
    },
    reason::Reason,
};

use super::rig::{Rig, channel_name};

/// What was sent, and what is not answered yet.
#[derive(Debug, Default)]
pub(super) struct Direct {
    sent: u64,
    open: BTreeSet<u64>,
}

impl Direct {
    fn id(&mut self) -> CommandId {
        self.sent += 1;
        self.open.insert(self.sent);
        CommandId(self.sent)
    }

    pub(super) fn is_answered(&self) -> bool {
        self.open.is_empty()
    }
}

impl Rig {
    /// Something about the connection `which`, or one's users. `asked` says what.
    pub(super) fn act(&mut self, which: u8, asked: u8, wide: bool) {
        let Some(conn) = self.pick(which) else { return };
        let id = self.direct.id();
        let channel = channel_name(asked / 8);
        let command = match asked % 8 {
            0 | 1 => self.letter(id, Recipient::Connection(conn), wide),
            2 => self.letter(id, Recipient::User(["ada", "rob"][usize::from(wide)].into()), wide),
            3 | 4 => {
                let (id, channel) = (Some(id), channel.into());
                Command::Subscribe { id, conn, channel, granted: asked % 8 == 3 }
            }
            5 | 6 => Command::Unsubscribe { id: Some(id), conn, channel: channel.into() },
            _ => {
                let of = match asked / 8 % 4 {
                    0 => Roll::Connections,
                    1 => Roll::User("ada".into()),
                    2 => Roll::Subscribers(channel.into()),
                    _ => Roll::Channels,
                };
                Command::List { id, of, limit: 2, after: wide.then_some(1) }
            }
        };
        let now = self.now;
        self.hub(conn).handle_command(now, command);
    }

    fn letter(&self, id: CommandId, to: Recipient, wide: bool) -> Command {
        let pad = if wide { "x".repeat(700) } else { String::new() };
        let data = format!("{{\"n\":{},\"pad\":\"{pad}\"}}", id.0);
        Command::Send { id: Some(id), to, message: DirectMessage::new("direct", &data) }
    }

    /// Ends a connection in words of the application's, or tries to.
    pub(super) fn dismiss(&mut self, conn: ConnId, how: u8) {
        let words = Disconnect::new(3990 + u16::from(how), "so long");
        let words = match how % 4 {
            0 => words.retry_never(),
            1 => words.retry_after(Duration::from_millis(u64::from(how) * 100)),
            2 => words.at_once(),
            _ => Disconnect { code: u16::from(how) * 30, ..words },
        };
        let whom = Recipient::Connection(conn);
        let now = self.now;
        let command = Command::Dismiss { id: None, whom, how: Box::new(words) };
        self.hub(conn).handle_command(now, command);
    }

    pub(super) fn on_handled(
        &mut self,
        shard: usize,
        id: CommandId,
        result: &Result<Handled, Reason>,
    ) {
        assert!(self.direct.open.remove(&id.0), "answered twice");
        if let Ok(Handled::Listed(page)) = result {
            let RollPage { connections, channels, .. } = &**page;
            assert!(connections.len() + channels.len() <= 2, "more than was asked for");
            let here = |conn: ConnId| usize::from(conn.shard().0) == shard;
            assert!(connections.iter().all(|one| here(one.conn)), "of another hub");
        }
    }
}
