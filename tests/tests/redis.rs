//! How a node finds its Redis and speaks to it: TLS, passwords, Sentinels, and a Redis that is not there.

use std::net::SocketAddr;

use mahavishnu_test_redis::{Options, Redis, Sentinel};
use mahavishnu_tests::{Server, binary, certs::Authority, http, wait};
use rustix::process::Signal;
use serde_json::Value;

/// A node of one shard with these settings besides.
fn node(settings: &[(&str, &str)]) -> Server {
    let base = [("SHARDS", "1"), ("REDIS_TIMEOUT", "2"), ("REDIS_CONNECT_TIMEOUT", "1")];
    Server::with(&[&base[..], settings].concat())
}

/// What it says of itself, when that is so.
fn ready_when(node: &Server, what: &str, is: impl Fn(u16, &Value) -> bool) -> Value {
    let mut last = None;
    let found = wait::within(wait::DEADLINE, || {
        let answer = http::get(node.address(), "/ready");
        let ready = answer.json();
        let fits = is(answer.status, &ready);
        last = Some(ready);
        fits.then_some(())
    });
    let last = last.expect("there was an attempt");
    assert!(found.is_some(), "waited in vain for {what}: {last}\n{}", node.log());
    last
}

fn wait_joined(node: &Server) {
    ready_when(node, "its Redis", |status, ready| {
        status == 200 && ready["checks"]["bus"] == "passing"
    });
}

/// Waits until it says why it has no Redis, in words that have this in them.
fn wait_cause(node: &Server, cause: &str) {
    ready_when(node, cause, |_, ready| {
        ready["bus"]["cause"].as_str().is_some_and(|text| text.contains(cause))
    });
}

fn port(address: SocketAddr) -> String {
    address.port().to_string()
}

#[test]
fn redis_is_spoken_to_by_tls_with_certificates_on_both_sides() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path(), "ca");
    let theirs = authority.issue("redis", &["localhost"], (-1, 30));
    let ours = authority.issue("node", &["node"], (-1, 30));
    let options = Options::default().tls(&theirs.certificate, &theirs.key, Some(&authority.file));
    let redis = Redis::with(options);
    let path = |path: &std::path::Path| path.display().to_string();
    let (ca, certificate, key) = (path(&authority.file), path(&ours.certificate), path(&ours.key));
    let port = port(redis.tls_address());
    let with = |more: &[(&str, &str)]| {
        let base = [
            ("REDIS_HOST", "localhost"),
            ("REDIS_PORT", port.as_str()),
            ("REDIS_TLS", "true"),
            ("REDIS_CA_FILE", ca.as_str()),
        ];
        node(&[&base[..], more].concat())
    };
    let own = [("REDIS_CERT_FILE", certificate.as_str()), ("REDIS_KEY_FILE", key.as_str())];
    wait_joined(&with(&own));
    wait_cause(&with(&[]), "TLS");
    let named = [&own[..], &[("REDIS_TLS_NAME", "elsewhere.example")]].concat();
    wait_cause(&with(&named), "certificate is refused");
}

#[test]
fn a_password_in_a_file_is_read_again_by_a_reload() {
    let redis = Redis::with(Options::default().password("first-password"));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    std::fs::write(&file, "first-password\n").unwrap();
    let settings = [
        ("REDIS_HOST", "127.0.0.1"),
        ("REDIS_PORT", &port(redis.address())),
        ("REDIS_PASSWORD_FILE", file.to_str().unwrap()),
    ];
    let node = node(&settings);
    wait_joined(&node);

    let mut client = redis.client();
    client.ask(&["CONFIG", "SET", "requirepass", "second-password"]);
    client.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    wait_cause(&node, "WRONGPASS");
    std::fs::write(&file, "second-password\n").unwrap();
    node.signal(Signal::HUP);

    wait_joined(&node);
    let log = node.log();
    assert!(log.contains("WRONGPASS") && log.contains("MAHAVISHNU_REDIS_PASSWORD_FILE"), "{log}");
    assert!(!log.contains("first-password") && !log.contains("second-password"), "{log}");
}

#[test]
fn a_user_of_redis_needs_the_rights_that_are_documented() {
    let document = binary::workspace().join("docs/configuration.md");
    let document = std::fs::read_to_string(document).unwrap();
    let rights = document.lines().find(|line| line.starts_with("~mahavishnu:* ")).unwrap();
    let rules = &format!("on >secret {rights}");
    let redis =
        Redis::with(Options::default().user("app", rules).user("nobody", "on >secret -@all"));
    let at = port(redis.address());
    let with = |user: &str| {
        node(&[
            ("REDIS_HOST", "127.0.0.1"),
            ("REDIS_PORT", &at),
            ("REDIS_USERNAME", user),
            ("REDIS_PASSWORD", "secret"),
        ])
    };
    wait_joined(&with("app"));
    wait_cause(&with("nobody"), "NOPERM");
}

#[test]
fn sentinels_say_where_redis_is_before_a_failover_and_after() {
    let mut primary = Redis::start();
    let replica = Redis::with(Options::default().replica_of(&primary));
    replica.wait_synced();
    let sentinel = Sentinel::start("main", &primary, 1, 500);
    sentinel.wait_for_others("main", 1, 0);
    // The first of them is nobody.
    let sentinels = format!("127.0.0.1:1,{}", sentinel.address());
    let node = node(&[("REDIS_SENTINELS", &sentinels), ("REDIS_SENTINEL_MASTER", "main")]);
    wait_joined(&node);

    primary.kill();
    sentinel.wait_primary("main", replica.port());

    ready_when(&node, "the new primary", |_, ready| {
        let age = ready["bus"]["probe_age_ms"].as_u64();
        ready["checks"]["bus"] == "passing" && age.is_some_and(|age| age < 1500)
    });
    assert!(replica.ask(&["CLIENT", "LIST"]).text().contains("name=mahavishnu:"));
}

#[test]
fn a_node_is_not_ready_before_its_redis_and_may_stay_so_for_a_while_later() {
    let mut redis = Redis::start();
    let at = port(redis.address());
    let base = [("REDIS_HOST", "localhost"), ("REDIS_PORT", at.as_str())];
    redis.kill();
    let node = node(&[&base[..], &[("REDIS_READY_GRACE", "1")]].concat());
    let without = |status: u16, ready: &Value| status == 503 && ready["checks"]["bus"] != "passing";
    ready_when(&node, "its refusal", without);
    let health = http::get(node.address(), "/health");
    assert_eq!(health.status, 200, "it is alive");
    assert_ne!(health.json()["checks"]["redis"], "passing", "{}", health.text());
    // Clients are let in all the same.
    node.hello().drain();

    redis.restart();
    wait_joined(&node);
    redis.kill();
    ready_when(&node, "the end of its grace", without);
}

#[test]
fn a_node_may_stay_ready_whatever_becomes_of_redis() {
    let mut redis = Redis::start();
    let node = node(&[
        ("REDIS_HOST", "localhost"),
        ("REDIS_PORT", &port(redis.address())),
        ("REDIS_READY_GRACE", "off"),
    ]);
    wait_joined(&node);
    redis.kill();
    ready_when(&node, "the loss", |status, ready| {
        assert_eq!(status, 200, "{ready}");
        ready["checks"]["bus"] != "passing"
    });
}

#[test]
fn what_contradicts_redis_is_refused_before_a_start() {
    let node = Server::start();
    let config = |settings: &[(&str, &str)]| {
        let file = settings.iter().map(|(name, value)| format!("MAHAVISHNU_{name}={value}\n"));
        node.write_env_file(&file.collect::<String>());
        node.run(&["config", "check"])
    };
    let refused = config(&[("REDIS_HOST", "redis"), ("HISTORY_FILE", "/tmp/h")]);
    assert_eq!(refused.code, Some(5), "{refused:?}");
    assert!(refused.stderr.contains("MAHAVISHNU_HISTORY_FILE: with Redis"), "{refused:?}");
    let missing = config(&[
        ("REDIS_HOST", "redis"),
        ("REDIS_TLS", "true"),
        ("REDIS_CA_FILE", "/nonexistent"),
    ]);
    assert_eq!(missing.code, Some(5), "{missing:?}");
    assert!(missing.stderr.contains("MAHAVISHNU_REDIS_CA_FILE: /nonexistent"), "{missing:?}");
    let fine = config(&[("REDIS_HOST", "redis"), ("REDIS_DOWN_RULES", "cursor:*=local")]);
    assert_eq!(fine.code, Some(0), "{fine:?}");
    let explained = node.run(&["explain", "--verb", "publish", "--channel", "cursor:1"]);
    let line = "while Redis is away: publishes reach subscribers of their server alone\n";
    assert!(explained.stdout.contains(line), "{explained:?}");
}
