//! Coming back: what was missed comes first, then what is new, or one is told why not.

use std::time::Duration;

use mahavishnu_conformance::{Backend, Client, Rig, token};
use mahavishnu_core::{
    auth::Pattern,
    config::{Config, Keep},
};
use serde_json::{Value, json};

use super::positions::{expect_events, positioned, publish, subscribe};

/// Keeps so many messages of each channel, however large they are.
pub(crate) fn keeping(messages: u32) -> impl Fn(&mut Config) {
    move |config| {
        config.limits.history.history_channel_bytes_max = 1 << 30;
        config.limits.history.history_bytes_max = 1 << 30;
        config.history.default = Keep { messages, ..Keep::default() };
    }
}

/// Subscribes to `a` from a position on, and returns `data` of the answer.
pub(crate) fn recover(client: &mut Client, epoch: &Value, offset: u64) -> Value {
    subscribe(client, json!({ "channel": "a", "recover": { "epoch": epoch, "offset": offset } }))
}

pub(crate) fn recovered(epoch: &Value, offset: u64, missed: u64) -> Value {
    json!({
        "status": "subscribed", "channel": "a", "epoch": epoch, "offset": offset, "recoverable": true,
        "recovered": true, "missed": missed,
    })
}

fn not_recovered(epoch: &Value, offset: u64, reason: &str) -> Value {
    json!({
        "status": "subscribed", "channel": "a", "epoch": epoch, "offset": offset, "recoverable": true,
        "recovered": false, "reason": reason,
    })
}

/// The epoch of `a`, seen by somebody who leaves again.
pub(crate) fn epoch_of(rig: &Rig) -> Value {
    let (client, epoch) = positioned(rig);
    client.close();
    epoch
}

pub(crate) fn what_was_missed_comes_before_what_is_new(backend: Backend) {
    let rig = backend.start(|_| {});
    let (mut client, epoch) = positioned(&rig);
    publish(&rig, 1..=5);
    expect_events(&mut client, 1..=5);
    client.close();
    publish(&rig, 6..=9);

    let mut client = rig.hello();
    assert_eq!(recover(&mut client, &epoch, 5), recovered(&epoch, 9, 4));
    publish(&rig, 10..=11);
    expect_events(&mut client, 6..=11);
    client.expect_silence();
}

/// Without a break: who left a channel comes back to it on the same connection.
pub(crate) fn who_unsubscribed_recovers_too(backend: Backend) {
    let rig = backend.start(|_| {});
    let (mut client, epoch) = positioned(&rig);
    publish(&rig, 1..=2);
    expect_events(&mut client, 1..=2);
    client.unsubscribe("a");
    publish(&rig, 3..=4);
    assert_eq!(recover(&mut client, &epoch, 2), recovered(&epoch, 4, 2));
    expect_events(&mut client, 3..=4);
    client.expect_silence();
}

/// Somebody who is a subscriber and says where it stands gets what came after that, once more if need be.
pub(crate) fn a_subscriber_may_recover_without_leaving(backend: Backend) {
    let rig = backend.start(|_| {});
    let (mut client, epoch) = positioned(&rig);
    publish(&rig, 1..=4);
    expect_events(&mut client, 1..=4);
    assert_eq!(recover(&mut client, &epoch, 2), recovered(&epoch, 4, 2));
    assert_eq!(rig.broadcast("a", &json!({ "n": 5 })), 1, "it is one subscriber still");
    expect_events(&mut client, 3..=5);
    client.expect_silence();
}

/// Every place in the log, from before its first message to behind its last.
pub(crate) fn every_position_is_recovered_from(backend: Backend) {
    let rig = backend.start(|_| {});
    publish(&rig, 1..=7);
    let epoch = epoch_of(&rig);
    for offset in 0..=7 {
        let mut client = rig.hello();
        assert_eq!(recover(&mut client, &epoch, offset), recovered(&epoch, 7, 7 - offset));
        expect_events(&mut client, offset + 1..=7);
        client.expect_silence();
    }
}

pub(crate) fn an_empty_channel_is_recovered(backend: Backend) {
    let rig = backend.start(|_| {});
    let epoch = epoch_of(&rig);
    let mut client = rig.hello();
    assert_eq!(recover(&mut client, &epoch, 0), recovered(&epoch, 0, 0));
    publish(&rig, [1]);
    expect_events(&mut client, [1]);
}

/// A publish comes once to who recovers, whether it was before or after the subscription.
pub(crate) fn recovered_events_are_those_that_were_delivered(backend: Backend) {
    let rig = backend.start(|_| {});
    let (mut there, epoch) = positioned(&rig);
    rig.broadcast("a", &json!({ "n": 1, "text": "größer ☃ \"x\"" }));
    publish(&rig, 2..=3);
    let live: Vec<_> = (0..3).map(|_| there.message()).collect();
    let mut late = rig.hello();
    recover(&mut late, &epoch, 0);
    let later: Vec<_> = (0..3).map(|_| late.message()).collect();
    assert_eq!(live, later, "the same id, time and data");
}

pub(crate) fn another_epoch_is_not_recovered(backend: Backend) {
    let rig = backend.start(|_| {});
    publish(&rig, 1..=3);
    let epoch = epoch_of(&rig);
    for other in ["0123456789", "", "no epoch of ours"] {
        let mut client = rig.hello();
        assert_eq!(recover(&mut client, &json!(other), 2), not_recovered(&epoch, 3, "epoch"));
        client.expect_silence();
    }
}

pub(crate) fn what_is_no_longer_kept_is_not_recovered(backend: Backend) {
    let rig = backend.start(keeping(3));
    publish(&rig, 1..=10);
    let epoch = epoch_of(&rig);
    for offset in 0..=10 {
        let mut client = rig.hello();
        let answer = recover(&mut client, &epoch, offset);
        if offset < 7 {
            // All or nothing: not even those that are still there.
            assert_eq!(answer, not_recovered(&epoch, 10, "trimmed"));
        } else {
            assert_eq!(answer, recovered(&epoch, 10, 10 - offset));
            expect_events(&mut client, offset + 1..=10);
        }
        client.expect_silence();
    }
}

/// Bytes are a limit as well, for whole rounds at least.
pub(crate) fn a_channel_keeps_only_so_many_bytes(backend: Backend) {
    let rig = backend.start(|config: &mut Config| {
        config.limits.history.history_channel_bytes_max = 64 * 1024;
    });
    for n in 1..=20 {
        rig.broadcast("a", &json!({ "n": n, "filler": "x".repeat(8 * 1024) }));
    }
    let epoch = epoch_of(&rig);
    let mut client = rig.hello();
    assert_eq!(recover(&mut client, &epoch, 0), not_recovered(&epoch, 20, "trimmed"));
    let mut client = rig.hello();
    assert_eq!(recover(&mut client, &epoch, 17), recovered(&epoch, 20, 3));
    expect_events(&mut client, 18..=20);
}

/// Over the limit for all channels those go that were published to longest ago.
pub(crate) fn all_channels_keep_only_so_many_bytes(backend: Backend) {
    let rig = backend.start(|config: &mut Config| {
        config.limits.history.history_bytes_max = 256 * 1024;
    });
    let epoch = epoch_of(&rig);
    publish(&rig, 1..=3);
    for n in 0..64 {
        let data = json!({ "filler": "x".repeat(8 * 1024) });
        rig.broadcast(&format!("other:{n}"), &data);
    }
    let mut client = rig.hello();
    let answer = recover(&mut client, &epoch, 2);
    assert_eq!(answer["recovered"], false, "{answer}");
    let mut newest = json!({ "channel": "other:63", "recover": { "epoch": "", "offset": 0 } });
    newest["recover"]["epoch"] =
        subscribe(&mut client, json!({ "channel": "other:63", "positions": true }))["epoch"].take();
    assert_eq!(subscribe(&mut client, newest)["missed"], 1);
}

/// Messages go after their time. Who has them all has missed nothing.
pub(crate) fn what_is_too_old_is_not_recovered(backend: Backend) {
    let rig = backend.start(|config: &mut Config| {
        config.history.default.time = Duration::from_secs(1);
    });
    publish(&rig, 1..=3);
    let epoch = epoch_of(&rig);
    rig.pass(Duration::from_millis(1_100));
    let mut client = rig.hello();
    assert_eq!(recover(&mut client, &epoch, 2), not_recovered(&epoch, 3, "trimmed"));
    let mut client = rig.hello();
    assert_eq!(recover(&mut client, &epoch, 3), recovered(&epoch, 3, 0));
    publish(&rig, [4]);
    expect_events(&mut client, [4]);
}

pub(crate) fn a_position_ahead_is_not_recovered(backend: Backend) {
    let rig = backend.start(|_| {});
    publish(&rig, 1..=3);
    let epoch = epoch_of(&rig);
    for offset in [4, 1_000_000, u64::MAX] {
        let mut client = rig.hello();
        assert_eq!(recover(&mut client, &epoch, offset), not_recovered(&epoch, 3, "ahead"));
        publish(&rig, []);
        client.expect_silence();
    }
}

/// A client may say which event it had last: if that number is another event's by now, nothing is recovered.
pub(crate) fn another_event_at_that_place_is_not_recovered(backend: Backend) {
    let rig = backend.start(|_| {});
    let (mut client, epoch) = positioned(&rig);
    publish(&rig, 1..=3);
    let ids: Vec<_> = (0..3).map(|_| client.message()["id"].take()).collect();
    let from = |id: &Value| json!({ "channel": "a", "recover": { "epoch": epoch, "offset": 2, "id": id } });
    assert_eq!(subscribe(&mut client, from(&ids[1])), recovered(&epoch, 3, 1));
    expect_events(&mut client, [3]);
    for other in [&ids[0], &json!("x"), &json!("")] {
        let mut client = rig.hello();
        assert_eq!(subscribe(&mut client, from(other)), not_recovered(&epoch, 3, "diverged"));
        client.expect_silence();
    }
}

pub(crate) fn too_much_at_once_is_not_recovered(backend: Backend) {
    let rig = backend.start(|config: &mut Config| {
        config.limits.history.recover_messages_max = 5;
    });
    publish(&rig, 1..=10);
    let epoch = epoch_of(&rig);
    let mut client = rig.hello();
    assert_eq!(recover(&mut client, &epoch, 4), not_recovered(&epoch, 10, "too_many"));
    client.expect_silence();
    let mut client = rig.hello();
    assert_eq!(recover(&mut client, &epoch, 5), recovered(&epoch, 10, 5));
    expect_events(&mut client, 6..=10);
}

pub(crate) fn where_nothing_is_kept_nothing_is_recovered(backend: Backend) {
    let rig = backend.start(|config: &mut Config| {
        let pattern = Pattern::parse("a").expect("a pattern");
        config.history.rules.push((pattern, Keep::OFF));
    });
    let (mut client, epoch) = positioned(&rig);
    publish(&rig, 1..=2);
    expect_events(&mut client, 1..=2);
    let mut back = rig.hello();
    let answer = recover(&mut back, &epoch, 1);
    let mut expected = not_recovered(&epoch, 2, "off");
    expected["recoverable"] = json!(false);
    assert_eq!(answer, expected);
    publish(&rig, [3]);
    expect_events(&mut back, [3]);
}

/// Whoever is not recovered is a subscriber all the same, from where the answer says on.
pub(crate) fn who_is_not_recovered_subscribes_from_now_on(backend: Backend) {
    let rig = backend.start(keeping(2));
    publish(&rig, 1..=5);
    let epoch = epoch_of(&rig);
    let mut client = rig.hello();
    assert_eq!(recover(&mut client, &epoch, 1), not_recovered(&epoch, 5, "trimmed"));
    publish(&rig, 6..=7);
    expect_events(&mut client, 6..=7);
}

pub(crate) fn strict_refuses_what_is_not_recovered(backend: Backend) {
    let rig = backend.start(keeping(2));
    publish(&rig, 1..=5);
    let epoch = epoch_of(&rig);
    let mut client = rig.hello();
    let wish = |offset: u64| json!({ "channel": "a", "strict": true, "recover": { "epoch": epoch, "offset": offset } });
    let answer = client.request("subscribe", wish(1));
    assert_eq!(
        (&answer["type"], &answer["error_code"]),
        (&json!("error"), &json!("NOT_RECOVERED"))
    );
    assert!(answer["error_message"].as_str().unwrap().contains("trimmed"), "{answer}");
    assert_eq!(rig.broadcast("a", &json!({ "n": 6 })), 0, "it is no subscriber");
    client.expect_silence();

    assert_eq!(subscribe(&mut client, wish(4)), recovered(&epoch, 6, 2));
    expect_events(&mut client, 5..=6);
}

pub(crate) fn recovering_needs_the_permission_to_subscribe(backend: Backend) {
    let rig = backend.start(token::demand);
    let mut admin = rig.login(&token::good(rig.unix(), "root", &["admin"]));
    let epoch =
        subscribe(&mut admin, json!({ "channel": "pool:1", "positions": true }))["epoch"].take();
    let mut client = rig.login(&token::good(rig.unix(), "ada", &["workflow:read"]));
    let wish = json!({ "channel": "pool:1", "recover": { "epoch": epoch, "offset": 0 } });
    let answer = client.request("subscribe", wish);
    assert_eq!(answer["error_code"], "FORBIDDEN", "{answer}");
}

pub(crate) fn rewind_sends_the_last_events_first(backend: Backend) {
    let rig = backend.start(keeping(5));
    publish(&rig, 1..=10);
    for (count, first) in [(0, 11), (1, 10), (3, 8), (5, 6), (100, 6)] {
        let mut client = rig.hello();
        let wish = json!({ "channel": "a", "positions": true, "rewind": count });
        let answer = subscribe(&mut client, wish);
        assert_eq!((&answer["offset"], &answer["rewound"]), (&json!(10), &json!(11 - first)));
        expect_events(&mut client, first..=10);
        client.expect_silence();
    }
    // Of a channel without events, none.
    let mut client = rig.hello();
    let answer = subscribe(&mut client, json!({ "channel": "b", "positions": true, "rewind": 5 }));
    assert_eq!((&answer["offset"], &answer["rewound"]), (&json!(0), &json!(0)));
    client.expect_silence();
    // Without positions too: for clients that keep none.
    let mut client = rig.hello();
    let answer = subscribe(&mut client, json!({ "channel": "a", "rewind": 2 }));
    assert_eq!(answer, json!({ "status": "subscribed", "channel": "a" }));
    assert_eq!(client.numbers(2), [9, 10]);
}

/// Who cannot recover may rewind instead; who can does not.
pub(crate) fn rewind_is_for_those_who_do_not_recover(backend: Backend) {
    let rig = backend.start(keeping(5));
    publish(&rig, 1..=10);
    let epoch = epoch_of(&rig);
    let wish = |offset: u64| json!({ "channel": "a", "rewind": 2, "recover": { "epoch": epoch, "offset": offset } });
    let mut client = rig.hello();
    let answer = subscribe(&mut client, wish(1));
    assert_eq!((&answer["reason"], &answer["rewound"]), (&json!("trimmed"), &json!(2)));
    expect_events(&mut client, 9..=10);
    let mut client = rig.hello();
    assert_eq!(subscribe(&mut client, wish(6)), recovered(&epoch, 10, 4));
    expect_events(&mut client, 7..=10);
    client.expect_silence();
}

/// A rule gives it to clients that cannot ask, and to nobody who asked for something.
pub(crate) fn a_rule_rewinds_for_clients_that_cannot_ask(backend: Backend) {
    let rig = backend.start(|config: &mut Config| {
        let pattern = Pattern::parse("a").expect("a pattern");
        config.history.rewind.push((pattern, 2));
    });
    publish(&rig, 1..=5);
    rig.broadcast("b", &json!({ "n": 1 }));
    let mut old = rig.subscriber("a");
    assert_eq!(old.numbers(2), [4, 5]);
    old.subscribe("b");
    old.expect_silence();
    let (mut asked, epoch) = positioned(&rig);
    asked.expect_silence();
    assert_eq!(recover(&mut asked, &epoch, 5), recovered(&epoch, 5, 0));
    asked.expect_silence();
}
