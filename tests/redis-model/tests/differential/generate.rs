//! Draws steps. What is known of the model's data is used, so that numbers fit more often than chance would have it.

use mahavishnu_redis_model::Window;

use crate::{
    arguments,
    dice::Dice,
    plan::{CONNECTIONS, Step, Words, words},
    scripts,
};

/// Keys that commands without scripts use, besides those of channels.
const PLAIN: &[&str] = &["k1", "k2", "k3"];
const CHANNELS: &[&str] = &["live:a", "live:b", "own:0", "control"];

/// Every key that a run may use.
pub(crate) fn keys() -> Vec<String> {
    let mut all: Vec<String> = PLAIN.iter().map(|key| (*key).to_owned()).collect();
    all.extend(arguments::keys());
    all
}

/// What a run is in the middle of.
#[derive(Debug)]
pub(crate) struct Generator {
    pub(crate) dice: Dice,
    /// Connections that speak RESP3 and are open.
    new: [bool; CONNECTIONS],
    quit: Option<usize>,
    window: Option<Window>,
    replica: bool,
    arguments: arguments::Arguments,
}

impl Generator {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            dice: Dice::new(seed),
            new: [true; CONNECTIONS],
            quit: None,
            window: None,
            replica: false,
            arguments: arguments::Arguments::default(),
        }
    }

    /// What comes first: scripts are loaded.
    pub(crate) fn first(&self) -> Vec<Step> {
        vec![Step::Load]
    }

    /// What comes last: nothing is refused any more, and all is compared.
    pub(crate) fn last(&mut self) -> Vec<Step> {
        let mut steps = self.close_windows();
        steps.push(Step::Compare);
        steps
    }

    fn close_windows(&mut self) -> Vec<Step> {
        let mut steps: Vec<Step> =
            self.window.take().map(|window| Step::Window(window, false)).into_iter().collect();
        if std::mem::take(&mut self.replica) {
            steps.push(Step::Replica(false));
        }
        steps
    }

    /// The next steps. `ask` asks the model, beside the run.
    pub(crate) fn next(&mut self, ask: &mut dyn FnMut(&[&str]) -> Option<String>) -> Vec<Step> {
        if let Some(on) = self.quit.take() {
            self.new[on] = true;
            return vec![Step::Anew { on, protocol: 3 }];
        }
        match self.dice.below(200) {
            0..=1 => vec![Step::Compare],
            2 => {
                let on = self.dice.below(CONNECTIONS);
                let protocol = if self.dice.chance(40) { 2 } else { 3 };
                self.new[on] = protocol == 3;
                vec![Step::Anew { on, protocol }]
            }
            3..=4 if self.window.is_none() && !self.replica => self.open_window(),
            5..=20 if self.window.is_some() || self.replica => self.close_windows(),
            21 => self.brief(ask),
            22..=110 => self.script(ask),
            _ => self.commands(),
        }
    }

    fn open_window(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.dice.chance(40) {
            self.replica = true;
            steps.push(Step::Replica(true));
            if self.dice.chance(50) {
                self.window = Some(Window::Stale);
            }
        } else {
            self.window =
                Some(if self.dice.chance(50) { Window::Full } else { Window::NoReplicas });
        }
        steps.extend(self.window.map(|window| Step::Window(window, true)));
        steps
    }

    /// Something that lives for a millisecond, and its end. Only then is it sure in which order both see that.
    fn brief(&mut self, ask: &mut dyn FnMut(&[&str]) -> Option<String>) -> Vec<Step> {
        let on = self.dice.below(CONNECTIONS);
        let command = match self.dice.below(3) {
            0 => words(&["SET", self.dice.one(PLAIN), "v", "PX", "1"]),
            1 => words(&["PEXPIRE", &self.key(), "1"]),
            _ => self.arguments.script(&mut self.dice, ask, true),
        };
        vec![Step::Send { on, commands: vec![command] }, Step::Wait]
    }

    fn script(&mut self, ask: &mut dyn FnMut(&[&str]) -> Option<String>) -> Vec<Step> {
        let on = self.dice.below(CONNECTIONS);
        let command = if self.dice.chance(85) {
            self.arguments.script(&mut self.dice, ask, false)
        } else {
            self.own_script()
        };
        let mut commands = vec![command];
        // Sent again, as after a broken connection; or with something behind it.
        if self.dice.chance(10) {
            commands.push(commands[0].clone());
        }
        if self.dice.chance(10) {
            commands.push(self.command(on));
        }
        vec![Step::Send { on, commands }]
    }

    fn own_script(&mut self) -> Words {
        // Servers disagree which of two reasons comes first.
        let left_out = |name: &str| self.window.is_some() && name == "own-write-in-reader";
        let own: Vec<&String> = scripts::all()
            .keys()
            .filter(|name| name.starts_with("own-") && !left_out(name))
            .collect();
        let name = own[self.dice.below(own.len())].clone();
        let key = self.key();
        let argument = self.dice.one(&[
            "1",
            "0",
            "-7",
            "1.5",
            "0.1",
            "-1e-7",
            "12345678901234567890",
            "99999999999999",
            "abc:12:x",
            "a b",
            "live:a",
            "",
            "1e3",
            "own:0",
            "-MINE text",
            "MINE",
        ]);
        let sha = arguments::sha(&name);
        words(&["EVALSHA", sha.as_str(), "1", &key, argument])
    }

    fn commands(&mut self) -> Vec<Step> {
        let on = self.dice.below(CONNECTIONS);
        let count = 1 + if self.dice.chance(20) { self.dice.below(4) } else { 0 };
        let commands = (0..count).map(|_| self.command(on)).collect();
        vec![Step::Send { on, commands }]
    }

    fn key(&mut self) -> String {
        if self.dice.chance(60) {
            self.dice.one(PLAIN).to_owned()
        } else {
            arguments::any_key(&mut self.dice)
        }
    }

    fn command(&mut self, on: usize) -> Words {
        let key = self.key();
        let key = key.as_str();
        let dice = &mut self.dice;
        match dice.below(48) {
            0..=2 => words(&["GET", key]),
            3 => words(&["SET", key, dice.one(&["1", "x", "", "9223372036854775807"])]),
            4 => words(&[
                "SET",
                key,
                "v",
                dice.one(&["PX", "EX", "px"]),
                dice.one(&["60000", "3600", "0", "-1", "x"]),
            ]),
            5 => words(&["SET", key, "v", dice.one(&["NX", "XX", "KEEPTTL", "nonsense", "PX"])]),
            6 => words(&["INCR", key]),
            7..=8 => words(&["DEL", key, dice.one(PLAIN)]),
            9 => words(&["EXISTS", key, key]),
            10 => words(&["TYPE", key]),
            11 => words(&[
                "PEXPIRE",
                key,
                dice.one(&["60000", "3600000", "0", "-5", "x", "9223372036854775807"]),
            ]),
            12 => words(&["PTTL", key]),
            13 => words(&["PERSIST", key]),
            14..=15 => words(&[
                "HSET",
                key,
                dice.one(&["e", "s", "f", "o"]),
                dice.one(&["1", "aaaaaaaaaa", "7", "x"]),
            ]),
            16 => words(&["HSET", key, "f", "1", "g", "2", "f", "3"]),
            17 => words(&["HSET", key, "f", "1", "g"]),
            18 if dice.chance(50) => words(&["HSETNX", key, dice.one(&["f", "g"]), "n"]),
            18 => words(&["HGET", key, dice.one(&["f", "e", "nothing"])]),
            19 => words(&["HMGET", key, "f", "g", "e", "s"]),
            20 => words(&["HGETALL", key]),
            21 => words(&["HDEL", key, "f", dice.one(&["g", "e", "f"])]),
            22 => words(&["HLEN", key]),
            23..=24 => Self::xadd(dice, key),
            25..=26 => Self::xrange(dice, key),
            27 => words(&["XLEN", key]),
            28 => words(&["XDEL", key, dice.one(&["1", "2-0", "5-0", "x", "0-1"]), "3"]),
            29 => words(&[
                "XTRIM",
                key,
                dice.one(&["MINID", "MAXLEN", "nonsense"]),
                dice.one(&["3", "=", "0", "x", "1-1"]),
            ]),
            30 => words(&[
                "ZADD",
                key,
                dice.one(&["1", "2.5", "0.1", "-1", "inf", "x", "1e3"]),
                dice.one(&["a", "b", "c"]),
            ]),
            31 => words(&[
                "ZADD",
                key,
                dice.one(&["NX", "XX", "CH"]),
                "3",
                "a",
                "4",
                dice.one(&["b", "d"]),
            ]),
            32 => words(&["ZSCORE", key, dice.one(&["a", "b"])]),
            33 => words(&["ZREM", key, "a", dice.one(&["b", "c"])]),
            34 => Self::zrange(dice, key),
            35..=37 if self.new[on] => {
                let name = if dice.chance(70) { "SSUBSCRIBE" } else { "SUNSUBSCRIBE" };
                let mut all = words(&[name, dice.one(CHANNELS)]);
                if dice.chance(30) {
                    all.push(dice.one(CHANNELS).into());
                }
                all
            }
            38 => words(&["SPUBLISH", dice.one(CHANNELS), dice.one(&["hello", "", "x\r\ny"])]),
            39 => words(&[
                "EVALSHA",
                "0123456789012345678901234567890123456789",
                dice.one(&["0", "1", "-1", "x"]),
            ]),
            40..=41 => words(&[
                dice.one(&["LPUSH", "RPUSH"]),
                key,
                dice.one(&["a", "", "b"]),
                dice.one(&["c", "d"]),
            ]),
            42 => words(&["LLEN", key]),
            43..=44 => words(&[
                dice.one(&["LRANGE", "LTRIM"]),
                key,
                dice.one(&["0", "1", "-1", "-2", "-9", "5", "x"]),
                dice.one(&["-1", "-2", "0", "1", "-9", "9", "x"]),
            ]),
            _ => self.about_connections(on),
        }
    }

    fn about_connections(&mut self, on: usize) -> Words {
        let dice = &mut self.dice;
        match dice.below(16) {
            0 => words(&["PING"]),
            1 => words(&["PING", "text"]),
            2 => words(&["ECHO", "text"]),
            3 => words(&["SELECT", dice.one(&["0", "0", "1", "15", "16", "-1", "x"])]),
            4 => words(&["CLIENT", "SETNAME", dice.one(&["name", "a b", ""])]),
            5 => words(&["CLIENT", "GETNAME"]),
            6 => words(&[
                "CLIENT",
                dice.one(&["NO-EVICT", "no-evict", "NOSUCH", "NO-TOUCH"]),
                dice.one(&["on", "off", "x"]),
            ]),
            7 => words(&["CLIENT", "SETINFO", dice.one(&["LIB-NAME", "lib-ver", "x"]), "1"]),
            8 => {
                words(&["CLIENT", "KILL", "ID", dice.one(&["999999", "0"]), "ADDR", "127.0.0.1:1"])
            }
            9 => words(&["CONFIG", "GET", "maxmemory-policy"]),
            // Valkey 9 answers this on a replica without its primary too.
            10 if self.window.is_none() => {
                words(&["SCRIPT", "EXISTS", &arguments::sha("own-sha"), "x"])
            }
            11 => words(&[dice.one(&[
                "NOSUCH",
                "GET",
                "HELLO",
                "CLIENT",
                "EVALSHA",
                "SSUBSCRIBE",
                "XADD",
                "SELECT",
            ])]),
            12 => words(&["HELLO", dice.one(&["3", "4"]), "SETNAME", dice.one(&["me", "a b"])]),
            13 if self.window.is_none() && dice.chance(10) => words(&["SCRIPT", "FLUSH"]),
            14 if dice.chance(30) => {
                self.quit = Some(on);
                words(&["QUIT"])
            }
            _ => words(&[
                "SCAN",
                "0",
                "MATCH",
                dice.one(&["*", "k*", "*:m:?", "none"]),
                "COUNT",
                "1000",
            ]),
        }
    }

    fn xadd(dice: &mut Dice, key: &str) -> Words {
        let mut all = words(&["XADD", key]);
        if dice.chance(20) {
            all.push(b"NOMKSTREAM".to_vec());
        }
        if dice.chance(30) {
            all.extend(words(&[dice.one(&["MINID", "MAXLEN"]), dice.one(&["2", "3", "0", "x"])]));
        }
        // Ids by the clock are told from each other in one stream only.
        let by_time = if key == "control" { "*" } else { "7-*" };
        all.push(
            dice.one(&["1", "2", "3-1", "5", "7-*", "9", by_time, "0", "0-1", "x", "12-"]).into(),
        );
        all.extend(words(&["f", "v"]));
        if dice.chance(10) {
            all.push(b"odd".to_vec());
        }
        all
    }

    fn xrange(dice: &mut Dice, key: &str) -> Words {
        let from = dice.one(&["-", "0", "2", "(2", "3-1", "x", "+"]);
        let to = dice.one(&["+", "5", "(5", "2", "x", "-", "(0-0"]);
        let mut all = if dice.chance(50) {
            words(&["XRANGE", key, from, to])
        } else {
            words(&["XREVRANGE", key, to, from])
        };
        if dice.chance(40) {
            all.extend(words(&["COUNT", dice.one(&["1", "2", "0", "-1", "x"])]));
        }
        all
    }

    fn zrange(dice: &mut Dice, key: &str) -> Words {
        let from = dice.one(&["-inf", "1", "(1", "x", "0"]);
        let to = dice.one(&["+inf", "3", "(3", "inf", "1"]);
        let mut all = words(&["ZRANGEBYSCORE", key, from, to]);
        if dice.chance(40) {
            all.push(b"WITHSCORES".to_vec());
        }
        if dice.chance(30) {
            all.extend(words(&[
                "LIMIT",
                dice.one(&["0", "1", "-1"]),
                dice.one(&["1", "-1", "10"]),
            ]));
        }
        all
    }
}
