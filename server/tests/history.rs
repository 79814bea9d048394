//! `history`, `tail`, and what `subscribe` does about what it missed, against the program.

use serde_json::Value;

use crate::support::{Place, Proxy, SECRET, Server, Subscriber};

/// Publishes `{"n": n}` for each number.
fn publish(place: &Place, url: &str, channel: &str, numbers: std::ops::RangeInclusive<u64>) {
    for n in numbers {
        let arguments = format!("publish {channel} e {{\"n\":{n}}}");
        place.run_with(&arguments, &[("MAHAVISHNU_URL", url)]).expect(0);
    }
}

/// Numbers and data of what `history` or `tail` has printed.
fn printed(out: &str) -> Vec<(u64, String)> {
    let line = |line: &str| {
        let mut words = line.splitn(4, ' ');
        let time = words.next().unwrap();
        assert!(time.starts_with("20") && time.ends_with("+00:00"), "{line}");
        let offset = words.next().unwrap().parse().unwrap();
        assert_eq!(words.next(), Some("e"), "{line}");
        (offset, words.next().unwrap().to_owned())
    };
    out.lines().map(line).collect()
}

fn offsets(out: &str) -> Vec<u64> {
    printed(out).into_iter().map(|(offset, _)| offset).collect()
}

#[test]
fn what_is_kept_is_printed_from_the_oldest_to_the_newest() {
    let place = Place::new();
    let server = Server::start(&place, "", &[]);
    let history = |arguments: &str| {
        let url = [("MAHAVISHNU_URL", &*server.url)];
        place.run_with(&format!("history {arguments}"), &url)
    };
    let nothing = history("workflow:42").expect(0);
    assert_eq!((&*nothing.out, &*nothing.err), ("", "nothing of \"workflow:42\" is kept there\n"));
    publish(&place, &server.url, "workflow:42", 1..=5);

    let all = history("workflow:42").expect(0);
    let expected: Vec<_> = (1..=5).map(|n| (n, format!("{{\"n\":{n}}}"))).collect();
    assert_eq!((printed(&all.out), &*all.err), (expected, ""));
    assert_eq!(offsets(&history("--limit 2 workflow:42").expect(0).out), [4, 5]);
    assert_eq!(offsets(&history("--before 3 workflow:42").expect(0).out), [1, 2]);
    assert_eq!(offsets(&history("--before 5 --limit 1 workflow:42").expect(0).out), [4]);
    assert_eq!(offsets(&history("--since 1h workflow:42").expect(0).out), [1, 2, 3, 4, 5]);
    assert_eq!(history("--since 2999-01-01T00:00:00Z workflow:42").expect(0).out, "");

    let json = history("--json --limit 1 workflow:42").expect(0);
    let event: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(
        (&event["channel"], &event["offset"], &event["event"], &event["data"]["n"]),
        (&"workflow:42".into(), &5.into(), &"e".into(), &5.into())
    );
    let epoch = event["epoch"].as_str().unwrap();
    let after = |offset: u64| history(&format!("--after {epoch}:{offset} workflow:42"));
    assert_eq!(offsets(&after(0).expect(0).out), [1, 2, 3, 4, 5]);
    assert_eq!(offsets(&after(3).expect(0).out), [4, 5]);
    assert_eq!(after(5).expect(0).out, "");
    let first = history(&format!("--after {epoch}:1 --limit 2 workflow:42")).expect(0);
    assert_eq!(offsets(&first.out), [2, 3]);
    let other = history("--after 0123456789:1 workflow:42").expect(1);
    assert_eq!(other.err, "mahavishnu: no history: HTTP 410 NOT_RECOVERED: Not recovered\n");
    for wrong in ["--limit 0 c", "--since soon c", "--after 5 c", "--after a:1 --before 2 c", ""] {
        assert_eq!(history(wrong).expect(1).out, "", "{wrong}");
    }
}

#[test]
fn what_is_no_longer_kept_is_said() {
    let place = Place::new();
    let server = Server::start(&place, "", &[("MAHAVISHNU_HISTORY", "2/300")]);
    let url = [("MAHAVISHNU_URL", &*server.url)];
    publish(&place, &server.url, "c", 1..=5);
    let json = place.run_with("history --json c", &url).expect(0);
    let event: Value = serde_json::from_str(json.last_line()).unwrap();
    let after = format!("history --after {}:1 c", event["epoch"].as_str().unwrap());
    let done = place.run_with(&after, &url).expect(0);
    assert_eq!((offsets(&done.out), &*done.err), (vec![4, 5], "gap of 2: no longer kept\n"));
}

#[test]
fn a_server_without_history_says_so() {
    let place = Place::new();
    let server = Server::start(&place, "", &[("MAHAVISHNU_HISTORY", "off")]);
    let url = [("MAHAVISHNU_URL", &*server.url)];
    publish(&place, &server.url, "c", 1..=2);
    let done = place.run_with("history c", &url).expect(0);
    assert_eq!((&*done.out, &*done.err), ("", "nothing of \"c\" is kept there\n"));
    let tail = Subscriber::start(&place, "tail --count 1 c", &url);
    publish(&place, &server.url, "c", 3..=3);
    let data: Vec<_> = printed(&tail.done().out).into_iter().map(|(_, data)| data).collect();
    assert_eq!(data, ["{\"n\":3}"]);
}

#[test]
fn history_needs_the_permission_to_subscribe() {
    let place = Place::new();
    let secret = ("MAHAVISHNU_JWT_SECRET", SECRET);
    let server = Server::start(&place, "--auth-enabled true", &[secret]);
    let url = ("MAHAVISHNU_URL", &*server.url);
    let token = |permission: &str| {
        let arguments = format!("token create --user u --permission {permission}");
        place.run_with(&arguments, &[secret]).expect(0).last_line().to_owned()
    };
    let (admin, reader) = (token("admin"), token("workflow:read"));
    place.run_with("publish workflow:1 e", &[url, ("MAHAVISHNU_TOKEN", &admin)]).expect(0);
    let with = [url, ("MAHAVISHNU_TOKEN", &*reader)];
    assert_eq!(offsets(&place.run_with("history workflow:1", &with).expect(0).out), [1]);
    let tail = place.run_with("tail --count 1 workflow:1", &with).expect(0);
    assert_eq!(offsets(&tail.out), [1]);
    let refused = place.run_with("history pool:1", &with).expect(6);
    assert!(refused.err.starts_with("mahavishnu: no history: HTTP 403 FORBIDDEN"), "{refused:?}");
    place.run_with("tail pool:1", &with).expect(6);
    assert!(place.run_with("history workflow:1", &[url]).expect(6).err.contains("HTTP 401"));
}

#[test]
fn a_tail_goes_on_behind_what_there_was() {
    let place = Place::new();
    let server = Server::start(&place, "", &[]);
    let url = [("MAHAVISHNU_URL", &*server.url)];
    publish(&place, &server.url, "c", 1..=12);
    let mut tails = [
        ("tail c", 3),
        ("tail -n 2 c", 11),
        ("tail -n 0 c", 13),
        ("tail --since 1h c", 1),
        ("tail --since 2999-01-01T00:00:00Z c", 13),
        ("tail --json --lines 1 c", 12),
    ]
    .map(|(arguments, first)| (Subscriber::start(&place, arguments, &url), arguments, first));
    publish(&place, &server.url, "c", 13..=14);
    for (tail, arguments, first) in &mut tails {
        for offset in *first..=14 {
            let line = tail.line();
            if arguments.contains("--json") {
                let event: Value = serde_json::from_str(&line).unwrap();
                assert_eq!(event["offset"], offset, "{line}");
                assert_eq!((&event["channel"], &event["data"]["n"]), (&"c".into(), &offset.into()));
                assert_eq!(event["epoch"].as_str().map(str::len), Some(10), "{line}");
            } else {
                let expected = vec![(offset, format!("{{\"n\":{offset}}}"))];
                assert_eq!(printed(&line), expected, "{arguments}");
            }
        }
    }
    assert_eq!(offsets(&place.run_with("tail --count 3 c", &url).expect(0).out), [5, 6, 7]);
}

#[test]
fn a_subscriber_begins_with_what_it_asks_for() {
    let place = Place::new();
    let server = Server::start(&place, "", &[]);
    let url = [("MAHAVISHNU_URL", &*server.url)];
    publish(&place, &server.url, "c", 1..=3);
    let rewind = place.run_with("subscribe --offsets --rewind 2 --count 2 c", &url).expect(0);
    assert_eq!(rewind.out, "c 2 e {\"n\":2}\nc 3 e {\"n\":3}\n");
    let since = place.run_with("subscribe --since 1h --count 3 c", &url).expect(0);
    assert_eq!(since.out, "c e {\"n\":1}\nc e {\"n\":2}\nc e {\"n\":3}\n");
    let whole = Subscriber::start(&place, "subscribe --json --since 1h --count 4 c", &url);
    publish(&place, &server.url, "c", 4..=4);
    let done = whole.done().expect(0);
    let messages: Vec<Value> =
        done.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let members = |message: &Value| message.as_object().unwrap().keys().cloned().collect();
    let (kept, live): (Vec<_>, Vec<_>) = (members(&messages[2]), members(&messages[3]));
    assert_eq!(kept, live, "both look alike");
    let numbers: Vec<_> = messages.iter().map(|message| &message["offset"]).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
}

#[test]
fn after_a_break_a_subscriber_gets_what_it_missed() {
    let place = Place::new();
    let server = Server::start(&place, "", &[]);
    let proxy = Proxy::before(&server.url);
    let url = [("MAHAVISHNU_URL", &*proxy.url)];
    let mut plain = Subscriber::start(&place, "subscribe --offsets c", &url);
    let mut tail = Subscriber::start(&place, "tail c", &url);
    publish(&place, &server.url, "c", 1..=2);
    for _ in 1..=2 {
        plain.line();
        tail.line();
    }
    proxy.cut();
    publish(&place, &server.url, "c", 3..=5);
    proxy.mend();
    for subscriber in [&mut plain, &mut tail] {
        let note = subscriber.subscribed_again();
        assert!(note.ends_with("; recovered 3\n"), "{note}");
    }
    publish(&place, &server.url, "c", 6..=6);
    for n in 3..=6 {
        assert_eq!(plain.line(), format!("c {n} e {{\"n\":{n}}}"));
        assert_eq!(offsets(&tail.line()), [n]);
    }
}

#[test]
fn what_cannot_be_recovered_is_said() {
    let place = Place::new();
    let server = Server::start(&place, "", &[("MAHAVISHNU_HISTORY_RULES", "few=1/300,none=off")]);
    let proxy = Proxy::before(&server.url);
    let url = [("MAHAVISHNU_URL", &*proxy.url)];
    let mut few = Subscriber::start(&place, "subscribe --count 1 few", &url);
    let mut none = Subscriber::start(&place, "subscribe --count 1 none", &url);
    proxy.cut();
    for channel in ["few", "none"] {
        publish(&place, &server.url, channel, 1..=2);
    }
    proxy.mend();
    for (subscriber, why) in [(&mut few, "trimmed"), (&mut none, "off")] {
        let note = subscriber.subscribed_again();
        assert!(note.ends_with(&format!("; not recovered: {why}\n")), "{note}");
    }
    publish(&place, &server.url, "few", 3..=3);
    assert_eq!(few.done().expect(0).out, "few e {\"n\":3}\n");
}
