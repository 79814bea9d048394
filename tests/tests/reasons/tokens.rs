//! Tokens of live connections, and who may revoke them.

use mahavishnu_core::reason::Reason;
use mahavishnu_tests::{Client, Server, http, token, token::OTHER_SECRET};
use serde_json::json;

use super::{answered, counted, ended, is_error};

fn short(seconds: i64) -> String {
    let mut claims = token::claims("ada", &["admin"]);
    claims["exp"] = json!(token::now() + seconds);
    token::sign(&claims)
}

pub(super) fn token_expired(reason: Reason) {
    let server = Server::with_auth(&[("TOKEN_GRACE", "0")]);
    let mut client = server.login(&short(2));
    let warning = client.message();
    assert_eq!(warning["event"], "session.token_expiring", "{warning}");
    assert_eq!(client.expect_close(1008), reason.row().text);
    ended(&server, reason);
}

pub(super) fn token_stale(reason: Reason) {
    let server = Server::with_auth(&[("TOKEN_WARNING", "0"), ("TOKEN_GRACE", "60")]);
    let mut client = server.login(&short(2));
    let refused = loop {
        let answer = client.request("subscribe", json!({ "channel": "global" }));
        if answer["type"] == "error" {
            break answer;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    is_error(&refused, reason);
    let answer = client.request("refresh_token", json!({ "token": token::of("ada", &["admin"]) }));
    assert_eq!(answer["data"]["status"], "refreshed");
    client.subscribe("pool:1");
    counted(&server, reason);
}

pub(super) fn other_user(reason: Reason) {
    let server = Server::with_auth(&[]);
    let mut client = server.login(&token::of("ada", &[]));
    let eve = token::of("eve", &["admin"]);
    is_error(&client.request("refresh_token", json!({ "token": eve })), reason);
    counted(&server, reason);
}

fn revoke(server: &Server, token: &str, body: &str) -> http::Response {
    let bearer = format!("Bearer {token}");
    http::post(server.address(), "/revoke", &[("Authorization", &bearer)], body)
}

pub(super) fn token_revoked(reason: Reason) {
    let server = Server::with_auth(&[]);
    let ada = token::of("ada", &["workflow:read"]);
    let mut client = server.login(&ada);
    let answer = revoke(&server, &token::of("root", &["admin"]), r#"{"user":"ada"}"#);
    assert_eq!(answer.json(), json!({ "status": "revoked", "closed": 1 }));
    assert_eq!(client.expect_close(1008), reason.row().text);
    let mut again = server.client();
    let refused = again.request("auth", json!({ "token": ada }));
    assert_eq!(refused["error_code"], "AUTH_FAILED", "{refused}");
    ended(&server, reason);
}

pub(super) fn revoke_forbidden(reason: Reason) {
    let server = Server::with_auth(&[]);
    let body = r#"{"user":"ada"}"#;
    answered(&revoke(&server, &token::of("ada", &["write", "workflow:read"]), body), reason);
    counted(&server, reason);
}

pub(super) fn bad_revocation(reason: Reason) {
    let server = Server::with_auth(&[]);
    let admin = token::of("root", &["admin"]);
    answered(&revoke(&server, &admin, "{}"), reason);
    answered(&revoke(&server, &admin, r#"{"usr":"ada"}"#), reason);
}

pub(super) fn key_removed(reason: Reason) {
    let server = Server::with_auth(&[("JWT_END_REMOVED_KEYS", "true")]);
    server.write_env_file(&format!("MAHAVISHNU_JWT_KEYS=a:{OTHER_SECRET}\n"));
    assert_eq!(server.run(&["websocket", "reload"]).code, Some(0));
    let claims = token::claims("ada", &[]);
    let mut old = login_when(&server, &token::sign_with(OTHER_SECRET, Some("a"), &claims));
    let mut other = server.login(&token::of("eve", &[]));
    server.write_env_file("");
    assert_eq!(server.run(&["websocket", "reload"]).code, Some(0));
    assert_eq!(old.expect_close(1008), reason.row().text);
    other.expect_silence();
}

/// The reload that brought the key may still be under way.
fn login_when(server: &Server, token: &str) -> Client {
    loop {
        let mut client = server.client();
        let answer = client.request("auth", json!({ "token": token }));
        if answer["type"] == "response" {
            client.expect_welcome();
            return client;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

pub(super) fn origin_forbidden(reason: Reason) {
    let server = Server::with(&[("ALLOWED_ORIGINS", "https://app.example")]);
    let open = |origin| {
        let headers = [("Origin", origin)];
        server.open("/", &headers)
    };
    assert!(open("https://app.example").is_ok());
    let refused = open("https://evil.example").unwrap_err();
    assert_eq!(Some(refused.status().as_u16()), reason.row().status);
    server.hello();
    counted(&server, reason);
}
