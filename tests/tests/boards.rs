//! Every query of Grafana's boards has data in a Prometheus that scrapes servers under load. The boards themselves are made
//! and compared in `server/tests/boards`.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use mahavishnu_tests::{Cluster, Server, certs::Authority, cluster::Setup, prometheus::Prometheus};
use serde_json::{Value, json};

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

/// How long it may take until there are two scrapes of everything: some seconds, but for a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(120);

/// A query of a board.
struct Query {
    board: &'static str,
    panel: String,
    legend: String,
    expression: String,
    needs: Option<String>,
}

fn queries() -> Vec<Query> {
    let mut queries = Vec::new();
    for file in BOARDS {
        let board: Value = serde_json::from_str(&read(&deploy(file))).unwrap();
        for panel in board["panels"].as_array().unwrap() {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let said = text(&panel["description"]);
            let needs =
                said.split_once("Empty without ").and_then(|(_, rest)| rest.split_once('.'));
            for target in panel["targets"].as_array().into_iter().flatten() {
                queries.push(Query {
                    board: file.rsplit('/').next().unwrap(),
                    panel: text(&panel["title"]),
                    legend: text(&target["legendFormat"]),
                    expression: text(&target["expr"]),
                    needs: needs.map(|(what, _)| what.to_owned()),
                });
            }
        }
    }
    queries
}

/// Publishes, recovers, compresses and is refused, for as long as `again` says.
fn load(servers: &[&Server], mut again: impl FnMut() -> bool) {
    let mut clients: Vec<_> = servers.iter().map(|server| server.hello()).collect();
    clients.iter_mut().for_each(|client| client.subscribe("workflow:42"));
    let mut n = 0;
    while again() {
        for (server, client) in servers.iter().zip(&mut clients) {
            server.post("workflow:42", "e", &json!({ "n": n, "text": "x".repeat(500) }));
            client.request("no_such", json!({}));
            client.send(&json!({ "type": "ack" }));
            drop(server.hello());
        }
        n += 1;
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Every question of both boards, put to a Prometheus that scrapes a node with TLS and Redis and a server with a history
/// file. `UPDATE_DOCS=1` writes what came of it into docs/dashboards.md.
#[test]
fn every_query_of_the_boards_has_data() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path(), "root");
    let files = authority.server("server");
    let node = [
        ("TLS_PLAIN", "loopback"),
        ("MEMORY_LIMIT", "512M"),
        ("INGRESS_STREAM", "mahavishnu:ingress"),
    ];
    let settings = [&files.settings()[..], &node].concat();
    let cluster = Cluster::of(&Setup { size: 1, settings, ..Setup::default() });
    let alone = Server::with_variables(
        &[("HISTORY_FILE", "history"), ("DEFLATE", "true")],
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")],
    );
    let servers = [&cluster.nodes[0], &alone];
    let prometheus = Prometheus::of(&servers);
    let expression = |query: &Query| {
        let all = query.expression.replace("$server", ".*").replace("$instance", ".*");
        all.replace("$interval", "1m")
    };
    let queries = queries();
    assert!(queries.len() > 80, "{}", queries.len());

    // With what it takes longest for, rates are there for everything.
    let patience = Instant::now() + PATIENCE;
    let mut next = Instant::now();
    let slowest: Vec<_> = queries
        .iter()
        .filter(|query| query.expression.contains("histogram_quantile"))
        .map(expression)
        .collect();
    load(&servers, || {
        if Instant::now() < next {
            return true;
        }
        let has =
            |query: &String| prometheus.query(query).iter().any(|(_, value)| value.is_finite());
        let missing: Vec<_> = slowest.iter().filter(|query| !has(query)).collect();
        assert!(Instant::now() < patience, "no rates: {missing:?}");
        next = Instant::now() + Duration::from_millis(500);
        !missing.is_empty()
    });

    let mut empty = Vec::new();
    let mut table =
        String::from("| Board, panel | Line | Query | Series | A value |\n|---|---|---|---|---|\n");
    let (with_redis, plain) =
        (servers[0].metrics_address().to_string(), servers[1].metrics_address().to_string());
    for query in &queries {
        let found = prometheus.query(&expression(query));
        let finite = found.iter().map(|(_, value)| *value).filter(|value| value.is_finite());
        let Some(value) = finite.reduce(f64::max) else {
            empty.push(format!("{}: {} {found:?}", query.panel, query.expression));
            continue;
        };
        // What a panel says to be empty is.
        let absent = match query.needs.as_deref() {
            Some("Redis" | "TLS") => Some(&plain),
            Some("a history file" | "a collector") => Some(&with_redis),
            Some(other) => panic!("{}: without {other}", query.panel),
            None => None,
        };
        let there =
            |absent: &String| found.iter().any(|(labels, _)| labels["instance"] == **absent);
        assert!(!absent.is_some_and(there), "{} is not empty: {found:?}", query.panel);
        let code = |text: &str| format!("`{}`", text.replace('|', "\\|"));
        table.push_str(&format!(
            "| {}, {} | {} | {} | {} | {} |\n",
            query.board.trim_end_matches(".json").split('_').next().unwrap(),
            query.panel,
            code(&query.legend),
            code(&query.expression),
            found.len(),
            short(value),
        ));
    }
    assert!(empty.is_empty(), "no data:\n{}", empty.join("\n"));
    record(&table);
}

/// Four digits are enough for people.
fn short(value: f64) -> String {
    if value == 0.0 || (value.abs() >= 1000.0 && value.fract() == 0.0) {
        return format!("{value}");
    }
    let digits = 3 - value.abs().log10().floor() as i32;
    let scale = 10_f64.powi(digits);
    format!("{}", (value * scale).round() / scale)
}

/// Writes the table into its document, or sees that the document has the same queries.
fn record(table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/dashboards.md");
    let text = read(&path);
    let (before, rest) = text.split_once("<!-- live begin -->\n").unwrap();
    let (present, after) = rest.split_once("<!-- live end -->").unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let text = [before, "<!-- live begin -->\n", table, "<!-- live end -->", after].concat();
        std::fs::write(&path, text).unwrap();
        return;
    }
    let queries = |table: &str| -> Vec<String> {
        table.lines().map(|line| line.rsplitn(4, " | ").last().unwrap().to_owned()).collect()
    };
    assert_eq!(
        queries(present),
        queries(table),
        "docs/dashboards.md: UPDATE_DOCS=1 cargo test -p mahavishnu-tests boards"
    );
}
