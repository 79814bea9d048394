//! What the bus is sent for a publish.

use super::*;

/// The appends that a node has under way.
fn under_way(nodes: &mut Nodes, node: usize) -> Vec<Append> {
    nodes.collect();
    let appends = nodes.link(node, 0).pending.iter().filter_map(|command| match command {
        BusCommand::Append(append) => Some((**append).clone()),
        _ => None,
    });
    appends.collect()
}

#[test]
fn a_round_is_as_large_as_rounds_are_and_no_larger() {
    let mut config = config();
    config.limits.delivery.round_bytes_max = 1_000;
    let mut nodes = Nodes::with(1, 1, config);
    for n in 0..100 {
        nodes.post(0, "a", n);
    }
    nodes.settle();
    let counts: Vec<_> = nodes.server.appends.iter().map(|(_, count)| *count).collect();
    assert_eq!(counts.iter().sum::<u32>(), 100);
    assert!(counts.iter().skip(1).all(|count| (2..=100).contains(count)), "{counts:?}");
    assert!(nodes.done().iter().all(|(_, result)| result.is_ok()));
}

#[test]
fn what_asks_for_something_of_its_own_is_an_append_of_its_own() {
    let mut nodes = Nodes::new(1, 1);
    let client = nodes.connect(0, 0);
    nodes.post(0, "a", 0);
    for n in 1..4 {
        nodes.post(0, "a", n);
    }
    let data = json!({"channel": "a", "event": "e", "data": {"n": 4}, "state": {}});
    nodes.ask(0, &client, "publish", &data);
    nodes.post(0, "a", 5);
    nodes.post(0, "a", 6);
    nodes.settle();
    let counts: Vec<_> = nodes.server.appends.iter().map(|(_, count)| *count).collect();
    assert_eq!(counts, [1, 3, 1, 2]);
}

#[test]
fn the_bus_is_told_what_is_here_and_how_much_to_keep() {
    let mut config = config();
    config.history.default = config::Keep { messages: 7, time: Duration::from_secs(60) };
    let mut nodes = Nodes::with(2, 1, config);
    nodes.post(0, "a", 1);
    let cold = under_way(&mut nodes, 0).remove(0);
    assert_eq!(cold.known, None, "nothing is known of it");
    let day = Duration::from_secs(86_400);
    let kept = Retention { messages: 7, time: Duration::from_secs(60), position: day };
    assert_eq!(cold.retention, kept);
    nodes.settle();
    nodes.subscriber(0, 0, "a");
    nodes.post(0, "a", 2);
    let known = under_way(&mut nodes, 0).remove(0).known;
    assert_eq!(known, Some(nodes.server.channel("a").position()));
}

#[test]
fn of_large_messages_the_bus_keeps_as_many_as_fit() {
    let mut config = config();
    config.limits.history.history_channel_bytes_max = 10_000;
    let mut nodes = Nodes::with(1, 1, config);
    for n in 0..2 {
        let data = json!({"n": n, "x": "y".repeat(2_000)}).to_string();
        let publication = Publication::new("a", "e", data);
        let now = nodes.rigs[0].now;
        nodes.rigs[0].hubs[0].handle_command(now, Command::Publish { id: None, publication });
        nodes.rigs[0].run();
        let append = under_way(&mut nodes, 0).remove(0);
        assert!((2..=5).contains(&append.retention.messages), "{append:?}");
        nodes.settle();
    }
}

#[test]
fn numbers_of_a_hubs_appends_grow() {
    let mut nodes = Nodes::new(1, 2);
    let mut last = BTreeMap::new();
    for n in 0..20 {
        nodes.post(0, &format!("c{}", n % 3), n);
        nodes.collect();
        for hub in 0..2 {
            for command in &nodes.links[&(0, hub)].pending {
                let BusCommand::Append(append) = command else { continue };
                assert_eq!(
                    append.writer,
                    Writer { node: nodes.rigs[0].hubs[0].hub().place().node(), shard: hub as u16 }
                );
                let before = last.insert((append.writer, append.channel.clone()), append.id);
                assert!(before.is_none_or(|before| before < append.id));
            }
        }
        nodes.settle();
    }
    assert_eq!(last.len(), 3);
}

#[test]
fn nodes_have_names_of_their_own() {
    let nodes = Nodes::new(3, 2);
    let mut names: Vec<_> = nodes.rigs.iter().map(|rig| rig.hubs[0].hub().place().node()).collect();
    for rig in &nodes.rigs {
        assert_eq!(rig.hubs[0].hub().place().node(), rig.hubs[1].hub().place().node());
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 3);
}

#[test]
fn an_append_is_a_part_of_its_publish_and_takes_the_trace_along() {
    use crate::spans::{Operation, Tracing};

    let config = Config { tracing: Some(Tracing::default()), ..config() };
    let mut nodes = Nodes::with(1, 1, config);
    let client = nodes.connect(0, 0);
    nodes.rigs[0].hubs[0].take_spans();
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let data = json!({"channel": "a", "event": "e", "data": {}, "traceparent": parent});
    nodes.ask(0, &client, "publish", &data);
    let append = under_way(&mut nodes, 0).remove(0);
    let message = crate::record::decode(&append.records).unwrap().next().unwrap().unwrap();
    let carried = message.traceparent.unwrap().to_owned();
    nodes.settle();

    let spans = nodes.rigs[0].hubs[0].take_spans().ended;
    let publish = spans.iter().find(|span| matches!(span.operation, Operation::Publish { .. }));
    let append = spans.iter().find(|span| matches!(span.operation, Operation::Append { .. }));
    let (publish, append) = (publish.unwrap(), append.unwrap());
    assert_eq!(carried, publish.context.to_string());
    assert_eq!(append.parent, Some(publish.context.span));
    assert_eq!(append.context.trace, publish.context.trace);
    assert_eq!((append.outcome, publish.outcome), (Ok(()), Ok(())));
}

#[test]
fn a_trace_reaches_the_subscribers_of_other_nodes() {
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for keep in [config::Keep::default(), config::Keep::OFF] {
        let mut config = config();
        config.history.default = keep;
        let mut nodes = Nodes::with(2, 2, config);
        let (client, publisher) = (nodes.connect(1, 1), nodes.connect(0, 0));
        let wish = json!({"channel": "a", "trace": true});
        nodes.request(1, &client, "subscribe", &wish);
        let data = json!({"channel": "a", "event": "e", "data": {}, "traceparent": parent});
        nodes.ask(0, &publisher, "publish", &data);
        nodes.settle();
        let events: Vec<_> =
            client.take().into_iter().filter(|message| message["event"] == "e").collect();
        assert_eq!(events.len(), 1, "{keep:?}");
        assert_eq!(events[0]["traceparent"], parent, "{keep:?}: {}", events[0]);
    }
}
