//! TLS and its absence.

use mahavishnu_conformance::{Backend, Raw, secure};
use mahavishnu_core::{config::PlainOnTls, reason::Reason};

use super::refuses;

/// A record that says it is a handshake, with five bytes that are none.
const NONSENSE: &[u8] = &[22, 3, 1, 0, 5, 1, 2, 3, 4, 5];

pub(crate) fn tls_handshake(backend: Backend, reason: Reason) {
    let rig = backend.start(secure::demand);
    let mut raw = rig.raw();
    raw.write(NONSENSE);
    let alert = raw.read_to_end();
    assert_eq!((alert.first(), alert.get(5)), (Some(&21), Some(&2)), "a fatal alert: {alert:?}");
    rig.expect_error_counted(reason);
}

/// A record of an open connection that does not decrypt.
pub(crate) fn tls_record(backend: Backend, reason: Reason) {
    let rig = backend.start(secure::demand);
    let mut raw = Raw::hello(rig.connect().secure());
    raw.subscribe("a");
    raw.stream().write_below(&[&[23, 3, 3, 0, 32][..], &[7; 32]].concat());
    raw.read_to_end();
    rig.expect_error_counted(reason);
    rig.expect_count("websocket_connections_active", &[], 0);
}

pub(crate) fn tls_handshakes_max(backend: Backend, reason: Reason) {
    let rig = backend.start(|config| {
        secure::demand(config);
        config.limits.tls.tls_handshakes_max = 1;
    });
    let mut first = rig.raw();
    first.write(&NONSENSE[..1]);
    rig.expect_count("mahavishnu_received_bytes_total", &[], 1);
    let mut second = rig.raw();
    second.write(&NONSENSE[..1]);
    // The one that began first makes room: with an alert, if anything.
    assert!([0, 7].contains(&first.read_to_end().len()));
    rig.expect_error_counted(reason);
}

pub(crate) fn tls_handshake_rate(backend: Backend, reason: Reason) {
    let rig = backend.start(|config| {
        secure::demand(config);
        config.limits.connections.connects_per_minute = Some(1);
        config.limits.connections.connects_limit_loopback = true;
    });
    let begin = || {
        let mut raw = rig.raw();
        raw.write(&NONSENSE[..1]);
        raw
    };
    // An address has four handshakes for each connection that it may make.
    let _begun: Vec<_> = (0..4).map(|_| begin()).collect();
    assert_eq!(begin().read_to_end(), b"", "no alert, no handshake");
    rig.expect_error_counted(reason);
    assert_eq!(rig.raw().get("/health").status, 200, "what costs nothing is not refused");
}

pub(crate) fn tls_required(backend: Backend, reason: Reason) {
    let rig = backend.start(secure::demand);
    refuses(&rig, b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n", reason);
    rig.expect_error_counted(reason);
}

pub(crate) fn tls_only(backend: Backend, reason: Reason) {
    let rig = backend.start(|config| {
        secure::demand(config);
        config.plain_on_tls = PlainOnTls::Nothing;
    });
    let mut raw = rig.raw();
    raw.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(raw.read_to_end(), b"");
    rig.expect_error_counted(reason);
}
