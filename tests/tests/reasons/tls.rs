//! TLS and its absence.

use mahavishnu_core::reason::Reason;
use mahavishnu_tests::{Raw, Server, certs::Authority, http};

use super::counted;

/// A server with TLS, and the directory that its files are in.
fn server() -> (tempfile::TempDir, Server) {
    let dir = tempfile::tempdir().unwrap();
    let files = Authority::new(dir.path(), "root").server("server");
    let server = Server::with(&[&files.settings()[..], &[("SHARDS", "1")]].concat());
    (dir, server)
}

pub(super) fn tls_handshake(reason: Reason) {
    let (_dir, server) = server();
    let mut raw = server.raw();
    raw.write(&[22, 3, 1, 0, 5, 1, 2, 3, 4, 5]);
    let alert = raw.read_to_end();
    assert_eq!((alert.first(), alert.get(5)), (Some(&21), Some(&2)), "a fatal alert: {alert:?}");
    counted(&server, reason);
}

/// As many as the default allows begin a handshake, and one more.
pub(super) fn tls_handshakes_max(reason: Reason) {
    let (_dir, server) = server();
    let begin = || {
        let mut raw = server.raw();
        raw.write(&[22]);
        raw
    };
    let mut begun: Vec<Raw> = (0..1_001).map(|_| begin()).collect();
    // The one that began first makes room: with an alert, if anything.
    assert!([0, 7].contains(&begun[0].read_to_end().len()));
    counted(&server, reason);
}

/// An address has four handshakes for each connection that it may make.
pub(super) fn tls_handshake_rate(reason: Reason) {
    let dir = tempfile::tempdir().unwrap();
    let files = Authority::new(dir.path(), "root").server("server");
    let limits = [("SHARDS", "1"), ("RATE_LIMIT", "1"), ("RATE_LIMIT_LOOPBACK", "true")];
    let server = Server::with(&[&files.settings()[..], &limits].concat());
    let begin = || {
        let mut raw = server.raw();
        raw.write(&[22]);
        raw
    };
    let _begun: Vec<Raw> = (0..4).map(|_| begin()).collect();
    assert_eq!(begin().read_to_end(), b"", "no alert, no handshake");
    counted(&server, reason);
    let health = http::get(server.address(), "/health");
    assert_eq!(health.status, 200, "what costs nothing is not refused");
}

pub(super) fn tls_required(reason: Reason) {
    let (_dir, server) = server();
    let answer = http::get(server.address(), "/ready");
    assert_eq!(Some(answer.status), reason.row().status);
    assert!(answer.text().contains(reason.row().text), "{}", answer.text());
    counted(&server, reason);
}

pub(super) fn tls_only(reason: Reason) {
    let (_dir, server) = server();
    server.write_env_file("MAHAVISHNU_TLS_PLAIN=nothing\n");
    assert_eq!(server.run(&["websocket", "reload"]).code, Some(0));
    let mut raw = server.raw();
    raw.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(raw.read_to_end(), b"");
    counted(&server, reason);
}
