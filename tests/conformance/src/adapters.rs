//! The driver on each of its runtimes, over real sockets.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, LazyLock, Mutex},
    thread::JoinHandle,
    time::Duration,
};

use mahavishnu_core::{
    config::Config,
    entropy::Seed,
    hub::{ConnId, DrainPlan, Listener, Published, RequestError},
    reason::Reason,
    trace::Writer,
};
use mahavishnu_driver::{BroadcastError, Handle, Runtime, Server};
use mahavishnu_smol::Smol;
use mahavishnu_tokio::Tokio;
use serde_json::Value;

use crate::{
    backend::{Answer, Driven, Setup},
    own::Own,
    rig::EXPOSITION,
    stream::Stream,
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

/// A server on the runtime `R`.
pub(crate) struct Running<R: Host> {
    server: Mutex<Option<Server<R>>>,
    stopping: Mutex<Option<JoinHandle<()>>>,
    handle: Handle,
    main: SocketAddr,
    metrics: SocketAddr,
    connected: Arc<Mutex<Vec<ConnId>>>,
    ended: Arc<Mutex<Vec<(ConnId, Reason)>>>,
    trace: Arc<Mutex<Option<Writer<Vec<u8>>>>>,
}

impl<R: Host> Running<R> {
    pub(crate) fn start(setup: Setup) -> Self {
        let connected = Arc::<Mutex<Vec<ConnId>>>::default();
        let ended = Arc::<Mutex<Vec<(ConnId, Reason)>>>::default();
        let (came, went) = (connected.clone(), ended.clone());
        let mut builder = Server::<R>::builder()
            .config(setup.config)
            .shards(setup.shards)
            .seed(Seed::from(setup.seed))
            .listen("127.0.0.1:0")
            .listen_metrics("127.0.0.1:0", || EXPOSITION.to_owned())
            .on_connect(move |conn, _, _| came.lock().unwrap().push(conn))
            .on_disconnect(move |conn, why| went.lock().unwrap().push((conn, why)));
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
        let server = R::block_on(builder.start()).expect("a server that starts");
        Self {
            handle: server.handle(),
            main: server.local_addr().expect("an address"),
            metrics: server.metrics_addr().expect("an address"),
            server: Mutex::new(Some(server)),
            stopping: Mutex::default(),
            connected,
            ended,
            trace,
        }
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

    fn broadcast(&self, channel: &str, event: &str, data: &Value) -> Result<Published, Reason> {
        R::block_on(self.handle.broadcast(channel, event, data)).map_err(|error| match error {
            BroadcastError::Refused(reason) => reason,
            BroadcastError::NotAnObject | BroadcastError::Stopped => {
                panic!("{error}")
            }
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
        R::block_on(self.handle.disconnect(conn));
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

    fn connected(&self) -> Vec<ConnId> {
        self.connected.lock().unwrap().clone()
    }

    fn ended(&self) -> Vec<(ConnId, Reason)> {
        self.ended.lock().unwrap().clone()
    }
}

impl<R: Host> Drop for Running<R> {
    fn drop(&mut self) {
        // Clients that do not say goodbye are not waited for.
        self.drain(DrainPlan { deadline: Duration::ZERO, ..DrainPlan::default() });
    }
}
