//! HTTP exchanges on a server's connection.

use bytes::Bytes;
use http::{Method, Response};

use super::*;
use crate::reason::Reason;

fn ok(body: &'static [u8]) -> Response<Bytes> {
    Response::new(Bytes::from_static(body))
}

impl Harness {
    fn respond(&mut self, body: &'static [u8]) -> Vec<Event<'static>> {
        self.connection.respond(self.now, ok(body));
        self.receive(b"")
    }

    /// The single event must be a plain request for this path.
    fn expect_http(events: &[Event<'static>], path: &str) {
        assert!(
            matches!(events, [Event::Http(request)] if request.uri().path() == path),
            "{events:?}"
        );
    }
}

#[test]
fn a_request_is_answered_and_the_connection_kept() {
    let mut harness = Harness::server(Limits::default());
    Harness::expect_http(&harness.receive(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"), "/a");
    assert!(!harness.connection.wants_read(&harness.limits));
    assert!(harness.respond(b"hello").is_empty());
    assert_eq!(harness.flush(), Flush::Drained);
    assert_eq!(harness.written_text(), "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello");
    assert!(harness.connection.wants_read(&harness.limits));
    Harness::expect_http(&harness.receive(b"\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n"), "/b");
}

#[test]
fn http_1_0_is_closed_unless_asked() {
    let mut harness = Harness::server(Limits::default());
    Harness::expect_http(&harness.receive(b"GET /a HTTP/1.0\r\n\r\n"), "/a");
    assert!(matches!(harness.respond(b"x")[..], [Event::Closed(Reason::HttpDone)]));
    assert_eq!(harness.flush(), Flush::Fin);
    assert!(harness.written_text().contains("\r\nconnection: close\r\n"));

    let mut harness = Harness::server(Limits::default());
    harness.receive(b"GET /a HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
    assert!(harness.respond(b"x").is_empty());
    assert_eq!(harness.flush(), Flush::Drained);
    assert!(harness.written_text().contains("\r\nconnection: keep-alive\r\n"));
}

#[test]
fn head_answers_have_a_length_but_no_body() {
    let mut harness = Harness::server(Limits::default());
    let events = harness.receive(b"HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(matches!(&events[..], [Event::Http(request)] if request.method() == Method::HEAD));
    harness.respond(b"hello");
    let _ = harness.flush();
    assert_eq!(harness.written_text(), "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n");
}

#[test]
fn large_bodies_are_not_copied() {
    let mut harness = Harness::server(Limits::default());
    harness.receive(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n");
    let body = Bytes::from(vec![b'x'; 100_000]);
    harness.connection.respond(harness.now, Response::new(body.clone()));
    harness.sink.room = "HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n".len();
    assert_eq!(harness.flush(), Flush::Blocked);
    assert_eq!(harness.connection.outbox().head().as_ptr(), body.as_ptr());
}

#[test]
fn a_body_is_borrowed_if_it_came_along_and_collected_if_not() {
    let bytes = b"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbodyGET /next HTTP/1.1\r\nHost: h\r\n\r\n";
    for step in 1..bytes.len() {
        let mut harness = Harness::server(Limits::default());
        let mut events: Vec<_> =
            bytes.chunks(step).flat_map(|chunk| harness.receive(chunk)).collect();
        assert_eq!(events.len(), 1, "the second request waits");
        events.extend(harness.respond(b""));
        let [Event::Http(first), Event::Http(second)] = &events[..] else {
            panic!("{step}: {events:?}")
        };
        assert_eq!(&**first.body(), b"body");
        assert_eq!(second.uri(), "/next");
    }
    let mut harness = Harness::server(Limits::default());
    let mut bytes = bytes.to_vec();
    let mut wire = &mut bytes[..];
    let event = harness.connection.receive(harness.now, &harness.limits, &mut wire);
    assert!(matches!(event, Some(Event::Http(request)) if request.body().is_borrowed()));
}

#[test]
fn a_client_that_waits_is_told_to_continue() {
    let head = b"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    let mut harness = Harness::server(Limits::default());
    assert!(harness.receive(head).is_empty());
    let _ = harness.flush();
    assert_eq!(harness.written_text(), "HTTP/1.1 100 Continue\r\n\r\n");
    assert!(matches!(harness.receive(b"ab")[..], [Event::Http(_)]));

    // One that has begun to send does not wait (RFC 9110 §10.1.1).
    let mut harness = Harness::server(Limits::default());
    assert!(harness.receive(&[&head[..], b"a"].concat()).is_empty());
    assert_eq!(harness.flush(), Flush::Drained);
    assert!(harness.written().is_empty());

    let mut harness = Harness::server(Limits { body_bytes_max: 1, ..Limits::default() });
    assert!(matches!(harness.receive(head)[..], [Event::Closed(Reason::BodyTooLarge)]));
    let _ = harness.flush();
    assert!(harness.written_text().starts_with("HTTP/1.1 413 "));
}

#[test]
fn bad_requests_are_answered_and_closed_with_a_linger() {
    let cases: &[(&[u8], Reason, &str)] = &[
        (b"garbage\r\n\r\n", Reason::BadRequest, "400 Bad Request"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", Reason::BadRequest, "400 Bad Request"),
        (b"GET / HTTP/1.1\r\n\r\n", Reason::BadRequest, "400 Bad Request"),
        (b"GET / HTTP/3.0\r\n\r\n", Reason::HttpVersion, "505 HTTP Version Not Supported"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Reason::HttpVersion, "505 HTTP Version Not Supported"),
        (
            b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            Reason::TransferCoding,
            "501 Not Implemented",
        ),
        (
            b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
            Reason::BadRequest,
            "400 Bad Request",
        ),
        (
            b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
            Reason::BadRequest,
            "400 Bad Request",
        ),
        (
            b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 8\r\n\r\n",
            Reason::BadVersion,
            "426 Upgrade Required",
        ),
    ];
    for (bytes, reason, status) in cases {
        let mut harness = Harness::server(Limits::default());
        let events = harness.receive(bytes);
        assert!(matches!(&events[..], [Event::Closed(r)] if r == reason), "{events:?}");
        assert_eq!(harness.flush(), Flush::Fin);
        let answer = harness.written_text();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
        assert!(
            answer.contains(&format!("\"error_message\":\"{}\"", reason.row().text)),
            "{answer}"
        );
        assert!(
            harness.connection.wants_read(&harness.limits),
            "reading on, so that no reset destroys the answer"
        );
        assert!(harness.receive(b"more").is_empty());
        assert_eq!(harness.flush(), Flush::Drained);
        assert!(harness.eof().is_none());
        assert_eq!(harness.flush(), Flush::Closed);
    }
}

#[test]
fn a_lingering_connection_is_dropped_in_the_end() {
    let mut harness = Harness::server(Limits::default());
    harness.receive(b"garbage\r\n\r\n");
    assert_eq!(harness.flush(), Flush::Fin);
    assert!(harness.wait(Duration::from_secs(5)).is_empty());
    assert_eq!(harness.flush(), Flush::Closed);
}

#[test]
fn a_slow_reader_of_the_last_answer_has_the_idle_time() {
    let mut harness = Harness::server(Limits::default());
    harness.sink.room = 0;
    harness.receive(b"GET /a HTTP/1.0\r\n\r\n");
    harness.respond(b"answer");
    assert!(harness.wait(Duration::from_secs(74)).is_empty());
    assert_eq!(harness.flush(), Flush::Blocked);
    assert!(harness.wait(Duration::from_secs(1)).is_empty());
    assert_eq!(harness.flush(), Flush::Closed);
}

#[test]
fn refusals_of_upgrades_are_http() {
    let mut harness = Harness::server(Limits::default());
    harness.receive(HANDSHAKE);
    harness.connection.refuse(harness.now, Reason::AuthFailed);
    assert!(matches!(harness.receive(b"")[..], [Event::Closed(Reason::AuthFailed)]));
    assert_eq!(harness.flush(), Flush::Fin);
    assert!(harness.written_text().starts_with("HTTP/1.1 401 Unauthorized\r\n"));
    assert!(harness.connection.reason().is_some() && !harness.connection.is_http());
}

#[test]
fn frames_behind_the_handshake_are_kept() {
    let mut harness = Harness::server(Limits::default());
    let bytes = [HANDSHAKE, &masked(TEXT, b"early"), &masked(TEXT, b"bird")[..7]].concat();
    assert!(matches!(harness.receive(&bytes)[..], [Event::Upgrade(_)]));
    assert!(harness.connection.has_buffered_input());
    harness.connection.accept(harness.now, &Accept { subprotocol: Some("chat"), deflate: None });
    let events = harness.receive(&masked(TEXT, b"bird")[7..]);
    assert!(
        matches!(&events[..], [Event::Text(a), Event::Text(b)] if &**a == "early" && &**b == "bird"),
        "{events:?}"
    );
    let _ = harness.flush();
    assert_eq!(
        harness.written_text(),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nsec-websocket-protocol: chat\r\n\r\n"
    );
}

#[test]
fn what_is_kept_is_bounded() {
    let mut harness =
        Harness::server(Limits { body_bytes_max: 1000, head_bytes_max: 1000, ..Limits::default() });
    harness.receive(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(harness.receive(&[b'x'; 2000]).is_empty());
    assert!(matches!(harness.receive(b"x")[..], [Event::Closed(Reason::HeadTooLarge)]));
    assert_eq!(harness.flush(), Flush::Closed);
    assert!(harness.respond(b"too late").is_empty());
}

#[test]
fn pipelined_answers_that_nobody_reads_do_not_pile_up() {
    let mut harness = Harness::server(Limits { outbox_read_watermark: 1000, ..Limits::default() });
    harness.sink.room = 0;
    let events = harness.receive(&b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n".repeat(200));
    let mut answered = 0;
    let mut burst = |harness: &mut Harness, mut events: Vec<Event<'static>>| {
        while matches!(events[..], [Event::Http(_)]) {
            answered += 1;
            events = harness.respond(&[b'x'; 500]);
        }
        assert!(matches!(events[..], [] | [Event::Closed(Reason::HttpDone)]), "{events:?}");
        let _ = harness.flush();
        answered
    };
    assert_eq!(burst(&mut harness, events), 2, "the rest waits until answers are read");
    assert!(harness.connection.outbox().bytes() < 2000);
    assert!(!harness.connection.wants_read(&harness.limits));
    assert!(!harness.connection.is_resumable(&harness.limits));
    assert!(harness.receive(b"").is_empty());
    assert!(harness.eof().is_none(), "what came whole is still answered");

    for reads in 1.. {
        harness.sink.room = usize::MAX;
        let _ = harness.flush();
        if !harness.connection.is_resumable(&harness.limits) {
            assert_eq!(reads, 100, "two answers at a time");
            break;
        }
        harness.sink.room = 0;
        let events = harness.receive(b"");
        burst(&mut harness, events);
    }
    assert_eq!(answered, 200);
    assert_eq!(harness.written_text().matches("HTTP/1.1 200 OK").count(), 200);
    assert_eq!(harness.connection.reason(), Some(Reason::HttpDone));
}

#[test]
fn a_connection_whose_client_reads_no_answer_is_given_up_in_the_end() {
    let mut harness = Harness::server(Limits { outbox_read_watermark: 100, ..Limits::default() });
    harness.sink.room = 0;
    harness.receive(&b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n".repeat(9));
    assert!(harness.respond(&[b'x'; 500]).is_empty());
    assert!(harness.wait(Duration::from_secs(74)).is_empty());
    let events = harness.wait(Duration::from_secs(1));
    assert!(matches!(events[..], [Event::Closed(Reason::KeepAliveTimeout)]), "{events:?}");
    assert_eq!(harness.flush(), Flush::Closed);
}

#[test]
fn a_chunked_body_comes_as_any_other() {
    let bytes = b"POST /p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
        2;x=y\r\nbo\r\n2\r\ndy\r\n0\r\nTrailer: x\r\n\r\nGET /next HTTP/1.1\r\nHost: h\r\n\r\n";
    for step in 1..=bytes.len() {
        let mut harness = Harness::server(Limits::default());
        let mut events: Vec<_> =
            bytes.chunks(step).flat_map(|chunk| harness.receive(chunk)).collect();
        assert_eq!(events.len(), 1, "the second request waits");
        events.extend(harness.respond(b""));
        let [Event::Http(first), Event::Http(second)] = &events[..] else {
            panic!("{step}: {events:?}")
        };
        assert_eq!(&**first.body(), b"body");
        assert_eq!(second.uri(), "/next");
    }
}

#[test]
fn a_chunked_body_is_bounded_and_counted_and_has_its_time() {
    let head = b"POST /p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n";
    let mut harness = Harness::server(Limits { body_bytes_max: 1000, ..Limits::default() });
    assert!(harness.receive(head).is_empty());
    let _ = harness.flush();
    assert_eq!(harness.written_text(), "HTTP/1.1 100 Continue\r\n\r\n");
    assert!(harness.receive(b"3e8\r\n").is_empty());
    assert!(harness.receive(&[b'x'; 900]).is_empty());
    assert!((900..2000).contains(&harness.connection.partial_bytes()));
    assert!(harness.receive(&[b'x'; 100]).is_empty());
    let events = harness.receive(b"\r\n1");
    assert!(matches!(events[..], [Event::Closed(Reason::BodyTooLarge)]), "{events:?}");
    assert_eq!(harness.connection.partial_bytes(), 0);
    let _ = harness.flush();
    assert!(harness.written_text().starts_with("HTTP/1.1 413 "));

    let mut harness = Harness::server(Limits::default());
    harness.receive(head);
    let mut events = Vec::new();
    for _ in 0..12 {
        harness.receive(b"1\r\nx\r\n");
        events.extend(harness.wait(Duration::from_secs(1)));
    }
    assert!(matches!(events[..], [Event::Closed(Reason::HeadTimeout)]), "{events:?}");

    let mut harness = Harness::server(Limits::default());
    harness.receive(&[&head[..], b"5\r\nhel"].concat());
    assert!(matches!(harness.eof(), Some(Event::Closed(Reason::EofInHead))));
}

#[test]
fn a_slow_head_runs_into_the_timeout_however_it_dribbles() {
    let mut harness = Harness::server(Limits::default());
    let mut events = Vec::new();
    for byte in b"GET / HTTP/1.1\r\nHost: h" {
        harness.receive(&[*byte]);
        events.extend(harness.wait(Duration::from_millis(500)));
    }
    assert!(matches!(events[..], [Event::Closed(Reason::HeadTimeout)]), "{events:?}");
    assert!(harness.written_text().starts_with("HTTP/1.1 408 "));
}

#[test]
fn a_slow_body_runs_into_the_timeout() {
    let mut harness = Harness::server(Limits::default());
    harness.receive(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n");
    let mut events = Vec::new();
    for _ in 0..12 {
        harness.receive(b"x");
        events.extend(harness.wait(Duration::from_secs(1)));
    }
    assert!(matches!(events[..], [Event::Closed(Reason::HeadTimeout)]), "{events:?}");
}

#[test]
fn a_silent_socket_is_dropped_without_an_answer() {
    let mut harness = Harness::server(Limits::default());
    assert!(harness.receive(b"\r\n").is_empty());
    let events = harness.wait(Duration::from_secs(10));
    assert!(matches!(events[..], [Event::Closed(Reason::HeadTimeout)]), "{events:?}");
    assert!(harness.written().is_empty());
    assert_eq!(harness.flush(), Flush::Closed);
}

#[test]
fn a_kept_connection_idles_out_but_a_further_request_gets_its_own_time() {
    let mut harness = Harness::server(Limits::default());
    harness.receive(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    harness.respond(b"x");
    let _ = harness.flush();
    assert!(harness.wait(Duration::from_secs(74)).is_empty());
    assert!(harness.receive(b"GET").is_empty());
    assert!(harness.wait(Duration::from_secs(9)).is_empty());
    Harness::expect_http(&harness.receive(b" / HTTP/1.1\r\nHost: h\r\n\r\n"), "/");
    assert!(
        harness.wait(Duration::from_secs(1000)).is_empty(),
        "the application's time is not ours"
    );
    harness.respond(b"x");
    let events = harness.wait(Duration::from_secs(75));
    assert!(matches!(events[..], [Event::Closed(Reason::KeepAliveTimeout)]), "{events:?}");
}

#[test]
fn a_half_closed_client_still_gets_its_answers() {
    let mut harness = Harness::server(Limits::default());
    let two = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n";
    Harness::expect_http(&harness.receive(two), "/a");
    assert!(harness.eof().is_none());
    Harness::expect_http(&harness.respond(b"one"), "/b");
    assert!(matches!(harness.respond(b"two")[..], [Event::Closed(Reason::HttpDone)]));
    assert_eq!(harness.flush(), Flush::Closed, "nothing to wait for");
    let answers = harness.written_text();
    assert!(answers.contains("one") && answers.ends_with("two"), "{answers}");
}

#[test]
fn an_unwritten_answer_survives_the_end_of_the_stream() {
    let mut harness = Harness::server(Limits::default());
    harness.sink.room = 10;
    harness.receive(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n");
    harness.respond(b"one");
    assert_eq!(harness.flush(), Flush::Blocked);
    assert!(matches!(harness.eof(), Some(Event::Closed(Reason::HttpDone))));
    assert_eq!(harness.flush(), Flush::Blocked);
    harness.sink.room = 100;
    assert_eq!(harness.flush(), Flush::Closed);
    assert!(harness.written_text().ends_with("one"));
}

#[test]
fn a_stream_that_ends_early_is_reported() {
    for begun in
        [&b""[..], b"GET / HT", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab"]
    {
        let mut harness = Harness::server(Limits::default());
        harness.receive(begun);
        assert!(matches!(harness.eof(), Some(Event::Closed(Reason::EofInHead))));
        assert!(harness.eof().is_none());
        assert_eq!(harness.flush(), Flush::Closed);
    }
}

#[test]
fn closing_an_http_connection_answers_what_is_pending() {
    let mut harness = Harness::server(Limits::default());
    harness.receive(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n");
    harness.connection.close(harness.now, Reason::Shutdown, CloseWhen::AfterData);
    assert!(matches!(harness.receive(b"")[..], [Event::Closed(Reason::Shutdown)]));
    assert_eq!(harness.flush(), Flush::Fin);
    assert!(harness.written_text().starts_with("HTTP/1.1 503 "));

    let mut idle = Harness::server(Limits::default());
    idle.connection.close(idle.now, Reason::Shutdown, CloseWhen::AfterData);
    assert!(matches!(idle.receive(b"")[..], [Event::Closed(Reason::Shutdown)]));
    assert_eq!(idle.flush(), Flush::Fin);
    assert!(idle.written().is_empty());
}
