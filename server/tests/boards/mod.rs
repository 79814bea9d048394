//! The boards of `deploy/grafana` are made here, from the table of metrics and the panels of `panels.rs`: this compares
//! them, and rewrites them if asked to. `UPDATE_DOCS=1 cargo test -p mahavishnu boards` writes them anew.
//!
//! That their queries have data in a real Prometheus is seen by `tests/tests/boards.rs`.

mod alerts;
mod panels;

use std::{collections::BTreeSet, path::Path};

use mahavishnu_core::metrics::{FAMILIES, Family, Type};
use serde_json::{Value, json};

use self::panels::{Board, FLEET, OPERATIONS, Panel, Row, Show, WEBSOCKET};

const BOARDS: [&Board; 3] = [&WEBSOCKET, &OPERATIONS, &FLEET];

#[test]
fn the_boards_are_what_the_table_says() {
    for board in BOARDS {
        let path = grafana().join(board.file);
        let made = dashboard(board);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            let text = serde_json::to_string_pretty(&made).unwrap() + "\n";
            std::fs::write(&path, text).unwrap();
        }
        let present: Value =
            serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert!(
            present == made,
            "{} is out of date: run UPDATE_DOCS=1 cargo test -p mahavishnu boards",
            path.display()
        );
    }
}

#[test]
fn the_document_of_boards_is_up_to_date() {
    let mut text = String::new();
    for board in BOARDS {
        text.push_str(&format!("### {}\n\n{}\n", board.title, board.about));
        for row in board.rows {
            if !row.title.is_empty() {
                text.push_str(&format!("\n**{}**{}\n", row.title, absent(row)));
            }
            text.push_str("\n| Panel | Shows | From |\n|---|---|---|\n");
            for panel in row.panels {
                let families: Vec<_> =
                    families_of(panel).map(|family| format!("`{}`", family.name)).collect();
                let (title, says) = (panel.title, panel.says);
                text.push_str(&format!("| {title} | {says} | {} |\n", families.join(", ")));
            }
        }
        text.push('\n');
    }
    crate::docs::compare("docs/dashboards.md", "boards", &text);
}

#[test]
fn every_family_is_on_a_board() {
    let shown: BTreeSet<&str> = BOARDS
        .into_iter()
        .flat_map(|board| board.rows)
        .flat_map(|row| row.panels)
        .flat_map(|panel| families_of(panel).map(|family| family.name))
        .collect();
    let missing: Vec<_> =
        FAMILIES.iter().map(|family| family.name).filter(|name| !shown.contains(name)).collect();
    assert!(missing.is_empty(), "on no board: {missing:?}");
}

#[test]
fn the_first_board_has_the_promised_panels() {
    let titles: Vec<_> =
        WEBSOCKET.rows.iter().flat_map(|row| row.panels).map(|panel| panel.title).collect();
    assert_eq!(
        titles,
        [
            "Active Connections",
            "Message Rate (Sent)",
            "Message Rate (Received)",
            "Broadcast Rate",
            "Broadcast Latency",
            "Message Latency",
            "Connection Error Rate",
            "Message Error Rate",
        ]
    );
}

/// What Grafana needs of a board, and does not say when it is missing. Its own schema is types of TypeScript, which
/// `tests/tests/monitoring.rs` holds the files against.
#[test]
fn boards_are_whole() {
    for board in BOARDS {
        let made = dashboard(board);
        let text = made.to_string();
        let panels = made["panels"].as_array().unwrap();
        let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
        assert_eq!(ids.len(), panels.len(), "numbers of panels");
        let mut taken = BTreeSet::new();
        for panel in panels {
            let at = |name: &str| panel["gridPos"][name].as_u64().unwrap();
            assert!(at("x") + at("w") <= 24, "{panel}");
            for (x, y) in (at("x")..at("x") + at("w"))
                .flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y)))
            {
                assert!(taken.insert((x, y)), "{} lies on another", panel["title"]);
            }
            if panel["type"] == "row" {
                continue;
            }
            let targets = panel["targets"].as_array().unwrap();
            let names: BTreeSet<_> =
                targets.iter().map(|it| it["refId"].as_str().unwrap()).collect();
            assert!(!targets.is_empty() && names.len() == targets.len(), "{panel}");
            for target in targets {
                let expr = target["expr"].as_str().unwrap();
                assert!(expr.contains(SERVER), "{expr}");
                assert_eq!(expr.contains(INSTANCE), board.by_instance, "{expr}");
                assert!(expr.contains("[$interval]"), "{expr}");
            }
        }
        // Uploaded, the name of the source is put in by the import; provisioned, it is a variable.
        assert_eq!(made["__inputs"][0]["name"], "DS_PROMETHEUS");
        let variables: Vec<_> = made["templating"]["list"]
            .as_array()
            .unwrap()
            .iter()
            .map(|variable| {
                (variable["name"].as_str().unwrap(), variable["type"].as_str().unwrap())
            })
            .collect();
        let mut expected = vec![("DS_PROMETHEUS", "datasource"), ("server", "query")];
        expected.extend(board.by_instance.then_some(("instance", "query")));
        expected.push(("interval", "interval"));
        assert_eq!(variables, expected);
        assert!(!text.contains("NaN") && !text.contains("null"), "{text}");
    }
}

fn grafana() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/grafana")
}

/// Families that a panel's expressions name, in the order of the table.
fn families_of(panel: &Panel) -> impl Iterator<Item = &'static Family> + use<> {
    let text: String = panel.shows.iter().map(|show| target(show, true).0 + " ").collect();
    FAMILIES.iter().filter(move |family| {
        let mut words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        words.any(|word| word.strip_suffix("_bucket").unwrap_or(word) == family.name)
    })
}

fn absent(row: &Row) -> String {
    row.needs.map_or_else(String::new, |what| format!(" Empty without {what}."))
}

fn dashboard(board: &Board) -> Value {
    let mut panels = Vec::new();
    let mut y = 0;
    for row in board.rows {
        if !row.title.is_empty() {
            panels.push(json!({
                "id": panels.len() + 1, "type": "row", "title": row.title, "collapsed": false,
                "gridPos": { "h": 1, "w": 24, "x": 0, "y": y }, "panels": [],
            }));
            y += 1;
        }
        for (number, panel) in row.panels.iter().enumerate() {
            let (column, line) = (number % board.columns, number / board.columns);
            let width = 24 / board.columns;
            let place =
                json!({ "h": HEIGHT, "w": width, "x": column * width, "y": y + line * HEIGHT });
            panels.push(graph(panels.len() + 1, board, row, panel, place));
        }
        y += row.panels.len().div_ceil(board.columns) * HEIGHT;
    }
    json!({
        "__inputs": [{
            "name": "DS_PROMETHEUS", "label": "Prometheus", "description": "", "type": "datasource",
            "pluginId": "prometheus", "pluginName": "Prometheus",
        }],
        "__requires": [
            { "type": "grafana", "id": "grafana", "name": "Grafana", "version": "9.5.0" },
            { "type": "datasource", "id": "prometheus", "name": "Prometheus", "version": "1.0.0" },
            { "type": "panel", "id": "timeseries", "name": "Time series", "version": "" },
        ],
        "annotations": { "list": [] },
        "description": board.about,
        "editable": true,
        "fiscalYearStartMonth": 0,
        "graphTooltip": 1,
        "links": [],
        "liveNow": false,
        "panels": panels,
        "refresh": "5s",
        "schemaVersion": 38,
        "tags": ["mahavishnu", "websocket"],
        "templating": { "list": variables(board) },
        "time": { "from": "now-1h", "to": "now" },
        "timepicker": {},
        "timezone": "",
        "title": board.title,
        "uid": board.uid,
        "version": 1,
        "weekStart": "",
    })
}

const HEIGHT: usize = 8;

fn source() -> Value {
    json!({ "type": "prometheus", "uid": "${DS_PROMETHEUS}" })
}

/// What every query is narrowed by.
const SERVER: &str = r#"server=~"$server""#;
const INSTANCE: &str = r#"instance=~"$instance""#;

/// One, several or all of a label's values.
fn choice(name: &str, label: &str, query: &str) -> Value {
    json!({
        "name": name, "label": label, "type": "query", "datasource": source(),
        "query": { "query": query, "refId": name },
        "multi": true, "includeAll": true, "allValue": ".*",
        "current": { "text": ["All"], "value": ["$__all"], "selected": true },
        "hide": 0, "options": [], "refresh": 2, "regex": "", "skipUrlSync": false, "sort": 1,
    })
}

fn variables(board: &Board) -> Value {
    let intervals = ["5m", "10m", "30m", "1h", "6h", "12h", "1d"];
    let option = |text: &&str| json!({ "text": text, "value": text, "selected": *text == "5m" });
    let server = choice("server", "Server", "label_values(websocket_connections_active, server)");
    let instances = format!("label_values(websocket_connections_active{{{SERVER}}}, instance)");
    let instance = choice("instance", "Instance", &instances);
    let data_source = json!({
        "name": "DS_PROMETHEUS", "label": "Data source", "type": "datasource", "query": "prometheus",
        "hide": 0, "includeAll": false, "multi": false, "options": [], "refresh": 1, "regex": "",
        "skipUrlSync": false,
    });
    let interval = json!({
        "name": "interval", "label": "Interval", "type": "interval", "query": intervals.join(","),
        "current": { "text": "5m", "value": "5m", "selected": true },
        "hide": 0, "options": intervals.iter().map(option).collect::<Vec<_>>(), "refresh": 2,
        "skipUrlSync": false,
    });
    match board.by_instance {
        true => json!([data_source, server, instance, interval]),
        false => json!([data_source, server, interval]),
    }
}

fn graph(id: usize, board: &Board, row: &Row, panel: &Panel, place: Value) -> Value {
    let help: String = families_of(panel)
        .map(|family| format!("\n\n`{}`: {}.", family.name, family.help))
        .collect();
    let targets: Vec<_> = panel
        .shows
        .iter()
        .flat_map(|show| targets(show, panel.shows.len() == 1))
        .zip('A'..='Z')
        .map(|((expr, legend), name)| {
            let expr = match board.by_instance {
                true => expr.replace(SERVER, &format!("{SERVER},{INSTANCE}")),
                false => expr,
            };
            json!({
                "refId": name.to_string(), "datasource": source(), "editorMode": "code", "expr": expr,
                "legendFormat": legend, "range": true,
            })
        })
        .collect();
    json!({
        "id": id, "type": "timeseries", "title": panel.title, "datasource": source(), "gridPos": place,
        "description": format!("{}{}{help}", panel.says, absent(row)),
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "color": { "mode": "palette-classic" },
                "custom": {
                    "drawStyle": "line", "lineInterpolation": "linear", "lineWidth": 1, "fillOpacity": 10,
                    "showPoints": "never", "spanNulls": false, "axisSoftMin": 0,
                },
            },
            "overrides": [],
        },
        "options": {
            "legend": {
                "displayMode": "table", "placement": "bottom", "showLegend": true,
                "calcs": ["lastNotNull", "max"],
            },
            "tooltip": { "mode": "multi", "sort": "desc" },
        },
        "targets": targets,
    })
}

/// What a panel asks, and how it calls the answers: three quantiles of a histogram, one of everything else. The labels say
/// enough where the question is alone on its panel, else the family's name is added.
fn targets(show: &Show, alone: bool) -> Vec<(String, String)> {
    let Show::Quantiles(..) = show else { return vec![target(show, alone)] };
    let (expr, legend) = target(show, alone);
    [("0.50", "p50"), ("0.95", "p95"), ("0.99", "p99")]
        .map(|(quantile, name)| (expr.replace("QUANTILE", quantile), format!("{name} {legend}")))
        .into()
}

fn target(show: &Show, alone: bool) -> (String, String) {
    let by = |name, labels: &[&str], matcher| by(name, labels, matcher, alone);
    match *show {
        Show::All(name) => {
            let labels: Vec<_> = [&["server", "instance"], &family(name).labels[1..]].concat();
            by(name, &labels, "")
        }
        Show::By(name, labels) => by(name, labels, ""),
        Show::Of(name, labels, matcher) => by(name, labels, matcher),
        Show::Peak(name, labels) => {
            let (expr, legend) = by(name, labels, "");
            (expr.replace("last_over_time", "max_over_time"), format!("{legend}, most"))
        }
        Show::Quantiles(name, labels) => {
            let rate = format!(r#"rate({name}_bucket{{server=~"$server"}}[$interval])"#);
            let grouped = [&["le"], labels].concat().join(", ");
            let expr = format!("histogram_quantile(QUANTILE, sum by ({grouped}) ({rate}))");
            (expr, legend(labels, ""))
        }
        Show::As(expr, name) => {
            let expr = expr.replace("{", r#"{server=~"$server","#).replace(",}", "}");
            (expr, name.to_owned())
        }
    }
}

/// Sums over all labels but these: rates of what only grows, else what there is at present.
fn by(name: &'static str, labels: &[&str], matcher: &str, alone: bool) -> (String, String) {
    let function = match family(name).kind {
        Type::Counter => "rate",
        Type::Gauge => "last_over_time",
        Type::Histogram => panic!("{name} is a histogram: show quantiles"),
    };
    let more = if matcher.is_empty() { String::new() } else { format!(",{matcher}") };
    let grouped = labels.join(", ");
    let expr =
        format!(r#"sum by ({grouped}) ({function}({name}{{server=~"$server"{more}}}[$interval]))"#);
    (expr, legend(labels, if alone { "" } else { name }))
}

fn legend(labels: &[&str], name: &str) -> String {
    let short = name.trim_start_matches("mahavishnu_").trim_start_matches("websocket_");
    let short = short.trim_end_matches("_total");
    let names: Vec<_> = labels.iter().map(|label| format!("{{{{{label}}}}}")).collect();
    if short.is_empty() { names.join(" ") } else { format!("{} {short}", names.join(" ")) }
}

#[track_caller]
fn family(name: &str) -> &'static Family {
    FAMILIES.iter().find(|family| family.name == name).unwrap_or_else(|| panic!("no family {name}"))
}
