//! A page in a real browser, over TLS.

use std::{process::Command, time::Duration};

use mahavishnu_tests::{
    Server, binary,
    browser::Browser,
    certs::{Authority, text},
    token, wait,
};
use serde_json::json;

/// SHA-256 of a certificate's public key, in base64, by openssl.
fn key_digest(certificate: &str) -> String {
    let script = format!(
        "openssl x509 -in {certificate} -pubkey -noout | openssl pkey -pubin -outform der \
         | openssl dgst -sha256 -binary | openssl base64"
    );
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn escaped(text: &str) -> String {
    text.replace('%', "%25").replace('|', "%7C").replace('#', "%23")
}

#[test]
fn a_page_receives_a_broadcast_over_wss() {
    let dir = tempfile::tempdir().unwrap();
    let files = Authority::new(dir.path(), "authority").server("server");
    let page = binary::workspace().join("tests/clients/browser/page.html");
    for runtime in ["tokio", "smol"] {
        let settings = [
            ("RUNTIME", runtime),
            ("TOKEN_IN_SUBPROTOCOL", "true"),
            // The test itself speaks without TLS.
            ("TLS_PLAIN", "loopback"),
        ];
        let server = Server::with_auth(&[&files.settings()[..], &settings].concat());
        let mut observer = server.login(&token::of("ada", &["admin"]));
        observer.subscribe("global");
        let url = format!("wss://localhost:{}/", server.address().port());
        let token = token::of("page", &["admin"]);
        let address = format!("file://{}#{}|{}", page.display(), escaped(&url), escaped(&token));

        // Besides what browsers trust.
        let trust = key_digest(text(&files.certificate));
        let trust = format!("--ignore-certificate-errors-spki-list={trust}");
        let _browser = Browser::open(&address, &[&trust]);
        wait::until("the page subscribes", || {
            std::thread::sleep(Duration::from_millis(50));
            let reached = observer.publish("workflow:page", "page.event", json!({ "n": 1 }));
            (reached > 0).then_some(())
        });

        let said = observer.message();
        assert_eq!(said["event"], "page.heard", "{said}");
        assert_eq!(said["data"]["heard"], json!({ "n": 1 }), "{said}");
    }
}
