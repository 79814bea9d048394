//! Framing rules as a server sees them (RFC 6455 §5), and the bounds on messages.

use super::*;
use crate::reason::Reason;

#[test]
fn a_connection_is_small() {
    assert_eq!(size_of::<Connection>(), 72);
    assert_eq!(size_of::<Outbox>(), 24);
}

#[test]
fn an_open_idle_connection_owns_no_buffer() {
    let mut harness = Harness::open(Limits::default());
    harness.receive(&[masked(0x01, &[b'a'; 5000]), masked(PING, b""), masked(0x80, b"b")].concat());
    harness.connection.send_text("reply");
    let _ = harness.flush();

    assert!(harness.connection.holds_no_buffer());
}

#[test]
fn keep_alive_leaves_nothing_behind() {
    let mut harness = Harness::open(Limits::default());
    assert!(harness.connection.owns_nothing());
    harness.wait(Duration::from_secs(20));
    assert!(!harness.connection.owns_nothing(), "a ping is not answered yet");
    assert!(matches!(harness.receive(&masked(PONG, &[0, 0, 0, 1]))[..], [Event::Pong { .. }]));
    assert!(harness.connection.owns_nothing());
    harness.receive(&masked(PING, b"and the other way"));
    let _ = harness.flush();
    assert!(harness.connection.owns_nothing());
}

#[test]
fn a_whole_message_is_borrowed_from_the_wire() {
    for (first, payload) in
        [(TEXT, &b"hello"[..]), (BINARY, b"\xff"), (TEXT, b""), (TEXT, &[b'x'; 60_000])]
    {
        let mut harness = Harness::open(Limits::default());
        let mut bytes = masked(first, payload);
        let mut wire = &mut bytes[..];
        let event = harness.connection.receive(harness.now, &harness.limits, &mut wire);
        match event {
            Some(Event::Text(text)) => assert!(text.is_borrowed() && text.as_bytes() == payload),
            Some(Event::Binary(data)) => assert!(data.is_borrowed() && &*data == payload),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_event_does_not_borrow_the_connection() {
    let mut harness = Harness::open(Limits::default());
    let mut bytes = masked(TEXT, b"echo");
    let mut wire = &mut bytes[..];
    let Some(Event::Text(text)) =
        harness.connection.receive(harness.now, &harness.limits, &mut wire)
    else {
        panic!("a message")
    };
    harness.connection.send_text(&text);
    harness.expect_frames(&[(TEXT, b"echo")]);
}

#[test]
fn violations_end_the_connection_with_their_code() {
    let long_control = masked(PING, &[0; 126]);
    let fragment = masked(0x01, b"a");
    let cases: &[(&[u8], Reason, u16)] = &[
        (b"\x81\x01a", Reason::Unmasked, 1002),
        (&masked(0xC1, b"a"), Reason::ReservedBits, 1002),
        (&masked(0xA1, b"a"), Reason::ReservedBits, 1002),
        (&masked(0x91, b"a"), Reason::ReservedBits, 1002),
        (&masked(0x83, b"a"), Reason::ReservedOpcode, 1002),
        (&masked(0x8B, b"a"), Reason::ReservedOpcode, 1002),
        (b"\x82\xfe\x00\x7dabcd", Reason::BadLength, 1002),
        (b"\x82\xff\x00\x00\x00\x00\x00\x00\xff\xffabcd", Reason::BadLength, 1002),
        (b"\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00abcd", Reason::BadLength, 1002),
        (b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xffabcd", Reason::MessageTooBig, 1009),
        (&masked(0x09, b"a"), Reason::FragmentedControl, 1002),
        (&long_control, Reason::LongControl, 1002),
        (&masked(0x80, b"a"), Reason::UnexpectedContinuation, 1002),
        (&masked(0x00, b"a"), Reason::UnexpectedContinuation, 1002),
        (&[&fragment[..], &masked(TEXT, b"b")].concat(), Reason::ExpectedContinuation, 1002),
        (&[&fragment[..], &masked(0x02, b"b")].concat(), Reason::ExpectedContinuation, 1002),
        (&masked(TEXT, b"\xff"), Reason::BadUtf8, 1007),
        (&masked(TEXT, b"\xe2\x82"), Reason::BadUtf8, 1007),
        (&[masked(0x01, b"\xe2\x82"), masked(0x80, b"")].concat(), Reason::BadUtf8, 1007),
        (&masked(CLOSE, b"x"), Reason::BadClose, 1002),
        (&masked(CLOSE, b"\x03\xee"), Reason::BadClose, 1002),
        (&masked(CLOSE, b"\x03\xe8\xff"), Reason::BadUtf8, 1007),
    ];
    for (bytes, reason, code) in cases {
        for step in [1, bytes.len()] {
            let mut harness = Harness::open(Limits::default());
            harness.connection.send_text("earlier");
            let events: Vec<_> =
                bytes.chunks(step).flat_map(|chunk| harness.receive(chunk)).collect();
            assert!(
                matches!(&events[..], [Event::Closed(r)] if r == reason),
                "{bytes:x?}: {events:?}"
            );
            let mut payload = code.to_be_bytes().to_vec();
            payload.extend(reason.row().text.as_bytes());
            harness.expect_frames(&[(TEXT, b"earlier"), (CLOSE, &payload)]);
        }
    }
}

#[test]
fn text_fails_at_its_first_bad_byte() {
    // As Autobahn 6.4.*: the frame announces more than has come.
    let mut harness = Harness::open(Limits::default());
    let frame = masked(TEXT, b"\xce\xba\xe1\xbd\xb9\xf4\x90\x80\x80 and more");
    let lead = 6 + 5;
    assert!(harness.receive(&frame[..=lead]).is_empty(), "F4 may still become valid");
    assert!(matches!(
        harness.receive(&frame[lead + 1..lead + 2])[..],
        [Event::Closed(Reason::BadUtf8)]
    ));
}

#[test]
fn fragments_are_put_together_around_control_frames() {
    let mut harness = Harness::open(Limits::default());
    let bytes = [
        masked(0x01, "h\u{fc}".as_bytes().split_at(2).0),
        masked(PING, b"between"),
        masked(0x00, b"\xbcll"),
        masked(PING, b"again"),
        masked(0x80, b"o"),
        masked(BINARY, b"next"),
    ]
    .concat();
    let events = harness.receive(&bytes);
    assert!(
        matches!(&events[..], [Event::Text(text), Event::Binary(data)] if &**text == "hüllo" && &**data == b"next"),
        "{events:?}"
    );
    harness.expect_frames(&[(PONG, b"between"), (PONG, b"again")]);
}

#[test]
fn every_ping_has_its_pong_in_order() {
    // As Autobahn 2.10.
    let mut harness = Harness::open(Limits::default());
    let pings: Vec<u8> = (0..10).flat_map(|number| masked(PING, &[number])).collect();
    assert!(harness.receive(&pings).is_empty());
    let pongs: Vec<[u8; 1]> = (0..10).map(|number| [number]).collect();
    let expected: Vec<(u8, &[u8])> = pongs.iter().map(|payload| (PONG, &payload[..])).collect();
    harness.expect_frames(&expected);
}

#[test]
fn sizes_are_bounded_over_all_fragments_before_bytes_are_taken() {
    let limits = Limits { message_bytes_max: 10, ..Limits::default() };
    let mut harness = Harness::open(limits.clone());
    assert!(matches!(harness.receive(&masked(BINARY, &[0; 10]))[..], [Event::Binary(_)]));
    assert!(harness.receive(&masked(0x02, &[0; 9])).is_empty());
    assert!(matches!(
        harness.receive(&masked(0x80, &[0; 2])[..6])[..],
        [Event::Closed(Reason::MessageTooBig)]
    ));

    let mut harness = Harness::open(limits);
    assert!(matches!(
        harness.receive(&masked(BINARY, &[0; 11])[..6])[..],
        [Event::Closed(Reason::MessageTooBig)]
    ));
}

#[test]
fn fragments_are_bounded() {
    let mut harness = Harness::open(Limits { fragments_max: 3, ..Limits::default() });
    let good = [masked(0x02, b"a"), masked(0x00, b"b"), masked(0x80, b"c")].concat();
    assert!(matches!(harness.receive(&good)[..], [Event::Binary(_)]));
    let bad =
        [masked(0x02, b"a"), masked(0x00, b"b"), masked(0x00, b"c"), masked(0x80, b"d")].concat();
    assert!(matches!(harness.receive(&bad)[..], [Event::Closed(Reason::TooManyFragments)]));
}

#[test]
fn floods_of_control_frames_and_empty_fragments_are_cut() {
    let limits = Limits { control_frames_per_second_max: 5, ..Limits::default() };
    for frame in [masked(PING, b""), masked(PONG, b"x"), masked(0x00, b"")] {
        let mut harness = Harness::open(limits.clone());
        assert!(harness.receive(&masked(0x01, b"begun")).is_empty());
        assert!(harness.receive(&frame.repeat(10)).is_empty(), "two seconds' worth at once");
        assert!(matches!(harness.receive(&frame)[..], [Event::Closed(Reason::ControlFlood)]));
    }
}

#[test]
fn the_rate_of_control_frames_is_refilled_by_time_alone() {
    let limits = Limits { control_frames_per_second_max: 5, ..Limits::default() };
    let mut harness = Harness::open(limits);
    assert!(harness.receive(&masked(PING, b"").repeat(10)).is_empty());
    // Neither what comes in between, nor a ping of ours with its answer.
    harness.connection.ping(harness.now);
    assert!(matches!(harness.receive(&masked(TEXT, b"a"))[..], [Event::Text(_)]));
    harness.now = harness.now.plus(Duration::from_millis(200));
    assert!(matches!(harness.receive(&masked(PONG, &[0, 0, 0, 1]))[..], [Event::Pong { .. }]));
    assert!(matches!(
        harness.receive(&masked(PING, b""))[..],
        [Event::Closed(Reason::ControlFlood)]
    ));
}

#[test]
fn silence_refills_the_rate_of_control_frames() {
    let limits = Limits { control_frames_per_second_max: 5, ..Limits::default() };
    let mut harness = Harness::open(limits);
    for _ in 0..3 {
        assert!(harness.receive(&masked(PING, b"").repeat(10)).is_empty());
        harness.now = harness.now.plus(Duration::from_secs(2));
    }
}

#[test]
fn an_announced_length_reserves_no_memory() {
    let mut harness = Harness::open(Limits { message_bytes_max: 1 << 40, ..Limits::default() });
    let mut header = vec![BINARY, 0x80 | 127];
    header.extend((1u64 << 39).to_be_bytes());
    header.extend([0; 4]);
    assert!(harness.receive(&header).is_empty());
    assert!(harness.receive(&[0; 100]).is_empty());
    assert!(harness.connection.assembly_capacity() <= 100 + 64 * 1024);
    for _ in 0..20 {
        harness.receive(&[0; 60_000]);
        assert!(
            harness.connection.assembly_capacity() <= harness.connection.assembly_len() + 64 * 1024
        );
    }
}

#[test]
fn after_the_end_input_is_thrown_away() {
    let mut harness = Harness::open(Limits::default());
    assert!(matches!(
        harness.receive(&masked(CLOSE, b"\x03\xe8"))[..],
        [Event::Closed(Reason::PeerClosed)]
    ));
    let _ = harness.flush();
    for _ in 0..10 {
        assert!(harness.receive(&[0xAA; 65_536]).is_empty());
    }
    assert!(harness.connection.holds_no_buffer());
}

#[test]
fn reading_pauses_while_answers_are_not_read() {
    let mut harness = Harness::open(Limits { outbox_read_watermark: 10, ..Limits::default() });
    harness.sink.room = 0;
    assert!(harness.connection.wants_read(&harness.limits));
    harness.connection.send_text("an answer");
    assert!(!harness.connection.wants_read(&harness.limits));
    harness.sink.room = usize::MAX;
    let _ = harness.flush();
    assert!(harness.connection.wants_read(&harness.limits));
}

#[test]
fn broadcasts_do_not_pause_reading() {
    let mut harness = Harness::open(Limits { outbox_read_watermark: 10, ..Limits::default() });
    let mut frame = Vec::new();
    encode_text(&mut frame, &[b'x'; 100]);
    let segment = Segment::new(frame, 1, 1, 0);
    harness.connection.outbox_mut().push(&segment);
    assert!(harness.connection.wants_read(&harness.limits));
}

#[test]
fn silence_brings_a_ping_and_then_the_end() {
    let mut harness = Harness::open(Limits::default());
    assert!(harness.wait(Duration::from_secs(19)).is_empty());
    harness.expect_frames(&[]);
    assert!(harness.wait(Duration::from_secs(1)).is_empty());
    harness.expect_frames(&[(PING, &[0, 0, 0, 1])]);
    let events = harness.wait(Duration::from_secs(20));
    assert!(matches!(events[..], [Event::Closed(Reason::PongTimeout)]), "{events:?}");
    harness.expect_frames(&[(CLOSE, b"\x03\xf3Keepalive ping timeout")]);
    harness.wait(Duration::from_secs(5));
    assert_eq!(harness.flush(), Flush::Closed);
}

#[test]
fn a_silent_peers_backlog_is_dropped() {
    let mut harness = Harness::open(Limits::default());
    harness.wait(Duration::from_secs(20));
    harness.connection.send_text("dropped");
    harness.wait(Duration::from_secs(20));
    harness.expect_frames(&[(PING, &[0, 0, 0, 1]), (CLOSE, b"\x03\xf3Keepalive ping timeout")]);
    assert_eq!(harness.connection.messages_dropped(), 1);
}

#[test]
fn any_byte_is_a_sign_of_life() {
    let mut harness = Harness::open(Limits::default());
    let frame = masked(TEXT, b"dribbled over a long time");
    for byte in &frame[..frame.len() - 1] {
        assert!(harness.receive(&[*byte]).is_empty());
        assert!(harness.wait(Duration::from_secs(19)).is_empty());
    }
    harness.expect_frames(&[]);
}

#[test]
fn a_pong_tells_the_round_trip_time() {
    let mut harness = Harness::open(Limits::default());
    harness.wait(Duration::from_secs(20));
    harness.wait(Duration::from_millis(30));
    assert!(harness.receive(&masked(PONG, b"unasked")).is_empty());
    let events = harness.receive(&masked(PONG, &[0, 0, 0, 1]));
    assert!(
        matches!(events[..], [Event::Pong { rtt }] if rtt == Duration::from_millis(30)),
        "{events:?}"
    );
    assert!(harness.receive(&masked(PONG, &[0, 0, 0, 1])).is_empty());
}

#[test]
fn without_pings_an_idle_connection_times_out() {
    let mut harness = Harness::open(Limits { ping_interval: None, ..Limits::default() });
    let events = harness.wait(Duration::from_secs(300));
    assert!(matches!(events[..], [Event::Closed(Reason::IdleTimeout)]), "{events:?}");
    harness.expect_frames(&[(CLOSE, b"\x03\xe9Connection timed out")]);
}

#[test]
fn a_socket_error_ends_everything() {
    let mut harness = Harness::open(Limits::default());
    harness.connection.send_text("lost");
    harness.sink.broken = true;
    assert_eq!(harness.flush(), Flush::Closed);
    assert_eq!(harness.connection.reason(), Some(Reason::Io));
    assert!(matches!(harness.eof(), Some(Event::Closed(Reason::Io))));
    assert!(harness.eof().is_none());
    assert_eq!(harness.connection.outbox().messages(), 1, "not delivered");
    assert_eq!(harness.connection.poll_timeout(&harness.limits), None);
}

#[test]
fn end_of_stream_without_a_close_handshake_is_reported() {
    let mut harness = Harness::open(Limits::default());
    assert!(matches!(harness.eof(), Some(Event::Closed(Reason::Eof))));
    assert_eq!(harness.flush(), Flush::Closed);
}

#[test]
fn flushing_goes_on_until_the_socket_blocks() {
    let mut harness = Harness::open(Limits::default());
    harness.sink = Sink { room: 5, ..Sink::default() };
    harness.connection.send_text("0123456789");
    assert_eq!(harness.flush(), Flush::Blocked);
    assert_eq!(harness.sink.written.len(), 5);
    harness.sink.room = 100;
    assert_eq!(harness.flush(), Flush::Drained);
    harness.expect_frames(&[(TEXT, b"0123456789")]);
}

#[test]
fn many_segments_are_gathered() {
    let mut harness = Harness::open(Limits::default());
    let mut expected = Vec::new();
    for number in 0..200u8 {
        let mut frame = Vec::new();
        encode_frame(&mut frame, Opcode::Binary, &[number], None);
        expected.extend(frame.clone());
        harness.connection.outbox_mut().push(&Segment::new(frame, 1, 1, 0));
    }
    harness.connection.ping(harness.now);
    assert_eq!(harness.flush(), Flush::Drained);
    let written = harness.written();
    assert_eq!(written[..6], [0x89, 4, 0, 0, 0, 1]);
    assert_eq!(written[6..], expected);
}
