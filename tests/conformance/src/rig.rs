//! A running server as a test body sees it.

use std::{
    fmt, io,
    time::{Duration, Instant},
};

use mahavishnu_core::{
    config::Config,
    hub::{ConnId, DrainPlan, Listener, Published, Roll},
    reason::{Counted, Reason},
};
use serde_json::Value;

use crate::{
    Client, DEADLINE, Raw,
    backend::{Backend, Did, Driven, Moved, Way, Wish},
    stream::Stream,
};

/// What every server answers to those who collect metrics.
pub(crate) const EXPOSITION: &str = "# nothing\n";

/// The usual configuration: the defaults, without the limit on messages per second, and with deadlines that no test
/// reaches, however busy the machine is. A body that is about a deadline sets it.
#[must_use]
pub fn base() -> Config {
    let mut config = Config::default();
    let limits = &mut config.limits;
    limits.connections.messages_per_second = None;
    limits.wire.ping_interval = None;
    limits.wire.connection_timeout = None;
    for deadline in [
        &mut limits.wire.head_timeout,
        &mut limits.wire.http_idle_timeout,
        &mut limits.auth.auth_timeout,
        &mut limits.wire.close_timeout,
        &mut limits.requests.request_timeout,
    ] {
        *deadline = Duration::from_secs(3_600);
    }
    config
}

/// A running server. It ends when it is dropped.
pub struct Rig {
    /// What drives it.
    pub backend: Backend,
    driven: Box<dyn Driven>,
    label: String,
}

impl Rig {
    pub(crate) fn new(backend: Backend, driven: Box<dyn Driven>, label: String) -> Self {
        Self { backend, driven, label }
    }

    /// A socket.
    #[must_use]
    pub fn connect(&self) -> Stream {
        self.try_connect().expect("a listening server")
    }

    /// A socket, if somebody listens.
    pub fn try_connect(&self) -> io::Result<Stream> {
        self.driven.connect(Listener::Main, None)
    }

    /// A socket whose client's side holds about `room` bytes that were not read.
    #[must_use]
    pub fn connect_narrow(&self, room: usize) -> Stream {
        self.driven.connect(Listener::Main, Some(room)).expect("a listening server")
    }

    /// A socket otherwise than to a port, if it is taken.
    pub fn connect_by(&self, way: Way) -> io::Result<Stream> {
        self.driven.connect_by(way)
    }

    /// A socket that speaks bytes.
    #[must_use]
    pub fn raw(&self) -> Raw {
        Raw::new(self.connect())
    }

    /// One to the port for those who collect metrics.
    #[must_use]
    pub fn raw_metrics(&self) -> Raw {
        Raw::new(self.driven.connect(Listener::Metrics, None).expect("a listening server"))
    }

    /// A socket through the handshake and past the welcome.
    #[must_use]
    pub fn raw_hello(&self) -> Raw {
        Raw::hello(self.connect())
    }

    /// A client through the handshake; what comes first is still to be heard.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::open(self.connect(), "/", &[]).expect("a handshake")
    }

    /// A client past the welcome.
    #[must_use]
    pub fn hello(&self) -> Client {
        let mut client = self.client();
        client.expect_welcome();
        client
    }

    /// A client that has shown a token.
    #[must_use]
    pub fn login(&self, token: &str) -> Client {
        let mut client = self.client();
        let answer = client.request("auth", serde_json::json!({ "token": token }));
        assert_eq!(answer["data"]["status"], "authenticated", "{answer}");
        client.expect_welcome();
        client
    }

    /// A client that hears of `channel`.
    #[must_use]
    pub fn subscriber(&self, channel: &str) -> Client {
        let mut client = self.hello();
        client.subscribe(channel);
        client
    }

    /// Broadcasts as the application does, and says how many subscribers it was handed to.
    pub fn broadcast(&self, channel: &str, data: &Value) -> u32 {
        self.try_broadcast(channel, data).expect("a broadcast").subscribers
    }

    /// Broadcasts as the application does.
    pub fn try_broadcast(&self, channel: &str, data: &Value) -> Result<Published, Reason> {
        self.driven.broadcast(channel, "e", data)
    }

    /// Begins to stop.
    pub fn drain(&self, plan: DrainPlan) {
        self.driven.drain(plan);
    }

    /// Waits until it has stopped.
    pub fn expect_drained(&self) {
        self.until("the end", || self.driven.is_drained().then_some(()));
    }

    /// Whether it has stopped.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.driven.is_drained()
    }

    /// Stops the server and returns the trace of everything that went into it.
    #[must_use]
    pub fn recording(&self) -> Vec<u8> {
        self.drain(DrainPlan { deadline: Duration::ZERO, ..DrainPlan::default() });
        self.expect_drained();
        self.driven.recording()
    }

    /// Ends one connection, as the application does.
    pub fn disconnect(&self, conn: ConnId) {
        self.driven.disconnect(conn);
    }

    /// Does something to connections, as the application does.
    #[must_use]
    pub fn wish(&self, wish: Wish<'_>) -> Did {
        self.driven.wish(wish)
    }

    /// What the application is listed: how many there are, and their names.
    #[must_use]
    pub fn roll(&self, of: &Roll) -> (u64, Vec<String>) {
        self.driven.roll(of)
    }

    /// Waits until the application has heard so often of somebody who came to a channel or left it.
    #[must_use]
    pub fn moved(&self, count: usize) -> Vec<Moved> {
        self.until("subscriptions", || Some(self.driven.moved()).filter(|all| all.len() >= count))
    }

    /// Puts a new configuration in force.
    pub fn reload(&self, mut config: Config) {
        config.service.label = self.label.as_str().into();
        self.driven.reload(&config);
    }

    /// Sockets of any kind that the server holds.
    #[must_use]
    pub fn sockets(&self) -> usize {
        self.driven.sockets()
    }

    /// A user's sessions, as the application is told: by which name others know each client, and whether it waits for it.
    #[must_use]
    pub fn sessions_of(&self, user: &str) -> Vec<(String, bool)> {
        self.driven.sessions_of(user)
    }

    /// Ends a user's sessions, as the application does. How many those were.
    #[must_use]
    pub fn end_sessions_of(&self, user: &str) -> u64 {
        self.driven.end_sessions_of(user)
    }

    /// Waits until the server holds so many sockets.
    pub fn expect_sockets(&self, count: usize) {
        self.until(&format!("{count} sockets"), || (self.sockets() == count).then_some(()));
    }

    /// The connections that were let in, once there are so many.
    #[must_use]
    pub fn connected(&self, count: usize) -> Vec<ConnId> {
        self.until("connections", || Some(self.driven.connected()).filter(|c| c.len() == count))
    }

    /// The connections that were let in so far.
    #[must_use]
    pub fn connected_now(&self) -> Vec<ConnId> {
        self.driven.connected()
    }

    /// Wall-clock time of the server, since the Unix epoch.
    #[must_use]
    pub fn unix(&self) -> Duration {
        self.driven.unix()
    }

    /// Lets time pass.
    pub fn pass(&self, time: Duration) {
        self.driven.pass(time);
    }

    /// How long `act` takes, by the server's clock. For lower bounds only.
    pub fn time<T>(&self, act: impl FnOnce() -> T) -> (Duration, T) {
        let start = self.driven.unix();
        let real = Instant::now();
        let result = act();
        let took = match self.backend {
            Backend::Sim => self.driven.unix() - start,
            _ => real.elapsed(),
        };
        (took, result)
    }

    /// Panics if something took much longer than it may. Said of the simulator alone: a real machine may be busy.
    pub fn expect_early(&self, took: Duration, at_most: Duration) {
        if self.backend == Backend::Sim {
            assert!(took <= at_most + POLL * 2, "{took:?}, at most {at_most:?}");
        }
    }

    /// What the simulator has done so far; real servers do not count.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.driven.steps()
    }

    /// Asks until there is an answer.
    pub fn until<T>(&self, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
        for _ in 0..DEADLINE.as_millis() / POLL.as_millis() {
            if let Some(answer) = ask() {
                return answer;
            }
            self.pass(POLL);
        }
        ask().unwrap_or_else(|| panic!("waited {DEADLINE:?} in vain for {what}"))
    }

    /// The value of a counter or gauge.
    #[must_use]
    pub fn count(&self, family: &str, labels: &[(&str, &str)]) -> u64 {
        let own = [("server", self.label.as_str())];
        let labels: Vec<_> = own.into_iter().chain(labels.iter().copied()).collect();
        self.driven.count(family, &labels)
    }

    /// Waits until a counter or gauge has a value.
    pub fn expect_count(&self, family: &str, labels: &[(&str, &str)], value: u64) {
        let what = format!("{value} in {family} {labels:?}");
        self.until(&what, || (self.count(family, labels) == value).then_some(()));
    }

    /// Waits until one WebSocket connection has ended for this reason, and its error, if it is one, is counted.
    pub fn expect_end(&self, reason: Reason) {
        let label = [("reason", reason.name())];
        if self.backend == Backend::Program && reason == Reason::Shutdown {
            // The process ends with its last connection, and its counters with it.
            return;
        }
        self.expect_count("mahavishnu_connections_closed_total", &label, 1);
        self.expect_error_counted(reason);
    }

    /// [`expect_end`](Self::expect_end), of a connection that the application had heard of.
    pub fn expect_told_end(&self, reason: Reason) {
        self.expect_end(reason);
        if self.backend == Backend::Program {
            // It has no application.
            return;
        }
        self.until("the application's being told", || {
            self.driven.ended().iter().any(|(_, ended)| *ended == reason).then_some(())
        });
    }

    /// Waits until the reason's error, if it is one, is counted once.
    pub fn expect_error_counted(&self, reason: Reason) {
        let (family, label) = match reason.row().counted {
            Counted::Connection(label) => ("websocket_connection_errors_total", label),
            Counted::Message(label) => ("websocket_message_errors_total", label),
            Counted::No => return,
        };
        self.expect_count(family, &[("error_type", label)], 1);
    }
}

impl fmt::Debug for Rig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rig").field("backend", &self.backend).finish_non_exhaustive()
    }
}

const POLL: Duration = Duration::from_millis(5);
