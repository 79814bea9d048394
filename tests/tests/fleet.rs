//! All services of the family: each alone by `--service`, and all of them in one process.

use mahavishnu_tests::{
    Client, Metrics, Raw, Server,
    fleet::{Fleet, SERVICES, secret_of},
    http, server, token, wait,
};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Service, `server` and `message` of its welcome, and how its data ends without TLS.
const WELCOMES: [(&str, &str, &str, &str); 6] = [
    (
        "mahavishnu",
        "mahavishnu",
        "Connected to Mahavishnu orchestration",
        r#","secure":false,"rate_limit":100"#,
    ),
    (
        "crackerjack",
        "crackerjack",
        "Connected to Crackerjack quality monitoring",
        r#","tls_mode":"WS""#,
    ),
    ("dhruva", "dhruva", "Connected to Dhara adapter distribution", r#","tls_mode":"WS""#),
    ("excalidraw", "excalidraw", "Connected to Excalidraw collaboration", r#","tls_mode":"WS""#),
    ("fastblocks", "fastblocks", "Connected to Fastblocks UI update stream", r#","tls_mode":"WS""#),
    ("akosha", "akosha", "Connected to Akosha pattern detection", r#","secure":false"#),
];

fn value(metrics: &Metrics, name: &str, label: &str) -> Option<f64> {
    let mut samples = metrics.samples().filter(|sample| sample.name == name);
    samples.find(|sample| sample.labels["server"] == label).map(|sample| sample.value)
}

/// The first message, byte for byte but for its id, its time and the connection's name.
fn welcome(mut raw: Raw) -> String {
    let text = raw.frame().map(|frame| String::from_utf8(frame.payload).unwrap()).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    ["/id", "/data/connection_id", "/timestamp"].iter().fold(text, |text, member| {
        let told = value.pointer(member).and_then(Value::as_str).unwrap();
        text.replace(&format!("\"{told}\""), "\"…\"")
    })
}

fn expected_welcome(server: &str, message: &str, end: &str) -> String {
    format!(
        r#"{{"id":"…","correlation_id":null,"type":"event","event":"session.created","data":{{"connection_id":"…","server":"{server}","message":"{message}","authenticated":false{end}}},"timestamp":"…","room":null,"error_code":null,"error_message":null}}"#
    )
}

#[test]
fn all_services_run_in_one_process_each_as_itself() {
    let fleet = Fleet::start(&[], &[], "");
    for (service, server, message, end) in WELCOMES {
        let raw = Raw::upgrade(
            mahavishnu_tests::stream::connect(None, fleet.address(service), None).unwrap(),
        );
        assert_eq!(welcome(raw), expected_welcome(server, message, end), "{service}");
    }
    // One has a protocol of its own.
    let stream = mahavishnu_tests::stream::connect(None, fleet.address("session-buddy"), None);
    let frame = Raw::upgrade(stream.unwrap()).frame().unwrap();
    let connected: Value = serde_json::from_slice(&frame.payload).unwrap();
    assert_eq!(connected["type"], "connected");
    assert_eq!(connected["message"], "Connected to Session-Buddy real-time metrics");
    for (service, _) in SERVICES {
        let health = http::get(fleet.address(service), "/health").json();
        assert_eq!(health["server"], service, "{health}");
    }
    let banner = fleet.process.log();
    for (service, _) in SERVICES {
        let at = format!("ws://{}", fleet.address(service));
        assert!(
            banner.lines().any(|line| line.contains(service) && line.contains(&at)),
            "{banner}"
        );
        // A line of one service says whose it is.
        let line = format!("service{{server=\"{service}\"}}: listening");
        assert!(banner.contains(&line), "{line} in\n{banner}");
    }
}

#[test]
fn metrics_are_told_under_the_label_of_their_service_and_no_other() {
    let fleet = Fleet::start(&[], &[], "");
    let mut clients: Vec<Client> = Vec::new();
    for (service, count) in [("crackerjack", 3), ("akosha", 1)] {
        for _ in 0..count {
            let mut client = fleet.client(service);
            client.expect_welcome();
            clients.push(client);
        }
    }
    let active =
        |at: &str, label: &str| value(&fleet.metrics(at), "websocket_connections_active", label);
    wait::until("connections", || {
        (active("crackerjack", "crackerjack") == Some(3.0)).then_some(())
    });
    wait::until("connections", || (active("akosha", "akosha") == Some(1.0)).then_some(()));
    assert_eq!(active("mahavishnu", "mahavishnu"), Some(0.0));
    for (service, _) in SERVICES {
        let metrics = fleet.metrics(service);
        let labels: std::collections::BTreeSet<_> =
            metrics.samples().map(|sample| sample.labels["server"].as_str()).collect();
        assert_eq!(labels, [service, "fleet"].into(), "{}", metrics.text());
        let memory = value(&metrics, "process_resident_memory_bytes", "fleet");
        assert!(memory.is_some_and(|bytes| bytes > 1e6));
    }
}

#[test]
fn one_metrics_port_has_all_services() {
    let (port, _) = server::free_ports();
    let fleet = Fleet::start(&["--metrics-port", &port.to_string()], &[], "");
    let address = std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, port));
    let metrics = Metrics::parse(&http::get(address, "/metrics").text());
    for (service, _) in SERVICES {
        let active = value(&metrics, "websocket_connections_active", service);
        assert_eq!(active, Some(0.0), "{service}");
        assert!(http::try_get(fleet.metrics_address(service), "/metrics").is_err(), "{service}");
    }
    assert!(value(&metrics, "process_cpu_seconds_total", "fleet").is_some());
}

/// What a client may do that has this token: each channel, and whether it may be subscribed to.
fn channels(fleet: &Fleet, service: &str, claims: &Value, rows: &[(&str, bool)]) {
    let text = token::sign_with(&secret_of(service), None, claims);
    let mut client = fleet.client(service);
    let answer = client.request("auth", json!({ "token": text }));
    assert_eq!(answer["data"]["status"], "authenticated", "{service}: {answer}");
    client.expect_welcome();
    for (channel, allowed) in rows {
        let answer = client.request("subscribe", json!({ "channel": channel }));
        let subscribed = answer["data"]["status"] == "subscribed";
        assert_eq!(subscribed, *allowed, "{service} {claims} {channel}: {answer}");
        if !allowed {
            assert_eq!(answer["error_code"], "FORBIDDEN", "{answer}");
        }
    }
}

#[test]
fn permissions_are_those_of_each_service_by_tokens_as_it_makes_them() {
    let fleet = Fleet::with_auth(&[], "");
    // Crackerjack's own: without exp, with an issuer and an audience.
    let scopes = |scopes: &[&str]| json!({ "sub": "ci", "iss": "crackerjack", "aud": "crackerjack", "scopes": scopes });
    channels(
        &fleet,
        "crackerjack",
        &scopes(&["crackerjack:read"]),
        &[("test:1", true), ("quality:p", true), ("coverage", false), ("global", false)],
    );
    channels(
        &fleet,
        "crackerjack",
        &scopes(&["Crackerjack: Admin"]),
        &[("coverage", true), ("global", true)],
    );
    // And as its earlier helper made them.
    let helper = |permissions: &[&str]| token::claims("ada", permissions);
    channels(&fleet, "crackerjack", &helper(&["admin"]), &[("coverage", true), ("test:1", true)]);
    for service in ["excalidraw", "fastblocks"] {
        let rooms = match service {
            "excalidraw" => ["diagram:1", "cursor:1", "presence:1"],
            _ => ["ui:1", "component:1", "state"],
        };
        let rows = |allowed: bool| rooms.map(|room| (room, allowed));
        channels(
            &fleet,
            service,
            &helper(&["admin"]),
            &[&rows(false)[..], &[("global", false)]].concat(),
        );
        let read = format!("{service}:read");
        channels(
            &fleet,
            service,
            &helper(&[&read]),
            &[&rows(true)[..], &[("global", false)]].concat(),
        );
        let admin = format!("{service}:admin");
        channels(
            &fleet,
            service,
            &helper(&[&admin]),
            &[&rows(true)[..], &[("global", true)]].concat(),
        );
    }
    channels(
        &fleet,
        "mahavishnu",
        &helper(&["workflow:read", "team:read"]),
        &[("workflow:1", true), ("goal-teams:ada", true), ("pool:1", false), ("global", false)],
    );
    channels(
        &fleet,
        "akosha",
        &helper(&["akosha:read"]),
        &[
            ("patterns:x", true),
            ("anomalies", true),
            ("insights", true),
            ("metrics", true),
            ("pattern:x", true),
            ("global", false),
        ],
    );
    channels(
        &fleet,
        "dhruva",
        &helper(&["dhruva:read"]),
        &[("adapter:1", true), ("storage:s3", true), ("distribution", true), ("global", false)],
    );
}

#[test]
fn a_token_of_one_service_is_none_of_another() {
    let fleet = Fleet::with_auth(&[], "");
    let mut client = fleet.client("akosha");
    let crackerjacks =
        token::sign_with(&secret_of("crackerjack"), None, &token::claims("a", &["admin"]));
    client.ask("auth", json!({ "token": crackerjacks }));
    client.expect_error("AUTH_FAILED");
    assert_eq!(client.expect_close(1008), "Authentication failed");
    // With its own secret, but for another audience.
    let mut client = fleet.client("crackerjack");
    let mut claims = token::claims("a", &["admin"]);
    claims["aud"] = json!("akosha");
    client.ask(
        "auth",
        json!({ "token": token::sign_with(&secret_of("crackerjack"), None, &claims) }),
    );
    client.expect_error("AUTH_FAILED");
}

#[test]
fn tokens_are_made_for_a_service() {
    let fleet = Fleet::with_auth(&[], "");
    let made = fleet.run(&[
        "token",
        "create",
        "--service",
        "crackerjack",
        "--user",
        "ci",
        "--permission",
        "crackerjack:read",
    ]);
    assert_eq!(made.code, Some(0), "{made:?}");
    let token = made.stdout.trim();
    let inspected = fleet.run(&["token", "inspect", "--service", "crackerjack", token]);
    assert!(inspected.stdout.contains("crackerjack"), "{inspected:?}");
    let mut client = fleet.client("crackerjack");
    let answer = client.request("auth", json!({ "token": token }));
    assert_eq!(answer["data"]["status"], "authenticated", "{answer}");
}

#[test]
fn a_fleet_without_secrets_does_not_start_and_says_of_whom() {
    let dir = tempfile::tempdir().unwrap();
    let dev = [("AKOSHA_JWT_SECRET", "dev-secret-change-in-production")];
    let done = server::run(
        dir.path(),
        &dev,
        &["fleet", "start", "--auth-enabled", "true", "--only", "akosha,dhruva"],
    );
    assert_eq!(done.code, Some(5), "{done:?}");
    assert!(done.stderr.contains("mahavishnu: akosha: MAHAVISHNU_JWT_SECRET: "), "{done:?}");
    assert!(
        done.stderr
            .contains("mahavishnu: dhruva: MAHAVISHNU_AUTH_ENABLED: is true, but there is no key"),
        "{done:?}"
    );
}

#[test]
fn ports_that_are_taken_are_named_with_whose_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let clash = [("AKOSHA_PORT", "8684"), ("AKOSHA_METRICS_PORT", "9098")];
    let done = server::run(dir.path(), &clash, &["fleet", "start"]);
    assert_eq!(done.code, Some(5), "{done:?}");
    for line in [
        "fastblocks: FASTBLOCKS_PORT is 8684, and so is AKOSHA_PORT; set one of them to another port",
        "dhruva: DHRUVA_METRICS_PORT is 9098, and so is AKOSHA_METRICS_PORT; set one of them to another port",
    ] {
        assert!(done.stderr.contains(line), "{done:?}");
    }
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port().to_string();
    let taken = [("AKOSHA_PORT", port.as_str()), ("AKOSHA_METRICS_PORT", "0")];
    let done = server::run(dir.path(), &taken, &["fleet", "start", "--only", "akosha"]);
    let line = format!(
        "akosha: cannot listen on 127.0.0.1:{port}: Address already in use; another program listens there: stop it or choose another AKOSHA_PORT"
    );
    assert!(done.stderr.contains(&line), "{done:?}");
}

#[test]
fn a_status_tells_of_each_and_a_stop_ends_all() {
    let mut fleet = Fleet::start(&[], &[], "");
    let _client = {
        let mut client = fleet.client("dhruva");
        client.expect_welcome();
        client
    };
    let status = wait::until("the connection", || {
        let done = fleet.run(&["fleet", "status", "--json"]);
        assert_eq!(done.code, Some(0), "{done:?}");
        let status: Value = serde_json::from_str(&done.stdout).unwrap();
        let dhruva =
            status["services"].as_array()?.iter().find(|one| one["service"] == "dhruva")?;
        (dhruva["connections"] == 1).then(|| status.clone())
    });
    assert_eq!((&status["status"], &status["pid"]), (&json!("running"), &json!(fleet.pid())));
    let services = status["services"].as_array().unwrap();
    assert_eq!(services.len(), SERVICES.len());
    for one in services {
        let name = one["service"].as_str().unwrap();
        assert!(one["healthy"] == true && one["ready"] == true, "{one}");
        assert_eq!(one["url"], format!("http://{}", fleet.address(name)), "{one}");
    }
    let words = fleet.run(&["fleet", "status"]);
    assert_eq!(words.stdout.lines().count(), SERVICES.len() + 1, "{words:?}");
    let stopped = fleet.run(&["fleet", "stop"]);
    assert_eq!(
        (stopped.code, stopped.stdout),
        (Some(0), format!("stopped (pid {})\n", fleet.pid()))
    );
    assert_eq!(fleet.process.wait().code(), Some(0));
    assert_eq!(fleet.run(&["fleet", "status"]).code, Some(2));
    let log = fleet.process.log();
    assert_eq!(log.matches(": stopped").count(), SERVICES.len(), "{log}");
}

#[test]
fn a_reload_is_of_all_or_of_none() {
    let fleet = Fleet::start(&[], &[], "");
    let rate = |service: &str| {
        let mut client = fleet.client(service);
        client.expect_welcome()["data"]["rate_limit"].clone()
    };
    assert_eq!(rate("mahavishnu"), 100);
    fleet.write_file("MAHAVISHNU_MESSAGE_RATE_LIMIT=7\nAKOSHA_MAX_CONNECTIONS=many\n");
    let refused = fleet.run(&["fleet", "reload"]);
    assert_eq!(refused.code, Some(5), "{refused:?}");
    assert!(
        refused.stderr.contains("akosha: AKOSHA_MAX_CONNECTIONS: \"many\" is not allowed"),
        "{refused:?}"
    );
    assert_eq!(rate("mahavishnu"), 100, "nothing of it counts");
    fleet.write_file("MAHAVISHNU_MESSAGE_RATE_LIMIT=7\nMAHAVISHNU_HISTORY=5/60\n");
    let done = fleet.run(&["fleet", "reload"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(rate("mahavishnu"), 7);
    for (service, _) in SERVICES {
        wait::until(service, || {
            let generation =
                value(&fleet.metrics(service), "mahavishnu_config_generation", service);
            (generation == Some(1.0)).then_some(())
        });
    }
}

#[test]
fn the_log_of_a_fleet_says_whose_each_line_is() {
    let mut fleet = Fleet::start(&["--log-format", "json"], &[], "");
    for (service, _) in SERVICES {
        wait::until("the service", || http::try_get(fleet.address(service), "/health").ok());
    }
    fleet.process.signal(Signal::TERM);
    assert_eq!(fleet.process.wait().code(), Some(0));
    let log = fleet.process.log();
    let lines = log.lines().map(|line| line.trim_start_matches(server::STDERR));
    let lines: Vec<Value> =
        lines.map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    for (service, _) in SERVICES {
        for message in ["listening", "stopping", "stopped"] {
            let found =
                lines.iter().filter(|line| line["message"] == message && line["server"] == service);
            assert_eq!(found.count(), 1, "{service} {message} in\n{log}");
        }
    }
}

#[test]
fn what_is_published_to_one_service_is_heard_by_none_other() {
    let fleet = Fleet::start(&["--only", "crackerjack,akosha"], &[], "");
    let mut clients = ["crackerjack", "akosha"].map(|service| {
        let mut client = fleet.client(service);
        client.expect_welcome();
        client.subscribe("test:1");
        client
    });
    let body = json!({ "channel": "test:1", "event": "test.started", "data": { "run_id": "1" } });
    let answer = http::post(fleet.address("crackerjack"), "/publish", &[], &body.to_string());
    assert_eq!(answer.json()["subscribers"], 1, "{}", answer.text());
    assert_eq!(clients[0].message()["event"], "test.started");
    clients[1].expect_silence();
}

#[test]
fn a_history_directory_keeps_each_services_channels_over_restarts() {
    let keep = tempfile::tempdir().unwrap();
    let dir = keep.path().display().to_string();
    let flags = ["--only", "crackerjack,akosha", "--history-dir", &dir];
    let mut fleet = Fleet::start(&flags, &[], "");
    let body = json!({ "channel": "test:1", "event": "e", "data": { "n": 1 } }).to_string();
    assert_eq!(http::post(fleet.address("crackerjack"), "/publish", &[], &body).status, 200);
    fleet.process.signal(Signal::TERM);
    assert_eq!(fleet.process.wait().code(), Some(0));
    drop(fleet);
    let fleet = Fleet::start(&flags, &[], "");
    let kept = |service: &str| {
        let answer = http::get(fleet.address(service), "/history?channel=test:1");
        answer.json()["events"].as_array().map(Vec::len)
    };
    assert_eq!((kept("crackerjack"), kept("akosha")), (Some(1), Some(0)));
}

/// One service alone, as its existing installation starts it.
#[test]
fn one_service_alone_has_its_own_variables_and_ports() {
    let (port, metrics) = server::free_ports();
    let variables = [
        ("CRACKERJACK_PORT", port.to_string()),
        ("CRACKERJACK_METRICS_PORT", metrics.to_string()),
        ("CRACKERJACK_AUTH_ENABLED", "yes".to_owned()),
        ("CRACKERJACK_JWT_SECRET", token::SECRET.to_owned()),
    ];
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let own =
        [("SERVICE", "crackerjack"), ("PORT", variables[0].1), ("METRICS_PORT", variables[1].1)];
    let server = Server::with_variables(&own, &variables);
    let claims = json!({ "sub": "ci", "iss": "crackerjack", "aud": "crackerjack", "scopes": ["crackerjack:read"] });
    let mut client = server.client();
    let answer = client.request("auth", json!({ "token": token::sign(&claims) }));
    assert_eq!(answer["data"], json!({ "status": "authenticated", "user_id": "ci" }), "{answer}");
    let welcome = client.expect_welcome();
    assert_eq!(welcome["data"]["tls_mode"], "WS");
    assert_eq!(welcome["data"]["server"], "crackerjack");
    let metrics = server.metrics();
    assert!(metrics.samples().all(|sample| sample.labels["server"] == "crackerjack"));
    let shown = server.run(&["config", "show"]).stdout;
    for line in [
        "MAHAVISHNU_AUTH_ENABLED=true  # environment, as CRACKERJACK_AUTH_ENABLED",
        "MAHAVISHNU_MAX_CONNECTIONS=1000  # service crackerjack",
        "MAHAVISHNU_JWT_AUDIENCE=crackerjack  # service crackerjack",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line} in\n{shown}");
    }
}

#[test]
fn a_service_that_does_not_exist_yet_joins_the_fleet_by_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let shown = server::run(dir.path(), &[], &["service", "show", "crackerjack", "--toml"]);
    assert_eq!(shown.code, Some(0), "{shown:?}");
    let mine = shown.stdout.replace("crackerjack", "mine").replace("CRACKERJACK", "MINE");
    let file = dir.path().join("mine.toml");
    std::fs::write(&file, mine).unwrap();
    let (port, metrics) = server::free_ports();
    let (port, metrics) = (port.to_string(), metrics.to_string());
    let flags = ["--only", "akosha", "--with", file.to_str().unwrap()];
    let fleet = Fleet::start(&flags, &[("MINE_PORT", &port), ("MINE_METRICS_PORT", &metrics)], "");
    let status: Value =
        serde_json::from_str(&fleet.run(&["fleet", "status", "--json"]).stdout).unwrap();
    let names: Vec<_> =
        status["services"].as_array().unwrap().iter().map(|one| one["service"].clone()).collect();
    assert_eq!(names, ["akosha", "mine"], "{status}");
    let address =
        std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, port.parse().unwrap()));
    assert_eq!(http::get(address, "/health").json()["server"], "mine");
}

#[test]
fn services_are_listed_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| server::run(dir.path(), &[], args);
    let list = run(&["service", "list"]);
    assert_eq!(list.stdout.lines().count(), SERVICES.len() + 1, "{list:?}");
    for (service, prefix) in SERVICES {
        assert!(
            list.stdout.lines().any(|line| line.starts_with(service) && line.contains(prefix)),
            "{list:?}"
        );
        let shown = run(&["service", "show", service]);
        assert_eq!(shown.code, Some(0), "{shown:?}");
        let json = run(&["service", "show", service, "--json"]);
        let json: Value = serde_json::from_str(&json.stdout).unwrap();
        assert_eq!(json["name"], service);
    }
    let json = run(&["service", "list", "--json"]);
    assert_eq!(json.stdout.lines().count(), SERVICES.len());
    assert_eq!(run(&["service", "show", "nobody"]).code, Some(5));
}
