//! Documents that several nodes make of one channel's events.

use super::{
    super::folding::{PROOF, folded, with_proof},
    *,
};
use crate::record;

fn see(nodes: &mut Nodes, node: usize, client: &Client, n: u64) {
    let data = json!({"channel": "thing:a", "event": "seen", "data": {"n": n}});
    nodes.ask(node, client, "publish", &data);
}

/// Numbers of the channel's messages as the bus keeps them, and those that its document was made of.
fn log_and_document(nodes: &mut Nodes) -> (Vec<u64>, Vec<u64>) {
    let channel = nodes.server.channel("thing:a");
    let mut log = Vec::new();
    for entry in &channel.entries {
        for message in record::decode(&entry.records).unwrap() {
            let data: Value = serde_json::from_str(message.unwrap().data).unwrap();
            log.push(data["n"].as_u64().unwrap());
        }
    }
    let document = channel
        .document
        .as_ref()
        .map_or(Value::Null, |(_, json)| serde_json::from_slice(json).unwrap());
    (log, folded(&document))
}

/// All orders in which the steps of two nodes can come: each publishes some messages to the same channel.
#[test]
fn nodes_that_race_for_one_document_lose_nothing() {
    for followed in [false, true] {
        for order in 0..256_u32 {
            let mut nodes = Nodes::with(2, 1, with_proof(config()));
            let clients = [nodes.connect(0, 0), nodes.connect(1, 0)];
            if followed {
                nodes.subscriber(0, 0, "thing:a");
            }
            for n in 0..2 {
                see(&mut nodes, 0, &clients[0], n);
                see(&mut nodes, 1, &clients[1], 100 + n);
            }
            for bit in 0..8 {
                nodes.collect();
                let node = usize::from(order >> bit & 1 == 1);
                nodes.execute(node, 0);
                while bit % 3 == 2 && nodes.tell(node, 0) {}
            }
            nodes.settle();
            let (log, document) = log_and_document(&mut nodes);
            assert_eq!(log, document, "order {order:b}");
            let mut sorted = log.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 100, 101], "order {order:b}");
            for client in &clients {
                let answers = client.take();
                assert!(answers.iter().all(|it| it["error_code"].is_null()), "{answers:?}");
            }
        }
    }
}

#[test]
fn one_that_follows_folds_from_what_it_has_and_another_is_told() {
    let mut nodes = Nodes::with(2, 1, with_proof(config()));
    let clients = [nodes.connect(0, 0), nodes.connect(1, 0)];
    nodes.subscriber(0, 0, "thing:a");
    let bases = |nodes: &mut Nodes, node: usize| {
        nodes.collect();
        let pending = nodes.link(node, 0).pending.iter();
        let appends = pending.filter_map(|command| match command {
            BusCommand::Append(append) if &*append.channel == "thing:a" => append.basis,
            _ => None,
        });
        appends.collect::<Vec<_>>()
    };
    see(&mut nodes, 0, &clients[0], 1);
    assert_eq!(bases(&mut nodes, 0), [Basis::Nothing]);
    nodes.settle();
    let at = nodes.server.channel("thing:a").position();
    see(&mut nodes, 0, &clients[0], 2);
    assert_eq!(bases(&mut nodes, 0), [Basis::Document(at)]);
    nodes.settle();
    see(&mut nodes, 1, &clients[1], 3);
    assert_eq!(bases(&mut nodes, 1), [Basis::Nothing], "it has never heard of it");
    nodes.settle();
    assert_eq!(log_and_document(&mut nodes), (vec![1, 2, 3], vec![1, 2, 3]));
}

/// An append of which nobody knows what became of it is folded once, whether it was made or not.
#[test]
fn what_is_sent_again_is_not_folded_again() {
    for made in [true, false] {
        let mut nodes = Nodes::with(2, 1, with_proof(config()));
        let clients = [nodes.connect(0, 0), nodes.connect(1, 0)];
        see(&mut nodes, 0, &clients[0], 1);
        nodes.settle();
        see(&mut nodes, 0, &clients[0], 2);
        nodes.collect();
        // The first try is refused, as the node knows of no document; the second is under way when the bus goes away.
        while nodes.execute(0, 0) {}
        while nodes.tell(0, 0) {}
        nodes.collect();
        if made {
            while nodes.execute(0, 0) {}
        }
        nodes.down(0);
        see(&mut nodes, 1, &clients[1], 3);
        nodes.settle();
        nodes.up(0);
        nodes.settle();
        let expected = if made { vec![1, 2, 3] } else { vec![1, 3, 2] };
        assert_eq!(log_and_document(&mut nodes), (expected.clone(), expected));
    }
}

/// The bus lost the end of a channel, and a node that has it puts it back: its document, too.
#[test]
fn what_is_put_back_is_put_back_with_its_document() {
    let mut nodes = Nodes::with(2, 1, with_proof(config()));
    let client = nodes.connect(0, 0);
    nodes.subscriber(0, 0, "thing:a");
    see(&mut nodes, 0, &client, 1);
    nodes.settle();
    let replica = nodes.server.clone();
    see(&mut nodes, 0, &client, 2);
    nodes.settle();
    nodes.down(0);
    nodes.server = replica;
    nodes.up(0);
    nodes.settle();
    see(&mut nodes, 0, &client, 3);
    nodes.settle();
    assert_eq!(log_and_document(&mut nodes), (vec![1, 2, 3], vec![1, 2, 3]));
}

#[test]
fn a_request_is_answered_on_every_node() {
    let mut nodes = Nodes::with(2, 2, with_proof(config()));
    let (client, asker) = (nodes.connect(0, 0), nodes.connect(1, 1));
    see(&mut nodes, 0, &client, 7);
    nodes.settle();
    asker.take();
    nodes.ask(1, &asker, "get_thing", &json!({"id": "a"}));
    nodes.settle();
    let answers = asker.take();
    assert_eq!(answers[0]["data"], json!({"id": "a", "seen": 1, "of": 1}), "{answers:?}");
    nodes.down(1);
    nodes.ask(1, &asker, "get_thing", &json!({"id": "b"}));
    nodes.wait(Duration::from_secs(6));
    nodes.settle();
    let answers = asker.take();
    assert_eq!(answers[0]["error_code"], "SERVER_ERROR", "nobody knows whether there is one");
    assert_eq!(&*PROOF.name, "proof");
}
