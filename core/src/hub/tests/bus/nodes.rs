//! Several nodes as one server.

use super::*;

#[test]
fn a_publish_reaches_the_subscribers_of_every_node_in_one_order() {
    let mut nodes = Nodes::new(2, 2);
    for channel in ["a", "b", "c"] {
        let clients: Vec<_> = (0..4).map(|n| nodes.subscriber(n / 2, n % 2, channel).0).collect();
        for n in 0..20 {
            nodes.post(n as usize % 2, channel, n);
            if n % 7 == 0 {
                nodes.settle();
            }
        }
        nodes.settle();

        let orders: Vec<_> = clients.iter().map(heard).collect();
        assert_eq!(orders[0].len(), 20);
        assert!(orders.iter().all(|order| *order == orders[0]), "{channel}: {orders:?}");
        let offsets: Vec<_> = orders[0]
            .iter()
            .map(|heard| match heard {
                Heard::Event(_, offset) => *offset,
                Heard::Gap(..) => 0,
            })
            .collect();
        assert_eq!(offsets, (1..=20).collect::<Vec<_>>());
        let done = nodes.done();
        assert!(
            done.iter().all(|(_, result)| result.is_ok_and(|at| at.subscribers == 2)),
            "{done:?}"
        );
        for (n, result) in done {
            let at =
                orders[0].iter().position(|heard| matches!(heard, Heard::Event(of, _) if *of == n));
            assert_eq!(
                result.unwrap().offset,
                at.unwrap() as u64 + 1,
                "its answer says where it is"
            );
        }
    }
}

#[test]
fn id_and_timestamp_of_an_event_are_the_same_on_all_nodes() {
    let mut nodes = Nodes::new(3, 1);
    let clients: Vec<_> = (0..3).map(|node| nodes.subscriber(node, 0, "a").0).collect();
    nodes.post(1, "a", 7);
    nodes.wait(Duration::from_secs(1));
    nodes.settle();
    let events: Vec<_> = clients.iter().map(|client| client.take().pop().unwrap()).collect();
    assert!(events[0]["id"].is_string());
    assert!(events.iter().all(|event| *event == events[0]), "{events:?}");
}

#[test]
fn whichever_comes_first_of_a_nodes_own_round_and_the_answer_it_is_delivered_once() {
    for push_first in [false, true] {
        let mut nodes = Nodes::new(2, 1);
        nodes.link(0, 0).push_first = push_first;
        let (own, _) = nodes.subscriber(0, 0, "a");
        let (other, _) = nodes.subscriber(1, 0, "a");
        for n in 0..3 {
            nodes.post(0, "a", n);
            nodes.settle();
        }
        assert_eq!(heard(&own), events(0..3, 1));
        assert_eq!(heard(&other), events(0..3, 1));
    }
}

#[test]
fn what_is_published_meanwhile_is_the_next_round() {
    let mut nodes = Nodes::new(2, 1);
    let (client, _) = nodes.subscriber(1, 0, "a");
    for n in 0..10 {
        nodes.post(0, "a", n);
    }
    assert_eq!(nodes.link(0, 0).pending.len(), 1, "one append is under way");
    nodes.settle();
    assert_eq!(heard(&client), events(0..10, 1));
    let counts: Vec<_> = nodes.server.appends.iter().map(|(_, count)| *count).collect();
    assert_eq!(counts, [1, 9]);
}

#[test]
fn nobody_here_need_listen_for_a_publish_to_reach_others() {
    let mut nodes = Nodes::new(2, 1);
    let (client, _) = nodes.subscriber(1, 0, "a");
    let publisher = nodes.connect(0, 0);
    let answer = nodes.publish(0, &publisher, "a", 1);
    assert_eq!(answer["data"]["offset"], 1, "{answer}");
    assert_eq!(answer["data"]["subscribers"], 0);
    assert_eq!(heard(&client), events([1], 1));
    assert!(nodes.link(0, 0).follows.is_empty());
}

#[test]
fn who_comes_back_to_another_node_gets_what_it_missed() {
    let mut nodes = Nodes::new(2, 2);
    let (first, start) = nodes.subscriber(0, 0, "a");
    nodes.post(0, "a", 1);
    nodes.settle();
    assert_eq!(heard(&first), events([1], 1));
    nodes.rigs[0].hang_up(&first);
    for n in 2..6 {
        nodes.post(0, "a", n);
    }
    nodes.settle();

    let again = nodes.connect(1, 1);
    let recover = json!({"epoch": start["epoch"], "offset": 1});
    let data = json!({"channel": "a", "recover": recover, "positions": true});
    let (answer, missed) = nodes.request(1, &again, "subscribe", &data);

    assert_eq!(answer["data"]["recovered"], true, "{answer}");
    assert_eq!(answer["data"]["missed"], 4);
    let missed: Vec<_> = missed.iter().filter_map(hear).collect();
    assert_eq!(missed, events(2..6, 2));
    nodes.post(0, "a", 6);
    nodes.settle();
    assert_eq!(heard(&again), events([6], 6));
}

#[test]
fn a_node_that_starts_anew_knows_what_was_before() {
    let mut nodes = Nodes::new(2, 1);
    let (other, start) = nodes.subscriber(1, 0, "a");
    for n in 0..3 {
        nodes.post(0, "a", n);
    }
    nodes.settle();
    assert_eq!(heard(&other), events(0..3, 1));
    nodes.restart(0);

    let (_, again) = nodes.subscriber(0, 0, "a");
    assert_eq!((&again["epoch"], &again["offset"]), (&start["epoch"], &json!(3)));
    let reader = nodes.connect(0, 0);
    let (answer, _) = nodes.request(0, &reader, "get_history", &json!({"channel": "a"}));
    let numbers: Vec<_> = answer["data"]["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["data"]["n"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, [0, 1, 2], "{answer}");
    nodes.post(0, "a", 3);
    nodes.settle();
    assert_eq!(heard(&other), events([3], 4));
}

#[test]
fn a_document_is_the_same_on_all_nodes_and_is_changed_by_one_at_a_time() {
    let mut nodes = Nodes::new(2, 2);
    let clients: Vec<_> = (0..2).map(|node| nodes.connect(node, 0)).collect();
    let publish = |n: u64, offset: Option<u64>| {
        let mut data = json!({"channel": "a", "event": "e", "data": {"n": n}, "state": {"v": n}, "positions": true});
        if let Some(offset) = offset {
            data["if_offset"] = json!(offset);
        }
        data
    };
    let (answer, _) = nodes.request(0, &clients[0], "publish", &publish(1, Some(0)));
    assert_eq!(answer["data"]["offset"], 1, "{answer}");
    for (node, client) in clients.iter().enumerate() {
        let (answer, _) = nodes.request(node, client, "get_state", &json!({"channel": "a"}));
        assert_eq!(answer["data"]["state"], json!({"v": 1}), "{answer}");
        assert_eq!(answer["data"]["offset"], 1);
    }
    // Both have seen the same document: one of them is first.
    nodes.ask(0, &clients[0], "publish", &publish(2, Some(1)));
    nodes.ask(1, &clients[1], "publish", &publish(3, Some(1)));
    nodes.settle();
    let answers: Vec<_> = clients
        .iter()
        .map(|client| {
            client.take().into_iter().find(|message| message["correlation_id"] == "q").unwrap()
        })
        .collect();
    assert_eq!(answers[0]["data"]["offset"], 2, "{answers:?}");
    assert_eq!(answers[1]["error_code"], "CONFLICT");
    for (node, client) in clients.iter().enumerate() {
        let (answer, _) = nodes.request(node, client, "get_state", &json!({"channel": "a"}));
        assert_eq!(answer["data"]["state"], json!({"v": 2}), "{answer}");
    }
}

#[test]
fn an_idempotency_key_holds_on_every_node() {
    let mut nodes = Nodes::new(3, 2);
    let (client, _) = nodes.subscriber(2, 0, "a");
    let keyed = |n: u64| json!({"channel": "a", "event": "e", "data": {"n": n}, "positions": true, "idempotency_key": "k"});
    for node in 0..3 {
        let publisher = nodes.connect(node, 1);
        let (answer, _) = nodes.request(node, &publisher, "publish", &keyed(1));
        assert_eq!(answer["data"]["offset"], 1, "node {node}: {answer}");
    }
    assert_eq!(heard(&client), events([1], 1));

    nodes.restart(0);
    let publisher = nodes.connect(0, 0);
    let (answer, _) = nodes.request(0, &publisher, "publish", &keyed(2));
    assert!(answer["error_message"].as_str().unwrap().contains("Idempotency key"), "{answer}");
    assert_eq!(heard(&client), []);
}

#[test]
fn a_channel_of_which_nothing_is_kept_is_heard_on_all_nodes_without_numbers() {
    let mut config = config();
    config.history.rules = vec![(Pattern::parse("cursor:*").unwrap(), config::Keep::OFF)];
    let mut nodes = Nodes::with(2, 2, config);
    let (positioned, start) = nodes.subscriber(0, 0, "cursor:1");
    assert_eq!(start["recoverable"], false, "{start}");
    let plain = nodes.connect(1, 1);
    nodes.request(1, &plain, "subscribe", &json!({"channel": "cursor:1"}));
    let publisher = nodes.connect(1, 0);
    let answer = nodes.publish(1, &publisher, "cursor:1", 5);
    assert_eq!(answer["data"]["status"], "published", "{answer}");
    assert_eq!(heard(&positioned), [Heard::Event(5, 0)]);
    assert_eq!(plain.take_numbers(), [5]);
    assert!(nodes.server.appends.is_empty(), "nothing is kept");
}
