//! Under a service manager: what it is told and when, what a watchdog is told, and sockets that outlast a restart.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    process::Command,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use mahavishnu_tests::{
    Server, http,
    manager::{Held, Notified, Sockets, start_with},
    server::{self, Process, free_ports},
    wait,
};
use rustix::process::Signal;
use tempfile::TempDir;

/// A server that tells `manager`.
fn notifying(manager: &Notified, settings: &[(&str, &str)], variables: &[(&str, &str)]) -> Server {
    let path = manager.path();
    let all: Vec<_> = [("NOTIFY_SOCKET", &*path)].iter().chain(variables).copied().collect();
    Server::with_variables(settings, &all)
}

#[test]
fn ready_is_told_when_it_listens_and_can_be_found() {
    let (manager, dir) = (Notified::new(), tempfile::tempdir().unwrap());
    let dir = dir.path();
    let path = manager.path();
    let settings =
        [("NOTIFY_SOCKET", &*path), ("MAHAVISHNU_PORT", "0"), ("MAHAVISHNU_METRICS_PORT", "0")];
    let _server = server::spawn_in(dir, &settings, &["websocket", "start"]);
    let told = manager.expect("READY=1");
    let address = told.value("STATUS").strip_prefix("listening on ").unwrap();
    assert_eq!(http::get(address.parse().unwrap(), "/health").status, 200);
    let status = server::run(dir, &[], &["websocket", "status"]);
    assert_eq!(status.code, Some(0), "{status:?}");
}

#[test]
fn a_start_that_fails_is_never_ready_and_says_why() {
    let (manager, dir) = (Notified::new(), tempfile::tempdir().unwrap());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let path = manager.path();
    for (port, code, why) in
        [("abc", 5, "MAHAVISHNU_PORT: \"abc\""), (&*port, 1, "cannot listen on 127.0.0.1:")]
    {
        let settings = [
            ("NOTIFY_SOCKET", &*path),
            ("MAHAVISHNU_PORT", port),
            ("MAHAVISHNU_METRICS_PORT", "0"),
        ];
        let done = server::run(dir.path(), &settings, &["websocket", "start"]);
        assert_eq!(done.code, Some(code), "{done:?}");
        let told = manager.all();
        assert!(told.iter().all(|told| !told.has("READY=1")), "{told:?}");
        let last = told.last().expect("it says why").value("STATUS");
        assert!(last.starts_with(why), "{last}");
    }
}

#[test]
fn a_reload_is_told_with_its_outcome() {
    let manager = Notified::new();
    let server = notifying(&manager, &[], &[]);
    manager.expect("READY=1");
    let reload = |file: &str, code: i32| {
        server.write_env_file(file);
        let done = server.run(&["websocket", "reload"]);
        assert_eq!(done.code, Some(code), "{done:?}");
        let begun = manager.expect("RELOADING=1");
        assert!(begun.value("MONOTONIC_USEC").parse::<u64>().unwrap() > 0, "{begun:?}");
        manager.expect("READY=1").value("STATUS").to_owned()
    };
    let listening = format!("listening on {}", server.address());
    let refused = reload("MAHAVISHNU_LOG_LEVEL=loud\n", 5);
    let start = format!("{listening}; the last reload was refused: MAHAVISHNU_LOG_LEVEL: ");
    assert!(refused.starts_with(&start), "{refused}");
    assert_eq!(reload("MAHAVISHNU_LOG_LEVEL=DEBUG\n", 0), listening);
}

#[test]
fn stopping_is_told_with_how_long_it_may_take() {
    let manager = Notified::new();
    let settings = [("DRAIN_NOTICE", "0.1"), ("DRAIN_WINDOW", "1"), ("DRAIN_TIMEOUT", "6")];
    let mut server = notifying(&manager, &settings, &[]);
    let mut client = server.hello();
    server.signal(Signal::TERM);
    let told = manager.expect("STOPPING=1");
    // Of 7.1 s, and what ending takes besides.
    assert_eq!(told.value("EXTEND_TIMEOUT_USEC"), "17100000");
    let status = told.value("STATUS");
    assert!(status.starts_with("stopping: ") && status.ends_with(", 7.1 s at most"), "{status}");
    client.expect_close(1001);
    drop(client);
    assert_eq!(server.wait().code(), Some(0));
    assert!(manager.all().iter().all(|told| !told.has("READY=1")));
}

#[test]
fn a_watchdog_hears_nothing_while_one_shard_hangs() {
    const LATE: &str = "no turn was taken by shards [1]";
    let manager = Notified::new();
    let settings = [("SHARDS", "2"), ("DRAIN_TIMEOUT", "0")];
    let server = notifying(&manager, &settings, &[("WATCHDOG_USEC", "200000")]);
    for _ in 0..3 {
        manager.expect("WATCHDOG=1");
    }

    let held = Held::thread(server.pid(), "shard-1");
    let late = || server.log().matches(LATE).count();
    wait::until("a shard that is late", || (late() > 0).then_some(()));
    // What was told before.
    manager.all();
    let before = late();
    wait::until("many times that it is late", || (late() > before + 10).then_some(()));
    let told = manager.all();
    assert!(told.iter().all(|told| !told.has("WATCHDOG=1")), "{told:?}");
    drop(held);
    manager.expect("WATCHDOG=1");
    server.expect_log("all shards take turns again");
}

#[test]
fn a_watchdog_hears_of_a_drain_that_takes_long() {
    let manager = Notified::new();
    let settings = [("DRAIN_NOTICE", "3600")];
    let mut server = notifying(&manager, &settings, &[("WATCHDOG_USEC", "200000")]);
    server.signal(Signal::TERM);
    manager.expect("STOPPING=1");
    for _ in 0..5 {
        manager.expect("WATCHDOG=1");
    }
    server.signal(Signal::TERM);
    server.wait();
}

fn wait_healthy(process: &mut Process, address: SocketAddr) {
    let healthy = || http::try_get(address, "/health").is_ok_and(|answer| answer.status == 200);
    wait::until("health", || {
        assert!(process.is_running(), "it has ended:\n{}", process.log());
        healthy().then_some(())
    });
}

#[test]
fn sockets_that_are_handed_over_are_served_in_place_of_the_settings() {
    let dir = tempfile::tempdir().unwrap();
    let sockets = Sockets::new();
    // Nobody could listen there.
    let mut server = sockets.start(dir.path(), &[("MAHAVISHNU_HOST", "192.0.2.1")]);
    wait_healthy(&mut server, sockets.main());
    let metrics = http::get(sockets.metrics(), "/metrics").text();
    assert!(metrics.contains("websocket_connections_active"), "{metrics}");
    let status = server::run(dir.path(), &[], &["websocket", "status"]);
    let expected = format!("at http://{}: healthy", sockets.main());
    assert!(status.stdout.contains(&expected), "{status:?}");
    // It is protected by what its true address is: nobody but this machine reaches it.
    let page = "GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: https://elsewhere.example\r\nConnection: Upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    assert_eq!(http::exchange(sockets.main(), page.as_bytes()).status, 403);
}

#[test]
fn a_restart_refuses_nobody_whose_socket_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let sockets = Sockets::new();
    let (over, served) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut server = sockets.start(dir.path(), &[]);
    std::thread::scope(|scope| {
        let ending = Ending(&over);
        let clients: Vec<_> =
            (0..4).map(|_| scope.spawn(|| come_and_go(sockets.main(), &over, &served))).collect();
        for _ in 0..5 {
            let before = served.load(Ordering::Relaxed);
            let busy = || (served.load(Ordering::Relaxed) > before + 20).then_some(());
            wait::until("clients that are served", busy);
            server.signal(Signal::TERM);
            assert_eq!(server.wait().code(), Some(0));
            server = sockets.start(dir.path(), &[]);
        }
        wait_healthy(&mut server, sockets.main());
        drop(ending);
        let cut: u64 = clients.into_iter().map(|client| client.join().unwrap()).sum();
        let served = served.load(Ordering::Relaxed);
        println!("served {served}, cut {cut}");
        // Four of them, and five restarts. Who is accepted and does not say for long what it wants is cut.
        assert!(cut < 10, "served {served}, cut {cut}");
    });
}

/// Ends the clients, also when something has failed.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Asks one thing on each of many connections, and counts those that end unanswered. One that is refused is a failure.
fn come_and_go(address: SocketAddr, over: &AtomicBool, served: &AtomicU64) -> u64 {
    let mut cut = 0;
    while !over.load(Ordering::Relaxed) {
        let mut stream =
            TcpStream::connect(address).unwrap_or_else(|error| panic!("refused: {error}"));
        stream.set_read_timeout(Some(wait::DEADLINE)).unwrap();
        let mut answer = String::new();
        let request = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let asked = stream.write_all(request).and_then(|()| stream.read_to_string(&mut answer));
        match asked {
            Ok(_) if answer.starts_with("HTTP/1.1 ") => {
                served.fetch_add(1, Ordering::Relaxed);
            }
            Ok(_) => cut += 1,
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("never served"),
            Err(_) => cut += 1,
        }
    }
    cut
}

#[test]
fn what_is_handed_over_and_cannot_be_served_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let listener = || TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = || TcpStream::connect(listener().local_addr().unwrap()).unwrap();
    let refused = |second: std::os::fd::OwnedFd, names: &str| {
        let done = start_with(dir.path(), &[], listener().into(), second, names).finish();
        assert_eq!(done.code, Some(5), "{done:?}");
        done.stderr
    };
    let file = std::fs::File::open("/dev/null").unwrap();
    for no_listener in [file.into(), UnixStream::pair().unwrap().0.into(), connected().into()] {
        let why = refused(no_listener, "main:metrics");
        assert!(
            why.contains("\"metrics\"") && why.contains("no TCP or Unix socket that listens"),
            "{why}"
        );
    }
    let why = refused(listener().into(), "main:other");
    assert!(why.contains("\"other\"") && why.contains("main or metrics"), "{why}");
}

#[test]
fn systemd_s_own_starter_hands_its_socket_over() {
    let dir = TempDir::new().unwrap();
    let (port, metrics) = free_ports();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut starter = Command::new("systemd-socket-activate");
    starter.args(["--listen", &address.to_string(), "--fdname=main"]);
    for (name, value) in [
        ("MAHAVISHNU_STATE_DIR", dir.path().display().to_string()),
        ("MAHAVISHNU_METRICS_PORT", metrics.to_string()),
    ] {
        starter.args(["-E", &format!("{name}={value}")]);
    }
    starter.arg(mahavishnu_tests::binary::path()).args(["websocket", "start"]);
    let child = starter.current_dir(dir.path()).spawn();
    let child = child.unwrap_or_else(|error| {
        panic!("systemd-socket-activate: {error}; scripts/setup-tests installs it")
    });
    let _end = Kill(child);
    // The first to come has it started.
    wait::until("health", || {
        http::try_get(address, "/health").ok().filter(|answer| answer.status == 200).map(drop)
    });
}

struct Kill(std::process::Child);

impl Drop for Kill {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
