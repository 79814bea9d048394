//! `verify`: each of its checks on an installation that is well, and on one that is not, with the real parts.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
};

use mahavishnu_test_redis::{Kind, Options, Redis};
use mahavishnu_tests::{
    Server,
    certs::{self, Authority},
    foreign,
    proxy::Proxy,
    server::{self, Done},
    token, wait,
};
use serde_json::Value;

/// What `verify` said, by the names of its checks.
struct Verdict {
    done: Done,
    checks: BTreeMap<String, Value>,
}

impl Verdict {
    fn of(done: Done) -> Self {
        let report: Value = done.stdout.parse().unwrap_or_else(|_| panic!("{done:?}"));
        let checks = report["checks"].as_array().expect("checks").iter();
        let named =
            |check: &Value| (check["check"].as_str().expect("a name").to_owned(), check.clone());
        let checks = checks.map(named).collect();
        Self { done, checks }
    }

    /// The server's own machine, with its settings.
    fn inside(server: &Server, args: &[&str]) -> Self {
        Self::of(server.run(&[&["verify", "--json"], args].concat()))
    }

    /// A client of it, with these variables.
    fn outside(variables: &[(&str, &str)], args: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::of(server::run(dir.path(), variables, &[&["verify", "--json"], args].concat()))
    }

    #[track_caller]
    fn is(&self, check: &str, outcome: &str, text: &str) -> &Self {
        let found = self.checks.get(check).unwrap_or_else(|| panic!("no {check}: {:?}", self.done));
        let all = format!("{} {}", found["found"], found["remedy"]);
        assert!(
            found["outcome"] == outcome && all.contains(text),
            "{check}: {outcome} {text:?}: {found}"
        );
        self
    }

    #[track_caller]
    fn code(&self, code: i32) -> &Self {
        assert_eq!(self.done.code, Some(code), "{:#?}", self.checks);
        self
    }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_server_that_is_well_is_said_to_be() {
    let server = Server::start();
    let verdict = Verdict::inside(&server, &[]);
    verdict.code(0).is("server", "ok", "pid").is("settings", "ok", "").is("in-force", "ok", "");
    verdict.is("health", "ok", "healthy, 0 connections").is("ready", "ok", "takes new clients");
    verdict.is("clock", "ok", "agrees").is("metrics", "ok", "series");
    verdict.is("websocket", "ok", "open in").is("authentication", "ok", "off");
    verdict.is("round-trip", "ok", "received in").is("idle", "skipped", "--idle");
    verdict.is("certificate", "skipped", "").is("redis", "skipped", "MAHAVISHNU_REDIS_HOST");
    verdict.is("descriptors", "ok", "open files");
    // The same for people.
    let done = server.run(&["verify"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stdout.contains("ok       round-trip      subscribed, published"), "{done:?}");
    assert!(done.stdout.trim_end().ends_with("skipped"), "{done:?}");
    // A token means nothing there.
    let token = token::of("ada", &["admin"]);
    Verdict::inside(&server, &["--token", &token]).code(0).is("authentication", "ok", "off");
    // Somebody else's event is not taken for ours, and a name that was given is used.
    let told = Verdict::inside(&server, &["--channel", "pool:1", "--idle", "0.2"]);
    told.code(0).is("round-trip", "ok", "received").is("idle", "ok", "0.2 s");
}

#[test]
fn where_nothing_runs_that_is_what_fails() {
    let mut server = Server::start();
    let url = server.url();
    server.terminate();
    let verdict = Verdict::inside(&server, &[]);
    verdict.code(4).is("server", "fail", "no server runs").is("health", "fail", "nothing listens");
    verdict.is("metrics", "fail", "nothing listens").is("in-force", "skipped", "no server");
    assert!(!verdict.checks.contains_key("websocket"), "nobody is there to talk to");
    Verdict::outside(&[], &[&url]).code(4).is("health", "fail", "").is(
        "server",
        "skipped",
        "--env-file",
    );
}

#[test]
fn tokens_decide_how_far_it_goes() {
    let server = Server::with_auth(&[]);
    let url = server.url();
    let with = |token: &str, args: &[&str]| {
        Verdict::outside(&[("MAHAVISHNU_TOKEN", token)], &[&[url.as_str()], args].concat())
    };
    let none = Verdict::outside(&[], &[&url]);
    none.code(0).is("authentication", "ok", "need a token").is("round-trip", "skipped", "let in");
    let admin = with(&token::of("ada", &["admin"]), &[]);
    admin.code(0).is("authentication", "ok", "of \\\"ada\\\"").is("round-trip", "ok", "received");
    admin.is("addresses", "ok", "127.0.0.1");
    let reader = with(&token::of("bob", &["workflow:read"]), &[]);
    reader.code(0).is("round-trip", "ok", "publishing there is not permitted");
    reader.is("addresses", "skipped", "full access");
    let other = token::of("eve", &["pool:read"]);
    with(&other, &[]).code(0).is("round-trip", "warn", "--channel");
    with(&other, &["--strict"]).code(4).is("round-trip", "warn", "FORBIDDEN");
    with(&other, &["--channel", "pool:1"]).code(0).is("round-trip", "ok", "");
    let forged =
        with(&token::sign_with(token::OTHER_SECRET, None, &token::claims("ada", &["admin"])), &[]);
    forged.code(4).is("authentication", "fail", "AUTH_FAILED").is("round-trip", "skipped", "");
}

#[test]
fn an_address_for_all_wants_tokens_and_tls() {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let server = Server::with(&[("HOST", "0.0.0.0")]);
    let url = format!("http://{}:{}", name.trim(), server.address().port());
    let verdict = Verdict::outside(&[], &[&url]);
    verdict.code(0).is("authentication", "warn", "mahavishnu init").is(
        "certificate",
        "warn",
        "no TLS",
    );
    Verdict::outside(&[], &[&url, "--strict"]).code(4);
}

#[test]
fn another_shell_knows_what_the_server_was_given_but_for_its_secrets() {
    let server = Server::with_auth(&[("MAX_CONNECTIONS", "77")]);
    let state = server.variable("MAHAVISHNU_STATE_DIR");
    let dir = tempfile::tempdir().unwrap();
    let known = [("MAHAVISHNU_STATE_DIR", state)];
    let verdict = Verdict::of(server::run(dir.path(), &known, &["verify", "--json"]));
    verdict.code(0).is("metrics", "ok", "series").is("descriptors", "ok", "77 connections");
    verdict.is("settings", "skipped", "environment alone").is("in-force", "ok", "");
    verdict.is("authentication", "ok", "need a token");
}

#[test]
fn settings_that_are_wrong_or_not_in_force_are_named() {
    let server = Server::with_file(&[], "MAHAVISHNU_LOG_LEVEL=INFO\n");
    Verdict::inside(&server, &[]).is("settings", "ok", "").is("in-force", "ok", "");
    server.write_env_file("MAHAVISHNU_LOG_LEVEL=DEBUG\nMAHAVISHNU_RATE_LIMITT=1\n");
    let verdict = Verdict::inside(&server, &[]);
    verdict.code(0).is("settings", "warn", "MAHAVISHNU_RATE_LIMIT?");
    verdict.is("in-force", "warn", "MAHAVISHNU_LOG_LEVEL");
    server.reload("MAHAVISHNU_LOG_LEVEL=DEBUG\n");
    Verdict::inside(&server, &[]).is("in-force", "ok", "");
    server.write_env_file("MAHAVISHNU_LOG_LEVEL=LOUD\n");
    Verdict::inside(&server, &[]).code(4).is("settings", "fail", "LOUD");
    // A version that wrote no record, or another one.
    let record =
        Path::new(&server.variable("MAHAVISHNU_STATE_DIR")).join("mahavishnu_websocket.settings");
    let text = fs::read_to_string(&record).unwrap().replace(env!("CARGO_PKG_VERSION"), "0.0.9");
    fs::write(&record, text).unwrap();
    Verdict::inside(&server, &[]).is("server", "warn", "0.0.9");
    fs::remove_file(&record).unwrap();
    Verdict::inside(&server, &[]).is("in-force", "skipped", "restart").is("server", "ok", "");
}

#[test]
fn files_that_others_read_or_change_fail() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        chmod(&path, 0o600);
        path
    };
    let policy = file("policy.toml", "[mahavishnu]\nfull_access = [\"root\"]\n");
    let keys = file("keys.json", &format!("{{\"a\": \"{}\"}}", token::SECRET));
    let named = [("POLICY_FILE", certs::text(&policy)), ("JWT_KEYS_FILE", certs::text(&keys))];
    let server = Server::with(&[&named[..], &[("AUTH_ENABLED", "true")]].concat());
    Verdict::inside(&server, &[]).code(0).is("files", "ok", "3 files");
    chmod(&keys, 0o644);
    Verdict::inside(&server, &[]).code(4).is("files", "fail", "can read it").is(
        "files",
        "fail",
        "chmod o-rwx",
    );
    chmod(&keys, 0o600);
    chmod(&policy, 0o646);
    Verdict::inside(&server, &[]).code(4).is("files", "fail", "can change it");
    fs::remove_file(&policy).unwrap();
    Verdict::inside(&server, &[]).code(4).is("files", "fail", "No such file");
}

#[test]
fn certificates_are_judged_as_clients_see_them() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path(), "root");
    let long = authority.server("long");
    let settings = long.settings();
    let server = Server::with(&settings);
    let port = server.address().port();
    let url = format!("https://localhost:{port}");
    let trusting = [("SSL_CERT_FILE", certs::text(&authority.file))];
    let seen = Verdict::outside(&trusting, &[&url]);
    seen.code(0).is("certificate", "ok", "trusted and for this name").is(
        "certificate",
        "ok",
        "TLSv1",
    );
    seen.is("round-trip", "ok", "received").is("cert-files", "skipped", "");
    // A name that it is not for, and nobody who is trusted.
    let named = authority.issue("named", &["ws.example.com"], (-1, 365));
    let other = Server::with(&named.settings());
    let elsewhere = format!("https://localhost:{}", other.address().port());
    Verdict::outside(&trusting, &[&elsewhere]).code(4).is(
        "certificate",
        "fail",
        "not for localhost",
    );
    Verdict::outside(&[], &[&url]).code(4).is("certificate", "fail", "does not trust");
    let inside = Verdict::inside(&server, &[]);
    inside.code(0).is("certificate", "ok", "the one of its settings").is(
        "cert-files",
        "ok",
        "1 with the key of it, 36",
    );
    // Renewed without a reload, then for not long enough, then over.
    let renewed = authority.issue("renewed", &["localhost"], (-1, 365));
    let put = |files: &certs::Files| {
        fs::copy(&files.certificate, &long.certificate).unwrap();
        fs::copy(&files.key, &long.key).unwrap();
    };
    put(&renewed);
    let verdict = Verdict::inside(&server, &[]);
    verdict.code(4).is("certificate", "fail", "without a reload").is(
        "in-force",
        "warn",
        "CERT_FILE",
    );
    put(&authority.issue("short", &["localhost", "127.0.0.1"], (-1, 10)));
    server.reload("");
    let verdict = Verdict::inside(&server, &[]);
    verdict.code(0).is("certificate", "warn", "days").is("cert-files", "warn", "expires in");
    Verdict::outside(&trusting, &[&url]).code(0).is("certificate", "warn", "renew");
    put(&authority.issue("over", &["localhost"], (-20, -10)));
    Verdict::inside(&server, &[]).code(4).is("cert-files", "fail", "expired");
}

#[test]
fn a_server_that_wants_certificates_of_its_clients_is_verified_as_far_as_it_goes() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path(), "root");
    let own = authority.server("own");
    let wanted = [("VERIFY_CLIENT", "true"), ("CA_FILE", certs::text(&authority.file))];
    let server = Server::with(&[own.settings(), wanted.to_vec()].concat());
    let verdict = Verdict::inside(&server, &[]);
    verdict.code(0).is("health", "ok", "").is("cert-files", "ok", "").is("files", "ok", "");
    verdict.is("ready", "skipped", "VERIFY_CLIENT");
    verdict.is("certificate", "skipped", "VERIFY_CLIENT").is(
        "websocket",
        "skipped",
        "VERIFY_CLIENT",
    );
}

#[test]
fn redis_has_to_be_there_and_to_keep_what_it_is_given() {
    let mut redis = Redis::with(Options::default().aof());
    let port = redis.port().to_string();
    let server = Server::with(&[
        ("REDIS_HOST", "127.0.0.1"),
        ("REDIS_PORT", &port),
        ("REDIS_TIMEOUT", "2"),
        ("REDIS_CONNECT_TIMEOUT", "1"),
    ]);
    let well = || {
        let verdict = Verdict::inside(&server, &[]);
        (verdict.done.code == Some(0)).then_some(verdict)
    };
    let verdict = wait::until("its Redis", well);
    verdict.is("redis", "ok", "answers in").is("round-trip", "ok", "received");
    redis.ask(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    Verdict::inside(&server, &[]).code(0).is("redis", "warn", "allkeys-lru");
    redis.ask(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    redis.ask(&["CONFIG", "SET", "appendonly", "no"]);
    Verdict::inside(&server, &[]).is("redis", "warn", "appendonly is no");
    redis.ask(&["CONFIG", "SET", "requirepass", "hunter2"]);
    Verdict::inside(&server, &[]).code(4).is("redis", "fail", "NOAUTH");
    redis.kill();
    Verdict::inside(&server, &[]).code(4).is("redis", "fail", "is it up");
    let told = || {
        let health = Verdict::inside(&server, &[]).checks["health"].clone();
        (health["outcome"] == "fail" && health["found"].to_string().contains("failing: redis"))
            .then_some(())
    };
    wait::until("health to tell of it", told);
    let old = Redis::with(Options::of(&Kind::too_old()));
    let port = old.port().to_string();
    let dir = tempfile::tempdir().unwrap();
    let named = [("MAHAVISHNU_REDIS_HOST", "127.0.0.1"), ("MAHAVISHNU_REDIS_PORT", port.as_str())];
    let done = server::run(dir.path(), &named, &["verify", "--json"]);
    Verdict::of(done).is("redis", "fail", "7.0 or later is needed");
}

#[test]
fn limits_that_are_reached_or_do_not_fit_are_told() {
    let server = Server::with(&[("MAX_CONNECTIONS", "1")]);
    let client = server.hello();
    let verdict = Verdict::inside(&server, &[]);
    verdict.code(4).is("ready", "fail", "capacity").is("round-trip", "skipped", "");
    client.close();
    let server = Server::with(&[("MAX_CONNECTIONS", "9999999")]);
    let verdict = Verdict::inside(&server, &[]);
    verdict.is("descriptors", "warn", "LimitNOFILE").is("ready", "warn", "open files");
    let server = Server::with(&[("METRICS_ENABLED", "false")]);
    let verdict = Verdict::inside(&server, &[]);
    verdict.code(0).is("metrics", "skipped", "MAHAVISHNU_METRICS_ENABLED");
    // Not metrics, though somebody answers.
    let url = format!("{}/health", server.url());
    Verdict::inside(&server, &["--metrics", &url]).code(4).is("metrics", "fail", "without");
}

#[test]
fn nginx_in_front_is_seen_through() {
    let server = Server::with_auth(&[("TRUSTED_PROXIES", "127.0.0.1"), ("PING_INTERVAL", "60")]);
    let admin = token::of("ada", &["admin"]);
    let through = |proxy: &Proxy, server: &Server, args: &[&str]| {
        let url = format!("https://localhost:{}", proxy.address().port());
        let trusted = proxy.dir().join("cert.pem");
        let state = server.variable("MAHAVISHNU_STATE_DIR");
        let mut variables =
            vec![("SSL_CERT_FILE", certs::text(&trusted)), ("MAHAVISHNU_TOKEN", &admin)];
        let settings = server.variables();
        variables.extend(settings.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let dir = tempfile::tempdir().unwrap();
        let given = [&["verify", "--json", "--state-dir", state], args, &[url.as_str()]].concat();
        Verdict::of(server::run(dir.path(), &variables, &given))
    };
    let shipped = Proxy::nginx(&server);
    let verdict = through(&shipped, &server, &["--idle", "2.5"]);
    verdict.is("websocket", "ok", "wss://localhost").is("round-trip", "ok", "received");
    verdict.is("idle", "ok", "").is("addresses", "ok", "X-Forwarded-For is used");
    verdict.is("headers", "ok", "strict-transport-security").is("certificate", "warn", "days (");
    verdict.code(0);

    let without = Server::with_auth(&[]);
    let verdict = through(&Proxy::nginx(&without), &without, &[]);
    verdict.code(0).is("addresses", "warn", "does not use X-Forwarded-For");

    let upgrade = [("proxy_set_header Upgrade $http_upgrade;", "")];
    let verdict = through(&Proxy::nginx_edited(&server, &upgrade), &server, &[]);
    verdict.code(4).is("websocket", "fail", "Upgrade $http_upgrade").is("health", "ok", "");

    let bare = [
        ("proxy_read_timeout 3600s;", "proxy_read_timeout 1s;"),
        ("add_header Strict-Transport-Security", "add_header X-Nothing"),
    ];
    let verdict = through(&Proxy::nginx_edited(&server, &bare), &server, &["--idle", "2.5"]);
    verdict.code(4).is("idle", "fail", "proxy_read_timeout").is(
        "headers",
        "warn",
        "strict-transport",
    );

    let mut gone = Server::start();
    let proxy = Proxy::nginx(&gone);
    gone.terminate();
    let verdict = through(&proxy, &gone, &[]);
    verdict.code(4).is("health", "fail", "HTTP 502").is("health", "fail", "upstream");
}

/// Answers each request as a server would whose clock is this much behind.
fn late(seconds: i64) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.read(&mut [0; 4096]);
            let mut date = Command::new("date");
            date.args(["-u", "-d", &format!("@{}", token::now() - seconds), "+%Y-%m-%dT%H:%M:%SZ"]);
            let time = foreign::text(&mut date);
            let time = time.trim();
            let body = format!(
                "{{\"status\":\"healthy\",\"timestamp\":\"{time}\",\"checks\":{{}},\"metrics\":{{}}}}"
            );
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all((head + &body).as_bytes());
        }
    });
    address
}

#[test]
fn a_clock_that_is_wrong_fails() {
    let far = format!("http://{}", late(3600));
    Verdict::outside(&[], &[&far]).code(4).is("clock", "fail", "59 min");
    let near = format!("http://{}", late(5));
    Verdict::outside(&[], &[&near]).is("clock", "warn", "NTP");
    let right = format!("http://{}", late(0));
    Verdict::outside(&[], &[&right]).is("clock", "ok", "agrees");
}
