//! `config diff`: what a running server has, against what its file says by now.

use crate::support::{Place, SECRET, Server};

const OTHER: &str = "aW3xK9vB5nM1qP7tR2yU8iO4eL6hJ0gS";

/// The lines behind the first one.
fn lines(out: &str) -> Vec<&str> {
    out.lines().skip(1).collect()
}

fn env(secret: &str, more: &str) -> String {
    format!("MAHAVISHNU_AUTH_ENABLED=true\nMAHAVISHNU_JWT_SECRET={secret}\n{more}")
}

#[test]
fn without_a_server_there_is_nothing_to_compare() {
    assert_eq!(Place::new().run("config diff").expect(2).err, "mahavishnu: not running\n");
}

#[test]
fn what_a_reload_and_what_a_restart_would_change_is_told_and_no_secret() {
    let place = Place::new();
    place.write("a.env", &env(SECRET, ""));
    let _server = Server::start(&place, "--env-file a.env", &[("MAHAVISHNU_JWT_EXPIRY", "60")]);
    let done = place.run("config diff").expect(0);
    assert_eq!(lines(&done.out), ["no difference"]);
    let file = place.path().canonicalize().unwrap().join("a.env");
    assert!(done.out.contains(file.to_str().unwrap()), "{}", done.out);

    let changed = "MAHAVISHNU_SHARDS=3\nMAHAVISHNU_LOG_LEVEL=ERROR\nMAHAVISHNU_PORT=9\nMAHAVISHNU_JWT_EXPIRY=61\n";
    place.write("a.env", &env(OTHER, changed));
    let done = place.run("config diff").expect(12);
    assert_eq!(
        lines(&done.out),
        [
            "MAHAVISHNU_PORT: 0 -> 9  (not at all: the server was given the other by --port)",
            "MAHAVISHNU_SHARDS: auto -> 3  (with a restart)",
            "MAHAVISHNU_JWT_SECRET: ******** -> another one  (with a reload)",
            "MAHAVISHNU_JWT_EXPIRY: 60 -> 61  (not at all: the server was given the other by environment)",
            "MAHAVISHNU_LOG_LEVEL: INFO -> ERROR  (with a reload)",
        ]
    );
    let json = place.run("config diff --json").expect(12).out;
    assert!(!json.contains(OTHER) && !json.contains(SECRET), "{json}");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["differences"][1]["effect"], "restart");
    assert_eq!(json["differences"][3]["held_by"], "environment");

    place.run("websocket reload").expect(0);
    let done = place.run("config diff").expect(12);
    assert_eq!(lines(&done.out).len(), 3, "{}", done.out);
    assert!(lines(&done.out)[1].contains("restart"), "{}", done.out);
}

#[test]
fn another_file_is_compared_before_it_takes_the_place_of_the_first() {
    let place = Place::new();
    place.write(".env", &env(SECRET, ""));
    let server = Server::start(&place, "", &[]);
    place.write("next.env", &env(SECRET, "MAHAVISHNU_HISTORY=7/60\n"));
    let done = place.run("config diff --env-file next.env").expect(12);
    assert_eq!(lines(&done.out), ["MAHAVISHNU_HISTORY: 100/300 -> 7/60  (with a reload)"]);
    // What is wrong with it is said before anybody has it reloaded.
    place.write("bad.env", &env("short", ""));
    let done = place.run("config diff --env-file bad.env").expect(5);
    assert!(done.err.contains("MAHAVISHNU_JWT_SECRET"), "{}", done.err);
    place.run("config diff --env-file none.env").expect(5);
    let record = place.path().join(".local/state/mahavishnu/mahavishnu_websocket.settings");
    let text = std::fs::read_to_string(&record).unwrap();
    assert!(!text.contains(SECRET), "{text}");
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    assert!(!record.exists(), "it goes with the server");
}
