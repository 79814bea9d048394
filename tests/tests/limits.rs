//! Bounds on what one connection, one address and all of them together may do.

use std::time::Instant;

use mahavishnu_tests::{
    Client, Heard, Raw, Server, http,
    raw::{HANDSHAKE, masked, op},
    token,
};
use serde_json::{Value, json};
use tungstenite::Message;

/// `count` messages as one piece of bytes.
fn burst(count: usize, message: impl Fn(usize) -> Value) -> Vec<u8> {
    (0..count).flat_map(|n| masked(op::TEXT, message(n).to_string().as_bytes())).collect()
}

fn ping(n: usize) -> Value {
    json!({ "type": "ping", "id": n.to_string() })
}

/// The seconds in "… Retry after N.NNN seconds."
fn retry_after(error: &Value) -> f64 {
    let text = error["error_message"].as_str().expect("a text");
    let number = text
        .strip_prefix("Message rate limit exceeded. Retry after ")
        .and_then(|rest| rest.strip_suffix(" seconds."));
    let number = number.unwrap_or_else(|| panic!("{text}"));
    let (whole, fraction) = number.split_once('.').expect("a fraction");
    assert!(
        fraction.len() == 3 && (whole.to_owned() + fraction).bytes().all(|b| b.is_ascii_digit()),
        "{text}"
    );
    number.parse().expect("digits")
}

#[test]
fn a_burst_of_150_messages_is_accepted_and_the_next_one_refused() {
    let server = Server::with(&[("MESSAGE_RATE_LIMIT", "1"), ("MESSAGE_BURST", "150")]);
    let mut raw = server.raw_hello();
    raw.write(&burst(200, ping));
    let answers: Vec<Value> = (0..200).map(|_| raw.frame().expect("an answer").json()).collect();
    for (n, answer) in answers.iter().enumerate() {
        assert_eq!(answer["correlation_id"], n.to_string(), "refusals are correlated: {answer}");
        let expected =
            if n < 150 { ("pong", Value::Null) } else { ("error", json!("RATE_LIMIT_EXCEEDED")) };
        // A slow machine may earn a token in between.
        if !(150..155).contains(&n) {
            assert_eq!(
                (answer["type"].as_str().unwrap(), answer["error_code"].clone()),
                expected,
                "{n}"
            );
        }
    }
    assert!(retry_after(&answers[199]) <= 1.0);
    let metrics =
        server.metrics_when("the errors", |metrics| metrics.message_errors("rate_limit") >= 45);
    assert_eq!(metrics.messages("ping", "received"), 200);
}

#[test]
fn the_default_is_100_a_second_with_a_burst_of_150() {
    let server = Server::start();
    let mut raw = server.raw_hello();
    let start = Instant::now();
    raw.write(&burst(1_000, ping));
    let answers: Vec<Value> = (0..1_000).map(|_| raw.frame().expect("an answer").json()).collect();
    let accepted = answers.iter().filter(|answer| answer["type"] == "pong").count();
    let earned = (start.elapsed().as_secs_f64() * 100.0) as usize + 1;
    assert!((150..=150 + earned).contains(&accepted), "{accepted} with {earned} earned");
    assert!(answers.iter().take(150).all(|answer| answer["type"] == "pong"));
}

#[test]
fn a_refused_message_has_no_effect_and_the_connection_stays() {
    let server =
        Server::with(&[("SHARDS", "1"), ("MESSAGE_RATE_LIMIT", "1"), ("MESSAGE_BURST", "1")]);
    let mut raw = server.raw_hello();
    let subscribe = |n: usize| json!({ "type": "request", "id": n.to_string(), "event": "subscribe", "data": { "channel": format!("pool:{n}") } });
    raw.write(&burst(3, subscribe));
    assert_eq!(raw.frame().unwrap().json()["data"]["status"], "subscribed");
    assert_eq!(raw.frame().unwrap().json()["error_code"], "RATE_LIMIT_EXCEEDED");
    assert_eq!(raw.frame().unwrap().json()["error_code"], "RATE_LIMIT_EXCEEDED");
    let other = |n: u64| server.post(&format!("pool:{n}"), "e", &json!({}));
    assert_eq!([other(0), other(1), other(2)], [1, 0, 0]);
    assert_eq!(raw.frame().unwrap().json()["room"], "pool:0", "events come all the same");
}

#[test]
fn what_cannot_be_decoded_costs_a_token_too() {
    let server = Server::with(&[("MESSAGE_RATE_LIMIT", "1"), ("MESSAGE_BURST", "10")]);
    let mut raw = server.raw_hello();
    raw.write(&burst(20, |_| json!("garbage")));
    let codes: Vec<Value> =
        (0..20).map(|_| raw.frame().unwrap().json()["error_code"].take()).collect();
    assert!(codes.iter().take(10).all(|code| code == "DECODE_ERROR"), "{codes:?}");
    assert!(codes.iter().skip(12).all(|code| code == "RATE_LIMIT_EXCEEDED"), "{codes:?}");
}

#[test]
fn each_connection_has_a_bucket_of_its_own() {
    let server = Server::with(&[("MESSAGE_RATE_LIMIT", "1"), ("MESSAGE_BURST", "5")]);
    let mut greedy = server.raw_hello();
    greedy.write(&burst(50, ping));
    let mut client = server.hello();
    for n in 0..5 {
        client.send(&ping(n));
        assert_eq!(client.message()["type"], "pong");
    }
}

#[test]
fn the_message_rate_can_be_switched_off() {
    let server = Server::with(&[("MESSAGE_RATE_LIMIT", "0")]);
    let mut raw = server.raw_upgraded();
    let welcome = raw.frame().unwrap().json();
    assert_eq!(welcome["data"].get("rate_limit"), None, "{welcome}");
    raw.write(&burst(3_000, ping));
    for _ in 0..3_000 {
        assert_eq!(raw.frame().unwrap().json()["type"], "pong");
    }
}

#[test]
fn over_max_connections_one_is_accepted_and_closed_with_1013() {
    let server = Server::with(&[("SHARDS", "1"), ("MAX_CONNECTIONS", "3")]);
    let mut clients: Vec<Client> = (0..3).map(|_| server.hello()).collect();
    for _ in 0..3 {
        let mut refused = server.client();
        assert_eq!(refused.expect_close(1013), "Server at maximum capacity");
    }
    let metrics = server
        .metrics_when("the errors", |metrics| metrics.connection_errors("max_connections") == 3);
    assert_eq!((metrics.active(), metrics.count("websocket_connections_total", &[])), (3, 3));
    assert_eq!(http::get(server.address(), "/health").json()["metrics"]["active_connections"], 3);
    clients.pop().unwrap().close();
    server.metrics_when("room", |metrics| metrics.active() == 2);
    clients.push(server.hello());
    clients.iter_mut().for_each(Client::expect_silence);
}

#[test]
fn new_connections_from_this_machine_are_not_limited_by_default() {
    let server = Server::with(&[("RATE_LIMIT", "1")]);
    let _clients: Vec<Client> = (0..10).map(|_| server.hello()).collect();
}

#[test]
fn the_default_limit_is_one_mebibyte() {
    let server = Server::start();
    let mut client = server.hello();
    let padded = |length: usize| format!(r#"{{"type":"ping"{}}}"#, " ".repeat(length - 15));
    client.send_text(&padded(1_048_576));
    assert_eq!(client.message()["type"], "pong");
    let _ = client.try_send(Message::text(padded(1_048_577)));
    assert_eq!(client.wait_close(1009), "Message too big");
}

#[test]
fn a_client_that_answers_no_ping_is_closed_with_1011() {
    let server = Server::with(&[("PING_INTERVAL", "0.2"), ("PONG_TIMEOUT", "0.3")]);
    let mut raw = server.raw_hello();
    assert_eq!(raw.frame().unwrap().first, op::PING);
    assert_eq!(raw.close_frame().unwrap(), (1011, "Keepalive ping timeout".into()));
    server.metrics_when("the error", |metrics| {
        metrics.connection_errors("ping_timeout") == 1 && metrics.active() == 0
    });
}

#[test]
fn a_pong_that_was_not_asked_for_changes_nothing() {
    let server = Server::start();
    let mut raw = server.raw_hello();
    raw.send(op::PONG, b"unsolicited");
    raw.send(op::TEXT, b"{\"type\":\"ping\"}");
    assert_eq!(raw.frame().unwrap().json()["type"], "pong");
}

#[test]
fn subscriptions_of_one_connection_are_bounded() {
    let server = Server::with(&[("SHARDS", "1"), ("MESSAGE_RATE_LIMIT", "0")]);
    let mut raw = server.raw_hello();
    let subscribe = |n: usize| json!({ "type": "request", "event": "subscribe", "data": { "channel": format!("pool:{n}") } });
    raw.write(&burst(1_001, subscribe));
    for _ in 0..1_000 {
        assert_eq!(raw.frame().unwrap().json()["data"]["status"], "subscribed");
    }
    assert_eq!(raw.frame().unwrap().json()["error_code"], "RATE_LIMIT_EXCEEDED");
}

#[test]
fn sockets_without_a_request_do_not_keep_clients_out() {
    let server = Server::with(&[("MAX_CONNECTIONS", "10")]);
    let _idle: Vec<Raw> = (0..50).map(|_| server.raw()).collect();
    let mut half: Vec<Raw> = (0..50).map(|_| server.raw()).collect();
    half.iter_mut().for_each(|raw| raw.write(&HANDSHAKE.as_bytes()[..40]));
    server.hello().expect_silence();
    assert_eq!(http::get(server.address(), "/health").status, 200);
}

#[test]
fn sockets_of_any_kind_are_bounded() {
    let server = Server::with(&[("SHARDS", "1"), ("MAX_CONNECTIONS", "1")]);
    let mut client = server.hello();
    let mut sockets: Vec<Raw> = (0..400).map(|_| server.raw()).collect();
    // 201 places, one of them the client's: the oldest went, whoever sent nothing.
    sockets.iter_mut().take(200).for_each(|raw| assert_eq!(raw.read_to_end(), b""));
    let metrics =
        server.metrics_when("room made", |metrics| metrics.connection_errors("made_room") >= 200);
    assert_eq!(metrics.connection_errors("max_sockets"), 0);
    client.send(&ping(1));
    assert_eq!(client.message()["type"], "pong", "who is connected notices nothing");
}

/// As many silent sockets as it takes and more, again and again, in each stage that one can be silent in.
#[test]
fn silent_sockets_do_not_keep_health_checks_and_clients_out() {
    let server = Server::with(&[("SHARDS", "1"), ("MAX_CONNECTIONS", "10")]);
    let _first = server.hello();
    let mut held = Vec::new();
    for sent in
        [&b""[..], b"GET /", b"POST /publish HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"]
    {
        for _ in 0..250 {
            let mut raw = server.raw();
            raw.write(sent);
            held.push(raw);
        }
        assert_eq!(http::get(server.address(), "/health").status, 200);
        server.hello().close();
    }
}

/// Answered and kept, or told to go and staying: neither is worth more than a client.
#[test]
fn idle_and_lingering_sockets_do_not_keep_clients_out() {
    let server = Server::with(&[("SHARDS", "1"), ("MAX_CONNECTIONS", "10")]);
    for last in ["", "Connection: close\r\n"] {
        let request = format!("GET /health HTTP/1.1\r\nHost: x\r\n{last}\r\n");
        let _held: Vec<Raw> = (0..300)
            .map(|_| {
                let mut raw = server.raw();
                raw.write(request.as_bytes());
                raw.read_head();
                raw
            })
            .collect();
        server.hello().close();
    }
}

#[test]
fn failed_authentication_leaves_room() {
    let server = Server::with_auth(&[("MAX_CONNECTIONS", "2")]);
    for _ in 0..10 {
        let mut client = server.client();
        client.send(&json!({ "type": "request", "event": "auth", "data": { "token": "x.y.z" } }));
        assert!(matches!(client.hear(), Heard::Message(_)));
        client.expect_close(1008);
    }
    server.login(&token::of("ada", &[])).expect_silence();
}
