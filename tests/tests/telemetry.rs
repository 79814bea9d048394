//! OpenTelemetry: what a collector is sent, and that nobody waits for it.

use std::time::{Duration, Instant};

use mahavishnu_tests::{
    Cluster, Server,
    cluster::Setup,
    collector::{Collector, Mood, attribute, points},
    http, token, wait,
};
use opentelemetry_proto::tonic::{metrics::v1::metric::Data, trace::v1::Span};
use serde_json::json;

const RUNTIMES: [&str; 2] = ["tokio", "smol"];
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const EXPORTED: &str = "mahavishnu_otlp_exported_total";
const DROPPED: &str = "mahavishnu_otlp_dropped_total";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn value(span: &Span, name: &str) -> Option<String> {
    attribute(&span.attributes, name)
}

/// Spans go out soon, and metrics only at the end.
const SOON: (&str, &str) = ("OTEL_BSP_SCHEDULE_DELAY", "20");
const TRACES_ONLY: (&str, &str) = ("OTEL_METRICS_EXPORTER", "none");

#[test]
fn a_collector_gets_the_spans_of_a_connection_and_its_publishes() {
    for runtime in RUNTIMES {
        let collector = Collector::start();
        let url: &str = &collector.url();
        let server = Server::with_variables(
            &[
                ("RUNTIME", runtime),
                ("AUTH_ENABLED", "true"),
                ("JWT_SECRET", token::SECRET),
                ("TRACE_USERS", "true"),
            ],
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", url),
                ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=hunter%202"),
                ("OTEL_SERVICE_NAME", "mahavishnu-websocket"),
                ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
                SOON,
                TRACES_ONLY,
            ],
        );
        let token = token::of("ada", &["admin"]);
        let mut client = server.open("/?secret=hunter2", &[("traceparent", PARENT)]).unwrap();
        client.request("auth", json!({ "token": token }));
        client.expect_welcome();
        client.request("publish", json!({"channel": "a", "event": "e", "data": {"x": "payload"}}));
        let bearer = format!("Bearer {token}");
        let fields = [("traceparent", PARENT), ("authorization", bearer.as_str())];
        let body = json!({"channel": "workflow:7", "event": "e", "data": {"x": "payload"}});
        let answer = http::post(server.address(), "/publish", &fields, &body.to_string());
        assert_eq!(answer.status, 200);

        let handshake = collector.span("handshake", |span| span.name == "websocket handshake");
        assert_eq!(hex(&handshake.trace_id), TRACE);
        assert_eq!(hex(&handshake.parent_span_id), "00f067aa0ba902b7");
        assert_eq!(value(&handshake, "http.response.status_code").as_deref(), Some("101"));
        assert_eq!(value(&handshake, "network.protocol.name").as_deref(), Some("websocket"));
        assert_eq!(value(&handshake, "client.address").as_deref(), Some("127.0.0.1"));
        let auth = collector.span("auth", |span| span.name == "auth");
        assert_eq!(
            (&auth.trace_id, &auth.parent_span_id),
            (&handshake.trace_id, &handshake.span_id)
        );
        assert_eq!(value(&auth, "user.id").as_deref(), Some("ada"));
        assert!(auth.start_time_unix_nano <= auth.end_time_unix_nano);
        let of_message = collector.span("publish", |span| {
            span.name == "publish"
                && value(span, "messaging.destination.name").as_deref() == Some("a")
        });
        assert!(of_message.parent_span_id.is_empty() && of_message.status.is_none());
        let posted = collector
            .span("POST", |span| value(span, "http.request.method").as_deref() == Some("POST"));
        assert_eq!(hex(&posted.trace_id), TRACE);
        assert_eq!(value(&posted, "http.response.status_code").as_deref(), Some("200"));

        let (_, resource) = collector.spans().remove(0);
        let of = |name: &str| attribute(&resource, name);
        assert_eq!(of("service.name").as_deref(), Some("mahavishnu-websocket"));
        assert_eq!(of("deployment.environment.name").as_deref(), Some("test"));
        assert_eq!(of("process.pid"), Some(server.pid().to_string()));
        for request in collector.requests() {
            assert_eq!(request.header("api-key"), Some("hunter 2"));
            assert_eq!(request.header("content-type"), Some("application/x-protobuf"));
            let text = String::from_utf8_lossy(&request.body).into_owned();
            for secret in [token.as_str(), "hunter2", "payload"] {
                assert!(!text.contains(secret), "{secret} in {text}");
            }
        }
        let metrics = server.metrics_when("exported spans", |metrics| {
            metrics.count(EXPORTED, &[("signal", "traces")]) >= 4
        });
        assert_eq!(metrics.count(DROPPED, &[("signal", "traces")]), 0);
        assert!(!server.log().contains("hunter"), "{}", server.log());
    }
}

#[test]
fn what_is_left_is_sent_when_the_server_stops() {
    let collector = Collector::start();
    let url: &str = &collector.url();
    let mut server = Server::with_variables(&[], &[("OTEL_EXPORTER_OTLP_ENDPOINT", url)]);
    let user = server.hello();
    server.post("a", "e", &json!({}));
    assert_eq!(collector.requests().len(), 0, "both wait for longer than this test lasts");
    assert!(server.terminate().success());
    drop(user);
    let names: Vec<_> = collector.spans().into_iter().map(|(span, _)| span.name).collect();
    assert_eq!(names, ["websocket handshake", "publish"]);
    assert!(collector.spans().iter().all(|(span, _)| value(span, "user.id").is_none()));
    assert!(collector.metrics().iter().any(|it| it.name == "websocket_connections_total"));
}

#[test]
fn metrics_are_those_of_the_exposition() {
    for (runtime, served) in RUNTIMES.into_iter().zip(["true", "false"]) {
        let collector = Collector::start();
        let url: &str = &collector.url();
        let own = format!("{url}/v1/metrics");
        let server = Server::with_variables(
            &[("RUNTIME", runtime), ("METRICS_ENABLED", served)],
            &[
                ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", own.as_str()),
                ("OTEL_METRIC_EXPORT_INTERVAL", "50"),
            ],
        );
        let mut client = server.hello();
        client.subscribe("workflow:1");
        for n in 0..3 {
            server.post("workflow:1", "e", &json!({ "n": n }));
        }
        let sum_of = |name: &str| {
            let metric = collector.metrics().into_iter().find(|it| it.name == name)?;
            Some(points(&metric).into_iter().map(|(_, value)| value).sum::<f64>())
        };
        let counted = || {
            let is = |name, value| sum_of(name) == Some(value);
            let metrics = collector.metrics();
            let mut latencies = metrics.iter();
            let latency =
                latencies.rfind(|it| it.name == "websocket_broadcast_duration_seconds")?;
            let Some(Data::Histogram(histogram)) = &latency.data else { panic!("{latency:?}") };
            let point = histogram.data_points.iter().find(|point| point.count == 3)?.clone();
            (is("websocket_broadcast_total", 3.0) && is("websocket_connections_active", 1.0))
                .then(|| (metrics.clone(), latency.clone(), histogram.clone(), point))
        };
        let Some((metrics, latency, histogram, point)) = wait::within(wait::DEADLINE, counted)
        else {
            panic!("{:#?}", collector.metrics())
        };
        assert_eq!(point.bucket_counts.iter().sum::<u64>(), 3);
        assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
        assert_eq!((latency.unit.as_str(), histogram.aggregation_temporality), ("s", 2));
        assert_eq!(collector.spans().len(), 0, "no endpoint is named for spans");
        if served == "true" {
            let scraped = server.metrics();
            let names = metrics.iter().map(|metric| &metric.name);
            assert!(names.clone().count() > 20);
            names.for_each(|name| assert!(scraped.kind(name).is_some(), "{name}"));
        }
    }
}

#[test]
fn nobody_waits_for_a_collector_that_does_not_take_anything() {
    // Nobody listens on a port that was free a moment ago.
    let nowhere = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", free.local_addr().unwrap())
    };
    let collector = Collector::start();
    let url: &str = &collector.url();
    let cases = [
        (nowhere.as_str(), Mood::Takes, "unreachable"),
        (url, Mood::Silent, "queue"),
        (url, Mood::Answers(503), "unreachable"),
        (url, Mood::Answers(400), "refused"),
    ];
    for (number, (endpoint, mood, reason)) in cases.into_iter().enumerate() {
        collector.set(mood);
        let mut server = Server::with_variables(
            &[("RUNTIME", RUNTIMES[number % 2])],
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
                ("OTEL_BSP_MAX_QUEUE_SIZE", "8"),
                ("OTEL_BSP_EXPORT_TIMEOUT", "1000"),
                SOON,
                TRACES_ONLY,
            ],
        );
        let mut client = server.hello();
        client.subscribe("a");
        let begun = Instant::now();
        for n in 0..100 {
            assert_eq!(server.post("a", "e", &json!({ "n": n })), 1);
        }
        assert_eq!(client.numbers(100), (0..100).collect::<Vec<_>>());
        assert!(begun.elapsed() < Duration::from_secs(8), "{mood:?} holds publishers up");
        let labels = [("signal", "traces"), ("reason", reason)];
        let metrics = server.metrics_when("lost spans", |it| it.count(DROPPED, &labels) > 0);
        assert_eq!(metrics.count(EXPORTED, &[("signal", "traces")]), 0, "{mood:?}");
        if reason != "queue" {
            server.expect_log("not exported");
            assert_eq!(server.log().matches("not exported").count(), 1, "once a minute");
        }
        drop(client);
        let begun = Instant::now();
        assert!(server.terminate().success());
        assert!(begun.elapsed() < Duration::from_secs(9), "{mood:?} holds the end up");
    }
}

#[test]
fn a_collector_that_is_back_gets_what_comes_then() {
    let collector = Collector::start();
    collector.set(Mood::Answers(429));
    let url: &str = &collector.url();
    let server = Server::with_variables(
        &[],
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", url),
            ("OTEL_BSP_EXPORT_TIMEOUT", "100"),
            SOON,
            TRACES_ONLY,
        ],
    );
    server.post("before", "e", &json!({}));
    server.expect_log("not exported");
    collector.set(Mood::TakesBut(1));
    server.post("after", "e", &json!({}));
    server.expect_log("takes what it is sent again");
    let rejected = [("signal", "traces"), ("reason", "refused")];
    server.metrics_when("a span that was not wanted", |it| it.count(DROPPED, &rejected) == 1);
}

#[test]
fn without_an_endpoint_there_is_nothing_of_it() {
    let server = Server::start();
    server.post("a", "e", &json!({}));
    let metrics = server.metrics();
    assert_eq!(metrics.series(EXPORTED, &[]).count() + metrics.series(DROPPED, &[]).count(), 0);
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap();
    let names: Vec<_> = tasks
        .map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap())
        .collect();
    assert!(names.iter().all(|name| !name.contains("otlp")), "{names:?}");
}

#[test]
fn an_env_file_of_the_production_guide_works_as_it_is() {
    let file = "OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4317\nOTEL_SERVICE_NAME=mahavishnu-websocket\nOTEL_EXPORTER_OTLP_HEADERS=api-key=hunter2\n";
    let server = Server::with_file(&[], file);
    server.expect_log("uses port 4318 there");
    server.expect_log("http://localhost:4318/v1/traces");
    let shown = server.run(&["config", "show"]);
    assert!(shown.stdout.contains("OTEL_SERVICE_NAME=mahavishnu-websocket  # "), "{shown:?}");
    assert!(!shown.stdout.contains("hunter2") && !server.log().contains("hunter2"));
    assert_eq!(server.run(&["config", "check"]).code, Some(0));
}

#[test]
fn an_append_is_a_part_of_its_publish() {
    let collector = Collector::start();
    let url: &str = &collector.url();
    let variables = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", url), SOON, TRACES_ONLY];
    let cluster = Cluster::of(&Setup { size: 1, variables, ..Setup::default() });
    let body = json!({"channel": "a", "event": "e"}).to_string();
    let answer =
        http::post(cluster.nodes[0].address(), "/publish", &[("traceparent", PARENT)], &body);
    assert_eq!(answer.status, 200);
    let publish = collector.span("publish", |span| span.name == "publish");
    let append = collector.span("append", |span| span.name == "append");
    assert_eq!((hex(&publish.trace_id), hex(&append.trace_id)), (TRACE.into(), TRACE.into()));
    assert_eq!(append.parent_span_id, publish.span_id);
    assert_eq!(value(&append, "db.system.name").as_deref(), Some("redis"));
    let node = attribute(&collector.spans()[0].1, "service.instance.id");
    assert_eq!(node.as_deref(), Some("n1"));
}

#[test]
fn a_trace_reaches_the_subscribers_who_ask_for_it_through_redis() {
    let cluster = Cluster::start(2, &[]);
    let (mut told, mut other) = (cluster.nodes[1].hello(), cluster.nodes[1].hello());
    let answer = told.request("subscribe", json!({"channel": "a", "trace": true}));
    assert_eq!(answer["data"]["status"], "subscribed", "{answer}");
    other.subscribe("a");
    let body = json!({"channel": "a", "event": "e", "data": {"n": 1}}).to_string();
    let answer =
        http::post(cluster.nodes[0].address(), "/publish", &[("traceparent", PARENT)], &body);
    assert_eq!(answer.status, 200);
    let (event, plain) = (told.message(), other.message());
    // Without spans of its own the server passes on what it was told.
    assert_eq!((&event["traceparent"], &event["offset"]), (&json!(PARENT), &json!(1)));
    assert_eq!(plain.as_object().unwrap().len(), 9, "{plain}");
}

#[test]
fn an_event_is_a_part_of_the_publish_that_it_came_with() {
    let collector = Collector::start();
    let url: &str = &collector.url();
    let server = Server::with_variables(
        &[("SHARDS", "2")],
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", url), SOON, TRACES_ONLY],
    );
    let mut client = server.hello();
    client.request("subscribe", json!({"channel": "a", "trace": true}));
    let publish = json!({"channel": "a", "event": "e", "data": {}, "traceparent": PARENT});
    server.hello().request("publish", publish);
    let event = client.message();
    let span = collector.span("publish", |span| span.name == "publish");
    let expected = format!("00-{TRACE}-{}-01", hex(&span.span_id));
    assert_eq!(event["traceparent"], expected);
    assert_eq!(hex(&span.parent_span_id), "00f067aa0ba902b7");
}
