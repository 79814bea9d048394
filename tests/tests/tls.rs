//! TLS as clients see it: openssl, curl, Python and Node against both runtimes.

use std::{
    io::{BufRead, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Command, Output, Stdio},
};

use mahavishnu_tests::{
    Server,
    certs::{Authority, Files, text},
    foreign::{self, curl, node_command, python_command},
    http, token,
};

const RUNTIMES: [&str; 2] = ["tokio", "smol"];

/// An authority and a certificate of it for this machine, in a directory that lasts as long.
struct World {
    dir: tempfile::TempDir,
    authority: Authority,
    files: Files,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new(dir.path(), "root");
        let files = authority.server("server");
        Self { dir, authority, files }
    }

    fn server(&self, more: &[(&str, &str)]) -> Server {
        Server::with(&[&self.files.settings(), more].concat())
    }

    fn trust(&self) -> &str {
        text(&self.authority.file)
    }

    fn curl(&self, server: &Server, path: &str, args: &[&str]) -> String {
        let url = format!("https://{}{path}", server.address());
        curl(&[&["--cacert", self.trust(), &url], args].concat())
    }
}

fn wss(server: &Server) -> String {
    format!("wss://{}", server.address())
}

/// What `openssl s_client` says when it sends `input`. It stays until the server ends the connection.
fn s_client(server: &Server, args: &[&str], input: &str) -> Output {
    let mut child = Command::new("openssl")
        .args(["s_client", "-connect", &server.address().to_string(), "-ign_eof"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have given up already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn says(output: &Output, words: &str) -> bool {
    String::from_utf8_lossy(&output.stdout).contains(words)
}

/// More handshakes begun and left, and sockets that say nothing, than the server has places.
#[test]
fn silent_sockets_do_not_keep_tls_clients_out() {
    let world = World::new();
    let server = world.server(&[("SHARDS", "1"), ("MAX_CONNECTIONS", "10")]);
    let mut held = Vec::new();
    for sent in [&b""[..], &[22], &[22, 3, 1, 2, 0, 1, 0, 1, 0xfc]] {
        for _ in 0..250 {
            let mut raw = server.raw();
            raw.write(sent);
            held.push(raw);
        }
        assert!(world.curl(&server, "/health", &[]).contains("\"healthy\""));
    }
    let metrics = server.metrics_when("room made", |m| m.connection_errors("made_room") > 500);
    assert_eq!(metrics.connection_errors("max_sockets"), 0);
}

const HEALTH: &str = "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

#[test]
fn python_websockets_node_ws_and_curl_work_over_tls() {
    let world = World::new();
    for runtime in RUNTIMES {
        let server = world.server(&[("RUNTIME", runtime)]);
        assert!(world.curl(&server, "/health", &[]).contains("\"healthy\""));
        assert!(world.curl(&server, "/ready", &[]).contains("\"certificate\":\"valid\""));
        let mut python = python_command("dialogue.py", &[&wss(&server)]);
        let said = foreign::text(python.env("SSL_CERT_FILE", world.trust()));
        assert_eq!(said.lines().last(), Some("ok"));
        let base = format!("https://{}", server.address());
        let mut node = node_command("dialogue.mjs", &[&wss(&server), &base]);
        let said = foreign::text(node.env("NODE_EXTRA_CA_CERTS", world.trust()));
        assert_eq!(said.lines().last(), Some("ok"));
        let metrics = server.metrics_when("their end", |metrics| metrics.active() == 0);
        let count = |mode| metrics.count("websocket_connections_total", &[("tls_mode", mode)]);
        assert!(count("wss") >= 3, "{}", metrics.text());
        assert_eq!(count("ws"), 0);
        assert!(metrics.count("mahavishnu_tls_handshakes_total", &[("kind", "full")]) >= 3);
    }
}

#[test]
fn openssl_agrees_on_tls_1_2_and_1_3_and_resumes_both() {
    let world = World::new();
    for runtime in RUNTIMES {
        let server = world.server(&[("RUNTIME", runtime)]);
        for version in ["-tls1_2", "-tls1_3"] {
            let session = world.dir.path().join(format!("{runtime}{version}"));
            let trust =
                ["-CAfile", world.trust(), "-verify_return_error", "-alpn", "http/1.1", version];
            let first =
                s_client(&server, &[&trust[..], &["-sess_out", text(&session)]].concat(), HEALTH);
            assert!(says(&first, "200 OK") && says(&first, "ALPN protocol: http/1.1"), "{first:?}");
            assert!(first.status.success(), "an orderly end: {first:?}");
            let again =
                s_client(&server, &[&trust[..], &["-sess_in", text(&session)]].concat(), HEALTH);
            assert!(says(&again, "Reused, TLSv1."), "{version}: {again:?}");
        }
    }
}

#[test]
fn openssl_gets_the_six_suites_of_tls_1_2_and_no_other() {
    let world = World::new();
    let rsa = rsa_pair(world.dir.path());
    let certificates = format!("{},{}", text(&world.files.certificate), text(&rsa.certificate));
    let keys = format!("{},{}", text(&world.files.key), text(&rsa.key));
    let server =
        Server::with(&[("TLS_ENABLED", "true"), ("CERT_FILE", &certificates), ("KEY_FILE", &keys)]);
    for key in ["ECDSA", "RSA"] {
        for cipher in ["AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305"] {
            let suite = format!("ECDHE-{key}-{cipher}");
            let output = s_client(&server, &["-tls1_2", "-cipher", &suite], HEALTH);
            assert!(says(&output, "200 OK") && says(&output, &suite), "{suite}: {output:?}");
        }
    }
    let old = ["-tls1", "-tls1_1"].map(|version| vec![version, "-cipher", "ALL:@SECLEVEL=0"]);
    let weak = [
        "AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-SHA256",
        "ECDHE-ECDSA-AES256-SHA",
        "DHE-RSA-AES128-GCM-SHA256",
    ];
    let weak = weak.map(|suite| vec!["-tls1_2", "-cipher", suite]);
    for args in old.into_iter().chain(weak) {
        let output = s_client(&server, &args, HEALTH);
        assert!(!output.status.success() && !says(&output, "200 OK"), "{args:?}: {output:?}");
        let refused = String::from_utf8_lossy(&output.stderr).contains("alert");
        assert!(refused, "refused by the server, not by the client: {args:?}: {output:?}");
    }
}

/// Suites that openssl itself has given up are offered by hand.
#[test]
fn rc4_3des_and_null_are_refused_with_an_alert() {
    let world = World::new();
    let server = world.server(&[]);
    for suite in [0x0005_u16, 0xc011, 0x000a, 0xc012, 0x0002] {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2]);
        body.extend(suite.to_be_bytes());
        body.extend([
            1, 0, 0, 24, 0, 13, 0, 6, 0, 4, 4, 3, 4, 1, 0, 10, 0, 4, 0, 2, 0, 23, 0, 11, 0, 2, 1, 0,
        ]);
        let mut hello = vec![22, 3, 1, 0, body.len() as u8 + 4, 1, 0, 0, body.len() as u8];
        hello.extend(body);
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.write_all(&hello).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        // A fatal alert (RFC 5246 §7.2) and nothing else.
        assert_eq!((answer.len(), answer[0], answer[5]), (7, 21, 2), "{suite:04x}: {answer:?}");
    }
}

#[test]
fn the_certificate_follows_the_name() {
    let world = World::new();
    let other = world.authority.issue("other", &["*.other.test"], (-1, 90));
    let certificates = format!("{},{}", text(&world.files.certificate), text(&other.certificate));
    let keys = format!("{},{}", text(&world.files.key), text(&other.key));
    let server =
        Server::with(&[("TLS_ENABLED", "true"), ("CERT_FILE", &certificates), ("KEY_FILE", &keys)]);
    for (name, subject) in [
        ("a.other.test", "*.other.test"),
        ("localhost", "localhost"),
        ("unknown.test", "localhost"),
    ] {
        let output = s_client(&server, &["-servername", name], HEALTH);
        assert!(says(&output, &format!("subject=CN = {subject}")), "{name}: {output:?}");
    }
}

#[test]
fn client_certificates_are_demanded_verified_and_grant_permissions() {
    let world = World::new();
    let agent = world.authority.issue("agent", &["a.agents.test"], (-1, 30));
    let old = world.authority.issue("old", &["a.agents.test"], (-30, -1));
    let stranger =
        Authority::new(world.dir.path(), "stranger").issue("forged", &["a.agents.test"], (-1, 30));
    let server = world.server(&[
        ("CA_FILE", world.trust()),
        ("VERIFY_CLIENT", "true"),
        ("AUTH_ENABLED", "true"),
        ("JWT_SECRET", token::SECRET),
        ("CLIENT_CERT_PERMISSIONS", "dns:*.agents.test=write"),
    ]);
    let body = r#"{"channel":"workflow:1","event":"e","data":{}}"#;
    let publish = |files: &Files| {
        let args = ["--cert", text(&files.certificate), "--key", text(&files.key)];
        world.curl(&server, "/publish", &[&args[..], &["--json", body]].concat())
    };
    assert!(publish(&agent).contains("published"), "{}", publish(&agent));
    let url = format!("https://{}/health", server.address());
    let is_refused = |args: &[&str]| {
        let all =
            [&["--silent", "--max-time", "20", "--cacert", world.trust(), &url], args].concat();
        !Command::new("curl").args(all).output().unwrap().status.success()
    };
    for files in [&old, &stranger] {
        assert!(is_refused(&["--cert", text(&files.certificate), "--key", text(&files.key)]));
    }
    assert!(is_refused(&[]), "no certificate");
    let metrics = server.metrics();
    let refused =
        metrics.count("websocket_connection_errors_total", &[("error_type", "tls_handshake")]);
    assert_eq!(refused, 3, "{}", metrics.text());

    let mut python = python_command(
        "client_certificate.py",
        &[&wss(&server), world.trust(), text(&agent.certificate), text(&agent.key)],
    );
    assert_eq!(foreign::text(&mut python).lines().last(), Some("ok"));
}

/// The same list that keeps a certificate out ends what it has open when the list comes by a reload.
#[test]
fn a_revocation_list_keeps_its_certificates_out_from_the_next_reload_on() {
    let world = World::new();
    let [ada, eve] =
        ["ada", "eve"].map(|name| world.authority.issue(name, &["a.agents.test"], (-1, 30)));
    let list = world.authority.revoke("list", &[], 30);
    for runtime in RUNTIMES {
        world.authority.revoke("list", &[], 30);
        let server = world.server(&[
            ("RUNTIME", runtime),
            ("CA_FILE", world.trust()),
            ("VERIFY_CLIENT", "true"),
            ("CRL_FILE", text(&list)),
        ]);
        let url = format!("https://{}/health", server.address());
        let gets_in = |files: &Files| {
            let (cert, key) = (text(&files.certificate), text(&files.key));
            let args = ["--silent", "--cacert", world.trust(), "--cert", cert, "--key", key, &url];
            Command::new("curl").args(args).output().unwrap().status.success()
        };
        assert_eq!([gets_in(&ada), gets_in(&eve)], [true, true]);
        let mut open = Command::new("openssl")
            .args(["s_client", "-quiet", "-connect", &server.address().to_string()])
            .args(["-cert", text(&eve.certificate), "-key", text(&eve.key)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut input = open.stdin.take().unwrap();
        input.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut first = [0; 12];
        open.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");

        world.authority.revoke("list", &["eve"], 30);
        assert_eq!(server.run(&["websocket", "reload"]).code, Some(0));

        open.wait().unwrap();
        drop(input);
        assert_eq!([gets_in(&ada), gets_in(&eve)], [true, false]);
        server.metrics_when("the end", |m| m.connection_errors("certificate_revoked") == 1);
    }
}

#[test]
fn status_and_publish_work_where_nothing_is_said_without_tls() {
    let world = World::new();
    for runtime in RUNTIMES {
        let server = world.server(&[("RUNTIME", runtime)]);
        server.write_env_file("MAHAVISHNU_TLS_PLAIN=nothing\n");
        assert_eq!(server.run(&["websocket", "reload"]).code, Some(0));
        assert!(http::try_get(server.address(), "/health").is_err());

        let status = server.run(&["websocket", "status"]);
        assert_eq!((status.code, status.stderr.as_str()), (Some(0), ""), "{}", status.stdout);
        assert!(status.stdout.contains("healthy, 0 connections"), "{}", status.stdout);
        assert_eq!(server.run(&["websocket", "reload"]).code, Some(0));

        let url = format!("https://{}", server.address());
        let published = Command::new(mahavishnu_tests::binary::path())
            .args(["publish", "--url", &url, "a", "e", "{}"])
            .env("SSL_CERT_FILE", world.trust())
            .output()
            .unwrap();
        assert!(says(&published, "published; reached 0 subscribers"), "{published:?}");

        // A server that is started like that says so where `status` looks.
        let dir = tempfile::tempdir().unwrap();
        let place = ["--state-dir", text(dir.path())];
        let start = ["websocket", "start", "--port", "0", "--metrics-port", "0"];
        let _second = server.spawn(&[&start[..], &place].concat());
        let status = mahavishnu_tests::wait::until("the second server's health", || {
            let status = server.run(&[&["websocket", "status"][..], &place].concat());
            // Before it has said where it is, it is looked for where the settings say: at the first one's port.
            let elsewhere = !status.stdout.contains(&server.address().to_string());
            (status.code == Some(0) && elsewhere).then_some(status)
        });
        assert!(status.stdout.contains(" at https://"), "{}", status.stdout);
    }
}

/// The file has another certificate than the server: neither is it trusted, nor called healthy.
#[test]
fn status_trusts_the_servers_own_certificate_and_no_other() {
    let world = World::new();
    let server = world.server(&[]);
    server.write_env_file("MAHAVISHNU_TLS_PLAIN=nothing\n");
    assert_eq!(server.run(&["websocket", "reload"]).code, Some(0));
    world.authority.server("server");

    let status = server.run(&["websocket", "status"]);

    assert_eq!(status.code, Some(4), "{}", status.stdout);
    assert!(status.stdout.contains("another certificate"), "{}", status.stdout);
}

#[test]
fn a_ca_file_alone_demands_nothing() {
    let world = World::new();
    let server = world.server(&[("CA_FILE", world.trust()), ("VERIFY_CLIENT", "false")]);
    assert!(world.curl(&server, "/health", &[]).contains("\"healthy\""));
    server.expect_log("MAHAVISHNU_CA_FILE has no effect");
}

#[test]
fn without_tls_only_health_is_answered_unless_loopback_may_do_all() {
    let world = World::new();
    for runtime in RUNTIMES {
        let server = world.server(&[("RUNTIME", runtime)]);
        assert_eq!(http::get(server.address(), "/health").status, 200);
        let refused = http::get(server.address(), "/ready");
        assert_eq!(refused.status, 426);
        assert!(refused.text().contains("use wss:// or https://"), "{}", refused.text());
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n").unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 426");
    }
    let server = world.server(&[("TLS_PLAIN", "loopback")]);
    server.hello().subscribe("global");
    assert!(world.curl(&server, "/ready", &[]).contains("\"ready\""));
}

#[test]
fn a_reload_swaps_the_certificate_and_a_bad_one_is_refused() {
    let world = World::new();
    let next = world.authority.issue("next", &["localhost", "127.0.0.1", "next.test"], (-1, 90));
    let server = world.server(&[]);
    let serial = || {
        let output = s_client(&server, &["-servername", "localhost"], HEALTH);
        String::from_utf8_lossy(&output.stdout).split("-----").nth(2).unwrap().to_owned()
    };
    let mut live = python_command("wait_close.py", &[&wss(&server)]);
    live.env("SSL_CERT_FILE", world.trust()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut live = live.spawn().unwrap();
    server.metrics_when("it", |metrics| metrics.active() == 1);
    let before = serial();

    std::fs::copy(&next.certificate, &world.files.certificate).unwrap();
    let refused = server.run(&["websocket", "reload"]);
    assert_eq!(refused.code, Some(5), "{refused:?}");
    assert!(
        refused.stderr.contains("server-key.pem: the key does not belong to the certificate"),
        "{refused:?}"
    );
    assert!(refused.stderr.contains("stays as it was"), "{refused:?}");
    assert_eq!(serial(), before);
    server.metrics_when("the refusal", |metrics| {
        metrics.count("mahavishnu_config_reloads_refused_total", &[]) == 1
    });

    std::fs::copy(&next.key, &world.files.key).unwrap();
    let done = server.run(&["websocket", "reload"]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{done:?}");
    assert_ne!(serial(), before);
    assert_eq!(server.metrics().active(), 1, "live connections stay");
    let _ = live.kill();
    let _ = live.wait();
}

/// More handshakes at one moment than a turn carries out.
#[test]
fn a_crowd_that_comes_at_once_is_served_whole() {
    let world = World::new();
    for runtime in RUNTIMES {
        let server = world.server(&[("RUNTIME", runtime), ("SHARDS", "2")]);
        let mut crowd = python_command("crowd.py", &[&wss(&server), "150", "5"]);
        let said = foreign::text(crowd.env("SSL_CERT_FILE", world.trust()));
        assert_eq!(said.lines().last(), Some("ok"));
    }
}

#[test]
fn reloads_during_traffic_lose_nothing() {
    let world = World::new();
    let next = world.authority.server("next");
    for runtime in RUNTIMES {
        let server = world.server(&[("RUNTIME", runtime), ("MESSAGE_RATE_LIMIT", "0")]);
        let args = [&wss(&server), "50", "100", "0.01"];
        let mut crowd = python_command("crowd.py", &args);
        crowd.env("SSL_CERT_FILE", world.trust()).stdout(Stdio::piped());
        let mut crowd = crowd.spawn().unwrap();
        let mut said = std::io::BufReader::new(crowd.stdout.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let mut reloads = 0;
        while crowd.try_wait().unwrap().is_none() {
            // Back and forth between two pairs.
            for (one, other) in
                [(&world.files.certificate, &next.certificate), (&world.files.key, &next.key)]
            {
                let (was, will) = (std::fs::read(one).unwrap(), std::fs::read(other).unwrap());
                std::fs::write(one, will).unwrap();
                std::fs::write(other, was).unwrap();
            }
            assert_eq!(server.run(&["websocket", "reload"]).code, Some(0));
            reloads += 1;
        }
        line.clear();
        said.read_to_string(&mut line).unwrap();
        assert_eq!(line, "ok\n");
        assert!(reloads > 2, "{reloads}");
    }
}

#[test]
fn auto_cert_makes_a_certificate_that_clients_can_verify_and_keeps_it() {
    for runtime in RUNTIMES {
        let mut server =
            Server::with(&[("AUTO_CERT", "true"), ("TLS_ENABLED", "true"), ("RUNTIME", runtime)]);
        let path = server.state_dir().join("auto-cert.pem");
        let made = std::fs::read_to_string(&path).unwrap();
        let port = server.address().port();
        for host in ["localhost", "127.0.0.1"] {
            let url = format!("https://{host}:{port}/health");
            assert!(curl(&["--cacert", text(&path), &url]).contains("\"healthy\""), "{host}");
        }
        let log = server.log();
        assert!(log.contains(&format!("curl --cacert {}", path.display())), "{log}");
        let mut python = python_command("dialogue.py", &[&format!("wss://localhost:{port}")]);
        assert_eq!(foreign::text(python.env("SSL_CERT_FILE", &path)).lines().last(), Some("ok"));
        server.terminate();
        server.start_again();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), made, "kept");
    }
}

fn rsa_pair(dir: &Path) -> Files {
    let files = Files { certificate: dir.join("rsa.pem"), key: dir.join("rsa-key.pem") };
    foreign::text(Command::new("openssl").args([
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "90",
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost,IP:127.0.0.1",
        "-out",
        text(&files.certificate),
        "-keyout",
        text(&files.key),
    ]));
    files
}
