//! Clients without an address, and connections that somebody else has read the handshake of.

use super::*;

const UPGRADE: &str = "GET /live HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

fn connect(rig: &mut Rig, peer: Peer, headers: &str) -> Client {
    let client = rig.socket_from(0, peer);
    rig.bytes(&client, format!("{UPGRADE}{headers}\r\n").as_bytes());
    assert!(client.take_head().starts_with("HTTP/1.1 101 "));
    client
}

fn one_for_each_address() -> Config {
    let mut config = Config::default();
    config.limits.connections.connections_per_address_max = Some(1);
    config.limits.connections.connects_per_minute = Some(1);
    config
}

#[test]
fn who_has_no_address_is_under_no_limit_of_one() {
    for listener in [Listener::Main, Listener::Adopted] {
        let mut rig = Rig::alone_with(one_for_each_address());
        let clients: Vec<_> =
            (0..3).map(|_| connect(&mut rig, Peer::new(None, listener), "")).collect();
        assert!(clients.iter().all(|client| client.take_close().is_none()));
        assert_eq!(rig.hubs[0].hub().holdings().visitors, 0);
    }
}

#[test]
fn who_was_handed_over_with_an_address_is() {
    let mut rig = Rig::alone_with(one_for_each_address());
    let peer = Peer::new(Some(([192, 0, 2, 7], 1).into()), Listener::Adopted);
    let first = connect(&mut rig, peer, "");
    let second = connect(&mut rig, peer, "");
    assert_eq!(first.take_close(), None);
    assert_eq!(second.take_close().map(|(code, _)| code), Some(1013));
}

#[test]
fn who_has_no_address_names_a_client_only_if_that_is_trusted() {
    for (trusted, closed) in [("::/128", true), ("127.0.0.0/8", false)] {
        let mut config = one_for_each_address();
        config.trusted_proxies = vec![trusted.parse().unwrap()];
        let mut rig = Rig::alone_with(config);
        let peer = Peer::new(None, Listener::Main);
        let named = "X-Forwarded-For: 192.0.2.7\r\n";
        connect(&mut rig, peer, named);
        let second = connect(&mut rig, peer, named);
        assert_eq!(second.take_close().is_some(), closed, "{trusted}");
    }
}

#[test]
fn who_has_no_address_is_not_of_this_machine() {
    for listener in [Listener::Main, Listener::Adopted] {
        let mut rig = Rig::alone();
        let client = connect(&mut rig, Peer::new(None, listener), "");
        let answer = rig.request(&client, "publish", &json!({"channel": "a", "event": "e"}));
        assert_eq!(answer["error_code"], "FORBIDDEN", "{answer}");
    }
}

#[test]
fn what_was_handed_over_begins_with_neither_tls_nor_a_header_of_a_proxy() {
    let config = Config {
        proxy_protocol: true,
        trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()],
        ..Config::default()
    };
    let mut rig = Rig::alone_with(config);
    let address = Some(([127, 0, 0, 1], 1).into());
    let client = connect(&mut rig, Peer::new(address, Listener::Adopted), "");
    assert_eq!(client.take()[0]["event"], "session.created");
}

#[test]
fn what_was_handed_over_is_for_websocket_only() {
    for path in ["/", "/health", "/publish", "/metrics"] {
        let mut rig = Rig::alone();
        let client = rig.socket_from(0, Peer::new(None, Listener::Adopted));
        rig.bytes(&client, format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
        let answer = client.take_text();
        assert!(answer.starts_with("HTTP/1.1 426 "), "{path}: {answer}");
    }
}
