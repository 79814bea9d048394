//! A back-end that answers requests over channels.

use super::{folding::with_proof, shards::post, *};
use crate::config::Backend;

pub(super) fn with_backend(config: Config) -> Config {
    let requests = ["get_thing", "get_weather"].map(Into::into).into();
    Config { backend: Some(Backend { requests, ..Backend::default() }), ..with_proof(config) }
}

/// The requests that a back-end has heard of.
pub(super) fn heard(backend: &Client) -> Vec<Value> {
    let messages = backend.take().into_iter();
    messages.filter(|it| it["event"] == "service.request").map(|it| it["data"].clone()).collect()
}

fn ask(rig: &mut Rig, client: &Client, event: &str, data: &Value) {
    let id = event;
    rig.send(client, &json!({"type": "request", "event": event, "id": id, "data": data}));
}

fn backend(rig: &mut Rig, shard: usize) -> Client {
    let client = rig.connect(shard);
    rig.subscribe(&client, "system:requests");
    client
}

#[test]
fn a_back_end_answers_by_message_and_over_http() {
    for shards in [1, 3] {
        let mut rig = Rig::new(shards, with_backend(Config::default()));
        let last = usize::from(shards) - 1;
        let (backend, client) = (backend(&mut rig, 0), rig.connect(last));
        ask(&mut rig, &client, "get_weather", &json!({"at": "home"}));
        let request = heard(&backend).remove(0);
        assert_eq!(request["request"], "get_weather");
        assert_eq!((&request["data"], &request["user"]), (&json!({"at": "home"}), &Value::Null));
        assert!(request["deadline"].as_str().unwrap().ends_with("+00:00"), "{request}");
        assert!(client.take().is_empty());

        let answer = json!({"request_id": request["request_id"], "data": {"sun": true}});
        let told = rig.request(&backend, "answer", &answer);
        assert_eq!(told["data"], json!({"status": "answered"}));
        let messages = client.take();
        let got = &messages[0];
        assert_eq!((&got["event"], &got["data"]), (&json!("get_weather"), &json!({"sun": true})));
        assert_eq!(got["correlation_id"], "get_weather");
        let told = rig.request(&backend, "answer", &answer);
        assert_eq!(told["error_code"], "CONFLICT", "it was answered");

        ask(&mut rig, &client, "get_thing", &json!({"id": "a"}));
        let request = heard(&backend).remove(0);
        let error = json!({"code": "NOT_FOUND", "message": "no such thing"});
        let answer = json!({"request_id": request["request_id"], "error": error}).to_string();
        for status in ["200", "409"] {
            let socket = rig.socket(0);
            let text = String::from_utf8(post(&answer)).unwrap().replace("/publish", "/answer");
            rig.bytes(&socket, text.as_bytes());
            let head = socket.take_head();
            assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
        }
        let got = client.take().remove(0);
        assert_eq!(
            (&got["error_code"], &got["error_message"]),
            (&json!("NOT_FOUND"), &json!("no such thing"))
        );
    }
}

#[test]
fn who_is_not_heard_is_answered_from_documents() {
    let mut rig = Rig::new(2, with_backend(Config::default()));
    let client = rig.connect(1);
    let answer = rig.request(&client, "get_thing", &json!({"id": "a"}));
    assert_eq!(answer["data"], json!({"id": "a", "status": "not_found"}));
    let answer = rig.request(&client, "get_weather", &json!({}));
    assert_eq!(answer["error_code"], "UNKNOWN_REQUEST");
    let backend = backend(&mut rig, 0);
    ask(&mut rig, &client, "get_other", &json!({}));
    let answer = rig.request(&client, "get_thing", &json!({}));
    assert_eq!(answer["error_code"], "INVALID_CHANNEL", "a back-end is not asked for nothing");
    assert!(heard(&backend).is_empty(), "it was given to documents, or is unknown");
    rig.hang_up(&backend);
    client.take();
    let answer = rig.request(&client, "get_thing", &json!({"id": "a"}));
    assert_eq!(answer["data"], json!({"id": "a", "status": "not_found"}));
}

#[test]
fn a_back_end_that_is_silent_is_waited_for_and_no_longer() {
    let mut rig = Rig::new(2, with_backend(Config::default()));
    let (backend, client) = (backend(&mut rig, 0), rig.connect(1));
    ask(&mut rig, &client, "get_weather", &json!({}));
    let request = heard(&backend).remove(0);
    rig.wait(Duration::from_secs(31));
    let got = client.take();
    let got = got.iter().find(|it| it["type"] == "error").unwrap();
    assert_eq!(
        (&got["error_code"], &got["error_message"]),
        (&json!("SERVER_ERROR"), &json!("No answer in time"))
    );
    assert!(
        rig.hubs.iter().all(|hub| !hub.hub().questions.is_unanswered()),
        "the application is well"
    );
    let late = json!({"request_id": request["request_id"], "data": {}});
    assert_eq!(rig.request(&backend, "answer", &late)["error_code"], "CONFLICT");

    ask(&mut rig, &client, "get_weather", &json!({}));
    let request = heard(&backend).remove(0);
    rig.hang_up(&client);
    let late = json!({"request_id": request["request_id"], "data": {}});
    assert_eq!(rig.request(&backend, "answer", &late)["error_code"], "CONFLICT", "nobody waits");
}

#[test]
fn what_is_no_answer_is_refused() {
    let mut rig = Rig::alone_with(with_backend(Config::default()));
    let client = rig.connect(0);
    let elsewhere = "0000000000000001.0.0.0";
    for (data, code) in [
        (json!({}), "DECODE_ERROR"),
        (json!({"request_id": "x", "data": []}), "DECODE_ERROR"),
        (json!({"request_id": "x", "data": {}}), "CONFLICT"),
        (json!({"request_id": elsewhere, "data": {}}), "CONFLICT"),
    ] {
        assert_eq!(rig.request(&client, "answer", &data)["error_code"], code, "{data}");
    }
    let forged = json!({"channel": "system:requests", "event": "service.request", "data": {}});
    assert_eq!(rig.request(&client, "publish", &forged)["error_code"], "FORBIDDEN");
    let mut rig = Rig::alone();
    let client = rig.connect(0);
    let data = json!({"request_id": "x", "data": {}});
    assert_eq!(rig.request(&client, "answer", &data)["error_code"], "UNKNOWN_REQUEST");
}

#[test]
fn a_connection_has_so_many_open_requests() {
    let mut config = with_backend(unlimited());
    config.limits.requests.requests_in_flight_max = 2;
    let mut rig = Rig::alone_with(config);
    let (backend, client) = (backend(&mut rig, 0), rig.connect(0));
    for _ in 0..3 {
        ask(&mut rig, &client, "get_weather", &json!({}));
    }
    assert_eq!(heard(&backend).len(), 2);
    assert_eq!(client.take()[0]["error_code"], "RATE_LIMIT_EXCEEDED");
}

#[cfg(feature = "jwt")]
#[test]
fn a_back_end_has_a_permission_of_its_own() {
    let mut rig = Rig::new(2, with_backend(with_auth()));
    let connect = |rig: &mut Rig, permissions: &[&str]| {
        let header = format!("Authorization: Bearer {}\r\n", token("ada", permissions));
        let client = rig.connect_with(1, &header);
        client.take();
        client
    };
    let channel = json!({"channel": "system:requests"});
    let data = json!({"request_id": "x", "data": {}});
    for (permissions, serves) in [
        (&["service:communicate"][..], true),
        (&["admin"], true),
        (&["write"], false),
        (&[], false),
    ] {
        let client = connect(&mut rig, permissions);
        let answer = rig.request(&client, "answer", &data);
        let expected = if serves { "CONFLICT" } else { "FORBIDDEN" };
        assert_eq!(answer["error_code"], expected, "{permissions:?}");
        let answer = rig.request(&client, "subscribe", &channel);
        assert_eq!(answer["error_code"].is_null(), serves, "{permissions:?}");
    }
}
