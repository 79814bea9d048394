//! Listening sockets that a service manager has opened and hands over (sd_listen_fds(3)). It keeps them while the server is
//! started anew, so that who comes meanwhile waits in the kernel and is not refused.

use std::{
    net::{IpAddr, SocketAddr, TcpListener},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixListener,
    },
};

use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;

use crate::{
    exit::{Exit, Failure, plain},
    settings::{Override, Settings},
};

/// What was handed over.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    pub(super) main: Vec<TcpListener>,
    pub(super) metrics: Option<TcpListener>,
    /// Unix sockets, which serve what `main` serves.
    pub(super) unix: Vec<UnixListener>,
}

impl Sockets {
    /// Takes over what this process was given. To be called before there are other threads: the variables that say so are
    /// taken out of the environment.
    pub(super) fn take() -> Result<Self, Failure> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut given = ListenFd::from_env();
        let mut this = Self::default();
        for index in 0..given.len() {
            let name = names.split(':').nth(index).unwrap_or_default();
            let listens = |socket: BorrowedFd<'_>| socket_acceptconn(socket).unwrap_or(false);
            // What is of another family is left at its place.
            if let Ok(Some(listener)) = given.take_unix_listener(index)
                && listens(listener.as_fd())
            {
                this.add_unix(name, listener)?;
                continue;
            }
            let listener = given
                .take_tcp_listener(index)
                .ok()
                .flatten()
                .filter(|listener| listens(listener.as_fd()))
                .ok_or_else(|| refused(name, "is no TCP or Unix socket that listens"))?;
            this.add(name, listener)?;
        }
        Ok(this)
    }

    fn add_unix(&mut self, name: &str, listener: UnixListener) -> Result<(), Failure> {
        if name != MAIN && !is_nobodys(name) {
            return Err(refused(name, "is a Unix socket, at which only what is `main` is served"));
        }
        self.unix.push(listener);
        Ok(())
    }

    fn add(&mut self, name: &str, listener: TcpListener) -> Result<(), Failure> {
        match name {
            METRICS if self.metrics.is_some() => {
                return Err(refused(name, "is one of two; metrics have one"));
            }
            METRICS => self.metrics = Some(listener),
            name if name == MAIN || is_nobodys(name) => self.main.push(listener),
            name => {
                let why =
                    format!("has an unknown name; FileDescriptorName= is {MAIN} or {METRICS}");
                return Err(refused(name, &why));
            }
        }
        Ok(())
    }

    /// Settings that the sockets decide: whatever is made of the server's address must be made of its true one.
    pub(super) fn overrides(&self) -> Result<Vec<Override>, Failure> {
        let mut overrides = Vec::new();
        let mut say = |host, port, listeners: &mut dyn Iterator<Item = &TcpListener>| {
            let addresses = listeners.map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>();
            let addresses = addresses.map_err(|error| refused("", &plain(&error)))?;
            if let Some(address) = most_open(&addresses) {
                overrides.push((host, SOURCE, address.ip().to_string()));
                overrides.push((port, SOURCE, address.port().to_string()));
            }
            Ok::<_, Failure>(())
        };
        say("MAHAVISHNU_HOST", "MAHAVISHNU_PORT", &mut self.main.iter())?;
        say("MAHAVISHNU_METRICS_HOST", "MAHAVISHNU_METRICS_PORT", &mut self.metrics.iter())?;
        Ok(overrides)
    }

    /// Who connects to a socket that nobody serves waits for ever.
    pub(super) fn warning(&self, settings: &Settings) -> Option<&'static str> {
        let unserved = self.metrics.is_some() && !settings.metrics_enabled;
        unserved.then_some(
            "the service manager listens for metrics, which MAHAVISHNU_METRICS_ENABLED says nobody is to serve: disable its socket",
        )
    }
}

/// The one that most can reach: it decides what the server has to protect itself from.
fn most_open(addresses: &[SocketAddr]) -> Option<SocketAddr> {
    let openness = |address: &&SocketAddr| match address.ip() {
        ip if ip.is_loopback() => 0,
        IpAddr::V4(ip) if !ip.is_unspecified() => 1,
        IpAddr::V6(ip) if !ip.is_unspecified() => 1,
        IpAddr::V4(_) => 2,
        IpAddr::V6(_) => 3,
    };
    // Of equals the first.
    addresses.iter().rev().max_by_key(openness).copied()
}

/// Whether nobody has chosen the name: systemd takes the unit's, other starters `unknown`, or none.
fn is_nobodys(name: &str) -> bool {
    name.is_empty() || name == "unknown" || name.ends_with(".socket")
}

fn refused(name: &str, why: &str) -> Failure {
    let which = if name.is_empty() { String::new() } else { format!(" {name:?}") };
    Failure::new(
        Exit::Configuration,
        format!("a socket{which} of the service manager (LISTEN_FDS) {why}"),
    )
}

/// Names of sockets: `FileDescriptorName=` of a socket unit.
const MAIN: &str = "main";
const METRICS: &str = "metrics";
/// What is told as the source of the settings.
const SOURCE: &str = "LISTEN_FDS";

#[cfg(test)]
mod tests {
    use super::*;

    fn listener() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").unwrap()
    }

    #[test]
    fn names_say_what_a_socket_is_for() {
        let mut sockets = Sockets::default();
        for name in ["main", "", "unknown", "mahavishnu-websocket.socket"] {
            sockets.add(name, listener()).unwrap();
        }
        sockets.add("metrics", listener()).unwrap();
        assert_eq!((sockets.main.len(), sockets.metrics.is_some()), (4, true));
        for (name, why) in [("metrics", "one of two"), ("mian", "unknown name")] {
            let failure = sockets.add(name, listener()).unwrap_err();
            assert_eq!(failure.exit, Exit::Configuration);
            assert!(failure.to_string().contains(why), "{failure}");
        }
    }

    #[test]
    fn unix_sockets_serve_what_the_port_serves() {
        let listener = || {
            let folder = tempfile::tempdir().unwrap();
            UnixListener::bind(folder.path().join("socket")).unwrap()
        };
        let mut sockets = Sockets::default();
        for name in ["main", "", "mahavishnu-websocket.socket"] {
            sockets.add_unix(name, listener()).unwrap();
        }
        assert_eq!((sockets.unix.len(), sockets.main.len()), (3, 0));
        let failure = sockets.add_unix("metrics", listener()).unwrap_err();
        assert!(failure.to_string().contains("Unix socket"), "{failure}");
    }

    #[test]
    fn the_address_of_the_settings_is_the_most_open_one() {
        let most = |texts: &[&str]| {
            let addresses: Vec<_> = texts.iter().map(|text| text.parse().unwrap()).collect();
            most_open(&addresses).map(|address: SocketAddr| address.to_string())
        };
        assert_eq!(most(&[]), None);
        assert_eq!(most(&["127.0.0.1:1", "[::1]:2"]).as_deref(), Some("127.0.0.1:1"));
        assert_eq!(most(&["127.0.0.1:1", "10.0.0.1:2", "[::1]:3"]).as_deref(), Some("10.0.0.1:2"));
        assert_eq!(most(&["0.0.0.0:1", "10.0.0.1:2"]).as_deref(), Some("0.0.0.0:1"));
        assert_eq!(most(&["0.0.0.0:1", "[::]:2"]).as_deref(), Some("[::]:2"));
    }

    #[test]
    fn what_sockets_decide_is_said_as_settings() {
        let (main, metrics) = (listener(), listener());
        let ports = [&main, &metrics].map(|one| one.local_addr().unwrap().port().to_string());
        let sockets = Sockets { main: vec![main], metrics: Some(metrics), unix: Vec::new() };
        let overrides = sockets.overrides().unwrap();
        let expected = [
            ("MAHAVISHNU_HOST", "LISTEN_FDS", "127.0.0.1".to_owned()),
            ("MAHAVISHNU_PORT", "LISTEN_FDS", ports[0].clone()),
            ("MAHAVISHNU_METRICS_HOST", "LISTEN_FDS", "127.0.0.1".to_owned()),
            ("MAHAVISHNU_METRICS_PORT", "LISTEN_FDS", ports[1].clone()),
        ];
        assert_eq!(overrides, expected);
        assert!(Sockets::default().overrides().unwrap().is_empty());
    }
}
