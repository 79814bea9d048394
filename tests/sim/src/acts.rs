//! What the application does by itself: it sends to connections, puts them into channels of its own, takes them out, ends
//! them, and hears of all who subscribe.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use mahavishnu_core::{
    hub::{
        Command, CommandId, ConnId, DirectMessage, Disconnect, Handled, Placement, Publication,
        Recipient, Roll, RollPage,
    },
    reason::Reason,
};

use crate::{
    client::{Kind, Phase},
    random::Random,
    swarm::Options,
    world::World,
};

/// What it knows of its connections, and waits for.
#[derive(Debug)]
pub(crate) struct Acts {
    random: Random,
    conns: Vec<ConnId>,
    /// Messages whose outcome it waits for: link and number, by command.
    sent: BTreeMap<u64, (usize, u64)>,
    commands: u64,
    ticks: u64,
}

impl Acts {
    pub(crate) fn new(options: &Options) -> Self {
        let random = Random::new(options.seed, 11);
        Self { random, conns: Vec::new(), sent: BTreeMap::new(), commands: 0, ticks: 0 }
    }

    /// The process has ended.
    pub(crate) fn forget(&mut self) {
        self.conns.clear();
        self.sent.clear();
    }
}

impl World {
    /// The application does something.
    pub(crate) fn app_acts(&mut self) {
        if self.healing || self.acts.conns.is_empty() {
            return;
        }
        let at = self.acts.random.below(self.acts.conns.len() as u64) as usize;
        let conn = self.acts.conns[at];
        match self.acts.random.below(10) {
            0..=4 => {
                for _ in 0..self.acts.random.range(1, 4) {
                    self.send_directly(conn);
                }
            }
            5..=6 if self.options.channels_per_connection > 100 => {
                let (channel, granted) = (self.app_channel(), true);
                let command = Command::Subscribe { id: None, conn, channel, granted };
                self.command_of(conn, command);
            }
            7 => {
                let channel = self.app_channel();
                self.command_of(conn, Command::Unsubscribe { id: None, conn, channel });
            }
            8 if self.acts.random.chance(300) => {
                let (id, whom) = (None, Recipient::Connection(conn));
                let how = Box::new(Disconnect::new(4001, "elsewhere").retry_never());
                self.command_of(conn, Command::Dismiss { id, whom, how });
            }
            8 => {
                let id = self.app_command();
                let command = Command::List { id, of: Roll::Connections, limit: 3, after: None };
                self.command_of(conn, command);
            }
            _ => self.tick(),
        }
    }

    /// From now on clients have what they want and nothing else.
    pub(crate) fn app_heals(&mut self) {
        for conn in self.acts.conns.clone() {
            for channel in APP_CHANNELS {
                let channel = channel.into();
                self.command_of(conn, Command::Unsubscribe { id: None, conn, channel });
            }
        }
    }

    fn send_directly(&mut self, conn: ConnId) {
        let Some(link) = self.nodes[usize::from(conn.shard().0)].links.get(conn.index()) else {
            return;
        };
        let (link, id) = (*link, self.app_command());
        let number = self.oracle.direct(link);
        self.acts.sent.insert(id.0, (link, number));
        let message = DirectMessage::new(DIRECT, &format!("{{\"n\":{number}}}"));
        let to = Recipient::Connection(conn);
        self.command_of(conn, Command::Send { id: Some(id), to, message });
    }

    /// Broadcasts to one of the application's channels.
    fn tick(&mut self) {
        self.acts.ticks += 1;
        let (channel, data) = (self.app_channel(), format!("{{\"n\":{}}}", self.acts.ticks));
        let home = Placement::new(self.place(0)).home(&channel);
        let publication = Publication::new(channel, TICK, Bytes::from(data));
        self.command(usize::from(home.0), Command::Publish { id: None, publication });
    }

    fn app_channel(&mut self) -> Box<str> {
        self.acts.random.pick(&APP_CHANNELS).into()
    }

    fn app_command(&mut self) -> CommandId {
        self.acts.commands += 1;
        CommandId(self.acts.commands)
    }

    fn command_of(&mut self, conn: ConnId, command: Command) {
        self.command(usize::from(conn.shard().0), command);
    }

    pub(crate) fn app_connected(&mut self, conn: ConnId) {
        self.acts.conns.push(conn);
    }

    pub(crate) fn app_disconnected(&mut self, conn: ConnId) {
        self.acts.conns.retain(|known| *known != conn);
        self.oracle.heard_end(conn);
    }

    /// A command about connections was answered.
    pub(crate) fn app_handled(&mut self, id: CommandId, result: &Result<Handled, Reason>) {
        self.digest.number(u64::from(result.is_ok()));
        match (self.acts.sent.remove(&id.0), result) {
            (Some((link, number)), Ok(Handled::Sent(sent))) => {
                self.oracle.direct_told(link, number, Some(*sent));
            }
            (Some((link, number)), Ok(Handled::Gone)) => {
                self.oracle.direct_told(link, number, None);
            }
            (None, Ok(Handled::Listed(page))) => {
                let RollPage { total, connections, next, .. } = &**page;
                let whole = connections.len() as u64 == (*total).min(3);
                if !whole || next.is_some() != (*total > 3) {
                    self.oracle.fail("answers", || format!("a list is not whole: {page:?}"));
                }
            }
            (sent, other) => {
                self.oracle.fail("answers", || format!("{sent:?} was answered by {other:?}"));
            }
        }
    }

    /// What the application has heard is what clients were told, and what was sent has come.
    pub(crate) fn check_heard(&mut self) {
        for client in &self.clients {
            let Some(link) = client.link.filter(|_| client.phase == Phase::Open) else { continue };
            let Some(conn) = self.links[link].conn else { continue };
            if !client.is_good() || client.kind == Kind::Poster || !client.pending.is_empty() {
                continue;
            }
            self.oracle.direct_owed(link, client.index);
            if self.options.hears == 0 {
                continue;
            }
            let on = (0..self.options.channels).filter(|at| client.members[*at as usize].on);
            let told: BTreeSet<String> = on.map(|at| self.oracle.name(at).to_owned()).collect();
            let told: BTreeSet<&str> =
                told.iter().chain(client.granted.keys()).map(String::as_str).collect();
            let heard = self.oracle.heard_of(conn);
            if heard != told {
                let what =
                    format!("client {} is told {told:?}, the application {heard:?}", client.index);
                return self.oracle.fail("heard", || what);
            }
        }
    }
}

/// What it sends to connections.
pub(crate) const DIRECT: &str = "app.direct";

/// What it sends to channels of its own.
pub(crate) const TICK: &str = "app.tick";

const APP_CHANNELS: [&str; 2] = ["app:a", "app:b"];
