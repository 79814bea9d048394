//! Subscribing, publishing and receiving without authentication.

use mahavishnu_tests::{
    Client, Server, http, json,
    raw::{HANDSHAKE, op},
};
use serde_json::{Value, json};

#[test]
fn a_subscriber_gets_what_another_client_publishes() {
    let server = Server::start();
    let (mut reader, mut writer) = (server.hello(), server.hello());
    reader.subscribe("workflow:42");
    let data = json!({ "workflow_id": "42", "nested": { "n": [1, 2.5, null, "ü"] } });
    assert_eq!(writer.publish("workflow:42", "workflow.started", data.clone()), 1);
    let event = reader.message();
    assert_eq!(event["type"], "event");
    assert_eq!(event["event"], "workflow.started");
    assert_eq!(event["room"], "workflow:42");
    assert_eq!(event["data"], data);
    assert_eq!(event["correlation_id"], Value::Null);
    writer.expect_silence();
}

#[test]
fn a_broadcast_has_the_nine_fields_and_its_data_byte_for_byte() {
    let server = Server::start();
    let mut raw = server.raw_hello();
    raw.send(
        op::TEXT,
        br#"{"type":"request","id":"1","event":"subscribe","data":{"channel":"global"}}"#,
    );
    raw.frame().unwrap();
    let data = r#"{"z":12345678901234567890123,"a":1.10,"z":"\u00fc\/"}"#;
    let body = format!(r#"{{"channel":"global","event":"e","data":{data}}}"#);
    assert_eq!(http::post(server.address(), "/publish", &[], &body).status, 200);
    let text = String::from_utf8(raw.frame().unwrap().payload).unwrap();
    assert_eq!(json::keys(&text), json::FIELDS);
    assert!(text.contains(&format!(r#""data":{data},"#)), "{text}");
}

#[test]
fn a_subscriber_hears_itself() {
    let server = Server::start();
    let mut client = server.hello();
    client.subscribe("global");
    assert_eq!(client.publish("global", "e", json!({ "n": 1 })), 1);
    assert_eq!(client.message()["data"]["n"], 1);
}

#[test]
fn publishing_to_nobody_reaches_nobody() {
    let server = Server::start();
    let mut client = server.hello();
    assert_eq!(client.publish("nobody:here", "e", json!({})), 0);
    client.expect_silence();
}

#[test]
fn the_answer_to_a_publish_says_where_and_how_many() {
    let server = Server::start();
    let mut client = server.hello();
    let mut readers: Vec<Client> = (0..3).map(|_| server.hello()).collect();
    readers.iter_mut().for_each(|reader| reader.subscribe("global"));
    let answer =
        client.request("publish", json!({ "channel": "global", "event": "e", "data": {} }));
    assert_eq!((&answer["type"], &answer["event"]), (&json!("response"), &json!("publish")));
    assert_eq!(
        answer["data"],
        json!({ "status": "published", "channel": "global", "subscribers": 3 })
    );
}

#[test]
fn messages_come_in_order_once_each() {
    let server = Server::with(&[("MESSAGE_RATE_LIMIT", "0")]);
    let (mut reader, mut writer) = (server.hello(), server.hello());
    reader.subscribe("pool:1");
    for n in 0..2_000 {
        writer.send(&json!({ "type": "request", "event": "publish", "data": { "channel": "pool:1", "event": "e", "data": { "n": n } } }));
    }
    for n in 0..2_000 {
        assert_eq!(reader.message()["data"]["n"], n);
    }
    reader.expect_silence();
}

#[test]
fn two_publishers_are_seen_in_one_order_by_all() {
    let server = Server::with(&[("MESSAGE_RATE_LIMIT", "0")]);
    let mut readers: Vec<Client> = (0..3).map(|_| server.hello()).collect();
    readers.iter_mut().for_each(|reader| reader.subscribe("pool:1"));
    std::thread::scope(|scope| {
        for name in ["a", "b"] {
            let server = &server;
            scope.spawn(move || {
                let mut writer = server.hello();
                for n in 0..200 {
                    writer.publish("pool:1", "e", json!({ "of": name, "n": n }));
                }
            });
        }
    });
    let mut seen = readers
        .iter_mut()
        .map(|reader| (0..400).map(|_| reader.message()["data"].take()).collect::<Vec<_>>());
    let first = seen.next().unwrap();
    for name in ["a", "b"] {
        let of: Vec<_> = first
            .iter()
            .filter(|data| data["of"] == name)
            .map(|data| data["n"].as_u64().unwrap())
            .collect();
        assert_eq!(of, (0..200).collect::<Vec<_>>(), "{name} in its own order");
    }
    assert!(seen.all(|other| other == first));
}

#[test]
fn after_unsubscribing_nothing_comes() {
    let server = Server::alone();
    let (mut reader, mut writer) = (server.hello(), server.hello());
    reader.subscribe("pool:1");
    reader.unsubscribe("pool:1");
    assert_eq!(writer.publish("pool:1", "e", json!({})), 0);
    reader.expect_silence();
}

#[test]
fn joining_and_leaving_are_idempotent() {
    let server = Server::alone();
    let mut client = server.hello();
    client.unsubscribe("never:joined");
    client.subscribe("pool:1");
    client.subscribe("pool:1");
    assert_eq!(client.publish("pool:1", "e", json!({})), 1);
    assert_eq!(client.message()["room"], "pool:1");
    client.expect_silence();
    client.unsubscribe("pool:1");
    client.unsubscribe("pool:1");
    assert_eq!(client.publish("pool:1", "e", json!({})), 0);
}

#[test]
fn a_connection_may_have_many_channels_and_gets_each_ones_own() {
    let server = Server::alone();
    let (mut reader, mut writer) = (server.hello(), server.hello());
    for n in 0..50 {
        reader.subscribe(&format!("pool:{n}"));
    }
    for n in (0..50).step_by(2) {
        reader.unsubscribe(&format!("pool:{n}"));
    }
    for n in 0..50 {
        assert_eq!(writer.publish(&format!("pool:{n}"), "e", json!({ "n": n })), n % 2);
    }
    let got: Vec<_> =
        reader.drain().iter().map(|event| event["data"]["n"].as_u64().unwrap()).collect();
    assert_eq!(got, (0..50).filter(|n| n % 2 == 1).collect::<Vec<_>>());
}

#[test]
fn a_channel_is_its_whole_name() {
    let server = Server::alone();
    let mut client = server.hello();
    for name in ["pool", "pool:", "POOL:1", "pool:1 ", "pool:*", "*"] {
        client.subscribe(name);
    }
    assert_eq!(client.publish("pool:1", "e", json!({})), 0);
}

#[test]
fn a_connection_that_ends_leaves_all_its_channels() {
    let server = Server::alone();
    let mut reader = server.hello();
    for n in 0..5 {
        reader.subscribe(&format!("pool:{n}"));
    }
    reader.close();
    server.metrics_when("no connection", |metrics| metrics.active() == 0);
    for n in 0..5 {
        assert_eq!(server.post(&format!("pool:{n}"), "e", &json!({})), 0);
    }
}

#[test]
fn a_publish_without_event_or_object_is_refused() {
    let server = Server::start();
    let mut client = server.hello();
    client.subscribe("global");
    for data in [
        json!({ "channel": "global" }),
        json!({ "channel": "global", "event": "" }),
        json!({ "channel": "global", "event": 5 }),
        json!({ "channel": "global", "event": "e", "data": [] }),
        json!({ "channel": "global", "event": "e", "data": "x" }),
        json!({ "channel": "global", "event": "e", "data": null }),
    ] {
        let answer = client.request("publish", data.clone());
        assert_eq!(answer["type"], "error", "{data}: {answer}");
    }
    client.expect_silence();
}

#[test]
fn a_publish_may_go_without_data() {
    let server = Server::start();
    let mut client = server.hello();
    client.subscribe("global");
    let answer = client.request("publish", json!({ "channel": "global", "event": "e" }));
    assert_eq!(answer["data"]["subscribers"], 1, "{answer}");
    assert_eq!(client.message()["data"], json!({}));
}

#[test]
fn without_authentication_a_page_of_another_site_is_refused_and_may_never_publish() {
    let foreign = [("Origin", "https://example.com")];
    let refused = Server::start().open("/", &foreign).unwrap_err();
    assert_eq!(refused.status(), 403);
    let server = Server::with(&[("ALLOWED_ORIGINS", "*")]);
    let headers = [("Origin", "https://example.com")];
    let mut client = server.open("/", &headers).unwrap();
    client.expect_welcome();
    let answer =
        client.request("publish", json!({ "channel": "global", "event": "e", "data": {} }));
    assert_eq!(answer["error_code"], "FORBIDDEN", "{answer}");
    client.subscribe("global");
}

/// A web page on evil.example has had its name point at 127.0.0.1, and asks as if it were its own server.
#[test]
fn without_authentication_nobody_reaches_a_server_on_loopback_by_a_name_of_his_own() {
    let names = |server: &Server, host: &str| {
        let get = format!("GET /health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let main = http::exchange(server.address(), get.as_bytes()).status;
        let get = get.replace("/health", "/metrics");
        let metrics = http::exchange(server.metrics_address(), get.as_bytes()).status;
        let mut raw = server.raw();
        raw.write(HANDSHAKE.replace("Host: test", &format!("Host: {host}")).as_bytes());
        let upgraded = raw.read_head().starts_with("HTTP/1.1 101 ");
        (main, metrics, upgraded)
    };
    let refused = (421, 421, false);
    let taken = (200, 200, true);
    let server = Server::with(&[("ALLOWED_HOSTS", "")]);
    for own in ["localhost:8686", "127.0.0.1", "[::1]:8686", "app.localhost"] {
        assert_eq!(names(&server, own), taken, "{own}");
    }
    for foreign in ["evil.example", "evil.example:8686", "localhost.evil.example"] {
        assert_eq!(names(&server, foreign), refused, "{foreign}");
    }
    let old = http::exchange(server.address(), b"GET /health HTTP/1.0\r\n\r\n");
    assert_eq!(old.status, 200, "load balancers name nobody");
    // Whoever has a proxy in front names it.
    let server = Server::with(&[("ALLOWED_HOSTS", "ws.example.com")]);
    assert_eq!(names(&server, "ws.example.com"), taken);
    assert_eq!(names(&server, "evil.example"), refused);
    // With a token, or for others than this machine, it is as ever.
    let server = Server::with_auth(&[("ALLOWED_HOSTS", "")]);
    assert_eq!(names(&server, "evil.example").0, 200);
    let server = Server::with(&[("ALLOWED_HOSTS", ""), ("HOST", "0.0.0.0")]);
    assert_eq!(names(&server, "evil.example"), taken);
}

#[test]
fn without_authentication_a_client_behind_a_proxy_may_not_publish() {
    let server = Server::start();
    let headers = [("X-Forwarded-For", "203.0.113.7")];
    let mut client = server.open("/", &headers).unwrap();
    client.expect_welcome();
    let answer =
        client.request("publish", json!({ "channel": "global", "event": "e", "data": {} }));
    assert_eq!(answer["error_code"], "FORBIDDEN", "{answer}");
}

#[test]
fn publishing_from_elsewhere_can_be_allowed() {
    let server = Server::with(&[("ALLOW_REMOTE_PUBLISH", "true")]);
    let headers = [("X-Forwarded-For", "203.0.113.7")];
    let mut client = server.open("/", &headers).unwrap();
    client.expect_welcome();
    assert_eq!(client.publish("global", "e", json!({})), 0);
}

#[test]
fn a_large_broadcast_arrives_whole() {
    let server = Server::start();
    let (mut reader, mut writer) = (server.hello(), server.hello());
    reader.subscribe("global");
    let text = "ä".repeat(400_000);
    assert_eq!(writer.publish("global", "e", json!({ "text": text })), 1);
    assert_eq!(reader.message()["data"]["text"], text);
}

#[test]
fn hundreds_of_subscribers_get_every_message() {
    let server = Server::start();
    let mut readers: Vec<Client> = (0..300).map(|_| server.hello()).collect();
    readers.iter_mut().for_each(|reader| reader.subscribe("global"));
    for n in 0..5 {
        assert_eq!(server.post("global", "e", &json!({ "n": n })), 300);
    }
    for reader in &mut readers {
        for n in 0..5 {
            assert_eq!(reader.message()["data"]["n"], n);
        }
    }
}

#[test]
fn several_shards_serve_one_channel() {
    let server = Server::with(&[("SHARDS", "3"), ("MESSAGE_RATE_LIMIT", "0")]);
    let mut readers: Vec<Client> = (0..12).map(|_| server.hello()).collect();
    for reader in &mut readers {
        reader.subscribe("global");
        reader.subscribe("pool:1");
    }
    let mut writer = server.hello();
    for n in 0..100 {
        let channel = if n % 2 == 0 { "global" } else { "pool:1" };
        assert_eq!(writer.publish(channel, "e", json!({ "n": n })), 12);
    }
    for reader in &mut readers {
        let got: Vec<_> = (0..100).map(|_| reader.message()).collect();
        for channel in ["global", "pool:1"] {
            let of: Vec<_> = got
                .iter()
                .filter(|event| event["room"] == channel)
                .map(|event| event["data"]["n"].as_u64().unwrap())
                .collect();
            assert_eq!(
                of,
                (0..100).filter(|n| (n % 2 == 0) == (channel == "global")).collect::<Vec<_>>()
            );
        }
    }
}
