//! Several shards in one process: connections live on one, channels and keys have their home on another.
//!
//! `MAHAVISHNU_TEST_SETTINGS=SHARDS=3` runs all other suites like this too, but for what is bounded by shard.

use mahavishnu_tests::{Client, Server, http, token};
use rustix::process::Signal;
use serde_json::{Value, json};

const SHARDS: (&str, &str) = ("SHARDS", "4");
const UNLIMITED: (&str, &str) = ("MESSAGE_RATE_LIMIT", "0");

fn clients(server: &Server, count: usize) -> Vec<Client> {
    (0..count).map(|_| server.hello()).collect()
}

#[test]
fn every_subscriber_gets_every_message_of_a_publisher_in_order() {
    let server = Server::with(&[SHARDS, UNLIMITED]);
    let mut readers = clients(&server, 12);
    let channels: Vec<String> = (0..8).map(|n| format!("pool:{n}")).collect();
    for reader in &mut readers {
        channels.iter().for_each(|channel| reader.subscribe(channel));
    }
    let mut writer = server.hello();
    for n in 0..400 {
        assert_eq!(writer.publish(&channels[n % 8], "e", json!({ "n": n })), 12);
    }
    for reader in &mut readers {
        let got: Vec<Value> = (0..400).map(|_| reader.message()).collect();
        for (at, channel) in channels.iter().enumerate() {
            let of = got.iter().filter(|event| event["room"] == channel.as_str());
            let numbers: Vec<usize> =
                of.map(|event| event["data"]["n"].as_u64().unwrap() as usize).collect();
            assert_eq!(numbers, (0..400).filter(|n| n % 8 == at).collect::<Vec<_>>(), "{channel}");
        }
        reader.expect_silence();
    }
}

#[test]
fn all_subscribers_see_the_messages_of_several_publishers_in_one_order() {
    let server = Server::with(&[SHARDS, UNLIMITED]);
    let mut readers = clients(&server, 8);
    readers.iter_mut().for_each(|reader| reader.subscribe("global"));
    std::thread::scope(|scope| {
        for name in 0..4 {
            let server = &server;
            scope.spawn(move || {
                let mut writer = server.hello();
                for n in 0..100 {
                    writer.publish("global", "e", json!({ "of": name, "n": n }));
                }
            });
        }
    });
    let mut seen = readers
        .iter_mut()
        .map(|reader| (0..400).map(|_| reader.message()["id"].take()).collect::<Vec<_>>());
    let first = seen.next().unwrap();
    assert!(seen.all(|other| other == first));
}

#[test]
fn what_follows_a_confirmed_subscription_is_delivered() {
    let server = Server::with(&[SHARDS, UNLIMITED]);
    let (mut readers, mut writers) = (clients(&server, 8), clients(&server, 4));
    for round in 0..50 {
        let channel = format!("workflow:{round}");
        let (reader, writer) = (&mut readers[round % 8], &mut writers[round % 4]);
        reader.subscribe(&channel);
        assert_eq!(writer.publish(&channel, "e", json!({})), 1);
        assert_eq!(reader.message()["room"], channel.as_str());
    }
}

#[test]
fn after_a_confirmed_unsubscribe_nothing_comes() {
    let server = Server::with(&[SHARDS, UNLIMITED]);
    let (mut readers, mut writer) = (clients(&server, 8), server.hello());
    for reader in &mut readers {
        reader.subscribe("global");
        reader.unsubscribe("global");
    }
    for _ in 0..20 {
        writer.publish("global", "e", json!({}));
    }
    readers.iter_mut().for_each(Client::expect_silence);
}

#[test]
fn a_repetition_under_a_key_is_recognised_on_every_shard() {
    let server = Server::with(&[SHARDS]);
    let mut reader = server.hello();
    reader.subscribe("global");
    let body =
        json!([{ "channel": "global", "event": "e" }, { "channel": "pool:1", "event": "e" }])
            .to_string();
    let send = || http::post(server.address(), "/publish", &[("Idempotency-Key", "k")], &body);
    let first = send();
    assert_eq!(first.status, 200, "{}", first.text());
    // Held open, so that each comes to another shard.
    let _held = clients(&server, 5);
    for _ in 0..12 {
        let again = send();
        assert_eq!((again.status, again.text()), (200, first.text()));
    }
    assert_eq!(reader.message()["room"], "global");
    reader.expect_silence();
}

#[test]
fn health_and_metrics_speak_for_all_shards() {
    let server = Server::with(&[SHARDS]);
    let mut readers = clients(&server, 10);
    readers.iter_mut().for_each(|reader| reader.subscribe("pool:1"));
    assert_eq!(server.post("pool:1", "e", &json!({})), 10);
    readers.iter_mut().for_each(|reader| assert_eq!(reader.message()["room"], "pool:1"));
    let metrics =
        server.metrics_when("the counts", |metrics| metrics.messages("event", "sent") == 20);
    assert_eq!((metrics.active(), metrics.count("websocket_connections_total", &[])), (10, 10));
    assert_eq!(metrics.count("websocket_broadcast_total", &[("channel", "pool:*")]), 1);
    mahavishnu_tests::wait::until("health to know", || {
        let health = http::get(server.address(), "/health").json();
        (health["metrics"]["active_connections"] == 10
            && health["metrics"]["total_connections"] == 10)
            .then_some(())
    });
    readers.into_iter().for_each(Client::close);
    server.metrics_when("no connection", |metrics| metrics.active() == 0);
}

#[test]
fn max_connections_holds_over_all_shards() {
    let server = Server::with(&[SHARDS, ("MAX_CONNECTIONS", "6")]);
    let _clients = clients(&server, 6);
    mahavishnu_tests::wait::until("all shards to know", || {
        (http::get(server.address(), "/health").json()["metrics"]["active_connections"] == 6)
            .then_some(())
    });
    for _ in 0..8 {
        assert_eq!(server.client().expect_close(1013), "Server at maximum capacity");
    }
}

#[test]
fn a_stop_ends_the_connections_of_all_shards() {
    let mut server =
        Server::with(&[SHARDS, ("AUTH_ENABLED", "true"), ("JWT_SECRET", token::SECRET)]);
    let mut clients: Vec<Client> =
        (0..8).map(|_| server.login(&token::of("ada", &["admin"]))).collect();
    server.signal(Signal::TERM);
    clients.iter_mut().for_each(|client| drop(client.expect_close(1001)));
    drop(clients);
    assert_eq!(server.wait().code(), Some(0));
}
