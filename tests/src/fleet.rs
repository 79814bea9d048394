//! A fleet under test: all services in one process, on free ports.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use tempfile::TempDir;

use crate::{
    Client, Metrics, http,
    server::{Done, Process, free_ports, run, spawn_in},
    stream, token, wait,
};

/// A service of the family: its name, and what its variables begin with.
pub const SERVICES: [(&str, &str); 7] = [
    ("mahavishnu", "MAHAVISHNU"),
    ("crackerjack", "CRACKERJACK"),
    ("dhruva", "DHRUVA"),
    ("excalidraw", "EXCALIDRAW"),
    ("fastblocks", "FASTBLOCKS"),
    ("akosha", "AKOSHA"),
    ("session-buddy", "SESSION_BUDDY"),
];

/// The secret that a service of [`Fleet::with_auth`] signs with: each has its own.
pub fn secret_of(service: &str) -> String {
    format!("{}-{service}", token::SECRET)
}

/// A running fleet. Killed when dropped.
#[derive(Debug)]
pub struct Fleet {
    /// The process.
    pub process: Process,
    dir: TempDir,
    ports: BTreeMap<&'static str, (u16, u16)>,
    env: Vec<(String, String)>,
}

impl Fleet {
    /// All services with these flags, with further variables named in full, and with this text as the common file.
    pub fn start(flags: &[&str], variables: &[(&str, &str)], file: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory for the fleet's state");
        let env_file = dir.path().join("fleet.env");
        std::fs::write(&env_file, file).expect("its directory is ours");
        // Another test may take a free port before the fleet does: then with other ports.
        for _ in 0..10 {
            let mut ports = BTreeMap::new();
            // What every test's program gets is meant for a server alone.
            let mut env = vec![("MAHAVISHNU_SERVER_NAME".to_owned(), "mahavishnu".to_owned())];
            let mut taken = Vec::new();
            for (name, prefix) in SERVICES {
                let (websocket, metrics) = loop {
                    let both = free_ports();
                    if !taken.contains(&both.0) && !taken.contains(&both.1) {
                        break both;
                    }
                };
                taken.extend([websocket, metrics]);
                ports.insert(name, (websocket, metrics));
                env.push((format!("{prefix}_PORT"), websocket.to_string()));
                env.push((format!("{prefix}_METRICS_PORT"), metrics.to_string()));
            }
            env.extend(variables.iter().map(|(name, value)| ((*name).into(), (*value).into())));
            let path = env_file.display().to_string();
            let args = [&["fleet", "start", "--env-file", &path], flags].concat();
            let mut process = spawn_in(dir.path(), &pairs(&env), &args);
            // The last one to listen is the last one of the list.
            let started = wait::within(wait::DEADLINE, || {
                let up =
                    process.log().contains("a fleet of") || process.log().contains("\"listening\"");
                (up || !process.is_running()).then_some(())
            });
            if started.is_some() && process.is_running() {
                return Self { process, dir, ports, env };
            }
            let log = process.log();
            assert!(log.contains("in use"), "the fleet did not start:\n{log}");
        }
        panic!("no free ports in ten attempts")
    }

    /// One whose services require authentication, each with a [secret](secret_of) of its own.
    pub fn with_auth(flags: &[&str], file: &str) -> Self {
        let secrets =
            SERVICES.map(|(service, prefix)| (format!("{prefix}_JWT_SECRET"), secret_of(service)));
        Self::start(&[&["--auth-enabled", "true"], flags].concat(), &pairs(&secrets), file)
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Where its files are.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where a service answers.
    pub fn address(&self, service: &str) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports[service].0))
    }

    /// Where the metrics of a service answer.
    pub fn metrics_address(&self, service: &str) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports[service].1))
    }

    /// What a scrape of a service gets.
    pub fn metrics(&self, service: &str) -> Metrics {
        Metrics::parse(&http::get(self.metrics_address(service), "/metrics").text())
    }

    /// A client of a service, through the handshake.
    pub fn client(&self, service: &str) -> Client {
        let address = self.address(service);
        let stream = stream::connect(None, address, None);
        let stream = stream.unwrap_or_else(|error| panic!("{service} at {address}: {error}"));
        Client::open(stream, "/", &[]).unwrap_or_else(|refused| panic!("{service}: {refused:?}"))
    }

    /// Runs another subcommand with the fleet's variables.
    pub fn run(&self, args: &[&str]) -> Done {
        run(self.dir.path(), &pairs(&self.env), args)
    }

    /// Replaces the common file.
    pub fn write_file(&self, text: &str) {
        std::fs::write(self.dir.path().join("fleet.env"), text).expect("its directory is ours");
    }
}

fn pairs(env: &[(String, String)]) -> Vec<(&str, &str)> {
    env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}
