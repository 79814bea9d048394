//! What an application's code may do wrong, and what becomes of it: nothing but its own call.

use std::{
    future::pending,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    panic::panic_any,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    task::Poll,
    thread,
    time::Duration,
};

use mahavishnu_driver::{
    Request, RequestResult, Runtime, Server,
    core::{
        config::{Config, STATISTICS},
        reason::Reason,
    },
};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use serde_json::{Value, json};
use tungstenite::protocol::frame::coding::CloseCode;

use super::server::{AT_ONCE, Client, Steps, TIMEOUT, end, start};
use crate::Host;

/// Panics when it is dropped, and again with what that throws.
struct Bomb(u8);

impl Drop for Bomb {
    fn drop(&mut self) {
        match self.0 {
            0 => {}
            left => panic_any(Self(left - 1)),
        }
    }
}

/// Gives way once, so that what follows is not in the first poll.
async fn give_way() {
    let mut given = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut given, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Every way to panic, by its name.
async fn panic_in_its_future(way: String) {
    match &*way {
        "first poll" => panic!("a text"),
        "later poll" => {
            give_way().await;
            panic!("a {}", "formatted text");
        }
        "value" => panic_any(7u8),
        "bomb" => panic_any(Bomb(3)),
        "drop after panic" => {
            let _bomb = Bomb(1);
            give_way().await;
            panic_any(Bomb(1));
        }
        way => assert_eq!(way, "none"),
    }
}

fn panic_before_its_future(way: &str) {
    match way {
        "synchronous" => panic!("a text"),
        "synchronous value" => panic_any(7u8),
        "synchronous bomb" => panic_any(Bomb(3)),
        _ => {}
    }
}

const WAYS: [&str; 7] = [
    "synchronous",
    "synchronous value",
    "synchronous bomb",
    "first poll",
    "later poll",
    "value",
    "bomb",
];

/// A future that is ready at once and panics when it is dropped.
struct PanicsWhenDropped;

impl Future for PanicsWhenDropped {
    type Output = RequestResult;

    fn poll(self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> Poll<RequestResult> {
        Poll::Ready(Ok(json!({ "answered": true })))
    }
}

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic_any(Bomb(1));
    }
}

/// Of a server with a name that begins so the recorder panics.
const PANICS: &str = "panics";

/// Counts calls that failed, by server and handler, for all tests of the process.
pub(crate) struct Counts(Mutex<Vec<(Key, Arc<AtomicU64>)>>);

pub(crate) static COUNTS: LazyLock<&'static Counts> = LazyLock::new(|| {
    let counts: &'static Counts = Box::leak(Box::new(Counts(Mutex::default())));
    metrics::set_global_recorder(counts).expect("no other recorder in these tests");
    counts
});

impl Recorder for &'static Counts {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        assert!(!key.labels().any(|label| label.value().starts_with(PANICS)), "a recorder's bug");
        if key.name() != "mahavishnu_handler_failures_total" {
            return Counter::noop();
        }
        let mut all = self.0.lock().unwrap();
        let known = all.iter().position(|(known, _)| known == key);
        let at = known.unwrap_or_else(|| {
            all.push((key.clone(), Arc::default()));
            all.len() - 1
        });
        Counter::from_arc(all[at].1.clone())
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

impl Counts {
    /// Waits until so many calls of a handler have failed, and looks that they are not more.
    pub(crate) fn expect(&self, server: &str, handler: &str, count: u64) {
        let now = || {
            let all = self.0.lock().unwrap();
            let has = |key: &Key, value: &str| key.labels().any(|label| label.value() == value);
            let of = all.iter().filter(|(key, _)| has(key, server) && has(key, handler));
            of.map(|(_, count)| count.load(Ordering::SeqCst)).sum::<u64>()
        };
        eventually(|| now() >= count);
        assert_eq!(now(), count, "{handler}");
    }
}

pub(crate) fn eventually(mut holds: impl FnMut() -> bool) {
    let until = std::time::Instant::now() + TIMEOUT;
    while !holds() {
        assert!(std::time::Instant::now() < until, "it never holds");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A configuration under whose name nobody else counts.
pub(crate) fn named<R>(test: &str) -> (Config, String) {
    let name = format!("{test} on {}", std::any::type_name::<R>());
    let mut config = Config::default();
    config.service.label = name.as_str().into();
    config.limits.connections.messages_per_second = None;
    (config, name)
}

fn failed(answer: &Value) -> bool {
    answer["error_code"] == "SERVER_ERROR"
        && answer["error_message"] == Reason::RequestFailed.row().text
}

fn way(request: &Request) -> String {
    request.data["way"].as_str().expect("a way").to_owned()
}

pub(crate) fn a_handler_that_panics_fails_its_request_alone<R: Host>() {
    let (counts, (config, name)) = (*COUNTS, named::<R>("requests"));
    let builder = Server::<R>::builder()
        .config(config)
        .on_request("fail", |request| {
            let way = way(&request);
            panic_before_its_future(&way);
            async move {
                panic_in_its_future(way).await;
                RequestResult::Ok(json!({ "done": true }))
            }
        })
        .on_request("bomb", |_| PanicsWhenDropped);
    let (server, address) = start(builder);
    let (mut client, mut other) = (Client::connect(address), Client::subscribed(address, "a"));
    for way in WAYS {
        let answer = client.request("fail", &json!({ "way": way }));
        assert!(failed(&answer), "{way}: {answer}");
        let done = client.request("fail", &json!({ "way": "none" }));
        assert_eq!(done["data"], json!({ "done": true }), "after {way}");
    }
    counts.expect(&name, "on_request", WAYS.len() as u64);
    // It had answered before, and the answer counts.
    let answer = client.request("bomb", &json!({}));
    assert_eq!(answer["data"], json!({ "answered": true }));
    counts.expect(&name, "on_request", WAYS.len() as u64 + 1);
    R::block_on(server.handle().broadcast("a", "e", &json!({}))).unwrap();
    assert_eq!(other.next()["room"], "a");
    end(server);
}

pub(crate) fn a_decision_that_panics_is_no_decision<R: Host>() {
    let (counts, (config, name)) = (*COUNTS, named::<R>("decisions"));
    let builder = Server::<R>::builder()
        .config(config)
        .authorize_subscribe(|wish| {
            panic_before_its_future(&wish.channel);
            async move {
                panic_in_its_future(wish.channel.into()).await;
                true
            }
        })
        .authorize_publish(|wish| {
            panic_before_its_future(&wish.channel);
            async move {
                panic_in_its_future(wish.channel.into()).await;
                true
            }
        });
    let (server, address) = start(builder);
    let mut client = Client::connect(address);
    for way in WAYS {
        for event in ["subscribe", "publish"] {
            let answer =
                client.request(event, &json!({ "channel": way, "event": "e", "data": {} }));
            assert!(failed(&answer), "{event} {way}: {answer}");
        }
    }
    let allowed = client.request("subscribe", &json!({ "channel": "none" }));
    assert_eq!(allowed["data"]["status"], "subscribed");
    counts.expect(&name, "authorize_subscribe", WAYS.len() as u64);
    counts.expect(&name, "authorize_publish", WAYS.len() as u64);
    end(server);
}

pub(crate) fn one_who_only_listens_may_panic<R: Host>() {
    let (counts, (config, name)) = (*COUNTS, named::<R>("notices"));
    let builder = Server::<R>::builder()
        .config(config)
        .listen_metrics("127.0.0.1:0", || panic_any(Bomb(2)))
        .on_connect(|_| panic!("a text"))
        .on_disconnect(|_, _| panic_any(Bomb(2)))
        .on_subscribe(|_, _| panic_any(Bomb(2)))
        .on_unsubscribe(|_, _, _| panic!("a text"))
        .record(|_, _| panic_any(Bomb(2)));
    let (server, address) = start(builder);
    for n in 1..=3 {
        let mut client = Client::connect(address);
        client.ping();
        let answer = client.request("subscribe", &json!({ "channel": "a" }));
        assert_eq!(answer["data"]["status"], "subscribed");
        drop(client);
        counts.expect(&name, "on_connect", n);
        counts.expect(&name, "on_subscribe", n);
        counts.expect(&name, "on_unsubscribe", n);
        counts.expect(&name, "on_disconnect", n);
        let text = scrape(server.metrics_addr().unwrap());
        assert!(text.starts_with("HTTP/1.1 500 "), "{text}");
        counts.expect(&name, "metrics", n);
    }
    // Of a recording nothing comes after a hole.
    counts.expect(&name, "record", 1);
    assert_eq!(R::block_on(server.stop()), Ok(()));
}

fn scrape(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Blocks its thread until it is told to go on, or its test has failed.
fn block(told: &Mutex<mpsc::Receiver<()>>) {
    let _ = told.lock().unwrap().recv_timeout(TIMEOUT);
}

pub(crate) fn a_handler_that_blocks_holds_up_no_shard<R: Host>() {
    let (go, told) = mpsc::channel();
    let told = Mutex::new(told);
    let (entered, has_entered) = mpsc::channel();
    let builder = Server::<R>::builder()
        .on_request("block", move |_| {
            entered.send(()).unwrap();
            block(&told);
            async { RequestResult::Ok(json!({ "done": true })) }
        })
        .on_request("other", |_| async { Ok(json!({ "other": true })) });
    let (server, address) = start(builder);
    let mut blocked = Client::connect(address);
    blocked.send("block", &json!({}));
    has_entered.recv_timeout(TIMEOUT).unwrap();

    let mut other = Client::subscribed(address, "a");
    blocked.ping();
    for n in 0..20 {
        R::block_on(server.handle().broadcast("a", "e", &json!({ "n": n }))).unwrap();
        assert_eq!(other.next()["data"]["n"], n);
    }
    if R::HAS_THREADS {
        assert_eq!(other.request("other", &json!({}))["data"], json!({ "other": true }));
    }

    go.send(()).unwrap();
    assert_eq!(blocked.next()["data"], json!({ "done": true }));
    end(server);
}

pub(crate) fn what_a_handler_spawns_does_not_run_on_a_shard<R: Host>() {
    let (builder, steps) = Steps::builder::<R>(Config::default());
    let (tell, told) = mpsc::channel();
    let tell_request = tell.clone();
    let builder = builder
        .on_connect(move |_| {
            let tell = tell.clone();
            R::spawn_here(async move {
                give_way().await;
                tell.send(thread::current().name().map(str::to_owned)).unwrap();
            });
        })
        .on_request("spawn", move |_| {
            let tell = tell_request.clone();
            R::spawn_here(async move {
                give_way().await;
                tell.send(thread::current().name().map(str::to_owned)).unwrap();
            });
            pending::<RequestResult>()
        });
    let (server, address) = start(builder);
    let mut client = Client::connect(address);
    let name = told.recv_timeout(TIMEOUT).unwrap();
    assert!(!name.unwrap_or_default().starts_with("shard-"));

    // And while the shard stands still.
    steps.stop(|| client.send("spawn", &json!({})));
    // The turn that it stands after may have been another.
    let name = told.recv_timeout(Duration::from_millis(500)).unwrap_or_else(|_| {
        steps.step();
        told.recv_timeout(TIMEOUT).unwrap()
    });
    assert!(!name.unwrap_or_default().starts_with("shard-"));
    steps.run();
    end(server);
}

pub(crate) fn of_one_connection_the_application_hears_in_order<R: Host>() {
    let heard = Arc::<Mutex<Vec<String>>>::default();
    let (go, told) = mpsc::channel();
    let told = Mutex::new(told);
    let note = |heard: &Arc<Mutex<Vec<String>>>, what: String| heard.lock().unwrap().push(what);
    let [came, asked, went] = [0; 3].map(|_| heard.clone());
    let builder = Server::<R>::builder()
        .on_connect(move |_| {
            block(&told);
            note(&came, "came".into());
        })
        .on_request("ask", move |request| {
            let asked = asked.clone();
            async move {
                note(&asked, format!("asked {}", request.data["n"]));
                give_way().await;
                if request.data["n"].as_u64().is_some_and(|n| n % 2 == 0) {
                    return pending().await;
                }
                Ok(json!({}))
            }
        })
        .on_disconnect(move |_, _| note(&went, "went".into()));
    let (server, address) = start(builder);
    let mut client = Client::connect(address);
    for n in 0..20 {
        client.send("ask", &json!({ "n": n }));
    }
    // Everything stands behind the first.
    client.ping();
    assert_eq!(*heard.lock().unwrap(), Vec::<String>::new());
    go.send(()).unwrap();
    for _ in 0..10 {
        assert_eq!(client.next()["type"], "response");
    }
    drop(client);
    eventually(|| heard.lock().unwrap().last().is_some_and(|last| last == "went"));
    let asked = (0..20).map(|n| format!("asked {n}"));
    let expected: Vec<_> =
        ["came".into()].into_iter().chain(asked).chain(["went".into()]).collect();
    assert_eq!(*heard.lock().unwrap(), expected);
    end(server);
}

pub(crate) fn what_the_application_is_not_done_with_is_bounded<R: Host>() {
    let (mut config, _) = named::<R>("bounded");
    config.limits.requests.handlers_bytes_max = 8 * 1024;
    config.limits.requests.request_timeout = Duration::from_millis(50);
    let over = Arc::<AtomicBool>::default();
    let until = over.clone();
    let builder = Server::<R>::builder()
        .config(config)
        .on_request("wait", move |_| {
            let until = until.clone();
            async move {
                while !until.load(Ordering::SeqCst) {
                    give_way().await;
                }
                Ok(json!({}))
            }
        })
        .on_connect(|_| {});
    let (server, address) = start(builder);
    let mut client = Client::connect(address);
    let mut refused = |text: &str| {
        let answer = client.request("wait", &json!({}));
        answer["error_message"] == text
    };
    // The time of each is over, and its handler goes on.
    let timeout = Reason::GatewayTimeout.row().text;
    let before = (0..100).take_while(|_| refused(timeout)).count();
    assert!((8..=9).contains(&before), "{before} calls of 1 KiB in 8 KiB");
    let busy = Reason::Busy.row().text;
    assert!(refused(busy));
    assert_eq!(Client::attempt(address), CloseCode::Again);

    over.store(true, Ordering::SeqCst);
    eventually(|| client.request("wait", &json!({}))["type"] == "response");
    eventually(|| Client::is_let_in(address));
    end(server);
}

pub(crate) fn stopping_waits_until_the_application_has_heard<R: Host>() {
    let ends = Arc::<AtomicU64>::default();
    let heard = ends.clone();
    let builder = Server::<R>::builder().shards(2).on_disconnect(move |_, _| {
        thread::sleep(Duration::from_millis(20));
        heard.fetch_add(1, Ordering::SeqCst);
    });
    let (server, address) = start(builder);
    let clients: Vec<_> = (0..6).map(|_| Client::connect(address)).collect();
    let clients = clients.into_iter().map(|client| thread::spawn(move || client.closed()));
    let clients: Vec<_> = clients.collect();
    assert_eq!(R::block_on(server.stop()), Ok(()));
    assert_eq!(ends.load(Ordering::SeqCst), 6);
    for client in clients {
        assert_eq!(client.join().unwrap(), CloseCode::Away);
    }
}

pub(crate) fn what_handlers_hold_is_not_dropped_on_a_shard<R: Host>() {
    struct Held(mpsc::Sender<Option<String>>);
    impl Drop for Held {
        fn drop(&mut self) {
            self.0.send(thread::current().name().map(str::to_owned)).unwrap();
            panic!("and it panics");
        }
    }
    let (tell, told) = mpsc::channel();
    let held = Held(tell);
    let builder = Server::<R>::builder().shards(2).on_connect(move |_| {
        let _ = &held;
    });
    let (server, _) = start(builder);
    assert_eq!(R::block_on(server.stop()), Ok(()));
    let name = told.recv_timeout(TIMEOUT).unwrap();
    assert!(!name.unwrap_or_default().starts_with("shard-"));
}

pub(crate) fn data_without_a_value_is_refused<R: Host>() {
    let builder = Server::<R>::builder().on_request("is", |request| async move {
        RequestResult::Ok(json!({ "object": request.data.is_object() }))
    });
    let (server, address) = start(builder);
    let mut client = Client::connect(address);
    for (data, code) in [
        (r#"{"n":1e999}"#, Some("DECODE_ERROR")),
        (r#"{"s":"\ud800"}"#, Some("DECODE_ERROR")),
        (r#"{"n":1e99,"s":"\ud83d\ude00"}"#, None),
    ] {
        client.send_text(format!(r#"{{"type":"request","event":"is","id":"1","data":{data}}}"#));
        let answer = client.next();
        assert_eq!(answer["error_code"].as_str(), code, "{data}: {answer}");
        assert!(code.is_some() || answer["data"]["object"] == true, "{data}: {answer}");
    }
    end(server);
}

/// A runtime on which a shard fails when it is told to.
#[derive(Clone, Debug)]
struct Doomed<R>(R);

static DOOM: AtomicBool = AtomicBool::new(false);

impl<R: Runtime> Runtime for Doomed<R> {
    type Waiter = R::Waiter;

    fn current() -> std::io::Result<Self> {
        R::current().map(Self)
    }

    fn run<T>(shard: impl Future<Output = T>) -> std::io::Result<T> {
        R::run(async {
            let mut shard = std::pin::pin!(shard);
            std::future::poll_fn(|context| {
                let doomed = thread::current().name() == Some("shard-1");
                assert!(!(doomed && DOOM.load(Ordering::SeqCst)), "a bug");
                shard.as_mut().poll(context)
            })
            .await
        })
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(task);
    }
}

pub(crate) fn a_server_ends_as_a_whole_and_says_so<R: Host>() {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap();
    DOOM.store(false, Ordering::SeqCst);
    let builder = Server::<Doomed<R>>::builder().shards(2).listen("127.0.0.1:0");
    let mut server = R::block_on(builder.start()).unwrap();
    let (handle, address) = (server.handle(), server.local_addr().unwrap());
    let clients: Vec<_> = (0..4).map(|_| Client::connect(address)).collect();

    DOOM.store(true, Ordering::SeqCst);
    // Whatever comes to the shard.
    drop((TcpStream::connect(address), TcpStream::connect(address)));

    let failure = R::block_on(server.failed());
    assert_eq!(failure.shard, 1);
    assert_eq!(failure.to_string(), "shard 1 ended unexpectedly: it panicked");
    let ends = clients.into_iter().map(Client::end);
    assert_eq!(ends.filter(|end| *end == Some(CloseCode::Away)).count(), 2);
    assert_eq!(R::block_on(server.run_until(pending::<()>())), Err(failure));
    assert!(TcpStream::connect(address).is_err(), "still listening");
    assert_eq!(handle.sockets(), 0);
}

pub(crate) fn a_server_runs_until_it_is_told<R: Host>() {
    let (tell, told) = async_channel::bounded::<()>(1);
    let (server, address) = start(Server::<R>::builder());
    let client = Client::connect(address);
    let running =
        thread::spawn(move || R::block_on(server.run_until(async move { told.recv().await })));
    tell.try_send(()).unwrap();
    assert_eq!(client.closed(), CloseCode::Away);
    assert_eq!(running.join().unwrap(), Ok(()));
}

/// The recorder is the application's, and called on the shards' threads.
pub(crate) fn a_recorder_that_panics_ends_no_shard<R: Host>() {
    let (_, (config, _)) = (*COUNTS, named::<R>(PANICS));
    let (server, address) = start(Server::<R>::builder().config(config));
    let mut client = Client::subscribed(address, "a");
    R::block_on(server.handle().broadcast("a", "e", &json!({}))).unwrap();
    assert_eq!(client.next()["room"], "a");
    assert_eq!(R::block_on(server.stop_with(AT_ONCE)), Ok(()));
}

/// A second without them is no reason to give up.
pub(crate) fn numbers_that_panic_are_asked_for_again<R: Host>() {
    let (counts, (config, name)) = (*COUNTS, named::<R>("statistics"));
    let asked = AtomicU64::new(0);
    let builder = Server::<R>::builder()
        .config(Config { statistics: true, ..config })
        .shards(2)
        .statistics(move || match asked.fetch_add(1, Ordering::Relaxed) {
            0 => panic!("a text"),
            1 => None,
            n => Some(json!({ "n": n }).to_string()),
        });
    let (server, address) = start(builder);
    let mut client = Client::subscribed(address, STATISTICS);
    let told = client.next();
    assert_eq!((&told["event"], &told["data"]), (&json!("stats"), &json!({ "n": 2 })));
    counts.expect(&name, "statistics", 1);
    end(server);
}
