//! Arguments of the shipped scripts.

use crate::{
    dice::Dice,
    plan::{Words, words},
    scripts,
};

const CHANNELS: &[&str] = &["a", "b"];
const WRITERS: &[&str] = &["0000000000000001.0", "0000000000000002.0", "0000000000000002.1"];
const EPOCHS: &[&str] = &["aaaaaaaaaa", "bbbbbbbbbb", "cccccccccc"];
const NODES: &[&str] = &["0000000000000001", "0000000000000002", "0000000000000003"];

fn key(kind: &str, channel: &str) -> String {
    format!("p:{{t}}:{kind}:{channel}")
}

/// Asks the model something beside the run.
type Ask<'a> = &'a mut dyn FnMut(&[&str]) -> Option<String>;

/// Keys that scripts use.
pub(crate) fn keys() -> Vec<String> {
    let of_channels = CHANNELS
        .iter()
        .flat_map(|channel| ["m", "l", "d", "i", "p"].map(|kind| key(kind, channel)));
    of_channels
        .chain(
            ["leases", "nodes", "control", "probe", "user", "owner", "queue", "dead"]
                .map(str::to_owned),
        )
        .collect()
}

pub(crate) fn any_key(dice: &mut Dice) -> String {
    let all = keys();
    all[dice.below(all.len())].clone()
}

/// By which name a script is called.
pub(crate) fn sha(name: &str) -> String {
    let text = scripts::all().get(name).unwrap_or_else(|| panic!("no script {name}"));
    mahavishnu_redis_model::script_name(text)
}

/// What is remembered between calls.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    /// Number of the last append.
    seq: u64,
}

impl Arguments {
    /// A call of a shipped script. `brief`: what it keeps lives for a millisecond.
    pub(crate) fn script(&mut self, dice: &mut Dice, ask: Ask<'_>, brief: bool) -> Words {
        let names: Vec<String> = scripts::shipped().into_keys().collect();
        let mut name = names[dice.below(names.len())].clone();
        if brief {
            name = dice
                .one(&[
                    "attend",
                    "append",
                    "heal",
                    "fork",
                    "found",
                    "beat",
                    "control",
                    "visit",
                    "keep_session",
                    "end_session",
                ])
                .to_owned();
        } else if dice.chance(40) {
            name = dice.one(&["append", "append", "append", "read", "heal"]).to_owned();
        }
        let channel = dice.one(CHANNELS);
        let (keys, arguments) = match name.as_str() {
            "append" => self.append(dice, ask, channel, brief),
            "announce" => announce(dice, channel),
            "read" => read(dice, channel),
            "standing" => standing(dice),
            "found" => found(dice, brief),
            "heal" => self.heal(dice, ask, channel, brief),
            "fork" => fork(dice, ask, channel, brief),
            "beat" => beat(dice, brief),
            "quit" => (words(&["leases", "nodes"]), words(&[dice.one(NODES)])),
            "control" => control(dice, brief),
            "commands" => commands(dice),
            "tell" => (words(&[key("m", channel)]), words(&["live:a", "told"])),
            "visit" => visit(dice, brief),
            "visits" => {
                (words(&["user"]), words(&[alive(dice), grace(dice), dice.one(&["0", "1", "9"])]))
            }
            "take" => take(dice, brief),
            "attend" => attend(dice, channel, brief),
            "members" => (
                words(&[key("p", channel)]),
                words(&[
                    dice.one(EPOCHS),
                    dice.one(&["", "1", "2"]),
                    alive(dice),
                    grace(dice),
                    dice.one(&["1", "120", "9999"]),
                ]),
            ),
            "keep_session" => keep_session(dice, brief),
            "claim_session" => claim_session(dice),
            "renew_sessions" => renew_sessions(dice),
            "end_session" => end_session(dice, brief),
            "probe" => (words(&["probe"]), words(&["own:0", "token"])),
            other => panic!("nobody has said how to call {other}.lua: do so in {}", file!()),
        };
        let mut all = words(&["EVALSHA".to_owned(), sha(&name), keys.len().to_string()]);
        all.extend(keys);
        all.extend(arguments);
        all
    }

    fn append(
        &mut self,
        dice: &mut Dice,
        ask: Ask<'_>,
        channel: &str,
        brief: bool,
    ) -> (Words, Words) {
        let mut keys = channel_keys(channel);
        let (once, taken) = (dice.chance(20), dice.chance(20));
        if once {
            keys.push(key("i", channel).into_bytes());
        }
        if taken {
            keys.extend(words(&["owner", "queue"]));
        }
        // Sometimes one that was made before, or a later one.
        self.seq += 1;
        let seq = if dice.chance(15) {
            self.seq.saturating_sub(u64::try_from(dice.below(3)).expect("small"))
        } else {
            self.seq
        };
        let (epoch, top) = position(dice, ask, channel);
        let known = dice.chance(70);
        let document = if dice.chance(30) { dice.one(&["{\"a\":1}", "{}"]) } else { "" };
        let wanted = if dice.chance(20) {
            let at = ask(&["HGET", &key("d", channel), "o"]).filter(|_| dice.chance(70));
            at.unwrap_or_else(|| dice.one(&["0", "1", "2"]).to_owned())
        } else {
            String::new()
        };
        let basis = if dice.chance(30) {
            let at = ask(&["HGET", &key("d", channel), "o"]).filter(|_| dice.chance(80));
            at.unwrap_or_else(|| dice.one(&["0", "1", "2"]).to_owned())
        } else {
            String::new()
        };
        let wanted_epoch = if dice.chance(10) { epoch.clone() } else { String::new() };
        let records = match dice.below(40) {
            0 => "x".repeat(300_000),
            1 => String::new(),
            _ => dice.one(&["one", "two:three", "r\r\nr", "12"]).to_owned(),
        };
        let count = if dice.chance(3) { "99999999999999" } else { dice.one(&["1", "1", "2", "3"]) };
        let life = if brief { "1" } else { "60000" };
        let arguments = [
            dice.one(WRITERS),
            &seq.to_string(),
            count,
            &records,
            dice.one(EPOCHS),
            dice.one(&["0", "1", "3", "100", "100"]),
            life,
            if brief { dice.one(&["1", "3600000"]) } else { "3600000" },
            dice.one(&["live:a", "live:b"]),
            if known { &epoch } else { "" },
            if known { &top } else { "" },
            dice.one(&["0", "0", "1"]),
            document,
            &wanted,
            &wanted_epoch,
            dice.one(&["d1", "d2"]),
            if brief { "1" } else { "60000" },
            if taken { dice.one(OWNERS) } else { "" },
            if taken { dice.one(ENTRIES) } else { "" },
            if dice.chance(20) { dice.one(&["0", "1", "2"]) } else { "" },
            &basis,
            &epoch,
        ];
        (keys, words(&arguments))
    }

    fn heal(&self, dice: &mut Dice, ask: Ask<'_>, channel: &str, brief: bool) -> (Words, Words) {
        let (epoch, top) = position(dice, ask, channel);
        let found = top.parse::<u64>().unwrap_or_default();
        let to = found.saturating_sub(1) + u64::try_from(dice.below(6)).expect("small");
        let (nothing, new) = (dice.chance(20), dice.one(EPOCHS));
        let new = if dice.chance(70) && !epoch.is_empty() { &epoch } else { new };
        let document = dice.below(3);
        let mut arguments = words(&[
            if nothing { "" } else { &epoch },
            if nothing { "" } else { &top },
            new,
            &to.to_string(),
            dice.one(&["0", "2", "100"]),
            if brief { "1" } else { "60000" },
            if brief { dice.one(&["1", "3600000"]) } else { "3600000" },
            &if document == 0 {
                "0".to_owned()
            } else {
                (to + 1).saturating_sub(u64::try_from(document).expect("small")).to_string()
            },
            if document == 0 { "" } else { "{\"h\":1}" },
            "live:a",
            dice.one(&["", "00000000-0000-4000-8000-000000000007"]),
            dice.one(&["1", "7"]),
        ]);
        let entries = u64::try_from(dice.below(4)).expect("small");
        let mut last = to.saturating_sub(entries);
        for _ in 0..entries {
            last += 1;
            let made = dice.chance(50);
            arguments.extend(words(&[
                last.to_string().as_str(),
                "1",
                dice.one(&["healed", "again"]),
                if made { dice.one(WRITERS) } else { "" },
                &if made {
                    (self.seq + 1)
                        .saturating_sub(u64::try_from(dice.below(3)).expect("small"))
                        .to_string()
                } else {
                    String::new()
                },
            ]));
        }
        (channel_keys(channel), arguments)
    }
}

fn channel_keys(channel: &str) -> Words {
    words(&["m", "l", "d"].map(|kind| key(kind, channel)))
}

/// Where the channel is; now and then somewhere else.
fn position(dice: &mut Dice, ask: Ask<'_>, channel: &str) -> (String, String) {
    let meta = key("m", channel);
    let epoch = ask(&["HGET", &meta, "e"]).unwrap_or_default();
    let top = ask(&["HGET", &meta, "s"]).unwrap_or_else(|| "0".into());
    match dice.below(10) {
        0 => (dice.one(EPOCHS).to_owned(), top),
        1 => (epoch, dice.below(12).to_string()),
        _ => (epoch, top),
    }
}

fn announce(dice: &mut Dice, channel: &str) -> (Words, Words) {
    let live = dice.one(&["live:a", "live:b"]);
    (words(&[key("m", channel)]), words(&[live, "1", "records"]))
}

fn read(dice: &mut Dice, channel: &str) -> (Words, Words) {
    let after = dice.one(&["0", "0", "1", "3", "7", "40"]);
    (channel_keys(channel), words(&[after, dice.one(&["0", "4", "100", "1000000"])]))
}

/// So many bytes of last records at most, or none at all.
fn newest(dice: &mut Dice) -> Words {
    if dice.chance(50) { Vec::new() } else { words(&[dice.one(&["0", "7", "4096"])]) }
}

fn standing(dice: &mut Dice) -> (Words, Words) {
    let newest = newest(dice);
    let kinds = if newest.is_empty() { &["m", "d"][..] } else { &["m", "d", "l"] };
    let keys = CHANNELS.iter().flat_map(|channel| kinds.iter().map(|kind| key(kind, channel)));
    (words(&keys.collect::<Vec<String>>()), newest)
}

fn found(dice: &mut Dice, brief: bool) -> (Words, Words) {
    let (mut keys, mut arguments) = (Words::new(), Words::new());
    for channel in CHANNELS {
        keys.extend(channel_keys(channel));
        arguments.extend(words(&[dice.one(EPOCHS), if brief { "1" } else { "3600000" }]));
    }
    arguments.extend(newest(dice));
    (keys, arguments)
}

fn fork(dice: &mut Dice, ask: Ask<'_>, channel: &str, brief: bool) -> (Words, Words) {
    let (epoch, top) = position(dice, ask, channel);
    let nothing = dice.chance(20);
    let arguments = [
        if nothing { "" } else { &epoch },
        if nothing { "" } else { &top },
        dice.one(EPOCHS),
        dice.one(&["live:a", "live:b"]),
        if brief { "1" } else { "3600000" },
    ];
    (channel_keys(channel), words(&arguments))
}

fn beat(dice: &mut Dice, brief: bool) -> (Words, Words) {
    // Far enough apart that milliseconds do not decide on the order.
    let node = dice.below(NODES.len());
    let life = if brief { "1" } else { ["60000", "120000", "180000"][node] };
    let arguments = [NODES[node], life, dice.one(&["{}", "{\"n\":1}"]), dice.one(&["0", "1"])];
    (words(&["leases", "nodes"]), words(&arguments))
}

fn control(dice: &mut Dice, brief: bool) -> (Words, Words) {
    let life = if brief { "1" } else { "60000" };
    (words(&["control"]), words(&["control", dice.one(&["{\"c\":1}", "x:y"]), life]))
}

fn commands(dice: &mut Dice) -> (Words, Words) {
    // Ids are of each side's own time, so that only the beginning can be asked for.
    (words(&["control"]), words(&["0-0", dice.one(&["0", "1", "2", "100"])]))
}

/// Nodes that count.
fn alive(dice: &mut Dice) -> &'static str {
    dice.one(&[",", ",0000000000000001,", ",0000000000000001,0000000000000002,"])
}

/// How long what others have put counts: for nothing or for long, so that both see it over at the same time.
fn grace(dice: &mut Dice) -> &'static str {
    dice.one(&["0", "60000000"])
}

fn visit(dice: &mut Dice, brief: bool) -> (Words, Words) {
    let life = if brief { "1" } else { "3600000" };
    let max = dice.one(&["", "0", "1", "2", "3"]);
    let sweep = dice.one(&["0", "1"]);
    let mut arguments = words(&[max, sweep, alive(dice), grace(dice), life]);
    let gone = dice.below(3);
    arguments.push(gone.to_string().into_bytes());
    for _ in 0..gone {
        arguments.push(visitor(dice));
    }
    for _ in 0..dice.below(3) {
        arguments.extend([visitor(dice), dice.one(&["", "10.0.0.1;app"]).into()]);
    }
    (words(&["user"]), arguments)
}

const OWNERS: &[&str] = &["0000000000000001.1", "0000000000000001.2", "0000000000000002.1"];
const ENTRIES: &[&str] = &["1-0", "2-0", "3-1", "5-0", "9-0", "x"];

/// Nothing is unfit, and there is no list: their entries have names by the clock, which are told from each other in one
/// stream only.
fn take(dice: &mut Dice, brief: bool) -> (Words, Words) {
    let life = if brief { "1" } else { "60000" };
    let mut arguments = words(&[
        dice.one(OWNERS),
        life,
        dice.one(&["0-0", "0-0", "2-0", "7-0"]),
        dice.one(&["0", "1", "9", "256"]),
        dice.one(&["0", "3", "1000000"]),
        dice.one(&["1", "1000"]),
        dice.one(&["0", "0", "1"]),
    ]);
    let done = dice.below(3);
    arguments.push(done.to_string().into_bytes());
    for _ in 0..done {
        arguments.push(dice.one(ENTRIES).into());
    }
    (words(&["owner", "queue", "dead"]), arguments)
}

fn attend(dice: &mut Dice, channel: &str, brief: bool) -> (Words, Words) {
    let life = if brief { "1" } else { "3600000" };
    let mut arguments = words(&[
        "live:a",
        dice.one(NODES),
        dice.one(EPOCHS),
        dice.one(&["1", "2", "9"]),
        dice.one(&["0", "1"]),
        alive(dice),
        grace(dice),
        life,
    ]);
    let gone = dice.below(3);
    arguments.push(gone.to_string().into_bytes());
    for _ in 0..gone {
        arguments.push(member(dice));
        arguments.extend(words(&[dice.one(NODES), dice.one(&["l", "o", "n"])]));
    }
    for _ in 0..dice.below(4) {
        arguments.push(member(dice));
        arguments.extend(words(&[dice.one(&["0", "60000"]), dice.one(&["{}", "{\"a\":\";\"}"])]));
    }
    (words(&[key("p", channel)]), arguments)
}

fn member(dice: &mut Dice) -> Vec<u8> {
    format!("00000000-0000-4000-8000-{:012}", dice.below(4)).into_bytes()
}

fn keep_session(dice: &mut Dice, brief: bool) -> (Words, Words) {
    let life = if brief { "1" } else { "3600000" };
    let user = dice.one(&["", "=", "=ada"]);
    let record = dice.one(&["", "one", "two"]);
    let arguments =
        [claim(dice), dice.one(NODES), dice.one(&["0", "1"]), user, "60000", "17", life];
    let mut arguments = words(&arguments);
    arguments.push(record.into());
    (words(&[session(dice)]), arguments)
}

fn claim_session(dice: &mut Dice) -> (Words, Words) {
    let user = dice.one(&["", "=", "=ada"]);
    (words(&[session(dice)]), words(&[dice.one(NODES), user, "3600000"]))
}

fn renew_sessions(dice: &mut Dice) -> (Words, Words) {
    let mut arguments = words(&[dice.one(NODES)]);
    let keys: Words = (0..1 + dice.below(3)).map(|_| session(dice).into()).collect();
    for _ in &keys {
        arguments.extend(words(&[claim(dice), "3600000"]));
    }
    (keys, arguments)
}

fn end_session(dice: &mut Dice, brief: bool) -> (Words, Words) {
    let life = if brief { "1" } else { "3600000" };
    (words(&[session(dice)]), words(&[claim(dice), dice.one(NODES), life]))
}

fn session(dice: &mut Dice) -> &'static str {
    dice.one(&["session:1", "session:2"])
}

/// The number of a claim.
fn claim(dice: &mut Dice) -> &'static str {
    dice.one(&["1", "1", "2", "3", "9"])
}

fn visitor(dice: &mut Dice) -> Vec<u8> {
    format!("{}.{}", dice.one(NODES), dice.below(3)).into_bytes()
}
