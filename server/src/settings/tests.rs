//! The table as a whole: every variable by default, by a good value, by a bad one, by each of its names.

use std::{ffi::OsString, path::Path};

use super::{
    changes,
    check::{Loaded, evaluate},
    show::Changes,
    sources::{Request, Source, Sources},
    table::table,
    testing::load,
    value::Runtime,
};
use crate::exit::{Exit, Failure};

/// Variable, default as shown, a good value, how that is shown, a bad value, what the error offers instead.
/// An empty bad value: there is none.
const ROWS: &[(&str, &str, &str, &str, &str, &str)] = &[
    ("SERVICE", "", "Crackerjack", "crackerjack", "nobody", "one of mahavishnu, "),
    ("HOST", "127.0.0.1", "[::1]", "::1", "256.1.1.1", "an IP address or a host name"),
    ("PORT", "8686", "0", "0", "http", "a whole number from 0 to 65535"),
    ("LISTEN_UNIX", "", "/run/m.sock", "/run/m.sock", "", ""),
    (
        "SERVER_NAME",
        "mahavishnu",
        "mahavishnu-production",
        "mahavishnu-production",
        "a\tb",
        "text of at most 128 bytes",
    ),
    ("PAGE", "true", "off", "false", "page", "true or false"),
    #[cfg(feature = "tokio")]
    ("RUNTIME", "tokio", "TOKIO", "tokio", "async-std", "tokio or smol"),
    #[cfg(not(feature = "tokio"))]
    ("RUNTIME", "smol", "SMOL", "smol", "async-std", "tokio or smol"),
    ("SHARDS", "auto", "2", "2", "0", "auto or a whole number from 1 to 64"),
    ("STATE_DIR", "", "/var/lib/mahavishnu", "/var/lib/mahavishnu", "", ""),
    (
        "TRUSTED_PROXIES",
        "",
        "127.0.0.1, 10.0.0.0/8",
        "127.0.0.1,10.0.0.0/8",
        "localhost",
        "addresses or networks with commas between",
    ),
    ("PROXY_PROTOCOL", "false", "true", "true", "v2", "true or false"),
    ("TLS_ENABLED", "false", "no", "false", "maybe", "true or false"),
    ("CERT_FILE", "", "/c.pem, /d.pem", "/c.pem,/d.pem", "/c.pem,,", "a path, or several"),
    ("KEY_FILE", "", "/k.pem", "/k.pem", ",", "a path, or several"),
    ("CA_FILE", "", "/a.pem", "/a.pem", "", ""),
    ("CRL_FILE", "", "/a.crl, /b.crl", "/a.crl,/b.crl", "/a.crl,,", "a path, or several"),
    ("VERIFY_CLIENT", "false", "1", "true", "2", "true or false"),
    ("CLIENT_CERT_PERMISSIONS", "", "cn:a = x|y", "cn:a=x|y", "a=x", "field:name=permission"),
    ("TLS_PLAIN", "health", "Loopback", "loopback", "all", "health, nothing or loopback"),
    ("AUTO_CERT", "false", "yes", "true", "self", "true or false"),
    ("AUTO_CERT_NAMES", "", "a.test, 10.0.0.1", "a.test,10.0.0.1", "a,,", "texts with commas"),
    ("CERT_MIN_DAYS", "30", "7", "7", "-1", "a whole number from 0 to 3650"),
    ("CORE_FILES", "false", "on", "true", "1GB", "true or false"),
    ("AUTH_ENABLED", "false", "False", "false", "", ""),
    ("JWT_SECRET", "", STRONG, "********", "", ""),
    ("JWT_EXPIRY", "3600", "60", "60", "0", "seconds from 1 to 315360000"),
    ("JWT_KEYS", "", KEYS, "new:********", "hunter2", "kid:secret pairs"),
    ("JWT_KEYS_FILE", "", "", "", "", ""),
    ("JWT_REQUIRE_EXP", "false", "on", "true", "exp", "true or false"),
    ("JWT_LEEWAY", "5", "0.5", "0.5", "301", "seconds from 0 to 300"),
    ("JWT_AUDIENCE", "", "a, b", "a,b", "a,,b", "texts with commas between"),
    ("JWT_ISSUER", "", "me", "me", "a\nb", "text of at most 256 bytes"),
    ("AUTH_POLICY", "mahavishnu", "Crackerjack", "crackerjack", "nobody", "one of mahavishnu, "),
    ("POLICY_FILE", "", "", "", "", ""),
    ("REVOKED_FILE", "", "", "", "", ""),
    ("REVOCATION_KEEP", "2592000", "60", "60", "0", "seconds from 1 to 315360000"),
    ("TOKEN_WARNING", "60", "0", "0", "soon", "seconds from 0 to 86400"),
    ("TOKEN_GRACE", "30", "0.5", "0.5", "-1", "seconds from 0 to 86400"),
    ("JWT_END_REMOVED_KEYS", "false", "yes", "true", "keys", "true or false"),
    (
        "ALLOWED_ORIGINS",
        "",
        "https://a.example, null",
        "https://a.example,null",
        "a.example",
        "scheme://host[:port]",
    ),
    (
        "ALLOWED_HOSTS",
        "",
        "a.example, *.b.example",
        "a.example,*.b.example",
        "a.example:80",
        "names without a port",
    ),
    ("AUTH_TIMEOUT", "10", "2.5", "2.5", "10s", "seconds from 0.1 to 3600"),
    ("TOKEN_IN_QUERY", "false", "yes", "true", "y", "true or false"),
    ("TOKEN_IN_SUBPROTOCOL", "false", "TRUE", "true", "t", "true or false"),
    ("TELL_PERMISSIONS", "false", "yes", "true", "2", "true or false"),
    ("ALLOW_REMOTE_PUBLISH", "false", "true", "true", "all", "true or false"),
    ("PUBLISHING", "clients", "Application", "application", "nobody", "clients or application"),
    ("METRICS_ENABLED", "true", "off", "false", "", "true or false"),
    ("METRICS_HOST", "", "0.0.0.0", "0.0.0.0", "0.0.0.0:1", "an IP address or a host name"),
    ("METRICS_PORT", "9090", "9100", "9100", "65536", "a whole number from 0 to 65535"),
    ("METRICS_CHANNEL_NAMES", "false", "1", "true", "all", "true or false"),
    ("TRACE_USERS", "false", "yes", "true", "all", "true or false"),
    ("REDIS_HOST", "", "localhost", "localhost", "redis://h", "an IP address or a host name"),
    ("REDIS_PORT", "6379", "6380", "6380", "0", "a whole number from 1 to 65535"),
    ("REDIS_DB", "0", "15", "15", "zero", "a whole number from 0 to 65535"),
    ("REDIS_USERNAME", "", "app", "app", "a\nb", "text of at most 256 bytes"),
    ("REDIS_PASSWORD", "", STRONG, "********", "", ""),
    ("REDIS_PASSWORD_FILE", "", "", "", "", ""),
    ("REDIS_PREFIX", "mahavishnu", "app:1", "app:1", "{a}", "1 to 64 letters, digits and . - _"),
    ("REDIS_TLS", "false", "on", "true", "tls", "true or false"),
    ("REDIS_CA_FILE", "", "/ca.pem", "/ca.pem", "", ""),
    ("REDIS_CERT_FILE", "", "/c.pem", "/c.pem", "", ""),
    ("REDIS_KEY_FILE", "", "/k.pem", "/k.pem", "", ""),
    ("REDIS_TLS_NAME", "", "r.example", "r.example", "r:1", "an IP address or a host name"),
    ("REDIS_SENTINELS", "", "", "", "a,", "host:port with commas between"),
    ("REDIS_SENTINEL_MASTER", "", "m", "m", "a\nb", "text of at most 256 bytes"),
    ("REDIS_SENTINEL_USERNAME", "", "app", "app", "a\nb", "text of at most 256 bytes"),
    ("REDIS_SENTINEL_PASSWORD", "", STRONG, "********", "", ""),
    ("REDIS_SENTINEL_PASSWORD_FILE", "", "", "", "", ""),
    ("REDIS_CONNECT_TIMEOUT", "2", "0.1", "0.1", "0", "seconds from 0.1 to 60"),
    ("REDIS_TIMEOUT", "5", "0.5", "0.5", "0.4", "seconds from 0.5 to 300"),
    ("REDIS_QUEUE_SECONDS", "5", "0", "0", "301", "seconds from 0 to 300"),
    (
        "REDIS_QUEUE_BYTES",
        "8388608",
        "1048576",
        "1048576",
        "8M",
        "a whole number from 65536 to 1099511627776",
    ),
    ("REDIS_DOWN", "queue", "Local", "local", "wait", "queue, refuse or local"),
    ("REDIS_DOWN_RULES", "", "a:*=local", "a:*=local", "a", "pattern=way pairs with commas"),
    ("REDIS_READY_GRACE", "10", "Off", "off", "never", "seconds from 0 to 86400, or off"),
    ("REDIS_HEAL", "true", "no", "false", "maybe", "true or false"),
    ("NODE_NAME", "", "a1", "a1", "a\nb", "text of at most 128 bytes"),
    ("NODE_LEASE", "10", "2.5", "2.5", "0.5", "seconds from 1 to 3600"),
    ("TRACK_CONNECTIONS", "true", "off", "false", "maybe", "true or false"),
    ("INGRESS_STREAM", "", "m:in", "m:in", "a\nb", "text of at most 256 bytes"),
    ("INGRESS_LIST", "", "m:list", "m:list", "a\nb", "text of at most 256 bytes"),
    ("RATE_LIMIT", "0", "100", "100", "-1", "a whole number from 1 to 1000000, or 0 for off"),
    ("RATE_LIMIT_LOOPBACK", "false", "true", "true", "x", "true or false"),
    (
        "MAX_CONNECTIONS_PER_ADDRESS",
        "0",
        "100",
        "100",
        "all",
        "a whole number from 1 to 10000000, or 0 for off",
    ),
    (
        "MAX_CONNECTIONS_PER_USER",
        "0",
        "10",
        "10",
        "-1",
        "a whole number from 1 to 10000000, or 0 for off",
    ),
    (
        "MESSAGE_RATE_LIMIT",
        "100",
        "0",
        "0",
        "1.5",
        "a whole number from 1 to 1000000, or 0 for off",
    ),
    ("MESSAGE_BURST", "150", "300", "300", "0", "a whole number from 1 to 1000000"),
    ("MAX_CONNECTIONS", "10000", "5", "5", "0", "a whole number from 1 to 10000000"),
    (
        "MAX_CONNECTIONS_CLUSTER",
        "0",
        "30000",
        "30000",
        "-1",
        "a whole number from 1 to 1000000000, or 0 for off",
    ),
    ("MEMORY_LIMIT", "off", "2048m", "2G", "2GB", "off, auto or bytes from 64M to 16384G"),
    ("CONNECTION_TIMEOUT", "300", "0", "0", "0.5", "seconds from 1 to 86400, or 0 for off"),
    ("MAX_MESSAGE_BYTES", "1048576", "125", "125", "1MiB", "a whole number from 125 to 268435456"),
    ("OUTBOX_BYTES", "1048576", "4096", "4096", "1", "a whole number from 4096 to 268435456"),
    ("SLOW_READER", "disconnect", "Gap", "gap", "drop", "disconnect, gap or latest"),
    ("SLOW_READER_RULES", "", "a:*=latest", "a:*=latest", "a:*", "pattern=policy pairs"),
    ("PING_INTERVAL", "20", "0", "0", "never", "seconds from 0.1 to 86400, or 0 for off"),
    ("PONG_TIMEOUT", "20", "5", "5", "0", "seconds from 0.1 to 3600"),
    ("DRAIN_NOTICE", "0", "2.5", "2.5", "3601", "seconds from 0 to 3600"),
    ("DRAIN_WINDOW", "0", "10", "10", "-1", "seconds from 0 to 3600"),
    ("DRAIN_RETURN", "0", "5", "5", "off", "seconds from 0 to 3600"),
    ("DRAIN_TIMEOUT", "5", "0", "0", "3601", "seconds from 0 to 3600"),
    ("CORRELATION", "auto", "id", "id", "both", "auto, id or correlation_id"),
    ("MIRROR_STATUS", "true", "false", "false", "top", "true or false"),
    (
        "STATUS_REQUESTS",
        "",
        "get_a=a:{id} , get_b={b}",
        "get_a=a:{id},get_b={b}",
        "get_a=a",
        "request=channel pairs with commas",
    ),
    (
        "BACKEND_CHANNEL",
        "",
        "system:requests",
        "system:requests",
        "\u{7}",
        "text of at most 256 bytes without control characters",
    ),
    (
        "BACKEND_REQUESTS",
        "",
        "get_a , get_b",
        "get_a,get_b",
        "get_a,,",
        "texts with commas between",
    ),
    (
        "DIALECT_PATHS",
        "",
        "/b = Session-Buddy, /c=family",
        "/b=session-buddy,/c=family",
        "/b=buddy",
        "path=protocol pairs with commas",
    ),
    ("DEFLATE", "false", "on", "true", "gzip", "true or false"),
    ("DEFLATE_LEVEL", "1", "6", "6", "0", "a whole number from 1 to 9"),
    ("DEFLATE_THRESHOLD", "256", "1", "1", "0", "a whole number from 1 to 268435456"),
    ("DEFLATE_CHANNELS", "", "a:*=off", "a:*=off", "a:*", "pattern=switch pairs"),
    ("HISTORY", "100/300", "OFF", "off", "100", "messages/seconds, from 1/1 to 1000000/2592000"),
    (
        "HISTORY_RULES",
        "",
        "w:*=1000/3600, c:*=off",
        "w:*=1000/3600,c:*=off",
        "w:*=1000",
        "pattern=size pairs with commas between; a size is messages/seconds",
    ),
    (
        "HISTORY_BYTES",
        "67108864",
        "1048576",
        "1048576",
        "64M",
        "a whole number from 65536 to 1099511627776",
    ),
    (
        "HISTORY_CHANNEL_BYTES",
        "1048576",
        "1048576",
        "1048576",
        "0",
        "a whole number from 1024 to 1099511627776",
    ),
    ("HISTORY_FILE", "", "/h", "/h", "", ""),
    ("STATE_BYTES", "65536", "0", "0", "64K", "a whole number from 0 to 268435456"),
    ("HISTORY_FSYNC", "everysec", "Always", "always", "never", "always, everysec or no"),
    ("RECOVER_MAX", "1000", "5000", "5000", "0", "a whole number from 1 to 1000000"),
    ("REWIND_RULES", "", "a=0, w:*=10", "a=0,w:*=10", "w:*=all", "a number is a whole number"),
    ("PRESENCE_RULES", "", "a=no,r:*", "a=off,r:*=on", "r:*=2", "a pattern alone is on"),
    ("PRESENCE_MEMBERS_MAX", "10000", "5", "5", "0", "a whole number from 1 to 10000000"),
    (
        "PRESENCE_BYTES",
        "67108864",
        "65536",
        "65536",
        "1M",
        "a whole number from 65536 to 1099511627776",
    ),
    ("PRESENCE_INFO_BYTES", "1024", "0", "0", "off", "a whole number from 0 to 1048576"),
    ("PRESENCE_CHANGES_MAX", "16", "0", "0", "all", "a whole number from 0 to 1000000"),
    ("SESSION_SECONDS", "120", "0", "0", "off", "seconds from 0 to 86400"),
    ("SESSIONS_MAX", "10000", "50000", "50000", "0", "a whole number from 1 to 10000000"),
    ("RECORD_FILE", "", "/t", "/t", "", ""),
    (
        "RECORD_MAX_BYTES",
        "1073741824",
        "1048576",
        "1048576",
        "1GiB",
        "a whole number from 1048576 to 1099511627776",
    ),
    (
        "LOG_LEVEL",
        "INFO",
        "warn",
        "WARNING",
        "VERBOSE",
        "DEBUG, INFO, WARNING, WARN, ERROR or CRITICAL",
    ),
    ("LOG_FORMAT", "text", "JSON", "json", "xml", "text or json"),
];

const STRONG: &str = "q8ZtV1mC0y7hTn3sLw5xJ2kRbG9dFaEu";
const KEYS: &str = "new:q8ZtV1mC0y7hTn3sLw5xJ2kRbG9dFaEu";

fn shown(loaded: &Loaded, name: &str) -> String {
    let name = format!("MAHAVISHNU_{name}");
    loaded.settings.shown().into_iter().find(|(shown, _)| *shown == name).unwrap().1
}

fn lines(loaded: &Loaded) -> Vec<&str> {
    loaded.problems.iter().map(|problem| problem.line.as_str()).collect()
}

#[test]
fn these_rows_are_the_whole_table() {
    let names: Vec<_> = table().iter().map(|variable| variable.name().to_owned()).collect();
    let rows: Vec<_> = ROWS.iter().map(|row| format!("MAHAVISHNU_{}", row.0)).collect();
    assert_eq!(rows, names);
}

#[test]
fn every_variable_has_its_default() {
    let loaded = load(&[]);
    assert_eq!(lines(&loaded), [""; 0]);
    assert_eq!(loaded.warnings, [""; 0]);
    for (name, default, ..) in ROWS {
        assert_eq!(shown(&loaded, name), *default, "{name}");
    }
}

#[test]
fn every_variable_takes_a_good_value() {
    for (name, _, good, expected, ..) in ROWS.iter().filter(|row| !row.2.is_empty()) {
        let loaded = load(&[(name, good)]);
        assert_eq!(lines(&loaded), [""; 0], "{name}");
        assert_eq!(shown(&loaded, name), *expected, "{name}");
    }
}

#[test]
fn every_bad_value_is_named_with_what_is_allowed() {
    for (name, default, _, _, bad, allowed) in ROWS.iter().filter(|row| !row.5.is_empty()) {
        let loaded = load(&[(name, bad)]);
        assert_eq!(loaded.problems.len(), 1, "{name}: {:?}", loaded.problems);
        let line = &loaded.problems[0].line;
        assert!(line.starts_with(&format!("MAHAVISHNU_{name}: ")), "{line}");
        assert!(
            line.contains("is not allowed (environment); use ") && line.contains(allowed),
            "{line}"
        );
        let value = if *name == "JWT_KEYS" { "the value".to_owned() } else { format!("{bad:?}") };
        assert!(line.contains(&value), "{line}");
        assert_eq!(shown(&loaded, name), *default, "{name}");
    }
}

#[test]
fn every_other_spelling_works_and_the_first_one_counts() {
    for variable in table().iter().filter(|variable| variable.names.len() > 1) {
        let bare = |name: &'static str| name.strip_prefix("MAHAVISHNU_").unwrap();
        let (first, other) = (bare(variable.names[0]), bare(variable.names[1]));
        let row = ROWS.iter().find(|row| row.0 == first).unwrap();
        assert_eq!(shown(&load(&[(other, row.2)]), first), row.3, "{other}");
        let both = load(&[(other, "7"), (first, row.2)]);
        assert_eq!(shown(&both, first), row.3, "{first} and {other}");
        assert!(both.warnings.iter().any(|line| line.contains("differ")), "{:?}", both.warnings);
    }
}

#[test]
fn all_problems_are_found_at_once() {
    let loaded = load(&[
        ("PORT", "x"),
        ("LOG_LEVEL", "x"),
        ("TLS_ENABLED", "true"),
        ("AUTH_ENABLED", "true"),
    ]);
    let failure = loaded.demand_all().unwrap_err();
    assert_eq!(failure.exit, Exit::Configuration);
    assert_eq!(failure.lines.len(), 4, "{failure}");
    for (line, name) in
        failure.lines.iter().zip(["PORT", "LOG_LEVEL", "TLS_ENABLED", "AUTH_ENABLED"])
    {
        assert!(
            line.starts_with(&format!("MAHAVISHNU_{name}: ")) && !line.contains('\n'),
            "{line}"
        );
    }
}

#[test]
fn a_runtime_that_is_not_part_of_the_build_is_refused() {
    for runtime in [Runtime::Tokio, Runtime::Smol] {
        let demanded = load(&[("RUNTIME", runtime.name())]).demand_all();
        if runtime.is_built_in() {
            assert!(demanded.is_ok(), "{demanded:?}");
        } else {
            let line = format!("MAHAVISHNU_RUNTIME: {}", runtime.missing());
            assert_eq!(demanded, Err(Failure::new(Exit::Configuration, line)));
        }
    }
}

#[test]
fn required_authentication_needs_a_strong_key() {
    assert!(load(&[("AUTH_ENABLED", "true"), ("JWT_SECRET", STRONG)]).demand_all().is_ok());
    assert!(load(&[("AUTH_ENABLED", "true"), ("JWT_KEYS", KEYS)]).demand_all().is_ok());
    for weak in
        ["", "short", "dev-secret-change-in-production", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]
    {
        let required = load(&[("AUTH_ENABLED", "true"), ("JWT_SECRET", weak)]);
        assert_eq!(required.problems.len(), 1, "{weak}: {:?}", required.problems);
        let optional = load(&[("AUTH_ENABLED", "false"), ("JWT_SECRET", weak)]);
        assert_eq!(lines(&optional), [""; 0], "{weak}");
        assert_eq!(optional.warnings.len(), usize::from(!weak.is_empty()), "{weak}");
    }
}

#[test]
fn a_malformed_list_of_keys_is_one_problem_not_two() {
    let loaded = load(&[("AUTH_ENABLED", "true"), ("JWT_KEYS", "nonsense")]);
    assert_eq!(loaded.problems.len(), 1, "{:?}", loaded.problems);
}

#[test]
fn secrets_are_in_no_output() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys.json");
    std::fs::write(&file, r#"{"k": "hunter2-in-a-file"}"#).unwrap();
    let loaded = load(&[
        ("AUTH_ENABLED", "true"),
        ("JWT_SECRET", "hunter2-plain"),
        ("JWT_KEYS", "k1:hunter2-listed"),
        ("JWT_KEYS_FILE", file.to_str().unwrap()),
        ("REDIS_PASSWORD", "hunter2-redis"),
        ("REDIS_SENTINEL_PASSWORD", "hunter2-sentinel"),
        ("JWT_SECRETT", "hunter2-mistyped"),
    ]);
    assert_eq!(loaded.problems.len(), 3, "{:?}", loaded.problems);
    let text = format!("{loaded:?}\n{}\n{:?}", super::show(&loaded), loaded.demand_all());
    assert!(!text.contains("hunter2"), "{text}");
    let malformed = load(&[("JWT_KEYS", "hunter2,hunter2")]);
    assert!(!format!("{malformed:?}").contains("hunter2"));
}

#[test]
fn what_is_shown_can_be_read_again() {
    let values: Vec<_> = ROWS
        .iter()
        .filter(|row| !row.2.is_empty() && row.3 != "********" && row.0 != "JWT_KEYS")
        .collect();
    let first = load(&values.iter().map(|row| (row.0, row.2)).collect::<Vec<_>>());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shown.env");
    std::fs::write(&path, super::show(&first)).unwrap();
    let request =
        Request { env_file: Some(path.clone()), overrides: Vec::new(), ..Request::default() };
    let again = evaluate(&Sources::assemble(&request, std::iter::empty(), dir.path()).unwrap());
    assert_eq!(again.settings.shown(), first.settings.shown());
    assert_eq!(again.origins.get("MAHAVISHNU_PORT"), Some(&Source::File(path.clone())));
    for name in ["it's", "$HOME", r"a\nb", "a # b", " a ", "\"a\"", "'a'", "é", "a;b"] {
        let first = load(&[("SERVER_NAME", name)]);
        std::fs::write(&path, super::show(&first)).unwrap();
        let request =
            Request { env_file: Some(path.clone()), overrides: Vec::new(), ..Request::default() };
        let again = Sources::assemble(&request, std::iter::empty(), dir.path()).unwrap();
        assert_eq!(evaluate(&again).settings.server_name, first.settings.server_name, "{name}");
    }
}

#[test]
fn quotes_around_a_value_are_warned_about() {
    for (name, value) in [("SERVER_NAME", "\"a\""), ("STATE_DIR", "'/var/lib/x'")] {
        let warnings = load(&[(name, value)]).warnings;
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("has quotes around it (environment)"), "{warnings:?}");
    }
    for value in ["\"", "it's", "a\""] {
        assert_eq!(load(&[("SERVER_NAME", value)]).warnings, [""; 0], "{value}");
    }
}

#[test]
fn unknown_names_are_warned_about() {
    let loaded = load(&[
        ("JWT_SECRT", "x"),
        ("MAX_CONECTIONS", "x"),
        ("POOLS__ENABLED", "x"),
        ("LLM_MODEL", "x"),
        ("TOKEN", "x"),
    ]);
    assert_eq!(lines(&loaded), [""; 0]);
    assert_eq!(
        loaded.warnings,
        [
            "MAHAVISHNU_JWT_SECRT is not a setting; did you mean MAHAVISHNU_JWT_SECRET?",
            "MAHAVISHNU_MAX_CONECTIONS is not a setting; did you mean MAHAVISHNU_MAX_CONNECTIONS?",
            "not settings of this server, ignored: MAHAVISHNU_LLM_MODEL, MAHAVISHNU_POOLS__ENABLED",
        ]
    );
}

#[test]
fn what_is_risky_is_said() {
    let warnings = |pairs: &[(&str, &str)]| load(pairs).warnings.join("\n");
    assert_eq!(warnings(&[("REDIS_HOST", "localhost")]), "");
    let small = [("REDIS_HOST", "localhost"), ("REDIS_QUEUE_BYTES", "65536")];
    assert!(warnings(&small).contains("cannot be published"));
    assert!(warnings(&[("HOST", "0.0.0.0")]).contains("anyone who can reach it may subscribe"));
    assert!(warnings(&[("JWT_SECRET", STRONG)]).contains("let in without a token"));
    assert!(warnings(&[("OUTBOX_BYTES", "4096")]).contains("cannot be delivered"));
    let small = [("HISTORY_CHANNEL_BYTES", "1024")];
    assert!(warnings(&small).contains("cannot be kept"));
    let off = [("HISTORY", "off"), small[0]];
    assert!(!warnings(&off).contains("cannot be kept"), "nothing is kept anyway");
    assert!(warnings(&[("HISTORY_BYTES", "65536")]).contains("make all others forgotten"));
    assert_eq!(warnings(&[("HOST", "::1"), ("AUTH_ENABLED", "true"), ("JWT_SECRET", STRONG)]), "");
}

#[test]
fn what_contradicts_redis_is_refused() {
    let (redis, sentinels) = (("REDIS_HOST", "r"), ("REDIS_SENTINELS", "s"));
    let master = ("REDIS_SENTINEL_MASTER", "m");
    for (pairs, name, text) in [
        (&[redis, ("HISTORY_FILE", "/h")][..], "HISTORY_FILE", "it is Redis that keeps"),
        (&[sentinels, master, ("HISTORY_FILE", "/h")], "HISTORY_FILE", "it is Redis that keeps"),
        (&[redis, ("RECORD_FILE", "/r")], "RECORD_FILE", "cannot be recorded"),
        (&[redis, sentinels, master], "REDIS_SENTINELS", "MAHAVISHNU_REDIS_HOST is set, too"),
        (&[sentinels], "REDIS_SENTINEL_MASTER", "what do they call the primary?"),
        (&[redis, ("REDIS_USERNAME", "u")], "REDIS_USERNAME", "no MAHAVISHNU_REDIS_PASSWORD"),
        (
            &[sentinels, master, ("REDIS_SENTINEL_USERNAME", "u")],
            "REDIS_SENTINEL_USERNAME",
            "no MAHAVISHNU_REDIS_SENTINEL_PASSWORD",
        ),
    ] {
        let loaded = load(pairs);
        let [line] = lines(&loaded)[..] else { panic!("{pairs:?}: {:?}", loaded.problems) };
        assert!(line.starts_with(&format!("MAHAVISHNU_{name}: ")) && line.contains(text), "{line}");
    }
    for fine in [
        &[redis][..],
        &[sentinels, master],
        &[("HISTORY_FILE", "/h")],
        &[redis, ("REDIS_USERNAME", "u"), ("REDIS_PASSWORD", "p")],
    ] {
        assert_eq!(lines(&load(fine)), [""; 0], "{fine:?}");
    }
}

#[test]
fn two_listeners_need_two_ports() {
    let same = load(&[("PORT", "9090")]);
    assert!(
        lines(&same)[0].starts_with("MAHAVISHNU_METRICS_PORT: 9090 is MAHAVISHNU_PORT already"),
        "{same:?}"
    );
    for fine in [
        &[("PORT", "9090"), ("METRICS_ENABLED", "false")][..],
        &[("PORT", "9090"), ("METRICS_HOST", "127.0.0.2")],
        &[("PORT", "0"), ("METRICS_PORT", "0")],
    ] {
        assert_eq!(lines(&load(fine)), [""; 0], "{fine:?}");
    }
    assert_eq!(load(&[("PORT", "9090"), ("METRICS_HOST", "0.0.0.0")]).problems.len(), 1);
}

#[test]
fn a_value_that_is_not_text_is_a_problem_like_any_other() {
    use std::os::unix::ffi::OsStringExt;
    let vars = [("MAHAVISHNU_PORT".to_owned(), OsString::from_vec(vec![0xff]))];
    let loaded = evaluate(
        &Sources::assemble(&Request::default(), vars.into_iter(), Path::new("/nonexistent"))
            .unwrap(),
    );
    assert!(lines(&loaded)[0].contains("a value that is not UTF-8 is not allowed"), "{loaded:?}");
}

#[test]
fn the_documentation_has_a_row_for_every_variable() {
    let docs = super::docs();
    for variable in table() {
        assert_eq!(
            docs.matches(&format!("| `{}`", variable.name())).count(),
            1,
            "{}",
            variable.name()
        );
        assert!(!variable.doc.is_empty() && variable.doc.ends_with('.'), "{}", variable.doc);
    }
}

#[test]
fn changes_are_told_by_name_and_by_when_they_count() {
    let secret = |secret| load(&[("JWT_SECRET", secret)]);
    let old = load(&[("PORT", "1"), ("RATE_LIMIT", "5")]);
    let new = load(&[("PORT", "2"), ("RATE_LIMIT", "6")]);
    assert_eq!(
        changes(&old, &new),
        Changes { live: vec!["MAHAVISHNU_RATE_LIMIT"], restart: vec!["MAHAVISHNU_PORT"] }
    );
    assert_eq!(changes(&old, &old), Changes::default());
    let rotated = changes(&secret(STRONG), &secret("vT4yK8pQ2sW6xZ0bN3mJ7hG1fD5cR9aL"));
    assert_eq!(rotated, Changes { live: vec!["MAHAVISHNU_JWT_SECRET"], restart: vec![] });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    let with_file = |password: &str| {
        std::fs::write(&path, password).unwrap();
        load(&[("REDIS_PASSWORD_FILE", path.to_str().unwrap())])
    };
    let given = |password| load(&[("REDIS_PASSWORD", password)]);
    for (old, new, name) in [
        (given("one"), given("two"), "MAHAVISHNU_REDIS_PASSWORD"),
        (with_file("one"), with_file("two"), "MAHAVISHNU_REDIS_PASSWORD_FILE"),
    ] {
        assert_eq!(changes(&old, &new), Changes { live: vec![name], restart: vec![] });
        assert_eq!(changes(&old, &old), Changes::default());
    }
}
