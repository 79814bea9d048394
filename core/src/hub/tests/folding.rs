//! Events that make documents, and requests that documents answer.

use std::sync::LazyLock;

use mahavishnu_profiles::Profile;

use super::{shards::post, *};
#[cfg(feature = "jwt")]
use crate::auth::{Pattern, Policy, Rule};
use crate::config::Keep;

/// A service whose documents tell each event that they were made of, in order: one that is left out or taken twice is seen.
pub(super) static PROOF: LazyLock<Arc<Profile>> =
    LazyLock::new(|| Arc::new(Profile::parse(PROOF_TEXT).unwrap()));

const PROOF_TEXT: &str = r#"
name = "proof"
title = "Proof"
label = "proof"
[welcome]
server = "proof"
message = "Connected to proof"
[ports]
websocket = 8686
metrics = 9091
[limits]
connections_max = 10
messages_per_second = 10
[environment]
prefix = "PROOF"

[[event]]
name = "seen"
method = "seen"
rooms = ["thing:{id}"]
fields = ["id?", "n: number"]

[[fold]]
channels = ["thing:{id}"]
on = ["seen"]
steps = [
  { put = "log", by = "k", value = { k = { _first = ["=document.total", 0] }, n = "$n" }, max = 4096, counts = "total" },
]

[[copy]]
on = ["seen"]
from = "thing:{id}"
to = "system:service:things"

[[fold]]
channels = ["system:service:things"]
on = ["seen"]
steps = [{ put = "things", by = "n", value = { n = "$n" }, max = 4096, counts = "total" }]

[[request]]
event = "get_thing"
key = "id"
documents = { thing = "thing:{id}", all = "system:service:things" }
right = "thing:{id}"
found_if = ["=thing.total"]
[request.found]
id = "$id"
seen = "=thing.total"
of = "=all.total"
[request.unknown]
id = "$id"
status = "not_found"
"#;

pub(super) fn with_proof(config: Config) -> Config {
    Config { profile: Some(PROOF.clone()), ..config }
}

/// The numbers that a document was made of.
pub(super) fn folded(document: &Value) -> Vec<u64> {
    let Some(log) = document["log"].as_array() else { return Vec::new() };
    assert_eq!(document["total"].as_u64().unwrap(), log.len() as u64);
    log.iter().map(|entry| entry["n"].as_u64().unwrap()).collect()
}

fn seen(channel: &str, n: u64) -> Value {
    json!({"channel": channel, "event": "seen", "data": {"n": n}})
}

/// A channel `thing:…` at home on a shard.
fn thing(rig: &Rig, shard: u16) -> String {
    let placement = Placement::new(rig.hubs[0].hub().place());
    let mut names = (0..).map(|n| format!("thing:{n}"));
    names.find(|name| placement.home(name) == ShardId(shard)).unwrap()
}

impl Rig {
    fn document(&mut self, client: &Client, channel: &str) -> Value {
        let answer = self.request(client, "get_state", &json!({"channel": channel}));
        answer["data"]["state"].clone()
    }

    fn thing(&mut self, client: &Client, channel: &str) -> Value {
        let id = channel.strip_prefix("thing:").unwrap();
        self.request(client, "get_thing", &json!({"id": id}))
    }
}

#[test]
fn every_way_of_publishing_changes_the_document() {
    for (shards, keep) in [(1, Keep::default()), (1, Keep::OFF), (2, Keep::default())] {
        let mut config = with_proof(Config::default());
        config.history.default = keep;
        let mut rig = Rig::new(shards, config);
        let client = rig.connect(0);
        for shard in 0..shards {
            let channel = thing(&rig, shard);
            let answer = rig.request(&client, "publish", &seen(&channel, 1));
            let told = json!({"status": "published", "channel": channel, "subscribers": 0});
            assert_eq!(answer["data"], told, "of copies nothing is told");
            let key = json!({"channel": channel, "event": "seen", "data": {"n": 2}, "idempotency_key": format!("k{shard}")});
            for _ in 0..2 {
                assert_eq!(rig.request(&client, "publish", &key)["data"], told);
            }
            let socket = rig.socket(0);
            let body =
                json!({"messages": [seen(&channel, 3), seen("other", 0), seen(&channel, 4)]});
            rig.bytes(&socket, &post(&body.to_string()));
            assert!(socket.take_head().starts_with("HTTP/1.1 200"));
            let answer: Value = serde_json::from_str(&socket.take_text()).unwrap();
            assert_eq!(answer["messages"].as_array().map(Vec::len), Some(3), "{answer}");
            let publication = Publication::new(&*channel, "seen", r#"{"n":5}"#);
            let publish = Command::Publish { id: Some(CommandId(1)), publication };
            rig.hubs[0].handle_command(rig.now, publish);
            rig.run();
            let publication = Publication::new(&*channel, "unseen", r#"{"n":6}"#);
            rig.hubs[0].handle_command(rig.now, Command::Publish { id: None, publication });
            rig.run();
            assert_eq!(folded(&rig.document(&client, &channel)), [1, 2, 3, 4, 5]);
        }
        let things = rig.document(&client, "system:service:things");
        assert_eq!(things["total"], 5, "each number once: {things}");
    }
}

#[test]
fn a_publishers_own_document_counts_more() {
    let mut rig = Rig::alone_with(with_proof(Config::default()));
    let client = rig.connect(0);
    rig.request(&client, "publish", &seen("thing:a", 1));
    let mut own = seen("thing:a", 2);
    own["state"] = json!({"mine": true});
    rig.request(&client, "publish", &own);
    assert_eq!(rig.document(&client, "thing:a"), json!({"mine": true}));
    let mut later = seen("thing:a", 3);
    later["if_offset"] = 7.into();
    assert_eq!(rig.request(&client, "publish", &later)["error_code"], "CONFLICT");
    later["if_offset"] = 2.into();
    assert_eq!(rig.request(&client, "publish", &later)["error_code"], Value::Null);
    let document = rig.document(&client, "thing:a");
    assert_eq!((&document["mine"], folded(&document)), (&json!(true), vec![3]));
}

#[test]
fn what_grows_too_large_loses_its_oldest_entries() {
    let mut config = with_proof(unlimited());
    config.limits.history.state_bytes_max = 500;
    let mut rig = Rig::alone_with(config);
    let client = rig.connect(0);
    for n in 0..60 {
        rig.request(&client, "publish", &seen("thing:a", n));
    }
    let document = rig.document(&client, "thing:a");
    let entries = document["log"].as_array().unwrap();
    assert_eq!(entries.last().unwrap()["n"], 59);
    assert!(entries.len() < 60 && document.to_string().len() <= 500, "{document}");
}

#[test]
fn a_request_is_answered_from_documents() {
    for shards in [1, 2] {
        let mut rig = Rig::new(shards, with_proof(Config::default()));
        let client = rig.connect(0);
        for shard in 0..shards {
            let channel = thing(&rig, shard);
            let id = channel.strip_prefix("thing:").unwrap().to_owned();
            let answer = rig.thing(&client, &channel);
            let held = rig.held_bytes();
            assert_eq!(
                (&answer["event"], &answer["data"]),
                (&json!("get_thing"), &json!({"id": id, "status": "not_found"}))
            );
            rig.thing(&client, "thing:unheard-of");
            assert_eq!(rig.held_bytes(), held, "who only asks leaves nothing behind");
            rig.request(&client, "publish", &seen(&channel, u64::from(shard)));
            let answer = rig.thing(&client, &channel);
            assert_eq!(answer["data"], json!({"id": id, "seen": 1, "of": shard + 1}));
        }
        for data in [json!({}), json!({"id": null}), json!({"id": "x".repeat(2_000)})] {
            let answer = rig.request(&client, "get_thing", &data);
            assert_eq!(answer["error_code"], "INVALID_CHANNEL", "{data}");
        }
        assert_eq!(rig.request(&client, "get_other", &json!({}))["error_code"], "UNKNOWN_REQUEST");
    }
}

#[test]
fn a_setting_counts_more_than_the_profile() {
    let request = crate::protocol::StatusRequest::parse("get_thing=other:{id}").unwrap();
    let config = Config { status_requests: vec![request], ..Config::default() };
    let mut rig = Rig::alone_with(with_proof(config));
    let client = rig.connect(0);
    rig.request(&client, "publish", &seen("thing:a", 1));
    assert_eq!(rig.thing(&client, "thing:a")["data"], json!({"id": "a", "status": "not_found"}));
}

#[test]
fn channels_of_the_service_itself_are_the_servers() {
    let mut rig = Rig::alone_with(with_proof(Config::default()));
    let client = rig.connect(0);
    let answer = rig.request(&client, "publish", &seen("system:service:things", 1));
    assert_eq!(answer["error_code"], "FORBIDDEN");
    let socket = rig.socket(0);
    rig.bytes(&socket, &post(&seen("system:service:things", 1).to_string()));
    assert!(socket.take_head().starts_with("HTTP/1.1 403"));
}

/// Who may subscribe to a thing may ask about it; what is gathered of all things is for those who may do everything.
#[cfg(feature = "jwt")]
#[test]
fn who_may_subscribe_may_ask() {
    let policy = Policy::new(
        vec!["admin".into()],
        Vec::new(),
        vec![
            Rule {
                pattern: Pattern::parse("thing:*").unwrap(),
                subscribe: vec!["thing:read".into()],
                publish: vec!["thing:write".into()],
            },
            Rule {
                pattern: Pattern::parse("system:*").unwrap(),
                subscribe: vec!["thing:read".into()],
                publish: vec!["thing:read".into()],
            },
        ],
    );
    let config = Config { policy: policy.unwrap(), ..with_auth() };
    let mut rig = Rig::new(2, with_proof(config));
    let connect = |rig: &mut Rig, permissions: &[&str]| {
        let header = format!("Authorization: Bearer {}\r\n", token("ada", permissions));
        let client = rig.connect_with(1, &header);
        client.take();
        client
    };
    let reader = connect(&mut rig, &["thing:read"]);
    let (nobody, admin) = (connect(&mut rig, &[]), connect(&mut rig, &["admin"]));
    assert_eq!(rig.thing(&reader, "thing:a")["data"]["status"], "not_found");
    assert_eq!(rig.thing(&nobody, "thing:a")["error_code"], "FORBIDDEN");
    assert_eq!(rig.thing(&admin, "thing:a")["data"]["status"], "not_found");
    let hidden = json!({"channel": "system:service:things"});
    for (client, code) in [(&reader, json!("FORBIDDEN")), (&admin, Value::Null)] {
        assert_eq!(rig.request(client, "subscribe", &hidden)["error_code"], code);
        assert_eq!(rig.request(client, "get_state", &hidden)["error_code"], code);
    }
}

/// Where the application decides who may subscribe, it decides who may ask: once for each request.
#[test]
fn the_application_decides_who_may_ask() {
    let mut config = with_proof(Config::default());
    config.hooks.authorize_subscribe = true;
    let mut rig = Rig::new(2, config);
    let client = rig.connect(0);
    for allow in [true, false] {
        client.take();
        rig.outputs.clear();
        rig.send(
            &client,
            &json!({"type": "request", "event": "get_thing", "id": "1", "data": {"id": "a"}}),
        );
        let asked: Vec<_> = rig
            .outputs
            .iter()
            .filter_map(|output| {
                let Output::Authorize { id, channel, .. } = output else { return None };
                Some((*id, channel.clone()))
            })
            .collect();
        let [(id, channel)] = &asked[..] else { panic!("{asked:?}") };
        assert_eq!(&**channel, "thing:a");
        rig.hubs[0].handle_command(rig.now, Command::Decide { id: *id, allow });
        rig.run();
        let answer = client.take().remove(0);
        assert_eq!(answer["error_code"] == "FORBIDDEN", !allow, "{answer}");
    }
}

/// Without a profile the same channels are channels like any other.
#[test]
fn without_a_profile_nothing_is_made_of_events() {
    let mut rig = Rig::alone();
    let client = rig.connect(0);
    rig.request(&client, "publish", &seen("thing:a", 1));
    assert_eq!(rig.document(&client, "thing:a"), Value::Null);
    assert_eq!(rig.thing(&client, "thing:a")["error_code"], "UNKNOWN_REQUEST");
    let answer = rig.request(&client, "publish", &seen("system:service:things", 1));
    assert_eq!(answer["error_code"], Value::Null);
}
