//! What the server writes in somebody else's format, read by that format's own reader, with hostile names and values in
//! it.

use std::{collections::BTreeSet, process::Command};

use mahavishnu_core::metrics::{FAMILIES, Type};
use mahavishnu_tests::{
    Server,
    foreign::{node, python},
    prometheus::{Prometheus, promtool},
    server, token,
};
use serde_json::{Value, json};

/// Names that mean something to some reader: quotes, escapes, line ends, comments, templates, other directions of
/// writing, what looks like a number, a label or the end of one.
const HOSTILE: [&str; 16] = [
    r#"a"b\c} 5"#,
    "line\nfeed 1",
    "# TYPE x counter",
    r"back\slash\n",
    r"\",
    r#"""#,
    "{le=\"+Inf\"}",
    "${HOME}",
    "$(id)`id`",
    "<script>alert(1)</script>",
    "tab\tand\u{85}\u{2028}",
    "\u{202e}txt.exe",
    "héé 漢字 🎉",
    "%00%0a",
    "'; DROP TABLE x; --",
    " blanks ",
];

/// The channels of [`HOSTILE`] that the server takes, each with one event published.
fn publish_hostile(server: &Server) -> BTreeSet<&'static str> {
    let publish = |name: &&str| {
        let body = json!({ "channel": name, "event": name, "data": { *name: name } });
        let body = body.to_string();
        let answer = mahavishnu_tests::http::post(server.address(), "/publish", &[], &body);
        assert!(matches!(answer.status, 200 | 400), "{name:?}: {}", answer.text());
        answer.status == 200
    };
    let taken: BTreeSet<_> = HOSTILE.into_iter().filter(publish).collect();
    assert!(taken.len() >= HOSTILE.len() / 2, "{taken:?}");
    taken
}

fn with_hostile_names(settings: &[(&str, &str)]) -> Server {
    let own = [("METRICS_CHANNEL_NAMES", "true"), ("SHARDS", "1"), ("SERVER_NAME", r#"a"b\c}"#)];
    Server::with(&[&own[..], settings].concat())
}

#[test]
fn prometheus_reads_every_family_and_hostile_name_back() {
    let server = with_hostile_names(&[]);
    let taken = publish_hostile(&server);
    server.metrics_when("the broadcasts", |metrics| {
        metrics.count("websocket_broadcast_total", &[]) == taken.len() as u64
    });
    let prometheus = Prometheus::start(&server);

    let found = prometheus.series("websocket_broadcast_total==1");
    let names: BTreeSet<_> = found.iter().map(|(labels, _)| labels["channel"].as_str()).collect();
    assert_eq!(names, taken.iter().map(|name| Some(*name)).collect());
    assert_eq!(prometheus.series("up")[0].1, 1.0);
    // What is a histogram to us is one to it.
    let quantile = prometheus
        .series("histogram_quantile(0.5,sum(websocket_broadcast_duration_seconds_bucket)by(le))");
    assert!(quantile[0].1 > 0.0, "{quantile:?}");
    let target = &prometheus.api("targets")["activeTargets"][0];
    assert_eq!((&target["health"], &target["lastError"]), (&json!("up"), &json!("")), "{target}");
    let metadata = prometheus.api("targets/metadata");
    for family in FAMILIES {
        let kind = match family.kind {
            Type::Counter => "counter",
            Type::Gauge => "gauge",
            Type::Histogram => "histogram",
        };
        let described = metadata.as_array().unwrap().iter().any(|entry| {
            entry["metric"] == family.name && entry["type"] == kind && entry["help"] == family.help
        });
        assert!(described, "{} is not described as a {kind}: {metadata}", family.name);
    }
}

#[test]
fn promtool_finds_nothing_to_say() {
    let server = with_hostile_names(&[]);
    assert_eq!(promtool(server.metrics().text()), "");
    let taken = publish_hostile(&server);
    let metrics = server.metrics_when("the broadcasts", |metrics| {
        metrics.count("websocket_broadcast_total", &[]) == taken.len() as u64
    });
    assert_eq!(promtool(metrics.text()), "");
}

/// Runs what reads one JSON text per line strictly, in Python and in Node.
fn strict_json_lines(text: &str, what: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let path = file.path().display().to_string();
    let count = text.lines().count().to_string();
    assert!(!text.is_empty(), "{what}: nothing to read");
    for said in [
        python("read_json_lines.py", &[&path, &count]),
        node("read_json_lines.mjs", &[&path, &count]),
    ] {
        assert_eq!(said.trim(), "ok", "{what}: {text}");
    }
}

#[test]
fn a_log_in_json_is_json_whatever_is_in_it() {
    let server = Server::with_auth(&[("LOG_FORMAT", "json"), ("LOG_LEVEL", "DEBUG")]);
    for name in HOSTILE {
        let ours = token::of(name, &["admin"]);
        let mut client = server.login(&ours);
        client.request("subscribe", json!({ "channel": name }));
        let bearer = format!("Bearer {ours}");
        let fields = [("Authorization", bearer.as_str()), ("X-Forwarded-For", "\u{e9}\", \\")];
        let revoked = json!({ "user": format!("other {name}") }).to_string();
        mahavishnu_tests::http::post(server.address(), "/revoke", &fields, &revoked);
    }
    let log = mahavishnu_tests::wait::until("the revocations", || {
        Some(server.log())
            .filter(|log| log.matches("\"audit\":\"revoke\"").count() >= HOSTILE.len())
    });
    // What is on its way to be a line is none yet.
    let whole = &log[..log.rfind('\n').unwrap() + 1];
    let lines: String =
        whole.lines().map(|line| format!("{}\n", line.trim_start_matches("[stderr] "))).collect();
    strict_json_lines(&lines, "the log");
    let names: BTreeSet<String> = lines
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok()?["by"].as_str().map(Into::into))
        .collect();
    assert_eq!(names, HOSTILE.map(Into::into).into());
}

#[test]
fn what_subcommands_and_pages_say_in_json_is_json() {
    let server = with_hostile_names(&[]);
    let taken = publish_hostile(&server);
    let url = server.ws_url();
    let count = taken.len().to_string();
    let mut args = vec!["subscribe", "--url", &url, "--json", "--count", &count, "--"];
    args.extend(&taken);
    let reader = server.spawn(&args);
    for name in &taken {
        mahavishnu_tests::wait::until("a subscriber", || {
            let reached = server.post(name, name, &json!({ *name: [name, 1e300, -0.0] }));
            (reached == 1).then_some(())
        });
    }
    let read = reader.finish();
    assert_eq!(read.code, Some(0), "{read:?}");
    strict_json_lines(&read.stdout, "subscribe --json");
    let status = server.run(&["websocket", "status", "--json"]);
    strict_json_lines(&status.stdout, "websocket status --json");
    for path in ["/health", "/ready"] {
        let body = mahavishnu_tests::http::get(server.address(), path).text();
        strict_json_lines(&format!("{body}\n"), path);
    }
}

#[test]
fn what_a_certificate_says_of_itself_is_json() {
    let dir = tempfile::tempdir().unwrap();
    for (n, name) in HOSTILE.into_iter().enumerate() {
        let mut made = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        made.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = rcgen::KeyPair::generate().unwrap();
        // No name of a file has a slash.
        let file = dir.path().join(format!("{n}{}.pem", name.replace('/', "")));
        std::fs::write(&file, made.self_signed(&key).unwrap().pem()).unwrap();
        let path = file.display().to_string();
        let said = server::run(dir.path(), &[], &["cert", "check", "--json", "--cert", &path]);
        strict_json_lines(&said.stdout, name);
        assert_eq!(said.stdout.lines().count(), 1, "{}", said.stdout);
    }
}

#[test]
fn pyjwt_reads_back_what_a_token_was_made_of() {
    let dir = tempfile::tempdir().unwrap();
    for name in HOSTILE {
        let settings = [("MAHAVISHNU_JWT_SECRET", token::SECRET)];
        let args = ["token", "create", "--user", name, "--permission", name, "--expires-in", "60"];
        let made = server::run(dir.path(), &settings, &args);
        assert_eq!(made.code, Some(0), "{made:?}");
        let text = made.stdout.lines().last().unwrap();
        let claims = python("read_token.py", &[text, token::SECRET]);
        let claims: Value = serde_json::from_str(&claims).unwrap();
        assert_eq!(claims["user_id"], name);
        assert_eq!(claims["sub"], name);
        assert_eq!(claims["permissions"], json!([name]));
    }
}

#[test]
fn the_rules_that_are_shown_are_toml() {
    let dir = tempfile::tempdir().unwrap();
    // Blanks around a word are not meant.
    let permissions: Vec<Value> = HOSTILE.into_iter().map(|name| name.trim().into()).collect();
    let patterns: Vec<&str> = HOSTILE.into_iter().filter(|name| !name.contains('*')).collect();
    // A JSON string is a TOML string, but for the characters that TOML wants escaped.
    let rules: String = patterns
        .iter()
        .map(|name| format!("[[mahavishnu.rule]]\npattern = {}\nsubscribe = []\n", json!(name)))
        .collect();
    let text =
        format!("[mahavishnu]\nfull_access = {}\n{rules}", Value::Array(permissions.clone()));
    let file = dir.path().join("policy.toml");
    std::fs::write(&file, text).unwrap();
    let path = file.display().to_string();
    let settings = [("MAHAVISHNU_POLICY_FILE", path.as_str())];
    let shown = server::run(dir.path(), &settings, &["policy", "show"]);
    assert_eq!(shown.code, Some(0), "{shown:?}");
    std::fs::write(&file, shown.stdout).unwrap();
    let read: Value = serde_json::from_str(&python("read_toml.py", &[&path])).unwrap();
    assert_eq!(read["mahavishnu"]["full_access"], Value::Array(permissions));
    let rules = read["mahavishnu"]["rule"].as_array().unwrap();
    let read: Vec<_> = rules.iter().map(|rule| rule["pattern"].as_str().unwrap()).collect();
    assert_eq!(read, patterns);

    let all = server::run(dir.path(), &[], &["policy", "show", "--all", "--built-in"]);
    std::fs::write(&file, all.stdout).unwrap();
    let read: Value = serde_json::from_str(&python("read_toml.py", &[&path])).unwrap();
    assert_eq!(read.as_object().unwrap().len(), 7, "{read}");
}

#[test]
fn a_shell_reads_the_settings_that_are_shown() {
    let dir = tempfile::tempdir().unwrap();
    // Control characters are refused.
    for name in HOSTILE.into_iter().filter(|name| !name.contains(char::is_control)) {
        let settings = [("MAHAVISHNU_SERVER_NAME", name)];
        let shown = server::run(dir.path(), &settings, &["config", "show"]);
        assert_eq!(shown.code, Some(0), "{shown:?}");
        let file = dir.path().join("shown.env");
        std::fs::write(&file, shown.stdout).unwrap();
        let script = format!(". {}; printf %s \"$MAHAVISHNU_SERVER_NAME\"", file.display());
        let said = mahavishnu_tests::foreign::text(Command::new("sh").args(["-euc", &script]));
        assert_eq!(said, name);
    }
}
