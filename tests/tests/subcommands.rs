//! `token`, `publish` and `subscribe`: the tools around the server.

use std::path::Path;

use mahavishnu_tests::{
    Server, server,
    token::{self, SECRET},
};
use serde_json::{Value, json};

#[test]
fn the_subcommand_publishes() {
    let server = Server::start();
    let mut reader = server.hello();
    reader.subscribe("workflow:42");
    let url = server.url();
    let done = server.run(&[
        "publish",
        "--url",
        &url,
        "workflow:42",
        "workflow.completed",
        r#"{"ok":true}"#,
    ]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stdout.contains('1'), "it says how many it reached: {done:?}");
    let event = reader.message();
    assert_eq!(
        (&event["event"], &event["data"]),
        (&json!("workflow.completed"), &json!({ "ok": true }))
    );
}

#[test]
fn the_subcommand_replaces_a_document_that_nobody_has_changed() {
    let server = Server::start();
    let mut client = server.hello();
    let url = server.url();
    let publish = |more: &[&str]| {
        let arguments = [&["publish", "--url", &url, "--json"], more, &["workflow:42", "e"]];
        server.run(&arguments.concat())
    };
    let first = publish(&["--state", r#"{"n":1}"#, "--if-offset", "0"]);
    assert_eq!(first.code, Some(0), "{first:?}");
    let told: Value = first.stdout.parse().expect("JSON");
    assert_eq!((&told["channel"], &told["offset"]), (&json!("workflow:42"), &json!(1)));
    let epoch = told["epoch"].as_str().expect("an epoch");

    let late = publish(&["--state", r#"{"n":2}"#, "--if-offset", "0"]);
    let next = ["--state", r#"{"n":3}"#, "--if-offset", "1", "--if-epoch", epoch];

    assert_eq!(late.code, Some(11), "{late:?}");
    assert!(late.stderr.contains("CONFLICT"), "{late:?}");
    assert_eq!(publish(&next).code, Some(0));
    let state = client.request("get_state", json!({ "channel": "workflow:42" }));
    assert_eq!(state["data"]["state"], json!({ "n": 3 }));
    assert_eq!(publish(&["--if-epoch", epoch]).code, Some(1), "says nothing without an offset");
}

#[test]
fn the_subcommand_publishes_with_a_token_it_made() {
    let server = Server::with_auth(&[]);
    let mut reader = server.login(&token::of("ada", &["admin"]));
    reader.subscribe("workflow:42");
    let url = server.url();
    assert_ne!(server.run(&["publish", "--url", &url, "workflow:42", "e"]).code, Some(0));
    let made = server.run(&[
        "token",
        "create",
        "--user",
        "bob",
        "--permission",
        "workflow:write",
        "--expires-in",
        "60",
    ]);
    let token = made.stdout.lines().last().expect("the token is the last line");
    let done = server.run(&["publish", "--url", &url, "--token", token, "workflow:42", "e"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(reader.message()["event"], "e");
}

fn create_token(dir: &Path, args: &[&str]) -> String {
    let done = server::run(
        dir,
        &[("MAHAVISHNU_JWT_SECRET", SECRET)],
        &[&["token", "create"], args].concat(),
    );
    assert_eq!(done.code, Some(0), "{done:?}");
    done.stdout.lines().last().expect("the token is the last line").to_owned()
}

#[test]
fn a_token_that_was_made_is_accepted_and_can_be_inspected() {
    let server = Server::with_auth(&[]);
    let dir = tempfile::tempdir().unwrap();
    let token = create_token(
        dir.path(),
        &[
            "--user",
            "ada",
            "--permission",
            "workflow:read",
            "--permission",
            "pool:read",
            "--expires-in",
            "60",
        ],
    );
    let mut client = server.login(&token);
    client.subscribe("workflow:1");
    client.subscribe("pool:1");
    let inspect = |settings: &[(&str, &str)], token: &str| {
        server::run(dir.path(), settings, &["token", "inspect", token])
    };
    let good = inspect(&[("MAHAVISHNU_JWT_SECRET", SECRET)], &token);
    assert_eq!(good.code, Some(0), "{good:?}");
    assert!(good.stdout.contains("ada") && good.stdout.contains("pool:read"), "{good:?}");
    assert_eq!(inspect(&[("MAHAVISHNU_JWT_SECRET", token::OTHER_SECRET)], &token).code, Some(1));
}

#[test]
fn a_token_cannot_be_made_without_a_secret() {
    let dir = tempfile::tempdir().unwrap();
    let done = server::run(dir.path(), &[], &["token", "create", "--user", "ada"]);
    assert_eq!(done.code, Some(5), "{done:?}");
}

#[test]
fn the_subscribe_subcommand_prints_events_and_comes_back_after_a_restart() {
    let mut server = Server::start();
    let url = server.ws_url();
    let reader = server.spawn(&["subscribe", "--url", &url, "--count", "2", "workflow:42"]);
    let publish = |server: &Server, n: u64| {
        mahavishnu_tests::wait::until("a subscriber", || {
            let reached = server.post("workflow:42", "workflow.started", &json!({ "n": n }));
            (reached == 1).then_some(())
        });
    };
    publish(&server, 1);
    mahavishnu_tests::wait::until("its line", || reader.log().contains(r#"{"n":1}"#).then_some(()));
    server.kill();
    server.start_again();
    publish(&server, 2);
    let done = reader.finish();
    assert_eq!(done.code, Some(0), "{done:?}");
    let lines: Vec<&str> = done.stdout.lines().collect();
    assert_eq!(
        lines,
        [r#"workflow:42 workflow.started {"n":1}"#, r#"workflow:42 workflow.started {"n":2}"#]
    );
}

#[test]
fn the_subcommand_takes_compressed_events() {
    let server = Server::with(&[("DEFLATE", "on"), ("SHARDS", "1")]);
    let url = server.url();
    let text = "the same words over and over, ".repeat(10_000);
    let reader = server.spawn(&["subscribe", "--url", &url, "--count", "1", "workflow:1"]);
    let data = json!({ "text": text });
    let reached = || server.post("workflow:1", "e", &data);
    mahavishnu_tests::wait::until("a subscriber", || (reached() == 1).then_some(()));

    let done = reader.finish();

    assert!(done.code == Some(0) && done.stdout.contains(&text), "{:?}", done.code);
    server.metrics_when("a compressed message", |metrics| {
        metrics.count("mahavishnu_deflate_messages_total", &[("direction", "sent")]) > 0
    });
}
