//! However a stream is cut, the events are the same; and whatever comes, nothing panics.

use proptest::prelude::*;

use super::*;

/// Events in a form that can be compared, with the output that they led to.
fn run(bytes: &[u8], cuts: &[usize], limits: &Limits) -> (Vec<String>, Vec<u8>) {
    let mut harness = Harness::server(limits.clone());
    let mut seen = Vec::new();
    let mut rest = bytes;
    for cut in cuts.iter().copied().chain([usize::MAX]) {
        let (chunk, after) = rest.split_at(cut.min(rest.len()));
        rest = after;
        let mut events = harness.receive(chunk);
        while !events.is_empty() {
            for event in std::mem::take(&mut events) {
                seen.push(describe(&event));
                match event {
                    Event::Upgrade(_) => harness.connection.accept(harness.now, &Accept::default()),
                    Event::Http(_) => {
                        let body = bytes::Bytes::from_static(b"answer");
                        harness.connection.respond(harness.now, http::Response::new(body));
                    }
                    Event::Text(text) => harness.connection.send_text(&text),
                    Event::Binary(data) => harness.connection.send_binary(&data),
                    Event::Compressed(_)
                    | Event::Accepted(_)
                    | Event::Pong { .. }
                    | Event::Closed(_) => {}
                }
            }
            events = harness.receive(b"");
        }
    }
    // Replies and pongs may be interleaved differently; what matters is written at the end.
    let _ = harness.flush();
    (seen, harness.written())
}

fn describe(event: &Event<'_>) -> String {
    match event {
        Event::Upgrade(request) => format!("upgrade {request:?}"),
        Event::Http(request) => {
            format!("http {:?} {:?} {:?}", request.uri(), request.headers(), &**request.body())
        }
        Event::Text(text) => format!("text {}", &**text),
        Event::Binary(data) => format!("binary {:?}", &**data),
        Event::Compressed(_) => "compressed".to_owned(),
        Event::Accepted(response) => format!("accepted {response:?}"),
        Event::Pong { rtt } => format!("pong {rtt:?}"),
        Event::Closed(reason) => format!("closed {reason:?}"),
    }
}

/// Requests and then frames, some of them wrong.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let request = prop_oneof![
        Just(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n".to_vec()),
        Just(b"\r\nHEAD /a HTTP/1.1\nHost: h\n\n".to_vec()),
        "[a-z]{1,40}".prop_map(|body| {
            let (one, two) = body.split_at(body.len() / 2);
            let one = if one.is_empty() { String::new() } else { format!("{:x};a\r\n{one}\r\n", one.len()) };
            format!(
                "POST /p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{one}{:X}\r\n{two}\r\n0\r\nT: 1\r\n\r\n",
                two.len()
            )
            .into_bytes()
        }),
        "[a-z]{0,40}".prop_map(|body| {
            format!("POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len())
                .into_bytes()
        }),
    ];
    let first = prop_oneof![
        8 => prop::sample::select(vec![0x01u8, 0x02, 0x00, 0x80, 0x81, 0x82, 0x89, 0x8A]),
        1 => any::<u8>(),
    ];
    let text = prop_oneof![
        any::<String>().prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..200)
    ];
    let frame = (first, text).prop_map(|(first, payload)| masked(first, &payload));
    (prop::collection::vec(request, 0..3), prop::collection::vec(frame, 0..12)).prop_map(
        |(requests, frames)| {
            let mut bytes = requests.concat();
            bytes.extend(HANDSHAKE);
            bytes.extend(frames.concat());
            bytes
        },
    )
}

proptest! {
    #[test]
    fn any_cut_gives_the_same_events(stream in stream(), cuts in prop::collection::vec(1usize..60, 0..60)) {
        let limits = Limits::default();
        let (whole, _) = run(&stream, &[], &limits);
        let (cut, _) = run(&stream, &cuts, &limits);
        let (single, _) = run(&stream, &vec![1; stream.len()], &limits);
        prop_assert_eq!(&whole, &cut);
        prop_assert_eq!(&whole, &single);
    }

    /// Damaged streams and noise: no panic, one end at most, and time brings the end to every connection.
    #[test]
    fn noise_does_no_harm(
        stream in prop_oneof![prop::collection::vec(any::<u8>(), 0..300), stream()],
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cuts in prop::collection::vec(1usize..100, 0..20),
    ) {
        let limits = Limits { message_bytes_max: 1000, head_bytes_max: 600, body_bytes_max: 100, ..Limits::default() };
        let mut stream = stream;
        for (at, byte) in damage {
            if !stream.is_empty() {
                let at = at.index(stream.len());
                stream[at] = byte;
            }
        }
        let (events, _) = run(&stream, &cuts, &limits);
        prop_assert!(events.iter().filter(|event| event.starts_with("closed")).count() <= 1);

        let mut harness = Harness::server(limits);
        let mut ends = 0;
        for chunk in stream.chunks(17) {
            for event in harness.receive(chunk) {
                match event {
                    Event::Upgrade(_) => harness.connection.accept(harness.now, &Accept::default()),
                    Event::Http(_) => harness.connection.refuse(harness.now, crate::reason::Reason::NotFound),
                    Event::Closed(_) => ends += 1,
                    Event::Text(_)
                    | Event::Binary(_)
                    | Event::Compressed(_)
                    | Event::Accepted(_)
                    | Event::Pong { .. } => {}
                }
            }
        }
        let late = harness.receive(b"").into_iter().chain(harness.wait(Duration::from_secs(1000)));
        ends += late.filter(|event| matches!(event, Event::Closed(_))).count();
        prop_assert_eq!(ends, 1);
        prop_assert_eq!(harness.flush(), Flush::Closed);
    }
}
