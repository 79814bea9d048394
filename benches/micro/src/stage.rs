//! A hub with clients whose sockets take everything and keep nothing.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use mahavishnu_core::{
    auth::{self, TokenSpec},
    config::Config,
    entropy::Seed,
    hub::{Command, ConnId, DirectMessage, Hub, Listener, Peer, Place, Publication, Recipient},
    metrics::Metrics,
    time::Now,
};
use mahavishnu_sim::turn;

use crate::frames;

/// A hub, driven turn by turn as the adapters drive it. Everything in it follows from a fixed seed.
#[derive(Debug)]
pub struct Stage {
    hub: Hub,
    metrics: Metrics,
    now: Now,
    sink: Sink,
}

/// Takes everything that is written and counts it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sink {
    /// Bytes so far.
    pub bytes: u64,
    /// Writes so far: on a socket each would be a system call.
    pub writes: u64,
}

impl Stage {
    /// Without authentication, without a rate limit for messages; all else as it is by default.
    #[must_use]
    pub fn new() -> Self {
        Self::under(Config::default())
    }

    /// Under a configuration of the caller's, but for limits.
    #[must_use]
    pub fn under(config: Config) -> Self {
        Self::with(unlimited(config))
    }

    /// Under a configuration of the caller's.
    #[must_use]
    pub fn with(config: Config) -> Self {
        let now = Now { mono: Instant::now(), unix: START_UNIX };
        let mut hub = Hub::new(Arc::new(config), Place::alone(Seed::from(1)), now);
        // What is counted is what a release executes: not the checks of every count.
        hub.trust();
        Self { hub, metrics: Metrics::new(), now, sink: Sink::default() }
    }

    /// With tokens required, and a client whose token lets it publish to [`CHANNEL`].
    #[must_use]
    pub fn with_publisher() -> (Self, ConnId) {
        Self::with_publisher_under(Config::default())
    }

    /// The same under a configuration of the caller's, but for tokens and limits.
    #[must_use]
    pub fn with_publisher_under(config: Config) -> (Self, ConnId) {
        let mut config = unlimited(config);
        config.auth.required = true;
        config.auth.keys.add_secret(None, SECRET).expect("a good secret");
        let mut stage = Self::with(config);
        let token = token(&["workflow:read", "workflow:write"]);
        let publisher = stage.open_with(&format!("Authorization: Bearer {token}\r\n"));
        (stage, publisher)
    }

    /// A client through handshake and welcome.
    pub fn open(&mut self) -> ConnId {
        self.open_with("")
    }

    fn open_with(&mut self, headers: &str) -> ConnId {
        let peer = Peer { address: ([127, 0, 0, 1], 50_000).into(), listener: Listener::Main };
        let before = self.hub.connections();
        let conn = self.hub.handle_accept(self.now, peer).expect("room for a connection");
        self.feed(conn, &mut frames::upgrade(headers));
        self.turn();
        assert_eq!(self.hub.connections(), before + 1, "the handshake failed");
        conn
    }

    /// So many clients that subscribe to [`CHANNEL`].
    pub fn open_subscribers(&mut self, count: usize) {
        let token = token(&["workflow:read"]);
        let headers = match self.hub.config().auth.required {
            true => format!("Authorization: Bearer {token}\r\n"),
            false => String::new(),
        };
        for _ in 0..count {
            let conn = self.open_with(&headers);
            self.feed(conn, &mut frames::text(&frames::subscribe(CHANNEL)));
            self.turn();
        }
    }

    /// So many clients with a token, each of a user of its own. Their names.
    pub fn open_users(&mut self, count: usize) -> Vec<Arc<str>> {
        let names: Vec<Arc<str>> = (0..count).map(|n| format!("user-{n}").into()).collect();
        for name in &names {
            let token = token_of(name, &["workflow:read"]);
            self.open_with(&format!("Authorization: Bearer {token}\r\n"));
        }
        names
    }

    /// The application sends to a user.
    pub fn send(&mut self, user: &Arc<str>, message: &DirectMessage) {
        let (to, message) = (Recipient::User(user.clone()), message.clone());
        self.hub.handle_command(self.now, Command::Send { id: None, to, message });
    }

    /// Bytes of a client.
    pub fn feed(&mut self, conn: ConnId, wire: &mut [u8]) {
        self.hub.handle_bytes(self.now, conn, wire);
    }

    /// The application broadcasts to [`CHANNEL`].
    pub fn broadcast(&mut self, data: &bytes::Bytes) {
        let publication = Publication::new(CHANNEL, "bench.tick", data.clone());
        self.hub.handle_command(self.now, Command::Publish { id: None, publication });
    }

    /// One turn, and a microsecond until the next.
    pub fn turn(&mut self) {
        let mut sink = self.sink;
        self.turn_by(|hub, now, conn| {
            let _ = hub.flush(now, conn, &mut sink);
        });
        self.sink = sink;
    }

    /// The same, with each connection that has something flushed by `write`.
    pub fn turn_by(&mut self, mut write: impl FnMut(&mut Hub, Now, ConnId)) {
        self.hub.handle_timeout(self.now);
        let flush = |stage: &mut Self, conn| {
            // All of them before outputs are asked for again, as the adapters do it.
            let mut next = Some(conn);
            while let Some(conn) = next {
                write(&mut stage.hub, stage.now, conn);
                next = stage.hub.poll_dirty();
            }
        };
        turn(self, self.now, |stage| &mut stage.hub, |_, _| (), flush);
        // As a driver does, where no recorder is installed.
        self.metrics.record(&metrics::NoopRecorder, self.now.mono, self.hub.tally());
        self.now = self.now.plus(Duration::from_micros(1));
    }

    /// Time passes.
    pub fn wait(&mut self, step: Duration) {
        self.now = self.now.plus(step);
    }

    /// What was written so far.
    #[must_use]
    pub fn written(&self) -> Sink {
        self.sink
    }

    /// Clients that are still welcome.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.hub.connections()
    }
}

impl Default for Stage {
    fn default() -> Self {
        Self::new()
    }
}

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes += bytes.len() as u64;
        self.writes += 1;
        Ok(bytes.len())
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let bytes = slices.iter().map(|slice| slice.len()).sum();
        self.bytes += bytes as u64;
        self.writes += 1;
        Ok(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A token that is good for an hour.
#[must_use]
pub fn token(permissions: &[&str]) -> String {
    token_of("ada", permissions)
}

fn token_of(user: &str, permissions: &[&str]) -> String {
    let spec = TokenSpec {
        user: Some(user),
        permissions,
        issued_at: START_UNIX,
        expires_in: Some(Duration::from_secs(3600)),
        ..TokenSpec::default()
    };
    auth::issue(SECRET, &spec).expect("a token")
}

/// As many messages as anybody likes.
fn unlimited(mut config: Config) -> Config {
    config.limits.connections.messages_per_second = None;
    config.limits.connections.connections_max = 100_000;
    config.limits.connections.sockets_max = 100_000;
    config
}

/// What everybody here publishes to. A rule of the default policy is about it.
pub const CHANNEL: &str = "workflow:bench";

/// What tokens are signed with.
pub const SECRET: &[u8] = b"a secret of at least thirty-two bytes, for benchmarks";

/// The wall clock at the start.
pub const START_UNIX: Duration = Duration::from_secs(1_770_000_000);
