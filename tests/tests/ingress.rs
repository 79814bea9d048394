//! Back-ends that write into a stream or a list of Redis: what they write is published once and in order, whatever happens
//! to the node that takes it, and to Redis.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use mahavishnu_test_redis::{Client as RedisClient, Options, Value as Reply};
use mahavishnu_tests::{Client, Cluster, http, wait};
use rustix::process::Signal;
use serde_json::{Value, json};

on_its_runtime! {
    what_is_written_reaches_subscribers_of_all_nodes,
    an_owner_that_is_killed_loses_and_doubles_nothing,
    an_owner_that_sleeps_longer_than_its_lease_does_no_harm,
    a_redis_that_is_killed_loses_and_doubles_nothing,
    an_owner_that_ends_makes_way_at_once,
}

const STREAM: &str = "mahavishnu:ingress";
const LIST: &str = "mahavishnu:queue";
const CHANNELS: usize = 4;

fn cluster(runtime: &str, options: Options) -> Cluster {
    let settings = [
        ("SHARDS", "2"),
        ("REDIS_TIMEOUT", "2"),
        ("REDIS_CONNECT_TIMEOUT", "1"),
        ("NODE_LEASE", "4"),
        ("HISTORY", "100000/300"),
        ("HISTORY_CHANNEL_BYTES", "16777216"),
        // Nothing is read while a test waits.
        ("OUTBOX_BYTES", "67108864"),
        ("RUNTIME", runtime),
        ("INGRESS_STREAM", STREAM),
        ("INGRESS_LIST", LIST),
    ];
    Cluster::with(3, &settings, options)
}

fn channel(number: usize) -> String {
    format!("workflow:{number}")
}

/// Back-ends, one for each channel, that write without a break, and what they cannot write again until it is written.
struct Writers {
    enough: Arc<AtomicBool>,
    written: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<u64>>,
}

impl Writers {
    /// `named`: they give each message an id, for what they may write twice.
    fn start(redis: SocketAddr, named: bool) -> Self {
        let (enough, written) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let threads = (0..CHANNELS).map(|number| {
            let (enough, written) = (Arc::clone(&enough), Arc::clone(&written));
            std::thread::spawn(move || write(redis, number, named, &enough, &written))
        });
        let threads = threads.collect();
        Self { enough, written, threads }
    }

    /// Waits until so many more are written.
    fn wait_for(&self, more: usize) {
        let wanted = self.written.load(Ordering::SeqCst) + more;
        let written = || self.written.load(Ordering::SeqCst);
        let found = wait::within(PATIENCE, || (written() >= wanted).then_some(()));
        assert!(found.is_some(), "only {} of {wanted} were written", written());
    }

    /// The last number of each channel.
    fn finish(self) -> Vec<u64> {
        self.enough.store(true, Ordering::SeqCst);
        self.threads.into_iter().map(|it| it.join().expect("a writer")).collect()
    }
}

fn write(
    redis: SocketAddr,
    number: usize,
    named: bool,
    enough: &AtomicBool,
    written: &AtomicUsize,
) -> u64 {
    let (mut client, mut n) = (None, 0);
    while !enough.load(Ordering::SeqCst) {
        n += 1;
        let (channel, data) = (channel(number), json!({ "n": n }).to_string());
        let id = format!("{number}-{n}");
        let mut words = vec!["XADD", STREAM, "*", "channel", &channel, "event", "e", "data", &data];
        if named {
            words.extend(["id", &id]);
        }
        loop {
            if client.is_none() {
                client = RedisClient::try_connect(redis);
            }
            match client.as_mut().and_then(|client: &mut RedisClient| client.try_command(&words)) {
                Some(Reply::Error(_)) => std::thread::sleep(Duration::from_millis(20)),
                Some(_) => break,
                None => {
                    assert!(named || client.is_none(), "what was written is not known");
                    client = None;
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        }
        written.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(5));
    }
    n
}

fn listener(cluster: &Cluster, node: usize) -> Client {
    let mut client = cluster.nodes[node].hello();
    for number in 0..CHANNELS {
        let wish = json!({ "channel": channel(number), "positions": true });
        let answer = client.request("subscribe", wish);
        assert_eq!(answer["data"]["status"], "subscribed", "{answer}");
    }
    client
}

/// Everything that was written came, once and in order.
fn assert_perfect(client: &mut Client, last: &[u64]) {
    let mut heard = BTreeMap::<String, Vec<(u64, u64)>>::new();
    for _ in 0..last.iter().sum() {
        let event = client.message();
        assert_ne!(event["event"], "channel.gap", "{event}");
        let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{event}"));
        let channel = event["room"].as_str().unwrap_or_else(|| panic!("{event}")).to_owned();
        heard
            .entry(channel)
            .or_default()
            .push((number(&event["data"]["n"]), number(&event["offset"])));
    }
    client.expect_silence();
    for (number, last) in last.iter().enumerate() {
        let expected: Vec<_> = (1..=*last).map(|n| (n, n)).collect();
        assert_eq!(heard[&channel(number)], expected, "{}", channel(number));
    }
}

fn wait_empty(cluster: &Cluster) {
    let found = wait::within(PATIENCE, || {
        (cluster.redis.ask(&["XLEN", STREAM]).integer() == 0).then_some(())
    });
    assert!(found.is_some(), "{:?}", cluster.redis.ask(&["XLEN", STREAM]));
}

/// Which node takes from the stream.
fn owner(cluster: &Cluster) -> usize {
    wait::until("an owner", || try_owner(cluster))
}

fn try_owner(cluster: &Cluster) -> Option<usize> {
    let key = format!("mahavishnu:{{n}}:owner:{STREAM}");
    let mut redis = cluster.redis.client();
    let Reply::Bulk(owner) = redis.ask(&["GET", &key]) else { return None };
    let owner = String::from_utf8(owner).expect("text");
    let (node, _) = owner.split_once('.').expect("a node and a term");
    let Reply::Bulk(info) = redis.ask(&["HGET", "mahavishnu:{n}:nodes", node]) else { return None };
    let info: Value = serde_json::from_slice(&info).expect("JSON");
    let name = info["name"].as_str().expect("a name").strip_prefix('n').expect("a number");
    Some(name.parse::<usize>().expect("a number") - 1)
}

fn what_is_written_reaches_subscribers_of_all_nodes(runtime: &str) {
    let cluster = cluster(runtime, Options::default());
    let mut clients: Vec<_> = (0..3).map(|node| listener(&cluster, node)).collect();
    let writers = Writers::start(cluster.redis.address(), false);
    writers.wait_for(400);
    let last = writers.finish();
    wait_empty(&cluster);
    clients.iter_mut().for_each(|client| assert_perfect(client, &last));

    // By the list, with a document, and twice under one id.
    let mut client = cluster.nodes[1].hello();
    client.subscribe("pool:1");
    let message = |n: u64| {
        let (id, state) = (format!("job-{n}"), json!({ "at": n }));
        json!({ "channel": "pool:1", "event": "pool.sized", "data": { "n": n }, "id": id, "state": state })
    };
    for n in [1, 2, 2, 1, 3] {
        cluster.redis.ask(&["LPUSH", LIST, &message(n).to_string()]);
    }
    assert_eq!(client.numbers(3), [1, 2, 3]);
    client.expect_silence();
    let state = cluster.nodes[2].hello().request("get_state", json!({ "channel": "pool:1" }));
    assert_eq!(state["data"]["state"], json!({ "at": 3 }), "{state}");

    // What nobody can publish is put aside.
    cluster.redis.ask(&["XADD", STREAM, "*", "channel", "a b\n", "event", "e", "data", "{}"]);
    cluster.redis.ask(&["LPUSH", LIST, "{\"channel\":\"c\",\"event\":\"e\",\"data\":7}"]);
    for (queue, reason) in [(STREAM, "invalid_channel"), (LIST, "bad_publish")] {
        let dead = format!("{queue}:dead");
        let entry = wait::until("an entry among the dead", || {
            let dead = cluster.redis.ask(&["XRANGE", &dead, "-", "+"]);
            dead.items().first().cloned()
        });
        let words: Vec<_> = entry.items()[1].items().iter().map(Reply::text).collect();
        assert_eq!(words[..2], ["reason", reason], "{words:?}");
    }
    let owner = &cluster.nodes[owner(&cluster)];
    let published = [("queue", "stream"), ("result", "published")];
    let metrics = owner.metrics_when("what was published", |metrics| {
        metrics.count("mahavishnu_ingress_entries_total", &published) == last.iter().sum::<u64>()
    });
    let dead = [("queue", "stream"), ("result", "dead")];
    assert_eq!(metrics.count("mahavishnu_ingress_entries_total", &dead), 1);
    assert_eq!(metrics.count("mahavishnu_ingress_owner", &[("queue", "stream")]), 1);
}

fn an_owner_that_is_killed_loses_and_doubles_nothing(runtime: &str) {
    let mut cluster = cluster(runtime, Options::default());
    let first = owner(&cluster);
    let listening = (first + 1) % 3;
    let mut client = listener(&cluster, listening);
    let writers = Writers::start(cluster.redis.address(), false);
    for _ in 0..2 {
        writers.wait_for(200);
        let owner = owner(&cluster);
        if owner == listening {
            // It is to hear everything.
            break;
        }
        cluster.nodes[owner].kill();
        writers.wait_for(200);
        cluster.nodes[owner].start_again();
        cluster.wait_whole();
    }
    writers.wait_for(100);
    let last = writers.finish();
    wait_empty(&cluster);
    assert_perfect(&mut client, &last);
}

fn an_owner_that_sleeps_longer_than_its_lease_does_no_harm(runtime: &str) {
    let cluster = cluster(runtime, Options::default());
    let first = owner(&cluster);
    let mut client = listener(&cluster, (first + 1) % 3);
    let writers = Writers::start(cluster.redis.address(), false);
    writers.wait_for(200);
    cluster.nodes[first].signal(Signal::STOP);
    std::thread::sleep(Duration::from_secs(12));
    assert_ne!(owner(&cluster), first, "it is another's by now");
    cluster.nodes[first].signal(Signal::CONT);
    writers.wait_for(200);
    cluster.wait_whole();
    writers.wait_for(100);
    let last = writers.finish();
    wait_empty(&cluster);
    assert_perfect(&mut client, &last);
}

fn a_redis_that_is_killed_loses_and_doubles_nothing(runtime: &str) {
    let mut cluster = cluster(runtime, Options::default().aof());
    let mut client = listener(&cluster, 0);
    let writers = Writers::start(cluster.redis.address(), true);
    for _ in 0..2 {
        writers.wait_for(200);
        cluster.redis.kill();
        std::thread::sleep(Duration::from_secs(1));
        cluster.redis.restart();
        cluster.wait_whole();
    }
    writers.wait_for(200);
    let last = writers.finish();
    wait_empty(&cluster);
    assert_perfect(&mut client, &last);
}

fn an_owner_that_ends_makes_way_at_once(runtime: &str) {
    let mut cluster = cluster(runtime, Options::default());
    let first = owner(&cluster);
    let mut client = listener(&cluster, (first + 1) % 3);
    let writers = Writers::start(cluster.redis.address(), false);
    writers.wait_for(100);
    let began = Instant::now();
    cluster.nodes[first].signal(Signal::TERM);
    wait::until("another owner", || try_owner(&cluster).filter(|owner| *owner != first));
    assert!(began.elapsed() < Duration::from_secs(4), "the lease had not to be waited for");
    cluster.nodes[first].wait();
    writers.wait_for(100);
    let last = writers.finish();
    wait_empty(&cluster);
    assert_perfect(&mut client, &last);
    let answer = http::get(cluster.nodes[(first + 1) % 3].address(), "/ready");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// A node has to be found dead, and another one to take over.
const PATIENCE: Duration = Duration::from_secs(60);
