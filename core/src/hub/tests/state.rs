//! Channels' documents: kept with a message, asked for, compared before they are replaced.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::{shards::post, *};
use crate::config::Keep;

/// What a publish of a document with `n` in it asks.
fn with_state(channel: &str, n: u64) -> Value {
    json!({"channel": channel, "event": "e", "data": {"n": n}, "state": {"n": n}})
}

fn only_if(mut data: Value, offset: u64) -> Value {
    data["if_offset"] = offset.into();
    data
}

fn without_history() -> Config {
    let mut config = Config::default();
    config.history.default = Keep::OFF;
    config
}

impl Rig {
    /// Epoch, offset and document of a channel.
    fn state(&mut self, client: &Client, channel: &str) -> (Value, u64, Value) {
        let answer = self.request(client, "get_state", &json!({"channel": channel}));
        let data = &answer["data"];
        assert_eq!((&answer["event"], &data["channel"]), (&json!("get_state"), &json!(channel)));
        let offset = data["offset"].as_u64().expect("an offset");
        (data["epoch"].clone(), offset, data["state"].clone())
    }

    fn post(&mut self, shard: usize, body: &Value) -> (u16, Value) {
        let socket = self.socket(shard);
        self.bytes(&socket, &post(&body.to_string()));
        let head = socket.take_head();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.expect("a status"), serde_json::from_str(&socket.take_text()).unwrap())
    }
}

#[test]
fn a_document_comes_with_a_message_and_stays() {
    for shards in [1, 2] {
        let mut rig = Rig::new(shards, Config::default());
        let client = rig.connect(0);
        let channel = rig.channel_of(shards - 1);
        rig.subscribe(&client, &channel);
        let (epoch, offset, state) = rig.state(&client, &channel);
        assert_eq!((offset, state), (0, Value::Null));

        rig.send(
            &client,
            &json!({"type": "request", "event": "publish", "id": "p", "data": with_state(&channel, 1)}),
        );

        let messages = client.take();
        let answer = messages.iter().find(|message| message["correlation_id"] == "p").unwrap();
        let expected = json!({"status": "published", "channel": channel, "subscribers": 1,
            "epoch": epoch, "offset": 1});
        assert_eq!(answer["data"], expected);
        let event = messages.iter().find(|message| message["event"] == "e").unwrap();
        assert_eq!(event["data"], json!({"n": 1}), "the document is not the message");
        assert_eq!(event.as_object().unwrap().len(), 9);
        rig.publish(usize::from(shards) - 1, &channel, 2);
        rig.run();
        assert_eq!(rig.state(&client, &channel), (epoch, 1, json!({"n": 1})));
    }
}

#[test]
fn a_document_is_replaced_only_by_who_knows_it() {
    for shards in [1, 2] {
        let mut rig = Rig::new(shards, Config::default());
        let client = rig.connect(0);
        let channel = rig.channel_of(shards - 1);
        rig.subscribe(&client, &channel);
        let mut publish = |data: &Value| {
            let answer = rig.request(&client, "publish", data);
            (answer["error_code"].clone(), answer["data"]["offset"].clone())
        };
        let (conflict, none) = ((json!("CONFLICT"), Value::Null), Value::Null);

        assert_eq!(publish(&only_if(with_state(&channel, 1), 1)), conflict, "there is none");
        assert_eq!(publish(&only_if(with_state(&channel, 2), 0)), (none.clone(), json!(1)));
        assert_eq!(publish(&only_if(with_state(&channel, 3), 0)), conflict, "there is one");
        assert_eq!(publish(&with_state(&channel, 4)), (none.clone(), json!(2)));
        assert_eq!(publish(&only_if(with_state(&channel, 5), 1)), conflict, "another one by now");
        let plain = json!({"channel": channel, "event": "e", "data": {"n": 6}});
        assert_eq!(publish(&only_if(plain.clone(), 1)), conflict, "also without one of its own");
        assert_eq!(publish(&only_if(plain, 2)), (none.clone(), json!(3)));
        assert_eq!(publish(&only_if(with_state(&channel, 7), 2)), (none, json!(4)));

        assert_eq!(rig.state(&client, &channel).2, json!({"n": 7}));
        let history = rig.request(&client, "get_history", &json!({"channel": channel}));
        let events = history["data"]["events"].as_array().unwrap();
        let numbers: Vec<_> = events.iter().map(|event| event["data"]["n"].clone()).collect();
        assert_eq!(numbers, [2, 4, 6, 7], "what was refused was sent to nobody");
    }
}

#[test]
fn a_condition_may_name_the_epoch() {
    let mut rig = Rig::alone();
    let client = rig.connect(0);
    rig.request(&client, "publish", &with_state("a", 1));
    let (epoch, offset, _) = rig.state(&client, "a");
    let mut data = only_if(with_state("a", 2), offset);
    data["if_epoch"] = json!("0000000000");
    assert_eq!(rig.request(&client, "publish", &data)["error_code"], "CONFLICT");
    data["if_epoch"] = epoch;
    assert_eq!(rig.request(&client, "publish", &data)["data"]["offset"], 2);
}

#[test]
fn without_history_and_subscribers_a_document_founds_its_channel() {
    let mut config = without_history();
    config.limits.history.position_keep = Duration::from_secs(60);
    let mut rig = Rig::new(2, config);
    let socket = rig.socket(1);
    let channel = rig.channel_of(0);
    let publish = |rig: &mut Rig, body: &Value| rig.post(1, body).1["messages"][0].clone();
    let plain = json!({"channel": channel, "event": "e", "positions": true});
    let nowhere = json!({"channel": channel, "subscribers": 0, "epoch": null, "offset": 0});
    assert_eq!(publish(&mut rig, &plain), nowhere, "it has no numbers");
    assert_eq!(publish(&mut rig, &only_if(plain.clone(), 0)), nowhere, "nor a document");

    let first = publish(&mut rig, &with_state(&channel, 1));
    assert_eq!(first["offset"], 1);
    rig.wait(Duration::from_secs(59));
    let second = publish(&mut rig, &plain);
    assert_eq!((&second["epoch"], &second["offset"]), (&first["epoch"], &json!(2)));
    // Its time is counted from the last message.
    rig.wait(Duration::from_secs(59));
    let watcher = rig.connect(0);
    assert_eq!(rig.state(&watcher, &channel), (first["epoch"].clone(), 1, json!({"n": 1})));
    rig.wait(Duration::from_secs(3));

    assert_eq!(rig.state(&watcher, &channel), (Value::Null, 0, Value::Null));
    assert_eq!(rig.hubs[0].hub().homes.kept_bytes(), 0);
    rig.hang_up(&socket);
}

#[test]
fn a_document_lives_with_its_subscribers_and_a_while_after_them() {
    let mut config = without_history();
    config.limits.history.position_keep = Duration::from_secs(60);
    let mut rig = Rig::new(1, config);
    let (subscriber, asker) = (rig.connect(0), rig.connect(0));
    rig.subscribe(&subscriber, "a");
    rig.request(&asker, "publish", &with_state("a", 1));
    for _ in 0..10 {
        rig.wait(Duration::from_secs(15));
        rig.send(&subscriber, &json!({"type": "ping"}));
        rig.send(&asker, &json!({"type": "ping"}));
    }
    assert_eq!(rig.state(&asker, "a").2, json!({"n": 1}));

    rig.request(&subscriber, "unsubscribe", &json!({"channel": "a"}));
    rig.wait(Duration::from_secs(15));
    assert_eq!(rig.state(&asker, "a").2, json!({"n": 1}));
    rig.send(&asker, &json!({"type": "ping"}));
    for _ in 0..4 {
        rig.wait(Duration::from_secs(12));
        rig.send(&asker, &json!({"type": "ping"}));
    }

    assert_eq!(rig.state(&asker, "a").2, Value::Null);
}

#[test]
fn documents_are_bounded_together_with_logs() {
    let mut config = without_history();
    config.limits.history.history_bytes_max = 20_000;
    let mut rig = Rig::new(1, config);
    let client = rig.connect(0);
    rig.subscribe(&client, "live");
    let state = |channel: &str| json!({"channel": channel, "event": "e", "state": {"x": "x".repeat(3_000)}});
    let has = |rig: &mut Rig, channel: &str| rig.state(&client, channel).1 > 0;
    for channel in ["live", "b", "c", "d", "e"] {
        rig.request(&client, "publish", &state(channel));
    }
    assert!(["live", "b", "c", "d", "e"].iter().all(|channel| has(&mut rig, channel)));

    // Who was published to longest ago goes first, and who has subscribers last.
    rig.request(&client, "publish", &json!({"channel": "b", "event": "e"}));
    rig.request(&client, "publish", &state("f"));
    let left = ["live", "b", "c", "d", "e", "f"].map(|channel| has(&mut rig, channel));
    assert_eq!(left, [true, true, false, true, true, true]);

    // One that was forgotten can be founded again.
    let answer = rig.request(&client, "publish", &only_if(state("c"), 0));
    assert_eq!(answer["data"]["offset"], 1);
    // A single large one drives out all others, and then stays alone.
    for (n, channel) in ["live", "g"].into_iter().enumerate() {
        let large =
            json!({"channel": channel, "event": "e", "state": {"x": "x".repeat(15_000 + n)}});
        rig.request(&client, "publish", &large);
    }
    let left = ["live", "b", "c", "d", "e", "f", "g"].map(|channel| has(&mut rig, channel));
    assert_eq!(left, [false, false, false, false, false, false, true]);
}

#[test]
fn a_document_that_is_too_large_is_refused_with_its_message() {
    let mut config = Config::default();
    config.limits.history.state_bytes_max = 16;
    let mut rig = Rig::new(1, config);
    let client = rig.connect(0);
    rig.subscribe(&client, "a");
    let fits = json!({"channel": "a", "event": "e", "data": {"n": 1}, "state": {"x": "12345678"}});
    let mut larger = fits.clone();
    larger["state"]["x"] = "123456789".into();

    let refused = rig.request(&client, "publish", &larger);
    let over_http = rig.post(0, &json!([fits, larger]));
    let taken = rig.request(&client, "publish", &fits);

    assert_eq!(refused["error_code"], "DECODE_ERROR");
    assert_eq!(refused["error_message"], Reason::StateTooBig.row().text);
    assert_eq!((over_http.0, &over_http.1["error_code"]), (413, &json!("DECODE_ERROR")));
    assert_eq!(taken["data"]["offset"], 1, "the others have left no trace");
}

/// All or none, whatever hubs they are at home in.
#[test]
fn a_batch_hangs_on_the_condition_of_its_first_message() {
    let mut rig = Rig::new(2, Config::default());
    let (near, far) = (rig.channel_of(0), rig.channel_of(1));
    let subscriber = rig.connect(0);
    for channel in [&near, &far] {
        rig.subscribe(&subscriber, channel);
    }
    for first in [&near, &far] {
        let batch = |offset: u64, n: u64| {
            json!([
                only_if(with_state(first, n), offset),
                {"channel": near, "event": "e", "data": {"n": n + 1}},
                {"channel": far, "event": "e", "data": {"n": n + 2}, "positions": true},
                with_state(first, n + 3),
            ])
        };
        assert_eq!(rig.post(0, &batch(7, 10)).0, 409);
        assert_eq!(subscriber.take_numbers(), Vec::<u64>::new());

        let (status, answer) = rig.post(0, &batch(0, 20));

        assert_eq!((status, &answer["published"]), (200, &json!(4)), "{answer}");
        let mut numbers = subscriber.take_numbers();
        numbers.sort_unstable();
        assert_eq!(numbers, [20, 21, 22, 23]);
        let messages = answer["messages"].as_array().unwrap();
        let channels: Vec<_> = messages.iter().map(|message| &message["channel"]).collect();
        assert_eq!(channels, [first, &near, &far, first]);
        assert_eq!(messages[1], json!({"channel": near, "subscribers": 1}));
        assert!(messages[2]["offset"].is_u64() && messages[3]["offset"].is_u64());
        let (_, offset, state) = rig.state(&subscriber, first);
        assert_eq!((json!(offset), state), (messages[3]["offset"].clone(), json!({"n": 23})));
    }
    let late = json!([{"channel": "a", "event": "e"}, only_if(with_state("a", 1), 0)]);
    let (status, answer) = rig.post(0, &late);
    assert_eq!(status, 400);
    assert_eq!(answer["error_message"], "message 1: only the first message may have an if_offset");
}

#[test]
fn a_conflict_does_not_use_a_key_up_and_an_answer_keeps_its_position() {
    let mut rig = Rig::new(2, Config::default());
    let client = rig.connect(0);
    let channel = rig.channel_of(1);
    let mut data = only_if(with_state(&channel, 1), 1);
    data["idempotency_key"] = "k".into();
    assert_eq!(rig.request(&client, "publish", &data)["error_code"], "CONFLICT");

    data["if_offset"] = 0.into();
    let first = rig.request(&client, "publish", &data);
    let again = rig.request(&client, "publish", &data);
    let (_, over_http) = rig.post(1, &data);

    assert_eq!(first["data"]["offset"], 1, "{first}");
    assert_eq!(again["data"], first["data"]);
    let place = |data: &Value| (data["epoch"].clone(), data["offset"].clone());
    assert_eq!(place(&over_http["messages"][0]), place(&first["data"]));
    assert_eq!(rig.state(&client, &channel).1, 1);
}

#[cfg(feature = "jwt")]
#[test]
fn a_document_is_for_those_who_may_subscribe() {
    let mut rig = Rig::new(1, with_auth());
    let header = |token: String| format!("Authorization: Bearer {token}\r\n");
    let reader = rig.connect_with(0, &header(token("ada", &["workflow:read"])));
    let writer = rig.connect_with(0, &header(token("bob", &["workflow:write"])));
    assert_eq!((reader.take().len(), writer.take().len()), (1, 1));
    rig.request(&writer, "publish", &with_state("workflow:1", 1));

    assert_eq!(rig.state(&reader, "workflow:1").2, json!({"n": 1}));
    let asks = json!({"channel": "workflow:1"});
    assert_eq!(rig.request(&writer, "get_state", &asks)["error_code"], "FORBIDDEN");
    let invalid = rig.request(&reader, "get_state", &json!({"channel": ""}));
    assert_eq!(invalid["error_code"], "INVALID_CHANNEL");
}

#[test]
fn another_services_get_state_is_the_applications_or_unknown() {
    let mut rig = Rig::alone();
    let client = rig.connect(0);
    let theirs = json!({"state_path": "a.b"});
    assert_eq!(rig.request(&client, "get_state", &theirs)["error_code"], "UNKNOWN_REQUEST");
    let mut config = Config::default();
    config.hooks.requests.insert("get_state".into());
    let mut rig = Rig::new(1, config);
    let client = rig.connect(0);
    for data in [theirs, json!({"channel": "a"})] {
        rig.send(&client, &json!({"type": "request", "event": "get_state", "data": data}));
        let asked = rig.outputs.pop();
        assert!(matches!(asked, Some(Output::Request { event, .. }) if &*event == "get_state"));
    }
}

#[test]
fn the_application_publishes_and_asks_too() {
    let mut rig = Rig::new(2, Config::default());
    let channel = rig.channel_of(1);
    let command = |rig: &mut Rig, id: u64, state: &str, condition: Option<Condition>| {
        let state = Some(state.to_owned().into());
        let options = PublicationOptions { state, condition, ..<_>::default() };
        let publication = Publication {
            options: Some(Box::new(options)),
            ..Publication::new(&*channel, "e", "{}")
        };
        let command = Command::Publish { id: Some(CommandId(id)), publication };
        rig.hubs[0].handle_command(rig.now, command);
        rig.run();
        match rig.outputs.pop() {
            Some(Output::Done { result, .. }) => result,
            other => panic!("{other:?}"),
        }
    };
    let first = command(&mut rig, 1, r#"{"n":1}"#, None).unwrap();
    assert_eq!(first.position().map(|position| position.offset), Some(1));
    let stale = Condition { offset: 7, epoch: None };
    assert_eq!(command(&mut rig, 2, r#"{"n":2}"#, Some(stale)), Err(Reason::StateConflict));
    let mine = Condition { offset: first.offset, epoch: first.epoch };
    assert_eq!(command(&mut rig, 3, r#"{"n":3}"#, Some(mine)).map(|done| done.offset), Ok(2));
    assert_eq!(command(&mut rig, 4, "[]", None), Err(Reason::BadPublish));

    let look = Command::Look { id: CommandId(5), channel: (*channel).into(), look: Look::State };
    rig.hubs[0].handle_command(rig.now, look);
    rig.run();

    let Some(Output::Looked { id: CommandId(5), result: Ok(json) }) = rig.outputs.pop() else {
        panic!("not answered");
    };
    let seen: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!((&seen["offset"], &seen["state"]), (&json!(2), &json!({"n": 3})));
}

/// A publisher that replaces the document by a successor of the one that it has seen.
struct Writer {
    client: Client,
    seen: (u64, u64),
    /// What it waits for, and what it has asked for.
    waits: Option<(bool, u64)>,
}

/// Hubs whose turns, and whose mail, come in any order that the contract allows.
struct Race {
    rig: Rig,
    channels: Vec<String>,
    writers: Vec<Vec<Writer>>,
    mail: BTreeMap<(usize, usize), VecDeque<Vec<ShardMessage>>>,
    /// By channel: the number of each accepted message, of the document that it replaced, and what it says.
    accepted: Vec<Vec<(u64, u64, u64)>>,
    refused: usize,
}

impl Race {
    fn new() -> Self {
        let mut rig = Rig::new(2, unlimited());
        let channels = vec![rig.channel_of(0), rig.channel_of(1)];
        let writers = channels
            .iter()
            .map(|_| {
                let clients = [0, 1, 0, 1].map(|shard| rig.connect(shard));
                clients.map(|client| Writer { client, seen: (0, 0), waits: None }).into()
            })
            .collect();
        let accepted = vec![Vec::new(); 2];
        Self { rig, channels, writers, mail: BTreeMap::new(), accepted, refused: 0 }
    }

    /// The writer asks for the next thing, if it is not waiting for an answer.
    fn write(&mut self, channel: usize, writer: usize) {
        let name = self.channels[channel].clone();
        let Writer { client, seen, waits } = &mut self.writers[channel][writer];
        if waits.is_some() {
            return;
        }
        let ((offset, n), publishes) = (*seen, writer != 3);
        *waits = Some((publishes, n + 1));
        let data = match publishes {
            true => only_if(with_state(&name, n + 1), offset),
            // One says something now and then that leaves the document alone.
            false => json!({"channel": name, "event": "e"}),
        };
        let request = json!({"type": "request", "event": "publish", "data": data});
        let (conn, shard) = (client.conn, client.shard);
        self.rig.hubs[shard].handle_bytes(self.rig.now, conn, &mut frame(&request));
    }

    fn turn(&mut self, shard: usize) {
        for (from, to, batch) in self.rig.turn(shard) {
            self.mail.entry((from, usize::from(to.0))).or_default().push_back(batch);
        }
    }

    fn deliver(&mut self, from: usize, to: usize) {
        let batch = self.mail.get_mut(&(from, to)).and_then(VecDeque::pop_front);
        if let Some(batch) = batch {
            self.rig.hubs[to].handle_shard(self.rig.now, ShardId(from as u16), batch);
        }
    }

    /// What the writer was told.
    fn hear(&mut self, channel: usize, writer: usize) {
        let name = &self.channels[channel];
        let Writer { client, seen, waits } = &mut self.writers[channel][writer];
        for message in client.take() {
            let data = &message["data"];
            if message["event"] == "get_state" {
                let n = data["state"]["n"].as_u64().unwrap_or(0);
                (*seen, *waits) = ((data["offset"].as_u64().unwrap(), n), None);
            } else if message["error_code"] == "CONFLICT" {
                self.refused += 1;
                let ask =
                    json!({"type": "request", "event": "get_state", "data": {"channel": name}});
                let (conn, shard) = (client.conn, client.shard);
                self.rig.hubs[shard].handle_bytes(self.rig.now, conn, &mut frame(&ask));
            } else {
                assert_eq!(data["status"], "published", "{message}");
                let (publishes, n) = waits.take().expect("a request");
                if publishes {
                    let offset = data["offset"].as_u64().unwrap();
                    self.accepted[channel].push((offset, seen.0, n));
                    *seen = (offset, n);
                }
            }
        }
    }

    fn step(&mut self, choice: u8) {
        let (channel, writer) = (usize::from(choice >> 3 & 1), usize::from(choice >> 4 & 3));
        match choice & 7 {
            0..=2 => self.write(channel, writer),
            3 => self.turn(0),
            4 => self.turn(1),
            5 => self.deliver(0, 1),
            6 => self.deliver(1, 0),
            _ => self.hear(channel, writer),
        }
    }

    /// Everything that is under way comes to its end.
    fn settle(&mut self) {
        for _ in 0..1000 {
            (0..2).for_each(|shard| self.turn(shard));
            let under_way: usize = self.mail.values().map(VecDeque::len).sum();
            self.deliver(0, 1);
            self.deliver(1, 0);
            for (channel, writer) in [0, 1].into_iter().flat_map(|c| [0, 1, 2, 3].map(|w| (c, w))) {
                self.hear(channel, writer);
            }
            let waits = self.writers.iter().flatten().any(|writer| writer.waits.is_some());
            if under_way == 0 && !waits {
                return;
            }
        }
        panic!("it does not come to an end");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_publisher_overwrites_what_it_has_not_seen(choices in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut race = Race::new();
        for choice in choices {
            race.step(choice);
        }
        race.settle();
        let reader = race.rig.connect(0);
        for (channel, mut accepted) in race.channels.clone().iter().zip(race.accepted.clone()) {
            accepted.sort_unstable();
            // Each saw its predecessor: the numbers form a chain, and what they say counts up.
            let mut last = (0, 0);
            for (offset, replaced, n) in accepted {
                prop_assert_eq!((replaced, n), (last.0, last.1 + 1), "{}", channel);
                last = (offset, n);
            }
            let (_, offset, state) = race.rig.state(&reader, channel);
            prop_assert_eq!((offset, state["n"].as_u64().unwrap_or(0)), last);
        }
    }
}

/// Without this the property could hold because nobody ever met another.
#[test]
fn publishers_do_meet() {
    let mut race = Race::new();
    for round in 0..20 {
        (0..3).for_each(|writer| race.write(round % 2, writer));
        race.settle();
    }
    assert!(race.refused >= 20, "{}", race.refused);
    assert!(race.accepted.iter().all(|accepted| accepted.len() >= 10));
}
