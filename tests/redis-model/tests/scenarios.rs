//! What goes wrong with a Redis, on the model and on the oldest real one: the same is done to both, and both have to do
//! the same.

use std::{net::SocketAddr, path::Path, time::Duration};

use mahavishnu_redis_model::{
    ConnId, Disk, Group, OutputLimit, Redis as Model, Version, script_name,
};
use mahavishnu_test_redis::{Client, Options, Redis, Sentinel, Value, encode};

const NOW: Duration = Duration::ZERO;
const EPOCH: &str = "aaaaaaaaaa";

fn script(name: &str) -> Vec<u8> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../links/src/redis/scripts");
    std::fs::read(dir.join(format!("{name}.lua"))).expect("a script that is shipped")
}

fn call(name: &str, keys: &[&str], arguments: &[&str]) -> Vec<String> {
    let mut all = vec!["EVALSHA".to_owned(), script_name(&script(name)), keys.len().to_string()];
    all.extend(keys.iter().chain(arguments).map(|word| (*word).to_owned()));
    all
}

/// An append by a writer who knows the channel up to `known`.
fn append(writer: &str, seq: u32, records: &str, known: Option<u32>) -> Vec<String> {
    let (seq, top) = (seq.to_string(), known.unwrap_or_default().to_string());
    let epoch = if known.is_some() { EPOCH } else { "" };
    let arguments = [
        writer, &seq, "1", records, EPOCH, "100", "60000", "3600000", "live", epoch, &top, "1", "",
        "", "", "", "", "", "", "", "", "",
    ];
    call("append", &["m", "l", "d"], &arguments)
}

/// A connection to both.
struct Line {
    client: Client,
    connection: ConnId,
}

fn connect(real: &Redis, model: &mut Model) -> Line {
    let client = Client::connect(real.address());
    let connection = model.connect(NOW, client.local_address()).expect("it runs");
    let mut line = Line { client, connection };
    line.client.ask(&["HELLO", "3"]);
    ask(model, line.connection, &["HELLO", "3"]);
    line
}

fn values(bytes: &[u8]) -> Vec<Value> {
    let (mut all, mut at) = (Vec::new(), 0);
    while let Some((value, length)) = Value::parse(&bytes[at..]) {
        all.push(value);
        at += length;
    }
    all
}

/// The model's answer, without what came besides.
fn ask<A: AsRef<[u8]>>(model: &mut Model, connection: ConnId, command: &[A]) -> Value {
    model.receive(NOW, connection, &encode(command));
    let all = values(&model.take(connection));
    all.into_iter().find(|value| !matches!(value, Value::Push(_))).expect("an answer")
}

impl Line {
    /// What both answer, which has to be the same.
    fn both<A: AsRef<[u8]>>(&mut self, model: &mut Model, command: &[A]) -> Value {
        let real = self.client.command(command);
        let modelled = ask(model, self.connection, command);
        assert_eq!(without_place(real), without_place(modelled.clone()));
        modelled
    }

    /// All scripts are there.
    fn load(&mut self, model: &mut Model) {
        for name in ["append", "heal", "read"] {
            self.both(model, &[b"SCRIPT", &b"LOAD"[..], &script(name)]);
        }
    }
}

/// Without the line of a script.
fn without_place(value: Value) -> Value {
    match value {
        Value::Error(text) => {
            Value::Error(text.split(" script: ").next().unwrap_or_default().to_owned())
        }
        other => other,
    }
}

fn text(value: &Value) -> String {
    format!("{value:?}")
}

#[test]
fn a_lost_tail_is_seen_and_put_back() {
    let primary = Redis::start();
    let replica = Redis::with(Options::default().replica_of(&primary));
    replica.wait_synced();
    let mut group = Group::new(Version::REDIS_7_0, 1, Duration::from_millis(5));
    let mut line = connect(&primary, group.server(0));
    line.load(group.server(0));
    for seq in 1..=2 {
        line.both(group.server(0), &append("w.0", seq, "kept", Some(seq - 1).filter(|it| *it > 0)));
    }
    line.client.ask(&["WAIT", "1", "10000"]);
    group.pass(NOW);
    group.pass(NOW + Duration::from_millis(5));
    let later = NOW + Duration::from_millis(5);

    replica.cut_replication();
    group.unlink(later);
    for seq in 3..=4 {
        // The model's time is that of its server.
        let real = line.client.command(&append("w.0", seq, "lost", Some(seq - 1)));
        let connection = line.connection;
        group.server(0).receive(
            later,
            connection,
            &encode(&append("w.0", seq, "lost", Some(seq - 1))),
        );
        let modelled = group.server(0).take(connection);
        assert_eq!(vec![real], values(&modelled));
    }
    replica.promote();
    group.fail_over(later, 1);

    let connection = group.server(1).connect(later, line.client.local_address()).expect("it runs");
    let mut client = replica.client();
    group.server(1).receive(later, connection, &encode(&["HELLO", "3"]));
    group.server(1).take(connection);
    let mut both = |command: Vec<String>| {
        let real = client.command(&command);
        group.server(1).receive(later, connection, &encode(&command));
        let modelled = values(&group.server(1).take(connection)).remove(0);
        assert_eq!(without_place(real), without_place(modelled.clone()), "{command:?}");
        text(&modelled)
    };
    for name in ["append", "heal", "read"] {
        both(vec!["SCRIPT".into(), "LOAD".into(), String::from_utf8(script(name)).expect("text")]);
    }
    assert_eq!(both(append("w.0", 5, "new", Some(4))), r#"["behind", "aaaaaaaaaa", :2]"#);
    let heal = call(
        "heal",
        &["m", "l", "d"],
        &[
            EPOCH, "2", EPOCH, "4", "100", "60000", "3600000", "0", "", "live", "", "7", "3", "1",
            "lost", "w.0", "3", "4", "1", "lost", "w.0", "4",
        ],
    );
    assert_eq!(both(heal.clone()), r#"["ok"]"#);
    assert_eq!(both(heal), r#"["moved", "aaaaaaaaaa", :4]"#);
    assert_eq!(both(append("w.0", 4, "lost", Some(3))), r#"["seen", "aaaaaaaaaa", :4]"#);
    assert_eq!(both(append("w.0", 5, "new", Some(4))), r#"["ok", "aaaaaaaaaa", :5, :0]"#);
    both(call("read", &["m", "l", "d"], &["0", "100000"]));
}

#[test]
fn a_restart_keeps_data_or_not_and_never_scripts() {
    for kept in [true, false] {
        let mut real = Redis::with(Options::default().aof());
        let mut model = Model::new(Version::REDIS_7_0);
        let mut line = connect(&real, &mut model);
        line.load(&mut model);
        line.both(&mut model, &append("w.0", 1, "one", None));
        line.both(&mut model, &append("w.0", 2, "two", Some(1)));
        if kept {
            real.restart();
            model.start(Disk::Kept);
        } else {
            real.restart_empty();
            model.start(Disk::Empty);
        }
        assert!(line.client.is_closed());
        assert!(model.has_closed(line.connection));
        let mut line = connect(&real, &mut model);
        let refused = line.both(&mut model, &append("w.0", 3, "three", Some(2)));
        assert!(text(&refused).starts_with("-NOSCRIPT"), "{refused:?}");
        line.load(&mut model);
        let answer = line.both(&mut model, &append("w.0", 3, "three", Some(2)));
        let wanted = if kept { r#"["ok", "aaaaaaaaaa", :3, :0]"# } else { r#"["behind"]"# };
        assert_eq!(text(&answer), wanted);
    }
}

#[test]
fn a_command_outlives_its_connection() {
    let real = Redis::start();
    let mut model = Model::new(Version::REDIS_7_0);
    let mut line = connect(&real, &mut model);
    line.load(&mut model);
    real.pause();
    model.pause();
    let command = append("w.0", 1, "one", None);
    line.client.send(&command);
    model.receive(NOW, line.connection, &encode(&command));
    drop(line.client);
    model.closed(NOW, line.connection);
    assert_eq!(model.take(line.connection), b"");
    real.resume();
    model.resume(NOW);
    let mut line = connect(&real, &mut model);
    // The one of a closed connection may be executed after the first of a new one.
    let there = (0..100_000).any(|_| line.client.ask(&["EXISTS", "m"]) == Value::Integer(1));
    assert!(there, "it was not executed");
    let answer = line.both(&mut model, &command);
    assert_eq!(text(&answer), r#"["seen", "aaaaaaaaaa", :1]"#);
}

#[test]
fn a_predecessor_is_killed_by_number_and_address() {
    let real = Redis::start();
    let mut model = Model::new(Version::REDIS_7_0);
    let mut old = connect(&real, &mut model);
    let field = |info: &Value, name: &str| {
        let info = info.text();
        let found = info.split_whitespace().find_map(|it| it.strip_prefix(&format!("{name}=")));
        found.unwrap_or_else(|| panic!("no {name} in {info}")).to_owned()
    };
    let infos =
        [old.client.ask(&["CLIENT", "INFO"]), ask(&mut model, old.connection, &["CLIENT", "INFO"])];
    // What the model says of a connection is said by the real one.
    for part in infos[1].text().split_whitespace() {
        field(&infos[0], part.split('=').next().unwrap_or_default());
    }
    let mut new = connect(&real, &mut model);
    for (address, killed) in [(Some("127.0.0.1:1"), 0), (None, 1)] {
        let command = |info: &Value| {
            let given = address.map_or_else(|| field(info, "addr"), str::to_owned);
            [
                "CLIENT".to_owned(),
                "KILL".into(),
                "ID".into(),
                field(info, "id"),
                "ADDR".into(),
                given,
            ]
        };
        assert_eq!(new.client.ask(&command(&infos[0])).integer(), killed);
        assert_eq!(ask(&mut model, new.connection, &command(&infos[1])).integer(), killed);
    }
    assert!(old.client.is_closed());
    assert!(model.has_closed(old.connection));
    new.both(&mut model, &["PING"]);
}

#[test]
fn the_number_of_writers_is_bounded() {
    let real = Redis::start();
    let mut model = Model::new(Version::REDIS_7_0);
    let mut line = connect(&real, &mut model);
    line.load(&mut model);
    for writer in 0..300 {
        line.both(&mut model, &append(&format!("{writer:04}.0"), 1, "x", None));
    }
    let left = line.both(&mut model, &["HLEN", "m"]).integer();
    assert!(left < 259, "{left}");
    let mut fields: Vec<String> = (0..300).map(|writer| format!("{writer:04}.0")).collect();
    fields.splice(0..0, ["HMGET".to_owned(), "m".into()]);
    line.both(&mut model, &fields);
}

#[test]
fn who_does_not_read_is_cut() {
    let real = Redis::with(Options::default().line("client-output-buffer-limit pubsub 1mb 0 0"));
    let mut model = Model::new(Version::REDIS_7_0);
    let limit = OutputLimit { hard: 1 << 20, soft: 0, time: Duration::ZERO };
    model.set_output_limit(limit);
    let mut listener = connect(&real, &mut model);
    listener.client.send(&["SSUBSCRIBE", "c"]);
    listener.client.push();
    model.receive(NOW, listener.connection, &encode(&["SSUBSCRIBE", "c"]));
    let mut speaker = connect(&real, &mut model);
    let message = "x".repeat(1 << 18);
    // The kernel takes some megabytes before Redis has to keep any.
    let mut heard = 0;
    while speaker.client.ask(&["SPUBLISH", "c", &message]).integer() == 1 {
        heard += 1;
        assert!(heard < 1000, "nobody is cut");
    }
    for number in 0.. {
        let listeners = ask(&mut model, speaker.connection, &["SPUBLISH", "c", &message]).integer();
        if listeners == 0 {
            assert_eq!(number, 4);
            break;
        }
    }
    assert!(listener.client.is_closed());
    assert!(model.has_closed(listener.connection));
    assert_eq!(model.take(listener.connection), b"", "what was not sent is lost");
}

#[test]
fn a_soft_limit_cuts_later() {
    let mut model = Model::new(Version::REDIS_7_0);
    let limit = OutputLimit { hard: 0, soft: 1000, time: Duration::from_secs(10) };
    model.set_output_limit(limit);
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    let (listener, speaker) = (model.connect(NOW, peer), model.connect(NOW, peer));
    let (listener, speaker) = (listener.expect("it runs"), speaker.expect("it runs"));
    model.receive(NOW, listener, &encode(&["SSUBSCRIBE", "c"]));
    let publish = encode(&["SPUBLISH", "c", &"x".repeat(1200)]);
    model.receive(NOW, speaker, &publish);
    model.pass(Duration::from_secs(9));
    assert!(!model.has_closed(listener));
    // Read in between: the time begins anew.
    assert!(model.take(listener).len() > 1200);
    model.receive(Duration::from_secs(9), speaker, &publish);
    model.pass(Duration::from_secs(19));
    assert!(!model.has_closed(listener));
    model.pass(Duration::from_secs(20));
    assert!(model.has_closed(listener));
}

#[test]
fn who_listens_to_a_replica_hears_its_primary() {
    let primary = Redis::start();
    let replica = Redis::with(Options::default().replica_of(&primary));
    replica.wait_synced();
    let mut client = replica.client();
    client.send(&["SSUBSCRIBE", "c"]);
    client.push();
    primary.ask(&["SPUBLISH", "c", "hello"]);
    let real = client.push();

    let mut group = Group::new(Version::REDIS_7_0, 1, Duration::from_secs(1));
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    let listener = group.server(1).connect(NOW, peer).expect("it runs");
    group.server(1).receive(NOW, listener, &encode(&["HELLO", "3"]));
    group.server(1).receive(NOW, listener, &encode(&["SSUBSCRIBE", "c"]));
    group.server(1).take(listener);
    let speaker = group.server(0).connect(NOW, peer).expect("it runs");
    group.server(0).receive(NOW, speaker, &encode(&["SPUBLISH", "c", "hello"]));
    group.pass(NOW);
    assert_eq!(group.server(1).take(listener), b"");
    assert_eq!(group.due(), Some(Duration::from_secs(1)));
    group.pass(Duration::from_secs(1));
    assert_eq!(values(&group.server(1).take(listener)), [Value::Push(real)]);
}

#[test]
fn two_primaries_go_their_own_way_until_they_are_joined() {
    let mut group = Group::new(Version::REDIS_7_0, 1, Duration::ZERO);
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    let connections =
        [0, 1].map(|number| group.server(number).connect(NOW, peer).expect("it runs"));
    let ask = |group: &mut Group, number: usize, command: &[&str]| {
        let answer = ask(group.server(number), connections[number], command);
        group.pass(NOW);
        text(&answer)
    };
    ask(&mut group, 0, &["SET", "k", "both"]);
    assert_eq!(ask(&mut group, 1, &["GET", "k"]), "\"both\"");
    assert!(ask(&mut group, 1, &["SET", "k", "x"]).starts_with("-READONLY"));
    group.split(NOW, 1);
    ask(&mut group, 0, &["SET", "k", "old"]);
    ask(&mut group, 1, &["SET", "k", "new"]);
    assert_eq!(ask(&mut group, 0, &["GET", "k"]), "\"old\"");
    assert_eq!(ask(&mut group, 1, &["GET", "k"]), "\"new\"");
    group.join(NOW);
    assert!(group.server(0).has_closed(connections[0]));
    let connection = group.server(0).connect(NOW, peer).expect("it runs");
    group.server(0).receive(NOW, connection, &encode(&["GET", "k"]));
    assert_eq!(group.server(0).take(connection), b"$3\r\nnew\r\n");
    assert_eq!(group.primary(), 1);
}

#[test]
fn a_sentinel_says_where_the_primary_is_and_little_else() {
    let primary = Redis::start();
    let real = Sentinel::start("main", &primary, 1, 60_000);
    let mut model = Model::new_sentinel(Version::REDIS_7_0);
    model.set_primary("main", Some(primary.address()));
    let mut client = Client::connect(real.address());
    let connection = model.connect(NOW, client.local_address()).expect("it runs");
    let keys = |value: &Value| match value {
        Value::Map(pairs) => pairs.iter().map(|(key, _)| key.text()).collect::<Vec<_>>(),
        other => panic!("not a map: {other:?}"),
    };
    let hello = ["HELLO", "3", "SETNAME", "me"];
    let (real, modelled) = (client.ask(&hello), ask(&mut model, connection, &hello));
    assert_eq!(keys(&real), keys(&modelled));
    assert_eq!(real.at("mode"), modelled.at("mode"));
    let commands: [&[&str]; 7] = [
        &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main"],
        &["SENTINEL", "get-master-addr-by-name", "other"],
        &["SENTINEL", "get-master-addr-by-name"],
        &["ROLE"],
        &["PING"],
        &["GET", "k"],
        &["EVALSHA", "x", "0"],
    ];
    for command in commands {
        assert_eq!(client.command(command), ask(&mut model, connection, command), "{command:?}");
    }
}

#[test]
fn clocks_that_are_set_end_keys_early_or_late() {
    let mut model = Model::new(Version::REDIS_7_0);
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    let connection = model.connect(NOW, peer).expect("it runs");
    ask(&mut model, connection, &["SET", "k", "v", "PX", "1000"]);
    model.jump_clock(-5000);
    model.pass(Duration::from_secs(3));
    model.receive(Duration::from_secs(3), connection, &encode(&["GET", "k"]));
    assert_eq!(model.take(connection), b"$1\r\nv\r\n");
    model.jump_clock(5000);
    model.receive(Duration::from_secs(3), connection, &encode(&["GET", "k"]));
    assert_eq!(model.take(connection), b"$-1\r\n");
}
