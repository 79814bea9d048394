//! What is outside of the server and fails: readers of its log, disks, descriptors, and processes that are not it.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::json;

use crate::support::{Place, Server, eventually};

/// A server that writes where it is told to.
struct Running<'a> {
    place: &'a Place,
    child: Child,
    main: String,
    metrics: String,
}

impl<'a> Running<'a> {
    /// `shell` may set limits before it becomes the server: `exec "$@"`.
    fn start(
        place: &'a Place,
        shell: &str,
        settings: &[(&str, &str)],
        out: Stdio,
        err: Stdio,
    ) -> Self {
        let port = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (main, metrics) = (port(), port());
        let mut command = Command::new("sh");
        command
            .args(["-c", shell, "sh", env!("CARGO_BIN_EXE_mahavishnu"), "websocket", "start"])
            .args(["--port", &main.to_string(), "--metrics-port", &metrics.to_string()])
            .env_clear()
            .env("HOME", place.path())
            .current_dir(place.path())
            .envs(settings.iter().copied())
            .stdout(out)
            .stderr(err);
        let child = command.spawn().unwrap();
        let (main, metrics) = (format!("127.0.0.1:{main}"), format!("127.0.0.1:{metrics}"));
        let running = Self { place, child, main, metrics };
        eventually("the server answers", || {
            TcpStream::connect(&running.metrics).ok()?;
            TcpStream::connect(&running.main).ok()
        });
        running
    }

    fn health(&self) -> String {
        get(&self.main, "/health")
    }

    fn dropped(&self) -> u64 {
        let text = get(&self.metrics, "/metrics");
        let name = "mahavishnu_log_lines_dropped_total{";
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    }

    /// By SIGTERM, and in time.
    fn stop(mut self) {
        assert_eq!(self.place.run("websocket stop").code, 0);
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ask(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn get(address: &str, path: &str) -> String {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"))
}

fn open(address: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(
        stream,
        "GET / HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    .unwrap();
    stream
}

/// Reads until `text` has come.
fn read_until(stream: &mut TcpStream, text: &str) {
    let (mut read, mut buffer) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&read).contains(text) {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "{text} before the end: {}", String::from_utf8_lossy(&read));
        read.extend_from_slice(&buffer[..count]);
    }
}

/// A message of at most 125 bytes, masked with zeros.
fn send(stream: &mut TcpStream, text: &str) {
    let length = u8::try_from(text.len()).unwrap();
    assert!(length < 126);
    stream.write_all(&[&[0x81, 0x80 | length, 0, 0, 0, 0], text.as_bytes()].concat()).unwrap();
}

/// A message comes from a publisher to a subscriber.
fn demand_delivery(address: &str) {
    let mut subscriber = open(address);
    read_until(&mut subscriber, "101 ");
    send(
        &mut subscriber,
        r#"{"type":"request","id":"s","event":"subscribe","data":{"channel":"pool:1"}}"#,
    );
    read_until(&mut subscriber, "subscribed");
    let body = r#"{"channel":"pool:1","event":"pool.moved","data":{"n":4711}}"#;
    let answer = ask(
        address,
        &format!(
            "POST /publish HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ),
    );
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    read_until(&mut subscriber, "4711");
}

/// A pipe with a name, held open by nobody but who gets this.
fn pipe(path: &Path) -> File {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

#[test]
fn a_reader_of_the_log_that_stalls_holds_up_nobody() {
    let place = Place::new();
    let path = place.path().join("log");
    let mut stalled = pipe(&path);
    let end = || Stdio::from(OpenOptions::new().write(true).open(&path).unwrap());
    let settings = [("MAHAVISHNU_LOG_LEVEL", "DEBUG"), ("MAHAVISHNU_SHARDS", "2")];
    let server = Running::start(&place, r#"exec "$@""#, &settings, end(), end());
    let clients: Vec<_> = (0..200).map(|_| open(&server.main)).collect();
    eventually("more is logged than is kept", || {
        for _ in 0..500 {
            read_until(&mut open(&server.main), "101 ");
        }
        (server.dropped() > 0).then_some(())
    });
    assert!(server.health().starts_with("HTTP/1.1 200 "));
    demand_delivery(&server.main);

    // It reads again, and is told.
    let (tell, told) = std::sync::mpsc::channel();
    let reader = stalled.try_clone().unwrap();
    std::thread::spawn(move || {
        let (mut reader, mut text, mut buffer) = (reader, Vec::new(), [0; 1 << 16]);
        while let Ok(count) = reader.read(&mut buffer) {
            text.extend_from_slice(&buffer[..count]);
            if String::from_utf8_lossy(&text).contains("log lines are missing here") {
                let _ = tell.send(());
            }
        }
    });
    told.recv_timeout(Duration::from_secs(30)).unwrap();
    drop(clients);
    server.stop();
    // The thread's end of the pipe.
    stalled.write_all(b"\n").unwrap();
}

#[test]
fn a_reader_that_stalls_does_not_keep_the_server_from_ending() {
    let place = Place::new();
    let path = place.path().join("log");
    let mut stalled = pipe(&path);
    // Full before the first line.
    let end = || OpenOptions::new().write(true).open(&path).unwrap();
    let fill = std::thread::spawn({
        let mut end = end();
        move || end.write_all(&[b'\n'; 1 << 17])
    });
    let server = Running::start(&place, r#"exec "$@""#, &[], end().into(), end().into());
    assert!(server.health().starts_with("HTTP/1.1 200 "));
    server.stop();
    let mut rest = vec![0; 1 << 17];
    stalled.read_exact(&mut rest).unwrap();
    fill.join().unwrap().unwrap();
}

#[test]
fn output_that_cannot_be_written_stops_nothing_and_is_counted() {
    let full = || Stdio::from(OpenOptions::new().write(true).open("/dev/full").unwrap());
    let broken = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        Stdio::from(writer)
    };
    for (shell, out, err, counted) in [
        (r#"exec "$@""#, full(), full(), true),
        (r#"exec "$@""#, broken(), broken(), true),
        (r#"exec "$@" >&- 2>&-"#, Stdio::null(), Stdio::null(), false),
    ] {
        let place = Place::new();
        let server = Running::start(&place, shell, &[], out, err);
        demand_delivery(&server.main);
        assert_eq!(server.dropped() > 0, counted, "{shell}");
        server.stop();
    }
}

#[test]
fn sockets_never_use_up_the_descriptors() {
    let place = Place::new();
    let file = |name: &str| Stdio::from(File::create(place.path().join(name)).unwrap());
    let settings = [("MAHAVISHNU_MAX_CONNECTIONS", "10000"), ("MAHAVISHNU_SHARDS", "1")];
    let shell = r#"ulimit -n 300; exec "$@""#;
    let server = Running::start(&place, shell, &settings, file("out.log"), file("err.log"));
    let silent: Vec<_> = (0..600).map(|_| TcpStream::connect(&server.main).unwrap()).collect();
    for _ in 0..4 {
        assert!(server.health().starts_with("HTTP/1.1 200 "));
        assert!(get(&server.metrics, "/metrics").starts_with("HTTP/1.1 200 "));
    }
    demand_delivery(&server.main);
    let ready = get(&server.main, "/ready");
    assert!(ready.contains(r#""max":130,"bound":"files""#), "{ready}");
    drop(silent);
    server.stop();
    let log = place.log();
    assert!(log.contains("MAX_CONNECTIONS=10000 does not fit"), "{log}");
    assert!(!log.contains("cannot accept"), "{log}");
}

#[test]
fn what_does_not_fit_the_descriptors_is_said_before_the_start() {
    let place = Place::new();
    let mut command = Command::new("sh");
    let bin = env!("CARGO_BIN_EXE_mahavishnu");
    command.args(["-c", r#"ulimit -n 300; exec "$@""#, "sh", bin, "config", "check"]);
    let output = command.env_clear().env("HOME", place.path()).current_dir(place.path()).output();
    let said = String::from_utf8(output.unwrap().stderr).unwrap();
    assert!(said.contains("may open only 300 files"), "{said}");
}

/// A process that has nothing to do with any server. Killed when dropped.
struct Stranger(Child);

impl Stranger {
    fn start() -> Self {
        Self(Command::new("sleep").arg("600").spawn().unwrap())
    }

    fn demand_alive(&mut self) {
        // A signal that was sent has its effect before the next process has run and ended.
        assert!(Command::new("true").status().unwrap().success());
        assert_eq!(self.0.try_wait().unwrap(), None, "it got a signal");
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const LOCK: &str = ".local/state/mahavishnu/mahavishnu_websocket.lock";
const PID: &str = ".local/state/mahavishnu/mahavishnu_websocket.pid";

#[test]
fn the_number_in_the_pid_file_is_signalled_to_nobody() {
    let place = Place::new();
    let server = Server::start(&place, "", &[]);
    let mut stranger = Stranger::start();
    place.write(PID, &format!("{}\n", stranger.0.id()));
    let pid = server.pid();
    assert_eq!(place.run("websocket reload").expect(0).out, format!("reloaded (pid {pid})\n"));
    assert_eq!(place.run("websocket stop").expect(0).out, format!("stopped (pid {pid})\n"));
    assert_eq!(server.wait(), Some(0));
    stranger.demand_alive();
}

#[test]
fn a_number_that_means_another_process_here_gets_no_signal() {
    let place = Place::new();
    let server = Server::start(&place, "", &[]);
    let notes = std::fs::read_to_string(place.path().join(LOCK)).unwrap();
    drop(server);
    let mut stranger = Stranger::start();
    let mut reused: serde_json::Value = serde_json::from_str(&notes).unwrap();
    reused["pid"] = stranger.0.id().into();
    let changed = |name: &str, value: serde_json::Value| {
        let mut notes = reused.clone();
        notes[name] = value;
        notes
    };
    for (notes, why) in [
        (reused.clone(), "this number is another process's by now"),
        (changed("namespace", json!("pid:[1]")), "in another PID namespace (a container)"),
        (changed("boot", json!("x")), "on another machine"),
        (json!({ "pid": stranger.0.id() }), "it cannot be made sure"),
        (json!({}), "does not say which process it is"),
    ] {
        let path = place.write(LOCK, &notes.to_string());
        let held = File::open(path).unwrap();
        held.lock().unwrap();
        for command in ["websocket stop", "websocket stop --force", "websocket reload"] {
            let done = place.run(command).expect(8);
            assert!(
                done.err.contains(why) && done.err.contains("nothing was sent"),
                "{}",
                done.err
            );
        }
        stranger.demand_alive();
    }
}

#[test]
fn a_server_in_another_pid_namespace_is_left_to_those_there() {
    let isolated = ["--user", "--map-root-user", "--pid", "--fork", "--kill-child"];
    if !Command::new("unshare").args(isolated).arg("true").status().is_ok_and(|s| s.success()) {
        eprintln!("not tried: this machine lets nobody have a PID namespace");
        return;
    }
    let place = Place::new();
    let shell =
        r#"exec unshare --user --map-root-user --pid --fork --kill-child --mount-proc "$@""#;
    let server = Running::start(&place, shell, &[], Stdio::null(), Stdio::null());
    let done = place.run("websocket stop").expect(8);
    assert!(done.err.contains("in another PID namespace"), "{}", done.err);
    place.run("websocket reload").expect(8);
    assert!(server.health().starts_with("HTTP/1.1 200 "), "it runs on");
    place.run("websocket status").expect(0);
}
