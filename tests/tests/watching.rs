//! The example of a client in the crate `wire` does what it says, against a real server.

use std::{sync::mpsc, thread};

use mahavishnu_tests::{Server, certs::Authority};
use serde_json::json;

#[path = "../../wire/examples/watch.rs"]
#[expect(dead_code, reason = "its main is the example's")]
mod example;

/// Subscribes, and is told one event, whose publishers are told that it is there.
fn watches(server: &Server, url: String, ca_file: Option<String>) {
    let (tell, told) = mpsc::channel();
    let watcher = thread::spawn(move || {
        let told = |event: &str, data: &str| {
            let _ = tell.send((event.to_owned(), data.to_owned()));
            false
        };
        example::watch(&url, "a", ca_file.as_deref(), None, told).map_err(|error| error.to_string())
    });
    while server.post("a", "e", &json!({ "n": 1 })) == 0 {
        assert!(!watcher.is_finished(), "{:?}", watcher.join());
    }
    assert_eq!(watcher.join().unwrap(), Ok("enough".to_owned()));
    assert_eq!(told.recv().unwrap(), ("e".to_owned(), r#"{"n":1}"#.to_owned()));
}

#[test]
fn the_example_of_a_client_watches_a_channel() {
    let server = Server::start();
    watches(&server, format!("ws://{}", server.address()), None);
}

#[test]
fn the_example_of_a_client_watches_a_channel_over_tls() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path(), "root");
    let files = authority.server("server");
    let settings = [&files.settings()[..], &[("TLS_PLAIN", "loopback")]].concat();
    let server = Server::with(&settings);
    let ca_file = authority.file.to_str().unwrap().to_owned();
    let url = format!("wss://localhost:{}/live", server.address().port());
    watches(&server, url.clone(), Some(ca_file));
    // Another authority's certificate is none.
    let other = Authority::new(dir.path(), "other");
    let refused = example::watch(&url, "a", other.file.to_str(), None, |_, _| true);
    assert!(refused.unwrap_err().to_string().contains("certificate"));
}
