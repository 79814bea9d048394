//! Every kind of slow and greedy client at once. Meanwhile a good client is served, and memory stays within its limit;
//! when they have gone, it comes back. `SOAK_SECONDS` says for how long; `scripts/soak` asks for minutes.

use std::{
    env,
    time::{Duration, Instant},
};

use mahavishnu_benches::process::Process;
use mahavishnu_tests::{
    Raw, Server, http,
    raw::{masked, op},
};
use serde_json::json;

const MIB: u64 = 1 << 20;

/// What the server is told to make do with.
const LIMIT: u64 = 64 * MIB;

/// What it may take beyond that: a build without optimization and its symbols, pages that the allocator keeps for the
/// next burst, and what one turn takes in before it is weighed.
const MARGIN: u64 = 48 * MIB;

/// A good client may have to wait this long behind the others' work.
const PATIENCE: Duration = Duration::from_secs(5);

fn seconds() -> u64 {
    env::var("SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(6)
}

/// A batch with names that take the most room in an answer.
fn batch(round: usize) -> String {
    let name = format!("{}{round}", r#"\""#.repeat(100));
    let message = format!(r#"{{"channel":"{name}","event":"e","data":{{}}}}"#);
    format!("[{}]", vec![message; 1_000].join(","))
}

const JSON: (&str, &str) = ("Content-Type", "application/json");

/// One of each kind, none of which reads what it is sent.
fn greedy(server: &Server, round: usize, whole: &[u8], large: &serde_json::Value) -> Vec<Raw> {
    let mut crowd = Vec::new();
    for n in 0..4 {
        // Frames of which the end does not come.
        let mut raw = server.raw_hello();
        raw.write(&whole[..whole.len() - 1]);
        crowd.push(raw);

        // A reader that stops in the middle of a large frame, on a channel of its own.
        let channel = format!("deaf:{round}:{n}");
        let mut raw = server.raw_narrow(4_096);
        raw.frame();
        raw.subscribe(&channel);
        for _ in 0..4 {
            server.post(&channel, "e", large);
        }
        crowd.push(raw);

        // Answers to publishes that nobody reads, each under a key of its own.
        let mut raw = Raw::connect(server.address());
        let key = format!("{round}:{n}");
        let fields = [JSON, ("Idempotency-Key", key.as_str())];
        for _ in 0..3 {
            raw.write(&http::post_bytes("/publish", &fields, &batch(round)));
        }
        crowd.push(raw);

        // Scrapes that nobody reads, one behind the other.
        let mut raw = Raw::connect(server.metrics_address());
        raw.write(&b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(20));
        crowd.push(raw);

        // A head and a body that do not end.
        let mut raw = Raw::connect(server.address());
        raw.write(format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}", "x".repeat(8_000)).as_bytes());
        crowd.push(raw);
        let mut raw = Raw::connect(server.address());
        raw.write(b"POST /publish HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n");
        raw.write(&[b' '; 500_000]);
        crowd.push(raw);

        // Many channels, and pings of which nobody reads the pongs.
        let mut raw = server.raw_narrow(4_096);
        let subscribe = |n: usize| {
            let text = format!(r#"{{"type":"subscribe","data":{{"channel":"many:{round}:{n}"}}}}"#);
            masked(op::TEXT, text.as_bytes())
        };
        raw.write(&(0..200).flat_map(subscribe).collect::<Vec<_>>());
        raw.write(&masked(op::PING, b"ping").repeat(500));
        crowd.push(raw);
    }
    crowd
}

#[test]
fn greedy_clients_take_no_more_than_there_is_and_nothing_from_others() {
    let server = Server::with(&[
        ("SHARDS", "2"),
        ("MEMORY_LIMIT", "64M"),
        ("MESSAGE_RATE_LIMIT", "0"),
        ("DEFLATE", "true"),
    ]);
    let process = Process::new(server.pid());
    let resident = || process.resident_bytes().unwrap();
    let before = resident();
    let mut good = server.hello();
    good.subscribe("good");
    let whole = masked(op::TEXT, &vec![b' '; 1 << 20]);
    let large = json!({ "filler": "x".repeat(900_000) });

    let (start, mut peak, mut slowest) = (Instant::now(), 0, Duration::ZERO);
    let mut rounds = 0;
    let mut crowds = std::collections::VecDeque::new();
    while start.elapsed() < Duration::from_secs(seconds()) {
        crowds.push_back(greedy(&server, rounds, &whole, &large));
        if crowds.len() > 12 {
            crowds.pop_front();
        }
        let asked = Instant::now();
        assert_eq!(server.post("good", "e", &json!({ "n": rounds })), 1);
        assert_eq!(good.numbers(1), [rounds as u64]);
        assert_eq!(http::get(server.address(), "/health").status, 200);
        slowest = slowest.max(asked.elapsed());
        peak = peak.max(resident());
        assert!(peak < LIMIT + MARGIN, "{} MiB are resident in round {rounds}", peak / MIB);
        assert!(asked.elapsed() < PATIENCE, "{:?} in round {rounds}", asked.elapsed());
        rounds += 1;
    }

    drop(crowds);
    let metrics = server.metrics_when("nothing waits", |metrics| {
        ["mahavishnu_queued_bytes", "mahavishnu_partial_bytes", "mahavishnu_shard_queue_bytes"]
            .iter()
            .all(|gauge| metrics.sum(gauge, &[]) < 1.0 * MIB as f64)
            && metrics.sum("mahavishnu_queued_bytes", &[]) == 0.0
            && metrics.sum("mahavishnu_partial_bytes", &[]) == 0.0
            && metrics.sum("mahavishnu_channels", &[]) == 1.0
    });
    assert!(metrics.sum("mahavishnu_idempotency_bytes", &[]) > 0.0, "keys live for 300 s");
    let after = resident();
    println!(
        "{rounds} rounds; resident MiB: before {}, peak {}, after {}; slowest answer {slowest:?}",
        before / MIB,
        peak / MIB,
        after / MIB,
    );
    assert!(after < before + MARGIN, "before {before}, peak {peak}, after {after}");
}
