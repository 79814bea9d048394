//! Which commands are refused when, and by which code: every command that the model knows, on it and on the real
//! servers.

use std::{net::SocketAddr, time::Duration};

use mahavishnu_redis_model::{ConnId, Redis as Model, Version, Window, script_name};
use mahavishnu_test_redis::{Client, Kind, Options, Redis, Value, encode};

/// A call of each command that changes nothing that the others need.
fn samples() -> Vec<Vec<String>> {
    let scripts =
        SCRIPTS.iter().map(|text| format!("EVALSHA {} 1 s own", script_name(text.as_bytes())));
    let all: Vec<String> =
        SAMPLES.iter().map(|sample| (*sample).to_owned()).chain(scripts).collect();
    all.iter().map(|sample| sample.split(' ').map(str::to_owned).collect()).collect()
}

const SAMPLES: &[&str] = &[
    "GET s",
    "SET s v",
    "INCR n",
    "DEL none",
    "UNLINK none",
    "EXISTS s",
    "TYPE s",
    "PEXPIRE s 100000",
    "PEXPIREAT s 99999999999999",
    "PERSIST s",
    "PTTL s",
    "DBSIZE",
    "SCAN 0",
    "FLUSHALL",
    "HSET h f v",
    "HSETNX h f v",
    "HGET h f",
    "HMGET h f",
    "HGETALL h",
    "HDEL h g",
    "HLEN h",
    "HEXISTS h f",
    "LPUSH l a",
    "RPUSH l b",
    "LLEN l",
    "LRANGE l 0 -1",
    "LTRIM l 0 5",
    "XADD x * f v",
    "XRANGE x - +",
    "XREVRANGE x + -",
    "XLEN x",
    "XDEL x 1",
    "XTRIM x MAXLEN 5",
    "ZADD z 1 a",
    "ZSCORE z a",
    "ZREM z b",
    "ZCARD z",
    "ZRANGEBYSCORE z 0 1",
    "TIME",
    "PING",
    "ECHO x",
    "SPUBLISH c x",
    "HELLO 3",
    "AUTH default wrong",
    "SELECT 0",
    "CLIENT ID",
    "CLIENT INFO",
    "CLIENT GETNAME",
    "CLIENT SETNAME x",
    "CLIENT SETINFO LIB-NAME x",
    "CLIENT NO-EVICT off",
    "CLIENT NO-TOUCH off",
    "CLIENT KILL ID 999999",
    "ROLE",
    "INFO server",
    "CONFIG GET maxmemory",
    "SSUBSCRIBE c",
    "SUNSUBSCRIBE c",
    "EVAL return 0",
    "EVALSHA 0123456789012345678901234567890123456789 0",
    "SCRIPT EXISTS x",
    "SCRIPT LOAD return",
    "SCRIPT FLUSH",
    "QUIT",
];

/// Called too, after they were loaded.
const SCRIPTS: &[&str] = &[
    "#!lua\nreturn 1",
    "#!lua flags=no-writes\nreturn redis.call('GET', KEYS[1]) and 1",
    "#!lua flags=allow-oom\nreturn redis.call('SET', KEYS[1], 'v')",
    "#!lua flags=allow-stale\nreturn 1",
    "#!lua flags=allow-stale,no-writes\nreturn 1",
    "#!lua\nreturn redis.call('SPUBLISH', ARGV[1], 'x')",
    "return 1",
    "return redis.call('GET', KEYS[1]) and 1",
    "return redis.call('SET', KEYS[1], 'v')",
    "return redis.call('SPUBLISH', ARGV[1], 'x')",
    "return redis.call('XADD', KEYS[1] .. 'x', '*', 'f', 'v') and 1",
];

/// Forgets scripts or the connection, or what the others need: not where they are allowed.
const DESTRUCTIVE: &[&str] = &["FLUSHALL", "SCRIPT", "QUIT"];

#[test]
fn every_command_has_a_sample() {
    // That of a Sentinel is compared in scenarios.
    for name in Model::commands().filter(|name| !name.starts_with("sentinel")) {
        let name = name.replace('|', " ").to_uppercase();
        assert!(
            SAMPLES.iter().any(|it| *it == name || it.starts_with(&format!("{name} "))),
            "no call of {name}"
        );
    }
}

/// How one state is brought about on both.
struct State {
    name: &'static str,
    real: fn(&mut Redis),
    model: fn(&mut Model),
    /// Where servers differ among themselves.
    not_compared: &'static [&'static str],
}

const NOTHING: &[&str] = &[];

const STATES: &[State] = &[
    State { name: "as usual", real: |_| {}, model: |_| {}, not_compared: NOTHING },
    State {
        name: "full",
        real: |it| drop(it.ask(&["CONFIG", "SET", "maxmemory", "1"])),
        model: |it| it.set_window(Window::Full, true),
        not_compared: NOTHING,
    },
    State {
        name: "too few replicas",
        real: |it| drop(it.ask(&["CONFIG", "SET", "min-replicas-to-write", "1"])),
        model: |it| it.set_window(Window::NoReplicas, true),
        not_compared: NOTHING,
    },
    State {
        name: "replica",
        real: |it| it.cut_replication(),
        model: |it| it.set_replica(true),
        not_compared: NOTHING,
    },
    State {
        name: "replica without its primary",
        real: |it| {
            it.ask(&["CONFIG", "SET", "replica-serve-stale-data", "no"]);
            it.cut_replication();
        },
        model: |it| {
            it.set_replica(true);
            it.set_window(Window::Stale, true);
        },
        // Allowed since Valkey 9.
        not_compared: &["SCRIPT EXISTS", "SCRIPT FLUSH"],
    },
    State {
        name: "disk error",
        real: break_disk,
        model: |it| it.set_window(Window::DiskError, true),
        not_compared: NOTHING,
    },
    State {
        name: "loading",
        real: |it| it.restart_loading(),
        model: |it| it.set_window(Window::Loading, true),
        not_compared: NOTHING,
    },
    State {
        name: "busy",
        real: |it| {
            it.ask(&["CONFIG", "SET", "busy-reply-threshold", "1"]);
            let mut client = it.client();
            client.send(&["EVAL", "while true do end", "0"]);
            while !starts_with(&it.client().command(&["PING"]), "BUSY") {}
            // It has to stay, or the script would end.
            std::mem::forget(client);
        },
        model: |it| it.set_window(Window::Busy, true),
        not_compared: NOTHING,
    },
];

fn starts_with(value: &Value, code: &str) -> bool {
    matches!(value, Value::Error(text) if text.starts_with(code))
}

/// The next snapshot cannot be written, as its name is that of a folder with something in it.
fn break_disk(server: &mut Redis) {
    std::fs::create_dir_all(server.dir().join("dump.rdb/full")).expect("its folder is ours");
    server.ask(&["CONFIG", "SET", "save", "3600 1"]);
    server.ask(&["BGSAVE"]);
    server.wait_info("rdb_last_bgsave_status:err");
}

/// A connection to each, which speaks RESP3.
struct Both {
    client: Client,
    connection: ConnId,
}

fn connect(server: &Redis, model: &mut Model) -> Both {
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    let connection = model.connect(Duration::ZERO, peer).expect("it runs");
    let mut both = Both { client: Client::connect(server.address()), connection };
    both.client.command(&["HELLO", "3"]);
    on_model(model, both.connection, &["HELLO", "3"]);
    both
}

fn on_model<A: AsRef<[u8]>>(model: &mut Model, connection: ConnId, command: &[A]) -> Value {
    model.receive(Duration::ZERO, connection, &encode(command));
    let bytes = model.take(connection);
    Value::parse(&bytes).expect("an answer").0
}

/// What is compared: refused by this code, or not.
fn outcome(value: Value) -> String {
    match value {
        Value::Error(text) => format!("-{}", text.split(' ').next().unwrap_or_default()),
        _ => "+".into(),
    }
}

fn compare(kind: &Kind, state: &State) {
    let mut server = Redis::with(Options::of(kind));
    let mut model = Model::new(Version { name: kind.name, number: kind.version });
    let both = connect(&server, &mut model);
    let Both { mut client, connection } = both;
    for text in SCRIPTS {
        client.ask(&["SCRIPT", "LOAD", text]);
        on_model(&mut model, connection, &["SCRIPT", "LOAD", text]);
    }
    for command in [["SET", "s", "v", "KEEPTTL"], ["HSET", "h", "f", "v"]] {
        client.ask(&command);
        on_model(&mut model, connection, &command);
    }
    (state.real)(&mut server);
    (state.model)(&mut model);
    let mut wrong = Vec::new();
    for sample in samples() {
        let line = sample.join(" ");
        if state.not_compared.iter().any(|it| line.starts_with(it)) {
            continue;
        }
        // A server that loads has forgotten the scripts.
        if state.name == "loading" && line.starts_with("EVALSHA") {
            continue;
        }
        // One after the other on a connection of its own, for what ends or changes it.
        let mut both = connect(&server, &mut model);
        both.client.send(&sample);
        let real = outcome(both.client.next(Duration::from_secs(20)).expect("an answer"));
        let destructive = DESTRUCTIVE.iter().any(|it| line.starts_with(it));
        let data = model.data();
        let modelled = outcome(on_model(&mut model, both.connection, &sample));
        if real != modelled {
            wrong.push(format!("{line}: {real}, the model {modelled}"));
        }
        if destructive && real == "+" {
            model.set_data(data);
            for text in SCRIPTS {
                both = connect(&server, &mut model);
                both.client.command(&["SCRIPT", "LOAD", text]);
                on_model(&mut model, both.connection, &["SCRIPT", "LOAD", text]);
            }
            both.client.command(&["SET", "s", "v"]);
            both.client.command(&["HSET", "h", "f", "v"]);
        }
    }
    assert!(wrong.is_empty(), "{kind}, {}:\n{}", state.name, wrong.join("\n"));
}

#[test]
fn the_model_refuses_what_servers_refuse() {
    std::thread::scope(|scope| {
        for kind in Kind::all() {
            scope.spawn(move || STATES.iter().for_each(|state| compare(kind, state)));
        }
    });
}

#[test]
fn without_a_password_almost_nothing_is_answered() {
    for kind in Kind::all() {
        let server = Redis::with(Options::of(kind).password("secret"));
        let mut model = Model::new(Version { name: kind.name, number: kind.version });
        model.set_password(Some("secret"));
        for sample in samples() {
            let mut both = connect(&server, &mut model);
            let real = outcome(both.client.command(&sample));
            let modelled = outcome(on_model(&mut model, both.connection, &sample));
            assert_eq!(real, modelled, "{kind}: {}", sample.join(" "));
        }
        for password in ["wrong", "secret"] {
            for command in [vec!["AUTH", password], vec!["HELLO", "3", "AUTH", "default", password]]
            {
                let mut both = connect(&server, &mut model);
                let real = outcome(both.client.command(&command));
                let modelled = outcome(on_model(&mut model, both.connection, &command));
                assert_eq!(real, modelled, "{kind}: {}", command.join(" "));
                let real = outcome(both.client.command(&["GET", "k"]));
                let modelled = outcome(on_model(&mut model, both.connection, &["GET", "k"]));
                assert_eq!(real, modelled, "{kind}: GET after {}", command.join(" "));
            }
        }
    }
}

#[test]
fn a_forbidden_command_is_refused_in_scripts_too() {
    for kind in Kind::all() {
        let server = Redis::with(Options::of(kind));
        let mut model = Model::new(Version { name: kind.name, number: kind.version });
        let script = "#!lua\nreturn redis.call('GET', KEYS[1])";
        let load = ["SCRIPT", "LOAD", script];
        let mut both = connect(&server, &mut model);
        both.client.ask(&load);
        on_model(&mut model, both.connection, &load);
        let calls = [
            vec!["GET".to_owned(), "k".into()],
            vec!["EVALSHA".into(), script_name(script.as_bytes()), "1".into(), "k".into()],
            vec!["CLIENT".into(), "KILL".into(), "ID".into(), "99999".into()],
            vec!["CLIENT".into(), "ID".into()],
        ];
        for forbidden in ["get", "client|kill", "evalsha"] {
            server.ask(&["ACL", "SETUSER", "default", &format!("-{forbidden}")]);
            model.forbid(forbidden, true);
            for call in &calls {
                let real = outcome(both.client.command(call));
                let modelled = outcome(on_model(&mut model, both.connection, call));
                assert_eq!(real, modelled, "{kind}: {} without {forbidden}", call.join(" "));
            }
            server.ask(&["ACL", "SETUSER", "default", &format!("+{forbidden}")]);
            model.forbid(forbidden, false);
        }
    }
}
