//! Servers that a real Redis makes one.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use mahavishnu_driver::{
    Server,
    links::{LinkConfig, Secret, Servers},
};
use mahavishnu_store::{Fsync, Store};
use mahavishnu_test_redis::{Options, Redis};
use serde_json::{Value, json};

use super::server::{Client, TIMEOUT, end};
use crate::Host;

/// How this Redis is reached, by a node of this name.
fn link(redis: &Redis, node: &str) -> LinkConfig {
    LinkConfig {
        servers: Servers::Single { host: "localhost".into(), port: redis.port() },
        node_name: node.into(),
        ..LinkConfig::default()
    }
}

fn start<R: Host>(config: LinkConfig) -> Server<R> {
    let builder = Server::<R>::builder().listen("127.0.0.1:0").shards(2).redis(config);
    R::block_on(builder.start()).unwrap()
}

/// Waits for something that comes soon, or on a busy machine a little later.
fn wait(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !is() {
        assert!(Instant::now() < deadline, "{what} did not come");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The names of connections that Redis has, but for those that ask.
fn names(redis: &Redis) -> Vec<String> {
    let list = redis.ask(&["CLIENT", "LIST"]).text();
    let name = |line: &str| {
        line.split(' ').find_map(|field| field.strip_prefix("name=")).map(str::to_owned)
    };
    let mut names: Vec<_> = list.lines().filter_map(name).filter(|name| !name.is_empty()).collect();
    names.sort();
    names
}

/// What the server says of its bus, and how many answers say that it takes clients.
fn ready(address: SocketAddr) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.write_all(b"GET /ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap())
}

fn wait_for_bus(address: SocketAddr, is: &str) {
    let mut last = Value::Null;
    wait(is, || {
        last = ready(address).1;
        last["checks"]["bus"] == json!(is)
    });
}

pub(crate) fn every_shard_has_a_connection_to_redis_and_ends_it<R: Host>() {
    let redis = Redis::start();
    let server = start::<R>(link(&redis, "a"));
    wait_for_bus(server.local_addr().unwrap(), "passing");
    assert_eq!(names(&redis), ["mahavishnu:a:0", "mahavishnu:a:1"]);

    assert_eq!(R::block_on(server.stop()), Ok(()));

    wait("the end of the links", || names(&redis).is_empty());
}

pub(crate) fn a_connection_to_redis_is_made_anew_whenever_it_ends<R: Host>() {
    let mut redis = Redis::start();
    let server = start::<R>(link(&redis, "a"));
    let address = server.local_addr().unwrap();
    wait_for_bus(address, "passing");
    let ids =
        |redis: &Redis| redis.ask(&["CLIENT", "LIST"]).text().matches(" name=mahavishnu:").count();

    redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    wait("both links", || ids(&redis) == 2);
    wait_for_bus(address, "passing");
    redis.kill();
    wait("the loss", || ready(address).1["checks"]["bus"] != json!("passing"));
    // Clients are served all the same.
    Client::connect(address).ping();
    redis.restart();
    wait_for_bus(address, "passing");
    assert_eq!(names(&redis), ["mahavishnu:a:0", "mahavishnu:a:1"]);

    end(server);
}

pub(crate) fn a_server_starts_before_its_redis<R: Host>() {
    let mut redis = Redis::start();
    redis.kill();
    let server = start::<R>(link(&redis, "a"));
    let address = server.local_addr().unwrap();
    Client::connect(address).ping();
    assert_ne!(ready(address).1["checks"]["bus"], json!("passing"));

    redis.restart();

    wait_for_bus(address, "passing");
    end(server);
}

pub(crate) fn a_new_password_of_redis_is_taken_without_a_restart<R: Host>() {
    let redis = Redis::with(Options::default().password("old"));
    let with =
        |password: &str| LinkConfig { password: Some(Secret::new(password)), ..link(&redis, "a") };
    let server = start::<R>(with("old"));
    let address = server.local_addr().unwrap();
    wait_for_bus(address, "passing");
    let mut client = redis.client();
    client.ask(&["CONFIG", "SET", "requirepass", "new"]);
    client.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    wait("the loss", || ready(address).1["checks"]["bus"] != json!("passing"));

    R::block_on(server.handle().reload_redis(&with("new")));

    wait_for_bus(address, "passing");
    end(server);
}

pub(crate) fn a_server_with_redis_has_no_store<R: Host>() {
    let dir = tempfile::tempdir().unwrap();
    let (store, contents) = Store::open(&dir.path().join("h"), Fsync::No).unwrap();
    let builder = Server::<R>::builder().store(store, contents.into_events());
    let refused = R::block_on(builder.redis(LinkConfig::default()).start());
    assert_eq!(refused.map(drop).unwrap_err().kind(), ErrorKind::InvalidInput);
}
