//! The page at `/`, in a real browser.

use std::time::Duration;

use mahavishnu_tests::{
    Cluster, Metrics, Server,
    faults::Faults,
    foreign, http,
    page::{NARROW, Page, WIDE},
    proxy::Proxy,
    token, wait,
};
use serde_json::{Value, json};

#[test]
fn it_shows_health_numbers_and_what_is_published_and_survives_a_restart() {
    let mut server = Server::start();
    let mut page = Page::open(&server);
    page.until_state("Live");
    page.until_text("health", "Healthy, and ready for clients.");
    page.until_text("cards", "Deliveries, per second");
    // The page itself is the one connection.
    page.until(
        "the number of connections",
        "document.querySelector('.card .value').textContent === '1'",
    );

    page.subscribe("workflow:42");
    assert_eq!(server.post("workflow:42", "workflow.started", &json!({ "n": "first" })), 1);
    page.until_text("log", r#"{"n":"first"}"#);
    page.until_text("channels", "workflow:*");
    let mut n = 0;
    wait::until("a publish to be seen within a second", || {
        n += 1;
        server.post("workflow:42", "workflow.step", &json!({ "step": n }));
        let seen = format!(r#"{{"step":{n}}}"#);
        wait::within(Duration::from_secs(1), || page.text("log").contains(&seen).then_some(()))
    });

    // What it publishes itself.
    page.fill("data", r#"{"text":"<img src=x onerror=alert(1)>"}"#);
    page.submit("publish-form");
    page.until_text("publish-note", "reached 1 subscriber.");
    page.until_text("log", "<img src=x onerror=alert(1)>");
    page.fill("data", "[1]");
    page.submit("publish-form");
    page.until_text("publish-note", "no JSON object");
    assert_eq!(page.tools.evaluate("document.querySelectorAll('#log img').length"), json!(0));

    // More than anybody reads: the newest, and how many there were besides.
    for round in 0..6 {
        let message = |n| json!({ "channel": "workflow:42", "event": "burst", "data": { "n": n } });
        let messages: Vec<_> = (0..60).map(|n| message(round * 60 + n)).collect();
        let body = json!({ "messages": messages }).to_string();
        assert_eq!(http::post(server.address(), "/publish", &[], &body).status, 200);
    }
    page.until_text("log", r#"{"n":359}"#);
    page.until_text("log", "more, too fast to show");
    let entries = page.tools.evaluate("document.querySelectorAll('#log .entry').length");
    assert!(entries.as_u64() <= Some(200), "{entries}");

    assert!(server.terminate().success());
    page.until_state("Away, trying again");
    page.until_text("health", "The server does not answer.");
    page.until("the numbers to be old", "document.querySelector('#live.is-stale')");
    server.start_again();
    page.until_state("Live");
    page.until("fresh numbers", "document.querySelector('#live:not(.is-stale)')");
    page.until_text("log", "came back");
    wait::until("the page is subscribed again", || {
        (server.post("workflow:42", "workflow.done", &json!({ "n": "second" })) == 1).then_some(())
    });
    page.until_text("log", r#"{"n":"second"}"#);
    page.assert_faultless();
}

#[test]
fn what_it_misses_while_the_network_is_gone_comes_later() {
    let server = Server::start();
    let line = Faults::before(server.address());
    let mut page = Page::open_at(&format!("http://{}", line.address()), WIDE, false);
    page.until_state("Live");
    page.subscribe("workflow:42");
    server.post("workflow:42", "e", &json!({ "n": "before" }));
    page.until_text("log", r#"{"n":"before"}"#);
    line.cut();
    page.until_state("Away, trying again");
    server.post("workflow:42", "e", &json!({ "n": "missed" }));
    line.mend();
    page.until_state("Live");
    page.until_text("log", r#"{"n":"missed"}"#);
    let log = page.text("log");
    assert!(log.contains("caught up with 1 missed"), "{log}");
    assert_eq!(log.matches("before").count(), 1, "{log}");
}

#[test]
fn with_authentication_it_shows_nothing_live_before_a_token() {
    let server = Server::with_auth(&[]);
    let mut page = Page::open(&server);
    page.until_text("health", "Healthy, and ready for clients.");
    page.until_state("Needs a token");
    let hidden =
        "['live', 'console'].every((id) => document.getElementById(id).offsetParent === null)";
    assert_eq!(page.tools.evaluate(hidden), json!(true));
    let metrics = server.metrics();
    assert_eq!(metrics.count("websocket_connections_total", &[]), 0);
    assert_eq!(metrics.count("websocket_connection_errors_total", &[]), 0);

    page.log_in("no token at all");
    page.until_text("token-error", "The server does not take this token.");
    assert_eq!(page.tools.evaluate(hidden), json!(true));

    // One for workflows alone.
    page.log_in(&token::of("ada", &["workflow:read"]));
    page.until_state("Live");
    page.until_text("live-note", "does not permit to see the numbers");
    assert_eq!(page.tools.evaluate("document.getElementById('cards').offsetParent"), Value::Null);
    page.subscribe("workflow:42");
    page.fill("channel", "global");
    page.submit("subscribe-form");
    page.until("a refusal", "document.querySelector('#log .error')");
    page.submit("publish-form");
    page.until_text("publish-note", "Not published.");

    // One that may see everything, or just the numbers.
    let numbers = json!({ "subscribe": ["system:stats"] });
    let numbers = token::sign(&token::claims_and("channels", numbers));
    for token in [token::of("ada", &["admin"]), numbers] {
        page.tools.go(&server.url());
        page.until_state("Needs a token");
        page.log_in(&token);
        page.until("numbers", "document.querySelector('.card .value')?.textContent === '1'");
    }
    page.assert_faultless();
}

#[test]
fn a_token_that_expires_makes_way_for_a_fresh_one() {
    let server = Server::with_auth(&[]);
    let mut page = Page::open(&server);
    page.until_state("Needs a token");
    let mut short = token::claims("ada", &["admin"]);
    // Half of its life before, its bearer is warned.
    short["exp"] = json!(token::now() + 6);
    page.log_in(&token::sign(&short));
    page.until_text("token-error", "This token expires in");
    page.until_state("Live");
    page.log_in(&token::of("bob", &["admin"]));
    page.until(
        "a refusal",
        "!document.getElementById('token-error').innerText.includes('expires')",
    );
    page.log_in(&token::of("ada", &["admin"]));
    page.until("the field to go", "document.getElementById('gate').offsetParent === null");
    page.until_state("Live");
    let events = |metrics: &Metrics, event| {
        metrics.count("mahavishnu_token_events_total", &[("event", event)])
    };
    server.metrics_when("the token to be another", |metrics| events(metrics, "refreshed") == 1);
    assert_eq!(server.metrics().count("websocket_connections_total", &[]), 1);
    page.assert_faultless();
}

#[test]
fn it_works_behind_the_shipped_proxies_and_below_a_path() {
    let server = Server::with_auth(&[("ALLOWED_HOSTS", "localhost")]);
    let fronts = [
        Proxy::nginx_tuned(&server, "mahavishnu-websocket"),
        Proxy::haproxy_shipped(&server),
        Proxy::caddy(&server),
    ];
    let below = Proxy::nginx_below(&server, "/live/");
    let urls = fronts.iter().map(|front| format!("https://localhost:{}/", front.address().port()));
    let urls = urls.chain([format!("http://{}/live/", below.address())]);
    for url in urls {
        let mut page = Page::open_with(&url, WIDE, false, &["--ignore-certificate-errors"]);
        page.until_text("health", "Healthy, and ready for clients.");
        page.log_in(&token::of("ada", &["admin"]));
        page.until_state("Live");
        page.until("numbers", "document.querySelector('.card .value')?.textContent > 0");
        page.subscribe("workflow:42");
        page.submit("publish-form");
        page.until_text("log", r#"{"text":"Hello"}"#);
        page.assert_faultless();
    }
}

#[test]
fn it_says_why_it_is_not_let_in() {
    let server = Server::with(&[("ALLOWED_ORIGINS", "https://app.example.com")]);
    let mut page = Page::open(&server);
    page.until_state("Refused");
    page.until_text("live-note", "MAHAVISHNU_ALLOWED_ORIGINS");
    page.until_text("live-note", &server.url());
    page.until_text("health", "Healthy");
    page.assert_accessible("refused");
}

#[test]
fn each_node_has_numbers_of_its_own() {
    let cluster = Cluster::start(2, &[]);
    cluster.wait_whole();
    let [one, two] = &cluster.nodes[..] else { panic!("two nodes") };
    let mut others: Vec<_> = (0..3).map(|_| two.hello()).collect();
    let (mut here, mut there) = (one.hello(), two.hello());
    here.subscribe("system:stats");
    there.subscribe("system:stats");
    for _ in 0..3 {
        for (client, name, open) in [(&mut here, "n1", 1), (&mut there, "n2", 4)] {
            let told = client.message();
            assert_eq!(told["data"]["connections"]["open"], open, "{told}");
            let nodes = &told["data"]["nodes"];
            assert_eq!((&nodes["name"], &nodes["count"]), (&json!(name), &json!(2)), "{told}");
        }
    }
    let history = here.request("get_history", json!({ "channel": "system:stats" }));
    assert_eq!((&history["data"]["events"], &history["data"]["offset"]), (&json!([]), &json!(0)));
    others.iter_mut().for_each(mahavishnu_tests::Client::expect_silence);
    let mut page = Page::open(one);
    page.until_state("Live");
    page.until_text("trouble-line", "2 nodes.");
    page.until_text("checks", "Between nodes");
    let good = "[...document.querySelectorAll('#checks li')].every((check) => check.dataset.state === 'good')";
    page.until("all checks to pass", good);
    page.assert_accessible("of one of two nodes");
}

#[test]
fn nothing_keeps_anybody_out_of_it() {
    let open = Server::start();
    let mut page = Page::open(&open);
    page.until_state("Live");
    page.subscribe("workflow:42");
    open.post("workflow:42", "workflow.started", &json!({ "n": 1 }));
    page.until_text("log", "workflow.started");
    page.until_text("channels", "workflow:*");
    page.until("checks", "document.querySelectorAll('#checks li').length > 3");
    for (window, dark) in [(WIDE, false), (WIDE, true), (NARROW, false), (NARROW, true)] {
        page.tools.show_as(window, dark);
        page.assert_accessible(&format!("{window:?}, dark: {dark}"));
    }

    let closed = Server::with_auth(&[]);
    let mut page = Page::open(&closed);
    page.until_state("Needs a token");
    page.until("checks", "document.querySelectorAll('#checks li').length > 3");
    page.log_in("wrong");
    page.until_text("token-error", "does not take this token");
    for dark in [false, true] {
        page.tools.show_as(NARROW, dark);
        page.assert_accessible(&format!("before a token, dark: {dark}"));
    }
    page.log_in(&token::of("ada", &["admin"]));
    page.until("numbers", "document.querySelector('.card .value')?.textContent === '1'");
    page.assert_accessible("with a token");
}

#[test]
fn it_is_used_by_keyboard_alone() {
    let server = Server::start();
    let mut page = Page::open(&server);
    page.until_state("Live");
    page.tools.press("Tab");
    let focused = "document.activeElement.textContent || document.activeElement.id";
    assert_eq!(page.tools.evaluate(focused), "Skip to the content");
    let seen = "getComputedStyle(document.activeElement).outlineStyle !== 'none' && document.activeElement.getBoundingClientRect().left >= 0";
    assert_eq!(page.tools.evaluate(seen), json!(true));
    let mut reached = Vec::new();
    for _ in 0..20 {
        page.tools.press("Tab");
        reached.push(page.tools.evaluate("document.activeElement.id"));
        if reached.last() == Some(&json!("channel")) {
            break;
        }
    }
    assert_eq!(reached.last(), Some(&json!("channel")), "{reached:?}");
    page.tools.press("Enter");
    page.until_text("subscriptions", "workflow:42");
    for name in ["subscribe", "×", "event", "data"] {
        page.tools.press("Tab");
        let at = page.tools.evaluate(
            "(document.activeElement.id || document.activeElement.textContent).toLowerCase()",
        );
        assert_eq!(at, name);
    }
    page.tools.press("Tab");
    page.tools.press("Enter");
    page.until_text("log", r#"{"text":"Hello"}"#);
}

#[test]
fn browsers_get_it_programs_get_what_they_always_got_and_nobody_if_it_is_off() {
    let html = "Accept: text/html,application/xhtml+xml,*/*;q=0.8";
    let server = Server::start();
    let page = foreign::curl(&["-i", "-H", html, &server.url()]);
    assert!(page.contains("content-security-policy: default-src 'none';"), "{page}");
    assert!(page.contains("<!doctype html>"), "{page}");
    for args in [&[][..], &["-H", "Accept: */*"], &["-H", "Accept: application/json"]] {
        let plain = foreign::curl(&[args, &[&server.url()]].concat());
        let plain: Value = serde_json::from_str(&plain).unwrap();
        assert_eq!(plain["status"], "ready", "{plain}");
    }
    let status = |path| http::get(server.address(), path).status;
    assert_eq!(status("/page/page.css"), 200);
    server.reload("MAHAVISHNU_PAGE=false\n");
    assert_eq!(status("/page/page.css"), 404);
    server.reload("");
    assert_eq!(status("/page/page.css"), 200);
    let off = Server::with(&[("PAGE", "false")]);
    let plain = foreign::curl(&["-H", html, &off.url()]);
    assert!(plain.contains(r#""status":"ready""#), "{plain}");
    assert_eq!(http::get(off.address(), "/page/page.css").status, 404);
    // And its channel is one like any other.
    let mut client = off.hello();
    client.subscribe("system:stats");
    assert_eq!(client.publish("system:stats", "e", json!({ "n": 1 })), 1);
    assert_eq!(client.numbers(1), [1]);
    client.expect_silence();
}

#[test]
fn any_client_can_have_the_numbers() {
    for settings in
        [&[("RUNTIME", "tokio")][..], &[("RUNTIME", "smol"), ("METRICS_ENABLED", "false")]]
    {
        let server = Server::with(settings);
        let mut client = server.hello();
        client.subscribe("system:stats");
        let first = client.message();
        assert_eq!((&first["event"], &first["room"]), (&json!("stats"), &json!("system:stats")));
        assert_eq!(first["data"]["connections"]["open"], 1, "{first}");
        assert_eq!(first["data"]["messages"]["received_per_second"], Value::Null);
        let second = client.message();
        assert!(second["data"]["messages"]["received_per_second"].is_number(), "{second}");
        let refused = client.request("publish", json!({ "channel": "system:stats", "event": "e" }));
        assert_eq!(refused["error_code"], "FORBIDDEN", "{refused}");
    }
}
