//! Reading what was published, by message.

use std::time::Duration;

use mahavishnu_conformance::{App, Backend, Client, Setup, token};
use mahavishnu_core::config::{Config, Keep};
use serde_json::{Value, json};

use super::positions::{positioned, publish, subscribe};

/// `data` of the answer.
fn read(client: &mut Client, data: Value) -> Value {
    let mut answer = client.request("get_history", data);
    assert_eq!(
        (&answer["type"], &answer["event"]),
        (&json!("response"), &json!("get_history")),
        "{answer}"
    );
    answer["data"].take()
}

fn offsets(page: &Value) -> Vec<u64> {
    let events = page["events"].as_array().unwrap().iter();
    events.map(|event| event["offset"].as_u64().unwrap()).collect()
}

pub(crate) fn the_last_events_are_read_without_a_subscription(backend: Backend) {
    let rig = backend.start(|_| {});
    publish(&rig, 1..=5);
    let mut client = rig.hello();
    let page = read(&mut client, json!({ "channel": "a" }));
    assert_eq!(
        (&page["channel"], &page["offset"], &page["more"]),
        (&json!("a"), &json!(5), &json!(false))
    );
    assert_eq!(page["epoch"].as_str().unwrap().len(), 10);
    assert_eq!(offsets(&page), [1, 2, 3, 4, 5]);
    let page = read(&mut client, json!({ "channel": "a", "limit": 2 }));
    assert_eq!((offsets(&page), &page["more"]), (vec![4, 5], &json!(true)));
    assert_eq!(rig.broadcast("a", &json!({ "n": 6 })), 0, "reading is not subscribing");
    client.expect_silence();
}

/// The same `id`, `event`, `data` and `timestamp` as subscribers got.
pub(crate) fn events_are_read_as_they_were_delivered(backend: Backend) {
    let rig = backend.start(|_| {});
    let (mut there, epoch) = positioned(&rig);
    rig.broadcast("a", &json!({ "n": 1, "text": "größer ☃ \"x\"", "deep": { "a": [1, null] } }));
    publish(&rig, [2]);
    let events: Vec<_> = (0..2)
        .map(|_| {
            let event = there.message();
            json!({
                "id": event["id"], "event": event["event"], "data": event["data"],
                "timestamp": event["timestamp"], "offset": event["offset"],
            })
        })
        .collect();
    let mut client = rig.hello();
    let page = read(&mut client, json!({ "channel": "a" }));
    let expected =
        json!({ "channel": "a", "epoch": epoch, "offset": 2, "events": events, "more": false });
    assert_eq!(page, expected);
}

pub(crate) fn a_log_is_read_forwards_page_by_page(backend: Backend) {
    let rig = backend.start(|_| {});
    publish(&rig, 1..=10);
    let (mut client, epoch) = positioned(&rig);
    let (mut read_so_far, mut more) = (Vec::new(), true);
    while more {
        let last = read_so_far.last().copied().unwrap_or(0);
        let after = json!({ "epoch": epoch, "offset": last });
        let page = read(&mut client, json!({ "channel": "a", "limit": 3, "after": after }));
        assert!(offsets(&page).len() <= 3);
        read_so_far.extend(offsets(&page));
        more = page["more"] == true;
    }
    assert_eq!(read_so_far, (1..=10).collect::<Vec<_>>());
    let after = json!({ "epoch": epoch, "offset": 10 });
    let page = read(&mut client, json!({ "channel": "a", "after": after }));
    assert_eq!((offsets(&page), &page["more"]), (vec![], &json!(false)));
}

pub(crate) fn a_log_is_read_backwards_page_by_page(backend: Backend) {
    let rig = backend.start(|_| {});
    publish(&rig, 1..=10);
    let mut client = rig.hello();
    let (mut pages, mut before) = (Vec::new(), u64::MAX);
    loop {
        let page = read(&mut client, json!({ "channel": "a", "limit": 4, "before": before }));
        pages.push(offsets(&page));
        if page["more"] == false {
            break;
        }
        before = offsets(&page)[0];
    }
    assert_eq!(pages, [vec![7, 8, 9, 10], vec![3, 4, 5, 6], vec![1, 2]]);
    let page = read(&mut client, json!({ "channel": "a", "before": 1 }));
    assert_eq!((offsets(&page), &page["more"]), (vec![], &json!(false)));
}

/// Without events: where a channel stands.
pub(crate) fn a_limit_of_zero_says_where_a_channel_stands(backend: Backend) {
    let rig = backend.start(|_| {});
    publish(&rig, 1..=3);
    let mut client = rig.hello();
    let page = read(&mut client, json!({ "channel": "a", "limit": 0 }));
    assert_eq!((&page["offset"], &page["events"]), (&json!(3), &json!([])));
    publish(&rig, [4]);
    let recover = json!({ "epoch": page["epoch"], "offset": page["offset"] });
    let answer = subscribe(&mut client, json!({ "channel": "a", "recover": recover }));
    assert_eq!((&answer["recovered"], &answer["missed"]), (&json!(true), &json!(1)));
    // A channel that nobody has ever heard of stands somewhere, too, and keeps standing there.
    let page = read(&mut client, json!({ "channel": "new", "limit": 0 }));
    assert_eq!(
        (&page["offset"], &page["events"], &page["more"]),
        (&json!(0), &json!([]), &json!(false))
    );
    let recover = json!({ "epoch": page["epoch"], "offset": 0 });
    rig.broadcast("new", &json!({ "n": 1 }));
    let answer = subscribe(&mut client, json!({ "channel": "new", "recover": recover }));
    assert_eq!((&answer["recovered"], &answer["missed"]), (&json!(true), &json!(1)));
}

/// What is gone is left out: the first offset that comes says how much that is.
pub(crate) fn what_is_no_longer_kept_is_left_out(backend: Backend) {
    let rig = backend.start(|config: &mut Config| {
        config.history.default = Keep { messages: 3, ..Keep::default() };
    });
    publish(&rig, 1..=10);
    let (mut client, epoch) = positioned(&rig);
    let after = json!({ "epoch": epoch, "offset": 2 });
    for data in [json!({ "channel": "a", "after": after }), json!({ "channel": "a" })] {
        let page = read(&mut client, data);
        assert_eq!((offsets(&page), &page["more"]), (vec![8, 9, 10], &json!(false)));
    }
}

pub(crate) fn old_events_are_not_read(backend: Backend) {
    let rig = backend.start(|config: &mut Config| {
        config.history.default.time = Duration::from_secs(2);
    });
    publish(&rig, 1..=3);
    rig.pass(Duration::from_millis(2_100));
    publish(&rig, [4]);
    let mut client = rig.hello();
    let page = read(&mut client, json!({ "channel": "a" }));
    assert_eq!((offsets(&page), &page["offset"]), (vec![4], &json!(4)));
}

pub(crate) fn a_position_of_another_epoch_is_refused(backend: Backend) {
    let rig = backend.start(|_| {});
    publish(&rig, 1..=3);
    let (mut client, epoch) = positioned(&rig);
    for (epoch, offset) in [(json!("0123456789"), 1), (epoch, 4)] {
        let after = json!({ "epoch": epoch, "offset": offset });
        let answer = client.request("get_history", json!({ "channel": "a", "after": after }));
        assert_eq!(answer["error_code"], "NOT_RECOVERED", "{answer}");
    }
}

pub(crate) fn where_nothing_is_kept_nothing_is_read(backend: Backend) {
    let rig = backend.start(|config: &mut Config| config.history.default = Keep::OFF);
    let mut there = rig.subscriber("a");
    publish(&rig, 1..=2);
    assert_eq!(there.numbers(2), [1, 2]);
    let mut client = rig.hello();
    let page = read(&mut client, json!({ "channel": "a" }));
    assert_eq!((offsets(&page), &page["more"]), (vec![], &json!(false)));
}

/// A page has a limit in messages and in bytes; it has one message at least.
pub(crate) fn a_page_of_history_is_bounded(backend: Backend) {
    let rig = backend.start(|config: &mut Config| {
        config.limits.history.history_page_max = 4;
        config.limits.delivery.outbox_bytes_max = 64 * 1024;
    });
    publish(&rig, 1..=10);
    let mut client = rig.hello();
    for limit in [4, 5, 1_000_000] {
        let page = read(&mut client, json!({ "channel": "a", "limit": limit }));
        assert_eq!((offsets(&page), &page["more"]), (vec![7, 8, 9, 10], &json!(true)));
    }
    let large = json!({ "filler": "x".repeat(20 * 1024) });
    (0..3).for_each(|_| _ = rig.broadcast("b", &large));
    let page = read(&mut client, json!({ "channel": "b" }));
    assert_eq!((offsets(&page), &page["more"]), (vec![3], &json!(true)));
}

pub(crate) fn reading_needs_the_permission_to_subscribe(backend: Backend) {
    let rig = backend.start(token::demand);
    let mut client = rig.login(&token::good(rig.unix(), "ada", &["workflow:read"]));
    let answer = client.request("get_history", json!({ "channel": "pool:1" }));
    assert_eq!(answer["error_code"], "FORBIDDEN", "{answer}");
    read(&mut client, json!({ "channel": "workflow:1" }));
}

pub(crate) fn requests_for_history_that_cannot_be_read_are_refused(backend: Backend) {
    let rig = backend.start(|_| {});
    let mut client = rig.hello();
    for (data, code) in [
        (json!({}), "UNKNOWN_REQUEST"),
        (json!({ "session_id": "s", "limit": "all" }), "UNKNOWN_REQUEST"),
        (json!({ "channel": "" }), "INVALID_CHANNEL"),
        (json!({ "channel": "x".repeat(257) }), "INVALID_CHANNEL"),
        (json!({ "channel": "a", "limit": "5" }), "DECODE_ERROR"),
        (json!({ "channel": "a", "limit": -1 }), "DECODE_ERROR"),
        (json!({ "channel": "a", "after": 5 }), "DECODE_ERROR"),
        (json!({ "channel": "a", "before": "x" }), "DECODE_ERROR"),
        (json!({ "channel": "a", "after": { "epoch": "?", "offset": 1 } }), "DECODE_ERROR"),
    ] {
        let answer = client.request("get_history", data.clone());
        assert_eq!(answer["error_code"], code, "{data}");
    }
}

/// An application that had a request of that name has it still.
pub(crate) fn an_application_may_answer_for_the_server(backend: Backend) {
    let app = App {
        requests: vec![("get_history", |_| Some((Duration::ZERO, Ok(json!({ "own": true })))))],
        ..App::default()
    };
    let rig = backend.start_with(Setup { app, ..Setup::new(|_| {}) });
    let mut client = rig.hello();
    assert_eq!(read(&mut client, json!({ "channel": "a" })), json!({ "own": true }));
}

/// The same log, whichever shard is asked.
pub(crate) fn every_shard_reads_the_same_log(backend: Backend) {
    let rig = backend.start_with(Setup { shards: 2, ..Setup::new(|_| {}) });
    publish(&rig, 1..=3);
    let mut pages = (0..6).map(|_| read(&mut rig.hello(), json!({ "channel": "a" })));
    let first = pages.next().unwrap();
    assert_eq!(offsets(&first), [1, 2, 3]);
    assert!(pages.all(|page| page == first));
}
