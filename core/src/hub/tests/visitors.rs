//! Limits by address and by user, on one hub and over several.

use super::*;

const PROXIED: &str = "X-Forwarded-For: 192.0.2.7\r\n";
const TOO_MANY: &str = "Too many connections from this address";

/// Trusts the machine that all clients of these tests connect from.
fn behind_proxy(limit: u32) -> Config {
    let mut config = Config::default();
    config.limits.connections.connections_per_address_max = Some(limit);
    config.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    config
}

fn assert_refused(client: &Client, text: &str) {
    let close = client.take_close();
    assert_eq!(close, Some((1013, text.into())));
}

#[test]
fn an_address_has_so_many_connections_and_no_more() {
    for shards in [1, 3] {
        let mut rig = Rig::new(shards, behind_proxy(3));
        let clients: Vec<_> =
            (0..3).map(|n| rig.connect_with((n % shards).into(), PROXIED)).collect();
        clients.iter().for_each(|client| assert_eq!(client.take().len(), 1));

        let fourth = rig.connect_with(0, PROXIED);
        assert_refused(&fourth, TOO_MANY);
        let other = rig.connect_with(0, "X-Forwarded-For: 192.0.2.8\r\n");
        assert_eq!(other.take().len(), 1);

        // The place of one that has gone is free, also that of the one that was refused.
        rig.hang_up(&fourth);
        rig.hang_up(&clients[0]);
        let next = rig.connect_with(usize::from(shards - 1), PROXIED);
        assert_eq!(next.take().len(), 1);

        clients.iter().chain([&other, &next]).for_each(|client| rig.hang_up(client));
        assert!(rig.hubs.iter().all(|hub| hub.hub().holdings().visitors == 0));
    }
}

#[test]
fn no_byte_of_a_client_hides_its_address_from_the_limit() {
    for junk in ["foo", "\u{e9}", "\u{fffd}\u{80}", ",", "\"", "127.0.0.1", "unknown, [::1"] {
        let mut rig = Rig::new(1, behind_proxy(1));
        let header = format!("X-Forwarded-For: {junk}\r\nX-Forwarded-For: {junk}, 192.0.2.7\r\n");
        assert_eq!(rig.connect_with(0, &header).take().len(), 1, "{junk}");
        assert_refused(&rig.connect_with(0, &header), TOO_MANY);
    }
}

#[test]
fn whoever_is_no_proxy_is_not_believed() {
    let mut config = behind_proxy(1);
    config.limits.connections.connects_limit_loopback = true;
    config.trusted_proxies.clear();
    let mut rig = Rig::new(1, config);
    let first = rig.connect_with(0, PROXIED);
    assert_eq!(first.take().len(), 1);

    let second = rig.connect_with(0, "X-Forwarded-For: 192.0.2.8\r\n");

    assert_refused(&second, TOO_MANY);
}

#[test]
fn the_rate_of_an_address_holds_over_all_shards() {
    let mut config = behind_proxy(100);
    config.limits.connections.connects_per_minute = Some(4);
    let mut rig = Rig::new(3, config);

    let refused = (0..9)
        .map(|n| rig.connect_with(n % 3, PROXIED))
        .filter(|client| client.take_close().is_some())
        .count();

    assert_eq!(refused, 5);
}

#[cfg(feature = "jwt")]
#[test]
fn a_user_has_so_many_connections_wherever_they_come_from() {
    for shards in [1, 3] {
        let mut config = with_auth();
        config.limits.connections.connections_per_user_max = Some(2);
        let mut rig = Rig::new(shards, config);
        let header = |user: &str| format!("Authorization: Bearer {}\r\n", token(user, &["admin"]));
        let connect = |rig: &mut Rig, n: u16, user: &str| {
            rig.connect_with((n % shards).into(), &header(user))
        };
        let clients: Vec<_> = (0..2).map(|n| connect(&mut rig, n, "ada")).collect();

        let third = connect(&mut rig, 2, "ada");
        let other = connect(&mut rig, 2, "bob");

        assert_refused(&third, "Too many connections of this user");
        assert!(other.take_close().is_none());
        clients.iter().chain([&third, &other]).for_each(|client| rig.hang_up(client));
        assert!(rig.hubs.iter().all(|hub| hub.hub().holdings().visitors == 0));
        rig.assert_empty();
    }
}

#[test]
fn a_client_that_is_gone_before_its_verdict_is_not_counted() {
    let mut rig = Rig::new(3, behind_proxy(1));
    for shard in 0..3 {
        let client = rig.connect_with(shard, PROXIED);
        rig.hang_up(&client);
    }

    let next = rig.connect_with(0, PROXIED);

    assert!(next.take_close().is_none());
}

/// A handshake behind a header of the PROXY protocol.
const BEHIND_HEADER: &str = "PROXY TCP4 192.0.2.7 192.0.2.1 56324 443\r\n\
    GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

fn with_proxy_protocol() -> Config {
    let mut config = behind_proxy(1);
    config.proxy_protocol = true;
    config.hooks.lifecycle = true;
    config
}

fn peers(rig: &Rig) -> Vec<String> {
    let connected = rig.outputs.iter().filter_map(|output| {
        if let Output::Connected { peer, .. } = output { Some(peer.to_string()) } else { None }
    });
    connected.collect()
}

#[test]
fn a_proxy_that_passes_bytes_on_says_first_whose_they_are() {
    for step in [1, 7, 1000] {
        let mut rig = Rig::new(1, with_proxy_protocol());
        let client = rig.socket(0);

        for piece in BEHIND_HEADER.as_bytes().chunks(step) {
            rig.bytes(&client, piece);
        }

        assert!(client.take_head().starts_with("HTTP/1.1 101 "));
        assert_eq!(peers(&rig), ["192.0.2.7:56324"]);
        let second = rig.socket(0);
        rig.bytes(&second, BEHIND_HEADER.as_bytes());
        second.take_head();
        assert_refused(&second, TOO_MANY);
    }
}

#[test]
fn a_trusted_proxy_without_its_header_is_refused() {
    let mut rig = Rig::new(1, with_proxy_protocol());
    let client = rig.socket(0);

    rig.bytes(&client, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n");

    assert!(client.take_head().starts_with("HTTP/1.1 400 "));
    rig.hang_up(&client);
    rig.assert_empty();
}

#[test]
fn a_header_of_somebody_else_is_not_believed() {
    let mut config = with_proxy_protocol();
    config.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
    let mut rig = Rig::new(1, config);
    let client = rig.socket(0);

    rig.bytes(&client, BEHIND_HEADER.as_bytes());

    // A request by the method PROXY, of an HTTP version that there is not.
    assert!(client.take_head().starts_with("HTTP/1.1 505 "));
    assert!(peers(&rig).is_empty());
}
