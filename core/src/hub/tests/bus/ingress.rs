//! What others have written into a queue is published once and in order, whoever takes it.

use super::*;
use crate::config::{IngressKind, IngressSource};

fn config() -> Config {
    let source = IngressSource { kind: IngressKind::Stream, name: "in".into() };
    let bus = config::Bus { ingress: vec![Arc::new(source)], ..config::Bus::default() };
    Config { bus: Some(bus), ..unlimited() }
}

fn write(nodes: &mut Nodes, channel: &str, n: u64) -> u64 {
    let data = json!({"n": n}).to_string();
    nodes.server.queue.write(&[("channel", channel), ("event", "e"), ("data", &data)])
}

/// What `node` is heard saying to the bus: so many appends are carried out and nothing else, and its other commands wait.
fn carry_out_appends(nodes: &mut Nodes, node: usize, mut count: usize) {
    for _ in 0..1_000 {
        if count == 0 {
            return;
        }
        nodes.collect();
        let next = nodes.link(node, 0).pending.front().cloned();
        if matches!(next, Some(BusCommand::Append(_))) {
            count -= 1;
        }
        if !nodes.execute(node, 0) {
            nodes.wait(Duration::from_millis(5));
        }
        while nodes.tell(node, 0) {}
    }
    panic!("it sends no more appends");
}

fn run(nodes: &mut Nodes, time: Duration) {
    for _ in 0..time.as_millis() / 50 {
        nodes.wait(Duration::from_millis(50));
        nodes.settle();
    }
}

#[test]
fn what_was_written_comes_in_order_and_is_gone() {
    for shards in [1, 3] {
        let mut nodes = Nodes::with(3, shards, config());
        let (a, _) = nodes.subscriber(1, 0, "a");
        let (b, _) = nodes.subscriber(2, 0, "b");
        for n in 0..500 {
            write(&mut nodes, "a", n);
            write(&mut nodes, "b", n);
        }
        run(&mut nodes, Duration::from_secs(3));
        assert_eq!(heard(&a), events(0..500, 1), "{shards} shards");
        assert_eq!(heard(&b), events(0..500, 1), "{shards} shards");
        assert_eq!((nodes.server.queue.entries.len(), nodes.server.queue.dead.len()), (0, 0));
        assert!(nodes.server.appends.iter().all(|(_, count)| *count == 1));
    }
}

#[test]
fn one_node_takes_and_the_others_ask_seldom() {
    let mut nodes = Nodes::with(3, 1, config());
    run(&mut nodes, Duration::from_secs(10));
    let takes = nodes.server.queue.takes;
    // The owner each 50 ms, the other two each second.
    assert!((150..=300).contains(&takes), "{takes}");
}

#[test]
fn who_comes_after_a_dead_owner_begins_with_what_is_left() {
    let mut nodes = Nodes::with(2, 1, config());
    let (client, _) = nodes.subscriber(1, 0, "a");
    run(&mut nodes, Duration::from_secs(2));
    let owner = nodes.server.queue.owner.unwrap().node;
    assert_eq!(owner, nodes.rigs[0].hubs[0].hub().place().node(), "the first that was up");
    for n in 0..20 {
        write(&mut nodes, "a", n);
    }
    carry_out_appends(&mut nodes, 0, 7);
    nodes.kill(0);
    assert_eq!(nodes.server.queue.entries.len(), 13);
    run(&mut nodes, Duration::from_secs(2));
    assert_eq!(nodes.server.queue.entries.len(), 13, "its lease is not over");
    nodes.server.queue.owner = None;
    run(&mut nodes, Duration::from_secs(3));
    assert_eq!(heard(&client), events(0..20, 1));
    assert_eq!(nodes.server.queue.entries.len(), 0);
}

#[test]
fn a_queue_that_was_deleted_begins_with_names_that_were_there_before() {
    let mut nodes = Nodes::with(2, 1, config());
    let (client, _) = nodes.subscriber(1, 0, "a");
    for n in 0..20 {
        write(&mut nodes, "a", n);
    }
    run(&mut nodes, Duration::from_secs(1));
    nodes.server.queue.flush();
    for n in 20..25 {
        write(&mut nodes, "a", n);
    }
    run(&mut nodes, Duration::from_secs(1));
    assert_eq!(heard(&client), events(0..25, 1));
    assert_eq!(nodes.server.queue.entries.len(), 0);
}

#[test]
fn an_owner_that_has_slept_publishes_nothing_more() {
    let mut nodes = Nodes::with(2, 1, config());
    let (client, _) = nodes.subscriber(1, 0, "a");
    run(&mut nodes, Duration::from_secs(2));
    let first = nodes.server.queue.owner.unwrap();
    assert_eq!(first.node, nodes.rigs[0].hubs[0].hub().place().node());
    for n in 0..20 {
        write(&mut nodes, "a", n);
    }
    carry_out_appends(&mut nodes, 0, 3);
    nodes.collect();
    // What it has sent is carried out when it is too late.
    let late = std::mem::take(&mut nodes.link(0, 0).pending);
    nodes.server.queue.owner = None;
    let awake = 1;
    for _ in 0..200 {
        nodes.rigs[awake].wait(Duration::from_millis(50));
        nodes.collect();
        while nodes.execute(awake, 0) {}
        while nodes.tell(awake, 0) {}
    }
    assert_ne!(nodes.server.queue.owner.unwrap(), first);
    assert_eq!(nodes.server.queue.entries.len(), 0);
    for n in 20..25 {
        write(&mut nodes, "a", n);
    }
    late.into_iter().rev().for_each(|command| nodes.link(0, 0).pending.push_front(command));
    run(&mut nodes, Duration::from_secs(8));
    assert_eq!(heard(&client), events(0..25, 1));
}

#[test]
fn a_bus_that_goes_away_at_any_time_loses_and_doubles_nothing() {
    for carried_out in 0..12 {
        let mut nodes = Nodes::with(1, 1, config());
        let (client, _) = nodes.subscriber(0, 0, "a");
        for n in 0..10 {
            write(&mut nodes, "a", n);
            write(&mut nodes, "b", n);
        }
        nodes.wait(Duration::from_millis(50));
        for _ in 0..carried_out {
            nodes.collect();
            nodes.execute(0, 0);
            while nodes.tell(0, 0) {}
        }
        // What is sent is carried out, and nobody hears of it.
        nodes.collect();
        while nodes.execute(0, 0) {}
        nodes.down(0);
        run(&mut nodes, Duration::from_secs(1));
        nodes.up(0);
        run(&mut nodes, Duration::from_secs(3));
        let heard: Vec<_> = heard(&client);
        assert_eq!(heard, events(0..10, 1), "after {carried_out}");
        assert_eq!(nodes.server.channel("b").top, 10, "after {carried_out}");
        assert_eq!(nodes.server.queue.entries.len(), 0);
    }
}

#[test]
fn an_id_is_published_once_however_often_it_is_written() {
    let mut nodes = Nodes::with(2, 2, config());
    let (client, _) = nodes.subscriber(1, 0, "a");
    let with_id = |n| [("channel", "a"), ("event", "e"), ("data", n), ("id", "job-7")];
    for _ in 0..3 {
        nodes.server.queue.write(&with_id("{\"n\":1}"));
    }
    let other = nodes.server.queue.write(&with_id("{\"n\":2}"));
    run(&mut nodes, Duration::from_secs(3));
    assert_eq!(heard(&client), events([1], 1));
    assert_eq!(nodes.server.queue.dead, [(other, "key_reused")]);
    // At another node, that has not seen it.
    nodes.kill(0);
    nodes.server.queue.owner = None;
    nodes.server.queue.write(&with_id("{\"n\":1}"));
    run(&mut nodes, Duration::from_secs(3));
    assert_eq!(heard(&client), []);
    assert_eq!(nodes.server.queue.entries.len(), 0);
}

#[test]
fn what_cannot_be_published_is_put_aside_and_holds_nobody_up() {
    let mut nodes = Nodes::with(1, 1, config());
    let (client, _) = nodes.subscriber(0, 0, "a");
    write(&mut nodes, "a", 1);
    let bad = nodes.server.queue.write(&[("channel", "a"), ("event", "e"), ("data", "[]")]);
    let nowhere = nodes.server.queue.write(&[("event", "e"), ("data", "{}")]);
    write(&mut nodes, "a", 2);
    run(&mut nodes, Duration::from_secs(1));
    assert_eq!(heard(&client), events([1, 2], 1));
    assert_eq!(nodes.server.queue.dead, [(bad, "bad_publish"), (nowhere, "invalid_channel")]);
    assert_eq!(nodes.server.queue.entries.len(), 0);
}

#[test]
fn a_node_that_ends_gives_the_queue_up_at_once() {
    let mut nodes = Nodes::with(2, 1, config());
    run(&mut nodes, Duration::from_secs(1));
    let first = nodes.server.queue.owner.unwrap();
    let node = usize::from(first.node != nodes.rigs[0].hubs[0].hub().place().node());
    let rig = &mut nodes.rigs[node];
    rig.hubs[0].handle_command(rig.now, Command::Drain(DrainPlan::default()));
    rig.run();
    nodes.settle();
    assert_eq!(nodes.server.queue.owner, None);
    let drained = |rig: &Rig| rig.outputs.iter().any(|output| matches!(output, Output::Drained));
    assert!(drained(&nodes.rigs[node]));
    run(&mut nodes, Duration::from_secs(2));
    assert_ne!(nodes.server.queue.owner.unwrap().node, first.node, "and takes nothing any more");
}

#[test]
fn no_more_is_taken_than_can_be_held() {
    let mut nodes = Nodes::with(1, 1, config());
    for n in 0..1_000 {
        write(&mut nodes, "a", n);
    }
    nodes.wait(Duration::from_millis(50));
    let mut most = 0;
    for _ in 0..20_000 {
        nodes.collect();
        for command in &nodes.link(0, 0).pending {
            if let BusCommand::Take(take) = command {
                most = most.max(take.entries_max);
            }
        }
        if nodes.execute(0, 0) {
            while nodes.tell(0, 0) {}
        } else if nodes.server.queue.entries.is_empty() {
            break;
        } else {
            nodes.wait(Duration::from_millis(5));
        }
    }
    assert_eq!((nodes.server.queue.entries.len(), most), (0, 256));
    assert_eq!(nodes.server.channel("a").top, 1_000);
}

#[test]
fn nothing_is_taken_while_much_waits_for_the_bus() {
    let mut config = config();
    config.limits.bus.bus_queue_bytes_max = 1_000;
    let mut nodes = Nodes::with(1, 1, config);
    run(&mut nodes, Duration::from_secs(1));
    for n in 0..5 {
        nodes.post(0, &format!("b{n}"), n);
    }
    write(&mut nodes, "a", 1);
    nodes.wait(Duration::from_millis(60));
    nodes.collect();
    let pending: Vec<_> = nodes.link(0, 0).pending.iter().cloned().collect();
    let wanted = |command: &BusCommand| match command {
        BusCommand::Take(take) => Some(take.entries_max),
        _ => None,
    };
    assert_eq!(pending.iter().filter_map(wanted).collect::<Vec<_>>(), [0], "{pending:?}");
    nodes.settle();
    run(&mut nodes, Duration::from_secs(1));
    assert_eq!(nodes.server.channel("a").top, 1);
}
