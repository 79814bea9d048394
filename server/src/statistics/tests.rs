use std::sync::atomic::{AtomicUsize, Ordering};

use mahavishnu_core::{auth::Policy, metrics::FAMILIES};
use serde_json::{Value, json};

use super::*;

const FIRST: &str = r#"
websocket_connections_active{server="mahavishnu"} 3
websocket_connections_total{server="mahavishnu",tls_mode="ws"} 4
websocket_connections_total{server="mahavishnu",tls_mode="wss"} 1
mahavishnu_connections_limit{server="mahavishnu",bound="setting"} 0
mahavishnu_connections_limit{server="mahavishnu",bound="memory"} 10000
websocket_messages_total{server="mahavishnu",message_type="request",direction="received"} 10
websocket_messages_total{server="mahavishnu",message_type="ping",direction="received"} 2
websocket_messages_total{server="mahavishnu",message_type="event",direction="sent"} 100
websocket_messages_total{server="mahavishnu",message_type="response",direction="sent"} 10
websocket_broadcast_total{server="mahavishnu",channel="workflow:*"} 5
websocket_broadcast_total{server="mahavishnu",channel="other"} 0
websocket_broadcast_duration_seconds_bucket{server="mahavishnu",channel="workflow:*",le="0.001"} 5
websocket_broadcast_duration_seconds_bucket{server="mahavishnu",channel="workflow:*",le="0.005"} 5
websocket_broadcast_duration_seconds_bucket{server="mahavishnu",channel="workflow:*",le="+Inf"} 5
mahavishnu_channels{server="mahavishnu"} 2
mahavishnu_subscriptions{server="mahavishnu"} 7
mahavishnu_queued_bytes{server="mahavishnu"} 11
mahavishnu_history_bytes{server="mahavishnu"} 12
mahavishnu_messages_dropped_total{server="mahavishnu",reason="slow_reader"} 8
websocket_connection_errors_total{server="mahavishnu",error_type="slow_reader"} 1
websocket_connection_errors_total{server="mahavishnu",error_type="auth_failed"} 2
websocket_message_errors_total{server="mahavishnu",error_type="forbidden"} 9
websocket_message_errors_total{server="mahavishnu",error_type="rate_limit"} 0
"#;

const SECOND: &str = r#"
websocket_connections_total{server="mahavishnu",tls_mode="ws"} 9
websocket_messages_total{server="mahavishnu",message_type="request",direction="received"} 16
websocket_messages_total{server="mahavishnu",message_type="event",direction="sent"} 300
websocket_broadcast_total{server="mahavishnu",channel="workflow:*"} 15
websocket_broadcast_total{server="mahavishnu",channel="other"} 2
websocket_broadcast_duration_seconds_bucket{server="mahavishnu",channel="workflow:*",le="0.001"} 5
websocket_broadcast_duration_seconds_bucket{server="mahavishnu",channel="workflow:*",le="0.005"} 15
websocket_broadcast_duration_seconds_bucket{server="mahavishnu",channel="workflow:*",le="+Inf"} 15
websocket_latency_seconds_bucket{server="mahavishnu",message_type="request",le="0.001"} 2
websocket_latency_seconds_bucket{server="mahavishnu",message_type="request",le="+Inf"} 2
websocket_message_errors_total{server="mahavishnu",error_type="forbidden"} 15
mahavishnu_nodes{server="mahavishnu"} 3
mahavishnu_bus_peers_silent{server="mahavishnu"} 1
mahavishnu_cluster_connections{server="mahavishnu"} 42
"#;

fn labels() -> Vec<String> {
    Policy::mahavishnu().labels().collect()
}

fn told(window: &mut Window, at: Instant, text: &str) -> Value {
    let told = window.add(at, Totals::read(text, &labels()), Memory::default());
    serde_json::to_value(told).unwrap()
}

#[test]
fn what_is_told_is_what_the_metrics_say() {
    let (mut window, start) = (Window::default(), Instant::now());
    let first = told(&mut window, start, FIRST);
    let connections = json!({"open": 3, "limit": 10_000, "opened_per_second": null});
    assert_eq!(first["connections"], connections);
    assert_eq!(first["messages"]["delivered_per_second"], Value::Null);
    assert_eq!(first["delivery"], json!({"p50_ms": null, "p99_ms": null}));
    let patterns = json!([{"pattern": "workflow:*", "published": 5, "published_per_second": null}]);
    assert_eq!(first["channels"], json!({"open": 2, "subscriptions": 7, "patterns": patterns}));
    assert_eq!(first["slow_readers"], json!({"closed": 1, "dropped": 8}));
    let refusals =
        json!([{"reason": "forbidden", "count": 9}, {"reason": "auth_failed", "count": 2}]);
    assert_eq!((&first["refusals"], &first["nodes"]), (&refusals, &Value::Null));

    let second = told(&mut window, start + Duration::from_secs(2), SECOND);
    let messages = json!({
        "received_per_second": 2.0, "published_per_second": 6.0, "delivered_per_second": 100.0,
        "refused_per_second": 1.5,
    });
    assert_eq!(second["messages"], messages);
    assert_eq!(second["connections"]["opened_per_second"], 2.0);
    // All of the ten since the first reading were between 1 and 5 ms.
    assert_eq!(second["delivery"], json!({"p50_ms": 3.0, "p99_ms": 4.96}));
    assert_eq!(second["answers"], json!({"p50_ms": 0.5, "p99_ms": 0.99}));
    assert_eq!(second["channels"]["patterns"][1]["published_per_second"], 1.0);
    assert_eq!(second["nodes"], json!({"name": null, "count": 3, "silent": 1, "connections": 42}));
}

#[test]
fn what_is_long_ago_is_compared_with_nothing() {
    let (mut window, start) = (Window::default(), Instant::now());
    told(&mut window, start, FIRST);
    let later = told(&mut window, start + Duration::from_secs(60), SECOND);
    assert_eq!(later["messages"]["delivered_per_second"], Value::Null);
    for second in 61..100 {
        told(&mut window, start + Duration::from_secs(second), SECOND);
        assert!(window.0.len() <= READINGS_MAX);
    }
}

#[test]
fn names_of_channels_are_not_told() {
    for (label, expected) in [
        ("workflow:*", "workflow:*"),
        ("global", "global"),
        ("goal-teams*", "goal-teams*"),
        ("other", "other"),
        ("workflow:secret", "workflow:*"),
        ("private", "other"),
    ] {
        assert_eq!(pattern_of(label, &labels()), expected);
    }
}

#[test]
fn at_most_so_many_patterns_are_told() {
    let text: String = (0..50)
        .map(|n| format!("websocket_broadcast_total{{server=\"m\",channel=\"k{n}:x\"}} {n}\n"))
        .collect();
    let told = told(&mut Window::default(), Instant::now(), &text);
    let patterns = told["channels"]["patterns"].as_array().unwrap();
    assert_eq!((patterns.len(), &patterns[0]["pattern"]), (PATTERNS_MAX, &json!("k49:*")));
}

#[test]
fn every_series_that_is_read_is_one_of_the_table() {
    let known = |name: &str| FAMILIES.iter().any(|family| family.name == name);
    for sample in samples(&[FIRST, SECOND].concat()) {
        let family = sample.name.trim_end_matches("_bucket");
        assert!(known(family), "{family}");
        let family = FAMILIES.iter().find(|known| known.name == family).unwrap();
        for label in family.labels {
            assert!(sample.label(label).is_some(), "{label} of {}", family.name);
        }
    }
}

#[test]
fn nothing_is_told_where_nothing_is_counted() {
    assert_eq!(Statistics::new(None, std::iter::empty(), None, None).tell(), None);
    let asked = Arc::new(AtomicUsize::new(0));
    let counts = asked.clone();
    let render = move || {
        counts.fetch_add(1, Ordering::Relaxed);
        FIRST.to_owned()
    };
    let statistics =
        Statistics::new(Some(Arc::new(render)), labels().into_iter(), Some(1 << 30), None);
    let told: Value = serde_json::from_str(&statistics.tell().unwrap()).unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    assert_eq!(told["memory"]["limit_bytes"], 1 << 30);
    assert!(told["memory"]["resident_bytes"].as_u64().unwrap() > 1 << 20, "{told}");
}
