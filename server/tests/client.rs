//! `publish` and `history` against a scripted HTTP server.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    thread::JoinHandle,
};

use crate::support::Place;

/// What is said where nobody listens, by every subcommand alike.
const NOBODY: &str =
    "nothing listens there (connection refused); is the server running, and on this port?";

const REACHED: &str = r#"{"status":"published","published":1,"subscribers":2,"messages":[]}"#;

/// Answers one request with `status` and `body`; joins to the request's head and body.
fn answer_once(status: &'static str, body: &'static str) -> (u16, JoinHandle<(String, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(reader.read_line(&mut head).unwrap(), 0, "{head}");
        }
        let head = head.to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        let mut sent = vec![0; length];
        reader.read_exact(&mut sent).unwrap();
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        reader.into_inner().write_all(answer.as_bytes()).unwrap();
        (head, String::from_utf8(sent).unwrap())
    });
    (port, thread)
}

#[test]
fn an_event_is_posted_with_token_and_key() {
    let place = Place::new();
    let (port, server) = answer_once("200 OK", REACHED);
    let arguments = format!(
        "publish --url ws://127.0.0.1:{port}/ --idempotency-key k1 workflow:42 workflow.started {{\"n\":1.10}}"
    );
    let done = place.run_with(&arguments, &[("MAHAVISHNU_TOKEN", "T")]).expect(0);
    assert_eq!(done.out, "published; reached 2 subscribers\n");
    let (head, body) = server.join().unwrap();
    assert!(head.starts_with("post /publish http/1.1\r\n"), "{head}");
    for line in ["authorization: bearer t", "content-type: application/json", "idempotency-key: k1"]
    {
        assert!(head.lines().any(|sent| sent == line), "{line} in {head}");
    }
    assert_eq!(body, r#"{"channel":"workflow:42","event":"workflow.started","data":{"n":1.10}}"#);
}

#[test]
fn data_comes_from_standard_input_or_a_file() {
    let place = Place::new();
    place.write("data.json", "{\"from\":\"file\"}\n");
    for (data, input, from) in [("-", "{\"from\":\"stdin\"}", "stdin"), ("@data.json", "", "file")]
    {
        let (port, server) = answer_once("200 OK", REACHED);
        let variables = [("MAHAVISHNU_URL", &*format!("http://127.0.0.1:{port}"))];
        place.run_on(&format!("publish c e {data}"), &variables, input).expect(0);
        let (_, body) = server.join().unwrap();
        assert!(body.contains(&format!("{{\"from\":\"{from}\"}}")), "{body}");
    }
}

#[test]
fn a_refusal_says_where_to_look_and_has_a_code() {
    let refused = r#"{"status":"error","error_code":"FORBIDDEN","error_message":"Not authorized","retry":"never"}"#;
    let (port, server) = answer_once("403 Forbidden", refused);
    let done = Place::new().run(&format!("publish --url http://127.0.0.1:{port} c e")).expect(6);
    let lines: Vec<_> = done.err.lines().collect();
    assert_eq!(
        lines,
        [
            "mahavishnu: not published: HTTP 403 FORBIDDEN: Not authorized",
            "mahavishnu: `mahavishnu explain --channel c --verb publish` says which permission it takes"
        ]
    );
    server.join().unwrap();
}

#[test]
fn where_nothing_listens_nothing_is_published() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let done = Place::new().run(&format!("publish --url http://127.0.0.1:{port} c e")).expect(2);
    let expected = format!("mahavishnu: http://127.0.0.1:{port}/publish: {NOBODY}\n");
    assert_eq!(done.err, expected);
}

#[test]
fn what_cannot_be_sent_is_not_tried() {
    let place = Place::new();
    assert_eq!(place.run("publish c e [1]").expect(1).err.lines().count(), 1);
    place.run("publish --url ftp://localhost c e").expect(5);
    let done = place.run_with("publish c e", &[("MAHAVISHNU_TOKEN", "se\u{7f}cret")]).expect(1);
    assert!(!done.err.contains("cret"), "{}", done.err);
}

#[test]
fn a_server_from_before_history_is_told_from_one_that_keeps_nothing() {
    let (port, server) = answer_once("404 Not Found", "");
    let place = Place::new();
    let arguments = format!("history --url http://127.0.0.1:{port} --limit 5 pool:a&b");
    let done = place.run_with(&arguments, &[("MAHAVISHNU_TOKEN", "T")]).expect(1);
    let expected = format!("mahavishnu: http://127.0.0.1:{port}: this server has no history\n");
    assert_eq!((&*done.out, done.err), ("", expected));
    let (head, _) = server.join().unwrap();
    let line = "get /history?channel=pool%3aa%26b&limit=5 http/1.1\r\n";
    assert!(head.starts_with(line), "{head}");
    assert!(head.lines().any(|sent| sent == "authorization: bearer t"), "{head}");
}

#[test]
fn what_is_no_page_of_history_is_not_printed() {
    for body in ["<html>", "{}", r#"{"events":5}"#] {
        let (port, server) = answer_once("200 OK", body);
        let done = Place::new().run(&format!("history --url http://127.0.0.1:{port} c")).expect(1);
        assert!(done.err.ends_with("answered, but not as a Mahavishnu server does\n"), "{done:?}");
        server.join().unwrap();
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let done = Place::new().run(&format!("history --url http://127.0.0.1:{port} c")).expect(2);
    let expected = format!("mahavishnu: http://127.0.0.1:{port}/history: {NOBODY}\n");
    assert_eq!(done.err, expected);
}
