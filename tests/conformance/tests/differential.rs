//! One list of inputs, every driver, equal bytes.
//!
//! The inputs come from a trace that one server recorded under clients that did as they pleased, or were written by hand.
//! Either way each driver's server, with one seed and one configuration, is given the same, and every client must receive
//! the same, byte for byte but for what [`masked_times`] names.

use std::time::Duration;

use mahavishnu_conformance::{
    Backend, HANDSHAKE, Raw, Rig, Script, Setup, masked, masked_times, op, post, token, unmasked,
    watched,
};
use mahavishnu_core::{
    auth::{TokenSpec, issue},
    config::Config,
};
use serde_json::{Value, json};

/// Keys are known but tokens not demanded.
fn setup(seed: u64) -> Setup {
    let change = |config: &mut Config| {
        config.auth.keys.add_secret(None, token::SECRET).expect("a good secret");
        config.compat.offsets = true;
    };
    Setup { seed, ..Setup::new(change) }
}

/// Plays a script on every driver. Panics unless all clients receive the same everywhere. Returns what they receive.
fn differential(script: &Script, seed: u64) -> Vec<Vec<u8>> {
    let play = |backend: Backend| -> Vec<Vec<u8>> {
        let rig = backend.start_with(setup(seed));
        script.play(&rig).iter().map(|bytes| masked_times(bytes)).collect()
    };
    let [first, others @ ..] = Backend::ALL;
    let expected = play(first);
    for backend in others {
        let received = play(backend);
        for (client, (expected, received)) in expected.iter().zip(&received).enumerate() {
            assert_eq!(
                String::from_utf8_lossy(received),
                String::from_utf8_lossy(expected),
                "client {client}: {backend:?} is not as {first:?}"
            );
            assert_eq!(received, expected);
        }
    }
    expected
}

/// A token that is good whatever the clock says.
fn timeless(permissions: &[&str]) -> String {
    let spec = TokenSpec {
        user: Some("ada"),
        permissions,
        issued_at: Duration::from_secs(1_700_000_000),
        ..TokenSpec::default()
    };
    issue(token::SECRET, &spec).expect("a token")
}

fn text(message: &Value) -> Vec<u8> {
    masked(op::TEXT, message.to_string().as_bytes())
}

fn request(event: &str, data: &Value) -> Vec<u8> {
    text(&json!({ "type": "request", "id": "q", "event": event, "data": data }))
}

fn publish(channel: &str, n: u64) -> Vec<u8> {
    request("publish", &json!({ "channel": channel, "event": "e", "data": { "n": n } }))
}

/// Every kind of message and most kinds of mistake, by hand.
fn written() -> Script {
    let mut script = Script::default();
    let reader = script.connect();
    script.send(reader, HANDSHAKE);
    script.send(reader, request("subscribe", &json!({ "channel": "a" })));
    script.send(reader, text(&json!({ "type": "subscribe", "data": { "page_id": "p" } })));
    let writer = script.connect();
    // The head in two pieces, the first message right behind it.
    let (head, tail) = HANDSHAKE.as_bytes().split_at(50);
    script.send(writer, head);
    script.send(writer, [tail, &publish("a", 1)].concat());
    script.send(
        writer,
        [publish("a", 2), text(&json!({ "type": "ping" })), publish("b", 3)].concat(),
    );
    script.send(writer, request("auth", &json!({ "token": timeless(&["admin"]) })));
    script.send(writer, request("refresh_token", &json!({ "token": "x.y.z" })));
    script.send(writer, request("nonsense", &json!({})));
    script.send(writer, masked(op::TEXT, b"garbage"));
    script.send(
        writer,
        text(&json!({ "type": "event", "event": "subscribe", "data": { "room": "b" } })),
    );
    let http = script.connect();
    script.send(http, &b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"[..]);
    let body = json!([{ "channel": "a", "event": "h", "data": { "n": 4 } }, { "channel": "b", "event": "h" }]);
    script.send(http, post(&[("Idempotency-Key", "k")], &body));
    script.send(http, post(&[("Idempotency-Key", "k")], &body));
    script.send(
        http,
        &b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\nGET /none HTTP/1.1\r\nHost: x\r\n\r\n"[..],
    );
    script.send(http, &b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n"[..]);
    script.finish(http);
    script.send(reader, masked(op::PING, b"?"));
    script.send(reader, request("unsubscribe", &json!({ "channel": "a" })));
    script.send(writer, publish("a", 5));
    for wrong in [
        unmasked(op::TEXT, b"{}"),
        masked(op::TEXT | 0x40, b"{}"),
        masked(0x83, b"x"),
        masked(op::TEXT, b"\xFF"),
        masked(op::CLOSE, &1005_u16.to_be_bytes()),
        vec![op::BINARY, 0xFF, 0, 0, 0, 0, 0, 0x20, 0, 0, 1, 2, 3, 4],
    ] {
        let client = script.connect();
        script.send(client, HANDSHAKE);
        script.send(client, wrong);
        script.finish(client);
    }
    script.send(writer, masked(op::CLOSE, b"\x03\xE8bye"));
    script.finish(writer);
    script.finish(reader);
    script
}

/// Clients that act without waiting for anything, each as `random` says.
fn roam(rig: &Rig, random: &mut impl FnMut(u64) -> u64) {
    let mut clients: Vec<(Raw, bool)> = Vec::new();
    for n in 0..400 {
        if clients.len() < 4 || random(40) == 0 {
            let mut raw = rig.raw();
            let is_http = random(4) == 0;
            if !is_http {
                let bearer =
                    format!("Version: 13\r\nAuthorization: Bearer {}", timeless(&["admin"]));
                let known = if random(2) == 0 { "Version: 13" } else { &bearer };
                raw.write(HANDSHAKE.replace("Version: 13", known).as_bytes());
            }
            clients.push((raw, is_http));
        }
        let client = random(clients.len() as u64) as usize;
        let channel = ["a", "b", "c"][random(3) as usize];
        let (raw, is_http) = &mut clients[client];
        let bytes = match (*is_http, random(12)) {
            (true, 0..6) => {
                post(&[], &json!({ "channel": channel, "event": "h", "data": { "n": n } }))
            }
            (true, _) => b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            (false, 0..3) => request("subscribe", &json!({ "channel": channel })),
            (false, 3) => request("unsubscribe", &json!({ "channel": channel })),
            (false, 4..8) => publish(channel, n),
            (false, 8) => masked(op::PING, b"?"),
            (false, 9) => request("nonsense", &json!({})),
            (false, 10) if random(8) == 0 => masked(op::CLOSE, &1000_u16.to_be_bytes()),
            (false, _) => text(&json!({ "type": "ping", "id": n.to_string() })),
        };
        let (now, later) = bytes.split_at(random(bytes.len() as u64 + 1) as usize);
        raw.write(now);
        raw.write(later);
        if random(3) == 0 {
            // Else the server would take nearly all at once.
            rig.pass(Duration::from_millis(1));
        }
        if random(60) == 0 {
            raw.finish();
            // What it received must not matter: a reset is another story.
            raw.read_to_end();
            clients.swap_remove(client);
        }
    }
    for (raw, _) in &mut clients {
        raw.finish();
        raw.read_to_end();
    }
}

/// Records a server under [`roam`].
fn recorded(backend: Backend, seed: u64) -> Script {
    let rig = backend.start_with(Setup { record: true, ..setup(seed) });
    let mut state = seed;
    let mut random = |bound: u64| {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    };
    roam(&rig, &mut random);
    Script::of(&rig.recording())
}

#[test]
fn a_written_script_gives_the_same_bytes_on_every_driver() {
    watched(|| {
        let received = differential(&written(), 7);
        let text = received.iter().map(|bytes| String::from_utf8_lossy(bytes)).collect::<String>();
        for expected in
            ["session.created", "subscribed", "\"n\":1", "UNKNOWN_REQUEST", "DECODE_ERROR"]
        {
            assert!(text.contains(expected), "{expected} is not in {text}");
        }
    });
}

#[test]
fn what_tokio_recorded_gives_the_same_bytes_on_every_driver() {
    watched(|| {
        let script = recorded(Backend::Tokio, 11);
        // What comes while the machine is busy is read in one step.
        assert!(script.steps.len() > 100, "{} steps", script.steps.len());
        differential(&script, 11);
    });
}

#[test]
fn what_smol_recorded_gives_the_same_bytes_on_every_driver() {
    watched(|| {
        let script = recorded(Backend::Smol, 12);
        // What comes while the machine is busy is read in one step.
        assert!(script.steps.len() > 100, "{} steps", script.steps.len());
        differential(&script, 12);
    });
}

/// The masks hide nothing that follows from the seed, or from what is sent.
#[test]
fn another_seed_or_another_input_gives_other_bytes() {
    watched(|| {
        let play = |script: &Script, seed: u64| -> Vec<Vec<u8>> {
            let rig = Backend::Sim.start_with(setup(seed));
            script.play(&rig).iter().map(|bytes| masked_times(bytes)).collect()
        };
        let mut script = written();
        let expected = play(&script, 7);
        assert_eq!(play(&script, 7), expected);
        assert_ne!(play(&script, 8), expected);
        // Two subscriptions of one client.
        script.steps.swap(2, 3);
        assert_ne!(play(&script, 7), expected);
    });
}
