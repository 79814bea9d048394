//! Channels' documents.

use mahavishnu_conformance::{Backend, Client, Rig, Setup, post, token};
use mahavishnu_core::{config::Keep, protocol::StatusRequest};
use mahavishnu_profiles::Profile;
use serde_json::{Value, json};

fn with_state(channel: &str, n: u64) -> Value {
    json!({ "channel": channel, "event": "e", "data": { "n": n }, "state": { "n": n } })
}

fn only_if(mut data: Value, offset: u64) -> Value {
    data["if_offset"] = offset.into();
    data
}

fn state(client: &mut Client, channel: &str) -> Value {
    client.request("get_state", json!({ "channel": channel }))["data"].clone()
}

fn on_two_shards(backend: Backend) -> Rig {
    backend.start_with(Setup { shards: 2, ..Setup::new(|_| {}) })
}

pub(crate) fn a_document_is_kept_with_its_message(backend: Backend) {
    let rig = on_two_shards(backend);
    let (mut subscriber, mut client) = (rig.subscriber("a"), rig.hello());
    let before = state(&mut client, "a");
    assert_eq!((&before["offset"], &before["state"]), (&json!(0), &Value::Null));
    let published = client.request("publish", with_state("a", 1))["data"].clone();
    assert_eq!((&published["epoch"], &published["offset"]), (&before["epoch"], &json!(1)));
    assert_eq!(subscriber.message()["data"], json!({ "n": 1 }), "the message, not the document");
    assert_eq!(rig.broadcast("a", &json!({ "n": 2 })), 1);
    let expected =
        json!({ "channel": "a", "epoch": before["epoch"], "offset": 1, "state": { "n": 1 } });
    assert_eq!(state(&mut client, "a"), expected);
    let over_http = rig.raw().get("/state?channel=a");
    assert_eq!((over_http.status, over_http.json()), (200, expected));
    assert_eq!(rig.raw().get("/state").status, 400);
}

pub(crate) fn a_document_is_replaced_only_by_who_knows_it(backend: Backend) {
    let rig = on_two_shards(backend);
    let mut subscriber = rig.subscriber("a");
    let mut writers = [rig.hello(), rig.hello()];
    // Both have seen that there is none.
    let data = only_if(with_state("a", 1), 0);
    let answers = writers.each_mut().map(|writer| writer.request("publish", &data));
    assert_eq!(answers[0]["data"]["offset"], 1);
    assert_eq!(answers[1]["error_code"], "CONFLICT");
    let seen = state(&mut writers[1], "a")["offset"].as_u64().unwrap();
    let mut second = only_if(with_state("a", 2), seen);
    second["if_epoch"] = answers[0]["data"]["epoch"].clone();
    assert_eq!(writers[1].request("publish", &second)["data"]["offset"], 2);
    assert_eq!(writers[0].request("publish", &second)["error_code"], "CONFLICT");
    assert_eq!(subscriber.numbers(2), [1, 2]);
    subscriber.expect_silence();
    assert_eq!(state(&mut writers[0], "a")["state"], json!({ "n": 2 }));
}

pub(crate) fn a_batch_hangs_on_its_first_message(backend: Backend) {
    let rig = on_two_shards(backend);
    let names: Vec<String> = (0..6).map(|n| format!("c{n}")).collect();
    let mut subscriber = rig.hello();
    names.iter().for_each(|name| subscriber.subscribe(name));
    let batch = |offset: u64| -> Value {
        let plain = |name: &String| json!({ "channel": name, "event": "e", "data": { "n": 1 } });
        let first = only_if(with_state("c0", 1), offset);
        std::iter::once(first).chain(names[1..].iter().map(plain)).collect()
    };
    let refused = rig.raw().exchange(&post(&[], &batch(5)));
    assert_eq!((refused.status, &refused.json()["error_code"]), (409, &json!("CONFLICT")));
    subscriber.expect_silence();
    let answer = rig.raw().exchange(&post(&[], &batch(0))).json();
    assert_eq!((&answer["published"], &answer["subscribers"]), (&json!(6), &json!(6)));
    assert_eq!(subscriber.numbers(6), [1; 6]);
    let late = json!([with_state("c1", 1), only_if(with_state("c0", 1), 1)]);
    assert_eq!(rig.raw().exchange(&post(&[], &late)).status, 400);
}

pub(crate) fn a_document_needs_no_history_and_no_subscribers(backend: Backend) {
    let rig = backend.start(|config| config.history.default = Keep::OFF);
    let mut client = rig.hello();
    let nothing = json!({ "channel": "a", "epoch": null, "offset": 0, "state": null });
    assert_eq!(state(&mut client, "a"), nothing);
    let answer = client.request("publish", with_state("a", 1))["data"].clone();
    assert_eq!((&answer["subscribers"], &answer["offset"]), (&json!(0), &json!(1)));
    client.subscribe("a");
    client.unsubscribe("a");
    let kept = state(&mut client, "a");
    assert_eq!((&kept["epoch"], &kept["state"]), (&answer["epoch"], &json!({ "n": 1 })));
}

pub(crate) fn a_document_is_read_by_who_may_subscribe(backend: Backend) {
    let rig = backend.start(token::demand);
    let now = rig.unix();
    let token = |permission| token::good(now, "ada", &[permission]);
    let mut writer = rig.login(&token("workflow:write"));
    let mut reader = rig.login(&token("workflow:read"));
    let channel = "workflow:1";
    assert_eq!(writer.request("publish", with_state(channel, 1))["data"]["offset"], 1);
    assert_eq!(state(&mut reader, channel)["state"], json!({ "n": 1 }));
    let refused = writer.request("get_state", json!({ "channel": channel }));
    assert_eq!(refused["error_code"], "FORBIDDEN");
    let get = |token: Option<String>| {
        let bearer =
            token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
        let head = format!("GET /state?channel=workflow%3A1 HTTP/1.1\r\nHost: x\r\n{bearer}\r\n");
        rig.raw().exchange(head.as_bytes()).status
    };
    let statuses = [None, Some(token("workflow:write")), Some(token("workflow:read"))].map(get);
    assert_eq!(statuses, [401, 403, 200]);
}

pub(crate) fn get_state_without_a_channel_is_somebody_elses(backend: Backend) {
    let rig = backend.start(|_| {});
    let mut client = rig.hello();
    for data in [json!({ "state_path": "a.b" }), json!({}), json!({ "channel": 5 })] {
        assert_eq!(client.request("get_state", &data)["error_code"], "UNKNOWN_REQUEST", "{data}");
    }
}

pub(crate) fn requests_for_a_status_are_answered_from_documents(backend: Backend) {
    let requests = ["get_workflow_status=workflow:{workflow_id}", "get_pool_status=pool:{pool_id}"];
    let requests = requests.map(|text| StatusRequest::parse(text).expect("it is one"));
    let configure = move |config: &mut mahavishnu_core::config::Config| {
        config.status_requests = requests.to_vec();
    };
    let rig = backend.start_with(Setup { shards: 2, ..Setup::new(configure) });
    let mut client = rig.hello();
    let ask = |client: &mut Client, event: &str, data: Value| client.request(event, data);
    let none = ask(&mut client, "get_pool_status", json!({ "pool_id": "7" }));
    // As the services themselves say it: nine fields, and the name first.
    assert_eq!(none.as_object().map(serde_json::Map::len), Some(9), "{none}");
    assert_eq!((&none["type"], &none["event"]), (&json!("response"), &json!("get_pool_status")));
    assert_eq!(none["data"].to_string(), r#"{"pool_id":"7","status":"not_found"}"#);

    for (channel, state) in [
        ("pool:7", json!({ "status": "active", "workers": [] })),
        ("workflow:7", json!({ "status": "running", "stages_completed": 3, "total_stages": 10 })),
    ] {
        let data = json!({ "channel": channel, "event": "e", "state": state });
        assert_eq!(client.request("publish", data)["data"]["status"], "published");
    }
    let pool = ask(&mut client, "get_pool_status", json!({ "pool_id": "7" }));
    assert_eq!(pool["data"], json!({ "pool_id": "7", "status": "active", "workers": [] }));
    let workflow = ask(&mut client, "get_workflow_status", json!({ "workflow_id": "7" }));
    let expected = json!({
        "workflow_id": "7", "status": "running", "stages_completed": 3, "total_stages": 10,
    });
    assert_eq!(workflow["data"], expected);
    for (event, data, code) in [
        ("get_pool_status", json!({}), "UNKNOWN_REQUEST"),
        ("get_pool_status", json!({ "pool_id": 7 }), "UNKNOWN_REQUEST"),
        ("get_pool_status", json!({ "pool_id": "a\u{0}" }), "INVALID_CHANNEL"),
        ("get_adapter_status", json!({ "adapter_id": "7" }), "UNKNOWN_REQUEST"),
    ] {
        assert_eq!(client.request(event, data)["error_code"], code, "{event}");
    }
}

/// By the profile of the service, whichever way events come in.
pub(crate) fn events_make_documents_and_documents_answer(backend: Backend) {
    let configure = |config: &mut mahavishnu_core::config::Config| {
        config.profile = Profile::builtin("mahavishnu");
    };
    let rig = backend.start_with(Setup { shards: 2, ..Setup::new(configure) });
    let mut client = rig.hello();
    let ask = |client: &mut Client| {
        client.request("get_workflow_status", json!({ "workflow_id": "7" }))["data"].clone()
    };
    assert_eq!(ask(&mut client), json!({ "workflow_id": "7", "status": "not_found" }));
    let event =
        |event: &str, data: Value| json!({ "channel": "workflow:7", "event": event, "data": data });
    let started = event("workflow.started", json!({ "workflow_id": "7", "total_stages": 3 }));
    assert_eq!(client.request("publish", started)["data"]["status"], "published");
    let stage = |name: &str| {
        let data = json!({ "workflow_id": "7", "stage_name": name, "result": {} });
        event("workflow.stage_completed", data)
    };
    let body = json!({ "messages": [stage("build"), stage("test"), stage("test")] });
    let answer = rig.raw().exchange(&post(&[], &body));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let status = |status: &str| json!({ "workflow_id": "7", "status": status, "stages_completed": 2, "total_stages": 3 });
    assert_eq!(ask(&mut client), status("running"));
    let done = event("workflow.completed", json!({ "workflow_id": "7", "result": {} }));
    client.request("publish", done);
    assert_eq!(ask(&mut client), status("completed"));
    for (event, data, code) in [
        ("get_workflow_status", json!({}), "INVALID_CHANNEL"),
        ("get_test_status", json!({ "run_id": "7" }), "UNKNOWN_REQUEST"),
    ] {
        assert_eq!(client.request(event, data)["error_code"], code, "{event}");
    }
}
