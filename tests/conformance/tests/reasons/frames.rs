//! Connections that break RFC 6455.

use flate2::{Compress, Compression, FlushCompress};
use mahavishnu_conformance::{Backend, HANDSHAKE, masked, op};
use mahavishnu_core::reason::Reason;

use super::is_close;

pub(crate) fn reserved_bits(backend: Backend, reason: Reason) {
    for bit in [0x40, 0x20, 0x10] {
        breaks(backend, reason, &masked(op::TEXT | bit, b"{}"));
    }
}

pub(crate) fn reserved_opcode(backend: Backend, reason: Reason) {
    for opcode in [0x83, 0x87, 0x8B, 0x8F] {
        breaks(backend, reason, &masked(opcode, b"x"));
    }
}

pub(crate) fn bad_length(backend: Backend, reason: Reason) {
    // Five bytes, said in the form for 126 and more (RFC 6455 §5.2).
    let long = [op::TEXT, 0x80 | 126, 0, 5, 0, 0, 0, 0, b'h', b'e', b'l', b'l', b'o'];
    breaks(backend, reason, &long);
    // The top bit of a length must be clear.
    breaks(backend, reason, &[op::TEXT, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
}

pub(crate) fn fragmented_control(backend: Backend, reason: Reason) {
    breaks(backend, reason, &masked(op::PING & op::MORE, b"x"));
}

pub(crate) fn long_control(backend: Backend, reason: Reason) {
    breaks(backend, reason, &masked(op::PING, &[0; 126]));
}

pub(crate) fn unexpected_continuation(backend: Backend, reason: Reason) {
    breaks(backend, reason, &masked(op::CONTINUATION, b"x"));
}

pub(crate) fn expected_continuation(backend: Backend, reason: Reason) {
    let frames = [masked(op::TEXT & op::MORE, b"{"), masked(op::TEXT, b"}")].concat();
    breaks(backend, reason, &frames);
}

pub(crate) fn bad_close(backend: Backend, reason: Reason) {
    for payload in [&[3][..], &1005_u16.to_be_bytes(), &999_u16.to_be_bytes()] {
        breaks(backend, reason, &masked(op::CLOSE, payload));
    }
}

pub(crate) fn bad_utf8(backend: Backend, reason: Reason) {
    breaks(backend, reason, &masked(op::TEXT, b"\"\xC3\x28\""));
    // At the first byte that cannot be, not at the end of the message.
    breaks(backend, reason, &masked(op::TEXT & op::MORE, b"\xF8"));
    breaks(backend, reason, &masked(op::CLOSE, b"\x03\xE8\xFF"));
}

pub(crate) fn message_too_big(backend: Backend, reason: Reason) {
    breaks(backend, reason, &[op::BINARY, 0xFF, 0, 0, 0, 0, 0, 0x20, 0, 0, 1, 2, 3, 4]);
}

pub(crate) fn too_many_fragments(backend: Backend, reason: Reason) {
    let more = masked(op::CONTINUATION & op::MORE, b" ").repeat(65_536);
    breaks(backend, reason, &[masked(op::TEXT & op::MORE, b" "), more].concat());
}

pub(crate) fn control_flood(backend: Backend, reason: Reason) {
    breaks(backend, reason, &masked(op::PING, b"").repeat(1_000));
}

pub(crate) fn unmasked(backend: Backend, reason: Reason) {
    breaks(backend, reason, &mahavishnu_conformance::unmasked(op::TEXT, b"{}"));
}

pub(crate) fn inflate_ratio(backend: Backend, reason: Reason) {
    let bomb = deflated(&vec![b' '; 4 << 20]);
    breaks_deflate(backend, reason, &masked(op::TEXT | RSV1, &bomb));
}

pub(crate) fn bad_deflate(backend: Backend, reason: Reason) {
    let sound = deflated(b"{\"type\":\"ping\"}");
    breaks_deflate(backend, reason, &masked(op::TEXT | RSV1, &sound[..sound.len() - 4]));
    breaks_deflate(backend, reason, &masked(op::TEXT | RSV1, b"{\"type\":\"ping\"}"));
}

/// The bit of a compressed message (RFC 7692 §6).
const RSV1: u8 = 0x40;

/// A message as permessage-deflate sends it (RFC 7692 §7.2.1).
fn deflated(message: &[u8]) -> Vec<u8> {
    let mut stream = Compress::new(Compression::best(), false);
    let mut payload = Vec::with_capacity(message.len() + 100);
    stream.compress_vec(message, &mut payload, FlushCompress::Sync).expect("room");
    payload.truncate(payload.len() - 4);
    payload
}

/// [`breaks`], on a connection that agreed on permessage-deflate.
fn breaks_deflate(backend: Backend, reason: Reason, bytes: &[u8]) {
    let rig = backend.start(|config| {
        config.deflate.enabled = true;
        config.limits.wire.message_bytes_max = 8 << 20;
    });
    let mut raw = rig.raw();
    let offer = "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
    raw.write(HANDSHAKE.replace("\r\n\r\n", offer).as_bytes());
    let head = raw.read_head();
    assert!(head.contains("permessage-deflate"), "{head}");
    raw.frame().expect("a welcome");
    raw.write(bytes);
    is_close(raw.close_frame(), reason);
    rig.expect_told_end(reason);
}

/// Sends bytes and expects the close that the reason stands for.
fn breaks(backend: Backend, reason: Reason, bytes: &[u8]) {
    let rig = backend.start(|_| {});
    let mut raw = rig.raw_hello();
    raw.write(bytes);
    is_close(raw.close_frame(), reason);
    rig.expect_told_end(reason);
}
