//! Hubs with a store: a message is kept before anybody is told of it, and comes back after a restart.

use super::{shards::post, *};
use crate::config::Keep;

/// A rig with a store that holds what it was told to keep.
struct Kept {
    rig: Rig,
    channels: BTreeMap<Arc<str>, StoredChannel>,
    /// Appends that are not answered.
    under_way: Vec<(usize, AppendId, StoreCommand)>,
}

fn config() -> Config {
    Config { store: true, ..Config::default() }
}

impl Kept {
    fn new(shards: u16, config: Config) -> Self {
        Self { rig: Rig::new(shards, config), channels: BTreeMap::new(), under_way: Vec::new() }
    }

    /// Another run of the server, with what the store holds.
    fn restart(self, shards: u16, config: Config) -> Self {
        let mut this = Self::new(shards, config);
        this.rig.now = this.rig.now.plus(Duration::from_secs(1));
        let place = Place { shard: ShardId(0), shards, seed: Seed::from(7) };
        for stored in self.channels.values() {
            let home = Placement::new(place).home(&stored.channel);
            let event = StoreEvent::Channel(stored.clone());
            this.rig.hubs[usize::from(home.0)].handle_store(this.rig.now, event);
        }
        this.channels = self.channels;
        this.rig.run();
        this.take();
        this
    }

    /// What the hubs want kept since this was last asked.
    fn take(&mut self) -> Vec<StoreCommand> {
        let mut commands = Vec::new();
        for output in std::mem::take(&mut self.rig.outputs) {
            let Output::Store(command) = output else { continue };
            commands.push(command);
        }
        for command in &commands {
            match command {
                StoreCommand::Append { id, channel, .. } => {
                    let place = self.rig.hubs[0].hub().place();
                    let home = usize::from(Placement::new(place).home(channel).0);
                    self.under_way.push((home, *id, command.clone()));
                }
                StoreCommand::Trim { channel, oldest } => {
                    if let Some(stored) = self.channels.get_mut(channel) {
                        stored.rounds.retain(|round| round.last() >= *oldest);
                    }
                }
                StoreCommand::Forget { channel } => drop(self.channels.remove(channel)),
                StoreCommand::KeepSession { .. } | StoreCommand::ForgetSession { .. } => {}
            }
        }
        commands
    }

    /// Numbers of the rounds under way, by channel.
    fn rounds(&mut self) -> Vec<(Arc<str>, u64, u32)> {
        self.take();
        let rounds = self.under_way.iter().filter_map(|(_, _, command)| {
            let StoreCommand::Append { channel, round, .. } = command else { return None };
            Some((channel.clone(), round.first, round.count))
        });
        rounds.collect()
    }

    /// The store answers what is under way.
    fn answer(&mut self, kept: bool) {
        self.take();
        for (shard, id, command) in std::mem::take(&mut self.under_way) {
            let StoreCommand::Append { channel, round, epoch, oldest, state, .. } = command else {
                unreachable!()
            };
            if kept {
                let fresh = StoredChannel {
                    channel: channel.clone(),
                    epoch,
                    top: 0,
                    rounds: Vec::new(),
                    state: None,
                };
                let stored = self.channels.entry(channel).or_insert_with(|| fresh.clone());
                if stored.epoch != epoch {
                    *stored = fresh;
                }
                assert_eq!(
                    round.first,
                    stored.top + 1,
                    "numbers have no holes, and none is given out twice"
                );
                stored.top = round.last();
                stored.rounds.push(round);
                stored.rounds.retain(|round| round.last() >= oldest);
                stored.state = state.or_else(|| stored.state.take());
            }
            self.rig.hubs[shard].handle_store(self.rig.now, StoreEvent::Appended { id, kept });
        }
        self.rig.run();
    }

    fn ask_to_publish(&mut self, client: &Client, id: &str, data: &Value) {
        self.rig
            .send(client, &json!({"type": "request", "event": "publish", "id": id, "data": data}));
    }
}

fn message(channel: &str, n: u64) -> Value {
    json!({"channel": channel, "event": "e", "data": {"n": n}})
}

/// Numbers in the data of the events among these.
fn numbers(messages: &[Value]) -> Vec<u64> {
    messages
        .iter()
        .filter(|message| message["event"] == "e" && message["type"] == "event")
        .map(|message| message["data"]["n"].as_u64().unwrap())
        .collect()
}

#[test]
fn nobody_is_told_before_it_is_kept() {
    for shards in [1, 2] {
        let mut kept = Kept::new(shards, config());
        let (publisher, subscriber) = (kept.rig.connect(0), kept.rig.connect(0));
        let channel = kept.rig.channel_of(shards - 1);
        kept.rig.subscribe(&subscriber, &channel);

        kept.ask_to_publish(&publisher, "1", &message(&channel, 1));
        kept.ask_to_publish(&publisher, "2", &message(&channel, 2));
        kept.ask_to_publish(&publisher, "3", &message(&channel, 3));

        assert_eq!((publisher.take().len(), subscriber.take().len()), (0, 0));
        // The others are the next round.
        assert_eq!(kept.rounds(), [(Arc::from(&*channel), 1, 1)]);
        kept.answer(true);
        assert_eq!(
            publisher.take()[0]["data"],
            json!({"status": "published", "channel": channel, "subscribers": 1})
        );
        assert_eq!(numbers(&subscriber.take()), [1]);
        assert_eq!(kept.rounds(), [(Arc::from(&*channel), 2, 2)]);
        kept.answer(true);
        let answers: Vec<_> =
            publisher.take().iter().map(|answer| answer["correlation_id"].clone()).collect();
        assert_eq!(answers, ["2", "3"]);
        assert_eq!(numbers(&subscriber.take()), [2, 3]);
        assert_eq!(kept.rounds(), []);
    }
}

#[test]
fn what_is_not_kept_reaches_nobody_and_uses_up_no_number() {
    for shards in [1, 2] {
        let mut kept = Kept::new(shards, config());
        let (publisher, subscriber) = (kept.rig.connect(0), kept.rig.connect(0));
        let channel = kept.rig.channel_of(shards - 1);
        kept.rig.subscribe(&subscriber, &channel);
        kept.ask_to_publish(&publisher, "1", &message(&channel, 1));
        kept.ask_to_publish(&publisher, "2", &message(&channel, 2));

        kept.answer(false);

        let refused = publisher.take();
        assert_eq!(refused.len(), 1);
        assert_eq!(
            (&refused[0]["correlation_id"], &refused[0]["error_code"]),
            (&json!("1"), &json!("SERVER_ERROR"))
        );
        assert_eq!(refused[0]["error_message"], "The message could not be kept");
        // The next round is tried all the same, under the number that is free again.
        assert_eq!(kept.rounds(), [(Arc::from(&*channel), 1, 1)]);
        kept.answer(true);
        assert_eq!(publisher.take()[0]["data"]["status"], "published");
        assert_eq!(numbers(&subscriber.take()), [2]);
    }
}

#[test]
fn a_request_for_several_channels_waits_for_all_of_them() {
    for shards in [1, 2] {
        let mut kept = Kept::new(shards, config());
        let (a, b) = (kept.rig.channel_of(0), kept.rig.channel_of(shards - 1) + "x");
        let subscriber = kept.rig.connect(0);
        kept.rig.subscribe(&subscriber, &a);
        let body = json!({"messages": [message(&a, 1), message(&b, 2), message(&a, 3)], "idempotency_key": "k"});
        let publisher = kept.rig.socket(0);
        kept.rig.bytes(&publisher, &post(&body.to_string()));

        kept.answer(false);

        assert!(publisher.take_head().starts_with("HTTP/1.1 503 "));
        assert_eq!(numbers(&subscriber.take()), Vec::<u64>::new());
        // Its key can be used again.
        let publisher = kept.rig.socket(0);
        kept.rig.bytes(&publisher, &post(&body.to_string()));
        kept.answer(true);
        assert!(publisher.take_head().starts_with("HTTP/1.1 200 "));
        assert_eq!(numbers(&subscriber.take()), [1, 3]);
        // And is remembered from then on.
        let again = kept.rig.socket(0);
        kept.rig.bytes(&again, &post(&body.to_string()));
        assert!(again.take_head().starts_with("HTTP/1.1 200 "));
        assert_eq!((kept.rounds().len(), numbers(&subscriber.take())), (0, Vec::<u64>::new()));
    }
}

#[test]
fn a_restart_loses_neither_messages_nor_numbers() {
    for (before, after) in [(1, 1), (2, 1), (1, 3)] {
        let mut kept = Kept::new(before, config());
        let client = kept.rig.connect(0);
        let channel = "workflow:42";
        let positions = json!({"channel": channel, "positions": true});
        let start = kept.rig.request(&client, "subscribe", &positions)["data"].clone();
        for n in 1..=5 {
            kept.ask_to_publish(&client, "p", &message(channel, n));
            kept.answer(true);
        }
        let events: Vec<_> =
            client.take().into_iter().filter(|message| message["event"] == "e").collect();
        assert_eq!(numbers(&events), [1, 2, 3, 4, 5]);

        let mut kept = kept.restart(after, config());

        let client = kept.rig.connect(0);
        let recover = json!({"channel": channel, "recover": {"epoch": start["epoch"], "offset": 2, "id": events[1]["id"]}});
        let answer = kept.rig.request(&client, "subscribe", &recover);
        assert_eq!(
            (&answer["data"]["recovered"], &answer["data"]["missed"]),
            (&json!(true), &json!(3)),
            "{answer}"
        );
        let client = kept.rig.connect(0);
        kept.rig.send(
            &client,
            &json!({"type": "request", "event": "subscribe", "id": "s", "data": recover}),
        );
        let missed = client.take();
        assert_eq!(missed[1..], events[2..], "the same events, with their ids, times and offsets");
        kept.ask_to_publish(&client, "p", &message(channel, 6));
        kept.answer(true);
        let new = client.take();
        let event = new.iter().find(|message| message["event"] == "e").unwrap();
        assert_eq!((&event["offset"], &event["data"]), (&json!(6), &json!({"n": 6})));
    }
}

#[test]
fn documents_come_back_and_are_compared_in_the_order_of_publishing() {
    let off = || {
        let mut config = config();
        config.history.default = Keep::OFF;
        config
    };
    for (without, config) in [(false, config as fn() -> Config), (true, off as fn() -> Config)] {
        let mut kept = Kept::new(1, config());
        let client = kept.rig.connect(0);
        let with = |n: u64, offset: u64| json!({"channel": "c", "event": "e", "data": {"n": n}, "state": {"n": n}, "if_offset": offset, "positions": true});
        // All before the store has answered any.
        kept.ask_to_publish(&client, "1", &with(1, 0));
        kept.ask_to_publish(&client, "2", &with(2, 0));
        kept.ask_to_publish(&client, "3", &with(3, 1));
        kept.ask_to_publish(&client, "4", &message("c", 4));
        kept.answer(true);
        kept.answer(true);
        let answers = client.take();
        let of = |id: &str| answers.iter().find(|answer| answer["correlation_id"] == id).unwrap();
        assert_eq!(
            (&of("1")["data"]["offset"], &of("3")["data"]["offset"]),
            (&json!(1), &json!(2))
        );
        assert_eq!(
            (&of("2")["error_code"], &of("4")["data"]["status"]),
            (&json!("CONFLICT"), &json!("published"))
        );

        let mut kept = kept.restart(1, config());

        let client = kept.rig.connect(0);
        let state =
            kept.rig.request(&client, "get_state", &json!({"channel": "c"}))["data"].clone();
        assert_eq!((&state["offset"], &state["state"]), (&json!(2), &json!({"n": 3})));
        assert_eq!(state["epoch"], of("1")["data"]["epoch"]);
        kept.ask_to_publish(&client, "5", &with(5, 2));
        kept.answer(true);
        let answer = client.take();
        assert_eq!(answer.last().unwrap()["data"]["offset"], 4, "{answer:?}");
        // What is not to be kept is not, but numbers go on.
        assert_eq!(kept.channels["c"].rounds.is_empty(), without);
    }
}

#[test]
fn too_much_that_waits_is_refused() {
    let mut config = config();
    config.limits.history.store_queue_bytes_max = 1000;
    let mut kept = Kept::new(1, config);
    let client = kept.rig.connect(0);
    for n in 0..10 {
        kept.ask_to_publish(&client, "p", &message("c", n));
    }
    let refused = client.take();
    assert!(
        !refused.is_empty()
            && refused.iter().all(|answer| answer["error_message"] == "Server busy"),
        "{refused:?}"
    );
    let taken = 10 - refused.len();
    kept.answer(true);
    kept.answer(true);
    assert_eq!(client.take().len(), taken);
    kept.ask_to_publish(&client, "p", &message("c", 11));
    kept.answer(true);
    assert_eq!(client.take()[0]["data"]["status"], "published");
}

#[test]
fn what_is_too_old_or_forgotten_leaves_the_store() {
    let mut config = config();
    config.history.default = Keep { messages: 10, time: Duration::from_secs(60) };
    config.limits.history.position_keep = Duration::from_secs(600);
    let mut kept = Kept::new(1, config.clone());
    let client = kept.rig.connect(0);
    kept.ask_to_publish(&client, "p", &message("c", 1));
    kept.answer(true);
    kept.rig.wait(Duration::from_secs(62));
    let commands = kept.take();
    assert_eq!(commands, [StoreCommand::Trim { channel: "c".into(), oldest: 2 }]);
    let mut kept = kept.restart(1, config);
    kept.rig.wait(Duration::from_secs(602));
    assert_eq!(kept.take(), [StoreCommand::Forget { channel: "c".into() }]);
    assert_eq!(kept.channels.len(), 0);
}

#[test]
fn what_a_damaged_record_hides_is_not_recovered_over() {
    let mut kept = Kept::new(1, config());
    let client = kept.rig.connect(0);
    for n in 1..=3 {
        kept.ask_to_publish(&client, "p", &message("c", n));
        kept.answer(true);
    }
    let stored = kept.channels.get_mut("c").unwrap();
    stored.rounds[1].records = vec![9, 9].into();
    let mut kept = kept.restart(1, config());
    let client = kept.rig.connect(0);
    let history = kept.rig.request(&client, "get_history", &json!({"channel": "c", "limit": 10}));
    let events = history["data"]["events"].as_array().unwrap();
    assert_eq!(
        (events.len(), &events[0]["offset"], &history["data"]["offset"]),
        (1, &json!(3), &json!(3))
    );
}

#[test]
fn what_was_stored_together_comes_back_in_rounds_of_the_usual_size() {
    let mut config = config();
    config.limits.delivery.round_bytes_max = 500;
    config.limits.history.history_channel_bytes_max = 2_000;
    let mut kept = Kept::new(1, config.clone());
    let client = kept.rig.connect(0);
    for n in 1..=9 {
        kept.ask_to_publish(&client, "p", &message("c", n));
    }
    kept.answer(true);
    // All that came while the first was written.
    assert_eq!(kept.rounds(), [(Arc::from("c"), 2, 8)]);
    kept.answer(true);
    let read = |kept: &mut Kept| {
        let client = kept.rig.connect(0);
        let wish = json!({"channel": "c", "limit": 10});
        let history = kept.rig.request(&client, "get_history", &wish);
        history["data"]["events"].clone()
    };
    let before = read(&mut kept);
    assert!(!before.as_array().unwrap().is_empty());

    let mut kept = kept.restart(1, config);

    assert_eq!(read(&mut kept), before);
}

#[test]
fn behind_a_channels_first_document_its_other_messages_wait_as_well() {
    let mut config = config();
    config.history.default = Keep::OFF;
    // Each message is a round of its own.
    config.limits.delivery.round_bytes_max = 1;
    let mut kept = Kept::new(1, config);
    let subscriber = kept.rig.connect(0);
    kept.rig.subscribe(&subscriber, "c");
    let mut first = message("c", 1);
    first["state"] = json!({"n": 1});
    let body = json!({"messages": [first, message("c", 2)]});
    let publisher = kept.rig.socket(0);
    kept.rig.bytes(&publisher, &post(&body.to_string()));

    kept.answer(true);
    assert_eq!(numbers(&subscriber.take()), [1]);
    assert_eq!(publisher.take_text(), "", "the second is not kept yet");
    kept.answer(true);

    assert_eq!(numbers(&subscriber.take()), [2]);
    let answer = publisher.take_text();
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"subscribers\":2"),
        "{answer}"
    );
}

#[test]
fn a_document_on_its_way_is_not_forgotten_with_the_messages_before_it() {
    let mut kept = Kept::new(1, config());
    let client = kept.rig.connect(0);
    kept.ask_to_publish(&client, "1", &message("c", 1));
    kept.answer(true);
    let mut with = message("c", 2);
    with["state"] = json!({"n": 2});
    kept.ask_to_publish(&client, "2", &with);
    let mut off = config();
    off.history.default = Keep::OFF;
    let reload = Command::Reload(Arc::new(off.clone()));
    kept.rig.hubs[0].handle_command(kept.rig.now, reload);
    kept.rig.run();

    let commands = kept.take();
    let appended = |command: &StoreCommand| matches!(command, StoreCommand::Append { .. });
    assert!(commands.iter().any(appended), "{commands:?}");
    let forgets = |command: &StoreCommand| matches!(command, StoreCommand::Forget { .. });
    assert!(!commands.iter().any(forgets), "{commands:?}");
    kept.answer(true);

    let mut kept = kept.restart(1, off);
    let client = kept.rig.connect(0);
    let state = kept.rig.request(&client, "get_state", &json!({"channel": "c"}));
    assert_eq!((&state["data"]["offset"], &state["data"]["state"]), (&json!(2), &json!({"n": 2})));
}
