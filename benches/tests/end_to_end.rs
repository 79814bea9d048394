//! The generator against servers that behave, and against one that does not.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a helper that panics fails its test, as it should"
)]

mod stub;

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use mahavishnu_benches::{
    Result,
    check::Violations,
    client::{PAYLOAD_BYTES_MAX, Setup, Token},
    echo::Echo,
    fanout::{Fanout, Pace, Until, Wire},
    handshake::Target,
    idle::{Churn, Idle},
    process::Process,
    rawloop::{Mode, RawLoop},
    redis::Redis,
    restart::Restart,
    stats::FanoutReport,
};
use stub::{Fault, Stub};

/// A raw server on a free port; it stops when dropped.
struct Raw {
    target: Target,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Raw {
    fn start(mode: Mode) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let (sender, receiver) = mpsc::channel();
        // Bound in its own thread: the kernel's event list is not `Send`.
        let thread = thread::spawn(move || {
            let mut server = RawLoop::bind("127.0.0.1:0".parse().unwrap(), mode).unwrap();
            sender.send(server.local_addr().unwrap()).unwrap();
            server.run(&flag).unwrap();
        });
        let target = Target::parse(&format!("ws://{}", receiver.recv().unwrap())).unwrap();
        Self { target, stop, thread: Some(thread) }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn fanout(target: &Target, wire: Wire, subscribers: u32, window: usize, messages: u64) -> Fanout {
    Fanout {
        targets: vec![target.clone()],
        wire,
        channels: 1,
        subscribers,
        pace: Pace::Closed,
        window,
        until: Until::Messages(messages),
        stall: Duration::from_secs(30),
        servers: Vec::new(),
        redis: None,
        label: String::new(),
        case: String::new(),
    }
}

fn raw(frame_bytes: usize) -> Wire {
    Wire::Raw { frame_bytes }
}

fn json() -> Wire {
    Wire::Json { channel: "workflow:bench".to_owned(), data_bytes: 128, token: None }
}

fn setup(target: &Target) -> Setup {
    Setup {
        target: target.clone(),
        token: None,
        channel: None,
        payload_bytes_max: PAYLOAD_BYTES_MAX,
    }
}

/// Runs against a stub that commits one fault, and is not patient.
fn with_fault(fault: Fault) -> Result<FanoutReport> {
    let stub = Stub::start(5, fault);
    let run =
        Fanout { stall: Duration::from_millis(300), ..fanout(&stub.target, json(), 5, 8, 100) };
    run.run()
}

#[test]
fn twenty_subscribers_get_every_frame_in_either_mode() {
    for mode in [Mode::Send, Mode::Batch] {
        let server = Raw::start(mode);

        let report = fanout(&server.target, raw(380), 20, 16, 2_000).run().unwrap();

        assert_eq!((report.publishes, report.deliveries), (2_000, 40_000), "{mode:?}");
        assert!(report.violations.is_empty(), "{mode:?}: {:?}", report.violations);
        assert_eq!((report.frame_bytes_min, report.frame_bytes_max), (380, 380), "{mode:?}");
    }
}

#[test]
fn frames_longer_than_any_buffer_arrive_whole() {
    let server = Raw::start(Mode::Batch);

    let report = fanout(&server.target, raw(1 << 20), 3, 4, 30).run().unwrap();

    assert_eq!(report.deliveries, 90);
    assert!(report.violations.is_empty(), "{:?}", report.violations);
}

#[test]
fn a_fixed_rate_publishes_all_whatever_the_server_does() {
    let server = Raw::start(Mode::Batch);
    let run = Fanout {
        pace: Pace::PerSecond(20_000.0),
        ..fanout(&server.target, raw(130), 20, 4096, 200)
    };

    let report = run.run().unwrap();

    assert_eq!((report.mode.as_str(), report.deliveries), ("rate", 4_000));
    assert!(report.latency.p99_us >= report.latency.p50_us && report.latency.p50_us > 0.0);
}

#[test]
fn a_timed_run_measures_an_interval_and_the_server() {
    let server = Raw::start(Mode::Batch);
    let until =
        Until::Elapsed { warm_up: Duration::from_millis(20), measured: Duration::from_millis(50) };
    let servers = vec![Process::new(std::process::id())];
    let run = Fanout { until, servers, ..fanout(&server.target, raw(130), 5, 4, 0) };

    let report = run.run().unwrap();

    assert!(report.deliveries > 0 && report.seconds >= 0.05, "{report}");
    assert!(report.server.is_some_and(|server| server.rss_bytes > 0), "{report}");
}

#[test]
fn echoes_are_checked_at_any_depth_and_size() {
    let server = Raw::start(Mode::Echo);
    // Messages that a read cuts, shorter and longer than the server's read buffer.
    for (connections, depth, payload_bytes, messages) in [
        (10, 1, 128, 500),
        (10, 16, 128, 5_000),
        (3, 8, 100_000, 200),
        (2, 4, 300_000, 50),
        (1, 1, 1 << 20, 10),
    ] {
        let echo = Echo {
            target: server.target.clone(),
            connections,
            depth,
            payload_bytes,
            until: Until::Messages(messages),
            stall: Duration::from_secs(30),
            server: None,
            label: String::new(),
            case: String::new(),
        };

        let report = echo.run().unwrap();

        assert!(report.deliveries >= messages, "{report}");
    }
}

#[test]
fn connections_are_held_and_churned() {
    let server = Raw::start(Mode::Send);
    let this = Some(Process::new(std::process::id()));
    let (setup, label) = (setup(&server.target), String::new());
    let hold = Duration::from_millis(20);

    let idle = Idle {
        setup: setup.clone(),
        connections: 100,
        at_once: 16,
        hold,
        server: this,
        label: label.clone(),
    };
    let churn = Churn { setup, connections: 100, at_once: 16, server: this, label };

    assert!(idle.run().unwrap().connects_per_second > 0.0);
    assert!(churn.run().unwrap().cpu_us_per_connect.is_some());
}

#[test]
fn reports_of_the_command_line_say_which_run_they_are_of() {
    let server = Raw::start(Mode::Batch);
    let url = format!("ws://{}", server.target.address);
    let runs = [
        vec!["fanout", "--raw", "--subscribers", "2", "--messages", "10"],
        vec!["connect", "--connections", "2"],
        vec!["idle", "--connections", "2", "--hold", "0"],
    ];
    for run in runs {
        let output = Command::new(env!("CARGO_BIN_EXE_loadgen"))
            .args(&run)
            .args(["--url", &url, "--json", "--label", "raw", "--case", "small", "--round", "3"])
            .output()
            .unwrap();

        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let named = (&report["label"], &report["case"], &report["round"]);
        assert_eq!(named, (&"raw".into(), &"small".into(), &3.into()), "{run:?}");
    }
}

#[test]
fn the_json_protocol_is_spoken_and_every_publish_is_answered() {
    let stub = Stub::start(20, Fault::None);

    let report = fanout(&stub.target, json(), 20, 16, 500).run().unwrap();

    assert_eq!((report.deliveries, report.answers), (10_000, 500));
    assert!(report.violations.is_empty(), "{:?}", report.violations);
    assert!(report.frame_bytes_min > 128 + 100, "an envelope is longer than its data: {report}");
}

#[test]
fn every_channel_has_subscribers_and_messages_of_its_own() {
    let stub = Stub::start(15, Fault::None);
    let run = Fanout { channels: 3, ..fanout(&stub.target, json(), 5, 4, 300) };

    let report = run.run().unwrap();

    assert_eq!((report.publishes, report.deliveries, report.answers), (300, 1_500, 300));
    assert!(report.violations.is_empty(), "{:?}", report.violations);
    let requests = stub.requests();
    let published = |channel: usize| {
        let to = format!("\"channel\":\"workflow:bench-{channel}\",\"event\"");
        requests.iter().filter(|request| request.contains(&to)).count()
    };
    let shares: Vec<usize> = (0..3).map(published).collect();
    assert_eq!(shares.iter().sum::<usize>(), 300, "{shares:?}");
    assert!(!shares.contains(&0), "{shares:?}");
}

#[test]
fn a_loss_in_one_of_several_channels_fails_the_run() {
    let stub = Stub::start(4, Fault::Lose);
    let run = Fanout {
        channels: 2,
        pace: Pace::PerSecond(10_000.0),
        stall: Duration::from_millis(300),
        ..fanout(&stub.target, json(), 2, 64, 200)
    };

    let violations = run.run().unwrap().violations;

    assert_eq!((violations.lost, violations.duplicated), (1, 0), "{violations:?}");
}

#[test]
fn subscribers_are_spread_over_all_nodes() {
    // What is published at one of two servers that know nothing of each other reaches its own subscribers alone.
    let (one, other) = (Stub::start(2, Fault::None), Stub::start(1, Fault::None));
    let run = Fanout {
        targets: vec![one.target.clone(), other.target],
        stall: Duration::from_millis(300),
        ..fanout(&one.target, json(), 3, 4, 4)
    };

    let report = run.run().unwrap();

    assert_eq!((report.deliveries, report.violations.lost), (8, 4), "{:?}", report.violations);
}

fn restart(target: &Target, redis: &mahavishnu_test_redis::Redis) -> Restart {
    Restart {
        targets: vec![target.clone()],
        token: None,
        channel: "workflow:r".to_owned(),
        channels: 250,
        sample: 20,
        data_bytes: 128,
        command: "true".to_owned(),
        servers: Vec::new(),
        redis: Redis::new(([127, 0, 0, 1], redis.port()).into()),
        settle: Duration::ZERO,
        stall: Duration::from_millis(300),
        label: String::new(),
        case: String::new(),
    }
}

#[test]
fn a_restart_is_timed_and_every_message_is_looked_for() {
    let redis = mahavishnu_test_redis::Redis::start();
    let stub = Stub::start(3, Fault::None);

    let report = restart(&stub.target, &redis).run().unwrap();

    assert!(report.violations.is_empty(), "{:?}", report.violations);
    assert_eq!((report.channels, report.sample, report.nodes), (250, 20, 1));
    assert!(report.redis.commands > 0 && report.back_seconds >= report.first_seconds, "{report}");
    let published = stub.requests().iter().filter(|request| request.contains("publish")).count();
    assert_eq!(published, 250 + 20 + 250);
}

#[test]
fn what_a_restart_loses_doubles_or_cannot_do_fails_the_run() {
    let redis = mahavishnu_test_redis::Redis::start();
    let run = |fault| {
        let stub = Stub::start(1, fault);
        Restart { channels: 100, ..restart(&stub.target, &redis) }.run().unwrap().violations
    };
    // The first subscription is that of the first channel, and so is the first message.
    let Violations { lost, duplicated, .. } = run(Fault::LoseLast(1));
    assert_eq!((lost, duplicated), (1, 0));
    let stub = Stub::start(3, Fault::None);
    let failing = Restart { command: "exit 3".to_owned(), ..restart(&stub.target, &redis) };
    assert!(failing.run().unwrap_err().to_string().contains("exit status: 3"));
}

#[test]
fn a_token_is_shown_first() {
    let stub = Stub::start(3, Fault::None);
    let token = Some(Token::Message("secret".to_owned()));
    let wire = Wire::Json { channel: "workflow:bench".to_owned(), data_bytes: 128, token };

    fanout(&stub.target, wire, 3, 4, 10).run().unwrap();

    // In groups: the three subscribers authenticate and subscribe, then the publisher authenticates and publishes.
    let shown: Vec<bool> = stub
        .requests()
        .iter()
        .take(8)
        .map(|request| request.contains("\"token\":\"secret\""))
        .collect();
    assert_eq!(shown, [true, true, true, false, false, false, true, false]);
}

#[test]
fn a_loss_fails_the_run() {
    let Violations { lost, duplicated, reordered, .. } =
        with_fault(Fault::Lose).unwrap().violations;

    assert_eq!((lost, duplicated, reordered), (1, 0, 0));
}

#[test]
fn a_loss_at_the_very_end_fails_the_run() {
    let Violations { lost, duplicated, reordered, .. } =
        with_fault(Fault::LoseLast(100)).unwrap().violations;

    assert_eq!((lost, duplicated, reordered), (1, 0, 0));
}

#[test]
fn a_repetition_fails_the_run() {
    let Violations { lost, duplicated, reordered, .. } =
        with_fault(Fault::Repeat).unwrap().violations;

    assert_eq!((lost, duplicated, reordered), (0, 1, 0));
}

#[test]
fn a_wrong_order_fails_the_run() {
    let Violations { lost, duplicated, reordered, .. } =
        with_fault(Fault::Swap).unwrap().violations;

    assert_eq!((lost, duplicated, reordered), (0, 0, 1));
}

#[test]
fn a_cut_message_fails_the_run() {
    let violations = with_fault(Fault::Cut).unwrap().violations;

    assert_eq!(violations.damaged, 1, "{violations:?}");
}

#[test]
fn an_error_answer_ends_the_run_with_its_text() {
    let error = with_fault(Fault::Refuse).unwrap_err().to_string();

    assert!(error.contains("RATE_LIMIT_EXCEEDED: slow down"), "{error}");
}

#[test]
fn a_missing_answer_ends_the_run() {
    let error = with_fault(Fault::NoAnswer).unwrap_err().to_string();

    assert!(error.contains("99 answers to 100 publishes"), "{error}");
}

#[test]
fn a_close_ends_the_run_with_its_code() {
    let error = with_fault(Fault::Close).unwrap_err().to_string();

    assert!(error.contains("1013 full"), "{error}");
}
