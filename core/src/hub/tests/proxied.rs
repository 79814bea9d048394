//! Connections that begin with a header of the PROXY protocol: what they may do without a token.

use super::*;

const PUBLISH: &[u8] = b"POST /publish HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
    Content-Length: 37\r\n\r\n{\"channel\":\"a\",\"event\":\"e\",\"data\":{}}";

/// What a proxy on this machine may begin with: a client without an address, its own health check in both versions of
/// the protocol, and a client whose address is a loopback one, if only at the proxy.
const HEADERS: [&[u8]; 4] = [
    b"PROXY UNKNOWN\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x00\x00\x00",
    b"PROXY TCP4 127.0.0.1 127.0.0.1 56324 443\r\n",
];

fn behind_proxy() -> Rig {
    let config = Config {
        proxy_protocol: true,
        trusted_proxies: vec!["127.0.0.1/32".parse().unwrap()],
        ..Config::default()
    };
    Rig::new(1, config)
}

#[test]
fn this_machine_itself_may_publish() {
    let mut rig = Rig::alone();
    let client = rig.socket(0);
    rig.bytes(&client, PUBLISH);
    assert!(client.take_head().starts_with("HTTP/1.1 200 "));
}

#[test]
fn nobody_behind_a_proxy_is_this_machine_whatever_the_header_says() {
    for header in HEADERS {
        let mut rig = behind_proxy();
        let client = rig.socket(0);
        rig.bytes(&client, &[header, PUBLISH].concat());
        let answer = client.take_text();
        assert!(answer.starts_with("HTTP/1.1 403 "), "{header:?}: {answer}");
    }
}

#[test]
fn nobody_behind_a_proxy_publishes_by_message() {
    for header in HEADERS {
        let mut rig = behind_proxy();
        let client = rig.socket(0);
        rig.bytes(&client, header);
        let upgrade = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
        rig.bytes(&client, upgrade.as_bytes());
        client.take_head();

        let answer = rig.request(&client, "publish", &json!({"channel": "a", "event": "e"}));

        assert_eq!(answer["error_code"], "FORBIDDEN", "{header:?}: {answer}");
    }
}

#[test]
fn the_proxys_own_health_check_is_answered() {
    for header in HEADERS {
        let mut rig = behind_proxy();
        let client = rig.socket(0);
        rig.bytes(&client, &[header, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"].concat());
        assert!(client.take_text().starts_with("HTTP/1.1 200 "), "{header:?}");
    }
}
