//! What a node had no room to keep, and Redis keeps.

use mahavishnu_tests::{Cluster, http, wait};
use serde_json::{Value, json};

#[test]
fn a_node_reads_what_it_had_no_room_for_from_redis() {
    let settings = [("SHARDS", "1"), ("HISTORY_BYTES", "65536")];
    let cluster = Cluster::start(2, &settings);
    let mut others: Vec<_> = (0..2).map(|_| cluster.nodes[0].hello()).collect();
    for (client, channel) in others.iter_mut().zip(["workflow:1", "workflow:2"]) {
        client.subscribe(channel);
    }
    let mut position = Value::Null;
    for n in 1..=20 {
        let body = json!({
            "channel": "workflow:1", "event": "e", "data": { "n": n }, "positions": true,
        });
        let answer = http::post(cluster.nodes[1].address(), "/publish", &[], &body.to_string());
        position = answer.json()["messages"][0].clone();
    }
    assert_eq!(others[0].numbers(20), (1..=20).collect::<Vec<_>>());
    assert_eq!(position["offset"], 20, "{position}");
    // This takes the room of those.
    cluster.nodes[1].post("workflow:2", "e", &json!({ "pad": "x".repeat(60_000) }));
    others[1].message();
    let evicted =
        |it: &mahavishnu_tests::Metrics| it.count("mahavishnu_history_evicted_total", &[]) > 0;
    cluster.nodes[0].metrics_when("no room", evicted);

    let mut client = cluster.nodes[0].hello();
    let recover = json!({ "epoch": position["epoch"], "offset": 5 });
    let data = json!({ "channel": "workflow:1", "recover": recover });
    let answer = client.request("subscribe", &data);
    assert_eq!(
        (&answer["data"]["recovered"], &answer["data"]["missed"]),
        (&json!(true), &json!(15)),
        "{answer}"
    );
    assert_eq!(client.numbers(15), (6..=20).collect::<Vec<_>>());
    // And it goes on.
    cluster.nodes[1].post("workflow:1", "e", &json!({ "n": 21 }));
    assert_eq!(client.numbers(1), [21]);

    let page = wait::until("a page", || {
        let target = "/history?channel=workflow:1&limit=4&before=5";
        let page = http::get(cluster.nodes[0].address(), target).json();
        page["events"].is_array().then_some(page)
    });
    let numbers: Vec<_> =
        page["events"].as_array().unwrap().iter().map(|event| event["offset"].clone()).collect();
    assert_eq!(numbers, [1, 2, 3, 4], "{page}");
}
