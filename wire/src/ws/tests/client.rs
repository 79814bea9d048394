//! The client role.

use http::{HeaderMap, HeaderValue, StatusCode};

use super::*;
use crate::{
    entropy::{Entropy, Seed},
    reason::Reason,
};

fn client() -> Harness {
    let (now, limits) = (start(), Limits::default());
    let mut headers = HeaderMap::new();
    headers.insert("authorization", HeaderValue::from_static("Bearer t"));
    let request = ClientRequest {
        host: "example:8686".to_owned(),
        path: "/ws?a=b".to_owned(),
        headers,
        subprotocols: vec!["one".to_owned(), "two".to_owned()],
        deflate: false,
    };
    let connection = Connection::client(now, request, Entropy::new(Seed::from(1)));
    Harness { connection, limits, now, sink: Sink::endless() }
}

/// A server connection that has taken in the client's handshake.
fn server_of(client: &mut Harness) -> Harness {
    let mut server = Harness::server(Limits::default());
    let _ = client.flush();
    let events = server.receive(&client.written());
    assert!(matches!(&events[..], [Event::Upgrade(_)]), "{events:?}");
    server
}

fn open_pair() -> (Harness, Harness) {
    let mut client = client();
    let mut server = server_of(&mut client);
    server.connection.accept(server.now, &Accept { subprotocol: Some("two"), deflate: None });
    let _ = server.flush();
    let events = client.receive(&server.written());
    assert!(matches!(&events[..], [Event::Accepted(_)]), "{events:?}");
    (client, server)
}

#[test]
fn the_request_asks_for_what_was_wanted() {
    let mut client = client();
    let mut server = Harness::server(Limits::default());
    let _ = client.flush();
    let events = server.receive(&client.written());
    let [Event::Upgrade(request)] = &events[..] else { panic!("{events:?}") };
    assert_eq!(request.uri(), "/ws?a=b");
    assert_eq!(request.headers()["host"], "example:8686");
    assert_eq!(request.headers()["authorization"], "Bearer t");
    assert_eq!(request.headers()["sec-websocket-protocol"], "one, two");
}

#[test]
fn messages_flow_both_ways_and_client_frames_are_masked() {
    let (mut client, mut server) = open_pair();
    client.connection.send_text("grüß");
    client.connection.send_binary(&[7; 70_000]);
    client.connection.ping(client.now);
    let _ = client.flush();
    let events = server.receive(&client.written());
    assert!(
        matches!(&events[..], [Event::Text(text), Event::Binary(data)] if &**text == "grüß" && **data == [7; 70_000]),
        "{events:?}"
    );
    server.connection.send_text("back");
    let _ = server.flush();
    let events = client.receive(&server.written());
    assert!(
        matches!(&events[..], [Event::Pong { .. }, Event::Text(text)] if &**text == "back"),
        "{events:?}"
    );
}

#[test]
fn a_client_masks_what_it_sends_on() {
    let (mut client, mut server) = open_pair();
    server.connection.send_binary(&[7; 100_000]);
    let _ = server.flush();
    let wire = server.written();
    let mut events: Vec<_> = wire.chunks(4096).flat_map(|piece| client.receive(piece)).collect();
    let Some(Event::Binary(payload)) = events.pop() else { panic!("{events:?}") };
    let lies_at = payload.as_ptr();

    client.connection.forward_binary(payload);

    assert_eq!(client.connection.outbox().head()[14..].as_ptr(), lies_at);
    let _ = client.flush();
    let events = server.receive(&client.written());
    assert!(matches!(&events[..], [Event::Binary(data)] if **data == [7; 100_000]), "{events:?}");
}

#[test]
fn masked_frames_from_a_server_are_refused() {
    let (mut client, _) = open_pair();
    assert!(matches!(client.receive(&masked(TEXT, b"x"))[..], [Event::Closed(Reason::Masked)]));
}

#[test]
fn a_client_closes_in_order() {
    let (mut client, mut server) = open_pair();
    client.connection.close(client.now, Reason::Finished, CloseWhen::AfterData);
    assert_eq!(client.flush(), Flush::Drained);
    assert!(matches!(server.receive(&client.written())[..], [Event::Closed(Reason::PeerClosed)]));
    assert_eq!(server.flush(), Flush::Fin);
    assert!(matches!(client.receive(&server.written())[..], [Event::Closed(Reason::Finished)]));
    assert_eq!(client.connection.peer_close().unwrap().code, Some(1000));
    assert_eq!(client.flush(), Flush::Fin);
    assert!(client.eof().is_none() && server.eof().is_none());
    assert_eq!((client.flush(), server.flush()), (Flush::Closed, Flush::Closed));
}

#[test]
fn a_refusal_is_reported_with_its_answer() {
    let mut client = client();
    let mut server = server_of(&mut client);
    server.connection.refuse(server.now, Reason::MaxConnections);
    let _ = server.flush();
    let events = client.receive(&server.written());
    assert!(matches!(events[..], [Event::Closed(Reason::HandshakeRefused)]), "{events:?}");
    let answer = client.connection.refused_with().unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.headers().contains_key("retry-after"));
}

#[test]
fn answers_that_prove_nothing_are_refused() {
    for answer in [
        &b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"[..],
        b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
    ] {
        let mut client = client();
        let events = client.receive(answer);
        assert!(matches!(events[..], [Event::Closed(Reason::BadHandshake)]), "{events:?}");
    }
}

#[test]
fn a_silent_or_vanishing_server_is_reported() {
    let mut silent = client();
    let events = silent.wait(Duration::from_secs(10));
    assert!(matches!(events[..], [Event::Closed(Reason::HeadTimeout)]), "{events:?}");
    assert_eq!(silent.flush(), Flush::Closed);

    let mut vanishing = client();
    assert!(matches!(vanishing.eof(), Some(Event::Closed(Reason::Eof))));
    assert_eq!(vanishing.flush(), Flush::Closed);
}

#[test]
fn a_path_cannot_smuggle_header_lines() {
    let (now, limits) = (start(), Limits::default());
    let request = ClientRequest {
        host: "a\r\nX: 1".to_owned(),
        path: "/ HTTP/1.1\r\nY: 2".to_owned(),
        headers: HeaderMap::new(),
        subprotocols: vec!["p\r\nZ: 3".to_owned()],
        deflate: false,
    };
    let connection = Connection::client(now, request, Entropy::new(Seed::from(1)));
    let mut client = Harness { connection, limits, now, sink: Sink::endless() };
    let _ = client.flush();
    assert_eq!(client.written_text().lines().filter(|line| line.contains(": ")).count(), 6);
}
