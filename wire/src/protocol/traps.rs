//! What the services' real clients do beside the documents, one test for each row of that table which concerns reading
//! or writing messages. The other rows (order, closing, limits) are tested where that is decided.

use std::{borrow::Cow, time::Duration};

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Answer, CorrelationRule, DecodeError, Envelope, Gap, Intent, Kind, Stamp, Timestamp, Welcome,
    WelcomeExtra, decode_text,
};
use crate::reason::Reason;

/// The Python client waits for its message's id, although it makes up a correlation_id too; documented raw clients send
/// one of the two, or both and wait for the second.
#[test]
fn trap_01_answers_carry_what_each_client_waits_for() {
    let cases = [
        // Fields, tolerant, correlation_id only, id only.
        (r#""id":"i""#, Some("i"), None, Some("i")),
        (r#""id":"i","correlation_id":null"#, Some("i"), None, Some("i")),
        (r#""correlation_id":"c""#, Some("c"), Some("c"), None),
        (r#""id":"i","correlation_id":"c""#, Some("c"), Some("c"), Some("i")),
        (r#""id":"i","correlation_id":"c","error_code":null"#, Some("i"), Some("c"), Some("i")),
        (r#""correlation_id":"c","error_code":null"#, Some("c"), Some("c"), None),
        (r#""event":"e""#, None, None, None),
    ];
    for (fields, tolerant, by_correlation_id, by_id) in cases {
        let text = format!(r#"{{"type":"request",{fields}}}"#);
        let message = decode_text(&text).unwrap();
        assert_eq!(message.correlation(CorrelationRule::Tolerant), tolerant, "{fields}");
        assert_eq!(
            message.correlation(CorrelationRule::CorrelationId),
            by_correlation_id,
            "{fields}"
        );
        assert_eq!(message.correlation(CorrelationRule::Id), by_id, "{fields}");
    }
    assert_eq!(CorrelationRule::default(), CorrelationRule::Tolerant);
}

/// subscribe_to_room sends an event and waits for nothing.
#[test]
fn trap_02_an_event_can_subscribe_and_is_confirmed_by_an_ack() {
    for place in ["room", "channel"] {
        let text =
            format!(r#"{{"type":"event","event":"subscribe","data":{{"{place}":"pool:7"}}}}"#);
        let channel = || Some(Cow::Borrowed("pool:7"));
        let expected = Intent::Subscribe { channel: channel(), answer: Answer::Ack };
        assert_eq!(decode_text(&text).unwrap().intent(), expected);
        let text = text.replace("subscribe", "unsubscribe");
        let expected = Intent::Unsubscribe { channel: channel(), answer: Answer::Ack };
        assert_eq!(decode_text(&text).unwrap().intent(), expected);
    }
    let ack = sent(|stamp| Envelope::subscribed(stamp, "pool:7", Some("1")).as_ack());
    assert_eq!(ack["type"], "ack");
    assert_eq!(ack["correlation_id"], "1");
    assert_eq!(ack["data"], json!({ "status": "subscribed", "channel": "pool:7" }));
}

#[test]
fn trap_03_subscribe_is_also_a_type_of_its_own() {
    for (data, channel) in [
        (r#"{"channel":"ui:1"}"#, "ui:1"),
        (r#"{"component_id":"c1"}"#, "component:c1"),
        (r#"{"page_id":"p1"}"#, "page:p1"),
    ] {
        let text = format!(r#"{{"type":"subscribe","data":{data}}}"#);
        let expected =
            Intent::Subscribe { channel: Some(Cow::Borrowed(channel)), answer: Answer::Response };
        assert_eq!(decode_text(&text).unwrap().intent(), expected);
        let text = text.replace("subscribe", "unsubscribe");
        let expected =
            Intent::Unsubscribe { channel: Some(Cow::Borrowed(channel)), answer: Answer::Response };
        assert_eq!(decode_text(&text).unwrap().intent(), expected);
    }
}

#[test]
fn trap_04_a_ping_is_answered_and_correlated() {
    let text = r#"{"type":"ping","id":"health_check_1739269800"}"#;
    let message = decode_text(text).unwrap();
    assert_eq!(message.intent(), Intent::Ping);

    let pong = sent(|stamp| Envelope::pong(stamp, message.correlation(CorrelationRule::Tolerant)));

    assert_eq!(pong["type"], "pong");
    assert_eq!(pong["correlation_id"], "health_check_1739269800");
    assert_eq!((&pong["event"], &pong["data"]), (&Value::Null, &json!({})));
}

/// The Python client cannot read a message whose `data` is no object, whose `timestamp` is a number, or whose `type` it
/// does not know.
#[test]
fn trap_10_everything_sent_has_nine_fields_of_the_right_types() {
    for message in every_message() {
        let fields = message.as_object().unwrap();
        for name in ["id", "timestamp", "type"] {
            assert!(fields[name].is_string(), "{message}");
        }
        for name in ["correlation_id", "event", "room", "error_code", "error_message"] {
            assert!(fields[name].is_string() || fields[name].is_null(), "{name} {message}");
        }
        assert!(fields["data"].is_object(), "{message}");
        assert!(Kind::parse(fields["type"].as_str().unwrap()).is_some(), "{message}");
    }
}

#[test]
fn trap_11_status_is_repeated_beside_the_nine_fields() {
    let messages = every_message();
    let with_status: Vec<_> =
        messages.iter().filter(|message| message["data"]["status"].is_string()).collect();
    assert_eq!(with_status.len(), 6);
    for message in with_status {
        assert_eq!(message["status"], message["data"]["status"]);
    }
    assert!(
        messages
            .iter()
            .filter(|message| message["type"] == "error")
            .all(|message| message.get("status").is_none())
    );
}

/// The original says nothing if a request lacks the data it needs.
#[test]
fn trap_12_a_missing_key_is_seen_and_can_be_answered() {
    for data in ["", r#","data":{}"#, r#","data":{"channel":null}"#, r#","data":{"channel":5}"#] {
        let text = format!(r#"{{"type":"request","event":"subscribe"{data}}}"#);
        let expected = Intent::Subscribe { channel: None, answer: Answer::Response };
        assert_eq!(decode_text(&text).unwrap().intent(), expected, "{data}");
    }
    let error = sent(|stamp| Envelope::error(stamp, Reason::InvalidChannel, None, Some("1")));
    assert_eq!(
        (&error["error_code"], &error["correlation_id"]),
        (&json!("INVALID_CHANNEL"), &json!("1"))
    );
}

#[test]
fn trap_16_refresh_token_is_a_request() {
    let text = r#"{"type":"request","event":"refresh_token","data":{"token":"t"}}"#;
    let expected = Intent::RefreshToken { token: Some(Cow::Borrowed("t")) };
    assert_eq!(decode_text(text).unwrap().intent(), expected);
    let answer = sent(|stamp| Envelope::refreshed(stamp, Some("ada"), None));
    assert_eq!((&answer["type"], &answer["event"]), (&json!("response"), &json!("refresh_token")));
    assert_eq!(answer["data"], json!({ "status": "refreshed", "user_id": "ada" }));
}

#[test]
fn trap_17_unknown_types_and_numeric_timestamps_are_refused() {
    assert_eq!(decode_text(r#"{"type":"test"}"#).unwrap_err(), DecodeError::UnknownType);
    let text = r#"{"type":"request","timestamp":1739269800.5}"#;
    assert_eq!(decode_text(text).unwrap_err(), DecodeError::Timestamp);
}

#[test]
fn trap_18_errors_do_not_repeat_input() {
    for input in
        ["hush-hush", r#"{"hush":1}"#, r#"{"type":"hush"}"#, r#"{"type":"ping","id":["hush"]}"#]
    {
        let error = decode_text(input).unwrap_err();
        assert!(!error.to_string().contains("hush") && !format!("{error:?}").contains("hush"));
        let answer = sent(|stamp| Envelope::error(stamp, Reason::Decode, None, None));
        assert_eq!(
            (&answer["error_code"], &answer["event"]),
            (&json!("DECODE_ERROR"), &Value::Null)
        );
        assert_eq!(answer["data"], json!({}));
        assert!(!answer.to_string().contains("hush"));
    }
}

/// Session-Buddy greets and answers with types of its own, which the common client drops: they are not ours either.
#[test]
fn foreign_types_are_not_read() {
    for word in ["connected", "metrics_update", "subscription_confirmed"] {
        assert_eq!(
            decode_text(&format!(r#"{{"type":"{word}"}}"#)).unwrap_err(),
            DecodeError::UnknownType
        );
    }
}

#[test]
fn the_auth_answer_names_the_user_or_null() {
    let answer = |user| sent(|stamp| Envelope::authenticated(stamp, user, Some("1")));
    assert_eq!(answer(Some("ada"))["data"], json!({ "status": "authenticated", "user_id": "ada" }));
    assert_eq!(answer(None)["data"], json!({ "status": "authenticated", "user_id": null }));
    assert_eq!(answer(None)["event"], "auth");
}

#[test]
fn a_text_with_a_number_replaces_the_reasons_own() {
    let text = "Message rate limit exceeded. Retry after 0.010 seconds.";
    let error = sent(|stamp| Envelope::error(stamp, Reason::MessageRate, Some(text), None));
    assert_eq!(
        (&error["error_code"], &error["error_message"]),
        (&json!("RATE_LIMIT_EXCEEDED"), &json!(text))
    );
}

#[test]
fn every_reason_has_an_error_message_that_can_be_sent() {
    for reason in Reason::ALL {
        let error = sent(|stamp| Envelope::error(stamp, *reason, None, None));
        assert_eq!(error["type"], "error");
        assert!(error["error_code"].is_string() && error["error_message"].is_string());
    }
}

fn every_message() -> Vec<Value> {
    let welcome = Welcome {
        connection_id: Uuid::from_bytes([7; 16]),
        server: "mahavishnu",
        message: "Connected to Mahavishnu orchestration",
        authenticated: false,
        secure: false,
        rate_limit: Some(100),
        extras: WelcomeExtra::ALL,
    };
    let gap = Gap {
        channel: "pool:7",
        lost: Some(3),
        first_offset: Some(4),
        last_offset: Some(6),
        position: None,
    };
    vec![
        sent(|stamp| Envelope::welcome(stamp, welcome)),
        sent(|stamp| Envelope::authenticated(stamp, None, None)),
        sent(|stamp| Envelope::refreshed(stamp, None, Some("1"))),
        sent(|stamp| Envelope::subscribed(stamp, "pool:7", None)),
        sent(|stamp| Envelope::unsubscribed(stamp, "pool:7", None)),
        sent(|stamp| Envelope::subscribed(stamp, "pool:7", None).as_ack()),
        sent(|stamp| Envelope::pong(stamp, None)),
        sent(|stamp| Envelope::published(stamp, "pool:7", 2, Some(9), None)),
        sent(|stamp| Envelope::response(stamp, "get_pool_status", r#"{"pool_id":"7"}"#, None)),
        sent(|stamp| Envelope::error(stamp, Reason::Decode, None, None)),
        sent(|stamp| Envelope::failure(stamp, "NOT_FOUND", "no such pool", None)),
        sent(|stamp| Envelope::broadcast(stamp, "pool:7", "pool.scaled", "{}", Some(5))),
        sent(|stamp| Envelope::gap(stamp, gap)),
    ]
}

/// What a client reads of a message.
fn sent<'a>(build: impl FnOnce(Stamp<'a>) -> Envelope<'a>) -> Value {
    let timestamp: &'a Timestamp =
        Box::leak(Box::new(Timestamp::from_unix(Duration::from_secs(1_739_269_800))));
    let mut out = Vec::new();
    build(Stamp { id: Uuid::nil(), timestamp }).write(&mut out);
    serde_json::from_slice(&out).unwrap()
}
