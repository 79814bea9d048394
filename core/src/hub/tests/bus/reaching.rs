//! What a home has dropped for lack of room and the bus keeps.

use super::*;
use crate::config::Keep;

/// A node that follows `a`, of which the bus has the numbers 1 to 20 and the node keeps nothing.
fn dropped(keep: u32, configure: impl FnOnce(&mut Config)) -> (Nodes, Position) {
    let mut config = config();
    config.history.default = Keep { messages: keep, time: Duration::from_secs(300) };
    config.limits.history.history_bytes_max = 30_000;
    configure(&mut config);
    let mut nodes = Nodes::with(2, 1, config);
    for channel in ["a", "b"] {
        nodes.subscriber(0, 0, channel);
    }
    for n in 1..=20 {
        nodes.post(1, "a", n);
        nodes.settle();
    }
    drop_all(&mut nodes);
    let position = nodes.server.channel("a").position();
    assert_eq!(position.offset, 20);
    (nodes, position)
}

/// Makes the node drop what it keeps of `a`.
fn drop_all(nodes: &mut Nodes) {
    let large = json!({"pad": "x".repeat(29_000)}).to_string();
    let rig = &mut nodes.rigs[1];
    let publication = Publication::new("b", "e", large);
    rig.hubs[0].handle_command(rig.now, Command::Publish { id: None, publication });
    rig.run();
    nodes.collect();
    nodes.settle();
    nodes.server.reads = 0;
}

fn recover(position: Position, offset: u64) -> Value {
    let recover = json!({"epoch": position.epoch.as_str(), "offset": offset});
    json!({"channel": "a", "recover": recover, "positions": true})
}

#[test]
fn who_recovers_gets_what_the_home_has_dropped() {
    let (mut nodes, position) = dropped(100, |_| {});
    let client = nodes.connect(0, 0);
    let (answer, others) = nodes.request(0, &client, "subscribe", &recover(position, 5));
    assert_eq!(
        (&answer["data"]["recovered"], &answer["data"]["missed"]),
        (&json!(true), &json!(15))
    );
    let missed: Vec<_> = others.iter().filter_map(hear).collect();
    assert_eq!(missed, events(6..21, 6));
    assert_eq!(nodes.server.reads, 1);
    nodes.post(1, "a", 21);
    nodes.settle();
    assert_eq!(heard(&client), events([21], 21));
    nodes.check();
}

#[test]
fn many_who_want_different_parts_cost_one_read() {
    let (mut nodes, position) = dropped(100, |_| {});
    let clients: Vec<_> = (0..1_000).map(|_| nodes.connect(0, 0)).collect();
    // The first one begins to read; the second one wants more, and those behind less.
    for (client, offset) in clients.iter().zip([10, 3].into_iter().chain((0..).map(|n| 4 + n % 16)))
    {
        nodes.ask(0, client, "subscribe", &recover(position, offset));
    }
    nodes.settle();
    for (client, offset) in clients.iter().zip([10, 3].into_iter().chain((0..).map(|n| 4 + n % 16)))
    {
        let messages = client.take();
        let missed: Vec<_> = messages.iter().filter_map(hear).collect();
        assert_eq!(missed, events(offset + 1..21, offset + 1), "{offset}");
    }
    assert!(nodes.server.reads <= 2, "{}", nodes.server.reads);
}

#[test]
fn a_long_way_back_is_read_in_pages_and_what_comes_meanwhile_comes_behind() {
    let (mut nodes, position) = dropped(100, |config| config.limits.bus.bus_page_bytes_max = 200);
    let client = nodes.connect(0, 0);
    nodes.ask(0, &client, "subscribe", &recover(position, 0));
    nodes.collect();
    for n in 21..=25 {
        nodes.post(1, "a", n);
        nodes.execute(1, 0);
        while nodes.tell(1, 0) {}
        nodes.execute(0, 0);
        nodes.tell(0, 0);
        nodes.collect();
    }
    nodes.settle();
    let all = heard(&client);
    assert_eq!(all, events(1..26, 1));
    assert!(nodes.server.reads >= 5, "{}", nodes.server.reads);
}

#[test]
fn pages_of_history_go_on_beyond_what_the_home_keeps() {
    let (mut nodes, position) = dropped(100, |_| {});
    let reader = nodes.connect(0, 0);
    let mut numbers = Vec::new();
    let mut before = json!(null);
    for _ in 0..4 {
        drop_all(&mut nodes);
        let data = json!({"channel": "a", "limit": 6, "before": before});
        let (answer, _) = nodes.request(0, &reader, "get_history", &data);
        let events = answer["data"]["events"].as_array().unwrap().clone();
        numbers.splice(0..0, events.iter().map(|event| event["offset"].as_u64().unwrap()));
        before = json!(numbers[0]);
        assert_eq!(answer["data"]["more"], numbers[0] > 1, "{answer}");
    }
    assert_eq!(numbers, (1..=20).collect::<Vec<_>>());
    drop_all(&mut nodes);
    let after = json!({"epoch": position.epoch.as_str(), "offset": 17});
    let data = json!({"channel": "a", "after": after});
    let (answer, _) = nodes.request(0, &reader, "get_history", &data);
    assert_eq!(answer["data"]["events"].as_array().unwrap().len(), 3, "{answer}");
}

#[test]
fn what_the_bus_has_not_is_asked_for_once() {
    let (mut nodes, position) = dropped(10, |_| {});
    let ask = |nodes: &mut Nodes, offset| {
        let client = nodes.connect(0, 0);
        let (answer, _) = nodes.request(0, &client, "subscribe", &recover(position, offset));
        (answer["data"]["reason"].clone(), answer["data"]["missed"].clone())
    };
    assert_eq!(ask(&mut nodes, 5), (json!("trimmed"), Value::Null));
    assert_eq!(nodes.server.reads, 1);
    assert_eq!(ask(&mut nodes, 5), (json!("trimmed"), Value::Null));
    assert_eq!(nodes.server.reads, 1, "it is known");
    drop_all(&mut nodes);
    assert_eq!(ask(&mut nodes, 10), (Value::Null, json!(10)));
}

#[test]
fn what_is_too_much_or_too_old_is_not_read_back() {
    let (mut nodes, position) = dropped(100, |config| {
        config.limits.history.recover_messages_max = 10;
    });
    let client = nodes.connect(0, 0);
    let (answer, _) = nodes.request(0, &client, "subscribe", &recover(position, 5));
    assert_eq!(answer["data"]["recovered"], false, "{answer}");
    assert_eq!(nodes.server.reads, 0);

    let (mut nodes, position) = dropped(100, |_| {});
    nodes.wait(Duration::from_secs(301));
    nodes.server.reads = 0;
    let client = nodes.connect(0, 0);
    let (answer, _) = nodes.request(0, &client, "subscribe", &recover(position, 5));
    assert_eq!(answer["data"]["reason"], "trimmed", "{answer}");
}

#[test]
fn a_bus_that_goes_away_meanwhile_leaves_nothing_behind() {
    let (mut nodes, position) = dropped(100, |_| {});
    let client = nodes.connect(0, 0);
    nodes.ask(0, &client, "subscribe", &recover(position, 5));
    nodes.collect();
    nodes.down(0);
    nodes.check();
    nodes.up(0);
    nodes.settle();
    let missed = heard(&client);
    assert_eq!(missed, events(6..21, 6));
    nodes.check();
}
