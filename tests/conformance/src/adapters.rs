//! The driver on each of its runtimes, over real sockets.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{Arc, LazyLock, Mutex},
    thread::JoinHandle,
    time::Duration,
};

use bytes::Bytes;
use mahavishnu_core::{
    config::Config,
    entropy::Seed,
    hub::{
        ChannelInfo, ConnId, ConnectionInfo, Denial, Disconnect, DrainPlan, Listener, Published,
        RefusedBy, RequestError, Roll,
    },
    reason::Reason,
    trace::Writer,
};
use mahavishnu_driver::{
    Access, AuthenticateResult, BroadcastError, CommandError, Cursor, Handle, Listed, LookError,
    Refusal, Runtime, SendError, Server,
};
use mahavishnu_smol::Smol;
use mahavishnu_tokio::Tokio;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    backend::{Answer, Did, Driven, Moved, Said, Setup, Way, Wish},
    own::Own,
    rig::EXPOSITION,
    stream::{Stream, unix},
};

/// A runtime, as an application around the server uses it.
pub(crate) trait Host: Runtime {
    fn block_on<T>(future: impl Future<Output = T>) -> T;
    fn sleep(time: Duration) -> impl Future<Output = ()> + Send;
}

impl Host for Tokio {
    fn block_on<T>(future: impl Future<Output = T>) -> T {
        /// Handlers run on these threads, so they never wait for a test.
        static RUNTIME: LazyLock<tokio::runtime::Runtime> =
            LazyLock::new(|| tokio::runtime::Runtime::new().expect("a runtime"));
        RUNTIME.block_on(future)
    }

    fn sleep(time: Duration) -> impl Future<Output = ()> + Send {
        tokio::time::sleep(time)
    }
}

impl Host for Smol {
    fn block_on<T>(future: impl Future<Output = T>) -> T {
        smol::block_on(future)
    }

    async fn sleep(time: Duration) {
        smol::Timer::after(time).await;
    }
}

impl Host for Own {
    fn block_on<T>(future: impl Future<Output = T>) -> T {
        Self::run(future).expect("a thread can wait")
    }

    async fn sleep(time: Duration) {
        // A handler has a thread to itself.
        std::thread::sleep(time);
    }
}

/// The file of its Unix socket.
const SOCKET: &str = "socket";

/// A server on the runtime `R`.
pub(crate) struct Running<R: Host> {
    server: Mutex<Option<Server<R>>>,
    stopping: Mutex<Option<JoinHandle<()>>>,
    handle: Handle,
    main: SocketAddr,
    metrics: SocketAddr,
    connected: Arc<Mutex<Vec<ConnId>>>,
    ended: Arc<Mutex<Vec<(ConnId, Reason)>>>,
    moved: Arc<Mutex<Vec<Moved>>>,
    trace: Arc<Mutex<Option<Writer<Vec<u8>>>>>,
    /// Where its Unix socket is, if it has one.
    dir: Option<TempDir>,
}

impl<R: Host> Running<R> {
    pub(crate) fn start(setup: Setup) -> Self {
        let connected = Arc::<Mutex<Vec<ConnId>>>::default();
        let ended = Arc::<Mutex<Vec<(ConnId, Reason)>>>::default();
        let moved = Arc::<Mutex<Vec<Moved>>>::default();
        let (came, went) = (connected.clone(), ended.clone());
        let (entered, left) = (moved.clone(), moved.clone());
        let mut builder = Server::<R>::builder()
            .config(setup.config)
            .shards(setup.shards)
            .seed(Seed::from(setup.seed))
            .listen("127.0.0.1:0")
            .listen_metrics("127.0.0.1:0", || EXPOSITION.to_owned())
            .on_connect(move |connected| came.lock().unwrap().push(connected.conn()))
            .on_disconnect(move |connected, why| went.lock().unwrap().push((connected.conn(), why)))
            .on_subscribe(move |connected, channel| {
                entered.lock().unwrap().push((connected.conn(), channel.into(), None));
            })
            .on_unsubscribe(move |connected, channel, why| {
                left.lock().unwrap().push((connected.conn(), channel.into(), Some(why)));
            });
        let dir = setup.unix.then(|| tempfile::tempdir().expect("a directory"));
        if let Some(dir) = &dir {
            builder = builder.listen_unix(dir.path().join(SOCKET), Some(0o600));
        }
        let trace = Arc::new(Mutex::new(Writer::new(Vec::new()).ok()));
        if setup.record {
            let trace = trace.clone();
            builder = builder.record(move |shard, records| {
                if let Some(writer) = trace.lock().unwrap().as_mut() {
                    writer.add(shard, records).expect("memory takes everything");
                }
            });
        }
        for (event, handler) in setup.app.requests {
            builder = builder.on_request(event, move |request| {
                let answer = handler(&request.data);
                async move { take::<R, Result<Value, RequestError>>(answer).await }
            });
        }
        if let Some(decide) = setup.app.subscribe {
            builder = builder.authorize_subscribe(move |wish| {
                let answer = decide(&wish.channel);
                async move { take::<R, bool>(answer).await }
            });
        }
        if let Some(decide) = setup.app.publish {
            builder = builder.authorize_publish(move |wish| {
                let answer = decide(&wish.channel);
                async move { take::<R, bool>(answer).await }
            });
        }
        if let Some(says) = setup.app.authenticate {
            builder = builder.authenticate(move |handshake| {
                let answer = says(handshake.request());
                async move { access(take::<R, Said>(answer).await) }
            });
        }
        let server = R::block_on(builder.start()).expect("a server that starts");
        Self {
            handle: server.handle(),
            main: server.local_addr().expect("an address"),
            metrics: server.metrics_addr().expect("an address"),
            server: Mutex::new(Some(server)),
            stopping: Mutex::default(),
            connected,
            ended,
            moved,
            trace,
            dir,
        }
    }
}

fn access(said: Said) -> AuthenticateResult {
    let refusal = |denial| match denial {
        Denial::Unauthorized => Refusal::unauthorized(),
        Denial::Forbidden => Refusal::forbidden(),
        _ => Refusal::later(),
    };
    match said {
        Said::Pass => Ok(Access::pass()),
        Said::Is(user, channels) => Ok(Access::of(user).subscribe([channels]).publish([channels])),
        Said::No(denial, RefusedBy::Status) => Err(refusal(denial)),
        Said::No(denial, RefusedBy::Close) => Err(refusal(denial).closing()),
        Said::Panics => panic!("the application's"),
    }
}

async fn take<R: Host, T>(answer: Answer<T>) -> T {
    match answer {
        Some((Duration::ZERO, answer)) => answer,
        Some((delay, answer)) => {
            R::sleep(delay).await;
            answer
        }
        None => std::future::pending().await,
    }
}

impl<R: Host> Driven for Running<R> {
    fn connect(&self, listener: Listener, room: Option<usize>) -> io::Result<Stream> {
        let address = match listener {
            Listener::Main => self.main,
            Listener::Metrics => self.metrics,
            Listener::Adopted => return Err(io::ErrorKind::Unsupported.into()),
        };
        mahavishnu_tests::stream::connect(None, address, room).map(Stream::Tcp)
    }

    fn connect_by(&self, way: Way) -> io::Result<Stream> {
        match way {
            Way::Unix => {
                let dir = self.dir.as_ref().expect("it listens at a Unix socket");
                unix(&dir.path().join(SOCKET))
            }
            Way::HandedOver => {
                let listener = TcpListener::bind("127.0.0.1:0")?;
                let address = listener.local_addr()?;
                let client = mahavishnu_tests::stream::connect(None, address, None)?;
                let (socket, peer) = listener.accept()?;
                let taken = self.handle.adopt_socket(socket, Bytes::new(), Some(peer));
                R::block_on(taken).map_err(io::Error::other)?;
                Ok(Stream::Tcp(client))
            }
        }
    }

    fn broadcast(&self, channel: &str, event: &str, data: &Value) -> Result<Published, Reason> {
        R::block_on(self.handle.broadcast(channel, event, data)).map_err(|error| match error {
            BroadcastError::Refused(reason) => reason,
            _ => panic!("{error}"),
        })
    }

    fn drain(&self, plan: DrainPlan) {
        let Some(server) = self.server.lock().unwrap().take() else { return };
        let stop = move || R::block_on(server.stop_with(plan)).expect("no shard ended by itself");
        *self.stopping.lock().unwrap() = Some(std::thread::spawn(stop));
    }

    fn is_drained(&self) -> bool {
        self.stopping.lock().unwrap().as_ref().is_some_and(JoinHandle::is_finished)
    }

    fn disconnect(&self, conn: ConnId) {
        let ended = R::block_on(self.handle.disconnect(conn, Disconnect::default()));
        assert_eq!(ended, Ok(true));
    }

    fn reload(&self, config: &Config) {
        R::block_on(self.handle.reload(config));
    }

    fn recording(&self) -> Vec<u8> {
        self.trace.lock().unwrap().take().map(Writer::into_inner).unwrap_or_default()
    }

    fn sockets(&self) -> usize {
        self.handle.sockets()
    }

    fn sessions_of(&self, user: &str) -> Vec<(String, bool)> {
        let sessions = R::block_on(self.handle.sessions_of(user)).expect("a running server");
        let known = sessions.into_iter().map(|one| (one.connection_id, one.waits.is_some()));
        known.collect()
    }

    fn end_sessions_of(&self, user: &str) -> u64 {
        R::block_on(self.handle.end_sessions_of(user)).expect("a running server")
    }

    fn wish(&self, wish: Wish<'_>) -> Did {
        let handle = &self.handle;
        R::block_on(async {
            match wish {
                Wish::Send(conn, event, data) => {
                    sent(handle.send(conn, event, data).await.map(|()| 1))
                }
                Wish::SendToUser(user, event, data) => {
                    sent(handle.send_to_user(user, event, data).await.map(|sent| sent.reached))
                }
                Wish::TryBroadcast(channel, event, data) => {
                    handle.try_broadcast(channel, event, data).expect("room for one");
                    Did::Done(0)
                }
                Wish::Subscribe(conn, channel) => {
                    did(handle.subscribe(conn, channel).await.map(u32::from))
                }
                Wish::SubscribeIfPermitted(conn, channel) => {
                    did(handle.subscribe_if_permitted(conn, channel).await.map(u32::from))
                }
                Wish::Unsubscribe(conn, channel) => {
                    did(handle.unsubscribe(conn, channel).await.map(u32::from))
                }
                Wish::Disconnect(conn, how) => {
                    did(handle.disconnect(conn, how).await.map(u32::from))
                }
                Wish::DisconnectUser(user, how) => did(handle.disconnect_user(user, how).await),
            }
        })
    }

    fn roll(&self, of: &Roll) -> (u64, Vec<String>) {
        let handle = &self.handle;
        let id = |one: ConnectionInfo| one.connection_id.to_string();
        let channel = |one: ChannelInfo| format!("{}={}", one.channel, one.subscribers);
        match of {
            Roll::Connections => all(|after| R::block_on(handle.connections(2, after)), id),
            Roll::User(user) => all(|after| R::block_on(handle.connections_of(user, 2, after)), id),
            Roll::Subscribers(name) => {
                all(|after| R::block_on(handle.subscribers(name, 2, after)), id)
            }
            Roll::Channels => all(|after| R::block_on(handle.channels(2, after)), channel),
        }
    }

    fn moved(&self) -> Vec<Moved> {
        self.moved.lock().unwrap().clone()
    }

    fn connected(&self) -> Vec<ConnId> {
        self.connected.lock().unwrap().clone()
    }

    fn ended(&self) -> Vec<(ConnId, Reason)> {
        self.ended.lock().unwrap().clone()
    }
}

fn sent(result: Result<u32, SendError>) -> Did {
    match result {
        Ok(count) => Did::Done(count),
        Err(SendError::Gone) => Did::Gone,
        Err(SendError::Slow) => Did::Slow,
        Err(SendError::Refused(reason)) => Did::Refused(reason),
        Err(error) => panic!("{error}"),
    }
}

fn did(result: Result<u32, CommandError>) -> Did {
    match result {
        Ok(count) => Did::Done(count),
        Err(CommandError::Gone) => Did::Gone,
        Err(CommandError::Refused(reason)) => Did::Refused(reason),
        Err(error) => panic!("{error}"),
    }
}

/// All of a list, part by part.
fn all<T>(
    ask: impl Fn(Option<Cursor>) -> Result<Listed<T>, LookError>,
    name: impl Fn(T) -> String,
) -> (u64, Vec<String>) {
    let (mut names, mut after) = (Vec::new(), None);
    loop {
        let part = ask(after).expect("a list");
        assert!(part.items.len() <= 2, "no more than was asked for");
        names.extend(part.items.into_iter().map(&name));
        after = part.next;
        if after.is_none() {
            return (part.total, names);
        }
    }
}

impl<R: Host> Drop for Running<R> {
    fn drop(&mut self) {
        // Clients that do not say goodbye are not waited for.
        self.drain(DrainPlan { deadline: Duration::ZERO, ..DrainPlan::default() });
    }
}
