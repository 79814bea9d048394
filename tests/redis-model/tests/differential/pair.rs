//! The model and a real server, to which the same is done.

use std::{
    net::SocketAddr,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use mahavishnu_redis_model::{ConnId, Redis as Model, Version, Window};
use mahavishnu_test_redis::{Client, Kind, Redis, Value, encode};

use crate::{
    normal::{self, Ids},
    plan::{CONNECTIONS, Step, Words, words},
    scripts,
};

/// How many milliseconds [`Step::Wait`] waits.
const WAIT: Duration = Duration::from_millis(25);

/// What differed.
#[derive(Debug)]
pub(crate) struct Difference {
    pub(crate) step: usize,
    pub(crate) text: String,
}

/// What is made wrong with the model before the step of this number, to see that it is noticed.
pub(crate) type Sabotage<'a> = &'a dyn Fn(&mut Model, usize);

/// The model that is to be like this server.
pub(crate) fn model_of(kind: &Kind) -> Model {
    let mut model = Model::new(Version { name: kind.name, number: kind.version });
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
    let ahead =
        i64::try_from(unix).expect("a time") - i64::try_from(model.clock_ms()).expect("a time");
    model.jump_clock(ahead);
    model
}

/// Both, in the middle of a run.
pub(crate) struct Pair<'a> {
    real: &'a Redis,
    /// Changes the settings of the real one.
    admin: Client,
    pub(crate) model: Model,
    started: Instant,
    clients: Vec<Client>,
    connections: Vec<ConnId>,
    ids: (Ids, Ids),
    number: u16,
}

impl<'a> Pair<'a> {
    /// Both empty, with their connections.
    pub(crate) fn new(real: &'a Redis) -> Self {
        let mut admin = real.client();
        // A run that found a difference ended anywhere.
        admin.ask(&["REPLICAOF", "NO", "ONE"]);
        for (name, value) in ["maxmemory", "min-replicas-to-write"].map(|name| (name, "0")) {
            admin.ask(&["CONFIG", "SET", name, value]);
        }
        admin.ask(&["CONFIG", "SET", "replica-serve-stale-data", "yes"]);
        admin.ask(&["FLUSHALL"]);
        admin.ask(&["SCRIPT", "FLUSH"]);
        let mut this = Self {
            real,
            admin,
            model: model_of(real.kind()),
            started: Instant::now(),
            clients: Vec::new(),
            connections: Vec::new(),
            ids: Default::default(),
            number: 0,
        };
        for _ in 0..CONNECTIONS {
            let (client, connection) = this.connect();
            this.clients.push(client);
            this.connections.push(connection);
        }
        for on in 0..CONNECTIONS {
            this.exchange(on, &[words(&["HELLO", "3"])]).expect("both know RESP3");
        }
        this
    }

    /// Time of the run.
    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn connect(&mut self) -> (Client, ConnId) {
        self.number += 1;
        let peer = SocketAddr::from(([127, 0, 0, 1], 10_000 + self.number));
        let connection = self.model.connect(self.now(), peer).expect("it runs");
        (Client::connect(self.real.address()), connection)
    }

    /// Does a step to both. `Err`: they differ, in this.
    pub(crate) fn step(&mut self, step: &Step, keys: &[String]) -> Result<(), String> {
        match step {
            Step::Send { on, commands } => {
                self.exchange(*on, commands)?;
                // What is named by the clock is to have another name each time, in all databases.
                if commands.iter().flatten().any(|word| word == b"control") {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Ok(())
            }
            Step::Load => {
                let load = |text: &Vec<u8>| words(&[b"SCRIPT", &b"LOAD"[..], text]);
                let commands: Vec<Words> = scripts::all().values().map(load).collect();
                self.exchange(0, &commands)
            }
            Step::Wait => {
                std::thread::sleep(WAIT);
                self.model.pass(self.now());
                Ok(())
            }
            Step::Anew { on, protocol } => {
                self.model.closed(self.now(), self.connections[*on]);
                let (client, connection) = self.connect();
                let old = std::mem::replace(&mut self.clients[*on], client);
                self.connections[*on] = connection;
                self.close(old);
                self.exchange(*on, &[words(&["HELLO", &protocol.to_string()])])
            }
            Step::Window(window, open) => {
                self.set_window(*window, *open);
                Ok(())
            }
            Step::Replica(on) => {
                let of: [&str; 2] = if *on { ["127.0.0.1", "1"] } else { ["NO", "ONE"] };
                self.admin.ask(&["REPLICAOF", of[0], of[1]]);
                self.model.set_replica(*on);
                Ok(())
            }
            Step::Compare => self.compare(keys),
        }
    }

    fn set_window(&mut self, window: Window, open: bool) {
        let (name, value) = match window {
            Window::Full => ("maxmemory", if open { "1" } else { "0" }),
            Window::NoReplicas => ("min-replicas-to-write", if open { "1" } else { "0" }),
            Window::Stale => ("replica-serve-stale-data", if open { "no" } else { "yes" }),
            other => panic!("a real server cannot be brought into {other:?} here"),
        };
        self.admin.ask(&["CONFIG", "SET", name, value]);
        self.model.set_window(window, open);
    }

    /// Closes a connection, and waits until the real server has noticed.
    fn close(&mut self, client: Client) {
        let address = format!(" addr={} ", client.local_address());
        drop(client);
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.admin.ask(&["CLIENT", "LIST"]).text().contains(&address) {
            assert!(Instant::now() < deadline, "{address} stays");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Gives both the same commands and compares everything that comes, on all connections.
    fn exchange(&mut self, on: usize, commands: &[Words]) -> Result<(), String> {
        let bytes: Vec<u8> = commands.iter().flat_map(|words| encode(words)).collect();
        // The real one first: its clock is behind what the model is told then.
        self.clients[on].send_bytes(&bytes);
        let mut real = self.real_answers(on);
        self.model.receive(self.now(), self.connections[on], &bytes);
        let mut model = self.model_answers();
        for at in 0..CONNECTIONS {
            let asked = if at == on { commands } else { &[] };
            let real = normal(asked, std::mem::take(&mut real[at]), &mut self.ids.0);
            let model = normal(asked, std::mem::take(&mut model[at]), &mut self.ids.1);
            if real != model {
                return Err(format!("connection {at}:\n  real  {real:?}\n  model {model:?}"));
            }
        }
        Ok(())
    }

    /// What has come on each connection; `on` first, so that what others hear is there when they are asked.
    fn real_answers(&mut self, on: usize) -> Vec<Vec<Value>> {
        let mut all = vec![Vec::new(); CONNECTIONS];
        all[on] = until_barrier(&mut self.clients[on]);
        for at in (0..CONNECTIONS).filter(|at| *at != on) {
            all[at] = until_barrier(&mut self.clients[at]);
        }
        all
    }

    fn model_answers(&mut self) -> Vec<Vec<Value>> {
        let mut all = Vec::new();
        for connection in &self.connections {
            let bytes = self.model.take(*connection);
            let (mut values, mut at) = (Vec::new(), 0);
            while let Some((value, length)) = Value::parse(&bytes[at..]) {
                values.push(value);
                at += length;
            }
            assert_eq!(at, bytes.len(), "the model answers half a value");
            if self.model.has_closed(*connection) {
                values.push(closed());
            }
            all.push(values);
        }
        all
    }

    /// Everything that both keep.
    fn compare(&mut self, keys: &[String]) -> Result<(), String> {
        let mut all = Vec::new();
        let peer = SocketAddr::from(([127, 0, 0, 1], 9));
        let observer = self.model.connect(self.now(), peer).expect("it runs");
        for key in keys {
            self.model.receive(self.now(), observer, &encode(&["TYPE", key]));
            let kind = self.model.take(observer);
            let read: &[&str] = match &*String::from_utf8_lossy(&kind) {
                "+hash\r\n" => &["HGETALL", key],
                "+list\r\n" => &["LRANGE", key, "0", "-1"],
                "+stream\r\n" => &["XRANGE", key, "-", "+"],
                "+zset\r\n" => &["ZRANGEBYSCORE", key, "-inf", "+inf", "WITHSCORES"],
                "+string\r\n" => &["GET", key],
                _ => &["EXISTS", key],
            };
            all.push(words(&["TYPE", key]));
            all.push(words(read));
            all.push(words(&["PTTL", key]));
        }
        self.model.closed(self.now(), observer);
        // Both connections of the comparison are new: those of the run may be anything.
        let mut client = self.real.client();
        let bytes: Vec<u8> = all.iter().flat_map(|words| encode(words)).collect();
        client.send_bytes(&bytes);
        let real = until_barrier(&mut client);
        let observer = self.model.connect(self.now(), peer).expect("it runs");
        self.model.receive(self.now(), observer, &encode(&["HELLO", "3"]));
        self.model.take(observer);
        self.model.receive(self.now(), observer, &bytes);
        let bytes = self.model.take(observer);
        self.model.closed(self.now(), observer);
        self.close(client);
        let mut at = 0;
        for (command, real) in all.iter().zip(real) {
            let (model, length) = Value::parse(&bytes[at..]).expect("an answer");
            at += length;
            let real = normal::answer(command, real, &mut self.ids.0);
            let model = normal::answer(command, model, &mut self.ids.1);
            if real != model {
                let command: Vec<_> =
                    command.iter().map(|it| String::from_utf8_lossy(it)).collect();
                return Err(format!("{}:\n  real  {real:?}\n  model {model:?}", command.join(" ")));
            }
        }
        Ok(())
    }
}

/// All that comes before the answer to something that is refused in every state, and changes nothing.
fn until_barrier(client: &mut Client) -> Vec<Value> {
    let mut values = Vec::new();
    if client.try_send(&["HELLO", "barrier"]).is_none() {
        values.push(closed());
        return values;
    }
    loop {
        match client.next(Duration::from_secs(20)) {
            Some(Value::Error(text)) if text.starts_with("ERR Protocol version is not") => {
                return values;
            }
            Some(value) => values.push(value),
            None => {
                values.push(closed());
                return values;
            }
        }
    }
}

fn closed() -> Value {
    Value::Simple("(closed)".into())
}

/// Answers and pushes of one connection without what may differ. Answers belong to commands in order; a subscription
/// has none.
fn normal(commands: &[Words], values: Vec<Value>, ids: &mut Ids) -> Vec<Value> {
    let mut asked = commands.iter().filter(|words| {
        !words[0].eq_ignore_ascii_case(b"ssubscribe")
            && !words[0].eq_ignore_ascii_case(b"sunsubscribe")
    });
    let one = |value: Value| match value {
        Value::Push(_) => normal::any(value, ids),
        value => match asked.next() {
            Some(command) => normal::answer(command, value, ids),
            None => normal::any(value, ids),
        },
    };
    values.into_iter().map(one).collect()
}
