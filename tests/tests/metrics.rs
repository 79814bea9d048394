//! The metrics port: families, labels and buckets exactly as dashboards expect them, and counts that are true.

use mahavishnu_tests::{Client, Metrics, Raw, Server, http, raw::op, token};
use serde_json::json;

/// Name, type, HELP, label names.
const FAMILIES: [(&str, &str, &str, &[&str]); 8] = [
    (
        "websocket_connections_total",
        "counter",
        "Total number of WebSocket connections established",
        &["server", "tls_mode"],
    ),
    (
        "websocket_connections_active",
        "gauge",
        "Current number of active WebSocket connections",
        &["server"],
    ),
    (
        "websocket_messages_total",
        "counter",
        "Total number of messages processed",
        &["direction", "message_type", "server"],
    ),
    (
        "websocket_broadcast_total",
        "counter",
        "Total number of broadcast operations",
        &["channel", "server"],
    ),
    (
        "websocket_broadcast_duration_seconds",
        "histogram",
        "Time taken to broadcast messages to rooms",
        &["channel", "server"],
    ),
    (
        "websocket_connection_errors_total",
        "counter",
        "Total number of WebSocket connection errors",
        &["error_type", "server"],
    ),
    (
        "websocket_message_errors_total",
        "counter",
        "Total number of message processing errors",
        &["error_type", "server"],
    ),
    (
        "websocket_latency_seconds",
        "histogram",
        "WebSocket message processing latency",
        &["message_type", "server"],
    ),
];

const BUCKETS: [&str; 17] = [
    "0.00001", "0.000025", "0.00005", "0.0001", "0.00025", "0.0005", "0.001", "0.005", "0.01",
    "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5",
];

#[test]
fn every_family_is_described_before_any_traffic() {
    let server = Server::start();
    let metrics = server.metrics();
    for (name, kind, help, _) in FAMILIES {
        assert_eq!(metrics.kind(name), Some(kind), "{name}");
        assert_eq!(metrics.help(name), Some(help), "{name}");
    }
}

#[test]
fn the_gauge_is_zero_before_any_traffic() {
    let server = Server::start();
    let metrics = server.metrics();
    let active: Vec<_> =
        metrics.series("websocket_connections_active", &[("server", "mahavishnu")]).collect();
    assert_eq!(active.len(), 1);
    assert_eq!(active[0].value, 0.0);
}

#[test]
fn the_answer_is_prometheus_text_at_any_path() {
    let server = Server::start();
    for path in ["/metrics", "/", "/anything"] {
        let answer = http::get(server.metrics_address(), path);
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        assert!(answer.text().contains("websocket_connections_active"));
    }
}

#[test]
fn the_metrics_port_only_reads() {
    let server = Server::start();
    let answer =
        http::post(server.metrics_address(), "/publish", &[], r#"{"channel":"c","event":"e"}"#);
    assert_eq!(answer.status, 405);
}

#[test]
fn metrics_can_be_switched_off() {
    let server = Server::with(&[("METRICS_ENABLED", "false")]);
    assert!(http::try_get(server.metrics_address(), "/metrics").is_err());
}

#[test]
fn labels_are_exactly_the_documented_ones() {
    let server = Server::start();
    conversation(&server);
    let metrics = server.metrics_when("the broadcasts", |metrics| {
        metrics.count("websocket_broadcast_total", &[]) == 3
    });
    for (name, kind, _, labels) in FAMILIES {
        let (series, extra) = if kind == "histogram" {
            (format!("{name}_bucket"), Some("le"))
        } else {
            (name.to_owned(), None)
        };
        let mut expected: Vec<&str> = labels.iter().copied().chain(extra).collect();
        expected.sort_unstable();
        for sample in metrics.series(&series, &[]) {
            assert_eq!(sample.labels.keys().collect::<Vec<_>>(), expected, "{series}");
            assert_eq!(sample.labels["server"], "mahavishnu");
        }
    }
    assert_eq!(metrics.count("websocket_connections_total", &[("tls_mode", "ws")]), 2);
}

#[test]
fn histograms_have_the_documented_buckets() {
    let server = Server::start();
    conversation(&server);
    let metrics = server.metrics_when("a broadcast", |m| {
        m.count("websocket_broadcast_duration_seconds_count", &[]) == 3
    });
    for (name, label, last) in [
        ("websocket_broadcast_duration_seconds_bucket", ("channel", "pool:*"), None),
        ("websocket_latency_seconds_bucket", ("message_type", "request"), Some("10")),
    ] {
        let bounds: Vec<String> =
            metrics.series(name, &[label]).map(|sample| sample.labels["le"].clone()).collect();
        let expected: Vec<&str> = BUCKETS.iter().copied().chain(last).chain(["+Inf"]).collect();
        assert_eq!(bounds, expected, "{name}");
        let counts: Vec<f64> = metrics.series(name, &[label]).map(|sample| sample.value).collect();
        assert!(counts.is_sorted(), "buckets are cumulative: {counts:?}");
        let count = metrics.sum(&name.replace("_bucket", "_count"), &[label]);
        assert_eq!(counts.last(), Some(&count));
        assert!(metrics.sum(&name.replace("_bucket", "_sum"), &[label]) >= 0.0);
    }
}

/// Two clients, one of them a publisher: 5 requests, 2 pings, 1 event, 1 ack; 3 broadcasts, two of them to 2 readers.
fn conversation(server: &Server) -> (Client, Client) {
    let (mut ada, mut bob) = (server.hello(), server.hello());
    ada.subscribe("pool:1");
    bob.subscribe("pool:1");
    assert_eq!(ada.publish("pool:1", "e", json!({})), 2);
    assert_eq!(server.post("pool:1", "e", &json!({})), 2);
    assert_eq!(ada.publish("pool:nobody", "e", json!({})), 0);
    assert_eq!(ada.request("no_such", json!({}))["error_code"], "UNKNOWN_REQUEST");
    ada.send_text("garbage");
    bob.send(&json!({ "type": "event", "event": "subscribe", "data": { "room": "pool:2" } }));
    bob.send(&json!({ "type": "ack" }));
    for client in [&mut ada, &mut bob] {
        // Two broadcasts, and an error or an acknowledgement.
        (0..3).for_each(|_| drop(client.message()));
        client.expect_silence();
    }
    (ada, bob)
}

#[test]
fn counts_are_what_was_sent_received_delivered_and_refused() {
    let server = Server::start();
    let (ada, bob) = conversation(&server);
    let metrics = server.metrics_when("the last pings", |metrics| {
        metrics.messages("pong", "sent") == 2 && metrics.messages("event", "sent") == 6
    });
    let received = |kind: &str| metrics.messages(kind, "received");
    let sent = |kind: &str| metrics.messages(kind, "sent");
    assert_eq!(
        [received("request"), received("event"), received("ack"), received("subscribe")],
        [5, 1, 1, 0]
    );
    assert_eq!(sent("response"), 4, "two subscriptions, two publishes");
    assert_eq!(sent("error"), 2);
    assert_eq!(sent("ack"), 1);
    assert_eq!(sent("pong"), 2);
    assert_eq!(sent("event"), 2 + 4, "two welcomes, two broadcasts to two");
    assert_eq!(metrics.count("websocket_broadcast_total", &[("channel", "pool:*")]), 3);
    assert_eq!(metrics.message_errors("decode_error"), 1);
    assert_eq!(metrics.message_errors("unknown_request"), 1);
    assert_eq!(metrics.count("websocket_connections_total", &[]), 2);
    assert_eq!(metrics.active(), 2);
    ada.close();
    bob.close();
    let metrics = server.metrics_when("no connection", |metrics| metrics.active() == 0);
    assert_eq!(metrics.count("websocket_connections_total", &[]), 2);
    assert_eq!(metrics.count("websocket_connection_errors_total", &[]), 0);
}

#[test]
fn channels_are_folded_to_their_patterns() {
    let server = Server::start();
    for n in 0..50 {
        server.post(&format!("workflow:{n}"), "e", &json!({}));
        server.post(&format!("made-up-{n}"), "e", &json!({}));
    }
    server.post("global", "e", &json!({}));
    let metrics = server.metrics_when("the broadcasts", |metrics| {
        metrics.count("websocket_broadcast_total", &[]) == 101
    });
    assert_eq!(metrics.count("websocket_broadcast_total", &[("channel", "workflow:*")]), 50);
    assert_eq!(metrics.count("websocket_broadcast_total", &[("channel", "global")]), 1);
    let names = metrics
        .series("websocket_broadcast_total", &[])
        .filter(|sample| sample.value > 0.0)
        .count();
    assert_eq!(names, 3, "{}", metrics.text());
}

#[test]
fn whole_channel_names_are_an_option() {
    let server = Server::with(&[("METRICS_CHANNEL_NAMES", "true")]);
    server.post("workflow:1", "e", &json!({}));
    server.post("workflow:2", "e", &json!({}));
    let metrics = server.metrics_when("the broadcasts", |metrics| {
        metrics.count("websocket_broadcast_total", &[]) == 2
    });
    assert_eq!(metrics.count("websocket_broadcast_total", &[("channel", "workflow:1")]), 1);
}

#[test]
fn the_number_of_whole_channel_names_is_capped() {
    let server = Server::with(&[("SHARDS", "1"), ("METRICS_CHANNEL_NAMES", "true")]);
    for batch in 0..3 {
        let messages: Vec<_> = (0..1_000)
            .map(|n| json!({ "channel": format!("c:{batch}:{n}"), "event": "e" }))
            .collect();
        assert_eq!(
            http::post(server.address(), "/publish", &[], &json!(messages).to_string()).status,
            200
        );
    }
    let metrics = server.metrics_when("the broadcasts", |metrics| {
        metrics.count("websocket_broadcast_total", &[]) == 3_000
    });
    let names = metrics.series("websocket_broadcast_total", &[]).count();
    assert!((900..=1_200).contains(&names), "{names}");
}

#[test]
fn a_channel_name_cannot_break_the_exposition() {
    let server = Server::with(&[("METRICS_CHANNEL_NAMES", "true")]);
    let name = r#"a"b\c} 5"#;
    server.post(name, "e", &json!({}));
    let metrics = server.metrics_when("the broadcast", |metrics| {
        metrics.count("websocket_broadcast_total", &[]) == 1
    });
    assert_eq!(
        metrics.count("websocket_broadcast_total", &[("channel", name)]),
        1,
        "{}",
        metrics.text()
    );
}

#[test]
fn who_does_not_get_past_authentication_is_no_connection() {
    let server = Server::with_auth(&[]);
    let mut waiting = server.client();
    let mut refused = server.client();
    refused.send(&json!({ "type": "request", "event": "auth", "data": { "token": "x.y.z" } }));
    refused.wait_close(1008);
    let metrics =
        server.metrics_when("the error", |metrics| metrics.connection_errors("auth_failed") == 1);
    assert_eq!((metrics.active(), metrics.count("websocket_connections_total", &[])), (0, 0));
    waiting.request("auth", json!({ "token": token::of("ada", &[]) }));
    server.metrics_when("the connection", |metrics| metrics.active() == 1);
}

#[test]
fn the_gauge_returns_to_zero_however_connections_end() {
    let server = Server::start();
    let clients: Vec<Client> = (0..5).map(|_| server.hello()).collect();
    let raws: Vec<Raw> = (0..5).map(|_| server.raw_hello()).collect();
    let resets: Vec<Raw> = (0..5).map(|_| server.raw_hello()).collect();
    let mut bad: Vec<Raw> = (0..5).map(|_| server.raw_hello()).collect();
    server.metrics_when("twenty connections", |metrics| metrics.active() == 20);
    clients.into_iter().for_each(Client::close);
    drop(raws);
    resets.into_iter().for_each(Raw::reset);
    bad.iter_mut().for_each(|raw| raw.send(0xF1, b"reserved bits"));
    let metrics = server.metrics_when("no connection", |metrics| {
        metrics.active() == 0 && metrics.connection_errors("protocol_error") == 5
    });
    assert_eq!(metrics.count("websocket_connections_total", &[]), 20);
}

#[test]
fn refused_messages_are_counted_by_error_type() {
    let server = Server::with_auth(&[]);
    let mut client = server.login(&token::of("ada", &["pool:read"]));
    for _ in 0..2 {
        client.request("subscribe", json!({ "channel": "global" }));
    }
    client.request("subscribe", json!({}));
    client.request("publish", json!({ "channel": "pool:1", "event": "e" }));
    server.metrics_when("the errors", |metrics| {
        metrics.message_errors("invalid_channel") == 1
            && metrics.message_errors("forbidden") == 3
            && metrics.messages("error", "sent") == 4
    });
}

#[test]
fn scraping_is_not_counted_as_traffic() {
    let server = Server::start();
    let before = server.metrics();
    for _ in 0..10 {
        server.metrics();
    }
    let after = server.metrics();
    let traffic = |metrics: &Metrics| {
        metrics.sum("websocket_messages_total", &[])
            + metrics.sum("websocket_connections_total", &[])
    };
    assert_eq!(traffic(&before), traffic(&after));
}

#[test]
fn pings_of_the_transport_are_not_messages() {
    let server = Server::start();
    let mut raw = server.raw_hello();
    raw.send(op::PING, b"x");
    assert_eq!(raw.frame().unwrap().first, op::PONG);
    let metrics = server.metrics();
    assert_eq!(metrics.messages("ping", "received") + metrics.messages("pong", "sent"), 0);
}
