//! Who waits until a channel is known, and for how long a channel is followed.

use super::*;

const QUEUE_TIME: Duration = Duration::from_secs(5);

#[test]
fn ten_thousand_who_come_at_once_cost_one_read() {
    let mut nodes = Nodes::new(2, 1);
    for n in 0..20 {
        nodes.post(1, "a", n);
    }
    nodes.settle();
    let position = nodes.server.channel("a").position();
    nodes.server.reads = 0;

    let clients: Vec<_> = (0..10_000).map(|_| nodes.connect(0, 0)).collect();
    let recover = json!({"epoch": position.epoch.as_str(), "offset": 15});
    let data = json!({"channel": "a", "recover": recover, "positions": true});
    let message = json!({"type": "request", "event": "subscribe", "id": "q", "data": data});
    let now = nodes.rigs[0].now;
    for client in &clients {
        nodes.rigs[0].hubs[0].handle_bytes(now, client.conn, &mut frame(&message));
    }
    nodes.rigs[0].run();
    assert!(clients.iter().all(|client| client.take().is_empty()), "they wait");
    nodes.settle();

    assert_eq!(nodes.server.reads, 1);
    for client in &clients {
        let messages = client.take();
        assert_eq!(messages[0]["data"]["missed"], 5, "{messages:?}");
        let missed: Vec<_> = messages.iter().filter_map(hear).collect();
        assert_eq!(missed, events(15..20, 16));
    }
}

#[test]
fn a_long_log_is_read_in_pages_and_what_comes_meanwhile_comes_behind() {
    let mut config = config();
    config.limits.bus.bus_page_bytes_max = 200;
    let mut nodes = Nodes::with(2, 1, config);
    for n in 0..50 {
        nodes.post(1, "a", n);
        nodes.settle();
    }
    let client = nodes.connect(0, 0);
    let data = json!({"channel": "a", "rewind": 50, "positions": true});
    nodes.ask(0, &client, "subscribe", &data);
    nodes.collect();
    for n in 50..60 {
        nodes.post(1, "a", n);
        nodes.execute(1, 0);
        while nodes.tell(1, 0) {}
        nodes.execute(0, 0);
        nodes.tell(0, 0);
        nodes.collect();
    }
    nodes.settle();
    let messages = client.take();
    let all: Vec<_> = messages.iter().filter_map(hear).collect();
    assert!(nodes.server.reads > 5, "{}", nodes.server.reads);
    assert_eq!(all.last(), Some(&Heard::Event(59, 60)), "{all:?}");
    assert_eq!(all, events(60 - all.len() as u64..60, 61 - all.len() as u64));
    assert!(all.len() >= 50);
}

#[test]
fn while_the_bus_is_away_a_subscription_waits_and_then_begins_with_what_is_known() {
    let mut nodes = Nodes::away(1, 1, config());
    let plain = nodes.connect(0, 0);
    nodes.ask(0, &plain, "subscribe", &json!({"channel": "a", "positions": true}));
    let epoch = Epoch::from_random(4);
    let recover = json!({"epoch": epoch.as_str(), "offset": 3});
    let (again, strict) = (nodes.connect(0, 0), nodes.connect(0, 0));
    let data = json!({"channel": "a", "recover": recover, "positions": true});
    nodes.ask(0, &again, "subscribe", &data);
    let data = json!({"channel": "a", "recover": recover, "strict": true});
    nodes.ask(0, &strict, "subscribe", &data);
    let reader = nodes.connect(0, 0);
    nodes.ask(0, &reader, "get_history", &json!({"channel": "a"}));
    nodes.wait(QUEUE_TIME - Duration::from_millis(1));
    for client in [&plain, &again, &strict, &reader] {
        assert_eq!(client.take(), Vec::<Value>::new(), "it waits");
    }
    nodes.wait(Duration::from_millis(1));

    let answer = plain.take().remove(0);
    assert_eq!(answer["data"]["recoverable"], false, "{answer}");
    let answer = again.take().remove(0);
    assert_eq!(answer["data"]["recovered"], false, "{answer}");
    assert_eq!(answer["data"]["reason"], "unavailable");
    let answer = strict.take().remove(0);
    assert!(answer["error_message"].as_str().unwrap().ends_with(": unavailable"), "{answer}");
    let answer = reader.take().remove(0);
    assert_eq!(answer["error_message"], "The message bus is away", "{answer}");

    // When it is there, they are told that they may have missed something, and hear what comes.
    let mut server = Nodes::strangers(1, 1);
    server.post(0, "a", 8);
    server.settle();
    nodes.server = server.server;
    nodes.up(0);
    nodes.post(0, "a", 9);
    nodes.settle();
    for client in [&plain, &again] {
        assert_eq!(heard(client), [Heard::Gap(None, "epoch".into(), 1), Heard::Event(9, 2)]);
    }
    assert_eq!(heard(&strict), [], "it has no subscription");
}

#[test]
fn who_comes_while_the_bus_is_away_misses_nothing_behind_what_is_known() {
    let mut nodes = Nodes::new(2, 1);
    let (_, start) = nodes.subscriber(0, 0, "a");
    nodes.post(1, "a", 1);
    nodes.settle();
    nodes.down(0);
    nodes.post(1, "a", 2);
    nodes.settle();
    let client = nodes.connect(0, 0);
    nodes.ask(0, &client, "subscribe", &json!({"channel": "a", "positions": true}));
    let answer = client.take().remove(0);
    assert_eq!(
        (&answer["data"]["offset"], &answer["data"]["recoverable"]),
        (&json!(1), &json!(true))
    );
    let ahead = nodes.connect(0, 0);
    let recover = json!({"epoch": start["epoch"], "offset": 2});
    nodes.ask(
        0,
        &ahead,
        "subscribe",
        &json!({"channel": "a", "recover": recover, "positions": true}),
    );
    assert_eq!(ahead.take(), Vec::<Value>::new(), "nobody here knows of it");
    nodes.up(0);
    assert_eq!(heard(&client), events([2], 2));
    let answer = ahead.take().remove(0);
    assert_eq!(
        (&answer["data"]["recovered"], &answer["data"]["missed"]),
        (&json!(true), &json!(0))
    );
}

#[test]
fn those_who_wait_are_bounded() {
    let mut config = config();
    config.limits.bus.bus_waiting_bytes_max = 10_000;
    let mut nodes = Nodes::away(1, 1, config);
    let clients: Vec<_> = (0..200).map(|_| nodes.connect(0, 0)).collect();
    for client in &clients {
        nodes.ask(0, client, "subscribe", &json!({"channel": "a", "positions": true}));
    }
    let answered = clients.iter().filter(|client| !client.take().is_empty()).count();
    assert!((100..200).contains(&answered), "{answered}");
    nodes.wait(QUEUE_TIME);
    let late = clients.iter().filter(|client| !client.take().is_empty()).count();
    assert_eq!(answered + late, 200);
}

#[test]
fn a_channel_is_followed_for_a_while_after_its_last_subscriber() {
    let mut nodes = Nodes::new(2, 2);
    let (client, _) = nodes.subscriber(0, 0, "a");
    let home = nodes.home(0, "a");
    assert_eq!(nodes.rigs[0].hubs[home].hub().holdings().followed, 1);
    nodes.rigs[0].hang_up(&client);
    nodes.wait(Duration::from_secs(29));
    nodes.settle();
    assert!(nodes.link(0, home).follows.contains_key("a"));
    // Who comes back in time finds it so.
    let (client, _) = nodes.subscriber(0, 1, "a");
    nodes.wait(Duration::from_secs(15));
    nodes.rigs[0].hang_up(&client);
    nodes.wait(Duration::from_secs(29));
    nodes.settle();
    assert!(nodes.link(0, home).follows.contains_key("a"));
    nodes.wait(Duration::from_secs(2));
    nodes.settle();
    assert!(nodes.link(0, home).follows.is_empty());
    assert_eq!(nodes.rigs[0].hubs[home].hub().holdings().followed, 0);
}

#[test]
fn what_was_read_stays_and_only_what_is_new_is_read_again() {
    let mut nodes = Nodes::new(2, 1);
    let (client, start) = nodes.subscriber(0, 0, "a");
    for n in 0..10 {
        nodes.post(1, "a", n);
        nodes.settle();
    }
    assert_eq!(heard(&client), events(0..10, 1));
    nodes.rigs[0].hang_up(&client);
    nodes.wait(Duration::from_secs(31));
    nodes.settle();
    assert!(nodes.link(0, 0).follows.is_empty());
    nodes.post(1, "a", 10);
    nodes.settle();
    // What the log of the bus no longer has is here still.
    nodes.server.channel("a").trim(9);
    let again = nodes.connect(0, 0);
    let recover = json!({"epoch": start["epoch"], "offset": 4});
    let data = json!({"channel": "a", "recover": recover, "positions": true});
    let (answer, missed) = nodes.request(0, &again, "subscribe", &data);
    assert_eq!(answer["data"]["missed"], 7, "{answer}");
    let missed: Vec<_> = missed.iter().filter_map(hear).collect();
    assert_eq!(missed, events(4..11, 5));
}

#[test]
fn who_asks_without_subscribing_is_told_what_the_bus_has() {
    let mut nodes = Nodes::new(2, 2);
    nodes.post(1, "a", 1);
    nodes.settle();
    let reader = nodes.connect(0, 1);
    for n in [1, 2] {
        let (answer, _) = nodes.request(0, &reader, "get_history", &json!({"channel": "a"}));
        assert_eq!(answer["data"]["offset"], n, "{answer}");
        assert_eq!(answer["data"]["events"].as_array().unwrap().len() as u64, n);
        nodes.post(1, "a", n + 1);
        nodes.settle();
    }
    assert_eq!(nodes.server.reads, 1, "it is followed meanwhile");
}

#[test]
fn who_hangs_up_while_waiting_leaves_nothing_behind() {
    let mut nodes = Nodes::away(1, 2, config());
    for shard in 0..2 {
        let client = nodes.connect(0, shard);
        nodes.ask(0, &client, "subscribe", &json!({"channel": "a"}));
        nodes.rigs[0].hang_up(&client);
    }
    nodes.wait(QUEUE_TIME);
    nodes.wait(Duration::from_secs(31));
    nodes.settle();
    nodes.rigs[0].assert_empty();
    let holdings: Vec<_> = nodes.rigs[0].hubs.iter().map(|hub| hub.hub().holdings()).collect();
    assert!(holdings.iter().all(|held| (held.followed, held.homes) == (0, 0)), "{holdings:?}");
}
