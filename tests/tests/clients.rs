//! Clients that are not ours: Python `websockets` and PyJWT, Node `ws`, curl. `scripts/setup-tests` installs them.

use std::process::{Command, Stdio};

use mahavishnu_tests::{
    Server, binary,
    foreign::{curl, node, python, python_command},
    token::{self, SECRET},
};
use rustix::process::Signal;
use serde_json::{Value, json};

fn is_ok(output: &str) {
    assert_eq!(output.lines().last(), Some("ok"), "{output}");
}

#[test]
fn python_websockets_subscribes_publishes_and_receives() {
    let server = Server::start();
    is_ok(&python("dialogue.py", &[&server.ws_url()]));
    let metrics = server.metrics_when("its end", |metrics| metrics.active() == 0);
    assert_eq!(metrics.count("websocket_connection_errors_total", &[]), 0);
}

#[test]
fn tokens_of_pyjwt_are_accepted_and_refused_as_pyjwt_would() {
    // PyJWT forgives nothing.
    let server = Server::with_auth(&[("JWT_LEEWAY", "0")]);
    is_ok(&python("auth.py", &[&server.ws_url(), SECRET]));
}

#[test]
fn pyjwt_accepts_tokens_that_were_made_here() {
    let server = Server::with_auth(&[]);
    let args = [
        "--user",
        "ada",
        "--permission",
        "workflow:read",
        "--permission",
        "pool:read",
        "--expires-in",
        "60",
    ];
    let made = server.run(&[&["token", "create"], &args[..]].concat());
    let token = made.stdout.lines().last().expect("the token is the last line");
    is_ok(&python("verify_token.py", &[token, SECRET]));
}

#[test]
fn the_services_python_client_works_without_authentication() {
    let server = Server::start();
    is_ok(&python("services_client.py", &[&server.ws_url()]));
}

#[test]
fn the_services_python_client_works_with_authentication() {
    let server = Server::with_auth(&[]);
    is_ok(&python("services_client.py", &[&server.ws_url(), &token::of("ada", &["admin"])]));
}

/// Of every service, by the module for back-ends and by `publish --service`.
#[test]
fn every_broadcast_of_the_family_comes_as_its_service_makes_it() {
    let server = Server::start();
    is_ok(&python(
        "family_events.py",
        &[&server.url(), &server.ws_url(), &binary::path().display().to_string()],
    ));
}

#[test]
fn the_operators_checks_pass_with_and_without_authentication() {
    for server in [Server::start(), Server::with_auth(&[])] {
        let metrics = format!("http://{}/metrics", server.metrics_address());
        if server.run(&["config", "show"]).stdout.contains("MAHAVISHNU_AUTH_ENABLED=true") {
            // The welcome comes after authentication: only the ping can be checked.
            let mut client = server.client();
            client.send(&json!({ "type": "ping", "id": "health_check_1" }));
            assert_eq!(client.message()["type"], "pong");
        } else {
            is_ok(&python("operator_checks.py", &[&server.url(), &server.ws_url(), &metrics]));
        }
    }
}

#[test]
fn python_websockets_answers_pings_and_sees_an_orderly_end() {
    let mut server = Server::with(&[
        ("PING_INTERVAL", "0.1"),
        ("PONG_TIMEOUT", "5"),
        ("CONNECTION_TIMEOUT", "1"),
    ]);
    let mut child = python_command("wait_close.py", &[&server.ws_url()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    server.metrics_when("its connection", |metrics| metrics.active() == 1);
    // Longer than the connection timeout: its pongs are signs of life.
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    assert_eq!(server.metrics().active(), 1);
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    let status = child.wait().unwrap();
    assert!(status.success(), "{status}");
}

#[test]
fn node_ws_subscribes_and_receives() {
    let server = Server::start();
    is_ok(&node("dialogue.mjs", &[&server.ws_url(), &server.url()]));
}

#[test]
fn python_websockets_compresses_under_every_offer() {
    for shards in ["1", "2"] {
        let server = Server::with(&[
            ("DEFLATE", "on"),
            ("DEFLATE_THRESHOLD", "100"),
            ("MESSAGE_RATE_LIMIT", "0"),
            ("SHARDS", shards),
        ]);
        is_ok(&python("deflate.py", &[&server.ws_url()]));
        let metrics = server.metrics_when("its end", |metrics| metrics.active() == 0);
        assert_eq!(metrics.count("websocket_connection_errors_total", &[]), 0);
        for direction in ["sent", "received"] {
            let sum = |name: &str| metrics.count(name, &[("direction", direction)]);
            assert!(sum("mahavishnu_deflate_messages_total") > 40, "{direction}");
            let plain = sum("mahavishnu_deflate_plain_bytes_total");
            assert!(plain > sum("mahavishnu_deflate_compressed_bytes_total"), "{direction}");
        }
    }
}

#[test]
fn node_ws_inflates_broadcasts() {
    let server = Server::with(&[("DEFLATE", "on"), ("DEFLATE_LEVEL", "6")]);
    is_ok(&node("dialogue.mjs", &[&server.ws_url(), &server.url()]));
    let metrics = server.metrics_when("its end", |metrics| metrics.active() == 0);
    let sent = [("direction", "sent")];
    assert!(metrics.count("mahavishnu_deflate_messages_total", &sent) >= 49);
    assert!(metrics.count("mahavishnu_sent_bytes_total", &[]) < 200_000, "of 1.2 million");
}

#[test]
fn node_ws_authenticates() {
    let server = Server::with_auth(&[]);
    is_ok(&node("dialogue.mjs", &[&server.ws_url(), &server.url(), &token::of("ada", &["admin"])]));
}

#[test]
fn curl_reads_health_in_http_1_1_and_1_0_and_by_head() {
    let server = Server::start();
    let url = server.url() + "/health";
    for args in [&["--http1.1", &url][..], &["--http1.0", &url]] {
        let health: Value = serde_json::from_str(&curl(args)).unwrap();
        assert_eq!(health["status"], "healthy");
    }
    assert!(curl(&["--head", &url]).starts_with("HTTP/1.1 200 OK\r\n"));
    let reused = curl(&["--write-out", "%{num_connects} ", &url, &url]);
    assert!(
        reused.contains("}1 ") && reused.contains("}0 "),
        "the connection is used again: {reused}"
    );
}

#[test]
fn curl_publishes() {
    let server = Server::start();
    let mut reader = server.hello();
    reader.subscribe("workflow:42");
    let url = server.url() + "/publish";
    let big =
        json!({ "channel": "workflow:42", "event": "e", "data": { "x": "x".repeat(1_000_000) } })
            .to_string();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), big).unwrap();
    let from_file = format!("@{}", file.path().display());
    for body in [r#"{"channel":"workflow:42","event":"e","data":{"n":1}}"#, &from_file] {
        let json =
            ["--header", "Content-Type: application/json", "--header", "Expect: 100-continue"];
        let answer = curl(&[&["--data", body], &json[..], &[&url]].concat());
        assert_eq!(serde_json::from_str::<Value>(&answer).unwrap()["subscribers"], 1, "{answer}");
        assert_eq!(reader.message()["event"], "e");
    }
}

#[test]
fn curl_reads_metrics() {
    let server = Server::start();
    let text = curl(&[&format!("http://{}/metrics", server.metrics_address())]);
    assert!(text.contains("\nwebsocket_connections_active{server=\"mahavishnu\"} 0\n"), "{text}");
}

#[test]
fn the_health_script_of_the_guide_passes() {
    let server = Server::start();
    let script = r#"curl -s -o /dev/null -w "%{http_code}" --max-time 5 "$0/health""#;
    let output = Command::new("sh").args(["-c", script, &server.url()]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "200");
}
