//! Where Redis is, and how it is spoken to.

use std::time::Duration;

use crate::{limits::LinkLimits, secret::Secret, tls};

/// What a link has to know. Replaced as a whole by [`Link::reload`](crate::Link::reload).
#[derive(Clone, Debug, PartialEq)]
pub struct LinkConfig {
    /// Where Redis is.
    pub servers: Servers,
    /// Number of the database, 0 by default. Channels of pub/sub carry it in their names, because Redis does not separate
    /// them by it.
    pub db: u16,
    /// Who logs in; `None`: Redis' user `default`.
    pub username: Option<Box<str>>,
    /// By which password. `None`: a user without one, or, without a user, nobody logs in.
    pub password: Option<Secret>,
    /// First part of the names of all keys and channels, `mahavishnu` by default. Without braces.
    pub prefix: Box<str>,
    /// What the node calls itself: connections are named `mahavishnu:<this>:<shard>` in Redis. What is no printable ASCII in
    /// it is replaced by `-`.
    pub node_name: Box<str>,
    /// TLS to Redis, and to Sentinels. `None`, the default: in plain.
    pub tls: Option<tls::Client>,
    /// From an address to a connection on which Redis answers, TLS included: 2 s by default.
    pub connect_timeout: Duration,
    /// How long something may be owed and nothing come until the connection is given up: 5 s by default.
    pub timeout: Duration,
    /// What bounds the link.
    pub limits: LinkLimits,
}

/// Where Redis is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Servers {
    /// One name. It is resolved anew for each attempt, so that a failover may be a change of DNS.
    Single {
        /// Name or address.
        host: Box<str>,
        /// Port, usually 6379.
        port: u16,
    },
    /// Who knows where the primary is. They are asked in turn, beginning with who last knew.
    Sentinel {
        /// Hosts and ports, usually 26379.
        addresses: Vec<(Box<str>, u16)>,
        /// The name of the primary, by which Sentinels know it.
        master: Box<str>,
        /// Who logs in to Sentinels.
        username: Option<Box<str>>,
        /// By which password.
        password: Option<Secret>,
    },
}

impl LinkConfig {
    /// All passwords.
    pub(crate) fn secrets(&self) -> [Option<&Secret>; 2] {
        let sentinel = match &self.servers {
            Servers::Sentinel { password, .. } => password.as_ref(),
            Servers::Single { .. } => None,
        };
        [self.password.as_ref(), sentinel]
    }
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            servers: Servers::Single { host: "127.0.0.1".into(), port: 6379 },
            db: 0,
            username: None,
            password: None,
            prefix: "mahavishnu".into(),
            node_name: "node".into(),
            tls: None,
            connect_timeout: Duration::from_secs(2),
            timeout: Duration::from_secs(5),
            limits: LinkLimits::default(),
        }
    }
}
