//! What clients got before there were positions, history, presence and sessions, they get still, byte for byte.
//!
//! `tests/dialogues` was written down from commit 7f37c56, the last one without them. `RECORD_DIALOGUES=1`, with that
//! program as `MAHAVISHNU_BIN`, writes it anew; with any other program it must not be.

use std::path::PathBuf;

use mahavishnu_tests::{
    Server, binary,
    dialogue::{Dialogue, Mask},
    foreign::python_command,
    line::{Line, messages},
    token, wait,
};

/// Servers that must not differ.
const SERVERS: &[&[(&str, &str)]] = &[
    &[("SHARDS", "1")],
    &[("SHARDS", "1"), ("RUNTIME", "smol")],
    // In its own directory.
    &[("SHARDS", "1"), ("HISTORY_FILE", "history"), ("PRESENCE_RULES", "*")],
    &[("SHARDS", "3")],
];

fn dialogues() -> PathBuf {
    binary::workspace().join("tests/dialogues")
}

fn is_recording() -> bool {
    std::env::var_os("RECORD_DIALOGUES").is_some()
}

fn has_not_changed(name: &str) {
    let path = dialogues().join(name).with_extension("txt");
    let dialogue = Dialogue::read(&path);
    if is_recording() {
        std::fs::write(&path, dialogue.record()).unwrap();
        return;
    }
    for settings in SERVERS {
        if !dialogue.alone || settings[0].1 == "1" {
            dialogue.replay(settings);
        }
    }
}

macro_rules! dialogues {
    ($($name:ident)*) => {
        $(#[test] fn $name() { has_not_changed(stringify!($name)); })*

        #[test]
        fn every_dialogue_has_its_test() {
            let mut files: Vec<_> = std::fs::read_dir(dialogues()).unwrap()
                .map(|entry| entry.unwrap().path())
                .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
                .filter(|name| !name.starts_with("python"))
                .collect();
            files.sort();
            assert_eq!(files, [$(stringify!($name)),*]);
        }
    };
}

dialogues! {
    authentication
    closing
    decoding
    gaps
    handshakes
    http
    members_without_meaning
    permissions
    publishing
    status_not_mirrored
    stopping
    subscribing
    unknown_requests
}

/// What the services' own Python client hears, its every message included: it comes through a line that is listened to.
#[test]
fn the_services_python_client_hears_the_same() {
    for (name, auth) in [("python", false), ("python_with_token", true)] {
        for settings in &SERVERS[..3] {
            let server = if auth { Server::with_auth(settings) } else { Server::with(settings) };
            let line = Line::to(server.address());
            let token = token::of("ada", &["admin"]);
            let mut command = python_command("services_client.py", &[&line.ws_url()]);
            if auth {
                command.arg(&token);
            }
            let output = command.output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

            server.metrics_when("its end", |metrics| metrics.active() == 0);
            let text = wait::until("both close frames", || {
                written_down(&line, server.name(), &token).ok()
            });
            let path = dialogues().join(name).with_extension("txt");
            if is_recording() {
                std::fs::write(&path, &text).unwrap();
            }
            let expected = std::fs::read_to_string(&path).unwrap();
            assert_eq!(text, expected, "{name}");
        }
    }
}

/// All connections of a line: what the client said, then what it heard. Fails if one has not ended in order.
fn written_down(line: &Line, server: &str, token: &str) -> Result<String, ()> {
    let mut mask = Mask::new(server);
    let mut text = String::new();
    for sides in line.said() {
        for (said, mark) in sides.iter().zip([">", "<"]) {
            let messages = messages(said);
            if !messages.last().is_some_and(|last| last.starts_with("close ")) {
                return Err(());
            }
            for message in messages {
                let message = mask.text(&message.replace(token, "<token>"));
                text.push_str(&format!("{mark} {message}\n"));
            }
        }
    }
    Ok(text)
}
