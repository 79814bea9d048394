//! The close handshake (RFC 6455 §7): single rules, and every short history of events around it.

use super::*;
use crate::reason::Reason;

fn close_frame(code: u16, text: &str) -> Vec<u8> {
    [&code.to_be_bytes()[..], text.as_bytes()].concat()
}

impl Harness {
    fn close(&mut self, reason: Reason, when: CloseWhen) {
        self.connection.close(self.now, reason, when);
    }
}

#[test]
fn the_peers_code_is_echoed_behind_what_is_queued() {
    let mut harness = Harness::open(Limits::default());
    harness.connection.send_text("answer");
    let events = harness.receive(&masked(CLOSE, &close_frame(3333, "bye")));
    assert!(matches!(events[..], [Event::Closed(Reason::PeerClosed)]));
    assert_eq!(harness.flush(), Flush::Fin);
    harness.expect_frames(&[(TEXT, b"answer"), (CLOSE, &close_frame(3333, ""))]);
    assert_eq!(
        harness.connection.peer_close(),
        Some(&PeerClose { code: Some(3333), text: "bye".to_owned() })
    );
    assert!(harness.eof().is_none());
    assert_eq!(harness.flush(), Flush::Closed);
}

#[test]
fn an_empty_close_is_answered_by_an_empty_close() {
    let mut harness = Harness::open(Limits::default());
    harness.receive(&masked(CLOSE, b""));
    harness.expect_frames(&[(CLOSE, b"")]);
}

#[test]
fn nothing_behind_the_peers_close_is_looked_at() {
    let mut harness = Harness::open(Limits::default());
    let events = harness
        .receive(&[masked(CLOSE, b""), masked(PING, b"late"), masked(TEXT, b"late")].concat());
    assert!(matches!(events[..], [Event::Closed(Reason::PeerClosed)]));
    harness.expect_frames(&[(CLOSE, b"")]);
}

#[test]
fn our_close_waits_for_the_peers() {
    let mut harness = Harness::open(Limits::default());
    harness.connection.send_text("last");
    harness.close(Reason::Shutdown, CloseWhen::AfterData);
    assert!(!harness.connection.is_open());
    assert_eq!(harness.flush(), Flush::Drained);
    harness.expect_frames(&[(TEXT, b"last"), (CLOSE, &close_frame(1001, "Server shutting down"))]);
    assert!(harness.receive(&[masked(TEXT, b"late"), masked(PING, b"late")].concat()).is_empty());
    let events = harness.receive(&masked(CLOSE, &close_frame(1001, "")));
    assert!(matches!(events[..], [Event::Closed(Reason::Shutdown)]));
    assert_eq!(harness.flush(), Flush::Fin);
    harness.expect_frames(&[]);
    assert!(harness.eof().is_none());
    assert_eq!(harness.flush(), Flush::Closed);
}

#[test]
fn closing_at_once_drops_what_is_queued_at_the_next_frame_boundary() {
    let mut harness = Harness::open(Limits::default());
    harness.sink = Sink { room: 4, ..Sink::default() };
    harness.connection.send_text("begun");
    harness.connection.send_text("dropped");
    assert_eq!(harness.flush(), Flush::Blocked);
    harness.close(Reason::SlowReader, CloseWhen::AtOnce);
    assert_eq!(harness.connection.messages_dropped(), 1);
    harness.sink.room = usize::MAX;
    harness.expect_frames(&[(TEXT, b"begun"), (CLOSE, &close_frame(1013, "Reading too slowly"))]);
}

#[test]
fn a_close_right_after_accept_comes_behind_the_101() {
    let mut harness = Harness::server(Limits::default());
    harness.receive(HANDSHAKE);
    harness.connection.accept(harness.now, &Accept::default());
    harness.close(Reason::MaxConnections, CloseWhen::AtOnce);
    let _ = harness.flush();
    let written = harness.written();
    let end = written.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    assert_eq!(frames(&written[end..]), [(CLOSE, close_frame(1013, "Server at maximum capacity"))]);
}

#[test]
fn nothing_follows_our_close_frame() {
    let mut harness = Harness::open(Limits::default());
    harness.close(Reason::Disconnected, CloseWhen::AfterData);
    harness.connection.send_text("late");
    harness.connection.ping(harness.now);
    harness.close(Reason::Shutdown, CloseWhen::AtOnce);
    harness.connection.close_with(harness.now, 4000, "", CloseWhen::AtOnce);
    harness.expect_frames(&[(CLOSE, &close_frame(1008, "Disconnected by the server"))]);
}

#[test]
fn broadcasts_are_refused_after_our_close_frame() {
    let mut harness = Harness::open(Limits::default());
    harness.close(Reason::Disconnected, CloseWhen::AfterData);
    let mut frame = Vec::new();
    encode_text(&mut frame, b"late");
    harness.connection.outbox_mut().push(&Segment::new(frame, 1, 1, 0));
    harness.expect_frames(&[(CLOSE, &close_frame(1008, "Disconnected by the server"))]);
}

#[test]
fn an_applications_code_is_sent_if_it_may_be() {
    for (code, sent) in [(4321, 4321), (1005, 1000)] {
        let mut harness = Harness::open(Limits::default());
        harness.connection.close_with(harness.now, code, "why", CloseWhen::AfterData);
        harness.expect_frames(&[(CLOSE, &close_frame(sent, "why"))]);
    }
}

#[test]
fn a_large_message_under_way_does_not_hide_the_peers_close() {
    let mut harness = Harness::open(Limits::default());
    let message = masked(0x01, &[b'x'; 1000]);
    harness.receive(&message[..500]);
    harness.close(Reason::Shutdown, CloseWhen::AfterData);
    harness.receive(&message[500..]);
    // Limits on messages do not matter any more, only where frames end.
    let huge = masked(0x80, &vec![0xFF; 2_000_000]);
    assert!(harness.receive(&huge).is_empty());
    assert_eq!(harness.connection.assembly_capacity(), 0);
    assert!(matches!(harness.receive(&masked(CLOSE, b""))[..], [Event::Closed(Reason::Shutdown)]));
}

#[test]
fn a_peer_that_does_not_close_is_dropped() {
    let mut harness = Harness::open(Limits::default());
    harness.close(Reason::Shutdown, CloseWhen::AfterData);
    let _ = harness.flush();
    assert!(harness.wait(Duration::from_millis(4999)).is_empty());
    let events = harness.wait(Duration::from_millis(1));
    assert!(matches!(events[..], [Event::Closed(Reason::CloseTimeout)]), "{events:?}");
    assert_eq!(harness.flush(), Flush::Closed);
}

#[test]
fn a_peer_that_does_not_end_its_stream_is_dropped() {
    let mut harness = Harness::open(Limits::default());
    harness.receive(&masked(CLOSE, b""));
    assert_eq!(harness.flush(), Flush::Fin);
    assert_eq!(harness.flush(), Flush::Drained, "Fin is said once");
    assert!(harness.wait(Duration::from_secs(5)).is_empty());
    assert_eq!(harness.flush(), Flush::Closed);
}

#[test]
fn a_peer_that_does_not_read_is_dropped() {
    let mut harness = Harness::open(Limits::default());
    harness.sink.room = 0;
    harness.connection.send_text("unread");
    harness.receive(b"\x81\x01a");
    assert_eq!(harness.flush(), Flush::Blocked);
    assert!(harness.wait(Duration::from_secs(5)).is_empty());
    assert_eq!(harness.flush(), Flush::Closed);
}

#[test]
fn the_peers_end_of_stream_gets_a_time_of_its_own() {
    let mut harness = Harness::open(Limits::default());
    harness.sink.room = 0;
    harness.receive(&masked(CLOSE, b""));
    assert!(harness.wait(Duration::from_secs(4)).is_empty());
    harness.sink.room = usize::MAX;
    assert_eq!(harness.flush(), Flush::Fin);
    harness.wait(Duration::from_millis(4999));
    assert_eq!(harness.flush(), Flush::Drained);
    harness.wait(Duration::from_millis(1));
    assert_eq!(harness.flush(), Flush::Closed);
}

/// What can happen around a close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    CloseAfterData,
    CloseAtOnce,
    PeerClose,
    PeerData,
    Violation,
    Eof,
    Wait,
    Send,
    Blocked,
    Writable,
    Broken,
}

const STEPS: [Step; 11] = [
    Step::CloseAfterData,
    Step::CloseAtOnce,
    Step::PeerClose,
    Step::PeerData,
    Step::Violation,
    Step::Eof,
    Step::Wait,
    Step::Send,
    Step::Blocked,
    Step::Writable,
    Step::Broken,
];

/// Every history of four events: the end is reported exactly once, at most one close frame is sent and nothing behind
/// it, and in the end the socket is dropped, at the latest when the peer stays silent.
#[test]
fn every_short_history_ends_once_and_in_order() {
    for history in 0..STEPS.len().pow(4) {
        let steps: Vec<Step> =
            (0..4).map(|at| STEPS[history / STEPS.len().pow(at) % STEPS.len()]).collect();
        check_history(&steps);
    }
}

fn check_history(steps: &[Step]) {
    let mut harness = Harness::open(Limits::default());
    let mut closed = Vec::new();
    let mut fins = 0;
    let mut is_gone = false;
    let mut eof = false;
    for step in steps.iter().copied().chain([Step::Writable, Step::Wait, Step::Wait, Step::Wait]) {
        let events = match step {
            Step::CloseAfterData => {
                harness.close(Reason::Shutdown, CloseWhen::AfterData);
                Vec::new()
            }
            Step::CloseAtOnce => {
                harness.close(Reason::Disconnected, CloseWhen::AtOnce);
                Vec::new()
            }
            Step::PeerClose if !eof => harness.receive(&masked(CLOSE, b"\x03\xe8")),
            Step::PeerData if !eof => harness.receive(&masked(TEXT, b"data")),
            Step::Violation if !eof => harness.receive(b"\x81\x01a"),
            Step::PeerClose | Step::PeerData | Step::Violation => Vec::new(),
            Step::Eof => {
                eof = true;
                harness.eof().into_iter().collect()
            }
            Step::Wait => harness.wait(Duration::from_secs(310)),
            Step::Send => {
                harness.connection.send_text("out");
                Vec::new()
            }
            Step::Blocked => {
                harness.sink.room = 3;
                Vec::new()
            }
            Step::Writable => {
                harness.sink.room = usize::MAX;
                Vec::new()
            }
            Step::Broken => {
                harness.sink.broken = true;
                Vec::new()
            }
        };
        for event in events {
            if let Event::Closed(reason) = event {
                closed.push(reason);
            }
        }
        match harness.flush() {
            Flush::Fin => fins += 1,
            Flush::Closed => is_gone = true,
            Flush::Drained | Flush::Blocked => assert!(!is_gone, "{steps:?}"),
        }
        if is_gone {
            closed.extend(harness.eof().map(|_| harness.connection.reason().unwrap()));
        }
    }
    assert!(is_gone, "{steps:?}: {:?}", harness.connection);
    assert_eq!(closed.len(), 1, "{steps:?}: {closed:?}");
    assert!(fins <= 1, "{steps:?}");
    assert_eq!(harness.connection.poll_timeout(&harness.limits), None, "{steps:?}");
    if !harness.sink.broken {
        check_output(&harness.written(), steps);
    }
}

/// Whole frames but for the last, and a close frame only at the end.
fn check_output(written: &[u8], steps: &[Step]) {
    let whole = (0..=written.len()).rev().find(|end| is_whole(&written[..*end])).unwrap();
    let out = frames(&written[..whole]);
    let close = out.iter().position(|(first, _)| *first == CLOSE);
    assert!(
        close.is_none_or(|at| at + 1 == out.len() && whole == written.len()),
        "{steps:?}: {out:?}"
    );
}

fn is_whole(bytes: &[u8]) -> bool {
    // All frames here are short.
    let mut at = 0;
    while at + 1 < bytes.len() {
        at += 2 + usize::from(bytes[at + 1]);
    }
    at == bytes.len()
}
