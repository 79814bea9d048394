//! Framing rules as a server sees them (RFC 6455 §5).

use super::*;
use crate::reason::Reason;

#[test]
fn a_connection_is_small_and_owns_nothing_when_idle() {
    assert!(size_of::<Connection>() <= 256, "{}", size_of::<Connection>());
}

#[test]
fn a_whole_small_message_is_borrowed_from_the_wire() {
    let mut harness = Harness::open(Limits::default());
    let mut bytes = masked(TEXT, b"hello");
    let mut wire = &mut bytes[..];

    let event = harness.connection.receive(harness.now, &harness.limits, &mut wire);

    assert!(matches!(event, Some(Event::Text(text)) if text.is_borrowed() && &*text == "hello"));
}

#[test]
fn a_ping_is_answered() {
    let mut harness = Harness::open(Limits::default());
    assert!(harness.receive(&masked(PING, b"x")).is_empty());
    harness.expect_frames(&[(PONG, b"x")]);
}

#[test]
fn unmasked_frames_end_the_connection() {
    let mut harness = Harness::open(Limits::default());
    assert!(matches!(harness.receive(b"\x81\x01a")[..], [Event::Closed(Reason::Unmasked)]));
    harness.expect_frames(&[(CLOSE, b"\x03\xeaClient frames must be masked")]);
}
