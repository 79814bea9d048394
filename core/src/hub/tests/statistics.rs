//! Numbers about the server, and files for browsers.

use super::{shards::post, *};
use crate::config::{Page, STATISTICS};

fn with_statistics(shards: u16) -> Rig {
    Rig::new(shards, Config { statistics: true, ..Config::default() })
}

/// The hubs that have asked for numbers since the last look.
fn asked(rig: &mut Rig) -> usize {
    rig.outputs.drain(..).filter(|output| matches!(output, Output::Statistics)).count()
}

/// The application answers at the channel's home.
fn tell(rig: &mut Rig, data: &'static str) {
    let home = usize::from(rig.hubs[0].hub().homes.of(STATISTICS).0);
    rig.hubs[home].handle_command(rig.now, Command::Statistics(data.into()));
    rig.run();
}

#[test]
fn nobody_is_asked_until_somebody_subscribes_and_after_the_last_has_left() {
    for shards in [1, 3] {
        let mut rig = with_statistics(shards);
        let clients: Vec<Client> = (0..usize::from(shards)).map(|at| rig.connect(at)).collect();
        rig.wait(Duration::from_secs(3));
        assert_eq!(asked(&mut rig), 0);

        for client in &clients {
            rig.subscribe(client, STATISTICS);
        }
        rig.wait(Duration::ZERO);
        assert_eq!(asked(&mut rig), 1, "the first one does not wait");
        tell(&mut rig, r#"{"n":1}"#);
        for client in &clients {
            let [event] = client.take().try_into().unwrap();
            assert_eq!((&event["event"], &event["room"]), (&json!("stats"), &json!(STATISTICS)));
            assert_eq!(event["data"], json!({"n": 1}));
            assert_eq!(event.get("offset"), None);
        }
        rig.wait(Duration::from_millis(999));
        assert_eq!(asked(&mut rig), 0);
        rig.wait(Duration::from_millis(1));
        assert_eq!(asked(&mut rig), 1);
        tell(&mut rig, r#"{"n":2}"#);

        for client in &clients {
            assert_eq!(client.take_numbers(), [2]);
            rig.request(client, "unsubscribe", &json!({"channel": STATISTICS}));
        }
        rig.wait(Duration::from_secs(1));
        assert_eq!(asked(&mut rig), 0);
        assert!(rig.hubs.iter().all(|hub| {
            hub.poll_timeout().is_none_or(|next| next.reason != TimeoutReason::Statistics)
        }));
    }
}

#[test]
fn who_has_not_answered_is_not_asked_again() {
    let mut rig = with_statistics(1);
    let client = rig.connect(0);
    rig.subscribe(&client, STATISTICS);
    rig.wait(Duration::ZERO);
    rig.wait(Duration::from_secs(1));
    rig.wait(Duration::from_secs(1));
    assert_eq!(asked(&mut rig), 1);
    rig.hubs[0].handle_command(rig.now, Command::Failed(Handler::Statistics));
    rig.wait(Duration::from_secs(1));
    assert_eq!(asked(&mut rig), 1);
}

#[test]
fn what_is_no_object_is_told_to_nobody() {
    let mut rig = with_statistics(1);
    let client = rig.connect(0);
    rig.subscribe(&client, STATISTICS);
    for wrong in ["", "[]", "{", "null"] {
        tell(&mut rig, wrong);
        assert_eq!(client.take(), Vec::<Value>::new(), "{wrong}");
    }
}

#[test]
fn they_have_no_number_whoever_asks_for_one_and_nothing_is_kept() {
    let mut rig = with_statistics(1);
    let client = rig.connect(0);
    let wish = json!({"channel": STATISTICS, "positions": true});
    assert_eq!(rig.request(&client, "subscribe", &wish)["data"]["offset"], 0);
    tell(&mut rig, r#"{"n":1}"#);
    let [event] = client.take().try_into().unwrap();
    assert_eq!((&event["data"], event.get("offset")), (&json!({"n": 1}), None));
    let answer = rig.request(&client, "get_history", &json!({"channel": STATISTICS}));
    assert_eq!(answer["data"]["events"], json!([]));
}

#[test]
fn no_client_publishes_there() {
    let mut rig = with_statistics(1);
    let client = rig.connect(0);
    rig.subscribe(&client, STATISTICS);
    let message = json!({"channel": STATISTICS, "event": "stats", "data": {}});
    let with_key = json!({"channel": STATISTICS, "event": "stats", "idempotency_key": "k"});
    for message in [&message, &with_key] {
        let answer = rig.request(&client, "publish", message);
        assert_eq!(answer["error_code"], "FORBIDDEN", "{answer}");
        let socket = rig.socket(0);
        rig.bytes(&socket, &post(&message.to_string()));
        assert!(socket.take_head().starts_with("HTTP/1.1 403 "));
    }
    assert_eq!(client.take(), Vec::<Value>::new());
    // Elsewhere it is a channel like any other.
    let mut rig = Rig::alone();
    let client = rig.connect(0);
    assert_eq!(rig.request(&client, "publish", &message)["data"]["status"], "published");
}

#[cfg(feature = "jwt")]
#[test]
fn with_authentication_it_takes_a_permission() {
    let mut rig = Rig::alone_with(Config { statistics: true, ..with_auth() });
    for (permissions, may) in [(&["workflow:read"][..], false), (&["admin"][..], true)] {
        let header = format!("Authorization: Bearer {}\r\n", token("ada", permissions));
        let client = rig.connect_with(0, &header);
        client.take();
        let answer = rig.request(&client, "subscribe", &json!({"channel": STATISTICS}));
        assert_eq!(answer["data"]["status"] == "subscribed", may, "{answer}");
    }
    rig.wait(Duration::ZERO);
    assert_eq!(asked(&mut rig), 1);
}

#[test]
fn a_reload_makes_it_a_channel_like_any_other() {
    let mut rig = with_statistics(1);
    let client = rig.connect(0);
    rig.subscribe(&client, STATISTICS);
    rig.hubs[0].handle_command(rig.now, Command::Reload(Arc::default()));
    rig.wait(Duration::ZERO);
    rig.wait(Duration::from_secs(2));
    assert_eq!(asked(&mut rig), 0);
    tell(&mut rig, r#"{"n":1}"#);
    assert_eq!(client.take(), Vec::<Value>::new());
    let config = Arc::new(Config { statistics: true, ..Config::default() });
    rig.hubs[0].handle_command(rig.now, Command::Reload(config));
    rig.wait(Duration::ZERO);
    assert_eq!(asked(&mut rig), 1, "and back");
    tell(&mut rig, r#"{"n":2}"#);
    assert_eq!(client.take_numbers(), [2]);
}

const HTML: &str = "text/html,application/xhtml+xml,*/*;q=0.8";

fn with_pages() -> Rig {
    let page = |path: &str, content_type, body: &'static str| Page {
        path: path.into(),
        content_type,
        body: body.into(),
    };
    let html = page("/", "text/html; charset=utf-8", "<!doctype html>");
    let css = page("/page/page.css", "text/css; charset=utf-8", "p{}");
    Rig::alone_with(Config { pages: vec![html, css], ..Config::default() })
}

/// Head and body of an answer.
fn get(rig: &mut Rig, method: &str, path: &str, headers: &str) -> (String, String) {
    let socket = rig.socket(0);
    rig.bytes(&socket, format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n").as_bytes());
    (socket.take_head().to_lowercase(), socket.take_text())
}

#[test]
fn who_asks_for_html_gets_a_page_and_all_others_what_they_always_got() {
    let mut rig = with_pages();
    let accept = |value: &str| format!("Accept: {value}\r\n");
    for headers in [accept(HTML), accept("TEXT/HTML"), accept("a/b , text/html;q=0.1")] {
        let (head, body) = get(&mut rig, "GET", "/", &headers);
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        assert!(head.contains("\r\ncontent-type: text/html; charset=utf-8\r\n"), "{head}");
        assert_eq!(body, "<!doctype html>");
    }
    let mut without = Rig::alone();
    let attempt = format!("{}Sec-WebSocket-Version: 13\r\n", accept(HTML));
    let others = ["".into(), accept("*/*"), accept("text/*"), accept("text/html;q=0"), attempt];
    for headers in others {
        let with = get(&mut rig, "GET", "/", &headers);
        assert_eq!(with, get(&mut without, "GET", "/", &headers), "{headers}");
        assert!(!with.0.contains("text/html"), "{with:?}");
    }
    let (head, _) = get(&mut without, "GET", "/", &accept(HTML));
    assert!(head.contains("application/json"), "{head}");
    assert!(get(&mut without, "GET", "/page/page.css", "").0.starts_with("http/1.1 404 "));
}

#[test]
fn pages_load_nothing_from_elsewhere_and_are_framed_by_nobody() {
    let mut rig = with_pages();
    for (path, body) in [("/", "<!doctype html>"), ("/page/page.css", "p{}")] {
        let (head, got) = get(&mut rig, "GET", path, &format!("Accept: {HTML}\r\n"));
        assert_eq!(got, body);
        for line in [
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; ",
            "frame-ancestors 'none'",
            "\r\nx-content-type-options: nosniff\r\n",
            "\r\nx-frame-options: deny\r\n",
            "\r\ncache-control: no-store\r\n",
            "\r\nreferrer-policy: no-referrer\r\n",
        ] {
            assert!(head.contains(line), "{line}: {head}");
        }
        assert!(!head.contains("unsafe"), "{head}");
        let (of_head, nothing) = get(&mut rig, "HEAD", path, &format!("Accept: {HTML}\r\n"));
        assert_eq!((of_head, &*nothing), (head, ""));
    }
    for (path, allow) in [("/", "get, head, options"), ("/page/page.css", "get, head")] {
        let (head, _) = get(&mut rig, "POST", path, "Content-Length: 0\r\nAccept: text/html\r\n");
        assert!(head.starts_with("http/1.1 405 "), "{head}");
        assert!(head.contains(&format!("\r\nallow: {allow}\r\n")), "{head}");
    }
}
