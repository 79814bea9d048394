//! Behind real proxies: who a client is, and what that is good for.

use mahavishnu_tests::{
    Raw, Server, foreign, http,
    proxy::Proxy,
    raw::{HANDSHAKE, op},
    token, wait,
};

/// At most one connection of each address, loopback addresses too: those of these tests' clients.
const ONE_EACH: [(&str, &str); 2] =
    [("MAX_CONNECTIONS_PER_ADDRESS", "1"), ("RATE_LIMIT_LOOPBACK", "true")];

#[test]
fn a_dialogue_gets_through_the_shipped_nginx_site() {
    let server = Server::with_auth(&[]);
    let proxy = Proxy::nginx(&server);
    let url = format!("wss://localhost:{}/", proxy.address().port());
    let certificate = proxy.dir().join("cert.pem");
    let token = token::of("ada", &["admin"]);

    let said = foreign::python("behind_proxy.py", &[&url, certificate.to_str().unwrap(), &token]);

    assert!(said.contains("received 1 and 2"), "{said}");
}

/// An answer with a field that is for one hop alone is malformed over HTTP/2, and curl says nothing but so.
#[test]
fn whoever_asks_nginx_over_http_2_gets_an_answer() {
    let server = Server::start();
    let proxy = Proxy::nginx(&server);
    let url = |path: &str| format!("https://localhost:{}{path}", proxy.address().port());

    for (path, status) in [("/", 200), ("/ready", 200), ("/health", 200), ("/ws", 426)] {
        let answer =
            foreign::curl_answer(&["--http2", "--cacert", &proxy.certificate(), &url(path)]);

        assert_eq!((answer.version.as_str(), answer.status), ("HTTP/2", status), "{path}");
        assert!(!answer.body.is_empty(), "{path}");
    }
    let head =
        foreign::curl_answer(&["--http2", "-I", "--cacert", &proxy.certificate(), &url("/")]);
    assert_eq!(head.status, 200);
    assert_eq!(head.header("x-content-type-options"), Some("nosniff"));
    // In the clear curl offers h2c, which the server does not take up.
    let answer = foreign::curl_answer(&["--http2", &server.url()]);
    assert_eq!((answer.version.as_str(), answer.status), ("HTTP/1.1", 200));
}

#[test]
fn nginx_says_whose_connection_it_is() {
    let trusting = [&ONE_EACH[..], &[("TRUSTED_PROXIES", "127.0.0.1")]].concat();
    for (settings, second) in [(&trusting[..], "welcome"), (&ONE_EACH, "1013")] {
        let server = Server::with(settings);
        let proxy = Proxy::nginx(&server);
        let url = format!("wss://localhost:{}/", proxy.address().port());
        let certificate = proxy.dir().join("cert.pem");

        let said = foreign::python(
            "two_addresses.py",
            &[&url, certificate.to_str().unwrap(), "127.0.0.3", "127.0.0.4"],
        );

        assert_eq!(said.split_whitespace().collect::<Vec<_>>(), ["welcome", second]);
    }
}

#[test]
fn haproxy_says_whose_connection_it_is() {
    for header in ["send-proxy", "send-proxy-v2"] {
        let settings = [("TRUSTED_PROXIES", "127.0.0.2"), ("PROXY_PROTOCOL", "true")];
        let server = Server::with(&[&ONE_EACH[..], &settings].concat());
        let proxy = Proxy::haproxy(&server, header);
        let mut first = Raw::connect(proxy.address());
        first.write(HANDSHAKE.as_bytes());
        first.read_head();
        assert_eq!(first.frame().map(|frame| frame.first), Some(op::TEXT));

        // The same address by another way.
        let refused = server.client().wait_close(1013);

        assert_eq!(refused, "Too many connections from this address");
    }
}

/// Its own checks begin with LOCAL, and come from a loopback address: they may ask for health and publish nothing. What
/// it takes for a sign of life here is the refusal.
#[test]
fn haproxys_own_checks_may_not_publish() {
    let settings = [("TRUSTED_PROXIES", "127.0.0.2"), ("PROXY_PROTOCOL", "true")];
    let server = Server::with(&settings);
    let check = " option httpchk\n http-check send meth POST uri /publish ver HTTP/1.1 hdr Host x \
         hdr Content-Type application/json body '{\"channel\":\"a\",\"event\":\"e\",\"data\":{}}'\n \
         http-check expect status 403\n";
    let how = "send-proxy-v2 check check-send-proxy inter 100 rise 1 fall 1";
    let _proxy = Proxy::haproxy_with(&server, how, check);

    let metrics =
        server.metrics_when("several checks", |metrics| metrics.message_errors("forbidden") >= 3);

    assert_eq!(metrics.connection_errors("bad_proxy_header"), 0, "{}", metrics.text());
    let reached = server.log();
    assert!(!reached.contains("panicked"), "{reached}");
}

/// With nothing but `option httpchk` it sends `OPTIONS / HTTP/1.0` without Host, and takes 2xx and 3xx for healthy.
#[test]
fn haproxys_check_as_it_is_by_default_finds_the_server_healthy() {
    for check in [" option httpchk\n", " option httpchk /ready\n", " option httpchk GET /\n"] {
        let server = Server::with(&[("MAX_CONNECTIONS", "1")]);
        let proxy = Proxy::haproxy_with(&server, "check inter 50 rise 1 fall 1", check);

        // Up: it passes connections on.
        let mut client = wait::until("a server that is up", || {
            let mut raw = Raw::connect(proxy.address());
            raw.write(HANDSHAKE.as_bytes());
            let up = raw.frame_after_head().is_some_and(|frame| frame.first == op::TEXT);
            up.then_some(raw)
        });
        // Down, as it is full: it ends them at once.
        wait::until("a server that is full", || {
            let mut raw = Raw::connect(proxy.address());
            raw.write(b"GET /health HTTP/1.0\r\n\r\n");
            raw.read_to_end().is_empty().then_some(())
        });
        client.finish();
        drop(client);
        wait::until("a server that has room again", || {
            let mut raw = Raw::connect(proxy.address());
            raw.write(b"GET /health HTTP/1.0\r\n\r\n");
            (!raw.read_to_end().is_empty()).then_some(())
        });
    }
}

/// A proxy on this machine that does not say who is behind it does not make them this machine's own.
#[test]
fn behind_a_proxy_that_names_nobody_nobody_publishes() {
    let settings = [("TRUSTED_PROXIES", "127.0.0.2"), ("PROXY_PROTOCOL", "true")];
    let server = Server::with(&settings);
    let body = r#"{"channel":"a","event":"e","data":{}}"#;
    let request = http::post_bytes("/publish", &[], body);
    for header in [
        &b"PROXY UNKNOWN\r\n"[..],
        b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x00\x00\x00",
    ] {
        let mut raw = Raw::connect_from("127.0.0.2", server.address());
        raw.write(&[header, &request].concat());
        let answer = raw.read_head();
        assert!(answer.starts_with("HTTP/1.1 403 "), "{header:?}: {answer}");
    }
}
