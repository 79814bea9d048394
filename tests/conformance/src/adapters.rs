//! The two runtimes' adapters over real sockets. They have one interface, so one text serves both.

use std::sync::LazyLock;

macro_rules! adapter {
    ($name:ident, $library:ident, $block_on:path, $sleep:path) => {
        pub(crate) mod $name {
            use std::{
                io,
                net::SocketAddr,
                sync::{Arc, Mutex},
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
            use serde_json::Value;
            use $library::{BroadcastError, Handle, Server};

            use crate::{
                backend::{Answer, Driven, Setup},
                stream::Stream,
            };

            /// A server on this runtime.
            pub(crate) struct Running {
                server: Mutex<Option<Server>>,
                stopping: Mutex<Option<JoinHandle<()>>>,
                handle: Handle,
                main: SocketAddr,
                metrics: SocketAddr,
                connected: Arc<Mutex<Vec<ConnId>>>,
                ended: Arc<Mutex<Vec<(ConnId, Reason)>>>,
                trace: Arc<Mutex<Option<Writer<Vec<u8>>>>>,
            }

            impl Running {
                pub(crate) fn start(setup: Setup) -> Self {
                    let connected = Arc::<Mutex<Vec<ConnId>>>::default();
                    let ended = Arc::<Mutex<Vec<(ConnId, Reason)>>>::default();
                    let (came, went) = (connected.clone(), ended.clone());
                    let mut builder = Server::builder()
                        .config(setup.config)
                        .shards(setup.shards)
                        .seed(Seed::from(setup.seed))
                        .listen("127.0.0.1:0")
                        .listen_metrics("127.0.0.1:0", || crate::rig::EXPOSITION.to_owned())
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
                            async move { take::<Result<Value, RequestError>>(answer).await }
                        });
                    }
                    if let Some(decide) = setup.app.subscribe {
                        builder = builder.authorize_subscribe(move |wish| {
                            let answer = decide(&wish.channel);
                            async move { take(answer).await }
                        });
                    }
                    if let Some(decide) = setup.app.publish {
                        builder = builder.authorize_publish(move |wish| {
                            let answer = decide(&wish.channel);
                            async move { take(answer).await }
                        });
                    }
                    let server = $block_on(builder.start()).expect("a server that starts");
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

            async fn take<T>(answer: Answer<T>) -> T {
                match answer {
                    Some((Duration::ZERO, answer)) => answer,
                    Some((delay, answer)) => {
                        $sleep(delay).await;
                        answer
                    }
                    None => std::future::pending().await,
                }
            }

            impl Driven for Running {
                fn connect(&self, listener: Listener, room: Option<usize>) -> io::Result<Stream> {
                    let address = match listener {
                        Listener::Main => self.main,
                        Listener::Metrics => self.metrics,
                    };
                    mahavishnu_tests::stream::connect(None, address, room).map(Stream::Tcp)
                }

                fn broadcast(
                    &self,
                    channel: &str,
                    event: &str,
                    data: &Value,
                ) -> Result<Published, Reason> {
                    $block_on(self.handle.broadcast(channel, event, data)).map_err(|error| {
                        match error {
                            BroadcastError::Refused(reason) => reason,
                            BroadcastError::NotAnObject | BroadcastError::Stopped => {
                                panic!("{error}")
                            }
                        }
                    })
                }

                fn drain(&self, plan: DrainPlan) {
                    let Some(server) = self.server.lock().unwrap().take() else { return };
                    let stop = move || $block_on(server.stop_with(plan));
                    *self.stopping.lock().unwrap() = Some(std::thread::spawn(stop));
                }

                fn is_drained(&self) -> bool {
                    self.stopping.lock().unwrap().as_ref().is_some_and(JoinHandle::is_finished)
                }

                fn disconnect(&self, conn: ConnId) {
                    $block_on(self.handle.disconnect(conn));
                }

                fn reload(&self, config: &Config) {
                    $block_on(self.handle.reload(config));
                }

                fn recording(&self) -> Vec<u8> {
                    self.trace.lock().unwrap().take().map(Writer::into_inner).unwrap_or_default()
                }

                fn sockets(&self) -> usize {
                    self.handle.sockets()
                }

                fn connected(&self) -> Vec<ConnId> {
                    self.connected.lock().unwrap().clone()
                }

                fn ended(&self) -> Vec<(ConnId, Reason)> {
                    self.ended.lock().unwrap().clone()
                }
            }

            impl Drop for Running {
                fn drop(&mut self) {
                    // Clients that do not say goodbye are not waited for.
                    self.drain(DrainPlan { deadline: Duration::ZERO, ..DrainPlan::default() });
                }
            }
        }
    };
}

adapter!(tokio, mahavishnu_tokio, super::on_tokio, tokio::time::sleep);
adapter!(smol, mahavishnu_smol, smol::block_on, smol::Timer::after);

/// Handlers run on these threads, so they never wait for a test.
static RUNTIME: LazyLock<::tokio::runtime::Runtime> =
    LazyLock::new(|| ::tokio::runtime::Runtime::new().expect("a runtime"));

fn on_tokio<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.block_on(future)
}
