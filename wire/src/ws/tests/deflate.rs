//! permessage-deflate on whole connections. The other end is flate2 used directly, with any level.

use flate2::{Compress, Compression, FlushCompress};
use proptest::prelude::*;

use super::*;
use crate::{
    entropy::{Entropy, Seed},
    reason::Reason,
};

/// A connection with permessage-deflate, and what it needs for it.
struct Rig {
    harness: Harness,
    inflater: Inflater,
    deflater: Deflater,
}

impl Rig {
    fn new(limits: Limits) -> Self {
        Self::with_offer("permessage-deflate", limits)
    }

    fn with_offer(offer: &str, limits: Limits) -> Self {
        let mut harness = Harness::server(limits);
        let head = String::from_utf8(HANDSHAKE.to_vec()).unwrap();
        let head =
            head.replace("\r\n\r\n", &format!("\r\nSec-WebSocket-Extensions: {offer}\r\n\r\n"));
        let events = harness.receive(head.as_bytes());
        let [Event::Upgrade(request)] = &events[..] else { panic!("{events:?}") };
        let deflate = Deflate::choose(request.headers()).unwrap();
        harness.connection.accept(harness.now, &Accept { deflate, ..Accept::default() });
        assert!(harness.receive(b"").is_empty());
        let _ = harness.flush();
        harness.written();
        Self { harness, inflater: Inflater::new(), deflater: Deflater::new(6, 0) }
    }

    /// The events of these bytes, compressed messages inflated at once, as an application does it.
    fn receive(&mut self, bytes: &[u8]) -> Vec<Event<'static>> {
        let Harness { connection, now, limits, .. } = &mut self.harness;
        let mut bytes = bytes.to_vec();
        let mut wire = &mut bytes[..];
        let mut events = Vec::new();
        while let Some(event) = connection.receive(*now, limits, &mut wire) {
            let event = if let Event::Compressed(message) = event {
                connection.inflate(*now, limits, &mut self.inflater, message)
            } else {
                Some(event)
            };
            events.extend(event.map(Event::into_owned));
        }
        events
    }

    fn expect_text(&mut self, bytes: &[u8], text: &str) {
        let events = self.receive(bytes);
        assert!(matches!(&events[..], [Event::Text(got)] if &**got == text), "{events:?}");
    }

    /// Checks that these bytes end the connection for `reason`, and that the peer is told.
    fn expect_failure(&mut self, bytes: &[u8], reason: Reason) {
        let events = self.receive(bytes);
        assert!(matches!(&events[..], [Event::Closed(end)] if *end == reason), "{events:?}");
        let _ = self.harness.flush();
        let written = self.harness.written();
        let (first, payload) = frames(&written).pop().unwrap();
        assert_eq!(first, CLOSE);
        assert_eq!(u16::from_be_bytes([payload[0], payload[1]]), reason.row().close.unwrap());
    }
}

/// A message's compressed payload, as RFC 7692 §7.2.1 makes it.
fn deflated(level: u32, payload: &[u8]) -> Vec<u8> {
    let mut stream = Compress::new(Compression::new(level), false);
    let mut out = Vec::with_capacity(payload.len() * 2 + 100);
    stream.compress_vec(payload, &mut out, FlushCompress::Sync).unwrap();
    assert!(out.ends_with(&[0, 0, 0xFF, 0xFF]) && out.len() < out.capacity());
    out.truncate(out.len() - 4);
    out
}

/// What a payload with the extension's bit set says.
fn inflated(payload: &[u8]) -> Vec<u8> {
    let mut input = payload.to_vec();
    input.extend([0, 0, 0xFF, 0xFF]);
    let mut out = Vec::with_capacity(1 << 20);
    let mut stream = flate2::Decompress::new(false);
    stream.decompress_vec(&input, &mut out, flate2::FlushDecompress::Sync).unwrap();
    assert_eq!(stream.total_in(), input.len() as u64);
    out
}

const RSV1_TEXT: u8 = 0xC1;
const RSV1_BINARY: u8 = 0xC2;

/// The examples of RFC 7692 §7.2.3 but for the one that needs the window of the message before.
#[test]
fn the_rfcs_examples_are_understood() {
    let mut rig = Rig::new(Limits::default());
    for (example, text) in [
        (&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..], "Hello"),
        // A block without compression.
        (&[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00], "Hello"),
        // A final block.
        (&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00], "Hello"),
        // Two blocks.
        (&[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00], "Hello"),
        // Nothing.
        (&[0x00], ""),
    ] {
        rig.expect_text(&masked(RSV1_TEXT, example), text);
    }
    let mut fragments = masked(0x41, &[0xf2, 0x48, 0xcd]);
    fragments.extend(masked(0x80, &[0xc9, 0xc9, 0x07, 0x00]));
    rig.expect_text(&fragments, "Hello");
}

#[test]
fn senders_that_are_free_with_the_end_of_a_stream_are_understood() {
    let mut rig = Rig::new(Limits::default());
    // No byte at all for an empty message; a final block without the empty one behind it; blocks behind a final one.
    rig.expect_text(&masked(RSV1_TEXT, &[]), "");
    rig.expect_text(&masked(RSV1_TEXT, &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]), "Hello");
    let mut twice = vec![0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    twice.extend([0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]);
    rig.expect_text(&masked(RSV1_TEXT, &twice), "HelloHello");
}

#[test]
fn a_message_that_leans_on_the_one_before_is_unsound() {
    let mut rig = Rig::new(Limits::default());
    rig.expect_text(&masked(RSV1_TEXT, &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]), "Hello");
    rig.expect_failure(&masked(RSV1_TEXT, &[0xf2, 0x00, 0x11, 0x00, 0x00]), Reason::BadDeflate);
}

#[test]
fn plain_messages_stay_possible() {
    let mut rig = Rig::new(Limits::default());
    rig.expect_text(&masked(TEXT, b"plain"), "plain");
    rig.harness.connection.send_text("plain");
    rig.harness.expect_frames(&[(TEXT, b"plain")]);
}

#[test]
fn the_first_reserved_bit_stands_on_first_frames_of_messages_only() {
    for wrong in [
        masked(0xC9, b""),
        masked(0xC8, b""),
        masked(0xA1, b""),
        masked(0x91, b""),
        [masked(0x41, &[0xf2]), masked(0xC0, &[0x48])].concat(),
        [masked(0x01, b"a"), masked(0xC0, b"b")].concat(),
    ] {
        Rig::new(Limits::default()).expect_failure(&wrong, Reason::ReservedBits);
    }
}

#[test]
fn without_the_extension_the_bit_is_reserved() {
    let mut harness = Harness::open(Limits::default());
    let events = harness.receive(&masked(RSV1_TEXT, &[0x00]));
    assert!(matches!(&events[..], [Event::Closed(Reason::ReservedBits)]), "{events:?}");
}

#[test]
fn what_is_not_deflate_is_unsound() {
    let sound = deflated(6, "some text that is long enough to be cut, cut, cut".as_bytes());
    let cut = |at: usize| sound[..sound.len() - at].to_vec();
    for payload in [
        // Reserved block type.
        vec![0x06],
        vec![0xFF; 20],
        // A stored block whose lengths do not match.
        vec![0x00, 0x05, 0x00, 0x00, 0x00, 0x48],
        // Back beyond the beginning.
        vec![0x02, 0x02],
        cut(3),
        cut(10),
        cut(sound.len() - 1),
    ] {
        let mut rig = Rig::new(Limits::default());
        rig.expect_failure(&masked(RSV1_BINARY, &payload), Reason::BadDeflate);
    }
}

#[test]
fn text_is_checked_after_inflating() {
    let bad = deflated(6, b"gr\xfc\xdf");
    Rig::new(Limits::default()).expect_failure(&masked(RSV1_TEXT, &bad), Reason::BadUtf8);
    let mut rig = Rig::new(Limits::default());
    let events = rig.receive(&masked(RSV1_BINARY, &bad));
    assert!(matches!(&events[..], [Event::Binary(_)]), "bytes may be anything");
}

#[test]
fn a_bomb_is_refused_before_it_takes_memory() {
    let limits = Limits { message_bytes_max: 8 << 20, ..Limits::default() };
    let bomb = deflated(9, &vec![0; 8 << 20]);
    let mut rig = Rig::new(limits);
    rig.expect_failure(&masked(RSV1_BINARY, &bomb), Reason::InflateRatio);
    let held = rig.inflater_capacity();
    assert!(held <= bomb.len() * 200 + 1, "{held} bytes for {}", bomb.len());
}

#[test]
fn a_message_is_as_large_as_without_compression_at_most() {
    let limits =
        Limits { message_bytes_max: 100_000, inflate_ratio_max: 1_000_000, ..Limits::default() };
    let mut rig = Rig::new(limits.clone());
    let events = rig.receive(&masked(RSV1_BINARY, &deflated(6, &vec![0; 100_000])));
    assert!(matches!(&events[..], [Event::Binary(got)] if got.len() == 100_000));
    let over = masked(RSV1_BINARY, &deflated(6, &vec![0; 100_001]));
    rig.expect_failure(&over, Reason::MessageTooBig);
    assert!(rig.inflater_capacity() <= 100_001);

    // What cannot be compressed may take a little more on its way.
    let mut noise = vec![0; 100_000];
    Entropy::new(Seed::from(1)).fill(&mut noise);
    let payload = deflated(1, &noise);
    assert!(payload.len() > noise.len());
    let events = Rig::new(limits.clone()).receive(&masked(RSV1_BINARY, &payload));
    assert!(matches!(&events[..], [Event::Binary(got)] if got[..] == noise));
    Rig::new(limits).expect_failure(&masked(RSV1_BINARY, &[0; 200_000]), Reason::MessageTooBig);
}

#[test]
fn a_few_bytes_may_become_many_kilobytes() {
    let mut rig = Rig::new(Limits { inflate_ratio_max: 1, ..Limits::default() });
    let events = rig.receive(&masked(RSV1_BINARY, &deflated(9, &vec![0; 60_000])));
    assert!(matches!(&events[..], [Event::Binary(_)]), "{events:?}");
}

#[test]
fn what_comes_after_an_unsound_message_is_not_looked_at() {
    let mut rig = Rig::new(Limits::default());
    let bytes = [masked(RSV1_TEXT, &[0x06]), masked(TEXT, b"later")].concat();
    rig.expect_failure(&bytes, Reason::BadDeflate);
}

#[test]
fn messages_go_out_compressed_if_they_gain_by_it() {
    let mut rig = Rig::new(Limits::default());
    let text = "again and again and again ".repeat(20);
    let Rig { harness, deflater, .. } = &mut rig;
    harness.connection.send_text_deflated(deflater, text.as_bytes());
    harness.connection.send_binary_deflated(deflater, text.as_bytes());
    harness.connection.send_text_deflated(deflater, b"short");
    harness.connection.send_text_deflated(deflater, b"");
    let _ = harness.flush();
    let written = harness.written();
    let sent = frames(&written);
    let firsts: Vec<u8> = sent.iter().map(|(first, _)| *first).collect();
    assert_eq!(firsts, [RSV1_TEXT, RSV1_BINARY, TEXT, TEXT]);
    assert_eq!(inflated(&sent[0].1), text.as_bytes());
    assert_eq!(inflated(&sent[1].1), text.as_bytes());
    assert!(sent[0].1.len() < 60);
    assert_eq!(sent[2].1, b"short");
}

/// Long payloads of every kind, by every level: none may trip the compressor over the room that it is given.
#[test]
fn long_payloads_of_every_kind_go_out_and_come_back() {
    let mut random = vec![0; 140_000];
    Entropy::new(Seed::from(3)).fill(&mut random);
    for symbols in [2u8, 16, 60, 96, 128, 200, 255] {
        let payload: Vec<u8> =
            random.iter().map(|byte| (byte % symbols).wrapping_add(20)).collect();
        for len in [1024, 16_384, 65_536, 131_072, 140_000] {
            let payload = &payload[..len];
            for level in 1..=9 {
                let mut rig = Rig::new(Limits::default());
                let mut deflater = Deflater::new(level, 0);
                rig.harness.connection.send_binary_deflated(&mut deflater, payload);
                let _ = rig.harness.flush();
                let (first, sent) = frames(&rig.harness.written()).pop().unwrap();
                let got = if first == RSV1_BINARY { inflated(&sent) } else { sent };
                assert!(got == payload, "{symbols} symbols, {len} bytes, level {level}");
            }
        }
    }
}

#[test]
fn below_the_threshold_nothing_is_compressed() {
    let mut rig = Rig::new(Limits::default());
    rig.deflater = Deflater::new(1, 100);
    let Rig { harness, deflater, .. } = &mut rig;
    harness.connection.send_text_deflated(deflater, &[b'a'; 99]);
    harness.connection.send_text_deflated(deflater, &[b'a'; 100]);
    let _ = harness.flush();
    let firsts: Vec<u8> = frames(&harness.written()).iter().map(|(first, _)| *first).collect();
    assert_eq!(firsts, [TEXT, RSV1_TEXT]);
}

#[test]
fn a_small_window_gets_compressed_what_fits_into_it() {
    let offer = "permessage-deflate; server_max_window_bits=9";
    let mut rig = Rig::with_offer(offer, Limits::default());
    let Rig { harness, deflater, .. } = &mut rig;
    harness.connection.send_text_deflated(deflater, &[b'a'; 512]);
    harness.connection.send_text_deflated(deflater, &[b'a'; 513]);
    let _ = harness.flush();
    let firsts: Vec<u8> = frames(&harness.written()).iter().map(|(first, _)| *first).collect();
    assert_eq!(firsts, [RSV1_TEXT, TEXT]);
}

#[test]
fn a_client_offers_it_and_uses_it() {
    let (now, limits) = (start(), Limits::default());
    let request = ClientRequest {
        host: "a".to_owned(),
        path: "/".to_owned(),
        headers: http::HeaderMap::new(),
        subprotocols: Vec::new(),
        deflate: true,
    };
    let connection = Connection::client(now, request, Entropy::new(Seed::from(1)));
    let mut client = Harness { connection, limits, now, sink: Sink::endless() };
    let _ = client.flush();
    let head = client.written_text();
    let offer = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Extensions: "));
    let mut server = Harness::server(Limits::default());
    let events = server.receive(head.as_bytes());
    let [Event::Upgrade(request)] = &events[..] else { panic!("{events:?}") };
    assert_eq!(request.headers()["sec-websocket-extensions"], offer.unwrap());
    let deflate = Deflate::choose(request.headers()).unwrap();
    server.connection.accept(now, &Accept { deflate, ..Accept::default() });
    let _ = server.flush();
    client.receive(&server.written());
    assert_eq!(client.connection.window_bits(), 15);

    let text = "round and round ".repeat(30);
    client.connection.send_text_deflated(&mut Deflater::new(9, 0), text.as_bytes());
    let _ = client.flush();
    let events = server.receive(&client.written());
    let [Event::Compressed(message)] = &events[..] else { panic!("{events:?}") };
    let mut inflater = Inflater::new();
    let event = server.connection.inflate(now, &server.limits, &mut inflater, message.clone());
    assert!(matches!(event, Some(Event::Text(got)) if *got == *text));
}

#[test]
fn a_bad_answer_fails_the_clients_handshake() {
    for (answer, reason) in [
        ("permessage-deflate; server_no_context_takeover", None),
        ("permessage-deflate", Some(Reason::BadHandshake)),
        ("permessage-deflate; server_no_context_takeover; x=1", Some(Reason::BadHandshake)),
        ("permessage-deflate; server_no_context_takeover, foo", Some(Reason::BadHandshake)),
    ] {
        let (now, limits) = (start(), Limits::default());
        let request = ClientRequest {
            host: "a".to_owned(),
            path: "/".to_owned(),
            headers: http::HeaderMap::new(),
            subprotocols: Vec::new(),
            deflate: true,
        };
        let connection = Connection::client(now, request, Entropy::new(Seed::from(1)));
        let mut client = Harness { connection, limits, now, sink: Sink::endless() };
        let _ = client.flush();
        let mut server = Harness::server(Limits::default());
        server.receive(&client.written());
        server.connection.accept(now, &Accept::default());
        let _ = server.flush();
        let head = server.written_text();
        let extension = format!("\r\nSec-WebSocket-Extensions: {answer}\r\n\r\n");
        client.receive(head.replace("\r\n\r\n", &extension).as_bytes());
        assert_eq!(client.connection.reason(), reason, "{answer}");
    }
}

/// A payload cut into frames at `cuts`, with a ping between them; `first` is the first frame's first byte without FIN.
fn fragmented(first: u8, payload: &[u8], cuts: &[usize]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (mut rest, mut opcode) = (payload, first);
    for cut in cuts {
        let (fragment, after) = rest.split_at((*cut).min(rest.len()));
        rest = after;
        bytes.extend(masked(opcode, fragment));
        bytes.extend(masked(PING, b"?"));
        opcode = 0;
    }
    bytes.extend(masked(0x80 | opcode, rest));
    bytes
}

proptest! {
    #[test]
    fn any_chunking_and_fragmentation_gives_the_same_message(
        text in prop_oneof![any::<String>(), "[a-c]{0,3000}"],
        level in 0u32..10,
        cuts in prop::collection::vec(0usize..40, 0..20),
        chunks in prop::collection::vec(1usize..50, 1..40),
    ) {
        let frames = fragmented(0x41, &deflated(level, text.as_bytes()), &cuts);
        let bytes = [frames, masked(TEXT, b"next")].concat();
        let mut rig = Rig::new(Limits::default());
        let mut seen = Vec::new();
        let mut rest = &bytes[..];
        for size in chunks.into_iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (chunk, after) = rest.split_at(size.min(rest.len()));
            rest = after;
            seen.extend(rig.receive(chunk));
        }
        let texts: Vec<String> = seen
            .into_iter()
            .map(|event| {
                let Event::Text(text) = event else { panic!("{event:?}") };
                text.into_string()
            })
            .collect();
        prop_assert_eq!(texts, [text, "next".to_owned()]);
    }

    #[test]
    fn whatever_is_sent_compressed_says_the_same(
        payload in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..2000),
            prop::collection::vec(0u8..3, 0..70_000),
        ],
        level in 0u8..12,
        window in 8u8..16,
    ) {
        let offer = format!("permessage-deflate; server_max_window_bits={window}");
        let mut rig = Rig::with_offer(&offer, Limits::default());
        let mut deflater = Deflater::new(level, 0);
        // A second time, so that nothing is left of the first.
        for _ in 0..2 {
            rig.harness.connection.send_binary_deflated(&mut deflater, &payload);
            let _ = rig.harness.flush();
            let written = rig.harness.written();
            let sent = frames(&written);
            let [(first, sent)] = &sent[..] else { panic!("one frame") };
            match *first {
                RSV1_BINARY => {
                    prop_assert!(sent.len() < payload.len());
                    prop_assert!(payload.len() <= 1 << window || window == 15);
                    prop_assert_eq!(&inflated(sent), &payload);
                }
                first => {
                    prop_assert_eq!(first, BINARY);
                    prop_assert_eq!(sent, &payload);
                }
            }
        }
    }

    /// Noise and damage: an event or an end, never more than the limits say, and no panic.
    #[test]
    fn damage_does_no_harm(
        text in "[a-z]{0,400}",
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        noise in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let limits = Limits { message_bytes_max: 1000, ..Limits::default() };
        let mut payload = deflated(6, text.as_bytes());
        for (at, byte) in damage {
            let at = at.index(payload.len());
            payload[at] = byte;
        }
        for payload in [payload, noise] {
            let mut rig = Rig::new(limits.clone());
            let events = rig.receive(&masked(RSV1_BINARY, &payload));
            match &events[..] {
                [Event::Binary(got)] => prop_assert!(got.len() <= 1000),
                [Event::Closed(reason)] => prop_assert!(
                    matches!(reason, Reason::BadDeflate | Reason::MessageTooBig), "{:?}", reason
                ),
                other => panic!("{other:?}"),
            }
            prop_assert!(rig.inflater_capacity() <= 1001);
        }
    }
}

impl Rig {
    fn inflater_capacity(&self) -> usize {
        let text = format!("{:?}", self.inflater);
        let digits: String = text.chars().filter(char::is_ascii_digit).collect();
        digits.parse().unwrap()
    }
}
