//! What connections cost the whole process, and what it gives back. Resident memory is read exactly from the page tables.

use mahavishnu_benches::{
    client::{PAYLOAD_BYTES_MAX, Setup},
    handshake::Target,
    idle::Idle,
    process::Process,
};
use mahavishnu_tests::{
    Metrics, Raw, Server, http,
    raw::{masked, op},
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use std::time::Duration;

const MIB: u64 = 1 << 20;

/// Resident bytes for each of `connections` idle subscribers.
fn cost_of_each(server: &Server, url: &str, connections: usize) -> f64 {
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, maximum: files.maximum }).unwrap();
    let setup = Setup {
        target: Target::parse(url).unwrap(),
        token: None,
        channel: Some("workflow:1".to_owned()),
        payload_bytes_max: PAYLOAD_BYTES_MAX,
    };
    let run = |connections| {
        let idle = Idle {
            setup: setup.clone(),
            connections,
            at_once: 64,
            hold: Duration::ZERO,
            server: Some(Process::new(server.pid())),
            label: String::new(),
        };
        idle.run().unwrap().rss_bytes_per_connection.unwrap()
    };
    // What is made for the first connections and stays: buffers, stacks, tables of the cryptographic library.
    run(64);
    run(connections)
}

/// The documented budget: 512 bytes. A build without optimization keeps to it as well.
#[test]
fn an_idle_connection_takes_less_than_its_budget() {
    for runtime in ["tokio", "smol"] {
        let server = Server::with(&[("RUNTIME", runtime), ("SHARDS", "1")]);
        let budget = 512.0;
        let each = cost_of_each(&server, &server.ws_url(), 2_000);
        println!("{runtime}: {each:.0} bytes for each connection");
        assert!(each < budget, "{runtime}: {each} bytes for each connection");
    }
}

/// The documented budget with TLS: 12 KiB.
#[test]
fn an_idle_connection_with_tls_takes_less_than_its_budget() {
    let tls = [("TLS_ENABLED", "true"), ("AUTO_CERT", "true"), ("SHARDS", "1")];
    let server = Server::with(&tls);
    let each = cost_of_each(&server, &server.ws_url().replacen("ws:", "wss:", 1), 1_000);
    println!("{each:.0} bytes for each connection");
    assert!(each < 12.0 * 1024.0, "{each} bytes for each connection");
}

/// What a crowd has sent in part, and what waited for a crowd that did not read, is given back to the system.
#[test]
fn memory_comes_back_after_a_burst() {
    let server = Server::with(&[("SHARDS", "1"), ("MESSAGE_RATE_LIMIT", "0")]);
    let process = Process::new(server.pid());
    let mut crowd: Vec<_> = (0..100).map(|_| server.raw_hello()).collect();
    let before = process.resident_bytes().unwrap();

    let whole = masked(op::TEXT, &vec![b' '; 1 << 20]);
    let (most, end) = whole.split_at(whole.len() - 1);
    crowd.iter_mut().for_each(|raw| raw.write(most));
    let taken =
        |metrics: &Metrics| metrics.sum("mahavishnu_partial_bytes", &[]) > 99.0 * MIB as f64;
    server.metrics_when("all of it", taken);
    let peak = process.resident_bytes().unwrap();
    crowd.iter_mut().for_each(|raw| raw.write(end));
    server.metrics_when("nothing of it", |metrics| {
        metrics.sum("mahavishnu_partial_bytes", &[]) == 0.0
    });
    let after = process.resident_bytes().unwrap();

    println!("before {before}, peak {peak}, after {after}");
    assert!(peak > before + 90 * MIB, "before {before}, peak {peak}");
    assert!(after < before + 16 * MIB, "before {before}, peak {peak}, after {after}");
}

/// Fifty subscribers that do not read, with 1,500 rounds that all of them wait for; then they are gone. Returns the
/// resident memory at the peak and at the end.
fn burst_of_rounds(server: &Server) -> (u64, u64) {
    let process = Process::new(server.pid());
    let mut crowd: Vec<_> = (0..50)
        .map(|_| {
            let mut raw = server.raw_narrow(4_096);
            raw.frame();
            raw.send(op::TEXT, br#"{"type":"subscribe","data":{"channel":"c"}}"#);
            raw.frame();
            raw
        })
        .collect();
    let data = json!({ "filler": "x".repeat(16_000) });
    for _ in 0..1_500 {
        assert_eq!(server.post("c", "e", &data), 50);
    }
    let queued = |metrics: &Metrics| {
        (15.0..40.0).contains(&(metrics.sum("mahavishnu_queued_bytes", &[]) / MIB as f64))
    };
    server.metrics_when("one copy of what waits for all", queued);
    let peak = process.resident_bytes().unwrap();
    crowd.drain(..).for_each(Raw::reset);
    server.metrics_when("nothing waits", |metrics| {
        metrics.sum("mahavishnu_queued_bytes", &[]) == 0.0
    });
    (peak, process.resident_bytes().unwrap())
}

/// What small rounds took the allocator may keep, but then it is used again: the second burst takes nothing more.
#[test]
fn what_waited_is_shared_and_its_memory_is_used_again() {
    let server = Server::with(&[("SHARDS", "1"), ("OUTBOX_BYTES", "33554432")]);
    let before = Process::new(server.pid()).resident_bytes().unwrap();
    let (peak, after) = burst_of_rounds(&server);
    let (_, again) = burst_of_rounds(&server);
    println!("before {before}, peak {peak}, after {after}, again {again}");
    assert!((before + 15 * MIB..before + 60 * MIB).contains(&peak), "before {before}, peak {peak}");
    assert!(again < peak + 8 * MIB, "peak {peak}, after {after}, again {again}");
}

#[test]
fn the_bound_in_force_is_told_everywhere() {
    let server =
        Server::with(&[("MEMORY_LIMIT", "64M"), ("MAX_CONNECTIONS", "100000"), ("SHARDS", "1")]);
    let ready = http::get(server.address(), "/ready").json();
    assert_eq!(ready["connections"]["bound"], "memory");
    let max = ready["connections"]["max"].as_u64().unwrap();
    assert!((4_000..5_000).contains(&max), "{ready}");
    let metrics = server.metrics();
    assert_eq!(metrics.count("mahavishnu_connections_limit", &[("bound", "memory")]), max);
    assert_eq!(metrics.count("mahavishnu_connections_limit", &[("bound", "setting")]), 0);
    let line = format!("at most {max} connections (64 MiB of memory)");
    server.expect_log(&line);
    let shown = server.run(&["config", "show"]);
    assert!(shown.stdout.contains(&line), "{}", shown.stdout);
}
