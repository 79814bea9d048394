//! The proxies with the files in `deploy`: what an operator wants of what stands in front.

use mahavishnu_tests::{Raw, Server, foreign, proxy::Proxy, raw::op, token, wait};
use serde_json::json;

const SITES: [&str; 2] = ["mahavishnu-websocket", "production-guide"];

#[test]
fn nginx_with_either_site_serves_all_that_is_public() {
    for site in SITES {
        let server = Server::with_auth(&[]);
        serves_all_that_is_public(&Proxy::nginx_tuned(&server, site), &server);
    }
}

#[test]
fn haproxy_serves_all_that_is_public() {
    let server = Server::with_auth(&[]);
    serves_all_that_is_public(&Proxy::haproxy_shipped(&server), &server);
}

#[test]
fn caddy_serves_all_that_is_public() {
    let server = Server::with_auth(&[]);
    serves_all_that_is_public(&Proxy::caddy(&server), &server);
}

fn serves_all_that_is_public(proxy: &Proxy, server: &Server) {
    let token = token::of("ada", &["admin"]);

    // Plain requests, over HTTP/2 and so without a field that is for one hop alone.
    let root = proxy.ask("/", &[]);
    assert_eq!((root.version.as_str(), root.status), ("HTTP/2", 200), "{root:?}");
    assert_eq!(root.json()["status"], "ready");
    let lost = proxy.ask("/ws", &[]);
    assert_eq!((lost.status, lost.json()["error_code"].as_str()), (426, Some("upgrade_required")));
    assert_eq!(proxy.ask("/ready", &[]).json()["status"], "ready");

    // What the guide expects of "curl -I".
    let head = proxy.ask("/", &["--head"]);
    assert_eq!(head.status, 200);
    let hsts = head.header("strict-transport-security").unwrap();
    assert!(hsts.starts_with("max-age=31536000"), "{hsts}");
    assert_eq!(head.header("x-frame-options"), Some("SAMEORIGIN"));
    assert_eq!(head.header("x-content-type-options"), Some("nosniff"));

    // In the clear health alone; all else is sent to TLS.
    assert_eq!(proxy.ask_plain("/health").json()["status"], "healthy");
    let moved = proxy.ask_plain("/ws?a=b");
    assert_eq!(moved.status, 301);
    let location = moved.header("location").unwrap();
    assert!(
        location.starts_with("https://localhost") && location.ends_with("/ws?a=b"),
        "{location}"
    );

    // Metrics, for this machine.
    let metrics = proxy.ask("/metrics", &[]);
    assert!(metrics.text().contains("websocket_connections_active"), "{metrics:?}");

    // A WebSocket that publishes, and a publish over HTTP of more than nginx' own 1 MiB.
    let url = format!("wss://localhost:{}/", proxy.address().port());
    let said = foreign::python("behind_proxy.py", &[&url, &proxy.certificate(), &token]);
    assert!(said.contains("received 1 and 2"), "{said}");
    let messages: Vec<_> = (0..30)
        .map(|n| json!({ "channel": format!("workflow:{n}"), "event": "e", "data": { "text": "x".repeat(60_000) } }))
        .collect();
    let body = proxy.dir().join("body.json");
    std::fs::write(&body, json!({ "messages": messages }).to_string()).unwrap();
    let published = proxy.ask(
        "/publish",
        &[
            "--header",
            "Content-Type: application/json",
            "--header",
            &format!("Authorization: Bearer {token}"),
            "--data-binary",
            &format!("@{}", body.display()),
        ],
    );
    assert_eq!((published.status, &published.json()["published"]), (200, &json!(30)));
    assert_eq!(server.metrics().connection_errors("bad_request"), 0);
}

#[test]
fn a_reload_of_nginx_ends_no_websocket() {
    for site in SITES {
        let server = Server::start();
        let proxy = Proxy::nginx_tuned(&server, site);
        a_reload_ends_no_websocket(proxy, &server, "allow 127.0.0.0/8;", "");
    }
}

#[test]
fn a_reload_of_haproxy_ends_no_websocket() {
    let server = Server::start();
    let proxy = Proxy::haproxy_shipped(&server);
    a_reload_ends_no_websocket(proxy, &server, "src 127.0.0.0/8", "src");
}

#[test]
fn a_reload_of_caddy_ends_no_websocket() {
    let server = Server::start();
    let proxy = Proxy::caddy(&server);
    a_reload_ends_no_websocket(proxy, &server, "remote_ip private_ranges", "remote_ip 10.0.0.0/8");
}

/// The files are changed so that this machine may not see metrics any more: so it shows when they are in force.
fn a_reload_ends_no_websocket(mut proxy: Proxy, server: &Server, from: &str, to: &str) {
    let mut old = proxy.hold("c", "127.0.0.1");
    assert_eq!(old.line().as_deref(), Some("subscribed"));
    server.post("c", "n", &json!({ "n": 1 }));
    assert_eq!(old.line().as_deref(), Some("1"));
    assert_eq!(proxy.ask("/metrics", &[]).status, 200);
    assert_eq!(proxy.ask_plain("/health").status, 200, "without authentication Host counts");

    proxy.reload_with(from, to);

    wait::until("a proxy with its new files", || {
        (proxy.ask("/metrics", &[]).status == 403).then_some(())
    });
    let mut new = proxy.hold("c", "127.0.0.1");
    assert_eq!(new.line().as_deref(), Some("subscribed"));
    server.post("c", "n", &json!({ "n": 2 }));
    assert_eq!(old.line().as_deref(), Some("2"), "the connection from before");
    assert_eq!(new.line().as_deref(), Some("2"));
}

#[test]
fn nginx_and_haproxy_give_an_address_ten_websockets() {
    for front in [
        |server: &Server| Proxy::nginx_tuned(server, SITES[0]),
        |server: &Server| Proxy::nginx_tuned(server, SITES[1]),
        Proxy::haproxy_shipped,
    ] {
        let server = Server::start();
        let proxy = front(&server);
        let url = format!("wss://localhost:{}/", proxy.address().port());
        let open = |address, most| {
            foreign::python("how_many.py", &[&url, &proxy.certificate(), address, most])
        };

        assert_eq!(open("127.0.0.3", "12").trim(), "10 429");
        // They are over, and so have others none the less.
        assert_eq!(open("127.0.0.3", "1").trim(), "1");
    }
}

/// Caddy has no such limits: the server has, and clients come back after them.
#[test]
fn behind_caddy_the_server_counts_by_address() {
    let server = Server::with(&[
        ("TRUSTED_PROXIES", "127.0.0.1"),
        ("MAX_CONNECTIONS_PER_ADDRESS", "2"),
        // These clients are on loopback addresses.
        ("RATE_LIMIT_LOOPBACK", "true"),
        ("SHARDS", "1"),
    ]);
    let proxy = Proxy::caddy(&server);
    let url = format!("wss://localhost:{}/", proxy.address().port());
    let open =
        |address| foreign::python("how_many.py", &[&url, &proxy.certificate(), address, "3"]);

    assert_eq!(open("127.0.0.3").trim(), "2 1013");
    assert_eq!(open("127.0.0.4").trim(), "2 1013");
}

#[test]
fn nginx_and_haproxy_bound_requests_but_not_checks_and_publishers() {
    for front in [
        |server: &Server| Proxy::nginx_tuned(server, SITES[0]),
        |server: &Server| Proxy::nginx_tuned(server, SITES[1]),
        Proxy::haproxy_shipped,
    ] {
        let server = Server::start();
        let proxy = front(&server);

        let statuses = proxy.statuses("/ready", 160);
        assert!(statuses[..20].iter().all(|status| *status == 200), "{statuses:?}");
        assert!(statuses.contains(&429), "{statuses:?}");
        assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
        for (path, status) in [("/health", 200), ("/publish", 405)] {
            let statuses = proxy.statuses(path, 160);
            assert!(statuses.iter().all(|one| *one == status), "{path}: {statuses:?}");
        }
    }
}

/// §6.4 of the production guide: two nodes, one of which waits until the other is gone.
#[test]
fn haproxy_as_in_the_guide_turns_to_the_backup() {
    let (mut first, second) = (Server::start(), Server::start());
    let proxy = Proxy::haproxy_of_the_guide([&first, &second]);
    let greeted = || {
        let mut raw = Raw::connect(proxy.address());
        raw.write(mahavishnu_tests::raw::HANDSHAKE.as_bytes());
        let frame = raw.frame_after_head().filter(|frame| frame.first == op::TEXT)?;
        Some((raw, frame))
    };
    let kept = wait::until("a node that is up", &greeted);
    first.metrics_when("a connection", |metrics| metrics.active() == 1);

    first.terminate();
    let (_raw, _) = wait::until("the backup", &greeted);

    assert_eq!(second.metrics().active(), 1);
    drop(kept);
}
