//! The two scripts that verify a server where its program is not at hand, under the names that the deployment guide gives.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::{Command, Output},
};

use mahavishnu_tests::{
    Server, binary,
    certs::{self, Authority},
    token,
};
use serde_json::Value;

fn script(path: &str) -> PathBuf {
    binary::workspace().join(path)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `scripts/verify_deployment.py` in an empty environment but for these variables.
fn python(
    args: &[&str],
    variables: &[(&str, &str)],
) -> (Option<i32>, BTreeMap<String, (String, String)>) {
    let mut command = Command::new("python3");
    command.arg(script("scripts/verify_deployment.py")).arg("--json").args(args);
    command
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let output = command.envs(variables.iter().copied()).output().unwrap();
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let word = |check: &Value, name: &str| check[name].as_str().unwrap().to_owned();
    let checks = report["checks"].as_array().unwrap().iter();
    let named =
        checks.map(|check| (word(check, "check"), (word(check, "outcome"), word(check, "found"))));
    (output.status.code(), named.collect())
}

fn ports(server: &Server) -> [String; 2] {
    [server.address().port().to_string(), server.metrics_address().port().to_string()]
}

fn outcome<'c>(checks: &'c BTreeMap<String, (String, String)>, name: &str) -> (&'c str, &'c str) {
    let (outcome, found) = &checks[name];
    (outcome, found)
}

#[test]
fn the_python_script_passes_what_is_well_and_names_what_is_not() {
    let mut server = Server::start();
    let [port, metrics] = ports(&server);
    let base = ["--port", &port, "--metrics-port", &metrics];
    let (code, checks) = python(&base, &[]);
    assert_eq!(code, Some(0), "{checks:?}");
    for name in ["health", "ready", "metrics", "websocket", "clock"] {
        assert_eq!(outcome(&checks, name).0, "ok", "{checks:?}");
    }
    assert_eq!(outcome(&checks, "environment").0, "warn");
    assert_eq!(outcome(&checks, "websocket").1, "welcomed by mahavishnu");
    assert_eq!(
        outcome(&python(&[&base[..], &["--skip-env"]].concat(), &[]).1, "environment").0,
        "skipped"
    );
    // The main port has no metrics.
    let (code, checks) = python(&["--port", &port, "--metrics-port", &port], &[]);
    assert_eq!((code, outcome(&checks, "metrics").0), (Some(1), "fail"), "{checks:?}");
    let (code, checks) = python(&[&base[..], &["--tls"]].concat(), &[]);
    assert_eq!((code, outcome(&checks, "tls").0), (Some(1), "fail"), "{checks:?}");
    server.terminate();
    let (code, checks) = python(&base, &[]);
    assert_eq!((code, outcome(&checks, "health").0), (Some(1), "fail"), "{checks:?}");
}

#[test]
fn the_python_script_shows_tokens_and_verifies_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path(), "root");
    let files = authority.server("own");
    let settings = files.settings();
    let server = Server::with_auth(&settings);
    let [port, metrics] = ports(&server);
    let ca = certs::text(&authority.file);
    let base = ["--port", &port, "--metrics-port", &metrics, "--tls"];
    let trusting = [&base[..], &["--ca-file", ca]].concat();
    let given = [
        ("MAHAVISHNU_TLS_ENABLED", "true"),
        ("MAHAVISHNU_AUTH_ENABLED", "true"),
        ("MAHAVISHNU_JWT_SECRET", token::SECRET),
        ("MAHAVISHNU_CERT_FILE", certs::text(&files.certificate)),
        ("MAHAVISHNU_KEY_FILE", certs::text(&files.key)),
    ];
    let (code, checks) = python(&trusting, &given);
    assert_eq!(code, Some(0), "{checks:?}");
    assert_eq!(outcome(&checks, "environment").0, "ok", "{checks:?}");
    assert_eq!(outcome(&checks, "tls").0, "ok", "{checks:?}");
    assert!(outcome(&checks, "websocket").1.starts_with("clients need a token"), "{checks:?}");
    let token = token::of("ada", &["admin"]);
    let (_, checks) = python(&trusting, &[("MAHAVISHNU_TOKEN", &token)]);
    assert_eq!(outcome(&checks, "websocket"), ("ok", "welcomed by mahavishnu"));
    let forged = token::sign_with(token::OTHER_SECRET, None, &token::claims("ada", &["admin"]));
    let (code, checks) = python(&trusting, &[("MAHAVISHNU_TOKEN", &forged)]);
    assert_eq!((code, outcome(&checks, "websocket").0), (Some(1), "fail"), "{checks:?}");
    let (code, checks) = python(&base, &[]);
    assert_eq!(code, Some(1), "{checks:?}");
    assert!(outcome(&checks, "tls").1.contains("certificate is refused"), "{checks:?}");
}

/// The shell script with these variables, by a shell that knows no more than POSIX wants.
fn shell(variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new("/bin/sh");
    command.arg(script("deploy/check-mahavishnu-health.sh")).env_clear();
    command.env("PATH", "/usr/local/bin:/usr/bin:/bin").envs(variables.iter().copied());
    command.output().unwrap()
}

#[test]
fn the_shell_script_says_in_a_line_whether_a_server_is_healthy() {
    let mut server = Server::start();
    let url = format!("{}/health", server.url());
    let ready = format!("{}/ready", server.url());
    // With wget alone: a directory that has what the script calls, but for curl.
    let dir = tempfile::tempdir().unwrap();
    for program in ["wget", "sed", "tail", "date", "grep", "cut", "tr"] {
        let path = ["/usr/bin", "/bin"].iter().map(|dir| PathBuf::from(dir).join(program));
        let path = path.into_iter().find(|path| path.exists()).unwrap();
        std::os::unix::fs::symlink(path, dir.path().join(program)).unwrap();
    }
    let only_wget = ("PATH", certs::text(dir.path()));
    let ways: [&[(&str, &str)]; 2] = [&[], &[only_wget]];
    let ask = |way: &[(&str, &str)], url: &str| {
        let done = shell(&[way, &[("HEALTH_URL", url)]].concat());
        (done.status.code(), text(&done.stdout))
    };
    for way in ways {
        let (code, line) = ask(way, &url);
        assert!(line.starts_with("✓ Health check passed (HTTP 200) 20"), "{line}");
        assert_eq!((code, line.lines().count()), (Some(0), 1), "{line}");
        let (code, line) = ask(way, &format!("{url}y"));
        assert!(line.starts_with("✗ Health check failed (HTTP 404, expected 200) "), "{line}");
        assert_eq!(code, Some(1));
    }
    let expected = shell(&[("HEALTH_URL", &ready), ("EXPECTED_STATUS", "503")]);
    assert_eq!(expected.status.code(), Some(1), "{expected:?}");
    server.terminate();
    for way in ways {
        let (code, line) = ask(way, &url);
        assert_eq!(code, Some(1), "{line}");
        assert!(line.contains("(HTTP 000, expected 200)"), "{line}");
    }
}

#[test]
fn what_fails_behind_a_healthy_server_is_in_the_line() {
    let server = Server::with(&[("REDIS_HOST", "127.0.0.1"), ("REDIS_PORT", "1")]);
    let url = format!("{}/health", server.url());
    let failing = || {
        let done = shell(&[("HEALTH_URL", &url)]);
        let line = text(&done.stdout);
        (done.status.code() == Some(0) && line.contains(" failing: redis")).then_some(())
    };
    mahavishnu_tests::wait::until("the missing Redis in the line", failing);
}

#[test]
fn the_line_for_cron_adds_to_its_log() {
    let server = Server::start();
    let source = std::fs::read_to_string(script("deploy/check-mahavishnu-health.sh")).unwrap();
    let line = source.lines().find_map(|line| line.strip_prefix("#   */5 * * * * ")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let bin = format!("{}/", script("deploy").display());
    let log = dir.path().join("mahavishnu-health.log");
    let command = line
        .replace("/usr/local/bin/", &bin)
        .replace("/var/log/mahavishnu-health.log", certs::text(&log));
    assert_ne!(command, line);
    // As cron runs it: by sh, with hardly an environment.
    let url = format!("{}/health", server.url());
    for _ in 0..2 {
        let mut cron = Command::new("/bin/sh");
        cron.args(["-c", &command])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HEALTH_URL", &url);
        assert!(cron.status().unwrap().success());
    }
    let log = std::fs::read_to_string(log).unwrap();
    assert_eq!(log.matches("✓ Health check passed").count(), 2, "{log}");
}
