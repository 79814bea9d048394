//! A Sentinel.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    Client, Kind, Redis, Value, ports,
    process::{PATIENCE, Process},
};

/// A running Sentinel that watches one primary, killed when dropped.
#[derive(Debug)]
pub struct Sentinel {
    port: u16,
    _dir: TempDir,
    _process: Process,
}

impl Sentinel {
    /// One that watches `primary` under `name`, and takes it for dead after `down_after_ms` of silence if `quorum` of
    /// them do.
    pub fn start(name: &str, primary: &Redis, quorum: u32, down_after_ms: u32) -> Self {
        Self::with(name, primary, quorum, down_after_ms, &[])
    }

    /// The same with further lines in its configuration file: `requirepass secret`.
    pub fn with(
        name: &str,
        primary: &Redis,
        quorum: u32,
        down_after_ms: u32,
        lines: &[&str],
    ) -> Self {
        let dir = tempfile::tempdir().expect("a folder for its state");
        let port = ports::free();
        let file = dir.path().join("sentinel.conf");
        let text = format!(
            "bind 127.0.0.1\nport {port}\ndir \"{}\"\nprotected-mode no\n\
             sentinel monitor {name} 127.0.0.1 {} {quorum}\n\
             sentinel down-after-milliseconds {name} {down_after_ms}\n\
             sentinel failover-timeout {name} 1000\n",
            dir.path().display(),
            primary.port()
        );
        let password = primary.password().map(|it| format!("sentinel auth-pass {name} {it}\n"));
        let text = text + &password.unwrap_or_default() + &lines.join("\n") + "\n";
        std::fs::write(&file, text).expect("its folder is ours");
        let kind: &Kind = primary.kind();
        let mut process = Process::spawn(
            kind.program(),
            &[&file.display().to_string(), "--sentinel"],
            dir.path(),
        );
        let address = (Ipv4Addr::LOCALHOST, port).into();
        let ready = process.wait("a Sentinel", || {
            // An error would be that it wants a password.
            let answer = Client::try_connect(address).and_then(|mut it| it.try_command(&["PING"]));
            matches!(answer, Some(Value::Simple(_) | Value::Error(_)))
        });
        assert!(ready, "Sentinel ended:\n{}", process.log());
        Self { port, _dir: dir, _process: process }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The port of the primary, as it sees it.
    pub fn primary(&self, name: &str) -> u16 {
        let mut client = Client::connect(self.address());
        let answer = client.ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", name]);
        let Value::Array(parts) = &answer else { panic!("no address: {answer:?}") };
        parts[1].text().parse().expect("a port")
    }

    /// Waits until the primary is the one on this port.
    pub fn wait_primary(&self, name: &str, port: u16) {
        wait("the new primary", || self.primary(name) == port);
    }

    /// Waits until it knows so many replicas and other Sentinels: until then it could not fail over.
    pub fn wait_for_others(&self, name: &str, replicas: usize, sentinels: usize) {
        let mut client = Client::connect(self.address());
        wait("other Sentinels", || {
            client.ask(&["SENTINEL", "REPLICAS", name]).items().len() == replicas
                && client.ask(&["SENTINEL", "SENTINELS", name]).items().len() == sentinels
        });
    }
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not come in {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
