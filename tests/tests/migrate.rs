//! `migrate` and `nodes`: what operators see and do of what lies in Redis.

use std::time::Duration;

use mahavishnu_test_redis::{Options, Redis, Sentinel, Value};
use mahavishnu_tests::{
    Server, binary,
    certs::Authority,
    http,
    server::{self, Done},
    wait,
};
use serde_json::json;

/// Runs a subcommand with these settings, named without `MAHAVISHNU_`.
fn run(settings: &[(&str, &str)], args: &[&str]) -> Done {
    let dir = tempfile::tempdir().unwrap();
    let named: Vec<_> =
        settings.iter().map(|(name, value)| (format!("MAHAVISHNU_{name}"), *value)).collect();
    let named: Vec<_> = named.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    server::run(dir.path(), &named, args)
}

/// A Redis, and settings that lead to it.
struct Place {
    redis: Redis,
    port: String,
}

impl Place {
    fn new(options: Options) -> Self {
        let redis = Redis::with(options);
        let port = redis.port().to_string();
        Self { redis, port }
    }

    fn run_with(&self, more: &[(&str, &str)], args: &[&str]) -> Done {
        let base = [("REDIS_HOST", "127.0.0.1"), ("REDIS_PORT", self.port.as_str())];
        run(&[&base[..], more].concat(), args)
    }

    fn run(&self, args: &[&str]) -> Done {
        self.run_with(&[], args)
    }

    fn node(&self, name: &str) -> Server {
        let node = Server::with(&[
            ("SHARDS", "2"),
            ("REDIS_HOST", "127.0.0.1"),
            ("REDIS_PORT", &self.port),
            ("NODE_NAME", name),
        ]);
        let joined = || {
            let ready = http::get(node.address(), "/ready");
            (ready.status == 200 && ready.json()["checks"]["bus"] == "passing").then_some(())
        };
        wait::until("its Redis", joined);
        node
    }

    /// All keys of a database, in order.
    fn keys(&self, db: &str) -> Vec<String> {
        let mut client = self.redis.client();
        client.ask(&["SELECT", db]);
        let keys = client.ask(&["KEYS", "*"]);
        let mut keys: Vec<_> = keys.items().iter().map(Value::text).collect();
        keys.sort();
        keys
    }
}

fn has(done: &Done, code: i32, text: &str) {
    assert_eq!(done.code, Some(code), "{done:?}");
    let all = format!("{}{}", done.stdout, done.stderr);
    assert!(all.contains(text), "no {text:?} in {done:?}");
}

#[test]
fn a_layout_is_begun_once_and_removed_with_nothing_else() {
    let place = Place::new(Options::default());
    has(&place.run(&["migrate", "status"]), 0, "layout: none there, 1 here");
    has(&place.run(&["migrate", "up", "--dry-run"]), 0, "would begin layout 1");
    assert_eq!(place.keys("0"), [""; 0], "said, and not done");
    has(&place.run(&["migrate", "up"]), 0, "began layout 1");
    has(&place.run(&["migrate", "up"]), 0, "layout 1 already");
    let status = place.run(&["migrate", "status"]);
    has(&status, 0, "layout: 1 there, by mahavishnu ");
    has(&status, 0, "keys: 1: 1 layout\nfits\n");

    // More than one step of a scan, of all kinds; and those of others.
    let mut client = place.redis.client();
    for n in 0..3_000 {
        client.ask(&["SET", &format!("mahavishnu:{{emj}}:i:key{n}#0"), "v"]);
    }
    client.ask(&["XADD", "mahavishnu:{emj}:l:c", "*", "1", "r"]);
    client.ask(&["HSET", "mahavishnu:{emj}:m:c", "e", "kq3v7m2xwd"]);
    client.ask(&["SET", "mahavishnu:{emj}:z:later", "v"]);
    let others = [
        "another:{emj}:m:c",
        "mahavishnu:b:layout",
        "mahavishnu:b:{emj}:m:c",
        "mahavishnu:ingress",
    ];
    for key in others {
        client.ask(&["SET", key, "v"]);
    }
    client.ask(&["SELECT", "1"]);
    client.ask(&["HSET", "mahavishnu:layout", "version", "1"]);

    let counts = "keys: 3004: 1 layout, 1 meta, 1 log, 3000 idempotency, 1 other\n";
    has(&place.run(&["migrate", "status"]), 0, counts);
    has(&place.run(&["migrate", "down", "--dry-run"]), 0, &format!("would remove {counts}"));
    assert_eq!(place.keys("0").len(), 3008, "said, and not done");
    has(&place.run(&["migrate", "down"]), 0, &format!("removed {counts}"));
    assert_eq!(place.keys("0"), others);
    assert_eq!(place.keys("1"), ["mahavishnu:layout"]);
    has(&place.run(&["migrate", "down"]), 0, "removed keys: 0\n");
    has(
        &place.run_with(&[("REDIS_DB", "1")], &["migrate", "down"]),
        0,
        "removed keys: 1: 1 layout",
    );
    assert_eq!(place.keys("1"), [""; 0]);
}

#[test]
fn nodes_are_told_and_nothing_is_removed_beneath_them() {
    let place = Place::new(Options::default());
    has(&place.run(&["nodes"]), 0, "no node holds a lease");
    let (mut first, second) = (place.node("a1"), place.node("b2"));
    let _client = second.hello();
    let nodes = wait::until("a connection to be told", || {
        let nodes = place.run(&["nodes", "--json"]);
        assert_eq!(nodes.code, Some(0), "{nodes:?}");
        let nodes: Vec<serde_json::Value> =
            nodes.stdout.lines().map(|line| line.parse().expect("JSON")).collect();
        let told = nodes.len() == 2 && nodes[1]["connections"] == 1;
        (told && nodes.iter().all(|node| node["links"]["up"] == 2)).then_some(nodes)
    });
    assert_eq!((&nodes[0]["name"], &nodes[1]["name"]), (&json!("a1"), &json!("b2")));
    assert_eq!(nodes[0]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(nodes[0]["links"], json!({ "up": 2, "total": 2 }));
    assert_eq!(nodes[0]["draining"], false);
    let status = place.run(&["migrate", "status"]);
    has(&status, 0, "nodes: 2\n  a1 ");
    has(&status, 0, ", connections 1, links 2/2\n");

    let keys = place.keys("0");
    let refused = place.run(&["migrate", "down"]);
    has(&refused, 3, "nodes hold leases: 2; stop them, or --force");
    assert!(refused.stderr.contains("b2"), "{refused:?}");
    assert_eq!(place.keys("0"), keys);

    first.kill();
    let forced = place.run(&["migrate", "down", "--force"]);
    has(&forced, 0, "removed keys: ");
    has(&forced, 0, "nodes are there still");
    // The one that lives tells of itself again.
    wait::until("its lease", || place.run(&["nodes"]).stdout.contains("b2 ").then_some(()));
}

#[test]
fn a_node_that_goes_is_no_longer_told() {
    let place = Place::new(Options::default());
    let mut node = place.node("a1");
    has(&place.run(&["nodes"]), 0, "a1 ");
    node.terminate();
    has(&place.run(&["nodes"]), 0, "no node holds a lease");
    has(&place.run(&["migrate", "down"]), 0, "removed keys: ");
    assert_eq!(place.keys("0"), [""; 0]);
}

#[test]
fn a_layout_of_another_version_is_for_no_node() {
    let place = Place::new(Options::default());
    place.redis.ask(&["HSET", "mahavishnu:layout", "version", "7"]);
    let why = "layout 7 lies there, and this program knows 1";
    has(&place.run(&["migrate", "status"]), 5, why);
    has(&place.run(&["migrate", "up"]), 5, why);
    has(&place.run(&["migrate", "down"]), 5, why);
    let settings = [("REDIS_HOST", "127.0.0.1"), ("REDIS_PORT", place.port.as_str())];
    let node = Server::with(&settings);
    wait::until("its refusal", || {
        let ready = http::get(node.address(), "/ready").json();
        let cause = ready["bus"]["cause"].as_str()?;
        cause.contains("layout 7, and this program knows 1").then_some(())
    });
    drop(node);
    has(&place.run(&["migrate", "down", "--force"]), 0, "removed keys: 1: 1 layout");
}

#[test]
fn a_redis_that_is_away_or_unfit_is_told() {
    let place = Place::new(Options::default());
    has(&run(&[], &["migrate", "status"]), 5, "no Redis is set");
    let nobody = [("REDIS_HOST", "127.0.0.1"), ("REDIS_PORT", "1")];
    for args in [&["migrate", "status"][..], &["migrate", "up"], &["migrate", "down"], &["nodes"]] {
        has(&run(&nobody, args), 2, "Redis at 127.0.0.1:1: Connection refused");
    }

    let replica = Place::new(Options::default().replica_of(&place.redis));
    replica.redis.wait_synced();
    for args in [&["migrate", "status"][..], &["migrate", "up"], &["migrate", "down"]] {
        has(&replica.run(args), 5, "a replica: nodes need its primary");
    }

    place.redis.pause();
    let before = std::time::Instant::now();
    has(
        &place.run_with(&[("REDIS_TIMEOUT", "0.5")], &["migrate", "status"]),
        2,
        "no answer within 0.5 s",
    );
    assert!(before.elapsed() < Duration::from_secs(20));
    place.redis.resume();
}

#[test]
fn a_password_is_needed_and_never_printed() {
    let place = Place::new(Options::default().password("hunter2hunter2"));
    let none = place.run(&["migrate", "status"]);
    has(&none, 6, "NOAUTH");
    let wrong = place.run_with(&[("REDIS_PASSWORD", "hunter3hunter3")], &["migrate", "up"]);
    has(&wrong, 6, "WRONGPASS");
    let right = place.run_with(&[("REDIS_PASSWORD", "hunter2hunter2")], &["migrate", "up"]);
    has(&right, 0, "began layout 1");
    for done in [none, wrong, right] {
        assert!(!format!("{done:?}").contains("hunter"), "{done:?}");
    }
}

/// Those of a node, and two more.
#[test]
fn a_user_of_redis_needs_the_rights_that_are_documented_for_tools() {
    let document =
        std::fs::read_to_string(binary::workspace().join("docs/configuration.md")).unwrap();
    let rights = document.lines().find(|line| line.starts_with("~mahavishnu:* ")).unwrap();
    let node = &format!("on >secret {rights}");
    let tool = &format!("on >secret {rights} +scan +unlink");
    let place = Place::new(Options::default().user("node", node).user("tool", tool));
    let as_user = |user: &str, args: &[&str]| {
        place.run_with(&[("REDIS_USERNAME", user), ("REDIS_PASSWORD", "secret")], args)
    };
    has(&as_user("tool", &["migrate", "up"]), 0, "began layout 1");
    has(&as_user("tool", &["migrate", "status"]), 0, "fits");
    has(&as_user("node", &["nodes"]), 0, "no node holds a lease");
    has(&as_user("node", &["migrate", "down"]), 6, "NOPERM");
    has(&as_user("tool", &["migrate", "down"]), 0, "removed keys: 1: 1 layout");
}

#[test]
fn redis_is_reached_by_tls_and_by_sentinels() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path(), "ca");
    let theirs = authority.issue("redis", &["localhost"], (-1, 30));
    let place = Place::new(Options::default().tls(&theirs.certificate, &theirs.key, None));
    let (port, ca) =
        (place.redis.tls_address().port().to_string(), authority.file.display().to_string());
    let secure = [
        ("REDIS_HOST", "localhost"),
        ("REDIS_PORT", &*port),
        ("REDIS_TLS", "true"),
        ("REDIS_CA_FILE", &*ca),
    ];
    has(&run(&secure, &["migrate", "up"]), 0, "began layout 1");
    let other = [&secure[..], &[("REDIS_TLS_NAME", "elsewhere.example")]].concat();
    has(&run(&other, &["migrate", "status"]), 2, "TLS: the certificate is refused");
    // The port without TLS.
    let plain = [("REDIS_PORT", &*place.port)];
    let plain = [&secure[..], &plain].concat();
    has(&run(&plain, &["migrate", "status"]), 2, "Redis at localhost:");

    let sentinel = Sentinel::start("main", &place.redis, 1, 500);
    // The first of them is nobody.
    let sentinels = format!("127.0.0.1:1,{}", sentinel.address());
    let by = |master| [("REDIS_SENTINELS", sentinels.as_str()), ("REDIS_SENTINEL_MASTER", master)];
    has(&run(&by("main"), &["migrate", "status"]), 0, "layout: 1 there");
    has(&run(&by("other"), &["migrate", "status"]), 5, "it knows no primary of this name");
}
