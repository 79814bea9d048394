//! Clients that read too slowly, or not at all.

use mahavishnu_conformance::{Backend, Raw, Rig, masked, op};
use mahavishnu_core::{
    auth::Pattern,
    config::{Config, SlowPolicy},
};
use serde_json::{Value, json};

/// What the client's side holds, so that little of a flood is hidden on the way.
const ROOM: usize = 8 * 1024;

fn start(backend: Backend, policy: SlowPolicy) -> Rig {
    backend.start(|config: &mut Config| {
        config.limits.delivery.outbox_bytes_max = 128 * 1024;
        config.slow_readers.default = policy;
    })
}

/// A subscriber that does not read by itself.
fn sleeper(rig: &Rig, channel: &str) -> Raw {
    let mut raw = Raw::hello(rig.connect_narrow(ROOM));
    raw.subscribe(channel);
    raw
}

fn message(n: u64) -> Value {
    json!({ "n": n, "filler": "x".repeat(32 * 1024) })
}

/// Broadcasts until some message found no room, and a few more. Returns how many.
fn flood(rig: &Rig, channel: &str) -> u64 {
    let dropped = || rig.count("mahavishnu_messages_dropped_total", &[("reason", "slow_reader")]);
    let before = dropped();
    let mut n = 0;
    while dropped() == before {
        rig.broadcast(channel, &message(n));
        n += 1;
        assert!(n < 4_000, "a socket without end");
    }
    (n..n + 10).for_each(|n| _ = rig.broadcast(channel, &message(n)));
    n + 10
}

pub(crate) fn slow_reader_is_disconnected(backend: Backend) {
    let rig = start(backend, SlowPolicy::Disconnect);
    let mut sleeper = sleeper(&rig, "a");
    flood(&rig, "a");
    assert_eq!(rig.broadcast("a", &json!({})), 0, "it is no subscriber any more");
    let close = sleeper.close_frame();
    assert_eq!(close, Some((1013, "Reading too slowly".into())), "a code that says: come back");
}

/// The driver waits until the socket can be written to, the core does not wait for ever.
pub(crate) fn a_client_that_never_reads_again_does_not_keep_its_socket(backend: Backend) {
    let rig = backend.start(|config: &mut Config| {
        config.limits.delivery.outbox_bytes_max = 128 * 1024;
        config.limits.wire.close_timeout = std::time::Duration::from_millis(100);
    });
    let _sleeper = sleeper(&rig, "a");
    flood(&rig, "a");
    rig.expect_sockets(0);
}

/// Every message comes in order or is within an announced gap, and none is in neither.
pub(crate) fn slow_reader_gets_gap(backend: Backend) {
    let rig = start(backend, SlowPolicy::Gap);
    let mut sleeper = sleeper(&rig, "a");
    let total = flood(&rig, "a");
    let (mut next, mut gaps) = (1, 0);
    while next <= total {
        let message = sleeper.json();
        if message["event"] == "channel.gap" {
            let number = |name: &str| message["data"][name].as_u64().expect("a number");
            assert_eq!(number("first_offset"), next, "{message}");
            assert_eq!(number("lost"), number("last_offset") + 1 - next, "{message}");
            assert_eq!(message["room"], "a");
            next = number("last_offset") + 1;
            gaps += 1;
        } else {
            assert_eq!(message["data"]["n"], next - 1);
            next += 1;
        }
    }
    assert!(gaps > 0);
    assert_eq!(rig.broadcast("a", &message(total)), 1, "it stays a subscriber");
    assert_eq!(sleeper.json()["data"]["n"], total);
}

pub(crate) fn slow_reader_gets_latest(backend: Backend) {
    let rig = start(backend, SlowPolicy::Latest);
    let mut sleeper = sleeper(&rig, "a");
    let total = flood(&rig, "a");
    let mut got = Vec::new();
    while got.last() != Some(&(total - 1)) {
        got.push(sleeper.json()["data"]["n"].as_u64().expect("a number"));
    }
    assert!(got.windows(2).all(|pair| pair[0] < pair[1]), "in order: {got:?}");
    assert!((got.len() as u64) < total, "older ones were replaced");
    assert_eq!(rig.broadcast("a", &message(total)), 1);
    assert_eq!(sleeper.json()["data"]["n"], total);
}

pub(crate) fn the_policy_is_chosen_by_channel(backend: Backend) {
    let rig = backend.start(|config| {
        config.limits.delivery.outbox_bytes_max = 128 * 1024;
        // Sleepers answer no pings, and a busy machine may take longer than that.
        config.limits.wire.ping_interval = None;
        let pattern = Pattern::parse("pool:*").expect("a pattern");
        config.slow_readers.rules.push((pattern, SlowPolicy::Latest));
    });
    let mut latest = sleeper(&rig, "pool:1");
    let mut closed = sleeper(&rig, "global");
    let total = flood(&rig, "pool:1");
    // Until nobody is left: what was dropped for the other one may still be being counted.
    let reached = (0..4_000).find(|n| rig.broadcast("global", &message(*n)) == 0);
    assert!(reached.is_some(), "a socket without end");
    assert_eq!(closed.close_frame().map(|(code, _)| code), Some(1013));
    while latest.json()["data"]["n"] != total - 1 {}
}

pub(crate) fn a_slow_reader_does_not_hold_up_the_others(backend: Backend) {
    let rig = start(backend, SlowPolicy::Gap);
    let _sleeper = sleeper(&rig, "a");
    let mut reader = rig.subscriber("a");
    for n in 0..200 {
        assert_eq!(rig.broadcast("a", &message(n)), 2);
        assert_eq!(reader.numbers(1), [n]);
    }
    let dropped = rig.count("mahavishnu_messages_dropped_total", &[("reason", "slow_reader")]);
    assert!(dropped > 0, "the other one is slow indeed");
}

/// Its answers pile up, so it cannot make more of them: the server leaves its bytes where they are.
pub(crate) fn a_client_that_does_not_read_its_answers_is_not_read(backend: Backend) {
    let rig = backend.start(|_| {});
    let mut raw = Raw::hello(rig.connect_narrow(ROOM));
    let ping = json!({ "type": "ping", "id": "x".repeat(8 * 1024) }).to_string();
    let ping = masked(op::TEXT, ping.as_bytes());
    let written = raw.write_until_stuck(&ping);
    for _ in 0..written / ping.len() {
        assert_eq!(raw.json()["type"], "pong");
    }
    raw.write(&ping[written % ping.len()..]);
    assert_eq!(raw.json()["type"], "pong", "it is read again");
}
