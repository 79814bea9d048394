//! Recording a server and running it again, by the program alone.

use std::path::PathBuf;

use mahavishnu_tests::{Server, server, token};
use rustix::process::Signal;
use serde_json::json;

/// A server that was recorded and has ended, with its file.
struct Recorded {
    server: Server,
    dir: tempfile::TempDir,
}

impl Recorded {
    /// Runs a server on `shards`, talks to it and ends it by `signal`.
    fn run(shards: &'static str, signal: Signal) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("trace");
        let settings = [("SHARDS", shards), ("RECORD_FILE", file.to_str().unwrap())];
        let mut server = Server::with_auth(&settings);
        let mut clients: Vec<_> =
            (0..4).map(|_| server.login(&token::of("ada", &["admin"]))).collect();
        for client in &mut clients {
            client.subscribe("workflow:42");
        }
        for n in 0..20 {
            clients[0].publish("workflow:42", "workflow.progress", json!({ "n": n }));
        }
        for client in &mut clients[1..] {
            while client.message()["data"]["n"] != 19 {}
        }
        server.client().send_text("not JSON");
        server.signal(signal);
        server.wait();
        Self { server, dir }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("trace")
    }

    fn replay(&self, flags: &[&str]) -> server::Done {
        let file = self.file();
        self.server.run(&[&["replay"], flags, &[file.to_str().unwrap()]].concat())
    }
}

#[test]
fn a_recorded_server_runs_again() {
    for shards in ["1", "3"] {
        let recorded = Recorded::run(shards, Signal::TERM);

        let done = recorded.replay(&[]);

        assert_eq!(done.code, Some(0), "{done:?}");
        assert!(done.stdout.contains("the same comes out"), "{done:?}");
        assert!(done.stdout.contains(&format!("on {shards} shards")), "{done:?}");
        assert!(!done.stderr.contains("breaks off"), "{done:?}");
    }
}

#[test]
fn what_a_killed_server_has_left_runs_again() {
    let recorded = Recorded::run("1", Signal::KILL);

    let done = recorded.replay(&[]);

    assert_eq!(done.code, Some(0), "{done:?}");
}

#[test]
fn a_recording_that_was_changed_does_not_come_out_the_same() {
    let recorded = Recorded::run("1", Signal::TERM);
    let mut trace = std::fs::read(recorded.file()).unwrap();
    // The method of the last request.
    let at = trace.windows(4).rposition(|bytes| bytes == b"GET ").unwrap();
    trace[at + 1] ^= 1;
    std::fs::write(recorded.file(), trace).unwrap();

    let done = recorded.replay(&[]);

    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains("came out differently"), "{done:?}");
}

#[test]
fn other_settings_are_refused() {
    let recorded = Recorded::run("1", Signal::TERM);

    let done = recorded.replay(&["--max-connections", "7"]);

    assert_eq!(done.code, Some(5), "{done:?}");
    assert!(done.stderr.contains("replay with the settings that were in force"), "{done:?}");
}
