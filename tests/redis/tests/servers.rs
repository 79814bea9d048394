//! What the starter of servers promises, on every server that is installed.

use std::{
    io::Write,
    process::{Command, Stdio},
    time::Duration,
};

use mahavishnu_test_redis::{Client, Kind, Options, Redis, Sentinel, Value};

#[test]
fn every_installed_server_says_what_it_is() {
    for kind in Kind::all() {
        let server = Redis::with(Options::of(kind));
        let info = server.ask(&["INFO", "server"]).text();
        let (major, minor, patch) = kind.version;
        let line = format!("{}_version:{major}.{minor}.{patch}", kind.name);
        assert!(info.lines().any(|it| it == line), "{line} in {info}");
        println!("{kind}");
    }
}

#[test]
fn data_outlive_a_kill_with_aof_and_only_then() {
    for (options, kept) in [(Options::default().aof(), true), (Options::default(), false)] {
        let mut server = Redis::with(options);
        server.ask(&["SET", "k", "v"]);
        server.restart();
        let wanted = if kept { Value::bulk("v") } else { Value::Null };
        assert_eq!(server.ask(&["GET", "k"]), wanted);
        server.restart_empty();
        assert_eq!(server.ask(&["GET", "k"]), Value::Null);
    }
}

#[test]
fn a_paused_server_executes_what_came_from_a_connection_that_is_closed() {
    let server = Redis::start();
    let mut client = server.client();
    server.pause();
    client.send(&["SET", "k", "v"]);
    assert_eq!(client.next(Duration::from_millis(100)), None);
    drop(client);
    server.resume();
    assert_eq!(server.ask(&["GET", "k"]), Value::bulk("v"));
}

#[test]
fn a_password_and_a_narrow_user_are_asked_for() {
    let server = Redis::with(
        Options::default()
            .password("secret")
            .user("reader", "on >word ~a:* resetchannels -@all +get"),
    );
    assert_eq!(server.ask(&["SET", "b:1", "v"]), Value::Simple("OK".into()));
    let mut client = Client::connect(server.address());
    let refused = client.command(&["GET", "a:1"]);
    assert!(matches!(&refused, Value::Error(text) if text.starts_with("NOAUTH")), "{refused:?}");
    client.ask(&["AUTH", "reader", "word"]);
    assert_eq!(client.ask(&["GET", "a:1"]), Value::Null);
    let refused = client.command(&["GET", "b:1"]);
    assert!(matches!(&refused, Value::Error(text) if text.starts_with("NOPERM")), "{refused:?}");
}

#[test]
fn a_full_server_refuses_writes() {
    let server = Redis::with(Options::default().memory(1));
    let refused = server.client().command(&["SET", "k", "v"]);
    assert!(matches!(&refused, Value::Error(text) if text.starts_with("OOM")), "{refused:?}");
}

#[test]
fn pushes_come_besides_answers() {
    let server = Redis::with(Options::of(&Kind::valkey()));
    let (mut listener, mut speaker) = (server.client(), server.client());
    listener.send(&["SSUBSCRIBE", "c"]);
    assert_eq!(listener.push(), [Value::bulk("ssubscribe"), Value::bulk("c"), Value::Integer(1)]);
    assert_eq!(speaker.ask(&["SPUBLISH", "c", "hello"]).integer(), 1);
    assert_eq!(listener.ask(&["PING"]), Value::Simple("PONG".into()));
    assert_eq!(listener.push(), [Value::bulk("smessage"), Value::bulk("c"), Value::bulk("hello")]);
    listener.send(&["QUIT"]);
    assert!(listener.is_closed());
}

#[test]
fn a_replica_whose_link_is_cut_has_lost_the_tail_when_promoted() {
    let primary = Redis::start();
    let replica = Redis::with(Options::default().replica_of(&primary));
    primary.ask(&["SET", "kept", "1"]);
    replica.wait_synced();
    assert_eq!(primary.ask(&["WAIT", "1", "5000"]).integer(), 1);
    replica.cut_replication();
    primary.ask(&["SET", "lost", "1"]);
    let refused = replica.client().command(&["SET", "k", "v"]);
    assert!(matches!(&refused, Value::Error(text) if text.starts_with("READONLY")), "{refused:?}");
    replica.promote();
    assert_eq!(replica.ask(&["GET", "kept"]), Value::bulk("1"));
    assert_eq!(replica.ask(&["GET", "lost"]), Value::Null);
    // And the other way round: the old primary joins the new one.
    primary.replicate(&replica);
    assert_eq!(primary.ask(&["GET", "lost"]), Value::Null);
}

#[test]
fn sentinels_name_the_new_primary_when_the_old_one_is_dead() {
    let mut primary = Redis::start();
    let replica = Redis::with(Options::default().replica_of(&primary));
    replica.wait_synced();
    let sentinels = [0, 1].map(|_| Sentinel::start("main", &primary, 2, 500));
    assert_eq!(sentinels[0].primary("main"), primary.port());
    for sentinel in &sentinels {
        sentinel.wait_for_others("main", 1, 1);
    }
    primary.kill();
    replica.wait_info("role:master");
    for sentinel in &sentinels {
        sentinel.wait_primary("main", replica.port());
    }
}

#[test]
fn sentinels_of_a_server_with_a_password_can_have_one_too() {
    let primary = Redis::with(Options::default().password("secret"));
    let sentinel = Sentinel::with("main", &primary, 1, 500, &["requirepass other"]);
    let mut client = Client::connect(sentinel.address());
    let question = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main"];
    let refused = client.command(&question);
    assert!(matches!(&refused, Value::Error(text) if text.starts_with("NOAUTH")), "{refused:?}");
    client.ask(&["AUTH", "other"]);
    assert_eq!(client.ask(&question).items()[1].text(), primary.port().to_string());
    // It may ask the primary: otherwise it would take it for dead.
    std::thread::sleep(Duration::from_millis(1000));
    let flags = client.ask(&["SENTINEL", "MASTER", "main"]);
    let items = flags.items();
    let at = items.iter().position(|item| item.text() == "flags").expect("it has flags");
    assert_eq!(items[at + 1].text(), "master");
}

#[test]
fn tls_is_another_port_and_may_want_certificates() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = |name: &str| dir.path().join(name);
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=redis.test",
        ])
        .args(["-addext", "subjectAltName=DNS:redis.test"])
        .arg("-keyout")
        .arg(file("key.pem"))
        .arg("-out")
        .arg(file("cert.pem"))
        .output()
        .expect("openssl");
    assert!(made.status.success(), "{made:?}");
    assert!(Kind::redis().has_tls());
    for authority in [None, Some(file("cert.pem"))] {
        let options =
            Options::default().tls(&file("cert.pem"), &file("key.pem"), authority.as_deref());
        let server = Redis::with(options);
        for with_certificate in [true, false] {
            let mut command = Command::new("openssl");
            command.args([
                "s_client",
                "-quiet",
                "-verify_return_error",
                "-servername",
                "redis.test",
            ]);
            command.arg("-connect").arg(server.tls_address().to_string());
            command.arg("-CAfile").arg(file("cert.pem"));
            if with_certificate {
                command.arg("-cert").arg(file("cert.pem")).arg("-key").arg(file("key.pem"));
            }
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
            let mut child = command.spawn().expect("openssl");
            // It may have given up by now.
            let _ = child.stdin.as_mut().expect("a pipe").write_all(b"PING\r\nQUIT\r\n");
            let answer = child.wait_with_output().expect("its end").stdout;
            let wanted = with_certificate || authority.is_none();
            assert_eq!(answer.starts_with(b"+PONG"), wanted, "{authority:?}, {with_certificate}");
        }
        assert_eq!(server.ask(&["PING"]), Value::Simple("PONG".into()));
    }
}
