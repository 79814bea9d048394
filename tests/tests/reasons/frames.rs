//! Connections that end by themselves or break RFC 6455.

use flate2::{Compress, Compression, FlushCompress};
use mahavishnu_core::reason::Reason;
use mahavishnu_tests::{
    Raw, Server,
    raw::{self, HANDSHAKE, masked, op},
};

use super::ended;

pub(super) fn peer_closed(reason: Reason) {
    let server = Server::start();
    server.hello().close();
    ended(&server, reason);
}

pub(super) fn eof(reason: Reason) {
    let server = Server::start();
    drop(server.raw_hello());
    ended(&server, reason);
}

pub(super) fn io(reason: Reason) {
    let server = Server::start();
    server.raw_hello().reset();
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

pub(super) fn inflate_ratio(reason: Reason) {
    let bomb = deflated(&vec![b' '; 4 << 20]);
    breaks_deflate(reason, &masked(op::TEXT | op::RSV1, &bomb));
}

pub(super) fn bad_deflate(reason: Reason) {
    let sound = deflated(b"{\"type\":\"ping\"}");
    breaks_deflate(reason, &masked(op::TEXT | op::RSV1, &sound[..sound.len() - 4]));
    breaks_deflate(reason, &masked(op::TEXT | op::RSV1, b"{\"type\":\"ping\"}"));
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

/// A message as permessage-deflate sends it (RFC 7692 §7.2.1).
fn deflated(message: &[u8]) -> Vec<u8> {
    let mut stream = Compress::new(Compression::best(), false);
    let mut payload = Vec::with_capacity(message.len() + 100);
    stream.compress_vec(message, &mut payload, FlushCompress::Sync).expect("room");
    payload.truncate(payload.len() - 4);
    payload
}

/// [`breaks`], on a connection that agreed on permessage-deflate.
fn breaks_deflate(reason: Reason, bytes: &[u8]) {
    let server = Server::with(&[("DEFLATE", "on"), ("MAX_MESSAGE_BYTES", "8388608")]);
    let mut raw = server.raw();
    let offer = "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
    raw.write(HANDSHAKE.replace("\r\n\r\n", offer).as_bytes());
    let head = raw.read_head();
    assert!(head.contains("permessage-deflate"), "{head}");
    assert!(raw.frame().is_some(), "a welcome");
    ends(&server, raw, reason, bytes);
}

/// Sends bytes and expects the close that the reason stands for.
fn breaks(reason: Reason, bytes: &[u8]) {
    let server = Server::start();
    let raw = server.raw_hello();
    ends(&server, raw, reason, bytes);
}

fn ends(server: &Server, mut raw: Raw, reason: Reason, bytes: &[u8]) {
    raw.write(bytes);
    let (code, text) = raw.close_frame().expect("a close frame");
    assert_eq!((Some(code), text.as_str()), (reason.row().close, reason.close_text()));
    ended(server, reason);
}
