//! The production guide's environment file and commands, with the real programs. What is tested elsewhere is named in
//! docs/from-the-production-guide.md.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use mahavishnu_test_redis::{Options, Redis};
use mahavishnu_tests::{Server, foreign, http, token, wait};
use serde_json::Value;

const REDIS_PASSWORD: &str = "qW8sD2fG5hJ9kL3zX6cV";

/// §2.1 with paths, a secret, a password and Redis' port of this test.
fn environment_file(dir: &Path, redis: &Redis) -> String {
    let dir = dir.display();
    format!(
        "# =============================================================================
# Mahavishnu WebSocket Production Configuration
# =============================================================================

# Server Configuration
MAHAVISHNU_HOST=0.0.0.0
MAHAVISHNU_SERVER_NAME=mahavishnu-production

# Enable TLS (required for production)
MAHAVISHNU_TLS_ENABLED=true

# Certificate paths (absolute paths)
MAHAVISHNU_CERT_FILE={dir}/mahavishnu.pem
MAHAVISHNU_KEY_FILE={dir}/mahavishnu-key.pem

# Optional: Client certificate verification
MAHAVISHNU_CA_FILE={dir}/mahavishnu.pem
MAHAVISHNU_VERIFY_CLIENT=false

# Enable authentication (required for production)
MAHAVISHNU_AUTH_ENABLED=true
MAHAVISHNU_JWT_SECRET={}
MAHAVISHNU_JWT_EXPIRY=3600

# Enable metrics collection
MAHAVISHNU_METRICS_ENABLED=true

MAHAVISHNU_REDIS_HOST=localhost
MAHAVISHNU_REDIS_PORT={}
MAHAVISHNU_REDIS_DB=0
MAHAVISHNU_REDIS_PASSWORD={REDIS_PASSWORD}

# Rate limiting (requests per minute)
MAHAVISHNU_RATE_LIMIT=100

# Connection limits
MAHAVISHNU_MAX_CONNECTIONS=10000
MAHAVISHNU_CONNECTION_TIMEOUT=300

MAHAVISHNU_LOG_LEVEL=INFO
MAHAVISHNU_LOG_FORMAT=json
",
        token::SECRET,
        redis.address().port()
    )
}

/// A server with it. Ports are free ones, and the directory is the one that the guide calls `/etc/ssl`.
fn production() -> (Server, Redis, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    bash(&format!(
        "openssl req -x509 -newkey rsa:2048 -nodes -days 90 -subj /CN=localhost \
             -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
             -out {0}/mahavishnu.pem -keyout {0}/mahavishnu-key.pem && chmod 600 {0}/mahavishnu-key.pem",
        dir.path().display()
    ));
    let redis = Redis::with(Options::default().password(REDIS_PASSWORD));
    let file = environment_file(dir.path(), &redis);
    let server = Server::with_file(&[("SERVER_NAME", "mahavishnu-production")], &file);
    (server, redis, dir)
}

/// What a line of the guide prints. It must succeed.
fn bash(line: &str) -> String {
    foreign::text(Command::new("bash").args(["-o", "pipefail", "-c", line]))
}

/// What wscat prints, and whether it could connect. It ends when its standard input does.
fn wscat(args: &[&str]) -> (bool, String) {
    let mut command = foreign::installed("node/node_modules/.bin/wscat");
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("scripts/setup-tests installs wscat");
    let input = child.stdin.take();
    let done = child.wait_with_output().expect("it is ours");
    drop(input);
    let said = [done.stdout, done.stderr].concat();
    (done.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn the_environment_file_of_the_guide_starts_a_server_with_all_that_it_says() {
    let (server, _redis, _dir) = production();

    let health = wait::until("a node that has its Redis", || {
        let health = http::get(server.address(), "/health").json();
        (health["checks"]["redis"] == "passing").then_some(health)
    });
    let shown = server.run(&["config", "show"]);

    assert_eq!(
        (&health["status"], &health["server"]),
        (&"healthy".into(), &"mahavishnu-production".into())
    );
    for check in ["websocket", "redis", "pools", "metrics"] {
        assert_eq!(health["checks"][check], "passing", "{health}");
    }
    for line in
        ["MAX_CONNECTIONS=10000", "CONNECTION_TIMEOUT=300", "RATE_LIMIT=100", "JWT_EXPIRY=3600"]
    {
        assert!(shown.stdout.contains(&format!("MAHAVISHNU_{line}  # ./.env")), "{}", shown.stdout);
    }
    assert!(!(shown.stdout.contains(token::SECRET) || shown.stdout.contains(REDIS_PASSWORD)));
}

#[test]
fn the_commands_of_the_guide_find_a_production_server_well() {
    let (server, redis, dir) = production();
    let (port, metrics) = (server.address().port(), server.metrics_address().port());
    let (dir, redis) = (dir.path().display(), redis.address().port());

    // §4.3 and §10.2.
    let dates = bash(&format!("openssl x509 -in {dir}/mahavishnu.pem -noout -dates"));
    assert!(dates.contains("notAfter="), "{dates}");
    bash(&format!(
        "diff <(openssl x509 -noout -modulus -in {dir}/mahavishnu.pem | openssl md5) \
              <(openssl rsa -noout -modulus -in {dir}/mahavishnu-key.pem | openssl md5)"
    ));
    let shown = bash(&format!(
        "openssl s_client -connect localhost:{port} -servername localhost -showcerts \
         -CAfile {dir}/mahavishnu.pem < /dev/null"
    ));
    assert!(shown.contains("Verify return code: 0 (ok)"), "{shown}");

    // §7.3, §10.1, §10.5, §11.5: /health without TLS too, although the port speaks TLS.
    for url in [
        format!("http://localhost:{port}/health"),
        format!("--cacert {dir}/mahavishnu.pem https://localhost:{port}/health"),
    ] {
        let health: Value = serde_json::from_str(&bash(&format!("curl -sf {url}"))).unwrap();
        assert_eq!(health["status"], "healthy");
    }
    bash(&format!(
        "curl -sf http://localhost:{metrics}/metrics | grep websocket_connections_active"
    ));

    // §9.2: who listens.
    let listening = bash("netstat -tln");
    for port in [port, metrics] {
        assert!(listening.contains(&format!("0.0.0.0:{port} ")), "{listening}");
    }

    // §10.6.
    let ask = |what: &str| {
        bash(&format!("redis-cli -p {redis} --no-auth-warning -a {REDIS_PASSWORD} {what}"))
    };
    assert_eq!(ask("ping").trim(), "PONG");
    assert!(ask("info clients").contains("connected_clients:"));
}

#[test]
fn wscat_connects_as_in_the_guide() {
    let (server, _redis, _dir) = production();
    let plain = Server::start();
    let ping = ["-w", "1", "-x", r#"{"type":"ping","id":"1"}"#];
    let bearer = format!("Authorization: Bearer {}", token::of("user123", &["read", "write"]));
    let wss = format!("wss://localhost:{}", server.address().port());

    // §10.3: without TLS, with it, and with a token. "-x" and "-w" end it.
    let (connected, said) = wscat(&[&["-c", &plain.ws_url()], &ping[..]].concat());
    assert!(connected && said.contains("session.created") && said.contains("pong"), "{said}");
    let (connected, said) =
        wscat(&[&["-c", &wss, "--no-check", "-H", &bearer], &ping[..]].concat());
    assert!(connected && said.contains(r#""authenticated":true"#), "{said}");
    let (connected, said) = wscat(&["-c", &wss]);
    assert!(!connected && said.contains("certificate"), "{said}");
    let (_, said) = wscat(&["-c", &wss, "--no-check", "-H", "Authorization: Bearer none"]);
    assert!(said.contains("401"), "{said}");
    // §11.5 has an option that wscat has not.
    let (connected, said) = wscat(&["-c", &plain.ws_url(), "--connect-timeout", "5"]);
    assert!(!connected && said.contains("unknown option"), "{said}");
}
