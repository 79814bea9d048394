//! Questions to the application.

use super::*;
use crate::auth::Verb;

fn with_requests() -> Rig {
    let mut config = Config::default();
    config.hooks.requests.insert("get_pool_status".into());
    config.limits.requests.requests_in_flight_max = 2;
    Rig::new(1, config)
}

fn ask(rig: &mut Rig, client: &Client, id: &str) {
    rig.send(
        client,
        &json!({"type": "request", "event": "get_pool_status", "id": id, "data": {"pool_id": "p"}}),
    );
}

fn asked(rig: &mut Rig) -> Vec<RequestId> {
    let mut ids = Vec::new();
    for output in rig.outputs.drain(..) {
        if let Output::Request { id, event, data, .. } = output {
            assert_eq!((&*event, &*data), ("get_pool_status", br#"{"pool_id":"p"}"#.as_slice()));
            ids.push(id);
        }
    }
    ids
}

#[test]
fn the_application_answers() {
    let mut rig = with_requests();
    let client = rig.connect(0);
    ask(&mut rig, &client, "1");
    let [id] = asked(&mut rig).try_into().unwrap();
    let reply = |result| Command::Reply { id, result };
    rig.hubs[0].handle_command(rig.now, reply(Ok(r#"{"status":"idle"}"#.into())));
    rig.hubs[0].handle_command(rig.now, reply(Ok("{}".into())));
    rig.run();
    let [answer] = client.take().try_into().unwrap();
    assert_eq!(answer["event"], "get_pool_status");
    assert_eq!(answer["data"], json!({"status": "idle"}));
    assert_eq!(answer["correlation_id"], "1");
}

#[test]
fn an_error_of_the_application_is_passed_on() {
    let mut rig = with_requests();
    let client = rig.connect(0);
    ask(&mut rig, &client, "1");
    let [id] = asked(&mut rig).try_into().unwrap();
    let error = RequestError { code: "NOT_FOUND".into(), message: "No such pool".into() };
    rig.hubs[0].handle_command(rig.now, Command::Reply { id, result: Err(error) });
    rig.run();
    let [answer] = client.take().try_into().unwrap();
    assert_eq!(
        (&answer["error_code"], &answer["correlation_id"]),
        (&json!("NOT_FOUND"), &json!("1"))
    );
}

#[test]
fn what_is_no_object_is_not_sent() {
    let mut rig = with_requests();
    let client = rig.connect(0);
    for wrong in ["[]", "{", "\u{1}"] {
        ask(&mut rig, &client, "1");
        let [id] = asked(&mut rig).try_into().unwrap();
        rig.hubs[0].handle_command(rig.now, Command::Reply { id, result: Ok(wrong.into()) });
        rig.run();
        assert_eq!(client.take()[0]["error_code"], "SERVER_ERROR");
    }
}

#[test]
fn silence_of_the_application_ends_in_an_error() {
    let mut rig = with_requests();
    let client = rig.connect(0);
    ask(&mut rig, &client, "1");
    rig.send(&client, &json!({"type": "ping"}));
    client.take();
    rig.wait(Duration::from_secs(15));
    rig.bytes(&client, &[0x8a, 0x80, 0, 0, 0, 0]);
    rig.wait(Duration::from_secs(15));
    let answer = client.take().into_iter().find(|message| message["type"] == "error").unwrap();
    assert_eq!(
        (&answer["error_code"], &answer["correlation_id"]),
        (&json!("SERVER_ERROR"), &json!("1"))
    );
}

#[test]
fn a_handler_that_fails_is_answered_for_and_counted() {
    let mut config = Config::default();
    config.hooks.requests.insert("get_pool_status".into());
    config.hooks.authorize_subscribe = true;
    config.hooks.authorize_publish = true;
    let mut rig = Rig::new(1, config);
    let client = rig.connect(0);
    for event in ["get_pool_status", "subscribe", "publish"] {
        let data = json!({"channel": "a", "event": "e", "data": {"n": 1}});
        rig.send(&client, &json!({"type": "request", "event": event, "id": "1", "data": data}));
        let handler = match rig.outputs.pop() {
            Some(Output::Request { id, .. }) => Handler::Request(id),
            Some(Output::Authorize { id, verb: Verb::Subscribe, .. }) => Handler::Subscribe(id),
            Some(Output::Authorize { id, .. }) => Handler::Publish(id),
            other => panic!("no question: {other:?}"),
        };
        // What fails after it has answered is counted, and answered once.
        for _ in 0..2 {
            rig.hubs[0].handle_command(rig.now, Command::Failed(handler));
        }
        rig.run();
        let [answer] = client.take().try_into().unwrap();
        assert_eq!(
            (&answer["error_code"], &answer["error_message"], &answer["correlation_id"]),
            (&json!("SERVER_ERROR"), &json!("The request failed"), &json!("1")),
            "{event}"
        );
    }
    rig.hubs[0].handle_command(rig.now, Command::Failed(Handler::Connect));
    let failed = rig.hubs[0].tally().handlers_failed().to_vec();
    assert_eq!(failed, [2, 2, 2, 1, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn an_application_that_is_behind_is_asked_nothing_more() {
    let mut rig = with_requests();
    let client = rig.connect(0);
    for (backlog, code) in [
        (Backlog::Questions, Some("SERVER_ERROR")),
        (Backlog::All, Some("SERVER_ERROR")),
        (Backlog::None, None),
    ] {
        rig.hubs[0].handle_command(rig.now, Command::Backlog(backlog));
        ask(&mut rig, &client, "1");
        assert_eq!(asked(&mut rig).len(), usize::from(code.is_none()), "{backlog:?}");
        let refused = client.take().pop();
        assert_eq!(refused.as_ref().and_then(|refused| refused["error_code"].as_str()), code);
    }
    rig.hubs[0].handle_command(rig.now, Command::Backlog(Backlog::All));
    let refused = rig.connect_with(0, "");
    assert_eq!(refused.take_close(), Some((1013, "Server busy".into())));
    rig.hubs[0].handle_command(rig.now, Command::Backlog(Backlog::Questions));
    rig.connect(0);
}

#[test]
fn requests_in_flight_are_limited() {
    let mut rig = with_requests();
    let client = rig.connect(0);
    for id in ["1", "2", "3"] {
        ask(&mut rig, &client, id);
    }
    assert_eq!(asked(&mut rig).len(), 2);
    let [refused] = client.take().try_into().unwrap();
    assert_eq!(
        (&refused["error_code"], &refused["correlation_id"]),
        (&json!("RATE_LIMIT_EXCEEDED"), &json!("3"))
    );
}

#[test]
fn the_application_decides_on_subscriptions_and_publishes() {
    let mut config = Config::default();
    config.hooks.authorize_subscribe = true;
    config.hooks.authorize_publish = true;
    let mut rig = Rig::new(1, config);
    let client = rig.connect(0);
    for (event, allow, expected) in [
        ("subscribe", false, "FORBIDDEN"),
        ("subscribe", true, ""),
        ("publish", false, "FORBIDDEN"),
        ("publish", true, ""),
    ] {
        let data = json!({"channel": "a", "event": "e", "data": {"n": 1}});
        rig.send(&client, &json!({"type": "request", "event": event, "id": "1", "data": data}));
        let Some(Output::Authorize { id, channel, .. }) = rig.outputs.pop() else {
            panic!("no question")
        };
        assert_eq!(&*channel, "a");
        assert_eq!(client.take(), Vec::<Value>::new());
        rig.hubs[0].handle_command(rig.now, Command::Decide { id, allow });
        rig.run();
        let answer =
            client.take().into_iter().find(|message| message["correlation_id"] == "1").unwrap();
        assert_eq!(answer["error_code"].as_str().unwrap_or_default(), expected, "{event}");
    }
}

#[cfg(feature = "jwt")]
#[test]
fn the_application_hears_who_reads_over_http() {
    let mut config = with_auth();
    config.hooks.authorize_subscribe = true;
    let mut rig = Rig::new(1, config);
    let token = token("ada", &["workflow:read"]);
    for (allow, status) in [(true, "HTTP/1.1 200 "), (false, "HTTP/1.1 403 ")] {
        let client = rig.socket(0);
        let request = format!(
            "GET /history?channel=workflow:1 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        rig.bytes(&client, request.as_bytes());
        let Some(Output::Authorize { id, user, verb, channel, .. }) = rig.outputs.pop() else {
            panic!("no question")
        };
        assert_eq!(
            (user.as_deref(), verb, &*channel),
            (Some("ada"), Verb::Subscribe, "workflow:1")
        );
        assert_eq!(client.take_text(), "", "nothing is told before it has decided");
        rig.hubs[0].handle_command(rig.now, Command::Decide { id, allow });
        rig.run();
        let answer = client.take_text();
        assert!(answer.starts_with(status), "{answer}");
    }
}

#[test]
fn questions_of_a_client_that_left_are_dropped() {
    let mut rig = with_requests();
    let client = rig.connect(0);
    ask(&mut rig, &client, "1");
    let [id] = asked(&mut rig).try_into().unwrap();
    rig.hang_up(&client);
    rig.hubs[0].handle_command(rig.now, Command::Reply { id, result: Ok("{}".into()) });
    rig.run();
    rig.assert_empty();
}

#[test]
fn a_late_decision_does_not_revive_a_subscription() {
    let mut config = Config::default();
    config.hooks.authorize_subscribe = true;
    let mut rig = Rig::new(1, config);
    let client = rig.connect(0);
    let message = |event| json!({"type": "request", "event": event, "data": {"channel": "a"}});
    rig.send(&client, &message("subscribe"));
    let Some(Output::Authorize { id, .. }) = rig.outputs.pop() else { panic!("no question") };
    rig.send(&client, &message("unsubscribe"));

    rig.hubs[0].handle_command(rig.now, Command::Decide { id, allow: true });
    rig.run();
    rig.publish(0, "a", 1);
    rig.run();

    assert_eq!(client.take_numbers(), Vec::<u64>::new());
    rig.hang_up(&client);
    rig.assert_empty();
}
