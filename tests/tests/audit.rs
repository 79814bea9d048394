//! What the log says of revocations, of attempts at them, and of reloads: who, what, and what became of it.

use mahavishnu_tests::{Server, http, token, wait};
use serde_json::Value;

const RUNTIMES: [&str; 2] = ["tokio", "smol"];

fn revoke(server: &Server, token: Option<&str>, body: &str) -> u16 {
    let bearer = token.map(|token| format!("Bearer {token}"));
    let fields: Vec<_> = bearer.iter().map(|bearer| ("Authorization", bearer.as_str())).collect();
    http::post(server.address(), "/revoke", &fields, body).status
}

/// The lines that are for this, once there are so many.
fn lines(server: &Server, what: &str, count: usize) -> Vec<Value> {
    wait::until("the lines", || {
        let log = server.log();
        let lines = log.lines().map(|line| line.trim_start_matches("[stderr] "));
        let lines = lines.filter_map(|line| serde_json::from_str(line).ok());
        let found: Vec<Value> = lines.filter(|line: &Value| line["audit"] == what).collect();
        (found.len() >= count).then_some(found)
    })
}

#[test]
fn a_revocation_is_written_down_with_who_and_whom() {
    for runtime in RUNTIMES {
        let server =
            Server::with_auth(&[("RUNTIME", runtime), ("LOG_FORMAT", "json"), ("SHARDS", "2")]);
        let (root, ada) = (token::of("root", &["admin"]), token::of("ada", &["workflow:read"]));
        let mut client = server.login(&ada);

        assert_eq!(revoke(&server, Some(&root), r#"{"user":"ada"}"#), 200);

        client.expect_close(1008);
        let line = &lines(&server, "revoke", 1)[0];
        assert_eq!(line["message"], "revoked");
        assert_eq!((&line["by"], &line["user"]), (&"root".into(), &"ada".into()), "{line}");
        assert_eq!(line["closed"], 1);
        assert!(line["address"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
        let log = server.log();
        assert!(!log.contains(&root) && !log.contains(&ada) && !log.contains(token::SECRET));
    }
}

#[test]
fn a_refused_attempt_is_written_down_with_why() {
    let server = Server::with_auth(&[("LOG_FORMAT", "json"), ("SHARDS", "1")]);
    let eve = token::of("eve", &["workflow:read"]);
    let body = r#"{"user":"ada"}"#;
    let root = token::of("root", &["admin"]);

    let statuses =
        [None, Some("e30.e30.e30"), Some(&*eve)].map(|token| revoke(&server, token, body));
    assert_eq!(statuses, [401, 401, 403]);
    assert_eq!(revoke(&server, Some(&root), "{}"), 400);

    let lines = lines(&server, "revoke", 4);
    let said: Vec<_> =
        lines.iter().map(|line| (line["reason"].as_str(), line["by"].as_str())).collect();
    assert_eq!(
        said,
        [
            (Some("auth_required"), None),
            (Some("auth_failed"), None),
            (Some("revoke_forbidden"), Some("eve")),
            (Some("bad_revocation"), Some("root")),
        ]
    );
    assert!(lines.iter().all(|line| line["level"] == "WARN" && line["address"].is_string()));
    let log = server.log();
    assert!(!log.contains(&eve) && !log.contains("e30.e30.e30"), "{log}");
}

/// Whoever has no token cannot fill the disk.
#[test]
fn a_flood_of_attempts_is_not_written_down_one_by_one() {
    let server = Server::with_auth(&[("LOG_FORMAT", "json"), ("SHARDS", "1")]);
    (0..200).for_each(|_| assert_eq!(revoke(&server, None, "{}"), 401));
    server.metrics_when("all counted", |metrics| metrics.connection_errors("auth_required") == 200);
    let written = lines(&server, "revoke", 60).len();
    // One more for each second that this takes.
    assert!(written < 150, "{written} lines");
}

#[test]
fn what_a_client_says_cannot_forge_a_line() {
    let server = Server::with_auth(&[("SHARDS", "1")]);
    let root = token::of("root", &["admin"]);
    let forged = serde_json::json!({ "user": "ada\nINFO revoked by=\"nobody\"" }).to_string();
    assert_eq!(revoke(&server, Some(&root), &forged), 200);
    let log = wait::until("the line", || Some(server.log()).filter(|log| log.contains("audit=")));
    assert!(!log.lines().any(|line| line.starts_with("INFO revoked by")), "{log}");
    assert!(log.contains("ada\\nINFO"), "{log}");
}

#[test]
fn a_reload_is_written_down_whatever_becomes_of_it() {
    let server = Server::with_auth(&[("LOG_FORMAT", "json"), ("SHARDS", "1")]);
    let secret = "another-secret-of-more-than-32-bytes-for-kid-two";
    server.write_env_file(&format!("MAHAVISHNU_JWT_KEYS=two:{secret}\n"));
    assert_eq!(server.run(&["websocket", "reload"]).code, Some(0));
    server.write_env_file("MAHAVISHNU_JWT_KEYS=two:short\n");
    assert_eq!(server.run(&["websocket", "reload"]).code, Some(5));

    let lines = lines(&server, "reload", 2);

    assert_eq!(lines[0]["message"], "reloaded");
    assert!(lines[0]["changed"].as_str().unwrap().contains("MAHAVISHNU_JWT_KEYS"), "{}", lines[0]);
    assert_eq!((&lines[0]["by"], &lines[0]["keys"]), (&"SIGHUP".into(), &2.into()));
    assert!(lines[1]["message"].as_str().unwrap().starts_with("reload refused"));
    assert_eq!(lines[1]["level"], "ERROR");
    assert!(!server.log().contains(secret));
}
