//! Stopping.

use std::time::Duration;

use mahavishnu_conformance::{App, Backend, Setup, post};
use mahavishnu_core::hub::DrainPlan;
use serde_json::json;

pub(crate) fn a_drain_closes_everyone_with_1001(backend: Backend) {
    let rig = backend.start_with(Setup { shards: 2, ..Setup::new(|_| {}) });
    let clients: Vec<_> = (0..6).map(|_| rig.subscriber("a")).collect();
    let mut plain = rig.raw();
    rig.expect_sockets(7);
    rig.drain(DrainPlan::default());
    for mut client in clients {
        assert_eq!(client.expect_close(1001), "Server shutting down");
    }
    assert_eq!(plain.read_to_end(), b"", "who has not spoken is told nothing");
    drop(plain);
    rig.expect_drained();
    assert_eq!(rig.sockets(), 0);
}

pub(crate) fn what_was_published_comes_before_the_close(backend: Backend) {
    let rig = backend.start(|_| {});
    let mut client = rig.subscriber("a");
    (0..10).for_each(|n| assert_eq!(rig.broadcast("a", &json!({ "n": n })), 1));
    rig.drain(DrainPlan::default());
    assert_eq!(client.numbers(10), (0..10).collect::<Vec<_>>());
    client.expect_close(1001);
}

pub(crate) fn a_drain_in_a_window_closes_one_after_the_other(backend: Backend) {
    let rig = backend.start(|_| {});
    let mut clients: Vec<_> = (0..4).map(|_| rig.raw_hello()).collect();
    let plan = DrainPlan {
        window: Duration::from_secs(2),
        deadline: Duration::from_secs(20),
        ..DrainPlan::default()
    };
    let (took, ()) = rig.time(|| {
        rig.drain(plan);
        assert_eq!(clients[0].close_frame().map(|(code, _)| code), Some(1001));
        assert!(clients[3].is_quiet_for(Duration::from_millis(100)), "its turn has not come");
        for client in &mut clients[1..] {
            assert_eq!(client.close_frame().map(|(code, _)| code), Some(1001));
        }
    });
    // A quarter of the window before each but the first.
    assert!(took >= Duration::from_millis(1_500), "{took:?}");
    drop(clients);
    rig.expect_drained();
}

pub(crate) fn a_drain_gives_notice_first(backend: Backend) {
    let rig = backend.start_with(Setup { shards: 2, ..Setup::new(|_| {}) });
    let mut client = rig.subscriber("a");
    let notice = Duration::from_secs(2);
    let ready = || {
        let mut raw = rig.raw();
        raw.write(b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n");
        raw.response()
    };
    assert_eq!(ready().status, 200);
    let (took, ()) = rig.time(|| {
        rig.drain(DrainPlan { notice, ..DrainPlan::default() });
        rig.until("notice", || (ready().status == 503).then_some(()));
        assert_eq!(ready().json()["checks"]["accepting"], "failing");
        let mut late = rig.subscriber("a");
        assert_eq!(rig.broadcast("a", &json!({ "n": 1 })), 2, "everything else goes on");
        assert_eq!((client.numbers(1), late.numbers(1)), (vec![1], vec![1]));
        for client in [&mut client, &mut late] {
            assert_eq!(client.expect_close(1001), "Server shutting down");
        }
    });
    assert!(took >= notice, "{took:?}");
    drop(client);
    rig.expect_drained();
}

pub(crate) fn a_drain_ends_at_its_deadline(backend: Backend) {
    let rig = backend.start(|_| {});
    let mut raw = rig.raw_hello();
    let deadline = Duration::from_millis(300);
    let (took, ()) = rig.time(|| {
        rig.drain(DrainPlan { window: Duration::ZERO, deadline, ..DrainPlan::default() });
        rig.expect_drained();
    });
    assert!(took >= deadline, "{took:?}");
    assert_eq!(raw.close_frame().map(|(code, _)| code), Some(1001));
    assert_eq!(raw.read_to_end(), b"");
}

pub(crate) fn a_draining_server_takes_no_connections(backend: Backend) {
    let rig = backend.start(|_| {});
    let mut raw = rig.raw_hello();
    rig.drain(DrainPlan {
        window: Duration::ZERO,
        deadline: Duration::from_secs(60),
        ..DrainPlan::default()
    });
    assert_eq!(raw.close_frame().map(|(code, _)| code), Some(1001));
    assert!(!rig.is_drained(), "somebody is still there");
    rig.until("a refusal", || rig.try_connect().is_err().then_some(()));
    drop(raw);
    rig.expect_drained();
}

pub(crate) fn a_drain_lets_answers_that_are_due_go_out(backend: Backend) {
    let app = App { publish: Some(|_| Some((Duration::from_millis(300), true))), ..App::default() };
    let rig = backend.start_with(Setup { app, ..Setup::new(|_| {}) });
    let mut raw = rig.raw();
    let request = post(&[], &json!({ "channel": "c", "event": "e" }));
    raw.write(&request);
    rig.expect_count("mahavishnu_received_bytes_total", &[], request.len() as u64);
    rig.drain(DrainPlan::default());
    let answer = raw.response();
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert_eq!(raw.read_to_end(), b"");
    drop(raw);
    rig.expect_drained();
}
