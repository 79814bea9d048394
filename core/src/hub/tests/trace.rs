//! What was recorded comes out again.

use super::*;
use crate::trace::{Mismatch, Report, replay};

/// A story with most kinds of input, recorded.
fn recorded() -> (Vec<u8>, Config) {
    let mut config = with_auth();
    config.limits.outbox_bytes_max = 3000;
    config.limits.messages_per_second = None;
    config.slow_readers.default = crate::config::SlowPolicy::Gap;
    config.hooks.requests.insert("get_pool_status".into());
    let mut rig = Rig::new(1, config.clone());
    assert!(rig.hubs[0].start_recording(rig.now));
    let header = format!("Authorization: Bearer {}\r\n", token("ada", &["admin"]));
    let (a, b) = (rig.connect_with(0, &header), rig.connect_with(0, &header));
    for client in [&a, &b] {
        client.take();
        rig.subscribe(client, "a");
    }
    rig.set_room(&b, Some(100));
    for n in 0..20 {
        rig.publish(0, "a", n);
        rig.wait(Duration::from_millis(7));
    }
    rig.send(&a, &json!({"type": "request", "event": "get_pool_status", "id": "1", "data": {}}));
    let id = rig
        .outputs
        .iter()
        .find_map(|output| if let Output::Request { id, .. } = output { Some(*id) } else { None });
    rig.hubs[0]
        .handle_command(rig.now, Command::Reply { id: id.unwrap(), result: Ok("{}".into()) });
    rig.set_room(&b, None);
    rig.send(&a, &json!({"type": "nonsense"}));
    rig.wait(Duration::from_secs(20));
    rig.bytes(&a, &[0xff, 0xff, 0xff]);
    rig.hubs[0].handle_command(rig.now, Command::Drain(DrainPlan::default()));
    rig.run();
    rig.hang_up(&a);
    rig.hang_up(&b);
    rig.assert_empty();
    (rig.hubs[0].take_recording(), config)
}

fn run(trace: &[u8], config: Config) -> Result<Report, Mismatch> {
    replay(trace, Arc::new(config), Instant::now())
}

#[test]
fn a_trace_runs_again_with_the_same_outcome() {
    let (trace, config) = recorded();
    let report = run(&trace, config).unwrap();
    assert_eq!(report.connections, 2);
    assert!(report.sent_bytes > 5_000, "{report:?}");
    assert!(report.duration >= Duration::from_secs(20));
}

#[test]
fn recording_changes_nothing() {
    assert_eq!(recorded().0, recorded().0);
}

#[test]
fn another_behaviour_is_noticed() {
    let (mut trace, config) = recorded();
    // The first byte of a publication's data: what is sent differs from what was.
    let at = trace.windows(8).position(|window| window == br#"{"n":13}"#).unwrap();
    trace[at + 5] = b'2';
    let outcome = run(&trace, config);
    assert!(matches!(outcome, Err(Mismatch::Differs { .. })), "{outcome:?}");
}

#[test]
fn another_configuration_is_refused() {
    let (trace, mut config) = recorded();
    config.limits.outbox_bytes_max += 1;
    assert_eq!(run(&trace, config), Err(Mismatch::Configuration { calls: 0 }));
}

#[test]
fn what_is_cut_off_is_said_to_be() {
    let (trace, config) = recorded();
    assert!(matches!(run(&trace[..trace.len() - 1], config.clone()), Err(Mismatch::Broken { .. })));
    assert_eq!(run(b"nonsense", config), Err(Mismatch::NotATrace));
}
