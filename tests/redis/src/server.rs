//! A server.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    Client, Kind, Options, Value, ports,
    process::{PATIENCE, Process},
};

/// A running server, killed when dropped.
#[derive(Debug)]
pub struct Redis {
    options: Options,
    port: u16,
    tls_port: u16,
    dir: TempDir,
    /// `None`: killed.
    process: Option<Process>,
}

impl Redis {
    /// The oldest Redis that is installed, with [`Options::default`].
    pub fn start() -> Self {
        Self::with(Options::default())
    }

    /// A server like this, ready to be asked.
    pub fn with(options: Options) -> Self {
        // Another test may take a free port before the server does: then with another one.
        for _ in 0..10 {
            let dir = tempfile::tempdir().expect("a folder for its data");
            let (port, tls_port) = (ports::free(), ports::free());
            let mut this = Self { options: options.clone(), port, tls_port, dir, process: None };
            if this.try_launch(is_pong) {
                return this;
            }
            let log = std::fs::read_to_string(this.dir.path().join("log")).unwrap_or_default();
            assert!(log.contains("Address already in use"), "{} ended:\n{log}", options.kind);
        }
        panic!("ten free ports were not free");
    }

    /// What it is.
    pub fn kind(&self) -> &Kind {
        &self.options.kind
    }

    /// The default user's password.
    pub fn password(&self) -> Option<&str> {
        self.options.password.as_deref()
    }

    /// Its port, the same after a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it listens, without TLS.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Where it listens with TLS, if it was told to.
    pub fn tls_address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.tls_port).into()
    }

    /// Where its data are.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What it has printed, over restarts.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// A client of the default user.
    pub fn client(&self) -> Client {
        self.try_client()
            .unwrap_or_else(|| panic!("no connection to {}:\n{}", self.port, self.log()))
    }

    fn try_client(&self) -> Option<Client> {
        let mut client = Client::try_connect(self.address())?;
        let hello = match &self.options.password {
            Some(password) => client.try_command(&["HELLO", "3", "AUTH", "default", password])?,
            None => client.try_command(&["HELLO", "3"])?,
        };
        matches!(hello, Value::Map(_)).then_some(client)
    }

    /// Asks it one thing. Panics if it answers with an error.
    pub fn ask(&self, command: &[&str]) -> Value {
        self.client().ask(command)
    }

    /// SIGKILL, and waits for its end.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// SIGSTOP: it does nothing more, and its connections stay.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT: it goes on with what has come meanwhile.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        self.process.as_ref().expect("a server that runs").signal(signal);
    }

    /// Starts it again on its port with what is on its disk, which is nothing without [`Options::aof`]. Kills it before
    /// if it runs.
    pub fn restart(&mut self) {
        self.restart_until(is_pong);
    }

    /// Starts it again with many data, and waits no longer than until it says that it is loading them, which then takes
    /// some seconds.
    pub fn restart_loading(&mut self) {
        let mut client = self.client();
        client.ask(&["DEBUG", "POPULATE", "20000"]);
        client.ask(&["SAVE"]);
        let lines = ["key-load-delay 200", "loading-process-events-interval-bytes 1024"];
        self.options.lines.extend(lines.map(str::to_owned));
        self.restart_until(
            |answer| matches!(answer, Value::Error(text) if text.starts_with("LOADING")),
        );
    }

    /// Starts it again with what is on its disk and another configuration.
    pub fn restart_as(&mut self, change: impl FnOnce(Options) -> Options) {
        self.kill();
        self.options = change(self.options.clone());
        self.restart();
    }

    fn restart_until(&mut self, ready: impl Fn(&Value) -> bool) {
        self.kill();
        let started = self.try_launch(ready);
        assert!(started, "{} did not start again:\n{}", self.options.kind, self.log());
    }

    /// Starts it again on its port without its data.
    pub fn restart_empty(&mut self) {
        self.kill();
        for entry in std::fs::read_dir(self.dir.path()).expect("its folder") {
            let path = entry.expect("its folder").path();
            if path.is_dir() {
                std::fs::remove_dir_all(path).expect("its data");
            } else if path.extension().is_some_and(|it| it == "aof" || it == "rdb") {
                std::fs::remove_file(path).expect("its data");
            }
        }
        self.restart();
    }

    /// Makes it a replica of `primary`, and waits until it has what that has.
    pub fn replicate(&self, primary: &Self) {
        self.ask(&["REPLICAOF", "127.0.0.1", &primary.port.to_string()]);
        self.wait_synced();
    }

    /// Waits until a replica has what its primary has.
    pub fn wait_synced(&self) {
        self.wait_info("master_link_status:up");
    }

    /// A replica hears no more of its primary, and stays what it is.
    pub fn cut_replication(&self) {
        // Nobody listens on port 1.
        self.ask(&["REPLICAOF", "127.0.0.1", "1"]);
    }

    /// Makes a replica a primary.
    pub fn promote(&self) {
        self.ask(&["REPLICAOF", "NO", "ONE"]);
        self.wait_info("role:master");
    }

    /// Waits for a line of `INFO`.
    pub fn wait_info(&self, line: &str) {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            // Sentinel closes all connections of a server that it changes.
            let info = self.try_client().and_then(|mut it| it.try_command(&["INFO", "all"]));
            if info.is_some_and(|info| info.text().lines().any(|it| it == line)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{line} did not come:\n{}", self.log());
    }

    /// Starts the process and waits until it answers PING like this; `false` if it ended.
    fn try_launch(&mut self, ready: impl Fn(&Value) -> bool) -> bool {
        let dir = self.dir.path();
        let file = dir.join("redis.conf");
        let text = self.options.file(dir, self.port, self.tls_port);
        std::fs::write(&file, text).expect("its folder is ours");
        let mut process =
            Process::spawn(self.options.kind.program(), &[&file.display().to_string()], dir);
        let ready = process.wait("an answer", || {
            let answer = self.try_client().and_then(|mut client| client.try_command(&["PING"]));
            answer.is_some_and(|answer| ready(&answer))
        });
        self.process = ready.then_some(process);
        ready
    }
}

/// It is there. With data to load it answers `-LOADING` first.
fn is_pong(answer: &Value) -> bool {
    matches!(answer, Value::Simple(_))
}
