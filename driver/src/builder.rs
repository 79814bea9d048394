//! Building, starting and stopping a server.

use std::{
    io,
    marker::PhantomData,
    net::{SocketAddr, TcpListener, ToSocketAddrs},
    sync::Arc,
    thread::JoinHandle,
};

use async_channel::{Receiver, Sender};
use mahavishnu_core::{
    config::Config,
    entropy::Seed,
    hub::{ConnId, DrainPlan, Listener, Place, Placement, ShardId},
    reason::Reason,
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    app::{App, Authorize, Handlers, Request, RequestResult},
    handle::Handle,
    mailbox::Mailbox,
    runtime::Runtime,
    shard::{self, Start},
};

/// Connections that the operating system holds ready while the server is busy.
const BACKLOG: i32 = 4096;

/// Collects what a server is to do, then starts it on the runtime `R`.
#[derive(Debug)]
pub struct Builder<R> {
    config: Config,
    addresses: Vec<(String, Listener)>,
    shards: Option<u16>,
    seed: Option<Seed>,
    handlers: Handlers,
    runtime: PhantomData<fn() -> R>,
}

impl<R: Runtime> Builder<R> {
    /// The core's configuration: limits, authentication, policy. Default: [`Config::default`], open to all.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Listens for WebSocket and HTTP clients at `address`, for example `127.0.0.1:8686`; port 0 takes a free one.
    /// Default: nowhere.
    #[must_use]
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.addresses.push((address.into(), Listener::Main));
        self
    }

    /// Listens at `address` for those who collect metrics, and answers them with what `render` returns: an exposition
    /// in Prometheus' text format. Default: nowhere.
    #[must_use]
    pub fn listen_metrics(
        mut self,
        address: impl Into<String>,
        render: impl Fn() -> String + Send + Sync + 'static,
    ) -> Self {
        self.addresses.push((address.into(), Listener::Metrics));
        self.handlers.render = Some(Arc::new(render));
        self
    }

    /// Threads that serve connections. Default: 1. At most 64.
    #[must_use]
    pub fn shards(mut self, shards: u16) -> Self {
        self.shards = Some(shards);
        self
    }

    /// The seed of all that is random in the server. Default: from the operating system. A known seed makes ids
    /// guessable: for tests only.
    #[must_use]
    pub fn seed(mut self, seed: Seed) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Answers the request `event`. Requests that nothing answers get `UNKNOWN_REQUEST`; an answer that takes longer
    /// than [`Requests::request_timeout`](mahavishnu_core::limits::Requests::request_timeout) is replaced by an error.
    #[must_use]
    pub fn on_request<F, A>(mut self, event: &str, handler: F) -> Self
    where
        F: Fn(Request) -> A + Send + Sync + 'static,
        A: Future<Output = RequestResult> + Send + 'static,
    {
        self.handlers
            .requests
            .insert(event.into(), Arc::new(move |request| Box::pin(handler(request))));
        self
    }

    /// Decides on subscriptions that the policy allows. Default: allowed.
    #[must_use]
    pub fn authorize_subscribe<F, A>(mut self, handler: F) -> Self
    where
        F: Fn(Authorize) -> A + Send + Sync + 'static,
        A: Future<Output = bool> + Send + 'static,
    {
        self.handlers.subscribe = Some(Arc::new(move |wish| Box::pin(handler(wish))));
        self
    }

    /// Decides on clients' publishes that the policy allows. Default: allowed. [`Handle::broadcast`] is not asked about.
    #[must_use]
    pub fn authorize_publish<F, A>(mut self, handler: F) -> Self
    where
        F: Fn(Authorize) -> A + Send + Sync + 'static,
        A: Future<Output = bool> + Send + 'static,
    {
        self.handlers.publish = Some(Arc::new(move |wish| Box::pin(handler(wish))));
        self
    }

    /// Hears of connections that are through handshake and authentication. Called on a shard's thread: must not block.
    #[must_use]
    pub fn on_connect(
        mut self,
        handler: impl Fn(ConnId, SocketAddr, Option<Arc<str>>) + Send + Sync + 'static,
    ) -> Self {
        self.handlers.connect = Some(Arc::new(handler));
        self
    }

    /// Hears of the end of connections that it heard of. Called on a shard's thread: must not block.
    #[must_use]
    pub fn on_disconnect(
        mut self,
        handler: impl Fn(ConnId, Reason) + Send + Sync + 'static,
    ) -> Self {
        self.handlers.disconnect = Some(Arc::new(handler));
        self
    }

    /// Records everything that goes into the server. `write` gets what each shard noted in a turn, in order, and calls
    /// of several shards may overlap; a [`Writer`](mahavishnu_core::trace::Writer) makes a trace of it, which
    /// [`replay`](mahavishnu_core::trace::replay()) runs again. Called on a shard's thread, which waits for it. A trace
    /// holds what clients send, tokens included. Default: nothing is recorded, which costs nothing.
    #[must_use]
    pub fn record(mut self, write: impl Fn(ShardId, &[u8]) + Send + Sync + 'static) -> Self {
        self.handlers.record = Some(Arc::new(write));
        self
    }

    /// Binds every address and starts the shards. Where handlers run is the runtime's to say, see [`Runtime::current`].
    ///
    /// # Errors
    ///
    /// The first address that cannot be resolved or bound, named in the error. Or the runtime has to be entered first.
    #[expect(
        clippy::unused_async,
        reason = "the same on every runtime; starting may come to wait for something"
    )]
    pub async fn start(mut self) -> io::Result<Server<R>> {
        let runtime = R::current()?;
        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        for (address, kind) in &self.addresses {
            let listener = bind(address)
                .map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))?;
            addresses.push((listener.local_addr()?, *kind));
            listeners.push((listener, *kind));
        }
        let seed = match self.seed {
            Some(seed) => seed,
            None => random_seed()?,
        };
        let shards = self.shards.unwrap_or(1).clamp(1, 64);
        self.config.hooks = self.handlers.hooks();
        let (config, hooks) = (Arc::new(self.config.clone()), Arc::new(self.config.hooks));
        let app = App { handlers: Arc::new(self.handlers), runtime };
        let (mailboxes, inboxes): (Vec<_>, Vec<_>) = (0..shards).map(|_| Mailbox::new()).unzip();
        let mailboxes: Arc<[Mailbox]> = mailboxes.into();
        let mut threads = Vec::new();
        let (end, ended) = async_channel::unbounded();
        for (inbox, shard) in inboxes.into_iter().zip(0u16..) {
            let start = Start {
                config: config.clone(),
                place: Place { shard: ShardId(shard), shards, seed },
                mailboxes: mailboxes.clone(),
                inbox,
                app: app.clone(),
                listeners: std::mem::take(&mut listeners),
            };
            let end = End { shard, tell: end.clone() };
            let thread = std::thread::Builder::new().name(format!("shard-{shard}"));
            threads.push(thread.spawn(move || {
                let _end = end;
                shard::run(start)
            })?);
        }
        let placement = Placement::new(Place { shard: ShardId(0), shards, seed });
        Ok(Server {
            handle: Handle { mailboxes, placement, hooks },
            addresses,
            threads,
            ended,
            runtime: PhantomData,
        })
    }
}

impl<R> Default for Builder<R> {
    fn default() -> Self {
        Self {
            config: Config::default(),
            addresses: Vec::new(),
            shards: None,
            seed: None,
            handlers: Handlers::default(),
            runtime: PhantomData,
        }
    }
}

/// A running server. Dropping it leaves it running until the process ends; [`stop`](Self::stop) ends it in order.
#[derive(Debug)]
pub struct Server<R> {
    handle: Handle,
    addresses: Vec<(SocketAddr, Listener)>,
    threads: Vec<JoinHandle<io::Result<()>>>,
    /// Numbers of shards that have ended. Over when the last one has.
    ended: Receiver<u16>,
    runtime: PhantomData<fn() -> R>,
}

/// Tells that a shard's thread has ended, by whatever way.
struct End {
    shard: u16,
    tell: Sender<u16>,
}

impl Drop for End {
    fn drop(&mut self) {
        // Nobody listens once the server was stopped.
        let _ = self.tell.try_send(self.shard);
    }
}

impl<R: Runtime> Server<R> {
    /// What a server is to do.
    #[must_use]
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
        self.addresses_of(Listener::Main).next()
    }

    /// Where it listens for those who collect metrics.
    #[must_use]
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.addresses_of(Listener::Metrics).next()
    }

    fn addresses_of(&self, wanted: Listener) -> impl Iterator<Item = SocketAddr> + '_ {
        self.addresses.iter().filter(move |(_, kind)| *kind == wanted).map(|(address, _)| *address)
    }

    /// Waits until a shard ends by itself, which only a bug or a poller that cannot be had makes it do; its
    /// connections are lost then. Returns the shard's number.
    pub async fn failed(&mut self) -> u16 {
        match self.ended.recv().await {
            Ok(shard) => shard,
            Err(_) => std::future::pending().await,
        }
    }

    /// Stops accepting, closes every connection with 1001 and waits until all sockets are closed, at most ten seconds.
    pub async fn stop(self) {
        self.stop_with(DrainPlan::default()).await;
    }

    /// Stops by a plan of its own.
    pub async fn stop_with(self, plan: DrainPlan) {
        self.handle.drain(plan).await;
        // The shards end by themselves within the plan's deadline, and each says so last of all.
        while self.ended.recv().await.is_ok() {}
        for thread in self.threads {
            // So this waits for nothing. One that panicked has nothing left to say.
            let _ = thread.join();
        }
    }
}

/// A listening socket that can be bound again right after the last one on its port was closed.
fn bind(address: &str) -> io::Result<TcpListener> {
    let mut last = io::Error::new(io::ErrorKind::InvalidInput, "no such address");
    for address in address.to_socket_addrs()? {
        match bind_one(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn bind_one(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn random_seed() -> io::Result<Seed> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(Seed(bytes))
}
