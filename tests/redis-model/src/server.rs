//! A server: its connections, and what runs when.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use crate::{
    command::keys_match,
    connection::{ConnId, Connection, OutputLimit},
    front,
    reply::Reply,
    request::{self, Request},
    script::Scripts,
    store::{Effect, Store},
    version::Version,
};

/// A server.
///
/// Time is that of the caller's world, since its beginning, and never goes backwards; the server's own clock is ahead
/// of it by a constant, until it [jumps](Self::jump_clock).
#[derive(Debug)]
pub struct Redis {
    version: Version,
    pub(crate) pushes_first: bool,
    pub(crate) store: Store,
    pub(crate) scripts: Scripts,
    pub(crate) connections: BTreeMap<ConnId, Connection>,
    next_connection: u64,
    pub(crate) next_number: u64,
    /// Users and passwords. A user without one needs none.
    pub(crate) users: BTreeMap<String, Option<String>>,
    pub(crate) config: BTreeMap<String, String>,
    pub(crate) output_limit: OutputLimit,
    pub(crate) clients_max: usize,
    /// What it has changed, for replicas: the effects of a command are one.
    pub(crate) written: Vec<Vec<Effect>>,
    /// It does nothing, and these have sent something or left, in this order.
    pub(crate) paused: Option<VecDeque<ConnId>>,
    /// It takes connections.
    pub(crate) running: bool,
    /// It is a Sentinel, and knows these primaries.
    pub(crate) sentinel: Option<BTreeMap<String, SocketAddr>>,
}

impl Redis {
    /// An empty one that runs.
    pub fn new(version: Version) -> Self {
        let config = [
            ("maxmemory", "0".to_owned()),
            ("maxmemory-policy", "noeviction".to_owned()),
            ("appendonly", "no".to_owned()),
        ];
        Self {
            version,
            pushes_first: version.pushes_first(),
            store: Store::new(version.numbers()),
            scripts: Scripts::new(),
            connections: BTreeMap::new(),
            next_connection: 1,
            next_number: 1,
            users: BTreeMap::from([("default".into(), None)]),
            config: config.map(|(name, value)| (name.to_owned(), value)).into(),
            output_limit: OutputLimit::default(),
            clients_max: 10_000,
            written: Vec::new(),
            paused: None,
            running: true,
            sentinel: None,
        }
    }

    /// A Sentinel that knows no primary. It hears of one by [`set_primary`](Self::set_primary) alone.
    pub fn new_sentinel(version: Version) -> Self {
        Self { sentinel: Some(BTreeMap::new()), ..Self::new(version) }
    }

    /// The commands that it knows, those of a container as `client|id`.
    pub fn commands() -> impl Iterator<Item = &'static str> {
        crate::command::names().chain(front::names())
    }

    /// Which it is.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Somebody at this address connects. `None`: refused, as nobody listens.
    pub fn connect(&mut self, now: Duration, peer: SocketAddr) -> Option<ConnId> {
        self.store.clock.set(now);
        if !self.running {
            return None;
        }
        let id = ConnId(self.next_connection);
        self.next_connection += 1;
        let free = self.users.get("default").is_some_and(Option::is_none);
        let user = free.then(|| "default".to_owned());
        let mut connection = Connection::new(self.next_number, peer, user);
        self.next_number += 1;
        let open = self.connections.values().filter(|it| !it.closing).count();
        if open >= self.clients_max {
            connection.write(&Reply::Error("ERR max number of clients reached".into()));
            connection.closing = true;
        }
        self.connections.insert(id, connection);
        Some(id)
    }

    /// Bytes come on a connection. What is a whole command is executed, unless the server is [paused](Self::pause).
    pub fn receive(&mut self, now: Duration, id: ConnId, bytes: &[u8]) {
        self.store.clock.set(now);
        let Some(connection) = self.connections.get_mut(&id).filter(|it| !it.closing) else {
            return;
        };
        connection.input.extend_from_slice(bytes);
        match &mut self.paused {
            Some(waiting) => waiting.push_back(id),
            None => self.read(id),
        }
        self.cut_swollen();
    }

    /// What the server has sent on a connection since it was last asked.
    pub fn take(&mut self, id: ConnId) -> Vec<u8> {
        let Some(connection) = self.connections.get_mut(&id) else { return Vec::new() };
        let bytes = std::mem::take(&mut connection.output);
        connection.swollen = None;
        if connection.closing {
            self.forget(id);
        }
        bytes
    }

    /// At most so many bytes of it: what stays counts against the [limit](Self::set_output_limit).
    pub fn take_some(&mut self, id: ConnId, most: usize) -> Vec<u8> {
        let Some(connection) = self.connections.get_mut(&id) else { return Vec::new() };
        if connection.output.len() <= most {
            return self.take(id);
        }
        let rest = connection.output.split_off(most);
        std::mem::replace(&mut connection.output, rest)
    }

    /// The server has closed this connection, and all that it had sent is [taken](Self::take).
    pub fn has_closed(&mut self, id: ConnId) -> bool {
        let over = self.connections.get(&id).is_none_or(|it| it.closing && it.output.is_empty());
        if over {
            self.forget(id);
        }
        over
    }

    /// The other side has closed the connection. What came before is executed all the same, also while the server is
    /// paused.
    pub fn closed(&mut self, now: Duration, id: ConnId) {
        self.store.clock.set(now);
        match (&mut self.paused, self.connections.get_mut(&id)) {
            (Some(waiting), Some(connection)) => {
                connection.left = true;
                waiting.push_back(id);
            }
            _ => self.forget(id),
        }
    }

    /// The other side has reset the connection: what waited to be read is lost.
    pub fn reset(&mut self, now: Duration, id: ConnId) {
        self.store.clock.set(now);
        self.forget(id);
    }

    /// What takes time may be over.
    pub fn pass(&mut self, now: Duration) {
        self.store.clock.set(now);
        self.cut_swollen();
    }

    /// Executes what has come on a connection.
    pub(crate) fn read(&mut self, id: ConnId) {
        while let Some(connection) = self.connections.get_mut(&id).filter(|it| !it.closing) {
            match request::parse(&connection.input) {
                Request::Partial => break,
                Request::Command(words, length) => {
                    connection.input.drain(..length);
                    if !words.is_empty() {
                        self.execute(id, &words);
                    }
                }
                Request::Malformed(why) => {
                    connection.write(&Reply::Error(format!("ERR Protocol error: {why}")));
                    connection.closing = true;
                }
            }
        }
        if self.connections.get(&id).is_some_and(|it| it.left) {
            self.forget(id);
        }
    }

    fn execute(&mut self, id: ConnId, words: &[Vec<u8>]) {
        let spoken = front::execute(self, id, words);
        let effects = std::mem::take(&mut self.store.effects);
        if !effects.is_empty() {
            self.written.push(effects);
        }
        let messages = std::mem::take(&mut self.store.messages);
        let first = self.pushes_first;
        if first {
            self.deliver(&messages, |to| to == id);
        }
        let reply = spoken.unwrap_or_else(|text| Some(Reply::Error(text)));
        if let (Some(reply), Some(connection)) = (reply, self.connections.get_mut(&id)) {
            connection.write(&reply);
        }
        self.deliver(&messages, |to| to != id || !first);
    }

    /// Hands messages to those who listen.
    pub(crate) fn deliver(
        &mut self,
        messages: &[crate::store::Message],
        to: impl Fn(ConnId) -> bool,
    ) {
        for message in messages {
            let Some(listeners) = self.store.listeners.get(&message.channel) else { continue };
            let push = Reply::Push(vec![
                Reply::bulk("smessage"),
                Reply::bulk(&message.channel),
                Reply::bulk(&message.body),
            ]);
            for id in listeners.iter().filter(|id| to(**id)) {
                if let Some(connection) = self.connections.get_mut(id).filter(|it| !it.closing) {
                    connection.write(&push);
                }
            }
        }
    }

    /// Cuts connections that take too little of what they asked to be sent.
    fn cut_swollen(&mut self) {
        let (now, limit) = (self.store.clock.now(), self.output_limit);
        let mut cut = Vec::new();
        for (id, connection) in &mut self.connections {
            let size = connection.output.len();
            if connection.channels.is_empty() || connection.closing {
                continue;
            }
            if limit.soft == 0 || size <= limit.soft {
                connection.swollen = None;
            } else {
                let since = *connection.swollen.get_or_insert(now);
                if now.saturating_sub(since) > limit.time {
                    cut.push(*id);
                }
            }
            if limit.hard != 0 && size > limit.hard {
                cut.push(*id);
            }
        }
        for id in cut {
            self.cut(id);
        }
    }

    /// The server closes a connection; what it had not sent is lost.
    pub(crate) fn cut(&mut self, id: ConnId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.cut();
        let channels = std::mem::take(&mut connection.channels);
        for channel in channels {
            self.silence(id, &channel);
        }
    }

    /// The connection is over.
    fn forget(&mut self, id: ConnId) {
        self.cut(id);
        self.connections.remove(&id);
    }

    /// The connection hears no more of a channel.
    pub(crate) fn unlisten(&mut self, id: ConnId, channel: &[u8]) {
        self.connection_mut(id).channels.remove(channel);
        self.silence(id, channel);
    }

    fn silence(&mut self, id: ConnId, channel: &[u8]) {
        if let Some(listeners) = self.store.listeners.get_mut(channel) {
            listeners.remove(&id);
            if listeners.is_empty() {
                self.store.listeners.remove(channel);
            }
        }
    }

    /// Cuts all connections like this. `own` is who asks: spared, or the last to go, once it has its answer.
    pub(crate) fn kill_where(
        &mut self,
        own: ConnId,
        spare: bool,
        wanted: impl Fn(&Connection) -> bool,
    ) -> usize {
        let found: Vec<ConnId> = self
            .connections
            .iter()
            .filter(|(id, one)| !(one.closing || spare && **id == own) && wanted(one))
            .map(|(id, _)| *id)
            .collect();
        for id in &found {
            if *id == own {
                self.connection_mut(*id).closing = true;
            } else {
                self.cut(*id);
            }
        }
        found.len()
    }

    /// Tells a connection what has become of a subscription.
    pub(crate) fn confirm(&mut self, id: ConnId, what: &str, channel: Reply, count: usize) {
        let push = Reply::Push(vec![Reply::bulk(what), channel, Reply::count(count)]);
        self.connection_mut(id).write(&push);
    }

    pub(crate) fn connection(&self, id: ConnId) -> &Connection {
        &self.connections[&id]
    }

    pub(crate) fn connection_mut(&mut self, id: ConnId) -> &mut Connection {
        self.connections.get_mut(&id).expect("the connection that asks")
    }

    pub(crate) fn set_name(&mut self, id: ConnId, name: &[u8]) -> Result<(), String> {
        if !name.iter().all(u8::is_ascii_graphic) {
            return Err(
                "ERR Client names cannot contain spaces, newlines or special characters.".into()
            );
        }
        self.connection_mut(id).name = name.to_vec();
        Ok(())
    }

    pub(crate) fn has_password(&self) -> bool {
        self.users.get("default").is_some_and(Option::is_some)
    }

    /// A user and a password are given.
    pub(crate) fn log_in(
        &mut self,
        id: ConnId,
        user: &[u8],
        password: &[u8],
    ) -> Result<(), String> {
        let name = String::from_utf8_lossy(user).into_owned();
        let right = match self.users.get(&name) {
            Some(Some(wanted)) => wanted.as_bytes() == password,
            Some(None) => true,
            None => false,
        };
        if !right {
            return Err("WRONGPASS invalid username-password pair or user is disabled.".into());
        }
        self.connection_mut(id).user = Some(name);
        Ok(())
    }

    /// The connection may give this command.
    pub(crate) fn permit(&self, id: ConnId, name: &str, no_auth: bool) -> Result<(), String> {
        if no_auth {
            return Ok(());
        }
        let Some(user) = &self.connection(id).user else {
            return Err("NOAUTH Authentication required.".into());
        };
        if self.store.forbidden.iter().any(|it| it == name) {
            return Err(format!(
                "NOPERM User {user} has no permissions to run the '{name}' command"
            ));
        }
        Ok(())
    }

    /// What `HELLO` answers.
    pub(crate) fn greeting(&self, id: ConnId) -> Reply {
        let connection = self.connection(id);
        let number = Reply::Integer(i64::try_from(connection.number).expect("a count"));
        let protocol = if connection.protocol == crate::reply::Protocol::Resp3 { 3 } else { 2 };
        let role = if self.store.replica { "replica" } else { "master" };
        let pairs = [
            ("server", Reply::bulk(self.version.name)),
            ("version", Reply::bulk(self.version.text())),
            ("proto", Reply::Integer(protocol)),
            ("id", number),
            ("mode", Reply::bulk(if self.sentinel.is_some() { "sentinel" } else { "standalone" })),
            ("role", Reply::bulk(role)),
            ("modules", Reply::Array(Vec::new())),
        ];
        let wanted = |name: &str| self.sentinel.is_none() || name != "role";
        let pairs = pairs.into_iter().filter(|(name, _)| wanted(name));
        Reply::Map(pairs.map(|(name, value)| (Reply::bulk(name), value)).collect())
    }

    /// `SENTINEL GET-MASTER-ADDR-BY-NAME`
    pub(crate) fn primary_of(&self, name: &[u8]) -> Reply {
        let name = String::from_utf8_lossy(name);
        match self.sentinel.as_ref().and_then(|primaries| primaries.get(&*name)) {
            Some(it) => Reply::Array(vec![
                Reply::bulk(it.ip().to_string()),
                Reply::bulk(it.port().to_string()),
            ]),
            None => Reply::NullArray,
        }
    }

    pub(crate) fn role(&self) -> Reply {
        if let Some(primaries) = &self.sentinel {
            let names = primaries.keys().map(Reply::bulk).collect();
            return Reply::Array(vec![Reply::bulk("sentinel"), Reply::Array(names)]);
        }
        if self.store.replica {
            let parts = [Reply::bulk("slave"), Reply::bulk("127.0.0.1"), Reply::Integer(6379)];
            let rest = [Reply::bulk("connected"), Reply::Integer(0)];
            return Reply::Array(parts.into_iter().chain(rest).collect());
        }
        let offset = Reply::count(self.written.len());
        Reply::Array(vec![Reply::bulk("master"), offset, Reply::Array(Vec::new())])
    }

    pub(crate) fn info(&self) -> String {
        let role = if self.store.replica { "slave" } else { "master" };
        let version = self.version.text();
        format!(
            "# Server\r\n{}_version:{version}\r\nredis_mode:standalone\r\n# Clients\r\nconnected_clients:{}\r\n\
             # Replication\r\nrole:{role}\r\n",
            self.version.name,
            self.connections.len(),
        )
    }

    /// `CONFIG GET`, with names that are patterns.
    pub(crate) fn config(&self, patterns: &[Vec<u8>]) -> Reply {
        let limit = self.output_limit;
        let limits = format!(
            "normal 0 0 0 slave 268435456 67108864 60 pubsub {} {} {}",
            limit.hard,
            limit.soft,
            limit.time.as_secs()
        );
        let mut all = self.config.clone();
        all.insert("client-output-buffer-limit".into(), limits);
        let wanted = |name: &str| patterns.iter().any(|it| keys_match(it, name.as_bytes()));
        let pairs = all.into_iter().filter(|(name, _)| wanted(name));
        Reply::Map(pairs.map(|(name, value)| (Reply::bulk(name), Reply::bulk(value))).collect())
    }
}
