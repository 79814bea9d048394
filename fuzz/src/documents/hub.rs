//! What is read off a connection and decides whose it is: origins, lists of proxies, headers of the PROXY protocol. Their
//! readers are the core's own and are reached through a hub.

use std::sync::Arc;

use http::HeaderValue;
use mahavishnu_core::{
    config::{Config, Origin, Origins},
    entropy::Seed,
    hub::{Hub, Listener, Peer, Place},
};

use crate::trace::start;

/// An origin that can be configured is one that a page can have.
pub(super) fn origin(text: &str, origin: Option<Origin>) {
    let config = |list| Config { origins: Origins::Only(list), ..Config::default() };
    let Some(origin) = origin else { return };
    // Of these only pages below the domain, or with the word as browsers write it.
    let text = text.trim();
    if text.contains("://*.") || text.eq_ignore_ascii_case("null") {
        return;
    }
    let ask = |list| answer(config(list), &[&handshake(&[("Origin", text)])]);
    assert!(ask(vec![origin]).starts_with(b"HTTP/1.1 101 "), "{text:?} does not fit itself");
    assert!(ask(Vec::new()).starts_with(b"HTTP/1.1 403 "), "{text:?} fits nothing");
}

/// Whatever proxies, or those before them, say: the request behind it is answered.
pub(super) fn forwarded(text: &str) {
    let config = || Config {
        trusted_proxies: ["0.0.0.0/0", "::/0"].map(|all| all.parse().expect("a network")).into(),
        ..Config::default()
    };
    let lines: Vec<_> = text
        .lines()
        .take(8)
        .map(|line| ("X-Forwarded-For", line.trim_matches([' ', '\t'])))
        .filter(|(_, line)| line.len() <= 512 && HeaderValue::from_bytes(line.as_bytes()).is_ok())
        .collect();
    // Together, and each alone: what is no address ends the search.
    for lines in lines.chunks(1).chain([&lines[..]]) {
        let got = answer(config(), &[&handshake(lines)]);
        assert!(got.starts_with(b"HTTP/1.1 101 "), "{lines:?}: {}", got.escape_ascii());
    }
}

/// A header, and a request behind it: however it is cut, the answer is the same, and it is one.
pub(super) fn proxy_header(document: &[u8]) {
    if !document.starts_with(b"PROXY ") && !document.starts_with(b"\r\n\r\n\0\r\nQUIT\n") {
        return;
    }
    let config = || Config {
        trusted_proxies: vec!["0.0.0.0/0".parse().expect("a network")],
        proxy_protocol: true,
        ..Config::default()
    };
    let stream = [&document[..document.len().min(4096)], &handshake(&[])].concat();
    let whole = answer(config(), &[&stream]);
    let single: Vec<_> = stream.chunks(1).collect();
    let single = answer(config(), &single);
    let line = |answer: &[u8]| answer.split(|byte| *byte == b'\r').next().map(<[u8]>::to_vec);
    assert_eq!(line(&whole), line(&single), "{}", stream.escape_ascii());
    assert!(whole.is_empty() || whole.starts_with(b"HTTP/1.1 "), "{}", whole.escape_ascii());
}

fn handshake(headers: &[(&str, &str)]) -> Vec<u8> {
    let headers: String =
        headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!(
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
    .into_bytes()
}

/// What one connection receives for these pieces, each of them a turn.
fn answer(config: Config, pieces: &[&[u8]]) -> Vec<u8> {
    let mut hub = Hub::new(Arc::new(config), Place::alone(Seed::from(1)), start());
    let address = "192.0.2.1:1".parse().expect("an address");
    let conn = hub.handle_accept(start(), Peer { address, listener: Listener::Main });
    let conn = conn.expect("room");
    let mut written = Vec::new();
    for piece in pieces {
        hub.handle_bytes(start(), conn, &mut piece.to_vec());
        loop {
            while hub.poll_output(start()).is_some() {}
            let Some(conn) = hub.poll_dirty() else { break };
            let _ = hub.flush(start(), conn, &mut written);
        }
        hub.end_turn(start());
    }
    written
}
