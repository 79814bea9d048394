//! Who is in a channel, over whole hubs.

use std::collections::BTreeMap;

use super::*;
use crate::{auth::Pattern, config::SlowPolicy, hub::types::Look};

pub(super) fn rooms(mut config: Config) -> Config {
    config.presence = vec![(Pattern::parse("c*").unwrap(), true)];
    config
}

/// A welcomed client with its name.
pub(super) fn hello(rig: &mut Rig, shard: usize) -> (Client, String) {
    let client = rig.connect_with(shard, "");
    let welcome = client.take().remove(0);
    (client, welcome["data"]["connection_id"].as_str().unwrap().to_owned())
}

pub(super) fn subscribe_message(channel: &str, presence: &Value) -> Value {
    let data = json!({"channel": channel, "presence": presence});
    json!({"type": "request", "event": "subscribe", "id": "s", "data": data})
}

/// Subscribes with a wish. How many members there are then; what else came is left to be taken.
pub(super) fn attend(
    rig: &mut Rig,
    client: &Client,
    channel: &str,
    presence: &Value,
) -> (u64, Vec<Value>) {
    rig.send(client, &subscribe_message(channel, presence));
    let mut came = client.take();
    let answer = came.remove(0);
    let count = answer["data"]["presence"]["count"].as_u64();
    (count.unwrap_or_else(|| panic!("{answer}")), came)
}

pub(super) fn members(rig: &mut Rig, client: &Client, channel: &str) -> Vec<(String, Value)> {
    let answer = rig.request(client, "get_presence", &json!({"channel": channel}));
    assert_eq!(answer["data"]["complete"], true, "{answer}");
    let members = answer["data"]["members"].as_array().unwrap();
    assert_eq!(answer["data"]["count"], members.len());
    let name = |member: &Value| member["connection_id"].as_str().unwrap().to_owned();
    members.iter().map(|member| (name(member), member["info"].clone())).collect()
}

/// Which event, of whom, why.
pub(super) fn told(client: &Client) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let short = |m: &Value| {
        (text(&m["event"]), text(&m["data"]["connection_id"]), text(&m["data"]["reason"]))
    };
    client.take().iter().map(short).collect()
}

pub(super) fn joined(name: &str) -> (String, String, String) {
    ("presence.joined".into(), name.into(), String::new())
}

pub(super) fn left(name: &str, why: &str) -> (String, String, String) {
    ("presence.left".into(), name.into(), why.into())
}

fn error(answer: &Value) -> Value {
    answer["error_code"].clone()
}

#[test]
fn whoever_watches_hears_it_on_every_shard() {
    for home in [0, 1] {
        let mut rig = Rig::new(2, rooms(Config::default()));
        let channel = rig.channel_of(home);
        let watchers = [0, 1].map(|shard| hello(&mut rig, shard));
        for (watcher, _) in &watchers {
            assert_eq!(attend(&mut rig, watcher, &channel, &json!("watch")), (0, vec![]));
        }
        let (member, name) = hello(&mut rig, 0);
        let (count, own) = attend(&mut rig, &member, &channel, &json!({"info": {"a": 1}}));
        assert_eq!((count, own.len()), (1, 1), "it hears of itself, behind the answer");
        let there = vec![(name.clone(), json!({"a": 1}))];
        for (watcher, _) in &watchers {
            assert_eq!(told(watcher), [joined(&name)]);
            assert_eq!(members(&mut rig, watcher, &channel), there);
        }
        rig.hang_up(&member);
        for (watcher, _) in &watchers {
            assert_eq!(told(watcher), [left(&name, "lost")]);
            assert_eq!(members(&mut rig, watcher, &channel), []);
            rig.hang_up(watcher);
        }
        assert!(rig.hubs.iter().all(|hub| hub.hub().holdings().presence == 0));
        rig.assert_empty();
    }
}

#[test]
fn many_at_once_are_one_event() {
    const MANY: usize = 2_000;
    let mut rig = Rig::new(1, rooms(unlimited()));
    let (watcher, _) = hello(&mut rig, 0);
    attend(&mut rig, &watcher, "c", &json!("watch"));
    let clients: Vec<_> = (0..MANY).map(|_| hello(&mut rig, 0).0).collect();
    let bytes = frame(&subscribe_message("c", &json!({"info": {"name": "somebody"}})));
    for client in &clients {
        rig.hubs[0].handle_bytes(rig.now, client.conn, &mut bytes.clone());
    }
    rig.run();

    let changed = json!({"count": MANY, "joined": MANY, "left": 0});
    let came = watcher.take();
    assert_eq!(came.len(), 1);
    assert_eq!((&came[0]["event"], &came[0]["data"]), (&json!("presence.changed"), &changed));
    // Nobody got more than its answer and that.
    assert!(clients.iter().all(|client| client.take().len() == 2));

    // They all go while the hub writes to them: that is one turn too, whatever it takes.
    for client in &clients {
        rig.hubs[0].handle_io_error(rig.now, client.conn, io::ErrorKind::ConnectionReset);
    }
    rig.run();
    let came = watcher.take();
    assert_eq!(came.len(), 1);
    assert_eq!(came[0]["data"], json!({"count": 0, "joined": 0, "left": MANY}));
}

#[test]
fn those_who_go_while_they_are_written_to_are_told_together() {
    let mut rig = Rig::new(1, rooms(unlimited()));
    let (watcher, _) = hello(&mut rig, 0);
    attend(&mut rig, &watcher, "c", &json!("watch"));
    let clients: Vec<_> = (0..40).map(|_| hello(&mut rig, 0).0).collect();
    for client in &clients {
        attend(&mut rig, client, "c", &json!(true));
    }
    watcher.take();
    rig.publish(0, "c", 1);
    // As a driver does whose sockets have all failed.
    struct Broken;
    impl io::Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let hub = &mut rig.hubs[0];
    loop {
        while hub.poll_output(rig.now).is_some() {}
        let Some(conn) = hub.poll_dirty() else { break };
        if conn == watcher.conn {
            let _ = hub.flush(rig.now, conn, &mut Sink(watcher.wire.clone()));
        } else {
            assert_eq!(hub.flush(rig.now, conn, &mut Broken), Flush::Closed);
        }
    }
    hub.end_turn(rig.now);
    let came: Vec<_> = watcher.take().into_iter().filter(|m| m["room"] == "c").collect();
    assert_eq!(came.len(), 2, "the message, and what became of the others: {came:?}");
    assert_eq!(came[1]["data"], json!({"count": 0, "joined": 0, "left": 40}));
}

#[test]
fn why_somebody_is_gone_is_told() {
    let mut rig = Rig::new(2, rooms(Config::default()));
    let channel = rig.channel_of(1);
    let (watcher, _) = hello(&mut rig, 1);
    attend(&mut rig, &watcher, &channel, &json!("watch"));
    let close = |code: u16| {
        let mut bytes = Vec::new();
        ws::encode_frame(&mut bytes, Opcode::Close, &code.to_be_bytes(), Some([1, 2, 3, 4]));
        bytes
    };
    type End = Box<dyn Fn(&mut Rig, &Client)>;
    let ends: [(End, &str); 6] = [
        (Box::new(move |rig, client| rig.bytes(client, &close(1000))), "left"),
        (Box::new(move |rig, client| rig.bytes(client, &close(1001))), "left"),
        (Box::new(move |rig, client| rig.bytes(client, &close(1011))), "lost"),
        (Box::new(|rig, client| rig.hang_up(client)), "lost"),
        (
            Box::new(|rig, client| {
                let now = rig.now;
                rig.hubs[0].handle_command(now, Command::Disconnect { conn: client.conn });
                rig.run();
            }),
            "left",
        ),
        (
            Box::new(|rig, client| {
                rig.hubs[0].handle_io_error(rig.now, client.conn, io::ErrorKind::TimedOut);
                rig.run();
            }),
            "lost",
        ),
    ];
    for (end, why) in ends {
        let (member, name) = hello(&mut rig, 0);
        attend(&mut rig, &member, &channel, &json!(true));
        end(&mut rig, &member);
        assert_eq!(told(&watcher), [joined(&name), left(&name, why)]);
    }
}

#[cfg(feature = "jwt")]
#[test]
fn members_have_their_user_and_go_when_they_may_not_stay() {
    let mut config = with_auth();
    config.presence = vec![(Pattern::parse("workflow:*").unwrap(), true)];
    let mut rig = Rig::new(1, config);
    let login = |rig: &mut Rig, user: &str| {
        let headers = format!(
            "Authorization: Bearer {}\r\n",
            token(user, &["workflow:read", "workflow:write"])
        );
        let client = rig.connect_with(0, &headers);
        client.take();
        client
    };
    let [ada, eve] = ["ada", "eve"].map(|user| login(&mut rig, user));
    attend(&mut rig, &ada, "workflow:1", &json!("watch"));
    attend(&mut rig, &eve, "workflow:1", &json!(true));
    assert_eq!(ada.take()[0]["data"]["user_id"], "eve");

    let weaker = token("eve", &["pool:read"]);
    let answer = rig.request(&eve, "refresh_token", &json!({ "token": weaker }));
    assert_eq!(answer["data"]["status"], "refreshed");
    let gone = ada.take();
    assert_eq!(
        (&gone[0]["event"], &gone[0]["data"]["reason"]),
        (&json!("presence.left"), &json!("left"))
    );
    assert_eq!(gone[0]["data"]["user_id"], "eve");
    let answer = rig.request(&eve, "get_presence", &json!({"channel": "workflow:1"}));
    assert_eq!(error(&answer), "FORBIDDEN");
    let answer =
        rig.request(&ada, "get_presence", &json!({"channel": "workflow:1", "members": false}));
    assert_eq!(answer["data"], json!({"channel": "workflow:1", "count": 0}));
}

#[test]
fn what_is_refused_leaves_nothing_behind() {
    for shards in [1, 2] {
        let mut config = rooms(Config::default());
        config.limits.presence.presence_members_max = 1;
        config.limits.presence.presence_info_bytes_max = 20;
        let mut rig = Rig::new(shards, config);
        let channel = rig.channel_of(shards - 1);
        let (first, name) = hello(&mut rig, 0);
        attend(&mut rig, &first, &channel, &json!(true));
        let (client, _) = hello(&mut rig, 0);
        let mut ask = |data: Value| {
            let answer = rig.request(&client, "subscribe", &data);
            (answer["error_code"].clone(), answer["error_message"].clone())
        };
        let reason = |reason: Reason| (json!(reason.row().code), json!(reason.row().text));
        let full = ask(json!({"channel": channel, "presence": true}));
        assert_eq!(full, reason(Reason::PresenceFull));
        let info = json!({"info": {"x": "y".repeat(20)}});
        let large = ask(json!({"channel": channel, "presence": info}));
        assert_eq!(large, reason(Reason::PresenceInfo));
        let off = ask(json!({"channel": "x", "presence": "watch"}));
        assert_eq!(off, reason(Reason::PresenceOff));
        let wrong = ask(json!({"channel": channel, "presence": "join"}));
        let (code, text) = reason(Reason::Decode);
        let says = wrong.1.as_str().and_then(|says| says.strip_prefix(text.as_str()?));
        assert_eq!(wrong.0, code);
        assert!(says.is_some_and(|says| says.starts_with(": presence must be ")), "{wrong:?}");
        // What cannot be recovered, for somebody who insists.
        let recover = json!({"epoch": "0000000000", "offset": 5});
        let strict =
            json!({"channel": channel, "presence": "watch", "recover": recover, "strict": true});
        assert_eq!(ask(strict).0, json!(Reason::NotRecovered.row().code));

        assert_eq!(rig.hubs[0].hub().subscriptions(client.conn), 0);
        assert_eq!(members(&mut rig, &client, &channel), [(name.clone(), Value::Null)]);
        for (data, code) in [
            (json!({"channel": "x"}), "FORBIDDEN"),
            (json!({"channel": ""}), "INVALID_CHANNEL"),
            (json!({}), "UNKNOWN_REQUEST"),
            (json!({"channel": channel, "members": 1}), "DECODE_ERROR"),
        ] {
            assert_eq!(error(&rig.request(&client, "get_presence", &data)), code, "{data}");
        }
        // Who watches takes no room.
        attend(&mut rig, &client, &channel, &json!("watch"));
        rig.hang_up(&first);
        assert_eq!(told(&client), [left(&name, "lost")]);
        assert_eq!(attend(&mut rig, &client, &channel, &json!(true)).0, 1);
    }
}

#[test]
fn the_application_has_a_say() {
    let mut config = rooms(Config::default());
    config.hooks.authorize_subscribe = true;
    config.hooks.requests = ["get_presence".into()].into();
    let mut rig = Rig::new(1, config);
    let (client, name) = hello(&mut rig, 0);
    rig.send(&client, &subscribe_message("c", &json!({"info": {"a": 1}})));
    let Some(Output::Authorize { id, .. }) = rig.outputs.pop() else { panic!("a question") };
    rig.hubs[0].handle_command(rig.now, Command::Decide { id, allow: true });
    rig.run();
    let came = client.take();
    assert_eq!(came[0]["data"]["presence"], json!({"count": 1}));
    assert_eq!(came[1]["data"]["connection_id"], name);
    // It may answer by that name itself, and ask what the hub would have answered.
    rig.send(
        &client,
        &json!({"type": "request", "event": "get_presence", "data": {"channel": "c"}}),
    );
    assert!(matches!(rig.outputs.pop(), Some(Output::Request { .. })));
    let mut look = |channel: &str| {
        let look = Look::Presence { members: false, after: None };
        let channel = channel.into();
        let look = Command::Look { id: CommandId(7), channel, look };
        rig.hubs[0].handle_command(rig.now, look);
        rig.run();
        let Some(Output::Looked { id: CommandId(7), result }) = rig.outputs.pop() else {
            panic!("an answer")
        };
        result
    };
    assert_eq!(look("c"), Ok(r#"{"channel":"c","count":1}"#.into()));
    assert_eq!(look("x"), Err(Reason::PresenceOff));
}

/// Who is refused as a member is no subscriber, until it subscribes again: that the application was asked before makes no
/// difference.
#[test]
fn what_the_application_decides_behind_a_refusal_holds() {
    let mut config = rooms(Config::default());
    config.hooks.authorize_subscribe = true;
    config.limits.presence.presence_members_max = 0;
    let mut rig = Rig::new(1, config);
    let (client, _) = hello(&mut rig, 0);
    let plain =
        json!({"type": "request", "event": "subscribe", "id": "p", "data": {"channel": "c"}});
    let decide = |rig: &mut Rig| {
        let asked = std::mem::take(&mut rig.outputs);
        for output in asked {
            if let Output::Authorize { id, .. } = output {
                rig.hubs[0].handle_command(rig.now, Command::Decide { id, allow: true });
            }
        }
        rig.run();
    };
    rig.send(&client, &plain);
    decide(&mut rig);
    assert_eq!(client.take()[0]["data"]["status"], "subscribed");
    rig.send(&client, &subscribe_message("c", &json!(true)));
    rig.send(&client, &plain);
    decide(&mut rig);
    let came = client.take();
    assert_eq!(came.len(), 2, "{came:?}");
    assert_eq!(error(&came[0]), json!(Reason::PresenceFull.row().code));
    assert_eq!(came[1]["data"]["status"], "subscribed");
    assert_eq!(rig.hubs[0].hub().subscriptions(client.conn), 1, "as it was told");
}

/// Subscriptions that overtake each other's confirmations.
#[test]
fn whatever_overtakes_what_the_last_wish_counts() {
    let message = |event: &str, presence: Option<Value>| {
        let mut data = json!({"channel": "C"});
        if let Some(presence) = presence {
            data["presence"] = presence;
        }
        json!({"type": "request", "event": event, "data": data})
    };
    let steps = |channel: &str, messages: &[Value]| {
        let named =
            messages.iter().map(|m| m.to_string().replace("\"C\"", &json!(channel).to_string()));
        named.flat_map(|text| frame(&serde_json::from_str(&text).unwrap())).collect::<Vec<_>>()
    };
    let subscribe = |presence| message("subscribe", Some(presence));
    let plain = || message("subscribe", None);
    let unsubscribe = || message("unsubscribe", None);
    let info = json!({"info": {"a": 1}});
    let cases = [
        (vec![subscribe(json!(true)), subscribe(json!(true))], Some(Value::Null)),
        (vec![subscribe(json!(true)), subscribe(info.clone())], Some(json!({"a": 1}))),
        (vec![plain(), subscribe(info.clone())], Some(json!({"a": 1}))),
        (vec![subscribe(info.clone()), plain()], Some(json!({"a": 1}))),
        (vec![subscribe(info.clone()), subscribe(json!("watch"))], None),
        (
            vec![subscribe(json!(true)), unsubscribe(), subscribe(info.clone())],
            Some(json!({"a": 1})),
        ),
        (
            vec![
                subscribe(json!(true)),
                unsubscribe(),
                subscribe(info.clone()),
                subscribe(json!(true)),
            ],
            Some(Value::Null),
        ),
        (vec![subscribe(json!(true)), subscribe(info), unsubscribe()], None),
        (vec![subscribe(json!(true)), unsubscribe(), plain()], None),
    ];
    for shards in [1, 2] {
        for (number, (messages, expected)) in cases.iter().enumerate() {
            let mut rig = Rig::new(shards, rooms(Config::default()));
            let channel = rig.channel_of(shards - 1);
            let (watcher, _) = hello(&mut rig, 0);
            attend(&mut rig, &watcher, &channel, &json!("watch"));
            let (client, name) = hello(&mut rig, 0);
            rig.bytes(&client, &steps(&channel, messages));
            let there: Vec<_> =
                expected.clone().into_iter().map(|info| (name.clone(), info)).collect();
            assert_eq!(members(&mut rig, &watcher, &channel), there, "case {number}");
            client.take();
            // And it is told who else comes, if it watches.
            let (other, other_name) = hello(&mut rig, 0);
            attend(&mut rig, &other, &channel, &json!(true));
            let watches = expected.is_some() || number == 4;
            let expected = watches.then(|| joined(&other_name));
            assert_eq!(told(&client), expected.into_iter().collect::<Vec<_>>(), "case {number}");
            for client in [&client, &other, &watcher] {
                rig.hang_up(client);
            }
            assert!(rig.hubs.iter().all(|hub| hub.hub().holdings().presence == 0), "case {number}");
        }
    }
}

#[test]
fn a_member_that_asks_for_more_is_there_all_the_time() {
    let mut rig = Rig::new(1, rooms(Config::default()));
    let (watcher, _) = hello(&mut rig, 0);
    attend(&mut rig, &watcher, "c", &json!("watch"));
    let (member, name) = hello(&mut rig, 0);
    attend(&mut rig, &member, "c", &json!(true));
    assert_eq!(told(&watcher), [joined(&name)]);
    let data = json!({"channel": "c", "presence": true, "positions": true});
    let answer = rig.request(&member, "subscribe", &data);
    assert_eq!(answer["data"]["presence"], json!({"count": 1}));
    assert!(answer["data"]["epoch"].is_string(), "{answer}");
    assert_eq!(told(&watcher), []);
    // Recovery in vain, and insisted on: it subscribes no more, and is no member any more.
    let recover = json!({"epoch": "0000000000", "offset": 5});
    let data = json!({"channel": "c", "presence": true, "recover": recover, "strict": true});
    assert_eq!(
        error(&rig.request(&member, "subscribe", &data)),
        json!(Reason::NotRecovered.row().code)
    );
    assert_eq!(told(&watcher), [left(&name, "lost")]);
}

#[test]
fn who_says_nothing_of_presence_attends_as_before() {
    for shards in [1, 2] {
        let mut rig = Rig::new(shards, rooms(silent()));
        let channel = rig.channel_of(shards - 1);
        let (watcher, _) = hello(&mut rig, 0);
        attend(&mut rig, &watcher, &channel, &json!("watch"));
        let (member, name) = hello(&mut rig, 0);
        let session = keep(&mut rig, &member);
        let info = json!({"info": {"a": 1}});
        // Before its home has answered, and behind that.
        let positions = json!({"channel": channel, "positions": true});
        let again = json!({"type": "request", "event": "subscribe", "id": "p", "data": positions});
        let mut both = frame(&subscribe_message(&channel, &info));
        both.extend(frame(&again));
        rig.bytes(&member, &both);
        member.take();
        let answer = rig.request(&member, "subscribe", &positions);
        assert!(answer["data"]["epoch"].is_string(), "{answer}");
        assert_eq!(answer["data"].get("presence"), None, "it did not ask");
        assert_eq!(told(&watcher), [joined(&name)], "{shards} shards");
        let there = vec![(name.clone(), json!({"a": 1}))];
        assert_eq!(members(&mut rig, &watcher, &channel), there);
        let (other, other_name) = hello(&mut rig, 0);
        attend(&mut rig, &other, &channel, &json!(true));
        assert_eq!(told(&member), [joined(&other_name)], "it watches as before");
        rig.hang_up(&other);
        watcher.take();

        // Its session knows.
        rig.hang_up(&member);
        let (again, _) = hello(&mut rig, 0);
        rig.request(&again, "resume_session", &json!({ "session": session }));
        assert_eq!(members(&mut rig, &watcher, &channel), there);
        // Recovery in vain, and insisted on: it subscribes no more, and is no member any more.
        let recover = json!({"epoch": "0000000000", "offset": 5});
        let strict = json!({"channel": channel, "recover": recover, "strict": true});
        let answer = rig.request(&again, "subscribe", &strict);
        assert_eq!(error(&answer), "NOT_RECOVERED");
        assert_eq!(told(&watcher), [left(&name, "lost")]);
        assert_eq!(members(&mut rig, &watcher, &channel), []);
        for client in [&again, &watcher] {
            rig.hang_up(client);
        }
        rig.wait(Duration::from_secs(40));
        assert!(rig.hubs.iter().all(|hub| hub.hub().holdings().presence == 0));
    }
}

#[test]
fn a_reload_can_switch_it_off_and_on() {
    let mut rig = Rig::new(2, rooms(Config::default()));
    let channel = rig.channel_of(1);
    let (member, name) = hello(&mut rig, 0);
    attend(&mut rig, &member, &channel, &json!(true));
    let reload = |rig: &mut Rig, config: Config| {
        let config = Arc::new(config);
        for hub in &mut rig.hubs {
            hub.handle_command(rig.now, Command::Reload(config.clone()));
        }
        rig.run();
    };
    reload(&mut rig, Config::default());
    assert_eq!(told(&member), [left(&name, "left")]);
    let answer = rig.request(&member, "get_presence", &json!({"channel": channel}));
    assert_eq!(error(&answer), "FORBIDDEN");
    reload(&mut rig, rooms(Config::default()));
    assert_eq!(members(&mut rig, &member, &channel), []);
    assert_eq!(attend(&mut rig, &member, &channel, &json!(true)).0, 1);
    rig.hang_up(&member);
    assert!(rig.hubs.iter().all(|hub| hub.hub().holdings().presence == 0));
}

/// Clients may be silent as long as they like.
pub(super) fn silent() -> Config {
    let mut config = Config::default();
    config.limits.wire.ping_interval = None;
    config.limits.wire.connection_timeout = None;
    config
}

/// Keeps a session: its name.
pub(super) fn keep(rig: &mut Rig, client: &Client) -> String {
    let answer = rig.request(client, "keep_session", &json!({"ttl": 30}));
    answer["data"]["session"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// A watcher whose socket takes nothing, with an outbox that is nearly full.
fn stuck(rig: &mut Rig, channel: &str) -> Client {
    let (client, _) = hello(rig, 0);
    attend(rig, &client, channel, &json!("watch"));
    rig.set_room(&client, Some(0));
    let data = json!({"x": "x".repeat(7_500)}).to_string();
    let publication = Publication::new(channel, "e", data);
    rig.hubs[0].handle_command(rig.now, Command::Publish { id: None, publication });
    rig.run();
    client
}

fn with_policy(policy: SlowPolicy) -> Config {
    let mut config = rooms(unlimited());
    config.slow_readers.default = policy;
    config.limits.delivery.outbox_bytes_max = 8 * 1024;
    config
}

#[test]
fn who_has_no_room_is_told_that_it_has_missed_something() {
    for policy in [SlowPolicy::Gap, SlowPolicy::Latest] {
        let mut rig = Rig::new(1, with_policy(policy));
        let slow = stuck(&mut rig, "c");
        let (member, name) = hello(&mut rig, 0);
        attend(&mut rig, &member, "c", &json!({"info": {"x": "x".repeat(700)}}));
        assert!(rig.hubs[0].hub().watchers.has_missed());
        rig.set_room(&slow, None);
        let came: Vec<_> = slow.take().into_iter().filter(|m| m["event"] != "e").collect();
        assert_eq!(came.len(), 1, "{policy:?}: {came:?}");
        assert_eq!(came[0]["event"], "presence.changed");
        assert_eq!(came[0]["data"], json!({"count": null, "joined": null, "left": null}));
        assert!(!rig.hubs[0].hub().watchers.has_missed());
        // From then on it hears everything again.
        rig.hang_up(&member);
        assert_eq!(told(&slow), [left(&name, "lost")]);
    }
}

#[test]
fn who_had_room_all_the_time_is_told_so_in_the_same_turn() {
    // At the channel's home, and elsewhere.
    for shard in 0..2 {
        let mut rig = Rig::new(2, with_policy(SlowPolicy::Gap));
        let (watcher, _) = hello(&mut rig, shard);
        attend(&mut rig, &watcher, "c", &json!("watch"));
        let (member, _) = hello(&mut rig, 0);
        // Both in one turn: the message fills the outbox, which its socket then takes at once.
        let data = json!({"x": "x".repeat(7_500)}).to_string();
        let publication = Publication::new("c", "e", data);
        rig.hubs[0].handle_command(rig.now, Command::Publish { id: None, publication });
        let info = json!({"info": {"x": "x".repeat(700)}});
        rig.bytes(&member, &frame(&subscribe_message("c", &info)));
        let events: Vec<_> = watcher.take().into_iter().map(|m| m["event"].clone()).collect();
        assert_eq!(events, ["e", "presence.changed"], "shard {shard}");
    }
}

#[test]
fn who_has_no_room_is_closed_where_that_is_the_policy() {
    let mut rig = Rig::new(1, with_policy(SlowPolicy::Disconnect));
    let slow = stuck(&mut rig, "c");
    let (member, _) = hello(&mut rig, 0);
    attend(&mut rig, &member, "c", &json!({"info": {"x": "x".repeat(700)}}));
    rig.set_room(&slow, None);
    assert_eq!(slow.take_close(), Some((1013, Reason::SlowReader.row().text.to_owned())));
    assert_eq!(rig.hubs[0].hub().watchers.len(), 1);
}

#[test]
fn a_hub_that_takes_nothing_in_delays_what_is_told_and_hears_it_all_the_same() {
    let mut config = rooms(unlimited());
    config.limits.shards.shard_queue_bytes_max = 20_000;
    let mut rig = Rig::new(2, config);
    let channel = rig.channel_of(0);
    let (near, _) = hello(&mut rig, 0);
    let (far, _) = hello(&mut rig, 1);
    for watcher in [&near, &far] {
        attend(&mut rig, watcher, &channel, &json!("watch"));
    }
    let clients: Vec<_> = (0..30).map(|_| hello(&mut rig, 0).0).collect();
    rig.stalled = Some(1);
    for client in &clients {
        let info = json!({"info": {"x": "x".repeat(900)}});
        rig.send(client, &subscribe_message(&channel, &info));
    }
    assert!(rig.held_bytes() < 25_000, "{}", rig.held_bytes());
    let heard = near.take().len();
    assert!((1..30).contains(&heard), "{heard}");
    let answer = rig.request(&near, "get_presence", &json!({"channel": channel}));
    assert_eq!(error(&answer), "SERVER_ERROR", "what it would be told is not what it has heard");

    rig.stalled = None;
    rig.run();
    let mut mirrors = [&near, &far].map(|_| BTreeMap::new());
    let there: BTreeMap<_, _> = members(&mut rig, &near, &channel).into_iter().collect();
    assert_eq!(there.len(), 30);
    for (mirror, watcher) in mirrors.iter_mut().zip([&near, &far]) {
        rig.hang_up(&clients[0]);
        let list = members(&mut rig, watcher, &channel);
        *mirror = list.into_iter().collect::<BTreeMap<_, _>>();
        assert_eq!(mirror.len(), 29);
    }
}

#[test]
fn a_home_that_takes_nothing_in_is_told_no_more_of_members() {
    let mut config = rooms(unlimited());
    config.limits.shards.shard_queue_bytes_max = 20_000;
    let mut rig = Rig::new(2, config);
    let channel = rig.channel_of(1);
    let clients: Vec<_> = (0..40).map(|_| hello(&mut rig, 0).0).collect();
    rig.stalled = Some(1);
    let info = json!({"info": {"x": "x".repeat(900)}});
    for client in &clients {
        rig.send(client, &subscribe_message(&channel, &info));
    }
    assert!(rig.held_bytes() < 25_000, "{}", rig.held_bytes());
    rig.stalled = None;
    rig.run();
    let answers = clients.iter().map(|client| client.take().remove(0));
    let busy = answers.filter(|answer| answer["error_code"] == "SERVER_ERROR").count();
    assert!((20..30).contains(&busy), "{busy}");
    assert_eq!(members(&mut rig, &clients[0], &channel).len(), 40 - busy);
}

#[test]
fn answers_that_nobody_reads_are_bounded() {
    let mut config = rooms(unlimited());
    config.limits.delivery.outbox_bytes_max = 64 * 1024;
    let mut rig = Rig::new(1, config);
    for _ in 0..40 {
        let (member, _) = hello(&mut rig, 0);
        attend(&mut rig, &member, "c", &json!({"info": {"x": "x".repeat(500)}}));
    }
    let (greedy, _) = hello(&mut rig, 0);
    rig.set_room(&greedy, Some(0));
    let ask = json!({"type": "request", "event": "get_presence", "data": {"channel": "c"}});
    rig.bytes(&greedy, &frame(&ask).repeat(100));
    let (queued, _) = rig.hubs[0].hub().queued(greedy.conn).unwrap();
    assert!(queued < 100 * 1024, "{queued}");
    rig.set_room(&greedy, None);
    let answers = greedy.take();
    assert_eq!(answers.len(), 100);
    let refused = answers.iter().filter(|answer| answer["error_code"] == "RATE_LIMIT_EXCEEDED");
    assert!((90..100).contains(&refused.count()));
}

/// Answers for connections that have gone meanwhile write nothing, and so bring about no other look.
#[test]
fn who_asks_behind_others_that_have_gone_is_answered_in_the_same_turn() {
    let mut config = rooms(unlimited());
    config.limits.delivery.outbox_bytes_max = 8 * 1024;
    let mut rig = Rig::alone_with(config);
    let wish = json!({ "info": { "x": "x".repeat(100) } });
    let members: Vec<_> = (0..20).map(|_| hello(&mut rig, 0).0).collect();
    for member in &members {
        attend(&mut rig, member, "c", &wish);
    }
    let (gone, asks) = (rig.connect(0), rig.connect(0));
    let ask = frame(
        &json!({"type": "request", "event": "get_presence", "id": "q", "data": {"channel": "c"}}),
    );
    for _ in 0..200 {
        rig.hubs[0].handle_bytes(rig.now, gone.conn, &mut ask.clone());
    }
    let mut last = ask;
    rig.hubs[0].handle_bytes(rig.now, asks.conn, &mut last);
    rig.hubs[0].handle_io_error(rig.now, gone.conn, io::ErrorKind::ConnectionReset);
    rig.run();
    let answer = asks.take().pop().expect("an answer");
    assert_eq!(answer["data"]["count"], 20, "{answer}");
}
