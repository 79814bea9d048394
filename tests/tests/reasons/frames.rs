//! Connections that end by themselves or break RFC 6455.

use mahavishnu_core::reason::Reason;
use mahavishnu_tests::{
    Client, Raw, Server,
    raw::{self, masked, op},
};

use super::ended;

pub(super) fn peer_closed(reason: Reason) {
    let server = Server::start();
    Client::hello(&server).close();
    ended(&server, reason);
}

pub(super) fn eof(reason: Reason) {
    let server = Server::start();
    drop(Raw::hello(&server));
    ended(&server, reason);
}

pub(super) fn io(reason: Reason) {
    let server = Server::start();
    Raw::hello(&server).reset();
    ended(&server, reason);
}

pub(super) fn reserved_bits(reason: Reason) {
    breaks(reason, &masked(op::TEXT | 0x40, b"{}"));
}

pub(super) fn reserved_opcode(reason: Reason) {
    breaks(reason, &masked(0x83, b"x"));
}

pub(super) fn bad_length(reason: Reason) {
    // Five bytes, said in the form for 126 and more (RFC 6455 §5.2).
    breaks(reason, &[op::TEXT, 0x80 | 126, 0, 5, 0, 0, 0, 0, b'h', b'e', b'l', b'l', b'o']);
}

pub(super) fn fragmented_control(reason: Reason) {
    breaks(reason, &masked(op::PING & op::MORE, b"x"));
}

pub(super) fn long_control(reason: Reason) {
    breaks(reason, &masked(op::PING, &[0; 126]));
}

pub(super) fn unexpected_continuation(reason: Reason) {
    breaks(reason, &masked(op::CONTINUATION, b"x"));
}

pub(super) fn expected_continuation(reason: Reason) {
    breaks(reason, &[masked(op::TEXT & op::MORE, b"{"), masked(op::TEXT, b"}")].concat());
}

pub(super) fn bad_close(reason: Reason) {
    for payload in [&[3][..], &1005_u16.to_be_bytes(), &999_u16.to_be_bytes(), &[0x03, 0xE8, 0xFF]]
    {
        // A reason that is not UTF-8 has a row of its own.
        let expected = if payload.len() > 2 { Reason::BadUtf8 } else { reason };
        breaks(expected, &masked(op::CLOSE, payload));
    }
}

pub(super) fn bad_utf8(reason: Reason) {
    breaks(reason, &masked(op::TEXT, b"\"\xC3\x28\""));
    // At the first byte that cannot be, not at the end of the message.
    breaks(reason, &masked(op::TEXT & op::MORE, b"\xF8"));
}

pub(super) fn message_too_big(reason: Reason) {
    breaks(reason, &[op::BINARY, 0xFF, 0, 0, 0, 0, 0, 0x20, 0, 0, 1, 2, 3, 4]);
}

pub(super) fn too_many_fragments(reason: Reason) {
    let more = masked(op::CONTINUATION & op::MORE, b" ").repeat(65_536);
    breaks(reason, &[masked(op::TEXT & op::MORE, b" "), more].concat());
}

pub(super) fn control_flood(reason: Reason) {
    breaks(reason, &masked(op::PING, b"").repeat(2_000));
}

pub(super) fn unmasked(reason: Reason) {
    breaks(reason, &raw::unmasked(op::TEXT, b"{}"));
}

/// Sends bytes and expects the close that the reason stands for.
fn breaks(reason: Reason, bytes: &[u8]) {
    let server = Server::start();
    let mut raw = Raw::hello(&server);
    raw.write(bytes);
    let (code, text) = raw.close_frame().expect("a close frame");
    assert_eq!((Some(code), text.as_str()), (reason.row().close, reason.close_text()));
    ended(&server, reason);
}
