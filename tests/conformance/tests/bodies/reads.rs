//! Reading over HTTP what is kept of a channel.

use std::time::Duration;

use mahavishnu_conformance::{App, Backend, Response, Rig, Setup, token};
use mahavishnu_core::config::{Keep, Origin, Origins};
use serde_json::{Value, json};

fn get(rig: &Rig, query: &str, fields: &[(&str, &str)]) -> Response {
    let fields: String =
        fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let request = format!("GET /history?{query} HTTP/1.1\r\nHost: test\r\n{fields}\r\n");
    rig.raw().exchange(request.as_bytes())
}

/// The page that a question is answered with.
fn page(rig: &Rig, query: &str) -> Value {
    let answer = get(rig, query, &[]);
    assert_eq!(answer.status, 200, "{query}: {answer:?}");
    answer.json()
}

fn offsets(page: &Value) -> Vec<u64> {
    let events = page["events"].as_array().expect("a list").iter();
    events.map(|event| event["offset"].as_u64().expect("a number")).collect()
}

fn publish(rig: &Rig, channel: &str, count: u64) {
    for n in 1..=count {
        rig.broadcast(channel, &json!({ "n": n }));
    }
}

pub(crate) fn history_is_read_over_http_as_by_message(backend: Backend) {
    let rig = backend.start(|_| {});
    publish(&rig, "größe", 3);
    let answer = get(&rig, "channel=gr%C3%B6%c3%9Fe&limit=2", &[]);
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let page = answer.json();
    assert_eq!((offsets(&page), &page["offset"]), (vec![2, 3], &json!(3)));
    assert_eq!(
        (&page["more"], &page["events"][1]["event"], &page["events"][1]["data"]),
        (&json!(true), &json!("e"), &json!({ "n": 3 }))
    );
    let asked = rig.hello().request("get_history", json!({ "channel": "größe", "limit": 2 }));
    assert_eq!(asked["data"], page);
}

pub(crate) fn pages_over_http_to_either_end_are_the_whole(backend: Backend) {
    let rig = backend.start_with(Setup { shards: 3, ..Setup::new(|_| {}) });
    for channel in ["a", "b", "c", "d"] {
        publish(&rig, channel, 23);
        let whole = page(&rig, &format!("channel={channel}"));
        let all: Vec<u64> = (1..=23).collect();
        assert_eq!((offsets(&whole), &whole["more"]), (all, &json!(false)));
        let (mut back, mut forth) = (Vec::new(), Vec::new());
        let mut question = format!("channel={channel}&limit=5");
        loop {
            let mut part = page(&rig, &question);
            let events = part["events"].as_array_mut().expect("a list");
            let first = events[0]["offset"].clone();
            back.splice(..0, std::mem::take(events));
            if part["more"] == json!(false) {
                break;
            }
            question = format!("channel={channel}&limit=5&before={first}");
        }
        let (epoch, mut after) = (whole["epoch"].as_str().expect("a name"), json!(0));
        loop {
            let question = format!("channel={channel}&limit=5&epoch={epoch}&after={after}");
            let mut part = page(&rig, &question);
            forth.append(part["events"].as_array_mut().expect("a list"));
            after = forth.last().expect("an event")["offset"].clone();
            if part["more"] == json!(false) {
                break;
            }
        }
        assert_eq!((&json!(back), &json!(forth)), (&whole["events"], &whole["events"]));
        let nothing = page(&rig, &format!("channel={channel}&epoch={epoch}&after=23"));
        assert_eq!((offsets(&nothing), &nothing["more"]), (vec![], &json!(false)));
    }
}

pub(crate) fn who_may_not_subscribe_may_not_read_over_http(backend: Backend) {
    let rig = backend.start(token::demand);
    publish(&rig, "workflow:1", 1);
    let with = |channel: &str, token: &str| {
        let bearer = format!("Bearer {token}");
        get(&rig, &format!("channel={channel}"), &[("Authorization", &bearer)]).status
    };
    let now = rig.unix();
    let reader = token::good(now, "ada", &["workflow:read"]);
    assert_eq!(get(&rig, "channel=workflow:1", &[]).status, 401);
    assert_eq!(with("workflow:1", &token::expired(now)), 401);
    assert_eq!(with("workflow:1", &token::forged(now)), 401);
    assert_eq!(with("workflow:1", &token::good(now, "ada", &[])), 403);
    assert_eq!(with("pool:1", &reader), 403);
    assert_eq!(with("workflow:1", &reader), 200);
    let token = format!("channel=workflow:1&token={reader}");
    assert_eq!(get(&rig, &token, &[]).status, 401, "addresses end up in logs");
}

pub(crate) fn the_application_decides_on_reading(backend: Backend) {
    let subscribe: fn(&str) -> Option<(Duration, bool)> =
        |channel| Some((Duration::from_millis(10), channel == "open"));
    let app = App { subscribe: Some(subscribe), ..App::default() };
    let rig = backend.start_with(Setup { app, ..Setup::new(|_| {}) });
    publish(&rig, "open", 1);
    publish(&rig, "secret", 1);
    assert_eq!(offsets(&page(&rig, "channel=open")), [1]);
    let refused = get(&rig, "channel=secret", &[]);
    assert_eq!((refused.status, &refused.json()["error_code"]), (403, &json!("FORBIDDEN")));
    let mut client = rig.hello();
    let read = |channel| json!({ "channel": channel });
    assert_eq!(offsets(&client.request("get_history", read("open"))["data"]), [1]);
    assert_eq!(client.request("get_history", read("secret"))["error_code"], "FORBIDDEN");
}

pub(crate) fn questions_over_http_that_make_no_sense_are_refused(backend: Backend) {
    let rig = backend.start(|_| {});
    publish(&rig, "a", 1);
    let epoch = page(&rig, "channel=a")["epoch"].as_str().expect("a name").to_owned();
    for question in ["", "limit=1", "channel=", "channel=%00", "Channel=a"] {
        let answer = get(&rig, question, &[]);
        let code = answer.json()["error_code"].clone();
        assert_eq!((answer.status, code), (400, json!("INVALID_CHANNEL")), "{question}");
    }
    let both = format!("epoch={epoch}&after=1&before=1");
    for question in [
        "limit=-1",
        "limit=ten",
        "before=",
        "before=1.5",
        "after=1",
        "epoch=0123456789",
        "epoch=nonsense&after=1",
        &both,
        "limit=1&limit=2",
        "x=%zz",
    ] {
        let answer = get(&rig, &format!("channel=a&{question}"), &[]);
        let code = answer.json()["error_code"].clone();
        assert_eq!((answer.status, code), (400, json!("DECODE_ERROR")), "{question}");
    }
    let ahead = format!("channel=a&epoch={epoch}&after=2");
    for question in ["channel=a&epoch=0123456789&after=0", &*ahead] {
        assert_eq!(get(&rig, question, &[]).status, 410, "{question}");
    }
    for (question, expected) in
        [("limit=0", vec![]), ("before=1", vec![]), ("before=99&_=123", vec![1])]
    {
        assert_eq!(offsets(&page(&rig, &format!("channel=a&{question}"))), expected, "{question}");
    }
}

pub(crate) fn history_is_only_read(backend: Backend) {
    let rig = backend.start(|_| {});
    publish(&rig, "a", 1);
    let mut raw = rig.raw();
    for method in ["POST", "OPTIONS", "DELETE"] {
        let request = format!(
            "{method} /history?channel=a HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n"
        );
        let answer = raw.exchange(request.as_bytes());
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{method}");
    }
    raw.write(b"HEAD /history?channel=a HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(raw.response_head().status, 200);
    let ahead = [1, 2, 3].map(|_| &b"GET /history?channel=a HTTP/1.1\r\nHost: test\r\n\r\n"[..]);
    raw.write(&ahead.concat());
    for _ in ahead {
        assert_eq!(offsets(&raw.response().json()), [1]);
    }
}

pub(crate) fn pages_that_may_not_connect_may_not_read(backend: Backend) {
    let rig = backend.start_with(Setup {
        settings: vec![("ALLOWED_ORIGINS", "https://app.example")],
        ..Setup::new(|config| {
            let origin = Origin::parse("https://app.example").expect("an origin");
            config.origins = Origins::Only(vec![origin]);
        })
    });
    publish(&rig, "a", 1);
    let from = |origin| get(&rig, "channel=a", &[("Origin", origin)]).status;
    assert_eq!((from("https://app.example"), from("https://evil.example")), (200, 403));
}

pub(crate) fn without_history_there_is_none_to_read(backend: Backend) {
    let rig = backend.start(|config| config.history.default = Keep::OFF);
    let mut client = rig.subscriber("a");
    publish(&rig, "a", 2);
    assert_eq!(client.numbers(2), [1, 2]);
    let answer = page(&rig, "channel=a");
    assert_eq!((offsets(&answer), &answer["more"]), (vec![], &json!(false)));
    let answer = page(&rig, "channel=nobody");
    assert_eq!((offsets(&answer), &answer["offset"]), (vec![], &json!(0)));
}
