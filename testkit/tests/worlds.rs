//! Worlds: that they are deterministic, that their time is their own, and what clients see of a server's end.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers fail a test as tests do; clippy exempts only functions marked as tests"
)]

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use mahavishnu_driver::{
    Builder,
    core::{
        config::{Config, Origins},
        reason::Reason,
    },
    http::HeaderMap,
};
use mahavishnu_test::{Client, Clock, End, Virtual, World};
use serde_json::{Value, json};

fn builder(shards: u16) -> Builder<Virtual> {
    Builder::default().shards(shards)
}

/// Everything that the clients of a small world are told, ids and times included.
fn transcript(seed: u64, shards: u16) -> Vec<Value> {
    let build = |builder: Builder<Virtual>, clock: Clock| {
        builder.shards(shards).on_request("later", move |request| {
            let clock = clock.clone();
            async move {
                let wait = request.data["ms"].as_u64().unwrap_or_default();
                clock.sleep(Duration::from_millis(wait)).await;
                Ok(json!({ "at": clock.elapsed().as_millis() }))
            }
        })
    };
    let mut world = World::with(seed, build).unwrap();
    let clients: Vec<Client> = (0..5).map(|_| world.connect()).collect();
    let mut told = Vec::new();
    for (n, client) in clients.iter().enumerate() {
        world.subscribe(*client, &format!("room:{}", n % 2));
    }
    for n in 0..20u64 {
        let wait = json!({ "ms": 7 * n % 13 });
        told.push(world.request(clients[n as usize % 5], "later", &wait));
        let channel = format!("room:{}", n % 2);
        let handle = world.handle();
        world.run(handle.broadcast(&channel, "n", &json!({ "n": n }))).unwrap();
    }
    for client in clients {
        while let Some(message) = world.try_next(client) {
            told.push(message);
        }
    }
    world.stop();
    told
}

#[test]
fn a_seed_gives_the_same_run_and_another_one_another() {
    for shards in [1, 3] {
        let first = transcript(1, shards);
        assert!(first.len() > 60, "{}", first.len());
        assert_eq!(first, transcript(1, shards));
        assert_ne!(first, transcript(2, shards));
    }
}

#[test]
fn hours_pass_in_no_time() {
    let started = Instant::now();
    let mut world = World::new(1, builder(2)).unwrap();
    let client = world.connect();
    // Pings go to and fro all the while.
    world.run_for(Duration::from_secs(6 * 3600));
    assert_eq!(world.elapsed(), Duration::from_secs(6 * 3600));
    assert_eq!(world.end(client), None);
    world.subscribe(client, "a");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[test]
fn a_client_that_is_silent_is_given_up_when_its_time_is_over() {
    let ends = Arc::new(Mutex::new(Vec::new()));
    let heard = ends.clone();
    let builder = builder(1).on_disconnect(move |_, reason| heard.lock().unwrap().push(reason));
    let mut world = World::new(1, builder).unwrap();
    let client = world.connect();
    world.stall(client);
    world.run_for(Duration::from_secs(39));
    assert!(ends.lock().unwrap().is_empty());
    // A ping after 20 s, and 20 s for its pong.
    world.run_for(Duration::from_secs(2));
    assert_eq!(*ends.lock().unwrap(), [Reason::PongTimeout]);
}

#[test]
fn who_reads_too_slowly_meets_the_policy() {
    let mut world = World::new(1, builder(1)).unwrap();
    let (slow, quick) = (world.connect(), world.connect());
    for client in [slow, quick] {
        world.subscribe(client, "a");
    }
    world.stall(slow);
    let data = json!({ "text": "x".repeat(100_000) });
    for _ in 0..30 {
        let handle = world.handle();
        world.run(handle.broadcast("a", "e", &data)).unwrap();
        assert_eq!(world.next(quick)["data"], data);
    }
    world.resume(slow);
    assert!(matches!(world.end(slow), Some(End::Closed(1013, _) | End::Dropped)));
    assert_eq!(world.end(quick), None);
}

#[test]
fn clients_see_refusals_closes_and_the_end() {
    let config = Config { origins: Origins::Only(Vec::new()), ..Config::default() };
    let mut world = World::new(1, builder(1).config(config)).unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("origin", "https://example.com".parse().unwrap());
    let foreign = world.connect_with("/", headers, None);
    assert_eq!(world.end(foreign), Some(End::Refused(403)));
    assert!(!world.is_accepted(foreign));

    let (polite, rude) = (world.connect(), world.connect());
    world.close(polite);
    assert!(matches!(world.end(polite), Some(End::Closed(..))), "{:?}", world.end(polite));
    world.hang_up(rude);
    assert_eq!(world.end(rude), Some(End::Dropped));
    assert_eq!(world.handle().sockets(), 0);

    let last = world.connect();
    assert_eq!(world.end(last), None);
    world.stop();
}

#[test]
fn a_handler_that_panics_fails_its_call_alone() {
    let builder = builder(1).on_request("fail", |_| async { panic!("as it is meant to") });
    let mut world = World::new(1, builder).unwrap();
    let client = world.connect();
    let answer = world.request(client, "fail", &json!({}));
    assert_eq!(answer["error_message"], "The request failed");
    world.subscribe(client, "a");
}
