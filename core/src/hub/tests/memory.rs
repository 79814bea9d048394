//! What all connections of a hub hold together.

use super::*;
use crate::{config::SlowPolicy, hub::types::Handler, ws::encode_frame};

const KIB: usize = 1024;

fn bounded(queued: usize, policy: SlowPolicy) -> Config {
    let mut config = unlimited();
    config.limits.delivery.queued_bytes_max = queued;
    config.slow_readers.default = policy;
    config
}

/// A subscriber of `channel` whose socket takes nothing more.
fn stalled(rig: &mut Rig, shard: usize, channel: &str) -> Client {
    let client = rig.connect(shard);
    rig.subscribe(&client, channel);
    rig.set_room(&client, Some(0));
    client
}

/// One broadcast of `bytes` bytes and a little more, in a turn of its own.
fn publish(rig: &mut Rig, channel: &str, n: u64, bytes: usize) {
    let data = json!({"n": n, "x": "x".repeat(bytes)}).to_string();
    let publication = Publication::new(channel, "e", data);
    rig.hubs[0].handle_command(rig.now, Command::Publish { id: None, publication });
    rig.run();
}

/// The beginning of a text message of `len` bytes, without its last one.
fn unfinished(len: usize) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_frame(&mut frame, Opcode::Text, &vec![b'x'; len], Some([1, 2, 3, 4]));
    frame.pop();
    frame
}

#[test]
fn what_many_wait_for_is_counted_once() {
    for shards in [1, 2] {
        let mut rig = Rig::new(shards, unlimited());
        let last = usize::from(shards) - 1;
        let waiting: Vec<_> = (0..20).map(|_| stalled(&mut rig, last, "a")).collect();
        for n in 0..10 {
            publish(&mut rig, "a", n, 10 * KIB);
        }
        let queued = rig.hubs[last].hub().connections.queued_bytes();
        // Ten segments, and twenty queues of ten places.
        assert!((100 * KIB..120 * KIB).contains(&queued), "{queued}");

        waiting.iter().for_each(|client| rig.set_room(client, None));

        assert_eq!(rig.hubs[last].hub().connections.queued_bytes(), 0);
        assert!(waiting.iter().all(|client| client.take_numbers().len() == 10));
    }
}

#[test]
fn who_keeps_up_holds_nothing() {
    let mut rig = Rig::new(1, unlimited());
    let client = rig.connect(0);
    rig.subscribe(&client, "a");
    publish(&mut rig, "a", 0, 10 * KIB);
    assert_eq!(rig.hubs[0].hub().connections.queued_bytes(), 0);
}

#[test]
fn the_heaviest_goes_and_the_others_stay() {
    let mut rig = Rig::new(1, bounded(100 * KIB, SlowPolicy::Disconnect));
    let heavy = stalled(&mut rig, 0, "a");
    let light = stalled(&mut rig, 0, "b");
    let healthy = rig.connect(0);
    rig.subscribe(&healthy, "a");
    publish(&mut rig, "b", 0, 10 * KIB);
    for n in 1..10 {
        publish(&mut rig, "a", n, 10 * KIB);
    }
    assert!(
        rig.hubs[0].hub().connections.queued_bytes() <= 100 * KIB,
        "{}",
        rig.hubs[0].hub().connections.queued_bytes()
    );
    rig.set_room(&heavy, None);
    rig.set_room(&light, None);
    publish(&mut rig, "a", 10, KIB);

    let text = Reason::OutboxesFull.row().text.to_owned();
    assert_eq!(heavy.take_close(), Some((1013, text)));
    assert_eq!(light.take_numbers(), [0]);
    assert_eq!(healthy.take_numbers(), (1..11).collect::<Vec<_>>());
    assert_eq!(rig.hubs[0].hub().connections.queued_bytes(), 0);
}

#[test]
fn with_gap_what_waits_is_dropped_and_told() {
    let mut rig = Rig::new(1, bounded(100 * KIB, SlowPolicy::Gap));
    let client = stalled(&mut rig, 0, "a");
    for n in 0..25 {
        publish(&mut rig, "a", n, 10 * KIB);
    }
    assert!(rig.hubs[0].hub().connections.queued_bytes() <= 100 * KIB);
    rig.set_room(&client, None);
    publish(&mut rig, "a", 25, 1);

    let messages = client.take();
    let gaps = messages.iter().filter(|message| message["event"] == "channel.gap");
    let lost: Vec<u64> = gaps
        .flat_map(|gap| {
            let [first, last] = ["first_offset", "last_offset"].map(|k| gap["data"][k].as_u64());
            assert_eq!(gap["data"]["lost"].as_u64().unwrap(), last.unwrap() - first.unwrap() + 1);
            first.unwrap()..last.unwrap() + 1
        })
        .collect();
    // Offsets begin at 1, what is counted here at 0.
    let came = messages.iter().filter_map(|m| m["data"]["n"].as_u64());
    let came: Vec<u64> = came.map(|n| n + 1).collect();
    assert!(!lost.is_empty());
    let mut all = [lost, came].concat();
    all.sort_unstable();
    assert_eq!(all, (1..27).collect::<Vec<_>>());
}

#[test]
fn with_latest_the_newest_message_stays() {
    let mut rig = Rig::new(1, bounded(64 * KIB, SlowPolicy::Latest));
    // Many channels, as `latest` keeps one message of each anyway; rounds of several messages make it drop.
    let client = rig.connect(0);
    let channels: Vec<_> = (0..8).map(|n| format!("c{n}")).collect();
    channels.iter().for_each(|channel| rig.subscribe(&client, channel));
    rig.set_room(&client, Some(0));
    for channel in &channels {
        for n in 0..12 {
            let data = json!({"n": n, "x": "x".repeat(KIB)}).to_string();
            let publication = Publication::new(&**channel, "e", data);
            rig.hubs[0].handle_command(rig.now, Command::Publish { id: None, publication });
        }
    }
    rig.run();
    assert!(
        rig.hubs[0].hub().connections.queued_bytes() <= 64 * KIB,
        "{}",
        rig.hubs[0].hub().connections.queued_bytes()
    );

    rig.set_room(&client, None);

    let messages = client.take();
    assert_eq!(messages.len(), channels.len(), "of each channel one");
    assert!(messages.iter().all(|message| message["data"]["n"] == 11), "{messages:?}");
}

#[test]
fn the_unfinished_message_that_began_first_goes() {
    let mut config = unlimited();
    config.limits.connections.partial_bytes_max = 300 * KIB;
    let mut rig = Rig::new(1, config);
    let clients: Vec<_> = (0..3).map(|_| rig.connect(0)).collect();
    for client in &clients[..2] {
        rig.bytes(client, &unfinished(100 * KIB));
    }
    assert!((200 * KIB..300 * KIB).contains(&rig.hubs[0].hub().connections.partial_bytes()));

    rig.bytes(&clients[2], &unfinished(150 * KIB));

    let text = Reason::InputFull.row().text.to_owned();
    assert_eq!(clients[0].take_close(), Some((1013, text)));
    assert_eq!(clients[1].take_close().or_else(|| clients[2].take_close()), None);
    for client in &clients[1..] {
        rig.bytes(client, &[b'x' ^ 4]);
    }
    assert_eq!(rig.hubs[0].hub().connections.partial_bytes(), 0, "what is complete is not counted");
}

#[test]
fn a_message_that_began_anew_is_not_the_oldest() {
    let mut config = unlimited();
    config.limits.connections.partial_bytes_max = 250 * KIB;
    let mut rig = Rig::new(1, config);
    let [first, second] = [rig.connect(0), rig.connect(0)];
    rig.bytes(&first, &unfinished(100 * KIB));
    rig.bytes(&second, &unfinished(100 * KIB));
    rig.bytes(&first, &[b'x' ^ 4]);
    first.take();
    rig.bytes(&first, &unfinished(200 * KIB));
    assert_eq!(second.take_close().map(|(code, _)| code), Some(1013));
    assert_eq!(first.take_close(), None);
}

#[test]
fn a_body_that_is_not_complete_is_answered_with_503() {
    let mut config = unlimited();
    config.limits.connections.partial_bytes_max = 100 * KIB;
    let mut rig = Rig::new(1, config);
    let [first, second] = [rig.socket(0), rig.socket(0)];
    let head = "POST /publish HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n";
    for client in [&first, &second] {
        rig.bytes(client, head.as_bytes());
        rig.bytes(client, &vec![b' '; 60 * KIB]);
    }
    assert!(first.take_head().starts_with("HTTP/1.1 503 "));
    assert!(first.is_ended() && !second.is_ended());
    assert!((60 * KIB..100 * KIB).contains(&rig.hubs[0].hub().connections.partial_bytes()));
    rig.hang_up(&second);
    assert_eq!(rig.hubs[0].hub().connections.partial_bytes(), 0);
}

#[test]
fn heads_count_as_well() {
    let mut config = unlimited();
    config.limits.connections.partial_bytes_max = 30 * KIB;
    let mut rig = Rig::new(1, config);
    let clients: Vec<_> = (0..3).map(|_| rig.socket(0)).collect();
    for client in &clients {
        let head = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}", "x".repeat(14 * KIB));
        rig.bytes(client, head.as_bytes());
    }
    assert!(clients[0].take_head().starts_with("HTTP/1.1 503 "));
    assert!(!clients[2].is_ended());
}

#[cfg(feature = "jwt")]
#[test]
fn before_authentication_a_message_is_small() {
    let mut rig = Rig::new(1, with_auth());
    let auth = |token: &str| json!({"type": "request", "event": "auth", "data": {"token": token}});
    let client = rig.connect_with(0, "");
    rig.bytes(&client, &unfinished(17 * KIB));
    assert_eq!(client.take_close().map(|(code, _)| code), Some(1009));

    // Permissions make a long token.
    let many: Vec<String> = (0..74).map(|n| format!("workflow:{n:0>64}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let long = token("ada", &[&many[..], &["admin"]].concat());
    assert!((7 * KIB..8 * KIB).contains(&long.len()), "{}", long.len());
    let client = rig.connect_with(0, "");
    rig.send(&client, &auth(&long));
    let messages = client.take();
    let welcomed = messages.iter().any(|message| message["event"] == "session.created");
    assert!(welcomed, "{messages:?}");
    rig.bytes(&client, &unfinished(17 * KIB));
    assert_eq!(client.take_close(), None, "who has authenticated may send more");
}

#[test]
fn a_burst_leaves_nothing_behind() {
    let mut rig = Rig::new(1, unlimited());
    let client = stalled(&mut rig, 0, "a");
    for n in 0..500 {
        publish(&mut rig, "a", n, 100);
    }
    publish(&mut rig, "a", 500, 500 * KIB);
    rig.set_room(&client, None);
    rig.run();

    let hub = rig.hubs[0].hub();
    assert!(hub.env.scratch.capacity() <= 128 * KIB, "{}", hub.env.scratch.capacity());
    let conn = hub.connections.get(client.conn).unwrap();
    assert!(conn.ws.outbox().private_bytes() <= 8 * 64, "{}", conn.ws.outbox().private_bytes());
    assert_eq!((hub.connections.queued_bytes(), hub.connections.partial_bytes()), (0, 0));
    assert_eq!(client.take_numbers().len(), 501);
}

#[test]
fn ready_says_what_bounds_the_connections() {
    let mut config =
        Config { connections_bound: crate::config::ConnectionsBound::Memory, ..unlimited() };
    config.limits.connections.connections_max = 7;
    let mut rig = Rig::new(1, config);
    let _client = rig.connect(0);
    let probe = rig.socket(0);
    rig.bytes(&probe, b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n");
    let text = probe.take_text();
    assert!(text.contains(r#""connections":{"open":1,"max":7,"bound":"memory"}"#), "{text}");
}

#[test]
fn what_there_is_at_times_is_gone_afterwards() {
    let mut config = bounded(usize::MAX, SlowPolicy::Gap);
    config.limits.delivery.outbox_bytes_max = 64 * KIB;
    let mut rig = Rig::new(1, config);
    let client = rig.connect(0);
    let has_more = |rig: &Rig| {
        let conn = rig.hubs[0].hub().connections.get(client.conn).unwrap();
        conn.takes_more_memory()
    };
    rig.subscribe(&client, "a");
    assert!(!has_more(&rig), "welcomed and subscribed");

    rig.bytes(&client, &unfinished(100 * KIB));
    assert!(has_more(&rig), "a part of a message");
    rig.bytes(&client, &[b'x' ^ 4]);
    assert!(!has_more(&rig), "the rest of it");

    rig.set_room(&client, Some(0));
    for n in 0..10 {
        publish(&mut rig, "a", n, 10 * KIB);
    }
    assert!(has_more(&rig), "behind, with a gap");
    rig.set_room(&client, None);
    assert!(client.take().iter().any(|message| message["event"] == "channel.gap"));
    assert!(!has_more(&rig), "up to date again");

    rig.hang_up(&client);
    rig.assert_empty();
}

#[test]
fn who_stops_in_the_middle_of_a_frame_goes_at_once_with_what_waits() {
    let mut rig = Rig::new(1, bounded(300 * KIB, SlowPolicy::Disconnect));
    let clients: Vec<_> = (0..20)
        .map(|n| {
            let client = rig.connect(0);
            rig.subscribe(&client, &format!("c{n}"));
            rig.set_room(&client, Some(100));
            client
        })
        .collect();

    for (n, _) in clients.iter().enumerate() {
        publish(&mut rig, &format!("c{n}"), 0, 100 * KIB);
        let queued = rig.hubs[0].hub().connections.queued_bytes();
        assert!(queued <= 300 * KIB, "{queued}");
    }

    // Nobody lingers: their sockets are gone with what waited for them.
    assert!(rig.hubs[0].hub().connections.len() <= 3);
    assert!(clients[0].is_ended());
}

#[test]
fn answers_that_nobody_reads_are_in_the_reckoning() {
    let mut config = bounded(300 * KIB, SlowPolicy::Disconnect);
    config.limits.wire.body_bytes_max = 1 << 20;
    let mut rig = Rig::new(1, config);
    let name = "\\\"".repeat(60);
    let message = format!(r#"{{"channel":"{name}","event":"e","data":{{}}}}"#);
    let body = format!("[{}]", vec![message; 900].join(","));
    for _ in 0..20 {
        let client = rig.socket(0);
        rig.set_room(&client, Some(100));
        rig.bytes(&client, &shards::post(&body));
        let queued = rig.hubs[0].hub().connections.queued_bytes();
        assert!(queued <= 300 * KIB, "{queued}");
    }
    assert!((1..=3).contains(&rig.hubs[0].hub().connections.len()));
}

#[test]
fn who_asks_for_metrics_meanwhile_gets_the_same_or_the_same_failure() {
    let mut rig = Rig::new(1, unlimited());
    let scrape = |rig: &mut Rig| {
        let client = rig.socket_of(0, Listener::Metrics);
        rig.bytes(&client, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        client
    };
    let asked = |rig: &Rig| {
        let is_asked = |output: &&Output| matches!(output, Output::Metrics { .. });
        rig.outputs.iter().filter(is_asked).count()
    };
    let clients = [scrape(&mut rig), scrape(&mut rig)];
    assert_eq!(asked(&rig), 1);
    let conn = clients[0].conn;
    let text = bytes::Bytes::from_static(b"text\n");
    rig.hubs[0].handle_command(rig.now, Command::Exposition { conn, text });
    rig.run();
    for client in &clients {
        assert!(client.take_head().starts_with("HTTP/1.1 200 "));
        assert_eq!(client.take_text(), "text\n");
    }

    let clients = [scrape(&mut rig), scrape(&mut rig)];
    assert_eq!(asked(&rig), 2);
    let failed = Command::Failed(Handler::Metrics(clients[0].conn));
    rig.hubs[0].handle_command(rig.now, failed);
    rig.run();
    assert!(clients.iter().all(|client| client.take_head().starts_with("HTTP/1.1 500 ")));
    let again = scrape(&mut rig);
    assert_eq!(asked(&rig), 3, "asked anew");
    assert!(!again.is_ended());
}

/// Whoever may subscribe may ask about any number of channels, and each is told a position.
#[test]
fn channels_that_are_only_asked_about_take_no_more_than_what_is_kept_may() {
    const MAX: usize = 20_000;
    let mut config = unlimited();
    config.limits.history.history_bytes_max = MAX;
    for event in ["get_state", "get_history", "subscribe"] {
        let mut rig = Rig::alone_with(config.clone());
        let client = rig.connect(0);
        for n in 0..200 {
            let channel = json!({"channel": format!("c{n}"), "positions": true});
            let answer = rig.request(&client, event, &channel);
            assert!(answer["data"]["epoch"].is_string(), "{answer}");
            if event == "subscribe" {
                rig.request(&client, "unsubscribe", &channel);
            }
            let kept = rig.hubs[0].hub().homes.kept_bytes();
            assert!(kept <= MAX, "{event} has brought it to {kept} bytes");
        }
        // The last ones are those that are still known.
        let answer = rig.request(&client, "get_state", &json!({"channel": "c199"}));
        assert_eq!(answer["data"]["offset"], 0);
        assert!(rig.hubs[0].hub().homes.kept_bytes() > MAX / 2, "there is room for many");
    }
}
