//! Tests of one's own handlers in virtual time.
//!
//! A [`World`] is a whole server, the one that a [`Builder`] describes, with its clients and the application's handlers, on one
//! thread and on a clock that it sets itself. Nothing is waited for: when nobody has anything to do the clock goes to the next
//! moment that somebody waits for. So a time-out of 30 s passes in microseconds, and the same seed gives the same run.
//!
//! ```
//! use std::time::Duration;
//! use mahavishnu_driver::{Builder, Runtime};
//! use mahavishnu_test::{Clock, World};
//! use serde_json::json;
//!
//! // The application: the same function makes its server, on whatever runtime.
//! fn with_handlers<R: Runtime>(builder: Builder<R>, clock: Clock) -> Builder<R> {
//!     builder.on_request("ask_far_away", move |_| {
//!         let clock = clock.clone();
//!         async move {
//!             clock.sleep(Duration::from_secs(3600)).await;
//!             Ok(json!({}))
//!         }
//!     })
//! }
//!
//! let mut world = World::with(7, with_handlers)?;
//! let client = world.connect();
//! let answer = world.request(client, "ask_far_away", &json!({}));
//! assert_eq!(answer["error_message"], "No answer in time");
//! assert_eq!(world.elapsed(), Duration::from_secs(30));
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # What is real and what is not
//!
//! The server is the driver's, shards, mailboxes and handlers' guards included; the clients are
//! [`mahavishnu_wire`]'s, over pairs of Unix sockets, so what goes between them are the real bytes in the real order. There is
//! no port, no thread and no wall clock. The network has no latency and loses nothing; a client may [stall](World::stall), and
//! its socket then takes some 200 KiB.
//!
//! Handlers run on a small executor of the world's. What is bound to another runtime (`tokio::time`, `tokio::net`) does not work
//! in them: code under test takes its way to sleep as an argument, [`Clock::sleep`] here. A handler that blocks its thread
//! blocks the world. One that panics fails its call, as ever.
//!
//! A store and Redis are threads and sockets of their own, and so have no place here: [`World::new`] refuses such a server.
//! Clients are [adopted](mahavishnu_driver::Handle::adopt): there is no TLS between, and no plain HTTP.

mod client;
mod executor;

use std::{
    io,
    net::SocketAddr,
    os::unix::net::UnixStream,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use mahavishnu_core::entropy::{Entropy, Seed};
use mahavishnu_driver::{Builder, Handle, Server, Stepped, bytes::Bytes, http::HeaderMap};
use serde_json::{Value, json};

use self::client::Peer;
pub use self::{
    client::End,
    executor::{Clock, Sleep, Virtual, Watch},
};

/// Where clients come from unless the test says otherwise: a documentation address (RFC 5737), which is not this machine.
const CLIENT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 50_000);

/// How long a client waits for a message that may never come, in virtual time.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// Rounds in one moment after which something must go round in circles.
const ROUNDS_MAX: u32 = 1_000_000;

/// A client of a [`World`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Client(usize);

/// A server, its clients and its application, on one thread and in virtual time.
///
/// # Panics
///
/// Methods that expect something of a client, as [`request`](Self::request) does, panic if it does not come about within 24 h of
/// virtual time: a test has failed then.
#[derive(Debug)]
pub struct World {
    virtual_: Virtual,
    handle: Handle,
    /// `None` while it stops.
    server: Option<Server<Virtual>>,
    shards: Vec<Shard>,
    clients: Vec<Peer>,
    entropy: Entropy,
    requests: u64,
}

/// A shard's future, and whether it was woken.
struct Shard {
    future: Option<Stepped>,
    woken: Arc<Woken>,
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard").field("over", &self.future.is_none()).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Making a world.
impl World {
    /// A world with the server that `build` makes of an empty [`Builder`]; where it listens is of no account. All that is
    /// random in it, ids, masks and jitter, follows from `seed`.
    ///
    /// # Errors
    ///
    /// The server does not start: it has a store or a Redis (`InvalidInput`), or an address is not to be had.
    pub fn with(
        seed: u64,
        build: impl FnOnce(Builder<Virtual>, Clock) -> Builder<Virtual>,
    ) -> io::Result<Self> {
        let virtual_ = Virtual::new();
        let builder = build(Builder::default(), Clock(virtual_.clone()));
        Self::start(seed, virtual_, builder)
    }

    /// A world with a server whose handlers need no clock: see [`with`](Self::with).
    ///
    /// # Errors
    ///
    /// As those of [`with`](Self::with).
    pub fn new(seed: u64, builder: Builder<Virtual>) -> io::Result<Self> {
        Self::start(seed, Virtual::new(), builder)
    }

    fn start(seed: u64, virtual_: Virtual, builder: Builder<Virtual>) -> io::Result<Self> {
        let time = virtual_.shared().time.clone();
        let mut entropy = Entropy::new(Seed::from(seed));
        let starting = pin!(builder.seed(Seed::from(seed)).start_stepped(time));
        let Poll::Ready(started) = starting.poll(&mut Context::from_waker(Waker::noop())) else {
            // Only a name that has to be looked up takes longer.
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a world listens at no name"));
        };
        let (server, shards) = started?;
        let shard = |future| Shard { future: Some(future), woken: Arc::default() };
        let shards = shards.into_iter().map(shard).collect();
        let handle = server.handle();
        let (server, clients, entropy) = (Some(server), Vec::new(), entropy.fork());
        let mut this = Self { virtual_, handle, server, shards, clients, entropy, requests: 0 };
        this.settle();
        Ok(this)
    }
}

/// Time, and the application's side.
impl World {
    /// Reaches the server, as an application does. What its methods return is waited for by [`run`](Self::run).
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The clock, for code under test.
    #[must_use]
    pub fn clock(&self) -> Clock {
        Clock(self.virtual_.clone())
    }

    /// Virtual time since the world began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.virtual_.shared().time.elapsed()
    }

    /// Lets `time` pass, and everything happen that happens meanwhile.
    pub fn run_for(&mut self, time: Duration) {
        let until = self.elapsed() + time;
        self.run_until(until, |_| false);
    }

    /// Lets everything happen that needs no time.
    pub fn settle(&mut self) {
        self.run_for(Duration::ZERO);
    }

    /// Waits for something that the application does, [`Handle::broadcast`] for example.
    ///
    /// # Panics
    ///
    /// It is not over within 24 h of virtual time.
    pub fn run<T>(&mut self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        let waker = Waker::from(woken.clone());
        let mut output = None;
        let until = self.elapsed() + PATIENCE;
        self.run_until(until, |_| {
            if output.is_none() && woken.0.swap(false, Ordering::SeqCst) {
                let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
                output = match polled {
                    Poll::Ready(output) => Some(output),
                    Poll::Pending => None,
                };
            }
            output.is_some()
        });
        let Some(output) = output else { panic!("what was waited for is not over after 24 h") };
        self.settle();
        output
    }

    /// Stops the server in order and ends the world. Clients that are left are closed with 1001, as ever.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run): the server does not stop.
    pub fn stop(mut self) {
        if let Some(server) = self.server.take() {
            // Nothing can have failed that has not panicked here.
            let _ = self.run(server.stop());
        }
    }
}

/// Clients.
impl World {
    /// A client that connects to `/` and has been welcomed.
    ///
    /// # Panics
    ///
    /// It is not let in.
    pub fn connect(&mut self) -> Client {
        let client = self.connect_with("/", HeaderMap::new(), Some(CLIENT));
        let welcome = self.next(client);
        assert_eq!(field(&welcome, "event"), "session.created", "{:?}", self.end(client));
        client
    }

    /// A client that connects to `path` with these header fields more (`Authorization`, `Cookie`), from `address`. Nothing of
    /// what it is told is taken: it may be refused, see [`end`](Self::end).
    ///
    /// # Panics
    ///
    /// The process has no file descriptor left.
    pub fn connect_with(
        &mut self,
        path: &str,
        headers: HeaderMap,
        address: Option<SocketAddr>,
    ) -> Client {
        let pair = UnixStream::pair().and_then(|(ours, theirs)| {
            ours.set_nonblocking(true)?;
            Ok((ours, theirs))
        });
        let Ok((ours, theirs)) = pair else { panic!("no file descriptor is left") };
        let now = self.virtual_.shared().time.now();
        self.clients.push(Peer::new(now, ours, path, headers, self.entropy.fork()));
        let handle = self.handle();
        // A server that has stopped closes it.
        let _ = self.run(handle.adopt_socket(theirs, Bytes::new(), address));
        Client(self.clients.len() - 1)
    }

    /// Sends a message.
    pub fn send(&mut self, client: Client, message: &Value) {
        self.send_text(client, &message.to_string());
    }

    /// Sends a text that need not be JSON.
    pub fn send_text(&mut self, client: Client, text: &str) {
        self.peer(client).send(text);
        self.settle();
    }

    /// Sends a request and returns its answer. Other messages that come meanwhile are left for [`next`](Self::next).
    ///
    /// # Panics
    ///
    /// There is no answer within 24 h of virtual time, or the connection ends.
    pub fn request(&mut self, client: Client, event: &str, data: &Value) -> Value {
        self.requests += 1;
        let id = format!("test-{}", self.requests);
        let answers = |message: &Value| field(message, "correlation_id") == id;
        self.send(client, &json!({ "type": "request", "event": event, "id": id, "data": data }));
        self.take(client, answers)
    }

    /// Subscribes to a channel.
    ///
    /// # Panics
    ///
    /// It may not.
    pub fn subscribe(&mut self, client: Client, channel: &str) {
        let answer = self.request(client, "subscribe", &json!({ "channel": channel }));
        assert_eq!(answer.pointer("/data/status"), Some(&"subscribed".into()), "{answer}");
    }

    /// The next message, which is waited for.
    ///
    /// # Panics
    ///
    /// There is none within 24 h of virtual time, or the connection ends.
    pub fn next(&mut self, client: Client) -> Value {
        self.take(client, |_| true)
    }

    /// The next message, if one has come.
    pub fn try_next(&mut self, client: Client) -> Option<Value> {
        self.settle();
        self.peer(client).inbox.pop_front()
    }

    /// The next message that is `wanted`.
    fn take(&mut self, client: Client, wanted: impl Fn(&Value) -> bool) -> Value {
        let found = |peer: &Peer| peer.inbox.iter().position(&wanted);
        let until = self.elapsed() + PATIENCE;
        self.run_until(until, |world| {
            let peer = world.peer(client);
            found(peer).is_some() || peer.end.is_some()
        });
        let peer = self.peer(client);
        let message = found(peer).and_then(|at| peer.inbox.remove(at));
        match message {
            Some(message) => message,
            None => panic!("no such message has come: {:?}, {:?}", peer.end, peer.inbox),
        }
    }

    /// How the client's connection has ended, if it has.
    pub fn end(&mut self, client: Client) -> Option<End> {
        self.settle();
        self.peer(client).end.clone()
    }

    /// Whether the client's handshake was accepted.
    pub fn is_accepted(&mut self, client: Client) -> bool {
        self.settle();
        self.peer(client).accepted
    }

    /// The client closes its connection in order.
    pub fn close(&mut self, client: Client) {
        let now = self.virtual_.shared().time.now();
        self.peer(client).close(now);
        self.settle();
    }

    /// The client's socket is gone, without a word.
    pub fn hang_up(&mut self, client: Client) {
        self.peer(client).drop_socket();
        self.settle();
    }

    /// From now on the client reads nothing: it becomes a slow reader. Pings are not answered either.
    pub fn stall(&mut self, client: Client) {
        self.peer(client).stalled = true;
    }

    /// It reads again.
    pub fn resume(&mut self, client: Client) {
        self.peer(client).stalled = false;
        self.settle();
    }

    fn peer(&mut self, client: Client) -> &mut Peer {
        let Some(peer) = self.clients.get_mut(client.0) else {
            panic!("a client of another world")
        };
        peer
    }
}

/// The loop.
impl World {
    /// Runs until `done`, or until `until` on the world's clock.
    fn run_until(&mut self, until: Duration, mut done: impl FnMut(&mut Self) -> bool) {
        loop {
            if self.step(&mut done) {
                return;
            }
            let time = self.virtual_.shared().time.clone();
            let clients = self.clients.iter().filter_map(Peer::deadline);
            let next = self.virtual_.next().into_iter().chain(clients).min();
            match next.map(|next| time.elapsed_at(next)).filter(|next| *next <= until) {
                Some(next) => time.set(next.max(time.elapsed())),
                None => {
                    time.set(until.max(time.elapsed()));
                    return;
                }
            }
            self.virtual_.ring();
        }
    }

    /// Everything that happens at this moment. Whether it is `done`.
    fn step(&mut self, done: &mut impl FnMut(&mut Self) -> bool) -> bool {
        for round in 0..ROUNDS_MAX {
            if done(self) {
                return true;
            }
            let ran = self.virtual_.run_tasks();
            let now = self.virtual_.shared().time.now();
            let moved = self.clients.iter_mut().fold(false, |moved, peer| peer.pump(now) | moved);
            let woken = self.shards.iter().fold(false, |woken, shard| shard.was_woken() | woken);
            if !(ran || moved || woken || round == 0) {
                return false;
            }
            self.virtual_.look();
            self.shards.iter_mut().for_each(Shard::poll);
        }
        panic!("something goes round in circles at {:?}", self.elapsed())
    }
}

impl Shard {
    fn was_woken(&self) -> bool {
        self.woken.0.swap(false, Ordering::SeqCst)
    }

    fn poll(&mut self) {
        let waker = Waker::from(self.woken.clone());
        if let Some(future) = &mut self.future
            && Pin::new(future).poll(&mut Context::from_waker(&waker)).is_ready()
        {
            self.future = None;
        }
    }
}

/// A text in a message, or nothing.
fn field<'m>(message: &'m Value, name: &str) -> &'m str {
    message.get(name).and_then(Value::as_str).unwrap_or_default()
}
