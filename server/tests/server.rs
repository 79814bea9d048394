//! A running server: start, stop, reload, crash, and the client subcommands against it.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
};

use crate::support::{Place, SECRET, Server, Subscriber, eventually};

fn get(url: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn from_start_to_stop() {
    let place = Place::new();
    let server = Server::start(&place, "", &[]);
    let pid = server.pid();
    eventually("the banner", || place.log().contains("Ctrl-C stops it.").then_some(()));
    let status = place.run("websocket status").expect(0).out;
    assert!(
        status.starts_with(&format!("running (pid {pid}) at {}: healthy, ", server.url)),
        "{status}"
    );
    assert!(
        place
            .run("websocket start --port 0")
            .expect(3)
            .err
            .contains(&format!("already running (pid {pid})"))
    );
    assert_eq!(place.run("websocket stop").expect(0).out, format!("stopped (pid {pid})\n"));
    assert_eq!(server.wait(), Some(0));
    place.run("websocket status").expect(2);
}

#[test]
fn every_runtime_of_the_build_serves_reloads_and_stops() {
    for (runtime, built_in) in
        [("tokio", cfg!(feature = "tokio")), ("smol", cfg!(feature = "smol"))]
    {
        let place = Place::new();
        let choice = format!("--runtime {runtime}");
        if !built_in {
            let done = place.run(&format!("websocket start --port 0 {choice}")).expect(5);
            let expected = format!("the {runtime} runtime is not part of this build");
            assert!(done.err.contains(&expected), "{}", done.err);
            continue;
        }
        let server = Server::start(&place, &choice, &[]);
        let said = format!("runtime=\"{runtime}\"");
        eventually(&said, || place.log().contains(&said).then_some(()));
        place.run_with("publish c e", &[("MAHAVISHNU_URL", &server.url)]).expect(0);
        place.run("websocket reload").expect(0);
        eventually("it reloads", || place.log().contains("reloaded").then_some(()));
        place.run("websocket stop").expect(0);
        assert_eq!(server.wait(), Some(0));
        assert!(place.log().contains("stopped"), "{}", place.log());
    }
}

#[test]
fn kill_9_prevents_nothing() {
    let place = Place::new();
    let server = Server::start(&place, "", &[]);
    server.signal("KILL");
    assert_eq!(server.wait(), None);
    place.run("websocket status").expect(8);
    let server = Server::start(&place, "", &[]);
    server.signal("KILL");
    server.wait();
    // Not even if nobody cleans up in between.
    Server::start(&place, "", &[]);
}

#[test]
fn a_server_that_does_not_end_is_killed_by_force_only() {
    let place = Place::new();
    let server = Server::start(&place, "", &[]);
    server.signal("STOP");
    let done = place.run("websocket stop --timeout 0.2").expect(7);
    assert!(done.err.contains("is still running after 0.2 s; --force kills it"), "{}", done.err);
    let done = place.run("websocket stop --timeout 0.2 --force").expect(0);
    assert!(done.out.starts_with("killed (pid "), "{}", done.out);
    place.run("websocket status").expect(2);
}

#[test]
fn a_server_that_does_not_answer_is_unhealthy() {
    let place = Place::new();
    let server = Server::start(&place, "", &[]);
    server.signal("STOP");
    let done = place.run("websocket status").expect(4);
    assert!(done.out.ends_with("unhealthy: no answer in time\n"), "{}", done.out);
}

#[test]
fn a_port_in_use_is_one_line() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let listener = TcpListener::bind(taken).unwrap();
    let main =
        place.run(&format!("websocket start --port {} --metrics-port 0", taken.port())).expect(1);
    let expected = format!(
        "mahavishnu: cannot listen on {taken}: Address already in use; another program listens there: stop it or choose another --port\n"
    );
    assert_eq!(main.err, expected);
    let metrics =
        place.run(&format!("websocket start --port 0 --metrics-port {}", taken.port())).expect(1);
    assert!(metrics.err.ends_with("choose another --metrics-port\n"), "{}", metrics.err);
    drop(listener);
}

#[test]
fn a_bad_configuration_does_not_start() {
    let done = Place::new()
        .run_with(
            "websocket start --port 0",
            &[("MAHAVISHNU_TLS_ENABLED", "true"), ("MAHAVISHNU_SHARDS", "x")],
        )
        .expect(5);
    assert_eq!(done.err.lines().count(), 2, "{}", done.err);
    assert_eq!(done.out, "");
}

#[test]
fn an_event_goes_from_publish_to_subscribe() {
    let place = Place::new();
    let server = Server::start(&place, "", &[]);
    let url = [("MAHAVISHNU_URL", &*server.url)];
    let plain = Subscriber::start(&place, "subscribe --count 2 workflow:42", &url);
    let json = Subscriber::start(&place, "subscribe --count 1 --json workflow:42", &url);
    let done = place.run_with(r#"publish workflow:42 workflow.started {"n":1.10}"#, &url).expect(0);
    assert_eq!(done.out, "published; reached 2 subscribers\n");
    place.run_with("publish workflow:42 workflow.completed", &url).expect(0);
    assert_eq!(
        plain.done().expect(0).out,
        "workflow:42 workflow.started {\"n\":1.10}\nworkflow:42 workflow.completed {}\n"
    );
    let message: serde_json::Value = serde_json::from_str(&json.done().expect(0).out).unwrap();
    assert_eq!((&message["type"], &message["room"]), (&"event".into(), &"workflow:42".into()));
}

#[test]
fn stopping_closes_subscribers_with_1001_and_they_come_back_to_the_next_server() {
    let place = Place::new();
    let server = Server::start(&place, "", &[]);
    let port = server.url.rsplit(':').next().unwrap().to_owned();
    let url = [("MAHAVISHNU_URL", &*server.url.clone())];
    let gone = Subscriber::start(&place, "subscribe --no-reconnect global", &url);
    let mut back = Subscriber::start(&place, "subscribe --count 1 global", &url);
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    let lost = gone.done().expect(1).err;
    assert!(lost.ends_with("closed by the server: 1001 Server shutting down\n"), "{lost}");

    let _server = Server::start(&place, &format!("--port {port}"), &[]);
    let note = back.subscribed_again();
    assert!(note.ends_with("; not recovered: epoch\n"), "the next server kept nothing: {note}");
    place.run_with("publish global hello", &url).expect(0);
    assert_eq!(back.done().expect(0).out, "global hello {}\n");
}

#[test]
fn with_authentication_tokens_decide() {
    let place = Place::new();
    let secret = ("MAHAVISHNU_JWT_SECRET", SECRET);
    let server = Server::start(&place, "--auth-enabled true", &[secret]);
    let url = ("MAHAVISHNU_URL", &*server.url);
    let token = |arguments: &str| {
        place
            .run_with(&format!("token create {arguments}"), &[secret])
            .expect(0)
            .last_line()
            .to_owned()
    };
    let (admin, reader, nobody) = (
        token("--user a --permission admin"),
        token("--user r --permission workflow:read"),
        token("--user n"),
    );
    let with =
        |token: &'static str, value: &str| [(token, value.to_owned()), (url.0, url.1.to_owned())];
    let run = |arguments: &str, token: &str| {
        let variables = with("MAHAVISHNU_TOKEN", token);
        place
            .run_with(arguments, &variables.each_ref().map(|(name, value)| (*name, value.as_str())))
    };

    let subscriber = Subscriber::start(
        &place,
        "subscribe --count 1 workflow:1",
        &[url, ("MAHAVISHNU_TOKEN", &reader)],
    );
    assert!(run("publish workflow:1 e", &reader).expect(6).err.contains("HTTP 403 FORBIDDEN"));
    run("publish workflow:1 e", &admin).expect(0);
    subscriber.done().expect(0);

    let done = run("subscribe workflow:1", &nobody).expect(6);
    assert!(done.err.contains("not subscribed to \"workflow:1\": FORBIDDEN"), "{}", done.err);
    let done = run("subscribe workflow:1", "").expect(6);
    assert!(done.err.contains("1008 Authentication required"), "{}", done.err);
    let done = run("subscribe workflow:1", &format!("{reader}x")).expect(6);
    assert!(done.err.contains("AUTH_FAILED") && !done.err.contains(&reader), "{}", done.err);
    let done = run("publish workflow:1 e", "").expect(6);
    assert!(done.err.contains("HTTP 401 AUTH_REQUIRED"), "{}", done.err);

    let log = place.log();
    assert!(!log.contains(&reader) && !log.contains(SECRET), "{log}");
}

#[test]
fn reload_takes_what_is_good_and_keeps_what_was_when_it_is_not() {
    let place = Place::new();
    let env = |text: &str| place.write("server.env", text);
    env(&format!("MAHAVISHNU_JWT_SECRET={SECRET}\nMAHAVISHNU_SERVER_NAME=one\n"));
    let server = Server::start(&place, "--env-file server.env --auth-enabled true", &[]);
    let reload = |expected: &str| {
        let code = if expected.contains("refused") { 5 } else { 0 };
        place.run("websocket reload").expect(code);
        eventually(expected, || place.log().contains(expected).then_some(()));
    };
    let name = |name: &str| get(&server.url, "/health").contains(&format!("\"server\":\"{name}\""));
    assert!(name("one"));

    env(
        "MAHAVISHNU_JWT_KEYS=new:vT4yK8pQ2sW6xZ0bN3mJ7hG1fD5cR9aL\nMAHAVISHNU_SERVER_NAME=two\nMAHAVISHNU_SHARDS=2\n",
    );
    reload("changed=\"MAHAVISHNU_SERVER_NAME, MAHAVISHNU_JWT_SECRET, MAHAVISHNU_JWT_KEYS\" keys=1");
    assert!(
        place.log().contains("changed, but not before the next start: MAHAVISHNU_SHARDS"),
        "{}",
        place.log()
    );
    eventually("the new name", || name("two").then_some(()));
    let old = place
        .run_with("token create --user a --permission admin", &[("MAHAVISHNU_JWT_SECRET", SECRET)])
        .expect(0);
    let url = ("MAHAVISHNU_URL", &*server.url);
    place.run_with("publish c e", &[url, ("MAHAVISHNU_TOKEN", old.last_line())]).expect(6);
    let new = place.run("token create --env-file server.env --user a --permission admin").expect(0);
    place.run_with("publish c e", &[url, ("MAHAVISHNU_TOKEN", new.last_line())]).expect(0);

    env("MAHAVISHNU_SERVER_NAME=three\nMAHAVISHNU_RATE_LIMIT=lots\n");
    reload("reload refused: the configuration stays as it was");
    assert!(
        place.log().contains("reload: MAHAVISHNU_RATE_LIMIT: \"lots\" is not allowed"),
        "{}",
        place.log()
    );
    assert!(name("two"));
    place.run_with("publish c e", &[url, ("MAHAVISHNU_TOKEN", new.last_line())]).expect(0);
}

#[test]
fn json_logs_are_json_only_and_levels_follow_a_reload() {
    let place = Place::new();
    place.write(".env", "MAHAVISHNU_LOG_FORMAT=json\nMAHAVISHNU_LOG_LEVEL=warn\n");
    let server = Server::start(&place, "", &[]);
    assert_eq!(place.log(), "");
    place.write(".env", "MAHAVISHNU_LOG_FORMAT=json\nMAHAVISHNU_LOG_LEVEL=debug\n");
    place.run("websocket reload").expect(0);
    eventually("a line", || place.log().contains("reloaded").then_some(()));
    server.signal("INT");
    assert_eq!(server.wait(), Some(0));
    for line in place.log().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(
            line["message"].is_string()
                && line["level"].is_string()
                && line["timestamp"].is_string(),
            "{line}"
        );
    }
}

#[test]
fn a_second_signal_ends_at_once() {
    let place = Place::new();
    let server = Server::start(&place, "", &[("MAHAVISHNU_DRAIN_TIMEOUT", "600")]);
    // A client that never answers the close.
    let mut stream = TcpStream::connect(server.url.strip_prefix("http://").unwrap()).unwrap();
    let upgrade = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(upgrade.as_bytes()).unwrap();
    assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
    server.signal("TERM");
    eventually("it stops", || place.log().contains("stopping").then_some(()));
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn metrics_are_on_a_port_of_their_own() {
    let place = Place::new();
    let server = Server::start(&place, "", &[]);
    let log = place.log();
    let metrics = log.lines().find_map(|line| line.split("Metrics         ").nth(1)).unwrap();
    let text = get(metrics.strip_suffix("/metrics").unwrap(), "/metrics");
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert!(
        text.to_ascii_lowercase()
            .contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"),
        "{text}"
    );
    assert!(text.contains("websocket_connections_active{server=\"mahavishnu\"} 0\n"), "{text}");
    assert!(!get(&server.url, "/metrics").contains("websocket_"), "not on the public port");
}
