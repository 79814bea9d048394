//! The drivers under test, and what a server on any of them is started with.

use std::{
    io,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use mahavishnu_core::{
    config::Config,
    http::Request,
    hub::{
        ConnId, Denial, Disconnect, DrainPlan, Leave, Listener, Published, RefusedBy, RequestError,
        Roll,
    },
    reason::Reason,
};
use mahavishnu_smol::Smol;
use mahavishnu_tokio::Tokio;
use serde_json::Value;

use crate::{
    adapters,
    own::Own,
    program,
    rig::{Rig, base},
    simulated,
    stream::Stream,
};

/// A driver of the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// `mahavishnu-tokio`, over real sockets.
    Tokio,
    /// `mahavishnu-smol`, over real sockets.
    Smol,
    /// The driver on plain threads, over real sockets: its example `own_runtime`.
    Own,
    /// The simulator's driver, sockets and clock.
    Sim,
    /// The program itself, as a process of its own.
    Program,
}

impl Backend {
    /// Those that can be given a seed.
    pub const ALL: [Self; 4] = [Self::Tokio, Self::Smol, Self::Own, Self::Sim];

    /// A server of one shard with the limits of [`base`], changed by `change`.
    #[must_use]
    pub fn start(self, change: impl FnOnce(&mut Config)) -> Rig {
        self.start_with(Setup::new(change))
    }

    /// A server.
    #[must_use]
    pub fn start_with(self, mut setup: Setup) -> Rig {
        let label = crate::counts::fresh_label();
        setup.config.service.label = label.as_str().into();
        setup.config.hooks.requests =
            setup.app.requests.iter().map(|(event, _)| Box::from(*event)).collect();
        setup.config.hooks.authorize_subscribe = setup.app.subscribe.is_some();
        setup.config.hooks.authorize_publish = setup.app.publish.is_some();
        setup.config.hooks.authenticate = setup.app.authenticate.is_some();
        setup.config.hooks.introduce = setup.app.authenticate.is_some();
        let driven: Box<dyn Driven> = match self {
            Self::Tokio => Box::new(adapters::Running::<Tokio>::start(setup)),
            Self::Smol => Box::new(adapters::Running::<Smol>::start(setup)),
            Self::Own => Box::new(adapters::Running::<Own>::start(setup)),
            Self::Sim => Box::new(simulated::Running::start(setup)),
            Self::Program => Box::new(program::Running::start(setup)),
        };
        Rig::new(self, driven, label)
    }
}

/// What a server is started with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The core's configuration; label and hooks are set by the harness.
    pub config: Config,
    /// Hubs. One unless set.
    pub shards: u16,
    /// Where everything random in the server comes from.
    pub seed: u64,
    /// The embedding application.
    pub app: App,
    /// What the program is told beside, where its settings cannot be read off the configuration.
    pub settings: Vec<(&'static str, &'static str)>,
    /// Whether it listens at a Unix socket, too: [`Way::Unix`].
    pub unix: bool,
    /// Whether the adapter records what goes into the server. The simulator has no recorder.
    pub record: bool,
}

impl Setup {
    /// One shard, usual limits, no application.
    #[must_use]
    pub fn new(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = base();
        change(&mut config);
        Self {
            config,
            shards: 1,
            seed: 7,
            app: App::default(),
            settings: Vec::new(),
            unix: false,
            record: false,
        }
    }
}

/// What the application says and how long it takes; `None`: it never says anything.
pub type Answer<T> = Option<(Duration, T)>;

/// Answers a request, given its data.
pub type OnRequest = fn(&Value) -> Answer<Result<Value, RequestError>>;

/// Says whose a handshake or a request is, given its head.
pub type OnAuthenticate = fn(&Request<()>) -> Answer<Said>;

/// The embedding application: what it answers, and what it decides.
#[derive(Clone, Debug, Default)]
pub struct App {
    /// Answers to requests, by event.
    pub requests: Vec<(&'static str, OnRequest)>,
    /// Decides on subscriptions, given the channel.
    pub subscribe: Option<fn(&str) -> Answer<bool>>,
    /// Decides on publishes, given the channel.
    pub publish: Option<fn(&str) -> Answer<bool>>,
    /// Says whose a handshake or a request over HTTP is, given its head.
    pub authenticate: Option<OnAuthenticate>,
}

/// What the application says of a handshake or a request.
#[derive(Clone, Copy, Debug)]
pub enum Said {
    /// The configuration decides.
    Pass,
    /// It is this user's, who may subscribe and publish to these channels.
    Is(&'static str, &'static str),
    /// Nobody who may come in.
    No(Denial, RefusedBy),
    /// It panics.
    Panics,
}

/// How a client comes otherwise than to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By a Unix socket, if [`Setup::unix`] says so: it has no address.
    Unix,
    /// Somebody else has accepted the socket, from an address of this machine, and hands it over.
    HandedOver,
}

/// What the application does to connections.
#[derive(Clone, Debug)]
pub enum Wish<'a> {
    /// Send to one.
    Send(ConnId, &'a str, &'a Value),
    /// Send to all of a user's.
    SendToUser(&'a str, &'a str, &'a Value),
    /// Broadcast without waiting for anything.
    TryBroadcast(&'a str, &'a str, &'a Value),
    /// Make one a subscriber, whatever its client may.
    Subscribe(ConnId, &'a str),
    /// The same if its client may.
    SubscribeIfPermitted(ConnId, &'a str),
    /// Take one out of a channel.
    Unsubscribe(ConnId, &'a str),
    /// End one.
    Disconnect(ConnId, Disconnect),
    /// End all of a user's.
    DisconnectUser(&'a str, Disconnect),
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Did {
    /// It was done to so many.
    Done(u32),
    /// The connection had no room.
    Slow,
    /// The connection was gone.
    Gone,
    /// The core refused it.
    Refused(Reason),
}

/// A connection that came to a channel, or left it for this reason.
pub type Moved = (ConnId, Box<str>, Option<Leave>);

/// A running server, whatever drives it.
pub(crate) trait Driven {
    /// A socket whose client's side holds about `room` bytes that were not read.
    fn connect(&self, listener: Listener, room: Option<usize>) -> io::Result<Stream>;
    /// A socket otherwise.
    fn connect_by(&self, way: Way) -> io::Result<Stream>;
    fn broadcast(&self, channel: &str, event: &str, data: &Value) -> Result<Published, Reason>;
    fn drain(&self, plan: DrainPlan);
    fn is_drained(&self) -> bool;
    fn disconnect(&self, conn: ConnId);
    fn reload(&self, config: &Config);
    fn sockets(&self) -> usize;
    /// A user's sessions: by which name others know each client, and whether it waits for it.
    fn sessions_of(&self, user: &str) -> Vec<(String, bool)>;
    fn end_sessions_of(&self, user: &str) -> u64;
    /// Connections that were let in so far.
    fn connected(&self) -> Vec<ConnId>;
    /// Those that ended.
    fn ended(&self) -> Vec<(ConnId, Reason)>;

    /// The application does something to connections.
    fn wish(&self, wish: Wish<'_>) -> Did;
    /// Names of what is listed, in parts of two, and how many there are: `connection_id`s, or channels with the number of their
    /// subscribers.
    fn roll(&self, of: &Roll) -> (u64, Vec<String>);
    /// Who came to which channel, and left it, as the application has heard so far.
    fn moved(&self) -> Vec<Moved>;

    fn pass(&self, time: Duration) {
        std::thread::sleep(time);
    }

    fn unix(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970")
    }

    /// What was recorded, once the server has stopped.
    fn recording(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Events so far, where they are counted.
    fn steps(&self) -> u64 {
        0
    }

    /// The value of a counter or gauge; label values in the order of their names in the core's table.
    fn count(&self, family: &str, labels: &[(&str, &str)]) -> u64 {
        crate::counts::value(family, labels)
    }
}
