//! Messages that are sent on as they came.

use super::*;

/// The message of which these are the frames, taken in with pieces of `piece` bytes.
fn receive_in_pieces(harness: &mut Harness, wire: &[u8], piece: usize) -> Event<'static> {
    let mut events: Vec<_> = wire.chunks(piece).flat_map(|bytes| harness.receive(bytes)).collect();
    assert_eq!(events.len(), 1, "{events:?}");
    events.remove(0)
}

fn forward(harness: &mut Harness, event: Event<'static>) {
    let kind = format!("{event:?}");
    if let Event::Text(text) = event {
        harness.connection.forward_text(text);
    } else if let Event::Binary(payload) = event {
        harness.connection.forward_binary(payload);
    } else {
        panic!("no message: {kind}");
    }
}

/// Where the payload of a message lies in memory.
fn address(event: &Event<'_>) -> Option<*const u8> {
    if let Event::Text(text) = event {
        Some(text.as_ptr())
    } else if let Event::Binary(payload) = event {
        Some(payload.as_ptr())
    } else {
        None
    }
}

#[test]
fn what_is_sent_on_is_what_came() {
    for size in [0, 1, 125, 126, 65_535, 65_536, 70_000, 300_000] {
        for piece in [1000, 65_536, usize::MAX] {
            for first in [TEXT, BINARY] {
                let mut harness = Harness::open(Limits::default());
                let payload: Vec<u8> = (0..size).map(|at| b'a' + (at % 26) as u8).collect();
                let event = receive_in_pieces(&mut harness, &masked(first, &payload), piece);

                forward(&mut harness, event);

                harness.expect_frames(&[(first, &payload)]);
            }
        }
    }
}

#[test]
fn a_large_message_is_sent_on_from_where_it_lies() {
    for first in [TEXT, BINARY] {
        let mut harness = Harness::open(Limits::default());
        let event = receive_in_pieces(&mut harness, &masked(first, &[b'x'; 100_000]), 4096);
        let payload = address(&event);

        forward(&mut harness, event);

        let frame = harness.connection.outbox().head();
        assert_eq!(frame.len(), 100_010);
        assert_eq!(Some(frame[10..].as_ptr()), payload);
    }
}

#[test]
fn a_message_of_several_frames_is_sent_on_as_one() {
    let mut harness = Harness::open(Limits::default());
    let wire = [masked(0x02, &[1; 70_000]), masked(0x80, &[2; 70_000])].concat();
    let event = receive_in_pieces(&mut harness, &wire, usize::MAX);

    forward(&mut harness, event);

    harness.expect_frames(&[(BINARY, &[[1; 70_000], [2; 70_000]].concat())]);
}

#[test]
fn headroom_is_no_part_of_the_message() {
    let mut harness = Harness::open(Limits::default());
    let text = receive_in_pieces(&mut harness, &masked(TEXT, &[b'x'; 70_000]), 4096);
    let binary = receive_in_pieces(&mut harness, &masked(BINARY, &[7; 70_000]), 4096);

    let (Event::Text(text), Event::Binary(binary)) = (text, binary) else { panic!("messages") };

    assert_eq!((text.len(), binary.len()), (70_000, 70_000));
    assert_eq!(text.into_string(), "x".repeat(70_000));
    assert_eq!(binary.into_vec(), [7; 70_000]);
}

#[test]
fn what_is_sent_on_counts_as_the_connections_own() {
    let mut harness = Harness::open(Limits::default());
    harness.sink.room = 0;
    for _ in 0..2 {
        let event = receive_in_pieces(&mut harness, &masked(BINARY, &[7; 70_000]), 4096);
        forward(&mut harness, event);
    }

    assert_eq!(harness.flush(), Flush::Blocked);

    assert_eq!(harness.connection.outbox().bytes(), 140_020);
    assert!(
        !harness.connection.wants_read(&harness.limits),
        "a client that does not read is not read"
    );
}

#[test]
fn nothing_is_sent_on_after_the_close() {
    let mut harness = Harness::open(Limits::default());
    let event = receive_in_pieces(&mut harness, &masked(BINARY, &[7; 70_000]), 4096);
    let now = harness.now;
    harness.connection.close(now, crate::reason::Reason::Shutdown, CloseWhen::AtOnce);
    let _ = harness.flush();
    harness.written();

    forward(&mut harness, event);

    harness.expect_frames(&[]);
}
