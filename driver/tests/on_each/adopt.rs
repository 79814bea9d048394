//! Sockets that somebody else has accepted and whose handshake that one has read; and Unix sockets.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    thread,
    time::{Duration, Instant},
};

use mahavishnu_driver::{
    AdoptError, Adoption, Disconnect, Handle, Server,
    bytes::Bytes,
    core::{
        config::{Config, Origins},
        reason::Reason,
    },
    http::{Request, Response},
};
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use super::server::{TIMEOUT, end};
use crate::Host;

const HEAD: &str = "GET /live?a=1 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// RFC 6455 §1.3.
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

fn start<R: Host>(builder: mahavishnu_driver::Builder<R>) -> Server<R> {
    R::block_on(builder.start()).unwrap()
}

fn handshake() -> Request<()> {
    Request::get("/live?a=1")
        .header("host", "x")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-version", "13")
        .body(())
        .unwrap()
}

fn adopt<R: Host>(handle: &Handle, request: &Request<()>) -> Result<Adoption, AdoptError> {
    let peer = Some(SocketAddr::from(([192, 0, 2, 7], 4711)));
    R::block_on(handle.adopt(request, peer))
}

/// Both ends of a connection over TCP.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(TIMEOUT)).unwrap();
    (client, listener.accept().unwrap().0)
}

fn next<S: Read + Write>(client: &mut WebSocket<S>) -> Value {
    match client.read().unwrap() {
        Message::Text(text) => serde_json::from_str(&text).unwrap(),
        other => panic!("not a text: {other:?}"),
    }
}

fn subscribe() -> Message {
    let data = json!({ "channel": "a" });
    Message::text(
        json!({ "type": "request", "event": "subscribe", "id": "1", "data": data }).to_string(),
    )
}

/// A client behind the handshake: it is welcomed, subscribes and hears a broadcast.
fn is_served<R: Host, S: Read + Write>(handle: &Handle, stream: S) -> WebSocket<S> {
    let role = tungstenite::protocol::Role::Client;
    let mut client = WebSocket::from_raw_socket(stream, role, None);
    assert_eq!(next(&mut client)["event"], "session.created");
    client.send(subscribe()).unwrap();
    assert_eq!(next(&mut client)["data"]["status"], "subscribed");
    let published = R::block_on(handle.broadcast("a", "e", &json!({ "n": 1 }))).unwrap();
    assert_eq!(published.subscribers, 1);
    assert_eq!(next(&mut client)["data"], json!({ "n": 1 }));
    client
}

fn wait_for(what: impl Fn() -> bool) {
    let started = Instant::now();
    while !what() {
        assert!(started.elapsed() < TIMEOUT, "it does not come about");
        thread::sleep(Duration::from_millis(1));
    }
}

fn status(response: &Response<Bytes>) -> u16 {
    response.status().as_u16()
}

pub(crate) fn a_request_of_a_router_becomes_a_connection<R: Host>() {
    let server = start(Server::<R>::builder().shards(2));
    let handle = server.handle();
    let adoption = adopt::<R>(&handle, &handshake()).unwrap();
    assert!(adoption.is_accepted());
    assert_eq!(adoption.response().headers()["sec-websocket-accept"], ACCEPT);

    let (client, ours) = pair();
    R::block_on(adoption.attach(ours, Bytes::new())).unwrap();

    let mut client = is_served::<R, _>(&handle, client);
    client.close(None).unwrap();
    wait_for(|| handle.sockets() == 0);
    end(server);
}

pub(crate) fn what_came_behind_the_request_is_not_lost<R: Host>() {
    let server = start(Server::<R>::builder());
    let handle = server.handle();
    let adoption = adopt::<R>(&handle, &handshake()).unwrap();
    // What a client has sent at once, as somebody else has read it: its frame is cut in two.
    let (client, ours) = pair();
    let mut early = Vec::new();
    {
        struct Wire<'w>(&'w mut Vec<u8>);
        impl Write for Wire<'_> {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.write(bytes)
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        impl Read for Wire<'_> {
            fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::WouldBlock.into())
            }
        }
        let role = tungstenite::protocol::Role::Client;
        WebSocket::from_raw_socket(Wire(&mut early), role, None).send(subscribe()).unwrap();
    }
    let rest = early.split_off(early.len() / 2);
    R::block_on(adoption.attach(ours, early.into())).unwrap();
    (&client).write_all(&rest).unwrap();

    let role = tungstenite::protocol::Role::Client;
    let mut client = WebSocket::from_raw_socket(client, role, None);
    assert_eq!(next(&mut client)["event"], "session.created");
    assert_eq!(next(&mut client)["data"]["status"], "subscribed");
    end(server);
}

pub(crate) fn a_request_that_is_refused_leaves_nothing<R: Host>() {
    let config = Config { origins: Origins::Only(Vec::new()), ..Config::default() };
    let server = start(Server::<R>::builder().config(config));
    let handle = server.handle();
    let mut foreign = handshake();
    foreign.headers_mut().insert("origin", "https://example.com".parse().unwrap());
    let refused = adopt::<R>(&handle, &foreign).unwrap();
    assert_eq!((status(refused.response()), refused.is_accepted()), (403, false));
    assert!(!refused.response().body().is_empty());

    let question = Request::get("/health").header("host", "x").body(()).unwrap();
    let other = adopt::<R>(&handle, &question).unwrap();
    assert_eq!(status(other.response()), 426);

    wait_for(|| handle.sockets() == 0);
    // There is nothing to be attached, and nobody minds.
    let (mut client, ours) = pair();
    R::block_on(other.attach(ours, Bytes::new())).unwrap();
    assert_eq!(client.read(&mut [0; 16]).unwrap(), 0);
    end(server);
}

pub(crate) fn a_connection_whose_socket_never_comes_ends<R: Host>() {
    let (tell, told) = std::sync::mpsc::channel();
    let builder = Server::<R>::builder()
        .on_disconnect(move |connected, reason| tell.send((connected.conn(), reason)).unwrap());
    let server = start(builder);
    let handle = server.handle();
    let adoption = adopt::<R>(&handle, &handshake()).unwrap();
    let conn = adoption.conn();
    assert_eq!(handle.sockets(), 1);
    drop(adoption);
    assert_eq!(told.recv_timeout(TIMEOUT).unwrap(), (conn, Reason::Io));
    wait_for(|| handle.sockets() == 0);

    // Nor is one kept that the server has closed meanwhile.
    let adoption = adopt::<R>(&handle, &handshake()).unwrap();
    let ended = R::block_on(handle.disconnect(adoption.conn(), Disconnect::default()));
    assert_eq!(ended, Ok(true));
    let (client, ours) = pair();
    R::block_on(adoption.attach(ours, Bytes::new())).unwrap();
    let role = tungstenite::protocol::Role::Client;
    let mut client = WebSocket::from_raw_socket(client, role, None);
    assert!(
        matches!(client.read().unwrap(), Message::Close(Some(frame)) if u16::from(frame.code) == 1008)
    );
    end(server);
}

pub(crate) fn a_server_that_takes_nobody_says_so<R: Host>() {
    let mut config = Config::default();
    config.limits.connections.sockets_max = 1;
    config.limits.connections.connections_max = 1;
    let server = start(Server::<R>::builder().config(config));
    let handle = server.handle();
    let first = adopt::<R>(&handle, &handshake()).unwrap();
    let (client, ours) = pair();
    R::block_on(first.attach(ours, Bytes::new())).unwrap();
    let _client = is_served::<R, _>(&handle, client);
    // It is answered or refused; a place is not found for it either way.
    match adopt::<R>(&handle, &handshake()) {
        Err(AdoptError::Refused(_)) => {}
        other => panic!("{other:?}"),
    }
    end(server);
    assert_eq!(adopt::<R>(&handle, &handshake()).unwrap_err(), AdoptError::Stopped);
}

pub(crate) fn a_socket_is_taken_over_from_who_has_read_a_part<R: Host>() {
    let server = start(Server::<R>::builder());
    let handle = server.handle();
    for read in [0, 1, 30, HEAD.len()] {
        let (mut client, mut ours) = pair();
        client.write_all(HEAD.as_bytes()).unwrap();
        let mut bytes = vec![0; read];
        ours.read_exact(&mut bytes).unwrap();
        R::block_on(handle.adopt_socket(ours, bytes.into(), None)).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            client.read_exact(&mut byte).unwrap();
            head.extend_from_slice(&byte);
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{read}");
        is_served::<R, _>(&handle, client);
        wait_for(|| handle.sockets() == 0);
    }
    end(server);
}

pub(crate) fn clients_come_by_a_unix_socket<R: Host>() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let server = start(Server::<R>::builder().shards(2).listen_unix(&path, Some(0o600)));
    assert_eq!(server.local_addr(), None);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let again = R::block_on(Server::<R>::builder().listen_unix(&path, None).start());
    assert!(again.is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse));
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let stream = UnixStream::connect(&path).unwrap();
            stream.set_read_timeout(Some(TIMEOUT)).unwrap();
            let (mut client, _) = tungstenite::client("ws://x/", stream).unwrap();
            assert_eq!(next(&mut client)["event"], "session.created");
            client.send(subscribe()).unwrap();
            assert_eq!(next(&mut client)["data"]["status"], "subscribed");
            client
        })
        .collect();
    let handle = server.handle();
    let published = R::block_on(handle.broadcast("a", "e", &json!({ "n": 1 }))).unwrap();
    assert_eq!(published.subscribers, 3);
    for mut client in clients {
        assert_eq!(next(&mut client)["data"], json!({ "n": 1 }));
    }
    wait_for(|| handle.sockets() == 0);
    end(server);
    assert!(!path.exists());
}
