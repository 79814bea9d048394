//! Session-Buddy's clients, in Python, on a path of the program; what is said is written down in `tests/dialogues`.

use std::collections::BTreeSet;

use mahavishnu_tests::{
    Server, binary,
    dialogue::Mask,
    foreign::python_command,
    line::{Line, messages},
    token, wait,
};
use serde_json::{Value, json};

const PATHS: (&str, &str) = ("DIALECT_PATHS", "/session-buddy=session-buddy");

/// Servers that must not differ.
const SERVERS: &[&[(&str, &str)]] = &[
    &[PATHS, ("SHARDS", "1")],
    &[PATHS, ("SHARDS", "1"), ("RUNTIME", "smol")],
    &[PATHS, ("SHARDS", "3")],
];

fn skill(name: &str, total: u64, rate: f64, duration: f64) -> Value {
    json!({
        "skill_name": name, "total_invocations": total, "completion_rate": rate, "avg_duration_seconds": duration,
    })
}

/// What a service of figures does.
fn publish(server: &Server, token: Option<&str>) {
    let mut client = match token {
        Some(token) => server.login(token),
        None => server.hello(),
    };
    let skills = [skill("ruff-check", 7, 100.0, 2.0), skill("pytest-run", 42, 92.5, 5.2)];
    let mut anomaly =
        json!({ "skill_name": "ruff-check", "anomaly_type": "spike", "deviation_score": 2.7 });
    // The server's own time.
    anomaly["detected_at"] =
        client.request("get_state", json!({ "channel": "skills" }))["timestamp"].clone();
    let document = json!({ "top_skills": skills, "anomalies": [anomaly] });
    let publish = json!({ "channel": "skills", "event": "skill.snapshot", "state": document });
    assert_eq!(client.request("publish", publish)["type"], "response");
    client.close();
}

#[test]
fn clients_in_python_hear_what_they_heard() {
    for (name, auth) in [("python_session_buddy", false), ("python_session_buddy_with_token", true)]
    {
        for settings in SERVERS {
            let server = if auth { Server::with_auth(settings) } else { Server::with(settings) };
            publish(&server, auth.then(|| token::of("root", &["admin"])).as_deref());
            let line = Line::to(server.address());
            let token = token::of("ada", &["session-buddy:read"]);
            let url = format!("{}/session-buddy", line.ws_url().trim_end_matches('/'));
            let mut command = python_command("session_buddy_client.py", &[&url]);
            if auth {
                command.arg(&token);
            }
            let output = command.output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

            server.metrics_when("its end", |metrics| metrics.active() == 0);
            let text =
                wait::until("all close frames", || written_down(&line, server.name(), &token).ok());
            let path = binary::workspace().join("tests/dialogues").join(name).with_extension("txt");
            if std::env::var_os("RECORD_DIALOGUES").is_some() {
                std::fs::write(&path, &text).unwrap();
            }
            let expected = std::fs::read_to_string(&path).unwrap();
            assert_eq!(text, expected, "{name}");
        }
    }
}

/// All connections of a line: what the client said, then what it heard, and behind that, marked by `each second`, the figures
/// that it heard, each of them once: when they come depends on the time. Fails if one has not ended in order.
fn written_down(line: &Line, server: &str, token: &str) -> Result<String, ()> {
    let mut mask = Mask::new(server);
    let mut text = String::new();
    for sides in line.said() {
        for (said, mark) in sides.iter().zip([">", "<"]) {
            let messages = messages(said);
            if !messages.last().is_some_and(|last| last.starts_with("close ")) {
                return Err(());
            }
            let mut figures = BTreeSet::new();
            for message in messages {
                let message = mask.text(&message.replace(token, "<token>"));
                if message.starts_with(r#"{"type":"metrics_update""#) {
                    figures.insert(message);
                } else {
                    text.push_str(&format!("{mark} {message}\n"));
                }
            }
            figures
                .iter()
                .for_each(|message| text.push_str(&format!("{mark} each second {message}\n")));
        }
    }
    Ok(text)
}

#[test]
fn a_path_can_be_given_and_taken_away_by_a_reload() {
    let server = Server::with_file(&[("SHARDS", "1")], "");
    let kind = |path: &str| server.open(path, &[]).unwrap().message()["type"].clone();
    assert_eq!(kind("/session-buddy"), "event");
    server.reload("MAHAVISHNU_DIALECT_PATHS=/session-buddy=session-buddy\n");
    assert_eq!((kind("/session-buddy"), kind("/")), (json!("connected"), json!("event")));
    let mut stays = server.open("/session-buddy", &[]).unwrap();
    assert_eq!(stays.message()["type"], "connected");
    server.reload("");
    assert_eq!(kind("/session-buddy"), "event");
    assert_eq!(stays.message()["type"], "metrics_update");
}
