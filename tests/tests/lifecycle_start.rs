//! Starting: what is refused, in which words and with which exit code; what is printed; the other subcommands.

use std::{
    io::{Read, Write},
    net::TcpListener,
    os::unix::{fs::PermissionsExt, net::UnixStream},
};

use mahavishnu_tests::{
    Server, http,
    server::{self, Done},
    token::SECRET,
};
use serde_json::Value;

/// Runs `websocket start` to its end, which must come by itself. Ports are free ones unless named.
fn start(settings: &[(&str, &str)]) -> Done {
    let dir = tempfile::tempdir().unwrap();
    let ports = [("MAHAVISHNU_PORT", "0"), ("MAHAVISHNU_METRICS_PORT", "0")];
    server::run(dir.path(), &[&ports[..], settings].concat(), &["websocket", "start"])
}

fn refuses(settings: &[(&str, &str)], code: i32, words: &[&str]) {
    let done = start(settings);
    assert_eq!(done.code, Some(code), "{done:?}");
    assert_eq!(done.stderr.lines().count(), 1, "one clear line: {done:?}");
    for word in words {
        assert!(done.stderr.contains(word), "{word:?} in {done:?}");
    }
}

#[test]
fn no_core_file_is_made() {
    let limit = |pid: u32| {
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        line.split_whitespace().skip(4).take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(limit(Server::start().pid()), ["0", "0"]);
    let server = Server::with(&[("CORE_FILES", "true")]);
    assert_eq!(limit(server.pid()), limit(std::process::id()));
}

#[test]
fn a_port_in_use_is_one_clear_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    refuses(&[("MAHAVISHNU_PORT", &port)], 1, &[&port, "in use"]);
    refuses(&[("MAHAVISHNU_METRICS_PORT", &port)], 1, &[&port, "in use"]);
}

#[test]
fn after_a_port_in_use_nothing_is_left_behind() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let dir = tempfile::tempdir().unwrap();
    let state = ("MAHAVISHNU_STATE_DIR", dir.path().to_str().unwrap());
    server::run(
        dir.path(),
        &[state, ("MAHAVISHNU_PORT", &port), ("MAHAVISHNU_METRICS_PORT", "0")],
        &["websocket", "start"],
    );
    assert_eq!(server::run(dir.path(), &[state], &["websocket", "status"]).code, Some(2));
}

#[test]
fn one_port_for_both_is_refused() {
    refuses(
        &[("MAHAVISHNU_PORT", "18686"), ("MAHAVISHNU_METRICS_PORT", "18686")],
        5,
        &["MAHAVISHNU_METRICS_PORT"],
    );
}

#[test]
fn every_problem_is_named_in_one_run() {
    let bad = [
        ("MAHAVISHNU_HOST", "a b"),
        ("MAHAVISHNU_PORT", "eighty"),
        ("MAHAVISHNU_MAX_CONNECTIONS", "0"),
        ("MAHAVISHNU_LOG_LEVEL", "LOUD"),
        ("MAHAVISHNU_METRICS_ENABLED", "maybe"),
        ("MAHAVISHNU_CONNECTION_TIMEOUT", "-1"),
        ("MAHAVISHNU_AUTH_POLICY", "nobody"),
        ("MAHAVISHNU_JWT_EXPIRY", "1h"),
        ("MAHAVISHNU_SLOW_READER", "drop"),
    ];
    let done = start(&bad);
    assert_eq!(done.code, Some(5), "{done:?}");
    assert_eq!(done.stderr.lines().count(), bad.len(), "{done:?}");
    for (name, value) in bad {
        let line = done
            .stderr
            .lines()
            .find(|line| line.contains(name))
            .unwrap_or_else(|| panic!("{name} in {done:?}"));
        assert!(line.contains(value), "the value: {line}");
        assert!(line.contains("; use "), "what is allowed: {line}");
    }
}

#[test]
fn a_bad_secret_is_not_shown() {
    let done = start(&[("MAHAVISHNU_AUTH_ENABLED", "true"), ("MAHAVISHNU_JWT_KEYS", "hunter2")]);
    assert_eq!(done.code, Some(5));
    assert!(
        done.stderr.contains("MAHAVISHNU_JWT_KEYS") && !done.stderr.contains("hunter2"),
        "{done:?}"
    );
}

#[test]
fn a_mistyped_variable_is_pointed_out() {
    let server = Server::with(&[("MAX_CONECTIONS", "5")]);
    server.expect_log("MAHAVISHNU_MAX_CONNECTIONS");
}

#[test]
fn tls_without_a_certificate_is_refused() {
    refuses(&[("MAHAVISHNU_TLS_ENABLED", "true")], 5, &["MAHAVISHNU_TLS_ENABLED", "--auto-cert"]);
    refuses(&[("MAHAVISHNU_WS_TLS_ENABLED", "true")], 5, &["MAHAVISHNU_CERT_FILE"]);
}

#[test]
fn required_authentication_needs_a_secret_that_cannot_be_guessed() {
    let auth = ("MAHAVISHNU_AUTH_ENABLED", "true");
    refuses(&[auth], 5, &["MAHAVISHNU_JWT_SECRET"]);
    refuses(&[auth, ("MAHAVISHNU_JWT_SECRET", "")], 5, &["MAHAVISHNU_JWT_SECRET"]);
    refuses(
        &[auth, ("MAHAVISHNU_JWT_SECRET", &"x7".repeat(15))],
        5,
        &["MAHAVISHNU_JWT_SECRET", "32"],
    );
    for known in ["dev-secret-change-in-production", "your-generated-secret-key-here"] {
        let done = start(&[auth, ("MAHAVISHNU_JWT_SECRET", known)]);
        assert_eq!(done.code, Some(5), "{known}: {done:?}");
        assert!(!done.stderr.contains(known), "{done:?}");
    }
    let weak = format!("good:{SECRET},bad:short");
    refuses(&[auth, ("MAHAVISHNU_JWT_KEYS", &weak)], 5, &["MAHAVISHNU_JWT_KEYS", "bad"]);
}

#[test]
fn files_that_cannot_be_read_are_one_clear_line() {
    refuses(&[("MAHAVISHNU_JWT_KEYS_FILE", "/no/such/keys.json")], 5, &["/no/such/keys.json"]);
    refuses(&[("MAHAVISHNU_STATE_DIR", "/dev/null/state")], 1, &["/dev/null/state"]);
    let dir = tempfile::tempdir().unwrap();
    let done =
        server::run(dir.path(), &[], &["websocket", "start", "--env-file", "/no/such/file.env"]);
    assert_eq!((done.code, done.stderr.lines().count()), (Some(5), 1), "{done:?}");
    assert!(done.stderr.contains("/no/such/file.env"));
}

#[test]
fn wrong_usage_is_exit_1_and_help_is_0() {
    let dir = tempfile::tempdir().unwrap();
    for (args, code) in [
        (&["nonsense"][..], 1),
        (&["websocket", "begin"], 1),
        (&["websocket", "start", "--x"], 1),
        (&["--help"], 0),
        (&["--version"], 0),
    ] {
        assert_eq!(server::run(dir.path(), &[], args).code, Some(code), "{args:?}");
    }
}

#[test]
fn flags_win_over_the_environment_which_wins_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join(".env"),
        "MAHAVISHNU_MAX_CONNECTIONS=1\nMAHAVISHNU_PORT=2\nMAHAVISHNU_HOST=::1\n",
    )
    .unwrap();
    let settings = [("MAHAVISHNU_PORT", "3"), ("MAHAVISHNU_HOST", "0.0.0.0")];
    let shown = server::run(dir.path(), &settings, &["config", "show", "--host", "127.0.0.2"]);
    assert_eq!(shown.code, Some(0), "{shown:?}");
    for line in ["MAHAVISHNU_MAX_CONNECTIONS=1", "MAHAVISHNU_PORT=3", "MAHAVISHNU_HOST=127.0.0.2"] {
        assert!(
            shown.stdout.lines().any(|shown| shown.starts_with(line)),
            "{line} in {}",
            shown.stdout
        );
    }
}

#[test]
fn both_spellings_of_tls_variables_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let shown = server::run(
        dir.path(),
        &[("MAHAVISHNU_WS_CERT_FILE", "/a.pem"), ("MAHAVISHNU_KEY_FILE", "/b.pem")],
        &["config", "show"],
    );
    assert!(
        shown.stdout.contains("MAHAVISHNU_CERT_FILE=/a.pem")
            && shown.stdout.contains("MAHAVISHNU_KEY_FILE=/b.pem"),
        "{shown:?}"
    );
}

#[test]
fn config_check_finds_what_start_would_refuse() {
    let dir = tempfile::tempdir().unwrap();
    let run = |settings: &[(&str, &str)], command| {
        server::run(dir.path(), settings, &["config", command])
    };
    assert_eq!(run(&[], "check").code, Some(0));
    let done = run(&[("MAHAVISHNU_PORT", "x"), ("MAHAVISHNU_TLS_ENABLED", "true")], "check");
    assert_eq!(done.code, Some(5), "{done:?}");
    let all = done.stdout + &done.stderr;
    assert!(all.contains("MAHAVISHNU_PORT") && all.contains("MAHAVISHNU_TLS_ENABLED"), "{all}");
    let shown = run(
        &[("MAHAVISHNU_JWT_SECRET", SECRET), ("MAHAVISHNU_REDIS_PASSWORD", "hunter2hunter2")],
        "show",
    );
    assert!(!shown.stdout.contains(SECRET) && !shown.stdout.contains("hunter2"), "{shown:?}");
}

#[test]
fn the_banner_has_lines_to_paste() {
    let server = Server::start();
    // The port answers before the banner is printed.
    let log = mahavishnu_tests::wait::until("the banner", || {
        Some(server.log()).filter(|log| log.contains("Ctrl-C stops it."))
    });
    for part in [
        &server.ws_url(),
        &server.url(),
        " subscribe --url ",
        " publish --url ",
        &server.metrics_address().to_string(),
    ] {
        assert!(log.contains(part), "{part:?} in {log}");
    }
    let pasted = log.lines().find(|line| line.contains(" publish --url ")).unwrap().trim();
    let status = std::process::Command::new("sh")
        .args(["-c", pasted])
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{pasted}");
}

#[test]
fn json_logs_are_json_only() {
    let mut server = Server::with(&[("LOG_FORMAT", "json"), ("LOG_LEVEL", "DEBUG")]);
    server.hello().close();
    server.terminate();
    let log = server.log();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| line.trim_start_matches(server::STDERR))
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}")))
        .collect();
    assert!(
        lines.iter().any(|line| line["level"] == "DEBUG"),
        "connections open and close at debug: {log}"
    );
}

#[test]
fn connections_are_logged_at_debug_only() {
    for (level, lines) in [("INFO", false), ("DEBUG", true)] {
        let mut server = Server::with(&[("LOG_LEVEL", level)]);
        server.hello().close();
        server.terminate();
        assert_eq!(server.log().contains(" DEBUG "), lines, "{}", server.log());
    }
}

#[test]
fn health_has_the_default_name_without_a_setting() {
    let server = Server::with(&[("SERVER_NAME", "mahavishnu")]);
    assert_eq!(http::get(server.address(), "/health").json()["server"], "mahavishnu");
}

/// A proxy on this machine needs no port; whose connection it is it says itself.
#[test]
fn a_unix_socket_serves_what_the_port_serves_and_goes_with_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let ask = |head: &str| {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        write!(stream, "GET {head}\r\nConnection: close\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let mut server = Server::with(&[
        ("LISTEN_UNIX", path.to_str().unwrap()),
        ("TRUSTED_PROXIES", "unix"),
        ("RATE_LIMIT", "60"),
    ]);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    assert!(ask("/health HTTP/1.1").starts_with("HTTP/1.1 200 "));
    assert_eq!(http::get(server.address(), "/health").status, 200);
    // Who may connect to the file is not of this machine: behind it may be anybody.
    let body = r#"{"channel":"a","event":"e"}"#;
    let mut stream = UnixStream::connect(&path).unwrap();
    write!(
        stream,
        "POST /publish HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    server.terminate();
    assert!(!path.exists());

    std::fs::write(&path, "precious").unwrap();
    refuses(
        &[("MAHAVISHNU_LISTEN_UNIX", path.to_str().unwrap())],
        1,
        &["cannot listen on ", "no socket", "MAHAVISHNU_LISTEN_UNIX"],
    );
}
