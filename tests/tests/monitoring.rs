//! What `deploy/grafana` and `deploy/prometheus` hold, with Prometheus, Alertmanager and the types of Grafana's authors:
//! alerts fire, stay silent and arrive, and boards are boards. That their queries have data is seen by `boards.rs`.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use mahavishnu_tests::{
    Server,
    foreign::node,
    http,
    prometheus::{Alertmanager, Prometheus},
    wait,
};

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

const BOARDS: [&str; 3] = [
    "grafana/WebSocket_Monitoring.json",
    "grafana/Mahavishnu_Operations.json",
    "grafana/Mahavishnu_Fleet.json",
];

/// Whether a command succeeds, and what it says.
fn run(program: &str, args: &[&Path]) -> (bool, String) {
    let output = Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; scripts/setup-tests installs it"));
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

fn tests_of_rules() -> Vec<PathBuf> {
    let files = std::fs::read_dir(deploy("prometheus/tests")).unwrap();
    files.map(|file| file.unwrap().path()).collect()
}

fn test_rules(tests: &[PathBuf]) -> (bool, String) {
    let mut args = vec![Path::new("test"), Path::new("rules")];
    args.extend(tests.iter().map(PathBuf::as_path));
    run("promtool", &args)
}

#[test]
fn the_readers_of_the_files_find_nothing_wrong() {
    let word = Path::new;
    let (config, rules) =
        (deploy("prometheus/prometheus.yml"), deploy("prometheus/alerts/mahavishnu.yml"));
    for (program, args) in [
        ("promtool", [word("check"), word("config"), &config].to_vec()),
        ("promtool", [word("check"), word("config"), &deploy("prometheus/fleet.yml")].to_vec()),
        ("promtool", [word("check"), word("rules"), word("--lint-fatal"), &rules].to_vec()),
        ("amtool", [word("check-config"), &deploy("prometheus/alertmanager.yml")].to_vec()),
    ] {
        let (fine, said) = run(program, &args);
        assert!(fine, "{program}: {said}");
    }
}

/// Every alert fires and does not: which tests there are is checked beside the rules' table. Here they run, and notice when
/// a rule is another.
#[test]
fn alerts_fire_and_do_not() {
    let (fine, said) = test_rules(&tests_of_rules());
    assert!(fine, "{said}");

    // Nearly right rules: one fires too early, the other never, because a bare histogram has no quantile.
    let dir = tempfile::tempdir().unwrap();
    for folder in ["alerts", "tests"] {
        std::fs::create_dir(dir.path().join(folder)).unwrap();
    }
    let test = dir.path().join("tests/websocket.yml");
    std::fs::copy(deploy("prometheus/tests/websocket.yml"), &test).unwrap();
    let mut rules = read(&deploy("prometheus/alerts/mahavishnu.yml"));
    for (right, wrong) in [
        (">= 0.9 * sum", ">= 0.8 * sum"),
        (
            "sum by (le, server) (rate(websocket_latency_seconds_bucket[5m]))",
            "websocket_latency_seconds",
        ),
    ] {
        assert!(rules.contains(right), "{right}");
        rules = rules.replace(right, wrong);
    }
    std::fs::write(dir.path().join("alerts/mahavishnu.yml"), rules).unwrap();
    let (fine, said) = test_rules(&[test]);
    assert!(!fine, "{said}");
    for name in ["HighConnectionCount", "HighMessageLatency"] {
        assert!(said.contains(name), "{name} is not missed: {said}");
    }
}

/// The files as they are installed, but for addresses and the time that everything takes.
fn hurried(server: &Server, alertmanager: &Alertmanager) -> Prometheus {
    let config = read(&deploy("prometheus/prometheus.yml"))
        .replace("localhost:9090\n", &format!("{}\n", server.metrics_address()))
        .replace("localhost:9093\n", &format!("{}\n", alertmanager.address()))
        .replace("_interval: 15s", "_interval: 1s");
    let mut rules = read(&deploy("prometheus/alerts/mahavishnu.yml"));
    for (slow, fast) in [
        ("interval: 30s", "interval: 1s"),
        ("for: 1m\n", "for: 1s\n"),
        ("for: 2m\n", "for: 1s\n"),
        ("for: 5m\n", "for: 1s\n"),
        ("[5m]", "[10s]"),
        ("[15m]", "[10s]"),
    ] {
        assert!(rules.contains(slow), "{slow}");
        rules = rules.replace(slow, fast);
    }
    Prometheus::with(&[("prometheus.yml", &config), ("alerts/mahavishnu.yml", &rules)])
}

/// A server gets full, a reload is refused, and the server is killed: Prometheus sees it and Alertmanager is told, with
/// what people are to read.
#[test]
fn alerts_reach_alertmanager() {
    let mut server = Server::with_file(&[("MAX_CONNECTIONS", "3"), ("SHARDS", "1")], "");
    let alertmanager = Alertmanager::start(&deploy("prometheus/alertmanager.yml"));
    let prometheus = hurried(&server, &alertmanager);
    let scraped = || !prometheus.query("mahavishnu_ready == 1").is_empty();
    wait::until("a scrape", || scraped().then_some(()));
    wait::until("the rules", || {
        let groups = prometheus.api("rules")["groups"].clone();
        let all: Vec<_> = groups
            .as_array()?
            .iter()
            .flat_map(|it| it["rules"].as_array().unwrap().clone())
            .collect();
        assert!(all.iter().all(|rule| rule["health"] != "err"), "{groups}");
        (all.len() > 30 && all.iter().all(|rule| rule["health"] == "ok")).then_some(())
    });
    // Before the first scrape there was no server.
    wait::until("a server that is well", || prometheus.query("ALERTS").is_empty().then_some(()));

    let arrived = |name: &str| {
        wait::until(name, || {
            alertmanager.alerts().into_iter().find(|alert| alert["labels"]["alertname"] == name)
        })
    };
    let clients: Vec<_> = (0..3).map(|_| server.hello()).collect();
    let alert = arrived("HighConnectionCount");
    assert_eq!(alert["labels"]["severity"], "warning");
    let instance = server.metrics_address().to_string();
    assert_eq!(alert["labels"]["instance"], instance.as_str());
    assert_eq!(
        alert["annotations"]["description"],
        format!("3 connections on {instance}: over nine tenths of what it lets in")
    );
    assert!(
        alert["annotations"]["runbook_url"]
            .as_str()
            .unwrap()
            .ends_with("docs/runbook.md#highconnectioncount")
    );
    arrived("ServerNotReady");

    server.write_env_file("MAHAVISHNU_PING_INTERVAL=never\n");
    server.signal(rustix::process::Signal::HUP);
    arrived("ConfigReloadRefused");

    drop(clients);
    server.kill();
    assert_eq!(arrived("WebSocketServerDown")["labels"]["severity"], "critical");
}

/// While a server with a notice stops, balancers are told, and so is Prometheus.
#[test]
fn a_server_that_stops_says_so_in_its_metrics() {
    let mut server = Server::with(&[("DRAIN_NOTICE", "60")]);
    let state = |metrics: &mahavishnu_tests::Metrics| {
        (metrics.count("mahavishnu_ready", &[]), metrics.count("mahavishnu_draining", &[]))
    };
    server.metrics_when("readiness", |metrics| state(metrics) == (1, 0));
    server.signal(rustix::process::Signal::TERM);
    server.metrics_when("the notice", |metrics| state(metrics) == (0, 1));
    assert_eq!(http::get(server.address(), "/ready").status, 503);
    server.kill();
}

#[test]
fn what_the_process_takes_is_what_the_kernel_says() {
    let server = Server::with_file(&[("SHARDS", "2")], "MAHAVISHNU_MEMORY_LIMIT=512M\n");
    let clients: Vec<_> = (0..20).map(|_| server.hello()).collect();
    let metrics = server.metrics();
    let open = metrics.count("process_open_fds", &[]);
    assert!(open >= clients.len() as u64 && open < 500, "{open}");
    assert!(metrics.count("process_max_fds", &[]) > open);
    let (told, seen) = (metrics.sum("process_resident_memory_bytes", &[]), server.rss() as f64);
    assert!((told / seen - 1.0).abs() < 0.5, "{told} {seen}");
    let unix = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    let age = unix - metrics.sum("process_start_time_seconds", &[]);
    assert!((-2.0..600.0).contains(&age), "{age}");
    assert_eq!(metrics.count("mahavishnu_memory_limit_bytes", &[]), 512 << 20);

    // Budgets are those of all shards, and those of a reload take the place of the old ones.
    let budget = |metrics: &mahavishnu_tests::Metrics, part| {
        metrics.count("mahavishnu_memory_budget_bytes", &[("part", part)])
    };
    let before = budget(&metrics, "queued");
    assert!(before > 64 << 20 && before < 512 << 20, "{before}");
    server.reload("MAHAVISHNU_MEMORY_LIMIT=2G\n");
    let after = server.metrics_when("other budgets", |metrics| {
        budget(metrics, "queued") > 4 * before
            && metrics.count("mahavishnu_memory_limit_bytes", &[]) == 2 << 30
    });
    assert!(budget(&after, "queued") < 2 << 30, "{}", after.text());
    assert_eq!(budget(&after, "bus_queued"), 0, "without Redis");
}

/// Grafana's authors publish what a board is made of as types: a board that the compiler takes for one has no member of a
/// wrong name, kind or word.
#[test]
fn boards_are_what_grafana_takes_for_one() {
    for file in BOARDS {
        let path = deploy(file);
        let said = node("check_board.mjs", &[path.to_str().unwrap()]);
        assert_eq!(said.trim(), "ok", "{file}");
    }
}
