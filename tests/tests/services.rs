//! What the services of the family answer from the events that are published to them: to their own Python client, by their
//! own tokens, on another node, and after a restart.

use mahavishnu_tests::{
    Server,
    cluster::Cluster,
    fleet::{Fleet, SERVICES, secret_of},
    foreign::python,
    token,
};
use rustix::process::Signal;
use serde_json::{Value, json};

fn is_ok(output: &str) {
    assert_eq!(output.lines().last(), Some("ok"), "{output}");
}

/// All whose requests are answered from events; Session-Buddy has a protocol of its own.
fn family() -> impl Iterator<Item = &'static str> {
    SERVICES.iter().map(|(name, _)| *name).filter(|name| *name != "session-buddy")
}

fn dialogues(specs: &[Value]) {
    is_ok(&python("family_dialogues.py", &[&json!(specs).to_string()]));
}

fn spec(fleet: &Fleet, service: &str, steps: &str) -> Value {
    let address = fleet.address(service);
    json!({
        "service": service,
        "publish": format!("http://{address}"),
        "ask": format!("ws://{address}"),
        "steps": steps,
    })
}

#[test]
fn each_service_answers_from_the_events_that_it_is_told() {
    let fleet = Fleet::start(&[], &[], "");
    let specs: Vec<_> = family().map(|service| spec(&fleet, service, "all")).collect();
    dialogues(&specs);
}

/// The claims of a token as the service makes it, for a reader and for a publisher.
fn claims(service: &str) -> [Value; 2] {
    let helper = |permission: String| token::claims("ada", &[&permission]);
    match service {
        "crackerjack" => ["crackerjack:read", "Crackerjack: Write"].map(|scope| {
            json!({ "sub": "ci", "iss": "crackerjack", "aud": "crackerjack", "scopes": [scope] })
        }),
        "mahavishnu" => {
            [&["workflow:read", "pool:read"][..], &["workflow:write", "pool:write"]].map(|all| token::claims("ada", all))
        }
        _ => ["read", "write"].map(|verb| helper(format!("{service}:{verb}"))),
    }
}

#[test]
fn each_service_answers_by_the_tokens_that_it_makes() {
    let fleet = Fleet::with_auth(&[], "");
    let specs: Vec<_> = family()
        .map(|service| {
            let [token, publish_token] =
                claims(service).map(|claims| token::sign_with(&secret_of(service), None, &claims));
            let mut spec = spec(&fleet, service, "all");
            spec["token"] = token.into();
            spec["publish_token"] = publish_token.into();
            spec
        })
        .collect();
    dialogues(&specs);
}

/// What it is told comes from a publisher with a token that it makes, its clients are its own.
#[test]
fn session_buddy_is_spoken_to_in_its_own_protocol() {
    let fleet = Fleet::with_auth(&[], "");
    let address = fleet.address("session-buddy");
    let token_of = |verb: &str| {
        let permission = format!("session-buddy:{verb}");
        token::sign_with(&secret_of("session-buddy"), None, &token::claims("ada", &[&permission]))
    };
    let publish = |token: &str, event: &str, fields: &[&str]| {
        let url = format!("http://{address}");
        let mut args =
            vec!["publish", "--url", &url, "--token", token, "--service", "session-buddy", event];
        args.extend(fields.iter().flat_map(|field| ["--field", *field]));
        fleet.run(&args)
    };
    let ruff = [
        "skill_name=ruff-check",
        "total_invocations=7",
        "completion_rate=100",
        "avg_duration_seconds=2",
    ];
    let pytest = [
        "skill_name=pytest-run",
        "total_invocations=42",
        "completion_rate=92.5",
        "avg_duration_seconds=5.2",
    ];
    let anomaly = ["skill_name=ruff-check", "anomaly_type=spike", "deviation_score=2.7"];
    for (event, fields) in
        [("skill.metrics", &ruff[..]), ("skill.metrics", &pytest), ("skill.anomaly", &anomaly)]
    {
        let refused = publish(&token_of("read"), event, fields);
        assert_ne!(refused.code, Some(0), "{}", refused.stdout);
        let done = publish(&token_of("write"), event, fields);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
    }
    python("session_buddy_client.py", &[&format!("ws://{address}"), &token_of("read")]);
}

#[test]
fn what_was_told_is_known_after_a_restart() {
    let keep = tempfile::tempdir().unwrap();
    let flags = ["--history-dir", &keep.path().display().to_string()];
    let mut fleet = Fleet::start(&flags, &[], "");
    let specs = |fleet: &Fleet, steps: &str| -> Vec<_> {
        family().map(|service| spec(fleet, service, steps)).collect()
    };
    dialogues(&specs(&fleet, "tell"));
    fleet.process.signal(Signal::TERM);
    assert_eq!(fleet.process.wait().code(), Some(0));
    drop(fleet);
    let fleet = Fleet::start(&flags, &[], "");
    dialogues(&specs(&fleet, "last"));
}

#[test]
fn another_node_answers_from_the_events_that_came_in_here() {
    for service in ["mahavishnu", "crackerjack", "excalidraw"] {
        let cluster = Cluster::start(3, &[("SERVICE", service)]);
        let spec = |publish: usize, ask: usize, steps: &str| {
            json!({
                "service": service,
                "publish": cluster.nodes[publish].url(),
                "ask": cluster.nodes[ask].ws_url(),
                "steps": steps,
            })
        };
        dialogues(&[spec(0, 1, "all"), spec(0, 2, "last"), spec(0, 0, "last")]);
    }
}

const BACKEND: [(&str, &str); 2] =
    [("BACKEND_CHANNEL", "system:requests"), ("BACKEND_REQUESTS", "get_weather,get_trouble")];

#[test]
fn a_back_end_in_python_answers_for_the_server() {
    let server = Server::with(&BACKEND);
    is_ok(&python("family_backend.py", &[&server.ws_url(), &server.ws_url()]));
    let server = Server::with_auth(&BACKEND);
    let url = server.ws_url();
    is_ok(&python("family_backend.py", &[&url, &url, &token::of("ada", &["admin"])]));
}

#[test]
fn a_back_end_in_python_answers_for_all_nodes() {
    let cluster = Cluster::start(3, &BACKEND);
    let urls = [0, 2].map(|node| cluster.nodes[node].ws_url());
    is_ok(&python("family_backend.py", &[&urls[0], &urls[1]]));
}
