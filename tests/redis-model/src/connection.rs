//! A server's side of a connection.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use crate::reply::{Protocol, Reply};

/// Names a connection, over restarts of its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnId(pub(crate) u64);

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection {
    /// What `CLIENT ID` says: from 1 after each start of the server.
    pub(crate) number: u64,
    pub(crate) peer: SocketAddr,
    pub(crate) name: Vec<u8>,
    pub(crate) database: usize,
    pub(crate) protocol: Protocol,
    /// As whom it is authenticated.
    pub(crate) user: Option<String>,
    pub(crate) channels: BTreeSet<Vec<u8>>,
    /// Came, and is no command yet or waits.
    pub(crate) input: Vec<u8>,
    /// To be taken.
    pub(crate) output: Vec<u8>,
    /// No more commands are read, and what is to be taken is the last.
    pub(crate) closing: bool,
    /// The peer closed it while the server was paused.
    pub(crate) left: bool,
    /// Since when its output is over the soft limit.
    pub(crate) swollen: Option<Duration>,
}

impl Connection {
    pub(crate) fn new(number: u64, peer: SocketAddr, user: Option<String>) -> Self {
        Self {
            number,
            peer,
            name: Vec::new(),
            database: 0,
            protocol: Protocol::Resp2,
            user,
            channels: BTreeSet::new(),
            input: Vec::new(),
            output: Vec::new(),
            closing: false,
            left: false,
            swollen: None,
        }
    }

    pub(crate) fn write(&mut self, reply: &Reply) {
        reply.write(self.protocol, &mut self.output);
    }

    /// The server closes it, and what was to be sent is lost.
    pub(crate) fn cut(&mut self) {
        self.closing = true;
        self.input.clear();
        self.output.clear();
    }

    /// As `CLIENT INFO` has it; Redis has more fields.
    pub(crate) fn info(&self) -> String {
        format!(
            "id={} addr={} laddr=127.0.0.1:6379 fd=8 name={} age=0 idle=0 flags={} db={} sub=0 psub=0 ssub={} \
             cmd=client|info user={} resp={}\n",
            self.number,
            self.peer,
            String::from_utf8_lossy(&self.name),
            if self.channels.is_empty() { 'N' } else { 'P' },
            self.database,
            self.channels.len(),
            self.user.as_deref().unwrap_or_default(),
            if self.protocol == Protocol::Resp3 { 3 } else { 2 },
        )
    }
}

/// From which size of unsent output a connection with subscriptions is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputLimit {
    /// At once beyond so many bytes; 0: never.
    pub hard: usize,
    /// Beyond so many bytes for `time`; 0: never.
    pub soft: usize,
    /// See `soft`.
    pub time: Duration,
}

impl Default for OutputLimit {
    /// What Redis has by default: 32 MiB, and 8 MiB for a minute.
    fn default() -> Self {
        Self { hard: 32 << 20, soft: 8 << 20, time: Duration::from_mins(1) }
    }
}
