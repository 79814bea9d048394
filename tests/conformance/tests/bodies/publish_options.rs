//! What a publish carries besides its message: a key, and the wish to know where it stands.

use mahavishnu_conformance::{Backend, Setup, post, token};
use serde_json::{Value, json};

fn keyed(n: u64) -> Value {
    json!({ "channel": "a", "event": "e", "data": { "n": n }, "idempotency_key": "k" })
}

pub(crate) fn a_key_publishes_once_over_either_way(backend: Backend) {
    let rig = backend.start_with(Setup { shards: 2, ..Setup::new(|_| {}) });
    let mut subscriber = rig.subscriber("a");
    let mut publishers = [rig.hello(), rig.hello()];
    let first = publishers[0].request("publish", keyed(1));
    let expected = json!({ "status": "published", "channel": "a", "subscribers": 1 });
    assert_eq!(first["data"], expected);
    for publisher in &mut publishers {
        assert_eq!(publisher.request("publish", keyed(1))["data"], expected);
    }
    let over_http = rig.raw().exchange(&post(&[], &keyed(1)));
    assert_eq!((over_http.status, &over_http.json()["subscribers"]), (200, &json!(1)));
    assert_eq!(subscriber.numbers(1), [1]);
    subscriber.expect_silence();
}

pub(crate) fn a_key_is_its_owners_and_its_messages(backend: Backend) {
    let rig = backend.start(token::demand);
    let now = rig.unix();
    let client = |user| rig.login(&token::good(now, user, &["admin"]));
    let (mut ada, mut bob) = (client("ada"), client("bob"));
    ada.subscribe("a");
    let reused = |answer: &Value| answer["error_code"] == "DECODE_ERROR";
    assert_eq!(ada.request("publish", keyed(1))["data"]["subscribers"], 1);
    assert!(reused(&ada.request("publish", keyed(2))), "another message");
    assert_eq!(bob.request("publish", keyed(2))["data"]["subscribers"], 1, "another owner");
    assert!(reused(&bob.request("publish", keyed(1))));
    assert_eq!(ada.numbers(2), [1, 2]);
    ada.expect_silence();
}

pub(crate) fn a_publisher_is_told_where_its_message_stands(backend: Backend) {
    let rig = backend.start_with(Setup { shards: 2, ..Setup::new(|_| {}) });
    let mut client = rig.hello();
    let mut data = json!({ "channel": "a", "event": "e", "positions": true });
    let first = client.request("publish", &data)["data"].clone();
    assert_eq!((&first["subscribers"], &first["offset"]), (&json!(0), &json!(1)));
    assert_eq!(first["epoch"].as_str().map(str::len), Some(10));
    let messages = json!([{ "channel": "a", "event": "e" }, data]);
    let over_http = rig.raw().exchange(&post(&[], &messages)).json();
    assert_eq!(over_http["messages"][0], json!({ "channel": "a", "subscribers": 0 }));
    let second = json!({ "channel": "a", "subscribers": 0, "epoch": first["epoch"], "offset": 3 });
    assert_eq!(over_http["messages"][1], second);
    // What a key keeps of an answer is all of it.
    data["idempotency_key"] = "k".into();
    let keyed = client.request("publish", &data)["data"].clone();
    assert_eq!((&keyed["epoch"], &keyed["offset"]), (&first["epoch"], &json!(4)));
    assert_eq!(client.request("publish", &data)["data"], keyed);
}

pub(crate) fn members_of_other_types_publish_nothing(backend: Backend) {
    let rig = backend.start(|_| {});
    let mut subscriber = rig.subscriber("a");
    let mut client = rig.hello();
    for (member, value) in [
        ("positions", json!("yes")),
        ("idempotency_key", json!("")),
        ("idempotency_key", json!("k".repeat(257))),
        ("state", json!([])),
        ("if_offset", json!(-1)),
        ("if_epoch", json!("0123456789")),
    ] {
        let mut data = json!({ "channel": "a", "event": "e" });
        data[member] = value;
        assert_eq!(client.request("publish", &data)["error_code"], "DECODE_ERROR", "{member}");
        assert_eq!(rig.raw().exchange(&post(&[], &data)).status, 400, "{member}");
    }
    subscriber.expect_silence();
}
