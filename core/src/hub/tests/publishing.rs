//! What a publish carries besides its message.

use super::{shards::post, *};

/// What a publish of `n` to `channel` under a key asks.
fn keyed(channel: &str, key: &str, n: u64) -> Value {
    json!({"channel": channel, "event": "e", "data": {"n": n}, "idempotency_key": key})
}

/// What an answer says, without what each answer has of its own.
fn said(mut answer: Value) -> Value {
    for name in ["id", "timestamp"] {
        answer.as_object_mut().unwrap().remove(name);
    }
    answer
}

#[test]
fn a_message_under_a_key_is_published_once_and_answered_alike() {
    for shards in [1, 3] {
        let mut rig = Rig::new(shards, Config::default());
        let subscriber = rig.connect(0);
        rig.subscribe(&subscriber, "a");
        let mut answers = Vec::new();
        for shard in 0..usize::from(shards) {
            // Clients of this machine are one owner.
            for client in [rig.connect(shard), rig.connect(shard)] {
                answers.push(said(rig.request(&client, "publish", &keyed("a", "k", 1))));
            }
        }
        let expected = json!({"status": "published", "channel": "a", "subscribers": 1});
        assert_eq!(answers[0]["data"], expected);
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        assert_eq!(subscriber.take_numbers(), [1]);
    }
}

#[test]
fn a_key_used_for_something_else_is_refused() {
    let mut rig = Rig::alone();
    let client = rig.connect(0);
    rig.subscribe(&client, "a");
    rig.request(&client, "publish", &keyed("a", "k", 1));
    let mut with_positions = keyed("a", "k", 1);
    with_positions["positions"] = true.into();
    for other in [keyed("a", "k", 2), keyed("b", "k", 1), with_positions] {
        let answer = rig.request(&client, "publish", &other);
        assert_eq!(answer["error_code"], "DECODE_ERROR", "{answer}");
        assert_eq!(answer["error_message"], Reason::KeyReused.row().text);
    }
    assert_eq!(client.take_numbers(), Vec::<u64>::new());
}

#[test]
fn a_key_is_the_same_over_http_for_the_same_message() {
    let mut rig = Rig::new(2, Config::default());
    let client = rig.connect(0);
    rig.subscribe(&client, "a");
    let post_again = |rig: &mut Rig, body: &str| {
        let socket = rig.socket(1);
        rig.bytes(&socket, &post(body));
        (socket.take_head().split(' ').nth(1).map(str::to_owned), socket.take_text())
    };
    let over_http = json!([{"channel": "a", "event": "e", "data": {"n": 1}}]);
    let over_http = json!({"messages": over_http, "idempotency_key": "k"}).to_string();

    rig.send(&client, &json!({"type": "request", "event": "publish", "data": keyed("a", "k", 1)}));
    let first = post_again(&mut rig, &over_http);
    let second = post_again(&mut rig, &keyed("a", "k", 1).to_string());
    let other = post_again(&mut rig, &keyed("a", "k", 2).to_string());
    let spaced = post_again(&mut rig, &over_http.replace(r#"{"n":1}"#, r#"{"n": 1}"#));

    let body = r#"{"status":"published","published":1,"subscribers":1,"messages":[{"channel":"a","subscribers":1}]}"#;
    assert_eq!(first, (Some("200".into()), body.into()));
    assert_eq!(second, first);
    assert_eq!(other.0, Some("422".into()));
    assert_eq!(spaced.0, Some("422".into()), "data is compared as it came");
    assert_eq!(client.take_numbers(), [1]);
}

#[test]
fn a_key_whose_first_use_is_under_way_is_refused() {
    let mut rig = Rig::new(2, Config::default());
    let client = rig.connect(0);
    let far = rig.channel_of(1);
    // Its key is at home in the hub that is awake, its channel in the other.
    let key = (0..).map(|n| format!("k{n}")).find(|key| {
        let owner = errands::Owner::Client(None, [127, 0, 0, 1].into());
        rig.hubs[0].hub().homes.of(&errands::owned(owner, key)) == ShardId(0)
    });
    let request = keyed(&far, &key.unwrap(), 1);
    rig.stalled = Some(1);
    rig.send(&client, &json!({"type": "request", "event": "publish", "id": "1", "data": request}));
    assert_eq!(client.take(), Vec::<Value>::new());

    let second = rig.request(&client, "publish", &request);
    rig.stalled = None;
    rig.run();

    assert_eq!(second["error_message"], Reason::KeyInUse.row().text);
    let first = client.take();
    assert_eq!((&first[0]["correlation_id"], first.len()), (&json!("1"), 1));
    let third = rig.request(&client, "publish", &request);
    assert_eq!(third["data"], first[0]["data"]);
}

#[test]
fn members_of_other_types_are_refused_and_publish_nothing() {
    let mut rig = Rig::alone();
    let client = rig.connect(0);
    rig.subscribe(&client, "a");
    for (member, value) in [("idempotency_key", json!("")), ("positions", json!("yes"))] {
        let mut data = keyed("a", "k", 1);
        data[member] = value;
        let answer = rig.request(&client, "publish", &data);
        assert_eq!(answer["error_code"], "DECODE_ERROR", "{member}");
    }
    // What means nothing is ignored as ever.
    let data = json!({"channel": "a", "event": "e", "data": {"n": 7}, "priority": "high"});
    rig.send(&client, &json!({"type": "request", "event": "publish", "data": data}));
    assert_eq!(client.take_numbers(), [7]);
}

#[test]
fn a_command_under_a_key_is_carried_out_once() {
    let mut rig = Rig::new(2, Config::default());
    let client = rig.connect(0);
    let channel = rig.channel_of(1);
    rig.subscribe(&client, &channel);
    let options = PublicationOptions { idempotency_key: Some("k".into()), ..<_>::default() };
    let publication = |n: u64| Publication {
        options: Some(Box::new(options.clone())),
        ..Publication::new(&*channel, "e", json!({"n": n}).to_string())
    };
    for (at, n) in [1, 1, 2].into_iter().enumerate() {
        let command =
            Command::Publish { id: Some(CommandId(at as u64)), publication: publication(n) };
        rig.hubs[0].handle_command(rig.now, command);
        rig.run();
    }
    assert_eq!(client.take_numbers(), [1]);
    // A client's key of the same name is another one.
    let answer = rig.request(&client, "publish", &keyed("elsewhere", "k", 3));
    assert_eq!(answer["data"]["status"], "published");

    let done: Vec<_> = rig
        .outputs
        .drain(..)
        .filter_map(
            |output| if let Output::Done { result, .. } = output { Some(result) } else { None },
        )
        .collect();
    let subscribers = done.iter().map(|result| result.map(|published| published.subscribers));
    assert_eq!(subscribers.collect::<Vec<_>>(), [Ok(1), Ok(1), Err(Reason::KeyReused)]);
}
