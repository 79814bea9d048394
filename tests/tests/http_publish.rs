//! `POST /publish`: one message or many, who may, and what happens when it is sent again.

use mahavishnu_tests::{
    Server, http,
    http::{Response, post, post_bytes},
    token,
};
use serde_json::{Value, json};

const ONE: &str = r#"{"channel":"workflow:1","event":"workflow.started","data":{"n":1}}"#;

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

fn publish(server: &Server, body: &Value) -> Response {
    post(server.address(), "/publish", &[], &body.to_string())
}

#[test]
fn many_messages_are_published_in_order() {
    let server = Server::start();
    let mut reader = server.hello();
    reader.subscribe("pool:1");
    let message = |n: u32| json!({ "channel": if n == 1 { "nobody" } else { "pool:1" }, "event": "e", "data": { "n": n } });
    for body in [
        json!({ "messages": [message(0), message(1), message(2)] }),
        json!([message(0), message(1), message(2)]),
    ] {
        let answer = publish(&server, &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(
            (&answer.json()["published"], &answer.json()["subscribers"]),
            (&json!(3), &json!(2))
        );
        assert_eq!(answer.json()["messages"][1], json!({ "channel": "nobody", "subscribers": 0 }));
        assert_eq!(
            [reader.message(), reader.message()].map(|event| event["data"]["n"].clone()),
            [json!(0), json!(2)]
        );
    }
    reader.expect_silence();
}

#[test]
fn room_is_another_word_for_channel_and_data_may_be_missing() {
    let server = Server::start();
    let mut reader = server.hello();
    reader.subscribe("pool:1");
    assert_eq!(
        publish(&server, &json!({ "room": "pool:1", "event": "e" })).json()["subscribers"],
        1
    );
    assert_eq!(reader.message()["data"], json!({}));
}

#[test]
fn what_does_not_fit_is_400_and_nothing_of_it_is_published() {
    let server = Server::start();
    let mut reader = server.hello();
    reader.subscribe("pool:1");
    let good = json!({ "channel": "pool:1", "event": "e", "data": {} });
    for body in [
        "",
        "x",
        "5",
        "null",
        "\"x\"",
        "[]",
        "{}",
        r#"{"messages":[]}"#,
        r#"{"messages":5}"#,
        "[5]",
        r#"{"channel":"pool:1"}"#,
        r#"{"channel":"pool:1","event":""}"#,
        r#"{"channel":"pool:1","event":5}"#,
        r#"{"channel":5,"event":"e"}"#,
        r#"{"channel":"pool:1","event":"e","data":[]}"#,
        r#"{"channel":"pool:1","event":"e","data":null}"#,
        r#"{"channel":"","event":"e"}"#,
        r#"{"channel":"pool:1","event":"e","idempotency_key":""}"#,
        r#"{"channel":"pool:1","event":"e"} x"#,
        &format!("[{good},{{}}]"),
    ] {
        let answer = post(server.address(), "/publish", &[], body);
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
        assert!(
            ["DECODE_ERROR", "INVALID_CHANNEL"]
                .contains(&answer.json()["error_code"].as_str().unwrap()),
            "{}",
            answer.text()
        );
    }
    reader.expect_silence();
}

#[test]
fn a_batch_is_bounded() {
    let server = Server::start();
    let message = json!({ "channel": "c", "event": "e" });
    assert_eq!(publish(&server, &json!(vec![message.clone(); 1_000])).status, 200);
    assert_eq!(publish(&server, &json!(vec![message; 1_001])).status, 400);
}

#[test]
fn a_key_in_the_header_makes_a_repetition_harmless() {
    let server = Server::start();
    let mut reader = server.hello();
    reader.subscribe("workflow:1");
    let send = || post(server.address(), "/publish", &[("Idempotency-Key", "k-1")], ONE);
    let first = send();
    assert_eq!(first.status, 200);
    reader.message();
    for _ in 0..3 {
        let again = send();
        assert_eq!((again.status, again.text()), (200, first.text()));
    }
    reader.expect_silence();
}

#[test]
fn a_key_in_the_body_does_the_same() {
    let server = Server::start();
    let mut reader = server.hello();
    reader.subscribe("workflow:1");
    let body = json!({ "messages": [serde_json::from_str::<Value>(ONE).unwrap()], "idempotency_key": "k-2" });
    let first = publish(&server, &body);
    assert_eq!(first.status, 200);
    // The first answer stands, even though somebody else has subscribed since.
    server.hello().subscribe("workflow:1");
    let again = publish(&server, &body);
    assert_eq!((again.status, again.text()), (200, first.text()));
    reader.message();
    reader.expect_silence();
}

#[test]
fn a_key_used_for_something_else_is_422() {
    let server = Server::start();
    let mut reader = server.hello();
    reader.subscribe("workflow:1");
    let send =
        |body: &str| post(server.address(), "/publish", &[("Idempotency-Key", "k-3")], body).status;
    assert_eq!(send(ONE), 200);
    assert_eq!(send(&ONE.replace("\"n\":1", "\"n\":2")), 422);
    assert_eq!(send(ONE), 200);
    assert_eq!(reader.message()["data"]["n"], 1);
    reader.expect_silence();
}

#[test]
fn other_keys_and_no_keys_are_carried_out_each_time() {
    let server = Server::start();
    let mut reader = server.hello();
    reader.subscribe("workflow:1");
    for key in ["a", "b"] {
        assert_eq!(
            post(server.address(), "/publish", &[("Idempotency-Key", key)], ONE).status,
            200
        );
    }
    for _ in 0..2 {
        assert_eq!(post(server.address(), "/publish", &[], ONE).status, 200);
    }
    (0..4).for_each(|_| assert_eq!(reader.message()["room"], "workflow:1"));
    reader.expect_silence();
}

#[test]
fn a_refused_publish_does_not_use_its_key_up() {
    let server = Server::with_auth(&[]);
    let mut reader = server.login(&token::of("ada", &["admin"]));
    reader.subscribe("workflow:1");
    let send = |permissions: &[&str]| {
        let authorization = bearer(&token::of("bob", permissions));
        post(
            server.address(),
            "/publish",
            &[("Authorization", &authorization), ("Idempotency-Key", "k")],
            ONE,
        )
        .status
    };
    assert_eq!(send(&["read"]), 403);
    assert_eq!(send(&["write"]), 200);
    assert_eq!(reader.message()["data"]["n"], 1);
}

#[test]
fn with_auth_a_publisher_needs_a_token_and_a_permission() {
    let server = Server::with_auth(&[]);
    let mut reader = server.login(&token::of("ada", &["admin"]));
    reader.subscribe("workflow:1");
    let send = |fields: &[(&str, &str)]| post(server.address(), "/publish", fields, ONE);
    let none = send(&[]);
    assert_eq!(none.status, 401);
    assert_eq!(none.header("www-authenticate"), Some("Bearer"));
    assert_eq!(send(&[("Authorization", "Bearer x.y.z")]).status, 401);
    assert_eq!(send(&[("Authorization", "Basic YTpi")]).status, 401);
    let expired = token::sign(&token::claims_and("exp", json!(token::now() - 60)));
    assert_eq!(send(&[("Authorization", &bearer(&expired))]).status, 401);
    for permissions in [&[][..], &["read"], &["workflow:read"], &["pool:write"]] {
        let refused = send(&[("Authorization", &bearer(&token::of("bob", permissions)))]);
        assert_eq!(
            (refused.status, &refused.json()["error_code"]),
            (403, &json!("FORBIDDEN")),
            "{permissions:?}"
        );
    }
    reader.expect_silence();
    for permissions in [&["workflow:write"][..], &["write"], &["mahavishnu:write"], &["admin"]] {
        assert_eq!(
            send(&[("Authorization", &bearer(&token::of("bob", permissions)))]).status,
            200,
            "{permissions:?}"
        );
        assert_eq!(reader.message()["room"], "workflow:1");
    }
}

#[test]
fn one_forbidden_message_refuses_all() {
    let server = Server::with_auth(&[]);
    let mut reader = server.login(&token::of("ada", &["admin"]));
    reader.subscribe("workflow:1");
    reader.subscribe("pool:1");
    let body =
        json!([{ "channel": "workflow:1", "event": "e" }, { "channel": "pool:1", "event": "e" }])
            .to_string();
    let authorization = bearer(&token::of("bob", &["workflow:write"]));
    assert_eq!(
        post(server.address(), "/publish", &[("Authorization", &authorization)], &body).status,
        403
    );
    reader.expect_silence();
}

#[test]
fn without_auth_only_this_machine_itself_may_publish() {
    // By default such pages get no further than their origin.
    let server = Server::with(&[("ALLOWED_ORIGINS", "*")]);
    for fields in [
        [("X-Forwarded-For", "203.0.113.7")],
        [("Forwarded", "for=203.0.113.7")],
        [("X-Real-IP", "203.0.113.7")],
        [("Via", "1.1 proxy")],
        [("Origin", "https://example.com")],
        [("Origin", "null")],
        [("Origin", "http://localhost.example.com")],
    ] {
        let refused = post(server.address(), "/publish", &fields, ONE);
        assert_eq!(
            (refused.status, &refused.json()["error_code"]),
            (403, &json!("FORBIDDEN")),
            "{fields:?}"
        );
    }
    assert_eq!(
        post(server.address(), "/publish", &[("Origin", "http://localhost:3000")], ONE).status,
        200
    );
}

#[test]
fn publishing_from_elsewhere_can_be_allowed() {
    let server = Server::with(&[("ALLOW_REMOTE_PUBLISH", "true")]);
    assert_eq!(
        post(server.address(), "/publish", &[("X-Forwarded-For", "203.0.113.7")], ONE).status,
        200
    );
}

#[test]
fn a_body_must_be_declared_as_json() {
    let server = Server::start();
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "application/jsonx",
    ] {
        assert_eq!(
            post(server.address(), "/publish", &[("Content-Type", kind)], ONE).status,
            415,
            "{kind}"
        );
    }
    for kind in ["application/json; charset=utf-8", "Application/JSON"] {
        assert_eq!(
            post(server.address(), "/publish", &[("Content-Type", kind)], ONE).status,
            200,
            "{kind}"
        );
    }
    let request =
        format!("POST /publish HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{ONE}", ONE.len());
    assert_eq!(http::exchange(server.address(), request.as_bytes()).status, 415);
}

#[test]
fn a_body_without_a_length_is_411() {
    let server = Server::start();
    for path in ["/publish", "/revoke"] {
        let request = format!("POST {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        let mut raw = server.raw();
        assert_eq!(raw.exchange(request.as_bytes()).status, 411, "{path}");
        raw.expect_end();
    }
}

/// What clients send that begin before they know the length. `curl -T -` is one of them.
#[test]
fn a_chunked_body_is_published() {
    let server = Server::start();
    let mut subscriber = server.raw_hello();
    subscriber.subscribe("a");
    let head = "POST /publish HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    let request = format!("{head}{:x}\r\n{ONE}\r\n0\r\n\r\n", ONE.len());
    let answer = http::exchange(server.address(), request.as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());

    let mut curl = std::process::Command::new("curl");
    let url = format!("http://{}/publish", server.address());
    curl.args(["-s", "-T", "-", "-X", "POST", "-H", "Content-Type: application/json", &url]);
    let mut curl = curl
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("curl runs");
    std::io::Write::write_all(&mut curl.stdin.take().unwrap(), ONE.as_bytes()).unwrap();
    let said = curl.wait_with_output().unwrap().stdout;
    let said: Value = serde_json::from_slice(&said).unwrap();
    assert_eq!(said["status"], "published");
}

#[test]
fn a_chunked_body_is_as_long_as_any_other() {
    let server = Server::start();
    let head = "POST /publish HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (chunks, status) in [
        ("400001\r\n", 413),
        ("ffffffffffffffffffffff\r\n", 413),
        ("1\n{\r\n0\r\n\r\n", 400),
        ("0x1\r\n", 400),
    ] {
        let mut raw = server.raw();
        let answer = raw.exchange(format!("{head}{chunks}").as_bytes());
        assert_eq!(answer.status, status, "{chunks:?}");
        raw.expect_end();
    }
}

#[test]
fn too_large_a_body_is_413_before_it_is_sent() {
    let server = Server::start();
    for length in ["99999999", "99999999999999999999999999"] {
        let head = format!(
            "POST /publish HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        let mut connection = server.raw();
        connection.write(head.as_bytes());
        assert_eq!(connection.response().status, 413);
        connection.expect_end();
    }
}

#[test]
fn expect_100_continue_is_answered_before_the_body() {
    let server = Server::start();
    let mut connection = server.raw();
    let bytes = post_bytes("/publish", &[("Expect", "100-continue")], ONE);
    let (head, body) = bytes.split_at(bytes.len() - ONE.len());
    connection.write(head);
    assert_eq!(connection.response().status, 100);
    connection.write(body);
    assert_eq!(connection.response().status, 200);
}

#[test]
fn expect_100_continue_for_too_large_a_body_is_refused_at_once() {
    let server = Server::start();
    let mut connection = server.raw();
    let head = "POST /publish HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99999999\r\nExpect: 100-continue\r\n\r\n";
    connection.write(head.as_bytes());
    assert_eq!(connection.response().status, 413);
}

#[test]
fn data_larger_than_a_message_may_be_is_refused() {
    let server = Server::with(&[("MAX_MESSAGE_BYTES", "1000")]);
    let body = json!({ "channel": "c", "event": "e", "data": { "x": "x".repeat(2_000) } });
    assert_eq!(publish(&server, &body).status, 400);
}
