//! What goes wrong with a server, and what is set on it.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use crate::{connection::OutputLimit, data::Data, server::Redis, store::Effect, window::Window};

/// What a server that starts again finds on its disk.
#[derive(Clone, Debug)]
pub enum Disk {
    /// All that it had.
    Kept,
    /// Nothing.
    Empty,
    /// What it had once; see [`Redis::data`].
    Older(Data),
}

impl Redis {
    /// It ends: its connections are cut, what was not executed is lost, and nobody listens.
    pub fn stop(&mut self) {
        self.running = false;
        self.paused = None;
        self.cut_all();
        self.scripts.flush();
    }

    /// It starts again with what is on its disk. Nobody is connected, and it knows no scripts.
    pub fn start(&mut self, disk: Disk) {
        self.stop();
        match disk {
            Disk::Kept => {}
            Disk::Empty => self.store.data = Data::default(),
            Disk::Older(data) => self.store.data = data,
        }
        self.next_number = 1;
        self.running = true;
    }

    /// It is there to be connected to.
    pub fn is_running(&self) -> bool {
        self.running
    }

    /// What it has at present, to be found by a later [start](Self::start).
    pub fn data(&self) -> Data {
        self.store.data.clone()
    }

    /// It does nothing until [resumed](Self::resume): connections stay, and more are made. What is sent to it waits.
    pub fn pause(&mut self) {
        self.paused.get_or_insert_with(VecDeque::new);
    }

    /// It goes on, with all that was sent meanwhile, also on connections that are closed by now.
    pub fn resume(&mut self, now: Duration) {
        self.pass(now);
        for id in self.paused.take().unwrap_or_default() {
            self.read(id);
        }
        self.pass(now);
    }

    /// Everything is deleted (`FLUSHALL`).
    pub fn flush_all(&mut self) {
        self.store.data = Data::default();
        self.tell_replicas(0, &[b"FLUSHALL"]);
    }

    /// One key is deleted, as by eviction; `false` if it was not there.
    pub fn evict(&mut self, database: usize, key: &[u8]) -> bool {
        let was = self.store.remove(database, key);
        self.store.effects.clear();
        self.tell_replicas(database, &[b"DEL", key]);
        was
    }

    fn tell_replicas(&mut self, database: usize, words: &[&[u8]]) {
        if !self.store.replica {
            let words = words.iter().map(|word| word.to_vec()).collect();
            self.written.push(vec![Effect { database, words }]);
        }
    }

    /// Its keys, in order.
    pub fn keys(&self, database: usize) -> impl Iterator<Item = &[u8]> {
        self.store.data.databases[database].keys().map(Vec::as_slice)
    }

    /// All scripts are forgotten (`SCRIPT FLUSH`).
    pub fn flush_scripts(&mut self) {
        self.scripts.flush();
    }

    /// From now on it refuses what it would refuse in such a state, or no more.
    pub fn set_window(&mut self, window: Window, open: bool) {
        self.store.windows.set(window, open);
    }

    /// Connections from now on need this password, or none. Those that are there stay what they are.
    pub fn set_password(&mut self, password: Option<&str>) {
        self.users.insert("default".into(), password.map(str::to_owned));
    }

    /// There is a further user with this password.
    pub fn add_user(&mut self, name: &str, password: &str) {
        self.users.insert(name.to_owned(), Some(password.to_owned()));
    }

    /// Nobody may give this command any more: `get`, `client|kill`; or again.
    pub fn forbid(&mut self, command: &str, forbidden: bool) {
        self.store.forbidden.retain(|it| it != command);
        if forbidden {
            self.store.forbidden.push(command.to_owned());
        }
    }

    /// A value of `CONFIG GET`; the model itself does not heed it.
    pub fn set_config(&mut self, name: &str, value: &str) {
        self.config.insert(name.to_owned(), value.to_owned());
    }

    /// From which size of unsent output a connection with subscriptions is cut.
    pub fn set_output_limit(&mut self, limit: OutputLimit) {
        self.output_limit = limit;
    }

    /// So many connections at most.
    pub fn set_clients_max(&mut self, most: usize) {
        self.clients_max = most;
    }

    /// Whether a connection that publishes to itself gets the message before the answer. By default as its
    /// [version](crate::Version) does it.
    pub fn set_pushes_first(&mut self, first: bool) {
        self.pushes_first = first;
    }

    /// A [Sentinel](Self::new_sentinel) takes this one for the primary of this name, or knows none any more. Panics if
    /// it is none.
    pub fn set_primary(&mut self, name: &str, primary: Option<SocketAddr>) {
        let primaries = self.sentinel.as_mut().expect("a Sentinel");
        primaries.remove(name);
        primaries.extend(primary.map(|primary| (name.to_owned(), primary)));
    }

    /// All connections are cut, as by `CLIENT KILL`.
    pub fn cut_all(&mut self) {
        let all: Vec<_> = self.connections.keys().copied().collect();
        for id in all {
            self.cut(id);
        }
    }

    /// Its clock is set by so many milliseconds, forwards or backwards. Keys live by that clock.
    pub fn jump_clock(&mut self, ms: i64) {
        self.store.clock.jump(ms * 1000);
    }

    /// Unix time in milliseconds, as it has it.
    pub fn clock_ms(&self) -> u64 {
        self.store.clock.unix_ms()
    }
}
