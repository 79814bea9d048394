//! Who is in a channel, and who hears of it.

use std::collections::BTreeMap;

use mahavishnu_conformance::{Backend, Client, Raw, Rig, Setup};
use mahavishnu_core::{auth::Pattern, config::Config};
use serde_json::{Value, json};

/// Channels of this name have presence.
pub(crate) fn rooms(config: &mut Config) {
    config.presence = vec![(Pattern::parse("room:*").expect("a pattern"), true)];
}

/// A client past the welcome, with the name that this gives it.
fn hello(rig: &Rig) -> (Client, String) {
    let mut client = rig.client();
    let welcome = client.expect_welcome();
    (client, welcome["data"]["connection_id"].as_str().expect("a name").to_owned())
}

/// Subscribes with a wish. The members there are then.
fn subscribe(client: &mut Client, channel: &str, presence: &Value) -> u64 {
    let answer = client.request("subscribe", json!({ "channel": channel, "presence": presence }));
    let count = answer["data"]["presence"]["count"].as_u64();
    let count = count.unwrap_or_else(|| panic!("{answer}"));
    let expected =
        json!({ "status": "subscribed", "channel": channel, "presence": { "count": count } });
    assert_eq!(answer["data"], expected);
    count
}

fn list(client: &mut Client, channel: &str) -> Value {
    let answer = client.request("get_presence", json!({ "channel": channel }));
    assert_eq!((&answer["type"], &answer["event"]), (&json!("response"), &json!("get_presence")));
    answer["data"].clone()
}

/// The next message, which has to be this event of this member.
fn expect(client: &mut Client, event: &str, name: &str) -> Value {
    let message = client.message();
    assert_eq!(
        (&message["event"], &message["room"]),
        (&json!(event), &json!("room:1")),
        "{message}"
    );
    assert_eq!(message["data"]["connection_id"], name, "{message}");
    assert_eq!(message["offset"], Value::Null, "it is not counted: {message}");
    message["data"].clone()
}

pub(crate) fn members_hear_who_comes_and_goes(backend: Backend) {
    let rig = backend.start(rooms);
    let (mut ada, ada_name) = hello(&rig);
    assert_eq!(subscribe(&mut ada, "room:1", &json!({ "info": { "name": "Ada" } })), 1);
    let own = expect(&mut ada, "presence.joined", &ada_name);
    assert_eq!((&own["info"], &own["user_id"]), (&json!({ "name": "Ada" }), &Value::Null));

    let (mut bob, bob_name) = hello(&rig);
    assert_eq!(subscribe(&mut bob, "room:1", &json!(true)), 2);
    expect(&mut bob, "presence.joined", &bob_name);
    assert_eq!(expect(&mut ada, "presence.joined", &bob_name)["info"], Value::Null);
    rig.expect_count("mahavishnu_presence_members", &[], 2);

    bob.unsubscribe("room:1");
    let left = expect(&mut ada, "presence.left", &bob_name);
    assert_eq!(left, json!({ "connection_id": bob_name, "user_id": null, "reason": "left" }));
    bob.expect_silence();
    subscribe(&mut bob, "room:1", &json!(true));
    expect(&mut ada, "presence.joined", &bob_name);
    bob.close();
    assert_eq!(expect(&mut ada, "presence.left", &bob_name)["reason"], "left");
    ada.expect_silence();
    let joined = [("event", "joined")];
    rig.expect_count("mahavishnu_presence_events_total", &joined, 3);
}

pub(crate) fn a_member_that_is_cut_off_is_lost(backend: Backend) {
    let rig = backend.start(rooms);
    let mut watcher = rig.hello();
    subscribe(&mut watcher, "room:1", &json!("watch"));
    let mut raw = Raw::upgrade(rig.connect());
    let welcome = raw.frame().expect("a welcome").json();
    let name = welcome["data"]["connection_id"].as_str().expect("a name").to_owned();
    let data = json!({ "channel": "room:1", "presence": true });
    raw.send_json(&json!({ "type": "request", "event": "subscribe", "data": data }));
    expect(&mut watcher, "presence.joined", &name);
    drop(raw);
    assert_eq!(expect(&mut watcher, "presence.left", &name)["reason"], "lost");
    assert_eq!(list(&mut watcher, "room:1")["count"], 0);
}

pub(crate) fn who_only_watches_is_no_member(backend: Backend) {
    let rig = backend.start(rooms);
    let (mut watcher, _) = hello(&rig);
    assert_eq!(subscribe(&mut watcher, "room:1", &json!("watch")), 0);
    watcher.expect_silence();
    let (mut member, name) = hello(&rig);
    assert_eq!(subscribe(&mut member, "room:1", &json!({ "info": { "seat": 5 } })), 1);
    let joined = expect(&mut watcher, "presence.joined", &name);

    // Who is in the channel is told to everybody who may subscribe to it.
    let mut stranger = rig.hello();
    let all = json!({ "channel": "room:1", "count": 1, "members": [joined], "complete": true });
    assert_eq!(list(&mut stranger, "room:1"), all);
    let count = stranger.request("get_presence", json!({ "channel": "room:1", "members": false }));
    assert_eq!(count["data"], json!({ "channel": "room:1", "count": 1 }));
    // Both get the channel's events.
    assert_eq!(rig.broadcast("room:1", &json!({ "n": 1 })), 2);
    assert_eq!(watcher.numbers(1), [1]);
}

pub(crate) fn who_did_not_ask_for_presence_hears_nothing_of_it(backend: Backend) {
    let rig = backend.start(rooms);
    let mut old = rig.hello();
    // Its answer is what it was before there was presence.
    old.subscribe("room:1");
    let mut member = rig.hello();
    subscribe(&mut member, "room:1", &json!(true));
    member.unsubscribe("room:1");
    assert_eq!(rig.broadcast("room:1", &json!({ "n": 1 })), 1);
    assert_eq!(old.numbers(1), [1]);
    old.expect_silence();
    // A wish that asks for nothing is none.
    let answer = old.request("subscribe", json!({ "channel": "pool:1", "presence": false }));
    assert_eq!(answer["data"], json!({ "status": "subscribed", "channel": "pool:1" }));
}

pub(crate) fn a_member_may_say_something_else_of_itself(backend: Backend) {
    let rig = backend.start(rooms);
    let (mut watcher, _) = hello(&rig);
    subscribe(&mut watcher, "room:1", &json!("watch"));
    let (mut member, name) = hello(&rig);
    subscribe(&mut member, "room:1", &json!({ "info": { "typing": false } }));
    let first = expect(&mut watcher, "presence.joined", &name);
    // Subscribing again without a wish changes nothing, and with the same one neither.
    member.subscribe("room:1");
    assert_eq!(subscribe(&mut member, "room:1", &json!({ "info": { "typing": false } })), 1);
    assert_eq!(subscribe(&mut member, "room:1", &json!({ "info": { "typing": true } })), 1);
    let second = expect(&mut watcher, "presence.joined", &name);
    assert_eq!(second["info"], json!({ "typing": true }));
    assert_eq!(second["since"], first["since"], "it was there all the time");
    assert_eq!(subscribe(&mut member, "room:1", &json!("watch")), 0);
    assert_eq!(expect(&mut watcher, "presence.left", &name)["reason"], "left");
    assert_eq!(rig.broadcast("room:1", &json!({ "n": 1 })), 2, "it still subscribes");
}

/// A list kept as docs/protocol.md says.
#[derive(Default)]
struct Kept {
    members: BTreeMap<String, Value>,
    /// Whether it has to be asked for anew.
    stale: bool,
}

impl Kept {
    fn take(&mut self, message: &Value) {
        let data = &message["data"];
        let name = || data["connection_id"].as_str().expect("a name").to_owned();
        match message["event"].as_str() {
            Some("get_presence") => {
                assert_eq!(data["complete"], true, "{message}");
                let members = data["members"].as_array().expect("a list").iter();
                let named = members.map(|m| (m["connection_id"].as_str().unwrap().to_owned(), m));
                self.members = named.map(|(name, m)| (name, m["info"].clone())).collect();
                self.stale = false;
            }
            Some("presence.joined") => {
                self.members.insert(name(), data["info"].clone());
            }
            Some("presence.left") => drop(self.members.remove(&name())),
            Some("presence.changed") => self.stale = true,
            _ => panic!("{message}"),
        }
    }

    /// Takes what comes until it knows these members, and no others.
    fn converge(&mut self, client: &mut Client, expected: &BTreeMap<String, Value>) {
        loop {
            if self.stale {
                client.ask("get_presence", json!({ "channel": "room:1" }));
                // What came before the answer is in it.
                let mut answered = false;
                while !answered {
                    let message = client.message();
                    answered = message["event"] == "get_presence";
                    self.take(&message);
                }
            } else if self.members == *expected {
                return;
            } else {
                self.take(&client.message());
            }
        }
    }
}

/// Some come and go; who watches ends up with the list, whether each is told or only how many.
fn converges(rig: &Rig) {
    let mut watcher = rig.hello();
    subscribe(&mut watcher, "room:1", &json!("watch"));
    let mut kept = Kept { stale: true, ..Kept::default() };
    let mut clients: Vec<_> = (0..12).map(|_| hello(rig)).collect();
    let mut there = BTreeMap::new();
    for (n, (client, name)) in clients.iter_mut().enumerate() {
        subscribe(client, "room:1", &json!({ "info": { "n": n } }));
        there.insert(name.clone(), json!({ "n": n }));
    }
    kept.converge(&mut watcher, &there);
    let mut open = Vec::new();
    for (n, (mut client, name)) in clients.into_iter().enumerate() {
        there.remove(&name);
        if n % 3 == 0 {
            client.close();
            continue;
        }
        client.unsubscribe("room:1");
        if n % 3 == 1 {
            subscribe(&mut client, "room:1", &json!({ "info": { "again": n } }));
            there.insert(name, json!({ "again": n }));
        }
        open.push(client);
    }
    kept.converge(&mut watcher, &there);
}

pub(crate) fn who_watches_can_keep_the_list(backend: Backend) {
    converges(&backend.start(rooms));
}

pub(crate) fn presence_is_the_same_on_every_shard(backend: Backend) {
    converges(&backend.start_with(Setup { shards: 3, ..Setup::new(rooms) }));
}

pub(crate) fn too_many_changes_are_told_by_their_number(backend: Backend) {
    let limited = |config: &mut Config| {
        rooms(config);
        config.limits.presence.presence_changes_max = 0;
    };
    let rig = backend.start(limited);
    let mut watcher = rig.hello();
    subscribe(&mut watcher, "room:1", &json!("watch"));
    let (mut member, _) = hello(&rig);
    subscribe(&mut member, "room:1", &json!(true));
    let told = watcher.message();
    assert_eq!(told["event"], "presence.changed");
    assert_eq!(told["data"], json!({ "count": 1, "joined": 1, "left": 0 }));
    rig.expect_count("mahavishnu_presence_events_total", &[("event", "changed")], 1);
    // Who has to ask each time has the list all the same.
    drop(member);
    converges(&backend.start(limited));
}

pub(crate) fn a_long_list_comes_in_several_answers(backend: Backend) {
    let rig = backend.start(|config| {
        rooms(config);
        // No event of these is told one by one, so that nobody is too slow for them.
        config.limits.delivery.outbox_bytes_max = 8 * 1024;
    });
    let mut members: Vec<_> = (0..20).map(|_| hello(&rig)).collect();
    for (member, _) in &mut members {
        subscribe(member, "room:1", &json!({ "info": { "x": "x".repeat(100) } }));
        member.drain();
    }
    let mut asks = rig.hello();
    let (mut found, mut answers) = (Vec::new(), 0);
    let mut data = json!({ "channel": "room:1" });
    loop {
        let answer = asks.request("get_presence", &data)["data"].clone();
        assert_eq!(answer["count"], 20);
        let names = answer["members"].as_array().expect("a list").iter();
        found.extend(names.map(|m| m["connection_id"].as_str().expect("a name").to_owned()));
        answers += 1;
        if answer["complete"] == true {
            break;
        }
        data["after"] = json!(found.last());
    }
    let mut names: Vec<_> = members.into_iter().map(|(_, name)| name).collect();
    names.sort();
    assert_eq!(found, names);
    assert!(answers > 2, "{answers}");
}
