//! Several hubs as one server.

use super::*;

#[test]
fn a_publish_reaches_the_subscribers_of_every_hub() {
    let mut rig = Rig::new(3, Config::default());
    let clients: Vec<_> = (0..6).map(|n| rig.connect(n % 3)).collect();
    let publisher = rig.connect(1);
    for channel in ["a", "b", "c", "d"] {
        clients.iter().for_each(|client| rig.subscribe(client, channel));

        let data = json!({"channel": channel, "event": "e", "data": {"n": 1}});
        let answer = rig.request(&publisher, "publish", &data);

        assert_eq!(answer["data"]["subscribers"], 6, "{channel}");
        for client in &clients {
            assert_eq!(client.take_numbers(), [1], "{channel}");
        }
    }
}

#[test]
fn order_is_the_same_for_everyone() {
    let mut rig = Rig::new(3, Config::default());
    let clients: Vec<_> = (0..3).map(|shard| rig.connect(shard)).collect();
    clients.iter().for_each(|client| rig.subscribe(client, "a"));
    for n in 0..30 {
        rig.publish(n as usize % 3, "a", n);
    }

    rig.run();

    let orders: Vec<_> = clients.iter().map(Client::take_numbers).collect();
    assert_eq!(orders[0].len(), 30);
    assert!(orders.iter().all(|order| *order == orders[0]));
}

#[test]
fn connections_are_counted_over_all_hubs() {
    let mut config = Config::default();
    config.limits.connections.connections_max = 4;
    let mut rig = Rig::new(2, config);
    let clients: Vec<_> = (0..4).map(|n| rig.connect(n % 2)).collect();
    assert_eq!(rig.hubs[0].hub().connections(), 4);

    let fifth = rig.connect_with(0, "");

    assert_eq!(fifth.take_close(), Some((1013, "Server at maximum capacity".into())));
    rig.hang_up(&clients[0]);
    rig.connect(1);
}

#[test]
fn an_idempotency_key_holds_on_every_hub() {
    let mut rig = Rig::new(3, Config::default());
    let subscriber = rig.connect(0);
    rig.subscribe(&subscriber, "a");
    let body = r#"{"channel":"a","event":"e","data":{"n":1},"idempotency_key":"k"}"#;
    let mut answers = Vec::new();
    for shard in 0..3 {
        let client = rig.socket(shard);
        rig.bytes(&client, &post(body));
        client.take_head();
        answers.push(client.take_text());
    }
    assert!(answers[0].contains(r#""subscribers":1"#), "{}", answers[0]);
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(subscriber.take_numbers(), [1]);
}

/// What `post` makes, with a token.
#[cfg(feature = "jwt")]
fn post_as(token: &str, body: &str) -> Vec<u8> {
    let plain = String::from_utf8(post(body)).unwrap();
    let with = format!("\r\nAuthorization: Bearer {token}\r\nContent-Length");
    plain.replacen("\r\nContent-Length", &with, 1).into_bytes()
}

#[cfg(feature = "jwt")]
#[test]
fn an_idempotency_key_belongs_to_its_user() {
    let mut rig = Rig::new(3, with_auth());
    let subscriber = {
        let bearer = format!("Authorization: Bearer {}\r\n", token("watcher", &["admin"]));
        let client = rig.connect_with(0, &bearer);
        client.take();
        client
    };
    rig.subscribe(&subscriber, "a");
    let ask = |rig: &mut Rig, shard: usize, user: &str, n: u64| {
        // Another number of permissions: another token of the same user.
        let permissions = vec!["admin"; shard + 1];
        let body = json!({"channel": "a", "event": "e", "data": {"n": n}, "idempotency_key": "k"});
        let client = rig.socket(shard);
        rig.bytes(&client, &post_as(&token(user, &permissions), &body.to_string()));
        let status = client.take_head().split(' ').nth(1).map(str::to_owned);
        (status.unwrap_or_default(), client.take_text())
    };
    let first = ask(&mut rig, 0, "ada", 1);
    assert_eq!(first.0, "200");

    // Named like an address, like the other with a part of the key, and not at all like it.
    for (user, n) in [("bob", 2), ("127.0.0.1", 3), ("192.0.2.1", 4), ("adak", 5)] {
        assert_eq!(ask(&mut rig, 1, user, n).0, "200", "{user} has a key of its own");
    }
    assert_eq!(ask(&mut rig, 2, "bob", 1).0, "422", "its own key, for something else");
    for shard in 0..3 {
        assert_eq!(ask(&mut rig, shard, "ada", 1), first, "whichever token and shard");
    }
    assert_eq!(subscriber.take_numbers(), [1, 2, 3, 4, 5], "and the same body of another goes out");
    assert_eq!(ask(&mut rig, 1, "cyd", 1).0, "200");
    assert_eq!(subscriber.take_numbers(), [1]);
}

#[test]
fn an_answer_that_is_given_again_is_the_same_to_the_byte() {
    let mut rig = Rig::new(3, unlimited());
    let subscriber = rig.connect(0);
    let names: Vec<_> = (0..200).map(|n| format!("\"{n}\u{e9}")).collect();
    names.iter().step_by(3).take(20).for_each(|name| rig.subscribe(&subscriber, name));
    let message = |name| json!({"channel": name, "event": "e", "data": {}});
    let messages: Vec<_> = names.iter().map(message).collect();
    let body = json!({"messages": messages, "idempotency_key": "k"}).to_string();
    let answers = [0, 1, 2, 1].map(|shard| {
        let client = rig.socket(shard);
        rig.bytes(&client, &post(&body));
        assert!(client.take_head().starts_with("HTTP/1.1 200 "));
        client.take_text()
    });
    assert!(answers[0].contains(r#""subscribers":20"#) && answers[0].len() > 5_000);
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(subscriber.take().len(), 20);
}

#[test]
fn one_batch_may_have_several_homes() {
    let mut rig = Rig::new(3, Config::default());
    let subscriber = rig.connect(2);
    let channels = ["a", "b", "c", "d", "e", "f"];
    channels.iter().for_each(|channel| rig.subscribe(&subscriber, channel));
    let messages: Vec<_> = channels
        .iter()
        .map(|channel| json!({"channel": channel, "event": "e", "data": {"n": 1}}))
        .collect();
    let client = rig.socket(0);

    rig.bytes(&client, &post(&json!(messages).to_string()));

    assert!(client.take_head().starts_with("HTTP/1.1 200 "));
    let answer: Value = serde_json::from_str(&client.take_text()).unwrap();
    assert_eq!((&answer["published"], &answer["subscribers"]), (&json!(6), &json!(6)));
    assert_eq!(subscriber.take_numbers(), [1; 6]);
}

#[test]
fn a_batch_that_finds_no_room_reaches_nobody() {
    let mut config = Config::default();
    config.limits.publishing.publishes_in_flight_max = 0;
    let mut rig = Rig::new(2, config);
    let (near, far) = (rig.channel_of(0), rig.channel_of(1));
    let subscriber = rig.connect(0);
    rig.subscribe(&subscriber, &near);
    let message = |channel| json!({"channel": channel, "event": "e", "data": {"n": 1}});
    let client = rig.socket(0);

    rig.bytes(&client, &post(&json!([message(&near), message(&far)]).to_string()));

    assert!(client.take_head().starts_with("HTTP/1.1 503 "));
    assert_eq!(subscriber.take_numbers(), Vec::<u64>::new());
}

#[test]
fn a_late_confirmation_does_not_revive_a_subscription() {
    let mut rig = Rig::new(2, Config::default());
    // A channel that is at home in the other hub.
    let far = (0..)
        .map(|n| format!("c{n}"))
        .find(|name| rig.hubs[0].hub().homes.of(name) == ShardId(1))
        .unwrap();
    let client = rig.connect(0);
    let message =
        |event| frame(&json!({"type": "request", "event": event, "data": {"channel": far}}));
    rig.hubs[0].handle_bytes(rig.now, client.conn, &mut message("subscribe"));
    rig.hubs[0].handle_bytes(rig.now, client.conn, &mut message("unsubscribe"));
    rig.run();
    let answers = client.take();

    rig.publish(0, &far, 1);
    rig.run();

    let status: Vec<_> = answers.iter().map(|answer| &answer["data"]["status"]).collect();
    assert_eq!(status, ["subscribed", "unsubscribed"]);
    assert_eq!(client.take_numbers(), Vec::<u64>::new());
    rig.hang_up(&client);
    rig.assert_empty();
}

#[test]
fn subscriptions_asked_for_at_once_are_limited_like_others() {
    let mut config = unlimited();
    config.limits.channels.channels_per_connection_max = 3;
    let mut rig = Rig::new(3, config);
    let client = rig.connect(0);
    let all: Vec<u8> = (0..10)
        .flat_map(|n| frame(&json!({"type": "subscribe", "data": {"channel": n.to_string()}})))
        .collect();

    rig.bytes(&client, &all);

    let answers = client.take();
    let refused =
        answers.iter().filter(|answer| answer["error_code"] == "RATE_LIMIT_EXCEEDED").count();
    assert_eq!((answers.len(), refused), (10, 7));
    rig.hang_up(&client);
    rig.assert_empty();
}

#[test]
fn the_last_connection_is_one_even_if_two_come_at_once() {
    let mut config = unlimited();
    config.limits.connections.connections_max = 3;
    let mut rig = Rig::new(2, config);
    let early = [rig.connect(0), rig.connect(1)];
    let head = b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

    // Both hubs know of two connections when the third and the fourth come.
    let rivals = [rig.socket(0), rig.socket(1)];
    for rival in &rivals {
        rig.hubs[rival.shard].handle_bytes(rig.now, rival.conn, &mut head.to_vec());
    }
    rig.run();

    let closed: Vec<_> = rivals
        .iter()
        .filter_map(|rival| {
            rival.take_head();
            rival.take_close()
        })
        .collect();
    assert_eq!(closed, [(1013, "Server at maximum capacity".into())]);
    assert!(early.iter().all(|client| client.take_close().is_none()));
}

#[test]
fn sockets_are_limited_over_all_hubs() {
    let mut config = unlimited();
    config.limits.connections.sockets_max = 4;
    let mut rig = Rig::new(2, config);
    let _open = [rig.connect(0), rig.connect(1), rig.connect(0), rig.connect(1)];

    let peer = Peer { address: ([127, 0, 0, 1], 50_000).into(), listener: Listener::Main };
    let fifth = rig.hubs[0].handle_accept(rig.now, peer);

    assert_eq!(fifth, Err(Reason::MaxSockets));
}

#[test]
fn channels_are_limited_over_all_hubs() {
    let mut config = unlimited();
    config.limits.channels.channels_max = 4;
    let mut rig = Rig::new(3, config);
    let clients = [rig.connect(0), rig.connect(1)];
    (0..4).for_each(|n| rig.subscribe(&clients[n % 2], &format!("c{n}")));

    let answer = rig.request(&clients[0], "subscribe", &json!({"channel": "c9"}));

    assert_eq!(answer["error_code"], "SERVER_ERROR", "{answer}");
}

pub(super) fn post(body: &str) -> Vec<u8> {
    let length = body.len();
    let head =
        "POST /publish HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length:";
    format!("{head} {length}\r\n\r\n{body}").into_bytes()
}
