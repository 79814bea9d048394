//! What makes a token good or bad, late tokens, and that nothing of them is ever shown.

use mahavishnu_tests::{
    Server, http,
    token::{self, SECRET, claims_and},
};
use serde_json::{Value, json};

/// Whether the first message with this token authenticates.
fn accepts(server: &Server, token: &str) -> bool {
    let mut client = server.client();
    let answer = client.request("auth", json!({ "token": token }));
    match answer["type"].as_str() {
        Some("response") => true,
        _ => {
            assert_eq!(answer["error_code"], "AUTH_FAILED", "{answer}");
            assert_eq!(answer["error_message"], "Invalid or expired token", "{answer}");
            assert_eq!(client.expect_close(1008), "Authentication failed");
            false
        }
    }
}

#[test]
fn a_clock_that_differs_by_little_is_forgiven_by_default_alike_for_all_three() {
    let server = Server::with_auth(&[]);
    let now = token::now();
    for (name, value, good) in [
        ("iat", json!(now + 2), true),
        ("iat", json!(token::now() as f64 + 1.3), true),
        ("nbf", json!(now + 2), true),
        ("exp", json!(now - 1), true),
        ("iat", json!(now + 30), false),
        ("nbf", json!(now + 30), false),
        ("exp", json!(now - 6), false),
    ] {
        let token = token::sign(&claims_and(name, value.clone()));
        assert_eq!(accepts(&server, &token), good, "{name} {value}");
    }
}

#[test]
fn times_are_judged_without_leeway_if_none_is_set() {
    let server = Server::with_auth(&[("JWT_LEEWAY", "0")]);
    let now = token::now();
    let rows = [
        ("exp", json!(now + 60), true),
        ("exp", json!(now - 1), false),
        ("exp", json!(0), false),
        ("exp", json!("soon"), false),
        ("nbf", json!(now + 60), false),
        ("nbf", json!(now - 1), true),
        ("iat", json!(now + 60), false),
        ("iat", json!(now - 3600), true),
    ];
    for (name, value, good) in rows {
        assert_eq!(
            accepts(&server, &token::sign(&claims_and(name, value.clone()))),
            good,
            "{name} {value}"
        );
    }
}

#[test]
fn a_token_that_expires_now_has_expired() {
    let server = Server::with_auth(&[("JWT_LEEWAY", "0")]);
    assert!(!accepts(&server, &token::sign(&claims_and("exp", json!(token::now())))));
}

#[test]
fn a_token_need_not_expire() {
    let server = Server::with_auth(&[]);
    assert!(accepts(&server, &token::sign(&json!({ "user_id": "ada" }))));
}

#[test]
fn that_a_token_expires_can_be_required() {
    let server = Server::with_auth(&[("JWT_REQUIRE_EXP", "true")]);
    assert!(!accepts(&server, &token::sign(&json!({ "user_id": "ada" }))));
    assert!(accepts(&server, &token::of("ada", &[])));
}

#[test]
fn an_audience_is_refused_unless_it_is_ours() {
    let server = Server::with_auth(&[]);
    for audience in [json!("mahavishnu"), json!(["a", "b"]), json!("")] {
        assert!(
            !accepts(&server, &token::sign(&claims_and("aud", audience.clone()))),
            "{audience}"
        );
    }
    let server = Server::with_auth(&[("JWT_AUDIENCE", "us,them")]);
    for (audience, good) in [
        (json!("us"), true),
        (json!(["x", "them"]), true),
        (json!("x"), false),
        (json!(["x"]), false),
    ] {
        assert_eq!(
            accepts(&server, &token::sign(&claims_and("aud", audience.clone()))),
            good,
            "{audience}"
        );
    }
    assert!(!accepts(&server, &token::of("ada", &[])), "an audience is required once it is set");
}

#[test]
fn an_issuer_counts_once_it_is_set() {
    let server = Server::with_auth(&[]);
    assert!(accepts(&server, &token::sign(&claims_and("iss", json!("anyone")))));
    let server = Server::with_auth(&[("JWT_ISSUER", "us")]);
    assert!(accepts(&server, &token::sign(&claims_and("iss", json!("us")))));
    assert!(!accepts(&server, &token::sign(&claims_and("iss", json!("them")))));
}

#[test]
fn a_subject_must_be_text() {
    let server = Server::with_auth(&[]);
    assert!(!accepts(&server, &token::sign(&claims_and("sub", json!(5)))));
    assert!(accepts(&server, &token::sign(&claims_and("sub", json!("ada")))));
}

#[test]
fn a_signature_is_needed_and_must_fit() {
    let server = Server::with_auth(&[]);
    let claims = token::claims("ada", &["admin"]);
    let good = token::sign(&claims);
    let (unsigned_part, signature) = good.rsplit_once('.').unwrap();
    let bad = [
        token::unsigned(&claims),
        token::unsigned(&claims) + signature,
        format!("{unsigned_part}."),
        unsigned_part.to_owned(),
        format!("{unsigned_part}.{}", &signature[..20]),
        format!("{good}.x"),
        token::with_claims(&token::of("eve", &[]), &claims),
        token::with_header(&good, &json!({ "alg": "none" })),
        token::with_header(&good, &json!({ "alg": "HS512", "typ": "JWT" })),
        token::with_header(&good, &json!({ "alg": "RS256", "typ": "JWT" })),
        token::sign_with(token::OTHER_SECRET, None, &claims),
        token::sign_with("", None, &claims),
    ];
    for token in &bad {
        assert!(!accepts(&server, token), "{token}");
    }
    assert!(accepts(&server, &good));
}

#[test]
fn claims_that_are_no_object_are_refused() {
    let server = Server::with_auth(&[]);
    for claims in [json!([]), json!("x"), json!(5), Value::Null] {
        assert!(!accepts(&server, &token::sign(&claims)), "{claims}");
    }
}

#[test]
fn a_late_auth_is_answered_and_keeps_the_connection() {
    let server = Server::with_auth(&[]);
    let mut client = server.login(&token::of("ada", &[]));
    let answer = client.request("auth", json!({ "token": token::of("ada", &["admin"]) }));
    assert_eq!(answer["data"], json!({ "status": "authenticated", "user_id": "ada" }), "{answer}");
    client.subscribe("global");
    let answer = client.request("auth", json!({ "token": "wrong" }));
    assert_eq!(answer["error_code"], "AUTH_FAILED", "{answer}");
    let answer = client.request("auth", json!({}));
    assert_eq!(answer["error_code"], "AUTH_FAILED", "{answer}");
    client.expect_silence();
}

#[test]
fn a_token_can_be_refreshed_with_other_permissions() {
    let server = Server::with_auth(&[]);
    let mut client = server.login(&token::of("ada", &[]));
    let answer =
        client.request("refresh_token", json!({ "token": token::of("ada", &["workflow:read"]) }));
    assert_eq!((&answer["type"], &answer["event"]), (&json!("response"), &json!("refresh_token")));
    assert_eq!(answer["data"], json!({ "status": "refreshed", "user_id": "ada" }));
    client.subscribe("workflow:1");
}

#[test]
fn a_refresh_that_fails_changes_nothing() {
    let server = Server::with_auth(&[]);
    let mut client = server.login(&token::of("ada", &["workflow:read"]));
    let expired = token::sign(&claims_and("exp", json!(token::now() - 60)));
    for data in [json!({ "token": expired }), json!({ "token": null }), json!({})] {
        let answer = client.request("refresh_token", data);
        assert_eq!(answer["error_code"], "AUTH_FAILED", "{answer}");
    }
    client.subscribe("workflow:1");
}

#[test]
fn with_optional_authentication_a_token_binds_its_bearer() {
    let server = Server::with(&[("JWT_SECRET", SECRET)]);
    let mut client = server.hello();
    client.subscribe("global");
    let answer = client.request("auth", json!({ "token": token::of("ada", &["workflow:read"]) }));
    assert_eq!(answer["data"]["status"], "authenticated", "{answer}");
    let answer = client.request("subscribe", json!({ "channel": "pool:1" }));
    assert_eq!(
        answer["error_code"], "FORBIDDEN",
        "checked once the connection has a user: {answer}"
    );
    client.subscribe("workflow:1");
}

#[test]
fn nothing_of_tokens_payloads_and_secrets_is_logged() {
    for format in ["text", "json"] {
        let server = Server::with_auth(&[("LOG_LEVEL", "DEBUG"), ("LOG_FORMAT", format)]);
        let good = token::of("ada", &["admin"]);
        let expired = token::sign(&claims_and("exp", json!(token::now() - 60)));
        let mut client = server.login(&good);
        client.subscribe("global");
        client.publish("global", "e", json!({ "card": "4111-1111" }));
        client.request("refresh_token", json!({ "token": expired }));
        client.send_text(r#"{"type":"request","event":5,"data":{"card":"4111-1111"}}"#);
        let header = format!("Bearer {expired}");
        let headers = [("Authorization", header.as_str())];
        assert!(server.open("/", &headers).is_err());
        assert!(!accepts(&server, &expired));
        http::get(server.address(), &format!("/health?token={good}"));
        let body = r#"{"channel":"global","event":"e","data":{"card":"4111-1111"}}"#;
        assert_eq!(
            http::post(
                server.address(),
                "/publish",
                &[("Authorization", &format!("Bearer {good}"))],
                body
            )
            .status,
            200
        );
        client.close();
        server.metrics_when("nobody", |metrics| metrics.active() == 0);
        let forged = format!("{good}x");
        for headers in [&good, &expired, &forged] {
            let bearer = format!("Bearer {headers}");
            let fields = [("Authorization", bearer.as_str())];
            for (path, body) in [("/revoke", r#"{"jti":"4111-1111"}"#), ("/revoke", "4111-1111")] {
                let text = http::post(server.address(), path, &fields, body).text();
                for secret in ["4111-1111", SECRET, &good, &expired] {
                    assert!(!text.contains(secret), "{secret} in {text}");
                }
            }
        }
        // Which token an administrator has revoked is written down, by its name.
        let log = server.log();
        let is_audit = |line: &&str| line.contains("audit=") || line.contains("\"audit\":");
        let log: String = log.lines().filter(|line| !is_audit(line)).collect();
        assert!(!server.log().contains(SECRET) && !server.log().contains(&good));
        for secret in [SECRET, "4111-1111"]
            .into_iter()
            .chain(good.split('.'))
            .chain(expired.split('.').skip(1))
        {
            assert!(!log.contains(secret), "{secret} in the log:\n{log}");
        }
        let exposition = server.metrics().text().to_owned();
        assert!(!exposition.contains("4111-1111") && !exposition.contains(&good));
    }
}
