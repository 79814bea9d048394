//! Plain HTTP on the WebSocket port: health, readiness, and every refusal.

use mahavishnu_tests::{Server, http, http::exchange, json, raw::HANDSHAKE};
use serde_json::{Value, json};

#[test]
fn health_has_the_documented_shape() {
    let server = Server::with(&[("SERVER_NAME", "mahavishnu-production")]);
    let _client = server.hello();
    server.hello().close();
    server.metrics_when("one connection", |metrics| metrics.active() == 1);
    let answer = http::get(server.address(), "/health");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(json::keys(&answer.text()), ["status", "server", "timestamp", "checks", "metrics"]);
    let health = answer.json();
    assert_eq!(health["status"], "healthy");
    assert_eq!(health["server"], "mahavishnu-production");
    assert!(json::is_zulu(health["timestamp"].as_str().unwrap()), "{health}");
    let passing = json!({ "websocket": "passing", "redis": "passing", "pools": "passing", "metrics": "passing" });
    assert_eq!(health["checks"], passing);
    assert_eq!(health["metrics"].as_object().unwrap().len(), 3, "{health}");
    assert_eq!(health["metrics"]["active_connections"], 1);
    assert_eq!(health["metrics"]["total_connections"], 2);
    assert!(health["metrics"]["uptime_seconds"].is_u64());
}

#[test]
fn health_lists_checks_and_metrics_in_order() {
    let server = Server::start();
    let text = http::get(server.address(), "/health").text();
    let order = [
        "websocket",
        "redis",
        "pools",
        "metrics\":\"",
        "active_connections",
        "total_connections",
        "uptime_seconds",
    ];
    let places: Vec<_> =
        order.iter().map(|key| text.find(&format!("\"{key}")).expect(key)).collect();
    assert!(places.is_sorted(), "{text}");
}

#[test]
fn health_ignores_the_query() {
    let server = Server::start();
    assert_eq!(http::get(server.address(), "/health?x=1").status, 200);
}

#[test]
fn head_is_answered_like_get_without_a_body() {
    let server = Server::start();
    for path in ["/health", "/ready", "/none"] {
        let get = http::get(server.address(), path);
        let mut connection = server.raw();
        connection.write(
            format!("HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes(),
        );
        let head = connection.response_head();
        connection.expect_end();
        assert_eq!(head.status, get.status);
        assert_eq!(head.header("content-type"), get.header("content-type"));
        assert!(head.header("content-length").is_some_and(|length| length != "0"), "{head:?}");
    }
}

#[test]
fn http_1_0_is_answered_and_closed() {
    let server = Server::start();
    let mut connection = server.raw();
    connection.write(b"GET /health HTTP/1.0\r\n\r\n");
    let answer = connection.response();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["status"], "healthy");
    connection.expect_end();
    let mut connection = server.raw();
    connection.write(b"HEAD /health HTTP/1.0\r\nHost: x\r\n\r\n");
    assert_eq!(connection.response_head().status, 200);
    connection.expect_end();
}

#[test]
fn http_1_0_can_be_kept_alive() {
    let server = Server::start();
    let mut connection = server.raw();
    for _ in 0..3 {
        connection.write(b"GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let answer = connection.response();
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.header("connection").map(str::to_ascii_lowercase).as_deref(),
            Some("keep-alive")
        );
    }
}

#[test]
fn http_1_1_is_kept_alive() {
    let server = Server::start();
    let mut connection = server.raw();
    for path in ["/health", "/none", "/ready", "/health"] {
        connection.write(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
        assert_eq!(connection.response().status, if path == "/none" { 404 } else { 200 });
    }
    connection.write(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let last = connection.response();
    assert_eq!(last.header("connection"), Some("close"));
    connection.expect_end();
}

#[test]
fn a_kept_connection_can_become_a_websocket() {
    let server = Server::start();
    let mut raw = server.raw();
    raw.write(format!("HEAD /health HTTP/1.1\r\nHost: x\r\n\r\n{HANDSHAKE}").as_bytes());
    assert!(raw.read_head().starts_with("HTTP/1.1 200 "));
    assert!(raw.read_head().starts_with("HTTP/1.1 101 "));
    assert_eq!(raw.frame().unwrap().json()["event"], "session.created");
}

#[test]
fn pipelined_requests_are_all_answered() {
    let server = Server::start();
    for count in [100, 195, 5_000] {
        let mut connection = server.raw();
        connection.write("GET /health HTTP/1.1\r\nHost: x\r\n\r\n".repeat(count).as_bytes());
        for _ in 0..count {
            assert_eq!(connection.response().status, 200);
        }
        // Those that were sent ahead are answered also if nothing follows them.
        connection.write("GET /ready HTTP/1.1\r\nHost: x\r\n\r\n".repeat(count).as_bytes());
        connection.finish();
        for _ in 0..count {
            assert_eq!(connection.response().status, 200);
        }
        connection.expect_end();
    }
}

#[test]
fn ready_says_whether_there_is_room() {
    let server = Server::with(&[("MAX_CONNECTIONS", "1")]);
    let answer = http::get(server.address(), "/ready");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["status"], "ready");
    let _client = server.hello();
    let answer = http::get(server.address(), "/ready");
    assert_eq!(answer.status, 503);
    assert_ne!(answer.json()["status"], "ready");
    assert_eq!(
        http::get(server.address(), "/health").status,
        200,
        "health is about this process, not about room"
    );
}

/// The requests that load balancers ask by if they are told nothing else.
#[test]
fn load_balancers_defaults_are_answered_like_ready() {
    let server = Server::with(&[("MAX_CONNECTIONS", "1")]);
    let requests = [
        ("HAProxy", "OPTIONS / HTTP/1.0\r\n\r\n"),
        ("HAProxy with a path", "OPTIONS /ready HTTP/1.0\r\n\r\n"),
        ("HAProxy, asterisk", "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("nginx", "GET / HTTP/1.0\r\nHost: x\r\nConnection: close\r\n\r\n"),
        (
            "AWS",
            "GET / HTTP/1.1\r\nHost: 10.0.0.1:8686\r\nUser-Agent: ELB-HealthChecker/2.0\r\n\r\n",
        ),
        ("Google", "GET / HTTP/1.1\r\nHost: 10.0.0.1\r\nUser-Agent: GoogleHC/1.0\r\n\r\n"),
        ("Azure", "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: Load Balancer Agent\r\n\r\n"),
        ("Traefik", "GET /?x HTTP/1.1\r\nHost: 10.0.0.1:8686\r\n\r\n"),
        (
            "Kubernetes",
            "GET / HTTP/1.1\r\nHost: 10.0.0.1:8686\r\nUser-Agent: kube-probe/1.31\r\n\r\n",
        ),
        ("HEAD", "HEAD / HTTP/1.0\r\n\r\n"),
        ("no Host", "GET / HTTP/1.0\r\n\r\n"),
    ];
    let ask = |request: &str| {
        let mut raw = server.raw();
        raw.write(request.as_bytes());
        raw.response_head()
    };
    for (who, request) in requests {
        assert_eq!(ask(request).status, 200, "{who}");
    }
    let _client = server.hello();
    for (who, request) in requests {
        assert_eq!(ask(request).status, 503, "{who}: it is full");
    }
    assert_eq!(ask("OPTIONS /health HTTP/1.0\r\n\r\n").status, 200, "it is alive");
    assert_eq!(ask("OPTIONS / HTTP/1.0\r\n\r\n").header("allow"), Some("GET, HEAD, OPTIONS"));
}

#[test]
fn what_is_not_there_is_404() {
    let server = Server::start();
    for path in ["/metrics", "/Health", "/health/", "/publish2", "/admin"] {
        let answer = http::get(server.address(), path);
        assert_eq!(answer.status, 404, "{path}");
        assert!(!answer.text().contains(path), "the path is not echoed: {}", answer.text());
    }
}

#[test]
fn other_methods_are_405_with_allow() {
    let server = Server::start();
    for (method, path, allow) in [
        ("POST", "/health", ["GET", "HEAD"].as_slice()),
        ("DELETE", "/ready", &["GET", "HEAD"]),
        ("PUT", "/health", &["GET", "HEAD"]),
        ("BREW", "/health", &["GET", "HEAD"]),
        ("GET", "/publish", &["POST"]),
        ("PATCH", "/publish", &["POST"]),
    ] {
        let answer = exchange(
            server.address(),
            format!("{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes(),
        );
        assert_eq!(answer.status, 405, "{method} {path}");
        let allowed: Vec<_> =
            answer.header("allow").expect("Allow").split(',').map(str::trim).collect();
        assert!(allow.iter().all(|method| allowed.contains(method)), "{allowed:?}");
        assert!(!allowed.contains(&method), "{allowed:?}");
    }
}

#[test]
fn a_plain_get_where_websockets_live_is_426() {
    let server = Server::start();
    let stripped = HANDSHAKE.replace("Upgrade: websocket\r\nConnection: Upgrade\r\n", "");
    let requests = ["/ws", "/ws/x"].map(|path| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
    for request in requests.into_iter().chain([stripped]) {
        let answer = exchange(server.address(), request.as_bytes());
        assert_eq!(answer.status, 426, "{request}");
        assert_eq!(answer.header("upgrade"), Some("websocket"));
        assert!(answer.header("connection").unwrap().to_ascii_lowercase().contains("upgrade"));
        assert_eq!(answer.header("sec-websocket-version"), Some("13"));
    }
}

/// A proxy may pass `Upgrade` on to a client that speaks HTTP/2, for which the whole answer is malformed then.
#[test]
fn upgrade_is_not_asked_of_who_cannot_do_it() {
    let server = Server::start();
    let stripped = HANDSHAKE.replace("Upgrade: websocket\r\nConnection: Upgrade\r\n", "");
    for request in [
        HANDSHAKE.replace("1.1", "1.0"),
        stripped.replace("\r\n\r\n", "\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n"),
        "GET /ws HTTP/1.1\r\nHost: x\r\nVia: 2.0 proxy\r\n\r\n".to_owned(),
    ] {
        let answer = exchange(server.address(), request.as_bytes());
        assert_eq!(answer.status, 426, "{request}");
        assert_eq!(answer.header("upgrade"), None, "{request}");
        let connection = answer.header("connection").unwrap_or_default();
        assert!(!connection.to_ascii_lowercase().contains("upgrade"), "{connection}");
        assert_eq!(answer.header("sec-websocket-version"), Some("13"));
    }
}

#[test]
fn a_handshake_that_lost_its_upgrade_is_told_so() {
    let server = Server::start();
    let stripped = HANDSHAKE.replace("Upgrade: websocket\r\nConnection: Upgrade\r\n", "");
    let answer = exchange(server.address(), stripped.as_bytes()).json();
    let text = answer["error_message"].as_str().unwrap();
    assert!(text.contains("a proxy on the way has to pass both on"), "{text}");
}

/// curl asks for HTTP/2 in the clear so: no business of a server that does not speak it (RFC 9110 §7.8).
#[test]
fn an_upgrade_to_another_protocol_is_ignored() {
    let server = Server::start();
    for path in ["/", "/health"] {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\n\
             Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n"
        );
        let answer = exchange(server.address(), request.as_bytes());
        assert_eq!((answer.status, answer.header("upgrade")), (200, None), "{path}");
    }
}

#[test]
fn another_websocket_version_is_426_with_ours() {
    let server = Server::start();
    for version in ["8", "12", "14", "13, 8"] {
        let request = HANDSHAKE.replace("Version: 13", &format!("Version: {version}"));
        let answer = exchange(server.address(), request.as_bytes());
        assert_eq!(answer.status, 426, "{version}");
        assert_eq!(answer.header("sec-websocket-version"), Some("13"));
    }
}

#[test]
fn malformed_handshakes_are_400() {
    let server = Server::start();
    for request in [
        HANDSHAKE.replace("dGhlIHNhbXBsZSBub25jZQ==", "short"),
        HANDSHAKE.replace("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""),
        HANDSHAKE.replace("GET ", "POST "),
        HANDSHAKE.replace("Host: test\r\n", ""),
        HANDSHAKE.replace("Host: test\r\n", "Host: test\r\nHost: other\r\n"),
        HANDSHAKE.replace(
            "Sec-WebSocket-Version",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version",
        ),
    ] {
        assert_eq!(exchange(server.address(), request.as_bytes()).status, 400, "{request}");
    }
}

#[test]
fn malformed_heads_are_400_and_closed() {
    let server = Server::start();
    for request in [
        "GET /health\r\n\r\n",
        "GET  /health HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost : x\r\n\r\n",
        "GET /health HTTP/1.1\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 1x\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "POST /publish HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        "\0\0\0\0\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\r\n\r\n",
    ] {
        let mut connection = server.raw();
        connection.write(request.as_bytes());
        assert_eq!(connection.response().status, 400, "{request:?}");
        connection.expect_end();
    }
}

#[test]
fn another_http_version_is_505() {
    let server = Server::start();
    let answer = exchange(server.address(), b"GET /health HTTP/3.0\r\nHost: x\r\n\r\n");
    assert_eq!(answer.status, 505);
}

#[test]
fn large_heads_are_431() {
    let server = Server::start();
    let long =
        format!("GET /health HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "x".repeat(64 * 1024));
    let many = format!("GET /health HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-A: 1\r\n".repeat(1_000));
    let target = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(64 * 1024));
    for (request, status) in [(long, 431), (many, 431), (target, 414)] {
        let mut connection = server.raw();
        connection.write(request.as_bytes());
        assert_eq!(connection.response().status, status);
    }
}

#[test]
fn a_usual_browser_head_is_not_too_large() {
    let server = Server::start();
    let cookies = format!("Cookie: {}\r\n", "a".repeat(8_000));
    let fields: String = (0..40).map(|n| format!("X-Field-{n}: value\r\n")).collect();
    let request = format!("GET /health HTTP/1.1\r\nHost: x\r\n{cookies}{fields}\r\n");
    assert_eq!(exchange(server.address(), request.as_bytes()).status, 200);
}

#[test]
fn all_refusals_have_one_shape() {
    let server = Server::start();
    for request in [
        "GET /none HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /ws HTTP/1.1\r\nHost: x\r\n\r\n",
        "PUT /health HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /publish HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /publish HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "garbage\r\n\r\n",
        "GET / HTTP/3.0\r\n\r\n",
        &HANDSHAKE.replace("Version: 13", "Version: 8"),
    ] {
        let answer = exchange(server.address(), request.as_bytes());
        assert!(answer.status >= 400, "{request}");
        assert_eq!(answer.header("content-type"), Some("application/json"), "{request}");
        assert_eq!(
            json::keys(&answer.text()),
            ["status", "error_code", "error_message", "retry"],
            "{request}"
        );
        assert_eq!(answer.json()["status"], "error");
    }
}

#[test]
fn websockets_work_beside_other_fields_and_cases() {
    let server = Server::start();
    for request in [
        HANDSHAKE.replace("Connection: Upgrade", "connection: keep-alive, Upgrade"),
        HANDSHAKE.replace("Upgrade: websocket", "UPGRADE: WebSocket"),
        HANDSHAKE.replace("\r\n\r\n", "\r\nSec-WebSocket-Protocol: a, b\r\n\r\n"),
        HANDSHAKE.replace("GET / ", "GET http://test/ws "),
    ] {
        let mut raw = server.raw();
        raw.write(request.as_bytes());
        let head = raw.read_head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{request}{head}");
        assert!(!head.to_ascii_lowercase().contains("sec-websocket-protocol"), "{head}");
        assert_eq!(raw.frame().unwrap().json()["error_code"], Value::Null);
    }
}

#[test]
fn a_handshake_on_the_metrics_port_is_not_a_websocket() {
    let server = Server::start();
    let answer = exchange(server.metrics_address(), HANDSHAKE.as_bytes());
    assert!((400..500).contains(&answer.status), "{answer:?}");
}

#[test]
fn nothing_on_a_connection_is_no_error() {
    let server = Server::start();
    for _ in 0..20 {
        let mut raw = server.raw();
        raw.finish();
        assert_eq!(raw.read_to_end(), b"");
    }
    assert_eq!(server.metrics().count("websocket_connection_errors_total", &[]), 0);
}
