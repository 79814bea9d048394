//! Members of a channel at its home, without hubs.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    auth::Pattern,
    config::Config,
    hub::testing::{OTHER, env, keys, wait},
};

const OWN: ShardId = ShardId(0);
const FULL: u64 = 1 << 1;
const HELD: Why = Why::Held(Duration::from_secs(60));

fn config() -> Config {
    Config { presence: vec![(Pattern::parse("room:*").unwrap(), true)], ..Config::default() }
}

fn room() -> Arc<str> {
    "room:1".into()
}

fn conn(index: u32) -> ConnId {
    ConnId { index, generation: 1, shard: OWN }
}

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn watch(n: u128) -> Attendance {
    Attendance { number: 1, id: id(n), card: None, order: 0 }
}

fn member(n: u128) -> Attendance {
    Attendance { card: Some(Card { user: None, info: None }), ..watch(n) }
}

fn saying(n: u128, info: &str) -> Attendance {
    Attendance {
        card: Some(Card { user: Some("ada".into()), info: Some(info.into()) }),
        ..watch(n)
    }
}

/// The end of a connection's first subscription.
fn gone(conn: ConnId, why: Why) -> Departure {
    Departure { conn, number: 1, why }
}

/// The events of one channel's changes.
fn events(told: &[Told]) -> Vec<Value> {
    let mut events = Vec::new();
    for Told { segment, .. } in told {
        let mut rest = segment.bytes();
        while let [0x81, short, after @ ..] = rest {
            let (len, after) = match *short {
                126 => (usize::from(u16::from_be_bytes([after[0], after[1]])), &after[2..]),
                len => (usize::from(len), after),
            };
            let (event, after) = after.split_at(len);
            events.push(serde_json::from_slice(event).unwrap());
            rest = after;
        }
        assert!(rest.is_empty(), "frames end where the segment ends");
    }
    events
}

/// Who came and went, in short.
fn short(events: &[Value]) -> Vec<(String, u128)> {
    let short = |event: &Value| {
        let id: Uuid = event["data"]["connection_id"].as_str().unwrap().parse().unwrap();
        (event["event"].as_str().unwrap().to_owned(), id.as_u128())
    };
    events.iter().map(short).collect()
}

fn joined(n: u128) -> (String, u128) {
    ("presence.joined".into(), n)
}

fn left(n: u128) -> (String, u128) {
    ("presence.left".into(), n)
}

/// The list as a client reads it.
fn listed(env: &Env, presence: &Presence, page: Page) -> Value {
    serde_json::from_str(&presence.list(env, "room:1", page)).unwrap()
}

const ALL: Page = Page { members: true, after: None };

/// A wish that has waited for the bus comes to its turn when its connection is gone and another one has come in its place.
#[test]
fn a_wish_that_was_outrun_changes_nothing() {
    let mut env = env(config());
    let mut presence = Presence::new(keys(), env.now.mono);
    let newer = Attendance { order: 2, ..saying(1, "{}") };
    presence.enter(&mut env, &room(), conn(2), newer);
    for late in [watch(1), member(1)] {
        let late = Attendance { order: 1, number: 7, ..late };
        presence.enter(&mut env, &room(), conn(1), late);
        let why = Why::Lost;
        presence.leave(&mut env, &room(), Departure { conn: conn(1), number: 7, why });
    }
    assert_eq!(presence.find(&room()).map(Roster::len), Some(1));
}

#[test]
fn who_watches_is_told_who_comes_and_goes() {
    let mut env = env(config());
    let mut presence = Presence::new(keys(), env.now.mono);
    let since = env.timestamp();
    assert_eq!(presence.enter(&mut env, &room(), conn(1), watch(1)).members, 0);
    assert!(!presence.has_news(), "who only watches is no member");

    assert_eq!(presence.enter(&mut env, &room(), conn(2), saying(2, r#"{"seat": 5}"#)).members, 1);
    presence.leave(&mut env, "room:1", gone(conn(2), Why::Lost));
    let told = presence.tell(&mut env, 0);
    presence.check(OWN);

    let [Told { channel, remote: 0, here: true, .. }] = &told[..] else { panic!("{told:?}") };
    assert_eq!(&**channel, "room:1");
    let events = events(&told);
    assert_eq!(short(&events), [joined(2), left(2)]);
    let name = id(2).to_string();
    let whole = json!({"connection_id": name, "user_id": "ada", "info": {"seat": 5}, "since": since.as_str()});
    assert_eq!(events[0]["data"], whole);
    let gone = json!({"connection_id": name, "user_id": "ada", "reason": "lost"});
    assert_eq!(events[1]["data"], gone);
    assert!(events.iter().all(|event| event["room"] == "room:1" && event["offset"].is_null()));
    assert!(!presence.has_news() && presence.tell(&mut env, 0).is_empty());
}

#[test]
fn a_member_hears_of_itself() {
    let mut env = env(config());
    let mut presence = Presence::new(keys(), env.now.mono);
    presence.enter(&mut env, &room(), conn(1), member(1));
    assert_eq!(short(&events(&presence.tell(&mut env, 0))), [joined(1)]);
}

#[test]
fn nobody_is_told_where_nobody_watches_and_nothing_is_left() {
    let mut env = env(config());
    let mut presence = Presence::new(keys(), env.now.mono);
    presence.enter(&mut env, &room(), conn(1), member(1));
    presence.leave(&mut env, "room:1", gone(conn(1), Why::Left));

    assert!(presence.tell(&mut env, 0).is_empty());
    assert_eq!((presence.len(), presence.bytes, env.tally.presence_members), (0, 0, 0));
    presence.check(OWN);
    // Of a channel without presence, or twice: nothing comes of it.
    presence.leave(&mut env, "room:1", gone(conn(1), Why::Left));
    presence.end(&mut env, "room:1", conn(1), id(1));
}

#[test]
fn too_many_changes_of_a_turn_are_one_event() {
    let mut env = env(config());
    let mut presence = Presence::new(keys(), env.now.mono);
    presence.enter(&mut env, &room(), conn(0), watch(0));
    for n in 1..=2_000 {
        presence.enter(&mut env, &room(), conn(n), member(n.into()));
    }
    for n in 1..=500 {
        presence.leave(&mut env, "room:1", gone(conn(n), Why::Left));
    }
    let told = events(&presence.tell(&mut env, 0));
    presence.check(OWN);

    let [event] = &told[..] else { panic!("{} events", told.len()) };
    assert_eq!(event["event"], "presence.changed");
    assert_eq!(event["data"], json!({"count": 1_500, "joined": 2_000, "left": 500}));
    // The next turn begins anew.
    presence.enter(&mut env, &room(), conn(1), member(1));
    assert_eq!(short(&events(&presence.tell(&mut env, 0))), [joined(1)]);
}

#[test]
fn as_many_as_the_limit_are_told_one_by_one_and_what_is_long_is_not() {
    let mut config = config();
    config.limits.presence.presence_changes_max = 3;
    config.limits.delivery.outbox_bytes_max = 16 * 1024;
    let mut env = env(config);
    let mut presence = Presence::new(keys(), env.now.mono);
    (1..=3).for_each(|n| {
        presence.enter(&mut env, &room(), conn(n), member(n.into()));
    });
    assert_eq!(events(&presence.tell(&mut env, 0)).len(), 3);

    let long = format!(r#"{{"x":"{}"}}"#, "x".repeat(2_000));
    (4..=5).for_each(|n| {
        presence.enter(&mut env, &room(), conn(n), saying(n.into(), &long));
    });
    let told = events(&presence.tell(&mut env, 0));
    assert_eq!(told.len(), 1, "two do not fit into a quarter of an outbox");
    assert_eq!(told[0]["data"], json!({"count": 5, "joined": 2, "left": 0}));
}

#[test]
fn a_member_may_say_something_else_and_may_become_one_who_watches() {
    let mut env = env(config());
    let mut presence = Presence::new(keys(), env.now.mono);
    presence.enter(&mut env, &room(), conn(1), saying(1, r#"{"a":1}"#));
    wait(&mut env, Duration::from_secs(5));
    presence.enter(&mut env, &room(), conn(1), saying(1, r#"{"a":1}"#));
    presence.enter(&mut env, &room(), conn(1), saying(1, r#"{"a":2}"#));
    presence.enter(&mut env, &room(), conn(1), watch(1));
    presence.check(OWN);

    let told = events(&presence.tell(&mut env, 0));
    assert_eq!(short(&told), [joined(1), joined(1), left(1)]);
    assert_eq!(told[1]["data"]["info"], json!({"a": 2}));
    assert_eq!(told[1]["data"]["since"], told[0]["data"]["since"], "it was there all the time");
    assert_eq!(listed(&env, &presence, ALL)["count"], 0);
    assert_eq!(presence.len(), 1, "it still watches");
}

#[test]
fn a_held_member_stays_until_another_connection_has_its_place() {
    let mut env = env(config());
    let mut presence = Presence::new(keys(), env.now.mono);
    presence.enter(&mut env, &room(), conn(9), watch(9));
    presence.enter(&mut env, &room(), conn(1), member(1));
    let _ = presence.tell(&mut env, 0);

    presence.leave(&mut env, "room:1", gone(conn(1), HELD));
    presence.check(OWN);
    assert_eq!(listed(&env, &presence, ALL)["count"], 1);
    presence.enter(&mut env, &room(), conn(2), member(1));
    // The session of the connection before may be said to be over later, and the connection itself.
    presence.end(&mut env, "room:1", conn(1), id(1));
    presence.leave(&mut env, "room:1", gone(conn(1), Why::Lost));
    presence.check(OWN);

    assert!(!presence.has_news(), "nobody came or went");
    assert_eq!(listed(&env, &presence, ALL)["count"], 1);
    presence.leave(&mut env, "room:1", gone(conn(2), Why::Left));
    assert_eq!(short(&events(&presence.tell(&mut env, 0))), [left(1)]);
}

#[test]
fn a_held_member_is_lost_when_nobody_has_come_in_time() {
    let mut env = env(config());
    let mut presence = Presence::new(keys(), env.now.mono);
    presence.enter(&mut env, &room(), conn(9), watch(9));
    for n in 1..=2 {
        presence.enter(&mut env, &room(), conn(n), member(n.into()));
        presence.leave(&mut env, "room:1", gone(conn(n), HELD));
    }
    let _ = presence.tell(&mut env, 0);
    wait(&mut env, Duration::from_secs(59));
    presence.expire(&mut env);
    assert!(!presence.has_news());
    presence.enter(&mut env, &room(), conn(3), member(2));
    wait(&mut env, Duration::from_secs(1));
    presence.expire(&mut env);
    presence.check(OWN);

    let told = events(&presence.tell(&mut env, 0));
    assert_eq!(short(&told), [left(1)], "another connection has the other's place");
    assert_eq!(told[0]["data"]["reason"], "lost");
    assert_eq!(presence.next_deadline(), None);
}

#[test]
fn a_channel_with_a_held_member_only_is_still_there() {
    let mut env = env(config());
    let mut presence = Presence::new(keys(), env.now.mono);
    presence.enter(&mut env, &room(), conn(1), member(1));
    presence.leave(&mut env, "room:1", gone(conn(1), HELD));
    assert_eq!(presence.len(), 1);
    presence.check(OWN);
    wait(&mut env, Duration::from_secs(60));
    presence.expire(&mut env);
    assert_eq!((presence.len(), presence.held), (0, 0));
    presence.check(OWN);
}

#[test]
fn timers_of_those_who_came_back_do_not_pile_up() {
    let mut env = env(config());
    let mut presence = Presence::new(keys(), env.now.mono);
    for number in 1..5_000 {
        let again = Attendance { number, ..member(1) };
        presence.enter(&mut env, &room(), conn(1), again);
        let departure = Departure { number, ..gone(conn(1), HELD) };
        presence.leave(&mut env, "room:1", departure);
        wait(&mut env, Duration::from_millis(1));
        presence.compact_timers();
    }
    assert!(presence.timers.len() < 2_000, "{}", presence.timers.len());
    assert_eq!(presence.held, 1);
}

#[test]
fn members_are_bounded_by_number_and_by_bytes() {
    let mut config = config();
    config.limits.presence.presence_members_max = 2;
    config.limits.presence.presence_bytes_max = 100_000;
    let mut env = env(config);
    let mut presence = Presence::new(keys(), env.now.mono);
    for n in 1..=2 {
        assert_eq!(presence.admit(&env, "room:1", &member(n)), Ok(()));
        presence.enter(&mut env, &room(), conn(n as u32), member(n));
    }

    assert_eq!(presence.admit(&env, "room:1", &member(3)), Err(Reason::PresenceFull));
    assert_eq!(presence.admit(&env, "room:1", &watch(3)), Ok(()), "who watches is no member");
    assert_eq!(presence.admit(&env, "room:1", &member(2)), Ok(()), "who is there already");
    assert_eq!(presence.admit(&env, "room:2", &member(3)), Ok(()));
    let long = format!(r#"{{"x":"{}"}}"#, "x".repeat(100_000));
    assert_eq!(presence.admit(&env, "room:2", &saying(3, &long)), Err(Reason::PresenceFull));
    assert_eq!(presence.admit(&env, "pool:1", &watch(3)), Err(Reason::PresenceOff));
}

#[test]
fn a_list_is_bounded_in_bytes_and_can_be_continued() {
    let mut config = config();
    config.limits.delivery.outbox_bytes_max = 8 * 1024;
    let mut env = env(config);
    let mut presence = Presence::new(keys(), env.now.mono);
    for n in 1..=40 {
        presence.enter(&mut env, &room(), conn(n), saying(n.into(), r#"{"x":1}"#));
    }
    let (mut after, mut found, mut answers) = (None, Vec::new(), 0);
    loop {
        let text = presence.list(&env, "room:1", Page { members: true, after });
        assert!(text.len() <= 2 * 1024 + 20, "{}", text.len());
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&answer["channel"], &answer["count"]), (&json!("room:1"), &json!(40)));
        let names = answer["members"].as_array().unwrap().iter();
        found.extend(names.map(|member| {
            assert_eq!((&member["user_id"], &member["info"]), (&json!("ada"), &json!({"x": 1})));
            member["connection_id"].as_str().unwrap().parse::<Uuid>().unwrap()
        }));
        answers += 1;
        if answer["complete"] == true {
            break;
        }
        after = found.last().copied();
    }
    assert_eq!(found, (1..=40).map(id).collect::<Vec<_>>());
    assert!(answers >= 3, "{answers}");
    // Where one member is too long for that, it comes alone.
    let long = format!(r#"{{"x":"{}"}}"#, "x".repeat(4_000));
    presence.enter(&mut env, &room(), conn(1), saying(1, &long));
    presence.enter(&mut env, &room(), conn(2), saying(2, &long));
    let answer = listed(&env, &presence, ALL);
    assert_eq!(answer["members"].as_array().unwrap().len(), 1);
    assert_eq!(answer["complete"], false);
}

#[test]
fn counting_lists_nobody_and_nobody_is_in_a_channel_that_nobody_knows() {
    let mut env = env(config());
    let mut presence = Presence::new(keys(), env.now.mono);
    let counted = Page { members: false, after: None };
    assert_eq!(listed(&env, &presence, counted), json!({"channel": "room:1", "count": 0}));
    let empty = json!({"channel": "room:1", "count": 0, "members": [], "complete": true});
    assert_eq!(listed(&env, &presence, ALL), empty);
    presence.enter(&mut env, &room(), conn(1), member(1));
    assert_eq!(listed(&env, &presence, counted), json!({"channel": "room:1", "count": 1}));
}

#[test]
fn hubs_with_watchers_are_known_and_a_full_one_holds_changes_back() {
    let mut env = env(config());
    let mut presence = Presence::new(keys(), env.now.mono);
    let there = ConnId { index: 1, generation: 1, shard: OTHER };
    presence.enter(&mut env, &room(), there, watch(1));
    presence.enter(&mut env, &"room:2".into(), conn(3), member(3));
    presence.enter(&mut env, &room(), conn(2), member(2));

    let told = presence.tell(&mut env, FULL);
    assert_eq!(told.iter().map(|told| &*told.channel).collect::<Vec<_>>(), ["room:2"]);
    assert!(presence.has_news() && presence.is_held_back("room:1"));
    presence.check(OWN);
    let told = presence.tell(&mut env, 0);
    let [Told { remote: FULL, here: true, .. }] = &told[..] else { panic!("{told:?}") };
    assert_eq!(short(&events(&told)), [joined(2)]);
    assert!(!presence.is_held_back("room:1"));

    presence.leave(&mut env, "room:1", gone(there, Why::Lost));
    presence.leave(&mut env, "room:1", gone(conn(2), Why::Lost));
    assert!(presence.tell(&mut env, FULL).is_empty(), "nobody is left to be told");
    presence.check(OWN);
}

#[test]
fn where_presence_is_switched_off_nobody_is_a_member_any_more() {
    let mut env = env(config());
    let mut presence = Presence::new(keys(), env.now.mono);
    presence.enter(&mut env, &room(), conn(1), member(1));
    let _ = presence.tell(&mut env, 0);
    env.config = Arc::new(Config::default());
    presence.review(&mut env);
    presence.check(OWN);
    assert_eq!(short(&events(&presence.tell(&mut env, 0))), [left(1)]);
    assert_eq!(listed(&env, &presence, ALL)["count"], 0);
}

#[test]
fn who_says_goodbye_has_left_and_who_is_cut_off_is_lost() {
    for (reason, code, why) in [
        (Reason::PeerClosed, None, Why::Left),
        (Reason::PeerClosed, Some(1000), Why::Left),
        (Reason::PeerClosed, Some(1001), Why::Left),
        (Reason::PeerClosed, Some(4000), Why::Left),
        (Reason::PeerClosed, Some(1011), Why::Lost),
        (Reason::Disconnected, None, Why::Left),
        (Reason::TokenRevoked, None, Why::Left),
        (Reason::Eof, None, Why::Lost),
        (Reason::Io, None, Why::Lost),
        (Reason::PongTimeout, None, Why::Lost),
        (Reason::SlowReader, None, Why::Lost),
        (Reason::Shutdown, None, Why::Lost),
    ] {
        assert_eq!(Why::of(reason, code), why, "{reason:?} {code:?}");
    }
}

#[test]
fn the_end_of_an_earlier_subscription_ends_no_later_one() {
    let mut env = env(config());
    let mut presence = Presence::new(keys(), env.now.mono);
    presence.enter(&mut env, &room(), conn(1), member(1));
    presence.enter(&mut env, &room(), conn(1), Attendance { number: 2, ..member(1) });
    let _ = presence.tell(&mut env, 0);
    presence.leave(&mut env, "room:1", gone(conn(1), Why::Left));
    assert!(!presence.has_news());
    assert_eq!(listed(&env, &presence, ALL)["count"], 1);
    presence.leave(&mut env, "room:1", Departure { number: 2, ..gone(conn(1), Why::Left) });
    assert_eq!(presence.len(), 0);
    presence.check(OWN);
}

/// What a client keeps that takes each list for the whole and each event for a change of it.
#[derive(Default)]
struct Mirror(BTreeMap<u128, Value>);

impl Mirror {
    fn take(&mut self, event: &Value, list: impl Fn() -> Value) {
        let name = || {
            let id: Uuid = event["data"]["connection_id"].as_str().unwrap().parse().unwrap();
            id.as_u128()
        };
        match event["event"].as_str().unwrap() {
            "presence.joined" => drop(self.0.insert(name(), event["data"]["info"].clone())),
            "presence.left" => assert!(self.0.remove(&name()).is_some(), "{event}: never came"),
            _ => self.replace(&list()),
        }
    }

    fn replace(&mut self, list: &Value) {
        let members = list["members"].as_array().unwrap().iter().map(|member| {
            let id: Uuid = member["connection_id"].as_str().unwrap().parse().unwrap();
            (id.as_u128(), member["info"].clone())
        });
        self.0 = members.collect();
    }
}

#[derive(Clone, Debug)]
enum Step {
    Enter(u32, Option<u8>),
    Leave(u32, Why),
    End(u32),
    Tell,
}

fn step() -> impl Strategy<Value = Step> {
    let why = prop_oneof![Just(Why::Left), Just(Why::Lost), Just(HELD)];
    prop_oneof![
        4 => (1..6u32, prop::option::of(0..3u8)).prop_map(|(n, info)| Step::Enter(n, info)),
        3 => (1..6u32, why).prop_map(|(n, why)| Step::Leave(n, why)),
        1 => (1..6u32).prop_map(Step::End),
        2 => Just(Step::Tell),
    ]
}

proptest! {
    /// Whatever comes and goes: who watches has the list, by a model without any of this.
    #[test]
    fn who_watches_knows_who_is_there(steps in prop::collection::vec(step(), 0..60), max in 0..6u32) {
        let mut config = config();
        config.limits.presence.presence_changes_max = max;
        let mut env = env(config);
        let mut presence = Presence::new(keys(), env.now.mono);
        let (mut model, mut mirror) = (BTreeMap::new(), Mirror::default());
        presence.enter(&mut env, &room(), conn(0), watch(0));
        for step in steps.into_iter().chain([Step::Tell]) {
            match step {
                Step::Enter(n, None) => {
                    presence.enter(&mut env, &room(), conn(n), watch(n.into()));
                    model.remove(&u128::from(n));
                }
                Step::Enter(n, Some(info)) => {
                    let info = json!({"x": info});
                    presence.enter(&mut env, &room(), conn(n), saying(n.into(), &info.to_string()));
                    model.insert(u128::from(n), info);
                }
                Step::Leave(n, why) => {
                    let watches = presence.find("room:1").is_some_and(|r| r.watches(conn(n)));
                    presence.leave(&mut env, "room:1", gone(conn(n), why));
                    if watches && !matches!(why, Why::Held(_)) {
                        model.remove(&u128::from(n));
                    }
                }
                Step::End(n) => {
                    presence.end(&mut env, "room:1", conn(n), id(n.into()));
                    model.remove(&u128::from(n));
                }
                Step::Tell => {
                    let told = events(&presence.tell(&mut env, 0));
                    prop_assert!(told.len() <= max.max(1) as usize);
                    for event in told {
                        mirror.take(&event, || listed(&env, &presence, ALL));
                    }
                    prop_assert_eq!(&mirror.0, &model);
                }
            }
            presence.check(OWN);
        }
        prop_assert_eq!(env.tally.presence_members, model.len() as i64);
    }
}
