//! Session-Buddy's protocol, on a path of its own.

use mahavishnu_conformance::{Backend, Client, Rig, token};
use mahavishnu_core::config::Dialect;
use serde_json::{Value, json};

const PATH: &str = "/session-buddy";

fn start(backend: Backend, authenticates: bool) -> Rig {
    backend.start(|config| {
        config.dialects.paths = vec![(PATH.into(), Dialect::SessionBuddy)];
        if authenticates {
            config.auth.required = true;
            config.auth.keys.add_secret(None, token::SECRET).unwrap();
        }
    })
}

fn open(rig: &Rig, headers: &[(&str, &str)]) -> Client {
    Client::open(rig.connect(), PATH, headers).expect("a handshake")
}

/// The next message that does not come by itself.
fn answer(client: &mut Client) -> Value {
    std::iter::repeat_with(|| client.message())
        .find(|message| message["type"] != "metrics_update")
        .unwrap()
}

/// The next figures that `wanted` wants.
fn update(client: &mut Client, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut updates = std::iter::repeat_with(|| client.message());
    updates.find(|message| message["type"] == "metrics_update" && wanted(&message["data"])).unwrap()
}

fn skill(name: &str, total: u64) -> Value {
    json!({
        "skill_name": name, "total_invocations": total, "completion_rate": 92.5, "avg_duration_seconds": 1.5,
    })
}

pub(crate) fn session_buddys_clients_are_spoken_to_in_their_way(backend: Backend) {
    let rig = start(backend, false);
    let mut family = rig.hello();
    let mut client = open(&rig, &[]);
    let greeting = client.message();
    let text = "Connected to Session-Buddy real-time metrics";
    assert_eq!((&greeting["type"], &greeting["message"]), (&json!("connected"), &json!(text)));
    assert_eq!(
        (&greeting["authenticated"], greeting.as_object().unwrap().len()),
        (&json!(false), 4)
    );

    let nothing = json!({ "top_skills": [], "anomalies": [] });
    update(&mut client, |data| *data == nothing);
    let skills = json!({ "top_skills": [skill("a", 3), skill("b", 7)] });
    let publish =
        json!({ "channel": "skills", "event": "skill.snapshot", "data": {}, "state": skills });
    assert_eq!(family.request("publish", &publish)["type"], "response");
    update(&mut client, |data| data["top_skills"] == json!([skill("b", 7), skill("a", 3)]));

    client.send(&json!({ "type": "subscribe", "skill": "a" }));
    let confirmed = answer(&mut client);
    assert_eq!(
        (&confirmed["type"], &confirmed["skill"], confirmed.as_object().unwrap().len()),
        (&json!("subscription_confirmed"), &json!("a"), 3)
    );
    assert_eq!(client.message()["data"], json!({ "top_skills": [skill("a", 3)], "anomalies": [] }));
    for silent in [
        json!({ "type": "get_metrics" }),
        json!({ "type": "request", "event": "get_state", "data": { "channel": "skills" } }),
        json!([]),
        json!({ "type": "unsubscribe" }),
    ] {
        client.send(&silent);
    }
    client.send_text("no JSON");
    client.send(&json!({ "type": "ping" }));
    assert_eq!(answer(&mut client), json!({ "type": "pong" }));
    assert_eq!(client.message()["data"]["top_skills"].as_array().unwrap().len(), 2);
    for (kind, direction) in [
        ("connected", "sent"),
        ("metrics_update", "sent"),
        ("subscription_confirmed", "sent"),
        ("pong", "sent"),
        ("subscribe", "received"),
        ("unsubscribe", "received"),
        ("ping", "received"),
    ] {
        let labels = [("message_type", kind), ("direction", direction)];
        assert!(rig.count("websocket_messages_total", &labels) > 0, "{kind} {direction}");
    }
    for (kind, count) in [("unknown_request", 2), ("decode_error", 2)] {
        let labels = [("error_type", kind)];
        rig.expect_count("websocket_message_errors_total", &labels, count);
    }
}

pub(crate) fn session_buddys_clients_send_a_token_first(backend: Backend) {
    let rig = start(backend, true);
    let good = token::good(rig.unix(), "u", &["session-buddy:read"]);
    let mut client = open(&rig, &[]);
    client.send(&json!({ "token": good }));
    let greeting = client.message();
    assert_eq!(
        (&greeting["type"], &greeting["authenticated"]),
        (&json!("connected"), &json!(true))
    );
    update(&mut client, |data| data["top_skills"] == json!([]));

    for wrong in [json!({ "token": "no" }), json!({ "type": "ping" }), json!("token")] {
        let mut client = open(&rig, &[]);
        client.send(&wrong);
        assert_eq!(client.expect_close(4001), "Authentication failed", "{wrong}");
    }
    let count = |label: &str| {
        rig.expect_count("websocket_connection_errors_total", &[("error_type", label)], 1);
    };
    for label in ["auth_failed", "auth_missing", "auth_error"] {
        count(label);
    }

    let mut silent = open(&rig, &[]);
    rig.pass(std::time::Duration::from_secs(5));
    assert_eq!(silent.wait_close(4001), "Authentication failed");
    count("auth_timeout");
}
