//! Building, starting and stopping a server.

use std::{
    fmt,
    future::poll_fn,
    io,
    marker::PhantomData,
    net::{SocketAddr, TcpListener},
    os::unix::net::UnixListener,
    path::PathBuf,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    task::Poll,
    thread::JoinHandle,
};

use async_channel::{Receiver, Sender};
use http::HeaderName;
use mahavishnu_core::{
    config::{Bus, Config},
    entropy::Seed,
    hub::{Command, DrainPlan, Listener, Place, Placement, ShardId, StoreEvent},
    reason::Reason,
    spans::Spans,
};
use mahavishnu_links::LinkConfig;
use mio::net as polled;
use tracing::{Span, error};

#[cfg(doc)]
use crate::app::Access;
use crate::{
    app::{
        Answering, App, AuthenticateResult, Authorize, Connected, Handlers, Handshake, Request,
        RequestResult, guard,
    },
    handle::Handle,
    listen::{self, Open},
    mailbox::{Mail, Mailbox},
    resolve::Resolver,
    runtime::Runtime,
    shard::{self, Start},
    stepped::Time,
    store::{self, Keeper, Kept, Store, ToStore},
};

/// Collects what a server is to do, then starts it on the runtime `R`.
///
/// # Handlers
///
/// Handlers are the application's code, and run where [`Runtime::spawn`] puts them from their first instruction on; what
/// they spawn runs there, too. One that panics, in its synchronous part, in its future or when that is dropped, ends
/// nothing but its own call: it is answered for with
/// [`RequestFailed`](mahavishnu_core::reason::Reason::RequestFailed), counted by `mahavishnu_handler_failures_total` and
/// logged. One that blocks its thread holds up what else runs on that thread, and what is put to the application about the
/// same connection; it holds up no shard. What the application is given and is not done with is bounded by
/// [`handlers_bytes_max`](mahavishnu_core::limits::Requests::handlers_bytes_max).
///
/// Of one connection the application hears in order: `on_connect` has returned before anything else is put to it, and
/// each handler runs until it first waits for something before the next one is called; `on_disconnect` comes last. There
/// is no order between connections, and none to what the server does by itself: a client may have its first answer before
/// `on_connect` is called.
#[derive(Debug)]
#[must_use = "a builder does nothing until it is started"]
pub struct Builder<R> {
    config: Config,
    places: Vec<(Opening, Listener)>,
    shards: Option<u16>,
    seed: Option<Seed>,
    pub(crate) handlers: Handlers,
    store: Option<Kept>,
    redis: Option<LinkConfig>,
    /// What was to be kept and cannot be.
    no_header: Option<Box<str>>,
    runtime: PhantomData<fn() -> R>,
}

/// How a listening socket comes about.
#[derive(Debug)]
enum Opening {
    /// It is bound to this address.
    Bind(String),
    /// Somebody else has bound it.
    Open(TcpListener),
    /// It is made at this path, with these permissions.
    BindUnix(PathBuf, Option<u32>),
    OpenUnix(UnixListener),
}

impl<R: Runtime> Builder<R> {
    /// The core's configuration: limits, authentication, policy. Default: [`Config::default`], open to all.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Listens for WebSocket and HTTP clients at `address`, for example `127.0.0.1:8686`; port 0 takes a free one. A name
    /// stands for all its addresses, on one port, but those that this machine does not have; `[::]` for IPv4's, too.
    /// Default: nowhere.
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.places.push((Opening::Bind(address.into()), Listener::Main));
        self
    }

    /// Listens for WebSocket and HTTP clients at a socket that is open already: a service manager's, which keeps it while
    /// this program is started anew, so that who comes meanwhile waits instead of being refused. So a server that stops first
    /// accepts nobody any more and a tenth of a second later begins to close connections. The socket is made non-blocking,
    /// for whoever else holds it, too.
    pub fn listen_at(mut self, listener: TcpListener) -> Self {
        self.places.push((Opening::Open(listener), Listener::Main));
        self
    }

    /// Listens for WebSocket and HTTP clients at a Unix socket that is made at `path`, for a proxy on this machine for example.
    /// `mode` are the file's permissions, `0o660` for example: who may write to it may connect. `None`: what the process'
    /// umask leaves of `0o777`. A socket at which nobody listens any more is replaced; nothing else is. The file is removed
    /// when the server stops, unless it is another's by then.
    ///
    /// Who comes by it has no address: see [`NO_ADDRESS`](mahavishnu_core::hub::NO_ADDRESS) for what that means for limits,
    /// and `::/128` in [`Config::trusted_proxies`] for proxies there that name their clients. Default: nowhere.
    pub fn listen_unix(mut self, path: impl Into<PathBuf>, mode: Option<u32>) -> Self {
        self.places.push((Opening::BindUnix(path.into(), mode), Listener::Main));
        self
    }

    /// As [`listen_at`](Self::listen_at), at a Unix socket. Its file is whose who made it.
    pub fn listen_unix_at(mut self, listener: UnixListener) -> Self {
        self.places.push((Opening::OpenUnix(listener), Listener::Main));
        self
    }

    /// Listens at `address` for those who collect metrics, and answers them with what `render` returns: an exposition
    /// in Prometheus' text format. Default: nowhere. If it panics, they get 500.
    pub fn listen_metrics(
        mut self,
        address: impl Into<String>,
        render: impl Fn() -> String + Send + Sync + 'static,
    ) -> Self {
        self.places.push((Opening::Bind(address.into()), Listener::Metrics));
        self.handlers.render = Some(Arc::new(render));
        self
    }

    /// As [`listen_metrics`](Self::listen_metrics), at a socket that is open already.
    pub fn listen_metrics_at(
        mut self,
        listener: TcpListener,
        render: impl Fn() -> String + Send + Sync + 'static,
    ) -> Self {
        self.places.push((Opening::Open(listener), Listener::Metrics));
        self.handlers.render = Some(Arc::new(render));
        self
    }

    /// Threads that serve connections. Default: 1. At most 64.
    pub fn shards(mut self, shards: u16) -> Self {
        self.shards = Some(shards);
        self
    }

    /// The seed of all that is random in the server. Default: from the operating system. A known seed makes ids
    /// guessable: for tests only.
    pub fn seed(mut self, seed: Seed) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Answers the request `event`. Requests that nothing answers get `UNKNOWN_REQUEST`; an answer that takes longer
    /// than [`Requests::request_timeout`](mahavishnu_core::limits::Requests::request_timeout) is replaced by an error.
    pub fn on_request<F, A>(mut self, event: &str, handler: F) -> Self
    where
        F: Fn(Request) -> A + Send + Sync + 'static,
        A: Future<Output = RequestResult> + Send + 'static,
    {
        self.handlers
            .requests
            .insert(event.into(), Answering::new(Arc::new(move |it| Box::pin(handler(it)))));
        self
    }

    /// Says of each handshake whose it is and what they may do, before anything else is done with it: by a cookie, a session
    /// store, an API key. [`Access::pass`] leaves it to the tokens and certificates of the configuration, so that this stands
    /// beside them or in their place; a token that comes with a handshake of which something is said is not looked at.
    ///
    /// ```
    /// # use mahavishnu_driver::{Runtime, Server};
    /// # fn with_keys<R: Runtime>() {
    /// use mahavishnu_driver::{Access, Refusal};
    ///
    /// let builder = Server::<R>::builder().authenticate(|handshake| async move {
    ///     let Some(key) = handshake.header("x-api-key") else { return Ok(Access::pass()) };
    ///     match key {
    ///         "correct horse battery staple" => Ok(Access::of("ada").subscribe(["workflow:*"])),
    ///         _ => Err(Refusal::unauthorized()),
    ///     }
    /// });
    /// # drop(builder);
    /// # }
    /// ```
    ///
    /// The same is asked of the requests over HTTP that a permission decides on: `POST /publish`, `/revoke` and `/disconnect`,
    /// `GET /history`, `/state` and `/connections`. [`Handshake::is_websocket`] tells them apart.
    ///
    /// Nothing more of the connection is read until it is answered, for which there is
    /// [`Requests::authenticate_timeout`](mahavishnu_core::limits::Requests::authenticate_timeout), 5 s. Over it, and if the
    /// handler panics, a handshake is accepted and closed with 1013, so that its client comes back. What is under way is
    /// bounded by `handlers_bytes_max`, as for all handlers. Default: nobody is asked.
    pub fn authenticate<F, A>(mut self, handler: F) -> Self
    where
        F: Fn(Handshake) -> A + Send + Sync + 'static,
        A: Future<Output = AuthenticateResult> + Send + 'static,
    {
        self.handlers.authenticate = Some(Arc::new(move |it| Box::pin(handler(it))));
        self
    }

    /// Header fields of handshakes that are kept with the connection, for [`Connected::header`]. Their bytes and those of the
    /// path are bounded by
    /// [`Requests::kept_request_bytes_max`](mahavishnu_core::limits::Requests::kept_request_bytes_max), 4 KiB; over it a
    /// handshake is answered with 431. What is no name of a header field is refused by [`start`](Self::start). Default: none.
    pub fn keep_headers<'n>(mut self, names: impl IntoIterator<Item = &'n str>) -> Self {
        for name in names {
            match name.parse::<HeaderName>() {
                Ok(name) => self.handlers.keep_headers.push(name),
                Err(_) => self.no_header = Some(name.into()),
            }
        }
        self
    }

    /// Decides on subscriptions that the policy allows, and on reading a channel without one. Default: allowed.
    pub fn authorize_subscribe<F, A>(mut self, handler: F) -> Self
    where
        F: Fn(Authorize) -> A + Send + Sync + 'static,
        A: Future<Output = bool> + Send + 'static,
    {
        self.handlers.subscribe = Some(Arc::new(move |wish| Box::pin(handler(wish))));
        self
    }

    /// Decides on clients' publishes that the policy allows. Default: allowed. [`Handle::broadcast`] is not asked about.
    pub fn authorize_publish<F, A>(mut self, handler: F) -> Self
    where
        F: Fn(Authorize) -> A + Send + Sync + 'static,
        A: Future<Output = bool> + Send + 'static,
    {
        self.handlers.publish = Some(Arc::new(move |wish| Box::pin(handler(wish))));
        self
    }

    /// Hears of connections that are through handshake and authentication. Default: nothing.
    pub fn on_connect(mut self, handler: impl Fn(Connected) + Send + Sync + 'static) -> Self {
        self.handlers.connect = Some(Arc::new(handler));
        self
    }

    /// Hears of the end of connections that `on_connect` was told of. [`Server::stop`] waits until it has heard of the last
    /// one, or for the plan's deadline. Default: nothing.
    pub fn on_disconnect(
        mut self,
        handler: impl Fn(Connected, Reason) + Send + Sync + 'static,
    ) -> Self {
        self.handlers.disconnect = Some(Arc::new(handler));
        self
    }

    /// Records everything that goes into the server. `write` gets what each shard noted in a turn, in order, and calls
    /// of several shards may overlap; a [`Writer`](mahavishnu_core::trace::Writer) makes a trace of it, which
    /// [`replay`](mahavishnu_core::trace::replay()) runs again. Unlike other handlers it is called on a shard's thread,
    /// which waits for it: so the trace of a server that crashed is complete. If it panics, nothing more of this shard is
    /// recorded. A trace holds what clients send, tokens included. Default: nothing is recorded, which costs nothing.
    pub fn record(mut self, write: impl Fn(ShardId, &[u8]) + Send + Sync + 'static) -> Self {
        self.handlers.record = Some(Arc::new(write));
        self
    }

    /// Tells numbers about the server, as a JSON object, to those who subscribe to
    /// [`STATISTICS`](mahavishnu_core::config::STATISTICS): once a second while somebody does, and only if
    /// [`Config::statistics`](mahavishnu_core::config::Config::statistics) is set. `None` and what is no object are told to
    /// nobody. Default: nothing is told.
    pub fn statistics(
        mut self,
        numbers: impl Fn() -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.handlers.statistics = Some(Arc::new(numbers));
        self
    }

    /// Hears of each turn's spans: what was done for whom and how long it took. Which ones there are is said by
    /// [`Config::tracing`], without which there are none. Like `record`, `tell` is called on a shard's thread, which waits for
    /// it: let it pass them on and not send them. If it panics, it gets no more of this shard. Default: nobody hears.
    pub fn on_spans(mut self, tell: impl Fn(ShardId, Spans) + Send + Sync + 'static) -> Self {
        self.handlers.spans = Some(Arc::new(tell));
        self
    }

    /// Keeps channels, documents and sessions over restarts: a message is published when the store has kept it. `contents`
    /// is what it holds of an earlier run. `mahavishnu-store` has a store that is a file:
    ///
    /// ```no_run
    /// # use mahavishnu_driver::{Runtime, Server};
    /// # fn with_store<R: Runtime>() -> Result<(), Box<dyn std::error::Error>> {
    /// use mahavishnu_store::{Fsync, Store};
    ///
    /// let (store, contents) = Store::open("history.db".as_ref(), Fsync::EverySec)?;
    /// let builder = Server::<R>::builder().store(store, contents.into_events());
    /// # drop(builder);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// It works on a thread of its own. Default: what is kept is kept in memory.
    pub fn store(mut self, store: impl Store, contents: Vec<StoreEvent>) -> Self {
        self.store = Some(Kept { store: Box::new(store), contents });
        self
    }

    /// Makes all servers that name the same Redis one: what is published on any of them reaches the subscribers of all, with
    /// the same numbers in the same order, and Redis keeps what was missed. What a server does while Redis is away is said by
    /// [`Config::bus`]; without that, by its defaults.
    ///
    /// ```no_run
    /// # use mahavishnu_driver::{Runtime, Server};
    /// # fn with_redis<R: Runtime>() {
    /// use mahavishnu_driver::links::{LinkConfig, Secret, Servers};
    ///
    /// let redis = LinkConfig {
    ///     servers: Servers::Single { host: "redis.internal".into(), port: 6379 },
    ///     password: Some(Secret::new("…")),
    ///     ..LinkConfig::default()
    /// };
    /// let builder = Server::<R>::builder().redis(redis);
    /// # drop(builder);
    /// # }
    /// ```
    ///
    /// Each shard has a connection of its own, which is made anew whenever it ends. The server starts whether Redis is there
    /// or not: `/ready` says. A [`store`](Self::store) is not for such a server. Default: this server is alone.
    pub fn redis(mut self, config: LinkConfig) -> Self {
        self.redis = Some(config);
        self
    }

    /// Binds every address and starts the shards. Where handlers run is the runtime's to say, see [`Runtime::current`]. The
    /// server's threads log within the `tracing` span that is current here: one for each server tells their lines apart.
    ///
    /// # Errors
    ///
    /// The first address that cannot be resolved (within 10 s) or bound, named in the error: of the kind `NotFound` if a
    /// name has none. Or the runtime has to be entered first; or there is both a store and a Redis, or a header field that
    /// [`keep_headers`](Self::keep_headers) names cannot be one, which is `InvalidInput`.
    pub async fn start(self) -> io::Result<Server<R>> {
        let (mut server, shards) = self.assemble(None).await?;
        for (end, start) in shards {
            let thread = std::thread::Builder::new().name(format!("shard-{}", end.shard));
            // What it logs is told apart by it from what other servers of this process log.
            let span = Span::current();
            match thread.spawn(move || span.in_scope(|| end.after(start))) {
                Ok(thread) => server.threads.push(thread),
                Err(error) => {
                    drain_all(&server.handle.mailboxes);
                    return Err(error);
                }
            }
        }
        Ok(server)
    }

    /// All but the shards' threads: what each of them is given, and how it ends.
    pub(crate) async fn assemble(
        mut self,
        time: Option<Time>,
    ) -> io::Result<(Server<R>, Vec<(End, Start<R>)>)> {
        let runtime = R::current()?;
        if self.store.is_some() && self.redis.is_some() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, TWO_STORES));
        }
        if let Some(name) = self.no_header {
            let text = format!("{name:?} is no name of a header field that could be kept");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let stays = |(opening, _): &(Opening, Listener)| {
            matches!(opening, Opening::Open(_) | Opening::OpenUnix(_))
        };
        let listeners_stay = self.places.iter().any(stays);
        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        for (opening, kind) in std::mem::take(&mut self.places) {
            for listener in opening.open().await? {
                if let Open::Tcp(listener) = &listener {
                    addresses.push((listener.local_addr()?, kind));
                }
                listeners.push((listener, kind));
            }
        }
        let seed = match self.seed {
            Some(seed) => seed,
            None => random_seed()?,
        };
        let shards = self.shards.unwrap_or(1).clamp(1, 64);
        self.config.hooks = self.handlers.hooks();
        self.config.store = self.store.is_some();
        self.config.bus = self.redis.as_ref().map(|redis| {
            let named = || Bus { node_name: redis.node_name.clone().into(), ..Bus::default() };
            self.config.bus.take().unwrap_or_else(named)
        });
        let (config, hooks) = (Arc::new(self.config.clone()), Arc::new(self.config.hooks));
        let handlers = Arc::new(self.handlers);
        let (mailboxes, inboxes): (Vec<_>, Vec<_>) = (0..shards).map(|_| Mailbox::new()).unzip();
        let mailboxes: Arc<[Mailbox]> = mailboxes.into();
        let placement = Placement::new(Place { shard: ShardId(0), shards, seed });
        let (mut threads, mut starts) = (Vec::new(), Vec::new());
        let (tell, ended) = async_channel::unbounded();
        let (to_store, kept) = match self.store {
            None => (None, Vec::new()),
            Some(Kept { store, contents }) => {
                let (to_store, commands) = ToStore::new();
                let keeper = Keeper::new(store, mailboxes.clone(), &config.service.label);
                // The server has stopped when this one has, too.
                let tell = tell.clone();
                let thread = std::thread::Builder::new().name("store".into());
                let span = Span::current();
                threads.push(thread.spawn(move || {
                    span.in_scope(|| keeper.run(&commands));
                    drop(tell);
                })?);
                (Some(to_store), store::deal(contents, &placement, shards))
            }
        };
        let redis = match self.redis {
            Some(redis) => Some((Arc::new(redis), Resolver::start(mailboxes.clone())?)),
            None => None,
        };
        let handle = Handle {
            mailboxes: mailboxes.clone(),
            placement,
            hooks,
            store: config.store,
            redis: config.bus.is_some(),
        };
        let mut kept = kept.into_iter();
        for ((inbox, mailbox), shard) in inboxes.into_iter().zip(mailboxes.iter()).zip(0u16..) {
            let start = Start {
                config: config.clone(),
                place: Place { shard: ShardId(shard), shards, seed },
                mailboxes: mailboxes.clone(),
                inbox,
                app: App::new(handlers.clone(), runtime.clone(), mailbox.clone(), handle.clone()),
                listeners: std::mem::take(&mut listeners),
                listeners_stay,
                store: to_store.clone(),
                kept: kept.next().unwrap_or_default(),
                redis: redis.clone(),
                time: time.clone(),
            };
            let end = End { shard, tell: tell.clone(), mailboxes: mailboxes.clone() };
            starts.push((end, start));
        }
        let server = Server {
            handle,
            addresses,
            threads,
            ended,
            failure: None,
            handlers,
            runtime: PhantomData,
        };
        Ok((server, starts))
    }

    /// Whether something runs beside its shards.
    pub(crate) fn has_threads(&self) -> bool {
        self.store.is_some() || self.redis.is_some()
    }
}

impl Opening {
    async fn open(self) -> io::Result<Vec<Open>> {
        match self {
            Self::Bind(address) => {
                let named =
                    |error: io::Error| io::Error::new(error.kind(), format!("{address}: {error}"));
                let listeners = listen::bind(&address).await.map_err(named)?;
                Ok(listeners.into_iter().map(Open::from).collect())
            }
            Self::Open(listener) => {
                // Whoever has bound it may have meant to wait at it.
                listener.set_nonblocking(true)?;
                Ok(vec![listener.into()])
            }
            Self::BindUnix(path, mode) => {
                let named = |error: io::Error| {
                    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
                };
                Ok(vec![listen::bind_unix(&path, mode).map_err(named)?])
            }
            Self::OpenUnix(listener) => {
                listener.set_nonblocking(true)?;
                Ok(vec![Open::Unix(polled::UnixListener::from_std(listener), None)])
            }
        }
    }
}

impl<R> Default for Builder<R> {
    fn default() -> Self {
        Self {
            config: Config::default(),
            places: Vec::new(),
            shards: None,
            seed: None,
            handlers: Handlers::default(),
            store: None,
            redis: None,
            no_header: None,
            runtime: PhantomData,
        }
    }
}

/// A running server. Dropping it leaves it running until the process ends; [`run_until`](Self::run_until) or
/// [`stop`](Self::stop) ends it in order, and says whether it has ended by itself before.
#[derive(Debug)]
#[must_use = "a server ends in order by `run_until` or `stop`, which also tell of one that has failed"]
pub struct Server<R> {
    handle: Handle,
    addresses: Vec<(SocketAddr, Listener)>,
    threads: Vec<JoinHandle<()>>,
    /// What shards have ended with. Over when the last one has.
    ended: Receiver<Result<(), ServerFailed>>,
    failure: Option<ServerFailed>,
    /// What they hold is dropped by who stops the server, if by then no call is under way.
    handlers: Arc<Handlers>,
    runtime: PhantomData<fn() -> R>,
}

/// A server has ended by itself: one of its threads could not go on, for want of file descriptors or by a bug, and the
/// others have closed their connections with 1001.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFailed {
    /// The number of the shard that ended first.
    pub shard: u16,
    cause: Box<str>,
}

impl fmt::Display for ServerFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard {} ended unexpectedly: {}", self.shard, self.cause)
    }
}

impl std::error::Error for ServerFailed {}

/// The end of a shard's thread, which is told by whatever way it comes.
pub(crate) struct End {
    shard: u16,
    tell: Sender<Result<(), ServerFailed>>,
    mailboxes: Arc<[Mailbox]>,
}

impl End {
    /// Serves as a shard that somebody steps, whose panics are that one's.
    pub(crate) async fn step<R: Runtime>(self, start: Start<R>) {
        let shard = self.shard;
        let failed = |error: io::Error| ServerFailed { shard, cause: error.to_string().into() };
        let result = shard::serve(start).await.map_err(failed);
        if result.is_err() {
            drain_all(&self.mailboxes);
        }
        // Nobody listens once the server was dropped.
        let _ = self.tell.try_send(result);
    }

    /// Runs a shard, and tells how it has ended. Without one of its shards a server is none: a part of its channels has no
    /// home, and newcomers would be sent to where nobody is. So the others end, too.
    fn after<R: Runtime>(self, start: Start<R>) {
        let shard = self.shard;
        let failed = |cause: &str| ServerFailed { shard, cause: cause.into() };
        let result = match guard(|| shard::run(start)) {
            Ok(result) => result.map_err(|error| failed(&error.to_string())),
            Err(_) => Err(failed("it panicked")),
        };
        if let Err(error) = &result {
            error!(shard, %error, "the server ends");
            if let Some(own) = self.mailboxes.get(usize::from(shard)) {
                own.sockets.store(0, Ordering::Relaxed);
            }
            drain_all(&self.mailboxes);
        }
        // Nobody listens once the server was dropped.
        let _ = self.tell.try_send(result);
    }
}

fn drain_all(mailboxes: &[Mailbox]) {
    for mailbox in mailboxes {
        mailbox.pass(Mail::Command(Command::Drain(DrainPlan::default())));
    }
}

impl<R: Runtime> Server<R> {
    /// What a server is to do.
    pub fn builder() -> Builder<R> {
        Builder::default()
    }

    /// Reaches the server from anywhere.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Where it listens for WebSocket and HTTP clients: the first address, with its port.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addrs().next()
    }

    /// Everywhere it listens for WebSocket and HTTP clients: a name may have several addresses.
    pub fn local_addrs(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.addresses_of(Listener::Main)
    }

    /// Where it listens for those who collect metrics.
    #[must_use]
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.addresses_of(Listener::Metrics).next()
    }

    fn addresses_of(&self, wanted: Listener) -> impl Iterator<Item = SocketAddr> + '_ {
        self.addresses.iter().filter(move |(_, kind)| *kind == wanted).map(|(address, _)| *address)
    }

    /// Serves until `end` is over, for example a signal, and then [stops](Self::stop). Returns earlier if the server ends by
    /// itself. With [`std::future::pending()`] it serves for ever.
    ///
    /// # Errors
    ///
    /// [`ServerFailed`]: the server has ended by itself.
    pub async fn run_until(mut self, end: impl Future) -> Result<(), ServerFailed> {
        let mut end = pin!(end);
        {
            let mut failed = pin!(self.failed());
            poll_fn(|context| match end.as_mut().poll(context) {
                Poll::Ready(_) => Poll::Ready(()),
                Poll::Pending => failed.as_mut().poll(context).map(drop),
            })
            .await;
        }
        self.stop().await
    }

    /// Waits until the server ends by itself, which only a bug or a poller that cannot be had makes it do: by then a part
    /// of its connections is lost, and the others are being closed. Ready at once if that has happened.
    pub async fn failed(&mut self) -> ServerFailed {
        while self.failure.is_none() {
            match self.ended.recv().await {
                Ok(ended) => self.failure = ended.err(),
                Err(_) => std::future::pending().await,
            }
        }
        match &self.failure {
            Some(failure) => failure.clone(),
            None => std::future::pending().await,
        }
    }

    /// Stops accepting, closes every connection with 1001 and waits until all sockets are closed and
    /// [`on_disconnect`](Builder::on_disconnect) has heard of it, at most ten seconds.
    ///
    /// # Errors
    ///
    /// [`ServerFailed`]: the server had ended by itself before.
    pub async fn stop(self) -> Result<(), ServerFailed> {
        self.stop_with(DrainPlan::default()).await
    }

    /// Stops by a plan of its own.
    ///
    /// # Errors
    ///
    /// As [`stop`](Self::stop).
    pub async fn stop_with(mut self, plan: DrainPlan) -> Result<(), ServerFailed> {
        self.handle.drain(plan).await;
        // The shards end by themselves within the plan's deadline, and each says so last of all.
        while let Ok(ended) = self.ended.recv().await {
            self.failure = self.failure.or_else(|| ended.err());
        }
        for thread in self.threads {
            // So this waits for nothing.
            let _ = thread.join();
        }
        if guard(|| drop(self.handlers)).is_err() {
            error!("what the application's handlers hold panicked when it was dropped");
        }
        self.failure.map_or(Ok(()), Err)
    }
}

/// What who wants both is told.
const TWO_STORES: &str = "a server with Redis has no store of its own: Redis keeps what there is to keep, for all servers";

fn random_seed() -> io::Result<Seed> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(Seed(bytes))
}
