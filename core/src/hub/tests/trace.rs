//! What was recorded comes out again.

use super::*;
use crate::trace::{Kind, Mismatch, Report, Trace, Writer, replay};

/// What every hub noted, as one file.
fn trace_of(rig: &mut Rig) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new()).unwrap();
    for (hub, shard) in rig.hubs.iter_mut().zip(0..) {
        writer.add(ShardId(shard), &hub.take()).unwrap();
    }
    writer.into_inner()
}

/// A story with most kinds of input, recorded.
#[cfg(feature = "jwt")]
fn recorded() -> (Vec<u8>, Config) {
    let mut config = with_auth();
    config.limits.delivery.outbox_bytes_max = 3000;
    config.limits.connections.messages_per_second = None;
    config.slow_readers.default = crate::config::SlowPolicy::Gap;
    config.hooks.requests.insert("get_pool_status".into());
    config.statistics = true;
    let mut rig = Rig::new(1, config.clone());
    assert!(rig.hubs[0].start(rig.now));
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
    rig.subscribe(&a, crate::config::STATISTICS);
    rig.wait(Duration::ZERO);
    for command in [Command::Statistics(r#"{"n":1}"#.into()), Command::Failed(Handler::Statistics)]
    {
        rig.hubs[0].handle_command(rig.now, command);
    }
    rig.run();
    assert_eq!(a.take_numbers().last(), Some(&1));
    rig.send(&a, &json!({"type": "nonsense"}));
    rig.wait(Duration::from_secs(20));
    rig.bytes(&a, &[0xff, 0xff, 0xff]);
    rig.hubs[0].handle_command(rig.now, Command::Drain(DrainPlan::default()));
    rig.run();
    rig.hang_up(&a);
    rig.hang_up(&b);
    rig.assert_empty();
    (trace_of(&mut rig), config)
}

fn run(trace: &[u8], config: Config) -> Result<Report, Mismatch> {
    replay(trace, &[Arc::new(config)], Instant::now())
}

#[cfg(feature = "jwt")]
#[test]
fn a_trace_runs_again_with_the_same_outcome() {
    let (trace, config) = recorded();
    let report = run(&trace, config).unwrap();
    assert_eq!(report.connections, 2);
    assert!(report.sent_bytes > 5_000, "{report:?}");
    assert!(report.duration >= Duration::from_secs(20));
}

#[cfg(feature = "jwt")]
#[test]
fn recording_changes_nothing() {
    assert_eq!(recorded().0, recorded().0);
}

#[cfg(feature = "jwt")]
#[test]
fn another_behaviour_is_noticed() {
    let (mut trace, config) = recorded();
    // The first byte of a publication's data: what is sent differs from what was.
    let at = trace.windows(8).position(|window| window == br#"{"n":13}"#).unwrap();
    trace[at + 5] = b'2';
    let outcome = run(&trace, config);
    assert!(matches!(outcome, Err(Mismatch::Differs { .. })), "{outcome:?}");
}

#[cfg(feature = "jwt")]
#[test]
fn a_damaged_record_is_said_to_be_damaged() {
    let (mut trace, config) = recorded();
    // What stands before the bytes of a client: the kind of call, its connection, a length.
    let at = trace.windows(4).position(|window| window == b"GET ").unwrap();
    trace[at - 6..at].fill(0xff);

    let outcome = run(&trace, config);

    assert!(matches!(outcome, Err(Mismatch::Damaged { .. })), "{outcome:?}");
}

#[cfg(feature = "jwt")]
#[test]
fn another_configuration_is_refused() {
    let (trace, mut config) = recorded();
    config.limits.delivery.outbox_bytes_max += 1;
    assert_eq!(run(&trace, config), Err(Mismatch::Configuration { calls: 0 }));
}

#[cfg(feature = "jwt")]
#[test]
fn what_is_cut_off_is_said_to_be() {
    let (trace, config) = recorded();
    let report = run(&trace[..trace.len() - 1], config.clone()).unwrap();
    assert!(report.cut_short);
    assert_eq!(run(b"nonsense", config), Err(Mismatch::NotATrace));
}

/// Three hubs that work together: publishes from any of them, a slow reader, a drain.
fn recorded_together() -> (Vec<u8>, Config) {
    let mut config = Config::default();
    config.limits.delivery.outbox_bytes_max = 3000;
    config.limits.connections.messages_per_second = None;
    config.slow_readers.default = crate::config::SlowPolicy::Gap;
    let mut rig = Rig::new(3, config.clone());
    let now = rig.now;
    assert!(rig.hubs.iter_mut().all(|hub| hub.start(now)));
    let clients: Vec<_> = (0..6).map(|n| rig.connect(n % 3)).collect();
    for client in &clients {
        rig.subscribe(client, "a");
        rig.subscribe(client, "b");
    }
    rig.set_room(&clients[4], Some(100));
    for n in 0..40 {
        rig.publish(n as usize % 3, if n % 5 < 2 { "a" } else { "b" }, n);
        if n % 4 == 0 {
            rig.wait(Duration::from_millis(3));
        }
    }
    rig.set_room(&clients[4], None);
    rig.request(&clients[1], "publish", &json!({"channel": "b", "event": "e", "data": {}}));
    rig.hang_up(&clients[2]);
    for shard in 0..3 {
        rig.hubs[shard].handle_command(rig.now, Command::Drain(DrainPlan::default()));
    }
    rig.run();
    clients.iter().for_each(|client| rig.hang_up(client));
    (trace_of(&mut rig), config)
}

#[test]
fn hubs_that_work_together_are_replayed_together() {
    let (trace, config) = recorded_together();

    let report = run(&trace, config).unwrap();

    assert!(!report.cut_short);
    assert_eq!((report.shards, report.connections), (3, 6));
    assert!(report.sent_bytes > 10_000, "{report:?}");
}

#[test]
fn a_hub_that_says_something_else_to_another_is_noticed() {
    let (mut trace, config) = recorded_together();
    let at = trace.windows(8).position(|window| window == br#"{"n":13}"#).unwrap();
    trace[at + 5] = b'2';

    let outcome = run(&trace, config);

    assert!(matches!(outcome, Err(Mismatch::Differs { .. })), "{outcome:?}");
}

#[test]
fn a_trace_without_one_of_its_hubs_ends_early() {
    let (trace, config) = recorded_together();
    // The third chunk is the third hub's.
    let mut rest = &trace[8..];
    for _ in 0..2 {
        let length = u32::from_le_bytes(rest[2..6].try_into().unwrap()) as usize;
        rest = &rest[6 + length..];
    }

    let report = run(&trace[..trace.len() - rest.len()], config).unwrap();

    assert!(report.cut_short);
}

#[test]
fn a_reload_needs_its_configuration_too() {
    let mut rig = Rig::alone();
    rig.hubs[0].start(rig.now);
    let client = rig.connect(0);
    let mut other = Config::default();
    other.limits.delivery.outbox_bytes_max += 1;
    let other = Arc::new(other);
    rig.hubs[0].handle_command(rig.now, Command::Reload(other.clone()));
    rig.hang_up(&client);
    let trace = trace_of(&mut rig);
    let (first, start) = (Arc::new(Config::default()), Instant::now());

    let without = replay(&trace, std::slice::from_ref(&first), start);
    let with = replay(&trace, &[other, first], start);

    assert!(matches!(without, Err(Mismatch::Configuration { calls: 2.. })), "{without:?}");
    assert!(with.is_ok(), "{with:?}");
}

#[test]
fn the_inputs_of_clients_can_be_taken_out() {
    let (trace, _) = recorded_together();

    let inputs = Trace::new(&trace).unwrap().inputs();

    let count = |wanted: fn(&Kind<'_>) -> bool| inputs.iter().filter(|i| wanted(&i.kind)).count();
    assert_eq!(count(|kind| matches!(kind, Kind::Accept(_))), 6);
    assert_eq!(count(|kind| matches!(kind, Kind::Eof)), 7);
    assert!(count(|kind| matches!(kind, Kind::Bytes(_))) >= 6 * 3);
    assert!(inputs.is_sorted_by_key(|input| input.at));
}

#[cfg(feature = "jwt")]
#[test]
fn revocations_are_replayed_on_all_hubs() {
    let config = with_auth();
    let mut rig = Rig::new(2, config.clone());
    let now = rig.now;
    assert!(rig.hubs.iter_mut().all(|hub| hub.start(now)));
    let header = format!("Authorization: Bearer {}\r\n", token("ada", &["admin"]));
    let clients: Vec<_> = (0..2).map(|shard| rig.connect_with(shard, &header)).collect();
    for json in [r#"{"user":"ada","issued_before":1770000001}"#, r#"{"jti":"x"}"#] {
        let revocation = auth::Revocation::parse(json).unwrap();
        rig.hubs[0].handle_command(rig.now, Command::Revoke { id: Some(CommandId(1)), revocation });
        rig.run();
    }
    let nothing = auth::Revocation { id: None, user: None, issued_before: None, until: None };
    let refused = Command::Revoke { id: Some(CommandId(2)), revocation: nothing };
    rig.hubs[0].handle_command(rig.now, refused);
    rig.run();
    clients.iter().for_each(|client| rig.hang_up(client));
    let trace = trace_of(&mut rig);

    let report = run(&trace, config).unwrap();

    assert!(!report.cut_short);
    assert_eq!(report.connections, 2);
}

/// A number of a hub is a claim on memory, and counting up to the largest would overflow.
#[test]
fn a_trace_that_names_too_many_hubs_is_none() {
    let trace = |shard: u16| [b"mhvtrc04".as_slice(), &shard.to_le_bytes(), &[0; 4]].concat();
    for shard in [1024, u16::MAX - 1, u16::MAX] {
        assert!(matches!(Trace::new(&trace(shard)), Err(Mismatch::NotATrace)), "{shard}");
    }
    let last = trace(1023);
    let last = Trace::new(&last).unwrap();
    assert_eq!((last.shards(), last.inputs().len()), (1024, 0));
}
